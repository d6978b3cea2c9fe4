// SPDX-License-Identifier: Apache-2.0
//
// Two ends of a connection on one loop: a client that stream_connect made and the server's side
// that a listener accepted, perhaps with a relay between them that lets through one byte a turn.
//
//      client <-> (relay) <-> server
//
// Each end sends `out` and collects what comes in `in`, as a stream's user would.

#ifndef TESTS_NET_HELP_ENDS_H
#define TESTS_NET_HELP_ENDS_H

#include <stdbool.h>

#include "proxy/net/listener.h"
#include "proxy/net/loop.h"
#include "proxy/net/stream.h"
#include "proxy/net/tls.h"

struct end {
    struct stream *stream;
    bool open;
    enum stream_status status; // the last that was not OK or WAIT
    char error[256];
    const uint8_t *out;
    size_t out_len;
    size_t sent;
    uint8_t *in;
    size_t in_capacity;
    size_t received;
    size_t read_bytes;  // most for one stream_read, 0: no bound
    bool single_read;   // one stream_read for each call of the handler
    bool reading_stops; // reads nothing, and does not watch for it
    bool late_reader;   // once open, reads only when called again
    unsigned calls;     // of the handler
};

struct meeting {
    struct loop *loop;
    struct listener *listener;
    struct tls_server *server_tls; // NULL: plain
    struct tls_client *client_tls;
    bool plain_allowed;
    struct end client;
    struct end server;
    bool relayed;
    struct stream *relay[2];
    bool relay_open;
    bool (*done)(const struct meeting *meeting);
    struct timer *deadline;
    struct timer *rested;
    unsigned turns;
};

enum meeting_kind { MEETING_PLAIN, MEETING_TLS };

// Ends that know and trust each other; certificates_make comes first.
void meeting_init(struct meeting *meeting, enum meeting_kind kind);
void meeting_fini(struct meeting *meeting);

// Connects the client to the listener, as `host`; or to any address.
void meeting_connect(struct meeting *meeting, const char *host);
void meeting_connect_to(struct meeting *meeting, const struct address *address);

// A socket connected to the listener, for who is no stream; the caller closes it.
int meeting_connect_raw(const struct meeting *meeting);

// Listens elsewhere than on 127.0.0.1.
void meeting_listen_on(struct meeting *meeting, const struct address *address, char *ret_error,
                       size_t error_capacity);

// Runs the loop until done, at the end of a turn; fails the test if that takes too long.
void meeting_run(struct meeting *meeting, bool (*done)(const struct meeting *meeting));

// Runs the loop for a while; returns in how many turns.
unsigned meeting_rest(struct meeting *meeting, int64_t rest_us);

bool meeting_is_open(const struct meeting *meeting);       // both ends shook hands
bool meeting_is_over(const struct meeting *meeting);       // either end closed or failed
bool meeting_is_over_twice(const struct meeting *meeting); // both did
bool meeting_has_all(const struct meeting *meeting); // each received all the other has to send

// What an end has to send from now on; borrowed.
void end_send(struct end *end, const void *bytes, size_t len);

// Room for what an end receives.
void end_expect(struct end *end, size_t capacity);

// Goes on reading, or stops it.
void end_read_on(struct end *end, bool on);

void end_free_stream(struct end *end);

// `len` bytes that look alike nowhere; the caller frees them.
uint8_t *bytes_make(size_t len, unsigned seed);

#endif
