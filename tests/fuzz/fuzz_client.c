// SPDX-License-Identifier: Apache-2.0
//
// An app that says anything, from its first byte on; behind weir a sound server. What must hold:
// what the server gets is what the app sent, but for what weir says that it changes; the app gets
// one reply to each message that wants one, in order, or its connection is closed.
//
//      input: how 1 | act 1, length 2, bytes | act 1, length 2, bytes | …

#include "tests/fuzz/conversation.h"
#include "wire/command.h"
#include "wire/max_time.h"
#include "wire/request_build.h"

enum { ACTS_MOST = 32, MESSAGES_MOST = 64 };
enum { HOW_SNIFF = 1, HOW_CURSORS = 2, HOW_REFUSES = 4, HOW_LARGE = 8 };

enum act {
    ACT_SEND,   // the bytes as they stand
    ACT_MENDED, // the message in them, with its length put right
    ACT_PASS,   // time: 4^length ms
    ACT_HALF_CLOSE,
    ACT_CLOSE,
    ACT_LOSE_SERVER,
    ACT_COUNT
};

// What the app has sent, as one stream of bytes.
static struct {
    struct side app;
    struct buffer sent;
    struct buffer last; // that the server got
    size_t forwarded;   // of `sent`: so much has been seen by the server, or passed over
    size_t answered;    // of `sent`: so much has been answered, or passed over
    uint8_t how;
    bool app_is_done; // has closed or half-closed
    bool server_was_lost;
} state;

static void accepted(struct side *side)
{
    (void)side;
}

// The message at that place in what was sent. False: it is not whole, or the stream cannot be
// followed.
static bool message_at(size_t at, struct bytes *ret_message, struct frame *ret_frame)
{
    const uint8_t *begin = buffer_at(&state.sent);
    size_t held = buffer_held(&state.sent) - at;
    if (!begin || frame_read(begin + at, held, ret_frame) != FRAME_OK ||
        (size_t)ret_frame->length > held ||
        (ret_frame->opcode != OPCODE_MSG && ret_frame->opcode != OPCODE_QUERY)) {
        return false;
    }
    *ret_message = (struct bytes){begin + at, (size_t)ret_frame->length};
    return true;
}

// --- the server
// -----------------------------------------------------------------------------------

// Puts the maxTimeMS of what weir sent in the place of the app's, if it may be so: waiting is taken
// off.
static void take_time(uint8_t *message, const struct command *command, struct bytes got)
{
    struct op_msg msg;
    struct command sent_on;
    int64_t ms = max_time_of(command);
    if (ms > 0 && op_msg_read(got, &msg) == WIRE_OK &&
        command_read(got, &msg, &sent_on) == WIRE_OK) {
        int64_t left_ms = max_time_of(&sent_on);
        if (left_ms > 0 && left_ms < ms) {
            max_time_write(command, message, left_ms);
        }
    }
}

// Whether this is the message as it should be sent on.
static bool is_sent_on(struct bytes sent, struct bytes got)
{
    struct op_msg msg;
    struct command command;
    uint8_t *copy = exact_copy(sent.at, sent.len);
    bool same = false;
    if (op_msg_read((struct bytes){copy, sent.len}, &msg) == WIRE_OK &&
        command_read((struct bytes){copy, sent.len}, &msg, &command) == WIRE_OK &&
        !(command.info->traits & COMMAND_LOCAL)) {
        command_acknowledge(&command, copy);
        size_t len = op_msg_strip(copy, sent.len);
        take_time(copy, &command, got);
        same = same_bytes((struct bytes){copy, len}, got);
    }
    free(copy);
    return same;
}

// Whether it is the last one once more, and may be.
static bool is_sent_again(struct bytes got)
{
    struct op_msg msg;
    struct command command;
    struct bytes last = {buffer_at(&state.last), buffer_held(&state.last)};
    return last.len > 0 && is_sent_on(last, got) && op_msg_read(got, &msg) == WIRE_OK &&
           command_read(got, &msg, &command) == WIRE_OK && command_may_repeat(&command);
}

// The next of the app's messages that it is; none may come out of order, or twice, unless it was
// lost or refused and does no harm.
static void find_among_sent(struct bytes got)
{
    bool again = (state.server_was_lost || (state.how & HOW_REFUSES)) && is_sent_again(got);
    if (again) {
        return;
    }
    buffer_consume(&state.last, buffer_held(&state.last));
    buffer_append(&state.last, got.at, got.len);
    struct bytes sent;
    struct frame frame;
    bool found = false;
    while (!found && message_at(state.forwarded, &sent, &frame)) {
        state.forwarded += sent.len;
        found = frame.opcode == OPCODE_MSG && is_sent_on(sent, got);
    }
    MUST(found);
}

// What weir does for an app that has gone; endSessions it answers itself, and passes on later.
static bool is_clearing_away(const bson_t *body)
{
    bson_iter_t iter;
    bool gone = state.app_is_done || state.app.ended;
    if (!bson_iter_init(&iter, body) || !bson_iter_next(&iter)) {
        return false;
    }
    return BSON_ITER_IS_KEY(&iter, "endSessions") ||
           (gone && (BSON_ITER_IS_KEY(&iter, "killCursors") ||
                     BSON_ITER_IS_KEY(&iter, "abortTransaction")));
}

static void append_result(bson_t *document, struct bytes request)
{
    static char padding[100000];
    if (state.how & HOW_CURSORS) {
        bson_t cursor;
        BSON_APPEND_DOCUMENT_BEGIN(document, "cursor", &cursor);
        BSON_APPEND_INT64(&cursor, "id", request.len % 3);
        bson_append_document_end(document, &cursor);
    }
    if (state.how & HOW_LARGE) {
        memset(padding, 'x', sizeof(padding) - 1);
        BSON_APPEND_UTF8(document, "padding", padding);
    }
    if (state.how & HOW_REFUSES) {
        bson_t labels;
        BSON_APPEND_DOUBLE(document, "ok", 0);
        BSON_APPEND_INT32(document, "code", request.len % 2 ? 10107 : 11000);
        BSON_APPEND_ARRAY_BEGIN(document, "errorLabels", &labels);
        BSON_APPEND_UTF8(&labels, "0", "NoWritesPerformed");
        bson_append_array_end(document, &labels);
    } else {
        BSON_APPEND_DOUBLE(document, "ok", 1);
    }
}

static void serve(struct side *side, struct bytes message)
{
    struct op_msg msg;
    struct frame frame;
    bson_t body;
    bson_t reply = BSON_INITIALIZER;
    MUST(frame_read(message.at, message.len, &frame) == FRAME_OK);
    MUST(op_msg_read(message, &msg) == WIRE_OK);
    MUST(!(msg.flags & (OP_MSG_CHECKSUM_PRESENT | OP_MSG_MORE_TO_COME | OP_MSG_EXHAUST_ALLOWED)));
    MUST(bson_init_static(&body, msg.body.at, msg.body.len));
    if (!side->arg) {
        side->arg = side; // greeted
        BSON_APPEND_INT32(&reply, "maxWireVersion", 21);
        BSON_APPEND_DOUBLE(&reply, "ok", 1);
    } else {
        if (!is_clearing_away(&body)) {
            find_among_sent(message);
        }
        append_result(&reply, message);
    }
    side_reply(side, frame.request_id, &reply);
    bson_destroy(&reply);
}

static bool serve_all(void)
{
    bool served = false;
    for (struct side *side = conversation.servers; side; side = side->next) {
        struct bytes message;
        while (side->end && side_message(side, &message)) {
            serve(side, message);
            buffer_consume(&side->in, message.len);
            served = true;
        }
        if (side->ended) {
            side_close(side, false);
        }
    }
    return served;
}

// --- the app
// --------------------------------------------------------------------------------------

static bool wants_reply(struct bytes message, const struct frame *frame)
{
    return frame->opcode == OPCODE_QUERY || message.len < FRAME_HEADER_BYTES + 4 ||
           !(load_i32(message.at + FRAME_HEADER_BYTES) & OP_MSG_MORE_TO_COME);
}

// The next of the app's messages that wants a reply. False: there is none.
static bool next_to_answer(struct bytes *ret_message, struct frame *ret_frame)
{
    while (message_at(state.answered, ret_message, ret_frame)) {
        state.answered += ret_message->len;
        if (wants_reply(*ret_message, ret_frame)) {
            return true;
        }
    }
    return false;
}

static void check_body(struct bytes reply, const struct frame *frame)
{
    const size_t op_reply_bytes = 20;
    struct op_msg msg;
    uint8_t *copy = exact_copy(reply.at, reply.len);
    if (frame->opcode == OPCODE_MSG) {
        MUST(op_msg_read((struct bytes){copy, reply.len}, &msg) == WIRE_OK);
        MUST(msg.flags == 0 && msg.sequence_count == 0);
    } else {
        size_t before = FRAME_HEADER_BYTES + op_reply_bytes;
        MUST(frame->opcode == OPCODE_REPLY && reply.len > before);
        MUST(bson_check((struct bytes){copy + before, reply.len - before}) == WIRE_OK);
    }
    free(copy);
}

static void take_replies(void)
{
    struct bytes reply;
    struct bytes request;
    struct frame frame;
    struct frame request_frame;
    while (side_message(&state.app, &reply)) {
        MUST(frame_read(reply.at, reply.len, &frame) == FRAME_OK);
        MUST(next_to_answer(&request, &request_frame));
        MUST(frame.response_to == request_frame.request_id);
        MUST((frame.opcode == OPCODE_REPLY) == (request_frame.opcode == OPCODE_QUERY));
        check_body(reply, &frame);
        buffer_consume(&state.app.in, reply.len);
    }
}

// ------------------------------------------------------------------------------------------------

static void settle(void)
{
    do {
        conversation_pass(100);
        side_read(&state.app); // tells whether weir has closed it, before the server sees why
    } while (serve_all());
    if (state.app.end) {
        take_replies();
    }
}

static void send_bytes(struct bytes bytes)
{
    if (!state.app_is_done) {
        buffer_append(&state.sent, bytes.at, bytes.len);
        side_send(&state.app, bytes);
    }
}

static void send_mended(struct bytes bytes)
{
    if (bytes.len >= FRAME_HEADER_BYTES + 4) {
        uint8_t *message = exact_copy(bytes.at, bytes.len);
        mend_message(message, bytes.len);
        send_bytes((struct bytes){message, bytes.len});
        free(message);
    }
}

static void lose_server(void)
{
    state.server_was_lost = true;
    for (struct side *side = conversation.servers; side; side = side->next) {
        side_close(side, true);
    }
}

static void do_act(struct input *input)
{
    enum act act = (enum act)(input_byte(input) % ACT_COUNT);
    struct bytes bytes = input_piece(input);
    switch (act) {
    case ACT_SEND:
        send_bytes(bytes);
        break;
    case ACT_MENDED:
        send_mended(bytes);
        break;
    case ACT_PASS:
        conversation_pass((int64_t)1000 << (2 * (bytes.len & 7)));
        break;
    case ACT_HALF_CLOSE:
        if (!state.app_is_done) {
            net_half_close(state.app.end);
        }
        state.app_is_done = true;
        break;
    case ACT_CLOSE:
        side_close(&state.app, bytes.len & 1);
        state.app_is_done = true;
        break;
    default:
        lose_server();
        break;
    }
    settle();
}

// Time enough for all that weir does by itself; a connection that is still open has had its
// replies.
static void end(void)
{
    struct bytes message;
    struct frame frame;
    for (int i = 0; i < 6; i++) { // what is sent again each half a second is answered in the end
        conversation_pass(500000);
        settle();
    }
    if (state.app.end && !state.app.ended && !state.app_is_done) {
        MUST(!next_to_answer(&message, &frame));
    }
    state.app_is_done = true;
    side_close(&state.app, false);
    for (int i = 0; i < 20; i++) { // what it left open is closed
        conversation_pass(1000000);
        settle();
    }
    for (struct side *side = conversation.servers; side; side = side->next) {
        side->arg = NULL;
    }
    conversation_end();
    buffer_fini(&state.sent);
    buffer_fini(&state.last);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct credential nobody;
    struct input input = {data, size};
    memset(&state, 0, sizeof(state));
    state.how = input_byte(&input);
    conversation_begin(&nobody, accepted);
    if (state.how & HOW_SNIFF) {
        conversation.shared.tls_server = (struct tls_server *)&conversation; // never looked into
        conversation.config.tls_mode = CONFIG_TLS_ALLOW;
    }
    state.app = conversation_connect();
    settle();
    for (int i = 0; i < ACTS_MOST && input.len > 0; i++) {
        do_act(&input);
    }
    end();
    return 0;
}
