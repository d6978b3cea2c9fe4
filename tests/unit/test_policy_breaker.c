// SPDX-License-Identifier: Apache-2.0

#include "policy/breaker.h"

#include "tests/unit/test_policy.h"

#define SECOND INT64_C(1000000)

// Each on a connection of its own, a second apart. Returns when the breaker opened, 0 if it did
// not.
static int64_t fail_each_second(struct breaker *breaker, int count, int64_t from_us)
{
    for (int i = 0; i < count; i++) {
        int64_t now_us = from_us + i * SECOND;
        if (breaker_failed(breaker, now_us, now_us)) {
            return now_us;
        }
    }
    return 0;
}

static struct breaker opened(int64_t now_us)
{
    struct breaker breaker = {0};
    breaker_trip(&breaker, now_us);
    return breaker;
}

static void failures_that_go_on_open_it(void **state)
{
    (void)state;
    struct breaker breaker = {0};
    assert_int_equal(fail_each_second(&breaker, 20, 100 * SECOND), 105 * SECOND);
    assert_false(breaker_pass(&breaker, 105 * SECOND));
}

static void few_or_brief_failures_do_not(void **state)
{
    (void)state;
    struct breaker few = {0};
    for (int i = 0; i < BREAKER_FAILURES - 1; i++) {
        assert_false(breaker_failed(&few, i * 10 * SECOND, i * 10 * SECOND));
    }
    struct breaker brief = {0};
    for (int64_t at_us = 1; at_us < BREAKER_WINDOW_US; at_us += 1000) {
        assert_false(breaker_failed(&brief, at_us, at_us));
        assert_true(breaker_pass(&brief, at_us));
    }
}

static void connections_that_are_lost_together_are_one_failure(void **state)
{
    (void)state;
    struct breaker breaker = {0};
    for (int64_t burst = 1; burst < BREAKER_FAILURES; burst++) {
        int64_t now_us = burst * 10 * SECOND;
        for (int i = 0; i < 1000; i++) {
            assert_false(breaker_failed(&breaker, now_us - 5 * SECOND, now_us + i));
        }
    }
    int64_t now_us = BREAKER_FAILURES * 10 * SECOND;
    assert_true(breaker_failed(&breaker, now_us - 5 * SECOND, now_us));
}

static void one_reply_starts_the_count_anew(void **state)
{
    (void)state;
    struct breaker breaker = {0};
    for (int64_t i = 0; i < 100; i++) {
        assert_false(breaker_failed(&breaker, i * SECOND, i * SECOND));
        if (i % 3 == 0) {
            assert_false(breaker_succeeded(&breaker));
        }
    }
}

static void failures_far_apart_have_nothing_in_common(void **state)
{
    (void)state;
    struct breaker breaker = {0};
    for (int64_t i = 1; i < 100; i++) {
        int64_t now_us = i * (BREAKER_FORGET_US + 1);
        assert_false(breaker_failed(&breaker, now_us, now_us));
    }
}

static void silence_opens_it_at_once(void **state)
{
    (void)state;
    struct breaker breaker = opened(SECOND);
    assert_false(breaker_pass(&breaker, SECOND));
}

static void one_request_to_a_pause_passes(void **state)
{
    (void)state;
    struct breaker breaker = opened(0);
    int passed = 0;
    for (int64_t now_us = 0; now_us < 10 * SECOND; now_us += 1000) {
        passed += breaker_pass(&breaker, now_us);
    }
    assert_int_equal(passed, 10 * SECOND / BREAKER_PAUSE_FIRST_US - 1);
}

static void a_reply_closes_it(void **state)
{
    (void)state;
    struct breaker breaker = opened(0);
    assert_true(breaker_pass(&breaker, BREAKER_PAUSE_FIRST_US));
    assert_true(breaker_succeeded(&breaker));
    assert_false(breaker_succeeded(&breaker));
    assert_true(breaker_pass(&breaker, BREAKER_PAUSE_FIRST_US));
    assert_int_equal(fail_each_second(&breaker, 5, SECOND), 0); // it has to be earned again
}

static void the_pause_doubles_up_to_its_most(void **state)
{
    (void)state;
    struct breaker breaker = opened(0);
    int64_t pause_us = BREAKER_PAUSE_FIRST_US;
    int64_t now_us = 0;
    for (int i = 0; i < 10; i++) {
        assert_false(breaker_pass(&breaker, now_us + pause_us - 1));
        now_us += pause_us;
        assert_true(breaker_pass(&breaker, now_us));
        assert_true(breaker_failed(&breaker, now_us, now_us));
        pause_us = 2 * pause_us < BREAKER_PAUSE_MOST_US ? 2 * pause_us : BREAKER_PAUSE_MOST_US;
    }
    assert_int_equal(pause_us, BREAKER_PAUSE_MOST_US);
}

// One that was opened before the last failure tells nothing new, also of a server that is silent.
static void an_old_connection_does_not_prolong_the_pause(void **state)
{
    (void)state;
    struct breaker breaker = opened(SECOND);
    assert_true(breaker_failed(&breaker, 0, SECOND + 1));
    assert_true(breaker_pass(&breaker, SECOND + BREAKER_PAUSE_FIRST_US));
}

static void hope_lets_the_next_one_try(void **state)
{
    (void)state;
    struct breaker breaker = opened(0);
    breaker_hope(&breaker, 1000);
    assert_true(breaker_pass(&breaker, 1000));
    assert_false(breaker_pass(&breaker, 1000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failures_that_go_on_open_it),
        cmocka_unit_test(few_or_brief_failures_do_not),
        cmocka_unit_test(connections_that_are_lost_together_are_one_failure),
        cmocka_unit_test(one_reply_starts_the_count_anew),
        cmocka_unit_test(failures_far_apart_have_nothing_in_common),
        cmocka_unit_test(silence_opens_it_at_once),
        cmocka_unit_test(one_request_to_a_pause_passes),
        cmocka_unit_test(a_reply_closes_it),
        cmocka_unit_test(the_pause_doubles_up_to_its_most),
        cmocka_unit_test(an_old_connection_does_not_prolong_the_pause),
        cmocka_unit_test(hope_lets_the_next_one_try),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
