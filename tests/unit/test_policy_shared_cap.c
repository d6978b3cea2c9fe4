// SPDX-License-Identifier: Apache-2.0

#include "test_policy.h"

#include <stdlib.h>

#include "policy/ledger.h"
#include "policy/shared_cap.h"

enum { WALKS = 2000, STEPS = 400, POST = 8 };

// Two weirs before one server. What the former holds is on its way to the successor for a while,
// and some of it is never read.
struct world {
    unsigned seed;
    int cap;
    int keeps;
    int clients[2];
    struct ledger ledgers[2];
    int post[POST];
    int posted;
};

static int chance(struct world *world, int below)
{
    return rand_r(&world->seed) % below;
}

static int entered(const struct ledger *ledger)
{
    return ledger->open + ledger->opening;
}

static void tell(struct world *world)
{
    struct ledger *former = &world->ledgers[0];
    world->keeps = shared_cap_keeps(world->keeps, world->cap, world->clients[0], world->clients[1]);
    former->cap = world->keeps;
    if (world->posted < POST) {
        world->post[world->posted++] = shared_cap_held(world->keeps, entered(former));
    }
}

static void hear(struct world *world)
{
    if (world->posted == 0) {
        return;
    }
    int read = chance(world, world->posted) + 1;
    world->ledgers[1].cap = shared_cap_leaves(world->cap, world->post[read - 1]);
    for (int i = read; i < world->posted; i++) {
        world->post[i - read] = world->post[i];
    }
    world->posted -= read;
}

static void step_ledger(struct world *world, struct ledger *ledger)
{
    switch (chance(world, 4)) {
    case 0:
    case 1:
        if (!ledger_open(ledger, 0)) {
            return;
        }
        break;
    case 2:
        if (ledger->opening > 0) {
            ledger_opened(ledger);
        }
        break;
    default:
        if (ledger->open > 0) {
            ledger_closed(ledger);
        }
    }
}

static void step(struct world *world)
{
    switch (chance(world, 6)) {
    case 0:
        tell(world);
        break;
    case 1:
        hear(world);
        break;
    case 2:
        world->clients[0] -= world->clients[0] > 0 && chance(world, 2);
        world->clients[1] += chance(world, 2);
        break;
    default:
        step_ledger(world, &world->ledgers[chance(world, 2)]);
    }
}

static void never_more_than_the_cap_together(void **state)
{
    (void)state;
    int full = 0;
    for (unsigned walk = 0; walk < WALKS; walk++) {
        struct world world = {.seed = walk};
        world.cap = 2 + chance(&world, 20);
        world.keeps = world.cap;
        world.clients[0] = chance(&world, 50);
        world.ledgers[0] = (struct ledger){.cap = world.cap, .max_opening = 2};
        world.ledgers[1] = (struct ledger){.max_opening = 2};
        for (int i = 0; i < STEPS; i++) {
            step(&world);
            int both = entered(&world.ledgers[0]) + entered(&world.ledgers[1]);
            assert_in_range(both, 0, world.cap);
            full += both == world.cap;
        }
    }
    assert_true(full > WALKS); // the bound is met, not just far away
}

static void what_it_keeps_follows_its_clients_and_never_rises(void **state)
{
    (void)state;
    assert_int_equal(shared_cap_keeps(20, 20, 100, 0), 19);
    assert_int_equal(shared_cap_keeps(19, 20, 100, 100), 10);
    assert_int_equal(shared_cap_keeps(10, 20, 100, 50), 10); // some have left again
    assert_int_equal(shared_cap_keeps(10, 20, 1, 999), 1);
    assert_int_equal(shared_cap_keeps(1, 20, 0, 0), 1); // for what weir itself has to end
    assert_int_equal(shared_cap_keeps(2, 2, 5, 0), 1);
    assert_int_equal(shared_cap_keeps(100000, 100000, 1000000, 1000000), 50000);
}

static void a_successor_with_a_lower_cap_waits_for_room(void **state)
{
    (void)state;
    assert_int_equal(shared_cap_leaves(5, 8), 0);
    assert_int_equal(shared_cap_leaves(5, shared_cap_held(2, 4)), 1);
    assert_int_equal(shared_cap_leaves(30, shared_cap_held(8, 4)), 22);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(never_more_than_the_cap_together),
        cmocka_unit_test(what_it_keeps_follows_its_clients_and_never_rises),
        cmocka_unit_test(a_successor_with_a_lower_cap_waits_for_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
