// SPDX-License-Identifier: Apache-2.0
//
// bench_storm: N connections that all come at once, as after a deployment of an app: TLS if asked
// for, hello, and then they stay. Says how many were answered and how long it took, and ends when
// its standard input does.
//
//      bench_storm --port=27017 --clients=5000 --tls
//      {"served": 5000, "failed": 0, "seconds": 4.210}

#include "bench.h"
#include "loadgen_wire.h"

#include <errno.h>
#include <getopt.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, READ_BYTES = 4096 };

struct guest {
    int fd;
    SSL *ssl; // NULL: plain
    bool greeted;
    bool settled; // served or failed
};

struct storm {
    long clients;
    uint16_t port;
    SSL_CTX *tls;
    int epoll_fd;
    struct guest *guests;
    long served;
    long failed;
    struct loadgen_message hello;
};

static void settle(struct storm *storm, struct guest *guest, bool served)
{
    guest->settled = true;
    storm->served += served;
    storm->failed += !served;
    if (epoll_ctl(storm->epoll_fd, EPOLL_CTL_DEL, guest->fd, NULL) != 0)
        bench_die("epoll_ctl");
}

// Goes on with the handshake. False: not yet, or it has failed.
static bool is_secured(struct storm *storm, struct guest *guest)
{
    if (!guest->ssl || SSL_is_init_finished(guest->ssl))
        return true;
    int result = SSL_do_handshake(guest->ssl);
    if (result == 1)
        return true;
    int error = SSL_get_error(guest->ssl, result);
    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
        settle(storm, guest, false);
    return false;
}

static bool send_hello(const struct storm *storm, struct guest *guest)
{
    int length = (int)storm->hello.length;
    guest->greeted = true;
    return guest->ssl ? SSL_write(guest->ssl, storm->hello.bytes, length) == length
                      : send(guest->fd, storm->hello.bytes, storm->hello.length, 0) == length;
}

// The reply to hello comes in one piece. 0: not yet; below: the other side has gone.
static int read_reply(struct guest *guest, uint8_t *at)
{
    if (guest->ssl) {
        int length = SSL_read(guest->ssl, at, READ_BYTES);
        return length > 0                                                 ? length
               : SSL_get_error(guest->ssl, length) == SSL_ERROR_WANT_READ ? 0
                                                                          : -1;
    }
    ssize_t length = recv(guest->fd, at, READ_BYTES, 0);
    return length > 0 ? (int)length : length < 0 && errno == EAGAIN ? 0 : -1;
}

static void go_on(struct storm *storm, struct guest *guest)
{
    uint8_t reply[READ_BYTES];
    if (guest->settled || !is_secured(storm, guest))
        return;
    if (!guest->greeted && !send_hello(storm, guest)) {
        settle(storm, guest, false);
        return;
    }
    int length = read_reply(guest, reply);
    if (length != 0)
        settle(storm, guest,
               length >= WIRE_HEADER_BYTES &&
                   loadgen_read_reply(reply, (size_t)length).kind == REPLY_OK);
}

static void knock(struct storm *storm, struct guest *guest)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = guest};
    guest->fd = bench_connect(storm->port, 1);
    if (guest->fd < 0)
        bench_die("connect");
    if (storm->tls) {
        guest->ssl = SSL_new(storm->tls);
        if (!guest->ssl || SSL_set_fd(guest->ssl, guest->fd) != 1)
            bench_die("no TLS");
        SSL_set_connect_state(guest->ssl);
    }
    if (epoll_ctl(storm->epoll_fd, EPOLL_CTL_ADD, guest->fd, &event) != 0)
        bench_die("epoll_ctl");
}

static void take_events(struct storm *storm)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(storm->epoll_fd, events, EVENTS, 1000);
    for (int i = 0; i < count; i++) {
        struct guest *guest = events[i].data.ptr;
        if (!guest->settled && (events[i].events & (EPOLLERR | EPOLLHUP)))
            settle(storm, guest, false);
        else
            go_on(storm, guest);
    }
}

static void read_options(struct storm *storm, int argc, char **argv)
{
    static const struct option options[] = {{"port", required_argument, NULL, 'p'},
                                            {"clients", required_argument, NULL, 'c'},
                                            {"tls", no_argument, NULL, 't'},
                                            {NULL, 0, NULL, 0}};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'p')
            storm->port = (uint16_t)bench_number("port", optarg, 1, 65535);
        else if (option == 'c')
            storm->clients = bench_number("clients", optarg, 1, 100000);
        else if (option == 't')
            storm->tls = SSL_CTX_new(TLS_client_method());
        else
            exit(2);
    }
    if (!storm->port || !storm->clients)
        bench_die("--port and --clients must be given");
}

int main(int argc, char **argv)
{
    struct storm storm = {0};
    bench_start();
    read_options(&storm, argc, argv);
    loadgen_make_hello(&storm.hello);
    storm.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    storm.guests = bench_malloc((size_t)storm.clients * sizeof *storm.guests);
    memset(storm.guests, 0, (size_t)storm.clients * sizeof *storm.guests);
    int64_t begun_ns = bench_now_ns();
    for (long i = 0; i < storm.clients; i++)
        knock(&storm, &storm.guests[i]);
    while (storm.served + storm.failed < storm.clients)
        take_events(&storm);
    double seconds = (double)(bench_now_ns() - begun_ns) / BENCH_NS_PER_S;
    printf("{\"served\": %ld, \"failed\": %ld, \"seconds\": %.3f}\n", storm.served, storm.failed,
           seconds);
    fflush(stdout);
    while (getchar() != EOF) {
    }
    return 0;
}
