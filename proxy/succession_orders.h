// SPDX-License-Identifier: Apache-2.0
//
// What an operator has set live, told to a successor as the orders (admin/control_order.h) that set
// it: the messages "order " of proxy/succession.h, each a document {by, order}. Times are those
// that are left.

#ifndef PROXY_SUCCESSION_ORDERS_H
#define PROXY_SUCCESSION_ORDERS_H

#include "proxy/succession_talk.h"

#define SUCCESSION_ORDER "order "

struct weir;

// On the thread that has the rulebook.
void succession_tell_orders(struct weir *weir, struct talk *talk);

// What follows the word. Before the control socket runs.
void succession_obey_order(struct weir *weir, const char *bytes, size_t length);

#endif
