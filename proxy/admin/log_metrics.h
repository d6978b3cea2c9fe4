// SPDX-License-Identifier: Apache-2.0
//
// The key figures as lines of the log, every log.metrics, for where nobody can scrape (Heroku):
//
//     event=metrics sample#weir.clients=300 count#weir.requests=5120 measure#weir.wait.p99=3.1ms …
//
// sample# is of now, count# since the line before, measure# of what ended since then.

#ifndef PROXY_ADMIN_LOG_METRICS_H
#define PROXY_ADMIN_LOG_METRICS_H

#include "proxy/admin/gather.h"

struct log_metrics;

struct log_metrics *log_metrics_new(void);
void log_metrics_free(struct log_metrics *metrics);

// Logs one line.
void log_metrics(struct log_metrics *metrics, const struct gathering *gathering, int64_t now_us);

#endif
