// SPDX-License-Identifier: Apache-2.0
//
// What errno means, in words that fit into a sentence. For net/ only.

#ifndef PROXY_NET_ERRNO_WORDS_H
#define PROXY_NET_ERRNO_WORDS_H

#include <stddef.h>

enum { ERRNO_WORDS_BYTES = 64 };

// "connection refused" for ECONNREFUSED; ret_text has room for ERRNO_WORDS_BYTES. Returns ret_text.
const char *errno_words(int error, char *ret_text);

#endif
