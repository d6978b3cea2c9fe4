// SPDX-License-Identifier: Apache-2.0

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/guard.h"
#include "tests/unit/wire_samples.h"
#include "wire/bson_view.h"
#include "wire/command.h"
#include "wire/frame.h"
#include "wire/op_query.h"

#define EMPTY 5, 0, 0, 0, 0
#define ADMIN 'a', '.', '$', 'c', 'm', 'd', 0
#define SKIP_RETURN 0, 0, 0, 0, 1, 0, 0, 0

struct query_case {
    const char *what;
    enum wire_error error;
    size_t len;
    uint8_t bytes[80]; // what follows the flags
};

// clang-format off
#define BYTES(...) sizeof((uint8_t[]){__VA_ARGS__}), {__VA_ARGS__}
// clang-format on
// {$db: null} and {$query: null}
#define WITH_DB 10, 0, 0, 0, 0x0a, '$', 'd', 'b', 0, 0
#define WITH_NULL_QUERY 13, 0, 0, 0, 0x0a, '$', 'q', 'u', 'e', 'r', 'y', 0, 0
#define WRAPPED_DB 23, 0, 0, 0, 0x03, '$', 'q', 'u', 'e', 'r', 'y', 0, WITH_DB

static const struct query_case cases[] = {
    {"a command", WIRE_OK, BYTES(ADMIN, SKIP_RETURN, EMPTY)},
    {"with projection", WIRE_OK, BYTES(ADMIN, SKIP_RETURN, EMPTY, EMPTY)},
    {"a collection", WIRE_BAD_QUERY, BYTES('a', '.', 'b', 0, SKIP_RETURN, EMPTY)},
    {"a collection like it", WIRE_BAD_QUERY, BYTES('a', '.', 'b', '.', ADMIN, SKIP_RETURN, EMPTY)},
    {"longer", WIRE_BAD_QUERY,
     BYTES('a', '.', '$', 'c', 'm', 'd', '.', 'x', 0, SKIP_RETURN, EMPTY)},
    {"no database", WIRE_BAD_QUERY, BYTES('.', '$', 'c', 'm', 'd', 0, SKIP_RETURN, EMPTY)},
    {"no dot", WIRE_BAD_QUERY, BYTES('a', 0, SKIP_RETURN, EMPTY)},
    {"no name", WIRE_BAD_QUERY, BYTES(0, SKIP_RETURN, EMPTY)},
    {"name without NUL", WIRE_TRUNCATED, BYTES('a', '.', '$', 'c', 'm', 'd')},
    {"nothing", WIRE_TRUNCATED, 0, {0}},
    {"no numbers", WIRE_TRUNCATED, BYTES(ADMIN, 0, 0, 0, 0, 1, 0, 0)},
    {"no document", WIRE_TRUNCATED, BYTES(ADMIN, SKIP_RETURN)},
    {"document too long", WIRE_TRUNCATED, BYTES(ADMIN, SKIP_RETURN, 6, 0, 0, 0, 0)},
    {"document too short", WIRE_BAD_BSON, BYTES(ADMIN, SKIP_RETURN, 4, 0, 0, 0, 0)},
    {"document without NUL", WIRE_BAD_BSON, BYTES(ADMIN, SKIP_RETURN, 5, 0, 0, 0, 1)},
    {"half a projection", WIRE_TRUNCATED, BYTES(ADMIN, SKIP_RETURN, EMPTY, 5, 0)},
    {"bad projection", WIRE_BAD_BSON, BYTES(ADMIN, SKIP_RETURN, EMPTY, 5, 0, 0, 0, 1)},
    {"and more", WIRE_BAD_QUERY, BYTES(ADMIN, SKIP_RETURN, EMPTY, EMPTY, 0)},
    {"$db", WIRE_DB_IN_QUERY, BYTES(ADMIN, SKIP_RETURN, WITH_DB)},
    {"$db, wrapped", WIRE_DB_IN_QUERY, BYTES(ADMIN, SKIP_RETURN, WRAPPED_DB, 0)},
    {"$query that is none", WIRE_BAD_QUERY, BYTES(ADMIN, SKIP_RETURN, WITH_NULL_QUERY)},
};

static void queries_right_and_wrong(void **state)
{
    (void)state;
    struct guard guard = guard_new(256);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t bytes[256];
        size_t len = FRAME_HEADER_BYTES + 4 + cases[i].len;
        frame_write(bytes, &(struct frame){(int32_t)len, 1, 0, OPCODE_QUERY});
        store_i32(bytes + FRAME_HEADER_BYTES, 4);
        memcpy(bytes + FRAME_HEADER_BYTES + 4, cases[i].bytes, cases[i].len);
        struct op_query query = {.flags = 0xdeadbeef};
        enum wire_error error =
            op_query_read((struct bytes){guard_lay(&guard, bytes, len), len}, &query);
        if (error != cases[i].error) {
            fail_msg("%s: %s", cases[i].what, wire_error_text(error));
        }
        assert_int_equal(query.flags, error ? 0xdeadbeef : 4);
        assert_true(error || bytes_equal(query.database, "a"));
    }
    guard_free(&guard);
}

static struct command command_of(const char *sample)
{
    struct op_query query;
    struct command command;
    assert_int_equal(op_query_read(sample_named(sample), &query), WIRE_OK);
    assert_int_equal(command_read_query(sample_named(sample), &query, &command), WIRE_OK);
    return command;
}

static void the_first_hello_of_drivers(void **state)
{
    (void)state;
    struct command command = command_of("node isMaster");
    assert_true(bytes_equal(command.name, "ismaster"));
    assert_true(command.info->traits & COMMAND_HELLO);
    assert_true(bytes_equal(command.database, "admin"));
    assert_false(command.unacknowledged);
    struct bson_element element;
    assert_true(bson_find(command.body, "client", &element));
}

static void a_wrapped_command_is_unwrapped(void **state)
{
    (void)state;
    struct command command = command_of("wrapped isMaster");
    assert_true(bytes_equal(command.name, "isMaster"));
    struct bson_element element;
    assert_false(bson_find(command.body, "$query", &element));
}

static void an_empty_query_is_no_command(void **state)
{
    (void)state;
    struct buffer out = {0};
    sample_query(&out, 1, "admin.$cmd", "{}");
    struct op_query query;
    struct command command;
    assert_int_equal(op_query_read(buffer_bytes(&out), &query), WIRE_OK);
    assert_int_equal(command_read_query(buffer_bytes(&out), &query, &command), WIRE_EMPTY_COMMAND);
    buffer_fini(&out);
}

static void every_prefix_is_an_error(void **state)
{
    (void)state;
    struct bytes message = sample_named("node isMaster");
    struct guard guard = guard_new(4096);
    struct op_query query;
    for (size_t len = 0; len < message.len; len++) {
        uint8_t *at = guard_lay(&guard, message.at, len);
        assert_int_equal(op_query_read((struct bytes){at, len}, &query), WIRE_TRUNCATED);
        if (len >= FRAME_HEADER_BYTES) {
            store_i32(at, (int32_t)len);
            assert_int_equal(op_query_read((struct bytes){at, len}, &query), WIRE_TRUNCATED);
        }
    }
    guard_free(&guard);
}

static void damage_is_found_or_harmless(void **state)
{
    (void)state;
    static const char *const names[] = {"node isMaster", "wrapped isMaster"};
    struct guard guard = guard_new(4096);
    struct dice dice = {11};
    size_t sound = 0;
    for (int i = 0; i < 50000; i++) {
        struct bytes message = sample_named(names[i % 2]);
        uint8_t *at = guard_lay(&guard, message.at, message.len);
        dice_damage(&dice, at + FRAME_HEADER_BYTES, message.len - FRAME_HEADER_BYTES);
        uint8_t *copy = exact_copy(at, message.len);
        message.at = i & 2 ? at : copy;
        struct op_query query;
        struct command command;
        if (op_query_read(message, &query) == WIRE_OK &&
            command_read_query(message, &query, &command) == WIRE_OK) {
            assert_int_equal(bson_check(command.body), WIRE_OK);
            sound++;
        }
        free(copy);
    }
    assert_true(sound > 5000 && sound < 45000);
    guard_free(&guard);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(queries_right_and_wrong),
        cmocka_unit_test(the_first_hello_of_drivers),
        cmocka_unit_test(a_wrapped_command_is_unwrapped),
        cmocka_unit_test(an_empty_query_is_no_command),
        cmocka_unit_test(every_prefix_is_an_error),
        cmocka_unit_test(damage_is_found_or_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
