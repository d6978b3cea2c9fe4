// SPDX-License-Identifier: Apache-2.0

#include "proxy/acceptor.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proxy/admin/http.h"
#include "proxy/log.h"
#include "proxy/mem.h"
#include "proxy/net/listener.h"
#include "proxy/worker.h"

struct door {
    struct acceptor *acceptor;
    struct listener *listener; // NULL: there is none
    struct address asked;      // whose port may be 0
    bool is_http;
    bool is_new; // to be opened, or to be taken away again
    bool leaves; // to be closed, or to stay after all
};

struct acceptor {
    const struct shared *shared;
    struct worker *const *workers;
    int worker_count;
    pthread_t thread;
    struct loop *loop;
    struct mailbox *mailbox;
    struct timer *again; // when the doors are looked at
    struct door doors[DOORS_MAX];
    bool is_open; // clients are accepted
    struct http *http;
};

static struct worker *least_loaded(const struct acceptor *acceptor, int *ret_total)
{
    struct worker *least = acceptor->workers[0];
    int total = 0;
    for (int i = 0; i < acceptor->worker_count; i++) {
        struct worker *worker = acceptor->workers[i];
        int count = atomic_load_explicit(&worker->client_count, memory_order_relaxed);
        total += count;
        if (count < atomic_load_explicit(&least->client_count, memory_order_relaxed)) {
            least = worker;
        }
    }
    *ret_total = total;
    return least;
}

static void log_not_accepted(const struct acceptor *acceptor, const char *reason)
{
    static struct log_limit limit = {.per_second = 1};
    struct log_line line;
    if (log_begin_limited(&line, LOG_WARN, "client_refused", &limit, loop_now_us(acceptor->loop))) {
        log_str(&line, "reason", reason);
        log_end(&line);
    }
}

// --- while many knock, others wait in the kernel's backlog

#define AGAIN_US 2000

static bool is_crowded(struct acceptor *acceptor)
{
    return atomic_load(&acceptor->shared->knocking) >= acceptor->shared->config->max_handshakes;
}

static void each_door(struct acceptor *acceptor, void (*fn)(struct listener *listener))
{
    for (struct door *door = acceptor->doors; door < acceptor->doors + DOORS_MAX; door++) {
        if (door->listener && !door->is_new && !door->is_http) {
            fn(door->listener);
        }
    }
}

static void close_doors(struct acceptor *acceptor)
{
    each_door(acceptor, listener_pause);
    timer_set(acceptor->again, loop_now_us(acceptor->loop) + AGAIN_US);
}

static void open_doors(void *arg)
{
    struct acceptor *acceptor = arg;
    if (!acceptor->is_open) {
        return;
    }
    if (is_crowded(acceptor)) {
        timer_set(acceptor->again, loop_now_us(acceptor->loop) + AGAIN_US);
        return;
    }
    each_door(acceptor, listener_resume);
}

static void give_to_worker(const struct door *door, int fd)
{
    struct acceptor *acceptor = door->acceptor;
    int total;
    struct worker *worker = least_loaded(acceptor, &total);
    int most = acceptor->shared->config->max_incoming_connections;
    if (total >= most + most / 4) { // those without a place are still answered hello
        log_not_accepted(acceptor, "net.maxIncomingConnections is reached");
        close(fd);
        return;
    }
    worker_give_client(worker, fd, (int)(door - acceptor->doors));
    if (is_crowded(acceptor)) {
        close_doors(acceptor);
    }
}

static void accepted(void *arg, int fd)
{
    const struct door *door = arg;
    if (fd < 0) {
        log_not_accepted(door->acceptor, "out of file descriptors");
    } else if (door->is_http) {
        http_accept(door->acceptor->http, fd);
    } else {
        give_to_worker(door, fd);
    }
}

// --- where to listen ----------------------------------------------------------------------------

static bool plan_host(struct door_plan *plan, const char *host, uint16_t port,
                      enum config_option option, const char **ret_error)
{
    struct address addresses[ADDRESS_MAX];
    size_t count = address_resolve(host, port, addresses, ADDRESS_MAX, ret_error);
    for (size_t i = 0; i < count; i++) {
        if (plan->count == DOORS_MAX) {
            *ret_error = "more than 32 addresses";
            return false;
        }
        plan->options[plan->count] = option;
        plan->addresses[plan->count++] = addresses[i];
    }
    return count > 0;
}

static bool plan_unix_socket(struct door_plan *plan, const char *name, const char **ret_error)
{
    // A name without a slash is a file of the working directory, not a host.
    char path[CONFIG_REASON_BYTES];
    bool plain = strchr(name, '/') == NULL;
    snprintf(path, sizeof path, "%s%s", plain ? "./" : "", name);
    return plan_host(plan, path, 0, CONFIG_OPTION_unix_socket, ret_error);
}

bool acceptor_plan(const struct config *config, struct door_plan *plan, char *ret_error,
                   size_t capacity)
{
    const char *error;
    enum config_option blamed = CONFIG_OPTION_bind_ip;
    bool good = true;
    plan->count = 0;
    for (size_t i = 0; good && i < config->bind_ip.count; i++) {
        good = plan_host(plan, config->bind_ip.items[i], (uint16_t)config->port, CONFIG_OPTION_port,
                         &error);
    }
    if (good && config->unix_socket) {
        blamed = CONFIG_OPTION_unix_socket;
        good = plan_unix_socket(plan, config->unix_socket, &error);
    }
    if (good && config->http_port != 0) {
        blamed = CONFIG_OPTION_http_bind_ip;
        good = plan_host(plan, config->http_bind_ip, (uint16_t)config->http_port,
                         CONFIG_OPTION_http_port, &error);
    }
    if (!good) {
        config_blame(config, blamed, error, ret_error, capacity);
    }
    return good;
}

static void log_listening(const struct door *door, bool listens)
{
    static const char *const events[2][2] = {{"not_listening", "http_not_listening"},
                                             {"listening", "http_listening"}};
    struct address address;
    char text[160];
    listener_address(door->listener, &address);
    address_format(&address, text, sizeof text);
    struct log_line line;
    log_begin(&line, LOG_INFO, events[listens][door->is_http]);
    log_str(&line, "address", text);
    log_end(&line);
}

static bool is_same(const struct address *a, const struct address *b)
{
    return a->len == b->len && memcmp(&a->storage, &b->storage, a->len) == 0;
}

static bool is_for_http(const struct door_plan *plan, int i)
{
    return plan->options[i] == CONFIG_OPTION_http_port;
}

static bool is_door_of(const struct door *door, const struct door_plan *plan, int i)
{
    return door->listener && door->is_http == is_for_http(plan, i) &&
           is_same(&door->asked, &plan->addresses[i]);
}

static bool is_planned(const struct door *door, const struct door_plan *plan)
{
    int i = 0;
    while (i < plan->count && !is_door_of(door, plan, i)) {
        i++;
    }
    return i < plan->count;
}

static bool is_there(const struct acceptor *acceptor, const struct door_plan *plan, int i)
{
    const struct door *door = acceptor->doors;
    while (door < acceptor->doors + DOORS_MAX && !is_door_of(door, plan, i)) {
        door++;
    }
    return door < acceptor->doors + DOORS_MAX;
}

static bool build_door(struct acceptor *acceptor, const struct door_plan *plan, int i,
                       char *ret_error, size_t capacity)
{
    const struct address *address = &plan->addresses[i];
    struct door *door = acceptor->doors;
    while (door < acceptor->doors + DOORS_MAX && door->listener) {
        door++;
    }
    if (door == acceptor->doors + DOORS_MAX) {
        snprintf(ret_error, capacity, "more than %d addresses", DOORS_MAX);
        return false;
    }
    struct listener *listener =
        listener_open(acceptor->loop, address, accepted, door, ret_error, capacity);
    if (listener) {
        listener_pause(listener);
        *door = (struct door){acceptor, listener, *address, is_for_http(plan, i), .is_new = true};
    }
    return listener != NULL;
}

static void take_away(struct door *door)
{
    listener_free(door->listener);
    *door = (struct door){0};
}

// Returns which doors were closed, as bits.
static uint32_t settle(struct acceptor *acceptor, bool adopt)
{
    uint32_t closed = 0;
    for (int i = 0; i < DOORS_MAX; i++) {
        struct door *door = &acceptor->doors[i];
        if (adopt ? door->leaves : door->is_new) {
            closed |= door->is_http ? 0 : UINT32_C(1) << i;
            if (adopt) {
                log_listening(door, false);
            }
            take_away(door);
        } else if (door->is_new) {
            log_listening(door, true);
            if (acceptor->is_open || door->is_http) {
                listener_resume(door->listener);
            }
        }
        door->is_new = door->leaves = false;
    }
    return closed;
}

// Whose fault it is that nothing can be opened there.
static enum config_option blame_for(enum config_option option, int error)
{
    if (error != EADDRNOTAVAIL) {
        return option;
    }
    return option == CONFIG_OPTION_port        ? CONFIG_OPTION_bind_ip
           : option == CONFIG_OPTION_http_port ? CONFIG_OPTION_http_bind_ip
                                               : option;
}

static bool prepare(struct acceptor *acceptor, const struct door_plan *plan,
                    const struct config *config, char *ret_error, size_t capacity)
{
    char error[CONFIG_REASON_BYTES];
    for (struct door *door = acceptor->doors; door < acceptor->doors + DOORS_MAX; door++) {
        door->leaves = door->listener && !is_planned(door, plan);
    }
    for (int i = 0; i < plan->count; i++) {
        if (!is_there(acceptor, plan, i) && !build_door(acceptor, plan, i, error, sizeof error)) {
            config_blame(config, blame_for(plan->options[i], errno), error, ret_error, capacity);
            settle(acceptor, false);
            return false;
        }
    }
    return true;
}

static void stop_listening(struct acceptor *acceptor, bool near)
{
    for (struct door *door = acceptor->doors; door < acceptor->doors + DOORS_MAX; door++) {
        if (door->listener && !door->is_http && (near || !listener_is_near(door->listener))) {
            take_away(door);
        }
    }
}

// --- the thread ---------------------------------------------------------------------------------

enum acceptor_mail {
    ACCEPT_ALL,
    ACCEPT_PASSED,
    ACCEPT_NEAR,
    ACCEPT_NONE,
    ACCEPT_ELSEWHERE,
    ACCEPT_SETTLED,
    ACCEPTOR_END
};

static void pass(struct listener *listener, bool passed)
{
    listener_share(listener, passed);
    if (passed) {
        listener_pause(listener);
    } else {
        listener_resume(listener);
    }
}

static void pass_all(struct acceptor *acceptor, bool passed)
{
    acceptor->is_open = !passed;
    for (struct door *door = acceptor->doors; door < acceptor->doors + DOORS_MAX; door++) {
        if (door->listener) {
            pass(door->listener, passed);
        }
    }
}

// Somebody waits until it is done.
struct task {
    struct mail mail;
    const struct door_plan *plan; // of ACCEPT_ELSEWHERE, as are the next three
    const struct config *config;
    char *error;
    size_t capacity;
    bool adopt; // of ACCEPT_SETTLED
    bool good;
    uint32_t closed;
    atomic_bool done;
};

static void run_task(struct acceptor *acceptor, struct task *task)
{
    if (task->mail.kind == ACCEPT_ELSEWHERE) {
        task->good = prepare(acceptor, task->plan, task->config, task->error, task->capacity);
    } else {
        task->closed = settle(acceptor, task->adopt);
    }
    atomic_store(&task->done, true);
}

static void deliver(void *arg, struct mail *mail)
{
    struct acceptor *acceptor = arg;
    switch ((enum acceptor_mail)mail->kind) {
    case ACCEPT_ALL:
    case ACCEPT_PASSED:
        pass_all(acceptor, mail->kind == ACCEPT_PASSED);
        break;
    case ACCEPT_NEAR:
    case ACCEPT_NONE:
        stop_listening(acceptor, mail->kind == ACCEPT_NONE);
        break;
    case ACCEPT_ELSEWHERE:
    case ACCEPT_SETTLED:
        run_task(acceptor, (struct task *)mail);
        return;
    case ACCEPTOR_END:
        stop_listening(acceptor, true);
        loop_stop(acceptor->loop);
        break;
    }
    free(mail);
}

static void tell(struct acceptor *acceptor, enum acceptor_mail what)
{
    struct mail *mail = xcalloc(1, sizeof *mail);
    mail->kind = (int)what;
    mailbox_post(acceptor->mailbox, mail);
}

static void run_there(struct acceptor *acceptor, struct task *task, enum acceptor_mail kind)
{
    static const struct timespec pause = {.tv_nsec = 200000};
    task->mail.kind = (int)kind;
    mailbox_post(acceptor->mailbox, &task->mail);
    while (!atomic_load(&task->done)) {
        nanosleep(&pause, NULL);
    }
}

bool acceptor_listen(struct acceptor *acceptor, const struct config *config, char *ret_error,
                     size_t capacity)
{
    struct door_plan plan;
    if (!acceptor_plan(config, &plan, ret_error, capacity) ||
        !prepare(acceptor, &plan, config, ret_error, capacity)) {
        return false;
    }
    settle(acceptor, true);
    return true;
}

bool acceptor_prepare(struct acceptor *acceptor, const struct config *config,
                      const struct door_plan *plan, char *ret_error, size_t capacity)
{
    struct task task = {.plan = plan, .config = config, .error = ret_error, .capacity = capacity};
    run_there(acceptor, &task, ACCEPT_ELSEWHERE);
    return task.good;
}

uint32_t acceptor_settle(struct acceptor *acceptor, bool adopt)
{
    struct task task = {.adopt = adopt};
    run_there(acceptor, &task, ACCEPT_SETTLED);
    return task.closed;
}

struct acceptor *acceptor_new(const struct shared *shared)
{
    struct acceptor *acceptor = xcalloc(1, sizeof *acceptor);
    acceptor->shared = shared;
    acceptor->loop = loop_new();
    acceptor->mailbox = mailbox_new(acceptor->loop, deliver, acceptor);
    acceptor->again = timer_new(acceptor->loop, open_doors, acceptor);
    return acceptor;
}

static void *run(void *arg)
{
    struct acceptor *acceptor = arg;
    loop_run(acceptor->loop);
    return NULL;
}

void acceptor_start(struct acceptor *acceptor, struct worker *const *workers, int worker_count,
                    struct http *http)
{
    acceptor->http = http;
    acceptor->workers = workers;
    acceptor->worker_count = worker_count;
    int error = pthread_create(&acceptor->thread, NULL, run, acceptor);
    assert(error == 0);
    (void)error;
}

void acceptor_address(const struct acceptor *acceptor, struct address *ret_address)
{
    listener_address(acceptor->doors[0].listener, ret_address);
}

void acceptor_open(struct acceptor *acceptor)
{
    tell(acceptor, ACCEPT_ALL);
}

int acceptor_fds(const struct acceptor *acceptor, int *ret_fds, int capacity)
{
    int count = 0;
    for (int i = 0; i < DOORS_MAX && count < capacity; i++) {
        if (acceptor->doors[i].listener) {
            ret_fds[count++] = listener_fd(acceptor->doors[i].listener);
        }
    }
    return count;
}

void acceptor_pass(struct acceptor *acceptor, bool passed)
{
    tell(acceptor, passed ? ACCEPT_PASSED : ACCEPT_ALL);
}

void acceptor_accept_less(struct acceptor *acceptor, bool near_only)
{
    tell(acceptor, near_only ? ACCEPT_NEAR : ACCEPT_NONE);
}

void acceptor_stop(struct acceptor *acceptor)
{
    tell(acceptor, ACCEPTOR_END);
    pthread_join(acceptor->thread, NULL);
}

void acceptor_free(struct acceptor *acceptor)
{
    if (!acceptor) {
        return;
    }
    for (struct door *door = acceptor->doors; door < acceptor->doors + DOORS_MAX; door++) {
        listener_free(door->listener);
    }
    mailbox_free(acceptor->mailbox);
    timer_free(acceptor->again);
    loop_free(acceptor->loop);
    free(acceptor);
}
