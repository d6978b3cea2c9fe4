// SPDX-License-Identifier: Apache-2.0

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/wire_samples.h"
#include "wire/buffer.h"

static void assert_sound(const struct buffer *buffer)
{
    assert_true(buffer->begin <= buffer->end && buffer->end <= buffer->capacity);
    assert_true((buffer->data == NULL) == (buffer->capacity == 0));
}

static void an_empty_one_holds_nothing(void **state)
{
    (void)state;
    struct buffer buffer = {0};
    assert_sound(&buffer);
    assert_null(buffer_at(&buffer));
    assert_int_equal(buffer_held(&buffer), 0);
    assert_null(buffer_reserve(&buffer, 0));
    buffer_append(&buffer, NULL, 0);
    buffer_consume(&buffer, 0);
    buffer_fini(&buffer);
    assert_sound(&buffer);
}

static void what_enters_leaves_in_order(void **state)
{
    (void)state;
    struct buffer buffer = {0};
    buffer_append(&buffer, "abc", 3);
    memcpy(buffer_reserve(&buffer, 3), "def", 3);
    buffer_commit(&buffer, 3);
    assert_int_equal(buffer_held(&buffer), 6);
    assert_memory_equal(buffer_at(&buffer), "abcdef", 6);
    buffer_consume(&buffer, 2);
    assert_memory_equal(buffer_at(&buffer), "cdef", 4);
    buffer_fini(&buffer);
    assert_int_equal(buffer.capacity, 0);
}

static void it_begins_anew_when_nothing_is_held(void **state)
{
    (void)state;
    struct buffer buffer = {0};
    buffer_append(&buffer, "abc", 3);
    buffer_consume(&buffer, 3);
    assert_int_equal(buffer.begin, 0);
    assert_int_equal(buffer.end, 0);
    assert_true(buffer.capacity > 0);
    buffer_fini(&buffer);
}

static void consumed_room_is_used_again(void **state)
{
    (void)state;
    struct buffer buffer = {0};
    memset(buffer_reserve(&buffer, 1000), 'x', 1000);
    buffer_commit(&buffer, 1000);
    buffer_consume(&buffer, 900);
    size_t capacity = buffer.capacity;
    buffer_append(&buffer, "yz", 2);
    memset(buffer_reserve(&buffer, 500), '!', 500);
    assert_int_equal(buffer.capacity, capacity);
    assert_int_equal(buffer.begin, 0);
    assert_int_equal(buffer_held(&buffer), 102);
    assert_memory_equal(buffer_at(&buffer) + 98, "xxyz", 4);
    buffer_fini(&buffer);
}

// A message's length is known before its bytes come: no more than that is taken.
static void a_large_reserve_takes_what_it_asks_for(void **state)
{
    (void)state;
    struct buffer buffer = {0};
    buffer_append(&buffer, "0123456789abcdef", 16);
    buffer_reserve(&buffer, 100000);
    assert_int_equal(buffer.capacity, 100016);
    buffer_fini(&buffer);
}

static void small_appends_move_each_byte_few_times(void **state)
{
    (void)state;
    struct buffer buffer = {0};
    size_t moves = 0;
    const uint8_t *data = NULL;
    for (int i = 0; i < 1000000; i++) {
        size_t begin = buffer.begin;
        buffer_append(&buffer, "x", 1);
        bool moved = buffer.data != data || buffer.begin != begin;
        moves += moved ? buffer_held(&buffer) : 0;
        data = buffer.data;
        if (i % 8 == 0) {
            buffer_consume(&buffer, 1);
        }
    }
    assert_true(moves < 4 * 1000000);
    buffer_fini(&buffer);
}

// Against the plainest model: one array, where what is consumed is only counted.
static void it_agrees_with_a_plain_array(void **state)
{
    (void)state;
    static uint8_t model[200000];
    size_t begin = 0;
    size_t end = 0;
    struct buffer buffer = {0};
    struct dice dice = {42};
    while (end + 300 < sizeof(model)) {
        if (dice_below(&dice, 2)) {
            size_t len = dice_below(&dice, 300);
            for (size_t i = 0; i < len; i++) {
                model[end + i] = (uint8_t)dice_below(&dice, 256);
            }
            buffer_append(&buffer, model + end, len);
            end += len;
        } else {
            size_t len = dice_below(&dice, (uint32_t)(end - begin) + 1);
            buffer_consume(&buffer, len);
            begin += len;
        }
        assert_sound(&buffer);
        assert_int_equal(buffer_held(&buffer), end - begin);
        if (end > begin) {
            assert_memory_equal(buffer_at(&buffer), model + begin, end - begin);
        }
    }
    buffer_fini(&buffer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_one_holds_nothing),
        cmocka_unit_test(what_enters_leaves_in_order),
        cmocka_unit_test(it_begins_anew_when_nothing_is_held),
        cmocka_unit_test(consumed_room_is_used_again),
        cmocka_unit_test(a_large_reserve_takes_what_it_asks_for),
        cmocka_unit_test(small_appends_move_each_byte_few_times),
        cmocka_unit_test(it_agrees_with_a_plain_array),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
