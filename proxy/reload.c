// SPDX-License-Identifier: Apache-2.0

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

uint64_t reload_look_at_files(const struct config *config)
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

const struct config *reload_latest(const struct weir *weir)
{
    return weir->latest ? weir->latest : weir->shared.config;
}

static bool make_certificates(const struct weir *weir, const struct config *config,
                              struct renewal *renewal, char *ret_error, size_t capacity)
{
    bool both = weir->shared.tls_server && config->tls_mode != CONFIG_TLS_DISABLED;
    // Before they are read: later changes are seen.
    renewal->files_seen = reload_look_at_files(config);
    return !both || weir_make_tls(config, weir->deployment, &renewal->shared, ret_error, capacity);
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
    if (!weir->users || !config_changes_keep_logins(weir->shared.config, config)) {
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
    weir_wait_for_workers(weir, all_have_taken_users, times);
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
    control_socket_read_rules(weir->control_socket);
    while (atomic_load(&weir->reading)) {
        nanosleep(&pause, NULL);
    }
    return reading.good;
}

// Makes what may fail; the rules are the last of it, and in force if they are good.
static bool prepare_renewal(struct weir *weir, const struct config *fresh, struct renewal *renewal,
                            char *ret_error, size_t capacity)
{
    if (config_changes_open_a_door(weir->shared.config, fresh)) {
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
        config_changes_need_restart(weir->shared.config, fresh, names, sizeof names);
        snprintf(ret_said, capacity, "%srules: %zu%s%s%s%s", cap, fresh->rules.count, users,
                 renewal.shared.tls_server ? "; certificates read anew" : "",
                 names[0] ? "; needs a restart: " : "", names);
    }
    users_drop(renewal.users);
    weir_free_tls(&renewal.shared);
    return good;
}

void reload(struct weir *weir)
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
void reload_watch_files(struct weir *weir)
{
    int64_t now = now_us();
    if (!weir->shared.tls_server || now - weir->files_looked_us < RELOAD_LOOK_US) {
        return;
    }
    weir->files_looked_us = now;
    uint64_t seen = reload_look_at_files(reload_latest(weir));
    if (seen == weir->files_seen) {
        return;
    }
    char error[CONFIG_ERROR_BYTES];
    bool good = renew_certificates(weir, error, sizeof error);
    weir->files_seen = seen;
    log_reload(good ? LOG_INFO : LOG_WARN, good ? "reloaded" : "reload_refused",
               good ? "what" : "why", good ? "certificates, whose files have changed" : error);
}
