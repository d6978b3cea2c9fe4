// SPDX-License-Identifier: Apache-2.0
//
// One metric after the other: of each, its help, its type, and a line for each document.

#include "proxy/admin/metrics.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "proxy/admin/spread.h"
#include "wire/bson_view.h"

__attribute__((format(printf, 2, 3))) static void print(struct buffer *out, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    int len = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    assert(len >= 0 && (size_t)len < sizeof text);
    buffer_append(out, text, (size_t)len);
}

static void print_text(struct buffer *out, const char *text)
{
    buffer_append(out, text, strlen(text));
}

// The text is UTF-8, as those of all documents are.
static void print_label(struct buffer *out, const char *name, struct bytes value)
{
    print(out, "%s=\"", name);
    for (size_t i = 0; i < value.len; i++) {
        uint8_t byte = value.at[i];
        if (byte == '\n') {
            print_text(out, "\\n");
        } else if (byte == '"' || byte == '\\') {
            print(out, "\\%c", byte);
        } else {
            buffer_append(out, &byte, 1);
        }
    }
    print_text(out, "\"");
}

static struct bytes text_of(const struct bson_element *element)
{
    struct bytes text = {0};
    bson_element_text(element, &text);
    return text;
}

// The labels that tell a document apart, `name="value"` separated by commas.
static void make_labels(enum state_collection collection, struct bytes document, struct buffer *out)
{
    struct bson_element element;
    const char *comma = "";
    for (int i = 0; i < STATE_FIELD_COUNT; i++) {
        const struct state_field_row *field = &state_fields[i];
        if (field->collection == collection && field->type == STATE_LABEL &&
            bson_find(document, field->name, &element)) {
            print_text(out, comma);
            print_label(out, field->metric, text_of(&element));
            comma = ",";
        }
    }
}

// A line is: metric name, suffix, labels, the last of which may be one of the line's own, value.
struct line {
    const char *metric;
    const struct buffer *labels;
    struct buffer *out;
};

static void begin_line(const struct line *line, const char *suffix, const char *own_label,
                       struct bytes own_value)
{
    bool has_labels = buffer_held(line->labels) > 0;
    print(line->out, "%s%s", line->metric, suffix);
    if (!has_labels && !own_label) {
        print_text(line->out, " ");
        return;
    }
    print_text(line->out, "{");
    if (has_labels) {
        buffer_append(line->out, buffer_at(line->labels), buffer_held(line->labels));
    }
    if (own_label) {
        print_text(line->out, has_labels ? "," : "");
        print_label(line->out, own_label, own_value);
    }
    print_text(line->out, "} ");
}

static const struct bytes no_value = {0};

static void print_number(struct buffer *out, const struct bson_element *element)
{
    int64_t whole = 0;
    double real = 0;
    if (element->type == BSON_VIEW_DOUBLE) {
        memcpy(&real, element->value.at, sizeof real);
        print(out, "%.15g\n", real);
    } else if (element->type == BSON_VIEW_BOOL) {
        print(out, "%d\n", bson_element_truth(element));
    } else {
        bson_element_i64(element, &whole);
        print(out, "%" PRId64 "\n", whole);
    }
}

static void print_counts(const struct line *line, const char *label, struct bytes counts)
{
    struct bson_walk walk;
    struct bson_element count;
    if (!bson_walk_begin(&walk, counts)) {
        return;
    }
    while (bson_walk_next(&walk, &count) == BSON_WALK_ELEMENT) {
        begin_line(line, "", label, count.key);
        print_number(line->out, &count);
    }
}

static void print_bucket(const struct line *line, int bucket, int64_t cumulated)
{
    char bound[32];
    double seconds = spread_bound(bucket);
    int len = isinf(seconds) ? snprintf(bound, sizeof bound, "+Inf")
                             : snprintf(bound, sizeof bound, "%.9g", seconds);
    begin_line(line, "_bucket", "le", (struct bytes){(uint8_t *)bound, (size_t)len});
    print(line->out, "%" PRId64 "\n", cumulated);
}

static void print_spread(const struct line *line, struct bytes spread)
{
    struct bson_element element;
    struct bson_element count;
    struct bson_walk walk;
    int64_t cumulated = 0;
    int bucket = 0;
    if (!bson_find(spread, "buckets", &element) || !bson_walk_begin(&walk, element.value)) {
        return;
    }
    while (bson_walk_next(&walk, &count) == BSON_WALK_ELEMENT) {
        int64_t more = 0;
        bson_element_i64(&count, &more);
        cumulated += more;
        print_bucket(line, bucket++, cumulated);
    }
    begin_line(line, "_sum", NULL, no_value);
    if (bson_find(spread, "sum", &element)) {
        print_number(line->out, &element);
    }
    begin_line(line, "_count", NULL, no_value);
    print(line->out, "%" PRId64 "\n", cumulated);
}

static void print_document(const struct state_field_row *field, struct bytes document,
                           const struct line *line)
{
    struct bson_element element;
    bool found = bson_find(document, field->name, &element);
    assert(found);
    (void)found;
    switch (field->type) {
    case STATE_COUNTS:
        print_counts(line, field->unit, element.value);
        break;
    case STATE_SPREAD:
        print_spread(line, element.value);
        break;
    case STATE_INFO:
        begin_line(line, "", field->name, text_of(&element));
        print_text(line->out, "1\n");
        break;
    default:
        begin_line(line, "", NULL, no_value);
        print_number(line->out, &element);
    }
}

static const char *type_text(enum state_type type)
{
    switch (type) {
    case STATE_COUNT_TYPE:
    case STATE_SUM:
    case STATE_COUNTS:
        return "counter";
    case STATE_SPREAD:
        return "histogram";
    default:
        return "gauge";
    }
}

static void print_metric(const struct picture *picture, const struct state_field_row *field,
                         struct buffer *out)
{
    struct bytes rows = picture_rows(picture, field->collection);
    struct bytes document;
    print(out, "# HELP %s %s\n# TYPE %s %s\n", field->metric, field->help, field->metric,
          type_text(field->type));
    while (bson_take(&rows, &document) == WIRE_OK) {
        struct buffer labels = {0};
        make_labels(field->collection, document, &labels);
        print_document(field, document, &(struct line){field->metric, &labels, out});
        buffer_fini(&labels);
    }
}

void metrics_print(const struct picture *picture, struct buffer *out)
{
    for (int i = 0; i < STATE_FIELD_COUNT; i++) {
        const struct state_field_row *field = &state_fields[i];
        bool wanted = STATE_BIT(field->collection) & METRICS_COLLECTIONS & picture->collections;
        if (wanted && field->metric && field->type != STATE_LABEL) {
            print_metric(picture, field, out);
        }
    }
}
