// SPDX-License-Identifier: Apache-2.0
//
// A connection as a stream of bytes, plain or TLS, never blocking.
//
// Each call says what came of it; STREAM_WAIT means: the handler will be called when it is worth
// trying again, if stream_watch asked for that direction. Which way TLS itself needs the socket is
// the stream's own affair. A stream belongs to one loop at a time; stream_detach and stream_attach
// carry it from one to another.

#ifndef PROXY_NET_STREAM_H
#define PROXY_NET_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proxy/net/address.h"
#include "proxy/net/loop.h"

struct stream;
struct tls_server;
struct tls_client;

// After CLOSED (the peer ended its side, in TLS with or without a goodbye) there is nothing to read
// any more; what is written may still arrive. After FAILED (stream_error tells) the stream is of no
// use any more. The handler is not called for what is over.
enum stream_status { STREAM_OK, STREAM_WAIT, STREAM_CLOSED, STREAM_FAILED };

enum stream_direction { STREAM_READ = 1, STREAM_WRITE = 2 };

// Called with the directions (of those watched) that are worth trying. It may free the stream.
struct stream_handler {
    void (*ready)(void *arg, unsigned directions);
    void *arg;
};

// A stream for an accepted socket (non-blocking), which it owns from now on. tls NULL: plain.
// `plain_allowed`: the first bytes tell whether the client speaks TLS. tls may be freed while
// streams made with it live on.
struct stream *stream_accept(struct loop *loop, int fd, struct tls_server *tls, bool plain_allowed,
                             struct stream_handler handler);

// Begins to connect. tls NULL: plain; else `host` is sent as SNI and must be in the certificate.
// `host` is copied, `tls` used in this call only. Never NULL: a connect that fails at once is told
// by stream_handshake.
struct stream *stream_connect(struct loop *loop, const struct address *address,
                              struct tls_client *tls, const char *host,
                              struct stream_handler handler);

// Closes the socket and frees the stream; no handler is called after. TLS says goodbye if it can
// without waiting.
void stream_free(struct stream *stream);

// Goes on connecting and shaking hands until STREAM_OK: only then may be read and written. Watch
// both directions meanwhile. STREAM_CLOSED: the peer left before its first byte.
enum stream_status stream_handshake(struct stream *stream) __attribute__((warn_unused_result));

// Reads up to `capacity` (>0) bytes. STREAM_OK: *ret_len > 0; if *ret_len < capacity there is
// nothing more for now (the handler tells when there is).
enum stream_status stream_read(struct stream *stream, uint8_t *at, size_t capacity, size_t *ret_len)
    __attribute__((warn_unused_result));

// Writes up to `len` (>0) bytes. STREAM_OK: *ret_len > 0; if *ret_len < len nothing more fits for
// now (the handler tells when it does). What was not taken must be offered again, all of it: TLS
// may have put it into a record already.
enum stream_status stream_write(struct stream *stream, const uint8_t *at, size_t len,
                                size_t *ret_len) __attribute__((warn_unused_result));

// Which directions the handler is called for (enum stream_direction, or'ed; 0: none). Starts with
// both. Cheap when nothing changes.
void stream_watch(struct stream *stream, unsigned directions);

// Whether an idle stream is still good: false if the peer closed it or sent something unasked. One
// system call, unless TLS has news of its own to take in.
bool stream_is_quiet(struct stream *stream);

// Takes the stream off its loop (on the loop's thread); stream_attach puts it on another (on that
// one's thread) with a new handler, watching what it did.
void stream_detach(struct stream *stream);
void stream_attach(struct stream *stream, struct loop *loop, struct stream_handler handler);

// Why it failed, in words for people ("certificate has expired", "connection refused"). "" if it
// did not fail. Borrowed until the stream is freed.
const char *stream_error(const struct stream *stream);

// The peer's address as text ("127.0.0.1:50123", "unix"; of a server on a Unix socket its path).
// Borrowed likewise.
const char *stream_peer(const struct stream *stream);

// The subject of the certificate that the peer has shown, and that was verified, as RFC 2253 has
// it; NULL if there is none. The caller frees it.
char *stream_subject(const struct stream *stream);

// Settled once the handshake is done.
bool stream_is_tls(const struct stream *stream);

#endif
