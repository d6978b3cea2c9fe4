// SPDX-License-Identifier: Apache-2.0

#include "table.h"

#include <math.h>
#include <stdio.h>

#define FIRST_SEED 1
#define ENOUGH_LOAD 2 // with more, the best fixed limit is the same

// What to compare with: these, with the best fixed limit for their cap.
static const struct reference {
    const struct way *way;
    const char *name;
} references[] = {
    {&way_fixed, "*best fixed limit*"},
    {&way_fifo, "*fifo with that*"},
    {&way_lifo, "*lifo with that*"},
    {&way_weir_fixed, "*weir with that*"},
};

#define REFERENCES ((int)(sizeof references / sizeof references[0]))

// Cells of the tables, the rows to compare with last.
static double cells[16][MOST_COLUMNS][MOST_WAYS];

static int columns_of(const struct table *table)
{
    int count = 0;
    while (count < MOST_COLUMNS && table->columns[count].title) {
        count++;
    }
    return count;
}

static double goodput_at(const struct workload *workload, double load, int limit)
{
    static struct tally tally;
    world_play(workload, &way_fixed, limit, load, FIRST_SEED, &tally);
    double goodput =
        tally_goodput(&tally, workload->server.cores, workload->from_us, workload->until_us);
    tally_fini(&tally);
    return goodput;
}

struct best_fixed best_fixed(const struct workload *workload, double load)
{
    static const struct workload *known;
    static double known_load;
    static struct best_fixed best;
    load = fmin(load, ENOUGH_LOAD);
    if (known == workload && known_load >= load && known_load <= load) {
        return best;
    }
    known = workload;
    known_load = load;
    best = (struct best_fixed){0};
    for (int limit = 2; limit <= USUAL_CAP; limit += 1 + limit / 10) {
        double goodput = goodput_at(workload, load, limit);
        if (goodput > best.goodput) {
            best = (struct best_fixed){limit, goodput};
        }
    }
    return best;
}

static void play_column(const struct column *column, const struct way *way, int cap, int seeds,
                        double *ret_mean)
{
    static struct tally tally;
    *ret_mean = 0;
    for (int i = 0; i < seeds; i++) {
        world_play(column->workload, way, cap, column->load, (uint64_t)(FIRST_SEED + i), &tally);
        double measured = column->measure(&tally, column);
        *ret_mean += (measured < 0 ? INFINITY : measured) / seeds;
        tally_fini(&tally);
    }
}

static void play_table(int which, int seeds)
{
    const struct table *table = &tables[which];
    for (int c = 0; c < columns_of(table); c++) {
        const struct column *column = &table->columns[c];
        for (int w = 0; w < ways_count; w++) {
            play_column(column, ways[w], USUAL_CAP, seeds, &cells[which][c][w]);
        }
        int limit = best_fixed(column->workload, column->load).limit;
        for (int r = 0; r < REFERENCES; r++) {
            play_column(column, references[r].way, limit, seeds, &cells[which][c][ways_count + r]);
        }
    }
}

static void print_value(double value, enum form form)
{
    static const char *const formats[] = {
        [SHARE_OF] = "%.3f", [FACTOR] = "%.2f", [SECONDS] = "%.1f", [MILLISECONDS] = "%.1f"};
    if (isnan(value)) {
        printf("-");
    } else if (isinf(value)) {
        printf(form == SECONDS ? "never" : "none served");
    } else {
        printf(formats[form], value);
    }
}

static void print_row(const char *name, int which, int row)
{
    const struct table *table = &tables[which];
    printf("| %s |", name);
    for (int c = 0; c < columns_of(table); c++) {
        printf(" ");
        print_value(cells[which][c][row], table->columns[c].form);
        printf(" |");
    }
    printf("\n");
}

static void print_table(int which)
{
    const struct table *table = &tables[which];
    printf("### %s\n\n%s\n\n| |", table->title, table->about);
    for (int c = 0; c < columns_of(table); c++) {
        printf(" %s |", table->columns[c].title);
    }
    printf("\n|---|");
    for (int c = 0; c < columns_of(table); c++) {
        printf("---:|");
    }
    printf("\n");
    for (int w = 0; w < ways_count; w++) {
        print_row(ways[w]->name, which, w);
    }
    for (int r = 0; r < REFERENCES; r++) {
        print_row(references[r].name, which, ways_count + r);
    }
    printf("\n");
}

static double distance(const struct column *column, double value)
{
    switch (column->sense) {
    case AT_LEAST:
        return -value;
    case NEAR:
        return fabs(value - 1);
    case AT_MOST:
    case NO_TARGET:
        break;
    }
    return value;
}

static bool is_met(const struct column *column, double value)
{
    double bound = column->sense == AT_LEAST ? -column->target : column->target;
    return distance(column, value) <= bound;
}

static int best_opponent(const struct column *column, const double *values)
{
    int best = 0;
    for (int w = 1; w < ways_count; w++) {
        if (ways[w] != &way_weir && ways[w] != &way_weir_fixed &&
            distance(column, values[w]) < distance(column, values[best])) {
            best = w;
        }
    }
    return best;
}

static double of_weir(const double *values)
{
    for (int w = 0; w < ways_count; w++) {
        if (ways[w] == &way_weir) {
            return values[w];
        }
    }
    return NAN;
}

static void print_verdict_of(const struct column *column, const double *values)
{
    static const char *const signs[] = {[AT_LEAST] = ">= ", [AT_MOST] = "<= ", [NEAR] = "1 +- "};
    double weir = of_weir(values);
    int best = best_opponent(column, values);
    printf("| %s | %s%.4g | ", column->target_name, signs[column->sense], column->target);
    print_value(weir, column->form);
    printf(" | ");
    print_value(values[best], column->form);
    printf(" (%s) | %s |\n", ways[best]->name,
           !is_met(column, weir)                                     ? "**missed**"
           : distance(column, weir) > distance(column, values[best]) ? "met, not the best"
                                                                     : "met");
}

static void print_verdict(void)
{
    printf("### What the gate must come to, and what it does\n\n"
           "| measure | must be | weir | best of the others | |\n|---|---:|---:|---:|---|\n");
    for (int t = 0; t < tables_count; t++) {
        for (int c = 0; c < columns_of(&tables[t]); c++) {
            if (tables[t].columns[c].sense != NO_TARGET) {
                print_verdict_of(&tables[t].columns[c], cells[t][c]);
            }
        }
    }
    printf("\n");
}

void tables_print(int seeds)
{
    for (int t = 0; t < tables_count; t++) {
        play_table(t, seeds);
    }
    print_verdict();
    for (int t = 0; t < tables_count; t++) {
        print_table(t);
    }
}
