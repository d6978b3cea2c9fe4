// SPDX-License-Identifier: Apache-2.0

#include "report.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Of the thread that runs checks: only that one may fail them.
static jmp_buf check_ends;
static char verdict[1024];

void check_that(bool truth, const bson_error_t *error, const char *file, int line, const char *text)
{
    if (truth)
        return;
    const char *name = strrchr(file, '/');
    snprintf(verdict, sizeof verdict, "%s:%d: %s%s%s", name ? name + 1 : file, line, text,
             error ? ": " : "", error ? error->message : "");
    longjmp(check_ends, 1);
}

void need(const char *feature)
{
    char padded[1024], wanted[100];
    snprintf(padded, sizeof padded, " %s ", setting("FEATURES"));
    snprintf(wanted, sizeof wanted, " %s ", feature);
    if (strstr(padded, wanted))
        return;
    snprintf(verdict, sizeof verdict, "the server has no %s", feature);
    longjmp(check_ends, 2);
}

const char *setting(const char *name)
{
    const char *value = getenv(name);
    if (!value) {
        fprintf(stderr, "$%s is not set\n", name);
        exit(2);
    }
    return value;
}

static void copy_or_null(bson_t *facts, const char *key, const bson_t *reply, const char *field)
{
    bson_iter_t found;
    if (bson_iter_init_find(&found, reply, field))
        bson_append_iter(facts, key, -1, &found);
    else
        bson_append_null(facts, key, -1);
}

// Whether the reply has writeErrors; then *ret_first is the first one.
static bool first_write_error(const bson_t *reply, bson_t *ret_first)
{
    bson_iter_t at;
    if (!bson_iter_init(&at, reply) || !bson_iter_find_descendant(&at, "writeErrors.0", &at))
        return false;
    uint32_t len;
    const uint8_t *data;
    bson_iter_document(&at, &len, &data);
    return bson_init_static(ret_first, data, len);
}

void describe(bson_t *facts, const char *key, const bson_t *reply)
{
    bson_t first, error;
    const bson_t *source = first_write_error(reply, &first) ? &first : reply;
    BSON_APPEND_DOCUMENT_BEGIN(facts, key, &error);
    copy_or_null(&error, "code", source, "code");
    copy_or_null(&error, "codeName", source, "codeName");
    copy_or_null(&error, "message", source, "errmsg");
    copy_or_null(&error, "labels", reply, "errorLabels");
    bson_append_document_end(facts, &error);
}

static void print_ok(const char *name, const bson_t *facts)
{
    char *json = bson_empty(facts) ? NULL : bson_as_relaxed_extended_json(facts, NULL);
    printf("ok %s %s\n", name, json ? json : "");
    bson_free(json);
}

void run(const char *name, void (*check)(bson_t *facts))
{
    bson_t *facts = bson_new();
    switch (setjmp(check_ends)) {
    case 0:
        check(facts);
        print_ok(name, facts);
        break;
    case 1:
        printf("not ok %s: %s\n", name, verdict);
        break;
    default:
        printf("skip %s: %s\n", name, verdict);
    }
    fflush(stdout);
    bson_destroy(facts);
}
