// SPDX-License-Identifier: Apache-2.0

#include "proxy/admin/text.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/mem.h"

struct text {
    atomic_int references;
    struct buffer bytes;
};

struct text *text_new(struct buffer *bytes)
{
    struct text *text = xcalloc(1, sizeof *text);
    atomic_init(&text->references, 1);
    text->bytes = *bytes;
    *bytes = (struct buffer){0};
    return text;
}

struct text *text_of(const char *line)
{
    struct buffer bytes = {0};
    buffer_append(&bytes, line, strlen(line));
    return text_new(&bytes);
}

struct text *text_keep(struct text *text)
{
    atomic_fetch_add(&text->references, 1);
    return text;
}

void text_drop(void *arg)
{
    struct text *text = arg;
    if (text && atomic_fetch_sub(&text->references, 1) == 1) {
        buffer_fini(&text->bytes);
        free(text);
    }
}

struct bytes text_bytes(const struct text *text)
{
    return (struct bytes){buffer_at(&text->bytes), buffer_held(&text->bytes)};
}
