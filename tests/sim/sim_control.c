// SPDX-License-Identifier: Apache-2.0
//
// proxy/control/control.h: jobs run later, and discovery knows what the world is like, a while
// after it has become so.

#include <stdio.h>
#include <stdlib.h>

#include "proxy/kill.h"
#include "proxy/mem.h"
#include "tests/sim/sim_server.h"
#include "tests/sim/sim_world.h"

struct control {
    struct control_job *jobs;
    struct control_job **jobs_end;
    struct event work;
    struct event discover;
    int kills; // that are on their way
    uint64_t generation;
};

// --- jobs ---------------------------------------------------------------------------------------

static void do_job(void *arg)
{
    struct control *control = arg;
    struct control_job *job = control->jobs;
    control->jobs = job->next;
    if (!control->jobs) {
        control->jobs_end = &control->jobs;
    } else {
        event_set(&control->work, sim_now_us() + dice_scale(1, 50000));
    }
    job->run(job);
}

void control_post(struct control *control, struct control_job *job)
{
    TRACE("control: a job is posted");
    job->next = NULL;
    *control->jobs_end = job;
    control->jobs_end = &job->next;
    if (!event_is_set(&control->work)) {
        event_set(&control->work, sim_now_us() + dice_scale(1, 50000));
    }
}

// --- killing ------------------------------------------------------------------------------------

struct killing {
    struct event event;
    struct kill *kill;
};

static void do_kill(void *arg)
{
    struct killing *killing = arg;
    int server;
    if (sscanf(killing->kill->server, "server%d", &server) == 1 && !dice_chance(world.knobs.deaf)) {
        server_kill(server, killing->kill->connection, killing->kill->asked_us);
    }
    event_cancel(&killing->event);
    free(killing->kill);
    free(killing);
    world.control->kills--;
}

void control_kill(struct control *control, struct kill *kill)
{
    struct killing *killing = xcalloc(1, sizeof *killing);
    killing->kill = kill;
    event_init(&killing->event, do_kill, killing);
    event_set(&killing->event, sim_now_us() + dice_scale(100, 1000000));
    control->kills++;
}

// --- discovery ----------------------------------------------------------------------------------

static void describe(struct server_info *info, int index)
{
    snprintf(info->name, sizeof info->name, "server%d:27017", index);
    snprintf(info->host, sizeof info->host, "server%d", index);
    info->kind = server_kind_seen(index);
    info->max_wire_version = 21;
    info->max_bson_bytes = 16777216;
    info->max_message_bytes = 48000000;
    info->max_write_batch = 100000;
    info->session_timeout_minutes = 30;
    info->address_count = (size_t)(1 + world.knobs.dead_addresses);
    for (size_t i = 0; i < info->address_count; i++) {
        server_address(index, (int)i, &info->addresses[i]);
    }
}

// Who is near and who is behind changes with each snapshot.
static void draw_pulses(const struct topology *topology)
{
    for (size_t i = 0; i < topology->server_count; i++) {
        struct server_pulse *pulse = topology->servers[i].pulse;
        atomic_store(&pulse->rtt_us, dice_between(1, 30000));
        atomic_store(&pulse->staleness_ms, dice_between(0, 200000));
    }
}

// To each worker, as weir.c's topology_changed does.
static void publish(void *arg)
{
    struct control *control = arg;
    if (world.ending) {
        return;
    }
    struct topology *topology = topology_new(++control->generation, (size_t)servers_member_count());
    size_t described = 0;
    for (int i = 0; i < world.knobs.servers; i++) {
        if (server_is_member(i)) {
            describe(&topology->servers[described++], i);
        }
    }
    servers_adopt(world.shared.servers, topology);
    draw_pulses(topology);
    TRACE("discovery: snapshot %lld, the primary is %lld", control->generation, world.primary);
    for (int i = 0; i < world.knobs.workers; i++) {
        struct topology_mail *mail = xcalloc(1, sizeof *mail);
        mail->topology = topology_keep(topology);
        worker_post(world.workers[i], &mail->mail, MAIL_TOPOLOGY);
    }
    topology_drop(topology);
}

void control_truth_changed(void)
{
    event_set(&world.control->discover, sim_now_us() + dice_scale(1000, 2000000));
}

void control_request_scan(struct control *control)
{
    int64_t at_us = sim_now_us() + dice_scale(1000, 500000);
    if (event_is_set(&control->discover) && control->discover.at_us > at_us) {
        event_set(&control->discover, at_us);
    }
}

// --- life ---------------------------------------------------------------------------------------

void control_begin(void)
{
    struct control *control = xcalloc(1, sizeof *control);
    control->jobs_end = &control->jobs;
    event_init(&control->work, do_job, control);
    event_init(&control->discover, publish, control);
    world.control = control;
    event_set(&control->discover, sim_now_us() + dice_between(0, 20000));
}

void control_finish(void)
{
    HOLDS(!world.control->jobs, "a job is left when weir has ended");
    HOLDS(world.control->kills == 0, "killing has not come to its end");
    event_cancel(&world.control->work);
    event_cancel(&world.control->discover);
    free(world.control);
    world.control = NULL;
}
