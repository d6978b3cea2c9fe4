// SPDX-License-Identifier: Apache-2.0

#include "proxy/config_changes.h"

#include <stdbool.h>
#include <string.h>

#include "proxy/config_option.h"

struct names {
    const struct config *other;
    char *text;
    size_t capacity;
    const char *name; // that is looked for in `other`
    const char *value;
    bool same;
    bool found;
};

static void add(struct names *names, const char *name)
{
    size_t used = strlen(names->text);
    snprintf(names->text + used, names->capacity - used, "%s%s", used > 0 ? ", " : "", name);
}

// upstream.uri is shown without its secrets, so it is compared by itself.
static bool is_taken_over(const char *name)
{
    for (size_t i = 0; i < CONFIG_OPTION_COUNT; i++) {
        if (strcmp(option_rows[i].name, name) == 0) {
            return option_rows[i].reloadable || i == CONFIG_OPTION_uri;
        }
    }
    return false;
}

static void look(void *context, const char *name, const char *value)
{
    struct names *names = context;
    if (strcmp(name, names->name) == 0) {
        names->found = true;
        names->same = strcmp(value, names->value) == 0;
    }
}

static void look_for(struct names *names, const char *name, const char *value)
{
    names->name = name;
    names->value = value;
    names->found = names->same = false;
    config_each(names->other, look, names);
}

static void add_if_other(void *context, const char *name, const char *value)
{
    struct names *names = context;
    look_for(names, name, value);
    if (!names->same && !is_taken_over(name)) {
        add(names, name);
    }
}

static void add_if_gone(void *context, const char *name, const char *value)
{
    struct names *names = context;
    look_for(names, name, value);
    if (!names->found && !is_taken_over(name)) {
        add(names, name);
    }
}

static bool fields_are_same(const struct config_entry *a, const struct config_entry *b)
{
    for (size_t i = 0; i < a->count && a->count == b->count; i++) {
        if (strcmp(a->fields[i].name, b->fields[i].name) != 0 ||
            strcmp(a->fields[i].value, b->fields[i].value) != 0) {
            return false;
        }
    }
    return a->count == b->count;
}

static bool entries_are_same(const struct config_entries *a, const struct config_entries *b)
{
    for (size_t i = 0; i < a->count && a->count == b->count; i++) {
        if (!fields_are_same(&a->items[i], &b->items[i])) {
            return false;
        }
    }
    return a->count == b->count;
}

bool config_changes_keep_logins(const struct config *running, const struct config *fresh)
{
    return running->authorization == fresh->authorization &&
           entries_are_same(&running->identities, &fresh->identities);
}

void config_changes_need_restart(const struct config *running, const struct config *fresh,
                                 char *ret_names, size_t capacity)
{
    struct names names = {.other = running, .text = ret_names, .capacity = capacity};
    ret_names[0] = '\0';
    if (strcmp(running->uri, fresh->uri) != 0) {
        add(&names, "upstream.uri");
    }
    config_each(fresh, add_if_other, &names);
    names.other = fresh;
    config_each(running, add_if_gone, &names);
    if (!config_changes_keep_logins(running, fresh) &&
        running->users.count + fresh->users.count > 0) {
        add(&names, "users");
    }
    if (!entries_are_same(&running->identities, &fresh->identities)) {
        add(&names, "identities");
    }
}

bool config_changes_open_a_door(const struct config *running, const struct config *fresh)
{
    struct config then = *running;
    then.tls_ca_file = fresh->tls_ca_file;
    then.tls_allow_connections_without_certificates =
        fresh->tls_allow_connections_without_certificates;
    return !running->allow_remote_without_auth && config_is_open(&then);
}
