// SPDX-License-Identifier: Apache-2.0
//
// The rules in force, in their order, and whether there is an emergency: what the file says at the
// start, and what `weir ctl` says since. Each change makes a set that is published, at once and as
// a whole; what is refused changes nothing.
//
//      live rules, the newest first | rules of the file, as written | live rules added as last
//
// For one thread at a time.

#ifndef PROXY_ADMIN_RULEBOOK_H
#define PROXY_ADMIN_RULEBOOK_H

#include <stdbool.h>
#include <stdint.h>

#include "policy/rules.h"
#include "proxy/config.h"
#include "proxy/rule_text.h"

enum { RULEBOOK_NOTE_BYTES = 128 };

struct emergency {
    bool on;
    int64_t since_us;
    int64_t ends_us; // 0: when it is switched off
    char by[RULEBOOK_NOTE_BYTES];
    char why[RULEBOOK_NOTE_BYTES];
};

// Who is told of each change; takes the reference.
struct rulebook_reader {
    void (*changed)(void *arg, struct rules *rules, const struct emergency *emergency);
    void *arg;
};

struct rulebook;

// Publishes what the file says. The configuration was checked, and is borrowed for the call.
struct rulebook *rulebook_new(const struct config *config, struct rulebook_reader reader);
void rulebook_free(struct rulebook *book);

// Publishes what the file says now in the place of what it said; live rules and an emergency stay.
// A rule that says the same as one before goes on as that, with its counts. False: with the live
// ones they would be too many, and nothing has changed.
bool rulebook_read_anew(struct rulebook *book, const struct config *config);

// Adds a live rule, and takes what the spec holds over. Returns its id; 0 if it is refused, with
// the reason.
int64_t rulebook_add(struct rulebook *book, struct rule_spec *spec, const char *by, int64_t now_us,
                     char ret_reason[OPTION_REASON_BYTES]);

// False: there is none of that id.
bool rulebook_remove(struct rulebook *book, int64_t id, const char *by, int64_t now_us);

// lasts_us 0: until it is switched off. In an emergency already: it goes on, by other words, and
// with lasts_us 0 to the end that it had.
void rulebook_begin_emergency(struct rulebook *book, const char *by, const char *why,
                              int64_t lasts_us, int64_t now_us);

// False: there is none.
bool rulebook_end_emergency(struct rulebook *book, const char *by, int64_t now_us);

// Takes out what has ended. Returns when to call it again; INT64_MAX: never.
int64_t rulebook_tick(struct rulebook *book, int64_t now_us);

const struct emergency *rulebook_emergency(const struct rulebook *book);

// The rule at a place from 0 on, in the order in which they are asked; NULL after the last.
const struct rule *rulebook_at(const struct rulebook *book, size_t place);

// Calls a function for each live rule and what it was made of, in an order in which they can be
// added again.
void rulebook_each_live(const struct rulebook *book,
                        void (*tell)(void *arg, const struct rule *rule,
                                     const struct rule_spec *spec),
                        void *arg);

// The rule of an id; NULL if there is none.
const struct rule *rulebook_find(const struct rulebook *book, int64_t id);

#endif
