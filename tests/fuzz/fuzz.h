// SPDX-License-Identifier: Apache-2.0
//
// What the fuzz targets share. Each target is one file with LLVMFuzzerTestOneInput; what holds for
// any input is said with MUST. All that is parsed lies in a heap block of exactly its size, so that
// AddressSanitizer sees one step beyond either end.

#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <bson/bson.h>
#include <stdio.h>
#include <stdlib.h>

#include "wire/bson_view.h"
#include "wire/buffer.h"
#include "wire/bytes.h"
#include "wire/crc32c.h"
#include "wire/frame.h"
#include "wire/op_msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// Ends the process, which keeps the input, unless the condition holds.
#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);         \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

// The caller frees what it points at.
static inline uint8_t *exact_copy(const void *at, size_t len)
{
    uint8_t *copy = malloc(len);
    MUST(copy || len == 0);
    if (len > 0) {
        memcpy(copy, at, len);
    }
    return copy;
}

// Whether the text stands in the bytes. An input that holds a secret (libFuzzer learns it from what
// is compared) proves nothing when the secret is found in what comes of it.
static inline bool holds_text(const void *at, size_t len, const char *text)
{
    return len > 0 && memmem(at, len, text, strlen(text)) != NULL;
}

static inline bool same_bytes(struct bytes a, struct bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

// Whether two views, each in a message of its own, stand at the same place and are as long; an
// empty one may stand nowhere.
static inline bool same_place(struct bytes a, const void *in_a, struct bytes b, const void *in_b)
{
    if (!a.at || !b.at) {
        return !a.at && !b.at;
    }
    return a.len == b.len && a.at - (const uint8_t *)in_a == b.at - (const uint8_t *)in_b;
}

// Gives a message the length and, if its flags ask for one, the checksum that it should have: what
// fuzzing does not find by itself. At least 20 bytes.
static inline void mend_message(uint8_t *message, size_t len)
{
    store_i32(message, (int32_t)len);
    uint32_t flags = (uint32_t)load_i32(message + FRAME_HEADER_BYTES);
    if ((flags & OP_MSG_CHECKSUM_PRESENT) && len >= FRAME_HEADER_BYTES + 4 + 4) {
        store_i32(message + len - 4, (int32_t)crc32c((struct bytes){message, len - 4}));
    }
}

// Cuts pieces off an input, from the front; at its end they are 0 or empty.
struct input {
    const uint8_t *at;
    size_t len;
};

static inline uint8_t input_byte(struct input *input)
{
    if (input->len == 0) {
        return 0;
    }
    input->len--;
    return *input->at++;
}

// As many bytes as two bytes in front say, or as there are.
static inline struct bytes input_piece(struct input *input)
{
    size_t len = input_byte(input);
    len |= (size_t)input_byte(input) << 8;
    len = len < input->len ? len : input->len;
    struct bytes piece = {input->at, len};
    input->at += len;
    input->len -= len;
    return piece;
}

#endif
