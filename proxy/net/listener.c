// SPDX-License-Identifier: Apache-2.0
//
// Accepting. What accepted sockets are set to (no delay, keep-alive) they inherit from the
// listening one, so an accept costs one system call.

#include "proxy/net/listener.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <ev.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "proxy/mem.h"
#include "proxy/net/errno_words.h"
#include "proxy/net/inherited.h"
#include "proxy/net/loop_ev.h"
#include "proxy/net/socket.h"

// At most so many in one turn: a flood must not starve those who are there.
enum { ACCEPT_BATCH = 64 };
enum { PAUSE_US = 100000 };
enum { BACKLOG = 65535 }; // as many as the system (net.core.somaxconn) lets wait

struct listener {
    ev_io io;
    struct loop *loop;
    struct timer *again; // after it was out of descriptors
    void (*accepted)(void *arg, int fd);
    void *arg;
    struct address address;
    struct stat file;  // a Unix socket's own, to tell it from one that took its path over
    bool is_inherited; // then the file is somebody else's
    bool is_shared;    // another process listens on it as well, and has the file
};

static bool address_is_unix(const struct address *address)
{
    return address->storage.ss_family == AF_UNIX;
}

static void unix_path(const struct address *address, struct sockaddr_un *ret_un)
{
    memcpy(ret_un, &address->storage, sizeof *ret_un);
}

void listener_pause(struct listener *listener)
{
    ev_io_stop(loop_ev(listener->loop), &listener->io);
    timer_set(listener->again, INT64_MAX);
}

void listener_resume(struct listener *listener)
{
    ev_io_start(loop_ev(listener->loop), &listener->io);
}

static void listener_try_again(void *arg)
{
    listener_resume(arg);
}

static void listener_out_of_descriptors(struct listener *listener)
{
    listener_pause(listener);
    timer_set(listener->again, loop_now_us(listener->loop) + PAUSE_US);
    listener->accepted(listener->arg, -1);
}

static bool errno_is_exhaustion(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

static void listener_ready(struct ev_loop *ev, ev_io *io, int events)
{
    (void)ev;
    (void)events;
    struct listener *listener = io->data;
    for (int i = 0; i < ACCEPT_BATCH && ev_is_active(io); i++) {
        int fd = accept4(io->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            listener->accepted(listener->arg, fd);
        } else if (errno_is_exhaustion(errno)) {
            listener_out_of_descriptors(listener);
            return;
        } else if (errno == EAGAIN) {
            return;
        }
        // Anything else is the fault of that one connection.
    }
}

// Whether a socket's file is there that nobody listens on; if not, errno says what is there.
static bool unix_is_stale(const struct address *address)
{
    struct sockaddr_un un;
    struct stat file;
    unix_path(address, &un);
    errno = EADDRINUSE;
    if (lstat(un.sun_path, &file) != 0) {
        return false;
    }
    if (!S_ISSOCK(file.st_mode)) {
        errno = ENOTSOCK;
        return false;
    }
    int fd = socket_open(address);
    if (fd < 0) {
        return false;
    }
    int result = connect(fd, (const struct sockaddr *)&address->storage, address->len);
    bool stale = result != 0 && errno == ECONNREFUSED;
    close(fd);
    errno = EADDRINUSE;
    return stale;
}

static int socket_bind(int fd, const struct address *address)
{
    const struct sockaddr *storage = (const struct sockaddr *)&address->storage;
    if (bind(fd, storage, address->len) == 0) {
        return 0;
    }
    if (errno != EADDRINUSE || !address_is_unix(address)) {
        return -1;
    }
    if (!unix_is_stale(address)) {
        return -1;
    }
    struct sockaddr_un un;
    unix_path(address, &un);
    unlink(un.sun_path);
    return bind(fd, storage, address->len);
}

static void socket_prepare(int fd, const struct address *address)
{
    static const int on = 1;
    if (!address_is_unix(address)) {
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    }
    // So that 0.0.0.0 and :: can be listened on side by side.
    if (address->storage.ss_family == AF_INET6) {
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    }
}

// The listening socket; -1 with errno.
static int socket_listen(const struct address *address, bool *ret_inherited)
{
    int fd = inherited_take(address);
    int result;
    *ret_inherited = fd >= 0;
    if (fd >= 0) {
        result = socket_adopt(fd, address) ? 0 : -1;
    } else {
        fd = socket_open(address);
        if (fd < 0) {
            return -1;
        }
        socket_prepare(fd, address);
        result = socket_bind(fd, address);
    }
    if (result == 0 && listen(fd, BACKLOG) == 0) {
        return fd;
    }
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

static void listener_learn_address(struct listener *listener, const struct address *asked)
{
    listener->address = *asked;
    if (address_is_unix(asked)) {
        struct sockaddr_un un;
        unix_path(asked, &un);
        (void)lstat(un.sun_path, &listener->file);
        return;
    }
    struct address *bound = &listener->address;
    bound->len = sizeof bound->storage;
    (void)getsockname(listener->io.fd, (struct sockaddr *)&bound->storage, &bound->len);
}

struct listener *listener_open(struct loop *loop, const struct address *address,
                               void (*accepted)(void *arg, int fd), void *arg, char *ret_error,
                               size_t error_capacity)
{
    bool inherited;
    int fd = socket_listen(address, &inherited);
    if (fd < 0) {
        int error = errno;
        bool reserved = error == EACCES && !address_is_unix(address);
        char words[ERRNO_WORDS_BYTES];
        char where[sizeof(struct sockaddr_un)];
        address_format(address, where, sizeof where);
        snprintf(ret_error, error_capacity, "%s: %s%s", where,
                 error == ENOTSOCK ? "is there, and no socket" : errno_words(error, words),
                 reserved ? "; ports below 1024 need CAP_NET_BIND_SERVICE" : "");
        errno = error;
        return NULL;
    }
    struct listener *listener = xcalloc(1, sizeof *listener);
    listener->loop = loop;
    listener->accepted = accepted;
    listener->arg = arg;
    listener->is_inherited = inherited;
    listener->again = timer_new(loop, listener_try_again, listener);
    ev_io_init(&listener->io, listener_ready, fd, EV_READ);
    ev_set_priority(&listener->io, TURN_STREAMS);
    listener->io.data = listener;
    listener_learn_address(listener, address);
    ev_io_start(loop_ev(loop), &listener->io);
    return listener;
}

static void listener_remove_file(const struct listener *listener)
{
    struct sockaddr_un un;
    struct stat file;
    unix_path(&listener->address, &un);
    if (lstat(un.sun_path, &file) == 0 && file.st_dev == listener->file.st_dev &&
        file.st_ino == listener->file.st_ino) {
        unlink(un.sun_path);
    }
}

void listener_free(struct listener *listener)
{
    if (listener == NULL) {
        return;
    }
    ev_io_stop(loop_ev(listener->loop), &listener->io);
    timer_free(listener->again);
    if (address_is_unix(&listener->address) && !listener->is_inherited && !listener->is_shared) {
        listener_remove_file(listener);
    }
    close(listener->io.fd);
    free(listener);
}

int listener_fd(const struct listener *listener)
{
    return listener->io.fd;
}

void listener_take_file(struct listener *listener)
{
    listener->is_inherited = false;
}

void listener_share(struct listener *listener, bool shared)
{
    listener->is_shared = shared;
}

void listener_address(const struct listener *listener, struct address *ret_address)
{
    *ret_address = listener->address;
}

bool listener_is_near(const struct listener *listener)
{
    const struct address *address = &listener->address;
    if (address->storage.ss_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, &address->storage, sizeof in);
        return ntohl(in.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    }
    if (address->storage.ss_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, &address->storage, sizeof in6);
        return IN6_IS_ADDR_LOOPBACK(&in6.sin6_addr);
    }
    return true;
}
