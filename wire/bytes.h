// SPDX-License-Identifier: Apache-2.0
//
// A run of bytes that somebody else owns, and little-endian integers in it.

#ifndef WIRE_BYTES_H
#define WIRE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

// Borrows: lives as long as the buffer it points into. `at` may be NULL when `len` is 0.
struct bytes {
    const uint8_t *at;
    size_t len;
};

static inline int32_t load_i32(const uint8_t *at)
{
    return (int32_t)((uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 |
                     (uint32_t)at[3] << 24);
}

static inline int64_t load_i64(const uint8_t *at)
{
    return (int64_t)((uint64_t)(uint32_t)load_i32(at) | (uint64_t)(uint32_t)load_i32(at + 4) << 32);
}

static inline void store_i32(uint8_t *at, int32_t value)
{
    for (int i = 0; i < 4; i++) {
        at[i] = (uint8_t)((uint32_t)value >> (8 * i));
    }
}

// Splits the first `len` bytes off; there must be as many.
static inline struct bytes bytes_take(struct bytes *rest, size_t len)
{
    struct bytes taken = {rest->at, len};
    rest->at += len;
    rest->len -= len;
    return taken;
}

static inline bool bytes_same(struct bytes a, struct bytes b)
{
    return a.len == b.len && memcmp(a.at, b.at, a.len) == 0;
}

static inline bool bytes_equal(struct bytes bytes, const char *text)
{
    size_t len = strlen(text);
    return bytes.len == len && (len == 0 || memcmp(bytes.at, text, len) == 0);
}

#endif
