// SPDX-License-Identifier: Apache-2.0
//
// This weir as one of a fleet: a thread that asks Redis or Valkey for leases (policy/lease.h) and
// puts what they allow in force, also while it waits for the store (store.h).
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

#include "policy/lease.h"

enum { FLEET_INSTANCES_MAX = 256 };

struct config;
struct fleet;
struct servers;

// What is to be seen of it.
struct fleet_look {
    struct lease lease; // its peers are those below: all of the fleet, this one too
    struct lease_peer peers[FLEET_INSTANCES_MAX];
    int allowed; // in force
    bool cuts;
    int open; // the most at one server
    int want;
    int need;            // above the floor, as it was last told the store
    int64_t answered_us; // when the store last did; -1: never
    char store[160];     // where it is; "": not found yet
    char error[256];     // why there was no answer to what was last asked; "": there was
};

// Whether its fleet.* go together; else a line in ret_error.
bool fleet_check(const struct config *config, char *ret_error, size_t capacity);

// NULL if the configuration has no fleet.redis, and on failure, with a line in ret_error (else
// ""). Allows nothing until the store has answered or LEASE_START_US are over. The workers
// are there, and none of them runs yet.
struct fleet *fleet_start(const struct config *config, struct servers *servers, char *ret_error,
                          size_t capacity);

// From any thread. Returns the time that what it tells goes by.
int64_t fleet_look(struct fleet *fleet, struct fleet_look *ret_look);

// When all upstreams are closed, or the process ends; NULL is allowed. Tells the store that nothing
// is held any more.
void fleet_stop(struct fleet *fleet);

#endif
