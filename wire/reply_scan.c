// SPDX-License-Identifier: Apache-2.0
//
// Which step follows which:
//
//      header -> section -> type -+-> end
//                           ^ ^   +-> (of an inner document) -> type
//                           | |   +-> key -+-> (skip) -------------------> type
//                           | |            +-> number -------------------> type
//                           | |            +-> string, string -----------> type
//                           | |            +-> prefix -+-> (skip) -------> type
//                           | |                        +-> label --------> type
//                           | +------------------------+-> (inner document)
//
// Invariant: reply_left + inner_left are the bytes of the reply's document that no step has taken
// account of yet, closing NULs included; a value is taken off them as soon as its length is known,
// so no length can reach beyond the document it stands in, nor that one beyond the message.

#include <assert.h>

#include "wire/bson_extent.h"
#include "wire/bson_view.h"
#include "wire/op_msg.h"
#include "wire/reply.h"

enum step {
    STEP_HEADER,
    STEP_SECTION,
    STEP_TYPE,
    STEP_KEY,
    STEP_PREFIX,
    STEP_NUMBER,
    STEP_LABEL,
    STEP_STRING,
    STEP_END,
    STEP_BROKEN,
};

enum context { IN_REPLY, IN_CURSOR, IN_LABELS, IN_WRITE_CONCERN_ERROR };

enum field {
    FIELD_OTHER,
    FIELD_OK,
    FIELD_CODE,
    FIELD_CURSOR,
    FIELD_CURSOR_ID,
    FIELD_LABELS,
    FIELD_LABEL,
    FIELD_WRITE_CONCERN_ERROR,
    FIELD_WRITE_CONCERN_CODE,
};

enum outcome { GO_ON, WANT_MORE, BROKEN };

#define SECTION_BYTES (4 + 1 + 4) // flags, kind, the document's length

void reply_scan_begin(struct reply_scan *scan)
{
    *scan = (struct reply_scan){.step = STEP_HEADER};
}

static void hold(struct reply_scan *scan, struct bytes piece)
{
    if (piece.len > 0) {
        memcpy(scan->hold + scan->held, piece.at, piece.len);
        scan->held = (uint8_t)(scan->held + piece.len);
    }
}

// The next `len` bytes in one piece, where they lie or gathered; NULL while they have not all come.
static inline const uint8_t *take(struct reply_scan *scan, struct bytes *in, size_t len)
{
    if (scan->held == 0 && in->len >= len) {
        return bytes_take(in, len).at;
    }
    size_t missing = len - scan->held;
    hold(scan, bytes_take(in, in->len < missing ? in->len : missing));
    if (scan->held < len) {
        return NULL;
    }
    scan->held = 0;
    return scan->hold;
}

// What is left of the document that the next element stands in.
static inline size_t *left(struct reply_scan *scan)
{
    return scan->context == IN_REPLY ? &scan->reply_left : &scan->inner_left;
}

static enum outcome step_header(struct reply_scan *scan, struct bytes *in)
{
    const uint8_t *header = take(scan, in, FRAME_HEADER_BYTES);
    if (!header) {
        return WANT_MORE;
    }
    struct frame *frame = &scan->view.frame;
    if (frame_read(header, FRAME_HEADER_BYTES, frame) != FRAME_OK || frame->opcode != OPCODE_MSG ||
        frame->length < FRAME_HEADER_BYTES + SECTION_BYTES + 1) {
        return BROKEN;
    }
    scan->remaining = (size_t)frame->length - FRAME_HEADER_BYTES;
    scan->step = STEP_SECTION;
    return GO_ON;
}

static enum outcome step_section(struct reply_scan *scan, struct bytes *in)
{
    const uint8_t *section = take(scan, in, SECTION_BYTES);
    if (!section) {
        return WANT_MORE;
    }
    uint32_t flags = (uint32_t)load_i32(section);
    int32_t checksum_bytes = flags & OP_MSG_CHECKSUM_PRESENT ? 4 : 0;
    int32_t document_bytes = load_i32(section + 5);
    if (op_msg_has_unknown_flags(flags) || (flags & OP_MSG_MORE_TO_COME) || section[4] != 0 ||
        document_bytes < BSON_VIEW_MIN_BYTES ||
        document_bytes != scan->view.frame.length - FRAME_HEADER_BYTES - 4 - 1 - checksum_bytes) {
        return BROKEN;
    }
    scan->reply_left = (size_t)document_bytes - 4;
    scan->step = STEP_TYPE;
    return GO_ON;
}

static enum outcome end_document(struct reply_scan *scan)
{
    if (*left(scan) != 0) {
        return BROKEN;
    }
    if (scan->context == IN_REPLY) {
        scan->step = STEP_END;
    }
    scan->context = IN_REPLY;
    return GO_ON;
}

static enum outcome step_type(struct reply_scan *scan, struct bytes *in)
{
    const uint8_t *type = take(scan, in, 1);
    if (!type) {
        return WANT_MORE;
    }
    *left(scan) -= 1;
    if (*type == 0) {
        return end_document(scan);
    }
    if (*left(scan) < 2) {
        return BROKEN; // no room for a key's NUL and the document's
    }
    scan->type = *type;
    scan->step = STEP_KEY;
    return GO_ON;
}

// Passes over a string that ends in NUL, or over as much of it as has come. GO_ON once the NUL has.
static inline enum outcome pass_string(struct reply_scan *scan, struct bytes *in,
                                       struct bytes *ret_piece)
{
    size_t room = *left(scan) - 1;
    size_t len = in->len < room ? in->len : room;
    const uint8_t *nul = len > 0 ? memchr(in->at, 0, len) : NULL;
    if (nul) {
        *ret_piece = bytes_take(in, (size_t)(nul - in->at));
        bytes_take(in, 1);
        *left(scan) -= ret_piece->len + 1;
        return GO_ON;
    }
    if (len == room) {
        return BROKEN;
    }
    *ret_piece = bytes_take(in, len);
    *left(scan) -= len;
    return WANT_MORE;
}

static enum field field_of(const struct reply_scan *scan, struct bytes key)
{
    switch (scan->context) {
    case IN_LABELS:
        return FIELD_LABEL;
    case IN_CURSOR:
        return bytes_equal(key, "id") ? FIELD_CURSOR_ID : FIELD_OTHER;
    case IN_WRITE_CONCERN_ERROR:
        return bytes_equal(key, "code") ? FIELD_WRITE_CONCERN_CODE : FIELD_OTHER;
    }
    return bytes_equal(key, "ok")                  ? FIELD_OK
           : bytes_equal(key, "code")              ? FIELD_CODE
           : bytes_equal(key, "cursor")            ? FIELD_CURSOR
           : bytes_equal(key, "errorLabels")       ? FIELD_LABELS
           : bytes_equal(key, "writeConcernError") ? FIELD_WRITE_CONCERN_ERROR
                                                   : FIELD_OTHER;
}

static bool is_wanted_number(const struct reply_scan *scan)
{
    bool is_number = scan->type == BSON_VIEW_INT32 || scan->type == BSON_VIEW_INT64 ||
                     scan->type == BSON_VIEW_DOUBLE;
    switch (scan->field) {
    case FIELD_OK:
        return is_number || scan->type == BSON_VIEW_BOOL;
    case FIELD_CODE:
    case FIELD_CURSOR_ID:
    case FIELD_WRITE_CONCERN_CODE:
        return is_number;
    default:
        return false;
    }
}

static enum outcome begin_fixed(struct reply_scan *scan, uint8_t len)
{
    if (len >= *left(scan)) {
        return BROKEN;
    }
    *left(scan) -= len;
    if (is_wanted_number(scan)) {
        scan->want = len;
        scan->step = STEP_NUMBER;
    } else {
        scan->skip = len;
        scan->step = STEP_TYPE;
    }
    return GO_ON;
}

static enum outcome begin_value(struct reply_scan *scan)
{
    const struct bson_extent *extent = &bson_extents[scan->type];
    switch (extent->kind) {
    case BSON_EXTENT_FIXED:
        return begin_fixed(scan, extent->bytes);
    case BSON_EXTENT_PREFIXED:
        scan->step = STEP_PREFIX;
        return *left(scan) > 4 ? GO_ON : BROKEN;
    case BSON_EXTENT_REGEX:
        scan->strings = 2;
        scan->step = STEP_STRING;
        return *left(scan) > 1 ? GO_ON : BROKEN;
    default:
        return BROKEN;
    }
}

// Gathers as much of a key as fits in `hold`: one that fills it is longer than any we know.
static void hold_some(struct reply_scan *scan, struct bytes piece)
{
    size_t room = sizeof(scan->hold) - scan->held;
    piece.len = piece.len < room ? piece.len : room;
    hold(scan, piece);
}

static enum outcome step_key(struct reply_scan *scan, struct bytes *in)
{
    struct bytes key;
    enum outcome outcome = pass_string(scan, in, &key);
    if (outcome == BROKEN) {
        return BROKEN;
    }
    if (outcome == WANT_MORE || scan->held > 0) {
        hold_some(scan, key);
        key = (struct bytes){scan->hold, scan->held};
    }
    if (outcome == WANT_MORE) {
        return WANT_MORE;
    }
    scan->held = 0;
    scan->field = (uint8_t)field_of(scan, key);
    return begin_value(scan);
}

static enum outcome step_string(struct reply_scan *scan, struct bytes *in)
{
    struct bytes piece;
    enum outcome outcome = pass_string(scan, in, &piece);
    if (outcome != GO_ON) {
        return outcome;
    }
    scan->strings--;
    if (scan->strings == 0) {
        scan->step = STEP_TYPE;
        return GO_ON;
    }
    return *left(scan) > 1 ? GO_ON : BROKEN;
}

// The document that the element opens for us to go into, or IN_REPLY if it is to be leapt over.
static enum context opened_by(const struct reply_scan *scan)
{
    if (scan->field == FIELD_CURSOR && scan->type == BSON_VIEW_DOCUMENT) {
        return IN_CURSOR;
    }
    if (scan->field == FIELD_WRITE_CONCERN_ERROR && scan->type == BSON_VIEW_DOCUMENT) {
        return IN_WRITE_CONCERN_ERROR;
    }
    if (scan->field == FIELD_LABELS && scan->type == BSON_VIEW_ARRAY) {
        return IN_LABELS;
    }
    return IN_REPLY;
}

static enum outcome step_prefix(struct reply_scan *scan, struct bytes *in)
{
    const uint8_t *prefix = take(scan, in, 4);
    if (!prefix) {
        return WANT_MORE;
    }
    size_t len = bson_extent_prefixed(&bson_extents[scan->type], load_i32(prefix));
    if (len == 0 || len >= *left(scan)) {
        return BROKEN;
    }
    *left(scan) -= len;
    size_t rest = len - 4;
    enum context inner = opened_by(scan);
    scan->step = STEP_TYPE;
    if (inner != IN_REPLY) {
        scan->context = (uint8_t)inner;
        scan->inner_left = rest;
    } else if (scan->field == FIELD_LABEL && scan->type == BSON_VIEW_STRING &&
               rest <= sizeof(scan->hold)) {
        scan->want = (uint8_t)rest;
        scan->step = STEP_LABEL;
    } else {
        scan->skip = rest;
    }
    return GO_ON;
}

static int32_t code_of(const struct bson_element *element)
{
    int64_t code;
    return bson_element_i64(element, &code) && code == (int32_t)code ? (int32_t)code : 0;
}

static void read_cursor_id(struct reply_view *view, const struct bson_element *element)
{
    if (bson_element_i64(element, &view->cursor_id)) {
        view->has_cursor = true;
    }
}

static void read_number(struct reply_scan *scan, const struct bson_element *element)
{
    struct reply_view *view = &scan->view;
    switch (scan->field) {
    case FIELD_OK:
        view->ok = bson_element_truth(element);
        break;
    case FIELD_CODE:
        view->code = code_of(element);
        break;
    case FIELD_WRITE_CONCERN_CODE:
        view->write_concern_code = code_of(element);
        break;
    default:
        read_cursor_id(view, element);
        break;
    }
}

static enum outcome step_number(struct reply_scan *scan, struct bytes *in)
{
    const uint8_t *value = take(scan, in, scan->want);
    if (!value) {
        return WANT_MORE;
    }
    read_number(scan, &(struct bson_element){.type = scan->type, .value = {value, scan->want}});
    scan->step = STEP_TYPE;
    return GO_ON;
}

static enum outcome step_label(struct reply_scan *scan, struct bytes *in)
{
    const uint8_t *text = take(scan, in, scan->want);
    if (!text) {
        return WANT_MORE;
    }
    if (text[scan->want - 1] == 0) {
        scan->view.labels |= reply_label((struct bytes){text, scan->want - 1u});
    }
    scan->step = STEP_TYPE;
    return GO_ON;
}

static enum outcome step(struct reply_scan *scan, struct bytes *in)
{
    switch (scan->step) {
    case STEP_SECTION:
        return step_section(scan, in);
    case STEP_TYPE:
        return step_type(scan, in);
    case STEP_KEY:
        return step_key(scan, in);
    case STEP_PREFIX:
        return step_prefix(scan, in);
    case STEP_NUMBER:
        return step_number(scan, in);
    case STEP_LABEL:
        return step_label(scan, in);
    case STEP_STRING:
        return step_string(scan, in);
    case STEP_END: // perhaps a checksum
        bytes_take(in, in->len);
        return WANT_MORE;
    default:
        return BROKEN;
    }
}

// Takes all of `in`, which belongs to the message, or finds it BROKEN.
static enum outcome scan_rest(struct reply_scan *scan, struct bytes in)
{
    enum outcome outcome = GO_ON;
    while (outcome == GO_ON) {
        size_t leap = in.len < scan->skip ? in.len : scan->skip;
        bytes_take(&in, leap);
        scan->skip -= leap;
        outcome = scan->skip > 0 ? WANT_MORE : step(scan, &in);
    }
    return outcome;
}

enum reply_status reply_scan_feed(struct reply_scan *scan, const uint8_t *at, size_t len,
                                  size_t *ret_taken)
{
    struct bytes in = {at, len};
    enum outcome outcome = scan->step == STEP_HEADER ? step_header(scan, &in) : GO_ON;
    if (outcome == GO_ON) {
        in.len = in.len < scan->remaining ? in.len : scan->remaining;
        scan->remaining -= in.len;
        outcome = scan_rest(scan, in);
    }
    if (outcome == BROKEN) {
        scan->step = STEP_BROKEN;
        return REPLY_BAD;
    }
    *ret_taken = (size_t)(in.at - at) + in.len;
    if (scan->step == STEP_HEADER || scan->remaining > 0) {
        return REPLY_MORE;
    }
    assert(scan->step == STEP_END);
    return REPLY_DONE;
}
