// SPDX-License-Identifier: Apache-2.0
//
// Control: discovery of servers played here (they answer hello and nothing else), jobs, and that it
// stops in time whatever it is waiting for. With $WEIR_TEST_URI, a real server is discovered and
// logged in to, too.

#include "proxy/control/control.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "proxy/log.h"

enum { OP_REPLY = 1, OP_QUERY = 2004, OP_MSG = 2013, MOST_CONNECTIONS = 16, MESSAGE_BYTES = 65536 };

// libmongoc is not built with ThreadSanitizer, which therefore does not see the atomic counts by
// which libmongoc's threads share a picture of the deployment until the last of them frees it: BSON
// and sets. Our handlers free neither.
const char *__tsan_default_suppressions(void);

const char *__tsan_default_suppressions(void)
{
    return "race:^bson_\n"
           "race:^mongoc_set_destroy$\n";
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

static void sleep_ms(int64_t ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

// ---- messages ----

static int32_t int_at(const uint8_t *bytes)
{
    int32_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

static void put_int(uint8_t *bytes, int32_t value)
{
    memcpy(bytes, &value, sizeof value);
}

static bool read_all(int fd, uint8_t *bytes, size_t count)
{
    while (count > 0) {
        ssize_t n = read(fd, bytes, count);
        if (n <= 0) {
            return false;
        }
        bytes += n;
        count -= (size_t)n;
    }
    return true;
}

static bool read_message(int fd, uint8_t *ret_message)
{
    if (!read_all(fd, ret_message, 16)) {
        return false;
    }
    int32_t length = int_at(ret_message);
    return length >= 16 && length <= MESSAGE_BYTES &&
           read_all(fd, ret_message + 16, (size_t)length - 16);
}

// `lead` are the bytes between the header and the document.
static bool write_message(int fd, int32_t opcode, int32_t response_to, const uint8_t *lead,
                          size_t lead_bytes, const bson_t *document)
{
    uint8_t message[MESSAGE_BYTES] = {0};
    size_t length = 16 + lead_bytes + document->len;
    put_int(message, (int32_t)length);
    put_int(message + 4, 1);
    put_int(message + 8, response_to);
    put_int(message + 12, opcode);
    memcpy(message + 16, lead, lead_bytes);
    memcpy(message + 16 + lead_bytes, bson_get_data(document), document->len);
    return write(fd, message, length) == (ssize_t)length;
}

// ---- a server that answers hello ----

struct fake {
    pthread_t thread;
    int stop[2]; // a pipe: closed to end the thread
    uint16_t port;
    pthread_mutex_t lock;
    const char *kind; // standalone, mongos, primary, secondary
    const char *hosts;
    bool mute; // accepts, reads, never answers
    int hellos;
};

static int listen_on(uint16_t port, uint16_t *ret_port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    *ret_port = ntohs(address.sin_port);
    return fd;
}

static void append_hosts(bson_t *hello, const char *hosts)
{
    char copy[256], *rest = copy, *host, key[16];
    bson_t array;
    int i = 0;
    snprintf(copy, sizeof copy, "%s", hosts);
    BSON_APPEND_ARRAY_BEGIN(hello, "hosts", &array);
    while ((host = strsep(&rest, ",")) != NULL) {
        snprintf(key, sizeof key, "%d", i++);
        BSON_APPEND_UTF8(&array, key, host);
    }
    bson_append_array_end(hello, &array);
}

static void fake_hello(const struct fake *fake, bson_t *ret_hello)
{
    bool member = fake->hosts != NULL;
    bool writable = strcmp(fake->kind, "secondary") != 0;
    bson_init(ret_hello);
    BSON_APPEND_BOOL(ret_hello, "ismaster", writable);
    if (strcmp(fake->kind, "mongos") == 0) {
        BSON_APPEND_UTF8(ret_hello, "msg", "isdbgrid");
    }
    if (member) {
        BSON_APPEND_UTF8(ret_hello, "setName", "rs");
        BSON_APPEND_INT32(ret_hello, "setVersion", 1);
        BSON_APPEND_BOOL(ret_hello, "secondary", !writable);
        append_hosts(ret_hello, fake->hosts);
    }
    BSON_APPEND_INT32(ret_hello, "maxBsonObjectSize", 16777216);
    BSON_APPEND_INT32(ret_hello, "maxMessageSizeBytes", 48000000);
    BSON_APPEND_INT32(ret_hello, "maxWriteBatchSize", 100000);
    BSON_APPEND_INT32(ret_hello, "minWireVersion", 0);
    BSON_APPEND_INT32(ret_hello, "maxWireVersion", 17);
    if (member) {
        BSON_APPEND_INT32(ret_hello, "logicalSessionTimeoutMinutes", 30);
    }
    BSON_APPEND_DOUBLE(ret_hello, "ok", 1);
}

static bool fake_answer(struct fake *fake, int fd)
{
    static _Thread_local uint8_t message[MESSAGE_BYTES];
    static const uint8_t reply_lead[20] = {8, [16] = 1}, msg_lead[5] = {0};
    bson_t hello;
    if (!read_message(fd, message)) {
        return false;
    }
    pthread_mutex_lock(&fake->lock);
    bool mute = fake->mute;
    fake->hellos++;
    fake_hello(fake, &hello);
    pthread_mutex_unlock(&fake->lock);
    bool query = int_at(message + 12) == OP_QUERY;
    bool sent = mute || write_message(fd, query ? OP_REPLY : OP_MSG, int_at(message + 4),
                                      query ? reply_lead : msg_lead, query ? 20 : 5, &hello);
    bson_destroy(&hello);
    return sent;
}

struct fake_arg {
    struct fake *fake;
    int listener;
};

static void *fake_main(void *arg)
{
    struct fake *fake = ((struct fake_arg *)arg)->fake;
    struct pollfd polled[2 + MOST_CONNECTIONS] = {
        {.fd = fake->stop[0], .events = POLLIN},
        {.fd = ((struct fake_arg *)arg)->listener, .events = POLLIN}};
    free(arg);
    for (size_t i = 2; i < 2 + MOST_CONNECTIONS; i++) {
        polled[i] = (struct pollfd){.fd = -1, .events = POLLIN};
    }
    while (poll(polled, 2 + MOST_CONNECTIONS, -1) > 0 && polled[0].revents == 0) {
        for (size_t i = 2; i < 2 + MOST_CONNECTIONS; i++) {
            if (polled[i].fd >= 0 && polled[i].revents != 0 && !fake_answer(fake, polled[i].fd)) {
                close(polled[i].fd);
                polled[i].fd = -1;
            }
            if (polled[i].fd < 0 && polled[1].revents != 0) {
                polled[i].fd = accept(polled[1].fd, NULL, NULL);
                polled[1].revents = 0;
            }
        }
    }
    for (size_t i = 1; i < 2 + MOST_CONNECTIONS; i++) {
        if (polled[i].fd >= 0) {
            close(polled[i].fd);
        }
    }
    return NULL;
}

// port 0: a free one is taken.
static void fake_start(struct fake *fake)
{
    struct fake_arg *arg = malloc(sizeof *arg);
    *arg = (struct fake_arg){fake, listen_on(fake->port, &fake->port)};
    assert_int_equal(pipe2(fake->stop, O_CLOEXEC), 0);
    assert_int_equal(pthread_mutex_init(&fake->lock, NULL), 0);
    assert_int_equal(pthread_create(&fake->thread, NULL, fake_main, arg), 0);
}

static void fake_stop(struct fake *fake)
{
    close(fake->stop[1]);
    pthread_join(fake->thread, NULL);
    close(fake->stop[0]);
    pthread_mutex_destroy(&fake->lock);
}

static void fake_become(struct fake *fake, const char *kind)
{
    pthread_mutex_lock(&fake->lock);
    fake->kind = kind;
    pthread_mutex_unlock(&fake->lock);
}

static int fake_hellos(struct fake *fake)
{
    pthread_mutex_lock(&fake->lock);
    int hellos = fake->hellos;
    pthread_mutex_unlock(&fake->lock);
    return hellos;
}

// A port that nobody listens on (just now, and most likely for as long as a test takes).
static uint16_t free_port(void)
{
    uint16_t port;
    close(listen_on(0, &port));
    return port;
}

// ---- who is told ----

struct watcher {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct topology *topology;
    int count;
    struct deployment *deployment;
    struct control *control;
};

static void on_topology(void *arg, struct topology *topology)
{
    struct watcher *watcher = arg;
    pthread_mutex_lock(&watcher->lock);
    assert_int_equal(topology->generation,
                     watcher->topology == NULL ? 1 : watcher->topology->generation + 1);
    topology_drop(watcher->topology);
    watcher->topology = topology;
    watcher->count++;
    pthread_cond_broadcast(&watcher->changed);
    pthread_mutex_unlock(&watcher->lock);
}

static void watch(struct watcher *watcher, const char *format, ...)
{
    char uri[512], error[256] = "";
    va_list list;
    va_start(list, format);
    vsnprintf(uri, sizeof uri, format, list);
    va_end(list);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    *watcher = (struct watcher){.topology = NULL};
    pthread_mutex_init(&watcher->lock, NULL);
    pthread_cond_init(&watcher->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    watcher->deployment = deployment_parse(uri, error, sizeof error);
    if (watcher->deployment == NULL) {
        fail_msg("%s: %s", uri, error);
    }
    watcher->control =
        control_start(watcher->deployment, (struct control_listener){on_topology, NULL, watcher});
}

// Returns how many ms control_stop took.
static int64_t unwatch(struct watcher *watcher)
{
    int64_t start_ms = now_ms();
    control_stop(watcher->control);
    int64_t took_ms = now_ms() - start_ms;
    deployment_free(watcher->deployment);
    topology_drop(watcher->topology);
    pthread_cond_destroy(&watcher->changed);
    pthread_mutex_destroy(&watcher->lock);
    return took_ms;
}

typedef bool condition_fn(const struct topology *topology, const void *arg);

// How many ms it took until the newest snapshot met the condition; fails after within_ms.
static int64_t wait_until(struct watcher *watcher, condition_fn *met, const void *arg,
                          int64_t within_ms)
{
    int64_t start_ms = now_ms(), end_ms = start_ms + within_ms;
    struct timespec end = {.tv_sec = end_ms / 1000, .tv_nsec = end_ms % 1000 * 1000000};
    int error = 0;
    pthread_mutex_lock(&watcher->lock);
    while (error == 0 && (watcher->topology == NULL || !met(watcher->topology, arg))) {
        error = pthread_cond_timedwait(&watcher->changed, &watcher->lock, &end);
    }
    pthread_mutex_unlock(&watcher->lock);
    assert_int_equal(error, 0);
    return now_ms() - start_ms;
}

static const struct server_info *find_server(const struct topology *topology, uint16_t port)
{
    char name[32];
    snprintf(name, sizeof name, "127.0.0.1:%u", port);
    for (size_t i = 0; i < topology->server_count; i++) {
        if (strcmp(topology->servers[i].name, name) == 0) {
            return &topology->servers[i];
        }
    }
    return NULL;
}

struct expectation {
    uint16_t port;
    enum server_kind kind;
};

static bool server_is(const struct topology *topology, const void *arg)
{
    const struct expectation *expected = arg;
    const struct server_info *server = find_server(topology, expected->port);
    return server != NULL && server->kind == expected->kind;
}

static bool writable_is(const struct topology *topology, const void *arg)
{
    const struct server_info *server = topology_writable(topology);
    return server != NULL && server == find_server(topology, *(const uint16_t *)arg);
}

static bool nothing_writable(const struct topology *topology, const void *arg)
{
    (void)arg;
    return topology_writable(topology) == NULL;
}

static bool any_writable(const struct topology *topology, const void *arg)
{
    return !nothing_writable(topology, arg);
}

static bool anything(const struct topology *topology, const void *arg)
{
    (void)topology, (void)arg;
    return true;
}

// ---- discovery ----

static void test_standalone(void **state)
{
    (void)state;
    struct fake fake = {.kind = "standalone"};
    struct watcher watcher;
    fake_start(&fake);
    watch(&watcher, "mongodb://127.0.0.1:%u/", fake.port);
    wait_until(&watcher, writable_is, &fake.port, 2000);
    const struct server_info *server = topology_writable(watcher.topology);
    assert_int_equal(server->kind, SERVER_STANDALONE);
    assert_string_equal(server->host, "127.0.0.1");
    assert_int_equal(server->min_wire_version, 0);
    assert_int_equal(server->max_wire_version, 17);
    assert_int_equal(server->max_bson_bytes, 16777216);
    assert_int_equal(server->max_message_bytes, 48000000);
    assert_int_equal(server->max_write_batch, 100000);
    assert_int_equal(server->session_timeout_minutes, -1);
    assert_int_equal(server->address_count, 1);
    struct sockaddr_in address;
    memcpy(&address, &server->addresses[0].storage, sizeof address);
    assert_int_equal(address.sin_family, AF_INET);
    assert_int_equal(ntohs(address.sin_port), fake.port);
    unwatch(&watcher);
    fake_stop(&fake);
}

// A server that is not there yet is found when it is; one that goes is missed, and found again. It
// never pushes, so going is noticed by the next check.
static void test_up_down_up(void **state)
{
    (void)state;
    struct fake fake = {.kind = "standalone", .port = free_port()};
    struct watcher watcher;
    watch(&watcher, "mongodb://127.0.0.1:%u/", fake.port);
    wait_until(&watcher, nothing_writable, NULL, 2000);
    sleep_ms(1500);
    for (int i = 0; i < 2; i++) {
        fake_start(&fake);
        int64_t took_ms = wait_until(&watcher, writable_is, &fake.port, 5000);
        if (took_ms > 1100) {
            fail_msg("found after %d ms", (int)took_ms);
        }
        fake_stop(&fake);
        wait_until(&watcher, nothing_writable, NULL, 4000);
        const struct server_info *server = find_server(watcher.topology, fake.port);
        assert_int_equal(server->kind, SERVER_UNKNOWN);
        assert_int_equal(server->max_wire_version, 17);
    }
    unwatch(&watcher);
}

// From one seed, which is not the primary; then they change places.
static void test_replica_set(void **state)
{
    (void)state;
    char hosts[64];
    struct fake first = {.kind = "secondary"}, second = {.kind = "primary"};
    struct watcher watcher;
    fake_start(&first);
    fake_start(&second);
    snprintf(hosts, sizeof hosts, "127.0.0.1:%u,127.0.0.1:%u", first.port, second.port);
    first.hosts = second.hosts = hosts;
    watch(&watcher, "mongodb://127.0.0.1:%u/", first.port);
    wait_until(&watcher, writable_is, &second.port, 2000);
    struct expectation expected = {first.port, SERVER_SECONDARY};
    wait_until(&watcher, server_is, &expected, 2000);
    assert_int_equal(watcher.topology->server_count, 2);
    assert_int_equal(find_server(watcher.topology, first.port)->address_count, 1);
    assert_int_equal(find_server(watcher.topology, first.port)->session_timeout_minutes, 30);
    fake_become(&second, "secondary");
    wait_until(&watcher, nothing_writable, NULL, 4000);
    fake_become(&first, "primary");
    wait_until(&watcher, writable_is, &first.port, 1500);
    unwatch(&watcher);
    fake_stop(&first);
    fake_stop(&second);
}

static void test_direct_connection_to_a_secondary(void **state)
{
    (void)state;
    char hosts[64];
    struct fake fake = {.kind = "secondary"};
    struct watcher watcher;
    fake_start(&fake);
    snprintf(hosts, sizeof hosts, "127.0.0.1:%u,127.0.0.1:%u", fake.port, free_port());
    fake.hosts = hosts;
    watch(&watcher, "mongodb://127.0.0.1:%u/?directConnection=true", fake.port);
    struct expectation expected = {fake.port, SERVER_SECONDARY};
    wait_until(&watcher, server_is, &expected, 2000);
    assert_int_equal(watcher.topology->server_count, 1);
    // It is asked everything, and says itself what it does not do.
    assert_true(writable_is(watcher.topology, &fake.port));
    expected.kind = SERVER_PRIMARY;
    fake_become(&fake, "primary");
    wait_until(&watcher, server_is, &expected, 4000);
    unwatch(&watcher);
    fake_stop(&fake);
}

static void test_first_of_several_mongos(void **state)
{
    (void)state;
    struct fake first = {.kind = "mongos"}, second = {.kind = "mongos"};
    struct watcher watcher;
    fake_start(&first);
    fake_start(&second);
    watch(&watcher, "mongodb://127.0.0.1:%u,127.0.0.1:%u/", first.port, second.port);
    struct expectation expected = {second.port, SERVER_MONGOS};
    wait_until(&watcher, server_is, &expected, 2000);
    wait_until(&watcher, writable_is, &first.port, 2000);
    fake_stop(&first);
    wait_until(&watcher, writable_is, &second.port, 4000);
    unwatch(&watcher);
    fake_stop(&second);
}

static void test_load_balancer_is_not_asked(void **state)
{
    (void)state;
    struct fake fake = {.kind = "standalone"};
    struct watcher watcher;
    fake_start(&fake);
    watch(&watcher, "mongodb://localhost:%u/?loadBalanced=true", fake.port);
    wait_until(&watcher, any_writable, NULL, 2000);
    sleep_ms(300);
    const struct server_info *server = topology_writable(watcher.topology);
    assert_non_null(server);
    assert_int_equal(server->kind, SERVER_LOAD_BALANCER);
    assert_true(server->address_count >= 1);
    assert_int_equal(server->max_wire_version, 0);
    unwatch(&watcher);
    assert_int_equal(fake_hellos(&fake), 0);
    fake_stop(&fake);
}

static void test_name_that_cannot_be_resolved(void **state)
{
    (void)state;
    struct watcher watcher;
    watch(&watcher, "mongodb://%s.sock:27017/?loadBalanced=true", "x");
    unwatch(&watcher);
    char path[201];
    memset(path, 'x', 200);
    path[200] = '\0';
    watch(&watcher, "mongodb://%%2F%s.sock/?loadBalanced=true", path);
    wait_until(&watcher, anything, NULL, 2000);
    assert_int_equal(watcher.topology->servers[0].kind, SERVER_LOAD_BALANCER);
    assert_int_equal(watcher.topology->servers[0].address_count, 0);
    assert_null(topology_writable(watcher.topology));
    unwatch(&watcher);
}

// ---- names that hang ----

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool hangs;
    int waiting;
} resolver = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0};

static void wait_while_it_hangs(void)
{
    pthread_mutex_lock(&resolver.lock);
    resolver.waiting++;
    pthread_cond_broadcast(&resolver.changed);
    while (resolver.hangs) {
        pthread_cond_wait(&resolver.changed, &resolver.lock);
    }
    resolver.waiting--;
    pthread_cond_broadcast(&resolver.changed);
    pthread_mutex_unlock(&resolver.lock);
}

static void resolver_hang(bool hangs)
{
    pthread_mutex_lock(&resolver.lock);
    resolver.hangs = hangs;
    pthread_cond_broadcast(&resolver.changed);
    pthread_mutex_unlock(&resolver.lock);
}

static void wait_for_lookups(int count)
{
    pthread_mutex_lock(&resolver.lock);
    while (resolver.waiting != count) {
        pthread_cond_wait(&resolver.changed, &resolver.lock);
    }
    pthread_mutex_unlock(&resolver.lock);
}

// In the place of libc's. What hangs is weir's own question for "localhost", for which libmongoc
// asks in another way: its monitor reaches the server all the same.
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **ret_list)
{
    union {
        void *symbol;
        int (*call)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    } real = {dlsym(RTLD_NEXT, "getaddrinfo")};
    if (strcmp(node, "localhost") == 0 && hints->ai_flags == AI_NUMERICSERV) {
        wait_while_it_hangs();
    }
    return real.call(node, service, hints, ret_list);
}

static bool localhost_is_there(const struct topology *topology, const void *arg)
{
    (void)arg;
    for (size_t i = 0; i < topology->server_count; i++) {
        const struct server_info *server = &topology->servers[i];
        if (strncmp(server->name, "localhost:", 10) == 0) {
            return server->kind == SERVER_SECONDARY && server->address_count > 0;
        }
    }
    return false;
}

// Two change places while the third's name hangs: that is published at once. The third is when its
// address has come.
static void test_name_that_hangs_delays_no_failover(void **state)
{
    (void)state;
    char hosts[96];
    struct fake first = {.kind = "primary"}, second = {.kind = "secondary"},
                third = {.kind = "secondary"};
    struct watcher watcher;
    fake_start(&first);
    fake_start(&second);
    fake_start(&third);
    snprintf(hosts, sizeof hosts, "127.0.0.1:%u,127.0.0.1:%u,localhost:%u", first.port, second.port,
             third.port);
    first.hosts = second.hosts = third.hosts = hosts;
    resolver_hang(true);
    watch(&watcher, "mongodb://127.0.0.1:%u/?replicaSet=rs&heartbeatFrequencyMS=500", first.port);
    wait_for_lookups(1);
    wait_until(&watcher, writable_is, &first.port, 10000);
    fake_become(&first, "secondary");
    fake_become(&second, "primary");
    wait_until(&watcher, writable_is, &second.port, 10000);
    pthread_mutex_lock(&watcher.lock);
    assert_false(localhost_is_there(watcher.topology, NULL));
    pthread_mutex_unlock(&watcher.lock);
    resolver_hang(false);
    wait_until(&watcher, localhost_is_there, NULL, 10000);
    unwatch(&watcher);
    fake_stop(&first);
    fake_stop(&second);
    fake_stop(&third);
}

// Its thread ends by itself, and touches nothing that is gone.
static void test_stops_while_a_name_hangs(void **state)
{
    (void)state;
    struct watcher watcher;
    resolver_hang(true);
    watch(&watcher, "mongodb://localhost:%u/?loadBalanced=true", free_port());
    wait_for_lookups(1);
    unwatch(&watcher);
    resolver_hang(false);
    wait_for_lookups(0);
}

static void do_nothing(struct control_job *job)
{
    (void)job;
}

// Answers that say the same are no news, nor is it one that the thread woke up.
static void test_no_news_is_not_published(void **state)
{
    (void)state;
    struct fake fake = {.kind = "standalone"};
    struct watcher watcher;
    fake_start(&fake);
    watch(&watcher, "mongodb://127.0.0.1:%u/?heartbeatFrequencyMS=500", fake.port);
    wait_until(&watcher, writable_is, &fake.port, 2000);
    int hellos = fake_hellos(&fake), count = watcher.count;
    struct control_job job = {NULL, do_nothing};
    control_post(watcher.control, &job);
    sleep_ms(1800);
    assert_true(fake_hellos(&fake) >= hellos + 2);
    pthread_mutex_lock(&watcher.lock);
    assert_int_equal(watcher.count, count);
    pthread_mutex_unlock(&watcher.lock);
    unwatch(&watcher);
    fake_stop(&fake);
}

// A thousand requests are one check, and it does not wait for the heartbeat.
static void test_requested_scan(void **state)
{
    (void)state;
    char hosts[32];
    struct fake fake = {.kind = "primary"};
    struct watcher watcher;
    fake_start(&fake);
    snprintf(hosts, sizeof hosts, "127.0.0.1:%u", fake.port);
    fake.hosts = hosts;
    watch(&watcher, "mongodb://127.0.0.1:%u/?heartbeatFrequencyMS=60000", fake.port);
    wait_until(&watcher, writable_is, &fake.port, 2000);
    sleep_ms(700);
    int before = fake_hellos(&fake);
    for (int i = 0; i < 1000; i++) {
        control_request_scan(watcher.control);
    }
    sleep_ms(700);
    int after = fake_hellos(&fake);
    assert_in_range(after, before + 1, before + 2);
    fake_become(&fake, "secondary");
    control_request_scan(watcher.control);
    wait_until(&watcher, nothing_writable, NULL, 1500);
    unwatch(&watcher);
    fake_stop(&fake);
}

// ---- the log ----

static void test_changes_are_logged_once(void **state)
{
    (void)state;
    char log[16384];
    struct fake fake = {.kind = "standalone", .port = free_port()};
    struct watcher watcher;
    FILE *file = tmpfile();
    assert_non_null(file);
    log_init(LOG_LOGFMT, fileno(file));
    watch(&watcher, "mongodb://127.0.0.1:%u/", fake.port);
    sleep_ms(2500);
    fake_start(&fake);
    wait_until(&watcher, writable_is, &fake.port, 2000);
    sleep_ms(2500);
    fake_stop(&fake);
    wait_until(&watcher, nothing_writable, NULL, 4000);
    sleep_ms(300);
    unwatch(&watcher);
    log_init(LOG_LOGFMT, open("/dev/null", O_WRONLY | O_CLOEXEC));
    rewind(file);
    size_t bytes = fread(log, 1, sizeof log - 1, file);
    log[bytes] = '\0';
    fclose(file);

    static const char *const expected[] = {
        "level=warn event=server_down server=127.0.0.1:", "level=warn event=no_writable_server",
        "level=info event=server_up server=127.0.0.1:",
        "level=warn event=server_down server=127.0.0.1:"};
    char *rest = log, *line;
    size_t lines = 0;
    while ((line = strsep(&rest, "\n")) != NULL && line[0] != '\0') {
        if (lines == 4 || strstr(line, expected[lines]) == NULL) {
            fail_msg("line %d: %s", (int)lines, line);
        }
        if (strstr(line, "server_down") != NULL) {
            assert_non_null(strstr(line, "reason="));
        }
        if (strstr(line, "server_up") != NULL) {
            assert_non_null(strstr(line, "kind=standalone"));
        }
        lines++;
    }
    assert_int_equal(lines, 4);
}

// ---- jobs ----

struct job {
    struct control_job job; // first
    struct watcher *watcher;
    int number;
    int64_t takes_ms;
};

static int ran[64];
static int ran_count;

static void run_job(struct control_job *job)
{
    struct job *self = (struct job *)job;
    sleep_ms(self->takes_ms);
    pthread_mutex_lock(&self->watcher->lock);
    ran[ran_count++] = self->number;
    pthread_cond_broadcast(&self->watcher->changed);
    pthread_mutex_unlock(&self->watcher->lock);
}

static void wait_for_jobs(struct watcher *watcher, int count)
{
    pthread_mutex_lock(&watcher->lock);
    while (ran_count < count) {
        pthread_cond_wait(&watcher->changed, &watcher->lock);
    }
    pthread_mutex_unlock(&watcher->lock);
}

static void test_jobs_run_in_order(void **state)
{
    (void)state;
    struct watcher watcher;
    struct job jobs[50];
    watch(&watcher, "mongodb://127.0.0.1:%u/", free_port());
    ran_count = 0;
    for (int i = 0; i < 50; i++) {
        jobs[i] = (struct job){{NULL, run_job}, &watcher, i, 0};
        control_post(watcher.control, &jobs[i].job);
    }
    wait_for_jobs(&watcher, 50);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(ran[i], i);
    }
    unwatch(&watcher);
}

// The one that runs is waited for; the others are their owner's again.
static void test_stop_leaves_jobs(void **state)
{
    (void)state;
    struct watcher watcher;
    struct job *jobs = malloc(3 * sizeof *jobs);
    watch(&watcher, "mongodb://127.0.0.1:%u/", free_port());
    ran_count = 0;
    for (int i = 0; i < 3; i++) {
        jobs[i] = (struct job){{NULL, run_job}, &watcher, i, 300};
    }
    for (int i = 0; i < 3; i++) {
        control_post(watcher.control, &jobs[i].job);
    }
    wait_for_jobs(&watcher, 1);
    sleep_ms(100);
    control_stop(watcher.control);
    free(jobs);
    assert_int_equal(ran_count, 2);
    deployment_free(watcher.deployment);
    topology_drop(watcher.topology);
    pthread_cond_destroy(&watcher.changed);
    pthread_mutex_destroy(&watcher.lock);
}

// ---- stopping ----

static void assert_stops_in_time(struct watcher *watcher)
{
    int64_t took_ms = unwatch(watcher);
    if (took_ms > 900) {
        fail_msg("stopped after %d ms", (int)took_ms);
    }
}

static void test_stops_at_once(void **state)
{
    (void)state;
    struct watcher watcher;
    watch(&watcher, "mongodb://127.0.0.1:%u/", free_port());
    assert_stops_in_time(&watcher);
}

// A server that takes the connection and says nothing; the thread that waits for it is left behind.
static void test_stops_beside_a_mute_server(void **state)
{
    (void)state;
    struct fake fake = {.kind = "standalone", .mute = true};
    struct watcher watcher;
    fake_start(&fake);
    watch(&watcher, "mongodb://127.0.0.1:%u/?connectTimeoutMS=3000", fake.port);
    sleep_ms(500);
    assert_stops_in_time(&watcher);
    fake_stop(&fake);
}

// Whatever DNS does with this name: fail at once, or let wait.
static void test_stops_while_srv_is_looked_up(void **state)
{
    (void)state;
    struct watcher watcher;
    watch(&watcher, "mongodb+srv://u:p@cluster.weir.invalid/");
    clock_t before = clock();
    control_request_scan(watcher.control);
    sleep_ms(500);
    if (clock() - before > CLOCKS_PER_SEC / 5) {
        fail_msg("it does not sleep");
    }
    assert_null(watcher.topology);
    assert_stops_in_time(&watcher);
}

// ---- a real server ----

// Blocks. False if the connection broke.
static bool talk(int fd, const bson_t *command, bson_t *ret_reply)
{
    static uint8_t message[MESSAGE_BYTES];
    static const uint8_t lead[5] = {0};
    bson_t reply;
    if (!write_message(fd, OP_MSG, 0, lead, sizeof lead, command) || !read_message(fd, message)) {
        return false;
    }
    assert_int_equal(int_at(message + 12), OP_MSG);
    assert_true(bson_init_static(&reply, message + 21, (size_t)int_at(message + 21)));
    bson_copy_to(&reply, ret_reply);
    return true;
}

static enum auth_status log_in(int fd, struct auth *auth, bool speculate)
{
    bson_t *hello = BCON_NEW("hello", BCON_INT32(1), "$db", BCON_UTF8("admin"));
    bson_t reply, command;
    if (speculate) {
        auth_speculate(auth, hello);
    }
    assert_true(talk(fd, hello, &reply));
    enum auth_status status = auth_begin(auth, &reply, &command);
    while (status == AUTH_SEND || status == AUTH_DERIVE) {
        if (status == AUTH_DERIVE) {
            auth_derive(auth);
        } else {
            bson_destroy(&reply);
            assert_true(talk(fd, &command, &reply));
            bson_destroy(&command);
        }
        status = auth_continue(auth, &reply, &command);
    }
    bson_destroy(&reply);
    bson_destroy(hello);
    return status;
}

static int connect_to(const struct server_info *server)
{
    const struct address *address = &server->addresses[0];
    int fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address->storage, address->len), 0);
    return fd;
}

static bool is_allowed(int fd)
{
    bson_t *command = BCON_NEW("listDatabases", BCON_INT32(1), "$db", BCON_UTF8("admin"));
    bson_t reply;
    bson_iter_t iter;
    assert_true(talk(fd, command, &reply));
    bool ok = bson_iter_init_find(&iter, &reply, "ok") && bson_iter_as_bool(&iter);
    bson_destroy(&reply);
    bson_destroy(command);
    return ok;
}

static void log_in_to(const struct server_info *server, const struct credential *credential,
                      bool speculate, bool expected)
{
    struct key_cache *cache = key_cache_new();
    for (int i = 0; i < 2; i++) {
        int fd = connect_to(server);
        struct auth *auth = auth_new(credential, cache);
        enum auth_status status = log_in(fd, auth, speculate);
        if ((status == AUTH_DONE) != expected) {
            fail_msg("%s: %s", credential->mechanism, auth_error(auth));
        }
        if (status == AUTH_DONE) {
            assert_true(is_allowed(fd));
        } else {
            print_message("%s\n", auth_error(auth));
        }
        auth_free(auth);
        close(fd);
    }
    key_cache_free(cache);
}

static void test_real_server(void **state)
{
    (void)state;
    const char *uri = getenv("WEIR_TEST_URI");
    if (uri == NULL || strstr(uri, "tls=true") != NULL) {
        print_message("skipped: WEIR_TEST_URI names no server (without TLS) to log in to\n");
        skip();
    }
    struct watcher watcher;
    watch(&watcher, "%s", uri);
    wait_until(&watcher, any_writable, NULL, 10000);
    const struct server_info *server = topology_writable(watcher.topology);
    struct credential credential = watcher.deployment->credential;
    print_message("%s: kind %d, wire version %d, user %s\n", server->name, server->kind,
                  server->max_wire_version,
                  credential.username == NULL ? "none" : credential.username);
    log_in_to(server, &credential, true, true);
    if (credential.username != NULL) {
        char wrong[] = "not the password";
        if (credential.mechanism == NULL) {
            credential.mechanism = "SCRAM-SHA-256";
        }
        log_in_to(server, &credential, true, true);
        log_in_to(server, &credential, false, true);
        credential.password = wrong;
        log_in_to(server, &credential, true, false);
        log_in_to(server, &credential, false, false);
    }
    unwatch(&watcher);
}

static int silence(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    log_init(LOG_LOGFMT, open("/dev/null", O_WRONLY | O_CLOEXEC));
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_standalone),
        cmocka_unit_test(test_up_down_up),
        cmocka_unit_test(test_replica_set),
        cmocka_unit_test(test_direct_connection_to_a_secondary),
        cmocka_unit_test(test_first_of_several_mongos),
        cmocka_unit_test(test_load_balancer_is_not_asked),
        cmocka_unit_test(test_name_that_cannot_be_resolved),
        cmocka_unit_test(test_name_that_hangs_delays_no_failover),
        cmocka_unit_test(test_stops_while_a_name_hangs),
        cmocka_unit_test(test_no_news_is_not_published),
        cmocka_unit_test(test_requested_scan),
        cmocka_unit_test(test_changes_are_logged_once),
        cmocka_unit_test(test_jobs_run_in_order),
        cmocka_unit_test(test_stop_leaves_jobs),
        cmocka_unit_test(test_stops_at_once),
        cmocka_unit_test(test_stops_beside_a_mute_server),
        cmocka_unit_test(test_stops_while_srv_is_looked_up),
        cmocka_unit_test(test_real_server),
    };
    return cmocka_run_group_tests(tests, silence, NULL);
}
