// SPDX-License-Identifier: Apache-2.0
//
// Queries over documents in memory: what of a server's query language is supported here, and
// nothing else is passed over in silence. Pure. The documents are ours; the query is from outside,
// a sound BSON document.

#ifndef PROXY_ADMIN_QUERY_H
#define PROXY_ADMIN_QUERY_H

#include <bson/bson.h>
#include <stdbool.h>

#include "wire/buffer.h"
#include "wire/bytes.h"

#define QUERY_ERROR_BYTES 256
#define QUERY_MAX_BYTES 16384 // of a filter, so that one does not keep the others waiting

// What is empty (.len == 0) is as if it were {}.
struct query {
    struct bytes filter;
    struct bytes sort;
    struct bytes projection;
    int64_t skip;
    int64_t limit; // 0: none
};

// False, with one line that says what is supported, if something in it is not.
bool query_check(const struct query *query, char ret_error[QUERY_ERROR_BYTES])
    __attribute__((warn_unused_result));

// Of a query that was checked: appends the documents, one after the other, to `out`; returns how
// many. `documents` is the same.
int64_t query_run(const struct query *query, struct bytes documents, struct buffer *out);

// Whether one document is one that the checked filter wants.
bool query_matches(struct bytes filter, struct bytes document);

#endif
