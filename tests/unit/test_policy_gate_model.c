// SPDX-License-Identifier: Apache-2.0
//
// The gate against a naive one that keeps its tickets in an array and looks through all of them for
// every question. Seeded random steps; after each the two must agree on every ticket, and what the
// gate promises is checked on its own. Times are so small that most steps fall on or beside a
// boundary.

#include "test_policy.h"

#include <string.h>

#include "policy/gate.h"

#define TICKETS 48
#define SHAPES 5
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

static void naive_make_room(struct naive *naive)
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

static void naive_advance(struct naive *naive, int64_t now_us)
{
    naive->now_us = now_us > naive->now_us ? now_us : naive->now_us;
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

// Whether one goes before another: by rank; in the slow lane, by what its shape holds of it; by
// age.
static bool naive_before(const struct naive *naive, const struct naive_ticket *a,
                         const struct naive_ticket *b)
{
    if (rank_of(a) != rank_of(b)) {
        return turn_of(naive, a) < turn_of(naive, b);
    }
    int a_held = a->lane == LANE_SLOW ? naive_held_of(naive, a->shape) : 0;
    int b_held = b->lane == LANE_SLOW ? naive_held_of(naive, b->shape) : 0;
    return a_held != b_held ? a_held < b_held : a->order < b->order;
}

// The queued ticket that goes next among those of rank `last` or better, as things are; -1 if none.
static int naive_next(const struct naive *naive, int last)
{
    int next = -1;
    for (int i = 0; i < TICKETS; i++) {
        const struct naive_ticket *ticket = &naive->tickets[i];
        if (ticket->state != TICKET_QUEUED || ticket->deadline_us <= naive->now_us ||
            rank_of(ticket) > last || !naive_has_room(naive, ticket->lane) ||
            !naive_may_grant(naive, ticket)) {
            continue;
        }
        const struct naive_ticket *best = next >= 0 ? &naive->tickets[next] : NULL;
        if (!best || naive_before(naive, ticket, best)) {
            next = i;
        }
    }
    return next;
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
        count += naive->tickets[i].state == TICKET_QUEUED && !naive->tickets[i].finishes;
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

static enum gate_answer naive_refuse(struct naive *naive, enum refusal refusal,
                                     enum refusal *ret_refusal)
{
    naive->refused[refusal]++;
    *ret_refusal = refusal;
    return GATE_REFUSED;
}

static enum gate_answer naive_ask(struct naive *naive, int i, enum refusal *ret_refusal)
{
    struct naive_ticket *ticket = &naive->tickets[i];
    naive->asked++;
    ticket->asked_us = naive->now_us;
    ticket->aged = false;
    ticket->lane = ticket->streams                ? LANE_STREAM
                   : naive_is_slow(naive, ticket) ? LANE_SLOW
                                                  : LANE_NORMAL;
    if (ticket->deadline_us <= naive->now_us) {
        return naive_refuse(naive, REFUSED_DEADLINE, ret_refusal);
    }
    if (naive_may_grant(naive, ticket) && naive_has_room(naive, ticket->lane) &&
        naive_next(naive, rank_of(ticket)) < 0) {
        naive_grant(naive, i);
        return GATE_GRANTED;
    }
    naive_set_expiry(naive, i);
    if (ticket->expires_us <= naive->now_us) {
        return naive_refuse(naive, naive_reason(naive, i), ret_refusal);
    }
    if (!ticket->finishes && naive_others_queued(naive) >= (int)naive->limits.max_queue) {
        return naive_refuse(naive, REFUSED_QUEUE_FULL, ret_refusal);
    }
    if (naive_count(naive, TICKET_QUEUED, LANE_COUNT) == 0) {
        naive->standing_since_us = naive->now_us;
    }
    ticket->state = TICKET_QUEUED;
    ticket->order = naive->order++;
    naive->queued_ever++;
    return GATE_QUEUED;
}

static void naive_charge(struct naive *naive, const struct naive_ticket *ticket)
{
    if (ticket->lane == LANE_SLOW) {
        naive->slow_due = 0;
    } else if (!ticket->finishes) {
        naive->slow_due += naive->limits.slow_share;
    }
}

static bool naive_slow_could_go(const struct naive *naive)
{
    bool waits = false;
    for (int i = 0; i < TICKETS; i++) {
        const struct naive_ticket *at = &naive->tickets[i];
        waits |= at->state == TICKET_QUEUED && at->lane == LANE_SLOW && !at->finishes &&
                 at->deadline_us > naive->now_us;
    }
    return waits && naive_has_room(naive, LANE_SLOW);
}

static int naive_grant_next(struct naive *naive)
{
    int next;
    if (naive_count(naive, TICKET_QUEUED, LANE_COUNT) > 0 && !naive_slow_could_go(naive)) {
        naive->slow_due = 0;
    }
    while ((next = naive_next(naive, 4)) >= 0) {
        struct naive_ticket *ticket = &naive->tickets[next];
        if (ticket->lane != LANE_NORMAL || !naive_is_slow(naive, ticket)) {
            naive_charge(naive, ticket);
            naive_grant(naive, next);
            return next;
        }
        ticket->lane = LANE_SLOW;
        ticket->order = naive->order++;
    }
    return -1;
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
        .deadline_us = INT64_MAX,
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
    };
    int64_t now_us = reading(pair);
    naive_advance(&pair->naive, now_us);
    enum refusal refusal = REFUSAL_COUNT;
    enum gate_answer expected = naive_ask(&pair->naive, i, &refusal);
    assert_int_equal(gate_ask(pair->gate, &pair->tickets[i], &ask, now_us), expected);
    if (expected == GATE_REFUSED) {
        assert_int_equal(pair->tickets[i].refusal, refusal);
    }
}

static void naive_done(struct naive *naive, struct naive_ticket *ticket, bool learn)
{
    if (learn && !ticket->streams) {
        struct limit_sample sample = {
            .sent_us = ticket->granted_us,
            .waiting = naive_count(naive, TICKET_QUEUED, LANE_COUNT) > 0,
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
    naive_make_room(naive);
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
        pair->naive.tickets[i].state = TICKET_IDLE;
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
    naive->state = TICKET_IDLE;
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
    }
    for (int i = 0; changed && i < TICKETS; i++) {
        if (naive->tickets[i].state == TICKET_QUEUED) {
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
    naive_make_room(naive);
    struct ticket *ticket = gate_expire_next(pair->gate, now_us);
    while (ticket) {
        int i = (int)(ticket - pair->tickets);
        assert_int_equal(naive->tickets[i].state, TICKET_QUEUED);
        assert_int_equal(naive->tickets[i].expires_us, naive_next_expiry(naive));
        assert_true(naive->tickets[i].expires_us <= naive->now_us);
        enum refusal reason = naive_reason(naive, i);
        assert_int_equal(ticket->refusal, reason);
        naive->tickets[i].state = TICKET_IDLE;
        naive->refused[reason]++;
        ticket = gate_expire_next(pair->gate, now_us);
    }
    assert_true(naive_next_expiry(naive) > naive->now_us);
}

static void grant_all(struct pair *pair)
{
    int expected;
    do {
        int before = naive_count(&pair->naive, TICKET_IN_FLIGHT, LANE_COUNT);
        int slow_before = naive_count(&pair->naive, TICKET_IN_FLIGHT, LANE_SLOW);
        int permits = naive_permits(&pair->naive);
        expected = naive_grant_next(&pair->naive);
        struct ticket *ticket = gate_grant_next(pair->gate, reading(pair));
        assert_ptr_equal(ticket, expected < 0 ? NULL : &pair->tickets[expected]);
        assert_true(!ticket || before < permits);
        if (ticket && ticket->lane == LANE_SLOW) {
            assert_true(slow_before < naive_slow_limit(&pair->naive));
        }
    } while (expected >= 0);
    assert_int_equal(naive_next(&pair->naive, 4), -1);
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
            assert_int_equal(ticket->expires_us, naive->expires_us);
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
    assert_int_equal(counts.queued, naive_count(naive, TICKET_QUEUED, LANE_COUNT));
    assert_int_equal(counts.granted, naive->granted);
    assert_int_equal(counts.queued_ever, naive->queued_ever);
    bool stands = naive->available && counts.queued > 0;
    assert_int_equal(counts.standing_us, stands ? naive->now_us - naive->standing_since_us : 0);
    uint64_t left = naive->granted + naive->cancelled + counts.queued;
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
    naive_make_room(&pair->naive);
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
