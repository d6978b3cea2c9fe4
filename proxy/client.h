// SPDX-License-Identifier: Apache-2.0
//
// A client: one connection from an app. It has at most one request at a time; what it sends
// meanwhile waits in `ahead`, and beyond CLIENT_AHEAD_BYTES in the socket.
//
//      born by client_accept -> knocks -> handshake -> (idle <-> request)* -> client_close
//                                  ^__________/                 -> freed at the turn's end

#ifndef PROXY_CLIENT_H
#define PROXY_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/pins.h"
#include "proxy/ip.h"
#include "proxy/net/stream.h"
#include "proxy/worker.h"
#include "wire/buffer.h"
#include "wire/compression.h"

#define CLIENT_AHEAD_BYTES 16384
#define CLIENT_APP_NAME_BYTES 48 // a longer name is cut

//      name               word for the log
#define CLOSE_REASONS(X)                                                                           \
    X(CLOSE_BY_PEER, "closed by client")                                                           \
    X(CLOSE_LOST, "connection lost")                                                               \
    X(CLOSE_HANDSHAKE, "handshake failed")                                                         \
    X(CLOSE_HANDSHAKE_TIMEOUT, "no handshake in time")                                             \
    X(CLOSE_MESSAGE_TIMEOUT, "message not complete in time")                                       \
    X(CLOSE_SLOW_READER, "reply not taken in time")                                                \
    X(CLOSE_NO_MEMORY, "no memory came free for its compressed message in time")                   \
    X(CLOSE_BAD_INPUT, "bad input")                                                                \
    X(CLOSE_BROKEN_REPLY, "reply broke off")                                                       \
    X(CLOSE_TOO_MANY_LOGINS, "too many logins failed from its address")                            \
    X(CLOSE_USER_GONE, "its user is no longer, or has another identity")                           \
    X(CLOSE_DRAINED, "weir is draining")                                                           \
    X(CLOSE_KILLED, "killed by an operator")                                                       \
    X(CLOSE_ENDING, "weir is ending")

enum close_reason {
#define X(name, text) name,
    CLOSE_REASONS(X)
#undef X
        CLOSE_REASON_COUNT
};

const char *close_reason_text(enum close_reason reason);

// Whose requests they are, for fairness: by the user, else by admission.tenantBy.
struct tenant {
    uint64_t id; // of the whole name
    int weight;
    char name[CLIENT_APP_NAME_BYTES];
};

struct client {
    struct client *next; // among the worker's clients, or its dead
    struct client *prev;
    struct client *next_knocking;
    struct worker *worker;
    int door; // where it came in: the listener's place
    struct stream *stream;
    struct request *request; // NULL: idle
    struct buffer ahead;     // came while a request was under way
    struct buffer out;       // replies the socket has not taken
    size_t claimed_bytes;    // of the budget, for `out`
    struct pin_owner pins;   // guarded by affinity's lock
    uint64_t id;
    int64_t accepted_us;
    int64_t waits_since_us;               // the handshake began, or the peer last made progress
    char app_name[CLIENT_APP_NAME_BYTES]; // as hello said, "" if it did not
    struct tenant tenant;
    bool backs_off;       // when it is refused: hello said so
    bool has_place;       // among net.maxIncomingConnections
    bool knocks;          // among the worker's knocking
    bool shaken;          // the stream's handshake is done
    bool greeted;         // has sent a first message
    bool has_asked;       // for something else than hello
    bool monitors;        // has sent hello again, and nothing else
    bool leaves;          // it came in by a door that is closed
    uint8_t quiet_sweeps; // while it is to go: for so many it has been idle
    bool ended;           // will send no more, but what it sent unacknowledged is still to be done
    bool paused;          // not read from: it sends faster than it is answered
    bool dead;
    bool close_after_reply;
    bool has_view;                      // a cursor of its own is open at the observer
    struct compressor_list compressors; // agreed on in hello
    struct user *user;                  // who has logged in; NULL: nobody
    struct login *login;                // whoever is about to; NULL: nobody
    bool asked_ip;                      // the following two are known
    bool has_ip;
    uint8_t ip[IP_BYTES];
};

// Takes the socket over. The client lives on the worker until client_close.
void client_accept(struct worker *worker, int fd, int door);

// admission.tenantWeights may have changed.
void client_weigh(struct client *client);

// Goes on with the handshake of a client that knocks, as far as it goes.
void client_let_in(struct client *client);

// Ends the connection at once: unlinks, lets go of its request, makes orphans of its pins. Memory
// goes at the end of the turn. Calling it for a dead client does nothing.
void client_close(struct client *client, enum close_reason reason);

// It is this user from now on; NULL: nobody.
void client_become(struct client *client, struct user *user);

// There are other users from now on: it goes on as the one of its name and db. Closes it if there
// is none, or one with another identity, whose cursors it does not have.
void client_follow(struct client *client, struct users *users);

// Hello said what the app is called. The text is copied.
void client_name_app(struct client *client, struct bytes name);

// Logs bad input (rate-limited) with what was wrong.
void client_log_bad_input(const struct client *client, const char *what);

// Frees what client_close left. Called by the worker at the end of a turn.
void client_bury(struct client *client);

// Sends bytes; what the socket does not take is copied to `out` and counted in the budget. A client
// that breaks here is closed.
void client_send(struct client *client, const uint8_t *at, size_t len);

// Its address, IP_BYTES long; NULL if it has none (a Unix socket).
const uint8_t *client_ip(struct client *client);

// Whether it may ask for more than hello: it has a place among net.maxIncomingConnections, or is
// given one that has come free.
bool client_has_place(struct client *client);

// Its request has ended: goes on with what was sent ahead, or waits for the next one.
void client_rest(struct client *client);

// Closes it if it has missed a deadline. Called for each client at each sweep.
void client_check_deadlines(struct client *client, int64_t now_us);

#endif
