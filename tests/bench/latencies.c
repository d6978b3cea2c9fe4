// SPDX-License-Identifier: Apache-2.0
//
// A log-linear histogram of times. See latencies.h.
//
//   0 .. 255      one bucket for each value
//   256 .. 511    one for each value     (exponent 0)
//   512 .. 1023   one for two values     (exponent 1)    and so on

#include "latencies.h"

#include <math.h>
#include <string.h>

static int bucket_of(uint64_t value)
{
    if (value < LATENCIES_PER_OCTAVE)
        return (int)value;
    int exponent = 63 - __builtin_clzll(value) - 8;
    int bucket = exponent * LATENCIES_PER_OCTAVE + (int)(value >> exponent);
    int last = LATENCIES_PER_OCTAVE * LATENCIES_OCTAVES - 1;
    return bucket < last ? bucket : last;
}

static double bucket_width(int bucket)
{
    int exponent = bucket / LATENCIES_PER_OCTAVE - 1;
    return exponent > 0 ? (double)(1ULL << exponent) : 1;
}

static double bucket_start(int bucket)
{
    if (bucket < LATENCIES_PER_OCTAVE)
        return bucket;
    return (LATENCIES_PER_OCTAVE + bucket % LATENCIES_PER_OCTAVE) * bucket_width(bucket);
}

void latencies_clear(struct latencies *l)
{
    memset(l, 0, sizeof *l);
}

void latencies_add(struct latencies *l, int64_t ns)
{
    if (ns < 0)
        ns = 0;
    l->buckets[bucket_of((uint64_t)ns)]++;
    l->count++;
    if (ns > l->max_ns)
        l->max_ns = ns;
}

double latencies_quantile_ns(const struct latencies *l, double share)
{
    double rank = ceil(share * (double)l->count);
    double below = 0;

    for (int i = 0; i < LATENCIES_PER_OCTAVE * LATENCIES_OCTAVES; i++) {
        double here = (double)l->buckets[i];
        if (here > 0 && below + here >= rank) {
            double value = bucket_start(i) + bucket_width(i) * (rank - below) / here;
            return fmin(value, (double)l->max_ns);
        }
        below += here;
    }
    return 0;
}
