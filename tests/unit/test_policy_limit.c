// SPDX-License-Identifier: Apache-2.0
//
// The limit before a server that is nothing but cores, which all requests at work share, and which
// may lose speed by crowding. So many requests as wished are always there to go; those that may not
// are not kept, for what becomes of them is not the limit's.

#include "test_policy.h"

#include <math.h>
#include <string.h>

#include "policy/limit.h"

#define MS INT64_C(1000)
#define S INT64_C(1000000)
#define MOST 200
#define SHAPES 4
#define SEEDS 5

struct work {
    int shape;
    int64_t sent_us;
    double left_us;   // of a core
    int64_t waits_us; // before that, without a core
};

struct play {
    struct chance chance;
    struct limit limit;
    struct limit_shape shapes[SHAPES];
    double mean_us[SHAPES];
    int64_t waits_us[SHAPES];
    int share[SHAPES]; // of the requests, in percent
    double cores;
    double crowding; // what each one more than two a core costs
    int wished;      // in flight
    int64_t now_us;
    struct work at[MOST];
    int in_flight;
    int least; // limits seen
    int most;
};

static void play_init(struct play *play, uint64_t seed, int floor, int cap)
{
    *play = (struct play){
        .mean_us = {5000, 20000},
        .share = {80, 20},
        .cores = 8,
        .crowding = 0.02,
        .wished = MOST,
        .chance.state = seed,
    };
    limit_init(&play->limit, floor, cap);
}

static double exponential(struct chance *chance, double mean)
{
    return -mean * log((1 + chance_below(chance, 1000000)) / 1000001.0);
}

static int draw_shape(struct play *play)
{
    int shape = 0;
    for (int drawn = chance_below(&play->chance, 100); drawn >= play->share[shape]; shape++) {
        drawn -= play->share[shape];
    }
    return shape;
}

static void fill(struct play *play)
{
    int permits = limit_permits(&play->limit, 0);
    while (play->in_flight < play->wished && play->in_flight < permits) {
        int shape = draw_shape(play);
        play->at[play->in_flight++] = (struct work){
            .shape = shape,
            .sent_us = play->now_us,
            .left_us = exponential(&play->chance, play->mean_us[shape]),
            .waits_us = play->waits_us[shape],
        };
    }
}

static double speed(const struct play *play)
{
    int busy = 0;
    for (int i = 0; i < play->in_flight; i++) {
        busy += play->now_us - play->at[i].sent_us >= play->at[i].waits_us;
    }
    double crowd = fmax(0, busy - 2 * play->cores);
    return busy ? fmin(1, play->cores / busy) / (1 + play->crowding * crowd) : 0;
}

static void finish(struct play *play, int i)
{
    struct work done = play->at[i];
    struct limit_sample sample = {
        .sent_us = done.sent_us,
        .in_flight = play->in_flight,
        .waiting = play->wished > limit_permits(&play->limit, 0),
    };
    play->at[i] = play->at[--play->in_flight];
    limit_learn(&play->limit, &play->shapes[done.shape], &sample, play->now_us);
}

static void step(struct play *play)
{
    const int64_t step_us = 250;
    double each_us = (double)step_us * speed(play);
    fill(play);
    for (int i = play->in_flight - 1; i >= 0; i--) {
        bool works = play->now_us - play->at[i].sent_us >= play->at[i].waits_us;
        play->at[i].left_us -= works ? each_us : 0;
    }
    play->now_us += step_us;
    for (int i = play->in_flight - 1; i >= 0; i--) {
        if (play->at[i].left_us <= 0) {
            finish(play, i);
        }
    }
}

// Returns the mean limit.
static double run(struct play *play, int64_t time_us)
{
    double sum = 0;
    int steps = 0;
    play->least = MOST;
    play->most = 0;
    for (int64_t until_us = play->now_us + time_us; play->now_us < until_us; steps++) {
        step(play);
        int value = limit_value(&play->limit);
        sum += value;
        play->least = value < play->least ? value : play->least;
        play->most = value > play->most ? value : play->most;
        assert_in_range(value, play->limit.floor, play->limit.cap);
        assert_in_range(limit_permits(&play->limit, 0), 1, value);
    }
    return sum / steps;
}

// Runs a test with several seeds.
static struct play play;
#define FOR_SEEDS(floor, cap)                                                                      \
    for (uint64_t seed = (play_init(&play, 1, floor, cap), 1); seed <= SEEDS;                      \
         play_init(&play, ++seed, floor, cap))

static void finds_the_bend(void **state)
{
    (void)state;
    FOR_SEEDS(4, 100)
    {
        run(&play, 10 * S);
        double mean = run(&play, 10 * S);
        print_message("8 cores: %.1f (%d to %d)\n", mean, play.least, play.most);
        assert_true(mean >= 9 && mean <= 20);
        assert_true(play.least >= 7 && play.most <= 28);
    }
}

static void finds_it_though_it_began_far_above(void **state)
{
    (void)state;
    FOR_SEEDS(4, 100)
    {
        play.limit.value = 100;
        run(&play, 10 * S);
        double mean = run(&play, 10 * S);
        assert_true(mean >= 9 && mean <= 20);
    }
}

static void follows_the_cores(void **state)
{
    (void)state;
    FOR_SEEDS(4, 100)
    {
        run(&play, 10 * S);
        play.cores = 4;
        run(&play, 10 * S);
        double mean = run(&play, 5 * S);
        assert_true(mean >= 5 && mean <= 11);
        play.cores = 16;
        run(&play, 10 * S);
        mean = run(&play, 5 * S);
        print_message("16 cores: %.1f\n", mean);
        assert_true(mean >= 18 && mean <= 36);
    }
}

static void a_big_server_is_soon_used(void **state)
{
    (void)state;
    FOR_SEEDS(4, 100)
    {
        play.cores = 128;
        run(&play, 1 * S);
        assert_int_equal(limit_value(&play.limit), 100);
    }
}

static void does_not_grow_while_it_is_not_used(void **state)
{
    (void)state;
    FOR_SEEDS(4, 100)
    {
        play.wished = 5;
        int before = limit_value(&play.limit);
        run(&play, 30 * S);
        assert_int_equal(play.most, before);
    }
}

// The times of a few requests are all over the place; that is no overload.
static void does_not_shrink_while_there_is_little_to_do(void **state)
{
    (void)state;
    FOR_SEEDS(4, 100)
    {
        play.wished = 1;
        int before = limit_value(&play.limit);
        run(&play, 60 * S);
        assert_int_equal(play.least, before);
    }
}

static void another_mix_is_no_overload(void **state)
{
    (void)state;
    FOR_SEEDS(4, 100)
    {
        run(&play, 10 * S);
        play.share[0] = 5;
        play.share[1] = 95;
        run(&play, 10 * S);
        assert_true(play.least >= 7);
        play.share[0] = 99;
        play.share[1] = 1;
        run(&play, 10 * S);
        assert_true(play.least >= 7 && play.most <= 28);
    }
}

static void one_shape_that_became_slow_is_outvoted(void **state)
{
    (void)state;
    FOR_SEEDS(4, 100)
    {
        play.mean_us[2] = 5000;
        play.share[1] = play.share[2] = 10;
        run(&play, 10 * S);
        play.waits_us[2] = 250 * MS;
        run(&play, 10 * S);
        assert_true(play.least >= 7);
    }
}

// Who waits for a disk uses no core: then more in flight is worth it.
static void what_does_not_crowd_may_come(void **state)
{
    (void)state;
    FOR_SEEDS(4, 100)
    {
        play.waits_us[0] = play.waits_us[1] = 50 * MS;
        run(&play, 10 * S);
        assert_true(run(&play, 10 * S) >= 50);
    }
}

static void a_server_that_is_slower_for_good_is_believed(void **state)
{
    (void)state;
    FOR_SEEDS(4, 100)
    {
        run(&play, 10 * S);
        play.mean_us[0] *= 3;
        play.mean_us[1] *= 3;
        run(&play, 20 * S);
        double mean = run(&play, 10 * S);
        print_message("three times as slow: %.1f\n", mean);
        assert_true(mean >= 8 && mean <= 20);
        play.mean_us[0] /= 3;
        play.mean_us[1] /= 3;
        run(&play, 20 * S);
        mean = run(&play, 10 * S);
        assert_true(mean >= 8 && mean <= 20);
    }
}

// Latency and load rise together, so slowly that each step looks like nothing.
static void does_not_drift_up_with_the_load(void **state)
{
    (void)state;
    FOR_SEEDS(4, 100)
    {
        play.limit.value = 100;
        for (play.wished = 2; play.wished < 100; play.wished++) {
            run(&play, 1 * S);
        }
        run(&play, 10 * S);
        double mean = run(&play, 10 * S);
        print_message("after a slow rise: %.1f\n", mean);
        assert_true(mean <= 22);
    }
}

static void slowness_is_the_servers(void **state)
{
    (void)state;
    FOR_SEEDS(100, 100)
    {
        play.wished = 4;
        run(&play, 10 * S);
        assert_true(limit_slowness(&play.limit) < 1.5);
        play.wished = 60; // at 8 cores, with crowding: 14 times as slow
        run(&play, 10 * S);
        print_message("crowded: %.1f times as slow\n", limit_slowness(&play.limit));
        assert_true(limit_slowness(&play.limit) > 9 && limit_slowness(&play.limit) < 21);
        assert_int_equal(play.least, 100); // fixed, and never probed
        play.wished = 4;
        run(&play, 10 * S);
        assert_true(limit_slowness(&play.limit) < 1.5);
    }
}

// A probe takes from the others; what is slow does not go away in the time of one.
static void a_probe_leaves_room_beside_slow_ones(void **state)
{
    (void)state;
    int probes = 0;
    FOR_SEEDS(4, 100)
    {
        for (int i = 0; i < 40000; i++) {
            step(&play);
            probes += play.limit.state != LIMIT_FREE;
            assert_true(limit_permits(&play.limit, 5) > 5);
            assert_true(limit_permits(&play.limit, 5) <= limit_value(&play.limit));
        }
    }
    print_message("part of the time in probes: %.3f\n", probes / 40000.0 / SEEDS);
    assert_true(probes > 0);
}

// A table forgets shapes, also those that the window has just noted.
static void what_a_cap_held_down_begins_anew(void **state)
{
    (void)state;
    struct limit limit = {0};
    limit_init(&limit, 4, 100);
    int first = limit_value(&limit);
    limit_bound(&limit, 1, 1);
    assert_int_equal(limit_value(&limit), 1);
    limit_bound(&limit, 4, 10);
    assert_int_equal(limit_value(&limit), 10);
    limit_bound(&limit, 4, 100);
    assert_int_equal(limit_value(&limit), first);
    limit.value = 9; // learnt
    limit_bound(&limit, 4, 50);
    limit_bound(&limit, 4, 100);
    assert_int_equal(limit_value(&limit), 9);
}

static void forgotten_shapes_do_no_harm(void **state)
{
    (void)state;
    FOR_SEEDS(4, 100)
    {
        for (int i = 0; i < 40000; i++) {
            step(&play);
            if (i % 100 == 0) {
                memset(&play.shapes[i / 100 % 2], 0, sizeof(play.shapes[0]));
            }
        }
        assert_true(isfinite(play.limit.value) && isfinite(play.limit.load));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_the_bend),
        cmocka_unit_test(finds_it_though_it_began_far_above),
        cmocka_unit_test(follows_the_cores),
        cmocka_unit_test(a_big_server_is_soon_used),
        cmocka_unit_test(does_not_grow_while_it_is_not_used),
        cmocka_unit_test(does_not_shrink_while_there_is_little_to_do),
        cmocka_unit_test(another_mix_is_no_overload),
        cmocka_unit_test(one_shape_that_became_slow_is_outvoted),
        cmocka_unit_test(what_does_not_crowd_may_come),
        cmocka_unit_test(a_server_that_is_slower_for_good_is_believed),
        cmocka_unit_test(does_not_drift_up_with_the_load),
        cmocka_unit_test(slowness_is_the_servers),
        cmocka_unit_test(a_probe_leaves_room_beside_slow_ones),
        cmocka_unit_test(what_a_cap_held_down_begins_anew),
        cmocka_unit_test(forgotten_shapes_do_no_harm),
    };
    return cmocka_run_group_tests_name("the limit", tests, NULL, NULL);
}
