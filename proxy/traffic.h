// SPDX-License-Identifier: Apache-2.0
//
// What requests took at a server, by class of command: one of these for each worker, which alone
// writes it; anybody may read it at any time, without a lock and without asking. Each value is
// whole, but they are not all of one moment.

#ifndef PROXY_TRAFFIC_H
#define PROXY_TRAFFIC_H

#include <stdatomic.h>
#include <stdint.h>

#include "proxy/meter.h"
#include "wire/command.h"

//      name, text for metrics
#define TRAFFIC_CLASSES(X)                                                                         \
    X(TRAFFIC_READ, "read")                                                                        \
    X(TRAFFIC_WRITE, "write")                                                                      \
    X(TRAFFIC_CURSOR, "cursor")                                                                    \
    X(TRAFFIC_STREAM, "stream")                                                                    \
    X(TRAFFIC_TRANSACTION, "transaction")                                                          \
    X(TRAFFIC_OTHER, "other")

enum traffic_class {
#define X(name, text) name,
    TRAFFIC_CLASSES(X)
#undef X
        TRAFFIC_CLASS_COUNT
};

#define TRAFFIC_FIRST_BITS 6                 // the first bucket is for what takes less than 64 us,
#define TRAFFIC_BUCKETS 22                   // each for up to twice that of the one before, and
#define TRAFFIC_TIMES (MEASURE_TOTAL_US + 1) // the last has no end

struct traffic_times {
    atomic_uint_fast64_t sum_us;
    atomic_uint_fast64_t buckets[TRAFFIC_BUCKETS];
};

struct traffic {
    struct traffic_of_class {
        atomic_uint_fast64_t bytes;
        struct traffic_times times[TRAFFIC_TIMES]; // by enum measure
    } classes[TRAFFIC_CLASS_COUNT];
};

const char *traffic_class_text(enum traffic_class class);

// `streams`: waited in the server for what may come.
enum traffic_class traffic_classify(const struct command *command, bool streams);

// A request, all of whose times its worker has read from one clock.
void traffic_record(struct traffic *traffic, enum traffic_class class,
                    const int64_t values[MEASURE_COUNT]);

// What one thread counts and others read.
static inline void traffic_add(atomic_uint_fast64_t *count, uint64_t more)
{
    uint64_t before = atomic_load_explicit(count, memory_order_relaxed);
    atomic_store_explicit(count, before + more, memory_order_relaxed);
}

#endif
