// SPDX-License-Identifier: Apache-2.0
//
// Bytes that several have, made once: a counted reference. From any thread.

#ifndef PROXY_ADMIN_TEXT_H
#define PROXY_ADMIN_TEXT_H

#include "wire/buffer.h"

struct text;

// Takes the bytes over, and empties the buffer.
struct text *text_new(struct buffer *bytes);
struct text *text_of(const char *line);

// One more reference; and one less, where NULL is nothing.
struct text *text_keep(struct text *text);
void text_drop(void *arg); // a struct text

// Borrows.
struct bytes text_bytes(const struct text *text);

#endif
