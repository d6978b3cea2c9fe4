// SPDX-License-Identifier: Apache-2.0
//
// Replies as mongod gives them, and as it never would.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/control/answers.h"
#include "wire_samples.h"

static const char status_json[] =
    "{'host': 'h:27017', 'version': '8.0.4', 'process': 'mongod', 'uptime': 3600.0,"
    " 'connections': {'current': 1200, 'available': 300, 'totalCreated': {'$numberLong': '7200'},"
    "  'active': 40, 'rejected': 3, 'establishmentRateLimit': {'rejected': 5}},"
    " 'metrics': {'cursor': {'timedOut': 2, 'open': {'noTimeout': 1, 'pinned': 4, 'total': 9}}},"
    " 'transactions': {'currentOpen': 3, 'currentInactive': 2, 'totalAborted': 1},"
    " 'globalLock': {'currentQueue': {'total': 3, 'readers': 1, 'writers': 2}},"
    " 'security': {'SSLServerCertificateExpirationDate': {'$date': '2027-01-01T00:00:00Z'}}}";

static const char operation_json[] =
    "{'type': 'op', 'active': true, 'opid': 77, 'connectionId': 5, 'microsecs_running': 6000000,"
    " 'op': 'command', 'ns': 'shop.orders', 'appName': 'web.1', 'client': '10.0.0.1:5000',"
    " 'clientMetadata': {'driver': {'name': 'mongo-go-driver', 'version': '2.5.0'}},"
    " 'planSummary': 'COLLSCAN', 'waitingForLock': true,"
    " 'command': {'find': 'orders', 'filter': {'status': 'secret'}, 'sort': {'at': -1},"
    "  '$db': 'shop'}}";

static const char set_json[] =
    "{'set': 'rs', 'members': ["
    " {'name': 'a:1', 'stateStr': 'PRIMARY', 'health': 1.0, 'optimeDate': {'$date': 100000}},"
    " {'name': 'b:1', 'stateStr': 'SECONDARY', 'health': 1.0, 'optimeDate': {'$date': 95000}},"
    " {'name': 'c:1', 'stateStr': 'SECONDARY', 'health': 1.0, 'optimeDate': {'$date': 101000}},"
    " {'name': 'd:1', 'stateStr': '(not reachable/healthy)', 'health': 0.0}]}";

static const char index_json[] =
    "{'name': 'a_1', 'key': {'a': 1}, 'accesses': {'ops': 7, 'since': {'$date': 50000}},"
    " 'spec': {'v': 2, 'key': {'a': 1}, 'name': 'a_1', 'unique': true, 'expireAfterSeconds': 9}}";

static const char plan_json[] =
    "{'queryPlanner': {'winningPlan': {'queryPlan': {'stage': 'SORT', 'inputStage': {"
    " 'stage': 'FETCH', 'inputStage': {'stage': 'IXSCAN', 'indexName': 'a_1'}}}}}}";

static const char profile_json[] =
    "{'op': 'update', 'ns': 'shop.orders', 'millis': 250, 'planSummary': 'COLLSCAN',"
    " 'docsExamined': 1000, 'command': {'q': {'sku': 7}, 'u': {'$set': {'n': 1}}, 'multi': true}}";

static void status_is_read(void **state)
{
    (void)state;
    struct server_status status;
    bson_t *reply = sample_document(status_json);
    assert_true(server_status_read(reply, &status));
    assert_string_equal(status.version, "8.0.4");
    assert_int_equal(status.connections.current, 1200);
    assert_int_equal(status.connections.available, 300);
    assert_int_equal(status.connections.created, 7200);
    assert_int_equal(status.connections.rate_limited, 5);
    assert_int_equal(status.cursors.no_timeout, 1);
    assert_int_equal(status.transactions.inactive, 2);
    assert_int_equal(status.queued_writers, 2);
    assert_int_equal(status.certificate_expiry_s, 1798761600);
    bson_destroy(reply);
    // What Atlas' small tiers tell.
    reply = sample_document("{'connections': {'current': 5, 'available': 495, 'totalCreated': 9}}");
    assert_true(server_status_read(reply, &status));
    assert_int_equal(status.connections.rejected, UNKNOWN);
    assert_int_equal(status.certificate_expiry_s, UNKNOWN);
    bson_destroy(reply);
    reply = sample_document("{'connections': {'current': {'$numberLong': '9223372036854775807'},"
                            " 'available': 1e300}, 'version': 'x'}");
    assert_true(server_status_read(reply, &status));
    assert_int_equal(status.connections.current, UNKNOWN);
    assert_int_equal(status.connections.available, UNKNOWN);
    bson_destroy(reply);
    reply = sample_document("{'ok': 1}");
    assert_false(server_status_read(reply, &status));
    bson_destroy(reply);
}

static void take(struct operations *operations, const char *json)
{
    bson_t *one = sample_document(json);
    operations_take(operations, one, 1000000);
    bson_destroy(one);
}

static void operations_are_read_without_values(void **state)
{
    (void)state;
    struct operations *operations = calloc(1, sizeof *operations);
    operations_init(operations, 5000000);
    take(operations, operation_json);
    take(operations, operation_json);
    assert_int_equal(operations->long_count, 2);
    assert_int_equal(operations->long_collscans, 2);
    const struct operation *one = &operations->longest[0];
    assert_string_equal(one->shape, "find shop.orders {status} sort{at}");
    assert_string_equal(one->id, "77");
    assert_true(one->waits_for_lock && one->has_needs && one->needs.directions_known);
    assert_int_equal(operations->kinds, 1);
    assert_int_equal(operations->kind[0].connections, 2);
    assert_string_equal(operations->kind[0].host, "10.0.0.1");
    free(operations);
}

static void what_is_meant_to_last_is_not_long(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "{'active': true, 'secs_running': 60, 'ns': 'local.oplog.rs', 'op': 'getmore'}",
        "{'active': true, 'connectionId': 1, 'secs_running': 60, 'command': {'hello': 1}}",
        "{'active': false, 'connectionId': 1, 'secs_running': 60, 'ns': 'a.b'}",
        "{'active': true, 'connectionId': 1, 'secs_running': 60, 'cursor': {'tailable': true}}",
        "{'active': true, 'connectionId': 1, 'secs_running': 4, 'ns': 'a.b'}",
    };
    struct operations *operations = calloc(1, sizeof *operations);
    operations_init(operations, 5000000);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        take(operations, cases[i]);
    }
    take(operations, "{'active': true, 'connectionId': 1, 'secs_running': 60, 'cursor': {"
                     "'originatingCommand': {'pipeline': [{'$changeStream': {}}]}}}");
    assert_int_equal(operations->long_count, 0);
    take(operations, "{'active': true, 'connectionId': 1, 'secs_running': 60, 'ns': 'a.b'}");
    assert_int_equal(operations->long_count, 1);
    free(operations);
}

static void the_longest_are_kept_in_order(void **state)
{
    (void)state;
    struct operations *operations = calloc(1, sizeof *operations);
    operations_init(operations, 0);
    for (int i = 0; i < 100; i++) {
        char json[160];
        snprintf(json, sizeof json,
                 "{'active': true, 'connectionId': 1, 'opid': 's:%d', 'microsecs_running': %d}", i,
                 i * 37 % 100 + 1);
        take(operations, json);
    }
    assert_int_equal(operations->long_count, 100);
    assert_int_equal(operations->kept, OPERATIONS_MAX);
    for (int i = 0; i < OPERATIONS_MAX; i++) {
        assert_int_equal(operations->longest[i].running_us, 100 - i);
    }
    free(operations);
}

static void idlers_are_read(void **state)
{
    (void)state;
    struct operations *operations = calloc(1, sizeof *operations);
    operations_init(operations, 5000000);
    take(operations, "{'type': 'idleSession', 'appName': 'web', 'transaction':"
                     " {'timeOpenMicros': 9000000, 'timeInactiveMicros': 8000000}}");
    take(operations, "{'type': 'idleSession'}");
    take(operations, "{'type': 'idleCursor', 'ns': 'a.b', 'cursor': {'noCursorTimeout': true,"
                     " 'lastAccessDate': {'$date': 400000}}}");
    assert_int_equal(operations->idle_transactions, 1);
    assert_int_equal(operations->longest_transaction.idle_us, 8000000);
    assert_int_equal(operations->no_timeout_cursors, 1);
    assert_int_equal(operations->longest_cursor.idle_us, 600000000);
    free(operations);
}

static void lag_is_read(void **state)
{
    (void)state;
    struct replication *replication = calloc(1, sizeof *replication);
    bson_t *reply = sample_document(set_json);
    assert_true(replication_read(reply, replication));
    assert_true(replication->has_primary);
    assert_int_equal(replication->count, 4);
    assert_int_equal(replication->member[1].lag_ms, 5000);
    assert_int_equal(replication->member[2].lag_ms, 0);
    assert_int_equal(replication->member[3].lag_ms, UNKNOWN);
    assert_false(replication->member[3].healthy);
    bson_destroy(reply);
    free(replication);
}

static void uses_of_all_members_add_up(void **state)
{
    (void)state;
    struct indexes *indexes = calloc(1, sizeof *indexes);
    bson_t *one = sample_document(index_json);
    bson_t *listed = sample_document("{'name': 'b_1', 'key': {'b': 1}, 'sparse': true}");
    indexes_take(indexes, one);
    indexes_take(indexes, one);
    indexes_take(indexes, listed);
    assert_int_equal(indexes->count, 2);
    assert_int_equal(indexes->index[0].used, 14);
    assert_int_equal(indexes->index[0].since_s, 50);
    assert_true(indexes->index[0].unique && indexes->index[0].expires);
    assert_int_equal(indexes->index[1].used, UNKNOWN);
    assert_true(indexes->index[1].partial);
    bson_destroy(one);
    bson_destroy(listed);
    free(indexes);
}

static void plans_are_read(void **state)
{
    (void)state;
    struct explanation explanation;
    bson_t *reply = sample_document(plan_json);
    assert_true(explanation_read(reply, &explanation));
    assert_string_equal(explanation.plan, "SORT, FETCH, IXSCAN");
    assert_string_equal(explanation.index, "a_1");
    assert_true(explanation.sorts && !explanation.scans);
    bson_destroy(reply);
    reply = sample_document("{'queryPlanner': {'winningPlan': {'stage': 'SHARD_MERGE', 'shards': ["
                            "{'winningPlan': {'stage': 'COLLSCAN'}}]}}}");
    assert_true(explanation_read(reply, &explanation));
    assert_true(explanation.scans);
    bson_destroy(reply);
}

static void profiled_updates_have_a_shape(void **state)
{
    (void)state;
    struct profiled *profiled = calloc(1, sizeof *profiled);
    bson_t *one = sample_document(profile_json);
    assert_true(profiled_read(one, profiled));
    assert_string_equal(profiled->shape, "update shop.orders {sku} u{$set:{n}}");
    assert_true(profiled->has_needs);
    assert_int_equal(profiled->examined, 1000);
    bson_destroy(one);
    free(profiled);
}

static void read_all(const bson_t *reply)
{
    static struct {
        struct server_status status;
        struct operations operations;
        struct replication replication;
        struct indexes indexes;
        struct explanation explanation;
        struct profiled profiled;
        struct profiler_status profiler;
    } all;
    server_status_read(reply, &all.status);
    operations_init(&all.operations, 0);
    operations_take(&all.operations, reply, 1000000);
    replication_read(reply, &all.replication);
    memset(&all.indexes, 0, sizeof all.indexes);
    indexes_take(&all.indexes, reply);
    explanation_read(reply, &all.explanation);
    profiled_read(reply, &all.profiled);
    profiler_read(reply, &all.profiler);
}

// Each byte of each reply is replaced by others: fields vanish, change their types and values, and
// what is left need not be BSON. Nothing but the sanitizers and a hang can tell.
static void hostile_replies_do_no_harm(void **state)
{
    (void)state;
    static const char *const replies[] = {status_json, operation_json, set_json,
                                          index_json,  plan_json,      profile_json};
    static const uint8_t values[] = {0, 1, 2, 3, 4, 8, 9, 10, 16, 18, 0x7f, 0x80, 0xff};
    for (size_t r = 0; r < sizeof replies / sizeof replies[0]; r++) {
        bson_t *sound = sample_document(replies[r]);
        uint8_t *bytes = malloc(sound->len);
        for (uint32_t i = 4; i < sound->len - 1; i++) {
            for (size_t v = 0; v < sizeof values; v++) {
                bson_t hostile;
                memcpy(bytes, bson_get_data(sound), sound->len);
                bytes[i] = values[v];
                if (bson_init_static(&hostile, bytes, sound->len)) {
                    read_all(&hostile);
                }
            }
        }
        free(bytes);
        bson_destroy(sound);
    }
}

static void errors_are_understood(void **state)
{
    (void)state;
    assert_int_equal(outcome_of(13, "not authorized on admin"), ANSWER_FORBIDDEN);
    assert_int_equal(outcome_of(8000, "CMD_NOT_ALLOWED: serverStatus"), ANSWER_NO_COMMAND);
    assert_int_equal(outcome_of(59, "no such command: 'replSetGetStatus'"), ANSWER_NO_COMMAND);
    assert_int_equal(outcome_of(0, "Failed to read 4 bytes: socket error"), ANSWER_FAILED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status_is_read),
        cmocka_unit_test(operations_are_read_without_values),
        cmocka_unit_test(what_is_meant_to_last_is_not_long),
        cmocka_unit_test(the_longest_are_kept_in_order),
        cmocka_unit_test(idlers_are_read),
        cmocka_unit_test(lag_is_read),
        cmocka_unit_test(uses_of_all_members_add_up),
        cmocka_unit_test(plans_are_read),
        cmocka_unit_test(profiled_updates_have_a_shape),
        cmocka_unit_test(hostile_replies_do_no_harm),
        cmocka_unit_test(errors_are_understood),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
