// SPDX-License-Identifier: Apache-2.0
//
// An OP_QUERY, as it came and with its length put right.

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/model.h"
#include "wire/command.h"

static void check_query(const struct op_query *query, struct bytes message)
{
    MUST(query->database.len > 0 && !memchr(query->database.at, '.', query->database.len));
    MUST(memcmp(query->database.at + query->database.len, ".$cmd", 6) == 0);
    MUST(query->body.at > message.at &&
         query->body.at + query->body.len <= message.at + message.len);
    MUST(model_levels(query->body) > 0);
    bson_t body = model_document(query->body);
    MUST(!bson_has_field(&body, "$db"));
}

static void check_one(struct bytes message)
{
    struct op_query query;
    struct command command;
    if (op_query_read(message, &query) != WIRE_OK) {
        return;
    }
    check_query(&query, message);
    enum wire_error error = command_read_query(message, &query, &command);
    MUST(error == WIRE_OK || (error == WIRE_EMPTY_COMMAND && query.body.len == 5));
    if (error == WIRE_OK) {
        MUST(same_place(command.database, message.at, query.database, message.at));
        MUST(!command.unacknowledged);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *message = exact_copy(data, size);
    check_one((struct bytes){message, size});
    if (size >= FRAME_HEADER_BYTES) {
        store_i32(message, (int32_t)size);
        check_one((struct bytes){message, size});
    }
    free(message);
    return 0;
}
