// SPDX-License-Identifier: Apache-2.0
//
// A chained hash table over an array of entries, and a list of the entries nobody uses, least
// recently used first:
//
//      buckets -> shape -> shape          entries [ in use | idle | in use | idle | never used ]
//                                                             |               ^
//      idle_oldest -------------------------------------------+---- newer ----+---- idle_newest
//
// Invariant: an entry is in a bucket from its first use on; it is in the idle list exactly when it
// has no users.

#include "policy/shapes.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "policy/hash.h"
#include "policy/memory.h"

#define WEIGHT 0.125F
#define TYPICAL 0.5F
#define UNUSUAL 8 // times the usual cost

struct shapes {
    size_t capacity;
    size_t count;
    int bits;
    struct shape **buckets;
    struct shape *entries;
    struct shape *idle_oldest;
    struct shape *idle_newest;
    struct shape overflow; // what all share for whom there is no entry
};

struct shapes *shapes_new(size_t capacity)
{
    struct shapes *shapes = memory_new(1, sizeof(*shapes));
    shapes->capacity = capacity;
    shapes->bits = hash_bits(capacity);
    shapes->buckets = memory_new((size_t)1 << shapes->bits, sizeof(*shapes->buckets));
    shapes->entries = memory_new(capacity, sizeof(*shapes->entries));
    return shapes;
}

void shapes_free(struct shapes *shapes)
{
    if (!shapes) {
        return;
    }
    for (size_t i = 0; i < shapes->count; i++) {
        free(shapes->entries[i].label);
    }
    free(shapes->overflow.label);
    free(shapes->entries);
    free(shapes->buckets);
    free(shapes);
}

static struct shape **bucket_of(struct shapes *shapes, uint64_t id)
{
    return &shapes->buckets[hash_slot(id, shapes->bits)];
}

static void idle_append(struct shapes *shapes, struct shape *shape)
{
    shape->newer = NULL;
    shape->older = shapes->idle_newest;
    if (shape->older) {
        shape->older->newer = shape;
    } else {
        shapes->idle_oldest = shape;
    }
    shapes->idle_newest = shape;
}

static void idle_remove(struct shapes *shapes, struct shape *shape)
{
    if (shape->older) {
        shape->older->newer = shape->newer;
    } else {
        shapes->idle_oldest = shape->newer;
    }
    if (shape->newer) {
        shape->newer->older = shape->older;
    } else {
        shapes->idle_newest = shape->older;
    }
}

static void forget(struct shapes *shapes, struct shape *shape)
{
    struct shape **link = bucket_of(shapes, shape->id);
    while (*link != shape) {
        link = &(*link)->bucket_next;
    }
    *link = shape->bucket_next;
    idle_remove(shapes, shape);
    free(shape->label);
}

// An entry that is in no bucket and no list, or NULL.
static struct shape *take_entry(struct shapes *shapes)
{
    if (shapes->count < shapes->capacity) {
        return &shapes->entries[shapes->count++];
    }
    struct shape *shape = shapes->idle_oldest;
    if (shape) {
        forget(shapes, shape);
    }
    return shape;
}

static struct shape *add(struct shapes *shapes, uint64_t id)
{
    struct shape *shape = take_entry(shapes);
    if (!shape) {
        return &shapes->overflow;
    }
    struct shape **bucket = bucket_of(shapes, id);
    *shape = (struct shape){.id = id, .bucket_next = *bucket};
    *bucket = shape;
    return shape;
}

struct shape *shapes_acquire(struct shapes *shapes, uint64_t id)
{
    struct shape *shape = *bucket_of(shapes, id);
    while (shape && shape->id != id) {
        shape = shape->bucket_next;
    }
    if (!shape) {
        shape = add(shapes, id);
    } else if (shape->users == 0) {
        idle_remove(shapes, shape);
    }
    shape->users++;
    return shape;
}

void shapes_release(struct shapes *shapes, struct shape *shape)
{
    assert(shape->users > 0);
    shape->users--;
    if (shape->users > 0) {
        return;
    }
    if (shape == &shapes->overflow) {
        free(shapes->overflow.label);
        shapes->overflow = (struct shape){0};
    } else {
        idle_append(shapes, shape);
    }
}

size_t shapes_count(const struct shapes *shapes)
{
    return shapes->count;
}

const struct shape *shapes_at(const struct shapes *shapes, size_t place)
{
    assert(place < shapes->count);
    return &shapes->entries[place];
}

size_t shapes_place(const struct shapes *shapes, const struct shape *shape)
{
    return shape == &shapes->overflow ? SIZE_MAX : (size_t)(shape - shapes->entries);
}

void shape_label(struct shape *shape, const char *label)
{
    size_t bytes = strlen(label) + 1;
    free(shape->label);
    shape->label = memory_new(1, bytes);
    memcpy(shape->label, label, bytes);
}

void shape_observe(struct shape *shape, bool slow)
{
    float latest = slow ? 1.0F : 0.0F;
    if (shape->known) {
        shape->slow_portion += WEIGHT * (latest - shape->slow_portion);
    } else {
        shape->slow_portion = latest;
        shape->known = true;
    }
}

void shape_learn_cost(struct shape *shape, int64_t held_us)
{
    float latest_us = held_us > 1 ? (float)held_us : 1;
    if (shape->cost_us <= 0) {
        shape->cost_us = latest_us;
        return;
    }
    if (latest_us > UNUSUAL * shape->cost_us) {
        latest_us = UNUSUAL * shape->cost_us;
    }
    shape->cost_us += WEIGHT * (latest_us - shape->cost_us);
}

bool shape_is_slow(const struct shape *shape)
{
    return shape->slow_portion >= TYPICAL;
}
