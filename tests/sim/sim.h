// SPDX-License-Identifier: Apache-2.0
//
// What the whole simulation shares: the clock, the dice, the agenda and the trace.
//
//      event_set(at) -> agenda (a heap by time; what is due at the same time comes in random order)
//      sim_step      -> takes the first event, sets the clock to its time, calls it
//
// Everything that ever happens is an event: a worker's next piece of work, bytes that arrive, an
// app that has thought enough. All of it is drawn from one generator, so a seed replays exactly.

#ifndef SIM_H
#define SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// --- clock and agenda ---------------------------------------------------------------------------

struct event {
    int64_t at_us;
    uint64_t tie;
    size_t place; // in the agenda, from 1; 0: not in it
    void (*fn)(void *arg);
    void *arg;
};

// Begins anew: the clock stands at one hour, the agenda is empty, the dice are the seed's.
void sim_begin(uint64_t seed);
void sim_end(void);

int64_t sim_now_us(void);
uint64_t sim_steps(void); // so many events of this seed have been called

// Calls the next event if it is due at `until_us` or before. False: none is, the clock is there
// now.
bool sim_step(int64_t until_us);

void event_init(struct event *event, void (*fn)(void *arg), void *arg);
// Sets or moves; a time that is past is now. INT64_MAX takes it out.
void event_set(struct event *event, int64_t at_us);
void event_cancel(struct event *event);
static inline bool event_is_set(const struct event *event)
{
    return event->place != 0;
}

// --- dice ---------------------------------------------------------------------------------------

uint64_t dice(void);
bool dice_chance(double probability);
int64_t dice_between(int64_t low, int64_t high); // both included
int64_t dice_scale(int64_t low, int64_t high);   // each order of magnitude alike; low is 1 or more
size_t dice_weighted(const int *weights, size_t count); // at least one is not 0

// --- trace --------------------------------------------------------------------------------------

// Notes what happened: a format of up to five %lld or %s (static text), printed only when asked
// for.
void trace_note(const char *format, const int64_t args[5]);
void trace_text(const char *text); // copied
void trace_verbose(bool verbose);  // prints each at once
void trace_print_last(void); // to standard error; safe in a signal's handler as far as stdio is

#define NUMBER(x) (int64_t)(intptr_t)(x)
#define TRACE5(format, a, b, c, d, e, ...)                                                         \
    trace_note(format, (const int64_t[5]){NUMBER(a), NUMBER(b), NUMBER(c), NUMBER(d), NUMBER(e)})
#define TRACE(...) TRACE5(__VA_ARGS__, 0, 0, 0, 0, 0, 0)

// --- broken invariants --------------------------------------------------------------------------

// Prints what broke, seed, step and the last events, and ends the seed (does not return).
_Noreturn void sim_broken(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define HOLDS(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            sim_broken(__VA_ARGS__);                                                               \
        }                                                                                          \
    } while (0)

#endif
