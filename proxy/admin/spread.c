// SPDX-License-Identifier: Apache-2.0

#include "proxy/admin/spread.h"

#include <math.h>
#include <stdio.h>

#include "proxy/admin/state.h"

void spread_add(struct spread *spread, const struct traffic_times *times)
{
    spread->sum_us += atomic_load_explicit(&times->sum_us, memory_order_relaxed);
    for (int i = 0; i < TRAFFIC_BUCKETS; i++) {
        spread->buckets[i] += atomic_load_explicit(&times->buckets[i], memory_order_relaxed);
    }
}

uint64_t spread_count(const struct spread *spread)
{
    uint64_t count = 0;
    for (int i = 0; i < TRAFFIC_BUCKETS; i++) {
        count += spread->buckets[i];
    }
    return count;
}

void spread_subtract(struct spread *spread, const struct spread *before)
{
    spread->sum_us -= before->sum_us;
    for (int i = 0; i < TRAFFIC_BUCKETS; i++) {
        spread->buckets[i] -= before->buckets[i];
    }
}

double spread_bound(int bucket)
{
    if (bucket == TRAFFIC_BUCKETS - 1) {
        return INFINITY;
    }
    return (double)(INT64_C(1) << (TRAFFIC_FIRST_BITS + bucket)) / 1e6;
}

double spread_quantile(const struct spread *spread, double quantile)
{
    double rank = quantile * (double)spread_count(spread);
    double seen = 0;
    double lower = 0;
    for (int i = 0; i < TRAFFIC_BUCKETS; i++) {
        double count = (double)spread->buckets[i];
        if (count > 0 && seen + count >= rank) {
            double upper = i < TRAFFIC_BUCKETS - 1 ? spread_bound(i) : lower;
            return lower + (upper - lower) * (rank - seen) / count;
        }
        seen += count;
        lower = spread_bound(i);
    }
    return 0;
}

void spread_append(const struct spread *spread, bson_t *document)
{
    bson_t buckets;
    state_append_int(document, "count", (int64_t)spread_count(spread));
    bson_append_double(document, "sum", -1, (double)spread->sum_us / 1e6);
    bson_append_double(document, "p50", -1, spread_quantile(spread, 0.5));
    bson_append_double(document, "p99", -1, spread_quantile(spread, 0.99));
    bson_append_array_begin(document, "buckets", -1, &buckets);
    for (int i = 0; i < TRAFFIC_BUCKETS; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        state_append_int(&buckets, key, (int64_t)spread->buckets[i]);
    }
    bson_append_array_end(document, &buckets);
}
