// SPDX-License-Identifier: Apache-2.0
//
// Times and sizes of requests, a set of histograms for each command (policy/histogram.h states the
// error). Each worker has a meter of its own; they are merged to be read.

#ifndef PROXY_METER_H
#define PROXY_METER_H

#include "policy/histogram.h"
#include "wire/command_table.h"

enum measure {
    MEASURE_WAITED_US, // from the request's last byte to its permit
    MEASURE_SERVED_US, // from the permit to the reply's last byte from the server
    MEASURE_TOTAL_US,  // from the request's last byte to the reply's last byte towards the client
    MEASURE_BYTES,     // request and reply
    MEASURE_COUNT
};

struct meter {
    // By command_info.index; NULL for commands not seen. MEASURE_COUNT histograms each.
    struct histogram **commands;
};

void meter_init(struct meter *meter);
void meter_fini(struct meter *meter);

void meter_record(struct meter *meter, const struct command_info *command,
                  const int64_t values[MEASURE_COUNT]);

void meter_merge(struct meter *into, const struct meter *from);

// One log line for each command seen and one for all together: count, and of each measure the mean,
// p50, p90, p99, p999 and max.
void meter_log(const struct meter *meter);

#endif
