// SPDX-License-Identifier: Apache-2.0

#include "proxy/fleet.h"

#include <assert.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "proxy/config.h"
#include "proxy/fleet_script.h"
#include "proxy/log.h"
#include "proxy/mem.h"
#include "proxy/servers.h"
#include "proxy/store.h"

#define ROUND_US INT64_C(700000)
#define LOOK_US 20000              // how often what is open and wanted is looked at
#define BETWEEN_US INT64_C(500000) // two questions, on average

struct fleet {
    struct servers *servers;
    struct store *store;
    struct loop *loop;
    struct timer *look;
    char terms[64];
    char key[160];
    char host[LEASE_NAME_BYTES]; // this machine's name
    bool was_lost;               // the last question had no answer
    enum lease_answer_kind last_kind;
    int want; // the most since the last question
    int asked_need;
    int64_t earliest_us; // of BETWEEN_US
    int64_t round_us;    // when the next question is due at the latest
    timer_t end;         // of the process
    int64_t dies_us;
    atomic_bool ending;
    pthread_t thread;
    pthread_mutex_t lock; // guards `now` for who looks; its own thread alone changes it
    struct fleet_look now;
};

// The lease runs while the machine sleeps, too.
static int64_t boot_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return now.tv_sec * INT64_C(1000000) + now.tv_nsec / 1000;
}

static void log_fleet(enum log_level level, const char *event, const char *why)
{
    struct log_line line;
    log_begin(&line, level, event);
    log_str(&line, "why", why);
    log_end(&line);
}

// --- the kernel's timer -------------------------------------------------------------------------

// Whoever is frozen with a lease cannot close anything; but its kernel can, by ending it.
static void die_by(struct fleet *fleet, int64_t at_us)
{
    struct itimerspec spec = {0};
    if (at_us == fleet->dies_us) {
        return;
    }
    if (at_us != INT64_MAX) {
        spec.it_value.tv_sec = at_us / 1000000;
        spec.it_value.tv_nsec = at_us % 1000000 * 1000;
    }
    int error = timer_settime(fleet->end, TIMER_ABSTIME, &spec, NULL);
    assert(error == 0);
    (void)error;
    fleet->dies_us = at_us;
}

// --- what is there ------------------------------------------------------------------------------

struct tally {
    int open;
    int want;
};

static void count_server(struct server *server, void *arg)
{
    struct tally *most = arg;
    struct server_counts counts;
    if (server->id == 0) {
        return;
    }
    server_count(server, 0, &counts);
    int open = counts.open + counts.opening;
    int want = counts.gate.in_flight + (int)counts.gate.queued;
    most->open = open > most->open ? open : most->open;
    most->want = want > most->want ? want : most->want;
}

// Returns whether other bounds than before are to be put in force.
static bool read_lease(struct fleet *fleet, int64_t now_us, int64_t *ret_dies_us)
{
    struct fleet_look *now = &fleet->now;
    int most = servers_largest_cap(fleet->servers);
    pthread_mutex_lock(&fleet->lock);
    if (most > 0) {
        lease_bound(&now->lease, most);
    }
    int allowed = lease_allows(&now->lease, now_us);
    bool cuts = lease_must_cut(&now->lease, now_us);
    bool differs = allowed != now->allowed || cuts != now->cuts;
    now->allowed = allowed;
    now->cuts = cuts;
    *ret_dies_us = lease_dies_us(&now->lease);
    pthread_mutex_unlock(&fleet->lock);
    return differs;
}

static int64_t tell_lease(struct fleet *fleet, const struct tally *most, int64_t now_us)
{
    pthread_mutex_lock(&fleet->lock);
    fleet->now.open = most->open;
    fleet->now.want = most->want;
    lease_look(&fleet->now.lease, most->open, now_us);
    int64_t dies_us = lease_dies_us(&fleet->now.lease);
    pthread_mutex_unlock(&fleet->lock);
    return dies_us;
}

// Returns the time as of which what the lease allows is in force: whatever is told of it goes by
// that. A moment later the lease itself may allow less.
static int64_t follow_lease(struct fleet *fleet)
{
    int64_t dies_us;
    int64_t now_us = boot_us();
    struct tally most = {0};
    bool differs = read_lease(fleet, now_us, &dies_us);
    if (dies_us != INT64_MAX) {
        die_by(fleet, dies_us); // before anything is opened by it
    }
    if (differs) {
        servers_set_fleet_cap(fleet->servers, fleet->now.allowed, fleet->now.cuts);
    }
    servers_visit(fleet->servers, count_server, &most);
    die_by(fleet, tell_lease(fleet, &most, now_us));
    fleet->want = most.want > fleet->want ? most.want : fleet->want;
    return now_us;
}

// --- the store ----------------------------------------------------------------------------------

static void lose_store(struct fleet *fleet)
{
    if (!fleet->was_lost) {
        log_fleet(LOG_WARN, "fleet_store_lost", store_error(fleet->store));
    }
    fleet->was_lost = true;
    pthread_mutex_lock(&fleet->lock);
    snprintf(fleet->now.error, sizeof fleet->now.error, "%s", store_error(fleet->store));
    pthread_mutex_unlock(&fleet->lock);
}

static void find_store(struct fleet *fleet)
{
    struct fleet_look *now = &fleet->now;
    if (fleet->was_lost || !now->store[0] || strcmp(now->store, store_peer(fleet->store)) != 0) {
        struct log_line line;
        log_begin(&line, LOG_INFO, "fleet_store_found");
        log_str(&line, "address", store_peer(fleet->store));
        log_end(&line);
    }
    fleet->was_lost = false;
    pthread_mutex_lock(&fleet->lock);
    now->error[0] = '\0';
    snprintf(now->store, sizeof now->store, "%s", store_peer(fleet->store));
    pthread_mutex_unlock(&fleet->lock);
}

struct arguments {
    const char *items[2 * FLEET_INSTANCES_MAX + 16];
    char numbers[2 * FLEET_INSTANCES_MAX + 16][24];
    int count;
};

static void add_text(struct arguments *arguments, const char *text)
{
    arguments->items[arguments->count++] = text;
}

static void add_number(struct arguments *arguments, uint64_t number)
{
    char *text = arguments->numbers[arguments->count];
    snprintf(text, sizeof arguments->numbers[0], "%" PRIu64, number);
    add_text(arguments, text);
}

static void add_over(const struct lease *lease, int64_t now_us, struct arguments *arguments)
{
    for (size_t i = 0; i < lease->peer_count; i++) {
        if (lease_is_over(lease, &lease->peers[i], now_us)) {
            add_number(arguments, lease->peers[i].id);
            add_number(arguments, lease->peers[i].seq);
        }
    }
}

static redisReply *send_ask(struct fleet *fleet, const struct lease_ask *ask, bool leaves,
                            int64_t now_us)
{
    struct arguments arguments = {0};
    add_number(&arguments, 1);
    add_text(&arguments, fleet->key);
    add_number(&arguments, fleet->now.lease.id);
    add_number(&arguments, ask->seq);
    add_text(&arguments, fleet->terms);
    add_text(&arguments, fleet->now.lease.epoch);
    add_text(&arguments, ask->mature ? "1" : "");
    add_number(&arguments, (uint64_t)ask->held);
    add_number(&arguments, (uint64_t)ask->need);
    add_number(&arguments, (uint64_t)ask->room);
    add_text(&arguments, fleet->host);
    add_text(&arguments, leaves ? "1" : "");
    add_over(&fleet->now.lease, now_us, &arguments);
    return store_run(fleet->store, arguments.count, arguments.items);
}

// --- what it says: from outside, so each element is looked at ---------------------------------

static const char *text_at(const redisReply *reply, size_t i)
{
    const redisReply *element = i < reply->elements ? reply->element[i] : NULL;
    return element && element->type == REDIS_REPLY_STRING ? element->str : NULL;
}

// -1: there is none, or it is none that may be.
static int number_at(const redisReply *reply, size_t i, int most)
{
    const redisReply *element = i < reply->elements ? reply->element[i] : NULL;
    bool good = element && element->type == REDIS_REPLY_INTEGER && element->integer >= 0 &&
                element->integer <= most;
    return good ? (int)element->integer : -1;
}

static bool read_peer(const redisReply *reply, size_t i, struct lease_peer *ret_peer)
{
    const char *id = text_at(reply, i);
    const char *seq = text_at(reply, i + 1);
    const char *name = text_at(reply, i + 4);
    *ret_peer = (struct lease_peer){.held = number_at(reply, i + 2, INT_MAX),
                                    .need = number_at(reply, i + 3, INT_MAX)};
    if (!id || !seq || !name || ret_peer->held < 0 || ret_peer->need < 0) {
        return false;
    }
    ret_peer->id = strtoull(id, NULL, 10);
    ret_peer->seq = strtoull(seq, NULL, 10);
    snprintf(ret_peer->name, sizeof ret_peer->name, "%.*s", LEASE_NAME_BYTES - 1, name);
    return true;
}

static bool read_granted(const struct fleet *fleet, const redisReply *reply,
                         struct lease_answer *ret_answer)
{
    const struct lease_terms *terms = &fleet->now.lease.terms;
    int pool = terms->cap - terms->instances * terms->floor;
    const char *epoch = text_at(reply, 1);
    const char *mature = text_at(reply, 2);
    int held = number_at(reply, 3, pool);
    int told = number_at(reply, 4, pool);
    if (!epoch || !epoch[0] || strlen(epoch) >= LEASE_EPOCH_BYTES || !mature || held < 0 ||
        told < 0 || (reply->elements - 5) % 5 != 0) {
        return false;
    }
    *ret_answer = (struct lease_answer){.kind = LEASE_GRANTED,
                                        .epoch = epoch,
                                        .mature = strcmp(mature, "1") == 0,
                                        .held = held,
                                        .told = told};
    for (size_t i = 5; i < reply->elements; i += 5) {
        struct lease_peer peer;
        if (!read_peer(reply, i, &peer)) {
            return false;
        }
    }
    return true;
}

// Whether it is an answer at all.
static bool read_answer(struct fleet *fleet, const redisReply *reply,
                        struct lease_answer *ret_answer)
{
    const char *kind = reply->type == REDIS_REPLY_ARRAY ? text_at(reply, 0) : NULL;
    if (!kind) {
        return false;
    }
    if (strcmp(kind, "granted") == 0) {
        return read_granted(fleet, reply, ret_answer);
    }
    if (strcmp(kind, "full") == 0) {
        *ret_answer = (struct lease_answer){.kind = LEASE_FULL};
        return true;
    }
    *ret_answer = (struct lease_answer){.kind = LEASE_TERMS};
    return strcmp(kind, "terms") == 0;
}

static void log_refusal(struct fleet *fleet, enum lease_answer_kind kind)
{
    static const char *const words[] = {
        [LEASE_FULL] = "fleet.instances others are there",
        [LEASE_TERMS] = "the others have another fleet.cap, floor, instances or lease",
    };
    if (kind != fleet->last_kind && kind != LEASE_GRANTED) {
        log_fleet(LOG_ERROR, "fleet_refused", words[kind]);
    }
    fleet->last_kind = kind;
}

// With the lock.
static void meet_all(struct lease *lease, const redisReply *reply, int64_t now_us)
{
    for (size_t i = 5; i < reply->elements; i += 5) {
        struct lease_peer peer;
        if (read_peer(reply, i, &peer)) {
            lease_meet(lease, &peer, now_us);
        }
    }
    lease_part(lease);
}

static void learn(struct fleet *fleet, const redisReply *reply, uint64_t seq)
{
    struct lease *lease = &fleet->now.lease;
    struct lease_answer answer;
    if (!read_answer(fleet, reply, &answer)) {
        store_reject(fleet->store, "nonsense");
        lose_store(fleet);
        return;
    }
    find_store(fleet);
    log_refusal(fleet, answer.kind);
    answer.seq = seq;
    int64_t now_us = boot_us();
    pthread_mutex_lock(&fleet->lock);
    fleet->now.answered_us = now_us;
    if (lease_learn(lease, &answer, now_us) && answer.kind == LEASE_GRANTED) {
        meet_all(lease, reply, now_us);
    }
    pthread_mutex_unlock(&fleet->lock);
}

static struct lease_ask begin_ask(struct fleet *fleet, int64_t now_us)
{
    pthread_mutex_lock(&fleet->lock);
    struct lease_ask asked = lease_ask(&fleet->now.lease, fleet->now.open, fleet->want, now_us);
    fleet->now.need = asked.need;
    pthread_mutex_unlock(&fleet->lock);
    fleet->asked_need = asked.need;
    fleet->want = 0;
    return asked;
}

static void ask(struct fleet *fleet, bool leaves)
{
    if (!store_reach(fleet->store)) {
        lose_store(fleet);
        return;
    }
    int64_t now_us = follow_lease(fleet); // that took time
    struct lease_ask asked = begin_ask(fleet, now_us);
    redisReply *reply = send_ask(fleet, &asked, leaves, now_us);
    if (!reply) {
        lose_store(fleet);
    } else if (!leaves) {
        learn(fleet, reply, asked.seq);
    }
    if (reply) {
        freeReplyObject(reply);
    }
}

// --- its thread ---------------------------------------------------------------------------------

// More is needed than was said, or something that others wait for has been closed.
static bool has_news(const struct fleet *fleet)
{
    const struct lease *lease = &fleet->now.lease;
    int floor = lease->terms.floor;
    int need = fleet->want - floor;
    int open = fleet->now.open - floor;
    int closed = open > lease->told ? open : lease->told;
    return (need > fleet->asked_need && fleet->asked_need < lease->most - floor) ||
           need > lease->held || (lease->told < lease->held && closed < lease->held);
}

// Also while an answer is waited for.
static void look(void *arg)
{
    struct fleet *fleet = arg;
    follow_lease(fleet);
    timer_set(fleet->look, loop_now_us(fleet->loop) + LOOK_US);
    loop_stop(fleet->loop);
}

static bool is_due(struct fleet *fleet, int64_t now_us)
{
    return now_us >= fleet->round_us ||
           (has_news(fleet) && fleet->earliest_us - now_us <= BETWEEN_US);
}

static void *run(void *arg)
{
    struct fleet *fleet = arg;
    timer_set(fleet->look, 0);
    while (!atomic_load(&fleet->ending)) {
        int64_t now_us = boot_us();
        if (is_due(fleet, now_us)) {
            fleet->round_us = now_us + ROUND_US;
            fleet->earliest_us =
                (fleet->earliest_us > now_us ? fleet->earliest_us : now_us) + BETWEEN_US;
            ask(fleet, false);
            follow_lease(fleet);
        }
        loop_run(fleet->loop);
    }
    if (store_is_there(fleet->store)) {
        ask(fleet, true);
    }
    return NULL;
}

// --- life ---------------------------------------------------------------------------------------

// NULL, or what is wrong with the address.
static const char *read_options(const struct config *config, struct store_options *ret_options)
{
    *ret_options = (struct store_options){
        .user = config->fleet_user,
        .password_file = config->fleet_password_file,
        .tls = {.ca_file = config->fleet_tls_ca_file,
                .certificate_key_file = config->fleet_tls_certificate_key_file},
        .script = fleet_script,
    };
    return store_address_parse(config->fleet_redis, &ret_options->address);
}

bool fleet_check(const struct config *config, char *ret_error, size_t capacity)
{
    struct store_options options;
    long long floors = (long long)config->fleet_instances * config->fleet_floor;
    if (!config->fleet_redis) {
        return true;
    }
    const char *error = read_options(config, &options);
    if (error) {
        snprintf(ret_error, capacity, "fleet.redis: %s", error); // it may have a password
        return false;
    }
    if (config->fleet_cap < floors) {
        snprintf(ret_error, capacity,
                 "fleet.cap %d: must be at least fleet.instances times fleet.floor, %lld",
                 config->fleet_cap, floors);
        return false;
    }
    return store_check(&options, ret_error, capacity);
}

static bool set_up(struct fleet *fleet, const struct config *config, char *ret_error,
                   size_t capacity)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
    struct lease_terms terms = {config->fleet_cap, config->fleet_floor, config->fleet_instances,
                                config->fleet_lease_us};
    struct store_options options;
    uint64_t id;
    if (getentropy(&id, sizeof id) != 0 || timer_create(CLOCK_BOOTTIME, &event, &fleet->end) != 0) {
        snprintf(ret_error, capacity, "no random numbers, or no timer, to be had");
        return false;
    }
    (void)read_options(config, &options); // it has been checked
    fleet->loop = loop_new();
    fleet->look = timer_new(fleet->loop, look, fleet);
    fleet->store = store_new(&options, fleet->loop);
    pthread_mutex_init(&fleet->lock, NULL);
    snprintf(fleet->key, sizeof fleet->key, "weir:%s", config->fleet_name);
    snprintf(fleet->terms, sizeof fleet->terms, "%d %d %d %lld", terms.cap, terms.floor,
             terms.instances, (long long)(terms.us / 1000));
    if (gethostname(fleet->host, sizeof fleet->host - 1) != 0) {
        fleet->host[0] = '\0';
    }
    lease_init(&fleet->now.lease, &terms, config->max_connections, id, fleet->now.peers, boot_us());
    return true;
}

struct fleet *fleet_start(const struct config *config, struct servers *servers, char *ret_error,
                          size_t capacity)
{
    ret_error[0] = '\0';
    if (!config->fleet_redis || !fleet_check(config, ret_error, capacity)) {
        return NULL;
    }
    struct fleet *fleet = xcalloc(1, sizeof *fleet);
    fleet->servers = servers;
    fleet->dies_us = INT64_MAX;
    fleet->now.allowed = -1;
    fleet->now.answered_us = -1;
    if (!set_up(fleet, config, ret_error, capacity)) {
        free(fleet);
        return NULL;
    }
    follow_lease(fleet);
    int error = pthread_create(&fleet->thread, NULL, run, fleet);
    assert(error == 0);
    (void)error;
    return fleet;
}

int64_t fleet_look(struct fleet *fleet, struct fleet_look *ret_look)
{
    pthread_mutex_lock(&fleet->lock);
    *ret_look = fleet->now;
    pthread_mutex_unlock(&fleet->lock);
    ret_look->lease.peers = ret_look->peers;
    return boot_us();
}

void fleet_stop(struct fleet *fleet)
{
    if (!fleet) {
        return;
    }
    atomic_store(&fleet->ending, true);
    pthread_join(fleet->thread, NULL);
    store_free(fleet->store);
    timer_free(fleet->look);
    loop_free(fleet->loop);
    timer_delete(fleet->end);
    pthread_mutex_destroy(&fleet->lock);
    free(fleet);
}
