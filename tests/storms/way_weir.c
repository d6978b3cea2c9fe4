// SPDX-License-Identifier: Apache-2.0
//
// weir's own gate, policy/gate.h as it is, with the defaults of its configuration.

#include "contestant.h"

#include <assert.h>

#include "incidents/watched.h"
#include "policy/memory.h"

#define SHAPES 1024
#define FLOOR 4

struct weir {
    struct gate *gate;
    struct shapes *shapes;
};

static struct weir *make(int cap, int floor)
{
    struct weir *weir = memory_new(1, sizeof(*weir));
    struct gate_limits limits = {
        .limit = cap,
        .floor = floor,
        .slow_share = 0.25,
        .stream_share = 0.5,
        .slow_us = 100 * MS,
        .max_wait_us = 100 * MS,
        .server_wait_us = 12 * S,
        .max_queue = 10000,
    };
    weir->gate = gate_new(&limits);
    weir->shapes = shapes_new(SHAPES);
    gate_set_available(weir->gate, true, 0);
    return weir;
}

static void *weir_make(int cap, uint64_t seed)
{
    (void)seed;
    return make(cap, cap < FLOOR ? cap : FLOOR);
}

static void *weir_make_fixed(int cap, uint64_t seed)
{
    (void)seed;
    return make(cap, 0);
}

struct gate *watched_gate(const void *weir)
{
    return ((const struct weir *)weir)->gate;
}

struct shapes *watched_shapes(const void *weir)
{
    return ((const struct weir *)weir)->shapes;
}

static void weir_free(void *self)
{
    struct weir *weir = self;
    gate_free(weir->gate);
    shapes_free(weir->shapes);
    free(weir);
}

static void let_go(struct weir *weir, struct request *request)
{
    shapes_release(weir->shapes, request->ticket.shape);
}

static enum answer weir_ask(void *self, struct request *request, int64_t now_us)
{
    struct weir *weir = self;
    struct gate_ask ask = {
        .shape = shapes_acquire(weir->shapes, (uint64_t)request->kind + 1),
        .deadline_us = request->deadline_us,
        .tenant = (uint64_t)request->tenant,
    };
    request->asked_us = now_us;
    ask.shape->arrived++;
    enum gate_answer answer = gate_ask(weir->gate, &request->ticket, &ask, now_us);
    if (answer == GATE_REFUSED) {
        let_go(weir, request);
        return REFUSED;
    }
    request->granted_us = now_us;
    return answer == GATE_GRANTED ? GRANTED : WAITS;
}

static void weir_done(void *self, struct request *request, bool failed, int64_t now_us)
{
    struct weir *weir = self;
    shape_charge(request->ticket.shape, request->ticket.granted_us - request->ticket.asked_us,
                 now_us - request->ticket.granted_us);
    gate_done(weir->gate, &request->ticket, !failed, now_us);
    let_go(weir, request);
}

static struct request *weir_grant_next(void *self, int64_t now_us)
{
    struct request *request =
        (struct request *)gate_grant_next(((struct weir *)self)->gate, now_us);
    if (request) {
        request->granted_us = now_us;
    }
    return request;
}

static struct request *weir_refuse_next(void *self, int64_t now_us)
{
    struct weir *weir = self;
    struct request *request = (struct request *)gate_expire_next(weir->gate, now_us);
    if (request) {
        let_go(weir, request);
    }
    return request;
}

static int64_t weir_next_wake_us(const void *self)
{
    return gate_next_expiry(((const struct weir *)self)->gate);
}

static void weir_cancel(void *self, struct request *request, int64_t now_us)
{
    (void)now_us;
    struct weir *weir = self;
    bool was_queued = gate_cancel(weir->gate, &request->ticket);
    assert(was_queued);
    let_go(weir, request);
}

static void weir_set_available(void *self, bool available, int64_t now_us)
{
    gate_set_available(((struct weir *)self)->gate, available, now_us);
}

static int weir_limit(const void *self)
{
    struct gate_counts counts;
    gate_count(((const struct weir *)self)->gate, 0, &counts);
    return counts.limit;
}

static int64_t weir_backoff_ms(void *self, const struct request *request, int64_t now_us)
{
    return gate_next_turn_ms(((struct weir *)self)->gate, request->ticket.lane, now_us);
}

#define WEIR(called, what, how)                                                                    \
    {                                                                                              \
        .name = (called), .about = (what), .make = (how), .free = weir_free, .ask = weir_ask,      \
        .done = weir_done, .grant_next = weir_grant_next, .refuse_next = weir_refuse_next,         \
        .next_wake_us = weir_next_wake_us, .cancel = weir_cancel,                                  \
        .set_available = weir_set_available, .limit = weir_limit, .backoff_ms = weir_backoff_ms    \
    }

const struct way way_weir =
    WEIR("weir", "weir's gate as it is: an adaptive limit, a lane for slow shapes", weir_make);
const struct way way_weir_fixed =
    WEIR("weir fixed", "the same with a fixed limit: the cap", weir_make_fixed);
