// SPDX-License-Identifier: Apache-2.0
//
// Bytes laid flush against a page that nobody may touch: one step beyond the end is a fault at
// once.
//
//      | … unused | the bytes | PROT_NONE |

#ifndef TESTS_UNIT_GUARD_H
#define TESTS_UNIT_GUARD_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct guard {
    uint8_t *map;
    size_t map_bytes;
    uint8_t *end; // the first byte that must not be touched
};

// Room for up to `most` bytes.
static inline struct guard guard_new(size_t most)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t usable = (most / page + 1) * page;
    void *map =
        mmap(NULL, usable + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED || mprotect((uint8_t *)map + usable, page, PROT_NONE) != 0) {
        abort();
    }
    return (struct guard){map, usable + page, (uint8_t *)map + usable};
}

// Copies `len` bytes to the very end of the room and returns where they begin.
static inline uint8_t *guard_lay(const struct guard *guard, const void *at, size_t len)
{
    if (len > (size_t)(guard->end - guard->map)) {
        abort();
    }
    uint8_t *begin = guard->end - len;
    if (len > 0) {
        memcpy(begin, at, len);
    }
    return begin;
}

// A heap block of exactly these bytes, for AddressSanitizer to watch both ends. The caller frees
// it.
static inline uint8_t *exact_copy(const void *at, size_t len)
{
    uint8_t *copy = malloc(len);
    if (!copy && len > 0) {
        abort();
    }
    if (len > 0) {
        memcpy(copy, at, len);
    }
    return copy;
}

static inline void guard_free(struct guard *guard)
{
    munmap(guard->map, guard->map_bytes);
    *guard = (struct guard){0};
}

#endif
