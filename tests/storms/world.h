// SPDX-License-Identifier: Apache-2.0
//
// Plays a workload against a contestant: by seed, the same each time.

#ifndef STORMS_WORLD_H
#define STORMS_WORLD_H

#include "contestant.h"
#include "tally.h"

#define USUAL_CAP 100

// Every kind comes `load` times as often as the workload says. The caller calls tally_fini.
// Asserts on the way that nothing is lost: see world_play's end.
void world_play(const struct workload *workload, const struct way *way, int cap, double load,
                uint64_t seed, struct tally *ret_tally);

#endif
