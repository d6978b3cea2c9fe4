// SPDX-License-Identifier: Apache-2.0
//
// One request of an app, on its way:
//
//      AWAY --ask--> QUEUED --granted--> RUNNING (first waits for the disk, then shares the cores)
//       ^              | refused            |
//       +---retry------+--------------------+--> over
//
// An app gives up at the deadline. Of who gives up while it is queued nothing is left; of who gives
// up while it runs, the server does not hear, and works on for nobody.

#ifndef STORMS_REQUEST_H
#define STORMS_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "policy/gate.h"

#define MS INT64_C(1000)
#define S INT64_C(1000000)

enum request_state { AWAY, QUEUED, RUNNING, OVER };

struct request {
    struct ticket ticket; // weir's; first, so that a ticket is its request
    struct request *next; // in a contestant's queue
    struct request *prev;
    int kind; // of the workload's: its shape
    int tenant;
    int user;        // 0 to 127: the user's hash, which DAGOR goes by
    int64_t born_us; // when the user asked for the first time
    int64_t asked_us;
    int64_t granted_us;
    int64_t deadline_us;
    double cpu_us;
    double finish_work; // the server's
    int in_flight;      // how many there were when it was granted, itself counted
    int tries;
    int reloads;
    enum request_state state;
    bool gave_up;
    int refs; // by its deadline, and by where it is
};

#endif
