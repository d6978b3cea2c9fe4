// SPDX-License-Identifier: Apache-2.0
//
// The last lines of the log as documents of the collection `log`.

#ifndef PROXY_ADMIN_LOG_LINES_H
#define PROXY_ADMIN_LOG_LINES_H

#include "proxy/admin/state.h"

void log_lines_put(struct picture *picture);

#endif
