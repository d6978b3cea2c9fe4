// SPDX-License-Identifier: Apache-2.0
//
// The flight recorder of one server: what the last fifteen minutes were like, second by second, so
// that an exhaustion can be compared with what was before it. Nothing is recorded by requests: once
// a second somebody brings what they have counted anyway, and the recorder keeps the differences.
//
//      recorder_begin   gauges and counts of the server as a whole
//      recorder_shape   of each shape, by its place in its table     } the busiest of the second
//      recorder_tenant  likewise of each tenant                      } are kept
//      recorder_end
//
//      recorder_sum     a span of seconds, added up
//
// Takes all of its memory at once. Pure.

#ifndef POLICY_RECORDER_H
#define POLICY_RECORDER_H

#include "policy/gate.h"

#define RECORDER_SECONDS 900
#define RECORDER_TOP 12    // shapes, and tenants, of a second
#define RECORDER_SUMMED 48 // of a span

// What is so now (gauges) and what has been so far (counts).
struct recorder_totals {
    struct gate_counts gate;
    int cap;
    int waiters; // have a permit, need a connection
    int open;
    int opening;
    int clients;
    int cursors; // open in the deployment, and of these those left alone for long
    int cursors_idle;
    int transactions;
    int transactions_idle;
    bool there; // the server
    bool exhausted;
    uint64_t opened;
    uint64_t open_failures;
    uint64_t lost;
    int64_t opening_us; // that the opened ones took, in all
    int64_t login_us;   // of that, to log in
    uint64_t accepted;  // clients
};

// Of a shape or a tenant.
struct recorder_share {
    uint64_t id;
    uint32_t arrived;
    uint32_t done;    // of a tenant: refused
    uint32_t held_ms; // of permits, those in flight included
    uint32_t now;     // waiting or in flight
    uint64_t done_us; // that those done held theirs, whenever that was
};

struct recorder_second {
    int64_t at_us; // its end
    int64_t long_us;
    struct recorder_totals totals;              // its counts are those of this second alone
    uint32_t arrived;                           // at the server
    uint32_t shape_held_ms;                     // of all shapes
    struct recorder_share shapes[RECORDER_TOP]; // unused: all zero
    struct recorder_share tenants[RECORDER_TOP];
};

struct recorder;

// For tables of that many shapes and tenants.
struct recorder *recorder_new(size_t shapes, size_t tenants);
void recorder_free(struct recorder *recorder);

void recorder_begin(struct recorder *recorder, const struct recorder_totals *totals,
                    int64_t now_us);

// Counts are since the shape, or the tenant, has had its place. `running_us`: for how long those in
// flight have held theirs.
void recorder_shape(struct recorder *recorder, size_t place, const struct shape *shape,
                    int64_t running_us);
void recorder_tenant(struct recorder *recorder, size_t place, uint64_t id, uint64_t arrived,
                     uint64_t refused);
void recorder_end(struct recorder *recorder);

// How many seconds there are, and the one that is so many ago, 0 being the latest.
int recorder_count(const struct recorder *recorder);
const struct recorder_second *recorder_ago(const struct recorder *recorder, int ago);

struct recorder_sum_share {
    uint64_t id;
    uint64_t arrived;
    uint64_t done;
    uint64_t held_ms;
    uint64_t done_us;
};

struct recorder_span {
    double seconds;
    double away;      // seconds, of these, in which the server was not there
    double full;      // in which requests waited, or nearly all of the limit was in use
    double in_flight; // means
    double limit;
    double cap;
    double clients;
    double waiting;
    double slowness; // likewise
    uint64_t arrived;
    uint64_t granted;
    uint64_t refused;      // but for want of a server
    uint64_t refused_pins; // of these, for want of a connection that could keep what they open
    uint64_t opened;
    uint64_t open_failures;
    uint64_t lost;
    uint64_t accepted;
    uint64_t held_ms;
    int64_t opening_us;
    int64_t login_us;
    int most_waiting;
    int most_clients;
    int most_waiters;
    int most_cursors_idle;
    int most_transactions_idle;
    int shape_count;
    int tenant_count;
    struct recorder_sum_share shapes[RECORDER_SUMMED];  // those that held most first
    struct recorder_sum_share tenants[RECORDER_SUMMED]; // those that asked most first
};

// The seconds that ended after from_us and not after until_us.
void recorder_sum(const struct recorder *recorder, int64_t from_us, int64_t until_us,
                  struct recorder_span *ret_span);

// Of these, those in which permits had not run out.
void recorder_sum_calm(const struct recorder *recorder, int64_t from_us, int64_t until_us,
                       struct recorder_span *ret_span);

// Seconds that one request of a shape held its permit: of those done, or what is sure of those that
// go on, if that is more.
double recorder_mean(const struct recorder_sum_share *share, const struct recorder_span *span);

// Of a span, the shape or tenant of that id; NULL if it has none.
const struct recorder_sum_share *recorder_find(const struct recorder_sum_share *shares, int count,
                                               uint64_t id);

#endif
