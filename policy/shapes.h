// SPDX-License-Identifier: Apache-2.0
//
// What is known of each shape of request: whether its typical request is slow, and for how long it
// holds a permit. Bounded: when the
// table is full, the shape that was used least recently and has nothing queued or in flight is
// forgotten.

#ifndef POLICY_SHAPES_H
#define POLICY_SHAPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/limit.h"

struct shape {
    struct shape *bucket_next;
    struct shape *newer; // by the last release, while nobody uses it
    struct shape *older;
    uint64_t id;
    uint32_t users;          // tickets that borrow it
    int slow_in_flight;      // the gate's: its tickets in flight in the slow lane
    float slow_portion;      // of its requests, the latest weighing most: 0 to 1
    float cost_us;           // how long a permit is held, the latest weighing most; 0: not known
    bool known;              // has been observed at least once
    struct limit_shape time; // the limit's
    char *label;             // for people; NULL until the caller gives it one
    uint64_t arrived;        // that asked for a permit
    uint64_t count;          // permits given back
    int64_t waited_us;       // for these, in all
    int64_t held_us;         // likewise
};

struct shapes;

// Takes the memory for `capacity` shapes at once.
struct shapes *shapes_new(size_t capacity);
void shapes_free(struct shapes *shapes); // and with it all of its shapes

// The shape of an id, made if it is new. Never NULL: when the table is full of shapes in use, all
// further ones share one entry (id 0, not counted, forgotten when nobody uses it). Counts a user:
// give it back by shapes_release.
struct shape *shapes_acquire(struct shapes *shapes, uint64_t id);
void shapes_release(struct shapes *shapes, struct shape *shape);

size_t shapes_count(const struct shapes *shapes);

// The shape in a place from 0 to shapes_count-1. A shape keeps its place until it is forgotten, so
// what looks at all of them may do so piece by piece.
const struct shape *shapes_at(const struct shapes *shapes, size_t place);

// The place of a shape, SIZE_MAX of the one that all share for whom there is none.
size_t shapes_place(const struct shapes *shapes, const struct shape *shape);

// Copies the label, which lives as long as the shape.
void shape_label(struct shape *shape, const char *label);

// Counts a permit that was waited for and held.
static inline void shape_charge(struct shape *shape, int64_t waited_us, int64_t held_us)
{
    shape->count++;
    shape->waited_us += waited_us;
    shape->held_us += held_us;
}

// Learns from one request: an exponentially weighted mean (1/8) of "was slow", started with the
// first.
void shape_observe(struct shape *shape, bool slow);

// Learns how long one held its permit: an exponentially weighted mean (1/8) in which one that took
// unusually long counts as eight times as long as usual.
void shape_learn_cost(struct shape *shape, int64_t held_us);

// Whether its typical (median) request is slow: at least half of the latest were. Of one that is
// not known yet: no.
bool shape_is_slow(const struct shape *shape);

#endif
