// SPDX-License-Identifier: Apache-2.0
//
// The contestants that are pools, and the table of all. PgBouncer's query_wait_timeout (120 s) is
// left out: every app here has given up by then.

#include "pool.h"

#include "policy/memory.h"

#define DRIVERS 2
#define DRIVER_POOL 150

POOL_WAY(fifo, "fifo", "a cap and a FIFO queue, as PgBouncer", limiter_fixed, FIFO);
POOL_WAY(fixed, "fixed", "a fixed limit, no queue", limiter_fixed, NO_QUEUE);
POOL_WAY(codel, "codel", "a cap and a queue under CoDel", limiter_fixed, CODEL);
POOL_WAY(lifo, "lifo", "a cap and Facebook's adaptive LIFO, controlled delay", limiter_fixed,
         ADAPTIVE_LIFO);
POOL_WAY(gradient2, "gradient2", "Netflix Gradient2, no queue", limiter_gradient2, NO_QUEUE);
POOL_WAY(vegas, "vegas", "Netflix Vegas, no queue", limiter_vegas, NO_QUEUE);
POOL_WAY(aimd, "aimd", "Netflix AIMD, no queue", limiter_aimd, NO_QUEUE);
POOL_WAY(envoy, "envoy", "Envoy adaptive concurrency, no queue", limiter_envoy, NO_QUEUE);
POOL_WAY(probing, "probing", "MongoDB throughput probing, FIFO", limiter_probing, FIFO);

// No proxy: each of two processes has a driver's pool of its own.
struct drivers {
    struct pool *pools[DRIVERS];
};

static struct pool *driver_of(void *self, const struct request *request)
{
    return ((struct drivers *)self)->pools[request->user % DRIVERS];
}

static void *drivers_make(int cap, uint64_t seed)
{
    (void)cap;
    struct drivers *drivers = memory_new(1, sizeof(*drivers));
    for (int i = 0; i < DRIVERS; i++) {
        drivers->pools[i] = pool_new(&limiter_fixed, FIFO, DRIVER_POOL, seed);
    }
    return drivers;
}

static void drivers_free(void *self)
{
    for (int i = 0; i < DRIVERS; i++) {
        pool_free(((struct drivers *)self)->pools[i]);
    }
    free(self);
}

static enum answer drivers_ask(void *self, struct request *request, int64_t now_us)
{
    return pool_ask(driver_of(self, request), request, now_us);
}

static void drivers_done(void *self, struct request *request, bool failed, int64_t now_us)
{
    pool_done(driver_of(self, request), request, failed, now_us);
}

static struct request *drivers_grant_next(void *self, int64_t now_us)
{
    struct request *request = NULL;
    for (int i = 0; i < DRIVERS && !request; i++) {
        request = pool_grant_next(((struct drivers *)self)->pools[i], now_us);
    }
    return request;
}

static struct request *drivers_refuse_next(void *self, int64_t now_us)
{
    (void)self;
    (void)now_us;
    return NULL;
}

static int64_t drivers_next_wake_us(const void *self)
{
    (void)self;
    return INT64_MAX;
}

static void drivers_cancel(void *self, struct request *request, int64_t now_us)
{
    pool_cancel(driver_of(self, request), request, now_us);
}

static void drivers_set_available(void *self, bool available, int64_t now_us)
{
    for (int i = 0; i < DRIVERS; i++) {
        pool_set_available(((struct drivers *)self)->pools[i], available, now_us);
    }
}

static int drivers_limit(const void *self)
{
    (void)self;
    return DRIVERS * DRIVER_POOL;
}

const struct way way_no_proxy = {
    .name = "no proxy",
    .about = "two drivers' pools of 150",
    .make = drivers_make,
    .free = drivers_free,
    .ask = drivers_ask,
    .done = drivers_done,
    .grant_next = drivers_grant_next,
    .refuse_next = drivers_refuse_next,
    .next_wake_us = drivers_next_wake_us,
    .cancel = drivers_cancel,
    .set_available = drivers_set_available,
    .limit = drivers_limit,
};

const struct way *const ways[] = {
    &way_no_proxy, &way_fifo,  &way_codel,   &way_lifo,  &way_gradient2,  &way_vegas,
    &way_aimd,     &way_envoy, &way_probing, &way_dagor, &way_weir_fixed, &way_weir,
};

const int ways_count = sizeof ways / sizeof ways[0];
