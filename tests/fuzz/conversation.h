// SPDX-License-Identifier: Apache-2.0
//
// One worker of weir, whole, on the simulated loop and network of tests/sim, with us at both ends:
// we are the app, and whatever server it connects to.
//
//      app's end ==> [ client, request, server, upstream ] ==> server's ends
//
// Nothing here is left to chance: bytes take no time, threads never pause.

#ifndef TESTS_FUZZ_CONVERSATION_H
#define TESTS_FUZZ_CONVERSATION_H

#include "proxy/worker.h"
#include "tests/fuzz/fuzz.h"
#include "tests/sim/sim_net.h"

// A connection of the app, or one that weir has opened to the server.
struct side {
    struct side *next;   // the server's, the newest first
    struct net_end *end; // NULL: closed
    struct buffer in;    // what weir has sent
    bool ended;          // weir will send no more
    void *arg;           // the target's
};

struct conversation {
    struct config config;
    struct deployment deployment;
    struct approach approach;
    struct shared shared;
    struct worker *worker;
    struct side *servers;
    bool refusing; // connections of weir's
    void (*accepted)(struct side *side);
};

extern struct conversation conversation;

// Begins. The credential is what weir logs in with; accepted is told of each connection to the
// server.
void conversation_begin(const struct credential *credential, void (*accepted)(struct side *side));

// Connects an app. The caller gives it to side_close.
struct side conversation_connect(void);

// Lets so much time pass, and takes in what weir sends.
void conversation_pass(int64_t us);

// Tells weir to end; sees to it that it does, and that nothing is left.
void conversation_end(void);

// Sends as much as there is room for, which is more than an input is long.
void side_send(struct side *side, struct bytes bytes);
void side_read(struct side *side);
void side_close(struct side *side, bool reset);

// The first whole message that weir has sent, to be consumed from `in`. False: there is none.
bool side_message(const struct side *side, struct bytes *ret_message);

// Appends a well-framed reply.
void side_reply(struct side *side, int32_t response_to, const bson_t *document);

#endif
