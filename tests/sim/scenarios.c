// SPDX-License-Identifier: Apache-2.0
//
// The scenarios. Each starts from knobs that the dice have set (knobs_draw: a healthy world,
// ordinary operations) and turns those that it is about. To add one: a function and a line in the
// table.

#include <string.h>

#include "tests/sim/sim_world.h"

#define MS 1000
#define SECOND 1000000

// --- a world in which nothing fails -------------------------------------------------------------

static void draw_threads(struct loop_profile *threads)
{
    threads->pace_us = dice_scale(1, 200);
    threads->interrupt = dice_chance(0.3) ? 0 : (double)dice_between(0, 100) / 200;
    threads->hiccup = dice_chance(0.7) ? 0 : 0.01;
    threads->hiccup_us = dice_scale(100, 20 * MS);
    threads->mail_lag = dice_chance(0.5) ? 0 : (double)dice_between(0, 100) / 200;
    threads->spurious = dice_chance(0.5) ? 0 : 0.02;
}

static void draw_net(struct net_profile *net)
{
    net->delay_most_us = dice_scale(1, 3 * MS);
    net->delay_least_us = dice_between(0, net->delay_most_us);
    net->stall = dice_chance(0.8) ? 0 : 0.01;
    net->stall_us = dice_scale(1 * MS, 50 * MS);
    net->split = dice_chance(0.3) ? 0 : (double)dice_between(0, 100) / 150;
    net->capacity_least = 1024;
    net->capacity_most = 262144;
}

static void draw_weir(struct knobs *knobs)
{
    knobs->workers = (int)dice_between(1, 4);
    knobs->cap = (int)dice_scale(1, 16);
    knobs->max_queue = (int)dice_scale(1, 1000);
    knobs->max_wait_us = dice_chance(0.15) ? 0 : dice_scale(1 * MS, 1 * SECOND);
    knobs->server_wait_us = dice_scale(5 * SECOND, 12 * SECOND);
    knobs->slow_share = dice_chance(0.3) ? 1 : (double)dice_between(5, 100) / 100;
    knobs->slow_us = dice_scale(1 * MS, 200 * MS);
    knobs->connect_timeout_us = dice_scale(500 * MS, 10 * SECOND);
    knobs->message_timeout_us = dice_scale(2 * SECOND, 60 * SECOND);
    knobs->max_idle_us = dice_chance(0.5) ? 0 : dice_scale(1 * SECOND, 60 * SECOND);
    knobs->max_age_us = dice_chance(0.5) ? 0 : dice_scale(1 * SECOND, 60 * SECOND);
    knobs->sniff = dice_chance(0.3);
    knobs->large_bytes = 100000;
    knobs->max_buffered = 1 << 30;
}

static void draw_apps(struct knobs *knobs)
{
    knobs->apps = (int)dice_between(1, 4);
    knobs->connections = (int)dice_between(1, 10);
    knobs->operations = (int)dice_between(5, 40);
    knobs->think_us = dice_scale(10, 100 * MS);
    knobs->mix[OP_FIND] = 40;
    knobs->mix[OP_INSERT] = 10;
    knobs->mix[OP_RETRYABLE_INSERT] = 10;
    knobs->mix[OP_UNACKNOWLEDGED] = 3;
    knobs->mix[OP_AGGREGATE_OUT] = 2;
    knobs->mix[OP_OPEN_CURSOR] = 4;
    knobs->mix[OP_GET_MORE] = 8;
    knobs->mix[OP_KILL_CURSORS] = 2;
    knobs->mix[OP_TRANSACT] = 6;
    knobs->mix[OP_COMMIT] = 2;
    knobs->mix[OP_ABORT] = 1;
    knobs->mix[OP_PING] = 2;
    knobs->mix[OP_HELLO] = 1;
    knobs->linger = dice_chance(0.5) ? 0 : 0.1;
    knobs->max_time = dice_chance(0.5) ? 0 : 0.2;
}

static void draw_servers(struct knobs *knobs)
{
    knobs->servers = (int)dice_between(1, 3);
    knobs->sharded = dice_chance(0.15);
    knobs->secondary = knobs->servers == 1 || dice_chance(0.3) ? 0 : 0.3;
    knobs->cores = (int)dice_between(1, 8);
    knobs->demand_us = dice_scale(10, 20 * MS);
    knobs->slow_demand_us = dice_scale(100 * MS, 3 * SECOND);
    knobs->reply_bytes = (size_t)dice_scale(1, 3000);
    knobs->auth_rounds = (int)dice_between(0, 2);
    knobs->derive = dice_chance(0.5) ? 0 : 0.5;
    knobs->down_us = dice_scale(10 * MS, 15 * SECOND);
    knobs->last_us = 120 * SECOND;
}

void knobs_draw(struct knobs *knobs)
{
    *knobs = (struct knobs){0};
    draw_threads(&knobs->threads);
    draw_net(&knobs->app_net);
    draw_net(&knobs->server_net);
    draw_weir(knobs);
    draw_apps(knobs);
    draw_servers(knobs);
}

// --- scenarios ----------------------------------------------------------------------------------

static void calm(struct knobs *knobs)
{
    knobs->pipeline = dice_chance(0.5) ? 0 : 0.2;
}

// Many more connections than permits.
static void crowd(struct knobs *knobs)
{
    knobs->cap = (int)dice_between(1, 3);
    knobs->connections = (int)dice_between(10, 20);
    knobs->max_queue = (int)dice_scale(1, 20);
    knobs->think_us = dice_scale(1, 1 * MS);
}

// One shape is slow.
static void slow_shape(struct knobs *knobs)
{
    knobs->cap = (int)dice_between(2, 12);
    knobs->mix[OP_SLOW_FIND] = 20;
    knobs->deadline = 0.1;
    knobs->deadline_us = 2 * SECOND;
}

// Requests run for too long, or on when their apps have gone; not every server ends them.
static void runaways(struct knobs *knobs)
{
    knobs->kill_after_us = dice_scale(20 * MS, 2 * SECOND);
    knobs->deaf = dice_chance(0.3) ? 0 : 0.5;
    knobs->mix[OP_SLOW_FIND] = 20;
    knobs->mix[OP_GET_MORE] = 20;
    knobs->slow_demand_us = dice_scale(100 * MS, 8 * SECOND);
    knobs->demand_us = dice_scale(10, 1 * SECOND);
    knobs->cores = 8;
    knobs->quit = dice_chance(0.5) ? 0 : 0.1;
    knobs->close_every_us = dice_chance(0.7) ? 0 : dice_scale(100 * MS, 5 * SECOND);
}

// Upstreams travel between workers.
static void hand_over(struct knobs *knobs)
{
    knobs->workers = (int)dice_between(2, 4);
    knobs->cap = (int)dice_between(1, 4);
    knobs->threads.interrupt = 0.5;
    knobs->threads.mail_lag = 0.3;
    knobs->quit = 0.05;
    knobs->close_every_us = dice_chance(0.5) ? 0 : dice_scale(1 * MS, 1 * SECOND);
}

// Apps that leave in the middle of anything.
static void quitters(struct knobs *knobs)
{
    knobs->quit = 0.3;
    knobs->half_close = 0.3;
    knobs->mute = 0.1;
    knobs->pipeline = 0.1;
    knobs->deadline = 0.2;
    knobs->deadline_us = dice_scale(1 * MS, 1 * SECOND);
    knobs->cap = (int)dice_between(1, 4);
    knobs->mix[OP_MALFORMED] = 3;
    knobs->mix[OP_UNACKNOWLEDGED] = 10;
}

// Cursors and transactions whose apps come and go.
static void orphans(struct knobs *knobs)
{
    knobs->mix[OP_FIND] = 5;
    knobs->mix[OP_OPEN_CURSOR] = 20;
    knobs->mix[OP_GET_MORE] = 30;
    knobs->mix[OP_TRANSACT] = 30;
    knobs->demand_us = dice_scale(1 * MS, 8 * SECOND);
    knobs->cores = 8;
    knobs->think_us = dice_scale(1 * MS, 4 * SECOND);
    knobs->quit = 0.1;
    knobs->linger = 0.1;
    knobs->operations = 15;
}

// Cursors and transactions that their apps leave idle are killed, those in use are not.
static void leaks(struct knobs *knobs)
{
    orphans(knobs);
    knobs->idle_us = dice_scale(10 * MS, 5 * SECOND);
    knobs->linger = 0.5;
    knobs->demand_us = dice_scale(1 * MS, 2 * SECOND);
    knobs->think_us = dice_scale(1 * MS, 1 * SECOND);
    knobs->close_every_us = dice_chance(0.7) ? 0 : dice_scale(10 * MS, 5 * SECOND);
}

// Large messages and replies, slow readers, little memory.
static void large(struct knobs *knobs)
{
    knobs->large_bytes = (size_t)dice_scale(5000, 300000);
    knobs->mix[OP_LARGE_INSERT] = 30;
    knobs->mix[OP_LARGE_FIND] = 30;
    knobs->max_buffered = knobs->large_bytes * (size_t)dice_between(3, 10);
    knobs->slow_reader = 0.3;
    knobs->slow_reader_us = dice_scale(100, 100 * MS);
    knobs->operations = 10;
    knobs->quit = dice_chance(0.5) ? 0 : 0.05;
}

// What is only for a world in which a server may be away.
static void draw_impatience(struct knobs *knobs)
{
    knobs->server_wait_us = dice_chance(0.1) ? 0 : dice_scale(100 * MS, 12 * SECOND);
}

// Servers close connections, also in the middle.
static void flaky(struct knobs *knobs)
{
    knobs->close_every_us = dice_scale(1 * MS, 500 * MS);
    knobs->mix[OP_LARGE_FIND] = 5;
    knobs->server_error = 0.02;
}

// A server goes away and comes back; it takes fewer connections than the cap; addresses are dead.
static void refusing(struct knobs *knobs)
{
    draw_impatience(knobs);
    knobs->restart_every_us = dice_scale(100 * MS, 20 * SECOND);
    knobs->demand_us = dice_scale(100, 3 * SECOND);
    knobs->connection_limit = dice_chance(0.5) ? 0 : (int)dice_between(1, 8);
    knobs->dead_addresses = (int)dice_between(0, 2);
    knobs->auth_fails = dice_chance(0.7) ? 0 : 0.3;
    knobs->connect_timeout_us = dice_scale(100 * MS, 1 * SECOND);
}

static void stalling(struct knobs *knobs)
{
    draw_impatience(knobs);
    knobs->stall_every_us = dice_scale(100 * MS, 10 * SECOND);
    knobs->deadline = 0.2;
    knobs->deadline_us = 5 * SECOND;
}

// A server that its monitor is content with takes connections and answers nothing, for long.
static void silent(struct knobs *knobs)
{
    draw_impatience(knobs);
    knobs->response_timeout_us = dice_scale(200 * MS, 3 * SECOND);
    knobs->stall_every_us = dice_scale(10 * MS, 1 * SECOND);
    knobs->down_us = dice_scale(1 * SECOND, 60 * SECOND);
    knobs->secondary = knobs->servers == 1 ? 0 : 0.5;
    knobs->cap = (int)dice_between(1, 6);
    knobs->connections = (int)dice_between(2, 8);
    knobs->operations = 60;
    knobs->quit = dice_chance(0.7) ? 0 : 0.05;
    knobs->close_every_us = dice_chance(0.7) ? 0 : dice_scale(100 * MS, 5 * SECOND);
}

static void stepdown(struct knobs *knobs)
{
    draw_impatience(knobs);
    knobs->stepdown_every_us = dice_scale(50 * MS, 10 * SECOND);
    knobs->demand_us = dice_scale(100, 3 * SECOND);
    knobs->down_us = dice_scale(1 * MS, 14 * SECOND);
    knobs->mix[OP_RETRYABLE_INSERT] = 30;
    knobs->cap = (int)dice_between(1, 4);
    knobs->think_us = dice_scale(1 * MS, 1 * SECOND);
}

// Elections, and more requests than there is room to wait for them: newcomers are shed then.
static void lobby(struct knobs *knobs)
{
    stepdown(knobs);
    knobs->workers = (int)dice_between(2, 4);
    knobs->threads.interrupt = 0.5;
    knobs->threads.mail_lag = 0.5;
    knobs->threads.hiccup = 0;
    knobs->threads.pace_us = dice_between(50, 200);
    knobs->apps = 1;
    knobs->connections = (int)dice_between(15, 20);
    knobs->cap = knobs->connections;
    knobs->max_queue = (int)dice_between(1, 6);
    knobs->slow_share = 1;
    knobs->think_us = dice_scale(10, 2 * MS);
    knobs->operations = 80;
    knobs->demand_us = dice_scale(100, 20 * MS);
    knobs->stepdown_every_us = dice_scale(50 * MS, 2 * SECOND);
    knobs->down_us = dice_scale(2 * SECOND, 14 * SECOND);
    knobs->server_wait_us = 12 * SECOND;
    knobs->mix[OP_UNACKNOWLEDGED] = 0; // what comes after them in one piece waits for them
    knobs->lobby = true;
}

// A member or a mongos comes and goes, and what was on it.
static void members(struct knobs *knobs)
{
    draw_impatience(knobs);
    knobs->servers = (int)dice_between(2, 6);
    knobs->sharded = dice_chance(0.5);
    knobs->secondary = 0.5;
    knobs->leave_every_us = dice_scale(50 * MS, 10 * SECOND);
    knobs->restart_every_us = dice_chance(0.5) ? 0 : dice_scale(500 * MS, 20 * SECOND);
    knobs->down_us = dice_scale(1 * MS, 8 * SECOND);
    knobs->mix[OP_OPEN_CURSOR] = 20;
    knobs->mix[OP_GET_MORE] = 30;
    knobs->mix[OP_TRANSACT] = 20;
    knobs->think_us = dice_scale(1 * MS, 500 * MS);
}

// Behind a load balancer.
static void balanced(struct knobs *knobs)
{
    knobs->servers = 1;
    knobs->balanced = true;
    knobs->cap = (int)dice_between(2, 8);
    knobs->connections = (int)dice_between(2, 15);
    knobs->mix[OP_OPEN_CURSOR] = 20;
    knobs->mix[OP_GET_MORE] = 30;
    knobs->mix[OP_TRANSACT] = 20;
    knobs->quit = dice_chance(0.5) ? 0 : 0.05;
    knobs->close_every_us = dice_chance(0.5) ? 0 : dice_scale(10 * MS, 5 * SECOND);
}

// Members come and go faster than requests and mail.
static void restless(struct knobs *knobs)
{
    members(knobs);
    knobs->leave_every_us = dice_scale(5 * MS, 500 * MS);
    knobs->down_us = dice_scale(1 * MS, 800 * MS);
    knobs->threads.mail_lag = 0.5;
    knobs->threads.interrupt = 0.5;
    knobs->cap = (int)dice_between(1, 3);
    knobs->max_wait_us = dice_scale(1 * MS, 20 * MS);
    knobs->mix[OP_LARGE_FIND] = 30;
    knobs->slow_reader = 0.3;
    knobs->slow_reader_us = 200 * MS;
    knobs->quit = 0.1;
}

// Fewer connections over all servers than each of them may have.
static void total(struct knobs *knobs)
{
    knobs->servers = (int)dice_between(2, 4);
    knobs->secondary = 0.7;
    knobs->cap = (int)dice_between(2, 8);
    knobs->total_cap = (int)dice_between(1, 8);
    knobs->connections = (int)dice_between(5, 15);
    knobs->demand_us = dice_scale(10, 2 * MS);
}

// One connection for each server, and more requests than that at each: all have their turn.
static void narrow(struct knobs *knobs)
{
    knobs->servers = 2;
    knobs->secondary = 0.5;
    knobs->cap = 8;
    knobs->total_cap = 2;
    knobs->connections = (int)dice_between(5, 8);
    knobs->apps = 1;
    knobs->operations = 30;
    knobs->think_us = dice_scale(10, 1 * MS);
    knobs->demand_us = dice_scale(10, 2 * MS);
    knobs->slow_us = 60 * SECOND;
    knobs->max_queue = 1000;
    knobs->max_wait_us = 3 * SECOND;
    knobs->max_time = 0;
    knobs->patient = true;
}

// Replies that are none.
static void lying(struct knobs *knobs)
{
    knobs->lie = 0.05;
    knobs->unique_ids = true;
    knobs->mix[OP_LARGE_FIND] = 5;
}

// weir is told to end while all are at work.
static void ending(struct knobs *knobs)
{
    knobs->ending = 1;
    knobs->last_us = 1 * SECOND;
    knobs->demand_us = dice_scale(10, 5 * MS);
    knobs->operations = 1000;
    knobs->quit = dice_chance(0.5) ? 0 : 0.05;
}

// An operator changes the rules while all are at work.
static void ruled(struct knobs *knobs)
{
    knobs->rules_every_us = dice_scale(1 * MS, 1 * SECOND);
    knobs->cap = (int)dice_between(1, 8);
    knobs->connections = (int)dice_between(3, 15);
    knobs->mix[OP_UNACKNOWLEDGED] = 10;
    knobs->mix[OP_TRANSACT] = 20;
    knobs->mix[OP_GET_MORE] = 20;
    knobs->quit = dice_chance(0.5) ? 0 : 0.05;
    knobs->close_every_us = dice_chance(0.5) ? 0 : dice_scale(10 * MS, 5 * SECOND);
}

// weir sends its clients away before it ends: nobody's operation is lost by that.
static void draining(struct knobs *knobs)
{
    ending(knobs);
    knobs->drains = true;
    knobs->think_us = dice_scale(10, 4 * SECOND);
}

// Replies starve for memory, since apps do not take theirs, while their server goes away or is cut.
static void starving(struct knobs *knobs)
{
    large(knobs);
    knobs->servers = (int)dice_between(2, 4);
    knobs->secondary = 0.5;
    knobs->connections = (int)dice_between(4, 10);
    knobs->max_buffered = knobs->large_bytes * (size_t)dice_between(1, 3);
    knobs->message_timeout_us = dice_scale(10 * SECOND, 60 * SECOND);
    knobs->slow_reader = 0.8;
    knobs->slow_reader_us = dice_scale(100 * MS, 4 * SECOND);
    knobs->quit = 0;
    draw_impatience(knobs);
    knobs->leave_every_us = dice_scale(500 * MS, 10 * SECOND);
    knobs->stepdown_every_us = dice_scale(500 * MS, 10 * SECOND);
    knobs->rules_every_us = dice_chance(0.5) ? 0 : dice_scale(10 * MS, 1 * SECOND);
}

// Everything at once.
static void chaos(struct knobs *knobs)
{
    draw_impatience(knobs);
    knobs->mix[OP_SLOW_FIND] = 3;
    knobs->mix[OP_MALFORMED] = 1;
    knobs->mix[OP_LARGE_INSERT] = 3;
    knobs->mix[OP_LARGE_FIND] = 3;
    knobs->large_bytes = (size_t)dice_scale(5000, 200000);
    knobs->max_buffered = knobs->large_bytes * (size_t)dice_between(3, 20);
    knobs->slow_reader = 0.1;
    knobs->slow_reader_us = dice_scale(100, 100 * MS);
    knobs->quit = 0.03;
    knobs->half_close = 0.2;
    knobs->mute = 0.05;
    knobs->pipeline = 0.02;
    knobs->deadline = 0.05;
    knobs->deadline_us = dice_scale(1 * MS, 5 * SECOND);
    knobs->close_every_us = dice_scale(10 * MS, 10 * SECOND);
    knobs->restart_every_us = dice_scale(1 * SECOND, 60 * SECOND);
    knobs->stall_every_us = dice_scale(1 * SECOND, 60 * SECOND);
    knobs->stepdown_every_us = dice_scale(1 * SECOND, 60 * SECOND);
    knobs->leave_every_us = dice_chance(0.5) ? 0 : dice_scale(1 * SECOND, 60 * SECOND);
    knobs->total_cap = dice_chance(0.8) ? 0 : (int)dice_between(1, 20);
    knobs->lie = dice_chance(0.5) ? 0 : 0.01;
    knobs->unique_ids = true;
    knobs->server_error = 0.01;
    knobs->auth_fails = 0.02;
}

// Either side may compress, in the world of `large` or in one where everything happens.
static void compressed(struct knobs *knobs)
{
    if (dice_chance(0.5)) {
        large(knobs);
        knobs->large_bytes = (size_t)dice_scale(20000, 1500000);
        knobs->max_buffered = knobs->large_bytes * (size_t)dice_between(1, 5);
    } else {
        chaos(knobs);
    }
    knobs->compression = dice_chance(0.8);
    knobs->server_compression = !knobs->compression || dice_chance(0.7);
}

// An operator gives orders while all are at work, and at times while all goes wrong.
static void operated(struct knobs *knobs)
{
    if (dice_chance(0.3)) {
        chaos(knobs);
    } else {
        ruled(knobs);
        knobs->rules_every_us = dice_chance(0.5) ? 0 : knobs->rules_every_us;
    }
    knobs->operator_every_us = dice_scale(5 * MS, 2 * SECOND);
    knobs->demand_us = dice_scale(10, 1 * SECOND);
    knobs->slow_share = dice_chance(0.5) ? 1 : knobs->slow_share;
    knobs->max_time = dice_chance(0.5) ? 0 : knobs->max_time;
}

const struct scenario scenarios[] = {
    {"calm", calm},
    {"crowd", crowd},
    {"slow_shape", slow_shape},
    {"runaways", runaways},
    {"hand_over", hand_over},
    {"quitters", quitters},
    {"orphans", orphans},
    {"large", large},
    {"flaky", flaky},
    {"refusing", refusing},
    {"stalling", stalling},
    {"stepdown", stepdown},
    {"lying", lying},
    {"members", members},
    {"restless", restless},
    {"total", total},
    {"balanced", balanced},
    {"narrow", narrow},
    {"ending", ending},
    {"chaos", chaos},
    {"compressed", compressed},
    {"silent", silent},
    {"ruled", ruled},
    {"leaks", leaks},
    {"draining", draining},
    {"operated", operated},
    {"lobby", lobby},
    {"starving", starving},
    {NULL, NULL},
};

const struct scenario *scenario_find(const char *name)
{
    const struct scenario *scenario = scenarios;
    while (scenario->name && strcmp(scenario->name, name) != 0) {
        scenario++;
    }
    return scenario->name ? scenario : NULL;
}
