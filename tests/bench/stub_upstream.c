// SPDX-License-Identifier: Apache-2.0
//
// bench_stub: a stub MongoDB server. It says it is a standalone mongod (or, on several ports, all
// members of a replica set) and answers every command with {ok: 1}; it stores nothing. So cheap
// that the proxy before it is what is measured.
//
//   readable -> one read -> every complete message -> its reply -> one write
//                                     |
//                                     +-- with --delay-us, operations (not hello) wait their time
//                                         in `delayed`, all at once; as the time is the same for
//                                         all, first in is first out and a ring will do
//
// One epoll loop. Invariant: a connection with unsent bytes is waited on for writing and not read.

#include "bench.h"

#include <bson/bson.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 256, READ_BYTES = 64 * 1024 };
enum { MEMBERS_MAX = 8 };
enum { OP_MSG_FLAGS = 16, OP_MSG_SECTIONS = 20, MORE_TO_COME = 2, AWAIT_CAPABLE = 8 };

struct connection {
    int fd;
    size_t member; // that it was made to
    bool closed;
    bool carries; // had an operation, so is not only somebody's monitor
    long delayed; // operations in the ring
    uint8_t *partial;
    size_t partial_bytes;
    uint8_t *unsent;
    size_t unsent_bytes;
    struct connection *next_closed;
};

struct delayed {
    int64_t due_ns;
    struct connection *connection;
    int32_t request_id;
};

struct bytes {
    uint8_t *data;
    size_t used, room;
};

static struct {
    int epoll_fd, listen_fds[MEMBERS_MAX], signal_fd, timer_fd;
    uint16_t ports[MEMBERS_MAX]; // the first is the primary's, or the standalone's
    size_t member_count;
    int64_t delay_ns;
    int32_t last_request_id;
    struct bytes in, out;  // of the connection being read
    struct bytes ok_reply; // what every operation is answered, but for the two ids
    struct delayed *ring;  // ring_room is a power of two
    size_t ring_first, ring_used, ring_room;
    struct connection *closed_connections;
    struct {
        long ever, now, max;             // connections
        long carrying_now, carrying_max; // of which carried operations
        long operations, in_service_max, bad_input;
        long delayed;       // operations that have taken their time,
        int64_t delayed_ns; // which was this, all together: never shorter, but maybe longer
    } count;
} stub;

static void bytes_reserve(struct bytes *b, size_t more)
{
    if (b->used + more <= b->room)
        return;
    b->room = (b->used + more) * 2;
    b->data = bench_realloc(b->data, b->room);
}

static void bytes_append(struct bytes *b, const void *data, size_t count)
{
    bytes_reserve(b, count);
    memcpy(b->data + b->used, data, count);
    b->used += count;
}

static void watch(struct connection *c, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(stub.epoll_fd, operation, c->fd, &event) != 0)
        bench_die("epoll_ctl");
}

// --- connections

static void connection_open(int fd, size_t member)
{
    struct connection *c = bench_malloc(sizeof *c);
    *c = (struct connection){.fd = fd, .member = member};
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
    stub.count.ever++;
    if (++stub.count.now > stub.count.max)
        stub.count.max = stub.count.now;
}

static void connection_close(struct connection *c)
{
    close(c->fd);
    c->closed = true;
    c->next_closed = stub.closed_connections;
    stub.closed_connections = c;
    stub.count.now--;
    stub.count.carrying_now -= c->carries;
}

// After the batch of events; one that still has operations in the ring stays for the next time.
static void free_closed_connections(void)
{
    struct connection *c = stub.closed_connections;

    stub.closed_connections = NULL;
    while (c) {
        struct connection *next = c->next_closed;
        if (c->delayed) {
            c->next_closed = stub.closed_connections;
            stub.closed_connections = c;
        } else {
            free(c->partial);
            free(c->unsent);
            free(c);
        }
        c = next;
    }
}

static void connection_keep_unsent(struct connection *c, const uint8_t *data, size_t count)
{
    c->unsent = bench_realloc(c->unsent, c->unsent_bytes + count);
    memcpy(c->unsent + c->unsent_bytes, data, count);
    c->unsent_bytes += count;
    watch(c, EPOLL_CTL_MOD, EPOLLOUT);
}

static void connection_send(struct connection *c, const uint8_t *data, size_t count)
{
    ssize_t n = 0;

    if (!c->unsent_bytes)
        n = write(c->fd, data, count);
    if (n < 0 && errno != EAGAIN)
        connection_close(c);
    else if (n < (ssize_t)count)
        connection_keep_unsent(c, data + (n > 0 ? n : 0), count - (size_t)(n > 0 ? n : 0));
}

static void connection_on_writable(struct connection *c)
{
    ssize_t n = write(c->fd, c->unsent, c->unsent_bytes);
    if (n < 0 && errno != EAGAIN) {
        connection_close(c);
        return;
    }
    if (n < 0)
        return;
    c->unsent_bytes -= (size_t)n;
    memmove(c->unsent, c->unsent + n, c->unsent_bytes);
    if (!c->unsent_bytes)
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
}

// --- replies

static void header_put(uint8_t *p, size_t length, int32_t response_to, int32_t opcode)
{
    bench_put_i32(p, (int32_t)length);
    bench_put_i32(p + 4, ++stub.last_request_id);
    bench_put_i32(p + 8, response_to);
    bench_put_i32(p + 12, opcode);
}

static void append_members(bson_t *b, size_t member)
{
    char name[32];
    bson_t hosts;

    BSON_APPEND_ARRAY_BEGIN(b, "hosts", &hosts);
    for (size_t i = 0; i < stub.member_count; i++) {
        char key[16];
        snprintf(key, sizeof key, "%zu", i);
        snprintf(name, sizeof name, "127.0.0.1:%u", stub.ports[i]);
        BSON_APPEND_UTF8(&hosts, key, name);
    }
    bson_append_array_end(b, &hosts);
    BSON_APPEND_UTF8(b, "setName", "bench");
    BSON_APPEND_INT32(b, "setVersion", 1);
    BSON_APPEND_BOOL(b, "secondary", member > 0);
    snprintf(name, sizeof name, "127.0.0.1:%u", stub.ports[member]);
    BSON_APPEND_UTF8(b, "me", name);
}

static void append_hello_reply(int32_t response_to, int32_t opcode, size_t member)
{
    static const uint8_t op_reply[WIRE_HEADER_BYTES + 20] = {[16] = AWAIT_CAPABLE, [32] = 1};
    static const uint8_t op_msg[WIRE_HEADER_BYTES + 5];
    size_t start = stub.out.used;
    struct timespec now;
    bson_t b = BSON_INITIALIZER;

    clock_gettime(CLOCK_REALTIME, &now);
    BSON_APPEND_BOOL(&b, "helloOk", true);
    BSON_APPEND_BOOL(&b, "ismaster", member == 0);
    BSON_APPEND_BOOL(&b, "isWritablePrimary", member == 0);
    if (stub.member_count > 1)
        append_members(&b, member);
    BSON_APPEND_INT32(&b, "maxBsonObjectSize", 16 * 1024 * 1024);
    BSON_APPEND_INT32(&b, "maxMessageSizeBytes", WIRE_MAX_BYTES);
    BSON_APPEND_INT32(&b, "maxWriteBatchSize", 100000);
    BSON_APPEND_DATE_TIME(&b, "localTime", now.tv_sec * 1000 + now.tv_nsec / BENCH_NS_PER_MS);
    BSON_APPEND_INT32(&b, "logicalSessionTimeoutMinutes", 30);
    BSON_APPEND_INT32(&b, "connectionId", (int32_t)stub.count.ever);
    BSON_APPEND_INT32(&b, "minWireVersion", 0);
    BSON_APPEND_INT32(&b, "maxWireVersion", 21);
    BSON_APPEND_BOOL(&b, "readOnly", false);
    BSON_APPEND_DOUBLE(&b, "ok", 1);
    if (opcode == OP_REPLY)
        bytes_append(&stub.out, op_reply, sizeof op_reply);
    else
        bytes_append(&stub.out, op_msg, sizeof op_msg);
    bytes_append(&stub.out, bson_get_data(&b), b.len);
    header_put(stub.out.data + start, stub.out.used - start, response_to, opcode);
    bson_destroy(&b);
}

// A whole OP_MSG of about `reply_bytes`, less only if that is not enough for {ok: 1}.
static void make_ok_reply(size_t reply_bytes)
{
    static const uint8_t head[WIRE_HEADER_BYTES + 5];
    size_t bare = sizeof head + 17; // the document {ok: 1.0}
    size_t around = 10;             // a binary field named "pad"
    bson_t b = BSON_INITIALIZER;

    BSON_APPEND_DOUBLE(&b, "ok", 1);
    if (reply_bytes > bare + around) {
        uint32_t count = (uint32_t)(reply_bytes - bare - around);
        uint8_t *zeros = bench_malloc(count);
        memset(zeros, 0, count);
        BSON_APPEND_BINARY(&b, "pad", BSON_SUBTYPE_BINARY, zeros, count);
        free(zeros);
    }
    bytes_append(&stub.ok_reply, head, sizeof head);
    bytes_append(&stub.ok_reply, bson_get_data(&b), b.len);
    bson_destroy(&b);
}

static void append_ok_reply(int32_t response_to)
{
    size_t start = stub.out.used;
    bytes_append(&stub.out, stub.ok_reply.data, stub.ok_reply.used);
    header_put(stub.out.data + start, stub.ok_reply.used, response_to, OP_MSG);
}

// --- operations that take their time

static void timer_set(int64_t due_ns)
{
    struct itimerspec when = {.it_value.tv_sec = due_ns / BENCH_NS_PER_S,
                              .it_value.tv_nsec = due_ns % BENCH_NS_PER_S};
    if (timerfd_settime(stub.timer_fd, TFD_TIMER_ABSTIME, &when, NULL) != 0)
        bench_die("timerfd_settime");
}

static void ring_grow(void)
{
    size_t room = stub.ring_room ? stub.ring_room * 2 : 1024;
    struct delayed *ring = bench_malloc(room * sizeof *ring);

    for (size_t i = 0; i < stub.ring_used; i++)
        ring[i] = stub.ring[(stub.ring_first + i) & (stub.ring_room - 1)];
    free(stub.ring);
    stub.ring = ring;
    stub.ring_room = room;
    stub.ring_first = 0;
}

static void delay(struct connection *c, int32_t request_id)
{
    int64_t due_ns = bench_now_ns() + stub.delay_ns;

    if (stub.ring_used == stub.ring_room)
        ring_grow();
    stub.ring[(stub.ring_first + stub.ring_used) & (stub.ring_room - 1)] =
        (struct delayed){due_ns, c, request_id};
    c->delayed++;
    if (++stub.ring_used == 1)
        timer_set(due_ns);
    if ((long)stub.ring_used > stub.count.in_service_max)
        stub.count.in_service_max = (long)stub.ring_used;
}

static void delayed_finish(struct delayed *d, int64_t now_ns)
{
    stub.count.delayed++;
    stub.count.delayed_ns += now_ns - d->due_ns + stub.delay_ns;
    d->connection->delayed--;
    if (d->connection->closed)
        return;
    stub.out.used = 0;
    append_ok_reply(d->request_id);
    connection_send(d->connection, stub.out.data, stub.out.used);
}

static void on_timer(void)
{
    int64_t now_ns = bench_now_ns();

    while (stub.ring_used && stub.ring[stub.ring_first].due_ns <= now_ns) {
        struct delayed d = stub.ring[stub.ring_first];
        stub.ring_first = (stub.ring_first + 1) & (stub.ring_room - 1);
        stub.ring_used--;
        delayed_finish(&d, now_ns);
    }
    timer_set(stub.ring_used ? stub.ring[stub.ring_first].due_ns : 0); // 0 disarms
}

// --- requests

static const char *first_key(const uint8_t *document, size_t size)
{
    size_t at = 4 + 1; // behind the length and the first value's type
    return size > at && memchr(document + at, 0, size - at) ? (const char *)document + at : NULL;
}

// The body's first key, which is the command's name, or NULL if the sections make no sense.
static const char *command_name(const uint8_t *message, size_t length)
{
    size_t at = OP_MSG_SECTIONS;

    while (at + 5 <= length) {
        const uint8_t *section = message + at;
        int64_t size = bench_get_i32(section + 1);
        if (size < 5 || (size_t)size > length - at - 1)
            return NULL;
        if (section[0] == 0)
            return first_key(section + 1, (size_t)size);
        if (section[0] != 1)
            return NULL;
        at += 1 + (size_t)size;
    }
    return NULL;
}

static bool is_hello(const char *name)
{
    return !strcmp(name, "hello") || !strcmp(name, "isMaster") || !strcmp(name, "ismaster");
}

static void operation(struct connection *c, const uint8_t *message)
{
    int32_t request_id = bench_get_i32(message + 4);

    stub.count.operations++;
    if (!c->carries) {
        c->carries = true;
        if (++stub.count.carrying_now > stub.count.carrying_max)
            stub.count.carrying_max = stub.count.carrying_now;
    }
    if (bench_get_i32(message + OP_MSG_FLAGS) & MORE_TO_COME)
        return;
    if (stub.delay_ns)
        delay(c, request_id);
    else
        append_ok_reply(request_id);
}

// False if this is nothing that a server could answer. OP_QUERY can only be a hello.
static bool answer(struct connection *c, const uint8_t *message, size_t length)
{
    int32_t opcode = bench_get_i32(message + 12);

    if (opcode == OP_QUERY)
        return append_hello_reply(bench_get_i32(message + 4), OP_REPLY, c->member), true;
    if (opcode != OP_MSG)
        return false;

    const char *name = command_name(message, length);
    if (!name)
        return false;
    if (is_hello(name))
        append_hello_reply(bench_get_i32(message + 4), OP_MSG, c->member);
    else
        operation(c, message);
    return true;
}

// How many bytes of the input were whole messages, all answered; -1 if it is no protocol of ours.
static ssize_t answer_all(struct connection *c)
{
    size_t at = 0;

    while (stub.in.used - at >= WIRE_HEADER_BYTES) {
        int32_t length = bench_get_i32(stub.in.data + at);
        if (length < WIRE_HEADER_BYTES || length > WIRE_MAX_BYTES)
            return -1;
        if ((size_t)length > stub.in.used - at)
            break;
        if (!answer(c, stub.in.data + at, (size_t)length))
            return -1;
        at += (size_t)length;
    }
    return (ssize_t)at;
}

static void connection_take_partial(struct connection *c)
{
    stub.in.used = 0;
    if (c->partial_bytes)
        bytes_append(&stub.in, c->partial, c->partial_bytes);
    c->partial_bytes = 0;
}

static void connection_keep_partial(struct connection *c, size_t from)
{
    c->partial_bytes = stub.in.used - from;
    if (!c->partial_bytes)
        return;
    c->partial = bench_realloc(c->partial, c->partial_bytes);
    memcpy(c->partial, stub.in.data + from, c->partial_bytes);
}

static void connection_on_readable(struct connection *c)
{
    connection_take_partial(c);
    bytes_reserve(&stub.in, READ_BYTES);
    ssize_t n = read(c->fd, stub.in.data + stub.in.used, stub.in.room - stub.in.used);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN)
            connection_close(c);
        return;
    }
    stub.in.used += (size_t)n;
    stub.out.used = 0;

    ssize_t answered = answer_all(c);
    if (answered < 0) {
        stub.count.bad_input++;
        connection_close(c);
        return;
    }
    connection_keep_partial(c, (size_t)answered);
    if (stub.out.used)
        connection_send(c, stub.out.data, stub.out.used);
}

// --- the loop

static void print_counts(void)
{
    double delayed = stub.count.delayed ? (double)stub.count.delayed : 1;

    printf("{\"connections_ever\": %ld, \"connections_max\": %ld, \"carrying_max\": %ld, "
           "\"operations\": %ld, \"in_service_max\": %ld, \"service_mean_us\": %.1f, "
           "\"bad_input\": %ld}\n",
           stub.count.ever, stub.count.max, stub.count.carrying_max, stub.count.operations,
           stub.count.in_service_max, (double)stub.count.delayed_ns / delayed / BENCH_NS_PER_US,
           stub.count.bad_input);
    fflush(stdout);
}

static void on_signal(void)
{
    struct signalfd_siginfo info;

    if (read(stub.signal_fd, &info, sizeof info) != (ssize_t)sizeof info)
        return;
    print_counts();
    if (info.ssi_signo != SIGUSR1)
        _exit(0); // the connections are known to the kernel alone: nothing to be freed
}

static void connection_on_event(struct connection *c)
{
    if (c->closed)
        return;
    if (c->unsent_bytes)
        connection_on_writable(c);
    else
        connection_on_readable(c);
}

static bool accepted(void *what)
{
    for (size_t i = 0; i < stub.member_count; i++) {
        if (what != &stub.listen_fds[i])
            continue;
        int fd = bench_accept(stub.listen_fds[i]);
        if (fd >= 0)
            connection_open(fd, i);
        return true;
    }
    return false;
}

static void on_event(void *what)
{
    if (what == &stub.signal_fd) {
        on_signal();
    } else if (what == &stub.timer_fd) {
        on_timer();
    } else if (!accepted(what)) {
        connection_on_event(what);
    }
}

static void add_to_loop(int *fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = fd};
    if (*fd < 0 || epoll_ctl(stub.epoll_fd, EPOLL_CTL_ADD, *fd, &event) != 0)
        bench_die("epoll");
}

static void serve(void)
{
    struct epoll_event events[EVENTS];
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    stub.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    for (size_t i = 0; i < stub.member_count; i++) {
        stub.listen_fds[i] = bench_listen(stub.ports[i]);
        add_to_loop(&stub.listen_fds[i]);
    }
    stub.signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
    stub.timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    add_to_loop(&stub.signal_fd);
    add_to_loop(&stub.timer_fd);
    for (;;) {
        int n = epoll_wait(stub.epoll_fd, events, EVENTS, -1);
        for (int i = 0; i < n; i++)
            on_event(events[i].data.ptr);
        free_closed_connections();
    }
}

static void usage(void)
{
    puts("usage: bench_stub --port N [--port N]... [--reply-bytes N] [--delay-us N]\n"
         "A stub MongoDB server on 127.0.0.1: a standalone that answers everything {ok: 1}.\n"
         "  --port N         with several it is a replica set, whose primary is the first\n"
         "  --reply-bytes N  pad replies to operations to this size\n"
         "  --delay-us N     answer each operation this long after it came, all concurrently\n"
         "Prints its counts as JSON at SIGUSR1 and when it ends.");
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"port", required_argument, NULL, 'p'},
                                            {"reply-bytes", required_argument, NULL, 'r'},
                                            {"delay-us", required_argument, NULL, 'd'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    long reply_bytes = 0;
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == 'p' && stub.member_count < MEMBERS_MAX)
            stub.ports[stub.member_count++] = (uint16_t)bench_number("port", optarg, 1, 65535);
        else if (c == 'r')
            reply_bytes = bench_number("reply-bytes", optarg, 0, 16 * 1024 * 1024);
        else if (c == 'd')
            stub.delay_ns = bench_number("delay-us", optarg, 0, 10000000) * BENCH_NS_PER_US;
        else
            return usage(), c == 'h' ? 0 : 2;
    }
    if (!stub.member_count)
        return usage(), 2;
    bench_start();
    make_ok_reply((size_t)reply_bytes);
    serve();
}
