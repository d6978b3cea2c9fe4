// SPDX-License-Identifier: Apache-2.0
//
// Listening sockets that this process was started with, from one of two:
//
//      a service manager (socket activation):  LISTEN_FDS=2 LISTEN_PID=...   3, 4: listening
//      the weir whose place it takes:          WEIR_PREDECESSOR=PID:2        3: to talk to it
//                                                                            4, 5: listening
//
// Each is for the address that it is bound to: whoever is to listen there takes it instead of a
// new one. Not for several threads at one time, and empty until inherited_init.

#ifndef PROXY_NET_INHERITED_H
#define PROXY_NET_INHERITED_H

#include <stdbool.h>
#include <sys/types.h>

#include "proxy/net/address.h"

// The variable that a weir gives its successor.
#define INHERITED_VARIABLE "WEIR_PREDECESSOR"

// What the first of them is numbered, as service managers have it.
enum { INHERITED_FIRST_FD = 3, INHERITED_MAX = 64 };

// Reads the variables, and takes them out of the environment. Before other threads run.
void inherited_init(void);

// The weir whose place is to be taken, and in *ret_fd the socket to talk to it; 0: there is none.
pid_t inherited_predecessor(int *ret_fd);

// A socket that listens on this address (with its port 0, on any port of it). -1: there is none.
int inherited_take(const struct address *address);

// One that was not taken, in words; false: all were.
bool inherited_is_left(char *ret_text, size_t capacity);

// Closes those that were not taken.
void inherited_close(void);

#endif
