// SPDX-License-Identifier: Apache-2.0
//
// More of seeded chance. A stream for each purpose, so that what a contestant decides does not
// change what it is asked.

#ifndef STORMS_CHANCE_H
#define STORMS_CHANCE_H

#include <math.h>
#include <stdint.h>

#include "tests/chance.h"

static inline struct chance chance_stream(uint64_t seed, uint64_t purpose)
{
    struct chance chance = {seed ^ (purpose << 32)};
    chance.state = chance_next(&chance);
    return chance;
}

// Above 0, at most 1.
static inline double chance_unit(struct chance *chance)
{
    return ((double)(chance_next(chance) >> 11) + 1) / 9007199254740992.0;
}

static inline double chance_exponential(struct chance *chance, double mean)
{
    return -mean * log(chance_unit(chance));
}

// Pareto with the exponent 1.5, cut at 1,000 times its least: a mean with most of it in the tail.
static inline double chance_heavy(struct chance *chance, double mean)
{
    const double least = mean / 2.937; // 3 - 2 / sqrt(1000): the mean of the cut one, in leasts
    double drawn = least * pow(chance_unit(chance), -1 / 1.5);
    return drawn < 1000 * least ? drawn : 1000 * least;
}

#endif
