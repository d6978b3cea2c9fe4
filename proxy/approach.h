// SPDX-License-Identifier: Apache-2.0
//
// How weir comes to its deployment: what the URI says, TLS, and as whom. Immutable; a reload puts
// another in its place. A worker opens upstreams by the one that it has, and each upstream keeps
// the one that it was opened by, so the former one dies with the last of those.

#ifndef PROXY_APPROACH_H
#define PROXY_APPROACH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proxy/control/control.h"
#include "proxy/identities.h"
#include "proxy/net/tls.h"

struct approach {
    atomic_int references;
    atomic_bool is_former; // another has taken its place
    unsigned number;       // greater than that of those before it
    uint64_t made_of;      // files and identities, as they were then (glance.h)
    struct deployment *deployment;
    struct tls_client *tls;      // NULL: no TLS
    struct key_cache *keys;      // of the URI's user; has its own lock
    struct identity *identities; // beside that one
    size_t identity_count;
};

// By the URI of one configuration and the identities of another, or the same. NULL, with one line
// that says where and what, if anything is wrong. The one reference is the caller's.
struct approach *approach_new(const struct config *config, const struct config *identities,
                              char *ret_error, size_t capacity);

// Whether one that were made now would be the same: no file has changed either that the URI or an
// identity names.
bool approach_is_made_of(const struct approach *approach, const struct config *config,
                         const struct config *identities);

// From any thread. The last drop frees it, and says so in the log if it is a former one. NULL may
// be dropped.
struct approach *approach_keep(struct approach *approach);
void approach_drop(struct approach *approach);

#endif
