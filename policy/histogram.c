// SPDX-License-Identifier: Apache-2.0
//
//      bits            which                      width    index
//      up to 5         0 .. 31                    1        0 .. 31
//      6               32 .. 63                   1        32 .. 63
//      7               64 .. 127                  2        64 .. 95
//      ...
//      40              2^39 .. 2^40 - 1           2^34     1120 .. 1151

#include "policy/histogram.h"

#include <assert.h>

static int64_t upper_edge(int bucket)
{
    if (bucket < HISTOGRAM_SUB_BUCKETS) {
        return bucket;
    }
    int width_bits = (bucket >> HISTOGRAM_SUB_BITS) - 1;
    int64_t part = bucket - (width_bits << HISTOGRAM_SUB_BITS);
    return ((part + 1) << width_bits) - 1;
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
    into->count += from->count;
    into->sum += from->sum;
    into->max = from->max > into->max ? from->max : into->max;
    for (int i = 0; i < HISTOGRAM_BUCKETS; i++) {
        into->buckets[i] += from->buckets[i];
    }
}

// How many of `count` values the quantile has at or below it: at least one.
static uint64_t rank_of(double quantile, uint64_t count)
{
    double exact = quantile * (double)count;
    uint64_t rank = (uint64_t)exact;
    if ((double)rank < exact || rank == 0) {
        rank++;
    }
    return rank < count ? rank : count;
}

int64_t histogram_quantile(const struct histogram *histogram, double quantile)
{
    assert(quantile >= 0 && quantile <= 1);
    if (histogram->count == 0) {
        return 0;
    }
    uint64_t rank = rank_of(quantile, histogram->count);
    uint64_t seen = histogram->buckets[0];
    int bucket = 0;
    while (seen < rank) {
        bucket++;
        seen += histogram->buckets[bucket];
    }
    int64_t edge = upper_edge(bucket);
    return edge < histogram->max ? edge : histogram->max;
}
