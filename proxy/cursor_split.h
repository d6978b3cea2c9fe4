// SPDX-License-Identifier: Apache-2.0
//
// A killCursors whose cursors are on several servers: these are asked one after the other, each for
// its own, and their answers become one.

#ifndef PROXY_CURSOR_SPLIT_H
#define PROXY_CURSOR_SPLIT_H

#include <bson/bson.h>
#include <stdbool.h>
#include <stdint.h>

#include "proxy/affinity.h"
#include "wire/buffer.h"
#include "wire/bytes.h"

struct cursor_split;

// NULL unless the request is a killCursors with cursors of more than one server. Those of which no
// server is known go with the first. Owned by the caller.
struct cursor_split *cursor_split_new(struct affinity *affinity, const struct request *request);
void cursor_split_free(struct cursor_split *split); // NULL is nothing

// The next server's part: the message to send in the place of the request's, into an empty buffer,
// and the server's id. False: all have been asked.
bool cursor_split_next(struct cursor_split *split, struct buffer *message, uint32_t *ret_server);

// Takes the reply to a part, whole. False: it is none that can be joined with others (an error),
// and is the answer to all.
bool cursor_split_take(struct cursor_split *split, struct bytes reply);

// Appends what all have answered.
void cursor_split_answer(const struct cursor_split *split, bson_t *document);

#endif
