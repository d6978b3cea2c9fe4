// SPDX-License-Identifier: Apache-2.0

#include "proxy/net/address.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

static bool host_is_path(const char *host)
{
    static const char suffix[] = ".sock";
    size_t len = strlen(host);
    size_t suffix_len = sizeof suffix - 1;
    return strchr(host, '/') != NULL ||
           (len > suffix_len && strcmp(host + len - suffix_len, suffix) == 0);
}

static size_t path_resolve(const char *path, struct address *ret_address, const char **ret_error)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    if (len >= sizeof un.sun_path) {
        *ret_error = "the path of the Unix socket is too long";
        return 0;
    }
    memcpy(un.sun_path, path, len + 1);
    *ret_address = (struct address){.len = sizeof un};
    memcpy(&ret_address->storage, &un, sizeof un);
    return 1;
}

static const char *resolve_words(int error)
{
    switch (error) {
    case 0:
    case EAI_NONAME:
    case EAI_NODATA:
        return "no such host";
    case EAI_AGAIN:
        return "the name servers do not answer";
    default:
        return gai_strerror(error);
    }
}

static size_t addresses_copy(const struct addrinfo *list, struct address *ret_addresses,
                             size_t capacity)
{
    size_t count = 0;
    for (; list != NULL && count < capacity; list = list->ai_next) {
        if (list->ai_family != AF_INET && list->ai_family != AF_INET6) {
            continue;
        }
        struct address *address = &ret_addresses[count++];
        *address = (struct address){.len = list->ai_addrlen};
        memcpy(&address->storage, list->ai_addr, list->ai_addrlen);
    }
    return count;
}

// "[::1]" without its brackets; what does not fit is no name either.
static void host_strip(const char *host, char *ret_name, size_t capacity)
{
    size_t len = strlen(host);
    bool bracketed = len > 2 && host[0] == '[' && host[len - 1] == ']';
    if (bracketed) {
        snprintf(ret_name, capacity, "%.*s", (int)(len - 2), host + 1);
    } else {
        snprintf(ret_name, capacity, "%s", host);
    }
}

bool address_is_name(const char *host)
{
    char name[NI_MAXHOST];
    uint8_t bytes[sizeof(struct in6_addr)];
    host_strip(host, name, sizeof name);
    name[strcspn(name, "%")] = '\0'; // a scope
    return !host_is_path(host) && inet_pton(AF_INET, name, bytes) != 1 &&
           inet_pton(AF_INET6, name, bytes) != 1;
}

size_t address_resolve(const char *host, uint16_t port, struct address *ret_addresses,
                       size_t capacity, const char **ret_error)
{
    assert(capacity > 0);
    if (host_is_path(host)) {
        return path_resolve(host, ret_addresses, ret_error);
    }
    char name[NI_MAXHOST];
    char service[8];
    host_strip(host, name, sizeof name);
    snprintf(service, sizeof service, "%u", (unsigned)port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    int error = name[0] != '\0' ? getaddrinfo(name, service, &hints, &list) : EAI_NONAME;
    size_t count = 0;
    if (error == 0) {
        count = addresses_copy(list, ret_addresses, capacity);
        freeaddrinfo(list);
    }
    if (count == 0) {
        *ret_error = resolve_words(error);
    }
    return count;
}

static void unix_format(const struct address *address, char *ret_text, size_t capacity)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    memcpy(&un, &address->storage, sizeof un);
    bool named = address->len > offsetof(struct sockaddr_un, sun_path) && un.sun_path[0] != '\0';
    int len = (int)strnlen(un.sun_path, sizeof un.sun_path);
    if (named) {
        snprintf(ret_text, capacity, "%.*s", len, un.sun_path);
    } else {
        snprintf(ret_text, capacity, "unix");
    }
}

void address_format(const struct address *address, char *ret_text, size_t capacity)
{
    assert(capacity > 0);
    if (address->storage.ss_family == AF_UNIX) {
        unix_format(address, ret_text, capacity);
        return;
    }
    char host[INET6_ADDRSTRLEN + 16]; // a scope may follow
    char service[8];
    int error = getnameinfo((const struct sockaddr *)&address->storage, address->len, host,
                            sizeof host, service, sizeof service, NI_NUMERICHOST | NI_NUMERICSERV);
    if (error != 0) {
        snprintf(ret_text, capacity, "unknown");
    } else if (address->storage.ss_family == AF_INET6) {
        snprintf(ret_text, capacity, "[%s]:%s", host, service);
    } else {
        snprintf(ret_text, capacity, "%s:%s", host, service);
    }
}
