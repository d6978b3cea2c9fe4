// SPDX-License-Identifier: Apache-2.0
//
// The edges of a lease; what all of a fleet come to together is tests/model's.

#include "policy/lease.h"

#include "tests/unit/test_policy.h"

#define SECOND INT64_C(1000000)
#define LEASE_US (8 * SECOND)
#define START (100 * SECOND)
#define WATCH_US                                                                                   \
    (LEASE_US + LEASE_US / 50 + SECOND) // what others wait before they take it for over

enum { CAP = 20, FLOOR = 2, INSTANCES = 3, POOL = CAP - FLOOR * INSTANCES };

static struct lease_peer peers[INSTANCES];

static struct lease begun(int most)
{
    struct lease lease;
    struct lease_terms terms = {CAP, FLOOR, INSTANCES, LEASE_US};
    lease_init(&lease, &terms, most, 7, peers, START);
    return lease;
}

static bool grant(struct lease *lease, uint64_t seq, int held, int told, int64_t now_us)
{
    struct lease_answer answer = {.seq = seq,
                                  .kind = LEASE_GRANTED,
                                  .epoch = "e",
                                  .mature = true,
                                  .held = held,
                                  .told = told};
    return lease_learn(lease, &answer, now_us);
}

// One that asked at START, with its floor open, and was answered 1 s later.
static struct lease leased(int held)
{
    struct lease lease = begun(100);
    struct lease_ask asked = lease_ask(&lease, FLOOR, 50, START);
    assert_true(grant(&lease, asked.seq, held, held, START + SECOND));
    return lease;
}

static bool refuse(struct lease *lease, enum lease_answer_kind kind)
{
    struct lease_ask asked = lease_ask(lease, 0, 0, START);
    return lease_learn(lease, &(struct lease_answer){.seq = asked.seq, .kind = kind}, START);
}

static void has_nothing_until_the_store_has_answered_or_is_taken_for_away(void **state)
{
    (void)state;
    struct lease lease = begun(100);
    assert_int_equal(lease_allows(&lease, START + LEASE_START_US - 1), 0);
    assert_int_equal(lease_allows(&lease, START + LEASE_START_US), FLOOR);
    lease_look(&lease, 0, START);
    assert_int_equal(lease_dies_us(&lease), INT64_MAX);
}

static void who_is_refused_has_nothing_however_long(void **state)
{
    (void)state;
    struct lease lease = begun(100);
    assert_true(refuse(&lease, LEASE_TERMS));
    assert_int_equal(lease_allows(&lease, START + 100 * LEASE_US), 0);
    struct lease settled = leased(5);
    assert_true(refuse(&settled, LEASE_FULL)); // too late: it has its floor
    assert_int_equal(lease_allows(&settled, START + LEASE_US), FLOOR);
}

static void a_lease_runs_from_the_question(void **state)
{
    (void)state;
    struct lease lease = leased(5);
    assert_int_equal(lease_allows(&lease, START + LEASE_US / 2 - 1), FLOOR + 5);
    assert_int_equal(lease_allows(&lease, START + LEASE_US / 2), FLOOR);
    assert_false(lease_must_cut(&lease, START + LEASE_US * 3 / 4 - 1));
    assert_true(lease_must_cut(&lease, START + LEASE_US * 3 / 4));
    assert_int_equal(lease_dies_us(&lease), START + LEASE_US);
}

static void an_answer_counts_once_and_to_the_last_question_only(void **state)
{
    (void)state;
    struct lease lease = leased(5);
    struct lease_ask first = lease_ask(&lease, FLOOR + 5, 50, START + SECOND);
    struct lease_ask second = lease_ask(&lease, FLOOR + 5, 50, START + 2 * SECOND);
    assert_false(grant(&lease, first.seq, 9, 9, START + 3 * SECOND));
    assert_true(grant(&lease, second.seq, 6, 6, START + 3 * SECOND));
    assert_false(grant(&lease, second.seq, 9, 9, START + 3 * SECOND));
    assert_int_equal(lease_allows(&lease, START + 3 * SECOND), FLOOR + 6);
    assert_int_equal(lease_dies_us(&lease), START + 2 * SECOND + LEASE_US);
}

static void less_than_it_holds_is_no_renewal(void **state)
{
    (void)state;
    struct lease lease = leased(5);
    struct lease_ask asked = lease_ask(&lease, FLOOR + 5, 50, START + SECOND);
    assert_true(grant(&lease, asked.seq, 3, 3, START + SECOND));
    assert_int_equal(lease_allows(&lease, START + SECOND), FLOOR + 3);
    assert_int_equal(lease_dies_us(&lease), START + LEASE_US);
}

static void what_is_open_is_held_until_it_is_closed(void **state)
{
    (void)state;
    struct lease lease = leased(5);
    struct lease_ask asked = lease_ask(&lease, FLOOR + 5, 0, START + SECOND);
    assert_true(grant(&lease, asked.seq, 5, 1, START + SECOND)); // others need four
    assert_int_equal(lease_ask(&lease, FLOOR + 3, 0, START + 2 * SECOND).held, 3);
    assert_int_equal(lease_ask(&lease, 0, 0, START + 2 * SECOND).held, 1);
}

static void nobody_dies_of_what_is_closed(void **state)
{
    (void)state;
    struct lease lease = leased(5);
    lease_look(&lease, FLOOR, START + LEASE_US / 2 - 1);
    assert_int_equal(lease_dies_us(&lease), START + LEASE_US); // it may open some yet
    lease_look(&lease, FLOOR + 1, START + LEASE_US / 2);
    assert_int_equal(lease_dies_us(&lease), START + LEASE_US);
    lease_look(&lease, FLOOR, START + LEASE_US * 3 / 4);
    assert_int_equal(lease_dies_us(&lease), INT64_MAX);
    assert_false(lease_must_cut(&lease, START + LEASE_US * 3 / 4));
    assert_int_equal(lease_allows(&lease, START + LEASE_US), FLOOR);
}

static void asks_for_no_more_than_it_has_a_use_for(void **state)
{
    (void)state;
    struct lease lease = begun(6);
    struct lease_ask asked = lease_ask(&lease, 0, 50, START);
    assert_int_equal(asked.need, 4);
    assert_int_equal(asked.room, 4);
    assert_true(grant(&lease, asked.seq, POOL, POOL, START));
    assert_int_equal(lease_allows(&lease, START), 6);
    lease_bound(&lease, 5);
    assert_int_equal(lease_allows(&lease, START), 5);
    assert_int_equal(lease_ask(&lease, 6, 50, START).room, 3);
    struct lease small = begun(1); // its floor is more than it has a use for
    asked = lease_ask(&small, 0, 50, START);
    assert_int_equal(asked.need + asked.room, 0);
}

static void an_epoch_is_mature_when_every_former_lease_must_be_over(void **state)
{
    (void)state;
    struct lease lease = leased(0); // met the epoch at START + 1 s
    assert_false(lease_ask(&lease, 0, 0, START + SECOND + WATCH_US - 1).mature);
    assert_true(lease_ask(&lease, 0, 0, START + SECOND + WATCH_US).mature);
    struct lease unknown = begun(100);
    assert_false(lease_ask(&unknown, 0, 0, START + 100 * LEASE_US).mature);
}

static void meet(struct lease *lease, uint64_t id, uint64_t seq, int64_t now_us)
{
    lease_meet(lease, &(struct lease_peer){.id = id, .seq = seq}, now_us);
}

static void who_stands_still_is_over_but_never_oneself(void **state)
{
    (void)state;
    struct lease lease = leased(0);
    for (uint64_t id = 7; id <= 8; id++) {
        meet(&lease, id, 1, START);
    }
    assert_false(lease_is_over(&lease, &peers[1], START + WATCH_US - 1));
    assert_true(lease_is_over(&lease, &peers[1], START + WATCH_US));
    assert_false(lease_is_over(&lease, &peers[0], START + WATCH_US));
    meet(&lease, 8, 2, START + WATCH_US); // it has asked
    assert_false(lease_is_over(&lease, &peers[1], START + 2 * WATCH_US - 1));
}

static void those_not_met_again_are_forgotten_and_others_do_not_fit(void **state)
{
    (void)state;
    struct lease lease = leased(0);
    for (uint64_t id = 1; id <= INSTANCES + 1; id++) {
        meet(&lease, id, 1, START);
    }
    assert_int_equal(lease.peer_count, INSTANCES);
    struct lease_ask asked = lease_ask(&lease, 0, 0, START);
    assert_true(grant(&lease, asked.seq, 0, 0, START));
    meet(&lease, 3, 1, START);
    lease_part(&lease);
    assert_int_equal(lease.peer_count, 1);
    assert_int_equal(peers[0].id, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(has_nothing_until_the_store_has_answered_or_is_taken_for_away),
        cmocka_unit_test(who_is_refused_has_nothing_however_long),
        cmocka_unit_test(a_lease_runs_from_the_question),
        cmocka_unit_test(an_answer_counts_once_and_to_the_last_question_only),
        cmocka_unit_test(less_than_it_holds_is_no_renewal),
        cmocka_unit_test(what_is_open_is_held_until_it_is_closed),
        cmocka_unit_test(nobody_dies_of_what_is_closed),
        cmocka_unit_test(asks_for_no_more_than_it_has_a_use_for),
        cmocka_unit_test(an_epoch_is_mature_when_every_former_lease_must_be_over),
        cmocka_unit_test(who_stands_still_is_over_but_never_oneself),
        cmocka_unit_test(those_not_met_again_are_forgotten_and_others_do_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
