// SPDX-License-Identifier: Apache-2.0
//
// What became of it all, by when users asked for the first time: what is asked for and served in
// time, however often it was tried, counts once.

#ifndef STORMS_TALLY_H
#define STORMS_TALLY_H

#include "workload.h"

#define BUCKET_US (100 * MS)
#define BUCKETS 1400

struct bucket {
    int offered[KINDS];
    int good[KINDS];
    int lost[KINDS];
    double good_work_us; // of the cores, for requests that were served in time
    int limit;
    int at_server;
};

struct tally {
    struct bucket buckets[BUCKETS];
    int tenant_offered[TENANTS]; // within from_us to until_us, as the rest below
    int tenant_good[TENANTS];
    int executed;      // times that the server took one on
    int served;        // requests answered in time
    int64_t *waits_us; // of those of kind 0 that were granted
    size_t waits;
    size_t waits_room;
    uint64_t digest; // of all that happened, in order
};

void tally_fini(struct tally *tally);
void tally_wait(struct tally *tally, int64_t waited_us);
void tally_digest(struct tally *tally, int64_t now_us, int what);

// All kinds: kind -1.
int tally_offered(const struct tally *tally, int kind, int64_t from_us, int64_t until_us);
int tally_good(const struct tally *tally, int kind, int64_t from_us, int64_t until_us);
int tally_lost(const struct tally *tally, int kind, int64_t from_us, int64_t until_us);

// The part of the server's cores, as many as there are for these times, that went into what was
// served in time. By work, not by number: serving only what is cheap does not make it more.
double tally_goodput(const struct tally *tally, double cores, int64_t from_us, int64_t until_us);

// Of the measured requests of kind 0, from asking to being granted.
double tally_wait_ms(struct tally *tally, double quantile);

// How long after at_us it is until, of those asked in the second that follows, at least 0.95 are
// served; -1: never.
double tally_recovery_s(const struct tally *tally, int64_t at_us, int64_t ends_us);

// Of tenants: so much of what they asked for was served; the least of any of them.
double tally_share(const struct tally *tally, int first, int count);
double tally_least_share(const struct tally *tally, int first, int count);

// The mean limit over a time.
double tally_limit(const struct tally *tally, int64_t from_us, int64_t until_us);

#endif
