// SPDX-License-Identifier: Apache-2.0

#include "proxy/net/inherited.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

static struct {
    int fds[INHERITED_MAX]; // not taken yet
    int count;
    pid_t predecessor;
    int talk;
} inherited = {.talk = -1};

static void adopt(int first, long count)
{
    for (int fd = first; fd < first + count && inherited.count < INHERITED_MAX; fd++) {
        if (fcntl(fd, F_SETFD, FD_CLOEXEC) == 0) {
            inherited.fds[inherited.count++] = fd;
        }
    }
}

static void adopt_from_predecessor(const char *variable)
{
    char *end;
    long pid = strtol(variable, &end, 10);
    if (pid > 0 && *end == ':' && fcntl(INHERITED_FIRST_FD, F_SETFD, FD_CLOEXEC) == 0) {
        inherited.predecessor = (pid_t)pid;
        inherited.talk = INHERITED_FIRST_FD;
        adopt(INHERITED_FIRST_FD + 1, strtol(end + 1, NULL, 10));
    }
}

void inherited_init(void)
{
    const char *predecessor = getenv(INHERITED_VARIABLE);
    const char *pid = getenv("LISTEN_PID");
    const char *count = getenv("LISTEN_FDS");
    if (predecessor) {
        adopt_from_predecessor(predecessor);
    } else if (pid && count && strtol(pid, NULL, 10) == getpid()) {
        adopt(INHERITED_FIRST_FD, strtol(count, NULL, 10));
    }
    unsetenv(INHERITED_VARIABLE);
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
}

pid_t inherited_predecessor(int *ret_fd)
{
    *ret_fd = inherited.talk;
    return inherited.predecessor;
}

// --- by their addresses -------------------------------------------------------------------------

static bool port_suits(in_port_t asked, in_port_t bound)
{
    return asked == 0 || asked == bound;
}

static bool in4_suits(const struct address *asked, const struct address *bound)
{
    struct sockaddr_in a, b;
    memcpy(&a, &asked->storage, sizeof a);
    memcpy(&b, &bound->storage, sizeof b);
    return a.sin_addr.s_addr == b.sin_addr.s_addr && port_suits(a.sin_port, b.sin_port);
}

static bool in6_suits(const struct address *asked, const struct address *bound)
{
    struct sockaddr_in6 a, b;
    memcpy(&a, &asked->storage, sizeof a);
    memcpy(&b, &bound->storage, sizeof b);
    return memcmp(&a.sin6_addr, &b.sin6_addr, sizeof a.sin6_addr) == 0 &&
           port_suits(a.sin6_port, b.sin6_port);
}

static bool unix_suits(const struct address *asked, const struct address *bound)
{
    struct sockaddr_un a, b;
    memcpy(&a, &asked->storage, sizeof a);
    memcpy(&b, &bound->storage, sizeof b);
    return strncmp(a.sun_path, b.sun_path, sizeof a.sun_path) == 0;
}

static bool suits(const struct address *asked, const struct address *bound)
{
    if (asked->storage.ss_family != bound->storage.ss_family) {
        return false;
    }
    switch (asked->storage.ss_family) {
    case AF_INET:
        return in4_suits(asked, bound);
    case AF_INET6:
        return in6_suits(asked, bound);
    default:
        return unix_suits(asked, bound);
    }
}

// False: it listens on nothing.
static bool bound_address(int fd, struct address *ret_address)
{
    int type = 0, listens = 0;
    socklen_t length = sizeof type;
    *ret_address = (struct address){.len = sizeof ret_address->storage};
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_STREAM &&
           getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) == 0 && listens &&
           getsockname(fd, (struct sockaddr *)&ret_address->storage, &ret_address->len) == 0;
}

int inherited_take(const struct address *address)
{
    struct address bound;
    for (int i = 0; i < inherited.count; i++) {
        int fd = inherited.fds[i];
        if (bound_address(fd, &bound) && suits(address, &bound)) {
            inherited.fds[i] = inherited.fds[--inherited.count];
            return fd;
        }
    }
    return -1;
}

bool inherited_is_left(char *ret_text, size_t capacity)
{
    struct address bound;
    if (inherited.count == 0) {
        return false;
    }
    if (bound_address(inherited.fds[0], &bound)) {
        address_format(&bound, ret_text, capacity);
    } else {
        snprintf(ret_text, capacity, "descriptor %d, which does not listen", inherited.fds[0]);
    }
    return true;
}

void inherited_close(void)
{
    while (inherited.count > 0) {
        close(inherited.fds[--inherited.count]);
    }
}
