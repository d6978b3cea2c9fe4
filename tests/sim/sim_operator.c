// SPDX-License-Identifier: Apache-2.0
//
// An operator who ends what he likes (proxy/cull.h), bounds what may be in flight, and has things
// wait. What he asked for is remembered, so that nothing else may be ended.

#include "tests/sim/sim_operator.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/client.h"
#include "proxy/cull.h"
#include "proxy/mem.h"
#include "proxy/request.h"
#include "tests/sim/sim_app.h"
#include "wire/bson_view.h"
#include "wire/shape.h"

// One that means more than a request or a client.
struct wide {
    const char *command; // of all that it may mean; NULL: any
    int64_t over_us;
    int64_t until_us; // what begins later is not meant
};

struct order {
    struct order *next;
    struct cull *cull; // NULL: done
    struct wide wide;
    bool is_wide;
    struct event end;
};

static struct event act;
static struct order *orders; // all that there ever were
static uint64_t ended;       // unsent ones
static bool any_is_late;
static int64_t paused_us; // since when; 0: it is not
static int64_t resumed_us;
static int limit; // 0: none
static int64_t limited_us;

// --- waiting for a cull -------------------------------------------------------------------------

// There is nobody who could come meanwhile: time is over at once.
int __wrap_pthread_cond_clockwait(pthread_cond_t *cond, pthread_mutex_t *mutex, clockid_t clock,
                                  const struct timespec *until);
int __wrap_pthread_cond_clockwait(pthread_cond_t *cond, pthread_mutex_t *mutex, clockid_t clock,
                                  const struct timespec *until)
{
    (void)cond;
    (void)mutex;
    (void)clock;
    (void)until;
    return ETIMEDOUT;
}

static void let_go(void *arg)
{
    struct order *order = arg;
    struct cull_counts counts;
    event_cancel(&order->end);
    bool done = cull_end(order->cull, &counts);
    order->cull = NULL;
    order->wide.until_us = done ? sim_now_us() : sim_now_us() + check_slack_us();
    ended += (uint64_t)counts.refused;
    any_is_late |= !done;
    TRACE("the operator's order is done: %lld; %lld ended, %lld refused, %lld closed, %lld spared",
          done, counts.ended, counts.refused, counts.closed, counts.spared);
}

static void give_order(const struct cull_wish *wish, const struct wide *wide)
{
    struct order *order = xcalloc(1, sizeof *order);
    order->next = orders;
    orders = order;
    order->is_wide = wide != NULL;
    if (wide) {
        order->wide = *wide;
        order->wide.until_us = INT64_MAX;
    }
    event_init(&order->end, let_go, order);
    order->cull = cull_begin(world.workers, world.knobs.workers, wish);
    event_set(&order->end, sim_now_us() + dice_scale(1, check_slack_us()));
}

// --- what he ends -------------------------------------------------------------------------------

// One that is somewhere between ADMIT and RECEIVE; NULL if there is none.
static struct client *some_busy_client(void)
{
    struct client *found = NULL;
    int seen = 0;
    for (int i = 0; i < world.knobs.workers; i++) {
        for (struct client *at = world.workers[i]->clients; at; at = at->next) {
            bool busy =
                at->request && at->request->step >= STEP_ADMIT && at->request->step <= STEP_RECEIVE;
            if (busy && dice_between(0, seen++) == 0) {
                found = at;
            }
        }
    }
    return found;
}

static struct op *op_of(const struct request *request)
{
    struct bson_element comment;
    int64_t id = 0;
    bool found =
        bson_find(request->command.body, "comment", &comment) && bson_element_i64(&comment, &id);
    return found ? op_find(id) : NULL;
}

static void end_request(const struct request *request, const struct op *op)
{
    TRACE("the operator ends operation %lld", op->id);
    op_find(op->id)->is_culled = true;
    give_order(&(struct cull_wish){.request = request->number}, NULL);
}

static void end_client(const struct client *client, const struct op *op)
{
    TRACE("the operator ends connection %lld", op->conn);
    app_connection_cull(op->conn);
    give_order(&(struct cull_wish){.client = client->id}, NULL);
}

static void end_many(const struct request *request, const struct op *op, int64_t over_us)
{
    bool of_shape = over_us == 0 || dice_chance(0.5);
    struct wide wide = {.command = of_shape ? op_command(op->kind) : NULL, .over_us = over_us};
    struct cull_wish wish = {.has_shape = of_shape, .over_us = over_us};
    if (of_shape) {
        wish.shape = shape_id(&request->msg, &request->command);
    }
    TRACE("the operator ends each %s over %lld us", wide.command ? wide.command : "one", over_us);
    give_order(&wish, &wide);
}

static void end_something(void)
{
    const struct client *client = some_busy_client();
    const struct op *op = client ? op_of(client->request) : NULL;
    if (!op) {
        return;
    }
    switch (dice_between(0, 3)) {
    case 0:
        end_request(client->request, op);
        return;
    case 1:
        end_client(client, op);
        return;
    default:
        end_many(client->request, op, dice_chance(0.5) ? 0 : dice_scale(1, 5000000));
    }
}

// --- what he bounds -----------------------------------------------------------------------------

static void set_limit(int to)
{
    TRACE("at most %lld are to be in flight", to);
    limit = to;
    limited_us = sim_now_us();
    servers_set_limit(world.shared.servers, to);
}

static void pause_all(bool paused)
{
    TRACE("what is new waits: %lld", paused);
    paused_us = paused ? sim_now_us() : 0;
    resumed_us = sim_now_us();
    servers_pause(world.shared.servers, paused);
}

static void give_some_order(void *arg)
{
    (void)arg;
    if (world.resting || world.ending || world.draining) {
        return;
    }
    switch (dice_between(0, 5)) {
    case 0:
        set_limit((int)dice_between(0, world.knobs.cap));
        break;
    case 1:
        pause_all(paused_us == 0);
        break;
    default:
        end_something();
    }
    event_set(&act, sim_now_us() + dice_between(1, 2 * world.knobs.operator_every_us));
}

// --- what must hold -----------------------------------------------------------------------------

static bool is_meant(const struct order *order, const struct op *op)
{
    const struct wide *wide = &order->wide;
    return order->is_wide && op->sent_us <= wide->until_us &&
           (!wide->command || strcmp(wide->command, op_command(op->kind)) == 0);
}

bool operator_may_end(const struct op *op, int64_t ran_us)
{
    bool may = op->is_culled || app_connection_is_culled(op->conn);
    bool finishes = op->kind == OP_COMMIT || op->kind == OP_ABORT || op->kind == OP_KILL_CURSORS;
    for (const struct order *at = orders; at && !may; at = at->next) {
        may = is_meant(at, op) && ran_us >= at->wide.over_us && (at->wide.command || !finishes);
    }
    return may;
}

uint64_t operator_refused(void)
{
    return any_is_late ? UINT64_MAX / 2 : ended;
}

bool operator_pauses(void)
{
    return paused_us > 0 || sim_now_us() < resumed_us + check_slack_us();
}

// The first worker puts in force what he says; at a server that is not known, who first hears of
// it.
void operator_check(const struct server *server)
{
    struct gate_counts counts;
    int64_t due_us = sim_now_us() - check_slack_us();
    gate_count(server->gate, sim_now_us(), &counts);
    HOLDS(limit == 0 || !server->known || limited_us > due_us || counts.limit <= limit,
          "%d may be in flight, the operator's limit is %d", counts.limit, limit);
    for (const struct ticket *at = gate_oldest(server->gate); at; at = at->next) {
        HOLDS(paused_us == 0 || at->finishes || at->granted_us <= paused_us + check_slack_us(),
              "a request began %lld us after all that is new was to wait",
              (long long)(at->granted_us - paused_us));
    }
}

// --- life ---------------------------------------------------------------------------------------

void operator_begin(void)
{
    ended = 0;
    any_is_late = false;
    paused_us = resumed_us = 0;
    limit = 0;
    event_init(&act, give_some_order, NULL);
    if (world.knobs.operator_every_us > 0) {
        event_set(&act, sim_now_us() + dice_between(1, 2 * world.knobs.operator_every_us));
    }
}

void operator_rest(void)
{
    if (world.knobs.operator_every_us > 0 && !world.ending) {
        set_limit(0);
        pause_all(false);
    }
}

void operator_finish(void)
{
    event_cancel(&act);
    while (orders) {
        struct order *order = orders;
        orders = order->next;
        if (order->cull) {
            let_go(order);
        }
        free(order);
    }
}
