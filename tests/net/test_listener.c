// SPDX-License-Identifier: Apache-2.0

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/net/listener.h"

enum { FDS = 8 };

struct hall {
    struct loop *loop;
    int fds[FDS]; // accepted
    int count;
    int stop_at; // that many
    int failures;
    int64_t failed_at_us;
    int64_t last_at_us;
};

static char directory[] = "/tmp/net-test-XXXXXX";

static void hall_accepted(void *arg, int fd)
{
    struct hall *hall = arg;
    if (fd < 0) {
        hall->failures++;
        hall->failed_at_us = loop_now_us(hall->loop);
        loop_stop(hall->loop);
        return;
    }
    assert_in_range(hall->count, 0, FDS - 1);
    hall->fds[hall->count++] = fd;
    hall->last_at_us = loop_now_us(hall->loop);
    if (hall->count == hall->stop_at) {
        loop_stop(hall->loop);
    }
}

static void hall_clear(struct hall *hall)
{
    while (hall->count > 0) {
        close(hall->fds[--hall->count]);
    }
}

static struct listener *hall_open(struct hall *hall, const char *host, char *ret_error)
{
    struct address address;
    const char *words;
    assert_int_equal(address_resolve(host, 0, &address, 1, &words), 1);
    return listener_open(hall->loop, &address, hall_accepted, hall, ret_error, 256);
}

static int connect_to(const struct address *address)
{
    int fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address->storage, address->len), 0);
    return fd;
}

static int connect_to_listener(const struct listener *listener)
{
    struct address address;
    listener_address(listener, &address);
    return connect_to(&address);
}

static int option_get(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof value;
    assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
    return value;
}

static void tcp_socket_comes_ready_for_use(void **state)
{
    (void)state;
    static const char *const hosts[] = {"127.0.0.1", "::1"};
    for (size_t i = 0; i < 2; i++) {
        struct hall hall = {.loop = loop_new(), .stop_at = 1};
        char error[256] = "";
        char text[64];
        struct address address;
        struct listener *listener = hall_open(&hall, hosts[i], error);
        if (listener == NULL && strstr(error, "cannot assign requested address") != NULL) {
            print_message("SKIPPED %s: this machine does not have it\n", hosts[i]);
            loop_free(hall.loop);
            continue;
        }
        assert_string_equal(error, "");
        listener_address(listener, &address);
        address_format(&address, text, sizeof text);
        assert_true(atoi(strrchr(text, ':') + 1) > 0);
        int fd = connect_to_listener(listener);
        loop_run(hall.loop);
        assert_true(fcntl(hall.fds[0], F_GETFL) & O_NONBLOCK);
        assert_true(fcntl(hall.fds[0], F_GETFD) & FD_CLOEXEC);
        assert_int_equal(option_get(hall.fds[0], IPPROTO_TCP, TCP_NODELAY), 1);
        assert_int_equal(option_get(hall.fds[0], SOL_SOCKET, SO_KEEPALIVE), 1);
        assert_int_equal(option_get(hall.fds[0], IPPROTO_TCP, TCP_KEEPIDLE), 120);
        close(fd);
        hall_clear(&hall);
        listener_free(listener);
        loop_free(hall.loop);
    }
}

static void port_in_use_is_said(void **state)
{
    (void)state;
    struct hall hall = {.loop = loop_new()};
    char error[256] = "";
    char expected[256];
    char text[64];
    struct address address;
    struct listener *listener = hall_open(&hall, "127.0.0.1", error);
    assert_non_null(listener);
    listener_address(listener, &address);
    address_format(&address, text, sizeof text);
    assert_null(listener_open(hall.loop, &address, hall_accepted, &hall, error, sizeof error));
    snprintf(expected, sizeof expected, "%s: address already in use", text);
    assert_string_equal(error, expected);
    listener_free(listener);
    listener = listener_open(hall.loop, &address, hall_accepted, &hall, error, sizeof error);
    assert_non_null(listener); // it is free again
    listener_free(listener);
    loop_free(hall.loop);
}

static void socket_path(char *ret_path, size_t capacity)
{
    snprintf(ret_path, capacity, "%s/test.sock", directory);
}

static void unix_socket_has_a_file_while_it_listens(void **state)
{
    (void)state;
    struct hall hall = {.loop = loop_new(), .stop_at = 1};
    struct stat file;
    char path[64];
    char error[256] = "";
    socket_path(path, sizeof path);
    struct listener *listener = hall_open(&hall, path, error);
    assert_string_equal(error, "");
    int fd = connect_to_listener(listener);
    loop_run(hall.loop);
    assert_int_equal(hall.count, 1);
    assert_null(hall_open(&hall, path, error));
    assert_non_null(strstr(error, "test.sock: address already in use"));
    assert_int_equal(lstat(path, &file), 0);
    close(fd);
    hall_clear(&hall);
    listener_free(listener);
    assert_int_equal(lstat(path, &file), -1);
    loop_free(hall.loop);
}

// As a process leaves it that was killed.
static void stale_file_make(const char *path)
{
    struct address address;
    const char *words;
    assert_int_equal(address_resolve(path, 0, &address, 1, &words), 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address.storage, address.len), 0);
    assert_int_equal(listen(fd, 1), 0);
    close(fd);
}

static void stale_unix_socket_is_taken_over(void **state)
{
    (void)state;
    struct hall hall = {.loop = loop_new(), .stop_at = 1};
    char path[64];
    char error[256] = "";
    socket_path(path, sizeof path);
    stale_file_make(path);
    struct listener *listener = hall_open(&hall, path, error);
    assert_string_equal(error, "");
    int fd = connect_to_listener(listener);
    loop_run(hall.loop);
    assert_int_equal(hall.count, 1);
    close(fd);
    hall_clear(&hall);
    listener_free(listener);
    loop_free(hall.loop);
}

static void file_of_somebody_else_is_left_alone(void **state)
{
    (void)state;
    struct hall hall = {.loop = loop_new()};
    struct stat file;
    char path[64];
    char error[256] = "";
    socket_path(path, sizeof path);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_null(hall_open(&hall, path, error));
    assert_non_null(strstr(error, "is there, and no socket"));
    close(fd);
    assert_int_equal(unlink(path), 0);
    struct listener *listener = hall_open(&hall, path, error);
    assert_non_null(listener);
    assert_int_equal(unlink(path), 0);
    stale_file_make(path); // another one's by now
    listener_free(listener);
    assert_int_equal(lstat(path, &file), 0);
    assert_int_equal(unlink(path), 0);
    loop_free(hall.loop);
}

static void bad_path_is_said(void **state)
{
    (void)state;
    struct hall hall = {.loop = loop_new()};
    char error[256] = "";
    assert_null(hall_open(&hall, "/nowhere/at/all.sock", error));
    assert_string_equal(error, "/nowhere/at/all.sock: no such file or directory");
    loop_free(hall.loop);
}

// The lowest descriptor that is free.
static int descriptor_next(void)
{
    int fd = dup(0);
    assert_true(fd >= 0);
    close(fd);
    return fd;
}

static void without_descriptors_it_pauses_and_goes_on(void **state)
{
    (void)state;
    struct hall hall = {.loop = loop_new(), .stop_at = 3};
    struct rlimit before;
    char error[256] = "";
    struct listener *listener = hall_open(&hall, "127.0.0.1", error);
    assert_non_null(listener);
    int clients[3];
    for (int i = 0; i < 3; i++) {
        clients[i] = connect_to_listener(listener);
    }
    getrlimit(RLIMIT_NOFILE, &before);
    struct rlimit few = {(rlim_t)descriptor_next() + 1, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    loop_run(hall.loop);
    assert_int_equal(hall.count, 1);
    assert_int_equal(hall.failures, 1);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    loop_run(hall.loop);
    assert_int_equal(hall.count, 3);
    assert_int_equal(hall.failures, 1);
    assert_true(hall.last_at_us - hall.failed_at_us >= 90000);
    for (int i = 0; i < 3; i++) {
        close(clients[i]);
    }
    hall_clear(&hall);
    listener_free(listener);
    loop_free(hall.loop);
}

int main(void)
{
    alarm(60);
    if (mkdtemp(directory) == NULL) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tcp_socket_comes_ready_for_use),
        cmocka_unit_test(port_in_use_is_said),
        cmocka_unit_test(unix_socket_has_a_file_while_it_listens),
        cmocka_unit_test(stale_unix_socket_is_taken_over),
        cmocka_unit_test(file_of_somebody_else_is_left_alone),
        cmocka_unit_test(bad_path_is_said),
        cmocka_unit_test(without_descriptors_it_pauses_and_goes_on),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(directory);
    return failed;
}
