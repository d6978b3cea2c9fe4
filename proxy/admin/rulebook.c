// SPDX-License-Identifier: Apache-2.0

#include "proxy/admin/rulebook.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "proxy/log.h"
#include "proxy/mem.h"

// What a live rule was made of.
struct given {
    struct given *next;
    int64_t id;
    struct rule_spec spec;
};

struct rulebook {
    struct rulebook_reader reader;
    struct rule_bounds in_emergency;
    struct emergency emergency;
    int64_t last_id;
    size_t first; // of the file's: the place
    size_t from_file;
    size_t count;
    struct rule *rules[RULES_MAX];
    struct given *given;
};

static int64_t seconds_left(int64_t ends_us, int64_t now_us)
{
    return ends_us > now_us ? (ends_us - now_us) / 1000000 : 0;
}

static void publish(struct rulebook *book)
{
    const struct rule_bounds none = {0};
    const struct rule_bounds *bounds = book->emergency.on ? &book->in_emergency : &none;
    book->reader.changed(book->reader.arg, rules_new(book->rules, book->count, bounds),
                         &book->emergency);
}

// --- rules --------------------------------------------------------------------------------------

static void log_rule(const char *event, const struct rule *rule, const char *by, int64_t now_us)
{
    struct log_line line;
    struct rule_counts counts;
    rule_count(rule, &counts);
    log_begin(&line, LOG_WARN, event);
    log_int(&line, "rule", rule_id(rule));
    log_str(&line, "says", rule_words(rule));
    if (rule_is_dry_run(rule)) {
        log_str(&line, "dry_run", "true");
    }
    log_str(&line, "by", by);
    log_str(&line, "why", rule_why(rule));
    if (rule_ends_us(rule) > 0) {
        log_int(&line, "ends_in_s", seconds_left(rule_ends_us(rule), now_us));
    }
    log_int(&line, "hits", (int64_t)counts.hits);
    log_int(&line, "refused", (int64_t)counts.refused);
    log_end(&line);
}

static void insert(struct rulebook *book, size_t place, struct rule *rule)
{
    memmove(&book->rules[place + 1], &book->rules[place],
            (book->count - place) * sizeof book->rules[0]);
    book->rules[place] = rule;
    book->count++;
}

static void keep_given(struct rulebook *book, int64_t id, struct rule_spec *spec)
{
    struct given *given = xcalloc(1, sizeof *given);
    *given = (struct given){book->given, id, *spec};
    book->given = given;
    *spec = (struct rule_spec){0};
}

static void forget_given(struct rulebook *book, int64_t id)
{
    struct given **at = &book->given;
    while (*at && (*at)->id != id) {
        at = &(*at)->next;
    }
    struct given *given = *at;
    if (given) { // else it is one of the file's
        *at = given->next;
        rule_spec_clear(&given->spec);
        free(given);
    }
}

static void take_out(struct rulebook *book, size_t place)
{
    forget_given(book, rule_id(book->rules[place]));
    bool of_file = place >= book->first && place < book->first + book->from_file;
    book->from_file -= of_file;
    book->first -= place < book->first;
    rule_drop(book->rules[place]);
    book->count--;
    memmove(&book->rules[place], &book->rules[place + 1],
            (book->count - place) * sizeof book->rules[0]);
}

static struct rule *read_rule(const struct config *config, size_t at, int64_t id)
{
    struct rule_spec spec = {0};
    char reason[OPTION_REASON_BYTES];
    int line;
    bool fine = rule_spec_read(&spec, &config->rules.items[at], &line, reason);
    assert(fine);
    (void)fine;
    struct rule *rule = rule_spec_build(&spec, id, config->file, 0);
    rule_spec_clear(&spec);
    return rule;
}

static bool says_the_same(const struct rule *a, const struct rule *b)
{
    return strcmp(rule_words(a), rule_words(b)) == 0 && strcmp(rule_why(a), rule_why(b)) == 0 &&
           strcmp(rule_by(a), rule_by(b)) == 0 && rule_is_dry_run(a) == rule_is_dry_run(b);
}

// The place in `former` of a rule that says the same; the count if there is none.
static size_t find_same(struct rule *const *former, size_t count, const struct rule *rule)
{
    size_t i = 0;
    while (i < count && !(former[i] && says_the_same(former[i], rule))) {
        i++;
    }
    return i;
}

// One of the file's: the former one that says the same, which is taken out of `former`, or new.
static struct rule *read_or_take(struct rulebook *book, const struct config *config, size_t at,
                                 struct rule **former, size_t count)
{
    struct rule *rule = read_rule(config, at, book->last_id + 1);
    size_t same = find_same(former, count, rule);
    if (same == count) {
        book->last_id++;
        log_rule("rule_added", rule, rule_by(rule), 0);
        return rule;
    }
    rule_drop(rule);
    rule = former[same];
    former[same] = NULL;
    return rule;
}

static void read_file(struct rulebook *book, const struct config *config)
{
    book->in_emergency = (struct rule_bounds){
        .max_time_ms = config->emergency_max_time_us / 1000,
        .kill_after_us = config->emergency_kill_after_us,
    };
    struct rule *former[RULES_MAX];
    struct rule **file = &book->rules[book->first];
    size_t count = book->from_file;
    size_t after = book->count - book->first - count;
    memcpy(former, file, count * sizeof former[0]);
    memmove(file + config->rules.count, file + count, after * sizeof former[0]);
    for (size_t i = 0; i < config->rules.count; i++) {
        file[i] = read_or_take(book, config, i, former, count);
    }
    book->from_file = config->rules.count;
    book->count = book->first + book->from_file + after;
    for (size_t i = 0; i < count; i++) {
        if (former[i]) {
            log_rule("rule_removed", former[i], rule_by(former[i]), 0);
            rule_drop(former[i]);
        }
    }
}

struct rulebook *rulebook_new(const struct config *config, struct rulebook_reader reader)
{
    struct rulebook *book = xcalloc(1, sizeof *book);
    book->reader = reader;
    read_file(book, config);
    publish(book);
    return book;
}

bool rulebook_read_anew(struct rulebook *book, const struct config *config)
{
    if (book->count - book->from_file + config->rules.count > RULES_MAX) {
        return false;
    }
    read_file(book, config);
    publish(book);
    return true;
}

void rulebook_free(struct rulebook *book)
{
    if (!book) {
        return;
    }
    while (book->count > 0) {
        take_out(book, book->count - 1);
    }
    free(book);
}

int64_t rulebook_add(struct rulebook *book, struct rule_spec *spec, const char *by, int64_t now_us,
                     char ret_reason[OPTION_REASON_BYTES])
{
    if (!rule_spec_check(spec, RULE_LIVE, ret_reason)) {
        return 0;
    }
    if (book->count == RULES_MAX) {
        snprintf(ret_reason, OPTION_REASON_BYTES, "there are %d rules already: remove some first",
                 RULES_MAX);
        return 0;
    }
    int64_t lasts_us = spec->given[RULE_OPTION_for_us] ? spec->for_us : RULE_LASTS_US;
    struct rule *rule = rule_spec_build(spec, ++book->last_id, by, now_us + lasts_us);
    insert(book, spec->last ? book->count : 0, rule);
    book->first += !spec->last;
    keep_given(book, book->last_id, spec);
    log_rule("rule_added", rule, rule_by(rule), now_us);
    publish(book);
    return book->last_id;
}

// The count if there is none.
static size_t place_of(const struct rulebook *book, int64_t id)
{
    size_t place = 0;
    while (place < book->count && rule_id(book->rules[place]) != id) {
        place++;
    }
    return place;
}

bool rulebook_remove(struct rulebook *book, int64_t id, const char *by, int64_t now_us)
{
    size_t place = place_of(book, id);
    if (place == book->count) {
        return false;
    }
    log_rule("rule_removed", book->rules[place], by, now_us);
    take_out(book, place);
    publish(book);
    return true;
}

void rulebook_each_live(const struct rulebook *book,
                        void (*tell)(void *arg, const struct rule *rule,
                                     const struct rule_spec *spec),
                        void *arg)
{
    size_t after = book->first + book->from_file;
    for (size_t i = 0; i < book->count - book->from_file; i++) {
        const struct rule *rule = book->rules[i < book->first ? book->first - 1 - i : after++];
        const struct given *given = book->given;
        while (given->id != rule_id(rule)) {
            given = given->next;
        }
        tell(arg, rule, &given->spec);
    }
}

const struct rule *rulebook_find(const struct rulebook *book, int64_t id)
{
    return rulebook_at(book, place_of(book, id));
}

const struct rule *rulebook_at(const struct rulebook *book, size_t place)
{
    return place < book->count ? book->rules[place] : NULL;
}

// --- the emergency ------------------------------------------------------------------------------

static void log_emergency(const struct rulebook *book, const char *event, const char *by,
                          int64_t now_us)
{
    const struct emergency *emergency = &book->emergency;
    struct log_line line;
    log_begin(&line, LOG_WARN, event);
    log_str(&line, "by", by);
    log_str(&line, "why", emergency->why);
    if (emergency->ends_us > 0) {
        log_int(&line, "ends_in_s", seconds_left(emergency->ends_us, now_us));
    }
    log_int(&line, "lasted_s", (now_us - emergency->since_us) / 1000000);
    log_end(&line);
}

void rulebook_begin_emergency(struct rulebook *book, const char *by, const char *why,
                              int64_t lasts_us, int64_t now_us)
{
    struct emergency *emergency = &book->emergency;
    *emergency = (struct emergency){
        .on = true,
        .since_us = emergency->on ? emergency->since_us : now_us,
        .ends_us = lasts_us > 0 ? now_us + lasts_us : emergency->ends_us,
    };
    snprintf(emergency->by, sizeof emergency->by, "%s", by);
    snprintf(emergency->why, sizeof emergency->why, "%s", why);
    log_emergency(book, "emergency_on", by, now_us);
    publish(book);
}

bool rulebook_end_emergency(struct rulebook *book, const char *by, int64_t now_us)
{
    if (!book->emergency.on) {
        return false;
    }
    log_emergency(book, "emergency_off", by, now_us);
    book->emergency = (struct emergency){0};
    publish(book);
    return true;
}

const struct emergency *rulebook_emergency(const struct rulebook *book)
{
    return &book->emergency;
}

// --- time ---------------------------------------------------------------------------------------

static bool take_out_ended(struct rulebook *book, int64_t now_us)
{
    size_t before = book->count;
    for (size_t i = book->count; i > 0; i--) {
        int64_t ends_us = rule_ends_us(book->rules[i - 1]);
        if (ends_us > 0 && ends_us <= now_us) {
            log_rule("rule_ended", book->rules[i - 1], rule_by(book->rules[i - 1]), now_us);
            take_out(book, i - 1);
        }
    }
    return book->count < before;
}

static int64_t next_end_us(const struct rulebook *book)
{
    int64_t next_us = book->emergency.ends_us > 0 ? book->emergency.ends_us : INT64_MAX;
    for (size_t i = 0; i < book->count; i++) {
        int64_t ends_us = rule_ends_us(book->rules[i]);
        next_us = ends_us > 0 && ends_us < next_us ? ends_us : next_us;
    }
    return next_us;
}

int64_t rulebook_tick(struct rulebook *book, int64_t now_us)
{
    const struct emergency *emergency = &book->emergency;
    bool changed = take_out_ended(book, now_us);
    if (emergency->ends_us > 0 && emergency->ends_us <= now_us) {
        rulebook_end_emergency(book, "its time is over", now_us);
    } else if (changed) {
        publish(book);
    }
    return next_end_us(book);
}
