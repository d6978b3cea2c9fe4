// SPDX-License-Identifier: Apache-2.0
//
// Requests of weir's own (handshake, authentication, killCursors, abortTransaction) as OP_MSG.

#ifndef WIRE_REQUEST_BUILD_H
#define WIRE_REQUEST_BUILD_H

#include <bson/bson.h>

#include "wire/buffer.h"

// Appends an OP_MSG with the one section `body`, which must have $db.
void request_append(struct buffer *out, int32_t request_id, const bson_t *body);

#endif
