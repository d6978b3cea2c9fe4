// SPDX-License-Identifier: Apache-2.0
//
// Times are exponential or heavy-tailed, so all is reckoned in logarithms, whose mean is robust.
//
// A window ends after 100 ms if it has 50 samples, else later. Over its shapes, the centre of how
// far each is from its usual time says how the server does; what is left of a shape's distance
// moves its usual time. So a change of the mix changes nothing, one shape that has become slow is
// outvoted and then has a new usual time, and a new shape has one after a few samples, whatever the
// load just then.

#include "policy/limit.h"

#include <assert.h>
#include <math.h>
#include <stddef.h>

#define FIRST_LIMIT 20
#define HEADROOM 1.25
#define HEADROOM_ROOT 1.5

#define FEW 10
#define WINDOW_TURNS 2

// When a window is over: it has so many samples, and lasts so long.
static const struct {
    int done;
    int64_t us;
} windows[] = {{100, 20000}, {50, 100000}, {FEW, 1000000}};

#define MOST_STEP 2.0
#define SMOOTHING 0.5

#define PLACE_COUNTS 20   // so many samples of one shape have full weight
#define OUTLIER 0.7       // a shape further off than this is taken for this far off
#define SHAPE_MEMORY 1000 // samples

#define PROBE_SHARE 0.75
#define PROBE_SAMPLES 50
#define PROBE_TURNS 8 // so often each permit of a probe must be used: else short ones outweigh
#define PROBE_DRAIN_TURNS 2
#define PROBE_LEAST_US INT64_C(100000)
#define PROBE_MOST_US INT64_C(2000000)
#define PROBE_REST 5 // times as long as a probe is the pause after it, or longer
#define PROBE_EVERY_US INT64_C(5000000)
#define PROBE_SOON_US INT64_C(500000)
#define PROBES_EARLY 4
#define PROBE_WEIGHT 0.25
#define SURPRISE 0.4 // 3 standard deviations of the mean logarithm of exponential times
#define SURPRISE_WEIGHT 0.7
#define QUIET_WEIGHT 0.1

void limit_init(struct limit *limit, int floor, int cap)
{
    assert(floor >= 1 && floor <= cap);
    *limit = (struct limit){.floor = floor, .cap = cap, .load = 1, .window = 1, .chance = 1};
    limit->value = fmin(cap, fmax(floor, FIRST_LIMIT));
    limit->probe_us = PROBE_SOON_US;
}

void limit_bound(struct limit *limit, int floor, int cap)
{
    assert(floor >= 1 && floor <= cap);
    // What the cap held down says nothing about the server.
    double value = limit->value < limit->cap ? limit->value : fmax(limit->value, FIRST_LIMIT);
    limit->floor = floor;
    limit->cap = cap;
    limit->value = fmin(cap, fmax(floor, value));
}

static double unit_chance(struct limit *limit)
{
    limit->chance ^= limit->chance << 13; // xorshift
    limit->chance ^= limit->chance >> 7;
    limit->chance ^= limit->chance << 17;
    return (double)(limit->chance >> 11) / (double)(UINT64_C(1) << 53);
}

static void begin_window(struct limit *limit, int64_t now_us)
{
    limit->window++;
    limit->began_us = now_us;
    limit->served_us = 0;
    limit->in_flight = 0;
    limit->done = 0;
    limit->hit = false;
    limit->place_count = 0;
}

// --- the centre over shapes ---------------------------------------------------------------------

static double clip(double value, double most)
{
    return fmax(-most, fmin(most, value));
}

static double offset_of(const struct limit_place *place)
{
    return place->sum / place->count - (double)place->shape->usual;
}

// Whether the shape is still the one that was noted: the table may have forgotten it meanwhile.
static bool is_there(const struct limit *limit, const struct limit_place *place)
{
    return place->shape->window == limit->window &&
           place->shape->place == (uint32_t)(place - limit->places);
}

static double weight_of(const struct limit *limit, const struct limit_place *place)
{
    bool counts = is_there(limit, place) && place->shape->seen >= FEW;
    return counts ? fmin(place->count, PLACE_COUNTS) : 0;
}

// The weighted median of the places' offsets, the lower one of two; false if no shape is known.
static bool find_median(const struct limit *limit, double *ret_median)
{
    double total = 0;
    for (int i = 0; i < limit->place_count; i++) {
        total += weight_of(limit, &limit->places[i]);
    }
    for (int i = 0; i < limit->place_count; i++) {
        double below = 0;
        double same = weight_of(limit, &limit->places[i]);
        double offset = offset_of(&limit->places[i]);
        for (int j = 0; j < limit->place_count; j++) {
            below +=
                offset_of(&limit->places[j]) < offset ? weight_of(limit, &limit->places[j]) : 0;
        }
        if (same > 0 && below < total / 2 && below + same >= total / 2) {
            *ret_median = offset;
            return true;
        }
    }
    return false;
}

static bool find_centre(const struct limit *limit, double *ret_centre)
{
    double median;
    if (!find_median(limit, &median)) {
        return false;
    }
    double sum = 0;
    double total = 0;
    for (int i = 0; i < limit->place_count; i++) {
        double weight = weight_of(limit, &limit->places[i]);
        sum += weight * clip(offset_of(&limit->places[i]) - median, OUTLIER);
        total += weight;
    }
    *ret_centre = median + sum / total;
    return true;
}

// What is left of each shape's offset when the centre is taken out moves its usual time. Over
// known shapes this sums up to nothing, so their level stays where it is.
static void learn_shapes(struct limit *limit, double centre)
{
    for (int i = 0; i < limit->place_count; i++) {
        struct limit_place *place = &limit->places[i];
        struct limit_shape *shape = place->shape;
        if (!is_there(limit, place)) {
            continue;
        }
        double off = offset_of(place) - centre;
        uint32_t seen = shape->seen + (uint32_t)place->count;
        if (shape->seen < FEW) {
            shape->usual += (float)(off * place->count / seen);
        } else {
            shape->usual += (float)(clip(off, OUTLIER) * fmin(place->count, PLACE_COUNTS) /
                                    fmin(seen, SHAPE_MEMORY));
        }
        shape->seen = seen < SHAPE_MEMORY ? seen : SHAPE_MEMORY;
    }
}

// --- the limit ----------------------------------------------------------------------------------

static double goal_of(double work)
{
    return HEADROOM * work + HEADROOM_ROOT * sqrt(work);
}

static void step_towards(struct limit *limit, double goal)
{
    double value = limit->value;
    goal = fmax(value / MOST_STEP, fmin(value * MOST_STEP, goal));
    limit->value = fmax(limit->floor, fmin(limit->cap, value + SMOOTHING * (goal - value)));
}

static void learn_quiet(struct limit *limit, double centre, double in_flight)
{
    if (centre < limit->unloaded || in_flight <= limit->unloaded_in_flight * HEADROOM) {
        limit->unloaded += QUIET_WEIGHT * (centre - limit->unloaded);
    }
    limit->unloaded_in_flight = fmin(limit->unloaded_in_flight, in_flight);
}

static void update(struct limit *limit, double centre)
{
    double in_flight = (double)limit->in_flight / limit->done;
    bool limited = limit->hit || in_flight >= limit->value / 2;
    limit->typical_us = limit->served_us / limit->done;
    limit->now += SMOOTHING * (centre - limit->now);
    if (!limited) {
        learn_quiet(limit, centre, in_flight);
    }
    limit->load = exp(fmax(0, limit->now - limit->unloaded));
    double goal = goal_of((limited ? limit->value : in_flight) / limit->load);
    if (limited || goal < in_flight) {
        step_towards(limit, goal);
    }
}

// --- the probe ----------------------------------------------------------------------------------

// How long a probe may take in which each permit is used so often.
static int64_t probe_time_us(const struct limit *limit, int turns)
{
    int64_t us = turns * limit->typical_us;
    return us < PROBE_LEAST_US ? PROBE_LEAST_US : us > PROBE_MOST_US ? PROBE_MOST_US : us;
}

static void begin_probe(struct limit *limit, int64_t now_us)
{
    limit->state = LIMIT_DRAINS;
    limit->probe_in_flight = fmax(limit->floor / 2.0, PROBE_SHARE * limit->value / limit->load);
    limit->probe_in_flight = fmax(1, limit->probe_in_flight);
    limit->probe_began_us = now_us;
    limit->probe_us = now_us + probe_time_us(limit, PROBE_DRAIN_TURNS);
}

static void end_probe(struct limit *limit, bool soon, int64_t now_us)
{
    int64_t rest_us = PROBE_REST * (now_us - limit->probe_began_us);
    int64_t after_us = soon ? PROBE_SOON_US : PROBE_EVERY_US;
    after_us = after_us > rest_us ? after_us : rest_us;
    limit->state = LIMIT_FREE;
    limit->probe_us = now_us + (int64_t)((double)after_us * (1 + unit_chance(limit) / 2));
}

static void learn_probe(struct limit *limit, double centre, int64_t now_us)
{
    double off = centre - limit->unloaded;
    bool surprise = fabs(off) > SURPRISE;
    limit->probes++;
    double weight = fmax(1.0 / (limit->probes + 1), surprise ? SURPRISE_WEIGHT : PROBE_WEIGHT);
    limit->unloaded += weight * off * fmin(1, (double)limit->done / PROBE_SAMPLES);
    limit->unloaded_in_flight = limit->probe_in_flight;
    end_probe(limit, surprise || limit->probes < PROBES_EARLY, now_us);
}

static void end_window(struct limit *limit, int64_t now_us)
{
    double centre;
    if (!find_centre(limit, &centre)) {
        learn_shapes(limit, 0); // all of them new: what they take now is usual
    } else {
        learn_shapes(limit, centre);
        if (limit->state == LIMIT_PROBES) {
            learn_probe(limit, centre, now_us);
        } else {
            update(limit, centre);
        }
    }
    begin_window(limit, now_us);
}

static bool window_is_over(const struct limit *limit, int64_t now_us)
{
    if (limit->state == LIMIT_PROBES) {
        bool used = limit->done >= PROBE_TURNS * (int)limit->probe_in_flight;
        return (limit->done >= PROBE_SAMPLES && used) || now_us >= limit->probe_us;
    }
    int64_t elapsed_us = now_us - limit->began_us;
    if (elapsed_us < WINDOW_TURNS * limit->typical_us) {
        return false;
    }
    for (size_t i = 0; i < sizeof windows / sizeof windows[0]; i++) {
        if (limit->done >= windows[i].done && elapsed_us >= windows[i].us) {
            return true;
        }
    }
    return false;
}

static void note(struct limit *limit, struct limit_shape *shape, int64_t served_us)
{
    if (shape->window != limit->window) {
        if (limit->place_count == LIMIT_PLACES) {
            return;
        }
        shape->window = limit->window;
        shape->place = (uint32_t)limit->place_count++;
        limit->places[shape->place] = (struct limit_place){.shape = shape};
    }
    struct limit_place *place = &limit->places[shape->place];
    place->count++;
    place->sum += log((double)(served_us > 1 ? served_us : 1));
}

// Moves the probe on. Returns whether the sample counts.
static bool advance_probe(struct limit *limit, const struct limit_sample *sample, int64_t now_us)
{
    switch (limit->state) {
    case LIMIT_FREE:
        break;
    case LIMIT_DRAINS:
        if (sample->in_flight - 1 <= limit_permits(limit, sample->held)) {
            limit->state = LIMIT_PROBES;
            limit->probe_us = now_us + probe_time_us(limit, 2 * PROBE_TURNS);
            begin_window(limit, now_us);
        } else if (now_us >= limit->probe_us) {
            end_probe(limit, true, now_us);
            begin_window(limit, now_us);
        }
        return false;
    case LIMIT_PROBES:
        if (now_us >= limit->probe_us && limit->done < FEW) {
            end_probe(limit, true, now_us);
            begin_window(limit, now_us);
        }
        return sample->sent_us >= limit->began_us;
    }
    return true;
}

void limit_learn(struct limit *limit, struct limit_shape *shape, const struct limit_sample *sample,
                 int64_t now_us)
{
    if (!advance_probe(limit, sample, now_us)) {
        return;
    }
    note(limit, shape, now_us - sample->sent_us);
    limit->served_us += now_us - sample->sent_us;
    limit->in_flight += sample->in_flight;
    limit->hit |= sample->waiting;
    limit->done++;
    if (!window_is_over(limit, now_us)) {
        return;
    }
    bool limited = limit->hit || (double)limit->in_flight / limit->done >= limit->value / 2;
    end_window(limit, now_us);
    bool adapts = limit->floor < limit->cap;
    if (adapts && limit->state == LIMIT_FREE && limited && now_us >= limit->probe_us) {
        begin_probe(limit, now_us);
    }
}

int limit_permits(const struct limit *limit, int held)
{
    int value = limit_value(limit);
    if (limit->state == LIMIT_FREE) {
        return value;
    }
    int probe = (int)fmax(limit->probe_in_flight, held + 1);
    return probe < value ? probe : value;
}

int limit_value(const struct limit *limit)
{
    return (int)lround(limit->value);
}

bool limit_probes(const struct limit *limit)
{
    return limit->state != LIMIT_FREE;
}

double limit_slowness(const struct limit *limit)
{
    return limit->load;
}
