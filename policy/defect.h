// SPDX-License-Identifier: Apache-2.0
//
// Deliberate mistakes, which prove that tests/sim and tests/model would find such. A build for them
// says by WEIR_DEFECT which one is made: a name of these, or `made_defect`, which then decides when
// it runs. In every other build DEFECT() is constantly false and what it guards is not there.

#ifndef POLICY_DEFECT_H
#define POLICY_DEFECT_H

// Those of leases are tests/model's.
#define DEFECTS(X)                                                                                 \
    X(NONE)                                                                                        \
    X(PERMIT_TWICE) /* who leaves while it waits for an upstream gives back its permit twice */    \
    X(CANCELLED_GRANTED) /* a ticket that is in flight already is taken for withdrawn */           \
    X(HAND_OVER_CLOSE)  /* an idle upstream that breaks is closed though another has claimed it */ \
    X(WRONG_CLIENT)     /* an upstream is used before the reply that nobody wants has come */      \
    X(CAP_LATE)         /* an upstream counts when it is open, not when it begins to open */       \
    X(FORGET_WAITER)    /* when the primary moves, who waits first for an upstream is forgotten */ \
    X(LOST_AS_NOT_SENT) /* what was sent and lost is answered as if it had not been sent */        \
    X(SEND_AGAIN)       /* what was sent in part is sent again */                                  \
    X(BUDGET_LEAK)      /* who leaves takes the budget it had claimed along */                     \
    X(CULL_NEIGHBOUR)   /* with a request that is to be ended ends the one that came after it */   \
    X(KILLED_AS_NOT_SENT)  /* what was killed at the server is answered as if not sent */          \
    X(PAUSE_LEAK)          /* a pause keeps nothing from beginning */                              \
    X(ADAPT_SILENT)        /* when bounds widen, nobody tells those who may go now */              \
    X(DRAIN_BUSY)          /* weir drains those who wait for a reply, too */                       \
    X(LOST_PLACE)          /* who waits for a server and looks for one comes back as the last */   \
    X(LEASE_RELEASED_OPEN) /* what is leased counts as given back while it is open yet */          \
    X(LEASE_FROM_ANSWER)   /* it runs from its answer, which may have been under way long */       \
    X(LEASE_HASTY)         /* an entry that stands still is forgotten before its lease is over */

enum defect {
#define X(name) DEFECT_##name,
    DEFECTS(X)
#undef X
};

extern enum defect made_defect; // of a build for the simulation only

#ifndef WEIR_DEFECT
#define WEIR_DEFECT DEFECT_NONE
#endif

#define DEFECT(name) (WEIR_DEFECT == DEFECT_##name)

#endif
