// SPDX-License-Identifier: Apache-2.0
//
// Where a 64-bit key goes in a table of 2^bits slots: multiplication by the golden ratio (Knuth,
// The Art of Computer Programming, 6.4), whose high bits depend on all bits of the key.

#ifndef POLICY_HASH_H
#define POLICY_HASH_H

#include <stddef.h>
#include <stdint.h>

// How many bits give at least `capacity` slots; 1 or more.
static inline int hash_bits(size_t capacity)
{
    int bits = 1;
    while (((size_t)1 << bits) < capacity) {
        bits++;
    }
    return bits;
}

static inline size_t hash_slot(uint64_t key, int bits)
{
    return (size_t)((key * UINT64_C(0x9e3779b97f4a7c15)) >> (64 - bits));
}

#endif
