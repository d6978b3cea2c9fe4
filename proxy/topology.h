// SPDX-License-Identifier: Apache-2.0
//
// What is known of the deployment, as an immutable snapshot: made by control, read by all.

#ifndef PROXY_TOPOLOGY_H
#define PROXY_TOPOLOGY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proxy/net/address.h"

enum server_kind {
    SERVER_UNKNOWN,
    SERVER_STANDALONE,
    SERVER_MONGOS,
    SERVER_PRIMARY,
    SERVER_SECONDARY,
    SERVER_OTHER, // arbiter, hidden, starting up
    SERVER_LOAD_BALANCER,
};

// Versions and limits are the server's own; of an unknown server those it had when it was last
// known; all 0 if it never was, and of a load balancer.
struct server_info {
    char name[280]; // "host:port", "[::1]:port", or the path of a Unix socket
    char host[256];
    enum server_kind kind;
    int min_wire_version;
    int max_wire_version;
    int max_bson_bytes;
    int max_message_bytes;
    int max_write_batch;
    int session_timeout_minutes; // -1: no sessions
    size_t address_count;        // 0: not known yet, or its name cannot be resolved
    struct address addresses[ADDRESS_MAX];
};

struct topology {
    atomic_int references;
    uint64_t generation; // 1 for the first, growing
    size_t server_count;
    struct server_info servers[]; // usable or not; the deployment's seeds first, then those found
};

// A snapshot with one reference, for its maker to fill in before anybody else sees it.
struct topology *topology_new(uint64_t generation, size_t server_count);

// Takes one more reference, gives one back (the last one frees; NULL is nothing).
struct topology *topology_keep(struct topology *topology);
void topology_drop(struct topology *topology);

// The server that takes writes and has an address: the primary, the standalone, the one mongos (the
// first of several), the load balancer. NULL if there is none. Borrows from the topology.
const struct server_info *topology_writable(const struct topology *topology);

#endif
