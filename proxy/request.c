// SPDX-License-Identifier: Apache-2.0
//
// The life of a request, from top to bottom.
//
// READ -> CLASSIFY -+-> LOCAL -----------------------------------------------------------+
//                   +-> ACCESS -> RULES -> ROUTE -> ADMIT -> CHECKOUT -> SEND -> RECEIVE +-> REPLY
//                                           ^  \________________ FAIL __________________/
//                                           +-- what must look for another server
//
// Each step is one function that returns the next step, STEP_WAIT or STEP_END. A wake-up (bytes
// came, a permit or an upstream was given, the client or the upstream went away) sets a fact and
// calls request_run, which runs steps until one waits; no callback holds logic, no step calls
// another.
//
// Example: with the cap in use, a find is read, classified and routed; ADMIT queues its ticket and
// waits. 3 ms later some other request's RECEIVE checks its upstream in; the gate picks our ticket,
// and mail brings us permit and upstream at once. The next run goes ADMIT, CHECKOUT, SEND, and
// waits in RECEIVE for the reply.
//
// Invariants: an upstream is only held with a permit; a request that ends holds neither; the client
// gets exactly one reply or its connection is closed; nothing is sent twice but reads and retryable
// writes.

#include "proxy/request.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "policy/defect.h"
#include "proxy/access.h"
#include "proxy/config.h"
#include "proxy/drain.h"
#include "proxy/failure.h"
#include "proxy/inquiry.h"
#include "proxy/local.h"
#include "proxy/log.h"
#include "proxy/mem.h"
#include "proxy/packing.h"
#include "proxy/relay.h"
#include "proxy/route.h"
#include "proxy/servers.h"
#include "proxy/sessions.h"
#include "wire/bson_view.h"
#include "wire/error_code.h"
#include "wire/read_preference.h"
#include "wire/shape.h"

#define READS_PER_RUN 16 // of one reply, before others get their turn
#define STARVES_LEAST_US 1000000

// --- READ ---------------------------------------------------------------------------------------

static void take_what_came_ahead(struct request *request)
{
    struct buffer *ahead = &request->client->ahead;
    size_t held = buffer_held(ahead);
    if (held > 0) {
        buffer_append(&request->message, buffer_at(ahead), held);
        buffer_fini(ahead);
    }
}

// What came after the end of this message belongs to the next request.
static void put_back_surplus(struct request *request)
{
    struct buffer *message = &request->message;
    size_t surplus = buffer_held(message) + request->dropped_bytes - request->length;
    if (surplus > 0) {
        buffer_append(&request->client->ahead, buffer_at(message) + request->length, surplus);
        message->end -= surplus;
    }
}

static const char *what_is_wrong_with_opcode(const struct request *request)
{
    const uint8_t *at = buffer_at(&request->message);
    if (at[0] == 0x16 && at[1] == 0x03) {
        return "TLS on a port or socket that does not take it";
    }
    return "unknown opcode";
}

static const char *what_is_wrong_with_length(const struct request *request)
{
    const char *at = (const char *)buffer_at(&request->message);
    bool http = strncmp(at, "GET ", 4) == 0 || strncmp(at, "POST", 4) == 0 ||
                strncmp(at, "HEAD", 4) == 0 || strncmp(at, "PRI ", 4) == 0;
    return http ? "HTTP instead of the MongoDB protocol" : "impossible message length";
}

// From the first part of a message on, the rest must come in time.
static void start_clock(struct request *request)
{
    if (!request->came_in_part) {
        request->came_in_part = true;
        request->client->waits_since_us = request->now_us;
    }
}

static void close_for_bad_input(struct request *request, const char *wrong)
{
    client_log_bad_input(request->client, wrong);
    client_close(request->client, CLOSE_BAD_INPUT);
}

static size_t over_what_is_kept(int32_t length)
{
    return length > REQUEST_KEEP_BYTES ? (size_t)length : 0;
}

// How much of the budget a message needs: a compressed one also for what it inflates to, since one
// that had to ask again, with half of what it needs in hand, could wait for ever for its likes.
static enum compressed_status bytes_needed(const struct request *request, size_t *ret_bytes)
{
    const struct buffer *message = &request->message;
    struct compressed compressed = {0};
    enum compressed_status status = COMPRESSED_OK;
    if (request->frame.opcode == OPCODE_COMPRESSED) {
        status = compressed_read(buffer_at(message), buffer_held(message),
                                 &request->client->compressors, &compressed);
    }
    *ret_bytes =
        over_what_is_kept(request->frame.length) + over_what_is_kept(compressed.frame.length);
    return status;
}

// As long as for a permit; but a reply's memory comes free only when its app has taken it.
static int64_t starves_most_us(const struct config *config)
{
    return config->max_wait_us > STARVES_LEAST_US ? config->max_wait_us : STARVES_LEAST_US;
}

// Whether a compressed message wants an answer cannot be seen: its connection will have to be
// closed, which is put off for as long as for any message that does not come.
static bool has_starved_enough(struct request *request)
{
    const struct config *config = request->worker->shared->config;
    bool compressed = request->frame.opcode == OPCODE_COMPRESSED;
    if (request->starves_since_us == 0) {
        request->starves_since_us = request->now_us;
    }
    return request->now_us - request->starves_since_us >=
           (compressed ? config->message_timeout_us : starves_most_us(config));
}

// What has starved for long enough is refused. False: the request starves, or its client is closed.
static bool claim_bytes(struct request *request, size_t bytes)
{
    bool claimed = bytes == 0 || budget_claim(&request->worker->shared->budget, bytes);
    if (!claimed && !has_starved_enough(request)) {
        start_clock(request);
        stream_watch(request->client->stream, 0);
        worker_starve(request->worker, request);
        return false;
    }
    if (!claimed && request->frame.opcode == OPCODE_COMPRESSED) {
        client_close(request->client, CLOSE_NO_MEMORY);
        return false;
    }
    request->is_refused = !claimed;
    request->claimed_bytes = claimed ? bytes : 0;
    stream_watch(request->client->stream, STREAM_READ);
    return true;
}

// Reads the header once it is there, and sees to it that the rest may come. False: it may not; then
// the client is closed, or the request starves.
static bool read_header(struct request *request)
{
    const struct buffer *message = &request->message;
    enum frame_status status =
        frame_read(buffer_at(message), buffer_held(message), &request->frame);
    if (status == FRAME_MORE) {
        return true;
    }
    int32_t opcode = request->frame.opcode;
    if (status == FRAME_BAD_LENGTH) {
        close_for_bad_input(request, what_is_wrong_with_length(request));
        return false;
    }
    if (opcode != OPCODE_MSG && opcode != OPCODE_QUERY && opcode != OPCODE_COMPRESSED) {
        close_for_bad_input(request, what_is_wrong_with_opcode(request));
        return false;
    }
    size_t needed;
    enum compressed_status compressed = bytes_needed(request, &needed);
    if (compressed == COMPRESSED_MORE) {
        return true;
    }
    if (compressed != COMPRESSED_OK) {
        close_for_bad_input(request, compressed_status_text(compressed));
        return false;
    }
    if (!claim_bytes(request, needed)) {
        return false;
    }
    request->length = (size_t)request->frame.length;
    return true;
}

// Also known of a message that cannot be read further.
static bool expects_no_reply(struct bytes message)
{
    return message.len >= FRAME_HEADER_BYTES + 4 && load_i32(message.at + 12) == OPCODE_MSG &&
           (load_i32(message.at + FRAME_HEADER_BYTES) & OP_MSG_MORE_TO_COME);
}

// Of a message that is refused only its beginning is kept, which says whether it wants an answer.
static void drop_some(struct request *request)
{
    struct buffer *message = &request->message;
    const size_t kept = FRAME_HEADER_BYTES + 4;
    if (request->is_refused && buffer_held(message) > kept) {
        request->dropped_bytes += buffer_held(message) - kept;
        message->end = message->begin + kept;
    }
}

// The whole message is there.
static enum request_step message_read(struct request *request)
{
    put_back_surplus(request);
    if (request->is_refused) {
        struct bytes message = {buffer_at(&request->message), buffer_held(&request->message)};
        assert(message.at && message.len >= FRAME_HEADER_BYTES);
        request->arrived_us = request->now_us;
        request->no_reply = expects_no_reply(message);
        request->command.info = command_at(0);
        request->failure = FAILURE_NO_MEMORY;
        return STEP_FAIL;
    }
    if (request->frame.opcode == OPCODE_COMPRESSED) {
        enum compressed_status status = packing_inflate_request(request);
        if (status != COMPRESSED_OK) {
            close_for_bad_input(request, compressed_status_text(status));
            return STEP_WAIT;
        }
    }
    return STEP_CLASSIFY;
}

static size_t bytes_wanted(const struct request *request)
{
    size_t held = buffer_held(&request->message);
    size_t left = request->length - held - request->dropped_bytes;
    if (request->length == 0) {
        return REQUEST_KEEP_BYTES - held;
    }
    return request->is_refused && left > REQUEST_KEEP_BYTES ? REQUEST_KEEP_BYTES : left;
}

static enum request_step step_read(struct request *request)
{
    struct client *client = request->client;
    if (request->abandoned) {
        return STEP_END;
    }
    take_what_came_ahead(request);
    bool more = !client->ended;
    for (;;) {
        if (request->length == 0 && !read_header(request)) {
            return STEP_WAIT;
        }
        size_t came = buffer_held(&request->message) + request->dropped_bytes;
        if (request->length > 0 && came >= request->length) {
            return message_read(request);
        }
        drop_some(request);
        if (!more) {
            break;
        }
        size_t room = bytes_wanted(request);
        size_t len;
        enum stream_status status =
            stream_read(client->stream, buffer_reserve(&request->message, room), room, &len);
        if (status == STREAM_WAIT) {
            break;
        }
        if (status != STREAM_OK) {
            client_close(client, status == STREAM_CLOSED ? CLOSE_BY_PEER : CLOSE_LOST);
            return STEP_WAIT;
        }
        buffer_commit(&request->message, len);
        more = len == room;
    }
    if (client->ended) {
        client_close(client, CLOSE_BY_PEER);
        return STEP_WAIT;
    }
    if (buffer_held(&request->message) == 0) {
        return STEP_END;
    }
    start_clock(request);
    return STEP_WAIT;
}

// --- CLASSIFY -----------------------------------------------------------------------------------

static enum wire_error read_command(struct request *request, struct bytes message)
{
    if (request->frame.opcode == OPCODE_QUERY) {
        struct op_query query;
        enum wire_error error = op_query_read(message, &query);
        return error ? error : command_read_query(message, &query, &request->command);
    }
    enum wire_error error = op_msg_read(message, &request->msg);
    return error ? error : command_read(message, &request->msg, &request->command);
}

// A secret in a compressed message can be guessed by its length. Hello holds none, and the monitors
// of Node's driver 6 compress it.
static bool must_have_been_plain(const struct command *command)
{
    return (command->info->traits & (COMMAND_PLAIN | COMMAND_HELLO)) == COMMAND_PLAIN;
}

static enum request_step step_classify(struct request *request)
{
    struct bytes message = {buffer_at(&request->message), request->length};
    assert(message.at && message.len >= FRAME_HEADER_BYTES);
    request->arrived_us = request->now_us;
    request->no_reply = expects_no_reply(message);
    request->kill_after_us = request->worker->shared->config->kill_after_us;
    bool first = request->client && !request->client->greeted;
    if (request->client) {
        request->client->greeted = true;
    }
    request->wire_error = read_command(request, message);
    if (request->wire_error) {
        request->failure = FAILURE_BAD_MESSAGE;
        return STEP_FAIL;
    }
    if (request->compressor && must_have_been_plain(&request->command)) {
        request->wire_error = WIRE_MUST_BE_PLAIN;
        request->failure = FAILURE_BAD_MESSAGE;
        return STEP_FAIL;
    }
    if (request->client) {
        request->client->has_asked |= !(request->command.info->traits & COMMAND_HELLO);
        request->client->monitors = !first && !request->client->has_asked;
    }
    if (local_is_ours(request->client, &request->command)) {
        return STEP_LOCAL;
    }
    request->about_weir = local_is_about_weir(request);
    if (request->frame.opcode == OPCODE_QUERY) {
        request->wire_error = WIRE_BAD_QUERY;
        request->failure = FAILURE_BAD_MESSAGE;
        return STEP_FAIL;
    }
    if (request->about_weir) {
        return STEP_LOCAL;
    }
    if (request->client && !client_has_place(request->client) &&
        !command_finishes(&request->command)) {
        request->failure = FAILURE_NO_PLACE;
        return STEP_FAIL;
    }
    return STEP_ACCESS;
}

// --- LOCAL --------------------------------------------------------------------------------------

static void send_own_reply(struct request *request, const bson_t *document)
{
    struct client *client = request->client;
    if (!client || request->no_reply) {
        return;
    }
    struct buffer out = {0};
    reply_append(&out, 0, request->frame.request_id, request->frame.opcode == OPCODE_QUERY,
                 document);
    client_send(client, buffer_at(&out), buffer_held(&out));
    buffer_fini(&out);
}

static void log_denied(const struct request *request);

// What a user asked for of others' operations is in the log as all that was tried.
static void note_denial(struct request *request, const struct inquiry *inquiry)
{
    bson_iter_t iter;
    if (request->client && inquiry->user && bson_iter_init_find(&iter, inquiry->reply, "code") &&
        bson_iter_as_int64(&iter) == CODE_UNAUTHORIZED) {
        request->problem = "not about the user's own operations";
        log_denied(request);
    }
}

// The observer's answer has come.
static enum request_step take_answer(struct request *request)
{
    struct inquiry *inquiry = request->inquiry;
    request->inquiry = NULL;
    if (inquiry->opens_view && request->client) {
        request->client->has_view = true;
    } else if (inquiry->opens_view) {
        inquiry_tell_gone(request->worker, request->client_id);
    }
    note_denial(request, inquiry);
    send_own_reply(request, inquiry->reply);
    inquiry_free(inquiry);
    return STEP_REPLY;
}

static enum request_step ask_observer(struct request *request)
{
    if (request->inquiry) {
        return take_answer(request);
    }
    if (!request->asked) {
        request->asked = true;
        inquiry_send(request->worker, request);
    }
    return STEP_WAIT;
}

static void go_on_after_delay(void *arg)
{
    request_run(arg);
}

// Whether the answer must wait for its time, or for nothing: then the client is closed.
static bool is_delayed(struct request *request)
{
    if (request->delay) {
        bool due = request->now_us >= request->answer_us;
        return !due;
    }
    int64_t wait_us = local_wait_us(request->client, &request->command);
    if (wait_us < 0) {
        client_close(request->client, CLOSE_TOO_MANY_LOGINS);
        return true;
    }
    if (wait_us > 0) {
        request->answer_us = request->now_us + wait_us;
        request->delay = timer_new(request->worker->loop, go_on_after_delay, request);
        timer_set(request->delay, request->answer_us);
    }
    return wait_us > 0;
}

static enum request_step step_local(struct request *request)
{
    if (request->about_weir) {
        return ask_observer(request);
    }
    bson_t document = BSON_INITIALIZER;
    if (request->abandoned) {
        return STEP_END;
    }
    if (request->client && drain_ends_monitor(request->client)) {
        client_close(request->client, CLOSE_DRAINED);
        return STEP_WAIT;
    }
    if (request->client && is_delayed(request)) {
        return STEP_WAIT;
    }
    if (request->client) {
        local_answer(request->client, &request->command, &document);
        send_own_reply(request, &document);
    }
    bson_destroy(&document);
    return STEP_REPLY;
}

// --- ACCESS -------------------------------------------------------------------------------------

static void log_denied(const struct request *request)
{
    static struct log_limit limit = {.per_second = 5};
    const struct command *command = &request->command;
    struct log_line line;
    if (!log_begin_limited(&line, LOG_WARN, "access_denied", &limit, request->now_us)) {
        return;
    }
    log_int(&line, "client", (int64_t)request->client_id);
    log_str(&line, "peer", stream_peer(request->client->stream));
    log_str(&line, "user", request->user ? request->user->spec.name : "");
    log_text(&line, "command", (const char *)command->name.at, command->name.len);
    log_text(&line, "db", (const char *)command->database.at, command->database.len);
    log_str(&line, "why", request->problem);
    log_end(&line);
}

static enum request_step deny(struct request *request, enum request_failure failure,
                              const char *problem)
{
    request->failure = failure;
    request->problem = problem;
    log_denied(request);
    return STEP_FAIL;
}

// False: its user has too many. What finishes something is always let through.
static bool count_for_user(struct request *request)
{
    struct user *user = request->user;
    int most = user->spec.max_in_flight;
    int before = atomic_fetch_add(&user->first->in_flight, 1);
    request->is_counted = true;
    return most == 0 || before < most || command_finishes(&request->command);
}

// An endSessions is answered here; not of a user as whom weir does not pass them on.
static enum request_step let_through(struct request *request)
{
    bool ends_sessions = request->client && request->identity == 0 &&
                         request->msg.sequence_count == 0 &&
                         sessions_keep(&request->worker->ended_sessions, &request->command);
    return ends_sessions ? STEP_LOCAL : STEP_RULES;
}

static enum request_step step_access(struct request *request)
{
    const struct command *command = &request->command;
    if (!request->worker->shared->logins || !request->client) {
        return let_through(request);
    }
    if (!request->user) {
        return deny(request, FAILURE_LOGIN, "weir: this command requires authentication");
    }
    request->about_weir =
        request->worker->shared->observer && access_is_about_own(request->user, command);
    const char *problem =
        request->about_weir ? NULL : access_problem(request->user, command, &request->msg);
    if (!problem && !access_take_sessions(request->user, command, buffer_at(&request->message))) {
        problem = "weir: not authorized: it names a session as no driver does";
    }
    if (problem) {
        return deny(request, FAILURE_ACCESS, problem);
    }
    if (request->about_weir) {
        return STEP_LOCAL;
    }
    if (!affinity_may_go_on(&request->worker->shared->affinity, request)) {
        return deny(request, FAILURE_FOREIGN, "weir: this user has no such cursor");
    }
    if (!count_for_user(request)) {
        request->failure = FAILURE_USER_BUSY;
        return STEP_FAIL;
    }
    return let_through(request);
}

// --- RULES --------------------------------------------------------------------------------------

static struct rule_text as_text(struct bytes bytes)
{
    return (struct rule_text){(const char *)bytes.at, bytes.len};
}

// Empty if it is none, or something else: drivers let it be anything.
static struct bytes comment_text(const struct command *command)
{
    struct bson_element comment = {.type = command->comment_type, .value = command->comment};
    struct bytes text = {NULL, 0};
    (void)bson_element_text(&comment, &text);
    return text;
}

static struct rule_facts facts_for(const struct request *request, const struct rules *rules)
{
    const struct command *command = &request->command;
    unsigned traits = command->info->traits;
    const char *user = request->user ? request->user->spec.name : "";
    return (struct rule_facts){
        .database = as_text(command->database),
        .collection = as_text(command->collection),
        .command = as_text(command->name),
        .app = {request->app_name, strlen(request->app_name)},
        .user = {user, strlen(user)},
        .comment = as_text(comment_text(command)),
        .address = rules_want_address(rules) ? client_ip(request->client) : NULL,
        .shape = rules_want_shape(rules) ? shape_id(&request->msg, command) : 0,
        .writes = !(traits & COMMAND_READ) || command->writes_out,
        .finishes = command_finishes(command),
    };
}

// weir's own requests clear up after clients: no rule is about them.
static enum request_step step_rules(struct request *request)
{
    struct rules *rules = request->worker->rules;
    if (!rules || !request->client) {
        return STEP_ROUTE;
    }
    struct rule_facts facts = facts_for(request, rules);
    rules_judge(rules, &facts, request->now_us, &request->verdict);
    request->max_time =
        (struct max_time_bounds){request->verdict.max_time_ms, request->verdict.default_time_ms};
    if (request->verdict.answer == RULE_PASSES) {
        return STEP_ROUTE;
    }
    request->failure = FAILURE_RULE;
    return STEP_FAIL;
}

// --- ROUTE --------------------------------------------------------------------------------------

// What is in the message's buffer has changed. If it is no command any more, that says so and ROUTE
// sees it.
static void read_again(struct request *request)
{
    request->length = buffer_held(&request->message);
    struct bytes message = {buffer_at(&request->message), request->length};
    request->wire_error = read_command(request, message);
    if (request->wire_error) { // what these borrowed is not there any more
        request->msg = (struct op_msg){0};
        request->command = (struct command){.info = command_at(0)};
    }
}

// Puts the next part of a killCursors for several servers in the place of the message. False: all
// have been asked.
static bool take_next_part(struct request *request)
{
    struct buffer *message = &request->message;
    struct buffer part = {0};
    if (!cursor_split_next(request->split, &part, &request->bond.server)) {
        return false;
    }
    buffer_consume(message, buffer_held(message));
    buffer_append(message, buffer_at(&part), buffer_held(&part));
    buffer_fini(&part);
    read_again(request);
    return true;
}

static void bound_max_time(struct request *request)
{
    const struct config *config = request->worker->shared->config;
    struct max_time_bounds of_all = {config->max_time_limit_us / 1000,
                                     config->max_time_default_us / 1000};
    struct max_time_bounds bounds = max_time_both(request->max_time, of_all);
    if (request->client && max_time_clamp(&request->message, &request->command, bounds)) {
        read_again(request);
    }
}

// The message as it goes up, and what it goes on with.
static void prepare(struct request *request)
{
    struct buffer *message = &request->message;
    command_acknowledge(&request->command, buffer_at(message));
    request->length = op_msg_strip(buffer_at(message), request->length);
    message->end = message->begin + request->length;
    bound_max_time(request);
    if (request->client) {
        affinity_resume(&request->worker->shared->affinity, request, &request->bond);
        request->split = cursor_split_new(&request->worker->shared->affinity, request);
    }
    if (request->split) {
        take_next_part(request);
    }
    request->prepared = true;
}

// The server does not die before the request goes elsewhere or ends.
static void go_to(struct request *request, struct server *server)
{
    if (request->server) {
        atomic_fetch_sub(&request->server->routed, 1);
    }
    request->server = server;
    if (server) {
        atomic_fetch_add(&server->routed, 1);
    }
}

// What a member takes that the URI names directly, whatever it has become since.
static void suit_the_member(struct request *request)
{
    const struct server_info *info = topology_find(request->worker->topology, request->server->id);
    if (request->client && info && server_is_direct_member(info) &&
        read_preference_loosen(&request->message, &request->command)) {
        read_again(request);
    }
}

// Whether nobody wants it to begin any more.
static bool is_unwanted(const struct request *request)
{
    return request->abandoned || request->kill_why;
}

static enum request_step end_unwanted(struct request *request)
{
    request->failure = FAILURE_KILLED;
    return request->abandoned ? STEP_END : STEP_FAIL;
}

static enum request_step fail_as_spoilt(struct request *request)
{
    request->failure = FAILURE_BAD_MESSAGE;
    return STEP_FAIL;
}

static enum request_step step_route(struct request *request)
{
    struct server *server;
    if (is_unwanted(request)) {
        return end_unwanted(request);
    }
    if (!request->prepared) {
        prepare(request);
    }
    request->asked = false;
    if (request->wire_error) {
        return fail_as_spoilt(request);
    }
    switch (route_request(request, &server)) {
    case ROUTE_FOUND:
        go_to(request, server);
        suit_the_member(request);
        return request->wire_error ? fail_as_spoilt(request) : STEP_ADMIT;
    case ROUTE_NOBODY:
        go_to(request, server);
        return STEP_ADMIT;
    case ROUTE_LOST:
        request->failure = FAILURE_AFFINITY_LOST;
        break;
    case ROUTE_STALENESS:
        request->failure = FAILURE_STALENESS;
        break;
    }
    return STEP_FAIL;
}

// --- ADMIT --------------------------------------------------------------------------------------

static int64_t deadline_of(const struct request *request)
{
    int64_t ms = max_time_of(&request->command);
    return ms > 0 ? request->arrived_us + ms * 1000 : INT64_MAX;
}

static enum request_step granted(struct request *request)
{
    request->has_permit = true;
    request->granted_us = request->now_us;
    request->waits_since_us = 0;
    return STEP_CHECKOUT;
}

// What was sent before is not shed, and its outcome not known.
static enum request_step refused(struct request *request)
{
    if (request->in_doubt) {
        request->failure = FAILURE_UPSTREAM_LOST;
        return STEP_FAIL;
    }
    if (request->bond.upstream && request->ticket.refusal == REFUSED_PINNED) {
        request->failure = FAILURE_AFFINITY_LOST; // with the upstream that it was pinned to
        return STEP_FAIL;
    }
    switch (request->ticket.refusal) {
    case REFUSED_DEADLINE:
        request->failure = FAILURE_DEADLINE;
        break;
    case REFUSED_NO_SERVER:
        request->failure = FAILURE_NO_SERVER;
        break;
    default:
        request->failure = FAILURE_SHED;
    }
    return STEP_FAIL;
}

// Whether it was sent to a server whose breaker has opened since, and another one suits. Once: that
// one's may be open, too.
static bool may_go_elsewhere(struct request *request)
{
    struct server *server;
    bool may = request->ticket.refusal == REFUSED_NO_SERVER && !request->was_turned_away &&
               route_request(request, &server) == ROUTE_FOUND && server != request->server;
    request->was_turned_away |= may;
    return may;
}

// What a rule says, else what the user has.
static enum priority priority_of(const struct request *request)
{
    bool ruled = request->verdict.priority != PRIORITY_NORMAL || !request->user;
    return ruled ? request->verdict.priority : (enum priority)request->user->spec.priority;
}

static enum request_step ask_for_permit(struct request *request)
{
    bool finishes = command_finishes(&request->command);
    struct gate_ask ask = {
        .deadline_us = deadline_of(request),
        .serverless_us = request->ticket.serverless_us,
        .tenant = request->tenant.id,
        .weight = request->tenant.weight,
        .priority = priority_of(request),
        .finishes = finishes,
        .exempt = finishes && request->command.cursor_id == 0,
        .streams = request->bond.streams && request->command.cursor_id != 0,
        .slow = request->verdict.slow,
    };
    request->asked = true;
    uint64_t shape = shape_id(&request->msg, &request->command);
    request->may_pin = !finishes && (request->command.start_transaction ||
                                     (request->command.info->traits & COMMAND_CURSOR));
    switch (server_admit(request->server, request, shape, ask, request->now_us)) {
    case GATE_GRANTED:
        return granted(request);
    case GATE_REFUSED:
        return may_go_elsewhere(request) ? STEP_ROUTE : refused(request);
    case GATE_QUEUED:
        break;
    }
    return STEP_WAIT;
}

static enum request_step step_admit(struct request *request)
{
    if (!request->asked) {
        return ask_for_permit(request);
    }
    enum request_news news = request->news;
    request->news = NEWS_NONE;
    if (news == NEWS_GRANTED) {
        return granted(request);
    }
    if (news == NEWS_REFUSED) {
        return refused(request);
    }
    if (news == NEWS_ELSEWHERE) {
        return STEP_ROUTE;
    }
    bool withdrawn =
        is_unwanted(request) && server_withdraw(request->server, request, request->now_us);
    return withdrawn ? end_unwanted(request) : STEP_WAIT;
}

// --- CHECKOUT -----------------------------------------------------------------------------------

// Gives back what it holds without having used it.
static void give_back(struct request *request)
{
    struct upstream *upstream = request->upstream;
    if (upstream) {
        upstream->request = NULL;
        request->upstream = NULL;
    }
    request->has_permit = false;
    server_checkin(request->server, request, upstream, false, request->now_us);
}

static enum request_step step_checkout(struct request *request)
{
    enum request_news news = request->news;
    request->news = NEWS_NONE;
    if (news == NEWS_REFUSED) {
        return refused(request); // the server has taken the permit back
    }
    if (news == NEWS_ELSEWHERE) {
        request->waiting_for_upstream = false;
        return STEP_ROUTE; // likewise
    }
    if (is_unwanted(request)) {
        if (!request->waiting_for_upstream || news == NEWS_GRANTED) {
            give_back(request);
            return end_unwanted(request);
        }
        if (server_withdraw(request->server, request, request->now_us)) {
            if (DEFECT(PERMIT_TWICE)) {
                give_back(request);
            }
            request->has_permit = false;
            return end_unwanted(request);
        }
        return STEP_WAIT;
    }
    bool must_ask = !request->waiting_for_upstream || news == NEWS_GRANTED;
    while (!request->upstream && must_ask) {
        struct upstream *upstream = server_checkout(request->server, request, request->now_us);
        request->waiting_for_upstream = upstream == NULL;
        must_ask = upstream != NULL;
        if (upstream && upstream_is_usable(upstream, request->now_us)) {
            request->upstream = upstream;
            upstream->request = request;
        } else if (upstream) {
            upstream_close(upstream, "was closed while idle", false);
        }
    }
    if (!request->upstream) {
        return STEP_WAIT;
    }
    request->waiting_for_upstream = false;
    return STEP_SEND;
}

// --- SEND ---------------------------------------------------------------------------------------

static bool may_send_again(const struct request *request)
{
    return !is_unwanted(request) && !request->killed && !request->reply_begun &&
           command_may_repeat(&request->command);
}

// As if it had not been sent.
static void rewind_to_route(struct request *request)
{
    request->sent_bytes = 0;
    request->send_begun = false;
    request->reply_bytes = 0;
    request->reply_is_plain = false;
    request->received_us = 0;
    packing_drop(request);
    buffer_consume(&request->held, buffer_held(&request->held));
}

// Looks for a server again, which it may wait for as if it had had none since now.
static enum request_step send_again(struct request *request)
{
    request->in_doubt = true;
    request->avoid = request->server->id;
    rewind_to_route(request);
    if (request->ticket.serverless_us == 0) {
        request->ticket.serverless_us = request->now_us;
    }
    return STEP_ROUTE;
}

// The upstream is no good any more: closes it, and says what that means for the request.
static enum request_step lose_upstream(struct request *request, const char *reason,
                                       enum request_failure failure)
{
    struct upstream *upstream = request->upstream;
    request->upstream = NULL;
    request->upstream_lost = false;
    upstream->request = NULL;
    int64_t born_us = upstream->opened_us;
    bool by_us = request->killed || upstream->is_cut;
    server_suspect(request->server, request->now_us);
    upstream_close(upstream, reason, !by_us);
    if (!by_us && request->sent_bytes > 0) {
        server_failed(request->server, request->worker, born_us, request->now_us);
    }
    if (DEFECT(SEND_AGAIN)) {
        request->sent_bytes = 0;
    }
    if (request->sent_bytes == 0) {
        request->send_begun = false;
        return STEP_CHECKOUT; // not one byte was sent: another upstream may have it
    }
    give_back(request);
    if (request->reply_begun) {
        if (request->client) {
            client_close(request->client, CLOSE_BROKEN_REPLY);
        }
        return STEP_END;
    }
    if (may_send_again(request) && !request->was_lost) {
        request->was_lost = true;
        return send_again(request);
    }
    request->failure = DEFECT(LOST_AS_NOT_SENT) ? FAILURE_NO_SERVER
                       : request->kill_why      ? FAILURE_KILLED
                                                : failure;
    return STEP_FAIL;
}

// Takes what was spent waiting off the maxTimeMS that goes up. False: nothing is left of it.
static bool take_waiting_off(struct request *request)
{
    int64_t ms = max_time_of(&request->command);
    int64_t waited_ms = (request->now_us - request->arrived_us) / 1000;
    if (ms > waited_ms && waited_ms > 0) {
        max_time_write(&request->command, buffer_at(&request->message), ms - waited_ms);
    }
    return ms == 0 || ms > waited_ms;
}

static enum request_step step_send(struct request *request)
{
    struct upstream *upstream = request->upstream;
    if (request->upstream_lost) {
        return lose_upstream(request, "took nothing in time", FAILURE_UPSTREAM_LOST);
    }
    if (is_unwanted(request) && !request->send_begun) {
        give_back(request);
        return end_unwanted(request);
    }
    if (!request->send_begun && !take_waiting_off(request)) {
        give_back(request);
        request->failure = request->in_doubt ? FAILURE_UPSTREAM_LOST : FAILURE_DEADLINE;
        return STEP_FAIL;
    }
    if (!request->send_begun) {
        upstream->progress_us = request->now_us;
        request->sent_us = request->now_us;
        request->kill_asked_us = 0;
        gate_sent(&request->ticket, request->now_us);
        packing_pack_request(request);
    }
    request->send_begun = true;
    struct bytes message = packing_outgoing(request);
    while (request->sent_bytes < message.len) {
        size_t len;
        enum stream_status status = stream_write(upstream->stream, message.at + request->sent_bytes,
                                                 message.len - request->sent_bytes, &len);
        if (status == STREAM_WAIT) {
            stream_watch(upstream->stream, STREAM_WRITE);
            return STEP_WAIT;
        }
        if (status != STREAM_OK) {
            return lose_upstream(request, stream_error(upstream->stream), FAILURE_UPSTREAM_LOST);
        }
        request->sent_bytes += len;
        upstream->progress_us = request->now_us;
    }
    packing_drop(request);
    request->reply_is_plain = false;
    stream_watch(upstream->stream, STREAM_READ);
    reply_scan_begin(&request->scan);
    request->step = STEP_RECEIVE;
    return STEP_WAIT;
}

// --- RECEIVE ------------------------------------------------------------------------------------

// The reply's last byte has come: permit and upstream go back, whether or not the client has read
// it.
static void received(struct request *request, bool in_step)
{
    struct upstream *upstream = request->upstream;
    struct affinity *affinity = &request->worker->shared->affinity;
    request->received_us = request->now_us;
    if (request->client_id != 0) {
        affinity_note(affinity, request, &request->scan.view);
    }
    bool changed = relay_denies_role(request);
    bool balancer = upstream->keeps_pins;
    request->upstream = NULL;
    upstream->request = NULL;
    affinity_untie(affinity, request);
    upstream->pins = affinity_count_tied(affinity, upstream);
    if (!in_step) {
        upstream_close(upstream, "sent what nobody asked for", true);
        upstream = NULL;
    } else if (changed && balancer) { // the next connection may lead to another server
        upstream_close(upstream, "its server is not what it was", true);
        upstream = NULL;
    }
    request->has_permit = false;
    packing_drop(request);
    server_checkin(request->server, request, upstream, request->scan.view.ok, request->now_us);
    if (changed && !balancer) {
        server_doubt(request->server, request->worker, request->now_us);
    }
}

// The reply to one part of a killCursors has been taken: the next, or the answer made of all.
static enum request_step go_on_with_split(struct request *request)
{
    if (take_next_part(request)) {
        rewind_to_route(request);
        return STEP_ROUTE;
    }
    bson_t document = BSON_INITIALIZER;
    cursor_split_answer(request->split, &document);
    send_own_reply(request, &document);
    bson_destroy(&document);
    return STEP_REPLY;
}

static enum request_step answered(struct request *request, bool in_step)
{
    received(request, in_step);
    return request->split && !request->reply_begun ? go_on_with_split(request) : STEP_REPLY;
}

// Whether what its server has said makes the request look for another, while there is time. Behind
// a load balancer another connection may lead to one, or may not: once.
static bool must_look_elsewhere(const struct request *request)
{
    int64_t serverless_us = request->ticket.serverless_us;
    int64_t waited_us = serverless_us > 0 ? request->now_us - serverless_us : 0;
    bool tried = request->was_lost && request->upstream->keeps_pins;
    return relay_denies_role(request) && may_send_again(request) && !tried &&
           waited_us < request->worker->shared->config->server_wait_us;
}

static enum request_step look_elsewhere(struct request *request, bool in_step)
{
    request->was_lost |= request->upstream->keeps_pins;
    received(request, in_step);
    return send_again(request);
}

static enum request_step take_plain_reply(struct request *request, const uint8_t *at, size_t len)
{
    size_t taken;
    enum reply_status status = reply_scan_feed(&request->scan, at, len, &taken);
    if (status == REPLY_BAD) {
        return lose_upstream(request, "sent a malformed reply", FAILURE_BAD_REPLY);
    }
    request->reply_bytes += taken;
    bool header = request->reply_bytes >= FRAME_HEADER_BYTES;
    if (header && request->scan.view.frame.response_to != request->frame.request_id) {
        return lose_upstream(request, "answered something else", FAILURE_BAD_REPLY);
    }
    request->upstream->progress_us = request->now_us;
    if (status == REPLY_DONE && must_look_elsewhere(request)) {
        return look_elsewhere(request, taken == len);
    }
    relay_part(request, at, taken, status == REPLY_DONE);
    return status == REPLY_DONE ? answered(request, taken == len) : STEP_RECEIVE;
}

// A reply that has been inflated into `held`.
static enum request_step take_inflated_reply(struct request *request, bool in_step)
{
    struct bytes reply = {buffer_at(&request->held), buffer_held(&request->held)};
    size_t taken;
    enum reply_status status = reply_scan_feed(&request->scan, reply.at, reply.len, &taken);
    if (status != REPLY_DONE || taken < reply.len) {
        return lose_upstream(request, "sent a malformed reply", FAILURE_BAD_REPLY);
    }
    request->reply_bytes = taken;
    if (must_look_elsewhere(request)) {
        return look_elsewhere(request, in_step);
    }
    relay_whole(request, reply);
    return answered(request, in_step);
}

// Goes on with what is in `packed`, of an upstream that may compress.
static enum request_step take_packed_reply(struct request *request)
{
    bool surplus = false;
    enum request_step next;
    switch (packing_inflate_reply(request, &surplus)) {
    case PACKING_MORE:
        return STEP_RECEIVE;
    case PACKING_STARVES:
        stream_watch(request->upstream->stream, 0);
        worker_starve(request->worker, request);
        return STEP_WAIT;
    case PACKING_PLAIN:
        request->reply_is_plain = true;
        request->reply_bytes = 0;
        next =
            take_plain_reply(request, buffer_at(&request->packed), buffer_held(&request->packed));
        buffer_fini(&request->packed);
        return next;
    case PACKING_WHOLE:
        return take_inflated_reply(request, !surplus);
    case PACKING_OTHER_REPLY:
        return lose_upstream(request, "answered something else", FAILURE_BAD_REPLY);
    case PACKING_BAD:
        break;
    }
    return lose_upstream(request, "sent a malformed compressed reply", FAILURE_BAD_REPLY);
}

static enum request_step take_reply(struct request *request, const uint8_t *at, size_t len)
{
    if (!request->upstream->compressor || request->reply_is_plain) {
        return take_plain_reply(request, at, len);
    }
    request->reply_bytes += len;
    request->upstream->progress_us = request->now_us;
    buffer_append(&request->packed, at, len);
    return take_packed_reply(request);
}

// A slow client's replies must not fill the memory: over the budget, the server waits.
static bool must_starve(const struct request *request)
{
    const struct client *client = request->client;
    return client && buffer_held(&client->out) > 0 &&
           budget_is_spent(&request->worker->shared->budget);
}

static enum request_step step_receive(struct request *request)
{
    struct upstream *upstream = request->upstream;
    uint8_t *scratch = request->worker->scratch;
    if (request->upstream_lost) {
        const char *reason =
            request->reply_bytes > 0 ? "reply not complete in time" : "no reply in time";
        return lose_upstream(request, reason,
                             request->killed ? FAILURE_KILLED : FAILURE_UPSTREAM_LOST);
    }
    if (DEFECT(WRONG_CLIENT) && request->abandoned) {
        give_back(request);
        return STEP_END;
    }
    if (buffer_held(&request->packed) > 0) { // it may have starved, with all bytes there
        enum request_step next = take_packed_reply(request);
        if (next != STEP_RECEIVE) {
            return next;
        }
    }
    for (int reads = 0; reads < READS_PER_RUN; reads++) {
        if (must_starve(request)) {
            stream_watch(upstream->stream, 0);
            worker_starve(request->worker, request);
            return STEP_WAIT;
        }
        stream_watch(upstream->stream, STREAM_READ);
        size_t len;
        enum stream_status status =
            stream_read(upstream->stream, scratch, WORKER_SCRATCH_BYTES, &len);
        if (status == STREAM_WAIT) {
            return STEP_WAIT;
        }
        if (status != STREAM_OK) {
            const char *reason =
                status == STREAM_CLOSED ? "closed by the server" : stream_error(upstream->stream);
            return lose_upstream(request, reason, FAILURE_UPSTREAM_LOST);
        }
        atomic_store_explicit(&request->server->heard_us, request->now_us, memory_order_relaxed);
        enum request_step next = take_reply(request, scratch, len);
        if (next != STEP_RECEIVE || len < WORKER_SCRATCH_BYTES) {
            return next == STEP_RECEIVE ? STEP_WAIT : next;
        }
    }
    return STEP_WAIT;
}

// --- FAIL ---------------------------------------------------------------------------------------

_Static_assert(FAILURE_COUNT <= WORKER_REASONS_MAX, "room to count them");

static enum request_step step_fail(struct request *request)
{
    struct client *client = request->client;
    struct reply_error error = {0};
    char words[FAILURE_WORDS_BYTES];
    assert(request->failure != FAILURE_NONE);
    traffic_add(&request->worker->failed[request->failure], 1);
    if (request->client_id == 0) {
        affinity_kill_failed(&request->worker->shared->affinity, request);
    }
    failure_describe(request, &error, words);
    if (client && request->failure == FAILURE_BAD_MESSAGE) {
        client_log_bad_input(client, error.message);
        client->close_after_reply = wire_error_closes(request->wire_error);
    }
    bson_t document = BSON_INITIALIZER;
    reply_error_document(&error, &document);
    send_own_reply(request, &document);
    bson_destroy(&document);
    return STEP_REPLY;
}

// --- REPLY --------------------------------------------------------------------------------------

static enum request_step step_reply(struct request *request)
{
    struct client *client = request->client;
    if (client && buffer_held(&client->out) > 0) {
        return STEP_WAIT;
    }
    if (client && client->close_after_reply) {
        client_close(client, CLOSE_BAD_INPUT);
    }
    return STEP_END;
}

// --- the end ------------------------------------------------------------------------------------

static void log_slow(const struct request *request, const int64_t measured[MEASURE_COUNT])
{
    static struct log_limit limit = {.per_second = 10};
    const struct command *command = &request->command;
    char shape[LOG_VALUE_BYTES];
    struct log_line line;
    if (!log_begin_limited(&line, LOG_INFO, "slow_operation", &limit, request->now_us)) {
        return;
    }
    log_int(&line, "client", (int64_t)request->client_id);
    log_str(&line, "app", request->app_name);
    log_str(&line, "tenant", request->tenant.name);
    log_text(&line, "command", (const char *)command->name.at, command->name.len);
    log_text(&line, "db", (const char *)command->database.at, command->database.len);
    log_text(&line, "collection", (const char *)command->collection.at, command->collection.len);
    shape_text(&request->msg, command, shape, sizeof shape);
    log_str(&line, "shape", shape);
    snprintf(shape, sizeof shape, "%016" PRIx64, shape_id(&request->msg, command));
    log_str(&line, "shape_id", shape);
    log_int(&line, "waited_us", measured[MEASURE_WAITED_US]);
    log_int(&line, "served_us", measured[MEASURE_SERVED_US]);
    log_int(&line, "total_us", measured[MEASURE_TOTAL_US]);
    log_int(&line, "bytes", measured[MEASURE_BYTES]);
    log_end(&line);
}

// Of a request that was served.
static void measure(struct request *request)
{
    const int64_t measured[MEASURE_COUNT] = {
        [MEASURE_WAITED_US] = request->granted_us - request->arrived_us,
        [MEASURE_SERVED_US] = request->received_us - request->granted_us,
        [MEASURE_TOTAL_US] = request->now_us - request->arrived_us,
        [MEASURE_BYTES] = (int64_t)(request->length + request->reply_bytes),
    };
    meter_record(&request->worker->meter, request->command.info, measured);
    bool waited_for_data = request->ticket.lane == LANE_STREAM;
    traffic_record(&request->server->traffic[request->worker->index],
                   traffic_classify(&request->command, waited_for_data), measured);
    if (!waited_for_data &&
        measured[MEASURE_TOTAL_US] >= request->worker->shared->config->slow_op_threshold_us) {
        log_slow(request, measured);
    }
}

static void release_buffer(struct buffer *buffer)
{
    if (buffer->capacity > REQUEST_KEEP_BYTES) {
        buffer_fini(buffer);
    } else {
        buffer_consume(buffer, buffer_held(buffer));
    }
}

#define FREE_REQUESTS_MAX 256

static void request_free(struct request *request)
{
    struct worker *worker = request->worker;
    if (request->claimed_bytes > 0 && !(DEFECT(BUDGET_LEAK) && request->abandoned)) {
        budget_release(&worker->shared->budget, request->claimed_bytes);
    }
    packing_drop(request);
    if (request->client_id == 0) {
        sessions_passed_on(&worker->ended_sessions, request);
        affinity_untie(&worker->shared->affinity, request);
        worker->own_requests--;
        worker_tick_by(worker, request->now_us); // there may be more to kill
    }
    release_buffer(&request->message);
    release_buffer(&request->held);
    cursor_split_free(request->split);
    rule_verdict_end(&request->verdict);
    go_to(request, NULL);
    if (request->is_counted) {
        atomic_fetch_sub(&request->user->first->in_flight, 1);
    }
    user_drop(request->user);
    timer_free(request->delay);
    worker_forget(worker, request);
    worker->request_count--;
    if (worker->free_request_count < FREE_REQUESTS_MAX) {
        request->next = worker->free_requests;
        worker->free_requests = request;
        worker->free_request_count++;
    } else {
        buffer_fini(&request->message);
        buffer_fini(&request->held);
        free(request);
    }
}

static void request_end(struct request *request)
{
    struct client *client = request->client;
    assert(!request->has_permit && !request->upstream);
    bool went_on = request->received_us > 0 && request->scan.view.ok && !request->abandoned;
    if (request->bond.server != 0 && request->client_id != 0 && !went_on) {
        affinity_rest(&request->worker->shared->affinity, request, request->now_us);
    }
    if (request->received_us > 0) {
        measure(request);
    }
    request_free(request);
    if (client) {
        client->request = NULL;
        client_rest(client);
    }
}

// --- running ------------------------------------------------------------------------------------

static enum request_step (*const steps[])(struct request *) = {
#define X(name, function) [STEP_##name] = step_##function,
    REQUEST_STEPS(X)
#undef X
};

static void check_invariants(const struct request *request)
{
    assert(request->step < STEP_WAIT);
    assert(!request->upstream || request->has_permit);
    assert(!request->upstream || request->upstream->request == request);
    assert(!request->client || request->client->request == request);
    assert(request->step != STEP_RECEIVE || request->upstream);
}

enum request_fate request_run(struct request *request)
{
    if (request->running) {
        request->again = true;
        return REQUEST_WAITS;
    }
    // Whatever woke it: what it was listed for happens now, and the next list needs the same link.
    worker_forget(request->worker, request);
    request->running = true;
    request->now_us = loop_now_us(request->worker->loop);
    for (;;) {
        check_invariants(request);
        enum request_step next = steps[request->step](request);
        if (next == STEP_END) {
            request_end(request);
            return REQUEST_ENDED;
        }
        if (next != STEP_WAIT) {
            request->step = next;
        } else if (!request->again) {
            break;
        }
        request->again = false;
    }
    request->running = false;
    return REQUEST_WAITS;
}

struct request *request_new(struct worker *worker, struct client *client)
{
    struct request *request = worker->free_requests;
    struct buffer message = {0};
    struct buffer held = {0};
    if (request) {
        worker->free_requests = request->next;
        worker->free_request_count--;
        message = request->message;
        held = request->held;
    } else {
        request = xmalloc(sizeof *request);
    }
    memset(request, 0, offsetof(struct request, scan));
    memset(&request->reply_bytes, 0, sizeof *request - offsetof(struct request, reply_bytes));
    request->message = message;
    request->held = held;
    request->worker = worker;
    request->client = client;
    worker->request_count++;
    request->number = ++worker->requests_begun * (uint64_t)worker->shared->servers->worker_count +
                      (uint64_t)worker->index;
    if (client) {
        client->request = request;
        request->client_id = client->id;
        request->user = user_keep(client->user);
        request->identity = client->user ? client->user->identity : 0;
        memcpy(request->app_name, client->app_name, sizeof request->app_name);
        (void)memccpy(request->peer, stream_peer(client->stream), '\0', sizeof request->peer - 1);
        request->backs_off = client->backs_off;
        request->tenant = client->tenant;
    }
    return request;
}

void request_namespace(const struct request *request, char *ret_namespace, size_t capacity)
{
    const struct bytes database = request->command.database;
    const struct bytes collection = request->command.collection;
    snprintf(ret_namespace, capacity, "%.*s%s%.*s", (int)database.len,
             database.len > 0 ? (const char *)database.at : "", collection.len > 0 ? "." : "",
             (int)collection.len, collection.len > 0 ? (const char *)collection.at : "");
}

void request_abandon(struct request *request)
{
    request->client = NULL;
    request->abandoned = true;
    request->abandoned_us = loop_now_us(request->worker->loop);
    request_run(request);
}

void request_lose_upstream(struct request *request)
{
    request->upstream_lost = true;
    worker_forget(request->worker, request); // it may starve
    worker_make_ready(request->worker, request);
}

void request_kill(struct request *request)
{
    request->killed = true;
    request_lose_upstream(request);
}

void request_receive_news(struct request *request)
{
    request->news = request->told;
    request->has_permit = request->news == NEWS_GRANTED;
    if (request->handed) {
        request->upstream = request->handed;
        request->upstream->request = request;
        request->handed = NULL;
    }
}

void request_run_own(struct worker *worker, const struct bond *bond, struct buffer *message)
{
    struct request *request = request_new(worker, NULL);
    worker->own_requests++;
    request->bond = *bond;
    request->identity = bond->identity;
    buffer_append(&request->message, buffer_at(message), buffer_held(message));
    buffer_fini(message);
    enum frame_status status =
        frame_read(buffer_at(&request->message), buffer_held(&request->message), &request->frame);
    assert(status == FRAME_OK);
    request->length = (size_t)request->frame.length;
    request->step = STEP_CLASSIFY;
    request_run(request);
}

void request_free_all(struct worker *worker)
{
    while (worker->free_requests) {
        struct request *request = worker->free_requests;
        worker->free_requests = request->next;
        buffer_fini(&request->message);
        buffer_fini(&request->held);
        free(request);
    }
}
