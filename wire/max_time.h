// SPDX-License-Identifier: Apache-2.0
//
// maxTimeMS of a command on its way up: less what was spent waiting, and within bounds.
//
//      within bounds {limit 1000, preset 300}:
//      maxTimeMS: 5000  ->  1000        maxTimeMS: 0 (no limit)  ->  1000
//      maxTimeMS: 200   ->  200         none                     ->  300, inserted
//
// A value is written over in the type that it has (int32, int64, double). What no server takes as
// maxTimeMS (a text, a negative number) is left to it to complain of; so is a decimal128, which no
// driver sends.

#ifndef WIRE_MAX_TIME_H
#define WIRE_MAX_TIME_H

#include "wire/buffer.h"
#include "wire/command.h"

#define MAX_TIME_MOST_MS INT32_MAX // that a server takes

// In milliseconds; 0: none.
struct max_time_bounds {
    int64_t limit_ms;  // nothing runs longer, also what has no maxTimeMS or 0
    int64_t preset_ms; // for what has no maxTimeMS
};

// The bounds that hold where both do: the lesser limit, and the first one's preset if it has one.
struct max_time_bounds max_time_both(struct max_time_bounds first, struct max_time_bounds second);

// Brings the maxTimeMS of a command within the bounds, by writing over it or inserting it at the
// end of the body. `message` holds the one OP_MSG that *command was read from, without a checksum
// (op_msg_strip). Leaves alone: commands without the trait COMMAND_TIMED, those that open a stream,
// and a message that would become too long. Returns whether anything was changed; then what borrows
// from the message must be read again.
bool max_time_clamp(struct buffer *message, const struct command *command,
                    struct max_time_bounds bounds);

// How long the command may take as its sender says, 1 to MAX_TIME_MOST_MS; 0: as long as it likes.
// That of a getMore is something else: how long it waits for data.
int64_t max_time_of(const struct command *command);

// Writes another value, of at most MAX_TIME_MOST_MS, over one that max_time_of found. *command
// stays as it is.
void max_time_write(const struct command *command, uint8_t *message, int64_t ms);

#endif
