// SPDX-License-Identifier: Apache-2.0

#include "proxy/cull.h"

#include <inttypes.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "policy/defect.h"
#include "proxy/client.h"
#include "proxy/log.h"
#include "proxy/mem.h"
#include "proxy/request.h"
#include "proxy/runaway.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"
#include "wire/shape.h"

#define PATIENCE_S 1

struct cull {
    struct cull_wish wish;
    pthread_mutex_t lock; // guards the rest
    pthread_cond_t all_done;
    int pending; // workers that have not done it
    bool is_let_go;
    struct cull_counts counts;
    void (*done)(void *arg, const struct cull_counts *counts); // NULL: somebody waits
    void *arg;
};

struct cull_mail {
    struct mail mail;
    struct cull *cull;
};

static void cull_free(struct cull *cull)
{
    pthread_cond_destroy(&cull->all_done);
    pthread_mutex_destroy(&cull->lock);
    free(cull);
}

static struct cull *cull_new(const struct cull_wish *wish, int count)
{
    struct cull *cull = xcalloc(1, sizeof *cull);
    cull->wish = *wish;
    cull->pending = count;
    pthread_mutex_init(&cull->lock, NULL);
    pthread_cond_init(&cull->all_done, NULL);
    return cull;
}

static void post(struct cull *cull, struct worker *const *workers, int count)
{
    for (int i = 0; i < count; i++) {
        struct cull_mail *mail = xcalloc(1, sizeof *mail);
        mail->cull = cull;
        worker_post(workers[i], &mail->mail, MAIL_CULL);
    }
}

struct cull *cull_begin(struct worker *const *workers, int count, const struct cull_wish *wish)
{
    struct cull *cull = cull_new(wish, count);
    post(cull, workers, count);
    return cull;
}

void cull_ask(struct worker *const *workers, int count, const struct cull_wish *wish,
              void (*done)(void *arg, const struct cull_counts *counts), void *arg)
{
    struct cull *cull = cull_new(wish, count);
    cull->is_let_go = true;
    cull->done = done;
    cull->arg = arg;
    post(cull, workers, count);
}

bool cull_end(struct cull *cull, struct cull_counts *ret_counts)
{
    struct timespec until;
    int error = 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += PATIENCE_S;
    pthread_mutex_lock(&cull->lock);
    while (cull->pending > 0 && error == 0) {
        error = pthread_cond_clockwait(&cull->all_done, &cull->lock, CLOCK_MONOTONIC, &until);
    }
    bool done = cull->pending == 0;
    *ret_counts = cull->counts;
    cull->is_let_go = true;
    pthread_mutex_unlock(&cull->lock);
    if (done) {
        cull_free(cull);
    }
    return done;
}

// --- on a worker --------------------------------------------------------------------------------

static bool waits(const struct request *request)
{
    return request->step == STEP_ADMIT || request->step == STEP_CHECKOUT;
}

static bool is_at_server(const struct request *request)
{
    return request->step == STEP_SEND || request->step == STEP_RECEIVE;
}

static bool is_meant(const struct cull_wish *wish, const struct request *request, int64_t now_us)
{
    if (request->client_id == 0 || !(waits(request) || is_at_server(request))) {
        return false;
    }
    if (wish->request != 0) {
        bool is_theirs = request->user && request->user->id == wish->user_id;
        bool is_it = request->number == wish->request ||
                     (DEFECT(CULL_NEIGHBOUR) && request->number > wish->request);
        return is_it && (wish->user_id == 0 || is_theirs);
    }
    bool long_enough = is_at_server(request) && now_us - request->sent_us >= wish->over_us;
    return (wish->over_us == 0 || long_enough) &&
           (!wish->has_shape || wish->shape == shape_id(&request->msg, &request->command));
}

// What is meant by nothing but its age is ended only if it may be by its kind.
static bool is_spared(const struct cull_wish *wish, const struct request *request)
{
    bool named = wish->request != 0 || wish->client != 0 || wish->has_shape;
    return request->reply_bytes > 0 || (!named && !runaway_may_be(request));
}

static void end_request(const struct cull_wish *wish, struct request *request,
                        struct cull_counts *counts, int64_t now_us)
{
    const char *why = wish->user_id != 0 ? "its user" : "an operator";
    if (is_spared(wish, request)) {
        counts->spared++;
    } else if (waits(request)) {
        counts->refused++;
        request->kill_why = why;
        request_run(request);
    } else {
        counts->ended++;
        request->kill_why = why;
        runaway_check(request, now_us);
    }
}

static void end_client(const struct cull_wish *wish, struct client *client,
                       struct cull_counts *counts, int64_t now_us)
{
    struct request *request = client->request;
    if (request && is_at_server(request)) {
        end_request(wish, request, counts, now_us);
    }
    counts->closed++;
    client_close(client, CLOSE_KILLED);
}

static void go_over(struct worker *worker, const struct cull_wish *wish, struct cull_counts *counts)
{
    int64_t now_us = loop_now_us(worker->loop);
    struct client *next;
    for (struct client *client = worker->clients; client; client = next) {
        next = client->next;
        if (wish->client != 0 && client->id == wish->client) {
            end_client(wish, client, counts, now_us);
        } else if (wish->client == 0 && client->request &&
                   is_meant(wish, client->request, now_us)) {
            end_request(wish, client->request, counts, now_us);
        }
    }
    // What goes on although its client has gone.
    for (struct upstream *upstream = worker->upstreams; upstream; upstream = upstream->next) {
        struct request *request = upstream->request;
        if (wish->client == 0 && request && !request->client && is_meant(wish, request, now_us)) {
            end_request(wish, request, counts, now_us);
        }
    }
}

static void add(struct cull_counts *sum, const struct cull_counts *counts)
{
    sum->ended += counts->ended;
    sum->refused += counts->refused;
    sum->closed += counts->closed;
    sum->spared += counts->spared;
}

void cull_take(struct worker *worker, struct mail *mail)
{
    struct cull_mail *cull_mail =
        (struct cull_mail *)((char *)mail - offsetof(struct cull_mail, mail));
    struct cull *cull = cull_mail->cull;
    struct cull_counts counts = {0};
    free(cull_mail);
    go_over(worker, &cull->wish, &counts);
    pthread_mutex_lock(&cull->lock);
    add(&cull->counts, &counts);
    cull->pending--;
    bool is_last = cull->pending == 0 && cull->is_let_go;
    pthread_cond_signal(&cull->all_done);
    pthread_mutex_unlock(&cull->lock);
    if (is_last) {
        if (cull->done) {
            cull->done(cull->arg, &cull->counts);
        }
        cull_free(cull);
    }
}

// --- the log ------------------------------------------------------------------------------------

void cull_log(const struct cull_wish *wish, const struct cull_counts *counts, const char *by,
              const char *why)
{
    struct log_line line;
    char shape[17];
    log_begin(&line, LOG_WARN, "kill_ordered");
    log_str(&line, "by", by);
    log_str(&line, "why", why);
    if (wish->request != 0 || wish->client != 0) {
        log_int(&line, wish->request != 0 ? "request" : "client",
                (int64_t)(wish->request | wish->client));
    }
    if (wish->has_shape) {
        snprintf(shape, sizeof shape, "%016" PRIx64, wish->shape);
        log_str(&line, "shape_id", shape);
    }
    if (wish->over_us > 0) {
        log_int(&line, "over_us", wish->over_us);
    }
    log_int(&line, "ended", counts->ended);
    log_int(&line, "refused", counts->refused);
    log_int(&line, "closed", counts->closed);
    log_int(&line, "spared", counts->spared);
    log_end(&line);
}
