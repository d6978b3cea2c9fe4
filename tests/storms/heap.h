// SPDX-License-Identifier: Apache-2.0
//
// What happens next: events by time, and of one time in the order in which they were added.

#ifndef STORMS_HEAP_H
#define STORMS_HEAP_H

#include <stddef.h>
#include <stdint.h>

struct event {
    int64_t at_us;
    uint64_t order;
    int what;
    int which;
    void *whom;
};

// All-zero is a valid empty one.
struct heap {
    struct event *at;
    size_t count;
    size_t capacity;
    uint64_t added;
};

void heap_fini(struct heap *heap);
void heap_add(struct heap *heap, struct event event);
struct event heap_take(struct heap *heap);

static inline int64_t heap_next_us(const struct heap *heap)
{
    return heap->count > 0 ? heap->at[0].at_us : INT64_MAX;
}

#endif
