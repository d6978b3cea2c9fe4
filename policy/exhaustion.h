// SPDX-License-Identifier: Apache-2.0
//
// When permits run out, as an event with a begin and an end. To wait for a moment is ordinary, also
// while everybody does; a refusal begins an event, or somebody who has waited for
// EXHAUSTION_WAIT_US, not because the limit probes; it ends when neither was seen for
// EXHAUSTION_QUIET_US. While it lasts, one notice every
// EXHAUSTION_STILL_US. Waiting for a server that is not there, and being refused for it, is no
// exhaustion. Pure: fed with the gate's counts, returns what to report.

#ifndef POLICY_EXHAUSTION_H
#define POLICY_EXHAUSTION_H

#include "policy/gate.h"

#define EXHAUSTION_WAIT_US 1000000
#define EXHAUSTION_QUIET_US 2000000
#define EXHAUSTION_STILL_US 10000000

enum exhaustion_notice { EXHAUSTION_NOTHING, EXHAUSTION_BEGIN, EXHAUSTION_STILL, EXHAUSTION_END };

// All-zero is a valid one.
struct exhaustion {
    bool going_on;
    bool standing;          // requests wait for permits
    int64_t waits_since_us; // the oldest that may still go, the server being there
    int64_t probed_us;      // the limit did last
    int64_t begun_us;
    int64_t last_seen_us;
    int64_t last_notice_us;
    int64_t longest_wait_us;                // in this event, as far as updates saw it
    uint64_t refused_before[REFUSAL_COUNT]; // totals before the begin
    uint64_t refused_seen[REFUSAL_COUNT];
};

// To be called with the counts of now_us soon after a request was queued or refused, and often
// while an event goes on or a queue stands. What it says about an
// event that has ended stays readable until the next begins.
enum exhaustion_notice exhaustion_update(struct exhaustion *exhaustion,
                                         const struct gate_counts *counts, int64_t now_us);

// Instead of it, of a server that has left: what goes on has ended.
enum exhaustion_notice exhaustion_stop(struct exhaustion *exhaustion);

// What was refused for a reason since the event began, the refusal that began it included.
uint64_t exhaustion_refused(const struct exhaustion *exhaustion, enum refusal refusal);

#endif
