// SPDX-License-Identifier: Apache-2.0
//
// The database weir: its commands and its cursors. Commands are written as JSON.

#include "proxy/admin/database.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define CLIENT 5

static struct database *database;
static struct picture picture;

// Documents of config: {_id: "000", value: "0"} and so on.
static void fill(int count)
{
    picture_fini(&picture);
    picture.collections = STATE_BIT(STATE_config);
    for (int i = 0; i < count; i++) {
        char id[16];
        struct row row;
        snprintf(id, sizeof id, "%03d", i);
        row_begin(&row, &picture, STATE_config);
        row_text(&row, STATE_config__id, id);
        row_text(&row, STATE_config_value, i % 2 ? "odd" : "even");
        row_end(&row);
    }
}

static int set_up(void **state)
{
    (void)state;
    database = database_new();
    fill(10);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    database_free(database);
    picture_fini(&picture);
    return 0;
}

struct answer {
    struct inquiry inquiry;
    bool at_once; // without a picture
};

static void ask(struct answer *answer, uint64_t client, int64_t now_us, const bson_t *command)
{
    *answer = (struct answer){.inquiry = {.client_id = client, .may_look = true}};
    buffer_append(&answer->inquiry.command, bson_get_data(command), command->len);
    answer->at_once = database_take(database, &answer->inquiry, now_us);
    if (!answer->at_once) {
        assert_int_equal(answer->inquiry.question.collections, STATE_BIT(STATE_config));
        database_answer(database, &answer->inquiry, &picture);
    }
}

static void ask_json(struct answer *answer, const char *json)
{
    bson_error_t error;
    bson_t *command = bson_new_from_json((const uint8_t *)json, -1, &error);
    if (!command) {
        fail_msg("%s: %s", json, error.message);
    }
    ask(answer, CLIENT, 0, command);
    bson_destroy(command);
}

static void done(struct answer *answer)
{
    bson_destroy(answer->inquiry.reply);
    buffer_fini(&answer->inquiry.command);
}

static int64_t number_at(const struct answer *answer, const char *path)
{
    bson_iter_t iter;
    bson_iter_t found;
    assert_true(bson_iter_init(&iter, answer->inquiry.reply));
    if (!bson_iter_find_descendant(&iter, path, &found)) {
        char *json = bson_as_relaxed_extended_json(answer->inquiry.reply, NULL);
        fail_msg("no %s in %s", path, json);
    }
    return bson_iter_as_int64(&found);
}

static bool has(const struct answer *answer, const char *path)
{
    bson_iter_t iter;
    bson_iter_t found;
    return bson_iter_init(&iter, answer->inquiry.reply) &&
           bson_iter_find_descendant(&iter, path, &found);
}

static int count_batch(const struct answer *answer, const char *name)
{
    int count = 0;
    char path[64];
    do {
        snprintf(path, sizeof path, "cursor.%s.%d", name, count);
    } while (has(answer, path) && ++count);
    return count;
}

// --- tests --------------------------------------------------------------------------------------

static void find_and_get_more(void **state)
{
    (void)state;
    struct answer answer;
    char command[128];
    ask_json(&answer, "{\"find\": \"config\", \"batchSize\": 4}");
    assert_int_equal(count_batch(&answer, "firstBatch"), 4);
    assert_true(answer.inquiry.opens_view);
    int64_t id = number_at(&answer, "cursor.id");
    assert_true(id > 0);
    done(&answer);
    snprintf(command, sizeof command,
             "{\"getMore\": {\"$numberLong\": \"%lld\"}, \"collection\": \"config\","
             " \"batchSize\": 4}",
             (long long)id);
    ask_json(&answer, command);
    assert_int_equal(count_batch(&answer, "nextBatch"), 4);
    assert_int_equal(number_at(&answer, "cursor.id"), id);
    done(&answer);
    ask_json(&answer, command);
    assert_int_equal(count_batch(&answer, "nextBatch"), 2);
    assert_int_equal(number_at(&answer, "cursor.id"), 0);
    assert_false(answer.inquiry.opens_view);
    done(&answer);
    ask_json(&answer, command);
    assert_int_equal(number_at(&answer, "code"), 43);
    done(&answer);
}

static void batches(void **state)
{
    static const struct {
        const char *command;
        int first;
        bool goes_on;
    } cases[] = {
        {"{\"find\": \"config\"}", 10, false},
        {"{\"find\": \"config\", \"batchSize\": 0}", 0, true},
        {"{\"find\": \"config\", \"batchSize\": 10}", 10, false},
        {"{\"find\": \"config\", \"batchSize\": 3, \"singleBatch\": true}", 3, false},
        {"{\"find\": \"config\", \"limit\": 3}", 3, false},
        {"{\"find\": \"config\", \"limit\": -3}", 3, false},
        {"{\"find\": \"config\", \"limit\": 5, \"batchSize\": 2}", 2, true},
        {"{\"find\": \"config\", \"skip\": 8}", 2, false},
        {"{\"find\": \"config\", \"filter\": {\"value\": \"odd\"}}", 5, false},
        {"{\"find\": \"config\", \"filter\": {\"_id\": {\"$gte\": \"007\"}}}", 3, false},
        {"{\"find\": \"config\", \"filter\": null, \"sort\": null}", 10, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct answer answer;
        ask_json(&answer, cases[i].command);
        assert_int_equal(count_batch(&answer, "firstBatch"), cases[i].first);
        assert_int_equal(number_at(&answer, "cursor.id") != 0, cases[i].goes_on);
        assert_int_equal(number_at(&answer, "ok"), 1);
        done(&answer);
    }
}

static void counts(void **state)
{
    static const struct {
        const char *command;
        const char *path;
        int count;
    } cases[] = {
        {"{\"count\": \"config\"}", "n", 10},
        {"{\"count\": \"config\", \"query\": {\"value\": \"odd\"}}", "n", 5},
        {"{\"count\": \"config\", \"skip\": 4, \"limit\": 3}", "n", 3},
        {"{\"aggregate\": \"config\", \"cursor\": {}, \"pipeline\": [{\"$match\": {}},"
         " {\"$group\": {\"_id\": 1, \"n\": {\"$sum\": 1}}}]}",
         "cursor.firstBatch.0.n", 10},
        {"{\"aggregate\": \"config\", \"cursor\": {}, \"pipeline\": [{\"$match\":"
         " {\"value\": \"odd\"}}, {\"$skip\": 1}, {\"$limit\": 3},"
         " {\"$group\": {\"_id\": null, \"n\": {\"$sum\": 1}}}]}",
         "cursor.firstBatch.0.n", 3},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct answer answer;
        ask_json(&answer, cases[i].command);
        assert_int_equal(number_at(&answer, cases[i].path), cases[i].count);
        done(&answer);
    }
    struct answer answer;
    ask_json(&answer, "{\"aggregate\": \"config\", \"cursor\": {}, \"pipeline\": [{\"$match\":"
                      " {\"value\": 1}}, {\"$group\": {\"_id\": 1, \"n\": {\"$sum\": 1}}}]}");
    assert_int_equal(count_batch(&answer, "firstBatch"), 0); // as a server: no group
    done(&answer);
}

static void refusals(void **state)
{
    static const struct {
        const char *command;
        int code;
    } cases[] = {
        {"{\"insert\": \"config\", \"documents\": []}", 115},
        {"{\"drop\": \"config\"}", 115},
        {"{\"explain\": {\"find\": \"config\"}}", 115},
        {"{\"find\": \"nope\"}", 26},
        {"{\"find\": \"conf\\u0000ig\"}", 26},
        {"{\"find\": \"\xff\"}", -1}, // not even JSON: see below
        {"{\"find\": 1}", 2},
        {"{\"find\": \"config\", \"filter\": 1}", 115},
        {"{\"find\": \"config\", \"filter\": {\"$where\": \"1\"}}", 2},
        {"{\"find\": \"config\", \"skip\": -1}", 115},
        {"{\"find\": \"config\", \"limit\": \"x\"}", 115},
        {"{\"find\": \"config\", \"limit\": {\"$numberLong\": \"-9223372036854775808\"}}", 115},
        {"{\"find\": \"config\", \"batchSize\": -1}", 115},
        {"{\"find\": \"config\", \"tailable\": true}", 115},
        {"{\"find\": \"config\", \"collation\": {\"locale\": \"en\"}}", 115},
        {"{\"find\": \"config\", \"startTransaction\": true, \"autocommit\": false}", 115},
        {"{\"aggregate\": \"config\", \"pipeline\": []}", 115},
        {"{\"aggregate\": \"config\", \"pipeline\": [{\"$out\": \"x\"}]}", 115},
        {"{\"aggregate\": \"config\", \"pipeline\": [{\"$group\": {\"_id\": \"$value\","
         " \"n\": {\"$sum\": 1}}}]}",
         115},
        {"{\"aggregate\": \"config\", \"pipeline\": [{\"$group\": {\"_id\": 1,"
         " \"n\": {\"$sum\": 2}}}]}",
         115},
        {"{\"aggregate\": \"config\", \"pipeline\": [{\"$limit\": 1}, {\"$skip\": 1},"
         " {\"$group\": {\"_id\": 1, \"n\": {\"$sum\": 1}}}]}",
         115},
        {"{\"aggregate\": 1, \"pipeline\": []}", 2},
        {"{\"getMore\": {\"$numberLong\": \"1\"}, \"collection\": \"config\"}", 43},
        {"{\"getMore\": 0, \"collection\": \"config\"}", 43},
        {"{\"getMore\": \"x\"}", 43},
        {"{\"listCollections\": 1, \"filter\": {\"$where\": 1}}", 2},
        {"{}", 2},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct answer answer;
        if (cases[i].code < 0) {
            bson_t command = BSON_INITIALIZER;
            bson_append_utf8(&command, "find", -1, "\xff\n", 2);
            ask(&answer, CLIENT, 0, &command);
            bson_destroy(&command);
        } else {
            ask_json(&answer, cases[i].command);
        }
        assert_true(answer.at_once);
        assert_int_equal(number_at(&answer, "ok"), 0);
        int64_t wanted = cases[i].code < 0 ? 26 : cases[i].code;
        if (number_at(&answer, "code") != wanted) {
            fail_msg("%s: %d", cases[i].command, (int)number_at(&answer, "code"));
        }
        assert_true(bson_validate(answer.inquiry.reply, BSON_VALIDATE_UTF8, NULL));
        done(&answer);
    }
}

static void collections_are_listed(void **state)
{
    (void)state;
    struct answer answer;
    ask_json(&answer, "{\"listCollections\": 1, \"nameOnly\": true}");
    assert_int_equal(count_batch(&answer, "firstBatch"), STATE_COUNT);
    assert_false(has(&answer, "cursor.firstBatch.0.info"));
    done(&answer);
    ask_json(&answer, "{\"listCollections\": 1, \"filter\": {\"name\": \"shapes\"}}");
    assert_int_equal(count_batch(&answer, "firstBatch"), 1);
    assert_int_equal(number_at(&answer, "cursor.firstBatch.0.info.readOnly"), 1);
    done(&answer);
}

static void help_names_all(void **state)
{
    (void)state;
    struct answer answer;
    ask_json(&answer, "{\"help\": 1}");
    assert_true(has(&answer, "commands.find"));
    for (int i = 0; i < STATE_FIELD_COUNT; i++) {
        char path[96];
        snprintf(path, sizeof path, "collections.%s.%s",
                 state_collections[state_fields[i].collection].name, state_fields[i].name);
        assert_true(has(&answer, path));
    }
    done(&answer);
}

static void only_from_near(void **state)
{
    (void)state;
    struct inquiry inquiry = {.client_id = CLIENT};
    bson_t *command = BCON_NEW("find", "config");
    buffer_append(&inquiry.command, bson_get_data(command), command->len);
    assert_true(database_take(database, &inquiry, 0));
    struct answer answer = {.inquiry = inquiry};
    assert_int_equal(number_at(&answer, "code"), 13);
    bson_destroy(command);
    done(&answer);
}

static int64_t open_cursor(uint64_t client, int64_t now_us)
{
    struct answer answer;
    bson_t *command = BCON_NEW("find", "config", "batchSize", BCON_INT32(1));
    ask(&answer, client, now_us, command);
    bson_destroy(command);
    int64_t id = number_at(&answer, "cursor.id");
    done(&answer);
    return id;
}

static bool goes_on(uint64_t client, int64_t now_us, int64_t id)
{
    struct answer answer;
    bson_t *command =
        BCON_NEW("getMore", BCON_INT64(id), "collection", "config", "batchSize", BCON_INT32(1));
    ask(&answer, client, now_us, command);
    bson_destroy(command);
    bool fine = number_at(&answer, "ok") == 1;
    done(&answer);
    return fine;
}

static void a_cursor_dies_with_who_used_it_last(void **state)
{
    (void)state;
    int64_t first = open_cursor(1, 0);
    int64_t second = open_cursor(2, 0);
    assert_true(goes_on(2, 0, first)); // from another connection: it is that one's now
    database_forget_client(database, 1);
    assert_true(goes_on(2, 0, first));
    assert_true(goes_on(2, 0, second));
    database_forget_client(database, 2);
    assert_false(goes_on(2, 0, first));
    assert_false(goes_on(2, 0, second));
}

static void cursors_are_bounded(void **state)
{
    (void)state;
    int64_t ids[VIEWS_MAX + 1];
    for (int i = 0; i < VIEWS_MAX; i++) {
        ids[i] = open_cursor(CLIENT, i);
    }
    assert_true(goes_on(CLIENT, 1000, ids[0])); // so that the second was not used longest
    ids[VIEWS_MAX] = open_cursor(CLIENT, 1001);
    assert_true(goes_on(CLIENT, 1002, ids[0]));
    assert_false(goes_on(CLIENT, 1002, ids[1]));
    assert_true(goes_on(CLIENT, 1002, ids[2]));
    assert_true(goes_on(CLIENT, 1002, ids[VIEWS_MAX]));
}

static void cursors_can_be_killed(void **state)
{
    (void)state;
    struct answer answer;
    int64_t id = open_cursor(CLIENT, 0);
    bson_t *command = BCON_NEW("killCursors", "config", "cursors", "[", BCON_INT64(id),
                               BCON_INT64(1), BCON_INT64(0), "]");
    ask(&answer, CLIENT, 0, command);
    assert_int_equal(number_at(&answer, "cursorsKilled.0"), id);
    assert_int_equal(number_at(&answer, "cursorsNotFound.0"), 1);
    assert_int_equal(number_at(&answer, "cursorsNotFound.1"), 0);
    assert_false(goes_on(CLIENT, 0, id));
    bson_destroy(command);
    done(&answer);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(find_and_get_more),
        TEST(batches),
        TEST(counts),
        TEST(refusals),
        TEST(collections_are_listed),
        TEST(help_names_all),
        TEST(only_from_near),
        TEST(a_cursor_dies_with_who_used_it_last),
        TEST(cursors_are_bounded),
        TEST(cursors_can_be_killed),
    };
    return cmocka_run_group_tests_name("database", tests, NULL, NULL);
}
