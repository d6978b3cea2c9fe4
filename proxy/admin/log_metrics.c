// SPDX-License-Identifier: Apache-2.0

#include "proxy/admin/log_metrics.h"

#include <stdio.h>
#include <stdlib.h>

#include "proxy/admin/spread.h"
#include "proxy/log.h"
#include "proxy/mem.h"

// Of all servers together. What streams is left out of the times: it waits for what may come.
struct figures {
    int64_t open;
    int64_t in_flight;
    int64_t waiting;
    int64_t refused;
    int64_t connection_errors;
    struct spread wait;
    struct spread service;
};

struct log_metrics {
    struct figures before;
};

struct log_metrics *log_metrics_new(void)
{
    return xcalloc(1, sizeof(struct log_metrics));
}

void log_metrics_free(struct log_metrics *metrics)
{
    free(metrics);
}

struct sum {
    const struct gathering *gathering;
    struct figures figures;
    int64_t now_us;
};

static void add_traffic(struct figures *figures, const struct traffic *traffic)
{
    for (int class = 0; class < TRAFFIC_CLASS_COUNT; class ++) {
        if (class != TRAFFIC_STREAM) {
            const struct traffic_times *times = traffic->classes[class].times;
            spread_add(&figures->wait, &times[MEASURE_WAITED_US]);
            spread_add(&figures->service, &times[MEASURE_SERVED_US]);
        }
    }
}

static void add_server(struct server *server, void *arg)
{
    struct sum *sum = arg;
    struct server_counts counts;
    server_count(server, sum->now_us, &counts);
    sum->figures.open += counts.open;
    sum->figures.in_flight += counts.gate.in_flight;
    sum->figures.waiting += (int64_t)counts.gate.queued + counts.waiters;
    sum->figures.connection_errors += (int64_t)counts.open_failures;
    sum->figures.refused += (int64_t)gate_counts_refused(&counts.gate);
    for (int i = 0; i < sum->gathering->worker_count; i++) {
        add_traffic(&sum->figures, &server->traffic[i]);
    }
}

// What was counted since then. A server that is gone has taken its counts along: then it is all.
static void subtract(struct spread *spread, const struct spread *before)
{
    for (int i = 0; i < TRAFFIC_BUCKETS; i++) {
        if (spread->buckets[i] < before->buckets[i]) {
            return;
        }
    }
    spread_subtract(spread, before);
}

static int64_t since(int64_t now, int64_t before)
{
    return now >= before ? now - before : now;
}

static void log_times(struct log_line *line, const char *name, const struct spread *spread)
{
    static const struct {
        const char *suffix;
        double quantile;
    } quantiles[] = {{"p50", 0.5}, {"p99", 0.99}};
    for (size_t i = 0; i < sizeof quantiles / sizeof quantiles[0]; i++) {
        char key[48];
        char value[32];
        snprintf(key, sizeof key, "measure#weir.%s.%s", name, quantiles[i].suffix);
        snprintf(value, sizeof value, "%.3fms",
                 1e3 * spread_quantile(spread, quantiles[i].quantile));
        log_str(line, key, value);
    }
}

void log_metrics(struct log_metrics *metrics, const struct gathering *gathering, int64_t now_us)
{
    struct sum sum = {.gathering = gathering, .now_us = now_us};
    servers_visit(gathering->shared->servers, add_server, &sum);
    const struct figures *now = &sum.figures;
    const struct figures *before = &metrics->before;
    struct spread wait = now->wait;
    struct spread service = now->service;
    subtract(&wait, &before->wait);
    subtract(&service, &before->service);

    struct log_line line;
    log_begin(&line, LOG_INFO, "metrics");
    log_int(&line, "sample#weir.clients",
            workers_count_clients(gathering->workers, gathering->worker_count));
    log_int(&line, "sample#weir.connections", now->open);
    log_int(&line, "sample#weir.in_flight", now->in_flight);
    log_int(&line, "sample#weir.waiting", now->waiting);
    log_int(&line, "count#weir.requests", (int64_t)spread_count(&service));
    log_int(&line, "count#weir.refused", since(now->refused, before->refused));
    log_int(&line, "count#weir.connection_errors",
            since(now->connection_errors, before->connection_errors));
    log_times(&line, "wait", &wait);
    log_times(&line, "service", &service);
    log_end(&line);
    metrics->before = *now;
}
