// SPDX-License-Identifier: Apache-2.0

#include "proxy/store_address.h"

#include <stdlib.h>
#include <string.h>

#define STORE_PORT 6379
#define SENTINEL_PORT 26379

static bool copy(char *to, size_t capacity, const char *from, size_t len)
{
    if (len == 0 || len >= capacity) {
        return false;
    }
    memcpy(to, from, len);
    to[len] = '\0';
    return true;
}

static bool parse_port(const char *text, size_t len, uint16_t *ret_port)
{
    unsigned long port = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9' || len > 5) {
            return false;
        }
        port = port * 10 + (unsigned long)(text[i] - '0');
    }
    *ret_port = (uint16_t)port;
    return port > 0 && port <= UINT16_MAX;
}

static bool parse_host(const char *text, size_t len, uint16_t port, struct store_host *ret_host)
{
    const char *end = text + len;
    const char *name = text;
    const char *stop = memchr(text, ':', len);
    if (memchr(text, ' ', len)) {
        return false;
    }
    if (len > 0 && text[0] == '[') {
        name = text + 1;
        stop = memchr(text, ']', len);
        if (!stop || !copy(ret_host->name, sizeof ret_host->name, name, (size_t)(stop - name))) {
            return false;
        }
        stop++;
    } else {
        stop = stop ? stop : end;
        if (!copy(ret_host->name, sizeof ret_host->name, name, (size_t)(stop - name))) {
            return false;
        }
    }
    ret_host->port = port;
    return stop == end ||
           (*stop == ':' && parse_port(stop + 1, (size_t)(end - stop - 1), &ret_host->port));
}

static const char *parse_hosts(const char *text, size_t len, uint16_t port,
                               struct store_address *address)
{
    const char *end = text + len;
    if (memchr(text, '@', len)) {
        return "a login belongs in fleet.user and fleet.passwordFile";
    }
    for (const char *at = text; at <= end;) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        const char *stop = comma ? comma : end;
        if (address->host_count == STORE_HOSTS_MAX) {
            return "has more than 8 hosts";
        }
        if (!parse_host(at, (size_t)(stop - at), port, &address->hosts[address->host_count++])) {
            return "must have HOST or HOST:PORT, an IPv6 address in brackets";
        }
        at = stop + 1;
    }
    return NULL;
}

static bool take(const char **text, const char *prefix)
{
    size_t len = strlen(prefix);
    bool found = strncmp(*text, prefix, len) == 0;
    *text += found ? len : 0;
    return found;
}

static const char *parse_sentinels(const char *text, struct store_address *address)
{
    const char *slash = strchr(text, '/');
    if (!slash || !copy(address->master, sizeof address->master, slash + 1, strlen(slash + 1))) {
        return "must end in /MASTER, as the Sentinels call it";
    }
    return parse_hosts(text, (size_t)(slash - text), SENTINEL_PORT, address);
}

static const char *parse_one(const char *text, struct store_address *address)
{
    size_t len = strcspn(text, "/");
    if (text[len] && strcmp(text + len, "/") != 0 && strcmp(text + len, "/0") != 0) {
        return "can be in no database but 0";
    }
    if (memchr(text, ',', len)) {
        return "must be one host; several are for redis+sentinel://";
    }
    return parse_hosts(text, len, STORE_PORT, address);
}

const char *store_address_parse(const char *text, struct store_address *ret_address)
{
    *ret_address = (struct store_address){0};
    if (text[0] == '/') {
        ret_address->host_count = 1;
        return copy(ret_address->hosts[0].name, STORE_HOST_BYTES, text, strlen(text))
                   ? NULL
                   : "is too long for a path";
    }
    if (take(&text, "redis+sentinel://")) {
        return parse_sentinels(text, ret_address);
    }
    if (take(&text, "rediss+sentinel://")) {
        ret_address->tls = true;
        return parse_sentinels(text, ret_address);
    }
    ret_address->tls = take(&text, "rediss://");
    if (!ret_address->tls && !take(&text, "redis://") && strstr(text, "://")) {
        return "is no URI of redis://, rediss://, redis+sentinel:// or rediss+sentinel://";
    }
    return parse_one(text, ret_address);
}
