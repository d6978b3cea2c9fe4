// SPDX-License-Identifier: Apache-2.0
//
// In each turn one that runs is done, the next in the queue takes its place, and a new one asks. A
// microsecond of simulated time passes, so nobody's waiting is over before the end.

#include "cost.h"

#include <stdlib.h>
#include <time.h>

#include "policy/memory.h"

#define CAP 100
#define WAITING 1000
#define SHAPES 20
#define ASKING_TENANTS 100
#define TURNS 16 // that are timed as one, because reading the clock takes as long as a turn
#define BATCHES 2000
#define REQUESTS (CAP * 3 + WAITING + 1)

struct cost {
    const struct way *way;
    void *self;
    int64_t now_us;
    struct request requests[REQUESTS];
    struct request *running[REQUESTS];
    size_t first; // of those that run: a ring
    size_t count;
    struct request *idle;
};

static void add_running(struct cost *cost, struct request *request)
{
    cost->running[(cost->first + cost->count++) % REQUESTS] = request;
}

static struct request *take_running(struct cost *cost)
{
    struct request *request = cost->running[cost->first];
    cost->first = (cost->first + 1) % REQUESTS;
    cost->count--;
    return request;
}

// Returns whether it is in the queue or runs.
static bool ask(struct cost *cost, struct request *request)
{
    enum answer answer = cost->way->ask(cost->self, request, cost->now_us);
    if (answer == GRANTED) {
        add_running(cost, request);
    }
    return answer != REFUSED;
}

static void finish_one(struct cost *cost)
{
    struct request *request = take_running(cost);
    cost->way->done(cost->self, request, false, cost->now_us);
    cost->idle = request;
    while ((request = cost->way->grant_next(cost->self, cost->now_us))) {
        add_running(cost, request);
    }
    while ((request = cost->way->refuse_next(cost->self, cost->now_us))) {
        cost->idle = request;
    }
}

static void turn(struct cost *cost)
{
    cost->now_us++;
    finish_one(cost);
    ask(cost, cost->idle);
}

static double batch_ns(struct cost *cost)
{
    struct timespec from;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (int i = 0; i < TURNS && cost->count > 0; i++) {
        turn(cost);
    }
    clock_gettime(CLOCK_MONOTONIC, &until);
    double ns = (double)(until.tv_sec - from.tv_sec) * 1e9;
    return (ns + (double)(until.tv_nsec - from.tv_nsec)) / TURNS;
}

static void fill(struct cost *cost)
{
    int waiting = 0;
    for (int i = 0; i < REQUESTS && waiting < WAITING; i++) {
        struct request *request = &cost->requests[i];
        request->kind = i % SHAPES;
        request->tenant = i % ASKING_TENANTS;
        request->user = i % 128;
        request->deadline_us = INT64_MAX;
        size_t running = cost->count;
        waiting += ask(cost, request) && cost->count == running;
    }
}

static int by_value(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;
    return left < right ? -1 : left > right;
}

double cost_ns(const struct way *way)
{
    static double batches[BATCHES];
    struct cost *cost = memory_new(1, sizeof(*cost));
    cost->way = way;
    cost->self = way->make(CAP, 1);
    fill(cost);
    for (int i = 0; i < BATCHES; i++) {
        batches[i] = batch_ns(cost);
    }
    while (cost->count > 0) {
        finish_one(cost);
    }
    way->free(cost->self);
    free(cost);
    qsort(batches, BATCHES, sizeof(batches[0]), by_value);
    return batches[BATCHES / 2];
}
