// SPDX-License-Identifier: Apache-2.0
//
// What others see of a server: nothing here changes what becomes of a request.
#include <stdio.h>
#include <string.h>

#include "proxy/exhaustion_log.h"
#include "proxy/request.h"
#include "proxy/server.h"
#include "proxy/servers.h"
#include "proxy/upstream.h"

static int count_idle(const struct server *server)
{
    int count = 0;
    for (int i = 0; i < server->servers->worker_count; i++) {
        for (const struct upstream *at = server->idle[i]; at; at = at->idle_next) {
            count++;
        }
    }
    return count;
}

void server_count(struct server *server, int64_t now_us, struct server_counts *ret_counts)
{
    pthread_mutex_lock(&server->lock);
    *ret_counts = (struct server_counts){
        .waiters = server->waiter_count,
        .cap = server->ledger.cap,
        .opening = server->ledger.opening,
        .open = server->ledger.open,
        .idle = count_idle(server),
        .kind = server->info.kind,
        .known = server->known,
        .failing = server->failing,
        .away = server->info.away,
        .failure = server->failure,
        .exhausted = server->exhaustion.going_on,
        .exhausted_us = server->exhaustion.going_on ? now_us - server->exhaustion.begun_us : 0,
        .opened = server->opened,
        .open_failures = server->open_failures,
        .exhaustions = server->exhaustions,
    };
    gate_count(server->gate, now_us, &ret_counts->gate);
    pthread_mutex_unlock(&server->lock);
}

enum lane server_lane(struct server *server, const struct request *request)
{
    pthread_mutex_lock(&server->lock);
    enum lane lane = request->ticket.lane;
    pthread_mutex_unlock(&server->lock);
    return lane;
}

static void copy_shape(const struct shape *shape, struct shape_copy *copy)
{
    *copy = (struct shape_copy){
        .id = shape->id,
        .users = shape->users,
        .slow = shape_is_slow(shape),
        .count = shape->count,
        .waited_us = shape->waited_us,
        .held_us = shape->held_us,
    };
    snprintf(copy->label, sizeof copy->label, "%s", shape->label ? shape->label : "");
}

size_t server_copy_shapes(struct server *server, size_t first, size_t count,
                          struct shape_copy *ret_shapes)
{
    size_t copied = 0;
    pthread_mutex_lock(&server->lock);
    size_t all = shapes_count(server->shapes);
    for (; copied < count && first + copied < all; copied++) {
        copy_shape(shapes_at(server->shapes, first + copied), &ret_shapes[copied]);
    }
    pthread_mutex_unlock(&server->lock);
    return copied;
}

// --- the flight recorder ------------------------------------------------------------------------

static void record_shapes(struct server *server, struct recorder *recorder, int64_t now_us)
{
    static _Thread_local int64_t running_us[SERVER_SHAPES_MAX];
    memset(running_us, 0, sizeof running_us);
    for (const struct ticket *at = gate_oldest(server->gate); at; at = at->next) {
        size_t place = shapes_place(server->shapes, at->shape);
        if (place < SERVER_SHAPES_MAX) {
            running_us[place] += now_us - at->granted_us;
        }
    }
    for (size_t i = 0; i < shapes_count(server->shapes); i++) {
        recorder_shape(recorder, i, shapes_at(server->shapes, i), running_us[i]);
    }
}

static void record_tenants(struct server *server, struct recorder *recorder, int64_t now_us)
{
    if (now_us - server->tenants_marked_us >= HELD_LATELY_US / TENANTS_MARKS) {
        server->tenants_marked_us = now_us;
        tenants_mark(&server->tenants);
    }
    for (int i = 0; i < DEMAND_PLACES; i++) {
        const struct demand_tenant *tenant = &server->demand.tenants[i];
        recorder_tenant(recorder, (size_t)i, server->demand.ids[i], tenant->arrived,
                        tenant->refused);
    }
    demand_age(&server->demand);
}

void server_record(struct server *server, struct recorder *recorder, struct recorder_totals *totals,
                   int64_t now_us)
{
    totals->lost = atomic_load(&server->lost);
    pthread_mutex_lock(&server->lock);
    gate_count(server->gate, now_us, &totals->gate);
    totals->there = server->known && !server->failing;
    totals->exhausted = server->exhaustion.going_on;
    totals->waiters = server->waiter_count;
    totals->cap = server->ledger.cap;
    totals->open = server->ledger.open;
    totals->opening = server->ledger.opening;
    totals->opened = server->opened;
    totals->open_failures = server->open_failures;
    totals->opening_us = server->opening_us;
    totals->login_us = server->login_us;
    recorder_begin(recorder, totals, now_us);
    record_shapes(server, recorder, now_us);
    record_tenants(server, recorder, now_us);
    recorder_end(recorder);
    pthread_mutex_unlock(&server->lock);
}

bool server_peek(struct server *server, struct exhaustion_report *ret_report, int64_t now_us)
{
    pthread_mutex_lock(&server->lock);
    bool going_on = server->exhaustion.going_on;
    exhaustion_peek(server, ret_report, now_us);
    pthread_mutex_unlock(&server->lock);
    return going_on;
}

void server_copy_demand(struct server *server, struct demand *ret_demand)
{
    pthread_mutex_lock(&server->lock);
    *ret_demand = server->demand;
    pthread_mutex_unlock(&server->lock);
}

void server_copy_tenants(struct server *server, struct tenants *ret_tenants,
                         int ret_in_flight[TENANTS_PLACES])
{
    memset(ret_in_flight, 0, TENANTS_PLACES * sizeof *ret_in_flight);
    pthread_mutex_lock(&server->lock);
    *ret_tenants = server->tenants;
    for (const struct ticket *at = gate_oldest(server->gate); at; at = at->next) {
        ret_in_flight[request_of_ticket(at)->tenant_place]++;
    }
    pthread_mutex_unlock(&server->lock);
}

bool server_copy_label(struct server *server, uint64_t shape, char ret_label[SERVER_LABEL_BYTES])
{
    bool found = false;
    pthread_mutex_lock(&server->lock);
    for (size_t i = 0; i < shapes_count(server->shapes) && !found; i++) {
        const struct shape *at = shapes_at(server->shapes, i);
        found = at->id == shape && at->label;
        if (found) {
            snprintf(ret_label, SERVER_LABEL_BYTES, "%s", at->label);
        }
    }
    pthread_mutex_unlock(&server->lock);
    return found;
}
