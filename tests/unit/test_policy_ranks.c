// SPDX-License-Identifier: Apache-2.0
//
// The heap's invariant after each of many seeded random steps.

#include "test_policy.h"

#include "policy/ranks.h"

#define THINGS 300
#define STEPS 20000

struct thing {
    struct rank rank;
    bool is_in;
};

static void check(const struct ranks *ranks)
{
    for (size_t i = 0; i < ranks->count; i++) {
        assert_int_equal(ranks->at[i]->index, i);
        assert_true(i == 0 || ranks->at[(i - 1) / 2]->key <= ranks->at[i]->key);
    }
    assert_ptr_equal(ranks_first(ranks), ranks->count > 0 ? ranks->at[0] : NULL);
}

static void keeps_its_invariant(void **state)
{
    (void)state;
    struct chance chance = {.state = 1};
    struct thing things[THINGS] = {0};
    struct ranks ranks = {0};
    size_t held = 0;
    int grow = 70;
    for (int step = 0; step < STEPS; step++) {
        struct thing *thing = &things[chance_below(&chance, THINGS)];
        if (thing->is_in && chance_percent(&chance, 30)) {
            ranks_change(&ranks, &thing->rank, chance_below(&chance, 50));
        } else if (!thing->is_in && chance_percent(&chance, grow)) {
            thing->rank.key = chance_below(&chance, 50);
            thing->is_in = true;
            ranks_add(&ranks, &thing->rank);
            held++;
        } else if (thing->is_in && !chance_percent(&chance, grow)) {
            ranks_remove(&ranks, &thing->rank);
            thing->is_in = false;
            held--;
        } else if (chance_percent(&chance, 1)) {
            for (size_t i = 0; i < ranks.count; i++) {
                ranks.at[i]->key = chance_below(&chance, 50);
            }
            ranks_rebuild(&ranks);
            grow = 100 - grow;
        }
        assert_int_equal(ranks.count, held);
        check(&ranks);
    }
    ranks_fini(&ranks);
    assert_null(ranks_first(&ranks));
}

// Taken out first by first, they come in order.
static void sorts(void **state)
{
    (void)state;
    struct chance chance = {.state = 2};
    struct thing things[THINGS] = {0};
    struct ranks ranks = {0};
    for (int i = 0; i < THINGS; i++) {
        things[i].rank.key = chance_below(&chance, 1000);
        ranks_add(&ranks, &things[i].rank);
    }
    int64_t last = 0;
    for (int i = 0; i < THINGS; i++) {
        struct rank *first = ranks_first(&ranks);
        assert_true(first->key >= last);
        assert_true(RANKED(first, struct thing, rank) >= things);
        last = first->key;
        ranks_remove(&ranks, first);
    }
    assert_int_equal(ranks.count, 0);
    ranks_fini(&ranks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_its_invariant),
        cmocka_unit_test(sorts),
    };
    return cmocka_run_group_tests_name("ranks", tests, NULL, NULL);
}
