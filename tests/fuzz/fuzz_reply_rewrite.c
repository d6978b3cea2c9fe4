// SPDX-License-Identifier: Apache-2.0
//
// A reply that a scan has gone over is rewritten: what comes out is a reply again, in which nothing
// is changed but what should be.
//
//      input: labels to drop 1 | a reply

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/model.h"
#include "wire/reply.h"

enum { REPLY_AT = FRAME_HEADER_BYTES + 4 + 1, HOST_UNREACHABLE = 6 };

static bool scan_whole(struct bytes message, struct reply_view *ret_view)
{
    struct reply_scan scan;
    size_t taken = 0;
    reply_scan_begin(&scan);
    if (reply_scan_feed(&scan, message.at, message.len, &taken) != REPLY_DONE ||
        taken != message.len) {
        return false;
    }
    *ret_view = scan.view;
    return true;
}

// --- the model: one level copied by libbson's iteration, what is to change changed ---------------

struct model {
    uint8_t *at;
    size_t len;
};

static void put(struct model *out, const void *at, size_t len)
{
    if (len > 0) {
        memcpy(out->at + out->len, at, len);
        out->len += len;
    }
}

static void put_element(struct model *out, uint8_t type, const char *key, struct bytes value)
{
    put(out, &type, 1);
    put(out, key, strlen(key) + 1);
    put(out, value.at, value.len);
}

static bool is_state_change(const bson_iter_t *iter)
{
    if (!BSON_ITER_IS_KEY(iter, "code")) {
        return false;
    }
    if (BSON_ITER_HOLDS_DOUBLE(iter)) {
        double code = bson_iter_double(iter);
        return code > -1e9 && code < 1e9 && reply_is_state_change((int32_t)code);
    }
    int64_t code = BSON_ITER_HOLDS_INT(iter) ? bson_iter_as_int64(iter) : 0;
    return code == (int32_t)code && reply_is_state_change((int32_t)code);
}

static bool tells_state_change(struct bytes document)
{
    bson_t bson = model_document(document);
    bson_iter_t iter;
    MUST(bson_iter_init(&iter, &bson));
    while (bson_iter_next(&iter)) {
        if (is_state_change(&iter)) {
            return true;
        }
    }
    return false;
}

static bool is_dropped(const bson_iter_t *iter, unsigned drop)
{
    uint32_t len;
    const char *text = BSON_ITER_HOLDS_UTF8(iter) ? bson_iter_utf8(iter, &len) : NULL;
    return text && (reply_label((struct bytes){(const uint8_t *)text, len}) & drop);
}

static void put_labels(struct model *out, struct bytes labels, unsigned drop)
{
    struct model array = {malloc(4 + 2 * labels.len + 1), 4};
    bson_t bson = model_document(labels);
    bson_iter_t iter;
    int count = 0;
    MUST(bson_iter_init(&iter, &bson));
    while (bson_iter_next(&iter)) {
        if (!is_dropped(&iter, drop)) {
            char index[12];
            snprintf(index, sizeof(index), "%d", count++);
            put_element(&array, (uint8_t)bson_iter_type(&iter), index, model_value(&iter, labels));
        }
    }
    put(&array, "", 1);
    store_i32(array.at, (int32_t)array.len);
    if (count > 0) {
        put_element(out, BSON_VIEW_ARRAY, "errorLabels", (struct bytes){array.at, array.len});
    }
    free(array.at);
}

static void put_level(struct model *out, struct bytes document, bool is_top, unsigned drop);

static void put_one(struct model *out, const bson_iter_t *iter, struct bytes value, bool hush,
                    bool is_top, unsigned drop)
{
    if (is_top && BSON_ITER_IS_KEY(iter, "topologyVersion")) {
        return;
    }
    if (is_top && BSON_ITER_IS_KEY(iter, "errorLabels") && BSON_ITER_HOLDS_ARRAY(iter)) {
        put_labels(out, value, drop);
    } else if (is_top && BSON_ITER_IS_KEY(iter, "writeConcernError") &&
               BSON_ITER_HOLDS_DOCUMENT(iter)) {
        put_element(out, BSON_VIEW_DOCUMENT, "writeConcernError", (struct bytes){0});
        put_level(out, value, false, drop);
    } else if (hush && is_state_change(iter)) {
        uint8_t code[4];
        store_i32(code, HOST_UNREACHABLE);
        put_element(out, BSON_VIEW_INT32, "code", (struct bytes){code, 4});
    } else if (hush && BSON_ITER_IS_KEY(iter, "codeName")) {
        static const uint8_t name[] = "\x10\0\0\0HostUnreachable";
        put_element(out, BSON_VIEW_STRING, "codeName", (struct bytes){name, sizeof(name)});
    } else {
        put_element(out, (uint8_t)bson_iter_type(iter), bson_iter_key(iter), value);
    }
}

static void put_level(struct model *out, struct bytes document, bool is_top, unsigned drop)
{
    bool hush = tells_state_change(document);
    bson_t bson = model_document(document);
    bson_iter_t iter;
    size_t start = out->len;
    out->len += 4;
    MUST(bson_iter_init(&iter, &bson));
    while (bson_iter_next(&iter)) {
        put_one(out, &iter, model_value(&iter, document), hush, is_top, drop);
    }
    put(out, "", 1);
    store_i32(out->at + start, (int32_t)(out->len - start));
}

static void compare_with_model(struct bytes reply, struct bytes rewritten, unsigned drop)
{
    struct model model = {malloc(4 * reply.len + 64), 0};
    MUST(model.at);
    put_level(&model, reply, true, drop);
    MUST(same_bytes((struct bytes){model.at, model.len}, rewritten));
    MUST(bson_check(rewritten) == WIRE_OK);
    free(model.at);
}

// --- what holds of every one --------------------------------------------------------------------

static void compare_views(const struct reply_view *a, const struct reply_view *b, unsigned drop)
{
    MUST(a->frame.request_id == b->frame.request_id);
    MUST(a->frame.response_to == b->frame.response_to && a->ok == b->ok);
    MUST(b->code == (reply_is_state_change(a->code) ? HOST_UNREACHABLE : a->code));
    MUST(b->write_concern_code ==
         (reply_is_state_change(a->write_concern_code) ? HOST_UNREACHABLE : a->write_concern_code));
    MUST(b->labels == (a->labels & ~drop));
    MUST(a->has_cursor == b->has_cursor && a->cursor_id == b->cursor_id);
}

static void rewrite(struct bytes message, const struct reply_view *view, unsigned drop)
{
    struct buffer out = {0};
    buffer_append(&out, "before", 6);
    reply_rewrite(message, drop, false, &out);
    MUST(memcmp(buffer_at(&out), "before", 6) == 0);
    buffer_consume(&out, 6);
    uint8_t *copy = exact_copy(buffer_at(&out), buffer_held(&out));
    struct bytes rewritten = {copy, buffer_held(&out)};
    struct reply_view after;
    MUST(scan_whole(rewritten, &after));
    compare_views(view, &after, drop);
    MUST(load_i32(copy + FRAME_HEADER_BYTES) == 0);
    struct bytes rest = {message.at + REPLY_AT, message.len - REPLY_AT};
    struct bytes reply;
    MUST(bson_take(&rest, &reply) == WIRE_OK);
    if (bson_check(reply) == WIRE_OK) {
        compare_with_model(reply, (struct bytes){copy + REPLY_AT, rewritten.len - REPLY_AT}, drop);
    }
    free(copy);
    buffer_fini(&out);
}

static void check_one(struct bytes message, unsigned drop)
{
    struct reply_view view;
    if (scan_whole(message, &view)) {
        rewrite(message, &view, drop);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    unsigned drop = input_byte(&input) & 0x7f;
    if (input.len == 0) {
        return 0;
    }
    uint8_t *message = exact_copy(input.at, input.len);
    check_one((struct bytes){message, input.len}, drop);
    if (input.len >= REPLY_AT + BSON_VIEW_MIN_BYTES) {
        bool has_checksum = load_i32(message + FRAME_HEADER_BYTES) & OP_MSG_CHECKSUM_PRESENT;
        store_i32(message + REPLY_AT, (int32_t)(input.len - REPLY_AT - (has_checksum ? 4 : 0)));
        store_i32(message, (int32_t)input.len);
        check_one((struct bytes){message, input.len}, drop);
    }
    free(message);
    return 0;
}
