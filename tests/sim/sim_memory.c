// SPDX-License-Identifier: Apache-2.0
//
// Counts the blocks that weir and the simulation have: what is linked here allocates through these
// (-Wl,--wrap), libbson through the table of functions that main gives it.

#include <stdlib.h>

#include "tests/sim/sim_world.h"

static size_t blocks;

size_t memory_blocks(void)
{
    return blocks;
}

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *p, size_t bytes);
void *__real_reallocarray(void *p, size_t count, size_t bytes);
char *__real_strdup(const char *text);
void __real_free(void *p);

void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *p, size_t bytes);
void *__wrap_reallocarray(void *p, size_t count, size_t bytes);
char *__wrap_strdup(const char *text);
void __wrap_free(void *p);

void *__wrap_malloc(size_t bytes)
{
    void *p = __real_malloc(bytes);
    blocks += p != NULL;
    return p;
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    void *p = __real_calloc(count, bytes);
    blocks += p != NULL;
    return p;
}

void *__wrap_realloc(void *p, size_t bytes)
{
    blocks += p == NULL;
    return __real_realloc(p, bytes);
}

void *__wrap_reallocarray(void *p, size_t count, size_t bytes)
{
    blocks += p == NULL;
    return __real_reallocarray(p, count, bytes);
}

char *__wrap_strdup(const char *text)
{
    blocks++;
    return __real_strdup(text);
}

void __wrap_free(void *p)
{
    blocks -= p != NULL;
    __real_free(p);
}
