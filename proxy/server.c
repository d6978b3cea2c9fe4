// SPDX-License-Identifier: Apache-2.0

#include "proxy/server.h"

#include <assert.h>
#include <stdlib.h>

#include "policy/defect.h"
#include "proxy/config.h"
#include "proxy/control/control.h"
#include "proxy/exhaustion_log.h"
#include "proxy/log.h"
#include "proxy/mem.h"
#include "proxy/orphans.h"
#include "proxy/request.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"

#define SHAPES_MAX 4096
#define PINS_MAX 100000
#define MAX_OPENING 2 // CMAP's maxConnecting
#define TICK_US 50000 // while there is something to watch

struct server *server_new(const struct config *config, struct worker **workers, int worker_count)
{
    const struct gate_limits limits = {
        .limit = config->max_connections,
        .slow_share = config->slow_share,
        .slow_us = config->slow_op_threshold_us,
        .max_wait_us = config->max_wait_us,
        .server_wait_us = config->server_wait_us,
        .max_queue = (size_t)config->max_queue,
    };
    struct server *server = xcalloc(1, sizeof *server);
    server->config = config;
    server->workers = workers;
    server->worker_count = worker_count;
    pthread_mutex_init(&server->lock, NULL);
    server->gate = gate_new(&limits);
    server->shapes = shapes_new(SHAPES_MAX);
    server->pins = pins_new(PINS_MAX);
    server->ledger = (struct ledger){.cap = config->max_connections, .max_opening = MAX_OPENING};
    server->waiters_end = &server->waiters;
    server->idle = xcalloc((size_t)worker_count, sizeof *server->idle);
    return server;
}

void server_free(struct server *server)
{
    gate_free(server->gate);
    shapes_free(server->shapes);
    pins_free(server->pins);
    pthread_mutex_destroy(&server->lock);
    free(server->idle);
    free(server);
}

static int64_t earlier(int64_t a_us, int64_t b_us)
{
    return a_us < b_us ? a_us : b_us;
}

// --- outcomes: decided under the lock, told after it --------------------------------------------

// Requests that have news, linked by `next`; and whether an upstream is to be opened, its ledger
// entry being made.
struct outcomes {
    struct request *first;
    struct request **end;
    bool open;
    int64_t next_tick_us;
};

static void outcomes_init(struct outcomes *outcomes)
{
    outcomes->first = NULL;
    outcomes->end = &outcomes->first;
    outcomes->open = false;
    outcomes->next_tick_us = INT64_MAX;
}

static void tell(struct outcomes *outcomes, struct request *request, enum request_news news)
{
    request->told = news;
    request->next = NULL;
    *outcomes->end = request;
    outcomes->end = &request->next;
}

// Takes what the lock's section decided to those it concerns. `worker` is the one we run on, and
// the owner of any upstream that is handed out.
static void deliver(struct server *server, struct worker *worker, struct outcomes *outcomes)
{
    struct request *next;
    for (struct request *request = outcomes->first; request; request = next) {
        next = request->next;
        if (request->worker == worker) {
            request_receive_news(request);
            worker_make_ready(worker, request);
            continue;
        }
        if (request->handed) {
            upstream_leave(request->handed);
        }
        enum worker_mail kind = request->told == NEWS_GRANTED ? MAIL_GRANTED : MAIL_REFUSED;
        worker_post(request->worker, &request->mail, kind);
    }
    if (outcomes->next_tick_us != INT64_MAX) {
        worker_tick_by(worker, outcomes->next_tick_us);
    }
    if (outcomes->open) {
        upstream_open(worker, server);
    }
}

// --- under the lock -----------------------------------------------------------------------------

static void wait_for_upstream(struct server *server, struct request *request, int64_t now_us)
{
    request->next = NULL;
    request->waits = true;
    if (request->waits_since_us == 0) {
        request->waits_since_us = now_us;
    }
    *server->waiters_end = request;
    server->waiters_end = &request->next;
    server->waiter_count++;
}

static void stop_waiting(struct server *server, struct request *request)
{
    struct request **at = &server->waiters;
    while (*at != request) {
        at = &(*at)->next;
    }
    *at = request->next;
    if (!*at) {
        server->waiters_end = at;
    }
    request->waits = false;
    server->waiter_count--;
}

static void idle_push(struct server *server, struct upstream *upstream, int64_t now_us)
{
    struct upstream **head = &server->idle[upstream->worker->index];
    upstream->idle_since_us = now_us;
    upstream->is_idle = true;
    upstream->idle_prev = NULL;
    upstream->idle_next = *head;
    if (*head) {
        (*head)->idle_prev = upstream;
    }
    *head = upstream;
}

static void idle_remove(struct server *server, struct upstream *upstream)
{
    if (upstream->idle_prev) {
        upstream->idle_prev->idle_next = upstream->idle_next;
    } else {
        server->idle[upstream->worker->index] = upstream->idle_next;
    }
    if (upstream->idle_next) {
        upstream->idle_next->idle_prev = upstream->idle_prev;
    }
    upstream->is_idle = false;
}

static void give(struct outcomes *outcomes, struct request *request, struct upstream *upstream)
{
    request->handed = upstream;
    tell(outcomes, request, NEWS_GRANTED);
}

// An upstream is free: to who waits for one, to who is next at the gate, or among the idle.
static void place(struct server *server, struct upstream *upstream, struct outcomes *outcomes,
                  int64_t now_us)
{
    struct request *request = server->waiters;
    if (request) {
        stop_waiting(server, request);
        give(outcomes, request, upstream);
        return;
    }
    struct ticket *ticket = gate_grant_next(server->gate, now_us);
    if (ticket) {
        give(outcomes, request_of_ticket(ticket), upstream);
        return;
    }
    idle_push(server, upstream, now_us);
}

// Those who queue begin to wait anew when it changes, perhaps for a shorter time.
static void update_availability(struct server *server, struct outcomes *outcomes, int64_t now_us)
{
    gate_set_available(server->gate, server->known && !server->failing, now_us);
    outcomes->next_tick_us = earlier(outcomes->next_tick_us, gate_next_expiry(server->gate));
}

// Enters an upstream to be opened if somebody needs one. While connecting fails, one attempt at a
// time is made for all who wait.
static void open_if_needed(struct server *server, struct outcomes *outcomes, int64_t now_us)
{
    int needed = server->waiter_count;
    if (server->failing) {
        needed = 1; // also when nobody waits: those who may not wait need one as much
    }
    if (!server->known || needed <= server->ledger.opening) {
        return;
    }
    outcomes->open = ledger_open(&server->ledger, now_us);
    if (!outcomes->open && server->ledger.retry_us > now_us) {
        outcomes->next_tick_us = earlier(outcomes->next_tick_us, server->ledger.retry_us);
    }
}

// Tells those that the gate lets go now.
static void grant(struct server *server, struct outcomes *outcomes, int64_t now_us)
{
    struct ticket *ticket;
    while ((ticket = gate_grant_next(server->gate, now_us))) {
        tell(outcomes, request_of_ticket(ticket), NEWS_GRANTED);
    }
}

static void end_permit(struct server *server, struct request *request, bool learn, int64_t now_us)
{
    gate_done(server->gate, &request->ticket, learn, now_us);
    shapes_release(server->shapes, request->shape);
    request->shape = NULL;
}

// --- a request's way through --------------------------------------------------------------------

enum gate_answer server_admit(struct server *server, struct request *request, uint64_t shape_id,
                              struct gate_ask ask, int64_t now_us)
{
    pthread_mutex_lock(&server->lock);
    request->shape = shapes_acquire(server->shapes, shape_id);
    ask.shape = request->shape;
    enum gate_answer answer = gate_ask(server->gate, &request->ticket, &ask, now_us);
    if (answer == GATE_REFUSED) {
        shapes_release(server->shapes, request->shape);
        request->shape = NULL;
    }
    int64_t expiry_us = gate_next_expiry(server->gate);
    bool probe = server->failing;
    pthread_mutex_unlock(&server->lock);

    if (answer != GATE_GRANTED) {
        int64_t look_us = probe ? now_us : now_us + TICK_US;
        worker_tick_by(request->worker, expiry_us < look_us ? expiry_us : look_us);
    }
    return answer;
}

// An idle upstream of a worker. Those of a former server are left for the sweep to close.
static struct upstream *find_idle(const struct server *server, int index)
{
    struct upstream *upstream = server->idle[index];
    while (upstream && upstream->generation != server->generation) {
        upstream = upstream->idle_next;
    }
    return upstream;
}

// An idle upstream of another worker.
static struct upstream *find_idle_elsewhere(const struct server *server, int index)
{
    for (int i = 1; i < server->worker_count; i++) {
        struct upstream *upstream = find_idle(server, (index + i) % server->worker_count);
        if (upstream) {
            return upstream;
        }
    }
    return NULL;
}

struct upstream *server_checkout(struct server *server, struct request *request, int64_t now_us)
{
    struct worker *owner = NULL;
    struct outcomes outcomes;
    outcomes_init(&outcomes);

    pthread_mutex_lock(&server->lock);
    struct upstream *own = find_idle(server, request->worker->index);
    struct upstream *other = NULL;
    if (own) {
        idle_remove(server, own);
    } else if ((other = find_idle_elsewhere(server, request->worker->index))) {
        idle_remove(server, other);
        other->claimer = request;
        owner = other->worker;
        // Ours next time: below the cap, each worker comes to have what it needs.
        outcomes.open = ledger_open(&server->ledger, now_us);
    } else {
        wait_for_upstream(server, request, now_us);
        open_if_needed(server, &outcomes, now_us);
        outcomes.next_tick_us = earlier(outcomes.next_tick_us, now_us + TICK_US);
    }
    pthread_mutex_unlock(&server->lock);

    if (other) {
        worker_post(owner, &other->mail, MAIL_HAND_OVER);
    }
    deliver(server, request->worker, &outcomes);
    return own;
}

void server_checkin(struct server *server, struct request *request, struct upstream *upstream,
                    bool learn, int64_t now_us)
{
    struct upstream *stale = NULL;
    struct outcomes outcomes;
    outcomes_init(&outcomes);

    pthread_mutex_lock(&server->lock);
    end_permit(server, request, learn, now_us);
    if (upstream &&
        (upstream->generation != server->generation || upstream_is_old(upstream, now_us))) {
        stale = upstream;
    } else if (upstream) {
        place(server, upstream, &outcomes, now_us);
    }
    grant(server, &outcomes, now_us);
    pthread_mutex_unlock(&server->lock);

    deliver(server, request->worker, &outcomes);
    if (stale) {
        upstream_close(stale, "replaced", false);
    }
}

bool server_withdraw(struct server *server, struct request *request, int64_t now_us)
{
    bool withdrawn = true;
    struct outcomes outcomes;
    outcomes_init(&outcomes);

    pthread_mutex_lock(&server->lock);
    if (request->waits) {
        stop_waiting(server, request);
        end_permit(server, request, false, now_us);
        grant(server, &outcomes, now_us);
    } else if (request->ticket.state == TICKET_QUEUED &&
               gate_cancel(server->gate, &request->ticket)) {
        shapes_release(server->shapes, request->shape);
        request->shape = NULL;
    } else {
        withdrawn = DEFECT(CANCELLED_GRANTED);
    }
    pthread_mutex_unlock(&server->lock);

    deliver(server, request->worker, &outcomes);
    return withdrawn;
}

int64_t server_backoff_ms(struct server *server, const struct request *request, int64_t now_us)
{
    pthread_mutex_lock(&server->lock);
    int64_t backoff_ms = gate_backoff_ms(server->gate, request->ticket.lane, now_us);
    pthread_mutex_unlock(&server->lock);
    return backoff_ms;
}

// --- an upstream's life -------------------------------------------------------------------------

static void log_upstream_up(const struct server *server, const struct upstream *upstream)
{
    struct log_line line;
    log_begin(&line, LOG_INFO, "upstream_up");
    log_str(&line, "server", upstream->server_name);
    log_int(&line, "cap", server->config->max_connections);
    log_end(&line);
}

void server_opened(struct server *server, struct upstream *upstream, int64_t now_us)
{
    struct outcomes outcomes;
    outcomes_init(&outcomes);

    pthread_mutex_lock(&server->lock);
    bool first = server->ledger.open == 0;
    ledger_opened(&server->ledger);
    server->failing = false;
    update_availability(server, &outcomes, now_us);
    bool current = upstream->generation == server->generation;
    if (current) {
        place(server, upstream, &outcomes, now_us);
    }
    grant(server, &outcomes, now_us);
    open_if_needed(server, &outcomes, now_us);
    pthread_mutex_unlock(&server->lock);

    if (first) {
        log_upstream_up(server, upstream);
    }
    deliver(server, upstream->worker, &outcomes);
    if (!current) {
        upstream_close(upstream, "of a former server", false);
    }
}

void server_open_failed(struct server *server, struct worker *worker, int64_t now_us)
{
    struct outcomes outcomes;
    outcomes_init(&outcomes);

    pthread_mutex_lock(&server->lock);
    ledger_failed(&server->ledger, worker_random(worker), now_us);
    server->failing = server->ledger.open == 0;
    update_availability(server, &outcomes, now_us);
    open_if_needed(server, &outcomes, now_us);
    pthread_mutex_unlock(&server->lock);

    control_request_scan(worker->shared->control);
    deliver(server, worker, &outcomes);
}

void server_closed(struct server *server, struct worker *worker, int64_t now_us)
{
    struct outcomes outcomes;
    outcomes_init(&outcomes);

    pthread_mutex_lock(&server->lock);
    ledger_closed(&server->ledger);
    open_if_needed(server, &outcomes, now_us);
    pthread_mutex_unlock(&server->lock);

    deliver(server, worker, &outcomes);
}

bool server_take_idle(struct server *server, struct upstream *upstream)
{
    pthread_mutex_lock(&server->lock);
    bool taken = upstream->is_idle;
    if (taken) {
        idle_remove(server, upstream);
    }
    pthread_mutex_unlock(&server->lock);
    return taken;
}

void server_hand_over(struct server *server, struct upstream *upstream)
{
    struct outcomes outcomes;
    outcomes_init(&outcomes);

    pthread_mutex_lock(&server->lock);
    struct request *claimer = upstream->claimer;
    upstream->claimer = NULL;
    upstream->broken = upstream->broken || upstream->generation != server->generation;
    if (upstream->broken) {
        tell(&outcomes, claimer, NEWS_GRANTED);
    } else {
        give(&outcomes, claimer, upstream);
    }
    pthread_mutex_unlock(&server->lock);

    struct worker *worker = upstream->worker;
    if (upstream->broken) {
        upstream_close(upstream, "was closed while idle", false);
    }
    deliver(server, worker, &outcomes);
}

void server_target(struct server *server, struct server_info *ret_target, uint64_t *ret_generation)
{
    pthread_mutex_lock(&server->lock);
    *ret_target = server->target;
    *ret_generation = server->generation;
    pthread_mutex_unlock(&server->lock);
}

bool server_is_current(struct server *server, uint64_t generation)
{
    pthread_mutex_lock(&server->lock);
    bool current = server->generation == generation;
    pthread_mutex_unlock(&server->lock);
    return current;
}

void server_retarget(struct server *server, struct worker *worker, const struct topology *topology)
{
    int64_t now_us = loop_now_us(worker->loop);
    struct outcomes outcomes;
    outcomes_init(&outcomes);

    pthread_mutex_lock(&server->lock);
    if (topology->generation > server->seen) {
        const struct server_info *writable = topology_writable(topology);
        server->seen = topology->generation;
        server->known = writable != NULL;
        if (server->known) {
            if (strcmp(writable->name, server->target.name) != 0) {
                server->generation++;
                server->failing = false;
                ledger_forgive(&server->ledger);
            }
            server->target = *writable;
        }
        if (DEFECT(FORGET_WAITER) && server->waiters) {
            stop_waiting(server, server->waiters);
        }
        update_availability(server, &outcomes, now_us);
        grant(server, &outcomes, now_us);
        open_if_needed(server, &outcomes, now_us);
    }
    pthread_mutex_unlock(&server->lock);

    deliver(server, worker, &outcomes);
}

// --- what time brings ---------------------------------------------------------------------------

static void expire(struct server *server, struct outcomes *outcomes, int64_t now_us)
{
    struct ticket *ticket;
    while ((ticket = gate_expire_next(server->gate, now_us))) {
        struct request *request = request_of_ticket(ticket);
        shapes_release(server->shapes, request->shape);
        request->shape = NULL;
        tell(outcomes, request, NEWS_REFUSED);
    }
}

// Those that have a permit and wait for a server that does not come, or past their own deadline.
static void expire_waiters(struct server *server, struct outcomes *outcomes, int64_t now_us)
{
    struct request *next;
    for (struct request *request = server->waiters; request; request = next) {
        next = request->next;
        bool late = request->ticket.deadline_us <= now_us;
        bool hopeless = now_us - request->waits_since_us >= server->config->server_wait_us;
        if (late || hopeless) {
            stop_waiting(server, request);
            end_permit(server, request, false, now_us);
            request->ticket.refusal = late ? REFUSED_DEADLINE : REFUSED_NO_SERVER;
            tell(outcomes, request, NEWS_REFUSED);
        }
    }
}

static int64_t next_tick(const struct server *server, const struct worker *worker, int64_t now_us)
{
    int64_t at_us = gate_next_expiry(server->gate);
    if (!worker->ending) { // then what is left open is left to the deployment
        at_us = earlier(at_us, pins_next_reap(server->pins, ORPHAN_GRACE_US));
    }
    if (server->waiter_count > 0 || server->exhaustion.going_on || server->exhaustion.standing) {
        at_us = earlier(at_us, now_us + TICK_US);
    }
    return at_us;
}

void server_tick(struct server *server, struct worker *worker, int64_t now_us)
{
    struct exhaustion_report report;
    struct outcomes outcomes;
    outcomes_init(&outcomes);

    pthread_mutex_lock(&server->lock);
    expire(server, &outcomes, now_us);
    expire_waiters(server, &outcomes, now_us);
    grant(server, &outcomes, now_us);
    open_if_needed(server, &outcomes, now_us);
    exhaustion_look(server, &report, now_us);
    outcomes.next_tick_us = earlier(outcomes.next_tick_us, next_tick(server, worker, now_us));
    pthread_mutex_unlock(&server->lock);

    if (report.notice != EXHAUSTION_NOTHING) {
        exhaustion_log(&report, now_us);
    }
    deliver(server, worker, &outcomes);
    if (!worker->ending) {
        orphans_kill(server, worker, now_us);
    }
}
