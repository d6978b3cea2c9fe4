// SPDX-License-Identifier: Apache-2.0
//
// Tables of measures: a column is one measure of one workload, a row a contestant. A column that
// there is a target for says so; out of those, the verdict is made.

#ifndef STORMS_TABLE_H
#define STORMS_TABLE_H

#include "world.h"

#define MOST_COLUMNS 10
#define MOST_WAYS 16

enum form { SHARE_OF, FACTOR, SECONDS, MILLISECONDS, NUMBER };
enum sense { NO_TARGET, AT_LEAST, AT_MOST, NEAR };

struct column {
    const char *title;
    const struct workload *workload;
    double load;
    double (*measure)(struct tally *tally, const struct column *column);
    enum form form;
    enum sense sense;
    double target;
    const char *target_name;
    double parameter; // of the measure
};

struct table {
    const char *title;
    const char *about;
    struct column columns[MOST_COLUMNS]; // up to one without a title
};

extern struct table tables[];
extern const int tables_count;

// The fixed limit with which most of the cores go into what is served in time, while a workload is
// measured; and that part.
struct best_fixed {
    int limit;
    double goodput;
};
struct best_fixed best_fixed(const struct workload *workload, double load);

// Plays all and prints Markdown.
void tables_print(int seeds);

#endif
