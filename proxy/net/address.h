// SPDX-License-Identifier: Apache-2.0
//
// A socket address, ready to connect to.

#ifndef PROXY_NET_ADDRESS_H
#define PROXY_NET_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define ADDRESS_MAX 8

struct address {
    struct sockaddr_storage storage;
    socklen_t len;
};

// Resolves a host name, a literal address ([::1] too), or a path: one with a "/" or ending in
// ".sock" is a Unix socket's. Blocks: not for a worker's thread. Returns how many of at most
// `capacity` addresses were found; 0 with a reason in *ret_error (static text, borrowed).
size_t address_resolve(const char *host, uint16_t port, struct address *ret_addresses,
                       size_t capacity, const char **ret_error);

// Whether address_resolve asks anybody for it: it is no path and no literal address.
bool address_is_name(const char *host);

// As text, "127.0.0.1:27017", "[::1]:27017", "/tmp/weir.sock" or "unix"; cut to capacity, always
// ended.
void address_format(const struct address *address, char *ret_text, size_t capacity);

#endif
