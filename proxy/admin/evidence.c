// SPDX-License-Identifier: Apache-2.0

#include "proxy/admin/evidence.h"

#include <stdio.h>
#include <string.h>

#include "proxy/admin/state.h"

enum { LONGEST = 5 }; // operations that the record has

// --- what was not answered ----------------------------------------------------------------------

static const char *word_of(enum answer_outcome outcome)
{
    static const char *const words[] = {
        [ANSWER_GIVEN] = "answered",
        [ANSWER_NOT_ASKED] = "not asked",
        [ANSWER_FORBIDDEN] = "weir's user may not see it (it takes the role clusterMonitor)",
        [ANSWER_NO_COMMAND] = "this server does not tell it",
        [ANSWER_FAILED] = "it failed",
        [ANSWER_UNINTELLIGIBLE] = "the answer has nothing of it",
    };
    return words[outcome];
}

struct gaps {
    bson_t list;
    unsigned count;
};

// Returns whether it was answered.
static bool look_for_gap(struct gaps *gaps, const char *what, const struct answer *answer)
{
    bson_t gap;
    char key[12];
    if (answer->outcome == ANSWER_GIVEN || answer->outcome == ANSWER_NOT_ASKED) {
        return answer->outcome == ANSWER_GIVEN;
    }
    snprintf(key, sizeof key, "%u", gaps->count++);
    bson_append_document_begin(&gaps->list, key, -1, &gap);
    state_append_text(&gap, "what", what);
    state_append_text(&gap, "why", word_of(answer->outcome));
    state_append_text(&gap, "says", answer->why);
    bson_append_document_end(&gaps->list, &gap);
    return false;
}

// --- what was -----------------------------------------------------------------------------------

static void append_known(bson_t *document, const char *key, int64_t value)
{
    if (value != UNKNOWN) {
        state_append_int(document, key, value);
    }
}

static void append_seconds(bson_t *document, const char *key, double seconds)
{
    bson_append_double(document, key, -1, seconds);
}

static void put_status(const struct server_status *status, bson_t *document)
{
    bson_t part;
    bson_append_document_begin(document, "connections", -1, &part);
    append_known(&part, "current", status->connections.current);
    append_known(&part, "available",
                 server_tells_limit(status) ? status->connections.available : UNKNOWN);
    append_known(&part, "active", status->connections.active);
    append_known(&part, "rejected", status->connections.rejected);
    bson_append_document_end(document, &part);
    append_known(document, "queuedReaders", status->queued_readers);
    append_known(document, "queuedWriters", status->queued_writers);
    append_known(document, "cursorsOpen", status->cursors.open);
    append_known(document, "transactionsOpen", status->transactions.open);
    append_known(document, "transactionsInactive", status->transactions.inactive);
}

static void put_operation(const struct operation *operation, bson_t *document)
{
    append_seconds(document, "running", (double)operation->running_us / 1e6);
    state_append_text(document, "op", operation->op);
    state_append_text(document, "namespace", operation->ns);
    state_append_text(document, "shape", operation->shape);
    state_append_text(document, "plan", operation->plan);
    state_append_text(document, "app", operation->app);
    bson_append_bool(document, "waitsForLock", -1, operation->waits_for_lock);
}

static void put_operations(const struct consultation *found, bson_t *document)
{
    const struct operations *operations = &found->operations;
    bson_t part;
    bson_t list;
    bson_append_document_begin(document, "operations", -1, &part);
    bson_append_bool(&part, "ownOnly", -1, found->own_operations_only);
    append_seconds(&part, "threshold", (double)operations->threshold_us / 1e6);
    state_append_int(&part, "active", operations->active);
    state_append_int(&part, "long", operations->long_count);
    state_append_int(&part, "longScans", operations->long_collscans);
    bson_append_array_begin(&part, "longest", -1, &list);
    for (int i = 0; i < operations->kept && i < LONGEST; i++) {
        bson_t item;
        char key[12];
        snprintf(key, sizeof key, "%d", i);
        bson_append_document_begin(&list, key, -1, &item);
        put_operation(&operations->longest[i], &item);
        bson_append_document_end(&list, &item);
    }
    bson_append_array_end(&part, &list);
    bson_append_document_end(document, &part);
}

static void put_members(const struct replication *replication, bson_t *document)
{
    bson_t list;
    bson_append_array_begin(document, "members", -1, &list);
    for (int i = 0; i < replication->count; i++) {
        const struct member_status *member = &replication->member[i];
        bson_t item;
        char key[12];
        snprintf(key, sizeof key, "%d", i);
        bson_append_document_begin(&list, key, -1, &item);
        state_append_text(&item, "name", member->name);
        state_append_text(&item, "state", member->state);
        bson_append_bool(&item, "healthy", -1, member->healthy);
        if (member->lag_ms != UNKNOWN) {
            append_seconds(&item, "lag", (double)member->lag_ms / 1e3);
        }
        bson_append_document_end(&list, &item);
    }
    bson_append_array_end(document, &list);
}

static void put_plan(const struct consult *consult, bson_t *document)
{
    const struct consultation *found = &consult->found;
    bson_t part;
    bson_append_document_begin(document, "plan", -1, &part);
    state_append_text(&part, "shape", consult->shape);
    state_append_text(&part, "namespace", found->ns);
    state_append_text(&part, "stages", found->explanation.plan);
    state_append_text(&part, "index", found->explanation.index);
    bson_append_bool(&part, "scans", -1, found->explanation.scans);
    bson_append_bool(&part, "sorts", -1, found->explanation.sorts);
    bson_append_document_end(document, &part);
}

static void put_index(const struct consultation *found, bson_t *document)
{
    bson_t part;
    bson_append_document_begin(document, "index", -1, &part);
    state_append_text(&part, "wanted", found->index_wanted);
    state_append_text(&part, "there", found->index_there);
    bson_append_document_end(document, &part);
}

static void put_found(const struct consult *consult, bson_t *document)
{
    const struct consultation *found = &consult->found;
    struct gaps gaps = {.list = BSON_INITIALIZER};
    if (look_for_gap(&gaps, "serverStatus", &found->status_answer)) {
        put_status(&found->status, document);
    }
    if (look_for_gap(&gaps, "$currentOp", &found->operations_answer)) {
        put_operations(found, document);
    }
    if (look_for_gap(&gaps, "replSetGetStatus", &found->replication_answer)) {
        put_members(&found->replication, document);
    }
    if (look_for_gap(&gaps, "explain", &found->explanation_answer)) {
        put_plan(consult, document);
    }
    if (look_for_gap(&gaps, "listIndexes", &found->indexes_answer)) {
        put_index(found, document);
    }
    bson_append_array(document, "unanswered", -1, &gaps.list);
    bson_destroy(&gaps.list);
}

// --- all of it ----------------------------------------------------------------------------------

// Not every server calls it by its name.
static void take_index_used(struct evidence *evidence, const struct consultation *found)
{
    const struct explanation *explanation = &found->explanation;
    bool by_id = strstr(explanation->plan, "IDHACK") != NULL;
    const char *name = explanation->index[0]                  ? explanation->index
                       : by_id                                ? "_id_"
                       : !strstr(explanation->plan, "IXSCAN") ? ""
                       : found->index_there[0]                ? found->index_there
                                                              : "(it does not say which)";
    snprintf(evidence->index_used, sizeof evidence->index_used, "%s", name);
}

static void take_advice(struct evidence *evidence, const struct consultation *found)
{
    evidence->scans = found->explanation_answer.outcome == ANSWER_GIVEN && found->explanation.scans;
    if (found->explanation_answer.outcome == ANSWER_GIVEN && !found->explanation.scans) {
        take_index_used(evidence, found);
    }
    evidence->sort_is_free = !found->directions_known;
    if (found->indexes_answer.outcome == ANSWER_GIVEN) {
        memcpy(evidence->index_there, found->index_there, sizeof evidence->index_there);
        if (!found->index_there[0]) {
            memcpy(evidence->index_to_make, found->index_command, sizeof evidence->index_to_make);
        }
    }
}

void evidence_take(struct evidence *evidence, const struct consult *consult, uint64_t shape,
                   double time)
{
    evidence_fini(evidence);
    evidence->asked = true;
    evidence->document = bson_new();
    state_append_text(evidence->document, "state", consult->reached ? "answered" : "unreachable");
    append_seconds(evidence->document, "at", time);
    if (consult->reached) {
        evidence->shape = shape;
        put_found(consult, evidence->document);
        take_advice(evidence, &consult->found);
    }
}

void evidence_fini(struct evidence *evidence)
{
    if (evidence->document) {
        bson_destroy(evidence->document);
    }
    *evidence = (struct evidence){0};
}

void evidence_put(const struct evidence *evidence, bson_t *document)
{
    if (evidence->document) {
        bson_concat(document, evidence->document);
    } else {
        state_append_text(document, "state", evidence->asked ? "no answer yet" : "not asked");
    }
}
