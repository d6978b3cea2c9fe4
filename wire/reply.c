// SPDX-License-Identifier: Apache-2.0

#include "wire/reply.h"

#include <assert.h>

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
    case 91:    // ShutdownInProgress
    case 189:   // PrimarySteppedDown
    case 10058: // LegacyNotPrimary
    case 10107: // NotWritablePrimary
    case 11600: // InterruptedAtShutdown
    case 11602: // InterruptedDueToReplStateChange
    case 13435: // NotPrimaryNoSecondaryOk
    case 13436: // NotPrimaryOrSecondary
        return true;
    default:
        return false;
    }
}

// Names as in src/mongo/base/error_codes.yml of the server, which calls the nameless ones Location.
static const struct {
    int32_t code;
    const char *name;
} codes[] = {
    {1, "InternalError"},
    {2, "BadValue"},
    {6, "HostUnreachable"},
    {7, "HostNotFound"},
    {9, "FailedToParse"},
    {11, "UserNotFound"},
    {13, "Unauthorized"},
    {14, "TypeMismatch"},
    {17, "ProtocolError"},
    {18, "AuthenticationFailed"},
    {20, "IllegalOperation"},
    {22, "InvalidBSON"},
    {26, "NamespaceNotFound"},
    {43, "CursorNotFound"},
    {50, "MaxTimeMSExpired"},
    {59, "CommandNotFound"},
    {73, "InvalidNamespace"},
    {115, "CommandNotSupported"},
    {133, "FailedToSatisfyReadPreference"},
    {160, "MaxStalenessOutOfRange"},
    {183, "ClientMetadataMissingField"},
    {184, "ClientMetadataAppNameTooLarge"},
    {185, "ClientMetadataDocumentTooLarge"},
    {186, "ClientMetadataCannotBeMutated"},
    {223, "IllegalOpMsgFlag"},
    {233, "TooManyDocumentSequences"},
    {238, "NotImplemented"},
    {288, "ChecksumMismatch"},
    {334, "MechanismUnavailable"},
    {352, "UnsupportedOpQueryCommand"},
    {354, "LoadBalancerSupportMismatch"},
    {411, "QueryRejectedBySettings"},
    {462, "IngressRequestRateLimitExceeded"},
    {10334, "BSONObjectTooLarge"},
    {11601, "Interrupted"},
    {40430, "Location40430"},
    {40431, "Location40431"},
    {40432, "Location40432"},
    {40415, "IDLUnknownField"},
    {40433, "Location40433"},
    {40571, "Location40571"},
    {40587, "Location40587"},
    {40621, "Location40621"},
};

const char *reply_code_name(int32_t code)
{
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (codes[i].code == code) {
            return codes[i].name;
        }
    }
    return "Error";
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
