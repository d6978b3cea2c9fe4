// SPDX-License-Identifier: Apache-2.0
//
// The gate of one server: who may go now, who waits, who is refused.
//
//                    ask                               done
//      request ----> [ lane normal: finishing, others ] ----> in flight <= limit <= cap
//                    [ lane slow:   finishing, others ] ----> of these slow <= slow share
//                    [ lane stream: finishing         ] ----> and streams <= stream share, up to
//                    the cap
//                    [ lane pinning:           others ] ----> while there is room for them
//                      |  expire, make room, cancel
//                      v
//                    refused, with a reason
//
// What finishes things goes first come first served. Of the others, whose turn it is is up to their
// priorities and tenants (policy/queue.h).
//
// A ticket is a request's place here, embedded in the request. It is idle, queued, or in flight;
// only in flight does it hold a permit. Pure: no clock, lock or thread of its own; the caller
// serialises calls and passes a monotonic time. Threads that share a gate have read theirs at
// slightly different moments: a time before that of an earlier call counts as that one's.
//
// The limit is what policy/limit.h finds: grants are up to it; when it becomes smaller, those in
// flight stay.
//
// The guard against slow requests: a request that has held its permit for slow_us, times how much
// slower than usual the server as a whole is, counts in the slow lane from then on, and its shape
// learns from it; requests of a shape whose typical one is that slow queue in the slow lane, which
// gets no permit while it holds its share of them. So what is not known to be slow does not wait
// behind it. Slow ones beyond the share, let in before that was known, do not count for the limit.
// Shapes of which nothing is known yet hold half of it at most; more of them queue with the slow.
//
// A getMore of a change stream or a tailable cursor holds its permit while nothing happens. It says
// nothing about slowness or load, and has a lane of its own, so that a hundred of them do not own
// the pool, beside the limit.
//
// Behind a load balancer, where an open cursor or transaction keeps its connection, what may leave
// one open waits in a lane of its own, so that only as many are under way as may be kept.
//
// Invariants: nothing is granted unless in flight < limit <= cap; a permit is given back exactly
// once; a queued ticket leaves by exactly one of grant, refusal, cancel. After gate_grant_next has
// returned NULL nobody waits who could go: only gate_done, gate_expire_next, gate_bound and
// gate_set_available change that.

#ifndef POLICY_GATE_H
#define POLICY_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/priority.h"
#include "policy/ranks.h"
#include "policy/shapes.h"

enum lane { LANE_NORMAL, LANE_SLOW, LANE_STREAM, LANE_PINNING, LANE_COUNT };

//      name                text for the log and for metrics
#define REFUSALS(X)                                                                                \
    X(REFUSED_QUEUE_FULL, "queue_full")                                                            \
    X(REFUSED_WAITED, "max_wait")                                                                  \
    X(REFUSED_DEADLINE, "deadline")                                                                \
    X(REFUSED_HOPELESS, "hopeless")                                                                \
    X(REFUSED_NO_SERVER, "no_server")                                                              \
    X(REFUSED_PINNED, "pinned")

enum refusal {
#define X(name, text) name,
    REFUSALS(X)
#undef X
        REFUSAL_COUNT
};

const char *refusal_text(enum refusal refusal);

enum ticket_state { TICKET_IDLE, TICKET_QUEUED, TICKET_IN_FLIGHT };

// All-zero is a valid idle one. For others than the gate only to read; in flight, `lane` and `aged`
// say what it counts as.
struct ticket {
    struct ticket *next; // in its queue, or among those in flight
    struct ticket *prev;
    struct ticket *older; // among all that are queued
    struct ticket *newer;
    struct shape *shape;
    struct flow *flow;  // of its tenant, if it is in a queue or was granted out of one
    struct rank expiry; // when its waiting ends
    uint64_t tenant;
    int weight;
    enum priority priority;
    int64_t charged_us; // what its tenant was charged for it
    int64_t asked_us;
    int64_t granted_us;
    int64_t sent_us;       // from when on it has kept the server busy
    int64_t deadline_us;   // the request's own, INT64_MAX if it has none
    int64_t serverless_us; // since when it has waited for a server to be there; 0: never
    enum ticket_state state;
    enum lane lane;
    enum refusal refusal; // why, when it was refused
    bool is_over;         // queued, but its waiting has ended: it waits to be told
    bool finishes;
    bool exempt; // from the slow lane: frees what others wait for
    bool slow;   // for the slow lane, whatever its shape
    bool pins;   // it may keep a connection
    bool aged;
    bool is_new; // when it was granted, its shape was not known, and the lane normal
};

struct gate_limits {
    int limit;              // permits, 1 or more: at most so many
    int floor;              // and how few, if what the server does asks for that; 0, or one that
                            // is not below the limit: always all
    double slow_share;      // of the permits for the slow lane, above 0 to 1; at least one permit
    double stream_share;    // of all there may be for the stream lane, 0 to 1; likewise
    int64_t slow_us;        // what is slow while the server is not
    int64_t max_wait_us;    // 0: never queue
    int64_t server_wait_us; // waiting for a server that is not there; 0: never
    size_t max_queue;       // tickets, those that finish things not counted
};

// Who has waited for a server may wait max_wait_us anew when there is one, but at least so long,
// also when max_wait_us is 0: they come all at once.
#define GATE_RETURN_WAIT_US INT64_C(100000)

struct gate;

// A gate starts unavailable: nothing is granted before gate_set_available.
struct gate *gate_new(const struct gate_limits *limits);
void gate_free(struct gate *gate); // nothing may be queued or in flight

// These are the limits from now on. Who is in flight above the limit stays so; who is queued waits
// as long as it was told, also if more are queued now than may be. Then call gate_grant_next.
void gate_bound(struct gate *gate, const struct gate_limits *limits);

struct gate_ask {
    struct shape *shape;   // borrowed while the ticket is queued or in flight
    int64_t deadline_us;   // INT64_MAX if none
    int64_t serverless_us; // has been waiting for a server since then, elsewhere; 0: has not
    uint64_t tenant;       // whose it is: any number. Tenants with the same number are one
    int weight;            // the tenant's, compared with others; below 1 counts as 1
    enum priority priority;
    bool finishes; // goes before others; while the server is there, refused only by deadline_us
    bool exempt;   // not bound by the slow lane
    bool slow;     // belongs to the slow lane, whatever its shape
    bool streams;  // waits in the server for what may come; `finishes` as well
    bool pins;     // goes only where there is room for one more that keeps its connection
};

enum gate_answer {
    GATE_GRANTED, // in flight
    GATE_QUEUED,
    GATE_REFUSED, // ticket->refusal says why; the ticket is idle
};

// Asks for a permit. When somebody waits in the same queue or one that goes before it, and could go
// now, the ticket waits. It is refused at once with REFUSED_DEADLINE when its own deadline has
// passed, with REFUSED_HOPELESS when it would pass before its turn, as fast as permits come free,
// and when it would have to wait but must not: with REFUSED_WAITED if max_wait_us is 0, with
// REFUSED_NO_SERVER if server_wait_us is. When the queue is full, REFUSED_QUEUE_FULL is for the one
// that would go last of the tenant that waits most at the lowest priority: if that is not this one,
// it comes out of gate_expire_next, which is due at once.
enum gate_answer gate_ask(struct gate *gate, struct ticket *ticket, const struct gate_ask *ask,
                          int64_t now_us) __attribute__((warn_unused_result));

// Says that only now a ticket in flight goes to the server: it had to wait for a connection.
void gate_sent(struct ticket *ticket, int64_t now_us);

// Gives the permit of an in-flight ticket back. Its shape learns that it was not slow if `learn` (a
// request that failed for a reason of its own does not teach that); that it was slow, it has
// learned already. Then call gate_grant_next.
void gate_done(struct gate *gate, struct ticket *ticket, bool learn, int64_t now_us);

// Refuses a ticket that is idle for a reason that the gate does not know.
void gate_turn_away(struct gate *gate, struct ticket *ticket, enum refusal refusal);

// Takes the permit of an in-flight ticket back, before anything was sent, and refuses it. Then call
// gate_grant_next.
void gate_revoke(struct gate *gate, struct ticket *ticket, enum refusal refusal, int64_t now_us);

// The next queued ticket that may go now, in flight already; NULL if none. Call after gate_done,
// gate_expire_next and gate_set_available, until NULL. One whose waiting is over is not granted any
// more. One whose shape has become slow since it was queued goes to the slow lane's queue when its
// turn comes.
struct ticket *gate_grant_next(struct gate *gate, int64_t now_us);

// The next queued ticket whose waiting is over, idle and refused (REFUSED_DEADLINE if its own
// deadline had passed, else REFUSED_WAITED or, while the server is not there, REFUSED_NO_SERVER;
// REFUSED_QUEUE_FULL if it had to make room); NULL if none. Call until NULL, not later than
// gate_next_expiry says, and now and then while somebody waits: those in flight that have turned
// out slow meanwhile leave room for others.
struct ticket *gate_expire_next(struct gate *gate, int64_t now_us);

// When gate_expire_next has something to do again, INT64_MAX if never. May move with every call
// that queues, grants, cancels or changes availability.
int64_t gate_next_expiry(const struct gate *gate);

// Takes a ticket, which must not be idle, out of the queue. False: too late, it is in flight and
// its permit must be given back.
bool gate_cancel(struct gate *gate, struct ticket *ticket) __attribute__((warn_unused_result));

// Takes any ticket out of the queue, so that it may ask elsewhere; NULL if none is queued.
struct ticket *gate_evict_next(struct gate *gate);

// Whether a permit, if there are two or more, is kept for what finishes things (and does not
// stream): while transactions are open, plain writes that wait in the server for one of them may
// hold all the others, and only its commit frees them. When it is not kept any more, call
// gate_grant_next.
void gate_keep(struct gate *gate, bool keep);

// How many more may go now of those that may keep a connection; each that goes takes one. When it
// becomes more, call gate_grant_next. It is 0 before the first call.
void gate_leave_room(struct gate *gate, int pin_room);

// Says whether the server is there. While it is not, nothing is granted, and requests, also those
// that finish things, wait until server_wait_us after they first had no server; then they are
// refused with REFUSED_NO_SERVER. Those in flight stay so. Who is queued when the server comes back
// starts a new wait for a permit. What already is the case has no effect.
void gate_set_available(struct gate *gate, bool available, int64_t now_us);

// What a refused client should wait before it comes back, in ms, 100 to 10000: how long the queue
// of that lane takes to drain at the pace of late, one more in it. The pace is the lane's permits
// over the time that one is held: the smoothed time of those done (weight 1/8), or the mean age of
// those in flight, whichever is longer. So a quiet hour does not pass for a slow one, and a server
// that stopped answering shows at once. While the server is not there, or in a pause: 2000.
int64_t gate_backoff_ms(const struct gate *gate, enum lane lane, int64_t now_us);

// The same for a client that will come back by it, as drivers with back-off do: after a random time
// of which this is the mean. Each is told the next turn after the queue and after those who were
// sent away before, so that a crowd that was refused at once does not come back at once.
int64_t gate_next_turn_ms(struct gate *gate, enum lane lane, int64_t now_us);

// Whether nothing is granted but what finishes things. Others wait as for a server that is not
// there, for server_wait_us at most, and are then refused with REFUSED_WAITED. When it is over,
// call gate_grant_next.
void gate_pause(struct gate *gate, bool paused, int64_t now_us);

struct gate_counts {
    bool available;
    int cap;
    int limit;       // as it is now
    bool probes;     // it is low for a moment, to find out what that changes
    int kept;        // of it, for what finishes things
    double slowness; // of the server as a whole, against itself with little to do; 1 or more
    int in_flight;
    int in_flight_slow;
    int slow_limit; // most of these that are let in
    int in_flight_streams;
    size_t queued;           // that may still go
    int64_t standing_us;     // so long somebody has waited without a break, the server being there
    int64_t longest_wait_us; // of these, up to now
    uint64_t granted;        // these since the start; at once or out of the queue
    uint64_t queued_ever;
    uint64_t refused[REFUSAL_COUNT];
};
void gate_count(const struct gate *gate, int64_t now_us, struct gate_counts *ret_counts);

// How many were refused, for whichever reason.
uint64_t gate_counts_refused(const struct gate_counts *counts);

int gate_in_flight(const struct gate *gate);

// The shape that more than half of those in flight have. All zero: none has.
struct gate_majority {
    uint64_t shape;
    double part;     // of those in flight
    int64_t held_us; // for how long these have held their permits, on the mean
    double slowness; // as struct gate_counts has it
};
void gate_find_majority(const struct gate *gate, int64_t now_us,
                        struct gate_majority *ret_majority);

// Those in flight, longest first; NULL when there are none. Follow ticket->next.
const struct ticket *gate_oldest(const struct gate *gate);

#endif
