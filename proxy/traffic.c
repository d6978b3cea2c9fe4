// SPDX-License-Identifier: Apache-2.0

#include "proxy/traffic.h"

const char *traffic_class_text(enum traffic_class class)
{
    static const char *const texts[] = {
#define X(name, text) text,
        TRAFFIC_CLASSES(X)
#undef X
    };
    return texts[class];
}

enum traffic_class traffic_classify(const struct command *command, bool streams)
{
    unsigned traits = command->info->traits;
    if (streams) {
        return TRAFFIC_STREAM;
    }
    if (command_ends_transaction(command)) {
        return TRAFFIC_TRANSACTION;
    }
    if (command->cursor_id || command->cursors.len > 0) {
        return TRAFFIC_CURSOR;
    }
    if (traits & COMMAND_WRITE || command->writes_out) {
        return TRAFFIC_WRITE;
    }
    return traits & COMMAND_READ ? TRAFFIC_READ : TRAFFIC_OTHER;
}

static int bucket_of(int64_t us)
{
    if (us <= 1 << TRAFFIC_FIRST_BITS) {
        return 0;
    }
    int bits = 64 - __builtin_clzll((unsigned long long)(us - 1)) - TRAFFIC_FIRST_BITS;
    return bits < TRAFFIC_BUCKETS ? bits : TRAFFIC_BUCKETS - 1;
}

static void record(struct traffic_times *times, int64_t us)
{
    us = us > 0 ? us : 0; // two threads' clocks
    traffic_add(&times->sum_us, (uint64_t)us);
    traffic_add(&times->buckets[bucket_of(us)], 1);
}

void traffic_record(struct traffic *traffic, enum traffic_class class,
                    const int64_t values[MEASURE_COUNT])
{
    struct traffic_of_class *of_class = &traffic->classes[class];
    for (int i = 0; i < TRAFFIC_TIMES; i++) {
        record(&of_class->times[i], values[i]);
    }
    traffic_add(&of_class->bytes, (uint64_t)values[MEASURE_BYTES]);
}
