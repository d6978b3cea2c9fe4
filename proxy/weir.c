// SPDX-License-Identifier: Apache-2.0
//
//      main thread       waits for signals
//      acceptor          listens; gives each new client to the worker that has the fewest
//      control           follows the deployment; posts snapshots to all workers
//      control socket    answers weir ctl; posts rules to all workers
//      worker 0 … N-1    everything else

#include "proxy/weir.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "proxy/access.h"
#include "proxy/admin/archive.h"
#include "proxy/admin/control_socket.h"
#include "proxy/admin/http.h"
#include "proxy/admin/observer.h"
#include "proxy/fleet.h"
#include "proxy/log.h"
#include "proxy/login.h"
#include "proxy/mem.h"
#include "proxy/net/listener.h"
#include "proxy/notify.h"
#include "proxy/reload.h"
#include "proxy/report.h"
#include "proxy/worker.h"

#define LISTENERS_MAX 32
#define EXIT_REFUSED 2
#define SEEN_PAUSES 5000 // of 0.2 ms
#define FIRST_LOOK_S 2   // how long apps wait at the start for the deployment to be found
#define ERROR_BYTES (CONFIG_ERROR_BYTES - CONFIG_SUBJECT_BYTES - 2) // without its subject

// The file's rules, read anew.
struct reading {
    const struct config *config;
    bool good;
};

struct weir {
    struct shared shared;
    struct deployment *deployment;
    struct users *users;       // NULL: apps do not log in
    struct rulebook *rulebook; // the control socket's thread has it
    struct control_socket *control_socket;
    _Atomic(struct reading *) reading; // what the rulebook's thread is to do; NULL: nothing
    uint64_t rules_generation;
    struct worker **workers;
    int worker_count;
    struct observer *observer;
    struct http *http;       // NULL: none
    struct fleet *fleet;     // NULL: none
    pthread_mutex_t posting; // guards the following three
    pthread_cond_t found_it;
    bool found;  // some snapshot has had a server that can be used
    bool ending; // no snapshot is posted after the workers were told to end

    pthread_t acceptor_thread;
    struct loop *acceptor;
    struct mailbox *acceptor_mailbox;
    struct timer *door;
    struct mail stop_accepting;
    struct mail accept_less;
    atomic_int_fast64_t drain_order_us; // of weir ctl: within that; 0: as configured; -1: none
    struct drain drain;                 // the main thread has it, and the following two
    struct app *app;
    struct weir_source source;
    unsigned users_exchanged;
    struct config *latest; // as it was last read anew; NULL: never
    atomic_int cap;        // by the configuration as it was last read
    uint64_t files_seen;   // what the certificates' files were like when they were last read
    int64_t files_looked_us;
    atomic_uint reloads_wanted; // by weir ctl
    atomic_uint reloads_done;
    atomic_bool reloaded;          // the last one was a success
    char said[CONTROL_SAID_BYTES]; // of it; guarded by `posting`
    int64_t fed_us;                // when the service manager's watchdog was
    struct listener *listeners[LISTENERS_MAX];
    int listener_count;
};

// --- what the configuration asks for ------------------------------------------------------------

// Puts in front of an error what it is about: the option and where it was set.
static void blame(const struct config *config, enum config_option option, const char *error,
                  char *ret_error, size_t capacity)
{
    char subject[CONFIG_SUBJECT_BYTES];
    config_describe(config, option, subject);
    snprintf(ret_error, capacity, "%.*s: %s", CONFIG_SUBJECT_BYTES, subject, error);
}

static struct deployment *make_deployment(const struct config *config, char *ret_error,
                                          size_t capacity)
{
    char error[ERROR_BYTES];
    struct deployment *deployment = deployment_parse(config->uri, error, sizeof error);
    if (!deployment) {
        blame(config, CONFIG_OPTION_uri, error, ret_error, capacity);
    }
    return deployment;
}

static enum tls_client_certificates wanted_certificates(const struct config *config)
{
    if (!config->tls_ca_file) {
        return TLS_CLIENTS_NONE;
    }
    return config->tls_allow_connections_without_certificates ? TLS_CLIENTS_OPTIONAL
                                                              : TLS_CLIENTS_REQUIRED;
}

static bool make_tls(const struct config *config, const struct deployment *deployment,
                     struct shared *shared, char *ret_error, size_t capacity)
{
    char error[ERROR_BYTES];
    if (config->tls_mode != CONFIG_TLS_DISABLED) {
        shared->tls_server = tls_server_new(config->tls_certificate_key_file, config->tls_ca_file,
                                            wanted_certificates(config), error, sizeof error);
        if (!shared->tls_server) {
            blame(config, CONFIG_OPTION_tls_mode, error, ret_error, capacity);
            return false;
        }
        if (config->tls_crl_file &&
            !tls_server_revoke(shared->tls_server, config->tls_crl_file, error, sizeof error)) {
            blame(config, CONFIG_OPTION_tls_crl_file, error, ret_error, capacity);
            return false;
        }
    }
    if (deployment->tls) {
        shared->tls_client = tls_client_new(&deployment->tls_options, error, sizeof error);
        if (!shared->tls_client) {
            blame(config, CONFIG_OPTION_uri, error, ret_error, capacity);
            return false;
        }
    }
    return true;
}

static void free_tls(struct shared *shared)
{
    if (shared->tls_server) {
        tls_server_free(shared->tls_server);
    }
    if (shared->tls_client) {
        tls_client_free(shared->tls_client);
    }
}

// The first bytes of a file; false if there are not as many.
static bool read_secret(const char *path, uint8_t ret_secret[LOGIN_SECRET_BYTES])
{
    FILE *file = fopen(path, "re");
    size_t bytes = file ? fread(ret_secret, 1, LOGIN_SECRET_BYTES, file) : 0;
    if (file) {
        fclose(file);
    }
    return bytes == LOGIN_SECRET_BYTES;
}

static bool make_logins(const struct config *config, struct weir *weir, char *ret_error,
                        size_t capacity)
{
    uint8_t secret[LOGIN_SECRET_BYTES];
    if (config->authorization != CONFIG_AUTHORIZATION_ENABLED) {
        return true;
    }
    if (config->salt_secret_file && !read_secret(config->salt_secret_file, secret)) {
        blame(config, CONFIG_OPTION_salt_secret_file, "cannot be read, or has less than 32 bytes",
              ret_error, capacity);
        return false;
    }
    if (!config->salt_secret_file && getentropy(secret, sizeof secret) != 0) {
        snprintf(ret_error, capacity, "no random numbers to be had");
        return false;
    }
    weir->users = users_new(config, NULL, ret_error, capacity);
    weir->shared.logins = weir->users ? logins_new(weir->users, secret) : NULL;
    OPENSSL_cleanse(secret, sizeof secret);
    return weir->users != NULL;
}

static bool make_identities(const struct config *config, struct shared *shared, char *ret_error,
                            size_t capacity)
{
    shared->identities = identities_new(config, ret_error, capacity);
    return shared->identities != NULL;
}

static bool check_archive(const struct config *config, char *ret_error, size_t capacity)
{
    char error[ERROR_BYTES];
    if (!config->events_path || archive_check(config->events_path, error, sizeof error)) {
        return true;
    }
    blame(config, CONFIG_OPTION_events_path, error, ret_error, capacity);
    return false;
}

bool weir_check(const struct config *config, char *ret_error, size_t error_capacity)
{
    struct shared shared = {0};
    struct deployment *deployment = make_deployment(config, ret_error, error_capacity);
    if (!deployment) {
        return false;
    }
    bool good = make_tls(config, deployment, &shared, ret_error, error_capacity) &&
                check_archive(config, ret_error, error_capacity) &&
                fleet_check(config, ret_error, error_capacity);
    if (good && make_identities(config, &shared, ret_error, error_capacity)) {
        identities_free(shared.identities, config->identities.count);
    } else {
        good = false;
    }
    free_tls(&shared);
    deployment_free(deployment);
    return good;
}

// --- accepting ----------------------------------------------------------------------------------

static struct worker *least_loaded(const struct weir *weir, int *ret_total)
{
    struct worker *least = weir->workers[0];
    int total = 0;
    for (int i = 0; i < weir->worker_count; i++) {
        struct worker *worker = weir->workers[i];
        int count = atomic_load_explicit(&worker->client_count, memory_order_relaxed);
        total += count;
        if (count < atomic_load_explicit(&least->client_count, memory_order_relaxed)) {
            least = worker;
        }
    }
    *ret_total = total;
    return least;
}

static void log_not_accepted(const struct weir *weir, const char *reason)
{
    static struct log_limit limit = {.per_second = 1};
    struct log_line line;
    if (log_begin_limited(&line, LOG_WARN, "client_refused", &limit, loop_now_us(weir->acceptor))) {
        log_str(&line, "reason", reason);
        log_end(&line);
    }
}

// --- the door: while many knock, others wait in the kernel's backlog

#define DOOR_US 2000 // how soon it is looked at again

static bool is_crowded(struct weir *weir)
{
    return atomic_load(&weir->shared.knocking) >= weir->shared.config->max_handshakes;
}

static void close_door(struct weir *weir)
{
    for (int i = 0; i < weir->listener_count; i++) {
        listener_pause(weir->listeners[i]);
    }
    timer_set(weir->door, loop_now_us(weir->acceptor) + DOOR_US);
}

static void open_door(void *arg)
{
    struct weir *weir = arg;
    if (is_crowded(weir)) {
        timer_set(weir->door, loop_now_us(weir->acceptor) + DOOR_US);
        return;
    }
    for (int i = 0; i < weir->listener_count; i++) {
        listener_resume(weir->listeners[i]);
    }
}

static void accepted(void *arg, int fd)
{
    struct weir *weir = arg;
    if (fd < 0) {
        log_not_accepted(weir, "out of file descriptors");
        return;
    }
    int total;
    struct worker *worker = least_loaded(weir, &total);
    int most = weir->shared.config->max_incoming_connections;
    if (total >= most + most / 4) { // those without a place are still answered hello
        log_not_accepted(weir, "net.maxIncomingConnections is reached");
        close(fd);
        return;
    }
    worker_give_client(worker, fd);
    if (is_crowded(weir)) {
        close_door(weir);
    }
}

static void log_listening(const struct listener *listener)
{
    struct address address;
    char text[160];
    listener_address(listener, &address);
    address_format(&address, text, sizeof text);
    struct log_line line;
    log_begin(&line, LOG_INFO, "listening");
    log_str(&line, "address", text);
    log_end(&line);
}

static bool listen_on(struct weir *weir, const struct address *address, enum config_option option,
                      char *ret_error, size_t capacity)
{
    char error[ERROR_BYTES];
    struct listener *listener =
        weir->listener_count < LISTENERS_MAX
            ? listener_open(weir->acceptor, address, accepted, weir, error, sizeof error)
            : NULL;
    if (!listener) {
        if (weir->listener_count == LISTENERS_MAX) {
            snprintf(error, sizeof error, "more than %d addresses", LISTENERS_MAX);
        }
        blame(weir->shared.config, option, error, ret_error, capacity);
        return false;
    }
    weir->listeners[weir->listener_count++] = listener;
    log_listening(listener);
    return true;
}

static bool listen_on_host(struct weir *weir, const char *host, uint16_t port,
                           enum config_option option, char *ret_error, size_t capacity)
{
    struct address addresses[ADDRESS_MAX];
    const char *error;
    size_t count = address_resolve(host, port, addresses, ADDRESS_MAX, &error);
    if (count == 0) {
        blame(weir->shared.config, option, error, ret_error, capacity);
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (!listen_on(weir, &addresses[i], option, ret_error, capacity)) {
            return false;
        }
    }
    return true;
}

static bool listen_everywhere(struct weir *weir, char *ret_error, size_t capacity)
{
    const struct config *config = weir->shared.config;
    for (size_t i = 0; i < config->bind_ip.count; i++) {
        if (!listen_on_host(weir, config->bind_ip.items[i], (uint16_t)config->port,
                            CONFIG_OPTION_port, ret_error, capacity)) {
            return false;
        }
    }
    if (!config->unix_socket) {
        return true;
    }
    // A name without a slash is a file of the working directory, not a host.
    char path[ERROR_BYTES];
    bool plain = strchr(config->unix_socket, '/') == NULL;
    snprintf(path, sizeof path, "%s%s", plain ? "./" : "", config->unix_socket);
    return listen_on_host(weir, path, 0, CONFIG_OPTION_unix_socket, ret_error, capacity);
}

static bool open_http(struct weir *weir, char *ret_error, size_t capacity)
{
    const struct config *config = weir->shared.config;
    char error[ERROR_BYTES];
    if (config->http_port == 0) {
        return true;
    }
    weir->http = http_open(config, error, sizeof error);
    if (!weir->http) {
        blame(config, CONFIG_OPTION_http_port, error, ret_error, capacity);
    }
    return weir->http != NULL;
}

static void stop_listening(struct weir *weir, bool near)
{
    int kept = 0;
    for (int i = 0; i < weir->listener_count; i++) {
        if (!near && listener_is_near(weir->listeners[i])) {
            weir->listeners[kept++] = weir->listeners[i];
        } else {
            listener_free(weir->listeners[i]);
        }
    }
    weir->listener_count = kept;
}

enum acceptor_mail { ACCEPT_NEAR, ACCEPT_NONE, ACCEPTOR_END };

static void deliver_to_acceptor(void *arg, struct mail *mail)
{
    struct weir *weir = arg;
    stop_listening(weir, mail->kind != ACCEPT_NEAR);
    if (mail->kind == ACCEPTOR_END) {
        loop_stop(weir->acceptor);
    }
}

static void *run_acceptor(void *arg)
{
    struct weir *weir = arg;
    loop_run(weir->acceptor);
    return NULL;
}

// --- the deployment -----------------------------------------------------------------------------

// On control's thread: each worker gets a reference of its own.
static void topology_changed(void *arg, struct topology *topology)
{
    struct weir *weir = arg;
    servers_adopt(weir->shared.servers, topology);
    pthread_mutex_lock(&weir->posting);
    for (int i = 0; i < weir->worker_count && !weir->ending; i++) {
        struct topology_mail *mail = xcalloc(1, sizeof *mail);
        mail->topology = topology_keep(topology);
        worker_post(weir->workers[i], &mail->mail, MAIL_TOPOLOGY);
    }
    struct face face;
    weir->found |= topology_face(topology, &face);
    pthread_cond_signal(&weir->found_it);
    pthread_mutex_unlock(&weir->posting);
    topology_drop(topology);
}

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

// So that who is told that something was done, as that a rule was added, can count on it. A worker
// takes its mail in every turn.
static void wait_for_workers(const struct weir *weir,
                             bool (*done)(const struct weir *weir, uint64_t what), uint64_t what)
{
    static const struct timespec pause = {.tv_nsec = 200000};
    for (int i = 0; i < SEEN_PAUSES && !done(weir, what); i++) {
        nanosleep(&pause, NULL);
    }
}

// On whichever thread has the rulebook: each worker gets a reference of its own.
static void rules_changed(void *arg, struct rules *rules, bool emergency)
{
    struct weir *weir = arg;
    servers_restrain(weir->shared.servers, emergency);
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
        wait_for_workers(weir, all_have_seen, generation);
    }
}

static void read_rules(void *arg)
{
    struct weir *weir = arg;
    struct reading *reading = atomic_load(&weir->reading);
    if (reading) {
        reading->good = rulebook_read_anew(weir->rulebook, reading->config);
        atomic_store(&weir->reading, NULL);
    }
}

// On the main thread. False: they would be too many. The rulebook's thread never waits for this one
// without looking for what is to be read.
static bool exchange_rules(struct weir *weir, const struct config *config)
{
    static const struct timespec pause = {.tv_nsec = 200000};
    struct reading reading = {.config = config};
    atomic_store(&weir->reading, &reading);
    control_socket_read_rules(weir->control_socket);
    while (atomic_load(&weir->reading)) {
        nanosleep(&pause, NULL);
    }
    return reading.good;
}

// --- the control socket -------------------------------------------------------------------------

struct status {
    bson_t servers;
    int64_t now_us;
};

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
    BSON_APPEND_INT64(&item, "cap", counts.cap);
    BSON_APPEND_INT64(&item, "inFlight", counts.gate.in_flight);
    BSON_APPEND_INT64(&item, "queued", (int64_t)counts.gate.queued);
    BSON_APPEND_INT64(&item, "waitingForUpstream", counts.waiters);
    BSON_APPEND_INT64(&item, "upstreamsOpening", counts.opening);
    BSON_APPEND_INT64(&item, "upstreamsOpen", counts.open);
    BSON_APPEND_INT64(&item, "upstreamsIdle", counts.idle);
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

// The main thread does it, and may have to ask a name server.
static bool order_reload(void *arg, char ret_said[CONTROL_SAID_BYTES])
{
    static const struct timespec pause = {.tv_nsec = 1000000};
    struct weir *weir = arg;
    unsigned wanted = atomic_fetch_add(&weir->reloads_wanted, 1) + 1;
    kill(getpid(), SIGUSR2);
    for (int i = 0; i < SEEN_PAUSES && atomic_load(&weir->reloads_done) < wanted; i++) {
        read_rules(weir);
        nanosleep(&pause, NULL);
    }
    if (atomic_load(&weir->reloads_done) < wanted) {
        snprintf(ret_said, CONTROL_SAID_BYTES, "it takes long; the log will say what came of it");
        return false;
    }
    pthread_mutex_lock(&weir->posting);
    snprintf(ret_said, CONTROL_SAID_BYTES, "%s", weir->said);
    pthread_mutex_unlock(&weir->posting);
    return atomic_load(&weir->reloaded);
}

// The main thread does it.
static void order_drain(void *arg, int64_t within_us)
{
    struct weir *weir = arg;
    atomic_store(&weir->drain_order_us, within_us);
    kill(getpid(), SIGUSR2);
}

static bool kill_all(void *arg, const struct cull_wish *wish, struct cull_counts *ret_counts)
{
    struct weir *weir = arg;
    return cull_end(cull_begin(weir->workers, weir->worker_count, wish), ret_counts);
}

static void set_cap(void *arg, int cap)
{
    struct weir *weir = arg;
    (void)servers_set_cap(weir->shared.servers, NULL, cap < 0 ? atomic_load(&weir->cap) : cap);
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

static int listening_port(const struct weir *weir)
{
    struct address address;
    char text[160];
    listener_address(weir->listeners[0], &address);
    address_format(&address, text, sizeof text);
    return (int)strtol(strrchr(text, ':') + 1, NULL, 10);
}

static void log_no_control_socket(const char *reason)
{
    struct log_line line;
    log_begin(&line, LOG_WARN, "no_control_socket");
    log_str(&line, "reason", reason);
    log_end(&line);
}

// Where nothing was asked for, weir runs without one if it must.
static bool open_control_socket(struct weir *weir, char *ret_error, size_t capacity)
{
    const struct config *config = weir->shared.config;
    char path[CONTROL_PATH_BYTES];
    char error[CONTROL_ERROR_BYTES] = "its path is too long";
    if (config->control_socket && strcmp(config->control_socket, "disabled") == 0) {
        weir->control_socket = control_socket_open(NULL, error);
        return true;
    }
    if (config->control_socket) {
        weir->control_socket = control_socket_open(config->control_socket, error);
        if (!weir->control_socket) {
            blame(config, CONFIG_OPTION_control_socket, error, ret_error, capacity);
        }
        return weir->control_socket != NULL;
    }
    control_make_directory();
    if (control_path_of_port(listening_port(weir), path)) {
        weir->control_socket = control_socket_open(path, error);
    }
    if (!weir->control_socket) {
        log_no_control_socket(error);
        weir->control_socket = control_socket_open(NULL, error);
    }
    return true;
}

// --- signals ------------------------------------------------------------------------------------

static void block_signals(const struct app *app, sigset_t *ret_set)
{
    sigemptyset(ret_set);
    sigaddset(ret_set, SIGTERM);
    sigaddset(ret_set, SIGINT);
    sigaddset(ret_set, SIGHUP);
    sigaddset(ret_set, SIGUSR1);
    sigaddset(ret_set, SIGUSR2); // an order of weir ctl's is there
    if (app->argv) {
        sigaddset(ret_set, SIGCHLD);
        sigaddset(ret_set, SIGQUIT);
    }
    pthread_sigmask(SIG_BLOCK, ret_set, NULL);
}

static void report_times(struct weir *weir)
{
    struct report *report = report_new(weir->worker_count);
    for (int i = 0; i < weir->worker_count; i++) {
        struct report_mail *mail = xcalloc(1, sizeof *mail);
        mail->report = report;
        worker_post(weir->workers[i], &mail->mail, MAIL_REPORT);
    }
}

// --- draining -----------------------------------------------------------------------------------

#define DRAIN_LOOK_US 50000
#define DRAIN_LOG_US 5000000

static int64_t main_now_us(const struct weir *weir)
{
    return loop_now_us(weir->acceptor); // only the clock's
}

static void log_drain(const struct weir *weir, const char *event)
{
    struct log_line line;
    int64_t left_us = weir->drain.ends_us - main_now_us(weir);
    log_begin(&line, LOG_INFO, event);
    log_int(&line, "clients", workers_count_clients(weir->workers, weir->worker_count));
    log_int(&line, "left_ms", left_us > 0 ? left_us / 1000 : 0);
    log_end(&line);
}

static void drain(struct weir *weir, enum drain_whom whom, int64_t within_us)
{
    int64_t now_us = main_now_us(weir);
    weir->drain = (struct drain){now_us, now_us + within_us, whom};
    atomic_store(&weir->shared.draining, true);
    weir->accept_less.kind = whom == DRAIN_REMOTE ? ACCEPT_NEAR : ACCEPT_NONE;
    mailbox_post(weir->acceptor_mailbox, &weir->accept_less);
    for (int i = 0; i < weir->worker_count; i++) {
        struct drain_mail *mail = xcalloc(1, sizeof *mail);
        mail->drain = weir->drain;
        worker_post(weir->workers[i], &mail->mail, MAIL_DRAIN);
    }
    log_drain(weir, "draining");
    notify("STOPPING=1");
}

// Those who have come are counted before they are given to a worker.
static bool is_drained(struct weir *weir, int64_t *logged_us)
{
    int64_t now_us = main_now_us(weir);
    int left = workers_count_clients(weir->workers, weir->worker_count);
    if (weir->drain.begun_us == 0) {
        return false;
    }
    if (left == 0 || now_us >= weir->drain.ends_us) {
        log_drain(weir, "drained");
        atomic_store(&weir->shared.hurried, true);
        return true;
    }
    if (now_us - *logged_us >= DRAIN_LOG_US) {
        log_drain(weir, "draining");
        *logged_us = now_us;
    }
    return false;
}

// --- a new configuration ------------------------------------------------------------------------

#define FILES_LOOK_US 2000000

// Mixes something in of which only matters whether it changes.
static uint64_t mix(uint64_t seen, int64_t fact)
{
    return (seen ^ (uint64_t)fact) * UINT64_C(0x9e3779b97f4a7c15);
}

// Another number when the file was replaced or written to.
static uint64_t look_at_file(uint64_t seen, const char *path)
{
    struct stat file;
    if (!path || stat(path, &file) != 0) {
        return mix(seen, 0);
    }
    seen = mix(mix(seen, (int64_t)file.st_ino), (int64_t)file.st_size);
    return mix(mix(seen, file.st_mtim.tv_sec), file.st_mtim.tv_nsec);
}

static uint64_t look_at_files(const struct config *config)
{
    uint64_t seen = look_at_file(0, config->tls_certificate_key_file);
    seen = look_at_file(seen, config->tls_ca_file);
    return look_at_file(seen, config->tls_crl_file);
}

// What a new configuration brings, made before anything of it is seen.
struct renewal {
    struct shared shared; // its tls_server; NULL: the former one stays
    struct users *users;  // likewise
    uint64_t files_seen;
};

static const struct config *latest(const struct weir *weir)
{
    return weir->latest ? weir->latest : weir->shared.config;
}

static bool make_certificates(const struct weir *weir, const struct config *config,
                              struct renewal *renewal, char *ret_error, size_t capacity)
{
    bool both = weir->shared.tls_server && config->tls_mode != CONFIG_TLS_DISABLED;
    renewal->files_seen = look_at_files(config); // before they are read: later changes are seen
    return !both || make_tls(config, weir->deployment, &renewal->shared, ret_error, capacity);
}

static void exchange_certificates(struct weir *weir, struct renewal *renewal)
{
    if (renewal->shared.tls_server) {
        tls_server_exchange(weir->shared.tls_server, renewal->shared.tls_server);
        weir->files_seen = renewal->files_seen;
    }
}

static bool make_users(const struct weir *weir, const struct config *config,
                       struct renewal *renewal, char *ret_error, size_t capacity)
{
    if (!weir->users || !reload_takes_users(weir->shared.config, config)) {
        return true;
    }
    renewal->users = users_new(config, weir->users, ret_error, capacity);
    return renewal->users != NULL;
}

static bool all_have_taken_users(const struct weir *weir, uint64_t times)
{
    for (int i = 0; i < weir->worker_count; i++) {
        if (atomic_load(&weir->workers[i]->users_taken) < times) {
            return false;
        }
    }
    return true;
}

// Whoever logs in by the former ones meanwhile is met by the mail.
static void exchange_users(struct weir *weir, struct users *users)
{
    unsigned times = ++weir->users_exchanged;
    users_drop(weir->users);
    weir->users = users_keep(users);
    logins_exchange(weir->shared.logins, users);
    for (int i = 0; i < weir->worker_count; i++) {
        struct users_mail *mail = xcalloc(1, sizeof *mail);
        mail->users = users_keep(users);
        worker_post(weir->workers[i], &mail->mail, MAIL_USERS);
    }
    wait_for_workers(weir, all_have_taken_users, times);
}

static bool renew_certificates(struct weir *weir, char *ret_error, size_t capacity)
{
    struct renewal renewal = {0};
    bool good = make_certificates(weir, latest(weir), &renewal, ret_error, capacity);
    if (good) {
        exchange_certificates(weir, &renewal);
    }
    free_tls(&renewal.shared);
    return good;
}

static void log_reload(enum log_level level, const char *event, const char *field, const char *text)
{
    struct log_line line;
    log_begin(&line, level, event);
    log_str(&line, field, text);
    log_end(&line);
}

static void exchange_cap(struct weir *weir, int cap, char *ret_said, size_t capacity)
{
    ret_said[0] = '\0';
    if (cap != weir->cap) {
        snprintf(ret_said, capacity, "upstream.maxConnections %d -> %d; ", weir->cap, cap);
        weir->cap = cap;
        (void)servers_set_cap(weir->shared.servers, NULL, cap);
    }
}

// Makes what may fail; the rules are the last of it, and in force if they are good.
static bool prepare_renewal(struct weir *weir, const struct config *fresh, struct renewal *renewal,
                            char *ret_error, size_t capacity)
{
    if (reload_opens_a_door(weir->shared.config, fresh)) {
        snprintf(ret_error, capacity,
                 "net.tls.CAFile: without client certificates required of everybody, anybody could "
                 "come in at net.bindIp");
        return false;
    }
    if (!weir_check(fresh, ret_error, capacity) ||
        !make_certificates(weir, fresh, renewal, ret_error, capacity) ||
        !make_users(weir, fresh, renewal, ret_error, capacity)) {
        return false;
    }
    if (!exchange_rules(weir, fresh)) {
        snprintf(ret_error, capacity, "rules: with the live ones there would be more than %d",
                 RULES_MAX);
        return false;
    }
    return true;
}

// Whole or not at all.
static bool take_over(struct weir *weir, const struct config *fresh, char *ret_said,
                      size_t capacity)
{
    char names[CONTROL_SAID_BYTES - 256];
    char cap[64];
    char users[32] = "";
    struct renewal renewal = {0};
    bool good = prepare_renewal(weir, fresh, &renewal, ret_said, capacity);
    if (good) {
        exchange_certificates(weir, &renewal);
        exchange_cap(weir, fresh->max_connections, cap, sizeof cap);
        if (renewal.users) {
            exchange_users(weir, renewal.users);
            snprintf(users, sizeof users, "; users: %zu", fresh->users.count);
        }
        reload_needs_restart(weir->shared.config, fresh, names, sizeof names);
        snprintf(ret_said, capacity, "%srules: %zu%s%s%s%s", cap, fresh->rules.count, users,
                 renewal.shared.tls_server ? "; certificates read anew" : "",
                 names[0] ? "; needs a restart: " : "", names);
    }
    users_drop(renewal.users);
    free_tls(&renewal.shared);
    return good;
}

static void reload(struct weir *weir)
{
    char said[CONTROL_SAID_BYTES];
    unsigned wanted = atomic_load(&weir->reloads_wanted);
    notify("RELOADING=1");
    struct config *fresh = config_load(weir->source.argc, weir->source.argv, environ, said);
    bool good = fresh && take_over(weir, fresh, said, sizeof said);
    log_reload(good ? LOG_INFO : LOG_WARN, good ? "reloaded" : "reload_refused",
               good ? "what" : "why", said);
    config_free(good ? weir->latest : fresh);
    weir->latest = good ? fresh : weir->latest;
    pthread_mutex_lock(&weir->posting);
    memcpy(weir->said, said, sizeof weir->said);
    pthread_mutex_unlock(&weir->posting);
    atomic_store(&weir->reloaded, good);
    atomic_store(&weir->reloads_done, wanted);
    notify("READY=1");
}

// Those that were just written in part are refused, and looked at again when they have changed.
static void watch_files(struct weir *weir)
{
    int64_t now_us = main_now_us(weir);
    if (!weir->shared.tls_server || now_us - weir->files_looked_us < FILES_LOOK_US) {
        return;
    }
    weir->files_looked_us = now_us;
    uint64_t seen = look_at_files(latest(weir));
    if (seen == weir->files_seen) {
        return;
    }
    char error[CONFIG_ERROR_BYTES];
    bool good = renew_certificates(weir, error, sizeof error);
    weir->files_seen = seen;
    log_reload(good ? LOG_INFO : LOG_WARN, good ? "reloaded" : "reload_refused",
               good ? "what" : "why", good ? "certificates, whose files have changed" : error);
}

// The app's signals are not ours. Returns whether it was one.
static bool is_for_app(struct weir *weir, const siginfo_t *info)
{
    bool order = info->si_signo == SIGUSR2 && info->si_pid == getpid();
    if (info->si_signo == SIGCHLD) {
        if (app_reap(weir->app) && weir->drain.begun_us == 0) {
            drain(weir, DRAIN_ALL, latest(weir)->drain_within_us);
        }
        return true;
    }
    if (weir->app->pid == 0 || order) {
        return false;
    }
    app_forward(weir->app, info);
    return true;
}

// Returns whether it is the end.
static bool obey(struct weir *weir, const siginfo_t *info)
{
    bool drains = weir->drain.begun_us > 0;
    int signal = info->si_signo;
    if (is_for_app(weir, info)) {
        return false;
    }
    if (signal == SIGUSR2 && atomic_load(&weir->reloads_wanted) != weir->reloads_done) {
        reload(weir);
    }
    if (signal == SIGUSR1) {
        report_times(weir);
    } else if (signal == SIGHUP) {
        reload(weir);
    } else if (signal == SIGUSR2 && !drains && atomic_load(&weir->drain_order_us) >= 0) {
        int64_t ordered_us = atomic_load(&weir->drain_order_us);
        drain(weir, DRAIN_ALL, ordered_us > 0 ? ordered_us : latest(weir)->drain_within_us);
    } else if (signal == SIGTERM && !drains) {
        drain(weir, DRAIN_REMOTE, latest(weir)->drain_within_us);
    } else if (signal == SIGTERM || signal == SIGINT) {
        atomic_store(&weir->shared.hurried, drains);
        return true;
    }
    return false;
}

static void feed_watchdog(struct weir *weir, int64_t every_us)
{
    int64_t now_us = main_now_us(weir);
    if (every_us > 0 && now_us - weir->fed_us >= every_us &&
        workers_turn(weir->workers, weir->worker_count, now_us)) {
        notify("WATCHDOG=1");
        weir->fed_us = now_us;
    }
}

static void wait_for_end(struct weir *weir, const sigset_t *set)
{
    int64_t every_us = notify_watchdog_us();
    int64_t logged_us = main_now_us(weir);
    for (bool over = false; !over;) {
        siginfo_t info;
        bool drains = weir->drain.begun_us > 0;
        int64_t idle_us = every_us == 0 && weir->shared.tls_server ? FILES_LOOK_US : every_us;
        int64_t pause_us = drains ? DRAIN_LOOK_US : idle_us;
        struct timespec pause = {pause_us / 1000000, pause_us % 1000000 * 1000};
        int signal = sigtimedwait(set, &info, pause_us > 0 ? &pause : NULL);
        over = (signal > 0 && obey(weir, &info)) || is_drained(weir, &logged_us);
        watch_files(weir);
        feed_watchdog(weir, every_us);
    }
}

// --- the app ------------------------------------------------------------------------------------

// An address that is all of this machine's is reached by loopback.
static void format_own_address(const struct weir *weir, char *ret_text, size_t capacity)
{
    char text[140];
    struct address address;
    listener_address(weir->listeners[0], &address);
    address_format(&address, text, sizeof text);
    bool any4 = strncmp(text, "0.0.0.0:", 8) == 0;
    bool any6 = strncmp(text, "[::]:", 5) == 0;
    const char *host = any4 ? "127.0.0.1" : any6 ? "[::1]" : "";
    snprintf(ret_text, capacity, "%s%s", host, any4 || any6 ? strrchr(text, ':') : text);
}

// What the app would need to know that its URI does not say.
static bool may_run_app(const struct config *config, char *ret_error, size_t capacity)
{
    if (config->tls_mode == CONFIG_TLS_REQUIRE) {
        blame(config, CONFIG_OPTION_tls_mode, "weir exec gives the app a URI without TLS",
              ret_error, capacity);
        return false;
    }
    if (config->authorization == CONFIG_AUTHORIZATION_ENABLED) {
        blame(config, CONFIG_OPTION_authorization, "weir exec gives the app a URI without a user",
              ret_error, capacity);
        return false;
    }
    return true;
}

// Returns whether it runs, or there is none.
static bool start_app(struct weir *weir)
{
    char address[160];
    char uri[APP_URI_BYTES];
    if (!weir->app->argv) {
        return true;
    }
    format_own_address(weir, address, sizeof address);
    if (!app_uri(weir->shared.config->uri, address, uri, sizeof uri)) {
        fprintf(stderr, "weir exec: the URI is too long for the app\n");
        weir->app->status = EXIT_REFUSED;
        return false;
    }
    return app_start(weir->app, uri);
}

// --- life ---------------------------------------------------------------------------------------

static void log_setting(void *context, const char *name, const char *value)
{
    log_str(context, name, value);
}

static void log_start(const struct config *config)
{
    struct log_line line;
    log_begin(&line, LOG_INFO, "start");
    log_str(&line, "version", WEIR_VERSION);
    log_int(&line, "pid", getpid());
    config_each(config, log_setting, &line);
    log_end(&line);
}

// Said at every start, so that it is no surprise.
static void warn_of_open_door(const struct config *config)
{
    struct log_line line;
    if (!config_is_open(config)) {
        return;
    }
    log_begin(&line, LOG_WARN, "open_to_everybody");
    log_str(&line, "why",
            "security.allowRemoteWithoutAuth: whoever reaches the port may do what weir's own user "
            "may");
    log_end(&line);
}

static void log_event(const char *event)
{
    struct log_line line;
    log_begin(&line, LOG_INFO, event);
    log_end(&line);
}

// A proxy needs a descriptor for each connection; the soft limit is often far below the hard one.
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int count_threads(const struct config *config)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return config->threads > 0 ? config->threads : cores > 0 ? (int)cores : 1;
}

static void make_workers(struct weir *weir)
{
    const struct config *config = weir->shared.config;
    weir->worker_count = count_threads(config);
    weir->workers = xcalloc((size_t)weir->worker_count, sizeof(struct worker *));
    weir->shared.servers = servers_new(config, weir->workers, weir->worker_count);
    affinity_init(&weir->shared.affinity);
    for (int i = 0; i < weir->worker_count; i++) {
        weir->workers[i] = worker_new(i, &weir->shared);
    }
}

static bool prepare(struct weir *weir, char *ret_error, size_t capacity)
{
    struct shared *shared = &weir->shared;
    weir->deployment = make_deployment(shared->config, ret_error, capacity);
    if (!weir->deployment ||
        !make_tls(shared->config, weir->deployment, shared, ret_error, capacity)) {
        return false;
    }
    if (!make_identities(shared->config, shared, ret_error, capacity) ||
        !make_logins(shared->config, weir, ret_error, capacity) ||
        !check_archive(shared->config, ret_error, capacity)) {
        return false;
    }
    access_init();
    shared->deployment = weir->deployment;
    shared->keys = key_cache_new();
    shared->budget.limit = (size_t)shared->config->max_buffered_bytes;
    atomic_init(&shared->next_client_id, 1);
    atomic_init(&shared->next_upstream_id, 1);
    if (getentropy(shared->process_id, sizeof shared->process_id) != 0 ||
        getentropy(&shared->tenant_seed, sizeof shared->tenant_seed) != 0) {
        snprintf(ret_error, capacity, "no random numbers to be had");
        return false;
    }
    weir->acceptor = loop_new();
    weir->acceptor_mailbox = mailbox_new(weir->acceptor, deliver_to_acceptor, weir);
    weir->door = timer_new(weir->acceptor, open_door, weir);
    if (!listen_everywhere(weir, ret_error, capacity) || !open_http(weir, ret_error, capacity)) {
        return false;
    }
    make_workers(weir);
    weir->observer = observer_new(shared, weir->workers, weir->worker_count);
    if (!open_control_socket(weir, ret_error, capacity)) {
        return false;
    }
    weir->fleet = fleet_start(shared->config, shared->servers, ret_error, capacity);
    return weir->fleet || !ret_error[0];
}

// What hello says depends on what the deployment is: a driver that takes a standalone for a mongos
// sends it what it refuses. So whoever connects first waits in the backlog until it is known; not
// for long, since it may be away.
static void wait_for_deployment(struct weir *weir)
{
    struct timespec until;
    int error = 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += FIRST_LOOK_S;
    pthread_mutex_lock(&weir->posting);
    while (!weir->found && error == 0) {
        error = pthread_cond_clockwait(&weir->found_it, &weir->posting, CLOCK_MONOTONIC, &until);
    }
    pthread_mutex_unlock(&weir->posting);
}

static void start(struct weir *weir)
{
    struct control_listener listener = {.topology_changed = topology_changed, .arg = weir};
    weir->rulebook = rulebook_new(weir->shared.config,
                                  (struct rulebook_reader){.changed = rules_changed, .arg = weir});
    weir->shared.control = control_start(weir->deployment, listener);
    for (int i = 0; i < weir->worker_count; i++) {
        worker_start(weir->workers[i]);
    }
    {
        const struct control_desk desk = {weir->rulebook, tell_status, order_reload, order_drain,
                                          kill_all,       set_cap,     set_limit,    pause_servers,
                                          read_rules,     weir};
        control_socket_start(weir->control_socket, &desk, weir->observer);
    }
    if (weir->http) {
        http_start(weir->http, weir->observer, weir->workers, weir->worker_count);
    }
    observer_start(weir->observer, weir->control_socket);
    wait_for_deployment(weir);
    int error = pthread_create(&weir->acceptor_thread, NULL, run_acceptor, weir);
    assert(error == 0);
    (void)error;
}

static void tell_workers_to_end(struct weir *weir)
{
    pthread_mutex_lock(&weir->posting);
    weir->ending = true;
    for (int i = 0; i < weir->worker_count; i++) {
        struct mail *mail = xcalloc(1, sizeof *mail);
        worker_post(weir->workers[i], mail, MAIL_END);
    }
    pthread_mutex_unlock(&weir->posting);
}

// Returns whether all requests came to their end in time.
static bool stop(struct weir *weir)
{
    weir->stop_accepting.kind = ACCEPTOR_END;
    mailbox_post(weir->acceptor_mailbox, &weir->stop_accepting);
    pthread_join(weir->acceptor_thread, NULL);
    observer_rest(weir->observer);
    control_socket_free(weir->control_socket);
    weir->control_socket = NULL;
    http_free(weir->http);
    weir->http = NULL;
    servers_end(weir->shared.servers);
    tell_workers_to_end(weir);
    bool orderly = true;
    for (int i = 0; i < weir->worker_count; i++) {
        worker_join(weir->workers[i]);
        orderly = orderly && !weir->workers[i]->late;
    }
    return orderly;
}

// Once the workers have ended.
static int count_requests(const struct weir *weir)
{
    int count = 0;
    for (int i = 0; i < weir->worker_count; i++) {
        count += weir->workers[i]->request_count;
    }
    return count;
}

static void dispose(struct weir *weir)
{
    control_socket_free(weir->control_socket);
    rulebook_free(weir->rulebook);
    http_free(weir->http);
    if (weir->observer) {
        observer_free(weir->observer);
    }
    for (int i = 0; i < weir->worker_count; i++) {
        worker_free(weir->workers[i]);
    }
    free(weir->workers);
    fleet_stop(weir->fleet);
    if (weir->shared.control) {
        control_stop(weir->shared.control);
    }
    if (weir->shared.servers) {
        servers_free(weir->shared.servers);
        affinity_fini(&weir->shared.affinity);
    }
    for (int i = 0; i < weir->listener_count; i++) {
        listener_free(weir->listeners[i]);
    }
    if (weir->acceptor) {
        mailbox_free(weir->acceptor_mailbox);
        timer_free(weir->door);
        loop_free(weir->acceptor);
    }
    if (weir->shared.keys) {
        key_cache_free(weir->shared.keys);
    }
    if (weir->shared.identities) {
        identities_free(weir->shared.identities, weir->shared.config->identities.count);
    }
    logins_free(weir->shared.logins);
    users_drop(weir->users);
    free_tls(&weir->shared);
    if (weir->deployment) {
        deployment_free(weir->deployment);
    }
    config_free(weir->latest);
    pthread_cond_destroy(&weir->found_it);
    pthread_mutex_destroy(&weir->posting);
}

int weir_run(struct weir_source source, struct app *app)
{
    const struct config *config = source.config;
    struct weir weir = {
        .shared = {.config = config},
        .drain_order_us = -1,
        .app = app,
        .source = source,
        .cap = config->max_connections,
        .files_seen = look_at_files(config),
    };
    char error[CONFIG_ERROR_BYTES];
    sigset_t signals;
    block_signals(app, &signals);
    pthread_mutex_init(&weir.posting, NULL);
    pthread_cond_init(&weir.found_it, NULL);
    raise_descriptor_limit();
    if ((app->argv && !may_run_app(config, error, sizeof error)) ||
        !prepare(&weir, error, sizeof error)) {
        fprintf(stderr, "weir: %s\n", error);
        dispose(&weir);
        return EXIT_REFUSED;
    }
    log_start(config);
    warn_of_open_door(config);
    start(&weir);
    log_event("ready");
    notify("READY=1");
    if (start_app(&weir)) {
        wait_for_end(&weir, &signals);
    }
    notify("STOPPING=1");
    log_event("ending");
    if (!stop(&weir)) {
        log_event(count_requests(&weir) > 0 ? "ended_with_requests_under_way" : "ended");
        _exit(app->status);
    }
    dispose(&weir);
    log_event("ended");
    return app->status;
}
