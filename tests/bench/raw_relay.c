// SPDX-License-Identifier: Apache-2.0
//
// bench_relay: the barest relay, the limit of what a proxy in one thread can do.
//
//   client <---> side ----peer---- side <---> upstream      one upstream per client, one epoll loop
//
// Two reads and two writes per operation and a share of a wait, no look at the bytes, no clock, no
// pool. An end that goes away takes its peer along. Invariant: a side with unsent bytes is waited
// on for writing, and its peer is not read.

#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { EVENTS = 256, BUFFER_BYTES = 64 * 1024 };

struct side {
    int fd;
    bool closed;
    struct side *peer;
    uint8_t *unsent;
    size_t unsent_bytes;
    struct side *next_closed;
};

static int epoll_fd;
static struct side *closed_sides;
static uint8_t buffer[BUFFER_BYTES];

static void side_watch(struct side *s, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = s};
    if (epoll_ctl(epoll_fd, operation, s->fd, &event) != 0)
        bench_die("epoll_ctl");
}

static struct side *side_new(int fd)
{
    struct side *s = bench_malloc(sizeof *s);
    *s = (struct side){.fd = fd};
    side_watch(s, EPOLL_CTL_ADD, EPOLLIN);
    return s;
}

// The memory goes after the batch of events, which may still name this side.
static void side_close(struct side *s)
{
    close(s->fd);
    s->closed = true;
    s->next_closed = closed_sides;
    closed_sides = s;
}

static void free_closed_sides(void)
{
    while (closed_sides) {
        struct side *s = closed_sides;
        closed_sides = s->next_closed;
        free(s->unsent);
        free(s);
    }
}

static void pair_close(struct side *s)
{
    side_close(s->peer);
    side_close(s);
}

static void pair_open(int client_fd, uint16_t upstream_port)
{
    int upstream_fd = bench_connect(upstream_port, 0);
    if (upstream_fd < 0 || fcntl(upstream_fd, F_SETFL, O_NONBLOCK) != 0)
        bench_die("upstream");

    struct side *client = side_new(client_fd);
    struct side *upstream = side_new(upstream_fd);
    client->peer = upstream;
    upstream->peer = client;
}

// Bytes written, 0 if it would block, -1 if the connection is broken.
static ssize_t try_write(int fd, const uint8_t *bytes, size_t count)
{
    ssize_t n = write(fd, bytes, count);
    return n < 0 && errno == EAGAIN ? 0 : n;
}

static void side_keep_unsent(struct side *s, const uint8_t *bytes, size_t count)
{
    s->unsent = bench_malloc(count);
    memcpy(s->unsent, bytes, count);
    s->unsent_bytes = count;
    side_watch(s, EPOLL_CTL_MOD, EPOLLOUT);
    side_watch(s->peer, EPOLL_CTL_MOD, 0);
}

static void side_on_readable(struct side *s)
{
    ssize_t got = read(s->fd, buffer, sizeof buffer);
    if (got < 0 && errno == EAGAIN)
        return;

    ssize_t put = got > 0 ? try_write(s->peer->fd, buffer, (size_t)got) : -1;
    if (put < 0)
        pair_close(s);
    else if (put < got)
        side_keep_unsent(s->peer, buffer + put, (size_t)(got - put));
}

static void side_on_writable(struct side *s)
{
    ssize_t put = try_write(s->fd, s->unsent, s->unsent_bytes);
    if (put < 0) {
        pair_close(s);
        return;
    }
    s->unsent_bytes -= (size_t)put;
    memmove(s->unsent, s->unsent + put, s->unsent_bytes);
    if (s->unsent_bytes)
        return;
    free(s->unsent);
    s->unsent = NULL;
    side_watch(s, EPOLL_CTL_MOD, EPOLLIN);
    side_watch(s->peer, EPOLL_CTL_MOD, EPOLLIN);
}

// A hang-up is seen by the read or write that it makes fail; a side that may do neither is closed.
static void side_on_event(struct side *s, uint32_t events)
{
    if (s->closed)
        return;
    if (s->unsent)
        side_on_writable(s);
    else if (s->peer->unsent)
        pair_close(s);
    else if (events)
        side_on_readable(s);
}

static void relay(int listen_fd, uint16_t upstream_port)
{
    struct epoll_event events[EVENTS];

    for (;;) {
        int n = epoll_wait(epoll_fd, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            int fd;
            if (events[i].data.ptr)
                side_on_event(events[i].data.ptr, events[i].events);
            else if ((fd = bench_accept(listen_fd)) >= 0)
                pair_open(fd, upstream_port);
        }
        free_closed_sides();
    }
}

static void usage(void)
{
    puts("usage: bench_relay --port N --upstream-port N\n"
         "Relays each connection to 127.0.0.1:port to one of its own to 127.0.0.1:upstream-port.");
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"port", required_argument, NULL, 'p'},
                                            {"upstream-port", required_argument, NULL, 'u'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    long port = 0, upstream_port = 0;
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == 'p')
            port = bench_number("port", optarg, 1, 65535);
        else if (c == 'u')
            upstream_port = bench_number("upstream-port", optarg, 1, 65535);
        else
            return usage(), c == 'h' ? 0 : 2;
    }
    if (!port || !upstream_port)
        return usage(), 2;

    bench_start();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int listen_fd = bench_listen((uint16_t)port);
    struct epoll_event event = {.events = EPOLLIN};
    if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listen_fd, &event) != 0)
        bench_die("epoll");
    relay(listen_fd, (uint16_t)upstream_port);
}
