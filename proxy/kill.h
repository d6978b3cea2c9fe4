// SPDX-License-Identifier: Apache-2.0
//
// An order to end an operation on its server, and what the log says of it.

#ifndef PROXY_KILL_H
#define PROXY_KILL_H

#include <stdbool.h>
#include <stdint.h>

#include "proxy/control/errands.h"

struct kill {
    struct errand errand;
    char server[280];
    int64_t connection; // by the server's own count, whose operation it is; 0: not known
    bool has_session;
    uint8_t session_id[16];
    int64_t asked_us; // when it was seen under way, monotonic
    // For the log.
    const char *why; // static
    int64_t client;
    char app_name[48];
    char namespace[256];
    char shape[256];
    int64_t age_us;
};

// Logs how it was killed, or, with NULL, why it was not.
void kill_log(const struct kill *kill, const char *how, const char *failure, int64_t now_us);

#endif
