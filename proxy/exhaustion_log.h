// SPDX-License-Identifier: Apache-2.0
//
// What the log says when the permits of a server run out: one line when it begins, some while it
// lasts, one at the end, with those that held the permits longest.

#ifndef PROXY_EXHAUSTION_LOG_H
#define PROXY_EXHAUSTION_LOG_H

#include "proxy/client.h"
#include "proxy/server.h"

#define EXHAUSTION_HOLDERS 5

struct holder {
    char shape[160];
    uint64_t shape_id;
    char app_name[CLIENT_APP_NAME_BYTES];
    char tenant[CLIENT_APP_NAME_BYTES];
    uint64_t client_id;
    int64_t age_us;
};

struct exhaustion_report {
    enum exhaustion_notice notice;
    char server[280];
    struct exhaustion exhaustion;
    struct gate_counts counts;
    uint64_t shed_for_good; // see struct server
    int holder_count;
    struct holder holders[EXHAUSTION_HOLDERS]; // longest first
};

// Under the server's lock: brings the event up to date and copies what a line would say.
void exhaustion_look(struct server *server, struct exhaustion_report *ret_report, int64_t now_us);

// Without it: logs a report whose notice is not EXHAUSTION_NOTHING.
void exhaustion_log(const struct exhaustion_report *report, int64_t now_us);

#endif
