// SPDX-License-Identifier: Apache-2.0

#include "tests/sim/sim_app.h"

#include <stdlib.h>
#include <string.h>

#include "proxy/mem.h"
#include "tests/sim/sim_message.h"

// Of each connection that ever was.
static struct {
    bool open;
    bool culled;
    int64_t last_received;
} * registry;
static size_t registered;
static size_t registry_capacity;

static bool stopping;

bool app_connection_is_open(int64_t conn)
{
    return registry[conn].open;
}

void app_connection_cull(int64_t conn)
{
    registry[conn].culled = true;
}

bool app_connection_is_culled(int64_t conn)
{
    return registry[conn].culled;
}

bool app_is_next_in_order(const struct op *op)
{
    bool next = op->id >= registry[op->conn].last_received; // the same again: see sim_service.c
    registry[op->conn].last_received = op->id;
    return next;
}

static int64_t register_conn(void)
{
    if (registered == registry_capacity) {
        registry_capacity = registry_capacity ? 2 * registry_capacity : 64;
        registry = xrealloc(registry, registry_capacity * sizeof *registry);
    }
    registry[registered].open = true;
    registry[registered].culled = false;
    registry[registered].last_received = 0;
    return (int64_t)registered++;
}

// --- the connection -----------------------------------------------------------------------------

static void let_go(struct app_conn *conn)
{
    if (conn->transaction) {
        conn->transaction->in_use = false;
        conn->transaction = NULL;
    }
    conn->op = 0;
    memset(conn->later, 0, sizeof conn->later);
    conn->retry_of = 0;
    conn->mute_since_us = 0;
    conn->end = NULL;
    registry[conn->id].open = false;
    buffer_fini(&conn->in);
    buffer_fini(&conn->out);
    event_cancel(&conn->look);
    event_cancel(&conn->deadline);
    event_set(&conn->act, conn->left > 0 && !stopping
                              ? sim_now_us() + dice_between(0, world.knobs.think_us)
                              : INT64_MAX);
}

static void leave(struct app_conn *conn, const char *why)
{
    TRACE("app connection %lld leaves: %s (operation %lld)", conn->id, why, conn->op);
    if (dice_chance(0.2)) {
        net_reset(conn->end);
    } else {
        net_close(conn->end);
    }
    let_go(conn);
}

static void flush(struct app_conn *conn)
{
    while (conn->end && buffer_held(&conn->out) > 0 && !conn->half_closed &&
           conn->mute_since_us == 0) {
        size_t len = buffer_held(&conn->out);
        if (conn->quit_at >= 0 && (size_t)conn->quit_at < len) {
            len = (size_t)conn->quit_at;
        }
        enum net_status status = NET_OK;
        if (len > 0) {
            status = net_write(conn->end, buffer_at(&conn->out), len, &len);
        }
        if (status != NET_OK) {
            return; // what it is, the read tells
        }
        buffer_consume(&conn->out, len);
        if (conn->quit_at < 0) {
            continue;
        }
        conn->quit_at -= (int64_t)len;
        if (conn->quit_at == 0 && !conn->sends_several && dice_chance(world.knobs.mute)) {
            TRACE("app connection %lld falls silent (operation %lld)", conn->id, conn->op);
            conn->mute_since_us = sim_now_us();
            event_cancel(&conn->deadline);
        } else if (conn->quit_at == 0 && dice_chance(world.knobs.half_close)) {
            TRACE("app connection %lld ends its side (operation %lld)", conn->id, conn->op);
            conn->half_closed = true;
            net_half_close(conn->end);
        } else if (conn->quit_at == 0) {
            leave(conn, "in the middle of sending");
        }
    }
}

static void send_next(struct app_conn *conn)
{
    size_t held = buffer_held(&conn->out);
    if (!choose_next(conn)) {
        leave(conn, "has done its work");
        return;
    }
    size_t len = buffer_held(&conn->out) - held;
    struct op *op = op_find(conn->op);
    op->sent_us = sim_now_us();
    TRACE("app connection %lld sends operation %lld (%s), %lld bytes", conn->id, op->id,
          op_kind_name(op->kind), len);
    conn->quit_at = -1;
    conn->quit_reading_at = -1;
    if (!conn->is_monitor && dice_chance(world.knobs.quit)) {
        if (dice_chance(0.6)) {
            conn->quit_at = dice_between(1, (int64_t)len - 1);
        } else {
            conn->quit_reading_at = dice_between(0, (int64_t)op->reply_bytes + 100);
        }
    }
    bool gives_up = !conn->is_monitor && dice_chance(world.knobs.deadline);
    event_set(&conn->deadline,
              gives_up ? sim_now_us() + dice_scale(1, world.knobs.deadline_us) : INT64_MAX);
    flush(conn);
}

static void think(struct app_conn *conn, int64_t at_least_us)
{
    int64_t think_us = conn->is_monitor ? dice_scale(1000, 3000000) : world.knobs.think_us;
    event_set(&conn->act, sim_now_us() + at_least_us + dice_between(0, think_us));
}

static void read_agreement(struct app_conn *conn, const uint8_t *at, size_t len)
{
    bson_t body;
    bson_iter_t iter;
    struct bytes array = {0};
    uint32_t array_len;
    if (message_body(at, len, &body) && bson_iter_init_find(&iter, &body, "compression")) {
        bson_iter_array(&iter, &array_len, &array.at);
        array.len = array_len;
        conn->compressors = compressor_list_read(array);
    }
}

static void take_reply(struct app_conn *conn, const uint8_t *at, size_t len)
{
    HOLDS(conn->op, "connection %lld gets a reply that nobody waits for", (long long)conn->id);
    struct op *op = op_find(conn->op);
    int64_t backoff_us = 0;
    event_cancel(&conn->deadline);
    enum verdict verdict = judge_reply(conn, op, at, len, &backoff_us);
    if (op->kind == OP_HELLO) {
        read_agreement(conn, at, len);
    }
    op->answered = true;
    world.answered++;
    conn->op = conn->later[0];
    memmove(conn->later, conn->later + 1, sizeof conn->later - sizeof conn->later[0]);
    if (conn->transaction) {
        conn->transaction->in_use = false;
        conn->transaction = NULL;
    }
    if (verdict == VERDICT_CLOSE) {
        leave(conn, "after its reply");
        return;
    }
    if (conn->op) {
        return; // there is more to come
    }
    bool retries = verdict != VERDICT_GO_ON && conn->tries < 2;
    conn->retry_of = retries ? op->id : 0;
    conn->tries = retries ? conn->tries + 1 : 0;
    if (verdict == VERDICT_RETRY_NOW && retries) {
        event_set(&conn->act, sim_now_us());
    } else {
        think(conn, retries ? backoff_us : 0);
    }
}

static void take_replies(struct app_conn *conn)
{
    while (conn->end && buffer_held(&conn->in) >= 16) {
        const uint8_t *at = buffer_at(&conn->in);
        size_t len = (size_t)number_at(at);
        HOLDS(len >= 16 && len <= 48000000, "connection %lld gets a reply of impossible length",
              (long long)conn->id);
        if (buffer_held(&conn->in) < len) {
            return;
        }
        // The buffer may go with the connection.
        struct buffer message = {0};
        if (!message_inflate(at, len, &conn->compressors, &message)) {
            buffer_append(&message, at, len);
        }
        buffer_consume(&conn->in, len);
        take_reply(conn, buffer_at(&message), buffer_held(&message));
        buffer_fini(&message);
    }
}

static enum net_status read_some(struct app_conn *conn)
{
    size_t room = conn->is_slow ? (size_t)dice_between(1, 5000) : 65536;
    size_t len;
    enum net_status status = net_read(conn->end, buffer_reserve(&conn->in, room), room, &len);
    if (status == NET_OK) {
        buffer_commit(&conn->in, len);
    }
    return status;
}

static void look_later(void *arg)
{
    struct app_conn *conn = arg;
    int64_t pause_us = conn->is_slow ? world.knobs.slow_reader_us : 20;
    if (!event_is_set(&conn->look)) {
        event_set(&conn->look, sim_now_us() + dice_between(0, pause_us));
    }
}

static void look(void *arg)
{
    struct app_conn *conn = arg;
    flush(conn);
    enum net_status status = NET_OK;
    while (conn->end && status == NET_OK) {
        status = read_some(conn);
        if (status == NET_OK && conn->is_slow) {
            look_later(conn);
            break;
        }
    }
    if (!conn->end) {
        return;
    }
    if (conn->quit_reading_at >= 0 && buffer_held(&conn->in) >= (size_t)conn->quit_reading_at &&
        buffer_held(&conn->in) > 0) {
        leave(conn, "in the middle of its reply");
        return;
    }
    take_replies(conn);
    if (conn->end && (status == NET_ENDED || status == NET_FAILED)) {
        TRACE("app connection %lld was closed (operation %lld)", conn->id, conn->op);
        judge_end(conn);
        net_close(conn->end);
        let_go(conn);
    }
}

static void connect_and_greet(struct app_conn *conn)
{
    conn->end = world_connect();
    if (!conn->end) {
        return; // nobody listens any more
    }
    conn->id = register_conn();
    conn->half_closed = false;
    conn->greeted = false;
    conn->compressors = (struct compressor_list){0};
    conn->was_slow = false;
    conn->is_slow = !conn->is_monitor && dice_chance(world.knobs.slow_reader);
    conn->next_request_id = world.knobs.unique_ids ? (int32_t)(conn->id * 10000) : 0;
    net_attend(conn->end, look_later, conn);
    TRACE("app connection %lld connects", conn->id);
    send_next(conn);
}

static void act(void *arg)
{
    struct app_conn *conn = arg;
    if (!conn->end && !stopping) {
        connect_and_greet(conn);
    } else if (conn->end) {
        send_next(conn);
    }
}

static void give_up(void *arg)
{
    struct app_conn *conn = arg;
    leave(conn, "gives up");
}

// --- all of them --------------------------------------------------------------------------------

static void begin_conn(struct app *app, int i)
{
    struct app_conn *conn = &app->conns[i];
    conn->app = app;
    conn->is_monitor = i == app->conn_count - 1;
    conn->left = conn->is_monitor ? INT32_MAX : world.knobs.operations;
    event_init(&conn->act, act, conn);
    event_init(&conn->look, look, conn);
    event_init(&conn->deadline, give_up, conn);
    event_set(&conn->act, sim_now_us() + dice_scale(1, 100000));
}

void apps_begin(void)
{
    stopping = false;
    registered = 0;
    world.apps = xcalloc((size_t)world.knobs.apps, sizeof *world.apps);
    for (int i = 0; i < world.knobs.apps; i++) {
        struct app *app = &world.apps[i];
        app->index = i;
        app->conn_count = world.knobs.connections + 1;
        app->conns = xcalloc((size_t)app->conn_count, sizeof *app->conns);
        for (int j = 0; j < app->conn_count; j++) {
            begin_conn(app, j);
        }
    }
}

static void each_conn(void (*fn)(struct app_conn *conn))
{
    for (int i = 0; i < world.knobs.apps; i++) {
        for (int j = 0; j < world.apps[i].conn_count; j++) {
            fn(&world.apps[i].conns[j]);
        }
    }
}

static void stop(struct app_conn *conn)
{
    conn->left = 0;
    conn->retry_of = 0;
    conn->was_slow |= conn->is_slow; // what it did not take is still on its way
    conn->is_slow = false;
    if (!conn->end) {
        event_cancel(&conn->act);
    } else if (conn->mute_since_us) {
        leave(conn, "stops");
    } else if (!conn->op) {
        event_set(&conn->act, sim_now_us());
    } else {
        look_later(conn);
    }
}

static void stop_abruptly(struct app_conn *conn)
{
    conn->left = 0;
    event_cancel(&conn->act);
    if (conn->end) {
        leave(conn, "stops");
    }
}

void apps_stop(bool abruptly)
{
    stopping = true;
    each_conn(abruptly ? stop_abruptly : stop);
}

bool apps_are_gone(void)
{
    for (int i = 0; i < world.knobs.apps; i++) {
        for (int j = 0; j < world.apps[i].conn_count; j++) {
            if (world.apps[i].conns[j].end) {
                return false;
            }
        }
    }
    return true;
}

static void finish(struct app_conn *conn)
{
    event_cancel(&conn->act);
    event_cancel(&conn->look);
    event_cancel(&conn->deadline);
    buffer_fini(&conn->in);
    buffer_fini(&conn->out);
}

void apps_finish(void)
{
    each_conn(finish);
    for (int i = 0; i < world.knobs.apps; i++) {
        free(world.apps[i].conns);
    }
    free(world.apps);
    world.apps = NULL;
    free(registry);
    registry = NULL;
    registry_capacity = 0;
}

// weir answers hello itself, whatever is going on.
static int64_t longest_hello_us(void)
{
    const struct net_profile *net = &world.knobs.app_net;
    int64_t delay_us =
        net->stall > 0 && net->stall_us > net->delay_most_us ? net->stall_us : net->delay_most_us;
    return 12 * delay_us + check_slack_us();
}

// Where nothing fails, everybody's work one after the other is the worst that can be in front.
static int64_t longest_operation_us(void)
{
    const struct knobs *knobs = &world.knobs;
    if (!world.calm || knobs->slow_reader > 0) {
        return INT64_C(600000000);
    }
    int64_t demand_us = knobs->mix[OP_SLOW_FIND] && knobs->slow_demand_us > knobs->demand_us
                            ? knobs->slow_demand_us
                            : knobs->demand_us;
    int64_t connections = knobs->apps * (knobs->connections + 1);
    return APP_AWAITED * connections * (demand_us + longest_hello_us() / 4) +
           knobs->server_wait_us + knobs->max_wait_us + longest_hello_us();
}

// weir closes who begins a message and does not end it.
static void check_mute(const struct app_conn *conn)
{
    int64_t limit_us =
        world.config.handshake_timeout_us + 2 * world.knobs.message_timeout_us + longest_hello_us();
    int64_t mute_us = sim_now_us() - conn->mute_since_us;
    HOLDS(mute_us < limit_us, "connection %lld is silent in the middle of a message since %lld us",
          (long long)conn->id, (long long)mute_us);
}

static void check_conn(struct app_conn *conn)
{
    if (conn->end && conn->mute_since_us && !world.ending) {
        check_mute(conn);
    }
    if (!conn->end || !conn->op || conn->is_slow || conn->was_slow || conn->half_closed ||
        conn->mute_since_us) {
        return;
    }
    const struct op *op = op_find(conn->op);
    int64_t waited_us = sim_now_us() - op->sent_us;
    int64_t limit_us = op->kind == OP_HELLO ? longest_hello_us() : longest_operation_us();
    HOLDS(waited_us < limit_us, "operation %lld (%s) has had no answer for %lld us",
          (long long)op->id, op_kind_name(op->kind), (long long)waited_us);
}

void apps_check_progress(void)
{
    each_conn(check_conn);
}
