// SPDX-License-Identifier: Apache-2.0
//
// An OP_MSG of a client, as it came and with its length and checksum put right: read, made ready to
// be sent on, and read again. What is sent on is what came, but for what command_acknowledge and
// op_msg_strip say that they change.

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/model.h"
#include "wire/command.h"

enum {
    FLAGS_AT = FRAME_HEADER_BYTES,
    STRIPPED = OP_MSG_CHECKSUM_PRESENT | OP_MSG_MORE_TO_COME | OP_MSG_EXHAUST_ALLOWED
};

struct reading {
    uint8_t *message;
    size_t len;
    struct op_msg msg;
    enum wire_error error; // of the command
    struct command command;
};

// Sections tile the message: each byte of it belongs to one.
static void check_sections(const struct reading *reading)
{
    const struct op_msg *msg = &reading->msg;
    size_t bytes = FRAME_HEADER_BYTES + 4 + 1 + msg->body.len;
    for (int i = 0; i < msg->sequence_count; i++) {
        bytes += 1 + 4 + msg->sequences[i].name.len + 1 + msg->sequences[i].documents.len;
    }
    bytes += msg->flags & OP_MSG_CHECKSUM_PRESENT ? 4 : 0;
    MUST(bytes == reading->len);
    MUST(!op_msg_has_unknown_flags(msg->flags));
    MUST(model_levels(msg->body) > 0);
}

static bool lies_within(struct bytes inner, struct bytes outer)
{
    return !inner.at || (inner.at >= outer.at && inner.at + inner.len <= outer.at + outer.len);
}

static void check_command(const struct reading *reading)
{
    const struct command *command = &reading->command;
    const struct bytes inside[] = {
        command->name,    command->database,        command->collection, command->lsid,
        command->lsid_id, command->comment,         command->cursors,    command->write_concern,
        command->body,    command->read_preference,
    };
    for (size_t i = 0; i < sizeof(inside) / sizeof(inside[0]); i++) {
        MUST(lies_within(inside[i], reading->msg.body));
    }
    MUST(command->info == command_at(command->info->index));
    MUST(command->unacknowledged == ((reading->msg.flags & OP_MSG_MORE_TO_COME) != 0));
    MUST(command->w_offset == 0 ||
         lies_within((struct bytes){reading->message + command->w_offset,
                                    command->w_type == BSON_VIEW_INT32 ? 4 : 8},
                     command->write_concern));
    (void)command_finishes(command);
    (void)command_is_retryable_write(command);
}

static bool read_message(struct reading *reading)
{
    struct bytes message = {reading->message, reading->len};
    if (op_msg_read(message, &reading->msg) != WIRE_OK) {
        return false;
    }
    check_sections(reading);
    reading->error = command_read(message, &reading->msg, &reading->command);
    if (reading->error == WIRE_OK) {
        check_command(reading);
    }
    return true;
}

// What the changed message must be, byte for byte.
static uint8_t *expected_message(const struct reading *before, size_t *ret_len)
{
    uint8_t *message = exact_copy(before->message, before->len);
    const struct command *command = &before->command;
    size_t w = before->error == WIRE_OK ? command->w_offset : 0;
    if (w != 0 && command->w_type == BSON_VIEW_DOUBLE) {
        memcpy(message + w, "\0\0\0\0\0\0\xf0\x3f", 8);
    } else if (w != 0) {
        memset(message + w, 0, command->w_type == BSON_VIEW_INT32 ? 4 : 8);
        message[w] = 1;
    }
    *ret_len = before->len - (before->msg.flags & OP_MSG_CHECKSUM_PRESENT ? 4 : 0);
    store_i32(message, (int32_t)*ret_len);
    store_i32(message + FLAGS_AT, (int32_t)(before->msg.flags & ~(uint32_t)STRIPPED));
    return message;
}

static void check_same_command(const struct reading *before, const struct reading *after)
{
    const struct command *a = &before->command;
    const struct command *b = &after->command;
    const uint8_t *in_a = before->message;
    const uint8_t *in_b = after->message;
    MUST(b->w_offset == 0 && !b->unacknowledged);
    MUST(a->info == b->info && same_place(a->name, in_a, b->name, in_b));
    MUST(same_place(a->database, in_a, b->database, in_b));
    MUST(same_place(a->collection, in_a, b->collection, in_b));
    MUST(same_place(a->lsid_id, in_a, b->lsid_id, in_b));
    MUST(same_place(a->comment, in_a, b->comment, in_b) && a->comment_type == b->comment_type);
    MUST(same_place(a->read_preference, in_a, b->read_preference, in_b));
    MUST(same_place(a->write_concern, in_a, b->write_concern, in_b));
    MUST(same_place(a->cursors, in_a, b->cursors, in_b));
    MUST(a->read_mode == b->read_mode && a->cursor_id == b->cursor_id);
    MUST(a->has_txn_number == b->has_txn_number && a->txn_number == b->txn_number);
    MUST(a->in_transaction == b->in_transaction && a->start_transaction == b->start_transaction);
    MUST(a->has_max_time == b->has_max_time && a->max_time_ms == b->max_time_ms);
    MUST(a->writes_out == b->writes_out && command_finishes(a) == command_finishes(b));
}

static void check_same_message(const struct reading *before, const struct reading *after)
{
    MUST(after->msg.flags == (before->msg.flags & ~(uint32_t)STRIPPED));
    MUST(same_place(before->msg.body, before->message, after->msg.body, after->message));
    MUST(before->msg.sequence_count == after->msg.sequence_count);
    for (int i = 0; i < before->msg.sequence_count; i++) {
        const struct op_msg_sequence *a = &before->msg.sequences[i];
        const struct op_msg_sequence *b = &after->msg.sequences[i];
        MUST(same_place(a->name, before->message, b->name, after->message));
        MUST(same_place(a->documents, before->message, b->documents, after->message));
    }
    MUST(before->error == after->error);
    if (before->error == WIRE_OK) {
        check_same_command(before, after);
    }
}

static void pass_on(const struct reading *before)
{
    uint8_t *changed = exact_copy(before->message, before->len);
    if (before->error == WIRE_OK) {
        command_acknowledge(&before->command, changed);
    }
    size_t len = op_msg_strip(changed, before->len);
    size_t expected_len;
    uint8_t *expected = expected_message(before, &expected_len);
    MUST(same_bytes((struct bytes){changed, len}, (struct bytes){expected, expected_len}));
    struct reading after = {.message = exact_copy(changed, len), .len = len};
    MUST(read_message(&after));
    check_same_message(before, &after);
    free(after.message);
    free(expected);
    free(changed);
}

static void check_one(uint8_t *message, size_t len)
{
    struct reading reading = {.message = message, .len = len};
    if (read_message(&reading)) {
        pass_on(&reading);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *message = exact_copy(data, size);
    check_one(message, size);
    if (size >= FRAME_HEADER_BYTES + 4) {
        mend_message(message, size);
        check_one(message, size);
    }
    free(message);
    return 0;
}
