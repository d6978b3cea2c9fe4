// SPDX-License-Identifier: Apache-2.0

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxy/budget.h"

static void requests_have_half(void **state)
{
    (void)state;
    struct budget budget = {.limit = 128};
    assert_true(budget_claim(&budget, 30));
    assert_true(budget_claim(&budget, 34));
    assert_false(budget_claim(&budget, 1));
    budget_release(&budget, 1);
    assert_true(budget_claim(&budget, 1));
    assert_int_equal(budget.used, 64);
}

// A compressed message with what it inflates to may be 96 MB of the least budget, 128 MB.
static void what_is_larger_than_half_gets_its_turn(void **state)
{
    (void)state;
    struct budget budget = {.limit = 128};
    assert_true(budget_claim(&budget, 33));
    assert_false(budget_claim(&budget, 90));
    budget_release(&budget, 1);
    assert_true(budget_claim(&budget, 96));
    assert_false(budget_claim(&budget, 1));
    budget_release(&budget, 97);
    assert_false(budget_claim(&budget, 98)); // over the whole
    budget_release(&budget, 31);
    assert_true(budget_claim(&budget, 200)); // nobody else has any
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_have_half),
        cmocka_unit_test(what_is_larger_than_half_gets_its_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
