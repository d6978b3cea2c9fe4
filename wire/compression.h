// SPDX-License-Identifier: Apache-2.0
//
// OP_COMPRESSED: a message whose body is compressed (specification:
// source/compression/OP_COMPRESSED.md of mongodb/specifications).
//
//      header 16 | original opcode 4 | length of the inflated body 4 | compressor 1 | packed body
//
// What the length claims is held against the limit before anybody makes room for it, and against
// what came out afterwards: never may a byte be taken for data that no compressor wrote.

#ifndef WIRE_COMPRESSION_H
#define WIRE_COMPRESSION_H

#include <bson/bson.h>

#include "wire/buffer.h"
#include "wire/bytes.h"
#include "wire/frame.h"

//      name               id  name in hello and URIs
#define COMPRESSORS(X)                                                                             \
    X(COMPRESSOR_SNAPPY, 1, "snappy")                                                              \
    X(COMPRESSOR_ZLIB, 2, "zlib")                                                                  \
    X(COMPRESSOR_ZSTD, 3, "zstd")

enum compressor {
    COMPRESSOR_NONE = 0, // the protocol's "noop", which nobody needs to agree on
#define X(name, id, text) name = id,
    COMPRESSORS(X)
#undef X
};

#define COMPRESSOR_COUNT 3

// The compressor of a name, COMPRESSOR_NONE if we do not have it; its name in turn.
enum compressor compressor_find(struct bytes name);
const char *compressor_name(enum compressor compressor);

// Compressors, the preferred one first; none twice.
struct compressor_list {
    int count;
    enum compressor items[COMPRESSOR_COUNT];
};

bool compressor_list_has(const struct compressor_list *list, enum compressor compressor);

// Adds one at the end, unless it is there already or is COMPRESSOR_NONE.
void compressor_list_add(struct compressor_list *list, enum compressor compressor);

// Those named in a BSON array, `compression` of a hello or of its reply; others are left out.
struct compressor_list compressor_list_read(struct bytes array);

// Those of `a`, in its order, that `b` has, too.
struct compressor_list compressor_list_common(const struct compressor_list *a,
                                              const struct compressor_list *b);

// Appends `compression` to a hello or to its reply; nothing if the list is empty.
void compressor_list_append(const struct compressor_list *list, bson_t *document);

#define COMPRESSED_HEADER_BYTES (FRAME_HEADER_BYTES + 9)

//      name                     text, for the log
#define COMPRESSED_STATUSES(X)                                                                     \
    X(COMPRESSED_OK, "ok")                                                                         \
    X(COMPRESSED_MORE, "its header is not whole")                                                  \
    X(COMPRESSED_TRUNCATED, "a compressed message is too short for its header")                    \
    X(COMPRESSED_BAD_OPCODE, "a compressed message holds something else than an OP_MSG")           \
    X(COMPRESSED_BAD_CLAIM, "a compressed message claims an impossible length")                    \
    X(COMPRESSED_NOT_AGREED, "a message by a compressor that was not agreed on")                   \
    X(COMPRESSED_BROKEN, "a compressed message does not inflate to the length it claims")

enum compressed_status {
#define X(name, text) name,
    COMPRESSED_STATUSES(X)
#undef X
};

const char *compressed_status_text(enum compressed_status status);

struct compressed {
    struct frame frame;         // of the message inside: its length when inflated, its opcode
    enum compressor compressor; // one of those agreed on
    size_t length;              // of the compressed message, header included
};

// Reads the header of an OP_COMPRESSED of which `len` bytes are there; frame_read has found its
// length possible. The message inside must be an OP_MSG: OP_QUERY is hello's alone, which is never
// compressed, and a compressed message inside another would be a loop. COMPRESSED_MORE: not yet.
enum compressed_status compressed_read(const uint8_t *at, size_t len,
                                       const struct compressor_list *agreed,
                                       struct compressed *ret_compressed)
    __attribute__((warn_unused_result));

// What compressors keep between messages; for one thread. What each needs is made at its first use.
struct codec;

// `zlib_level`: -1 (zlib's default) to 9.
struct codec *codec_new(int zlib_level);
void codec_free(struct codec *codec);

// Inflates the whole compressed message at `at`, of which compressed_read told, into the
// compressed->frame.length bytes at `ret_message`. Unless COMPRESSED_OK (the only other is
// COMPRESSED_BROKEN), what is there now means nothing.
enum compressed_status compressed_inflate(struct codec *codec, const struct compressed *compressed,
                                          const uint8_t *at, uint8_t *ret_message)
    __attribute__((warn_unused_result));

// Appends the message, compressed. It may become longer than it was.
void compressed_write(struct codec *codec, enum compressor compressor, struct bytes message,
                      struct buffer *out);

#endif
