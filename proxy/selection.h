// SPDX-License-Identifier: Apache-2.0
//
// Server selection: which servers of a snapshot may serve a request that is bound to none of them,
// and which of those does. Pure, but for reading the servers' pulses.
//
// After source/server-selection and source/max-staleness of mongodb/specifications: mode, then
// staleness, then tag sets (the first that suits any), then the latency window; of two that are
// left, taken at random, the one with fewer requests in flight. A server that cannot be connected
// to, whose breaker is open, or that the request has just come back from, is only taken if no other
// suits. A server that is direct suits always: there is no other, and it answers for itself.

#ifndef PROXY_SELECTION_H
#define PROXY_SELECTION_H

#include "proxy/topology.h"
#include "wire/command.h"

#define SELECTION_MIN_STALENESS_S 90

struct selection {
    enum read_mode mode;
    struct bytes tag_sets;   // the array `tags` of $readPreference; empty: any server
    int64_t max_staleness_s; // -1: any
    int64_t window_us;       // localThresholdMS of the URI
    double random[2];        // in [0, 1)
    int64_t now_us;
    uint32_t avoid; // the id of a server; 0: none
};

// What a command wants: its read preference, or the primary if it writes, belongs to a transaction,
// or is for the primary whatever its preference says. Borrows from the command.
void selection_read(const struct command *command, struct selection *ret_selection);

// NULL: nobody suits now. Borrows from the topology.
const struct server_info *selection_choose(const struct topology *topology,
                                           const struct selection *selection);

#endif
