// SPDX-License-Identifier: Apache-2.0

#include "policy/ranks.h"

#include <assert.h>
#include <stdlib.h>

#include "policy/memory.h"

#define FIRST_CAPACITY 64

void ranks_fini(struct ranks *ranks)
{
    free(ranks->at);
    *ranks = (struct ranks){0};
}

static void put(struct ranks *ranks, size_t index, struct rank *rank)
{
    ranks->at[index] = rank;
    rank->index = index;
}

static void move_up(struct ranks *ranks, size_t index, struct rank *rank)
{
    while (index > 0) {
        size_t parent = (index - 1) / 2;
        if (ranks->at[parent]->key <= rank->key) {
            break;
        }
        put(ranks, index, ranks->at[parent]);
        index = parent;
    }
    put(ranks, index, rank);
}

// Of the children of a place the one with the smaller key, or a place beyond the end.
static size_t smaller_child(const struct ranks *ranks, size_t index)
{
    size_t child = 2 * index + 1;
    if (child + 1 < ranks->count && ranks->at[child + 1]->key < ranks->at[child]->key) {
        child++;
    }
    return child;
}

static void move_down(struct ranks *ranks, size_t index, struct rank *rank)
{
    size_t child = smaller_child(ranks, index);
    while (child < ranks->count && ranks->at[child]->key < rank->key) {
        put(ranks, index, ranks->at[child]);
        index = child;
        child = smaller_child(ranks, index);
    }
    put(ranks, index, rank);
}

// To where its key belongs, from a place which it may have to leave in either direction.
static void settle(struct ranks *ranks, size_t index, struct rank *rank)
{
    move_down(ranks, index, rank);
    move_up(ranks, rank->index, rank);
}

void ranks_add(struct ranks *ranks, struct rank *rank)
{
    if (ranks->count == ranks->capacity) {
        ranks->capacity = ranks->capacity > 0 ? 2 * ranks->capacity : FIRST_CAPACITY;
        ranks->at = memory_resize(ranks->at, ranks->capacity, sizeof(*ranks->at));
    }
    ranks->count++;
    move_up(ranks, ranks->count - 1, rank);
}

void ranks_remove(struct ranks *ranks, struct rank *rank)
{
    size_t index = rank->index;
    assert(index < ranks->count && ranks->at[index] == rank);
    ranks->count--;
    struct rank *last = ranks->at[ranks->count];
    if (last != rank) {
        settle(ranks, index, last); // fills the gap
    }
}

void ranks_change(struct ranks *ranks, struct rank *rank, int64_t key)
{
    assert(rank->index < ranks->count && ranks->at[rank->index] == rank);
    rank->key = key;
    settle(ranks, rank->index, rank);
}

void ranks_rebuild(struct ranks *ranks)
{
    for (size_t i = ranks->count / 2; i > 0; i--) {
        move_down(ranks, i - 1, ranks->at[i - 1]);
    }
}
