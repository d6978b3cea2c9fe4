// SPDX-License-Identifier: Apache-2.0

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/net/help_certificates.h"
#include "tests/net/help_ends.h"

enum { REST_US = 50000, CALM_TURNS = 8, MEGABYTE = 1 << 20 };

static enum meeting_kind kind_of(void **state)
{
    return *(enum meeting_kind *)*state;
}

static void meeting_open(struct meeting *meeting, enum meeting_kind kind)
{
    meeting_init(meeting, kind);
    meeting_connect(meeting, "localhost");
    meeting_run(meeting, meeting_is_open);
}

// Both send what they have, both get it.
static void meeting_exchange(struct meeting *meeting, const void *from_client, size_t client_len,
                             const void *from_server, size_t server_len)
{
    end_expect(&meeting->server, client_len);
    end_expect(&meeting->client, server_len);
    end_send(&meeting->client, from_client, client_len);
    end_send(&meeting->server, from_server, server_len);
    meeting_run(meeting, meeting_has_all);
    assert_memory_equal(meeting->server.in, from_client, client_len);
    assert_memory_equal(meeting->client.in, from_server, server_len);
}

static void ping(void **state)
{
    struct meeting meeting;
    char text[64];
    struct address address;
    meeting_open(&meeting, kind_of(state));
    meeting_exchange(&meeting, "ping", 4, "pong!", 5);
    listener_address(meeting.listener, &address);
    address_format(&address, text, sizeof text);
    assert_string_equal(stream_peer(meeting.client.stream), text);
    assert_memory_equal(stream_peer(meeting.server.stream), "127.0.0.1:", 10);
    assert_int_equal(stream_is_tls(meeting.client.stream), kind_of(state) == MEETING_TLS);
    assert_int_equal(stream_is_tls(meeting.server.stream), kind_of(state) == MEETING_TLS);
    assert_string_equal(stream_error(meeting.client.stream), "");
    meeting_fini(&meeting);
}

static void big_transfers_both_ways(void **state)
{
    struct meeting meeting;
    uint8_t *up = bytes_make(9 * MEGABYTE + 1, 1);
    uint8_t *down = bytes_make(7 * MEGABYTE + 3, 2);
    meeting_open(&meeting, kind_of(state));
    meeting_exchange(&meeting, up, 9 * MEGABYTE + 1, down, 7 * MEGABYTE + 3);
    meeting_fini(&meeting);
    free(up);
    free(down);
}

static bool client_is_stuck(const struct meeting *meeting)
{
    return meeting->client.sent > 0 && meeting->client.sent < meeting->client.out_len;
}

static void peer_that_does_not_read_costs_nothing(void **state)
{
    struct meeting meeting;
    size_t len = 30 * MEGABYTE;
    uint8_t *up = bytes_make(len, 3);
    meeting_open(&meeting, kind_of(state));
    end_expect(&meeting.server, len);
    end_read_on(&meeting.server, false);
    end_send(&meeting.client, up, len);
    meeting_run(&meeting, client_is_stuck);
    meeting_rest(&meeting, REST_US); // until the socket takes no more
    assert_true(client_is_stuck(&meeting));
    assert_in_range(meeting_rest(&meeting, REST_US), 0, CALM_TURNS);
    end_read_on(&meeting.server, true);
    meeting_run(&meeting, meeting_has_all);
    assert_memory_equal(meeting.server.in, up, len);
    meeting_fini(&meeting);
    free(up);
}

static void byte_at_a_time(void **state)
{
    struct meeting meeting;
    uint8_t *up = bytes_make(300, 4);
    uint8_t *down = bytes_make(500, 5);
    meeting_init(&meeting, kind_of(state));
    meeting.relayed = true;
    meeting_connect(&meeting, "localhost");
    meeting_run(&meeting, meeting_is_open);
    meeting_exchange(&meeting, up, 300, down, 500);
    meeting_fini(&meeting);
    free(up);
    free(down);
}

// What TLS has taken from the socket is still told of.
static void little_room_for_reading(void **state)
{
    struct meeting meeting;
    uint8_t *up = bytes_make(5000, 6);
    meeting_open(&meeting, kind_of(state));
    meeting.server.single_read = true;
    meeting.server.read_bytes = 7;
    meeting_exchange(&meeting, up, 5000, "x", 1);
    assert_true(meeting.server.calls >= 5000 / 7);
    meeting_fini(&meeting);
    free(up);
}

static bool server_has_some(const struct meeting *meeting)
{
    return meeting->server.received > 0;
}

static void reading_stops_in_the_middle(void **state)
{
    struct meeting meeting;
    uint8_t *up = bytes_make(5000, 7);
    meeting_open(&meeting, kind_of(state));
    meeting.server.single_read = true;
    meeting.server.read_bytes = 10;
    end_expect(&meeting.server, 5000);
    end_send(&meeting.client, up, 5000);
    meeting_run(&meeting, server_has_some);
    end_read_on(&meeting.server, false);
    size_t received = meeting.server.received;
    unsigned calls = meeting.server.calls;
    assert_in_range(meeting_rest(&meeting, REST_US), 0, CALM_TURNS);
    assert_int_equal(meeting.server.received, received);
    assert_int_equal(meeting.server.calls, calls);
    end_read_on(&meeting.server, true);
    meeting_run(&meeting, meeting_has_all);
    assert_memory_equal(meeting.server.in, up, 5000);
    meeting_fini(&meeting);
    free(up);
}

// The end of the handshake and the first message come in one piece; who does not read at once is
// called for the message.
static void message_right_behind_the_handshake(void **state)
{
    struct meeting meeting;
    meeting_init(&meeting, kind_of(state));
    meeting.server.late_reader = true;
    end_expect(&meeting.server, 5);
    end_send(&meeting.client, "first", 5);
    meeting_connect(&meeting, "localhost");
    meeting_run(&meeting, meeting_has_all);
    assert_memory_equal(meeting.server.in, "first", 5);
    meeting_fini(&meeting);
}

static void idle_streams_do_not_wake_the_loop(void **state)
{
    struct meeting meeting;
    meeting_open(&meeting, kind_of(state));
    meeting_exchange(&meeting, "ping", 4, "pong", 4);
    unsigned calls = meeting.server.calls;
    assert_in_range(meeting_rest(&meeting, REST_US), 0, CALM_TURNS);
    assert_int_equal(meeting.server.calls, calls);
    meeting_fini(&meeting);
}

static void free_ends_the_other_in_order(void **state)
{
    struct meeting meeting;
    meeting_open(&meeting, kind_of(state));
    meeting_exchange(&meeting, "ping", 4, "pong", 4);
    end_free_stream(&meeting.client);
    meeting_run(&meeting, meeting_is_over);
    assert_int_equal(meeting.server.status, STREAM_CLOSED);
    assert_string_equal(meeting.server.error, "");
    // It goes on watching, and the loop sleeps all the same.
    stream_watch(meeting.server.stream, STREAM_READ);
    assert_in_range(meeting_rest(&meeting, REST_US), 0, CALM_TURNS);
    uint8_t byte;
    size_t n;
    assert_int_equal(stream_read(meeting.server.stream, &byte, 1, &n), STREAM_CLOSED);
    meeting_fini(&meeting);
}

static void last_words_are_read_before_the_end(void **state)
{
    struct meeting meeting;
    meeting_open(&meeting, kind_of(state));
    end_expect(&meeting.server, 9);
    size_t n;
    assert_int_equal(stream_write(meeting.client.stream, (const uint8_t *)"farewell!", 9, &n),
                     STREAM_OK);
    end_free_stream(&meeting.client);
    meeting_run(&meeting, meeting_is_over);
    assert_int_equal(meeting.server.status, STREAM_CLOSED);
    assert_int_equal(meeting.server.received, 9);
    assert_memory_equal(meeting.server.in, "farewell!", 9);
    meeting_fini(&meeting);
}

// Neither a signal nor a loop that spins.
static void writing_to_who_is_gone_fails(void **state)
{
    struct meeting meeting;
    uint8_t *up = bytes_make(MEGABYTE, 8);
    meeting_open(&meeting, kind_of(state));
    end_read_on(&meeting.client, false);
    end_free_stream(&meeting.server);
    for (int i = 0; i < 100 && meeting.client.status == STREAM_OK; i++) {
        end_send(&meeting.client, up, MEGABYTE);
        meeting_rest(&meeting, 1000);
    }
    assert_int_equal(meeting.client.status, STREAM_FAILED);
    assert_true(strcmp(meeting.client.error, "broken pipe") == 0 ||
                strcmp(meeting.client.error, "connection reset by peer") == 0);
    assert_in_range(meeting_rest(&meeting, REST_US), 0, CALM_TURNS);
    meeting_fini(&meeting);
    free(up);
}

struct leaver {
    struct meeting *meeting;
    unsigned calls;
};

static void leaver_ready(void *arg, unsigned directions)
{
    (void)directions;
    struct leaver *leaver = arg;
    uint8_t byte;
    size_t n;
    leaver->calls++;
    assert_int_equal(stream_read(leaver->meeting->server.stream, &byte, 1, &n), STREAM_OK);
    end_free_stream(&leaver->meeting->server);
}

// With bytes left to read, in TLS and in the socket.
static void handler_frees_its_stream(void **state)
{
    struct meeting meeting;
    meeting_open(&meeting, kind_of(state));
    struct leaver leaver = {.meeting = &meeting};
    stream_detach(meeting.server.stream);
    stream_attach(meeting.server.stream, meeting.loop,
                  (struct stream_handler){leaver_ready, &leaver});
    end_send(&meeting.client, "more than one", 13);
    meeting_run(&meeting, meeting_is_over);
    assert_int_not_equal(meeting.client.status, STREAM_OK);
    assert_int_equal(leaver.calls, 1);
    meeting_fini(&meeting);
}

static bool server_has_sent(const struct meeting *meeting)
{
    return meeting->server.sent == meeting->server.out_len;
}

static bool client_has_sent(const struct meeting *meeting)
{
    return meeting->client.sent == meeting->client.out_len;
}

static void quiet_is_who_said_nothing(void **state)
{
    struct meeting meeting;
    meeting_open(&meeting, kind_of(state));
    // In TLS a session ticket may wait to be read: that is no word of the peer.
    end_read_on(&meeting.client, false);
    meeting_rest(&meeting, 1000);
    assert_true(stream_is_quiet(meeting.client.stream));
    assert_true(stream_is_quiet(meeting.client.stream));
    end_send(&meeting.server, "unasked", 7);
    meeting_run(&meeting, server_has_sent);
    assert_false(stream_is_quiet(meeting.client.stream));
    end_expect(&meeting.client, 7);
    end_read_on(&meeting.client, true);
    meeting_run(&meeting, meeting_has_all);
    assert_true(stream_is_quiet(meeting.client.stream));
    end_read_on(&meeting.client, false);
    end_free_stream(&meeting.server);
    assert_false(stream_is_quiet(meeting.client.stream));
    meeting_fini(&meeting);
}

static void detached_stream_keeps_what_came(void **state)
{
    struct meeting meeting;
    meeting_open(&meeting, kind_of(state));
    struct stream *server = meeting.server.stream;
    uint8_t bytes[16];
    size_t n;
    end_send(&meeting.client, "one two", 7);
    end_read_on(&meeting.server, false);
    meeting_run(&meeting, client_has_sent);
    assert_int_equal(stream_read(server, bytes, 4, &n), STREAM_OK);
    assert_int_equal(n, 4);
    stream_watch(server, STREAM_READ);
    stream_detach(server);
    assert_in_range(meeting_rest(&meeting, REST_US), 0, CALM_TURNS);
    struct leaver leaver = {.meeting = &meeting};
    stream_attach(server, meeting.loop, (struct stream_handler){leaver_ready, &leaver});
    meeting_run(&meeting, meeting_is_over);
    assert_int_equal(leaver.calls, 1);
    meeting_fini(&meeting);
}

static bool client_is_over(const struct meeting *meeting)
{
    return meeting->client.status != STREAM_OK;
}

static void connect_that_fails_says_why(void **state)
{
    static const struct {
        const char *host;
        const char *error;
    } cases[] = {
        {"127.0.0.1", "connection refused"},
        {"/nowhere/at/all.sock", "no such file or directory"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct meeting meeting;
        struct address address;
        const char *words;
        meeting_open(&meeting, kind_of(state)); // for its handlers
        end_free_stream(&meeting.client);
        meeting.client.open = false;
        assert_int_equal(address_resolve(cases[i].host, 1, &address, 1, &words), 1);
        struct stream *probe = stream_connect(meeting.loop, &address, meeting.client_tls,
                                              "localhost", (struct stream_handler){0});
        stream_free(probe); // at once
        meeting.client.status = STREAM_OK;
        meeting_connect_to(&meeting, &address);
        meeting_run(&meeting, client_is_over);
        assert_int_equal(meeting.client.status, STREAM_FAILED);
        assert_string_equal(meeting.client.error, cases[i].error);
        assert_int_equal(stream_handshake(meeting.client.stream), STREAM_FAILED);
        assert_in_range(meeting_rest(&meeting, REST_US), 0, CALM_TURNS);
        meeting_fini(&meeting);
    }
}

// A client that is a bare socket.
static void raw_send(int fd, const void *bytes, size_t len)
{
    assert_int_equal(send(fd, bytes, len, MSG_NOSIGNAL), len);
}

static void raw_reset(int fd)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
    close(fd);
}

static void half_close_leaves_the_other_half(void **state)
{
    (void)state;
    struct meeting meeting;
    char answer[16] = "";
    meeting_init(&meeting, MEETING_PLAIN);
    end_expect(&meeting.server, 8);
    int fd = meeting_connect_raw(&meeting);
    raw_send(fd, "question", 8);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    meeting_run(&meeting, meeting_is_over);
    assert_int_equal(meeting.server.status, STREAM_CLOSED);
    assert_memory_equal(meeting.server.in, "question", 8);
    size_t n;
    assert_int_equal(stream_write(meeting.server.stream, (const uint8_t *)"answer", 6, &n),
                     STREAM_OK);
    assert_int_equal(recv(fd, answer, sizeof answer, 0), 6);
    assert_string_equal(answer, "answer");
    close(fd);
    meeting_fini(&meeting);
}

static void reset_is_a_failure(void **state)
{
    (void)state;
    struct meeting meeting;
    meeting_init(&meeting, MEETING_PLAIN);
    end_expect(&meeting.server, 8);
    int fd = meeting_connect_raw(&meeting);
    raw_send(fd, "question", 8);
    meeting_run(&meeting, server_has_some);
    raw_reset(fd);
    meeting_run(&meeting, meeting_is_over);
    assert_int_equal(meeting.server.status, STREAM_FAILED);
    assert_string_equal(meeting.server.error, "connection reset by peer");
    meeting_fini(&meeting);
}

static bool server_is_there(const struct meeting *meeting)
{
    return meeting->server.stream != NULL;
}

// Plain and TLS, sniffing and not.
static void who_says_nothing_costs_nothing(void **state)
{
    struct meeting meeting;
    for (int sniffs = 0; sniffs < 2; sniffs++) {
        meeting_init(&meeting, kind_of(state));
        meeting.plain_allowed = sniffs == 1;
        int fd = meeting_connect_raw(&meeting);
        meeting_run(&meeting, server_is_there);
        assert_in_range(meeting_rest(&meeting, REST_US), 0, CALM_TURNS);
        close(fd);
        meeting_run(&meeting, meeting_is_over);
        assert_int_equal(meeting.server.status, STREAM_CLOSED);
        assert_in_range(meeting_rest(&meeting, REST_US), 0, CALM_TURNS);
        meeting_fini(&meeting);
    }
}

static void one_port_takes_plain_and_tls(void **state)
{
    for (int relayed = 0; relayed < 2; relayed++) {
        struct meeting meeting;
        uint8_t *up = bytes_make(400, 9);
        up[0] = 'x';
        meeting_init(&meeting, MEETING_TLS);
        meeting.plain_allowed = true;
        meeting.relayed = relayed == 1;
        if (kind_of(state) == MEETING_PLAIN) {
            tls_client_free(meeting.client_tls);
            meeting.client_tls = NULL;
        }
        end_expect(&meeting.server, 400);
        end_send(&meeting.client, up, 400);
        meeting_connect(&meeting, "localhost");
        meeting_run(&meeting, meeting_has_all);
        assert_memory_equal(meeting.server.in, up, 400);
        assert_int_equal(stream_is_tls(meeting.server.stream), kind_of(state) == MEETING_TLS);
        meeting_exchange(&meeting, "ping", 4, "pong", 4);
        meeting_fini(&meeting);
        free(up);
    }
}

static bool server_has_as_much(const struct meeting *meeting)
{
    return meeting->server.received == meeting->server.in_capacity;
}

// Messages whose length begins as a TLS record does, and ones shorter than what is looked at.
static void plain_that_looks_like_tls_is_plain(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
    } cases[] = {
        {"\x16\x01\x00\x00", 278},
        {"\x16\x03\x00\x00", 790},
        {"\x16\x03\x05\x00", 400},
        {"\x16\x02\x01\x00", 400},
        {"x", 1},
        {"\x15x", 2},
        {"\x16\x03\x00", 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int relayed = 0; relayed < 2; relayed++) {
            struct meeting meeting;
            uint8_t message[800] = {0};
            memcpy(message, cases[i].bytes, cases[i].len < 4 ? cases[i].len : 4);
            meeting_init(&meeting, MEETING_TLS);
            meeting.plain_allowed = true;
            meeting.server.late_reader = true;
            meeting.relayed = relayed == 1;
            end_expect(&meeting.server, cases[i].len);
            int fd = meeting_connect_raw(&meeting);
            raw_send(fd, message, cases[i].len);
            meeting_run(&meeting, server_has_as_much);
            assert_memory_equal(meeting.server.in, message, cases[i].len);
            assert_false(stream_is_tls(meeting.server.stream));
            close(fd);
            meeting_fini(&meeting);
        }
    }
}

static void who_leaves_after_half_a_prefix_is_gone(void **state)
{
    (void)state;
    struct meeting meeting;
    meeting_init(&meeting, MEETING_TLS);
    meeting.plain_allowed = true;
    int fd = meeting_connect_raw(&meeting);
    raw_send(fd, "\x16\x03", 2);
    meeting_run(&meeting, server_is_there);
    assert_in_range(meeting_rest(&meeting, REST_US), 0, CALM_TURNS);
    close(fd);
    meeting_run(&meeting, meeting_is_over);
    assert_int_equal(meeting.server.status, STREAM_CLOSED);
    meeting_fini(&meeting);
}

static void unix_socket_carries_tls_too(void **state)
{
    struct meeting meeting;
    char path[] = "/tmp/net-test-XXXXXX.sock";
    struct address address;
    const char *words;
    char error[256] = "";
    close(mkstemps(path, 5));
    assert_int_equal(unlink(path), 0);
    meeting_init(&meeting, kind_of(state));
    assert_int_equal(address_resolve(path, 0, &address, 1, &words), 1);
    meeting_listen_on(&meeting, &address, error, sizeof error);
    assert_string_equal(error, "");
    meeting_connect(&meeting, "localhost");
    meeting_run(&meeting, meeting_is_open);
    meeting_exchange(&meeting, "ping", 4, "pong", 4);
    assert_string_equal(stream_peer(meeting.client.stream), path);
    assert_string_equal(stream_peer(meeting.server.stream), "unix");
    meeting_fini(&meeting);
}

static enum meeting_kind plain = MEETING_PLAIN;
static enum meeting_kind tls = MEETING_TLS;

#define BOTH(test)                                                                                 \
    {#test ", plain", test, NULL, NULL, &plain},                                                   \
    {                                                                                              \
#test ", TLS", test, NULL, NULL, &tls                                                      \
    }

int main(void)
{
    alarm(300);
    const struct CMUnitTest tests[] = {
        BOTH(ping),
        BOTH(big_transfers_both_ways),
        BOTH(peer_that_does_not_read_costs_nothing),
        BOTH(byte_at_a_time),
        BOTH(little_room_for_reading),
        BOTH(reading_stops_in_the_middle),
        BOTH(message_right_behind_the_handshake),
        BOTH(idle_streams_do_not_wake_the_loop),
        BOTH(free_ends_the_other_in_order),
        BOTH(last_words_are_read_before_the_end),
        BOTH(writing_to_who_is_gone_fails),
        BOTH(handler_frees_its_stream),
        BOTH(quiet_is_who_said_nothing),
        BOTH(detached_stream_keeps_what_came),
        BOTH(connect_that_fails_says_why),
        BOTH(who_says_nothing_costs_nothing),
        BOTH(one_port_takes_plain_and_tls),
        BOTH(unix_socket_carries_tls_too),
        cmocka_unit_test(half_close_leaves_the_other_half),
        cmocka_unit_test(reset_is_a_failure),
        cmocka_unit_test(plain_that_looks_like_tls_is_plain),
        cmocka_unit_test(who_leaves_after_half_a_prefix_is_gone),
    };
    return cmocka_run_group_tests(tests, certificates_make, certificates_remove);
}
