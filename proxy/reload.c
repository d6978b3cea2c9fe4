// SPDX-License-Identifier: Apache-2.0

#include "proxy/orders.h"
#include "proxy/reload.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proxy/admin/observer.h"
#include "proxy/config_changes.h"
#include "proxy/control/clock.h"
#include "proxy/control/discovery.h"
#include "proxy/glance.h"
#include "proxy/log.h"
#include "proxy/mem.h"
#include "proxy/notify.h"
#include "proxy/weir_inner.h"

#define END_PAUSES 2000 // of 1 ms
#define TRY_US 4000000  // less than weir ctl waits

static uint64_t look_at_certificates(const struct config *config)
{
    uint64_t seen = glance_file(0, config->tls_certificate_key_file);
    seen = glance_file(seen, config->tls_ca_file);
    return glance_file(seen, config->tls_crl_file);
}

void reload_init(struct weir *weir)
{
    const struct config *config = weir->source.config;
    weir->files_seen = look_at_certificates(config);
    weir->file_seen = glance_file(0, config->file);
}

// What a new configuration brings, made before anything of it is seen.
struct renewal {
    struct weir *weir;
    unsigned wanted; // how many orders to reload there had been
    pthread_t thread;
    atomic_bool made;     // the thread has done its part
    atomic_bool given_up; // it need not go on
    bool good;
    char said[CONTROL_SAID_BYTES];
    struct config *config; // with the running values of what needs a restart
    char needs_restart[CONTROL_SAID_BYTES / 2];
    bool keeps_logins;
    struct tls_server *tls;      // NULL: the former one stays
    struct approach *approach;   // likewise,
    struct discovery *discovery; // and by that one
    struct users *users;         // likewise
    uint64_t files_seen;
    struct door_plan doors;
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

static bool make_certificates(const struct config *config, struct renewal *renewal, char *ret_error,
                              size_t capacity)
{
    // Before they are read: later changes are seen.
    renewal->files_seen = look_at_certificates(config);
    return weir_make_tls(config, &renewal->tls, ret_error, capacity);
}

static void exchange_certificates(struct weir *weir, struct renewal *renewal)
{
    struct tls_server *fresh = renewal->tls;
    weir->files_seen = renewal->files_seen;
    if (!fresh) {
        return;
    }
    if (weir->shared.tls_server) {
        tls_server_exchange(weir->shared.tls_server, fresh);
    } else {
        weir->shared.tls_server = fresh;
        renewal->tls = NULL;
    }
}

static void free_certificates(struct renewal *renewal)
{
    if (renewal->tls) {
        tls_server_free(renewal->tls);
    }
}

static bool renew_certificates(struct weir *weir, char *ret_error, size_t capacity)
{
    struct renewal renewal = {0};
    bool good = make_certificates(reload_latest(weir), &renewal, ret_error, capacity);
    if (good) {
        exchange_certificates(weir, &renewal);
    }
    free_certificates(&renewal);
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

// --- the way to the deployment ------------------------------------------------------------------

struct acquaintance {
    const struct discovered *seen;
    bool any_member; // of a replica set, among those that are known now,
    bool any_same;   // and among those that were seen
};

static bool is_member(enum server_kind kind)
{
    return kind == SERVER_PRIMARY || kind == SERVER_SECONDARY;
}

static void compare(struct server *server, void *arg)
{
    struct acquaintance *acquaintance = arg;
    struct server_info info;
    server_get_info(server, &info);
    acquaintance->any_member |= !atomic_load(&server->is_gone) && is_member(info.kind);
    for (size_t i = 0; i < acquaintance->seen->count; i++) {
        acquaintance->any_same |= strcmp(acquaintance->seen->servers[i].info.name, info.name) == 0;
    }
}

// Its members call one another by the same names, whoever asks. Drivers would send another one the
// $clusterTime that they have from this one, which it refuses (211, KeyNotFound).
static bool is_another_set(const struct weir *weir, struct discovery *discovery)
{
    struct discovered *seen = discovery_take(discovery);
    struct acquaintance acquaintance = {.seen = seen};
    bool has_member = false;
    for (size_t i = 0; seen && i < seen->count; i++) {
        has_member |= is_member(seen->servers[i].info.kind);
    }
    if (has_member) {
        servers_visit(weir->shared.servers, compare, &acquaintance);
    }
    free(seen);
    return acquaintance.any_member && !acquaintance.any_same;
}

static bool log_in(const struct weir *weir, struct renewal *renewal, char *ret_error,
                   size_t capacity)
{
    bool direct = renewal->approach->deployment->direct;
    renewal->discovery = discovery_open(renewal->config->uri, NULL, NULL, ret_error, capacity);
    if (!renewal->discovery ||
        !discovery_try(renewal->discovery, TRY_US, &renewal->given_up, ret_error, capacity)) {
        return false;
    }
    if (!direct && is_another_set(weir, renewal->discovery)) {
        snprintf(
            ret_error, capacity,
            "this is another replica set than the one that apps have sessions with: that takes "
            "a restart, of weir and of apps");
        return false;
    }
    return true;
}

// Logs in first: what is seen only once upstreams are opened would be seen by everybody.
static bool make_approach(const struct weir *weir, struct renewal *renewal, char *ret_error,
                          size_t capacity)
{
    const struct config *config = renewal->config;
    const struct config *started = weir->source.config;
    bool keeps = config_changes_keep_identities(started, config);
    const struct config *identities = keeps ? config : started;
    char error[CONFIG_REASON_BYTES];
    if (approach_is_made_of(weir->shared.approach, config, identities)) {
        return true;
    }
    renewal->approach = approach_new(config, identities, ret_error, capacity);
    if (!renewal->approach) {
        return false;
    }
    if (!log_in(weir, renewal, error, sizeof error)) {
        config_blame(config, CONFIG_OPTION_uri, error, ret_error, capacity);
        return false;
    }
    deployment_adopt(renewal->approach->deployment, renewal->discovery);
    return true;
}

static bool all_have_taken_approach(const struct weir *weir, uint64_t number)
{
    for (int i = 0; i < weir->worker_count; i++) {
        if (atomic_load(&weir->workers[i]->approach_taken) < number) {
            return false;
        }
    }
    return true;
}

// Control tells the workers, once it follows.
static void exchange_approach(struct weir *weir, struct renewal *renewal)
{
    struct approach *former = weir->shared.approach;
    struct approach *fresh = renewal->approach;
    if (!fresh) {
        return;
    }
    fresh->number = former->number + 1;
    pthread_mutex_lock(&weir->posting);
    weir->shared.approach = approach_keep(fresh);
    pthread_mutex_unlock(&weir->posting);
    control_follow(weir->shared.control, renewal->discovery, fresh->deployment->direct);
    renewal->discovery = NULL;
    weir_wait_for_workers(weir, all_have_taken_approach, fresh->number);
    atomic_store(&former->is_former, true);
    approach_drop(former);
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

// On the thread: whatever may block or fail, and changes nothing.
static bool make_renewal(struct renewal *renewal)
{
    const struct weir *weir = renewal->weir;
    const struct config *started = weir->source.config;
    char *said = renewal->said;
    size_t capacity = sizeof renewal->said;
    renewal->config = config_load(weir->source.argc, weir->source.argv, environ, said);
    struct config *config = renewal->config;
    if (!config || !weir_check(config, said, capacity)) { // all of it, as a restart would
        return false;
    }
    renewal->keeps_logins = config_changes_keep_logins(started, config);
    config_changes_keep(started, config, renewal->needs_restart, sizeof renewal->needs_restart);
    return !opens_a_door(config, said, capacity) &&
           weir_may_run_app(config, weir->app, said, capacity) &&
           make_certificates(config, renewal, said, capacity) &&
           make_users(weir, renewal, said, capacity) &&
           acceptor_plan(config, &renewal->doors, said, capacity) &&
           make_approach(weir, renewal, said, capacity);
}

static void *run(void *arg)
{
    struct renewal *renewal = arg;
    renewal->good = make_renewal(renewal);
    atomic_store(&renewal->made, true);
    kill(getpid(), ORDER_SIGNAL);
    return NULL;
}

// Once weir drains it is too late for other addresses.
static bool prepare_doors(struct weir *weir, struct renewal *renewal)
{
    if (weir->drain.begun_us > 0) {
        return true;
    }
    renewal->listens = acceptor_prepare(weir->acceptor, renewal->config, &renewal->doors,
                                        renewal->said, sizeof renewal->said);
    return renewal->listens;
}

// The rules are the last that may fail, and in force if they are good.
static bool prepare(struct weir *weir, struct renewal *renewal)
{
    if (!renewal->good || !prepare_doors(weir, renewal)) {
        return false;
    }
    if (!exchange_rules(weir, renewal->config)) {
        snprintf(renewal->said, sizeof renewal->said,
                 "rules: with the live ones there would be more than %d", RULES_MAX);
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
    observer_tell_reload(weir->observer, &weir->observed);
    weir_wait_for_workers(weir, all_have_taken_reload, ++weir->reloads_told);
}

// Whoever reads a configuration does so within a turn of its loop, or under a lock: servers', or
// HTTP's. So nobody holds one that had been replaced before all loops took the last reload; that of
// the acceptor has just prepared for this one, and the rulebook's thread has read its rules.
static void free_former(struct weir *weir, const struct renewal *renewal)
{
    bool taken = all_have_taken_reload(weir, weir->reloads_told) &&
                 atomic_load(&weir->observed) == weir->reloads_told;
    if (weir->latest && taken && renewal->listens) {
        config_free(weir->latest->former);
        weir->latest->former = NULL;
    }
}

// Who reads it at each use needs no more than the pointer. The former one stays until the next
// reload, for whoever is reading it.
static void exchange_config(struct weir *weir, struct renewal *renewal)
{
    struct config *config = renewal->config;
    free_former(weir, renewal);
    config->former = weir->latest;
    weir->latest = config;
    renewal->config = NULL;
    weir->shared.config = config;
    weir->shared.budget.limit = (size_t)config->max_buffered_bytes;
    log_set_format((enum log_format)config->log_format);
    servers_configure(weir->shared.servers, config);
    http_configure(weir->http, config);
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
    if (renewal->tls) {
        say(account, "; certificates read anew");
    }
    if (renewal->approach) {
        say(account, "; connections to the deployment are opened anew");
    }
    if (renewal->needs_restart[0]) {
        say(account, "; needs a restart: ");
        say(account, renewal->needs_restart);
    }
}

static void take_over(struct weir *weir, struct renewal *renewal)
{
    struct account account = {renewal->said, sizeof renewal->said};
    renewal->said[0] = '\0';
    config_changes_each(reload_latest(weir), renewal->config, tell_change, &account);
    bool differs = renewal->said[0] != '\0';
    tell_rest(&account, renewal);
    exchange_certificates(weir, renewal); // who may come in, before anybody can
    if (differs) {
        exchange_config(weir, renewal);
    }
    exchange_doors(weir, renewal);
    if (renewal->users) {
        exchange_users(weir, renewal->users);
    }
    exchange_approach(weir, renewal);
}

static void renewal_free(struct weir *weir, struct renewal *renewal)
{
    if (renewal->listens) {
        acceptor_settle(weir->acceptor, false);
    }
    if (renewal->discovery) {
        discovery_part_with(renewal->discovery);
    }
    approach_drop(renewal->approach);
    users_drop(renewal->users);
    free_certificates(renewal);
    config_free(renewal->config);
    free(renewal);
}

static void tell_outcome(struct weir *weir, const struct renewal *renewal, bool good)
{
    log_reload(good ? LOG_INFO : LOG_WARN, good ? "reloaded" : "reload_refused",
               good ? "what" : "why", renewal->said);
    orders_done(weir, &weir->reload, renewal->wanted, good, renewal->said);
    notify("READY=1");
}

static void finish(struct weir *weir, bool good)
{
    struct renewal *renewal = weir->renewal;
    weir->renewal = NULL;
    tell_outcome(weir, renewal, good);
    renewal_free(weir, renewal);
}

void reload(struct weir *weir)
{
    if (weir->renewal) {
        weir->reload_again = true;
        return;
    }
    struct renewal *renewal = xcalloc(1, sizeof *renewal);
    weir->renewal = renewal;
    weir->reload_again = false;
    renewal->weir = weir;
    renewal->wanted = atomic_load(&weir->reload.wanted);
    notify("RELOADING=1");
    weir->file_seen = glance_file(0, reload_latest(weir)->file); // before it is read
    if (pthread_create(&renewal->thread, NULL, run, renewal) != 0) {
        snprintf(renewal->said, sizeof renewal->said, "the system has no thread for it");
        finish(weir, false);
    }
}

bool reload_is_wanted(const struct weir *weir)
{
    unsigned known = weir->renewal ? weir->renewal->wanted : atomic_load(&weir->reload.done);
    return atomic_load(&weir->reload.wanted) != known;
}

// Whole or not at all.
void reload_go_on(struct weir *weir)
{
    struct renewal *renewal = weir->renewal;
    if (!renewal || !atomic_load(&renewal->made)) {
        return;
    }
    pthread_join(renewal->thread, NULL);
    bool good = prepare(weir, renewal);
    if (good) {
        take_over(weir, renewal);
    }
    finish(weir, good);
    if (weir->reload_again) {
        reload(weir);
    }
}

bool reload_end(struct weir *weir)
{
    static const struct timespec pause = {.tv_nsec = 1000000};
    struct renewal *renewal = weir->renewal;
    weir->reload_again = false;
    if (!renewal) {
        return true;
    }
    atomic_store(&renewal->given_up, true);
    for (int i = 0; i < END_PAUSES && !atomic_load(&renewal->made); i++) {
        nanosleep(&pause, NULL);
    }
    bool made = atomic_load(&renewal->made);
    if (made) {
        pthread_join(renewal->thread, NULL);
        snprintf(renewal->said, sizeof renewal->said, "weir is ending");
        finish(weir, false);
    }
    return made;
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
    uint64_t seen = glance_file(0, config->file);
    bool rests = seen == weir->file_looked_at;
    weir->file_looked_at = seen;
    if (config->reload_on_change && config->file && rests && seen != weir->file_seen) {
        reload(weir);
    }
}

void reload_watch_files(struct weir *weir)
{
    int64_t now = now_us();
    if (weir->renewal || !reload_watches(weir) || now - weir->files_looked_us < RELOAD_LOOK_US) {
        return;
    }
    weir->files_looked_us = now;
    watch_certificates(weir);
    watch_config(weir);
}
