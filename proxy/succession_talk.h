// SPDX-License-Identifier: Apache-2.0
//
// What one weir says to another while it takes its place: messages over a socket pair, in order.
// Nobody ever waits for the socket: what it does not take is kept, and said with what is said next.
//
//      talk_say -> [ unsaid ] -> socket -> talk_hear
//
// For one thread at a time.

#ifndef PROXY_SUCCESSION_TALK_H
#define PROXY_SUCCESSION_TALK_H

#include <stdbool.h>
#include <stddef.h>

#include "wire/buffer.h"

#define TALK_MESSAGE_BYTES 4096

struct talk {
    int socket;
    struct buffer unsaid; // messages, each after its length
};

void talk_close(struct talk *talk);

// False: the other has not heard for so long that there is no room to keep it.
bool talk_say(struct talk *talk, const void *message, size_t bytes);

// Likewise, as a text.
bool talk_say_text(struct talk *talk, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

// Says what is kept. True: there is nothing more.
bool talk_go_on(struct talk *talk);

// The next message, with a zero after it; false: there is none.
bool talk_hear(struct talk *talk, char ret_text[TALK_MESSAGE_BYTES], size_t *ret_bytes);

// Waits until there is one, or the other end is closed; for so long at most.
void talk_wait(const struct talk *talk, int ms);

#endif
