// SPDX-License-Identifier: Apache-2.0
//
// Things by a number, the smallest first: a binary heap in an array, where each knows its place, so
// that one in the middle can move or leave. A thing has a `struct rank` embedded for each heap that
// it may be in.
//
// Invariant: at[i]->index == i, and no key is smaller than that of its parent at[(i - 1) / 2].

#ifndef POLICY_RANKS_H
#define POLICY_RANKS_H

#include <stddef.h>
#include <stdint.h>

struct rank {
    int64_t key; // not to be changed in a heap but by ranks_change, or before ranks_rebuild
    size_t index;
};

// All-zero is a valid empty one; ranks_fini leaves it so.
struct ranks {
    struct rank **at;
    size_t count;
    size_t capacity;
};

// What a rank is embedded in.
#define RANKED(rank, type, member) ((type *)(void *)((char *)(rank)-offsetof(type, member)))

void ranks_fini(struct ranks *ranks);

// Borrows the rank until it is removed.
void ranks_add(struct ranks *ranks, struct rank *rank);

// These two: the rank must be in this very heap.
void ranks_remove(struct ranks *ranks, struct rank *rank);
void ranks_change(struct ranks *ranks, struct rank *rank, int64_t key);

// Orders it anew after any of its keys changed.
void ranks_rebuild(struct ranks *ranks);

// The one with the smallest key, NULL when empty.
static inline struct rank *ranks_first(const struct ranks *ranks)
{
    return ranks->count > 0 ? ranks->at[0] : NULL;
}

#endif
