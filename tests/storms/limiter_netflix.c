// SPDX-License-Identifier: Apache-2.0
//
// The three limits of Netflix's concurrency-limits, with the defaults of its builders. Gradient2
// and Vegas are fed by the library's windows: 1 s and 10 samples at least, averaged (Vegas fed by
// each request takes the quickest one for what an unloaded server needs, and serves a third less).
// AIMD is fed by each request.

#include "limiter.h"

#include <math.h>

#include "chance.h"
#include "request.h"

static double clamp(double value, double least, double most)
{
    return fmax(least, fmin(most, value));
}

#define WINDOW_US S
#define WINDOW_SAMPLES 10

struct window {
    int64_t ends_us;
    double sum_us;
    int count;
    int most_in_flight;
    bool dropped;
};

// Adds to the window. When it ends and has samples enough, they are one sample, true is returned.
static bool window_ends(struct window *window, const struct sample *sample, struct sample *ret_sum)
{
    window->sum_us += (double)sample->rtt_us;
    window->count++;
    window->dropped = window->dropped || sample->dropped;
    if (sample->in_flight > window->most_in_flight) {
        window->most_in_flight = sample->in_flight;
    }
    if (sample->now_us <= window->ends_us) {
        return false;
    }
    bool enough = window->count >= WINDOW_SAMPLES;
    *ret_sum = *sample;
    ret_sum->rtt_us = (int64_t)fmax(1, window->sum_us / window->count);
    ret_sum->in_flight = window->most_in_flight;
    ret_sum->dropped = window->dropped;
    *window = (struct window){.ends_us = sample->now_us + WINDOW_US};
    return enough;
}

struct gradient2 {
    double limit;
    double cap;
    double long_us;
    int long_count;
    struct window window;
};

#define GRADIENT2_LEAST 20
#define GRADIENT2_MOST 200
#define GRADIENT2_QUEUE 4
#define GRADIENT2_SMOOTHING 0.2
#define GRADIENT2_LONG 600
#define GRADIENT2_WARM_UP 10

static void gradient2_start(void *state, int cap, uint64_t seed)
{
    (void)seed;
    struct gradient2 *self = state;
    self->limit = fmin(GRADIENT2_LEAST, cap);
    self->cap = fmin(GRADIENT2_MOST, cap);
}

static int gradient2_limit(const void *state)
{
    return (int)((const struct gradient2 *)state)->limit;
}

static void learn_long(struct gradient2 *self, double rtt_us)
{
    if (self->long_count < GRADIENT2_WARM_UP) {
        self->long_count++;
        self->long_us += (rtt_us - self->long_us) / self->long_count;
    } else {
        self->long_us += 2.0 / (GRADIENT2_LONG + 1) * (rtt_us - self->long_us);
    }
}

static void gradient2_update(struct gradient2 *self, double short_us, int in_flight)
{
    learn_long(self, short_us);
    double longer = self->long_us / short_us;
    if (longer > 2) {
        self->long_us *= 0.9;
    }
    if (in_flight < self->limit / 2) {
        return;
    }
    double wanted = self->limit * clamp(longer, 0.5, 1) + GRADIENT2_QUEUE;
    double smoothed = self->limit + GRADIENT2_SMOOTHING * (wanted - self->limit);
    self->limit = clamp(smoothed, fmin(GRADIENT2_LEAST, self->cap), self->cap);
}

static void gradient2_learn(void *state, const struct sample *sample)
{
    struct gradient2 *self = state;
    struct sample sum;
    if (window_ends(&self->window, sample, &sum)) {
        gradient2_update(self, (double)sum.rtt_us, sum.in_flight);
    }
}

const struct limiter limiter_gradient2 = {
    .bytes = sizeof(struct gradient2),
    .start = gradient2_start,
    .limit = gradient2_limit,
    .learn = gradient2_learn,
};

struct vegas {
    double limit;
    double cap;
    double unloaded_us;
    int probe_count;
    double probe_jitter;
    struct chance chance;
    struct window window;
};

#define VEGAS_FIRST 20
#define VEGAS_MOST 1000
#define VEGAS_PROBE 30

static void draw_jitter(struct vegas *self)
{
    self->probe_jitter = 0.5 + chance_unit(&self->chance) / 2;
}

static void vegas_start(void *state, int cap, uint64_t seed)
{
    struct vegas *self = state;
    self->limit = fmin(VEGAS_FIRST, cap);
    self->cap = fmin(VEGAS_MOST, cap);
    self->chance = chance_stream(seed, 1);
    draw_jitter(self);
}

static int vegas_limit(const void *state)
{
    return (int)((const struct vegas *)state)->limit;
}

static double vegas_step(const struct vegas *self, const struct sample *sample)
{
    double unit = fmax(1, floor(log10(floor(self->limit))));
    double queue = ceil(self->limit * (1 - self->unloaded_us / (double)sample->rtt_us));
    if (sample->dropped) {
        return -unit;
    }
    if (sample->in_flight * 2 < self->limit) {
        return 0;
    }
    if (queue <= unit) {
        return 6 * unit;
    }
    return queue < 3 * unit ? unit : queue > 6 * unit ? -unit : 0;
}

static void vegas_update(struct vegas *self, const struct sample *sample)
{
    self->probe_count++;
    if (self->probe_jitter * VEGAS_PROBE * self->limit <= self->probe_count) {
        draw_jitter(self);
        self->probe_count = 0;
        self->unloaded_us = (double)sample->rtt_us;
    } else if (self->unloaded_us <= 0 || (double)sample->rtt_us < self->unloaded_us) {
        self->unloaded_us = (double)sample->rtt_us;
    } else {
        self->limit = clamp(self->limit + vegas_step(self, sample), 1, self->cap);
    }
}

static void vegas_learn(void *state, const struct sample *sample)
{
    struct vegas *self = state;
    struct sample sum;
    if (window_ends(&self->window, sample, &sum)) {
        vegas_update(self, &sum);
    }
}

const struct limiter limiter_vegas = {
    .bytes = sizeof(struct vegas),
    .start = vegas_start,
    .limit = vegas_limit,
    .learn = vegas_learn,
};

struct aimd {
    int limit;
    int cap;
};

#define AIMD_FIRST 10
#define AIMD_BACKOFF 0.9
#define AIMD_TIMEOUT_US (5 * S)

static void aimd_start(void *state, int cap, uint64_t seed)
{
    (void)seed;
    *(struct aimd *)state = (struct aimd){cap < AIMD_FIRST ? cap : AIMD_FIRST, cap};
}

static int aimd_limit(const void *state)
{
    return ((const struct aimd *)state)->limit;
}

static void aimd_learn(void *state, const struct sample *sample)
{
    struct aimd *self = state;
    if (sample->dropped || sample->rtt_us > AIMD_TIMEOUT_US) {
        self->limit = (int)clamp(floor(self->limit * AIMD_BACKOFF), 1, self->limit);
    } else if (sample->in_flight * 2 >= self->limit && self->limit < self->cap) {
        self->limit++;
    }
}

const struct limiter limiter_aimd = {
    .bytes = sizeof(struct aimd),
    .start = aimd_start,
    .limit = aimd_limit,
    .learn = aimd_learn,
};
