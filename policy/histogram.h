// SPDX-License-Identifier: Apache-2.0
//
// A log-linear histogram of non-negative integers (the layout of HdrHistogram): below 32 exact;
// above, each power of two is cut into 32 equal parts, so that a value read back is at most 1/32
// (3.2 %) too high, never too low. Values from 2^40 on count as 2^40 - 1, negative ones (the clocks
// of two threads) as 0. Histograms of any origin can be merged.

#ifndef POLICY_HISTOGRAM_H
#define POLICY_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SUB_BITS 5
#define HISTOGRAM_MAX_BITS 40
#define HISTOGRAM_SUB_BUCKETS (1 << HISTOGRAM_SUB_BITS)
#define HISTOGRAM_BUCKETS ((HISTOGRAM_MAX_BITS - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS)

// All-zero is a valid empty one. Invariant: count is the sum of the buckets.
struct histogram {
    uint64_t count;
    uint64_t sum;
    int64_t max;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

static inline int histogram_bucket(int64_t value)
{
    if (value < HISTOGRAM_SUB_BUCKETS) {
        return (int)value;
    }
    int top_bit = __builtin_clzll((unsigned long long)value) ^ 63;
    int width_bits = top_bit - HISTOGRAM_SUB_BITS;
    return (width_bits << HISTOGRAM_SUB_BITS) + (int)(value >> width_bits);
}

// Inline, as several are fed by each request.
static inline void histogram_record(struct histogram *histogram, int64_t value)
{
    const int64_t most = (INT64_C(1) << HISTOGRAM_MAX_BITS) - 1;
    value = value > 0 ? value : 0;
    value = value < most ? value : most;
    histogram->count++;
    histogram->sum += (uint64_t)value;
    histogram->max = value > histogram->max ? value : histogram->max;
    histogram->buckets[histogram_bucket(value)]++;
}

void histogram_merge(struct histogram *into, const struct histogram *from);

// The upper edge of the bucket that holds the quantile (0 to 1: the smallest value that at least so
// many are at or below), never above max; 0 when empty.
int64_t histogram_quantile(const struct histogram *histogram, double quantile);

#endif
