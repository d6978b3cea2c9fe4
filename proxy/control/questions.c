// SPDX-License-Identifier: Apache-2.0
#include "proxy/control/questions.h"

#include <mongoc/mongoc.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { SERVER_ERRORS = MONGOC_ERROR_SERVER, NO_SUCH_NAMESPACE = 26, NOT_A_REPLICA_SET = 76 };

// --- asking -------------------------------------------------------------------------------------

static uint32_t find_server(mongoc_client_t *client, const char *name, bool *ret_mongos)
{
    uint32_t id = 0;
    size_t count;
    mongoc_server_description_t **known = mongoc_client_get_server_descriptions(client, &count);
    for (size_t i = 0; i < count; i++) {
        const char *type = mongoc_server_description_type(known[i]);
        if (strcmp(mongoc_server_description_host(known[i])->host_and_port, name) == 0 &&
            strcmp(type, "Unknown") != 0) {
            id = mongoc_server_description_id(known[i]);
            *ret_mongos = strcmp(type, "Mongos") == 0;
        }
    }
    mongoc_server_descriptions_destroy_all(known, count);
    return id;
}

bool interview_begin(struct interview *interview, mongoc_client_t *client, const char *server,
                     int64_t max_time_ms)
{
    bson_error_t error;
    *interview = (struct interview){.client = client, .max_time_ms = max_time_ms};
    interview->server = find_server(client, server, &interview->is_mongos);
    if (interview->server == 0) {
        return false;
    }
    interview->session = mongoc_client_start_session(client, NULL, &error);
    return true;
}

void interview_end(struct interview *interview)
{
    if (interview->session) {
        mongoc_client_session_destroy(interview->session);
    }
}

static struct answer answer_of(const bson_error_t *error)
{
    bool server = error->domain == SERVER_ERRORS || error->domain == MONGOC_ERROR_QUERY;
    struct answer answer = {
        .outcome = outcome_of(server ? (int)error->code : 0, error->message),
        .code = server ? (int)error->code : 0,
    };
    snprintf(answer.why, sizeof answer.why, "%.*s", (int)sizeof answer.why - 1, error->message);
    return answer;
}

static struct answer given_if(bool read)
{
    struct answer answer = {.outcome = read ? ANSWER_GIVEN : ANSWER_UNINTELLIGIBLE};
    snprintf(answer.why, sizeof answer.why, "%s", read ? "" : "the reply has nothing of it");
    return answer;
}

// The reply is always to be destroyed.
static struct answer ask(const struct interview *interview, const char *database,
                         const bson_t *command, bson_t *ret_reply)
{
    bson_error_t error = {0};
    bson_t options = BSON_INITIALIZER;
    if (interview->dismissed && atomic_load(interview->dismissed)) {
        bson_init(ret_reply);
        return (struct answer){.outcome = ANSWER_NOT_ASKED, .why = "weir is ending"};
    }
    mongoc_read_prefs_t *here = mongoc_read_prefs_new(MONGOC_READ_SECONDARY_PREFERRED);
    BSON_APPEND_INT32(&options, "serverId", (int32_t)interview->server);
    if (interview->session) {
        mongoc_client_session_append(interview->session, &options, &error);
    }
    bool done = mongoc_client_command_with_opts(interview->client, database, command, here,
                                                &options, ret_reply, &error);
    mongoc_read_prefs_destroy(here);
    bson_destroy(&options);
    return done ? (struct answer){.outcome = ANSWER_GIVEN} : answer_of(&error);
}

// --- cursors ------------------------------------------------------------------------------------

// False: `take` wants no more.
static bool take_batch(const bson_t *reply, const char *path, take_document *take, void *arg)
{
    bson_iter_t iter;
    bson_iter_t batch;
    bson_iter_t element;
    bool more = true;
    if (!bson_iter_init(&iter, reply) || !bson_iter_find_descendant(&iter, path, &batch) ||
        !BSON_ITER_HOLDS_ARRAY(&batch) || !bson_iter_recurse(&batch, &element)) {
        return true;
    }
    while (more && bson_iter_next(&element)) {
        bson_t document;
        uint32_t length;
        const uint8_t *bytes;
        if (BSON_ITER_HOLDS_DOCUMENT(&element)) {
            bson_iter_document(&element, &length, &bytes);
            more = !bson_init_static(&document, bytes, length) || take(arg, &document);
        }
    }
    return more;
}

struct cursor {
    int64_t id; // 0: there is no more
    char collection[256];
};

static bool read_cursor(const bson_t *reply, struct cursor *ret_cursor)
{
    bson_iter_t iter;
    bson_iter_t field;
    ret_cursor->id = 0;
    if (!bson_iter_init(&iter, reply) || !bson_iter_find_descendant(&iter, "cursor.id", &field) ||
        !BSON_ITER_HOLDS_NUMBER(&field)) {
        return false;
    }
    ret_cursor->id = bson_iter_as_int64(&field);
    if (bson_iter_init(&iter, reply) && bson_iter_find_descendant(&iter, "cursor.ns", &field) &&
        BSON_ITER_HOLDS_UTF8(&field) && strchr(bson_iter_utf8(&field, NULL), '.')) {
        snprintf(ret_cursor->collection, sizeof ret_cursor->collection, "%s",
                 strchr(bson_iter_utf8(&field, NULL), '.') + 1);
    }
    return true;
}

static void kill_cursor(const struct interview *interview, const char *database,
                        const struct cursor *cursor)
{
    bson_t reply;
    bson_t *command = BCON_NEW("killCursors", BCON_UTF8(cursor->collection), "cursors", "[",
                               BCON_INT64(cursor->id), "]");
    ask(interview, database, command, &reply);
    bson_destroy(&reply);
    bson_destroy(command);
}

// So that a list without an end has one; a reply has up to 16 MB of it.
enum { BATCHES_MAX = 1000 };

// Takes the command.
static struct answer ask_for_all(const struct interview *interview, const char *database,
                                 bson_t *command, take_document *take, void *arg)
{
    struct cursor cursor = {0};
    bson_t reply;
    struct answer answer = ask(interview, database, command, &reply);
    bool more = answer.outcome == ANSWER_GIVEN;
    if (more) {
        answer = given_if(read_cursor(&reply, &cursor));
        more = take_batch(&reply, "cursor.firstBatch", take, arg);
    }
    bson_destroy(&reply);
    bson_destroy(command);
    for (int i = 0; more && cursor.id != 0 && i < BATCHES_MAX; i++) {
        command =
            BCON_NEW("getMore", BCON_INT64(cursor.id), "collection", BCON_UTF8(cursor.collection));
        answer = ask(interview, database, command, &reply);
        more = answer.outcome == ANSWER_GIVEN && read_cursor(&reply, &cursor) &&
               take_batch(&reply, "cursor.nextBatch", take, arg);
        bson_destroy(&reply);
        bson_destroy(command);
    }
    if (cursor.id != 0) {
        kill_cursor(interview, database, &cursor);
    }
    if (more && cursor.id != 0) {
        answer = (struct answer){ANSWER_UNINTELLIGIBLE, 0, "the list has no end"};
    }
    return answer;
}

// --- the questions ------------------------------------------------------------------------------

// Takes the command. `read` is false if there was nothing in the reply.
#define ASK(interview, database, command, read, ret, ret_answer)                                   \
    do {                                                                                           \
        bson_t reply_;                                                                             \
        bson_t *command_ = (command);                                                              \
        *(ret_answer) = ask(interview, database, command_, &reply_);                               \
        bool read_ = read(&reply_, ret);                                                           \
        if ((ret_answer)->outcome == ANSWER_GIVEN) {                                               \
            *(ret_answer) = given_if(read_);                                                       \
        }                                                                                          \
        bson_destroy(&reply_);                                                                     \
        bson_destroy(command_);                                                                    \
    } while (0)

// What is large and not asked for is left out.
struct answer ask_status(const struct interview *interview, struct server_status *ret_status)
{
    struct answer answer;
    ASK(interview, "admin",
        BCON_NEW("serverStatus", BCON_INT32(1), "wiredTiger", BCON_INT32(0), "tcmalloc",
                 BCON_INT32(0), "locks", BCON_INT32(0), "opcounters", BCON_INT32(0)),
        server_status_read, ret_status, &answer);
    return answer;
}

struct answer ask_replication(const struct interview *interview,
                              struct replication *ret_replication)
{
    struct answer answer;
    ASK(interview, "admin", BCON_NEW("replSetGetStatus", BCON_INT32(1)), replication_read,
        ret_replication, &answer);
    if (answer.code == NOT_A_REPLICA_SET) {
        answer.outcome = ANSWER_NO_COMMAND;
    }
    return answer;
}

struct answer ask_profiler(const struct interview *interview, const char *database,
                           struct profiler_status *ret_profiler)
{
    struct answer answer;
    ASK(interview, database, BCON_NEW("profile", BCON_INT32(-1)), profiler_read, ret_profiler,
        &answer);
    return answer;
}

struct taking {
    struct operations *operations;
    int64_t now_ms;
};

static bool take_operation(void *arg, const bson_t *document)
{
    const struct taking *taking = arg;
    operations_take(taking->operations, document, taking->now_ms);
    return true;
}

static int64_t wall_clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

static bson_t *current_op(const struct interview *interview, bool idle, bool all_users)
{
    return BCON_NEW("aggregate", BCON_INT32(1), "pipeline", "[", "{", "$currentOp", "{", "allUsers",
                    BCON_BOOL(all_users), "idleConnections", BCON_BOOL(idle), "idleCursors",
                    BCON_BOOL(idle), "idleSessions", BCON_BOOL(idle), "localOps",
                    BCON_BOOL(interview->is_mongos), "}", "}", "]", "cursor", "{", "}", "maxTimeMS",
                    BCON_INT64(interview->max_time_ms));
}

struct answer ask_operations(const struct interview *interview, int64_t threshold_us, bool idle,
                             struct operations *ret_operations, bool *ret_own)
{
    struct taking taking = {ret_operations, wall_clock_ms()};
    *ret_own = false;
    operations_init(ret_operations, threshold_us);
    struct answer answer =
        ask_for_all(interview, "admin", current_op(interview, idle, true), take_operation, &taking);
    if (answer.outcome == ANSWER_FORBIDDEN || answer.outcome == ANSWER_NO_COMMAND) {
        struct answer own;
        operations_init(ret_operations, threshold_us);
        own = ask_for_all(interview, "admin", current_op(interview, false, false), take_operation,
                          &taking);
        *ret_own = own.outcome == ANSWER_GIVEN;
        answer = *ret_own ? own : answer;
    }
    return answer;
}

// The database and collection of a namespace; false: it is none.
static bool split(const char *ns, char ret_database[ANSWER_NAME_BYTES], const char **ret_collection)
{
    const char *dot = strchr(ns, '.');
    if (!dot || dot == ns || dot[1] == '\0' || dot - ns >= ANSWER_NAME_BYTES) {
        return false;
    }
    snprintf(ret_database, ANSWER_NAME_BYTES, "%.*s", (int)(dot - ns), ns);
    *ret_collection = dot + 1;
    return true;
}

static bool take_index(void *arg, const bson_t *document)
{
    indexes_take(arg, document);
    return true;
}

static struct answer no_namespace(void)
{
    return (struct answer){.outcome = ANSWER_NOT_ASKED, .why = "not the name of a collection"};
}

struct answer ask_indexes(const struct interview *interview, const char *ns,
                          struct indexes *indexes)
{
    char database[ANSWER_NAME_BYTES];
    const char *collection;
    if (!split(ns, database, &collection)) {
        return no_namespace();
    }
    struct answer listed = ask_for_all(
        interview, database, BCON_NEW("listIndexes", BCON_UTF8(collection), "cursor", "{", "}"),
        take_index, indexes);
    struct answer counted = ask_for_all(
        interview, database,
        BCON_NEW("aggregate", BCON_UTF8(collection), "pipeline", "[", "{", "$indexStats", "{", "}",
                 "}", "]", "cursor", "{", "}", "maxTimeMS", BCON_INT64(interview->max_time_ms)),
        take_index, indexes);
    return counted.outcome == ANSWER_GIVEN || listed.code == NO_SUCH_NAMESPACE ? listed : counted;
}

static void append_filter(bson_t *find, const struct query_needs *needs)
{
    bson_t filter;
    bson_t range;
    BSON_APPEND_DOCUMENT_BEGIN(find, "filter", &filter);
    for (int i = 0; i < needs->equality.count; i++) {
        BSON_APPEND_INT32(&filter, needs->equality.key[i].name, 0);
    }
    for (int i = 0; i < needs->range.count; i++) {
        const char *name = needs->range.key[i].name;
        if (!bson_has_field(&filter, name)) {
            BSON_APPEND_DOCUMENT_BEGIN(&filter, name, &range);
            BSON_APPEND_INT32(&range, "$gt", 0);
            bson_append_document_end(&filter, &range);
        }
    }
    bson_append_document_end(find, &filter);
}

static void append_sort(bson_t *find, const struct query_needs *needs)
{
    bson_t sort;
    BSON_APPEND_DOCUMENT_BEGIN(find, "sort", &sort);
    for (int i = 0; i < needs->sort.count; i++) {
        const struct index_key *key = &needs->sort.key[i];
        BSON_APPEND_INT32(&sort, key->name, key->direction == -1 ? -1 : 1);
    }
    bson_append_document_end(find, &sort);
}

static bson_t *explain_command(const char *collection, const struct query_needs *needs,
                               int64_t max_time_ms)
{
    bson_t *command = bson_new();
    bson_t find;
    BSON_APPEND_DOCUMENT_BEGIN(command, "explain", &find);
    BSON_APPEND_UTF8(&find, "find", collection);
    append_filter(&find, needs);
    append_sort(&find, needs);
    bson_append_document_end(command, &find);
    BSON_APPEND_UTF8(command, "verbosity", "queryPlanner");
    BSON_APPEND_INT64(command, "maxTimeMS", max_time_ms);
    return command;
}

struct answer ask_explanation(const struct interview *interview, const char *ns,
                              const struct query_needs *needs, struct explanation *ret_explanation)
{
    char database[ANSWER_NAME_BYTES];
    const char *collection;
    struct answer answer;
    memset(ret_explanation, 0, sizeof *ret_explanation);
    if (!split(ns, database, &collection)) {
        return no_namespace();
    }
    ASK(interview, database, explain_command(collection, needs, interview->max_time_ms),
        explanation_read, ret_explanation, &answer);
    return answer;
}

static bool take_name_of_each(const bson_t *reply, take_document *take, void *arg)
{
    bson_iter_t databases;
    bool there =
        bson_iter_init_find(&databases, reply, "databases") && BSON_ITER_HOLDS_ARRAY(&databases);
    take_batch(reply, "databases", take, arg);
    return there;
}

struct answer ask_databases(const struct interview *interview, take_document *take, void *arg)
{
    bson_t reply;
    bson_t *command = BCON_NEW("listDatabases", BCON_INT32(1), "nameOnly", BCON_BOOL(true));
    struct answer answer = ask(interview, "admin", command, &reply);
    if (answer.outcome == ANSWER_GIVEN) {
        answer = given_if(take_name_of_each(&reply, take, arg));
    }
    bson_destroy(&reply);
    bson_destroy(command);
    return answer;
}

struct answer ask_collections(const struct interview *interview, const char *database,
                              take_document *take, void *arg)
{
    return ask_for_all(interview, database,
                       BCON_NEW("listCollections", BCON_INT32(1), "filter", "{", "type",
                                BCON_UTF8("collection"), "}", "nameOnly", BCON_BOOL(true),
                                "authorizedCollections", BCON_BOOL(true), "cursor", "{", "}"),
                       take, arg);
}

struct answer ask_profile(const struct interview *interview, const char *database, int64_t most,
                          take_document *take, void *arg)
{
    return ask_for_all(interview, database,
                       BCON_NEW("find", BCON_UTF8("system.profile"), "filter", "{", "}", "sort",
                                "{", "$natural", BCON_INT32(-1), "}", "limit", BCON_INT64(most),
                                "maxTimeMS", BCON_INT64(interview->max_time_ms)),
                       take, arg);
}

// --- all at once --------------------------------------------------------------------------------

static void ask_about_indexes(const struct interview *interview, const struct query_needs *needs,
                              struct consultation *consultation)
{
    struct indexes *indexes = bson_malloc0(sizeof *indexes);
    struct index_keys wanted;
    index_for(needs, &wanted);
    if (wanted.count > 0) {
        index_keys_print(&wanted, consultation->index_wanted, sizeof consultation->index_wanted);
        (void)index_command_print(consultation->ns, &wanted, consultation->index_command,
                                  sizeof consultation->index_command);
        consultation->directions_known = needs->directions_known || needs->sort.count < 2;
        consultation->indexes_answer = ask_indexes(interview, consultation->ns, indexes);
    }
    for (int i = 0; i < indexes->count; i++) {
        const struct index_status *index = &indexes->index[i];
        if (!index->hidden && !index->partial && index_fit(&index->keys, needs) == INDEX_SERVES) {
            memcpy(consultation->index_there, index->name, sizeof index->name);
        }
    }
    bson_free(indexes);
}

void consult(const struct interview *interview, const char *shape, int64_t threshold_us,
             struct consultation *ret_consultation)
{
    struct consultation *consultation = ret_consultation;
    struct query_needs needs;
    memset(consultation, 0, sizeof *consultation);
    consultation->explanation_answer.outcome = ANSWER_NOT_ASKED;
    consultation->indexes_answer.outcome = ANSWER_NOT_ASKED;
    consultation->replication_answer.outcome = ANSWER_NOT_ASKED;
    consultation->status_answer = ask_status(interview, &consultation->status);
    consultation->operations_answer =
        ask_operations(interview, threshold_us, false, &consultation->operations,
                       &consultation->own_operations_only);
    if (!interview->is_mongos) {
        consultation->replication_answer = ask_replication(interview, &consultation->replication);
    }
    if (shape && query_needs_of_shape(shape, &needs, consultation->ns, sizeof consultation->ns)) {
        consultation->explanation_answer =
            ask_explanation(interview, consultation->ns, &needs, &consultation->explanation);
        ask_about_indexes(interview, &needs, consultation);
    }
}
