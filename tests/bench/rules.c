// SPDX-License-Identifier: Apache-2.0
//
// What rules cost a request that they do not concern, in nanoseconds: bench_rules prints a line for
// each of some numbers of rules. The worst kind: all are about the request's command and database,
// and differ only in the end of the collection's name.

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "policy/rules.h"

#define ROUNDS 21
#define TIMES 2000 // in a round

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static uint64_t result; // so that nothing is optimised away

static struct rules *make(size_t count)
{
    struct rule *items[RULES_MAX] = {0};
    struct rule_bounds none = {0};
    for (size_t i = 0; i < count; i++) {
        char collection[32];
        snprintf(collection, sizeof collection, "orders_of_2026_%03zu", i);
        struct rule_match match = {.database = "shop", .collection = collection, .command = "find"};
        items[i] = rule_new((int64_t)i, &match, &(struct rule_act){.deny = true}, 0, false);
    }
    struct rules *rules = rules_new(items, count, &none);
    for (size_t i = 0; i < count; i++) {
        rule_drop(items[i]);
    }
    return rules;
}

// Of the fastest round: the machine has other things to do.
static double best_ns(struct rules *rules, const struct rule_facts *facts)
{
    int64_t best = INT64_MAX;
    for (int round = 0; round < ROUNDS; round++) {
        int64_t begun = now_ns();
        for (int i = 0; i < TIMES; i++) {
            struct rule_verdict verdict;
            rules_judge(rules, facts, i, &verdict);
            result += verdict.rule != NULL;
        }
        int64_t took = now_ns() - begun;
        best = took < best ? took : best;
    }
    return (double)best / TIMES;
}

int main(void)
{
    static const size_t counts[] = {0, 1, 10, 100, RULES_MAX};
    const struct rule_facts facts = {
        .database = {"shop", 4}, .collection = {"orders_of_2026_zzz", 18}, .command = {"find", 4}};
    printf("%8s %10s\n", "rules", "ns");
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        struct rules *rules = make(counts[i]);
        printf("%8zu %10.0f\n", counts[i], best_ns(rules, &facts));
        rules_drop(rules);
    }
    return result > 0;
}
