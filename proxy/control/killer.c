// SPDX-License-Identifier: Apache-2.0
#include "proxy/control/killer.h"

#include <mongoc/mongoc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proxy/control/clock.h"

enum { STALE_US = 2000000 }; // who asked has done something else about it since

// --- the server ---------------------------------------------------------------------------------

struct target {
    uint32_t id; // libmongoc's, of the server; 0: it is not known
    bool is_mongos;
};

static struct target find_server(mongoc_client_t *client, const char *name)
{
    struct target target = {0};
    size_t count;
    mongoc_server_description_t **known = mongoc_client_get_server_descriptions(client, &count);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(mongoc_server_description_host(known[i])->host_and_port, name) == 0) {
            target.id = mongoc_server_description_id(known[i]);
            target.is_mongos = strcmp(mongoc_server_description_type(known[i]), "Mongos") == 0;
        }
    }
    mongoc_server_descriptions_destroy_all(known, count);
    return target;
}

// Takes the command. Any member will do: it is meant itself.
static bool ask(mongoc_client_t *client, const struct target *target, bson_t *command,
                bson_t *ret_reply, bson_error_t *ret_error)
{
    mongoc_read_prefs_t *here = mongoc_read_prefs_new(MONGOC_READ_SECONDARY_PREFERRED);
    bool done = mongoc_client_command_simple_with_server_id(client, "admin", command, here,
                                                            target->id, ret_reply, ret_error);
    mongoc_read_prefs_destroy(here);
    bson_destroy(command);
    return done;
}

// --- the operation ------------------------------------------------------------------------------

enum found { FOUND, FOUND_OVER, FOUND_NO_MEANS };

static bson_t *current_op(const struct kill *kill, const struct target *target)
{
    bson_t *command = bson_new();
    bson_t pipeline, stage, inner, cursor;
    BSON_APPEND_INT32(command, "aggregate", 1);
    BSON_APPEND_ARRAY_BEGIN(command, "pipeline", &pipeline);
    BSON_APPEND_DOCUMENT_BEGIN(&pipeline, "0", &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&stage, "$currentOp", &inner);
    if (target->is_mongos) { // which connection it is, only the mongos itself knows
        BSON_APPEND_BOOL(&inner, "localOps", true);
    }
    bson_append_document_end(&stage, &inner);
    bson_append_document_end(&pipeline, &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&pipeline, "1", &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&stage, "$match", &inner);
    BSON_APPEND_INT64(&inner, "connectionId", kill->connection);
    BSON_APPEND_BOOL(&inner, "active", true);
    bson_append_document_end(&stage, &inner);
    bson_append_document_end(&pipeline, &stage);
    bson_append_array_end(command, &pipeline);
    BSON_APPEND_DOCUMENT_BEGIN(command, "cursor", &cursor);
    bson_append_document_end(command, &cursor);
    return command;
}

// What began before it was asked to be killed: a connection has one operation at a time, so another
// one cannot have.
static bool is_meant(const bson_iter_t *operation, const struct kill *kill, bson_iter_t *ret_opid)
{
    bson_iter_t field;
    if (!bson_iter_recurse(operation, &field) || !bson_iter_find(&field, "microsecs_running") ||
        bson_iter_as_int64(&field) <= now_us() - kill->asked_us) {
        return false;
    }
    return bson_iter_recurse(operation, ret_opid) && bson_iter_find(ret_opid, "opid");
}

static enum found find_operation(mongoc_client_t *client, const struct target *target,
                                 const struct kill *kill, bson_t *ret_kill_op, bson_error_t *error)
{
    enum found found = FOUND_NO_MEANS;
    bson_t reply;
    bson_iter_t iter, batch, opid;
    if (ask(client, target, current_op(kill, target), &reply, error)) {
        found = FOUND_OVER;
        if (bson_iter_init(&iter, &reply) &&
            bson_iter_find_descendant(&iter, "cursor.firstBatch", &batch) &&
            bson_iter_recurse(&batch, &iter)) {
            while (found != FOUND && bson_iter_next(&iter)) {
                found = is_meant(&iter, kill, &opid) ? FOUND : FOUND_OVER;
            }
        }
        if (found == FOUND) {
            bson_append_iter(ret_kill_op, "op", -1, &opid);
        }
    }
    bson_destroy(&reply);
    return found;
}

static bson_t *kill_session(const struct kill *kill)
{
    bson_t *command = bson_new();
    bson_t sessions, session;
    BSON_APPEND_ARRAY_BEGIN(command, "killSessions", &sessions);
    BSON_APPEND_DOCUMENT_BEGIN(&sessions, "0", &session);
    BSON_APPEND_BINARY(&session, "id", BSON_SUBTYPE_UUID, kill->session_id,
                       sizeof kill->session_id);
    bson_append_document_end(&sessions, &session);
    bson_append_array_end(command, &sessions);
    return command;
}

// NULL: it was not killed; error says why, or nothing if it had come to its end.
static const char *kill_operation(struct errands *errands, const struct kill *kill,
                                  bson_error_t *error)
{
    mongoc_client_t *client = errands_client(errands, kill->server, error);
    struct target target = client ? find_server(client, kill->server) : (struct target){0};
    bson_t reply;
    enum found found = FOUND_NO_MEANS;
    if (target.id == 0) {
        return NULL;
    }
    bson_t *kill_op = BCON_NEW("killOp", BCON_INT32(1));
    if (kill->connection != 0) {
        found = find_operation(client, &target, kill, kill_op, error);
    }
    if (found == FOUND) {
        bool done = ask(client, &target, kill_op, &reply, error);
        bson_destroy(&reply);
        if (done) {
            return "killOp";
        }
    } else {
        bson_destroy(kill_op);
    }
    if (found == FOUND_OVER || !kill->has_session || error->domain == MONGOC_ERROR_STREAM) {
        return NULL;
    }
    bool done = ask(client, &target, kill_session(kill), &reply, error);
    bson_destroy(&reply);
    return done ? "killSessions" : NULL;
}

// --- the errand ---------------------------------------------------------------------------------

static void run(struct errand *errand, struct errands *errands, const atomic_bool *dismissed)
{
    struct kill *kill = (struct kill *)errand;
    bson_error_t error = {0};
    (void)dismissed;
    bool stale = now_us() - kill->asked_us > STALE_US;
    const char *how = stale ? NULL : kill_operation(errands, kill, &error);
    if (how || error.message[0] != '\0') {
        kill_log(kill, how, how ? NULL : error.message, now_us());
    }
}

static void done(struct errand *errand)
{
    free(errand);
}

void killer_add(struct errands *errands, struct kill *kill)
{
    kill->errand.run = run;
    kill->errand.done = done;
    errands_add(errands, &kill->errand);
}
