// SPDX-License-Identifier: Apache-2.0
//
// What each tenant uses, in a table of fixed size: place 0 is of all that have none. Unlike in
// policy/demand.h, where the busiest take the places, who has one keeps it: so its counts only
// grow, and names that are made up for each request do not become metrics without end.
//
//      [ others | set 0: 8 places | set 1 | ... ]
//
// A place becomes free when nothing of its tenant is under way nor has come for TENANTS_LAPSE_US,
// and another needs it; what was counted there is the others' from then on. Tenants of the same
// name share a place. All-zero is a valid empty one.

#ifndef POLICY_TENANTS_H
#define POLICY_TENANTS_H

#include <stdbool.h>
#include <stdint.h>

#define TENANTS_SETS 16
#define TENANTS_WAYS 8
#define TENANTS_OTHERS 0
#define TENANTS_PLACES (1 + TENANTS_SETS * TENANTS_WAYS)
#define TENANTS_NAME_BYTES 48
#define TENANTS_LAPSE_US INT64_C(3600000000)
#define TENANTS_MARKS 6

struct tenant_use {
    char name[TENANTS_NAME_BYTES]; // empty: nobody's
    uint64_t id;
    int64_t came_us; // the latest
    int under_way;   // waiting or in flight
    uint64_t served; // permits given back
    uint64_t shed;
    int64_t held_us;                     // for how long those were held
    int64_t held_then_us[TENANTS_MARKS]; // that, at each of the last marks; the first is the latest
};

struct tenants {
    struct tenant_use uses[TENANTS_PLACES];
};

// The place of a tenant, which stays its own at least while something of it is under way. An empty
// name is one of the others.
int tenants_place(struct tenants *tenants, uint64_t id, const char *name, int64_t now_us);

// Whether nothing of anybody is under way.
bool tenants_rest(const struct tenants *tenants);

// Sets a mark: what is held from here on is of late until as many have followed.
void tenants_mark(struct tenants *tenants);
int64_t tenants_held_lately_us(const struct tenant_use *use);

// Adds what is counted and under way of one to another.
void tenants_add(struct tenant_use *to, const struct tenant_use *from);

#endif
