// SPDX-License-Identifier: Apache-2.0
//
// The storms. All servers have 8 cores, which serve 1,000 a second of the usual mix (8 ms mean):
// four of five take 5 ms, the fifth 20 ms. Users wait for 500 ms.

#include "workload.h"

#define USUAL(n)                                                                                   \
    {                                                                                              \
        FAST((n)*0.8, ), MIDDLE((n)*0.2, )                                                         \
    }

const struct workload even = {
    .name = "even",
    .server = FAIR,
    .kinds = USUAL(1000),
    .ends_us = 40 * S,
    .from_us = 20 * S,
    .until_us = 40 * S,
};

const struct workload crowded = {
    .name = "crowded",
    .server = CROWDED,
    .kinds = USUAL(1000),
    .ends_us = 40 * S,
    .from_us = 20 * S,
    .until_us = 40 * S,
};

const struct workload heavy = {
    .name = "heavy tail",
    .server = CROWDED,
    .kinds = {{.name = "heavy", .per_s = 2000, .cpu_ms = 8, .spread = HEAVY, .deadline_us = 1 * S}},
    .ends_us = 40 * S,
    .from_us = 10 * S,
    .until_us = 40 * S,
};

const struct workload connections = {
    .name = "connections",
    .server = {.cores = 8, .max_connections = 200},
    .kinds = {FAST(1600, .retrying = BACK_OFF), MIDDLE(400, .retrying = BACK_OFF)},
    .ends_us = 30 * S,
    .from_us = 10 * S,
    .until_us = 30 * S,
};

// 300 fast ones a second use three of eight cores. From 10 s to 40 s, 200 slow ones a second hold a
// connection for 5 s each and use half a core in all: connections are what is scarce.
#define STORY_FAST                                                                                 \
    {                                                                                              \
        .name = "fast", .per_s = 300, .cpu_ms = 10, .deadline_us = 1 * S                           \
    }
#define STORY_ENDS .ends_us = 60 * S, .from_us = 10 * S, .until_us = 40 * S

const struct workload story = {
    .name = "story",
    .server = FAIR,
    .kinds = {STORY_FAST,
              {.name = "slow",
               .per_s = 200,
               .cpu_ms = 2.5,
               .spread = FIXED,
               .io_ms = 5000,
               .deadline_us = 10 * S}},
    .happenings = {{1, LOAD, 1, 0}, {10 * S, LOAD, 1, 1}, {40 * S, LOAD, 1, 0}},
    STORY_ENDS,
};

const struct workload story_calm = {
    .name = "story without the slow shape",
    .server = FAIR,
    .kinds = {STORY_FAST},
    STORY_ENDS,
};

// Half of the capacity is in use. Then 40 a second come that scan: each takes a core for 500 ms.
const struct workload slow_shape = {
    .name = "slow shape",
    .server = CROWDED,
    .kinds = {FAST(400, ),
              MIDDLE(100, ),
              {.name = "scan", .per_s = 40, .cpu_ms = 500, .spread = FIXED, .deadline_us = 10 * S}},
    .happenings = {{1, LOAD, 2, 0}, {10 * S, LOAD, 2, 1}},
    .ends_us = 40 * S,
    .from_us = 10 * S,
    .until_us = 40 * S,
};

// 0.6 of the capacity, ten times that for 30 s, and 0.6 again. Users reload, drivers back off.
const struct workload spike = {
    .name = "spike",
    .server = CROWDED,
    .kinds = {FAST(480, .retrying = BACK_OFF, .reloads = 2),
              MIDDLE(120, .retrying = BACK_OFF, .reloads = 2)},
    .happenings = {{20 * S, LOAD, 0, 10},
                   {20 * S, LOAD, 1, 10},
                   {50 * S, LOAD, 0, 1},
                   {50 * S, LOAD, 1, 1}},
    .ends_us = 80 * S,
    .from_us = 20 * S,
    .until_us = 50 * S,
};

// Three times the capacity for 20 s; in the middle of it the server dies, and is back 5 s later.
const struct workload failover = {
    .name = "failover",
    .server = CROWDED,
    .kinds = {FAST(480, .retrying = BACK_OFF, .reloads = 2),
              MIDDLE(120, .retrying = BACK_OFF, .reloads = 2)},
    .happenings = {{20 * S, LOAD, 0, 5},
                   {20 * S, LOAD, 1, 5},
                   {25 * S, DIES, 0, 0},
                   {30 * S, RETURNS, 0, 0},
                   {40 * S, LOAD, 0, 1},
                   {40 * S, LOAD, 1, 1}},
    .ends_us = 70 * S,
    .from_us = 30 * S,
    .until_us = 40 * S,
};

// 0.8 of the capacity; three times everything stands for a second, behind a lock.
const struct workload convoy = {
    .name = "convoy",
    .server = CROWDED,
    .kinds = {FAST(640, .reloads = 1), MIDDLE(160, .reloads = 1)},
    .happenings = {{10 * S, CAPACITY, 0, 0},
                   {11 * S, CAPACITY, 0, 1},
                   {20 * S, CAPACITY, 0, 0},
                   {21 * S, CAPACITY, 0, 1},
                   {30 * S, CAPACITY, 0, 0},
                   {31 * S, CAPACITY, 0, 1}},
    .ends_us = 60 * S,
    .from_us = 11 * S,
    .until_us = 50 * S,
};

const struct workload halving = {
    .name = "capacity halves",
    .server = CROWDED,
    .kinds = USUAL(2000),
    .happenings = {{30 * S, CAPACITY, 0, 0.5}},
    .ends_us = 60 * S,
    .from_us = 40 * S,
    .until_us = 60 * S,
};

const struct workload doubling = {
    .name = "capacity doubles",
    .server = CROWDED,
    .kinds = USUAL(4000),
    .happenings = {{30 * S, CAPACITY, 0, 2}},
    .ends_us = 60 * S,
    .from_us = 40 * S,
    .until_us = 60 * S,
};

// All becomes twice as dear, for good.
const struct workload dearer = {
    .name = "twice as dear",
    .server = CROWDED,
    .kinds = USUAL(2000),
    .happenings = {{30 * S, DEARER, 0, 2}, {30 * S, DEARER, 1, 2}},
    .ends_us = 70 * S,
    .from_us = 35 * S,
    .until_us = 70 * S,
};

// Half of the capacity is in use; then one of three shapes loses its index and wants 1.25 times the
// cores.
const struct workload index_lost = {
    .name = "index lost",
    .server = CROWDED,
    .kinds = {FAST(400, ), FAST(200, ), MIDDLE(25, )},
    .happenings = {{30 * S, DEARER, 2, 20}},
    .ends_us = 70 * S,
    .from_us = 30 * S,
    .until_us = 70 * S,
};

// Twice the capacity of mostly fast ones becomes twice the capacity of mostly dear ones.
const struct workload other_mix = {
    .name = "another mix",
    .server = CROWDED,
    .kinds = {FAST(3000, ), MIDDLE(50, )},
    .happenings = {{30 * S, LOAD, 0, 0.05}, {30 * S, LOAD, 1, 16}},
    .ends_us = 70 * S,
    .from_us = 30 * S,
    .until_us = 70 * S,
};

// Four polite tenants want 150 a second each, less than a fifth of the capacity; one wants 5,000.
const struct workload noisy = {
    .name = "noisy tenant",
    .server = FAIR,
    .kinds = {FAST(480, .first_tenant = 1, .tenants = 4),
              MIDDLE(120, .first_tenant = 1, .tenants = 4), FAST(4000, ), MIDDLE(1000, )},
    .ends_us = 30 * S,
    .from_us = 10 * S,
    .until_us = 30 * S,
};

// A thousand polite ones share 600 a second.
const struct workload thousand = {
    .name = "1,000 tenants",
    .server = FAIR,
    .kinds = {FAST(480, .first_tenant = 1, .tenants = 1000),
              MIDDLE(120, .first_tenant = 1, .tenants = 1000), FAST(4000, ), MIDDLE(1000, )},
    .ends_us = 30 * S,
    .from_us = 10 * S,
    .until_us = 30 * S,
};

// 0.9 of the capacity, twice it for 10 s: does the storm that retries make go away again?
#define RETRY_STORM                                                                                \
    .server = CROWDED,                                                                             \
    .happenings = {{20 * S, LOAD, 0, 2},                                                           \
                   {20 * S, LOAD, 1, 2},                                                           \
                   {30 * S, LOAD, 0, 1},                                                           \
                   {30 * S, LOAD, 1, 1}},                                                          \
    .ends_us = 70 * S, .from_us = 20 * S, .until_us = 70 * S

const struct workload retry_back_off = {
    .name = "retries, back-off",
    .kinds = {FAST(720, .retrying = BACK_OFF, .reloads = 3),
              MIDDLE(180, .retrying = BACK_OFF, .reloads = 3)},
    RETRY_STORM,
};

const struct workload retry_at_once = {
    .name = "retries at once",
    .kinds = {FAST(720, .retrying = AT_ONCE, .reloads = 3),
              MIDDLE(180, .retrying = AT_ONCE, .reloads = 3)},
    RETRY_STORM,
};

const struct workload *const workloads[] = {
    &even,           &crowded,       &heavy,  &connections, &story,     &story_calm, &slow_shape,
    &spike,          &failover,      &convoy, &halving,     &doubling,  &noisy,      &thousand,
    &retry_back_off, &retry_at_once, &dearer, &index_lost,  &other_mix,
};

const int workloads_count = sizeof workloads / sizeof workloads[0];

double workload_capacity_per_s(const struct workload *workload)
{
    double requests = 0;
    double cores = 0;
    for (int i = 0; i < KINDS; i++) {
        requests += workload->kinds[i].per_s;
        cores += workload->kinds[i].per_s * workload->kinds[i].cpu_ms / 1000;
    }
    return requests / cores * workload->server.cores;
}
