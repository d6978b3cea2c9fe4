// SPDX-License-Identifier: Apache-2.0
//
// Messages as drivers and servers send them, and the parts to build others from, right or wrong.

#ifndef TESTS_UNIT_WIRE_SAMPLES_H
#define TESTS_UNIT_WIRE_SAMPLES_H

#include <bson/bson.h>

#include "wire/buffer.h"
#include "wire/bytes.h"

enum sample_kind { SAMPLE_REQUEST, SAMPLE_QUERY, SAMPLE_REPLY };

struct sample {
    const char *name;
    enum sample_kind kind; // an OP_MSG request, an OP_QUERY, an OP_MSG reply
    struct bytes message;
};

// All samples; they live as long as the process.
const struct sample *samples(size_t *ret_count);

// The one of that name; aborts if there is none.
struct bytes sample_named(const char *name);

// A document from MongoDB's extended JSON (aborts if it is none). The caller destroys it.
bson_t *sample_document(const char *json);

// Building a message: begin, sections in any order, end (which writes the length and, if the flags
// say so, the checksum).
void sample_begin(struct buffer *out, int32_t request_id, int32_t response_to, uint32_t flags);
void sample_body(struct buffer *out, const char *json);
void sample_sequence(struct buffer *out, const char *name, const char *const documents[]);
void sample_end(struct buffer *out);

// A whole OP_QUERY.
void sample_query(struct buffer *out, int32_t request_id, const char *namespace, const char *json);

static inline struct bytes buffer_bytes(const struct buffer *buffer)
{
    return (struct bytes){buffer_at(buffer), buffer_held(buffer)};
}

// A repeatable sequence of numbers that look like chance (xorshift64*, S. Vigna, 2014).
struct dice {
    uint64_t state; // not 0
};

static inline uint32_t dice_below(struct dice *dice, uint32_t limit)
{
    dice->state ^= dice->state >> 12;
    dice->state ^= dice->state << 25;
    dice->state ^= dice->state >> 27;
    uint32_t high = (uint32_t)((dice->state * UINT64_C(2685821657736338717)) >> 32);
    return (uint32_t)((uint64_t)high * limit >> 32);
}

// Changes `at` in one to four places, in ways that hurt a parser: bits, whole bytes, lengths.
void dice_damage(struct dice *dice, uint8_t *at, size_t len);

#endif
