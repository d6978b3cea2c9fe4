// SPDX-License-Identifier: Apache-2.0
//
// Times of all workers, put together to be read: how many, their sum, quantiles.

#ifndef PROXY_ADMIN_SPREAD_H
#define PROXY_ADMIN_SPREAD_H

#include <bson/bson.h>

#include "proxy/traffic.h"

struct spread {
    uint64_t sum_us;
    uint64_t buckets[TRAFFIC_BUCKETS];
};

void spread_add(struct spread *spread, const struct traffic_times *times);
uint64_t spread_count(const struct spread *spread);

// What was counted since `before`.
void spread_subtract(struct spread *spread, const struct spread *before);

// The upper bound of a bucket in seconds; of the last, INFINITY.
double spread_bound(int bucket);

// A quantile (above 0, to 1) in seconds, interpolated within its bucket; of the last bucket, its
// lower bound. 0 if there is nothing.
double spread_quantile(const struct spread *spread, double quantile);

// count, sum, p50, p99, buckets.
void spread_append(const struct spread *spread, bson_t *document);

#endif
