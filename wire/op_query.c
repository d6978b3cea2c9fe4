// SPDX-License-Identifier: Apache-2.0

#include "wire/op_query.h"

#include "wire/bson_view.h"
#include "wire/frame.h"

#define NAMESPACE_AT (FRAME_HEADER_BYTES + 4)

// Splits "<database>.$cmd" at its first dot, as a server does.
static bool read_namespace(struct bytes namespace, struct bytes *ret_database)
{
    const uint8_t *dot = memchr(namespace.at, '.', namespace.len);
    if (!dot || dot == namespace.at) {
        return false;
    }
    struct bytes database = {namespace.at, (size_t)(dot - namespace.at)};
    struct bytes collection = {dot + 1, namespace.len - database.len - 1};
    *ret_database = database;
    return bytes_equal(collection, "$cmd");
}

static enum wire_error take_checked(struct bytes *rest, struct bytes *ret_document)
{
    enum wire_error error = bson_take(rest, ret_document);
    return error ? error : bson_check(*ret_document);
}

// The query, and perhaps a projection, which a command has no use for.
static enum wire_error read_documents(struct bytes rest, struct bytes *ret_query)
{
    enum wire_error error = take_checked(&rest, ret_query);
    if (!error && rest.len > 0) {
        struct bytes projection;
        error = take_checked(&rest, &projection);
    }
    if (error) {
        return error;
    }
    return rest.len > 0 ? WIRE_BAD_QUERY : WIRE_OK;
}

// Takes the command out of {$query: {…}, $readPreference: {…}}.
static enum wire_error unwrap(struct bytes *body)
{
    struct bson_element element;
    if (bson_find(*body, "$query", &element)) {
        if (element.type != BSON_VIEW_DOCUMENT) {
            return WIRE_BAD_QUERY;
        }
        *body = element.value;
    }
    return bson_find(*body, "$db", &element) ? WIRE_DB_IN_QUERY : WIRE_OK;
}

enum wire_error op_query_read(struct bytes message, struct op_query *ret_query)
{
    if (message.len < NAMESPACE_AT || load_i32(message.at) < 0 ||
        (size_t)load_i32(message.at) != message.len) {
        return WIRE_TRUNCATED;
    }
    struct op_query query = {.flags = (uint32_t)load_i32(message.at + FRAME_HEADER_BYTES)};
    struct bytes rest = {message.at + NAMESPACE_AT, message.len - NAMESPACE_AT};
    const uint8_t *name_end = memchr(rest.at, 0, rest.len);
    if (!name_end) {
        return WIRE_TRUNCATED;
    }
    struct bytes namespace = bytes_take(&rest, (size_t)(name_end - rest.at));
    if (!read_namespace(namespace, &query.database)) {
        return WIRE_BAD_QUERY;
    }
    const size_t nul_skip_and_return = 1 + 4 + 4;
    if (rest.len < nul_skip_and_return) {
        return WIRE_TRUNCATED;
    }
    bytes_take(&rest, nul_skip_and_return);
    enum wire_error error = read_documents(rest, &query.body);
    if (!error) {
        error = unwrap(&query.body);
    }
    if (error) {
        return error;
    }
    *ret_query = query;
    return WIRE_OK;
}
