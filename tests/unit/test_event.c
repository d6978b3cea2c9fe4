// SPDX-License-Identifier: Apache-2.0
//
// The record of an exhaustion: what it makes of counts that began before it did.

#include "proxy/admin/event.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define S INT64_C(1000000)

static struct event *event;

static void waits(struct demand *demand, int64_t waited_us)
{
    demand_arrived(demand, 1, (const char[DEMAND_NAME_BYTES]){"web"});
    demand_waited(demand, 1, waited_us);
}

static double waiters_field(const bson_t *record, const char *field)
{
    char path[32];
    bson_iter_t iter;
    bson_iter_t value;
    snprintf(path, sizeof path, "waiters.0.%s", field);
    assert_true(bson_iter_init(&iter, record) && bson_iter_find_descendant(&iter, path, &value));
    return bson_iter_as_double(&value);
}

static void what_was_before_it_is_no_part_of_a_waiter_s_times(void **state)
{
    (void)state;
    waits(&event->asked_before, 5 * S);
    event->asked = event->asked_before;
    waits(&event->asked, 1200000);
    event->last.exhaustion.longest_wait_us = 1200000;

    struct buffer row = {0};
    bson_t record;
    event_put(event, &row, 2 * S);
    assert_true(bson_init_static(&record, buffer_at(&row), buffer_held(&row)));
    assert_true(waiters_field(&record, "waited") == 1);
    assert_true(waiters_field(&record, "p50") == 1.2);
    assert_true(waiters_field(&record, "p99") == 1.2);
    buffer_fini(&row);
}

// --- what to type -------------------------------------------------------------------------------

#define SLOW 0x5107u

static bson_t *record_of(struct buffer *row)
{
    event_put(event, row, 2 * S);
    return bson_new_from_data(buffer_at(row), buffer_held(row));
}

// A shape that the verdict names, and what the server said of it.
static void name_slow_shape(const char *index_used)
{
    struct verdict *verdict = &event->verdict;
    verdict->scores[CAUSE_SLOW_SHAPE] = 1;
    verdict->shape = SLOW;
    verdict->part_during = 0.95;
    verdict->mean_during = 5.2;
    snprintf(event->shape, sizeof event->shape, "distinct shop.orders key:status {customer}");
    event->evidence.shape = SLOW;
    event->evidence.scans = index_used == NULL;
    snprintf(event->evidence.index_used, sizeof event->evidence.index_used, "%s",
             index_used ? index_used : "");
}

static char *remedies(void)
{
    struct buffer row = {0};
    bson_t *record = record_of(&row);
    bson_t list;
    bson_iter_t iter;
    const uint8_t *data;
    uint32_t len;
    assert_true(bson_iter_init_find(&iter, record, "remedies"));
    bson_iter_array(&iter, &len, &data);
    assert_true(bson_init_static(&list, data, len));
    char *text = bson_as_relaxed_extended_json(&list, NULL);
    bson_destroy(record);
    buffer_fini(&row);
    return text;
}

#define LOOK                                                                                       \
    "db.getSiblingDB(\\\"shop\\\").getCollection(\\\"orders\\\")"                                  \
    ".explain(\\\"executionStats\\\").distinct(FIELD, FILTER)"

static void what_an_index_finds_needs_none_and_is_not_refused(void **state)
{
    char says[EVENT_SAYS_BYTES];
    (void)state;
    name_slow_shape("customer_1");
    event_verdict(event, says);
    assert_string_equal(says, "a slow shape: distinct shop.orders key:status {customer} held 95 % "
                              "of the connection time, 5.2 s each; it uses the index customer_1");
    char *told = remedies();
    assert_non_null(strstr(told, "it uses the index customer_1: see what the server is slow at"));
    assert_non_null(strstr(told, LOOK));
    assert_non_null(strstr(told, "--at-once 2 --shape 0000000000005107"));
    assert_null(strstr(told, "createIndex"));
    assert_null(strstr(told, "--deny"));
    bson_free(told);
}

static void what_scans_gets_an_index_and_is_refused_until_then(void **state)
{
    (void)state;
    name_slow_shape(NULL);
    char *told = remedies();
    assert_non_null(strstr(told, "give it an index: equality, sort, range"));
    assert_non_null(strstr(told, LOOK));
    assert_non_null(strstr(told, "weir ctl rule add --deny --shape 0000000000005107"));
    bson_free(told);
}

static void one_that_was_short_says_so(void **state)
{
    char says[EVENT_SAYS_BYTES];
    (void)state;
    event->verdict.is_early = true;
    event_verdict(event, says);
    assert_string_equal(says, "unclear: it has just begun");
    event->begun_us = S;
    event->ended_us = S + 52700;
    event_verdict(event, says);
    assert_string_equal(says, "unclear: too short to tell, over within 53 ms");
    assert_string_equal(event_cause(event), "unclear");
}

// One that was seen for a second, and is not done, has one time, wherever it is told.
static void a_shape_has_one_mean(void **state)
{
    (void)state;
    struct recorder_span *during = &event->verdict.during;
    struct buffer row = {0};
    bson_iter_t iter;
    bson_iter_t value;
    during->seconds = 1;
    during->shape_count = 1;
    during->shapes[0] = (struct recorder_sum_share){.id = SLOW, .arrived = 5, .held_ms = 5000};
    name_slow_shape(NULL);
    event->verdict.mean_during = recorder_mean(&during->shapes[0], during);
    event->verdict.mean_so_far = true;
    bson_t *record = record_of(&row);
    assert_true(bson_iter_init(&iter, record) &&
                bson_iter_find_descendant(&iter, "shapes.0.meanDuring", &value));
    assert_true(bson_iter_as_double(&value) == 1);
    assert_true(bson_iter_init_find(&iter, record, "verdict"));
    assert_non_null(strstr(bson_iter_utf8(&iter, NULL), " 1.0 s each so far;"));
    bson_destroy(record);
    buffer_fini(&row);
}

static int set_up(void **state)
{
    (void)state;
    event = calloc(1, sizeof *event);
    return event ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    event_free(event);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_before_it_is_no_part_of_a_waiter_s_times, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_an_index_finds_needs_none_and_is_not_refused, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_scans_gets_an_index_and_is_refused_until_then, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(one_that_was_short_says_so, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_shape_has_one_mean, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
