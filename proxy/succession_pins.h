// SPDX-License-Identifier: Apache-2.0
//
// What clients of one weir have open, told to the other while one takes the other's place: the
// messages "pin " of proxy/succession.h.

#ifndef PROXY_SUCCESSION_PINS_H
#define PROXY_SUCCESSION_PINS_H

#include <stdbool.h>
#include <stddef.h>

#include "policy/pins.h"

#define SUCCESSION_PIN "pin "
#define SUCCESSION_MESSAGE_BYTES 4096

struct weir;

// False: the other does not read as fast, and does not learn of it.
bool succession_tell_pin(struct weir *weir, int talk, const struct pin *pin);

// All that is open; waits until the other has read enough.
void succession_tell_pins(struct weir *weir, int talk);

// What follows the word; one that makes no sense here is left out.
void succession_adopt_pin(struct weir *weir, const char *bytes, size_t length);

#endif
