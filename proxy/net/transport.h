// SPDX-License-Identifier: Apache-2.0
//
// How a stream's bytes travel once its socket is connected: plain or TLS. For net/ only; knows no
// loop. Each call says what it waits for, and the stream turns that into what it watches.

#ifndef PROXY_NET_TRANSPORT_H
#define PROXY_NET_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tls_client;
struct ssl_st;
struct ssl_ctx_st;

enum transport_status {
    TRANSPORT_DONE,
    TRANSPORT_WANT_READ,  // try again when the socket is readable
    TRANSPORT_WANT_WRITE, // try again when it is writable
    TRANSPORT_CLOSED,     // the peer ended it
    TRANSPORT_FAILED,     // transport->error tells
};

struct transport;

struct transport_kind {
    // DONE: *ret_len > 0; less than capacity: the socket is drained.
    enum transport_status (*read)(struct transport *transport, uint8_t *at, size_t capacity,
                                  size_t *ret_len);
    // DONE: *ret_len > 0; less than len: the socket is full.
    enum transport_status (*write)(struct transport *transport, const uint8_t *at, size_t len,
                                   size_t *ret_len);
    // Whether a read may get something although the socket is quiet.
    bool (*has_pending)(const struct transport *transport);
    bool (*is_quiet)(struct transport *transport);
    // Says goodbye if that does not wait, and frees what is the kind's. The socket stays open.
    void (*close)(struct transport *transport);
};

// What was read to tell plain from TLS; neither needs more.
enum { SNIFF_BYTES = 3 };

// All-zero but for kind and fd is a plain one. Must not move in memory once it is TLS.
struct transport {
    const struct transport_kind *kind;
    int fd;
    char *error;                  // owned, NULL: none
    uint8_t sniffed[SNIFF_BYTES]; // come before what is in the socket
    uint8_t sniffed_len;
    // TLS only:
    struct ssl_st *ssl;
    char *host;                  // that its certificate must be for, owned, NULL: any
    enum transport_status ended; // DONE: not yet; CLOSED or FAILED: what reads tell from now on
    int io_errno;                // of the last socket call; 0: none or end of stream
    bool drained;                // the last read took all that the socket had
    size_t retry_len; // bytes already in a record that is not sent whole; they must come again
};

extern const struct transport_kind transport_plain;
extern const struct transport_kind transport_sniffed; // plain, as long as sniffed_len > 0
extern const struct transport_kind transport_tls;

// Takes up to capacity of the sniffed bytes; 0 if there are none left.
size_t transport_take_sniffed(struct transport *transport, void *at, size_t capacity);

// Sets the error; returns TRANSPORT_FAILED.
enum transport_status transport_fail(struct transport *transport, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
enum transport_status transport_fail_errno(struct transport *transport, int error);

// Makes a plain one TLS, on the server's side or the client's (host as in stream_connect).
void transport_tls_accept(struct transport *transport, struct ssl_ctx_st *context);
void transport_tls_connect(struct transport *transport, struct tls_client *tls, const char *host);

// Never TRANSPORT_CLOSED: a peer that leaves during the handshake is a failure.
enum transport_status transport_tls_handshake(struct transport *transport);

// As stream_subject has it.
char *transport_tls_subject(const struct transport *transport);

#endif
