// SPDX-License-Identifier: Apache-2.0
//
// What an app does next.

#include "tests/sim/sim_app.h"
#include "tests/sim/sim_message.h"

// --- operations of each kind --------------------------------------------------------------------

static void take_cursor(struct app *app, struct op *op)
{
    int i = (int)dice_between(0, app->cursor_count - 1);
    op->cursor_id = app->cursors[i].id;
    op->session = app->cursors[i].session;
    app->cursors[i] = app->cursors[--app->cursor_count];
}

static struct app_transaction *find_transaction(struct app *app, bool open)
{
    int from = (int)dice_between(0, APP_TRANSACTIONS - 1);
    for (int i = 0; i < APP_TRANSACTIONS; i++) {
        struct app_transaction *transaction = &app->transactions[(from + i) % APP_TRANSACTIONS];
        if (!transaction->in_use && (transaction->session != 0) == open) {
            return transaction;
        }
    }
    return NULL;
}

static int64_t new_session(void)
{
    return (int64_t)(dice() >> 1) + 1;
}

static void join_transaction(struct app_conn *conn, struct op *op,
                             struct app_transaction *transaction)
{
    op->in_transaction = true;
    if (transaction->session == 0) {
        transaction->session = new_session();
        transaction->txn_number = dice_between(1, 1000);
        op->starts_transaction = true;
    }
    op->session = transaction->session;
    op->txn_number = transaction->txn_number;
    transaction->in_use = true;
    conn->transaction = transaction;
    if (op->kind != OP_TRANSACT) {
        transaction->session = 0; // over, however it ends
    }
}

static struct app_transaction *transaction_for(struct app *app, enum op_kind *kind)
{
    struct app_transaction *transaction = find_transaction(app, true);
    if (transaction) {
        return transaction;
    }
    *kind = OP_TRANSACT;
    return find_transaction(app, false);
}

// A kind for which there is what it needs.
static enum op_kind choose_kind(struct app *app)
{
    enum op_kind kind = (enum op_kind)dice_weighted(world.knobs.mix, OP_KIND_COUNT);
    bool needs_cursor = kind == OP_GET_MORE || kind == OP_KILL_CURSORS;
    if (needs_cursor && app->cursor_count == 0) {
        return OP_OPEN_CURSOR;
    }
    return kind;
}

static int64_t demand_of(enum op_kind kind)
{
    const struct knobs *knobs = &world.knobs;
    int64_t most_us = kind == OP_SLOW_FIND ? knobs->slow_demand_us : knobs->demand_us;
    return dice_between(most_us / 2, most_us);
}

static size_t reply_bytes_of(enum op_kind kind)
{
    const struct knobs *knobs = &world.knobs;
    int64_t most = (int64_t)(kind == OP_LARGE_FIND ? knobs->large_bytes : knobs->reply_bytes);
    return (size_t)dice_between(0, most);
}

static void number(struct app_conn *conn, struct op *op)
{
    op->app = conn->app->index;
    op->conn = conn->id;
    op->request_id = ++conn->next_request_id;
    op->sent_us = sim_now_us();
}

static struct op *new_op(struct app_conn *conn, enum op_kind kind)
{
    static const char *const modes[] = {"primaryPreferred", "secondary", "secondaryPreferred",
                                        "nearest"};
    struct app_transaction *transaction = NULL;
    if (kind == OP_TRANSACT && dice_chance(0.4)) {
        transaction = find_transaction(conn->app, false); // one more
    }
    if (!transaction && (kind == OP_TRANSACT || kind == OP_COMMIT || kind == OP_ABORT)) {
        transaction = transaction_for(conn->app, &kind);
        kind = transaction ? kind : OP_PING;
    }
    struct op *op = op_new(kind);
    number(conn, op);
    op->demand_us = demand_of(kind);
    op->reply_bytes = reply_bytes_of(kind);
    if (transaction) {
        join_transaction(conn, op, transaction);
    }
    if (kind == OP_GET_MORE || kind == OP_KILL_CURSORS) {
        take_cursor(conn->app, op);
    }
    if (kind == OP_OPEN_CURSOR) {
        op->session = new_session();
    }
    if (kind == OP_RETRYABLE_INSERT) {
        op->session = new_session();
        op->txn_number = dice_between(1, 1000);
    }
    if (kind == OP_LARGE_INSERT) {
        op->message_bytes = (size_t)dice_scale(1, (int64_t)world.knobs.large_bytes);
    }
    if (!transaction && kind != OP_GET_MORE && dice_chance(world.knobs.secondary)) {
        op->read_mode = modes[dice_between(0, 3)]; // writes may say it too
    }
    if (dice_chance(world.knobs.max_time)) {
        op->max_time_ms = dice_scale(1, 2000);
    }
    return op;
}

static void append_message(struct app_conn *conn, const struct op *op)
{
    struct buffer plain = {0};
    bool compresses = conn->compressors.count > 0 && op->kind != OP_HELLO && dice_chance(0.9);
    message_of_op(op, compresses ? &plain : &conn->out);
    if (compresses) {
        message_deflate(conn->compressors.items[0],
                        (struct bytes){buffer_at(&plain), buffer_held(&plain)}, &conn->out);
    }
    buffer_fini(&plain);
}

static void add_unacknowledged(struct app_conn *conn)
{
    for (int64_t i = dice_between(1, 6); i > 0; i--) {
        struct op *op = op_new(OP_UNACKNOWLEDGED);
        number(conn, op);
        op->unacknowledged = true;
        op->demand_us = demand_of(OP_UNACKNOWLEDGED);
        op->message_bytes = dice_chance(0.2) ? (size_t)dice_between(0, 20000) : 0;
        append_message(conn, op);
    }
}

// Several at once, as no driver does, to be answered in turn.
static void add_pipeline(struct app_conn *conn)
{
    int64_t count = dice_between(2, APP_AWAITED);
    for (int64_t i = 0; i < count; i++) {
        static const enum op_kind kinds[] = {OP_FIND, OP_INSERT, OP_PING, OP_LARGE_INSERT};
        enum op_kind kind = kinds[dice_between(0, 3)];
        struct op *op = new_op(conn, kind);
        *(i == 0 ? &conn->op : &conn->later[i - 1]) = op->id;
        append_message(conn, op);
    }
    conn->later[count - 1] = 0;
}

// The same once more: a new operation to us, with the session and number of the old.
static void add_retry(struct app_conn *conn)
{
    struct op *op = op_new(conn->retry_kind);
    const struct op *old = op_find(conn->retry_of);
    struct op copy = *old;
    copy.id = op->id;
    copy.received = 0;
    copy.executed = copy.answered = copy.told_not_executed = false;
    *op = copy;
    number(conn, op);
    conn->op = op->id;
    conn->retry_of = 0;
    append_message(conn, op);
}

static void choose_hello(struct app_conn *conn)
{
    struct op *op = op_new(OP_HELLO);
    number(conn, op);
    conn->greeted = true;
    conn->op = op->id;
    append_message(conn, op);
}

bool choose_next(struct app_conn *conn)
{
    conn->sends_several = false;
    if (conn->left == 0) {
        return false;
    }
    if (!conn->greeted || conn->is_monitor) {
        choose_hello(conn);
        return true;
    }
    if (conn->retry_of) {
        add_retry(conn);
        return true;
    }
    conn->left--;
    conn->sends_several = true;
    if (dice_chance(world.knobs.pipeline)) {
        add_pipeline(conn);
        return true;
    }
    enum op_kind kind = choose_kind(conn->app);
    int64_t first = (int64_t)world.op_count + 1;
    if (kind == OP_UNACKNOWLEDGED) {
        add_unacknowledged(conn);
        kind = dice_chance(0.5) ? OP_PING : OP_FIND;
    }
    struct op *op = new_op(conn, kind);
    conn->op = op->id;
    for (int64_t id = first; id < op->id; id++) {
        op_find(id)->followed_by = op->id;
    }
    conn->sends_several = first < op->id;
    if (kind == OP_MALFORMED) {
        message_malformed(op, &conn->out);
    } else {
        append_message(conn, op);
    }
    return true;
}
