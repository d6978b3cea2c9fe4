// SPDX-License-Identifier: Apache-2.0
//
// Sockets as net/ uses them: non-blocking, close-on-exec; TCP without delay and with keep-alive.

#ifndef PROXY_NET_SOCKET_H
#define PROXY_NET_SOCKET_H

#include <stdbool.h>
#include <stdint.h>

#include "proxy/net/address.h"

// A new stream socket for the address's family; -1 with errno. What it is set to is inherited by
// the sockets that it accepts.
int socket_open(const struct address *address);

// Sets one of the same family to the same, that somebody else has opened. False, with errno.
bool socket_adopt(int fd, const struct address *address) __attribute__((warn_unused_result));

// The kernel ends a TCP connection whose peer acknowledges nothing, or has no room, for 30 s; this
// one not before that time, if it is longer.
void socket_be_patient(int fd, int64_t patience_us);

#endif
