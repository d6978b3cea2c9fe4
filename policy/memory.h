// SPDX-License-Identifier: Apache-2.0
//
// Memory that is there or ends the process: tables are bounded by configuration, so running out is
// not something to go on after.

#ifndef POLICY_MEMORY_H
#define POLICY_MEMORY_H

#include <stddef.h>
#include <stdlib.h>

// Zeroed; the caller frees it.
static inline void *memory_new(size_t count, size_t item_bytes)
{
    void *memory = calloc(count, item_bytes);
    if (!memory && count > 0) {
        abort();
    }
    return memory;
}

// `memory` may be NULL; what is new is not zeroed.
static inline void *memory_resize(void *memory, size_t count, size_t item_bytes)
{
    void *resized = reallocarray(memory, count, item_bytes);
    if (!resized) {
        abort();
    }
    return resized;
}

#endif
