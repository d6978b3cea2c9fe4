// SPDX-License-Identifier: Apache-2.0
//
// A walk over the levels that reply_scan has gone over, which copies each element as it stands or
// writes another in its place. libbson stays out of it: nobody has checked what lies deeper.

#include <assert.h>
#include <stdio.h>

#include "wire/bson_view.h"
#include "wire/op_msg.h"
#include "wire/reply.h"

#define HOST_UNREACHABLE 6

static size_t begin_document(struct buffer *out)
{
    static const uint8_t length_to_come[4];
    size_t start = buffer_held(out);
    buffer_append(out, length_to_come, sizeof(length_to_come));
    return start;
}

static void end_document(struct buffer *out, size_t start)
{
    buffer_append(out, "", 1);
    store_i32(buffer_at(out) + start, (int32_t)(buffer_held(out) - start));
}

static void append_key(struct buffer *out, uint8_t type, struct bytes key)
{
    buffer_append(out, &type, 1);
    buffer_append(out, key.at, key.len);
    buffer_append(out, "", 1);
}

static void append_element(struct buffer *out, const struct bson_element *element)
{
    append_key(out, element->type, element->key);
    buffer_append(out, element->value.at, element->value.len);
}

static void append_i32(struct buffer *out, int32_t value)
{
    uint8_t bytes[4];
    store_i32(bytes, value);
    buffer_append(out, bytes, sizeof(bytes));
}

static void append_text(struct buffer *out, const char *text)
{
    size_t bytes = strlen(text) + 1;
    append_i32(out, (int32_t)bytes);
    buffer_append(out, text, bytes);
}

// Begins and goes on with a walk over a level that was scanned: it cannot be bad.
static struct bson_walk begin_scanned(struct bytes document)
{
    struct bson_walk walk;
    bool begun = bson_walk_begin(&walk, document);
    assert(begun);
    return walk;
}

static bool next_scanned(struct bson_walk *walk, struct bson_element *ret_element)
{
    enum bson_walk_status status = bson_walk_next(walk, ret_element);
    assert(status != BSON_WALK_BAD);
    return status == BSON_WALK_ELEMENT;
}

static bool is_state_change(const struct bson_element *element)
{
    int64_t code;
    return bytes_equal(element->key, "code") && bson_element_i64(element, &code) &&
           code == (int32_t)code && reply_is_state_change((int32_t)code);
}

static bool tells_state_change(struct bytes document)
{
    struct bson_walk walk = begin_scanned(document);
    struct bson_element element;
    while (next_scanned(&walk, &element)) {
        if (is_state_change(&element)) {
            return true;
        }
    }
    return false;
}

// Appends an element of a document that tells of a state change so that it does not any more.
static void append_hushed(struct buffer *out, const struct bson_element *element)
{
    if (is_state_change(element)) {
        append_key(out, BSON_VIEW_INT32, element->key);
        append_i32(out, HOST_UNREACHABLE);
    } else if (bytes_equal(element->key, "codeName")) {
        append_key(out, BSON_VIEW_STRING, element->key);
        append_text(out, reply_code_name(HOST_UNREACHABLE));
    } else {
        append_element(out, element);
    }
}

static void append_write_concern_error(struct buffer *out, const struct bson_element *error)
{
    if (!tells_state_change(error->value)) {
        append_element(out, error);
        return;
    }
    append_key(out, error->type, error->key);
    size_t start = begin_document(out);
    struct bson_walk walk = begin_scanned(error->value);
    struct bson_element element;
    while (next_scanned(&walk, &element)) {
        append_hushed(out, &element);
    }
    end_document(out, start);
}

static bool is_dropped(const struct bson_element *label, unsigned drop_labels)
{
    struct bytes text;
    return bson_element_text(label, &text) && (reply_label(text) & drop_labels);
}

static bool are_all_dropped(struct bytes labels, unsigned drop_labels)
{
    struct bson_walk walk = begin_scanned(labels);
    struct bson_element label;
    while (next_scanned(&walk, &label)) {
        if (!is_dropped(&label, drop_labels)) {
            return false;
        }
    }
    return true;
}

static void append_labels(struct buffer *out, const struct bson_element *labels,
                          unsigned drop_labels)
{
    if (are_all_dropped(labels->value, drop_labels)) {
        return;
    }
    append_key(out, labels->type, labels->key);
    size_t start = begin_document(out);
    struct bson_walk walk = begin_scanned(labels->value);
    struct bson_element label;
    unsigned count = 0;
    while (next_scanned(&walk, &label)) {
        if (!is_dropped(&label, drop_labels)) {
            char index[12];
            int len = snprintf(index, sizeof(index), "%u", count++);
            label.key = (struct bytes){(const uint8_t *)index, (size_t)len};
            append_element(out, &label);
        }
    }
    end_document(out, start);
}

static void append_reply(struct buffer *out, struct bytes reply, unsigned drop_labels,
                         bool keep_code)
{
    bool hush = !keep_code && tells_state_change(reply);
    size_t start = begin_document(out);
    struct bson_walk walk = begin_scanned(reply);
    struct bson_element element;
    while (next_scanned(&walk, &element)) {
        if (bytes_equal(element.key, "topologyVersion")) {
            continue;
        }
        if (element.type == BSON_VIEW_ARRAY && bytes_equal(element.key, "errorLabels")) {
            append_labels(out, &element, drop_labels);
        } else if (!keep_code && element.type == BSON_VIEW_DOCUMENT &&
                   bytes_equal(element.key, "writeConcernError")) {
            append_write_concern_error(out, &element);
        } else if (hush) {
            append_hushed(out, &element);
        } else {
            append_element(out, &element);
        }
    }
    end_document(out, start);
}

void reply_rewrite(struct bytes message, unsigned drop_labels, bool keep_code, struct buffer *out)
{
    struct frame frame;
    enum frame_status status = frame_read(message.at, message.len, &frame);
    assert(status == FRAME_OK && frame.opcode == OPCODE_MSG && (size_t)frame.length == message.len);
    struct bytes rest = message;
    bytes_take(&rest, FRAME_HEADER_BYTES + 4 + 1);
    struct bytes reply;
    enum wire_error error = bson_take(&rest, &reply);
    assert(error == WIRE_OK);
    size_t start = op_msg_begin(out, frame.request_id, frame.response_to);
    append_reply(out, reply, drop_labels, keep_code);
    op_msg_end(out, start);
}
