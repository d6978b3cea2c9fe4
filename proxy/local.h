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

// Appends the reply to a COMMAND_LOCAL command to `document`.
void local_answer(struct client *client, const struct command *command, bson_t *document);

// Whether a command is one about weir itself: on the database `weir`, when there is an observer.
static inline bool local_is_about_weir(const struct request *request)
{
    return bytes_equal(request->command.database, "weir") && request->client &&
           request->worker->shared->observer;
}

// Whether the client is on this machine.
bool local_is_near(const struct client *client);

#endif
