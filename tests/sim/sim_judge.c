// SPDX-License-Identifier: Apache-2.0
//
// What an app may be answered. A reply with `id` is a server's, passed on; one without is weir's
// own.

#include <string.h>

#include "tests/sim/sim_app.h"
#include "tests/sim/sim_message.h"
#include "tests/sim/sim_operator.h"

struct reply {
    bool ok;
    bool from_server;
    int64_t id;
    int32_t code;
    int64_t backoff_ms;
    int64_t cursor_id;
    const char *message;
    bool retryable_write;
    bool no_writes;
    bool overloaded;
    bool transient;
    bool has_padding;
    bson_iter_t padding;
};

// --- reading ------------------------------------------------------------------------------------

static void read_labels(const bson_iter_t *iter, struct reply *reply)
{
    bson_iter_t label;
    if (!bson_iter_recurse(iter, &label)) {
        return;
    }
    while (bson_iter_next(&label)) {
        const char *text = bson_iter_utf8(&label, NULL);
        reply->retryable_write |= strcmp(text, "RetryableWriteError") == 0;
        reply->no_writes |= strcmp(text, "NoWritesPerformed") == 0;
        reply->overloaded |= strcmp(text, "SystemOverloadedError") == 0;
        reply->transient |= strcmp(text, "TransientTransactionError") == 0;
    }
}

static void read_field(const bson_iter_t *iter, struct reply *reply)
{
    const char *key = bson_iter_key(iter);
    bson_iter_t inner;
    if (strcmp(key, "ok") == 0) {
        reply->ok = bson_iter_as_int64(iter) == 1;
    } else if (strcmp(key, "id") == 0) {
        reply->from_server = true;
        reply->id = bson_iter_int64(iter);
    } else if (strcmp(key, "code") == 0) {
        reply->code = bson_iter_int32(iter);
    } else if (strcmp(key, "errmsg") == 0) {
        reply->message = bson_iter_utf8(iter, NULL);
    } else if (strcmp(key, "errorLabels") == 0) {
        read_labels(iter, reply);
    } else if (strcmp(key, "baseBackoffMS") == 0) {
        reply->backoff_ms = bson_iter_int64(iter);
    } else if (strcmp(key, "pad") == 0) {
        reply->has_padding = true;
        reply->padding = *iter;
    } else if (strcmp(key, "cursor") == 0 && bson_iter_recurse(iter, &inner) &&
               bson_iter_find(&inner, "id")) {
        reply->cursor_id = bson_iter_int64(&inner);
    }
}

static void read_reply(const struct op *op, const uint8_t *at, size_t len, struct reply *reply)
{
    bson_t body;
    bson_iter_t iter;
    HOLDS(message_body(at, len, &body) && bson_iter_init(&iter, &body),
          "operation %lld gets a reply that cannot be read", (long long)op->id);
    while (bson_iter_next(&iter)) {
        read_field(&iter, reply);
    }
}

// --- what must hold -----------------------------------------------------------------------------

static bool is_state_change(int32_t code)
{
    static const int32_t codes[] = {91, 189, 10058, 10107, 11600, 11602, 13435, 13436};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        if (code == codes[i]) {
            return true;
        }
    }
    return false;
}

static bool may_be_shed(const struct op *op)
{
    bool goes_on = op->in_transaction && !op->starts_transaction;
    return op->kind != OP_GET_MORE && op->kind != OP_KILL_CURSORS && !goes_on;
}

#define NEWCOMER_US 1000000

// What is refused for want of room has only just come: who has waited for a server is not.
static void check_place(const struct op *op, const struct reply *reply)
{
    int64_t waited_us = sim_now_us() - op->sent_us;
    bool full = strstr(reply->message, "too many operations wait") != NULL;
    HOLDS(!world.knobs.lobby || !full || waited_us < NEWCOMER_US + check_slack_us(),
          "operation %lld has waited for %lld us, and is shed for a newcomer", (long long)op->id,
          (long long)waited_us);
}

static bool ends_transaction(const struct op *op)
{
    return op->kind == OP_COMMIT || op->kind == OP_ABORT;
}

static void check_own_error(struct op *op, const struct reply *reply)
{
    long long id = op->id;
    bool nothing = strstr(reply->message, "nothing was") != NULL;
    HOLDS(strncmp(reply->message, "weir:", 5) == 0, "operation %lld is refused: %s", id,
          reply->message);
    if (reply->code == 411) {
        HOLDS(world.knobs.rules_every_us > 0 && may_be_shed(op) && !reply->overloaded,
              "operation %lld is denied: %s", id, reply->message);
    } else if (reply->code == 462) {
        world.shed++;
        check_place(op, reply);
        HOLDS(!world.knobs.patient, "operation %lld (%s) is shed, and others were not", id,
              op_kind_name(op->kind));
        HOLDS(may_be_shed(op), "operation %lld (%s) is shed, but finishes something", id,
              op_kind_name(op->kind));
        HOLDS(reply->overloaded && !reply->retryable_write && !reply->no_writes,
              "operation %lld is shed with the wrong labels", id);
    } else if (reply->code == 133) {
        bool picky = op->read_mode && strcmp(op->read_mode, "secondary") == 0;
        HOLDS(picky, "operation %lld is told that no server suits, but the primary does", id);
    } else if (reply->code == 11601) {
        int64_t ran_us = sim_now_us() - op->sent_us;
        bool due = world.knobs.kill_after_us > 0 && ran_us >= world.knobs.kill_after_us;
        HOLDS(due || operator_may_end(op, ran_us),
              "operation %lld (%s) is told that it was killed, and was not due", id,
              op_kind_name(op->kind));
    } else if (reply->code == 50) {
        HOLDS(op->max_time_ms > 0, "operation %lld had no maxTimeMS", id);
    } else {
        HOLDS(!world.calm, "operation %lld (%s) failed though nothing did: %s", id,
              op_kind_name(op->kind), reply->message);
    }
    if (reply->code == 462 || reply->code == 50 || nothing) {
        op->told_not_executed = true;
        HOLDS(op->received == 0, "operation %lld was sent, and answered with: %s", id,
              reply->message);
    }
}

static void check_server_reply(const struct op *op, const struct reply *reply)
{
    long long id = op->id;
    HOLDS(reply->id == op->id, "operation %lld gets the reply of operation %lld", id,
          (long long)reply->id);
    HOLDS(!reply->ok || op->executed, "operation %lld succeeded, but was not executed", id);
    HOLDS(!reply->ok || !reply->has_padding || padding_is_right(&reply->padding, op->id),
          "operation %lld gets a reply with bytes of another", id);
    HOLDS(!reply->ok || reply->has_padding == (op->reply_bytes > 0),
          "operation %lld gets a reply of the wrong length", id);
}

static void check_error(struct op *op, const struct reply *reply)
{
    long long id = op->id;
    HOLDS(!is_state_change(reply->code), "operation %lld sees a state change, code %d", id,
          reply->code);
    if (!reply->no_writes) {
        return;
    }
    bool retried = op->txn_number != 0 && (!op->in_transaction || ends_transaction(op));
    op->told_not_executed = true;
    HOLDS(!op->executed, "operation %lld was executed, and answered as if it was not", id);
    HOLDS(reply->retryable_write && retried,
          "operation %lld is answered with NoWritesPerformed, which its driver misreads", id);
}

// --- what follows -------------------------------------------------------------------------------

static void keep_cursor(struct app *app, const struct op *op, int64_t cursor_id)
{
    if (cursor_id != 0 && app->cursor_count < APP_CURSORS && !dice_chance(world.knobs.linger)) {
        app->cursors[app->cursor_count++] = (struct app_cursor){cursor_id, op->session};
    }
}

static enum verdict verdict_on_error(struct app_conn *conn, const struct op *op,
                                     const struct reply *reply, int64_t *ret_backoff_us)
{
    conn->retry_kind = op->kind;
    if (conn->transaction && !ends_transaction(op)) {
        conn->transaction->session = 0; // a driver would begin anew
        return VERDICT_GO_ON;
    }
    if (reply->overloaded) {
        bool obeys = reply->backoff_ms > 0 && !world.knobs.lobby; // else newcomers would be few
        int64_t base_ms = obeys ? reply->backoff_ms : 100;
        int64_t most_ms = base_ms << (conn->tries + 1);
        *ret_backoff_us = 1000 * dice_between(0, most_ms < 10000 ? most_ms : 10000);
        return VERDICT_RETRY_LATER;
    }
    bool read = op->kind == OP_FIND || op->kind == OP_SLOW_FIND || op->kind == OP_LARGE_FIND;
    if (reply->retryable_write || (read && reply->code == 6)) {
        return VERDICT_RETRY_NOW;
    }
    return VERDICT_GO_ON;
}

enum verdict judge_reply(struct app_conn *conn, struct op *op, const uint8_t *at, size_t len,
                         int64_t *ret_backoff_us)
{
    struct reply reply = {.message = ""};
    HOLDS(number_at(at + 8) == op->request_id, "operation %lld gets a reply to request %d",
          (long long)op->id, number_at(at + 8));
    read_reply(op, at, len, &reply);
    TRACE("app connection %lld has the reply to operation %lld: ok %lld, code %lld", conn->id,
          op->id, reply.ok, reply.code);
    if (op->kind == OP_HELLO) {
        HOLDS(reply.ok, "hello is answered with an error");
        return VERDICT_GO_ON;
    }
    if (op->kind == OP_MALFORMED) {
        HOLDS(!reply.ok, "a malformed message succeeds");
        return VERDICT_CLOSE;
    }
    if (reply.from_server) {
        check_server_reply(op, &reply);
    } else {
        HOLDS(!reply.ok, "operation %lld succeeds without a server", (long long)op->id);
        check_own_error(op, &reply);
    }
    if (reply.ok) {
        keep_cursor(conn->app, op, reply.cursor_id);
        if (conn->transaction && dice_chance(world.knobs.linger)) {
            conn->transaction->session = 0; // left alone
        }
        return VERDICT_GO_ON;
    }
    check_error(op, &reply);
    return verdict_on_error(conn, op, &reply, ret_backoff_us);
}

void judge_end(const struct app_conn *conn)
{
    const struct op *op = conn->op ? op_find(conn->op) : NULL;
    bool no_memory = world.knobs.compression && world.knobs.mix[OP_LARGE_INSERT] > 0;
    bool own_fault = conn->half_closed || conn->is_slow || conn->was_slow || conn->mute_since_us ||
                     no_memory || (op && op->kind == OP_MALFORMED);
    HOLDS(!world.draining || world.ending || own_fault || !world.calm || !op || op->received == 0,
          "connection %lld is sent away in the middle of operation %lld", (long long)conn->id,
          (long long)conn->op);
    bool meant = world.ending || world.draining || app_connection_is_culled(conn->id);
    HOLDS(own_fault || meant || !world.calm,
          "connection %lld is closed (operation %lld) though nothing failed", (long long)conn->id,
          (long long)conn->op);
}
