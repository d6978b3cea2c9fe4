// SPDX-License-Identifier: Apache-2.0
//
// The libev loop behind a struct loop, and the order of a turn as libev's priorities. For net/
// only.

#ifndef PROXY_NET_LOOP_EV_H
#define PROXY_NET_LOOP_EV_H

#include "proxy/net/loop.h"

struct ev_loop;

// A higher one goes first.
enum { TURN_STREAMS = 0, TURN_TIMERS = 1, TURN_MAIL = 2 };

// Borrows from the loop.
struct ev_loop *loop_ev(const struct loop *loop);

// To be called after ev_io_stop for a descriptor that lives on elsewhere.
void loop_forget_fd(const struct loop *loop, int fd);

#endif
