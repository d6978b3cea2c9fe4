// SPDX-License-Identifier: Apache-2.0

#include "proxy/report.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "proxy/mem.h"

struct report {
    pthread_mutex_t lock;
    int parts; // still to come
    struct meter sum;
};

struct report *report_new(int parts)
{
    struct report *report = xcalloc(1, sizeof *report);
    pthread_mutex_init(&report->lock, NULL);
    report->parts = parts;
    meter_init(&report->sum);
    return report;
}

void report_add(struct report *report, const struct meter *meter)
{
    pthread_mutex_lock(&report->lock);
    meter_merge(&report->sum, meter);
    bool last = --report->parts == 0;
    pthread_mutex_unlock(&report->lock);
    if (!last) {
        return;
    }
    meter_log(&report->sum);
    meter_fini(&report->sum);
    pthread_mutex_destroy(&report->lock);
    free(report);
}
