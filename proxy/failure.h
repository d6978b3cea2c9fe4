// SPDX-License-Identifier: Apache-2.0
//
// What each failure of a request is answered with: code, labels, words. The reasons for codes and
// labels are in ARCHITECTURE.md.

#ifndef PROXY_FAILURE_H
#define PROXY_FAILURE_H

#include "proxy/request.h"
#include "wire/reply.h"

#define FAILURE_WORDS_BYTES 320

// Fills `error` (zeroed by the caller) with the answer to a request that failed. `words` has room
// for FAILURE_WORDS_BYTES, for a message that is not always the same; `error` borrows from it and
// from the request.
void failure_describe(const struct request *request, struct reply_error *error, char *words);

// A word for metrics. Static.
const char *failure_text(enum request_failure failure);

#endif
