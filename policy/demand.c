// SPDX-License-Identifier: Apache-2.0

#include "policy/demand.h"

#include <string.h>

#define FIRST_BITS 6 // of the first bucket of waits

int demand_find(const struct demand *demand, uint64_t tenant)
{
    int first = (int)(tenant % DEMAND_SETS) * DEMAND_WAYS;
    for (int i = first; i < first + DEMAND_WAYS; i++) {
        if (demand->ids[i] == tenant) {
            return i;
        }
    }
    return -1;
}

static int take_place(struct demand *demand, uint64_t tenant, const char *name)
{
    int first = (int)(tenant % DEMAND_SETS) * DEMAND_WAYS;
    int least = first;
    for (int i = first + 1; i < first + DEMAND_WAYS; i++) {
        if (demand->tenants[i].recent < demand->tenants[least].recent) {
            least = i;
        }
    }
    demand->ids[least] = tenant;
    demand->tenants[least] = (struct demand_tenant){0};
    memcpy(demand->tenants[least].name, name, DEMAND_NAME_BYTES);
    return least;
}

void demand_arrived(struct demand *demand, uint64_t tenant, const char *name)
{
    int place = demand_find(demand, tenant);
    if (place < 0) {
        place = take_place(demand, tenant, name);
    }
    demand->tenants[place].arrived++;
    demand->tenants[place].recent++;
}

void demand_refused(struct demand *demand, uint64_t tenant)
{
    int place = demand_find(demand, tenant);
    if (place >= 0) {
        demand->tenants[place].refused++;
    }
}

static int bucket_of(int64_t waited_us)
{
    int bits = waited_us > 0 ? 64 - __builtin_clzll((unsigned long long)waited_us) : 0;
    int bucket = bits > FIRST_BITS ? bits - FIRST_BITS : 0;
    return bucket < DEMAND_WAITS ? bucket : DEMAND_WAITS - 1;
}

void demand_waited(struct demand *demand, uint64_t tenant, int64_t waited_us)
{
    int place = demand_find(demand, tenant);
    if (place < 0) {
        return;
    }
    struct demand_tenant *of = &demand->tenants[place];
    of->waited++;
    of->waits[bucket_of(waited_us)]++;
    of->longest_us = waited_us > of->longest_us ? waited_us : of->longest_us;
}

void demand_age(struct demand *demand)
{
    for (int i = 0; i < DEMAND_PLACES; i++) {
        demand->tenants[i].recent /= 2;
    }
}

int64_t demand_quantile(const uint32_t waits[DEMAND_WAITS], int64_t longest_us, double quantile)
{
    uint64_t all = 0;
    for (int i = 0; i < DEMAND_WAITS; i++) {
        all += waits[i];
    }
    uint64_t below = 0;
    for (int i = 0; i < DEMAND_WAITS - 1; i++) {
        below += waits[i];
        int64_t edge_us = INT64_C(1) << (FIRST_BITS + i);
        if (below > 0 && (double)below >= quantile * (double)all) {
            return edge_us < longest_us ? edge_us : longest_us;
        }
    }
    return all > 0 ? longest_us : 0;
}
