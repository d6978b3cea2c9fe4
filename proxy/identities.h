// SPDX-License-Identifier: Apache-2.0
//
// As whom weir is at the deployment for users that say so, beside the user of the URI: each has
// upstreams of its own, all within the server's cap.

#ifndef PROXY_IDENTITIES_H
#define PROXY_IDENTITIES_H

#include <stddef.h>

#include "proxy/auth.h"
#include "proxy/config.h"

struct identity {
    char *name;
    struct credential credential; // its texts are its own
    struct key_cache *keys;
};

// Reads config->identities and their password files. NULL, with one line that says where and what,
// if any is wrong. Of none, an array of none.
struct identity *identities_new(const struct config *config, char *ret_error,
                                size_t error_capacity);
void identities_free(struct identity *identities, size_t count);

#endif
