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

// A number for bytes that whoever does not know the seed cannot find others for.
static inline uint64_t hash_bytes(uint64_t seed, const void *at, size_t len)
{
    const uint8_t *byte = (const uint8_t *)at;
    uint64_t hash = seed ^ len;
    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ byte[i]) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 32;
    }
    return hash;
}

static inline size_t hash_slot(uint64_t key, int bits)
{
    return (size_t)((key * UINT64_C(0x9e3779b97f4a7c15)) >> (64 - bits));
}

#endif
