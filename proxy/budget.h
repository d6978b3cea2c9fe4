// SPDX-License-Identifier: Apache-2.0
//
// The budget of buffered bytes, shared by all workers. A request claims its length before it is
// read, and requests together may have half of the budget; replies may have all of it. So replies,
// which end requests, always have room to move. One that is larger than half gets its turn as soon
// as it would not go over the whole, and others have no more than a quarter. What is read of a
// reply is counted after the fact: the budget may be passed by one read for each upstream.

#ifndef PROXY_BUDGET_H
#define PROXY_BUDGET_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct budget {
    atomic_size_t limit; // changes with the configuration
    atomic_size_t used;
};

static inline void budget_release(struct budget *budget, size_t bytes)
{
    size_t before = atomic_fetch_sub_explicit(&budget->used, bytes, memory_order_relaxed);
    assert(before >= bytes);
}

static inline void budget_add(struct budget *budget, size_t bytes)
{
    atomic_fetch_add_explicit(&budget->used, bytes, memory_order_relaxed);
}

// For a request. False: it would go over what it may. A claim on an empty budget always succeeds.
static inline bool budget_claim(struct budget *budget, size_t bytes)
{
    size_t before = atomic_fetch_add_explicit(&budget->used, bytes, memory_order_relaxed);
    size_t limit = budget->limit;
    bool is_its_turn = before <= limit / 4 && before + bytes <= limit;
    if (before == 0 || before + bytes <= limit / 2 || is_its_turn) {
        return true;
    }
    budget_release(budget, bytes);
    return false;
}

// For a reply that must be taken whole, whose request has claimed `own` bytes. False: it would go
// over the limit, and others use more than half; they will end without it, so one that waits will
// get its turn, however large it is.
static inline bool budget_claim_reply(struct budget *budget, size_t bytes, size_t own)
{
    size_t before = atomic_fetch_add_explicit(&budget->used, bytes, memory_order_relaxed);
    if (before + bytes <= budget->limit || before - own <= budget->limit / 2) {
        return true;
    }
    budget_release(budget, bytes);
    return false;
}

// Whether a reply should wait.
static inline bool budget_is_spent(struct budget *budget)
{
    return atomic_load_explicit(&budget->used, memory_order_relaxed) >= budget->limit;
}

#endif
