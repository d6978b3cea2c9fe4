// SPDX-License-Identifier: Apache-2.0

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/wire_samples.h"
#include "wire/bson_view.h"
#include "wire/frame.h"
#include "wire/max_time.h"

static struct command command_in(const struct buffer *message)
{
    struct op_msg msg;
    struct command command;
    assert_int_equal(op_msg_read(buffer_bytes(message), &msg), WIRE_OK);
    assert_int_equal(command_read(buffer_bytes(message), &msg, &command), WIRE_OK);
    return command;
}

static void begin_with(struct buffer *out, const char *json)
{
    *out = (struct buffer){0};
    sample_begin(out, 7, 0, 0);
    sample_body(out, json);
    sample_end(out);
}

static void assert_body(const struct buffer *message, const char *json)
{
    struct bytes body = command_in(message).body;
    bson_t *expected = sample_document(json);
    assert_int_equal(body.len, expected->len);
    assert_memory_equal(body.at, bson_get_data(expected), body.len);
    bson_destroy(expected);
}

static void assert_clamped(const char *before, struct max_time_bounds bounds, const char *after)
{
    struct buffer message;
    begin_with(&message, before);
    struct command command = command_in(&message);
    bool changed = max_time_clamp(&message, &command, bounds);
    assert_body(&message, after);
    assert_int_equal(changed, strcmp(before, after) != 0);
    buffer_fini(&message);
}

static void a_limit_lowers_what_is_over_it(void **state)
{
    (void)state;
    struct max_time_bounds limit = {.limit_ms = 300};
    assert_clamped("{'find': 'c', 'maxTimeMS': 5000, '$db': 'd'}", limit,
                   "{'find': 'c', 'maxTimeMS': 300, '$db': 'd'}");
    assert_clamped("{'find': 'c', 'maxTimeMS': {'$numberLong': '5000000000'}, '$db': 'd'}", limit,
                   "{'find': 'c', 'maxTimeMS': {'$numberLong': '300'}, '$db': 'd'}");
    assert_clamped("{'find': 'c', 'maxTimeMS': 5000.5, '$db': 'd'}", limit,
                   "{'find': 'c', 'maxTimeMS': 300.0, '$db': 'd'}");
    assert_clamped("{'find': 'c', 'maxTimeMS': 0, '$db': 'd'}", limit,
                   "{'find': 'c', 'maxTimeMS': 300, '$db': 'd'}");
    assert_clamped("{'find': 'c', 'maxTimeMS': 300, '$db': 'd'}", limit,
                   "{'find': 'c', 'maxTimeMS': 300, '$db': 'd'}");
    assert_clamped("{'find': 'c', 'maxTimeMS': 7, '$db': 'd'}", limit,
                   "{'find': 'c', 'maxTimeMS': 7, '$db': 'd'}");
}

static void what_has_none_is_given_one(void **state)
{
    (void)state;
    const char *before = "{'find': 'c', '$db': 'd'}";
    const char *after = "{'find': 'c', '$db': 'd', 'maxTimeMS': 300}";
    assert_clamped(before, (struct max_time_bounds){.limit_ms = 300}, after);
    assert_clamped(before, (struct max_time_bounds){.preset_ms = 300}, after);
    assert_clamped(before, (struct max_time_bounds){.limit_ms = 900, .preset_ms = 300}, after);
    assert_clamped(before, (struct max_time_bounds){.limit_ms = 300, .preset_ms = 900}, after);
    assert_clamped(before, (struct max_time_bounds){0}, before);
}

static void a_preset_leaves_what_has_one(void **state)
{
    (void)state;
    struct max_time_bounds preset = {.preset_ms = 300};
    static const char *const cases[] = {
        "{'find': 'c', 'maxTimeMS': 5000, '$db': 'd'}",
        "{'find': 'c', 'maxTimeMS': 0, '$db': 'd'}",
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_clamped(cases[i], preset, cases[i]);
    }
}

static void what_is_not_for_us_is_left_alone(void **state)
{
    (void)state;
    struct max_time_bounds both = {.limit_ms = 300, .preset_ms = 200};
    static const char *const cases[] = {
        "{'find': 'c', 'maxTimeMS': 'soon', '$db': 'd'}",
        "{'find': 'c', 'maxTimeMS': null, '$db': 'd'}",
        "{'find': 'c', 'maxTimeMS': -5, '$db': 'd'}",
        "{'find': 'c', 'maxTimeMS': {'$numberDouble': 'NaN'}, '$db': 'd'}",
        "{'find': 'c', 'maxTimeMS': {'$numberDecimal': '5000'}, '$db': 'd'}",
        "{'find': 'c', 'tailable': true, 'awaitData': true, '$db': 'd'}",
        "{'aggregate': 'c', 'pipeline': [{'$changeStream': {}}], 'cursor': {}, '$db': 'd'}",
        "{'getMore': {'$numberLong': '5'}, 'collection': 'c', 'maxTimeMS': 900, '$db': 'd'}",
        "{'getMore': {'$numberLong': '5'}, 'collection': 'c', '$db': 'd'}",
        "{'commitTransaction': 1, '$db': 'admin'}",
        "{'commitTransaction': 1, 'maxTimeMS': 900, '$db': 'admin'}",
        "{'killCursors': 'c', 'cursors': [], '$db': 'd'}",
        "{'createIndexes': 'c', 'indexes': [], '$db': 'd'}",
        "{'neverHeardOf': 1, '$db': 'd'}",
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_clamped(cases[i], both, cases[i]);
    }
}

static void one_is_inserted_between_sequences(void **state)
{
    (void)state;
    struct buffer message = {0};
    static const char *const before[] = {"{'_id': 1}", "{'_id': 2}", NULL};
    static const char *const after[] = {"{'ns': 'd.c'}", NULL};
    sample_begin(&message, 7, 0, 0);
    sample_sequence(&message, "ops", before);
    sample_body(&message, "{'bulkWrite': 1, 'ordered': true, '$db': 'admin'}");
    sample_sequence(&message, "nsInfo", after);
    sample_end(&message);
    struct buffer expected = {0};
    sample_begin(&expected, 7, 0, 0);
    sample_sequence(&expected, "ops", before);
    sample_body(&expected, "{'bulkWrite': 1, 'ordered': true, '$db': 'admin', 'maxTimeMS': 40}");
    sample_sequence(&expected, "nsInfo", after);
    sample_end(&expected);
    struct command command = command_in(&message);
    assert_true(max_time_clamp(&message, &command, (struct max_time_bounds){.preset_ms = 40}));
    assert_int_equal(buffer_held(&message), buffer_held(&expected));
    assert_memory_equal(buffer_at(&message), buffer_at(&expected), buffer_held(&expected));
    buffer_fini(&message);
    buffer_fini(&expected);
}

// The longest that a server takes; one byte less than what is inserted would make it too long.
static void a_message_does_not_become_too_long(void **state)
{
    (void)state;
    enum { INSERTED = 15 };
    for (size_t room = INSERTED - 1; room <= INSERTED; room++) {
        struct buffer message;
        begin_with(&message, "{'insert': 'c', '$db': 'd'}");
        size_t begin = buffer_held(&message);
        size_t section = FRAME_MAX_BYTES - room - begin;
        size_t name = sizeof("documents");
        size_t document = section - 1 - 4 - name; // one document: nobody looks into it
        uint8_t *at = buffer_reserve(&message, section);
        memset(at, 0, section);
        at[0] = 1;
        store_i32(at + 1, (int32_t)(section - 1));
        memcpy(at + 5, "documents", name);
        store_i32(at + 5 + name, (int32_t)document);
        buffer_commit(&message, section);
        sample_end(&message);
        struct command command = command_in(&message);
        struct max_time_bounds preset = {.preset_ms = 40};
        assert_int_equal(max_time_clamp(&message, &command, preset), room == INSERTED);
        assert_int_equal(command_in(&message).has_max_time, room == INSERTED);
        buffer_fini(&message);
    }
}

static void the_tighter_of_two_bounds_holds(void **state)
{
    (void)state;
    struct max_time_bounds none = {0};
    struct max_time_bounds a = {.limit_ms = 300, .preset_ms = 200};
    struct max_time_bounds b = {.limit_ms = 400, .preset_ms = 100};
    struct max_time_bounds both = max_time_both(a, b);
    assert_int_equal(both.limit_ms, 300);
    assert_int_equal(both.preset_ms, 200);
    both = max_time_both(b, a);
    assert_int_equal(both.limit_ms, 300);
    assert_int_equal(both.preset_ms, 100);
    both = max_time_both(none, a);
    assert_int_equal(both.limit_ms, 300);
    assert_int_equal(both.preset_ms, 200);
    both = max_time_both(a, none);
    assert_int_equal(both.limit_ms, 300);
    assert_int_equal(max_time_both(none, none).limit_ms, 0);
}

static int64_t time_of(const char *json)
{
    struct buffer message;
    begin_with(&message, json);
    struct command command = command_in(&message);
    int64_t ms = max_time_of(&command);
    buffer_fini(&message);
    return ms;
}

static void what_counts_as_a_limit(void **state)
{
    (void)state;
    assert_int_equal(time_of("{'find': 'c', 'maxTimeMS': 250, '$db': 'd'}"), 250);
    assert_int_equal(time_of("{'commitTransaction': 1, 'maxTimeMS': 9.5, '$db': 'admin'}"), 9);
    assert_int_equal(time_of("{'neverHeardOf': 1, 'maxTimeMS': 3, '$db': 'd'}"), 3);
    assert_int_equal(time_of("{'find': 'c', '$db': 'd'}"), 0);
    assert_int_equal(time_of("{'find': 'c', 'maxTimeMS': 0, '$db': 'd'}"), 0);
    assert_int_equal(time_of("{'find': 'c', 'maxTimeMS': -1, '$db': 'd'}"), 0);
    assert_int_equal(time_of("{'find': 'c', 'maxTimeMS': '5', '$db': 'd'}"), 0);
    assert_int_equal(
        time_of("{'find': 'c', 'maxTimeMS': {'$numberLong': '2147483648'}, '$db': 'd'}"), 0);
    assert_int_equal(time_of("{'getMore': {'$numberLong': '5'}, 'maxTimeMS': 900, '$db': 'd'}"), 0);
}

static void a_value_keeps_its_type(void **state)
{
    (void)state;
    static const struct {
        const char *before;
        const char *after;
    } cases[] = {
        {"{'find': 'c', 'maxTimeMS': 70000, '$db': 'd'}",
         "{'find': 'c', 'maxTimeMS': 1, '$db': 'd'}"},
        {"{'find': 'c', 'maxTimeMS': {'$numberLong': '70000'}, '$db': 'd'}",
         "{'find': 'c', 'maxTimeMS': {'$numberLong': '1'}, '$db': 'd'}"},
        {"{'find': 'c', 'maxTimeMS': 70000.25, '$db': 'd'}",
         "{'find': 'c', 'maxTimeMS': 1.0, '$db': 'd'}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buffer message;
        begin_with(&message, cases[i].before);
        struct command command = command_in(&message);
        max_time_write(&command, buffer_at(&message), 1);
        assert_body(&message, cases[i].after);
        buffer_fini(&message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_limit_lowers_what_is_over_it),
        cmocka_unit_test(what_has_none_is_given_one),
        cmocka_unit_test(a_preset_leaves_what_has_one),
        cmocka_unit_test(what_is_not_for_us_is_left_alone),
        cmocka_unit_test(one_is_inserted_between_sequences),
        cmocka_unit_test(a_message_does_not_become_too_long),
        cmocka_unit_test(the_tighter_of_two_bounds_holds),
        cmocka_unit_test(what_counts_as_a_limit),
        cmocka_unit_test(a_value_keeps_its_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
