// SPDX-License-Identifier: Apache-2.0

#include "proxy/identities.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/mem.h"
#include "proxy/users.h"

enum { PASSWORD_BYTES = 1024 };

static bool refuse(char *ret_reason, const char *why)
{
    return option_refuse(ret_reason, "%s", why);
}

// The first line of a file.
static bool read_password(const char *path, char **ret_password, char *ret_reason)
{
    char line[PASSWORD_BYTES] = "";
    FILE *file = fopen(path, "re");
    if (!file) {
        return option_refuse(ret_reason, "passwordFile %.90s: %s", path, strerror(errno));
    }
    bool read = fgets(line, sizeof line, file) != NULL;
    fclose(file);
    size_t length = strcspn(line, "\r\n");
    if (!read || length == 0 || length == sizeof line - 1) {
        return option_refuse(ret_reason, "passwordFile %.90s: its first line is no password", path);
    }
    line[length] = '\0';
    *ret_password = xstrdup(line);
    OPENSSL_cleanse(line, sizeof line);
    return true;
}

static bool is_mechanism(const char *name)
{
    static const char *const names[] = {"SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"};
    for (size_t i = 0; name && i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(name, names[i]) == 0) {
            return true;
        }
    }
    return name == NULL;
}

static bool check(const struct identity_spec *spec, const struct identity *others, size_t count,
                  char *ret_reason)
{
    for (size_t i = 0; spec->name && i < count; i++) {
        if (strcmp(others[i].name, spec->name) == 0) {
            return refuse(ret_reason, "name: there is one of that name");
        }
    }
    return (spec->name || refuse(ret_reason, "name: missing")) &&
           (spec->username || refuse(ret_reason, "username: missing")) &&
           (spec->password_file || refuse(ret_reason, "passwordFile: missing")) &&
           (is_mechanism(spec->mechanism) ||
            refuse(ret_reason, "mechanism: must be SCRAM-SHA-256, SCRAM-SHA-1 or PLAIN"));
}

static char *copy(const char *text)
{
    return text ? xstrdup(text) : NULL;
}

static bool identity_read(struct identity *identities, size_t place, const struct config *config,
                          int *ret_line, char *ret_reason)
{
    struct identity *identity = &identities[place];
    struct identity_spec spec = {0};
    char *password = NULL;
    bool good = entry_read(&identity_table, &config->identities.items[place], &spec, ret_line,
                           ret_reason) &&
                check(&spec, identities, place, ret_reason) &&
                read_password(spec.password_file, &password, ret_reason);
    if (good) {
        identity->name = copy(spec.name);
        identity->credential = (struct credential){
            .mechanism = copy(spec.mechanism),
            .username = copy(spec.username),
            .password = password,
            .source = copy(spec.source),
        };
        identity->keys = key_cache_new();
    }
    entry_clear(&identity_table, &spec);
    return good;
}

struct identity *identities_new(const struct config *config, char *ret_error, size_t error_capacity)
{
    size_t count = config->identities.count;
    struct identity *identities = xcalloc(count + 1, sizeof *identities);
    for (size_t i = 0; i < count; i++) {
        char reason[OPTION_REASON_BYTES];
        int line = 0;
        if (!identity_read(identities, i, config, &line, reason)) {
            snprintf(ret_error, error_capacity, "%.200s:%d: identities, the %zu. one: %s",
                     config->file, line, i + 1, reason);
            identities_free(identities, i);
            return NULL;
        }
    }
    return identities;
}

void identities_free(struct identity *identities, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct credential *credential = &identities[i].credential;
        if (credential->password) {
            OPENSSL_cleanse(credential->password, strlen(credential->password));
        }
        free(credential->password);
        free(credential->mechanism);
        free(credential->username);
        free(credential->source);
        free(identities[i].name);
        key_cache_free(identities[i].keys);
    }
    free(identities);
}
