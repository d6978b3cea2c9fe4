// SPDX-License-Identifier: Apache-2.0

#include "proxy/client.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/hash.h"
#include "proxy/affinity.h"
#include "proxy/config.h"
#include "proxy/inquiry.h"
#include "proxy/log.h"
#include "proxy/login.h"
#include "proxy/mem.h"
#include "proxy/net/socket.h"
#include "proxy/request.h"

#define KERNEL_LATER_US INT64_C(1000000)
#define LEAST_BYTES_A_SECOND 65536 // that a client takes of its replies, in the long run

_Static_assert(CLOSE_REASON_COUNT <= WORKER_REASONS_MAX, "room to count them");

const char *close_reason_text(enum close_reason reason)
{
    static const char *const texts[] = {
#define X(name, text) [name] = text,
        CLOSE_REASONS(X)
#undef X
    };
    return texts[reason];
}

static int64_t client_now_us(const struct client *client)
{
    return loop_now_us(client->worker->loop);
}

// --- reading ------------------------------------------------------------------------------------

static void watch(struct client *client)
{
    unsigned directions = client->paused || client->ended ? 0 : STREAM_READ;
    if (buffer_held(&client->out) > 0) {
        directions |= STREAM_WRITE;
    }
    stream_watch(client->stream, directions);
}

// The peer will send no more. What it wants an answer to is moot; what it sent unacknowledged, now
// or behind that, is not.
static void came_to_end(struct client *client, enum close_reason reason)
{
    struct request *request = client->request;
    bool more_to_do = request && (request->no_reply || buffer_held(&client->ahead) > 0);
    if (reason == CLOSE_BY_PEER && more_to_do) {
        client->ended = true;
        watch(client);
    } else {
        client_close(client, reason);
    }
}

// While a request is under way: keeps a little of what comes, above all to notice an end.
static void read_ahead(struct client *client)
{
    size_t room = CLIENT_AHEAD_BYTES - buffer_held(&client->ahead);
    if (room == 0) {
        client->paused = true;
        watch(client);
        return;
    }
    size_t len;
    switch (stream_read(client->stream, buffer_reserve(&client->ahead, room), room, &len)) {
    case STREAM_OK:
        buffer_commit(&client->ahead, len);
        break;
    case STREAM_WAIT:
        break;
    case STREAM_CLOSED:
        came_to_end(client, CLOSE_BY_PEER);
        return;
    case STREAM_FAILED:
        came_to_end(client, CLOSE_LOST);
        return;
    }
    if (buffer_held(&client->ahead) == 0) {
        buffer_fini(&client->ahead);
    }
}

static void on_readable(struct client *client)
{
    struct request *request = client->request;
    if (!request) {
        request = request_new(client->worker, client);
    }
    if (request->step == STEP_READ) {
        request_run(request);
    } else {
        read_ahead(client);
    }
}

void client_rest(struct client *client)
{
    if (client->dead) {
        return;
    }
    if (client->worker->ending || (client->ended && buffer_held(&client->ahead) == 0)) {
        client_close(client, client->ended ? CLOSE_BY_PEER : CLOSE_ENDING);
        return;
    }
    client->paused = false;
    client->quiet_sweeps = 0;
    watch(client);
    if (buffer_held(&client->ahead) > 0) {
        worker_make_ready(client->worker, request_new(client->worker, client));
    }
}

// --- writing ------------------------------------------------------------------------------------

// Writes what the socket takes. Returns how much; closes the client if it breaks.
static size_t write_some(struct client *client, const uint8_t *at, size_t len)
{
    size_t written = 0;
    while (written < len) {
        size_t n;
        enum stream_status status = stream_write(client->stream, at + written, len - written, &n);
        if (status == STREAM_WAIT) {
            break;
        }
        if (status != STREAM_OK) {
            client_close(client, CLOSE_LOST);
            break;
        }
        written += n;
    }
    return written;
}

void client_send(struct client *client, const uint8_t *at, size_t len)
{
    if (client->dead) {
        return;
    }
    size_t written = 0;
    bool queue = buffer_held(&client->out) > 0;
    if (!queue) {
        written = write_some(client, at, len);
    }
    if (client->dead || written == len) {
        return;
    }
    if (!queue) {
        client->waits_since_us = client_now_us(client);
    }
    buffer_append(&client->out, at + written, len - written);
    client->claimed_bytes += len - written;
    budget_add(&client->worker->shared->budget, len - written);
    watch(client);
}

static void release_claim(struct client *client, size_t bytes)
{
    budget_release(&client->worker->shared->budget, bytes);
    client->claimed_bytes -= bytes;
}

// What it has taken buys it time, by the least rate: who takes a little now and then, and holds
// memory that others wait for, is closed as who takes nothing.
static void put_off_deadline(struct client *client, size_t taken)
{
    int64_t now_us = client_now_us(client);
    client->waits_since_us += (int64_t)taken * 1000000 / LEAST_BYTES_A_SECOND;
    client->waits_since_us = client->waits_since_us < now_us ? client->waits_since_us : now_us;
}

static void on_writable(struct client *client)
{
    struct buffer *out = &client->out;
    size_t written = write_some(client, buffer_at(out), buffer_held(out));
    if (client->dead || written == 0) {
        return;
    }
    put_off_deadline(client, written);
    buffer_consume(out, written);
    release_claim(client, written);
    if (buffer_held(out) > 0) {
        return;
    }
    buffer_fini(out);
    watch(client);
    if (client->request && client->request->step == STEP_REPLY) {
        request_run(client->request);
    }
}

// --- life ---------------------------------------------------------------------------------------

// There is something to do for its handshake: it waits for its turn.
static void line_up(struct client *client)
{
    struct worker *worker = client->worker;
    assert(!client->knocks);
    stream_watch(client->stream, 0);
    client->knocks = true;
    client->next_knocking = NULL;
    *worker->knocking_end = client;
    worker->knocking_end = &client->next_knocking;
}

static void leave_line(struct client *client)
{
    struct worker *worker = client->worker;
    struct client **at = &worker->knocking;
    while (*at != client) {
        at = &(*at)->next_knocking;
    }
    *at = client->next_knocking;
    if (!*at) {
        worker->knocking_end = at;
    }
    client->knocks = false;
    atomic_fetch_sub(&worker->shared->knocking, 1);
}

void client_let_in(struct client *client)
{
    leave_line(client);
    switch (stream_handshake(client->stream)) {
    case STREAM_OK:
        client->shaken = true;
        client->waits_since_us = client_now_us(client);
        watch(client);
        break;
    case STREAM_WAIT:
        stream_watch(client->stream, STREAM_READ | STREAM_WRITE);
        break;
    case STREAM_CLOSED:
        client_close(client, CLOSE_BY_PEER);
        break;
    case STREAM_FAILED:
        client_log_bad_input(client, stream_error(client->stream));
        client_close(client, CLOSE_HANDSHAKE);
        break;
    }
}

static void client_ready(void *arg, unsigned directions)
{
    struct client *client = arg;
    if (!client->shaken) {
        atomic_fetch_add(&client->worker->shared->knocking, 1);
        line_up(client);
        return;
    }
    if ((directions & STREAM_WRITE) && buffer_held(&client->out) > 0) {
        on_writable(client);
    }
    if ((directions & STREAM_READ) && !client->dead) {
        on_readable(client);
    }
}

bool client_has_place(struct client *client)
{
    atomic_int *places = &client->worker->shared->places;
    int most = client->worker->shared->config->max_incoming_connections;
    int taken = atomic_load(places);
    while (!client->has_place && taken < most) {
        client->has_place = atomic_compare_exchange_weak(places, &taken, taken + 1);
    }
    return client->has_place;
}

static void log_no_place(const struct client *client)
{
    static struct log_limit limit = {.per_second = 1};
    struct log_line line;
    if (log_begin_limited(&line, LOG_WARN, "client_without_place", &limit, client_now_us(client))) {
        log_int(&line, "client", (int64_t)client->id);
        log_str(&line, "reason", "net.maxIncomingConnections is reached");
        log_end(&line);
    }
}

static int weight_of(const struct config *config, struct bytes name)
{
    for (size_t i = 0; i < config->tenant_weights.count; i++) {
        const char *item = config->tenant_weights.items[i];
        size_t len = (size_t)(strrchr(item, '=') - item);
        if (len == name.len && memcmp(item, name.at, len) == 0) {
            return (int)strtol(item + len + 1, NULL, 10);
        }
    }
    return 1;
}

static void set_tenant(struct client *client, struct bytes name)
{
    const struct shared *shared = client->worker->shared;
    client->tenant.id = hash_bytes(shared->tenant_seed, name.at, name.len);
    client->tenant.weight = weight_of(shared->config, name);
    snprintf(client->tenant.name, sizeof client->tenant.name, "%.*s", (int)name.len,
             (const char *)name.at);
}

// Until hello says more: whoever comes from the same address, by whatever port.
static void set_tenant_by_address(struct client *client)
{
    const char *peer = stream_peer(client->stream);
    const char *port = strrchr(peer, ':');
    set_tenant(client,
               (struct bytes){(const uint8_t *)peer, port ? (size_t)(port - peer) : strlen(peer)});
}

// The user's own, which no app takes a share of by calling itself so.
static void set_tenant_of_user(struct client *client)
{
    const struct user_spec *spec = &client->user->spec;
    const struct shared *shared = client->worker->shared;
    client->tenant.id = hash_bytes(shared->tenant_seed ^ 1, spec->tenant, strlen(spec->tenant));
    client->tenant.weight = spec->weight;
    snprintf(client->tenant.name, sizeof client->tenant.name, "%s", spec->tenant);
}

static bool has_own_tenant(const struct client *client)
{
    return client->user && client->user->spec.tenant;
}

void client_name_app(struct client *client, struct bytes name)
{
    snprintf(client->app_name, sizeof client->app_name, "%.*s", (int)name.len,
             (const char *)name.at);
    bool by_app = client->worker->shared->config->tenant_by == CONFIG_TENANT_APP;
    if (by_app && name.len > 0 && !has_own_tenant(client)) {
        set_tenant(client, name);
    }
}

void client_become(struct client *client, struct user *user)
{
    bool had = has_own_tenant(client);
    struct user *former = client->user;
    client->user = user_keep(user);
    user_drop(former);
    if (has_own_tenant(client)) {
        set_tenant_of_user(client);
    } else if (had) {
        set_tenant_by_address(client);
    }
}

static struct bytes text(const char *text)
{
    return (struct bytes){(const uint8_t *)text, strlen(text)};
}

void client_follow(struct client *client, struct users *users)
{
    const struct user *former = client->user;
    if (client->login) { // a driver would take its end for a wrong password
        login_follow(client->login, users);
    }
    if (!former) {
        return;
    }
    struct user *user = users_find(users, text(former->spec.db), text(former->spec.name));
    if (user && user->identity == former->identity) {
        client_become(client, user);
    } else {
        client_close(client, CLOSE_USER_GONE);
    }
}

// A name that was cut is not known any more.
void client_weigh(struct client *client)
{
    size_t len = strlen(client->tenant.name);
    if (!has_own_tenant(client) && len < sizeof client->tenant.name - 1) {
        client->tenant.weight =
            weight_of(client->worker->shared->config, text(client->tenant.name));
    }
}

void client_accept(struct worker *worker, int fd, int door)
{
    const struct config *config = worker->shared->config;
    struct client *client = xcalloc(1, sizeof *client);
    client->worker = worker;
    client->door = door;
    client->id = atomic_fetch_add(&worker->shared->next_client_id, 1);
    client->next = worker->clients;
    if (client->next) {
        client->next->prev = client;
    }
    worker->clients = client;
    client->accepted_us = client_now_us(client);
    client->waits_since_us = client->accepted_us;
    if (!client_has_place(client)) {
        log_no_place(client);
    }
    // Who does not read is given up by weir, which can say why, and the kernel comes after it.
    socket_be_patient(fd, config->message_timeout_us + KERNEL_LATER_US);
    struct stream_handler handler = {client_ready, client};
    bool plain_allowed = config->tls_mode != CONFIG_TLS_REQUIRE;
    struct tls_server *tls =
        config->tls_mode != CONFIG_TLS_DISABLED ? worker->shared->tls_server : NULL;
    client->stream = stream_accept(worker->loop, fd, tls, plain_allowed, handler);
    set_tenant_by_address(client);
    line_up(client); // who gave it to us has counted it
}

static void client_unlink(struct client *client)
{
    struct worker *worker = client->worker;
    if (worker->shown_client == client) {
        worker->shown_client = client->next;
    }
    if (client->prev) {
        client->prev->next = client->next;
    } else {
        worker->clients = client->next;
    }
    if (client->next) {
        client->next->prev = client->prev;
    }
    client->next = worker->dead_clients;
    worker->dead_clients = client;
    atomic_fetch_sub(&worker->client_count, 1);
    atomic_fetch_sub(&worker->shared->places, client->has_place);
}

// Not what happens all day, nor what was logged as bad input.
static bool is_worth_a_line(enum close_reason reason)
{
    return reason == CLOSE_LOST || reason == CLOSE_SLOW_READER || reason == CLOSE_BROKEN_REPLY;
}

static void log_close(const struct client *client, enum close_reason reason)
{
    static struct log_limit limit = {.per_second = 5};
    struct log_line line;
    if (!is_worth_a_line(reason) ||
        !log_begin_limited(&line, LOG_INFO, "client_closed", &limit, client_now_us(client))) {
        return;
    }
    log_int(&line, "client", (int64_t)client->id);
    log_str(&line, "peer", stream_peer(client->stream));
    log_str(&line, "reason", close_reason_text(reason));
    log_end(&line);
}

void client_close(struct client *client, enum close_reason reason)
{
    if (client->dead) {
        return;
    }
    client->dead = true;
    log_close(client, reason);
    traffic_add(&client->worker->closed[reason], 1);
    client_unlink(client);
    if (client->knocks) {
        leave_line(client);
    }
    stream_watch(client->stream, 0);
    release_claim(client, client->claimed_bytes);
    affinity_orphan(&client->worker->shared->affinity, client->worker, &client->pins,
                    client_now_us(client));
    if (client->has_view) {
        inquiry_tell_gone(client->worker, client->id);
    }
    struct request *request = client->request;
    client->request = NULL;
    if (request) {
        request_abandon(request);
    }
}

void client_bury(struct client *client)
{
    assert(client->dead && !client->request);
    stream_free(client->stream);
    login_free(client->login);
    user_drop(client->user);
    buffer_fini(&client->ahead);
    buffer_fini(&client->out);
    free(client);
}

void client_log_bad_input(const struct client *client, const char *what)
{
    static struct log_limit limit = {.per_second = 5};
    struct log_line line;
    if (!log_begin_limited(&line, LOG_WARN, "bad_input", &limit, client_now_us(client))) {
        return;
    }
    log_int(&line, "client", (int64_t)client->id);
    log_str(&line, "peer", stream_peer(client->stream));
    log_str(&line, "what", what);
    log_end(&line);
}

const uint8_t *client_ip(struct client *client)
{
    if (!client->asked_ip) {
        client->asked_ip = true;
        client->has_ip = ip_read_peer(stream_peer(client->stream), client->ip);
    }
    return client->has_ip ? client->ip : NULL;
}

// Whether it has begun to send a message, and it is up to it to go on.
static bool is_in_a_message(const struct client *client)
{
    const struct request *request = client->request;
    return request && request->step == STEP_READ && request->came_in_part && !request->is_starved;
}

void client_check_deadlines(struct client *client, int64_t now_us)
{
    const struct config *config = client->worker->shared->config;
    int64_t waited_us = now_us - client->waits_since_us;
    if (!client->greeted && waited_us > config->handshake_timeout_us) {
        client_log_bad_input(client, client->request  ? "first message not complete in time"
                                     : client->shaken ? "no first message in time"
                                                      : "no handshake in time");
        client_close(client, CLOSE_HANDSHAKE_TIMEOUT);
    } else if (buffer_held(&client->out) > 0 && waited_us > config->message_timeout_us) {
        client_close(client, CLOSE_SLOW_READER);
    } else if (is_in_a_message(client) && waited_us > config->message_timeout_us) {
        client_log_bad_input(client, close_reason_text(CLOSE_MESSAGE_TIMEOUT));
        client_close(client, CLOSE_MESSAGE_TIMEOUT);
    }
}
