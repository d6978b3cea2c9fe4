// SPDX-License-Identifier: Apache-2.0

#include "proxy/succession_orders.h"

#include <bson/bson.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proxy/admin/fields.h"
#include "proxy/control/clock.h"
#include "proxy/log.h"
#include "proxy/orders.h"
#include "proxy/reload.h"
#include "proxy/weir_inner.h"

#define BY_PREDECESSOR "its predecessor"

// --- telling ------------------------------------------------------------------------------------

struct heir {
    struct talk *talk;
    int64_t now_us;
};

static void log_not_passed(const char *why)
{
    struct log_line line;
    log_begin(&line, LOG_WARN, "order_not_passed_on");
    log_str(&line, "why", why);
    log_end(&line);
}

static void tell(const struct heir *heir, const char *by, const bson_t *order)
{
    static const char word[] = SUCCESSION_ORDER;
    char text[TALK_MESSAGE_BYTES];
    bson_t message = BSON_INITIALIZER;
    BSON_APPEND_UTF8(&message, "by", by);
    BSON_APPEND_DOCUMENT(&message, "order", order);
    size_t bytes = strlen(word) + message.len;
    bool said = bytes < sizeof text;
    if (said) {
        memcpy(text, word, strlen(word));
        memcpy(text + strlen(word), bson_get_data(&message), message.len);
        said = talk_say(heir->talk, text, bytes);
    }
    if (!said) {
        log_not_passed("there is no room for it");
    }
    bson_destroy(&message);
}

// At least the least that an order may say; 0: it has no end, and says nothing.
static void append_time_left(const struct heir *heir, int64_t ends_us, bson_t *fields)
{
    char text[32];
    int64_t left_ms = (ends_us - heir->now_us) / 1000;
    if (ends_us > 0) {
        snprintf(text, sizeof text, "%" PRId64 "ms", left_ms > 1000 ? left_ms : 1000);
        BSON_APPEND_UTF8(fields, "for", text);
    }
}

static void tell_rule(void *arg, const struct rule *rule, const struct rule_spec *spec)
{
    const struct heir *heir = arg;
    bson_t order = BSON_INITIALIZER;
    bson_t fields;
    BSON_APPEND_UTF8(&order, "order", "rule add");
    BSON_APPEND_DOCUMENT_BEGIN(&order, "fields", &fields);
    for (int i = 0; i < RULE_OPTION_COUNT; i++) {
        char text[512];
        if (spec->given[i] && i != RULE_OPTION_for_us) {
            option_show(&rule_rows[i], spec, text, sizeof text);
            BSON_APPEND_UTF8(&fields, rule_rows[i].name, text);
        }
    }
    append_time_left(heir, rule_ends_us(rule), &fields);
    bson_append_document_end(&order, &fields);
    tell(heir, rule_by(rule), &order);
    bson_destroy(&order);
}

static void tell_emergency(const struct heir *heir, const struct emergency *emergency)
{
    bson_t order = BSON_INITIALIZER;
    bson_t fields;
    BSON_APPEND_UTF8(&order, "order", "emergency on");
    BSON_APPEND_DOCUMENT_BEGIN(&order, "fields", &fields);
    if (emergency->why[0] != '\0') {
        BSON_APPEND_UTF8(&fields, "why", emergency->why);
    }
    append_time_left(heir, emergency->ends_us, &fields);
    bson_append_document_end(&order, &fields);
    tell(heir, emergency->by, &order);
    bson_destroy(&order);
}

// A number of 0: it has none.
static void tell_bound(const struct heir *heir, const char *name, int number)
{
    bson_t order = BSON_INITIALIZER;
    BSON_APPEND_UTF8(&order, "order", name);
    if (number > 0) {
        BSON_APPEND_INT32(&order, "id", number);
    }
    tell(heir, BY_PREDECESSOR, &order);
    bson_destroy(&order);
}

void succession_tell_orders(struct weir *weir, struct talk *talk)
{
    struct heir heir = {talk, now_us()};
    const struct emergency *emergency = rulebook_emergency(weir->rulebook);
    struct server_bounds bounds = servers_bounds(weir->shared.servers);
    rulebook_each_live(weir->rulebook, tell_rule, &heir);
    if (emergency->on) {
        tell_emergency(&heir, emergency);
    }
    if (bounds.cap != reload_latest(weir)->max_connections) {
        tell_bound(&heir, "setCap", bounds.cap);
    }
    if (bounds.limit > 0) {
        tell_bound(&heir, "setLimit", bounds.limit);
    }
    if (bounds.paused) {
        tell_bound(&heir, "pause", 0);
    }
}

// --- hearing ------------------------------------------------------------------------------------

void succession_obey_order(struct weir *weir, const char *bytes, size_t length)
{
    const struct control_desk desk = orders_desk(weir);
    bson_t message, order;
    bson_t reply = BSON_INITIALIZER;
    bson_iter_t iter;
    const uint8_t *data;
    uint32_t size;
    if (bson_init_static(&message, (const uint8_t *)bytes, length) &&
        bson_iter_init_find(&iter, &message, "order") && BSON_ITER_HOLDS_DOCUMENT(&iter)) {
        bson_iter_document(&iter, &size, &data);
        (void)bson_init_static(&order, data, size);
        (void)control_order_obey(&desk, &order, field_text(&message, "by"), now_us(), &reply);
        if (bson_has_field(&reply, "error")) {
            log_not_passed(field_text(&reply, "error"));
        }
    }
    bson_destroy(&reply);
}
