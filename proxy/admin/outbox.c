// SPDX-License-Identifier: Apache-2.0

#include "proxy/admin/outbox.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proxy/control/clock.h"
#include "proxy/log.h"
#include "proxy/mem.h"

struct outbox {
    void (*send)(void *arg, const struct outgoing *outgoing);
    void *arg;
    pthread_t thread;
    pthread_mutex_t lock; // guards the rest
    pthread_cond_t changed;
    struct outgoing queue[OUTBOX_MOST]; // a ring
    size_t first;
    size_t count;
    int64_t ending_us;
};

// False: there is no more to come.
static bool take(struct outbox *outbox, struct outgoing *ret_outgoing)
{
    pthread_mutex_lock(&outbox->lock);
    while (outbox->count == 0 && outbox->ending_us == 0) {
        pthread_cond_wait(&outbox->changed, &outbox->lock);
    }
    bool taken = outbox->count > 0;
    if (taken) {
        *ret_outgoing = outbox->queue[outbox->first];
        outbox->first = (outbox->first + 1) % OUTBOX_MOST;
        outbox->count--;
    }
    pthread_mutex_unlock(&outbox->lock);
    return taken;
}

static void *run(void *arg)
{
    struct outbox *outbox = arg;
    struct outgoing outgoing;
    while (take(outbox, &outgoing)) {
        outbox->send(outbox->arg, &outgoing);
        free(outgoing.to);
        free(outgoing.ca_file);
        free(outgoing.json);
    }
    return NULL;
}

struct outbox *outbox_new(const char *thread_name,
                          void (*send)(void *arg, const struct outgoing *outgoing), void *arg)
{
    struct outbox *outbox = xcalloc(1, sizeof *outbox);
    outbox->send = send;
    outbox->arg = arg;
    pthread_mutex_init(&outbox->lock, NULL);
    pthread_cond_init(&outbox->changed, NULL);
    int error = pthread_create(&outbox->thread, NULL, run, outbox);
    assert(error == 0);
    (void)error;
    pthread_setname_np(outbox->thread, thread_name);
    return outbox;
}

bool outbox_add(struct outbox *outbox, const char *to, const char *ca_file, const char *id,
                const char *json)
{
    pthread_mutex_lock(&outbox->lock);
    bool room = outbox->count < OUTBOX_MOST;
    if (room) {
        struct outgoing *outgoing = &outbox->queue[(outbox->first + outbox->count++) % OUTBOX_MOST];
        outgoing->to = xstrdup(to);
        outgoing->ca_file = ca_file ? xstrdup(ca_file) : NULL;
        snprintf(outgoing->id, sizeof outgoing->id, "%s", id);
        outgoing->json = xstrdup(json);
        pthread_cond_signal(&outbox->changed);
    }
    pthread_mutex_unlock(&outbox->lock);
    return room;
}

int64_t outbox_ending_us(struct outbox *outbox)
{
    pthread_mutex_lock(&outbox->lock);
    int64_t ending_us = outbox->ending_us;
    pthread_mutex_unlock(&outbox->lock);
    return ending_us;
}

void outbox_pause(struct outbox *outbox, int64_t us)
{
    int64_t until_us = now_us() + us;
    struct timespec until = {.tv_sec = until_us / 1000000, .tv_nsec = until_us % 1000000 * 1000};
    int error = 0;
    pthread_mutex_lock(&outbox->lock);
    while (outbox->ending_us == 0 && error == 0) {
        error = pthread_cond_clockwait(&outbox->changed, &outbox->lock, CLOCK_MONOTONIC, &until);
    }
    pthread_mutex_unlock(&outbox->lock);
}

void outbox_free(struct outbox *outbox)
{
    pthread_mutex_lock(&outbox->lock);
    outbox->ending_us = now_us();
    pthread_cond_signal(&outbox->changed);
    pthread_mutex_unlock(&outbox->lock);
    pthread_join(outbox->thread, NULL);
    pthread_mutex_destroy(&outbox->lock);
    pthread_cond_destroy(&outbox->changed);
    free(outbox);
}

void outbox_log(const char *event, const char *id, const char *reason)
{
    struct log_line line;
    log_begin(&line, reason ? LOG_WARN : LOG_INFO, event);
    log_str(&line, "id", id);
    log_str(&line, "reason", reason);
    log_end(&line);
}
