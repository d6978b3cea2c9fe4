// SPDX-License-Identifier: Apache-2.0
//
// What the verdict says where there is little to compare with. With more: tests/incidents.

#include "test_policy.h"

#include "policy/verdict.h"

#define SECOND INT64_C(1000000)

// Seconds in each of which one shape has `rate` requests, of held_us each.
static void go_on(struct recorder *recorder, struct shape *shape, int seconds, int64_t *at_us,
                  uint64_t rate, int64_t held_us)
{
    for (int i = 0; i < seconds; i++) {
        struct recorder_totals totals = {
            .there = true, .clients = 1, .gate = {.limit = 2, .cap = 2}};
        *at_us += SECOND;
        shape->arrived += rate;
        shape->count += rate;
        shape->held_us += (int64_t)rate * held_us;
        recorder_begin(recorder, &totals, *at_us);
        recorder_shape(recorder, 0, shape, 0);
        recorder_end(recorder);
    }
}

static struct verdict judge(uint64_t rate, int64_t held_us)
{
    struct recorder *recorder = recorder_new(1, 1);
    struct shape shape = {.id = 7};
    struct verdict verdict;
    int64_t at_us = 0;
    go_on(recorder, &shape, 1, &at_us, 10, 1000);
    int64_t begun_us = at_us + 2 * SECOND;
    go_on(recorder, &shape, 2, &at_us, 10, 1000); // the onset begins before it
    go_on(recorder, &shape, 6, &at_us, rate, held_us);
    verdict_find(recorder, &(struct gate_majority){0}, begun_us, at_us, &verdict);
    recorder_free(recorder);
    return verdict;
}

static void many_fast_requests_at_the_start_are_no_cause(void **state)
{
    (void)state;
    struct verdict verdict = judge(500, 4000);
    assert_false(verdict.usual_known);
    assert_false(verdict_is_clear(&verdict));
}

static void slow_requests_at_the_start_are_one(void **state)
{
    (void)state;
    struct verdict verdict = judge(2, 900000);
    assert_false(verdict.usual_known);
    assert_int_equal(verdict.order[0], CAUSE_SLOW_SHAPE);
    assert_true(verdict_is_clear(&verdict));
}

// One that is over at once, with this majority, after a minute of a shape that held 2 ms.
static struct verdict judge_short(const struct gate_majority *majority)
{
    struct recorder *recorder = recorder_new(1, 1);
    struct shape shape = {.id = 7};
    struct verdict verdict;
    int64_t at_us = 0;
    go_on(recorder, &shape, 60, &at_us, 10, 2000);
    int64_t begun_us = at_us;
    go_on(recorder, &shape, 3, &at_us, 500, 9000);
    verdict_find(recorder, majority, begun_us, begun_us + 52700, &verdict);
    recorder_free(recorder);
    return verdict;
}

static bool is_clear(const struct gate_majority *majority)
{
    struct verdict verdict = judge_short(majority);
    return verdict_is_clear(&verdict);
}

static void of_one_that_was_short_rates_and_times_say_nothing(void **state)
{
    (void)state;
    assert_false(is_clear(&(struct gate_majority){0}));
    const struct gate_majority fast = {.shape = 7, .part = 1, .held_us = 9000, .slowness = 1};
    assert_false(is_clear(&fast));
}

static void what_holds_nearly_all_at_the_begin_is_the_cause(void **state)
{
    (void)state;
    struct gate_majority majority = {.shape = 8, .part = 0.95, .held_us = 120000, .slowness = 1};
    struct verdict verdict = judge_short(&majority);
    assert_int_equal(verdict.order[0], CAUSE_SLOW_SHAPE);
    assert_true(verdict_is_clear(&verdict) && verdict.shape == 8 && verdict.mean_so_far);
    majority.slowness = 10; // as everything is
    assert_false(is_clear(&majority));
    majority = (struct gate_majority){.shape = 8, .part = 0.6, .held_us = 120000, .slowness = 1};
    assert_false(is_clear(&majority));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_fast_requests_at_the_start_are_no_cause),
        cmocka_unit_test(slow_requests_at_the_start_are_one),
        cmocka_unit_test(of_one_that_was_short_rates_and_times_say_nothing),
        cmocka_unit_test(what_holds_nearly_all_at_the_begin_is_the_cause),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
