// SPDX-License-Identifier: Apache-2.0
//
// Incidents whose cause is known, played in the world of the storms behind weir's gate, with the
// flight recorder beside it; does the verdict name the cause? The server, the users, the gate, the
// queue and the retries are those of the storms. What that world does not have (connections of
// apps, what they leave open) the script of an incident tells the recorder.

#ifndef INCIDENTS_H
#define INCIDENTS_H

#include "policy/verdict.h"
#include "world.h"

// What is so from a time on.
struct told {
    int64_t at_us; // 0: from the start; beyond the first, 0 ends the list
    int clients;
    int accepted_per_s;
    int transactions_idle;
    int refused_pins_per_s;
};

struct incident {
    const char *name;
    enum cause truth;
    enum cause also; // of a mixed one; else the same
    int cap;
    struct workload workload;
    struct told told[4];
};

extern const struct incident incidents[];
extern const int incidents_count;

struct judgement {
    int events;           // exhaustions that began
    double lasted_s;      // the longest one, which is judged
    struct verdict begin; // of the longest
    struct verdict early; // after 10 s, or at its end
    struct verdict final;
};

void incident_play(const struct incident *incident, uint64_t seed, struct judgement *ret_judgement);

#endif
