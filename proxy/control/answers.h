// SPDX-License-Identifier: Apache-2.0
//
// What a deployment says of itself, as plain values: how the replies to the questions (questions.h)
// are read. Pure. Any document is allowed: each field may be absent or of another type than it
// should be, and then it is UNKNOWN, empty or false. What is counted is kept even where there is no
// room for the details.

#ifndef PROXY_CONTROL_ANSWERS_H
#define PROXY_CONTROL_ANSWERS_H

#include <bson/bson.h>
#include <stdbool.h>
#include <stdint.h>

#include "proxy/control/index_advice.h"

#define UNKNOWN INT64_C(-1)

enum {
    ANSWER_NAME_BYTES = 128,
    ANSWER_SHAPE_BYTES = 256,
    OPERATIONS_MAX = 32,
    CLIENTS_MAX = 128,
    MEMBERS_MAX = 50, // of a replica set: the server's own limit
    INDEXES_MAX = 64, // of a collection: likewise
};

// Whether a question was answered, and why not.
enum answer_outcome {
    ANSWER_GIVEN,
    ANSWER_NOT_ASKED,
    ANSWER_FORBIDDEN,     // no privilege
    ANSWER_NO_COMMAND,    // the server does not have it, or not in this tier
    ANSWER_FAILED,        // another error
    ANSWER_UNINTELLIGIBLE // a reply that has nothing of what was asked for
};

struct answer {
    enum answer_outcome outcome;
    int code; // the server's; 0: not one of the server's
    char why[200];
};

// What an error of the server means: by its code, or, where Atlas has none for it, by its words.
enum answer_outcome outcome_of(int code, const char *message);

// --- serverStatus -------------------------------------------------------------------------------

struct server_status {
    char version[32];
    char process[32]; // "mongod", "mongos"
    int64_t uptime_s;
    struct {
        int64_t current;
        int64_t available;
        int64_t created; // since the server's start
        int64_t rejected;
        int64_t active;
        int64_t rate_limited; // refused by establishmentRateLimit
    } connections;
    struct {
        int64_t open;
        int64_t no_timeout;
        int64_t pinned; // in use now
        int64_t timed_out;
    } cursors;
    struct {
        int64_t open;
        int64_t inactive; // open, and no statement under way
        int64_t aborted;  // since the server's start
    } transactions;
    int64_t queued_readers; // globalLock.currentQueue
    int64_t queued_writers;
    int64_t certificate_expiry_s; // since 1970
};

// False: it has nothing of it.
bool server_status_read(const bson_t *reply, struct server_status *ret_status);

// Whether it says how many connections it takes. Some servers always say that there is room for
// none; no server has so small a limit, unless it turns somebody away.
bool server_tells_limit(const struct server_status *status);

// --- $currentOp ---------------------------------------------------------------------------------

struct operation {
    int64_t running_us;
    char id[64]; // as to type it: 123, or "shard:123"
    char ns[ANSWER_NAME_BYTES];
    char op[16];
    char app[ANSWER_NAME_BYTES];
    char client[64];
    char plan[ANSWER_NAME_BYTES];   // planSummary: COLLSCAN, IXSCAN { a: 1 }, …
    char shape[ANSWER_SHAPE_BYTES]; // without values; empty: not told
    bool waits_for_lock;
    bool has_needs;
    struct query_needs needs;
};

// A transaction or cursor that is open and at rest.
struct idler {
    int64_t idle_us;
    int64_t open_us;
    char ns[ANSWER_NAME_BYTES];
    char app[ANSWER_NAME_BYTES];
    char client[64];
    bool no_timeout;
};

// Connections that are alike.
struct client_kind {
    char app[ANSWER_NAME_BYTES];
    char driver[64];
    char version[32];
    char host[64]; // where they come from
    int64_t connections;
};

struct operations {
    int64_t threshold_us;   // what is long
    int64_t active;         // operations under way, those of the server itself left out
    int64_t long_count;     // of these
    int64_t long_collscans; // of these
    int kept;               // the longest, longest first
    struct operation longest[OPERATIONS_MAX];
    int64_t idle_transactions;
    int64_t idle_cursors;
    int64_t no_timeout_cursors;
    struct idler longest_transaction; // idle for longest
    struct idler longest_cursor;
    int kinds;
    struct client_kind kind[CLIENTS_MAX];
    int64_t more_clients; // connections for which there was no room
};

void operations_init(struct operations *operations, int64_t threshold_us);

// Takes one document of $currentOp, of any type: op, idleSession, idleCursor.
void operations_take(struct operations *operations, const bson_t *document, int64_t now_ms);

// --- replSetGetStatus ---------------------------------------------------------------------------

struct member_status {
    char name[ANSWER_NAME_BYTES];
    char state[16]; // PRIMARY, SECONDARY, …
    bool healthy;
    int64_t lag_ms; // behind the primary; UNKNOWN
};

struct replication {
    char set[64];
    bool has_primary;
    int count;
    struct member_status member[MEMBERS_MAX];
};

bool replication_read(const bson_t *reply, struct replication *ret_replication);

// --- indexes ------------------------------------------------------------------------------------

struct index_status {
    char name[ANSWER_NAME_BYTES];
    struct index_keys keys;
    int64_t used;    // since `since`, by $indexStats; UNKNOWN
    int64_t since_s; // since 1970
    bool unique;
    bool partial; // or sparse: it does not have all documents
    bool hidden;
    bool expires; // a TTL index: it deletes
};

struct indexes {
    int count;
    struct index_status index[INDEXES_MAX];
};

// Takes one document of listIndexes or $indexStats: what is known of an index already is added to
// (of a sharded collection, and of several members, each tells its own).
void indexes_take(struct indexes *indexes, const bson_t *document);

// --- explain ------------------------------------------------------------------------------------

struct explanation {
    char plan[ANSWER_NAME_BYTES];  // the stages from the outermost: "SORT, COLLSCAN"
    char index[ANSWER_NAME_BYTES]; // the first that it uses
    bool scans;                    // the whole collection
    bool sorts;                    // in memory
};

// Reads the winning plan, classic or SBE, of one server or of shards.
bool explanation_read(const bson_t *reply, struct explanation *ret_explanation);

// --- the profiler -------------------------------------------------------------------------------

struct profiler_status {
    int64_t level;
    int64_t slow_ms;
    double sample_rate; // negative: not told
};

bool profiler_read(const bson_t *reply, struct profiler_status *ret_profiler);

// One document of system.profile.
struct profiled {
    char ns[ANSWER_NAME_BYTES];
    char plan[ANSWER_NAME_BYTES];
    char shape[ANSWER_SHAPE_BYTES];
    char app[ANSWER_NAME_BYTES];
    int64_t millis;
    int64_t examined; // documents
    int64_t returned;
    bool sorts; // in memory
    bool has_needs;
    struct query_needs needs;
};

bool profiled_read(const bson_t *document, struct profiled *ret_profiled);

#endif
