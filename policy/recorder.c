// SPDX-License-Identifier: Apache-2.0

#include "policy/recorder.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "policy/memory.h"

#define NEARLY 0.9 // of the limit

// What was counted of a shape or a tenant when it was last brought.
struct before {
    uint64_t id;
    uint64_t arrived;
    uint64_t done;
    int64_t held_us; // by those in flight, too
    int64_t done_us;
};

struct recorder {
    struct recorder_second *seconds; // a ring
    int next;
    int count;
    bool begun; // something was brought: there are differences
    int64_t began_us;
    struct recorder_totals last;
    size_t shape_places;
    size_t tenant_places;
    struct before *shapes; // by place
    struct before *tenants;
};

struct recorder *recorder_new(size_t shapes, size_t tenants)
{
    struct recorder *recorder = memory_new(1, sizeof(*recorder));
    recorder->seconds = memory_new(RECORDER_SECONDS, sizeof(*recorder->seconds));
    recorder->shapes = memory_new(shapes, sizeof(*recorder->shapes));
    recorder->tenants = memory_new(tenants, sizeof(*recorder->tenants));
    recorder->shape_places = shapes;
    recorder->tenant_places = tenants;
    return recorder;
}

void recorder_free(struct recorder *recorder)
{
    if (recorder) {
        free(recorder->seconds);
        free(recorder->shapes);
        free(recorder->tenants);
        free(recorder);
    }
}

static struct recorder_second *current(struct recorder *recorder)
{
    return &recorder->seconds[recorder->next];
}

static void subtract(struct recorder_totals *totals, const struct recorder_totals *last)
{
    totals->gate.granted -= last->gate.granted;
    totals->gate.queued_ever -= last->gate.queued_ever;
    for (int i = 0; i < REFUSAL_COUNT; i++) {
        totals->gate.refused[i] -= last->gate.refused[i];
    }
    totals->opened -= last->opened;
    totals->open_failures -= last->open_failures;
    totals->lost -= last->lost;
    totals->opening_us -= last->opening_us;
    totals->login_us -= last->login_us;
    totals->accepted -= last->accepted;
}

void recorder_begin(struct recorder *recorder, const struct recorder_totals *totals, int64_t now_us)
{
    struct recorder_second *second = current(recorder);
    *second = (struct recorder_second){
        .at_us = now_us, .long_us = now_us - recorder->began_us, .totals = *totals};
    subtract(&second->totals, &recorder->last);
    recorder->last = *totals;
    recorder->began_us = now_us;
}

// What makes a shape or a tenant one to keep.
static uint64_t weight(const struct recorder_share *share)
{
    return share->held_ms + UINT64_C(1000) * share->now + share->arrived + share->done;
}

// Keeps it if there is a lighter one, which goes.
static void keep(struct recorder_share *top, const struct recorder_share *share)
{
    struct recorder_share *lightest = &top[0];
    for (int i = 1; i < RECORDER_TOP; i++) {
        if (weight(&top[i]) < weight(lightest)) {
            lightest = &top[i];
        }
    }
    if (weight(share) > weight(lightest)) {
        *lightest = *share;
    }
}

static uint32_t bounded(int64_t value)
{
    return value < 0 ? 0 : value > UINT32_MAX ? UINT32_MAX : (uint32_t)value;
}

// Takes over what is counted now; the difference to what was.
static struct recorder_share differ(struct before *before, const struct before *now)
{
    if (before->id != now->id || before->arrived > now->arrived) {
        *before = (struct before){.id = now->id}; // another one has the place
    }
    struct recorder_share share = {
        .id = now->id,
        .arrived = bounded((int64_t)(now->arrived - before->arrived)),
        .done = bounded((int64_t)(now->done - before->done)),
        .held_ms = bounded((now->held_us - before->held_us) / 1000),
        .done_us = (uint64_t)(now->done_us - before->done_us),
    };
    *before = *now;
    return share;
}

void recorder_shape(struct recorder *recorder, size_t place, const struct shape *shape,
                    int64_t running_us)
{
    struct before now = {shape->id, shape->arrived, shape->count, shape->held_us + running_us,
                         shape->held_us};
    struct before *before = &recorder->shapes[place];
    bool idle = shape->users == 0 && memcmp(before, &now, sizeof now) == 0;
    if (place >= recorder->shape_places || idle) {
        return;
    }
    struct recorder_second *second = current(recorder);
    struct recorder_share share = differ(before, &now);
    share.now = shape->users;
    second->arrived += share.arrived;
    second->shape_held_ms += share.held_ms;
    keep(second->shapes, &share);
}

void recorder_tenant(struct recorder *recorder, size_t place, uint64_t id, uint64_t arrived,
                     uint64_t refused)
{
    struct before now = {.id = id, .arrived = arrived, .done = refused};
    struct before *before = &recorder->tenants[place];
    if (place < recorder->tenant_places && memcmp(before, &now, sizeof now) != 0) {
        struct recorder_share share = differ(before, &now);
        keep(current(recorder)->tenants, &share);
    }
}

// What was counted before the first time is nobody's second.
void recorder_end(struct recorder *recorder)
{
    if (!recorder->begun) {
        recorder->begun = true;
        return;
    }
    recorder->next = (recorder->next + 1) % RECORDER_SECONDS;
    recorder->count += recorder->count < RECORDER_SECONDS;
}

int recorder_count(const struct recorder *recorder)
{
    return recorder->count;
}

const struct recorder_second *recorder_ago(const struct recorder *recorder, int ago)
{
    return &recorder->seconds[(recorder->next + RECORDER_SECONDS - 1 - ago) % RECORDER_SECONDS];
}

// --- spans --------------------------------------------------------------------------------------

static int most(int a, int b)
{
    return a > b ? a : b;
}

static void add_share(struct recorder_sum_share *sums, int *count,
                      const struct recorder_share *share)
{
    int at = 0;
    while (at < *count && sums[at].id != share->id) {
        at++;
    }
    if (at == RECORDER_SUMMED) {
        return;
    }
    if (at == *count) {
        sums[at] = (struct recorder_sum_share){.id = share->id};
        (*count)++;
    }
    sums[at].arrived += share->arrived;
    sums[at].done += share->done;
    sums[at].held_ms += share->held_ms;
    sums[at].done_us += share->done_us;
}

static void add_shares(struct recorder_span *span, const struct recorder_second *second)
{
    for (int i = 0; i < RECORDER_TOP; i++) {
        if (weight(&second->shapes[i]) > 0) {
            add_share(span->shapes, &span->shape_count, &second->shapes[i]);
        }
        if (weight(&second->tenants[i]) > 0) {
            add_share(span->tenants, &span->tenant_count, &second->tenants[i]);
        }
    }
}

static uint64_t refused_in(const struct gate_counts *gate)
{
    uint64_t refused = 0;
    for (int i = 0; i < REFUSAL_COUNT; i++) {
        refused += i == REFUSED_NO_SERVER ? 0 : gate->refused[i];
    }
    return refused;
}

static void add_counts(struct recorder_span *span, const struct recorder_second *second)
{
    const struct recorder_totals *totals = &second->totals;
    span->arrived += second->arrived;
    span->held_ms += second->shape_held_ms;
    span->granted += totals->gate.granted;
    span->refused += refused_in(&totals->gate);
    span->refused_pins += totals->gate.refused[REFUSED_PINNED];
    span->opened += totals->opened;
    span->open_failures += totals->open_failures;
    span->lost += totals->lost;
    span->accepted += totals->accepted;
    span->opening_us += totals->opening_us;
    span->login_us += totals->login_us;
}

// Gauges are weighed by the second's length; span_finish makes means of them.
static void add_gauges(struct recorder_span *span, const struct recorder_second *second)
{
    const struct recorder_totals *totals = &second->totals;
    const struct gate_counts *gate = &totals->gate;
    double seconds = (double)second->long_us / 1e6;
    bool full = gate->queued > 0 || gate->in_flight >= NEARLY * gate->limit;
    span->seconds += seconds;
    span->away += totals->there ? 0 : seconds;
    span->full += full ? seconds : 0;
    span->in_flight += seconds * gate->in_flight;
    span->limit += seconds * gate->limit;
    span->cap += seconds * gate->cap;
    span->clients += seconds * totals->clients;
    span->waiting += seconds * (double)gate->queued;
    span->slowness += seconds * gate->slowness;
    span->most_waiting = most(span->most_waiting, (int)gate->queued);
    span->most_clients = most(span->most_clients, totals->clients);
    span->most_waiters = most(span->most_waiters, totals->waiters);
    span->most_cursors_idle = most(span->most_cursors_idle, totals->cursors_idle);
    span->most_transactions_idle = most(span->most_transactions_idle, totals->transactions_idle);
}

static void make_means(struct recorder_span *span)
{
    if (span->seconds > 0) {
        span->in_flight /= span->seconds;
        span->limit /= span->seconds;
        span->cap /= span->seconds;
        span->clients /= span->seconds;
        span->waiting /= span->seconds;
        span->slowness /= span->seconds;
    }
}

static int held_more(const void *a, const void *b)
{
    const struct recorder_sum_share *one = a;
    const struct recorder_sum_share *other = b;
    return (one->held_ms < other->held_ms) - (one->held_ms > other->held_ms);
}

static int asked_more(const void *a, const void *b)
{
    const struct recorder_sum_share *one = a;
    const struct recorder_sum_share *other = b;
    return (one->arrived < other->arrived) - (one->arrived > other->arrived);
}

static void sum(const struct recorder *recorder, int64_t from_us, int64_t until_us, bool calm_only,
                struct recorder_span *ret_span)
{
    *ret_span = (struct recorder_span){0};
    for (int ago = 0; ago < recorder->count; ago++) {
        const struct recorder_second *second = recorder_ago(recorder, ago);
        bool counts = !calm_only || !second->totals.exhausted;
        if (counts && second->at_us > from_us && second->at_us <= until_us) {
            add_gauges(ret_span, second);
            add_counts(ret_span, second);
            add_shares(ret_span, second);
        }
    }
    make_means(ret_span);
    qsort(ret_span->shapes, (size_t)ret_span->shape_count, sizeof ret_span->shapes[0], held_more);
    qsort(ret_span->tenants, (size_t)ret_span->tenant_count, sizeof ret_span->tenants[0],
          asked_more);
}

void recorder_sum(const struct recorder *recorder, int64_t from_us, int64_t until_us,
                  struct recorder_span *ret_span)
{
    sum(recorder, from_us, until_us, false, ret_span);
}

void recorder_sum_calm(const struct recorder *recorder, int64_t from_us, int64_t until_us,
                       struct recorder_span *ret_span)
{
    sum(recorder, from_us, until_us, true, ret_span);
}

// Those that go on were as many as the permits that they held, but one at least.
double recorder_mean(const struct recorder_sum_share *share, const struct recorder_span *span)
{
    if (!share || span->seconds <= 0) {
        return 0;
    }
    double held_s = (double)share->held_ms / 1e3;
    double places = held_s / span->seconds;
    double least = held_s / fmax(1, (double)share->done + places);
    double done = share->done > 0 ? (double)share->done_us / 1e6 / (double)share->done : 0;
    return fmax(least, done);
}

const struct recorder_sum_share *recorder_find(const struct recorder_sum_share *shares, int count,
                                               uint64_t id)
{
    for (int i = 0; i < count; i++) {
        if (shares[i].id == id) {
            return &shares[i];
        }
    }
    return NULL;
}
