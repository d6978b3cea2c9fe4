// SPDX-License-Identifier: Apache-2.0

#include "test_policy.h"

#include <stdio.h>
#include <stdlib.h>

#include "policy/tenants.h"

static struct tenants *tenants_of(void **state)
{
    return *state;
}

static int begin(void **state)
{
    *state = calloc(1, sizeof(struct tenants));
    return *state ? 0 : -1;
}

static int end(void **state)
{
    free(*state);
    return 0;
}

// The ids are of one set.
static int come(struct tenants *tenants, int number, int64_t now_us)
{
    char name[TENANTS_NAME_BYTES];
    snprintf(name, sizeof name, "app %d", number);
    return tenants_place(tenants, (uint64_t)number * TENANTS_SETS, name, now_us);
}

static void fill_set(struct tenants *tenants, int64_t now_us)
{
    for (int i = 0; i < TENANTS_WAYS; i++) {
        assert_int_not_equal(come(tenants, i, now_us + i), TENANTS_OTHERS);
    }
}

static void who_has_a_place_keeps_it(void **state)
{
    struct tenants *tenants = tenants_of(state);
    fill_set(tenants, 1);
    for (int i = 100; i < 1000; i++) {
        assert_int_equal(come(tenants, i, i), TENANTS_OTHERS);
    }
    for (int i = 0; i < TENANTS_WAYS; i++) {
        int place = come(tenants, i, 1000);
        assert_int_not_equal(place, TENANTS_OTHERS);
        for (int j = 0; j < i; j++) {
            assert_int_not_equal(come(tenants, j, 1000), place);
        }
    }
}

// Of three that have lapsed, one still holds a permit, and one has come again.
static void the_lapsed_make_room_for_one_that_needs_it(void **state)
{
    struct tenants *tenants = tenants_of(state);
    int64_t later_us = TENANTS_LAPSE_US + TENANTS_WAYS;
    fill_set(tenants, 1);
    struct tenant_use *held = &tenants->uses[come(tenants, 0, 1)];
    int came_again = come(tenants, 1, later_us);
    int lapsed = come(tenants, 2, 3);
    for (int i = 3; i < TENANTS_WAYS; i++) {
        come(tenants, i, later_us);
    }
    held->under_way = 1;
    tenants->uses[lapsed].served = 5;
    tenants->uses[lapsed].shed = 3;
    tenants->uses[lapsed].held_us = 7;
    assert_int_equal(come(tenants, 50, later_us), lapsed);
    assert_string_equal(tenants->uses[lapsed].name, "app 50");
    assert_int_equal(tenants->uses[lapsed].served, 0);
    assert_int_equal(tenants->uses[TENANTS_OTHERS].served, 5); // nothing is lost
    assert_int_equal(tenants->uses[TENANTS_OTHERS].shed, 3);
    assert_int_equal(tenants->uses[TENANTS_OTHERS].held_us, 7);
    assert_int_equal(come(tenants, 51, later_us), TENANTS_OTHERS);
    assert_int_equal(come(tenants, 1, later_us), came_again);
    held->under_way = 0;
    assert_int_equal(come(tenants, 51, later_us), held - tenants->uses);
}

static void namesakes_share_a_place(void **state)
{
    struct tenants *tenants = tenants_of(state);
    int place = tenants_place(tenants, 1, "web", 1);
    assert_int_not_equal(place, TENANTS_OTHERS);
    assert_int_equal(tenants_place(tenants, 2, "web", 1), place);
    assert_int_not_equal(tenants_place(tenants, 2, "jobs", 1), place);
    assert_int_equal(tenants_place(tenants, 1, "web", 1), place);
}

static void who_has_no_name_is_one_of_the_others(void **state)
{
    assert_int_equal(tenants_place(tenants_of(state), 0, "", 1), TENANTS_OTHERS);
}

// Also of one that makes room: what it held of late was held by one of the others.
static void what_is_held_lately_is_so_for_a_while(void **state)
{
    struct tenants *tenants = tenants_of(state);
    fill_set(tenants, 1);
    struct tenant_use *use = &tenants->uses[come(tenants, 0, 1)];
    use->held_us = 100;
    tenants_mark(tenants);
    use->held_us = 130;
    for (int i = 1; i < TENANTS_MARKS; i++) {
        assert_int_equal(tenants_held_lately_us(use), 130);
        tenants_mark(tenants);
    }
    assert_int_equal(tenants_held_lately_us(use), 30);
    assert_int_equal(come(tenants, 50, 2 + TENANTS_LAPSE_US), use - tenants->uses);
    assert_int_equal(tenants_held_lately_us(use), 0);
    assert_int_equal(tenants_held_lately_us(&tenants->uses[TENANTS_OTHERS]), 30);
    tenants_mark(tenants);
    assert_int_equal(tenants_held_lately_us(&tenants->uses[TENANTS_OTHERS]), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(who_has_a_place_keeps_it, begin, end),
        cmocka_unit_test_setup_teardown(the_lapsed_make_room_for_one_that_needs_it, begin, end),
        cmocka_unit_test_setup_teardown(namesakes_share_a_place, begin, end),
        cmocka_unit_test_setup_teardown(what_is_held_lately_is_so_for_a_while, begin, end),
        cmocka_unit_test_setup_teardown(who_has_no_name_is_one_of_the_others, begin, end),
    };
    return cmocka_run_group_tests_name("tenants", tests, NULL, NULL);
}
