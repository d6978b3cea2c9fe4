// SPDX-License-Identifier: Apache-2.0

#include "proxy/sessions.h"

#include <bson/bson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/mem.h"
#include "proxy/request.h"
#include "proxy/worker.h"
#include "wire/bson_view.h"
#include "wire/request_build.h"

static bool is_end_sessions(const struct command *command)
{
    return bytes_equal(command->name, "endSessions");
}

static void keep(struct ended_sessions *sessions, struct bytes id)
{
    if (sessions->count == sessions->capacity) {
        sessions->capacity = sessions->capacity ? 2 * sessions->capacity : 16;
        sessions->ids = xrealloc(sessions->ids, sessions->capacity * sizeof *sessions->ids);
    }
    memcpy(sessions->ids[sessions->count++], id.at, sizeof *sessions->ids);
}

// What is not as drivers send it is for the server to complain of.
static bool read_ids(struct bytes array, struct ended_sessions *sessions)
{
    struct bson_walk walk;
    struct bson_element element;
    enum bson_walk_status status;
    if (!bson_walk_begin(&walk, array)) {
        return false;
    }
    while ((status = bson_walk_next(&walk, &element)) == BSON_WALK_ELEMENT) {
        struct bytes id = {0};
        if (element.type == BSON_VIEW_DOCUMENT) {
            id = command_session_id(element.value);
        }
        if (id.len == 0) {
            return false;
        }
        if (sessions->count < SESSIONS_MAX) {
            keep(sessions, id);
        }
    }
    return status == BSON_WALK_END;
}

bool sessions_keep(struct ended_sessions *sessions, const struct command *command)
{
    struct bson_element element;
    size_t before = sessions->count;
    if (!is_end_sessions(command) || !bson_find(command->body, "endSessions", &element) ||
        element.type != BSON_VIEW_ARRAY) {
        return false;
    }
    bool kept = read_ids(element.value, sessions);
    sessions->count = kept ? sessions->count : before;
    return kept;
}

static void build(const struct ended_sessions *sessions, bson_t *command)
{
    bson_t array;
    BSON_APPEND_ARRAY_BEGIN(command, "endSessions", &array);
    for (size_t i = 0; i < sessions->count; i++) {
        char key[24];
        bson_t session;
        snprintf(key, sizeof key, "%zu", i);
        BSON_APPEND_DOCUMENT_BEGIN(&array, key, &session);
        BSON_APPEND_BINARY(&session, "id", BSON_SUBTYPE_UUID, sessions->ids[i],
                           sizeof sessions->ids[i]);
        bson_append_document_end(&array, &session);
    }
    bson_append_array_end(command, &array);
    BSON_APPEND_UTF8(command, "$db", "admin");
}

void sessions_pass_on(struct worker *worker)
{
    struct ended_sessions *sessions = &worker->ended_sessions;
    if (sessions->count == 0 || sessions->under_way || worker->ending) {
        return;
    }
    bson_t command = BSON_INITIALIZER;
    struct buffer message = {0};
    build(sessions, &command);
    request_append(&message, 0, &command);
    bson_destroy(&command);
    sessions_fini(sessions);
    sessions->under_way = true;
    request_run_own(worker, &(struct bond){0}, &message);
}

void sessions_passed_on(struct ended_sessions *sessions, const struct request *request)
{
    sessions->under_way &= !is_end_sessions(&request->command);
}

void sessions_fini(struct ended_sessions *sessions)
{
    free(sessions->ids);
    *sessions = (struct ended_sessions){0};
}
