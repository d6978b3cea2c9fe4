// SPDX-License-Identifier: Apache-2.0
//
// Messages as apps and servers of the simulation write and read them: by libbson, not by weir's
// code.

#ifndef SIM_MESSAGE_H
#define SIM_MESSAGE_H

#include <bson/bson.h>

#include "tests/sim/sim_world.h"
#include "wire/buffer.h"
#include "wire/compression.h"

// What both sides fill large documents with: each byte follows from the operation's number.
void padding_append(bson_t *document, int64_t id, size_t len);
bool padding_is_right(const bson_iter_t *iter, int64_t id);

// Appends an operation's message.
void message_of_op(const struct op *op, struct buffer *out);

// Appends a message that is wrong in one of several ways.
void message_malformed(const struct op *op, struct buffer *out);

// Whether the message is what message_of_op makes of it, but for what weir is to change: no
// checksum, no moreToCome, no exhaustAllowed, and w: 1 instead of w: 0. NULL, or what differs.
const char *message_difference(const struct op *op, const uint8_t *at, size_t len);

// Appends an OP_MSG with this body.
void message_append(struct buffer *out, int32_t request_id, int32_t response_to, uint32_t flags,
                    const bson_t *body);

// The body of a whole OP_MSG or OP_REPLY. False: it has none.
bool message_body(const uint8_t *at, size_t len, bson_t *ret_body);

// All compressors, beginning with another one for each number.
struct compressor_list all_compressors(uint64_t number);

// Takes a message as it came: inflates it into `out` if it is compressed, by one of those that were
// agreed on, and says by which; else COMPRESSOR_NONE, and nothing is done.
enum compressor message_inflate(const uint8_t *at, size_t len, const struct compressor_list *agreed,
                                struct buffer *out);

// Appends a whole message, compressed.
void message_deflate(enum compressor compressor, struct bytes message, struct buffer *out);

int32_t number_at(const uint8_t *at);

#endif
