// SPDX-License-Identifier: Apache-2.0
//
// One walk makes both the number and the text, so that what one tells apart the other does too.
// What a document is decides what its keys mean:
//
//      clause of a command -> filter | keys | tree | update | pipeline | …
//      filter:   $and $or $nor $elemMatch -> filter   $expr -> tree    other keys -> operand
//      operand:  a document of $operators -> as in a filter            anything else -> a value
//      update:   $operators -> filter (fields, operands)               array -> pipeline
//      pipeline: $match -> filter   $sort -> keys   $facet -> pipelines   other stages -> tree
//
// Where order counts the hash of each element is mixed into that of all, elsewhere they are added.

#include "wire/shape.h"

#include "wire/bson_view.h"

#define LEVELS_MAX 12
#define ELEMENTS_MAX 512 // of all documents, with the documents and arrays in arrays
#define ARRAY_ELEMENTS_MAX 32
#define NAME_BYTES_MAX 256
#define LONG_BYTES                                                                                 \
    1024 // of a key, or with it a regular expression: what ends later is not looked at

#define ELLIPSIS "\xe2\x80\xa6"

// --- hashing ------------------------------------------------------------------------------------

// What stands for something that has no name.
enum mark {
    MARK_DOCUMENT = 1,
    MARK_ARRAY,
    MARK_LITERAL,
    MARK_REGEX,
    MARK_DEEP,
    MARK_CUT,
    MARK_END
};

// The factor is the golden ratio; the shift takes its high bits, which depend on all, to the low.
static inline uint64_t mix(uint64_t hash, uint64_t with)
{
    hash = (hash ^ with) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 32;
}

static inline uint64_t load_u32(const uint8_t *at)
{
    return (uint32_t)load_i32(at);
}

// Eight bytes at a time; the last eight may overlap those before.
static inline uint64_t hash_name(uint64_t hash, struct bytes name)
{
    const uint8_t *at = name.at;
    size_t len = name.len < NAME_BYTES_MAX ? name.len : NAME_BYTES_MAX;
    hash = mix(hash, name.len < NAME_BYTES_MAX ? name.len : NAME_BYTES_MAX + MARK_CUT);
    if (len >= 8) {
        for (size_t i = 0; i + 8 < len; i += 8) {
            hash = mix(hash, (uint64_t)load_i64(at + i));
        }
        return mix(hash, (uint64_t)load_i64(at + len - 8));
    }
    if (len >= 4) {
        return mix(hash, load_u32(at) | load_u32(at + len - 4) << 32);
    }
    return len == 0 ? hash
                    : mix(hash, at[0] | (uint64_t)at[len / 2] << 8 | (uint64_t)at[len - 1] << 16);
}

// --- writing ------------------------------------------------------------------------------------

struct text {
    char *at; // NULL: nobody wants it
    size_t room;
    size_t len;
    bool cut;
};

static void put_bytes(struct text *text, const char *bytes, size_t len)
{
    text->cut = text->cut || len > text->room - text->len;
    if (!text->cut) {
        memcpy(text->at + text->len, bytes, len);
        text->len += len;
    }
}

static inline void put(struct text *text, const char *string)
{
    if (text->at) {
        put_bytes(text, string, strlen(string));
    }
}

static bool is_plain(uint8_t byte)
{
    return byte > ' ' && byte < 0x7f && !strchr("{}[],:/%\\\"", byte);
}

static void put_byte(struct text *text, uint8_t byte)
{
    static const char digits[] = "0123456789abcdef";
    char escaped[3] = {'%', digits[byte >> 4], digits[byte & 15]};
    if (is_plain(byte)) {
        put_bytes(text, (const char *)&byte, 1);
    } else {
        put_bytes(text, escaped, sizeof escaped);
    }
}

static inline void put_name(struct text *text, struct bytes name)
{
    if (!text->at) {
        return;
    }
    for (size_t i = 0; i < name.len && i < NAME_BYTES_MAX; i++) {
        put_byte(text, name.at[i]);
    }
    if (name.len >= NAME_BYTES_MAX) {
        put(text, ELLIPSIS);
    }
}

// --- what is what -------------------------------------------------------------------------------

enum part {
    PART_PRESENT,  // only whether it is there
    PART_NAME,     // a string that is a name
    PART_FIRST,    // an array or sequence of statements, of which the first counts
    PART_OPERAND,  // what a field is compared with, or set to
    PART_FILTER,   // what documents must be like, or an array of such
    PART_UPDATE,   // what becomes of documents
    PART_KEYS,     // a sort, an index
    PART_TREE,     // expressions: all keys, on all levels
    PART_PIPELINE, // an array of stages, or one of them
    PART_SOURCE,   // a stage that has a pipeline or a filter in it
    PART_FACETS,   // pipelines by name
};

struct field {
    const char *key;
    size_t len;
    enum part part;
    const struct field *fields; // of a statement
};

#define FIELD(key, part)                                                                           \
    {                                                                                              \
        key, sizeof key - 1, part, NULL                                                            \
    }
#define FIELDS_OF(key, fields)                                                                     \
    {                                                                                              \
        key, sizeof key - 1, PART_FIRST, fields                                                    \
    }
#define END                                                                                        \
    {                                                                                              \
        NULL, 0, PART_PRESENT, NULL                                                                \
    }

static const struct field no_fields[] = {END};

static const struct field filter_fields[] = {
    FIELD("$and", PART_FILTER),       FIELD("$or", PART_FILTER), FIELD("$nor", PART_FILTER),
    FIELD("$elemMatch", PART_FILTER), FIELD("$expr", PART_TREE), END,
};

static const struct field tree_fields[] = {
    FIELD("$literal", PART_PRESENT),
    FIELD("$sort", PART_KEYS),
    FIELD("sortBy", PART_KEYS),
    END,
};

static const struct field stage_fields[] = {
    FIELD("$match", PART_FILTER),       FIELD("$sort", PART_KEYS),
    FIELD("$lookup", PART_SOURCE),      FIELD("$unionWith", PART_SOURCE),
    FIELD("$graphLookup", PART_SOURCE), FIELD("$geoNear", PART_SOURCE),
    FIELD("$facet", PART_FACETS),       END,
};

static const struct field source_fields[] = {
    FIELD("pipeline", PART_PIPELINE),
    FIELD("query", PART_FILTER),
    FIELD("restrictSearchWithMatch", PART_FILTER),
    END,
};

// What the keys of a document mean.
static const struct grammar {
    const struct field *fields;
    enum part others;
    bool ordered;
} grammars[] = {
    [PART_OPERAND] = {filter_fields, PART_OPERAND, false},
    [PART_FILTER] = {filter_fields, PART_OPERAND, false},
    [PART_UPDATE] = {no_fields, PART_FILTER, false},
    [PART_KEYS] = {no_fields, PART_TREE, true},
    [PART_TREE] = {tree_fields, PART_TREE, false},
    [PART_PIPELINE] = {stage_fields, PART_TREE, true},
    [PART_SOURCE] = {source_fields, PART_TREE, false},
    [PART_FACETS] = {no_fields, PART_PIPELINE, false},
};

#define FIND_FIELDS                                                                                \
    FIELD("sort", PART_KEYS), FIELD("hint", PART_KEYS), FIELD("collation", PART_PRESENT),          \
        FIELD("limit", PART_PRESENT), FIELD("skip", PART_PRESENT)

static const struct field find_fields[] = {
    FIELD("filter", PART_FILTER),
    FIELD("projection", PART_TREE),
    FIND_FIELDS,
    END,
};

static const struct field query_fields[] = {
    FIELD("query", PART_FILTER),
    FIND_FIELDS,
    END,
};

static const struct field distinct_fields[] = {
    FIELD("key", PART_NAME),
    FIELD("query", PART_FILTER),
    FIND_FIELDS,
    END,
};

static const struct field aggregate_fields[] = {
    FIELD("pipeline", PART_PIPELINE),
    FIELD("hint", PART_KEYS),
    FIELD("collation", PART_PRESENT),
    END,
};

static const struct field find_and_modify_fields[] = {
    FIELD("query", PART_FILTER),
    FIELD("update", PART_UPDATE),
    FIELD("fields", PART_TREE),
    FIELD("remove", PART_PRESENT),
    FIND_FIELDS,
    END,
};

static const struct field update_statement[] = {
    FIELD("q", PART_FILTER),  FIELD("u", PART_UPDATE),          FIELD("sort", PART_KEYS),
    FIELD("hint", PART_KEYS), FIELD("collation", PART_PRESENT), END,
};

static const struct field delete_statement[] = {
    FIELD("q", PART_FILTER),
    FIELD("hint", PART_KEYS),
    FIELD("collation", PART_PRESENT),
    END,
};

static const struct field bulk_statement[] = {
    FIELD("insert", PART_PRESENT), FIELD("update", PART_PRESENT),    FIELD("delete", PART_PRESENT),
    FIELD("filter", PART_FILTER),  FIELD("updateMods", PART_UPDATE), FIELD("sort", PART_KEYS),
    FIELD("hint", PART_KEYS),      FIELD("collation", PART_PRESENT), END,
};

static const struct field bulk_namespace[] = {FIELD("ns", PART_NAME), END};

static const struct field update_fields[] = {FIELDS_OF("updates", update_statement), END};
static const struct field delete_fields[] = {FIELDS_OF("deletes", delete_statement), END};
static const struct field bulk_fields[] = {
    FIELDS_OF("nsInfo", bulk_namespace),
    FIELDS_OF("ops", bulk_statement),
    END,
};

// The commands of which more counts than name and namespace.
static const struct field commands[] = {
    FIELDS_OF("find", find_fields),
    FIELDS_OF("aggregate", aggregate_fields),
    FIELDS_OF("count", query_fields),
    FIELDS_OF("distinct", distinct_fields),
    FIELDS_OF("update", update_fields),
    FIELDS_OF("delete", delete_fields),
    FIELDS_OF("findAndModify", find_and_modify_fields),
    FIELDS_OF("findandmodify", find_and_modify_fields),
    FIELDS_OF("mapReduce", query_fields),
    FIELDS_OF("mapreduce", query_fields),
    FIELDS_OF("bulkWrite", bulk_fields),
    END,
};

// NULL if it is none of them.
static inline const struct field *find_field(const struct field *fields, struct bytes key)
{
    for (const struct field *field = fields; field->key; field++) {
        if (field->len == key.len && memcmp(field->key, key.at, key.len) == 0) {
            return field;
        }
    }
    return NULL;
}

static inline enum part part_of(const struct grammar *grammar, struct bytes key)
{
    const struct field *field = find_field(grammar->fields, key);
    return field ? field->part : grammar->others;
}

static bool begins_with_operator(struct bytes document)
{
    return document.len > BSON_VIEW_MIN_BYTES && document.at[5] == '$';
}

// --- the walk -----------------------------------------------------------------------------------

struct shaping {
    struct text text;
    int elements_left;
    bool cut;
};

// Whether the next element is one whose end is far to look for.
static inline bool is_long(const struct bson_walk *walk)
{
    if (walk->end - walk->at <= LONG_BYTES) {
        return false;
    }
    const uint8_t *at = walk->at + 1;
    const uint8_t *limit = at + LONG_BYTES;
    int strings = *walk->at == BSON_VIEW_REGEX ? 3 : 1;
    while (at && strings-- > 0) {
        at = memchr(at, 0, (size_t)(limit - at));
        at = at ? at + 1 : NULL;
    }
    return !at;
}

// False: no more, or none that may be looked at.
static inline bool look(struct shaping *shaping, struct bson_walk *walk,
                        struct bson_element *ret_element)
{
    shaping->cut = shaping->cut || is_long(walk);
    return !shaping->cut && bson_walk_next(walk, ret_element) == BSON_WALK_ELEMENT;
}

// Whether one more element may count.
static inline bool spend(struct shaping *shaping)
{
    shaping->cut = shaping->cut || shaping->elements_left == 0;
    shaping->elements_left -= !shaping->cut;
    return !shaping->cut;
}

static inline bool next(struct shaping *shaping, struct bson_walk *walk,
                        struct bson_element *ret_element)
{
    return look(shaping, walk, ret_element) && spend(shaping);
}

static uint64_t shape_value(struct shaping *shaping, const struct bson_element *element,
                            enum part part, int level, const char *before);

static uint64_t marked(struct shaping *shaping, const char *before, const char *text,
                       enum mark mark)
{
    put(&shaping->text, before);
    put(&shaping->text, text);
    return mark;
}

static uint64_t shape_document(struct shaping *shaping, struct bytes document, enum part part,
                               int level)
{
    const struct grammar *grammar = &grammars[part];
    struct bson_walk walk;
    struct bson_element element;
    const char *separator = "";
    uint64_t hash = MARK_DOCUMENT;
    put(&shaping->text, "{");
    bool sound = bson_walk_begin(&walk, document);
    while (sound && next(shaping, &walk, &element)) {
        put(&shaping->text, separator);
        separator = ", ";
        put_name(&shaping->text, element.key);
        enum part inner = part_of(grammar, element.key);
        uint64_t one = hash_name(MARK_DOCUMENT, element.key);
        one = mix(one, shape_value(shaping, &element, inner, level + 1, ":"));
        hash = grammar->ordered ? mix(hash, one) : hash + one;
    }
    put(&shaping->text, "}");
    return mix(hash, MARK_END);
}

// The next one that has structure, of those that are looked at.
static bool next_inner(struct shaping *shaping, struct bson_walk *walk, int *looked_at,
                       struct bson_element *ret_element)
{
    while ((*looked_at)++ < ARRAY_ELEMENTS_MAX && look(shaping, walk, ret_element)) {
        if (ret_element->type == BSON_VIEW_DOCUMENT || ret_element->type == BSON_VIEW_ARRAY) {
            return spend(shaping);
        }
    }
    return false;
}

// What is like the one before it does not count, unless it is a stage.
static uint64_t shape_array(struct shaping *shaping, struct bytes array, enum part part, int level)
{
    struct bson_walk walk;
    struct bson_element element;
    const char *separator = "";
    int looked_at = 0;
    uint64_t hash = MARK_ARRAY;
    uint64_t previous = 0;
    put(&shaping->text, "[");
    bool sound = bson_walk_begin(&walk, array);
    while (sound && next_inner(shaping, &walk, &looked_at, &element)) {
        struct text before = shaping->text;
        uint64_t one = shape_value(shaping, &element, part, level + 1, separator);
        if (one == previous && part != PART_PIPELINE) {
            shaping->text = before;
            continue;
        }
        hash = mix(hash, one);
        previous = one;
        separator = ", ";
    }
    put(&shaping->text, "]");
    return mix(hash, MARK_END);
}

static uint64_t shape_inner(struct shaping *shaping, const struct bson_element *element,
                            enum part part, int level, const char *before)
{
    bool array = element->type == BSON_VIEW_ARRAY;
    bool takes_operators = part == PART_OPERAND || part == PART_UPDATE;
    if (array && part == PART_OPERAND) {
        return marked(shaping, before, "[]", MARK_ARRAY);
    }
    if (!array && takes_operators && !begins_with_operator(element->value)) {
        return marked(shaping, before, "{}", MARK_LITERAL);
    }
    if (level >= LEVELS_MAX) {
        return marked(shaping, before, ELLIPSIS, MARK_DEEP);
    }
    put(&shaping->text, before);
    if (!array) {
        return shape_document(shaping, element->value, part, level);
    }
    part = part == PART_UPDATE ? PART_PIPELINE : part;
    return shape_array(shaping, element->value, part, level);
}

// 0 for what has no structure; else `before` is written before it.
static uint64_t shape_value(struct shaping *shaping, const struct bson_element *element,
                            enum part part, int level, const char *before)
{
    if (part == PART_PRESENT) {
        return 0;
    }
    switch (element->type) {
    case BSON_VIEW_DOCUMENT:
    case BSON_VIEW_ARRAY:
        return shape_inner(shaping, element, part, level, before);
    case BSON_VIEW_REGEX:
        return marked(shaping, before, "//", MARK_REGEX);
    default:
        return 0;
    }
}

// --- the command --------------------------------------------------------------------------------

static uint64_t shape_name(struct shaping *shaping, const struct bson_element *element)
{
    struct bytes name;
    if (!bson_element_text(element, &name)) {
        return 0;
    }
    put(&shaping->text, ":");
    put_name(&shaping->text, name);
    return hash_name(0, name);
}

// Filters and pipelines are known by their looks.
static uint64_t shape_clause(struct shaping *shaping, const struct field *field,
                             const struct bson_element *element)
{
    uint64_t hash = hash_name(0, element->key);
    if (field->part == PART_FILTER || field->part == PART_PIPELINE) {
        return mix(hash, shape_value(shaping, element, field->part, 1, " "));
    }
    put(&shaping->text, " ");
    put(&shaping->text, field->key);
    return mix(hash, field->part == PART_NAME ? shape_name(shaping, element)
                                              : shape_value(shaping, element, field->part, 1, ""));
}

// Adds up those fields of a document that count.
static uint64_t shape_clauses(struct shaping *shaping, struct bytes document,
                              const struct field *fields);

static uint64_t shape_first(struct shaping *shaping, const struct field *field, struct bytes array)
{
    struct bson_walk walk;
    struct bson_element first;
    bool found = bson_walk_begin(&walk, array) && next(shaping, &walk, &first) &&
                 first.type == BSON_VIEW_DOCUMENT;
    return found ? shape_clauses(shaping, first.value, field->fields) : 0;
}

static uint64_t shape_clauses(struct shaping *shaping, struct bytes document,
                              const struct field *fields)
{
    struct bson_walk walk;
    struct bson_element element;
    uint64_t sum = 0;
    if (!bson_walk_begin(&walk, document)) {
        return 0;
    }
    while (next(shaping, &walk, &element)) {
        const struct field *field = find_field(fields, element.key);
        if (field && field->part != PART_FIRST) {
            sum += shape_clause(shaping, field, &element);
        } else if (field && element.type == BSON_VIEW_ARRAY) {
            sum += shape_first(shaping, field, element.value);
        }
    }
    return sum;
}

static uint64_t shape_sequences(struct shaping *shaping, const struct op_msg *msg,
                                const struct field *fields)
{
    uint64_t sum = 0;
    for (int i = 0; i < msg->sequence_count; i++) {
        const struct field *field = find_field(fields, msg->sequences[i].name);
        struct bytes documents = msg->sequences[i].documents;
        struct bytes first;
        if (field && field->part == PART_FIRST && bson_take(&documents, &first) == WIRE_OK) {
            sum += shape_clauses(shaping, first, field->fields);
        }
    }
    return sum;
}

static uint64_t shape_namespace(struct shaping *shaping, const struct command *command)
{
    struct text *text = &shaping->text;
    put_name(text, command->name);
    put(text, " ");
    put_name(text, command->database);
    put(text, command->collection.len > 0 ? "." : "");
    put_name(text, command->collection);
    uint64_t hash = hash_name(hash_name(0, command->name), command->database);
    return hash_name(hash, command->collection);
}

static uint64_t shape_command(struct shaping *shaping, const struct op_msg *msg,
                              const struct command *command)
{
    uint64_t hash = shape_namespace(shaping, command);
    const struct field *known = find_field(commands, command->name);
    if (known) {
        uint64_t clauses = shape_clauses(shaping, command->body, known->fields);
        hash = mix(hash, clauses + shape_sequences(shaping, msg, known->fields));
    }
    return shaping->cut ? mix(hash, MARK_CUT) : hash;
}

uint64_t shape_id(const struct op_msg *msg, const struct command *command)
{
    struct shaping shaping = {.elements_left = ELEMENTS_MAX};
    return shape_command(&shaping, msg, command);
}

size_t shape_text(const struct op_msg *msg, const struct command *command, char *out,
                  size_t capacity)
{
    const size_t spare = sizeof ELLIPSIS; // with the NUL
    if (capacity < spare) {
        memset(out, 0, capacity);
        return 0;
    }
    struct shaping shaping = {
        .text = {.at = out, .room = capacity - spare},
        .elements_left = ELEMENTS_MAX,
    };
    shape_command(&shaping, msg, command);
    size_t len = shaping.text.len;
    if (shaping.cut || shaping.text.cut) {
        memcpy(out + len, ELLIPSIS, spare - 1);
        len += spare - 1;
    }
    out[len] = '\0';
    return len;
}
