// SPDX-License-Identifier: Apache-2.0
//
// What the gate is for, played with a server that is nothing but service times: 300 fast requests a
// second of 2 ms, and for 20 s also 200 a second of 5 s, through 40 permits. Arrivals do not wait
// for replies. The same with the slow share at 1, which is no guard at all, shows what the guard
// does.

#include "test_policy.h"

#include <string.h>

#include "policy/gate.h"

#define MS INT64_C(1000)
#define S INT64_C(1000000)
#define TICK_US 250
#define TICKETS 256
#define LIMIT 40
#define CALM_US (5 * S)
#define FLOOD_US (20 * S)
#define END_US (CALM_US + FLOOD_US + 15 * S)
// In the middle of the flood, when the server answers nobody.
#define STALL_FROM_US (CALM_US + 8 * S)
#define STALL_UNTIL_US (STALL_FROM_US + 2 * S)
#define SETTLED_US (STALL_UNTIL_US + 2 * S)

enum speed { FAST, SLOW, SPEEDS };

struct request {
    struct ticket ticket; // first, so that a ticket is its request
    enum speed speed;
    int64_t ends_us;
};

struct tally {
    int asked;
    int refused;
    int served;
    int refused_late; // well after the stall
    int64_t longest_wait_us;
};

struct scene {
    double slow_share;
    const int64_t *interval_us;
    bool stalls;
    int floor;     // of the limit; 0: it is fixed
    bool was_fast; // the slow shape, for a long time before
};

struct play {
    struct chance chance;
    struct scene scene;
    struct gate *gate;
    struct shapes *shapes;
    int64_t now_us;
    struct request requests[TICKETS];
    struct tally tally[SPEEDS];
    int most_slow_in_flight;
    int64_t learned_us; // when the slow shape was known to be slow
};

static const int64_t usual_interval_us[SPEEDS] = {S / 300, S / 200};
static const int64_t served_us[SPEEDS] = {2 * MS, 5 * S};

static void leave(struct play *play, struct request *request)
{
    shapes_release(play->shapes, request->ticket.shape);
}

static void serve(struct play *play, struct request *request)
{
    struct tally *tally = &play->tally[request->speed];
    int64_t waited_us = play->now_us - request->ticket.asked_us;
    tally->longest_wait_us =
        waited_us > tally->longest_wait_us ? waited_us : tally->longest_wait_us;
    request->ends_us = play->now_us + served_us[request->speed];
}

static bool is_stalled(const struct play *play)
{
    return play->scene.stalls && play->now_us >= STALL_FROM_US && play->now_us < STALL_UNTIL_US;
}

static void refuse(struct play *play, struct request *request)
{
    play->tally[request->speed].refused++;
    play->tally[request->speed].refused_late += play->now_us >= SETTLED_US;
    leave(play, request);
}

static struct request *spare(struct play *play)
{
    for (int i = 0; i < TICKETS; i++) {
        if (play->requests[i].ticket.state == TICKET_IDLE) {
            return &play->requests[i];
        }
    }
    fail_msg("more requests than the gate should ever hold");
    return NULL;
}

static void arrive(struct play *play, enum speed speed)
{
    struct request *request = spare(play);
    struct gate_ask ask = {
        .shape = shapes_acquire(play->shapes, (uint64_t)speed + 1),
        .deadline_us = INT64_MAX,
    };
    request->speed = speed;
    play->tally[speed].asked++;
    enum gate_answer answer = gate_ask(play->gate, &request->ticket, &ask, play->now_us);
    if (answer == GATE_GRANTED) {
        serve(play, request);
    } else if (answer == GATE_REFUSED) {
        refuse(play, request);
    }
}

static void finish_those_due(struct play *play)
{
    for (int i = 0; i < TICKETS && !is_stalled(play); i++) {
        struct request *request = &play->requests[i];
        if (request->ticket.state == TICKET_IN_FLIGHT && request->ends_us <= play->now_us) {
            gate_done(play->gate, &request->ticket, true, play->now_us);
            play->tally[request->speed].served++;
            leave(play, request);
        }
    }
}

static void move_the_queue(struct play *play)
{
    struct ticket *ticket = gate_expire_next(play->gate, play->now_us);
    for (; ticket; ticket = gate_expire_next(play->gate, play->now_us)) {
        refuse(play, (struct request *)ticket);
    }
    ticket = gate_grant_next(play->gate, play->now_us);
    for (; ticket; ticket = gate_grant_next(play->gate, play->now_us)) {
        serve(play, (struct request *)ticket);
    }
}

static void watch(struct play *play)
{
    struct gate_counts counts;
    gate_count(play->gate, play->now_us, &counts);
    assert_true(counts.in_flight <= LIMIT);
    if (counts.in_flight_slow > play->most_slow_in_flight) {
        play->most_slow_in_flight = counts.in_flight_slow;
    }
    struct shape *slow = shapes_acquire(play->shapes, SLOW + 1);
    if (shape_is_slow(slow) && play->learned_us == 0) {
        play->learned_us = play->now_us;
    }
    shapes_release(play->shapes, slow);
}

// Arrivals of one speed between `from` and `until`, evenly with a jitter of a whole interval.
static void arrivals(struct play *play, enum speed speed, int64_t from_us, int64_t until_us)
{
    if (play->now_us >= from_us && play->now_us < until_us &&
        chance_below(&play->chance, (int)play->scene.interval_us[speed]) < TICK_US) {
        arrive(play, speed);
    }
}

static void remember_as_fast(struct play *play, enum speed speed)
{
    struct shape *shape = shapes_acquire(play->shapes, (uint64_t)speed + 1);
    for (int i = 0; i < 100; i++) {
        shape_observe(shape, false);
    }
    shapes_release(play->shapes, shape);
}

static void play_all(struct play *play, const struct scene *scene)
{
    memset(play, 0, sizeof(*play));
    play->scene = *scene;
    struct gate_limits limits = {
        .limit = LIMIT,
        .floor = scene->floor,
        .slow_share = scene->slow_share,
        .slow_us = 100 * MS,
        .max_wait_us = 100 * MS,
        .server_wait_us = 5 * S,
        .max_queue = 1000,
    };
    play->gate = gate_new(&limits);
    play->shapes = shapes_new(16);
    gate_set_available(play->gate, true, 0);
    if (scene->was_fast) {
        remember_as_fast(play, SLOW);
    }
    for (; play->now_us < END_US; play->now_us += TICK_US) {
        finish_those_due(play);
        move_the_queue(play);
        arrivals(play, FAST, 0, END_US - 1 * S);
        arrivals(play, SLOW, CALM_US, CALM_US + FLOOD_US);
        watch(play);
    }
    struct gate_counts counts;
    gate_count(play->gate, play->now_us, &counts);
    assert_int_equal(counts.in_flight, 0);
    assert_int_equal(counts.queued, 0);
    gate_free(play->gate);
    shapes_free(play->shapes);
}

static void tell(const struct play *play, const char *title)
{
    for (int speed = 0; speed < SPEEDS; speed++) {
        const struct tally *tally = &play->tally[speed];
        print_message("%s, %s: asked %d, served %d, refused %d, longest wait %.1f ms\n", title,
                      speed == FAST ? "fast" : "slow", tally->asked, tally->served, tally->refused,
                      (double)tally->longest_wait_us / 1000);
    }
}

static void check_the_books(const struct play *play)
{
    for (int speed = 0; speed < SPEEDS; speed++) {
        const struct tally *tally = &play->tally[speed];
        assert_int_equal(tally->asked, tally->served + tally->refused);
    }
}

static struct play play;

static void the_fast_ones_do_not_notice(void **state)
{
    (void)state;
    play_all(&play, &(struct scene){.slow_share = 0.25, .interval_us = usual_interval_us});
    tell(&play, "guarded");
    check_the_books(&play);
    assert_true(play.tally[FAST].asked > 10000);
    assert_int_equal(play.tally[FAST].refused, 0);
    assert_true(play.tally[FAST].longest_wait_us <= 2 * MS);
    // Known after 100 ms of the first, not after its 5 s; until then 20 or so were let in.
    assert_in_range(play.learned_us - CALM_US, 100 * MS, 150 * MS);
    assert_true(play.most_slow_in_flight < LIMIT);
    // The slow ones get their share: 10 permits for 20 s and more, 5 s each, besides the first
    // wave.
    assert_true(play.tally[SLOW].served >= 40);
    assert_true(play.tally[SLOW].refused > 3000);
}

static void without_the_guard_they_go_under(void **state)
{
    (void)state;
    play_all(&play, &(struct scene){.slow_share = 1, .interval_us = usual_interval_us});
    tell(&play, "unguarded");
    check_the_books(&play);
    assert_int_equal(play.most_slow_in_flight, LIMIT);
    assert_true(play.tally[FAST].refused > 2000);
}

// While the server stalls all shapes look slow. The fast one, though far fewer, must not stay shut
// in a lane that the slow one holds for seconds.
static void a_stall_does_not_outlast_itself(void **state)
{
    (void)state;
    static const int64_t few_fast_us[SPEEDS] = {S / 30, S / 200};
    play_all(&play,
             &(struct scene){.slow_share = 0.25, .interval_us = few_fast_us, .stalls = true});
    tell(&play, "stalled");
    check_the_books(&play);
    assert_true(play.tally[FAST].refused > 0);
    assert_int_equal(play.tally[FAST].refused_late, 0);
}

// An adaptive limit has found that few are enough, when the slow ones come.
static void nor_do_they_under_a_small_limit(void **state)
{
    (void)state;
    play_all(&play,
             &(struct scene){.slow_share = 0.25, .interval_us = usual_interval_us, .floor = 2});
    tell(&play, "small limit");
    check_the_books(&play);
    assert_int_equal(play.tally[FAST].refused, 0);
    // Not one of them finds all permits taken by what nobody knows yet.
    assert_true(play.tally[FAST].longest_wait_us <= TICK_US);
}

// It has lost its index, and until that has shown takes whatever comes free.
static void a_shape_that_was_fast_shuts_out_nobody_for_long(void **state)
{
    (void)state;
    for (int floor = 0; floor <= 4; floor += 4) {
        play_all(&play, &(struct scene){.slow_share = 0.25,
                                        .interval_us = usual_interval_us,
                                        .floor = floor,
                                        .was_fast = true});
        tell(&play, floor ? "was fast, adaptive limit" : "was fast, fixed limit");
        check_the_books(&play);
        assert_true(play.tally[FAST].refused <= 20);
        assert_true(play.most_slow_in_flight <= LIMIT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_fast_ones_do_not_notice),
        cmocka_unit_test(nor_do_they_under_a_small_limit),
        cmocka_unit_test(a_shape_that_was_fast_shuts_out_nobody_for_long),
        cmocka_unit_test(a_stall_does_not_outlast_itself),
        cmocka_unit_test(without_the_guard_they_go_under),
    };
    return cmocka_run_group_tests_name("the story", tests, NULL, NULL);
}
