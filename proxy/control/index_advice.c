// SPDX-License-Identifier: Apache-2.0
//
// A shape's text is read back into the command that it was made of, with null for each value, so
// that there is one reader for both.
#include "proxy/control/index_advice.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
    LEVELS_MAX = 16,
    IN_SORTED_MAX = 200, // up to so many values of $in a server merges in the order of a sort
};

// --- keys ---------------------------------------------------------------------------------------

static int keys_find(const struct index_keys *keys, const char *name)
{
    for (int i = 0; i < keys->count; i++) {
        if (strcmp(keys->key[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

// False: there is no room, or the name has none.
static bool keys_add(struct index_keys *keys, const char *name, int direction)
{
    if (keys_find(keys, name) >= 0) {
        return true;
    }
    if (keys->count == INDEX_KEYS_MAX || strlen(name) >= INDEX_NAME_BYTES) {
        return false;
    }
    struct index_key *key = &keys->key[keys->count++];
    snprintf(key->name, sizeof key->name, "%s", name);
    key->direction = direction;
    return true;
}

static int read_direction(const bson_iter_t *value)
{
    if (BSON_ITER_HOLDS_UTF8(value)) {
        return strcmp(bson_iter_utf8(value, NULL), "hashed") == 0 ? INDEX_HASHED : INDEX_SPECIAL;
    }
    return BSON_ITER_HOLDS_NUMBER(value) && bson_iter_as_double(value) < 0 ? -1 : 1;
}

bool index_keys_read(const bson_iter_t *key, struct index_keys *ret_keys)
{
    bson_iter_t field;
    ret_keys->count = 0;
    if (!BSON_ITER_HOLDS_DOCUMENT(key) || !bson_iter_recurse(key, &field)) {
        return false;
    }
    bool read = true;
    while (read && bson_iter_next(&field)) {
        read = keys_add(ret_keys, bson_iter_key(&field), read_direction(&field));
    }
    return read && ret_keys->count > 0;
}

static bool is_plain_name(const char *name)
{
    bool plain = *name != '\0' && !isdigit((unsigned char)*name);
    for (; *name != '\0'; name++) {
        plain = plain && (isalnum((unsigned char)*name) || *name == '_' || *name == '$');
    }
    return plain;
}

// Where text is printed to: all that was said is counted, and what there is room for is there.
struct printout {
    char *text;
    size_t capacity;
    size_t used;
};

__attribute__((format(printf, 2, 3))) static void print(struct printout *out, const char *format,
                                                        ...)
{
    bool room = out->used < out->capacity;
    va_list arguments;
    va_start(arguments, format);
    out->used += (size_t)vsnprintf(room ? out->text + out->used : NULL,
                                   room ? out->capacity - out->used : 0, format, arguments);
    va_end(arguments);
}

// Names are anybody's, and this is to be typed into a shell.
static void print_quoted(struct printout *out, const char *name, size_t len)
{
    print(out, "\"");
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)name[i];
        if (c < ' ' || c == 0x7f) {
            print(out, "\\x%02x", c);
        } else {
            print(out, "%s%c", c == '"' || c == '\\' ? "\\" : "", c);
        }
    }
    print(out, "\"");
}

static void print_keys(struct printout *out, const struct index_keys *keys)
{
    print(out, "{");
    for (int i = 0; i < keys->count; i++) {
        const struct index_key *key = &keys->key[i];
        print(out, "%s", i > 0 ? ", " : "");
        if (is_plain_name(key->name)) {
            print(out, "%s", key->name);
        } else {
            print_quoted(out, key->name, strlen(key->name));
        }
        print(out, ": %s",
              key->direction == 1              ? "1"
              : key->direction == -1           ? "-1"
              : key->direction == INDEX_HASHED ? "\"hashed\""
                                               : "\"special\"");
    }
    print(out, "}");
}

void index_keys_print(const struct index_keys *keys, char *ret_text, size_t capacity)
{
    struct printout out = {ret_text, capacity, 0};
    print_keys(&out, keys);
}

// db.getSiblingDB("shop").getCollection("orders"); false: there is no such namespace.
static bool print_collection(struct printout *out, const char *ns)
{
    const char *dot = strchr(ns, '.');
    if (dot) {
        print(out, "db.getSiblingDB(");
        print_quoted(out, ns, (size_t)(dot - ns));
        print(out, ").getCollection(");
        print_quoted(out, dot + 1, strlen(dot + 1));
        print(out, ")");
    }
    return dot != NULL;
}

bool index_command_print(const char *ns, const struct index_keys *keys, char *ret_text,
                         size_t capacity)
{
    struct printout out = {ret_text, capacity, 0};
    bool named = print_collection(&out, ns);
    print(&out, ".createIndex(");
    print_keys(&out, keys);
    print(&out, ")");
    bool whole = named && out.used < capacity;
    ret_text[0] = whole ? ret_text[0] : '\0';
    return whole;
}

// --- a command ----------------------------------------------------------------------------------

enum use { USE_NOTHING, USE_EQUALITY, USE_RANGE, USE_IN, USE_INNER, USE_SPECIAL };

// What an operator asks of an index. $ne, $nin, $not, $exists, $size, $mod, $type: an index on
// these alone hardly narrows anything.
static enum use use_of(const char *operator)
{
    static const struct {
        const char *name;
        enum use use;
    } uses[] = {
        {"$eq", USE_EQUALITY},
        {"$in", USE_IN},
        {"$all", USE_EQUALITY},
        {"$gt", USE_RANGE},
        {"$gte", USE_RANGE},
        {"$lt", USE_RANGE},
        {"$lte", USE_RANGE},
        {"$regex", USE_RANGE},
        {"$elemMatch", USE_INNER},
        {"$near", USE_SPECIAL},
        {"$nearSphere", USE_SPECIAL},
        {"$geoWithin", USE_SPECIAL},
        {"$geoIntersects", USE_SPECIAL},
    };
    for (size_t i = 0; i < sizeof uses / sizeof uses[0]; i++) {
        if (strcmp(uses[i].name, operator) == 0) {
            return uses[i].use;
        }
    }
    return USE_NOTHING;
}

static void read_filter(const bson_iter_t *filter, const char *prefix, int level,
                        struct query_needs *needs);

static void need(struct query_needs *needs, struct index_keys *keys, const char *name)
{
    if (!keys_add(keys, name, 1)) {
        needs->incomplete = true;
    }
}

static int count_elements(const bson_iter_t *array)
{
    bson_iter_t element;
    int count = 0;
    if (BSON_ITER_HOLDS_ARRAY(array) && bson_iter_recurse(array, &element)) {
        while (bson_iter_next(&element)) {
            count++;
        }
    }
    return count;
}

static void read_operator(const bson_iter_t *operator, const char * name, int level,
                          struct query_needs *needs)
{
    bool few;
    switch (use_of(bson_iter_key(operator))) {
    case USE_EQUALITY:
        need(needs, &needs->equality, name);
        break;
    case USE_RANGE:
        need(needs, &needs->range, name);
        break;
    case USE_IN:
        few = count_elements(operator) <= IN_SORTED_MAX;
        need(needs, few ? &needs->equality : &needs->range, name);
        break;
    case USE_INNER:
        read_filter(operator, name, level + 1, needs);
        break;
    case USE_SPECIAL:
        needs->special = true;
        break;
    case USE_NOTHING:
        break;
    }
}

// What a field is compared with: a document of operators, or a value.
static void read_operand(const bson_iter_t *field, const char *name, int level,
                         struct query_needs *needs)
{
    bson_iter_t inner;
    bool operators = BSON_ITER_HOLDS_DOCUMENT(field) && bson_iter_recurse(field, &inner) &&
                     bson_iter_next(&inner) && bson_iter_key(&inner)[0] == '$';
    if (BSON_ITER_HOLDS_REGEX(field)) {
        need(needs, &needs->range, name);
    } else if (!operators) {
        need(needs, &needs->equality, name);
    } else {
        do {
            read_operator(&inner, name, level, needs);
        } while (bson_iter_next(&inner));
    }
}

// An array of filters that all must hold.
static void read_all(const bson_iter_t *array, const char *prefix, int level,
                     struct query_needs *needs)
{
    bson_iter_t element;
    if (BSON_ITER_HOLDS_ARRAY(array) && bson_iter_recurse(array, &element)) {
        while (bson_iter_next(&element)) {
            read_filter(&element, prefix, level + 1, needs);
        }
    }
}

static void read_condition(const bson_iter_t *field, const char *prefix, int level,
                           struct query_needs *needs)
{
    const char *key = bson_iter_key(field);
    char name[INDEX_NAME_BYTES];
    bool alternatives = strcmp(key, "$or") == 0 && count_elements(field) != 1;
    if (strcmp(key, "$and") == 0 || (strcmp(key, "$or") == 0 && !alternatives)) {
        read_all(field, prefix, level, needs);
    } else if (alternatives) {
        needs->alternatives = true;
    } else if (strcmp(key, "$text") == 0) {
        needs->special = true;
    } else if (key[0] == '$') { // {$elemMatch: {$gt: 3}}: of the array's elements themselves
        read_operator(field, prefix, level, needs);
    } else if (snprintf(name, sizeof name, "%s%s%s", prefix, prefix[0] ? "." : "", key) <
               (int)sizeof name) {
        read_operand(field, name, level, needs);
    } else {
        needs->incomplete = true;
    }
}

static void read_filter(const bson_iter_t *filter, const char *prefix, int level,
                        struct query_needs *needs)
{
    bson_iter_t field;
    if (level >= LEVELS_MAX) {
        needs->incomplete = true;
    } else if (BSON_ITER_HOLDS_DOCUMENT(filter) && bson_iter_recurse(filter, &field)) {
        while (bson_iter_next(&field)) {
            read_condition(&field, prefix, level, needs);
        }
    }
}

static void read_sort(const bson_iter_t *sort, struct query_needs *needs)
{
    bson_iter_t field;
    if (!BSON_ITER_HOLDS_DOCUMENT(sort) || !bson_iter_recurse(sort, &field)) {
        return;
    }
    while (bson_iter_next(&field)) {
        if (BSON_ITER_HOLDS_DOCUMENT(&field)) { // {$meta: "textScore"}
            needs->special = true;
            continue;
        }
        needs->directions_known &= !BSON_ITER_HOLDS_NULL(&field);
        needs->incomplete |= !keys_add(&needs->sort, bson_iter_key(&field), read_direction(&field));
    }
}

// Stages that leave documents, and their order, as they are.
static bool lets_pass(const char *stage)
{
    return strcmp(stage, "$addFields") == 0 || strcmp(stage, "$set") == 0 ||
           strcmp(stage, "$project") == 0 || strcmp(stage, "$unset") == 0;
}

// What comes before the first stage that makes something else of the documents.
static void read_pipeline(const bson_iter_t *pipeline, struct query_needs *needs)
{
    bson_iter_t element;
    bson_iter_t stage;
    bool go_on = BSON_ITER_HOLDS_ARRAY(pipeline) && bson_iter_recurse(pipeline, &element);
    bool as_stored = true; // no stage has named fields anew
    while (go_on && bson_iter_next(&element)) {
        go_on = BSON_ITER_HOLDS_DOCUMENT(&element) && bson_iter_recurse(&element, &stage) &&
                bson_iter_next(&stage);
        const char *name = go_on ? bson_iter_key(&stage) : "";
        if (strcmp(name, "$match") == 0 && as_stored && needs->sort.count == 0) {
            read_filter(&stage, "", 0, needs);
        } else if (strcmp(name, "$sort") == 0 && as_stored && needs->sort.count == 0) {
            read_sort(&stage, needs);
        } else {
            needs->special |= strcmp(name, "$geoNear") == 0 || strcmp(name, "$search") == 0;
            go_on = lets_pass(name);
            as_stored = false;
        }
    }
}

static void read_clauses(bson_iter_t *clause, int level, struct query_needs *needs);

// The first of an update's or delete's statements.
static void read_statements(const bson_iter_t *array, int level, struct query_needs *needs)
{
    bson_iter_t statement;
    bson_iter_t clause;
    if (level == 0 && BSON_ITER_HOLDS_ARRAY(array) && bson_iter_recurse(array, &statement) &&
        bson_iter_next(&statement) && BSON_ITER_HOLDS_DOCUMENT(&statement) &&
        bson_iter_recurse(&statement, &clause)) {
        read_clauses(&clause, level + 1, needs);
    }
}

static void read_clauses(bson_iter_t *clause, int level, struct query_needs *needs)
{
    while (bson_iter_next(clause)) {
        const char *key = bson_iter_key(clause);
        if (strcmp(key, "filter") == 0 || strcmp(key, "query") == 0 || strcmp(key, "q") == 0) {
            read_filter(clause, "", 0, needs);
        } else if (strcmp(key, "sort") == 0) {
            read_sort(clause, needs);
        } else if (strcmp(key, "pipeline") == 0) {
            read_pipeline(clause, needs);
        } else if (strcmp(key, "updates") == 0 || strcmp(key, "deletes") == 0) {
            read_statements(clause, level, needs);
        } else if (key[0] == '$' && strcmp(key, "$truncated") == 0) {
            needs->incomplete = true;
        }
    }
}

bool query_needs_of_command(const bson_t *command, struct query_needs *ret_needs)
{
    bson_iter_t clause;
    memset(ret_needs, 0, sizeof *ret_needs);
    ret_needs->directions_known = true;
    if (bson_iter_init(&clause, command)) {
        read_clauses(&clause, 0, ret_needs);
    }
    return ret_needs->equality.count + ret_needs->sort.count + ret_needs->range.count > 0;
}

// --- a shape ------------------------------------------------------------------------------------

// One that cannot be read further than its end is at its end.
struct reader {
    const char *at;
    bool failed;
};

static bool reader_take(struct reader *reader, char c)
{
    bool there = !reader->failed && *reader->at == c;
    reader->at += there;
    return there;
}

static int digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c == '\0' ? NULL : strchr(digits, c);
    return at == NULL ? -1 : (int)(at - digits);
}

// A name up to what ends it, with its escapes undone.
static void read_name(struct reader *reader, const char *ends, char *ret_name, size_t capacity)
{
    size_t used = 0;
    while (!reader->failed && *reader->at != '\0' && !strchr(ends, *reader->at)) {
        int high = *reader->at == '%' ? digit(reader->at[1]) : -1;
        int low = high >= 0 ? digit(reader->at[2]) : -1;
        char byte = (char)(low >= 0 ? high << 4 | low : *reader->at);
        reader->at += low >= 0 ? 3 : 1;
        reader->failed = used + 1 >= capacity || byte == '\0';
        ret_name[used] = byte;
        used += !reader->failed;
    }
    ret_name[used] = '\0';
}

static void read_value(struct reader *reader, bson_t *into, const char *key, int level);

static void read_document(struct reader *reader, bson_t *into, int level)
{
    char name[256];
    while (!reader->failed && !reader_take(reader, '}')) {
        read_name(reader, "{}[],: ", name, sizeof name);
        reader->failed |= *reader->at == '\0';
        read_value(reader, into, name, level);
        if (reader_take(reader, ',')) {
            reader->failed |= !reader_take(reader, ' ');
        } else {
            reader->failed |= *reader->at != '}';
        }
    }
}

static void read_array(struct reader *reader, bson_t *into, int level)
{
    char key[16];
    const char *text;
    for (uint32_t i = 0; !reader->failed && !reader_take(reader, ']'); i++) {
        bson_uint32_to_string(i, &text, key, sizeof key);
        reader->failed |= *reader->at != '{' && *reader->at != '[';
        read_value(reader, into, text, level);
        if (reader_take(reader, ',')) {
            reader->failed |= !reader_take(reader, ' ');
        } else {
            reader->failed |= *reader->at != ']';
        }
    }
}

// What follows a key: ":{…}", ":[…]", "://", ":name", "{…}" or nothing, which is null.
static void read_value(struct reader *reader, bson_t *into, const char *key, int level)
{
    bson_t inner;
    char name[256];
    bool colon = reader_take(reader, ':');
    reader->failed |= level >= LEVELS_MAX;
    if (reader->failed) {
        return;
    }
    if (reader_take(reader, '{')) {
        BSON_APPEND_DOCUMENT_BEGIN(into, key, &inner);
        read_document(reader, &inner, level + 1);
        bson_append_document_end(into, &inner);
    } else if (reader_take(reader, '[')) {
        BSON_APPEND_ARRAY_BEGIN(into, key, &inner);
        read_array(reader, &inner, level + 1);
        bson_append_array_end(into, &inner);
    } else if (colon && strncmp(reader->at, "//", 2) == 0) {
        reader->at += 2;
        BSON_APPEND_REGEX(into, key, "", "");
    } else {
        if (colon) {
            read_name(reader, "{}[],: ", name, sizeof name);
        }
        BSON_APPEND_NULL(into, key);
    }
}

static void read_shape_clauses(struct reader *reader, bson_t *command)
{
    char name[64];
    while (!reader->failed && reader_take(reader, ' ')) {
        if (*reader->at == '{') {
            read_value(reader, command, "filter", 0);
        } else if (*reader->at == '[') {
            read_value(reader, command, "pipeline", 0);
        } else {
            read_name(reader, "{}[],: ", name, sizeof name);
            read_value(reader, command, name, 0);
        }
    }
    reader->failed |= *reader->at != '\0'; // the ellipsis, where a text was cut
}

bool query_needs_of_shape(const char *shape, struct query_needs *ret_needs, char *ret_namespace,
                          size_t capacity)
{
    struct reader reader = {.at = shape};
    bson_t command = BSON_INITIALIZER;
    char name[64];
    char namespace[256];
    read_name(&reader, " ", name, sizeof name);
    reader_take(&reader, ' ');
    read_name(&reader, " ", namespace, sizeof namespace);
    if (ret_namespace) {
        snprintf(ret_namespace, capacity, "%s", namespace);
    }
    read_shape_clauses(&reader, &command);
    bool any = query_needs_of_command(&command, ret_needs);
    ret_needs->incomplete |= reader.failed;
    bson_destroy(&command);
    return any;
}

// --- the index ----------------------------------------------------------------------------------

// The sort's keys that equality does not settle.
static void sort_left(const struct query_needs *needs, struct index_keys *ret_sort)
{
    ret_sort->count = 0;
    for (int i = 0; i < needs->sort.count; i++) {
        const struct index_key *key = &needs->sort.key[i];
        if (keys_find(&needs->equality, key->name) < 0) {
            ret_sort->key[ret_sort->count++] = *key;
        }
    }
}

void index_for(const struct query_needs *needs, struct index_keys *ret_keys)
{
    struct index_keys sort;
    ret_keys->count = 0;
    if (keys_find(&needs->equality, "_id") >= 0 || needs->special) {
        return;
    }
    sort_left(needs, &sort);
    const struct index_keys *parts[] = {&needs->equality, &sort, &needs->range};
    for (size_t part = 0; part < 3; part++) {
        for (int i = 0; i < parts[part]->count; i++) {
            keys_add(ret_keys, parts[part]->key[i].name, parts[part]->key[i].direction);
        }
    }
}

// How many of an index's first keys are compared by equality.
static int equal_keys(const struct index_keys *index, const struct query_needs *needs)
{
    int count = 0;
    while (count < index->count && index->key[count].direction != INDEX_SPECIAL &&
           keys_find(&needs->equality, index->key[count].name) >= 0) {
        count++;
    }
    return count;
}

static bool is_ordered(const struct index_key *key)
{
    return key->direction == 1 || key->direction == -1;
}

// Whether from a place on an index has the order of a sort, forwards or backwards.
static bool has_order(const struct index_keys *index, int from, const struct index_keys *sort,
                      bool directions_known)
{
    int turn = 0;
    for (int i = 0; i < sort->count; i++) {
        const struct index_key *key = &index->key[from + i];
        if (from + i >= index->count || !is_ordered(key) ||
            strcmp(key->name, sort->key[i].name) != 0) {
            return false;
        }
        int this_turn = key->direction * sort->key[i].direction;
        if (directions_known && turn != 0 && this_turn != turn) {
            return false;
        }
        turn = this_turn;
    }
    return true;
}

static bool has_ranges(const struct index_keys *index, const struct query_needs *needs)
{
    for (int i = 0; i < needs->range.count; i++) {
        int at = keys_find(index, needs->range.key[i].name);
        bool settled = keys_find(&needs->equality, needs->range.key[i].name) >= 0;
        if (!settled && (at < 0 || !is_ordered(&index->key[at]))) {
            return false;
        }
    }
    return true;
}

// {"$**": 1}: of any field, but of one at a time.
static bool is_wildcard(const struct index_keys *index)
{
    return index->count > 0 && strstr(index->key[0].name, "$**") != NULL;
}

// All of equality's keys must come first, in any order; the sort's in its own; ranges anywhere
// after, as an index is also looked through.
enum index_fit index_fit(const struct index_keys *index, const struct query_needs *needs)
{
    struct index_keys sort;
    sort_left(needs, &sort);
    int equal = equal_keys(index, needs);
    if (equal == needs->equality.count && has_order(index, equal, &sort, needs->directions_known) &&
        has_ranges(index, needs)) {
        return INDEX_SERVES;
    }
    bool ordered = sort.count > 0 && has_order(index, 0, &sort, needs->directions_known);
    bool ranged = index->count > 0 && is_ordered(&index->key[0]) &&
                  keys_find(&needs->range, index->key[0].name) >= 0;
    return equal > 0 || ordered || ranged || is_wildcard(index) ? INDEX_NARROWS : INDEX_FITS_NOT;
}

bool index_is_prefix(const struct index_keys *shorter, const struct index_keys *longer)
{
    if (shorter->count >= longer->count) {
        return false;
    }
    for (int i = 0; i < shorter->count; i++) {
        if (strcmp(shorter->key[i].name, longer->key[i].name) != 0 ||
            shorter->key[i].direction != longer->key[i].direction) {
            return false;
        }
    }
    return true;
}

// --- explaining ---------------------------------------------------------------------------------

bool explain_command_print(const char *shape, char *ret_text, size_t capacity)
{
    static const char *const calls[][2] = {
        {"find", "find(FILTER)"},
        {"count", "count(FILTER)"},
        {"distinct", "distinct(FIELD, FILTER)"},
        {"aggregate", "aggregate(PIPELINE)"},
        {"update", "update(FILTER, UPDATE)"},
        {"delete", "remove(FILTER)"},
        {"findAndModify", "findAndModify({query: FILTER, update: UPDATE})"},
    };
    struct printout out = {ret_text, capacity, 0};
    struct query_needs needs;
    char ns[INDEX_TEXT_BYTES] = "";
    size_t word = strcspn(shape, " ");
    bool printed = false;
    ret_text[0] = '\0';
    (void)query_needs_of_shape(shape, &needs, ns, sizeof ns);
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        if (strlen(calls[i][0]) == word && strncmp(calls[i][0], shape, word) == 0) {
            printed = print_collection(&out, ns);
            print(&out, ".explain(\"executionStats\").%s", calls[i][1]);
        }
    }
    bool whole = printed && out.used < capacity;
    ret_text[0] = whole ? ret_text[0] : '\0';
    return whole;
}
