// SPDX-License-Identifier: Apache-2.0
//
// What clients of one weir have open, told to the other while one takes the other's place: the
// messages "pin " of proxy/succession.h.

#ifndef PROXY_SUCCESSION_PINS_H
#define PROXY_SUCCESSION_PINS_H

#include <stdbool.h>
#include <stddef.h>

#include "policy/pins.h"
#include "proxy/succession_talk.h"

#define SUCCESSION_PIN "pin "

struct weir;

// Who is told of all that is open: those that were there already, place by place of the table, and
// meanwhile each that is opened. Whoever is too late for that begins anew.
struct telling {
    struct talk talk;
    size_t place; // of the next one; SIZE_MAX: all are told
};

void succession_tell_pin(struct weir *weir, struct telling *telling, const struct pin *pin);

// Tells some more, and what the socket did not take before. True: all is told.
bool succession_tell_pins(struct weir *weir, struct telling *telling);
bool succession_has_told(const struct telling *telling);

// What follows the word; one that makes no sense here is left out.
void succession_adopt_pin(struct weir *weir, const char *bytes, size_t length);

#endif
