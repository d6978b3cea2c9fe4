// SPDX-License-Identifier: Apache-2.0

#include "proxy/admin/printed.h"

#include <stdbool.h>
#include <string.h>

void printed_escape(const char *text, char ret_text[PRINTED_BYTES])
{
    size_t used = 0;
    for (const unsigned char *c = (const unsigned char *)text; *c && used + 5 < PRINTED_BYTES;
         c++) {
        bool plain = *c >= ' ' && *c < 0x7f;
        used +=
            (size_t)snprintf(ret_text + used, PRINTED_BYTES - used, plain ? "%c" : "\\x%02x", *c);
    }
    ret_text[used] = '\0';
}

void print_wrapped(int indent, const char *label, const char *text, FILE *out)
{
    char escaped[PRINTED_BYTES];
    char line[2 * PRINTED_BYTES];
    if (text[0] == '\0') {
        return;
    }
    printed_escape(text, escaped);
    snprintf(line, sizeof line, "%s%s", label, escaped);
    const char *at = line;
    while (*at != '\0') {
        size_t room = (size_t)(PRINTED_COLUMNS - indent);
        size_t length = strlen(at);
        if (length > room) {
            length = room;
            while (length > 0 && at[length] != ' ') {
                length--;
            }
            length = length > 0 ? length : room;
        }
        fprintf(out, "%*s%.*s\n", indent, "", (int)length, at);
        at += length;
        at += *at == ' ';
    }
}
