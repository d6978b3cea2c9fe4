// SPDX-License-Identifier: Apache-2.0
//
// This weir as one of a fleet: a thread that asks Redis or Valkey for leases (policy/lease.h) and
// puts what they allow in force. It blocks, but never for longer than a lease leaves room for.
//
//      fleet thread:  allow what the lease says -> count what is open -> ask the store -> learn
//      kernel:        ends the process when a lease is over that this thread has not given back
//
// The store is asked ROUND_US apart, and in between when more is needed or something was given up,
// twice a second on average at most.

#ifndef PROXY_FLEET_H
#define PROXY_FLEET_H

#include <stdbool.h>
#include <stddef.h>

struct config;
struct fleet;
struct servers;

// Whether its fleet.* go together; else a line in ret_error.
bool fleet_check(const struct config *config, char *ret_error, size_t capacity);

// NULL if the configuration has no fleet.redis, and on failure, with a line in ret_error (else
// ""). Allows nothing until the store has answered or LEASE_START_US are over. The workers
// are there, and none of them runs yet.
struct fleet *fleet_start(const struct config *config, struct servers *servers, char *ret_error,
                          size_t capacity);

// When all upstreams are closed, or the process ends; NULL is allowed. Tells the store that nothing
// is held any more.
void fleet_stop(struct fleet *fleet);

#endif
