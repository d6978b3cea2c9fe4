// SPDX-License-Identifier: Apache-2.0
//
// What is asked of a server, and what happens to it meanwhile.

#ifndef STORMS_WORKLOAD_H
#define STORMS_WORKLOAD_H

#include "server.h"

enum spread { EXPONENTIAL, FIXED, HEAVY };
enum retrying { NO_RETRY, BACK_OFF, AT_ONCE };

// A shape, who asks it, and how.
struct kind {
    const char *name;
    double per_s;
    double cpu_ms; // mean, spread as said; 0: ends the list
    enum spread spread;
    double io_ms; // before it, without a core
    int64_t deadline_us;
    enum retrying retrying; // when refused: twice, with a driver's back-off or without one
    int reloads;            // by the user who got nothing, each 200 ms later, with a new deadline
    int first_tenant;
    int tenants; // 0: one
};

enum change { LOAD, DEARER, CAPACITY, DIES, RETURNS };

struct happening {
    int64_t at_us;
    enum change change;
    int kind;
    double value; // LOAD: so many times its per_s; DEARER: its times; CAPACITY: the cores
};

#define KINDS 4
#define HAPPENINGS 8
#define TENANTS 1001

struct workload {
    const char *name;
    struct server_traits server;
    struct kind kinds[KINDS];
    struct happening happenings[HAPPENINGS]; // by time; at_us 0 ends them
    int64_t ends_us;
    int64_t from_us; // what is measured, unless a table says otherwise
    int64_t until_us;
};

// A server that shares its cores, and one that suffers from crowding; what the usual mix is made
// of.
#define FAIR                                                                                       \
    {                                                                                              \
        .cores = 8                                                                                 \
    }
#define CROWDED                                                                                    \
    {                                                                                              \
        .cores = 8, .contention = 0.02                                                             \
    }
#define FAST(n, ...)                                                                               \
    {                                                                                              \
        .name = "fast", .per_s = (n), .cpu_ms = 5, .deadline_us = 500 * MS, __VA_ARGS__            \
    }
#define MIDDLE(n, ...)                                                                             \
    {                                                                                              \
        .name = "middle", .per_s = (n), .cpu_ms = 20, .deadline_us = 500 * MS, __VA_ARGS__         \
    }

extern const struct workload even;        // at the capacity of a server that shares its cores
extern const struct workload crowded;     // the same on one that suffers from crowding
extern const struct workload heavy;       // the same with heavy-tailed times
extern const struct workload connections; // the same on one that takes 200 connections
extern const struct workload story;
extern const struct workload story_calm; // without the slow shape
extern const struct workload slow_shape; // one appears, and eats processor time
extern const struct workload spike;
extern const struct workload failover;
extern const struct workload convoy;
extern const struct workload halving;
extern const struct workload doubling;
extern const struct workload dearer;
extern const struct workload index_lost;
extern const struct workload other_mix;
extern const struct workload noisy;
extern const struct workload thousand;
extern const struct workload retry_back_off;
extern const struct workload retry_at_once;

extern const struct workload *const workloads[];
extern const int workloads_count;

// How many requests a second the server can serve at its best, of the kinds as they come at first.
double workload_capacity_per_s(const struct workload *workload);

#endif
