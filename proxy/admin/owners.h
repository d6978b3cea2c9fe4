// SPDX-License-Identifier: Apache-2.0
//
// Who has cursors and transactions open at a server, by app and user: those with most left alone.

#ifndef PROXY_ADMIN_OWNERS_H
#define PROXY_ADMIN_OWNERS_H

#include "proxy/affinity.h"

enum { OWNERS_MAX = 16 };

struct owner {
    uint32_t user;
    struct pin_story longest; // of the one that has been left alone for longest
    int64_t longest_idle_us;  // of those at rest
    int cursors;
    int cursors_idle;
    int transactions;
    int transactions_idle;
};

struct owners {
    int count;
    struct owner owner[OWNERS_MAX]; // those with most idle first
};

// One that was left alone for idle_us is idle.
void owners_count(struct affinity *affinity, uint32_t server_id, int64_t idle_us, int64_t now_us,
                  struct owners *ret_owners);

// Of all of them.
int owners_idle(const struct owners *owners);

#endif
