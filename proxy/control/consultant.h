// SPDX-License-Identifier: Apache-2.0
//
// Asks a server, by an errand, what the record of an exhaustion needs of it.

#ifndef PROXY_CONTROL_CONSULTANT_H
#define PROXY_CONTROL_CONSULTANT_H

#include "proxy/control/errands.h"
#include "proxy/control/questions.h"

struct consult {
    struct errand errand; // its `done` is the caller's
    char server[280];
    char shape[ANSWER_SHAPE_BYTES]; // what held the connections; "": nothing that is known
    int64_t threshold_us;           // what is a long operation
    bool reached;                   // false: it is down, or no server of the deployment
    struct consultation found;
};

// What `errand.run` is to be.
void consult_run(struct errand *errand, struct errands *errands, const atomic_bool *dismissed);

#endif
