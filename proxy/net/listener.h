// SPDX-License-Identifier: Apache-2.0
//
// A listening socket, TCP or Unix, on a loop.

#ifndef PROXY_NET_LISTENER_H
#define PROXY_NET_LISTENER_H

#include <stdbool.h>
#include <stddef.h>

#include "proxy/net/address.h"
#include "proxy/net/loop.h"

struct listener;

// Listens, on the inherited socket if there is one for this address. `accepted` is called on the
// loop's thread with each new socket (non-blocking, close-on-exec, TCP_NODELAY, keep-alive), which
// it owns. A Unix socket's path that nobody listens on any more is taken over; the file is removed
// when the listener is freed, unless it was inherited. Out of file descriptors: accepting pauses
// 100 ms and `accepted` is called with -1 so that somebody can say so. NULL on failure, with errno
// and one line for people in ret_error ("127.0.0.1:27017: address already in use").
struct listener *listener_open(struct loop *loop, const struct address *address,
                               void (*accepted)(void *arg, int fd), void *arg, char *ret_error,
                               size_t error_capacity);

// Accepts no more until listener_resume: who connects waits in the kernel's backlog. Both may be
// called from within `accepted`, and again.
void listener_pause(struct listener *listener);
void listener_resume(struct listener *listener);

// Not from within `accepted`.
void listener_free(struct listener *listener);

// Its socket, so that another process can inherit it. While that is so, the file of a Unix socket
// is not removed with the listener.
int listener_fd(const struct listener *listener);
void listener_share(struct listener *listener, bool shared);

// The file of an inherited Unix socket is this process's own from now on: of one that only weirs
// hand on.
void listener_take_file(struct listener *listener);

// Whether only this machine reaches it: a Unix socket, or loopback.
bool listener_is_near(const struct listener *listener);

// The address it is bound to, the port filled in when 0 was asked for.
void listener_address(const struct listener *listener, struct address *ret_address);

#endif
