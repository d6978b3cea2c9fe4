// SPDX-License-Identifier: Apache-2.0
//
// How others decide how many requests may be in flight: by what those that ran took.

#ifndef STORMS_LIMITER_H
#define STORMS_LIMITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sample {
    int64_t now_us;
    int64_t rtt_us;  // of one that has just ended
    int64_t sent_us; // when it was granted
    int in_flight;   // when it was granted, itself counted
    bool dropped;    // failed, or came too late for its app
};

struct limiter {
    size_t bytes; // of its state
    void (*start)(void *state, int cap, uint64_t seed);
    int (*limit)(const void *state);
    void (*learn)(void *state, const struct sample *sample); // NULL: learns nothing
    // What it does by the clock, every period_us; 0: nothing. peak is the most in flight since.
    void (*tick)(void *state, int peak, int64_t now_us);
    int64_t period_us;
};

extern const struct limiter limiter_fixed;
extern const struct limiter limiter_gradient2;
extern const struct limiter limiter_vegas;
extern const struct limiter limiter_aimd;
extern const struct limiter limiter_envoy;
extern const struct limiter limiter_probing;

#endif
