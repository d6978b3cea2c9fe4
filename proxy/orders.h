// SPDX-License-Identifier: Apache-2.0
//
// What an operator orders (admin/control_order.h), carried out.

#ifndef PROXY_ORDERS_H
#define PROXY_ORDERS_H

#include "proxy/admin/control_order.h"

struct main_order;
struct weir;

// For the control socket, whose thread calls it.
struct control_desk orders_desk(struct weir *weir);

// The rulebook's reader, on whichever thread has the book: puts the rules in force. `arg` is the
// weir.
void orders_rules_changed(void *arg, struct rules *rules, const struct emergency *emergency);

// From the main thread: what came of an order, and of those before it: `wanted` is how many of it
// there had been.
void orders_done(struct weir *weir, struct main_order *order, unsigned wanted, bool good,
                 const char *said);

// The same of all upgrades that were ordered.
void orders_upgraded(struct weir *weir, bool good, const char *said);

#endif
