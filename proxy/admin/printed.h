// SPDX-License-Identifier: Apache-2.0
//
// Text of any bytes for people who read it in a terminal of 80 columns.

#ifndef PROXY_ADMIN_PRINTED_H
#define PROXY_ADMIN_PRINTED_H

#include <stdio.h>

enum { PRINTED_COLUMNS = 80, PRINTED_BYTES = 8 * 1024 };

// What could move a terminal's cursor, or is no ASCII, is shown as \xhh: so a byte is a column.
void printed_escape(const char *text, char ret_text[PRINTED_BYTES]);

// The label and the text, escaped, as lines that begin with so many spaces; nothing if there is no
// text. Breaks at spaces, and a word that is longer than a line within.
void print_wrapped(int indent, const char *label, const char *text, FILE *out);

#endif
