// SPDX-License-Identifier: Apache-2.0
//
// Runaways: requests that a server has worked on for longer than they may, and reads that it works
// on although their client has gone. They are ended there (kill.h); what does not end then, and has
// a client that waits, loses its connection, and the client is told.

#ifndef PROXY_RUNAWAY_H
#define PROXY_RUNAWAY_H

#include <stdbool.h>
#include <stdint.h>

struct request;

#define RUNAWAY_PATIENCE_US 2000000 // how long killing may take

// Whether one of its kind is ever taken for a runaway: not what waits for something to happen, nor
// what ends other things or builds an index.
bool runaway_may_be(const struct request *request);

// Does what is due for a request that has an upstream. Called at each sweep.
void runaway_check(struct request *request, int64_t now_us);

#endif
