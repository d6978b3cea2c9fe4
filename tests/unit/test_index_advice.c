// SPDX-License-Identifier: Apache-2.0

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/control/index_advice.h"
#include "wire_samples.h"

static struct query_needs needs_of(const char *json)
{
    struct query_needs needs;
    bson_t *command = sample_document(json);
    query_needs_of_command(command, &needs);
    bson_destroy(command);
    return needs;
}

static void assert_index(const char *what, const struct query_needs *needs, const char *expected)
{
    struct index_keys keys;
    char text[INDEX_TEXT_BYTES];
    index_for(needs, &keys);
    index_keys_print(&keys, text, sizeof text);
    if (strcmp(text, expected) != 0) {
        fail_msg("%s: %s instead of %s", what, text, expected);
    }
}

static void commands_have_their_index(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{'find': 'c', 'filter': {'at': {'$gt': 1}, 'status': 'new'}, 'sort': {'day': -1}}",
         "{status: 1, day: -1, at: 1}"},
        {"{'find': 'c'}", "{}"},
        {"{'find': 'c', 'filter': {'_id': 1, 'a': 2}}", "{}"},
        {"{'find': 'c', 'filter': {'_id': {'$gt': 1}}}", "{_id: 1}"},
        {"{'find': 'c', 'filter': {'a': 1}, 'sort': {'a': 1}}", "{a: 1}"},
        {"{'find': 'c', 'filter': {'a': {'$gt': 1}}, 'sort': {'a': -1}}", "{a: -1}"},
        {"{'find': 'c', 'filter': {'$and': [{'a': 1}, {'b': {'$lte': 2}}]}}", "{a: 1, b: 1}"},
        {"{'find': 'c', 'filter': {'$or': [{'a': 1}, {'b': 2}]}}", "{}"},
        {"{'find': 'c', 'filter': {'$or': [{'a': 1}]}}", "{a: 1}"},
        {"{'find': 'c', 'filter': {'a.b': {'$elemMatch': {'x': 1, 'y': {'$gt': 1}}}}}",
         "{\"a.b.x\": 1, \"a.b.y\": 1}"},
        {"{'find': 'c', 'filter': {'a': {'$elemMatch': {'$gt': 1, '$lt': 3}}}}", "{a: 1}"},
        {"{'find': 'c', 'filter': {'a': {'$ne': 1}, 'b': {'$exists': true}}}", "{}"},
        {"{'find': 'c', 'filter': {'a': {'b': 1}, 'c': [1], 'd': null}}", "{a: 1, c: 1, d: 1}"},
        {"{'find': 'c', 'filter': {'$text': {'$search': 'x'}, 'a': 1}}", "{}"},
        {"{'count': 'c', 'query': {'a': {'$in': [1, 2]}}}", "{a: 1}"},
        {"{'update': 'c', 'updates': [{'q': {'a': 1}, 'u': {'$set': {'b': 1}}}, {'q': {'z': 1}}]}",
         "{a: 1}"},
        {"{'q': {'a': 1}, 'u': {'filter': 1}, 'multi': false}", "{a: 1}"},
        {"{'findAndModify': 'c', 'query': {'a': 1}, 'sort': {'b': -1}}", "{a: 1, b: -1}"},
        {"{'aggregate': 'c', 'pipeline': [{'$match': {'a': 1}}, {'$match': {'b': {'$gt': 1}}}, "
         "{'$sort': {'c': 1}}, {'$match': {'d': 1}}]}",
         "{a: 1, c: 1, b: 1}"},
        {"{'aggregate': 'c', 'pipeline': [{'$group': {'_id': '$a'}}, {'$match': {'a': 1}}]}", "{}"},
        {"{'aggregate': 'c', 'pipeline': [{'$project': {'a': '$b'}}, {'$match': {'a': 1}}]}", "{}"},
        {"{'find': 3, 'filter': [1], 'sort': 7, 'pipeline': {}, 'updates': [], 'deletes': [3]}",
         "{}"},
        {"{}", "{}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct query_needs needs = needs_of(cases[i][0]);
        assert_index(cases[i][0], &needs, cases[i][1]);
    }
}

static void a_long_in_does_not_keep_the_order(void **state)
{
    (void)state;
    bson_t command, filter, a, values, sort;
    bson_init(&command);
    BSON_APPEND_DOCUMENT_BEGIN(&command, "filter", &filter);
    BSON_APPEND_DOCUMENT_BEGIN(&filter, "a", &a);
    BSON_APPEND_ARRAY_BEGIN(&a, "$in", &values);
    for (int i = 0; i < 201; i++) {
        BSON_APPEND_INT32(&values, "", i);
    }
    bson_append_array_end(&a, &values);
    bson_append_document_end(&filter, &a);
    bson_append_document_end(&command, &filter);
    BSON_APPEND_DOCUMENT_BEGIN(&command, "sort", &sort);
    BSON_APPEND_INT32(&sort, "b", 1);
    bson_append_document_end(&command, &sort);
    struct query_needs needs;
    assert_true(query_needs_of_command(&command, &needs));
    assert_index("$in of 201", &needs, "{b: 1, a: 1}");
    bson_destroy(&command);
}

static void shapes_have_their_index(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"find shop.orders {status, createdAt:{$gt}} sort{createdAt}", "shop.orders",
         "{status: 1, createdAt: 1}"},
        {"find d.c {a} projection{b:{$slice}} limit collation sort{x, y}", "d.c",
         "{a: 1, x: 1, y: 1}"},
        {"distinct shop.orders key:status {customer}", "shop.orders", "{customer: 1}"},
        {"aggregate d.c [{$match:{a, b:{$in:[]}}}, {$sort:{c}}, {$group:{_id, n:{$sum}}}]", "d.c",
         "{a: 1, b: 1, c: 1}"},
        {"update d.c {a, r://} u{$set:{b}}", "d.c", "{a: 1, r: 1}"},
        {"delete d.c {a:{}, b:[]}", "d.c", "{a: 1, b: 1}"},
        {"find d.c {$or:[{a}, {b}]}", "d.c", "{}"},
        {"find d.c {$and:[{a}, {b}]}", "d.c", "{a: 1, b: 1}"},
        {"find d.c%20%7ba%7d {x%3ay}", "d.c {a}", "{\"x:y\": 1}"},
        {"insert d.c", "d.c", "{}"},
        {"ping admin", "admin", "{}"},
        {"", "", "{}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct query_needs needs;
        char namespace[64];
        query_needs_of_shape(cases[i][0], &needs, namespace, sizeof namespace);
        assert_string_equal(namespace, cases[i][1]);
        assert_index(cases[i][0], &needs, cases[i][2]);
        assert_false(needs.incomplete);
    }
}

static void what_was_cut_is_said_to_be(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "find d.c {a, b…", "find d.c {a…",    "find d.c {a}…", "find d.c {a:{$gt",
        "find d.c {a:",    "find d.c {a]} [", "find d.c }",    "find d.c {a, ",
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct query_needs needs;
        query_needs_of_shape(cases[i], &needs, NULL, 0);
        if (!needs.incomplete) {
            fail_msg("%s", cases[i]);
        }
    }
}

// Every beginning of a text, and every byte of it changed, is read without harm; brackets that
// never close do not exhaust the stack.
static void any_text_is_read(void **state)
{
    (void)state;
    const char *text = "aggregate d.c [{$match:{a, b:{$in:[]}, c%2e://}}, {$sort:{c}}] hint{a} x:y";
    struct query_needs needs;
    char tried[128];
    for (size_t i = 0; i < strlen(text); i++) {
        snprintf(tried, sizeof tried, "%.*s", (int)i, text);
        query_needs_of_shape(tried, &needs, NULL, 0);
        for (int byte = 1; byte < 256; byte++) {
            snprintf(tried, sizeof tried, "%s", text);
            tried[i] = (char)byte;
            query_needs_of_shape(tried, &needs, NULL, 0);
        }
    }
    char *deep = malloc(100001);
    memset(deep, '{', 100000);
    deep[100000] = '\0';
    memcpy(deep, "find d.c ", 9);
    query_needs_of_shape(deep, &needs, NULL, 0);
    assert_true(needs.incomplete);
    free(deep);
}

static void many_fields_are_incomplete(void **state)
{
    (void)state;
    char shape[512] = "find d.c {";
    for (int i = 0; i < 40; i++) {
        snprintf(shape + strlen(shape), sizeof shape - strlen(shape), "%sf%d", i ? ", " : "", i);
    }
    struct query_needs needs;
    query_needs_of_shape(strcat(shape, "}"), &needs, NULL, 0);
    assert_true(needs.incomplete);
    assert_int_equal(needs.equality.count, INDEX_KEYS_MAX);
}

static struct index_keys index_of(const char *json)
{
    struct index_keys keys;
    bson_t *bson = sample_document(json);
    bson_iter_t iter;
    assert_true(bson_iter_init_find(&iter, bson, "key"));
    assert_true(index_keys_read(&iter, &keys));
    bson_destroy(bson);
    return keys;
}

static void indexes_fit_or_not(void **state)
{
    (void)state;
    const char *query = "{'filter': {'a': 1, 'b': 2, 'r': {'$gt': 1}}, 'sort': {'s': -1, 't': 1}}";
    struct query_needs needs = needs_of(query);
    static const struct {
        const char *index;
        enum index_fit fit;
    } cases[] = {
        {"{'key': {'a': 1, 'b': 1, 's': -1, 't': 1, 'r': 1}}", INDEX_SERVES},
        {"{'key': {'b': -1, 'a': 1, 's': 1.0, 't': -1, 'r': 1, 'more': 1}}", INDEX_SERVES},
        {"{'key': {'a': 1, 'b': 1, 's': 1, 't': 1, 'r': 1}}", INDEX_NARROWS}, // not that order
        {"{'key': {'a': 1, 'b': 1, 'r': 1, 's': -1, 't': 1}}", INDEX_NARROWS},
        {"{'key': {'a': 1}}", INDEX_NARROWS},
        {"{'key': {'a': 'hashed'}}", INDEX_NARROWS},
        {"{'key': {'r': 1}}", INDEX_NARROWS},
        {"{'key': {'s': -1, 't': 1}}", INDEX_NARROWS},
        {"{'key': {'$**': 1}}", INDEX_NARROWS},
        {"{'key': {'t': 1, 'a': 1}}", INDEX_FITS_NOT},
        {"{'key': {'_fts': 'text', '_ftsx': 1}}", INDEX_FITS_NOT},
        {"{'key': {'_id': 1}}", INDEX_FITS_NOT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct index_keys keys = index_of(cases[i].index);
        if (index_fit(&keys, &needs) != cases[i].fit) {
            fail_msg("%s: %d", cases[i].index, index_fit(&keys, &needs));
        }
    }
    needs = needs_of("{'filter': {'a': 1}}");
    struct index_keys hashed = index_of("{'key': {'a': 'hashed'}}");
    assert_int_equal(index_fit(&hashed, &needs), INDEX_SERVES);
}

static void the_index_that_is_advised_serves(void **state)
{
    (void)state;
    static const char *const queries[] = {
        "{'filter': {'a': 1, 'b': {'$gt': 1}}, 'sort': {'c': -1, 'a': 1, 'd': 1}}",
        "{'filter': {'a': {'$gt': 1}, 'b': {'$lt': 1}}, 'sort': {'b': -1}}",
        "{'filter': {'a': 1, 'b': 1}}",
        "{'sort': {'x.y': -1}}",
        "{'filter': {'a': {'$gt': 1, '$in': [2]}}}",
    };
    for (size_t i = 0; i < sizeof queries / sizeof queries[0]; i++) {
        struct query_needs needs = needs_of(queries[i]);
        struct index_keys keys;
        index_for(&needs, &keys);
        assert_int_equal(index_fit(&keys, &needs), INDEX_SERVES);
    }
}

static void prefixes(void **state)
{
    (void)state;
    struct index_keys a = index_of("{'key': {'a': 1}}");
    struct index_keys ab = index_of("{'key': {'a': 1, 'b': -1}}");
    struct index_keys down = index_of("{'key': {'a': -1}}");
    assert_true(index_is_prefix(&a, &ab));
    assert_false(index_is_prefix(&ab, &a));
    assert_false(index_is_prefix(&a, &a));
    assert_false(index_is_prefix(&down, &ab));
}

static void printing_is_cut(void **state)
{
    (void)state;
    struct index_keys keys = index_of("{'key': {'abc': 1, 'd e': -1, 'f': 'hashed', 'g': '2d'}}");
    const char *whole = "{abc: 1, \"d e\": -1, f: \"hashed\", g: \"special\"}";
    char text[64];
    index_keys_print(&keys, text, sizeof text);
    assert_string_equal(text, whole);
    for (size_t capacity = 1; capacity < strlen(whole); capacity++) {
        index_keys_print(&keys, text, capacity);
        assert_int_equal(strlen(text), capacity - 1);
        assert_memory_equal(text, whole, capacity - 1);
    }
}

static void what_is_to_be_typed_is_quoted(void **state)
{
    (void)state;
    struct index_keys keys = {.count = 1, .key = {{"a\"}); quit(); //\\", 1}}};
    char text[256];
    assert_true(index_command_print("shop.x\"\\\n.y", &keys, text, sizeof text));
    assert_string_equal(text, "db.getSiblingDB(\"shop\").getCollection(\"x\\\"\\\\\\x0a.y\")"
                              ".createIndex({\"a\\\"}); quit(); //\\\\\": 1})");
    assert_false(index_command_print("shop", &keys, text, sizeof text));
    assert_false(index_command_print("shop.orders", &keys, text, 40));
    assert_string_equal(text, "");
}

static void what_explains_a_shape_names_its_collection(void **state)
{
    static const char *const shapes[][2] = {
        {"find shop.orders {status} sort{at} limit", "explain(\"executionStats\").find(FILTER)"},
        {"count shop.orders {n}", "explain(\"executionStats\").count(FILTER)"},
        {"distinct shop.orders key:status", "explain(\"executionStats\").distinct(FIELD, FILTER)"},
        {"delete shop.orders {n}", "explain(\"executionStats\").remove(FILTER)"},
    };
    char text[256];
    char want[256];
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        snprintf(want, sizeof want, "db.getSiblingDB(\"shop\").getCollection(\"orders\").%s",
                 shapes[i][1]);
        assert_true(explain_command_print(shapes[i][0], text, sizeof text));
        assert_string_equal(text, want);
    }
    assert_false(explain_command_print("getMore shop.orders", text, sizeof text));
    assert_false(explain_command_print("find", text, sizeof text));
    assert_false(explain_command_print("", text, sizeof text));
    assert_false(explain_command_print(shapes[0][0], text, 40));
    assert_string_equal(text, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_have_their_index),
        cmocka_unit_test(a_long_in_does_not_keep_the_order),
        cmocka_unit_test(shapes_have_their_index),
        cmocka_unit_test(what_was_cut_is_said_to_be),
        cmocka_unit_test(any_text_is_read),
        cmocka_unit_test(many_fields_are_incomplete),
        cmocka_unit_test(indexes_fit_or_not),
        cmocka_unit_test(the_index_that_is_advised_serves),
        cmocka_unit_test(prefixes),
        cmocka_unit_test(printing_is_cut),
        cmocka_unit_test(what_is_to_be_typed_is_quoted),
        cmocka_unit_test(what_explains_a_shape_names_its_collection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
