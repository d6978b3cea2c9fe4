// SPDX-License-Identifier: Apache-2.0
//
// Connections of the servers, and what is said on them. What an operation does is in sim_service.c,
// what goes wrong in sim_fault.c.

#include "tests/sim/sim_server.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/mem.h"
#include "tests/sim/sim_message.h"
#include "tests/sim/sim_service.h"

// --- replies ------------------------------------------------------------------------------------

static void flush(struct server_conn *conn)
{
    while (conn->end && buffer_held(&conn->out) > 0) {
        size_t len;
        enum net_status status =
            net_write(conn->end, buffer_at(&conn->out), buffer_held(&conn->out), &len);
        if (status == NET_FAILED) {
            server_conn_close(conn, false);
        }
        if (status != NET_OK) {
            return;
        }
        buffer_consume(&conn->out, len);
    }
    if (conn->closes_after_reply && conn->end) {
        server_conn_close(conn, dice_chance(0.3));
    }
}

// What a reply that is a lie can be. All but EXTRA leave the connection in doubt at once.
enum lie {
    LIE_RESPONSE_TO,
    LIE_BSON,
    LIE_EXTRA,
    LIE_TRUNCATED,
    LIE_LENGTH,
    LIE_MORE_TO_COME,
    LIE_OPCODE,
    LIE_COUNT
};

static void lie_about(struct server_conn *conn, size_t start)
{
    uint8_t *at = buffer_at(&conn->out) + start;
    size_t len = buffer_held(&conn->out) - start;
    enum lie lie = (enum lie)dice_between(0, LIE_COUNT - 1);
    TRACE("server %lld lies (%lld) on connection %lld", conn->server->index, lie,
          conn->end->conn->id);
    conn->doubtful = lie != LIE_EXTRA;
    int32_t wrong;
    switch (lie) {
    case LIE_RESPONSE_TO:
        at[8] ^= 0x55;
        break;
    case LIE_BSON:
        wrong = (int32_t)len;
        memcpy(at + 21, &wrong, sizeof wrong);
        break;
    case LIE_EXTRA: {
        struct buffer copy = {0};
        buffer_append(&copy, at, len);
        buffer_append(&conn->out, buffer_at(&copy), len);
        buffer_fini(&copy);
        break;
    }
    case LIE_TRUNCATED:
        conn->out.end -= (size_t)dice_between(1, (int64_t)len);
        conn->closes_after_reply = true;
        break;
    case LIE_LENGTH:
        wrong = 50000000;
        memcpy(at, &wrong, sizeof wrong);
        break;
    case LIE_MORE_TO_COME:
        at[16] |= 2;
        break;
    case LIE_OPCODE:
        at[12] ^= 1;
        break;
    case LIE_COUNT:
        break;
    }
}

static void append_reply(struct server_conn *conn, const bson_t *body)
{
    struct buffer plain = {0};
    message_append(&plain, (int32_t)dice(), conn->request_id, 0, body);
    struct bytes message = {buffer_at(&plain), buffer_held(&plain)};
    if (conn->compressor && dice_chance(0.9)) {
        message_deflate(conn->compressor, message, &conn->out);
    } else {
        buffer_append(&conn->out, message.at, message.len);
    }
    buffer_fini(&plain);
}

void server_conn_reply(struct server_conn *conn, const bson_t *body)
{
    size_t start = buffer_held(&conn->out);
    conn->busy = false;
    append_reply(conn, body);
    if (!world.resting && dice_chance(world.knobs.lie)) {
        lie_about(conn, start);
    }
    flush(conn);
}

// --- requests -----------------------------------------------------------------------------------

static void answer_hello(struct server_conn *conn, const bson_t *hello)
{
    if (bson_has_field(hello, "compression") && dice_chance(0.8)) {
        conn->compressors = all_compressors(0);
    }
    bson_t body = BSON_INITIALIZER;
    conn->greeted = true;
    BSON_APPEND_BOOL(&body, "ismaster", conn->server->index == world.primary);
    BSON_APPEND_INT32(&body, "maxWireVersion", 21);
    BSON_APPEND_INT64(&body, "connectionId", conn->id);
    if (world.knobs.balanced) {
        BSON_APPEND_INT32(&body, "serviceId", 1);
    }
    compressor_list_append(&conn->compressors, &body);
    BSON_APPEND_DOUBLE(&body, "ok", 1);
    server_conn_reply(conn, &body);
    bson_destroy(&body);
}

static void answer_auth(struct server_conn *conn)
{
    bson_t body = BSON_INITIALIZER;
    conn->auth_rounds++;
    BSON_APPEND_DOUBLE(&body, "ok", 1);
    server_conn_reply(conn, &body);
    bson_destroy(&body);
}

static void handle(struct server_conn *conn, const uint8_t *at, size_t len)
{
    bson_t body;
    bson_iter_t iter;
    HOLDS(!conn->busy, "weir sent a second request on a connection before the first was answered");
    HOLDS(!conn->doubtful, "weir goes on with a connection after a reply that was no reply");
    HOLDS(number_at(at + 12) == 2013 && message_body(at, len, &body) &&
              bson_iter_init(&iter, &body) && bson_iter_next(&iter),
          "weir sent a message that cannot be read");
    conn->busy = true;
    conn->request_id = number_at(at + 4);
    const char *command = bson_iter_key(&iter);
    if (strcmp(command, world.knobs.balanced ? "hello" : "isMaster") == 0) {
        HOLDS(!conn->greeted, "weir said hello twice");
        answer_hello(conn, &body);
    } else if (strcmp(command, "saslContinue") == 0) {
        answer_auth(conn);
    } else {
        HOLDS(conn->greeted && conn->auth_rounds == world.knobs.auth_rounds,
              "weir uses a connection that is not ready");
        service_begin(conn, at, len, &body);
    }
}

static void take_messages(struct server_conn *conn)
{
    while (conn->end && buffer_held(&conn->in) >= 16) {
        const uint8_t *at = buffer_at(&conn->in);
        size_t len = (size_t)number_at(at);
        HOLDS(len >= 16 && len <= 48000000, "weir sent a message of impossible length");
        if (buffer_held(&conn->in) < len) {
            return;
        }
        struct buffer inflated = {0};
        conn->compressor = message_inflate(at, len, &conn->compressors, &inflated);
        if (conn->compressor) {
            handle(conn, buffer_at(&inflated), buffer_held(&inflated));
        } else {
            handle(conn, at, len);
        }
        buffer_fini(&inflated);
        buffer_consume(&conn->in, len);
    }
}

static void look(void *arg)
{
    struct server_conn *conn = arg;
    enum net_status status = NET_OK;
    if (conn->server->stalled_until_us > sim_now_us()) {
        event_set(&conn->look, conn->server->stalled_until_us);
        return;
    }
    flush(conn);
    while (conn->end && status == NET_OK) {
        size_t len;
        const size_t room = 65536;
        status = net_read(conn->end, buffer_reserve(&conn->in, room), room, &len);
        if (status == NET_OK) {
            buffer_commit(&conn->in, len);
        }
    }
    take_messages(conn);
    if (conn->end && (status == NET_ENDED || status == NET_FAILED)) {
        server_conn_close(conn, false);
    }
    if (!conn->end) {
        server_conn_free(conn);
    }
}

// --- life ---------------------------------------------------------------------------------------

static void changed(void *arg)
{
    struct server_conn *conn = arg;
    if (!event_is_set(&conn->look)) {
        event_set(&conn->look, sim_now_us() + dice_between(0, 20));
    }
}

static void accepted(void *arg, struct net_end *end)
{
    struct sim_server *server = arg;
    struct server_conn *conn = xcalloc(1, sizeof *conn);
    conn->server = server;
    conn->end = end;
    conn->id = end->conn->id;
    conn->next = server->conns;
    if (conn->next) {
        conn->next->prev = conn;
    }
    server->conns = conn;
    server->conn_count++;
    event_init(&conn->look, look, conn);
    net_attend(end, changed, conn);
    world.accepted++;
    TRACE("server %lld accepts connection %lld, has %lld now", server->index, end->conn->id,
          server->conn_count);
    int limit = world.knobs.connection_limit;
    if (server->refusing || (limit > 0 && server->conn_count > limit && !world.resting)) {
        server_conn_close(conn, dice_chance(0.5));
        event_set(&conn->look, sim_now_us());
    }
}

// The caller sees to it that `look` is called once more, which frees it.
void server_conn_close(struct server_conn *conn, bool reset)
{
    TRACE("server %lld closes connection %lld (reset %lld)", conn->server->index,
          conn->end->conn->id, reset);
    service_drop(conn);
    if (reset) {
        net_reset(conn->end);
    } else {
        net_close(conn->end);
    }
    conn->end = NULL;
    event_set(&conn->look, sim_now_us());
}

void server_conn_free(struct server_conn *conn)
{
    struct sim_server *server = conn->server;
    if (conn->prev) {
        conn->prev->next = conn->next;
    } else {
        server->conns = conn->next;
    }
    if (conn->next) {
        conn->next->prev = conn->prev;
    }
    server->conn_count--;
    event_cancel(&conn->look);
    buffer_fini(&conn->in);
    buffer_fini(&conn->out);
    free(conn);
}

void server_address(int server, int index, struct address *ret_address)
{
    int words[2] = {server, index};
    memset(ret_address, 0, sizeof *ret_address);
    memcpy(&ret_address->storage, words, sizeof words);
    ret_address->len = sizeof words;
}

static void connect_to(const struct address *address, struct connect_answer *ret_answer)
{
    int words[2];
    memcpy(words, &address->storage, sizeof words);
    struct sim_server *server = &world.servers[words[0]];
    ret_answer->outcome = CONNECT_ACCEPTED;
    if (words[1] > 0) {
        ret_answer->outcome = words[1] % 2 ? CONNECT_REFUSED : CONNECT_SILENCE;
    } else if (server->refusing) {
        ret_answer->outcome = dice_chance(0.8) ? CONNECT_REFUSED : CONNECT_SILENCE;
    }
    ret_answer->after_us = 2 * net_delay_us(&world.knobs.server_net);
    ret_answer->profile = &world.knobs.server_net;
    ret_answer->accepted = accepted;
    ret_answer->arg = server;
}

void servers_begin(void)
{
    streams_use(connect_to);
    world.primary = 0;
    world.servers = xcalloc((size_t)world.knobs.servers, sizeof *world.servers);
    for (int i = 0; i < world.knobs.servers; i++) {
        struct sim_server *server = &world.servers[i];
        server->index = i;
        service_init(server);
        faults_begin(server);
    }
}

void servers_finish(void)
{
    for (int i = 0; i < world.knobs.servers; i++) {
        struct sim_server *server = &world.servers[i];
        HOLDS(!server->conns, "server %d still has connections when weir has ended", i);
        service_fini(server);
        faults_end(server);
    }
    free(world.servers);
    world.servers = NULL;
}

bool server_is_member(int server)
{
    return !world.servers[server].has_left;
}

int servers_member_count(void)
{
    int count = 0;
    for (int i = 0; i < world.knobs.servers; i++) {
        count += server_is_member(i);
    }
    return count;
}

enum server_kind server_kind_seen(int server)
{
    if (world.servers[server].refusing) {
        return SERVER_UNKNOWN;
    }
    if (world.knobs.balanced) {
        return SERVER_LOAD_BALANCER;
    }
    if (world.knobs.sharded) {
        return SERVER_MONGOS;
    }
    return server == world.primary ? SERVER_PRIMARY : SERVER_SECONDARY;
}

int servers_connection_count(void)
{
    int count = 0;
    for (int i = 0; i < world.knobs.servers; i++) {
        count += world.servers[i].conn_count;
    }
    return count;
}
