// SPDX-License-Identifier: Apache-2.0
//
// Deliberate mistakes, one to a build, that prove that tests/sim would find such: cmake
// -DWEIR_DEFECT=name. In every other build DEFECT() is constantly false and what it guards is not
// there.

#ifndef POLICY_DEFECT_H
#define POLICY_DEFECT_H

enum defect {
    DEFECT_NONE,
    DEFECT_PERMIT_TWICE, // who leaves while it waits for an upstream gives its permit back twice
    DEFECT_CANCELLED_GRANTED, // a ticket that is in flight already is taken for withdrawn
    DEFECT_HAND_OVER_CLOSE,   // an idle upstream that breaks is closed though another worker has
                              // claimed it
    DEFECT_WRONG_CLIENT,  // an upstream is used again before the reply that nobody wants has come
    DEFECT_CAP_LATE,      // an upstream counts when it is open, not when it begins to open
    DEFECT_FORGET_WAITER, // when the primary moves, the first that waits for an upstream is
                          // forgotten
    DEFECT_LOST_AS_NOT_SENT, // what was sent and lost is answered as if it had not been sent
    DEFECT_SEND_AGAIN,       // what was sent in part is sent again
    DEFECT_BUDGET_LEAK,      // who leaves takes the budget it had claimed along
    // These are for tests/model.
    DEFECT_LEASE_RELEASED_OPEN, // what is leased counts as given back while it is open yet
    DEFECT_LEASE_HASTY,         // an entry that stands still is forgotten before its lease is over
};

#ifndef WEIR_DEFECT
#define WEIR_DEFECT DEFECT_NONE
#endif

#define DEFECT(name) (WEIR_DEFECT == DEFECT_##name)

#endif
