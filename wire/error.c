// SPDX-License-Identifier: Apache-2.0

#include "wire/error.h"

#include <assert.h>
#include <stddef.h>

static const struct {
    int code;
    bool closes;
    const char *text;
} errors[] = {
#define X(name, code, closes, text) [name] = {code, closes, text},
    WIRE_ERRORS(X)
#undef X
};

static size_t index_of(enum wire_error error)
{
    size_t index = (size_t)error;
    assert(index < sizeof(errors) / sizeof(errors[0]));
    return index;
}

int wire_error_code(enum wire_error error)
{
    return errors[index_of(error)].code;
}

const char *wire_error_text(enum wire_error error)
{
    return errors[index_of(error)].text;
}

bool wire_error_closes(enum wire_error error)
{
    return errors[index_of(error)].closes;
}
