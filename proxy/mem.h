// SPDX-License-Identifier: Apache-2.0
//
// Memory that is there or the process is not: out of memory is no state that weir goes on in.
// The budgets of the configuration stop it long before.

#ifndef PROXY_MEM_H
#define PROXY_MEM_H

#include <stdlib.h>
#include <string.h>

static inline void *mem_or_abort(void *p, size_t bytes)
{
    if (p == NULL && bytes > 0) {
        abort();
    }
    return p;
}

// As malloc, calloc, realloc and strdup, and they never return NULL for what has a size. The caller
// owns the result and gives it to free().
static inline void *xmalloc(size_t bytes)
{
    return mem_or_abort(malloc(bytes), bytes);
}

static inline void *xcalloc(size_t count, size_t bytes)
{
    return mem_or_abort(calloc(count, bytes), count > 0 ? bytes : 0);
}

static inline void *xrealloc(void *p, size_t bytes)
{
    return mem_or_abort(realloc(p, bytes), bytes);
}

static inline char *xstrdup(const char *text)
{
    return (char *)mem_or_abort(strdup(text), 1);
}

#endif
