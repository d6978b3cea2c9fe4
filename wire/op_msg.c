// SPDX-License-Identifier: Apache-2.0

#include "wire/op_msg.h"

#include <assert.h>

#include "wire/bson_view.h"
#include "wire/crc32c.h"
#include "wire/frame.h"

#define FLAGS_BYTES 4
#define SECTIONS_AT (FRAME_HEADER_BYTES + FLAGS_BYTES)
#define CHECKSUM_BYTES 4

enum section_kind { SECTION_BODY = 0, SECTION_SEQUENCE = 1 };

static enum wire_error read_body(struct bytes *rest, struct op_msg *msg)
{
    if (msg->body.at) {
        return WIRE_TWO_BODIES;
    }
    enum wire_error error = bson_take(rest, &msg->body);
    return error ? error : bson_check(msg->body);
}

static bool documents_tile(struct bytes documents)
{
    while (documents.len > 0) {
        struct bytes document;
        if (bson_take(&documents, &document) || document.at[document.len - 1] != 0) {
            return false;
        }
    }
    return true;
}

static bool has_sequence(const struct op_msg *msg, struct bytes name)
{
    for (int i = 0; i < msg->sequence_count; i++) {
        struct bytes other = msg->sequences[i].name;
        if (other.len == name.len && memcmp(other.at, name.at, name.len) == 0) {
            return true;
        }
    }
    return false;
}

// int32 of the whole, name, documents.
static enum wire_error take_sequence(struct bytes *rest, struct op_msg_sequence *ret_sequence)
{
    int32_t len = rest->len < 4 ? 0 : load_i32(rest->at);
    if (len < 4 || (size_t)len > rest->len) {
        return WIRE_TRUNCATED;
    }
    struct bytes section = bytes_take(rest, (size_t)len);
    bytes_take(&section, 4);
    const uint8_t *name_end = memchr(section.at, 0, section.len);
    if (!name_end) {
        return WIRE_TRUNCATED;
    }
    ret_sequence->name = bytes_take(&section, (size_t)(name_end - section.at));
    bytes_take(&section, 1);
    ret_sequence->documents = section;
    return documents_tile(section) ? WIRE_OK : WIRE_BAD_BSON;
}

static enum wire_error read_sequence(struct bytes *rest, struct op_msg *msg)
{
    if (msg->sequence_count == OP_MSG_MAX_SEQUENCES) {
        return WIRE_TOO_MANY_SEQUENCES;
    }
    struct op_msg_sequence *sequence = &msg->sequences[msg->sequence_count];
    enum wire_error error = take_sequence(rest, sequence);
    if (error) {
        return error;
    }
    if (has_sequence(msg, sequence->name)) {
        return WIRE_DUPLICATE_SEQUENCE;
    }
    msg->sequence_count++;
    return WIRE_OK;
}

static enum wire_error read_section(struct bytes *rest, struct op_msg *msg)
{
    switch (*bytes_take(rest, 1).at) {
    case SECTION_BODY:
        return read_body(rest, msg);
    case SECTION_SEQUENCE:
        return read_sequence(rest, msg);
    default:
        return WIRE_UNKNOWN_SECTION;
    }
}

// Reads the flags, and takes off what the sections are not.
static enum wire_error read_frame(struct bytes message, uint32_t *ret_flags,
                                  struct bytes *ret_sections)
{
    if (message.len < SECTIONS_AT || load_i32(message.at) < 0 ||
        (size_t)load_i32(message.at) != message.len) {
        return WIRE_TRUNCATED;
    }
    uint32_t flags = (uint32_t)load_i32(message.at + FRAME_HEADER_BYTES);
    if (op_msg_has_unknown_flags(flags)) {
        return WIRE_BAD_FLAGS;
    }
    if (flags & OP_MSG_CHECKSUM_PRESENT) {
        if (message.len < SECTIONS_AT + CHECKSUM_BYTES) {
            return WIRE_TRUNCATED;
        }
        message.len -= CHECKSUM_BYTES;
        if (crc32c(message) != (uint32_t)load_i32(message.at + message.len)) {
            return WIRE_BAD_CHECKSUM;
        }
    }
    *ret_flags = flags;
    *ret_sections = (struct bytes){message.at + SECTIONS_AT, message.len - SECTIONS_AT};
    return WIRE_OK;
}

enum wire_error op_msg_read(struct bytes message, struct op_msg *ret_msg)
{
    struct op_msg msg = {0};
    struct bytes rest;
    enum wire_error error = read_frame(message, &msg.flags, &rest);
    while (!error && rest.len > 0) {
        error = read_section(&rest, &msg);
    }
    if (error) {
        return error;
    }
    if (!msg.body.at) {
        return WIRE_NO_BODY;
    }
    *ret_msg = msg;
    return WIRE_OK;
}

size_t op_msg_strip(uint8_t *message, size_t len)
{
    uint32_t flags = (uint32_t)load_i32(message + FRAME_HEADER_BYTES);
    if (flags & OP_MSG_CHECKSUM_PRESENT) {
        assert(len >= SECTIONS_AT + CHECKSUM_BYTES);
        len -= CHECKSUM_BYTES;
        store_i32(message, (int32_t)len);
    }
    flags &= ~(uint32_t)(OP_MSG_CHECKSUM_PRESENT | OP_MSG_MORE_TO_COME | OP_MSG_EXHAUST_ALLOWED);
    store_i32(message + FRAME_HEADER_BYTES, (int32_t)flags);
    return len;
}

void op_msg_splice(struct buffer *message, struct bytes body, struct bytes part, struct bytes by)
{
    size_t held = buffer_held(message);
    size_t begin = (size_t)(body.at - buffer_at(message));
    size_t from = (size_t)(part.at - buffer_at(message));
    size_t to = from + part.len;
    assert(from > begin && to < begin + body.len);
    if (by.len > part.len) {
        buffer_reserve(message, by.len - part.len);
        buffer_commit(message, by.len - part.len);
    }
    uint8_t *at = buffer_at(message); // it may have moved
    memmove(at + from + by.len, at + to, held - to);
    memcpy(at + from, by.at, by.len);
    message->end = message->begin + held + by.len - part.len;
    store_i32(at + begin, (int32_t)(body.len + by.len - part.len));
    store_i32(at, (int32_t)buffer_held(message));
}

size_t op_msg_begin(struct buffer *out, int32_t request_id, int32_t response_to)
{
    size_t start = buffer_held(out);
    uint8_t *at = buffer_reserve(out, SECTIONS_AT + 1);
    frame_write(at, &(struct frame){0, request_id, response_to, OPCODE_MSG});
    store_i32(at + FRAME_HEADER_BYTES, 0);
    at[SECTIONS_AT] = SECTION_BODY;
    buffer_commit(out, SECTIONS_AT + 1);
    return start;
}

void op_msg_end(struct buffer *out, size_t start)
{
    store_i32(buffer_at(out) + start, (int32_t)(buffer_held(out) - start));
}
