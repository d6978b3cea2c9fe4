// SPDX-License-Identifier: Apache-2.0
//
// What the two halves of a world share: world.c with the server and the contestant, app.c with the
// users and their drivers.

#ifndef STORMS_WORLD_INNER_H
#define STORMS_WORLD_INNER_H

#include <assert.h>

#include "chance.h"
#include "heap.h"
#include "world.h"

enum what { ARRIVES, IO_DONE, RETRIES_NOW, GIVES_UP, RELOADS, HAPPENS, LOOKED_AT };

struct world {
    const struct workload *workload;
    const struct way *way;
    void *self;
    double load;
    double factor[KINDS];
    double dearer[KINDS];
    int generation[KINDS]; // of the arrivals that are planned; a change of the load begins one
    struct chance arrivals[KINDS];
    struct chance drivers;
    struct server server;
    struct heap events;
    struct tally *tally;
    int64_t now_us;
    bool available;
    int incarnation; // of the server: what it began before it died is not its own any more
    int at_server;
    int requests; // that exist
};

static inline const struct kind *world_kind(const struct world *world,
                                            const struct request *request)
{
    return &world->workload->kinds[request->kind];
}

static inline struct bucket *world_bucket(struct world *world, int64_t at_us)
{
    assert(at_us / BUCKET_US < BUCKETS);
    return &world->tally->buckets[at_us / BUCKET_US];
}

static inline void world_plan(struct world *world, int64_t at_us, enum what what, int which,
                              void *whom)
{
    heap_add(&world->events, (struct event){at_us, 0, (int)what, which, whom});
}

static inline bool world_measures(const struct world *world, int64_t born_us)
{
    return born_us >= world->workload->from_us && born_us < world->workload->until_us;
}

// One that was granted, on to the server.
void world_run(struct world *world, struct request *request);

void app_plan_arrival(struct world *world, int kind);
void app_arrive(struct world *world, int which);
void app_retry(struct world *world, struct request *request);
void app_give_up(struct world *world, struct request *request);
void app_reload(struct world *world, struct request *request);

// A driver got an error that it may retry.
void app_try_again(struct world *world, struct request *request);

// An app has its answer, or none. Who got none may reload.
void app_settle(struct world *world, struct request *request, bool good);

// What became of the request is known; it goes when its deadline has passed, too.
void app_end(struct world *world, struct request *request);

#endif
