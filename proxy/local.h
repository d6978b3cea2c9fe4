// SPDX-License-Identifier: Apache-2.0
//
// What weir answers itself: hello in all its forms, and authentication; and what goes to the
// observer, who answers what is about weir.

#ifndef PROXY_LOCAL_H
#define PROXY_LOCAL_H

#include <bson/bson.h>

#include "proxy/client.h"
#include "proxy/request.h"
#include "wire/command.h"

// Whether weir answers it itself: what is COMMAND_LOCAL, and, if apps log in, also what tells who
// is logged in, and what whoever is not may ask.
bool local_is_ours(const struct client *client, const struct command *command);

// How long the answer must wait; -1: there will be none, the client is to be closed. Once for each
// request.
int64_t local_wait_us(struct client *client, const struct command *command);

// Appends the reply to such a command to `document`.
void local_answer(struct client *client, const struct command *command, bson_t *document);

// Whether a command is one about weir itself: on the database `weir`, when there is an observer.
static inline bool local_is_about_weir(const struct request *request)
{
    return bytes_equal(request->command.database, "weir") && request->client &&
           request->worker->shared->observer;
}

// Whether the client is on this machine.
bool local_is_near(const struct client *client);

// Whether it may look at weir: as a user who has that right or, if apps do not log in, from this
// machine.
bool local_may_look(const struct client *client);

// Likewise whether it may change weir.
bool local_may_act(const struct client *client);

#endif
