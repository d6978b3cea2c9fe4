// SPDX-License-Identifier: Apache-2.0
//
// "Did you mean": distances between names, counted in letters that are missing, extra, wrong or
// swapped with their neighbour (optimal string alignment).

#include "proxy/config_loader.h"

#include <ctype.h>
#include <string.h>

enum { BEGINNING = 4 }; // letters

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t letters_of(const char *name, char ret_letters[OPTION_NAME_BYTES])
{
    size_t n = 0;
    for (; *name != '\0' && n < OPTION_NAME_BYTES - 1; name++) {
        if (isalnum((unsigned char)*name)) {
            ret_letters[n++] = (char)tolower((unsigned char)*name);
        }
    }
    ret_letters[n] = '\0';
    return n;
}

static size_t distance_between(const char *name_a, const char *name_b)
{
    char a[OPTION_NAME_BYTES], b[OPTION_NAME_BYTES];
    size_t d[OPTION_NAME_BYTES][OPTION_NAME_BYTES];
    size_t n = letters_of(name_a, a), m = letters_of(name_b, b);
    for (size_t i = 0; i <= n; i++) {
        for (size_t j = 0; j <= m; j++) {
            d[i][j] = i == 0 ? j : j == 0 ? i : least(d[i - 1][j], d[i][j - 1]) + 1;
            if (i > 0 && j > 0) {
                d[i][j] = least(d[i][j], d[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
            }
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                d[i][j] = least(d[i][j], d[i - 2][j - 2] + 1);
            }
        }
    }
    return d[n][m];
}

static const char *last_part(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot != NULL ? dot + 1 : name;
}

void guess_init(struct guess *guess, const char *typed)
{
    guess->typed = typed;
    guess->distance = 2 + strlen(typed) / 5;
    guess->match[0] = '\0';
}

// Whether the name was broken off: --max-conn.
static bool begins(const char *name, const char *typed)
{
    char a[OPTION_NAME_BYTES], b[OPTION_NAME_BYTES];
    size_t n = letters_of(typed, b);
    return n >= BEGINNING && letters_of(name, a) > n && strncmp(a, b, n) == 0;
}

void guess_try(struct guess *guess, const char *candidate)
{
    size_t distance = distance_between(guess->typed, candidate);
    if (begins(candidate, guess->typed)) {
        distance = least(distance, 2);
    }
    if (distance_between(last_part(guess->typed), last_part(candidate)) == 0) {
        distance = least(distance, 1);
    }
    if (distance >= guess->distance) {
        return;
    }
    guess->distance = distance;
    snprintf(guess->match, sizeof guess->match, "%s", candidate);
}
