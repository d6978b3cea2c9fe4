// SPDX-License-Identifier: Apache-2.0
//
// WeChat's DAGOR before a cap with a FIFO queue: overloaded when requests waited there more than
// 20 ms on average, in windows of 1 s or 2,000 requests; then users whose hash is above a level are
// refused. The level is moved so that 5 % fewer than were let in get in, or 1 % more of all that
// came. One business priority: nobody has told it more.

#include "pool.h"

#include <string.h>

#include "policy/memory.h"

#define USERS 128
#define WINDOW_US S
#define WINDOW_REQUESTS 2000
#define OVERLOADED_US (20 * MS)
#define FEWER 0.05
#define MORE 0.01

struct dagor {
    struct pool *pool;
    int level; // users up to it are let in
    int64_t window_ends_us;
    int came;
    int let_in;
    int came_of[USERS];
    double waited_us;
    int waited;
};

static void *dagor_make(int cap, uint64_t seed)
{
    struct dagor *self = memory_new(1, sizeof(*self));
    self->pool = pool_new(&limiter_fixed, FIFO, cap, seed);
    self->level = USERS - 1;
    self->window_ends_us = WINDOW_US;
    return self;
}

static void dagor_free(void *self)
{
    pool_free(((struct dagor *)self)->pool);
    free(self);
}

static int came_up_to(const struct dagor *self, int level)
{
    int came = 0;
    for (int user = 0; user <= level; user++) {
        came += self->came_of[user];
    }
    return came;
}

static void move_level(struct dagor *self)
{
    bool overloaded = self->waited > 0 && self->waited_us / self->waited > OVERLOADED_US;
    int prefix = came_up_to(self, self->level);
    if (overloaded) {
        double wanted = (1 - FEWER) * self->let_in;
        for (; self->level > 0 && prefix > wanted; self->level--) {
            prefix -= self->came_of[self->level];
        }
        return;
    }
    double wanted = self->let_in + MORE * self->came;
    while (self->level < USERS - 1 && prefix < wanted) {
        prefix += self->came_of[++self->level];
    }
}

static void end_window(struct dagor *self, int64_t now_us)
{
    move_level(self);
    self->window_ends_us = now_us + WINDOW_US;
    self->came = 0;
    self->let_in = 0;
    self->waited = 0;
    self->waited_us = 0;
    memset(self->came_of, 0, sizeof(self->came_of));
}

static void note_wait(struct dagor *self, const struct request *request)
{
    self->waited++;
    self->waited_us += (double)(request->granted_us - request->asked_us);
}

static enum answer dagor_ask(void *state, struct request *request, int64_t now_us)
{
    struct dagor *self = state;
    if (now_us >= self->window_ends_us || self->came >= WINDOW_REQUESTS) {
        end_window(self, now_us);
    }
    self->came++;
    self->came_of[request->user]++;
    if (request->user > self->level) {
        return REFUSED;
    }
    self->let_in++;
    enum answer answer = pool_ask(self->pool, request, now_us);
    if (answer == GRANTED) {
        note_wait(self, request);
    }
    return answer;
}

static void dagor_done(void *self, struct request *request, bool failed, int64_t now_us)
{
    pool_done(((struct dagor *)self)->pool, request, failed, now_us);
}

static struct request *dagor_grant_next(void *state, int64_t now_us)
{
    struct dagor *self = state;
    struct request *request = pool_grant_next(self->pool, now_us);
    if (request) {
        note_wait(self, request);
    }
    return request;
}

static struct request *dagor_refuse_next(void *self, int64_t now_us)
{
    return pool_refuse_next(((struct dagor *)self)->pool, now_us);
}

static int64_t dagor_next_wake_us(const void *self)
{
    return pool_next_wake_us(((const struct dagor *)self)->pool);
}

// Its waiting counts: it was overload that made it give up.
static void dagor_cancel(void *state, struct request *request, int64_t now_us)
{
    struct dagor *self = state;
    self->waited++;
    self->waited_us += (double)(now_us - request->asked_us);
    pool_cancel(self->pool, request, now_us);
}

static void dagor_set_available(void *self, bool available, int64_t now_us)
{
    pool_set_available(((struct dagor *)self)->pool, available, now_us);
}

static int dagor_limit(const void *self)
{
    return pool_limit(((const struct dagor *)self)->pool);
}

const struct way way_dagor = {
    .name = "dagor",
    .about = "WeChat DAGOR before a cap with a FIFO queue",
    .make = dagor_make,
    .free = dagor_free,
    .ask = dagor_ask,
    .done = dagor_done,
    .grant_next = dagor_grant_next,
    .refuse_next = dagor_refuse_next,
    .next_wake_us = dagor_next_wake_us,
    .cancel = dagor_cancel,
    .set_available = dagor_set_available,
    .limit = dagor_limit,
};
