// SPDX-License-Identifier: Apache-2.0

#include "proxy/admin/state.h"

#include <assert.h>
#include <string.h>

#include "wire/bson_view.h"

#define STATE_LABEL_T STATE_LABEL
#define STATE_TEXT_T STATE_TEXT
#define STATE_BOOL_T STATE_BOOL
#define STATE_INT_T STATE_INT
#define STATE_REAL_T STATE_REAL
#define STATE_COUNT_T STATE_COUNT_TYPE
#define STATE_SUM_T STATE_SUM
#define STATE_COUNTS_T STATE_COUNTS
#define STATE_SPREAD_T STATE_SPREAD
#define STATE_LIST_T STATE_LIST
#define STATE_INFO_T STATE_INFO

const struct state_field_row state_fields[STATE_FIELD_COUNT] = {
#define FIELD(collection, name, type, unit, metric, help)                                          \
    {STATE_##collection, #name, STATE_##type##_T, unit, metric, help},
    STATE_FIELDS(FIELD)
#undef FIELD
};

const struct state_collection_row state_collections[STATE_COUNT] = {
#define COLLECTION(name, help) {#name, help},
    STATE_COLLECTIONS(COLLECTION)
#undef COLLECTION
};

enum state_collection state_find(struct bytes name)
{
    for (int i = 0; i < STATE_COUNT; i++) {
        if (bytes_equal(name, state_collections[i].name)) {
            return (enum state_collection)i;
        }
    }
    return STATE_COUNT;
}

void picture_fini(struct picture *picture)
{
    for (int i = 0; i < STATE_COUNT; i++) {
        buffer_fini(&picture->rows[i]);
    }
    buffer_fini(&picture->verdicts);
    picture->collections = 0;
}

// --- rows ---------------------------------------------------------------------------------------

void row_begin(struct row *row, struct picture *picture, enum state_collection collection)
{
    row_begin_in(row, &picture->rows[collection], collection);
}

void row_begin_in(struct row *row, struct buffer *out, enum state_collection collection)
{
    bson_init(&row->document);
    row->out = out;
    row->next = 0;
    while (state_fields[row->next].collection != collection) {
        row->next++;
    }
}

static const char *key_of(struct row *row, enum state_field field)
{
    assert((int)field == row->next);
    row->next++;
    return state_fields[field].name;
}

// The length of the UTF-8 character that text begins with, 0 if it begins with none.
static size_t character(const uint8_t *text, size_t len)
{
    for (size_t bytes = 1; bytes <= 4 && bytes <= len; bytes++) {
        if (bson_utf8_validate((const char *)text, bytes, false)) {
            return bytes;
        }
    }
    return 0;
}

// Without a NUL, too: not everybody who reads it has strings that may hold one.
static void append_sound(struct buffer *out, struct bytes text)
{
    for (size_t i = 0; i < text.len;) {
        size_t bytes = character(text.at + i, text.len - i);
        if (bytes > 0) {
            buffer_append(out, text.at + i, bytes);
        } else {
            buffer_append(out, "\xef\xbf\xbd", 3); // the replacement character
        }
        i += bytes > 0 ? bytes : 1;
    }
}

static void append_bytes(bson_t *document, const char *key, struct bytes text)
{
    const char *at = text.len > 0 ? (const char *)text.at : "";
    if (bson_utf8_validate(at, text.len, false)) {
        bson_append_utf8(document, key, -1, at, (int)text.len);
        return;
    }
    struct buffer sound = {0};
    append_sound(&sound, text);
    bson_append_utf8(document, key, -1, (const char *)buffer_at(&sound), (int)buffer_held(&sound));
    buffer_fini(&sound);
}

void state_append_text(bson_t *document, const char *key, const char *text)
{
    append_bytes(document, key, (struct bytes){(const uint8_t *)text, strlen(text)});
}

void row_bytes(struct row *row, enum state_field field, struct bytes text)
{
    append_bytes(&row->document, key_of(row, field), text);
}

void row_text(struct row *row, enum state_field field, const char *text)
{
    row_bytes(row, field, (struct bytes){(const uint8_t *)text, strlen(text)});
}

void row_bool(struct row *row, enum state_field field, bool value)
{
    bson_append_bool(&row->document, key_of(row, field), -1, value);
}

void state_append_int(bson_t *document, const char *key, int64_t value)
{
    if (value >= INT32_MIN && value <= INT32_MAX) {
        bson_append_int32(document, key, -1, (int32_t)value);
    } else {
        bson_append_int64(document, key, -1, value);
    }
}

void row_int(struct row *row, enum state_field field, int64_t value)
{
    state_append_int(&row->document, key_of(row, field), value);
}

void row_real(struct row *row, enum state_field field, double value)
{
    bson_append_double(&row->document, key_of(row, field), -1, value);
}

void row_seconds(struct row *row, enum state_field field, int64_t us)
{
    row_real(row, field, (double)us / 1e6);
}

void row_open(struct row *row, enum state_field field, bson_t *ret_document)
{
    bson_append_document_begin(&row->document, key_of(row, field), -1, ret_document);
}

void row_open_list(struct row *row, enum state_field field, bson_t *ret_list)
{
    bson_append_array_begin(&row->document, key_of(row, field), -1, ret_list);
}

void row_close_list(struct row *row, bson_t *list)
{
    bson_append_array_end(&row->document, list);
}

void row_close(struct row *row, bson_t *document)
{
    bson_append_document_end(&row->document, document);
}

void row_end(struct row *row)
{
    assert(row->next == STATE_FIELD_COUNT ||
           state_fields[row->next].collection != state_fields[row->next - 1].collection);
    buffer_append(row->out, bson_get_data(&row->document), row->document.len);
    bson_destroy(&row->document);
}

// --- JSON ---------------------------------------------------------------------------------------

static void print(struct buffer *out, const char *text)
{
    buffer_append(out, text, strlen(text));
}

void row_print_json(struct bytes row, struct buffer *out)
{
    bson_t document;
    bool sound = bson_init_static(&document, row.at, row.len);
    assert(sound);
    (void)sound;
    char *json = bson_as_relaxed_extended_json(&document, NULL);
    assert(json);
    print(out, json);
    bson_free(json);
}

void rows_print_json(struct bytes rows, struct buffer *out)
{
    const char *comma = "[";
    const char *end = rows.len > 0 ? "]" : "[]";
    struct bytes row;
    while (bson_take(&rows, &row) == WIRE_OK) {
        print(out, comma);
        row_print_json(row, out);
        comma = ",\n";
    }
    print(out, end);
}

size_t rows_append(struct bytes rows, int64_t most, size_t most_bytes, bson_t *array)
{
    size_t all = rows.len;
    struct bytes row;
    for (uint32_t i = 0; i < most && all - rows.len < most_bytes; i++) {
        char space[16];
        const char *key;
        bson_t document;
        size_t key_len = bson_uint32_to_string(i, &key, space, sizeof space);
        if (bson_take(&rows, &row) != WIRE_OK) {
            break;
        }
        bool sound = bson_init_static(&document, row.at, row.len);
        assert(sound);
        (void)sound;
        bson_append_document(array, key, (int)key_len, &document);
    }
    return all - rows.len;
}

static void print_member(struct buffer *out, const char **comma, const char *name,
                         struct bytes rows)
{
    print(out, *comma);
    print(out, "\"");
    print(out, name);
    print(out, "\": ");
    rows_print_json(rows, out);
    *comma = ",\n";
}

void picture_print_json(const struct picture *picture, struct buffer *out)
{
    const char *comma = "{";
    for (int i = 0; i < STATE_COUNT; i++) {
        if (picture->collections & STATE_BIT(i)) {
            print_member(out, &comma, state_collections[i].name,
                         picture_rows(picture, (enum state_collection)i));
        }
    }
    if (picture->collections & STATE_VERDICTS) {
        print_member(out, &comma, "verdicts", picture_verdicts(picture));
    }
    print(out, "}\n");
}

// --- the page -----------------------------------------------------------------------------------

static const char introduction[] =
    "# What can be seen\n"
    "\n"
    "<!-- Made by `weir --print-state` from proxy/admin/state_table.h; a test compares them. -->\n"
    "\n"
    "The same documents stand behind four doors, with the same names and units:\n"
    "\n"
    "- **the `weir` database**, on weir's own port, for every driver and shell: for users with\n"
    "  `weir: read` or `weir: act` ([users](users.md)); if apps do not log in, from this machine\n"
    "  only (loopback and the Unix socket):\n"
    "\n"
    "  ```js\n"
    "  db.getSiblingDB(\"weir\").requests.find({held: {$gt: 1}}).sort({held: -1}).limit(5)\n"
    "  db.getSiblingDB(\"weir\").shapes.find().sort({held: -1})   // what held the connections\n"
    "  db.getSiblingDB(\"weir\").clients.countDocuments({app: \"web\", state: \"queued\"})\n"
    "  db.getSiblingDB(\"weir\").runCommand({help: 1})\n"
    "  ```\n"
    "\n"
    "  find with equality, `$eq $ne $gt $gte $lt $lte $in $nin $exists $and $or $nor`, sort, "
    "skip,\n"
    "  limit, projection by inclusion; count; getMore, killCursors; listCollections;\n"
    "  countDocuments; and the [commands](commands.md) that change weir. Everything else is\n"
    "  refused, with what is supported. A database of the deployment that is called `weir` cannot\n"
    "  be reached through weir.\n"
    "- **`weir ctl state`**, on the same machine, for weir's own user and root, as JSON:\n"
    "  `{\"servers\": [...], ...}`, all collections but `log`.\n"
    "- **`/state`** over HTTP (`http.port`), the same JSON; `/exhaustions/ID`, one record.\n"
    "- **`/metrics`** over HTTP, for Prometheus, what has a metric's name below.\n"
    "\n"
    "Times are seconds and sizes bytes. Counts and sums are since the start of weir, or since the\n"
    "server came to be known. Documents of one answer are of slightly different moments.\n";

static const char *type_text(const struct state_field_row *row)
{
    static const char *const texts[] = {
        [STATE_LABEL] = "text", [STATE_TEXT] = "text",        [STATE_BOOL] = "bool",
        [STATE_INT] = "number", [STATE_REAL] = "number",      [STATE_COUNT_TYPE] = "count",
        [STATE_SUM] = "sum",    [STATE_COUNTS] = "counts by", [STATE_SPREAD] = "spread",
        [STATE_INFO] = "text",  [STATE_LIST] = "documents",
    };
    return texts[row->type];
}

static void print_metric(FILE *out, const struct state_field_row *row)
{
    if (row->type == STATE_LABEL) {
        fprintf(out, "label `%s`", row->metric);
    } else if (row->type == STATE_COUNTS) {
        fprintf(out, "`%s{%s}`", row->metric, row->unit);
    } else if (row->metric) {
        fprintf(out, "`%s`", row->metric);
    }
}

static void print_collection(FILE *out, enum state_collection collection)
{
    fprintf(out, "\n## %s\n\nA document: %s.\n\n", state_collections[collection].name,
            state_collections[collection].help);
    fprintf(out, "| field | type | metric | |\n|---|---|---|---|\n");
    for (int i = 0; i < STATE_FIELD_COUNT; i++) {
        const struct state_field_row *row = &state_fields[i];
        if (row->collection == collection) {
            const char *comma = *row->unit && row->type != STATE_COUNTS ? ", " : "";
            comma = row->type == STATE_COUNTS ? " " : comma;
            fprintf(out, "| `%s` | %s%s%s | ", row->name, type_text(row), comma, row->unit);
            print_metric(out, row);
            fprintf(out, " | %s |\n", row->help);
        }
    }
}

void state_print_reference(FILE *out)
{
    fputs(introduction, out);
    for (int i = 0; i < STATE_COUNT; i++) {
        print_collection(out, (enum state_collection)i);
    }
    fputs(
        "\nA *spread* is `{count, sum, p50, p99, buckets}`: the quantiles are interpolated within "
        "buckets, each of which\nends at twice the bound of the one before; the first at "
        "0.000064 s, the last has no end.\n",
        out);
}
