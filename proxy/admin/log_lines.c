// SPDX-License-Identifier: Apache-2.0
//
//      ts=… level=info event=slow_operation ns=shop.orders served_us=5012345
//      {"ts":"…","level":"info","event":"slow_operation","ns":"shop.orders","served_us":5012345}
//
// A line of logfmt is turned into what it would be as JSON: what is quoted is escaped alike in both
// (log.c), and what is bare is a number or a text that needs no escape.

#include "proxy/admin/log_lines.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proxy/admin/fields.h"
#include "proxy/log.h"
#include "proxy/mem.h"

enum { NUMBER_BYTES = 18 }; // a whole number of so many digits fits

static size_t count_digits(struct bytes text)
{
    size_t digits = 0;
    while (digits < text.len && text.at[digits] >= '0' && text.at[digits] <= '9') {
        digits++;
    }
    return digits;
}

static struct bytes skip(struct bytes text, size_t count)
{
    return (struct bytes){text.at + count, text.len - count};
}

// As JSON has them.
static bool is_number(struct bytes text)
{
    bool short_enough = text.len <= NUMBER_BYTES;
    text = skip(text, text.len > 0 && text.at[0] == '-');
    size_t digits = count_digits(text);
    bool fine = short_enough && digits > 0 && (digits == 1 || text.at[0] != '0');
    text = skip(text, digits);
    if (fine && text.len > 0 && text.at[0] == '.') {
        digits = count_digits(skip(text, 1));
        fine = digits > 0;
        text = skip(text, 1 + digits);
    }
    if (fine && text.len > 1 && text.at[0] == 'e') {
        size_t sign = text.at[1] == '-' || text.at[1] == '+';
        text = skip(text, 1 + sign);
        digits = count_digits(text);
        fine = digits > 0 && digits < 3;
        text = skip(text, digits);
    }
    return fine && text.len == 0;
}

static size_t length_of_value(struct bytes text)
{
    size_t at = 0;
    if (text.len == 0 || text.at[0] != '"') {
        while (at < text.len && text.at[at] != ' ') {
            at++;
        }
        return at;
    }
    for (at = 1; at < text.len && text.at[at] != '"'; at++) {
        at += text.at[at] == '\\';
    }
    return at < text.len ? at + 1 : text.len;
}

static void put(struct buffer *json, const char *text)
{
    buffer_append(json, text, strlen(text));
}

static void put_field(struct buffer *json, struct bytes key, struct bytes value)
{
    bool bare = is_number(value) || (value.len > 0 && value.at[0] == '"');
    put(json, buffer_held(json) > 0 ? ",\"" : "{\"");
    buffer_append(json, key.at, key.len);
    put(json, bare ? "\":" : "\":\"");
    buffer_append(json, value.at, value.len);
    put(json, bare ? "" : "\"");
}

static void put_logfmt(struct buffer *json, struct bytes line)
{
    const uint8_t *equals;
    while (line.len > 0 && (equals = memchr(line.at, '=', line.len))) {
        struct bytes key = {line.at, (size_t)(equals - line.at)};
        line = skip(line, key.len + 1);
        struct bytes value = {line.at, length_of_value(line)};
        put_field(json, key, value);
        line = skip(line, value.len);
        line = skip(line, line.len > 0);
    }
    put(json, "}");
}

// To be destroyed.
static bson_t *read_line(struct bytes line)
{
    struct buffer json = {0};
    if (line.len > 0 && line.at[0] == '{') {
        buffer_append(&json, line.at, line.len);
    } else {
        put_logfmt(&json, line);
    }
    bson_t *document = bson_new_from_json(buffer_at(&json), (ssize_t)buffer_held(&json), NULL);
    buffer_fini(&json);
    return document ? document : BCON_NEW("line", BCON_UTF8("(cannot be read)"));
}

static double read_time(const char *text)
{
    struct tm utc = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &utc);
    return rest ? (double)timegm(&utc) + strtod(rest, NULL) : 0;
}

static void put_rest(const bson_t *document, bson_t *fields)
{
    bson_iter_t iter;
    for (bson_iter_init(&iter, document); bson_iter_next(&iter);) {
        const char *key = bson_iter_key(&iter);
        if (strcmp(key, "ts") != 0 && strcmp(key, "level") != 0 && strcmp(key, "event") != 0) {
            bson_append_iter(fields, key, -1, &iter);
        }
    }
}

static void put_line(struct picture *picture, int64_t number, struct bytes line)
{
    bson_t *document = read_line(line);
    bson_t fields;
    struct row row;
    row_begin(&row, picture, STATE_log);
    row_int(&row, STATE_log__id, number);
    row_real(&row, STATE_log_time, read_time(field_text(document, "ts")));
    row_text(&row, STATE_log_level, field_text(document, "level"));
    row_text(&row, STATE_log_event, field_text(document, "event"));
    row_open(&row, STATE_log_fields, &fields);
    put_rest(document, &fields);
    row_close(&row, &fields);
    row_end(&row);
    bson_destroy(document);
}

void log_lines_put(struct picture *picture)
{
    char *lines = xcalloc(1, LOG_KEPT_BYTES);
    int64_t number;
    struct bytes left = {(const uint8_t *)lines, log_kept(lines, &number)};
    while (left.len > 0) {
        const uint8_t *end = memchr(left.at, '\n', left.len);
        size_t length = (size_t)(end - left.at);
        put_line(picture, number++, (struct bytes){left.at, length});
        left = skip(left, length + 1);
    }
    free(lines);
}
