// SPDX-License-Identifier: Apache-2.0

#include "tests/sim/sim_message.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/mem.h"
#include "wire/compression.h"
#include "wire/crc32c.h"

#define HEADER_BYTES 16
#define OP_MSG 2013
#define OP_QUERY 2004
#define CHECKSUM 1u
#define MORE_TO_COME 2u
#define EXHAUST_ALLOWED 65536u

int32_t number_at(const uint8_t *at)
{
    int32_t number;
    memcpy(&number, at, sizeof number);
    return number;
}

static void set_number(uint8_t *at, int32_t number)
{
    memcpy(at, &number, sizeof number);
}

// --- padding ------------------------------------------------------------------------------------

static uint8_t padding_byte(int64_t id, size_t i)
{
    uint64_t x = (uint64_t)id * 31 + i;
    return (uint8_t)(id % 2 ? x : x * x * UINT64_C(0x9e3779b97f4a7c15) >> 56); // half is noise
}

void padding_append(bson_t *document, int64_t id, size_t len)
{
    if (len == 0) {
        return;
    }
    uint8_t *bytes = xmalloc(len);
    for (size_t i = 0; i < len; i++) {
        bytes[i] = padding_byte(id, i);
    }
    bson_append_binary(document, "pad", 3, BSON_SUBTYPE_BINARY, bytes, (uint32_t)len);
    free(bytes);
}

bool padding_is_right(const bson_iter_t *iter, int64_t id)
{
    bson_subtype_t subtype;
    uint32_t len;
    const uint8_t *bytes;
    bson_iter_binary(iter, &subtype, &len, &bytes);
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != padding_byte(id, i)) {
            return false;
        }
    }
    return true;
}

// --- writing ------------------------------------------------------------------------------------

static uint8_t *begin(struct buffer *out, int32_t request_id, int32_t response_to, int32_t opcode)
{
    uint8_t *at = buffer_reserve(out, HEADER_BYTES + 4);
    set_number(at + 4, request_id);
    set_number(at + 8, response_to);
    set_number(at + 12, opcode);
    return at;
}

static void append_section(struct buffer *out, const bson_t *body)
{
    buffer_append(out, "\0", 1);
    buffer_append(out, bson_get_data(body), body->len);
}

void message_append(struct buffer *out, int32_t request_id, int32_t response_to, uint32_t flags,
                    const bson_t *body)
{
    size_t start = buffer_held(out);
    uint8_t *at = begin(out, request_id, response_to, OP_MSG);
    set_number(at + HEADER_BYTES, (int32_t)flags);
    buffer_commit(out, HEADER_BYTES + 4);
    append_section(out, body);
    set_number(buffer_at(out) + start, (int32_t)(buffer_held(out) - start));
}

static void append_query(struct buffer *out, int32_t request_id, const bson_t *body)
{
    size_t start = buffer_held(out);
    uint8_t *at = begin(out, request_id, 0, OP_QUERY);
    set_number(at + HEADER_BYTES, 4);
    buffer_commit(out, HEADER_BYTES + 4);
    static const uint8_t rest[] = "admin.$cmd\0\0\0\0\0\xff\xff\xff\xff";
    buffer_append(out, rest, sizeof rest - 1);
    buffer_append(out, bson_get_data(body), body->len);
    set_number(buffer_at(out) + start, (int32_t)(buffer_held(out) - start));
}

// What is decided by the operation's number, so that it need not be kept.
static bool by_number(const struct op *op, int one_in, int salt)
{
    return (uint64_t)(op->id * 2654435761 + salt) % 1000 < (uint64_t)(1000 / one_in);
}

static void append_command(const struct op *op, bson_t *body)
{
    const char *command = op_command(op->kind);
    switch (op->kind) {
    case OP_GET_MORE:
        BSON_APPEND_INT64(body, command, op->cursor_id);
        BSON_APPEND_UTF8(body, "collection", "things");
        break;
    case OP_KILL_CURSORS: {
        bson_t cursors;
        BSON_APPEND_UTF8(body, command, "things");
        BSON_APPEND_ARRAY_BEGIN(body, "cursors", &cursors);
        BSON_APPEND_INT64(&cursors, "0", op->cursor_id);
        bson_append_array_end(body, &cursors);
        break;
    }
    case OP_PING:
    case OP_HELLO:
    case OP_COMMIT:
    case OP_ABORT:
        BSON_APPEND_INT32(body, command, 1);
        break;
    default:
        BSON_APPEND_UTF8(body, command, op->kind == OP_SLOW_FIND ? "heap" : "things");
    }
}

static void append_session(const struct op *op, bson_t *body)
{
    if (op->session == 0) {
        return;
    }
    uint8_t uuid[16] = {0};
    memcpy(uuid, &op->session, sizeof op->session);
    bson_t lsid;
    BSON_APPEND_DOCUMENT_BEGIN(body, "lsid", &lsid);
    BSON_APPEND_BINARY(&lsid, "id", BSON_SUBTYPE_UUID, uuid, sizeof uuid);
    bson_append_document_end(body, &lsid);
    if (op->txn_number != 0) {
        BSON_APPEND_INT64(body, "txnNumber", op->txn_number);
    }
    if (op->in_transaction) {
        BSON_APPEND_BOOL(body, "autocommit", false);
    }
    if (op->starts_transaction) {
        BSON_APPEND_BOOL(body, "startTransaction", true);
    }
}

static void append_write_concern(const struct op *op, int w, bson_t *body)
{
    if (op->unacknowledged) {
        bson_t concern;
        BSON_APPEND_DOCUMENT_BEGIN(body, "writeConcern", &concern);
        if (by_number(op, 2, 1)) {
            BSON_APPEND_INT32(&concern, "w", w);
        } else {
            BSON_APPEND_DOUBLE(&concern, "w", w);
        }
        bson_append_document_end(body, &concern);
    }
}

static void append_pipeline(bson_t *body)
{
    bson_t pipeline;
    bson_t stage;
    BSON_APPEND_ARRAY_BEGIN(body, "pipeline", &pipeline);
    BSON_APPEND_DOCUMENT_BEGIN(&pipeline, "0", &stage);
    BSON_APPEND_UTF8(&stage, "$out", "others");
    bson_append_document_end(&pipeline, &stage);
    bson_append_array_end(body, &pipeline);
}

static void make_body(const struct op *op, int w, bson_t *body)
{
    append_command(op, body);
    BSON_APPEND_INT64(body, "comment", op->id);
    append_session(op, body);
    append_write_concern(op, w, body);
    if (op->read_mode) {
        bson_t preference;
        BSON_APPEND_DOCUMENT_BEGIN(body, "$readPreference", &preference);
        BSON_APPEND_UTF8(&preference, "mode", op->read_mode);
        bson_append_document_end(body, &preference);
    }
    if (op->max_time_ms > 0) {
        BSON_APPEND_INT64(body, "maxTimeMS", op->max_time_ms);
    }
    if (op->kind == OP_AGGREGATE_OUT) {
        append_pipeline(body);
    }
    if (op->kind == OP_HELLO && world.knobs.compression) {
        struct compressor_list offered = all_compressors((uint64_t)op->id);
        compressor_list_append(&offered, body);
    }
    if (op->kind == OP_HELLO && op->app != 1) { // that one's tenant is its address
        bson_t client;
        bson_t application;
        char name[32];
        snprintf(name, sizeof name, "simulated-%d", op->app);
        BSON_APPEND_DOCUMENT_BEGIN(body, "client", &client);
        BSON_APPEND_DOCUMENT_BEGIN(&client, "application", &application);
        BSON_APPEND_UTF8(&application, "name", name);
        bson_append_document_end(&client, &application);
        bson_append_document_end(body, &client);
    }
    BSON_APPEND_UTF8(body, "$db", "shop");
}

static void append_sequence(const struct op *op, struct buffer *out)
{
    static const char name[] = "documents";
    bson_t document = BSON_INITIALIZER;
    padding_append(&document, op->id, op->message_bytes);
    uint8_t size[4];
    set_number(size, (int32_t)(sizeof size + sizeof name + document.len));
    buffer_append(out, "\1", 1);
    buffer_append(out, size, sizeof size);
    buffer_append(out, name, sizeof name);
    buffer_append(out, bson_get_data(&document), document.len);
    bson_destroy(&document);
}

static void append_sections(const struct op *op, const bson_t *body, struct buffer *out)
{
    bool sequence = op->message_bytes > 0;
    bool sequence_first = by_number(op, 2, 2);
    if (sequence && sequence_first) {
        append_sequence(op, out);
    }
    append_section(out, body);
    if (sequence && !sequence_first) {
        append_sequence(op, out);
    }
}

static void append_op(const struct op *op, uint32_t flags, int w, struct buffer *out)
{
    bson_t body = BSON_INITIALIZER;
    make_body(op, w, &body);
    size_t start = buffer_held(out);
    uint8_t *at = begin(out, op->request_id, 0, OP_MSG);
    set_number(at + HEADER_BYTES, (int32_t)flags);
    buffer_commit(out, HEADER_BYTES + 4);
    append_sections(op, &body, out);
    bson_destroy(&body);
    bool checksum = flags & CHECKSUM;
    int32_t length = (int32_t)(buffer_held(out) - start + (checksum ? 4 : 0));
    set_number(buffer_at(out) + start, length);
    if (checksum) {
        uint32_t crc = crc32c((struct bytes){buffer_at(out) + start, (size_t)length - 4});
        buffer_append(out, &crc, sizeof crc);
    }
}

void message_of_op(const struct op *op, struct buffer *out)
{
    if (op->kind == OP_HELLO && by_number(op, 2, 3)) {
        bson_t body = BSON_INITIALIZER;
        BSON_APPEND_INT32(&body, "isMaster", 1);
        BSON_APPEND_BOOL(&body, "helloOk", true);
        if (world.knobs.compression) {
            struct compressor_list offered = all_compressors((uint64_t)op->id);
            compressor_list_append(&offered, &body);
        }
        append_query(out, op->request_id, &body);
        bson_destroy(&body);
        return;
    }
    uint32_t flags = op->unacknowledged ? MORE_TO_COME : 0;
    flags |= op->kind == OP_GET_MORE && by_number(op, 2, 4) ? EXHAUST_ALLOWED : 0;
    flags |= by_number(op, 8, 5) ? CHECKSUM : 0;
    append_op(op, flags, 0, out);
}

void message_malformed(const struct op *op, struct buffer *out)
{
    struct buffer message = {0};
    append_op(op, 0, 0, &message);
    uint8_t *at = buffer_at(&message);
    size_t len = buffer_held(&message);
    static const uint8_t sequence[] = "\1\x13\0\0\0maxTimeMS\0\5\0\0\0";
    switch (op->id % 7) {
    case 0:
        set_number(at, 5); // a length that cannot be
        break;
    case 1:
        set_number(at + 12, 4711); // an opcode
        break;
    case 2:
        at[HEADER_BYTES] |= 0x80; // a flag that must be known
        break;
    case 3:
        at[HEADER_BYTES + 4] = 7; // a section
        break;
    case 4:
        set_number(at + HEADER_BYTES + 5, (int32_t)len); // a document that reaches too far
        break;
    case 5:
        at[HEADER_BYTES + 9] = 0x77; // a type
        break;
    case 6:
        set_number(at, (int32_t)(len + sizeof sequence)); // a sequence that is a field
        break;
    }
    buffer_append(out, at, len);
    if (op->id % 7 == 6) {
        buffer_append(out, sequence, sizeof sequence);
    }
    buffer_fini(&message);
}

// --- compression --------------------------------------------------------------------------------

struct compressor_list all_compressors(uint64_t number)
{
    struct compressor_list list = {0};
    for (uint64_t i = 0; i < COMPRESSOR_COUNT; i++) {
        compressor_list_add(&list, (enum compressor)(1 + (number + i) % COMPRESSOR_COUNT));
    }
    return list;
}

enum compressor message_inflate(const uint8_t *at, size_t len, const struct compressor_list *agreed,
                                struct buffer *out)
{
    struct compressed compressed;
    if (number_at(at + 12) != OPCODE_COMPRESSED) {
        return COMPRESSOR_NONE;
    }
    HOLDS(compressed_read(at, len, agreed, &compressed) == COMPRESSED_OK,
          "weir sent a compressed message that cannot be taken");
    struct codec *codec = codec_new(-1);
    size_t length = (size_t)compressed.frame.length;
    enum compressed_status status =
        compressed_inflate(codec, &compressed, at, buffer_reserve(out, length));
    HOLDS(status == COMPRESSED_OK, "weir sent a compressed message that is broken");
    buffer_commit(out, length);
    codec_free(codec);
    return compressed.compressor;
}

void message_deflate(enum compressor compressor, struct bytes message, struct buffer *out)
{
    struct codec *codec = codec_new(-1);
    compressed_write(codec, compressor, message, out);
    codec_free(codec);
}

// --- reading ------------------------------------------------------------------------------------

// The operation's maxTimeMS as it came to a server; 0 if it came without.
static int64_t max_time_in(const uint8_t *at, size_t len)
{
    bson_t body;
    bson_iter_t iter;
    bool there = message_body(at, len, &body) && bson_iter_init_find(&iter, &body, "maxTimeMS");
    return there ? bson_iter_as_int64(&iter) : 0;
}

// At most what was spent since its app sent it is taken off; nothing of how long a getMore waits.
static bool is_time_left(const struct op *op, int64_t ms)
{
    int64_t spent_ms = (sim_now_us() - op->sent_us) / 1000 + 1;
    bool may_shrink = op->max_time_ms > 0 && op->kind != OP_GET_MORE;
    return ms == op->max_time_ms ||
           (may_shrink && ms > 0 && ms < op->max_time_ms && ms >= op->max_time_ms - spent_ms);
}

const char *message_difference(const struct op *op, const uint8_t *at, size_t len)
{
    struct buffer expected = {0};
    struct op as_sent = *op;
    as_sent.max_time_ms = max_time_in(at, len);
    append_op(&as_sent, 0, 1, &expected);
    const char *difference = NULL;
    if (!is_time_left(op, as_sent.max_time_ms)) {
        difference = "its maxTimeMS";
    } else if (buffer_held(&expected) != len) {
        difference = "its length";
    } else if (memcmp(buffer_at(&expected), at, HEADER_BYTES + 4) != 0) {
        difference = "its header or flags";
    } else if (memcmp(buffer_at(&expected), at, len) != 0) {
        difference = "its sections";
    }
    buffer_fini(&expected);
    return difference;
}

bool message_body(const uint8_t *at, size_t len, bson_t *ret_body)
{
    int32_t opcode = number_at(at + 12);
    size_t before = opcode == OP_MSG ? HEADER_BYTES + 5 : HEADER_BYTES + 20;
    if (opcode == OP_MSG && len > before && at[before - 1] == 1) {
        before += (size_t)number_at(at + before) + 1; // the body comes after a sequence
    }
    if (len < before + 5) {
        return false;
    }
    int32_t body_len = number_at(at + before);
    return body_len >= 5 && before + (size_t)body_len <= len &&
           bson_init_static(ret_body, at + before, (size_t)body_len);
}
