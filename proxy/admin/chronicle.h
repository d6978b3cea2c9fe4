// SPDX-License-Identifier: Apache-2.0
//
// The chronicle: each server's flight recorder, and the records of the exhaustions that it had. The
// observer has it, on its thread alone.
//
//      once a second     servers -- counts --> recorders
//      worker -- begin, still, end, by mail --> event: log line, record

#ifndef PROXY_ADMIN_CHRONICLE_H
#define PROXY_ADMIN_CHRONICLE_H

#include "proxy/admin/gather.h"

struct archive;
struct chronicle;
struct exhaustion_report;

// Records of what has ended also go to the archive, if there is one.
struct chronicle *chronicle_new(struct servers *servers, struct archive *archive);
void chronicle_free(struct chronicle *chronicle);

// Once a second.
void chronicle_look(struct chronicle *chronicle, const struct gathering *gathering, int64_t now_us);

// Takes an exhaustion's report down, and logs it.
void chronicle_note(struct chronicle *chronicle, const struct exhaustion_report *report,
                    int64_t now_us);

// The rows of `exhaustions`, oldest first.
void chronicle_put(struct chronicle *chronicle, struct picture *picture, int64_t now_us);

#endif
