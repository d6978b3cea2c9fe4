// SPDX-License-Identifier: Apache-2.0

#include "proxy/orphans.h"

#include <bson/bson.h>
#include <stdio.h>
#include <string.h>

#include "proxy/request.h"
#include "proxy/worker.h"
#include "wire/bson_view.h"
#include "wire/request_build.h"

static struct pin_key cursor_key(int64_t cursor_id)
{
    return (struct pin_key){.kind = PIN_CURSOR, .cursor_id = cursor_id};
}

static bool transaction_key(const struct command *command, struct pin_key *ret_key)
{
    if (!command->in_transaction || command->lsid_id.len != sizeof ret_key->session_id) {
        return false;
    }
    *ret_key = (struct pin_key){.kind = PIN_TRANSACTION};
    memcpy(ret_key->session_id, command->lsid_id.at, sizeof ret_key->session_id);
    return true;
}

void orphans_resume(struct server *server, const struct request *request)
{
    const struct command *command = &request->command;
    struct pin_key key;
    if (command->cursor_id != 0) {
        key = cursor_key(command->cursor_id);
    } else if (!transaction_key(command, &key)) {
        return;
    }
    if (!request->client) {
        return; // weir's own
    }
    pthread_mutex_lock(&server->lock);
    pins_resume(server->pins, &key, &request->client->pins);
    pthread_mutex_unlock(&server->lock);
}

// The request's client has it now. If that went away meanwhile, nobody has, unless another client
// has gone on with it: then it stays that one's.
static void open_pin(struct server *server, const struct request *request,
                     const struct pin_key *key, const char *namespace, struct pin_owner *owner)
{
    if (request->client || !pins_has(server->pins, key)) {
        pins_open(server->pins, key, request->command.txn_number, namespace, owner);
    }
}

static void note_transaction(struct server *server, const struct request *request,
                             const struct reply_view *reply, struct pin_owner *owner)
{
    const struct command *command = &request->command;
    struct pin_key key;
    if (!transaction_key(command, &key)) {
        return;
    }
    bool over = command_ends_transaction(command) || (reply->labels & LABEL_TRANSIENT_TRANSACTION);
    if (over) {
        pins_close(server->pins, &key);
    } else {
        open_pin(server, request, &key, "", owner);
    }
}

// The namespace of a command's cursor: without a collection it is "<database>.$cmd.<command>".
static void format_namespace(const struct command *command, char ret[PIN_NAMESPACE_BYTES])
{
    bool named = command->collection.len > 0;
    struct bytes last = named ? command->collection : command->name;
    snprintf(ret, PIN_NAMESPACE_BYTES, "%.*s.%s%.*s", (int)command->database.len,
             (const char *)command->database.at, named ? "" : "$cmd.", (int)last.len,
             (const char *)last.at);
}

static void note_cursor(struct server *server, const struct request *request,
                        const struct reply_view *reply, struct pin_owner *owner)
{
    const struct command *command = &request->command;
    if (command->cursor_id != 0 && reply->cursor_id == 0) {
        struct pin_key key = cursor_key(command->cursor_id);
        pins_close(server->pins, &key);
    }
    if (reply->cursor_id != 0) {
        char namespace[PIN_NAMESPACE_BYTES];
        format_namespace(command, namespace);
        struct pin_key key = cursor_key(reply->cursor_id);
        open_pin(server, request, &key, namespace, owner);
    }
}

static void note_killed_cursors(struct server *server, struct bytes cursors)
{
    struct bson_walk walk;
    struct bson_element element;
    if (!bson_walk_begin(&walk, cursors)) {
        return;
    }
    while (bson_walk_next(&walk, &element) == BSON_WALK_ELEMENT) {
        int64_t id;
        if (bson_element_i64(&element, &id)) {
            struct pin_key key = cursor_key(id);
            pins_close(server->pins, &key);
        }
    }
}

void orphans_note(struct server *server, const struct request *request,
                  const struct reply_view *reply)
{
    const struct command *command = &request->command;
    bool cursor = reply->cursor_id != 0 || command->cursor_id != 0;
    if (!cursor && !command->in_transaction && command->cursors.len == 0) {
        return;
    }
    // Without a client (it went away meanwhile), what it opened is an orphan from the start.
    struct pin_owner nobody = {0};
    struct pin_owner *owner = request->client ? &request->client->pins : &nobody;

    pthread_mutex_lock(&server->lock);
    if (cursor) {
        note_cursor(server, request, reply, owner);
    }
    if (command->in_transaction) {
        note_transaction(server, request, reply, owner);
    }
    if (command->cursors.len > 0) {
        note_killed_cursors(server, command->cursors);
    }
    pins_orphan(server->pins, &nobody, request->now_us);
    int64_t reap_us = pins_next_reap(server->pins, ORPHAN_GRACE_US);
    pthread_mutex_unlock(&server->lock);

    if (reap_us != INT64_MAX && !request->worker->ending) {
        worker_tick_by(request->worker, reap_us);
    }
}

void orphans_make(struct server *server, struct worker *worker, struct pin_owner *owner,
                  int64_t now_us)
{
    pthread_mutex_lock(&server->lock);
    pins_orphan(server->pins, owner, now_us);
    int64_t reap_us = pins_next_reap(server->pins, ORPHAN_GRACE_US);
    pthread_mutex_unlock(&server->lock);

    if (reap_us != INT64_MAX && !worker->ending) {
        worker_tick_by(worker, reap_us);
    }
}

static void build_kill_cursors(const struct pin *pin, bson_t *command)
{
    const char *dot = strchr(pin->namespace, '.');
    const char *collection = dot ? dot + 1 : "";
    int database_len = dot ? (int)(dot - pin->namespace) : 0;
    char database[PIN_NAMESPACE_BYTES];
    snprintf(database, sizeof database, "%.*s", database_len, pin->namespace);
    bson_t cursors;
    BSON_APPEND_UTF8(command, "killCursors", collection);
    BSON_APPEND_ARRAY_BEGIN(command, "cursors", &cursors);
    BSON_APPEND_INT64(&cursors, "0", pin->key.cursor_id);
    bson_append_array_end(command, &cursors);
    BSON_APPEND_UTF8(command, "$db", database);
}

static void build_abort_transaction(const struct pin *pin, bson_t *command)
{
    bson_t lsid;
    BSON_APPEND_INT32(command, "abortTransaction", 1);
    BSON_APPEND_DOCUMENT_BEGIN(command, "lsid", &lsid);
    BSON_APPEND_BINARY(&lsid, "id", BSON_SUBTYPE_UUID, pin->key.session_id,
                       sizeof pin->key.session_id);
    bson_append_document_end(command, &lsid);
    BSON_APPEND_INT64(command, "txnNumber", pin->txn_number);
    BSON_APPEND_BOOL(command, "autocommit", false);
    BSON_APPEND_UTF8(command, "$db", "admin");
}

static void kill_orphan(struct worker *worker, const struct pin *pin)
{
    bson_t command = BSON_INITIALIZER;
    struct buffer message = {0};
    if (pin->key.kind == PIN_CURSOR) {
        build_kill_cursors(pin, &command);
    } else {
        build_abort_transaction(pin, &command);
    }
    request_append(&message, 0, &command);
    bson_destroy(&command);
    request_run_own(worker, &message);
}

void orphans_kill(struct server *server, struct worker *worker, int64_t now_us)
{
    struct pin pin;
    for (;;) {
        pthread_mutex_lock(&server->lock);
        bool reaped = pins_reap(server->pins, ORPHAN_GRACE_US, now_us, &pin);
        pthread_mutex_unlock(&server->lock);
        if (!reaped) {
            return;
        }
        kill_orphan(worker, &pin);
    }
}
