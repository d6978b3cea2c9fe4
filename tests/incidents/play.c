// SPDX-License-Identifier: Apache-2.0
//
// A way of the storms that does what weir's does, and looks at the clock: an exhaustion's notices
// every 50 ms, the recorder's samples every second.

#include "incidents.h"

#include "policy/demand.h"
#include "policy/exhaustion.h"
#include "policy/memory.h"
#include "watched.h"

#define EARLY_US (10 * S)

static const struct incident *playing; // the ways of the storms know of no incidents
static struct judgement *judgement;

struct watched {
    void *weir;
    struct recorder *recorder;
    struct exhaustion exhaustion;
    struct demand demand;
    struct recorder_totals totals;
    int64_t look_us;
    int64_t sample_us;
    int64_t told_us;
    bool told_early;
    struct verdict begin;
    struct verdict early;
    struct gate_majority majority; // at the begin
};

static const struct told *told_at(int64_t now_us)
{
    const struct told *told = &playing->told[0];
    while (told < &playing->told[3] && told[1].at_us > 0 && told[1].at_us <= now_us) {
        told++;
    }
    return told;
}

static void sample(struct watched *watched, int64_t now_us)
{
    const struct told *told = told_at(now_us);
    struct gate *gate = watched_gate(watched->weir);
    struct shapes *shapes = watched_shapes(watched->weir);
    struct recorder_totals *totals = &watched->totals;
    uint64_t pins = totals->gate.refused[REFUSED_PINNED] + (uint64_t)told->refused_pins_per_s;
    gate_count(gate, now_us, &totals->gate);
    totals->gate.refused[REFUSED_PINNED] = pins;
    totals->there = totals->gate.available;
    totals->exhausted = watched->exhaustion.going_on;
    totals->clients = told->clients;
    totals->accepted += (uint64_t)told->accepted_per_s;
    totals->transactions_idle = told->transactions_idle;
    int64_t running_us[64] = {0};
    for (const struct ticket *at = gate_oldest(gate); at; at = at->next) {
        running_us[shapes_place(shapes, at->shape)] += now_us - at->granted_us;
    }
    recorder_begin(watched->recorder, totals, now_us);
    for (size_t i = 0; i < shapes_count(shapes); i++) {
        recorder_shape(watched->recorder, i, shapes_at(shapes, i), running_us[i]);
    }
    for (size_t i = 0; i < DEMAND_PLACES; i++) {
        const struct demand_tenant *tenant = &watched->demand.tenants[i];
        recorder_tenant(watched->recorder, i, watched->demand.ids[i], tenant->arrived,
                        tenant->refused);
    }
    recorder_end(watched->recorder);
    demand_age(&watched->demand);
}

static void note(struct watched *watched, enum exhaustion_notice notice, int64_t now_us)
{
    const struct exhaustion *exhaustion = &watched->exhaustion;
    judgement->events += notice == EXHAUSTION_BEGIN;
    if (notice == EXHAUSTION_BEGIN) {
        watched->told_early = false;
        gate_find_majority(watched_gate(watched->weir), now_us, &watched->majority);
        verdict_find(watched->recorder, &watched->majority, exhaustion->begun_us, now_us,
                     &watched->begin);
    }
    bool end = notice == EXHAUSTION_END;
    bool early = exhaustion->going_on && now_us - exhaustion->begun_us >= EARLY_US;
    if (!watched->told_early && (early || end)) {
        verdict_find(watched->recorder, &watched->majority, exhaustion->begun_us, now_us,
                     &watched->early);
        watched->told_early = true;
    }
    double lasted_s = (double)(exhaustion->last_seen_us - exhaustion->begun_us) / 1e6;
    if (end && lasted_s > judgement->lasted_s) {
        judgement->lasted_s = lasted_s;
        judgement->begin = watched->begin;
        judgement->early = watched->early;
        verdict_find(watched->recorder, &watched->majority, exhaustion->begun_us,
                     exhaustion->last_seen_us, &judgement->final);
    }
}

static void look(struct watched *watched, int64_t now_us)
{
    if (now_us >= watched->sample_us) {
        sample(watched, now_us);
        watched->sample_us = now_us + S;
    }
    if (now_us >= watched->look_us) {
        struct gate_counts counts;
        gate_count(watched_gate(watched->weir), now_us, &counts);
        counts.refused[REFUSED_PINNED] += watched->totals.gate.refused[REFUSED_PINNED];
        note(watched, exhaustion_update(&watched->exhaustion, &counts, now_us), now_us);
        watched->look_us = now_us + 50 * MS;
    }
}

static void *watched_make(int cap, uint64_t seed)
{
    struct watched *watched = memory_new(1, sizeof *watched);
    watched->weir = way_weir.make(cap, seed);
    watched->recorder = recorder_new(64, DEMAND_PLACES);
    return watched;
}

static void watched_free(void *self)
{
    struct watched *watched = self;
    way_weir.free(watched->weir);
    recorder_free(watched->recorder);
    free(watched);
}

static enum answer watched_ask(void *self, struct request *request, int64_t now_us)
{
    struct watched *watched = self;
    char name[DEMAND_NAME_BYTES] = "";
    demand_arrived(&watched->demand, (uint64_t)request->tenant + 1, name);
    enum answer answer = way_weir.ask(watched->weir, request, now_us);
    if (answer == REFUSED) {
        demand_refused(&watched->demand, (uint64_t)request->tenant + 1);
    }
    return answer;
}

// In the storms a server that has no more connections fails what comes; that is when one cannot be
// opened.
static void watched_done(void *self, struct request *request, bool failed, int64_t now_us)
{
    struct watched *watched = self;
    struct gate_counts counts;
    gate_count(watched_gate(watched->weir), now_us, &counts);
    if (failed && counts.available) {
        watched->totals.open_failures++;
    } else if (failed) {
        watched->totals.lost++;
    }
    way_weir.done(watched->weir, request, failed, now_us);
}

static struct request *watched_grant_next(void *self, int64_t now_us)
{
    struct watched *watched = self;
    return way_weir.grant_next(watched->weir, now_us);
}

static struct request *watched_refuse_next(void *self, int64_t now_us)
{
    struct watched *watched = self;
    look(watched, now_us);
    struct request *request = way_weir.refuse_next(watched->weir, now_us);
    if (request) {
        demand_refused(&watched->demand, (uint64_t)request->tenant + 1);
    }
    return request;
}

static int64_t watched_next_wake_us(const void *self)
{
    const struct watched *watched = self;
    int64_t wake_us = way_weir.next_wake_us(watched->weir);
    return wake_us < watched->look_us ? wake_us : watched->look_us;
}

static void watched_cancel(void *self, struct request *request, int64_t now_us)
{
    way_weir.cancel(((struct watched *)self)->weir, request, now_us);
}

static void watched_set_available(void *self, bool available, int64_t now_us)
{
    way_weir.set_available(((struct watched *)self)->weir, available, now_us);
}

static int watched_limit(const void *self)
{
    return way_weir.limit(((const struct watched *)self)->weir);
}

static int64_t watched_backoff_ms(void *self, const struct request *request, int64_t now_us)
{
    return way_weir.backoff_ms(((struct watched *)self)->weir, request, now_us);
}

static const struct way way_watched = {
    .name = "weir, watched",
    .make = watched_make,
    .free = watched_free,
    .ask = watched_ask,
    .done = watched_done,
    .grant_next = watched_grant_next,
    .refuse_next = watched_refuse_next,
    .next_wake_us = watched_next_wake_us,
    .cancel = watched_cancel,
    .set_available = watched_set_available,
    .limit = watched_limit,
    .backoff_ms = watched_backoff_ms,
};

void incident_play(const struct incident *incident, uint64_t seed, struct judgement *ret_judgement)
{
    struct tally tally;
    *ret_judgement = (struct judgement){0};
    playing = incident;
    judgement = ret_judgement;
    world_play(&incident->workload, &way_watched, incident->cap, 1, seed, &tally);
    tally_fini(&tally);
}
