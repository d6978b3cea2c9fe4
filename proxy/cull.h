// SPDX-License-Identifier: Apache-2.0
//
// A cull: what an operator wants ended, whichever worker has it. Asked for by mail; each worker
// looks through what is its own.
//
//      what waits        is refused, at once
//      what was sent     is ended on its server, as a runaway is (runaway.h)
//      a client          loses its connection, and what it has under way likewise
//
// What has been executed and is only still coming is spared, and, unless it was named, what only
// waits for events or is no read or write of data.

#ifndef PROXY_CULL_H
#define PROXY_CULL_H

#include <stdbool.h>
#include <stdint.h>

#include "proxy/net/loop.h"

struct worker;

// What it is about: a request, a client, or all that is of a shape and has run for long enough.
struct cull_wish {
    uint64_t request; // its number; 0: not just one
    uint32_t user_id; // it must be this user's; 0: anybody's
    uint64_t client;  // likewise
    bool has_shape;
    uint64_t shape;
    int64_t over_us; // so long a server has worked on it; 0: that does not matter
};

struct cull_counts {
    int ended;   // the server is asked to
    int refused; // had waited
    int closed;  // clients
    int spared;
};

struct cull;

// Asks all workers. From any thread.
struct cull *cull_begin(struct worker *const *workers, int count, const struct cull_wish *wish);

// The same for who does not wait: calls `done`, on the last worker's thread.
void cull_ask(struct worker *const *workers, int count, const struct cull_wish *wish,
              void (*done)(void *arg, const struct cull_counts *counts), void *arg);

// Says in the log who wanted it, and what came of it. Why: "" if nobody said.
void cull_log(const struct cull_wish *wish, const struct cull_counts *counts, const char *by,
              const char *why);

// Waits until all have done it, a second at most, says what came of it, and lets go of it. False: a
// worker is late, and does it when it gets there.
bool cull_end(struct cull *cull, struct cull_counts *ret_counts);

// MAIL_CULL, on the worker's thread.
void cull_take(struct worker *worker, struct mail *mail);

#endif
