// SPDX-License-Identifier: Apache-2.0
//
// A reply on its way to the client: as it came, but for labels that must not reach the driver, and
// for the news that a server has another role now, which weir itself acts on.

#ifndef PROXY_RELAY_H
#define PROXY_RELAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/bytes.h"

struct request;

// Passes on what came: a reply that is not large in one piece, so that it can still be changed and
// nothing of a reply that makes no sense is seen; a large one as it comes, unless it is held to be
// compressed. request->reply_bytes counts these as well; done: they are its last.
void relay_part(struct request *request, const uint8_t *at, size_t len, bool done);

// The same of a whole one, which request->scan has read.
void relay_whole(struct request *request, struct bytes reply);

// Whether the reply says that the server is not what it was taken for. A standalone is what it is;
// and what reads from a secondary by choice, and is not for one, says nothing of the secondary.
bool relay_denies_role(const struct request *request);

#endif
