// SPDX-License-Identifier: Apache-2.0
//
// Fibers: each worker of weir runs on a stack of its own, so that it can be stopped wherever a
// thread could be interrupted with effect (between two handlers, after it let go of a lock) while
// others go on.

#ifndef SIM_FIBER_H
#define SIM_FIBER_H

#include <stdbool.h>

struct fiber;

struct fiber *fiber_new(void (*run)(void *arg), void *arg);
void fiber_free(struct fiber *fiber); // ended, or never to be resumed

// Runs it until it pauses or ends. Not from within a fiber.
void fiber_resume(struct fiber *fiber);
bool fiber_has_ended(const struct fiber *fiber);

// Stops the fiber that calls it until it is resumed.
void fiber_pause(void);

// The argument of the fiber that runs, NULL outside of any.
void *fiber_current(void);

#endif
