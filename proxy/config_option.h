// SPDX-License-Identifier: Apache-2.0
//
// One setting: its row in a table, and its value between text and a field of a struct.
// config_table.h makes struct config so; rule_table.h, struct rule_spec; user_table.h, struct
// user_spec.

#ifndef PROXY_CONFIG_OPTION_H
#define PROXY_CONFIG_OPTION_H

#include "proxy/config.h"

enum option_type {
    OPTION_STRING, // not empty
    OPTION_URI,    // mongodb:// or mongodb+srv://, and a secret
    OPTION_URL,    // https://, all but its host a secret
    OPTION_LIST,   // a,b,c
    OPTION_INT,
    OPTION_BOOL,     // true, false
    OPTION_DURATION, // 100ms, 10s, 5m, 1h, 0
    OPTION_BYTES,    // 64MB, 1GB, 0; powers of 1024
    OPTION_FRACTION, // 0.25
    OPTION_ENUM,     // one of its choices, a|b|c
};

struct option_row {
    const char *name;
    const char *flag;
    enum option_type type;
    size_t offset;
    const char *preset;
    const char *least;
    const char *most;
    const char *value;
    bool reloadable;
    const char *help;
};

enum { OPTION_REASON_BYTES = 160, OPTION_NAME_BYTES = 80 };

extern const struct option_row option_rows[CONFIG_OPTION_COUNT];

// Puts the value that text says into its field of the table's struct, whose earlier value is freed.
// False if it says none that is allowed; then ret_reason is what would be right ("must be 1 to
// 100000"), and nothing is changed.
bool option_set(const struct option_row *row, void *values, const char *text,
                char ret_reason[OPTION_REASON_BYTES]);

// Says why a value is refused. False.
bool option_refuse(char ret_reason[OPTION_REASON_BYTES], const char *format, ...)
    __attribute__((format(printf, 2, 3)));

// Whether the fields hold the same.
bool option_is_same(const struct option_row *row, const void *a, const void *b);

// Puts a copy of the other's value into its field, whose earlier value is freed.
void option_copy(const struct option_row *row, void *values, const void *others);

// Frees the value's memory.
void option_clear(const struct option_row *row, void *values);

// True if the field holds a value; only texts and lists may not.
bool option_has_value(const struct option_row *row, const void *values);

// Writes the value as option_set would take it, a URI masked; cuts at size.
void option_show(const struct option_row *row, const void *values, char *ret_text, size_t size);

// Prints the row as --help does.
void option_print_help(FILE *out, const struct option_row *row);

// Writes the name of the variable that says what the flag says.
void option_variable(const char *flag, char ret_name[OPTION_NAME_BYTES]);

#endif
