// SPDX-License-Identifier: Apache-2.0
//
// A document: bson_check and libbson agree on whether it is one, and on every element of it.

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/model.h"

// As documents are taken off one after the other, each at least as long as its length and a NUL.
static void take_all(struct bytes rest)
{
    struct bytes document;
    while (bson_take(&rest, &document) == WIRE_OK) {
        MUST(document.len >= BSON_VIEW_MIN_BYTES);
        MUST(document.at + document.len == rest.at);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = exact_copy(data, size);
    struct bytes document = {copy, size};
    if (size == 0) {
        free(copy);
        copy = NULL;
        document = (struct bytes){0};
    }
    take_all(document);
    if (size >= 4) {
        store_i32(copy, (int32_t)size);
    }
    enum wire_error ours = bson_check(document);
    int levels = size > 0 ? model_levels(document) : 0;
    // What is too deep may be wrong as well, at a place that only one of the two has seen.
    if (ours == WIRE_TOO_DEEP) {
        MUST(levels <= 0);
    } else {
        MUST((ours == WIRE_OK) == (levels > 0));
    }
    if (ours == WIRE_OK) {
        MUST(levels <= BSON_VIEW_MAX_DEPTH);
        model_compare(document);
    }
    free(copy);
    return 0;
}
