// SPDX-License-Identifier: Apache-2.0

#include "proxy/topology.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define MOST 4

static struct topology *topology;

// A server like those of MongoDB 5.0.
static struct server_info server(enum server_kind kind)
{
    return (struct server_info){
        .kind = kind,
        .address_count = 1,
        .max_wire_version = 13,
        .max_bson_bytes = 16777216,
        .max_message_bytes = 48000000,
        .max_write_batch = 100000,
        .session_timeout_minutes = 30,
    };
}

// Their ids are 11, 12, and so on.
static void deploy(const struct server_info *servers, size_t count)
{
    topology_drop(topology);
    topology = topology_new(1, count);
    for (size_t i = 0; i < count; i++) {
        topology->servers[i] = servers[i];
        topology->servers[i].id = 11 + (uint32_t)i;
    }
}

static void deploy_kinds(const enum server_kind *kinds, size_t count)
{
    struct server_info servers[MOST];
    for (size_t i = 0; i < count; i++) {
        servers[i] = server(kinds[i]);
    }
    deploy(servers, count);
}

static void lives_until_the_last_reference(void **state)
{
    (void)state;
    struct topology *kept = topology_new(7, 2);
    assert_int_equal(kept->generation, 7);
    assert_int_equal(kept->server_count, 2);
    assert_int_equal(kept->servers[1].kind, SERVER_UNKNOWN);
    assert_ptr_equal(topology_keep(kept), kept);
    topology_drop(kept);
    assert_int_equal(kept->generation, 7); // valgrind tells if not
    topology_drop(kept);
    topology_drop(NULL);
}

static void usable_is_what_serves_and_has_an_address(void **state)
{
    (void)state;
    static const struct {
        enum server_kind kind;
        bool usable;
    } cases[] = {
        {SERVER_UNKNOWN, false},      {SERVER_STANDALONE, true}, {SERVER_MONGOS, true},
        {SERVER_PRIMARY, true},       {SERVER_SECONDARY, true},  {SERVER_OTHER, false},
        {SERVER_LOAD_BALANCER, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct server_info info = server(cases[i].kind);
        assert_int_equal(server_is_usable(&info), cases[i].usable);
        info.address_count = 0;
        assert_false(server_is_usable(&info));
    }
}

static void writable_is_the_first_that_takes_writes(void **state)
{
    (void)state;
    static const struct {
        enum server_kind kinds[3];
        uint32_t writable; // 0: none
    } cases[] = {
        {{SERVER_SECONDARY, SERVER_PRIMARY, SERVER_SECONDARY}, 12},
        {{SERVER_SECONDARY, SERVER_UNKNOWN, SERVER_OTHER}, 0},
        {{SERVER_UNKNOWN, SERVER_MONGOS, SERVER_MONGOS}, 12},
        {{SERVER_STANDALONE, SERVER_UNKNOWN, SERVER_UNKNOWN}, 11},
        {{SERVER_UNKNOWN, SERVER_UNKNOWN, SERVER_LOAD_BALANCER}, 13},
        {{SERVER_UNKNOWN, SERVER_UNKNOWN, SERVER_UNKNOWN}, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        deploy_kinds(cases[i].kinds, 3);
        const struct server_info *info = topology_writable(topology);
        assert_int_equal(info ? info->id : 0, cases[i].writable);
    }
    deploy_kinds((enum server_kind[]){SERVER_PRIMARY}, 1);
    topology->servers[0].address_count = 0;
    assert_null(topology_writable(topology));
    deploy(NULL, 0);
    assert_null(topology_writable(topology));
}

// Whatever the server is that the URI names with directConnection, requests go there.
static void a_direct_server_is_usable_and_written_to(void **state)
{
    (void)state;
    static const struct {
        enum server_kind kind;
        bool usable, no_writes, secondary;
    } cases[] = {
        {SERVER_UNKNOWN, false, false, false}, {SERVER_STANDALONE, true, false, false},
        {SERVER_MONGOS, true, false, false},   {SERVER_PRIMARY, true, false, false},
        {SERVER_SECONDARY, true, true, true},  {SERVER_OTHER, true, true, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct face face = {0};
        struct server_info info = server(cases[i].kind);
        info.is_direct = true;
        deploy(&info, 1);
        assert_int_equal(topology_writable(topology) != NULL, cases[i].usable);
        assert_int_equal(topology_face(topology, &face), cases[i].usable);
        assert_int_equal(face.no_writes, cases[i].no_writes);
        assert_int_equal(face.secondary, cases[i].secondary);
    }
}

static void found_by_its_id(void **state)
{
    (void)state;
    deploy_kinds((enum server_kind[]){SERVER_SECONDARY, SERVER_PRIMARY, SERVER_UNKNOWN}, 3);
    assert_ptr_equal(topology_find(topology, 11), &topology->servers[0]);
    assert_ptr_equal(topology_find(topology, 13), &topology->servers[2]); // usable or not
    assert_null(topology_find(topology, 10));
    assert_null(topology_find(topology, 14));
    deploy(NULL, 0);
    assert_null(topology_find(topology, 11));
}

static struct face face_of(const struct server_info *servers, size_t count)
{
    struct face face = {0};
    deploy(servers, count);
    assert_true(topology_face(topology, &face));
    return face;
}

// Of each limit the least, whoever has it.
static void a_face_is_what_every_server_can_keep(void **state)
{
    (void)state;
    struct server_info primary = server(SERVER_PRIMARY);
    struct server_info newer = server(SERVER_SECONDARY);
    struct server_info smaller = server(SERVER_SECONDARY);
    newer.max_wire_version = 21;
    newer.max_write_batch = 200000;
    smaller.max_wire_version = 17;
    smaller.max_bson_bytes = 1000;
    smaller.max_message_bytes = 2000;
    smaller.session_timeout_minutes = 20;
    struct face face = face_of((struct server_info[]){newer, primary, smaller}, 3);
    assert_false(face.standalone);
    assert_int_equal(face.max_wire_version, 13);
    assert_int_equal(face.max_bson_bytes, 1000);
    assert_int_equal(face.max_message_bytes, 2000);
    assert_int_equal(face.max_write_batch, 100000);
    assert_int_equal(face.session_timeout_minutes, 20);
    assert_true(face_of((struct server_info[]){server(SERVER_STANDALONE)}, 1).standalone);
}

static void who_is_not_usable_has_no_say(void **state)
{
    (void)state;
    struct server_info arbiter = server(SERVER_OTHER);
    struct server_info away = server(SERVER_UNKNOWN);
    struct server_info nowhere = server(SERVER_SECONDARY);
    arbiter.session_timeout_minutes = -1;
    away.max_wire_version = 9;
    nowhere.max_write_batch = 10;
    nowhere.address_count = 0;
    struct face face =
        face_of((struct server_info[]){arbiter, away, nowhere, server(SERVER_PRIMARY)}, 4);
    assert_int_equal(face.session_timeout_minutes, 30);
    assert_int_equal(face.max_wire_version, 13);
    assert_int_equal(face.max_write_batch, 100000);
}

static void without_anybody_the_face_stays(void **state)
{
    (void)state;
    struct face face = {.max_wire_version = 5, .standalone = true};
    deploy_kinds((enum server_kind[]){SERVER_UNKNOWN, SERVER_OTHER}, 2);
    assert_false(topology_face(topology, &face));
    assert_int_equal(face.max_wire_version, 5);
    assert_true(face.standalone);
}

// One server without sessions, in whichever place, and there are none.
static void sessions_are_all_or_nothing(void **state)
{
    (void)state;
    struct server_info without = server(SERVER_MONGOS);
    without.session_timeout_minutes = -1;
    struct server_info with = server(SERVER_MONGOS);
    assert_int_equal(face_of((struct server_info[]){without, with}, 2).session_timeout_minutes, -1);
    assert_int_equal(face_of((struct server_info[]){with, without}, 2).session_timeout_minutes, -1);
}

// A load balancer says nothing of what is behind it.
static void a_limit_that_is_not_known_limits_nothing(void **state)
{
    (void)state;
    struct server_info silent = {.kind = SERVER_LOAD_BALANCER, .address_count = 1};
    struct server_info known = server(SERVER_MONGOS);
    struct face face = face_of((struct server_info[]){silent}, 1);
    assert_int_equal(face.max_wire_version, 0);
    face = face_of((struct server_info[]){silent, known}, 2);
    assert_int_equal(face.max_wire_version, 13);
    assert_int_equal(face.session_timeout_minutes, 30);
    face = face_of((struct server_info[]){known, silent}, 2);
    assert_int_equal(face.max_bson_bytes, 16777216);
}

static int drop_topology(void **state)
{
    (void)state;
    topology_drop(topology);
    topology = NULL;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lives_until_the_last_reference),
        cmocka_unit_test(usable_is_what_serves_and_has_an_address),
        cmocka_unit_test(writable_is_the_first_that_takes_writes),
        cmocka_unit_test(a_direct_server_is_usable_and_written_to),
        cmocka_unit_test(found_by_its_id),
        cmocka_unit_test(a_face_is_what_every_server_can_keep),
        cmocka_unit_test(who_is_not_usable_has_no_say),
        cmocka_unit_test(without_anybody_the_face_stays),
        cmocka_unit_test(sessions_are_all_or_nothing),
        cmocka_unit_test(a_limit_that_is_not_known_limits_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, drop_topology);
}
