// SPDX-License-Identifier: Apache-2.0

#include "proxy/upstream.h"

#include <assert.h>
#include <bson/bson.h>
#include <stdio.h>
#include <stdlib.h>

#include "policy/defect.h"
#include "proxy/auth.h"
#include "proxy/config.h"
#include "proxy/log.h"
#include "proxy/mem.h"
#include "proxy/request.h"
#include "proxy/runaway.h"
#include "wire/bson_view.h"
#include "wire/op_msg.h"
#include "wire/request_build.h"

#define OPENING_REPLY_MAX_BYTES (1 << 20) // a handshake's replies are small
#define TRUSTED_IDLE_US 1000000           // idle for longer: asks the socket before use
#define RENEW_WITHIN_US 5000000           // after another approach was taken
#define MIN_WIRE_VERSION 6                // OP_MSG came with MongoDB 3.6

// What only an upstream that is being opened needs.
struct opening {
    struct auth *auth;
    struct buffer in;
    struct buffer out;
    int32_t request_id;
    bool connected;      // hello is on its way
    bool authenticating; // hello has been answered,
    int64_t greeted_us;  // then
    bool refused;        // its login
    bool dropped;        // by us
    struct control_job derive;
    struct upstream *upstream;
};

static int64_t upstream_now_us(const struct upstream *upstream)
{
    return loop_now_us(upstream->worker->loop);
}

// --- opening: a conversation --------------------------------------------------------------------

static void fail_opening(struct upstream *upstream, const char *reason)
{
    upstream_close(upstream, reason, true);
}

static void flush_opening(struct upstream *upstream)
{
    struct buffer *out = &upstream->opening->out;
    while (buffer_held(out) > 0) {
        size_t len;
        enum stream_status status =
            stream_write(upstream->stream, buffer_at(out), buffer_held(out), &len);
        if (status == STREAM_WAIT) {
            break;
        }
        if (status != STREAM_OK) {
            fail_opening(upstream, stream_error(upstream->stream));
            return;
        }
        buffer_consume(out, len);
    }
    stream_watch(upstream->stream, buffer_held(out) > 0 ? STREAM_READ | STREAM_WRITE : STREAM_READ);
}

static void send_command(struct upstream *upstream, const bson_t *command)
{
    struct opening *opening = upstream->opening;
    request_append(&opening->out, ++opening->request_id, command);
    flush_opening(upstream);
}

static void append_client_metadata(bson_t *hello, const char *app_name)
{
    bson_t client;
    bson_t part;
    BSON_APPEND_DOCUMENT_BEGIN(hello, "client", &client);
    BSON_APPEND_DOCUMENT_BEGIN(&client, "application", &part);
    BSON_APPEND_UTF8(&part, "name", app_name ? app_name : "weir");
    bson_append_document_end(&client, &part);
    BSON_APPEND_DOCUMENT_BEGIN(&client, "driver", &part);
    BSON_APPEND_UTF8(&part, "name", "weir");
    BSON_APPEND_UTF8(&part, "version", WEIR_VERSION);
    bson_append_document_end(&client, &part);
    BSON_APPEND_DOCUMENT_BEGIN(&client, "os", &part);
    BSON_APPEND_UTF8(&part, "type", "Linux");
    bson_append_document_end(&client, &part);
    bson_append_document_end(hello, &client);
}

static void send_hello(struct upstream *upstream)
{
    const struct deployment *deployment = upstream->approach->deployment;
    bson_t hello = BSON_INITIALIZER;
    if (upstream->keeps_pins) {
        BSON_APPEND_INT32(&hello, "hello", 1);
        BSON_APPEND_BOOL(&hello, "loadBalanced", true);
    } else {
        BSON_APPEND_INT32(&hello, "isMaster", 1); // every server since 3.6 knows it by this name
        BSON_APPEND_BOOL(&hello, "helloOk", true);
    }
    append_client_metadata(&hello, deployment->app_name);
    compressor_list_append(&deployment->compressors, &hello);
    auth_speculate(upstream->opening->auth, &hello);
    BSON_APPEND_UTF8(&hello, "$db", "admin");
    send_command(upstream, &hello);
    bson_destroy(&hello);
}

static void become_open(struct upstream *upstream);

static void on_auth(struct upstream *upstream, enum auth_status status, bson_t *command)
{
    struct opening *opening = upstream->opening;
    switch (status) {
    case AUTH_SEND:
        buffer_consume(&opening->in, buffer_held(&opening->in));
        send_command(upstream, command);
        bson_destroy(command);
        break;
    case AUTH_DERIVE:
        upstream->deriving = true;
        stream_watch(upstream->stream, 0);
        control_post(upstream->worker->shared->control, &opening->derive);
        break;
    case AUTH_DONE:
        become_open(upstream);
        break;
    case AUTH_FAILED:
        opening->refused = true;
        fail_opening(upstream, auth_error(opening->auth));
        break;
    }
}

static const char *hello_problem(const struct upstream *upstream, const bson_t *reply)
{
    bson_iter_t iter;
    if (!bson_iter_init_find(&iter, reply, "ok") || !bson_iter_as_bool(&iter)) {
        return "hello was refused";
    }
    if (!bson_iter_init_find(&iter, reply, "maxWireVersion") ||
        bson_iter_as_int64(&iter) < MIN_WIRE_VERSION) {
        return "the server is older than MongoDB 3.6";
    }
    if (upstream->keeps_pins && !bson_has_field(reply, "serviceId")) {
        return "loadBalanced=true, but this is no load balancer: its hello has no serviceId";
    }
    return NULL;
}

static int64_t connection_number(const bson_t *hello)
{
    bson_iter_t iter;
    return bson_iter_init_find(&iter, hello, "connectionId") ? bson_iter_as_int64(&iter) : 0;
}

// The first that we offered of those that the server has.
static enum compressor agreed_compressor(const struct compressor_list *offered, const bson_t *reply)
{
    struct bson_element field;
    struct bytes document = {bson_get_data(reply), reply->len};
    if (!bson_find(document, "compression", &field) || field.type != BSON_VIEW_ARRAY) {
        return COMPRESSOR_NONE;
    }
    struct compressor_list theirs = compressor_list_read(field.value);
    return compressor_list_common(offered, &theirs).items[0];
}

static void on_reply(struct upstream *upstream, const bson_t *reply)
{
    struct opening *opening = upstream->opening;
    bson_t command;
    if (opening->authenticating) {
        on_auth(upstream, auth_continue(opening->auth, reply, &command), &command);
        return;
    }
    const char *problem = hello_problem(upstream, reply);
    if (problem) {
        fail_opening(upstream, problem);
        return;
    }
    opening->authenticating = true;
    opening->greeted_us = upstream_now_us(upstream);
    if (!upstream->keeps_pins) { // whose number it would be, nobody can be asked
        upstream->connection = connection_number(reply);
    }
    upstream->compressor = agreed_compressor(&upstream->approach->deployment->compressors, reply);
    on_auth(upstream, auth_begin(opening->auth, reply, &command), &command);
}

// The reply in `in`, if it is whole. False: not yet, or the opening has failed.
static bool take_reply(struct upstream *upstream, bson_t *ret_reply)
{
    struct opening *opening = upstream->opening;
    struct buffer *in = &opening->in;
    struct frame frame;
    enum frame_status status = frame_read(buffer_at(in), buffer_held(in), &frame);
    if (status == FRAME_MORE) {
        return false;
    }
    if (status == FRAME_BAD_LENGTH || frame.length > OPENING_REPLY_MAX_BYTES ||
        frame.opcode != OPCODE_MSG || frame.response_to != opening->request_id) {
        fail_opening(upstream, "sent no MongoDB reply to hello");
        return false;
    }
    size_t length = (size_t)frame.length;
    if (buffer_held(in) < length) {
        return false;
    }
    struct op_msg msg;
    if (buffer_held(in) > length ||
        op_msg_read((struct bytes){buffer_at(in), length}, &msg) != WIRE_OK ||
        (msg.flags & OP_MSG_MORE_TO_COME)) {
        fail_opening(upstream, "sent a malformed reply to hello");
        return false;
    }
    bool valid = bson_init_static(ret_reply, msg.body.at, msg.body.len);
    assert(valid);
    return true;
}

// Goes on with a reply that has come. Once open, the upstream may be another worker's already.
static void go_on(struct upstream *upstream)
{
    bson_t reply;
    if (!take_reply(upstream, &reply)) {
        return;
    }
    on_reply(upstream, &reply);
}

static void read_opening(struct upstream *upstream)
{
    struct buffer *in = &upstream->opening->in;
    const size_t room = 4096;
    size_t len;
    switch (stream_read(upstream->stream, buffer_reserve(in, room), room, &len)) {
    case STREAM_OK:
        buffer_commit(in, len);
        go_on(upstream);
        break;
    case STREAM_WAIT:
        break;
    case STREAM_CLOSED:
        fail_opening(upstream, "closed by the server before it was ready");
        break;
    case STREAM_FAILED:
        fail_opening(upstream, stream_error(upstream->stream));
        break;
    }
}

static void advance_opening(struct upstream *upstream)
{
    struct opening *opening = upstream->opening;
    if (opening->connected) {
        if (buffer_held(&opening->out) > 0) {
            flush_opening(upstream);
        }
        if (!upstream->dead) {
            read_opening(upstream);
        }
        return;
    }
    switch (stream_handshake(upstream->stream)) {
    case STREAM_OK:
        opening->connected = true;
        send_hello(upstream);
        break;
    case STREAM_WAIT:
        break;
    case STREAM_CLOSED:
        fail_opening(upstream, "closed by the server in the TLS handshake");
        break;
    case STREAM_FAILED:
        fail_opening(upstream, stream_error(upstream->stream));
        break;
    }
}

static void free_opening(struct upstream *upstream)
{
    struct opening *opening = upstream->opening;
    upstream->opening = NULL;
    auth_free(opening->auth);
    buffer_fini(&opening->in);
    buffer_fini(&opening->out);
    free(opening);
}

static void become_open(struct upstream *upstream)
{
    int64_t now_us = upstream_now_us(upstream);
    upstream->opening_us = now_us - upstream->opened_us;
    upstream->login_us = now_us - upstream->opening->greeted_us;
    free_opening(upstream);
    stream_watch(upstream->stream, STREAM_READ);
    upstream->opened_us = now_us;
    server_opened(upstream->server, upstream, upstream->opened_us);
}

// --- open ---------------------------------------------------------------------------------------

// An idle server has nothing to say: whatever comes, but for TLS's own messages, ends it.
static void on_idle_event(struct upstream *upstream)
{
    if (stream_is_quiet(upstream->stream)) {
        return;
    }
    if (server_take_idle(upstream->server, upstream) || DEFECT(HAND_OVER_CLOSE)) {
        upstream_close(upstream, "closed, or sent something, while idle", true);
    } else {
        stream_watch(upstream->stream, 0);
        upstream->broken = true;
    }
}

static void upstream_ready(void *arg, unsigned directions)
{
    struct upstream *upstream = arg;
    (void)directions;
    if (upstream->opening) {
        advance_opening(upstream);
    } else if (upstream->request) {
        request_run(upstream->request);
    } else {
        on_idle_event(upstream);
    }
}

// Each at a time of its own, so that they are not opened anew all at once.
static bool is_by_former_approach(const struct upstream *upstream, int64_t now_us)
{
    const struct worker *worker = upstream->worker;
    int64_t wait_us = (int64_t)(upstream->id * UINT64_C(0x9e3779b97f4a7c15) % RENEW_WITHIN_US);
    return upstream->approach->number < worker->approach->number &&
           now_us - worker->approached_us >= wait_us;
}

bool upstream_is_old(const struct upstream *upstream, int64_t now_us)
{
    int64_t max_age_us = upstream->worker->shared->config->upstream_max_age_us;
    return (max_age_us > 0 && now_us - upstream->opened_us >= max_age_us) ||
           is_by_former_approach(upstream, now_us);
}

bool upstream_is_usable(struct upstream *upstream, int64_t now_us)
{
    bool suspect = upstream->idle_since_us <= atomic_load(&upstream->server->suspect_us);
    if (!suspect && now_us - upstream->idle_since_us < TRUSTED_IDLE_US) {
        return true;
    }
    return stream_is_quiet(upstream->stream);
}

// Whether it is kept for what has been forgotten meanwhile.
static bool is_kept_in_vain(const struct upstream *upstream)
{
    return upstream->pins > 0 &&
           affinity_count_tied(&upstream->worker->shared->affinity, upstream) == 0;
}

static void check_idle(struct upstream *upstream, int64_t now_us)
{
    if (is_kept_in_vain(upstream)) {
        server_set_free(upstream->server, upstream, now_us); // perhaps another's from now on
        return;
    }
    if (upstream->pins > 0 && now_us - upstream->idle_since_us < AFFINITY_FORGET_US) {
        return;
    }
    int64_t max_idle_us = upstream->worker->shared->config->upstream_max_idle_time_us;
    bool too_long = max_idle_us > 0 && now_us - upstream->idle_since_us >= max_idle_us;
    bool gone = atomic_load(&upstream->server->is_gone);
    if ((too_long || gone || upstream_is_old(upstream, now_us)) &&
        server_take_idle(upstream->server, upstream)) {
        upstream_close(upstream, "idle too long, too old or of a former server", false);
    } else if (upstream->pins == 0 && server_take_surplus(upstream->server, upstream)) {
        upstream_close(upstream, "over the cap", false);
    }
}

// Whether it stopped in the middle of a message, and is not waiting for us.
static bool is_stuck(const struct upstream *upstream, int64_t now_us)
{
    const struct request *request = upstream->request;
    bool in_a_message = request->step == STEP_SEND || request->reply_bytes > 0;
    return in_a_message && !request->is_starved &&
           now_us - upstream->progress_us > upstream->worker->shared->config->message_timeout_us;
}

// Whether it waits, and so do others, for a server that is silent to all of them.
static bool is_unheard(const struct upstream *upstream, int64_t now_us)
{
    int64_t timeout_us = upstream->worker->shared->config->response_timeout_us;
    return timeout_us > 0 && now_us - upstream->progress_us >= timeout_us &&
           server_is_silent(upstream->server, upstream->worker, now_us);
}

// What holds a place that is another weir's from now on.
static void cut(struct upstream *upstream)
{
    if (upstream->request) {
        request_lose_upstream(upstream->request);
    } else if (upstream->opening || server_take_idle(upstream->server, upstream)) {
        upstream_drop(upstream, "over the cap");
    }
}

void upstream_check_deadlines(struct upstream *upstream, int64_t now_us)
{
    const struct config *config = upstream->worker->shared->config;
    struct request *request = upstream->request;
    if (server_must_cut(upstream->server, upstream)) {
        cut(upstream);
    } else if (upstream->opening) {
        if (now_us - upstream->opened_us > config->connect_timeout_us) {
            fail_opening(upstream, "not ready in time");
        } else if (atomic_load(&upstream->server->is_gone)) {
            fail_opening(upstream, "of a former server");
        }
    } else if (!request) {
        check_idle(upstream, now_us);
    } else if (server_is_doomed(upstream->server, now_us) || is_stuck(upstream, now_us) ||
               is_unheard(upstream, now_us)) {
        request_lose_upstream(request);
    } else {
        runaway_check(request, now_us);
    }
}

// --- life ---------------------------------------------------------------------------------------

static void link_to(struct upstream *upstream, struct worker *worker)
{
    upstream->worker = worker;
    upstream->prev = NULL;
    upstream->next = worker->upstreams;
    if (upstream->next) {
        upstream->next->prev = upstream;
    }
    worker->upstreams = upstream;
}

static void unlink_from_worker(struct upstream *upstream)
{
    if (upstream->worker->shown_upstream == upstream) {
        upstream->worker->shown_upstream = upstream->next;
    }
    if (upstream->prev) {
        upstream->prev->next = upstream->next;
    } else {
        upstream->worker->upstreams = upstream->next;
    }
    if (upstream->next) {
        upstream->next->prev = upstream->prev;
    }
}

static void run_derive(struct control_job *job)
{
    struct opening *opening = (struct opening *)((char *)job - offsetof(struct opening, derive));
    auth_derive(opening->auth);
    worker_post(opening->upstream->worker, &opening->upstream->mail, MAIL_DERIVED);
}

void upstream_key_derived(struct upstream *upstream)
{
    upstream->deriving = false;
    if (upstream->dead) {
        return; // buried at the end of this turn
    }
    stream_watch(upstream->stream, STREAM_READ);
    bson_t command;
    on_auth(upstream, auth_continue(upstream->opening->auth, NULL, &command), &command);
}

static struct opening *opening_new(struct upstream *upstream)
{
    const struct approach *approach = upstream->approach;
    struct opening *opening = xcalloc(1, sizeof *opening);
    const struct identity *identity =
        upstream->identity > 0 ? &approach->identities[upstream->identity - 1] : NULL;
    opening->auth = identity ? auth_new(&identity->credential, identity->keys)
                             : auth_new(&approach->deployment->credential, approach->keys);
    opening->derive.run = run_derive;
    opening->upstream = upstream;
    return opening;
}

// Any address of the server, so that one that is dead does not stand for all.
static const struct address *pick_address(struct worker *worker, const struct server_info *target)
{
    size_t index = (size_t)(worker_random(worker) * (double)target->address_count);
    return &target->addresses[index];
}

void upstream_open(struct worker *worker, struct server *server, int identity)
{
    struct server_info target;
    struct upstream *upstream = xcalloc(1, sizeof *upstream);
    upstream->server = server;
    upstream->identity = identity;
    upstream->approach = approach_keep(worker->approach);
    server_get_info(server, &target);
    upstream->id = atomic_fetch_add(&worker->shared->next_upstream_id, 1);
    upstream->keeps_pins = target.kind == SERVER_LOAD_BALANCER;
    link_to(upstream, worker);
    upstream->opened_us = upstream_now_us(upstream);
    upstream->opening = opening_new(upstream);
    struct stream_handler handler = {upstream_ready, upstream};
    upstream->stream = stream_connect(worker->loop, pick_address(worker, &target),
                                      worker->approach->tls, target.host, handler);
}

static void log_down(const struct upstream *upstream, const char *reason)
{
    static struct log_limit limit = {.per_second = 5};
    struct log_line line;
    if (!log_begin_limited(&line, LOG_WARN, "upstream_down", &limit, upstream_now_us(upstream))) {
        return;
    }
    log_str(&line, "server", upstream->server->name);
    if (upstream->identity > 0) {
        log_str(&line, "identity", upstream->approach->identities[upstream->identity - 1].name);
    }
    log_str(&line, "while", upstream->opening ? "opening" : "open");
    log_str(&line, "reason", reason);
    log_end(&line);
}

static enum not_opened why_not_opened(const struct upstream *upstream)
{
    if (upstream->opening->refused && upstream->identity > 0) {
        return NOT_OPENED_REFUSED;
    }
    if (upstream->opening->refused && auth_is_rejected(upstream->opening->auth)) {
        return NOT_OPENED_LOCKED_OUT;
    }
    return upstream->opening->dropped ? NOT_OPENED_DROPPED : NOT_OPENED_FAILED;
}

void upstream_close(struct upstream *upstream, const char *reason, bool loud)
{
    assert(!upstream->request && !upstream->dead);
    struct worker *worker = upstream->worker;
    int64_t now_us = upstream_now_us(upstream);
    char why[LOG_VALUE_BYTES]; // the reason may be the stream's own words
    snprintf(why, sizeof why, "%s", reason ? reason : "");
    upstream->dead = true;
    if (loud) {
        log_down(upstream, why);
    }
    // The socket goes before the ledger's entry: whoever takes its place must not be one too many.
    stream_free(upstream->stream);
    upstream->stream = NULL;
    affinity_cut_tie(&worker->shared->affinity, upstream);
    unlink_from_worker(upstream);
    upstream->next = worker->dead_upstreams;
    worker->dead_upstreams = upstream;
    if (upstream->opening) {
        server_not_opened(upstream->server, worker, upstream->identity, why_not_opened(upstream),
                          why, now_us);
    } else {
        server_closed(upstream->server, upstream, worker, now_us);
    }
}

void upstream_drop(struct upstream *upstream, const char *reason)
{
    if (upstream->opening) {
        upstream->opening->dropped = true;
    }
    upstream_close(upstream, reason, false);
}

bool upstream_bury(struct upstream *upstream)
{
    if (upstream->deriving) {
        return false; // control still has it; mail will come
    }
    if (upstream->opening) {
        free_opening(upstream);
    }
    approach_drop(upstream->approach);
    free(upstream);
    return true;
}

void upstream_leave(struct upstream *upstream)
{
    unlink_from_worker(upstream);
    stream_detach(upstream->stream);
}

void upstream_join(struct upstream *upstream, struct worker *worker)
{
    struct stream_handler handler = {upstream_ready, upstream};
    link_to(upstream, worker);
    stream_attach(upstream->stream, worker->loop, handler);
}
