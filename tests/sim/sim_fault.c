// SPDX-License-Identifier: Apache-2.0
//
// What goes wrong with servers, each at random times around its mean.

#include "tests/sim/sim_service.h"

static void set_again(struct event *event, int64_t mean_us)
{
    bool never = mean_us == 0 || world.resting;
    event_set(event, never ? INT64_MAX : sim_now_us() + dice_between(1, 2 * mean_us));
}

static int64_t down_us(void)
{
    return dice_scale(1000, world.knobs.down_us > 1000 ? world.knobs.down_us : 1000);
}

static void close_one(void *arg)
{
    struct sim_server *server = arg;
    int64_t left = dice_between(0, server->conn_count - 1);
    struct server_conn *conn = server->conns;
    while (conn && left-- > 0) {
        conn = conn->next;
    }
    if (conn && conn->end) {
        server_conn_close(conn, dice_chance(0.5));
    }
    set_again(&server->close, world.knobs.close_every_us);
}

static void close_all(struct sim_server *server)
{
    for (struct server_conn *conn = server->conns; conn; conn = conn->next) {
        if (conn->end) {
            server_conn_close(conn, dice_chance(0.5));
        }
    }
}

static void depose(struct sim_server *server)
{
    TRACE("server %lld steps down", server->index);
    world.primary = -1;
    control_truth_changed();
    event_set(&server->elect, sim_now_us() + down_us());
}

static void restart(void *arg)
{
    struct sim_server *server = arg;
    TRACE("server %lld goes down", server->index);
    server->refusing = true;
    close_all(server);
    service_forget_all(server);
    control_truth_changed();
    if (world.primary == server->index && dice_chance(0.5)) {
        depose(server);
    }
    event_set(&server->recover, sim_now_us() + down_us());
    set_again(&server->restart, world.knobs.restart_every_us);
}

static void recover(void *arg)
{
    struct sim_server *server = arg;
    TRACE("server %lld is up", server->index);
    server->refusing = false;
    control_truth_changed();
}

static void stall(void *arg)
{
    struct sim_server *server = arg;
    server->stalled_until_us = sim_now_us() + down_us();
    TRACE("server %lld stalls for %lld us", server->index, server->stalled_until_us - sim_now_us());
    service_go_on(server);
    set_again(&server->stall, world.knobs.stall_every_us);
}

static void stepdown(void *arg)
{
    struct sim_server *server = arg;
    if (world.primary == server->index) {
        service_forget_all(server);
        if (dice_chance(0.3)) {
            close_all(server);
        }
        depose(server);
    }
    set_again(&server->stepdown, world.knobs.stepdown_every_us);
}

static void elect(void *arg)
{
    (void)arg;
    if (world.primary < 0) {
        do {
            world.primary = (int)dice_between(0, world.knobs.servers - 1);
        } while (!server_is_member(world.primary));
        TRACE("server %lld is elected", world.primary);
        control_truth_changed();
    }
}

static void come_back(void *arg)
{
    struct sim_server *server = arg;
    TRACE("server %lld is a member again", server->index);
    server->has_left = false;
    control_truth_changed();
}

// Who has left goes on with what it was sent, and its cursors are lost with it.
static void leave(void *arg)
{
    struct sim_server *server = arg;
    if (world.primary != server->index && servers_member_count() > 1 && !server->has_left) {
        TRACE("server %lld leaves", server->index);
        server->has_left = true;
        service_forget_all(server);
        control_truth_changed();
        event_set(&server->come_back, sim_now_us() + down_us());
    }
    set_again(&server->leave, world.knobs.leave_every_us);
}

void faults_begin(struct sim_server *server)
{
    event_init(&server->close, close_one, server);
    event_init(&server->restart, restart, server);
    event_init(&server->recover, recover, server);
    event_init(&server->stall, stall, server);
    event_init(&server->stepdown, stepdown, server);
    event_init(&server->elect, elect, server);
    event_init(&server->leave, leave, server);
    event_init(&server->come_back, come_back, server);
    set_again(&server->close, world.knobs.close_every_us);
    set_again(&server->restart, world.knobs.restart_every_us);
    set_again(&server->stall, world.knobs.stall_every_us);
    set_again(&server->stepdown, world.knobs.stepdown_every_us);
    set_again(&server->leave, world.knobs.leave_every_us);
}

void faults_end(struct sim_server *server)
{
    struct event *events[] = {&server->close, &server->restart,  &server->recover,
                              &server->stall, &server->stepdown, &server->elect,
                              &server->leave, &server->come_back};
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++) {
        event_cancel(events[i]);
    }
}

void servers_heal(void)
{
    for (int i = 0; i < world.knobs.servers; i++) {
        struct sim_server *server = &world.servers[i];
        faults_end(server);
        if (server->stalled_until_us > sim_now_us()) {
            server->stalled_until_us = sim_now_us();
        }
        server->refusing = false;
        server->has_left = false;
        service_go_on(server);
        for (struct server_conn *conn = server->conns; conn; conn = conn->next) {
            event_set(&conn->look, sim_now_us());
        }
    }
    elect(NULL);
}
