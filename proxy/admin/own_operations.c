// SPDX-License-Identifier: Apache-2.0

#include "proxy/admin/own_operations.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "proxy/admin/database.h"
#include "proxy/admin/query.h"
#include "proxy/cull.h"
#include "proxy/users.h"
#include "proxy/worker.h"
#include "wire/bson_view.h"
#include "wire/error_code.h"
#include "wire/reply.h"

#define REPLY_BYTES (15 << 20) // of documents; what goes beyond it is left out, as by a server

static const char all_users[] =
    "weir: not authorized: it asks for all users' operations; one's own are "
    "{$currentOp: {allUsers: false}}, db.currentOp({$ownOps: true})";

struct wish {
    struct query query;
    struct buffer filter; // that the query's was made in
};

static bool fail(struct inquiry *inquiry, int32_t code, const char *message)
{
    const struct reply_error error = {.code = code, .message = message};
    bson_reinit(inquiry->reply);
    reply_error_document(&error, inquiry->reply);
    return false;
}

static struct bytes body_of(const struct inquiry *inquiry)
{
    return (struct bytes){buffer_at(&inquiry->command), buffer_held(&inquiry->command)};
}

static bool is_on_admin(const struct inquiry *inquiry)
{
    struct bson_element database;
    struct bytes name;
    return bson_find(body_of(inquiry), "$db", &database) && bson_element_text(&database, &name) &&
           bytes_equal(name, "admin");
}

// --- what is asked ------------------------------------------------------------------------------

// {currentOp: 1}: what is no option is the filter.
static bool read_command(struct inquiry *inquiry, struct wish *wish)
{
    struct bson_walk walk;
    struct bson_element element;
    bool own = false;
    bool fine = bson_walk_begin(&walk, body_of(inquiry)) &&
                bson_walk_next(&walk, &element) == BSON_WALK_ELEMENT;
    buffer_append(&wish->filter, "\0\0\0\0", 4);
    while (fine && bson_walk_next(&walk, &element) == BSON_WALK_ELEMENT) {
        const uint8_t *begin = element.key.at - 1;
        if (bytes_equal(element.key, "$ownOps")) {
            own = bson_element_truth(&element);
        } else if (bytes_equal(element.key, "$all") && bson_element_truth(&element)) {
            return fail(inquiry, CODE_COMMAND_NOT_SUPPORTED,
                        "weir: $all is not supported: idle "
                        "connections are not told of");
        } else if (!database_passes_over(element.key) && !bytes_equal(element.key, "$all") &&
                   !bytes_equal(element.key, "$truncateOps")) {
            buffer_append(&wish->filter, begin,
                          (size_t)(element.value.at + element.value.len - begin));
        }
    }
    buffer_append(&wish->filter, "", 1);
    size_t len = buffer_held(&wish->filter);
    store_i32(buffer_at(&wish->filter), (int32_t)len);
    wish->query.filter = (struct bytes){buffer_at(&wish->filter), len};
    if (!is_on_admin(inquiry)) {
        return fail(inquiry, CODE_UNAUTHORIZED,
                    "weir: currentOp may only be run against the admin database.");
    }
    return own || fail(inquiry, CODE_UNAUTHORIZED, all_users);
}

static bool names_one_of(struct bytes key, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (bytes_equal(key, names[i])) {
            return true;
        }
    }
    return false;
}

// One option of the stage $currentOp.
static bool check_option(struct inquiry *inquiry, const struct bson_element *option)
{
    static const char *const fine[] = {"allUsers", "idleSessions", "localOps", "truncateOps",
                                       "targetAllNodes"};
    static const char *const unsupported[] = {"idleConnections", "idleCursors", "backtrace"};
    bool more = names_one_of(option->key, unsupported, 3);
    if (!more && !names_one_of(option->key, fine, 5)) {
        return fail(inquiry, CODE_FAILED_TO_PARSE, "weir: unrecognized option in $currentOp stage");
    }
    if (option->type != BSON_VIEW_BOOL) {
        return fail(inquiry, CODE_TYPE_MISMATCH, "weir: options of $currentOp must be booleans");
    }
    if (more && bson_element_truth(option)) {
        return fail(inquiry, CODE_COMMAND_NOT_SUPPORTED,
                    "weir: of $currentOp, idleConnections, idleCursors and backtrace are not "
                    "supported");
    }
    return true;
}

// Whoever asks for all users' is told that first, as by a server.
static bool check_options(struct inquiry *inquiry, const struct bson_element *stage)
{
    struct bson_walk walk;
    struct bson_element option;
    if (stage->type != BSON_VIEW_DOCUMENT || !bson_walk_begin(&walk, stage->value)) {
        return fail(inquiry, CODE_TYPE_MISMATCH, "weir: $currentOp needs a document");
    }
    while (bson_walk_next(&walk, &option) == BSON_WALK_ELEMENT) {
        if (bytes_equal(option.key, "allUsers") && bson_element_truth(&option)) {
            return fail(inquiry, CODE_UNAUTHORIZED, all_users);
        }
    }
    if (!is_on_admin(inquiry)) {
        return fail(inquiry, CODE_INVALID_NAMESPACE,
                    "weir: $currentOp must be run against the 'admin' database with "
                    "{aggregate: 1}");
    }
    bool good = bson_walk_begin(&walk, stage->value);
    while (good && bson_walk_next(&walk, &option) == BSON_WALK_ELEMENT) {
        good = check_option(inquiry, &option);
    }
    return good;
}

static bool take_document(const struct bson_element *value, struct bytes *ret_document)
{
    *ret_document = value->value;
    return value->type == BSON_VIEW_DOCUMENT;
}

static bool take_number(const struct bson_element *value, int64_t least, int64_t *ret_number)
{
    return bson_element_i64(value, ret_number) && *ret_number >= least;
}

// A stage behind $currentOp; *rank is that of the one before.
static bool take_stage(const struct bson_element *stage, int *rank, struct query *query)
{
    static const char *const stages[] = {"$match", "$sort", "$skip", "$limit", "$project"};
    int place = *rank + 1;
    while (place < 5 && !bytes_equal(stage->key, stages[place])) {
        place++;
    }
    *rank = place;
    switch (place) {
    case 0:
        return take_document(stage, &query->filter);
    case 1:
        return take_document(stage, &query->sort);
    case 2:
        return take_number(stage, 0, &query->skip);
    case 3:
        return take_number(stage, 1, &query->limit);
    case 4:
        return take_document(stage, &query->projection);
    default:
        return false;
    }
}

// The next stage of a pipeline: a document with one field.
static enum bson_walk_status next_stage(struct bson_walk *pipeline, struct bson_element *ret_stage)
{
    struct bson_element element;
    struct bson_walk walk;
    enum bson_walk_status status = bson_walk_next(pipeline, &element);
    if (status != BSON_WALK_ELEMENT) {
        return status;
    }
    bool fine = element.type == BSON_VIEW_DOCUMENT && bson_walk_begin(&walk, element.value) &&
                bson_walk_next(&walk, ret_stage) == BSON_WALK_ELEMENT &&
                bson_walk_next(&walk, &element) == BSON_WALK_END;
    return fine ? BSON_WALK_ELEMENT : BSON_WALK_BAD;
}

// What would make of it something else than a list of documents: explain, ...
static bool has_more(const struct inquiry *inquiry)
{
    struct bson_walk walk;
    struct bson_element element;
    bool more = !bson_walk_begin(&walk, body_of(inquiry)) ||
                bson_walk_next(&walk, &element) != BSON_WALK_ELEMENT;
    while (!more && bson_walk_next(&walk, &element) == BSON_WALK_ELEMENT) {
        more = !bytes_equal(element.key, "pipeline") && !database_passes_over(element.key);
    }
    return more;
}

static bool read_aggregate(struct inquiry *inquiry, struct wish *wish)
{
    struct bson_element element;
    struct bson_element stage;
    struct bson_walk pipeline;
    enum bson_walk_status status = BSON_WALK_BAD;
    int rank = -1;
    if (bson_find(body_of(inquiry), "pipeline", &element) &&
        bson_walk_begin(&pipeline, element.value)) {
        status = next_stage(&pipeline, &stage);
    }
    if (status == BSON_WALK_ELEMENT && !check_options(inquiry, &stage)) {
        return false;
    }
    while (status == BSON_WALK_ELEMENT &&
           (status = next_stage(&pipeline, &stage)) == BSON_WALK_ELEMENT) {
        status = take_stage(&stage, &rank, &wish->query) ? status : BSON_WALK_BAD;
    }
    return (status == BSON_WALK_END && !has_more(inquiry)) ||
           fail(inquiry, CODE_COMMAND_NOT_SUPPORTED,
                "weir: behind $currentOp, supported are $match, $sort, $skip, $limit and $project, "
                "each once and in this order, and no options but cursor");
}

static bool read_wish(struct inquiry *inquiry, struct bytes command, struct wish *wish)
{
    char error[QUERY_ERROR_BYTES];
    *wish = (struct wish){0};
    bool read = bytes_equal(command, "aggregate") ? read_aggregate(inquiry, wish)
                                                  : read_command(inquiry, wish);
    if (read && !query_check(&wish->query, error)) {
        read =
            fail(inquiry, CODE_BAD_VALUE,
                 bson_utf8_validate(error, strlen(error), false) ? error : "weir: malformed query");
    }
    return read;
}

// --- operations ---------------------------------------------------------------------------------

static struct bytes text_at(struct bytes row, const char *key)
{
    struct bson_element element;
    struct bytes text = {(const uint8_t *)"", 0};
    (void)(bson_find(row, key, &element) && bson_element_text(&element, &text));
    return text;
}

static int64_t number_at(struct bytes row, const char *key)
{
    struct bson_element element;
    int64_t number = 0;
    (void)(bson_find(row, key, &element) && bson_element_i64(&element, &number));
    return number;
}

static int64_t us_at(struct bytes row, const char *key)
{
    struct bson_element element;
    double seconds = 0;
    if (bson_find(row, key, &element) && element.type == BSON_VIEW_DOUBLE) {
        memcpy(&seconds, element.value.at, sizeof seconds);
    }
    return (int64_t)(seconds * 1e6);
}

static void put_text(bson_t *document, const char *key, struct bytes text)
{
    bson_append_utf8(document, key, -1, (const char *)text.at, (int)text.len);
}

static const char *kind_of(struct bytes command)
{
    static const struct {
        const char *command, *kind;
    } kinds[] = {{"find", "query"},
                 {"getMore", "getmore"},
                 {"insert", "insert"},
                 {"update", "update"},
                 {"delete", "remove"}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (bytes_equal(command, kinds[i].command)) {
            return kinds[i].kind;
        }
    }
    return "command";
}

static void put_time(bson_t *document)
{
    struct timespec now;
    struct tm parts;
    char day[32];
    char text[64];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(text, sizeof text, "%s.%03d+00:00", day, (int)(now.tv_nsec / 1000000 % 1000));
    BSON_APPEND_UTF8(document, "currentOpTime", text);
}

static void put_users(bson_t *document, const struct user *user)
{
    bson_t list;
    bson_t one;
    BSON_APPEND_ARRAY_BEGIN(document, "effectiveUsers", &list);
    BSON_APPEND_DOCUMENT_BEGIN(&list, "0", &one);
    BSON_APPEND_UTF8(&one, "user", user->spec.name);
    BSON_APPEND_UTF8(&one, "db", user->spec.db);
    bson_append_document_end(&list, &one);
    bson_append_array_end(document, &list);
}

// The values of a command are not kept: in its place stands its shape, as a server puts the
// beginning of one that is too long.
static void put_command(bson_t *document, struct bytes row)
{
    struct bytes shape = text_at(row, "shape");
    bson_t command;
    BSON_APPEND_DOCUMENT_BEGIN(document, "command", &command);
    put_text(&command, "$truncated", shape.len > 0 ? shape : text_at(row, "command"));
    bson_append_document_end(document, &command);
}

// How it stands with it here, which no server could tell.
static void put_waiting(bson_t *document, struct bytes row)
{
    bson_t weir;
    BSON_APPEND_DOCUMENT_BEGIN(document, "weir", &weir);
    put_text(&weir, "state", text_at(row, "state"));
    put_text(&weir, "lane", text_at(row, "lane"));
    put_text(&weir, "server", text_at(row, "server"));
    bson_append_document_end(document, &weir);
}

static void put_operation(const struct user *user, struct bytes row, struct buffer *out)
{
    bson_t document = BSON_INITIALIZER;
    char connection[32];
    int64_t client = number_at(row, "client");
    int64_t age_us = us_at(row, "age");
    snprintf(connection, sizeof connection, "conn%lld", (long long)client);
    BSON_APPEND_UTF8(&document, "type", "op");
    BSON_APPEND_UTF8(&document, "desc", connection);
    BSON_APPEND_INT64(&document, "connectionId", client);
    put_text(&document, "client", text_at(row, "peer"));
    put_text(&document, "appName", text_at(row, "app"));
    BSON_APPEND_BOOL(&document, "active", true);
    put_time(&document);
    put_users(&document, user);
    state_append_int(&document, "opid", number_at(row, "_id"));
    BSON_APPEND_INT64(&document, "secs_running", age_us / 1000000);
    BSON_APPEND_INT64(&document, "microsecs_running", age_us);
    BSON_APPEND_UTF8(&document, "op", kind_of(text_at(row, "command")));
    put_text(&document, "ns", text_at(row, "ns"));
    put_command(&document, row);
    put_waiting(&document, row);
    buffer_append(out, bson_get_data(&document), document.len);
    bson_destroy(&document);
}

static void put_operations(const struct user *user, const struct picture *picture,
                           struct buffer *out)
{
    struct bytes rows = picture_rows(picture, STATE_requests);
    struct bytes row;
    while (bson_take(&rows, &row) == WIRE_OK) {
        if (number_at(row, "userId") == user->id) {
            put_operation(user, row, out);
        }
    }
}

// --- answers ------------------------------------------------------------------------------------

static void put_list(bson_t *document, const char *key, const struct buffer *found)
{
    bson_t list;
    BSON_APPEND_ARRAY_BEGIN(document, key, &list);
    rows_append((struct bytes){buffer_at(found), buffer_held(found)}, INT64_MAX, REPLY_BYTES,
                &list);
    bson_append_array_end(document, &list);
}

static void tell(struct inquiry *inquiry, bool aggregate, const struct buffer *found)
{
    bson_t cursor;
    if (aggregate) {
        BSON_APPEND_DOCUMENT_BEGIN(inquiry->reply, "cursor", &cursor);
        put_list(&cursor, "firstBatch", found);
        BSON_APPEND_INT64(&cursor, "id", 0);
        BSON_APPEND_UTF8(&cursor, "ns", "admin.$cmd.aggregate");
        bson_append_document_end(inquiry->reply, &cursor);
    } else {
        put_list(inquiry->reply, "inprog", found);
    }
    BSON_APPEND_DOUBLE(inquiry->reply, "ok", 1.0);
}

static bool first_of(const struct inquiry *inquiry, struct bson_element *ret_first)
{
    struct bson_walk walk;
    return bson_walk_begin(&walk, body_of(inquiry)) &&
           bson_walk_next(&walk, ret_first) == BSON_WALK_ELEMENT;
}

static void tell_killed(struct inquiry *inquiry, bool was_there)
{
    if (!was_there) {
        fail(inquiry, CODE_UNAUTHORIZED,
             "weir: not authorized: this user has no such operation under way");
        return;
    }
    BSON_APPEND_UTF8(inquiry->reply, "info", "attempting to kill op");
    BSON_APPEND_DOUBLE(inquiry->reply, "ok", 1.0);
}

static bool take_kill(struct inquiry *inquiry)
{
    struct bson_element op;
    int64_t number;
    if (is_on_admin(inquiry) && bson_find(body_of(inquiry), "op", &op) &&
        bson_element_i64(&op, &number) && number > 0) {
        inquiry->kills = (uint64_t)number;
        return false;
    }
    tell_killed(inquiry, false);
    return true;
}

bool own_operations_take(struct inquiry *inquiry)
{
    struct bson_element first;
    struct wish wish;
    if (!first_of(inquiry, &first)) {
        fail(inquiry, CODE_BAD_VALUE, "weir: malformed command");
        return true;
    }
    if (bytes_equal(first.key, "killOp")) {
        return take_kill(inquiry);
    }
    bool read = read_wish(inquiry, first.key, &wish);
    buffer_fini(&wish.filter);
    inquiry->question.collections = STATE_BIT(STATE_requests);
    return !read;
}

void own_operations_answer(struct inquiry *inquiry, const struct picture *picture)
{
    struct bson_element first;
    struct wish wish;
    struct buffer all = {0};
    struct buffer found = {0};
    if (!picture) {
        // A driver may try another address.
        fail(inquiry, CODE_HOST_UNREACHABLE, "weir: it is ending");
        return;
    }
    if (first_of(inquiry, &first) && read_wish(inquiry, first.key, &wish)) {
        put_operations(inquiry->user, picture, &all);
        query_run(&wish.query, (struct bytes){buffer_at(&all), buffer_held(&all)}, &found);
        tell(inquiry, bytes_equal(first.key, "aggregate"), &found);
    }
    buffer_fini(&wish.filter);
    buffer_fini(&all);
    buffer_fini(&found);
}

// On the last worker's thread.
static void killed(void *arg, const struct cull_counts *counts)
{
    struct inquiry *inquiry = arg;
    bool was_there = counts->ended + counts->refused + counts->spared > 0;
    if (was_there) {
        cull_log(&(struct cull_wish){.request = inquiry->kills}, counts, inquiry->by, "");
    }
    tell_killed(inquiry, was_there);
    worker_post(inquiry->worker, &inquiry->question.mail, MAIL_ANSWERED);
}

void own_operations_kill(struct inquiry *inquiry, struct worker *const *workers, int count)
{
    const struct cull_wish wish = {.request = inquiry->kills, .user_id = inquiry->user->id};
    cull_ask(workers, count, &wish, killed, inquiry);
}
