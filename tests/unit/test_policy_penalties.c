// SPDX-License-Identifier: Apache-2.0

#include "test_policy.h"

#include <string.h>

#include "policy/penalties.h"

#define MS INT64_C(1000)

static const uint8_t *address(uint32_t number)
{
    static uint8_t bytes[PENALTY_ADDRESS_BYTES];
    memset(bytes, 0, sizeof bytes);
    bytes[10] = bytes[11] = 0xff;
    for (int i = 0; i < 4; i++) {
        bytes[12 + i] = (uint8_t)(number >> (8 * (3 - i)));
    }
    return bytes;
}

static void whoever_has_not_failed_does_not_wait(void **state)
{
    (void)state;
    struct penalties *penalties = penalties_new();
    penalties_failed(penalties, address(1), 0);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(penalties_wait(penalties, address(2), 0), 0);
    }
    assert_true(penalties_wait(penalties, address(1), 0) > 0);
    penalties_free(penalties);
}

static void the_pause_doubles(void **state)
{
    (void)state;
    static const int64_t pauses_ms[] = {10, 20, 40, 80, 100, 100, 100};
    struct penalties *penalties = penalties_new();
    int64_t now_us = 0;
    for (size_t i = 0; i < sizeof pauses_ms / sizeof pauses_ms[0]; i++) {
        penalties_failed(penalties, address(1), now_us);
        assert_int_equal(penalties_wait(penalties, address(1), now_us), pauses_ms[i] * MS);
        now_us += 1000 * MS;
    }
    penalties_free(penalties);
}

// However many connections it has: one after the other, and those that would wait too long not.
static void attempts_at_once_stand_in_line(void **state)
{
    (void)state;
    struct penalties *penalties = penalties_new();
    for (int i = 0; i < 10; i++) {
        penalties_failed(penalties, address(1), 0);
    }
    int64_t last_us = 0;
    int let_in = 0;
    for (int i = 0; i < 1000; i++) {
        int64_t wait_us = penalties_wait(penalties, address(1), 0);
        if (wait_us >= 0) {
            assert_true(wait_us == last_us + 100 * MS);
            last_us = wait_us;
            let_in++;
        }
    }
    assert_int_equal(let_in, 50);
    assert_int_equal(last_us, PENALTY_LINE_US);
    penalties_free(penalties);
}

static void failures_are_forgotten(void **state)
{
    (void)state;
    struct penalties *penalties = penalties_new();
    penalties_failed(penalties, address(1), 0);
    assert_true(penalties_wait(penalties, address(1), 0) > 0);
    assert_int_equal(penalties_wait(penalties, address(1), PENALTY_FORGET_US), 0);
    penalties_free(penalties);
}

static void a_customer_has_one_network(void **state)
{
    (void)state;
    struct penalties *penalties = penalties_new();
    uint8_t one[PENALTY_ADDRESS_BYTES] = {0x20, 1, 0xd, 0xb8, 0, 0, 0, 1, 1};
    uint8_t same[PENALTY_ADDRESS_BYTES] = {0x20, 1, 0xd, 0xb8, 0, 0, 0, 1, 2};
    uint8_t other[PENALTY_ADDRESS_BYTES] = {0x20, 1, 0xd, 0xb8, 0, 0, 0, 2, 1};
    penalties_failed(penalties, one, 0);
    assert_true(penalties_wait(penalties, same, 0) > 0);
    assert_int_equal(penalties_wait(penalties, other, 0), 0);
    penalties_free(penalties);
}

// More addresses than there are places: the newest are known.
static void the_table_is_bounded(void **state)
{
    (void)state;
    struct penalties *penalties = penalties_new();
    for (uint32_t i = 1; i <= 100000; i++) {
        penalties_failed(penalties, address(i), i);
        assert_true(penalties_wait(penalties, address(i), i) > 0);
    }
    penalties_free(penalties);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whoever_has_not_failed_does_not_wait),
        cmocka_unit_test(the_pause_doubles),
        cmocka_unit_test(attempts_at_once_stand_in_line),
        cmocka_unit_test(failures_are_forgotten),
        cmocka_unit_test(a_customer_has_one_network),
        cmocka_unit_test(the_table_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
