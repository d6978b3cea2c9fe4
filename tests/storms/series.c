// SPDX-License-Identifier: Apache-2.0

#include "series.h"

#include <stdio.h>

#include "world.h"

#define STEP_US (500 * MS)

static const double loads[] = {0.5, 0.8, 1, 1.5, 2, 3, 5, 7, 10};

static void print_overload(const struct workload *workload, const struct way *way)
{
    static struct tally tally;
    for (size_t i = 0; i < sizeof loads / sizeof loads[0]; i++) {
        world_play(workload, way, USUAL_CAP, loads[i], 1, &tally);
        printf(
            "overload %s,%s,%g,%.4f\n", workload->name, way->name, loads[i],
            tally_goodput(&tally, workload->server.cores, workload->from_us, workload->until_us));
        tally_fini(&tally);
    }
}

// Served in time a second, by when it was asked.
static void print_course(const struct workload *workload, const struct way *way, int kind)
{
    static struct tally tally;
    world_play(workload, way, USUAL_CAP, 1, 1, &tally);
    for (int64_t us = 0; us < workload->ends_us; us += STEP_US) {
        printf("%s,%s,%g,%.1f\n", workload->name, way->name, (double)us / S,
               tally_good(&tally, kind, us, us + STEP_US) * (double)S / STEP_US);
    }
    tally_fini(&tally);
}

void series_print(void)
{
    for (int i = 0; i < ways_count; i++) {
        print_overload(&crowded, ways[i]);
        print_course(&story, ways[i], 0);
        print_course(&spike, ways[i], -1);
        print_course(&retry_back_off, ways[i], -1);
    }
}
