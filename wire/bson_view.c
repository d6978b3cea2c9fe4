// SPDX-License-Identifier: Apache-2.0

#include "wire/bson_view.h"

#include "wire/bson_extent.h"

const struct bson_extent bson_extents[256] = {
    [BSON_VIEW_DOUBLE] = {BSON_EXTENT_FIXED, 8, 0},
    [BSON_VIEW_STRING] = {BSON_EXTENT_PREFIXED, 4, 1},
    [BSON_VIEW_DOCUMENT] = {BSON_EXTENT_PREFIXED, 0, BSON_VIEW_MIN_BYTES},
    [BSON_VIEW_ARRAY] = {BSON_EXTENT_PREFIXED, 0, BSON_VIEW_MIN_BYTES},
    [BSON_VIEW_BINARY] = {BSON_EXTENT_PREFIXED, 4 + 1, 0},
    [BSON_VIEW_UNDEFINED] = {BSON_EXTENT_FIXED, 0, 0},
    [BSON_VIEW_OBJECT_ID] = {BSON_EXTENT_FIXED, 12, 0},
    [BSON_VIEW_BOOL] = {BSON_EXTENT_FIXED, 1, 0},
    [BSON_VIEW_DATE] = {BSON_EXTENT_FIXED, 8, 0},
    [BSON_VIEW_NULL] = {BSON_EXTENT_FIXED, 0, 0},
    [BSON_VIEW_REGEX] = {BSON_EXTENT_REGEX, 0, 0},
    [BSON_VIEW_DB_POINTER] = {BSON_EXTENT_PREFIXED, 4 + 12, 1},
    [BSON_VIEW_CODE] = {BSON_EXTENT_PREFIXED, 4, 1},
    [BSON_VIEW_SYMBOL] = {BSON_EXTENT_PREFIXED, 4, 1},
    [BSON_VIEW_CODE_WITH_SCOPE] = {BSON_EXTENT_PREFIXED, 0, 4 + 4 + 1 + BSON_VIEW_MIN_BYTES},
    [BSON_VIEW_INT32] = {BSON_EXTENT_FIXED, 4, 0},
    [BSON_VIEW_TIMESTAMP] = {BSON_EXTENT_FIXED, 8, 0},
    [BSON_VIEW_INT64] = {BSON_EXTENT_FIXED, 8, 0},
    [BSON_VIEW_DECIMAL128] = {BSON_EXTENT_FIXED, 16, 0},
    [BSON_VIEW_MAX_KEY] = {BSON_EXTENT_FIXED, 0, 0},
    [BSON_VIEW_MIN_KEY] = {BSON_EXTENT_FIXED, 0, 0},
};

static bool walk_begin(struct bson_walk *walk, struct bytes document)
{
    if (document.len < BSON_VIEW_MIN_BYTES || document.len > INT32_MAX ||
        load_i32(document.at) != (int32_t)document.len || document.at[document.len - 1] != 0) {
        return false;
    }
    walk->at = document.at + 4;
    walk->end = document.at + document.len - 1;
    return true;
}

bool bson_walk_begin(struct bson_walk *walk, struct bytes document)
{
    return walk_begin(walk, document);
}

// The string at `at` ends in a NUL before `end`. Returns that NUL or NULL.
static const uint8_t *string_end(const uint8_t *at, const uint8_t *end)
{
    return memchr(at, 0, (size_t)(end - at));
}

static const uint8_t *regex_end(const uint8_t *at, const uint8_t *end)
{
    const uint8_t *pattern_end = string_end(at, end);
    const uint8_t *options_end = pattern_end ? string_end(pattern_end + 1, end) : NULL;
    return options_end ? options_end + 1 : NULL;
}

// Where the value at `at` ends: at most at `end`, or NULL, also if its type is unknown.
static inline const uint8_t *value_end(uint8_t type, const uint8_t *at, const uint8_t *end)
{
    const struct bson_extent *extent = &bson_extents[type];
    size_t room = (size_t)(end - at);
    size_t len = extent->bytes;
    if (extent->kind == BSON_EXTENT_PREFIXED) {
        len = room < 4 ? 0 : bson_extent_prefixed(extent, load_i32(at));
        return len == 0 || len > room ? NULL : at + len;
    }
    if (extent->kind == BSON_EXTENT_FIXED) {
        return len > room ? NULL : at + len;
    }
    return extent->kind == BSON_EXTENT_REGEX ? regex_end(at, end) : NULL;
}

static inline enum bson_walk_status walk_next(struct bson_walk *walk,
                                              struct bson_element *ret_element)
{
    if (walk->at == walk->end) {
        return BSON_WALK_END;
    }
    const uint8_t *key = walk->at + 1;
    const uint8_t *key_end = string_end(key, walk->end);
    if (!key_end) {
        return BSON_WALK_BAD;
    }
    const uint8_t *value = key_end + 1;
    const uint8_t *next = value_end(*walk->at, value, walk->end);
    if (!next) {
        return BSON_WALK_BAD;
    }
    *ret_element = (struct bson_element){
        .type = *walk->at,
        .key = {key, (size_t)(key_end - key)},
        .value = {value, (size_t)(next - value)},
    };
    walk->at = next;
    return BSON_WALK_ELEMENT;
}

enum bson_walk_status bson_walk_next(struct bson_walk *walk, struct bson_element *ret_element)
{
    return walk_next(walk, ret_element);
}

enum wire_error bson_take(struct bytes *rest, struct bytes *ret_document)
{
    if (rest->len < 4) {
        return WIRE_TRUNCATED;
    }
    int32_t len = load_i32(rest->at);
    if (len < BSON_VIEW_MIN_BYTES) {
        return WIRE_BAD_BSON;
    }
    if ((size_t)len > rest->len) {
        return WIRE_TRUNCATED;
    }
    *ret_document = bytes_take(rest, (size_t)len);
    return WIRE_OK;
}

// Of an old binary (subtype 2) the data are a length once more, and what it counts.
static bool binary_is_sound(struct bytes value)
{
    return value.at[4] != 2 ||
           (value.len >= 9 && (size_t)(uint32_t)load_i32(value.at + 5) == value.len - 9);
}

// Whether what the extent of a value leaves open holds: its terminator, its range.
static inline bool value_is_sound(uint8_t type, struct bytes value)
{
    switch (type) {
    case BSON_VIEW_STRING:
    case BSON_VIEW_CODE:
    case BSON_VIEW_SYMBOL:
        return value.at[value.len - 1] == 0;
    case BSON_VIEW_DB_POINTER:
        return value.at[value.len - 12 - 1] == 0;
    case BSON_VIEW_BOOL:
        return value.at[0] <= 1;
    case BSON_VIEW_BINARY:
        return binary_is_sound(value);
    default:
        return true;
    }
}

// The scope of a code with scope: int32 of the whole, int32 and string of the code, document. Empty
// if the code leaves no place for it.
static struct bytes scope_of(struct bytes value)
{
    size_t code_len = (size_t)(uint32_t)load_i32(value.at + 4);
    if (code_len < 1 || code_len > value.len - 8 || value.at[8 + code_len - 1] != 0) {
        return (struct bytes){0};
    }
    return (struct bytes){value.at + 8 + code_len, value.len - 8 - code_len};
}

static inline bool holds_document(const struct bson_element *element, struct bytes *ret_inner)
{
    switch (element->type) {
    case BSON_VIEW_DOCUMENT:
    case BSON_VIEW_ARRAY:
        *ret_inner = element->value;
        return true;
    case BSON_VIEW_CODE_WITH_SCOPE:
        *ret_inner = scope_of(element->value);
        return true;
    default:
        return false;
    }
}

enum wire_error bson_check(struct bytes document)
{
    const uint8_t *parents_end[BSON_VIEW_MAX_DEPTH - 1];
    size_t parents = 0;
    struct bson_walk walk;
    if (!walk_begin(&walk, document)) {
        return WIRE_BAD_BSON;
    }
    while (true) {
        struct bson_element element;
        struct bytes inner;
        enum bson_walk_status status = walk_next(&walk, &element);
        if (status == BSON_WALK_END) {
            if (parents == 0) {
                return WIRE_OK;
            }
            walk.at = walk.end + 1;
            walk.end = parents_end[--parents];
        } else if (status == BSON_WALK_BAD || !value_is_sound(element.type, element.value)) {
            return WIRE_BAD_BSON;
        } else if (holds_document(&element, &inner)) {
            if (parents == BSON_VIEW_MAX_DEPTH - 1) {
                return WIRE_TOO_DEEP;
            }
            parents_end[parents++] = walk.end;
            if (!walk_begin(&walk, inner)) {
                return WIRE_BAD_BSON;
            }
        }
    }
}

static double load_double(const uint8_t *at)
{
    int64_t bits = load_i64(at);
    double value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static bool double_to_i64(double value, int64_t *ret_value)
{
    // Both bounds are exact as doubles; NaN fails both comparisons.
    if (!(value >= -9223372036854775808.0 && value < 9223372036854775808.0)) {
        return false;
    }
    *ret_value = (int64_t)value;
    return true;
}

bool bson_element_i64(const struct bson_element *element, int64_t *ret_value)
{
    switch (element->type) {
    case BSON_VIEW_INT32:
        *ret_value = load_i32(element->value.at);
        return true;
    case BSON_VIEW_INT64:
        *ret_value = load_i64(element->value.at);
        return true;
    case BSON_VIEW_DOUBLE:
        return double_to_i64(load_double(element->value.at), ret_value);
    default:
        return false;
    }
}

bool bson_element_truth(const struct bson_element *element)
{
    switch (element->type) {
    case BSON_VIEW_BOOL:
        return element->value.at[0] != 0;
    case BSON_VIEW_INT32:
        return load_i32(element->value.at) != 0;
    case BSON_VIEW_INT64:
        return load_i64(element->value.at) != 0;
    case BSON_VIEW_DOUBLE:
        return load_double(element->value.at) != 0;
    default:
        return false;
    }
}

bool bson_element_text(const struct bson_element *element, struct bytes *ret_text)
{
    struct bytes value = element->value;
    if (element->type != BSON_VIEW_STRING || value.at[value.len - 1] != 0) {
        return false;
    }
    *ret_text = (struct bytes){value.at + 4, value.len - 4 - 1};
    return true;
}

bool bson_find(struct bytes document, const char *key, struct bson_element *ret_element)
{
    struct bson_walk walk;
    if (!bson_walk_begin(&walk, document)) {
        return false;
    }
    struct bson_element element;
    while (walk_next(&walk, &element) == BSON_WALK_ELEMENT) {
        if (bytes_equal(element.key, key)) {
            *ret_element = element;
            return true;
        }
    }
    return false;
}
