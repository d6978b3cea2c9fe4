// SPDX-License-Identifier: Apache-2.0
//
// Who goes next, when permits come free:
//
//                    normal lane      slow lane        stream lane      pinning lane
//      finishing     1st              2nd              3rd
//      others        4th              5th                               4th
//
// while the lane has room. Of the two that are 4th goes whoever came first; and the slow lane's
// others, while they have less than their share, get back what they had lent: with a share of 1/4,
// one permit after every four of the faster ones. First come first served among those that finish
// things, as policy/queue.h says among the others. A queued ticket is in one of these queues and in
// the heap by expiry; when it expires or must make room it goes to the list of those whose waiting
// is over, until somebody fetches it there. Those in flight are one list by the time of the grant,
// aged ones first:
//
//      oldest -> aged -> aged -> next_to_age -> not aged -> newest
//
// so that ageing looks at each of them once.
//
// Example: limit 40, slow share 0.25. Slow requests of a new shape take 20 permits within slow_us.
// Then the first of them ages, its shape is slow, and the next of that shape find the slow lane
// (10) full: they wait, and time out, while 20 permits are left to the others.

#include "policy/gate.h"

#include <assert.h>
#include <stdlib.h>

#include "policy/defect.h"
#include "policy/limit.h"
#include "policy/memory.h"
#include "policy/queue.h"
#include "policy/ticket_list.h"

#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 10000
#define BACKOFF_SERVERLESS_MS 2000 // an election takes some seconds, and drivers try twice more
#define SERVICE_WEIGHT 0.125
#define NEW_SHARE 0.5 // of the limit, for all shapes together that are not known yet

struct lane_use {
    struct ticket_list finishing;
    struct queue others;
    int in_flight;
    int64_t granted_us_sum; // of those in flight
    double service_us;      // how long a permit is held: exponentially weighted mean
    double last_turn_us;    // when the last who was sent away is to have its turn
};

struct gate {
    struct gate_limits limits;
    struct limit limit;
    int64_t slow_us; // what is slow just now
    int room;        // for others than streams, by the limit
    int new_in_flight;
    bool keeps;      // a permit for what finishes things
    int pin_room;    // how many more may go that may keep a connection
    double slow_due; // permits that the normal lane took while the slow one waited for its share
    bool available;
    bool paused;
    int64_t now_us;
    int64_t standing_since_us; // while somebody waits
    struct lane_use lanes[LANE_COUNT];
    struct ticket_list in_flight;
    struct ticket *next_to_age;
    struct ranks by_expiry;
    struct ticket *oldest; // of those in the heap
    struct ticket *newest;
    struct ticket_list over;
    uint64_t granted;
    uint64_t queued_ever;
    uint64_t refused[REFUSAL_COUNT];
};

const char *refusal_text(enum refusal refusal)
{
    static const char *const texts[] = {
#define X(name, text) text,
        REFUSALS(X)
#undef X
    };
    assert(refusal < REFUSAL_COUNT);
    return texts[refusal];
}

// A hair is added because a product such as 100 x 0.29 comes out just below the whole number.
static int part_of(int limit, double share)
{
    int part = (int)(limit * share + 1e-9);
    return part > 1 ? part : 1;
}

static int lane_limit(const struct gate *gate, enum lane lane)
{
    switch (lane) {
    case LANE_SLOW:
        return part_of(limit_value(&gate->limit), gate->limits.slow_share);
    case LANE_STREAM:
        return part_of(gate->limits.limit, gate->limits.stream_share);
    default:
        return gate->limits.limit;
    }
}

// Those in the slow lane that are more than it may have: they were let in before they were known to
// be slow, and must not keep the others out now.
static int slow_beside_limit(const struct gate *gate)
{
    int over = gate->lanes[LANE_SLOW].in_flight - lane_limit(gate, LANE_SLOW);
    return over > 0 ? over : 0;
}

// After it somebody may go who could not before. So it is not for those that only ask.
static void follow_limit(struct gate *gate)
{
    int beside = slow_beside_limit(gate);
    gate->room = limit_permits(&gate->limit, gate->lanes[LANE_SLOW].in_flight - beside) + beside;
}

// How many may be in flight now. Streams, which wait in the server, are beside the limit, too.
static int permits(const struct gate *gate)
{
    int may = gate->room + gate->lanes[LANE_STREAM].in_flight;
    return may < gate->limits.limit ? may : gate->limits.limit;
}

// A floor of 0 says that the limit is fixed.
static int floor_below(const struct gate_limits *limits, int cap)
{
    return limits->floor > 0 && limits->floor < cap ? limits->floor : cap;
}

static void take_limits(struct gate *gate, const struct gate_limits *limits)
{
    assert(limits->limit >= 1 && limits->slow_us > 0 && limits->floor >= 0);
    assert(limits->slow_share > 0 && limits->slow_share <= 1);
    assert(limits->stream_share >= 0 && limits->stream_share <= 1);
    assert(limits->max_wait_us >= 0 && limits->server_wait_us >= 0);
    gate->limits = *limits;
}

// What is slow while the server as a whole is as slow as it is now.
static int64_t slow_now(const struct gate *gate)
{
    return (int64_t)((double)gate->limits.slow_us * limit_slowness(&gate->limit));
}

// Whether nobody has a turn but what finishes things.
static bool stands_still(const struct gate *gate)
{
    return !gate->available || gate->paused;
}

// From when on those wait in vain who are not let go.
static void restart_queues(struct gate *gate)
{
    int64_t since_us = stands_still(gate) ? INT64_MAX : gate->now_us;
    for (int lane = 0; lane < LANE_COUNT; lane++) {
        queue_restart(&gate->lanes[lane].others, since_us);
    }
}

struct gate *gate_new(const struct gate_limits *limits)
{
    struct gate *gate = memory_new(1, sizeof(*gate));
    take_limits(gate, limits);
    gate->slow_us = limits->slow_us;
    limit_init(&gate->limit, floor_below(limits, limits->limit), limits->limit);
    follow_limit(gate);
    for (int lane = 0; lane < LANE_COUNT; lane++) {
        queue_init(&gate->lanes[lane].others, &gate->limits, lane == LANE_SLOW);
    }
    restart_queues(gate);
    return gate;
}

void gate_bound(struct gate *gate, const struct gate_limits *limits)
{
    take_limits(gate, limits);
    gate->slow_us = slow_now(gate);
    limit_bound(&gate->limit, floor_below(limits, limits->limit), limits->limit);
    follow_limit(gate);
}

void gate_free(struct gate *gate)
{
    if (!gate) {
        return;
    }
    assert(gate->in_flight.count == 0 && gate->by_expiry.count == 0 && gate->over.count == 0);
    for (int lane = 0; lane < LANE_COUNT; lane++) {
        queue_fini(&gate->lanes[lane].others);
    }
    ranks_fini(&gate->by_expiry);
    free(gate);
}

static void enter_lane(struct gate *gate, struct ticket *ticket, enum lane lane)
{
    ticket->lane = lane;
    ticket->shape->slow_in_flight += lane == LANE_SLOW;
    gate->lanes[lane].in_flight++;
    gate->lanes[lane].granted_us_sum += ticket->granted_us;
}

static void leave_lane(struct gate *gate, struct ticket *ticket)
{
    ticket->shape->slow_in_flight -= ticket->lane == LANE_SLOW;
    gate->lanes[ticket->lane].in_flight--;
    gate->lanes[ticket->lane].granted_us_sum -= ticket->granted_us;
}

static void end_being_new(struct gate *gate, struct ticket *ticket)
{
    gate->new_in_flight -= ticket->is_new;
    ticket->is_new = false;
}

static bool is_due_to_age(const struct gate *gate, const struct ticket *ticket, int64_t now_us)
{
    return ticket && now_us - ticket->granted_us >= gate->slow_us;
}

static int64_t later(int64_t a_us, int64_t b_us)
{
    return a_us > b_us ? a_us : b_us;
}

static bool has_room(const struct gate *gate, enum lane lane)
{
    if (lane == LANE_PINNING) {
        return gate->pin_room > 0;
    }
    return lane == LANE_NORMAL || gate->lanes[lane].in_flight < lane_limit(gate, lane);
}

// Neither slow nor a stream.
static bool is_fast(const struct ticket *ticket)
{
    return ticket->lane == LANE_NORMAL || ticket->lane == LANE_PINNING;
}

// Slow ones that may keep a connection wait for room for that, too.
static bool may_pin(const struct gate *gate, const struct ticket *ticket)
{
    return !ticket->pins || gate->pin_room > 0;
}

static bool may_grant(const struct gate *gate, enum lane lane, bool finishes)
{
    int may = permits(gate);
    bool is_kept = gate->keeps && may > 1 && (!finishes || lane == LANE_STREAM);
    return gate->available && (finishes || !gate->paused || DEFECT(PAUSE_LEAK)) &&
           gate->in_flight.count < (size_t)(may - is_kept);
}

// Who knows what a new shape is? It counts as fast, but not for more than its share of permits.
static bool belongs_to_slow_lane(const struct gate *gate, const struct ticket *ticket)
{
    bool doubtful = !ticket->shape->known &&
                    gate->new_in_flight >= part_of(limit_value(&gate->limit), NEW_SHARE);
    return !ticket->exempt && (ticket->slow || doubtful || shape_is_slow(ticket->shape));
}

// The queues in the order in which they are served, mostly.
static const struct place {
    enum lane lane;
    bool finishes;
} order[] = {
    {LANE_NORMAL, true},   {LANE_SLOW, true},    {LANE_STREAM, true},
    {LANE_PINNING, false}, {LANE_NORMAL, false}, {LANE_SLOW, false},
};

#define PLACES (sizeof order / sizeof order[0])
#define PLACES_FINISHING 3

static bool could_go(const struct gate *gate, const struct place *place)
{
    const struct lane_use *use = &gate->lanes[place->lane];
    return has_room(gate, place->lane) &&
           (place->finishes ? use->finishing.count : use->others.count);
}

// Whether somebody waits who goes before a newcomer to this queue, and could go now.
static bool would_overtake(const struct gate *gate, enum lane lane, bool finishes)
{
    const struct place *place = order;
    while (!could_go(gate, place)) {
        if (place->lane == lane && place->finishes == finishes) {
            return false;
        }
        place++;
    }
    return true;
}

static void grant(struct gate *gate, struct ticket *ticket)
{
    ticket->state = TICKET_IN_FLIGHT;
    ticket->granted_us = gate->now_us;
    ticket->sent_us = gate->now_us;
    ticket->is_new = is_fast(ticket) && !ticket->shape->known;
    gate->new_in_flight += ticket->is_new;
    gate->pin_room -= ticket->pins;
    enter_lane(gate, ticket, ticket->lane);
    ticket_list_append(&gate->in_flight, ticket);
    if (!gate->next_to_age) {
        gate->next_to_age = ticket;
    }
    gate->granted++;
}

// --- waiting ------------------------------------------------------------------------------------

static struct ticket *expiring_first(const struct gate *gate)
{
    struct rank *first = ranks_first(&gate->by_expiry);
    return first ? RANKED(first, struct ticket, expiry) : NULL;
}

static void enter_place(struct gate *gate, struct ticket *ticket)
{
    struct lane_use *use = &gate->lanes[ticket->lane];
    if (ticket->finishes) {
        ticket_list_append(&use->finishing, ticket);
    } else {
        queue_add(&use->others, ticket, gate->now_us);
    }
}

static void leave_place(struct gate *gate, struct ticket *ticket)
{
    struct lane_use *use = &gate->lanes[ticket->lane];
    if (ticket->finishes) {
        ticket_list_remove(&use->finishing, ticket);
    } else {
        queue_remove(&use->others, ticket, gate->now_us);
    }
}

static void enqueue(struct gate *gate, struct ticket *ticket)
{
    if (gate->by_expiry.count == 0) {
        gate->standing_since_us = gate->now_us;
    }
    ticket->state = TICKET_QUEUED;
    enter_place(gate, ticket);
    ranks_add(&gate->by_expiry, &ticket->expiry);
    ticket->newer = NULL;
    ticket->older = gate->newest;
    *(gate->newest ? &gate->newest->newer : &gate->oldest) = ticket;
    gate->newest = ticket;
    gate->queued_ever++;
}

static void stop_waiting(struct gate *gate, struct ticket *ticket)
{
    ranks_remove(&gate->by_expiry, &ticket->expiry);
    *(ticket->older ? &ticket->older->newer : &gate->oldest) = ticket->newer;
    *(ticket->newer ? &ticket->newer->older : &gate->newest) = ticket->older;
}

// Its waiting ends without a permit; gate_expire_next tells.
static void give_up(struct gate *gate, struct ticket *ticket, enum refusal refusal)
{
    leave_place(gate, ticket);
    stop_waiting(gate, ticket);
    ticket->is_over = true;
    ticket->refusal = refusal;
    ticket_list_append(&gate->over, ticket);
}

static void dequeue(struct gate *gate, struct ticket *ticket)
{
    if (ticket->is_over) {
        ticket_list_remove(&gate->over, ticket);
        ticket->is_over = false;
    } else {
        leave_place(gate, ticket);
        stop_waiting(gate, ticket);
    }
    ticket->state = TICKET_IDLE;
}

// How many permits the requests of a lane share when all are wanted.
static int permits_of(const struct gate *gate, enum lane lane)
{
    const struct lane_use *use = gate->lanes;
    if (lane == LANE_PINNING) {
        int most = use[lane].in_flight + gate->pin_room;
        return most > 1 ? most : 1;
    }
    if (lane != LANE_NORMAL) {
        return lane_limit(gate, lane);
    }
    int left = permits(gate) - use[LANE_SLOW].in_flight - use[LANE_STREAM].in_flight -
               use[LANE_PINNING].in_flight;
    return left > 1 ? left : 1;
}

static double mean_age_us(const struct gate *gate, int64_t granted_us_sum, int count,
                          int64_t now_us)
{
    return (double)later(gate->now_us, now_us) - (double)granted_us_sum / count;
}

// How long until one comes free, of a lane that holds none: the others have them all.
static double turn_from_others_us(const struct gate *gate, int64_t now_us)
{
    int64_t granted_us_sum = 0;
    int count = 0;
    for (int lane = 0; lane < LANE_COUNT; lane++) {
        granted_us_sum += gate->lanes[lane].granted_us_sum;
        count += gate->lanes[lane].in_flight;
    }
    return mean_age_us(gate, granted_us_sum, count, now_us) / count;
}

// How long it takes at the pace of late until the next of a lane may go.
static double turn_us(const struct gate *gate, enum lane lane, int64_t now_us)
{
    const struct lane_use *use = &gate->lanes[lane];
    double service_us = use->service_us;
    if (use->in_flight == 0 && !may_grant(gate, lane, false) && gate->in_flight.count > 0) {
        return turn_from_others_us(gate, now_us);
    }
    if (use->in_flight > 0) {
        // Tells more than the past when the server has just stopped answering.
        double age_us = mean_age_us(gate, use->granted_us_sum, use->in_flight, now_us);
        service_us = age_us > service_us ? age_us : service_us;
    }
    return service_us / permits_of(gate, lane);
}

static int64_t pace_us(const struct gate *gate, enum lane lane)
{
    return (int64_t)turn_us(gate, lane, gate->now_us);
}

// Whether it waits for something else than a permit.
static bool is_held_up(const struct gate *gate, const struct ticket *ticket)
{
    return !gate->available || (gate->paused && !ticket->finishes);
}

// How long a ticket may wait as things are now, without its own deadline.
static int64_t patience_us(const struct gate *gate, const struct ticket *ticket)
{
    if (is_held_up(gate, ticket)) {
        return later(ticket->serverless_us + gate->limits.server_wait_us - gate->now_us, 0);
    }
    if (ticket->finishes) {
        return INT64_MAX;
    }
    if (ticket->serverless_us) {
        return later(gate->limits.max_wait_us, GATE_RETURN_WAIT_US);
    }
    return queue_patience_us(&gate->lanes[ticket->lane].others, ticket, pace_us(gate, ticket->lane),
                             gate->now_us);
}

// A ticket's time without a server begins, unless it has begun already.
static void begin_serverless(const struct gate *gate, struct ticket *ticket)
{
    if (is_held_up(gate, ticket) && ticket->serverless_us == 0) {
        ticket->serverless_us = gate->now_us;
    }
}

static int64_t expiry_us(const struct gate *gate, const struct ticket *ticket)
{
    int64_t patience = patience_us(gate, ticket);
    if (patience > ticket->deadline_us - gate->now_us) {
        return ticket->deadline_us;
    }
    return gate->now_us + patience;
}

static void refuse(struct gate *gate, struct ticket *ticket, enum refusal refusal)
{
    ticket->refusal = refusal;
    gate->refused[refusal]++;
}

static enum refusal refusal_of_expired(const struct gate *gate, const struct ticket *ticket)
{
    if (ticket->deadline_us <= gate->now_us) {
        return REFUSED_DEADLINE;
    }
    return gate->available ? REFUSED_WAITED : REFUSED_NO_SERVER;
}

static void age(struct gate *gate)
{
    while (is_due_to_age(gate, gate->next_to_age, gate->now_us)) {
        struct ticket *ticket = gate->next_to_age;
        gate->next_to_age = ticket->next;
        ticket->aged = true;
        if (ticket->lane == LANE_STREAM) {
            continue;
        }
        leave_lane(gate, ticket);
        enter_lane(gate, ticket, LANE_SLOW);
        end_being_new(gate, ticket);
        shape_observe(ticket->shape, true);
    }
}

static void expire(struct gate *gate)
{
    struct ticket *ticket = expiring_first(gate);
    while (ticket && ticket->expiry.key <= gate->now_us) {
        give_up(gate, ticket, refusal_of_expired(gate, ticket));
        ticket = expiring_first(gate);
    }
}

// Moves the gate's time on: those in flight that turned out slow to the slow lane, those that have
// waited for long enough out of the queues. Returns the time to go on with.
static int64_t advance(struct gate *gate, int64_t now_us)
{
    gate->now_us = later(gate->now_us, now_us);
    age(gate);
    expire(gate);
    return gate->now_us;
}

static bool queue_is_full(const struct gate *gate)
{
    size_t count = 0;
    for (int lane = 0; lane < LANE_COUNT; lane++) {
        count += gate->lanes[lane].others.count;
    }
    return count >= gate->limits.max_queue;
}

// Makes room for a newcomer in a full queue, so that who asks for little gets in. False: it is the
// one that matters least itself.
static bool make_room(struct gate *gate, const struct ticket *newcomer)
{
    struct ticket *last = NULL;
    for (int lane = 0; lane < LANE_COUNT; lane++) {
        struct ticket *of_lane = queue_last(&gate->lanes[lane].others);
        if (!last || (of_lane && queue_matters_less(of_lane, last))) {
            last = of_lane;
        }
    }
    if (!last || !queue_yields(last, &gate->lanes[newcomer->lane].others, newcomer)) {
        return false;
    }
    give_up(gate, last, REFUSED_QUEUE_FULL);
    last->expiry.key = gate->now_us;
    return true;
}

// Whether its own deadline is so near that permits will not come free fast enough.
static bool is_hopeless(const struct gate *gate, const struct ticket *ticket)
{
    if (is_held_up(gate, ticket) || ticket->finishes || ticket->deadline_us == INT64_MAX) {
        return false;
    }
    size_t ahead = queue_ahead_of(&gate->lanes[ticket->lane].others, ticket);
    return (int64_t)ahead * pace_us(gate, ticket->lane) > ticket->deadline_us - gate->now_us;
}

// Queues a ticket that cannot go at once, unless its waiting would be over before it began.
static enum gate_answer wait_or_refuse(struct gate *gate, struct ticket *ticket)
{
    begin_serverless(gate, ticket);
    ticket->expiry.key = expiry_us(gate, ticket);
    if (ticket->expiry.key <= gate->now_us) {
        refuse(gate, ticket, refusal_of_expired(gate, ticket));
        return GATE_REFUSED;
    }
    if (is_hopeless(gate, ticket)) {
        refuse(gate, ticket, REFUSED_HOPELESS);
        return GATE_REFUSED;
    }
    if (!ticket->finishes && queue_is_full(gate) && !make_room(gate, ticket)) {
        refuse(gate, ticket, REFUSED_QUEUE_FULL);
        return GATE_REFUSED;
    }
    enqueue(gate, ticket);
    return GATE_QUEUED;
}

enum gate_answer gate_ask(struct gate *gate, struct ticket *ticket, const struct gate_ask *ask,
                          int64_t now_us)
{
    assert(ticket->state == TICKET_IDLE && ask->shape);
    assert(!ask->streams || ask->finishes);
    now_us = advance(gate, now_us);
    ticket->shape = ask->shape;
    ticket->asked_us = now_us;
    ticket->deadline_us = ask->deadline_us;
    ticket->tenant = ask->tenant;
    ticket->weight = ask->weight > 1 ? ask->weight : 1;
    ticket->priority = ask->priority;
    ticket->flow = NULL;
    ticket->finishes = ask->finishes;
    ticket->exempt = ask->exempt;
    ticket->slow = ask->slow;
    ticket->pins = ask->pins;
    ticket->serverless_us = ask->serverless_us;
    ticket->aged = false;
    ticket->lane = ask->streams                         ? LANE_STREAM
                   : belongs_to_slow_lane(gate, ticket) ? LANE_SLOW
                   : ask->pins                          ? LANE_PINNING
                                                        : LANE_NORMAL;
    if (ticket->deadline_us > now_us && may_grant(gate, ticket->lane, ticket->finishes) &&
        has_room(gate, ticket->lane) && may_pin(gate, ticket) &&
        !would_overtake(gate, ticket->lane, ticket->finishes)) {
        grant(gate, ticket);
        return GATE_GRANTED;
    }
    return wait_or_refuse(gate, ticket);
}

static void learn_service(struct lane_use *use, int64_t served_us)
{
    if (use->service_us <= 0) {
        use->service_us = (double)served_us;
    } else {
        use->service_us += SERVICE_WEIGHT * ((double)served_us - use->service_us);
    }
}

void gate_sent(struct ticket *ticket, int64_t now_us)
{
    ticket->sent_us = now_us;
}

static void learn_limit(struct gate *gate, const struct ticket *ticket)
{
    int beside = slow_beside_limit(gate);
    struct limit_sample sample = {
        .sent_us = ticket->sent_us,
        .in_flight = (int)gate->in_flight.count - gate->lanes[LANE_STREAM].in_flight - beside,
        .held = gate->lanes[LANE_SLOW].in_flight - beside,
        .waiting = gate->by_expiry.count > 0,
    };
    limit_learn(&gate->limit, &ticket->shape->time, &sample, gate->now_us);
    gate->slow_us = slow_now(gate);
}

void gate_done(struct gate *gate, struct ticket *ticket, bool learn, int64_t now_us)
{
    assert(ticket->state == TICKET_IN_FLIGHT);
    now_us = advance(gate, now_us);
    if (ticket == gate->next_to_age) {
        gate->next_to_age = ticket->next;
    }
    if (learn && ticket->lane != LANE_STREAM) {
        learn_limit(gate, ticket);
    }
    ticket_list_remove(&gate->in_flight, ticket);
    leave_lane(gate, ticket);
    end_being_new(gate, ticket);
    ticket->state = TICKET_IDLE;
    learn_service(&gate->lanes[ticket->lane], now_us - ticket->granted_us);
    queue_settle(ticket, now_us - ticket->granted_us, now_us);
    if (learn) {
        shape_learn_cost(ticket->shape, now_us - ticket->granted_us);
    }
    if (learn && !ticket->aged && ticket->lane != LANE_STREAM) {
        shape_observe(ticket->shape, false);
    }
    age(gate); // what is slow may have changed
    follow_limit(gate);
}

void gate_turn_away(struct gate *gate, struct ticket *ticket, enum refusal refusal)
{
    assert(ticket->state == TICKET_IDLE);
    refuse(gate, ticket, refusal);
}

void gate_revoke(struct gate *gate, struct ticket *ticket, enum refusal refusal, int64_t now_us)
{
    gate_done(gate, ticket, false, now_us);
    refuse(gate, ticket, refusal);
}

// The next of the others in a lane that is not the slow one. Those whose shape has become slow
// since they came make way: they go to the slow lane's queue.
static struct ticket *next_fast(struct gate *gate, enum lane lane)
{
    struct queue *queue = &gate->lanes[lane].others;
    struct ticket *ticket = queue_next(queue);
    while (ticket && belongs_to_slow_lane(gate, ticket)) {
        queue_remove(queue, ticket, gate->now_us);
        ticket->lane = LANE_SLOW;
        queue_add(&gate->lanes[LANE_SLOW].others, ticket, gate->now_us);
        ticket = queue_next(queue);
    }
    return ticket;
}

static bool is_open(const struct gate *gate, enum lane lane, bool finishes)
{
    return may_grant(gate, lane, finishes) && has_room(gate, lane);
}

static struct ticket *next_finishing(struct gate *gate)
{
    struct ticket *ticket = NULL;
    for (size_t i = 0; i < PLACES_FINISHING && !ticket; i++) {
        enum lane lane = order[i].lane;
        ticket = is_open(gate, lane, true) ? gate->lanes[lane].finishing.first : NULL;
    }
    return ticket;
}

static struct ticket *next_slow(const struct gate *gate)
{
    struct ticket *ticket = queue_next(&gate->lanes[LANE_SLOW].others);
    return ticket && is_open(gate, LANE_SLOW, false) && may_pin(gate, ticket) ? ticket : NULL;
}

static struct ticket *next_other(struct gate *gate)
{
    struct ticket *fast = is_open(gate, LANE_NORMAL, false) ? next_fast(gate, LANE_NORMAL) : NULL;
    struct ticket *pinning =
        is_open(gate, LANE_PINNING, false) ? next_fast(gate, LANE_PINNING) : NULL;
    if (!fast || (pinning && pinning->asked_us < fast->asked_us)) {
        fast = pinning;
    }
    struct ticket *slow = next_slow(gate); // after those that have just been found to be slow
    return !fast || (slow && gate->slow_due >= 1) ? slow : fast;
}

// What it will cost, as far as that is known.
static int64_t guess_us(const struct gate *gate, const struct ticket *ticket)
{
    double known_us = (double)ticket->shape->cost_us;
    double us = known_us > 0 ? known_us : gate->lanes[ticket->lane].service_us;
    return us > 1 ? (int64_t)us : 1;
}

// Of what comes free to others, the slow lane is due its share, if it can take it.
static void charge(struct gate *gate, struct ticket *ticket)
{
    queue_grant(&gate->lanes[ticket->lane].others, ticket, guess_us(gate, ticket), gate->now_us);
    gate->slow_due = ticket->lane == LANE_SLOW ? 0 : gate->slow_due + gate->limits.slow_share;
}

struct ticket *gate_grant_next(struct gate *gate, int64_t now_us)
{
    advance(gate, now_us);
    if (gate->by_expiry.count == 0) {
        return NULL;
    }
    if (!could_go(gate, &order[PLACES - 1])) {
        gate->slow_due = 0;
    }
    struct ticket *ticket = next_finishing(gate);
    ticket = ticket ? ticket : next_other(gate);
    if (!ticket) {
        return NULL;
    }
    if (ticket->finishes) {
        ticket_list_remove(&gate->lanes[ticket->lane].finishing, ticket);
        gate->slow_due = ticket->lane == LANE_SLOW ? 0 : gate->slow_due;
    } else {
        charge(gate, ticket);
    }
    stop_waiting(gate, ticket);
    grant(gate, ticket);
    return ticket;
}

struct ticket *gate_expire_next(struct gate *gate, int64_t now_us)
{
    advance(gate, now_us);
    follow_limit(gate);
    struct ticket *ticket = gate->over.first;
    if (ticket) {
        dequeue(gate, ticket);
        refuse(gate, ticket, ticket->refusal);
    }
    return ticket;
}

int64_t gate_next_expiry(const struct gate *gate)
{
    const struct ticket *ticket = gate->over.first ? gate->over.first : expiring_first(gate);
    return ticket ? ticket->expiry.key : INT64_MAX;
}

bool gate_cancel(struct gate *gate, struct ticket *ticket)
{
    assert(ticket->state != TICKET_IDLE);
    if (ticket->state == TICKET_IN_FLIGHT) {
        return false;
    }
    dequeue(gate, ticket);
    return true;
}

struct ticket *gate_evict_next(struct gate *gate)
{
    struct ticket *ticket = gate->over.first ? gate->over.first : gate->oldest;
    if (ticket) {
        dequeue(gate, ticket);
    }
    return ticket;
}

void gate_keep(struct gate *gate, bool keep)
{
    gate->keeps = keep;
}

void gate_leave_room(struct gate *gate, int pin_room)
{
    gate->pin_room = pin_room;
}

// What those who are queued wait for has changed: they begin anew.
static void begin_anew(struct gate *gate)
{
    gate->standing_since_us = gate->now_us;
    restart_queues(gate);
    for (struct ticket *ticket = gate->oldest; ticket; ticket = ticket->newer) {
        begin_serverless(gate, ticket);
        ticket->expiry.key = expiry_us(gate, ticket);
    }
    ranks_rebuild(&gate->by_expiry);
}

void gate_set_available(struct gate *gate, bool available, int64_t now_us)
{
    advance(gate, now_us);
    if (gate->available != available) {
        gate->available = available;
        begin_anew(gate);
    }
}

void gate_pause(struct gate *gate, bool paused, int64_t now_us)
{
    advance(gate, now_us);
    if (gate->paused != paused) {
        gate->paused = paused;
        begin_anew(gate);
    }
}

static size_t waiting_in(const struct lane_use *use)
{
    return use->others.count + use->finishing.count;
}

static int64_t backoff_within_bounds(double us)
{
    double ms = us / 1000;
    if (ms < BACKOFF_MIN_MS) {
        return BACKOFF_MIN_MS;
    }
    return ms < BACKOFF_MAX_MS ? (int64_t)ms : BACKOFF_MAX_MS;
}

int64_t gate_backoff_ms(const struct gate *gate, enum lane lane, int64_t now_us)
{
    if (stands_still(gate)) {
        return BACKOFF_SERVERLESS_MS;
    }
    double in_line = (double)(waiting_in(&gate->lanes[lane]) + 1);
    return backoff_within_bounds(in_line * turn_us(gate, lane, now_us));
}

int64_t gate_next_turn_ms(struct gate *gate, enum lane lane, int64_t now_us)
{
    struct lane_use *use = &gate->lanes[lane];
    if (stands_still(gate)) {
        return BACKOFF_SERVERLESS_MS;
    }
    double one_us = turn_us(gate, lane, now_us);
    double at_us = (double)now_us + (double)(waiting_in(use) + 1) * one_us;
    double next_us = use->last_turn_us + one_us;
    double most_us = (double)now_us + BACKOFF_MAX_MS * 1000.0;
    at_us = next_us > at_us ? next_us : at_us;
    use->last_turn_us = at_us < most_us ? at_us : most_us;
    return backoff_within_bounds(at_us - (double)now_us);
}

// Those that the next call which may change something will move to the slow lane.
static int about_to_age(const struct gate *gate, int64_t now_us)
{
    int count = 0;
    const struct ticket *ticket = gate->next_to_age;
    while (is_due_to_age(gate, ticket, now_us)) {
        count += is_fast(ticket);
        ticket = ticket->next;
    }
    return count;
}

void gate_count(const struct gate *gate, int64_t now_us, struct gate_counts *ret_counts)
{
    now_us = later(gate->now_us, now_us);
    bool stands = gate->available && !gate->paused && gate->by_expiry.count > 0;
    *ret_counts = (struct gate_counts){
        .available = gate->available,
        .cap = gate->limits.limit,
        .limit = permits(gate),
        .probes = limit_probes(&gate->limit),
        .kept = gate->keeps && permits(gate) > 1,
        .slowness = limit_slowness(&gate->limit),
        .in_flight = (int)gate->in_flight.count,
        .in_flight_streams = gate->lanes[LANE_STREAM].in_flight,
        .in_flight_slow = gate->lanes[LANE_SLOW].in_flight + about_to_age(gate, now_us),
        .slow_limit = lane_limit(gate, LANE_SLOW),
        .queued = gate->by_expiry.count,
        .standing_us = stands ? now_us - gate->standing_since_us : 0,
        .longest_wait_us = gate->oldest ? now_us - gate->oldest->asked_us : 0,
        .granted = gate->granted,
        .queued_ever = gate->queued_ever,
    };
    for (int i = 0; i < REFUSAL_COUNT; i++) {
        ret_counts->refused[i] = gate->refused[i];
    }
}

uint64_t gate_counts_refused(const struct gate_counts *counts)
{
    uint64_t refused = 0;
    for (int i = 0; i < REFUSAL_COUNT; i++) {
        refused += counts->refused[i];
    }
    return refused;
}

int gate_in_flight(const struct gate *gate)
{
    return (int)gate->in_flight.count;
}

// Whoever is left when each cancels one of another shape is the only one that can be.
static const struct shape *candidate(const struct gate *gate)
{
    const struct shape *shape = NULL;
    int lead = 0;
    for (const struct ticket *at = gate->in_flight.first; at; at = at->next) {
        shape = lead == 0 ? at->shape : shape;
        lead += at->shape == shape ? 1 : -1;
    }
    return shape;
}

void gate_find_majority(const struct gate *gate, int64_t now_us, struct gate_majority *ret_majority)
{
    const struct shape *shape = candidate(gate);
    int64_t held_us = 0;
    int count = 0;
    for (const struct ticket *at = gate->in_flight.first; at; at = at->next) {
        count += at->shape == shape;
        held_us += at->shape == shape ? now_us - at->granted_us : 0;
    }
    *ret_majority = (struct gate_majority){0};
    if (2 * count > gate_in_flight(gate)) {
        ret_majority->shape = shape->id;
        ret_majority->part = (double)count / gate_in_flight(gate);
        ret_majority->held_us = held_us / count;
        ret_majority->slowness = limit_slowness(&gate->limit);
    }
}

const struct ticket *gate_oldest(const struct gate *gate)
{
    return gate->in_flight.first;
}
