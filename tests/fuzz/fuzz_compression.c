// SPDX-License-Identifier: Apache-2.0
//
// A compressed message from a stranger is read and inflated: what comes out is as long as was
// claimed and was written to the last byte, or it is nothing. And what we compress comes back.
//
//      input: compressor 1 | a compressed message, without its length and its compressor being
//      right

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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!codec) {
        codec = codec_new(1);
    }
    struct input input = {data, size};
    enum compressor compressor = all.items[input_byte(&input) % 3];
    uint8_t *message = exact_copy(input.at, input.len);
    take(message, input.len);
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
