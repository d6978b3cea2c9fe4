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
#define HISTOGRAM_BUCKETS ((HISTOGRAM_MAX_BITS - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS)

// All-zero is a valid empty one. Invariant: count is the sum of the buckets.
struct histogram {
    uint64_t count;
    uint64_t sum;
    int64_t max;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_record(struct histogram *histogram, int64_t value);
void histogram_merge(struct histogram *into, const struct histogram *from);

// The upper edge of the bucket that holds the quantile (0 to 1: the smallest value that at least so
// many are at or below), never above max; 0 when empty.
int64_t histogram_quantile(const struct histogram *histogram, double quantile);

#endif
