// SPDX-License-Identifier: Apache-2.0
//
// All servers of the deployment that any snapshot has named, and the lobby: a server that is never
// there, where requests wait that no server suits now.
//
//      control:  topology -- servers_adopt --> each server_info knows its struct server
//      workers:  MAIL_TOPOLOGY -> servers_follow -> server_follow of each, whoever comes first;
//                what waits where nothing goes on any more is sent to ROUTE again
//
// A server that a snapshot no longer has is freed when every worker has seen that snapshot and
// nothing of the server is in use.

#ifndef PROXY_SERVERS_H
#define PROXY_SERVERS_H

#include <pthread.h>
#include <stdatomic.h>

#include "proxy/net/loop.h"
#include "proxy/server.h"

struct servers {
    const struct config *_Atomic config; // as in struct shared
    size_t identity_count;               // beside the URI's
    struct worker **workers;
    int worker_count;
    struct server *lobby;
    struct mail adapt;     // to the first worker: MAIL_ADAPT
    atomic_bool adapting;  // it is under way
    atomic_int open_total; // upstreams open or opening, at all servers
    atomic_int
        succession_total; // of these, besides upstream.maxTotalConnections; INT_MAX: no bound
    atomic_bool in_transactions; // some are open
    atomic_int hungry;    // a server waits for upstream.maxTotalConnections to let it open one: one
                          // more than the fewest that such a server has; 0: there is none
    pthread_mutex_t lock; // guards all that follows
    struct server *list;  // without the lobby
    struct server_bounds bounds; // of servers without a cap of their own
    int fleet_cap;               // of each one, besides; INT_MAX: none
    int succession_cap;          // likewise
    bool ending;                 // the workers take no more mail
    uint32_t last_id;
};

// The workers are borrowed, and there before any of them runs.
struct servers *servers_new(const struct config *config, struct worker **workers, int worker_count);
void servers_free(struct servers *servers);

// Gives each server of a new snapshot that nobody has seen yet its struct server: that of the same
// name, or a new one. One thread at a time: control's.
void servers_adopt(struct servers *servers, struct topology *topology);

// A worker has a new snapshot, after `former` (NULL before the first).
void servers_follow(struct servers *servers, struct worker *worker, const struct topology *former,
                    const struct topology *topology);

// The workers are to be told to end next: bounds are changed without mail from now on.
void servers_end(struct servers *servers);

// What bounds servers from now on: from any thread, after the workers were made. When these return,
// nothing opens at any server above a cap that is lower. Then some worker calls servers_adapt: the
// rest is in force, too, and who may go now goes.
//
// Another configuration; a cap that an operator has set stays unless upstream.maxConnections is
// another one now.
void servers_configure(struct servers *servers, const struct config *config);

// Whether there is an emergency: what servers may do then is less (emergency.* of the
// configuration). The workers that learn of it by MAIL_RULES adapt.
void servers_restrain(struct servers *servers, bool restrained);
void servers_adapt(struct servers *servers, struct worker *worker);

// The cap of the server of that name ("host:port"), or with NULL of all, also those to come, that
// have none of their own. 0: none may open; -1: as if never set. What is open above it is closed
// when it is idle, at a check-in at once, else by the next sweep; server_count says how many are
// open still. False: there is no such server.
bool servers_set_cap(struct servers *servers, const char *name, int cap);

// What was set for all of them.
struct server_bounds servers_bounds(struct servers *servers);

// The largest cap of a server, whatever the fleet leaves; 0: none is known yet.
int servers_largest_cap(struct servers *servers);

// What the fleet leaves to each server, whatever its cap. `cut`: what is open above that is closed
// by the next sweep, whatever it is doing.
void servers_set_fleet_cap(struct servers *servers, int cap, bool cut);

// Whether the fleet leaves anything; also without one.
bool servers_have_share(struct servers *servers);

// What there is for each server, and for all together, while one weir takes another's place;
// INT_MAX: no such bound. What is open above them is closed as above the configured ones.
void servers_set_succession_cap(struct servers *servers, int cap, int total);

// Likewise the most that each may have in flight, besides its cap; 0: no such bound.
void servers_set_limit(struct servers *servers, int limit);

// Likewise whether what begins something waits, at all of them.
void servers_pause(struct servers *servers, bool paused);
bool servers_are_paused(struct servers *servers);

// Does what time brings, at each server. Called by any worker's tick.
void servers_tick(struct servers *servers, struct worker *worker, int64_t now_us);

// How many upstreams there may be at all servers together; INT_MAX: no such bound.
int servers_total_cap(const struct servers *servers);

// A place among these: false if there is none left.
bool servers_enter(struct servers *servers) __attribute__((warn_unused_result));
void servers_leave(struct servers *servers);

// A server that has `open` upstreams waits for a place: the next that is free is for who has
// fewest.
void servers_hunger(struct servers *servers, int open);
bool servers_are_hungry(const struct servers *servers);

// Whether a server that has `open` upstreams should let one go, because another one waits for a
// place that has none, or so few that it will not have more than this one afterwards.
bool servers_want_room(const struct servers *servers, int open);

// Whether there are more upstreams than upstream.maxTotalConnections, which was lowered.
bool servers_are_too_many(const struct servers *servers);

// Somebody waits at `server` for such a place: closes an idle upstream of another server, where
// nobody waits. Without any server's lock.
void servers_make_room(struct servers *servers, struct worker *worker, struct server *server);

// A place is free: who waits for one opens, first those that have fewest. Without any server's
// lock.
void servers_feed(struct servers *servers, struct worker *worker, int64_t now_us);

// The number of the server of that name, and the name of that of a number; 0, or
// false: there is none any more.
uint32_t servers_id(struct servers *servers, const char *name);
bool servers_name(struct servers *servers, uint32_t id, char *ret_name, size_t capacity);

// Calls a function for each server, the lobby first, from any thread, without any lock.
void servers_visit(struct servers *servers, void (*visit)(struct server *server, void *arg),
                   void *arg);

// Calls a function for each server, the lobby first, with what is held there just now.
void servers_count(struct servers *servers, struct worker *worker,
                   void (*tell)(void *arg, const struct server *server,
                                const struct server_counts *counts),
                   void *arg);

#endif
