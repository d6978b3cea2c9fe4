// SPDX-License-Identifier: Apache-2.0
//
// Sockets as net/ uses them: non-blocking, close-on-exec; TCP without delay and with keep-alive.

#ifndef PROXY_NET_SOCKET_H
#define PROXY_NET_SOCKET_H

#include "proxy/net/address.h"

// A new stream socket for the address's family; -1 with errno. What it is set to is inherited by
// the sockets that it accepts.
int socket_open(const struct address *address);

#endif
