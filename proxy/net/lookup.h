// SPDX-License-Identifier: Apache-2.0
//
// Looks a name up without blocking: each lookup has a detached thread of its own, for nothing ends
// one that hangs. It outlives who asked, if that one leaves it.

#ifndef PROXY_NET_LOOKUP_H
#define PROXY_NET_LOOKUP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proxy/net/address.h"

// Those of one asker, whose lookups that hang are nobody else's affair. Lives as long as the
// process.
struct lookups {
    int most; // at a time
    atomic_int under_way;
};

struct lookup;

// `told` is called once, on any thread, also before this returns, when lookup_is_done; NULL: the
// caller looks. The thread has the signal mask of its caller.
struct lookup *lookup_start(struct lookups *lookups, const char *host, uint16_t port,
                            void (*told)(void *arg), void *arg);

bool lookup_is_done(const struct lookup *lookup);

// Of one that is done, as address_resolve.
size_t lookup_found(const struct lookup *lookup, struct address ret_addresses[ADDRESS_MAX],
                    const char **ret_error);

// Also of one that is not done, which then ends by itself (and tells). NULL does nothing.
void lookup_leave(struct lookup *lookup);

#endif
