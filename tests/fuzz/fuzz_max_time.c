// SPDX-License-Identifier: Apache-2.0
//
// maxTimeMS of a command brought within bounds, and less what was spent waiting: what comes out is
// the command that libbson makes of it with that one field changed, byte for byte, and what came
// with it in sequences.
//
//      input: limit 2 | preset 2 | waited 2 | length of the body 2 | body | a sequence's documents
//
// Of an odd `waited` the sequence has the field's own name, which must be refused.

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/model.h"
#include "wire/max_time.h"

struct reading {
    struct op_msg msg;
    struct command command;
};

struct sequence {
    const char *name;
    struct bytes documents;
};

static bool read_message(const struct buffer *message, struct reading *reading)
{
    struct bytes bytes = {buffer_at(message), buffer_held(message)};
    return op_msg_read(bytes, &reading->msg) == WIRE_OK &&
           command_read(bytes, &reading->msg, &reading->command) == WIRE_OK;
}

static void make_message(struct buffer *out, struct bytes body, const struct sequence *sequence)
{
    static const uint8_t kind = 1;
    size_t start = op_msg_begin(out, 7, 0);
    buffer_append(out, body.at, body.len);
    struct bytes documents = sequence->documents;
    size_t name_len = strlen(sequence->name) + 1;
    if (documents.len > 0) {
        uint8_t len[4];
        store_i32(len, (int32_t)(sizeof len + name_len + documents.len));
        buffer_append(out, &kind, 1);
        buffer_append(out, len, sizeof len);
        buffer_append(out, sequence->name, name_len);
        buffer_append(out, documents.at, documents.len);
    }
    op_msg_end(out, start);
}

static void append_as(bson_t *out, const bson_iter_t *iter, int64_t ms)
{
    if (BSON_ITER_HOLDS_DOUBLE(iter)) {
        BSON_APPEND_DOUBLE(out, "maxTimeMS", (double)ms);
    } else if (BSON_ITER_HOLDS_INT64(iter)) {
        BSON_APPEND_INT64(out, "maxTimeMS", ms);
    } else {
        BSON_APPEND_INT32(out, "maxTimeMS", (int32_t)ms);
    }
}

// The body with another value in the first maxTimeMS, or with one at its end if there is none.
// Copies bytes, since libbson would mend what it copies itself.
static struct buffer body_with(struct bytes body, int64_t ms)
{
    bson_t document = model_document(body);
    bson_iter_t iter;
    struct buffer out = {0};
    bson_t element = BSON_INITIALIZER;
    const uint8_t *rest = body.at + body.len - 1;
    size_t before = body.len - 1;
    if (bson_iter_init_find(&iter, &document, "maxTimeMS")) {
        struct bytes value = model_value(&iter, body);
        append_as(&element, &iter, ms);
        rest = value.at + value.len;
        before = (size_t)(value.at - body.at) - 1 - sizeof "maxTimeMS";
    } else {
        BSON_APPEND_INT32(&element, "maxTimeMS", (int32_t)ms);
    }
    buffer_append(&out, body.at, before);
    buffer_append(&out, bson_get_data(&element) + 4, element.len - 5);
    buffer_append(&out, rest, (size_t)(body.at + body.len - rest));
    store_i32(buffer_at(&out), (int32_t)buffer_held(&out));
    bson_destroy(&element);
    return out;
}

static void must_be(const struct buffer *message, struct bytes body,
                    const struct sequence *sequence)
{
    struct buffer expected = {0};
    make_message(&expected, body, sequence);
    MUST(same_bytes((struct bytes){buffer_at(message), buffer_held(message)},
                    (struct bytes){buffer_at(&expected), buffer_held(&expected)}));
    buffer_fini(&expected);
}

static void must_be_with(const struct buffer *message, struct bytes body,
                         const struct sequence *sequence, int64_t ms)
{
    struct buffer with = body_with(body, ms);
    must_be(message, (struct bytes){buffer_at(&with), buffer_held(&with)}, sequence);
    buffer_fini(&with);
}

// What the field should become; -1: stays as it is.
static int64_t expected_ms(const struct command *command, struct max_time_bounds bounds)
{
    int64_t limit_ms = bounds.limit_ms ? bounds.limit_ms : INT64_MAX;
    if (!(command->info->traits & COMMAND_TIMED) || command->streams) {
        return -1;
    }
    if (command->has_max_time) {
        bool over = command->max_time_ms == 0 || command->max_time_ms > limit_ms;
        return over && bounds.limit_ms ? bounds.limit_ms : -1;
    }
    if (command->max_time_type || (!bounds.limit_ms && !bounds.preset_ms)) {
        return -1;
    }
    return bounds.preset_ms && bounds.preset_ms < limit_ms ? bounds.preset_ms : limit_ms;
}

static void check_clamp(struct bytes body, const struct sequence *sequence,
                        struct max_time_bounds bounds)
{
    struct buffer message = {0};
    struct reading reading;
    make_message(&message, body, sequence);
    if (read_message(&message, &reading)) {
        int64_t ms = expected_ms(&reading.command, bounds);
        bool changed = max_time_clamp(&message, &reading.command, bounds);
        MUST(changed == (ms >= 0));
        if (changed) {
            must_be_with(&message, body, sequence, ms);
            MUST(read_message(&message, &reading));
            MUST(max_time_of(&reading.command) == ms);
            MUST(!max_time_clamp(&message, &reading.command, bounds));
        } else {
            must_be(&message, body, sequence);
        }
    }
    buffer_fini(&message);
}

static void check_write(struct bytes body, const struct sequence *sequence, int64_t waited_ms)
{
    struct buffer message = {0};
    struct reading reading;
    make_message(&message, body, sequence);
    int64_t ms = read_message(&message, &reading) ? max_time_of(&reading.command) : 0;
    if (ms > waited_ms) {
        max_time_write(&reading.command, buffer_at(&message), ms - waited_ms);
        must_be_with(&message, body, sequence, ms - waited_ms);
    }
    buffer_fini(&message);
}

static int64_t input_number(struct input *input)
{
    int64_t low = input_byte(input);
    return low | (int64_t)input_byte(input) << 8;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct max_time_bounds bounds = {.limit_ms = input_number(&input)};
    bounds.preset_ms = input_number(&input);
    int64_t waited_ms = input_number(&input);
    struct bytes piece = input_piece(&input);
    if (piece.len < BSON_VIEW_MIN_BYTES) {
        return 0;
    }
    uint8_t *at = exact_copy(piece.at, piece.len);
    store_i32(at, (int32_t)piece.len);
    struct bytes body = {at, piece.len};
    struct sequence sequence = {waited_ms % 2 ? "maxTimeMS" : "docs", {input.at, input.len}};
    check_clamp(body, &sequence, bounds);
    check_write(body, &sequence, waited_ms);
    free(at);
    return 0;
}
