// SPDX-License-Identifier: Apache-2.0

#include "proxy/net/lookup.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/mem.h"

// Its two owners are who asks and the thread that looks it up.
struct lookup {
    atomic_int owners;
    atomic_bool done;
    struct lookups *lookups;
    void (*told)(void *arg);
    void *arg;
    struct address found[ADDRESS_MAX];
    size_t count;
    const char *error;
    uint16_t port;
    char host[];
};

void lookup_leave(struct lookup *lookup)
{
    if (lookup && atomic_fetch_sub(&lookup->owners, 1) == 1) {
        free(lookup);
    }
}

static void tell(struct lookup *lookup)
{
    atomic_store(&lookup->done, true);
    if (lookup->told) {
        lookup->told(lookup->arg);
    }
}

static void resolve(struct lookup *lookup)
{
    lookup->count =
        address_resolve(lookup->host, lookup->port, lookup->found, ADDRESS_MAX, &lookup->error);
}

static void *look_up(void *arg)
{
    struct lookup *lookup = arg;
    resolve(lookup);
    atomic_fetch_sub(&lookup->lookups->under_way, 1);
    tell(lookup);
    lookup_leave(lookup);
    return NULL;
}

static bool start_thread(struct lookup *lookup)
{
    struct lookups *lookups = lookup->lookups;
    pthread_t thread;
    bool few = atomic_fetch_add(&lookups->under_way, 1) < lookups->most;
    if (few && pthread_create(&thread, NULL, look_up, lookup) == 0) {
        pthread_detach(thread);
        return true;
    }
    atomic_fetch_sub(&lookups->under_way, 1);
    lookup->error = few ? "the system has no thread to look its name up" : "name lookups hang";
    return false;
}

static struct lookup *lookup_new(struct lookups *lookups, const char *host, uint16_t port,
                                 void (*told)(void *arg), void *arg)
{
    size_t host_bytes = strlen(host) + 1;
    struct lookup *lookup = xcalloc(1, sizeof *lookup + host_bytes);
    memcpy(lookup->host, host, host_bytes);
    lookup->port = port;
    lookup->lookups = lookups;
    lookup->told = told;
    lookup->arg = arg;
    atomic_init(&lookup->owners, 1);
    return lookup;
}

struct lookup *lookup_start(struct lookups *lookups, const char *host, uint16_t port,
                            void (*told)(void *arg), void *arg)
{
    struct lookup *lookup = lookup_new(lookups, host, port, told, arg);
    if (!address_is_name(host)) {
        resolve(lookup);
        tell(lookup);
        return lookup;
    }
    atomic_store(&lookup->owners, 2);
    if (!start_thread(lookup)) {
        atomic_store(&lookup->owners, 1);
        tell(lookup);
    }
    return lookup;
}

bool lookup_is_done(const struct lookup *lookup)
{
    return atomic_load(&lookup->done);
}

size_t lookup_found(const struct lookup *lookup, struct address ret_addresses[ADDRESS_MAX],
                    const char **ret_error)
{
    memcpy(ret_addresses, lookup->found, lookup->count * sizeof lookup->found[0]);
    *ret_error = lookup->error;
    return lookup->count;
}
