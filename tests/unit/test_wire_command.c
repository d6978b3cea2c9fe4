// SPDX-License-Identifier: Apache-2.0

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/guard.h"
#include "tests/unit/wire_samples.h"
#include "wire/bson_view.h"
#include "wire/command.h"

static const uint8_t session_id[16] = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
                                       0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};

static struct command command_of(struct bytes message)
{
    struct op_msg msg;
    struct command command;
    assert_int_equal(op_msg_read(message, &msg), WIRE_OK);
    assert_int_equal(command_read(message, &msg, &command), WIRE_OK);
    return command;
}

static struct command command_named(const char *sample)
{
    return command_of(sample_named(sample));
}

// The error of reading a message with this body, or the command; *out holds the message.
static enum wire_error read_json(struct buffer *out, const char *json, struct command *ret_command)
{
    sample_begin(out, 1, 0, 0);
    sample_body(out, json);
    sample_end(out);
    struct op_msg msg;
    assert_int_equal(op_msg_read(buffer_bytes(out), &msg), WIRE_OK);
    return command_read(buffer_bytes(out), &msg, ret_command);
}

#define R COMMAND_READ
#define W COMMAND_WRITE
#define CURSOR COMMAND_CURSOR
#define TIMED COMMAND_TIMED
#define HELLO (COMMAND_LOCAL | COMMAND_HELLO | COMMAND_PLAIN)

static void samples_are_classified(void **state)
{
    (void)state;
    static const struct {
        const char *sample;
        const char *name;
        const char *database;
        const char *collection;
        unsigned traits; // besides COMMAND_NAMESPACED
        bool finishes;
        bool retryable_write;
    } cases[] = {
        {"ping", "ping", "admin", "", R, false, false},
        {"pymongo hello", "ismaster", "admin", "", HELLO, false, false},
        {"load-balanced hello", "hello", "admin", "", HELLO, false, false},
        {"sasl start", "saslStart", "admin", "", COMMAND_LOCAL | COMMAND_PLAIN, false, false},
        {"find", "find", "shop", "orders", R | CURSOR | TIMED, false, false},
        {"get more", "getMore", "shop", "orders", R | CURSOR | COMMAND_FINISHES, true, false},
        {"kill cursors", "killCursors", "shop", "orders", R | COMMAND_FINISHES, true, false},
        {"insert, sequence first", "insert", "shop", "orders", W | TIMED, false, true},
        {"update", "update", "shop", "orders", W | TIMED, false, true},
        {"bulk write", "bulkWrite", "admin", "", W | CURSOR | TIMED, false, false},
        {"unacknowledged insert", "insert", "shop", "log", W | TIMED, false, false},
        {"find and modify", "findAndModify", "shop", "jobs", W | TIMED, false, true},
        {"transaction begins", "insert", "shop", "orders", W | TIMED, false, false},
        {"transaction goes on", "count", "shop", "orders", R | TIMED, true, false},
        {"commit", "commitTransaction", "admin", "", W | COMMAND_FINISHES, true, false},
        {"end sessions", "endSessions", "admin", "", R | COMMAND_FINISHES, true, false},
        {"aggregate", "aggregate", "shop", "orders", R | CURSOR | TIMED, false, false},
        {"current operations", "aggregate", "admin", "", R | CURSOR | TIMED, false, false},
        {"explain", "explain", "shop", "", R | TIMED, false, false},
        {"every type", "doThis", "shop", "", W, false, false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct command command = command_named(cases[i].sample);
        assert_true(bytes_equal(command.name, cases[i].name));
        assert_true(bytes_equal(command.database, cases[i].database));
        assert_true(bytes_equal(command.collection, cases[i].collection));
        assert_int_equal(command.info->traits & ~(unsigned)COMMAND_NAMESPACED, cases[i].traits);
        assert_int_equal(command_finishes(&command), cases[i].finishes);
        assert_int_equal(command_is_retryable_write(&command), cases[i].retryable_write);
    }
}

static void a_find_with_everything(void **state)
{
    (void)state;
    struct command command = command_named("find");
    assert_int_equal(bson_check(command.lsid), WIRE_OK);
    assert_int_equal(command.lsid_id.len, 16);
    assert_memory_equal(command.lsid_id.at, session_id, 16);
    assert_int_equal(command.comment_type, BSON_VIEW_STRING);
    assert_memory_equal(command.comment.at, "\5\0\0\0list", 9);
    assert_int_equal(command.read_mode, READ_SECONDARY_PREFERRED);
    assert_int_equal(bson_check(command.read_preference), WIRE_OK);
    assert_true(command.has_max_time);
    assert_int_equal(command.max_time_ms, 1500);
    assert_false(command.has_txn_number);
    assert_false(command.unacknowledged);
}

static void cursors_and_transactions(void **state)
{
    (void)state;
    struct command command = command_named("get more");
    assert_true(command.cursor_id == INT64_C(4611686018427387905));
    command = command_named("kill cursors");
    assert_int_equal(command.cursor_id, 0);
    struct bson_element element;
    int64_t id = 0;
    assert_true(bson_find(command.cursors, "1", &element) && bson_element_i64(&element, &id));
    assert_int_equal(id, 12);
    command = command_named("transaction begins");
    assert_true(command.in_transaction && command.start_transaction && command.has_txn_number);
    assert_int_equal(command.txn_number, 5);
    command = command_named("transaction goes on");
    assert_true(command.in_transaction && !command.start_transaction);
    command = command_named("aggregate");
    assert_false(command.writes_out);
    command = command_named("aggregate out");
    assert_true(command.writes_out);
}

static void pipelines_that_write(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        bool writes;
    } cases[] = {
        {"{'aggregate': 'c', 'pipeline': [{'$merge': {'into': 'd'}}], '$db': 'a'}", true},
        {"{'aggregate': 'c', 'pipeline': [{'$out': 'd'}, {'$match': {}}], '$db': 'a'}", false},
        {"{'aggregate': 'c', 'pipeline': [], '$db': 'a'}", false},
        {"{'aggregate': 'c', 'pipeline': [{}], '$db': 'a'}", false},
        {"{'aggregate': 'c', 'pipeline': ['$out'], '$db': 'a'}", false},
        {"{'aggregate': 'c', 'pipeline': {'0': {'$out': 'd'}}, '$db': 'a'}", false},
        {"{'find': 'c', 'pipeline': [{'$out': 'd'}], '$db': 'a'}", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buffer out = {0};
        struct command command;
        assert_int_equal(read_json(&out, cases[i].json, &command), WIRE_OK);
        assert_int_equal(command.writes_out, cases[i].writes);
        buffer_fini(&out);
    }
}

static void what_may_be_sent_once_more(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        bool may;
    } cases[] = {
        {"{'find': 'c', '$db': 'a'}", true},
        {"{'aggregate': 'c', 'pipeline': [{'$match': {}}], '$db': 'a'}", true},
        {"{'aggregate': 'c', 'pipeline': [{'$out': 'd'}], '$db': 'a'}", false},
        {"{'insert': 'c', 'documents': [{}], '$db': 'a'}", false},
        {"{'insert': 'c', 'documents': [{}], 'txnNumber': 5, '$db': 'a'}", true},
        {"{'find': 'c', 'txnNumber': 5, 'autocommit': false, '$db': 'a'}", false},
        {"{'commitTransaction': 1, 'txnNumber': 5, 'autocommit': false, '$db': 'admin'}", false},
        {"{'getMore': 7, 'collection': 'c', '$db': 'a'}", false},
        {"{'killCursors': 'c', 'cursors': [7], '$db': 'a'}", false},
        {"{'killOp': 1, 'op': 7, '$db': 'admin'}", false},
        {"{'killAllSessions': [], '$db': 'admin'}", false},
        {"{'notKnown': 1, '$db': 'a'}", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buffer out = {0};
        struct command command;
        assert_int_equal(read_json(&out, cases[i].json, &command), WIRE_OK);
        assert_int_equal(command_may_repeat(&command), cases[i].may);
        buffer_fini(&out);
    }
}

static void cursors_that_wait_for_data(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        bool streams;
    } cases[] = {
        {"{'aggregate': 'c', 'pipeline': [{'$changeStream': {}}, {'$match': {}}], '$db': 'a'}",
         true},
        {"{'aggregate': 1, 'pipeline': [{'$changeStream': {}}], '$db': 'admin'}", true},
        {"{'aggregate': 'c', 'pipeline': [{'$match': {}}, {'$changeStream': {}}], '$db': 'a'}",
         false},
        {"{'aggregate': 'c', 'pipeline': [{'$match': {'$changeStream': 1}}], '$db': 'a'}", false},
        {"{'find': 'c', 'tailable': true, 'awaitData': true, '$db': 'a'}", true},
        {"{'find': 'c', 'tailable': true, 'awaitData': false, '$db': 'a'}", false},
        {"{'find': 'c', 'tailable': true, '$db': 'a'}", false},
        {"{'insert': 'c', 'awaitData': true, '$db': 'a'}", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buffer out = {0};
        struct command command;
        assert_int_equal(read_json(&out, cases[i].json, &command), WIRE_OK);
        assert_int_equal(command.streams, cases[i].streams);
        buffer_fini(&out);
    }
}

static void read_modes(void **state)
{
    (void)state;
    static const struct {
        const char *preference;
        enum read_mode mode;
    } cases[] = {
        {"{'mode': 'primary'}", READ_PRIMARY},
        {"{'mode': 'primaryPreferred'}", READ_PRIMARY_PREFERRED},
        {"{'mode': 'secondary'}", READ_SECONDARY},
        {"{'mode': 'secondaryPreferred'}", READ_SECONDARY_PREFERRED},
        {"{'mode': 'nearest'}", READ_NEAREST},
        {"{'mode': 'NEAREST'}", READ_PRIMARY},
        {"{'mode': 1}", READ_PRIMARY},
        {"{}", READ_PRIMARY},
        {"'nearest'", READ_PRIMARY},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *json = bson_strdup_printf("{'find': 'c', '$readPreference': %s, '$db': 'a'}",
                                        cases[i].preference);
        struct buffer out = {0};
        struct command command;
        assert_int_equal(read_json(&out, json, &command), WIRE_OK);
        assert_int_equal(command.read_mode, cases[i].mode);
        buffer_fini(&out);
        bson_free(json);
    }
}

static void fields_of_a_wrong_type_are_absent(void **state)
{
    (void)state;
    struct buffer out = {0};
    struct command command;
    assert_int_equal(
        read_json(&out,
                  "{'find': 7, 'lsid': [1], 'txnNumber': 'x', 'autocommit': 0, 'startTransaction': "
                  "null, 'maxTimeMS': {}, '$readPreference': 1, 'writeConcern': 0, 'cursors': "
                  "[1], 'collection': 'c', 'pipeline': [], '$db': 'a'}",
                  &command),
        WIRE_OK);
    assert_int_equal(command.collection.len + command.lsid.len + command.lsid_id.len, 0);
    assert_int_equal(command.read_preference.len + command.write_concern.len, 0);
    assert_int_equal(command.cursors.len + command.comment.len, 0);
    assert_false(command.has_txn_number || command.in_transaction || command.start_transaction ||
                 command.has_max_time || command.writes_out);
    assert_int_equal(command.w_offset, 0);
    assert_int_equal(command.max_time_type, BSON_VIEW_DOCUMENT);
    buffer_fini(&out);
}

static void a_session_id_is_a_uuid_or_none(void **state)
{
    (void)state;
    static const char *const ids[] = {
        "{'$binary': {'base64': 'ABEiM0RVZneImaq7zN3u/w==', 'subType': '00'}}",
        "{'$binary': {'base64': 'ABEiM0RVZneImaq7zN3u', 'subType': '04'}}",
        "'ABEiM0RVZneImaq7zN3u/w=='",
    };
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        char *json = bson_strdup_printf("{'ping': 1, 'lsid': {'id': %s}, '$db': 'a'}", ids[i]);
        struct buffer out = {0};
        struct command command;
        assert_int_equal(read_json(&out, json, &command), WIRE_OK);
        assert_true(command.lsid.len > 0);
        assert_int_equal(command.lsid_id.len, 0);
        buffer_fini(&out);
        bson_free(json);
    }
}

static void what_is_no_command(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        enum wire_error error;
    } cases[] = {
        {"{}", WIRE_EMPTY_COMMAND},
        {"{'ping': 1}", WIRE_NO_DB},
        {"{'ping': 1, '$db': 7}", WIRE_NO_DB},
        {"{'ping': 1, '$db': null}", WIRE_NO_DB},
        {"{'ping': 1, '$DB': 'a'}", WIRE_NO_DB},
        {"{'ping': 1, '$db': ''}", WIRE_OK},
        {"{'$db': 'a'}", WIRE_OK},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buffer out = {0};
        struct command command = {.txn_number = 99};
        assert_int_equal(read_json(&out, cases[i].json, &command), cases[i].error);
        assert_int_equal(command.txn_number, cases[i].error ? 99 : 0);
        buffer_fini(&out);
    }
}

static void a_field_is_not_also_a_sequence(void **state)
{
    (void)state;
    static const char *const documents[] = {"{'_id': 1}", NULL};
    static const char *const names[] = {"insert", "documents", "$db"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct buffer out = {0};
        sample_begin(&out, 1, 0, 0);
        sample_sequence(&out, "other", documents);
        sample_body(&out, "{'insert': 'c', 'documents': [], '$db': 'a'}");
        sample_sequence(&out, names[i], documents);
        sample_end(&out);
        struct op_msg msg;
        struct command command;
        assert_int_equal(op_msg_read(buffer_bytes(&out), &msg), WIRE_OK);
        assert_int_equal(command_read(buffer_bytes(&out), &msg, &command), WIRE_FIELD_TWICE);
        buffer_fini(&out);
    }
}

// Where weir looks, or writes: it would see neither what is there nor what a server makes of both.
static void a_field_that_is_read_is_no_sequence(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum wire_error error;
    } cases[] = {
        {"maxTimeMS", WIRE_NO_SEQUENCE},
        {"$readPreference", WIRE_NO_SEQUENCE},
        {"lsid", WIRE_NO_SEQUENCE},
        {"cursors", WIRE_NO_SEQUENCE},
        {"documents", WIRE_OK},
        {"maxTimeM", WIRE_OK},
        {"", WIRE_OK},
    };
    static const char *const documents[] = {"{'_id': 1}", NULL};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buffer out = {0};
        sample_begin(&out, 1, 0, 0);
        sample_body(&out, "{'insert': 'c', '$db': 'a'}");
        sample_sequence(&out, cases[i].name, documents);
        sample_end(&out);
        struct op_msg msg;
        struct command command;
        assert_int_equal(op_msg_read(buffer_bytes(&out), &msg), WIRE_OK);
        assert_int_equal(command_read(buffer_bytes(&out), &msg, &command), cases[i].error);
        buffer_fini(&out);
    }
}

static void of_a_field_twice_the_first_counts(void **state)
{
    (void)state;
    struct buffer out = {0};
    struct command command;
    bson_t body = BSON_INITIALIZER;
    BSON_APPEND_INT32(&body, "ping", 1);
    BSON_APPEND_UTF8(&body, "$db", "first");
    BSON_APPEND_INT64(&body, "txnNumber", 1);
    BSON_APPEND_UTF8(&body, "$db", "second");
    BSON_APPEND_INT64(&body, "txnNumber", 2);
    sample_begin(&out, 1, 0, 0);
    buffer_append(&out, "\0", 1);
    buffer_append(&out, bson_get_data(&body), body.len);
    sample_end(&out);
    command = command_of(buffer_bytes(&out));
    assert_true(bytes_equal(command.database, "first"));
    assert_int_equal(command.txn_number, 1);
    bson_destroy(&body);
    buffer_fini(&out);
}

// A body that op_msg_read has not checked.
static void a_bad_body_is_told(void **state)
{
    (void)state;
    static const uint8_t bodies[][12] = {
        {12, 0, 0, 0, 0x10, 'a', 0, 1, 0, 0, 0, 1}, // no NUL
        {12, 0, 0, 0, 0x12, 'a', 0, 1, 0, 0, 0, 0}, // short value
        {12, 0, 0, 0, 0x0a, 'a', 0, 0x0a, 'b', 'c', 'd', 0},
    };
    for (size_t i = 0; i < 3; i++) {
        struct op_msg msg = {.body = {bodies[i], sizeof(bodies[i])}};
        struct command command;
        assert_int_equal(command_read(msg.body, &msg, &command), WIRE_BAD_BSON);
    }
}

static void assert_w(struct bytes message, bson_type_t type, double w)
{
    struct op_msg msg;
    assert_int_equal(op_msg_read(message, &msg), WIRE_OK);
    bson_t body;
    bson_iter_t iter;
    bson_iter_t child;
    assert_true(bson_init_static(&body, msg.body.at, msg.body.len));
    assert_true(bson_iter_init(&iter, &body));
    assert_true(bson_iter_find_descendant(&iter, "writeConcern.w", &child));
    assert_int_equal(bson_iter_type(&child), type);
    assert_true(bson_iter_as_double(&child) == w);
}

static void a_write_is_made_to_reply(void **state)
{
    (void)state;
    static const struct {
        const char *w;
        bson_type_t type;
        bool is_zero;
        double after;
    } cases[] = {
        {"0", BSON_TYPE_INT32, true, 1},
        {"{'$numberLong': '0'}", BSON_TYPE_INT64, true, 1},
        {"{'$numberDouble': '0.0'}", BSON_TYPE_DOUBLE, true, 1},
        {"{'$numberDouble': '-0.0'}", BSON_TYPE_DOUBLE, true, 1},
        {"1", BSON_TYPE_INT32, false, 1},
        {"3", BSON_TYPE_INT32, false, 3},
        {"{'$numberDouble': '0.5'}", BSON_TYPE_DOUBLE, false, 0.5},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *json = bson_strdup_printf(
            "{'insert': 'c', 'writeConcern': {'j': false, 'w': %s}, '$db': 'a'}", cases[i].w);
        struct buffer out = {0};
        struct command command;
        assert_int_equal(read_json(&out, json, &command), WIRE_OK);
        assert_int_equal(command.w_offset != 0, cases[i].is_zero);
        command_acknowledge(&command, buffer_at(&out));
        assert_w(buffer_bytes(&out), cases[i].type, cases[i].after);
        buffer_fini(&out);
        bson_free(json);
    }
    struct command command = command_named("unacknowledged insert");
    assert_true(command.unacknowledged && command.w_offset > 0);
}

static void a_w_that_is_no_number_stays(void **state)
{
    (void)state;
    static const char *const ws[] = {"'majority'", "false", "null", "{}"};
    for (size_t i = 0; i < sizeof(ws) / sizeof(ws[0]); i++) {
        char *json =
            bson_strdup_printf("{'insert': 'c', 'writeConcern': {'w': %s}, '$db': 'a'}", ws[i]);
        struct buffer out = {0};
        struct command command;
        assert_int_equal(read_json(&out, json, &command), WIRE_OK);
        assert_int_equal(command.w_offset, 0);
        buffer_fini(&out);
        bson_free(json);
    }
}

static bool within(struct bytes inner, struct bytes outer)
{
    return inner.len == 0 || (inner.at >= outer.at && inner.at + inner.len <= outer.at + outer.len);
}

static void read_and_acknowledge(struct bytes message, uint8_t *at, size_t *sound)
{
    struct op_msg msg;
    struct command command;
    if (op_msg_read(message, &msg) || command_read(message, &msg, &command)) {
        return;
    }
    *sound += 1;
    const struct bytes parts[] = {command.name,           command.database, command.collection,
                                  command.lsid,           command.lsid_id,  command.comment,
                                  command.cursors,        command.body,     command.write_concern,
                                  command.read_preference};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        assert_true(within(parts[i], message));
    }
    command_acknowledge(&command, at);
}

static void damage_is_found_or_harmless(void **state)
{
    (void)state;
    size_t count;
    const struct sample *all = samples(&count);
    struct guard guard = guard_new(4096);
    struct dice dice = {23};
    size_t sound = 0;
    for (int i = 0; i < 200000; i++) {
        struct bytes message = all[dice_below(&dice, (uint32_t)count)].message;
        uint8_t *at = guard_lay(&guard, message.at, message.len);
        dice_damage(&dice, at + 16, message.len - 16);
        uint8_t *copy = exact_copy(at, message.len);
        read_and_acknowledge((struct bytes){at, message.len}, at, &sound);
        read_and_acknowledge((struct bytes){copy, message.len}, copy, &sound);
        free(copy);
    }
    assert_true(sound > 40000 && sound < 360000);
    guard_free(&guard);
}

static void every_command_is_found_by_its_name(void **state)
{
    (void)state;
    assert_true(COMMAND_COUNT > 100);
    for (int i = 0; i < COMMAND_COUNT; i++) {
        const struct command_info *info = command_at(i);
        assert_int_equal(info->index, i);
        assert_ptr_equal(command_lookup((struct bytes){(const uint8_t *)info->name,
                                                       i == 0 ? 0 : strlen(info->name)}),
                         info);
        unsigned kinds = info->traits & (COMMAND_READ | COMMAND_WRITE | COMMAND_LOCAL);
        assert_true(kinds == COMMAND_READ || kinds == COMMAND_WRITE || kinds == COMMAND_LOCAL);
    }
}

static const struct command_info *lookup(const char *name)
{
    struct guard guard = guard_new(64);
    struct bytes bytes = {guard_lay(&guard, name, strlen(name)), strlen(name)};
    const struct command_info *info = command_lookup(bytes);
    guard_free(&guard);
    return info;
}

static void a_name_that_is_not_known_is_other(void **state)
{
    (void)state;
    static const char *const names[] = {
        "",      "f",      "fin",      "findd",    "Find",    "FIND",
        "other", "helloo", "IsMaster", "isMAster", "getMorE", "aVeryLongNameThatIsNoCommandAtAll",
        "toP",   "doThis", "find\n",
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        assert_ptr_equal(lookup(names[i]), command_at(0));
    }
    struct bytes with_nul = {(const uint8_t *)"find\0", 5};
    assert_ptr_equal(command_lookup(with_nul), command_at(0));
    assert_string_equal(command_at(0)->name, "other");
    assert_int_equal(command_at(0)->traits, COMMAND_WRITE);
}

static void what_weir_answers_itself(void **state)
{
    (void)state;
    static const char *const local[] = {"hello",        "isMaster",     "ismaster", "saslStart",
                                        "saslContinue", "authenticate", "logout",   "getnonce"};
    size_t found = 0;
    for (int i = 0; i < COMMAND_COUNT; i++) {
        found += (command_at(i)->traits & COMMAND_LOCAL) != 0;
    }
    assert_int_equal(found, sizeof(local) / sizeof(local[0]));
    for (size_t i = 0; i < sizeof(local) / sizeof(local[0]); i++) {
        const struct command_info *info = lookup(local[i]);
        assert_true(info->traits & COMMAND_LOCAL);
        assert_int_equal((info->traits & COMMAND_HELLO) != 0, i < 3);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_are_classified),
        cmocka_unit_test(a_find_with_everything),
        cmocka_unit_test(cursors_and_transactions),
        cmocka_unit_test(pipelines_that_write),
        cmocka_unit_test(what_may_be_sent_once_more),
        cmocka_unit_test(cursors_that_wait_for_data),
        cmocka_unit_test(read_modes),
        cmocka_unit_test(fields_of_a_wrong_type_are_absent),
        cmocka_unit_test(a_session_id_is_a_uuid_or_none),
        cmocka_unit_test(what_is_no_command),
        cmocka_unit_test(a_field_is_not_also_a_sequence),
        cmocka_unit_test(a_field_that_is_read_is_no_sequence),
        cmocka_unit_test(of_a_field_twice_the_first_counts),
        cmocka_unit_test(a_bad_body_is_told),
        cmocka_unit_test(a_write_is_made_to_reply),
        cmocka_unit_test(a_w_that_is_no_number_stays),
        cmocka_unit_test(damage_is_found_or_harmless),
        cmocka_unit_test(every_command_is_found_by_its_name),
        cmocka_unit_test(a_name_that_is_not_known_is_other),
        cmocka_unit_test(what_weir_answers_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
