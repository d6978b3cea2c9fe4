// SPDX-License-Identifier: Apache-2.0
//
// The shape of a command: what is left of it without its values. Requests of one shape cost alike,
// so what is learnt of one holds for the next.
//
//      {find: "orders", filter: {status: "new", createdAt: {$gt: …}}, sort: {createdAt: -1}, …}
//      find shop.orders {status, createdAt:{$gt}} sort{createdAt}
//
// What counts is the command, its namespace, and the structure of what decides how it is executed:
// filter, sort, projection, pipeline, update, hint, and whether there is a collation, a limit, a
// skip. Of several statements in one message, the first.
//
// - A value counts as nothing but "there is one", told apart only as array `[]`, document `{}` or
//   regular expression `//`; the array of $in is one of any length. Directions of a sort are
//   values; so are field paths ("$a") and the collections that stages name. The only strings that
//   are names are the namespace, and the field that a distinct is about.
// - What stands several times in a row in an array stands there once: an $or of ten like clauses
//   is one of two. Stages of a pipeline are counted.
// - The order of keys counts in sort and hint, and the order of stages; elsewhere not: it means
//   nothing to a server there, and an app's maps may give it anew each time (Go's do). The text
//   shows the keys as they came.
//
// Bounded, whatever is sent: of an array 32 elements count; of all, so many levels, elements and
// bytes of a key, and what is beyond is one "…".

#ifndef WIRE_SHAPE_H
#define WIRE_SHAPE_H

#include "wire/command.h"
#include "wire/op_msg.h"

// A number for the shape: the same in each process, on each machine. Both were read from one
// message; what is in its sequences need not be sound.
uint64_t shape_id(const struct op_msg *msg, const struct command *command);

// The shape as text, for people: ASCII but for "…" where something is left out, what is not
// printable or could be taken for structure escaped as %hh, a NUL at the end. Returns its length,
// less than `capacity`. Slower than the id.
size_t shape_text(const struct op_msg *msg, const struct command *command, char *out,
                  size_t capacity);

#endif
