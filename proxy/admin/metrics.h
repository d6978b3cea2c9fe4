// SPDX-License-Identifier: Apache-2.0
//
// A picture in Prometheus' text format:
// https://prometheus.io/docs/instrumenting/exposition_formats/

#ifndef PROXY_ADMIN_METRICS_H
#define PROXY_ADMIN_METRICS_H

#include "proxy/admin/state.h"

// Of the collections that have metrics.
#define METRICS_COLLECTIONS                                                                        \
    (STATE_BIT(STATE_totals) | STATE_BIT(STATE_servers) | STATE_BIT(STATE_times) |                 \
     STATE_BIT(STATE_tenants) | STATE_BIT(STATE_fleet) | STATE_BIT(STATE_rules))

void metrics_print(const struct picture *picture, struct buffer *out);

#endif
