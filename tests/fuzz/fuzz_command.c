// SPDX-License-Identifier: Apache-2.0
//
// The body of a command: what weir reads in one pass is what libbson finds when it looks each field
// up. Its shape: does not change with the values in it, so that none can stand in its text, and
// stays within documents of a sequence that nobody has checked.

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/model.h"
#include "wire/command.h"
#include "wire/shape.h"

enum { BODY_AT = FRAME_HEADER_BYTES + 4 + 1 };

static struct bytes text_of(const bson_iter_t *iter)
{
    uint32_t len;
    if (!BSON_ITER_HOLDS_UTF8(iter)) {
        return (struct bytes){0};
    }
    const char *text = bson_iter_utf8(iter, &len);
    return (struct bytes){(const uint8_t *)text, len};
}

static struct bytes document_of(const bson_iter_t *iter)
{
    uint32_t len = 0;
    const uint8_t *at = NULL;
    if (BSON_ITER_HOLDS_DOCUMENT(iter)) {
        bson_iter_document(iter, &len, &at);
    }
    return (struct bytes){at, len};
}

// The document in the field of that name; nothing if there is none.
static struct bytes document_in(const bson_t *body, const char *key)
{
    bson_iter_t iter;
    return bson_iter_init_find(&iter, body, key) ? document_of(&iter) : (struct bytes){0};
}

static bool number_of(const bson_iter_t *iter, int64_t *ret_number)
{
    double value = BSON_ITER_HOLDS_DOUBLE(iter) ? bson_iter_double(iter) : 0;
    if (!BSON_ITER_HOLDS_NUMBER(iter) || BSON_ITER_HOLDS_DECIMAL128(iter) ||
        !(value >= -0x1p63 && value < 0x1p63)) {
        return false;
    }
    *ret_number = bson_iter_as_int64(iter);
    return true;
}

static bool same_view(struct bytes a, struct bytes b)
{
    return a.at == b.at && a.len == b.len;
}

static const struct command_info *info_of(const char *name)
{
    for (int i = 1; i < COMMAND_COUNT; i++) {
        if (strcmp(command_at(i)->name, name) == 0) {
            return command_at(i);
        }
    }
    return command_at(0);
}

static void check_name(const struct command *command, const bson_t *body)
{
    bson_iter_t iter;
    int64_t id = 0;
    struct bytes collection = {0};
    MUST(bson_iter_init(&iter, body) && bson_iter_next(&iter));
    const char *name = bson_iter_key(&iter);
    MUST(command->name.at == (const uint8_t *)name && command->name.len == strlen(name));
    MUST(command->info == info_of(name));
    bool is_get_more = strcmp(name, "getMore") == 0;
    if (is_get_more) {
        (void)number_of(&iter, &id);
        if (bson_iter_init_find(&iter, body, "collection")) {
            collection = text_of(&iter);
        }
    } else if (command->info->traits & COMMAND_NAMESPACED) {
        collection = text_of(&iter);
    }
    MUST(command->cursor_id == id && same_view(command->collection, collection));
}

static void check_session(const struct command *command, const bson_t *body)
{
    struct bytes lsid = document_in(body, "lsid");
    struct bytes uuid = {0};
    bson_iter_t iter;
    MUST(same_view(command->lsid, lsid));
    if (lsid.len > 0) {
        bson_t session = model_document(lsid);
        bson_subtype_t subtype;
        uint32_t len;
        const uint8_t *at;
        if (bson_iter_init_find(&iter, &session, "id") && BSON_ITER_HOLDS_BINARY(&iter)) {
            bson_iter_binary(&iter, &subtype, &len, &at);
            uuid = subtype == BSON_SUBTYPE_UUID && len == 16 ? (struct bytes){at, len} : uuid;
        }
    }
    MUST(same_view(command->lsid_id, uuid));
    bool in = bson_iter_init_find(&iter, body, "autocommit") && BSON_ITER_HOLDS_BOOL(&iter) &&
              !bson_iter_bool(&iter);
    MUST(command->in_transaction == in);
    bool start = bson_iter_init_find(&iter, body, "startTransaction") &&
                 (BSON_ITER_HOLDS_BOOL(&iter) || BSON_ITER_HOLDS_INT(&iter) ||
                  BSON_ITER_HOLDS_DOUBLE(&iter)) &&
                 bson_iter_as_bool(&iter);
    MUST(command->start_transaction == start);
}

static void check_numbers(const struct command *command, const bson_t *body)
{
    bson_iter_t iter;
    int64_t number = 0;
    bool has = bson_iter_init_find(&iter, body, "txnNumber") && number_of(&iter, &number);
    MUST(command->has_txn_number == has && (!has || command->txn_number == number));
    has = bson_iter_init_find(&iter, body, "maxTimeMS") && number_of(&iter, &number);
    MUST(command->has_max_time == has && (!has || command->max_time_ms == number));
    bool there = bson_iter_init_find(&iter, body, "maxTimeMS");
    MUST(command->max_time_type == (there ? (uint8_t)bson_iter_type(&iter) : 0));
}

static void check_read_preference(const struct command *command, const bson_t *body)
{
    static const char *const modes[] = {"primary", "primaryPreferred", "secondary",
                                        "secondaryPreferred", "nearest"};
    struct bytes preference = document_in(body, "$readPreference");
    int mode = 0;
    MUST(same_view(command->read_preference, preference));
    if (preference.len > 0) {
        bson_t document = model_document(preference);
        bson_iter_t iter;
        for (int i = 0; i < 5 && bson_iter_init_find(&iter, &document, "mode"); i++) {
            mode = bytes_equal(text_of(&iter), modes[i]) ? i : mode;
        }
    }
    MUST(command->read_mode == (enum read_mode)mode);
}

static void check_write_concern(const struct command *command, const bson_t *body,
                                const uint8_t *message)
{
    struct bytes concern = document_in(body, "writeConcern");
    size_t offset = 0;
    MUST(same_view(command->write_concern, concern));
    if (concern.len > 0) {
        bson_t document = model_document(concern);
        bson_iter_t iter;
        if (bson_iter_init_find(&iter, &document, "w") &&
            (BSON_ITER_HOLDS_INT(&iter) || BSON_ITER_HOLDS_DOUBLE(&iter)) &&
            bson_iter_as_double(&iter) == 0) {
            offset = (size_t)(model_value(&iter, concern).at - message);
        }
    }
    MUST(command->w_offset == offset);
}

// The last of the pipeline's stages decides.
static bool writes_out(const bson_t *body)
{
    bson_iter_t iter;
    bson_iter_t stage;
    bson_iter_t key;
    bool writes = false;
    if (bson_iter_init_find(&iter, body, "pipeline") && BSON_ITER_HOLDS_ARRAY(&iter) &&
        bson_iter_recurse(&iter, &stage)) {
        while (bson_iter_next(&stage)) {
            writes = BSON_ITER_HOLDS_DOCUMENT(&stage) && bson_iter_recurse(&stage, &key) &&
                     bson_iter_next(&key) &&
                     (BSON_ITER_IS_KEY(&key, "$out") || BSON_ITER_IS_KEY(&key, "$merge"));
        }
    }
    return writes;
}

// The first of the pipeline's stages does, or a find that says so.
static bool streams(const bson_t *body)
{
    bson_iter_t iter;
    bson_iter_t stage;
    bson_iter_t key;
    if (bson_iter_init(&iter, body) && bson_iter_next(&iter) && BSON_ITER_IS_KEY(&iter, "find")) {
        return bson_iter_init_find(&iter, body, "awaitData") && bson_iter_as_bool(&iter);
    }
    return bson_iter_init(&iter, body) && bson_iter_next(&iter) &&
           BSON_ITER_IS_KEY(&iter, "aggregate") && bson_iter_init_find(&iter, body, "pipeline") &&
           BSON_ITER_HOLDS_ARRAY(&iter) && bson_iter_recurse(&iter, &stage) &&
           bson_iter_next(&stage) && BSON_ITER_HOLDS_DOCUMENT(&stage) &&
           bson_iter_recurse(&stage, &key) && bson_iter_next(&key) &&
           BSON_ITER_IS_KEY(&key, "$changeStream");
}

static void check_rest(const struct command *command, const bson_t *body, struct bytes bytes)
{
    bson_iter_t iter;
    struct bytes comment = {0};
    uint8_t type = 0;
    uint32_t len = 0;
    const uint8_t *at = NULL;
    if (bson_iter_init_find(&iter, body, "comment")) {
        comment = model_value(&iter, bytes);
        type = (uint8_t)bson_iter_type(&iter);
    }
    MUST(same_view(command->comment, comment) && command->comment_type == type);
    if (bytes_equal(command->name, "killCursors") && bson_iter_init_find(&iter, body, "cursors") &&
        BSON_ITER_HOLDS_ARRAY(&iter)) {
        bson_iter_array(&iter, &len, &at);
    }
    MUST(same_view(command->cursors, (struct bytes){at, len}));
    MUST(command->writes_out == (bytes_equal(command->name, "aggregate") && writes_out(body)));
    MUST(command->streams == streams(body));
}

static void check_command(const struct command *command, struct bytes body, const uint8_t *message)
{
    bson_t document = model_document(body);
    MUST(same_view(command->body, body));
    check_name(command, &document);
    check_session(command, &document);
    check_numbers(command, &document);
    check_read_preference(command, &document);
    check_write_concern(command, &document, message);
    check_rest(command, &document, body);
}

struct shape {
    uint64_t id;
    char text[512];
};

static void take_shape(const struct op_msg *msg, const struct command *command, struct shape *shape)
{
    shape->id = shape_id(msg, command);
    size_t len = shape_text(msg, command, shape->text, sizeof shape->text);
    MUST(len == strlen(shape->text) && len < sizeof shape->text);
}

// Every byte of a value becomes another that leaves the document what it is.
static void change_value(const struct bson_element *element)
{
    uint8_t *at = (uint8_t *)element->value.at;
    size_t from = 0;
    size_t len = element->value.len;
    switch (element->type) {
    case BSON_VIEW_STRING:
    case BSON_VIEW_CODE:
    case BSON_VIEW_SYMBOL:
        from = 4;
        len--;
        break;
    case BSON_VIEW_BINARY:
        from = element->value.at[4] == 2 ? 9 : 5;
        break;
    case BSON_VIEW_BOOL:
        at[0] ^= 1;
        return;
    case BSON_VIEW_REGEX:
    case BSON_VIEW_DOUBLE:
    case BSON_VIEW_INT32:
    case BSON_VIEW_INT64:
    case BSON_VIEW_DATE:
    case BSON_VIEW_OBJECT_ID:
    case BSON_VIEW_TIMESTAMP:
    case BSON_VIEW_DECIMAL128:
        break;
    default:
        return;
    }
    for (size_t i = from; i < len; i++) {
        bool ends = element->type == BSON_VIEW_REGEX && at[i] == 0;
        at[i] = ends ? 0 : at[i] == 'v' ? 'V' : 'v';
    }
}

static void change_values(struct bytes document, int level)
{
    struct bson_walk walk;
    struct bson_element element;
    MUST(bson_walk_begin(&walk, document));
    while (bson_walk_next(&walk, &element) == BSON_WALK_ELEMENT) {
        bool is_name =
            bytes_equal(element.key, "ns") || (level == 0 && bytes_equal(element.key, "key"));
        if (element.type == BSON_VIEW_DOCUMENT || element.type == BSON_VIEW_ARRAY) {
            change_values(element.value, level + 1);
        } else if (!is_name) {
            change_value(&element);
        }
    }
}

// The namespace stays, which `command` has from the message as it was.
static void check_values_do_not_show(const struct op_msg *msg, const struct command *command)
{
    struct shape before;
    struct shape after;
    take_shape(msg, command, &before);
    uint8_t *at = exact_copy(msg->body.at, msg->body.len);
    struct op_msg changed = {.body = {at, msg->body.len}};
    struct command same = *command;
    same.body = changed.body;
    change_values(changed.body, 0);
    take_shape(&changed, &same, &after);
    MUST(before.id == after.id && strcmp(before.text, after.text) == 0);
    free(at);
}

static struct bytes database_in(struct bytes body)
{
    bson_t document = model_document(body);
    bson_iter_t iter;
    return bson_iter_init_find(&iter, &document, "$db") ? text_of(&iter) : (struct bytes){0};
}

static void check_both(struct bytes message, const struct op_msg *msg)
{
    struct command command;
    struct bytes body = msg->body;
    enum wire_error error = command_read(message, msg, &command);
    struct bytes database = database_in(body);
    MUST(error == (body.len == 5 ? WIRE_EMPTY_COMMAND : database.at ? WIRE_OK : WIRE_NO_DB));
    if (error == WIRE_OK) {
        MUST(same_view(command.database, database));
        check_command(&command, body, message.at);
        check_values_do_not_show(msg, &command);
    }
    struct op_query query = {.database = {(const uint8_t *)"test", 4}, .body = body};
    if (body.len > 5) {
        MUST(command_read_query(message, &query, &command) == WIRE_OK);
        MUST(same_view(command.database, query.database));
        check_command(&command, body, message.at);
    }
}

// Of what the input is no sound message.
static void check_sequence(struct bytes document)
{
    static const char *const cases[][2] = {{"update", "updates"},
                                           {"delete", "deletes"},
                                           {"bulkWrite", "ops"},
                                           {"bulkWrite", "nsInfo"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bytes name = {(const uint8_t *)cases[i][0], strlen(cases[i][0])};
        struct bytes sequence = {(const uint8_t *)cases[i][1], strlen(cases[i][1])};
        struct command command = {.name = name};
        struct op_msg msg = {.sequence_count = 1, .sequences = {{sequence, document}}};
        struct shape shape;
        take_shape(&msg, &command, &shape);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t len = BODY_AT + size;
    if (size < BSON_VIEW_MIN_BYTES) {
        return 0;
    }
    uint8_t *at = malloc(len);
    MUST(at);
    memset(at, 0, BODY_AT);
    frame_write(at, &(struct frame){(int32_t)len, 1, 0, OPCODE_MSG});
    memcpy(at + BODY_AT, data, size);
    store_i32(at + BODY_AT, (int32_t)size);
    struct bytes message = {at, len};
    struct op_msg msg;
    if (op_msg_read(message, &msg) == WIRE_OK) {
        check_both(message, &msg);
    }
    check_sequence((struct bytes){at + BODY_AT, size});
    free(at);
    return 0;
}
