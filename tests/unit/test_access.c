// SPDX-License-Identifier: Apache-2.0
//
// What a user may do, and what happens to the sessions that a message names.

#include "proxy/access.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "unit/wire_samples.h"

static struct user reader, writer, everywhere, boss;
static char *shop[] = {(char *)"shop", (char *)"logs_*", (char *)"co*"};
static char *all[] = {(char *)"*"};

static int set_up(void **state)
{
    (void)state;
    access_init();
    reader.spec = (struct user_spec){.name = (char *)"r", .db = (char *)"admin"};
    reader.spec.databases = (struct config_list){shop, 3};
    reader.may = USER_MAY_READ;
    writer = reader;
    writer.spec.name = (char *)"w";
    writer.may |= USER_MAY_WRITE;
    everywhere = writer;
    everywhere.spec.databases = (struct config_list){all, 1};
    boss = everywhere;
    boss.may |= USER_MAY_ADMIN;
    return 0;
}

struct asked {
    struct buffer message;
    struct op_msg msg;
    struct command command;
};

static void ask(struct asked *asked, const char *json, const char *name,
                const char *const sequence[])
{
    *asked = (struct asked){0};
    sample_begin(&asked->message, 1, 0, 0);
    sample_body(&asked->message, json);
    if (name) {
        sample_sequence(&asked->message, name, sequence);
    }
    sample_end(&asked->message);
    struct bytes message = buffer_bytes(&asked->message);
    assert_int_equal(op_msg_read(message, &asked->msg), WIRE_OK);
    assert_int_equal(command_read(message, &asked->msg, &asked->command), WIRE_OK);
}

static bool may(const struct user *user, const char *json)
{
    struct asked asked;
    ask(&asked, json, NULL, NULL);
    const char *problem = access_problem(user, &asked.command, &asked.msg);
    buffer_fini(&asked.message);
    return problem == NULL;
}

// Who may: r the reader, w the writer, e the writer of all databases, b the boss of all.
static const struct {
    const char *who;
    const char *json;
} table[] = {
    {"rweb", "{'find': 'x', '$db': 'shop'}"},
    {"rweb", "{'find': 'x', '$db': 'logs_7'}"},
    {"eb", "{'find': 'x', '$db': 'logs'}"},
    {"eb", "{'find': 'x', '$db': 'shops'}"},
    {"eb", "{'find': 'x', '$db': 'sho'}"},
    {"b", "{'find': 'x', '$db': 'admin'}"},
    {"rweb", "{'find': 'x', '$db': 'co'}"},
    {"b", "{'find': 'x', '$db': 'config'}"},
    {"b", "{'find': 'system.users', '$db': 'shop'}"},
    {"web", "{'insert': 'x', '$db': 'shop'}"},
    {"web", "{'drop': 'x', '$db': 'shop'}"},
    {"b", "{'dropDatabase': 1, '$db': 'shop'}"},
    {"b", "{'createUser': 'x', '$db': 'shop'}"},
    {"b", "{'serverStatus': 1, '$db': 'shop'}"},
    {"b", "{'shutdown': 1, '$db': 'admin'}"},
    {"b", "{'killOp': 1, 'op': 3, '$db': 'admin'}"},
    {"b", "{'killAllSessions': [], '$db': 'admin'}"},
    {"b", "{'listDatabases': 1, '$db': 'admin'}"},
    {"b", "{'neverHeardOf': 1, '$db': 'shop'}"},
    {"rweb", "{'ping': 1, '$db': 'admin'}"},
    {"rweb", "{'commitTransaction': 1, '$db': 'admin'}"},
    {"rweb", "{'endSessions': [], '$db': 'admin'}"},
    {"rweb", "{'killSessions': [{'id': 7}], '$db': 'admin'}"},
    {"", "{'killSessions': [], '$db': 'admin'}"},
    {"b", "{'insert': 'system.js', '$db': 'shop'}"},
    {"b", "{'dataSize': 'other.x', '$db': 'shop'}"},
    {"b", "{'create': 'v', 'viewOn': 'system.users', '$db': 'shop'}"},
    {"b", "{'renameCollection': 'shop.system.x', 'to': 'shop.y', '$db': 'admin'}"},
    {"b", "{'bulkWrite': 1, 'ops': [], 'nsInfo': [{'ns': 'shop.system.x'}], '$db': 'admin'}"},
    {"", "{'bulkWrite': 1, 'ops': [], 'nsInfo': [{'ns': 'shop'}], '$db': 'admin'}"},
    {"", "{'find': {'$binary': {'base64': 'AAECAwQFBgcICQoLDA0ODw==', 'subType': '04'}}, "
         "'$db': 'shop'}"},
    // Where data comes from and goes to.
    {"rweb", "{'aggregate': 'x', 'pipeline': [], '$db': 'shop'}"},
    {"web", "{'aggregate': 'x', 'pipeline': [{'$out': 'y'}], '$db': 'shop'}"},
    {"web",
     "{'aggregate': 'x', 'pipeline': [{'$out': {'db': 'shop', 'coll': 'y'}}], '$db': 'shop'}"},
    {"eb", "{'aggregate': 'x', 'pipeline': [{'$out': {'db': 'a', 'coll': 'y'}}], '$db': 'shop'}"},
    {"eb", "{'aggregate': 'x', 'pipeline': [{'$merge': {'into': {'db': 'a', 'coll': 'y'}}}], "
           "'$db': 'shop'}"},
    {"b",
     "{'aggregate': 'x', 'pipeline': [{'$out': {'db': 'admin', 'coll': 'y'}}], '$db': 'shop'}"},
    {"eb", "{'aggregate': 'x', 'pipeline': [{'$lookup': {'from': {'db': 'a', 'coll': 'y'}}}], "
           "'$db': 'shop'}"},
    {"eb",
     "{'aggregate': 'x', 'pipeline': [{'$facet': {'f': [{'$lookup': {'from': 'z', 'pipeline': "
     "[{'$unionWith': {'db': 'a', 'coll': 'y'}}]}}]}}], '$db': 'shop'}"},
    {"b", "{'aggregate': 'x', 'pipeline': [{'$unionWith': 'system.users'}], '$db': 'shop'}"},
    {"b",
     "{'aggregate': 'x', 'pipeline': [{'$unionWith': {'coll': 'system.users'}}], '$db': 'shop'}"},
    {"b", "{'aggregate': 'x', 'pipeline': [{'$lookup': {'from': '$cmd.aggregate', 'as': 'o', "
          "'pipeline': [{'$currentOp': {}}]}}], '$db': 'shop'}"},
    {"rweb", "{'aggregate': 'x', 'pipeline': [{'$project': {'from': '$cmd'}}], '$db': 'shop'}"},
    {"eb",
     "{'explain': {'aggregate': 'x', 'pipeline': [{'$lookup': {'from': {'db': 'a', 'coll': 'y'}"
     "}}]}, '$db': 'shop'}"},
    {"eb", "{'create': 'v', 'viewOn': 'x', 'pipeline': [{'$lookup': {'from': {'db': 'a'}}}], "
           "'$db': 'shop'}"},
    {"web", "{'renameCollection': 'shop.x', 'to': 'shop.y', '$db': 'admin'}"},
    {"eb", "{'renameCollection': 'shop.x', 'to': 'a.y', '$db': 'admin'}"},
    {"eb", "{'renameCollection': 'a.x', 'to': 'shop.y', '$db': 'admin'}"},
    {"web", "{'bulkWrite': 1, 'ops': [], 'nsInfo': [{'ns': 'shop.x'}], '$db': 'admin'}"},
    {"eb", "{'bulkWrite': 1, 'ops': [], 'nsInfo': [{'ns': 'shop.x'}, {'ns': 'a.x'}], "
           "'$db': 'admin'}"},
    // About the server and all who use it.
    {"b", "{'aggregate': 1, 'pipeline': [{'$currentOp': {}}], '$db': 'admin'}"},
    {"b", "{'aggregate': 1, 'pipeline': [{'$currentOp': {}}], '$db': 'shop'}"},
    {"b", "{'aggregate': 'x', 'pipeline': [{'$listSessions': {}}], '$db': 'shop'}"},
    {"b", "{'aggregate': 1, 'pipeline': [{'$notYetInvented': {}}], '$db': 'shop'}"},
    {"b", "{'explain': {'aggregate': 1, 'pipeline': [{'$currentOp': {}}]}, '$db': 'shop'}"},
    {"b", "{'explain': {'find': 'system.users'}, 'verbosity': 'executionStats', '$db': 'shop'}"},
    {"rweb", "{'explain': {'find': 'x'}, '$db': 'shop'}"},
    {"rweb", "{'aggregate': 1, 'pipeline': [{'$changeStream': {}}], '$db': 'shop'}"},
    {"b", "{'aggregate': 1, 'pipeline': [{'$changeStream': {'allChangesForCluster': true}}], "
          "'$db': 'admin'}"},
    {"b", "{'aggregate': 1, 'pipeline': [{'$changeStream': {'allChangesForCluster': true}}], "
          "'$db': 'shop'}"},
    {"rweb", "{'aggregate': 1, 'pipeline': [{'$documents': []}], '$db': 'shop'}"},
    // What no driver sends.
    {"", "{'find': 'x', '$db': 'shop', '$client': {}}"},
    {"", "{'find': 'x', '$db': 'shop', '$impersonatedUsers': []}"},
    {"", "{'find': 'x', '$db': 'shop', '$db': 'admin'}"},
    {"", "{'find': 'x', '$db': 'shop', 'find': 'y'}"},
    {"", "{'aggregate': 'x', 'pipeline': [], '$db': 'shop', 'pipeline': []}"},
    {"", "{'getMore': 'x', '$db': 'shop'}"},
    {"rweb", "{'find': 'x', '$db': 'shop', '$readPreference': {'mode': 'nearest'}, "
             "'$clusterTime': {}}"},
};

static void who_may_do_what(void **state)
{
    (void)state;
    const struct user *users[] = {&reader, &writer, &everywhere, &boss};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        char who[5] = "";
        for (int j = 0; j < 4; j++) {
            if (may(users[j], table[i].json)) {
                strncat(who, &"r\0w\0e\0b"[2 * j], 1);
            }
        }
        if (strcmp(who, table[i].who) != 0) {
            fail_msg("%s: '%s' may, not '%s'", table[i].json, who, table[i].who);
        }
    }
}

// Of whoever may less than what they are about the server.
static void whose_operations_a_command_is_about(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        bool own;
    } cases[] = {
        {"{'currentOp': 1, '$db': 'admin'}", true},
        {"{'killOp': 1, 'op': 3, '$db': 'shop'}", true},
        {"{'aggregate': 1, 'pipeline': [{'$currentOp': {}}], '$db': 'admin'}", true},
        {"{'aggregate': 'x', 'pipeline': [{'$currentOp': {}}], '$db': 'admin'}", false},
        {"{'aggregate': 1, 'pipeline': [{'$match': {}}, {'$currentOp': {}}], '$db': 'a'}", false},
        {"{'explain': {'aggregate': 1, 'pipeline': [{'$currentOp': {}}]}, '$db': 'admin'}", false},
        {"{'find': 'x', '$db': 'shop'}", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct asked asked;
        ask(&asked, cases[i].json, NULL, NULL);
        assert_int_equal(access_is_about_own(&writer, &asked.command), cases[i].own);
        assert_false(access_is_about_own(&boss, &asked.command));
        buffer_fini(&asked.message);
    }
}

static void namespaces_in_a_sequence_count(void **state)
{
    (void)state;
    static const char body[] = "{'bulkWrite': 1, '$db': 'admin'}";
    static const char *const good[] = {"{'ns': 'shop.x'}", "{'ns': 'shop.y'}", NULL};
    static const char *const bad[] = {"{'ns': 'shop.x'}", "{'ns': 'a.y'}", NULL};
    struct asked asked;
    ask(&asked, body, "nsInfo", good);
    assert_null(access_problem(&writer, &asked.command, &asked.msg));
    buffer_fini(&asked.message);
    ask(&asked, body, "nsInfo", bad);
    assert_non_null(access_problem(&writer, &asked.command, &asked.msg));
    buffer_fini(&asked.message);
}

static void whoever_has_not_logged_in_may_ping(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        bool may;
    } cases[] = {
        {"{'hello': 1, '$db': 'admin'}", true},      {"{'saslStart': 1, '$db': 'admin'}", true},
        {"{'ping': 1, '$db': 'admin'}", true},       {"{'find': 'x', '$db': 'shop'}", false},
        {"{'buildInfo': 1, '$db': 'admin'}", false}, {"{'endSessions': [], '$db': 'x'}", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct asked asked;
        ask(&asked, cases[i].json, NULL, NULL);
        assert_int_equal(access_before_login(&asked.command), cases[i].may);
        buffer_fini(&asked.message);
    }
}

#define UUID "{'$binary': {'base64': 'AAECAwQFBgcICQoLDA0ODw==', 'subType': '04'}}"

static const uint8_t uuid[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

static bool take(struct asked *asked, const struct user *user, const char *json)
{
    ask(asked, json, NULL, NULL);
    return access_take_sessions(user, &asked->command, buffer_at(&asked->message));
}

static void a_session_becomes_the_users(void **state)
{
    (void)state;
    struct asked one, other;
    static const char json[] = "{'find': 'x', 'lsid': {'id': " UUID "}, '$db': 'shop'}";
    assert_true(take(&one, &reader, json));
    assert_true(take(&other, &writer, json));
    uint8_t wanted[16];
    memcpy(wanted, uuid, 16);
    user_session_id(&reader, wanted);
    assert_memory_equal(one.command.lsid_id.at, wanted, 16);
    assert_memory_not_equal(other.command.lsid_id.at, wanted, 16);
    assert_memory_not_equal(one.command.lsid_id.at, uuid, 16);
    buffer_fini(&one.message);
    buffer_fini(&other.message);
}

static void all_sessions_of_a_list_do(void **state)
{
    (void)state;
    static const char *const names[] = {"endSessions", "refreshSessions", "killSessions"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct asked asked;
        char json[512];
        snprintf(json, sizeof json, "{'%s': [{'id': " UUID "}, {'id': " UUID "}], '$db': 'admin'}",
                 names[i]);
        assert_true(take(&asked, &reader, json));
        assert_null(memmem(buffer_at(&asked.message), buffer_held(&asked.message), uuid, 16));
        buffer_fini(&asked.message);
    }
}

static void what_is_no_session_of_a_driver_is_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "{'find': 'x', 'lsid': {'id': " UUID ", 'uid': " UUID "}, '$db': 'shop'}",
        "{'find': 'x', 'lsid': {'uid': " UUID ", 'id': " UUID "}, '$db': 'shop'}",
        "{'find': 'x', 'lsid': {'id': " UUID ", 'id': " UUID "}, '$db': 'shop'}",
        "{'find': 'x', 'lsid': {'id': 7}, '$db': 'shop'}",
        "{'find': 'x', 'lsid': {}, '$db': 'shop'}",
        "{'find': 'x', 'lsid': 7, '$db': 'shop'}",
        "{'endSessions': [{'id': " UUID ", 'uid': " UUID "}], '$db': 'shop'}",
        "{'killSessions': [7], '$db': 'shop'}",
        "{'killSessions': 1, '$db': 'shop'}",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct asked asked;
        assert_false(take(&asked, &reader, wrong[i]));
        buffer_fini(&asked.message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_may_do_what),
        cmocka_unit_test(whose_operations_a_command_is_about),
        cmocka_unit_test(namespaces_in_a_sequence_count),
        cmocka_unit_test(whoever_has_not_logged_in_may_ping),
        cmocka_unit_test(a_session_becomes_the_users),
        cmocka_unit_test(all_sessions_of_a_list_do),
        cmocka_unit_test(what_is_no_session_of_a_driver_is_refused),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
