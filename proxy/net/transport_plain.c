// SPDX-License-Identifier: Apache-2.0
//
// Plain sockets, and what both kinds share: how a failure is told.

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "proxy/mem.h"
#include "proxy/net/errno_words.h"
#include "proxy/net/transport.h"

enum { ERROR_BYTES = 512 };

enum transport_status transport_fail(struct transport *transport, const char *format, ...)
{
    char text[ERROR_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    free(transport->error);
    transport->error = xstrdup(text);
    return TRANSPORT_FAILED;
}

enum transport_status transport_fail_errno(struct transport *transport, int error)
{
    char words[ERRNO_WORDS_BYTES];
    return transport_fail(transport, "%s", errno_words(error, words));
}

static enum transport_status plain_read(struct transport *transport, uint8_t *at, size_t capacity,
                                        size_t *ret_len)
{
    ssize_t n;
    do {
        n = recv(transport->fd, at, capacity, 0);
    } while (n < 0 && errno == EINTR);
    if (n > 0) {
        *ret_len = (size_t)n;
        return TRANSPORT_DONE;
    }
    if (n == 0) {
        return TRANSPORT_CLOSED;
    }
    return errno == EAGAIN ? TRANSPORT_WANT_READ : transport_fail_errno(transport, errno);
}

static enum transport_status plain_write(struct transport *transport, const uint8_t *at, size_t len,
                                         size_t *ret_len)
{
    ssize_t n;
    do {
        n = send(transport->fd, at, len, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n >= 0) {
        *ret_len = (size_t)n;
        return TRANSPORT_DONE;
    }
    return errno == EAGAIN ? TRANSPORT_WANT_WRITE : transport_fail_errno(transport, errno);
}

static bool plain_has_pending(const struct transport *transport)
{
    (void)transport;
    return false;
}

static bool plain_is_quiet(struct transport *transport)
{
    uint8_t byte;
    return recv(transport->fd, &byte, 1, MSG_PEEK) < 0 && errno == EAGAIN;
}

static void plain_close(struct transport *transport)
{
    (void)transport;
}

size_t transport_take_sniffed(struct transport *transport, void *at, size_t capacity)
{
    size_t len = transport->sniffed_len < capacity ? transport->sniffed_len : capacity;
    memcpy(at, transport->sniffed, len);
    transport->sniffed_len = (uint8_t)(transport->sniffed_len - len);
    memmove(transport->sniffed, transport->sniffed + len, transport->sniffed_len);
    return len;
}

static enum transport_status sniffed_read(struct transport *transport, uint8_t *at, size_t capacity,
                                          size_t *ret_len)
{
    size_t len = transport_take_sniffed(transport, at, capacity);
    if (transport->sniffed_len == 0) {
        transport->kind = &transport_plain;
    }
    // An end or a failure is told by the next read.
    size_t more = 0;
    if (len < capacity &&
        plain_read(transport, at + len, capacity - len, &more) == TRANSPORT_DONE) {
        len += more;
    }
    *ret_len = len;
    return TRANSPORT_DONE;
}

static bool sniffed_has_pending(const struct transport *transport)
{
    (void)transport;
    return true;
}

static bool sniffed_is_quiet(struct transport *transport)
{
    (void)transport;
    return false;
}

const struct transport_kind transport_plain = {
    .read = plain_read,
    .write = plain_write,
    .has_pending = plain_has_pending,
    .is_quiet = plain_is_quiet,
    .close = plain_close,
};

const struct transport_kind transport_sniffed = {
    .read = sniffed_read,
    .write = plain_write,
    .has_pending = sniffed_has_pending,
    .is_quiet = sniffed_is_quiet,
    .close = plain_close,
};
