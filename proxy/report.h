// SPDX-License-Identifier: Apache-2.0
//
// What all workers together have done and have under way: each adds its own, on its own thread; the
// last one logs.

#ifndef PROXY_REPORT_H
#define PROXY_REPORT_H

struct report;
struct worker;

// For `parts` additions; it frees itself with the last.
struct report *report_new(int parts);

void report_add(struct report *report, struct worker *worker);

#endif
