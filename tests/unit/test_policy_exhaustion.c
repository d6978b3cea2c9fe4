// SPDX-License-Identifier: Apache-2.0
//
// Scripted sequences of counts, and what is to be reported after each.

#include "test_policy.h"

#include "policy/exhaustion.h"

#define MS INT64_C(1000)
#define S INT64_C(1000000)

struct script {
    struct exhaustion exhaustion;
    struct gate_counts counts;
};

static struct script script_new(void)
{
    return (struct script){.counts = {.available = true, .limit = 4}};
}

// Updates with two in a queue that has stood for so long, for as long as one of them has waited.
static enum exhaustion_notice stood(struct script *script, int64_t standing_us, int64_t now_us)
{
    script->counts.queued = 2;
    script->counts.standing_us = standing_us;
    script->counts.longest_wait_us = standing_us;
    return exhaustion_update(&script->exhaustion, &script->counts, now_us);
}

// Likewise, though each goes after a moment.
static enum exhaustion_notice moved(struct script *script, int64_t now_us)
{
    script->counts.queued = 2;
    script->counts.standing_us = now_us;
    script->counts.longest_wait_us = 90 * MS;
    return exhaustion_update(&script->exhaustion, &script->counts, now_us);
}

static enum exhaustion_notice quiet(struct script *script, int64_t now_us)
{
    script->counts.queued = 0;
    script->counts.standing_us = 0;
    script->counts.longest_wait_us = 0;
    return exhaustion_update(&script->exhaustion, &script->counts, now_us);
}

static enum exhaustion_notice refused(struct script *script, enum refusal refusal, int64_t now_us)
{
    script->counts.refused[refusal]++;
    return quiet(script, now_us);
}

static void says_nothing_when_nothing_is(void **state)
{
    (void)state;
    struct script script = script_new();
    for (int64_t now = 0; now < 60 * S; now += 10 * MS) {
        assert_int_equal(quiet(&script, now), EXHAUSTION_NOTHING);
    }
}

static void a_refusal_begins_it_at_once(void **state)
{
    (void)state;
    for (int refusal = 0; refusal < REFUSAL_COUNT; refusal++) {
        struct script script = script_new();
        assert_int_equal(quiet(&script, 5), EXHAUSTION_NOTHING);
        enum exhaustion_notice notice = refused(&script, (enum refusal)refusal, 10);
        if (refusal == REFUSED_NO_SERVER) {
            assert_int_equal(notice, EXHAUSTION_NOTHING);
            assert_false(script.exhaustion.going_on);
            continue;
        }
        assert_int_equal(notice, EXHAUSTION_BEGIN);
        assert_true(script.exhaustion.going_on);
        assert_int_equal(script.exhaustion.begun_us, 10);
        assert_int_equal(exhaustion_refused(&script.exhaustion, (enum refusal)refusal), 1);
    }
}

static void one_that_has_waited_long_begins_it(void **state)
{
    (void)state;
    for (int64_t stood_us = 0; stood_us <= 2 * EXHAUSTION_WAIT_US; stood_us += 1000) {
        struct script script = script_new();
        enum exhaustion_notice notice = stood(&script, stood_us, 1 * S);
        assert_true(script.exhaustion.standing);
        if (stood_us < EXHAUSTION_WAIT_US) {
            assert_int_equal(notice, EXHAUSTION_NOTHING);
            continue;
        }
        assert_int_equal(notice, EXHAUSTION_BEGIN);
        assert_int_equal(script.exhaustion.begun_us, 1 * S - stood_us);
        assert_int_equal(script.exhaustion.longest_wait_us, stood_us);
    }
}

static void queues_that_empty_are_ordinary(void **state)
{
    (void)state;
    struct script script = script_new();
    for (int64_t now = 0; now < 10 * S; now += EXHAUSTION_WAIT_US) {
        assert_int_equal(stood(&script, EXHAUSTION_WAIT_US - 1, now), EXHAUSTION_NOTHING);
        assert_int_equal(quiet(&script, now), EXHAUSTION_NOTHING);
        assert_false(script.exhaustion.standing);
    }
}

// More clients than permits that each take their turn: there is always a queue, and nobody is hurt.
static void a_queue_that_moves_is_ordinary(void **state)
{
    (void)state;
    struct script script = script_new();
    for (int64_t now = 0; now < 60 * S; now += 50 * MS) {
        assert_int_equal(moved(&script, now), EXHAUSTION_NOTHING);
    }
}

// Nobody is told of what weir itself does for a moment; of a refusal meanwhile they are.
static void who_waits_for_a_probe_begins_none(void **state)
{
    (void)state;
    struct script script = script_new();
    script.counts.probes = true;
    for (int64_t now = 50 * MS; now <= 4 * S; now += 50 * MS) {
        assert_int_equal(stood(&script, now, now), EXHAUSTION_NOTHING);
    }
    script.counts.probes = false;
    int64_t over = 4 * S + EXHAUSTION_WAIT_US;
    assert_int_equal(stood(&script, over - 1, over - 1), EXHAUSTION_NOTHING);
    assert_int_equal(stood(&script, over, over), EXHAUSTION_BEGIN);
    script = script_new();
    script.counts.probes = true;
    assert_int_equal(refused(&script, REFUSED_WAITED, 1 * S), EXHAUSTION_BEGIN);
    assert_int_equal(stood(&script, 2 * S, 3 * S), EXHAUSTION_NOTHING);
    assert_int_equal(stood(&script, 4 * S, 5 * S), EXHAUSTION_NOTHING);
    assert_true(script.exhaustion.going_on);
}

static void ends_after_the_quiet_time(void **state)
{
    (void)state;
    struct script script = script_new();
    assert_int_equal(refused(&script, REFUSED_WAITED, 0), EXHAUSTION_BEGIN);
    int64_t now = 0;
    for (; now < EXHAUSTION_QUIET_US; now += 50 * MS) {
        assert_int_equal(quiet(&script, now), EXHAUSTION_NOTHING);
    }
    assert_int_equal(quiet(&script, EXHAUSTION_QUIET_US - 1), EXHAUSTION_NOTHING);
    assert_int_equal(quiet(&script, EXHAUSTION_QUIET_US), EXHAUSTION_END);
    assert_false(script.exhaustion.going_on);
    assert_int_equal(exhaustion_refused(&script.exhaustion, REFUSED_WAITED), 1);
    assert_int_equal(quiet(&script, 60 * S), EXHAUSTION_NOTHING);
}

static void anything_seen_keeps_it_going(void **state)
{
    (void)state;
    struct script script = script_new();
    assert_int_equal(refused(&script, REFUSED_QUEUE_FULL, 0), EXHAUSTION_BEGIN);
    int64_t now = EXHAUSTION_QUIET_US - 1;
    assert_int_equal(refused(&script, REFUSED_DEADLINE, now), EXHAUSTION_NOTHING);
    int64_t standing = now + EXHAUSTION_QUIET_US - 1;
    assert_int_equal(stood(&script, EXHAUSTION_WAIT_US, standing), EXHAUSTION_NOTHING);
    assert_int_equal(quiet(&script, standing + EXHAUSTION_QUIET_US - 1), EXHAUSTION_NOTHING);
    assert_int_equal(quiet(&script, standing + EXHAUSTION_QUIET_US), EXHAUSTION_END);
    assert_int_equal(script.exhaustion.longest_wait_us, EXHAUSTION_WAIT_US);
}

// A short queue is not enough to keep it going.
static void an_ordinary_queue_does_not_keep_it_going(void **state)
{
    (void)state;
    struct script script = script_new();
    assert_int_equal(refused(&script, REFUSED_WAITED, 0), EXHAUSTION_BEGIN);
    int64_t now = 0;
    for (; now < EXHAUSTION_QUIET_US; now += 20 * MS) {
        int64_t stood_us = EXHAUSTION_WAIT_US - 1;
        assert_int_equal(stood(&script, stood_us, now), EXHAUSTION_NOTHING);
    }
    assert_int_equal(stood(&script, 1, now), EXHAUSTION_END);
}

static void one_notice_for_each_interval(void **state)
{
    (void)state;
    struct script script = script_new();
    assert_int_equal(refused(&script, REFUSED_WAITED, 0), EXHAUSTION_BEGIN);
    int still = 0;
    for (int64_t now = 10 * MS; now <= 60 * S; now += 10 * MS) {
        enum exhaustion_notice notice = refused(&script, REFUSED_WAITED, now);
        assert_int_equal(notice,
                         now % EXHAUSTION_STILL_US == 0 ? EXHAUSTION_STILL : EXHAUSTION_NOTHING);
        still += notice == EXHAUSTION_STILL;
    }
    assert_int_equal(still, 6);
    assert_int_equal(exhaustion_refused(&script.exhaustion, REFUSED_WAITED), 6001);
}

static void each_event_counts_its_own(void **state)
{
    (void)state;
    struct script script = script_new();
    assert_int_equal(refused(&script, REFUSED_WAITED, 0), EXHAUSTION_BEGIN);
    assert_int_equal(refused(&script, REFUSED_WAITED, 1), EXHAUSTION_NOTHING);
    assert_int_equal(stood(&script, 70 * MS, 2), EXHAUSTION_NOTHING);
    assert_int_equal(quiet(&script, 10 * S), EXHAUSTION_END);
    assert_int_equal(script.exhaustion.longest_wait_us, 70 * MS);
    assert_int_equal(refused(&script, REFUSED_QUEUE_FULL, 20 * S), EXHAUSTION_BEGIN);
    assert_int_equal(script.exhaustion.begun_us, 20 * S);
    assert_int_equal(script.exhaustion.longest_wait_us, 0);
    assert_int_equal(exhaustion_refused(&script.exhaustion, REFUSED_WAITED), 0);
    assert_int_equal(exhaustion_refused(&script.exhaustion, REFUSED_QUEUE_FULL), 1);
    for (int64_t now = 21 * S; now < 30 * S; now += 1 * S) {
        assert_int_equal(refused(&script, REFUSED_DEADLINE, now), EXHAUSTION_NOTHING);
    }
    assert_int_equal(refused(&script, REFUSED_DEADLINE, 30 * S), EXHAUSTION_STILL);
    assert_int_equal(quiet(&script, 30 * S + EXHAUSTION_QUIET_US - 1), EXHAUSTION_NOTHING);
    assert_int_equal(quiet(&script, 30 * S + EXHAUSTION_QUIET_US), EXHAUSTION_END);
    assert_int_equal(refused(&script, REFUSED_WAITED, 50 * S), EXHAUSTION_BEGIN);
    assert_int_equal(quiet(&script, 50 * S + EXHAUSTION_QUIET_US - 1), EXHAUSTION_NOTHING);
}

// A queue for want of a server, and what is refused meanwhile for whatever reason, is no
// exhaustion.
static void a_missing_server_is_no_exhaustion(void **state)
{
    (void)state;
    struct script script = script_new();
    script.counts.available = false;
    script.counts.longest_wait_us = 9 * S;
    for (int64_t now = 0; now < 20 * S; now += 10 * MS) {
        script.counts.refused[REFUSED_DEADLINE]++;
        script.counts.refused[REFUSED_QUEUE_FULL]++;
        script.counts.refused[REFUSED_NO_SERVER]++;
        assert_int_equal(stood(&script, 1 * S, now), EXHAUSTION_NOTHING);
        assert_false(script.exhaustion.standing);
    }
    // It is back: what was refused without it still does not count.
    script.counts.available = true;
    assert_int_equal(stood(&script, 0, 20 * S), EXHAUSTION_NOTHING);
    assert_int_equal(stood(&script, EXHAUSTION_WAIT_US, 21 * S), EXHAUSTION_BEGIN);
    assert_int_equal(exhaustion_refused(&script.exhaustion, REFUSED_DEADLINE), 0);
}

// Nor does waiting for a server count as waiting in an event that is going on.
static void a_missing_server_does_not_make_it_worse(void **state)
{
    (void)state;
    struct script script = script_new();
    assert_int_equal(refused(&script, REFUSED_WAITED, 0), EXHAUSTION_BEGIN);
    script.counts.available = false;
    assert_int_equal(stood(&script, 9 * S, 1 * S), EXHAUSTION_NOTHING);
    assert_int_equal(stood(&script, 0, EXHAUSTION_QUIET_US), EXHAUSTION_END);
    assert_int_equal(script.exhaustion.longest_wait_us, 0);
}

// Fed by a real gate: begins with the first that waited in vain, ends when it has been quiet.
static void tells_the_story_of_a_gate(void **state)
{
    (void)state;
    struct gate_limits limits = {
        .limit = 1, .slow_share = 1, .slow_us = 10 * S, .max_wait_us = 20 * MS, .max_queue = 10};
    struct gate *gate = gate_new(&limits);
    gate_set_available(gate, true, 0);
    struct shape shape = {0};
    struct gate_ask ask = {.shape = &shape, .deadline_us = INT64_MAX};
    struct ticket tickets[2] = {0};
    struct exhaustion exhaustion = {0};
    struct gate_counts counts;
    assert_int_equal(gate_ask(gate, &tickets[0], &ask, 0), GATE_GRANTED);
    assert_int_equal(gate_ask(gate, &tickets[1], &ask, 0), GATE_QUEUED);
    gate_count(gate, 0, &counts);
    assert_int_equal(exhaustion_update(&exhaustion, &counts, 0), EXHAUSTION_NOTHING);
    assert_ptr_equal(gate_expire_next(gate, 20 * MS), &tickets[1]);
    gate_count(gate, 20 * MS, &counts);
    assert_int_equal(exhaustion_update(&exhaustion, &counts, 20 * MS), EXHAUSTION_BEGIN);
    assert_int_equal(exhaustion_refused(&exhaustion, REFUSED_WAITED), 1);
    gate_done(gate, &tickets[0], true, 30 * MS);
    gate_count(gate, 3 * S, &counts);
    assert_int_equal(exhaustion_update(&exhaustion, &counts, 3 * S), EXHAUSTION_END);
    gate_free(gate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_nothing_when_nothing_is),
        cmocka_unit_test(a_refusal_begins_it_at_once),
        cmocka_unit_test(one_that_has_waited_long_begins_it),
        cmocka_unit_test(queues_that_empty_are_ordinary),
        cmocka_unit_test(a_queue_that_moves_is_ordinary),
        cmocka_unit_test(who_waits_for_a_probe_begins_none),
        cmocka_unit_test(ends_after_the_quiet_time),
        cmocka_unit_test(a_missing_server_does_not_make_it_worse),
        cmocka_unit_test(anything_seen_keeps_it_going),
        cmocka_unit_test(an_ordinary_queue_does_not_keep_it_going),
        cmocka_unit_test(one_notice_for_each_interval),
        cmocka_unit_test(each_event_counts_its_own),
        cmocka_unit_test(a_missing_server_is_no_exhaustion),
        cmocka_unit_test(tells_the_story_of_a_gate),
    };
    return cmocka_run_group_tests_name("exhaustion", tests, NULL, NULL);
}
