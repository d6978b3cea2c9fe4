// SPDX-License-Identifier: Apache-2.0
//
// A server: its gate, its ledger, its idle upstreams, its pins. Shared by all workers under one
// lock with short sections: lock, pure policy, unlock, then mail.
//
// A request goes through here three times:
//
//      admit     ask the gate for a permit: now, later (mail), or refused
//      checkout  with the permit, an upstream: own idle one, another worker's (mail), or one that
//      is
//                checked in or opened meanwhile (mail)
//      checkin   give both back; they go to whoever is next, on whichever worker
//
// Invariants: who has an upstream has a permit; who has a permit and no upstream is in `waiters`,
// or mail is under way to it.

#ifndef PROXY_SERVER_H
#define PROXY_SERVER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "policy/exhaustion.h"
#include "policy/gate.h"
#include "policy/ledger.h"
#include "policy/pins.h"
#include "policy/shapes.h"
#include "proxy/topology.h"
#include "wire/reply.h"

struct config;
struct request;
struct upstream;
struct worker;

struct server {
    const struct config *config;
    struct worker **workers;
    int worker_count;
    pthread_mutex_t lock; // guards all that follows
    struct gate *gate;
    struct shapes *shapes;
    struct pins *pins;
    struct ledger ledger;
    struct exhaustion exhaustion;
    struct request *waiters; // have a permit, need an upstream; oldest first
    struct request **waiters_end;
    int waiter_count;
    struct upstream **idle; // by worker: the one used last first
    bool known;             // the deployment has a server for us
    bool failing;           // the last attempt to connect failed, and nothing is open
    uint64_t seen;          // generation of the newest snapshot
    uint64_t generation;    // counts the targets
    struct server_info target;
};

// The limits come from the configuration; the workers are borrowed, and there before any of them
// runs.
struct server *server_new(const struct config *config, struct worker **workers, int worker_count);
void server_free(struct server *server);

// A new snapshot of the deployment: connect there from now on.
void server_retarget(struct server *server, struct worker *worker, const struct topology *topology);

// Asks for the request's permit. GATE_QUEUED: MAIL_GRANTED or MAIL_REFUSED will come.
enum gate_answer server_admit(struct server *server, struct request *request, uint64_t shape_id,
                              struct gate_ask ask, int64_t now_us)
    __attribute__((warn_unused_result));

// An upstream for a request that has a permit: one of its worker's own, or NULL: MAIL_GRANTED will
// come with one, or without one and it must ask again, or MAIL_REFUSED.
struct upstream *server_checkout(struct server *server, struct request *request, int64_t now_us)
    __attribute__((warn_unused_result));

// Gives back the permit, and the upstream if it is fit for reuse (NULL if not; it has been closed).
// `learn`: the time it was held says something about the shape.
void server_checkin(struct server *server, struct request *request, struct upstream *upstream,
                    bool learn, int64_t now_us);

// Withdraws a request that waits for a permit or an upstream. False: too late, mail is under way;
// what it brings must be given back.
bool server_withdraw(struct server *server, struct request *request, int64_t now_us)
    __attribute__((warn_unused_result));

// An upstream is open: it goes to who waits, or is idle.
void server_opened(struct server *server, struct upstream *upstream, int64_t now_us);

// An upstream failed to open: the next attempt follows after a pause if somebody waits.
void server_open_failed(struct server *server, struct worker *worker, int64_t now_us);

// An open upstream is gone.
void server_closed(struct server *server, struct worker *worker, int64_t now_us);

// Takes an idle upstream out of the pool so that it may be closed. False: a request of another
// worker has claimed it.
bool server_take_idle(struct server *server, struct upstream *upstream)
    __attribute__((warn_unused_result));

// MAIL_HAND_OVER: sends a claimed upstream on to its claimer, or, if it is broken, closes it and
// tells the claimer to ask again.
void server_hand_over(struct server *server, struct upstream *upstream);

// Whether an upstream of that generation leads to where requests go now.
bool server_is_current(struct server *server, uint64_t generation);

// Where an upstream opens to. Copies.
void server_target(struct server *server, struct server_info *ret_target, uint64_t *ret_generation);

// Does what time brings: expiries, pauses between attempts to connect, orphaned pins, exhaustion
// notices. Called by any worker's tick.
void server_tick(struct server *server, struct worker *worker, int64_t now_us);

// What a refused client should wait.
int64_t server_backoff_ms(struct server *server, const struct request *request, int64_t now_us);

#endif
