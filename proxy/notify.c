// SPDX-License-Identifier: Apache-2.0

#include "proxy/notify.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = path ? strlen(path) : 0;
    if (length == 0 || length >= sizeof address.sun_path) {
        return;
    }
    memcpy(address.sun_path, path, length);
    if (path[0] == '@') { // an abstract one
        address.sun_path[0] = '\0';
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
        (void)sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT,
                     (const struct sockaddr *)&address, size);
        close(fd);
    }
}

int64_t notify_watchdog_us(void)
{
    const char *every = getenv("WATCHDOG_USEC");
    const char *whom = getenv("WATCHDOG_PID");
    if (!every || (whom && strtoll(whom, NULL, 10) != getpid())) {
        return 0;
    }
    return strtoll(every, NULL, 10) / 2;
}
