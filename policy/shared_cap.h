// SPDX-License-Identifier: Apache-2.0
//
// The cap while one weir takes another's place: what the former keeps, and so what is left to its
// successor.
//
//      cap  |#########-------|   # keeps: falls with the former's share of all clients
//           |##########::----|   : open above that; closed when it is idle
//           |<-- held -->|<->|   held: keeps or open, whichever is more; it is told the successor
//                          leaves: what the successor may have
//
// Nothing opens above `keeps` once that is in force, so what is open can only fall to it, and
// `held` never rises. The successor goes by the `held` that it has heard last, however late it
// heard it: the two together stay below the cap without an answer from either.

#ifndef POLICY_SHARED_CAP_H
#define POLICY_SHARED_CAP_H

// What the former keeps from now on, of what it kept until now, at first the cap: its share of the
// clients, but 1 at least, and 1 less than the cap at most, so that who comes to either is served.
// To be put in force before what is open is counted.
int shared_cap_keeps(int kept, int cap, int clients, int successors_clients);

// What the former holds, `open` having been counted after that.
int shared_cap_held(int keeps, int open);

// What the successor may have of its own cap.
int shared_cap_leaves(int cap, int held);

#endif
