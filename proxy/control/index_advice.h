// SPDX-License-Identifier: Apache-2.0
//
// Which index would serve a query. Pure.
//
//      find shop.orders {status, at:{$gt}, items:{$elemMatch:{sku}}} sort{day}
//          equality  status, items.sku     one place in the index
//          sort      day                   there already in order
//          range     at                    last: what follows a range is in no order
//      {status: 1, "items.sku": 1, day: 1, at: 1}

#ifndef PROXY_CONTROL_INDEX_ADVICE_H
#define PROXY_CONTROL_INDEX_ADVICE_H

#include <bson/bson.h>
#include <stdbool.h>
#include <stddef.h>

enum {
    INDEX_KEYS_MAX = 32,
    INDEX_NAME_BYTES = 96,
    INDEX_TEXT_BYTES = 512,
    INDEX_COMMAND_BYTES = 768
};

// What is neither 1 nor -1.
enum { INDEX_SPECIAL = 0, INDEX_HASHED = 2 };

struct index_key {
    char name[INDEX_NAME_BYTES];
    int direction;
};

struct index_keys {
    int count;
    struct index_key key[INDEX_KEYS_MAX];
};

// What a query asks of an index, as far as it can be told.
struct query_needs {
    struct index_keys equality;
    struct index_keys sort;
    struct index_keys range;
    bool directions_known; // false: of the sort, each is said to be 1
    bool alternatives;     // there is an $or: each of its branches needs an index of its own
    bool special;          // $text, $near and their like: these need indexes of their own kind
    bool incomplete;       // it was cut, or has more fields than are read
};

// Reads a command as a server or a profiler shows it: find, aggregate (its leading $match and
// $sort), count, distinct, findAndModify, one statement of an update or a delete ({q, u, …}), or
// one with `updates`, `deletes` (the first). Any document is allowed. False: it has neither a
// filter nor a sort, so no index serves it.
bool query_needs_of_command(const bson_t *command, struct query_needs *ret_needs);

// The same of a shape's text (wire/shape.h). Any text is allowed. ret_namespace, unless it is NULL:
// the namespace that it names.
bool query_needs_of_shape(const char *shape, struct query_needs *ret_needs, char *ret_namespace,
                          size_t capacity);

// The keys by equality, sort, range. Without any where none would help: nothing is asked for, or
// what _id finds.
void index_for(const struct query_needs *needs, struct index_keys *ret_keys);

enum index_fit {
    INDEX_FITS_NOT, // its first key is not asked for
    INDEX_NARROWS,  // it finds part of what is asked for
    INDEX_SERVES,   // all that an index by equality, sort, range would do
};

enum index_fit index_fit(const struct index_keys *index, const struct query_needs *needs);

// Whether `longer` does all that `shorter` does.
bool index_is_prefix(const struct index_keys *shorter, const struct index_keys *longer);

// Reads what listIndexes and $indexStats call key. False: it is no such document.
bool index_keys_read(const bson_iter_t *key, struct index_keys *ret_keys);

// As one would type it: {status: 1, "items.sku": 1}. Cut to capacity, always ended.
void index_keys_print(const struct index_keys *keys, char *ret_text, size_t capacity);

// The command that makes it, as one would type it in a shell. False: there is no room for all of
// it, or no such namespace; then the text is empty.
bool index_command_print(const char *ns, const struct index_keys *keys, char *ret_text,
                         size_t capacity);

// The command that tells how a server executes what has this shape, with words in place of the
// values, which a shape does not have. False: there is none, or no room for all of it; then the
// text is empty.
bool explain_command_print(const char *shape, char *ret_text, size_t capacity);

#endif
