// SPDX-License-Identifier: Apache-2.0
//
// The pace of a rule (per_second) is one number: the time at which the requests let through so far
// would have come at an even pace (GCRA). A request passes if that is not further ahead of now than
// a tenth of a second, or one request, allows; so a burst is small and the mean is exact.

#include "policy/rules.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>
#include <strings.h>

#include "policy/memory.h"

#define ADDRESS_BYTES 16
#define SECOND_US INT64_C(1000000)
#define BURST_US (SECOND_US / 10)

struct pattern {
    char *text; // NULL: matches all
    size_t len;
    bool is_prefix;
};

struct rule {
    atomic_int references;
    int64_t id;
    int64_t ends_us;
    bool dry_run;
    bool refuses;
    bool has_address;
    struct pattern database;
    struct pattern collection;
    struct pattern command;
    struct pattern app;
    struct pattern user;
    struct pattern comment;
    uint8_t address[ADDRESS_BYTES];
    int address_bits;
    bool has_shape;
    uint64_t shape;
    enum rule_kind kind;
    struct rule_act act;
    char *by;
    char *why;
    char *words;
    char apart[64]; // what all workers write is not on a cache line with what all read
    atomic_uint_fast64_t hits;
    atomic_uint_fast64_t refused;
    atomic_int at_once;
    _Atomic int64_t paced_us;
};

struct rules {
    atomic_int references;
    struct rule_bounds bounds;
    bool wants_shape;
    bool wants_address;
    size_t count;
    struct rule *items[];
};

// --- a rule -------------------------------------------------------------------------------------

static char *copy(const char *text)
{
    size_t bytes = strlen(text) + 1;
    return memcpy(memory_new(1, bytes), text, bytes);
}

static struct pattern pattern_of(const char *text, bool may_be_prefix)
{
    if (!text) {
        return (struct pattern){0};
    }
    size_t len = strlen(text);
    bool is_prefix = may_be_prefix && len > 0 && text[len - 1] == '*';
    return (struct pattern){copy(text), len - is_prefix, is_prefix};
}

struct rule *rule_new(int64_t id, const struct rule_match *match, const struct rule_act *act,
                      int64_t ends_us, bool dry_run)
{
    assert(match->address_bits >= 0 && match->address_bits <= 8 * ADDRESS_BYTES);
    assert(match->database || !match->collection);
    struct rule *rule = memory_new(1, sizeof *rule);
    atomic_init(&rule->references, 1);
    rule->id = id;
    rule->ends_us = ends_us > 0 ? ends_us : INT64_MAX;
    rule->dry_run = dry_run;
    rule->refuses = act->deny || act->per_second > 0 || act->at_once > 0;
    rule->database = pattern_of(match->database, false);
    rule->collection = pattern_of(match->collection, true);
    rule->command = pattern_of(match->command, false);
    rule->app = pattern_of(match->app, true);
    rule->user = pattern_of(match->user, true);
    rule->comment = pattern_of(match->comment, true);
    rule->has_address = match->address != NULL;
    if (match->address) {
        memcpy(rule->address, match->address, ADDRESS_BYTES);
    }
    rule->address_bits = match->address_bits;
    rule->has_shape = match->has_shape;
    rule->shape = match->shape;
    rule->kind = match->kind;
    rule->act = *act;
    atomic_init(&rule->paced_us, INT64_MIN);
    rule_set_note(rule, "", "", "");
    return rule;
}

struct rule *rule_keep(struct rule *rule)
{
    atomic_fetch_add_explicit(&rule->references, 1, memory_order_relaxed);
    return rule;
}

void rule_drop(struct rule *rule)
{
    if (!rule || atomic_fetch_sub(&rule->references, 1) > 1) {
        return;
    }
    assert(atomic_load(&rule->at_once) == 0);
    free(rule->database.text);
    free(rule->collection.text);
    free(rule->command.text);
    free(rule->app.text);
    free(rule->user.text);
    free(rule->comment.text);
    free(rule->by);
    free(rule->why);
    free(rule->words);
    free(rule);
}

void rule_set_note(struct rule *rule, const char *by, const char *why, const char *words)
{
    char *former[] = {rule->by, rule->why, rule->words}; // they may be what is copied
    rule->by = copy(by);
    rule->why = copy(why);
    rule->words = copy(words);
    for (size_t i = 0; i < sizeof former / sizeof former[0]; i++) {
        free(former[i]);
    }
}

const char *rule_by(const struct rule *rule)
{
    return rule->by;
}

const char *rule_why(const struct rule *rule)
{
    return rule->why;
}

const char *rule_words(const struct rule *rule)
{
    return rule->words;
}

int64_t rule_id(const struct rule *rule)
{
    return rule->id;
}

int64_t rule_ends_us(const struct rule *rule)
{
    return rule->ends_us == INT64_MAX ? 0 : rule->ends_us;
}

bool rule_is_dry_run(const struct rule *rule)
{
    return rule->dry_run;
}

void rule_count(const struct rule *rule, struct rule_counts *ret_counts)
{
    ret_counts->hits = atomic_load_explicit(&rule->hits, memory_order_relaxed);
    ret_counts->refused = atomic_load_explicit(&rule->refused, memory_order_relaxed);
    ret_counts->at_once = atomic_load_explicit(&rule->at_once, memory_order_relaxed);
}

// --- a set --------------------------------------------------------------------------------------

struct rules *rules_new(struct rule *const *items, size_t count, const struct rule_bounds *bounds)
{
    assert(count <= RULES_MAX);
    struct rules *rules = memory_new(1, sizeof *rules + count * sizeof(struct rule *));
    atomic_init(&rules->references, 1);
    rules->bounds = *bounds;
    rules->count = count;
    for (size_t i = 0; i < count; i++) {
        rules->items[i] = rule_keep(items[i]);
        rules->wants_shape |= items[i]->has_shape;
        rules->wants_address |= items[i]->has_address;
    }
    return rules;
}

struct rules *rules_keep(struct rules *rules)
{
    atomic_fetch_add_explicit(&rules->references, 1, memory_order_relaxed);
    return rules;
}

void rules_drop(struct rules *rules)
{
    if (!rules || atomic_fetch_sub(&rules->references, 1) > 1) {
        return;
    }
    for (size_t i = 0; i < rules->count; i++) {
        rule_drop(rules->items[i]);
    }
    free(rules);
}

const struct rule *rules_at(const struct rules *rules, size_t place)
{
    return place < rules->count ? rules->items[place] : NULL;
}

bool rules_are_empty(const struct rules *rules)
{
    return rules->count == 0 && rules->bounds.max_time_ms == 0 && rules->bounds.kill_after_us == 0;
}

const struct rule_bounds *rules_bounds(const struct rules *rules)
{
    return &rules->bounds;
}

bool rules_want_shape(const struct rules *rules)
{
    return rules->wants_shape;
}

bool rules_want_address(const struct rules *rules)
{
    return rules->wants_address;
}

// --- matching -----------------------------------------------------------------------------------

static bool fits(const struct pattern *pattern, const struct rule_text *text)
{
    if (!pattern->text) {
        return true;
    }
    bool long_enough = pattern->is_prefix ? text->len >= pattern->len : text->len == pattern->len;
    return long_enough && (pattern->len == 0 || memcmp(pattern->text, text->at, pattern->len) == 0);
}

static bool fits_command(const struct pattern *pattern, const struct rule_text *text)
{
    return !pattern->text ||
           (text->len == pattern->len && strncasecmp(pattern->text, text->at, pattern->len) == 0);
}

static bool fits_address(const struct rule *rule, const uint8_t *address)
{
    if (!rule->has_address || !address) {
        return !rule->has_address;
    }
    int whole = rule->address_bits / 8;
    int rest = rule->address_bits % 8;
    return memcmp(rule->address, address, (size_t)whole) == 0 &&
           (rest == 0 || (rule->address[whole] ^ address[whole]) >> (8 - rest) == 0);
}

// The cheapest first.
static bool matches(const struct rule *rule, const struct rule_facts *facts, int64_t now_us)
{
    if (rule->has_shape && rule->shape != facts->shape) {
        return false;
    }
    if (rule->kind != RULE_ANY_KIND && (rule->kind == RULE_WRITES) != facts->writes) {
        return false;
    }
    if (facts->finishes && rule->refuses && !rule->command.text) {
        return false;
    }
    return now_us < rule->ends_us && fits_command(&rule->command, &facts->command) &&
           fits(&rule->collection, &facts->collection) && fits(&rule->database, &facts->database) &&
           fits(&rule->app, &facts->app) && fits(&rule->user, &facts->user) &&
           fits(&rule->comment, &facts->comment) && fits_address(rule, facts->address);
}

// The first that is in earnest. Those before it that only count have counted.
static struct rule *first_match(struct rules *rules, const struct rule_facts *facts, int64_t now_us)
{
    for (size_t i = 0; i < rules->count; i++) {
        struct rule *rule = rules->items[i];
        if (matches(rule, facts, now_us)) {
            atomic_fetch_add_explicit(&rule->hits, 1, memory_order_relaxed);
            if (!rule->dry_run) {
                return rule;
            }
        }
    }
    return NULL;
}

// --- acting -------------------------------------------------------------------------------------

// Whether the pace allows one more; if not, ret_retry_us is when it will.
static bool keeps_pace(struct rule *rule, int64_t now_us, int64_t *ret_retry_us)
{
    if (rule->act.per_second == 0) {
        return true;
    }
    int64_t interval_us = SECOND_US / rule->act.per_second;
    int64_t paced_us = atomic_load(&rule->paced_us);
    int64_t next_us;
    do {
        int64_t from_us = paced_us > now_us ? paced_us : now_us;
        if (from_us - now_us > BURST_US) {
            *ret_retry_us = from_us - BURST_US;
            return false;
        }
        next_us = from_us + interval_us;
    } while (!atomic_compare_exchange_weak(&rule->paced_us, &paced_us, next_us));
    return true;
}

// Whether there is room for one more at once; it is counted then.
static bool finds_room(struct rule *rule, bool *ret_counted)
{
    if (rule->act.at_once == 0) {
        return true;
    }
    *ret_counted = atomic_fetch_add(&rule->at_once, 1) < rule->act.at_once;
    if (!*ret_counted) {
        atomic_fetch_sub(&rule->at_once, 1);
    }
    return *ret_counted;
}

static enum rule_answer answer(struct rule *rule, int64_t now_us, struct rule_verdict *verdict)
{
    if (rule->act.deny) {
        return RULE_DENIES;
    }
    // Room first: what finds none must not spend the pace of others.
    if (!finds_room(rule, &verdict->counted)) {
        return RULE_THROTTLES;
    }
    return keeps_pace(rule, now_us, &verdict->retry_us) ? RULE_PASSES : RULE_THROTTLES;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a == 0 || (b > 0 && b < a) ? b : a;
}

void rules_judge(struct rules *rules, const struct rule_facts *facts, int64_t now_us,
                 struct rule_verdict *ret_verdict)
{
    *ret_verdict = (struct rule_verdict){0};
    struct rule *rule = first_match(rules, facts, now_us);
    if (rule) {
        ret_verdict->rule = rule_keep(rule);
        ret_verdict->max_time_ms = rule->act.max_time_ms;
        ret_verdict->default_time_ms = rule->act.default_time_ms;
        ret_verdict->kill_after_us = rule->act.kill_after_us;
        ret_verdict->slow = rule->act.slow;
        ret_verdict->priority = rule->act.priority;
        ret_verdict->answer = answer(rule, now_us, ret_verdict);
        if (ret_verdict->answer != RULE_PASSES) {
            atomic_fetch_add_explicit(&rule->refused, 1, memory_order_relaxed);
        }
    }
    ret_verdict->max_time_ms = smaller(ret_verdict->max_time_ms, rules->bounds.max_time_ms);
    ret_verdict->default_time_ms = smaller(ret_verdict->default_time_ms, ret_verdict->max_time_ms);
}

void rule_verdict_end(struct rule_verdict *verdict)
{
    if (verdict->counted) {
        atomic_fetch_sub(&verdict->rule->at_once, 1);
    }
    rule_drop(verdict->rule);
    *verdict = (struct rule_verdict){0};
}
