// SPDX-License-Identifier: Apache-2.0
//
// Seeded chance, for tests and storms.

#ifndef TESTS_CHANCE_H
#define TESTS_CHANCE_H

#include <stdint.h>

// All-zero is a valid one; different seeds give different runs.
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

// 0 to below - 1.
static inline int chance_below(struct chance *chance, int below)
{
    return (int)(chance_next(chance) % (uint64_t)below);
}

#endif
