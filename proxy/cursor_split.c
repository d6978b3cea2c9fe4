// SPDX-License-Identifier: Apache-2.0

#include "proxy/cursor_split.h"

#include <stdio.h>
#include <stdlib.h>

#include "proxy/mem.h"
#include "proxy/request.h"
#include "wire/request_build.h"

#define SERVERS_MAX 64           // cursors of more servers go with the first
#define CURSORS_MAX_BYTES 100000 // some thousands; more, as no driver sends, all go with the first

static const char *const lists[] = {
    "cursorsKilled",
    "cursorsNotFound",
    "cursorsAlive",
    "cursorsUnknown",
};

#define LISTS (sizeof lists / sizeof lists[0])

// An array that grows.
struct list {
    bson_t array;
    uint32_t count;
};

struct part {
    uint32_t server;
    struct list cursors;
};

struct cursor_split {
    int32_t request_id;
    bson_t body; // of the request
    size_t part_count;
    size_t next;
    struct part parts[SERVERS_MAX];
    struct list answers[LISTS];
};

static void list_append(struct list *list, const bson_iter_t *iter)
{
    char key[16];
    snprintf(key, sizeof key, "%u", list->count++);
    bson_append_iter(&list->array, key, -1, iter);
}

static struct part *part_of(struct cursor_split *split, uint32_t server)
{
    for (size_t i = 0; i < split->part_count; i++) {
        if (split->parts[i].server == server) {
            return &split->parts[i];
        }
    }
    if (server == 0 || split->part_count == SERVERS_MAX) {
        return &split->parts[0];
    }
    struct part *part = &split->parts[split->part_count++];
    part->server = server;
    bson_init(&part->cursors.array);
    return part;
}

static void deal_out(struct cursor_split *split, struct affinity *affinity,
                     const struct request *request, bson_iter_t *cursors)
{
    part_of(split, request->bond.server); // the first cursor's
    while (bson_iter_next(cursors)) {
        int64_t id = bson_iter_as_int64(cursors);
        uint32_t server = affinity_of_cursor(affinity, request, id);
        list_append(&part_of(split, server)->cursors, cursors);
    }
}

struct cursor_split *cursor_split_new(struct affinity *affinity, const struct request *request)
{
    const struct command *command = &request->command;
    bson_t body;
    bson_iter_t iter;
    bson_iter_t cursors;
    if (command->cursors.len == 0 || command->cursors.len > CURSORS_MAX_BYTES ||
        request->bond.server == 0 || request->msg.sequence_count > 0 ||
        !bson_init_static(&body, command->body.at, command->body.len) ||
        !bson_iter_init_find(&iter, &body, "cursors") || !bson_iter_recurse(&iter, &cursors)) {
        return NULL;
    }
    struct cursor_split *split = xcalloc(1, sizeof *split);
    split->request_id = request->frame.request_id;
    bson_copy_to(&body, &split->body);
    for (size_t i = 0; i < LISTS; i++) {
        bson_init(&split->answers[i].array);
    }
    deal_out(split, affinity, request, &cursors);
    if (split->part_count < 2) {
        cursor_split_free(split);
        return NULL;
    }
    return split;
}

void cursor_split_free(struct cursor_split *split)
{
    if (!split) {
        return;
    }
    for (size_t i = 0; i < split->part_count; i++) {
        bson_destroy(&split->parts[i].cursors.array);
    }
    for (size_t i = 0; i < LISTS; i++) {
        bson_destroy(&split->answers[i].array);
    }
    bson_destroy(&split->body);
    free(split);
}

bool cursor_split_next(struct cursor_split *split, struct buffer *message, uint32_t *ret_server)
{
    if (split->next == split->part_count) {
        return false;
    }
    const struct part *part = &split->parts[split->next++];
    bson_t body = BSON_INITIALIZER;
    bson_iter_t iter;
    bson_iter_init(&iter, &split->body);
    while (bson_iter_next(&iter)) {
        if (BSON_ITER_IS_KEY(&iter, "cursors")) {
            BSON_APPEND_ARRAY(&body, "cursors", &part->cursors.array);
        } else {
            bson_append_iter(&body, NULL, 0, &iter);
        }
    }
    request_append(message, split->request_id, &body);
    bson_destroy(&body);
    *ret_server = part->server;
    return true;
}

static void take_field(struct cursor_split *split, const bson_iter_t *field)
{
    bson_iter_t item;
    for (size_t i = 0; i < LISTS; i++) {
        if (BSON_ITER_IS_KEY(field, lists[i]) && bson_iter_recurse(field, &item)) {
            while (bson_iter_next(&item)) {
                list_append(&split->answers[i], &item);
            }
        }
    }
}

bool cursor_split_take(struct cursor_split *split, struct bytes reply)
{
    struct op_msg msg;
    bson_t body;
    bson_iter_t iter;
    if (op_msg_read(reply, &msg) != WIRE_OK ||
        !bson_init_static(&body, msg.body.at, msg.body.len) ||
        !bson_iter_init_find(&iter, &body, "ok") || !bson_iter_as_bool(&iter) ||
        !bson_iter_init(&iter, &body)) {
        return false;
    }
    while (bson_iter_next(&iter)) {
        take_field(split, &iter);
    }
    return true;
}

void cursor_split_answer(const struct cursor_split *split, bson_t *document)
{
    for (size_t i = 0; i < LISTS; i++) {
        BSON_APPEND_ARRAY(document, lists[i], &split->answers[i].array);
    }
    BSON_APPEND_DOUBLE(document, "ok", 1.0);
}
