// SPDX-License-Identifier: Apache-2.0
//
// libbson's opinion of a document, for comparison with ours.

#ifndef TESTS_FUZZ_MODEL_H
#define TESTS_FUZZ_MODEL_H

#include <bson/bson.h>

#include "wire/bytes.h"

enum { MODEL_TOO_DEEP = -1 };

// Whether libbson iterates to the bottom, and how many levels there are (1: nothing inside); 0 if
// it does not, MODEL_TOO_DEEP if there are more than 200 before it is known. Where libbson (1.23)
// is not strict this is, as the specification says: the elements end one byte before the document;
// the code of a code with scope ends in a NUL; a document inside is one.
int model_levels(struct bytes document);

// Compares each element of our walk with libbson's, to the bottom, in a document that both accept.
void model_compare(struct bytes document);

// A bson_t upon the bytes, which must be a document that libbson accepts.
bson_t model_document(struct bytes document);

// The element's value as it stands in the document.
struct bytes model_value(const bson_iter_t *iter, struct bytes document);

#endif
