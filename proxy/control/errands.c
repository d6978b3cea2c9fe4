// SPDX-License-Identifier: Apache-2.0
#include "proxy/control/errands.h"

#include <assert.h>
#include <mongoc/mongoc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/control/direct.h"
#include "proxy/mem.h"

struct errands {
    const char *thread_name;
    int most;
    pthread_mutex_t lock; // guards the queue, and is held while somebody is told
    pthread_cond_t turned;
    struct errand *first;
    struct errand **end;
    int waiting;
    atomic_bool dismissed;
    bool started;
    pthread_t thread;
    mongoc_uri_t *coming;    // guarded, too: to be used from the next errand on; NULL: as before
    mongoc_uri_t *uri;       // the thread's own, as are the next
    mongoc_client_t *client; // NULL: none
    char server[280];        // that it is for
};

static struct errand *pop(struct errands *errands)
{
    struct errand *errand = errands->first;
    if (errand) {
        errands->first = errand->next;
        errands->waiting--;
    }
    if (!errands->first) {
        errands->end = &errands->first;
    }
    return errand;
}

static void close_client(struct errands *errands)
{
    if (errands->client) {
        mongoc_client_destroy(errands->client);
        errands->client = NULL;
    }
}

// Locked, and so again when it returns: what closing it takes is nobody's to wait for.
static void close_unused(struct errands *errands)
{
    pthread_mutex_unlock(&errands->lock);
    close_client(errands);
    pthread_mutex_lock(&errands->lock);
}

static void adopt_coming(struct errands *errands)
{
    if (errands->coming) {
        mongoc_uri_destroy(errands->uri);
        errands->uri = errands->coming;
        errands->coming = NULL;
    }
}

// NULL: it is time to end.
static struct errand *take(struct errands *errands)
{
    pthread_mutex_lock(&errands->lock);
    while (!errands->dismissed && (!errands->first || errands->coming)) {
        if (errands->client) {
            close_unused(errands);
        } else if (errands->coming) {
            adopt_coming(errands);
        } else {
            pthread_cond_wait(&errands->turned, &errands->lock);
        }
    }
    struct errand *errand = errands->dismissed ? NULL : pop(errands);
    pthread_mutex_unlock(&errands->lock);
    return errand;
}

static void tell(struct errands *errands, struct errand *errand)
{
    pthread_mutex_lock(&errands->lock);
    if (errands->dismissed) {
        free(errand);
    } else {
        errand->done(errand);
    }
    pthread_mutex_unlock(&errands->lock);
}

static void *run(void *arg)
{
    struct errands *errands = arg;
    struct errand *errand;
    while ((errand = take(errands))) {
        errand->run(errand, errands, &errands->dismissed);
        tell(errands, errand);
    }
    close_client(errands);
    return NULL;
}

struct errands *errands_new(const char *thread_name, int most)
{
    struct errands *errands = xcalloc(1, sizeof *errands);
    int error = pthread_mutex_init(&errands->lock, NULL);
    error |= pthread_cond_init(&errands->turned, NULL);
    assert(error == 0);
    (void)error;
    errands->thread_name = thread_name;
    errands->most = most;
    errands->end = &errands->first;
    return errands;
}

void errands_add(struct errands *errands, struct errand *errand)
{
    pthread_mutex_lock(&errands->lock);
    bool taken = errands->waiting < errands->most && !errands->dismissed;
    if (taken) {
        errand->next = NULL;
        *errands->end = errand;
        errands->end = &errand->next;
        errands->waiting++;
        pthread_cond_signal(&errands->turned);
    }
    pthread_mutex_unlock(&errands->lock);
    if (!taken) {
        free(errand);
    }
}

mongoc_client_t *errands_client(struct errands *errands, const char *server,
                                bson_error_t *ret_error)
{
    if (errands->client && strcmp(errands->server, server) != 0) {
        close_client(errands);
    }
    if (!errands->client) {
        errands->client = direct_open(errands->uri, server, ret_error);
        snprintf(errands->server, sizeof errands->server, "%s", server);
    }
    return errands->client;
}

static void start(struct errands *errands)
{
    int error = pthread_create(&errands->thread, NULL, run, errands);
    assert(error == 0);
    (void)error;
    pthread_setname_np(errands->thread, errands->thread_name);
    errands->started = true;
}

void errands_follow(struct errands *errands, const mongoc_uri_t *uri)
{
    pthread_mutex_lock(&errands->lock);
    mongoc_uri_destroy(errands->coming);
    errands->coming = mongoc_uri_copy(uri);
    pthread_cond_signal(&errands->turned);
    pthread_mutex_unlock(&errands->lock);
    if (!errands->started) {
        start(errands);
    }
}

void errands_dismiss(struct errands *errands)
{
    pthread_mutex_lock(&errands->lock);
    errands->dismissed = true;
    pthread_cond_signal(&errands->turned);
    pthread_mutex_unlock(&errands->lock);
}

void errands_stop(struct errands *errands)
{
    errands_dismiss(errands);
    if (errands->started) {
        pthread_join(errands->thread, NULL);
        errands->started = false;
    }
}

void errands_free(struct errands *errands)
{
    for (struct errand *errand; (errand = pop(errands));) {
        free(errand);
    }
    mongoc_uri_destroy(errands->coming);
    mongoc_uri_destroy(errands->uri);
    pthread_cond_destroy(&errands->turned);
    pthread_mutex_destroy(&errands->lock);
    free(errands);
}
