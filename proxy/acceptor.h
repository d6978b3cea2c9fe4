// SPDX-License-Identifier: Apache-2.0
//
// The thread that listens. It gives each new client to the worker that has the fewest, and rests
// while net.maxHandshakes of them wait for us: new ones wait in the kernel's backlog then.

#ifndef PROXY_ACCEPTOR_H
#define PROXY_ACCEPTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proxy/net/address.h"

struct acceptor;
struct config;
struct shared;
struct worker;

struct acceptor *acceptor_new(const struct shared *shared);

// Listens wherever the configuration says. False, with one line in ret_error. Before it is started.
bool acceptor_listen(struct acceptor *acceptor, const struct config *config, char *ret_error,
                     size_t capacity);

// The same while it accepts, in two steps. The first takes the new addresses, without accepting
// there yet; false, with one line in ret_error: nothing has changed. The second, which must follow
// if not, either goes over to where the configuration says, and returns by which doors (as bits,
// worker_give_client) nobody comes in any more; or leaves everything as it was. Before it is told
// to accept less; for one thread.
bool acceptor_prepare(struct acceptor *acceptor, const struct config *config, char *ret_error,
                      size_t capacity);
uint32_t acceptor_settle(struct acceptor *acceptor, bool adopt);

// The first address it listened on at the start. Before it listens elsewhere, or less.
void acceptor_address(const struct acceptor *acceptor, struct address *ret_address);

// Accepts, on a thread of its own. Borrows the workers until it has stopped.
void acceptor_start(struct acceptor *acceptor, struct worker *const *workers, int worker_count);

// Goes on for this machine only, or for nobody. Once, from any thread.
void acceptor_accept_less(struct acceptor *acceptor, bool near_only);

// Ends the thread that was started.
void acceptor_stop(struct acceptor *acceptor);

// Stopped, or never started; NULL is allowed.
void acceptor_free(struct acceptor *acceptor);

#endif
