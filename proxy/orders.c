// SPDX-License-Identifier: Apache-2.0

#include "proxy/orders.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proxy/log.h"
#include "proxy/mem.h"
#include "proxy/reload.h"
#include "proxy/succession.h"
#include "proxy/trouble.h"
#include "proxy/weir_inner.h"

#define ORDER_PAUSES 5000 // of 1 ms

// --- rules --------------------------------------------------------------------------------------

static bool all_have_seen(const struct weir *weir, uint64_t generation)
{
    for (int i = 0; i < weir->worker_count; i++) {
        if (atomic_load(&weir->workers[i]->seen_rules) < generation) {
            return false;
        }
    }
    return true;
}

// Each worker gets a reference of its own.
void orders_rules_changed(void *arg, struct rules *rules, const struct emergency *emergency)
{
    struct weir *weir = arg;
    servers_restrain(weir->shared.servers, emergency->on);
    uint64_t generation = ++weir->rules_generation;
    pthread_mutex_lock(&weir->posting);
    for (int i = 0; i < weir->worker_count && !weir->ending; i++) {
        struct rules_mail *mail = xcalloc(1, sizeof *mail);
        mail->rules = rules_keep(rules);
        mail->generation = generation;
        worker_post(weir->workers[i], &mail->mail, MAIL_RULES);
    }
    pthread_mutex_unlock(&weir->posting);
    observer_tell_rules(weir->observer, rules, emergency);
    rules_drop(rules);
    if (weir->rulebook) { // else the workers do not run yet
        weir_wait_for_workers(weir, all_have_seen, generation);
    }
}

static void take_turn(void *arg)
{
    reload_read_rules(arg);
    succession_pass_orders(arg);
}

// --- what weir is like --------------------------------------------------------------------------

struct status {
    bson_t servers;
    int64_t now_us;
};

static void append_counts(const struct server_counts *counts, bson_t *item)
{
    char trouble[TROUBLE_BYTES];
    trouble_say(counts, trouble);
    BSON_APPEND_INT64(item, "cap", counts->cap);
    BSON_APPEND_INT64(item, "inFlight", counts->gate.in_flight);
    BSON_APPEND_INT64(item, "limit", counts->gate.limit);
    BSON_APPEND_INT64(item, "inFlightSlow", counts->gate.in_flight_slow);
    BSON_APPEND_INT64(item, "slowLimit", counts->gate.slow_limit);
    BSON_APPEND_INT64(item, "waiting", (int64_t)counts->gate.queued);
    BSON_APPEND_INT64(item, "shed", (int64_t)gate_counts_refused(&counts->gate));
    BSON_APPEND_UTF8(item, "trouble", trouble);
    BSON_APPEND_DOUBLE(item, "exhaustedFor", (double)counts->exhausted_us / 1e6);
    BSON_APPEND_INT64(item, "waitingForUpstream", counts->waiters);
    BSON_APPEND_INT64(item, "upstreamsOpening", counts->opening);
    BSON_APPEND_INT64(item, "upstreamsOpen", counts->open);
    BSON_APPEND_INT64(item, "upstreamsIdle", counts->idle);
}

static void append_server(struct server *server, void *arg)
{
    struct status *status = arg;
    bson_t *list = &status->servers;
    struct server_counts counts;
    bson_t item;
    char buffer[16];
    const char *key;
    if (atomic_load(&server->is_gone)) {
        return;
    }
    server_count(server, status->now_us, &counts);
    bson_uint32_to_string(bson_count_keys(list), &key, buffer, sizeof buffer);
    BSON_APPEND_DOCUMENT_BEGIN(list, key, &item);
    BSON_APPEND_UTF8(&item, "server", server->name[0] ? server->name : "(none that suits)");
    if (server->name[0]) { // the lobby has a queue and nothing else
        append_counts(&counts, &item);
    } else {
        BSON_APPEND_INT64(&item, "waiting", (int64_t)counts.gate.queued);
    }
    bson_append_document_end(list, &item);
}

// What event=state says, but for what only workers know.
static void tell_status(void *arg, int64_t now_us, bson_t *reply)
{
    struct weir *weir = arg;
    struct shared *shared = &weir->shared;
    struct status status = {.now_us = now_us};
    BSON_APPEND_BOOL(reply, "draining", atomic_load(&shared->draining));
    BSON_APPEND_INT64(reply, "clients", workers_count_clients(weir->workers, weir->worker_count));
    BSON_APPEND_INT64(reply, "pins", (int64_t)affinity_count(&shared->affinity));
    BSON_APPEND_INT64(reply, "bufferedBytes", (int64_t)atomic_load(&shared->budget.used));
    BSON_APPEND_ARRAY_BEGIN(reply, "servers", &status.servers);
    servers_visit(shared->servers, append_server, &status);
    bson_append_array_end(reply, &status.servers);
}

// --- orders -------------------------------------------------------------------------------------

void orders_done(struct weir *weir, struct main_order *order, unsigned wanted, bool good,
                 const char *said)
{
    pthread_mutex_lock(&weir->posting);
    snprintf(order->said, sizeof order->said, "%s", said);
    pthread_mutex_unlock(&weir->posting);
    atomic_store(&order->good, good);
    atomic_store(&order->done, wanted);
}

void orders_upgraded(struct weir *weir, bool good, const char *said)
{
    orders_done(weir, &weir->upgrade, atomic_load(&weir->upgrade.wanted), good, said);
    control_socket_call(weir->control_socket);
}

static bool is_done(struct weir *weir, struct main_order *order, bool *ret_good,
                    char ret_said[CONTROL_SAID_BYTES])
{
    if (atomic_load(&order->done) < atomic_load(&order->wanted)) {
        return false;
    }
    pthread_mutex_lock(&weir->posting);
    snprintf(ret_said, CONTROL_SAID_BYTES, "%s", order->said);
    pthread_mutex_unlock(&weir->posting);
    *ret_good = atomic_load(&order->good);
    return true;
}

// It may have to ask a name server.
static bool order_reload(void *arg, char ret_said[CONTROL_SAID_BYTES])
{
    static const struct timespec pause = {.tv_nsec = 1000000};
    struct weir *weir = arg;
    bool good = false;
    atomic_fetch_add(&weir->reload.wanted, 1);
    kill(getpid(), ORDER_SIGNAL);
    for (int i = 0; i < ORDER_PAUSES; i++) {
        if (is_done(weir, &weir->reload, &good, ret_said)) {
            return good;
        }
        take_turn(weir);
        nanosleep(&pause, NULL);
    }
    snprintf(ret_said, CONTROL_SAID_BYTES, "it takes long; the log will say what came of it");
    return false;
}

// It takes as long as another process needs to start, and to find the deployment.
static void order_upgrade(void *arg, int64_t within_us)
{
    struct weir *weir = arg;
    atomic_fetch_add(&weir->upgrade.wanted, 1);
    atomic_store(&weir->upgrade_order_us, within_us);
    kill(getpid(), ORDER_SIGNAL);
}

static bool is_upgraded(void *arg, bool *ret_good, char ret_said[CONTROL_SAID_BYTES])
{
    struct weir *weir = arg;
    return is_done(weir, &weir->upgrade, ret_good, ret_said);
}

// The main thread does it.
static void order_drain(void *arg, int64_t within_us)
{
    struct weir *weir = arg;
    atomic_store(&weir->drain_order_us, within_us);
    kill(getpid(), ORDER_SIGNAL);
}

static bool kill_all(void *arg, const struct cull_wish *wish, struct cull_counts *ret_counts)
{
    struct weir *weir = arg;
    return cull_end(cull_begin(weir->workers, weir->worker_count, wish), ret_counts);
}

static struct server_bounds tell_bounds(void *arg)
{
    struct weir *weir = arg;
    return servers_bounds(weir->shared.servers);
}

static void set_cap(void *arg, int cap)
{
    struct weir *weir = arg;
    (void)servers_set_cap(weir->shared.servers, NULL, cap);
}

static void set_limit(void *arg, int limit)
{
    struct weir *weir = arg;
    servers_set_limit(weir->shared.servers, limit);
}

static void pause_servers(void *arg, bool paused)
{
    struct weir *weir = arg;
    servers_pause(weir->shared.servers, paused);
}

struct control_desk orders_desk(struct weir *weir)
{
    return (struct control_desk){
        .book = weir->rulebook,
        .tell_status = tell_status,
        .reload = order_reload,
        .drain = order_drain,
        .upgrade = order_upgrade,
        .is_upgraded = is_upgraded,
        .kill = kill_all,
        .tell_bounds = tell_bounds,
        .set_cap = set_cap,
        .set_limit = set_limit,
        .pause = pause_servers,
        .take_turn = take_turn,
        .arg = weir,
    };
}
