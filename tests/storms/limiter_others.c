// SPDX-License-Identifier: Apache-2.0
//
// A fixed limit; Envoy's adaptive concurrency (gradient controller, its defaults, and the intervals
// of its documentation where it has none); MongoDB's throughput probing (the defaults of its server
// parameters, reads and writes taken together).

#include "limiter.h"

#include <math.h>
#include <stdlib.h>

#include "chance.h"
#include "request.h"

static int between(double value, int least, int most)
{
    return value < least ? least : value > most ? most : (int)value;
}

static void fixed_start(void *state, int cap, uint64_t seed)
{
    (void)seed;
    *(int *)state = cap;
}

static int fixed_limit(const void *state)
{
    return *(const int *)state;
}

const struct limiter limiter_fixed = {
    .bytes = sizeof(int),
    .start = fixed_start,
    .limit = fixed_limit,
};

#define ENVOY_MOST 1000
#define ENVOY_LEAST 3
#define ENVOY_SAMPLES 50
#define ENVOY_BUFFER 0.25
#define ENVOY_UPDATE_US (100 * MS)
#define ENVOY_MEASURE_US (60 * S)
#define ENVOY_JITTER 0.15
#define ENVOY_STUCK 5 // updates at the least limit, after which it measures anew
#define ENVOY_KEPT 4096

struct envoy {
    int limit;
    int cap;
    int deferred; // the limit to go back to after measuring; 0: is not measuring
    double unloaded_us;
    int64_t since_us; // of the measuring
    int64_t measure_us;
    int stuck;
    int count;
    int64_t rtt_us[ENVOY_KEPT];
    struct chance chance;
};

static void begin_measuring(struct envoy *self, int64_t now_us)
{
    self->deferred = self->limit;
    self->limit = ENVOY_LEAST;
    self->count = 0;
    self->stuck = 0;
    self->since_us = now_us;
}

static void envoy_start(void *state, int cap, uint64_t seed)
{
    struct envoy *self = state;
    self->cap = cap < ENVOY_MOST ? cap : ENVOY_MOST;
    self->limit = ENVOY_LEAST;
    self->chance = chance_stream(seed, 2);
    begin_measuring(self, 0);
}

static int envoy_limit(const void *state)
{
    return ((const struct envoy *)state)->limit;
}

static int by_value(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a;
    int64_t right = *(const int64_t *)b;
    return left < right ? -1 : left > right;
}

static double take_median(struct envoy *self)
{
    qsort(self->rtt_us, (size_t)self->count, sizeof(self->rtt_us[0]), by_value);
    double median = (double)self->rtt_us[self->count / 2];
    self->count = 0;
    return fmax(1, median);
}

static void end_measuring(struct envoy *self, int64_t now_us)
{
    double late = ENVOY_JITTER * chance_unit(&self->chance);
    self->unloaded_us = take_median(self);
    self->limit = self->deferred;
    self->deferred = 0;
    self->measure_us = now_us + (int64_t)(ENVOY_MEASURE_US * (1 + late));
}

static void envoy_learn(void *state, const struct sample *sample)
{
    struct envoy *self = state;
    if (sample->sent_us < self->since_us || sample->dropped || self->count == ENVOY_KEPT) {
        return;
    }
    self->rtt_us[self->count++] = sample->rtt_us;
    if (self->deferred && self->count >= ENVOY_SAMPLES) {
        end_measuring(self, sample->now_us);
    }
}

static void envoy_update(struct envoy *self)
{
    double gradient = self->unloaded_us * (1 + ENVOY_BUFFER) / take_median(self);
    double wanted = self->limit * fmax(0.5, fmin(2, gradient));
    int limit = between(wanted + sqrt(wanted), ENVOY_LEAST, self->cap);
    self->stuck = self->limit == ENVOY_LEAST && limit == ENVOY_LEAST ? self->stuck + 1 : 0;
    self->limit = limit;
}

static void envoy_tick(void *state, int peak, int64_t now_us)
{
    (void)peak;
    struct envoy *self = state;
    if (self->deferred) {
        return;
    }
    if (self->count > 0) {
        envoy_update(self);
    }
    if (now_us >= self->measure_us || self->stuck >= ENVOY_STUCK) {
        begin_measuring(self, now_us);
    }
}

const struct limiter limiter_envoy = {
    .bytes = sizeof(struct envoy),
    .start = envoy_start,
    .limit = envoy_limit,
    .learn = envoy_learn,
    .tick = envoy_tick,
    .period_us = ENVOY_UPDATE_US,
};

#define PROBING_LEAST 8 // 4 for reads and 4 for writes
#define PROBING_MOST 256
#define PROBING_FIRST 16 // twice the cores
#define PROBING_STEP 0.1
#define PROBING_WEIGHT 0.2
#define PROBING_PERIOD_US (100 * MS)

struct probing {
    enum { STABLE, UP, DOWN } is;
    int limit;
    int cap;
    double stable;
    int64_t stable_finished;
    int64_t finished; // since the last tick
};

static void set_limit(struct probing *self, double step, int at_least)
{
    int limit = between(round(self->stable * step), PROBING_LEAST, self->cap);
    self->limit = limit == self->limit ? between(limit + at_least, 1, self->cap) : limit;
}

static void probing_start(void *state, int cap, uint64_t seed)
{
    (void)seed;
    struct probing *self = state;
    self->cap = cap < PROBING_MOST ? cap : PROBING_MOST;
    self->stable = PROBING_FIRST;
    set_limit(self, 1, 0);
}

static int probing_limit(const void *state)
{
    return ((const struct probing *)state)->limit;
}

static void probing_learn(void *state, const struct sample *sample)
{
    (void)sample;
    ((struct probing *)state)->finished++;
}

static void probe(struct probing *self, int peak)
{
    self->stable_finished = self->finished;
    if (peak >= self->limit && self->limit < self->cap) {
        self->is = UP;
        set_limit(self, 1 + PROBING_STEP, 1);
    } else if (peak > PROBING_LEAST) {
        self->is = DOWN;
        set_limit(self, 1 - PROBING_STEP, -1);
    }
}

static void probing_tick(void *state, int peak, int64_t now_us)
{
    (void)now_us;
    struct probing *self = state;
    if (self->is == STABLE) {
        probe(self, peak);
    } else {
        if (self->finished > self->stable_finished) {
            self->stable += PROBING_WEIGHT * (self->limit - self->stable);
        }
        self->is = STABLE;
        set_limit(self, 1, 0);
    }
    self->finished = 0;
}

const struct limiter limiter_probing = {
    .bytes = sizeof(struct probing),
    .start = probing_start,
    .limit = probing_limit,
    .learn = probing_learn,
    .tick = probing_tick,
    .period_us = PROBING_PERIOD_US,
};
