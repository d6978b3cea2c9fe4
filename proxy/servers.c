// SPDX-License-Identifier: Apache-2.0

#include "proxy/servers.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/config.h"
#include "proxy/mem.h"
#include "proxy/worker.h"

struct servers *servers_new(const struct config *config, struct worker **workers, int worker_count)
{
    struct servers *servers = xcalloc(1, sizeof *servers);
    servers->config = config;
    servers->identity_count = config->identities.count;
    servers->workers = workers;
    servers->worker_count = worker_count;
    servers->lobby = server_new(servers, 0);
    servers->bounds = (struct server_bounds){.cap = config->max_connections, .cut_above = INT_MAX};
    servers->fleet_cap = INT_MAX;
    servers->succession_cap = INT_MAX;
    atomic_init(&servers->succession_total, INT_MAX);
    pthread_mutex_init(&servers->lock, NULL);
    return servers;
}

void servers_free(struct servers *servers)
{
    while (servers->list) {
        struct server *server = servers->list;
        servers->list = server->next;
        server_free(server);
    }
    server_free(servers->lobby);
    pthread_mutex_destroy(&servers->lock);
    free(servers);
}

// --- snapshots ----------------------------------------------------------------------------------

// Also one that is gone, so that its cap holds when it comes back while there are connections yet.
static struct server *find(const struct servers *servers, const char *name)
{
    struct server *server = servers->list;
    while (server && strcmp(server->name, name) != 0) {
        server = server->next;
    }
    return server;
}

static bool all_have_seen(const struct servers *servers, uint64_t generation)
{
    for (int i = 0; i < servers->worker_count; i++) {
        if (atomic_load(&servers->workers[i]->seen_generation) < generation) {
            return false;
        }
    }
    return true;
}

// Those that the snapshot does not have are gone with it; those that nobody can reach any more die.
static void part_with_gone(struct servers *servers, const struct topology *topology)
{
    struct server **at = &servers->list;
    struct server *server;
    while ((server = *at)) {
        if (!server->gone_generation && !topology_find(topology, server->id)) {
            server->gone_generation = topology->generation;
        }
        if (server->gone_generation && all_have_seen(servers, server->gone_generation) &&
            server_is_unused(server)) {
            *at = server->next;
            server_free(server);
        } else {
            at = &server->next;
        }
    }
}

// Whatever is left to it by others than the operator.
static int cap_of(const struct server *server)
{
    return server->own_cap >= 0 ? server->own_cap : server->servers->bounds.cap;
}

static void bound(struct server *server)
{
    const struct servers *servers = server->servers;
    struct server_bounds bounds = servers->bounds;
    int cap = cap_of(server);
    int left =
        servers->fleet_cap < servers->succession_cap ? servers->fleet_cap : servers->succession_cap;
    bounds.cap = cap < left ? cap : left;
    bounds.is_shared = servers->succession_cap != INT_MAX;
    server_bound(server, bounds);
}

static struct server *add(struct servers *servers, const char *name)
{
    struct server *server = server_new(servers, ++servers->last_id);
    snprintf(server->name, sizeof server->name, "%s", name);
    bound(server);
    server->next = servers->list;
    servers->list = server;
    return server;
}

void servers_adopt(struct servers *servers, struct topology *topology)
{
    pthread_mutex_lock(&servers->lock);
    for (size_t i = 0; i < topology->server_count; i++) {
        struct server_info *info = &topology->servers[i];
        struct server *server = find(servers, info->name);
        info->server = server ? server : add(servers, info->name);
        info->server->gone_generation = 0;
        info->id = info->server->id;
        info->pulse = &info->server->pulse;
    }
    part_with_gone(servers, topology);
    pthread_mutex_unlock(&servers->lock);
}

// The first server from here on that the worker can reach: one that is gone with a snapshot that it
// has seen may die at any time.
static struct server *reachable(struct server *server, const struct worker *worker)
{
    uint64_t seen = atomic_load(&worker->seen_generation);
    while (server && server->gone_generation && server->gone_generation <= seen) {
        server = server->next;
    }
    return server;
}

// Calls a function for each server that the worker can reach, without the lock.
static void each(struct servers *servers, struct worker *worker,
                 void (*visit)(struct server *server, struct worker *worker, void *arg), void *arg)
{
    pthread_mutex_lock(&servers->lock);
    struct server *server = reachable(servers->list, worker);
    pthread_mutex_unlock(&servers->lock);
    while (server) {
        visit(server, worker, arg);
        pthread_mutex_lock(&servers->lock);
        server = reachable(server->next, worker);
        pthread_mutex_unlock(&servers->lock);
    }
}

struct snapshots {
    const struct topology *former;
    const struct topology *newest;
};

static void adapt(struct server *server, struct worker *worker, void *arg)
{
    (void)arg;
    server_adapt(server, worker);
}

static void follow(struct server *server, struct worker *worker, void *arg)
{
    const struct snapshots *snapshots = arg;
    adapt(server, worker, NULL); // it may be new, or have been away when its bounds changed
    server_follow(server, worker, snapshots->former, snapshots->newest);
}

void servers_follow(struct servers *servers, struct worker *worker, const struct topology *former,
                    const struct topology *topology)
{
    struct snapshots snapshots = {former, topology};
    each(servers, worker, follow, &snapshots);
    server_evict(servers->lobby, worker);
    atomic_store(&worker->seen_generation, topology->generation);
}

// --- bounds -------------------------------------------------------------------------------------

// With the lock held, so that of two changes at one time no server keeps the former.
static void bound_all(struct servers *servers)
{
    for (struct server *server = servers->list; server; server = server->next) {
        bound(server);
    }
}

// Likewise; somebody is to let go who may go now.
static void change_all(struct servers *servers)
{
    bound_all(servers);
    if (!servers->ending && !atomic_exchange(&servers->adapting, true)) {
        worker_post(servers->workers[0], &servers->adapt, MAIL_ADAPT);
    }
}

void servers_configure(struct servers *servers, const struct config *config)
{
    pthread_mutex_lock(&servers->lock);
    const struct config *former = servers->config;
    if (former->max_connections != config->max_connections) {
        servers->bounds.cap = config->max_connections;
    }
    servers->config = config;
    change_all(servers);
    pthread_mutex_unlock(&servers->lock);
}

void servers_end(struct servers *servers)
{
    pthread_mutex_lock(&servers->lock);
    servers->ending = true;
    pthread_mutex_unlock(&servers->lock);
}

void servers_restrain(struct servers *servers, bool restrained)
{
    pthread_mutex_lock(&servers->lock);
    servers->bounds.restrained = restrained;
    bound_all(servers);
    pthread_mutex_unlock(&servers->lock);
}

void servers_adapt(struct servers *servers, struct worker *worker)
{
    adapt(servers->lobby, worker, NULL);
    each(servers, worker, adapt, NULL);
}

void servers_set_limit(struct servers *servers, int limit)
{
    pthread_mutex_lock(&servers->lock);
    servers->bounds.limit = limit;
    change_all(servers);
    pthread_mutex_unlock(&servers->lock);
}

void servers_pause(struct servers *servers, bool paused)
{
    pthread_mutex_lock(&servers->lock);
    servers->bounds.paused = paused;
    change_all(servers);
    pthread_mutex_unlock(&servers->lock);
}

bool servers_are_paused(struct servers *servers)
{
    pthread_mutex_lock(&servers->lock);
    bool paused = servers->bounds.paused;
    pthread_mutex_unlock(&servers->lock);
    return paused;
}

bool servers_set_cap(struct servers *servers, const char *name, int cap)
{
    pthread_mutex_lock(&servers->lock);
    struct server *server = name ? find(servers, name) : NULL;
    if (server) {
        server->own_cap = cap;
    } else if (!name) {
        servers->bounds.cap = cap >= 0 ? cap : servers->config->max_connections;
    }
    change_all(servers);
    pthread_mutex_unlock(&servers->lock);
    return server || !name;
}

struct server_bounds servers_bounds(struct servers *servers)
{
    pthread_mutex_lock(&servers->lock);
    struct server_bounds bounds = servers->bounds;
    pthread_mutex_unlock(&servers->lock);
    return bounds;
}

int servers_largest_cap(struct servers *servers)
{
    int largest = 0;
    pthread_mutex_lock(&servers->lock);
    for (const struct server *server = servers->list; server; server = server->next) {
        int cap = server->id != 0 ? cap_of(server) : 0;
        largest = cap > largest ? cap : largest;
    }
    pthread_mutex_unlock(&servers->lock);
    return largest;
}

void servers_set_fleet_cap(struct servers *servers, int cap, bool cut)
{
    pthread_mutex_lock(&servers->lock);
    servers->fleet_cap = cap;
    servers->bounds.cut_above = cut ? cap : INT_MAX;
    change_all(servers);
    pthread_mutex_unlock(&servers->lock);
}

bool servers_have_share(struct servers *servers)
{
    pthread_mutex_lock(&servers->lock);
    bool have = servers->fleet_cap > 0;
    pthread_mutex_unlock(&servers->lock);
    return have;
}

void servers_set_succession_cap(struct servers *servers, int cap, int total)
{
    pthread_mutex_lock(&servers->lock);
    bool changed = servers->succession_cap != cap;
    servers->succession_cap = cap;
    atomic_store(&servers->succession_total, total);
    if (changed) {
        change_all(servers);
    }
    pthread_mutex_unlock(&servers->lock);
}

// --- time ---------------------------------------------------------------------------------------

static void tick(struct server *server, struct worker *worker, void *arg)
{
    server_tick(server, worker, *(int64_t *)arg);
}

void servers_tick(struct servers *servers, struct worker *worker, int64_t now_us)
{
    tick(servers->lobby, worker, &now_us);
    each(servers, worker, tick, &now_us);
}

// --- all upstreams together ---------------------------------------------------------------------

int servers_total_cap(const struct servers *servers)
{
    int most = servers->config->max_total_connections;
    int left = atomic_load(&servers->succession_total);
    return most > 0 && most < left ? most : left;
}

// The cap is read last: whoever has lowered it and then counts, counts this one.
bool servers_enter(struct servers *servers)
{
    int total = atomic_fetch_add(&servers->open_total, 1);
    if (total < servers_total_cap(servers)) {
        return true;
    }
    atomic_fetch_sub(&servers->open_total, 1);
    return false;
}

bool servers_are_too_many(const struct servers *servers)
{
    return atomic_load(&servers->open_total) > servers_total_cap(servers);
}

void servers_leave(struct servers *servers)
{
    atomic_fetch_sub(&servers->open_total, 1);
}

// Of two that do so at once the hungrier may be overlooked: then it says so again with its next
// tick.
void servers_hunger(struct servers *servers, int open)
{
    int hungry = atomic_load(&servers->hungry);
    if (hungry == 0 || open + 1 < hungry) {
        atomic_store(&servers->hungry, open + 1);
    }
}

bool servers_are_hungry(const struct servers *servers)
{
    return atomic_load(&servers->hungry) > 0;
}

// Two servers that are one apart would else take the same place from each other for ever.
bool servers_want_room(const struct servers *servers, int open)
{
    int hungry = atomic_load(&servers->hungry);
    return hungry == 1 || (hungry > 0 && hungry < open);
}

struct feeding {
    int64_t now_us;
    int fewer_than; // only who has so few
};

static void feed(struct server *server, struct worker *worker, void *arg)
{
    const struct feeding *feeding = arg;
    server_feed(server, worker, feeding->fewer_than, feeding->now_us);
}

void servers_feed(struct servers *servers, struct worker *worker, int64_t now_us)
{
    int hungry = atomic_exchange(&servers->hungry, 0);
    if (hungry == 0) {
        return;
    }
    struct feeding feeding = {now_us, hungry};
    each(servers, worker, feed, &feeding);
    feeding.fewer_than = INT_MAX;
    each(servers, worker, feed, &feeding);
}

struct room {
    const struct server *wanted_by;
    int open; // that this one has
    bool made;
};

static void make_room(struct server *server, struct worker *worker, void *arg)
{
    struct room *room = arg;
    if (!room->made && server != room->wanted_by) {
        room->made = server_give_up_idle(server, room->open, loop_now_us(worker->loop));
    }
}

void servers_make_room(struct servers *servers, struct worker *worker, struct server *server)
{
    struct room room = {.wanted_by = server, .open = server_count_entered(server)};
    each(servers, worker, make_room, &room);
}

struct telling {
    void (*tell)(void *arg, const struct server *server, const struct server_counts *counts);
    void *arg;
};

static void count(struct server *server, struct worker *worker, void *arg)
{
    const struct telling *telling = arg;
    struct server_counts counts;
    server_count(server, loop_now_us(worker->loop), &counts);
    telling->tell(telling->arg, server, &counts);
}

void servers_count(struct servers *servers, struct worker *worker,
                   void (*tell)(void *arg, const struct server *server,
                                const struct server_counts *counts),
                   void *arg)
{
    struct telling telling = {tell, arg};
    count(servers->lobby, worker, &telling);
    each(servers, worker, count, &telling);
}

// As if a request had been routed to it: so it does not die. The former one is let go.
static struct server *hold(struct servers *servers, struct server *former)
{
    pthread_mutex_lock(&servers->lock);
    struct server *server = former ? former->next : servers->list;
    if (server) {
        atomic_fetch_add(&server->routed, 1);
    }
    if (former) {
        atomic_fetch_sub(&former->routed, 1);
    }
    pthread_mutex_unlock(&servers->lock);
    return server;
}

uint32_t servers_id(struct servers *servers, const char *name)
{
    pthread_mutex_lock(&servers->lock);
    const struct server *server = find(servers, name);
    uint32_t id = server ? server->id : 0;
    pthread_mutex_unlock(&servers->lock);
    return id;
}

bool servers_name(struct servers *servers, uint32_t id, char *ret_name, size_t capacity)
{
    pthread_mutex_lock(&servers->lock);
    const struct server *server = servers->list;
    while (server && server->id != id) {
        server = server->next;
    }
    if (server) {
        snprintf(ret_name, capacity, "%s", server->name);
    }
    pthread_mutex_unlock(&servers->lock);
    return server != NULL;
}

void servers_visit(struct servers *servers, void (*visit)(struct server *server, void *arg),
                   void *arg)
{
    visit(servers->lobby, arg);
    struct server *server = NULL;
    while ((server = hold(servers, server))) {
        visit(server, arg);
    }
}
