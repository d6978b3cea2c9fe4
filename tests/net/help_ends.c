// SPDX-License-Identifier: Apache-2.0

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/net/help_ends.h"

#include <stdio.h>

#include "proxy/mem.h"
#include "tests/net/help_certificates.h"

enum { DEADLINE_US = 30000000, READ_BYTES = 65536, WRITE_BYTES = 50000 };

static void end_over(struct end *end, enum stream_status status)
{
    end->status = status;
    snprintf(end->error, sizeof end->error, "%s", stream_error(end->stream));
}

static void end_watch(struct end *end)
{
    bool writes = end->sent < end->out_len;
    stream_watch(end->stream, (end->reading_stops ? 0 : STREAM_READ) | (writes ? STREAM_WRITE : 0));
}

static bool end_shake(struct end *end)
{
    enum stream_status status = stream_handshake(end->stream);
    end->open = status == STREAM_OK;
    if (status == STREAM_CLOSED || status == STREAM_FAILED) {
        end_over(end, status);
    }
    return end->open;
}

// What is offered again lies elsewhere each time, as in a buffer that was compacted.
static void end_write(struct end *end)
{
    static uint8_t buffers[2][WRITE_BYTES];
    static unsigned turn;
    enum stream_status status = STREAM_OK;
    while (status == STREAM_OK && end->sent < end->out_len) {
        uint8_t *buffer = buffers[turn++ % 2];
        size_t left = end->out_len - end->sent;
        size_t len = left < WRITE_BYTES ? left : WRITE_BYTES;
        size_t n = 0;
        memcpy(buffer, end->out + end->sent, len);
        status = stream_write(end->stream, buffer, len, &n);
        memset(buffer, 0, len);
        assert_true(status != STREAM_OK || (n > 0 && n <= len));
        end->sent += n;
        if (n < len) {
            break;
        }
    }
    if (status == STREAM_FAILED) {
        end_over(end, status);
    }
}

static void end_read(struct end *end)
{
    static uint8_t buffer[READ_BYTES];
    size_t capacity = end->read_bytes != 0 ? end->read_bytes : sizeof buffer;
    size_t n = 0;
    enum stream_status status;
    do {
        n = 0;
        status = stream_read(end->stream, buffer, capacity, &n);
        if (status == STREAM_OK) {
            assert_in_range(n, 1, capacity);
            assert_true(end->received + n <= end->in_capacity);
            memcpy(end->in + end->received, buffer, n);
            end->received += n;
        }
    } while (status == STREAM_OK && n == capacity && !end->single_read);
    if (status == STREAM_CLOSED || status == STREAM_FAILED) {
        end_over(end, status);
    }
}

static void end_ready(void *arg, unsigned directions)
{
    struct end *end = arg;
    end->calls++;
    assert_int_not_equal(directions, 0);
    if (!end->open) {
        if (!end_shake(end)) {
            return;
        }
        if (end->late_reader) {
            stream_watch(end->stream, STREAM_READ);
            return;
        }
    }
    end_write(end);
    if (!end->reading_stops && end->status == STREAM_OK) {
        end_read(end);
    }
    if (end->status != STREAM_FAILED) {
        end_watch(end);
    }
}

static struct stream_handler end_handler(struct end *end)
{
    return (struct stream_handler){end_ready, end};
}

// The relay reads a byte here and writes it there; what is not taken at once fails the test, which
// a socket's buffer does not let happen.
static void relay_ready(void *arg, unsigned directions)
{
    (void)directions;
    struct meeting *meeting = arg;
    if (!meeting->relay_open) {
        if (stream_handshake(meeting->relay[1]) != STREAM_OK) {
            return;
        }
        meeting->relay_open = true;
        assert_int_equal(stream_handshake(meeting->relay[0]), STREAM_OK);
        stream_watch(meeting->relay[0], STREAM_READ);
        stream_watch(meeting->relay[1], STREAM_READ);
    }
    for (int from = 0; from < 2; from++) {
        uint8_t byte;
        size_t n;
        if (stream_read(meeting->relay[from], &byte, 1, &n) == STREAM_OK) {
            assert_int_equal(stream_write(meeting->relay[1 - from], &byte, 1, &n), STREAM_OK);
        }
    }
}

static void meeting_connect_to_listener(struct meeting *meeting, struct tls_client *tls,
                                        const char *host, struct stream_handler handler,
                                        struct stream **ret_stream)
{
    struct address address;
    listener_address(meeting->listener, &address);
    *ret_stream = stream_connect(meeting->loop, &address, tls, host, handler);
}

static void meeting_accepted(void *arg, int fd)
{
    struct meeting *meeting = arg;
    assert_true(fd >= 0);
    struct stream_handler relay = {relay_ready, meeting};
    if (meeting->relayed && meeting->relay[0] == NULL) {
        meeting->relay[0] = stream_accept(meeting->loop, fd, NULL, true, relay);
        stream_watch(meeting->relay[0], 0);
        meeting_connect_to_listener(meeting, NULL, NULL, relay, &meeting->relay[1]);
        return;
    }
    assert_null(meeting->server.stream);
    meeting->server.stream = stream_accept(meeting->loop, fd, meeting->server_tls,
                                           meeting->plain_allowed, end_handler(&meeting->server));
}

static void meeting_late(void *arg)
{
    struct meeting *meeting = arg;
    fail_msg("too late: client %s %d \"%s\" sent %zu received %zu, "
             "server %s %d \"%s\" sent %zu received %zu",
             meeting->client.open ? "open" : "-", (int)meeting->client.status,
             meeting->client.error, meeting->client.sent, meeting->client.received,
             meeting->server.open ? "open" : "-", (int)meeting->server.status,
             meeting->server.error, meeting->server.sent, meeting->server.received);
}

static void meeting_turn_ended(void *arg)
{
    struct meeting *meeting = arg;
    meeting->turns++;
    if (meeting->done != NULL && meeting->done(meeting)) {
        meeting->done = NULL;
        loop_stop(meeting->loop);
    }
}

static void meeting_trust(struct meeting *meeting)
{
    char error[256] = "";
    struct tls_client_options options = {.ca_file = certificates_path("ca.pem")};
    meeting->server_tls = tls_server_new(certificates_path("server.pem"), NULL, TLS_CLIENTS_NONE,
                                         error, sizeof error);
    meeting->client_tls = tls_client_new(&options, error, sizeof error);
    assert_string_equal(error, "");
}

static void meeting_rested(void *arg)
{
    struct meeting *meeting = arg;
    loop_stop(meeting->loop);
}

void meeting_init(struct meeting *meeting, enum meeting_kind kind)
{
    char error[256];
    const char *words;
    struct address address;
    *meeting = (struct meeting){.loop = loop_new()};
    assert_int_equal(address_resolve("127.0.0.1", 0, &address, 1, &words), 1);
    meeting->listener =
        listener_open(meeting->loop, &address, meeting_accepted, meeting, error, sizeof error);
    assert_non_null(meeting->listener);
    meeting->deadline = timer_new(meeting->loop, meeting_late, meeting);
    meeting->rested = timer_new(meeting->loop, meeting_rested, meeting);
    loop_on_turn_end(meeting->loop, meeting_turn_ended, meeting);
    if (kind == MEETING_TLS) {
        meeting_trust(meeting);
    }
}

void meeting_fini(struct meeting *meeting)
{
    end_free_stream(&meeting->client);
    end_free_stream(&meeting->server);
    free(meeting->client.in);
    free(meeting->server.in);
    stream_free(meeting->relay[0]);
    stream_free(meeting->relay[1]);
    timer_free(meeting->deadline);
    timer_free(meeting->rested);
    listener_free(meeting->listener);
    loop_free(meeting->loop);
    tls_server_free(meeting->server_tls);
    tls_client_free(meeting->client_tls);
}

void meeting_connect(struct meeting *meeting, const char *host)
{
    meeting_connect_to_listener(meeting, meeting->client_tls, host, end_handler(&meeting->client),
                                &meeting->client.stream);
}

void meeting_connect_to(struct meeting *meeting, const struct address *address)
{
    meeting->client.stream = stream_connect(meeting->loop, address, meeting->client_tls,
                                            "localhost", end_handler(&meeting->client));
}

int meeting_connect_raw(const struct meeting *meeting)
{
    struct address address;
    listener_address(meeting->listener, &address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address.storage, address.len), 0);
    return fd;
}

void meeting_listen_on(struct meeting *meeting, const struct address *address, char *ret_error,
                       size_t error_capacity)
{
    listener_free(meeting->listener);
    meeting->listener =
        listener_open(meeting->loop, address, meeting_accepted, meeting, ret_error, error_capacity);
}

void meeting_run(struct meeting *meeting, bool (*done)(const struct meeting *meeting))
{
    meeting->done = done;
    timer_set(meeting->deadline, loop_now_us(meeting->loop) + DEADLINE_US);
    loop_run(meeting->loop);
    timer_set(meeting->deadline, INT64_MAX);
}

bool meeting_is_open(const struct meeting *meeting)
{
    return meeting->client.open && meeting->server.open;
}

unsigned meeting_rest(struct meeting *meeting, int64_t rest_us)
{
    unsigned before = meeting->turns;
    timer_set(meeting->rested, loop_now_us(meeting->loop) + rest_us);
    loop_run(meeting->loop);
    return meeting->turns - before;
}

static bool end_is_over(const struct end *end)
{
    return end->status == STREAM_CLOSED || end->status == STREAM_FAILED;
}

bool meeting_is_over(const struct meeting *meeting)
{
    return end_is_over(&meeting->client) || end_is_over(&meeting->server);
}

bool meeting_is_over_twice(const struct meeting *meeting)
{
    return end_is_over(&meeting->client) && end_is_over(&meeting->server);
}

bool meeting_has_all(const struct meeting *meeting)
{
    return meeting->client.received == meeting->server.out_len &&
           meeting->server.received == meeting->client.out_len;
}

void end_send(struct end *end, const void *bytes, size_t len)
{
    end->out = bytes;
    end->out_len = len;
    end->sent = 0;
    if (end->open) {
        end_watch(end);
    }
}

void end_expect(struct end *end, size_t capacity)
{
    free(end->in);
    end->in = xmalloc(capacity);
    end->in_capacity = capacity;
    end->received = 0;
}

void end_read_on(struct end *end, bool on)
{
    end->reading_stops = !on;
    if (end->open) {
        end_watch(end);
    }
}

void end_free_stream(struct end *end)
{
    stream_free(end->stream);
    end->stream = NULL;
}

uint8_t *bytes_make(size_t len, unsigned seed)
{
    uint8_t *bytes = xmalloc(len);
    uint32_t state = seed * 2654435761u + 1;
    for (size_t i = 0; i < len; i++) {
        state = state * 1664525u + 1013904223u;
        bytes[i] = (uint8_t)(state >> 24);
    }
    return bytes;
}
