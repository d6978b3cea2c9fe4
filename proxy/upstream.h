// SPDX-License-Identifier: Apache-2.0
//
// An upstream: one connection from weir to a server.
//
//      upstream_open -> connecting -> hello -> authentication -> in use <-> idle -> upstream_close
//                       \_________ opening, in the ledger _____/   \ open, in the ledger /
//
// It belongs to one worker at a time and carries at most one request. A connection about which
// there is any doubt (a reply that nobody asked for, an answer to something else, an end in the
// middle) is closed, never reused.

#ifndef PROXY_UPSTREAM_H
#define PROXY_UPSTREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "proxy/control/control.h"
#include "proxy/net/stream.h"
#include "proxy/worker.h"
#include "wire/compression.h"

struct upstream {
    struct upstream *next; // among the worker's own, or its dead
    struct upstream *prev;
    struct upstream *idle_next; // among the idle ones of its worker, guarded by the server's lock
    struct upstream *idle_prev;
    struct worker *worker;
    struct stream *stream;
    struct server *server;
    struct approach *approach; // by which it was opened
    struct opening *opening;   // NULL once it is open
    struct request *request;   // whose turn it is; NULL: idle or opening
    struct request *claimer;   // of another worker: to be handed over to it. Guarded by the lock
    struct mail mail;
    uint64_t id;         // of no other upstream, ever
    int64_t connection;  // the server's own number for it; 0: not known
    struct pin_tie *tie; // of what only it can go on with; NULL: nothing ever. See affinity
    int pins;            // tied to it when that was last asked
    int identity;        // as whom it is logged in; 0: the user of the URI
    struct upstream *pinned_next; // of its server, guarded by the lock
    int64_t opened_us;
    int64_t opening_us;  // how long that took
    int64_t login_us;    // of it, from the answer to hello on
    int64_t progress_us; // when its request last sent or received something
    int64_t idle_since_us;
    bool is_pinned;  // on its server's list of those, guarded by the lock
    bool keeps_pins; // it leads to a load balancer: nobody knows to which server
    bool is_idle;    // guarded by the lock
    bool makes_room; // for one of another identity, guarded by the lock
    bool is_cut;     // about to be closed under its request, guarded by the lock
    bool broken;     // idle but no good, found out while it was claimed
    bool deriving;   // control works on its key; MAIL_DERIVED will come
    bool dead;
    enum compressor compressor; // agreed on in hello
};

// Begins to open one. The ledger has it as opening already.
void upstream_open(struct worker *worker, struct server *server, int identity);

// Goes on after MAIL_DERIVED.
void upstream_key_derived(struct upstream *upstream);

// Closes an upstream that no request uses, for a reason that goes to the log if `loud`.
void upstream_close(struct upstream *upstream, const char *reason, bool loud);

// The same by weir's own choice: of one that is opening yet, no failure of its server.
void upstream_drop(struct upstream *upstream, const char *reason);

// Frees what upstream_close left. False: not yet, control still works on it. Called at turn's end.
bool upstream_bury(struct upstream *upstream);

// Takes it off this worker, and puts it on another (on that one's thread).
void upstream_leave(struct upstream *upstream);
void upstream_join(struct upstream *upstream, struct worker *worker);

// Closes it if opening takes too long, or if it is idle too long, too old or of a former server;
// gives it up if its request makes no progress or runs away. Called at each sweep.
void upstream_check_deadlines(struct upstream *upstream, int64_t now_us);

// Whether it has reached its age limit, or was opened by a former approach, and should be replaced.
bool upstream_is_old(const struct upstream *upstream, int64_t now_us);

// Whether one that was idle may still be used. Asks the socket if it was idle for long.
bool upstream_is_usable(struct upstream *upstream, int64_t now_us);

#endif
