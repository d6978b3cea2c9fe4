// SPDX-License-Identifier: Apache-2.0
//
// The thread sleeps until there is something to do, and then does all of it in one turn:
//
//      asleep --(job, news, scan asked for, time, stop)--> run_jobs --> follow --> asleep
//
//      follow:  open discovery -> take its newest picture -> look up names -> publish if it differs
//                (again in 5 s)                             (of known servers)
//
// Names are looked up on threads of their own (net/lookup.h), which wake this one: what is known of
// the others is published meanwhile, so a name that hangs holds up no failover. A server that has
// no address yet is published without one, and nothing is sent there.
//
// Whoever calls out of here (listener, job) does so between call_begin and call_end; control_stop
// waits for that and lets none begin. So the thread may be left behind when it is stuck elsewhere.
#include "proxy/control/control.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "proxy/control/clock.h"
#include "proxy/control/discovery.h"
#include "proxy/control/killer.h"
#include "proxy/control/library.h"
#include "proxy/log.h"
#include "proxy/mem.h"
#include "proxy/net/lookup.h"

enum {
    STOP_US = 600000,            // libmongoc's monitors look each 500 ms whether they should end
    OPEN_RETRY_US = 5000000,     // when DNS has no SRV record for us
    SCAN_US = 500000,            // between checks that are asked for: libmongoc's own minimum
    RESOLVE_RETRY_US = 1000000,  // a name that was not found
    RESOLVE_AGAIN_US = 60000000, // a name that was: addresses behind it change
    RESOLVE_SLOW_US = 5000000,   // until a lookup that hangs is worth a line
    LOOKUPS_MAX = 64,            // that hang
    SILENCE_US = 1000000,        // how long nothing may be writable before it is worth a line
    KILLS_MAX = 1000,
    QUESTIONS_MAX = 64,
    BEATS_MAX = 64,     // servers whose distance and lag are followed
    QUIET_US = 1000000, // between lines on why one server is down: it has several reasons
};

// A server of the deployment, as control knows it.
struct member {
    struct discovered_server seen; // its addresses are filled in here
    struct lookup *lookup;         // of its name, under way; NULL: none is
    int64_t resolve_at_us;         // while one is: when it is said that it hangs
    int64_t quiet_until_us;
};

struct members {
    size_t count;
    struct member list[];
};

struct control {
    struct control_listener listener;
    struct deployment *deployment; // until another one is followed
    struct errands *kills;
    struct errands *questions;
    pthread_t thread;

    pthread_mutex_t lock;
    pthread_cond_t turned; // something of these has changed
    int references;        // the owner's, the thread's, and one of each lookup
    bool stopping;
    bool finished;
    bool calling;
    bool changed; // discovery has something new
    bool scan_asked;
    struct control_job *jobs;
    struct control_job **jobs_end;
    struct discovery *coming; // to be followed from now on; NULL: none
    bool coming_is_direct;

    // The thread's own.
    char *uri; // of the first one
    bool direct;
    struct discovery *discovery;
    struct members *members;
    struct topology *published;
    char open_error[DISCOVERY_REASON_BYTES];
    int64_t open_at_us;
    int64_t scan_at_us;
    int64_t silent_since_us; // nothing is writable since then; 0: not so; INT64_MAX: that was said
};

static struct timespec timespec_at(int64_t at_us)
{
    return (struct timespec){.tv_sec = at_us / 1000000, .tv_nsec = at_us % 1000000 * 1000};
}

static void control_init_lock(struct control *control)
{
    pthread_condattr_t attributes;
    int error = pthread_mutex_init(&control->lock, NULL);
    error |= pthread_condattr_init(&attributes);
    error |= pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    error |= pthread_cond_init(&control->turned, &attributes);
    pthread_condattr_destroy(&attributes);
    assert(error == 0);
}

static void members_free(struct members *members)
{
    for (size_t i = 0; i < members->count; i++) {
        lookup_leave(members->list[i].lookup);
    }
    free(members);
}

static void control_release(struct control *control)
{
    pthread_mutex_lock(&control->lock);
    bool last = --control->references == 0;
    pthread_mutex_unlock(&control->lock);
    if (!last) {
        return;
    }
    pthread_cond_destroy(&control->turned);
    pthread_mutex_destroy(&control->lock);
    explicit_bzero(control->uri, strlen(control->uri));
    free(control->uri);
    errands_free(control->kills);
    errands_free(control->questions);
    members_free(control->members);
    topology_drop(control->published);
    free(control);
}

static void control_set(struct control *control, bool *flag)
{
    pthread_mutex_lock(&control->lock);
    *flag = true;
    pthread_cond_broadcast(&control->turned);
    pthread_mutex_unlock(&control->lock);
}

static bool call_begin(struct control *control)
{
    pthread_mutex_lock(&control->lock);
    control->calling = !control->stopping;
    bool allowed = control->calling;
    pthread_mutex_unlock(&control->lock);
    return allowed;
}

static void call_end(struct control *control)
{
    pthread_mutex_lock(&control->lock);
    control->calling = false;
    pthread_cond_broadcast(&control->turned);
    pthread_mutex_unlock(&control->lock);
}

static void on_discovery_changed(void *arg)
{
    struct control *control = arg;
    control_set(control, &control->changed);
}

static struct control_job *take_job(struct control *control)
{
    pthread_mutex_lock(&control->lock);
    struct control_job *job = control->jobs;
    if (job != NULL) {
        control->jobs = job->next;
        if (control->jobs == NULL) {
            control->jobs_end = &control->jobs;
        }
    }
    pthread_mutex_unlock(&control->lock);
    return job;
}

static void run_jobs(struct control *control)
{
    bool more = true;
    while (more && call_begin(control)) {
        struct control_job *job = take_job(control);
        more = job != NULL;
        if (more) {
            job->run(job);
        }
        call_end(control);
    }
}

// What to do about it; NULL where the reason says enough.
static const char *advice_for(const char *reason)
{
    bool unresolved = reason != NULL && strstr(reason, "Failed to resolve") != NULL;
    return unresolved ? "weir must be able to resolve the names that the members of a replica set "
                        "call one another by (rs.conf()): add them to DNS or /etc/hosts"
                      : NULL;
}

static void log_event(enum log_level level, const char *event, const char *server, const char *kind,
                      const char *reason)
{
    struct log_line line;
    log_begin(&line, level, event);
    log_str(&line, "server", server);
    log_str(&line, "kind", kind);
    log_str(&line, "reason", reason);
    log_str(&line, "advice", advice_for(reason));
    log_end(&line);
}

void deployment_adopt(struct deployment *deployment, const struct discovery *discovery)
{
    struct credential *credential = &deployment->credential;
    const char *source = discovery_auth_source(discovery);
    if (discovery_load_balanced(discovery)) {
        deployment->load_balanced = true;
    }
    if (credential->source != NULL && strcmp(credential->source, source) != 0) {
        free(credential->source);
        credential->source = xstrdup(source);
    }
}

static void adopt_options(struct control *control)
{
    if (call_begin(control)) {
        deployment_adopt(control->deployment, control->discovery);
        call_end(control);
    }
}

static void put_to_use(struct control *control)
{
    errands_follow(control->kills, discovery_uri(control->discovery));
    errands_follow(control->questions, discovery_uri(control->discovery));
}

static void open_discovery(struct control *control)
{
    char error[sizeof control->open_error];
    control->discovery =
        discovery_open(control->uri, on_discovery_changed, control, error, sizeof error);
    control->open_at_us = now_us() + OPEN_RETRY_US;
    if (control->discovery != NULL) {
        adopt_options(control);
        put_to_use(control);
    } else if (strcmp(error, control->open_error) != 0) {
        memcpy(control->open_error, error, sizeof error);
        log_event(LOG_WARN, "discovery_failed", NULL, NULL, error);
    }
}

// NULL: there is none.
static struct discovery *take_coming(struct control *control)
{
    pthread_mutex_lock(&control->lock);
    struct discovery *coming = control->coming;
    if (coming) {
        control->coming = NULL;
        control->direct = control->coming_is_direct;
    }
    pthread_mutex_unlock(&control->lock);
    return coming;
}

static void follow_coming(struct control *control)
{
    struct discovery *coming = take_coming(control);
    if (!coming) {
        return;
    }
    if (!call_begin(control)) {
        discovery_close(coming);
        return;
    }
    struct discovery *former = control->discovery;
    control->discovery = coming;
    control->listener.followed(control->listener.arg);
    call_end(control);
    discovery_tell(coming, on_discovery_changed, control);
    put_to_use(control);
    if (former) {
        discovery_part_with(former);
    }
}

static struct member *members_find(struct members *members, const char *name)
{
    for (size_t i = 0; i < members->count; i++) {
        if (strcmp(members->list[i].seen.info.name, name) == 0) {
            return &members->list[i];
        }
    }
    return NULL;
}

// Says what happened to a server. Of a replica set's members some change their kind without having
// been away.
static void log_change(const struct member *before, struct member *now)
{
    const char *name = now->seen.info.name;
    enum server_kind was = before == NULL ? SERVER_UNKNOWN : before->seen.info.kind;
    enum server_kind kind = now->seen.info.kind;
    bool other_reason = strcmp(before == NULL ? "" : before->seen.reason, now->seen.reason) != 0;
    if (was != SERVER_UNKNOWN && kind != SERVER_UNKNOWN && was != kind) {
        log_event(LOG_INFO, "server_changed", name, server_kind_name(kind), NULL);
    } else if (was == SERVER_UNKNOWN && kind != was) {
        log_event(LOG_INFO, "server_up", name, server_kind_name(kind), NULL);
    } else if (was != kind ||
               (kind == SERVER_UNKNOWN && other_reason && now->quiet_until_us <= now_us())) {
        bool replaced = was == SERVER_PRIMARY && now->seen.reason[0] == '\0';
        log_event(LOG_WARN, "server_down", name, NULL,
                  replaced ? "another member has become primary" : now->seen.reason);
        now->quiet_until_us = now_us() + QUIET_US;
    }
}

// Takes over what a picture does not have. A server that was away is resolved again.
static void inherit(struct member *member, struct member *before)
{
    struct server_info *info = &member->seen.info;
    const struct server_info *was = &before->seen.info;
    info->away = was->away;
    info->address_count = was->address_count;
    memcpy(info->addresses, was->addresses, sizeof info->addresses);
    member->lookup = before->lookup;
    before->lookup = NULL;
    bool is_back = was->kind == SERVER_UNKNOWN && !member->lookup;
    member->resolve_at_us = is_back ? 0 : before->resolve_at_us;
    member->quiet_until_us = before->quiet_until_us;
}

static void log_changes(struct members *before, struct members *now)
{
    for (size_t i = 0; i < now->count; i++) {
        log_change(members_find(before, now->list[i].seen.info.name), &now->list[i]);
    }
    for (size_t i = 0; i < before->count; i++) {
        const char *name = before->list[i].seen.info.name;
        if (members_find(now, name) == NULL) {
            const char *reason = before->list[i].seen.reason;
            log_event(LOG_INFO, "server_removed", name, NULL,
                      reason[0] != '\0' ? reason
                                        : "the deployment does not name it (any more), or it is "
                                          "none of this deployment");
        }
    }
}

// Takes `seen` over, and frees it. Returns who was there before.
static struct members *take_picture(struct control *control, struct discovered *seen)
{
    struct members *former = control->members;
    struct members *now = xcalloc(1, sizeof *now + seen->count * sizeof now->list[0]);
    now->count = seen->count;
    for (size_t i = 0; i < seen->count; i++) {
        struct member *before = members_find(former, seen->servers[i].info.name);
        now->list[i].seen = seen->servers[i];
        if (before != NULL) {
            inherit(&now->list[i], before);
        }
    }
    free(seen);
    control->members = now;
    return former;
}

static bool has_address(const struct server_info *info, const struct address *address)
{
    for (size_t i = 0; i < info->address_count; i++) {
        if (info->addresses[i].len == address->len &&
            memcmp(&info->addresses[i].storage, &address->storage, address->len) == 0) {
            return true;
        }
    }
    return false;
}

// In whatever order: name servers like to turn them round.
static bool same_addresses(const struct server_info *info, const struct address *addresses,
                           size_t count)
{
    if (info->address_count != count) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (!has_address(info, &addresses[i])) {
            return false;
        }
    }
    return true;
}

static void log_unresolved(struct member *member, const char *reason)
{
    if (strcmp(member->seen.reason, reason) != 0) {
        log_event(LOG_WARN, "server_unresolved", member->seen.info.name, NULL, reason);
        snprintf(member->seen.reason, sizeof member->seen.reason, "%s", reason);
    }
}

// Keeps the addresses there are if the name is not found any more.
static void take_addresses(struct member *member)
{
    struct server_info *info = &member->seen.info;
    struct address found[ADDRESS_MAX] = {0};
    const char *error = NULL;
    size_t count = lookup_found(member->lookup, found, &error);
    lookup_leave(member->lookup);
    member->lookup = NULL;
    member->resolve_at_us = now_us() + (count > 0 ? RESOLVE_AGAIN_US : RESOLVE_RETRY_US);
    if (count > 0 && !same_addresses(info, found, count)) {
        memcpy(info->addresses, found, sizeof found);
        info->address_count = count;
    }
    if (info->kind == SERVER_UNKNOWN) { // for want of a better reason
        return;
    }
    if (count == 0) {
        log_unresolved(member, error);
    } else {
        member->seen.reason[0] = '\0';
    }
}

static void on_looked_up(void *arg)
{
    struct control *control = arg;
    control_set(control, &control->changed);
    control_release(control);
}

static void start_lookup(struct control *control, struct member *member)
{
    static struct lookups lookups = {.most = LOOKUPS_MAX};
    pthread_mutex_lock(&control->lock);
    control->references++;
    pthread_mutex_unlock(&control->lock);
    member->resolve_at_us = now_us() + RESOLVE_SLOW_US;
    member->lookup =
        lookup_start(&lookups, member->seen.info.host, member->seen.port, on_looked_up, control);
}

static void resolve(struct control *control, struct member *member)
{
    bool due = member->seen.info.kind != SERVER_UNKNOWN && member->resolve_at_us <= now_us();
    if (due && !member->lookup) {
        start_lookup(control, member);
    } else if (due) {
        log_unresolved(member, "the name servers have not answered yet");
        member->resolve_at_us = INT64_MAX;
    }
    if (member->lookup && lookup_is_done(member->lookup)) {
        take_addresses(member);
    }
}

static void resolve_members(struct control *control)
{
    for (size_t i = 0; i < control->members->count; i++) {
        resolve(control, &control->members->list[i]);
    }
}

static bool same_server(const struct server_info *a, const struct server_info *b)
{
    return strcmp(a->name, b->name) == 0 && a->kind == b->kind &&
           a->min_wire_version == b->min_wire_version &&
           a->max_wire_version == b->max_wire_version && a->max_bson_bytes == b->max_bson_bytes &&
           a->max_message_bytes == b->max_message_bytes &&
           a->max_write_batch == b->max_write_batch &&
           a->session_timeout_minutes == b->session_timeout_minutes &&
           memcmp(a->tags, b->tags, sizeof a->tags) == 0 &&
           strcmp(a->away.reason, b->away.reason) == 0 &&
           same_addresses(a, b->addresses, b->address_count);
}

static bool is_published(const struct control *control)
{
    const struct topology *published = control->published;
    const struct members *members = control->members;
    if (published == NULL || published->server_count != members->count) {
        return false;
    }
    for (size_t i = 0; i < members->count; i++) {
        if (!same_server(&members->list[i].seen.info, &published->servers[i])) {
            return false;
        }
    }
    return true;
}

// Since when is since the first reason: what follows may be another one.
static void note_failure(struct member *member)
{
    struct server_failure *away = &member->seen.info.away;
    snprintf(away->reason, sizeof away->reason, "%.199s", member->seen.reason);
    away->since_s = away->reason[0] == '\0' ? 0 : away->since_s > 0 ? away->since_s : time(NULL);
}

static void publish(struct control *control)
{
    struct members *members = control->members;
    for (size_t i = 0; i < members->count; i++) {
        note_failure(&members->list[i]);
    }
    if (is_published(control) || !call_begin(control)) {
        return;
    }
    uint64_t generation = control->published == NULL ? 1 : control->published->generation + 1;
    struct topology *topology = topology_new(generation, members->count);
    for (size_t i = 0; i < members->count; i++) {
        topology->servers[i] = members->list[i].seen.info;
        topology->servers[i].is_direct = control->direct;
    }
    topology_drop(control->published);
    control->published = topology_keep(topology);
    control->listener.topology_changed(control->listener.arg, topology);
    call_end(control);
}

static struct server_pulse *find_pulse(const struct topology *topology, const char *name)
{
    for (size_t i = 0; i < topology->server_count; i++) {
        if (strcmp(topology->servers[i].name, name) == 0) {
            return topology->servers[i].pulse;
        }
    }
    return NULL;
}

// What the staleness of others is measured against: the primary, or else who has written last.
static const struct server_beat *find_freshest(const struct server_beat *beats, size_t count)
{
    const struct server_beat *freshest = NULL;
    for (size_t i = 0; i < count; i++) {
        if (beats[i].kind == SERVER_PRIMARY) {
            return &beats[i];
        }
        bool counts = beats[i].kind == SERVER_SECONDARY; // not who is hidden, nor an arbiter
        if (counts && (!freshest || beats[i].last_write_ms > freshest->last_write_ms)) {
            freshest = &beats[i];
        }
    }
    return freshest;
}

// "Estimating staleness" in source/max-staleness of mongodb/specifications.
static int64_t staleness_ms(const struct server_beat *beat, const struct server_beat *freshest,
                            int64_t heartbeat_ms)
{
    int64_t behind_ms = freshest->last_write_ms - beat->last_write_ms;
    if (freshest->kind == SERVER_PRIMARY) {
        behind_ms += beat->heard_ms - freshest->heard_ms;
    }
    return behind_ms + heartbeat_ms;
}

// Brings up to date what changes too often for a snapshot.
static void take_beats(struct control *control)
{
    struct server_beat beats[BEATS_MAX];
    size_t count = discovery_listen(control->discovery, beats, BEATS_MAX);
    const struct server_beat *freshest = find_freshest(beats, count);
    int64_t heartbeat_ms = discovery_heartbeat_ms(control->discovery);
    if (!control->published || !call_begin(control)) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        struct server_pulse *pulse = find_pulse(control->published, beats[i].name);
        if (pulse) {
            atomic_store(&pulse->rtt_us, beats[i].rtt_us);
            int64_t behind_ms = freshest ? staleness_ms(&beats[i], freshest, heartbeat_ms) : 0;
            atomic_store(&pulse->staleness_ms, behind_ms);
            bool lags = beats[i].kind == SERVER_SECONDARY && behind_ms > heartbeat_ms;
            atomic_store(&pulse->lag_ms, lags ? behind_ms - heartbeat_ms : 0);
        }
    }
    call_end(control);
}

static bool is_writable(const struct control *control)
{
    return control->published != NULL && topology_writable(control->published) != NULL;
}

// Where discovery gives no reason: there is nothing wrong with any server, or it is waiting yet.
static const char *guess_reason(const struct members *members)
{
    for (size_t i = 0; i < members->count; i++) {
        if (members->list[i].seen.info.kind != SERVER_UNKNOWN) {
            return "there is no primary: what answers takes no writes";
        }
    }
    return members->count == 0
               ? "no server is left: is replicaSet what the servers say?"
               : "no server has answered yet: does it have TLS if the URI has, and not if not?";
}

// Members may all answer, and none take writes: their own lines do not say that.
static void log_silence(struct control *control, const char *reason)
{
    if (control->silent_since_us == 0) {
        control->silent_since_us = now_us();
    }
    if (now_us() - control->silent_since_us < SILENCE_US) {
        return;
    }
    control->silent_since_us = INT64_MAX;
    bool is_told = reason[0] != '\0' && control->members->count > 0;
    log_event(LOG_WARN, "no_writable_server", NULL, NULL,
              is_told ? reason : guess_reason(control->members));
}

static void scan(struct control *control)
{
    bool writable = is_writable(control);
    bool due = control->scan_at_us <= now_us();
    char reason[DISCOVERY_REASON_BYTES];
    pthread_mutex_lock(&control->lock);
    bool asked = control->scan_asked;
    control->scan_asked &= !due;
    pthread_mutex_unlock(&control->lock);
    if (writable) {
        control->silent_since_us = 0;
    }
    if (!due || (writable && !asked)) {
        return;
    }
    discovery_check(control->discovery, reason);
    control->scan_at_us = now_us() + SCAN_US;
    if (!writable) {
        log_silence(control, reason);
    }
}

static void follow(struct control *control)
{
    follow_coming(control);
    if (control->discovery == NULL && control->open_at_us <= now_us()) {
        open_discovery(control);
    }
    if (control->discovery == NULL) {
        return;
    }
    struct discovered *seen = discovery_take(control->discovery);
    struct members *former = seen == NULL ? NULL : take_picture(control, seen);
    resolve_members(control);
    publish(control);
    if (former != NULL) { // said when it counts: the workers have been told
        log_changes(former, control->members);
        members_free(former);
    }
    take_beats(control);
    scan(control);
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t next_turn_us(const struct control *control)
{
    if (control->discovery == NULL) {
        return control->open_at_us;
    }
    int64_t at_us = is_writable(control) ? INT64_MAX : control->scan_at_us;
    for (size_t i = 0; i < control->members->count; i++) {
        if (control->members->list[i].seen.info.kind != SERVER_UNKNOWN) {
            at_us = earlier(at_us, control->members->list[i].resolve_at_us);
        }
    }
    return at_us;
}

// False when it is time to end.
static bool sleep_until_turn(struct control *control)
{
    int64_t at_us = earlier(next_turn_us(control), now_us() + RESOLVE_AGAIN_US);
    int64_t asked_at_us = control->discovery == NULL ? at_us : earlier(at_us, control->scan_at_us);
    int error = 0;
    pthread_mutex_lock(&control->lock);
    while (!control->stopping && !control->changed && control->jobs == NULL && error == 0) {
        struct timespec at = timespec_at(control->scan_asked ? asked_at_us : at_us);
        error = pthread_cond_timedwait(&control->turned, &control->lock, &at);
    }
    control->changed = false;
    bool go_on = !control->stopping;
    pthread_mutex_unlock(&control->lock);
    return go_on;
}

static void *control_main(void *arg)
{
    struct control *control = arg;
    do {
        run_jobs(control);
        follow(control);
    } while (sleep_until_turn(control));
    errands_stop(control->kills);
    errands_stop(control->questions);
    discovery_close(control->coming);
    discovery_close(control->discovery);
    control_set(control, &control->finished);
    control_release(control);
    return NULL;
}

// The thread, and those that libmongoc starts from it, leave signals to others.
static void start_thread(struct control *control)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&control->thread, NULL, control_main, control);
    assert(error == 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_setname_np(control->thread, "weir-control");
}

struct control *control_start(struct deployment *deployment, struct control_listener listener)
{
    struct control *control = xcalloc(1, sizeof *control);
    library_init();
    control_init_lock(control);
    control->listener = listener;
    control->deployment = deployment;
    control->uri = xstrdup(deployment->uri);
    control->direct = deployment->direct;
    control->members = xcalloc(1, sizeof *control->members);
    // What is gone before it is seen is told, too.
    members_free(take_picture(control, discovery_seeds(deployment->uri)));
    control->kills = errands_new("weir-killer", KILLS_MAX);
    control->questions = errands_new("weir-questions", QUESTIONS_MAX);
    control->references = 2;
    control->jobs_end = &control->jobs;
    start_thread(control);
    return control;
}

void control_stop(struct control *control)
{
    struct timespec until = timespec_at(now_us() + STOP_US);
    int error = 0;
    errands_dismiss(control->kills);
    errands_dismiss(control->questions);
    pthread_mutex_lock(&control->lock);
    control->stopping = true;
    pthread_cond_broadcast(&control->turned);
    while (control->calling) {
        pthread_cond_wait(&control->turned, &control->lock);
    }
    while (!control->finished && error == 0) {
        error = pthread_cond_timedwait(&control->turned, &control->lock, &until);
    }
    bool finished = control->finished;
    pthread_mutex_unlock(&control->lock);
    if (finished) {
        pthread_join(control->thread, NULL);
    } else {
        pthread_detach(control->thread);
    }
    control_release(control);
}

void control_post(struct control *control, struct control_job *job)
{
    pthread_mutex_lock(&control->lock);
    job->next = NULL;
    *control->jobs_end = job;
    control->jobs_end = &job->next;
    pthread_cond_broadcast(&control->turned);
    pthread_mutex_unlock(&control->lock);
}

void control_kill(struct control *control, struct kill *kill)
{
    killer_add(control->kills, kill);
}

void control_ask(struct control *control, struct errand *errand)
{
    errands_add(control->questions, errand);
}

void control_follow(struct control *control, struct discovery *discovery, bool direct)
{
    pthread_mutex_lock(&control->lock);
    struct discovery *superseded = control->coming;
    control->coming = discovery;
    control->coming_is_direct = direct;
    control->changed = true;
    pthread_cond_broadcast(&control->turned);
    pthread_mutex_unlock(&control->lock);
    if (superseded) {
        discovery_part_with(superseded);
    }
}

void control_request_scan(struct control *control)
{
    control_set(control, &control->scan_asked);
}
