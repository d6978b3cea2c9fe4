// SPDX-License-Identifier: Apache-2.0
//
// The read preference of a command that goes to one certain member of a replica set.
//
//      absent, or {mode: "primary"}  ->  {mode: "primaryPreferred"}        others  ->  as they are
//
// So a driver does that is connected to the member itself ("topology type single" in
// source/server-selection of mongodb/specifications): a secondary refuses a read otherwise.

#ifndef WIRE_READ_PREFERENCE_H
#define WIRE_READ_PREFERENCE_H

#include "wire/buffer.h"
#include "wire/command.h"

// `message` holds the one OP_MSG that *command was read from, without a checksum (op_msg_strip).
// Leaves alone: writes, what goes on with a cursor or is in a transaction, a field that is no such
// preference, and a message that would become too long. Returns whether anything was changed; then
// what borrows from the message must be read again.
bool read_preference_loosen(struct buffer *message, const struct command *command);

#endif
