// SPDX-License-Identifier: Apache-2.0

#include "proxy/orders.h"
#include "proxy/reload.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "proxy/config_changes.h"
#include "proxy/control/clock.h"
#include "proxy/log.h"
#include "proxy/mem.h"
#include "proxy/notify.h"
#include "proxy/weir_inner.h"

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

static uint64_t look_at_certificates(const struct config *config)
{
    uint64_t seen = look_at_file(0, config->tls_certificate_key_file);
    seen = look_at_file(seen, config->tls_ca_file);
    return look_at_file(seen, config->tls_crl_file);
}

void reload_init(struct weir *weir)
{
    const struct config *config = weir->source.config;
    weir->files_seen = look_at_certificates(config);
    weir->file_seen = look_at_file(0, config->file);
}

// What a new configuration brings, made before anything of it is seen.
struct renewal {
    struct config *config; // with the running values of what needs a restart
    char needs_restart[CONTROL_SAID_BYTES / 2];
    bool keeps_logins;
    struct shared shared; // its tls_server; NULL: the former one stays
    struct users *users;  // likewise
    uint64_t files_seen;
    bool listens; // acceptor_settle is to follow
};

const struct config *reload_latest(const struct weir *weir)
{
    return weir->shared.config;
}

static void log_reload(enum log_level level, const char *event, const char *field, const char *text)
{
    struct log_line line;
    log_begin(&line, level, event);
    log_str(&line, field, text);
    log_end(&line);
}

// --- certificates -------------------------------------------------------------------------------

static bool make_certificates(const struct weir *weir, const struct config *config,
                              struct renewal *renewal, char *ret_error, size_t capacity)
{
    // Before they are read: later changes are seen.
    renewal->files_seen = look_at_certificates(config);
    return config->tls_mode == CONFIG_TLS_DISABLED ||
           weir_make_tls(config, weir->deployment, &renewal->shared, ret_error, capacity);
}

static void exchange_certificates(struct weir *weir, struct renewal *renewal)
{
    struct tls_server *fresh = renewal->shared.tls_server;
    weir->files_seen = renewal->files_seen;
    if (!fresh) {
        return;
    }
    if (weir->shared.tls_server) {
        tls_server_exchange(weir->shared.tls_server, fresh);
    } else {
        weir->shared.tls_server = fresh;
        renewal->shared.tls_server = NULL;
    }
}

static bool renew_certificates(struct weir *weir, char *ret_error, size_t capacity)
{
    struct renewal renewal = {0};
    bool good = make_certificates(weir, reload_latest(weir), &renewal, ret_error, capacity);
    if (good) {
        exchange_certificates(weir, &renewal);
    }
    weir_free_tls(&renewal.shared);
    return good;
}

// --- users --------------------------------------------------------------------------------------

static bool make_users(const struct weir *weir, struct renewal *renewal, char *ret_error,
                       size_t capacity)
{
    if (!weir->users || !renewal->keeps_logins) {
        return true;
    }
    renewal->users = users_new(renewal->config, weir->users, ret_error, capacity);
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
    pthread_mutex_lock(&weir->posting); // workers find users by it while another weir takes over
    users_drop(weir->users);
    weir->users = users_keep(users);
    pthread_mutex_unlock(&weir->posting);
    logins_exchange(weir->shared.logins, users);
    for (int i = 0; i < weir->worker_count; i++) {
        struct users_mail *mail = xcalloc(1, sizeof *mail);
        mail->users = users_keep(users);
        worker_post(weir->workers[i], &mail->mail, MAIL_USERS);
    }
    weir_wait_for_workers(weir, all_have_taken_users, times);
}

// --- rules --------------------------------------------------------------------------------------

void reload_read_rules(struct weir *weir)
{
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
    control_socket_call(weir->control_socket);
    while (atomic_load(&weir->reading)) {
        nanosleep(&pause, NULL);
    }
    return reading.good;
}

// --- the whole ----------------------------------------------------------------------------------

static bool opens_a_door(const struct config *config, char *ret_error, size_t capacity)
{
    bool opens = config_is_open(config) && !config->allow_remote_without_auth;
    if (opens) {
        snprintf(ret_error, capacity,
                 "net.bindIp, net.tls.CAFile: other machines could reach weir, and anybody there "
                 "could come in; that takes security.allowRemoteWithoutAuth, and a restart");
    }
    return opens;
}

// Once weir drains it is too late for other addresses.
static bool prepare_doors(struct weir *weir, struct renewal *renewal, char *ret_error,
                          size_t capacity)
{
    if (weir->drain.begun_us > 0) {
        return true;
    }
    renewal->listens = acceptor_prepare(weir->acceptor, renewal->config, ret_error, capacity);
    return renewal->listens;
}

// Makes what may fail; the rules are the last of it, and in force if they are good.
static bool prepare_renewal(struct weir *weir, struct renewal *renewal, char *ret_error,
                            size_t capacity)
{
    struct config *config = renewal->config;
    const struct config *started = weir->source.config;
    if (!weir_check(config, ret_error, capacity)) { // all of it, as a restart would
        return false;
    }
    renewal->keeps_logins = config_changes_keep_logins(started, config);
    config_changes_keep(started, config, renewal->needs_restart, sizeof renewal->needs_restart);
    if (opens_a_door(config, ret_error, capacity) ||
        !weir_may_run_app(config, weir->app, ret_error, capacity) ||
        !make_certificates(weir, config, renewal, ret_error, capacity) ||
        !make_users(weir, renewal, ret_error, capacity) ||
        !prepare_doors(weir, renewal, ret_error, capacity)) {
        return false;
    }
    if (!exchange_rules(weir, config)) {
        snprintf(ret_error, capacity, "rules: with the live ones there would be more than %d",
                 RULES_MAX);
        return false;
    }
    return true;
}

static bool all_have_taken_reload(const struct weir *weir, uint64_t times)
{
    for (int i = 0; i < weir->worker_count; i++) {
        if (atomic_load(&weir->workers[i]->reloads_taken) < times) {
            return false;
        }
    }
    return true;
}

// Who has taken it has adapted its servers, too: that mail was earlier.
static void tell_workers(struct weir *weir, uint32_t closed_doors)
{
    int64_t now = now_us();
    for (int i = 0; i < weir->worker_count; i++) {
        struct reloaded_mail *mail = xcalloc(1, sizeof *mail);
        mail->closed_doors = closed_doors;
        mail->drain = (struct drain){now, now + reload_latest(weir)->drain_within_us, DRAIN_ALL};
        worker_post(weir->workers[i], &mail->mail, MAIL_RELOADED);
    }
    weir_wait_for_workers(weir, all_have_taken_reload, ++weir->reloads_told);
}

// Who reads it at each use needs no more than the pointer. The former one stays until the end, for
// whoever is reading it; so this is not for one that says the same.
static void exchange_config(struct weir *weir, struct renewal *renewal)
{
    struct config *config = renewal->config;
    config->former = weir->latest;
    weir->latest = config;
    renewal->config = NULL;
    weir->shared.config = config;
    weir->shared.budget.limit = (size_t)config->max_buffered_bytes;
    log_set_format((enum log_format)config->log_format);
    servers_configure(weir->shared.servers, config);
    config_free_entries(config);
}

// Also without another setting: a name may stand for another address now.
static void exchange_doors(struct weir *weir, struct renewal *renewal)
{
    uint32_t closed = renewal->listens ? acceptor_settle(weir->acceptor, true) : 0;
    renewal->listens = false;
    tell_workers(weir, closed);
}

struct account {
    char *text;
    size_t capacity;
};

static void say(struct account *account, const char *text)
{
    size_t used = strlen(account->text);
    snprintf(account->text + used, account->capacity - used, "%s", text);
}

static void tell_change(void *context, const char *name, const char *former, const char *value)
{
    struct log_line line;
    char text[512];
    log_begin(&line, LOG_INFO, "setting_changed");
    log_str(&line, "name", name);
    log_str(&line, "from", former);
    log_str(&line, "to", value);
    log_end(&line);
    snprintf(text, sizeof text, "%s %.200s -> %.200s; ", name, former[0] ? former : "(none)",
             value[0] ? value : "(none)");
    say(context, text);
}

static void tell_rest(struct account *account, const struct renewal *renewal)
{
    const struct config *config = renewal->config;
    char text[96];
    snprintf(text, sizeof text, "rules: %zu", config->rules.count);
    say(account, text);
    if (renewal->users) {
        snprintf(text, sizeof text, "; users: %zu", config->users.count);
        say(account, text);
    }
    if (renewal->shared.tls_server) {
        say(account, "; certificates read anew");
    }
    if (renewal->needs_restart[0]) {
        say(account, "; needs a restart: ");
        say(account, renewal->needs_restart);
    }
}

// Whole or not at all.
static bool take_over(struct weir *weir, struct config *fresh, char *ret_said, size_t capacity)
{
    struct renewal renewal = {.config = fresh};
    bool good = prepare_renewal(weir, &renewal, ret_said, capacity);
    if (good) {
        struct account account = {ret_said, capacity};
        ret_said[0] = '\0';
        config_changes_each(reload_latest(weir), fresh, tell_change, &account);
        bool differs = ret_said[0] != '\0';
        tell_rest(&account, &renewal);
        exchange_certificates(weir, &renewal); // who may come in, before anybody can
        if (differs) {
            exchange_config(weir, &renewal);
        }
        exchange_doors(weir, &renewal);
        if (renewal.users) {
            exchange_users(weir, renewal.users);
        }
    }
    if (renewal.listens) {
        acceptor_settle(weir->acceptor, false);
    }
    users_drop(renewal.users);
    weir_free_tls(&renewal.shared);
    config_free(renewal.config);
    return good;
}

void reload(struct weir *weir)
{
    char said[CONTROL_SAID_BYTES];
    unsigned wanted = atomic_load(&weir->reload.wanted);
    notify("RELOADING=1");
    weir->file_seen = look_at_file(0, reload_latest(weir)->file); // before it is read
    struct config *fresh = config_load(weir->source.argc, weir->source.argv, environ, said);
    bool good = fresh && take_over(weir, fresh, said, sizeof said);
    log_reload(good ? LOG_INFO : LOG_WARN, good ? "reloaded" : "reload_refused",
               good ? "what" : "why", said);
    orders_done(weir, &weir->reload, wanted, good, said);
    notify("READY=1");
}

// --- files that change --------------------------------------------------------------------------

bool reload_watches(const struct weir *weir)
{
    const struct config *config = reload_latest(weir);
    return config->tls_mode != CONFIG_TLS_DISABLED || (config->reload_on_change && config->file);
}

// Those that were just written in part are refused, and looked at again when they have changed.
static void watch_certificates(struct weir *weir)
{
    uint64_t seen = look_at_certificates(reload_latest(weir));
    char error[CONFIG_ERROR_BYTES];
    if (seen == weir->files_seen || reload_latest(weir)->tls_mode == CONFIG_TLS_DISABLED) {
        return;
    }
    bool good = renew_certificates(weir, error, sizeof error);
    weir->files_seen = seen;
    log_reload(good ? LOG_INFO : LOG_WARN, good ? "reloaded" : "reload_refused",
               good ? "what" : "why", good ? "certificates, whose files have changed" : error);
}

// A part of a configuration may be a good one, too: so only when it is at rest.
static void watch_config(struct weir *weir)
{
    const struct config *config = reload_latest(weir);
    uint64_t seen = look_at_file(0, config->file);
    bool rests = seen == weir->file_looked_at;
    weir->file_looked_at = seen;
    if (config->reload_on_change && config->file && rests && seen != weir->file_seen) {
        reload(weir);
    }
}

void reload_watch_files(struct weir *weir)
{
    int64_t now = now_us();
    if (!reload_watches(weir) || now - weir->files_looked_us < RELOAD_LOOK_US) {
        return;
    }
    weir->files_looked_us = now;
    watch_certificates(weir);
    watch_config(weir);
}
