// SPDX-License-Identifier: Apache-2.0
//
// Queries over documents in memory. Queries and documents are written as JSON.

#include "proxy/admin/query.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "guard.h"
#include "wire/bson_view.h"

static bson_t *parse(const char *json)
{
    bson_error_t error;
    bson_t *document = bson_new_from_json((const uint8_t *)json, -1, &error);
    if (!document) {
        fail_msg("%s: %s", json, error.message);
    }
    return document;
}

// The bytes at the very end of their page, so that a step too far is seen.
static struct bytes guarded(const void *at, size_t len, struct guard *guard)
{
    *guard = guard_new(len);
    return (struct bytes){guard_lay(guard, at, len), len};
}

static bool matches(const char *filter, const char *document)
{
    bson_t *parsed_filter = parse(filter);
    bson_t *parsed_document = parse(document);
    char error[QUERY_ERROR_BYTES];
    struct query query = {
        .filter = {bson_get_data(parsed_filter), parsed_filter->len},
    };
    if (!query_check(&query, error)) {
        fail_msg("%s: %s", filter, error);
    }
    bool yes = query_matches(query.filter,
                             (struct bytes){bson_get_data(parsed_document), parsed_document->len});
    bson_destroy(parsed_filter);
    bson_destroy(parsed_document);
    return yes;
}

static void filters(void **state)
{
    static const char document[] =
        "{\"_id\": 7, \"app\": \"web\", \"held\": 1.5, \"tls\": true, \"none\": null,"
        " \"refused\": {\"queue_full\": 3}, \"list\": [1, 2]}";
    static const struct {
        const char *filter;
        bool yes;
    } cases[] = {
        {"{}", true},
        {"{\"app\": \"web\"}", true},
        {"{\"app\": \"we\"}", false},
        {"{\"app\": \"webb\"}", false},
        {"{\"app\": \"web\", \"_id\": 8}", false},
        {"{\"app\": {\"$eq\": \"web\"}}", true},
        {"{\"app\": {\"$ne\": \"web\"}}", false},
        {"{\"app\": {\"$ne\": 3}}", true},
        {"{\"nope\": {\"$ne\": 3}}", true},
        {"{\"_id\": 7.0}", true}, // numbers are compared whatever their type
        {"{\"_id\": {\"$numberLong\": \"7\"}}", true},
        {"{\"held\": {\"$gt\": 1}}", true},
        {"{\"held\": {\"$gt\": 1.5}}", false},
        {"{\"held\": {\"$gte\": 1.5}}", true},
        {"{\"held\": {\"$lt\": 1.5}}", false},
        {"{\"held\": {\"$lte\": 1.5}}", true},
        {"{\"held\": {\"$gt\": 1, \"$lt\": 2}}", true},
        {"{\"held\": {\"$gt\": 1, \"$lt\": 1.2}}", false},
        {"{\"app\": {\"$gt\": \"wea\"}}", true},
        {"{\"app\": {\"$gt\": 1}}", false}, // of another kind: neither more nor less
        {"{\"app\": {\"$lt\": 1}}", false},
        {"{\"nope\": {\"$lt\": 1}}", false},
        {"{\"nope\": null}", true},
        {"{\"none\": null}", true},
        {"{\"app\": null}", false},
        {"{\"nope\": {\"$exists\": false}}", true},
        {"{\"app\": {\"$exists\": false}}", false},
        {"{\"none\": {\"$exists\": true}}", true},
        {"{\"tls\": true}", true},
        {"{\"tls\": 1}", false},
        {"{\"tls\": false}", false},
        {"{\"app\": {\"$in\": [\"x\", \"web\"]}}", true},
        {"{\"app\": {\"$in\": []}}", false},
        {"{\"app\": {\"$nin\": [\"x\", \"web\"]}}", false},
        {"{\"app\": {\"$nin\": [\"x\"]}}", true},
        {"{\"refused.queue_full\": 3}", true},
        {"{\"refused.queue_full\": {\"$gt\": 3}}", false},
        {"{\"refused.nope\": null}", true},
        {"{\"app.nope\": null}", true},
        {"{\"refused\": {\"queue_full\": 3}}", true},
        {"{\"refused\": {\"queue_full\": 4}}", false},
        {"{\"$and\": [{\"app\": \"web\"}, {\"_id\": 7}]}", true},
        {"{\"$and\": [{\"app\": \"web\"}, {\"_id\": 8}]}", false},
        {"{\"$or\": [{\"app\": \"x\"}, {\"_id\": 7}]}", true},
        {"{\"$or\": [{\"app\": \"x\"}, {\"_id\": 8}]}", false},
        {"{\"$nor\": [{\"app\": \"x\"}, {\"_id\": 8}]}", true},
        {"{\"$nor\": [{\"app\": \"web\"}, {\"_id\": 8}]}", false},
        {"{\"$or\": [{\"$and\": [{\"_id\": 7}]}], \"tls\": true}", true},
        {"{\"held\": {\"$numberDouble\": \"NaN\"}}", false},
        {"{\"held\": {\"$gt\": {\"$numberDouble\": \"NaN\"}}}", true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (matches(cases[i].filter, document) != cases[i].yes) {
            fail_msg("%s", cases[i].filter);
        }
    }
}

static bool is_accepted(const char *filter, const char *sort, const char *projection,
                        char error[QUERY_ERROR_BYTES])
{
    bson_t *parsed[] = {parse(filter), parse(sort), parse(projection)};
    struct query query = {
        .filter = {bson_get_data(parsed[0]), parsed[0]->len},
        .sort = {bson_get_data(parsed[1]), parsed[1]->len},
        .projection = {bson_get_data(parsed[2]), parsed[2]->len},
    };
    bool fine = query_check(&query, error);
    for (int i = 0; i < 3; i++) {
        bson_destroy(parsed[i]);
    }
    return fine;
}

static void what_is_not_supported_is_refused(void **state)
{
    static const char *const cases[][3] = {
        {"{\"a\": {\"$regex\": \"x\"}}", "{}", "{}"},
        {"{\"a\": {\"$not\": {\"$gt\": 1}}}", "{}", "{}"},
        {"{\"a\": {\"$gt\": 1, \"b\": 2}}", "{}", "{}"},
        {"{\"a\": {\"$in\": 1}}", "{}", "{}"},
        {"{\"a\": {\"$gt\": [1]}}", "{}", "{}"},
        {"{\"a\": {\"$regularExpression\": {\"pattern\": \"x\", \"options\": \"\"}}}", "{}", "{}"},
        {"{\"$where\": \"1\"}", "{}", "{}"},
        {"{\"$expr\": {}}", "{}", "{}"},
        {"{\"$and\": []}", "{}", "{}"},
        {"{\"$and\": {}}", "{}", "{}"},
        {"{\"$or\": [1]}", "{}", "{}"},
        {"{\"$or\": [{\"a\": {\"$mod\": [2, 1]}}]}", "{}", "{}"},
        {"{}", "{\"a\": 2}", "{}"},
        {"{}", "{\"a\": \"asc\"}", "{}"},
        {"{}", "{\"a\": {\"$meta\": \"textScore\"}}", "{}"},
        {"{}", "{}", "{\"a\": 0}"},
        {"{}", "{}", "{\"a\": {\"$slice\": 1}}"},
        {"{}", "{}", "{\"a.b\": 1}"},
        {"{}", "{}", "{\"a\": \"$b\"}"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char error[QUERY_ERROR_BYTES] = "";
        if (is_accepted(cases[i][0], cases[i][1], cases[i][2], error)) {
            fail_msg("%s %s %s", cases[i][0], cases[i][1], cases[i][2]);
        }
        assert_non_null(strstr(error, "supported are"));
    }
}

static void what_is_too_long_is_refused(void **state)
{
    (void)state;
    char error[QUERY_ERROR_BYTES];
    char *text = calloc(1, QUERY_MAX_BYTES + 1);
    memset(text, 'x', QUERY_MAX_BYTES);
    bson_t *filter = BCON_NEW("app", BCON_UTF8(text));
    struct query query = {.filter = {bson_get_data(filter), filter->len}};
    assert_false(query_check(&query, error));
    assert_non_null(strstr(error, "bytes"));
    bson_destroy(filter);
    free(text);
}

// As deep as a message may be.
static void nesting_has_an_end(void **state)
{
    (void)state;
    char error[QUERY_ERROR_BYTES];
    bson_t *filter = BCON_NEW("a", BCON_INT32(1));
    for (int i = 0; i < 95; i++) {
        bson_t *outer = BCON_NEW("$and", "[", BCON_DOCUMENT(filter), "]");
        bson_destroy(filter);
        filter = outer;
    }
    bson_t *document = parse("{\"a\": 1}");
    struct query query = {.filter = {bson_get_data(filter), filter->len}};
    assert_true(query_check(&query, error));
    assert_true(
        query_matches(query.filter, (struct bytes){bson_get_data(document), document->len}));
    bson_destroy(filter);
    bson_destroy(document);
}

// The documents of a result, as "[1,2,3]" of their `n`.
static char *numbers(const struct buffer *found)
{
    static char text[256];
    struct bytes rest = {buffer_at(found), buffer_held(found)};
    struct bytes row;
    size_t used = 0;
    text[0] = '\0';
    while (bson_take(&rest, &row) == WIRE_OK) {
        bson_t document;
        bson_iter_t iter;
        assert_true(bson_init_static(&document, row.at, row.len));
        assert_true(bson_iter_init_find(&iter, &document, "n"));
        used += (size_t)snprintf(text + used, sizeof text - used, "%d ",
                                 (int)bson_iter_as_int64(&iter));
    }
    return text;
}

static struct buffer run(const char *const documents[], struct query *query, const char *filter,
                         const char *sort, const char *projection)
{
    struct buffer all = {0};
    struct buffer found = {0};
    struct guard guards[4];
    bson_t *parsed[] = {parse(filter), parse(sort), parse(projection)};
    query->filter = guarded(bson_get_data(parsed[0]), parsed[0]->len, &guards[0]);
    query->sort = guarded(bson_get_data(parsed[1]), parsed[1]->len, &guards[1]);
    query->projection = guarded(bson_get_data(parsed[2]), parsed[2]->len, &guards[2]);
    for (size_t i = 0; documents[i]; i++) {
        bson_t *document = parse(documents[i]);
        buffer_append(&all, bson_get_data(document), document->len);
        bson_destroy(document);
    }
    struct bytes placed = guarded(buffer_at(&all), buffer_held(&all), &guards[3]);
    char error[QUERY_ERROR_BYTES];
    assert_true(query_check(query, error));
    query_run(query, placed, &found);
    for (int i = 0; i < 3; i++) {
        bson_destroy(parsed[i]);
    }
    for (int i = 0; i < 4; i++) {
        guard_free(&guards[i]);
    }
    buffer_fini(&all);
    return found;
}

static void sorts_skips_and_limits(void **state)
{
    static const char *const documents[] = {
        "{\"n\": 1, \"a\": \"x\", \"b\": 2}", "{\"n\": 2, \"a\": \"y\", \"b\": 1}",
        "{\"n\": 3, \"a\": \"x\", \"b\": 1.5}", "{\"n\": 4, \"b\": 3}", NULL};
    static const struct {
        const char *sort;
        int64_t skip;
        int64_t limit;
        const char *found;
    } cases[] = {
        {"{}", 0, 0, "1 2 3 4 "},
        {"{\"b\": 1}", 0, 0, "2 3 1 4 "},
        {"{\"b\": -1}", 0, 0, "4 1 3 2 "},
        {"{\"a\": 1}", 0, 0, "4 1 3 2 "}, // what is not there first, equals as they came
        {"{\"a\": 1, \"b\": -1}", 0, 0, "4 1 3 2 "},
        {"{\"a\": -1, \"b\": 1}", 0, 0, "2 3 1 4 "},
        {"{\"b\": 1}", 1, 2, "3 1 "},
        {"{\"b\": 1}", 9, 2, ""},
        {"{\"b\": 1}", 3, 9, "4 "},
        {"{}", 0, 1, "1 "},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct query query = {.skip = cases[i].skip, .limit = cases[i].limit};
        struct buffer found = run(documents, &query, "{}", cases[i].sort, "{}");
        assert_string_equal(numbers(&found), cases[i].found);
        buffer_fini(&found);
    }
    struct query query = {0};
    struct buffer found = run(documents, &query, "{\"b\": {\"$lt\": 3}}", "{\"b\": -1}", "{}");
    assert_string_equal(numbers(&found), "1 3 2 ");
    buffer_fini(&found);
}

static void projects(void **state)
{
    static const char *const documents[] = {
        "{\"_id\": 1, \"a\": \"x\", \"b\": {\"c\": [1, 2]}, \"d\": null}", NULL};
    static const char *const cases[][2] = {
        {"{}", "{ \"_id\" : 1, \"a\" : \"x\", \"b\" : { \"c\" : [ 1, 2 ] }, \"d\" : null }"},
        {"{\"a\": 1}", "{ \"_id\" : 1, \"a\" : \"x\" }"},
        {"{\"d\": true, \"_id\": 0}", "{ \"d\" : null }"},
        {"{\"_id\": 0}", "{ \"a\" : \"x\", \"b\" : { \"c\" : [ 1, 2 ] }, \"d\" : null }"},
        {"{\"_id\": 1}", "{ \"_id\" : 1 }"},
        {"{\"b\": 1, \"_id\": false}", "{ \"b\" : { \"c\" : [ 1, 2 ] } }"},
        {"{\"nope\": 1, \"_id\": 0}", "{ }"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct query query = {0};
        struct buffer found = run(documents, &query, "{}", "{}", cases[i][0]);
        bson_t document;
        assert_true(bson_init_static(&document, buffer_at(&found), buffer_held(&found)));
        assert_true(bson_validate(&document, BSON_VALIDATE_UTF8, NULL));
        char *json = bson_as_relaxed_extended_json(&document, NULL);
        assert_string_equal(json, cases[i][1]);
        bson_free(json);
        buffer_fini(&found);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(filters),
        cmocka_unit_test(what_is_not_supported_is_refused),
        cmocka_unit_test(what_is_too_long_is_refused),
        cmocka_unit_test(nesting_has_an_end),
        cmocka_unit_test(sorts_skips_and_limits),
        cmocka_unit_test(projects),
    };
    return cmocka_run_group_tests_name("query", tests, NULL, NULL);
}
