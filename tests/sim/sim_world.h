// SPDX-License-Identifier: Apache-2.0
//
// The simulated world: weir in the middle, apps on one side, servers on the other, and a book of
// every operation that any app ever sent.
//
//      apps --- net ---> [ weir: workers, server, gate, upstreams ] --- net ---> servers
//        \______________________ the book of operations ______________________/
//
// An operation carries its number in `comment`; a server's reply carries it back as `id`.

#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include "proxy/config.h"
#include "proxy/control/control.h"
#include "proxy/worker.h"
#include "tests/sim/sim_loop.h"
#include "tests/sim/sim_net.h"

// --- operations ---------------------------------------------------------------------------------

//      kind             command           what an app does with it
#define OP_KINDS(X)                                                                                \
    X(FIND, "find")        /* the ordinary one                                      */             \
    X(SLOW_FIND, "find")   /* of a collection without an index                      */             \
    X(OPEN_CURSOR, "find") /* leaves a cursor                                       */             \
    X(GET_MORE, "getMore") /* on any connection of the app                          */             \
    X(KILL_CURSORS, "killCursors")                                                                 \
    X(INSERT, "insert")                                                                            \
    X(RETRYABLE_INSERT, "insert") /* with lsid and txnNumber                               */      \
    X(UNACKNOWLEDGED, "insert")   /* w: 0, several of them with what comes after           */      \
    X(AGGREGATE_OUT, "aggregate") /* writes although it reads                              */      \
    X(TRANSACT, "update")         /* a statement of a transaction                          */      \
    X(COMMIT, "commitTransaction")                                                                 \
    X(ABORT, "abortTransaction")                                                                   \
    X(LARGE_INSERT, "insert") /* a large message                                       */          \
    X(LARGE_FIND, "find")     /* a large reply                                         */          \
    X(PING, "ping")                                                                                \
    X(HELLO, "hello")      /* weir's own to answer                                  */             \
    X(MALFORMED, "insert") /* a message that is wrong                               */

enum op_kind {
#define X(name, command) OP_##name,
    OP_KINDS(X)
#undef X
        OP_KIND_COUNT
};

const char *op_command(enum op_kind kind);
const char *op_kind_name(enum op_kind kind);

struct op {
    int64_t id; // its number, from 1
    enum op_kind kind;
    int app;
    int64_t conn; // of the app
    int32_t request_id;
    bool unacknowledged;
    int64_t followed_by; // of an unacknowledged one: what its connection sent next and awaits
    int64_t demand_us;   // of a core
    size_t reply_bytes;  // of padding in the reply
    size_t message_bytes;
    int64_t cursor_id; // GET_MORE, KILL_CURSORS
    int64_t session;   // 0: none
    int64_t txn_number;
    bool in_transaction;
    bool starts_transaction;
    const char *read_mode; // NULL: primary, which is not said
    int64_t max_time_ms;   // 0: none
    bool is_culled;        // an operator has asked for its end
    int64_t sent_us;       // when its app had handed over the last byte
    int received;          // so many times has a server got it, whole
    bool executed;
    bool answered;          // its app has the reply
    bool told_not_executed; // by its reply
};

// --- knobs --------------------------------------------------------------------------------------

// Everything that a scenario may turn. knobs_draw gives each a value from the dice; a scenario then
// sets what it is about.
struct knobs {
    // weir
    int workers;
    int cap;
    int total_cap; // over all servers; 0: none
    bool patient;  // there is time for all: nothing is shed
    bool lobby;    // the only queue that can be full is that of those who wait for a server
    int max_queue;
    int64_t max_wait_us;
    int64_t server_wait_us;
    double slow_share;
    int64_t slow_us;
    int64_t kill_after_us;       // 0: never; also of abandoned reads
    int64_t idle_us;             // when idle cursors and transactions are killed; 0: never
    double deaf;                 // chance that a server does not do what killing asks for
    int64_t response_timeout_us; // 0: none
    int64_t connect_timeout_us;
    int64_t message_timeout_us;
    int64_t max_idle_us;
    int64_t max_age_us;
    size_t max_buffered;
    bool sniff;                // clients wait for their first byte, as with TLS allowed
    int64_t rules_every_us;    // the mean between two changes of the rules; 0: there are none
    int64_t operator_every_us; // the mean between two orders of an operator; 0: there is none
    bool drains;               // before it is told to end
    // threads and networks
    struct loop_profile threads;
    struct net_profile app_net;
    struct net_profile server_net;
    // apps
    int apps;
    int connections; // of each
    int operations;  // of each connection
    int64_t think_us;
    int mix[OP_KIND_COUNT];
    size_t large_bytes;
    double quit;       // chance that an app leaves in the middle of an operation
    double half_close; // that it then only ends its side
    double mute;       // that it then keeps the connection, and sends no more
    double pipeline;   // chance that it does not wait for one reply before the next operation
    double deadline;   // that it gives up after deadline_us
    int64_t deadline_us;
    double max_time;    // that it sends maxTimeMS
    double secondary;   // that it reads by another preference than "primary"
    bool compression;   // of messages, where weir agrees; servers have a knob of their own
    double slow_reader; // of a connection
    int64_t slow_reader_us;
    double linger;   // of a cursor or transaction: left alone
    bool unique_ids; // of requests; else those of all connections are alike
    // servers
    int servers;
    bool sharded;  // each is a mongos; else they are a replica set
    bool balanced; // one load balancer: cursors and transactions belong to the connection
    int cores;
    int64_t demand_us;      // of an ordinary operation
    int64_t slow_demand_us; // of a slow one
    size_t reply_bytes;
    int connection_limit; // of a server; 0: none
    int dead_addresses;   // that a server has beside the good one
    int auth_rounds;      // of messages; 0: none
    double derive;        // chance that a key must be derived
    double auth_fails;
    bool server_compression;
    // faults; times are means between two, 0: never
    int64_t close_every_us;    // a server closes a connection
    int64_t restart_every_us;  // a server closes all of them, and refuses new ones for down_us
    int64_t stall_every_us;    // a server does nothing for down_us
    int64_t stepdown_every_us; // the primary moves, after down_us
    int64_t leave_every_us;    // one that is not primary leaves the set for down_us
    int64_t down_us;
    double lie;          // chance that a reply is not one
    double server_error; // chance of a reply with an error of the server's own
    // the end
    double ending; // chance that weir is told to end in the middle
    int64_t last_us;
};

struct scenario {
    const char *name;
    void (*set)(struct knobs *knobs);
};
extern const struct scenario scenarios[]; // ends with a NULL name
const struct scenario *scenario_find(const char *name);

// --- the world ----------------------------------------------------------------------------------

struct app;
struct sim_server;
struct control;

struct world {
    uint64_t seed;
    const struct scenario *scenario;
    struct knobs knobs;
    bool calm;      // no fault can occur: every failure needs a reason that weir states
    bool resting;   // apps do nothing new, servers are well
    bool draining;  // weir sends its clients away
    bool ending;    // weir was told to end
    bool was_ended; // in the middle
    // weir
    struct config config;
    struct deployment deployment;
    struct shared shared;
    struct worker *workers[8];
    struct control *control;
    // the others
    struct app *apps;
    struct sim_server *servers;
    int primary; // -1: none
    // the book
    struct op *ops;
    size_t op_count;
    size_t op_capacity;
    uint64_t answered;
    uint64_t shed;
    uint64_t accepted; // connections, by all servers
};

extern struct world world;

// Runs one seed of a scenario to its end and clears everything away.
void world_run(const struct scenario *scenario, uint64_t seed);

struct op *op_new(enum op_kind kind); // borrowed until the next
struct op *op_find(int64_t id);       // NULL: there is none of that number

// A TCP connection of an app to weir: the app's end.
struct net_end *world_connect(void);

void control_begin(void);
void control_finish(void);
void control_truth_changed(void); // the deployment is not as it was

void rules_begin(void);
void rules_finish(void);
uint64_t rules_refused(void); // requests, by rules
void rules_check_rest(void);

void knobs_draw(struct knobs *knobs);

// --- checks -------------------------------------------------------------------------------------

void check_step(void);         // after each step
void check_now_and_then(void); // each 100 ms of simulated time
void check_rest(void);

int64_t check_slack_us(void); // how late a thread may be, with all its pauses

// Memory that weir, and the simulation's own objects, have now.
size_t memory_blocks(void);

#endif
