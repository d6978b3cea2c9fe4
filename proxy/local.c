// SPDX-License-Identifier: Apache-2.0

#include "proxy/local.h"

#include <stdio.h>
#include <sys/time.h>

#include "proxy/worker.h"
#include "wire/bson_view.h"
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

// As a mongos in front of a replica set or a sharded cluster, as a standalone in front of one
// (which takes no txnNumber). No topologyVersion: drivers then poll, and recover in half a second.
static void answer_hello(struct client *client, const struct command *command, bson_t *document)
{
    const struct face *face = face_of(client->worker);
    bool legacy = !bytes_equal(command->name, "hello");
    keep_app_name(client, command);
    client->backs_off |= announces_backoff(command);
    BSON_APPEND_BOOL(document, legacy ? "ismaster" : "isWritablePrimary", true);
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
    BSON_APPEND_DOUBLE(document, "ok", 1.0);
}

static void refuse_authentication(bson_t *document)
{
    const struct reply_error error = {
        .code = 18,
        .message = "weir: Authentication failed: apps do not log in here; take the user name and "
                   "password out of the app's URI (weir itself logs in to the deployment)",
    };
    reply_error_document(&error, document);
}

void local_answer(struct client *client, const struct command *command, bson_t *document)
{
    if (command->info->traits & COMMAND_HELLO) {
        answer_hello(client, command, document);
    } else if (bytes_equal(command->name, "logout") || bytes_equal(command->name, "endSessions")) {
        BSON_APPEND_DOUBLE(document, "ok", 1.0);
    } else {
        refuse_authentication(document);
    }
}
