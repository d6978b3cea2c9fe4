// SPDX-License-Identifier: Apache-2.0
//
// What a deployment is asked about itself, by libmongoc, of one server: for weir doctor, and for
// the record of an exhaustion. Nothing is changed there, and nothing that is asked for takes long;
// but each question blocks for as long as the client's socketTimeoutMS, so no worker asks.

#ifndef PROXY_CONTROL_QUESTIONS_H
#define PROXY_CONTROL_QUESTIONS_H

#include <stdatomic.h>

#include "proxy/control/answers.h"

struct _mongoc_client_t;         // NOLINT(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)
struct _mongoc_client_session_t; // NOLINT(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)

// One server, while it is asked.
struct interview {
    struct _mongoc_client_t *client;
    struct _mongoc_client_session_t *session; // NULL: the deployment has none
    uint32_t server;                          // libmongoc's number
    bool is_mongos;
    int64_t max_time_ms;          // of what the server has to look for
    const atomic_bool *dismissed; // nothing more is asked once it is true; NULL: never
};

// The client's server of that name (host:port). False: the client does not know it (any more), or
// it is down. Begun, it is to be ended before the client is used for anything else.
bool interview_begin(struct interview *interview, struct _mongoc_client_t *client,
                     const char *server, int64_t max_time_ms);
void interview_end(struct interview *interview);

// Each fills *ret_… , also when it was not answered (then with what an empty reply would say), and
// tells how it went.
struct answer ask_status(const struct interview *interview, struct server_status *ret_status);
struct answer ask_replication(const struct interview *interview,
                              struct replication *ret_replication);

// $currentOp. With `idle`, also connections, cursors and sessions at rest, which may be many. Of
// other users only with the privilege inprog; without it, ret_own says that they were left out.
struct answer ask_operations(const struct interview *interview, int64_t threshold_us, bool idle,
                             struct operations *ret_operations, bool *ret_own);

// The indexes of a collection, with their use since the server's start if that may be asked.
// Adds to what *indexes has, so that several members may be asked; at first all zero.
struct answer ask_indexes(const struct interview *interview, const char *ns,
                          struct indexes *indexes);

// The plan that the server has for queries of this kind. They are explained with made-up values, as
// a find: so nothing is executed, whatever it was.
struct answer ask_explanation(const struct interview *interview, const char *ns,
                              const struct query_needs *needs, struct explanation *ret_explanation);

struct answer ask_profiler(const struct interview *interview, const char *database,
                           struct profiler_status *ret_profiler);

// Calls `take` with each document, as long as it returns true.
typedef bool take_document(void *arg, const bson_t *document);
struct answer ask_databases(const struct interview *interview, take_document *take, void *arg);
struct answer ask_collections(const struct interview *interview, const char *database,
                              take_document *take, void *arg);
struct answer ask_profile(const struct interview *interview, const char *database, int64_t most,
                          take_document *take, void *arg); // the latest first

// --- all at once, for an exhaustion -------------------------------------------------------------

// What is known about an exhausted server. What was not answered says so in its `struct answer`.
struct consultation {
    struct answer status_answer;
    struct server_status status;
    struct answer operations_answer;
    bool own_operations_only;
    struct operations operations;
    struct answer replication_answer; // ANSWER_NOT_ASKED of a mongos or a standalone
    struct replication replication;
    // Of the shape that was asked about; ANSWER_NOT_ASKED if it needs no index.
    char ns[ANSWER_NAME_BYTES];
    struct answer explanation_answer;
    struct explanation explanation;
    struct answer indexes_answer;
    char index_command[INDEX_COMMAND_BYTES]; // that makes it; "": none, or too long
    char index_wanted[INDEX_TEXT_BYTES]; // by equality, sort, range: {status: 1, at: 1}; "": none
    bool directions_known;               // of the sort in it: else they are the query's to say
    char index_there[ANSWER_NAME_BYTES]; // one that exists and would serve; "": none
};

// Asks the server all of this: at most so many questions as there are answers, one after the other.
// `shape` is what held the connections, as text (wire/shape.h), or NULL.
void consult(const struct interview *interview, const char *shape, int64_t threshold_us,
             struct consultation *ret_consultation);

#endif
