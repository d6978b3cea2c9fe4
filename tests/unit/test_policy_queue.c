// SPDX-License-Identifier: Apache-2.0
//
// Whose turn it is: what tenants and priorities get, in permits' time, whatever they ask for.

#include "test_policy.h"

#include <stdlib.h>
#include <string.h>

#include "policy/memory.h"
#include "policy/queue.h"

#define TENANTS 100
#define TICKETS 400
#define MAX_WAIT_US 100000

static const struct gate_limits limits = {.limit = 1, .max_wait_us = MAX_WAIT_US};

struct asker {
    uint64_t tenant;
    int weight;
    enum priority priority;
    int waiting; // it always has so many in the queue
    int64_t guess_us;
    int64_t cost_us;
    int64_t had_us;
    int granted;
};

struct world {
    struct queue queue;
    struct shape shape;
    struct ticket tickets[TICKETS];
    int64_t now_us;
};

static void world_init(struct world *world, bool spread)
{
    memset(world, 0, sizeof(*world));
    queue_init(&world->queue, &limits, spread);
}

static void world_fini(struct world *world)
{
    for (int i = 0; i < TICKETS; i++) {
        if (world->tickets[i].state == TICKET_QUEUED) {
            queue_remove(&world->queue, &world->tickets[i], world->now_us);
        }
    }
    queue_fini(&world->queue);
}

static struct ticket *add(struct world *world, uint64_t tenant, int weight, enum priority priority)
{
    struct ticket *ticket = world->tickets;
    while (ticket->state != TICKET_IDLE) {
        ticket++;
        assert_true(ticket < world->tickets + TICKETS);
    }
    *ticket = (struct ticket){.tenant = tenant,
                              .weight = weight,
                              .priority = priority,
                              .shape = &world->shape,
                              .asked_us = world->now_us,
                              .state = TICKET_QUEUED};
    queue_add(&world->queue, ticket, world->now_us);
    return ticket;
}

static struct ticket *add_normal(struct world *world, uint64_t tenant)
{
    return add(world, tenant, 1, PRIORITY_NORMAL);
}

static struct ticket *grant(struct world *world, int64_t guess_us)
{
    struct ticket *ticket = queue_next(&world->queue);
    if (ticket) {
        queue_grant(&world->queue, ticket, guess_us, world->now_us);
        ticket->state = TICKET_IN_FLIGHT;
    }
    return ticket;
}

static void settle(struct world *world, struct ticket *ticket, int64_t cost_us)
{
    queue_settle(ticket, cost_us, world->now_us);
    ticket->state = TICKET_IDLE;
}

// One permit, for `rounds` requests one after the other, between those who always want it.
static void serve(struct world *world, struct asker *askers, int count, int rounds)
{
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < askers[i].waiting; k++) {
            add(world, askers[i].tenant, askers[i].weight, askers[i].priority);
        }
    }
    for (int round = 0; round < rounds; round++) {
        const struct ticket *next = queue_next(&world->queue);
        struct asker *asker = askers;
        while (asker->tenant != next->tenant || asker->priority != next->priority) {
            asker++;
        }
        struct ticket *ticket = grant(world, asker->guess_us);
        assert_ptr_equal(ticket, next);
        world->now_us += asker->cost_us;
        settle(world, ticket, asker->cost_us);
        asker->had_us += asker->cost_us;
        asker->granted++;
        add(world, asker->tenant, asker->weight, asker->priority);
    }
}

#define ASKER(id, w, p, n, guess, cost)                                                            \
    {                                                                                              \
        .tenant = (id), .weight = (w), .priority = (p), .waiting = (n), .guess_us = (guess),       \
        .cost_us = (cost)                                                                          \
    }

// Ten waiting or one, cheap or dear, guessed right or wrong: each has the same time of permits, but
// for one request.
static void tenants_have_the_same_time(void **state)
{
    (void)state;
    struct asker askers[] = {
        ASKER(1, 1, PRIORITY_NORMAL, 100, 1000, 1000), ASKER(2, 1, PRIORITY_NORMAL, 1, 1000, 1000),
        ASKER(3, 1, PRIORITY_NORMAL, 10, 9000, 9000),  ASKER(4, 1, PRIORITY_NORMAL, 10, 1, 5000),
        ASKER(5, 1, PRIORITY_NORMAL, 10, 50000, 700),
    };
    struct world world;
    world_init(&world, false);
    serve(&world, askers, 5, 20000);
    for (int i = 1; i < 5; i++) {
        assert_in_range(askers[i].had_us, askers[0].had_us - 10000, askers[0].had_us + 10000);
    }
    world_fini(&world);
}

static void tenants_have_time_by_their_weights(void **state)
{
    (void)state;
    struct asker askers[] = {
        ASKER(1, 1, PRIORITY_NORMAL, 10, 1000, 1000),
        ASKER(2, 3, PRIORITY_NORMAL, 10, 1000, 1000),
        ASKER(3, 6, PRIORITY_NORMAL, 10, 100, 2000),
    };
    struct world world;
    world_init(&world, false);
    serve(&world, askers, 3, 20000);
    assert_in_range(askers[1].had_us, 3 * (askers[0].had_us - 3000), 3 * (askers[0].had_us + 3000));
    assert_in_range(askers[2].had_us, 6 * (askers[0].had_us - 3000), 6 * (askers[0].had_us + 3000));
    world_fini(&world);
}

static void priorities_have_ten_times_what_the_next_has(void **state)
{
    (void)state;
    struct asker askers[] = {
        ASKER(1, 1, PRIORITY_HIGH, 10, 1000, 1000),
        ASKER(1, 1, PRIORITY_NORMAL, 10, 1000, 1000),
        ASKER(2, 1, PRIORITY_LOW, 10, 1000, 1000),
    };
    struct world world;
    world_init(&world, false);
    serve(&world, askers, 3, 1110); // the low begin a little behind
    int before[] = {askers[0].granted, askers[1].granted, askers[2].granted};
    serve(&world, askers, 3, 1110);
    assert_in_range(askers[0].granted - before[0], 998, 1002);
    assert_in_range(askers[1].granted - before[1], 98, 102);
    assert_in_range(askers[2].granted - before[2], 9, 11);
    assert_in_range(before[2], 1, 10);
    world_fini(&world);
}

static void who_comes_together_goes_by_priority(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, false);
    for (int round = 0; round < 10; round++) {
        struct ticket *low = add(&world, 1, 1, PRIORITY_LOW);
        struct ticket *normal = add(&world, 2, 1, PRIORITY_NORMAL);
        struct ticket *high = add(&world, 3, 1, PRIORITY_HIGH);
        assert_ptr_equal(grant(&world, 100), high);
        assert_ptr_equal(grant(&world, 100), normal);
        assert_ptr_equal(grant(&world, 100), low);
        settle(&world, high, 100);
        settle(&world, normal, 100);
        settle(&world, low, 100);
    }
    world_fini(&world);
}

static void newcomers_go_in_the_order_in_which_they_came(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, false);
    struct ticket *tickets[TENANTS];
    for (int i = 0; i < TENANTS; i++) {
        tickets[i] = add_normal(&world, (uint64_t)(i * 7919));
    }
    for (int i = 0; i < TENANTS; i++) {
        assert_ptr_equal(grant(&world, 100), tickets[i]);
    }
    for (int i = 0; i < TENANTS; i++) {
        settle(&world, tickets[i], 100);
    }
    world_fini(&world);
}

// Tenant 1 turns out to have cost a thousand times as much as guessed. It owes that, also when
// nothing of it has waited since, until the other has had as much.
static void nobody_escapes_by_an_empty_queue(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, false);
    struct ticket *dear = add_normal(&world, 1);
    add_normal(&world, 2);
    assert_ptr_equal(grant(&world, 10), dear);
    settle(&world, dear, 10000);
    world.now_us += 10000;
    add_normal(&world, 1);
    for (int i = 0; i < 1000; i++) {
        struct ticket *ticket = grant(&world, 10);
        assert_int_equal(ticket->tenant, 2);
        settle(&world, ticket, 10);
        add_normal(&world, 2);
    }
    int again = 0;
    while (grant(&world, 10)->tenant == 2) {
        add_normal(&world, 2);
        again++;
    }
    assert_in_range(again, 0, 2);
    for (int i = 0; i < TICKETS; i++) {
        if (world.tickets[i].state == TICKET_IN_FLIGHT) {
            settle(&world, &world.tickets[i], 10);
        }
    }
    world_fini(&world);
}

static void a_debt_lapses(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, false);
    struct ticket *dear = add_normal(&world, 1);
    assert_ptr_equal(grant(&world, 10), dear);
    settle(&world, dear, 1000000);
    assert_int_equal(world.queue.flows, 1);
    world.now_us += QUEUE_LAPSE_US - 1;
    add_normal(&world, 2);
    assert_int_equal(world.queue.flows, 2);
    world.now_us += 1;
    add_normal(&world, 2);
    assert_int_equal(world.queue.flows, 1);
    world_fini(&world);
}

static void nobody_saves_up_by_staying_away(void **state)
{
    (void)state;
    struct asker alone[] = {ASKER(1, 1, PRIORITY_NORMAL, 10, 1000, 1000)};
    struct asker both[] = {
        ASKER(1, 1, PRIORITY_NORMAL, 0, 1000, 1000),
        ASKER(2, 1, PRIORITY_NORMAL, 10, 1000, 1000),
    };
    struct world world;
    world_init(&world, false);
    serve(&world, alone, 1, 5000);
    serve(&world, both, 2, 1000);
    assert_in_range(both[0].granted, 499, 501);
    world_fini(&world);
}

// Nor a priority: the low have waited for nothing while they did not wait.
static void no_priority_saves_up_by_staying_away(void **state)
{
    (void)state;
    struct asker alone[] = {ASKER(1, 1, PRIORITY_NORMAL, 10, 1000, 1000)};
    struct asker both[] = {
        ASKER(1, 1, PRIORITY_NORMAL, 0, 1000, 1000),
        ASKER(2, 1, PRIORITY_LOW, 10, 1000, 1000),
    };
    struct world world;
    world_init(&world, false);
    serve(&world, alone, 1, 5000);
    serve(&world, both, 2, 1100);
    assert_in_range(both[1].granted, 85, 101);
    world_fini(&world);
}

// One of tenant 1 leaves after `waited`, with three more behind it.
static void leave_three(struct world *world, int64_t waited_us, struct ticket *ret_three[3])
{
    struct ticket *gone = add_normal(world, 1);
    for (int i = 0; i < 3; i++) {
        ret_three[i] = add_normal(world, 1);
    }
    world->now_us += waited_us;
    queue_remove(&world->queue, gone, world->now_us);
    gone->state = TICKET_IDLE;
}

static void the_latest_goes_first_when_a_queue_stands(void **state)
{
    (void)state;
    for (int64_t waited = MAX_WAIT_US - 2; waited < MAX_WAIT_US + 3; waited++) {
        struct world world;
        struct ticket *three[3];
        world_init(&world, false);
        world.now_us = 1;
        leave_three(&world, waited, three);
        bool stands = waited >= MAX_WAIT_US;
        struct ticket *next = stands ? three[2] : three[0];
        struct ticket *oust = stands ? three[0] : three[2];
        assert_ptr_equal(queue_next(&world.queue), next);
        assert_int_equal(queue_ahead_of(&world.queue, next), stands ? 0 : 3);
        // The one that goes last makes room, and the newcomer goes first if the latest does.
        assert_ptr_equal(queue_last(&world.queue), oust);
        struct ticket newcomer = {.tenant = 1, .weight = 1};
        assert_int_equal(queue_yields(oust, &world.queue, &newcomer), stands);
        // Another tenant's queue does not stand for that.
        struct ticket *other = add_normal(&world, 2);
        add_normal(&world, 2);
        assert_ptr_equal(grant(&world, 1000), next);
        assert_ptr_equal(queue_next(&world.queue), other);
        settle(&world, next, 1000);
        world_fini(&world);
    }
}

static void a_queue_stands_until_it_is_empty(void **state)
{
    (void)state;
    for (int how = 0; how < 3; how++) {
        struct world world;
        struct ticket *three[3];
        world_init(&world, false);
        world.now_us = 1;
        leave_three(&world, MAX_WAIT_US, three);
        if (how == 0) { // the server was not there
            queue_restart(&world.queue, world.now_us);
        }
        for (int i = 0; how == 1 && i < 3; i++) {
            queue_remove(&world.queue, three[i], world.now_us);
            three[i]->state = TICKET_IDLE;
        }
        struct ticket *first = how == 1 ? add_normal(&world, 1) : three[0];
        struct ticket *last = add_normal(&world, 1);
        assert_ptr_equal(queue_next(&world.queue), how == 2 ? last : first);
        world_fini(&world);
    }
}

static void in_a_standing_queue_patience_shrinks(void **state)
{
    (void)state;
    struct world world;
    struct ticket *three[3];
    struct ticket one = {.tenant = 1, .weight = 1};
    struct ticket two = {.tenant = 2, .weight = 1};
    world_init(&world, false);
    world.now_us = 1;
    assert_int_equal(queue_patience_us(&world.queue, &one, 0, 1), MAX_WAIT_US);
    leave_three(&world, MAX_WAIT_US, three);
    for (int i = 0; i < 40; i++) {
        int64_t now_us = world.now_us + (int64_t)i * MAX_WAIT_US;
        int64_t part = MAX_WAIT_US / (i + 1);
        int64_t least = part > QUEUE_TARGET_US ? part : QUEUE_TARGET_US;
        assert_int_equal(queue_patience_us(&world.queue, &one, 0, now_us), least);
        assert_int_equal(queue_patience_us(&world.queue, &two, 0, now_us), MAX_WAIT_US);
        // Where permits are slow to come free, long enough to get one of them.
        int64_t slow = part > 20000 ? part : 20000;
        assert_int_equal(queue_patience_us(&world.queue, &one, 10000, now_us), slow);
        assert_int_equal(queue_patience_us(&world.queue, &one, 90000, now_us), MAX_WAIT_US);
    }
    world_fini(&world);
}

static void in_the_slow_lane_the_shape_that_holds_least_goes_first(void **state)
{
    (void)state;
    for (int spread = 0; spread < 2; spread++) {
        struct world world;
        world_init(&world, spread);
        struct shape holding = {.slow_in_flight = 3};
        struct shape less = {.slow_in_flight = 1};
        struct ticket *first = add_normal(&world, 1);
        struct ticket *second = add_normal(&world, 1);
        first->shape = &holding;
        second->shape = &less;
        assert_ptr_equal(queue_next(&world.queue), spread ? second : first);
        world_fini(&world);
    }
}

// Of each, memory as long as it waits, runs or owes: at the end, and within as many steps, nothing.
static void hundreds_of_thousands_cost_memory_while_they_wait(void **state)
{
    (void)state;
    const int count = 300000;
    struct queue queue;
    struct shape shape = {0};
    queue_init(&queue, &limits, false);
    struct ticket *tickets = memory_new((size_t)count, sizeof(*tickets));
    for (int i = 0; i < count; i++) {
        tickets[i] = (struct ticket){.tenant = (uint64_t)i << 20, .weight = 1, .shape = &shape};
        queue_add(&queue, &tickets[i], 0);
    }
    assert_int_equal(queue.flows, count);
    for (int i = 0; i < count; i++) {
        assert_ptr_equal(queue_next(&queue), &tickets[i]);
        queue_grant(&queue, &tickets[i], 1000, 0);
    }
    for (int i = 0; i < count; i++) {
        queue_settle(&tickets[i], 500, 0);
    }
    for (int i = 0; i <= count / 2; i++) {
        queue_add(&queue, &tickets[0], QUEUE_LAPSE_US);
        queue_remove(&queue, &tickets[0], QUEUE_LAPSE_US);
    }
    assert_int_equal(queue.flows, 0);
    queue_fini(&queue);
    free(tickets);
}

// --- against looking through all of them --------------------------------------------------------

static int waiting_of(const struct world *world, uint64_t tenant, enum priority priority)
{
    int count = 0;
    for (int i = 0; i < TICKETS; i++) {
        const struct ticket *ticket = &world->tickets[i];
        count += ticket->state == TICKET_QUEUED && ticket->tenant == tenant &&
                 ticket->priority == priority;
    }
    return count;
}

// Nobody of a lower priority waits, nor a tenant of the same that waits more.
static void check_last(const struct world *world)
{
    static const int importance[] = {
        [PRIORITY_LOW] = 0, [PRIORITY_NORMAL] = 1, [PRIORITY_HIGH] = 2};
    const struct ticket *last = queue_last(&world->queue);
    int most = last ? waiting_of(world, last->tenant, last->priority) : 0;
    int count = 0;
    for (int i = 0; i < TICKETS; i++) {
        const struct ticket *ticket = &world->tickets[i];
        if (ticket->state != TICKET_QUEUED) {
            continue;
        }
        count++;
        assert_non_null(last);
        assert_true(importance[ticket->priority] >= importance[last->priority]);
        assert_true(ticket->priority != last->priority ||
                    waiting_of(world, ticket->tenant, ticket->priority) <= most);
    }
    assert_int_equal(count, world->queue.count);
    assert_int_equal(last != NULL, count > 0);
}

static void step(struct world *world, struct chance *chance)
{
    struct ticket *ticket = &world->tickets[chance_below(chance, TICKETS / 4)];
    world->now_us += chance_below(chance, 3000);
    if (ticket->state == TICKET_QUEUED && chance_percent(chance, 30)) {
        queue_remove(&world->queue, ticket, world->now_us);
        ticket->state = TICKET_IDLE;
    } else if (ticket->state == TICKET_IN_FLIGHT) {
        settle(world, ticket, chance_below(chance, 20000));
    } else if (chance_percent(chance, 40)) {
        grant(world, chance_below(chance, 10000));
    } else if (world->queue.count < TICKETS / 4) {
        add(world, (uint64_t)chance_below(chance, 12), 1 + chance_below(chance, 3),
            (enum priority)chance_below(chance, PRIORITY_COUNT));
    }
}

static void the_last_is_of_the_tenant_that_waits_most(void **state)
{
    (void)state;
    for (uint64_t run = 0; run < 20; run++) {
        struct chance chance = {.state = run};
        struct world world;
        world_init(&world, false);
        for (int i = 0; i < 2000; i++) {
            step(&world, &chance);
            check_last(&world);
        }
        for (int i = 0; i < TICKETS; i++) {
            if (world.tickets[i].state == TICKET_IN_FLIGHT) {
                settle(&world, &world.tickets[i], 1);
            }
        }
        world_fini(&world);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tenants_have_the_same_time),
        cmocka_unit_test(tenants_have_time_by_their_weights),
        cmocka_unit_test(priorities_have_ten_times_what_the_next_has),
        cmocka_unit_test(who_comes_together_goes_by_priority),
        cmocka_unit_test(newcomers_go_in_the_order_in_which_they_came),
        cmocka_unit_test(nobody_escapes_by_an_empty_queue),
        cmocka_unit_test(a_debt_lapses),
        cmocka_unit_test(nobody_saves_up_by_staying_away),
        cmocka_unit_test(no_priority_saves_up_by_staying_away),
        cmocka_unit_test(the_latest_goes_first_when_a_queue_stands),
        cmocka_unit_test(a_queue_stands_until_it_is_empty),
        cmocka_unit_test(in_a_standing_queue_patience_shrinks),
        cmocka_unit_test(in_the_slow_lane_the_shape_that_holds_least_goes_first),
        cmocka_unit_test(hundreds_of_thousands_cost_memory_while_they_wait),
        cmocka_unit_test(the_last_is_of_the_tenant_that_waits_most),
    };
    return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
