// SPDX-License-Identifier: Apache-2.0
//
// Who asks how much, by tenant: the busiest of them, in a table of fixed size. A place is found
// among the eight of its set; when all are taken, the tenant that has asked least of late goes.
//
//      ids [ set 0: 8 ids, one cache line | set 1 | ... ]     tenants [ the same places ]
//
// All-zero is a valid empty one. Counts are since the tenant took its place.

#ifndef POLICY_DEMAND_H
#define POLICY_DEMAND_H

#include <stdint.h>

enum { DEMAND_SETS = 16, DEMAND_WAYS = 8, DEMAND_PLACES = DEMAND_SETS * DEMAND_WAYS };
#define DEMAND_NAME_BYTES 48
#define DEMAND_WAITS 24 // [0]: below 64 us; each goes to twice the one before; the last has no end

struct demand_tenant {
    char name[DEMAND_NAME_BYTES];
    uint64_t arrived;
    uint64_t refused;
    uint64_t waited; // those that had to, granted or refused
    int64_t longest_us;
    uint32_t recent;
    uint32_t waits[DEMAND_WAITS];
};

struct demand {
    uint64_t ids[DEMAND_PLACES];
    struct demand_tenant tenants[DEMAND_PLACES];
};

// `name` has DEMAND_NAME_BYTES, and is copied when the tenant is new here.
void demand_arrived(struct demand *demand, uint64_t tenant, const char *name);

// Of one that has arrived; no effect if it has lost its place since.
void demand_refused(struct demand *demand, uint64_t tenant);
void demand_waited(struct demand *demand, uint64_t tenant, int64_t waited_us);

// Forgets half of what was recent.
void demand_age(struct demand *demand);

// The place of a tenant, -1 if it has none.
int demand_find(const struct demand *demand, uint64_t tenant);

// The upper edge of the bucket that holds the quantile (0 to 1), at most `longest_us`; 0 of none.
int64_t demand_quantile(const uint32_t waits[DEMAND_WAITS], int64_t longest_us, double quantile);

#endif
