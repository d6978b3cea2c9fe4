// SPDX-License-Identifier: Apache-2.0

#include "wire/compression.h"

#include <assert.h>
#include <snappy-c.h>
#include <stdlib.h>
#define ZLIB_CONST // it takes what it reads as const
#include <zlib.h>
#include <zstd.h>

#include "wire/bson_view.h"

// --- which --------------------------------------------------------------------------------------

enum compressor compressor_find(struct bytes name)
{
#define X(compressor, id, text)                                                                    \
    if (bytes_equal(name, text)) {                                                                 \
        return compressor;                                                                         \
    }
    COMPRESSORS(X)
#undef X
    return COMPRESSOR_NONE;
}

const char *compressor_name(enum compressor compressor)
{
    static const char *const names[] = {[COMPRESSOR_NONE] = "none",
#define X(name, id, text) [name] = text,
                                        COMPRESSORS(X)
#undef X
    };
    return names[compressor];
}

bool compressor_list_has(const struct compressor_list *list, enum compressor compressor)
{
    for (int i = 0; i < list->count; i++) {
        if (list->items[i] == compressor) {
            return true;
        }
    }
    return false;
}

void compressor_list_add(struct compressor_list *list, enum compressor compressor)
{
    if (compressor != COMPRESSOR_NONE && !compressor_list_has(list, compressor)) {
        list->items[list->count++] = compressor;
    }
}

struct compressor_list compressor_list_read(struct bytes array)
{
    struct compressor_list list = {0};
    struct bson_walk walk;
    struct bson_element element;
    struct bytes name;
    bool good = bson_walk_begin(&walk, array);
    while (good && bson_walk_next(&walk, &element) == BSON_WALK_ELEMENT) {
        if (bson_element_text(&element, &name)) {
            compressor_list_add(&list, compressor_find(name));
        }
    }
    return list;
}

struct compressor_list compressor_list_common(const struct compressor_list *a,
                                              const struct compressor_list *b)
{
    struct compressor_list common = {0};
    for (int i = 0; i < a->count; i++) {
        if (compressor_list_has(b, a->items[i])) {
            compressor_list_add(&common, a->items[i]);
        }
    }
    return common;
}

void compressor_list_append(const struct compressor_list *list, bson_t *document)
{
    bson_t array;
    char index[] = "0";
    if (list->count == 0) {
        return;
    }
    BSON_APPEND_ARRAY_BEGIN(document, "compression", &array);
    for (int i = 0; i < list->count; i++, index[0]++) {
        BSON_APPEND_UTF8(&array, index, compressor_name(list->items[i]));
    }
    bson_append_array_end(document, &array);
}

// --- the header ---------------------------------------------------------------------------------

const char *compressed_status_text(enum compressed_status status)
{
    static const char *const texts[] = {
#define X(name, text) [name] = text,
        COMPRESSED_STATUSES(X)
#undef X
    };
    return texts[status];
}

enum compressed_status compressed_read(const uint8_t *at, size_t len,
                                       const struct compressor_list *agreed,
                                       struct compressed *ret_compressed)
{
    struct frame outer;
    if (len < FRAME_HEADER_BYTES) {
        return COMPRESSED_MORE;
    }
    if (frame_read(at, len, &outer) != FRAME_OK || outer.length < COMPRESSED_HEADER_BYTES) {
        return COMPRESSED_TRUNCATED;
    }
    if (len < COMPRESSED_HEADER_BYTES) {
        return COMPRESSED_MORE;
    }
    int32_t claim = load_i32(at + FRAME_HEADER_BYTES + 4);
    uint8_t compressor = at[COMPRESSED_HEADER_BYTES - 1];
    if (!compressor_list_has(agreed, (enum compressor)compressor)) {
        return COMPRESSED_NOT_AGREED;
    }
    if (load_i32(at + FRAME_HEADER_BYTES) != OPCODE_MSG) {
        return COMPRESSED_BAD_OPCODE;
    }
    if (claim < 0 || claim > FRAME_MAX_BYTES - FRAME_HEADER_BYTES) {
        return COMPRESSED_BAD_CLAIM;
    }
    *ret_compressed = (struct compressed){
        .frame = {FRAME_HEADER_BYTES + claim, outer.request_id, outer.response_to, OPCODE_MSG},
        .compressor = (enum compressor)compressor,
        .length = (size_t)outer.length,
    };
    return COMPRESSED_OK;
}

// --- the codecs ---------------------------------------------------------------------------------

struct codec {
    int zlib_level;
    z_stream *deflate; // these are NULL before their first use
    z_stream *inflate;
    ZSTD_CCtx *zstd_deflate;
    ZSTD_DCtx *zstd_inflate;
};

// Memory is never refused (budgets stop us earlier); without it there is no going on.
static void *must_have(void *made)
{
    if (!made) {
        abort();
    }
    return made;
}

struct codec *codec_new(int zlib_level)
{
    struct codec *codec = must_have(calloc(1, sizeof *codec));
    codec->zlib_level = zlib_level;
    return codec;
}

void codec_free(struct codec *codec)
{
    if (codec->deflate) {
        deflateEnd(codec->deflate);
    }
    if (codec->inflate) {
        inflateEnd(codec->inflate);
    }
    free(codec->deflate);
    free(codec->inflate);
    ZSTD_freeCCtx(codec->zstd_deflate);
    ZSTD_freeDCtx(codec->zstd_inflate);
    free(codec);
}

static z_stream *fresh_deflate(struct codec *codec)
{
    if (!codec->deflate) {
        codec->deflate = must_have(calloc(1, sizeof *codec->deflate));
        must_have(deflateInit(codec->deflate, codec->zlib_level) == Z_OK ? codec : NULL);
    }
    deflateReset(codec->deflate);
    return codec->deflate;
}

static z_stream *fresh_inflate(struct codec *codec)
{
    if (!codec->inflate) {
        codec->inflate = must_have(calloc(1, sizeof *codec->inflate));
        must_have(inflateInit(codec->inflate) == Z_OK ? codec : NULL);
    }
    inflateReset(codec->inflate);
    return codec->inflate;
}

// Each of these fills exactly `len` bytes at `ret_body` from exactly what is packed, or fails.

static bool snappy_inflate(struct bytes packed, uint8_t *ret_body, size_t len)
{
    const char *from = (const char *)packed.at;
    size_t inflated;
    return snappy_uncompressed_length(from, packed.len, &inflated) == SNAPPY_OK &&
           inflated == len &&
           snappy_uncompress(from, packed.len, (char *)ret_body, &inflated) == SNAPPY_OK &&
           inflated == len;
}

static bool zlib_inflate(struct codec *codec, struct bytes packed, uint8_t *ret_body, size_t len)
{
    uint8_t none; // zlib wants a place to write to also where nothing is to be written
    z_stream *stream = fresh_inflate(codec);
    stream->next_in = packed.at;
    stream->avail_in = (uInt)packed.len;
    stream->next_out = len > 0 ? ret_body : &none;
    stream->avail_out = (uInt)len;
    return inflate(stream, Z_FINISH) == Z_STREAM_END && stream->avail_in == 0 &&
           stream->avail_out == 0;
}

static bool zstd_inflate(struct codec *codec, struct bytes packed, uint8_t *ret_body, size_t len)
{
    if (!codec->zstd_inflate) {
        codec->zstd_inflate = must_have(ZSTD_createDCtx());
    }
    return ZSTD_decompressDCtx(codec->zstd_inflate, ret_body, len, packed.at, packed.len) == len;
}

static bool inflate_body(struct codec *codec, enum compressor compressor, struct bytes packed,
                         uint8_t *ret_body, size_t len)
{
    switch (compressor) {
    case COMPRESSOR_SNAPPY:
        return snappy_inflate(packed, ret_body, len);
    case COMPRESSOR_ZLIB:
        return zlib_inflate(codec, packed, ret_body, len);
    case COMPRESSOR_ZSTD:
        return zstd_inflate(codec, packed, ret_body, len);
    case COMPRESSOR_NONE:
        break;
    }
    return false;
}

enum compressed_status compressed_inflate(struct codec *codec, const struct compressed *compressed,
                                          const uint8_t *at, uint8_t *ret_message)
{
    struct bytes packed = {at + COMPRESSED_HEADER_BYTES,
                           compressed->length - COMPRESSED_HEADER_BYTES};
    size_t len = (size_t)compressed->frame.length - FRAME_HEADER_BYTES;
    frame_write(ret_message, &compressed->frame);
    bool fine =
        inflate_body(codec, compressed->compressor, packed, ret_message + FRAME_HEADER_BYTES, len);
    return fine ? COMPRESSED_OK : COMPRESSED_BROKEN;
}

// Each of these writes into `room` bytes, which are enough, and returns how many it wrote.

static size_t snappy_deflate(struct bytes body, uint8_t *at, size_t room)
{
    size_t len = room;
    snappy_status status = snappy_compress((const char *)body.at, body.len, (char *)at, &len);
    assert(status == SNAPPY_OK);
    return len;
}

static size_t zlib_deflate(struct codec *codec, struct bytes body, uint8_t *at, size_t room)
{
    z_stream *stream = fresh_deflate(codec);
    stream->next_in = body.at;
    stream->avail_in = (uInt)body.len;
    stream->next_out = at;
    stream->avail_out = (uInt)room;
    int status = deflate(stream, Z_FINISH);
    assert(status == Z_STREAM_END);
    return room - stream->avail_out;
}

static size_t zstd_deflate(struct codec *codec, struct bytes body, uint8_t *at, size_t room)
{
    if (!codec->zstd_deflate) {
        codec->zstd_deflate = must_have(ZSTD_createCCtx());
    }
    size_t len =
        ZSTD_compressCCtx(codec->zstd_deflate, at, room, body.at, body.len, ZSTD_CLEVEL_DEFAULT);
    assert(!ZSTD_isError(len));
    return len;
}

static size_t deflate_body(struct codec *codec, enum compressor compressor, struct bytes body,
                           struct buffer *out)
{
    size_t room;
    switch (compressor) {
    case COMPRESSOR_SNAPPY:
        room = snappy_max_compressed_length(body.len);
        return snappy_deflate(body, buffer_reserve(out, room), room);
    case COMPRESSOR_ZLIB:
        room = deflateBound(fresh_deflate(codec), (uLong)body.len);
        return zlib_deflate(codec, body, buffer_reserve(out, room), room);
    case COMPRESSOR_ZSTD:
        room = ZSTD_compressBound(body.len);
        return zstd_deflate(codec, body, buffer_reserve(out, room), room);
    case COMPRESSOR_NONE:
        break;
    }
    abort();
}

void compressed_write(struct codec *codec, enum compressor compressor, struct bytes message,
                      struct buffer *out)
{
    struct bytes body = message;
    struct bytes header = bytes_take(&body, FRAME_HEADER_BYTES);
    size_t start = buffer_held(out);
    buffer_reserve(out, COMPRESSED_HEADER_BYTES);
    buffer_commit(out, COMPRESSED_HEADER_BYTES); // written below, when the length is known
    buffer_commit(out, deflate_body(codec, compressor, body, out));
    uint8_t *at = buffer_at(out) + start;
    struct frame frame = {
        .length = (int32_t)(buffer_held(out) - start),
        .request_id = load_i32(header.at + 4),
        .response_to = load_i32(header.at + 8),
        .opcode = OPCODE_COMPRESSED,
    };
    frame_write(at, &frame);
    store_i32(at + FRAME_HEADER_BYTES, load_i32(header.at + 12));
    store_i32(at + FRAME_HEADER_BYTES + 4, (int32_t)body.len);
    at[COMPRESSED_HEADER_BYTES - 1] = (uint8_t)compressor;
}
