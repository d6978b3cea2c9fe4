// SPDX-License-Identifier: Apache-2.0
//
// A seed from beginning to end:
//
//      begin -> apps at work, faults -> rest (no faults, apps stop) -> all must be back -> weir
//      ends -> empty

#include "tests/sim/sim_world.h"

#include <assert.h>
#include <stdlib.h>

#include "proxy/mem.h"
#include "tests/sim/sim_app.h"
#include "tests/sim/sim_message.h"
#include "tests/sim/sim_operator.h"
#include "tests/sim/sim_server.h"

#define STEPS_MAX 20000000
#define CHECK_EVERY_US 100000
#define GONE_WITHIN_US INT64_C(900000000)
#define REST_US 30000000

struct world world;

static struct event now_and_then;

// --- the book -----------------------------------------------------------------------------------

const char *op_command(enum op_kind kind)
{
    static const char *const commands[] = {
#define X(name, command) command,
        OP_KINDS(X)
#undef X
    };
    return commands[kind];
}

const char *op_kind_name(enum op_kind kind)
{
    static const char *const names[] = {
#define X(name, command) #name,
        OP_KINDS(X)
#undef X
    };
    return names[kind];
}

struct op *op_new(enum op_kind kind)
{
    if (world.op_count == world.op_capacity) {
        world.op_capacity = world.op_capacity ? 2 * world.op_capacity : 256;
        world.ops = xrealloc(world.ops, world.op_capacity * sizeof *world.ops);
    }
    struct op *op = &world.ops[world.op_count++];
    *op = (struct op){.id = (int64_t)world.op_count, .kind = kind};
    return op;
}

struct op *op_find(int64_t id)
{
    return id >= 1 && (size_t)id <= world.op_count ? &world.ops[id - 1] : NULL;
}

// --- weir ---------------------------------------------------------------------------------------

static void configure(void)
{
    static char *compressors[] = {"snappy", "zlib", "zstd"};
    static char *weights[] = {"simulated-2=3"};
    const struct knobs *knobs = &world.knobs;
    world.deployment.compressors =
        knobs->server_compression ? all_compressors(world.seed) : (struct compressor_list){0};
    world.config = (struct config){
        .max_connections = knobs->cap,
        .max_total_connections = knobs->total_cap,
        .pinned_share = 0.5,
        .connect_timeout_us = knobs->connect_timeout_us,
        .upstream_max_idle_time_us = knobs->max_idle_us,
        .upstream_max_age_us = knobs->max_age_us,
        .server_wait_us = knobs->server_wait_us,
        .response_timeout_us = knobs->response_timeout_us,
        .max_incoming_connections = 1000,
        .tls_mode = knobs->sniff ? CONFIG_TLS_ALLOW : CONFIG_TLS_DISABLED,
        .handshake_timeout_us = 10000000,
        .message_timeout_us = knobs->message_timeout_us,
        .max_buffered_bytes = (int64_t)knobs->max_buffered,
        .max_wait_us = knobs->max_wait_us,
        .max_queue = knobs->max_queue,
        .limit = world.seed % 2 && !knobs->lobby ? CONFIG_LIMIT_ADAPTIVE : CONFIG_LIMIT_FIXED,
        .min_limit = 1,
        .slow_share = knobs->slow_share,
        .emergency_share = 0.5,
        .emergency_max_wait_us = knobs->max_wait_us / 2,
        .slow_op_threshold_us = knobs->slow_us,
        .idle_cursor_after_us = knobs->idle_us,
        .idle_transaction_after_us = knobs->idle_us,
        .kill_idle = true,
        .kill_after_us = knobs->kill_after_us,
        .kill_abandoned_after_us = knobs->kill_after_us,
        .compressors = {compressors, 3},
        .tenant_by = knobs->lobby ? CONFIG_TENANT_ADDRESS : CONFIG_TENANT_APP,
        .tenant_weights = {weights, 1},
    };
    world.config.origins[CONFIG_OPTION_compressors].source = CONFIG_FROM_FLAG;
}

// As weir.c does it.
static void weir_begin(void)
{
    static struct tls_server *const some_tls = (struct tls_server *)&world; // never looked into
    configure();
    struct approach *approach = xcalloc(1, sizeof *approach);
    approach->references = 1;
    approach->deployment = &world.deployment;
    world.shared = (struct shared){
        .config = &world.config,
        .approach = approach,
        .control = world.control,
        .tls_server = world.knobs.sniff ? some_tls : NULL,
        .budget = {.limit = world.knobs.max_buffered},
        .tenant_seed = world.seed,
    };
    atomic_init(&world.shared.next_client_id, 1);
    atomic_init(&world.shared.next_upstream_id, 1);
    world.shared.servers = servers_new(&world.config, world.workers, world.knobs.workers);
    affinity_init(&world.shared.affinity);
    for (int i = 0; i < world.knobs.workers; i++) {
        world.workers[i] = worker_new(i, &world.shared);
    }
    for (int i = 0; i < world.knobs.workers; i++) {
        loop_start(world.workers[i]->loop);
    }
}

struct net_end *world_connect(void)
{
    if (world.ending || world.draining) {
        return NULL;
    }
    struct net_conn *conn = net_open(&world.knobs.app_net);
    struct worker *worker = world.workers[dice_between(0, world.knobs.workers - 1)];
    worker_give_client(worker, stream_fd_of(&conn->ends[1]), 0);
    return &conn->ends[0];
}

static void tell_to_end(void)
{
    TRACE("weir is told to end");
    world.ending = true;
    for (int i = 0; i < world.knobs.workers; i++) {
        struct mail *mail = xcalloc(1, sizeof *mail);
        worker_post(world.workers[i], mail, MAIL_END);
    }
}

static bool no_clients(void)
{
    return workers_count_clients(world.workers, world.knobs.workers) == 0;
}

static bool run(int64_t last_us, bool (*done)(void));

// As weir.c does it.
static void drain(void)
{
    int64_t within_us = dice_scale(100000, 20000000);
    enum drain_whom whom = dice_chance(0.5) ? DRAIN_ALL : DRAIN_REPLACED;
    TRACE("weir drains within %lld us", within_us);
    world.draining = true;
    for (int i = 0; i < world.knobs.workers; i++) {
        struct drain_mail *mail = xcalloc(1, sizeof *mail);
        mail->drain = (struct drain){sim_now_us(), sim_now_us() + within_us, whom};
        worker_post(world.workers[i], &mail->mail, MAIL_DRAIN);
    }
    run(within_us, no_clients);
}

static bool has_ended(void)
{
    for (int i = 0; i < world.knobs.workers; i++) {
        if (!loop_has_ended(world.workers[i]->loop)) {
            return false;
        }
    }
    return true;
}

static void weir_dispose(void)
{
    for (int i = 0; i < world.knobs.workers; i++) {
        HOLDS(!world.workers[i]->late, "worker %d ended with requests under way", i);
    }
    for (int i = 0; i < world.knobs.workers; i++) {
        worker_free(world.workers[i]);
        world.workers[i] = NULL;
    }
    approach_drop(world.shared.approach);
    servers_free(world.shared.servers);
    affinity_fini(&world.shared.affinity);
    world.shared.servers = NULL;
}

// --- time ---------------------------------------------------------------------------------------

static void look_now_and_then(void *arg)
{
    (void)arg;
    check_now_and_then();
    event_set(&now_and_then, sim_now_us() + CHECK_EVERY_US);
}

// Runs until `done` or the time is over. False: it is.
static bool run(int64_t last_us, bool (*done)(void))
{
    int64_t until_us = sim_now_us() + last_us;
    while (!done || !done()) {
        if (!sim_step(until_us)) {
            return false;
        }
        check_step();
        HOLDS(sim_steps() < STEPS_MAX, "this does not come to an end");
    }
    return true;
}

static bool work_is_done(void)
{
    for (int i = 0; i < world.knobs.apps; i++) {
        const struct app *app = &world.apps[i];
        for (int j = 0; j < app->conn_count; j++) {
            const struct app_conn *conn = &app->conns[j];
            if (!conn->is_monitor && (conn->end || conn->left > 0)) {
                return false;
            }
        }
    }
    return true;
}

static void work(void)
{
    bool ends = dice_chance(world.knobs.ending);
    if (!ends) {
        run(world.knobs.last_us, work_is_done);
        return;
    }
    run(dice_scale(200000, world.knobs.last_us), work_is_done);
    if (world.knobs.drains) {
        drain();
    }
    world.was_ended = true;
    tell_to_end();
    HOLDS(run(11000000 + check_slack_us(), has_ended), "weir does not end");
}

// Apps may be gone long before the server has answered what they asked for, and a cursor that such
// an answer opens is an orphan for its time of grace.
static bool nothing_is_under_way(void)
{
    for (int i = 0; i < world.knobs.workers; i++) {
        if (world.workers[i]->request_count > 0) {
            return false;
        }
    }
    return true;
}

static void rest(void)
{
    TRACE("the apps stop");
    world.resting = true;
    servers_heal();
    control_truth_changed();
    operator_rest();
    apps_stop(dice_chance(0.5));
    HOLDS(run(GONE_WITHIN_US, apps_are_gone), "an app waits for ever");
    HOLDS(run(GONE_WITHIN_US, nothing_is_under_way), "a request has no end");
    run(REST_US, NULL);
    TRACE("the world is at rest");
    if (!world.was_ended) {
        check_rest();
        tell_to_end();
        HOLDS(run(1000000 + check_slack_us(), has_ended), "weir does not end though it is at rest");
    }
}

static bool no_connections(void)
{
    return servers_connection_count() == 0;
}

static void clear_away(void)
{
    event_cancel(&now_and_then);
    weir_dispose();
    rules_finish();
    operator_finish();
    run(60000000, no_connections);
    control_finish();
    apps_finish();
    servers_finish();
    free(world.ops);
    HOLDS(net_count() == 0 && streams_count() == 0, "%d connections are left", net_count());
}

void world_run(const struct scenario *scenario, uint64_t seed)
{
    size_t blocks = memory_blocks();
    sim_begin(seed);
    world = (struct world){.seed = seed, .scenario = scenario};
    knobs_draw(&world.knobs);
    scenario->set(&world.knobs);
    const struct knobs *knobs = &world.knobs;
    world.calm = knobs->close_every_us + knobs->restart_every_us + knobs->stall_every_us +
                         knobs->stepdown_every_us + knobs->leave_every_us ==
                     0 &&
                 knobs->lie == 0 && knobs->server_error == 0 && knobs->connection_limit == 0 &&
                 knobs->dead_addresses == 0 && knobs->auth_fails == 0;
    loops_use(&world.knobs.threads);
    control_begin();
    weir_begin();
    servers_begin();
    rules_begin();
    operator_begin();
    apps_begin();
    event_init(&now_and_then, look_now_and_then, NULL);
    event_set(&now_and_then, sim_now_us() + CHECK_EVERY_US);
    work();
    rest();
    clear_away();
    sim_end();
    HOLDS(memory_blocks() == blocks, "%zd blocks of memory are left",
          (ssize_t)(memory_blocks() - blocks));
}
