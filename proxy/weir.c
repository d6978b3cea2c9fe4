// SPDX-License-Identifier: Apache-2.0
//
// The whole, put together: start, run, stop. The main thread waits for signals, and carries out
// what they and others ask for. Which threads there are beside it: ARCHITECTURE.md, Threads.

#include "proxy/weir.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "proxy/access.h"
#include "proxy/admin/archive.h"
#include "proxy/admin/observer.h"
#include "proxy/admin/webhook.h"
#include "proxy/control/clock.h"
#include "proxy/log.h"
#include "proxy/login.h"
#include "proxy/mem.h"
#include "proxy/net/inherited.h"
#include "proxy/notify.h"
#include "proxy/orders.h"
#include "proxy/reload.h"
#include "proxy/report.h"
#include "proxy/succession.h"
#include "proxy/trouble.h"
#include "proxy/weir_inner.h"

#define EXIT_REFUSED 2
#define SEEN_PAUSES 5000           // of 0.2 ms
#define FIRST_LOOK_S 2             // how long apps wait at the start for the deployment to be found
#define SUCCESSION_FIRST_LOOK_S 10 // likewise, while the predecessor goes on

// --- what the configuration asks for ------------------------------------------------------------

static enum tls_client_certificates wanted_certificates(const struct config *config)
{
    if (!config->tls_ca_file) {
        return TLS_CLIENTS_NONE;
    }
    return config->tls_allow_connections_without_certificates ? TLS_CLIENTS_OPTIONAL
                                                              : TLS_CLIENTS_REQUIRED;
}

// It is taken all the same: some clients do not look, and none would be served without.
static void warn_if_expired(const char *event, const char *file, int64_t expiry_s)
{
    struct log_line line;
    int64_t expired_s = time(NULL) - expiry_s;
    if (expired_s >= 0) {
        log_begin(&line, LOG_WARN, event);
        log_str(&line, "file", file);
        log_int(&line, "expired_s", expired_s);
        log_end(&line);
    }
}

// Whose path the error begins with.
static enum config_option file_blamed(const struct config *config, const char *error)
{
    const char *file = config->tls_ca_file;
    return file && strncmp(error, file, strlen(file)) == 0 ? CONFIG_OPTION_tls_ca_file
                                                           : CONFIG_OPTION_tls_certificate_key_file;
}

static bool read_crl(struct tls_server *tls, const struct config *config, char *ret_error,
                     size_t capacity)
{
    char error[CONFIG_REASON_BYTES];
    if (!config->tls_crl_file ||
        tls_server_revoke(tls, config->tls_crl_file, error, sizeof error)) {
        warn_if_expired("revocation_list_expired", config->tls_crl_file,
                        tls_server_revocation_expiry(tls));
        return true;
    }
    config_blame(config, CONFIG_OPTION_tls_crl_file, error, ret_error, capacity);
    return false;
}

bool weir_make_tls(const struct config *config, struct tls_server **ret_tls, char *ret_error,
                   size_t capacity)
{
    char error[CONFIG_REASON_BYTES];
    *ret_tls = NULL;
    if (config->tls_mode == CONFIG_TLS_DISABLED) {
        return true;
    }
    struct tls_server *tls = tls_server_new(config->tls_certificate_key_file, config->tls_ca_file,
                                            wanted_certificates(config), error, sizeof error);
    if (!tls) {
        config_blame(config, file_blamed(config, error), error, ret_error, capacity);
        return false;
    }
    warn_if_expired("certificate_expired", config->tls_certificate_key_file,
                    tls_server_expiry(tls));
    if (!read_crl(tls, config, ret_error, capacity)) {
        tls_server_free(tls);
        return false;
    }
    *ret_tls = tls;
    return true;
}

// The first bytes of security.saltSecretFile, which is there to be read.
static bool read_secret(const struct config *config, uint8_t ret_secret[LOGIN_SECRET_BYTES],
                        char *ret_error, size_t capacity)
{
    FILE *file = fopen(config->salt_secret_file, "re");
    errno = file ? 0 : errno;
    bool whole = file && fread(ret_secret, 1, LOGIN_SECRET_BYTES, file) == LOGIN_SECRET_BYTES;
    if (!whole) {
        config_blame(config, CONFIG_OPTION_salt_secret_file,
                     errno ? strerror(errno) : "has less than 32 bytes", ret_error, capacity);
    }
    if (file) {
        fclose(file);
    }
    return whole;
}

static bool check_secret(const struct config *config, char *ret_error, size_t capacity)
{
    uint8_t secret[LOGIN_SECRET_BYTES];
    bool good = !config->salt_secret_file || read_secret(config, secret, ret_error, capacity);
    OPENSSL_cleanse(secret, sizeof secret);
    return good;
}

static bool make_logins(const struct config *config, struct weir *weir, char *ret_error,
                        size_t capacity)
{
    uint8_t secret[LOGIN_SECRET_BYTES];
    if (config->authorization != CONFIG_AUTHORIZATION_ENABLED) {
        return true;
    }
    if (config->salt_secret_file && !read_secret(config, secret, ret_error, capacity)) {
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

static bool check_archive(const struct config *config, char *ret_error, size_t capacity)
{
    char error[CONFIG_REASON_BYTES];
    if (!config->events_path || archive_check(config->events_path, error, sizeof error)) {
        return true;
    }
    config_blame(config, CONFIG_OPTION_events_path, error, ret_error, capacity);
    return false;
}

static bool check_webhook(const struct config *config, char *ret_error, size_t capacity)
{
    char error[CONFIG_REASON_BYTES];
    const char *ca_file = config->events_webhook_ca_file;
    if (config->events_webhook && !webhook_check(config->events_webhook, error, sizeof error)) {
        config_blame(config, CONFIG_OPTION_events_webhook, error, ret_error, capacity);
        return false;
    }
    const struct tls_client_options options = {.ca_file = ca_file};
    struct tls_client *tls = ca_file ? tls_client_new(&options, error, sizeof error) : NULL;
    if (ca_file && !tls) {
        config_blame(config, CONFIG_OPTION_events_webhook_ca_file, error, ret_error, capacity);
    }
    tls_client_free(tls);
    return !ca_file || tls;
}

bool weir_check(const struct config *config, char *ret_error, size_t error_capacity)
{
    struct tls_server *tls = NULL;
    struct approach *approach = approach_new(config, config, ret_error, error_capacity);
    bool good = approach && weir_make_tls(config, &tls, ret_error, error_capacity) &&
                check_secret(config, ret_error, error_capacity) &&
                check_archive(config, ret_error, error_capacity) &&
                check_webhook(config, ret_error, error_capacity) &&
                fleet_check(config, ret_error, error_capacity);
    if (tls) {
        tls_server_free(tls);
    }
    approach_drop(approach);
    return good;
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

// On control's thread. What snapshots say from now on is of the newest approach.
static void followed(void *arg)
{
    struct weir *weir = arg;
    pthread_mutex_lock(&weir->posting);
    for (int i = 0; i < weir->worker_count && !weir->ending; i++) {
        struct approach_mail *mail = xcalloc(1, sizeof *mail);
        mail->approach = approach_keep(weir->shared.approach);
        worker_post(weir->workers[i], &mail->mail, MAIL_APPROACH);
    }
    pthread_mutex_unlock(&weir->posting);
}

void weir_wait_for_workers(const struct weir *weir,
                           bool (*done)(const struct weir *weir, uint64_t what), uint64_t what)
{
    static const struct timespec pause = {.tv_nsec = 200000};
    for (int i = 0; i < SEEN_PAUSES && !done(weir, what); i++) {
        nanosleep(&pause, NULL);
    }
}

// --- where people and machines look at it -------------------------------------------------------

static int listening_port(const struct weir *weir)
{
    struct address address;
    char text[160];
    acceptor_address(weir->acceptor, &address);
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
            config_blame(config, CONFIG_OPTION_control_socket, error, ret_error, capacity);
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

// --- start --------------------------------------------------------------------------------------

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
    config_each(config, true, log_setting, &line);
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

// What is wrong with a server, if something is.
static void look_for_trouble(struct server *server, void *arg)
{
    char *says = arg;
    struct server_counts counts;
    server_count(server, now_us(), &counts);
    if (server->id != 0 && says[0] == '\0') {
        trouble_say(&counts, says);
    }
}

// Without the deployment as well: what apps ask for waits for it.
static void log_ready(struct weir *weir, bool found)
{
    char trouble[TROUBLE_BYTES] = "";
    struct log_line line;
    servers_visit(weir->shared.servers, look_for_trouble, trouble);
    log_begin(&line, found && trouble[0] == '\0' ? LOG_INFO : LOG_WARN, "ready");
    log_str(&line, "deployment", found ? "found" : "not_found");
    log_str(&line, "trouble", trouble[0] ? trouble : NULL);
    log_end(&line);
}

// In our memory are passwords, keys, and what apps write. A limit of 1 allows no file, and, unlike
// one of 0, no program that takes cores either: the kernel takes it for such a program's own crash.
static void leave_no_core(struct app *app)
{
    if (getrlimit(RLIMIT_CORE, &app->core_limit) == 0) {
        rlim_t hard = app->core_limit.rlim_max;
        const struct rlimit limit = {hard < 1 ? hard : 1, hard};
        (void)setrlimit(RLIMIT_CORE, &limit);
    }
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

// What a predecessor has listened on, and we do not, is over. A service manager's sockets are for
// us alone: one that nothing is configured for would refuse nobody and answer nobody.
static bool use_inherited(const struct weir *weir, char *ret_error, size_t capacity)
{
    char text[160];
    if (!succession_has_predecessor(weir) && inherited_is_left(text, sizeof text)) {
        snprintf(ret_error, capacity,
                 "LISTEN_FDS: %s is none of net.bindIp with net.port, net.unixSocket, "
                 "http.bindIp with http.port",
                 text);
        return false;
    }
    inherited_close();
    return true;
}

static bool prepare(struct weir *weir, char *ret_error, size_t capacity)
{
    struct shared *shared = &weir->shared;
    struct tls_server *tls;
    shared->approach = approach_new(shared->config, shared->config, ret_error, capacity);
    if (!shared->approach || !weir_make_tls(shared->config, &tls, ret_error, capacity)) {
        return false;
    }
    shared->tls_server = tls;
    if (!make_logins(shared->config, weir, ret_error, capacity) ||
        !check_archive(shared->config, ret_error, capacity) ||
        !check_webhook(shared->config, ret_error, capacity)) {
        return false;
    }
    access_init();
    shared->budget.limit = (size_t)shared->config->max_buffered_bytes;
    atomic_init(&shared->next_client_id, 1);
    atomic_init(&shared->next_upstream_id, 1);
    if (getentropy(shared->process_id, sizeof shared->process_id) != 0 ||
        getentropy(&shared->tenant_seed, sizeof shared->tenant_seed) != 0) {
        snprintf(ret_error, capacity, "no random numbers to be had");
        return false;
    }
    weir->acceptor = acceptor_new(shared);
    if (!acceptor_listen(weir->acceptor, shared->config, ret_error, capacity)) {
        return false;
    }
    make_workers(weir);
    succession_arrive(weir);
    weir->observer = observer_new(shared, weir->workers, weir->worker_count);
    if (!open_control_socket(weir, ret_error, capacity)) {
        return false;
    }
    if (!use_inherited(weir, ret_error, capacity)) {
        return false;
    }
    shared->fleet = fleet_start(shared->config, shared->servers, ret_error, capacity);
    return shared->fleet || !ret_error[0];
}

// What hello says depends on what the deployment is: a driver that takes a standalone for a mongos
// sends it what it refuses. So whoever connects first waits in the backlog until it is known; not
// for long, since it may be away.
static bool wait_for_deployment(struct weir *weir, int seconds)
{
    struct timespec until;
    int error = 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += seconds;
    pthread_mutex_lock(&weir->posting);
    while (!weir->found && error == 0) {
        error = pthread_cond_clockwait(&weir->found_it, &weir->posting, CLOCK_MONOTONIC, &until);
    }
    bool found = weir->found;
    pthread_mutex_unlock(&weir->posting);
    return found;
}

static void look_at_opening(struct server *server, void *arg)
{
    int *opening = arg;
    struct server_counts counts;
    server_count(server, now_us(), &counts);
    *opening += counts.opening;
}

// A password that is wrong is to be known before an app meets it: /readyz, event=ready.
static void try_to_log_in(struct weir *weir)
{
    static const struct timespec pause = {.tv_nsec = 5000000};
    int64_t until_us = now_us() + FIRST_LOOK_S * INT64_C(1000000);
    worker_post(weir->workers[0], &weir->first_try.mail, MAIL_TRY);
    int opening = 1;
    while (opening > 0 && now_us() < until_us) {
        nanosleep(&pause, NULL);
        opening = !atomic_load(&weir->first_try.taken);
        servers_visit(weir->shared.servers, look_at_opening, &opening);
    }
}

// Whether what the predecessor can do can be done here as well.
static bool can_take_over(struct weir *weir)
{
    static const struct timespec pause = {.tv_nsec = 20000000};
    int64_t until_us = now_us() + SUCCESSION_FIRST_LOOK_S * INT64_C(1000000);
    bool found = wait_for_deployment(weir, SUCCESSION_FIRST_LOOK_S);
    while (!servers_have_share(weir->shared.servers) && now_us() < until_us) {
        nanosleep(&pause, NULL);
    }
    const char *why = !found ? "the deployment was not found"
                      : !servers_have_share(weir->shared.servers)
                          ? "the fleet has no room for one more (fleet.instances)"
                          : NULL;
    if (why) {
        fprintf(stderr, "weir: %s\n", why);
        succession_refuse(why);
    }
    return !why;
}

// Returns whether it runs. ret_found: whether the deployment is there.
static bool start(struct weir *weir, bool *ret_found)
{
    struct control_listener listener = {
        .topology_changed = topology_changed, .followed = followed, .arg = weir};
    weir->rulebook =
        rulebook_new(weir->shared.config,
                     (struct rulebook_reader){.changed = orders_rules_changed, .arg = weir});
    weir->shared.control = control_start(weir->shared.approach->deployment, listener);
    for (int i = 0; i < weir->worker_count; i++) {
        worker_start(weir->workers[i]);
    }
    if (succession_has_predecessor(weir) && !can_take_over(weir)) {
        return false;
    }
    succession_take_place(weir);
    const struct control_desk desk = orders_desk(weir);
    control_socket_start(weir->control_socket, &desk, weir->observer);
    weir->http = http_new(weir->shared.config);
    http_start(weir->http, weir->observer, weir->workers, weir->worker_count);
    observer_start(weir->observer, weir->control_socket);
    acceptor_start(weir->acceptor, weir->workers, weir->worker_count, weir->http);
    *ret_found = wait_for_deployment(weir, FIRST_LOOK_S);
    if (*ret_found) {
        try_to_log_in(weir);
    }
    acceptor_open(weir->acceptor);
    return true;
}

// --- the app ------------------------------------------------------------------------------------

// An address that is all of this machine's is reached by loopback.
static void format_own_address(const struct weir *weir, char *ret_text, size_t capacity)
{
    char text[140];
    struct address address;
    acceptor_address(weir->acceptor, &address);
    address_format(&address, text, sizeof text);
    bool any4 = strncmp(text, "0.0.0.0:", 8) == 0;
    bool any6 = strncmp(text, "[::]:", 5) == 0;
    const char *host = any4 ? "127.0.0.1" : any6 ? "[::1]" : "";
    snprintf(ret_text, capacity, "%s%s", host, any4 || any6 ? strrchr(text, ':') : text);
}

// What the app would need to know that its URI does not say.
bool weir_may_run_app(const struct config *config, const struct app *app, char *ret_error,
                      size_t capacity)
{
    if (!app->argv) {
        return true;
    }
    if (config->tls_mode == CONFIG_TLS_REQUIRE) {
        config_blame(config, CONFIG_OPTION_tls_mode, "weir exec gives the app a URI without TLS",
                     ret_error, capacity);
        return false;
    }
    if (config->authorization == CONFIG_AUTHORIZATION_ENABLED) {
        config_blame(config, CONFIG_OPTION_authorization,
                     "weir exec gives the app a URI without a user", ret_error, capacity);
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

// --- run: signals -------------------------------------------------------------------------------

static void block_signals(const struct app *app, sigset_t *ret_set)
{
    sigemptyset(ret_set);
    sigaddset(ret_set, SIGTERM);
    sigaddset(ret_set, SIGINT);
    sigaddset(ret_set, SIGHUP);
    sigaddset(ret_set, SIGUSR1);
    sigaddset(ret_set, SIGUSR2);
    sigaddset(ret_set, ORDER_SIGNAL);
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

// --- run: draining ------------------------------------------------------------------------------

#define DRAIN_LOOK_US 50000
#define DRAIN_LOG_US 5000000

static void log_drain(struct weir *weir, const char *event)
{
    struct log_line line;
    weir->drain_logged_us = now_us();
    int64_t left_us = weir->drain.ends_us - weir->drain_logged_us;
    log_begin(&line, LOG_INFO, event);
    log_int(&line, "clients", workers_count_clients(weir->workers, weir->worker_count));
    log_int(&line, "left_ms", left_us > 0 ? left_us / 1000 : 0);
    log_end(&line);
}

static void set_drain(struct weir *weir, struct drain drain)
{
    weir->drain = drain;
    atomic_store(&weir->shared.draining, drain.begun_us > 0);
    for (int i = 0; i < weir->worker_count; i++) {
        struct drain_mail *mail = xcalloc(1, sizeof *mail);
        mail->drain = drain;
        worker_post(weir->workers[i], &mail->mail, MAIL_DRAIN);
    }
}

void weir_drain(struct weir *weir, enum drain_whom whom, int64_t within_us)
{
    int64_t now = now_us();
    set_drain(weir, (struct drain){now, now + within_us, whom});
    log_drain(weir, "draining");
    if (whom != DRAIN_REPLACED) {
        acceptor_accept_less(weir->acceptor, whom == DRAIN_REMOTE);
        notify("STOPPING=1");
    }
}

void weir_drain_no_more(struct weir *weir)
{
    set_drain(weir, (struct drain){0});
}

// Those who have come are counted before they are given to a worker.
static bool is_drained(struct weir *weir)
{
    int64_t now = now_us();
    int left = workers_count_clients(weir->workers, weir->worker_count);
    if (weir->drain.begun_us == 0) {
        return false;
    }
    if (left == 0 || now >= weir->drain.ends_us) {
        log_drain(weir, "drained");
        atomic_store(&weir->shared.hurried, true);
        return true;
    }
    if (now - weir->drain_logged_us >= DRAIN_LOG_US) {
        log_drain(weir, "draining");
    }
    return false;
}

// --- run ----------------------------------------------------------------------------------------

// The app's signals are not ours. Returns whether it was one.
static bool is_for_app(struct weir *weir, const siginfo_t *info)
{
    if (info->si_signo == SIGCHLD) {
        if (app_reap(weir->app) && weir->drain.begun_us == 0) {
            weir_drain(weir, DRAIN_ALL, reload_latest(weir)->drain_within_us);
        }
        return true;
    }
    if (weir->app->pid == 0 || info->si_signo == ORDER_SIGNAL) {
        return false;
    }
    app_forward(weir->app, info);
    return true;
}

// What comes of one that has begun is said later.
static void upgrade(struct weir *weir, int64_t ordered_us)
{
    char said[CONTROL_SAID_BYTES];
    int64_t within_us = ordered_us > 0 ? ordered_us : reload_latest(weir)->drain_within_us;
    if (!succession_begin(weir, within_us, said, sizeof said)) {
        orders_upgraded(weir, false, said);
    }
}

// Returns whether it is the end.
static bool obey(struct weir *weir, const siginfo_t *info)
{
    bool drains = weir->drain.begun_us > 0 && weir->drain.whom != DRAIN_REPLACED;
    int signal = info->si_signo;
    if (is_for_app(weir, info)) {
        return false;
    }
    int64_t upgrade_us = signal == ORDER_SIGNAL ? atomic_exchange(&weir->upgrade_order_us, -1) : -1;
    if (upgrade_us >= 0) {
        upgrade(weir, upgrade_us);
    }
    if (signal == ORDER_SIGNAL && reload_is_wanted(weir)) {
        reload(weir);
    }
    if (signal == SIGUSR1) {
        report_times(weir);
    } else if (signal == SIGHUP) {
        reload(weir);
    } else if (signal == ORDER_SIGNAL && !drains && atomic_load(&weir->drain_order_us) >= 0) {
        int64_t ordered_us = atomic_load(&weir->drain_order_us);
        weir_drain(weir, DRAIN_ALL,
                   ordered_us > 0 ? ordered_us : reload_latest(weir)->drain_within_us);
    } else if (signal == SIGTERM && !weir->is_terminated) {
        weir->is_terminated = true;
        if (!drains) {
            weir_drain(weir, DRAIN_REMOTE, reload_latest(weir)->drain_within_us);
        }
    } else if (signal == SIGTERM || signal == SIGINT) {
        atomic_store(&weir->shared.hurried, drains);
        return true;
    }
    return false;
}

static void feed_watchdog(struct weir *weir, int64_t every_us)
{
    int64_t now = now_us();
    if (every_us > 0 && now - weir->fed_us >= every_us && !succession_has_predecessor(weir) &&
        workers_turn(weir->workers, weir->worker_count, now)) {
        notify("WATCHDOG=1");
        weir->fed_us = now;
    }
}

static void wait_for_end(struct weir *weir, const sigset_t *set)
{
    int64_t every_us = notify_watchdog_us();
    for (bool over = false; !over;) {
        siginfo_t info;
        bool drains = weir->drain.begun_us > 0;
        int64_t idle_us = every_us == 0 && reload_watches(weir) ? RELOAD_LOOK_US : every_us;
        int64_t succession_us = succession_pause_us(weir);
        int64_t pause_us = succession_us > 0 ? succession_us : drains ? DRAIN_LOOK_US : idle_us;
        struct timespec pause = {pause_us / 1000000, pause_us % 1000000 * 1000};
        int signal = sigtimedwait(set, &info, pause_us > 0 ? &pause : NULL);
        reload_go_on(weir);
        over = signal > 0 && obey(weir, &info);
        succession_follow(weir);
        succession_inherit(weir);
        over = over || is_drained(weir);
        reload_watch_files(weir);
        feed_watchdog(weir, every_us);
    }
}

// --- stop ---------------------------------------------------------------------------------------

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
    acceptor_stop(weir->acceptor);
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

// Returns when the records of exhaustions are written and sent.
static void end_observer(struct weir *weir)
{
    if (weir->shared.control) { // it sends the observer mail
        control_stop(weir->shared.control);
    }
    if (weir->observer) {
        observer_free(weir->observer);
    }
}

static void dispose(struct weir *weir)
{
    control_socket_free(weir->control_socket);
    rulebook_free(weir->rulebook);
    http_free(weir->http);
    end_observer(weir);
    for (int i = 0; i < weir->worker_count; i++) {
        worker_free(weir->workers[i]);
    }
    free(weir->workers);
    fleet_stop(weir->shared.fleet);
    if (weir->shared.servers) {
        servers_free(weir->shared.servers);
        affinity_fini(&weir->shared.affinity);
    }
    acceptor_free(weir->acceptor);
    logins_free(weir->shared.logins);
    users_drop(weir->users);
    if (weir->shared.tls_server) {
        tls_server_free(weir->shared.tls_server);
    }
    approach_drop(weir->shared.approach);
    config_free(weir->latest);
    succession_fini(weir);
    pthread_cond_destroy(&weir->found_it);
    pthread_mutex_destroy(&weir->talking);
    pthread_mutex_destroy(&weir->posting);
}

// --- all of it ----------------------------------------------------------------------------------

int weir_run(struct weir_source source, struct app *app)
{
    const struct config *config = source.config;
    struct weir weir = {
        .shared = {.config = config},
        .drain_order_us = -1,
        .upgrade_order_us = -1,
        .app = app,
        .source = source,
    };
    char error[CONFIG_ERROR_BYTES];
    sigset_t signals;
    block_signals(app, &signals);
    reload_init(&weir);
    pthread_mutex_init(&weir.posting, NULL);
    pthread_mutex_init(&weir.talking, NULL);
    pthread_cond_init(&weir.found_it, NULL);
    raise_descriptor_limit();
    leave_no_core(app);
    if (!weir_may_run_app(config, app, error, sizeof error) ||
        !prepare(&weir, error, sizeof error)) {
        fprintf(stderr, "weir: %s\n", error);
        succession_refuse(error);
        dispose(&weir);
        return EXIT_REFUSED;
    }
    log_start(config);
    warn_of_open_door(config);
    bool found = false;
    if (!start(&weir, &found)) {
        _exit(EXIT_REFUSED); // it has nothing that is not its predecessor's
    }
    log_ready(&weir, found);
    if (!succession_has_predecessor(&weir)) {
        notify("READY=1");
    }
    if (start_app(&weir)) {
        wait_for_end(&weir, &signals);
    }
    if (!succession_leave(&weir)) {
        notify("STOPPING=1");
    }
    log_event("ending");
    bool at_hand = reload_end(&weir);
    if (!stop(&weir) || !at_hand) {
        end_observer(&weir);
        log_event(count_requests(&weir) > 0 ? "ended_with_requests_under_way" : "ended");
        _exit(app->status);
    }
    dispose(&weir);
    log_event("ended");
    return app->status;
}
