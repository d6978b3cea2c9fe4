// SPDX-License-Identifier: Apache-2.0

#include "proxy/net/errno_words.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

const char *errno_words(int error, char *ret_text)
{
    char buffer[ERRNO_WORDS_BYTES];
    const char *words = strerror_r(error, buffer, sizeof buffer);
    snprintf(ret_text, ERRNO_WORDS_BYTES, "%s", words);
    // "Connection refused", but "RPC struct is bad" stays.
    if (islower((unsigned char)ret_text[0] ? (unsigned char)ret_text[1] : 0)) {
        ret_text[0] = (char)tolower((unsigned char)ret_text[0]);
    }
    return ret_text;
}
