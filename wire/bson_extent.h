// SPDX-License-Identifier: Apache-2.0
//
// How far a BSON value reaches, by its type: the one table that the walk over whole documents and
// the scan of documents in pieces share, so that they agree on where each element ends.

#ifndef WIRE_BSON_EXTENT_H
#define WIRE_BSON_EXTENT_H

#include "wire/bytes.h"

enum bson_extent_kind {
    BSON_EXTENT_UNKNOWN,  // no such type
    BSON_EXTENT_FIXED,    // `bytes`
    BSON_EXTENT_PREFIXED, // `bytes` and what the int32 in front says, which is at least `least`
    BSON_EXTENT_REGEX,    // two strings that end in NUL
};

struct bson_extent {
    uint8_t kind;
    uint8_t bytes;
    uint8_t least;
};

extern const struct bson_extent bson_extents[256];

// The length of a PREFIXED value, its prefix included, from that prefix. 0 if it lies.
static inline size_t bson_extent_prefixed(const struct bson_extent *extent, int32_t prefix)
{
    return prefix < extent->least ? 0 : (size_t)prefix + extent->bytes;
}

#endif
