// SPDX-License-Identifier: Apache-2.0
//
// weir explain-event: the record of an exhaustion, for people.

#ifndef PROXY_ADMIN_EXPLAIN_EVENT_H
#define PROXY_ADMIN_EXPLAIN_EVENT_H

#include <bson/bson.h>
#include <stdbool.h>
#include <stdio.h>

// Prints a record; its texts may hold any bytes. False: it is not one, and nothing was printed.
bool explain_event_print(const bson_t *record, FILE *out);

int explain_event_main(int argc, char **argv);

#endif
