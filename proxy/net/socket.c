// SPDX-License-Identifier: Apache-2.0

#include "proxy/net/socket.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

// A peer that is gone without a word is noticed after about three and a half minutes; what drivers
// set on their side.
enum { KEEPALIVE_IDLE_S = 120, KEEPALIVE_INTERVAL_S = 10, KEEPALIVE_PROBES = 9 };

// And one that is gone while it owes us an acknowledgement, when keepalive is silent, after this.
enum { UNACKNOWLEDGED_MS = 30000 };

static void option_set(int fd, int level, int name, int value)
{
    // What a kernel does not know is not worth failing for.
    (void)setsockopt(fd, level, name, &value, sizeof value);
}

static void set_tcp(int fd)
{
    option_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    option_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    option_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
    option_set(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
    option_set(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
    option_set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS);
}

void socket_be_patient(int fd, int64_t patience_us)
{
    if (patience_us > UNACKNOWLEDGED_MS * INT64_C(1000)) {
        option_set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)(patience_us / 1000));
    }
}

int socket_open(const struct address *address)
{
    int family = address->storage.ss_family;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && family != AF_UNIX) {
        set_tcp(fd);
    }
    return fd;
}

bool socket_adopt(int fd, const struct address *address)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
        return false;
    }
    if (address->storage.ss_family != AF_UNIX) {
        set_tcp(fd);
    }
    return true;
}
