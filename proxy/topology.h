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

struct server;

enum server_kind {
    SERVER_UNKNOWN,
    SERVER_STANDALONE,
    SERVER_MONGOS,
    SERVER_PRIMARY,
    SERVER_SECONDARY,
    SERVER_OTHER, // arbiter, hidden, starting up
    SERVER_LOAD_BALANCER,
};

// A word for the log and for documents. Static.
const char *server_kind_name(enum server_kind kind);

#define SERVER_TAGS_BYTES 512

// What changes too often for a snapshot: whoever learns it writes it, all read it.
struct server_pulse {
    atomic_int_fast64_t rtt_us;           // smoothed; 0: not known yet
    atomic_int_fast64_t staleness_ms;     // how far a secondary is behind, as max-staleness has it
    atomic_int_fast64_t lag_ms;           // the same, as far as it can be known: 0 on a primary
    atomic_int_fast64_t doubted_until_us; // it said that it is not what the snapshot says
    atomic_int_fast64_t tripped_until_us; // its breaker is open; 0: it is not
    atomic_int in_flight;                 // requests that have a permit there
    atomic_bool failing;                  // the last attempt to connect failed, nothing is open
};

struct server_failure {
    char reason[200]; // "": there is none
    int64_t since_s;  // since 1970
};

// Versions and limits are the server's own; of an unknown server those it had when it was last
// known; all 0 if it never was, and of a load balancer.
struct server_info {
    char name[280]; // "host:port", "[::1]:port", or the path of a Unix socket
    char host[256];
    enum server_kind kind;
    bool is_direct; // the one that the URI names, with directConnection: whatever kind it is
    int min_wire_version;
    int max_wire_version;
    int max_bson_bytes;
    int max_message_bytes;
    int max_write_batch;
    int session_timeout_minutes; // -1: no sessions
    size_t address_count;        // 0: not known yet, or its name cannot be resolved
    struct address addresses[ADDRESS_MAX];
    struct server_failure away;      // why it cannot be sent anything
    uint8_t tags[SERVER_TAGS_BYTES]; // the document `tags` of its hello; all 0: none
    // Filled in by servers_adopt.
    uint32_t id; // of no other server, ever; 0 before
    struct server *server;
    struct server_pulse *pulse; // of that server
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

// Whether a server can be sent requests: its kind is known, it holds data or leads to it, and it
// has an address. One that is direct need not hold data: what it refuses it refuses itself.
bool server_is_usable(const struct server_info *info);

// Whether it is direct and a member of a replica set: its kind of it, its reads need a preference.
bool server_is_direct_member(const struct server_info *info);

// A server that writes go to and that has an address: the primary, the standalone, a mongos (the
// first of several), the load balancer, whoever is direct. NULL if there is none. Borrows from the
// topology.
const struct server_info *topology_writable(const struct topology *topology);

// The server of that id; NULL if the snapshot does not have it. Borrows.
const struct server_info *topology_find(const struct topology *topology, uint32_t id);

// What weir says of the deployment in its hello: what every usable server can keep.
struct face {
    bool standalone;
    bool no_writes; // the one direct member is not primary,
    bool secondary; // but this
    int max_wire_version;
    int max_bson_bytes;
    int max_message_bytes;
    int max_write_batch;
    int session_timeout_minutes; // -1: no sessions
};

// False: no server is usable, ret_face is as it was.
bool topology_face(const struct topology *topology, struct face *ret_face);

#endif
