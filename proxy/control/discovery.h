// SPDX-License-Identifier: Apache-2.0
//
// Which servers a deployment has and what they are, as libmongoc finds out: its client pool follows
// the topology (SDAM, SRV polling) on threads of its own; here is what they saw last.
//
//      libmongoc's threads --(events)--> newest picture, under a lock --(discovery_take)--> control

#ifndef PROXY_CONTROL_DISCOVERY_H
#define PROXY_CONTROL_DISCOVERY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proxy/topology.h"

enum { DISCOVERY_REASON_BYTES = 256, DISCOVERY_COMMAND_MS = 2000 };

struct discovered_server {
    struct server_info info; // without addresses; of an unknown server the limits it had
    uint16_t port;
    char reason[DISCOVERY_REASON_BYTES]; // why it is unknown; "": it is not, or was not tried yet
};

struct discovered {
    size_t count;
    struct discovered_server servers[];
};

struct discovery;
struct _mongoc_uri_t; // NOLINT(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)

// Begins to follow what deployment_parse has accepted. `changed` is called on any thread whenever
// there is something new to take or to listen to, until discovery_close returns; it may not call
// back into discovery. NULL: nobody is told yet. NULL on failure, with one line in ret_error.
// Blocks for DNS if the URI is a mongodb+srv one, and can only fail then.
struct discovery *discovery_open(const char *uri, void (*changed)(void *arg), void *arg,
                                 char *ret_error, size_t error_capacity);

// Somebody else is to be told, or nobody (NULL), from when it returns.
void discovery_tell(struct discovery *discovery, void (*changed)(void *arg), void *arg);

// Blocks until libmongoc's threads have ended: half a second, or the rest of a connectTimeoutMS.
void discovery_close(struct discovery *discovery);

// The same on a thread of its own.
void discovery_part_with(struct discovery *discovery);

// Whether a server can be reached and logged in to as the URI says, and then looks at the others,
// for as long as that takes, but not longer than `within_us`, nor once *given_up. False, with one
// line in ret_error. For who has opened it, before anybody else knows it.
bool discovery_try(struct discovery *discovery, int64_t within_us, const atomic_bool *given_up,
                   char *ret_error, size_t error_capacity);

// The servers that the URI names, of which nothing is known yet; none if it is a mongodb+srv one.
// Owned by the caller (free).
struct discovered *discovery_seeds(const char *uri);

// The newest picture, owned by the caller (free); NULL if it is the one that was taken last.
struct discovered *discovery_take(struct discovery *discovery);

// What a server's last hello tells of now.
struct server_beat {
    char name[280];
    enum server_kind kind;
    int64_t rtt_us;        // smoothed; 0: not known
    int64_t last_write_ms; // its lastWriteDate, by the server's clock; 0: has none
    int64_t heard_ms;      // when that hello came, monotonic
};

// Of each server that is known: at most `most`; returns how many.
size_t discovery_listen(struct discovery *discovery, struct server_beat *ret_beats, size_t most);

// How often a server is asked, ms.
int64_t discovery_heartbeat_ms(const struct discovery *discovery);

// Makes libmongoc check at once each server that it does not hear of continuously, at most every
// 500 ms. It does nothing for a server that is known and alone, or a mongos: those are checked
// every two seconds. Takes a few ms. ret_reason: what is wrong with each server that is unknown;
// "" if nothing is.
void discovery_check(struct discovery *discovery, char ret_reason[DISCOVERY_REASON_BYTES]);

// The URI, as it is known now, for clients of one's own; their commands block for
// DISCOVERY_COMMAND_MS at most. Borrowed until discovery_close.
const struct _mongoc_uri_t *discovery_uri(const struct discovery *discovery);

// What the URI and, with mongodb+srv, the TXT record say. Borrowed until discovery_close.
const char *discovery_auth_source(const struct discovery *discovery);
bool discovery_load_balanced(const struct discovery *discovery);

#endif
