// SPDX-License-Identifier: Apache-2.0
//
// Where the fleet's store is, as fleet.redis says it:
//
//      HOST[:PORT]   [::1]:6379   /run/redis.sock   redis://HOST[:PORT]   rediss://HOST[:PORT]
//      redis+sentinel://HOST[:PORT],HOST[:PORT],.../MASTER      rediss+sentinel://...

#ifndef PROXY_STORE_ADDRESS_H
#define PROXY_STORE_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STORE_HOSTS_MAX = 8, STORE_HOST_BYTES = 256 };

struct store_host {
    char name[STORE_HOST_BYTES]; // "[::1]" without its brackets; or the path of a Unix socket
    uint16_t port;
};

struct store_address {
    bool tls;
    char master[128]; // what the Sentinels, which `hosts` then are, call it; "": none
    struct store_host hosts[STORE_HOSTS_MAX];
    int host_count;
};

// NULL, or what is wrong (static text).
const char *store_address_parse(const char *text, struct store_address *ret_address);

#endif
