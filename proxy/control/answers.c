// SPDX-License-Identifier: Apache-2.0
#include "proxy/control/answers.h"

#include <stdio.h>
#include <string.h>

#include "wire/command.h"
#include "wire/op_msg.h"
#include "wire/shape.h"

#define SMALLEST_LIMIT 100 // connections that a server may be limited to

enum { LEVELS_MAX = 24 };
#define NUMBER_MAX INT64_C(1000000000000000)

// --- fields -------------------------------------------------------------------------------------

// A field by its path, whatever its type.
static bool find(const bson_t *document, const char *path, bson_iter_t *ret_field)
{
    bson_iter_t iter;
    return bson_iter_init(&iter, document) && bson_iter_find_descendant(&iter, path, ret_field);
}

// What is larger than anything that is counted is not believed, so that sums cannot overflow.
static int64_t number(const bson_t *document, const char *path)
{
    bson_iter_t field;
    if (!find(document, path, &field) || !BSON_ITER_HOLDS_NUMBER(&field)) {
        return UNKNOWN;
    }
    if (BSON_ITER_HOLDS_DOUBLE(&field)) {
        double value = bson_iter_double(&field);
        return value >= 0 && value <= NUMBER_MAX ? (int64_t)value : UNKNOWN;
    }
    int64_t value = bson_iter_as_int64(&field);
    return value >= 0 && value <= NUMBER_MAX ? value : UNKNOWN;
}

static int64_t date_ms(const bson_t *document, const char *path)
{
    bson_iter_t field;
    bool there = find(document, path, &field) && BSON_ITER_HOLDS_DATE_TIME(&field);
    int64_t value = there ? bson_iter_date_time(&field) : UNKNOWN;
    return value > 0 ? value : UNKNOWN;
}

static bool is_true(const bson_t *document, const char *path)
{
    bson_iter_t field;
    return find(document, path, &field) && bson_iter_as_bool(&field);
}

// Cut to capacity; false: there is no such text.
static bool text(const bson_t *document, const char *path, char *ret_text, size_t capacity)
{
    bson_iter_t field;
    ret_text[0] = '\0';
    if (!find(document, path, &field) || !BSON_ITER_HOLDS_UTF8(&field)) {
        return false;
    }
    snprintf(ret_text, capacity, "%s", bson_iter_utf8(&field, NULL));
    return true;
}

#define TEXT(document, path, field) text(document, path, field, sizeof(field))

// A document inside; it borrows.
static bool inner(const bson_t *document, const char *path, bson_t *ret_inner)
{
    bson_iter_t field;
    uint32_t length;
    const uint8_t *bytes;
    if (!find(document, path, &field) || !BSON_ITER_HOLDS_DOCUMENT(&field)) {
        return false;
    }
    bson_iter_document(&field, &length, &bytes);
    return bson_init_static(ret_inner, bytes, length);
}

static bool starts_with(const char *text, const char *beginning)
{
    return strncmp(text, beginning, strlen(beginning)) == 0;
}

enum answer_outcome outcome_of(int code, const char *message)
{
    enum { UNAUTHORIZED = 13, COMMAND_NOT_FOUND = 59, NOT_SUPPORTED = 115, NO_STAGE = 40324 };
    enum { ATLAS_ERROR = 8000, NOT_IMPLEMENTED = 238 };
    if (code == UNAUTHORIZED || strstr(message, "not authorized")) {
        return ANSWER_FORBIDDEN;
    }
    bool none = code == COMMAND_NOT_FOUND || code == NOT_SUPPORTED || code == NO_STAGE ||
                code == ATLAS_ERROR || code == NOT_IMPLEMENTED ||
                strstr(message, "no such command") || strstr(message, "not supported") ||
                strstr(message, "Unrecognized pipeline stage") ||
                strstr(message, "not implemented");
    return none ? ANSWER_NO_COMMAND : ANSWER_FAILED;
}

// --- a command, without its values --------------------------------------------------------------

// libbson's own copy ends the process if it is not sound.
static void copy_but_db(const bson_t *command, bson_t *into)
{
    bson_iter_t field;
    bool sound = bson_iter_init(&field, command);
    while (sound && bson_iter_next(&field)) {
        if (strcmp(bson_iter_key(&field), "$db") != 0) {
            sound = bson_append_iter(into, NULL, 0, &field);
        }
    }
}

// Reads a command as it stands in $currentOp and system.profile; of updates and deletes these show
// one statement, {q: …, u: …}.
static void tell_shape(const bson_t *command, const char *op, const char *ns, char *ret_shape,
                       size_t capacity)
{
    const char *dot = strchr(ns, '.');
    bson_iter_t first;
    ret_shape[0] = '\0';
    if (!dot || !bson_iter_init(&first, command) || !bson_iter_next(&first)) {
        return;
    }
    bson_t body = BSON_INITIALIZER;
    bson_t list;
    const char *name = strcmp(op, "remove") == 0 ? "delete" : op;
    bool is_statement = bson_has_field(command, "q");
    if (is_statement) {
        BSON_APPEND_UTF8(&body, name, dot + 1);
        BSON_APPEND_ARRAY_BEGIN(&body, strcmp(name, "update") == 0 ? "updates" : "deletes", &list);
        BSON_APPEND_DOCUMENT(&list, "0", command);
        bson_append_array_end(&body, &list);
    } else {
        copy_but_db(command, &body);
    }
    bson_append_utf8(&body, "$db", -1, ns, (int)(dot - ns));
    struct buffer message = {0};
    struct op_msg msg;
    struct command view;
    size_t start = op_msg_begin(&message, 1, 0);
    buffer_append(&message, bson_get_data(&body), body.len);
    op_msg_end(&message, start);
    struct bytes bytes = {buffer_at(&message), buffer_held(&message)};
    if (op_msg_read(bytes, &msg) == WIRE_OK && command_read(bytes, &msg, &view) == WIRE_OK) {
        shape_text(&msg, &view, ret_shape, capacity);
    }
    buffer_fini(&message);
    bson_destroy(&body);
}

// Of a getMore what opened its cursor counts.
static bool read_command(const bson_t *document, const char *originating, const char *op,
                         const char *ns, struct query_needs *ret_needs, char *ret_shape,
                         size_t capacity)
{
    bson_t command;
    if (!inner(document, originating, &command) && !inner(document, "command", &command)) {
        return false;
    }
    tell_shape(&command, op, ns, ret_shape, capacity);
    return query_needs_of_command(&command, ret_needs);
}

// --- serverStatus -------------------------------------------------------------------------------

bool server_status_read(const bson_t *reply, struct server_status *ret_status)
{
    struct server_status *status = ret_status;
    memset(status, 0, sizeof *status);
    TEXT(reply, "version", status->version);
    TEXT(reply, "process", status->process);
    status->uptime_s = number(reply, "uptime");
    status->connections.current = number(reply, "connections.current");
    status->connections.available = number(reply, "connections.available");
    status->connections.created = number(reply, "connections.totalCreated");
    status->connections.rejected = number(reply, "connections.rejected");
    status->connections.active = number(reply, "connections.active");
    status->connections.rate_limited = number(reply, "connections.establishmentRateLimit.rejected");
    status->cursors.open = number(reply, "metrics.cursor.open.total");
    status->cursors.no_timeout = number(reply, "metrics.cursor.open.noTimeout");
    status->cursors.pinned = number(reply, "metrics.cursor.open.pinned");
    status->cursors.timed_out = number(reply, "metrics.cursor.timedOut");
    status->transactions.open = number(reply, "transactions.currentOpen");
    status->transactions.inactive = number(reply, "transactions.currentInactive");
    status->transactions.aborted = number(reply, "transactions.totalAborted");
    status->queued_readers = number(reply, "globalLock.currentQueue.readers");
    status->queued_writers = number(reply, "globalLock.currentQueue.writers");
    int64_t expiry_ms = date_ms(reply, "security.SSLServerCertificateExpirationDate");
    status->certificate_expiry_s = expiry_ms == UNKNOWN ? UNKNOWN : expiry_ms / 1000;
    return status->version[0] != '\0' || status->connections.current != UNKNOWN;
}

bool server_tells_limit(const struct server_status *status)
{
    int64_t current = status->connections.current;
    int64_t available = status->connections.available;
    bool known = current != UNKNOWN && available != UNKNOWN && current <= INT64_MAX - available;
    return known &&
           (available > 0 || current >= SMALLEST_LIMIT || status->connections.rejected > 0);
}

// --- $currentOp ---------------------------------------------------------------------------------

void operations_init(struct operations *operations, int64_t threshold_us)
{
    memset(operations, 0, sizeof *operations);
    operations->threshold_us = threshold_us;
    operations->longest_transaction.idle_us = UNKNOWN;
    operations->longest_cursor.idle_us = UNKNOWN;
}

static void count_client(struct operations *operations, const bson_t *document)
{
    struct client_kind kind = {.connections = 1};
    bson_t metadata;
    if (!inner(document, "clientMetadata", &metadata) || is_true(document, "isInternal")) {
        return; // the server's own
    }
    TEXT(document, "appName", kind.app);
    TEXT(&metadata, "driver.name", kind.driver);
    TEXT(&metadata, "driver.version", kind.version);
    TEXT(document, "client", kind.host);
    char *port = strrchr(kind.host, ':');
    if (port) {
        *port = '\0';
    }
    for (int i = 0; i < operations->kinds; i++) {
        struct client_kind *known = &operations->kind[i];
        if (strcmp(known->app, kind.app) == 0 && strcmp(known->driver, kind.driver) == 0 &&
            strcmp(known->version, kind.version) == 0 && strcmp(known->host, kind.host) == 0) {
            known->connections++;
            return;
        }
    }
    if (operations->kinds < CLIENTS_MAX) {
        operations->kind[operations->kinds++] = kind;
    } else {
        operations->more_clients++;
    }
}

static void read_id(const bson_t *document, char *ret_id, size_t capacity)
{
    char name[48];
    bson_iter_t field;
    ret_id[0] = '\0';
    if (TEXT(document, "opid", name)) {
        snprintf(ret_id, capacity, "\"%s\"", name);
    } else if (find(document, "opid", &field) && BSON_ITER_HOLDS_NUMBER(&field)) {
        snprintf(ret_id, capacity, "%lld", (long long)bson_iter_as_int64(&field));
    }
}

static int64_t running_us(const bson_t *document)
{
    int64_t us = number(document, "microsecs_running");
    int64_t seconds = number(document, "secs_running");
    return us != UNKNOWN ? us : seconds != UNKNOWN && seconds < 1000000000 ? seconds * 1000000 : 0;
}

static void read_operation(const bson_t *document, struct operation *ret_operation)
{
    struct operation *operation = ret_operation;
    memset(operation, 0, sizeof *operation);
    operation->running_us = running_us(document);
    read_id(document, operation->id, sizeof operation->id);
    TEXT(document, "ns", operation->ns);
    TEXT(document, "op", operation->op);
    TEXT(document, "appName", operation->app);
    TEXT(document, "client", operation->client);
    TEXT(document, "planSummary", operation->plan);
    operation->waits_for_lock = is_true(document, "waitingForLock");
    operation->has_needs =
        read_command(document, "cursor.originatingCommand", operation->op, operation->ns,
                     &operation->needs, operation->shape, sizeof operation->shape);
}

// The longest, in order.
static void keep_operation(struct operations *operations, const bson_t *document)
{
    int64_t us = running_us(document);
    int at = operations->kept;
    while (at > 0 && operations->longest[at - 1].running_us < us) {
        at--;
    }
    if (at == OPERATIONS_MAX) {
        return;
    }
    int last = operations->kept < OPERATIONS_MAX ? operations->kept++ : OPERATIONS_MAX - 1;
    memmove(&operations->longest[at + 1], &operations->longest[at],
            (size_t)(last - at) * sizeof operations->longest[0]);
    read_operation(document, &operations->longest[at]);
}

// Waits for news (hello), or streams: it is meant to last. An operation of the server itself has no
// client.
static bool is_meant_to_last(const bson_t *document)
{
    bson_t command;
    bson_iter_t field;
    bool has_command = inner(document, "command", &command);
    return is_true(document, "isInternal") || !find(document, "connectionId", &field) ||
           is_true(document, "cursor.tailable") ||
           (has_command &&
            (bson_has_field(&command, "hello") || bson_has_field(&command, "isMaster") ||
             bson_has_field(&command, "ismaster") ||
             bson_has_field(&command, "pipeline.0.$changeStream") ||
             bson_has_field(&command, "pipeline.0.$currentOp"))) ||
           bson_has_field(document, "cursor.originatingCommand.pipeline.0.$changeStream");
}

static void take_operation(struct operations *operations, const bson_t *document)
{
    count_client(operations, document);
    if (!is_true(document, "active") || is_meant_to_last(document)) {
        return;
    }
    operations->active++;
    if (running_us(document) >= operations->threshold_us) {
        char plan[ANSWER_NAME_BYTES];
        operations->long_count++;
        TEXT(document, "planSummary", plan);
        operations->long_collscans += starts_with(plan, "COLLSCAN");
        keep_operation(operations, document);
    }
}

static void read_idler(const bson_t *document, struct idler *ret_idler)
{
    TEXT(document, "ns", ret_idler->ns);
    TEXT(document, "appName", ret_idler->app);
    TEXT(document, "client", ret_idler->client);
}

static void take_session(struct operations *operations, const bson_t *document)
{
    bson_t transaction;
    if (!inner(document, "transaction", &transaction)) {
        return;
    }
    struct idler idler = {
        .idle_us = number(&transaction, "timeInactiveMicros"),
        .open_us = number(&transaction, "timeOpenMicros"),
    };
    read_idler(document, &idler);
    operations->idle_transactions++;
    if (idler.idle_us > operations->longest_transaction.idle_us) {
        operations->longest_transaction = idler;
    }
}

static void take_cursor(struct operations *operations, const bson_t *document, int64_t now_ms)
{
    int64_t used_ms = date_ms(document, "cursor.lastAccessDate");
    int64_t created_ms = date_ms(document, "cursor.createdDate");
    struct idler idler = {
        .idle_us = used_ms > 0 && used_ms <= now_ms ? (now_ms - used_ms) * 1000 : UNKNOWN,
        .open_us = created_ms > 0 && created_ms <= now_ms ? (now_ms - created_ms) * 1000 : UNKNOWN,
        .no_timeout = is_true(document, "cursor.noCursorTimeout"),
    };
    read_idler(document, &idler);
    operations->idle_cursors++;
    operations->no_timeout_cursors += idler.no_timeout;
    if (idler.idle_us > operations->longest_cursor.idle_us) {
        operations->longest_cursor = idler;
    }
}

void operations_take(struct operations *operations, const bson_t *document, int64_t now_ms)
{
    char type[16];
    TEXT(document, "type", type);
    if (strcmp(type, "idleSession") == 0) {
        take_session(operations, document);
    } else if (strcmp(type, "idleCursor") == 0) {
        take_cursor(operations, document, now_ms);
    } else {
        take_operation(operations, document);
    }
}

// --- replSetGetStatus ---------------------------------------------------------------------------

static void read_lags(struct replication *replication, const int64_t written_ms[MEMBERS_MAX])
{
    int64_t primary_ms = UNKNOWN;
    for (int i = 0; i < replication->count; i++) {
        if (strcmp(replication->member[i].state, "PRIMARY") == 0) {
            replication->has_primary = true;
            primary_ms = written_ms[i];
        }
    }
    for (int i = 0; i < replication->count; i++) {
        struct member_status *member = &replication->member[i];
        bool known = strcmp(member->state, "SECONDARY") == 0 && member->healthy &&
                     primary_ms != UNKNOWN && written_ms[i] != UNKNOWN;
        int64_t behind_ms = known ? primary_ms - written_ms[i] : UNKNOWN;
        member->lag_ms = known && behind_ms < 0 ? 0 : behind_ms;
    }
}

bool replication_read(const bson_t *reply, struct replication *ret_replication)
{
    struct replication *replication = ret_replication;
    int64_t written_ms[MEMBERS_MAX] = {0};
    bson_iter_t members;
    bson_iter_t list;
    memset(replication, 0, sizeof *replication);
    TEXT(reply, "set", replication->set);
    if (!find(reply, "members", &list) || !BSON_ITER_HOLDS_ARRAY(&list) ||
        !bson_iter_recurse(&list, &members)) {
        return false;
    }
    while (bson_iter_next(&members) && replication->count < MEMBERS_MAX) {
        bson_t one;
        uint32_t length;
        const uint8_t *bytes;
        if (!BSON_ITER_HOLDS_DOCUMENT(&members)) {
            continue;
        }
        bson_iter_document(&members, &length, &bytes);
        if (bson_init_static(&one, bytes, length)) {
            struct member_status *member = &replication->member[replication->count];
            TEXT(&one, "name", member->name);
            TEXT(&one, "stateStr", member->state);
            member->healthy = number(&one, "health") != 0;
            written_ms[replication->count++] = date_ms(&one, "optimeDate");
        }
    }
    read_lags(replication, written_ms);
    return replication->count > 0;
}

// --- indexes ------------------------------------------------------------------------------------

static struct index_status *index_named(struct indexes *indexes, const char *name)
{
    for (int i = 0; i < indexes->count; i++) {
        if (strcmp(indexes->index[i].name, name) == 0) {
            return &indexes->index[i];
        }
    }
    if (indexes->count == INDEXES_MAX) {
        return NULL;
    }
    struct index_status *index = &indexes->index[indexes->count++];
    memset(index, 0, sizeof *index);
    snprintf(index->name, sizeof index->name, "%s", name);
    index->used = UNKNOWN;
    index->since_s = UNKNOWN;
    return index;
}

// What $indexStats has of it: uses add up, and count from the youngest of the beginnings.
static void take_uses(struct index_status *index, const bson_t *document)
{
    int64_t uses = number(document, "accesses.ops");
    int64_t since_ms = date_ms(document, "accesses.since");
    if (uses != UNKNOWN) {
        index->used = index->used == UNKNOWN ? uses : index->used + uses;
    }
    if (since_ms != UNKNOWN && since_ms / 1000 > index->since_s) {
        index->since_s = since_ms / 1000;
    }
}

void indexes_take(struct indexes *indexes, const bson_t *document)
{
    char name[ANSWER_NAME_BYTES];
    struct index_keys keys;
    bson_iter_t key;
    bson_t specification;
    if (!TEXT(document, "name", name) || !find(document, "key", &key) ||
        !index_keys_read(&key, &keys)) {
        return;
    }
    struct index_status *index = index_named(indexes, name);
    if (!index) {
        return;
    }
    const bson_t *spec = inner(document, "spec", &specification) ? &specification : document;
    index->keys = keys;
    index->unique |= is_true(spec, "unique");
    index->hidden |= is_true(spec, "hidden");
    index->partial |= bson_has_field(spec, "partialFilterExpression") || is_true(spec, "sparse");
    index->expires |= bson_has_field(spec, "expireAfterSeconds");
    take_uses(index, document);
}

// --- explain ------------------------------------------------------------------------------------

static void read_stage(const bson_t *stage, struct explanation *explanation)
{
    char name[48];
    size_t used = strlen(explanation->plan);
    if (!TEXT(stage, "stage", name)) {
        return;
    }
    snprintf(explanation->plan + used, sizeof explanation->plan - used, "%s%s",
             used > 0 ? ", " : "", name);
    explanation->scans |= strcmp(name, "COLLSCAN") == 0;
    explanation->sorts |= starts_with(name, "SORT") && strcmp(name, "SORT_MERGE") != 0;
    if (explanation->index[0] == '\0') {
        TEXT(stage, "indexName", explanation->index);
    }
}

static void read_plan(const bson_t *stage, int level, struct explanation *explanation);

static void read_plans(const bson_t *stage, const char *field, int level,
                       struct explanation *explanation)
{
    bson_iter_t list;
    bson_iter_t element;
    bson_t one;
    uint32_t length;
    const uint8_t *bytes;
    if (!find(stage, field, &list) || !BSON_ITER_HOLDS_ARRAY(&list) ||
        !bson_iter_recurse(&list, &element)) {
        return;
    }
    while (bson_iter_next(&element)) {
        if (BSON_ITER_HOLDS_DOCUMENT(&element)) {
            bson_iter_document(&element, &length, &bytes);
            if (bson_init_static(&one, bytes, length)) {
                read_plan(&one, level + 1, explanation);
            }
        }
    }
}

// A plan of the classic engine is a tree of stages; SBE's is in `queryPlan`; a shard has it in
// `winningPlan`; an aggregate's first stage has it in `$cursor.queryPlanner`.
static void read_plan(const bson_t *stage, int level, struct explanation *explanation)
{
    static const char *const inside[] = {"queryPlan",  "winningPlan", "queryPlanner", "$cursor",
                                         "inputStage", "outerStage",  "innerStage"};
    static const char *const lists[] = {"inputStages", "shards", "stages"};
    bson_t one;
    if (level >= LEVELS_MAX) {
        return;
    }
    read_stage(stage, explanation);
    for (size_t i = 0; i < sizeof inside / sizeof inside[0]; i++) {
        if (inner(stage, inside[i], &one)) {
            read_plan(&one, level + 1, explanation);
        }
    }
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        read_plans(stage, lists[i], level, explanation);
    }
    if (bson_has_field(stage, "$sort")) {
        explanation->sorts = true;
    }
}

bool explanation_read(const bson_t *reply, struct explanation *ret_explanation)
{
    memset(ret_explanation, 0, sizeof *ret_explanation);
    read_plan(reply, 0, ret_explanation);
    return ret_explanation->plan[0] != '\0';
}

// --- the profiler -------------------------------------------------------------------------------

bool profiler_read(const bson_t *reply, struct profiler_status *ret_profiler)
{
    bson_iter_t rate;
    ret_profiler->level = number(reply, "was");
    ret_profiler->slow_ms = number(reply, "slowms");
    ret_profiler->sample_rate = find(reply, "sampleRate", &rate) && BSON_ITER_HOLDS_NUMBER(&rate)
                                    ? bson_iter_as_double(&rate)
                                    : -1;
    return ret_profiler->level != UNKNOWN;
}

bool profiled_read(const bson_t *document, struct profiled *ret_profiled)
{
    char op[16];
    struct profiled *profiled = ret_profiled;
    memset(profiled, 0, sizeof *profiled);
    TEXT(document, "op", op);
    TEXT(document, "ns", profiled->ns);
    TEXT(document, "planSummary", profiled->plan);
    TEXT(document, "appName", profiled->app);
    profiled->millis = number(document, "millis");
    profiled->examined = number(document, "docsExamined");
    profiled->returned = number(document, "nreturned");
    profiled->sorts = is_true(document, "hasSortStage");
    profiled->has_needs = read_command(document, "originatingCommand", op, profiled->ns,
                                       &profiled->needs, profiled->shape, sizeof profiled->shape);
    return profiled->ns[0] != '\0' && profiled->millis != UNKNOWN;
}
