// SPDX-License-Identifier: Apache-2.0
//
// Cursors and transactions of clients that went away. A driver goes on with them from any of its
// connections; those that nobody goes on with within the grace time are killed in the deployment.

#ifndef PROXY_ORPHANS_H
#define PROXY_ORPHANS_H

#include "proxy/server.h"

#define ORPHAN_GRACE_US 5000000

// A request goes on with a cursor or a transaction: from now on it is its client's, so that it is
// not killed while the request is under way.
void orphans_resume(struct server *server, const struct request *request);

// Keeps the table of pins in step with a request whose reply has come.
void orphans_note(struct server *server, const struct request *request,
                  const struct reply_view *reply);

// The client is gone: its pins are orphans now.
void orphans_make(struct server *server, struct worker *worker, struct pin_owner *owner,
                  int64_t now_us);

// Kills, by requests of weir's own, those whose grace time is over.
void orphans_kill(struct server *server, struct worker *worker, int64_t now_us);

#endif
