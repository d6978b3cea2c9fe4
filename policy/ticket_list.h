// SPDX-License-Identifier: Apache-2.0
//
// Tickets in the order in which they came, linked through themselves; NULL at both ends.

#ifndef POLICY_TICKET_LIST_H
#define POLICY_TICKET_LIST_H

#include "policy/gate.h"

// All-zero is a valid empty one.
struct ticket_list {
    struct ticket *first;
    struct ticket *last;
    size_t count;
};

// Before `next`, which is in this very list; NULL: at its end.
static inline void ticket_list_insert(struct ticket_list *list, struct ticket *ticket,
                                      struct ticket *next)
{
    ticket->next = next;
    ticket->prev = next ? next->prev : list->last;
    *(ticket->prev ? &ticket->prev->next : &list->first) = ticket;
    *(next ? &next->prev : &list->last) = ticket;
    list->count++;
}

static inline void ticket_list_append(struct ticket_list *list, struct ticket *ticket)
{
    ticket_list_insert(list, ticket, NULL);
}

// The ticket must be in this very list.
static inline void ticket_list_remove(struct ticket_list *list, struct ticket *ticket)
{
    if (ticket->prev) {
        ticket->prev->next = ticket->next;
    } else {
        list->first = ticket->next;
    }
    if (ticket->next) {
        ticket->next->prev = ticket->prev;
    } else {
        list->last = ticket->prev;
    }
    list->count--;
}

#endif
