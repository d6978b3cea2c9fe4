// SPDX-License-Identifier: Apache-2.0
//
// What the parts of config_load share: a configuration on its way, and where its one error goes.
// Only for config*.c.

#ifndef PROXY_CONFIG_LOADER_H
#define PROXY_CONFIG_LOADER_H

#include "proxy/config_option.h"

struct loader {
    struct config *config;
    char *ret_error;
};

// Sets the error, one line whatever was put into it. Returns false, always.
__attribute__((format(printf, 2, 3))) bool loader_fail(struct loader *loader, const char *format,
                                                       ...);

// Gives the option the value that text says. False, with the error set, if it is none that is
// allowed or the option has one from this source already.
bool loader_set(struct loader *loader, enum config_option option, struct config_origin origin,
                const char *text);

// Reads the file's settings. False, with the error set, if it cannot be read or any is wrong.
bool loader_read_file(struct loader *loader, const char *path);

// Looks among candidates for what somebody may have meant who wrote typed, which it borrows. Case,
// dots, dashes and underscores do not count; a few other letters may differ, or the section.
struct guess {
    const char *typed;
    size_t distance;
    char match[OPTION_NAME_BYTES]; // empty: none so far
};

void guess_init(struct guess *guess, const char *typed);
// Keeps the candidate if it is near enough and the nearest so far.
void guess_try(struct guess *guess, const char *candidate);

#endif
