// SPDX-License-Identifier: Apache-2.0
//
// One exhaustion of a server, as its record has it: what was seen, and what weir makes of it.

#ifndef PROXY_ADMIN_EVENT_H
#define PROXY_ADMIN_EVENT_H

#include "policy/verdict.h"
#include "proxy/admin/evidence.h"
#include "proxy/admin/owners.h"
#include "proxy/admin/state.h"
#include "proxy/exhaustion_log.h"
#include "proxy/trouble.h"

#define EVENT_SHAPES 8
#define EVENT_TENANTS 8
#define EVENT_OWNERS 8
#define EVENT_SAYS_BYTES 768

struct event {
    size_t number; // from 1
    char id[48];
    uint32_t server_id;
    int64_t begun_us;
    int64_t ended_us;  // 0: it goes on
    double begun_time; // since 1970
    struct exhaustion_report first;
    struct exhaustion_report worst;
    struct exhaustion_report last;
    double worst_time;
    struct demand asked_before; // at the begin
    struct demand asked;
    struct verdict verdict;
    char shapes[EVENT_SHAPES][SERVER_LABEL_BYTES]; // of verdict.during, those that held most
    char shape[SERVER_LABEL_BYTES];                // the verdict's
    char tenant[DEMAND_NAME_BYTES];                // likewise
    struct owners owners;                          // when most was left alone
    struct evidence evidence;
    bool is_calm;                // it is none: what the server is like now
    char trouble[TROUBLE_BYTES]; // of such a one
    bool is_asking;              // for more of it
    bool is_unpublished;         // although it has ended: it waits for that
};

void event_free(struct event *event);

// The word for its best cause, "unclear" if that explains nothing.
const char *event_cause(const struct event *event);

// One cause in a sentence.
void event_say(const struct event *event, enum cause cause, char ret_says[EVENT_SAYS_BYTES]);

// The verdict in a sentence.
void event_verdict(const struct event *event, char ret_says[EVENT_SAYS_BYTES]);

// As a row of `exhaustions`.
void event_put(const struct event *event, struct buffer *out, int64_t now_us);

#endif
