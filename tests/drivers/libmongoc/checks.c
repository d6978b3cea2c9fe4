// SPDX-License-Identifier: Apache-2.0
//
// What a driver must be able to do, by libmongoc: the program behind test_drivers.py.

#include "programs.h"
#include "report.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 5, DOCUMENTS = 100000, BULK = 10000, FEW = 500, LARGE_BYTES = 15000000 };

static mongoc_client_pool_t *pool;
static mongoc_client_t *client;

static mongoc_collection_t *collection(const char *name)
{
    return mongoc_client_get_collection(client, setting("DATABASE"), name);
}

// A document of printf's arguments as JSON. Belongs to the program's end, like all here.
static bson_t *json(const char *format, ...) BSON_GNUC_PRINTF(1, 2);
static bson_t *json(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *text = bson_strdupv_printf(format, arguments);
    va_end(arguments);
    bson_error_t error;
    bson_t *document = bson_new_from_json((const uint8_t *)text, -1, &error);
    CHECK_OK(document, error);
    bson_free(text);
    return document;
}

static void insert(mongoc_collection_t *into, const bson_t *document, const bson_t *opts)
{
    bson_error_t error;
    CHECK_OK(mongoc_collection_insert_one(into, document, opts, NULL, &error), error);
}

static int64_t count(mongoc_collection_t *of, const bson_t *opts)
{
    bson_error_t error;
    int64_t counted = mongoc_collection_count_documents(of, bson_new(), opts, NULL, NULL, &error);
    CHECK_OK(counted >= 0, error);
    return counted;
}

static int64_t number(const bson_t *document, const char *path)
{
    bson_iter_t at;
    CHECK(bson_iter_init(&at, document) && bson_iter_find_descendant(&at, path, &at));
    return bson_iter_as_int64(&at);
}

// The field n of the one document that the filter finds; -1 if there is none.
static int64_t find_n(mongoc_collection_t *in, const bson_t *filter, const bson_t *opts)
{
    mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(in, filter, opts, NULL);
    const bson_t *found;
    int64_t n = mongoc_cursor_next(cursor, &found) ? number(found, "n") : -1;
    bson_error_t error;
    CHECK_OK(!mongoc_cursor_error(cursor, &error), error);
    mongoc_cursor_destroy(cursor);
    return n;
}

static void update(mongoc_collection_t *in, const char *set, const bson_t *opts)
{
    bson_error_t error;
    CHECK_OK(
        mongoc_collection_update_one(in, json("{\"_id\": 1}"), json("%s", set), opts, NULL, &error),
        error);
}

static void crud(bson_t *facts)
{
    (void)facts;
    mongoc_collection_t *things = collection("things");
    bson_error_t error;
    bson_t reply;
    insert(things, json("{\"_id\": 1, \"n\": 1}"), NULL);
    CHECK(find_n(things, json("{\"_id\": 1}"), NULL) == 1);
    update(things, "{\"$inc\": {\"n\": 1}}", NULL);
    CHECK_OK(mongoc_collection_replace_one(things, json("{\"_id\": 2}"), json("{\"n\": 5}"),
                                           json("{\"upsert\": true}"), &reply, &error),
             error);
    CHECK(number(&reply, "upsertedCount") == 1);
    mongoc_find_and_modify_opts_t *opts = mongoc_find_and_modify_opts_new();
    mongoc_find_and_modify_opts_set_update(opts, json("{\"$inc\": {\"n\": 2}}"));
    CHECK_OK(mongoc_collection_find_and_modify_with_opts(things, json("{\"_id\": 2}"), opts, &reply,
                                                         &error),
             error);
    CHECK(number(&reply, "value.n") == 5);
    CHECK(find_n(things, json("{\"_id\": 2}"), NULL) == 7);
    CHECK_OK(mongoc_collection_delete_one(things, json("{\"_id\": 1}"), NULL, &reply, &error),
             error);
    CHECK(number(&reply, "deletedCount") == 1);
    CHECK(count(things, NULL) == 1);
}

static void bulk_10000(bson_t *facts)
{
    (void)facts;
    char text[101];
    memset(text, 'x', 100);
    text[100] = 0;
    static const bson_t *documents[BULK];
    for (int i = 0; i < BULK; i++)
        documents[i] = BCON_NEW("_id", BCON_INT32(i), "text", BCON_UTF8(text));
    bson_error_t error;
    bson_t reply;
    CHECK_OK(
        mongoc_collection_insert_many(collection("bulk"), documents, BULK, NULL, &reply, &error),
        error);
    CHECK(number(&reply, "insertedCount") == BULK);
    CHECK(count(collection("bulk"), NULL) == BULK);
}

static void document_15mb(bson_t *facts)
{
    (void)facts;
    uint8_t *content = bson_malloc(LARGE_BYTES);
    for (int i = 0; i < LARGE_BYTES; i++)
        content[i] = (uint8_t)(i * 7 + i / 1000);
    insert(collection("large"),
           BCON_NEW("_id", BCON_INT32(1), "content",
                    BCON_BIN(BSON_SUBTYPE_BINARY, content, LARGE_BYTES)),
           NULL);
    mongoc_cursor_t *cursor =
        mongoc_collection_find_with_opts(collection("large"), bson_new(), NULL, NULL);
    const bson_t *found;
    CHECK(mongoc_cursor_next(cursor, &found));
    bson_iter_t at;
    CHECK(bson_iter_init_find(&at, found, "content") && BSON_ITER_HOLDS_BINARY(&at));
    uint32_t len;
    const uint8_t *read;
    bson_iter_binary(&at, NULL, &len, &read);
    CHECK(len == LARGE_BYTES && memcmp(read, content, LARGE_BYTES) == 0);
    mongoc_cursor_destroy(cursor);
    bson_free(content);
}

static void cursor_100000(bson_t *facts)
{
    (void)facts;
    static char seen[DOCUMENTS];
    mongoc_collection_t *numbers = mongoc_client_get_collection(client, "corpus", "numbers");
    mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(numbers, bson_new(), NULL, NULL);
    const bson_t *found;
    while (mongoc_cursor_next(cursor, &found))
        seen[number(found, "_id")]++;
    bson_error_t error;
    CHECK_OK(!mongoc_cursor_error(cursor, &error), error);
    mongoc_cursor_destroy(cursor);
    for (int i = 0; i < DOCUMENTS; i++)
        CHECK(seen[i] == 1);
}

static void aggregation(bson_t *facts)
{
    (void)facts;
    mongoc_collection_t *few = mongoc_client_get_collection(client, "corpus", "few");
    const bson_t *stages = json("{\"pipeline\": [{\"$match\": {\"_id\": {\"$lt\": %d}}},"
                                "{\"$group\": {\"_id\": \"$n\", \"sum\": {\"$sum\": \"$_id\"}}},"
                                "{\"$sort\": {\"_id\": 1}}]}",
                                FEW);
    mongoc_cursor_t *cursor =
        mongoc_collection_aggregate(few, MONGOC_QUERY_NONE, stages, NULL, NULL);
    const bson_t *group;
    for (int n = 0; n < 10; n++) {
        CHECK(mongoc_cursor_next(cursor, &group));
        CHECK(number(group, "sum") == 12250 + 50 * n);
    }
    CHECK(!mongoc_cursor_next(cursor, &group));
    mongoc_cursor_destroy(cursor);
}

// How many indexes the collection has.
static int count_indexes(mongoc_collection_t *of)
{
    mongoc_cursor_t *cursor = mongoc_collection_find_indexes_with_opts(of, NULL);
    const bson_t *index;
    int counted = 0;
    while (mongoc_cursor_next(cursor, &index))
        counted++;
    bson_error_t error;
    CHECK_OK(!mongoc_cursor_error(cursor, &error), error);
    mongoc_cursor_destroy(cursor);
    return counted;
}

static void indexes(bson_t *facts)
{
    (void)facts;
    mongoc_collection_t *indexed = collection("indexed");
    bson_error_t error;
    insert(indexed, json("{\"a\": 1}"), NULL);
    const bson_t *create = json("{\"createIndexes\": \"indexed\", \"indexes\": "
                                "[{\"key\": {\"a\": 1, \"b\": -1}, \"name\": \"by_a\"}]}");
    CHECK_OK(mongoc_collection_write_command_with_opts(indexed, create, NULL, NULL, &error), error);
    CHECK(count_indexes(indexed) == 2);
    CHECK_OK(mongoc_collection_drop_index(indexed, "by_a", &error), error);
    CHECK(count_indexes(indexed) == 1);
}

static void duplicate_key(bson_t *facts)
{
    mongoc_collection_t *unique = collection("unique");
    bson_error_t error;
    bson_t reply;
    insert(unique, json("{\"_id\": 1}"), NULL);
    CHECK(!mongoc_collection_insert_one(unique, json("{\"_id\": 1}"), NULL, &reply, &error));
    describe(facts, "error", &reply);
}

static void bad_command(bson_t *facts)
{
    bson_error_t error;
    bson_t reply;
    const char *database = setting("DATABASE");
    static const char *const commands[] = {
        "{\"noSuchCommand\": 1}",
        "{\"find\": \"things\", \"filter\": {\"n\": {\"$noSuchOperator\": 1}}}",
        "{\"aggregate\": \"things\", \"pipeline\": [{\"$noSuchStage\": {}}], \"cursor\": {}}",
    };
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        const bson_t *command = json("%s", commands[i]);
        CHECK(!mongoc_client_command_simple(client, database, command, NULL, &reply, &error));
        char key[20];
        snprintf(key, sizeof key, "%zu", i);
        describe(facts, key, &reply);
    }
}

// A session with a transaction begun, and in *ret_opts what makes a call part of it.
static mongoc_client_session_t *transaction(bson_t **ret_opts)
{
    bson_error_t error;
    mongoc_client_session_t *session = mongoc_client_start_session(client, NULL, &error);
    CHECK_OK(session, error);
    CHECK_OK(mongoc_client_session_start_transaction(session, NULL, &error), error);
    *ret_opts = bson_new();
    CHECK_OK(mongoc_client_session_append(session, *ret_opts, &error), error);
    return session;
}

static void transaction_commit(bson_t *facts)
{
    (void)facts;
    need("transactions");
    bson_error_t error;
    bson_t *inside;
    mongoc_collection_t *committed = collection("committed");
    insert(committed, json("{\"_id\": 0}"), NULL);
    mongoc_client_session_t *session = transaction(&inside);
    insert(committed, json("{\"_id\": 1}"), inside);
    insert(committed, json("{\"_id\": 2}"), inside);
    CHECK(count(committed, NULL) == 1);
    CHECK(count(committed, inside) == 3);
    CHECK_OK(mongoc_client_session_commit_transaction(session, NULL, &error), error);
    mongoc_client_session_destroy(session);
    CHECK(count(committed, NULL) == 3);
}

static void transaction_abort(bson_t *facts)
{
    need("transactions");
    bson_error_t error;
    bson_t *in_first, *in_second, reply;
    mongoc_collection_t *aborted = collection("aborted");
    insert(aborted, json("{\"_id\": 1, \"n\": 0}"), NULL);
    mongoc_client_session_t *first = transaction(&in_first);
    update(aborted, "{\"$inc\": {\"n\": 1}}", in_first);
    mongoc_client_session_t *second = transaction(&in_second);
    CHECK(!mongoc_collection_update_one(aborted, json("{\"_id\": 1}"),
                                        json("{\"$inc\": {\"n\": 2}}"), in_second, &reply, &error));
    BSON_APPEND_INT64(facts, "code", error.code);
    BSON_APPEND_BOOL(facts, "transient",
                     mongoc_error_has_label(&reply, "TransientTransactionError"));
    CHECK_OK(mongoc_client_session_abort_transaction(second, &error), error);
    CHECK_OK(mongoc_client_session_abort_transaction(first, &error), error);
    mongoc_client_session_destroy(second);
    mongoc_client_session_destroy(first);
    CHECK(find_n(aborted, json("{\"_id\": 1}"), NULL) == 0);
}

static void change_stream(bson_t *facts)
{
    (void)facts;
    need("change_streams");
    mongoc_collection_t *watched = collection("watched");
    insert(watched, json("{\"_id\": 0, \"n\": 0}"), NULL);
    mongoc_change_stream_t *stream =
        mongoc_collection_watch(watched, bson_new(), json("{\"maxAwaitTimeMS\": 500}"));
    const bson_t *change;
    CHECK(!mongoc_change_stream_next(stream, &change)); // opens it
    insert(watched, json("{\"_id\": 1, \"n\": 7}"), NULL);
    CHECK(mongoc_change_stream_next(stream, &change));
    CHECK(number(change, "fullDocument._id") == 1);
    CHECK(number(change, "fullDocument.n") == 7);
    mongoc_change_stream_destroy(stream);
}

static void unacknowledged_write(bson_t *facts)
{
    (void)facts;
    need("unacknowledged_writes");
    bson_error_t error;
    mongoc_client_t *alone = mongoc_client_new(setting("URI")); // not pooled: one connection
    mongoc_collection_t *silent =
        mongoc_client_get_collection(alone, setting("DATABASE"), "silent");
    const bson_t *nobody_hears = json("{\"writeConcern\": {\"w\": 0}}");
    static const int ids[] = {1, 2, 2, 3}; // the second 2 is an error
    for (int i = 0; i < 4; i++)
        insert(silent, json("{\"_id\": %d, \"n\": %d}", ids[i], ids[i]), nobody_hears);
    int64_t deadline_us = bson_get_monotonic_time() + 5000000;
    while (count(silent, NULL) < 3 && bson_get_monotonic_time() < deadline_us)
        ;
    for (int i = 0; i < 15; i++)
        CHECK(find_n(silent, json("{\"_id\": %d}", i % 3 + 1), NULL) == i % 3 + 1);
    CHECK_OK(
        mongoc_client_command_simple(alone, "admin", json("{\"ping\": 1}"), NULL, NULL, &error),
        error);
    mongoc_collection_destroy(silent);
    mongoc_client_destroy(alone);
}

static void killed_cursor(bson_t *facts)
{
    bson_error_t error;
    bson_t reply, stripped = BSON_INITIALIZER;
    mongoc_collection_t *few = mongoc_client_get_collection(client, "corpus", "few");
    mongoc_cursor_t *cursor =
        mongoc_collection_find_with_opts(few, bson_new(), json("{\"batchSize\": 2}"), NULL);
    const bson_t *found;
    CHECK(mongoc_cursor_next(cursor, &found));
    const bson_t *get_more = BCON_NEW("getMore", BCON_INT64(mongoc_cursor_get_id(cursor)),
                                      "collection", BCON_UTF8("few"));
    mongoc_cursor_destroy(cursor);
    CHECK(!mongoc_client_command_simple(client, "corpus", get_more, NULL, &reply, &error));
    CHECK(error.code == 43);
    bson_copy_to_excluding_noinit(&reply, &stripped, "errmsg", NULL); // it has the cursor's number
    describe(facts, "error", &stripped);
}

// Inserts, updates and reads documents of its own in one session.
static void read_own_writes(mongoc_client_t *mine, int thread, bson_error_t *ret_error)
{
    mongoc_session_opt_t *causal = mongoc_session_opts_new();
    mongoc_session_opts_set_causal_consistency(causal, true);
    mongoc_client_session_t *session = mongoc_client_start_session(mine, causal, ret_error);
    mongoc_collection_t *parallel =
        mongoc_client_get_collection(mine, setting("DATABASE"), "parallel");
    bson_t *opts = bson_new();
    bool good = session && mongoc_client_session_append(session, opts, ret_error);
    for (int i = 0; good && i < ROUNDS; i++) {
        int id = thread * ROUNDS + i;
        bson_t *document = BCON_NEW("_id", BCON_INT32(id), "n", BCON_INT32(0));
        bson_t *filter = BCON_NEW("_id", BCON_INT32(id));
        bson_t *change = BCON_NEW("$inc", "{", "n", BCON_INT32(1), "}");
        good = mongoc_collection_insert_one(parallel, document, opts, NULL, ret_error) &&
               mongoc_collection_update_one(parallel, filter, change, opts, NULL, ret_error);
        BCON_APPEND(filter, "n", BCON_INT32(1));
        if (good &&
            mongoc_collection_count_documents(parallel, filter, opts, NULL, NULL, ret_error) != 1) {
            bson_set_error(ret_error, 0, 0, "thread %d does not see its own write", thread);
            good = false;
        }
    }
    mongoc_collection_destroy(parallel);
    if (session)
        mongoc_client_session_destroy(session);
    mongoc_session_opts_destroy(causal);
}

struct worker {
    pthread_t thread;
    int number;
    bson_error_t error;
};

static void *work(void *argument)
{
    struct worker *worker = argument;
    mongoc_client_t *mine = mongoc_client_pool_pop(pool);
    read_own_writes(mine, worker->number, &worker->error);
    mongoc_client_pool_push(pool, mine);
    return NULL;
}

static void parallel_sessions(bson_t *facts)
{
    (void)facts;
    int threads = atoi(setting("THREADS"));
    struct worker *workers = bson_malloc0((size_t)threads * sizeof *workers);
    for (int i = 0; i < threads; i++) {
        workers[i].number = i;
        CHECK(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
    }
    for (int i = 0; i < threads; i++)
        pthread_join(workers[i].thread, NULL);
    for (int i = 0; i < threads; i++)
        CHECK_OK(!workers[i].error.message[0], workers[i].error);
    CHECK(count(collection("parallel"), NULL) == threads * ROUNDS);
}

static void drop_database(bson_t *facts)
{
    (void)facts;
    bson_error_t error;
    mongoc_database_t *database = mongoc_client_get_database(client, setting("DATABASE"));
    CHECK_OK(mongoc_database_drop(database, &error), error);
    mongoc_database_destroy(database);
}

void checks_run(void)
{
    mongoc_uri_t *uri = mongoc_uri_new(setting("URI"));
    pool = mongoc_client_pool_new(uri);
    mongoc_client_pool_max_size(pool, (uint32_t)atoi(setting("THREADS")) + 1);
    mongoc_client_pool_set_error_api(pool, 2);
    client = mongoc_client_pool_pop(pool);
    run("start", drop_database);
    run("crud", crud);
    run("bulk_10000", bulk_10000);
    run("document_15mb", document_15mb);
    run("cursor_100000", cursor_100000);
    run("aggregation", aggregation);
    run("indexes", indexes);
    run("duplicate_key", duplicate_key);
    run("bad_command", bad_command);
    run("transaction_commit", transaction_commit);
    run("transaction_abort", transaction_abort);
    run("change_stream", change_stream);
    run("unacknowledged_write", unacknowledged_write);
    run("killed_cursor", killed_cursor);
    run("parallel_sessions", parallel_sessions);
    run("end", drop_database);
    mongoc_client_pool_push(pool, client);
    mongoc_client_pool_destroy(pool);
    mongoc_uri_destroy(uri);
}
