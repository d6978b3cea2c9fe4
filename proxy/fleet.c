// SPDX-License-Identifier: Apache-2.0

#include "proxy/fleet.h"

#include <assert.h>
#include <hiredis/hiredis.h>
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

#include "policy/lease.h"
#include "proxy/config.h"
#include "proxy/fleet_script.h"
#include "proxy/log.h"
#include "proxy/mem.h"
#include "proxy/servers.h"

#define ROUND_US INT64_C(700000)
#define LOOK_NS 20000000           // how often what is open and wanted is looked at
#define BETWEEN_US INT64_C(500000) // two questions, on average
#define CALL_US 400000             // the longest a call to the store may take
#define FLEET_INSTANCES_MAX 256

struct fleet {
    struct servers *servers;
    struct lease lease;
    struct lease_peer peers[FLEET_INSTANCES_MAX];
    char terms[64];
    char key[160];
    char name[LEASE_NAME_BYTES];
    char host[256]; // or the path of a Unix socket
    int port;
    char user[256]; // "": none
    char password[256];
    redisContext *redis;
    char digest[64]; // of the script that the store has; "": it may not have it
    bool was_lost;   // the last call failed
    bool was_heard;  // the last call was answered
    enum lease_answer_kind last_kind;
    int allowed; // in force
    bool cuts;
    int open;
    int want; // the most since the last question
    int asked_need;
    int asked_held;
    int64_t earliest_us; // of BETWEEN_US
    int64_t round_us;    // when the next question is due at the latest
    timer_t end;         // of the process
    int64_t dies_us;
    atomic_bool ending;
    pthread_t thread;
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

static void count_server(struct server *server, void *arg)
{
    struct fleet *fleet = arg;
    struct server_counts counts;
    if (server->id == 0) {
        return;
    }
    server_count(server, 0, &counts);
    int open = counts.open + counts.opening;
    int want = counts.gate.in_flight + (int)counts.gate.queued;
    fleet->open = open > fleet->open ? open : fleet->open;
    fleet->want = want > fleet->want ? want : fleet->want;
}

static void follow_lease(struct fleet *fleet)
{
    int64_t now_us = boot_us();
    int allowed = lease_allows(&fleet->lease, now_us);
    bool cuts = lease_must_cut(&fleet->lease, now_us);
    int64_t dies_us = lease_dies_us(&fleet->lease);
    if (dies_us != INT64_MAX) {
        die_by(fleet, dies_us); // before anything is opened by it
    }
    if (allowed != fleet->allowed || cuts != fleet->cuts) {
        fleet->allowed = allowed;
        fleet->cuts = cuts;
        servers_set_fleet_cap(fleet->servers, allowed, cuts);
    }
    fleet->open = 0;
    servers_visit(fleet->servers, count_server, fleet);
    if (dies_us == INT64_MAX) {
        die_by(fleet, dies_us);
    }
}

// --- the store ----------------------------------------------------------------------------------

static void hang_up(struct fleet *fleet, const char *why)
{
    if (!fleet->was_lost) {
        log_fleet(LOG_WARN, "fleet_store_lost", why);
    }
    fleet->was_heard = false;
    fleet->was_lost = true;
    if (fleet->redis) {
        redisFree(fleet->redis);
        fleet->redis = NULL;
    }
}

static bool is_good(struct fleet *fleet, redisReply *reply)
{
    bool good = reply && reply->type != REDIS_REPLY_ERROR;
    if (!good) {
        hang_up(fleet, reply ? reply->str : fleet->redis->errstr);
    }
    if (reply) {
        freeReplyObject(reply);
    }
    return good;
}

static bool call_in(struct fleet *fleet)
{
    struct timeval patience = {.tv_usec = CALL_US};
    if (fleet->redis) {
        return true;
    }
    fleet->redis = fleet->host[0] == '/'
                       ? redisConnectUnixWithTimeout(fleet->host, patience)
                       : redisConnectWithTimeout(fleet->host, fleet->port, patience);
    if (!fleet->redis || fleet->redis->err) {
        hang_up(fleet, fleet->redis ? fleet->redis->errstr : "no memory");
        return false;
    }
    redisSetTimeout(fleet->redis, patience);
    if (!fleet->password[0]) {
        return true;
    }
    return is_good(fleet, fleet->user[0] ? redisCommand(fleet->redis, "AUTH %s %s", fleet->user,
                                                        fleet->password)
                                         : redisCommand(fleet->redis, "AUTH %s", fleet->password));
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

// By name, which a store that has just started does not know: then it is told the script.
static bool load(struct fleet *fleet)
{
    if (fleet->digest[0]) {
        return true;
    }
    redisReply *reply = redisCommand(fleet->redis, "SCRIPT LOAD %s", fleet_script);
    if (reply && reply->type == REDIS_REPLY_STRING && reply->len < sizeof fleet->digest) {
        memcpy(fleet->digest, reply->str, reply->len + 1);
    }
    return is_good(fleet, reply) && fleet->digest[0];
}

static redisReply *send_ask(struct fleet *fleet, const struct lease_ask *ask, bool leaves,
                            int64_t now_us)
{
    struct arguments arguments = {0};
    add_text(&arguments, "EVALSHA");
    add_text(&arguments, fleet->digest);
    add_number(&arguments, 1);
    add_text(&arguments, fleet->key);
    add_number(&arguments, fleet->lease.id);
    add_number(&arguments, ask->seq);
    add_text(&arguments, fleet->terms);
    add_text(&arguments, fleet->lease.epoch);
    add_text(&arguments, ask->mature ? "1" : "");
    add_number(&arguments, (uint64_t)ask->held);
    add_number(&arguments, (uint64_t)ask->need);
    add_number(&arguments, (uint64_t)ask->room);
    add_text(&arguments, fleet->name);
    add_text(&arguments, leaves ? "1" : "");
    add_over(&fleet->lease, now_us, &arguments);
    return redisCommandArgv(fleet->redis, arguments.count, arguments.items, NULL);
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

static bool read_peer(const struct fleet *fleet, const redisReply *reply, size_t i,
                      struct lease_peer *ret_peer)
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
    (void)fleet;
    return true;
}

static bool read_granted(const struct fleet *fleet, const redisReply *reply,
                         struct lease_answer *ret_answer)
{
    const struct lease_terms *terms = &fleet->lease.terms;
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
        if (!read_peer(fleet, reply, i, &peer)) {
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

static void learn(struct fleet *fleet, const redisReply *reply, uint64_t seq)
{
    struct lease *lease = &fleet->lease;
    struct lease_answer answer;
    if (!read_answer(fleet, reply, &answer)) {
        hang_up(fleet, "nonsense");
        return;
    }
    if (!fleet->was_heard) {
        log_fleet(LOG_INFO, "fleet_store_found", "");
    }
    fleet->was_heard = true;
    fleet->was_lost = false;
    log_refusal(fleet, answer.kind);
    answer.seq = seq;
    int64_t now_us = boot_us();
    if (!lease_learn(lease, &answer, now_us) || answer.kind != LEASE_GRANTED) {
        return;
    }
    for (size_t i = 5; i < reply->elements; i += 5) {
        struct lease_peer peer;
        if (read_peer(fleet, reply, i, &peer)) {
            lease_meet(lease, &peer, now_us);
        }
    }
    lease_part(lease);
}

static void ask(struct fleet *fleet, bool leaves)
{
    if (!call_in(fleet) || !load(fleet)) {
        return;
    }
    follow_lease(fleet); // that took time
    int64_t now_us = boot_us();
    struct lease_ask asked = lease_ask(&fleet->lease, fleet->open, fleet->want, now_us);
    fleet->asked_need = asked.need;
    fleet->asked_held = asked.held;
    fleet->want = 0;
    redisReply *reply = send_ask(fleet, &asked, leaves, now_us);
    if (!reply || reply->type == REDIS_REPLY_ERROR) {
        fleet->digest[0] = '\0';
        (void)is_good(fleet, reply);
        return;
    }
    if (!leaves) {
        learn(fleet, reply, asked.seq);
    }
    freeReplyObject(reply);
}

// --- its thread ---------------------------------------------------------------------------------

// More is needed than was said, or something that others wait for has been closed.
static bool has_news(const struct fleet *fleet)
{
    const struct lease *lease = &fleet->lease;
    int floor = lease->terms.floor;
    int need = fleet->want - floor;
    int closed = fleet->open - floor > lease->told ? fleet->open - floor : lease->told;
    return (need > fleet->asked_need && fleet->asked_need < lease->most - floor) ||
           need > lease->held || (lease->told < lease->held && closed < lease->held);
}

static void *run(void *arg)
{
    struct fleet *fleet = arg;
    static const struct timespec pause = {.tv_nsec = LOOK_NS};
    while (!atomic_load(&fleet->ending)) {
        follow_lease(fleet);
        int64_t now_us = boot_us();
        bool news = has_news(fleet) && fleet->earliest_us - now_us <= BETWEEN_US;
        if (now_us >= fleet->round_us || news) {
            fleet->round_us = now_us + ROUND_US;
            fleet->earliest_us =
                (fleet->earliest_us > now_us ? fleet->earliest_us : now_us) + BETWEEN_US;
            ask(fleet, false);
            follow_lease(fleet);
        }
        nanosleep(&pause, NULL);
    }
    return NULL;
}

// --- life ---------------------------------------------------------------------------------------

// "host", "host:port", "[::1]:port", or the path of a Unix socket.
static void split_address(struct fleet *fleet, const char *address)
{
    snprintf(fleet->host, sizeof fleet->host, "%s", address);
    fleet->port = 6379;
    char *colon = strrchr(fleet->host, ':');
    if (fleet->host[0] != '/' && colon && !strchr(colon, ']')) {
        *colon = '\0';
        fleet->port = (int)strtol(colon + 1, NULL, 10);
    }
    if (fleet->host[0] == '[') {
        fleet->host[strcspn(fleet->host, "]")] = '\0';
        memmove(fleet->host, fleet->host + 1, strlen(fleet->host));
    }
}

static bool read_password(struct fleet *fleet, const char *path)
{
    FILE *file = path ? fopen(path, "re") : NULL;
    if (!file) {
        return path == NULL;
    }
    bool good = fgets(fleet->password, sizeof fleet->password, file) != NULL;
    fleet->password[strcspn(fleet->password, "\r\n")] = '\0';
    fclose(file);
    return good && fleet->password[0];
}

bool fleet_check(const struct config *config, char *ret_error, size_t capacity)
{
    long long floors = (long long)config->fleet_instances * config->fleet_floor;
    if (config->fleet_redis && strstr(config->fleet_redis, "://")) {
        snprintf(ret_error, capacity,
                 "fleet.redis: must be HOST[:PORT] or the path of a Unix socket, not a URI; TLS "
                 "(rediss://) is not supported");
        return false;
    }
    if (config->fleet_redis && config->fleet_cap < floors) {
        snprintf(ret_error, capacity,
                 "fleet.cap %d: must be at least fleet.instances times fleet.floor, %lld",
                 config->fleet_cap, floors);
        return false;
    }
    return true;
}

static bool set_up(struct fleet *fleet, const struct config *config, char *ret_error,
                   size_t capacity)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
    struct lease_terms terms = {config->fleet_cap, config->fleet_floor, config->fleet_instances,
                                config->fleet_lease_us};
    uint64_t id;
    if (!read_password(fleet, config->fleet_password_file)) {
        snprintf(ret_error, capacity, "fleet.passwordFile %s: cannot be read, or is empty",
                 config->fleet_password_file);
        return false;
    }
    if (getentropy(&id, sizeof id) != 0 || timer_create(CLOCK_BOOTTIME, &event, &fleet->end) != 0) {
        snprintf(ret_error, capacity, "no random numbers, or no timer, to be had");
        return false;
    }
    split_address(fleet, config->fleet_redis);
    snprintf(fleet->user, sizeof fleet->user, "%s", config->fleet_user ? config->fleet_user : "");
    snprintf(fleet->key, sizeof fleet->key, "weir:%s", config->fleet_name);
    snprintf(fleet->terms, sizeof fleet->terms, "%d %d %d %lld", terms.cap, terms.floor,
             terms.instances, (long long)(terms.us / 1000));
    if (gethostname(fleet->name, sizeof fleet->name - 1) != 0) {
        fleet->name[0] = '\0';
    }
    lease_init(&fleet->lease, &terms, config->max_connections, id, fleet->peers, boot_us());
    return true;
}

struct fleet *fleet_start(const struct config *config, struct servers *servers, char *ret_error,
                          size_t capacity)
{
    ret_error[0] = '\0';
    if (!config->fleet_redis) {
        return NULL;
    }
    struct fleet *fleet = xcalloc(1, sizeof *fleet);
    *fleet = (struct fleet){.servers = servers, .dies_us = INT64_MAX, .allowed = -1};
    if (!fleet_check(config, ret_error, capacity) || !set_up(fleet, config, ret_error, capacity)) {
        free(fleet);
        return NULL;
    }
    follow_lease(fleet);
    int error = pthread_create(&fleet->thread, NULL, run, fleet);
    assert(error == 0);
    (void)error;
    return fleet;
}

void fleet_stop(struct fleet *fleet)
{
    if (!fleet) {
        return;
    }
    atomic_store(&fleet->ending, true);
    pthread_join(fleet->thread, NULL);
    ask(fleet, true);
    if (fleet->redis) {
        redisFree(fleet->redis);
    }
    timer_delete(fleet->end);
    free(fleet);
}
