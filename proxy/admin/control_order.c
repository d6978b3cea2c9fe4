// SPDX-License-Identifier: Apache-2.0

#include "proxy/admin/control_order.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "proxy/admin/state.h"

struct order {
    const struct control_desk *desk;
    const char *name;
    const char *by;
    int64_t now_us;
    int64_t id; // 0: not said
    struct rule_spec fields;
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

// --- rules --------------------------------------------------------------------------------------

static void add_rule(struct order *order)
{
    char reason[OPTION_REASON_BYTES];
    int64_t id = rulebook_add(order->desk->book, &order->fields, order->by, order->now_us, reason);
    if (id == 0) {
        fail(order, "%s", reason);
        return;
    }
    succeed(order);
    BSON_APPEND_INT64(order->reply, "id", id);
    BSON_APPEND_UTF8(order->reply, "says", rule_words(rulebook_find(order->desk->book, id)));
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
        BSON_APPEND_INT64(&item, "endsInSeconds", (emergency->ends_us - order->now_us) / 1000000);
    }
    bson_append_document_end(order->reply, &item);
}

static void begin_emergency(struct order *order)
{
    const struct rule_spec *fields = &order->fields;
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

static void drain(struct order *order)
{
    for (int i = 0; i < RULE_OPTION_COUNT; i++) {
        if (order->fields.given[i] && i != RULE_OPTION_for_us) {
            fail(order, "%s: drain has no such field", rule_rows[i].name);
            return;
        }
    }
    order->desk->drain(order->desk->arg, order->fields.for_us);
    succeed(order);
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
    order->told = order->names_collections ? order->collections : STATE_ALL;
    if (order->told == 0) {
        fail(order, "state: there is none of these collections");
    } else {
        succeed(order);
    }
}

// --- reading ------------------------------------------------------------------------------------

static const struct kind {
    const char *name;
    bool has_id;
    bool has_fields;
    void (*obey)(struct order *order);
} kinds[] = {
    {"rule add", false, true, add_rule},
    {"rule list", false, false, list_rules},
    {"rule remove", true, false, remove_rule},
    {"emergency on", false, true, begin_emergency},
    {"emergency off", false, false, end_emergency},
    {"emergency status", false, false, tell_emergency},
    {"drain", false, true, drain},
    {"status", false, false, tell_status},
    {"state", false, false, tell_state},
};

static bool read_fields(struct order *order, const bson_iter_t *iter)
{
    bson_iter_t field;
    if (!BSON_ITER_HOLDS_DOCUMENT(iter) || !bson_iter_recurse(iter, &field)) {
        return fail(order, "fields: must be a document");
    }
    while (bson_iter_next(&field)) {
        char reason[OPTION_REASON_BYTES];
        uint32_t len = 0;
        const char *text =
            BSON_ITER_HOLDS_UTF8(&field) ? bson_iter_utf8(&field, &len) : "not a text\n";
        if (strlen(text) != len || !bson_utf8_validate(text, len, false)) {
            return fail(order, "%.60s: must be a text", bson_iter_key(&field));
        }
        if (!rule_spec_set(&order->fields, bson_iter_key(&field), text, reason)) {
            return fail(order, "%s", reason);
        }
    }
    return true;
}

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
        } else if (strcmp(key, "fields") == 0) {
            fine = read_fields(order, &iter);
        } else if (strcmp(key, "collections") == 0) {
            fine = read_collections(order, &iter);
        } else {
            return fail(order, "%.60s: an order has no such field", key);
        }
    }
    return fine;
}

static void obey(struct order *order)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        const struct kind *kind = &kinds[i];
        if (strcmp(kind->name, order->name) != 0) {
            continue;
        }
        int given = 0;
        while (given < RULE_OPTION_COUNT && !order->fields.given[given]) {
            given++;
        }
        if (given < RULE_OPTION_COUNT && !kind->has_fields) {
            fail(order, "%s: %s has no such field", rule_rows[given].name, kind->name);
        } else if (order->names_collections && kind->obey != tell_state) {
            fail(order, "collections: %s has no such field", kind->name);
        } else if ((order->id != 0) != kind->has_id) {
            fail(order, "%s: %s", kind->name, kind->has_id ? "needs an id" : "has no id");
        } else {
            kind->obey(order);
        }
        return;
    }
    fail(order, "%.60s: unknown order", order->name);
}

unsigned control_order_answer(const struct control_desk *desk, const char *text, size_t len,
                              const char *by, int64_t now_us, bson_t *reply)
{
    struct order order = {.desk = desk, .name = "", .by = by, .now_us = now_us, .reply = reply};
    bson_error_t error;
    bson_t *document = bson_new_from_json((const uint8_t *)text, (ssize_t)len, &error);
    if (!document) {
        fail(&order, "what was asked is not a JSON document");
        return 0;
    }
    if (read_order(&order, document)) {
        obey(&order);
    }
    rule_spec_clear(&order.fields);
    bson_destroy(document);
    return order.told;
}
