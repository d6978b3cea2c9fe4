// SPDX-License-Identifier: Apache-2.0

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/guard.h"
#include "tests/unit/wire_samples.h"
#include "wire/bson_view.h"
#include "wire/command.h"
#include "wire/compression.h"

#define BODY_AT COMPRESSED_HEADER_BYTES
#define OPCODE_AT FRAME_HEADER_BYTES
#define CLAIM_AT (FRAME_HEADER_BYTES + 4)
#define COMPRESSOR_AT (FRAME_HEADER_BYTES + 8)

static const struct compressor_list all = {3,
                                           {COMPRESSOR_SNAPPY, COMPRESSOR_ZLIB, COMPRESSOR_ZSTD}};

static struct bytes text(const char *at)
{
    return (struct bytes){(const uint8_t *)at, strlen(at)};
}

// The sample, compressed. The caller frees the buffer.
static struct buffer packed_sample(struct codec *codec, enum compressor compressor,
                                   const char *name)
{
    struct buffer out = {0};
    compressed_write(codec, compressor, sample_named(name), &out);
    return out;
}

// Reads and inflates into a block that ends where its end is (a fault, one byte further).
static enum compressed_status unpack(struct codec *codec, struct bytes packed, uint8_t **ret_at,
                                     struct guard *ret_guard)
{
    struct compressed compressed;
    *ret_guard = (struct guard){0};
    enum compressed_status status = compressed_read(packed.at, packed.len, &all, &compressed);
    if (status != COMPRESSED_OK) {
        return status;
    }
    size_t len = (size_t)compressed.frame.length;
    *ret_guard = guard_new(len);
    *ret_at = ret_guard->end - len;
    return compressed_inflate(codec, &compressed, packed.at, *ret_at);
}

static enum compressed_status unpack_status(struct codec *codec, struct bytes packed)
{
    uint8_t *at;
    struct guard guard;
    enum compressed_status status = unpack(codec, packed, &at, &guard);
    if (guard.map) {
        guard_free(&guard);
    }
    return status;
}

static void every_sample_comes_back_as_it_was(void **state)
{
    (void)state;
    struct codec *codec = codec_new(-1);
    size_t count;
    const struct sample *sample = samples(&count);
    for (size_t i = 0; i < count; i++) {
        for (int c = 0; c < all.count && sample[i].kind != SAMPLE_QUERY; c++) {
            struct bytes message = sample[i].message;
            struct buffer packed = {0};
            buffer_append(&packed, "before", 6);
            compressed_write(codec, all.items[c], message, &packed);
            buffer_consume(&packed, 6);
            uint8_t *at;
            struct guard guard;
            assert_int_equal(unpack(codec, buffer_bytes(&packed), &at, &guard), COMPRESSED_OK);
            assert_int_equal(guard.end - at, message.len);
            assert_memory_equal(at, message.at, message.len);
            guard_free(&guard);
            buffer_fini(&packed);
        }
    }
    codec_free(codec);
}

// By other programs: python-snappy, Python's zlib and zstandard, of "hello ", twenty times.
static void what_others_packed_is_read(void **state)
{
    (void)state;
    char body[121] = "";
    for (int i = 0; i < 20; i++) {
        strcat(body, "hello ");
    }
    static const uint8_t snappy[] = {0x78, 0x14, 0x68, 0x65, 0x6c, 0x6c, 0x6f,
                                     0x20, 0xfe, 0x06, 0x00, 0xc6, 0x06, 0x00};
    static const uint8_t zlib[] = {0x78, 0x9c, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x57, 0xc8,
                                   0xa0, 0x3b, 0x09, 0x00, 0x77, 0xba, 0x2c, 0x11};
    static const uint8_t zstd[] = {0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x78, 0x6d, 0x00,
                                   0x00, 0x30, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x20,
                                   0x01, 0x00, 0x2f, 0x69, 0x29, 0x02};
    const struct bytes packed[] = {
        {snappy, sizeof snappy}, {zlib, sizeof zlib}, {zstd, sizeof zstd}};
    struct codec *codec = codec_new(-1);
    for (int c = 0; c < all.count; c++) {
        struct buffer message = {0};
        uint8_t *at = buffer_reserve(&message, BODY_AT);
        struct frame frame = {BODY_AT + (int32_t)packed[c].len, 7, 8, OPCODE_COMPRESSED};
        frame_write(at, &frame);
        store_i32(at + OPCODE_AT, OPCODE_MSG);
        store_i32(at + CLAIM_AT, (int32_t)strlen(body));
        at[COMPRESSOR_AT] = (uint8_t)all.items[c];
        buffer_commit(&message, BODY_AT);
        buffer_append(&message, packed[c].at, packed[c].len);
        struct guard guard;
        assert_int_equal(unpack(codec, buffer_bytes(&message), &at, &guard), COMPRESSED_OK);
        assert_int_equal(load_i32(at), FRAME_HEADER_BYTES + (int)strlen(body));
        assert_int_equal(load_i32(at + 4), 7);
        assert_int_equal(load_i32(at + 8), 8);
        assert_int_equal(load_i32(at + 12), OPCODE_MSG);
        assert_memory_equal(at + FRAME_HEADER_BYTES, body, strlen(body));
        guard_free(&guard);
        buffer_fini(&message);
    }
    codec_free(codec);
}

static void what_compresses_well_becomes_short(void **state)
{
    (void)state;
    struct codec *codec = codec_new(9);
    struct bytes message = {calloc(1, 1 << 20), 1 << 20};
    frame_write((uint8_t *)(uintptr_t)message.at, &(struct frame){1 << 20, 1, 2, OPCODE_MSG});
    for (int c = 0; c < all.count; c++) {
        struct buffer packed = {0};
        compressed_write(codec, all.items[c], message, &packed);
        assert_true(buffer_held(&packed) < message.len / 15);
        assert_int_equal(unpack_status(codec, buffer_bytes(&packed)), COMPRESSED_OK);
        buffer_fini(&packed);
    }
    free((void *)(uintptr_t)message.at);
    codec_free(codec);
}

static void the_header_is_read_once_it_is_there(void **state)
{
    (void)state;
    struct codec *codec = codec_new(-1);
    struct buffer packed = packed_sample(codec, COMPRESSOR_ZLIB, "ping");
    struct bytes ping = sample_named("ping");
    struct compressed compressed;
    for (size_t len = 0; len < BODY_AT; len++) {
        uint8_t *at = exact_copy(buffer_at(&packed), len);
        assert_int_equal(compressed_read(at, len, &all, &compressed), COMPRESSED_MORE);
        free(at);
    }
    assert_int_equal(compressed_read(buffer_at(&packed), BODY_AT, &all, &compressed),
                     COMPRESSED_OK);
    assert_int_equal(compressed.compressor, COMPRESSOR_ZLIB);
    assert_int_equal(compressed.length, buffer_held(&packed));
    assert_int_equal(compressed.frame.length, ping.len);
    assert_int_equal(compressed.frame.request_id, load_i32(ping.at + 4));
    assert_int_equal(compressed.frame.opcode, OPCODE_MSG);
    buffer_fini(&packed);
    codec_free(codec);
}

static void a_header_that_must_not_be_is_refused(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        int32_t value;
        enum compressed_status status;
    } cases[] = {
        {0, BODY_AT - 1, COMPRESSED_TRUNCATED},
        {0, FRAME_HEADER_BYTES, COMPRESSED_TRUNCATED},
        {OPCODE_AT, OPCODE_QUERY, COMPRESSED_BAD_OPCODE},
        {OPCODE_AT, OPCODE_COMPRESSED, COMPRESSED_BAD_OPCODE},
        {OPCODE_AT, OPCODE_REPLY, COMPRESSED_BAD_OPCODE},
        {OPCODE_AT, 0, COMPRESSED_BAD_OPCODE},
        {CLAIM_AT, -1, COMPRESSED_BAD_CLAIM},
        {CLAIM_AT, INT32_MIN, COMPRESSED_BAD_CLAIM},
        {CLAIM_AT, INT32_MAX, COMPRESSED_BAD_CLAIM},
        {CLAIM_AT, FRAME_MAX_BYTES - FRAME_HEADER_BYTES + 1, COMPRESSED_BAD_CLAIM},
        {CLAIM_AT, FRAME_MAX_BYTES - FRAME_HEADER_BYTES, COMPRESSED_OK},
        {CLAIM_AT, 0, COMPRESSED_OK},
    };
    struct codec *codec = codec_new(-1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buffer packed = packed_sample(codec, COMPRESSOR_SNAPPY, "ping");
        struct compressed compressed;
        store_i32(buffer_at(&packed) + cases[i].at, cases[i].value);
        assert_int_equal(compressed_read(buffer_at(&packed), BODY_AT, &all, &compressed),
                         cases[i].status);
        buffer_fini(&packed);
    }
    codec_free(codec);
}

static void only_what_was_agreed_on_is_taken(void **state)
{
    (void)state;
    const struct compressor_list zlib = {1, {COMPRESSOR_ZLIB}};
    const struct compressor_list none = {0};
    struct codec *codec = codec_new(-1);
    struct buffer packed = packed_sample(codec, COMPRESSOR_ZLIB, "ping");
    struct compressed compressed;
    for (int id = 0; id < 256; id++) {
        buffer_at(&packed)[COMPRESSOR_AT] = (uint8_t)id;
        assert_int_equal(compressed_read(buffer_at(&packed), BODY_AT, &zlib, &compressed),
                         id == COMPRESSOR_ZLIB ? COMPRESSED_OK : COMPRESSED_NOT_AGREED);
        assert_int_equal(compressed_read(buffer_at(&packed), BODY_AT, &none, &compressed),
                         COMPRESSED_NOT_AGREED);
    }
    buffer_fini(&packed);
    codec_free(codec);
}

// One byte more or less than there is, nothing at all, far too much.
static void a_claim_that_lies_is_found_out(void **state)
{
    (void)state;
    struct codec *codec = codec_new(-1);
    for (int c = 0; c < all.count; c++) {
        struct buffer packed = packed_sample(codec, all.items[c], "find");
        int32_t truth = load_i32(buffer_at(&packed) + CLAIM_AT);
        const int32_t lies[] = {truth - 1, truth + 1, 0, 1, 2 * truth, 1 << 24};
        for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
            store_i32(buffer_at(&packed) + CLAIM_AT, lies[i]);
            assert_int_equal(unpack_status(codec, buffer_bytes(&packed)), COMPRESSED_BROKEN);
        }
        store_i32(buffer_at(&packed) + CLAIM_AT, truth);
        assert_int_equal(unpack_status(codec, buffer_bytes(&packed)), COMPRESSED_OK);
        buffer_fini(&packed);
    }
    codec_free(codec);
}

static void a_part_or_too_much_is_broken(void **state)
{
    (void)state;
    struct codec *codec = codec_new(-1);
    for (int c = 0; c < all.count; c++) {
        struct buffer packed = packed_sample(codec, all.items[c], "find");
        size_t whole = buffer_held(&packed);
        for (size_t len = BODY_AT; len < whole; len++) {
            uint8_t *at = exact_copy(buffer_at(&packed), len);
            store_i32(at, (int32_t)len);
            assert_int_equal(unpack_status(codec, (struct bytes){at, len}), COMPRESSED_BROKEN);
            free(at);
        }
        buffer_append(&packed, "\0", 1);
        store_i32(buffer_at(&packed), (int32_t)whole + 1);
        assert_int_equal(unpack_status(codec, buffer_bytes(&packed)), COMPRESSED_BROKEN);
        buffer_fini(&packed);
    }
    codec_free(codec);
}

// What a damaged message inflates to is whole, or nothing: two places filled differently before
// must be the same after.
static void no_byte_is_left_as_it_was(void **state)
{
    (void)state;
    struct dice dice = {20261126};
    struct codec *codec = codec_new(-1);
    int fine = 0;
    for (int round = 0; round < 30000; round++) {
        struct compressed compressed;
        struct buffer packed = packed_sample(codec, all.items[round % 3], "find");
        dice_damage(&dice, buffer_at(&packed) + BODY_AT, buffer_held(&packed) - BODY_AT);
        assert_int_equal(
            compressed_read(buffer_at(&packed), buffer_held(&packed), &all, &compressed),
            COMPRESSED_OK);
        size_t len = (size_t)compressed.frame.length;
        uint8_t *a = memset(malloc(len), 0x5a, len);
        uint8_t *b = memset(malloc(len), 0xa5, len);
        enum compressed_status status =
            compressed_inflate(codec, &compressed, buffer_at(&packed), a);
        assert_int_equal(compressed_inflate(codec, &compressed, buffer_at(&packed), b), status);
        if (status == COMPRESSED_OK) {
            assert_memory_equal(a, b, len);
            fine++;
        }
        free(a);
        free(b);
        buffer_fini(&packed);
    }
    assert_true(fine > 100); // snappy has no checksum
    codec_free(codec);
}

static void assert_written_as_read(const struct compressor_list *list)
{
    bson_t document = BSON_INITIALIZER;
    struct bson_element element;
    compressor_list_append(list, &document);
    struct bytes bytes = {bson_get_data(&document), document.len};
    assert_int_equal(bson_find(bytes, "compression", &element), list->count > 0);
    if (list->count > 0) {
        struct compressor_list again = compressor_list_read(element.value);
        assert_memory_equal(&again, list, sizeof again);
    }
    bson_destroy(&document);
}

static void lists_are_read_and_compared(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        struct compressor_list list;
    } cases[] = {
        {"[]", {0}},
        {"['none', 'lz4', 'noop', 'Snappy', 'zlibx', '']", {0}},
        {"['zstd', 7, 'snappy', null, 'zstd']", {2, {COMPRESSOR_ZSTD, COMPRESSOR_SNAPPY}}},
        {"['snappy', 'zstd', 'zlib', 'snappy']",
         {3, {COMPRESSOR_SNAPPY, COMPRESSOR_ZSTD, COMPRESSOR_ZLIB}}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bson_t *array = sample_document(cases[i].json);
        struct bytes bytes = {bson_get_data(array), array->len};
        struct compressor_list list = compressor_list_read(bytes);
        assert_int_equal(list.count, cases[i].list.count);
        assert_memory_equal(list.items, cases[i].list.items, sizeof list.items);
        assert_written_as_read(&list);
        bytes.len--; // now it lies
        assert_int_equal(compressor_list_read(bytes).count, 0);
        bson_destroy(array);
    }
    const struct compressor_list apps = cases[2].list;
    const struct compressor_list ours = {2, {COMPRESSOR_ZLIB, COMPRESSOR_SNAPPY}};
    struct compressor_list common = compressor_list_common(&apps, &ours);
    assert_int_equal(common.count, 1);
    assert_int_equal(common.items[0], COMPRESSOR_SNAPPY);
    assert_int_equal(compressor_list_common(&all, &apps).items[0], COMPRESSOR_SNAPPY);
    assert_int_equal(compressor_list_common(&apps, &all).items[0], COMPRESSOR_ZSTD);
    assert_string_equal(compressor_name(compressor_find(text("zlib"))), "zlib");
    assert_string_equal(compressor_name(compressor_find(text("noop"))), "none");
    assert_string_equal(compressed_status_text(COMPRESSED_OK), "ok");
}

// source/compression/OP_COMPRESSED.md, "messages not allowed to be compressed".
static void what_must_stay_plain_is_marked(void **state)
{
    (void)state;
    static const char *const names[] = {
        "hello",        "isMaster",   "ismaster",   "saslStart",       "saslContinue",   "getnonce",
        "authenticate", "createUser", "updateUser", "copydbSaslStart", "copydbgetnonce", "copydb"};
    int marked = 0;
    for (int i = 0; i < COMMAND_COUNT; i++) {
        marked += (command_at(i)->traits & COMMAND_PLAIN) != 0;
    }
    assert_int_equal(marked, sizeof names / sizeof names[0]);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_true(command_lookup(text(names[i]))->traits & COMMAND_PLAIN);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_sample_comes_back_as_it_was),
        cmocka_unit_test(what_others_packed_is_read),
        cmocka_unit_test(what_compresses_well_becomes_short),
        cmocka_unit_test(the_header_is_read_once_it_is_there),
        cmocka_unit_test(a_header_that_must_not_be_is_refused),
        cmocka_unit_test(only_what_was_agreed_on_is_taken),
        cmocka_unit_test(a_claim_that_lies_is_found_out),
        cmocka_unit_test(a_part_or_too_much_is_broken),
        cmocka_unit_test(no_byte_is_left_as_it_was),
        cmocka_unit_test(lists_are_read_and_compared),
        cmocka_unit_test(what_must_stay_plain_is_marked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
