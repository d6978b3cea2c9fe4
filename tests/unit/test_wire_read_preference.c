// SPDX-License-Identifier: Apache-2.0

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/wire_samples.h"
#include "wire/frame.h"
#include "wire/read_preference.h"

#define LOOSE "'$readPreference': {'mode': 'primaryPreferred'}"

static void make(struct buffer *out, const char *body)
{
    static const char *const documents[] = {"{'_id': 1}", "{'_id': 2}", NULL};
    *out = (struct buffer){0};
    sample_begin(out, 7, 0, 0);
    sample_sequence(out, "documents", documents);
    sample_body(out, body);
    sample_sequence(out, "others", documents);
    sample_end(out);
}

// NULL: stays as it is.
static void assert_loosened(const char *before, const char *after)
{
    struct buffer message;
    struct buffer expected;
    struct op_msg msg;
    struct command command;
    make(&message, before);
    make(&expected, after ? after : before);
    assert_int_equal(op_msg_read(buffer_bytes(&message), &msg), WIRE_OK);
    assert_int_equal(command_read(buffer_bytes(&message), &msg, &command), WIRE_OK);
    assert_int_equal(read_preference_loosen(&message, &command), after != NULL);
    assert_int_equal(buffer_held(&message), buffer_held(&expected));
    assert_memory_equal(buffer_at(&message), buffer_at(&expected), buffer_held(&expected));
    buffer_fini(&message);
    buffer_fini(&expected);
}

static void what_has_none_is_given_one(void **state)
{
    (void)state;
    assert_loosened("{'find': 'c', '$db': 'd'}", "{'find': 'c', '$db': 'd', " LOOSE "}");
    assert_loosened("{'neverHeardOf': 1, '$db': 'd'}",
                    "{'neverHeardOf': 1, '$db': 'd', " LOOSE "}");
    assert_loosened("{'listCollections': 1, '$db': 'd'}",
                    "{'listCollections': 1, '$db': 'd', " LOOSE "}");
}

static void primary_becomes_preferred_where_it_stands(void **state)
{
    (void)state;
    assert_loosened("{'find': 'c', '$readPreference': {'mode': 'primary'}, '$db': 'd'}",
                    "{'find': 'c', " LOOSE ", '$db': 'd'}");
    assert_loosened("{'find': 'c', '$db': 'd', '$readPreference': {'mode': 'primary'}}",
                    "{'find': 'c', '$db': 'd', " LOOSE "}");
}

static void everything_else_is_left_alone(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "{'find': 'c', '$db': 'd', '$readPreference': {'mode': 'secondary'}}",
        "{'find': 'c', '$db': 'd', '$readPreference': {'mode': 'nearest', 'tags': [{}]}}",
        "{'find': 'c', '$db': 'd', '$readPreference': {'mode': 'primary', 'tags': [{}]}}",
        "{'find': 'c', '$db': 'd', '$readPreference': {'mode': 'no such'}}",
        "{'find': 'c', '$db': 'd', '$readPreference': 'primary'}",
        "{'find': 'c', 'autocommit': false, '$db': 'd'}",
        "{'insert': 'c', '$db': 'd'}",
        "{'commitTransaction': 1, '$db': 'admin'}",
        "{'getMore': {'$numberLong': '5'}, 'collection': 'c', '$db': 'd'}",
        "{'killCursors': 'c', 'cursors': [], '$db': 'd'}",
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_loosened(cases[i], NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_has_none_is_given_one),
        cmocka_unit_test(primary_becomes_preferred_where_it_stands),
        cmocka_unit_test(everything_else_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
