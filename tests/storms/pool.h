// SPDX-License-Identifier: Apache-2.0
//
// What most contestants are: a limit on those in flight, and a queue, or none.

#ifndef STORMS_POOL_H
#define STORMS_POOL_H

#include "contestant.h"
#include "limiter.h"

enum queueing { NO_QUEUE, FIFO, CODEL, ADAPTIVE_LIFO };

struct pool;

struct pool *pool_new(const struct limiter *limiter, enum queueing queueing, int cap,
                      uint64_t seed);
void pool_free(void *pool);
enum answer pool_ask(void *pool, struct request *request, int64_t now_us);
void pool_done(void *pool, struct request *request, bool failed, int64_t now_us);
struct request *pool_grant_next(void *pool, int64_t now_us);
struct request *pool_refuse_next(void *pool, int64_t now_us);
int64_t pool_next_wake_us(const void *pool);
void pool_cancel(void *pool, struct request *request, int64_t now_us);
void pool_set_available(void *pool, bool available, int64_t now_us);
int pool_limit(const void *pool);

// A way that is a pool: POOL_WAY(id, "what it is called", "what it is", limiter, queueing)
#define POOL_WAY(id, called, what, limiter, queueing)                                              \
    static void *make_##id(int cap, uint64_t seed)                                                 \
    {                                                                                              \
        return pool_new(&(limiter), queueing, cap, seed);                                          \
    }                                                                                              \
    const struct way way_##id = {                                                                  \
        .name = (called),                                                                          \
        .about = (what),                                                                           \
        .make = make_##id,                                                                         \
        .free = pool_free,                                                                         \
        .ask = pool_ask,                                                                           \
        .done = pool_done,                                                                         \
        .grant_next = pool_grant_next,                                                             \
        .refuse_next = pool_refuse_next,                                                           \
        .next_wake_us = pool_next_wake_us,                                                         \
        .cancel = pool_cancel,                                                                     \
        .set_available = pool_set_available,                                                       \
        .limit = pool_limit,                                                                       \
    }

#endif
