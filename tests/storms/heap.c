// SPDX-License-Identifier: Apache-2.0

#include "heap.h"

#include <stdbool.h>

#include "policy/memory.h"

void heap_fini(struct heap *heap)
{
    free(heap->at);
    *heap = (struct heap){0};
}

static bool is_before(const struct event *a, const struct event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

void heap_add(struct heap *heap, struct event event)
{
    if (heap->count == heap->capacity) {
        heap->capacity = heap->capacity ? heap->capacity * 2 : 1024;
        heap->at = memory_resize(heap->at, heap->capacity, sizeof(*heap->at));
    }
    event.order = heap->added++;
    size_t i = heap->count++;
    for (; i > 0 && is_before(&event, &heap->at[(i - 1) / 2]); i = (i - 1) / 2) {
        heap->at[i] = heap->at[(i - 1) / 2];
    }
    heap->at[i] = event;
}

struct event heap_take(struct heap *heap)
{
    struct event first = heap->at[0];
    struct event last = heap->at[--heap->count];
    size_t i = 0;
    for (size_t child = 1; child < heap->count; child = 2 * i + 1) {
        if (child + 1 < heap->count && is_before(&heap->at[child + 1], &heap->at[child])) {
            child++;
        }
        if (!is_before(&heap->at[child], &last)) {
            break;
        }
        heap->at[i] = heap->at[child];
        i = child;
    }
    heap->at[i] = last;
    return first;
}
