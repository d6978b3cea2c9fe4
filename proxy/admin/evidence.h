// SPDX-License-Identifier: Apache-2.0
//
// What a server said of itself while its permits had run out, as the record of that has it.

#ifndef PROXY_ADMIN_EVIDENCE_H
#define PROXY_ADMIN_EVIDENCE_H

#include <bson/bson.h>

#include "proxy/control/consultant.h"

// All zero: it has not been asked.
struct evidence {
    bool asked;
    bson_t *document;                        // for the record; NULL: nothing has been answered yet
    uint64_t shape;                          // that the following is about; 0: none
    bool scans;                              // the collection
    char index_used[ANSWER_NAME_BYTES];      // by its plan; "": none, or not known
    bool sort_is_free;                       // its directions in the index are the query's to say
    char index_to_make[INDEX_COMMAND_BYTES]; // as to type it; "": none would help, or there is one
    char index_there[ANSWER_NAME_BYTES];
};

// The answer has come; `time` is now, in seconds since 1970.
void evidence_take(struct evidence *evidence, const struct consult *consult, uint64_t shape,
                   double time);
void evidence_fini(struct evidence *evidence);

// Puts it into the document of that name.
void evidence_put(const struct evidence *evidence, bson_t *document);

#endif
