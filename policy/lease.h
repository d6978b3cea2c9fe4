// SPDX-License-Identifier: Apache-2.0
//
// What one instance of a fleet may use of the cap that they share: its floor always, and what it
// has leased above that until the lease ends. The other half, which gives leases out, is
// proxy/fleet.lua in the store; tests/model explores both together.
//
//      sent     the lease runs from here: not from the answer, which may have been on its way long
//        |  us/2   renewed every now and then; drains from here on: nothing new above the floor
//        |  3us/4  what still is above the floor is closed, whatever it is doing
//        v  us     over. Who is frozen and has not closed it is killed by its kernel (dies_us)
//
// The cap counts connections that are open. So what was leased is the store's again when its holder
// has said that it is closed, or when it must be: others have watched the holder's entry stand
// still, by their own clocks, for as long as a lease lasts and a margin. The store's clock is never
// asked, and none is compared with another.
//
// A store that has forgotten, wholly or in part, begins a new epoch. Leases of a former one end by
// themselves; until all must have, which those who ask find out by the same watching (the epoch is
// then mature), nobody gets more than it holds already.
//
// Invariants: an instance has no more open than lease_allows has said since it last told `held`, or
// what it told then; the sum of what all hold is at most cap - instances * floor. Pure; the time is
// one that goes on while the machine sleeps.

#ifndef POLICY_LEASE_H
#define POLICY_LEASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// How long a store may stay silent at the start before an instance begins with its floor.
#define LEASE_START_US INT64_C(2000000)

enum { LEASE_EPOCH_BYTES = 48, LEASE_NAME_BYTES = 64 };

struct lease_terms {
    int cap;       // of all together
    int floor;     // of each, 1 or more
    int instances; // that run at one time, at most; instances * floor <= cap
    int64_t us;    // how long a lease lasts
};

// Another one of the fleet, or this one, as the store has it.
struct lease_peer {
    uint64_t id;
    uint64_t seq;    // of what it last asked
    int64_t seen_us; // when that was first seen here
    int held;        // above its floor
    int need;        // likewise
    char name[LEASE_NAME_BYTES];
};

struct lease {
    struct lease_terms terms;
    int most; // that this one has a use for
    uint64_t id;
    int64_t started_us;
    bool settled; // has been taken into the fleet, or has begun with its floor
    bool refused; // by the store, before that
    uint64_t seq; // of what it last asked
    int64_t sent_us;
    bool answered;
    int held; // above the floor: the most that may be open until ends_us
    int told; // of that, how much it should keep
    int64_t ends_us;
    char epoch[LEASE_EPOCH_BYTES]; // "" before the first
    bool mature;
    int64_t epoch_us;         // when that was first seen here
    struct lease_peer *peers; // borrowed; room for terms.instances
    size_t peer_count;
};

// What is asked of the store.
struct lease_ask {
    uint64_t seq;
    int held;    // the most that will be open above the floor until the answer comes
    int need;    // how much could be used above the floor
    int room;    // how much at the very most
    bool mature; // the epoch is
};

enum lease_answer_kind {
    LEASE_GRANTED,
    LEASE_FULL,  // there are terms.instances others
    LEASE_TERMS, // the others go by other terms
};

struct lease_answer {
    uint64_t seq; // of what was asked
    enum lease_answer_kind kind;
    const char *epoch; // these four if granted
    bool mature;
    int held; // the most that may be open above the floor
    int told; // how much of that to keep: others need the rest
};

// `peers` is for `instances` of them.
void lease_init(struct lease *lease, const struct lease_terms *terms, int most, uint64_t id,
                struct lease_peer *peers, int64_t now_us);

// How many this one has a use for from now on.
void lease_bound(struct lease *lease, int most);

// How many connections there may be now. What is open above it is closed as it becomes idle.
int lease_allows(struct lease *lease, int64_t now_us);

// Whether what is open above that is to be closed at once.
bool lease_must_cut(const struct lease *lease, int64_t now_us);

// What it is at, in a word.
const char *lease_state_text(const struct lease *lease, int64_t now_us);

// When nothing above the floor may be open any more, whoever sees to it: INT64_MAX if nothing is.
// To be followed before anything is opened by what lease_allows says.
int64_t lease_dies_us(const struct lease *lease);

// `open`: how many connections there are, read after what lease_allows says of that time was put in
// force. Once that is no more than
// the floor, nothing is left of a lease that was not renewed, and nobody dies of it.
void lease_look(struct lease *lease, int open, int64_t now_us);

// The next to be asked. `open` likewise; `want`: how many there would be a use for. Each is sent
// once.
struct lease_ask lease_ask(struct lease *lease, int open, int want, int64_t now_us);

// Whether the store should forget a peer: its entry has stood still for so long that it has closed
// everything. It does so if the entry is still that.
bool lease_is_over(const struct lease *lease, const struct lease_peer *peer, int64_t now_us);

// The store's answer. Only that to what was asked last counts; then true, and if it was granted,
// lease_meet is to be called with each peer that it names, this one too.
bool lease_learn(struct lease *lease, const struct lease_answer *answer, int64_t now_us);
void lease_meet(struct lease *lease, const struct lease_peer *met, int64_t now_us);

// After that: forgets those that were not met.
void lease_part(struct lease *lease);

#endif
