// SPDX-License-Identifier: Apache-2.0

#include "test_policy.h"

#include "policy/shapes.h"

static void knows_an_id_again(void **state)
{
    (void)state;
    struct shapes *shapes = shapes_new(8);
    struct shape *first = shapes_acquire(shapes, 7);
    assert_int_equal(first->id, 7);
    assert_false(first->known);
    struct shape *other = shapes_acquire(shapes, 8);
    assert_ptr_not_equal(first, other);
    assert_ptr_equal(shapes_acquire(shapes, 7), first);
    assert_int_equal(first->users, 2);
    assert_int_equal(shapes_count(shapes), 2);
    shapes_release(shapes, first);
    shapes_release(shapes, first);
    assert_ptr_equal(shapes_acquire(shapes, 7), first);
    shapes_free(shapes);
}

static void forgets_the_one_used_least_recently(void **state)
{
    (void)state;
    struct shapes *shapes = shapes_new(3);
    struct shape *at[3];
    for (uint64_t id = 0; id < 3; id++) {
        at[id] = shapes_acquire(shapes, id);
        shape_observe(at[id], true);
    }
    shapes_release(shapes, at[1]);
    shapes_release(shapes, at[0]);
    shapes_release(shapes, at[2]);
    shapes_release(shapes, shapes_acquire(shapes, 1)); // so that 0 is the oldest
    struct shape *fresh = shapes_acquire(shapes, 100);
    assert_ptr_equal(fresh, at[0]);
    assert_int_equal(fresh->id, 100);
    assert_false(fresh->known);
    assert_int_equal(shapes_count(shapes), 3);
    assert_true(shapes_acquire(shapes, 1)->known);
    assert_true(shapes_acquire(shapes, 2)->known);
    shapes_free(shapes);
}

static void shares_one_entry_when_all_are_in_use(void **state)
{
    (void)state;
    struct shapes *shapes = shapes_new(2);
    struct shape *first = shapes_acquire(shapes, 1);
    struct shape *second = shapes_acquire(shapes, 2);
    struct shape *shared = shapes_acquire(shapes, 3);
    assert_ptr_not_equal(shared, first);
    assert_ptr_not_equal(shared, second);
    assert_ptr_equal(shapes_acquire(shapes, 4), shared);
    assert_ptr_equal(shapes_acquire(shapes, 0), shared);
    assert_int_equal(shapes_count(shapes), 2);
    assert_int_equal(shared->users, 3);
    shape_observe(shared, true);
    shapes_release(shapes, shared);
    shapes_release(shapes, shared);
    assert_true(shape_is_slow(shared));
    shapes_release(shapes, shared);
    assert_false(shape_is_slow(shared)); // was nobody's in particular
    shapes_release(shapes, second);
    struct shape *fresh = shapes_acquire(shapes, 3);
    assert_ptr_equal(fresh, second);
    assert_ptr_equal(shapes_acquire(shapes, 2), shared);
    shapes_free(shapes);
}

static void works_without_any_capacity(void **state)
{
    (void)state;
    struct shapes *shapes = shapes_new(0);
    struct shape *shape = shapes_acquire(shapes, 1);
    assert_non_null(shape);
    shapes_release(shapes, shape);
    assert_int_equal(shapes_count(shapes), 0);
    shapes_free(shapes);
    shapes_free(NULL);
}

#define IDS 40
#define MOST_IDS 12
#define RUNS 100
#define STEPS 2000

// What an array would know: the users of each id, when it was last released, whether it is there.
struct naive {
    struct shape *shape[IDS];
    int users[IDS];
    int released[IDS];
    bool there[IDS];
    int count;
};

static int naive_oldest_idle(const struct naive *naive)
{
    int oldest = -1;
    for (int i = 0; i < IDS; i++) {
        if (naive->there[i] && naive->users[i] == 0 &&
            (oldest < 0 || naive->released[i] < naive->released[oldest])) {
            oldest = i;
        }
    }
    return oldest;
}

// Makes room for one more if it can be had.
static bool naive_add(struct naive *naive, int id, int capacity)
{
    if (naive->count == capacity) {
        int oldest = naive_oldest_idle(naive);
        if (oldest < 0) {
            return false;
        }
        naive->there[oldest] = false;
        naive->count--;
    }
    naive->there[id] = true;
    naive->count++;
    return true;
}

static void try_acquire(struct shapes *shapes, struct naive *naive, int id, int capacity)
{
    bool was_there = naive->there[id];
    struct shape *shape = shapes_acquire(shapes, (uint64_t)id + 1);
    if (!was_there && !naive_add(naive, id, capacity)) {
        assert_int_equal(shape->id, 0);
        shapes_release(shapes, shape);
        return;
    }
    assert_int_equal(shape->id, id + 1);
    assert_int_equal(shape->known, was_there);
    if (was_there) {
        assert_ptr_equal(shape, naive->shape[id]);
    }
    shape_observe(shape, false);
    naive->shape[id] = shape;
    naive->users[id]++;
    assert_int_equal(shape->users, naive->users[id]);
}

static void agrees_with_a_naive_table(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < RUNS; seed++) {
        struct chance chance = {.state = seed};
        int capacity = 1 + chance_below(&chance, MOST_IDS);
        struct shapes *shapes = shapes_new((size_t)capacity);
        struct naive naive = {0};
        for (int step = 0; step < STEPS; step++) {
            int id = chance_below(&chance, IDS);
            if (chance_percent(&chance, 30)) {
                try_acquire(shapes, &naive, id, capacity);
            } else if (naive.users[id] > 0) {
                shapes_release(shapes, naive.shape[id]);
                naive.users[id]--;
                naive.released[id] = step;
            }
            assert_int_equal(shapes_count(shapes), naive.count);
        }
        shapes_free(shapes);
    }
}

static void the_first_observation_decides(void **state)
{
    (void)state;
    struct shape shape = {0};
    assert_false(shape_is_slow(&shape));
    shape_observe(&shape, true);
    assert_true(shape_is_slow(&shape));
    shape = (struct shape){0};
    shape_observe(&shape, false);
    assert_false(shape_is_slow(&shape));
}

static void half_of_them_is_enough(void **state)
{
    (void)state;
    struct shape shape = {.known = true, .slow_portion = 0.5F};
    assert_true(shape_is_slow(&shape));
    shape.slow_portion = 0.499F;
    assert_false(shape_is_slow(&shape));
}

// From one extreme, six of the other kind turn it: (7/8)^6 is the first power below one half.
static void six_in_a_row_turn_it(void **state)
{
    (void)state;
    for (int slow = 0; slow < 2; slow++) {
        struct shape shape = {0};
        shape_observe(&shape, slow);
        for (int i = 1; i <= 6; i++) {
            assert_int_equal(shape_is_slow(&shape), slow);
            shape_observe(&shape, !slow);
        }
        assert_int_equal(shape_is_slow(&shape), !slow);
    }
}

// The portion stays within its bounds and comes near the true one.
static void follows_the_portion(void **state)
{
    (void)state;
    struct chance chance = {.state = 3};
    for (int percent = 0; percent <= 100; percent += 5) {
        struct shape shape = {0};
        double sum = 0;
        for (int i = 0; i < 10000; i++) {
            shape_observe(&shape, chance_percent(&chance, percent));
            assert_true(shape.slow_portion >= 0 && shape.slow_portion <= 1);
            sum += (double)shape.slow_portion;
        }
        double mean = sum / 10000;
        assert_true(mean > percent / 100.0 - 0.03 && mean < percent / 100.0 + 0.03);
    }
}

static void says_what_it_is_and_cost(void **state)
{
    (void)state;
    struct shapes *shapes = shapes_new(1);
    struct shape *shape = shapes_acquire(shapes, 7);
    assert_null(shape->label);
    shape_label(shape, "find shop.orders");
    shape_charge(shape, 10, 200);
    shape_charge(shape, 0, 300);
    shape_label(shapes_acquire(shapes, 8), "(others)"); // the entry that all share
    assert_ptr_equal(shapes_at(shapes, 0), shape);
    assert_string_equal(shape->label, "find shop.orders");
    assert_int_equal(shape->count, 2);
    assert_int_equal(shape->waited_us, 10);
    assert_int_equal(shape->held_us, 500);
    shapes_release(shapes, shape);
    shape = shapes_acquire(shapes, 9); // in its place, and nothing of it
    assert_ptr_equal(shapes_at(shapes, 0), shape);
    assert_null(shape->label);
    assert_int_equal(shape->count, 0);
    shapes_free(shapes);
}

static void learns_what_one_costs(void **state)
{
    (void)state;
    struct shape shape = {0};
    shape_learn_cost(&shape, 1000);
    assert_float_equal(shape.cost_us, 1000, 0.5F);
    shape_learn_cost(&shape, 2000);
    assert_float_equal(shape.cost_us, 1125, 0.5F);
    // One that takes unusually long says little; many of them say much.
    shape_learn_cost(&shape, 3600000000);
    assert_float_equal(shape.cost_us, 1125 + 7 * 1125 / 8.0F, 0.5F);
    for (int i = 0; i < 40; i++) {
        shape_learn_cost(&shape, 5000000);
    }
    assert_float_equal(shape.cost_us, 5000000, 100000);
    for (int i = 0; i < 100; i++) {
        shape_learn_cost(&shape, 0);
    }
    assert_true(shape.cost_us >= 1 && shape.cost_us < 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_what_it_is_and_cost),
        cmocka_unit_test(knows_an_id_again),
        cmocka_unit_test(forgets_the_one_used_least_recently),
        cmocka_unit_test(shares_one_entry_when_all_are_in_use),
        cmocka_unit_test(works_without_any_capacity),
        cmocka_unit_test(agrees_with_a_naive_table),
        cmocka_unit_test(the_first_observation_decides),
        cmocka_unit_test(half_of_them_is_enough),
        cmocka_unit_test(six_in_a_row_turn_it),
        cmocka_unit_test(follows_the_portion),
        cmocka_unit_test(learns_what_one_costs),
    };
    return cmocka_run_group_tests_name("shapes", tests, NULL, NULL);
}
