// SPDX-License-Identifier: Apache-2.0
//
// Why permits ran out: each known cause, scored from 0 to 1 by its evidence in the flight recorder.
//
//            before                    onset     during
//      |---- ten minutes ----|  |-- until 3 s --|-------- until now or the end --------|
//                                     begin
//
// What is usual is what the time before was like, but for other exhaustions in it. Who asked for
// more is looked for in the onset: afterwards retries make everybody ask for more.
//
// What has lasted for less than a second is too young, or was too short, for rates and times to say
// anything. Then a shape is the cause only if nearly all that is in flight is of it.

#ifndef POLICY_VERDICT_H
#define POLICY_VERDICT_H

#include "policy/recorder.h"

//      name                 word for the record
#define CAUSES(X)                                                                                  \
    X(CAUSE_SLOW_SHAPE, "slow_shape")                                                              \
    X(CAUSE_SPIKE, "traffic_spike")                                                                \
    X(CAUSE_LEAK, "leak")                                                                          \
    X(CAUSE_POOLS, "pools_too_large")                                                              \
    X(CAUSE_SLOW_SERVER, "slow_deployment")                                                        \
    X(CAUSE_MEMBER_LOST, "member_lost")                                                            \
    X(CAUSE_SERVER_FULL, "connection_limit")                                                       \
    X(CAUSE_STORM, "connection_storm")

enum cause {
#define X(name, text) name,
    CAUSES(X)
#undef X
        CAUSE_COUNT
};

const char *cause_text(enum cause cause);

#define VERDICT_UNCLEAR 0.25 // the best cause below this explains nothing

struct verdict {
    double scores[CAUSE_COUNT];
    enum cause order[CAUSE_COUNT]; // best first
    struct recorder_span before;
    struct recorder_span onset;
    struct recorder_span during;
    bool is_early;      // it has lasted for too short a time
    bool usual_known;   // there is enough before it to compare with
    double full_before; // the part of all the time before, 0 to 1, in which the limit was reached
    uint64_t shape;     // the one whose part of the held connections grew most
    double part_before;
    double part_during; // 0 to 1
    double mean_before; // of one of its requests, in seconds; 0: there were none
    double mean_during;
    bool mean_so_far;   // none of them was done
    uint64_t tenant;    // the one whose requests grew most
    double rate_before; // a second
    double rate_onset;
    double slowdown; // that at least three quarters of what was held have, against before, no shape
                     // counting for more than all others together; 1: none
    double away; // seconds in which the server was not there, of late before the begin and since
};

// Of an event that began at begun_us, with this majority, and goes on, or ended, at until_us.
void verdict_find(const struct recorder *recorder, const struct gate_majority *majority,
                  int64_t begun_us, int64_t until_us, struct verdict *ret_verdict);

// Whether it is clear what it was.
static inline bool verdict_is_clear(const struct verdict *verdict)
{
    return verdict->scores[verdict->order[0]] >= VERDICT_UNCLEAR;
}

#endif
