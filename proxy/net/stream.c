// SPDX-License-Identifier: Apache-2.0
//
// A stream: a socket, a transport (plain or TLS), and what it takes to be told when to go on.
//
//      connect: CONNECTING -+-> SHAKING -> OPEN
//                           +-> OPEN
//      accept:  SNIFFING ---+-> SHAKING -> OPEN          any -> BROKEN
//                           +-> OPEN
//
// Each direction has a need: what the socket must be for it to be worth trying, usually readable
// for READ and writable for WRITE. During connecting and the handshake both directions need what
// the handshake waits for; when the peer has ended its side, READ needs nothing any more. What
// libev watches is always the needs of the watched directions together:
//
//      io.events == (watched has READ ? read_need : 0) | (watched has WRITE ? write_need : 0)
//
// so in the steady state nothing changes and epoll_ctl is never called.
//
// Bytes that TLS has taken from the socket do not make it readable. When some are left and nobody
// is bound to ask for them, the timer `again` calls the handler in the next turn.

#include "proxy/net/stream.h"

#include <assert.h>
#include <errno.h>
#include <ev.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "proxy/mem.h"
#include "proxy/net/loop_ev.h"
#include "proxy/net/socket.h"
#include "proxy/net/tls_context.h"
#include "proxy/net/transport.h"

enum phase { PHASE_CONNECTING, PHASE_SNIFFING, PHASE_SHAKING, PHASE_OPEN, PHASE_BROKEN };

enum { BOTH_DIRECTIONS = STREAM_READ | STREAM_WRITE };

struct stream {
    ev_io io;
    struct loop *loop; // NULL: detached
    struct stream_handler handler;
    struct timer *again; // NULL: not needed now
    struct transport transport;
    struct ssl_ctx_st *sniffing_for; // a reference, until the first bytes are there
    char *peer;
    unsigned char watched;
    unsigned char read_need;
    unsigned char write_need;
    unsigned char phase;
    bool plain_allowed;
};

static int stream_events(const struct stream *stream)
{
    return (stream->watched & STREAM_READ ? stream->read_need : 0) |
           (stream->watched & STREAM_WRITE ? stream->write_need : 0);
}

static void stream_update_io(struct stream *stream)
{
    int events = stream_events(stream);
    if (events == (stream->io.events & (EV_READ | EV_WRITE))) {
        return;
    }
    struct ev_loop *ev = loop_ev(stream->loop);
    ev_io_stop(ev, &stream->io);
    ev_io_modify(&stream->io, events);
    if (events != 0) {
        ev_io_start(ev, &stream->io);
    }
}

static void stream_need(struct stream *stream, unsigned directions, int events)
{
    if (directions & STREAM_READ) {
        stream->read_need = (unsigned char)events;
    }
    if (directions & STREAM_WRITE) {
        stream->write_need = (unsigned char)events;
    }
    stream_update_io(stream);
}

// What the handler should be told although the socket is quiet.
static unsigned stream_directions_due(const struct stream *stream)
{
    unsigned due = stream->watched;
    if (stream->phase == PHASE_OPEN) {
        due &= stream->transport.kind->has_pending(&stream->transport) ? STREAM_READ : 0;
    }
    return due;
}

static void stream_forget_again(struct stream *stream)
{
    timer_free(stream->again);
    stream->again = NULL;
}

static void stream_tell_again(void *arg)
{
    struct stream *stream = arg;
    stream_forget_again(stream);
    unsigned due = stream_directions_due(stream);
    if (due != 0) {
        stream->handler.ready(stream->handler.arg, due); // may free the stream
    }
}

static void stream_call_again(struct stream *stream)
{
    if (stream->again != NULL) {
        return;
    }
    stream->again = timer_new(stream->loop, stream_tell_again, stream);
    timer_set(stream->again, 0);
}

static void stream_call_if_pending(struct stream *stream)
{
    if (stream->watched & STREAM_READ && stream->phase == PHASE_OPEN &&
        stream->transport.kind->has_pending(&stream->transport)) {
        stream_call_again(stream);
    }
}

static void stream_ready(struct ev_loop *ev, ev_io *io, int events)
{
    (void)ev;
    struct stream *stream = io->data;
    unsigned directions = 0;
    if (events & (stream->read_need | EV_ERROR)) {
        directions |= STREAM_READ;
    }
    if (events & (stream->write_need | EV_ERROR)) {
        directions |= STREAM_WRITE;
    }
    directions &= stream->watched;
    if (directions != 0) {
        stream->handler.ready(stream->handler.arg, directions); // may free the stream
    }
}

// Turns what came of a call in these directions into the caller's status and what is watched.
static enum stream_status stream_settle(struct stream *stream, unsigned directions,
                                        enum transport_status status)
{
    switch (status) {
    case TRANSPORT_DONE:
        return STREAM_OK;
    case TRANSPORT_WANT_READ:
        stream_need(stream, directions, EV_READ);
        return STREAM_WAIT;
    case TRANSPORT_WANT_WRITE:
        stream_need(stream, directions, EV_WRITE);
        return STREAM_WAIT;
    case TRANSPORT_CLOSED:
        // The socket stays readable for good: to go on watching it would make the loop spin.
        stream_need(stream, directions, 0);
        return STREAM_CLOSED;
    case TRANSPORT_FAILED:
        stream->phase = PHASE_BROKEN;
        stream_need(stream, BOTH_DIRECTIONS, 0);
        stream_forget_again(stream);
        return STREAM_FAILED;
    }
    assert(0 && "a transport's status");
    return STREAM_FAILED;
}

static struct stream *stream_new(struct loop *loop, int fd, enum phase phase,
                                 struct stream_handler handler)
{
    struct stream *stream = xcalloc(1, sizeof *stream);
    stream->loop = loop;
    stream->handler = handler;
    stream->phase = (unsigned char)phase;
    stream->watched = BOTH_DIRECTIONS;
    stream->transport.kind = &transport_plain;
    stream->transport.fd = fd;
    ev_io_init(&stream->io, stream_ready, fd, 0);
    ev_set_priority(&stream->io, TURN_STREAMS);
    stream->io.data = stream;
    return stream;
}

static void stream_open(struct stream *stream)
{
    stream->phase = PHASE_OPEN;
    stream->read_need = EV_READ;
    stream->write_need = EV_WRITE;
    stream_update_io(stream);
    stream_call_if_pending(stream);
}

static char *address_text(const struct address *address)
{
    char text[sizeof(struct sockaddr_un)];
    address_format(address, text, sizeof text);
    return xstrdup(text);
}

static char *peer_text(int fd)
{
    struct address peer = {.len = sizeof peer.storage};
    if (getpeername(fd, (struct sockaddr *)&peer.storage, &peer.len) != 0) {
        return xstrdup("unknown");
    }
    return address_text(&peer);
}

struct stream *stream_accept(struct loop *loop, int fd, struct tls_server *tls, bool plain_allowed,
                             struct stream_handler handler)
{
    struct stream *stream = stream_new(loop, fd, PHASE_SNIFFING, handler);
    stream->peer = peer_text(fd);
    stream->plain_allowed = plain_allowed;
    if (tls == NULL) {
        stream_open(stream);
    } else {
        stream->sniffing_for = tls_server_context(tls);
        stream_need(stream, BOTH_DIRECTIONS, EV_READ);
    }
    return stream;
}

struct stream *stream_connect(struct loop *loop, const struct address *address,
                              struct tls_client *tls, const char *host,
                              struct stream_handler handler)
{
    int fd = socket_open(address);
    int error = fd < 0 ? errno : 0;
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&address->storage, address->len) != 0) {
        error = errno;
    }
    struct stream *stream = stream_new(loop, fd, PHASE_CONNECTING, handler);
    stream->peer = address_text(address);
    if (tls != NULL) {
        transport_tls_connect(&stream->transport, tls, host);
    }
    if (error == 0 || error == EINPROGRESS) {
        stream_need(stream, BOTH_DIRECTIONS, EV_WRITE);
    } else {
        transport_fail_errno(&stream->transport, error);
        stream->phase = PHASE_BROKEN;
        stream_call_again(stream);
    }
    return stream;
}

void stream_free(struct stream *stream)
{
    if (stream == NULL) {
        return;
    }
    if (stream->loop != NULL) {
        ev_io_stop(loop_ev(stream->loop), &stream->io);
    }
    stream_forget_again(stream);
    stream->transport.kind->close(&stream->transport);
    if (stream->sniffing_for != NULL) {
        tls_context_drop(stream->sniffing_for);
    }
    if (stream->transport.fd >= 0) {
        close(stream->transport.fd);
    }
    free(stream->transport.error);
    free(stream->peer);
    free(stream);
}

static enum transport_status stream_connected(struct stream *stream)
{
    int fd = stream->transport.fd;
    int error = 0;
    socklen_t len = sizeof error;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
    if (error != 0) {
        return transport_fail_errno(&stream->transport, error);
    }
    struct sockaddr_storage ignored;
    len = sizeof ignored;
    if (getpeername(fd, (struct sockaddr *)&ignored, &len) != 0) {
        return TRANSPORT_WANT_WRITE;
    }
    if (stream->transport.ssl != NULL) {
        stream->phase = PHASE_SHAKING;
    } else {
        stream_open(stream);
    }
    return TRANSPORT_DONE;
}

enum sniff { SNIFF_MORE, SNIFF_TLS, SNIFF_PLAIN };

// A TLS handshake record begins with 16 03 01 (or 02 to 04). A MongoDB message begins with its
// length, low byte first: one of 278 bytes has a first byte of 16, too, but one of 16 03 01 is 66
// kB long, which no first message is.
static enum sniff sniff(const uint8_t *at, size_t len)
{
    static const uint8_t low[SNIFF_BYTES] = {0x16, 0x03, 0x01};
    static const uint8_t high[SNIFF_BYTES] = {0x16, 0x03, 0x04};
    assert(len <= SNIFF_BYTES);
    for (size_t i = 0; i < len; i++) {
        if (at[i] < low[i] || at[i] > high[i]) {
            return SNIFF_PLAIN;
        }
    }
    return len < SNIFF_BYTES ? SNIFF_MORE : SNIFF_TLS;
}

// A TLS session is only made once there is something to do for it.
static enum transport_status stream_sniffed(struct stream *stream)
{
    struct transport *transport = &stream->transport;
    uint8_t *at = transport->sniffed + transport->sniffed_len;
    ssize_t n = recv(transport->fd, at, SNIFF_BYTES - (size_t)transport->sniffed_len, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return TRANSPORT_WANT_READ;
    }
    if (n < 0) {
        return transport_fail_errno(transport, errno);
    }
    if (n == 0) {
        return TRANSPORT_CLOSED;
    }
    transport->sniffed_len = (uint8_t)(transport->sniffed_len + n);
    enum sniff result = sniff(transport->sniffed, transport->sniffed_len);
    if (result == SNIFF_MORE) {
        return TRANSPORT_DONE; // comes here again
    }
    if (result == SNIFF_PLAIN && !stream->plain_allowed) {
        return transport_fail(transport, "the peer does not speak TLS");
    }
    if (result == SNIFF_TLS) {
        transport_tls_accept(transport, stream->sniffing_for);
        stream->phase = PHASE_SHAKING;
    } else {
        transport->kind = &transport_sniffed;
        stream_open(stream);
    }
    tls_context_drop(stream->sniffing_for);
    stream->sniffing_for = NULL;
    return TRANSPORT_DONE;
}

static enum transport_status stream_shaken(struct stream *stream)
{
    enum transport_status status = transport_tls_handshake(&stream->transport);
    if (status == TRANSPORT_DONE) {
        stream_open(stream);
    }
    return status;
}

static enum transport_status stream_advance(struct stream *stream)
{
    switch ((enum phase)stream->phase) {
    case PHASE_CONNECTING:
        return stream_connected(stream);
    case PHASE_SNIFFING:
        return stream_sniffed(stream);
    case PHASE_SHAKING:
        return stream_shaken(stream);
    case PHASE_OPEN:
        return TRANSPORT_DONE;
    case PHASE_BROKEN:
        return TRANSPORT_FAILED;
    }
    assert(0 && "a stream's phase");
    return TRANSPORT_FAILED;
}

enum stream_status stream_handshake(struct stream *stream)
{
    enum transport_status status = TRANSPORT_DONE;
    while (status == TRANSPORT_DONE && stream->phase != PHASE_OPEN) {
        status = stream_advance(stream);
    }
    return stream_settle(stream, BOTH_DIRECTIONS, status);
}

enum stream_status stream_read(struct stream *stream, uint8_t *at, size_t capacity, size_t *ret_len)
{
    assert(capacity > 0);
    if (stream->phase == PHASE_BROKEN) {
        return STREAM_FAILED;
    }
    assert(stream->phase == PHASE_OPEN);
    struct transport *transport = &stream->transport;
    enum transport_status status = transport->kind->read(transport, at, capacity, ret_len);
    if (status != TRANSPORT_DONE) {
        return stream_settle(stream, STREAM_READ, status);
    }
    if (*ret_len == capacity || transport->ended != TRANSPORT_DONE) {
        stream_call_if_pending(stream);
    }
    if (stream->read_need != EV_READ) {
        stream_need(stream, STREAM_READ, EV_READ);
    }
    return STREAM_OK;
}

enum stream_status stream_write(struct stream *stream, const uint8_t *at, size_t len,
                                size_t *ret_len)
{
    assert(len > 0);
    if (stream->phase == PHASE_BROKEN) {
        return STREAM_FAILED;
    }
    assert(stream->phase == PHASE_OPEN);
    struct transport *transport = &stream->transport;
    enum transport_status status = transport->kind->write(transport, at, len, ret_len);
    if (status != TRANSPORT_DONE) {
        return stream_settle(stream, STREAM_WRITE, status);
    }
    if (stream->write_need != EV_WRITE) {
        stream_need(stream, STREAM_WRITE, EV_WRITE);
    }
    return STREAM_OK;
}

void stream_watch(struct stream *stream, unsigned directions)
{
    if (directions == stream->watched) {
        return;
    }
    bool read_added = directions & ~(unsigned)stream->watched & STREAM_READ;
    stream->watched = (unsigned char)directions;
    stream_update_io(stream);
    if (read_added) {
        stream_call_if_pending(stream);
    }
}

bool stream_is_quiet(struct stream *stream)
{
    assert(stream->phase == PHASE_OPEN || stream->phase == PHASE_BROKEN);
    return stream->phase == PHASE_OPEN && stream->transport.kind->is_quiet(&stream->transport);
}

void stream_detach(struct stream *stream)
{
    ev_io_stop(loop_ev(stream->loop), &stream->io);
    loop_forget_fd(stream->loop, stream->transport.fd);
    stream_forget_again(stream);
    stream->loop = NULL;
}

void stream_attach(struct stream *stream, struct loop *loop, struct stream_handler handler)
{
    assert(stream->loop == NULL);
    stream->loop = loop;
    stream->handler = handler;
    int events = stream_events(stream);
    // As if the descriptor were new: this loop may have known another one of that number.
    ev_io_set(&stream->io, stream->transport.fd, events);
    if (events != 0) {
        ev_io_start(loop_ev(loop), &stream->io);
    }
    stream_call_if_pending(stream);
}

const char *stream_error(const struct stream *stream)
{
    return stream->transport.error != NULL ? stream->transport.error : "";
}

const char *stream_peer(const struct stream *stream)
{
    return stream->peer;
}

bool stream_is_tls(const struct stream *stream)
{
    return stream->transport.ssl != NULL;
}

char *stream_subject(const struct stream *stream)
{
    return stream->transport.ssl != NULL ? transport_tls_subject(&stream->transport) : NULL;
}
