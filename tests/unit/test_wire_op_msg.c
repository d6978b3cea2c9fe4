// SPDX-License-Identifier: Apache-2.0

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/guard.h"
#include "tests/unit/wire_samples.h"
#include "wire/bson_view.h"
#include "wire/frame.h"
#include "wire/op_msg.h"

#define EMPTY 5, 0, 0, 0, 0
#define FLAGS_AT FRAME_HEADER_BYTES

// The least request there is, byte for byte: {ping: 1, $db: "a"}.
static const uint8_t ping[] = {
    47, 0,   0,   0,   1,    0,   0,   0,   0,   0,   0, 0, 0xdd, 7, 0, 0, // header
    0,  0,   0,   0,                                                       // flags
    0,                                                                     // body
    26, 0,   0,   0,   0x10, 'p', 'i', 'n', 'g', 0,   1, 0, 0,    0,       //
    2,  '$', 'd', 'b', 0,    2,   0,   0,   0,   'a', 0, 0,
};

struct section_case {
    const char *what;
    enum wire_error error;
    uint32_t flags;
    size_t len;
    uint8_t bytes[80]; // what follows the flags
};

// clang-format off
#define BYTES(...) sizeof((uint8_t[]){__VA_ARGS__}), {__VA_ARGS__}
// clang-format on
#define SEQUENCE_A 1, 11, 0, 0, 0, 'a', 0, EMPTY
#define SEQUENCE_B 1, 16, 0, 0, 0, 'b', 0, EMPTY, EMPTY

static const struct section_case cases[] = {
    {"body", WIRE_OK, 0, BYTES(0, EMPTY)},
    {"body, sequence", WIRE_OK, 0, BYTES(0, EMPTY, SEQUENCE_A)},
    {"sequence, body", WIRE_OK, 0, BYTES(SEQUENCE_A, 0, EMPTY)},
    {"sequence, body, sequence", WIRE_OK, 0, BYTES(SEQUENCE_A, 0, EMPTY, SEQUENCE_B)},
    {"empty sequence", WIRE_OK, 0, BYTES(0, EMPTY, 1, 6, 0, 0, 0, 'a', 0)},
    {"more to come", WIRE_OK, 2, BYTES(0, EMPTY)},
    {"unknown bits that may be", WIRE_OK, 0xffff0000, BYTES(0, EMPTY)},
    {"unknown bit 2", WIRE_BAD_FLAGS, 4, BYTES(0, EMPTY)},
    {"unknown bit 15", WIRE_BAD_FLAGS, 0x8000, BYTES(0, EMPTY)},
    {"no section", WIRE_NO_BODY, 0, 0, {0}},
    {"no body", WIRE_NO_BODY, 0, BYTES(SEQUENCE_A)},
    {"two bodies", WIRE_TWO_BODIES, 0, BYTES(0, EMPTY, 0, EMPTY)},
    {"kind 2", WIRE_UNKNOWN_SECTION, 0, BYTES(2, EMPTY)},
    {"kind 255", WIRE_UNKNOWN_SECTION, 0, BYTES(0, EMPTY, 255)},
    {"three sequences", WIRE_TOO_MANY_SEQUENCES, 0,
     BYTES(SEQUENCE_A, SEQUENCE_B, 1, 6, 0, 0, 0, 'c', 0, 0, EMPTY)},
    {"a sequence twice", WIRE_DUPLICATE_SEQUENCE, 0, BYTES(SEQUENCE_A, SEQUENCE_A, 0, EMPTY)},
    {"body without bytes", WIRE_TRUNCATED, 0, BYTES(0)},
    {"body, half a length", WIRE_TRUNCATED, 0, BYTES(0, 5, 0, 0)},
    {"body, too long", WIRE_TRUNCATED, 0, BYTES(0, 6, 0, 0, 0, 0)},
    {"body, largest", WIRE_TRUNCATED, 0, BYTES(0, 0xff, 0xff, 0xff, 0x7f, 0)},
    {"body, negative", WIRE_BAD_BSON, 0, BYTES(0, 5, 0, 0, 0x80, 0)},
    {"body, too short", WIRE_BAD_BSON, 0, BYTES(0, 4, 0, 0, 0)},
    {"body, lying inside", WIRE_BAD_BSON, 0, BYTES(0, 9, 0, 0, 0, 0x10, 'a', 0, 1, 0)},
    {"sequence without bytes", WIRE_TRUNCATED, 0, BYTES(0, EMPTY, 1)},
    {"sequence, half a length", WIRE_TRUNCATED, 0, BYTES(0, EMPTY, 1, 6, 0)},
    {"sequence, length 0", WIRE_TRUNCATED, 0, BYTES(0, EMPTY, 1, 0, 0, 0, 0, 'a', 0)},
    {"sequence, negative", WIRE_TRUNCATED, 0, BYTES(0, EMPTY, 1, 6, 0, 0, 0x80, 'a', 0)},
    {"sequence, too long", WIRE_TRUNCATED, 0, BYTES(0, EMPTY, 1, 7, 0, 0, 0, 'a', 0)},
    {"sequence, no name", WIRE_TRUNCATED, 0, BYTES(0, EMPTY, 1, 4, 0, 0, 0)},
    {"sequence, name without NUL", WIRE_TRUNCATED, 0, BYTES(0, EMPTY, 1, 6, 0, 0, 0, 'a', 'b')},
    {"sequence, document too long", WIRE_BAD_BSON, 0,
     BYTES(0, EMPTY, 1, 11, 0, 0, 0, 'a', 0, 6, 0, 0, 0, 0)},
    {"sequence, document too short", WIRE_BAD_BSON, 0,
     BYTES(0, EMPTY, 1, 11, 0, 0, 0, 'a', 0, 4, 0, 0, 0, 0)},
    {"sequence, document negative", WIRE_BAD_BSON, 0,
     BYTES(0, EMPTY, 1, 11, 0, 0, 0, 'a', 0, 5, 0, 0, 0x80, 0)},
    {"sequence, document without NUL", WIRE_BAD_BSON, 0,
     BYTES(0, EMPTY, 1, 11, 0, 0, 0, 'a', 0, 5, 0, 0, 0, 1)},
    {"sequence, a rest", WIRE_BAD_BSON, 0, BYTES(0, EMPTY, 1, 13, 0, 0, 0, 'a', 0, EMPTY, 0, 0)},
    {"checksum without bytes", WIRE_TRUNCATED, 1, BYTES(0, 5, 0)},
    {"wrong checksum", WIRE_BAD_CHECKSUM, 1, BYTES(0, EMPTY, 0, 0, 0, 0)},
};

static size_t lay_case(uint8_t *out, const struct section_case *it)
{
    size_t len = FRAME_HEADER_BYTES + 4 + it->len;
    frame_write(out, &(struct frame){(int32_t)len, 1, 0, OPCODE_MSG});
    store_i32(out + FLAGS_AT, (int32_t)it->flags);
    memcpy(out + FLAGS_AT + 4, it->bytes, it->len);
    return len;
}

static void sections_right_and_wrong(void **state)
{
    (void)state;
    struct guard guard = guard_new(256);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t bytes[256];
        size_t len = lay_case(bytes, &cases[i]);
        struct op_msg msg = {.flags = 0xdeadbeef};
        enum wire_error error =
            op_msg_read((struct bytes){guard_lay(&guard, bytes, len), len}, &msg);
        if (error != cases[i].error) {
            fail_msg("%s: %s", cases[i].what, wire_error_text(error));
        }
        assert_int_equal(msg.flags, error ? 0xdeadbeef : cases[i].flags);
    }
    guard_free(&guard);
}

static void the_parts_are_where_they_are(void **state)
{
    (void)state;
    struct op_msg msg;
    assert_int_equal(op_msg_read((struct bytes){ping, sizeof(ping)}, &msg), WIRE_OK);
    assert_int_equal(msg.flags, 0);
    assert_ptr_equal(msg.body.at, ping + 21);
    assert_int_equal(msg.body.len, 26);
    assert_int_equal(msg.sequence_count, 0);

    assert_int_equal(op_msg_read(sample_named("bulk write"), &msg), WIRE_OK);
    assert_int_equal(msg.sequence_count, 2);
    assert_true(bytes_equal(msg.sequences[0].name, "ops"));
    assert_true(bytes_equal(msg.sequences[1].name, "nsInfo"));
    struct bytes documents = msg.sequences[0].documents;
    struct bytes document;
    assert_int_equal(bson_take(&documents, &document), WIRE_OK);
    assert_int_equal(bson_check(document), WIRE_OK);
    assert_int_equal(bson_take(&documents, &document), WIRE_OK);
    assert_int_equal(documents.len, 0);
    documents = msg.sequences[1].documents;
    struct bson_element element;
    assert_true(bson_find(documents, "ns", &element));
}

static void samples_are_read(void **state)
{
    (void)state;
    size_t count;
    const struct sample *all = samples(&count);
    for (size_t i = 0; i < count; i++) {
        struct op_msg msg;
        if (all[i].kind != SAMPLE_QUERY && op_msg_read(all[i].message, &msg) != WIRE_OK) {
            fail_msg("%s", all[i].name);
        }
    }
}

static void every_prefix_is_an_error(void **state)
{
    (void)state;
    size_t count;
    const struct sample *all = samples(&count);
    struct guard guard = guard_new(4096);
    for (size_t i = 0; i < count; i++) {
        for (size_t len = 0; len < all[i].message.len; len++) {
            struct bytes prefix = {guard_lay(&guard, all[i].message.at, len), len};
            struct op_msg msg;
            assert_int_equal(op_msg_read(prefix, &msg), WIRE_TRUNCATED);
            uint8_t *copy = exact_copy(prefix.at, len);
            assert_int_equal(op_msg_read((struct bytes){copy, len}, &msg), WIRE_TRUNCATED);
            free(copy);
        }
    }
    guard_free(&guard);
}

static bool ends_a_section(const struct op_msg *msg, const uint8_t *end)
{
    const struct op_msg_sequence *last = &msg->sequences[OP_MSG_MAX_SEQUENCES - 1];
    return msg->body.at + msg->body.len == end ||
           msg->sequences[0].documents.at + msg->sequences[0].documents.len == end ||
           last->documents.at + last->documents.len == end;
}

// A message that was cut, and whose header says so: right only where a section ends.
static void a_cut_message_is_an_error_or_ends_a_section(void **state)
{
    (void)state;
    size_t count;
    const struct sample *all = samples(&count);
    struct guard guard = guard_new(4096);
    for (size_t i = 0; i < count; i++) {
        struct op_msg whole;
        if (all[i].kind == SAMPLE_QUERY || op_msg_read(all[i].message, &whole) != WIRE_OK) {
            continue;
        }
        for (size_t len = FRAME_HEADER_BYTES; len < all[i].message.len; len++) {
            uint8_t *at = guard_lay(&guard, all[i].message.at, len);
            store_i32(at, (int32_t)len);
            struct op_msg msg;
            if (op_msg_read((struct bytes){at, len}, &msg) == WIRE_OK) {
                assert_true(ends_a_section(&whole, all[i].message.at + len));
            }
        }
    }
    guard_free(&guard);
}

static void a_header_that_lies_is_an_error(void **state)
{
    (void)state;
    uint8_t bytes[sizeof(ping)];
    memcpy(bytes, ping, sizeof(ping));
    static const int32_t lengths[] = {INT32_MIN, -1, 0, sizeof(ping) - 1, sizeof(ping) + 1};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        store_i32(bytes, lengths[i]);
        struct op_msg msg;
        assert_int_equal(op_msg_read((struct bytes){bytes, sizeof(bytes)}, &msg), WIRE_TRUNCATED);
    }
}

static void any_bit_breaks_a_checksum(void **state)
{
    (void)state;
    struct bytes message = sample_named("every type");
    struct guard guard = guard_new(4096);
    struct op_msg msg;
    for (size_t bit = 8 * 4; bit < 8 * message.len; bit++) {
        uint8_t *at = guard_lay(&guard, message.at, message.len);
        at[bit / 8] ^= (uint8_t)(1 << bit % 8);
        enum wire_error error = op_msg_read((struct bytes){at, message.len}, &msg);
        bool is_flag = bit / 8 >= FLAGS_AT && bit / 8 < FLAGS_AT + 4;
        assert_true(is_flag ? error != WIRE_OK : error == WIRE_BAD_CHECKSUM);
    }
    guard_free(&guard);
}

static bool within(struct bytes inner, struct bytes outer)
{
    return inner.at >= outer.at && inner.len <= outer.len &&
           (size_t)(inner.at - outer.at) <= outer.len - inner.len;
}

static void assert_proven(struct bytes message, const struct op_msg *msg)
{
    assert_true(within(msg->body, message));
    assert_int_equal(bson_check(msg->body), WIRE_OK);
    assert_true(msg->sequence_count >= 0 && msg->sequence_count <= OP_MSG_MAX_SEQUENCES);
    for (int i = 0; i < msg->sequence_count; i++) {
        struct bytes documents = msg->sequences[i].documents;
        assert_true(within(msg->sequences[i].name, message) && within(documents, message));
        while (documents.len > 0) {
            struct bytes document;
            assert_int_equal(bson_take(&documents, &document), WIRE_OK);
        }
    }
}

static void damage_is_found_or_harmless(void **state)
{
    (void)state;
    size_t count;
    const struct sample *all = samples(&count);
    struct guard guard = guard_new(4096);
    struct dice dice = {7};
    size_t sound = 0;
    for (int i = 0; i < 200000; i++) {
        struct bytes message = all[dice_below(&dice, (uint32_t)count)].message;
        uint8_t *at = guard_lay(&guard, message.at, message.len);
        dice_damage(&dice, at + FLAGS_AT, message.len - FLAGS_AT);
        struct op_msg msg;
        message.at = at;
        if (op_msg_read(message, &msg) == WIRE_OK) {
            assert_proven(message, &msg);
            sound++;
        }
    }
    assert_true(sound > 20000 && sound < 180000);
    guard_free(&guard);
}

static void a_strip_takes_out_what_is_not_passed_on(void **state)
{
    (void)state;
    size_t count;
    const struct sample *all = samples(&count);
    for (size_t i = 0; i < count; i++) {
        struct bytes message = all[i].message;
        struct op_msg before;
        struct op_msg after;
        uint8_t bytes[4096];
        if (all[i].kind == SAMPLE_QUERY) {
            continue;
        }
        memcpy(bytes, message.at, message.len);
        store_i32(bytes + FLAGS_AT, load_i32(bytes + FLAGS_AT) | 1 << 20);
        assert_int_equal(op_msg_read(message, &before), WIRE_OK);
        struct bytes stripped = {bytes, op_msg_strip(bytes, message.len)};
        assert_int_equal(op_msg_read(stripped, &after), WIRE_OK);
        assert_int_equal(stripped.len,
                         message.len - (before.flags & OP_MSG_CHECKSUM_PRESENT ? 4 : 0));
        assert_int_equal(after.flags, 1 << 20);
        assert_int_equal(after.body.len, before.body.len);
        assert_memory_equal(after.body.at, before.body.at, after.body.len);
        assert_int_equal(after.sequence_count, before.sequence_count);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sections_right_and_wrong),
        cmocka_unit_test(the_parts_are_where_they_are),
        cmocka_unit_test(samples_are_read),
        cmocka_unit_test(every_prefix_is_an_error),
        cmocka_unit_test(a_cut_message_is_an_error_or_ends_a_section),
        cmocka_unit_test(a_header_that_lies_is_an_error),
        cmocka_unit_test(any_bit_breaks_a_checksum),
        cmocka_unit_test(damage_is_found_or_harmless),
        cmocka_unit_test(a_strip_takes_out_what_is_not_passed_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
