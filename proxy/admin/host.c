// SPDX-License-Identifier: Apache-2.0

#include "proxy/admin/host.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { HOST_BYTES = 256 }; // a name has 253 at most

static bool is_port(const char *text)
{
    size_t digits = *text == ':' ? strspn(text + 1, "0123456789") : 0;
    return *text == '\0' || (digits > 0 && text[1 + digits] == '\0');
}

static bool is_address(const char *name)
{
    struct in6_addr address;
    return inet_pton(AF_INET, name, &address) == 1 || inet_pton(AF_INET6, name, &address) == 1;
}

// The name without brackets and port. False: it is none.
static bool read_name(const char *host, char ret_name[HOST_BYTES])
{
    bool brackets = *host == '[';
    const char *begin = host + brackets;
    size_t len = strcspn(begin, brackets ? "]" : ":");
    const char *end = begin + len;
    if (len >= HOST_BYTES || (brackets && *end != ']') || !is_port(end + brackets)) {
        return false;
    }
    snprintf(ret_name, HOST_BYTES, "%.*s", (int)len, begin);
    return true;
}

bool host_may_be(const char *host, const struct config *config)
{
    char name[HOST_BYTES];
    if (!host) {
        return true;
    }
    if (!read_name(host, name)) {
        return false;
    }
    bool known = is_address(name) || strcasecmp(name, "localhost") == 0 ||
                 strcasecmp(name, config->http_bind_ip) == 0;
    for (size_t i = 0; i < config->http_hosts.count && !known; i++) {
        known = strcasecmp(name, config->http_hosts.items[i]) == 0;
    }
    return known;
}
