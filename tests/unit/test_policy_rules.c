// SPDX-License-Identifier: Apache-2.0

#include "test_policy.h"

#include <stdio.h>
#include <string.h>

#include "policy/rules.h"

#define MS INT64_C(1000)
#define SECOND (1000 * MS)

static struct rule_text text(const char *words)
{
    return (struct rule_text){words, strlen(words)};
}

static struct rule_facts find_on(const char *database, const char *collection)
{
    return (struct rule_facts){
        .database = text(database),
        .collection = text(collection),
        .command = text("find"),
        .app = text("web.1"),
    };
}

static struct rules *set_of(struct rule **items, size_t count)
{
    struct rule_bounds none = {0};
    struct rules *rules = rules_new(items, count, &none);
    for (size_t i = 0; i < count; i++) {
        rule_drop(items[i]);
    }
    return rules;
}

// Of one rule that denies what it matches.
static struct rules *denying(struct rule_match match)
{
    struct rule *rule = rule_new(1, &match, &(struct rule_act){.deny = true}, 0, false);
    return set_of(&rule, 1);
}

static bool denies(struct rule_match match, struct rule_facts facts)
{
    struct rules *rules = denying(match);
    struct rule_verdict verdict;
    rules_judge(rules, &facts, SECOND, &verdict);
    bool denied = verdict.answer == RULE_DENIES;
    assert_int_equal(denied, verdict.rule != NULL);
    rule_verdict_end(&verdict);
    rules_drop(rules);
    return denied;
}

static void matches_a_namespace(void **state)
{
    (void)state;
    struct rule_match orders = {.database = "shop", .collection = "orders"};
    assert_true(denies(orders, find_on("shop", "orders")));
    assert_false(denies(orders, find_on("shop", "order")));
    assert_false(denies(orders, find_on("shop", "orders2")));
    assert_false(denies(orders, find_on("shop", "")));
    assert_false(denies(orders, find_on("shops", "orders")));
    struct rule_match shop = {.database = "shop"};
    assert_true(denies(shop, find_on("shop", "orders")));
    assert_true(denies(shop, find_on("shop", "")));
    assert_false(denies(shop, find_on("shop2", "orders")));
    struct rule_match some = {.database = "shop", .collection = "ord*"};
    assert_true(denies(some, find_on("shop", "orders")));
    assert_true(denies(some, find_on("shop", "ord")));
    assert_false(denies(some, find_on("shop", "or")));
}

static void matches_a_command_in_either_case(void **state)
{
    (void)state;
    struct rule_facts facts = find_on("shop", "orders");
    facts.command = text("findandmodify");
    assert_true(denies((struct rule_match){.command = "findAndModify"}, facts));
    assert_false(denies((struct rule_match){.command = "find"}, facts));
}

static void matches_a_user_and_a_comment(void **state)
{
    (void)state;
    struct rule_facts facts = find_on("shop", "orders");
    assert_false(denies((struct rule_match){.user = "team_*"}, facts));
    assert_false(denies((struct rule_match){.comment = "report:*"}, facts));
    facts.user = text("team_a");
    facts.comment = text("report:1");
    assert_true(denies((struct rule_match){.user = "team_a"}, facts));
    assert_true(denies((struct rule_match){.user = "team_*", .comment = "report:*"}, facts));
    assert_false(denies((struct rule_match){.user = "team_*", .comment = "report"}, facts));
    assert_false(denies((struct rule_match){.user = "team_b", .comment = "report:*"}, facts));
}

static void matches_an_app(void **state)
{
    (void)state;
    struct rule_facts facts = find_on("shop", "orders");
    assert_true(denies((struct rule_match){.app = "web.1"}, facts));
    assert_true(denies((struct rule_match){.app = "web.*"}, facts));
    assert_true(denies((struct rule_match){.app = "*"}, facts));
    assert_false(denies((struct rule_match){.app = "web"}, facts));
    facts.app = (struct rule_text){0};
    assert_false(denies((struct rule_match){.app = "web.*"}, facts));
    assert_true(denies((struct rule_match){.app = ""}, facts));
}

static void matches_reads_and_writes(void **state)
{
    (void)state;
    struct rule_facts facts = find_on("shop", "orders");
    assert_true(denies((struct rule_match){.kind = RULE_READS}, facts));
    assert_false(denies((struct rule_match){.kind = RULE_WRITES}, facts));
    facts.writes = true;
    assert_false(denies((struct rule_match){.kind = RULE_READS}, facts));
    assert_true(denies((struct rule_match){.kind = RULE_WRITES}, facts));
}

static void matches_a_shape(void **state)
{
    (void)state;
    struct rule_facts facts = find_on("shop", "orders");
    facts.shape = 7;
    assert_true(denies((struct rule_match){.has_shape = true, .shape = 7}, facts));
    assert_false(denies((struct rule_match){.has_shape = true, .shape = 0}, facts));
}

// Bit by bit, against a mask made bit by bit.
static void matches_an_address(void **state)
{
    (void)state;
    struct chance chance = {.state = 5};
    uint8_t net[16], address[16];
    struct rule_facts facts = find_on("shop", "orders");
    for (int bits = 0; bits <= 128; bits++) {
        for (int i = 0; i < 16; i++) {
            net[i] = address[i] = (uint8_t)chance_next(&chance);
        }
        int wrong = chance_below(&chance, 128);
        address[wrong / 8] = (uint8_t)(address[wrong / 8] ^ 0x80 >> wrong % 8);
        facts.address = address;
        struct rule_match match = {.address = net, .address_bits = bits};
        assert_int_equal(denies(match, facts), wrong >= bits);
        facts.address = net;
        assert_true(denies(match, facts));
        facts.address = NULL;
        assert_false(denies(match, facts));
    }
}

static void all_that_is_given_must_be_so(void **state)
{
    (void)state;
    struct rule_match match = {.database = "shop", .command = "find", .app = "web.*"};
    struct rule_facts facts = find_on("shop", "orders");
    assert_true(denies(match, facts));
    facts.app = text("worker.1");
    assert_false(denies(match, facts));
    assert_true(denies((struct rule_match){0}, facts));
}

static void the_first_match_wins(void **state)
{
    (void)state;
    struct rule_match web = {.app = "web.*"};
    struct rule_match any = {0};
    struct rule *items[] = {
        rule_new(1, &web, &(struct rule_act){.priority = PRIORITY_HIGH}, 0, false),
        rule_new(2, &any, &(struct rule_act){.deny = true}, 0, false),
    };
    struct rules *rules = set_of(items, 2);
    struct rule_facts facts = find_on("shop", "orders");
    struct rule_verdict verdict;
    rules_judge(rules, &facts, 0, &verdict);
    assert_int_equal(verdict.answer, RULE_PASSES);
    assert_int_equal(verdict.priority, PRIORITY_HIGH);
    assert_int_equal(rule_id(verdict.rule), 1);
    rule_verdict_end(&verdict);
    facts.app = text("worker");
    rules_judge(rules, &facts, 0, &verdict);
    assert_int_equal(verdict.answer, RULE_DENIES);
    rule_verdict_end(&verdict);
    struct rule_counts counts;
    rule_count(items[0], &counts);
    assert_int_equal(counts.hits, 1);
    assert_int_equal(counts.refused, 0);
    rule_count(items[1], &counts);
    assert_int_equal(counts.hits, 1);
    assert_int_equal(counts.refused, 1);
    rules_drop(rules);
}

static void a_dry_run_only_counts(void **state)
{
    (void)state;
    struct rule_match any = {0};
    struct rule *items[] = {
        rule_new(1, &any, &(struct rule_act){.deny = true}, 0, true),
        rule_new(2, &any, &(struct rule_act){.slow = true}, 0, false),
    };
    struct rules *rules = set_of(items, 2);
    struct rule_facts facts = find_on("shop", "orders");
    struct rule_verdict verdict;
    rules_judge(rules, &facts, 0, &verdict);
    assert_int_equal(verdict.answer, RULE_PASSES);
    assert_true(verdict.slow);
    rule_verdict_end(&verdict);
    struct rule_counts counts;
    rule_count(items[0], &counts);
    assert_int_equal(counts.hits, 1);
    assert_int_equal(counts.refused, 0);
    rules_drop(rules);
}

static void ends_when_its_time_is_over(void **state)
{
    (void)state;
    struct rule_match any = {0};
    struct rule *rule = rule_new(1, &any, &(struct rule_act){.deny = true}, 10 * SECOND, false);
    struct rules *rules = set_of(&rule, 1);
    struct rule_facts facts = find_on("shop", "orders");
    struct rule_verdict verdict;
    rules_judge(rules, &facts, 10 * SECOND - 1, &verdict);
    assert_int_equal(verdict.answer, RULE_DENIES);
    rule_verdict_end(&verdict);
    rules_judge(rules, &facts, 10 * SECOND, &verdict);
    assert_int_equal(verdict.answer, RULE_PASSES);
    assert_null(verdict.rule);
    rules_drop(rules);
}

static void what_finishes_things_is_not_refused_unless_named(void **state)
{
    (void)state;
    struct rule_facts facts = find_on("shop", "orders");
    facts.command = text("getMore");
    facts.finishes = true;
    assert_false(denies((struct rule_match){0}, facts));
    assert_false(denies((struct rule_match){.database = "shop"}, facts));
    assert_true(denies((struct rule_match){.command = "getMore"}, facts));

    struct rule_match any = {0};
    struct rule *items[] = {
        rule_new(1, &any, &(struct rule_act){.at_once = 1}, 0, false),
        rule_new(2, &any, &(struct rule_act){.priority = PRIORITY_LOW}, 0, false),
    };
    struct rules *rules = set_of(items, 2);
    struct rule_verdict verdict;
    rules_judge(rules, &facts, 0, &verdict);
    assert_int_equal(rule_id(verdict.rule), 2);
    assert_int_equal(verdict.priority, PRIORITY_LOW);
    rule_verdict_end(&verdict);
    rules_drop(rules);
}

// --- throttling ---------------------------------------------------------------------------------

static struct rules *throttling(struct rule_act act)
{
    struct rule_match any = {0};
    struct rule *rule = rule_new(1, &any, &act, 0, false);
    return set_of(&rule, 1);
}

static void only_so_many_at_once(void **state)
{
    (void)state;
    struct rules *rules = throttling((struct rule_act){.at_once = 3});
    struct rule_facts facts = find_on("shop", "orders");
    struct rule_verdict verdicts[5];
    for (int i = 0; i < 5; i++) {
        rules_judge(rules, &facts, i, &verdicts[i]);
        assert_int_equal(verdicts[i].answer, i < 3 ? RULE_PASSES : RULE_THROTTLES);
    }
    rule_verdict_end(&verdicts[4]); // was not counted
    rule_verdict_end(&verdicts[0]);
    rules_judge(rules, &facts, 5, &verdicts[0]);
    assert_int_equal(verdicts[0].answer, RULE_PASSES);
    rules_judge(rules, &facts, 5, &verdicts[4]);
    assert_int_equal(verdicts[4].answer, RULE_THROTTLES);
    for (int i = 0; i < 5; i++) {
        rule_verdict_end(&verdicts[i]);
    }
    rules_drop(rules);
}

// At whatever rate they come, those that pass are the pace's, but for the first tenth of a second.
static void only_so_many_a_second(void **state)
{
    (void)state;
    static const int paces[] = {1, 2, 9, 100, 5000, 1000000};
    struct rule_facts facts = find_on("shop", "orders");
    for (size_t i = 0; i < sizeof paces / sizeof paces[0]; i++) {
        struct rules *rules = throttling((struct rule_act){.per_second = paces[i]});
        struct chance chance = {.state = i};
        int64_t now_us = 5 * SECOND;
        int64_t asked = 0, passed = 0;
        while (now_us < 25 * SECOND) {
            struct rule_verdict verdict;
            rules_judge(rules, &facts, now_us, &verdict);
            asked++;
            passed += verdict.answer == RULE_PASSES;
            if (verdict.answer == RULE_THROTTLES) {
                assert_true(verdict.retry_us > now_us);
            }
            rule_verdict_end(&verdict);
            now_us += 1 + chance_below(&chance, 200);
        }
        int64_t allowed = 20 * (int64_t)paces[i];
        int64_t most = allowed + paces[i] / 10 + 1;
        assert_true(passed <= most);
        assert_true(passed >= (allowed < asked ? allowed : asked) - paces[i] / 10 - 1);
        rules_drop(rules);
    }
}

static void it_passes_when_it_was_told_to_come_back(void **state)
{
    (void)state;
    struct rules *rules = throttling((struct rule_act){.per_second = 3});
    struct rule_facts facts = find_on("shop", "orders");
    struct rule_verdict verdict;
    do {
        rules_judge(rules, &facts, SECOND, &verdict);
    } while (verdict.answer == RULE_PASSES && (rule_verdict_end(&verdict), true));
    int64_t retry_us = verdict.retry_us;
    rule_verdict_end(&verdict);
    rules_judge(rules, &facts, retry_us - 1, &verdict);
    assert_int_equal(verdict.answer, RULE_THROTTLES);
    rule_verdict_end(&verdict);
    rules_judge(rules, &facts, retry_us, &verdict);
    assert_int_equal(verdict.answer, RULE_PASSES);
    rule_verdict_end(&verdict);
    rules_drop(rules);
}

static void what_finds_no_room_does_not_spend_the_pace(void **state)
{
    (void)state;
    struct rules *rules = throttling((struct rule_act){.per_second = 1, .at_once = 1});
    struct rule_facts facts = find_on("shop", "orders");
    struct rule_verdict first, verdict;
    rules_judge(rules, &facts, SECOND, &first);
    assert_int_equal(first.answer, RULE_PASSES);
    for (int i = 0; i < 10; i++) {
        rules_judge(rules, &facts, 3 * SECOND, &verdict);
        assert_int_equal(verdict.answer, RULE_THROTTLES);
        rule_verdict_end(&verdict);
    }
    rule_verdict_end(&first);
    rules_judge(rules, &facts, 3 * SECOND, &verdict);
    assert_int_equal(verdict.answer, RULE_PASSES);
    rule_verdict_end(&verdict);
    rules_drop(rules);
}

// --- sets ---------------------------------------------------------------------------------------

static void what_counts_goes_on_in_the_next_set(void **state)
{
    (void)state;
    struct rule_match any = {0};
    struct rule_bounds none = {0};
    struct rule *rule = rule_new(1, &any, &(struct rule_act){.at_once = 1}, 0, false);
    struct rules *former = rules_new(&rule, 1, &none);
    struct rules *next = rules_new(&rule, 1, &none);
    rule_drop(rule);
    struct rule_facts facts = find_on("shop", "orders");
    struct rule_verdict verdict, other;
    rules_judge(former, &facts, 0, &verdict);
    rules_drop(former);
    rules_judge(next, &facts, 0, &other);
    assert_int_equal(other.answer, RULE_THROTTLES);
    rule_verdict_end(&other);
    rules_drop(next);
    rule_verdict_end(&verdict); // the last that knew it
}

static void bounds_hold_of_everybody(void **state)
{
    (void)state;
    struct rule_match web = {.app = "web.*"};
    struct rule *rule = rule_new(
        1, &web, &(struct rule_act){.max_time_ms = 9000, .kill_after_us = 2 * SECOND}, 0, false);
    struct rule_bounds bounds = {.max_time_ms = 5000, .kill_after_us = 10 * SECOND};
    struct rules *rules = rules_new(&rule, 1, &bounds);
    rule_drop(rule);
    struct rule_facts facts = find_on("shop", "orders");
    struct rule_verdict verdict;
    rules_judge(rules, &facts, 0, &verdict);
    assert_int_equal(verdict.max_time_ms, 5000);
    assert_int_equal(verdict.default_time_ms, 5000);
    assert_int_equal(verdict.kill_after_us, 2 * SECOND);
    rule_verdict_end(&verdict);
    facts.app = text("other");
    rules_judge(rules, &facts, 0, &verdict);
    assert_null(verdict.rule);
    assert_int_equal(verdict.max_time_ms, 5000);
    assert_int_equal(verdict.kill_after_us, 0);
    assert_int_equal(rules_bounds(rules)->kill_after_us, 10 * SECOND);
    rule_verdict_end(&verdict);
    assert_false(rules_are_empty(rules));
    rules_drop(rules);
}

static void a_default_is_not_above_the_bound(void **state)
{
    (void)state;
    static const int64_t cases[][3] = {{0, 0, 0}, {0, 7, 7}, {5, 0, 5}, {5, 7, 5}, {7, 5, 5}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rules *rules = throttling((struct rule_act){
            .max_time_ms = cases[i][0], .default_time_ms = cases[i][1], .slow = true});
        struct rule_facts facts = find_on("shop", "orders");
        struct rule_verdict verdict;
        rules_judge(rules, &facts, 0, &verdict);
        assert_int_equal(verdict.max_time_ms, cases[i][0]);
        assert_int_equal(verdict.default_time_ms, cases[i][2]);
        rule_verdict_end(&verdict);
        rules_drop(rules);
    }
}

static void says_what_it_wants_to_know(void **state)
{
    (void)state;
    uint8_t address[16] = {0};
    struct rule_bounds none = {0};
    struct rules *empty = rules_new(NULL, 0, &none);
    assert_true(rules_are_empty(empty));
    assert_false(rules_want_shape(empty) || rules_want_address(empty));
    rules_drop(empty);
    struct rules *shape = denying((struct rule_match){.has_shape = true});
    assert_true(rules_want_shape(shape) && !rules_want_address(shape));
    assert_false(rules_are_empty(shape));
    rules_drop(shape);
    struct rules *client = denying((struct rule_match){.address = address, .address_bits = 1});
    assert_true(!rules_want_shape(client) && rules_want_address(client));
    rules_drop(client);
}

static void keeps_its_note(void **state)
{
    (void)state;
    struct rule_match any = {0};
    struct rule *rule = rule_new(4, &any, &(struct rule_act){.deny = true}, 9, true);
    assert_string_equal(rule_by(rule), "");
    rule_set_note(rule, "ann", "no index", "deny all");
    rule_set_note(rule, rule_words(rule), "no index", "deny all");
    assert_string_equal(rule_by(rule), "deny all");
    assert_string_equal(rule_why(rule), "no index");
    assert_int_equal(rule_ends_us(rule), 9);
    assert_true(rule_is_dry_run(rule));
    rule_drop(rule);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_a_namespace),
        cmocka_unit_test(matches_a_command_in_either_case),
        cmocka_unit_test(matches_an_app),
        cmocka_unit_test(matches_a_user_and_a_comment),
        cmocka_unit_test(matches_reads_and_writes),
        cmocka_unit_test(matches_a_shape),
        cmocka_unit_test(matches_an_address),
        cmocka_unit_test(all_that_is_given_must_be_so),
        cmocka_unit_test(the_first_match_wins),
        cmocka_unit_test(a_dry_run_only_counts),
        cmocka_unit_test(ends_when_its_time_is_over),
        cmocka_unit_test(what_finishes_things_is_not_refused_unless_named),
        cmocka_unit_test(only_so_many_at_once),
        cmocka_unit_test(only_so_many_a_second),
        cmocka_unit_test(it_passes_when_it_was_told_to_come_back),
        cmocka_unit_test(what_finds_no_room_does_not_spend_the_pace),
        cmocka_unit_test(what_counts_goes_on_in_the_next_set),
        cmocka_unit_test(bounds_hold_of_everybody),
        cmocka_unit_test(a_default_is_not_above_the_bound),
        cmocka_unit_test(says_what_it_wants_to_know),
        cmocka_unit_test(keeps_its_note),
    };
    return cmocka_run_group_tests_name("rules", tests, NULL, NULL);
}
