// SPDX-License-Identifier: Apache-2.0
//
// The last 15 minutes of each server as the dashboard draws them, so that who opens it after the
// fact has the spike: the flight recorders (chronicle.h), as JSON. On the observer's thread.

#ifndef PROXY_ADMIN_HISTORY_H
#define PROXY_ADMIN_HISTORY_H

#include "proxy/admin/chronicle.h"
#include "wire/buffer.h"

// All seconds there are, or the last one alone. {"second": N, "times": [seconds since 1970],
// "servers": [{"_id": host:port, "cap": [...], ...}]}, where each list is as long as `times`. A
// second in which a server was not there has cap 0.
void history_print(const struct chronicle *chronicle, bool last_only, struct buffer *out);

#endif
