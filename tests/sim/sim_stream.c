// SPDX-License-Identifier: Apache-2.0
//
// proxy/net/stream.h on the simulated network: plain ones only; a connect takes time, may be
// refused or never answered; an accepted one may have to wait for its first byte, as with TLS
// allowed.

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/mem.h"
#include "proxy/net/socket.h"
#include "tests/sim/sim_loop.h"

#define FDS_MAX 4096
#define SERVERS_MAX 16
#define BOTH (STREAM_READ | STREAM_WRITE)

enum phase { CONNECTING, SNIFFING, OPEN, BROKEN };

struct stream {
    struct loop_watch watch; // first: a watch is its stream
    struct stream_handler handler;
    struct net_end *end; // NULL: connecting, or refused
    struct event answer;
    struct connect_answer connect;
    enum phase phase;
    unsigned watched;
    bool refused;
    bool read_over;
    bool upstream;
    int server;  // that it leads to
    size_t owed; // bytes offered and not taken: they must come again
};

static void (*connect_to)(const struct address *address, struct connect_answer *ret_answer);
static struct net_end *ends[FDS_MAX]; // by descriptor
static int upstreams[SERVERS_MAX];
static int streams;

void streams_use(void (*connect)(const struct address *address, struct connect_answer *ret_answer))
{
    connect_to = connect;
}

int streams_upstream_count(int server)
{
    return upstreams[server];
}

int streams_count(void)
{
    return streams;
}

int stream_fd_of(struct net_end *end)
{
    for (int fd = 0; fd < FDS_MAX; fd++) {
        if (!ends[fd]) {
            ends[fd] = end;
            return fd;
        }
    }
    abort();
}

// --- readiness ----------------------------------------------------------------------------------

static unsigned ready(struct loop_watch *watch)
{
    const struct stream *stream = (const struct stream *)watch;
    switch (stream->phase) {
    case CONNECTING:
        return stream->end || stream->refused ? stream->watched : 0;
    case SNIFFING:
        return net_is_readable(stream->end) ? stream->watched : 0;
    case OPEN:
        return (net_is_readable(stream->end) && !stream->read_over ? stream->watched & STREAM_READ
                                                                   : 0) |
               (net_is_writable(stream->end) ? stream->watched & STREAM_WRITE : 0);
    case BROKEN:
        return 0;
    }
    return 0;
}

static void call(struct loop_watch *watch, unsigned directions)
{
    struct stream *stream = (struct stream *)watch;
    directions &= stream->watched;
    if (stream->phase == BROKEN || (stream->phase == OPEN && stream->read_over)) {
        directions &= stream->phase == OPEN ? (unsigned)STREAM_WRITE : 0;
    }
    if (directions != 0) {
        stream->handler.ready(stream->handler.arg, directions);
    }
}

static void changed(void *arg)
{
    struct stream *stream = arg;
    if (stream->watch.loop) {
        loop_wake(stream->watch.loop);
    }
}

// --- life ---------------------------------------------------------------------------------------

static struct stream *stream_new(struct loop *loop, enum phase phase, struct stream_handler handler)
{
    struct stream *stream = xcalloc(1, sizeof *stream);
    stream->watch.ready = ready;
    stream->watch.call = call;
    stream->handler = handler;
    stream->phase = phase;
    stream->watched = BOTH;
    loop_add_watch(loop, &stream->watch);
    streams++;
    return stream;
}

struct stream *stream_accept(struct loop *loop, int fd, struct tls_server *tls, bool plain_allowed,
                             struct stream_handler handler)
{
    (void)plain_allowed;
    struct stream *stream = stream_new(loop, tls ? SNIFFING : OPEN, handler);
    stream->end = ends[fd];
    ends[fd] = NULL;
    net_attend(stream->end, changed, stream);
    return stream;
}

static void connect_answered(void *arg)
{
    struct stream *stream = arg;
    const struct connect_answer *answer = &stream->connect;
    if (answer->outcome == CONNECT_ACCEPTED) {
        struct net_conn *conn = net_open(answer->profile);
        stream->end = &conn->ends[0];
        net_attend(stream->end, changed, stream);
        answer->accepted(answer->arg, &conn->ends[1]);
    } else {
        stream->refused = true;
    }
    changed(stream);
}

struct stream *stream_connect(struct loop *loop, const struct address *address,
                              struct tls_client *tls, const char *host,
                              struct stream_handler handler)
{
    (void)tls;
    (void)host;
    struct stream *stream = stream_new(loop, CONNECTING, handler);
    stream->upstream = true;
    memcpy(&stream->server, &address->storage, sizeof stream->server);
    upstreams[stream->server]++;
    event_init(&stream->answer, connect_answered, stream);
    connect_to(address, &stream->connect);
    if (stream->connect.outcome != CONNECT_SILENCE) {
        event_set(&stream->answer, sim_now_us() + stream->connect.after_us);
    }
    return stream;
}

void stream_free(struct stream *stream)
{
    if (!stream) {
        return;
    }
    if (stream->watch.loop) {
        loop_remove_watch(&stream->watch);
    }
    event_cancel(&stream->answer);
    if (stream->end) {
        net_close(stream->end);
    }
    upstreams[stream->server] -= stream->upstream;
    streams--;
    free(stream);
}

// --- use ----------------------------------------------------------------------------------------

static enum stream_status settle(struct stream *stream, enum net_status status)
{
    switch (status) {
    case NET_OK:
        return STREAM_OK;
    case NET_WAIT:
        return STREAM_WAIT;
    case NET_ENDED:
        stream->read_over = true;
        return STREAM_CLOSED;
    case NET_FAILED:
        stream->phase = BROKEN;
        return STREAM_FAILED;
    }
    return STREAM_FAILED;
}

enum stream_status stream_handshake(struct stream *stream)
{
    HOLDS(stream->upstream || loop_first_handshake(stream->watch.loop),
          "a client's handshake goes on, and in the same turn another did");
    if (stream->phase == CONNECTING && stream->refused) {
        stream->phase = BROKEN;
    } else if (stream->phase == CONNECTING && stream->end) {
        stream->phase = OPEN;
    } else if (stream->phase == SNIFFING && net_is_readable(stream->end)) {
        if (stream->end->in->arrived == 0 && !stream->end->failed) {
            return settle(stream, NET_ENDED);
        }
        stream->phase = stream->end->failed ? BROKEN : OPEN;
    }
    return stream->phase == OPEN     ? STREAM_OK
           : stream->phase == BROKEN ? STREAM_FAILED
                                     : STREAM_WAIT;
}

enum stream_status stream_read(struct stream *stream, uint8_t *at, size_t capacity, size_t *ret_len)
{
    assert(capacity > 0 && stream->watch.loop);
    if (stream->phase == BROKEN) {
        return STREAM_FAILED;
    }
    assert(stream->phase == OPEN);
    return settle(stream, net_read(stream->end, at, capacity, ret_len));
}

enum stream_status stream_write(struct stream *stream, const uint8_t *at, size_t len,
                                size_t *ret_len)
{
    assert(len > 0 && stream->watch.loop);
    if (stream->phase == BROKEN) {
        return STREAM_FAILED;
    }
    assert(stream->phase == OPEN);
    HOLDS(len >= stream->owed, "%zu bytes are offered again, %zu were owed", len, stream->owed);
    size_t taken = 0;
    enum net_status status = net_write(stream->end, at, len, &taken);
    stream->owed = len - taken;
    if (status == NET_OK) {
        *ret_len = taken;
    }
    return settle(stream, status);
}

void stream_watch(struct stream *stream, unsigned directions)
{
    bool added = directions & ~stream->watched;
    stream->watched = directions;
    if (added && stream->watch.loop) {
        loop_wake(stream->watch.loop);
    }
}

bool stream_is_quiet(struct stream *stream)
{
    assert(stream->phase == OPEN || stream->phase == BROKEN);
    return stream->phase == OPEN && !net_is_readable(stream->end);
}

void stream_detach(struct stream *stream)
{
    loop_remove_watch(&stream->watch);
}

void stream_attach(struct stream *stream, struct loop *loop, struct stream_handler handler)
{
    assert(!stream->watch.loop);
    stream->handler = handler;
    loop_add_watch(loop, &stream->watch);
}

const char *stream_error(const struct stream *stream)
{
    if (stream->phase != BROKEN) {
        return "";
    }
    return stream->refused ? "connection refused" : "connection reset by peer";
}

const char *stream_peer(const struct stream *stream)
{
    return stream->upstream ? "server" : "app";
}

bool stream_is_tls(const struct stream *stream)
{
    (void)stream;
    return false;
}

char *stream_subject(const struct stream *stream)
{
    (void)stream;
    return NULL;
}

// No kernel gives up anybody here.
void socket_be_patient(int fd, int64_t patience_us)
{
    (void)fd;
    (void)patience_us;
}
