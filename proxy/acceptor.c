// SPDX-License-Identifier: Apache-2.0

#include "proxy/acceptor.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proxy/log.h"
#include "proxy/mem.h"
#include "proxy/net/listener.h"
#include "proxy/worker.h"

#define LISTENERS_MAX 32

struct acceptor {
    const struct shared *shared;
    struct worker *const *workers;
    int worker_count;
    pthread_t thread;
    struct loop *loop;
    struct mailbox *mailbox;
    struct timer *door;
    struct mail less; // of acceptor_accept_less
    struct mail end;
    struct listener *listeners[LISTENERS_MAX];
    int listener_count;
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

// --- the door: while many knock, others wait in the kernel's backlog

#define DOOR_US 2000 // how soon it is looked at again

static bool is_crowded(struct acceptor *acceptor)
{
    return atomic_load(&acceptor->shared->knocking) >= acceptor->shared->config->max_handshakes;
}

static void close_door(struct acceptor *acceptor)
{
    for (int i = 0; i < acceptor->listener_count; i++) {
        listener_pause(acceptor->listeners[i]);
    }
    timer_set(acceptor->door, loop_now_us(acceptor->loop) + DOOR_US);
}

static void open_door(void *arg)
{
    struct acceptor *acceptor = arg;
    if (is_crowded(acceptor)) {
        timer_set(acceptor->door, loop_now_us(acceptor->loop) + DOOR_US);
        return;
    }
    for (int i = 0; i < acceptor->listener_count; i++) {
        listener_resume(acceptor->listeners[i]);
    }
}

static void accepted(void *arg, int fd)
{
    struct acceptor *acceptor = arg;
    if (fd < 0) {
        log_not_accepted(acceptor, "out of file descriptors");
        return;
    }
    int total;
    struct worker *worker = least_loaded(acceptor, &total);
    int most = acceptor->shared->config->max_incoming_connections;
    if (total >= most + most / 4) { // those without a place are still answered hello
        log_not_accepted(acceptor, "net.maxIncomingConnections is reached");
        close(fd);
        return;
    }
    worker_give_client(worker, fd);
    if (is_crowded(acceptor)) {
        close_door(acceptor);
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

static bool listen_on(struct acceptor *acceptor, const struct address *address,
                      enum config_option option, char *ret_error, size_t capacity)
{
    char error[CONFIG_REASON_BYTES];
    struct listener *listener =
        acceptor->listener_count < LISTENERS_MAX
            ? listener_open(acceptor->loop, address, accepted, acceptor, error, sizeof error)
            : NULL;
    if (!listener) {
        if (acceptor->listener_count == LISTENERS_MAX) {
            snprintf(error, sizeof error, "more than %d addresses", LISTENERS_MAX);
        }
        config_blame(acceptor->shared->config, option, error, ret_error, capacity);
        return false;
    }
    acceptor->listeners[acceptor->listener_count++] = listener;
    log_listening(listener);
    return true;
}

static bool listen_on_host(struct acceptor *acceptor, const char *host, uint16_t port,
                           enum config_option option, char *ret_error, size_t capacity)
{
    struct address addresses[ADDRESS_MAX];
    const char *error;
    size_t count = address_resolve(host, port, addresses, ADDRESS_MAX, &error);
    if (count == 0) {
        config_blame(acceptor->shared->config, option, error, ret_error, capacity);
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (!listen_on(acceptor, &addresses[i], option, ret_error, capacity)) {
            return false;
        }
    }
    return true;
}

bool acceptor_listen(struct acceptor *acceptor, char *ret_error, size_t capacity)
{
    const struct config *config = acceptor->shared->config;
    for (size_t i = 0; i < config->bind_ip.count; i++) {
        if (!listen_on_host(acceptor, config->bind_ip.items[i], (uint16_t)config->port,
                            CONFIG_OPTION_port, ret_error, capacity)) {
            return false;
        }
    }
    if (!config->unix_socket) {
        return true;
    }
    // A name without a slash is a file of the working directory, not a host.
    char path[CONFIG_REASON_BYTES];
    bool plain = strchr(config->unix_socket, '/') == NULL;
    snprintf(path, sizeof path, "%s%s", plain ? "./" : "", config->unix_socket);
    return listen_on_host(acceptor, path, 0, CONFIG_OPTION_unix_socket, ret_error, capacity);
}

static void stop_listening(struct acceptor *acceptor, bool near)
{
    int kept = 0;
    for (int i = 0; i < acceptor->listener_count; i++) {
        if (!near && listener_is_near(acceptor->listeners[i])) {
            acceptor->listeners[kept++] = acceptor->listeners[i];
        } else {
            listener_free(acceptor->listeners[i]);
        }
    }
    acceptor->listener_count = kept;
}

enum acceptor_mail { ACCEPT_NEAR, ACCEPT_NONE, ACCEPTOR_END };

static void deliver(void *arg, struct mail *mail)
{
    struct acceptor *acceptor = arg;
    stop_listening(acceptor, mail->kind != ACCEPT_NEAR);
    if (mail->kind == ACCEPTOR_END) {
        loop_stop(acceptor->loop);
    }
}

struct acceptor *acceptor_new(const struct shared *shared)
{
    struct acceptor *acceptor = xcalloc(1, sizeof *acceptor);
    acceptor->shared = shared;
    acceptor->loop = loop_new();
    acceptor->mailbox = mailbox_new(acceptor->loop, deliver, acceptor);
    acceptor->door = timer_new(acceptor->loop, open_door, acceptor);
    return acceptor;
}

static void *run(void *arg)
{
    struct acceptor *acceptor = arg;
    loop_run(acceptor->loop);
    return NULL;
}

void acceptor_start(struct acceptor *acceptor, struct worker *const *workers, int worker_count)
{
    acceptor->workers = workers;
    acceptor->worker_count = worker_count;
    int error = pthread_create(&acceptor->thread, NULL, run, acceptor);
    assert(error == 0);
    (void)error;
}

void acceptor_address(const struct acceptor *acceptor, struct address *ret_address)
{
    listener_address(acceptor->listeners[0], ret_address);
}

void acceptor_accept_less(struct acceptor *acceptor, bool near_only)
{
    acceptor->less.kind = near_only ? ACCEPT_NEAR : ACCEPT_NONE;
    mailbox_post(acceptor->mailbox, &acceptor->less);
}

void acceptor_stop(struct acceptor *acceptor)
{
    acceptor->end.kind = ACCEPTOR_END;
    mailbox_post(acceptor->mailbox, &acceptor->end);
    pthread_join(acceptor->thread, NULL);
}

void acceptor_free(struct acceptor *acceptor)
{
    if (!acceptor) {
        return;
    }
    stop_listening(acceptor, true);
    mailbox_free(acceptor->mailbox);
    timer_free(acceptor->door);
    loop_free(acceptor->loop);
    free(acceptor);
}
