// SPDX-License-Identifier: Apache-2.0

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "incidents.h"

#define SEEDS 3

static void the_cause_is_named(void **state)
{
    (void)state;
    for (int i = 0; i < incidents_count; i++) {
        for (uint64_t seed = 1; seed <= SEEDS; seed++) {
            const struct incident *incident = &incidents[i];
            struct judgement judgement;
            incident_play(incident, seed, &judgement);
            enum cause first = judgement.final.order[0];
            if (judgement.events == 0 || !verdict_is_clear(&judgement.final) ||
                (first != incident->truth && first != incident->also)) {
                fail_msg("%s, seed %d: %s", incident->name, (int)seed, cause_text(first));
            }
        }
    }
}

// In its first second nothing is said, or what is true.
static void nothing_false_is_said_at_the_begin(void **state)
{
    (void)state;
    int named = 0;
    for (int i = 0; i < incidents_count; i++) {
        const struct incident *incident = &incidents[i];
        struct judgement judgement;
        incident_play(incident, 1, &judgement);
        enum cause first = judgement.begin.order[0];
        bool clear = verdict_is_clear(&judgement.begin);
        if (clear && first != incident->truth && first != incident->also) {
            fail_msg("%s: %s", incident->name, cause_text(first));
        }
        named += clear;
    }
    assert_true(named > incidents_count / 3);
}

// A mixed one has both of its causes before all others.
static void both_causes_are_named(void **state)
{
    (void)state;
    for (int i = 0; i < incidents_count; i++) {
        const struct incident *incident = &incidents[i];
        struct judgement judgement;
        if (incident->truth == incident->also) {
            continue;
        }
        incident_play(incident, 1, &judgement);
        const enum cause *order = judgement.final.order;
        assert_true(order[0] == incident->truth || order[1] == incident->truth);
        assert_true(order[0] == incident->also || order[1] == incident->also);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cause_is_named),
        cmocka_unit_test(nothing_false_is_said_at_the_begin),
        cmocka_unit_test(both_causes_are_named),
    };
    return cmocka_run_group_tests_name("incidents", tests, NULL, NULL);
}
