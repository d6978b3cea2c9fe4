// SPDX-License-Identifier: Apache-2.0
//
// A server's bytes, read in pieces, in one, and byte by byte: the same is found. Of a reply that
// libbson reads as well, it finds the same.
//
//      input: a seed for the sizes of the pieces 1 | the server's bytes

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/model.h"
#include "wire/reply.h"

enum { REPLY_AT = FRAME_HEADER_BYTES + 4 + 1 };

struct result {
    enum reply_status status;
    size_t taken;
    struct reply_view view;
};

enum cut { CUT_NOWHERE, CUT_EVERYWHERE, CUT_BY_SEED };

static size_t piece_of(enum cut cut, uint32_t *seed)
{
    if (cut == CUT_NOWHERE) {
        return SIZE_MAX;
    }
    *seed = *seed * 1664525 + 1013904223;
    return cut == CUT_EVERYWHERE ? 1 : 1 + (*seed >> 24) % (1u << (1 + *seed % 7));
}

// Every piece lies in a block of its own.
static enum reply_status feed(struct reply_scan *scan, struct bytes piece, size_t *ret_taken)
{
    uint8_t *copy = exact_copy(piece.at, piece.len);
    enum reply_status status = reply_scan_feed(scan, copy, piece.len, ret_taken);
    free(copy);
    return status;
}

static struct result scan_in_pieces(struct bytes in, enum cut cut, uint32_t seed)
{
    struct reply_scan scan;
    struct result result = {.status = REPLY_MORE};
    reply_scan_begin(&scan);
    while (result.status == REPLY_MORE && in.len > 0) {
        size_t len = piece_of(cut, &seed);
        len = len < in.len ? len : in.len;
        size_t taken = 0;
        size_t remaining = scan.remaining;
        bool has_begun = result.taken >= FRAME_HEADER_BYTES;
        result.status = feed(&scan, (struct bytes){in.at, len}, &taken);
        MUST(result.status != REPLY_MORE || taken == len);
        MUST(result.status == REPLY_BAD || !has_begun || scan.remaining == remaining - taken);
        result.taken += taken;
        bytes_take(&in, taken);
        if (result.status == REPLY_DONE) {
            MUST(scan.remaining == 0 && result.taken == (size_t)scan.view.frame.length);
        }
    }
    if (result.status == REPLY_BAD) {
        size_t taken = 7;
        uint8_t more[1] = {0};
        MUST(reply_scan_feed(&scan, more, 1, &taken) == REPLY_BAD && taken == 7);
    }
    result.view = scan.view;
    return result;
}

static void same_result(const struct result *a, const struct result *b)
{
    MUST(a->status == b->status);
    if (a->status != REPLY_BAD) {
        MUST(a->taken == b->taken);
        MUST(memcmp(&a->view.frame, &b->view.frame, sizeof(a->view.frame)) == 0);
        MUST(a->view.ok == b->view.ok && a->view.code == b->view.code);
        MUST(a->view.write_concern_code == b->view.write_concern_code);
        MUST(a->view.labels == b->view.labels && a->view.has_cursor == b->view.has_cursor);
        MUST(a->view.cursor_id == b->view.cursor_id);
    }
}

// --- what libbson finds -------------------------------------------------------------------------

static bool is_number(const bson_iter_t *iter)
{
    return BSON_ITER_HOLDS_INT(iter) || BSON_ITER_HOLDS_DOUBLE(iter);
}

static bool read_number(const bson_iter_t *iter, int64_t *ret_number)
{
    double value = BSON_ITER_HOLDS_DOUBLE(iter) ? bson_iter_double(iter) : 0;
    if (!is_number(iter) || !(value >= -0x1p63 && value < 0x1p63)) {
        return false;
    }
    *ret_number = bson_iter_as_int64(iter);
    return true;
}

static void read_code(const bson_iter_t *iter, int32_t *code)
{
    int64_t number = 0;
    if (is_number(iter)) {
        *code = read_number(iter, &number) && number == (int32_t)number ? (int32_t)number : 0;
    }
}

static void read_label(const bson_iter_t *iter, unsigned *labels)
{
    uint32_t len;
    if (BSON_ITER_HOLDS_UTF8(iter)) {
        const char *text = bson_iter_utf8(iter, &len);
        *labels |= reply_label((struct bytes){(const uint8_t *)text, len});
    }
}

static void read_inner(const bson_iter_t *outer, struct reply_view *view)
{
    bson_iter_t iter;
    bool is_document = BSON_ITER_HOLDS_DOCUMENT(outer);
    if ((!is_document && !BSON_ITER_HOLDS_ARRAY(outer)) || !bson_iter_recurse(outer, &iter)) {
        return;
    }
    while (bson_iter_next(&iter)) {
        if (is_document && BSON_ITER_IS_KEY(outer, "cursor") && BSON_ITER_IS_KEY(&iter, "id")) {
            view->has_cursor |= read_number(&iter, &view->cursor_id);
        } else if (is_document && BSON_ITER_IS_KEY(outer, "writeConcernError") &&
                   BSON_ITER_IS_KEY(&iter, "code")) {
            read_code(&iter, &view->write_concern_code);
        } else if (!is_document && BSON_ITER_IS_KEY(outer, "errorLabels")) {
            read_label(&iter, &view->labels);
        }
    }
}

static struct reply_view model_view(const struct frame *frame, struct bytes document)
{
    struct reply_view view = {.frame = *frame};
    bson_t bson = model_document(document);
    bson_iter_t iter;
    MUST(bson_iter_init(&iter, &bson));
    while (bson_iter_next(&iter)) {
        if (BSON_ITER_IS_KEY(&iter, "ok") && (is_number(&iter) || BSON_ITER_HOLDS_BOOL(&iter))) {
            view.ok = BSON_ITER_HOLDS_DOUBLE(&iter) ? bson_iter_double(&iter) != 0
                                                    : bson_iter_as_bool(&iter);
        } else if (BSON_ITER_IS_KEY(&iter, "code")) {
            read_code(&iter, &view.code);
        } else {
            read_inner(&iter, &view);
        }
    }
    return view;
}

// Only of messages without a checksum, which the scan leaves alone and op_msg_read does not.
static void compare_with_libbson(struct bytes in, const struct result *ours)
{
    struct frame frame;
    struct op_msg msg;
    if (frame_read(in.at, in.len, &frame) != FRAME_OK || (size_t)frame.length > in.len ||
        frame.opcode != OPCODE_MSG) {
        return;
    }
    struct bytes message = {in.at, (size_t)frame.length};
    if (op_msg_read(message, &msg) != WIRE_OK || msg.sequence_count > 0 ||
        (msg.flags & OP_MSG_MORE_TO_COME)) {
        return;
    }
    struct result theirs = {.status = REPLY_DONE, .taken = message.len};
    theirs.view = model_view(&frame, msg.body);
    same_result(ours, &theirs);
}

static void check_one(uint32_t seed, struct bytes in)
{
    struct result whole = scan_in_pieces(in, CUT_NOWHERE, 0);
    struct result bytewise = scan_in_pieces(in, CUT_EVERYWHERE, 0);
    struct result pieces = scan_in_pieces(in, CUT_BY_SEED, seed);
    same_result(&whole, &bytewise);
    same_result(&whole, &pieces);
    uint8_t *copy = exact_copy(in.at, in.len);
    compare_with_libbson((struct bytes){copy, in.len}, &whole);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    uint32_t seed = input_byte(&input);
    check_one(seed, (struct bytes){input.at, input.len});
    if (input.len >= REPLY_AT + BSON_VIEW_MIN_BYTES) {
        uint8_t *message = exact_copy(input.at, input.len);
        mend_message(message, input.len);
        bool has_checksum = load_i32(message + FRAME_HEADER_BYTES) & OP_MSG_CHECKSUM_PRESENT;
        store_i32(message + REPLY_AT, (int32_t)(input.len - REPLY_AT - (has_checksum ? 4 : 0)));
        mend_message(message, input.len);
        check_one(seed, (struct bytes){message, input.len});
        free(message);
    }
    return 0;
}
