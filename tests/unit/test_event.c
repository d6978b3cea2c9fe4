// SPDX-License-Identifier: Apache-2.0
//
// The record of an exhaustion: what it makes of counts that began before it did.

#include "proxy/admin/event.h"

#include <setjmp.h>
#include <stdarg.h>
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
