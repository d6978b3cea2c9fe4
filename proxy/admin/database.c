// SPDX-License-Identifier: Apache-2.0

#include "proxy/admin/database.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "proxy/admin/own_operations.h"
#include "proxy/admin/query.h"
#include "proxy/config_loader.h"
#include "proxy/mem.h"
#include "wire/bson_view.h"
#include "wire/error_code.h"
#include "wire/reply.h"

#define FIRST_BATCH 101 // documents, as a server
#define BATCH_BYTES (1 << 20)

struct view {
    int64_t id; // 0: free
    uint64_t client_id;
    enum state_collection collection;
    struct buffer documents;
    int64_t used_us;
};

struct database {
    struct view views[VIEWS_MAX];
    size_t bytes; // of all views
    int64_t now_us;
};

// What a command asks for, as far as commands have it in common.
struct wish {
    struct query query;
    int64_t batch_size; // -1: not said
    bool single_batch;
    bool counts;    // only how many
    bool aggregate; // and answers as one
};

struct database *database_new(void)
{
    return xcalloc(1, sizeof(struct database));
}

// --- views --------------------------------------------------------------------------------------

static void close_view(struct database *database, struct view *view)
{
    database->bytes -= view->documents.capacity;
    buffer_fini(&view->documents);
    view->id = 0;
}

static struct view *find_view(struct database *database, int64_t id)
{
    for (int i = 0; i < VIEWS_MAX && id != 0; i++) {
        if (database->views[i].id == id) {
            return &database->views[i];
        }
    }
    return NULL;
}

static struct view *least_used(struct database *database)
{
    struct view *least = NULL;
    for (int i = 0; i < VIEWS_MAX; i++) {
        struct view *view = &database->views[i];
        if (view->id && (!least || view->used_us < least->used_us)) {
            least = view;
        }
    }
    return least;
}

static struct view *free_view(struct database *database)
{
    struct view *view = database->views;
    for (int i = 0; i < VIEWS_MAX; i++, view++) {
        if (view->id == 0) {
            return view;
        }
    }
    return NULL;
}

// Of numbers that nobody can guess: another app's cursor is not to be found by trying.
static int64_t new_id(void)
{
    int64_t id = 0;
    while (id == 0) {
        if (getentropy(&id, sizeof id) != 0) {
            abort();
        }
        id &= INT64_MAX;
    }
    return id;
}

// Takes the documents over.
static struct view *open_view(struct database *database, const struct inquiry *inquiry,
                              enum state_collection collection, struct buffer *documents)
{
    struct view *view;
    while (!(view = free_view(database)) ||
           (database->bytes + documents->capacity > VIEWS_BYTES && least_used(database))) {
        close_view(database, least_used(database));
    }
    *view = (struct view){
        .id = new_id(),
        .client_id = inquiry->client_id,
        .collection = collection,
        .documents = *documents,
        .used_us = database->now_us,
    };
    *documents = (struct buffer){0};
    database->bytes += view->documents.capacity;
    return view;
}

void database_forget_client(struct database *database, uint64_t client_id)
{
    for (int i = 0; i < VIEWS_MAX; i++) {
        if (database->views[i].id && database->views[i].client_id == client_id) {
            close_view(database, &database->views[i]);
        }
    }
}

void database_free(struct database *database)
{
    for (int i = 0; i < VIEWS_MAX; i++) {
        close_view(database, &database->views[i]);
    }
    free(database);
}

// --- replies ------------------------------------------------------------------------------------

static void fail(struct inquiry *inquiry, int32_t code, const char *message)
{
    const struct reply_error error = {.code = code, .message = message};
    bson_reinit(inquiry->reply);
    reply_error_document(&error, inquiry->reply);
}

static void succeed(struct inquiry *inquiry)
{
    BSON_APPEND_DOUBLE(inquiry->reply, "ok", 1.0);
}

static void append_cursor(struct inquiry *inquiry, const char *batch_name, const char *collection,
                          struct buffer *documents, int64_t most, bson_t *ret_cursor)
{
    bson_t batch;
    char namespace[64];
    snprintf(namespace, sizeof namespace, "weir.%s", collection);
    BSON_APPEND_DOCUMENT_BEGIN(inquiry->reply, "cursor", ret_cursor);
    BSON_APPEND_ARRAY_BEGIN(ret_cursor, batch_name, &batch);
    struct bytes rows = {buffer_at(documents), buffer_held(documents)};
    buffer_consume(documents, rows_append(rows, most, BATCH_BYTES, &batch));
    bson_append_array_end(ret_cursor, &batch);
    BSON_APPEND_UTF8(ret_cursor, "ns", namespace);
}

static void end_cursor(struct inquiry *inquiry, bson_t *cursor, int64_t id)
{
    BSON_APPEND_INT64(cursor, "id", id);
    bson_append_document_end(inquiry->reply, cursor);
    succeed(inquiry);
}

// A first batch, and a view if there is more. Takes the documents over.
static void answer_first(struct database *database, struct inquiry *inquiry,
                         enum state_collection collection, struct buffer *documents,
                         const struct wish *wish)
{
    bson_t cursor;
    int64_t most = wish->batch_size >= 0 ? wish->batch_size : FIRST_BATCH;
    int64_t id = 0;
    append_cursor(inquiry, "firstBatch", state_collections[collection].name, documents, most,
                  &cursor);
    if (buffer_held(documents) > 0 && !wish->single_batch) {
        id = open_view(database, inquiry, collection, documents)->id;
        inquiry->opens_view = true;
    }
    end_cursor(inquiry, &cursor, id);
    buffer_fini(documents);
}

// --- reading commands ---------------------------------------------------------------------------

static struct bytes command_of(const struct inquiry *inquiry)
{
    return (struct bytes){buffer_at(&inquiry->command), buffer_held(&inquiry->command)};
}

bool database_passes_over(struct bytes key)
{
    static const char *const harmless[] = {
        "lsid",
        "$db",
        "$clusterTime",
        "$readPreference",
        "readConcern",
        "comment",
        "maxTimeMS",
        "apiVersion",
        "apiStrict",
        "apiDeprecationErrors",
        "hint",
        "noCursorTimeout",
        "allowPartialResults",
        "allowDiskUse",
        "authorizedCollections",
        "cursor",
    };
    for (size_t i = 0; i < sizeof harmless / sizeof harmless[0]; i++) {
        if (bytes_equal(key, harmless[i])) {
            return true;
        }
    }
    return false;
}

static bool complain(struct inquiry *inquiry, int32_t code, const char *format, struct bytes about)
{
    char message[512];
    int len = (int)(about.len < 60 ? about.len : 60);
    snprintf(message, sizeof message, format, len, (const char *)about.at);
    if (!bson_utf8_validate(message, strlen(message), false)) {
        snprintf(message, sizeof message, format, 1, "?");
    }
    fail(inquiry, code, message);
    return false;
}

static bool take_document(const struct bson_element *element, struct bytes *ret_document)
{
    bool fine = element->type == BSON_VIEW_DOCUMENT;
    if (fine) {
        *ret_document = element->value;
    }
    return fine || element->type == BSON_VIEW_NULL;
}

static bool take_number(const struct bson_element *element, int64_t *ret_number)
{
    return bson_element_i64(element, ret_number) && *ret_number >= 0;
}

// A negative limit is an old driver's way to ask for a single batch.
static bool take_limit(const struct bson_element *element, struct wish *wish)
{
    if (!bson_element_i64(element, &wish->query.limit) || wish->query.limit == INT64_MIN) {
        return false;
    }
    if (wish->query.limit < 0) {
        wish->query.limit = -wish->query.limit;
        wish->single_batch = true;
    }
    return true;
}

// One field of find or count. False: its value makes no sense, or it is none of theirs.
static bool take_field(const struct bson_element *element, struct wish *wish)
{
    struct bytes key = element->key;
    if (bytes_equal(key, "filter") || bytes_equal(key, "query")) {
        return take_document(element, &wish->query.filter);
    }
    if (bytes_equal(key, "sort")) {
        return take_document(element, &wish->query.sort);
    }
    if (bytes_equal(key, "projection")) {
        return take_document(element, &wish->query.projection);
    }
    if (bytes_equal(key, "skip")) {
        return take_number(element, &wish->query.skip);
    }
    if (bytes_equal(key, "limit")) {
        return take_limit(element, wish);
    }
    if (bytes_equal(key, "batchSize")) {
        return take_number(element, &wish->batch_size);
    }
    if (bytes_equal(key, "singleBatch")) {
        wish->single_batch = bson_element_truth(element);
        return true;
    }
    return database_passes_over(key);
}

static bool check_query(struct inquiry *inquiry, const struct query *query)
{
    char error[QUERY_ERROR_BYTES];
    if (query_check(query, error)) {
        return true;
    }
    fail(inquiry, CODE_BAD_VALUE,
         bson_utf8_validate(error, strlen(error), false) ? error : "weir: malformed query");
    return false;
}

// Reads a find or a count behind its first field. False: the reply says what is wrong.
static bool read_find(struct inquiry *inquiry, struct wish *wish)
{
    struct bson_walk walk;
    struct bson_element element;
    *wish = (struct wish){.batch_size = -1};
    if (!bson_walk_begin(&walk, command_of(inquiry)) ||
        bson_walk_next(&walk, &element) != BSON_WALK_ELEMENT) {
        return complain(inquiry, CODE_BAD_VALUE, "weir: malformed command%.*s", (struct bytes){0});
    }
    wish->counts = bytes_equal(element.key, "count");
    while (bson_walk_next(&walk, &element) == BSON_WALK_ELEMENT) {
        if (!take_field(&element, wish)) {
            return complain(inquiry, CODE_COMMAND_NOT_SUPPORTED,
                            "weir: '%.*s' is not supported, or not with that value: find has "
                            "filter, sort, projection, skip, limit, batchSize, singleBatch; count "
                            "has query, skip, limit",
                            element.key);
        }
    }
    return check_query(inquiry, &wish->query);
}

// Whether a stage counts all documents, as drivers' countDocuments makes it.
static bool is_count_of_all(struct bytes stage)
{
    struct bson_element id;
    struct bson_element n;
    struct bson_element sum;
    int64_t one = 0;
    int64_t constant;
    return bson_find(stage, "_id", &id) &&
           (id.type == BSON_VIEW_NULL || bson_element_i64(&id, &constant)) &&
           bson_find(stage, "n", &n) && n.type == BSON_VIEW_DOCUMENT &&
           bson_find(n.value, "$sum", &sum) && bson_element_i64(&sum, &one) && one == 1;
}

// One stage; *rank is that of the stage before: they may only come in this order.
static bool take_stage(const struct bson_element *stage, int *rank, struct wish *wish)
{
    static const char *const stages[] = {"$match", "$skip", "$limit", "$group"};
    struct bson_walk walk;
    struct bson_element only;
    if (stage->type != BSON_VIEW_DOCUMENT || !bson_walk_begin(&walk, stage->value) ||
        bson_walk_next(&walk, &only) != BSON_WALK_ELEMENT) {
        return false;
    }
    int place = *rank + 1;
    while (place < 4 && !bytes_equal(only.key, stages[place])) {
        place++;
    }
    *rank = place;
    switch (place) {
    case 0:
        return only.type == BSON_VIEW_DOCUMENT && take_document(&only, &wish->query.filter);
    case 1:
        return take_number(&only, &wish->query.skip);
    case 2:
        return take_number(&only, &wish->query.limit) && wish->query.limit > 0;
    case 3:
        wish->counts = true;
        return only.type == BSON_VIEW_DOCUMENT && is_count_of_all(only.value);
    default:
        return false;
    }
}

static bool read_aggregate(struct inquiry *inquiry, struct wish *wish)
{
    struct bson_element pipeline;
    struct bson_element stage;
    struct bson_walk walk;
    int rank = -1;
    *wish = (struct wish){.batch_size = -1, .aggregate = true};
    bool fine = bson_find(command_of(inquiry), "pipeline", &pipeline) &&
                pipeline.type == BSON_VIEW_ARRAY && bson_walk_begin(&walk, pipeline.value);
    while (fine && bson_walk_next(&walk, &stage) == BSON_WALK_ELEMENT) {
        fine = take_stage(&stage, &rank, wish);
    }
    if (!fine || !wish->counts) {
        return complain(inquiry, CODE_COMMAND_NOT_SUPPORTED,
                        "weir: of aggregations, only countDocuments() is supported; use find, with "
                        "filter, sort, projection, skip, limit%.*s",
                        (struct bytes){0});
    }
    return check_query(inquiry, &wish->query);
}

static bool read_wish(struct inquiry *inquiry, struct bytes command, struct wish *wish)
{
    return bytes_equal(command, "aggregate") ? read_aggregate(inquiry, wish)
                                             : read_find(inquiry, wish);
}

// The collection that the command's first field names.
static bool read_collection(struct inquiry *inquiry, const struct bson_element *first,
                            enum state_collection *ret_collection)
{
    struct bytes name;
    if (!bson_element_text(first, &name)) {
        return complain(inquiry, CODE_BAD_VALUE, "weir: '%.*s' needs the name of a collection",
                        first->key);
    }
    *ret_collection = state_find(name);
    if (*ret_collection == STATE_COUNT) {
        return complain(inquiry, CODE_NAMESPACE_NOT_FOUND,
                        "weir: there is no collection '%.*s' here; listCollections and {help: 1} "
                        "say which there are",
                        name);
    }
    return true;
}

// --- commands that need no picture --------------------------------------------------------------

static void answer_ping(struct database *database, struct inquiry *inquiry)
{
    (void)database;
    succeed(inquiry);
}

static void append_collection(bson_t *description, enum state_collection collection, bool name_only)
{
    bson_t part;
    BSON_APPEND_UTF8(description, "name", state_collections[collection].name);
    BSON_APPEND_UTF8(description, "type", "collection");
    if (name_only) {
        return;
    }
    BSON_APPEND_DOCUMENT_BEGIN(description, "options", &part);
    bson_append_document_end(description, &part);
    BSON_APPEND_DOCUMENT_BEGIN(description, "info", &part);
    BSON_APPEND_BOOL(&part, "readOnly", true);
    bson_append_document_end(description, &part);
}

static void describe_collections(bool name_only, struct buffer *out)
{
    for (int i = 0; i < STATE_COUNT; i++) {
        bson_t description = BSON_INITIALIZER;
        append_collection(&description, (enum state_collection)i, name_only);
        buffer_append(out, bson_get_data(&description), description.len);
        bson_destroy(&description);
    }
}

static void answer_list_collections(struct database *database, struct inquiry *inquiry)
{
    struct query query = {0};
    struct bson_element element;
    struct buffer all = {0};
    struct buffer found = {0};
    bson_t cursor;
    (void)database;
    if (bson_find(command_of(inquiry), "filter", &element)) {
        take_document(&element, &query.filter);
    }
    if (!check_query(inquiry, &query)) {
        return;
    }
    bool name_only =
        bson_find(command_of(inquiry), "nameOnly", &element) && bson_element_truth(&element);
    describe_collections(name_only, &all);
    query_run(&query, (struct bytes){buffer_at(&all), buffer_held(&all)}, &found);
    append_cursor(inquiry, "firstBatch", "$cmd.listCollections", &found, STATE_COUNT, &cursor);
    end_cursor(inquiry, &cursor, 0);
    buffer_fini(&all);
    buffer_fini(&found);
}

static void answer_get_more(struct database *database, struct inquiry *inquiry)
{
    struct bson_element element;
    int64_t id = 0;
    int64_t most = 0;
    bson_t cursor;
    if (bson_find(command_of(inquiry), "getMore", &element)) {
        bson_element_i64(&element, &id);
    }
    if (bson_find(command_of(inquiry), "batchSize", &element)) {
        bson_element_i64(&element, &most);
    }
    struct view *view = find_view(database, id);
    if (!view) {
        fail(inquiry, CODE_CURSOR_NOT_FOUND,
             "weir: cursor not found: it was closed, or its client "
             "was");
        return;
    }
    view->client_id = inquiry->client_id;
    view->used_us = database->now_us;
    append_cursor(inquiry, "nextBatch", state_collections[view->collection].name, &view->documents,
                  most > 0 ? most : INT64_MAX, &cursor);
    inquiry->opens_view = buffer_held(&view->documents) > 0;
    end_cursor(inquiry, &cursor, inquiry->opens_view ? id : 0);
    if (!inquiry->opens_view) {
        close_view(database, view);
    }
}

static void append_id(bson_t *array, uint32_t *count, int64_t id)
{
    char space[16];
    const char *key;
    size_t len = bson_uint32_to_string((*count)++, &key, space, sizeof space);
    bson_append_int64(array, key, (int)len, id);
}

static void append_no_ids(struct inquiry *inquiry, const char *key)
{
    bson_t array;
    BSON_APPEND_ARRAY_BEGIN(inquiry->reply, key, &array);
    bson_append_array_end(inquiry->reply, &array);
}

static void answer_kill_cursors(struct database *database, struct inquiry *inquiry)
{
    struct bson_element cursors;
    struct bson_element one;
    struct bson_walk walk;
    bson_t killed = BSON_INITIALIZER;
    bson_t not_found = BSON_INITIALIZER;
    uint32_t counts[2] = {0};
    int64_t id;
    if (bson_find(command_of(inquiry), "cursors", &cursors) && cursors.type == BSON_VIEW_ARRAY &&
        bson_walk_begin(&walk, cursors.value)) {
        while (bson_walk_next(&walk, &one) == BSON_WALK_ELEMENT && bson_element_i64(&one, &id)) {
            struct view *view = find_view(database, id);
            append_id(view ? &killed : &not_found, &counts[view == NULL], id);
            if (view) {
                close_view(database, view);
            }
        }
    }
    BSON_APPEND_ARRAY(inquiry->reply, "cursorsKilled", &killed);
    BSON_APPEND_ARRAY(inquiry->reply, "cursorsNotFound", &not_found);
    append_no_ids(inquiry, "cursorsAlive");
    append_no_ids(inquiry, "cursorsUnknown");
    succeed(inquiry);
    bson_destroy(&killed);
    bson_destroy(&not_found);
}

static void append_fields(bson_t *document, enum state_collection collection)
{
    for (int i = 0; i < STATE_FIELD_COUNT; i++) {
        const struct state_field_row *field = &state_fields[i];
        char text[512];
        bool unit = field->unit[0] && field->type != STATE_COUNTS;
        if (field->collection == collection) {
            snprintf(text, sizeof text, "%s%s%s%s", field->help, unit ? " (" : "",
                     unit ? field->unit : "", unit ? ")" : "");
            bson_append_utf8(document, field->name, -1, text, -1);
        }
    }
}

static void append_help_of_collections(bson_t *document)
{
    for (int i = 0; i < STATE_COUNT; i++) {
        bson_t part;
        bson_append_document_begin(document, state_collections[i].name, -1, &part);
        BSON_APPEND_UTF8(&part, "(document)", state_collections[i].help);
        append_fields(&part, (enum state_collection)i);
        bson_append_document_end(document, &part);
    }
}

static void append_help_of_commands(bson_t *document);

static void answer_help(struct database *database, struct inquiry *inquiry)
{
    bson_t part;
    (void)database;
    BSON_APPEND_DOCUMENT_BEGIN(inquiry->reply, "commands", &part);
    append_help_of_commands(&part);
    bson_append_document_end(inquiry->reply, &part);
    BSON_APPEND_DOCUMENT_BEGIN(inquiry->reply, "collections", &part);
    append_help_of_collections(&part);
    bson_append_document_end(inquiry->reply, &part);
    succeed(inquiry);
}

// --- dispatch -----------------------------------------------------------------------------------

// A command without `answer` is a question, for which a picture is made, or an order, which goes to
// the desk of control_order.h. A bare one has no fields.
static const struct {
    const char *name;
    void (*answer)(struct database *database, struct inquiry *inquiry);
    const char *example;
    enum { READS, BARE, ORDERS } kind;
} commands[] = {
    {"find", NULL, "db.requests.find({held: {$gt: 1}, state: 'served'}).sort({held: -1}).limit(10)",
     READS},
    {"count", NULL, "db.clients.count({app: 'web'})", READS},
    {"aggregate", NULL, "db.clients.countDocuments({app: 'web'}), and nothing else", READS},
    {"getMore", answer_get_more, "what a shell or driver sends for the next batch", READS},
    {"killCursors", answer_kill_cursors, "likewise, to end a cursor early", READS},
    {"listCollections", answer_list_collections, "show collections", READS},
    {"ping", answer_ping, "db.runCommand({ping: 1})", BARE},
    {"setCap", NULL, "db.runCommand({setCap: 40}); {setCap: 'default'}: as configured", ORDERS},
    {"setLimit", NULL, "db.runCommand({setLimit: 20}); {setLimit: 'default'}: as configured",
     ORDERS},
    {"pause", NULL, "db.runCommand({pause: 1}): what is new waits", ORDERS},
    {"resume", NULL, "db.runCommand({resume: 1})", ORDERS},
    {"drain", NULL,
     "db.runCommand({drain: 1, within: '30s'}): ends weir once its clients have gone", ORDERS},
    {"reload", NULL, "db.runCommand({reload: 1}): what the file says now", ORDERS},
    {"rule", NULL,
     "db.runCommand({rule: 'add', app: 'report*', atOnce: 2, for: '2h', dryRun: true}); "
     "{rule: 'list'}; {rule: 'remove', id: 3}",
     ORDERS},
    {"emergency", NULL,
     "db.runCommand({emergency: 'on', for: '30m', why: 'deploy went wrong'}); 'off'; 'status'",
     ORDERS},
    {"kill", NULL,
     "db.runCommand({kill: 1, over: '30s'}); or request, client (their _id), shape, why", ORDERS},
    {"verdict", NULL, "db.runCommand({verdict: 1}): whether connections have run out, and why",
     BARE},
    {"help", answer_help, "db.runCommand({help: 1})", BARE},
};

#define COMMANDS (sizeof commands / sizeof commands[0])

static void append_help_of_commands(bson_t *document)
{
    for (size_t i = 0; i < COMMANDS; i++) {
        bson_append_utf8(document, commands[i].name, -1, commands[i].example, -1);
    }
}

static bool read_name(const struct inquiry *inquiry, struct bson_element *ret_first)
{
    struct bson_walk walk;
    return bson_walk_begin(&walk, command_of(inquiry)) &&
           bson_walk_next(&walk, ret_first) == BSON_WALK_ELEMENT;
}

static bool is_in_transaction(const struct inquiry *inquiry)
{
    struct bson_element element;
    return bson_find(command_of(inquiry), "autocommit", &element);
}

static bool is_verdict(const struct bson_element *first)
{
    return bytes_equal(first->key, "verdict");
}

// A question about a collection, or for a verdict. True: the reply says what is wrong with it.
static bool take_question(struct inquiry *inquiry, const struct bson_element *first)
{
    enum state_collection collection;
    struct wish wish;
    if (is_verdict(first)) {
        inquiry->question.collections = STATE_VERDICTS;
        return false;
    }
    if (!read_collection(inquiry, first, &collection) || !read_wish(inquiry, first->key, &wish)) {
        return true;
    }
    inquiry->question.collections = STATE_BIT(collection);
    return false;
}

// Not a part of one, as where a limit is meant.
static bool take_whole(const struct bson_element *element, int64_t *ret_number)
{
    double real = 0;
    if (element->type == BSON_VIEW_DOUBLE) {
        memcpy(&real, element->value.at, sizeof real);
    }
    return bson_element_i64(element, ret_number) &&
           (element->type != BSON_VIEW_DOUBLE || real == (double)*ret_number);
}

// The fields of an order are texts. False: it is none that could be one.
static bool append_text(bson_t *fields, const struct bson_element *element)
{
    char space[32];
    struct bytes text;
    int64_t number;
    if (!bson_element_text(element, &text)) {
        if (element->type == BSON_VIEW_BOOL) {
            snprintf(space, sizeof space, "%s", bson_element_truth(element) ? "true" : "false");
        } else if (take_whole(element, &number)) {
            snprintf(space, sizeof space, "%lld", (long long)number);
        } else {
            return false;
        }
        text = (struct bytes){(const uint8_t *)space, strlen(space)};
    }
    return bson_append_utf8(fields, (const char *)element->key.at, (int)element->key.len,
                            (const char *)text.at, (int)text.len);
}

static bool takes_number(struct bytes name)
{
    return bytes_equal(name, "setCap") || bytes_equal(name, "setLimit");
}

// {rule: 'add', ...} is the order "rule add", {setCap: 40} is setCap with a number. What takes none
// is {pause: 1}: a 0 would mean the contrary.
static bool append_name(bson_t *order, const struct bson_element *first)
{
    struct bytes word;
    int64_t number;
    char name[64];
    int len = (int)first->key.len;
    if (bson_element_text(first, &word)) {
        snprintf(name, sizeof name, "%.*s %.*s", len, (const char *)first->key.at,
                 (int)(word.len < 32 ? word.len : 32), (const char *)word.at);
    } else if (take_whole(first, &number) && (number == 1 || takes_number(first->key))) {
        snprintf(name, sizeof name, "%.*s", len, (const char *)first->key.at);
        if (takes_number(first->key)) {
            BSON_APPEND_INT64(order, "id", number);
        }
    } else {
        return false;
    }
    BSON_APPEND_UTF8(order, "order", name);
    return true;
}

static bool append_fields_of_order(struct inquiry *inquiry, bson_t *order, bson_t *fields)
{
    struct bson_walk walk;
    struct bson_element element;
    int64_t id;
    bool fine = bson_walk_begin(&walk, command_of(inquiry)) &&
                bson_walk_next(&walk, &element) == BSON_WALK_ELEMENT;
    while (fine && bson_walk_next(&walk, &element) == BSON_WALK_ELEMENT) {
        if (database_passes_over(element.key)) {
            continue;
        }
        if (bytes_equal(element.key, "by")) {
            return complain(inquiry, CODE_BAD_VALUE, "weir: '%.*s' is whoever asks, here",
                            element.key);
        }
        if (bytes_equal(element.key, "id")) {
            if (!take_whole(&element, &id)) {
                return complain(inquiry, CODE_BAD_VALUE, "weir: '%.*s' must be a whole number",
                                element.key);
            }
            BSON_APPEND_INT64(order, "id", id);
        } else if (!append_text(fields, &element)) {
            return complain(inquiry, CODE_BAD_VALUE,
                            "weir: '%.*s' must be a text, a whole number, true or false",
                            element.key);
        }
    }
    return fine;
}

// True: the reply says what is wrong with it.
static bool take_order(struct inquiry *inquiry, const struct bson_element *first)
{
    if (!inquiry->may_act) {
        fail(inquiry, CODE_UNAUTHORIZED,
             "weir: this user may not change weir (weir: act in its entry of users)");
        return true;
    }
    bson_t fields = BSON_INITIALIZER;
    inquiry->order = bson_new();
    bool fine = append_name(inquiry->order, first);
    if (!fine) {
        complain(inquiry, CODE_BAD_VALUE,
                 takes_number(first->key)
                     ? "weir: '%.*s' must be a text or a whole number; help has examples"
                     : "weir: '%.*s' must be a text, or 1; help has examples",
                 first->key);
    }
    fine = fine && append_fields_of_order(inquiry, inquiry->order, &fields);
    BSON_APPEND_DOCUMENT(inquiry->order, "fields", &fields);
    bson_destroy(&fields);
    return !fine;
}

static bool check_bare(struct inquiry *inquiry)
{
    struct bson_walk walk;
    struct bson_element element;
    bool fine = bson_walk_begin(&walk, command_of(inquiry)) &&
                bson_walk_next(&walk, &element) == BSON_WALK_ELEMENT;
    while (fine && bson_walk_next(&walk, &element) == BSON_WALK_ELEMENT) {
        if (!database_passes_over(element.key)) {
            return complain(inquiry, CODE_BAD_VALUE,
                            "weir: '%.*s': ping, verdict and help have no fields", element.key);
        }
    }
    return fine;
}

static void complain_of_command(struct inquiry *inquiry, struct bytes name)
{
    struct guess guess;
    char typed[32];
    char format[320];
    snprintf(typed, sizeof typed, "%.*s", (int)(name.len < 31 ? name.len : 31),
             (const char *)name.at);
    guess_init(&guess, typed);
    for (size_t i = 0; i < COMMANDS; i++) {
        guess_try(&guess, commands[i].name);
    }
    bool some = guess.match[0] != '\0';
    snprintf(format, sizeof format,
             "weir: '%%.*s' is not supported on the database weir%s%s%s: it has find, count, "
             "countDocuments, listCollections, orders, and help ({help: 1} shows them with "
             "examples); weir ctl has upgrade as well",
             some ? " (did you mean " : "", guess.match, some ? "?)" : "");
    complain(inquiry, CODE_COMMAND_NOT_SUPPORTED, format, name);
}

static bool dispatch(struct database *database, struct inquiry *inquiry,
                     const struct bson_element *first)
{
    for (size_t i = 0; i < COMMANDS; i++) {
        if (!bytes_equal(first->key, commands[i].name)) {
            continue;
        }
        if (commands[i].kind == BARE && !check_bare(inquiry)) {
            return true;
        }
        if (!commands[i].answer) {
            return commands[i].kind == ORDERS ? take_order(inquiry, first)
                                              : take_question(inquiry, first);
        }
        commands[i].answer(database, inquiry);
        return true;
    }
    complain_of_command(inquiry, first->key);
    return true;
}

bool database_take(struct database *database, struct inquiry *inquiry, int64_t now_us)
{
    struct bson_element first;
    inquiry->reply = bson_new();
    database->now_us = now_us;
    if (inquiry->user) {
        return own_operations_take(inquiry);
    }
    if (!inquiry->may_look) {
        fail(
            inquiry, CODE_UNAUTHORIZED,
            "weir: the database weir can be read by users who may (weir: read), or, if apps do not "
            "log in, from this machine only (loopback, Unix socket)");
        return true;
    }
    if (is_in_transaction(inquiry)) {
        fail(inquiry, CODE_COMMAND_NOT_SUPPORTED,
             "weir: there are no transactions on the database weir");
        return true;
    }
    if (!read_name(inquiry, &first)) {
        fail(inquiry, CODE_BAD_VALUE, "weir: malformed command");
        return true;
    }
    return dispatch(database, inquiry, &first);
}

static void answer_count(struct database *database, struct inquiry *inquiry,
                         enum state_collection collection, int64_t count, const struct wish *wish)
{
    if (!wish->aggregate) {
        BSON_APPEND_INT32(inquiry->reply, "n", (int32_t)count);
        succeed(inquiry);
        return;
    }
    struct buffer documents = {0};
    bson_t document = BSON_INITIALIZER;
    BSON_APPEND_INT32(&document, "_id", 1);
    BSON_APPEND_INT32(&document, "n", (int32_t)count);
    if (count > 0) {
        buffer_append(&documents, bson_get_data(&document), document.len);
    }
    bson_destroy(&document);
    answer_first(database, inquiry, collection, &documents, wish);
}

static void answer_verdict(struct inquiry *inquiry, struct bytes verdicts)
{
    struct bytes row;
    bson_t list;
    char key[12];
    BSON_APPEND_ARRAY_BEGIN(inquiry->reply, "verdicts", &list);
    for (int i = 0; bson_take(&verdicts, &row) == WIRE_OK; i++) {
        bson_t document;
        bool sound = bson_init_static(&document, row.at, row.len);
        assert(sound);
        (void)sound;
        snprintf(key, sizeof key, "%d", i);
        BSON_APPEND_DOCUMENT(&list, key, &document);
    }
    bson_append_array_end(inquiry->reply, &list);
    succeed(inquiry);
}

// The command was read once, to see what it needs; now it is read to be answered.
void database_answer(struct database *database, struct inquiry *inquiry,
                     const struct picture *picture)
{
    struct bson_element first;
    enum state_collection collection;
    struct wish wish;
    if (inquiry->user) {
        own_operations_answer(inquiry, picture);
        return;
    }
    if (!picture || inquiry->order) {
        // A driver may try another address.
        fail(inquiry, CODE_HOST_UNREACHABLE, "weir: it is ending");
        return;
    }
    bool named = read_name(inquiry, &first);
    if (named && is_verdict(&first)) {
        answer_verdict(inquiry, picture_verdicts(picture));
        return;
    }
    bool read = named && read_collection(inquiry, &first, &collection) &&
                read_wish(inquiry, first.key, &wish);
    assert(read);
    (void)read;
    struct buffer found = {0};
    int64_t count = query_run(&wish.query, picture_rows(picture, collection), &found);
    if (wish.counts) {
        buffer_fini(&found);
        answer_count(database, inquiry, collection, count, &wish);
    } else {
        answer_first(database, inquiry, collection, &found, &wish);
    }
}
