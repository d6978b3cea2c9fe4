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
    if (traits & COMMAND_FINISHES) {
        bool cursor = command->cursor_id || command->cursors.len > 0;
        return cursor                              ? TRAFFIC_CURSOR
               : command_ends_transaction(command) ? TRAFFIC_TRANSACTION
                                                   : TRAFFIC_OTHER;
    }
    if (traits & COMMAND_READ && !command->writes_out) {
        return TRAFFIC_READ;
    }
    return traits & (COMMAND_READ | COMMAND_WRITE) ? TRAFFIC_WRITE : TRAFFIC_OTHER;
}

// The one that a time (not negative) falls into: how many bits it has above the first bucket's.
// Times are whole microseconds, rounded down, so those of the first bucket are less than 64 us.
static inline int bucket_of(uint64_t us)
{
    int bucket = __builtin_clzll(us >> (TRAFFIC_FIRST_BITS - 1) | 1) ^ 63; // 63 less that
    return bucket < TRAFFIC_BUCKETS ? bucket : TRAFFIC_BUCKETS - 1;
}

static inline void record(struct traffic_times *times, uint64_t us)
{
    traffic_add(&times->sum_us, us);
    traffic_add(&times->buckets[bucket_of(us)], 1);
}

void traffic_record(struct traffic *traffic, enum traffic_class class,
                    const int64_t values[MEASURE_COUNT])
{
    struct traffic_of_class *of_class = &traffic->classes[class];
    struct traffic_times *times = of_class->times;
    record(&times[MEASURE_WAITED_US], (uint64_t)values[MEASURE_WAITED_US]);
    record(&times[MEASURE_SERVED_US], (uint64_t)values[MEASURE_SERVED_US]);
    record(&times[MEASURE_TOTAL_US], (uint64_t)values[MEASURE_TOTAL_US]);
    traffic_add(&of_class->bytes, (uint64_t)values[MEASURE_BYTES]);
}
