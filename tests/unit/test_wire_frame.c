// SPDX-License-Identifier: Apache-2.0

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/guard.h"
#include "tests/unit/wire_samples.h"
#include "wire/error.h"
#include "wire/frame.h"

static const uint8_t ping_header[] = {
    0x33, 0x00, 0x00, 0x00, // 51
    0x0d, 0x0c, 0x0b, 0x8a, // negative
    0x01, 0x02, 0x03, 0x04, //
    0xdd, 0x07, 0x00, 0x00, // OP_MSG
};

static void a_header_is_read(void **state)
{
    (void)state;
    struct frame frame;
    assert_int_equal(frame_read(ping_header, sizeof(ping_header), &frame), FRAME_OK);
    assert_int_equal(frame.length, 51);
    assert_int_equal(frame.request_id, (int32_t)0x8a0b0c0d);
    assert_int_equal(frame.response_to, 0x04030201);
    assert_int_equal(frame.opcode, OPCODE_MSG);
}

static void a_header_is_written_as_it_is_read(void **state)
{
    (void)state;
    struct frame frame;
    assert_int_equal(frame_read(ping_header, sizeof(ping_header), &frame), FRAME_OK);
    uint8_t written[FRAME_HEADER_BYTES];
    frame_write(written, &frame);
    assert_memory_equal(written, ping_header, sizeof(written));
}

static void a_part_of_a_header_says_more(void **state)
{
    (void)state;
    struct guard guard = guard_new(FRAME_HEADER_BYTES);
    for (size_t len = 0; len < FRAME_HEADER_BYTES; len++) {
        struct frame frame = {.length = -7};
        const uint8_t *at = guard_lay(&guard, ping_header, len);
        assert_int_equal(frame_read(at, len, &frame), FRAME_MORE);
        assert_int_equal(frame.length, -7);
    }
    guard_free(&guard);
}

static void lengths_have_bounds(void **state)
{
    (void)state;
    static const struct {
        int32_t length;
        enum frame_status status;
    } cases[] = {
        {INT32_MIN, FRAME_BAD_LENGTH},
        {-1, FRAME_BAD_LENGTH},
        {0, FRAME_BAD_LENGTH},
        {15, FRAME_BAD_LENGTH},
        {16, FRAME_OK},
        {48000000, FRAME_OK},
        {48000001, FRAME_BAD_LENGTH},
        {INT32_MAX, FRAME_BAD_LENGTH},
        {0x20505454, FRAME_BAD_LENGTH},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t header[FRAME_HEADER_BYTES] = {0};
        store_i32(header, cases[i].length);
        struct frame frame;
        assert_int_equal(frame_read(header, sizeof(header), &frame), cases[i].status);
    }
}

static void no_prefix_of_a_sample_is_whole(void **state)
{
    (void)state;
    size_t count;
    const struct sample *all = samples(&count);
    struct guard guard = guard_new(4096);
    for (size_t i = 0; i < count; i++) {
        struct bytes message = all[i].message;
        for (size_t len = 0; len < message.len; len++) {
            struct frame frame;
            enum frame_status status = frame_read(guard_lay(&guard, message.at, len), len, &frame);
            assert_true(len < FRAME_HEADER_BYTES
                            ? status == FRAME_MORE
                            : status == FRAME_OK && (size_t)frame.length > len);
        }
    }
    guard_free(&guard);
}

// The codes are a server's; after those of a connection-fatal class, or when it is not known where
// the next message begins, the connection ends.
static void errors_have_codes_and_some_close(void **state)
{
    (void)state;
    static const struct {
        enum wire_error error;
        int code;
        bool closes;
    } cases[] = {
        {WIRE_OK, 0, false},
        {WIRE_BAD_FLAGS, 223, true},
        {WIRE_TOO_MANY_SEQUENCES, 233, true},
        {WIRE_BAD_CHECKSUM, 288, true},
        {WIRE_TWO_BODIES, 40430, false},
        {WIRE_UNKNOWN_SECTION, 40432, true},
        {WIRE_NO_DB, 40571, false},
        {WIRE_BAD_BSON, 22, false},
        {WIRE_TRUNCATED, 22, true},
        {WIRE_BAD_QUERY, 352, true},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(wire_error_code(cases[i].error), cases[i].code);
        assert_int_equal(wire_error_closes(cases[i].error), cases[i].closes);
    }
    assert_string_equal(wire_error_text(WIRE_NO_BODY), "OP_MSG has no body section");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_header_is_read),
        cmocka_unit_test(a_header_is_written_as_it_is_read),
        cmocka_unit_test(a_part_of_a_header_says_more),
        cmocka_unit_test(lengths_have_bounds),
        cmocka_unit_test(no_prefix_of_a_sample_is_whole),
        cmocka_unit_test(errors_have_codes_and_some_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
