// SPDX-License-Identifier: Apache-2.0
//
// Who waits for a permit in one lane and finishes nothing: by priority, then by tenant.
//
//      high      tenant 7: ticket, ticket
//      normal    tenant 7: ticket        tenant 9: ticket, ticket, ticket, ...
//      low       tenant 3: ticket
//
// Among priorities and among tenants the one goes next that has had least for its weight:
// start-time fair queueing, which is what deficit round robin comes near to by rounds, at the cost
// of a heap and without rounds. What somebody has had is the time that permits were held: estimated
// when one is granted, corrected when it comes back. It is counted in virtual time, which runs as
// fast as whoever waits is served. Who comes anew starts at the present, so nobody saves up by
// staying away; who was served ahead of it owes, and does not get rid of that by emptying its
// queue. A tenant is forgotten when nothing of it waits or is in flight and it owes nothing, or has
// stayed away for QUEUE_LAPSE_US.
//
// A tenant of which somebody has waited for max_wait_us in vain has a standing queue, until it is
// empty: its latest goes first, and the time that its next ones may wait shrinks from max_wait_us
// (half of it after max_wait_us, a third after two, ...) to QUEUE_TARGET_US. That is Facebook's
// adaptive LIFO and controlled delay for each tenant by itself; but theirs begins when a queue has
// not been empty for a while, which one at the server's capacity often is not, and loses by it. So
// a tenant that asks for more than its share is told so at once, and one that does not never
// notices.
//
// Example: weights are 1, A asks all the time, B now and then. A permit comes free; B's request has
// just come, at the virtual present; A is ahead of that by its last one. B goes. Had B's last one
// taken 5 s, it would be behind A until A has had 5 s.

#ifndef POLICY_QUEUE_H
#define POLICY_QUEUE_H

#include "policy/gate.h"
#include "policy/ranks.h"

#define QUEUE_TARGET_US INT64_C(5000)
#define QUEUE_LAPSE_US INT64_C(2000000)

struct flow;

struct class
{
    struct ranks by_had;   // its tenants that wait, by what they have had
    struct ranks by_count; // the same, who waits most first
    size_t count;          // tickets
    int64_t had;           // among the classes
    int64_t present;       // what they have had that are served now
};

struct queue {
    const struct gate_limits *limits; // borrowed
    bool spread;                      // within a tenant, the shape goes first that holds least
    size_t count;                     // tickets
    struct class classes[PRIORITY_COUNT];
    int64_t present;     // of the classes
    int64_t since_us;    // queues from before that do not count as standing
    struct flow **table; // tenants of all priorities
    int bits;
    size_t flows;
    struct flow *away_oldest; // of those nothing waits or is in flight, but they owe
    struct flow *away_newest;
};

void queue_init(struct queue *queue, const struct gate_limits *limits, bool spread);
void queue_fini(struct queue *queue); // nothing may wait in it, nor be in flight from it

// Borrows the ticket, whose tenant, weight and priority do not change meanwhile. It is removed when
// it leaves without having been granted.
void queue_add(struct queue *queue, struct ticket *ticket, int64_t now_us);
void queue_remove(struct queue *queue, struct ticket *ticket, int64_t now_us);

// The one that goes next, NULL when it is empty.
struct ticket *queue_next(const struct queue *queue);

// Takes one out that is granted, and charges its tenant with a guess of what it costs.
void queue_grant(struct queue *queue, struct ticket *ticket, int64_t cost_us, int64_t now_us);

// It is done: corrects that. Of one that never waited, nobody was charged: then this does nothing.
void queue_settle(struct ticket *ticket, int64_t cost_us, int64_t now_us);

// How long a newcomer may wait, if a permit comes free every pace_us.
int64_t queue_patience_us(const struct queue *queue, const struct ticket *newcomer, int64_t pace_us,
                          int64_t now_us);

// How many go before a newcomer, at least and not counting those that come later.
size_t queue_ahead_of(const struct queue *queue, const struct ticket *newcomer);

// Who makes room: of the lowest priority, of the tenant that waits most, the one that goes last;
// NULL when it is empty.
struct ticket *queue_last(const struct queue *queue);

// Whether that one rather makes room than another queue's.
bool queue_matters_less(const struct ticket *last, const struct ticket *other);

// Whether such a one, of whichever queue, makes room for a newcomer to this one: not if the
// newcomer matters less, or its own tenant waits as much, unless it goes before that one.
bool queue_yields(const struct ticket *last, const struct queue *queue,
                  const struct ticket *newcomer);

// Whoever waits has had no chance before then; INT64_MAX: nor has one now.
void queue_restart(struct queue *queue, int64_t since_us);

#endif
