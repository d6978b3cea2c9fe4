// SPDX-License-Identifier: Apache-2.0

#include "proxy/access.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "wire/bson_view.h"

// What is asked of a user for each command. Those that are in no list take `admin`.
enum need { NEED_ADMIN, NEED_READ, NEED_WRITE, NEED_LOGIN };

static const char *const readers[] = {
    "find",        "aggregate",   "count",           "distinct", "explain",
    "getMore",     "killCursors", "listCollections", "dbStats",  "dbstats",
    "listIndexes", "collStats",   "collstats",
};

static const char *const writers[] = {
    "insert",
    "update",
    "delete",
    "findAndModify",
    "findandmodify",
    "bulkWrite",
    "mapReduce",
    "mapreduce",
    "create",
    "drop",
    "collMod",
    "createIndexes",
    "dropIndexes",
    "deleteIndexes",
    "createSearchIndexes",
    "updateSearchIndex",
    "dropSearchIndex",
    "renameCollection",
    "convertToCapped",
};

// About the connection and one's own sessions: no database is asked for.
static const char *const anybodys[] = {
    "ping",         "buildInfo",         "buildinfo",
    "atlasVersion", "whatsmyuri",        "connectionStatus",
    "endSessions",  "startSession",      "refreshSessions",
    "killSessions", "commitTransaction", "abortTransaction",
};

#define NOT "weir: not authorized: "

static const char elsewhere[] = NOT "it is about a database that is not the user's";
static const char malformed[] = NOT "it is not as drivers write it";

enum { COMMANDS_MAX = 512 };

static uint8_t needs[COMMANDS_MAX];

static void set_needs(const char *const *names, size_t count, enum need need)
{
    for (size_t i = 0; i < count; i++) {
        struct bytes name = {(const uint8_t *)names[i], strlen(names[i])};
        const struct command_info *info = command_lookup(name);
        assert(info->index != 0);
        needs[info->index] = (uint8_t)need;
    }
}

void access_init(void)
{
    assert(COMMAND_COUNT <= COMMANDS_MAX);
    set_needs(readers, sizeof readers / sizeof readers[0], NEED_READ);
    set_needs(writers, sizeof writers / sizeof writers[0], NEED_WRITE);
    set_needs(anybodys, sizeof anybodys / sizeof anybodys[0], NEED_LOGIN);
}

bool access_before_login(const struct command *command)
{
    return (command->info->traits & COMMAND_LOCAL) || bytes_equal(command->name, "ping");
}

// --- the message's form -------------------------------------------------------------------------

// What drivers send beside a command's own fields. Others that begin with $ are for servers among
// themselves: $client, $impersonatedUsers, ...
static bool is_known_generic(struct bytes key)
{
    static const char *const known[] = {"$db", "$readPreference", "$clusterTime", "$queryOptions"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (bytes_equal(key, known[i])) {
            return true;
        }
    }
    return false;
}

// Fields that say what somebody may do, in the order of their bits.
static unsigned bit_of(const struct command *command, struct bytes key)
{
    static const char *const keys[] = {"$db", "lsid", "pipeline", "nsInfo", "cursors", "to"};
    unsigned bits = bytes_same(key, command->name) ? 1u << 31 : 0;
    for (unsigned i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        bits |= bytes_equal(key, keys[i]) ? 1u << i : 0;
    }
    return bits;
}

// Of a field that comes twice, weir looks at the first; a server might look at the other.
static const char *problem_of_form(const struct command *command)
{
    struct bson_walk walk;
    struct bson_element element;
    unsigned seen = 0;
    if (!bson_walk_begin(&walk, command->body)) {
        return malformed;
    }
    while (bson_walk_next(&walk, &element) == BSON_WALK_ELEMENT) {
        if (seen == 0 && element.type == BSON_VIEW_BINARY) {
            return malformed; // a collection by its UUID, whose name nobody has seen
        }
        if (element.key.len > 0 && element.key.at[0] == '$' && !is_known_generic(element.key)) {
            return NOT "it has a field that only servers send";
        }
        unsigned bit = bit_of(command, element.key);
        if (seen & bit) {
            return NOT "it has a field twice";
        }
        seen |= bit;
    }
    return NULL;
}

static bool is_documents_name(struct bytes name)
{
    return bytes_equal(name, "documents") || bytes_equal(name, "updates") ||
           bytes_equal(name, "deletes") || bytes_equal(name, "ops") || bytes_equal(name, "nsInfo");
}

static const char *problem_of_sequences(const struct op_msg *msg)
{
    for (int i = 0; i < msg->sequence_count; i++) {
        if (!is_documents_name(msg->sequences[i].name)) {
            return malformed;
        }
    }
    return NULL;
}

// --- databases ----------------------------------------------------------------------------------

static const char *problem_of_database(const struct user *user, struct bytes database)
{
    return user_may_use(user, database) ? NULL : elsewhere;
}

// What a database knows of itself and its users: system.users, system.profile, ...
static bool is_system(struct bytes collection)
{
    static const char prefix[] = "system.";
    return collection.len >= strlen(prefix) && memcmp(collection.at, prefix, strlen(prefix)) == 0;
}

static const char *problem_of_collection(const struct user *user, struct bytes collection)
{
    return is_system(collection) && !(user->may & USER_MAY_ADMIN) ? NOT
               "it is about a collection of the system"
                                                                  : NULL;
}

// "database.collection".
static const char *problem_of_namespace(const struct user *user, struct bytes namespace)
{
    const uint8_t *dot = namespace.len > 0 ? memchr(namespace.at, '.', namespace.len) : NULL;
    if (!dot) {
        return malformed;
    }
    size_t len = (size_t)(dot - namespace.at);
    const char *problem = problem_of_database(user, (struct bytes){namespace.at, len});
    struct bytes collection = {dot + 1, namespace.len - len - 1};
    return problem ? problem : problem_of_collection(user, collection);
}

static const char *problem_of_ns_info(const struct user *user, struct bytes document)
{
    struct bson_element ns;
    struct bytes text;
    if (!bson_find(document, "ns", &ns) || !bson_element_text(&ns, &text)) {
        return malformed;
    }
    return problem_of_namespace(user, text);
}

// Of a bulkWrite, whose namespaces are in nsInfo: an array, or a sequence.
static const char *problem_of_bulk(const struct user *user, const struct command *command,
                                   const struct op_msg *msg)
{
    struct bson_element element;
    const char *problem = NULL;
    if (bson_find(command->body, "nsInfo", &element)) {
        struct bson_walk walk;
        if (element.type != BSON_VIEW_ARRAY || !bson_walk_begin(&walk, element.value)) {
            return malformed;
        }
        while (!problem && bson_walk_next(&walk, &element) == BSON_WALK_ELEMENT) {
            problem = problem_of_ns_info(user, element.value);
        }
    }
    for (int i = 0; i < msg->sequence_count; i++) {
        struct bytes rest = msg->sequences[i].documents;
        struct bytes document;
        bool is_ns_info = bytes_equal(msg->sequences[i].name, "nsInfo");
        while (is_ns_info && !problem && bson_take(&rest, &document) == WIRE_OK) {
            problem = problem_of_ns_info(user, document);
        }
    }
    return problem;
}

// Whether a value of this key names where data comes from or goes to.
static bool is_place(struct bytes key)
{
    return bytes_equal(key, "from") || bytes_equal(key, "into") || bytes_equal(key, "out") ||
           bytes_equal(key, "$out") || bytes_equal(key, "$merge") || bytes_equal(key, "$unionWith");
}

// {db: ..., coll: ...}
static const char *problem_of_place(const struct user *user, struct bytes place)
{
    struct bson_walk walk;
    struct bson_element element;
    struct bytes name;
    if (!bson_walk_begin(&walk, place)) {
        return malformed;
    }
    while (bson_walk_next(&walk, &element) == BSON_WALK_ELEMENT) {
        if (bytes_equal(element.key, "db") &&
            (!bson_element_text(&element, &name) || !user_may_use(user, name))) {
            return elsewhere;
        }
    }
    return NULL;
}

// Also what stands for no collection where a name is asked for: behind it the stages are about the
// server and whoever uses it.
static bool names_system(const struct bson_element *element)
{
    struct bytes name;
    bool named = is_place(element->key) || bytes_equal(element->key, "coll") ||
                 bytes_equal(element->key, "viewOn");
    return named && bson_element_text(element, &name) &&
           (is_system(name) || bytes_equal(name, "$cmd.aggregate"));
}

// All places that a document names, at any depth: {from: {db, coll}}, {$out: {db, coll}}, ...
static const char *problem_of_places(const struct user *user, struct bytes document)
{
    struct bson_walk levels[BSON_VIEW_MAX_DEPTH];
    int depth = 0;
    if (!bson_walk_begin(&levels[0], document)) {
        return malformed;
    }
    while (depth >= 0) {
        struct bson_element element;
        if (bson_walk_next(&levels[depth], &element) != BSON_WALK_ELEMENT) {
            depth--;
            continue;
        }
        if (names_system(&element) && !(user->may & USER_MAY_ADMIN)) {
            return NOT "it is about a collection of the system";
        }
        if (element.type != BSON_VIEW_DOCUMENT && element.type != BSON_VIEW_ARRAY) {
            continue;
        }
        const char *problem = is_place(element.key) ? problem_of_place(user, element.value) : NULL;
        if (problem) {
            return problem;
        }
        if (depth + 1 < BSON_VIEW_MAX_DEPTH && bson_walk_begin(&levels[depth + 1], element.value)) {
            depth++;
        }
    }
    return NULL;
}

static const char *problem_of_rename(const struct user *user, const struct command *command)
{
    static const char *const keys[] = {"renameCollection", "to"};
    for (size_t i = 0; i < 2; i++) {
        struct bson_element element;
        struct bytes namespace;
        if (!bson_find(command->body, keys[i], &element) ||
            !bson_element_text(&element, &namespace)) {
            return malformed;
        }
        const char *problem = problem_of_namespace(user, namespace);
        if (problem) {
            return problem;
        }
    }
    return NULL;
}

// The command that is explained, and its first field. False: it is no explain, or one of nothing.
static bool is_explained(const struct command *command, struct bson_element *ret_inner,
                         struct bson_element *ret_first)
{
    struct bson_walk walk;
    return bytes_equal(command->name, "explain") &&
           bson_find(command->body, "explain", ret_inner) &&
           ret_inner->type == BSON_VIEW_DOCUMENT && bson_walk_begin(&walk, ret_inner->value) &&
           bson_walk_next(&walk, ret_first) == BSON_WALK_ELEMENT;
}

static const char *problem_of_target(const struct user *user, const struct command *command,
                                     const struct op_msg *msg)
{
    struct bytes collection = command->collection;
    struct bson_element inner;
    struct bson_element first;
    if (bytes_equal(command->name, "bulkWrite")) {
        return problem_of_bulk(user, command, msg);
    }
    if (bytes_equal(command->name, "renameCollection")) {
        return problem_of_rename(user, command);
    }
    const char *problem = problem_of_database(user, command->database);
    if (!problem) {
        if (is_explained(command, &inner, &first)) {
            (void)bson_element_text(&first, &collection);
        }
        problem = problem_of_collection(user, collection);
    }
    bool names_places =
        bytes_equal(command->name, "aggregate") || bytes_equal(command->name, "explain") ||
        bytes_equal(command->name, "create") || bytes_equal(command->name, "collMod") ||
        bytes_equal(command->name, "findAndModify") || bytes_equal(command->name, "mapReduce") ||
        bytes_equal(command->name, "mapreduce");
    return !problem && names_places ? problem_of_places(user, command->body) : problem;
}

// --- classes ------------------------------------------------------------------------------------

// The first stage of an aggregate on no collection; false if it has none.
static bool first_stage(struct bytes body, struct bson_element *ret_stage)
{
    struct bson_element element;
    struct bson_walk walk;
    return bson_find(body, "pipeline", &element) && element.type == BSON_VIEW_ARRAY &&
           bson_walk_begin(&walk, element.value) &&
           bson_walk_next(&walk, &element) == BSON_WALK_ELEMENT &&
           element.type == BSON_VIEW_DOCUMENT && bson_walk_begin(&walk, element.value) &&
           bson_walk_next(&walk, ret_stage) == BSON_WALK_ELEMENT;
}

bool access_is_about_own(const struct user *user, const struct command *command)
{
    struct bson_element stage;
    if (user->may & USER_MAY_ADMIN) {
        return false;
    }
    return bytes_equal(command->name, "currentOp") || bytes_equal(command->name, "killOp") ||
           (bytes_equal(command->name, "aggregate") && command->collection.len == 0 &&
            first_stage(command->body, &stage) && bytes_equal(stage.key, "$currentOp"));
}

// What lists or ends sessions without naming them: to the deployment all of weir's users are one,
// so it would be everybody's. An admin may, who says so: an empty killSessions is meant for one's
// own.
static bool is_about_all_sessions(const struct user *user, const struct command *command)
{
    struct bson_element element;
    if (bytes_equal(command->name, "killSessions")) {
        return bson_find(command->body, "killSessions", &element) &&
               element.value.len <= BSON_VIEW_MIN_BYTES;
    }
    if (user->may & USER_MAY_ADMIN) {
        return false;
    }
    if (bytes_equal(command->name, "aggregate")) {
        return first_stage(command->body, &element) &&
               (bytes_equal(element.key, "$listSessions") ||
                bytes_equal(element.key, "$listLocalSessions"));
    }
    return bytes_equal(command->name, "killAllSessions") ||
           bytes_equal(command->name, "killAllSessionsByPattern");
}

static bool asks_for_all_changes(const struct bson_element *stage)
{
    struct bson_element all;
    return stage->type == BSON_VIEW_DOCUMENT &&
           bson_find(stage->value, "allChangesForCluster", &all) && bson_element_truth(&all);
}

// Stages that are about the server and whoever uses it: $currentOp, $listLocalSessions, ... What
// begins on no collection is one of these, but for two.
static bool looks_at_server(struct bytes body, bool has_collection)
{
    struct bson_element stage;
    if (!first_stage(body, &stage)) {
        return !has_collection;
    }
    if (bytes_equal(stage.key, "$changeStream")) {
        return asks_for_all_changes(&stage);
    }
    if (!has_collection) {
        return !bytes_equal(stage.key, "$documents");
    }
    return bytes_equal(stage.key, "$currentOp") || bytes_equal(stage.key, "$listSessions") ||
           bytes_equal(stage.key, "$listLocalSessions") ||
           bytes_equal(stage.key, "$planCacheStats");
}

static unsigned may_needed(const struct command *command)
{
    switch ((enum need)needs[command->info->index]) {
    case NEED_LOGIN:
        return 0;
    case NEED_WRITE:
        return USER_MAY_WRITE;
    case NEED_ADMIN:
        return USER_MAY_ADMIN;
    case NEED_READ:
        break;
    }
    if (bytes_equal(command->name, "aggregate")) {
        bool admin = looks_at_server(command->body, command->collection.len > 0);
        return USER_MAY_READ | (command->writes_out ? USER_MAY_WRITE : 0) |
               (admin ? USER_MAY_ADMIN : 0);
    }
    struct bson_element inner;
    struct bson_element first;
    bool admin = is_explained(command, &inner, &first) &&
                 looks_at_server(inner.value, first.type == BSON_VIEW_STRING);
    return USER_MAY_READ | (admin ? USER_MAY_ADMIN : 0);
}

const char *access_problem(const struct user *user, const struct command *command,
                           const struct op_msg *msg)
{
    const char *problem = problem_of_form(command);
    if (!problem) {
        problem = problem_of_sequences(msg);
    }
    if (!problem && command->cursor_id == 0 && bytes_equal(command->name, "getMore")) {
        problem = malformed;
    }
    if (!problem && is_about_all_sessions(user, command)) {
        problem = NOT "it is about all users' sessions; killSessions takes the ids of one's own";
    }
    unsigned needed = may_needed(command);
    if (!problem && (user->may & needed) != needed) {
        problem = NOT "it is more than the user may do";
    }
    if (!problem && needed != 0) {
        problem = problem_of_target(user, command, msg);
    }
    return problem;
}

// --- sessions -----------------------------------------------------------------------------------

// {id: UUID}, and nothing else. Points at the id's 16 bytes.
static bool find_session_id(struct bytes lsid, const uint8_t **ret_id)
{
    const size_t uuid_bytes = 4 + 1 + 16;
    struct bson_walk walk;
    struct bson_element id;
    struct bson_element more;
    if (!bson_walk_begin(&walk, lsid) || bson_walk_next(&walk, &id) != BSON_WALK_ELEMENT ||
        !bytes_equal(id.key, "id") || id.type != BSON_VIEW_BINARY || id.value.len != uuid_bytes ||
        id.value.at[4] != 4 || bson_walk_next(&walk, &more) != BSON_WALK_END) {
        return false;
    }
    *ret_id = id.value.at + 5;
    return true;
}

static bool take_session(const struct user *user, struct bytes lsid, uint8_t *message)
{
    const uint8_t *id;
    if (!find_session_id(lsid, &id)) {
        return false;
    }
    user_session_id(user, message + (id - message));
    return true;
}

static bool names_sessions(struct bytes name)
{
    return bytes_equal(name, "endSessions") || bytes_equal(name, "refreshSessions") ||
           bytes_equal(name, "killSessions");
}

bool access_take_sessions(const struct user *user, const struct command *command, uint8_t *message)
{
    struct bson_element element;
    if (bson_find(command->body, "lsid", &element) &&
        (element.type != BSON_VIEW_DOCUMENT || !take_session(user, element.value, message))) {
        return false;
    }
    if (!names_sessions(command->name)) {
        return true;
    }
    char name[16];
    snprintf(name, sizeof name, "%.*s", (int)command->name.len, (const char *)command->name.at);
    struct bson_walk walk;
    if (!bson_find(command->body, name, &element) || element.type != BSON_VIEW_ARRAY ||
        !bson_walk_begin(&walk, element.value)) {
        return false;
    }
    while (bson_walk_next(&walk, &element) == BSON_WALK_ELEMENT) {
        if (element.type != BSON_VIEW_DOCUMENT || !take_session(user, element.value, message)) {
            return false;
        }
    }
    return true;
}
