// SPDX-License-Identifier: Apache-2.0
//
// CoDel is RFC 8289's, its target 5 ms and its interval 100 ms: it looks at each request that
// leaves the queue, and drops there. Adaptive LIFO is Facebook's way with the same constants: when
// the queue has not been empty for 100 ms, the latest goes first and nobody waits for more than
// 5 ms, else for 100 ms.

#include "pool.h"

#include <assert.h>
#include <math.h>

#include "policy/memory.h"

#define CODEL_TARGET_US (5 * MS)
#define CODEL_INTERVAL_US (100 * MS)

struct list {
    struct request *first;
    struct request *last;
};

struct codel {
    int64_t above_since_us; // when it will have been above the target for an interval; 0: is not
    int64_t drop_next_us;
    int count;
    int last_count;
    bool dropping;
};

struct pool {
    const struct limiter *limiter;
    void *state;
    enum queueing queueing;
    bool available;
    int in_flight;
    int peak;
    int64_t tick_us;
    struct list waiting;
    struct list dropped;
    struct codel codel;
    int64_t empty_us; // when the queue was empty, the last time
};

struct pool *pool_new(const struct limiter *limiter, enum queueing queueing, int cap, uint64_t seed)
{
    struct pool *pool = memory_new(1, sizeof(*pool));
    pool->limiter = limiter;
    pool->state = memory_new(1, limiter->bytes);
    limiter->start(pool->state, cap, seed);
    pool->queueing = queueing;
    pool->available = true;
    pool->tick_us = limiter->tick ? limiter->period_us : INT64_MAX;
    return pool;
}

void pool_free(void *self)
{
    struct pool *pool = self;
    assert(pool->in_flight == 0 && !pool->waiting.first && !pool->dropped.first);
    free(pool->state);
    free(pool);
}

static void append(struct list *list, struct request *request)
{
    request->next = NULL;
    request->prev = list->last;
    *(list->last ? &list->last->next : &list->first) = request;
    list->last = request;
}

static void take_out(struct list *list, struct request *request)
{
    *(request->prev ? &request->prev->next : &list->first) = request->next;
    *(request->next ? &request->next->prev : &list->last) = request->prev;
    request->next = NULL;
    request->prev = NULL;
}

static bool has_room(const struct pool *pool)
{
    return pool->available && pool->in_flight < pool->limiter->limit(pool->state);
}

static void grant(struct pool *pool, struct request *request, int64_t now_us)
{
    pool->in_flight++;
    pool->peak = pool->in_flight > pool->peak ? pool->in_flight : pool->peak;
    request->in_flight = pool->in_flight;
    request->granted_us = now_us;
}

static void tick(struct pool *pool, int64_t now_us)
{
    for (; pool->tick_us <= now_us; pool->tick_us += pool->limiter->period_us) {
        pool->limiter->tick(pool->state, pool->peak, now_us);
        pool->peak = pool->in_flight;
    }
}

enum answer pool_ask(void *self, struct request *request, int64_t now_us)
{
    struct pool *pool = self;
    tick(pool, now_us);
    request->asked_us = now_us;
    if (!pool->waiting.first && has_room(pool)) {
        grant(pool, request, now_us);
        return GRANTED;
    }
    if (pool->queueing == NO_QUEUE) {
        return REFUSED;
    }
    if (!pool->waiting.first) {
        pool->empty_us = now_us;
    }
    append(&pool->waiting, request);
    return WAITS;
}

void pool_done(void *self, struct request *request, bool failed, int64_t now_us)
{
    struct pool *pool = self;
    tick(pool, now_us);
    pool->in_flight--;
    struct sample sample = {
        .now_us = now_us,
        .rtt_us = now_us - request->granted_us > 1 ? now_us - request->granted_us : 1,
        .sent_us = request->granted_us,
        .in_flight = request->in_flight,
        .dropped = failed || request->gave_up,
    };
    if (pool->limiter->learn) {
        pool->limiter->learn(pool->state, &sample);
    }
}

static struct request *take_first(struct pool *pool)
{
    struct request *request = pool->waiting.first;
    take_out(&pool->waiting, request);
    return request;
}

static bool stands(const struct pool *pool, int64_t now_us)
{
    return now_us - pool->empty_us > CODEL_INTERVAL_US;
}

static void drop_stale(struct pool *pool, int64_t now_us)
{
    int64_t most_us = stands(pool, now_us) ? CODEL_TARGET_US : CODEL_INTERVAL_US;
    while (pool->waiting.first && now_us - pool->waiting.first->asked_us > most_us) {
        append(&pool->dropped, take_first(pool));
    }
}

static bool stays_above(struct pool *pool, int64_t now_us)
{
    struct codel *codel = &pool->codel;
    const struct request *request = pool->waiting.first;
    if (!request || now_us - request->asked_us < CODEL_TARGET_US) {
        codel->above_since_us = 0;
        return false;
    }
    if (codel->above_since_us == 0) {
        codel->above_since_us = now_us + CODEL_INTERVAL_US;
        return false;
    }
    return now_us >= codel->above_since_us;
}

static int64_t control_law(const struct codel *codel, int64_t from_us)
{
    return from_us + (int64_t)(CODEL_INTERVAL_US / sqrt(codel->count));
}

static void begin_dropping(struct codel *codel, int64_t now_us)
{
    int delta = codel->count - codel->last_count;
    bool lately = now_us - codel->drop_next_us < 16 * CODEL_INTERVAL_US;
    codel->dropping = true;
    codel->count = delta > 1 && lately ? delta : 1;
    codel->drop_next_us = control_law(codel, now_us);
    codel->last_count = codel->count;
}

// Drops what is to be dropped before the next one leaves the queue.
static void codel_drop(struct pool *pool, int64_t now_us)
{
    struct codel *codel = &pool->codel;
    bool above = stays_above(pool, now_us);
    if (!codel->dropping && above) {
        append(&pool->dropped, take_first(pool));
        begin_dropping(codel, now_us);
        stays_above(pool, now_us);
        return;
    }
    codel->dropping = codel->dropping && above;
    while (codel->dropping && now_us >= codel->drop_next_us) {
        append(&pool->dropped, take_first(pool));
        codel->count++;
        codel->dropping = stays_above(pool, now_us);
        codel->drop_next_us = control_law(codel, codel->drop_next_us);
    }
}

struct request *pool_grant_next(void *self, int64_t now_us)
{
    struct pool *pool = self;
    tick(pool, now_us);
    if (!pool->waiting.first || !has_room(pool)) {
        return NULL;
    }
    if (pool->queueing == CODEL) {
        codel_drop(pool, now_us);
    } else if (pool->queueing == ADAPTIVE_LIFO) {
        drop_stale(pool, now_us);
    }
    if (!pool->waiting.first) {
        return NULL;
    }
    bool latest = pool->queueing == ADAPTIVE_LIFO && stands(pool, now_us);
    struct request *request = latest ? pool->waiting.last : pool->waiting.first;
    take_out(&pool->waiting, request);
    grant(pool, request, now_us);
    return request;
}

struct request *pool_refuse_next(void *self, int64_t now_us)
{
    struct pool *pool = self;
    (void)now_us;
    struct request *request = pool->dropped.first;
    if (request) {
        take_out(&pool->dropped, request);
    }
    return request;
}

int64_t pool_next_wake_us(const void *self)
{
    return ((const struct pool *)self)->tick_us;
}

void pool_cancel(void *self, struct request *request, int64_t now_us)
{
    (void)now_us;
    struct pool *pool = self;
    take_out(&pool->waiting, request);
}

void pool_set_available(void *self, bool available, int64_t now_us)
{
    (void)now_us;
    struct pool *pool = self;
    pool->available = available;
}

int pool_limit(const void *self)
{
    const struct pool *pool = self;
    return pool->limiter->limit(pool->state);
}
