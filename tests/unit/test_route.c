// SPDX-License-Identifier: Apache-2.0
//
// Where requests go that are bound to a server, and those that are not.

#include "proxy/route.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "proxy/request.h"
#include "proxy/servers.h"
#include "proxy/worker.h"

#define SERVERS 3

// Three servers, 1 to 3, and a lobby.
static struct server lobby;
static struct server servers[SERVERS];
static struct server_pulse pulses[SERVERS];
static struct servers all = {.lobby = &lobby};
static struct deployment deployment = {.local_threshold_us = 15000};
static struct approach approach = {.deployment = &deployment};
static struct shared shared = {.servers = &all};
static struct worker worker = {.shared = &shared, .approach = &approach, .random = 1};

static void deploy(enum server_kind first, enum server_kind second, enum server_kind third)
{
    const enum server_kind kinds[SERVERS] = {first, second, third};
    topology_drop(worker.topology);
    worker.topology = topology_new(1, SERVERS);
    for (uint32_t i = 0; i < SERVERS; i++) {
        worker.topology->servers[i] = (struct server_info){
            .kind = kinds[i],
            .address_count = 1,
            .id = i + 1,
            .server = &servers[i],
            .pulse = &pulses[i],
        };
    }
}

enum { LOST = -1, STALENESS = -2, LOBBY = 0 };

// The server's number, or one of those above.
static int routed(const char *command, uint32_t bound_to)
{
    struct server *server = NULL;
    struct bytes name = {(const uint8_t *)command, strlen(command)};
    struct request request = {
        .worker = &worker,
        .bond.server = bound_to,
        .command = {.info = command_lookup(name), .name = name},
    };
    bool commits = command_ends_transaction(&request.command);
    request.command.in_transaction = commits || strcmp(command, "update") == 0;
    request.command.cursor_id = strcmp(command, "getMore") == 0 ? 7 : 0;
    switch (route_request(&request, &server)) {
    case ROUTE_LOST:
        return LOST;
    case ROUTE_STALENESS:
        return STALENESS;
    case ROUTE_NOBODY:
        assert_ptr_equal(server, &lobby);
        return LOBBY;
    case ROUTE_FOUND:
        break;
    }
    return (int)(server - servers) + 1;
}

static void before_the_first_snapshot_all_wait(void **state)
{
    (void)state;
    topology_drop(worker.topology);
    worker.topology = NULL;
    assert_int_equal(routed("find", 0), LOBBY);
    assert_int_equal(routed("getMore", 2), LOBBY);
}

static void who_is_bound_to_none_is_selected_one(void **state)
{
    (void)state;
    deploy(SERVER_SECONDARY, SERVER_PRIMARY, SERVER_SECONDARY);
    assert_int_equal(routed("find", 0), 2);
    assert_int_equal(routed("insert", 0), 2);
    assert_int_equal(routed("commitTransaction", 0), 2);
    deploy(SERVER_SECONDARY, SERVER_UNKNOWN, SERVER_SECONDARY);
    assert_int_equal(routed("find", 0), LOBBY);
}

static void cursors_stay_where_they_are(void **state)
{
    (void)state;
    static const enum server_kind kinds[] = {SERVER_PRIMARY, SERVER_SECONDARY, SERVER_UNKNOWN};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        deploy(kinds[i], SERVER_SECONDARY, SERVER_SECONDARY);
        assert_int_equal(routed("getMore", 1), 1);
        assert_int_equal(routed("killCursors", 1), 1);
    }
    assert_int_equal(routed("getMore", 4), LOST);
}

static void statements_go_to_the_transactions_primary_or_are_lost(void **state)
{
    (void)state;
    deploy(SERVER_PRIMARY, SERVER_SECONDARY, SERVER_SECONDARY);
    assert_int_equal(routed("update", 1), 1);
    assert_int_equal(routed("update", 2), LOST); // it has stepped down
    assert_int_equal(routed("update", 4), LOST);
    deploy(SERVER_UNKNOWN, SERVER_SECONDARY, SERVER_SECONDARY);
    assert_int_equal(routed("update", 1), 1); // it may only have blinked
    deploy(SERVER_UNKNOWN, SERVER_PRIMARY, SERVER_SECONDARY);
    assert_int_equal(routed("update", 1), LOST); // another has taken over
}

static void whoever_is_primary_ends_transactions(void **state)
{
    (void)state;
    static const char *const ends[] = {"commitTransaction", "abortTransaction"};
    for (size_t i = 0; i < 2; i++) {
        deploy(SERVER_SECONDARY, SERVER_PRIMARY, SERVER_SECONDARY);
        assert_int_equal(routed(ends[i], 1), 2);
        assert_int_equal(routed(ends[i], 4), 2);
        deploy(SERVER_UNKNOWN, SERVER_PRIMARY, SERVER_SECONDARY); // it fell silent
        assert_int_equal(routed(ends[i], 1), 2);
        deploy(SERVER_UNKNOWN, SERVER_SECONDARY, SERVER_SECONDARY);
        assert_int_equal(routed(ends[i], 1), LOBBY);
    }
}

static void a_mongos_keeps_its_transactions(void **state)
{
    (void)state;
    deploy(SERVER_MONGOS, SERVER_MONGOS, SERVER_UNKNOWN);
    for (uint32_t i = 1; i <= SERVERS; i++) {
        assert_int_equal(routed("update", i), i);
    }
    assert_int_equal(routed("update", 4), LOST);
    assert_int_equal(routed("commitTransaction", 1), 1);
    assert_int_equal(routed("commitTransaction", 2), 2);
    assert_in_range(routed("commitTransaction", 3), 1, 2); // another one can recover it
    assert_in_range(routed("commitTransaction", 4), 1, 2);
}

static bool is_too_choosy(const char *command, enum read_mode mode)
{
    struct bytes name = {(const uint8_t *)command, strlen(command)};
    struct request request = {
        .worker = &worker,
        .command = {.info = command_lookup(name), .name = name, .read_mode = mode},
    };
    return route_is_too_choosy(&request);
}

static void too_choosy_is_who_wants_what_is_not_there(void **state)
{
    (void)state;
    deploy(SERVER_PRIMARY, SERVER_UNKNOWN, SERVER_UNKNOWN);
    assert_true(is_too_choosy("find", READ_SECONDARY));
    assert_false(is_too_choosy("find", READ_SECONDARY_PREFERRED));
    assert_false(is_too_choosy("find", READ_PRIMARY));
    // One that writes goes to the primary whatever it says.
    assert_false(is_too_choosy("insert", READ_SECONDARY));
    deploy(SERVER_PRIMARY, SERVER_SECONDARY, SERVER_UNKNOWN);
    atomic_store(&pulses[1].failing, true);
    assert_false(is_too_choosy("find", READ_SECONDARY));
    atomic_store(&pulses[1].doubted_until_us, 1000000);
    assert_false(is_too_choosy("find", READ_SECONDARY));
    // When there is no primary either, nobody is.
    deploy(SERVER_UNKNOWN, SERVER_UNKNOWN, SERVER_UNKNOWN);
    assert_false(is_too_choosy("find", READ_SECONDARY));
}

static int drop_topology(void **state)
{
    (void)state;
    topology_drop(worker.topology);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(before_the_first_snapshot_all_wait),
        cmocka_unit_test(who_is_bound_to_none_is_selected_one),
        cmocka_unit_test(cursors_stay_where_they_are),
        cmocka_unit_test(statements_go_to_the_transactions_primary_or_are_lost),
        cmocka_unit_test(whoever_is_primary_ends_transactions),
        cmocka_unit_test(a_mongos_keeps_its_transactions),
        cmocka_unit_test(too_choosy_is_who_wants_what_is_not_there),
    };
    return cmocka_run_group_tests(tests, NULL, drop_topology);
}
