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
    verdict_find(recorder, begun_us, at_us, &verdict);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_fast_requests_at_the_start_are_no_cause),
        cmocka_unit_test(slow_requests_at_the_start_are_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
