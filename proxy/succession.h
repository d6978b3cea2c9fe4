// SPDX-License-Identifier: Apache-2.0
//
// One weir takes another's place, on the same listening sockets and under one cap:
//
//      former                                 successor
//      starts the binary ------------------>  reads its configuration, takes the sockets over,
//        |                                    finds the deployment
//        |<----- "refused WHY", or it ends    (then the former goes on as if nothing had been)
//        |<----- "ready"
//        |------ "pin ..." ---------------->  what its clients have open (succession_pins.h)
//        |------ "order ..." -------------->  what an operator has set live (succession_orders.h)
//      accepts no more, drains
//        |------ "held 15 0" -------------->  accepts; has what is left of the cap
//        |<----- "clients 31"                 (policy/shared_cap.h)
//        |------ "held 9 0" --------------->
//        |<----- "pin ..." ---------------->  what clients open meanwhile
//      ends ----------------------------->    has all of the cap
//
// Who ends before that leaves everything to the other: a successor that fails, to the former, which
// then accepts again. A message is a datagram of text; who does not know one leaves it unread, so
// that two versions understand each other.
//
// But for pins and orders, all of this is on the main thread. To a service manager the former is
// the main process until it ends: a successor that fails is no failure of the service.

#ifndef PROXY_SUCCESSION_H
#define PROXY_SUCCESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct weir;

// How soon either is to look after it, by the calls below; 0: there is no other.
int64_t succession_pause_us(struct weir *weir);

// --- the former ---

// Starts a successor, by the command line that weir itself was started by. False, with a reason in
// ret_said.
bool succession_begin(struct weir *weir, int64_t within_us, char *ret_said, size_t capacity);

// On the thread that has the rulebook and the control socket: gives them up to a successor, or
// takes the latter back, if the main thread wants that.
void succession_pass_orders(struct weir *weir);

// What has come of it, if there is one.
void succession_follow(struct weir *weir);

// Whether another one has our place.
bool succession_is_replaced(const struct weir *weir);

// The service manager learns who is the main process now, if another one has our place. False: none
// has.
bool succession_leave(const struct weir *weir);

// --- the successor ---

// Whether it is one, and its predecessor still there.
bool succession_has_predecessor(const struct weir *weir);

// Before anything can open: nothing may.
void succession_arrive(struct weir *weir);

// It can take over. Returns when it may accept. Without a predecessor, no effect.
void succession_take_place(struct weir *weir);

// What the predecessor has given up meanwhile. Likewise.
void succession_inherit(struct weir *weir);

// It cannot. Likewise.
void succession_refuse(const char *why);

// Forgets whichever there is, at the end.
void succession_fini(struct weir *weir);

#endif
