// SPDX-License-Identifier: Apache-2.0

#include "tests/sim/sim.h"

#include <assert.h>
#include <stdlib.h>

#include "proxy/mem.h"

#define BEGIN_US INT64_C(3600000000)

static struct {
    int64_t now_us;
    uint64_t steps;
    uint64_t random;
    struct event **agenda; // a binary heap from place 1
    size_t count;
    size_t capacity;
} sim;

void sim_begin(uint64_t seed)
{
    sim.now_us = BEGIN_US;
    sim.steps = 0;
    sim.random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    sim.count = 0;
}

void sim_end(void)
{
    for (size_t i = 1; i <= sim.count; i++) {
        sim.agenda[i]->place = 0;
    }
    free(sim.agenda);
    sim.agenda = NULL;
    sim.count = sim.capacity = 0;
}

int64_t sim_now_us(void)
{
    return sim.now_us;
}

uint64_t sim_steps(void)
{
    return sim.steps;
}

// --- agenda -------------------------------------------------------------------------------------

static bool before(const struct event *a, const struct event *b)
{
    return a->at_us < b->at_us || (a->at_us == b->at_us && a->tie < b->tie);
}

static void put(size_t place, struct event *event)
{
    sim.agenda[place] = event;
    event->place = place;
}

static void sift(size_t place, struct event *event)
{
    while (place > 1 && before(event, sim.agenda[place / 2])) {
        put(place, sim.agenda[place / 2]);
        place /= 2;
    }
    for (size_t child; (child = 2 * place) <= sim.count; place = child) {
        if (child < sim.count && before(sim.agenda[child + 1], sim.agenda[child])) {
            child++;
        }
        if (!before(sim.agenda[child], event)) {
            break;
        }
        put(place, sim.agenda[child]);
    }
    put(place, event);
}

void event_init(struct event *event, void (*fn)(void *arg), void *arg)
{
    *event = (struct event){.fn = fn, .arg = arg};
}

void event_cancel(struct event *event)
{
    size_t place = event->place;
    if (place == 0) {
        return;
    }
    event->place = 0;
    struct event *last = sim.agenda[sim.count--];
    if (last != event) {
        sift(place, last);
    }
}

void event_set(struct event *event, int64_t at_us)
{
    event_cancel(event);
    if (at_us == INT64_MAX) {
        return;
    }
    if (sim.count + 2 > sim.capacity) {
        sim.capacity = sim.capacity ? 2 * sim.capacity : 256;
        sim.agenda = xrealloc(sim.agenda, sim.capacity * sizeof *sim.agenda);
    }
    event->at_us = at_us > sim.now_us ? at_us : sim.now_us;
    event->tie = dice();
    sim.count++;
    sift(sim.count, event);
}

bool sim_step(int64_t until_us)
{
    if (sim.count == 0 || sim.agenda[1]->at_us > until_us) {
        sim.now_us = until_us > sim.now_us ? until_us : sim.now_us;
        return false;
    }
    struct event *event = sim.agenda[1];
    event_cancel(event);
    sim.now_us = event->at_us;
    sim.steps++;
    event->fn(event->arg);
    return true;
}

// --- dice ---------------------------------------------------------------------------------------

// splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
uint64_t dice(void)
{
    uint64_t z = sim.random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

bool dice_chance(double probability)
{
    return probability > 0 && (double)(dice() >> 11) * 0x1p-53 < probability;
}

int64_t dice_between(int64_t low, int64_t high)
{
    return low >= high ? low : low + (int64_t)(dice() % (uint64_t)(high - low + 1));
}

int64_t dice_scale(int64_t low, int64_t high)
{
    assert(low >= 1);
    int bits = 0;
    while (bits < 62 && (low << bits) < high) {
        bits++;
    }
    int64_t floor = low << dice_between(0, bits > 0 ? bits - 1 : 0);
    int64_t ceiling = 2 * floor < high ? 2 * floor : high;
    return dice_between(floor, ceiling);
}

size_t dice_weighted(const int *weights, size_t count)
{
    int total = 0;
    for (size_t i = 0; i < count; i++) {
        total += weights[i];
    }
    assert(total > 0);
    int left = (int)dice_between(0, total - 1);
    size_t i = 0;
    while (left >= weights[i]) {
        left -= weights[i++];
    }
    return i;
}
