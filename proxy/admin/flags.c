// SPDX-License-Identifier: Apache-2.0

#include "proxy/admin/flags.h"

#include <stdio.h>
#include <string.h>

#include "proxy/config_loader.h"

static bool refuse(char *ret_error, const char *flag, const char *what, const char *more)
{
    int length = (int)strcspn(flag, "=");
    snprintf(ret_error, FLAGS_ERROR_BYTES, "%.*s: %s%s%s", length < 60 ? length : 60, flag, what,
             more, more[0] ? "?" : "");
    return false;
}

static bool refuse_unknown(const struct flag *flags, size_t count, const char *typed, char *error)
{
    struct guess guess;
    char name[OPTION_NAME_BYTES];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(typed, "="), typed);
    guess_init(&guess, name);
    for (size_t i = 0; i < count; i++) {
        guess_try(&guess, flags[i].name);
    }
    return guess.match[0] != '\0'
               ? refuse(error, typed, "unknown flag, did you mean --", guess.match)
               : refuse(error, typed, "unknown flag, see --help", "");
}

static const struct flag *find(const struct flag *flags, size_t count, const char *typed)
{
    const char *name = strcmp(typed, "-h") == 0 ? "help" : typed + strspn(typed, "-");
    size_t length = strcspn(name, "=");
    for (size_t i = 0; i < count; i++) {
        if (strlen(flags[i].name) == length && strncmp(flags[i].name, name, length) == 0) {
            return &flags[i];
        }
    }
    return NULL;
}

static bool take_value(const struct flag *flag, int argc, char *const argv[], int *at, char *error)
{
    const char *sign = strchr(argv[*at], '=');
    if (*flag->value) {
        return refuse(error, argv[*at], "given twice", "");
    }
    if (!sign && *at + 1 == argc) {
        return refuse(error, argv[*at], "needs a value", "");
    }
    *flag->value = sign ? sign + 1 : argv[++*at];
    return true;
}

// A word that is too many may be a URI: it is not shown.
static bool take_word(const char *word, const char **ret_word, char *error)
{
    if (!ret_word || *ret_word) {
        snprintf(error, FLAGS_ERROR_BYTES, "an argument too many, see --help");
        return false;
    }
    *ret_word = word;
    return true;
}

bool flags_read(const struct flag *flags, size_t count, int argc, char *const argv[],
                const char **ret_word, char ret_error[FLAGS_ERROR_BYTES])
{
    bool good = true;
    for (int i = 1; i < argc && good; i++) {
        if (argv[i][0] != '-') {
            good = take_word(argv[i], ret_word, ret_error);
            continue;
        }
        const struct flag *flag = find(flags, count, argv[i]);
        if (!flag) {
            good = refuse_unknown(flags, count, argv[i], ret_error);
        } else if (flag->value) {
            good = take_value(flag, argc, argv, &i, ret_error);
        } else if (strchr(argv[i], '=')) {
            good = refuse(ret_error, argv[i], "has no value", "");
        } else {
            *flag->given = true;
        }
    }
    return good;
}
