// SPDX-License-Identifier: Apache-2.0
//
// The invariants that can be seen from inside, by counters and links. The numbers are those of
// ARCHITECTURE.md. (What apps and servers can see is checked where they see it: sim_judge.c,
// sim_service.c.)

#include <stdio.h>

#include "proxy/client.h"
#include "proxy/request.h"
#include "proxy/upstream.h"
#include "tests/sim/sim_app.h"
#include "tests/sim/sim_operator.h"
#include "tests/sim/sim_server.h"
#include "tests/sim/sim_world.h"

#define TICK_US 50000 // the server's

int64_t check_slack_us(void)
{
    const struct loop_profile *threads = &world.knobs.threads;
    int64_t hiccups_us = threads->hiccup > 0 ? 60 * threads->hiccup_us : 0;
    return 1000 * threads->pace_us + hiccups_us + 4 * TICK_US;
}

// --- 1: the cap ---------------------------------------------------------------------------------

static int index_of(const struct server *server)
{
    int index = 0;
    sscanf(server->name, "server%d", &index);
    return index;
}

static void check_cap(const struct server *server)
{
    int cap = world.knobs.cap;
    int seen = streams_upstream_count(index_of(server));
    HOLDS(server->ledger.opening + server->ledger.open <= cap,
          "the ledger has %d opening and %d open, the cap is %d", server->ledger.opening,
          server->ledger.open, cap);
    HOLDS(seen <= cap,
          "the server sees %d connections, the cap is %d (ledger: %d opening, %d open)", seen, cap,
          server->ledger.opening, server->ledger.open);
}

static int handed_count(const struct server *server)
{
    int count = 0;
    for (const struct ticket *ticket = gate_oldest(server->gate); ticket; ticket = ticket->next) {
        count += request_of_ticket(ticket)->handed != NULL;
    }
    return count;
}

static bool is_waited_for(const struct server *server, const struct upstream *upstream)
{
    uint64_t wanted = upstream->is_pinned ? upstream->id : 0;
    const struct request *request = server->waiters;
    while (request && request->bond.upstream != wanted) {
        request = request->next;
    }
    return request != NULL;
}

// Each upstream is opening, in use, idle, claimed or on its way, and the ledger has it.
static void check_upstreams(const struct server *server)
{
    int opening = 0;
    int open = handed_count(server);
    for (int i = 0; i < world.knobs.workers; i++) {
        const struct upstream *upstream = world.workers[i]->upstreams;
        for (; upstream; upstream = upstream->next) {
            if (upstream->server != server) {
                continue;
            }
            HOLDS(upstream->worker == world.workers[i],
                  "an upstream is on a list of another worker");
            bool makes_room = upstream->broken && !upstream->claimer;
            int uses = (upstream->opening != NULL) + (upstream->request != NULL) +
                       upstream->is_idle + (upstream->claimer != NULL) + makes_room;
            HOLDS(uses == 1, "an upstream has %d uses", uses);
            HOLDS(!upstream->request || upstream->request->upstream == upstream,
                  "an upstream's request has another upstream");
            opening += upstream->opening != NULL;
            open += upstream->opening == NULL;
            HOLDS(!upstream->is_idle || !is_waited_for(server, upstream),
                  "a request waits for an upstream that is idle");
        }
    }
    HOLDS(server->ledger.opening == opening && server->ledger.open == open,
          "the ledger has %d opening and %d open, there are %d and %d", server->ledger.opening,
          server->ledger.open, opening, open);
}

// --- 3, 5: permits ------------------------------------------------------------------------------

static bool is_claimer(const struct request *request)
{
    for (int i = 0; i < world.knobs.workers; i++) {
        const struct upstream *upstream = world.workers[i]->upstreams;
        for (; upstream; upstream = upstream->next) {
            if (upstream->claimer == request) {
                return true;
            }
        }
    }
    return false;
}

static void check_holder(const struct request *request)
{
    HOLDS(request->ticket.state == TICKET_IN_FLIGHT, "a ticket in flight says that it is not");
    if (request->upstream) {
        HOLDS(request->has_permit, "a request has an upstream and no permit");
        return;
    }
    bool news = request->is_ready || loop_has_mail(request->worker->loop, &request->mail);
    HOLDS(request->waits || news || is_claimer(request),
          "a request has a permit and no upstream, and nothing will come to it");
}

static void check_permits(const struct server *server)
{
    struct gate_counts counts;
    int holders = 0;
    for (const struct ticket *ticket = gate_oldest(server->gate); ticket; ticket = ticket->next) {
        check_holder(request_of_ticket(ticket));
        holders++;
    }
    gate_count(server->gate, sim_now_us(), &counts);
    HOLDS(holders == counts.in_flight && holders <= world.knobs.cap && counts.limit <= counts.cap,
          "the gate counts %d in flight, there are %d, the cap is %d", counts.in_flight, holders,
          world.knobs.cap);
    int told = atomic_load(&server->pulse.in_flight);
    HOLDS(told == counts.in_flight, "selection takes %d to be in flight, there are %d", told,
          counts.in_flight);
    // With no slow lane, nothing that keeps connections, and no deadlines, whoever waits could go.
    bool all_alike = world.knobs.slow_share >= 1 && !world.knobs.balanced &&
                     world.knobs.max_time == 0 && !operator_pauses();
    HOLDS(!all_alike || !counts.available || counts.queued == 0 ||
              counts.in_flight >= counts.limit - counts.kept,
          "%zu requests queue, and only %d of %d permits are out", counts.queued, counts.in_flight,
          counts.limit);
}

static void check_waiters(const struct server *server)
{
    int count = 0;
    for (const struct request *request = server->waiters; request; request = request->next) {
        HOLDS(request->waits && request->ticket.state == TICKET_IN_FLIGHT,
              "a request among the waiters does not wait");
        count++;
    }
    HOLDS(count == server->waiter_count, "%d waiters are counted, there are %d",
          server->waiter_count, count);
}

// Nobody waits longer than it may.
static void check_deadlines(const struct server *server)
{
    int64_t late_us = sim_now_us() - check_slack_us();
    int64_t expiry_us = gate_next_expiry(server->gate);
    HOLDS(expiry_us >= late_us, "a request in the queue should have been refused %lld us ago",
          (long long)(sim_now_us() - expiry_us));
    const struct request *first = server->waiters;
    int64_t patience_us = world.knobs.server_wait_us > SERVER_CONNECT_WAIT_US
                              ? world.knobs.server_wait_us
                              : SERVER_CONNECT_WAIT_US;
    HOLDS(!first || first->waits_since_us + patience_us >= late_us,
          "a request waits for an upstream since %lld us",
          (long long)(sim_now_us() - first->waits_since_us));
}

// --- who may look at a server -------------------------------------------------------------------

// A server does not die before the last request that was routed to it.
static void check_reach(const struct request *request)
{
    const struct servers *servers = world.shared.servers;
    const struct server *server = servers->list;
    while (server && server != request->server) {
        server = server->next;
    }
    HOLDS(!request->server || request->server == servers->lobby || server,
          "a request's server is dead");
}

// --- 7: memory ----------------------------------------------------------------------------------

static void check_client(const struct client *client)
{
    HOLDS(!client->request || client->request->client == client,
          "a client's request is another client's");
    HOLDS(client->claimed_bytes == buffer_held(&client->out),
          "a client has claimed %zu bytes and holds %zu", client->claimed_bytes,
          buffer_held(&client->out));
}

static size_t claimed_by(const struct request *request)
{
    return request->claimed_bytes + request->packing_bytes;
}

static void check_budget(void)
{
    size_t claimed = 0;
    size_t used = atomic_load(&world.shared.budget.used);
    int requests = 0;
    int reached = 0;
    for (int i = 0; i < world.knobs.workers; i++) {
        requests += world.workers[i]->request_count;
        const struct client *client = world.workers[i]->clients;
        for (; client; client = client->next) {
            check_client(client);
            claimed += client->claimed_bytes;
            if (client->request) {
                check_reach(client->request);
                claimed += claimed_by(client->request);
                reached++;
            }
        }
    }
    const struct server *server = world.shared.servers->list;
    for (; server; server = server->next) {
        const struct ticket *ticket = gate_oldest(server->gate);
        for (; ticket; ticket = ticket->next) {
            const struct request *request = request_of_ticket(ticket);
            claimed += request->client ? 0 : claimed_by(request);
            reached += request->client == NULL;
        }
    }
    HOLDS(used >= claimed, "the budget has %zu bytes in use, %zu are claimed", used, claimed);
    HOLDS(reached < requests || used == claimed, "the budget has %zu bytes in use, %zu are claimed",
          used, claimed);
}

// --- when ---------------------------------------------------------------------------------------

static void check_total(void)
{
    int most = world.knobs.total_cap;
    int entered = 0;
    const struct server *server = world.shared.servers->list;
    for (; server; server = server->next) {
        entered += server->ledger.opening + server->ledger.open;
    }
    int counted = atomic_load(&world.shared.servers->open_total);
    HOLDS(counted == entered, "%d upstreams are counted, the ledgers have %d", counted, entered);
    HOLDS(most == 0 || entered <= most, "%d upstreams are there, the cap over all is %d", entered,
          most);
}

static void check_server(const struct server *server)
{
    check_cap(server);
    if (!loops_are_between_handlers()) {
        return;
    }
    check_upstreams(server);
    check_permits(server);
    operator_check(server);
    check_waiters(server);
    if (!world.ending) {
        check_deadlines(server);
    }
}

void check_step(void)
{
    if (!world.shared.servers) {
        return;
    }
    check_server(world.shared.servers->lobby);
    for (const struct server *server = world.shared.servers->list; server; server = server->next) {
        check_server(server);
    }
    if (loops_are_between_handlers()) {
        check_total();
        check_budget();
    }
}

void check_now_and_then(void)
{
    apps_check_progress();
}

// An unacknowledged write that weir did not refuse has arrived. (An answer to what its connection
// sent afterwards says that weir has had it.)
static void check_unacknowledged(uint64_t refused)
{
    uint64_t missing = 0;
    for (size_t i = 0; i < world.op_count; i++) {
        const struct op *op = &world.ops[i];
        missing += op->unacknowledged && op->received == 0 && op->followed_by &&
                   op_find(op->followed_by)->answered;
    }
    HOLDS(missing <= refused, "%llu unacknowledged writes are missing, %llu requests were refused",
          (unsigned long long)missing, (unsigned long long)refused);
}

// Returns how many requests it refused.
static uint64_t check_server_at_rest(const struct server *server)
{
    struct gate_counts counts;
    uint64_t refused = 0;
    gate_count(server->gate, sim_now_us(), &counts);
    HOLDS(counts.in_flight == 0 && counts.queued == 0 && server->waiter_count == 0,
          "at rest, %d permits are out, %zu requests queue, %d wait", counts.in_flight,
          counts.queued, server->waiter_count);
    HOLDS(server->ledger.opening == 0, "at rest, %d upstreams are opening", server->ledger.opening);
    for (int i = 0; i < REFUSAL_COUNT; i++) {
        refused += counts.refused[i];
    }
    return refused;
}

static void check_worker_at_rest(const struct worker *worker)
{
    int i = worker->index;
    HOLDS(!worker->clients && worker->request_count == 0, "at rest, worker %d has work", i);
    HOLDS(atomic_load(&worker->client_count) == 0, "at rest, worker %d counts clients", i);
    HOLDS(atomic_load(&worker->shared->places) == 0, "at rest, clients have places");
    HOLDS(!worker->knocking && atomic_load(&worker->shared->knocking) == 0,
          "at rest, somebody knocks");
    HOLDS(!worker->ready && !worker->starved && !worker->dead_clients && !worker->dead_upstreams,
          "at rest, something is on a list of worker %d", i);
    HOLDS(loop_mailbox_is_empty(worker->loop), "at rest, worker %d has mail", i);
    HOLDS(worker->own_requests == 0, "at rest, worker %d counts requests of its own", i);
    for (const struct upstream *upstream = worker->upstreams; upstream; upstream = upstream->next) {
        HOLDS(upstream->approach == worker->shared->approach,
              "at rest, an upstream is there that a former approach opened");
        HOLDS(!upstream->tie || upstream->tie->pins == 0, "at rest, an upstream is tied");
        HOLDS(upstream->pins == 0 && !upstream->is_pinned, "at rest, an upstream is kept in vain");
    }
}

void check_rest(void)
{
    uint64_t refused = check_server_at_rest(world.shared.servers->lobby);
    for (const struct server *server = world.shared.servers->list; server; server = server->next) {
        refused += check_server_at_rest(server);
    }
    for (int i = 0; i < world.knobs.workers; i++) {
        refused += atomic_load(&world.workers[i]->failed[FAILURE_NO_MEMORY]);
    }
    rules_check_rest();
    if (world.calm) {
        check_unacknowledged(refused + rules_refused() + operator_refused());
    }
    HOLDS(!world.knobs.patient || world.accepted * 8 <= world.op_count,
          "%llu connections were opened for %zu operations", (unsigned long long)world.accepted,
          world.op_count);
    size_t pins = pins_count(world.shared.affinity.pins);
    HOLDS(atomic_load(&world.shared.budget.used) == 0, "at rest, %zu bytes are claimed",
          atomic_load(&world.shared.budget.used));
    HOLDS(pins == 0, "at rest, %zu pins are left", pins);
    for (int i = 0; i < world.knobs.workers; i++) {
        check_worker_at_rest(world.workers[i]);
    }
    HOLDS(!world.calm || servers_cursor_count() + servers_transaction_count() == 0,
          "at rest, %d cursors and %d transactions are left at the server", servers_cursor_count(),
          servers_transaction_count());
}
