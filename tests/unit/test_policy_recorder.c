// SPDX-License-Identifier: Apache-2.0

#include "test_policy.h"

#include <stdlib.h>

#include "policy/demand.h"
#include "policy/recorder.h"

static void second(struct recorder *recorder, struct shape *shape, int64_t running_us, int at_s)
{
    struct recorder_totals totals = {.there = true, .gate = {.limit = 10, .granted = shape->count}};
    recorder_begin(recorder, &totals, at_s * INT64_C(1000000));
    recorder_shape(recorder, 0, shape, running_us);
    recorder_end(recorder);
}

// A request of 3 s counts in each second in which it holds its permit, not in the one it ends in.
static void what_runs_counts_while_it_runs(void **state)
{
    (void)state;
    struct recorder *recorder = recorder_new(1, 1);
    struct shape shape = {.id = 7, .arrived = 5, .count = 5, .held_us = 100};
    struct recorder_span span;
    second(recorder, &shape, 0, 0);
    assert_int_equal(recorder_count(recorder), 0); // what was before is nobody's
    shape.arrived = 6;
    shape.users = 1;
    second(recorder, &shape, 1000000, 1);
    second(recorder, &shape, 2000000, 2);
    shape.users = 0;
    shape.count = 6;
    shape.held_us += 3000000;
    second(recorder, &shape, 0, 3);
    for (int ago = 0; ago < 3; ago++) {
        assert_int_equal(recorder_ago(recorder, ago)->shapes[0].held_ms +
                             recorder_ago(recorder, ago)->shapes[1].held_ms,
                         1000);
    }
    recorder_sum(recorder, 0, 3000000, &span);
    assert_int_equal(span.held_ms, 3000);
    assert_int_equal(span.arrived, 1);
    assert_int_equal(span.granted, 1);
    assert_int_equal(span.shape_count, 1);
    assert_int_equal(span.shapes[0].id, 7);
    recorder_free(recorder);
}

// Three of 5 s each, while others wait: at first what is sure, then what was.
static void what_one_takes_is_known_when_it_is_done(void **state)
{
    (void)state;
    struct recorder *recorder = recorder_new(1, 1);
    struct shape shape = {.id = 7};
    struct recorder_span span;
    second(recorder, &shape, 0, 0);
    shape.users = 30; // most of them wait
    for (int at_s = 1; at_s < 5; at_s++) {
        second(recorder, &shape, 3000000 * at_s, at_s);
    }
    recorder_sum(recorder, 0, 2000000, &span);
    assert_true(recorder_mean(&span.shapes[0], &span) == 2);
    shape.count = 3;
    shape.held_us = 15000000;
    second(recorder, &shape, 0, 5);
    recorder_sum(recorder, 0, 5000000, &span);
    assert_true(recorder_mean(&span.shapes[0], &span) == 5);
    recorder_sum(recorder, 4000000, 5000000, &span);
    assert_true(recorder_mean(&span.shapes[0], &span) == 5);
    assert_true(recorder_mean(NULL, &span) == 0);
    recorder_free(recorder);
}

static void another_shape_in_a_place_begins_anew(void **state)
{
    (void)state;
    struct recorder *recorder = recorder_new(1, 1);
    struct shape one = {.id = 1, .arrived = 1000, .count = 1000, .held_us = 9000000};
    struct shape other = {.id = 2, .arrived = 3, .count = 3, .held_us = 6000};
    struct recorder_span span;
    second(recorder, &one, 0, 0);
    second(recorder, &other, 0, 1);
    recorder_sum(recorder, 0, 1000000, &span);
    assert_int_equal(span.arrived, 3);
    assert_int_equal(span.held_ms, 6);
    recorder_free(recorder);
}

static void the_ring_keeps_the_latest(void **state)
{
    (void)state;
    struct recorder *recorder = recorder_new(1, 1);
    struct shape shape = {.id = 1};
    for (int at_s = 0; at_s <= RECORDER_SECONDS + 10; at_s++) {
        shape.arrived++;
        second(recorder, &shape, 0, at_s);
    }
    struct recorder_span span;
    recorder_sum(recorder, 0, INT64_MAX, &span);
    assert_int_equal(recorder_count(recorder), RECORDER_SECONDS);
    assert_int_equal(span.arrived, RECORDER_SECONDS);
    recorder_free(recorder);
}

// Of a thousand tenants that ask once, none takes the place of one that asks often.
static void the_busy_keep_their_places(void **state)
{
    (void)state;
    struct demand *demand = calloc(1, sizeof *demand);
    char name[DEMAND_NAME_BYTES] = "busy";
    for (uint64_t i = 0; i < 100; i++) {
        demand_arrived(demand, 16, name);
    }
    char other[DEMAND_NAME_BYTES] = "other";
    for (uint64_t i = 2; i < 1000; i++) {
        demand_arrived(demand, 16 * i, other);
    }
    int place = demand_find(demand, 16);
    assert_true(place >= 0);
    assert_int_equal(demand->tenants[place].arrived, 100);
    assert_string_equal(demand->tenants[place].name, "busy");
    free(demand);
}

static void waits_have_quantiles(void **state)
{
    (void)state;
    struct demand *demand = calloc(1, sizeof *demand);
    char name[DEMAND_NAME_BYTES] = "app";
    demand_waited(demand, 1, 50); // nobody
    demand_arrived(demand, 1, name);
    for (int i = 0; i < 99; i++) {
        demand_waited(demand, 1, 1000);
    }
    demand_waited(demand, 1, 70000);
    const struct demand_tenant *tenant = &demand->tenants[demand_find(demand, 1)];
    assert_int_equal(tenant->waited, 100);
    assert_int_equal(demand_quantile(tenant->waits, tenant->longest_us, 0.5), 1024);
    assert_int_equal(demand_quantile(tenant->waits, tenant->longest_us, 0.99), 1024);
    assert_int_equal(demand_quantile(tenant->waits, tenant->longest_us, 1), 70000);
    free(demand);
}

// The bucket of each wait ends just above it, at twice the end of the one before.
static void waits_are_told_apart(void **state)
{
    static struct demand demand;
    static const char name[DEMAND_NAME_BYTES] = "web";
    (void)state;
    for (int bucket = 0; bucket < DEMAND_WAITS - 1; bucket++) {
        int64_t edge_us = INT64_C(64) << bucket;
        demand = (struct demand){0};
        demand_arrived(&demand, 1, name);
        demand_waited(&demand, 1, bucket > 0 ? edge_us / 2 : 0);
        demand_waited(&demand, 1, edge_us - 1);
        demand_waited(&demand, 1, edge_us);
        assert_int_equal(demand.tenants[demand_find(&demand, 1)].waits[bucket], 2);
    }
    demand_waited(&demand, 1, INT64_MAX);
    assert_int_equal(demand.tenants[demand_find(&demand, 1)].waits[DEMAND_WAITS - 1], 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_runs_counts_while_it_runs),
        cmocka_unit_test(what_one_takes_is_known_when_it_is_done),
        cmocka_unit_test(another_shape_in_a_place_begins_anew),
        cmocka_unit_test(the_ring_keeps_the_latest),
        cmocka_unit_test(the_busy_keep_their_places),
        cmocka_unit_test(waits_have_quantiles),
        cmocka_unit_test(waits_are_told_apart),
    };
    return cmocka_run_group_tests_name("recorder", tests, NULL, NULL);
}
