// SPDX-License-Identifier: Apache-2.0

#include "proxy/config_changes.h"

#include <stdio.h>
#include <string.h>

#include "proxy/config_option.h"

static void show(const struct option_row *row, const struct config *config,
                 char ret_value[CONFIG_VALUE_BYTES])
{
    ret_value[0] = '\0';
    if (option_has_value(row, config)) {
        option_show(row, config, ret_value, CONFIG_VALUE_BYTES);
    }
}

void config_changes_each(const struct config *running, const struct config *fresh,
                         void (*each)(void *context, const char *name, const char *former,
                                      const char *value),
                         void *context)
{
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        const struct option_row *row = &option_rows[i];
        char former[CONFIG_VALUE_BYTES], value[CONFIG_VALUE_BYTES];
        if (row->reloadable && !option_is_same(row, running, fresh)) {
            show(row, running, former);
            show(row, fresh, value);
            each(context, row->name, former, value);
        }
    }
}

static const char *name_of(const struct config_entry *entry)
{
    for (size_t i = 0; i < entry->count; i++) {
        if (strcmp(entry->fields[i].name, "name") == 0) {
            return entry->fields[i].value;
        }
    }
    return "";
}

// An identity is its place among them: to workers, servers and users.
bool config_changes_keep_identities(const struct config *running, const struct config *fresh)
{
    const struct config_entries *a = &running->identities;
    const struct config_entries *b = &fresh->identities;
    size_t i = 0;
    while (i < a->count && i < b->count &&
           strcmp(name_of(&a->items[i]), name_of(&b->items[i])) == 0) {
        i++;
    }
    return i == a->count && i == b->count;
}

bool config_changes_keep_logins(const struct config *running, const struct config *fresh)
{
    return running->authorization == fresh->authorization &&
           config_changes_keep_identities(running, fresh);
}

static void add(char *names, size_t capacity, const char *name)
{
    size_t used = strlen(names);
    snprintf(names + used, capacity - used, "%s%s", used > 0 ? ", " : "", name);
}

void config_changes_keep(const struct config *running, struct config *fresh, char *ret_names,
                         size_t capacity)
{
    ret_names[0] = '\0';
    if (!config_changes_keep_logins(running, fresh) &&
        running->users.count + fresh->users.count > 0) {
        add(ret_names, capacity, "users");
    }
    if (!config_changes_keep_identities(running, fresh)) {
        add(ret_names, capacity, "identities");
    }
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        const struct option_row *row = &option_rows[i];
        if (!row->reloadable && !option_is_same(row, running, fresh)) {
            add(ret_names, capacity, row->name);
            option_copy(row, fresh, running);
            fresh->origins[i] = running->origins[i];
        }
    }
}
