// SPDX-License-Identifier: Apache-2.0

#include "wire/reply.h"

#include <assert.h>

#include "wire/error_code.h"
#include "wire/op_msg.h"

unsigned reply_label(struct bytes text)
{
#define X(name, bit, label)                                                                        \
    if (bytes_equal(text, label)) {                                                                \
        return name;                                                                               \
    }
    ERROR_LABELS(X)
#undef X
    return 0;
}

bool reply_is_state_change(int32_t code)
{
    switch (code) {
    case CODE_SHUTDOWN_IN_PROGRESS:
    case CODE_PRIMARY_STEPPED_DOWN:
    case CODE_LEGACY_NOT_PRIMARY:
    case CODE_NOT_WRITABLE_PRIMARY:
    case CODE_INTERRUPTED_AT_SHUTDOWN:
    case CODE_INTERRUPTED_DUE_TO_REPL_STATE_CHANGE:
    case CODE_NOT_PRIMARY_NO_SECONDARY_OK:
    case CODE_NOT_PRIMARY_OR_SECONDARY:
        return true;
    default:
        return false;
    }
}

const char *reply_code_name(int32_t code)
{
    switch (code) {
#define X(name, number, text)                                                                      \
    case name:                                                                                     \
        return text;
        ERROR_CODES(X)
#undef X
    default:
        return "Error";
    }
}

static void append_labels(unsigned labels, bson_t *document)
{
    bson_t array;
    uint32_t count = 0;
    BSON_APPEND_ARRAY_BEGIN(document, "errorLabels", &array);
#define X(name, bit, text)                                                                         \
    if (labels & name) {                                                                           \
        char index[] = {(char)('0' + count++), 0};                                                 \
        BSON_APPEND_UTF8(&array, index, text);                                                     \
    }
    ERROR_LABELS(X)
#undef X
    bson_append_array_end(document, &array);
}

void reply_error_document(const struct reply_error *error, bson_t *document)
{
    BSON_APPEND_DOUBLE(document, "ok", 0);
    BSON_APPEND_UTF8(document, "errmsg", error->message);
    BSON_APPEND_INT32(document, "code", error->code);
    BSON_APPEND_UTF8(document, "codeName", reply_code_name(error->code));
    if (error->labels) {
        append_labels(error->labels, document);
    }
    if (error->base_backoff_ms > 0) {
        BSON_APPEND_INT64(document, "baseBackoffMS", error->base_backoff_ms);
    }
}

#define OP_REPLY_BYTES 20
#define OP_REPLY_AWAIT_CAPABLE 8

static void append_op_reply(struct buffer *out, int32_t request_id, int32_t response_to,
                            const bson_t *document)
{
    int32_t before = FRAME_HEADER_BYTES + OP_REPLY_BYTES;
    int32_t length = before + (int32_t)document->len;
    uint8_t *at = buffer_reserve(out, (size_t)length);
    frame_write(at, &(struct frame){length, request_id, response_to, OPCODE_REPLY});
    at += FRAME_HEADER_BYTES;
    memset(at, 0, OP_REPLY_BYTES); // no cursor, starting from 0
    store_i32(at, OP_REPLY_AWAIT_CAPABLE);
    store_i32(at + 16, 1); // one document
    memcpy(at + OP_REPLY_BYTES, bson_get_data(document), document->len);
    buffer_commit(out, (size_t)length);
}

void reply_append(struct buffer *out, int32_t request_id, int32_t response_to, bool as_op_reply,
                  const bson_t *document)
{
    if (as_op_reply) {
        append_op_reply(out, request_id, response_to, document);
        return;
    }
    size_t start = op_msg_begin(out, request_id, response_to);
    buffer_append(out, bson_get_data(document), document->len);
    op_msg_end(out, start);
}
