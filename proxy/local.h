// SPDX-License-Identifier: Apache-2.0
//
// What weir answers itself: hello in all its forms, and authentication.

#ifndef PROXY_LOCAL_H
#define PROXY_LOCAL_H

#include <bson/bson.h>

#include "proxy/client.h"
#include "wire/command.h"

// Appends the reply to a COMMAND_LOCAL command to `document`.
void local_answer(struct client *client, const struct command *command, bson_t *document);

#endif
