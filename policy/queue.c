// SPDX-License-Identifier: Apache-2.0

#include "policy/queue.h"

#include <assert.h>
#include <stdlib.h>

#include "policy/defect.h"
#include "policy/hash.h"
#include "policy/memory.h"
#include "policy/ticket_list.h"

#define VIRTUAL 64       // units of virtual time in a microsecond of weight 1
#define FIRST_BITS 6     // of the table
#define ENTRY_US 10000   // a priority that comes anew begins so much behind, for its weight
#define SWEPT 2          // of those away, at each change
#define LOOKED_AT 256    // of a tenant's tickets, at most
#define STANDING_PACES 2 // in a standing queue one may wait for this many permits at least

// Each has ten times what the next has, while all of them wait: so the low never starve.
static const int class_weights[PRIORITY_COUNT] = {
    [PRIORITY_HIGH] = 100,
    [PRIORITY_NORMAL] = 10,
    [PRIORITY_LOW] = 1,
};

// What a tenant has in one queue at one priority.
struct flow {
    struct flow *chained; // in its slot of the table
    struct flow *older;   // among those away
    struct flow *newer;
    struct queue *queue;
    uint64_t tenant;
    struct rank had;
    struct rank fewness; // the key is its tickets' number, negative
    struct ticket_list tickets;
    int64_t overrun_us; // since when its queue stands; INT64_MAX: it does not
    int64_t away_us;
    int in_flight;
    int weight;
    enum priority priority;
};

static int64_t later(int64_t a_us, int64_t b_us)
{
    return a_us > b_us ? a_us : b_us;
}

static int64_t virtual_time(int64_t us, int weight)
{
    return us * VIRTUAL / weight;
}

// --- the table ----------------------------------------------------------------------------------

static struct flow **slot_of(const struct queue *queue, uint64_t tenant, enum priority priority)
{
    return &queue->table[hash_slot(tenant + (uint64_t)priority, queue->bits)];
}

static struct flow *find(const struct queue *queue, const struct ticket *ticket)
{
    struct flow *flow = *slot_of(queue, ticket->tenant, ticket->priority);
    while (flow && (flow->tenant != ticket->tenant || flow->priority != ticket->priority)) {
        flow = flow->chained;
    }
    return flow;
}

static void chain(struct queue *queue, struct flow *flow)
{
    struct flow **slot = slot_of(queue, flow->tenant, flow->priority);
    flow->chained = *slot;
    *slot = flow;
}

static void grow(struct queue *queue)
{
    struct flow **table = queue->table;
    size_t slots = (size_t)1 << queue->bits;
    queue->bits++;
    queue->table = memory_new(2 * slots, sizeof(struct flow *));
    for (size_t i = 0; i < slots; i++) {
        struct flow *next;
        for (struct flow *flow = table[i]; flow; flow = next) {
            next = flow->chained;
            chain(queue, flow);
        }
    }
    free(table);
}

static struct flow *add_flow(struct queue *queue, const struct ticket *ticket)
{
    if (queue->flows >= (size_t)1 << queue->bits) {
        grow(queue);
    }
    struct flow *flow = memory_new(1, sizeof(*flow));
    flow->queue = queue;
    flow->tenant = ticket->tenant;
    flow->priority = ticket->priority;
    chain(queue, flow);
    queue->flows++;
    return flow;
}

static void forget(struct queue *queue, struct flow *flow)
{
    struct flow **link = slot_of(queue, flow->tenant, flow->priority);
    while (*link != flow) {
        link = &(*link)->chained;
    }
    *link = flow->chained;
    queue->flows--;
    free(flow);
}

// --- those away ---------------------------------------------------------------------------------

static bool owes(const struct flow *flow)
{
    return flow->had.key > flow->queue->classes[flow->priority].present;
}

static bool is_away(const struct flow *flow)
{
    return flow->tickets.count == 0 && flow->in_flight == 0;
}

static void go_away(struct flow *flow, int64_t now_us)
{
    struct queue *queue = flow->queue;
    flow->away_us = now_us;
    flow->newer = NULL;
    flow->older = queue->away_newest;
    *(flow->older ? &flow->older->newer : &queue->away_oldest) = flow;
    queue->away_newest = flow;
}

static void come_back(struct flow *flow)
{
    struct queue *queue = flow->queue;
    *(flow->older ? &flow->older->newer : &queue->away_oldest) = flow->newer;
    *(flow->newer ? &flow->newer->older : &queue->away_newest) = flow->older;
}

// Forgets some of those away, so that no call has many to forget.
static void sweep(struct queue *queue, int64_t now_us)
{
    for (int i = 0; i < SWEPT; i++) {
        struct flow *flow = queue->away_oldest;
        if (!flow || (owes(flow) && now_us - flow->away_us < QUEUE_LAPSE_US)) {
            return;
        }
        come_back(flow);
        forget(queue, flow);
    }
}

// Of a flow that may have nothing left.
static void let_rest(struct flow *flow, int64_t now_us)
{
    if (!is_away(flow)) {
        return;
    }
    if (owes(flow)) {
        go_away(flow, now_us);
    } else {
        forget(flow->queue, flow);
    }
}

// --- in and out ---------------------------------------------------------------------------------

void queue_init(struct queue *queue, const struct gate_limits *limits, bool spread)
{
    *queue = (struct queue){.limits = limits, .spread = spread, .bits = FIRST_BITS};
    queue->table = memory_new((size_t)1 << FIRST_BITS, sizeof(struct flow *));
}

void queue_fini(struct queue *queue)
{
    assert(queue->count == 0);
    while (queue->away_oldest) {
        struct flow *flow = queue->away_oldest;
        come_back(flow);
        forget(queue, flow);
    }
    assert(queue->flows == 0);
    for (int i = 0; i < PRIORITY_COUNT; i++) {
        ranks_fini(&queue->classes[i].by_had);
        ranks_fini(&queue->classes[i].by_count);
    }
    free(queue->table);
}

// A hair later than who came before, so that newcomers go in the order in which they came.
static void begin_to_wait(struct class *class, struct flow *flow)
{
    flow->overrun_us = INT64_MAX;
    flow->had.key = later(flow->had.key, class->present++);
    flow->fewness.key = 0;
    ranks_add(&class->by_had, &flow->had);
    ranks_add(&class->by_count, &flow->fewness);
}

// Who had no server for longer: it has been here before, or waited for one elsewhere.
static bool goes_before(const struct ticket *ticket, const struct ticket *other)
{
    return ticket->serverless_us > 0 && !DEFECT(LOST_PLACE) &&
           (other->serverless_us == 0 || ticket->serverless_us < other->serverless_us);
}

// All those who wait for a server leave at once to look for one, and come back in any order, among
// others who have only just come.
static void line_up(struct ticket_list *tickets, struct ticket *ticket)
{
    struct ticket *next = NULL;
    struct ticket *prev = tickets->last;
    for (int seen = 0; prev && goes_before(ticket, prev) && seen < LOOKED_AT; seen++) {
        next = prev;
        prev = prev->prev;
    }
    ticket_list_insert(tickets, ticket, next);
}

void queue_add(struct queue *queue, struct ticket *ticket, int64_t now_us)
{
    struct class *class = &queue->classes[ticket->priority];
    sweep(queue, now_us);
    struct flow *flow = find(queue, ticket);
    if (!flow) {
        flow = add_flow(queue, ticket);
    } else if (is_away(flow)) {
        come_back(flow);
    }
    if (class->count == 0) {
        int64_t entry = virtual_time(ENTRY_US, class_weights[ticket->priority]);
        class->had = later(class->had, queue->present + entry);
    }
    if (flow->tickets.count == 0) {
        begin_to_wait(class, flow);
    }
    ticket->flow = flow;
    flow->weight = ticket->weight;
    line_up(&flow->tickets, ticket);
    ranks_change(&class->by_count, &flow->fewness, -(int64_t)flow->tickets.count);
    class->count++;
    queue->count++;
}

static void take_out(struct queue *queue, struct ticket *ticket)
{
    struct flow *flow = ticket->flow;
    struct class *class = &queue->classes[flow->priority];
    assert(flow->queue == queue);
    ticket_list_remove(&flow->tickets, ticket);
    class->count--;
    queue->count--;
    if (flow->tickets.count == 0) {
        ranks_remove(&class->by_had, &flow->had);
        ranks_remove(&class->by_count, &flow->fewness);
    } else {
        ranks_change(&class->by_count, &flow->fewness, -(int64_t)flow->tickets.count);
    }
}

void queue_remove(struct queue *queue, struct ticket *ticket, int64_t now_us)
{
    struct flow *flow = ticket->flow;
    int64_t waited_us = now_us - later(ticket->asked_us, queue->since_us);
    bool in_vain = waited_us >= queue->limits->max_wait_us;
    if (in_vain && flow->overrun_us == INT64_MAX) {
        flow->overrun_us = now_us;
    }
    take_out(queue, ticket);
    let_rest(flow, now_us);
    ticket->flow = NULL;
}

// --- order --------------------------------------------------------------------------------------

static bool stands(const struct flow *flow)
{
    return flow->overrun_us != INT64_MAX && flow->overrun_us > flow->queue->since_us;
}

static const struct class *next_class(const struct queue *queue)
{
    const struct class *next = NULL;
    for (int i = 0; i < PRIORITY_COUNT; i++) {
        const struct class *class = &queue->classes[i];
        if (class->count > 0 && (!next || class->had < next->had)) {
            next = class;
        }
    }
    return next;
}

// The first of the shape that holds least of the lane. So a shape of 5 s cannot shut out one that
// was only taken for slow while the server stalled: that one comes to show within a few requests
// that it is fast.
static struct ticket *least_holding(struct ticket *ticket, bool latest)
{
    struct ticket *least = ticket;
    for (int seen = 0; ticket && least->shape->slow_in_flight > 0 && seen < LOOKED_AT; seen++) {
        if (ticket->shape->slow_in_flight < least->shape->slow_in_flight) {
            least = ticket;
        }
        ticket = latest ? ticket->prev : ticket->next;
    }
    return least;
}

struct ticket *queue_next(const struct queue *queue)
{
    const struct class *class = next_class(queue);
    if (!class) {
        return NULL;
    }
    const struct flow *flow = RANKED(ranks_first(&class->by_had), struct flow, had);
    bool latest = stands(flow);
    struct ticket *ticket = latest ? flow->tickets.last : flow->tickets.first;
    return queue->spread ? least_holding(ticket, latest) : ticket;
}

// --- what they have had -------------------------------------------------------------------------

void queue_grant(struct queue *queue, struct ticket *ticket, int64_t cost_us, int64_t now_us)
{
    struct flow *flow = ticket->flow;
    struct class *class = &queue->classes[flow->priority];
    class->present = later(class->present, flow->had.key);
    queue->present = later(queue->present, class->had);
    class->had += virtual_time(cost_us, class_weights[flow->priority]);
    ranks_change(&class->by_had, &flow->had, flow->had.key + virtual_time(cost_us, flow->weight));
    ticket->charged_us = cost_us;
    flow->in_flight++;
    take_out(queue, ticket);
    sweep(queue, now_us);
}

void queue_settle(struct ticket *ticket, int64_t cost_us, int64_t now_us)
{
    struct flow *flow = ticket->flow;
    if (!flow) {
        return;
    }
    struct class *class = &flow->queue->classes[flow->priority];
    int64_t had = flow->had.key + virtual_time(cost_us - ticket->charged_us, flow->weight);
    if (flow->tickets.count > 0) {
        ranks_change(&class->by_had, &flow->had, had);
    }
    flow->had.key = had;
    flow->in_flight--;
    ticket->flow = NULL;
    let_rest(flow, now_us);
}

// --- bounds -------------------------------------------------------------------------------------

static const struct flow *waiting_flow(const struct queue *queue, const struct ticket *newcomer)
{
    const struct flow *flow = queue->count > 0 ? find(queue, newcomer) : NULL;
    return flow && flow->tickets.count > 0 ? flow : NULL;
}

int64_t queue_patience_us(const struct queue *queue, const struct ticket *newcomer, int64_t pace_us,
                          int64_t now_us)
{
    const struct flow *flow = waiting_flow(queue, newcomer);
    int64_t most_us = queue->limits->max_wait_us;
    if (!flow || most_us == 0 || !stands(flow)) {
        return most_us;
    }
    int64_t shorter_us = most_us / (1 + (now_us - flow->overrun_us) / most_us);
    shorter_us = later(shorter_us, later(QUEUE_TARGET_US, STANDING_PACES * pace_us));
    return shorter_us < most_us ? shorter_us : most_us;
}

size_t queue_ahead_of(const struct queue *queue, const struct ticket *newcomer)
{
    const struct flow *flow = waiting_flow(queue, newcomer);
    return flow && !stands(flow) ? flow->tickets.count : 0;
}

struct ticket *queue_last(const struct queue *queue)
{
    static const enum priority lowest_first[] = {PRIORITY_LOW, PRIORITY_NORMAL, PRIORITY_HIGH};
    for (size_t i = 0; i < PRIORITY_COUNT; i++) {
        const struct rank *most = ranks_first(&queue->classes[lowest_first[i]].by_count);
        if (most) {
            const struct flow *flow = RANKED(most, const struct flow, fewness);
            return stands(flow) ? flow->tickets.first : flow->tickets.last;
        }
    }
    return NULL;
}

bool queue_matters_less(const struct ticket *last, const struct ticket *other)
{
    if (last->priority != other->priority) {
        return class_weights[last->priority] < class_weights[other->priority];
    }
    return last->flow->tickets.count > other->flow->tickets.count;
}

bool queue_yields(const struct ticket *last, const struct queue *queue,
                  const struct ticket *newcomer)
{
    if (last->priority != newcomer->priority) {
        return class_weights[last->priority] < class_weights[newcomer->priority];
    }
    const struct flow *flow = waiting_flow(queue, newcomer);
    if (flow && flow == last->flow) {
        return stands(flow) || goes_before(newcomer, last);
    }
    return last->flow->tickets.count > (flow ? flow->tickets.count : 0);
}

void queue_restart(struct queue *queue, int64_t since_us)
{
    queue->since_us = since_us;
}
