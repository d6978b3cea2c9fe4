// SPDX-License-Identifier: Apache-2.0

#include "proxy/worker.h"

#include <assert.h>
#include <stdlib.h>

#include "proxy/client.h"
#include "proxy/cull.h"
#include "proxy/inquiry.h"
#include "proxy/log.h"
#include "proxy/mem.h"
#include "proxy/report.h"
#include "proxy/request.h"
#include "proxy/show.h"
#include "proxy/upstream.h"
#include "wire/compression.h"

#define STARVED_RETRY_US 10000
#define END_GRACE_US 10000000
#define LET_IN_MOST_US 1000 // of one handshake's processor time

// --- the turn's end -----------------------------------------------------------------------------

// Runs those that are ready now. Those that become so meanwhile have to wait for the next turn, so
// that a client that sends without end does not keep the others from theirs.
static void run_ready(struct worker *worker)
{
    for (int left = worker->ready_count; left > 0 && worker->ready; left--) {
        request_run(worker->ready); // takes itself off the list
    }
}

static void begin_another_turn(void *arg)
{
    (void)arg; // the turn's end does the rest
}

// One, since its cryptography may take a millisecond, in which nobody else is served; and then none
// for as long as that took. Somebody who is served wakes a thread that sleeps; one that never does
// is made to wait for its turn wherever processors are shared.
static void let_one_in(struct worker *worker)
{
    int64_t now_us = loop_now_us(worker->loop);
    if (worker->knocking && now_us >= worker->let_in_us) {
        client_let_in(worker->knocking); // takes itself off the list
        int64_t done_us = loop_now_us(worker->loop);
        int64_t took_us = done_us - now_us; // perhaps it lost the processor meanwhile
        worker->let_in_us = done_us + (took_us < LET_IN_MOST_US ? took_us : LET_IN_MOST_US);
    }
}

static void plan_another_turn(struct worker *worker)
{
    if (worker->ready) {
        timer_set(worker->again, loop_now_us(worker->loop));
    } else if (worker->knocking) {
        timer_set(worker->again, worker->let_in_us);
    }
}

static void bury_dead(struct worker *worker)
{
    while (worker->dead_clients) {
        struct client *client = worker->dead_clients;
        worker->dead_clients = client->next;
        client_bury(client);
    }
    struct upstream **at = &worker->dead_upstreams;
    while (*at) {
        struct upstream *upstream = *at;
        struct upstream *next = upstream->next;
        if (upstream_bury(upstream)) {
            *at = next;
        } else {
            at = &upstream->next;
        }
    }
}

static bool is_at_rest(const struct worker *worker)
{
    if (worker->clients || worker->request_count > 0 || worker->dead_upstreams) {
        return false;
    }
    for (const struct upstream *upstream = worker->upstreams; upstream; upstream = upstream->next) {
        if (upstream->deriving) {
            return false;
        }
    }
    return true;
}

static void end_if_possible(struct worker *worker)
{
    if (!worker->ending) {
        return;
    }
    struct shared *shared = worker->shared;
    bool at_rest = is_at_rest(worker);
    if (at_rest && !worker->rested) {
        worker->rested = true;
        atomic_fetch_sub(&shared->workers_at_work, 1);
    }
    // While others are at work, an idle upstream of ours may be what they wait for.
    bool done = at_rest && atomic_load(&shared->workers_at_work) == 0;
    worker->late = !done && loop_now_us(worker->loop) >= worker->end_by_us;
    if (done || worker->late) {
        loop_stop(worker->loop);
    }
}

static void on_turn_end(void *arg)
{
    struct worker *worker = arg;
    run_ready(worker);
    let_one_in(worker);
    plan_another_turn(worker);
    bury_dead(worker);
    end_if_possible(worker);
}

// --- lists of requests --------------------------------------------------------------------------

void worker_make_ready(struct worker *worker, struct request *request)
{
    assert(!request->is_ready && !request->is_starved);
    request->is_ready = true;
    request->next = NULL;
    *worker->ready_end = request;
    worker->ready_end = &request->next;
    worker->ready_count++;
}

void worker_starve(struct worker *worker, struct request *request)
{
    assert(!request->is_ready);
    if (request->is_starved) {
        return;
    }
    if (!worker->starved) { // the first: others must not put its retry off
        timer_set(worker->hunger, loop_now_us(worker->loop) + STARVED_RETRY_US);
    }
    struct request **end = &worker->starved;
    while (*end) {
        end = &(*end)->next;
    }
    request->is_starved = true;
    request->next = NULL;
    *end = request;
}

// Returns where the next one hangs now.
static struct request **remove_from(struct request **at, const struct request *request)
{
    while (*at != request) {
        at = &(*at)->next;
    }
    *at = request->next;
    return at;
}

void worker_forget(struct worker *worker, struct request *request)
{
    if (request->is_starved) {
        remove_from(&worker->starved, request);
        request->is_starved = false;
    }
    if (request->is_ready) {
        struct request **at = remove_from(&worker->ready, request);
        if (!*at) {
            worker->ready_end = at;
        }
        worker->ready_count--;
        request->is_ready = false;
    }
}

// What it waited for was not its peer's fault: the peer's time to make progress begins anew, and
// nobody can say that a server is silent that is not listened to.
static void restart_clock(struct request *request, int64_t now_us)
{
    if (request->upstream) {
        request->upstream->progress_us = now_us;
        atomic_store_explicit(&request->server->heard_us, now_us, memory_order_relaxed);
    } else if (request->client) {
        request->client->waits_since_us = now_us;
    }
}

static void feed_starved(void *arg)
{
    struct worker *worker = arg;
    int64_t now_us = loop_now_us(worker->loop);
    struct request *request;
    struct request *all = worker->starved;
    worker->starved = NULL;
    while ((request = all)) {
        all = request->next;
        request->is_starved = false;
        restart_clock(request, now_us);
        worker_make_ready(worker, request);
    }
}

// --- time ---------------------------------------------------------------------------------------

static void on_tick(void *arg)
{
    struct worker *worker = arg;
    worker->tick_us = INT64_MAX;
    int64_t now_us = loop_now_us(worker->loop);
    servers_tick(worker->shared->servers, worker, now_us);
    affinity_tick(&worker->shared->affinity, worker, now_us);
}

void worker_tick_by(struct worker *worker, int64_t at_us)
{
    if (at_us < worker->tick_us) {
        worker->tick_us = at_us;
        timer_set(worker->tick, at_us);
    }
}

static void on_sweep(void *arg)
{
    struct worker *worker = arg;
    int64_t now_us = loop_now_us(worker->loop);
    atomic_store_explicit(&worker->swept_us, now_us, memory_order_relaxed);
    struct client *next_client;
    for (struct client *client = worker->clients; client; client = next_client) {
        next_client = client->next;
        client_check_deadlines(client, now_us);
    }
    struct upstream *next_upstream;
    for (struct upstream *upstream = worker->upstreams; upstream; upstream = next_upstream) {
        next_upstream = upstream->next;
        upstream_check_deadlines(upstream, now_us);
    }
    drain_step(worker, now_us);
    sessions_pass_on(worker);
    timer_set(worker->sweep, now_us + WORKER_SWEEP_US);
}

#define WORKER_STUCK_US 5000000

bool workers_turn(struct worker *const *workers, int count, int64_t now_us)
{
    for (int i = 0; i < count; i++) {
        if (now_us - atomic_load(&workers[i]->swept_us) > WORKER_STUCK_US) {
            return false;
        }
    }
    return true;
}

int workers_count_clients(struct worker *const *workers, int count)
{
    int clients = 0;
    for (int i = 0; i < count; i++) {
        clients += atomic_load(&workers[i]->client_count);
    }
    return clients;
}

double worker_random(struct worker *worker)
{
    // xorshift64* (Vigna, 2014): spreads retries, needs no secrecy.
    worker->random ^= worker->random >> 12;
    worker->random ^= worker->random << 25;
    worker->random ^= worker->random >> 27;
    return (double)(worker->random * UINT64_C(0x2545f4914f6cdd1d) >> 11) * 0x1p-53;
}

// --- mail ---------------------------------------------------------------------------------------

#define CONTAINER(pointer, type) ((type *)((char *)(pointer)-offsetof(type, mail)))

static void take_client(struct worker *worker, struct new_client *new_client)
{
    client_accept(worker, new_client->fd, new_client->door);
    free(new_client);
}

static void take_news(struct worker *worker, struct request *request)
{
    if (request->handed) {
        upstream_join(request->handed, worker);
    }
    request_receive_news(request);
    request_run(request);
}

static void take_topology(struct worker *worker, struct topology_mail *mail)
{
    struct topology *former = worker->topology;
    worker->topology = mail->topology;
    free(mail);
    worker->has_face |= topology_face(worker->topology, &worker->face);
    servers_follow(worker->shared->servers, worker, former, worker->topology);
    topology_drop(former);
}

// Upstreams that were opened by the former one are replaced in time (upstream_is_old).
static void take_approach(struct worker *worker, struct approach_mail *mail)
{
    approach_drop(worker->approach);
    worker->approach = mail->approach;
    free(mail);
    worker->approached_us = loop_now_us(worker->loop);
    codec_free(worker->servers_codec);
    worker->servers_codec = codec_new(worker->approach->deployment->zlib_level);
    atomic_store(&worker->approach_taken, worker->approach->number);
}

// Rules that do nothing are none, so that a request need not go through them.
static void take_rules(struct worker *worker, struct rules_mail *mail)
{
    uint64_t generation = mail->generation;
    rules_drop(worker->rules);
    worker->rules = mail->rules;
    free(mail);
    if (rules_are_empty(worker->rules)) {
        rules_drop(worker->rules);
        worker->rules = NULL;
    }
    servers_adapt(worker->shared->servers, worker);
    atomic_store(&worker->seen_rules, generation);
}

static void take_users(struct worker *worker, struct users_mail *mail)
{
    struct client *next;
    for (struct client *client = worker->clients; client; client = next) {
        next = client->next;
        client_follow(client, mail->users);
    }
    users_drop(mail->users);
    free(mail);
    atomic_fetch_add(&worker->users_taken, 1);
}

static void take_reloaded(struct worker *worker, struct reloaded_mail *mail)
{
    worker->closing = mail->closed_doors ? mail->drain : worker->closing;
    for (struct client *client = worker->clients; client; client = client->next) {
        client->leaves = client->leaves || (mail->closed_doors >> client->door & 1);
        client_weigh(client);
    }
    affinity_tick(&worker->shared->affinity, worker, loop_now_us(worker->loop)); // leaks, sooner
    free(mail);
    atomic_fetch_add(&worker->reloads_taken, 1);
}

// One that takes writes, if there is one.
static void try_a_server(struct worker *worker)
{
    const struct topology *topology = worker->topology;
    const struct server_info *found = topology ? topology_writable(topology) : NULL;
    for (size_t i = 0; topology && !found && i < topology->server_count; i++) {
        const struct server_info *info = &topology->servers[i];
        found = server_is_usable(info) ? info : NULL;
    }
    if (found) {
        server_try(found->server, worker, loop_now_us(worker->loop));
    }
}

static void begin_to_end(struct worker *worker)
{
    worker->ending = true;
    int64_t grace_us = atomic_load(&worker->shared->hurried) ? 0 : END_GRACE_US;
    worker->end_by_us = loop_now_us(worker->loop) + grace_us;
    struct client *next;
    for (struct client *client = worker->clients; client; client = next) {
        next = client->next;
        if (!client->request || client->request->step == STEP_READ) {
            client_close(client, CLOSE_ENDING);
        }
    }
}

static void take_hand_over(struct upstream *upstream)
{
    server_hand_over(upstream->server, upstream);
}

static void take_answer(struct inquiry *inquiry)
{
    inquiry->request->inquiry = inquiry;
    request_run(inquiry->request);
}

static void deliver(void *arg, struct mail *mail)
{
    struct worker *worker = arg;
    switch ((enum worker_mail)mail->kind) {
    case MAIL_NEW_CLIENT:
        take_client(worker, CONTAINER(mail, struct new_client));
        break;
    case MAIL_NEWS:
        take_news(worker, CONTAINER(mail, struct request));
        break;
    case MAIL_HAND_OVER:
        take_hand_over(CONTAINER(mail, struct upstream));
        break;
    case MAIL_DERIVED:
        upstream_key_derived(CONTAINER(mail, struct upstream));
        break;
    case MAIL_TOPOLOGY:
        take_topology(worker, CONTAINER(mail, struct topology_mail));
        break;
    case MAIL_APPROACH:
        take_approach(worker, CONTAINER(mail, struct approach_mail));
        break;
    case MAIL_RULES:
        take_rules(worker, CONTAINER(mail, struct rules_mail));
        break;
    case MAIL_USERS:
        take_users(worker, CONTAINER(mail, struct users_mail));
        break;
    case MAIL_RELOADED:
        take_reloaded(worker, CONTAINER(mail, struct reloaded_mail));
        break;
    case MAIL_ADAPT:
        atomic_store(&worker->shared->servers->adapting, false); // later changes take another mail
        servers_adapt(worker->shared->servers, worker);
        break;
    case MAIL_ORPHANS:
        free(mail);
        affinity_tick(&worker->shared->affinity, worker, loop_now_us(worker->loop));
        break;
    case MAIL_TRY:
        try_a_server(worker);
        atomic_store(&CONTAINER(mail, struct try_mail)->taken, true);
        break;
    case MAIL_REPORT:
        report_add(CONTAINER(mail, struct report_mail)->report, worker);
        free(CONTAINER(mail, struct report_mail));
        break;
    case MAIL_SHOW:
        show_go_on(CONTAINER(mail, struct show));
        break;
    case MAIL_ANSWERED:
        take_answer((struct inquiry *)CONTAINER(mail, struct question));
        break;
    case MAIL_DRAIN:
        worker->drain = CONTAINER(mail, struct drain_mail)->drain;
        free(CONTAINER(mail, struct drain_mail));
        break;
    case MAIL_CULL:
        cull_take(worker, mail);
        break;
    case MAIL_END:
        free(mail);
        begin_to_end(worker);
        break;
    }
}

void worker_give_client(struct worker *worker, int fd, int door)
{
    struct new_client *new_client = xcalloc(1, sizeof *new_client);
    new_client->fd = fd;
    new_client->door = door;
    atomic_fetch_add(&worker->client_count, 1);
    atomic_fetch_add(&worker->shared->knocking, 1);
    worker_post(worker, &new_client->mail, MAIL_NEW_CLIENT);
}

void worker_post(struct worker *worker, struct mail *mail, enum worker_mail kind)
{
    mail->kind = (int)kind;
    mailbox_post(worker->mailbox, mail);
}

// --- life ---------------------------------------------------------------------------------------

struct worker *worker_new(int index, struct shared *shared)
{
    struct worker *worker = xcalloc(1, sizeof *worker);
    worker->index = index;
    worker->shared = shared;
    worker->loop = loop_new();
    worker->mailbox = mailbox_new(worker->loop, deliver, worker);
    worker->tick = timer_new(worker->loop, on_tick, worker);
    worker->tick_us = INT64_MAX;
    worker->sweep = timer_new(worker->loop, on_sweep, worker);
    worker->hunger = timer_new(worker->loop, feed_starved, worker);
    worker->again = timer_new(worker->loop, begin_another_turn, worker);
    worker->ready_end = &worker->ready;
    worker->knocking_end = &worker->knocking;
    atomic_fetch_add(&shared->workers_at_work, 1);
    worker->random =
        UINT64_C(0x9e3779b97f4a7c15) * (uint64_t)(index + 1) ^ (uint64_t)loop_now_us(worker->loop);
    meter_init(&worker->meter);
    worker->apps_codec = codec_new(-1);
    worker->approach = approach_keep(shared->approach);
    worker->servers_codec = codec_new(worker->approach->deployment->zlib_level);
    loop_on_turn_end(worker->loop, on_turn_end, worker);
    atomic_init(&worker->swept_us, loop_now_us(worker->loop));
    timer_set(worker->sweep, loop_now_us(worker->loop) + WORKER_SWEEP_US);
    return worker;
}

static void *run(void *arg)
{
    struct worker *worker = arg;
    loop_run(worker->loop);
    return NULL;
}

void worker_start(struct worker *worker)
{
    int error = pthread_create(&worker->thread, NULL, run, worker);
    assert(error == 0);
    (void)error;
}

void worker_join(struct worker *worker)
{
    pthread_join(worker->thread, NULL);
}

void worker_free(struct worker *worker)
{
    while (worker->upstreams) {
        struct upstream *upstream = worker->upstreams;
        if (server_take_idle(upstream->server, upstream) || upstream->opening || upstream->broken) {
            upstream_drop(upstream, "weir is ending"); // control has ended already
        }
    }
    bury_dead(worker);
    if (worker->topology) {
        topology_drop(worker->topology);
    }
    approach_drop(worker->approach);
    rules_drop(worker->rules);
    request_free_all(worker);
    sessions_fini(&worker->ended_sessions);
    meter_fini(&worker->meter);
    codec_free(worker->apps_codec);
    codec_free(worker->servers_codec);
    timer_free(worker->tick);
    timer_free(worker->sweep);
    timer_free(worker->hunger);
    timer_free(worker->again);
    mailbox_free(worker->mailbox);
    loop_free(worker->loop);
    free(worker);
}
