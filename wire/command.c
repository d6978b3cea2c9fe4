// SPDX-License-Identifier: Apache-2.0

#include "wire/command.h"

#include "wire/bson_view.h"

struct reading {
    struct bytes message;
    struct command command;
    unsigned seen; // a bit for each field of FIELDS that has come
};

static void read_document(const struct bson_element *element, struct bytes *ret_document)
{
    if (element->type == BSON_VIEW_DOCUMENT) {
        *ret_document = element->value;
    }
}

static void read_database(struct reading *reading, const struct bson_element *element)
{
    bson_element_text(element, &reading->command.database);
}

static void read_lsid(struct reading *reading, const struct bson_element *element)
{
    struct command *command = &reading->command;
    read_document(element, &command->lsid);
    command->lsid_id = command_session_id(command->lsid);
}

static void read_txn_number(struct reading *reading, const struct bson_element *element)
{
    struct command *command = &reading->command;
    command->has_txn_number = bson_element_i64(element, &command->txn_number);
}

static void read_autocommit(struct reading *reading, const struct bson_element *element)
{
    reading->command.in_transaction =
        element->type == BSON_VIEW_BOOL && !bson_element_truth(element);
}

static void read_start(struct reading *reading, const struct bson_element *element)
{
    reading->command.start_transaction = bson_element_truth(element);
}

static void read_max_time(struct reading *reading, const struct bson_element *element)
{
    struct command *command = &reading->command;
    command->has_max_time = bson_element_i64(element, &command->max_time_ms);
    command->max_time_offset = (size_t)(element->value.at - reading->message.at);
    command->max_time_type = element->type;
}

static void read_comment(struct reading *reading, const struct bson_element *element)
{
    reading->command.comment = element->value;
    reading->command.comment_type = element->type;
}

// A mode that no server knows is left to the server to complain of.
static enum read_mode mode_of(struct bytes text)
{
    static const char *const names[] = {
        [READ_PRIMARY] = "primary",     [READ_PRIMARY_PREFERRED] = "primaryPreferred",
        [READ_SECONDARY] = "secondary", [READ_SECONDARY_PREFERRED] = "secondaryPreferred",
        [READ_NEAREST] = "nearest",
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (bytes_equal(text, names[i])) {
            return (enum read_mode)i;
        }
    }
    return READ_PRIMARY;
}

static void read_preference(struct reading *reading, const struct bson_element *element)
{
    struct command *command = &reading->command;
    read_document(element, &command->read_preference);
    struct bson_element mode;
    struct bytes text;
    if (command->read_preference.len > 0 && bson_find(command->read_preference, "mode", &mode) &&
        bson_element_text(&mode, &text)) {
        command->read_mode = mode_of(text);
    }
}

static bool is_number(uint8_t type)
{
    return type == BSON_VIEW_INT32 || type == BSON_VIEW_INT64 || type == BSON_VIEW_DOUBLE;
}

static void read_write_concern(struct reading *reading, const struct bson_element *element)
{
    struct command *command = &reading->command;
    read_document(element, &command->write_concern);
    struct bson_element w;
    if (command->write_concern.len > 0 && bson_find(command->write_concern, "w", &w) &&
        is_number(w.type) && !bson_element_truth(&w)) {
        command->w_offset = (size_t)(w.value.at - reading->message.at);
        command->w_type = w.type;
    }
}

// A stage has one key.
static bool stage_is(const struct bson_element *stage, const char *name)
{
    struct bson_walk walk;
    struct bson_element first;
    return stage->type == BSON_VIEW_DOCUMENT && bson_walk_begin(&walk, stage->value) &&
           bson_walk_next(&walk, &first) == BSON_WALK_ELEMENT && bytes_equal(first.key, name);
}

// $changeStream can only be the first stage, $out and $merge the last.
static void read_stages(struct command *command, struct bson_walk *walk)
{
    struct bson_element stage = {0};
    bool first = true;
    while (bson_walk_next(walk, &stage) == BSON_WALK_ELEMENT) {
        command->streams |= first && stage_is(&stage, "$changeStream");
        first = false;
    }
    command->writes_out = stage_is(&stage, "$out") || stage_is(&stage, "$merge");
}

static void read_pipeline(struct reading *reading, const struct bson_element *element)
{
    struct bson_walk walk;
    if (element->type == BSON_VIEW_ARRAY && bytes_equal(reading->command.name, "aggregate") &&
        bson_walk_begin(&walk, element->value)) {
        read_stages(&reading->command, &walk);
    }
}

// Means something with `tailable` only, which a server insists on.
static void read_await_data(struct reading *reading, const struct bson_element *element)
{
    reading->command.streams =
        bytes_equal(reading->command.name, "find") && bson_element_truth(element);
}

static void read_collection(struct reading *reading, const struct bson_element *element)
{
    if (bytes_equal(reading->command.name, "getMore")) {
        bson_element_text(element, &reading->command.collection);
    }
}

static void read_cursors(struct reading *reading, const struct bson_element *element)
{
    if (element->type == BSON_VIEW_ARRAY && bytes_equal(reading->command.name, "killCursors")) {
        reading->command.cursors = element->value;
    }
}

// The fields of a body that weir looks at.
#define FIELDS(X)                                                                                  \
    X("$db", read_database)                                                                        \
    X("lsid", read_lsid)                                                                           \
    X("txnNumber", read_txn_number)                                                                \
    X("autocommit", read_autocommit)                                                               \
    X("startTransaction", read_start)                                                              \
    X("maxTimeMS", read_max_time)                                                                  \
    X("comment", read_comment)                                                                     \
    X("$readPreference", read_preference)                                                          \
    X("writeConcern", read_write_concern)                                                          \
    X("pipeline", read_pipeline)                                                                   \
    X("awaitData", read_await_data)                                                                \
    X("collection", read_collection)                                                               \
    X("cursors", read_cursors)

enum {
#define X(text, reader) FIELD_##reader,
    FIELDS(X)
#undef X
};

// Of a field that comes twice the first counts, as where a server looks a field up.
static void read_field(struct reading *reading, const struct bson_element *element)
{
#define X(text, reader)                                                                            \
    if (bytes_equal(element->key, text)) {                                                         \
        if (!(reading->seen & 1u << FIELD_##reader)) {                                             \
            reading->seen |= 1u << FIELD_##reader;                                                 \
            reader(reading, element);                                                              \
        }                                                                                          \
        return;                                                                                    \
    }
    FIELDS(X)
#undef X
}

static void read_name(struct reading *reading, const struct bson_element *element)
{
    struct command *command = &reading->command;
    command->name = element->key;
    command->info = command_lookup(element->key);
    if (command->info->traits & COMMAND_NAMESPACED) {
        bson_element_text(element, &command->collection);
    } else if (bytes_equal(element->key, "getMore")) {
        bson_element_i64(element, &command->cursor_id);
    }
}

static bool is_read(struct bytes key)
{
#define X(text, reader)                                                                            \
    if (bytes_equal(key, text)) {                                                                  \
        return true;                                                                               \
    }
    FIELDS(X)
#undef X
    return false;
}

// Where weir looks for a field in the body, or puts one into it, none must come beside it: servers
// take none of these so.
static bool has_field_as_sequence(const struct op_msg *msg)
{
    for (int i = 0; i < msg->sequence_count; i++) {
        if (is_read(msg->sequences[i].name)) {
            return true;
        }
    }
    return false;
}

static bool is_sequence(const struct op_msg *msg, struct bytes key)
{
    for (int i = 0; i < msg->sequence_count; i++) {
        if (bytes_same(msg->sequences[i].name, key)) {
            return true;
        }
    }
    return false;
}

static enum wire_error read_body(struct reading *reading, const struct op_msg *msg)
{
    struct bson_walk walk;
    struct bson_element element;
    enum bson_walk_status status = BSON_WALK_BAD;
    if (bson_walk_begin(&walk, reading->command.body)) {
        status = bson_walk_next(&walk, &element);
    }
    if (status == BSON_WALK_END) {
        return WIRE_EMPTY_COMMAND;
    }
    if (status == BSON_WALK_ELEMENT) {
        read_name(reading, &element);
    }
    while (status == BSON_WALK_ELEMENT) {
        if (is_sequence(msg, element.key)) {
            return WIRE_FIELD_TWICE;
        }
        read_field(reading, &element);
        status = bson_walk_next(&walk, &element);
    }
    return status == BSON_WALK_BAD ? WIRE_BAD_BSON : WIRE_OK;
}

enum wire_error command_read(struct bytes message, const struct op_msg *msg,
                             struct command *ret_command)
{
    struct reading reading = {
        .message = message,
        .command = {.body = msg->body, .unacknowledged = msg->flags & OP_MSG_MORE_TO_COME},
    };
    enum wire_error error = read_body(&reading, msg);
    if (error) {
        return error;
    }
    if (!reading.command.database.at) {
        return WIRE_NO_DB;
    }
    if (has_field_as_sequence(msg)) {
        return WIRE_NO_SEQUENCE;
    }
    *ret_command = reading.command;
    return WIRE_OK;
}

enum wire_error command_read_query(struct bytes message, const struct op_query *query,
                                   struct command *ret_command)
{
    static const struct op_msg no_sequences;
    struct reading reading = {.message = message, .command = {.body = query->body}};
    enum wire_error error = read_body(&reading, &no_sequences);
    if (error) {
        return error;
    }
    reading.command.database = query->database;
    *ret_command = reading.command;
    return WIRE_OK;
}

void command_acknowledge(const struct command *command, uint8_t *message)
{
    if (command->w_offset == 0) {
        return;
    }
    static const uint8_t one_double[8] = {0, 0, 0, 0, 0, 0, 0xf0, 0x3f};
    uint8_t *w = message + command->w_offset;
    if (command->w_type == BSON_VIEW_DOUBLE) {
        memcpy(w, one_double, sizeof(one_double));
    } else {
        w[0] = 1; // all other bytes are 0
    }
}

struct bytes command_session_id(struct bytes lsid)
{
    struct bson_element id;
    const size_t uuid_bytes = 16;
    bool found = lsid.len > 0 && bson_find(lsid, "id", &id) && id.type == BSON_VIEW_BINARY &&
                 id.value.len == 5 + uuid_bytes && id.value.at[4] == 4;
    return found ? (struct bytes){id.value.at + 5, uuid_bytes} : (struct bytes){0};
}

bool command_is_retryable_write(const struct command *command)
{
    return command->has_txn_number && !command->in_transaction;
}

bool command_may_repeat(const struct command *command)
{
    unsigned traits = command->info->traits;
    bool reads = (traits & COMMAND_READ) && !(traits & COMMAND_FINISHES) && !command->writes_out;
    return !command->in_transaction && (reads || command_is_retryable_write(command));
}

bool command_finishes(const struct command *command)
{
    return (command->info->traits & COMMAND_FINISHES) ||
           (command->in_transaction && !command->start_transaction);
}

bool command_ends_transaction(const struct command *command)
{
    return bytes_equal(command->name, "commitTransaction") ||
           bytes_equal(command->name, "abortTransaction");
}
