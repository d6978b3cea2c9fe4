// SPDX-License-Identifier: Apache-2.0
//
// Seeded chance. A stream for each purpose, so that what a contestant decides does not change what
// it is asked.

#ifndef STORMS_CHANCE_H
#define STORMS_CHANCE_H

#include <math.h>
#include <stdint.h>

struct chance {
    uint64_t state;
};

// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
static inline uint64_t chance_next(struct chance *chance)
{
    chance->state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t mixed = chance->state;
    mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ (mixed >> 31);
}

static inline struct chance chance_stream(uint64_t seed, uint64_t purpose)
{
    struct chance chance = {seed ^ (purpose << 32)};
    chance.state = chance_next(&chance);
    return chance;
}

// 0 to below - 1.
static inline int chance_below(struct chance *chance, int below)
{
    return (int)(chance_next(chance) % (uint64_t)below);
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
