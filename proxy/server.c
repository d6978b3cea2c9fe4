// SPDX-License-Identifier: Apache-2.0

#include "proxy/server.h"

#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/defect.h"
#include "proxy/config.h"
#include "proxy/control/control.h"
#include "proxy/exhaustion_log.h"
#include "proxy/log.h"
#include "proxy/mem.h"
#include "proxy/request.h"
#include "proxy/servers.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"
#include "wire/shape.h"

#define MAX_OPENING 2            // CMAP's maxConnecting
#define REFUSED_LOGIN_US 1000000 // until one of that identity is tried again
#define TICK_US 50000            // while there is something to watch
#define DOOM_US 1000000          // a monitor that blinks is not an end
#define SPARE_US 100000 // an idle upstream that waits for longer is worth a handshake elsewhere
#define DOUBT_US 500000 // SDAM's minimum between two checks of a server
#define SHARED_WAIT_US                                                                             \
    1000000 // the least that a request waits while the cap is shared with another weir

static bool is_lobby(const struct server *server)
{
    return server->id == 0;
}

static int64_t earlier(int64_t a_us, int64_t b_us)
{
    return a_us < b_us ? a_us : b_us;
}

static int at_least_one(int number)
{
    return number > 1 ? number : 1;
}

// At least one, and not all if there are several: what pins nothing must go on.
static int pinned_limit(const struct config *config, int cap)
{
    int most = at_least_one(cap - 1);
    int share = at_least_one((int)(cap * config->pinned_share));
    return share < most ? share : most;
}

static int count_entered(const struct server *server)
{
    return server->ledger.opening + server->ledger.open;
}

// In an emergency everything else is the less for it; but no less than one.
static int bounded_cap(const struct server *server)
{
    const struct server_bounds *bounds = &server->bounds;
    double share = bounds->restrained ? server->servers->config->emergency_share : 1;
    return bounds->cap > 0 ? at_least_one((int)(bounds->cap * share)) : 0;
}

// A part of the cap may be on its way from one weir to another: who waits for it meanwhile is not
// sent away.
static int64_t max_wait_us(const struct server *server)
{
    const struct config *config = server->servers->config;
    const struct server_bounds *bounds = &server->bounds;
    int64_t wait_us = bounds->restrained
                          ? earlier(config->max_wait_us, config->emergency_max_wait_us)
                          : config->max_wait_us;
    bool longer = bounds->is_shared && wait_us > 0 && wait_us < SHARED_WAIT_US;
    return longer ? SHARED_WAIT_US : wait_us;
}

// The gate lets one go also where nothing may open, so that it waits for that and not for the gate.
static struct gate_limits limits_for(const struct server *server)
{
    const struct config *config = server->servers->config;
    const struct server_bounds *bounds = &server->bounds;
    int cap = bounded_cap(server);
    return (struct gate_limits){
        .limit = at_least_one(bounds->limit > 0 && bounds->limit < cap ? bounds->limit : cap),
        .floor = config->limit == CONFIG_LIMIT_ADAPTIVE ? config->min_limit : 0,
        .slow_share = config->slow_share,
        .stream_share = config->stream_share,
        .slow_us = config->slow_op_threshold_us,
        .max_wait_us = max_wait_us(server),
        .server_wait_us = config->server_wait_us,
        .max_queue = (size_t)config->max_queue,
    };
}

static void set_cap(struct server *server, int cap)
{
    server->ledger.cap = cap;
    server->pinned_limit = pinned_limit(server->servers->config, cap);
    gate_bound(server->gate, &server->limits);
    atomic_store(&server->has_surplus, count_entered(server) > cap);
}

static void apply_bounds(struct server *server)
{
    server->limits = limits_for(server);
    set_cap(server, bounded_cap(server));
}

// Nothing else: nobody may go for it who could not before, and would have to be let go.
static void lower_cap(struct server *server, int cap)
{
    int limit = limits_for(server).limit;
    server->limits.limit = limit < server->limits.limit ? limit : server->limits.limit;
    set_cap(server, cap);
}

struct server *server_new(struct servers *servers, uint32_t id)
{
    const struct config *config = servers->config;
    struct server *server = xcalloc(1, sizeof *server);
    server->id = id;
    server->servers = servers;
    server->own_cap = -1;
    pthread_mutex_init(&server->lock, NULL);
    server->bounds = (struct server_bounds){.cap = config->max_connections, .cut_above = INT_MAX};
    server->limits = limits_for(server);
    server->gate = gate_new(&server->limits);
    server->shapes = shapes_new(SERVER_SHAPES_MAX);
    server->ledger.max_opening = MAX_OPENING;
    apply_bounds(server);
    server->waiters_end = &server->waiters;
    server->idle = xcalloc((size_t)servers->worker_count, sizeof *server->idle);
    server->wants = xcalloc(servers->identity_count + 1, sizeof *server->wants);
    server->traffic = xcalloc((size_t)servers->worker_count, sizeof *server->traffic);
    return server;
}

void server_free(struct server *server)
{
    assert(tenants_rest(&server->tenants));
    gate_free(server->gate);
    shapes_free(server->shapes);
    pthread_mutex_destroy(&server->lock);
    free(server->idle);
    free(server->wants);
    free(server->traffic);
    free(server);
}

bool server_is_unused(struct server *server)
{
    pthread_mutex_lock(&server->lock);
    bool unused = atomic_load(&server->routed) == 0 && server->ledger.opening == 0 &&
                  server->ledger.open == 0;
    pthread_mutex_unlock(&server->lock);
    return unused;
}

// Ends a section that may have changed who is in flight: server selection goes by it.
static void unlock(struct server *server)
{
    atomic_store_explicit(&server->pulse.in_flight, gate_in_flight(server->gate),
                          memory_order_relaxed);
    pthread_mutex_unlock(&server->lock);
}

// --- outcomes: decided under the lock, told after it --------------------------------------------

// Requests that have news, linked by `next`; whether an upstream is to be opened, its ledger entry
// being made, and as whom; one that is to be closed to make room for it; and whether
// upstream.maxTotalConnections keeps one that is needed from that.
struct outcomes {
    struct request *first;
    struct request **end;
    bool open;
    int open_as;
    struct upstream *leaves;
    bool crowded;
    int64_t next_tick_us;
};

static void outcomes_init(struct outcomes *outcomes)
{
    outcomes->first = NULL;
    outcomes->end = &outcomes->first;
    outcomes->open = false;
    outcomes->leaves = NULL;
    outcomes->crowded = false;
    outcomes->next_tick_us = INT64_MAX;
}

static void count_refused(struct server *server, const struct request *request)
{
    demand_refused(&server->demand, request->tenant.id);
    server->tenants.uses[request->tenant_place].shed++;
}

static void tell(struct outcomes *outcomes, struct request *request, enum request_news news)
{
    if (news == NEWS_REFUSED) {
        count_refused(request->server, request);
    }
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
        worker_post(request->worker, &request->mail, MAIL_NEWS);
    }
    if (outcomes->next_tick_us != INT64_MAX) {
        worker_tick_by(worker, outcomes->next_tick_us);
    }
    if (outcomes->open) {
        upstream_open(worker, server, outcomes->open_as);
    }
    if (outcomes->leaves) {
        worker_post(outcomes->leaves->worker, &outcomes->leaves->mail, MAIL_HAND_OVER);
    }
    if (outcomes->crowded && !worker->ending) {
        servers_make_room(server->servers, worker, server);
    }
}

static void log_breaker(const struct server *server, const char *event, const char *reason)
{
    struct log_line line;
    log_begin(&line, LOG_WARN, event);
    log_str(&line, "server", server->name);
    log_str(&line, "reason", reason);
    log_end(&line);
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
    server->bound_waiter_count += request->bond.upstream != 0;
    server->wants[request->identity].waiting += request->bond.upstream == 0;
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
    server->bound_waiter_count -= request->bond.upstream != 0;
    server->wants[request->identity].waiting -= request->bond.upstream == 0;
}

static void unlist_pinned(struct server *server, struct upstream *upstream)
{
    struct upstream **at = &server->pinned;
    while (*at != upstream) {
        at = &(*at)->pinned_next;
    }
    *at = upstream->pinned_next;
    upstream->is_pinned = false;
    server->pinned_count--;
}

// An upstream comes back: whether it is on the list of those with pins depends on what its request
// has left.
static void update_pinned(struct server *server, struct upstream *upstream)
{
    if (upstream->is_pinned && upstream->pins == 0) {
        unlist_pinned(server, upstream);
    } else if (!upstream->is_pinned && upstream->pins > 0) {
        upstream->pinned_next = server->pinned;
        server->pinned = upstream;
        upstream->is_pinned = true;
        server->pinned_count++;
    }
}

static void idle_push(struct server *server, struct upstream *upstream, int64_t now_us)
{
    struct upstream **head = &server->idle[upstream->worker->index];
    upstream->idle_since_us = now_us;
    upstream->is_idle = true;
    if (upstream->is_pinned) {
        return; // for those only that go on with its pins
    }
    upstream->idle_prev = NULL;
    upstream->idle_next = *head;
    if (*head) {
        (*head)->idle_prev = upstream;
    }
    *head = upstream;
}

static void idle_remove(struct server *server, struct upstream *upstream)
{
    upstream->is_idle = false;
    if (upstream->is_pinned) {
        return;
    }
    if (upstream->idle_prev) {
        upstream->idle_prev->idle_next = upstream->idle_next;
    } else {
        server->idle[upstream->worker->index] = upstream->idle_next;
    }
    if (upstream->idle_next) {
        upstream->idle_next->idle_prev = upstream->idle_prev;
    }
}

static void give(struct outcomes *outcomes, struct request *request, struct upstream *upstream)
{
    request->handed = upstream;
    tell(outcomes, request, NEWS_GRANTED);
}

// Ends what it counted as while it waited or had a permit.
static void let_go(struct server *server, struct request *request)
{
    server->pinning -= request->is_pinning;
    request->is_pinning = false;
    shapes_release(server->shapes, request->shape);
    request->shape = NULL;
    server->tenants.uses[request->tenant_place].under_way--;
}

// Whether it might keep an upstream for itself.
static bool may_pin(const struct server *server, const struct request *request)
{
    return request->may_pin && server->info.kind == SERVER_LOAD_BALANCER;
}

static void count_as_pinning(struct server *server, struct request *request)
{
    request->is_pinning = request->may_pin;
    server->pinning += request->is_pinning;
}

// What the gate has to leave to others: what finishes transactions, and what keeps no upstream.
static void leave_room(struct server *server)
{
    gate_keep(server->gate, atomic_load(&server->servers->in_transactions));
    gate_leave_room(server->gate, server->pinned_limit - server->pinned_count - server->pinning);
}

// The next in the queue that the gate lets go; NULL if none.
static struct request *next_granted(struct server *server, int64_t now_us)
{
    leave_room(server);
    struct ticket *ticket = gate_grant_next(server->gate, now_us);
    if (!ticket) {
        return NULL;
    }
    struct request *request = request_of_ticket(ticket);
    count_as_pinning(server, request);
    return request;
}

// Whether an upstream is such as the request needs, if it needs not just one of all.
static bool suits(const struct upstream *upstream, const struct request *request)
{
    return request->bond.upstream == 0 && request->identity == upstream->identity;
}

// The first that waits for such an upstream: one with pins is only for who goes on with them.
static struct request *waiter_for(const struct server *server, const struct upstream *upstream)
{
    struct request *request = server->waiters;
    while (request && (upstream->pins > 0 ? request->bond.upstream != upstream->id
                                          : !suits(upstream, request))) {
        request = request->next;
    }
    return request;
}

// An upstream is free: to who waits for one, to who is next at the gate, or among the idle.
static void place(struct server *server, struct upstream *upstream, struct outcomes *outcomes,
                  int64_t now_us)
{
    struct request *request = waiter_for(server, upstream);
    update_pinned(server, upstream);
    if (request) {
        stop_waiting(server, request);
        give(outcomes, request, upstream);
        return;
    }
    while (!upstream->is_pinned && (request = next_granted(server, now_us))) {
        if (suits(upstream, request)) {
            give(outcomes, request, upstream);
            return;
        }
        tell(outcomes, request, NEWS_GRANTED); // it wants another one
    }
    idle_push(server, upstream, now_us);
}

// Those who queue begin to wait anew when it changes, perhaps for a shorter time.
static void update_availability(struct server *server, struct outcomes *outcomes, int64_t now_us)
{
    atomic_store_explicit(&server->pulse.failing, server->failing, memory_order_relaxed);
    gate_set_available(server->gate, server->known && !server->failing, now_us);
    outcomes->next_tick_us = earlier(outcomes->next_tick_us, gate_next_expiry(server->gate));
}

// Enters one more upstream as opening: among those of all servers, and in the server's ledger.
static bool enter(struct server *server, int identity, struct outcomes *outcomes, int64_t now_us)
{
    outcomes->open = ledger_may_open(&server->ledger, now_us) && servers_enter(server->servers) &&
                     ledger_open(&server->ledger, now_us);
    if (outcomes->open) {
        outcomes->open_as = identity;
        server->wants[identity].opening++;
    }
    return outcomes->open;
}

// As whom somebody has waited longest for whom none is opening; -1: nobody has.
static int identity_in_need(const struct server *server, int64_t now_us)
{
    for (const struct request *request = server->waiters; request; request = request->next) {
        const struct want *want = &server->wants[request->identity];
        if (request->bond.upstream == 0 && want->waiting > want->opening &&
            want->retry_us <= now_us) {
            return request->identity;
        }
    }
    return -1;
}

static bool is_full(const struct server *server)
{
    return count_entered(server) >= server->ledger.cap;
}

// Of those that are idle, of other identities, the one that was used last.
static struct upstream *find_idle_of_others(const struct server *server, int identity)
{
    struct upstream *found = NULL;
    for (int i = 0; i < server->servers->worker_count; i++) {
        for (struct upstream *at = server->idle[i]; at; at = at->idle_next) {
            bool other = at->identity != identity;
            if (other && (!found || at->idle_since_us < found->idle_since_us)) {
                found = at;
            }
        }
    }
    return found;
}

// One upstream at a time makes room for those of an identity in need.
static void make_room_for(struct server *server, int identity, struct outcomes *outcomes)
{
    struct upstream *upstream = server->leaving == 0 ? find_idle_of_others(server, identity) : NULL;
    if (upstream) {
        idle_remove(server, upstream);
        upstream->broken = true;
        upstream->makes_room = true;
        server->leaving++;
        outcomes->leaves = upstream;
    }
}

// Enters an upstream to be opened if somebody needs one. While connecting fails, one attempt at a
// time is made for all who wait.
static void open_if_needed(struct server *server, struct outcomes *outcomes, int64_t now_us)
{
    int identity = identity_in_need(server, now_us);
    if (server->failing) { // also when nobody waits: those who may not wait need one as much
        identity = server->ledger.opening > 0 ? -1 : identity < 0 ? 0 : identity;
    }
    if (!server->known || identity < 0 || outcomes->open) {
        return;
    }
    enter(server, identity, outcomes, now_us);
    outcomes->crowded = !outcomes->open && ledger_may_open(&server->ledger, now_us);
    if (!outcomes->open && (outcomes->crowded || is_full(server))) {
        make_room_for(server, identity, outcomes);
    }
    if (outcomes->crowded) {
        servers_hunger(server->servers, count_entered(server));
        outcomes->next_tick_us = earlier(outcomes->next_tick_us, now_us + TICK_US);
    } else if (!outcomes->open && server->ledger.retry_us > now_us) {
        outcomes->next_tick_us = earlier(outcomes->next_tick_us, server->ledger.retry_us);
    }
}

// Tells those that the gate lets go now.
static void grant(struct server *server, struct outcomes *outcomes, int64_t now_us)
{
    struct request *request;
    while ((request = next_granted(server, now_us))) {
        tell(outcomes, request, NEWS_GRANTED);
    }
}

static void end_permit(struct server *server, struct request *request, bool learn, int64_t now_us)
{
    const struct ticket *ticket = &request->ticket;
    int64_t waited_us = ticket->granted_us - ticket->asked_us;
    struct tenant_use *use = &server->tenants.uses[request->tenant_place];
    shape_charge(request->shape, waited_us, now_us - ticket->granted_us);
    use->served++;
    use->held_us += now_us - ticket->granted_us;
    if (waited_us > 0) {
        demand_waited(&server->demand, request->tenant.id, waited_us);
    }
    gate_done(server->gate, &request->ticket, learn, now_us);
    let_go(server, request);
}

// Sends all who wait to ROUTE again: those with a ticket in the queue, and those with a permit and
// no upstream, who lose the permit.
static void evict(struct server *server, struct outcomes *outcomes, int64_t now_us)
{
    struct ticket *ticket;
    while ((ticket = gate_evict_next(server->gate))) {
        struct request *request = request_of_ticket(ticket);
        let_go(server, request);
        tell(outcomes, request, NEWS_ELSEWHERE);
    }
    while (server->waiters) {
        struct request *request = server->waiters;
        stop_waiting(server, request);
        end_permit(server, request, false, now_us);
        tell(outcomes, request, NEWS_ELSEWHERE);
    }
}

static void publish_breaker(struct server *server)
{
    const struct breaker *breaker = &server->breaker;
    atomic_store_explicit(&server->pulse.tripped_until_us, breaker->is_open ? breaker->probe_us : 0,
                          memory_order_relaxed);
}

// While it is open nobody waits there. Returns whether it has just opened. Of a server that is not
// known, discovery tells.
static bool note_failure(struct server *server, int64_t born_us, struct outcomes *outcomes,
                         int64_t now_us)
{
    bool was_open = server->breaker.is_open;
    if (!server->known || !breaker_failed(&server->breaker, born_us, now_us)) {
        return false;
    }
    publish_breaker(server);
    evict(server, outcomes, now_us);
    return !was_open;
}

// Returns whether it was open.
static bool note_reply(struct server *server)
{
    bool was_open = breaker_succeeded(&server->breaker);
    if (was_open) {
        publish_breaker(server);
    }
    return was_open;
}

static bool breaker_forbids(struct server *server, int64_t now_us)
{
    if (!server->breaker.is_open || !server->known) {
        return false;
    }
    bool forbids = !breaker_pass(&server->breaker, now_us);
    publish_breaker(server);
    return forbids;
}

// Of a shape that is new here. Under the lock, as it happens once, and is bounded.
static void label(struct shape *shape, const struct request *request)
{
    char text[SERVER_LABEL_BYTES];
    if (shape->id == 0) {
        shape_label(shape, "(others)");
    } else {
        shape_text(&request->msg, &request->command, text, sizeof text);
        shape_label(shape, text);
    }
}

// --- a request's way through --------------------------------------------------------------------

static struct tenant_use *place_tenant(struct server *server, struct request *request,
                                       int64_t now_us)
{
    const struct tenant *tenant = &request->tenant;
    request->tenant_place = tenants_place(&server->tenants, tenant->id, tenant->name, now_us);
    return &server->tenants.uses[request->tenant_place];
}

// Whether waiting is of no use until somebody has seen to the password. It is tried all the same:
// open_if_needed.
static bool is_locked_out(const struct server *server, int identity)
{
    return identity == 0 && server->known && atomic_load(&server->locked_out);
}

enum gate_answer server_admit(struct server *server, struct request *request, uint64_t shape_id,
                              struct gate_ask ask, int64_t now_us)
{
    struct outcomes outcomes;
    outcomes_init(&outcomes);

    pthread_mutex_lock(&server->lock);
    struct tenant_use *use = place_tenant(server, request, now_us);
    ask.pins = may_pin(server, request);
    bool pinned = ask.pins && server->pinned_count >= server->pinned_limit;
    if (pinned || is_locked_out(server, request->identity) || breaker_forbids(server, now_us)) {
        gate_turn_away(server->gate, &request->ticket, pinned ? REFUSED_PINNED : REFUSED_NO_SERVER);
        use->shed++;
        pthread_mutex_unlock(&server->lock);
        worker_tick_by(request->worker, now_us + TICK_US); // permits may be said to have run out
        return GATE_REFUSED;
    }
    use->under_way++;
    request->shape = shapes_acquire(server->shapes, shape_id);
    if (!request->shape->label) {
        label(request->shape, request);
    }
    ask.shape = request->shape;
    ask.shape->arrived++;
    demand_arrived(&server->demand, request->tenant.id, request->tenant.name);
    leave_room(server);
    enum gate_answer answer = gate_ask(server->gate, &request->ticket, &ask, now_us);
    if (answer == GATE_REFUSED) {
        count_refused(server, request);
        let_go(server, request);
    } else if (answer == GATE_GRANTED) {
        count_as_pinning(server, request);
    } else { // a permit that was kept for transactions may be free now
        grant(server, &outcomes, now_us);
    }
    int64_t expiry_us = gate_next_expiry(server->gate);
    bool probe = server->failing;
    unlock(server);

    if (answer != GATE_GRANTED) {
        deliver(server, request->worker, &outcomes);
        int64_t look_us = probe ? now_us : now_us + TICK_US;
        worker_tick_by(request->worker, expiry_us < look_us ? expiry_us : look_us);
    }
    return answer;
}

static struct upstream *find_pinned(const struct server *server, uint64_t id)
{
    struct upstream *upstream = server->pinned;
    while (upstream && upstream->id != id) {
        upstream = upstream->pinned_next;
    }
    return upstream;
}

// An idle upstream for the request: of its own worker's, else of another's.
static struct upstream *find_idle_for(const struct server *server, const struct request *request)
{
    int count = server->servers->worker_count;
    for (int i = 0; i < count; i++) {
        struct upstream *upstream = server->idle[(request->worker->index + i) % count];
        while (upstream && !suits(upstream, request)) {
            upstream = upstream->idle_next;
        }
        if (upstream) {
            return upstream;
        }
    }
    return NULL;
}

// The idle upstream for a request, on whichever worker; NULL if there is none. ret_lost: the one
// that it is bound to is not there any more.
static struct upstream *find_for(const struct server *server, const struct request *request,
                                 bool *ret_lost)
{
    if (request->bond.upstream) {
        struct upstream *pinned = find_pinned(server, request->bond.upstream);
        *ret_lost = pinned == NULL;
        return pinned && pinned->is_idle ? pinned : NULL;
    }
    *ret_lost = false;
    return find_idle_for(server, request);
}

// Those who wait for an upstream of that identity are not to keep their permits until one comes.
static void refuse_identity(struct server *server, int identity, struct outcomes *outcomes,
                            int64_t now_us)
{
    struct request *next;
    for (struct request *request = server->waiters; request; request = next) {
        next = request->next;
        if (request->bond.upstream == 0 && request->identity == identity) {
            stop_waiting(server, request);
            request->ticket.refusal = REFUSED_NO_SERVER;
            end_permit(server, request, false, now_us);
            tell(outcomes, request, NEWS_REFUSED);
        }
    }
    grant(server, outcomes, now_us);
}

static void take_permit_back(struct server *server, struct request *request, enum request_news news,
                             struct outcomes *outcomes, int64_t now_us)
{
    end_permit(server, request, false, now_us);
    tell(outcomes, request, news);
    grant(server, outcomes, now_us);
}

struct upstream *server_checkout(struct server *server, struct request *request, int64_t now_us)
{
    struct worker *owner = NULL;
    struct outcomes outcomes;
    outcomes_init(&outcomes);

    pthread_mutex_lock(&server->lock);
    bool lost;
    struct upstream *found = find_for(server, request, &lost);
    struct upstream *own = found && found->worker == request->worker ? found : NULL;
    struct upstream *other = own ? NULL : found;
    if (own) {
        idle_remove(server, own);
    } else if (other) {
        idle_remove(server, other);
        other->claimer = request;
        owner = other->worker;
        // Ours next time: below the cap, each worker comes to have what it needs.
        if (request->bond.upstream == 0 && server->known) {
            (void)enter(server, request->identity, &outcomes, now_us);
        }
    } else if (lost) {
        request->ticket.refusal = REFUSED_PINNED;
        take_permit_back(server, request, NEWS_REFUSED, &outcomes, now_us);
    } else if (server->wants[request->identity].retry_us > now_us) {
        request->ticket.refusal = REFUSED_NO_SERVER;
        take_permit_back(server, request, NEWS_REFUSED, &outcomes, now_us);
    } else if (!server->known) { // only just: it may have been evicted too early
        take_permit_back(server, request, NEWS_ELSEWHERE, &outcomes, now_us);
    } else {
        wait_for_upstream(server, request, now_us);
        open_if_needed(server, &outcomes, now_us);
        outcomes.next_tick_us = earlier(outcomes.next_tick_us, now_us + TICK_US);
    }
    unlock(server);

    if (other) {
        worker_post(owner, &other->mail, MAIL_HAND_OVER);
    }
    deliver(server, request->worker, &outcomes);
    return own;
}

// Whether an identity that has waited longer than this one's needs its place.
static bool is_in_the_way(const struct server *server, const struct upstream *upstream,
                          int64_t now_us)
{
    int identity = is_full(server) && server->leaving == 0 ? identity_in_need(server, now_us) : -1;
    return identity >= 0 && identity != upstream->identity;
}

// It has been closed, or its request came to its end before that.
static void forgive_cut(struct server *server, struct upstream *upstream)
{
    server->cutting -= upstream->is_cut;
    upstream->is_cut = false;
}

// Not while something is open that only it can go on with.
static bool is_to_be_replaced(const struct server *server, const struct upstream *upstream,
                              int64_t now_us)
{
    return upstream->pins == 0 &&
           (atomic_load(&server->is_gone) || upstream_is_old(upstream, now_us) ||
            count_entered(server) > server->ledger.cap || is_in_the_way(server, upstream, now_us) ||
            servers_want_room(server->servers, server->ledger.open));
}

void server_checkin(struct server *server, struct request *request, struct upstream *upstream,
                    bool learn, int64_t now_us)
{
    struct upstream *stale = NULL;
    struct outcomes outcomes;
    outcomes_init(&outcomes);

    pthread_mutex_lock(&server->lock);
    end_permit(server, request, learn, now_us);
    bool recovered = request->received_us > 0 && note_reply(server);
    if (upstream) {
        forgive_cut(server, upstream);
    }
    if (upstream && is_to_be_replaced(server, upstream, now_us)) {
        stale = upstream;
    } else if (upstream) {
        place(server, upstream, &outcomes, now_us);
    }
    grant(server, &outcomes, now_us);
    unlock(server);

    if (recovered) {
        log_breaker(server, "breaker_closed", NULL);
    }
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
        let_go(server, request);
    } else {
        withdrawn = DEFECT(CANCELLED_GRANTED);
    }
    unlock(server);

    deliver(server, request->worker, &outcomes);
    return withdrawn;
}

int64_t server_backoff_ms(struct server *server, const struct request *request, int64_t now_us)
{
    pthread_mutex_lock(&server->lock);
    enum lane lane = request->ticket.lane;
    server->shed_for_good += !request->backs_off;
    int64_t backoff_ms = request->backs_off ? gate_next_turn_ms(server->gate, lane, now_us)
                                            : gate_backoff_ms(server->gate, lane, now_us);
    pthread_mutex_unlock(&server->lock);
    return backoff_ms;
}

// --- an upstream's life -------------------------------------------------------------------------

static void log_upstream_up(const struct server *server, int cap)
{
    struct log_line line;
    log_begin(&line, LOG_INFO, "upstream_up");
    log_str(&line, "server", server->name);
    log_int(&line, "cap", cap);
    log_end(&line);
}

static void end_failure(struct server *server)
{
    server->failing = false;
    atomic_store(&server->locked_out, false);
    server->failure = (struct server_failure){0};
}

void server_opened(struct server *server, struct upstream *upstream, int64_t now_us)
{
    struct outcomes outcomes;
    outcomes_init(&outcomes);

    pthread_mutex_lock(&server->lock);
    bool first = server->ledger.open == 0;
    ledger_opened(&server->ledger);
    server->wants[upstream->identity].opening--;
    if (server->failing && server->breaker.is_open) {
        breaker_hope(&server->breaker, now_us);
        publish_breaker(server);
    }
    server->opened++;
    server->opening_us += upstream->opening_us;
    server->login_us += upstream->login_us;
    end_failure(server);
    update_availability(server, &outcomes, now_us);
    bool gone = atomic_load(&server->is_gone);
    if (!gone) {
        place(server, upstream, &outcomes, now_us);
    }
    grant(server, &outcomes, now_us);
    open_if_needed(server, &outcomes, now_us);
    int cap = server->ledger.cap;
    unlock(server);

    if (first) {
        log_upstream_up(server, cap);
    }
    struct worker *worker = upstream->worker;
    deliver(server, worker, &outcomes);
    if (gone) {
        upstream_close(upstream, "of a former server", false);
    }
}

// Its place among all is free, and its own again unless another server that may have fewer waits
// for one: then servers_feed sees to it that each has its turn.
static void leave(struct server *server, struct outcomes *outcomes, int64_t now_us)
{
    servers_leave(server->servers);
    if (!servers_are_hungry(server->servers)) {
        open_if_needed(server, outcomes, now_us);
    }
}

// The time is that of the first of several.
static void note_reason(struct server *server, const char *reason)
{
    struct server_failure *failure = &server->failure;
    failure->since_s = server->failing && failure->since_s > 0 ? failure->since_s : time(NULL);
    snprintf(failure->reason, sizeof failure->reason, "%s", reason ? reason : "");
}

// Returns whether it has made the breaker open.
static bool note_failure_to_open(struct server *server, struct worker *worker, enum not_opened why,
                                 const char *reason, struct outcomes *outcomes, int64_t now_us)
{
    ledger_failed(&server->ledger, worker_random(worker), now_us);
    server->open_failures++;
    server->failing = server->ledger.open == 0;
    atomic_store(&server->locked_out, server->failing && why == NOT_OPENED_LOCKED_OUT);
    note_reason(server, reason);
    update_availability(server, outcomes, now_us);
    if (is_locked_out(server, 0)) {
        evict(server, outcomes, now_us);
    }
    return note_failure(server, now_us, outcomes, now_us) &&
           !atomic_load(&server->is_gone); // it may be freed from the unlock on
}

static void note_refusal_of_login(struct server *server, int identity, struct outcomes *outcomes,
                                  int64_t now_us)
{
    ledger_opened(&server->ledger); // as far as the server is concerned, it was
    ledger_closed(&server->ledger);
    server->wants[identity].retry_us = now_us + REFUSED_LOGIN_US;
    refuse_identity(server, identity, outcomes, now_us);
}

void server_not_opened(struct server *server, struct worker *worker, int identity,
                       enum not_opened why, const char *reason, int64_t now_us)
{
    struct servers *servers = server->servers; // the server may be gone with its last upstream
    struct outcomes outcomes;
    bool tripped = false;
    outcomes_init(&outcomes);

    pthread_mutex_lock(&server->lock);
    server->wants[identity].opening--;
    bool failed = why == NOT_OPENED_FAILED || why == NOT_OPENED_LOCKED_OUT;
    if (failed) {
        tripped = note_failure_to_open(server, worker, why, reason, &outcomes, now_us);
    } else if (why == NOT_OPENED_REFUSED) {
        note_refusal_of_login(server, identity, &outcomes, now_us);
    } else {
        ledger_dropped(&server->ledger);
    }
    leave(server, &outcomes, now_us);
    unlock(server);

    if (tripped) {
        log_breaker(server, "breaker_open", "no connection can be opened");
    }
    if (failed) {
        control_request_scan(worker->shared->control);
    }
    deliver(server, worker, &outcomes);
    servers_feed(servers, worker, now_us);
}

// Who waits for an upstream that is gone finds out in CHECKOUT.
static void wake_bound(struct server *server, uint64_t upstream, struct outcomes *outcomes)
{
    struct request *next;
    for (struct request *request = server->waiters; request; request = next) {
        next = request->next;
        if (request->bond.upstream == upstream) {
            stop_waiting(server, request);
            tell(outcomes, request, NEWS_GRANTED);
        }
    }
}

void server_try(struct server *server, struct worker *worker, int64_t now_us)
{
    struct outcomes outcomes;
    outcomes_init(&outcomes);
    pthread_mutex_lock(&server->lock);
    if (server->known && count_entered(server) == 0) {
        (void)enter(server, 0, &outcomes, now_us);
    }
    unlock(server);
    deliver(server, worker, &outcomes);
}

void server_closed(struct server *server, struct upstream *upstream, struct worker *worker,
                   int64_t now_us)
{
    struct servers *servers = server->servers; // the server may be gone with its last upstream
    struct outcomes outcomes;
    outcomes_init(&outcomes);

    pthread_mutex_lock(&server->lock);
    if (upstream->is_pinned) {
        unlist_pinned(server, upstream);
        wake_bound(server, upstream->id, &outcomes);
    }
    ledger_closed(&server->ledger);
    server->leaving -= upstream->makes_room;
    forgive_cut(server, upstream);
    leave(server, &outcomes, now_us);
    grant(server, &outcomes, now_us); // who may keep one in the place of a pinned one
    unlock(server);

    deliver(server, worker, &outcomes);
    servers_feed(servers, worker, now_us);
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

void server_set_free(struct server *server, struct upstream *upstream, int64_t now_us)
{
    struct worker *worker = upstream->worker;
    struct outcomes outcomes;
    outcomes_init(&outcomes);

    pthread_mutex_lock(&server->lock);
    if (upstream->is_idle) {
        idle_remove(server, upstream);
        upstream->pins = 0;
        place(server, upstream, &outcomes, now_us);
    }
    unlock(server);

    deliver(server, worker, &outcomes);
}

bool server_take_surplus(struct server *server, struct upstream *upstream)
{
    bool too_many = servers_are_too_many(server->servers);
    if (!too_many && !atomic_load_explicit(&server->has_surplus, memory_order_relaxed)) {
        return false;
    }
    pthread_mutex_lock(&server->lock);
    bool surplus = count_entered(server) > server->ledger.cap;
    bool taken = (surplus || too_many) && upstream->is_idle;
    if (taken) {
        idle_remove(server, upstream);
    }
    atomic_store(&server->has_surplus, surplus);
    pthread_mutex_unlock(&server->lock);
    return taken;
}

bool server_must_cut(struct server *server, struct upstream *upstream)
{
    if (!atomic_load_explicit(&server->has_surplus, memory_order_relaxed)) {
        return false;
    }
    pthread_mutex_lock(&server->lock);
    int left = count_entered(server) - server->cutting;
    bool must = upstream->is_cut || left > server->bounds.cut_above;
    if (must && upstream->request && !upstream->is_cut) {
        upstream->is_cut = true;
        server->cutting++;
    }
    pthread_mutex_unlock(&server->lock);
    return must;
}

// The idle upstream of any worker that was used last.
static struct upstream *find_idle(const struct server *server)
{
    struct upstream *found = NULL;
    for (int i = 0; i < server->servers->worker_count; i++) {
        struct upstream *upstream = server->idle[i];
        if (upstream && (!found || upstream->idle_since_us > found->idle_since_us)) {
            found = upstream;
        }
    }
    return found;
}

bool server_give_up_idle(struct server *server, int open, int64_t now_us)
{
    pthread_mutex_lock(&server->lock);
    struct upstream *upstream = server->waiter_count == 0 ? find_idle(server) : NULL;
    bool spare = open == 0 || open + 1 < server->ledger.open;
    if (upstream && (spare || now_us - upstream->idle_since_us >= SPARE_US)) {
        idle_remove(server, upstream);
        upstream->broken = true;
    } else {
        upstream = NULL;
    }
    pthread_mutex_unlock(&server->lock);
    if (upstream) {
        worker_post(upstream->worker, &upstream->mail, MAIL_HAND_OVER);
    }
    return upstream != NULL;
}

int server_count_entered(struct server *server)
{
    pthread_mutex_lock(&server->lock);
    int entered = count_entered(server);
    pthread_mutex_unlock(&server->lock);
    return entered;
}

void server_feed(struct server *server, struct worker *worker, int fewer_than, int64_t now_us)
{
    struct outcomes outcomes;
    outcomes_init(&outcomes);

    pthread_mutex_lock(&server->lock);
    if (count_entered(server) < fewer_than) {
        open_if_needed(server, &outcomes, now_us);
    }
    pthread_mutex_unlock(&server->lock);

    deliver(server, worker, &outcomes);
}

void server_bound(struct server *server, struct server_bounds bounds)
{
    pthread_mutex_lock(&server->lock);
    server->bounds = bounds;
    int cap = bounded_cap(server);
    if (cap < server->ledger.cap) {
        lower_cap(server, cap);
    }
    pthread_mutex_unlock(&server->lock);
}

void server_adapt(struct server *server, struct worker *worker)
{
    struct outcomes outcomes;
    int64_t now_us = loop_now_us(worker->loop);
    outcomes_init(&outcomes);

    pthread_mutex_lock(&server->lock);
    apply_bounds(server);
    gate_pause(server->gate, server->bounds.paused, now_us);
    outcomes.next_tick_us = gate_next_expiry(server->gate);
    if (!DEFECT(ADAPT_SILENT)) {
        grant(server, &outcomes, now_us);
    }
    open_if_needed(server, &outcomes, now_us);
    unlock(server);

    deliver(server, worker, &outcomes);
}

void server_hand_over(struct server *server, struct upstream *upstream)
{
    struct outcomes outcomes;
    outcomes_init(&outcomes);

    pthread_mutex_lock(&server->lock);
    struct request *claimer = upstream->claimer;
    upstream->claimer = NULL;
    upstream->broken = upstream->broken || atomic_load(&server->is_gone);
    if (upstream->broken && claimer) {
        tell(&outcomes, claimer, NEWS_GRANTED);
    } else if (claimer) {
        give(&outcomes, claimer, upstream);
    }
    pthread_mutex_unlock(&server->lock);

    struct worker *worker = upstream->worker;
    if (upstream->broken) {
        upstream_close(upstream, claimer ? "was closed while idle" : "makes room", false);
    }
    deliver(server, worker, &outcomes);
}

void server_get_info(struct server *server, struct server_info *ret_info)
{
    pthread_mutex_lock(&server->lock);
    *ret_info = server->info;
    pthread_mutex_unlock(&server->lock);
}

// --- snapshots ----------------------------------------------------------------------------------

// When what was sent to a server that fell silent is given up: 0 if it did not. A primary that
// another member follows will not answer; a monitor of another one may have blinked, the more so if
// there is nobody to turn to.
static int64_t when_to_give_up(const struct server *server, const struct topology *topology,
                               const struct server_info *info, int64_t now_us)
{
    if (info->kind != SERVER_UNKNOWN) {
        return 0;
    }
    if (!topology_writable(topology)) {
        return now_us + server->servers->config->server_wait_us;
    }
    return server->info.kind == SERVER_PRIMARY ? now_us : now_us + DOOM_US;
}

static void learn_silence(struct server *server, int64_t give_up_us)
{
    int64_t former_us = atomic_load(&server->give_up_us);
    if (give_up_us == 0 || former_us == 0 || give_up_us < former_us) {
        atomic_store(&server->give_up_us, give_up_us);
    }
}

static void learn_info(struct server *server, const struct server_info *info)
{
    struct server_info former = server->info;
    server->info = *info;
    if (info->address_count == 0) { // of no use, and one that is opening may look for one
        server->info.address_count = former.address_count;
        memcpy(server->info.addresses, former.addresses, sizeof former.addresses);
    }
}

// Returns whether it is another kind of server now.
static bool learn(struct server *server, const struct topology *topology,
                  const struct server_info *info, int64_t now_us)
{
    bool changed = !info || info->kind != server->info.kind;
    server->seen = topology->generation;
    server->known = info && server_is_usable(info);
    atomic_store(&server->is_gone, info == NULL);
    if (info) { // of one that has left the deployment, nothing more is known
        learn_silence(server, when_to_give_up(server, topology, info, now_us));
    }
    atomic_store(&server->pulse.doubted_until_us, 0);
    if (info) {
        learn_info(server, info);
    }
    if (changed && server->known) { // it has been away, or asleep: what failed then says nothing
        end_failure(server);
        ledger_forgive(&server->ledger);
        note_reply(server);
    }
    return changed;
}

static enum server_kind kind_in(const struct topology *topology, const struct server *server)
{
    const struct server_info *info = topology ? topology_find(topology, server->id) : NULL;
    return info ? info->kind : SERVER_UNKNOWN;
}

void server_follow(struct server *server, struct worker *worker, const struct topology *former,
                   const struct topology *topology)
{
    const struct server_info *info = topology_find(topology, server->id);
    int64_t now_us = loop_now_us(worker->loop);
    // Also for later workers: each may have sent requests here by its older snapshot.
    bool changed = kind_in(former, server) != kind_in(topology, server);
    struct exhaustion_report report = {.notice = EXHAUSTION_NOTHING};
    struct outcomes outcomes;
    outcomes_init(&outcomes);

    pthread_mutex_lock(&server->lock);
    if (topology->generation > server->seen) {
        changed |= learn(server, topology, info, now_us);
        if (DEFECT(FORGET_WAITER) && server->waiters) {
            stop_waiting(server, server->waiters);
        }
        update_availability(server, &outcomes, now_us);
    }
    if (changed || !server->known) {
        evict(server, &outcomes, now_us);
    }
    grant(server, &outcomes, now_us);
    open_if_needed(server, &outcomes, now_us);
    if (!info) { // nobody looks after it from now on
        exhaustion_look(server, &report, now_us);
    }
    unlock(server);

    exhaustion_tell(&report, worker, now_us);
    deliver(server, worker, &outcomes);
}

void server_evict(struct server *server, struct worker *worker)
{
    struct outcomes outcomes;
    outcomes_init(&outcomes);

    pthread_mutex_lock(&server->lock);
    evict(server, &outcomes, loop_now_us(worker->loop));
    unlock(server);

    deliver(server, worker, &outcomes);
}

void server_suspect(struct server *server, int64_t now_us)
{
    atomic_store(&server->suspect_us, now_us);
    atomic_fetch_add(&server->lost, 1);
}

void server_failed(struct server *server, struct worker *worker, int64_t born_us, int64_t now_us)
{
    struct outcomes outcomes;
    outcomes_init(&outcomes);
    server_suspect(server, now_us);

    pthread_mutex_lock(&server->lock);
    bool tripped = note_failure(server, born_us, &outcomes, now_us);
    unlock(server);

    if (tripped) {
        log_breaker(server, "breaker_open", "connections are lost before they are answered");
    }
    deliver(server, worker, &outcomes);
}

// Requests that were granted a permit before `since_us`, and have an upstream since then or so; not
// those that wait for events.
static int count_patient(const struct server *server, int64_t since_us)
{
    int count = 0;
    const struct ticket *ticket = gate_oldest(server->gate);
    for (; ticket && ticket->granted_us <= since_us; ticket = ticket->next) {
        count += ticket->lane != LANE_STREAM && !request_of_ticket(ticket)->waits;
    }
    return count;
}

bool server_is_silent(struct server *server, struct worker *worker, int64_t now_us)
{
    int64_t timeout_us = server->servers->config->response_timeout_us;
    int64_t since_us = now_us - timeout_us;
    if (timeout_us == 0 || atomic_load(&server->heard_us) > since_us) {
        return false;
    }
    struct outcomes outcomes;
    outcomes_init(&outcomes);

    pthread_mutex_lock(&server->lock);
    bool was_open = server->breaker.is_open;
    bool silent = count_patient(server, since_us) >= (was_open ? 1 : 2);
    if (silent && !was_open) {
        breaker_trip(&server->breaker, now_us);
        publish_breaker(server);
        evict(server, &outcomes, now_us);
    }
    unlock(server);

    if (silent && !was_open) {
        log_breaker(server, "breaker_open", "no request is answered (upstream.responseTimeout)");
    }
    deliver(server, worker, &outcomes);
    return silent;
}

bool server_is_doomed(const struct server *server, int64_t now_us)
{
    int64_t give_up_us = atomic_load(&server->give_up_us);
    return give_up_us > 0 && now_us >= give_up_us;
}

void server_doubt(struct server *server, struct worker *worker, int64_t now_us)
{
    atomic_store(&server->pulse.doubted_until_us, now_us + DOUBT_US);
    server_evict(server, worker);
    control_request_scan(worker->shared->control);
}

// --- what time brings ---------------------------------------------------------------------------

static void expire(struct server *server, struct outcomes *outcomes, int64_t now_us)
{
    struct ticket *ticket;
    while ((ticket = gate_expire_next(server->gate, now_us))) {
        struct request *request = request_of_ticket(ticket);
        demand_waited(&server->demand, request->tenant.id, now_us - ticket->asked_us);
        let_go(server, request);
        tell(outcomes, request, NEWS_REFUSED);
    }
}

// Whether it is upstream.maxTotalConnections, or those with pins, that keep waiters waiting.
static bool is_crowded_out(const struct server *server)
{
    const struct servers *servers = server->servers;
    bool total = atomic_load(&servers->open_total) >= servers_total_cap(servers);
    bool own = server->ledger.open >= server->ledger.cap;
    return !server->failing && server->known && server->ledger.opening == 0 && (total || own);
}

// How long a request may wait for an upstream. A server that is there takes its time to be
// connected to, and serverWait, which may be 0, is about one that is not.
static int64_t patience_us(const struct server *server)
{
    int64_t server_wait_us = server->servers->config->server_wait_us;
    bool there = server->known && !server->failing;
    return there && server_wait_us < SERVER_CONNECT_WAIT_US ? SERVER_CONNECT_WAIT_US
                                                            : server_wait_us;
}

// How a request's wait for an upstream ends now: by its own deadline, by a server that does not
// come, or by the other servers' upstreams, which is overload. REFUSAL_COUNT: not yet.
static enum refusal end_of_wait(const struct server *server, const struct request *request,
                                int64_t now_us)
{
    int64_t waited_us = now_us - request->waits_since_us;
    if (request->ticket.deadline_us <= now_us) {
        return REFUSED_DEADLINE;
    }
    if (waited_us >= max_wait_us(server) && !request->ticket.finishes && is_crowded_out(server)) {
        return REFUSED_WAITED;
    }
    return waited_us >= patience_us(server) ? REFUSED_NO_SERVER : REFUSAL_COUNT;
}

static void expire_waiters(struct server *server, struct outcomes *outcomes, int64_t now_us)
{
    struct request *next;
    for (struct request *request = server->waiters; request; request = next) {
        next = request->next;
        enum refusal refusal = end_of_wait(server, request, now_us);
        if (refusal != REFUSAL_COUNT) {
            stop_waiting(server, request);
            gate_revoke(server->gate, &request->ticket, refusal, now_us);
            let_go(server, request);
            tell(outcomes, request, NEWS_REFUSED);
        }
    }
}

static int64_t next_tick(const struct server *server, int64_t now_us)
{
    int64_t at_us = gate_next_expiry(server->gate);
    if (is_lobby(server) && at_us != INT64_MAX) {
        at_us = earlier(at_us, now_us + DOUBT_US);
    }
    int64_t give_up_us = atomic_load(&server->give_up_us);
    if (give_up_us > now_us && at_us != INT64_MAX) {
        at_us = earlier(at_us, give_up_us);
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
    if (is_lobby(server) && now_us - server->looked_us >= DOUBT_US) {
        server->looked_us = now_us; // one that was doubted may do again
        evict(server, &outcomes, now_us);
    }
    if (server_is_doomed(server, now_us) && server->evicted_us != server->give_up_us) {
        server->evicted_us = server->give_up_us; // what has its cursor there need not wait
        evict(server, &outcomes, now_us);
    }
    grant(server, &outcomes, now_us);
    open_if_needed(server, &outcomes, now_us);
    exhaustion_look(server, &report, now_us);
    server->exhaustions += report.notice == EXHAUSTION_BEGIN;
    outcomes.next_tick_us = earlier(outcomes.next_tick_us, next_tick(server, now_us));
    unlock(server);

    exhaustion_tell(&report, worker, now_us);
    deliver(server, worker, &outcomes);
}
