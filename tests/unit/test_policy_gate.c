// SPDX-License-Identifier: Apache-2.0
//
// The gate's rules one by one. Times are small numbers of microseconds, walked one by one where a
// rule turns at a moment. test_policy_gate_model.c tries what happens when they meet.

#include "test_policy.h"

#include <string.h>

#include "policy/gate.h"
#include "tests/chance.h"

#define TICKETS 16
#define FOREVER INT64_MAX

#define LIMIT 4
#define SLOW_LIMIT 2
#define SLOW_US 20
#define MAX_WAIT_US 30
#define SERVER_WAIT_US 50
#define MAX_QUEUE 5

static const struct gate_limits usual = {
    .limit = LIMIT,
    .slow_share = 0.5,
    .slow_us = SLOW_US,
    .max_wait_us = MAX_WAIT_US,
    .server_wait_us = SERVER_WAIT_US,
    .max_queue = MAX_QUEUE,
};

// The queues in the order in which they are served.
enum kind { FINISHING, FINISHING_SLOW, OTHER, OTHER_SLOW, KINDS };

struct world {
    struct gate *gate;
    struct shape quick;
    struct shape slow;
    struct ticket tickets[TICKETS];
};

static void world_init(struct world *world, const struct gate_limits *limits)
{
    memset(world, 0, sizeof(*world));
    world->gate = gate_new(limits);
    gate_set_available(world->gate, true, 0);
    shape_observe(&world->quick, false);
    shape_observe(&world->slow, true);
}

// Empties the gate, whatever is in it.
static void world_fini(struct world *world)
{
    for (int i = 0; i < TICKETS; i++) {
        struct ticket *ticket = &world->tickets[i];
        if (ticket->state != TICKET_IDLE && !gate_cancel(world->gate, ticket)) {
            gate_done(world->gate, ticket, false, 0);
        }
    }
    gate_free(world->gate);
}

static enum gate_answer ask_until(struct world *world, int i, enum kind kind, int64_t deadline_us,
                                  int64_t now_us)
{
    bool slow = kind == FINISHING_SLOW || kind == OTHER_SLOW;
    struct gate_ask ask = {
        .shape = slow ? &world->slow : &world->quick,
        .deadline_us = deadline_us,
        .finishes = kind <= FINISHING_SLOW,
    };
    return gate_ask(world->gate, &world->tickets[i], &ask, now_us);
}

static enum gate_answer ask(struct world *world, int i, enum kind kind, int64_t now_us)
{
    return ask_until(world, i, kind, FOREVER, now_us);
}

static void ask_granted(struct world *world, int first, int count, enum kind kind, int64_t now_us)
{
    for (int i = first; i < first + count; i++) {
        assert_int_equal(ask(world, i, kind, now_us), GATE_GRANTED);
        assert_int_equal(world->tickets[i].state, TICKET_IN_FLIGHT);
        assert_int_equal(world->tickets[i].granted_us, now_us);
    }
}

static void done(struct world *world, int i, int64_t now_us)
{
    gate_done(world->gate, &world->tickets[i], true, now_us);
}

static struct gate_counts counts_of(const struct world *world, int64_t now_us)
{
    struct gate_counts counts;
    gate_count(world->gate, now_us, &counts);
    return counts;
}

static void in_a_pause_only_what_finishes_goes(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, &usual);
    assert_int_equal(ask(&world, 0, OTHER, 0), GATE_GRANTED);
    gate_pause(world.gate, true, 10);
    assert_int_equal(world.tickets[0].state, TICKET_IN_FLIGHT);
    assert_int_equal(ask(&world, 1, OTHER, 10), GATE_QUEUED);
    assert_int_equal(ask(&world, 2, OTHER, 20), GATE_QUEUED);
    assert_int_equal(ask(&world, 3, FINISHING, 20), GATE_GRANTED);
    assert_null(gate_grant_next(world.gate, 20));
    assert_int_equal(world.tickets[1].expiry.key, 10 + SERVER_WAIT_US);
    assert_int_equal(counts_of(&world, 20).standing_us, 0); // that is no exhaustion
    assert_ptr_equal(gate_expire_next(world.gate, 10 + SERVER_WAIT_US), &world.tickets[1]);
    assert_int_equal(world.tickets[1].refusal, REFUSED_WAITED);
    gate_pause(world.gate, false, 15 + SERVER_WAIT_US);
    assert_ptr_equal(gate_grant_next(world.gate, 15 + SERVER_WAIT_US), &world.tickets[2]);
    world_fini(&world);
}

static void starts_unavailable(void **state)
{
    (void)state;
    struct world world = {.gate = gate_new(&usual)};
    assert_false(counts_of(&world, 0).available);
    assert_int_equal(ask(&world, 0, OTHER, 0), GATE_QUEUED);
    assert_null(gate_grant_next(world.gate, 0));
    gate_set_available(world.gate, true, 0);
    assert_true(counts_of(&world, 0).available);
    assert_ptr_equal(gate_grant_next(world.gate, 0), &world.tickets[0]);
    world_fini(&world);
}

static void grants_up_to_the_limit(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, &usual);
    ask_granted(&world, 0, LIMIT, OTHER, 1);
    assert_int_equal(ask(&world, LIMIT, OTHER, 1), GATE_QUEUED);
    assert_null(gate_grant_next(world.gate, 1));
    struct gate_counts counts = counts_of(&world, 3);
    assert_int_equal(counts.limit, LIMIT);
    assert_int_equal(counts.in_flight, LIMIT);
    assert_int_equal(counts.queued, 1);
    assert_int_equal(counts.queued_ever, 1);
    assert_int_equal(counts.granted, LIMIT);
    assert_int_equal(counts.longest_wait_us, 2);
    done(&world, 2, 5);
    assert_ptr_equal(gate_grant_next(world.gate, 6), &world.tickets[LIMIT]);
    assert_int_equal(world.tickets[LIMIT].asked_us, 1);
    assert_int_equal(world.tickets[LIMIT].granted_us, 6);
    assert_null(gate_grant_next(world.gate, 6));
    assert_int_equal(gate_next_expiry(world.gate), FOREVER);
    world_fini(&world);
}

static void slow_ones_keep_to_their_share(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, &usual);
    ask_granted(&world, 0, SLOW_LIMIT, OTHER_SLOW, 0);
    assert_int_equal(ask(&world, 8, OTHER_SLOW, 0), GATE_QUEUED);
    assert_int_equal(ask(&world, 9, FINISHING_SLOW, 0), GATE_QUEUED);
    // Slow ones that wait for their lane do not hold up the others.
    ask_granted(&world, 2, LIMIT - SLOW_LIMIT, OTHER, 0);
    done(&world, 2, 1);
    assert_null(gate_grant_next(world.gate, 1));
    done(&world, 0, 1);
    assert_ptr_equal(gate_grant_next(world.gate, 1), &world.tickets[9]);
    assert_null(gate_grant_next(world.gate, 1));
    done(&world, 1, 1);
    assert_ptr_equal(gate_grant_next(world.gate, 1), &world.tickets[8]);
    assert_int_equal(world.tickets[8].lane, LANE_SLOW);
    world_fini(&world);
}

static void exempt_ones_are_not_bound_by_the_slow_lane(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, &usual);
    ask_granted(&world, 0, SLOW_LIMIT, OTHER_SLOW, 0);
    struct gate_ask exempt = {.shape = &world.slow, .deadline_us = FOREVER, .exempt = true};
    assert_int_equal(gate_ask(world.gate, &world.tickets[8], &exempt, 0), GATE_GRANTED);
    assert_int_equal(world.tickets[8].lane, LANE_NORMAL);
    assert_int_equal(counts_of(&world, 0).in_flight_slow, SLOW_LIMIT);
    // But once it is slow it counts there like any other.
    assert_int_equal(counts_of(&world, SLOW_US).in_flight_slow, SLOW_LIMIT + 1);
    world_fini(&world);
}

static void the_slow_share_is_rounded_down_but_at_least_one(void **state)
{
    (void)state;
    static const struct {
        int limit;
        double share;
        int slow_limit;
    } table[] = {
        {1, 0.25, 1}, {3, 0.25, 1},   {4, 0.25, 1},  {7, 0.25, 1}, {8, 0.25, 2},
        {10, 0.3, 3}, {10, 0.29, 2},  {10, 1.0, 10}, {12, 0.7, 8}, {10, 0.7, 7},
        {10, 0.1, 1}, {10, 0.001, 1}, {15, 0.2, 3},  {15, 0.4, 6}, {15, 0.6, 9},
        {1, 1.0, 1},  {11, 0.5, 5},   {5, 0.6, 3},   {14, 0.5, 7}, {13, 0.99, 12},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct gate_limits limits = usual;
        limits.limit = table[i].limit;
        limits.slow_share = table[i].share;
        struct world world;
        world_init(&world, &limits);
        ask_granted(&world, 0, table[i].slow_limit, OTHER_SLOW, 0);
        assert_int_equal(ask(&world, 15, OTHER_SLOW, 0), GATE_QUEUED);
        world_fini(&world);
    }
}

// 100 x 0.29 is 28.999999999999996 in binary, and 29 for whoever configured it.
static void the_slow_share_of_a_hundred_is_its_percent(void **state)
{
    (void)state;
    for (int percent = 1; percent <= 100; percent++) {
        struct gate_limits limits = usual;
        limits.limit = 100;
        limits.slow_share = percent / 100.0;
        struct gate *gate = gate_new(&limits);
        gate_set_available(gate, true, 0);
        struct shape slow = {0};
        shape_observe(&slow, true);
        struct gate_ask ask = {.shape = &slow, .deadline_us = FOREVER, .finishes = true};
        struct ticket tickets[101] = {0};
        int granted = 0;
        while (gate_ask(gate, &tickets[granted], &ask, 0) == GATE_GRANTED) {
            granted++;
        }
        assert_int_equal(granted, percent);
        assert_true(gate_cancel(gate, &tickets[granted]));
        for (int i = 0; i < granted; i++) {
            gate_done(gate, &tickets[i], true, 0);
        }
        gate_free(gate);
    }
}

// Whatever order they come in, they go in the order of the kinds.
static void serves_kinds_in_order_whatever_they_came_in(void **state)
{
    (void)state;
    for (int code = 0; code < 256; code++) {
        int at[KINDS] = {code & 3, code >> 2 & 3, code >> 4 & 3, code >> 6};
        if ((1 << at[0] | 1 << at[1] | 1 << at[2] | 1 << at[3]) != 15) {
            continue; // not a permutation
        }
        struct world world;
        world_init(&world, &usual);
        ask_granted(&world, 4, LIMIT, OTHER, 0);
        for (int i = 0; i < KINDS; i++) {
            assert_int_equal(ask(&world, at[i], (enum kind)at[i], i), GATE_QUEUED);
        }
        for (int i = 0; i < KINDS; i++) {
            done(&world, 4 + i, KINDS);
            assert_ptr_equal(gate_grant_next(world.gate, KINDS), &world.tickets[i]);
            assert_null(gate_grant_next(world.gate, KINDS));
        }
        world_fini(&world);
    }
}

// One of each kind waits while a permit is free, because the caller has not asked for grants yet: a
// newcomer goes only if it goes before the one that waits.
static void nobody_overtakes(void **state)
{
    (void)state;
    for (int waiting = 0; waiting < KINDS; waiting++) {
        for (int coming = 0; coming < KINDS; coming++) {
            struct world world;
            world_init(&world, &usual);
            ask_granted(&world, 4, LIMIT, OTHER, 0);
            assert_int_equal(ask(&world, 0, (enum kind)waiting, 0), GATE_QUEUED);
            done(&world, 4, 1);
            enum gate_answer answer = ask(&world, 1, (enum kind)coming, 1);
            assert_int_equal(answer, coming < waiting ? GATE_GRANTED : GATE_QUEUED);
            struct ticket *next = gate_grant_next(world.gate, 1);
            assert_ptr_equal(next, coming < waiting ? NULL : &world.tickets[0]);
            world_fini(&world);
        }
    }
}

static void each_queue_is_first_come_first_served(void **state)
{
    (void)state;
    struct gate_limits limits = usual;
    limits.limit = 1;
    for (int kind = 0; kind < KINDS; kind++) {
        struct world world;
        world_init(&world, &limits);
        ask_granted(&world, 0, 1, OTHER, 0);
        for (int i = 1; i <= MAX_QUEUE; i++) {
            assert_int_equal(ask(&world, i, (enum kind)kind, i), GATE_QUEUED);
        }
        assert_true(gate_cancel(world.gate, &world.tickets[3]));
        for (int i = 0; i < MAX_QUEUE; i++) {
            if (i == 3) {
                continue;
            }
            done(&world, i, 10);
            assert_ptr_equal(gate_grant_next(world.gate, 10), &world.tickets[i == 2 ? 4 : i + 1]);
        }
        world_fini(&world);
    }
}

static void the_queue_is_bounded_but_not_for_those_that_finish(void **state)
{
    (void)state;
    for (int kind = OTHER; kind <= OTHER_SLOW; kind++) {
        struct world world;
        world_init(&world, &usual);
        ask_granted(&world, 0, LIMIT, FINISHING, 0);
        for (int i = 0; i < MAX_QUEUE; i++) {
            assert_int_equal(ask(&world, 4 + i, (enum kind)kind, 0), GATE_QUEUED);
        }
        assert_int_equal(ask(&world, 10, (enum kind)kind, 0), GATE_REFUSED);
        assert_int_equal(world.tickets[10].refusal, REFUSED_QUEUE_FULL);
        assert_int_equal(world.tickets[10].state, TICKET_IDLE);
        assert_int_equal(ask(&world, 11, FINISHING, 0), GATE_QUEUED);
        assert_int_equal(ask(&world, 12, FINISHING_SLOW, 0), GATE_QUEUED);
        struct gate_counts counts = counts_of(&world, 0);
        assert_int_equal(counts.queued, MAX_QUEUE + 2);
        assert_int_equal(counts.refused[REFUSED_QUEUE_FULL], 1);
        assert_int_equal(counts.queued_ever, MAX_QUEUE + 2);
        // The same while the server is not there.
        gate_set_available(world.gate, false, 0);
        assert_int_equal(ask(&world, 10, (enum kind)kind, 0), GATE_REFUSED);
        assert_int_equal(world.tickets[10].refusal, REFUSED_QUEUE_FULL);
        assert_int_equal(ask(&world, 13, FINISHING, 0), GATE_QUEUED);
        world_fini(&world);
    }
}

static enum gate_answer ask_as(struct world *world, int i, uint64_t tenant, enum priority priority,
                               int64_t now_us)
{
    struct gate_ask ask = {
        .shape = &world->quick, .deadline_us = FOREVER, .tenant = tenant, .priority = priority};
    return gate_ask(world->gate, &world->tickets[i], &ask, now_us);
}

// Tenant 1 has filled the queue. Another one gets in for it, and comes to be refused only when it
// waits as much. What makes room is told at once, and is out of the queue already.
static void the_tenant_that_waits_most_makes_room(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, &usual);
    ask_granted(&world, 0, LIMIT, OTHER, 0);
    for (int i = 4; i < 4 + MAX_QUEUE; i++) {
        assert_int_equal(ask_as(&world, i, 1, PRIORITY_NORMAL, 0), GATE_QUEUED);
    }
    assert_int_equal(ask_as(&world, 9, 2, PRIORITY_NORMAL, 1), GATE_QUEUED);
    assert_int_equal(gate_next_expiry(world.gate), 1);
    assert_int_equal(counts_of(&world, 1).queued, MAX_QUEUE);
    assert_ptr_equal(gate_expire_next(world.gate, 1), &world.tickets[8]);
    assert_int_equal(world.tickets[8].refusal, REFUSED_QUEUE_FULL);
    assert_int_equal(world.tickets[8].state, TICKET_IDLE);
    assert_null(gate_expire_next(world.gate, 1));
    assert_int_equal(ask_as(&world, 10, 2, PRIORITY_NORMAL, 2), GATE_QUEUED);
    assert_ptr_equal(gate_expire_next(world.gate, 2), &world.tickets[7]);
    // Three and two: each is refused if it comes again, unless the other has more.
    assert_int_equal(ask_as(&world, 11, 1, PRIORITY_NORMAL, 3), GATE_REFUSED);
    assert_int_equal(ask_as(&world, 11, 2, PRIORITY_NORMAL, 3), GATE_QUEUED);
    assert_ptr_equal(gate_expire_next(world.gate, 3), &world.tickets[6]);
    assert_int_equal(ask_as(&world, 12, 2, PRIORITY_NORMAL, 4), GATE_REFUSED);
    assert_int_equal(world.tickets[12].refusal, REFUSED_QUEUE_FULL);
    assert_int_equal(counts_of(&world, 4).refused[REFUSED_QUEUE_FULL], 5);
    world_fini(&world);
}

static void the_lowest_priority_makes_room(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, &usual);
    ask_granted(&world, 0, LIMIT, OTHER, 0);
    for (int i = 4; i < 8; i++) {
        assert_int_equal(ask_as(&world, i, 1, PRIORITY_NORMAL, 0), GATE_QUEUED);
    }
    assert_int_equal(ask_as(&world, 8, 2, PRIORITY_LOW, 0), GATE_QUEUED);
    assert_int_equal(ask_as(&world, 9, 1, PRIORITY_NORMAL, 0), GATE_QUEUED);
    assert_ptr_equal(gate_expire_next(world.gate, 0), &world.tickets[8]);
    assert_int_equal(ask_as(&world, 8, 2, PRIORITY_LOW, 0), GATE_REFUSED);
    assert_int_equal(ask_as(&world, 8, 1, PRIORITY_HIGH, 0), GATE_QUEUED);
    assert_ptr_equal(gate_expire_next(world.gate, 0), &world.tickets[9]);
    done(&world, 0, 0);
    assert_ptr_equal(gate_grant_next(world.gate, 0), &world.tickets[8]);
    world_fini(&world);
}

// One that makes room is nobody's until it is told: it can be withdrawn, or sent elsewhere.
static void one_that_made_room_may_leave_before_it_is_told(void **state)
{
    (void)state;
    for (int elsewhere = 0; elsewhere < 2; elsewhere++) {
        struct world world;
        world_init(&world, &usual);
        ask_granted(&world, 0, LIMIT, OTHER, 0);
        for (int i = 4; i < 4 + MAX_QUEUE; i++) {
            assert_int_equal(ask_as(&world, i, 1, PRIORITY_NORMAL, 0), GATE_QUEUED);
        }
        assert_int_equal(ask_as(&world, 9, 2, PRIORITY_NORMAL, 0), GATE_QUEUED);
        if (elsewhere) {
            assert_ptr_equal(gate_evict_next(world.gate), &world.tickets[8]);
        } else {
            assert_true(gate_cancel(world.gate, &world.tickets[8]));
        }
        assert_int_equal(world.tickets[8].state, TICKET_IDLE);
        assert_null(gate_expire_next(world.gate, 0));
        assert_int_equal(counts_of(&world, 0).refused[REFUSED_QUEUE_FULL], 0);
        world_fini(&world);
    }
}

// Permits come free every 10: three wait, so a fourth with 29 left cannot make it, one with 30 can.
static void what_cannot_be_in_time_is_refused_on_arrival(void **state)
{
    (void)state;
    struct gate_limits limits = usual;
    limits.limit = 1;
    limits.max_wait_us = 1000;
    limits.slow_us = 1000;
    for (int64_t left = 1; left < 60; left++) {
        struct world world;
        world_init(&world, &limits);
        for (int i = 0; i < 20; i++) {
            ask_granted(&world, 0, 1, OTHER, 10 * i);
            done(&world, 0, 10 * i + 10);
        }
        ask_granted(&world, 0, 1, OTHER, 200);
        for (int i = 1; i <= 3; i++) {
            assert_int_equal(ask(&world, i, OTHER, 200), GATE_QUEUED);
        }
        enum gate_answer answer = ask_until(&world, 4, OTHER, 200 + left, 200);
        assert_int_equal(answer, left < 30 ? GATE_REFUSED : GATE_QUEUED);
        if (left < 30) {
            assert_int_equal(world.tickets[4].refusal, REFUSED_HOPELESS);
        }
        // What finishes things does not wait for them.
        assert_int_equal(ask_until(&world, 5, FINISHING, 200 + left, 200), GATE_QUEUED);
        // Nor does another tenant.
        struct gate_ask other = {.shape = &world.quick, .deadline_us = 200 + left, .tenant = 1};
        assert_int_equal(gate_ask(world.gate, &world.tickets[6], &other, 200), GATE_QUEUED);
        world_fini(&world);
    }
}

// Tenants 1 and 2 wait for one permit. 1 has had it for longer than its shape had told: 2 goes
// until it has had as much.
static void a_tenant_pays_for_what_it_held(void **state)
{
    (void)state;
    struct gate_limits limits = usual;
    limits.limit = 1;
    limits.slow_us = 1000;
    limits.max_wait_us = 1000;
    limits.max_queue = 10;
    struct world world;
    world_init(&world, &limits);
    shape_learn_cost(&world.quick, 10);
    ask_granted(&world, 0, 1, OTHER, 0);
    for (int i = 1; i <= 2; i++) {
        assert_int_equal(ask_as(&world, i, 1, PRIORITY_NORMAL, 0), GATE_QUEUED);
    }
    for (int i = 3; i <= 6; i++) {
        assert_int_equal(ask_as(&world, i, 2, PRIORITY_NORMAL, 0), GATE_QUEUED);
    }
    done(&world, 0, 10);
    int64_t now = 10;
    static const int64_t held[] = {[1] = 35, [3] = 10, [4] = 10, [5] = 10, [6] = 10, [2] = 10};
    static const int order[] = {1, 3, 4, 5, 6, 2};
    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        assert_ptr_equal(gate_grant_next(world.gate, now), &world.tickets[order[i]]);
        now += held[order[i]];
        done(&world, order[i], now);
    }
    world_fini(&world);
}

// Six permits come free at once. What one costs three times as much of is charged before it is
// done.
static void a_dear_shape_is_charged_at_once(void **state)
{
    (void)state;
    struct gate_limits limits = usual;
    limits.limit = 6;
    limits.max_queue = 10;
    struct world world;
    world_init(&world, &limits);
    struct shape dear = {0};
    shape_learn_cost(&dear, 30);
    shape_learn_cost(&world.quick, 10);
    ask_granted(&world, 0, 6, OTHER, 0);
    struct gate_ask ask_dear = {.shape = &dear, .deadline_us = FOREVER, .tenant = 1};
    for (int i = 6; i < 8; i++) {
        assert_int_equal(gate_ask(world.gate, &world.tickets[i], &ask_dear, 0), GATE_QUEUED);
    }
    for (int i = 8; i < 12; i++) {
        assert_int_equal(ask_as(&world, i, 2, PRIORITY_NORMAL, 0), GATE_QUEUED);
    }
    for (int i = 0; i < 6; i++) {
        done(&world, i, 10);
    }
    static const int order[] = {6, 8, 9, 10};
    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        assert_ptr_equal(gate_grant_next(world.gate, 10), &world.tickets[order[i]]);
    }
    for (int i = 6; i < 12; i++) {
        if (world.tickets[i].state == TICKET_IN_FLIGHT) {
            done(&world, i, 20);
        } else {
            assert_true(gate_cancel(world.gate, &world.tickets[i]));
        }
    }
    world_fini(&world);
}

static void max_wait_zero_never_queues(void **state)
{
    (void)state;
    struct gate_limits limits = usual;
    limits.max_wait_us = 0;
    limits.server_wait_us = 0;
    struct world world;
    world_init(&world, &limits);
    ask_granted(&world, 0, LIMIT, OTHER, 0);
    assert_int_equal(ask(&world, 4, OTHER, 0), GATE_REFUSED);
    assert_int_equal(world.tickets[4].refusal, REFUSED_WAITED);
    assert_int_equal(ask(&world, 4, OTHER_SLOW, 0), GATE_REFUSED);
    assert_int_equal(counts_of(&world, 0).refused[REFUSED_WAITED], 2);
    assert_int_equal(ask(&world, 5, FINISHING, 0), GATE_QUEUED);
    assert_int_equal(gate_next_expiry(world.gate), FOREVER);
    gate_set_available(world.gate, false, 0);
    for (int kind = 0; kind < KINDS; kind++) {
        assert_int_equal(ask(&world, 6, (enum kind)kind, 0), GATE_REFUSED);
        assert_int_equal(world.tickets[6].refusal, REFUSED_NO_SERVER);
    }
    world_fini(&world);
}

// The reason and the moment for every deadline there can be, the clock walked microsecond by
// microsecond.
static void waiting_ends_to_the_microsecond(void **state)
{
    (void)state;
    for (int available = 0; available < 2; available++) {
        for (int kind = 0; kind < KINDS; kind++) {
            for (int64_t deadline = 0; deadline <= SERVER_WAIT_US + 10; deadline++) {
                bool finishes = kind <= FINISHING_SLOW;
                int64_t patience = !available ? SERVER_WAIT_US : finishes ? FOREVER : MAX_WAIT_US;
                int64_t end = deadline < patience ? deadline : patience;
                enum refusal reason = deadline <= patience ? REFUSED_DEADLINE
                                      : available          ? REFUSED_WAITED
                                                           : REFUSED_NO_SERVER;
                struct world world;
                world_init(&world, &usual);
                ask_granted(&world, 4, LIMIT, OTHER, 0);
                gate_set_available(world.gate, available, 0);
                enum gate_answer answer = ask_until(&world, 0, (enum kind)kind, deadline, 0);
                assert_int_equal(answer, deadline > 0 ? GATE_QUEUED : GATE_REFUSED);
                if (deadline > 0) {
                    assert_int_equal(gate_next_expiry(world.gate), end);
                    for (int64_t now = 0; now < end; now++) {
                        assert_null(gate_expire_next(world.gate, now));
                    }
                    assert_ptr_equal(gate_expire_next(world.gate, end), &world.tickets[0]);
                    assert_null(gate_expire_next(world.gate, end));
                }
                assert_int_equal(world.tickets[0].state, TICKET_IDLE);
                assert_int_equal(world.tickets[0].refusal, reason);
                assert_int_equal(counts_of(&world, end).refused[reason], 1);
                world_fini(&world);
            }
        }
    }
}

static void those_that_finish_wait_as_long_as_it_takes(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, &usual);
    ask_granted(&world, 0, LIMIT, OTHER, 0);
    assert_int_equal(ask(&world, 4, FINISHING, 0), GATE_QUEUED);
    assert_null(gate_expire_next(world.gate, INT64_C(3600000000)));
    done(&world, 0, INT64_C(3600000000));
    assert_ptr_equal(gate_grant_next(world.gate, INT64_C(3600000000)), &world.tickets[4]);
    world_fini(&world);
}

static void a_deadline_that_has_passed_is_refused_on_arrival(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, &usual);
    for (int kind = 0; kind < KINDS; kind++) {
        assert_int_equal(ask_until(&world, 0, (enum kind)kind, 10, 10), GATE_REFUSED);
        assert_int_equal(world.tickets[0].refusal, REFUSED_DEADLINE);
        assert_int_equal(ask_until(&world, 0, (enum kind)kind, 11, 10), GATE_GRANTED);
        done(&world, 0, 10);
    }
    world_fini(&world);
}

// The dead wait in front, unexpired: they are passed over, and they hold up nobody.
static void the_dead_are_not_granted_and_hold_up_nobody(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        struct world world;
        world_init(&world, &usual);
        ask_granted(&world, 8, LIMIT, OTHER, 0);
        assert_int_equal(ask_until(&world, 0, (enum kind)kind, 5, 0), GATE_QUEUED);
        assert_int_equal(ask_until(&world, 1, (enum kind)kind, 6, 0), GATE_QUEUED);
        assert_int_equal(ask(&world, 2, (enum kind)kind, 0), GATE_QUEUED);
        done(&world, 8, 6);
        assert_ptr_equal(gate_grant_next(world.gate, 6), &world.tickets[2]);
        done(&world, 9, 6);
        assert_null(gate_grant_next(world.gate, 6));
        assert_int_equal(ask(&world, 3, (enum kind)kind, 6), GATE_GRANTED);
        assert_ptr_equal(gate_expire_next(world.gate, 6), &world.tickets[0]);
        assert_ptr_equal(gate_expire_next(world.gate, 6), &world.tickets[1]);
        assert_int_equal(counts_of(&world, 6).refused[REFUSED_DEADLINE], 2);
        world_fini(&world);
    }
}

static void one_that_waited_too_long_is_not_granted_any_more(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, &usual);
    ask_granted(&world, 0, LIMIT, OTHER, 0);
    assert_int_equal(ask(&world, 4, OTHER, 0), GATE_QUEUED);
    done(&world, 0, MAX_WAIT_US);
    assert_null(gate_grant_next(world.gate, MAX_WAIT_US));
    assert_int_equal(counts_of(&world, MAX_WAIT_US).queued, 0);
    assert_int_equal(gate_next_expiry(world.gate), MAX_WAIT_US);
    assert_ptr_equal(gate_expire_next(world.gate, MAX_WAIT_US + 1), &world.tickets[4]);
    assert_int_equal(world.tickets[4].refusal, REFUSED_WAITED);
    world_fini(&world);
}

static void cancel_is_in_time_or_too_late(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, &usual);
    ask_granted(&world, 0, LIMIT, OTHER, 0);
    for (int kind = 0; kind < KINDS; kind++) {
        assert_int_equal(ask(&world, 4 + kind, (enum kind)kind, 0), GATE_QUEUED);
    }
    for (int kind = 0; kind < KINDS; kind++) {
        assert_true(gate_cancel(world.gate, &world.tickets[4 + kind]));
        assert_int_equal(world.tickets[4 + kind].state, TICKET_IDLE);
    }
    assert_int_equal(counts_of(&world, 9).queued, 0);
    assert_int_equal(counts_of(&world, 9).longest_wait_us, 0);
    assert_int_equal(gate_next_expiry(world.gate), FOREVER);
    assert_false(gate_cancel(world.gate, &world.tickets[0]));
    assert_int_equal(world.tickets[0].state, TICKET_IN_FLIGHT);
    done(&world, 0, 0);
    assert_null(gate_grant_next(world.gate, 0));
    world_fini(&world);
}

// One in flight for as long as `held`, the gate called at each microsecond.
static void ages_to_the_microsecond(void **state)
{
    (void)state;
    for (int learn = 0; learn < 2; learn++) {
        for (int held = 0; held <= 2 * SLOW_US; held++) {
            struct world world;
            world_init(&world, &usual);
            struct shape fresh = {0};
            struct gate_ask ask = {.shape = &fresh, .deadline_us = FOREVER};
            assert_int_equal(gate_ask(world.gate, &world.tickets[0], &ask, 0), GATE_GRANTED);
            for (int now = 0; now < held; now++) {
                bool slow = now >= SLOW_US;
                assert_int_equal(counts_of(&world, now).in_flight_slow, slow);
                assert_null(gate_expire_next(world.gate, now));
                assert_int_equal(counts_of(&world, now).in_flight_slow, slow);
                assert_int_equal(world.tickets[0].aged, slow);
                assert_int_equal(world.tickets[0].lane, slow ? LANE_SLOW : LANE_NORMAL);
                assert_int_equal(fresh.known, slow);
                assert_int_equal(shape_is_slow(&fresh), slow);
            }
            gate_done(world.gate, &world.tickets[0], learn, held);
            assert_int_equal(fresh.known, held >= SLOW_US || learn);
            assert_int_equal(shape_is_slow(&fresh), held >= SLOW_US);
            assert_int_equal(counts_of(&world, held).in_flight_slow, 0);
            world_fini(&world);
        }
    }
}

static void a_slow_one_teaches_once(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, &usual);
    ask_granted(&world, 0, 1, OTHER, 0);
    for (int now = 0; now < 5 * SLOW_US; now++) {
        assert_null(gate_grant_next(world.gate, now));
    }
    done(&world, 0, 5 * SLOW_US);
    assert_float_equal(world.quick.slow_portion, 0.125F, 1e-6F);
    world_fini(&world);
}

// The lane was full of slow ones that nobody knew to be slow; it takes more only when it is below
// its share again.
static void the_aged_fill_the_slow_lane_beyond_its_share(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, &usual);
    struct shape fresh = {0};
    struct gate_ask ask = {.shape = &fresh, .deadline_us = FOREVER};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(gate_ask(world.gate, &world.tickets[i], &ask, 0), GATE_GRANTED);
    }
    assert_int_equal(gate_ask(world.gate, &world.tickets[3], &ask, SLOW_US), GATE_QUEUED);
    assert_int_equal(world.tickets[3].lane, LANE_SLOW);
    assert_int_equal(counts_of(&world, SLOW_US).in_flight_slow, 3);
    done(&world, 0, SLOW_US);
    assert_null(gate_grant_next(world.gate, SLOW_US));
    done(&world, 1, SLOW_US);
    assert_ptr_equal(gate_grant_next(world.gate, SLOW_US), &world.tickets[3]);
    gate_done(world.gate, &world.tickets[2], true, SLOW_US);
    gate_done(world.gate, &world.tickets[3], true, SLOW_US);
    world_fini(&world);
}

// Four of a shape wait, it turns out slow meanwhile: they make way for the one behind them, and
// take the slow lane's permits as far as they go.
static void a_shape_that_turns_slow_makes_way(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, &usual);
    struct shape fresh = {0};
    struct gate_ask ask_fresh = {.shape = &fresh, .deadline_us = FOREVER};
    struct gate_ask exempt = {.shape = &fresh, .deadline_us = FOREVER, .exempt = true};
    ask_granted(&world, 0, LIMIT, FINISHING, 0);
    for (int i = 4; i < 7; i++) {
        assert_int_equal(gate_ask(world.gate, &world.tickets[i], &ask_fresh, 1), GATE_QUEUED);
    }
    assert_int_equal(gate_ask(world.gate, &world.tickets[7], &exempt, 1), GATE_QUEUED);
    assert_int_equal(ask(&world, 8, OTHER, 1), GATE_QUEUED);
    shape_observe(&fresh, true);
    for (int i = 0; i < LIMIT; i++) {
        done(&world, i, 2);
    }
    assert_ptr_equal(gate_grant_next(world.gate, 2), &world.tickets[7]);
    assert_int_equal(world.tickets[7].lane, LANE_NORMAL);
    assert_ptr_equal(gate_grant_next(world.gate, 2), &world.tickets[8]);
    assert_ptr_equal(gate_grant_next(world.gate, 2), &world.tickets[4]);
    assert_ptr_equal(gate_grant_next(world.gate, 2), &world.tickets[5]);
    assert_null(gate_grant_next(world.gate, 2));
    assert_int_equal(world.tickets[5].lane, LANE_SLOW);
    assert_int_equal(world.tickets[6].lane, LANE_SLOW);
    // The third may expire there, at the time it always had.
    assert_ptr_equal(gate_expire_next(world.gate, 1 + MAX_WAIT_US), &world.tickets[6]);
    for (int i = 4; i < 8; i++) {
        if (i != 6) {
            gate_done(world.gate, &world.tickets[i], false, 1 + MAX_WAIT_US);
        }
    }
    world_fini(&world);
}

static void waits_for_a_server_once_and_for_a_permit_anew(void **state)
{
    (void)state;
    static const struct {
        int64_t max_wait_us;
        int64_t wait_us;
    } table[] = {
        {0, GATE_RETURN_WAIT_US},
        {MAX_WAIT_US, GATE_RETURN_WAIT_US},
        {GATE_RETURN_WAIT_US + 1, GATE_RETURN_WAIT_US + 1},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct gate_limits limits = usual;
        limits.max_wait_us = table[i].max_wait_us;
        struct world world;
        world_init(&world, &limits);
        ask_granted(&world, 4, LIMIT, OTHER, 0);
        gate_set_available(world.gate, false, 10);
        assert_int_equal(ask(&world, 0, OTHER, 10), GATE_QUEUED);
        assert_int_equal(ask(&world, 1, FINISHING, 10), GATE_QUEUED);
        assert_int_equal(ask_until(&world, 2, OTHER, 45, 10), GATE_QUEUED);
        assert_int_equal(world.tickets[0].expiry.key, 10 + SERVER_WAIT_US);
        assert_int_equal(world.tickets[1].expiry.key, 10 + SERVER_WAIT_US);
        assert_int_equal(world.tickets[2].expiry.key, 45);
        gate_set_available(world.gate, false, 30); // is the case already
        assert_int_equal(world.tickets[0].expiry.key, 10 + SERVER_WAIT_US);
        gate_set_available(world.gate, true, 40);
        assert_int_equal(world.tickets[0].expiry.key, 40 + table[i].wait_us);
        assert_int_equal(world.tickets[1].expiry.key, FOREVER);
        assert_int_equal(world.tickets[2].expiry.key, 45);
        assert_int_equal(gate_next_expiry(world.gate), 45);
        gate_set_available(world.gate, false, 44);
        assert_int_equal(world.tickets[0].expiry.key, 10 + SERVER_WAIT_US);
        assert_int_equal(world.tickets[1].expiry.key, 10 + SERVER_WAIT_US);
        assert_int_equal(world.tickets[2].expiry.key, 45);
        world_fini(&world);
    }
}

static void a_permit_that_is_taken_back_is_a_refusal(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, &usual);
    ask_granted(&world, 0, LIMIT, OTHER, 0);
    assert_int_equal(ask(&world, 4, OTHER, 5), GATE_QUEUED);
    gate_revoke(world.gate, &world.tickets[1], REFUSED_NO_SERVER, 7);
    assert_int_equal(world.tickets[1].state, TICKET_IDLE);
    assert_int_equal(world.tickets[1].refusal, REFUSED_NO_SERVER);
    assert_int_equal(counts_of(&world, 7).refused[REFUSED_NO_SERVER], 1);
    assert_ptr_equal(gate_grant_next(world.gate, 7), &world.tickets[4]);
    world_fini(&world);
}

// Who has waited at another gate for a server goes on with that wait.
static void an_evicted_ticket_takes_its_wait_along(void **state)
{
    (void)state;
    struct world first;
    struct world second;
    world_init(&first, &usual);
    world_init(&second, &usual);
    gate_set_available(first.gate, false, 10);
    assert_int_equal(ask(&first, 0, OTHER, 12), GATE_QUEUED);
    assert_ptr_equal(gate_evict_next(first.gate), &first.tickets[0]);
    assert_null(gate_evict_next(first.gate));
    assert_int_equal(first.tickets[0].state, TICKET_IDLE);
    struct gate_ask again = {
        .shape = &second.quick,
        .deadline_us = FOREVER,
        .serverless_us = first.tickets[0].serverless_us,
    };
    ask_granted(&second, 4, LIMIT, OTHER, 15);
    assert_int_equal(gate_ask(second.gate, &first.tickets[0], &again, 15), GATE_QUEUED);
    assert_int_equal(first.tickets[0].expiry.key, 15 + GATE_RETURN_WAIT_US);
    gate_set_available(second.gate, false, 16);
    assert_int_equal(first.tickets[0].expiry.key, 12 + SERVER_WAIT_US);
    assert_true(gate_cancel(second.gate, &first.tickets[0]));
    world_fini(&second);
    world_fini(&first);
}

static enum gate_answer ask_again(struct world *world, int i, int64_t now_us)
{
    struct gate_ask again = {
        .shape = &world->quick,
        .deadline_us = FOREVER,
        .serverless_us = world->tickets[i].serverless_us,
    };
    return gate_ask(world->gate, &world->tickets[i], &again, now_us);
}

// They look for a server, find none, and come back after somebody has come: in any order.
static void who_was_evicted_keeps_its_place(void **state)
{
    (void)state;
    static const int order[MAX_QUEUE] = {3, 0, 4, 2, 1};
    struct world world;
    world_init(&world, &usual);
    gate_set_available(world.gate, false, 10);
    for (int i = 0; i < MAX_QUEUE; i++) {
        assert_int_equal(ask(&world, i, OTHER, 11 + i), GATE_QUEUED);
    }
    for (int i = 0; i < MAX_QUEUE; i++) {
        assert_ptr_equal(gate_evict_next(world.gate), &world.tickets[i]);
    }
    assert_int_equal(ask(&world, 5, OTHER, 20), GATE_QUEUED);
    for (int i = 0; i < MAX_QUEUE; i++) {
        assert_int_equal(ask_again(&world, order[i], 21), GATE_QUEUED);
    }
    assert_ptr_equal(gate_expire_next(world.gate, 21), &world.tickets[5]);
    assert_int_equal(world.tickets[5].refusal, REFUSED_QUEUE_FULL);
    assert_int_equal(ask(&world, 6, OTHER, 22), GATE_REFUSED);
    gate_set_available(world.gate, true, 25);
    for (int i = 0; i < LIMIT; i++) {
        assert_ptr_equal(gate_grant_next(world.gate, 25), &world.tickets[i]);
    }
    world_fini(&world);
}

// Whose wait ends while there is no server has not waited in vain for a permit: the latest do not
// begin to go first for it.
static void without_a_server_no_queue_stands(void **state)
{
    (void)state;
    struct world world;
    memset(&world, 0, sizeof(world));
    world.gate = gate_new(&usual);
    for (int i = 0; i < MAX_QUEUE; i++) {
        int64_t deadline_us = i == 2 ? MAX_WAIT_US + 1 : FOREVER;
        assert_int_equal(ask_until(&world, i, OTHER, deadline_us, 1), GATE_QUEUED);
    }
    assert_ptr_equal(gate_expire_next(world.gate, MAX_WAIT_US + 1), &world.tickets[2]);
    assert_int_equal(ask(&world, 5, OTHER, MAX_WAIT_US + 1), GATE_QUEUED);
    assert_int_equal(ask(&world, 6, OTHER, MAX_WAIT_US + 2), GATE_REFUSED);
    assert_int_equal(world.tickets[6].refusal, REFUSED_QUEUE_FULL);
    world_fini(&world);
}

// From the first in the queue to the last, however short each one waits; without a server not at
// all.
static void a_queue_stands_until_it_is_empty(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, &usual);
    ask_granted(&world, 0, LIMIT, OTHER, 0);
    assert_int_equal(counts_of(&world, 5).standing_us, 0);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(ask(&world, 4 + i, OTHER, 10 + i), GATE_QUEUED);
        assert_int_equal(counts_of(&world, 11 + i).standing_us, 1 + i);
        if (i > 0) {
            done(&world, i - 1, 11 + i);
            assert_ptr_equal(gate_grant_next(world.gate, 11 + i), &world.tickets[3 + i]);
            assert_int_equal(counts_of(&world, 11 + i).longest_wait_us, 1);
        }
    }
    assert_true(gate_cancel(world.gate, &world.tickets[11]));
    assert_int_equal(counts_of(&world, 20).standing_us, 0);
    assert_int_equal(ask(&world, 11, OTHER, 20), GATE_QUEUED);
    assert_int_equal(counts_of(&world, 23).standing_us, 3);
    gate_set_available(world.gate, false, 24);
    assert_int_equal(counts_of(&world, 25).standing_us, 0);
    gate_set_available(world.gate, true, 26);
    assert_int_equal(counts_of(&world, 28).standing_us, 2);
    world_fini(&world);
}

static void grants_nothing_while_the_server_is_not_there(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, &usual);
    ask_granted(&world, 0, 2, OTHER, 0);
    gate_set_available(world.gate, false, 1);
    assert_int_equal(ask(&world, 2, FINISHING, 1), GATE_QUEUED);
    assert_null(gate_grant_next(world.gate, 1));
    done(&world, 0, 1);
    assert_null(gate_grant_next(world.gate, 1));
    assert_int_equal(counts_of(&world, 1).in_flight, 1);
    gate_set_available(world.gate, true, 2);
    assert_ptr_equal(gate_grant_next(world.gate, 2), &world.tickets[2]);
    world_fini(&world);
}

// Another thread's clock reading, a little older.
static void a_time_that_goes_back_counts_as_the_latest(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, &usual);
    ask_granted(&world, 0, LIMIT, OTHER, 100);
    assert_int_equal(ask(&world, 4, OTHER, 90), GATE_QUEUED);
    assert_int_equal(world.tickets[4].asked_us, 100);
    assert_int_equal(world.tickets[4].expiry.key, 100 + MAX_WAIT_US);
    assert_int_equal(counts_of(&world, 90).longest_wait_us, 0);
    done(&world, 0, 95);
    assert_ptr_equal(gate_grant_next(world.gate, 80), &world.tickets[4]);
    assert_int_equal(world.tickets[4].granted_us, 100);
    assert_int_equal(ask(&world, 5, OTHER, 100), GATE_QUEUED);
    assert_null(gate_expire_next(world.gate, 107));
    assert_int_equal(counts_of(&world, 103).longest_wait_us, 7);
    world_fini(&world);
}

static void the_oldest_in_flight_come_first(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, &usual);
    assert_null(gate_oldest(world.gate));
    for (int i = 0; i < LIMIT; i++) {
        ask_granted(&world, i, 1, i == 1 ? OTHER_SLOW : OTHER, i);
    }
    done(&world, 2, SLOW_US);
    const struct ticket *ticket = gate_oldest(world.gate);
    assert_ptr_equal(ticket, &world.tickets[0]);
    assert_ptr_equal(ticket->next, &world.tickets[1]);
    assert_ptr_equal(ticket->next->next, &world.tickets[3]);
    assert_null(ticket->next->next->next);
    world_fini(&world);
}

#define MS INT64_C(1000)

static const struct gate_limits wide = {
    .limit = 10,
    .slow_share = 0.2,
    .slow_us = 100 * MS,
    .max_wait_us = 100 * MS,
    .server_wait_us = 1000 * MS,
    .max_queue = 1000,
};

// Serves `rounds` requests of `held_us` one after the other; returns when that is done.
static int64_t serve(struct world *world, enum kind kind, int rounds, int64_t held_us,
                     int64_t now_us)
{
    for (int i = 0; i < rounds; i++) {
        ask_granted(world, 15, 1, kind, now_us);
        now_us += held_us;
        done(world, 15, now_us);
    }
    return now_us;
}

// The queue ahead and oneself, at one permit's time each, shared by the lane's permits.
static void backoff_is_the_time_the_queue_takes_to_drain(void **state)
{
    (void)state;
    static const struct {
        int64_t held_ms;
        int queued;
        int64_t backoff_ms;
    } table[] = {
        {2, 0, 100},     {2, 5, 100},     {90, 5, 100},    {800, 0, 400},    {800, 4, 2000},
        {1000, 5, 3000}, {5000, 0, 2500}, {5000, 2, 7500}, {5000, 5, 10000},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        bool slow = table[i].held_ms >= 100;
        struct world world;
        world_init(&world, &wide);
        int64_t now = serve(&world, slow ? OTHER_SLOW : OTHER, 1, table[i].held_ms * MS, 0);
        if (slow) {
            ask_granted(&world, 0, 2, OTHER_SLOW, now);
        } else {
            ask_granted(&world, 0, 10, OTHER, now);
        }
        for (int q = 0; q < table[i].queued; q++) {
            enum kind kind = slow ? OTHER_SLOW : OTHER;
            assert_int_equal(ask(&world, 10 + q, kind, now), GATE_QUEUED);
        }
        enum lane lane = slow ? LANE_SLOW : LANE_NORMAL;
        assert_int_equal(gate_backoff_ms(world.gate, lane, now), table[i].backoff_ms);
        world_fini(&world);
    }
}

// What the slow ones hold, the others cannot have: 8 of 10 permits, 800 ms each, the 4th in the
// queue.
static void backoff_of_the_others_leaves_out_what_the_slow_hold(void **state)
{
    (void)state;
    struct gate_limits limits = wide;
    limits.slow_us = 1000 * MS;
    struct world world;
    world_init(&world, &limits);
    int64_t now = serve(&world, OTHER, 1, 800 * MS, 0);
    ask_granted(&world, 0, 2, OTHER_SLOW, now);
    ask_granted(&world, 2, 8, OTHER, now);
    for (int i = 10; i < 13; i++) {
        assert_int_equal(ask(&world, i, OTHER, now), GATE_QUEUED);
    }
    assert_int_equal(gate_backoff_ms(world.gate, LANE_NORMAL, now), 400);
    world_fini(&world);
}

static void backoff_follows_the_latest_and_is_smoothed(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, &wide);
    int64_t now = serve(&world, OTHER_SLOW, 1, 800 * MS, 0);
    assert_int_equal(gate_backoff_ms(world.gate, LANE_SLOW, now), 400);
    now = serve(&world, OTHER_SLOW, 1, 1600 * MS, now);
    assert_int_equal(gate_backoff_ms(world.gate, LANE_SLOW, now), 450);
    now = serve(&world, OTHER_SLOW, 100, 1600 * MS, now);
    assert_in_range(gate_backoff_ms(world.gate, LANE_SLOW, now), 799, 800);
    world_fini(&world);
}

static void a_quiet_hour_does_not_pass_for_a_slow_one(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, &wide);
    assert_int_equal(gate_backoff_ms(world.gate, LANE_NORMAL, 0), 100);
    int64_t now = serve(&world, OTHER, 3, 2 * MS, 0) + INT64_C(3600000) * MS;
    ask_granted(&world, 0, 10, OTHER, now);
    assert_int_equal(ask(&world, 10, OTHER, now), GATE_QUEUED);
    assert_int_equal(gate_backoff_ms(world.gate, LANE_NORMAL, now), 100);
    world_fini(&world);
}

// No request comes back any more: all are older than what was usual, and get older.
static void while_nobody_has_a_turn_the_backoff_is_long(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, &usual);
    gate_set_available(world.gate, false, 0);
    assert_int_equal(gate_backoff_ms(world.gate, LANE_NORMAL, 0), 2000);
    assert_int_equal(gate_next_turn_ms(world.gate, LANE_NORMAL, 0), 2000);
    gate_set_available(world.gate, true, 0);
    assert_int_equal(gate_next_turn_ms(world.gate, LANE_NORMAL, 0), 100);
    gate_pause(world.gate, true, 0);
    assert_int_equal(gate_next_turn_ms(world.gate, LANE_NORMAL, 0), 2000);
    world_fini(&world);
}

static void a_server_that_stopped_shows_in_the_backoff(void **state)
{
    (void)state;
    struct gate_limits limits = wide;
    limits.slow_us = INT64_C(1000000) * MS;
    struct world world;
    world_init(&world, &limits);
    int64_t now = serve(&world, OTHER, 3, 2 * MS, 0);
    ask_granted(&world, 0, 10, OTHER, now);
    for (int i = 10; i < 14; i++) {
        assert_int_equal(ask(&world, i, FINISHING, now), GATE_QUEUED);
    }
    int64_t before = 100;
    for (int64_t ms = 0; ms < 30000; ms++) {
        int64_t backoff = gate_backoff_ms(world.gate, LANE_NORMAL, now + ms * MS);
        int64_t drain = 5 * ms / 10;
        assert_in_range(backoff, before, 10000);
        assert_int_equal(backoff, drain < 100 ? 100 : drain > 10000 ? 10000 : drain);
        before = backoff;
    }
    world_fini(&world);
}

static void a_lowered_limit_is_reached_by_ending(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, &usual);
    ask_granted(&world, 0, LIMIT, OTHER, 0);
    struct gate_limits lower = usual;
    lower.limit = 1;
    lower.max_wait_us = 5;
    gate_bound(world.gate, &lower);
    assert_int_equal(ask(&world, LIMIT, OTHER, 1), GATE_QUEUED);
    for (int i = 0; i < LIMIT - 1; i++) {
        gate_done(world.gate, &world.tickets[i], true, 2);
        assert_null(gate_grant_next(world.gate, 2));
    }
    gate_done(world.gate, &world.tickets[LIMIT - 1], true, 3);
    assert_ptr_equal(gate_grant_next(world.gate, 3), &world.tickets[LIMIT]);
    assert_int_equal(ask(&world, 0, OTHER, 4), GATE_QUEUED);
    assert_int_equal(gate_next_expiry(world.gate), 4 + 5);
    gate_bound(world.gate, &usual);
    assert_ptr_equal(gate_grant_next(world.gate, 5), &world.tickets[0]);
    ask_granted(&world, 1, LIMIT - 2, OTHER, 6);
    assert_int_equal(ask(&world, LIMIT + 1, OTHER, 6), GATE_QUEUED);
    world_fini(&world);
}

static void who_is_told_to_be_slow_is(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, &usual);
    struct gate_ask told = {.shape = &world.quick, .deadline_us = FOREVER, .slow = true};
    for (int i = 0; i <= SLOW_LIMIT; i++) {
        enum gate_answer answer = gate_ask(world.gate, &world.tickets[i], &told, 0);
        assert_int_equal(answer, i < SLOW_LIMIT ? GATE_GRANTED : GATE_QUEUED);
        assert_int_equal(world.tickets[i].lane, LANE_SLOW);
    }
    ask_granted(&world, SLOW_LIMIT + 1, 1, OTHER, 0);
    world_fini(&world);
}

// 10 permits of 200 ms, nobody in the queue: a turn every 20 ms, the next in 20 ms.
static int64_t with_turns_of_20_ms(struct world *world)
{
    struct gate_limits limits = wide;
    limits.slow_us = 500 * MS;
    world_init(world, &limits);
    return serve(world, OTHER, 50, 200 * MS, 0);
}

static void each_who_is_sent_away_has_a_turn(void **state)
{
    (void)state;
    struct world world;
    int64_t now = with_turns_of_20_ms(&world);
    for (int64_t turn = 1; turn <= 500; turn++) {
        int64_t ms = gate_next_turn_ms(world.gate, LANE_NORMAL, now);
        assert_int_equal(ms, turn * 20 < 100 ? 100 : turn * 20);
    }
    assert_int_equal(gate_backoff_ms(world.gate, LANE_NORMAL, now), 100); // which takes none
    assert_int_equal(gate_next_turn_ms(world.gate, LANE_NORMAL, now), 10000);
    world_fini(&world);
}

static void turns_pass(void **state)
{
    (void)state;
    struct world world;
    int64_t now = with_turns_of_20_ms(&world);
    for (int turn = 1; turn <= 20; turn++) {
        (void)gate_next_turn_ms(world.gate, LANE_NORMAL, now);
    }
    assert_int_equal(gate_next_turn_ms(world.gate, LANE_NORMAL, now + 200 * MS), 420 - 200);
    assert_int_equal(gate_next_turn_ms(world.gate, LANE_NORMAL, now + 5000 * MS), 100);
    // However many there were: in 10 s all have come back.
    for (int turn = 1; turn <= 100000; turn++) {
        (void)gate_next_turn_ms(world.gate, LANE_NORMAL, now);
    }
    assert_int_equal(gate_next_turn_ms(world.gate, LANE_NORMAL, now + 10000 * MS), 100);
    world_fini(&world);
}

static void lanes_have_turns_of_their_own(void **state)
{
    (void)state;
    struct world world;
    int64_t now = with_turns_of_20_ms(&world);
    now = serve(&world, OTHER_SLOW, 10, 800 * MS, now);
    for (int turn = 1; turn <= 5; turn++) {
        assert_int_equal(gate_next_turn_ms(world.gate, LANE_SLOW, now), turn * 400);
    }
    assert_int_equal(gate_next_turn_ms(world.gate, LANE_NORMAL, now), 100);
    world_fini(&world);
}

// A lane that has no permit, because others have them all, waits for one of theirs.
static void a_lane_that_is_shut_out_waits_for_the_others(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, &wide);
    ask_granted(&world, 0, 10, OTHER, 0);
    int64_t now = 300 * MS; // all count as slow by now: somebody looks
    assert_null(gate_grant_next(world.gate, now));
    assert_int_equal(gate_backoff_ms(world.gate, LANE_NORMAL, now), 100);
    assert_int_equal(gate_backoff_ms(world.gate, LANE_NORMAL, now + 4700 * MS), 500);
    done(&world, 0, now); // now it could have one
    assert_int_equal(gate_backoff_ms(world.gate, LANE_NORMAL, now + 4700 * MS), 100);
    world_fini(&world);
}

// What drivers make of it: a random part of twice the time. Of 500 refused at one moment no more
// come back in the first second than three times what it serves (50), then than twice that;
// without turns, all would in the first 200 ms.
static void a_crowd_does_not_come_back_at_once(void **state)
{
    (void)state;
    struct world world;
    int64_t now = with_turns_of_20_ms(&world);
    int back[20] = {0};
    struct chance chance = {7};
    for (int i = 0; i < 500; i++) {
        int64_t most_ms = 2 * gate_next_turn_ms(world.gate, LANE_NORMAL, now);
        back[chance_below(&chance, (int)most_ms) / 1000]++;
    }
    for (int second = 0; second < 20; second++) {
        assert_in_range(back[second], 0, second < 1 ? 3 * 50 : 2 * 50);
    }
    world_fini(&world);
}

static void every_refusal_has_its_word(void **state)
{
    (void)state;
    assert_string_equal(refusal_text(REFUSED_QUEUE_FULL), "queue_full");
    assert_string_equal(refusal_text(REFUSED_WAITED), "max_wait");
    assert_string_equal(refusal_text(REFUSED_DEADLINE), "deadline");
    assert_string_equal(refusal_text(REFUSED_NO_SERVER), "no_server");
}

static void freeing_nothing_is_no_harm(void **state)
{
    (void)state;
    gate_free(NULL);
}

// Nobody knows what they are: they may have half, and beyond that only what the slow lane has.
static void new_shapes_may_not_take_it_all(void **state)
{
    (void)state;
    struct gate_limits limits = usual;
    limits.limit = 8;
    limits.slow_share = 0.25;
    struct world world;
    world_init(&world, &limits);
    struct shape fresh[8] = {0};
    for (int i = 0; i < 8; i++) {
        struct gate_ask ask = {.shape = &fresh[i], .deadline_us = FOREVER};
        enum gate_answer answer = gate_ask(world.gate, &world.tickets[i], &ask, 0);
        assert_int_equal(answer, i < 6 ? GATE_GRANTED : GATE_QUEUED);
        assert_int_equal(world.tickets[i].lane, i < 4 ? LANE_NORMAL : LANE_SLOW);
    }
    ask_granted(&world, 8, 2, OTHER, 0);
    done(&world, 0, 1); // known now; so the next of it is as any other
    struct gate_ask ask = {.shape = &fresh[0], .deadline_us = FOREVER};
    assert_int_equal(gate_ask(world.gate, &world.tickets[0], &ask, 1), GATE_GRANTED);
    assert_int_equal(world.tickets[0].lane, LANE_NORMAL);
    done(&world, 1, 1); // and one more that is not known may come
    ask.shape = &fresh[7];
    assert_int_equal(gate_ask(world.gate, &world.tickets[10], &ask, 1), GATE_GRANTED);
    assert_int_equal(world.tickets[10].lane, LANE_NORMAL);
    world_fini(&world);
}

// What the slow lane did not use the others have taken. Of what comes free it gets its share.
static void what_was_lent_comes_back_after_two_permits(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, &usual);
    ask_granted(&world, 0, LIMIT, OTHER, 0);
    for (int i = LIMIT; i < LIMIT + 3; i++) {
        assert_int_equal(ask(&world, i, OTHER, 0), GATE_QUEUED);
    }
    assert_int_equal(ask(&world, 7, OTHER_SLOW, 0), GATE_QUEUED);
    assert_int_equal(ask(&world, 8, OTHER_SLOW, 0), GATE_QUEUED);
    static const int expected[] = {4, 5, 7, 6, 8}; // two normal ones for 1/2 each, then it is due
    for (int i = 0; i < 5; i++) {
        done(&world, i < LIMIT ? i : 4, 1);
        assert_ptr_equal(gate_grant_next(world.gate, 1), &world.tickets[expected[i]]);
        assert_null(gate_grant_next(world.gate, 1));
    }
    world_fini(&world);
}

static void one_is_kept_for_what_finishes(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, &usual);
    gate_keep(world.gate, true);
    assert_int_equal(counts_of(&world, 0).kept, 1);
    ask_granted(&world, 0, LIMIT - 1, OTHER, 0);
    assert_int_equal(ask(&world, 4, OTHER, 0), GATE_QUEUED);
    struct gate_ask stream = {
        .shape = &world.quick, .deadline_us = FOREVER, .finishes = true, .streams = true};
    assert_int_equal(gate_ask(world.gate, &world.tickets[5], &stream, 0), GATE_QUEUED);
    ask_granted(&world, 6, 1, FINISHING, 0);
    assert_int_equal(ask(&world, 7, FINISHING, 0), GATE_QUEUED);
    done(&world, 6, 1);
    assert_ptr_equal(gate_grant_next(world.gate, 1), &world.tickets[7]);
    done(&world, 7, 1);
    assert_null(gate_grant_next(world.gate, 1));
    gate_keep(world.gate, false);
    assert_ptr_equal(gate_grant_next(world.gate, 1), &world.tickets[5]);
    world_fini(&world);
}

// With one permit nothing can be kept.
static void the_only_one_is_not_kept(void **state)
{
    (void)state;
    struct gate_limits limits = usual;
    limits.limit = 1;
    struct world world;
    world_init(&world, &limits);
    gate_keep(world.gate, true);
    ask_granted(&world, 0, 1, OTHER, 0);
    assert_int_equal(counts_of(&world, 0).kept, 0);
    world_fini(&world);
}

// Gives the limit windows of requests that hold a permit for held_us each, one at a time.
static void serve_in_turn(struct world *world, int64_t held_us, int count, int64_t *now_us)
{
    for (int i = 0; i < count; i++) {
        assert_int_equal(ask(world, 0, OTHER, *now_us), GATE_GRANTED);
        *now_us += held_us;
        done(world, 0, *now_us);
    }
}

// A server that takes four times as long for everything does not make anything slow.
static void slow_is_what_is_slower_than_the_server(void **state)
{
    (void)state;
    struct gate_limits limits = usual;
    limits.slow_us = 30000;
    limits.max_wait_us = 1000000;
    struct world world;
    world_init(&world, &limits);
    int64_t now_us = 0;
    serve_in_turn(&world, 6000, 200, &now_us);
    assert_true(counts_of(&world, now_us).slowness < 1.1);
    // Four at a time, which all take four times as long.
    for (int i = 0; i < 400; i++) {
        ask_granted(&world, 0, LIMIT, OTHER, now_us);
        now_us += 24000;
        for (int j = 0; j < LIMIT; j++) {
            done(&world, j, now_us);
        }
    }
    assert_true(counts_of(&world, now_us).slowness > 3);
    ask_granted(&world, 0, 1, OTHER, now_us);
    assert_int_equal(counts_of(&world, now_us + 80000).in_flight_slow, 0);
    assert_int_equal(counts_of(&world, now_us + 140000).in_flight_slow, 1);
    done(&world, 0, now_us);
    assert_false(shape_is_slow(&world.quick));
    world_fini(&world);
}

// Until the limit is known to be smaller, it is at most what is asked; those beside it stay.
static void streams_are_beside_the_limit(void **state)
{
    (void)state;
    struct gate_limits limits = usual;
    limits.limit = 100;
    limits.floor = 4;
    limits.stream_share = 0.5;
    struct world world;
    world_init(&world, &limits);
    int before = counts_of(&world, 0).limit;
    assert_true(before < 100);
    struct gate_ask stream = {
        .shape = &world.quick, .deadline_us = FOREVER, .finishes = true, .streams = true};
    for (int i = 0; i < 10; i++) {
        assert_int_equal(gate_ask(world.gate, &world.tickets[i], &stream, 0), GATE_GRANTED);
    }
    assert_int_equal(counts_of(&world, 0).limit, before + 10);
    world_fini(&world);
}

static enum gate_answer ask_to_pin(struct world *world, int i, struct shape *shape, int64_t now_us)
{
    struct gate_ask ask = {.shape = shape, .deadline_us = FOREVER, .pins = true};
    return gate_ask(world->gate, &world->tickets[i], &ask, now_us);
}

// What may keep a connection waits while as many are under way as may be; nothing else does.
static void what_may_keep_a_connection_waits_for_room(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, &usual);
    assert_int_equal(ask_to_pin(&world, 0, &world.quick, 0), GATE_QUEUED); // none was left yet
    gate_leave_room(world.gate, 2);
    assert_ptr_equal(gate_grant_next(world.gate, 1), &world.tickets[0]);
    assert_int_equal(ask_to_pin(&world, 1, &world.quick, 1), GATE_GRANTED);
    assert_int_equal(ask_to_pin(&world, 2, &world.quick, 2), GATE_QUEUED);
    assert_int_equal(ask_to_pin(&world, 3, &world.slow, 2), GATE_QUEUED);
    assert_int_equal(ask(&world, 4, OTHER, 3), GATE_GRANTED);
    assert_null(gate_grant_next(world.gate, 3));
    done(&world, 0, 4);
    assert_null(gate_grant_next(world.gate, 4)); // it is for the caller to say
    gate_leave_room(world.gate, 1);
    assert_ptr_equal(gate_grant_next(world.gate, 5), &world.tickets[2]);
    gate_leave_room(world.gate, 1);
    assert_ptr_equal(gate_grant_next(world.gate, 5), &world.tickets[3]);
    world_fini(&world);
}

static void whether_it_keeps_a_connection_or_not_the_first_goes_first(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, &usual);
    ask_granted(&world, 0, LIMIT, OTHER, 0);
    gate_leave_room(world.gate, LIMIT);
    for (int i = LIMIT; i < LIMIT + 4; i++) {
        enum gate_answer answer =
            i % 2 ? ask_to_pin(&world, i, &world.quick, i) : ask(&world, i, OTHER, i);
        assert_int_equal(answer, GATE_QUEUED);
    }
    for (int i = 0; i < 4; i++) {
        done(&world, i, 10);
        assert_ptr_equal(gate_grant_next(world.gate, 10), &world.tickets[LIMIT + i]);
    }
    world_fini(&world);
}

static void the_shape_of_most_is_found(void **state)
{
    (void)state;
    struct world world;
    struct gate_majority most;
    struct gate_limits limits = {.limit = 8, .slow_share = 1, .slow_us = FOREVER};
    world_init(&world, &limits);
    world.quick.id = 1;
    world.slow.id = 2;
    gate_find_majority(world.gate, 0, &most);
    assert_true(most.shape == 0 && most.part == 0);
    ask_granted(&world, 0, 2, OTHER, 0);
    ask_granted(&world, 2, 2, OTHER_SLOW, 10);
    gate_find_majority(world.gate, 40, &most);
    assert_int_equal(most.shape, 0); // half is not most
    ask_granted(&world, 4, 2, OTHER_SLOW, 30);
    gate_find_majority(world.gate, 40, &most);
    assert_int_equal(most.shape, 2);
    assert_true(most.part == 4.0 / 6);
    assert_int_equal(most.held_us, 20);
    world_fini(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starts_unavailable),
        cmocka_unit_test(grants_up_to_the_limit),
        cmocka_unit_test(slow_ones_keep_to_their_share),
        cmocka_unit_test(exempt_ones_are_not_bound_by_the_slow_lane),
        cmocka_unit_test(the_slow_share_is_rounded_down_but_at_least_one),
        cmocka_unit_test(the_slow_share_of_a_hundred_is_its_percent),
        cmocka_unit_test(serves_kinds_in_order_whatever_they_came_in),
        cmocka_unit_test(nobody_overtakes),
        cmocka_unit_test(each_queue_is_first_come_first_served),
        cmocka_unit_test(the_queue_is_bounded_but_not_for_those_that_finish),
        cmocka_unit_test(the_tenant_that_waits_most_makes_room),
        cmocka_unit_test(the_lowest_priority_makes_room),
        cmocka_unit_test(one_that_made_room_may_leave_before_it_is_told),
        cmocka_unit_test(what_cannot_be_in_time_is_refused_on_arrival),
        cmocka_unit_test(a_tenant_pays_for_what_it_held),
        cmocka_unit_test(a_dear_shape_is_charged_at_once),
        cmocka_unit_test(max_wait_zero_never_queues),
        cmocka_unit_test(waiting_ends_to_the_microsecond),
        cmocka_unit_test(those_that_finish_wait_as_long_as_it_takes),
        cmocka_unit_test(a_deadline_that_has_passed_is_refused_on_arrival),
        cmocka_unit_test(the_dead_are_not_granted_and_hold_up_nobody),
        cmocka_unit_test(one_that_waited_too_long_is_not_granted_any_more),
        cmocka_unit_test(cancel_is_in_time_or_too_late),
        cmocka_unit_test(ages_to_the_microsecond),
        cmocka_unit_test(a_slow_one_teaches_once),
        cmocka_unit_test(the_aged_fill_the_slow_lane_beyond_its_share),
        cmocka_unit_test(a_shape_that_turns_slow_makes_way),
        cmocka_unit_test(waits_for_a_server_once_and_for_a_permit_anew),
        cmocka_unit_test(a_permit_that_is_taken_back_is_a_refusal),
        cmocka_unit_test(an_evicted_ticket_takes_its_wait_along),
        cmocka_unit_test(who_was_evicted_keeps_its_place),
        cmocka_unit_test(without_a_server_no_queue_stands),
        cmocka_unit_test(a_queue_stands_until_it_is_empty),
        cmocka_unit_test(grants_nothing_while_the_server_is_not_there),
        cmocka_unit_test(a_time_that_goes_back_counts_as_the_latest),
        cmocka_unit_test(the_oldest_in_flight_come_first),
        cmocka_unit_test(backoff_is_the_time_the_queue_takes_to_drain),
        cmocka_unit_test(backoff_of_the_others_leaves_out_what_the_slow_hold),
        cmocka_unit_test(backoff_follows_the_latest_and_is_smoothed),
        cmocka_unit_test(a_quiet_hour_does_not_pass_for_a_slow_one),
        cmocka_unit_test(while_nobody_has_a_turn_the_backoff_is_long),
        cmocka_unit_test(a_server_that_stopped_shows_in_the_backoff),
        cmocka_unit_test(a_lowered_limit_is_reached_by_ending),
        cmocka_unit_test(who_is_told_to_be_slow_is),
        cmocka_unit_test(each_who_is_sent_away_has_a_turn),
        cmocka_unit_test(turns_pass),
        cmocka_unit_test(lanes_have_turns_of_their_own),
        cmocka_unit_test(a_lane_that_is_shut_out_waits_for_the_others),
        cmocka_unit_test(a_crowd_does_not_come_back_at_once),
        cmocka_unit_test(new_shapes_may_not_take_it_all),
        cmocka_unit_test(what_was_lent_comes_back_after_two_permits),
        cmocka_unit_test(one_is_kept_for_what_finishes),
        cmocka_unit_test(the_only_one_is_not_kept),
        cmocka_unit_test(slow_is_what_is_slower_than_the_server),
        cmocka_unit_test(streams_are_beside_the_limit),
        cmocka_unit_test(in_a_pause_only_what_finishes_goes),
        cmocka_unit_test(what_may_keep_a_connection_waits_for_room),
        cmocka_unit_test(whether_it_keeps_a_connection_or_not_the_first_goes_first),
        cmocka_unit_test(every_refusal_has_its_word),
        cmocka_unit_test(the_shape_of_most_is_found),
        cmocka_unit_test(freeing_nothing_is_no_harm),
    };
    return cmocka_run_group_tests_name("gate", tests, NULL, NULL);
}
