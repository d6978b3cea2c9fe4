// SPDX-License-Identifier: Apache-2.0
//
// All workers' meters as one: each worker adds its own, on its own thread; the last one logs.

#ifndef PROXY_REPORT_H
#define PROXY_REPORT_H

#include "proxy/meter.h"

struct report;

// For `parts` additions; it frees itself with the last.
struct report *report_new(int parts);

void report_add(struct report *report, const struct meter *meter);

#endif
