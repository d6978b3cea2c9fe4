// SPDX-License-Identifier: Apache-2.0

#include "proxy/selection.h"

#include <assert.h>

#include "wire/bson_view.h"

#define CANDIDATES_MAX 256

struct candidates {
    size_t count;
    const struct server_info *list[CANDIDATES_MAX];
};

// --- what a command wants -----------------------------------------------------------------------

static bool is_for_the_primary(const struct command *command)
{
    return (command->info->traits & (COMMAND_WRITE | COMMAND_ON_PRIMARY)) || command->writes_out ||
           command->in_transaction;
}

static void read_option(const struct bson_element *element, struct selection *selection)
{
    int64_t seconds;
    if (bytes_equal(element->key, "tags") && element->type == BSON_VIEW_ARRAY) {
        selection->tag_sets = element->value;
    } else if (bytes_equal(element->key, "maxStalenessSeconds") &&
               bson_element_i64(element, &seconds)) {
        selection->max_staleness_s = seconds;
    }
}

void selection_read(const struct command *command, struct selection *ret_selection)
{
    *ret_selection = (struct selection){.max_staleness_s = -1};
    if (is_for_the_primary(command) || command->read_mode == READ_PRIMARY) {
        return;
    }
    ret_selection->mode = command->read_mode;
    struct bson_walk walk;
    struct bson_element element;
    if (!bson_walk_begin(&walk, command->read_preference)) {
        return;
    }
    while (bson_walk_next(&walk, &element) == BSON_WALK_ELEMENT) {
        read_option(&element, ret_selection);
    }
}

// --- tags ---------------------------------------------------------------------------------------

static bool has_tag(const struct server_info *info, const struct bson_element *wanted)
{
    struct bytes tags = {info->tags, (size_t)load_i32(info->tags)};
    struct bson_walk walk;
    struct bson_element tag;
    struct bytes wanted_text;
    struct bytes text;
    if (tags.len == 0 || !bson_element_text(wanted, &wanted_text) ||
        !bson_walk_begin(&walk, tags)) {
        return false;
    }
    while (bson_walk_next(&walk, &tag) == BSON_WALK_ELEMENT) {
        if (bytes_same(tag.key, wanted->key)) {
            return bson_element_text(&tag, &text) && bytes_same(text, wanted_text);
        }
    }
    return false;
}

// An empty set suits every server.
static bool has_tags(const struct server_info *info, struct bytes set)
{
    struct bson_walk walk;
    struct bson_element tag;
    if (!bson_walk_begin(&walk, set)) {
        return false;
    }
    while (bson_walk_next(&walk, &tag) == BSON_WALK_ELEMENT) {
        if (!has_tag(info, &tag)) {
            return false;
        }
    }
    return true;
}

static void keep_tagged(struct candidates *candidates, struct bytes set)
{
    size_t kept = 0;
    for (size_t i = 0; i < candidates->count; i++) {
        if (has_tags(candidates->list[i], set)) {
            candidates->list[kept++] = candidates->list[i];
        }
    }
    candidates->count = kept;
}

// The first of the sets that suits anybody counts.
static void filter_by_tags(struct candidates *candidates, struct bytes sets)
{
    struct bson_walk walk;
    struct bson_element set;
    if (sets.len <= BSON_VIEW_MIN_BYTES || !bson_walk_begin(&walk, sets)) {
        return;
    }
    const struct candidates all = *candidates;
    while (bson_walk_next(&walk, &set) == BSON_WALK_ELEMENT) {
        *candidates = all;
        candidates->count = set.type == BSON_VIEW_DOCUMENT ? candidates->count : 0;
        keep_tagged(candidates, set.value);
        if (candidates->count > 0) {
            return;
        }
    }
    candidates->count = 0;
}

// --- who suits ----------------------------------------------------------------------------------

static bool is_at_hand(const struct server_info *info, const struct selection *selection,
                       bool failing_too)
{
    const struct server_pulse *pulse = info->pulse;
    bool doubted =
        atomic_load_explicit(&pulse->doubted_until_us, memory_order_relaxed) > selection->now_us;
    bool failing =
        atomic_load_explicit(&pulse->failing, memory_order_relaxed) ||
        atomic_load_explicit(&pulse->tripped_until_us, memory_order_relaxed) > selection->now_us;
    return server_is_usable(info) && !doubted && (failing_too || !failing);
}

// Of what is direct nobody chose that it be fresh.
static bool is_fresh(const struct server_info *info, const struct selection *selection)
{
    return selection->max_staleness_s < 0 || info->is_direct || info->kind != SERVER_SECONDARY ||
           atomic_load_explicit(&info->pulse->staleness_ms, memory_order_relaxed) <=
               selection->max_staleness_s * 1000;
}

// All that suit and are of one of these kinds (a bit each).
static void gather(const struct topology *topology, const struct selection *selection,
                   unsigned kinds, bool failing_too, struct candidates *ret_candidates)
{
    ret_candidates->count = 0;
    for (size_t i = 0; i < topology->server_count && ret_candidates->count < CANDIDATES_MAX; i++) {
        const struct server_info *info = &topology->servers[i];
        bool fits = info->is_direct || (kinds & 1u << info->kind);
        if (fits && is_at_hand(info, selection, failing_too) && is_fresh(info, selection)) {
            ret_candidates->list[ret_candidates->count++] = info;
        }
    }
}

// Who leads to all data by itself; to them a read preference is passed on.
#define WHOLE (1u << SERVER_STANDALONE | 1u << SERVER_MONGOS | 1u << SERVER_LOAD_BALANCER)
#define PRIMARY (WHOLE | 1u << SERVER_PRIMARY)
#define SECONDARY (WHOLE | 1u << SERVER_SECONDARY)
#define ANY (WHOLE | 1u << SERVER_PRIMARY | 1u << SERVER_SECONDARY)

// Only members of a replica set are told apart by tags.
static bool gather_tagged(const struct topology *topology, const struct selection *selection,
                          unsigned kinds, bool failing_too, struct candidates *ret_candidates)
{
    gather(topology, selection, kinds, failing_too, ret_candidates);
    const struct server_info *first = ret_candidates->count > 0 ? ret_candidates->list[0] : NULL;
    if (first && !first->is_direct && !(WHOLE & 1u << first->kind)) {
        filter_by_tags(ret_candidates, selection->tag_sets);
    }
    return ret_candidates->count > 0;
}

static bool gather_by_mode(const struct topology *topology, const struct selection *selection,
                           bool failing_too, struct candidates *ret_candidates)
{
    enum read_mode mode = selection->mode;
    bool primary_first = mode == READ_PRIMARY || mode == READ_PRIMARY_PREFERRED;
    if (primary_first) {
        gather(topology, selection, PRIMARY, failing_too, ret_candidates);
        if (ret_candidates->count > 0 || mode == READ_PRIMARY) {
            return ret_candidates->count > 0;
        }
    }
    unsigned kinds = mode == READ_NEAREST ? ANY : SECONDARY;
    if (gather_tagged(topology, selection, kinds, failing_too, ret_candidates)) {
        return true;
    }
    if (mode == READ_SECONDARY_PREFERRED) {
        gather(topology, selection, PRIMARY, failing_too, ret_candidates);
    }
    return ret_candidates->count > 0;
}

static void keep_others_than(struct candidates *candidates, uint32_t avoid)
{
    size_t kept = 0;
    for (size_t i = 0; i < candidates->count; i++) {
        if (candidates->list[i]->id != avoid) {
            candidates->list[kept++] = candidates->list[i];
        }
    }
    candidates->count = kept > 0 ? kept : candidates->count; // none other: it again
}

// --- one of them --------------------------------------------------------------------------------

static int64_t rtt_us(const struct server_info *info)
{
    return atomic_load_explicit(&info->pulse->rtt_us, memory_order_relaxed);
}

static void keep_near(struct candidates *candidates, int64_t window_us)
{
    int64_t least_us = INT64_MAX;
    for (size_t i = 0; i < candidates->count; i++) {
        int64_t this_us = rtt_us(candidates->list[i]);
        least_us = this_us < least_us ? this_us : least_us;
    }
    size_t kept = 0;
    for (size_t i = 0; i < candidates->count; i++) {
        if (rtt_us(candidates->list[i]) - least_us <= window_us) {
            candidates->list[kept++] = candidates->list[i];
        }
    }
    candidates->count = kept;
}

static const struct server_info *less_busy_of_two(const struct candidates *candidates,
                                                  const double random[2])
{
    assert(candidates->count > 0);
    size_t first = (size_t)(random[0] * (double)candidates->count);
    size_t step = 1 + (size_t)(random[1] * (double)(candidates->count - 1));
    const struct server_info *a = candidates->list[first];
    const struct server_info *b = candidates->list[(first + step) % candidates->count];
    int in_flight_a = atomic_load_explicit(&a->pulse->in_flight, memory_order_relaxed);
    int in_flight_b = atomic_load_explicit(&b->pulse->in_flight, memory_order_relaxed);
    return in_flight_b < in_flight_a ? b : a;
}

const struct server_info *selection_choose(const struct topology *topology,
                                           const struct selection *selection)
{
    struct candidates candidates;
    if (!gather_by_mode(topology, selection, false, &candidates) &&
        !gather_by_mode(topology, selection, true, &candidates)) {
        return NULL;
    }
    if (candidates.count == 1) {
        return candidates.list[0];
    }
    if (selection->avoid) {
        keep_others_than(&candidates, selection->avoid);
    }
    keep_near(&candidates, selection->window_us);
    return less_busy_of_two(&candidates, selection->random);
}
