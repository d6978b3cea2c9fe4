// SPDX-License-Identifier: Apache-2.0
//
// Service: operations share the cores of their server (each gets cores/n of one, at most all of
// one), then take effect and are answered with their number.

#include "tests/sim/sim_service.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/mem.h"
#include "proxy/affinity.h"
#include "tests/sim/sim_app.h"
#include "tests/sim/sim_message.h"
#include "tests/sim/sim_operator.h"

// --- cursors and transactions -------------------------------------------------------------------

static struct held *held_find(const struct held_list *list, int64_t id)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->items[i].id == id) {
            return &list->items[i];
        }
    }
    return NULL;
}

static struct held *held_add(struct held_list *list, int64_t id)
{
    if (list->count == list->capacity) {
        list->capacity = list->capacity ? 2 * list->capacity : 16;
        list->items = xrealloc(list->items, list->capacity * sizeof *list->items);
    }
    struct held *held = &list->items[list->count++];
    *held = (struct held){.id = id, .free_us = sim_now_us()};
    return held;
}

static void held_remove(struct held_list *list, struct held *held)
{
    *held = list->items[--list->count];
}

static void forget_of_conn(struct held_list *list, int64_t conn)
{
    for (size_t i = list->count; i-- > 0;) {
        if (list->items[i].conn == conn) {
            held_remove(list, &list->items[i]);
        }
    }
}

static struct held *cursor_of(struct sim_server *server, const struct op *op)
{
    return op->cursor_id ? held_find(&server->cursors, op->cursor_id) : NULL;
}

static struct held *transaction_of(struct sim_server *server, const struct op *op)
{
    return op->in_transaction ? held_find(&server->transactions, op->session) : NULL;
}

static void set_in_use(struct sim_server *server, const struct op *op, bool in_use)
{
    bool reads = op->kind == OP_GET_MORE;
    struct held *held[2] = {reads ? cursor_of(server, op) : NULL, transaction_of(server, op)};
    for (int i = 0; i < 2; i++) {
        if (held[i]) {
            held[i]->free_us = in_use ? held[i]->free_us : sim_now_us();
            held[i]->in_use = in_use;
            held[i]->last_op = op->id;
        }
    }
}

static int64_t travel_most_us(void)
{
    const struct net_profile *net = &world.knobs.app_net;
    return net->delay_most_us > net->stall_us ? net->delay_most_us : net->stall_us;
}

// Whether an operation came after what it goes on with had its time of grace: weir may have given
// it up by then, and waits for a permit to kill it.
static bool is_late(const struct op *op, const struct held *held)
{
    int64_t came_us = op->sent_us + travel_most_us() + check_slack_us();
    int64_t idle_us = world.knobs.idle_us;
    int64_t grace_us = idle_us > 0 && idle_us < ORPHAN_GRACE_US ? idle_us : ORPHAN_GRACE_US;
    return came_us >= held->free_us + grace_us;
}

// What weir kills by itself must not be in use, unless by who came late.
static void check_is_orphan(const struct held *held, const char *what)
{
    if (held && held->in_use) {
        const struct op *op = op_find(held->last_op);
        HOLDS(!app_connection_is_open(op->conn) || is_late(op, held),
              "weir kills a %s that operation %lld on connection %lld, which is open, is using",
              what, (long long)op->id, (long long)op->conn);
    }
}

void service_forget_all(struct sim_server *server)
{
    server->cursors.count = 0;
    server->transactions.count = 0;
}

// --- answers ------------------------------------------------------------------------------------

static void append_labels(bson_t *body, const char *const labels[], int count)
{
    bson_t array;
    static const char *const keys[] = {"0", "1", "2"};
    BSON_APPEND_ARRAY_BEGIN(body, "errorLabels", &array);
    for (int i = 0; i < count; i++) {
        BSON_APPEND_UTF8(&array, keys[i], labels[i]);
    }
    bson_append_array_end(body, &array);
}

static void refuse(struct server_conn *conn, const struct op *op, int code,
                   const char *const labels[], int label_count)
{
    TRACE("server %lld answers operation %lld with error %lld", conn->server->index, op->id, code);
    bson_t body = BSON_INITIALIZER;
    BSON_APPEND_DOUBLE(&body, "ok", 0);
    BSON_APPEND_INT32(&body, "code", code);
    BSON_APPEND_UTF8(&body, "errmsg", "simulated");
    BSON_APPEND_INT64(&body, "id", op->id);
    if (label_count > 0) {
        append_labels(&body, labels, label_count);
    }
    server_conn_reply(conn, &body);
    bson_destroy(&body);
}

// A statement of a transaction whose transaction is not there, and the like.
static bool refuse_if_lost(struct server_conn *conn, const struct op *op)
{
    static const char *const transient[] = {"TransientTransactionError"};
    struct sim_server *server = conn->server;
    if (op->in_transaction && !op->starts_transaction && !transaction_of(server, op)) {
        refuse(conn, op, 251, transient, op->kind == OP_TRANSACT);
        return true;
    }
    const struct held *cursor = cursor_of(server, op);
    if (op->kind == OP_GET_MORE && (!cursor || cursor->session != op->session)) {
        refuse(conn, op, cursor ? 50738 : 43, NULL, 0);
        return true;
    }
    return false;
}

static bool is_read(const struct op *op)
{
    return op->kind == OP_FIND || op->kind == OP_SLOW_FIND || op->kind == OP_LARGE_FIND ||
           op->kind == OP_OPEN_CURSOR || op->kind == OP_PING;
}

// A secondary takes reads that say they may come there, and what goes on with its cursors.
static bool takes(const struct sim_server *server, const struct op *op)
{
    return world.knobs.sharded || world.knobs.balanced || server->index == world.primary ||
           op->kind == OP_GET_MORE || op->kind == OP_KILL_CURSORS || (is_read(op) && op->read_mode);
}

static bool refuse_if_unwell(struct server_conn *conn, const struct op *op)
{
    static const int state_changes[] = {91, 189, 10107, 11600, 11602, 13435, 13436};
    static const int others[] = {11000, 112, 26, 10334, 462};
    static const char *const labels[] = {"RetryableWriteError", "NoWritesPerformed"};
    if (!takes(conn->server, op)) {
        refuse(conn, op, state_changes[dice_between(0, 6)], labels, (int)dice_between(0, 2));
        return true;
    }
    if (!world.resting && dice_chance(world.knobs.server_error)) {
        refuse(conn, op, others[dice_between(0, 4)], labels, (int)dice_between(0, 2));
        return true;
    }
    return false;
}

static void append_cursor(bson_t *body, int64_t id)
{
    bson_t cursor;
    bson_t batch;
    BSON_APPEND_DOCUMENT_BEGIN(body, "cursor", &cursor);
    BSON_APPEND_ARRAY_BEGIN(&cursor, "firstBatch", &batch);
    bson_append_array_end(&cursor, &batch);
    BSON_APPEND_INT64(&cursor, "id", id);
    BSON_APPEND_UTF8(&cursor, "ns", "shop.things");
    bson_append_document_end(body, &cursor);
}

// What the operation does. Returns the cursor that its reply leaves open.
static int64_t take_effect(struct server_conn *conn, struct op *op)
{
    struct sim_server *server = conn->server;
    struct held *cursor = cursor_of(server, op);
    struct held *transaction = transaction_of(server, op);
    op->executed = true;
    set_in_use(server, op, false);
    if (op->kind == OP_OPEN_CURSOR) {
        struct held *opened = held_add(&server->cursors, ++server->last_cursor);
        opened->session = op->session;
        opened->conn = conn->id;
        opened->batches_left = (int)dice_between(1, 6);
        opened->last_op = op->id;
        return opened->id;
    }
    if (op->kind == OP_GET_MORE && cursor) {
        if (--cursor->batches_left > 0) {
            return cursor->id;
        }
        held_remove(&server->cursors, cursor);
    } else if (op->kind == OP_KILL_CURSORS && cursor) {
        held_remove(&server->cursors, cursor);
    } else if ((op->kind == OP_COMMIT || op->kind == OP_ABORT) && transaction) {
        held_remove(&server->transactions, transaction);
    }
    return 0;
}

static void answer_op(struct server_conn *conn, struct op *op)
{
    int64_t cursor = take_effect(conn, op);
    bson_t body = BSON_INITIALIZER;
    bool cursor_first = dice_chance(0.5);
    if (cursor_first && (cursor || op->kind == OP_GET_MORE)) {
        append_cursor(&body, cursor);
    }
    BSON_APPEND_INT64(&body, "id", op->id);
    padding_append(&body, op->id, op->reply_bytes);
    if (!cursor_first && (cursor || op->kind == OP_GET_MORE)) {
        append_cursor(&body, cursor);
    }
    BSON_APPEND_DOUBLE(&body, "ok", 1);
    TRACE("server %lld answers operation %lld", conn->server->index, op->id);
    server_conn_reply(conn, &body);
    bson_destroy(&body);
}

// killCursors or abortTransaction of weir's.
static void answer_own(struct server_conn *conn)
{
    struct sim_server *server = conn->server;
    bson_iter_t iter;
    bson_iter_t inner;
    bson_t body = BSON_INITIALIZER;
    if (bson_iter_init_find(&iter, conn->own, "cursors") && bson_iter_recurse(&iter, &inner)) {
        while (bson_iter_next(&inner)) {
            struct held *held = held_find(&server->cursors, bson_iter_int64(&inner));
            check_is_orphan(held, "cursor");
            if (held) {
                held_remove(&server->cursors, held);
            }
        }
    } else if (bson_iter_init(&iter, conn->own) &&
               bson_iter_find_descendant(&iter, "lsid.id", &inner)) {
        bson_subtype_t subtype;
        uint32_t len;
        const uint8_t *uuid;
        int64_t session;
        bson_iter_binary(&inner, &subtype, &len, &uuid);
        memcpy(&session, uuid, sizeof session);
        struct held *held = held_find(&server->transactions, session);
        check_is_orphan(held, "transaction");
        if (held) {
            held_remove(&server->transactions, held);
        }
    }
    TRACE("server %lld did what weir itself asked for", server->index);
    bson_destroy(conn->own);
    conn->own = NULL;
    BSON_APPEND_DOUBLE(&body, "ok", 1);
    server_conn_reply(conn, &body);
    bson_destroy(&body);
}

// --- sharing the cores --------------------------------------------------------------------------

static double rate(const struct sim_server *server)
{
    int cores = world.knobs.cores;
    return server->serving_count <= cores ? 1.0 : (double)cores / server->serving_count;
}

static void advance(struct sim_server *server)
{
    int64_t from_us = server->served_until_us;
    int64_t now_us = sim_now_us();
    if (from_us < server->stalled_until_us) {
        from_us = server->stalled_until_us < now_us ? server->stalled_until_us : now_us;
    }
    for (struct server_conn *conn = server->serving; conn; conn = conn->serving_next) {
        conn->left_us -= (double)(now_us - from_us) * rate(server);
    }
    server->served_until_us = now_us;
}

static void set_next(struct sim_server *server)
{
    double least_us = INFINITY;
    for (struct server_conn *conn = server->serving; conn; conn = conn->serving_next) {
        least_us = conn->left_us < least_us ? conn->left_us : least_us;
    }
    if (!server->serving) {
        event_cancel(&server->done);
        return;
    }
    int64_t from_us = sim_now_us();
    from_us = from_us < server->stalled_until_us ? server->stalled_until_us : from_us;
    event_set(&server->done, from_us + (least_us > 0 ? (int64_t)ceil(least_us / rate(server)) : 0));
}

static void stop_serving(struct server_conn *conn)
{
    struct server_conn **at = &conn->server->serving;
    while (*at != conn) {
        at = &(*at)->serving_next;
    }
    *at = conn->serving_next;
    conn->serving = false;
    conn->server->serving_count--;
}

static struct server_conn *first_done(struct sim_server *server)
{
    struct server_conn *conn = server->serving;
    while (conn && conn->left_us > 0.5) {
        conn = conn->serving_next;
    }
    return conn;
}

static void some_are_done(void *arg)
{
    struct sim_server *server = arg;
    advance(server);
    struct server_conn *conn;
    while ((conn = first_done(server))) {
        stop_serving(conn);
        if (conn->op) {
            answer_op(conn, op_find(conn->op));
        } else {
            answer_own(conn);
        }
    }
    set_next(server);
}

static void serve(struct server_conn *conn, int64_t demand_us)
{
    struct sim_server *server = conn->server;
    advance(server);
    conn->serving = true;
    conn->began_us = sim_now_us();
    conn->left_us = (double)demand_us;
    conn->serving_next = server->serving;
    server->serving = conn;
    server->serving_count++;
    set_next(server);
}

void service_go_on(struct sim_server *server)
{
    set_next(server);
}

// --- from begin to end --------------------------------------------------------------------------

// A read, or a write that a server does at most once.
static bool may_come_again(const struct op *op)
{
    return is_read(op) || op->kind == OP_RETRYABLE_INSERT;
}

// Whether the reply that told of it may have been lost, and another one opened in its place.
static bool may_be_unknown(const struct held *cursor)
{
    return op_find(cursor->last_op)->received > 1;
}

// What goes on with a cursor or a transaction goes to its server, unless it came late.
static void check_affinity(struct sim_server *here, const struct op *op)
{
    for (int i = 0; i < world.knobs.servers; i++) {
        struct sim_server *server = &world.servers[i];
        const struct held *cursor = cursor_of(server, op);
        bool other = cursor && (cursor->session != op->session || is_late(op, cursor) ||
                                may_be_unknown(cursor));
        HOLDS(server == here || !cursor || other || cursor_of(here, op),
              "operation %lld goes on with a cursor of server %d and comes to server %d",
              (long long)op->id, i, here->index);
        const struct held *transaction = transaction_of(server, op);
        bool statement = op->kind == OP_TRANSACT && !op->starts_transaction;
        HOLDS(server == here || !statement || !transaction || is_late(op, transaction),
              "operation %lld belongs to a transaction of server %d and comes to server %d",
              (long long)op->id, i, here->index);
    }
}

// Behind a load balancer it goes to its connection.
static void check_balanced_affinity(struct server_conn *conn, const struct op *op)
{
    bool statement = op->kind == OP_TRANSACT && !op->starts_transaction;
    const struct held *cursor = cursor_of(conn->server, op);
    const struct held *transaction = statement ? transaction_of(conn->server, op) : NULL;
    HOLDS(!cursor || cursor->conn == conn->id,
          "operation %lld goes on with a cursor of another connection", (long long)op->id);
    HOLDS(!transaction || transaction->conn == conn->id,
          "operation %lld belongs to a transaction of another connection", (long long)op->id);
}

static void check_arrival(const struct server_conn *conn, const struct op *op, const uint8_t *at,
                          size_t len)
{
    HOLDS(op->received == 0 || may_come_again(op), "operation %lld (%s) is sent a second time",
          (long long)op->id, op_kind_name(op->kind));
    HOLDS(!op->told_not_executed, "operation %lld is sent after it was answered as not executed",
          (long long)op->id);
    const char *difference = message_difference(op, at, len);
    HOLDS(!difference, "operation %lld (%s) is not sent as it came: %s", (long long)op->id,
          op_kind_name(op->kind), difference);
    // A server that slept may find what weir has given up since, and so answered for.
    bool given_up = conn->end->in->ended;
    HOLDS(given_up || app_is_next_in_order(op), "operation %lld overtook one of its own connection",
          (long long)op->id);
}

void service_begin(struct server_conn *conn, const uint8_t *at, size_t len, const bson_t *body)
{
    bson_iter_t iter;
    if (!bson_iter_init_find(&iter, body, "comment")) {
        conn->op = 0;
        conn->own = bson_copy(body);
        serve(conn, dice_scale(1, 1000));
        return;
    }
    struct op *op = op_find(bson_iter_int64(&iter));
    HOLDS(op, "weir sends an operation that no app has");
    check_arrival(conn, op, at, len);
    check_affinity(conn->server, op);
    if (world.knobs.balanced) {
        check_balanced_affinity(conn, op);
    }
    op->received++;
    conn->op = op->id;
    TRACE("server %lld receives operation %lld (%s) on connection %lld", conn->server->index,
          op->id, op_kind_name(op->kind), conn->end->conn->id);
    if (refuse_if_unwell(conn, op) || refuse_if_lost(conn, op)) {
        return;
    }
    if (op->starts_transaction && !transaction_of(conn->server, op)) {
        held_add(&conn->server->transactions, op->session)->conn = conn->id;
    }
    set_in_use(conn->server, op, true);
    serve(conn, op->demand_us);
}

// Only what has run for long, or for nobody, and works on documents.
static void check_is_runaway(const struct server_conn *conn, const struct op *op)
{
    const struct net_profile *net = &world.knobs.server_net;
    int64_t travel_us = net->delay_most_us + net->stall_us;
    int64_t ran_us = sim_now_us() - conn->began_us + travel_us;
    bool long_enough = world.knobs.kill_after_us > 0 && ran_us >= world.knobs.kill_after_us;
    if (operator_may_end(op, ran_us)) {
        return;
    }
    HOLDS(op->kind != OP_COMMIT && op->kind != OP_ABORT && op->kind != OP_KILL_CURSORS,
          "weir kills operation %lld (%s)", (long long)op->id, op_kind_name(op->kind));
    HOLDS(long_enough || !app_connection_is_open(op->conn),
          "weir kills operation %lld, which has run for %lld us", (long long)op->id,
          (long long)(sim_now_us() - conn->began_us));
}

// With an operation go its cursor and its transaction.
static void end_killed(struct server_conn *conn, const struct op *op)
{
    struct sim_server *server = conn->server;
    struct held *cursor = op->kind == OP_GET_MORE ? cursor_of(server, op) : NULL;
    struct held *transaction = transaction_of(server, op);
    if (cursor) {
        held_remove(&server->cursors, cursor);
    }
    if (transaction) {
        held_remove(&server->transactions, transaction);
    }
    refuse(conn, op, 11601, NULL, 0);
}

void server_kill(int index, int64_t connection, int64_t asked_us)
{
    struct sim_server *server = &world.servers[index];
    struct server_conn *conn = server->serving;
    while (conn && conn->id != connection) {
        conn = conn->serving_next;
    }
    if (!conn || conn->op == 0 || conn->began_us >= asked_us) {
        return;
    }
    const struct op *op = op_find(conn->op);
    TRACE("server %lld kills operation %lld", index, op->id);
    check_is_runaway(conn, op);
    advance(server);
    stop_serving(conn);
    end_killed(conn, op);
    set_next(server);
}

// An operation whose connection is closed may be interrupted, or go on unheard.
static void interrupt(struct server_conn *conn)
{
    advance(conn->server);
    stop_serving(conn);
    set_next(conn->server);
    if (conn->own) {
        bson_destroy(conn->own);
        conn->own = NULL;
    } else if (dice_chance(0.5)) {
        take_effect(conn, op_find(conn->op));
    } else {
        set_in_use(conn->server, op_find(conn->op), false);
    }
}

void service_drop(struct server_conn *conn)
{
    if (conn->serving) {
        interrupt(conn);
    }
    if (world.knobs.balanced) {
        forget_of_conn(&conn->server->cursors, conn->id);
        forget_of_conn(&conn->server->transactions, conn->id);
    }
}

void service_init(struct sim_server *server)
{
    event_init(&server->done, some_are_done, server);
}

void service_fini(struct sim_server *server)
{
    event_cancel(&server->done);
    free(server->cursors.items);
    free(server->transactions.items);
}

int servers_cursor_count(void)
{
    size_t count = 0;
    for (int i = 0; i < world.knobs.servers; i++) {
        count += world.servers[i].cursors.count;
    }
    return (int)count;
}

int servers_transaction_count(void)
{
    size_t count = 0;
    for (int i = 0; i < world.knobs.servers; i++) {
        count += world.servers[i].transactions.count;
    }
    return (int)count;
}
