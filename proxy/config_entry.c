// SPDX-License-Identifier: Apache-2.0

#include "proxy/config_entry.h"

#include <assert.h>
#include <string.h>

#include "proxy/config_loader.h"

void entry_preset(const struct entry_table *table, void *values)
{
    char reason[OPTION_REASON_BYTES];
    for (int i = 0; i < table->count; i++) {
        const struct option_row *row = &table->rows[i];
        bool fine = row->preset == NULL || option_set(row, values, row->preset, reason);
        assert(fine);
    }
}

static bool refuse_unknown(const struct entry_table *table, const char *name, char *ret_reason)
{
    struct guess guess;
    guess_init(&guess, name);
    for (int i = 0; i < table->count; i++) {
        guess_try(&guess, table->rows[i].name);
    }
    if (guess.match[0] == '\0') {
        snprintf(ret_reason, OPTION_REASON_BYTES, "%.60s: unknown field", name);
    } else {
        snprintf(ret_reason, OPTION_REASON_BYTES, "%.50s: unknown field, did you mean %.60s?", name,
                 guess.match);
    }
    return false;
}

// It goes into lines of the log and error replies.
static bool is_printable(const char *text)
{
    for (const char *c = text; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ' || *c == '\x7f') {
            return false;
        }
    }
    return true;
}

bool entry_set(const struct entry_table *table, void *values, const char *name, const char *text,
               char ret_reason[OPTION_REASON_BYTES])
{
    char reason[OPTION_REASON_BYTES] = "must not have control characters";
    int i = 0;
    while (i < table->count && strcmp(table->rows[i].name, name) != 0) {
        i++;
    }
    if (i == table->count) {
        return refuse_unknown(table, name, ret_reason);
    }
    bool fine = is_printable(text) && option_set(&table->rows[i], values, text, reason);
    if (!fine) {
        snprintf(ret_reason, OPTION_REASON_BYTES, "%s: %.100s", name, reason);
    }
    return fine;
}

bool entry_read(const struct entry_table *table, const struct config_entry *entry, void *values,
                int *ret_line, char ret_reason[OPTION_REASON_BYTES])
{
    entry_preset(table, values);
    for (size_t i = 0; i < entry->count; i++) {
        const struct config_field *field = &entry->fields[i];
        *ret_line = field->line;
        if (!entry_set(table, values, field->name, field->value, ret_reason)) {
            return false;
        }
    }
    *ret_line = entry->line;
    return true;
}

void entry_clear(const struct entry_table *table, void *values)
{
    for (int i = 0; i < table->count; i++) {
        option_clear(&table->rows[i], values);
    }
}
