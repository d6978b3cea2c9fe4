// SPDX-License-Identifier: Apache-2.0
//
// A request: one operation of a client, from its first byte to the last byte of its reply. Its life
// is the list of steps below; request.c has one function for each, in that order.

#ifndef PROXY_REQUEST_H
#define PROXY_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "policy/gate.h"
#include "policy/rules.h"
#include "proxy/affinity.h"
#include "proxy/client.h"
#include "proxy/cursor_split.h"
#include "proxy/server.h"
#include "proxy/upstream.h"
#include "wire/command.h"
#include "wire/compression.h"
#include "wire/max_time.h"
#include "wire/op_msg.h"
#include "wire/reply.h"

//      step              what it does
#define REQUEST_STEPS(X)                                                                           \
    X(READ, read)         /* take the whole message in                                          */ \
    X(CLASSIFY, classify) /* what is asked; is it ours to answer                                */ \
    X(LOCAL, local)       /* answer it ourselves                                                */ \
    X(ACCESS, access)     /* may this user do it                                                */ \
    X(RULES, rules)       /* what the operator says of it                                       */ \
    X(ROUTE, route)       /* which server, which shape                                          */ \
    X(ADMIT, admit)       /* a permit                                                           */ \
    X(CHECKOUT, checkout) /* an upstream                                                        */ \
    X(SEND, send)         /* the message goes up                                                */ \
    X(RECEIVE, receive)   /* the reply comes, and goes down as it comes                         */ \
    X(FAIL, fail)         /* whatever went wrong becomes an error reply here, and only here     */ \
    X(REPLY, reply)       /* until the client has taken the last byte                           */

enum request_step {
#define X(name, function) STEP_##name,
    REQUEST_STEPS(X)
#undef X
        STEP_WAIT, // a wake-up will run this step again
    STEP_END,
};

// Why a request fails; failure.c says what each is answered with.
enum request_failure {
    FAILURE_NONE,
    FAILURE_BAD_MESSAGE,   // request->wire_error tells
    FAILURE_LOGIN,         // nobody has logged in
    FAILURE_ACCESS,        // request->problem tells
    FAILURE_FOREIGN,       // its cursor is another user's
    FAILURE_USER_BUSY,     // its user has as much under way as it may have
    FAILURE_RULE,          // a rule refused
    FAILURE_NO_PLACE,      // its client is one too many
    FAILURE_SHED,          // the gate refused
    FAILURE_NO_MEMORY,     // none came free for its message
    FAILURE_DEADLINE,      // its own time is over
    FAILURE_NO_SERVER,     // nothing was sent: no server in time
    FAILURE_AFFINITY_LOST, // nothing was sent: its server is gone, or has forgotten it
    FAILURE_STALENESS,     // maxStalenessSeconds is too small
    FAILURE_UPSTREAM_LOST, // it was sent, perhaps executed
    FAILURE_BAD_REPLY,     // likewise; the server's answer makes no sense
    FAILURE_KILLED,        // likewise; it ran for longer than it may
    FAILURE_COUNT
};

#define REQUEST_KEEP_BYTES 4096 // what a request's buffer keeps between uses; more is budgeted

// What mail said about a request since its step last looked.
enum request_news { NEWS_NONE, NEWS_GRANTED, NEWS_REFUSED, NEWS_ELSEWHERE };

struct request {
    struct request *next; // free, ready, starved, among the server's waiters, or in its outcomes
    struct worker *worker;
    struct client *client; // NULL: gone, or the request is weir's own
    struct server *server;
    struct upstream *upstream;
    struct mail mail;
    uint64_t number; // of no other request, ever
    enum request_step step;
    enum request_failure failure;
    enum wire_error wire_error;
    enum request_news news;

    struct buffer message; // as it came; the views in `msg` and `command` borrow from it
    size_t claimed_bytes;  // of the budget, for `message`
    size_t length;         // of the message, 0 until its header is there
    size_t dropped_bytes;  // of it, if it is refused already
    size_t sent_bytes;
    struct frame frame;
    struct op_msg msg;
    struct command command;
    struct max_time_bounds max_time; // of maxTimeMS, besides those of the configuration
    struct bond bond;
    struct inquiry *inquiry;    // about weir itself, come back with its answer; else NULL
    struct cursor_split *split; // a killCursors for several servers; else NULL
    enum compressor compressor; // that the message came by, and its reply goes by
    struct buffer packed;       // the message as it goes up, then the reply as it came
    size_t packing_bytes;       // claimed of the budget, for `packed` and a large `held`
    uint64_t client_id;
    struct user *user;    // whose it is; NULL: apps do not log in, or it is weir's own
    int identity;         // as whom it is done in the deployment; 0: the user of the URI
    const char *problem;  // of FAILURE_ACCESS
    const char *kill_why; // somebody wants it ended; else NULL. Static
    struct timer *delay;  // of the answer to a login
    char app_name[CLIENT_APP_NAME_BYTES]; // copied: the client may die before its request
    char peer[64];                        // likewise
    bool backs_off;                       // likewise

    struct rule_verdict verdict; // of the rules
    struct tenant tenant;        // likewise

    struct reply_scan scan;
    struct buffer held; // the beginning of a reply that is not whole and not large
    size_t reply_bytes;

    // Shared with the server, guarded by its lock.
    struct ticket ticket;
    struct shape *shape;
    int tenant_place;        // in the server's table
    struct upstream *handed; // comes with the mail
    enum request_news told;  // what the mail says
    bool waits;              // among the waiters
    bool is_pinning;         // has a permit, and may leave something open
    int64_t waits_since_us;  // for an upstream, the first time

    uint32_t avoid; // the server that it was sent to before, in vain; 0: none

    bool is_counted; // among its user's
    bool running;
    bool again;        // something happened while it ran
    bool is_ready;     // on the worker's list
    bool is_starved;   // likewise
    bool came_in_part; // so far
    bool is_refused;   // while it comes: nothing of it is kept
    bool abandoned;    // its client went away
    bool prepared;     // as it goes up
    bool asked;        // for a permit
    bool may_pin;      // may leave a cursor or a transaction open
    bool has_permit;
    bool waiting_for_upstream; // asked for one; mail will come
    bool send_begun;           // the upstream may hold a part of it, also when sent_bytes is 0
    bool in_doubt;             // it was sent before: that one may have been executed
    bool was_lost;             // with its connection
    bool was_turned_away;      // by a breaker, and looked elsewhere
    bool upstream_lost;        // found out elsewhere
    bool killed;               // then this is why
    bool reply_begun;          // some of it went to the client
    bool reply_is_plain;       // although its upstream might have compressed it
    bool no_reply;             // the client expects none
    bool about_weir;           // the observer answers it

    int64_t now_us;           // of this run
    int64_t starves_since_us; // for its message's memory; 0: it has not
    int64_t answer_us;        // not before, if it is delayed
    int64_t arrived_us;       // whole
    int64_t granted_us;       // 0: never was
    int64_t sent_us;          // the first byte
    int64_t received_us;
    int64_t abandoned_us;
    int64_t kill_after_us; // how long a server may work on it; 0: as long as it likes
    int64_t kill_asked_us; // 0: not yet
};

// The request that a ticket is embedded in.
static inline struct request *request_of_ticket(const struct ticket *ticket)
{
    return (struct request *)((char *)ticket - offsetof(struct request, ticket));
}

// Which collection it is about: database.collection, or the database alone.
void request_namespace(const struct request *request, char *ret_namespace, size_t capacity);

// What a run came to.
enum request_fate { REQUEST_WAITS, REQUEST_ENDED };

// A request for an idle client. Does not run it.
struct request *request_new(struct worker *worker, struct client *client);

// Runs steps until one waits or the request ended (then it is gone, and its client is idle or
// dead).
enum request_fate request_run(struct request *request);

// The client is gone: what waits is withdrawn, what was sent is let finish and its reply dropped.
void request_abandon(struct request *request);

// The upstream makes no progress: it is given up, before the turn ends.
void request_lose_upstream(struct request *request);

// It has run for too long: the same, and its client is told so.
void request_kill(struct request *request);

// Mail: it was granted a permit, handed an upstream, refused one, or must look elsewhere.
void request_receive_news(struct request *request);

// Runs a request of weir's own, bound so, whose reply nobody reads. Takes the message.
void request_run_own(struct worker *worker, const struct bond *bond, struct buffer *message);

// Frees the requests a worker keeps for reuse.
void request_free_all(struct worker *worker);

#endif
