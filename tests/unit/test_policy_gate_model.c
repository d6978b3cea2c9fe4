// SPDX-License-Identifier: Apache-2.0
//
// The gate against a naive one that keeps its tickets in an array and looks through all of them for
// every question. Seeded random steps; after each the two must agree on every ticket, and what the
// gate promises is checked on its own. Times are so small that most steps fall on or beside a
// boundary. Which tenant's turn it is, the naive one takes over from the gate (test_policy_queue.c
// has that), and checks that it was a choice that the gate had.

#include "test_policy.h"

#include <string.h>

#include "policy/gate.h"

#define TICKETS 48
#define SHAPES 5
#define TENANTS 4
#define FOREVER INT64_MAX
#define RUNS 400
#define STEPS 1500

struct naive_ticket {
    enum ticket_state state;
    enum lane lane;
    bool finishes;
    bool exempt;
    bool streams;
    bool aged;
    bool is_new;
    bool is_over;
    enum refusal reason; // when it is over
    int tenant;
    enum priority priority;
    int shape;
    int64_t asked_us;
    int64_t granted_us;
    int64_t deadline_us;
    int64_t expires_us;
    int64_t serverless_us;
    uint64_t order; // of entering its queue, or of the grant
};

struct naive {
    struct gate_limits limits;
    struct limit limit;
    int room;
    bool keeps;
    double slow_due;
    int64_t slow_us;
    bool available;
    int64_t now_us;
    int64_t standing_since_us;
    int64_t restarted_us;
    int64_t overrun_us[LANE_COUNT][PRIORITY_COUNT][TENANTS]; // since when each stands
    uint64_t order;
    struct shape shapes[SHAPES];
    struct naive_ticket tickets[TICKETS];
    uint64_t granted;
    uint64_t queued_ever;
    uint64_t refused[REFUSAL_COUNT];
    uint64_t asked;
    uint64_t cancelled;
};

struct pair {
    struct chance chance;
    struct gate *gate;
    struct shape shapes[SHAPES];
    struct ticket tickets[TICKETS];
    struct naive naive;
};

static int naive_count(const struct naive *naive, enum ticket_state state, int lane)
{
    int count = 0;
    for (int i = 0; i < TICKETS; i++) {
        const struct naive_ticket *ticket = &naive->tickets[i];
        count += ticket->state == state && (lane == LANE_COUNT || (int)ticket->lane == lane);
    }
    return count;
}

static int part_of(int limit, double share)
{
    int part = (int)(limit * share + 1e-9);
    return part > 1 ? part : 1;
}

static int naive_slow_limit(const struct naive *naive)
{
    return part_of(limit_value(&naive->limit), naive->limits.slow_share);
}

// Of the slow ones in flight those that the limit counts.
static int naive_held(const struct naive *naive)
{
    int slow = naive_count(naive, TICKET_IN_FLIGHT, LANE_SLOW);
    int most = naive_slow_limit(naive);
    return slow < most ? slow : most;
}

static void naive_follow_limit(struct naive *naive)
{
    int held = naive_held(naive);
    int slow = naive_count(naive, TICKET_IN_FLIGHT, LANE_SLOW);
    naive->room = limit_permits(&naive->limit, held) + slow - held;
}

static int naive_permits(const struct naive *naive)
{
    int may = naive->room + naive_count(naive, TICKET_IN_FLIGHT, LANE_STREAM);
    return may < naive->limits.limit ? may : naive->limits.limit;
}

static int naive_new(const struct naive *naive)
{
    int count = 0;
    for (int i = 0; i < TICKETS; i++) {
        count += naive->tickets[i].state == TICKET_IN_FLIGHT && naive->tickets[i].is_new;
    }
    return count;
}

static enum refusal naive_reason(const struct naive *naive, int i)
{
    if (naive->now_us >= naive->tickets[i].deadline_us) {
        return REFUSED_DEADLINE;
    }
    return naive->available ? REFUSED_WAITED : REFUSED_NO_SERVER;
}

static bool waits(const struct naive_ticket *ticket)
{
    return ticket->state == TICKET_QUEUED && !ticket->is_over;
}

static int naive_waiting(const struct naive *naive)
{
    int count = 0;
    for (int i = 0; i < TICKETS; i++) {
        count += waits(&naive->tickets[i]);
    }
    return count;
}

static bool same_flow(const struct naive_ticket *a, const struct naive_ticket *b)
{
    return a->lane == b->lane && a->priority == b->priority && a->tenant == b->tenant &&
           a->finishes == b->finishes;
}

// How many of its tenant, lane and priority wait.
static int naive_flow(const struct naive *naive, const struct naive_ticket *ticket)
{
    int count = 0;
    for (int i = 0; i < TICKETS; i++) {
        count += waits(&naive->tickets[i]) && same_flow(&naive->tickets[i], ticket);
    }
    return count;
}

static int64_t *naive_overrun(struct naive *naive, const struct naive_ticket *ticket)
{
    return &naive->overrun_us[ticket->lane][ticket->priority][ticket->tenant];
}

static bool naive_stands(const struct naive *naive, const struct naive_ticket *ticket)
{
    int64_t overrun_us = naive->overrun_us[ticket->lane][ticket->priority][ticket->tenant];
    return overrun_us != FOREVER && overrun_us > naive->restarted_us;
}

// It leaves its queue without a permit.
static void naive_leave(struct naive *naive, const struct naive_ticket *ticket)
{
    int64_t from_us =
        ticket->asked_us > naive->restarted_us ? ticket->asked_us : naive->restarted_us;
    if (!ticket->finishes && waits(ticket) &&
        naive->now_us - from_us >= naive->limits.max_wait_us &&
        *naive_overrun(naive, ticket) == FOREVER) {
        *naive_overrun(naive, ticket) = naive->now_us;
    }
}

static void naive_expire(struct naive *naive)
{
    for (int i = 0; i < TICKETS; i++) {
        struct naive_ticket *ticket = &naive->tickets[i];
        if (ticket->state == TICKET_QUEUED && !ticket->is_over &&
            ticket->expires_us <= naive->now_us) {
            naive_leave(naive, ticket);
            ticket->is_over = true;
            ticket->reason = naive_reason(naive, i);
        }
    }
}

// To the end of the queue that it belongs to.
static void naive_enter(struct naive *naive, struct naive_ticket *ticket)
{
    ticket->state = TICKET_IDLE;
    if (!ticket->finishes && naive_flow(naive, ticket) == 0) {
        *naive_overrun(naive, ticket) = FOREVER;
    }
    ticket->state = TICKET_QUEUED;
    ticket->order = naive->order++;
}

static void naive_advance(struct naive *naive, int64_t now_us)
{
    naive->now_us = now_us > naive->now_us ? now_us : naive->now_us;
    naive_expire(naive);
    for (int i = 0; i < TICKETS; i++) {
        struct naive_ticket *ticket = &naive->tickets[i];
        if (ticket->state == TICKET_IN_FLIGHT && !ticket->aged &&
            naive->now_us - ticket->granted_us >= naive->slow_us) {
            ticket->aged = true;
            if (!ticket->streams) {
                ticket->lane = LANE_SLOW;
                ticket->is_new = false;
                shape_observe(&naive->shapes[ticket->shape], true);
            }
        }
    }
}

#define RANKS 5

static int rank_of(const struct naive_ticket *ticket)
{
    return (ticket->finishes ? 0 : 3) + (int)ticket->lane;
}

// As things are: when the slow lane is due, its others go before those of the normal lane.
static int turn_of(const struct naive *naive, const struct naive_ticket *ticket)
{
    int rank = rank_of(ticket);
    return rank >= 3 && naive->slow_due >= 1 ? 7 - rank : rank;
}

static bool naive_is_slow(const struct naive *naive, const struct naive_ticket *ticket)
{
    const struct shape *shape = &naive->shapes[ticket->shape];
    bool doubtful = !shape->known && naive_new(naive) >= part_of(limit_value(&naive->limit), 0.5);
    return !ticket->exempt && (doubtful || shape_is_slow(shape));
}

static bool naive_may_grant(const struct naive *naive, const struct naive_ticket *ticket)
{
    int may = naive_permits(naive);
    if (naive->keeps && may > 1 && (!ticket->finishes || ticket->streams)) {
        may--;
    }
    return naive->available && naive_count(naive, TICKET_IN_FLIGHT, LANE_COUNT) < may;
}

static bool naive_has_room(const struct naive *naive, enum lane lane)
{
    int limit = lane == LANE_SLOW ? naive_slow_limit(naive)
                                  : part_of(naive->limits.limit, naive->limits.stream_share);
    return lane == LANE_NORMAL || naive_count(naive, TICKET_IN_FLIGHT, (int)lane) < limit;
}

static int naive_held_of(const struct naive *naive, int shape)
{
    int held = 0;
    for (int i = 0; i < TICKETS; i++) {
        const struct naive_ticket *ticket = &naive->tickets[i];
        held += ticket->state == TICKET_IN_FLIGHT && ticket->lane == LANE_SLOW &&
                ticket->shape == shape;
    }
    return held;
}

static int64_t serverless_since(const struct naive_ticket *ticket)
{
    return ticket->serverless_us ? ticket->serverless_us : FOREVER;
}

// Whether one is before another in the line: who had no server for longer, then who came first.
static bool is_ahead(const struct naive_ticket *a, const struct naive_ticket *b)
{
    int64_t a_us = serverless_since(a);
    int64_t b_us = serverless_since(b);
    return a->finishes || a_us == b_us ? a->order < b->order : a_us < b_us;
}

// Whether one goes before another of the same tenant, lane and priority.
static bool naive_before(const struct naive *naive, const struct naive_ticket *a,
                         const struct naive_ticket *b)
{
    int a_held = a->lane == LANE_SLOW ? naive_held_of(naive, a->shape) : 0;
    int b_held = b->lane == LANE_SLOW ? naive_held_of(naive, b->shape) : 0;
    if (a_held != b_held && !a->finishes) {
        return a_held < b_held;
    }
    bool latest = !a->finishes && naive_stands(naive, a);
    return latest ? is_ahead(b, a) : is_ahead(a, b);
}

static bool naive_could_go(const struct naive *naive, const struct naive_ticket *ticket)
{
    return waits(ticket) && naive_has_room(naive, ticket->lane);
}

// The best rank of all that could go, if there was a permit.
static int naive_best_rank(const struct naive *naive)
{
    int best = RANKS;
    for (int i = 0; i < TICKETS; i++) {
        const struct naive_ticket *ticket = &naive->tickets[i];
        if (naive_could_go(naive, ticket) && rank_of(ticket) < best) {
            best = rank_of(ticket);
        }
    }
    return best;
}

// The best turn of all that may go now.
static int naive_best_turn(const struct naive *naive)
{
    int best = RANKS;
    for (int i = 0; i < TICKETS; i++) {
        const struct naive_ticket *ticket = &naive->tickets[i];
        if (naive_could_go(naive, ticket) && naive_may_grant(naive, ticket) &&
            turn_of(naive, ticket) < best) {
            best = turn_of(naive, ticket);
        }
    }
    return best;
}

// Nobody goes before it but perhaps for another tenant or priority.
static void check_choice(const struct naive *naive, const struct naive_ticket *chosen)
{
    assert_true(naive_could_go(naive, chosen) && naive_may_grant(naive, chosen));
    assert_int_equal(turn_of(naive, chosen), naive_best_turn(naive));
    for (int i = 0; i < TICKETS; i++) {
        const struct naive_ticket *ticket = &naive->tickets[i];
        bool rival = waits(ticket) && ticket != chosen && rank_of(ticket) == rank_of(chosen) &&
                     (chosen->finishes || same_flow(ticket, chosen));
        assert_false(rival && naive_before(naive, ticket, chosen));
    }
}

static void naive_grant(struct naive *naive, int i)
{
    struct naive_ticket *ticket = &naive->tickets[i];
    ticket->state = TICKET_IN_FLIGHT;
    ticket->granted_us = naive->now_us;
    ticket->order = naive->order++;
    ticket->is_new = ticket->lane == LANE_NORMAL && !naive->shapes[ticket->shape].known;
    naive->granted++;
}

static void naive_set_expiry(struct naive *naive, int i)
{
    struct naive_ticket *ticket = &naive->tickets[i];
    int64_t wait_us = naive->limits.max_wait_us;
    if (!naive->available) {
        ticket->serverless_us = ticket->serverless_us ? ticket->serverless_us : naive->now_us;
        wait_us = ticket->serverless_us + naive->limits.server_wait_us - naive->now_us;
        wait_us = wait_us > 0 ? wait_us : 0;
    } else if (ticket->finishes) {
        ticket->expires_us = ticket->deadline_us;
        return;
    }
    if (naive->available && ticket->serverless_us && wait_us < GATE_RETURN_WAIT_US) {
        wait_us = GATE_RETURN_WAIT_US;
    }
    ticket->expires_us = naive->now_us + wait_us;
    if (ticket->deadline_us < ticket->expires_us) {
        ticket->expires_us = ticket->deadline_us;
    }
}

static int naive_others_queued(const struct naive *naive)
{
    int count = 0;
    for (int i = 0; i < TICKETS; i++) {
        count += waits(&naive->tickets[i]) && !naive->tickets[i].finishes;
    }
    return count;
}

static int importance(const struct naive_ticket *ticket)
{
    static const int of[] = {[PRIORITY_LOW] = 0, [PRIORITY_NORMAL] = 1, [PRIORITY_HIGH] = 2};
    return of[ticket->priority];
}

// A newcomer meets a full queue, and the gate makes `out` leave for it (NULL: nobody). Of the
// lowest priority nobody waits more than that one's tenant, nor the newcomer's own.
static void naive_make_room(struct naive *naive, const struct naive_ticket *newcomer,
                            struct naive_ticket *out)
{
    bool own = out && same_flow(out, newcomer);
    assert_true(!own || naive_stands(naive, out) ||
                serverless_since(newcomer) < serverless_since(out));
    for (int i = 0; i < TICKETS; i++) {
        const struct naive_ticket *ticket = &naive->tickets[i];
        if (!waits(ticket) || ticket->finishes) {
            continue;
        }
        if (!out) { // the newcomer itself would have been it
            assert_true(importance(ticket) >= importance(newcomer));
            assert_true(importance(ticket) > importance(newcomer) ||
                        naive_flow(naive, ticket) <= naive_flow(naive, newcomer));
            continue;
        }
        assert_true(importance(ticket) >= importance(out));
        assert_true(importance(ticket) > importance(out) ||
                    naive_flow(naive, ticket) <= naive_flow(naive, out));
        bool last = !same_flow(ticket, out) || ticket == out ||
                    (naive_stands(naive, out) ? is_ahead(out, ticket) : is_ahead(ticket, out));
        assert_true(last);
    }
    if (out) {
        assert_true(importance(out) < importance(newcomer) || own ||
                    naive_flow(naive, out) > naive_flow(naive, newcomer));
        naive_leave(naive, out);
        out->is_over = true;
        out->reason = REFUSED_QUEUE_FULL;
        out->expires_us = naive->now_us;
    }
}

// What the gate must have answered to the ticket, and that it did.
static void naive_ask(struct naive *naive, int i, enum gate_answer answer, enum refusal refusal,
                      struct naive_ticket *out)
{
    struct naive_ticket *ticket = &naive->tickets[i];
    naive->asked++;
    ticket->asked_us = naive->now_us;
    ticket->aged = false;
    ticket->lane = ticket->streams                ? LANE_STREAM
                   : naive_is_slow(naive, ticket) ? LANE_SLOW
                                                  : LANE_NORMAL;
    if (ticket->deadline_us > naive->now_us && naive_may_grant(naive, ticket) &&
        naive_has_room(naive, ticket->lane) && naive_best_rank(naive) > rank_of(ticket)) {
        assert_int_equal(answer, GATE_GRANTED);
        naive_grant(naive, i);
        return;
    }
    naive_set_expiry(naive, i);
    if (ticket->expires_us <= naive->now_us) {
        assert_int_equal(answer, GATE_REFUSED);
        assert_int_equal(refusal, naive_reason(naive, i));
    } else if (answer == GATE_REFUSED && refusal == REFUSED_HOPELESS) {
        assert_true(ticket->deadline_us != FOREVER && naive->available && !ticket->finishes);
        assert_true(naive_flow(naive, ticket) > 0 && !naive_stands(naive, ticket));
    } else if (!ticket->finishes && naive_others_queued(naive) >= (int)naive->limits.max_queue) {
        assert_int_equal(out ? GATE_QUEUED : GATE_REFUSED, answer);
        naive_make_room(naive, ticket, out);
    } else {
        assert_int_equal(answer, GATE_QUEUED);
        assert_null(out);
    }
    if (answer == GATE_REFUSED) {
        assert_true(refusal != REFUSED_QUEUE_FULL ||
                    naive_others_queued(naive) >= (int)naive->limits.max_queue);
        naive->refused[refusal]++;
        return;
    }
    if (naive_waiting(naive) == 0) {
        naive->standing_since_us = naive->now_us;
    }
    naive_enter(naive, ticket);
    naive->queued_ever++;
}

static int64_t naive_next_expiry(const struct naive *naive)
{
    int64_t next_us = INT64_MAX;
    for (int i = 0; i < TICKETS; i++) {
        const struct naive_ticket *ticket = &naive->tickets[i];
        if (ticket->state == TICKET_QUEUED && ticket->expires_us < next_us) {
            next_us = ticket->expires_us;
        }
    }
    return next_us;
}

// The time for the next call: mostly the present, now and then a stale reading of it.
static int64_t reading(struct pair *pair)
{
    int64_t stale_us = chance_percent(&pair->chance, 10) ? chance_below(&pair->chance, 5) : 0;
    return stale_us < pair->naive.now_us ? pair->naive.now_us - stale_us : 0;
}

static int random_ticket(struct pair *pair, enum ticket_state state)
{
    int start = chance_below(&pair->chance, TICKETS);
    for (int i = 0; i < TICKETS; i++) {
        int at = (start + i) % TICKETS;
        if (pair->naive.tickets[at].state == state) {
            return at;
        }
    }
    return -1;
}

// The ticket that the gate has just taken out to make room; NULL if none.
static struct naive_ticket *made_room(struct pair *pair)
{
    for (int i = 0; i < TICKETS; i++) {
        if (pair->tickets[i].state == TICKET_QUEUED && pair->tickets[i].is_over &&
            !pair->naive.tickets[i].is_over) {
            return &pair->naive.tickets[i];
        }
    }
    return NULL;
}

static void step_ask(struct pair *pair)
{
    int i = random_ticket(pair, TICKET_IDLE);
    if (i < 0) {
        return;
    }
    struct naive_ticket *ticket = &pair->naive.tickets[i];
    *ticket = (struct naive_ticket){
        .shape = chance_below(&pair->chance, SHAPES),
        .finishes = chance_percent(&pair->chance, 25),
        .exempt = chance_percent(&pair->chance, 10),
        .tenant = chance_below(&pair->chance, TENANTS),
        .priority = chance_percent(&pair->chance, 80)
                        ? PRIORITY_NORMAL
                        : (enum priority)chance_below(&pair->chance, PRIORITY_COUNT),
        .deadline_us = FOREVER,
    };
    ticket->streams = ticket->finishes && chance_percent(&pair->chance, 30);
    if (chance_percent(&pair->chance, 40)) {
        ticket->deadline_us = pair->naive.now_us + chance_below(&pair->chance, 60) - 5;
    }
    if (chance_percent(&pair->chance, 20) && pair->naive.now_us > 30) {
        ticket->serverless_us = pair->naive.now_us - chance_below(&pair->chance, 30);
    }
    struct gate_ask ask = {
        .shape = &pair->shapes[ticket->shape],
        .deadline_us = ticket->deadline_us,
        .serverless_us = ticket->serverless_us,
        .finishes = ticket->finishes,
        .exempt = ticket->exempt,
        .streams = ticket->streams,
        .tenant = (uint64_t)ticket->tenant,
        .priority = ticket->priority,
    };
    int64_t now_us = reading(pair);
    naive_advance(&pair->naive, now_us);
    enum gate_answer answer = gate_ask(pair->gate, &pair->tickets[i], &ask, now_us);
    naive_ask(&pair->naive, i, answer, pair->tickets[i].refusal, made_room(pair));
}

static void naive_done(struct naive *naive, struct naive_ticket *ticket, bool learn)
{
    if (learn && !ticket->streams) {
        struct limit_sample sample = {
            .sent_us = ticket->granted_us,
            .waiting = naive_waiting(naive) > 0,
        };
        sample.held = naive_held(naive);
        sample.in_flight = naive_count(naive, TICKET_IN_FLIGHT, LANE_NORMAL) + sample.held;
        limit_learn(&naive->limit, &naive->shapes[ticket->shape].time, &sample, naive->now_us);
        naive->slow_us = (int64_t)((double)naive->limits.slow_us * limit_slowness(&naive->limit));
    }
    ticket->state = TICKET_IDLE;
    if (learn && !ticket->aged && !ticket->streams) {
        shape_observe(&naive->shapes[ticket->shape], false);
    }
    naive_advance(naive, naive->now_us); // what is slow may have changed
    naive_follow_limit(naive);
}

static void step_done(struct pair *pair)
{
    int i = random_ticket(pair, TICKET_IN_FLIGHT);
    if (i < 0) {
        return;
    }
    bool learn = chance_percent(&pair->chance, 80);
    int64_t now_us = reading(pair);
    naive_advance(&pair->naive, now_us);
    naive_done(&pair->naive, &pair->naive.tickets[i], learn);
    gate_done(pair->gate, &pair->tickets[i], learn, now_us);
}

static void step_cancel(struct pair *pair)
{
    bool queued = chance_percent(&pair->chance, 80);
    int i = random_ticket(pair, queued ? TICKET_QUEUED : TICKET_IN_FLIGHT);
    if (i < 0) {
        return;
    }
    assert_int_equal(gate_cancel(pair->gate, &pair->tickets[i]), queued);
    if (queued) {
        naive_leave(&pair->naive, &pair->naive.tickets[i]);
        pair->naive.tickets[i].state = TICKET_IDLE;
        pair->naive.tickets[i].is_over = false;
        pair->naive.cancelled++;
    }
}

static void step_keep(struct pair *pair)
{
    pair->naive.keeps = chance_percent(&pair->chance, 50);
    gate_keep(pair->gate, pair->naive.keeps);
}

static void step_evict(struct pair *pair)
{
    struct ticket *ticket = gate_evict_next(pair->gate);
    if (!ticket) {
        assert_int_equal(naive_count(&pair->naive, TICKET_QUEUED, LANE_COUNT), 0);
        return;
    }
    struct naive_ticket *naive = &pair->naive.tickets[ticket - pair->tickets];
    assert_int_equal(naive->state, TICKET_QUEUED);
    naive_leave(&pair->naive, naive);
    naive->state = TICKET_IDLE;
    naive->is_over = false;
    pair->naive.cancelled++;
}

static void step_available(struct pair *pair)
{
    bool available = chance_percent(&pair->chance, 75);
    int64_t now_us = reading(pair);
    struct naive *naive = &pair->naive;
    naive_advance(naive, now_us);
    bool changed = naive->available != available;
    naive->available = available;
    if (changed) {
        naive->standing_since_us = naive->now_us;
        naive->restarted_us = available ? naive->now_us : FOREVER;
    }
    for (int i = 0; changed && i < TICKETS; i++) {
        if (waits(&naive->tickets[i])) {
            naive_set_expiry(naive, i);
        }
    }
    gate_set_available(pair->gate, available, now_us);
}

static void step_time(struct pair *pair)
{
    int64_t by_us = chance_below(&pair->chance, 12);
    if (chance_percent(&pair->chance, 2)) {
        by_us = GATE_RETURN_WAIT_US + chance_below(&pair->chance, 3) - 1;
    }
    naive_advance(&pair->naive, pair->naive.now_us + by_us);
    // Any call with a time: this one changes nothing else, for nothing was granted since the last.
    gate_set_available(pair->gate, pair->naive.available, pair->naive.now_us);
}

// Tickets that expire at the same moment may come in any order.
static void expire_all(struct pair *pair)
{
    struct naive *naive = &pair->naive;
    int64_t now_us = reading(pair);
    naive_expire(naive);
    naive_follow_limit(naive);
    struct ticket *ticket = gate_expire_next(pair->gate, now_us);
    while (ticket) {
        struct naive_ticket *expected = &naive->tickets[ticket - pair->tickets];
        assert_true(expected->state == TICKET_QUEUED && expected->is_over);
        assert_int_equal(expected->expires_us, naive_next_expiry(naive));
        assert_int_equal(ticket->refusal, expected->reason);
        expected->state = TICKET_IDLE;
        expected->is_over = false;
        naive->refused[expected->reason]++;
        ticket = gate_expire_next(pair->gate, now_us);
    }
    assert_true(naive_next_expiry(naive) > naive->now_us);
}

// The next of a tenant's tickets that the gate has moved to the slow lane and the naive one has
// not: they went in the order in which they would have been granted.
static struct naive_ticket *next_moved(struct pair *pair)
{
    struct naive_ticket *next = NULL;
    for (int i = 0; i < TICKETS; i++) {
        struct naive_ticket *ticket = &pair->naive.tickets[i];
        bool moved =
            waits(ticket) && ticket->lane == LANE_NORMAL && pair->tickets[i].lane == LANE_SLOW;
        if (moved &&
            (!next || (same_flow(ticket, next) && naive_before(&pair->naive, ticket, next)))) {
            next = ticket;
        }
    }
    return next;
}

static void take_over_moves(struct pair *pair)
{
    struct naive_ticket *ticket;
    while ((ticket = next_moved(pair))) {
        assert_true(!ticket->finishes && naive_is_slow(&pair->naive, ticket));
        naive_leave(&pair->naive, ticket);
        ticket->state = TICKET_IDLE;
        ticket->lane = LANE_SLOW;
        naive_enter(&pair->naive, ticket);
    }
}

static bool naive_slow_could_go(const struct naive *naive)
{
    bool any = false;
    for (int i = 0; i < TICKETS; i++) {
        const struct naive_ticket *ticket = &naive->tickets[i];
        any |= waits(ticket) && ticket->lane == LANE_SLOW && !ticket->finishes;
    }
    return any && naive_has_room(naive, LANE_SLOW);
}

static void naive_charge(struct naive *naive, const struct naive_ticket *ticket)
{
    if (ticket->lane == LANE_SLOW) {
        naive->slow_due = 0;
    } else if (!ticket->finishes) {
        naive->slow_due += naive->limits.slow_share;
    }
}

static void grant_all(struct pair *pair)
{
    struct naive *naive = &pair->naive;
    struct ticket *ticket;
    naive_expire(naive);
    do {
        if (naive_waiting(naive) > 0 && !naive_slow_could_go(naive)) {
            naive->slow_due = 0;
        }
        ticket = gate_grant_next(pair->gate, reading(pair));
        if (ticket) {
            bool was_moved = ticket->lane == LANE_SLOW;
            struct naive_ticket *chosen = &naive->tickets[ticket - pair->tickets];
            ticket->state = TICKET_QUEUED; // to find it among those that were moved
            take_over_moves(pair);
            ticket->state = TICKET_IN_FLIGHT;
            assert_int_equal(was_moved, chosen->lane == LANE_SLOW);
            check_choice(naive, chosen);
            naive_charge(naive, chosen);
            naive_grant(naive, (int)(chosen - naive->tickets));
        } else {
            take_over_moves(pair);
        }
    } while (ticket);
    assert_int_equal(naive_best_turn(naive), RANKS);
}

static void check_tickets(const struct pair *pair)
{
    for (int i = 0; i < TICKETS; i++) {
        const struct naive_ticket *naive = &pair->naive.tickets[i];
        const struct ticket *ticket = &pair->tickets[i];
        assert_int_equal(ticket->state, naive->state);
        if (naive->state == TICKET_IDLE) {
            continue;
        }
        assert_int_equal(ticket->lane, naive->lane);
        assert_int_equal(ticket->asked_us, naive->asked_us);
        if (naive->state == TICKET_IN_FLIGHT) {
            assert_int_equal(ticket->granted_us, naive->granted_us);
            assert_int_equal(ticket->aged, naive->aged);
        } else {
            assert_int_equal(ticket->is_over, naive->is_over);
            assert_int_equal(ticket->expiry.key, naive->expires_us);
        }
    }
    for (int i = 0; i < SHAPES; i++) {
        assert_memory_equal(&pair->shapes[i].slow_portion, &pair->naive.shapes[i].slow_portion,
                            sizeof(float));
    }
}

// The list from gate_oldest holds those in flight, each once, in the order of their grants.
static void check_in_flight(const struct pair *pair)
{
    int count = 0;
    uint64_t last = 0;
    const struct ticket *ticket = gate_oldest(pair->gate);
    for (; ticket; ticket = ticket->next) {
        const struct naive_ticket *naive = &pair->naive.tickets[ticket - pair->tickets];
        assert_int_equal(naive->state, TICKET_IN_FLIGHT);
        assert_true(count == 0 || naive->order > last);
        last = naive->order;
        count++;
    }
    assert_int_equal(count, naive_count(&pair->naive, TICKET_IN_FLIGHT, LANE_COUNT));
}

static void check_counts(const struct pair *pair)
{
    const struct naive *naive = &pair->naive;
    struct gate_counts counts;
    gate_count(pair->gate, naive->now_us, &counts);
    assert_true(counts.in_flight <= counts.cap);
    assert_int_equal(counts.cap, naive->limits.limit);
    assert_int_equal(counts.limit, naive_permits(naive));
    assert_int_equal(counts.available, naive->available);
    assert_int_equal(counts.in_flight, naive_count(naive, TICKET_IN_FLIGHT, LANE_COUNT));
    assert_int_equal(counts.in_flight_slow, naive_count(naive, TICKET_IN_FLIGHT, LANE_SLOW));
    assert_int_equal(counts.in_flight_streams, naive_count(naive, TICKET_IN_FLIGHT, LANE_STREAM));
    assert_int_equal(counts.queued, naive_waiting(naive));
    assert_int_equal(counts.granted, naive->granted);
    assert_int_equal(counts.queued_ever, naive->queued_ever);
    bool stands = naive->available && counts.queued > 0;
    assert_int_equal(counts.standing_us, stands ? naive->now_us - naive->standing_since_us : 0);
    int queued = naive_count(naive, TICKET_QUEUED, LANE_COUNT);
    uint64_t left = naive->granted + naive->cancelled + (uint64_t)queued;
    for (int i = 0; i < REFUSAL_COUNT; i++) {
        assert_int_equal(counts.refused[i], naive->refused[i]);
        left += counts.refused[i];
    }
    assert_int_equal(left, naive->asked); // each leaves by exactly one way
    assert_int_equal(gate_next_expiry(pair->gate), naive_next_expiry(naive));
    for (int lane = 0; lane < LANE_COUNT; lane++) {
        assert_in_range(gate_backoff_ms(pair->gate, (enum lane)lane, naive->now_us), 100, 10000);
    }
}

static void step(struct pair *pair)
{
    int what = chance_below(&pair->chance, 100);
    if (what < 40) {
        step_ask(pair);
    } else if (what < 60) {
        step_done(pair);
    } else if (what < 66) {
        step_cancel(pair);
    } else if (what < 68) {
        step_available(pair);
    } else if (what < 69) {
        step_evict(pair);
    } else if (what < 70) {
        step_keep(pair);
    } else {
        step_time(pair);
    }
    // The caller is not always in time: now and then others come before it looks.
    if (chance_percent(&pair->chance, 70)) {
        expire_all(pair);
    }
    if (chance_percent(&pair->chance, 80)) {
        grant_all(pair);
    }
    check_tickets(pair);
    check_in_flight(pair);
    check_counts(pair);
}

static void pair_init(struct pair *pair, uint64_t run)
{
    static const double shares[] = {0.25, 0.5, 1.0};
    static const int64_t waits[] = {0, 7, 30};
    static const size_t queues[] = {0, 3, 10, 100};
    memset(pair, 0, sizeof(*pair));
    pair->chance.state = run;
    struct gate_limits limits = {
        .limit = 1 + chance_below(&pair->chance, 12),
        .slow_share = shares[chance_below(&pair->chance, 3)],
        .stream_share = shares[chance_below(&pair->chance, 3)],
        .slow_us = 10 + chance_below(&pair->chance, 20),
        .max_wait_us = waits[chance_below(&pair->chance, 3)],
        .server_wait_us = waits[chance_below(&pair->chance, 3)],
        .max_queue = queues[chance_below(&pair->chance, 4)],
    };
    if (chance_percent(&pair->chance, 50)) {
        limits.floor = 1 + chance_below(&pair->chance, limits.limit);
    }
    pair->naive.limits = limits;
    pair->naive.slow_us = limits.slow_us;
    limit_init(&pair->naive.limit, limits.floor ? limits.floor : limits.limit, limits.limit);
    naive_follow_limit(&pair->naive);
    pair->gate = gate_new(&limits);
    pair->naive.available = true;
    gate_set_available(pair->gate, true, 0);
}

static void come_to_rest(struct pair *pair)
{
    for (int i = 0; i < TICKETS; i++) {
        if (pair->tickets[i].state == TICKET_IN_FLIGHT) {
            gate_done(pair->gate, &pair->tickets[i], true, pair->naive.now_us);
        } else if (pair->tickets[i].state == TICKET_QUEUED) {
            assert_true(gate_cancel(pair->gate, &pair->tickets[i]));
        }
    }
    struct gate_counts counts;
    gate_count(pair->gate, pair->naive.now_us, &counts);
    assert_int_equal(counts.in_flight, 0);
    assert_int_equal(counts.in_flight_slow, 0);
    assert_int_equal(counts.queued, 0);
    assert_null(gate_oldest(pair->gate));
    assert_int_equal(gate_next_expiry(pair->gate), INT64_MAX);
    gate_free(pair->gate);
}

static uint64_t seed;

static void agrees_with_the_naive_gate(void **state)
{
    struct naive *sum = *state;
    for (seed = 0; seed < RUNS; seed++) {
        struct pair pair;
        pair_init(&pair, seed);
        for (int i = 0; i < STEPS; i++) {
            step(&pair);
        }
        come_to_rest(&pair);
        sum->granted += pair.naive.granted;
        sum->queued_ever += pair.naive.queued_ever;
        sum->cancelled += pair.naive.cancelled;
        for (int i = 0; i < REFUSAL_COUNT; i++) {
            sum->refused[i] += pair.naive.refused[i];
        }
    }
}

static int tell_seed(void **state)
{
    (void)state;
    if (seed < RUNS) {
        print_message("failed with seed %llu\n", (unsigned long long)seed);
    }
    return 0;
}

// A model test that never gets to the interesting places proves nothing.
static void went_everywhere(void **state)
{
    const struct naive *sum = *state;
    assert_true(sum->granted > 10000);
    assert_true(sum->queued_ever > 10000);
    assert_true(sum->cancelled > 1000);
    for (int i = 0; i < REFUSED_PINNED; i++) { // which is not the gate's
        print_message("refused, %s: %llu\n", refusal_text((enum refusal)i),
                      (unsigned long long)sum->refused[i]);
        assert_true(sum->refused[i] > 1000);
    }
}

int main(void)
{
    struct naive sum = {0};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate_setup_teardown(agrees_with_the_naive_gate, NULL, tell_seed, &sum),
        cmocka_unit_test_prestate(went_everywhere, &sum),
    };
    return cmocka_run_group_tests_name("gate against a model", tests, NULL, NULL);
}
