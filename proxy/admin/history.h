// SPDX-License-Identifier: Apache-2.0
//
// The last 15 minutes of each server, a point a second, so that the dashboard of somebody who opens
// it after the fact has the spike. One thread has it: the observer's.
//
//      points:  | … | second - 1 | second | second - 899 | … |      a ring, one for each server
//
// Bounded: HISTORY_SERVERS at one time; those beyond are not drawn.

#ifndef PROXY_ADMIN_HISTORY_H
#define PROXY_ADMIN_HISTORY_H

#include <stdint.h>

#include "proxy/servers.h"
#include "wire/buffer.h"

#define HISTORY_SECONDS 900
#define HISTORY_SERVERS 16

struct history;

struct history *history_new(void);
void history_free(struct history *history);

// Takes the next second's point of each server. `time_s` is the clock on the wall's.
void history_sample(struct history *history, struct servers *servers, int64_t now_us,
                    int64_t time_s);

// The number of the last second, from 1 on.
uint64_t history_second(const struct history *history);

// As JSON: all seconds there are, or (points) the last one. {"second": N, "times": [seconds since
// 1970], "servers": [{"_id": host:port, "cap": [...], ...}]}, where each list is as long as
// `times`. A second in which a server was not there has cap 0.
void history_print(const struct history *history, bool last_only, struct buffer *out);

#endif
