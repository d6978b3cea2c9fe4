// SPDX-License-Identifier: Apache-2.0
//
// A bounds-checked walk over BSON from outside (https://bsonspec.org/spec.html). Nothing is copied,
// nothing allocated, nothing trusted: each element's extent is proven to lie inside its document
// before anybody sees it.

#ifndef WIRE_BSON_VIEW_H
#define WIRE_BSON_VIEW_H

#include "wire/bytes.h"
#include "wire/error.h"

#define BSON_VIEW_MAX_DEPTH 200 // a mongod's own limit
#define BSON_VIEW_MIN_BYTES 5   // of a document: its length and a NUL

enum bson_view_type {
    BSON_VIEW_DOUBLE = 0x01,
    BSON_VIEW_STRING = 0x02,
    BSON_VIEW_DOCUMENT = 0x03,
    BSON_VIEW_ARRAY = 0x04,
    BSON_VIEW_BINARY = 0x05,
    BSON_VIEW_UNDEFINED = 0x06,
    BSON_VIEW_OBJECT_ID = 0x07,
    BSON_VIEW_BOOL = 0x08,
    BSON_VIEW_DATE = 0x09,
    BSON_VIEW_NULL = 0x0a,
    BSON_VIEW_REGEX = 0x0b,
    BSON_VIEW_DB_POINTER = 0x0c,
    BSON_VIEW_CODE = 0x0d,
    BSON_VIEW_SYMBOL = 0x0e,
    BSON_VIEW_CODE_WITH_SCOPE = 0x0f,
    BSON_VIEW_INT32 = 0x10,
    BSON_VIEW_TIMESTAMP = 0x11,
    BSON_VIEW_INT64 = 0x12,
    BSON_VIEW_DECIMAL128 = 0x13,
    BSON_VIEW_MAX_KEY = 0x7f,
    BSON_VIEW_MIN_KEY = 0xff,
};

// One element. `key` is without its NUL; `value` is the raw value as it stands in the document.
// Both borrow from the document.
struct bson_element {
    uint8_t type; // enum bson_view_type
    struct bytes key;
    struct bytes value;
};

// Walks the elements of one document, from bson_walk_begin to BSON_WALK_END. It proves where each
// value ends, not what is in it: bson_check does.
struct bson_walk {
    const uint8_t *at;
    const uint8_t *end; // of the elements: points at the document's closing NUL
};

enum bson_walk_status { BSON_WALK_ELEMENT, BSON_WALK_END, BSON_WALK_BAD };

// `document` must hold exactly one document: its length prefix equal to document.len, a NUL last.
// Returns false if not.
bool bson_walk_begin(struct bson_walk *walk, struct bytes document)
    __attribute__((warn_unused_result));

enum bson_walk_status bson_walk_next(struct bson_walk *walk, struct bson_element *ret_element)
    __attribute__((warn_unused_result));

// Splits one document off the front by the length it claims, and says nothing of its content.
// WIRE_BAD_BSON if no document is that short, WIRE_TRUNCATED if `rest` ends before it does; *rest
// is untouched then.
enum wire_error bson_take(struct bytes *rest, struct bytes *ret_document)
    __attribute__((warn_unused_result));

// Checks a document to the bottom: lengths, terminators, types, depth (at most BSON_VIEW_MAX_DEPTH
// levels; the document itself is level 1). Not recursive. Returns WIRE_OK, WIRE_BAD_BSON or
// WIRE_TOO_DEEP. It accepts what libbson can iterate to the bottom, depth apart. Text is not
// checked to be UTF-8: a mongod takes it as it is, and so does weir.
enum wire_error bson_check(struct bytes document) __attribute__((warn_unused_result));

// The element's value as a number, from int32, int64 or double (truncated; false if not finite or
// out of range). False when it is none of these types.
bool bson_element_i64(const struct bson_element *element, int64_t *ret_value);

// The element's value as truth, as servers read it: a true bool, or an int32, int64 or double other
// than 0. False for other types.
bool bson_element_truth(const struct bson_element *element);

// A string's text without its NUL; false when it is no string.
bool bson_element_text(const struct bson_element *element, struct bytes *ret_text);

// Looks a key up in one document level. False when it is not there or the document is malformed.
bool bson_find(struct bytes document, const char *key, struct bson_element *ret_element);

#endif
