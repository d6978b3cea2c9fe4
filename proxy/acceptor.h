// SPDX-License-Identifier: Apache-2.0
//
// The thread that listens. It gives each new client to the worker that has the fewest, and rests
// while net.maxHandshakes of them wait for us: new ones wait in the kernel's backlog then.

#ifndef PROXY_ACCEPTOR_H
#define PROXY_ACCEPTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proxy/config.h"
#include "proxy/net/address.h"

#define DOORS_MAX 32 // as many bits as there are in what acceptor_settle returns

// Where to listen, and which setting says so.
struct door_plan {
    struct address addresses[DOORS_MAX];
    enum config_option options[DOORS_MAX];
    int count;
};

struct acceptor;
struct http;
struct shared;
struct worker;

struct acceptor *acceptor_new(const struct shared *shared);

// Listens wherever the configuration says. False, with one line in ret_error. Before it is started.
bool acceptor_listen(struct acceptor *acceptor, const struct config *config, char *ret_error,
                     size_t capacity);

// Finds out where the configuration says to listen, for which it may ask a name server. False, with
// one line in ret_error.
bool acceptor_plan(const struct config *config, struct door_plan *ret_plan, char *ret_error,
                   size_t capacity);

// Listens there while it accepts, in two steps. The first takes the new addresses, without
// accepting there yet; false, with one line in ret_error: nothing has changed. The second, which
// must follow if not, either goes over to where the configuration says, and returns by which doors
// (as bits, worker_give_client) nobody comes in any more; or leaves everything as it was. Before it
// is told to accept less; for one thread.
bool acceptor_prepare(struct acceptor *acceptor, const struct config *config,
                      const struct door_plan *plan, char *ret_error, size_t capacity);
uint32_t acceptor_settle(struct acceptor *acceptor, bool adopt);

// The first address it listened on at the start. Before it listens elsewhere, or less.
void acceptor_address(const struct acceptor *acceptor, struct address *ret_address);

// Runs on a thread of its own, and accepts HTTP; clients only once it is open. Borrows the workers,
// and the http that was started, until it has stopped.
void acceptor_start(struct acceptor *acceptor, struct worker *const *workers, int worker_count,
                    struct http *http);

void acceptor_open(struct acceptor *acceptor);

// All that listens, for another process to listen on as well: borrowed. Returns how many. For the
// thread of acceptor_prepare.
int acceptor_fds(const struct acceptor *acceptor, int *ret_fds, int capacity);

// Accepts nothing any more, HTTP neither, since another process does on the same sockets; or goes
// on after that. From any thread.
void acceptor_pass(struct acceptor *acceptor, bool passed);

// Goes on for this machine only, or for nobody. Once, from any thread.
void acceptor_accept_less(struct acceptor *acceptor, bool near_only);

// Ends the thread that was started.
void acceptor_stop(struct acceptor *acceptor);

// Stopped, or never started; NULL is allowed.
void acceptor_free(struct acceptor *acceptor);

#endif
