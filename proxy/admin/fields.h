// SPDX-License-Identifier: Apache-2.0
//
// What commands read of weir's answers, in which anything may be absent or of another type.

#ifndef PROXY_ADMIN_FIELDS_H
#define PROXY_ADMIN_FIELDS_H

#include <bson/bson.h>
#include <stdbool.h>

// Borrowed from the document; "": it has none of that name, or no text.
const char *field_text(const bson_t *document, const char *name);

// The document, or list, that stands there; borrowed. False: it is neither.
bool field_open(const bson_iter_t *field, bson_t *ret_inner);
bool field_find(const bson_t *document, const char *name, bson_t *ret_inner);

#endif
