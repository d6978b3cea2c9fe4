// SPDX-License-Identifier: Apache-2.0
//
// bench_loadgen: N connections, each of which sends a ping, waits for the reply, and does so again.
//
//   a connection   CONNECTING -> (SECURING) -> GREETING -> RESTING <-> ASKING <-> BACKING_OFF
//                                  TLS           hello                   ping       after a shed
//
//   a run          OPENING -> WARMING -> MEASURING -> DRAINING -> DONE       or, with --idle,
//                  OPENING -> IDLING -> DONE
//
// A request that is shed (code 462) is counted apart and followed by a pause as drivers make it;
// other errors are counted by kind. A connection that fails stays closed. Only replies that come
// while MEASURING count, and the processor time of --cpu-pid is read at both ends of just that.
// One thread, one epoll loop: it shares the machine with what it measures.

#include "bench.h"
#include "latencies.h"
#include "loadgen_wire.h"

#include <errno.h>
#include <getopt.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 256, READ_BYTES = 64 * 1024, OPENING_AT_ONCE = 64 };
enum { OPENING_LIMIT_S = 60, DRAINING_LIMIT_S = 5 };
enum { MAX_BACKOFF_MS = 10000, MAX_DOUBLINGS = 2, WHEEL_SLOTS = 16384 }; // a slot is 1 ms
_Static_assert(WHEEL_SLOTS > MAX_BACKOFF_MS, "a pause fits into one turn of the wheel");

#define ERROR_KINDS(X)                                                                             \
    X(connect)           /* refused, or reset while connecting */                                  \
    X(tls)               /* the handshake failed */                                                \
    X(hello)             /* answered, but not ok */                                                \
    X(closed)            /* by the other side, or reset */                                         \
    X(write)             /* a request did not go out at once and whole */                          \
    X(wrong_response_to) /* the reply to something else */                                         \
    X(malformed)         /* no message of MongoDB's */                                             \
    X(unasked)           /* bytes that nobody asked for */                                         \
    X(not_ok)            /* an error that is no shedding */                                        \
    X(unanswered)        /* still no reply long after the end */

enum error_kind {
#define X(name) ERROR_##name,
    ERROR_KINDS(X)
#undef X
        ERROR_KIND_COUNT
};

static const char *const error_names[] = {
#define X(name) #name,
    ERROR_KINDS(X)
#undef X
};

enum state { UNOPENED, CONNECTING, SECURING, GREETING, RESTING, ASKING, BACKING_OFF, CLOSED };
enum phase { OPENING, WARMING, MEASURING, DRAINING, IDLING, DONE };
enum io { IO_DONE, IO_WANTS_READ, IO_WANTS_WRITE, IO_CLOSED };

struct connection {
    int fd;
    enum state state;
    int32_t request_id; // of the last request
    int sheds_in_a_row;
    int64_t sent_ns;
    SSL *ssl; // NULL if plain
    uint8_t *partial;
    size_t partial_bytes;
    struct connection *next_in_slot;
    uint8_t lsid[LSID_BYTES];
};

static struct {
    uint16_t port;
    long clients;
    bool tls, idle;
    int64_t warmup_ns, measured_ns; // measured_ns 0 while idle: until a signal
    pid_t cpu_pid;
    const char *find; // a read preference's mode, NULL: ping
} options;

static struct {
    int epoll_fd;
    SSL_CTX *tls;
    struct loadgen_message hello, operation;
    struct connection *connections;
    long opened, opening, up, asking;

    enum phase phase;
    int64_t phase_ends_ns;
    int64_t measured_from_ns, measured_to_ns;
    int64_t cpu_ns, own_cpu_ns; // used while measuring
    struct latencies latencies;
    long shed;
    long errors[ERROR_KIND_COUNT];
    char cipher[64];

    struct connection *slots[WHEEL_SLOTS]; // of those that back off, by when they go on
    long backing_off;
    int64_t wheel_ms; // every slot up to this one has been emptied

    uint8_t *in; // what is being read
    size_t in_used, in_room;
} gen;

static volatile sig_atomic_t stopped;

// --- bytes in and out, plain or TLS

static enum io ssl_result(struct connection *c, int result)
{
    int error = SSL_get_error(c->ssl, result);

    ERR_clear_error();
    if (error == SSL_ERROR_WANT_READ)
        return IO_WANTS_READ;
    return error == SSL_ERROR_WANT_WRITE ? IO_WANTS_WRITE : IO_CLOSED;
}

static enum io read_some(struct connection *c, uint8_t *data, size_t room, size_t *ret_count)
{
    if (c->ssl) {
        int result = SSL_read_ex(c->ssl, data, room, ret_count);
        return result == 1 ? IO_DONE : ssl_result(c, result);
    }
    ssize_t n = read(c->fd, data, room);
    if (n < 0)
        return errno == EAGAIN ? IO_WANTS_READ : IO_CLOSED;
    *ret_count = (size_t)n;
    return n ? IO_DONE : IO_CLOSED;
}

// One small request at a time always finds room, so nothing is kept to be written later.
static bool write_whole(struct connection *c, const uint8_t *data, size_t count)
{
    size_t written = 0;

    if (c->ssl)
        return SSL_write_ex(c->ssl, data, count, &written) == 1 || (ERR_clear_error(), false);
    return write(c->fd, data, count) == (ssize_t)count;
}

static void watch(struct connection *c, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(gen.epoll_fd, operation, c->fd, &event) != 0)
        bench_die("epoll_ctl");
}

// --- processor time

static int64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    if (clock_gettime(clock, &t) != 0)
        bench_die("a process's clock");
    return (int64_t)t.tv_sec * BENCH_NS_PER_S + t.tv_nsec;
}

// All threads of the process, those that have ended too, up to this very instant.
static int64_t process_cpu_ns(pid_t pid)
{
    clockid_t clock;

    errno = pid ? clock_getcpuclockid(pid, &clock) : 0;
    if (errno)
        bench_die("--cpu-pid %d", (int)pid);
    return pid ? clock_ns(clock) : 0;
}

static void sample_cpu(int sign)
{
    gen.cpu_ns += sign * process_cpu_ns(options.cpu_pid);
    gen.own_cpu_ns += sign * clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

// --- a connection's life

static void connection_close(struct connection *c)
{
    if (c->state < RESTING)
        gen.opening--;
    else
        gen.up--;
    if (c->state == ASKING)
        gen.asking--;
    c->state = CLOSED;
    SSL_free(c->ssl);
    free(c->partial);
    c->ssl = NULL;
    c->partial = NULL;
    close(c->fd);
}

static void connection_fail(struct connection *c, enum error_kind kind)
{
    gen.errors[kind]++;
    connection_close(c);
}

static void connection_send(struct connection *c, struct loadgen_message *m, enum state then)
{
    bench_put_i32(m->bytes + 4, ++c->request_id);
    if (m->lsid_at)
        memcpy(m->bytes + m->lsid_at, c->lsid, LSID_BYTES);
    gen.asking += then == ASKING;
    c->state = then;
    if (!write_whole(c, m->bytes, m->length))
        connection_fail(c, ERROR_write);
}

static void connection_ask(struct connection *c, int64_t now_ns)
{
    gen.opening -= c->state == GREETING;
    gen.up += c->state == GREETING;
    c->sent_ns = now_ns;
    connection_send(c, &gen.operation, ASKING);
}

static void connection_rest(struct connection *c)
{
    gen.opening -= c->state == GREETING;
    gen.up += c->state == GREETING;
    c->state = RESTING;
}

static void connection_greet(struct connection *c)
{
    watch(c, EPOLL_CTL_MOD, EPOLLIN);
    connection_send(c, &gen.hello, GREETING);
}

static void connection_secure(struct connection *c)
{
    int result = SSL_connect(c->ssl);
    enum io io = result == 1 ? IO_DONE : ssl_result(c, result);

    if (io == IO_CLOSED) {
        connection_fail(c, ERROR_tls);
    } else if (io != IO_DONE) {
        watch(c, EPOLL_CTL_MOD, io == IO_WANTS_READ ? EPOLLIN : EPOLLOUT);
    } else {
        snprintf(gen.cipher, sizeof gen.cipher, "%s %s", SSL_get_version(c->ssl),
                 SSL_get_cipher_name(c->ssl));
        connection_greet(c);
    }
}

static void connection_on_connected(struct connection *c)
{
    int error = 0;
    socklen_t length = sizeof error;

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0 || error) {
        connection_fail(c, ERROR_connect);
        return;
    }
    if (!options.tls) {
        connection_greet(c);
        return;
    }
    c->ssl = SSL_new(gen.tls);
    if (!c->ssl || SSL_set_fd(c->ssl, c->fd) != 1)
        bench_die("SSL_new");
    c->state = SECURING;
    connection_secure(c);
}

static void connection_open(struct connection *c)
{
    if (getrandom(c->lsid, sizeof c->lsid, 0) != (ssize_t)sizeof c->lsid)
        bench_die("getrandom");
    gen.opened++;
    c->fd = bench_connect(options.port, 1);
    if (c->fd < 0) {
        gen.errors[ERROR_connect]++;
        c->state = CLOSED;
        return;
    }
    gen.opening++;
    c->state = CONNECTING;
    watch(c, EPOLL_CTL_ADD, EPOLLOUT);
}

// --- replies

// As drivers do it: random within a limit that doubles with each attempt.
static void connection_back_off(struct connection *c, int64_t base_ms, int64_t now_ns)
{
    if (c->sheds_in_a_row < MAX_DOUBLINGS)
        c->sheds_in_a_row++;
    int64_t limit_ms = base_ms << c->sheds_in_a_row;
    if (base_ms > MAX_BACKOFF_MS || limit_ms > MAX_BACKOFF_MS)
        limit_ms = MAX_BACKOFF_MS;
    int64_t due_ms = now_ns / BENCH_NS_PER_MS + 1 + (int64_t)(drand48() * (double)limit_ms);

    c->state = BACKING_OFF;
    c->next_in_slot = gen.slots[due_ms % WHEEL_SLOTS];
    gen.slots[due_ms % WHEEL_SLOTS] = c;
    gen.backing_off++;
}

static void connection_on_answer(struct connection *c, const struct reply *reply)
{
    int64_t now_ns = bench_now_ns();
    bool counts = gen.phase == MEASURING;

    gen.asking--;
    c->state = RESTING;
    if (reply->kind == REPLY_OK) {
        c->sheds_in_a_row = 0;
        if (counts)
            latencies_add(&gen.latencies, now_ns - c->sent_ns);
        if (gen.phase == WARMING || gen.phase == MEASURING)
            connection_ask(c, now_ns);
        return;
    }
    if (reply->kind == REPLY_SHED)
        gen.shed += counts;
    else
        gen.errors[ERROR_not_ok]++;
    connection_back_off(c, reply->base_backoff_ms, now_ns);
}

static void connection_on_reply(struct connection *c, const uint8_t *message, size_t length)
{
    struct reply reply = loadgen_read_reply(message, length);

    if (c->state != GREETING && c->state != ASKING)
        connection_fail(c, ERROR_unasked);
    else if (reply.kind == REPLY_MALFORMED)
        connection_fail(c, ERROR_malformed);
    else if (reply.response_to != c->request_id)
        connection_fail(c, ERROR_wrong_response_to);
    else if (c->state == ASKING)
        connection_on_answer(c, &reply);
    else if (reply.kind != REPLY_OK)
        connection_fail(c, ERROR_hello);
    else if (options.idle) // an idle connection of an app has done something before
        connection_ask(c, bench_now_ns());
    else
        connection_rest(c);
}

static void in_reserve(size_t room)
{
    if (gen.in_room >= room)
        return;
    gen.in_room = room;
    gen.in = bench_realloc(gen.in, room);
}

static void connection_keep_partial(struct connection *c)
{
    c->partial = bench_realloc(c->partial, gen.in_used);
    memcpy(c->partial, gen.in, gen.in_used);
    c->partial_bytes = gen.in_used;
}

// There is one request in flight, so what has been read is at most one message.
static void connection_on_bytes(struct connection *c)
{
    int32_t length = gen.in_used >= WIRE_HEADER_BYTES ? bench_get_i32(gen.in) : WIRE_HEADER_BYTES;

    if (length < WIRE_HEADER_BYTES || length > WIRE_MAX_BYTES)
        connection_fail(c, ERROR_malformed);
    else if (gen.in_used < WIRE_HEADER_BYTES || gen.in_used < (size_t)length)
        connection_keep_partial(c);
    else if (gen.in_used > (size_t)length)
        connection_fail(c, ERROR_unasked);
    else
        connection_on_reply(c, gen.in, gen.in_used);
}

static void connection_on_readable(struct connection *c)
{
    size_t count = 0;

    in_reserve(c->partial_bytes + READ_BYTES);
    if (c->partial_bytes)
        memcpy(gen.in, c->partial, c->partial_bytes);
    enum io io = read_some(c, gen.in + c->partial_bytes, READ_BYTES, &count);
    if (io == IO_CLOSED) {
        connection_fail(c, ERROR_closed);
    } else if (io == IO_DONE) {
        gen.in_used = c->partial_bytes + count;
        c->partial_bytes = 0;
        connection_on_bytes(c);
    }
}

static void connection_on_event(struct connection *c)
{
    if (c->state == CONNECTING)
        connection_on_connected(c);
    else if (c->state == SECURING)
        connection_secure(c);
    else if (c->state != CLOSED)
        connection_on_readable(c);
}

// --- those that back off

static void slot_empty(struct connection **slot, int64_t now_ns)
{
    struct connection *c = *slot;

    *slot = NULL;
    while (c) {
        struct connection *next = c->next_in_slot;
        gen.backing_off--;
        if (c->state == BACKING_OFF && gen.phase < DRAINING)
            connection_ask(c, now_ns);
        c = next;
    }
}

static void wheel_turn(int64_t now_ns)
{
    int64_t now_ms = now_ns / BENCH_NS_PER_MS;

    while (gen.wheel_ms < now_ms)
        slot_empty(&gen.slots[++gen.wheel_ms % WHEEL_SLOTS], now_ns);
}

// --- the run

static void phase_enter(enum phase phase, int64_t now_ns, int64_t lasts_ns)
{
    gen.phase = phase;
    gen.phase_ends_ns = now_ns + lasts_ns;
}

static void ask_all(int64_t now_ns)
{
    for (long i = 0; i < options.clients; i++)
        if (gen.connections[i].state == RESTING)
            connection_ask(&gen.connections[i], now_ns);
}

static void measuring_start(void)
{
    sample_cpu(-1);
    gen.measured_from_ns = bench_now_ns();
    phase_enter(MEASURING, gen.measured_from_ns, options.measured_ns);
}

static void measuring_end(void)
{
    gen.measured_to_ns = bench_now_ns();
    sample_cpu(+1);
    phase_enter(DRAINING, gen.measured_to_ns, DRAINING_LIMIT_S * BENCH_NS_PER_S);
}

static void opening_turn(int64_t now_ns)
{
    while (gen.opening < OPENING_AT_ONCE && gen.opened < options.clients)
        connection_open(&gen.connections[gen.opened]);
    if (gen.opened < options.clients || gen.opening || gen.asking || gen.backing_off)
        return;
    if (options.idle) {
        printf("{\"idle\": %ld, \"tls\": \"%s\"}\n", gen.up, gen.cipher);
        fflush(stdout);
        phase_enter(IDLING, now_ns, options.measured_ns ? options.measured_ns : INT64_MAX / 2);
    } else {
        phase_enter(WARMING, now_ns, options.warmup_ns);
        if (!options.warmup_ns)
            measuring_start();
        ask_all(now_ns);
    }
}

static void run_turn(int64_t now_ns)
{
    bool over = now_ns >= gen.phase_ends_ns || stopped;

    errno = 0;
    if (gen.phase == OPENING && over)
        bench_die("only %ld of %ld connections came up within %d s", gen.up, options.clients,
                  OPENING_LIMIT_S);
    else if (gen.phase == OPENING)
        opening_turn(now_ns);
    else if (gen.phase == WARMING && over)
        measuring_start();
    else if (gen.phase == MEASURING && over)
        measuring_end();
    else if (gen.phase == DRAINING && (over || !gen.asking))
        gen.phase = DONE;
    else if (gen.phase == IDLING && over)
        gen.phase = DONE;
}

static int wait_ms(int64_t now_ns)
{
    int64_t left_ms = (gen.phase_ends_ns - now_ns) / BENCH_NS_PER_MS + 1;

    if (gen.backing_off || left_ms < 1)
        return 1;
    return left_ms < 1000 ? (int)left_ms : 1000;
}

static void run(void)
{
    struct epoll_event events[EVENTS];
    int64_t now_ns = bench_now_ns();

    gen.wheel_ms = now_ns / BENCH_NS_PER_MS;
    phase_enter(OPENING, now_ns, OPENING_LIMIT_S * BENCH_NS_PER_S);
    run_turn(now_ns);
    while (gen.phase != DONE) {
        int n = epoll_wait(gen.epoll_fd, events, EVENTS, wait_ms(now_ns));
        for (int i = 0; i < n; i++)
            connection_on_event(events[i].data.ptr);
        now_ns = bench_now_ns();
        wheel_turn(now_ns);
        run_turn(now_ns);
    }
    gen.errors[ERROR_unanswered] = gen.asking;
}

// --- the report

static double per_operation_us(int64_t ns)
{
    double count = (double)gen.latencies.count;
    return count > 0 ? (double)ns / count / BENCH_NS_PER_US : 0;
}

static double quantile_us(double share)
{
    return latencies_quantile_ns(&gen.latencies, share) / BENCH_NS_PER_US;
}

static void report(void)
{
    double seconds = (double)(gen.measured_to_ns - gen.measured_from_ns) / BENCH_NS_PER_S;
    double ops = (double)gen.latencies.count;
    long errors = 0;

    printf("{\"clients\": %ld, \"ops\": %.0f, \"seconds\": %.6f, \"ops_per_s\": %.1f, ",
           options.clients, ops, seconds, seconds > 0 ? ops / seconds : 0);
    printf("\"p50_us\": %.3f, \"p99_us\": %.3f, \"p999_us\": %.3f, \"max_us\": %.3f, ",
           quantile_us(0.5), quantile_us(0.99), quantile_us(0.999),
           (double)gen.latencies.max_ns / BENCH_NS_PER_US);
    if (options.cpu_pid)
        printf("\"cpu_us_per_op\": %.4f, ", per_operation_us(gen.cpu_ns));
    printf("\"own_cpu_us_per_op\": %.4f, \"tls\": \"%s\", \"shed\": %ld, \"errors\": {",
           per_operation_us(gen.own_cpu_ns), gen.cipher, gen.shed);
    for (int i = 0; i < ERROR_KIND_COUNT; i++) {
        errors += gen.errors[i];
        printf("%s\"%s\": %ld", i ? ", " : "", error_names[i], gen.errors[i]);
    }
    printf("}, \"errors_in_all\": %ld}\n", errors);
}

// --- start

static void usage(void)
{
    puts("usage: bench_loadgen --port N --clients N [--seconds S] [--warmup S] [--tls] [--idle]\n"
         "                     [--cpu-pid PID] [--find MODE]\n"
         "Closed-loop load on 127.0.0.1: every client sends a ping and waits for its reply.\n"
         "  --seconds S    measure for this long (2); with --idle, end after it (never)\n"
         "  --warmup S     load without measuring, before it (0.5)\n"
         "  --tls          TLS; the certificate is not verified\n"
         "  --idle         hello and one ping each, then do nothing, until a signal\n"
         "  --find MODE    a find with that read preference instead of the ping\n"
         "  --cpu-pid PID  also measure this process's processor time\n"
         "Prints one line of JSON; with --idle also one once all are idle.");
}

static int64_t seconds_option(const char *name, const char *text)
{
    char *end;
    double value = strtod(text, &end);

    errno = 0;
    if (end == text || *end || !(value >= 0 && value <= 3600))
        bench_die("--%s %s: must be a number of seconds from 0 to 3600", name, text);
    return (int64_t)(value * BENCH_NS_PER_S);
}

static bool read_options(int argc, char **argv)
{
    static const struct option names[] = {{"port", required_argument, NULL, 'p'},
                                          {"clients", required_argument, NULL, 'c'},
                                          {"seconds", required_argument, NULL, 's'},
                                          {"warmup", required_argument, NULL, 'w'},
                                          {"tls", no_argument, NULL, 't'},
                                          {"idle", no_argument, NULL, 'i'},
                                          {"cpu-pid", required_argument, NULL, 'P'},
                                          {"find", required_argument, NULL, 'f'},
                                          {0}};
    int64_t seconds_ns = -1;
    int c;

    options.warmup_ns = BENCH_NS_PER_S / 2;
    while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
        if (c == 'p')
            options.port = (uint16_t)bench_number("port", optarg, 1, 65535);
        else if (c == 'c')
            options.clients = bench_number("clients", optarg, 1, 100000);
        else if (c == 's')
            seconds_ns = seconds_option("seconds", optarg);
        else if (c == 'w')
            options.warmup_ns = seconds_option("warmup", optarg);
        else if (c == 't')
            options.tls = true;
        else if (c == 'i')
            options.idle = true;
        else if (c == 'f')
            options.find = optarg;
        else if (c == 'P')
            options.cpu_pid = (pid_t)bench_number("cpu-pid", optarg, 1, INT32_MAX);
        else
            return false;
    }
    options.measured_ns = seconds_ns >= 0 ? seconds_ns : options.idle ? 0 : 2 * BENCH_NS_PER_S;
    return options.port && options.clients && optind == argc;
}

static SSL_CTX *tls_new(void)
{
    SSL_CTX *tls = SSL_CTX_new(TLS_client_method());

    if (!tls)
        bench_die("SSL_CTX_new");
    SSL_CTX_set_verify(tls, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_mode(tls, SSL_MODE_RELEASE_BUFFERS);
    return tls;
}

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

int main(int argc, char **argv)
{
    if (!read_options(argc, argv))
        return usage(), 2;
    bench_start();
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    srand48(1);
    gen.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (gen.epoll_fd < 0)
        bench_die("epoll_create1");
    gen.tls = options.tls ? tls_new() : NULL;
    loadgen_make_hello(&gen.hello);
    if (options.find)
        loadgen_make_find(&gen.operation, options.find);
    else
        loadgen_make_ping(&gen.operation);
    gen.connections = bench_malloc((size_t)options.clients * sizeof *gen.connections);
    memset(gen.connections, 0, (size_t)options.clients * sizeof *gen.connections);
    run();
    report();
}
