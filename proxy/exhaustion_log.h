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
    char user[64]; // who has logged in
    char peer[64];
    char namespace[160];
    uint64_t client_id;
    int64_t age_us;
};

struct exhaustion_report {
    struct mail mail; // to the observer
    enum exhaustion_notice notice;
    uint32_t server_id;
    char server[280];
    struct exhaustion exhaustion;
    struct gate_counts counts;
    struct gate_majority majority;
    uint64_t shed_for_good; // see struct server
    const char *ended;      // how, at its end; else NULL
    int holder_count;
    struct holder holders[EXHAUSTION_HOLDERS]; // longest first
};

// Under the server's lock: brings the event up to date and copies what a line would say.
void exhaustion_look(struct server *server, struct exhaustion_report *ret_report, int64_t now_us);

// Likewise: what is so just now, without bringing the event up to date.
void exhaustion_peek(struct server *server, struct exhaustion_report *ret_report, int64_t now_us);

// Without it: a report whose notice is not EXHAUSTION_NOTHING is logged, by the observer if there
// is one.
void exhaustion_tell(const struct exhaustion_report *report, struct worker *worker, int64_t now_us);

// Of an event that goes on, or ended, at until_us. `id` and `verdict` are of its record, NULL if
// there is none.
void exhaustion_log(const struct exhaustion_report *report, const char *id, const char *verdict,
                    int64_t until_us);

#endif
