// SPDX-License-Identifier: Apache-2.0
//
// One thread's event loop: the clock, timers, mail from other threads, and the end of a turn.
//
//      turn:  sleep -> mail -> timers -> streams -> turn end (what died is freed) -> sleep
//
// The data path knows time and other threads only through this header, so that a simulated loop can
// be linked in its place.

#ifndef PROXY_NET_LOOP_H
#define PROXY_NET_LOOP_H

#include <stdint.h>

struct loop;

// Never NULL; a process that has no descriptor left for it aborts.
struct loop *loop_new(void);
void loop_free(struct loop *loop);

// Runs until loop_stop, which ends the turn it is called in and may be called from the loop's own
// thread only (before loop_run, too).
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

// Monotonic time in microseconds, read anew at each call.
int64_t loop_now_us(const struct loop *loop);

// Calls `fn` at the end of each turn, after all handlers have run: nothing that they were given can
// be in use any more. At most one per loop.
void loop_on_turn_end(struct loop *loop, void (*fn)(void *arg), void *arg);

// A timer that fires once for each timer_set.
struct timer;

struct timer *timer_new(struct loop *loop, void (*fn)(void *arg), void *arg);
void timer_free(struct timer *timer); // may be its own fn that does it

// Fires at `at_us` of loop_now_us, or at once in the next turn if that is past. Setting again
// replaces; INT64_MAX is never. Cheap when the time is the one already set or a later one. Timers
// due in one turn fire in order of their times, but for those that were moved later.
void timer_set(struct timer *timer, int64_t at_us);

// Mail: embedded in what it is about. Its owner gives it away by mailbox_post and may not touch it
// until it is delivered.
struct mail {
    struct mail *next;
    int kind; // the receiver's own enum
};

struct mailbox;

// Mail is delivered on the loop's thread, in the order of posting, in a batch, outside any lock.
struct mailbox *mailbox_new(struct loop *loop, void (*deliver)(void *arg, struct mail *mail),
                            void *arg);

// It must be empty, and nobody may be in mailbox_post any more: join the threads first.
void mailbox_free(struct mailbox *mailbox);

// From any thread. Wakes the loop up if it was empty.
void mailbox_post(struct mailbox *mailbox, struct mail *mail);

#endif
