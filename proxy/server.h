// SPDX-License-Identifier: Apache-2.0
//
// A server of the deployment: its gate, its ledger, its idle upstreams. Shared by all workers under
// one lock with short sections: lock, pure policy, unlock, then mail.
//
// A request goes through here three times:
//
//      admit     ask the gate for a permit: now, later (mail), or refused
//      checkout  with the permit, an upstream: own idle one, another worker's (mail), or one that
//                is checked in or opened meanwhile (mail)
//      checkin   give both back; they go to whoever is next, on whichever worker
//
// Invariants: who has an upstream has a permit; who has a permit and no upstream is in `waiters`,
// or mail is under way to it.

#ifndef PROXY_SERVER_H
#define PROXY_SERVER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "policy/breaker.h"
#include "policy/demand.h"
#include "policy/tenants.h"
#include "policy/exhaustion.h"
#include "policy/gate.h"
#include "policy/ledger.h"
#include "policy/recorder.h"
#include "policy/shapes.h"
#include "proxy/topology.h"
#include "proxy/traffic.h"
#include "wire/reply.h"

struct config;
struct exhaustion_report;
struct request;
struct servers;
struct upstream;
struct worker;

// A request with a permit waits for an upstream for upstream.serverWait, but to a server that is
// there at least so long.
#define SERVER_CONNECT_WAIT_US INT64_C(1000000)

// What is lately, where people look at what held connections.
#define HELD_LATELY_US INT64_C(60000000)

// What a server may do now.
struct server_bounds {
    int cap;         // on upstreams; 0: none may open, and what is admitted waits for one
    int cut_above;   // upstreams above it are closed, whatever they are doing; INT_MAX: none
    bool paused;     // nothing begins
    int limit;       // on permits, besides; 0: none
    bool restrained; // in an emergency: of that, the part that emergency.share leaves, and so on
    bool is_shared;  // with another weir, while one takes the other's place
};

// What is wanted as one identity. Those whose login the server has refused of late are not tried
// again at once.
struct want {
    int waiting; // for an upstream, whichever
    int opening;
    int64_t retry_us;
};

struct server {
    struct server *next;      // among all; this and the following two guarded by the list's lock
    uint64_t gone_generation; // of the first snapshot that does not have it; 0: all do
    char name[280];           // "host:port", for the log; "" is the lobby
    uint32_t id;              // of no other server, ever
    struct servers *servers;
    int own_cap; // set live; -1: that of all; guarded by the list's lock, too
    struct server_pulse pulse;
    atomic_bool is_gone;            // the newest snapshot does not have it
    atomic_int_fast64_t give_up_us; // from then on what was sent to it is given up; 0: it is not
    atomic_int_fast64_t suspect_us; // when a connection to it was last lost
    atomic_bool has_surplus;        // the cap was lowered below what is open
    atomic_int_fast64_t heard_us;   // when a reply, or a part of one, last came
    atomic_int routed;              // requests that were routed to it, and may look at it
    struct traffic *traffic;        // by worker
    atomic_uint_fast64_t lost;      // connections, while a request used them
    pthread_mutex_t lock;           // guards all that follows
    struct server_bounds bounds;
    struct gate *gate;
    struct gate_limits limits; // as the gate has them
    struct shapes *shapes;
    struct ledger ledger;
    struct breaker breaker;
    struct exhaustion exhaustion;
    struct demand demand;
    int64_t tenants_marked_us;
    struct tenants tenants;
    uint64_t shed_for_good;  // in this exhaustion: to clients that do not say that they back off
    int64_t evicted_us;      // give_up_us, for which those who wait there were sent to ROUTE again
    int64_t looked_us;       // the lobby: when those who wait there were last sent to look again
    struct request *waiters; // have a permit, need an upstream; oldest first
    struct request **waiters_end;
    int waiter_count;
    int bound_waiter_count;  // of these, to one upstream
    struct want *wants;      // by identity
    int cutting;             // upstreams that are about to be closed under their requests
    int leaving;             // upstreams that make room for another identity's
    struct upstream **idle;  // by worker: the one used last first
    struct upstream *pinned; // those with cursors or transactions that only they can go on with
    int pinned_count;
    int pinning; // requests under way that may become like that
    int pinned_limit;
    uint64_t opened;               // upstreams
    uint64_t open_failures;        // likewise
    int64_t opening_us;            // that those took which were opened
    int64_t login_us;              // of that, to log in
    uint64_t exhaustions;          // that have begun
    bool known;                    // it can be sent requests, as far as the newest snapshot knows
    bool failing;                  // the last attempt to connect failed, and nothing is open
    atomic_bool locked_out;        // likewise, as the server refused the URI's login
    struct server_failure failure; // why, since it does
    uint64_t seen;                 // generation of the newest snapshot
    struct server_info info;       // of that snapshot
};

// The limits come from the configuration.
struct server *server_new(struct servers *servers, uint32_t id);
void server_free(struct server *server);

// From any thread: these are its bounds. A lower cap is in force when this returns: nothing opens
// above it, and what is open above it is closed when it is idle, or must be cut. The rest is in
// force when some worker has called server_adapt: who may go now goes.
void server_bound(struct server *server, struct server_bounds bounds);
void server_adapt(struct server *server, struct worker *worker);

// Whether nothing of it is in use: no request is routed to it, no upstream is there.
bool server_is_unused(struct server *server);

// A worker has a new snapshot of the deployment, after `former` (NULL before the first): what the
// server is from now on. When it is not what it was, who waits there is sent to ROUTE again.
void server_follow(struct server *server, struct worker *worker, const struct topology *former,
                   const struct topology *topology);

// Sends all who wait there to ROUTE again.
void server_evict(struct server *server, struct worker *worker);

// A reply says that the server is not what the snapshot says: it is not selected until a newer
// snapshot has it, or for a while. Who waits there is sent to ROUTE again.
void server_doubt(struct server *server, struct worker *worker, int64_t now_us);

// Asks for the request's permit. While the breaker is open, nearly all are refused with
// REFUSED_NO_SERVER. GATE_QUEUED: MAIL_NEWS will come, of a permit, a refusal, or that
// it must go to ROUTE again.
enum gate_answer server_admit(struct server *server, struct request *request, uint64_t shape_id,
                              struct gate_ask ask, int64_t now_us)
    __attribute__((warn_unused_result));

// An upstream for a request that has a permit: one of its worker's own, or NULL: MAIL_NEWS will
// come with one, or without one and it must ask again, or that the permit was taken back: a
// refusal (REFUSED_PINNED: the upstream that it is bound to is gone), or that it must go to ROUTE
// again.
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

// Why one did not open: it failed, and the next attempt follows after a pause if somebody waits; we
// gave it up ourselves; the server refused its login, as an identity that users have beside the
// URI's, which is nothing that the others have to suffer from; or it refused the URI's, which is a
// failure, too, but none that anybody should wait for.
enum not_opened {
    NOT_OPENED_FAILED,
    NOT_OPENED_DROPPED,
    NOT_OPENED_REFUSED,
    NOT_OPENED_LOCKED_OUT,
};

void server_not_opened(struct server *server, struct worker *worker, int identity,
                       enum not_opened why, const char *reason, int64_t now_us);

// Opens an upstream if it has none and may, to learn whether the server lets us in.
void server_try(struct server *server, struct worker *worker, int64_t now_us);

// An open upstream is gone.
void server_closed(struct server *server, struct upstream *upstream, struct worker *worker,
                   int64_t now_us);

// Nothing is open any more that only it can go on with: it is anybody's, if it is idle.
void server_set_free(struct server *server, struct upstream *upstream, int64_t now_us);

// Takes an idle upstream out of the pool so that it may be closed. False: a request of another
// worker has claimed it.
bool server_take_idle(struct server *server, struct upstream *upstream)
    __attribute__((warn_unused_result));

// The same if it is one too many, the cap having been lowered.
bool server_take_surplus(struct server *server, struct upstream *upstream)
    __attribute__((warn_unused_result));

// Whether it is one too many, whatever it is doing, and has to go.
bool server_must_cut(struct server *server, struct upstream *upstream);

// MAIL_HAND_OVER: sends a claimed upstream on to its claimer, or, if it is broken, closes it and
// tells the claimer to ask again.
void server_hand_over(struct server *server, struct upstream *upstream);

// Closes an idle upstream, so that a server that has `open` may open one: if nobody waits, and this
// one has more to spare or has not needed it of late. False: there is none.
bool server_give_up_idle(struct server *server, int open, int64_t now_us);

// How many upstreams it has, open or opening.
int server_count_entered(struct server *server);

// There is room for one more upstream over all servers: opens it if somebody waits for it and the
// server has fewer than that.
void server_feed(struct server *server, struct worker *worker, int fewer_than, int64_t now_us);

// What an upstream opens to. Copies.
void server_get_info(struct server *server, struct server_info *ret_info);

// Does what time brings: expiries, pauses between attempts to connect, exhaustion notices. Called
// by any worker's tick.
void server_tick(struct server *server, struct worker *worker, int64_t now_us);

// A connection to it, made at born_us, was lost under a request: those that are idle are looked at
// before they are used, and the breaker hears of it.
void server_failed(struct server *server, struct worker *worker, int64_t born_us, int64_t now_us);

// A connection to it was lost, for whatever reason: likewise, but for the breaker.
void server_suspect(struct server *server, int64_t now_us);

// Whether it has given no sign for upstream.responseTimeout, though several requests, or one that
// was let pass by the breaker, have waited as long. Then the breaker is open.
bool server_is_silent(struct server *server, struct worker *worker, int64_t now_us);

// Whether what was sent to it is given up: another one has taken over, or it has been unknown for
// longer than anybody waits for it.
bool server_is_doomed(const struct server *server, int64_t now_us);

// What is held just now, and what was, since it is known.
struct server_counts {
    struct gate_counts gate;
    int waiters; // have a permit, need an upstream
    int cap;
    int opening;
    int open;
    int idle; // of those open
    enum server_kind kind;
    bool known;
    bool failing;
    struct server_failure away; // as SDAM has it, of one that is not known
    struct server_failure failure;
    bool exhausted;
    int64_t exhausted_us; // for how long
    uint64_t opened;
    uint64_t open_failures;
    uint64_t exhaustions;
};
void server_count(struct server *server, int64_t now_us, struct server_counts *ret_counts);

// The lane that a request counts in, or last did.
enum lane server_lane(struct server *server, const struct request *request);

#define SERVER_SHAPES_MAX 4096

// Copies the shapes in up to `count` places from `first` on. Returns how many there were: fewer
// than `count` if those are the last. Labels are cut.
#define SERVER_LABEL_BYTES 256
struct shape_copy {
    uint64_t id;
    char label[SERVER_LABEL_BYTES];
    uint32_t users;
    bool slow;
    uint64_t count;
    int64_t waited_us;
    int64_t held_us;
};
size_t server_copy_shapes(struct server *server, size_t first, size_t count,
                          struct shape_copy *ret_shapes);

// Brings the recorder one second; `totals` has what the server does not know. For one thread.
void server_record(struct server *server, struct recorder *recorder, struct recorder_totals *totals,
                   int64_t now_us);

// What it is like just now; returns whether it is exhausted.
bool server_peek(struct server *server, struct exhaustion_report *ret_report, int64_t now_us);

void server_copy_demand(struct server *server, struct demand *ret_demand);

// What tenants use, and how many requests of each are in flight.
void server_copy_tenants(struct server *server, struct tenants *ret_tenants,
                         int ret_in_flight[TENANTS_PLACES]);

// The text of a shape; false: it has been forgotten.
bool server_copy_label(struct server *server, uint64_t shape, char ret_label[SERVER_LABEL_BYTES]);

// What a client whose request is refused now should wait. Counts those that do not say that they
// will.
int64_t server_backoff_ms(struct server *server, const struct request *request, int64_t now_us);

#endif
