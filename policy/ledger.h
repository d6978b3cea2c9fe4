// SPDX-License-Identifier: Apache-2.0
//
// The cap on a server's upstreams, as a ledger: nobody opens a connection without an entry here
// first.
//
//      (nothing) -- ledger_open --> opening -- ledger_opened --> open
//                                     |  ledger_failed, _dropped  |  ledger_closed
//                                     +----> (nothing) <----------+
//
// Invariant: opening + open <= cap at every instant; opening <= max_opening. A cap that was lowered
// is reached by closing: until then nothing opens.

#ifndef POLICY_LEDGER_H
#define POLICY_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

struct ledger {
    int cap;         // 0: nothing opens
    int max_opening; // at once; 2 as in CMAP's maxConnecting
    int opening;
    int open;
    int failures;     // in a row
    int64_t retry_us; // not before this time after a failure
};

// Whether one more connection may open now: neither the cap, nor the bound on opening, nor the
// pause after a failure forbids it.
bool ledger_may_open(const struct ledger *ledger, int64_t now_us);

// Enters one more connection as opening. False: it may not.
bool ledger_open(struct ledger *ledger, int64_t now_us) __attribute__((warn_unused_result));

void ledger_opened(struct ledger *ledger);

// The connection that was opening has failed. The next attempt waits: 100 ms after the first
// failure, doubling up to 5 s while they follow one another; `jitter` from 0 to 1 takes up to half
// of it off.
void ledger_failed(struct ledger *ledger, double jitter, int64_t now_us);

// The connection that was opening was given up by us, which says nothing of the server.
void ledger_dropped(struct ledger *ledger);

void ledger_closed(struct ledger *ledger);

// The ledger is about another server now: the pause after the former one's failures is over.
void ledger_forgive(struct ledger *ledger);

#endif
