// SPDX-License-Identifier: Apache-2.0

#include "proxy/app.h"
#include "proxy/succession.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "policy/shared_cap.h"
#include "proxy/control/clock.h"
#include "proxy/log.h"
#include "proxy/mem.h"
#include "proxy/net/inherited.h"
#include "proxy/notify.h"
#include "proxy/orders.h"
#include "proxy/reload.h"
#include "proxy/succession_orders.h"
#include "proxy/succession_pins.h"
#include "proxy/weir_inner.h"

#define LOOK_US 20000              // how often either looks after it,
#define TELL_US 1000               // while there is something to tell
#define START_US INT64_C(60000000) // how long a successor may take until it is ready

enum passing { PASSING_NOTHING, PASSING_ON, PASSING_BACK };

enum stage {
    STAGE_STARTING,
    STAGE_READY,   // is told of what is open
    STAGE_PASSING, // of what was ordered, by the thread that has the rulebook
    STAGE_PASSED,
    STAGE_IN_PLACE,
};

struct successor {
    pid_t pid;
    struct telling telling;
    int64_t begun_us;
    int64_t within_us;
    enum stage stage;
    int clients;                  // it has
    int cap;                      // what we had for a server, and of it keep
    int keeps;                    //
    int total_cap;                // likewise for all
    int total_keeps;              //
    char why[TALK_MESSAGE_BYTES]; // it cannot; "": it has not said so
};

struct predecessor {
    pid_t pid;
    struct telling telling;
    bool has_told; // what it holds
    int held;
    int total_held;
    int clients; // that it was told of
};

// --- what they say ------------------------------------------------------------------------------

// What follows a word, NULL if the message begins otherwise.
static const char *after(const char *text, const char *word)
{
    size_t length = strlen(word);
    return strncmp(text, word, length) == 0 ? text + length : NULL;
}

static void log_succession(enum log_level level, const char *event, pid_t pid, const char *why)
{
    struct log_line line;
    log_begin(&line, level, event);
    log_int(&line, "pid", pid);
    if (why) {
        log_str(&line, "why", why);
    }
    log_end(&line);
}

// --- what is open -------------------------------------------------------------------------------

static void listen_to_successor(struct weir *weir);
static void listen_to_predecessor(struct weir *weir);

// NULL: there is no other.
static struct telling *telling_of(struct weir *weir)
{
    return weir->successor     ? &weir->successor->telling
           : weir->predecessor ? &weir->predecessor->telling
                               : NULL;
}

int64_t succession_pause_us(struct weir *weir)
{
    pthread_mutex_lock(&weir->talking);
    const struct telling *telling = telling_of(weir);
    bool passes = weir->successor && weir->successor->stage == STAGE_PASSING;
    bool tells = passes || (telling && !succession_has_told(telling));
    pthread_mutex_unlock(&weir->talking);
    return tells ? TELL_US : telling ? LOOK_US : 0;
}

// On a worker's thread, as the next.
static void relay_opened(void *arg, const struct pin *pin)
{
    struct weir *weir = arg;
    pthread_mutex_lock(&weir->talking);
    struct telling *telling = telling_of(weir);
    if (telling) {
        succession_tell_pin(weir, telling, pin);
    }
    pthread_mutex_unlock(&weir->talking);
}

static void relay_missed(void *arg)
{
    struct weir *weir = arg;
    pthread_mutex_lock(&weir->talking);
    if (weir->successor) {
        listen_to_successor(weir);
    } else if (weir->predecessor) {
        listen_to_predecessor(weir);
    }
    pthread_mutex_unlock(&weir->talking);
}

static void begin_relay(struct weir *weir)
{
    weir->relay =
        (struct affinity_relay){.opened = relay_opened, .missed = relay_missed, .arg = weir};
    affinity_set_relay(&weir->shared.affinity, &weir->relay, now_us());
}

// What the other had open is an orphan; a worker that drains no more is to look after it.
static void end_relay(struct weir *weir)
{
    affinity_set_relay(&weir->shared.affinity, NULL, now_us());
    worker_post(weir->workers[0], xcalloc(1, sizeof(struct mail)), MAIL_ORPHANS);
}

// --- what is held -------------------------------------------------------------------------------

static void look_at_server(struct server *server, void *arg)
{
    int *most = arg;
    int open = server->id != 0 ? server_count_entered(server) : 0;
    *most = open > *most ? open : *most;
}

// The most at any server.
static int count_open(const struct weir *weir)
{
    int most = 0;
    servers_visit(weir->shared.servers, look_at_server, &most);
    return most;
}

// --- the former: starting another ---------------------------------------------------------------

// Its environment is ours, but for what was said to us alone.
static char **make_environment(char *own)
{
    size_t count = 0, kept = 0;
    while (environ[count]) {
        count++;
    }
    char **environment = xcalloc(count + 2, sizeof *environment);
    for (size_t i = 0; i < count; i++) {
        if (!after(environ[i], "WATCHDOG_PID=")) {
            environment[kept++] = environ[i];
        }
    }
    environment[kept] = own;
    return environment;
}

// Gives the child those descriptors, from INHERITED_FIRST_FD on, and no other. They are moved out
// of the way first, as one may have another's number.
static bool give_descriptors(posix_spawn_file_actions_t *actions, int *fds, int count)
{
    bool good = true;
    for (int i = 0; i < count; i++) {
        fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, INHERITED_FIRST_FD + count);
        good = good && fds[i] >= 0 &&
               posix_spawn_file_actions_adddup2(actions, fds[i], INHERITED_FIRST_FD + i) == 0;
    }
    return good &&
           posix_spawn_file_actions_addclosefrom_np(actions, INHERITED_FIRST_FD + count) == 0;
}

static int spawn(const struct weir *weir, int *fds, int count, pid_t *ret_pid)
{
    char own[64];
    posix_spawnattr_t how;
    posix_spawn_file_actions_t actions;
    snprintf(own, sizeof own, INHERITED_VARIABLE "=%d:%d", (int)getpid(), count - 1);
    app_spawn_unsignalled(&how);
    posix_spawn_file_actions_init(&actions);
    char **environment = make_environment(own);
    char *const *argv = weir->source.argv;
    int error = give_descriptors(&actions, fds, count)
                    ? posix_spawnp(ret_pid, argv[0], &actions, &how, argv, environment)
                    : EMFILE;
    free(environment);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&how);
    return error;
}

// What listens, after the child's end of the talk.
static int start_successor(const struct weir *weir, int childs_end, pid_t *ret_pid)
{
    int fds[INHERITED_MAX + 1] = {childs_end};
    int count = 1 + acceptor_fds(weir->acceptor, fds + 1, INHERITED_MAX - 1);
    int control = control_socket_fd(weir->control_socket);
    if (control >= 0) {
        fds[count++] = control;
    }
    int error = spawn(weir, fds, count, ret_pid);
    for (int i = 0; i < count && fds[i] >= 0; i++) {
        close(fds[i]);
    }
    return error;
}

static const char *why_not(const struct weir *weir)
{
    int total = servers_total_cap(weir->shared.servers);
    return weir->app->argv
               ? "weir exec cannot be replaced, as it ends with its app: start both anew"
           : getpid() == 1
               ? "the first process of a container cannot be replaced, as the container ends "
                 "with it: start another container"
           : weir->successor      ? "another one is taking over already"
           : weir->predecessor    ? "it has not taken over all of its predecessor's place yet"
           : weir->drain.begun_us ? "it drains"
           : servers_bounds(weir->shared.servers).cap == 1
               ? "two processes cannot share a cap of 1: restart it"
           : total == 1
               ? "two processes cannot share an upstream.maxTotalConnections of 1: restart it"
               : NULL;
}

bool succession_begin(struct weir *weir, int64_t within_us, char *ret_said, size_t capacity)
{
    int ends[2];
    const char *why = why_not(weir);
    if (why) {
        snprintf(ret_said, capacity, "%s", why);
        return false;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
        snprintf(ret_said, capacity, "no socket to be had");
        return false;
    }
    signal(SIGCHLD, SIG_DFL); // who ignores it does not learn how a child ended
    struct successor *successor = xcalloc(1, sizeof *successor);
    *successor = (struct successor){
        .telling = {.talk.socket = ends[0], .place = SIZE_MAX},
        .begun_us = now_us(),
        .within_us = within_us,
    };
    int error = start_successor(weir, ends[1], &successor->pid);
    close(ends[1]);
    if (error != 0) {
        snprintf(ret_said, capacity, "%s cannot be started: %s", weir->source.argv[0],
                 strerrordesc_np(error));
        close(ends[0]);
        free(successor);
        return false;
    }
    pthread_mutex_lock(&weir->talking);
    weir->successor = successor;
    pthread_mutex_unlock(&weir->talking);
    log_succession(LOG_INFO, "upgrade_begun", successor->pid, NULL);
    return true;
}

// --- the former: parting ------------------------------------------------------------------------

// The caps are in force before what is open is counted.
static void give_up_some(struct weir *weir)
{
    struct successor *successor = weir->successor;
    struct servers *servers = weir->shared.servers;
    int clients = workers_count_clients(weir->workers, weir->worker_count);
    bool bounded = successor->total_cap != INT_MAX;
    successor->keeps =
        shared_cap_keeps(successor->keeps, successor->cap, clients, successor->clients);
    if (bounded) {
        successor->total_keeps = shared_cap_keeps(successor->total_keeps, successor->total_cap,
                                                  clients, successor->clients);
    }
    servers_set_succession_cap(servers, successor->keeps, successor->total_keeps);
    int total = atomic_load(&servers->open_total);
    (void)talk_say_text(&successor->telling.talk, "held %d %d",
                        shared_cap_held(successor->keeps, count_open(weir)),
                        bounded ? shared_cap_held(successor->total_keeps, total) : total);
}

static void pass(struct weir *weir, enum passing how)
{
    atomic_store(&weir->passing, how);
    control_socket_call(weir->control_socket);
}

// From here on no order comes that the successor would not learn of.
void succession_pass_orders(struct weir *weir)
{
    enum passing how = (enum passing)atomic_exchange(&weir->passing, PASSING_NOTHING);
    if (how == PASSING_NOTHING) {
        return;
    }
    control_socket_pass(weir->control_socket, how == PASSING_ON);
    pthread_mutex_lock(&weir->talking);
    if (how == PASSING_ON && weir->successor) {
        succession_tell_orders(weir, &weir->successor->telling.talk);
        weir->successor->stage = STAGE_PASSED;
    }
    pthread_mutex_unlock(&weir->talking);
}

static void give_place(struct weir *weir)
{
    struct successor *successor = weir->successor;
    successor->stage = STAGE_IN_PLACE;
    successor->cap = successor->keeps = servers_bounds(weir->shared.servers).cap;
    successor->total_cap = successor->total_keeps = servers_total_cap(weir->shared.servers);
    acceptor_pass(weir->acceptor, true);
    log_succession(LOG_INFO, "replaced", successor->pid, NULL);
    weir_drain(weir, DRAIN_REPLACED, successor->within_us);
    char said[CONTROL_SAID_BYTES];
    snprintf(said, sizeof said, "process %d has taken over, and process %d drains",
             (int)successor->pid, (int)getpid());
    orders_upgraded(weir, true, said);
}

static void listen_to_successor(struct weir *weir)
{
    struct successor *successor = weir->successor;
    char text[TALK_MESSAGE_BYTES];
    const char *rest;
    size_t bytes;
    while (talk_hear(&successor->telling.talk, text, &bytes)) {
        if (strcmp(text, "ready") == 0) {
            successor->stage = STAGE_READY;
            successor->telling.place = 0;
            begin_relay(weir);
        } else if ((rest = after(text, SUCCESSION_PIN))) {
            succession_adopt_pin(weir, rest, bytes - (size_t)(rest - text));
        } else if ((rest = after(text, "clients "))) {
            successor->clients = (int)strtol(rest, NULL, 10);
        } else if ((rest = after(text, "refused "))) {
            snprintf(successor->why, sizeof successor->why, "%s", rest);
        }
    }
}

// --- the former: when it was in vain ------------------------------------------------------------

static void describe_end(struct successor *successor, int status)
{
    if (successor->why[0] != '\0') {
        return;
    }
    bool signalled = WIFSIGNALED(status);
    snprintf(successor->why, sizeof successor->why, "process %d ended %s, with %s %d",
             (int)successor->pid,
             successor->stage == STAGE_IN_PLACE ? "in our place" : "before it was ready",
             signalled ? "signal" : "status", signalled ? WTERMSIG(status) : WEXITSTATUS(status));
}

// It has ended, and with it all that it had open.
static void take_place_back(struct weir *weir, int status)
{
    struct successor *successor = weir->successor;
    servers_set_succession_cap(weir->shared.servers, INT_MAX, INT_MAX);
    if (successor->stage == STAGE_IN_PLACE && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        acceptor_accept_less(weir->acceptor, false); // somebody wanted it to end, and so do we
    } else {
        describe_end(successor, status);
        log_succession(LOG_ERROR, "upgrade_failed", successor->pid, successor->why);
        if (successor->stage == STAGE_IN_PLACE && weir->drain.whom == DRAIN_REPLACED) {
            acceptor_pass(weir->acceptor, false);
            weir_drain_no_more(weir);
        }
        if (successor->stage >= STAGE_PASSING) {
            pass(weir, PASSING_BACK);
        }
        orders_upgraded(weir, false, successor->why);
    }
    end_relay(weir);
    succession_fini(weir);
}

static void follow(struct weir *weir)
{
    struct successor *successor = weir->successor;
    int status;
    listen_to_successor(weir);
    bool all_told = succession_tell_pins(weir, &successor->telling);
    if (all_told && successor->stage == STAGE_READY) {
        successor->stage = STAGE_PASSING;
        pass(weir, PASSING_ON);
    }
    if (successor->stage == STAGE_PASSED) {
        give_place(weir);
    }
    if (waitpid(successor->pid, &status, WNOHANG) == successor->pid) {
        take_place_back(weir, status);
    } else if (successor->stage == STAGE_IN_PLACE) {
        give_up_some(weir);
    } else if (now_us() - successor->begun_us >= START_US) {
        snprintf(successor->why, sizeof successor->why, "it was not ready within a minute");
        (void)kill(successor->pid, SIGKILL);
    }
}

void succession_follow(struct weir *weir)
{
    pthread_mutex_lock(&weir->talking);
    if (weir->successor) {
        follow(weir);
    }
    pthread_mutex_unlock(&weir->talking);
}

bool succession_is_replaced(const struct weir *weir)
{
    return weir->successor && weir->successor->stage == STAGE_IN_PLACE;
}

bool succession_leave(const struct weir *weir)
{
    char text[32];
    if (!succession_is_replaced(weir)) {
        return false;
    }
    snprintf(text, sizeof text, "MAINPID=%d", (int)weir->successor->pid);
    notify(text);
    return true;
}

// --- the successor ------------------------------------------------------------------------------

bool succession_has_predecessor(const struct weir *weir)
{
    return weir->predecessor != NULL;
}

void succession_refuse(const char *why)
{
    struct talk talk = {0};
    if (inherited_predecessor(&talk.socket) != 0) {
        (void)talk_say_text(&talk, "refused %s", why);
    }
}

// Our parent's descriptors are closed when another one is our parent.
static bool is_gone(const struct predecessor *predecessor)
{
    return getppid() != predecessor->pid;
}

void succession_arrive(struct weir *weir)
{
    int talk;
    pid_t pid = inherited_predecessor(&talk);
    if (pid == 0) {
        return;
    }
    weir->predecessor = xcalloc(1, sizeof *weir->predecessor);
    *weir->predecessor =
        (struct predecessor){.pid = pid, .telling = {.talk.socket = talk, .place = SIZE_MAX}};
    servers_set_succession_cap(weir->shared.servers, 0, 0);
}

static void listen_to_predecessor(struct weir *weir)
{
    struct predecessor *predecessor = weir->predecessor;
    char text[TALK_MESSAGE_BYTES];
    const char *rest;
    size_t bytes;
    while (talk_hear(&predecessor->telling.talk, text, &bytes)) {
        if ((rest = after(text, SUCCESSION_PIN))) {
            succession_adopt_pin(weir, rest, bytes - (size_t)(rest - text));
        } else if (!predecessor->has_told && (rest = after(text, SUCCESSION_ORDER))) {
            succession_obey_order(weir, rest, bytes - (size_t)(rest - text));
        } else if ((rest = after(text, "held "))) {
            char *end;
            predecessor->held = (int)strtol(rest, &end, 10);
            predecessor->total_held = (int)strtol(end, NULL, 10);
            predecessor->has_told = true;
        }
    }
}

static void put_in_force(struct weir *weir)
{
    const struct predecessor *predecessor = weir->predecessor;
    int total = reload_latest(weir)->max_total_connections;
    servers_set_succession_cap(
        weir->shared.servers,
        shared_cap_leaves(servers_bounds(weir->shared.servers).cap, predecessor->held),
        total > 0 ? shared_cap_leaves(total, predecessor->total_held) : INT_MAX);
}

void succession_take_place(struct weir *weir)
{
    struct predecessor *predecessor = weir->predecessor;
    if (!predecessor) {
        return;
    }
    begin_relay(weir);
    (void)talk_say_text(&predecessor->telling.talk, "ready");
    while (!predecessor->has_told && !is_gone(predecessor)) {
        talk_wait(&predecessor->telling.talk, LOOK_US / 1000);
        pthread_mutex_lock(&weir->talking);
        listen_to_predecessor(weir);
        pthread_mutex_unlock(&weir->talking);
    }
    log_succession(LOG_INFO, "took_over", predecessor->pid, NULL);
    succession_inherit(weir);
}

static void have_all(struct weir *weir)
{
    log_succession(LOG_INFO, "predecessor_gone", weir->predecessor->pid, NULL);
    listen_to_predecessor(weir); // what it had said before
    end_relay(weir);
    servers_set_succession_cap(weir->shared.servers, INT_MAX, INT_MAX);
    succession_fini(weir);
    notify("READY=1");
}

static void inherit(struct weir *weir)
{
    struct predecessor *predecessor = weir->predecessor;
    if (is_gone(predecessor)) {
        have_all(weir);
        return;
    }
    int clients = workers_count_clients(weir->workers, weir->worker_count);
    if (clients != predecessor->clients &&
        talk_say_text(&predecessor->telling.talk, "clients %d", clients)) {
        predecessor->clients = clients;
    }
    (void)succession_tell_pins(weir, &predecessor->telling);
    listen_to_predecessor(weir);
    put_in_force(weir);
}

void succession_inherit(struct weir *weir)
{
    pthread_mutex_lock(&weir->talking);
    if (weir->predecessor) {
        inherit(weir);
    }
    pthread_mutex_unlock(&weir->talking);
}

// --- the end ------------------------------------------------------------------------------------

void succession_fini(struct weir *weir)
{
    struct telling *telling = telling_of(weir);
    if (telling) {
        talk_close(&telling->talk);
    }
    free(weir->successor);
    free(weir->predecessor);
    weir->successor = NULL;
    weir->predecessor = NULL;
}
