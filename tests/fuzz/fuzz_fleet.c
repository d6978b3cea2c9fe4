// SPDX-License-Identifier: Apache-2.0
//
// A store, or a Sentinel, that says anything to a weir of a fleet. What must hold: weir never
// allows more than there is for it; nobody is killed for a lease while its thread runs; what is
// shown of the peers is of as many as there may be; after an answer that is none the connection is
// closed.
//
//      input: how 1 | round: passes 1, wanted 1, acts ... | the next | ...
//
// Acts are taken as weir reads: act 1, and for some what they say. The thread's functions are
// called by hand, in a time that is invented, on a loop and a stream of one connection.

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

static int take_time(struct timespec *ret_now);
static int take_death(const struct itimerspec *spec);
static int run_at_once(pthread_t *thread, void *(*fn)(void *), void *arg);

#define clock_gettime(clock, now) take_time(now)
#define timer_settime(timer, flags, spec, former) take_death(spec)
#define getentropy(at, len) (memset(at, 7, len), 0)
#define pthread_create(thread, attributes, fn, arg) run_at_once(thread, fn, arg)
#define pthread_detach(thread) ((void)(thread), 0)

#include "proxy/net/lookup.c"
#include "proxy/store.c"
#undef LOOK_US
#include "proxy/fleet.c"

enum { ROUNDS_MOST = 8, CAP = 20, FLOOR = 1, INSTANCES = 8 };
enum { HOW_SENTINEL = 1, HOW_PASSWORD = 2, HOW_USER = 4 };

// The low three bits; the others are how much of it comes at once, 0: all.
enum act { ACT_SAY, ACT_ANSWER, ACT_WAIT, ACT_CLOSE, ACT_FAIL, ACT_SAY_ERROR };

struct timer {
    struct timer *next;
    void (*fn)(void *arg);
    void *arg;
    int64_t at_us;
};

struct loop {
    bool stopped;
    struct timer *timers;
};

struct stream {
    struct stream_handler handler;
    struct buffer pending;
    size_t at_once;
    enum stream_status over; // STREAM_OK: it is not
};

static struct {
    struct input input;
    int64_t now_us;
    int64_t dies_us;
    struct stream *stream;
    struct buffer asked;
    int cap;
    int open;
    int wanted;
} world;

// --- time ---------------------------------------------------------------------------------------

static int take_time(struct timespec *ret_now)
{
    ret_now->tv_sec = world.now_us / 1000000;
    ret_now->tv_nsec = world.now_us % 1000000 * 1000;
    return 0;
}

static int take_death(const struct itimerspec *spec)
{
    int64_t at_us = spec->it_value.tv_sec * INT64_C(1000000) + spec->it_value.tv_nsec / 1000;
    world.dies_us = at_us > 0 ? at_us : INT64_MAX;
    return 0;
}

static int run_at_once(pthread_t *thread, void *(*fn)(void *), void *arg)
{
    *thread = pthread_self();
    fn(arg);
    return 0;
}

static void pass_until(int64_t at_us)
{
    world.now_us = at_us > world.now_us ? at_us : world.now_us;
    MUST(world.now_us < world.dies_us);
}

struct loop *loop_new(void)
{
    return xcalloc(1, sizeof(struct loop));
}

void loop_free(struct loop *loop)
{
    MUST(!loop->timers);
    free(loop);
}

void loop_stop(struct loop *loop)
{
    loop->stopped = true;
}

int64_t loop_now_us(const struct loop *loop)
{
    (void)loop;
    return world.now_us;
}

static void fire_next(struct loop *loop)
{
    struct timer *first = loop->timers;
    for (struct timer *timer = first; timer; timer = timer->next) {
        first = timer->at_us < first->at_us ? timer : first;
    }
    pass_until(first->at_us);
    first->at_us = INT64_MAX;
    first->fn(first->arg);
}

void loop_run(struct loop *loop)
{
    while (!loop->stopped) {
        fire_next(loop);
        if (world.stream && world.input.len > 0) {
            world.stream->handler.ready(world.stream->handler.arg, STREAM_READ);
        }
    }
    loop->stopped = false;
}

struct timer *timer_new(struct loop *loop, void (*fn)(void *arg), void *arg)
{
    struct timer *timer = xcalloc(1, sizeof *timer);
    *timer = (struct timer){loop->timers, fn, arg, INT64_MAX};
    loop->timers = timer;
    return timer;
}

// All go together.
void timer_free(struct timer *timer)
{
    timer->at_us = INT64_MAX;
}

void timer_set(struct timer *timer, int64_t at_us)
{
    timer->at_us = at_us;
}

// --- the store ----------------------------------------------------------------------------------

size_t address_resolve(const char *host, uint16_t port, struct address *ret_addresses,
                       size_t capacity, const char **ret_error)
{
    (void)port;
    *ret_error = "there is none of that name";
    MUST(capacity >= 2 && memchr(host, '\0', STORE_HOST_BYTES));
    memset(ret_addresses, 0, 2 * sizeof *ret_addresses);
    return strcmp(host, "nowhere") == 0 ? 0 : 2;
}

bool address_is_name(const char *host)
{
    (void)host;
    return true;
}

struct tls_client *tls_client_new(const struct tls_client_options *options, char *ret_error,
                                  size_t error_capacity)
{
    (void)options;
    snprintf(ret_error, error_capacity, "no TLS here");
    return NULL;
}

void tls_client_free(struct tls_client *tls)
{
    MUST(!tls);
}

struct stream *stream_connect(struct loop *loop, const struct address *address,
                              struct tls_client *tls, const char *host,
                              struct stream_handler handler)
{
    (void)loop, (void)address, (void)tls, (void)host;
    MUST(!world.stream);
    world.stream = xcalloc(1, sizeof *world.stream);
    world.stream->handler = handler;
    return world.stream;
}

void stream_free(struct stream *stream)
{
    MUST(stream == world.stream);
    buffer_fini(&stream->pending);
    free(stream);
    world.stream = NULL;
    buffer_fini(&world.asked);
}

enum stream_status stream_handshake(struct stream *stream)
{
    uint8_t byte = input_byte(&world.input);
    (void)stream;
    return byte == 255   ? STREAM_FAILED
           : byte == 254 ? STREAM_CLOSED
           : byte == 253 ? STREAM_WAIT
                         : STREAM_OK;
}

static void say(struct stream *stream, const char *text)
{
    buffer_append(&stream->pending, text, strlen(text));
}

static void say_number(struct stream *stream, const char *format, int number)
{
    char text[64];
    snprintf(text, sizeof text, format, number);
    say(stream, text);
}

static void say_lease(struct stream *stream)
{
    struct input *input = &world.input;
    int peers = input_byte(input) % (INSTANCES + 2);
    say_number(stream, "*%d\r\n$7\r\ngranted\r\n", 5 + 5 * peers);
    say_number(stream, "$1\r\n%d\r\n", input_byte(input) % 4);
    say_number(stream, "$1\r\n%d\r\n", input_byte(input) & 1);
    say_number(stream, ":%d\r\n", input_byte(input) & 15);
    say_number(stream, ":%d\r\n", input_byte(input) & 15);
    for (int i = 0; i < peers; i++) {
        say_number(stream, "$3\r\n%03d\r\n", input_byte(input));
        say_number(stream, "$3\r\n%03d\r\n", input_byte(input));
        say(stream, ":3\r\n:4\r\n$4\r\nname\r\n");
    }
}

// What it was asked last, it answers well.
static void say_answer(struct stream *stream)
{
    const void *asked = buffer_at(&world.asked);
    size_t len = buffer_held(&world.asked);
    if (holds_text(asked, len, "EVALSHA")) {
        say_lease(stream);
    } else if (holds_text(asked, len, "SENTINEL")) {
        say(stream, "*2\r\n$5\r\nstore\r\n$4\r\n6379\r\n");
    } else if (holds_text(asked, len, "ROLE")) {
        say(stream, "*1\r\n$6\r\nmaster\r\n");
    } else if (holds_text(asked, len, "SCRIPT")) {
        say(stream, "$4\r\nabcd\r\n");
    } else if (len > 0) {
        say(stream, "+OK\r\n");
    }
    buffer_fini(&world.asked);
}

static void take_act(struct stream *stream)
{
    uint8_t byte = input_byte(&world.input);
    stream->at_once = byte >> 3;
    switch ((enum act)(byte & 7)) {
    case ACT_SAY_ERROR:
        say(stream, "-NOAUTH\r\n");
        break;
    case ACT_SAY: {
        struct bytes piece = input_piece(&world.input);
        buffer_append(&stream->pending, piece.at, piece.len);
        break;
    }
    case ACT_CLOSE:
        stream->over = STREAM_CLOSED;
        break;
    case ACT_FAIL:
        stream->over = STREAM_FAILED;
        break;
    case ACT_WAIT:
        break;
    default:
        say_answer(stream);
        break;
    }
}

enum stream_status stream_read(struct stream *stream, uint8_t *at, size_t capacity, size_t *ret_len)
{
    if (buffer_held(&stream->pending) == 0 && stream->over == STREAM_OK && world.input.len > 0) {
        take_act(stream);
    }
    size_t held = buffer_held(&stream->pending);
    size_t most = stream->at_once && stream->at_once < capacity ? stream->at_once : capacity;
    if (held == 0) {
        return stream->over == STREAM_OK ? STREAM_WAIT : stream->over;
    }
    *ret_len = held < most ? held : most;
    memcpy(at, buffer_at(&stream->pending), *ret_len);
    buffer_consume(&stream->pending, *ret_len);
    return STREAM_OK;
}

enum stream_status stream_write(struct stream *stream, const uint8_t *at, size_t len,
                                size_t *ret_len)
{
    *ret_len = len;
    buffer_fini(&world.asked);
    buffer_append(&world.asked, at, len);
    return stream->over;
}

void stream_watch(struct stream *stream, unsigned directions)
{
    (void)stream, (void)directions;
}

bool stream_is_quiet(struct stream *stream)
{
    return stream->over == STREAM_OK && buffer_held(&stream->pending) == 0;
}

const char *stream_error(const struct stream *stream)
{
    (void)stream;
    return "it broke";
}

const char *stream_peer(const struct stream *stream)
{
    (void)stream;
    return "127.0.0.1:6379";
}

// --- the servers: one, at which as many are open as are allowed and wanted ----------------------

int servers_largest_cap(struct servers *servers)
{
    (void)servers;
    return CAP;
}

void servers_set_fleet_cap(struct servers *servers, int cap, bool cut)
{
    (void)servers;
    MUST(cap >= 0 && cap <= CAP - (INSTANCES - 1) * FLOOR);
    world.cap = cap;
    world.open = cut && world.open > cap ? cap : world.open;
}

void servers_visit(struct servers *servers, void (*visit)(struct server *server, void *arg),
                   void *arg)
{
    static struct server server = {.id = 1};
    (void)servers;
    int most = world.wanted < world.cap ? world.wanted : world.cap;
    world.open = most > world.open ? most : world.open;
    visit(&server, arg);
}

void server_count(struct server *server, int64_t now_us, struct server_counts *ret_counts)
{
    (void)server, (void)now_us;
    *ret_counts = (struct server_counts){.open = world.open, .gate = {.in_flight = world.wanted}};
}

// ------------------------------------------------------------------------------------------------

static char *password_file(void)
{
    static char path[64];
    if (!path[0]) {
        int fd = memfd_create("password", 0);
        MUST(write(fd, "secret\n", 7) == 7);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        log_init(LOG_LOGFMT, open("/dev/null", O_WRONLY | O_CLOEXEC));
    }
    return path;
}

static struct fleet *begin(uint8_t how)
{
    struct fleet *fleet = xcalloc(1, sizeof *fleet);
    char *path = password_file();
    char error[256];
    struct config config = {
        .fleet_redis = how & HOW_SENTINEL ? "redis+sentinel://one,nowhere/main" : "redis://store",
        .fleet_password_file = how & HOW_PASSWORD ? path : NULL,
        .fleet_user = how & HOW_USER ? "user" : NULL,
        .fleet_name = "fleet",
        .fleet_cap = CAP,
        .fleet_floor = FLOOR,
        .fleet_instances = INSTANCES,
        .fleet_lease_us = 10000000,
        .max_connections = CAP,
    };
    fleet->dies_us = INT64_MAX;
    fleet->now.allowed = -1;
    MUST(fleet_check(&config, error, sizeof error) && set_up(fleet, &config, error, sizeof error));
    timer_set(fleet->look, 0);
    return fleet;
}

static void check(const struct fleet *fleet)
{
    const struct lease *lease = &fleet->now.lease;
    MUST(lease->peer_count <= INSTANCES);
    MUST(lease->held >= 0 && lease->held <= CAP - INSTANCES * FLOOR);
    for (size_t i = 0; i < lease->peer_count; i++) {
        MUST(memchr(lease->peers[i].name, '\0', LEASE_NAME_BYTES));
    }
    MUST(store_is_there(fleet->store) == (world.stream != NULL));
    MUST(fleet->was_lost == (world.stream == NULL));
    MUST(fleet->was_lost == (fleet->now.error[0] != '\0'));
}

static void do_round(struct fleet *fleet)
{
    int64_t until_us = world.now_us + 50000 * input_byte(&world.input);
    world.wanted = input_byte(&world.input) & 31;
    while (world.now_us < until_us) {
        fire_next(fleet->loop); // its look, for the store is not waited for
    }
    fleet->loop->stopped = false;
    ask(fleet, false);
    follow_lease(fleet);
    check(fleet);
}

static void end(struct fleet *fleet)
{
    if (store_is_there(fleet->store)) {
        ask(fleet, true);
    }
    store_free(fleet->store);
    while (fleet->loop->timers) {
        struct timer *timer = fleet->loop->timers;
        fleet->loop->timers = timer->next;
        free(timer);
    }
    loop_free(fleet->loop);
    timer_delete(fleet->end);
    pthread_mutex_destroy(&fleet->lock);
    free(fleet);
    MUST(!world.stream);
    buffer_fini(&world.asked);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    memset(&world, 0, sizeof world);
    world.input = (struct input){data, size};
    world.now_us = 1000000;
    world.dies_us = INT64_MAX;
    struct fleet *fleet = begin(input_byte(&world.input));
    for (int i = 0; i < ROUNDS_MOST && world.input.len > 0; i++) {
        do_round(fleet);
    }
    end(fleet);
    return 0;
}
