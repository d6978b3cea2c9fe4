// SPDX-License-Identifier: Apache-2.0
//
// Affinity: which server each open cursor and transaction is on, and whose it is. A driver goes on
// with them from any of its connections; those of clients that went away, and that nobody goes on
// with within the grace time, are killed in the deployment.

#ifndef PROXY_AFFINITY_H
#define PROXY_AFFINITY_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "policy/pins.h"
#include "wire/command.h"
#include "wire/reply.h"

#define ORPHAN_GRACE_US 5000000
#define AFFINITY_FORGET_US INT64_C(1800000000) // a session's timeout: with it go its cursors

struct request;
struct upstream;
struct worker;

struct affinity {
    pthread_mutex_t lock; // also of every client's `pins`
    struct pins *pins;
    struct pin_owner others;                      // what was told of another weir's
    _Atomic(const struct affinity_relay *) relay; // NULL: there is no other
};

// While one weir takes another's place, an app goes on at either with what it has opened at the
// other. Called on any worker's thread, without a lock.
struct affinity_relay {
    void (*opened)(void *arg, const struct pin *pin); // before its client knows
    void (*missed)(void *arg); // what is not known is gone on with: what was told is to be adopted
    void *arg;
};

// Borrows it until the next call; NULL ends it, and what the other had is nobody's.
void affinity_set_relay(struct affinity *affinity, const struct affinity_relay *relay,
                        int64_t now_us);

// A pin of another weir's: its key, server, transaction, identity, namespace and whether it
// streams.
void affinity_adopt(struct affinity *affinity, const struct pin *pin, int64_t now_us);

void affinity_init(struct affinity *affinity);
void affinity_fini(struct affinity *affinity);

// What binds a request.
struct bond {
    uint32_t server; // the id of the server that its cursor or transaction is on; 0: none is known
    uint64_t
        upstream; // behind a load balancer, the id of the upstream; else 0: any of the server's
    struct pin_tie *tie; // of weir's own, to kill something: to that upstream
    bool streams;        // its cursor waits for what may come
    bool is_last_try;    // of weir's own, to kill it
    int identity;        // likewise: as whom it is done,
    uint32_t user;       // and for which user
};

// What a request goes on with. From now on that is its client's, so that it is not killed while the
// request is under way.
void affinity_resume(struct affinity *affinity, const struct request *request,
                     struct bond *ret_bond);

// The id of the server that a cursor is on which this request names, 0 if none is known.
uint32_t affinity_of_cursor(struct affinity *affinity, const struct request *request, int64_t id);

// False: a cursor that the command goes on with, or kills, is another user's, or may be.
bool affinity_may_go_on(struct affinity *affinity, const struct request *request);

// Keeps the table in step with a request whose reply has come.
void affinity_note(struct affinity *affinity, const struct request *request,
                   const struct reply_view *reply);

// A request that goes on with something has ended without such a reply.
void affinity_rest(struct affinity *affinity, const struct request *request, int64_t now_us);

// The request does not hold its upstream any more, if it is weir's own.
void affinity_untie(struct affinity *affinity, struct request *request);

// How many cursors and transactions only this upstream can go on with.
int affinity_count_tied(struct affinity *affinity, const struct upstream *upstream);

// The upstream is gone.
void affinity_cut_tie(struct affinity *affinity, struct upstream *upstream);

// A request of weir's own that was to kill something has failed: it is tried once more, after the
// grace time.
void affinity_kill_failed(struct affinity *affinity, const struct request *request);

// Whether anything that a client has opened, or gone on with, is open.
bool affinity_owns_some(struct affinity *affinity, const struct pin_owner *owner);

// The client is gone: what it has open is nobody's now.
void affinity_orphan(struct affinity *affinity, struct worker *worker, struct pin_owner *owner,
                     int64_t now_us);

// Kills, by requests of weir's own, what was nobody's for the grace time, a few requests at a time:
// when one has ended, this is to be called again. Logs what its client has
// left idle for long, and kills that, too, if it is configured; forgets what was not used
// for so long that the deployment has forgotten it. Called by any worker's tick.
void affinity_tick(struct affinity *affinity, struct worker *worker, int64_t now_us);

// Copies the pins in up to `places` places from *place on, which is moved on; their links are
// meaningless. Returns how many there were; ret_clients: the numbers of the clients that own them,
// 0 of an orphan. *place is SIZE_MAX when there are no more places.
size_t affinity_copy(struct affinity *affinity, size_t *place, size_t places, struct pin *ret_pins,
                     uint64_t *ret_clients);

// How many cursors and transactions are open, as far as is known.
size_t affinity_count(struct affinity *affinity);

#endif
