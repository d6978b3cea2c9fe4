// SPDX-License-Identifier: Apache-2.0
//
// OP_MSG: flags, one body, up to two document sequences in any order, perhaps a checksum
// (specification: source/message/OP_MSG.md of mongodb/specifications).
//
//      header 16 | flags 4 | kind 0, body | kind 1, size, name, documents | … | crc32c 4

#ifndef WIRE_OP_MSG_H
#define WIRE_OP_MSG_H

#include "wire/buffer.h"
#include "wire/bytes.h"
#include "wire/error.h"

enum op_msg_flag {
    OP_MSG_CHECKSUM_PRESENT = 1u << 0,
    OP_MSG_MORE_TO_COME = 1u << 1,
    OP_MSG_EXHAUST_ALLOWED = 1u << 16,
};

// Of the bits 0 to 15 both sides must know every one that is set; the others may be ignored.
static inline bool op_msg_has_unknown_flags(uint32_t flags)
{
    return (flags & 0xffff & ~(uint32_t)(OP_MSG_CHECKSUM_PRESENT | OP_MSG_MORE_TO_COME)) != 0;
}

#define OP_MSG_MAX_SEQUENCES 2

struct op_msg_sequence {
    struct bytes name;
    struct bytes documents; // back to back; their lengths are proven to tile this exactly
};

// A view: everything borrows from the message.
struct op_msg {
    uint32_t flags;
    struct bytes body; // proven by bson_check
    int sequence_count;
    struct op_msg_sequence sequences[OP_MSG_MAX_SEQUENCES];
};

// Reads a whole message (header included, opcode OP_MSG; WIRE_TRUNCATED if the header's length is
// not message.len). Verifies the checksum if there is one. On error *ret_msg is untouched. The
// documents of a sequence are only measured: to check what is in them is the server's task.
enum wire_error op_msg_read(struct bytes message, struct op_msg *ret_msg)
    __attribute__((warn_unused_result));

// Takes out of a valid message, in place, what weir does not pass on: the checksum (flag and bytes;
// the length in the header follows), moreToCome and exhaustAllowed. Returns the new length.
// A server need not honour exhaustAllowed, and a reply to every request keeps one request in flight
// on an upstream.
size_t op_msg_strip(uint8_t *message, size_t len);

// Puts bytes in the place of a part of the body, of a message without a checksum. Where the body
// began it still begins, in the buffer's bytes; whatever borrowed from the message must be read
// again.
void op_msg_splice(struct buffer *message, struct bytes body, struct bytes part, struct bytes by);

// Appends what stands before the body of an OP_MSG without flags. Returns the place that
// op_msg_end, called when the body has been appended, wants to know.
size_t op_msg_begin(struct buffer *out, int32_t request_id, int32_t response_to);
void op_msg_end(struct buffer *out, size_t start);

#endif
