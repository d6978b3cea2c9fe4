// SPDX-License-Identifier: Apache-2.0

#include "proxy/local.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>

#include "proxy/access.h"
#include "proxy/log.h"
#include "proxy/login.h"
#include "proxy/worker.h"
#include "wire/bson_view.h"
#include "wire/error_code.h"
#include "wire/reply.h"

#define MAX_WIRE_VERSION 27 // up to here we know what a driver may send

// What every server in the range of versions we know keeps; said while the deployment is not known
// yet, and by a load balancer, which keeps to itself what is behind it.
static const struct face usual_face = {
    .max_wire_version = 21,
    .max_bson_bytes = 16777216,
    .max_message_bytes = FRAME_MAX_BYTES,
    .max_write_batch = 100000,
    .session_timeout_minutes = 30,
};

// The last that was known, also while no server is there, so that a driver is not told something
// else in the middle of an election.
static const struct face *face_of(const struct worker *worker)
{
    bool known = worker->has_face && worker->face.max_wire_version > 0;
    return known ? &worker->face : &usual_face;
}

static int32_t lesser(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static void append_limits(bson_t *document, const struct face *face)
{
    BSON_APPEND_INT32(document, "maxBsonObjectSize", face->max_bson_bytes);
    BSON_APPEND_INT32(document, "maxMessageSizeBytes",
                      lesser(face->max_message_bytes, FRAME_MAX_BYTES));
    BSON_APPEND_INT32(document, "maxWriteBatchSize", face->max_write_batch);
    if (face->session_timeout_minutes >= 0) {
        BSON_APPEND_INT32(document, "logicalSessionTimeoutMinutes", face->session_timeout_minutes);
    }
}

// An id of the service behind the load balancer that we seem to be. A different one for each
// client, so that a driver that sees one connection fail clears no other.
static void append_service_id(bson_t *document, const struct client *client)
{
    bson_oid_t id = {{0}};
    memcpy(id.bytes, client->worker->shared->process_id, sizeof client->worker->shared->process_id);
    for (size_t i = 0; i < 7; i++) {
        id.bytes[11 - i] = (uint8_t)(client->id >> (8 * i));
    }
    BSON_APPEND_OID(document, "serviceId", &id);
}

static bool asks_for(const struct command *command, const char *key)
{
    struct bson_element element;
    return bson_find(command->body, key, &element) && bson_element_truth(&element);
}

static void keep_app_name(struct client *client, const struct command *command)
{
    struct bson_element part;
    struct bytes name;
    if (!bson_find(command->body, "client", &part) || part.type != BSON_VIEW_DOCUMENT ||
        !bson_find(part.value, "application", &part) || part.type != BSON_VIEW_DOCUMENT ||
        !bson_find(part.value, "name", &part) || !bson_element_text(&part, &name)) {
        return;
    }
    client_name_app(client, name);
}

// Drivers have said "2" and true; what counts is that they say it.
static bool announces_backoff(const struct command *command)
{
    struct bson_element field;
    return bson_find(command->body, "backpressure", &field) &&
           (field.type != BSON_VIEW_BOOL || bson_element_truth(&field));
}

// Whether the app is on this machine.
bool local_is_near(const struct client *client)
{
    static const char *const near[] = {"unix", "127.", "[::1]", "[::ffff:127."};
    const char *peer = stream_peer(client->stream);
    for (size_t i = 0; i < sizeof near / sizeof near[0]; i++) {
        if (strncmp(peer, near[i], strlen(near[i])) == 0) {
            return true;
        }
    }
    return false;
}

bool local_may_look(const struct client *client)
{
    if (client->worker->shared->logins) {
        return client->user && client->user->spec.weir != WEIR_NO;
    }
    return local_is_near(client);
}

bool local_may_act(const struct client *client)
{
    if (client->worker->shared->logins) {
        return client->user && client->user->spec.weir == WEIR_ACT;
    }
    return local_is_near(client);
}

// What this app may compress with.
static struct compressor_list compressors_for(const struct client *client)
{
    const struct config *config = client->worker->shared->config;
    bool preset = config->origins[CONFIG_OPTION_compressors].source == CONFIG_FROM_DEFAULT;
    struct compressor_list list = {0};
    for (size_t i = 0; i < config->compressors.count && !(preset && local_is_near(client)); i++) {
        const char *name = config->compressors.items[i];
        struct bytes text = {(const uint8_t *)name, strlen(name)};
        compressor_list_add(&list, compressor_find(text));
    }
    return list;
}

// A hello without the field leaves what was agreed as it is, and is told it, as a server does.
static void agree_on_compression(struct client *client, const struct command *command,
                                 bson_t *document)
{
    struct bson_element field;
    struct compressor_list *agreed = &client->compressors;
    if (bson_find(command->body, "compression", &field) && field.type == BSON_VIEW_ARRAY) {
        struct compressor_list asked = compressor_list_read(field.value);
        struct compressor_list ours = compressors_for(client);
        *agreed = compressor_list_common(&asked, &ours);
    }
    compressor_list_append(agreed, document);
}

// --- logging in ---------------------------------------------------------------------------------

static void refuse_authentication(bson_t *document)
{
    const struct reply_error error = {
        .code = CODE_AUTHENTICATION_FAILED,
        .message = "weir: Authentication failed: apps do not log in here; take the user name and "
                   "password out of the app's URI (weir itself logs in to the deployment)",
    };
    reply_error_document(&error, document);
}

static void log_refused(const struct client *client, const struct login *login, const char *why)
{
    static struct log_limit limit = {.per_second = 5};
    struct log_line line;
    if (!log_begin_limited(&line, LOG_WARN, "login_refused", &limit,
                           loop_now_us(client->worker->loop))) {
        return;
    }
    log_int(&line, "client", (int64_t)client->id);
    log_str(&line, "peer", stream_peer(client->stream));
    log_str(&line, "user", login ? login_name(login) : "");
    log_str(&line, "db", login ? login_db(login) : "");
    log_str(&line, "mechanism", login ? login_mechanism(login) : "");
    log_str(&line, "why", why);
    log_end(&line);
}

static void drop_login(struct client *client)
{
    login_free(client->login);
    client->login = NULL;
}

// All is over, and everybody is told the same.
static void fail_login(struct client *client, const char *why, bson_t *document)
{
    const struct reply_error error = {.code = CODE_AUTHENTICATION_FAILED,
                                      .message = "Authentication failed."};
    log_refused(client, client->login, why);
    logins_failed(client->worker->shared->logins, client_ip(client),
                  loop_now_us(client->worker->loop));
    drop_login(client);
    bson_reinit(document);
    reply_error_document(&error, document);
}

// A connection is one user's from its login to its end, or to its logout.
static void end_login(struct client *client, bson_t *document)
{
    struct user *user = login_user(client->login);
    if (client->user && client->user->first != user->first) {
        fail_login(client, "another user is logged in on this connection", document);
        return;
    }
    client_become(client, user);
    drop_login(client);
}

static void go_on_with_login(struct client *client, enum login_status status, bson_t *document)
{
    struct reply_error error = {0};
    switch (status) {
    case LOGIN_GOES_ON:
        return;
    case LOGIN_DONE:
        end_login(client, document);
        return;
    case LOGIN_REFUSED:
        fail_login(client, login_why(client->login), document);
        return;
    case LOGIN_NO_MECHANISM:
        error.code = CODE_MECHANISM_UNAVAILABLE;
        error.message = "weir: apps log in here by SCRAM-SHA-256, SCRAM-SHA-1 or MONGODB-X509";
        break;
    case LOGIN_OUT_OF_PLACE:
        error.code = CODE_PROTOCOL_ERROR;
        error.message = "No SASL session state found";
        break;
    }
    log_refused(client, client->login, error.message);
    drop_login(client);
    reply_error_document(&error, document);
}

static enum login_status begin(struct client *client, struct bytes command, struct bytes database,
                               bool by_certificate, struct login **ret_login, bson_t *document)
{
    struct logins *logins = client->worker->shared->logins;
    if (!by_certificate) {
        return login_start(logins, command, database, ret_login, document);
    }
    char *subject = stream_subject(client->stream);
    enum login_status status = login_by_certificate(logins, command, subject, ret_login, document);
    free(subject);
    return status;
}

static void answer_start(struct client *client, const struct command *command, bson_t *document)
{
    struct login *login;
    struct login *former = client->login;
    bool by_certificate = bytes_equal(command->name, "authenticate");
    enum login_status status =
        begin(client, command->body, command->database, by_certificate, &login, document);
    bool other = former && !login_same_user(former, login);
    login_free(former);
    client->login = login;
    if (other) {
        fail_login(client, "began as another user", document);
    } else {
        go_on_with_login(client, status, document);
    }
}

// A hello may bring the first message along. What does not go well is not answered, and begins anew
// by its own command.
static void speculate(struct client *client, const struct command *command, bson_t *document)
{
    struct bson_element part;
    struct bson_element db;
    struct bytes database = {NULL, 0};
    if (client->login || client->user ||
        !bson_find(command->body, "speculativeAuthenticate", &part) ||
        part.type != BSON_VIEW_DOCUMENT) {
        return;
    }
    if (bson_find(part.value, "db", &db)) {
        (void)bson_element_text(&db, &database);
    }
    struct login *login;
    bson_t answer = BSON_INITIALIZER;
    struct bson_element ignored;
    bool by_certificate = bson_find(part.value, "authenticate", &ignored);
    enum login_status status = begin(client, part.value, database, by_certificate, &login, &answer);
    bool goes_on = status == LOGIN_GOES_ON && login_is_likely(login);
    client->login = login;
    if (goes_on || status == LOGIN_DONE) {
        BSON_APPEND_DOCUMENT(document, "speculativeAuthenticate", &answer);
    }
    if (status == LOGIN_DONE) {
        client_become(client, login_user(login));
    }
    if (!goes_on) {
        drop_login(client);
    }
    bson_destroy(&answer);
}

static void append_mechanisms(struct client *client, const struct command *command,
                              bson_t *document)
{
    struct bson_element field;
    struct bytes user;
    if (bson_find(command->body, "saslSupportedMechs", &field) &&
        bson_element_text(&field, &user)) {
        logins_append_mechanisms(client->worker->shared->logins, user, document);
    }
}

// What a server's connectionStatus says, of the app's user and not of weir's.
static void answer_connection_status(const struct client *client, bson_t *document)
{
    bson_t info;
    bson_t list;
    bson_t user;
    BSON_APPEND_DOCUMENT_BEGIN(document, "authInfo", &info);
    BSON_APPEND_ARRAY_BEGIN(&info, "authenticatedUsers", &list);
    if (client->user) {
        BSON_APPEND_DOCUMENT_BEGIN(&list, "0", &user);
        BSON_APPEND_UTF8(&user, "user", client->user->spec.name);
        BSON_APPEND_UTF8(&user, "db", client->user->spec.db);
        bson_append_document_end(&list, &user);
    }
    bson_append_array_end(&info, &list);
    BSON_APPEND_ARRAY_BEGIN(&info, "authenticatedUserRoles", &list);
    bson_append_array_end(&info, &list);
    bson_append_document_end(document, &info);
    BSON_APPEND_DOUBLE(document, "ok", 1.0);
}

static void answer_login(struct client *client, const struct command *command, bson_t *document)
{
    if (bytes_equal(command->name, "saslStart") || bytes_equal(command->name, "authenticate")) {
        answer_start(client, command, document);
    } else if (bytes_equal(command->name, "saslContinue")) {
        enum login_status status = login_continue(client->login, command->body, document);
        go_on_with_login(client, status, document);
    } else {
        go_on_with_login(client, LOGIN_NO_MECHANISM, document);
    }
}

// As a mongos in front of a replica set or a sharded cluster, as a standalone in front of one
// (which takes no txnNumber). In front of one member it says of itself what that is; still as a
// mongos, for without directConnection of their own drivers would follow a member to its set. No
// topologyVersion: drivers then poll, and recover in half a second.
static void answer_hello(struct client *client, const struct command *command, bson_t *document)
{
    const struct face *face = face_of(client->worker);
    bool legacy = !bytes_equal(command->name, "hello");
    keep_app_name(client, command);
    client->backs_off |= announces_backoff(command);
    BSON_APPEND_BOOL(document, legacy ? "ismaster" : "isWritablePrimary", !face->no_writes);
    if (face->no_writes) {
        BSON_APPEND_BOOL(document, "secondary", face->secondary);
    }
    if (asks_for(command, "helloOk")) {
        BSON_APPEND_BOOL(document, "helloOk", true);
    }
    if (!face->standalone) {
        BSON_APPEND_UTF8(document, "msg", "isdbgrid");
    }
    append_limits(document, face);
    struct timeval wall;
    gettimeofday(&wall, NULL);
    BSON_APPEND_TIMEVAL(document, "localTime", &wall);
    BSON_APPEND_INT32(document, "connectionId", (int32_t)(client->id & INT32_MAX));
    BSON_APPEND_INT32(document, "minWireVersion", 0);
    BSON_APPEND_INT32(document, "maxWireVersion", lesser(face->max_wire_version, MAX_WIRE_VERSION));
    BSON_APPEND_BOOL(document, "readOnly", false);
    agree_on_compression(client, command, document);
    if (asks_for(command, "loadBalanced")) {
        append_service_id(document, client);
    }
    if (client->worker->shared->logins) {
        append_mechanisms(client, command, document);
        speculate(client, command, document);
    }
    BSON_APPEND_DOUBLE(document, "ok", 1.0);
}

// --- all of it ----------------------------------------------------------------------------------

bool local_is_ours(const struct client *client, const struct command *command)
{
    if (command->info->traits & COMMAND_LOCAL) {
        return true;
    }
    bool users = client && client->worker->shared->logins;
    return users && (bytes_equal(command->name, "connectionStatus") ||
                     (!client->user && access_before_login(command)));
}

int64_t local_wait_us(struct client *client, const struct command *command)
{
    struct logins *logins = client->worker->shared->logins;
    bool proves = bytes_equal(command->name, "saslContinue") && login_wants_proof(client->login);
    if (!logins || (!proves && !bytes_equal(command->name, "authenticate"))) {
        return 0;
    }
    int64_t wait_us = logins_wait(logins, client_ip(client), loop_now_us(client->worker->loop));
    if (wait_us < 0) {
        log_refused(client, client->login, "too many attempts wait from this address");
    }
    return wait_us;
}

void local_answer(struct client *client, const struct command *command, bson_t *document)
{
    bool users = client->worker->shared->logins != NULL;
    if (command->info->traits & COMMAND_HELLO) {
        answer_hello(client, command, document);
    } else if (bytes_equal(command->name, "logout")) {
        drop_login(client);
        client_become(client, NULL);
        BSON_APPEND_DOUBLE(document, "ok", 1.0);
    } else if (bytes_equal(command->name, "ping") || bytes_equal(command->name, "endSessions")) {
        BSON_APPEND_DOUBLE(document, "ok", 1.0);
    } else if (bytes_equal(command->name, "connectionStatus")) {
        answer_connection_status(client, document);
    } else if (users) {
        answer_login(client, command, document);
    } else {
        refuse_authentication(document);
    }
}
