// SPDX-License-Identifier: Apache-2.0
//
// Whoever decides which requests the server gets, behind one interface. Pure: the time is an
// argument.

#ifndef STORMS_CONTESTANT_H
#define STORMS_CONTESTANT_H

#include "request.h"

enum answer { GRANTED, WAITS, REFUSED };

struct way {
    const char *name;
    const char *about;
    void *(*make)(int cap, uint64_t seed);
    void (*free)(void *self);
    enum answer (*ask)(void *self, struct request *request, int64_t now_us);
    // One that ran has ended; `failed` if not by an answer. Then grant_next.
    void (*done)(void *self, struct request *request, bool failed, int64_t now_us);
    // The next queued one that may go now, NULL if none.
    struct request *(*grant_next)(void *self, int64_t now_us);
    // The next queued one that is refused after all, NULL if none; after grant_next.
    struct request *(*refuse_next)(void *self, int64_t now_us);
    // When to call both of these although nothing happened, INT64_MAX if never.
    int64_t (*next_wake_us)(const void *self);
    // Takes a queued one out: its app has given up.
    void (*cancel)(void *self, struct request *request, int64_t now_us);
    // Whether the server is there; at first it is.
    void (*set_available)(void *self, bool available, int64_t now_us);
    int (*limit)(const void *self);
    // What a refused request is told to wait, in ms; 0 or NULL: nothing.
    int64_t (*backoff_ms)(void *self, const struct request *request, int64_t now_us);
};

extern const struct way way_no_proxy;
extern const struct way way_fifo;
extern const struct way way_codel;
extern const struct way way_lifo;
extern const struct way way_gradient2;
extern const struct way way_vegas;
extern const struct way way_aimd;
extern const struct way way_envoy;
extern const struct way way_probing;
extern const struct way way_dagor;
extern const struct way way_weir;
extern const struct way way_weir_fixed;

// Not one of them: a limit that somebody has set right.
extern const struct way way_fixed;

extern const struct way *const ways[];
extern const int ways_count;

#endif
