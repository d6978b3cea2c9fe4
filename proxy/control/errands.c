// SPDX-License-Identifier: Apache-2.0
#include "proxy/control/errands.h"

#include <assert.h>
#include <mongoc/mongoc.h>
#include <pthread.h>
#include <stdlib.h>

#include "proxy/control/discovery.h"
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
    mongoc_client_pool_t *pool; // to be used; guarded, too, as is the next
    mongoc_client_pool_t *used; // by the thread; NULL: none
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

static bool is_to_move(const struct errands *errands)
{
    return errands->used != errands->pool;
}

// NULL: it is time to end, or to move.
static struct errand *take(struct errands *errands)
{
    pthread_mutex_lock(&errands->lock);
    while (!errands->dismissed && !errands->first && !is_to_move(errands)) {
        pthread_cond_wait(&errands->turned, &errands->lock);
    }
    struct errand *errand = errands->dismissed || is_to_move(errands) ? NULL : pop(errands);
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

static mongoc_client_pool_t *use(struct errands *errands, bool uses)
{
    pthread_mutex_lock(&errands->lock);
    errands->used = uses ? errands->pool : NULL;
    pthread_mutex_unlock(&errands->lock);
    return errands->used;
}

static void *run(void *arg)
{
    struct errands *errands = arg;
    while (!errands->dismissed) {
        struct errand *errand;
        mongoc_client_pool_t *pool = use(errands, true);
        mongoc_client_t *client = mongoc_client_pool_pop(pool);
        while ((errand = take(errands))) {
            errand->run(errand, client, &errands->dismissed);
            tell(errands, errand);
        }
        mongoc_client_pool_push(pool, client);
        use(errands, false);
    }
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

void errands_start(struct errands *errands, struct discovery *discovery)
{
    errands->pool = discovery_pool(discovery);
    int error = pthread_create(&errands->thread, NULL, run, errands);
    assert(error == 0);
    (void)error;
    pthread_setname_np(errands->thread, errands->thread_name);
    errands->started = true;
}

void errands_move(struct errands *errands, struct discovery *discovery)
{
    pthread_mutex_lock(&errands->lock);
    errands->pool = discovery_pool(discovery);
    pthread_cond_signal(&errands->turned);
    pthread_mutex_unlock(&errands->lock);
}

bool errands_use(struct errands *errands, struct discovery *discovery)
{
    pthread_mutex_lock(&errands->lock);
    bool use_it = errands->used == discovery_pool(discovery);
    pthread_mutex_unlock(&errands->lock);
    return use_it;
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
    pthread_cond_destroy(&errands->turned);
    pthread_mutex_destroy(&errands->lock);
    free(errands);
}
