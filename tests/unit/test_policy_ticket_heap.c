// SPDX-License-Identifier: Apache-2.0
//
// The heap's invariant after each of many seeded random steps.

#include "test_policy.h"

#include "policy/ticket_heap.h"

#define TICKETS 300
#define STEPS 20000

static void check(const struct ticket_heap *heap)
{
    for (size_t i = 0; i < heap->count; i++) {
        assert_int_equal(heap->at[i]->heap_index, i);
        assert_true(i == 0 || heap->at[(i - 1) / 2]->expires_us <= heap->at[i]->expires_us);
    }
    assert_ptr_equal(ticket_heap_first(heap), heap->count > 0 ? heap->at[0] : NULL);
}

static void keeps_its_invariant(void **state)
{
    (void)state;
    struct chance chance = {.state = 1};
    struct ticket tickets[TICKETS] = {0};
    struct ticket_heap heap = {0};
    size_t held = 0;
    int grow = 70;
    for (int step = 0; step < STEPS; step++) {
        struct ticket *ticket = &tickets[chance_below(&chance, TICKETS)];
        bool is_in = ticket->state == TICKET_QUEUED;
        if (!is_in && chance_percent(&chance, grow)) {
            ticket->expires_us = chance_below(&chance, 50);
            ticket->state = TICKET_QUEUED;
            ticket_heap_add(&heap, ticket);
            held++;
        } else if (is_in && !chance_percent(&chance, grow)) {
            ticket_heap_remove(&heap, ticket);
            ticket->state = TICKET_IDLE;
            held--;
        } else if (chance_percent(&chance, 1)) {
            for (size_t i = 0; i < heap.count; i++) {
                heap.at[i]->expires_us = chance_below(&chance, 50);
            }
            ticket_heap_rebuild(&heap);
            grow = 100 - grow;
        }
        assert_int_equal(heap.count, held);
        check(&heap);
    }
    ticket_heap_fini(&heap);
    assert_null(ticket_heap_first(&heap));
}

// Taken out first by first, they come in order.
static void sorts(void **state)
{
    (void)state;
    struct chance chance = {.state = 2};
    struct ticket tickets[TICKETS] = {0};
    struct ticket_heap heap = {0};
    for (int i = 0; i < TICKETS; i++) {
        tickets[i].expires_us = chance_below(&chance, 1000);
        ticket_heap_add(&heap, &tickets[i]);
    }
    int64_t last_us = 0;
    for (int i = 0; i < TICKETS; i++) {
        struct ticket *first = ticket_heap_first(&heap);
        assert_true(first->expires_us >= last_us);
        last_us = first->expires_us;
        ticket_heap_remove(&heap, first);
    }
    assert_int_equal(heap.count, 0);
    ticket_heap_fini(&heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_its_invariant),
        cmocka_unit_test(sorts),
    };
    return cmocka_run_group_tests_name("ticket heap", tests, NULL, NULL);
}
