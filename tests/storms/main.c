// SPDX-License-Identifier: Apache-2.0
//
// storms [--seeds N] [--series]: the tables in Markdown; or what happens in the course of some
// storms and by load, as comma separated values, for plots.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cost.h"
#include "series.h"
#include "table.h"

#define USUAL_SEEDS 3

static void print_contestants(void)
{
    printf("### The contestants\n\n| | |\n|---|---|\n");
    for (int i = 0; i < ways_count; i++) {
        printf("| %s | %s |\n", ways[i]->name, ways[i]->about);
    }
    printf("\n");
}

static void print_costs(void)
{
    printf("### What a decision costs\n\nThe median of asking, being granted and giving back, with "
           "1,000 waiting of 100 tenants (none where nothing waits), in ns; the target is 1,000 at "
           "most.\n\n| | ns |\n|---|---:|\n");
    for (int i = 0; i < ways_count; i++) {
        printf("| %s | %.0f |\n", ways[i]->name, cost_ns(ways[i]));
    }
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--series") == 0) {
        series_print();
        return 0;
    }
    bool seeded = argc == 3 && strcmp(argv[1], "--seeds") == 0 && atoi(argv[2]) > 0;
    if (argc != 1 && !seeded) {
        fprintf(stderr, "usage: storms [--seeds N | --series]\n");
        return 2;
    }
    tables_print(seeded ? atoi(argv[2]) : USUAL_SEEDS);
    print_contestants();
    print_costs();
    return 0;
}
