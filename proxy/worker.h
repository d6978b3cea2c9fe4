// SPDX-License-Identifier: Apache-2.0
//
// A worker: one thread, one loop, and what belongs to it. A client belongs to one worker for life,
// an upstream to one at a time; nobody else touches them. Other threads send mail.
//
// What dies is unlinked at once and freed at the end of the turn, so that no handler that is still
// running holds something freed.

#ifndef PROXY_WORKER_H
#define PROXY_WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "policy/rules.h"
#include "proxy/affinity.h"
#include "proxy/approach.h"
#include "proxy/budget.h"
#include "proxy/config.h"
#include "proxy/drain.h"
#include "proxy/login.h"
#include "proxy/meter.h"
#include "proxy/net/loop.h"
#include "proxy/net/tls.h"
#include "proxy/servers.h"
#include "proxy/sessions.h"
#include "proxy/topology.h"
#include "proxy/traffic.h"

#define WORKER_SCRATCH_BYTES 65536

// What all workers share. Immutable while they run, but for what says otherwise.
struct shared {
    struct approach *approach; // the newest. The main thread's: workers learn of another by mail.
                               // Of its deployment control sets two until the first snapshot
                               // (control_start)
    const struct config *_Atomic config; // a reload puts another in its place; who has read the
                                         // pointer may go on by it until its loop's next turn
    struct control *control;
    struct logins *logins;                 // NULL: apps do not log in
    struct tls_server *_Atomic tls_server; // NULL: there has been no TLS towards apps yet
    struct servers *servers;               // have their own locks
    struct fleet *fleet;                   // that it is one of; NULL: none. Has its own lock
    struct affinity affinity;              // has its own lock
    struct budget budget;
    struct mailbox *observer; // of who answers what is asked about weir; NULL: nobody
    atomic_uint_fast64_t next_client_id;
    atomic_uint_fast64_t next_upstream_id;
    atomic_int places;   // taken of net.maxIncomingConnections
    atomic_int knocking; // clients whose handshake waits for us
    atomic_bool draining;
    atomic_bool hurried;        // what is under way when workers are to end is not waited for
    atomic_int workers_at_work; // those that are not ending, or not at rest yet
    uint8_t process_id[5];      // random; makes serviceIds ours
    uint64_t tenant_seed;       // random
};

enum worker_mail {
    MAIL_NEW_CLIENT, // struct new_client
    MAIL_NEWS,       // struct request: of its permit or upstream
    MAIL_HAND_OVER,  // struct upstream: its new user is on another worker, or it makes room
    MAIL_DERIVED,    // struct upstream: its key is there
    MAIL_TOPOLOGY,   // struct topology_mail
    MAIL_APPROACH,   // struct approach_mail
    MAIL_RULES,      // struct rules_mail
    MAIL_USERS,      // struct users_mail
    MAIL_RELOADED,   // struct reloaded_mail: there is another configuration
    MAIL_ADAPT,      // struct servers': their bounds have changed
    MAIL_ORPHANS,    // struct mail: some pins are nobody's now
    MAIL_TRY,        // struct try_mail: a first upstream is to be opened
    MAIL_REPORT,     // struct report_mail
    MAIL_SHOW,       // struct show
    MAIL_ANSWERED,   // struct inquiry, come back
    MAIL_DRAIN,      // struct drain_mail
    MAIL_CULL,       // cull.h
    MAIL_END,        // struct mail: close everything, then stop
};

struct new_client {
    struct mail mail;
    int fd;
    int door; // where it came in: the listener's place
};

struct try_mail {
    struct mail mail;
    atomic_bool taken;
};

struct topology_mail {
    struct mail mail;
    struct topology *topology; // one reference
};

struct approach_mail {
    struct mail mail;
    struct approach *approach; // one reference
};

struct rules_mail {
    struct mail mail;
    struct rules *rules; // one reference
    uint64_t generation;
};

struct users_mail {
    struct mail mail;
    struct users *users; // one reference
};

// What does not show by itself in what is read of the configuration.
struct reloaded_mail {
    struct mail mail;
    uint32_t closed_doors; // as bits: whoever came in by them is sent away
    struct drain drain;
};

struct drain_mail {
    struct mail mail;
    struct drain drain;
};

// Collects every worker's meters; the last worker prints and frees it.
struct report_mail {
    struct mail mail;
    struct report *report;
};

#define WORKER_REASONS_MAX 32

struct worker {
    int index;
    struct shared *shared;
    struct loop *loop;
    struct mailbox *mailbox;
    pthread_t thread;
    struct timer *tick;                   // the gates' next expiry and the like
    int64_t tick_us;                      // when it fires
    struct timer *hunger;                 // when the starved are tried again
    struct timer *again;                  // when another turn is to follow at once
    struct timer *sweep;                  // deadlines of connections, every WORKER_SWEEP_US
    struct topology *topology;            // the newest we know, NULL before the first
    atomic_uint_fast64_t seen_generation; // its generation
    struct face face;                     // what hello says; the last that was known
    bool has_face;                        // false before the first
    struct approach *approach;            // by which it opens upstreams
    int64_t approached_us;                // since when
    atomic_uint approach_taken;           // its number
    struct rules *rules;                  // in force; NULL: none
    atomic_uint_fast64_t seen_rules;      // their generation
    atomic_uint users_taken;              // how often there were others
    atomic_uint reloads_taken;            // and how often another configuration
    struct client *clients;
    struct client *dead_clients;
    struct client *knocking; // their handshake is to go on, one at each turn's end; in order
    struct client **knocking_end;
    int64_t let_in_us;          // not before
    struct upstream *upstreams; // all we own now
    struct upstream *dead_upstreams;
    struct request *free_requests;
    int free_request_count;
    int request_count; // under way
    int own_requests;  // of these, weir's own
    uint64_t requests_begun;
    struct request *ready; // to be run before the turn ends, in order
    struct request **ready_end;
    int ready_count;
    struct request *starved; // wait for the budget
    atomic_int client_count; // read by the acceptor
    struct drain drain;
    struct drain closing; // of those who came in by a door that is closed
    bool ending;
    bool rested; // ending, and without requests from now on
    bool late;   // ended with requests under way
    int64_t end_by_us;
    struct ended_sessions ended_sessions; // to be passed on
    struct meter meter;
    atomic_uint_fast64_t closed[WORKER_REASONS_MAX]; // clients, by enum close_reason
    atomic_uint_fast64_t failed[WORKER_REASONS_MAX]; // requests, by enum request_failure
    atomic_int_fast64_t swept_us;                    // when it last looked at deadlines
    struct client *shown_client;                     // while it is shown: who is next
    struct upstream *shown_upstream;
    struct codec *apps_codec; // for what comes from apps and goes to them
    struct codec *servers_codec;
    uint64_t random;
    uint8_t scratch[WORKER_SCRATCH_BYTES];
};

#define WORKER_SWEEP_US 250000

struct worker *worker_new(int index, struct shared *shared);
void worker_start(struct worker *worker);
void worker_join(struct worker *worker);
void worker_free(struct worker *worker); // joined, or never started

// From any thread: a socket that was accepted, which it takes over, and at which listener.
void worker_give_client(struct worker *worker, int fd, int door);

// From any thread.
void worker_post(struct worker *worker, struct mail *mail, enum worker_mail kind);

// Puts a request of this worker's on the list of those that are run before the turn ends.
void worker_make_ready(struct worker *worker, struct request *request);

// Puts a request that must wait for the budget on the list of those that are tried again.
void worker_starve(struct worker *worker, struct request *request);

// Takes a request that runs or ends off those lists.
void worker_forget(struct worker *worker, struct request *request);

// Sees to it that the server is looked after at `at_us` at the latest.
void worker_tick_by(struct worker *worker, int64_t at_us);

// The connections of apps that these workers have, or are about to be given. From any thread.
int workers_count_clients(struct worker *const *workers, int count);

// Whether the loops of all of them turn: none is stuck for five seconds. From any thread.
bool workers_turn(struct worker *const *workers, int count, int64_t now_us);

// A pseudo-random number in [0, 1).
double worker_random(struct worker *worker);

#endif
