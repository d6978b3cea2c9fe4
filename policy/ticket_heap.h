// SPDX-License-Identifier: Apache-2.0
//
// Queued tickets by when their waiting ends, the earliest first: a binary heap in an array, where
// each ticket knows its place, so that one in the middle can leave.
//
// Invariant: at[i]->heap_index == i, and no ticket expires before its parent at[(i - 1) / 2].

#ifndef POLICY_TICKET_HEAP_H
#define POLICY_TICKET_HEAP_H

#include "policy/gate.h"

// All-zero is a valid empty one; ticket_heap_fini leaves it so.
struct ticket_heap {
    struct ticket **at;
    size_t count;
    size_t capacity;
};

void ticket_heap_fini(struct ticket_heap *heap);

// Borrows the ticket until it is removed; its expires_us must not change meanwhile.
void ticket_heap_add(struct ticket_heap *heap, struct ticket *ticket);

// The ticket must be in this very heap.
void ticket_heap_remove(struct ticket_heap *heap, struct ticket *ticket);

// Orders it anew after expires_us of any of its tickets changed.
void ticket_heap_rebuild(struct ticket_heap *heap);

// The one that expires first, NULL when empty.
static inline struct ticket *ticket_heap_first(const struct ticket_heap *heap)
{
    return heap->count > 0 ? heap->at[0] : NULL;
}

#endif
