// SPDX-License-Identifier: Apache-2.0
//
// The log as documents: the same of both formats, whatever bytes a value has, and bounded.

#include "proxy/admin/log_lines.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <unistd.h>

#include "proxy/admin/fields.h"
#include "proxy/log.h"
#include "wire/bson_view.h"

static const char *const texts[] = {
    "shop.orders",
    "",
    "two words",
    "a=b",
    "quote\" back\\slash",
    "line\nfeed\t\x1b[2J",
    "caf\xc3\xa9",
    "\xff",
    "-",
    "7 samurai",
    "0x10",
    "00",
    "1e",
    "1.",
    "true",
    "{\"a\":1}",
    "trailing\\",
};

enum { TEXTS = sizeof texts / sizeof texts[0] };

static void log_nowhere(enum log_format format)
{
    static int nowhere = -1;
    nowhere = nowhere < 0 ? open("/dev/null", O_WRONLY | O_CLOEXEC) : nowhere;
    log_init(format, nowhere);
}

static void log_all_kinds(void)
{
    struct log_line line;
    log_begin(&line, LOG_WARN, "all_kinds");
    for (int i = 0; i < TEXTS; i++) {
        char key[16];
        snprintf(key, sizeof key, "text_%d", i);
        log_str(&line, key, texts[i]);
    }
    log_int(&line, "whole", -1234567890123456789);
    log_int(&line, "small", 42);
    log_double(&line, "part", 0.125);
    log_double(&line, "tiny", 1e-20);
    log_end(&line);
}

// The last document; it is the picture's.
static void last_of(struct picture *picture, bson_t *ret_document)
{
    struct bytes rows;
    struct bytes row = {0};
    *picture = (struct picture){0};
    log_lines_put(picture);
    rows = picture_rows(picture, STATE_log);
    while (bson_take(&rows, &row) == WIRE_OK) {
    }
    assert_true(bson_init_static(ret_document, row.at, row.len));
}

static void both_formats_say_the_same(void **state)
{
    struct picture pictures[2];
    bson_t documents[2];
    bson_t fields[2];
    (void)state;
    for (int format = LOG_LOGFMT; format <= LOG_JSON; format++) {
        log_nowhere((enum log_format)format);
        log_all_kinds();
        last_of(&pictures[format], &documents[format]);
        assert_string_equal(field_text(&documents[format], "event"), "all_kinds");
        assert_string_equal(field_text(&documents[format], "level"), "warn");
        assert_true(field_find(&documents[format], "fields", &fields[format]));
        assert_int_equal(bson_count_keys(&fields[format]), TEXTS + 4);
    }
    bson_iter_t iter;
    for (bson_iter_init(&iter, &fields[LOG_JSON]); bson_iter_next(&iter);) {
        const char *key = bson_iter_key(&iter);
        if (BSON_ITER_HOLDS_UTF8(&iter)) {
            const char *text = field_text(&fields[LOG_JSON], key);
            bool number = strcmp(key, "whole") == 0; // of 19 digits: a text in logfmt
            assert_string_equal(field_text(&fields[LOG_LOGFMT], key), number ? "" : text);
        }
    }
    assert_string_equal(field_text(&fields[LOG_LOGFMT], "text_4"), texts[4]);
    assert_true(bson_iter_init_find(&iter, &fields[LOG_LOGFMT], "small"));
    assert_int_equal(bson_iter_as_int64(&iter), 42);
    assert_true(bson_iter_init_find(&iter, &fields[LOG_LOGFMT], "part"));
    assert_true(BSON_ITER_HOLDS_DOUBLE(&iter) && bson_iter_double(&iter) == 0.125);
    assert_true(bson_iter_init_find(&iter, &documents[LOG_LOGFMT], "time"));
    assert_true(bson_iter_as_double(&iter) > 1.7e9);
    picture_fini(&pictures[0]);
    picture_fini(&pictures[1]);
}

// More than is kept, in lines of all lengths: the last are there, whole, with their numbers.
static void the_last_are_kept(void **state)
{
    static const char filler[] =
        "abcdefghijklmnopqrstuvwxyz abcdefghijklmnopqrstuvwxyz abcdefghijk";
    (void)state;
    log_nowhere(LOG_LOGFMT);
    for (int i = 0; i < 10000; i++) {
        struct log_line line;
        log_begin(&line, LOG_INFO, "one_of_many");
        log_int(&line, "i", i);
        log_text(&line, "filler", filler, (size_t)i % sizeof filler);
        log_end(&line);
    }
    struct picture picture = {0};
    log_lines_put(&picture);
    struct bytes rows = picture_rows(&picture, STATE_log);
    struct bytes row;
    int64_t last = 0;
    int64_t count = 0;
    while (bson_take(&rows, &row) == WIRE_OK) {
        bson_t document;
        bson_t fields;
        bson_iter_t iter;
        assert_true(bson_init_static(&document, row.at, row.len));
        assert_true(bson_iter_init_find(&iter, &document, "_id"));
        int64_t number = bson_iter_as_int64(&iter);
        assert_true(last == 0 || number == last + 1);
        assert_true(field_find(&document, "fields", &fields));
        assert_true(bson_iter_init_find(&iter, &fields, "i"));
        count++;
        last = number;
        assert_int_equal(bson_iter_as_int64(&iter), number - 3); // two were before
    }
    assert_in_range(count, LOG_KEPT_BYTES / 200, LOG_KEPT_BYTES / 60);
    assert_int_equal(last, 10002);
    picture_fini(&picture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_formats_say_the_same),
        cmocka_unit_test(the_last_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
