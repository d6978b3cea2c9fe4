// SPDX-License-Identifier: Apache-2.0

#include "proxy/admin/control_order.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/admin/state.h"
#include "proxy/config_loader.h"
#include "proxy/log.h"

struct order {
    const struct control_desk *desk;
    const char *name;
    const char *by;
    int64_t now_us;
    bool has_id;
    int64_t id;
    bool has_fields;
    bson_iter_t fields;    // before the first
    struct rule_spec spec; // of these, if they are a rule's
    bool names_collections;
    unsigned collections; // those named
    unsigned told;        // of which the answer has the state
    bson_t *reply;
};

__attribute__((format(printf, 2, 3))) static bool fail(struct order *order, const char *format, ...)
{
    char error[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error, sizeof error, format, arguments);
    va_end(arguments);
    BSON_APPEND_BOOL(order->reply, "ok", false);
    // A name of theirs may have been cut within a letter.
    bool whole = bson_utf8_validate(error, strlen(error), false);
    BSON_APPEND_UTF8(order->reply, "error", whole ? error : "what was asked cannot be understood");
    return false;
}

static void succeed(struct order *order)
{
    BSON_APPEND_BOOL(order->reply, "ok", true);
}

// Gives each field, as a text, to a function that takes it or fails.
static bool each_field(struct order *order,
                       bool (*take)(struct order *order, const char *key, const char *text,
                                    void *arg),
                       void *arg)
{
    bson_iter_t field = order->fields;
    while (order->has_fields && bson_iter_next(&field)) {
        uint32_t len = 0;
        const char *text =
            BSON_ITER_HOLDS_UTF8(&field) ? bson_iter_utf8(&field, &len) : "not a text\n";
        if (strlen(text) != len || !bson_utf8_validate(text, len, false)) {
            return fail(order, "%.60s: must be a text", bson_iter_key(&field));
        }
        if (!take(order, bson_iter_key(&field), text, arg)) {
            return false;
        }
    }
    return true;
}

static bool take_rule_field(struct order *order, const char *key, const char *text, void *arg)
{
    char reason[OPTION_REASON_BYTES];
    (void)arg;
    return rule_spec_set(&order->spec, key, text, reason) || fail(order, "%s", reason);
}

// --- rules --------------------------------------------------------------------------------------

static void add_rule(struct order *order)
{
    char reason[OPTION_REASON_BYTES];
    int64_t id = rulebook_add(order->desk->book, &order->spec, order->by, order->now_us, reason);
    if (id == 0) {
        fail(order, "%s", reason);
        return;
    }
    succeed(order);
    const struct rule *rule = rulebook_find(order->desk->book, id);
    char ends[RULE_END_BYTES];
    rule_end_words(rule, order->now_us, ends);
    BSON_APPEND_INT64(order->reply, "id", id);
    BSON_APPEND_UTF8(order->reply, "says", rule_words(rule));
    BSON_APPEND_UTF8(order->reply, "ends", ends);
}

static void remove_rule(struct order *order)
{
    if (rulebook_remove(order->desk->book, order->id, order->by, order->now_us)) {
        succeed(order);
    } else {
        fail(order, "there is no rule %lld", (long long)order->id);
    }
}

static void append_rule(const struct order *order, const struct rule *rule, bson_t *list,
                        const char *key)
{
    struct rule_counts counts;
    char ends[RULE_END_BYTES];
    bson_t item;
    rule_count(rule, &counts);
    rule_end_words(rule, order->now_us, ends);
    BSON_APPEND_DOCUMENT_BEGIN(list, key, &item);
    BSON_APPEND_INT64(&item, "id", rule_id(rule));
    BSON_APPEND_UTF8(&item, "says", rule_words(rule));
    BSON_APPEND_BOOL(&item, "dryRun", rule_is_dry_run(rule));
    BSON_APPEND_UTF8(&item, "by", rule_by(rule));
    BSON_APPEND_UTF8(&item, "why", rule_why(rule));
    BSON_APPEND_UTF8(&item, "ends", ends);
    BSON_APPEND_INT64(&item, "hits", (int64_t)counts.hits);
    BSON_APPEND_INT64(&item, "refused", (int64_t)counts.refused);
    BSON_APPEND_INT64(&item, "atOnce", counts.at_once);
    bson_append_document_end(list, &item);
}

static void append_rules(const struct order *order)
{
    const struct rule *rule;
    bson_t list;
    BSON_APPEND_ARRAY_BEGIN(order->reply, "rules", &list);
    for (uint32_t i = 0; (rule = rulebook_at(order->desk->book, i)); i++) {
        char buffer[16];
        const char *key;
        bson_uint32_to_string(i, &key, buffer, sizeof buffer);
        append_rule(order, rule, &list, key);
    }
    bson_append_array_end(order->reply, &list);
}

static void list_rules(struct order *order)
{
    succeed(order);
    append_rules(order);
}

// --- emergency ----------------------------------------------------------------------------------

static void append_emergency(const struct order *order)
{
    const struct emergency *emergency = rulebook_emergency(order->desk->book);
    bson_t item;
    BSON_APPEND_DOCUMENT_BEGIN(order->reply, "emergency", &item);
    BSON_APPEND_BOOL(&item, "on", emergency->on);
    if (emergency->on) {
        BSON_APPEND_UTF8(&item, "by", emergency->by);
        BSON_APPEND_UTF8(&item, "why", emergency->why);
        BSON_APPEND_INT64(&item, "forSeconds", (order->now_us - emergency->since_us) / 1000000);
    }
    if (emergency->ends_us > 0) {
        BSON_APPEND_INT64(&item, "endsInSeconds",
                          (emergency->ends_us - order->now_us + 999999) / 1000000);
    }
    bson_append_document_end(order->reply, &item);
}

static void begin_emergency(struct order *order)
{
    const struct rule_spec *fields = &order->spec;
    for (int i = 0; i < RULE_OPTION_COUNT; i++) {
        bool allowed = i == RULE_OPTION_for_us || i == RULE_OPTION_why || i == RULE_OPTION_by;
        if (fields->given[i] && !allowed) {
            fail(order, "%s: an emergency has no such field", rule_rows[i].name);
            return;
        }
    }
    rulebook_begin_emergency(order->desk->book, fields->by ? fields->by : order->by,
                             fields->why ? fields->why : "", fields->for_us, order->now_us);
    succeed(order);
    append_emergency(order);
}

static void end_emergency(struct order *order)
{
    if (rulebook_end_emergency(order->desk->book, order->by, order->now_us)) {
        succeed(order);
    } else {
        fail(order, "there is no emergency");
    }
}

static void tell_emergency(struct order *order)
{
    succeed(order);
    append_emergency(order);
}

static void reload(struct order *order)
{
    char said[CONTROL_SAID_BYTES];
    if (!order->desk->reload(order->desk->arg, said)) {
        fail(order, "%s", said);
        return;
    }
    succeed(order);
    bool whole = bson_utf8_validate(said, strlen(said), false);
    BSON_APPEND_UTF8(order->reply, "reloaded", whole ? said : "");
}

static bool read_time(struct order *order, const char *key, const char *text, const char *least,
                      int64_t *ret_us)
{
    const struct option_row row = {.name = key,
                                   .flag = key,
                                   .type = OPTION_DURATION,
                                   .least = least,
                                   .most = "24h",
                                   .value = "TIME"};
    char reason[OPTION_REASON_BYTES];
    return option_set(&row, ret_us, text, reason) || fail(order, "%s: %s", key, reason);
}

static bool take_drain_field(struct order *order, const char *key, const char *text, void *arg)
{
    if (strcmp(key, "within") != 0) {
        return fail(order, "%.60s: %s has no such field; it has within", key, order->name);
    }
    return read_time(order, key, text, "1s", arg);
}

static void drain(struct order *order)
{
    int64_t within_us = 0;
    if (each_field(order, take_drain_field, &within_us)) {
        order->desk->drain(order->desk->arg, within_us);
        succeed(order);
    }
}

static void upgrade(struct order *order)
{
    int64_t within_us = 0;
    char said[CONTROL_SAID_BYTES];
    bool good;
    if (!each_field(order, take_drain_field, &within_us)) {
        return;
    }
    if (order->desk->is_upgraded(order->desk->arg, &good, said)) {
        order->desk->upgrade(order->desk->arg, within_us);
    } else {
        fail(order, "another one is taking over already");
    }
}

bool control_order_tell_upgrade(const struct control_desk *desk, bson_t *reply)
{
    struct order order = {.reply = reply};
    char said[CONTROL_SAID_BYTES];
    bool good;
    if (!desk->is_upgraded(desk->arg, &good, said)) {
        return false;
    }
    if (good) {
        succeed(&order);
        BSON_APPEND_UTF8(reply, "upgraded", said);
    } else {
        fail(&order, "%s", said);
    }
    return true;
}

static void tell_status(struct order *order)
{
    succeed(order);
    order->desk->tell_status(order->desk->arg, order->now_us, order->reply);
    append_emergency(order);
    append_rules(order);
}

static void tell_state(struct order *order)
{
    order->told = order->names_collections ? order->collections : STATE_UNNAMED;
    if (order->told == 0) {
        fail(order, "state: there is none of these collections");
    } else {
        succeed(order);
    }
}

static void tell_verdict(struct order *order)
{
    order->told = STATE_VERDICTS;
    succeed(order);
}

// --- killing ------------------------------------------------------------------------------------

static bool read_id(struct order *order, const char *key, const char *text, uint64_t *ret_id)
{
    char *end;
    errno = 0;
    bool digits = text[0] >= '1' && text[0] <= '9';
    *ret_id = digits ? strtoull(text, &end, 10) : 0;
    return (digits && *end == '\0' && errno == 0) ||
           fail(order, "%s: must be a number, as the collection %ss has it", key, key);
}

static bool read_shape(struct order *order, const char *text, struct cull_wish *wish)
{
    wish->has_shape = strlen(text) == 16 && text[strspn(text, "0123456789abcdefABCDEF")] == '\0';
    wish->shape = wish->has_shape ? strtoull(text, NULL, 16) : 0;
    return wish->has_shape ||
           fail(order, "shape: must be 16 hexadecimal digits, a shape_id of the log");
}

struct kill_order {
    struct cull_wish wish;
    const char *why;
};

static bool take_kill_field(struct order *order, const char *key, const char *text, void *arg)
{
    struct kill_order *kill = arg;
    if (strcmp(key, "request") == 0) {
        return read_id(order, key, text, &kill->wish.request);
    }
    if (strcmp(key, "client") == 0) {
        return read_id(order, key, text, &kill->wish.client);
    }
    if (strcmp(key, "shape") == 0) {
        return read_shape(order, text, &kill->wish);
    }
    if (strcmp(key, "over") == 0) {
        return read_time(order, key, text, "10ms", &kill->wish.over_us);
    }
    if (strcmp(key, "why") == 0) {
        kill->why = text;
        return true;
    }
    if (strcmp(key, "by") == 0) {
        order->by = text;
        return true;
    }
    return fail(order, "%.60s: kill has no such field; it has request, client, shape, over, why",
                key);
}

static bool check_wish(struct order *order, const struct cull_wish *wish)
{
    bool some = wish->has_shape || wish->over_us > 0;
    int named = (wish->request != 0) + (wish->client != 0) + some;
    if (named == 0) {
        return fail(order, "kill: needs one of request, client, shape, over");
    }
    return named == 1 || fail(order, "kill: request and client go with nothing else");
}

static void kill_all(struct order *order)
{
    struct kill_order kill = {0};
    struct cull_counts counts = {0};
    if (!each_field(order, take_kill_field, &kill) || !check_wish(order, &kill.wish)) {
        return;
    }
    bool done = order->desk->kill(order->desk->arg, &kill.wish, &counts);
    cull_log(&kill.wish, &counts, order->by, kill.why ? kill.why : "");
    bool found = counts.ended + counts.refused + counts.closed + counts.spared > 0;
    if (done && !found && (kill.wish.request != 0 || kill.wish.client != 0)) {
        fail(order, "there is no such %s any more", kill.wish.request != 0 ? "request" : "client");
        return;
    }
    succeed(order);
    BSON_APPEND_INT32(order->reply, "ended", counts.ended);
    BSON_APPEND_INT32(order->reply, "refused", counts.refused);
    BSON_APPEND_INT32(order->reply, "closed", counts.closed);
    BSON_APPEND_INT32(order->reply, "spared", counts.spared);
}

// --- bounds -------------------------------------------------------------------------------------

enum { BOUND_MOST = 100000 };

static void log_bound(const struct order *order, const char *event, int bound)
{
    struct log_line line;
    log_begin(&line, LOG_WARN, event);
    log_str(&line, "by", order->by);
    if (bound > 0) {
        log_int(&line, "to", bound);
    } else {
        log_str(&line, "to", "default");
    }
    log_end(&line);
}

static bool check_bound(struct order *order)
{
    bool fine = order->id >= 1 && order->id <= BOUND_MOST;
    return fine || fail(order, "%s: must be 1 to %d, or default", order->name, BOUND_MOST);
}

static void name_bound(int bound, char ret_text[16])
{
    snprintf(ret_text, 16, bound > 0 ? "%d" : "none", bound);
}

static void tell_bound(struct order *order, const char *name, int former, int now)
{
    char from[16];
    char to[16];
    char text[64];
    name_bound(former, from);
    name_bound(now, to);
    snprintf(text, sizeof text, former == now ? "%s %s, as before" : "%s %s -> %s", name, from, to);
    succeed(order);
    BSON_APPEND_UTF8(order->reply, "now", text);
}

static void change_cap(struct order *order, int cap)
{
    const struct control_desk *desk = order->desk;
    int former = desk->tell_bounds(desk->arg).cap;
    desk->set_cap(desk->arg, cap);
    log_bound(order, "cap_set", cap);
    tell_bound(order, "cap", former, desk->tell_bounds(desk->arg).cap);
}

static void change_limit(struct order *order, int limit)
{
    const struct control_desk *desk = order->desk;
    int former = desk->tell_bounds(desk->arg).limit;
    desk->set_limit(desk->arg, limit);
    log_bound(order, "limit_set", limit);
    tell_bound(order, "limit", former, desk->tell_bounds(desk->arg).limit);
}

static void set_cap(struct order *order)
{
    if (check_bound(order)) {
        change_cap(order, (int)order->id);
    }
}

static void reset_cap(struct order *order)
{
    change_cap(order, -1);
}

static void set_limit(struct order *order)
{
    if (check_bound(order)) {
        change_limit(order, (int)order->id);
    }
}

static void reset_limit(struct order *order)
{
    change_limit(order, 0);
}

static void set_pause(struct order *order, bool paused)
{
    struct log_line line;
    order->desk->pause(order->desk->arg, paused);
    log_begin(&line, LOG_WARN, paused ? "paused" : "resumed");
    log_str(&line, "by", order->by);
    log_end(&line);
    succeed(order);
}

static void pause_all(struct order *order)
{
    set_pause(order, true);
}

static void resume_all(struct order *order)
{
    set_pause(order, false);
}

// --- reading ------------------------------------------------------------------------------------

static const struct kind {
    const char *name;
    const char *number; // what it is called; NULL: it has none
    enum { FIELDS_NONE, FIELDS_OF_RULE, FIELDS_OF_ITS_OWN } fields;
    void (*obey)(struct order *order);
} kinds[] = {
    {"rule add", NULL, FIELDS_OF_RULE, add_rule},
    {"rule list", NULL, FIELDS_NONE, list_rules},
    {"rule remove", "an id, as rule list has it", FIELDS_NONE, remove_rule},
    {"emergency on", NULL, FIELDS_OF_RULE, begin_emergency},
    {"emergency off", NULL, FIELDS_NONE, end_emergency},
    {"emergency status", NULL, FIELDS_NONE, tell_emergency},
    {"setCap", "a number, or default", FIELDS_NONE, set_cap},
    {"setCap default", NULL, FIELDS_NONE, reset_cap},
    {"setLimit", "a number, or default", FIELDS_NONE, set_limit},
    {"setLimit default", NULL, FIELDS_NONE, reset_limit},
    {"reload", NULL, FIELDS_NONE, reload},
    {"drain", NULL, FIELDS_OF_ITS_OWN, drain},
    {"upgrade", NULL, FIELDS_OF_ITS_OWN, upgrade},
    {"pause", NULL, FIELDS_NONE, pause_all},
    {"resume", NULL, FIELDS_NONE, resume_all},
    {"kill", NULL, FIELDS_OF_ITS_OWN, kill_all},
    {"status", NULL, FIELDS_NONE, tell_status},
    {"state", NULL, FIELDS_NONE, tell_state},
    {"verdict", NULL, FIELDS_NONE, tell_verdict},
};

enum { KINDS = sizeof kinds / sizeof kinds[0] };

static bool read_collections(struct order *order, const bson_iter_t *iter)
{
    bson_iter_t item;
    order->names_collections = true;
    if (!BSON_ITER_HOLDS_ARRAY(iter) || !bson_iter_recurse(iter, &item)) {
        return fail(order, "collections: must be a list of names");
    }
    while (bson_iter_next(&item)) {
        uint32_t len;
        const char *name = BSON_ITER_HOLDS_UTF8(&item) ? bson_iter_utf8(&item, &len) : NULL;
        if (!name) {
            return fail(order, "collections: must be a list of names");
        }
        order->collections |= STATE_BIT(state_find((struct bytes){(const uint8_t *)name, len}));
    }
    order->collections &= STATE_ALL; // those that it does not know are left out
    return true;
}

static bool read_order(struct order *order, const bson_t *document)
{
    bson_iter_t iter;
    bool fine = bson_iter_init(&iter, document);
    while (fine && bson_iter_next(&iter)) {
        const char *key = bson_iter_key(&iter);
        if (strcmp(key, "order") == 0 && BSON_ITER_HOLDS_UTF8(&iter)) {
            order->name = bson_iter_utf8(&iter, NULL);
        } else if (strcmp(key, "id") == 0 && BSON_ITER_HOLDS_INT(&iter)) {
            order->id = bson_iter_as_int64(&iter);
            order->has_id = true;
        } else if (strcmp(key, "fields") == 0) {
            fine = (BSON_ITER_HOLDS_DOCUMENT(&iter) && bson_iter_recurse(&iter, &order->fields)) ||
                   fail(order, "fields: must be a document");
            order->has_fields = fine;
        } else if (strcmp(key, "collections") == 0) {
            fine = read_collections(order, &iter);
        } else {
            return fail(order, "%.60s: an order has no such field", key);
        }
    }
    return fine;
}

static bool refuse_field(struct order *order, const char *key, const char *text, void *arg)
{
    const struct kind *kind = arg;
    (void)text;
    return fail(order, "%.60s: %s has no such field", key, kind->name);
}

static bool check_kind(struct order *order, const struct kind *kind)
{
    if (kind->fields == FIELDS_NONE && !each_field(order, refuse_field, (void *)kind)) {
        return false;
    }
    if (kind->fields == FIELDS_OF_RULE && !each_field(order, take_rule_field, NULL)) {
        return false;
    }
    if (order->names_collections && kind->obey != tell_state) {
        return fail(order, "collections: %s has no such field", kind->name);
    }
    if (kind->number && !order->has_id) {
        return fail(order, "%s: needs %s", kind->name, kind->number);
    }
    return kind->number || !order->has_id || fail(order, "%s: takes no number", kind->name);
}

static bool begins(const char *text, const char *word, size_t length)
{
    return strncmp(text, word, length) == 0 && text[length] == ' ';
}

// The order whose name the order begins with, which has words too many; NULL: none.
static const struct kind *kind_begun(const char *name)
{
    for (size_t i = 0; i < KINDS; i++) {
        if (begins(name, kinds[i].name, strlen(kinds[i].name))) {
            return &kinds[i];
        }
    }
    return NULL;
}

// What may follow the order's first word, as "add, list or remove"; empty: nothing.
static void list_seconds(const char *name, char ret_list[64])
{
    size_t length = strcspn(name, " ");
    const char *last = NULL;
    size_t used = 0;
    ret_list[0] = '\0';
    for (size_t i = 0; i < KINDS; i++) {
        if (begins(kinds[i].name, name, length)) {
            used +=
                last ? (size_t)snprintf(ret_list + used, 64 - used, "%s%s", used ? ", " : "", last)
                     : 0;
            last = kinds[i].name + length + 1;
        }
    }
    if (last) {
        snprintf(ret_list + used, 64 - used, " or %s", last);
    }
}

// The first words of all orders, once each: those that share one are together in the table.
static void list_firsts(char ret_list[160])
{
    size_t used = 0;
    for (size_t i = 0; i < KINDS; i++) {
        size_t length = strcspn(kinds[i].name, " ");
        bool again = i > 0 && strncmp(kinds[i].name, kinds[i - 1].name, length) == 0 &&
                     strcspn(kinds[i - 1].name, " ") == length;
        if (!again) {
            used += (size_t)snprintf(ret_list + used, 160 - used, "%s%.*s", i > 0 ? ", " : "",
                                     (int)length, kinds[i].name);
        }
    }
}

static void complain_of_name(struct order *order)
{
    const struct kind *begun = kind_begun(order->name);
    char seconds[64];
    struct guess guess;
    list_seconds(order->name, seconds);
    guess_init(&guess, order->name);
    for (size_t i = 0; i < KINDS; i++) {
        guess_try(&guess, kinds[i].name);
    }
    bool near = guess.match[0] != '\0' && order->name[0] != '\0';
    bool misses_word = seconds[0] != '\0' && !(near && strchr(order->name, ' '));
    if (begun && begun->number) {
        fail(order, "%.60s: needs %s", order->name, begun->number);
    } else if (begun) {
        fail(order, "%.60s: no word follows %s", order->name, begun->name);
    } else if (misses_word) {
        fail(order, "%.60s: needs %s", order->name, seconds);
    } else if (near) {
        fail(order, "%.60s: unknown order, did you mean %s?", order->name, guess.match);
    } else {
        char firsts[160];
        list_firsts(firsts);
        fail(order, "%.60s: unknown order; there are %s", order->name, firsts);
    }
}

static void obey(struct order *order)
{
    for (size_t i = 0; i < KINDS; i++) {
        if (strcmp(kinds[i].name, order->name) == 0) {
            if (check_kind(order, &kinds[i])) {
                kinds[i].obey(order);
            }
            return;
        }
    }
    complain_of_name(order);
}

unsigned control_order_obey(const struct control_desk *desk, const bson_t *document, const char *by,
                            int64_t now_us, bson_t *reply)
{
    struct order order = {.desk = desk, .name = "", .by = by, .now_us = now_us, .reply = reply};
    if (read_order(&order, document)) {
        obey(&order);
    }
    rule_spec_clear(&order.spec);
    return order.told;
}

unsigned control_order_answer(const struct control_desk *desk, const char *text, size_t len,
                              const char *by, int64_t now_us, bson_t *reply)
{
    bson_error_t error;
    bson_t *document = bson_new_from_json((const uint8_t *)text, (ssize_t)len, &error);
    if (!document) {
        struct order order = {.reply = reply};
        fail(&order, "what was asked is not a JSON document");
        return 0;
    }
    unsigned told = control_order_obey(desk, document, by, now_us, reply);
    bson_destroy(document);
    return told;
}
