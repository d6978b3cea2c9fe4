// SPDX-License-Identifier: Apache-2.0
//
// What `weir top` tells, computed from two answers to the order "state": numbers, and panes of
// records. Pure: the screen and --json are made of the same figures by the same table.
//
//      state before ---.
//                      +--> struct figures --> screen.c | figures_append
//      state now    ---'

#ifndef PROXY_TOP_FIGURES_H
#define PROXY_TOP_FIGURES_H

#include <bson/bson.h>
#include <stdbool.h>
#include <stddef.h>

enum { CELLS_MAX = 10, FIGURES_ID_BYTES = 24 };

enum cell_kind { CELL_TEXT, CELL_COUNT, CELL_RATE, CELL_RATIO, CELL_SECONDS };

struct column {
    const char *field; // in JSON
    const char *title; // on the screen
    enum cell_kind kind;
    int width; // on the screen; 0: what is left
    bool wide; // shown only where there is room
};

enum pane_id { PANE_SERVERS, PANE_SHAPES, PANE_APPS, PANE_TENANTS, PANE_HOLDERS, PANE_COUNT };

struct pane {
    const char *name;  // in JSON
    const char *title; // on the screen
    int column_count;
    struct column columns[CELLS_MAX]; // sorted by the first that has numbers
};

extern const struct pane panes[PANE_COUNT];

struct cell {
    double number;
    const char *text;
};

struct record {
    const char *id;    // of no other record of the pane
    const char *shape; // its shape's id in the pane of shapes; NULL: not known
    struct cell cells[CELLS_MAX];
};

struct records {
    struct record *at;
    size_t count;
    size_t shown; // the first of them, when they have been arranged
};

struct quantiles {
    double p50;
    double p99;
};

// This weir's part in its fleet.
struct fleet_figures {
    const char *state; // NULL: it is in none
    bool store_up;
    double allowed, cap, held, need;
    double members, held_by_all;
    double last_answer_s;
};

// The exhaustion that goes on, or else the latest.
struct exhaustion_seen {
    const char *id; // NULL: there has been none
    const char *server;
    const char *cause;
    const char *verdict;
    double lasted_s;
    double ended_s; // ago
    bool going_on;
};

struct figures {
    const char *version;
    double pid;
    double up_s;
    double clients;
    bool emergency;
    double window_s; // 0: there is no state before
    double cap, open, idle;
    double limit, in_flight, slow, streams;
    double waiting, longest_wait_s;
    double exhausted;    // servers
    const char *trouble; // of one that cannot be used; NULL: there is none
    const char *trouble_at;
    struct exhaustion_seen exhaustion;
    double served_rate, shed_rate, failed_rate;
    struct quantiles wait, service;
    struct fleet_figures fleet;
    struct records records[PANE_COUNT];
    char (*request_ids)[FIGURES_ID_BYTES]; // the numbers of requests, as texts
};

// Texts are borrowed from `now`. `before` may be NULL.
void figures_make(struct figures *figures, const bson_t *before, const bson_t *now, double window_s,
                  double time_s);
void figures_fini(struct figures *figures);

// Puts those that have the filter's text in theirs first, sorted by a column.
void figures_arrange(struct figures *figures, enum pane_id pane, int column, bool ascending,
                     const char *filter);

// The record of an exhaustion in a state, so many after the one of the id, or the last that way;
// borrowed. False: there is no record of that id.
bool figures_find_exhaustion(const bson_t *state, const char *id, int after, bson_t *ret_record);

void figures_append(const struct figures *figures, bson_t *document);

// The pid and the start of the weir that answered: what tells one that was started anew.
double figures_epoch(const bson_t *state);

#endif
