// SPDX-License-Identifier: Apache-2.0
//
// One mapping of a list in the file, read by a table of fields as config_table.h is one of
// settings. What is wrong is refused with the line and what would be right:
//
//     weir.yaml:12: users, the 2. one: databses: unknown field, did you mean databases?

#ifndef PROXY_CONFIG_ENTRY_H
#define PROXY_CONFIG_ENTRY_H

#include "proxy/config_option.h"

struct entry_table {
    const struct option_row *rows;
    int count;
};

// What is said beside a row of the table that is not given is its preset, if it has one.
void entry_preset(const struct entry_table *table, void *values);

// Gives a field, by its name, the value that text says. False, with what would be right, which
// begins with the name.
bool entry_set(const struct entry_table *table, void *values, const char *name, const char *text,
               char ret_reason[OPTION_REASON_BYTES]);

// Presets, then all fields of the entry. False, with the line and the reason; what has been set is
// the caller's to clear in either case.
bool entry_read(const struct entry_table *table, const struct config_entry *entry, void *values,
                int *ret_line, char ret_reason[OPTION_REASON_BYTES]);

void entry_clear(const struct entry_table *table, void *values);

#endif
