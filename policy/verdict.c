// SPDX-License-Identifier: Apache-2.0
//
// Scores are products of what speaks for a cause and what does not speak for another one. Each
// number of evidence is made a score by `rise`: 0 up to what is ordinary, 1 from what is plain.
// Slowness may be the effect of something else: what is seen directly takes `EXPLAINED` off it.

#include "policy/verdict.h"

#include <math.h>

#define BEFORE_US INT64_C(600000000)
#define MARGIN_US INT64_C(2000000) // before the begin: what led to it
#define ONSET_US INT64_C(3000000)  // after it
#define EARLY_US INT64_C(1000000)
#define LATELY_US INT64_C(15000000)
#define LEAST_RATE 1.0 // a second, that growth is measured against
#define EXPLAINED 0.3
#define FEW 5          // requests from which a mean says something
#define LEAST_BEFORE 3 // seconds from which it is known what is usual

const char *cause_text(enum cause cause)
{
    static const char *const texts[] = {
#define X(name, text) [name] = (text),
        CAUSES(X)
#undef X
    };
    return texts[cause];
}

static double rise(double value, double ordinary, double plain)
{
    double part = (value - ordinary) / (plain - ordinary);
    return part < 0 ? 0 : part > 1 ? 1 : part;
}

static double a_second(double count, const struct recorder_span *span)
{
    return span->seconds > 0 ? count / span->seconds : 0;
}

// Against what was usual, of which there may have been nothing.
static double growth(double now, double usual)
{
    return now / fmax(usual, LEAST_RATE);
}

static double part_of(const struct recorder_sum_share *share, const struct recorder_span *span)
{
    return share && span->held_ms > 0 ? (double)share->held_ms / (double)span->held_ms : 0;
}

// --- what was different -------------------------------------------------------------------------

static const struct recorder_sum_share *shape_before(const struct verdict *verdict, uint64_t id)
{
    return recorder_find(verdict->before.shapes, verdict->before.shape_count, id);
}

static void find_shape(struct verdict *verdict)
{
    double most = -1;
    for (int i = 0; i < verdict->during.shape_count; i++) {
        const struct recorder_sum_share *share = &verdict->during.shapes[i];
        const struct recorder_sum_share *before = shape_before(verdict, share->id);
        double part_before = part_of(before, &verdict->before);
        double part_during = part_of(share, &verdict->during);
        if (part_during - part_before > most) {
            most = part_during - part_before;
            verdict->shape = share->id;
            verdict->part_during = part_during;
            verdict->mean_during = recorder_mean(share, &verdict->during);
            verdict->mean_so_far = share->done == 0;
        }
    }
}

static void take_majority(const struct gate_majority *majority, struct verdict *verdict)
{
    verdict->shape = majority->shape;
    verdict->part_during = majority->part;
    verdict->mean_during = (double)majority->held_us / 1e6;
    verdict->mean_so_far = true;
}

static void compare_shape(struct verdict *verdict)
{
    const struct recorder_sum_share *before = shape_before(verdict, verdict->shape);
    verdict->part_before = part_of(before, &verdict->before);
    verdict->mean_before = recorder_mean(before, &verdict->before);
}

static void find_tenant(struct verdict *verdict)
{
    double most = -INFINITY;
    for (int i = 0; i < verdict->onset.tenant_count; i++) {
        const struct recorder_sum_share *share = &verdict->onset.tenants[i];
        const struct recorder_sum_share *before =
            recorder_find(verdict->before.tenants, verdict->before.tenant_count, share->id);
        double rate_before = before ? a_second((double)before->arrived, &verdict->before) : 0;
        double rate_onset = a_second((double)share->arrived, &verdict->onset);
        if (rate_onset - rate_before > most) {
            most = rate_onset - rate_before;
            verdict->tenant = share->id;
            verdict->rate_before = rate_before;
            verdict->rate_onset = rate_onset;
        }
    }
}

// How many times as long a shape's requests hold now; what that counts for, by what they held.
struct slower {
    double ratio;
    double weight;
};

// The lower quartile of those in order, none of which counts for more than all others together: one
// of two is not most, and one alone is nobody else.
static double lower_quartile(struct slower *list, int count)
{
    double all = 0;
    double below = 0;
    int heaviest = 0;
    for (int i = 0; i < count; i++) {
        all += list[i].weight;
        heaviest = list[i].weight > list[heaviest].weight ? i : heaviest;
    }
    if (count < 2) {
        return 1;
    }
    double others = all - list[heaviest].weight;
    list[heaviest].weight = fmin(list[heaviest].weight, others);
    all = others + list[heaviest].weight;
    int at = 0;
    for (; at < count - 1 && (below += list[at].weight) < all / 4; at++) {
    }
    return list[at].ratio;
}

// Over the shapes that were there before and are now.
static void find_slowdown(struct verdict *verdict)
{
    struct slower list[RECORDER_SUMMED];
    int count = 0;
    for (int i = 0; i < verdict->during.shape_count; i++) {
        const struct recorder_sum_share *share = &verdict->during.shapes[i];
        const struct recorder_sum_share *before = shape_before(verdict, share->id);
        if (!before || before->done < FEW || share->arrived == 0) {
            continue;
        }
        double usual = recorder_mean(before, &verdict->before);
        double ratio = recorder_mean(share, &verdict->during) / fmax(usual, 1e-6);
        int at = count++;
        for (; at > 0 && list[at - 1].ratio > ratio; at--) {
            list[at] = list[at - 1];
        }
        list[at] = (struct slower){ratio, (double)before->held_ms + 1};
    }
    verdict->slowdown = lower_quartile(list, count);
}

// How alike the shapes' parts are before and during: 1 means the same, 0 others altogether.
static double alikeness(const struct verdict *verdict)
{
    double common = 0;
    for (int i = 0; i < verdict->during.shape_count; i++) {
        const struct recorder_sum_share *share = &verdict->during.shapes[i];
        common += fmin(part_of(share, &verdict->during),
                       part_of(shape_before(verdict, share->id), &verdict->before));
    }
    return common;
}

// --- scores -------------------------------------------------------------------------------------

// It holds far more of the connections than before, or all that there are, because it is slow and
// not because more of everything comes.
static double score_slow_shape(const struct verdict *verdict)
{
    double more = rise(verdict->part_during - verdict->part_before, 0.1, 0.4);
    double slower =
        verdict->mean_before > 0
            ? rise(verdict->mean_during / verdict->mean_before / fmax(1, verdict->slowdown), 1.2, 3)
            : 0; // a new one is slow if it takes long, not because it is new
    double slow = rise(verdict->mean_during / fmax(1, verdict->slowdown), 0.02, 0.1);
    double all = rise(verdict->part_during, 0.8, 0.95);
    return fmax(more * fmax(slower, slow), all * slower * slow);
}

// The requests that came in the onset were far more than usual, and more than new connections
// explain.
static double score_spike(const struct verdict *verdict)
{
    double usual = a_second((double)verdict->before.arrived, &verdict->before);
    double onset = a_second((double)verdict->onset.arrived, &verdict->onset);
    double all = growth(onset, usual);
    double crowd = growth(verdict->onset.clients, verdict->before.clients);
    double own = growth(verdict->rate_onset, verdict->rate_before);
    if (!verdict->usual_known) {
        return 0;
    }
    return rise(all, 1.3, 2) * rise(own, 1.3, 2) * rise(all / fmax(1, crowd), 1.1, 1.8);
}

static double score_leak(const struct verdict *verdict)
{
    const struct recorder_span *onset = &verdict->onset; // of one that has just begun it is all
    const struct recorder_span *during = &verdict->during;
    double pins = during->refused > 0 ? (double)during->refused_pins / (double)during->refused : 0;
    double waits = rise(verdict->part_during - verdict->part_before, 0.1, 0.3) *
                   rise(verdict->mean_during / fmax(verdict->mean_before, 1e-6), 1.5, 3);
    bool left = during->most_transactions_idle > 0 || onset->most_transactions_idle > 0;
    double idle = fmax(during->most_cursors_idle, onset->most_cursors_idle);
    double cursors = onset->cap > 0 ? rise(idle / onset->cap, 0.25, 2) * 0.4 : 0;
    return fmax(pins, fmax(left ? 0.95 * waits : 0, cursors));
}

// There are more connections of apps than permits, the limit was reached before as well or their
// number has grown, and each asks for no more than before.
static double score_pools(const struct verdict *verdict)
{
    const struct recorder_span *before = &verdict->before;
    const struct recorder_span *onset = &verdict->onset;
    double over = onset->limit > 0 ? rise(onset->clients / fmax(1, onset->cap), 1, 3) : 0;
    double chronic = rise(verdict->full_before, 0.1, 0.5);
    double crowd = growth(onset->clients, before->clients);
    double usual = a_second((double)before->arrived, before);
    double each = growth(a_second((double)onset->arrived, onset), usual) / fmax(1, crowd);
    return 0.9 * over * fmax(chronic, rise(crowd, 1.2, 2)) * (1 - rise(each, 1.3, 2));
}

// All shapes alike take longer, though no more is asked.
static double score_slow_server(const struct verdict *verdict)
{
    double usual = a_second((double)verdict->before.arrived, &verdict->before);
    double onset = a_second((double)verdict->onset.arrived, &verdict->onset);
    return rise(verdict->slowdown, 1.2, 2.5) * rise(alikeness(verdict), 0.4, 0.75) *
           (1 - rise(growth(onset, usual), 1.3, 2));
}

static double score_member_lost(const struct verdict *verdict)
{
    double lost = (double)(verdict->onset.lost + verdict->during.lost);
    return fmax(rise(verdict->away, 0, 1), 0.5 * rise(lost, 2, fmax(4, verdict->during.cap / 2)));
}

// Connections cannot be opened although the cap allows it and the server is there.
static double score_server_full(const struct verdict *verdict)
{
    const struct recorder_span *during = &verdict->during;
    double failures = (double)(during->open_failures + verdict->onset.open_failures);
    double tries = failures + (double)(during->opened + verdict->onset.opened);
    double there = 1 - rise(verdict->away, 0, 1);
    return tries > 0 ? 0.97 * rise(failures, 1, 4) * rise(failures / tries, 0.1, 0.5) * there : 0;
}

// Connections come in numbers that have nothing to do with the requests on them.
static double score_storm(const struct verdict *verdict)
{
    const struct recorder_span *onset = &verdict->onset;
    double usual = a_second((double)verdict->before.accepted, &verdict->before);
    double rate = a_second((double)onset->accepted, onset);
    double each = (double)onset->accepted / fmax(1, (double)onset->arrived);
    return rise(growth(rate, usual), 3, 10) * rise(rate, 10, 50) * rise(each, 0.2, 0.5);
}

// A transaction's lock makes others' writes slow, a server without connections everything; and what
// was in flight when a server went held its permit for as long as nobody knew. While one slow shape
// holds nearly all there is, it does not matter how much else is asked; and what a server did not
// take is asked again.
static void explain(struct verdict *verdict)
{
    double *scores = verdict->scores;
    double seen =
        fmax(fmax(scores[CAUSE_LEAK], scores[CAUSE_MEMBER_LOST]), scores[CAUSE_SERVER_FULL]);
    scores[CAUSE_SLOW_SHAPE] *= 1 - EXPLAINED * seen;
    scores[CAUSE_SLOW_SERVER] *= 1 - EXPLAINED * seen;
    scores[CAUSE_SPIKE] *=
        1 - EXPLAINED * fmax(scores[CAUSE_SERVER_FULL],
                             scores[CAUSE_SLOW_SHAPE] * rise(verdict->part_during, 0.8, 0.95));
}

// What rates and times say is not said then.
static void doubt(const struct gate_majority *majority, double scores[CAUSE_COUNT])
{
    scores[CAUSE_SPIKE] = 0;
    scores[CAUSE_POOLS] = 0;
    scores[CAUSE_SLOW_SERVER] = 0;
    scores[CAUSE_SLOW_SHAPE] *= rise(majority->part, 0.6, 0.9);
}

static void put_in_order(struct verdict *verdict)
{
    for (int i = 0; i < CAUSE_COUNT; i++) {
        int at = i;
        for (; at > 0 && verdict->scores[verdict->order[at - 1]] < verdict->scores[i]; at--) {
            verdict->order[at] = verdict->order[at - 1];
        }
        verdict->order[at] = (enum cause)i;
    }
}

// An exhaustion is not what is usual: one that comes again would not stand out against itself. If
// there was nothing else, it is.
static void look_before(const struct recorder *recorder, int64_t begun_us, struct verdict *verdict)
{
    struct recorder_span all;
    recorder_sum(recorder, begun_us - BEFORE_US, begun_us - MARGIN_US, &all);
    recorder_sum_calm(recorder, begun_us - BEFORE_US, begun_us - MARGIN_US, &verdict->before);
    if (verdict->before.seconds < LEAST_BEFORE) {
        verdict->before = all;
    }
    verdict->usual_known = verdict->before.seconds >= LEAST_BEFORE;
    verdict->full_before = all.seconds > 0 ? all.full / all.seconds : 0;
}

void verdict_find(const struct recorder *recorder, const struct gate_majority *majority,
                  int64_t begun_us, int64_t until_us, struct verdict *ret_verdict)
{
    static double (*const scores[CAUSE_COUNT])(const struct verdict *verdict) = {
        [CAUSE_SLOW_SHAPE] = score_slow_shape,
        [CAUSE_SPIKE] = score_spike,
        [CAUSE_LEAK] = score_leak,
        [CAUSE_POOLS] = score_pools,
        [CAUSE_SLOW_SERVER] = score_slow_server,
        [CAUSE_MEMBER_LOST] = score_member_lost,
        [CAUSE_SERVER_FULL] = score_server_full,
        [CAUSE_STORM] = score_storm,
    };
    *ret_verdict = (struct verdict){0};
    ret_verdict->is_early = until_us < begun_us + EARLY_US;
    look_before(recorder, begun_us, ret_verdict);
    recorder_sum(recorder, begun_us - MARGIN_US, begun_us + ONSET_US, &ret_verdict->onset);
    if (until_us < begun_us + ONSET_US) { // one refusal is over at once, and has seconds around it
        until_us = begun_us + ONSET_US;
    }
    recorder_sum(recorder, begun_us, until_us, &ret_verdict->during);
    struct recorder_span lately;
    recorder_sum(recorder, begun_us - LATELY_US, until_us, &lately);
    ret_verdict->away = lately.away;
    if (ret_verdict->is_early && majority->shape != 0) {
        take_majority(majority, ret_verdict);
    } else {
        find_shape(ret_verdict);
    }
    compare_shape(ret_verdict);
    find_tenant(ret_verdict);
    find_slowdown(ret_verdict);
    if (ret_verdict->is_early) {
        ret_verdict->slowdown = fmax(ret_verdict->slowdown, majority->slowness);
    }
    for (int i = 0; i < CAUSE_COUNT; i++) {
        ret_verdict->scores[i] = scores[i](ret_verdict);
    }
    if (ret_verdict->is_early) {
        doubt(majority, ret_verdict->scores);
    }
    explain(ret_verdict);
    put_in_order(ret_verdict);
}
