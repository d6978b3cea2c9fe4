// SPDX-License-Identifier: Apache-2.0
//
// What can be seen (state_table.h) as documents: a picture has those of some collections, as they
// were at one moment, or nearly so.

#ifndef PROXY_ADMIN_STATE_H
#define PROXY_ADMIN_STATE_H

#include <bson/bson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "proxy/admin/state_table.h"
#include "wire/buffer.h"

#define STATE_COLLECTION_ID(name, ...) STATE_##name,
enum state_collection { STATE_COLLECTIONS(STATE_COLLECTION_ID) STATE_COUNT };
#undef STATE_COLLECTION_ID

#define STATE_FIELD_ID(collection, name, ...) STATE_##collection##_##name,
enum state_field { STATE_FIELDS(STATE_FIELD_ID) STATE_FIELD_COUNT };
#undef STATE_FIELD_ID

enum state_type {
    STATE_LABEL,
    STATE_TEXT,
    STATE_BOOL,
    STATE_INT,
    STATE_REAL,
    STATE_COUNT_TYPE,
    STATE_SUM,
    STATE_COUNTS,
    STATE_SPREAD,
    STATE_LIST,
    STATE_INFO,
};

struct state_field_row {
    enum state_collection collection;
    const char *name;
    enum state_type type;
    const char *unit;
    const char *metric; // NULL: none
    const char *help;
};

struct state_collection_row {
    const char *name;
    const char *help;
};

extern const struct state_field_row state_fields[STATE_FIELD_COUNT];
extern const struct state_collection_row state_collections[STATE_COUNT];

// The collection of that name, STATE_COUNT if there is none.
enum state_collection state_find(struct bytes name);

// A set of collections, as bits.
#define STATE_BIT(collection) (1U << (collection))
#define STATE_ALL (STATE_BIT(STATE_COUNT) - 1)
#define STATE_VERDICTS STATE_BIT(STATE_COUNT) // no collection, but may be asked for beside them
#define STATE_UNNAMED (STATE_ALL & ~STATE_BIT(STATE_log)) // who names none has these

struct picture {
    uint64_t serial;                 // of no other picture
    unsigned collections;            // those it has
    struct buffer rows[STATE_COUNT]; // documents, one after the other
    struct buffer verdicts;          // likewise: of now, as those of `exhaustions`
};

void picture_fini(struct picture *picture);

// The documents of a collection, to be taken one by one by bson_take.
static inline struct bytes picture_rows(const struct picture *picture,
                                        enum state_collection collection)
{
    const struct buffer *rows = &picture->rows[collection];
    return (struct bytes){buffer_at(rows), buffer_held(rows)};
}

// A document as JSON.
void row_print_json(struct bytes row, struct buffer *out);

static inline struct bytes picture_verdicts(const struct picture *picture)
{
    return (struct bytes){buffer_at(&picture->verdicts), buffer_held(&picture->verdicts)};
}

// Documents, one after the other, as a list in JSON.
void rows_print_json(struct bytes rows, struct buffer *out);

// Puts up to `most` of them, of `most_bytes` or a little more, into an array, and says how many
// bytes of `rows` these are.
size_t rows_append(struct bytes rows, int64_t most, size_t most_bytes, bson_t *array);

// All documents of all that it has, as one JSON object: collection: [documents].
void picture_print_json(const struct picture *picture, struct buffer *out);

// A document in the making. Its fields must be put in the order of the table, and all of them.
struct row {
    bson_t document;
    struct buffer *out;
    int next; // enum state_field
};

void row_begin(struct row *row, struct picture *picture, enum state_collection collection);
void row_begin_in(struct row *row, struct buffer *out, enum state_collection collection);
// Bytes of any kind: what is no UTF-8 is replaced.
void row_text(struct row *row, enum state_field field, const char *text);
void row_bytes(struct row *row, enum state_field field, struct bytes text);
void row_bool(struct row *row, enum state_field field, bool value);
void row_int(struct row *row, enum state_field field, int64_t value);
void row_real(struct row *row, enum state_field field, double value);
void row_seconds(struct row *row, enum state_field field, int64_t us);

// An int32 if it fits, which shells show as a plain number.
void state_append_int(bson_t *document, const char *key, int64_t value);

// Bytes of any kind, likewise.
void state_append_text(bson_t *document, const char *key, const char *text);

// A document in it: put fields into *ret_document by libbson, then end it.
void row_open(struct row *row, enum state_field field, bson_t *ret_document);
void row_close(struct row *row, bson_t *document);
void row_open_list(struct row *row, enum state_field field, bson_t *ret_list);
void row_close_list(struct row *row, bson_t *list);
void row_end(struct row *row);

// Prints docs/state.md.
void state_print_reference(FILE *out);

#endif
