// SPDX-License-Identifier: Apache-2.0
//
// The chronicle: each server's flight recorder, and the records of the exhaustions that it had. The
// observer has it, on its thread alone.
//
//      once a second     servers -- counts --> recorders
//      worker -- begin, still, end, by mail --> event: log line, record
//      control <-- inquest -- event;  inquest -- by mail --> event: evidence

#ifndef PROXY_ADMIN_CHRONICLE_H
#define PROXY_ADMIN_CHRONICLE_H

#include "policy/recorder.h"
#include "proxy/admin/gather.h"
#include "proxy/control/consultant.h"

struct archive;
struct chronicle;
struct webhook;
struct exhaustion_report;

// What a server is asked about itself while its permits have run out.
struct inquest {
    struct consult consult;
    struct mail mail; // brings it back
    struct mailbox *back;
    size_t event;   // the number of the one that it is for
    uint64_t shape; // that it asks about
};

// Records of what has ended also go to the archive, if events.path says where, and those of what
// begins or has ended to the webhook, if events.webhook does.
struct chronicle *chronicle_new(struct servers *servers, struct archive *archive,
                                struct webhook *webhook);
void chronicle_free(struct chronicle *chronicle);

// Once a second.
void chronicle_look(struct chronicle *chronicle, const struct gathering *gathering, int64_t now_us);

// The number of the last second, from 1 on, and when one of the last RECORDER_SECONDS was, in
// seconds since 1970.
uint64_t chronicle_second(const struct chronicle *chronicle);
int64_t chronicle_time(const struct chronicle *chronicle, uint64_t second);

// What was recorded of a server since then.
void chronicle_sum(const struct chronicle *chronicle, const struct server *server, int64_t from_us,
                   struct recorder_span *ret_span);

// Calls fn for each recorder, also of servers that have left the deployment of late; its latest
// second has the number `last`.
void chronicle_visit(const struct chronicle *chronicle,
                     void (*fn)(const char *server, const struct recorder *recorder, uint64_t last,
                                void *arg),
                     void *arg);

// Takes an exhaustion's report down, and logs it.
void chronicle_note(struct chronicle *chronicle, const struct exhaustion_report *report,
                    int64_t now_us);

// Takes an inquest that has come back.
void chronicle_hear(struct chronicle *chronicle, struct inquest *inquest, int64_t now_us);

// When weir ends: so does what goes on, and nobody waits for evidence any more. What is reported
// after that is about weir's end, and left out.
void chronicle_close(const struct gathering *gathering, int64_t now_us);

// The rows of `exhaustions`, oldest first.
void chronicle_put(struct chronicle *chronicle, struct picture *picture, int64_t now_us);

// The same of now, for each server: of the exhaustion that goes on, or of none.
void chronicle_put_verdicts(const struct gathering *gathering, struct buffer *out);

#endif
