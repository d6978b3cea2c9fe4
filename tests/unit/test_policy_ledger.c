// SPDX-License-Identifier: Apache-2.0

#include "test_policy.h"

#include "policy/ledger.h"

#define MS INT64_C(1000)

static void opens_up_to_the_cap(void **state)
{
    (void)state;
    struct ledger ledger = {.cap = 3, .max_opening = 3};
    for (int i = 0; i < 3; i++) {
        assert_true(ledger_open(&ledger, 0));
    }
    assert_false(ledger_open(&ledger, 0));
    ledger_opened(&ledger);
    assert_false(ledger_open(&ledger, 0)); // an open one counts as well
    ledger_closed(&ledger);
    assert_true(ledger_open(&ledger, 0));
    assert_false(ledger_open(&ledger, 0));
}

static void opens_only_so_many_at_once(void **state)
{
    (void)state;
    struct ledger ledger = {.cap = 10, .max_opening = 2};
    assert_true(ledger_open(&ledger, 0));
    assert_true(ledger_open(&ledger, 0));
    assert_false(ledger_open(&ledger, 0));
    ledger_opened(&ledger);
    assert_true(ledger_open(&ledger, 0));
    assert_int_equal(ledger.opening, 2);
    assert_int_equal(ledger.open, 1);
}

// To the microsecond: not before the pause is over, and then at once.
static void pauses_longer_with_each_failure(void **state)
{
    (void)state;
    static const int64_t pauses_ms[] = {100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000};
    struct ledger ledger = {.cap = 1, .max_opening = 1};
    int64_t now_us = 12345;
    for (size_t i = 0; i < sizeof(pauses_ms) / sizeof(pauses_ms[0]); i++) {
        assert_true(ledger_open(&ledger, now_us));
        ledger_failed(&ledger, 0, now_us);
        assert_int_equal(ledger.opening, 0);
        now_us += pauses_ms[i] * MS;
        assert_false(ledger_open(&ledger, now_us - 1));
    }
    assert_true(ledger_open(&ledger, now_us));
    ledger_opened(&ledger);
    ledger_closed(&ledger);
    assert_true(ledger_open(&ledger, now_us)); // it works again: no pause
    ledger_failed(&ledger, 0, now_us);
    assert_false(ledger_open(&ledger, now_us + 100 * MS - 1));
    assert_true(ledger_open(&ledger, now_us + 100 * MS));
}

static void one_that_opens_ends_the_pause(void **state)
{
    (void)state;
    struct ledger ledger = {.cap = 5, .max_opening = 2};
    assert_true(ledger_open(&ledger, 0));
    assert_true(ledger_open(&ledger, 0));
    ledger_failed(&ledger, 0, 0);
    assert_false(ledger_open(&ledger, 0));
    ledger_opened(&ledger);
    assert_true(ledger_open(&ledger, 0));
}

static void one_that_we_give_up_is_no_failure(void **state)
{
    (void)state;
    struct ledger ledger = {.cap = 1, .max_opening = 1, .failures = 3};
    assert_true(ledger_open(&ledger, 0));
    ledger_dropped(&ledger);
    assert_int_equal(ledger.failures, 3);
    assert_true(ledger_open(&ledger, 0));
}

static void jitter_takes_up_to_half_off(void **state)
{
    (void)state;
    for (int percent = 0; percent <= 100; percent++) {
        struct ledger ledger = {.cap = 1, .max_opening = 1};
        assert_true(ledger_open(&ledger, 0));
        ledger_failed(&ledger, percent / 100.0, 0);
        assert_in_range(ledger.retry_us, 100 * MS - 500 * percent, 100 * MS - 500 * percent + 1);
    }
}

static void endless_failures_keep_the_longest_pause(void **state)
{
    (void)state;
    struct ledger ledger = {.cap = 1, .max_opening = 1, .failures = INT32_MAX - 1};
    for (int i = 0; i < 4; i++) {
        ledger.retry_us = 0;
        assert_true(ledger_open(&ledger, 0));
        ledger_failed(&ledger, 0, 0);
        assert_int_equal(ledger.retry_us, 5000 * MS);
    }
    assert_int_equal(ledger.failures, INT32_MAX);
}

static void a_lowered_cap_is_reached_by_closing(void **state)
{
    (void)state;
    struct ledger ledger = {.cap = 4, .max_opening = 4};
    for (int i = 0; i < 4; i++) {
        assert_true(ledger_open(&ledger, 0));
        ledger_opened(&ledger);
    }
    ledger.cap = 2;
    for (int open = 4; open >= 2; open--) {
        assert_false(ledger_open(&ledger, 0));
        ledger_closed(&ledger);
    }
    assert_true(ledger_open(&ledger, 0));
}

#define RUNS 200
#define STEPS 3000

struct walk {
    struct chance chance;
    struct ledger ledger;
    int64_t now_us;
    int opening; // counted beside the ledger
    int open;
};

static void walk_open(struct walk *walk)
{
    bool may = walk->opening + walk->open < walk->ledger.cap &&
               walk->opening < walk->ledger.max_opening && walk->now_us >= walk->ledger.retry_us;
    assert_int_equal(ledger_open(&walk->ledger, walk->now_us), may);
    walk->opening += may;
}

static void walk_fail(struct walk *walk)
{
    int failures = walk->ledger.failures;
    ledger_failed(&walk->ledger, chance_below(&walk->chance, 101) / 100.0, walk->now_us);
    walk->opening--;
    assert_int_equal(walk->ledger.failures, failures + 1);
    assert_in_range(walk->ledger.retry_us - walk->now_us, 50 * MS, 5000 * MS);
}

static void walk_step(struct walk *walk)
{
    int what = chance_below(&walk->chance, 6);
    if (what <= 1) {
        walk_open(walk);
    } else if (what == 2 && walk->opening > 0) {
        ledger_opened(&walk->ledger);
        walk->opening--;
        walk->open++;
    } else if (what == 3 && walk->opening > 0 && chance_percent(&walk->chance, 30)) {
        walk_fail(walk);
    } else if (what == 4 && walk->open > 0) {
        ledger_closed(&walk->ledger);
        walk->open--;
    } else {
        walk->now_us += chance_below(&walk->chance, 300) * MS;
    }
}

static void never_exceeds_its_bounds(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < RUNS; seed++) {
        struct walk walk = {.chance.state = seed};
        walk.ledger.cap = 1 + chance_below(&walk.chance, 10);
        walk.ledger.max_opening = 1 + chance_below(&walk.chance, 3);
        for (int step = 0; step < STEPS; step++) {
            walk_step(&walk);
            assert_int_equal(walk.ledger.opening, walk.opening);
            assert_int_equal(walk.ledger.open, walk.open);
            assert_true(walk.opening + walk.open <= walk.ledger.cap);
            assert_true(walk.opening <= walk.ledger.max_opening);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_up_to_the_cap),
        cmocka_unit_test(opens_only_so_many_at_once),
        cmocka_unit_test(pauses_longer_with_each_failure),
        cmocka_unit_test(one_that_opens_ends_the_pause),
        cmocka_unit_test(one_that_we_give_up_is_no_failure),
        cmocka_unit_test(jitter_takes_up_to_half_off),
        cmocka_unit_test(endless_failures_keep_the_longest_pause),
        cmocka_unit_test(a_lowered_cap_is_reached_by_closing),
        cmocka_unit_test(never_exceeds_its_bounds),
    };
    return cmocka_run_group_tests_name("ledger", tests, NULL, NULL);
}
