// SPDX-License-Identifier: Apache-2.0
//
// A log-linear histogram of times: 256 buckets for each power of two, so that what is read from it
// is off by less than 0.4 % of the value. The greatest value is kept exactly.

#ifndef LATENCIES_H
#define LATENCIES_H

#include <stdint.h>

enum { LATENCIES_PER_OCTAVE = 256, LATENCIES_OCTAVES = 33 }; // up to 2^40 ns, 18 minutes

struct latencies {
    uint64_t count;
    int64_t max_ns;
    uint64_t buckets[LATENCIES_PER_OCTAVE * LATENCIES_OCTAVES];
};

void latencies_clear(struct latencies *l);

// Times below 0 count as 0, those above the range as its end (max_ns is right all the same).
void latencies_add(struct latencies *l, int64_t ns);

// The time that `share` (0 to 1) of all are not above, interpolated within its bucket; 0 if empty.
double latencies_quantile_ns(const struct latencies *l, double share);

#endif
