// SPDX-License-Identifier: Apache-2.0

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "proxy/net/address.h"

static void literals_are_told_as_they_came(void **state)
{
    (void)state;
    static const struct {
        const char *host;
        const char *text;
    } cases[] = {
        {"127.0.0.1", "127.0.0.1:27017"},
        {"0.0.0.0", "0.0.0.0:27017"},
        {"::1", "[::1]:27017"},
        {"[::1]", "[::1]:27017"},
        {"/tmp/weir.sock", "/tmp/weir.sock"},
        {"weir.sock", "weir.sock"},
        {"/tmp/anywhere", "/tmp/anywhere"},
        {"2001:db8::7", "[2001:db8::7]:27017"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct address address;
        const char *error = NULL;
        char text[128];
        assert_int_equal(address_resolve(cases[i].host, 27017, &address, 1, &error), 1);
        assert_null(error);
        assert_false(address_is_name(cases[i].host));
        address_format(&address, text, sizeof text);
        assert_string_equal(text, cases[i].text);
    }
}

static void format_is_cut_to_its_room(void **state)
{
    (void)state;
    struct address address;
    const char *error;
    char text[8] = "#######";
    assert_int_equal(address_resolve("127.0.0.1", 27017, &address, 1, &error), 1);
    address_format(&address, text, 6);
    assert_string_equal(text, "127.0");
    assert_int_equal(text[6], '#');
}

static void unnamed_unix_socket_is_unix(void **state)
{
    (void)state;
    struct address address = {.len = sizeof(sa_family_t)};
    char text[16];
    address.storage.ss_family = AF_UNIX;
    address_format(&address, text, sizeof text);
    assert_string_equal(text, "unix");
}

static void localhost_gives_at_most_what_fits(void **state)
{
    (void)state;
    struct address addresses[ADDRESS_MAX];
    const char *error;
    assert_true(address_is_name("localhost"));
    assert_false(address_is_name("fe80::1%lo"));
    size_t count = address_resolve("localhost", 1, addresses, ADDRESS_MAX, &error);
    assert_in_range(count, 1, ADDRESS_MAX);
    assert_int_equal(address_resolve("localhost", 1, addresses, 1, &error), 1);
}

static void what_is_no_host_is_said(void **state)
{
    (void)state;
    struct address address;
    const char *error = NULL;
    char path[200];
    memset(path, 'a', sizeof path);
    memcpy(path + sizeof path - 6, ".sock", 6);
    assert_int_equal(address_resolve(path, 1, &address, 1, &error), 0);
    assert_string_equal(error, "the path of the Unix socket is too long");
    assert_int_equal(address_resolve("", 1, &address, 1, &error), 0);
    assert_string_equal(error, "no such host");
    // Without name servers it is they who are missing.
    assert_int_equal(address_resolve("nowhere.invalid", 1, &address, 1, &error), 0);
    assert_true(strcmp(error, "no such host") == 0 ||
                strcmp(error, "the name servers do not answer") == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(literals_are_told_as_they_came),
        cmocka_unit_test(format_is_cut_to_its_room),
        cmocka_unit_test(unnamed_unix_socket_is_unix),
        cmocka_unit_test(localhost_gives_at_most_what_fits),
        cmocka_unit_test(what_is_no_host_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
