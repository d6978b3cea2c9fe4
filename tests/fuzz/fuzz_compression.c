// SPDX-License-Identifier: Apache-2.0
//
// A compressed message from a stranger is read and inflated: what comes out is as long as was
// claimed and was written to the last byte, or it is nothing. And what we compress comes back.
//
//      input: compressor 1 | a compressed message, whose length and compressor are put right; or an
//             array as hello has it

#include "tests/fuzz/fuzz.h"
#include "wire/compression.h"

// The compressors' libraries are not compiled for AddressSanitizer: steps beyond the end are seen
// by what stood there.
enum { FENCE = 64, MOST_INFLATED = 1 << 20 };

static const struct compressor_list all = {3,
                                           {COMPRESSOR_SNAPPY, COMPRESSOR_ZLIB, COMPRESSOR_ZSTD}};
static struct codec *codec;

static uint8_t *inflate_over(const struct compressed *compressed, const uint8_t *at, int pattern,
                             enum compressed_status *ret_status)
{
    size_t len = (size_t)compressed->frame.length;
    uint8_t *out = malloc(len + FENCE);
    MUST(out);
    memset(out, pattern, len + FENCE);
    *ret_status = compressed_inflate(codec, compressed, at, out);
    for (size_t i = len; i < len + FENCE; i++) {
        MUST(out[i] == (uint8_t)pattern);
    }
    return out;
}

// Two places that were different before are the same after.
static void take(const uint8_t *at, size_t len)
{
    struct compressed compressed;
    enum compressed_status status = compressed_read(at, len, &all, &compressed);
    if (status != COMPRESSED_OK) {
        return;
    }
    MUST(compressed.frame.length >= FRAME_HEADER_BYTES);
    MUST(compressed.frame.length <= FRAME_MAX_BYTES);
    MUST(compressed.length >= COMPRESSED_HEADER_BYTES && compressed.frame.opcode == OPCODE_MSG);
    if (compressed.length > len || compressed.frame.length > MOST_INFLATED) {
        return;
    }
    enum compressed_status again;
    uint8_t *a = inflate_over(&compressed, at, 0x5a, &status);
    uint8_t *b = inflate_over(&compressed, at, 0xa5, &again);
    MUST(status == again && (status == COMPRESSED_OK || status == COMPRESSED_BROKEN));
    if (status == COMPRESSED_OK) {
        MUST(memcmp(a, b, (size_t)compressed.frame.length) == 0);
        MUST(load_i32(a) == compressed.frame.length);
    }
    free(a);
    free(b);
}

static void come_and_go(const uint8_t *data, size_t size, enum compressor compressor)
{
    uint8_t *message = exact_copy(data, size);
    struct buffer packed = {0};
    store_i32(message, (int32_t)size);
    store_i32(message + 12, OPCODE_MSG);
    compressed_write(codec, compressor, (struct bytes){message, size}, &packed);
    struct compressed compressed;
    enum compressed_status status =
        compressed_read(buffer_at(&packed), buffer_held(&packed), &all, &compressed);
    MUST(status == COMPRESSED_OK && compressed.length == buffer_held(&packed));
    MUST((size_t)compressed.frame.length == size && compressed.compressor == compressor);
    uint8_t *back = inflate_over(&compressed, buffer_at(&packed), 0x5a, &status);
    MUST(status == COMPRESSED_OK && memcmp(back, message, size) == 0);
    free(back);
    buffer_fini(&packed);
    free(message);
}

// What libbson finds in the array is what we find, each once and in its order.
static void compare(struct bytes array, const struct compressor_list *list)
{
    bson_t document;
    bson_iter_t iter;
    struct compressor_list expected = {0};
    if (bson_check(array) != WIRE_OK || !bson_init_static(&document, array.at, array.len) ||
        !bson_iter_init(&iter, &document)) {
        return;
    }
    while (bson_iter_next(&iter)) {
        uint32_t len = 0;
        const char *name = BSON_ITER_HOLDS_UTF8(&iter) ? bson_iter_utf8(&iter, &len) : "";
        struct bytes text = {(const uint8_t *)name, len};
        compressor_list_add(&expected, compressor_find(text));
    }
    MUST(memcmp(&expected, list, sizeof expected) == 0);
}

// What we write is read back.
static void agree(struct bytes array)
{
    struct compressor_list list = compressor_list_read(array);
    MUST(list.count >= 0 && list.count <= COMPRESSOR_COUNT);
    compare(array, &list);
    struct compressor_list common = compressor_list_common(&list, &all);
    MUST(memcmp(&common, &list, sizeof list) == 0);
    bson_t written = BSON_INITIALIZER;
    struct bson_element field;
    compressor_list_append(&list, &written);
    if (bson_find((struct bytes){bson_get_data(&written), written.len}, "compression", &field)) {
        common = compressor_list_read(field.value);
    }
    MUST(memcmp(&common, &list, sizeof list) == 0);
    bson_destroy(&written);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!codec) {
        codec = codec_new(1);
    }
    struct input input = {data, size};
    enum compressor compressor = all.items[input_byte(&input) % 3];
    uint8_t *message = exact_copy(input.at, input.len);
    take(message, input.len);
    agree((struct bytes){message, input.len});
    if (input.len >= FRAME_HEADER_BYTES) {
        come_and_go(message, input.len, compressor);
        store_i32(message, (int32_t)input.len);
    }
    if (input.len >= COMPRESSED_HEADER_BYTES) {
        message[COMPRESSED_HEADER_BYTES - 1] = (uint8_t)compressor;
        store_i32(message + FRAME_HEADER_BYTES, OPCODE_MSG);
    }
    take(message, input.len);
    free(message);
    return 0;
}
