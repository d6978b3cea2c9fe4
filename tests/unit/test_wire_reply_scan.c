// SPDX-License-Identifier: Apache-2.0

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/guard.h"
#include "tests/unit/wire_samples.h"
#include "wire/bson_view.h"
#include "wire/op_msg.h"
#include "wire/reply.h"

#define MOST_BYTES 4096

static struct guard guard;

static int set_up(void **state)
{
    (void)state;
    guard = guard_new(MOST_BYTES);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    guard_free(&guard);
    return 0;
}

// Feeds one piece, in turns from the edge of the guard page and from the heap.
static enum reply_status feed(struct reply_scan *scan, const uint8_t *at, size_t len,
                              size_t *ret_taken)
{
    static bool from_heap;
    from_heap = !from_heap;
    if (!from_heap) {
        return reply_scan_feed(scan, guard_lay(&guard, at, len), len, ret_taken);
    }
    uint8_t *copy = exact_copy(at, len);
    enum reply_status status = reply_scan_feed(scan, copy, len, ret_taken);
    free(copy);
    return status;
}

// Feeds a message in pieces of random length up to `most`.
static enum reply_status feed_in_pieces(struct reply_scan *scan, struct bytes message,
                                        struct dice *dice, uint32_t most)
{
    enum reply_status status = REPLY_MORE;
    while (status == REPLY_MORE && message.len > 0) {
        size_t len = dice_below(dice, most) + 1;
        len = len < message.len ? len : message.len;
        size_t taken = SIZE_MAX;
        status = feed(scan, message.at, len, &taken);
        if (status != REPLY_BAD) {
            assert_true(taken == len || (status == REPLY_DONE && taken < len));
            bytes_take(&message, taken);
        }
    }
    return status;
}

static void assert_same_view(const struct reply_view *a, const struct reply_view *b)
{
    assert_memory_equal(&a->frame, &b->frame, sizeof(a->frame));
    assert_int_equal(a->ok, b->ok);
    assert_int_equal(a->code, b->code);
    assert_int_equal(a->write_concern_code, b->write_concern_code);
    assert_int_equal(a->labels, b->labels);
    assert_int_equal(a->has_cursor, b->has_cursor);
    assert_true(a->cursor_id == b->cursor_id);
}

static struct reply_view view_of(struct bytes message)
{
    struct reply_scan scan;
    size_t taken = 0;
    reply_scan_begin(&scan);
    assert_int_equal(feed(&scan, message.at, message.len, &taken), REPLY_DONE);
    assert_int_equal(taken, message.len);
    assert_int_equal(scan.remaining, 0);
    return scan.view;
}

static void samples_are_understood(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct reply_view view;
    } cases[] = {
        {"reply ok", {.ok = true}},
        {"reply ok in a cluster", {.ok = true}},
        {"reply cursor",
         {.ok = true, .has_cursor = true, .cursor_id = INT64_C(4611686018427387905)}},
        {"reply cursor exhausted", {.ok = true, .has_cursor = true}},
        {"reply duplicate key", {.ok = true}},
        {"reply not primary",
         {.code = 10107, .labels = LABEL_RETRYABLE_WRITE | LABEL_NO_WRITES_PERFORMED}},
        {"reply write concern error",
         {.ok = true, .write_concern_code = 91, .labels = LABEL_RETRYABLE_WRITE}},
        {"reply overloaded",
         {.code = 462,
          .labels = LABEL_SYSTEM_OVERLOADED | LABEL_RETRYABLE | LABEL_NO_WRITES_PERFORMED}},
        {"reply every type", {.ok = true, .code = 50}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct reply_view view = view_of(sample_named(cases[i].name));
        struct reply_view expected = cases[i].view;
        expected.frame = view.frame;
        assert_same_view(&view, &expected);
        assert_int_equal(view.frame.response_to, view.frame.request_id - 1);
    }
}

static size_t replies(const struct sample *ret_replies[])
{
    size_t count;
    size_t found = 0;
    const struct sample *all = samples(&count);
    for (size_t i = 0; i < count; i++) {
        if (all[i].kind == SAMPLE_REPLY) {
            ret_replies[found++] = &all[i];
        }
    }
    return found;
}

static void any_cut_gives_the_same(void **state)
{
    (void)state;
    const struct sample *all[64];
    size_t count = replies(all);
    for (size_t i = 0; i < count; i++) {
        struct bytes message = all[i]->message;
        struct reply_view whole = view_of(message);
        for (size_t cut = 1; cut < message.len; cut++) {
            struct reply_scan scan;
            size_t taken = 0;
            reply_scan_begin(&scan);
            assert_int_equal(feed(&scan, message.at, cut, &taken), REPLY_MORE);
            assert_int_equal(taken, cut);
            assert_int_equal(scan.remaining, cut < 16 ? 0 : message.len - cut);
            assert_int_equal(feed(&scan, message.at + cut, message.len - cut, &taken), REPLY_DONE);
            assert_int_equal(taken, message.len - cut);
            assert_same_view(&scan.view, &whole);
        }
    }
}

static void any_two_cuts_give_the_same(void **state)
{
    (void)state;
    struct bytes message = sample_named("reply write concern error");
    struct reply_view whole = view_of(message);
    for (size_t first = 1; first < message.len; first++) {
        for (size_t second = first + 1; second < message.len; second++) {
            struct reply_scan scan;
            size_t taken;
            reply_scan_begin(&scan);
            assert_int_equal(feed(&scan, message.at, first, &taken), REPLY_MORE);
            assert_int_equal(feed(&scan, message.at + first, second - first, &taken), REPLY_MORE);
            assert_int_equal(feed(&scan, message.at + second, message.len - second, &taken),
                             REPLY_DONE);
            assert_same_view(&scan.view, &whole);
        }
    }
}

static void a_byte_at_a_time_gives_the_same(void **state)
{
    (void)state;
    const struct sample *all[64];
    size_t count = replies(all);
    struct dice dice = {1};
    for (size_t i = 0; i < count; i++) {
        struct reply_view whole = view_of(all[i]->message);
        struct reply_scan scan;
        reply_scan_begin(&scan);
        assert_int_equal(feed_in_pieces(&scan, all[i]->message, &dice, 1), REPLY_DONE);
        assert_same_view(&scan.view, &whole);
    }
}

static void bytes_of_the_next_reply_are_not_taken(void **state)
{
    (void)state;
    struct bytes first = sample_named("reply overloaded");
    struct bytes second = sample_named("reply cursor");
    uint8_t both[MOST_BYTES];
    memcpy(both, first.at, first.len);
    memcpy(both + first.len, second.at, second.len);
    size_t taken = 0;
    struct reply_scan scan;
    reply_scan_begin(&scan);
    assert_int_equal(feed(&scan, both, first.len + second.len, &taken), REPLY_DONE);
    assert_int_equal(taken, first.len);
    assert_int_equal(scan.view.code, 462);
    reply_scan_begin(&scan);
    assert_int_equal(feed(&scan, both + first.len, second.len, &taken), REPLY_DONE);
    assert_true(scan.view.has_cursor);
}

// 40 MB of a batch go by without being kept.
static void a_long_batch_is_leapt_over(void **state)
{
    (void)state;
    enum { BATCH = 40000000, BEFORE = 16 + 4 + 1 + 4 };
    static const uint8_t after[] = {0x12, 'i', 'd', 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, //
                                    8,    'o', 'k', 0, 1, 0};
    uint8_t before[BEFORE + 1 + 7 + 4 + 1 + 2 + 5] = {0};
    size_t cursor_bytes = 4 + 1 + 2 + 5 + BATCH + 12 + 1;
    size_t document_bytes = 4 + 1 + 7 + cursor_bytes + 5 + 1;
    frame_write(before, &(struct frame){(int32_t)(16 + 4 + 1 + document_bytes), 1, 2, OPCODE_MSG});
    store_i32(before + 21, (int32_t)document_bytes);
    memcpy(before + 25, "\3cursor", 8);
    store_i32(before + 33, (int32_t)cursor_bytes);
    memcpy(before + 37, "\5b", 3);
    store_i32(before + 40, BATCH);
    struct reply_scan scan;
    size_t taken;
    reply_scan_begin(&scan);
    assert_int_equal(feed(&scan, before, sizeof(before), &taken), REPLY_MORE);
    static const uint8_t batch[65536];
    for (size_t left = BATCH; left > 0; left -= taken) {
        size_t len = left < sizeof(batch) ? left : sizeof(batch);
        assert_int_equal(reply_scan_feed(&scan, batch, len, &taken), REPLY_MORE);
        assert_int_equal(taken, len);
    }
    assert_int_equal(feed(&scan, after, sizeof(after), &taken), REPLY_DONE);
    assert_true(scan.view.ok && scan.view.has_cursor);
    assert_int_equal(scan.view.cursor_id, 9);
}

static struct reply_view view_of_json(const char *json)
{
    struct buffer out = {0};
    sample_begin(&out, 1, 2, 0);
    sample_body(&out, json);
    sample_end(&out);
    struct reply_view view = view_of(buffer_bytes(&out));
    buffer_fini(&out);
    return view;
}

static void numbers_of_any_type(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        bool ok;
        int32_t code;
    } cases[] = {
        {"{'ok': 1.0}", true, 0},
        {"{'ok': 1}", true, 0},
        {"{'ok': {'$numberLong': '1'}}", true, 0},
        {"{'ok': true}", true, 0},
        {"{'ok': 0.0, 'code': 13}", false, 13},
        {"{'ok': 0, 'code': {'$numberLong': '13'}}", false, 13},
        {"{'ok': false, 'code': 13.0}", false, 13},
        {"{'ok': {'$numberLong': '0'}, 'code': -1}", false, -1},
        {"{'ok': '1', 'code': '13'}", false, 0},
        {"{'ok': null, 'code': true}", false, 0},
        {"{'code': {'$numberLong': '4294967309'}}", false, 0},
        {"{'code': {'$numberDouble': 'NaN'}}", false, 0},
        {"{}", false, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct reply_view view = view_of_json(cases[i].json);
        assert_int_equal(view.ok, cases[i].ok);
        assert_int_equal(view.code, cases[i].code);
    }
}

static void only_what_stands_in_its_place_counts(void **state)
{
    (void)state;
    struct reply_view view = view_of_json(
        "{'a': {'ok': 1, 'code': 1, 'id': 2, 'errorLabels': ['RetryableError']}, "
        "'cursor': {'ok': 1, 'code': 2, 'cursor': {'id': 5}, 'writeConcernError': {'code': 3}, "
        "'errorLabels': ['RetryableError']}, "
        "'writeConcernError': {'id': 4, 'ok': 1}, 'errorLabels': [{'code': 5}, ['RetryableError'], "
        "'retryableerror', 'RetryableError ', ''], 'id': 3, "
        "'writeErrors': [{'code': 11000}]}");
    assert_false(view.ok || view.has_cursor);
    assert_int_equal(view.code, 0);
    assert_int_equal(view.write_concern_code, 0);
    assert_int_equal(view.labels, 0);
    assert_true(view.cursor_id == 0);
}

static void all_labels_are_known(void **state)
{
    (void)state;
    struct reply_view view = view_of_json(
        "{'errorLabels': ['RetryableWriteError', 'TransientTransactionError', 'NoWritesPerformed', "
        "'SystemOverloadedError', 'RetryableError', 'ResumableChangeStreamError', "
        "'UnknownTransactionCommitResult', 'A label longer than all that the scan holds of one, "
        "which is 64 bytes']}");
    assert_int_equal(view.labels, 0x7f);
}

static void a_cursor_id_may_be_short(void **state)
{
    (void)state;
    struct reply_view view = view_of_json("{'cursor': {'id': 7}, 'ok': 1}");
    assert_true(view.has_cursor && view.cursor_id == 7);
    view = view_of_json("{'cursor': {'id': 'x'}, 'ok': 1}");
    assert_false(view.has_cursor);
}

#define EMPTY 5, 0, 0, 0, 0

struct bad_case {
    const char *what;
    uint32_t flags;
    size_t len;
    uint8_t bytes[64]; // what follows the flags
};

// clang-format off
#define BYTES(...) sizeof((uint8_t[]){__VA_ARGS__}), {__VA_ARGS__}
// clang-format on
#define BODY(len, ...) BYTES(0, len, 0, 0, 0, __VA_ARGS__)

static const struct bad_case bad_cases[] = {
    {"unknown flag", 4, BYTES(0, EMPTY)},
    {"more to come", 2, BYTES(0, EMPTY)},
    {"a sequence first", 0, BYTES(1, 11, 0, 0, 0, 'a', 0, EMPTY, 0, EMPTY)},
    {"a sequence after", 0, BYTES(0, EMPTY, 1, 11, 0, 0, 0, 'a', 0, EMPTY)},
    {"two bodies", 0, BYTES(0, EMPTY, 0, EMPTY)},
    {"no section", 0, 0, {0}},
    {"body too long", 0, BODY(6, 0)},
    {"body too short", 0, BODY(5, 0, 0)},
    {"body of length 4", 0, BYTES(0, 4, 0, 0, 0)},
    {"body takes the checksum", 1, BODY(9, 0x0a, 'a', 0, 0, 0)},
    {"no room for a checksum", 1, BODY(5, 0)},
    {"no NUL", 0, BODY(5, 1)},
    {"ends early", 0, BODY(6, 0, 0)},
    {"a type alone", 0, BODY(6, 1, 0)},
    {"a key without its NUL", 0, BODY(7, 0x0a, 'a', 0)},
    {"an unknown type", 0, BODY(8, 0x14, 'a', 0, 0)},
    {"a short int", 0, BODY(11, 0x10, 'a', 0, 1, 0, 0, 0)},
    {"a short ok", 0, BODY(12, 0x10, 'o', 'k', 0, 1, 0, 0, 0)},
    {"half a length", 0, BODY(10, 2, 'a', 0, 1, 0, 0)},
    {"a string of length 0", 0, BODY(12, 2, 'a', 0, 0, 0, 0, 0, 0)},
    {"a string that takes the NUL", 0, BODY(13, 2, 'a', 0, 2, 0, 0, 0, 'x', 0)},
    {"a negative string", 0, BODY(13, 2, 'a', 0, 0xff, 0xff, 0xff, 0xff, 0, 0)},
    {"the longest string", 0, BODY(13, 2, 'a', 0, 0xff, 0xff, 0xff, 0x7f, 0, 0)},
    {"a document of length 4", 0, BODY(13, 3, 'a', 0, 4, 0, 0, 0, 0, 0)},
    {"a document too long", 0, BODY(13, 3, 'a', 0, 6, 0, 0, 0, 0, 0)},
    {"a regex without options", 0, BODY(10, 0x0b, 'a', 0, 'x', 0, 0)},
    {"a regex whose options take the NUL", 0, BODY(11, 0x0b, 'a', 0, 'x', 0, 'i', 0)},
    {"a regex without pattern", 0, BODY(8, 0x0b, 'a', 0, 0)},
    {"a cursor that ends early", 0,
     BODY(19, 3, 'c', 'u', 'r', 's', 'o', 'r', 0, 6, 0, 0, 0, 0, 0, 0)},
    {"a cursor without NUL", 0, BODY(18, 3, 'c', 'u', 'r', 's', 'o', 'r', 0, 5, 0, 0, 0, 1, 0)},
    {"an id beyond its cursor", 0,
     BODY(26, 3, 'c', 'u', 'r', 's', 'o', 'r', 0, 12, 0, 0, 0, 0x12, 'i', 'd', 0, 0, 0, 0, 0, 0,
          0)},
};

static void assert_bad(const char *what, const uint8_t *at, size_t len)
{
    struct dice dice = {3};
    for (uint32_t most = 1; most <= len; most += most) {
        struct reply_scan scan;
        reply_scan_begin(&scan);
        if (feed_in_pieces(&scan, (struct bytes){at, len}, &dice, most) != REPLY_BAD) {
            fail_msg("%s", what);
        }
        size_t taken = 77;
        assert_int_equal(feed(&scan, at, 1, &taken), REPLY_BAD);
        assert_int_equal(taken, 77);
    }
}

static void replies_that_lie(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(bad_cases) / sizeof(bad_cases[0]); i++) {
        const struct bad_case *bad = &bad_cases[i];
        uint8_t bytes[256];
        size_t len = FRAME_HEADER_BYTES + 4 + bad->len;
        frame_write(bytes, &(struct frame){(int32_t)len, 1, 0, OPCODE_MSG});
        store_i32(bytes + FRAME_HEADER_BYTES, (int32_t)bad->flags);
        memcpy(bytes + FRAME_HEADER_BYTES + 4, bad->bytes, bad->len);
        assert_bad(bad->what, bytes, len);
    }
}

static void headers_that_lie(void **state)
{
    (void)state;
    static const struct frame frames[] = {
        {15, 1, 2, OPCODE_MSG},         {25, 1, 2, OPCODE_MSG},
        {-1, 1, 2, OPCODE_MSG},         {FRAME_MAX_BYTES + 1, 1, 2, OPCODE_MSG},
        {26, 1, 2, OPCODE_REPLY},       {26, 1, 2, OPCODE_COMPRESSED},
        {0x54545048, 1, 2, 0x2f31312e},
    };
    for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
        uint8_t header[FRAME_HEADER_BYTES];
        frame_write(header, &frames[i]);
        assert_bad("header", header, sizeof(header));
    }
}

// What libbson finds in the same body; of what comes twice the last counts.
static int32_t libbson_code(const bson_iter_t *iter)
{
    if (!BSON_ITER_HOLDS_NUMBER(iter)) {
        return 0;
    }
    double value = bson_iter_as_double(iter);
    return value > -2147483649.0 && value < 2147483648.0 ? (int32_t)value : 0;
}

static unsigned libbson_labels(const bson_iter_t *labels)
{
    static const char *const names[] = {
        "RetryableWriteError",
        "TransientTransactionError",
        "NoWritesPerformed",
        "SystemOverloadedError",
        "RetryableError",
        "ResumableChangeStreamError",
        "UnknownTransactionCommitResult",
    };
    unsigned found = 0;
    bson_iter_t iter;
    assert_true(bson_iter_recurse(labels, &iter));
    while (bson_iter_next(&iter)) {
        for (unsigned i = 0; i < 7 && BSON_ITER_HOLDS_UTF8(&iter); i++) {
            uint32_t len;
            const char *text = bson_iter_utf8(&iter, &len);
            found |= len == strlen(names[i]) && memcmp(text, names[i], len) == 0 ? 1u << i : 0;
        }
    }
    return found;
}

static void libbson_inner(const bson_iter_t *outer, const char *key, struct reply_view *view)
{
    bson_iter_t iter;
    assert_true(bson_iter_recurse(outer, &iter));
    while (bson_iter_next(&iter)) {
        if (strcmp(bson_iter_key(&iter), key) != 0 || !BSON_ITER_HOLDS_NUMBER(&iter)) {
            continue;
        }
        double value = bson_iter_as_double(&iter);
        if (strcmp(key, "code") == 0) {
            view->write_concern_code = libbson_code(&iter);
        } else if (!BSON_ITER_HOLDS_DOUBLE(&iter) || (value >= -0x1p63 && value < 0x1p63)) {
            view->has_cursor = true;
            view->cursor_id = bson_iter_as_int64(&iter);
        }
    }
}

static struct reply_view libbson_view(struct bytes body)
{
    struct reply_view view = {0};
    bson_t document;
    bson_iter_t iter;
    assert_true(bson_init_static(&document, body.at, body.len));
    assert_true(bson_iter_init(&iter, &document));
    while (bson_iter_next(&iter)) {
        const char *key = bson_iter_key(&iter);
        if (strcmp(key, "ok") == 0 &&
            (BSON_ITER_HOLDS_NUMBER(&iter) || BSON_ITER_HOLDS_BOOL(&iter))) {
            view.ok = BSON_ITER_HOLDS_BOOL(&iter) ? bson_iter_bool(&iter)
                                                  : bson_iter_as_double(&iter) != 0;
        } else if (strcmp(key, "code") == 0 && BSON_ITER_HOLDS_NUMBER(&iter)) {
            view.code = libbson_code(&iter);
        } else if (strcmp(key, "errorLabels") == 0 && BSON_ITER_HOLDS_ARRAY(&iter)) {
            view.labels |= libbson_labels(&iter);
        } else if (strcmp(key, "cursor") == 0 && BSON_ITER_HOLDS_DOCUMENT(&iter)) {
            libbson_inner(&iter, "id", &view);
        } else if (strcmp(key, "writeConcernError") == 0 && BSON_ITER_HOLDS_DOCUMENT(&iter)) {
            libbson_inner(&iter, "code", &view);
        }
    }
    return view;
}

// The scan agrees with itself however the bytes are cut; what is sound it takes, and finds in it
// what libbson finds.
static void damaged_replies(void **state)
{
    (void)state;
    const struct sample *all[64];
    size_t count = replies(all);
    struct dice dice = {5};
    size_t sound = 0;
    size_t bad = 0;
    for (int i = 0; i < 200000; i++) {
        struct bytes message = all[dice_below(&dice, (uint32_t)count)]->message;
        uint8_t bytes[MOST_BYTES];
        memcpy(bytes, message.at, message.len);
        message.at = bytes;
        size_t from = dice_below(&dice, 8) ? 21 : 0;
        dice_damage(&dice, bytes + from, message.len - from);

        struct reply_scan whole;
        struct reply_scan cut;
        size_t taken = 0;
        reply_scan_begin(&whole);
        reply_scan_begin(&cut);
        enum reply_status status = feed(&whole, message.at, message.len, &taken);
        assert_int_equal(feed_in_pieces(&cut, message, &dice, 1u << dice_below(&dice, 7)), status);
        assert_same_view(&whole.view, &cut.view);

        struct bytes body = {message.at + 21, 0};
        bool fits = load_i32(bytes) == (int32_t)message.len && load_i32(bytes + 21) > 0 &&
                    (size_t)load_i32(bytes + 21) <= message.len - 21;
        body.len = fits ? (size_t)load_i32(bytes + 21) : 0;
        bool body_is_sound = fits && bson_check(body) == WIRE_OK;
        if (from == 21 && body_is_sound &&
            body.len ==
                (size_t)load_i32(message.at) - 21 - (bytes[16] & OP_MSG_CHECKSUM_PRESENT ? 4 : 0)) {
            assert_int_equal(status, REPLY_DONE);
            struct reply_view expected = libbson_view(body);
            expected.frame = whole.view.frame;
            assert_same_view(&whole.view, &expected);
            sound++;
        }
        bad += status == REPLY_BAD;
    }
    assert_true(sound > 20000 && bad > 20000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_are_understood),
        cmocka_unit_test(any_cut_gives_the_same),
        cmocka_unit_test(any_two_cuts_give_the_same),
        cmocka_unit_test(a_byte_at_a_time_gives_the_same),
        cmocka_unit_test(bytes_of_the_next_reply_are_not_taken),
        cmocka_unit_test(a_long_batch_is_leapt_over),
        cmocka_unit_test(numbers_of_any_type),
        cmocka_unit_test(only_what_stands_in_its_place_counts),
        cmocka_unit_test(all_labels_are_known),
        cmocka_unit_test(a_cursor_id_may_be_short),
        cmocka_unit_test(replies_that_lie),
        cmocka_unit_test(headers_that_lie),
        cmocka_unit_test(damaged_replies),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
