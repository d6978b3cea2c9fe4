// SPDX-License-Identifier: Apache-2.0

#include "proxy/report.h"

#include <pthread.h>
#include <stdlib.h>

#include "proxy/client.h"
#include "proxy/log.h"
#include "proxy/mem.h"
#include "proxy/meter.h"
#include "proxy/worker.h"

struct report {
    pthread_mutex_t lock;
    int parts; // still to come
    struct meter sum;
    int64_t clients;
    int64_t clients_without_backoff;
    int64_t requests;
};

struct report *report_new(int parts)
{
    struct report *report = xcalloc(1, sizeof *report);
    pthread_mutex_init(&report->lock, NULL);
    report->parts = parts;
    meter_init(&report->sum);
    return report;
}

static void log_counts(struct log_line *line, const struct server_counts *counts)
{
    log_int(line, "queued", (int64_t)counts->gate.queued);
    log_int(line, "in_flight", counts->gate.in_flight);
    log_int(line, "limit", counts->gate.limit);
    log_int(line, "cap", counts->gate.cap);
    log_int(line, "waiting_for_upstream", counts->waiters);
    log_int(line, "upstreams_opening", counts->opening);
    log_int(line, "upstreams_open", counts->open);
    log_int(line, "upstreams_idle", counts->idle);
}

static void add_server(void *arg, const struct server *server, const struct server_counts *counts)
{
    struct server_counts *sum = arg;
    sum->gate.queued += counts->gate.queued;
    sum->gate.in_flight += counts->gate.in_flight;
    bool is_server = server->name[0] != '\0'; // and not the lobby
    sum->gate.limit += is_server ? counts->gate.limit : 0;
    sum->gate.cap += is_server ? counts->gate.cap : 0;
    sum->waiters += counts->waiters;
    sum->opening += counts->opening;
    sum->open += counts->open;
    sum->idle += counts->idle;
    struct log_line line;
    log_begin(&line, LOG_INFO, "server_state");
    log_str(&line, "server", is_server ? server->name : "(none that suits)");
    log_counts(&line, counts);
    log_end(&line);
}

// What is held just now, of each server and of all: with nothing to do, all of it but clients, open
// upstreams (which are idle then) and pins is 0. Under load the numbers are of slightly different
// moments.
static void log_state(const struct report *report, struct worker *worker)
{
    struct shared *shared = worker->shared;
    struct server_counts sum = {0};
    servers_count(shared->servers, worker, add_server, &sum);
    struct log_line line;
    log_begin(&line, LOG_INFO, "state");
    log_int(&line, "clients", report->clients);
    log_int(&line, "clients_without_backoff", report->clients_without_backoff);
    log_int(&line, "requests", report->requests);
    log_counts(&line, &sum);
    log_int(&line, "pins", (int64_t)affinity_count(&shared->affinity));
    log_int(&line, "buffered_bytes", (int64_t)atomic_load(&shared->budget.used));
    log_end(&line);
}

// Of those that have said something.
static int64_t count_without_backoff(const struct worker *worker)
{
    int64_t count = 0;
    for (const struct client *client = worker->clients; client; client = client->next) {
        count += client->greeted && !client->backs_off;
    }
    return count;
}

void report_add(struct report *report, struct worker *worker)
{
    pthread_mutex_lock(&report->lock);
    meter_merge(&report->sum, &worker->meter);
    report->clients += atomic_load(&worker->client_count);
    report->clients_without_backoff += count_without_backoff(worker);
    report->requests += worker->request_count;
    bool last = --report->parts == 0;
    pthread_mutex_unlock(&report->lock);
    if (!last) {
        return;
    }
    meter_log(&report->sum);
    log_state(report, worker);
    meter_fini(&report->sum);
    pthread_mutex_destroy(&report->lock);
    free(report);
}
