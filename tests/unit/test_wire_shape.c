// SPDX-License-Identifier: Apache-2.0

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/unit/guard.h"
#include "tests/unit/wire_samples.h"
#include "wire/shape.h"

#define CANARY "kanarienvogel"

struct shape {
    uint64_t id;
    char text[400];
};

static struct shape shape_of_message(struct bytes message)
{
    struct op_msg msg;
    struct command command;
    struct shape shape;
    assert_int_equal(op_msg_read(message, &msg), WIRE_OK);
    assert_int_equal(command_read(message, &msg, &command), WIRE_OK);
    shape.id = shape_id(&msg, &command);
    size_t len = shape_text(&msg, &command, shape.text, sizeof shape.text);
    assert_int_equal(len, strlen(shape.text));
    assert_null(strstr(shape.text, CANARY));
    return shape;
}

static struct shape shape_of(const char *json)
{
    struct buffer out = {0};
    sample_begin(&out, 1, 0, 0);
    sample_body(&out, json);
    sample_end(&out);
    struct shape shape = shape_of_message(buffer_bytes(&out));
    buffer_fini(&out);
    return shape;
}

static struct shape shape_of_sequence(const char *json, const char *name, const char *document)
{
    struct buffer out = {0};
    sample_begin(&out, 1, 0, 0);
    sample_sequence(&out, name, (const char *const[]){document, "{'q': {'other': 1}}", NULL});
    sample_body(&out, json);
    sample_end(&out);
    struct shape shape = shape_of_message(buffer_bytes(&out));
    buffer_fini(&out);
    return shape;
}

// A find with that filter.
static struct shape find_of(const char *filter)
{
    char json[2048];
    snprintf(json, sizeof json, "{'find': 'orders', 'filter': %s, '$db': 'shop'}", filter);
    return shape_of(json);
}

static struct shape aggregate_of(const char *pipeline)
{
    char json[2048];
    snprintf(json, sizeof json, "{'aggregate': 'orders', 'pipeline': %s, '$db': 'shop'}", pipeline);
    return shape_of(json);
}

static void samples_have_their_texts(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"ping", "ping admin"},
        {"find", "find shop.orders {status, createdAt:{$gt}} sort{createdAt} limit"},
        {"simple find", "find shop.orders {_id} limit"},
        {"get more", "getMore shop.orders"},
        {"kill cursors", "killCursors shop.orders"},
        {"insert, sequence first", "insert shop.orders"},
        {"update", "update shop.orders {_id} u{$inc:{n}}"},
        {"bulk write", "bulkWrite admin insert ns:shop.orders"},
        {"find and modify", "findAndModify shop.jobs {state} update{$set:{state}}"},
        {"aggregate", "aggregate shop.orders [{$match:{a}}, {$group:{_id, n:{$sum}}}]"},
        {"aggregate out", "aggregate shop.orders [{$match:{a}}, {$out}]"},
        {"explain", "explain shop"},
        {"every type", "doThis shop"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_string_equal(shape_of_message(sample_named(cases[i][0])).text, cases[i][1]);
    }
}

static void parts_of_filters_and_pipelines_are_shown(void **state)
{
    (void)state;
    static const char *const filters[][2] = {
        {"{}", "{}"},
        {"{'a': {'$in': [1, 2, {'b': 3}]}}", "{a:{$in:[]}}"},
        {"{'a': [1, 2]}", "{a:[]}"},
        {"{'a': {'" CANARY "': 1}}", "{a:{}}"},
        {"{'a': {'$eq': {'" CANARY "': 1}}}", "{a:{$eq:{}}}"},
        {"{'a': {'$regularExpression': {'pattern': '" CANARY "', 'options': ''}}}", "{a://}"},
        {"{'$or': [{'a': 1}, {'b': {'$lt': 1}}]}", "{$or:[{a}, {b:{$lt}}]}"},
        {"{'a': {'$not': {'$size': 1}}}", "{a:{$not:{$size}}}"},
        {"{'a': {'$elemMatch': {'b': 1, 'c': {'$gt': 1}}}}", "{a:{$elemMatch:{b, c:{$gt}}}}"},
        {"{'$expr': {'$gt': ['$" CANARY "', {'$add': ['$b', 1]}]}}", "{$expr:{$gt:[{$add:[]}]}}"},
        {"{'$text': {'$search': '" CANARY "'}}", "{$text:{$search}}"},
        {"{'a': {'$geoWithin': {'$geometry': {'type': '" CANARY "'}}}}",
         "{a:{$geoWithin:{$geometry:{}}}}"},
    };
    static const char *const pipelines[][2] = {
        {"[]", "[]"},
        {"[{'$project': {'a': '$" CANARY "', 'b': {'$literal': {'" CANARY "': 1}}}}]",
         "[{$project:{a, b:{$literal}}}]"},
        {"[{'$lookup': {'from': '" CANARY "', 'as': 'x', 'pipeline': [{'$match': {'a': {'b': 1}}},"
         " {'$sort': {'c': 1}}]}}]",
         "[{$lookup:{from, as, pipeline:[{$match:{a:{}}}, {$sort:{c}}]}}]"},
        {"[{'$facet': {'one': [{'$match': {'a': 1}}], 'two': [{'$count': '" CANARY "'}]}}]",
         "[{$facet:{one:[{$match:{a}}], two:[{$count}]}}]"},
        {"[{'$unionWith': {'coll': 'c', 'pipeline': [{'$match': {'a': [1]}}]}}]",
         "[{$unionWith:{coll, pipeline:[{$match:{a:[]}}]}}]"},
        {"[{'$unwind': '$a'}, {'$unwind': '$b'}]", "[{$unwind}, {$unwind}]"},
        {"[{'$out': '" CANARY "'}]", "[{$out}]"},
    };
    char expected[400];
    for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++) {
        snprintf(expected, sizeof expected, "find shop.orders %s", filters[i][1]);
        assert_string_equal(find_of(filters[i][0]).text, expected);
    }
    for (size_t i = 0; i < sizeof pipelines / sizeof pipelines[0]; i++) {
        snprintf(expected, sizeof expected, "aggregate shop.orders %s", pipelines[i][1]);
        assert_string_equal(aggregate_of(pipelines[i][0]).text, expected);
    }
}

static void clauses_of_commands_are_shown(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{'find': 'c', 'filter': {}, 'projection': {'a': 1, 'b': {'$slice': 2}}, 'hint': "
         "{'x': 1, 'y': 1}, 'collation': {'locale': '" CANARY "'}, 'skip': 9, 'batchSize': 5, "
         "'comment': '" CANARY "', '$db': 'd'}",
         "find d.c {} projection{a, b:{$slice}} hint{x, y} collation skip"},
        {"{'find': 'c', 'hint': '" CANARY "', '$db': 'd'}", "find d.c hint"},
        {"{'count': 'c', 'query': {'a': 1}, '$db': 'd'}", "count d.c {a}"},
        {"{'distinct': 'c', 'key': 'a.b', 'query': {'c': 1}, '$db': 'd'}",
         "distinct d.c key:a.b {c}"},
        {"{'update': 'c', 'updates': [{'q': {'a': 1}, 'u': {'" CANARY "': 1}}], '$db': 'd'}",
         "update d.c {a} u{}"},
        {"{'update': 'c', 'updates': [{'q': {}, 'u': [{'$set': {'b': '$" CANARY "'}}]}], '$db': "
         "'d'}",
         "update d.c {} u[{$set:{b}}]"},
        {"{'update': 'c', 'updates': [{'q': {}, 'u': {'$push': {'a': {'$each': [{'" CANARY
         "': 1}]}}, '$set': {'b': {'" CANARY "': 1}}}}], '$db': 'd'}",
         "update d.c {} u{$push:{a:{$each:[]}}, $set:{b:{}}}"},
        {"{'delete': 'c', 'deletes': [{'q': {'a': 1}, 'limit': 0, 'hint': {'a': 1}}], '$db': 'd'}",
         "delete d.c {a} hint{a}"},
        {"{'create': 'c', 'key': '" CANARY "', 'filter': {'a': 1}, '$db': 'd'}", "create d.c"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_string_equal(shape_of(cases[i][0]).text, cases[i][1]);
    }
}

static void values_make_no_difference(void **state)
{
    (void)state;
    static const char *const same[][2] = {
        {"{'a': 1}", "{'a': '" CANARY "'}"},
        {"{'a': {'$in': [1]}}", "{'a': {'$in': [1, 2, 3, 4, 5, 6, 7, 8, 9]}}"},
        {"{'a': {'$in': []}}", "{'a': {'$in': [{'x': 1}, [2]]}}"},
        {"{'a': {'x': 1}}", "{'a': {'y': 1, 'z': 2}}"},
        {"{'$or': [{'a': 1}, {'a': 2}]}", "{'$or': [{'a': 1}, {'a': 2}, {'a': 3}, {'a': 4}]}"},
        {"{'$expr': {'$in': ['$a', [1]]}}", "{'$expr': {'$in': ['$b', [1, 2, 3]]}}"},
        // order
        {"{'a': 1, 'b': 1}", "{'b': 1, 'a': 1}"},
        {"{'a': {'$gt': 1, '$lt': 2}}", "{'a': {'$lt': 1, '$gt': 2}}"},
    };
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        assert_int_equal(find_of(same[i][0]).id, find_of(same[i][1]).id);
    }
}

static void structure_makes_a_difference(void **state)
{
    (void)state;
    static const char *const filters[] = {
        "{}",
        "{'a': 1}",
        "{'b': 1}",
        "{'a': 1, 'b': 1}",
        "{'ab': 1}",
        "{'a': [1]}",
        "{'a': {}}",
        "{'a': {'$gt': 1}}",
        "{'a': {'$lt': 1}}",
        "{'a': {'$gt': 1}, 'b': 1}",
        "{'b': {'$gt': 1}, 'a': 1}",
        "{'a': {'$gt': [1]}}",
        "{'a': {'$regularExpression': {'pattern': 'x', 'options': ''}}}",
        "{'$or': [{'a': 1}]}",
        "{'$and': [{'a': 1}]}",
        "{'$or': [{'a': 1}, {'b': 1}]}",
        "{'$expr': {'$eq': 1}}",
        "{'$expr': {'$eq': {}}}",
        "{'$expr': {'$eq': []}}",
        "{'$expr': {'$eq': [[]]}}",
        "{'$expr': {'$eq': [{}]}}",
        "{'abcdefgh': 1}",
        "{'abcdefgi': 1}",
        "{'abcdefghi': 1}",
        "{'abcdefghabcdefgh': 1}",
    };
    enum { COUNT = sizeof filters / sizeof filters[0] };
    struct shape shapes[COUNT];
    for (int i = 0; i < COUNT; i++) {
        shapes[i] = find_of(filters[i]);
        for (int j = 0; j < i; j++) {
            assert_true(shapes[i].id != shapes[j].id);
            assert_string_not_equal(shapes[i].text, shapes[j].text);
        }
    }
}

static void order_counts_in_sorts_and_pipelines(void **state)
{
    (void)state;
    assert_true(shape_of("{'find': 'c', 'sort': {'a': 1, 'b': 1}, '$db': 'd'}").id !=
                shape_of("{'find': 'c', 'sort': {'b': 1, 'a': 1}, '$db': 'd'}").id);
    assert_true(shape_of("{'find': 'c', 'hint': {'a': 1, 'b': 1}, '$db': 'd'}").id !=
                shape_of("{'find': 'c', 'hint': {'b': 1, 'a': 1}, '$db': 'd'}").id);
    assert_true(aggregate_of("[{'$sort': {'a': 1, 'b': 1}}]").id !=
                aggregate_of("[{'$sort': {'b': 1, 'a': 1}}]").id);
    assert_true(aggregate_of("[{'$limit': 1}, {'$skip': 1}]").id !=
                aggregate_of("[{'$skip': 1}, {'$limit': 1}]").id);
    assert_int_equal(aggregate_of("[{'$project': {'a': 1, 'b': 1}}]").id,
                     aggregate_of("[{'$project': {'b': 1, 'a': 1}}]").id);
    assert_int_equal(shape_of("{'find': 'c', 'sort': {'a': 1}, 'limit': 1, '$db': 'd'}").id,
                     shape_of("{'find': 'c', 'limit': 2, 'sort': {'a': -1}, '$db': 'd'}").id);
}

static void namespaces_are_told_apart(void **state)
{
    (void)state;
    uint64_t id = shape_of("{'find': 'bc', '$db': 'a'}").id;
    assert_true(id != shape_of("{'find': 'c', '$db': 'ab'}").id);
    assert_true(id != shape_of("{'count': 'bc', '$db': 'a'}").id);
    assert_true(id != shape_of("{'find': 'bc', '$db': 'b'}").id);
    assert_true(shape_of("{'distinct': 'c', 'key': 'a', '$db': 'd'}").id !=
                shape_of("{'distinct': 'c', 'key': 'b', '$db': 'd'}").id);
}

static void a_sequence_counts_as_the_array(void **state)
{
    (void)state;
    struct shape array = shape_of("{'update': 'c', '$db': 'd', 'updates': "
                                  "[{'q': {'a': 1}, 'u': {'$set': {'b': 1}}}]}");
    struct shape sequence = shape_of_sequence("{'update': 'c', '$db': 'd'}", "updates",
                                              "{'q': {'a': 2}, 'u': {'$set': {'b': 3}}}");
    assert_int_equal(array.id, sequence.id);
    assert_string_equal(array.text, sequence.text);
    sequence = shape_of_sequence("{'delete': 'c', '$db': 'd'}", "deletes", "{'q': {'a': 2}}");
    assert_string_equal(sequence.text, "delete d.c {a}");
    assert_int_equal(sequence.id,
                     shape_of("{'delete': 'c', '$db': 'd', 'deletes': [{'q': {'a': 0}}]}").id);
    sequence = shape_of_sequence("{'insert': 'c', '$db': 'd'}", "documents", "{'" CANARY "': 1}");
    assert_string_equal(sequence.text, "insert d.c");
}

// Rules name shapes by their ids: these must not change from one version to the next.
static void ids_stay_as_they_are(void **state)
{
    (void)state;
    static const struct {
        const char *sample;
        uint64_t id;
    } cases[] = {
        {"ping", UINT64_C(0x9a193715ddde9584)},
        {"find", UINT64_C(0xdf1404a4ac7e975d)},
        {"update", UINT64_C(0x542f9e3ff72c0bac)},
        {"aggregate", UINT64_C(0xa1cf225d9e7fea44)},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t id = shape_of_message(sample_named(cases[i].sample)).id;
        if (id != cases[i].id) {
            fail_msg("%s: 0x%016" PRIx64, cases[i].sample, id);
        }
    }
}

static void names_cannot_forge_structure(void **state)
{
    (void)state;
    assert_string_equal(find_of("{'a}, b:[x] \\\"%\\\\\\n/ü': 1}").text,
                        "find shop.orders {a%7d%2c%20b%3a%5bx%5d%20%22%25%5c%0a%2f%c3%bc}");
    assert_string_equal(shape_of("{'find': 'c {a}', '$db': 'd'}").text, "find d.c%20%7ba%7d");
}

// A filter of so many levels of $not.
static struct shape nested(int levels)
{
    char filter[1024] = "{'a': ";
    for (int i = 0; i < levels; i++) {
        strcat(filter, "{'$not': ");
    }
    strcat(filter, "1");
    for (int i = 0; i < levels + 1; i++) {
        strcat(filter, "}");
    }
    return find_of(filter);
}

static void depth_is_bounded(void **state)
{
    (void)state;
    assert_true(nested(9).id != nested(10).id);
    assert_int_equal(nested(20).id, nested(30).id);
    assert_string_equal(nested(20).text, nested(30).text);
    assert_non_null(strstr(nested(20).text, "{$not:…}"));
}

// A find whose filter has `count` keys of `bytes` each.
static struct shape wide(int count, int bytes)
{
    bson_t body = BSON_INITIALIZER;
    bson_t filter;
    struct buffer out = {0};
    char key[4096];
    BSON_APPEND_UTF8(&body, "find", "c");
    BSON_APPEND_DOCUMENT_BEGIN(&body, "filter", &filter);
    for (int i = 0; i < count; i++) {
        snprintf(key, sizeof key, "%0*d", bytes, i);
        BSON_APPEND_INT32(&filter, key, i);
    }
    bson_append_document_end(&body, &filter);
    BSON_APPEND_UTF8(&body, "$db", "d");
    sample_begin(&out, 1, 0, 0);
    buffer_append(&out, "", 1);
    buffer_append(&out, bson_get_data(&body), body.len);
    sample_end(&out);
    struct shape shape = shape_of_message(buffer_bytes(&out));
    buffer_fini(&out);
    bson_destroy(&body);
    return shape;
}

static bool ends_in_ellipsis(const char *text)
{
    size_t len = strlen(text);
    return len >= 3 && strcmp(text + len - 3, "…") == 0;
}

static void breadth_and_length_are_bounded(void **state)
{
    (void)state;
    assert_true(wide(400, 4).id != wide(401, 4).id);
    assert_int_equal(wide(600, 4).id, wide(700, 4).id);
    assert_true(wide(1, 255).id != wide(1, 256).id);
    assert_int_equal(wide(1, 256).id, wide(1, 300).id); // the ends of the keys do not count
    assert_true(ends_in_ellipsis(wide(600, 4).text));
    assert_string_equal(wide(1, 2000).text, "find d.c {}…");
    assert_string_equal(wide(2, 3).text, "find d.c {000, 001}");
}

static void arrays_are_bounded(void **state)
{
    (void)state;
    char filter[2048];
    struct shape shapes[2];
    for (int k = 0; k < 2; k++) {
        strcpy(filter, "{'$expr': {'$in': ['$a', [0");
        for (int i = 0; i < 40 + 100 * k; i++) {
            strcat(filter, ", 1");
        }
        strcat(filter, "]]}}");
        shapes[k] = find_of(filter);
    }
    assert_int_equal(shapes[0].id, shapes[1].id);
    assert_string_equal(shapes[0].text, "find shop.orders {$expr:{$in:[[]]}}");
}

// Whatever room there is: never beyond it, and what is left out is marked.
static void text_is_cut_to_its_room(void **state)
{
    (void)state;
    struct bytes message = sample_named("find");
    struct op_msg msg;
    struct command command;
    struct shape whole = shape_of_message(message);
    assert_int_equal(op_msg_read(message, &msg), WIRE_OK);
    assert_int_equal(command_read(message, &msg, &command), WIRE_OK);
    for (size_t room = 0; room < strlen(whole.text) + 10; room++) {
        char *out = malloc(room + 1); // malloc(0) may be NULL
        memset(out, 'x', room + 1);
        size_t len = shape_text(&msg, &command, out, room);
        assert_int_equal(out[room], 'x');
        if (room > 0) {
            assert_true(len < room && out[len] == '\0');
        }
        if (room > strlen(whole.text) + 3) {
            assert_string_equal(out, whole.text);
        } else if (room > 3) {
            assert_true(ends_in_ellipsis(out));
            assert_memory_equal(out, whole.text, len - 3);
        }
        free(out);
    }
}

// The documents of a sequence are only measured when they are read.
static void damaged_statements_do_no_harm(void **state)
{
    (void)state;
    bson_t *statement = sample_document(
        "{'q': {'a': {'$in': [1, 2]}, '$or': [{'b': 1}, {'c': 1}]}, 'u': {'$set': {'d': 1}}}");
    size_t len = statement->len;
    struct dice dice = {7};
    struct guard guard = guard_new(len);
    static const uint8_t body[] = "\x05\x00\x00\x00";
    struct command command = {.name = {(const uint8_t *)"update", 6}, .body = {body, 5}};
    for (int i = 0; i < 20000; i++) {
        uint8_t *at = guard_lay(&guard, bson_get_data(statement), len);
        dice_damage(&dice, at, len);
        store_i32(at, (int32_t)len);
        struct op_msg msg = {.sequence_count = 1};
        msg.sequences[0].name = (struct bytes){(const uint8_t *)"updates", 7};
        msg.sequences[0].documents = (struct bytes){at, len};
        char text[64];
        assert_int_equal(shape_id(&msg, &command), shape_id(&msg, &command));
        assert_true(shape_text(&msg, &command, text, sizeof text) < sizeof text);
    }
    guard_free(&guard);
    bson_destroy(statement);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_have_their_texts),
        cmocka_unit_test(parts_of_filters_and_pipelines_are_shown),
        cmocka_unit_test(clauses_of_commands_are_shown),
        cmocka_unit_test(values_make_no_difference),
        cmocka_unit_test(structure_makes_a_difference),
        cmocka_unit_test(order_counts_in_sorts_and_pipelines),
        cmocka_unit_test(namespaces_are_told_apart),
        cmocka_unit_test(a_sequence_counts_as_the_array),
        cmocka_unit_test(ids_stay_as_they_are),
        cmocka_unit_test(names_cannot_forge_structure),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(breadth_and_length_are_bounded),
        cmocka_unit_test(arrays_are_bounded),
        cmocka_unit_test(text_is_cut_to_its_room),
        cmocka_unit_test(damaged_statements_do_no_harm),
    };
    return cmocka_run_group_tests_name("shape", tests, NULL, NULL);
}
