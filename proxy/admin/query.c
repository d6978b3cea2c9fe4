// SPDX-License-Identifier: Apache-2.0
//
//      documents -> filter -> sort -> skip, limit -> projection -> out
//
// A filter is checked once, as a whole, before it is used; what uses it relies on that. Values are
// compared as a server does: numbers with numbers of any type, $gt and the like only with what is
// of the same kind, and a field that is not there is null.

#include "proxy/admin/query.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "proxy/mem.h"
#include "wire/bson_view.h"

enum operator{ OP_EQ, OP_NE, OP_GT, OP_GTE, OP_LT, OP_LTE, OP_IN, OP_NIN, OP_EXISTS, OP_UNKNOWN };

static const char *const operators[] = {"$eq",  "$ne", "$gt",  "$gte",   "$lt",
                                        "$lte", "$in", "$nin", "$exists"};

static enum operator find_operator(struct bytes key)
{
    int op = 0;
    while (op < OP_UNKNOWN && !bytes_equal(key, operators[op])) {
        op++;
    }
    return (enum operator)op;
}

static bool is_operator(struct bytes key)
{
    return key.len > 0 && key.at[0] == '$';
}

static bool is_logical(struct bytes key)
{
    return bytes_equal(key, "$and") || bytes_equal(key, "$or") || bytes_equal(key, "$nor");
}

// --- values -------------------------------------------------------------------------------------

// In the order of a server's sort.
enum kind { KIND_MISSING, KIND_NUMBER, KIND_TEXT, KIND_OTHER, KIND_BOOL };

static enum kind kind_of(const struct bson_element *value)
{
    switch (value->type) {
    case 0:
    case BSON_VIEW_NULL:
        return KIND_MISSING;
    case BSON_VIEW_DOUBLE:
    case BSON_VIEW_INT32:
    case BSON_VIEW_INT64:
        return KIND_NUMBER;
    case BSON_VIEW_STRING:
        return KIND_TEXT;
    case BSON_VIEW_BOOL:
        return KIND_BOOL;
    default:
        return KIND_OTHER;
    }
}

// Exact for all that we have: times, and counts far below 2^63.
static long double number(const struct bson_element *value)
{
    double real;
    int64_t whole = 0;
    if (value->type == BSON_VIEW_DOUBLE) {
        memcpy(&real, value->value.at, sizeof real);
        return isnan(real) ? -INFINITY : (long double)real; // below all others
    }
    bson_element_i64(value, &whole);
    return (long double)whole;
}

static int compare_bytes(struct bytes a, struct bytes b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len > 0 ? memcmp(a.at, b.at, len) : 0;
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static int compare(const struct bson_element *a, const struct bson_element *b)
{
    enum kind kind = kind_of(a);
    struct bytes text_a = a->value;
    struct bytes text_b = b->value;
    if (kind != kind_of(b)) {
        return kind < kind_of(b) ? -1 : 1;
    }
    if (kind == KIND_MISSING) {
        return 0;
    }
    if (kind == KIND_NUMBER) {
        return (number(a) > number(b)) - (number(a) < number(b));
    }
    if (kind == KIND_TEXT) {
        bson_element_text(a, &text_a);
        bson_element_text(b, &text_b);
    } else if (a->type != b->type) {
        return a->type < b->type ? -1 : 1;
    }
    return compare_bytes(text_a, text_b);
}

// The value at a path such as "refused.queue_full"; type 0 if there is none.
static struct bson_element value_at(struct bytes document, struct bytes path)
{
    struct bson_element none = {0};
    for (;;) {
        const uint8_t *dot = path.len > 0 ? memchr(path.at, '.', path.len) : NULL;
        struct bytes key = {path.at, dot ? (size_t)(dot - path.at) : path.len};
        struct bson_walk walk;
        struct bson_element element;
        bool found = false;
        if (!bson_walk_begin(&walk, document)) {
            return none;
        }
        while (!found && bson_walk_next(&walk, &element) == BSON_WALK_ELEMENT) {
            found = element.key.len == key.len && memcmp(element.key.at, key.at, key.len) == 0;
        }
        if (!found || (dot && element.type != BSON_VIEW_DOCUMENT)) {
            return none;
        }
        if (!dot) {
            return element;
        }
        document = element.value;
        path = (struct bytes){dot + 1, path.len - key.len - 1};
    }
}

// --- filters ------------------------------------------------------------------------------------

static bool is_among(const struct bson_element *value, struct bytes array)
{
    struct bson_walk walk;
    struct bson_element one;
    if (bson_walk_begin(&walk, array)) {
        while (bson_walk_next(&walk, &one) == BSON_WALK_ELEMENT) {
            if (compare(value, &one) == 0) {
                return true;
            }
        }
    }
    return false;
}

static bool holds(enum operator op, const struct bson_element *value,
                  const struct bson_element *wanted)
{
    bool comparable = kind_of(value) == kind_of(wanted);
    int order = compare(value, wanted);
    switch (op) {
    case OP_EQ:
        return order == 0;
    case OP_NE:
        return order != 0;
    case OP_GT:
        return comparable && order > 0;
    case OP_GTE:
        return comparable && order >= 0;
    case OP_LT:
        return comparable && order < 0;
    case OP_LTE:
        return comparable && order <= 0;
    case OP_IN:
        return is_among(value, wanted->value);
    case OP_NIN:
        return !is_among(value, wanted->value);
    case OP_EXISTS:
        return (value->type != 0) == bson_element_truth(wanted);
    case OP_UNKNOWN:
        break;
    }
    return false;
}

// Whether a field's condition is made of operators: {$gt: 1}, not a value to be equal to.
static bool has_operators(const struct bson_element *condition)
{
    struct bson_walk walk;
    struct bson_element first;
    return condition->type == BSON_VIEW_DOCUMENT && bson_walk_begin(&walk, condition->value) &&
           bson_walk_next(&walk, &first) == BSON_WALK_ELEMENT && is_operator(first.key);
}

static bool fulfils(const struct bson_element *value, const struct bson_element *condition)
{
    struct bson_walk walk;
    struct bson_element wanted;
    if (!has_operators(condition)) {
        return compare(value, condition) == 0;
    }
    if (!bson_walk_begin(&walk, condition->value)) {
        return false;
    }
    while (bson_walk_next(&walk, &wanted) == BSON_WALK_ELEMENT) {
        if (!holds(find_operator(wanted.key), value, &wanted)) {
            return false;
        }
    }
    return true;
}

// Recursive, but no deeper than BSON_VIEW_MAX_DEPTH.
static bool fulfils_logical(const struct bson_element *logical, struct bytes document)
{
    bool all = bytes_equal(logical->key, "$and");
    struct bson_walk walk;
    struct bson_element filter;
    if (!bson_walk_begin(&walk, logical->value)) {
        return false;
    }
    while (bson_walk_next(&walk, &filter) == BSON_WALK_ELEMENT) {
        if (query_matches(filter.value, document) != all) {
            return bytes_equal(logical->key, "$or");
        }
    }
    return !bytes_equal(logical->key, "$or");
}

bool query_matches(struct bytes filter, struct bytes document)
{
    struct bson_walk walk;
    struct bson_element element;
    if (filter.len == 0 || !bson_walk_begin(&walk, filter)) {
        return true;
    }
    while (bson_walk_next(&walk, &element) == BSON_WALK_ELEMENT) {
        struct bson_element value = value_at(document, element.key);
        bool fine = is_logical(element.key) ? fulfils_logical(&element, document)
                                            : fulfils(&value, &element);
        if (!fine) {
            return false;
        }
    }
    return true;
}

// --- checks -------------------------------------------------------------------------------------

static bool complain(char *ret_error, const char *what, struct bytes about, const char *supported)
{
    snprintf(ret_error, QUERY_ERROR_BYTES, "weir: %s '%.*s': supported are %s", what,
             (int)(about.len < 40 ? about.len : 40), (const char *)about.at, supported);
    return false;
}

static bool check_condition(const struct bson_element *condition, char *ret_error)
{
    struct bson_walk walk;
    struct bson_element wanted;
    static const char supported[] =
        "a value, $eq, $ne, $gt, $gte, $lt, $lte, $exists, and $in, $nin with an array";
    if (condition->type == BSON_VIEW_REGEX) {
        return complain(ret_error, "a regular expression for", condition->key, supported);
    }
    if (!has_operators(condition)) {
        return true;
    }
    if (!bson_walk_begin(&walk, condition->value)) {
        return false;
    }
    while (bson_walk_next(&walk, &wanted) == BSON_WALK_ELEMENT) {
        enum operator op = find_operator(wanted.key);
        bool list = op == OP_IN || op == OP_NIN;
        if (op == OP_UNKNOWN || list != (wanted.type == BSON_VIEW_ARRAY)) {
            return complain(ret_error, "cannot evaluate the operator", wanted.key, supported);
        }
    }
    return true;
}

static bool check_filter(struct bytes filter, char *ret_error);

static bool check_logical(const struct bson_element *logical, char *ret_error)
{
    static const char supported[] = "$and, $or, $nor with an array of filters";
    struct bson_walk walk;
    struct bson_element filter;
    bool some = false;
    if (logical->type != BSON_VIEW_ARRAY || !bson_walk_begin(&walk, logical->value)) {
        return complain(ret_error, "no array for", logical->key, supported);
    }
    while (bson_walk_next(&walk, &filter) == BSON_WALK_ELEMENT) {
        some = true;
        if (filter.type != BSON_VIEW_DOCUMENT) {
            return complain(ret_error, "no filter in", logical->key, supported);
        }
        if (!check_filter(filter.value, ret_error)) {
            return false;
        }
    }
    return some || complain(ret_error, "nothing in", logical->key, supported);
}

static bool check_filter(struct bytes filter, char *ret_error)
{
    struct bson_walk walk;
    struct bson_element element;
    if (!bson_walk_begin(&walk, filter)) {
        return false;
    }
    while (bson_walk_next(&walk, &element) == BSON_WALK_ELEMENT) {
        bool logical = is_logical(element.key);
        if (is_operator(element.key) && !logical) {
            return complain(ret_error, "cannot evaluate", element.key,
                            "fields, and $and, $or, $nor");
        }
        if (!(logical ? check_logical(&element, ret_error)
                      : check_condition(&element, ret_error))) {
            return false;
        }
    }
    return true;
}

static bool check_sort(struct bytes sort, char *ret_error)
{
    struct bson_walk walk;
    struct bson_element element;
    int64_t direction;
    if (!bson_walk_begin(&walk, sort)) {
        return false;
    }
    while (bson_walk_next(&walk, &element) == BSON_WALK_ELEMENT) {
        bool fine = bson_element_i64(&element, &direction) && (direction == 1 || direction == -1);
        if (!fine || is_operator(element.key)) {
            return complain(ret_error, "cannot sort by", element.key, "fields with 1 or -1");
        }
    }
    return true;
}

static bool is_plain(struct bytes key)
{
    return !is_operator(key) && (key.len == 0 || !memchr(key.at, '.', key.len));
}

static bool check_projection(struct bytes projection, char *ret_error)
{
    struct bson_walk walk;
    struct bson_element element;
    if (!bson_walk_begin(&walk, projection)) {
        return false;
    }
    while (bson_walk_next(&walk, &element) == BSON_WALK_ELEMENT) {
        int64_t truth;
        bool flag = element.type == BSON_VIEW_BOOL || bson_element_i64(&element, &truth);
        bool fine = flag && (bson_element_truth(&element) || bytes_equal(element.key, "_id"));
        if (!fine || !is_plain(element.key)) {
            return complain(ret_error, "cannot project", element.key,
                            "whole fields with 1, and _id with 0");
        }
    }
    return true;
}

bool query_check(const struct query *query, char ret_error[QUERY_ERROR_BYTES])
{
    snprintf(ret_error, QUERY_ERROR_BYTES, "weir: malformed query");
    if (query->filter.len + query->sort.len + query->projection.len > QUERY_MAX_BYTES) {
        snprintf(ret_error, QUERY_ERROR_BYTES,
                 "weir: filter, sort and projection together may have %d bytes", QUERY_MAX_BYTES);
        return false;
    }
    return (query->filter.len == 0 || check_filter(query->filter, ret_error)) &&
           (query->sort.len == 0 || check_sort(query->sort, ret_error)) &&
           (query->projection.len == 0 || check_projection(query->projection, ret_error));
}

// --- running ------------------------------------------------------------------------------------

static struct bytes document_at(const uint8_t *at)
{
    return (struct bytes){at, (size_t)load_i32(at)};
}

static int by_sort(const void *a, const void *b, void *arg)
{
    const uint8_t *at_a = *(const uint8_t *const *)a;
    const uint8_t *at_b = *(const uint8_t *const *)b;
    const struct query *query = arg;
    struct bson_walk walk;
    struct bson_element key;
    int64_t direction = 1;
    if (bson_walk_begin(&walk, query->sort)) {
        while (bson_walk_next(&walk, &key) == BSON_WALK_ELEMENT) {
            struct bson_element value_a = value_at(document_at(at_a), key.key);
            struct bson_element value_b = value_at(document_at(at_b), key.key);
            int order = compare(&value_a, &value_b);
            if (order != 0) {
                bson_element_i64(&key, &direction);
                return direction > 0 ? order : -order;
            }
        }
    }
    return at_a < at_b ? -1 : at_a > at_b; // as they came
}

// Whether a document's field is one that the projection lets through.
static bool is_projected(struct bytes projection, struct bytes key, bool includes)
{
    struct bson_element choice = value_at(projection, key);
    if (choice.type != 0) {
        return bson_element_truth(&choice);
    }
    return !includes || bytes_equal(key, "_id");
}

static bool includes_some(struct bytes projection)
{
    struct bson_walk walk;
    struct bson_element element;
    bool some = false;
    if (projection.len > 0 && bson_walk_begin(&walk, projection)) {
        while (bson_walk_next(&walk, &element) == BSON_WALK_ELEMENT) {
            some = some || bson_element_truth(&element);
        }
    }
    return some;
}

// An element stands in its document as type, key, NUL, value, without a gap.
static void project(struct bytes projection, struct bytes document, struct buffer *out)
{
    bool includes = includes_some(projection);
    struct bson_walk walk;
    struct bson_element element;
    size_t start = buffer_held(out);
    buffer_append(out, "\0\0\0\0", 4);
    if (bson_walk_begin(&walk, document)) {
        while (bson_walk_next(&walk, &element) == BSON_WALK_ELEMENT) {
            const uint8_t *begin = element.key.at - 1;
            if (is_projected(projection, element.key, includes)) {
                buffer_append(out, begin, (size_t)(element.value.at + element.value.len - begin));
            }
        }
    }
    buffer_append(out, "", 1);
    store_i32(buffer_at(out) + start, (int32_t)(buffer_held(out) - start));
}

static void keep(struct buffer *chosen, const uint8_t *at)
{
    buffer_append(chosen, &at, sizeof at);
}

int64_t query_run(const struct query *query, struct bytes documents, struct buffer *out)
{
    struct buffer chosen = {0}; // pointers to them
    struct bytes document;
    while (bson_take(&documents, &document) == WIRE_OK) {
        if (query_matches(query->filter, document)) {
            keep(&chosen, document.at);
        }
    }
    const uint8_t **first = (void *)buffer_at(&chosen);
    int64_t count = (int64_t)(buffer_held(&chosen) / sizeof *first);
    if (query->sort.len > 0 && count > 0) {
        qsort_r(first, (size_t)count, sizeof *first, by_sort, (void *)query);
    }
    int64_t from = query->skip < count ? query->skip : count;
    int64_t left = count - from;
    left = query->limit > 0 && query->limit < left ? query->limit : left;
    for (int64_t i = from; i < from + left; i++) {
        document = document_at(first[i]);
        if (query->projection.len > 0) {
            project(query->projection, document, out);
        } else {
            buffer_append(out, document.at, document.len);
        }
    }
    buffer_fini(&chosen);
    return left;
}
