// SPDX-License-Identifier: Apache-2.0
//
// How many requests a server should be at work on at once: found by what its requests take.
//
//      in flight     |      ________ throughput no longer grows, only latency does
//                    |    _/
//                    |  _/   <- just before the bend, and a little more: the limit
//
// Each shape has its usual time. How much longer than usual all shapes take now, against how much
// longer they did when the server had little to do, is the load. By it, what is in flight is worth
// so many requests that each have the server to themselves (work = in flight / load), which is
// throughput in units of usual time. More in flight that is not more work is what a limit is for:
//
//      limit = 1.25 work + 1.5 sqrt(work)
//
// What "little to do" takes is measured anew every few seconds, by a tenth of a second in which
// only 3/4 of the work is let in. If latency falls then, it was the crowd that made it; if not, the
// server has become slower, or more in flight is worth its while, and the limit may go up.
//
// Pure, as the gate; the caller gives the time.

#ifndef POLICY_LIMIT_H
#define POLICY_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

// What is known of one shape, which embeds it. All-zero: nothing yet.
struct limit_shape {
    float usual; // mean of the logarithm of its times, the load taken out
    uint32_t seen;
    uint32_t window; // the window that it has a place in, if it is the current one
    uint32_t place;
};

#define LIMIT_PLACES 32 // shapes that one window takes into account

struct limit_place {
    struct limit_shape *shape;
    int count;
    double sum; // of logarithms of times
};

struct limit {
    int floor;
    int cap;
    double value;
    double load; // 1: as if unloaded
    double now;  // what shapes take against their usual time, smoothed; a logarithm, as the next
    double unloaded;
    double unloaded_in_flight; // when that was learnt
    // the window
    uint32_t window;
    int64_t began_us;
    int64_t served_us; // the sum
    int64_t in_flight; // the sum over those done
    int done;
    bool hit; // somebody was kept waiting by the limit
    struct limit_place places[LIMIT_PLACES];
    int place_count;
    // the probe
    enum { LIMIT_FREE, LIMIT_DRAINS, LIMIT_PROBES } state;
    double probe_in_flight;
    int64_t probe_began_us;
    int64_t typical_us; // that one took, in the last window
    int64_t probe_us;   // when the next one begins, or this one has to end
    int probes;
    uint64_t chance;
};

// 1 <= floor <= cap. If they are the same the limit is fixed, and only the slowness is found out.
void limit_init(struct limit *limit, int floor, int cap);

// Other bounds from now on; what was learnt stays. A limit that was the cap begins anew where that
// is higher.
void limit_bound(struct limit *limit, int floor, int cap);

// One that is done.
struct limit_sample {
    int64_t sent_us;
    int in_flight; // itself counted
    int held;      // of these, slow ones, which do not come and go with the rest
    bool waiting;  // somebody waits
};
void limit_learn(struct limit *limit, struct limit_shape *shape, const struct limit_sample *sample,
                 int64_t now_us);

// How many may be in flight now, `held` of them slow.
int limit_permits(const struct limit *limit, int held);

// The limit itself, without what a probe takes off it.
int limit_value(const struct limit *limit);

// Whether a probe takes something off it.
bool limit_probes(const struct limit *limit);

// So many times slower than unloaded the server as a whole is, 1 or more.
double limit_slowness(const struct limit *limit);

#endif
