// SPDX-License-Identifier: Apache-2.0
//
// Makes the documents of a picture. What is under a lock is copied in short sections first.

#ifndef PROXY_ADMIN_GATHER_H
#define PROXY_ADMIN_GATHER_H

#include "proxy/admin/rulebook.h"
#include "proxy/admin/state.h"
#include "proxy/show.h"
#include "proxy/worker.h"

struct chronicle;

struct gathering {
    struct shared *shared;
    struct worker **workers;
    int worker_count;
    struct rules *rules; // in force; NULL before the first
    struct emergency emergency;
    double start_time; // seconds since 1970
    int64_t now_us;
    struct chronicle *chronicle;
};

// Adds what can be had without asking the workers, of the collections asked for.
void gather(const struct gathering *gathering, unsigned collections, struct picture *picture);

// Whether a worker has to be asked for any of these.
bool gather_needs_workers(unsigned collections);

// What a worker has shown; what it was not asked for is empty.
void gather_shown(const struct show *show, struct picture *picture);

#endif
