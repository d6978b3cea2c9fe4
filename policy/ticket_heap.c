// SPDX-License-Identifier: Apache-2.0

#include "policy/ticket_heap.h"

#include <assert.h>
#include <stdlib.h>

#include "policy/memory.h"

#define FIRST_CAPACITY 64

void ticket_heap_fini(struct ticket_heap *heap)
{
    free(heap->at);
    *heap = (struct ticket_heap){0};
}

static void put(struct ticket_heap *heap, size_t index, struct ticket *ticket)
{
    heap->at[index] = ticket;
    ticket->heap_index = index;
}

static void move_up(struct ticket_heap *heap, size_t index, struct ticket *ticket)
{
    while (index > 0) {
        size_t parent = (index - 1) / 2;
        if (heap->at[parent]->expires_us <= ticket->expires_us) {
            break;
        }
        put(heap, index, heap->at[parent]);
        index = parent;
    }
    put(heap, index, ticket);
}

// Of the children of a place the one that expires first, or a place beyond the end.
static size_t earlier_child(const struct ticket_heap *heap, size_t index)
{
    size_t child = 2 * index + 1;
    if (child + 1 < heap->count && heap->at[child + 1]->expires_us < heap->at[child]->expires_us) {
        child++;
    }
    return child;
}

static void move_down(struct ticket_heap *heap, size_t index, struct ticket *ticket)
{
    size_t child = earlier_child(heap, index);
    while (child < heap->count && heap->at[child]->expires_us < ticket->expires_us) {
        put(heap, index, heap->at[child]);
        index = child;
        child = earlier_child(heap, index);
    }
    put(heap, index, ticket);
}

void ticket_heap_add(struct ticket_heap *heap, struct ticket *ticket)
{
    if (heap->count == heap->capacity) {
        heap->capacity = heap->capacity > 0 ? 2 * heap->capacity : FIRST_CAPACITY;
        heap->at = memory_resize(heap->at, heap->capacity, sizeof(*heap->at));
    }
    heap->count++;
    move_up(heap, heap->count - 1, ticket);
}

void ticket_heap_remove(struct ticket_heap *heap, struct ticket *ticket)
{
    size_t index = ticket->heap_index;
    assert(index < heap->count && heap->at[index] == ticket);
    heap->count--;
    struct ticket *last = heap->at[heap->count];
    if (last == ticket) {
        return;
    }
    // The last one fills the gap; it may be earlier than the parent there when it comes from
    // another branch.
    move_down(heap, index, last);
    move_up(heap, last->heap_index, last);
}

void ticket_heap_rebuild(struct ticket_heap *heap)
{
    for (size_t i = heap->count / 2; i > 0; i--) {
        move_down(heap, i - 1, heap->at[i - 1]);
    }
}
