// SPDX-License-Identifier: Apache-2.0
//
//             refusal, or somebody waited EXHAUSTION_WAIT_US               (seen)
//      quiet ------------------------------------------------------> going on
//            <------------------------------------------------------
//                    neither seen for EXHAUSTION_QUIET_US

#include "policy/exhaustion.h"

#include <assert.h>

static int64_t shorter(int64_t a_us, int64_t b_us)
{
    return a_us < b_us ? a_us : b_us;
}

static bool is_exhaustion(enum refusal refusal)
{
    return refusal != REFUSED_NO_SERVER;
}

// Takes the totals over; whether more was refused than before.
static bool note_refused(struct exhaustion *exhaustion, const struct gate_counts *counts)
{
    bool more = false;
    for (int i = 0; i < REFUSAL_COUNT; i++) {
        more |= is_exhaustion((enum refusal)i) && counts->refused[i] > exhaustion->refused_seen[i];
        exhaustion->refused_seen[i] = counts->refused[i];
    }
    return more;
}

// Whether somebody has waited for long enough.
static bool note_queue(struct exhaustion *exhaustion, const struct gate_counts *counts,
                       int64_t now_us)
{
    int64_t waited_us = shorter(counts->standing_us, counts->longest_wait_us);
    exhaustion->standing = counts->queued > 0 && counts->available;
    exhaustion->waits_since_us = now_us - waited_us;
    if (counts->probes) {
        exhaustion->probed_us = now_us;
    }
    bool probe = !exhaustion->going_on && exhaustion->probed_us > 0 &&
                 now_us - exhaustion->probed_us < EXHAUSTION_WAIT_US;
    return exhaustion->standing && waited_us >= EXHAUSTION_WAIT_US && !probe;
}

static enum exhaustion_notice begin(struct exhaustion *exhaustion, const uint64_t *refused_before,
                                    int64_t longest_wait_us, int64_t now_us)
{
    exhaustion->going_on = true;
    exhaustion->begun_us = exhaustion->standing ? exhaustion->waits_since_us : now_us;
    exhaustion->last_seen_us = now_us;
    exhaustion->last_notice_us = now_us;
    exhaustion->longest_wait_us = longest_wait_us;
    for (int i = 0; i < REFUSAL_COUNT; i++) {
        exhaustion->refused_before[i] = refused_before[i];
    }
    return EXHAUSTION_BEGIN;
}

static enum exhaustion_notice go_on(struct exhaustion *exhaustion, int64_t now_us)
{
    if (now_us - exhaustion->last_seen_us >= EXHAUSTION_QUIET_US) {
        exhaustion->going_on = false;
        return EXHAUSTION_END;
    }
    if (now_us - exhaustion->last_notice_us >= EXHAUSTION_STILL_US) {
        exhaustion->last_notice_us = now_us;
        return EXHAUSTION_STILL;
    }
    return EXHAUSTION_NOTHING;
}

enum exhaustion_notice exhaustion_update(struct exhaustion *exhaustion,
                                         const struct gate_counts *counts, int64_t now_us)
{
    struct exhaustion before = *exhaustion;
    bool refused = note_refused(exhaustion, counts) && counts->available;
    bool waits = note_queue(exhaustion, counts, now_us);
    bool seen = refused || waits;
    if (!exhaustion->going_on) {
        return seen ? begin(exhaustion, before.refused_seen, counts->longest_wait_us, now_us)
                    : EXHAUSTION_NOTHING;
    }
    if (seen) {
        exhaustion->last_seen_us = now_us;
    }
    if (counts->available && counts->longest_wait_us > exhaustion->longest_wait_us) {
        exhaustion->longest_wait_us = counts->longest_wait_us;
    }
    return go_on(exhaustion, now_us);
}

enum exhaustion_notice exhaustion_stop(struct exhaustion *exhaustion)
{
    bool went_on = exhaustion->going_on;
    exhaustion->going_on = false;
    exhaustion->standing = false;
    return went_on ? EXHAUSTION_END : EXHAUSTION_NOTHING;
}

uint64_t exhaustion_refused(const struct exhaustion *exhaustion, enum refusal refusal)
{
    assert(refusal < REFUSAL_COUNT);
    return exhaustion->refused_seen[refusal] - exhaustion->refused_before[refusal];
}
