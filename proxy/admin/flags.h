// SPDX-License-Identifier: Apache-2.0
//
// The command line of a subcommand with few flags: --NAME VALUE or --NAME=VALUE, never abbreviated;
// and at most one word.

#ifndef PROXY_ADMIN_FLAGS_H
#define PROXY_ADMIN_FLAGS_H

#include <stdbool.h>
#include <stddef.h>

enum { FLAGS_ERROR_BYTES = 256 };

struct flag {
    const char *name;
    const char **value; // where its value goes, borrowed of argv; NULL: it has none,
    bool *given;        // and this is set
};

// Reads argv[1] and so on. ret_word: where the word goes; NULL: there may be none. False: a line
// for people is in ret_error.
bool flags_read(const struct flag *flags, size_t count, int argc, char *const argv[],
                const char **ret_word, char ret_error[FLAGS_ERROR_BYTES]);

#endif
