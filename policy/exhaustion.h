// SPDX-License-Identifier: Apache-2.0
//
// When permits run out, as an event with a begin and an end. A queue that empties within
// EXHAUSTION_STANDING_US is ordinary; a refusal, or a queue that stands that long, begins an event;
// it ends when neither was seen for EXHAUSTION_QUIET_US. While it lasts, one notice every
// EXHAUSTION_STILL_US. Waiting for a server that is not there, and being refused for it, is no
// exhaustion. Pure: fed with the gate's counts, returns what to report.

#ifndef POLICY_EXHAUSTION_H
#define POLICY_EXHAUSTION_H

#include "policy/gate.h"

#define EXHAUSTION_STANDING_US 50000
#define EXHAUSTION_QUIET_US 2000000
#define EXHAUSTION_STILL_US 10000000

enum exhaustion_notice { EXHAUSTION_NOTHING, EXHAUSTION_BEGIN, EXHAUSTION_STILL, EXHAUSTION_END };

// All-zero is a valid one.
struct exhaustion {
    bool going_on;
    bool standing; // requests wait for permits
    int64_t standing_since_us;
    int64_t begun_us;
    int64_t last_seen_us;
    int64_t last_notice_us;
    int64_t longest_wait_us;                // in this event, as far as updates saw it
    uint64_t refused_before[REFUSAL_COUNT]; // totals before the begin
    uint64_t refused_seen[REFUSAL_COUNT];
};

// To be called with the counts of now_us soon after a request was queued or refused, and while an
// event goes on or a queue stands at least every EXHAUSTION_STANDING_US. What it says about an
// event that has ended stays readable until the next begins.
enum exhaustion_notice exhaustion_update(struct exhaustion *exhaustion,
                                         const struct gate_counts *counts, int64_t now_us);

// Instead of it, of a server that has left: what goes on has ended.
enum exhaustion_notice exhaustion_stop(struct exhaustion *exhaustion);

// What was refused for a reason since the event began, the refusal that began it included.
uint64_t exhaustion_refused(const struct exhaustion *exhaustion, enum refusal refusal);

#endif
