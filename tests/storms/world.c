// SPDX-License-Identifier: Apache-2.0
//
// One loop: the earliest of the events, the server's next completion and the contestant's next
// wake-up is what happens next.

#include "world_inner.h"

static void leave_server(struct world *world, struct request *request, bool failed)
{
    world->at_server--;
    world->way->done(world->self, request, failed, world->now_us);
    if (failed) {
        app_try_again(world, request);
        return;
    }
    if (!request->gave_up) {
        app_settle(world, request, true);
    }
    app_end(world, request);
}

static bool server_is_full(const struct world *world)
{
    int most = world->workload->server.max_connections;
    return !world->available || (most > 0 && world->at_server >= most);
}

void world_run(struct world *world, struct request *request)
{
    bool full = server_is_full(world);
    const struct kind *kind = world_kind(world, request);
    request->state = RUNNING;
    world->at_server++;
    if (request->kind == 0 && world_measures(world, request->born_us)) {
        tally_wait(world->tally, world->now_us - request->asked_us);
    }
    if (full) {
        leave_server(world, request, true);
        return;
    }
    world->tally->executed += world_measures(world, world->now_us);
    if (kind->io_ms > 0) {
        world_plan(world, world->now_us + (int64_t)(kind->io_ms * 1000), IO_DONE,
                   world->incarnation, request);
    } else {
        server_add(&world->server, request, world->now_us);
    }
}

static void io_done(struct world *world, struct request *request, int incarnation)
{
    if (incarnation == world->incarnation) {
        server_add(&world->server, request, world->now_us);
    } else {
        leave_server(world, request, true);
    }
}

// What waits for the server's disk is told when it would have been done.
static void die(struct world *world)
{
    world->available = false;
    world->incarnation++;
    world->way->set_available(world->self, false, world->now_us);
    struct request *request;
    while ((request = server_take_any(&world->server))) {
        leave_server(world, request, true);
    }
}

static void happen(struct world *world, const struct happening *happening)
{
    switch (happening->change) {
    case LOAD:
        world->factor[happening->kind] = happening->value;
        world->generation[happening->kind]++;
        app_plan_arrival(world, happening->kind);
        break;
    case DEARER:
        world->dearer[happening->kind] = happening->value;
        break;
    case CAPACITY:
        server_set_capacity(&world->server, happening->value, world->now_us);
        break;
    case DIES:
        die(world);
        break;
    case RETURNS:
        world->available = true;
        world->way->set_available(world->self, true, world->now_us);
        break;
    }
}

static void look(struct world *world)
{
    struct bucket *bucket = world_bucket(world, world->now_us);
    bucket->limit = world->way->limit(world->self);
    bucket->at_server = world->at_server;
    if (world->now_us + BUCKET_US < world->workload->ends_us) {
        world_plan(world, world->now_us + BUCKET_US, LOOKED_AT, 0, NULL);
    }
}

static void handle(struct world *world, const struct event *event)
{
    switch ((enum what)event->what) {
    case ARRIVES:
        app_arrive(world, event->which);
        break;
    case IO_DONE:
        io_done(world, event->whom, event->which);
        break;
    case RETRIES_NOW:
        app_retry(world, event->whom);
        break;
    case GIVES_UP:
        app_give_up(world, event->whom);
        break;
    case RELOADS:
        app_reload(world, event->whom);
        break;
    case HAPPENS:
        happen(world, &world->workload->happenings[event->which]);
        break;
    case LOOKED_AT:
        look(world);
        break;
    }
}

static void move_queue(struct world *world)
{
    struct request *request;
    while ((request = world->way->refuse_next(world->self, world->now_us))) {
        app_try_again(world, request);
    }
    while ((request = world->way->grant_next(world->self, world->now_us))) {
        world_run(world, request);
    }
    while ((request = world->way->refuse_next(world->self, world->now_us))) {
        app_try_again(world, request);
    }
}

static int64_t earlier(int64_t a_us, int64_t b_us)
{
    return a_us < b_us ? a_us : b_us;
}

// Contestants wake by the clock as long as anything can still happen.
static bool step(struct world *world)
{
    int64_t next_us = earlier(heap_next_us(&world->events), server_next_us(&world->server));
    if (next_us == INT64_MAX) {
        return false;
    }
    int64_t wake_us = world->way->next_wake_us(world->self);
    world->now_us = earlier(next_us, wake_us > world->now_us ? wake_us : world->now_us);
    struct request *request;
    while ((request = server_take_finished(&world->server, world->now_us))) {
        leave_server(world, request, false);
    }
    if (heap_next_us(&world->events) <= world->now_us) {
        struct event event = heap_take(&world->events);
        handle(world, &event);
    }
    move_queue(world);
    return true;
}

static void prepare(struct world *world, uint64_t seed)
{
    const struct workload *workload = world->workload;
    world->drivers = chance_stream(seed, 100);
    for (int i = 0; i < KINDS; i++) {
        world->arrivals[i] = chance_stream(seed, (uint64_t)i);
        world->factor[i] = 1;
        world->dearer[i] = 1;
        app_plan_arrival(world, i);
    }
    for (int i = 0; i < HAPPENINGS && workload->happenings[i].at_us > 0; i++) {
        world_plan(world, workload->happenings[i].at_us, HAPPENS, i, NULL);
    }
    world_plan(world, 0, LOOKED_AT, 0, NULL);
}

// At the end everybody has an answer or has given up, and nothing is left anywhere.
static void check(const struct world *world)
{
    int64_t end_us = world->workload->ends_us;
    assert(world->requests == 0 && world->at_server == 0);
    assert(tally_offered(world->tally, -1, 0, end_us) ==
           tally_good(world->tally, -1, 0, end_us) + tally_lost(world->tally, -1, 0, end_us));
}

void world_play(const struct workload *workload, const struct way *way, int cap, double load,
                uint64_t seed, struct tally *ret_tally)
{
    *ret_tally = (struct tally){0};
    struct world world = {
        .workload = workload,
        .way = way,
        .self = way->make(cap, seed),
        .load = load,
        .available = true,
        .tally = ret_tally,
    };
    server_init(&world.server, &workload->server);
    prepare(&world, seed);
    while (step(&world)) {
    }
    check(&world);
    way->free(world.self);
    server_fini(&world.server);
    heap_fini(&world.events);
}
