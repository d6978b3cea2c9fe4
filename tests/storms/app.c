// SPDX-License-Identifier: Apache-2.0
//
// Users, who do not wait for replies before they ask the next thing, and their drivers, which retry
// as the MongoDB drivers' specification says (client backpressure): twice, after random x
// min(10 s, base x 2^n), the base 100 ms or what the refusal says, and not when it would be after
// the deadline.

#include "world_inner.h"

#include "policy/memory.h"

#define RETRIES 2
#define BASE_MS 100
#define BACKOFF_MOST_MS 10000
#define ROUND_TRIP_US 500 // of a refusal and the retry after it
#define RELOAD_US (200 * MS)
#define USERS 128

static void drop_ref(struct world *world, struct request *request)
{
    request->refs--;
    if (request->refs == 0) {
        world->requests--;
        free(request);
    }
}

static void count_good(struct world *world, const struct request *request)
{
    struct bucket *bucket = world_bucket(world, request->born_us);
    bucket->good[request->kind]++;
    bucket->good_work_us += request->cpu_us;
    if (world_measures(world, request->born_us)) {
        world->tally->tenant_good[request->tenant]++;
        world->tally->served++;
    }
}

void app_settle(struct world *world, struct request *request, bool good)
{
    tally_digest(world->tally, world->now_us, good);
    request->gave_up = true;
    if (good) {
        count_good(world, request);
    } else if (request->reloads < world_kind(world, request)->reloads) {
        request->refs++;
        world_plan(world, world->now_us + RELOAD_US, RELOADS, 0, request);
    } else {
        world_bucket(world, request->born_us)->lost[request->kind]++;
    }
}

void app_end(struct world *world, struct request *request)
{
    request->state = OVER;
    drop_ref(world, request);
}

static int64_t backoff_us(struct world *world, const struct request *request)
{
    int64_t said =
        world->way->backoff_ms ? world->way->backoff_ms(world->self, request, world->now_us) : 0;
    double most = (double)(said > 0 ? said : BASE_MS) * (1 << request->tries);
    most = most < BACKOFF_MOST_MS ? most : BACKOFF_MOST_MS;
    return (int64_t)(chance_unit(&world->drivers) * most * 1000);
}

void app_try_again(struct world *world, struct request *request)
{
    enum retrying retrying = world_kind(world, request)->retrying;
    request->state = AWAY;
    request->tries++;
    int64_t at_us = world->now_us + ROUND_TRIP_US;
    if (retrying == BACK_OFF) {
        at_us += backoff_us(world, request);
    }
    if (request->gave_up) {
        app_end(world, request);
    } else if (retrying == NO_RETRY || request->tries > RETRIES || at_us >= request->deadline_us) {
        app_settle(world, request, false);
        app_end(world, request);
    } else {
        world_plan(world, at_us, RETRIES_NOW, 0, request);
    }
}

static void ask(struct world *world, struct request *request)
{
    enum answer answer = world->way->ask(world->self, request, world->now_us);
    tally_digest(world->tally, world->now_us, 10 + (int)answer);
    if (answer == GRANTED) {
        world_run(world, request);
    } else if (answer == WAITS) {
        request->state = QUEUED;
    } else {
        app_try_again(world, request);
    }
}

static double draw_cpu_us(struct chance *chance, const struct kind *kind)
{
    double mean_us = kind->cpu_ms * 1000;
    switch (kind->spread) {
    case EXPONENTIAL:
        return chance_exponential(chance, mean_us);
    case HEAVY:
        return chance_heavy(chance, mean_us);
    case FIXED:
        break;
    }
    return mean_us;
}

static void begin(struct world *world, struct request *request)
{
    request->deadline_us = world->now_us + world_kind(world, request)->deadline_us;
    request->refs = 2;
    world->requests++;
    world_plan(world, request->deadline_us, GIVES_UP, 0, request);
    ask(world, request);
}

void app_plan_arrival(struct world *world, int kind)
{
    double per_s = world->workload->kinds[kind].per_s * world->factor[kind] * world->load;
    if (per_s <= 0) {
        return;
    }
    double gap_us = chance_exponential(&world->arrivals[kind], (double)S / per_s);
    int64_t at_us = world->now_us + (int64_t)gap_us;
    if (at_us < world->workload->ends_us) {
        world_plan(world, at_us, ARRIVES, kind + KINDS * world->generation[kind], NULL);
    }
}

void app_arrive(struct world *world, int which)
{
    int kind = which % KINDS;
    if (which / KINDS != world->generation[kind]) {
        return;
    }
    struct chance *chance = &world->arrivals[kind];
    const struct kind *traits = &world->workload->kinds[kind];
    struct request *request = memory_new(1, sizeof(*request));
    request->kind = kind;
    request->born_us = world->now_us;
    request->cpu_us = draw_cpu_us(chance, traits) * world->dearer[kind];
    request->user = chance_below(chance, USERS);
    request->tenant = traits->first_tenant;
    if (traits->tenants > 0) {
        request->tenant += chance_below(chance, traits->tenants);
    }
    world_bucket(world, world->now_us)->offered[kind]++;
    if (world_measures(world, world->now_us)) {
        world->tally->tenant_offered[request->tenant]++;
    }
    app_plan_arrival(world, kind);
    begin(world, request);
}

// The same question by the same user: a new request.
void app_reload(struct world *world, struct request *request)
{
    struct request *again = memory_new(1, sizeof(*again));
    again->kind = request->kind;
    again->born_us = request->born_us;
    again->cpu_us = request->cpu_us;
    again->user = request->user;
    again->tenant = request->tenant;
    again->reloads = request->reloads + 1;
    drop_ref(world, request);
    begin(world, again);
}

void app_give_up(struct world *world, struct request *request)
{
    if (!request->gave_up) {
        app_settle(world, request, false);
        if (request->state == QUEUED) {
            world->way->cancel(world->self, request, world->now_us);
            assert(request->refs > 1);
            app_end(world, request);
        }
    }
    drop_ref(world, request);
}

void app_retry(struct world *world, struct request *request)
{
    if (request->gave_up) {
        app_end(world, request);
    } else {
        ask(world, request);
    }
}
