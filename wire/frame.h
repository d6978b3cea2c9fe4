// SPDX-License-Identifier: Apache-2.0
//
// The 16-byte header that starts every message of the MongoDB wire protocol.

#ifndef WIRE_FRAME_H
#define WIRE_FRAME_H

#include "wire/bytes.h"

#define FRAME_HEADER_BYTES 16
#define FRAME_MAX_BYTES 48000000 // maxMessageSizeBytes of every supported server

enum opcode {
    OPCODE_REPLY = 1,
    OPCODE_QUERY = 2004,
    OPCODE_COMPRESSED = 2012,
    OPCODE_MSG = 2013,
};

struct frame {
    int32_t length; // of the whole message, header included: 16 to FRAME_MAX_BYTES
    int32_t request_id;
    int32_t response_to;
    int32_t opcode; // as it came: not necessarily one of enum opcode
};

enum frame_status {
    FRAME_MORE,       // fewer than 16 bytes are there
    FRAME_OK,         // the header is there and its length is possible
    FRAME_BAD_LENGTH, // a length below 16 or above FRAME_MAX_BYTES: the stream cannot be followed
};

// Reads a header from the first `len` bytes at `at`. Says nothing of the body having arrived.
enum frame_status frame_read(const uint8_t *at, size_t len, struct frame *ret_frame)
    __attribute__((warn_unused_result));

// Writes a header of 16 bytes to `at`.
void frame_write(uint8_t *at, const struct frame *frame);

#endif
