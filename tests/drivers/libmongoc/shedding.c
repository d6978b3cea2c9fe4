// SPDX-License-Identifier: Apache-2.0
//
// What a driver makes of being refused, by libmongoc: the program behind test_shedding.py.
// libmongoc has no events for its pools; whether it closes connections is seen by the server being
// unknown.

#include "programs.h"
#include "report.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static mongoc_collection_t *shed;
static mongoc_client_t *client;
static int attempts;
static atomic_int unknown;

static void command_started(const mongoc_apm_command_started_t *event)
{
    (void)event;
    attempts++;
}

static void server_changed(const mongoc_apm_server_changed_t *event)
{
    const mongoc_server_description_t *now = mongoc_apm_server_changed_get_new_description(event);
    if (strcmp(mongoc_server_description_type(now), "Unknown") == 0)
        unknown++;
}

static mongoc_client_pool_t *open_pool(void)
{
    mongoc_apm_callbacks_t *callbacks = mongoc_apm_callbacks_new();
    mongoc_apm_set_command_started_cb(callbacks, command_started);
    mongoc_apm_set_server_changed_cb(callbacks, server_changed);
    mongoc_uri_t *uri = mongoc_uri_new(setting("URI"));
    mongoc_client_pool_t *pool = mongoc_client_pool_new(uri);
    mongoc_client_pool_set_apm_callbacks(pool, callbacks, NULL);
    mongoc_client_pool_set_error_api(pool, 2);
    mongoc_apm_callbacks_destroy(callbacks);
    mongoc_uri_destroy(uri);
    return pool;
}

// As a command that the driver may retry, a find as a read and all else as a write.
static bool command(const char *text, bson_t *ret_reply)
{
    bson_error_t error;
    bson_t *parsed = bson_new_from_json((const uint8_t *)text, -1, &error);
    CHECK_OK(parsed, error);
    bool good =
        bson_has_field(parsed, "find")
            ? mongoc_collection_read_command_with_opts(shed, parsed, NULL, NULL, ret_reply, &error)
            : mongoc_collection_write_command_with_opts(shed, parsed, NULL, ret_reply, &error);
    bson_destroy(parsed);
    return good;
}

static void ready(bson_t *facts)
{
    (void)facts;
    bson_t reply;
    command("{\"drop\": \"shed\"}", &reply);
    CHECK(command("{\"insert\": \"shed\", \"documents\": [{\"_id\": 0, \"n\": 0}]}", &reply));
    unknown = 0;
}

static void refused(bson_t *facts)
{
    static const char *const operations[][2] = {
        {"find", "{\"find\": \"shed\", \"filter\": {\"_id\": 0}}"},
        {"insert", "{\"insert\": \"shed\", \"documents\": [{\"_id\": 1}]}"},
        {"update", "{\"update\": \"shed\", \"updates\": "
                   "[{\"q\": {}, \"u\": {\"$inc\": {\"n\": 1}}, \"multi\": true}]}"},
    };
    for (int i = 0; i < 3; i++) {
        bson_t seen, reply;
        attempts = 0;
        bool good = command(operations[i][1], &reply);
        BSON_APPEND_DOCUMENT_BEGIN(facts, operations[i][0], &seen);
        BSON_APPEND_INT32(&seen, "attempts", attempts);
        if (good)
            BSON_APPEND_NULL(&seen, "error");
        else
            describe(&seen, "error", &reply);
        bson_append_document_end(facts, &seen);
        bson_destroy(&reply);
    }
}

static void recovered(bson_t *facts)
{
    bson_error_t error;
    bson_t all = BSON_INITIALIZER, changed = BSON_INITIALIZER, reply;
    BSON_APPEND_INT32(&changed, "n", 1);
    BSON_APPEND_INT64(facts, "documents",
                      mongoc_collection_count_documents(shed, &all, NULL, NULL, NULL, &error));
    BSON_APPEND_INT64(facts, "n",
                      mongoc_collection_count_documents(shed, &changed, NULL, NULL, NULL, &error));
    CHECK(command("{\"insert\": \"shed\", \"documents\": [{\"_id\": 2}]}", &reply));
}

static void undisturbed(bson_t *facts)
{
    BSON_APPEND_INT32(facts, "unknown", unknown);
}

static void wait_for_line(void)
{
    char line[100];
    if (!fgets(line, sizeof line, stdin))
        fprintf(stderr, "nobody is there any more\n");
}

void shedding_run(void)
{
    mongoc_client_pool_t *pool = open_pool();
    client = mongoc_client_pool_pop(pool);
    shed = mongoc_client_get_collection(client, setting("DATABASE"), "shed");
    run("start", ready);
    puts("ready");
    fflush(stdout);
    wait_for_line();
    run("refused", refused);
    wait_for_line();
    run("recovered", recovered);
    run("undisturbed", undisturbed);
    mongoc_collection_destroy(shed);
    mongoc_client_pool_push(pool, client);
    mongoc_client_pool_destroy(pool);
}
