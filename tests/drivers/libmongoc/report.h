// SPDX-License-Identifier: Apache-2.0
//
// What the libmongoc programs share: the lines they print, and how a check ends early.

#ifndef REPORT_H
#define REPORT_H

#include <mongoc/mongoc.h>
#include <stdbool.h>

// Ends the check under way, unless `truth`, with "file:line: text".
#define CHECK(truth) check_that((truth), NULL, __FILE__, __LINE__, #truth)

// The same of a call of libmongoc's that may fail with `error`.
#define CHECK_OK(truth, error) check_that((truth), &(error), __FILE__, __LINE__, #truth)

void check_that(bool truth, const bson_error_t *error, const char *file, int line,
                const char *text);

// Ends the check under way as skipped unless the server has the feature.
void need(const char *feature);

// A variable of the environment that must be there.
const char *setting(const char *name);

// Appends to `facts`, as `key`, what an app can tell of an error: of the reply's code, codeName,
// errmsg and errorLabels or, where it has writeErrors, of the first of these.
void describe(bson_t *facts, const char *key, const bson_t *reply);

// Runs a check and prints its line. What the check appends to its argument is printed with it.
void run(const char *name, void (*check)(bson_t *facts));

#endif
