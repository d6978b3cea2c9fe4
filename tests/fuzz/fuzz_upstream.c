// SPDX-License-Identifier: Apache-2.0
//
// A server that says anything, from its first byte on, to a weir that an app asks sound things of.
// What must hold: weir says nothing but its login before the server has proven itself; the app gets
// for each of its requests one reply, which is the server's or weir's own, or its connection is
// closed.
//
//      input: how weir logs in 1 | act 1, length 2, bytes | act 1, length 2, bytes | …

#include "tests/fuzz/conversation.h"
#include "tests/fuzz/scram_server.h"
#include "wire/reply.h"
#include "wire/request_build.h"

enum { ACTS_MOST = 32 };

// The upper half of an act's byte; the lower is its kind.
enum act {
    ACT_ANSWER,       // with the document in the bytes
    ACT_LOGIN,        // with a payload, of a kind of enum scram_kind
    ACT_SAY,          // the bytes as they stand
    ACT_GREET,        // as a sound server does
    ACT_GOOD,         // {ok: 1}
    ACT_PASS,         // time: 4^kind ms
    ACT_CLOSE,        // or reset, if the kind is odd
    ACT_ASK,          // the app asks again, or anew
    ACT_ANSWER_MENDED // the whole message in the bytes, with ids and lengths put right
};

// Of a connection to the server.
struct line {
    struct scram_server scram;
    bool greeted;       // hello has been answered
    int32_t request_id; // the message that weir has sent last
    int requests;       // messages that weir has sent
    struct buffer said; // all that was said to it
};

static struct {
    struct side app;
    bool app_is_there;
    int32_t request_id;
    bool waits;         // for a reply
    bool logs_in;       // by SCRAM
    struct buffer said; // whole messages, by any connection
} state;

static void accepted(struct side *side)
{
    side->arg = calloc(1, sizeof(struct line));
}

static struct side *newest(void)
{
    struct side *side = conversation.servers;
    while (side && !side->end) {
        side = side->next;
    }
    return side;
}

static void free_lines(void)
{
    for (struct side *side = conversation.servers; side; side = side->next) {
        struct line *line = side->arg;
        buffer_fini(&line->said);
        free(line);
        side->arg = NULL;
    }
}

// --- the app
// --------------------------------------------------------------------------------------

static void ask(void)
{
    if (!state.app_is_there) {
        state.app = conversation_connect();
        state.app_is_there = true;
        state.waits = false;
    }
    if (state.waits) {
        return;
    }
    struct buffer out = {0};
    bson_t *command =
        BCON_NEW("update", "c", "txnNumber", BCON_INT64(++state.request_id), "$db", "d");
    request_append(&out, state.request_id, command);
    side_send(&state.app, (struct bytes){buffer_at(&out), buffer_held(&out)});
    state.waits = true;
    bson_destroy(command);
    buffer_fini(&out);
}

static bool is_weirs_own(const struct op_msg *msg)
{
    struct bson_element element;
    struct bytes text;
    return bson_find(msg->body, "errmsg", &element) && bson_element_text(&element, &text) &&
           text.len > 5 && memcmp(text.at, "weir:", 5) == 0;
}

// A message as the server said it, or what reply_rewrite makes of it: of that only the ids are
// compared.
static bool was_said(struct bytes reply)
{
    return state.said.data &&
           memmem(buffer_at(&state.said), buffer_held(&state.said), reply.at, reply.len) != NULL;
}

static void take_app_reply(struct bytes reply)
{
    struct reply_scan scan;
    struct op_msg msg;
    size_t taken = 0;
    uint8_t *copy = exact_copy(reply.at, reply.len);
    MUST(state.waits);
    state.waits = false;
    reply_scan_begin(&scan);
    MUST(reply_scan_feed(&scan, copy, reply.len, &taken) == REPLY_DONE && taken == reply.len);
    MUST(scan.view.frame.response_to == state.request_id);
    MUST(scan.view.ok || !reply_is_state_change(scan.view.code));
    bool own = op_msg_read((struct bytes){copy, reply.len}, &msg) == WIRE_OK && is_weirs_own(&msg);
    bool rewritten = scan.view.code == 6 || scan.view.write_concern_code == 6 || !scan.view.ok;
    MUST(own || rewritten || was_said(reply));
    free(copy);
}

static void take_app_replies(void)
{
    struct bytes reply;
    if (!state.app_is_there) {
        return;
    }
    side_read(&state.app);
    while (side_message(&state.app, &reply)) {
        take_app_reply(reply);
        buffer_consume(&state.app.in, reply.len);
    }
    if (state.app.ended) {
        side_close(&state.app, false);
        state.app_is_there = false;
        state.waits = false;
    }
}

// --- the server
// -----------------------------------------------------------------------------------

// Whether each message of weir's has been answered with one, and nothing was said beyond that.
static bool is_in_step(const struct line *line)
{
    struct frame frame;
    const uint8_t *at = buffer_at(&line->said);
    size_t left = buffer_held(&line->said);
    int replies = 0;
    while (left > 0 && frame_read(at, left, &frame) == FRAME_OK && (size_t)frame.length <= left) {
        at += frame.length;
        left -= (size_t)frame.length;
        replies++;
    }
    return left == 0 && replies == line->requests;
}

static void take_request(struct line *line, struct bytes message)
{
    struct op_msg msg;
    struct frame frame;
    bson_t body;
    bson_iter_t iter;
    MUST(is_in_step(line));
    MUST(frame_read(message.at, message.len, &frame) == FRAME_OK);
    MUST(op_msg_read(message, &msg) == WIRE_OK && msg.flags == 0 && msg.sequence_count == 0);
    MUST(bson_init_static(&body, msg.body.at, msg.body.len));
    MUST(bson_iter_init(&iter, &body) && bson_iter_next(&iter));
    line->requests++;
    line->request_id = frame.request_id;
    if (BSON_ITER_IS_KEY(&iter, "isMaster")) {
        scram_server_take_hello(&line->scram, &body);
    } else if (BSON_ITER_IS_KEY(&iter, "update")) {
        MUST(line->greeted && frame.request_id == state.request_id && state.waits);
        if (state.logs_in) {
            scram_server_check_proven(&line->scram);
        }
    } else {
        MUST(line->greeted && strncmp(bson_iter_key(&iter), "sasl", 4) == 0);
        scram_server_take_command(&line->scram, &body);
    }
}

static void take_requests(void)
{
    for (struct side *side = conversation.servers; side; side = side->next) {
        struct bytes message;
        while (side->arg && side_message(side, &message)) {
            take_request(side->arg, message);
            buffer_consume(&side->in, message.len);
        }
        if (side->ended) {
            side_close(side, false);
        }
    }
}

static void say(struct side *side, struct bytes bytes)
{
    struct line *line = side->arg;
    buffer_append(&line->said, bytes.at, bytes.len);
    buffer_append(&state.said, bytes.at, bytes.len);
    side_send(side, bytes);
}

static void answer(struct side *side, const bson_t *document)
{
    struct line *line = side->arg;
    struct buffer out = {0};
    size_t start = op_msg_begin(&out, 77, line->request_id);
    scram_server_note(&line->scram, document, !line->greeted);
    buffer_append(&out, bson_get_data(document), document->len);
    op_msg_end(&out, start);
    line->greeted = true;
    say(side, (struct bytes){buffer_at(&out), buffer_held(&out)});
    buffer_fini(&out);
}

static void greet(struct side *side)
{
    bson_t *document = BCON_NEW("ismaster", BCON_BOOL(true), "maxWireVersion", BCON_INT32(21), "ok",
                                BCON_DOUBLE(1));
    answer(side, document);
    bson_destroy(document);
}

static void log_in(struct side *side, uint8_t kind, struct bytes form)
{
    const struct line *line = side->arg;
    bson_t document;
    scram_server_reply(&line->scram, kind, form, !line->greeted, &document);
    if (!line->greeted) {
        BSON_APPEND_INT32(&document, "maxWireVersion", 21);
    }
    answer(side, &document);
    bson_destroy(&document);
}

// A document that is none is said all the same: weir must see to it.
static void answer_with(struct side *side, struct bytes bytes)
{
    struct line *line = side->arg;
    bson_t document;
    uint8_t *copy = exact_copy(bytes.at, bytes.len);
    bool sound = bson_check((struct bytes){copy, bytes.len}) == WIRE_OK &&
                 bson_init_static(&document, copy, bytes.len);
    if (sound) {
        answer(side, &document);
    } else {
        struct buffer out = {0};
        size_t start = op_msg_begin(&out, 77, line->request_id);
        buffer_append(&out, bytes.at, bytes.len);
        op_msg_end(&out, start);
        say(side, (struct bytes){buffer_at(&out), buffer_held(&out)});
        buffer_fini(&out);
    }
    free(copy);
}

static void answer_mended(struct side *side, struct bytes bytes)
{
    struct line *line = side->arg;
    if (bytes.len < FRAME_HEADER_BYTES + 4 + 1) {
        return;
    }
    uint8_t *message = exact_copy(bytes.at, bytes.len);
    store_i32(message + 8, line->request_id);
    mend_message(message, bytes.len);
    struct op_msg msg;
    bson_t document;
    if (op_msg_read((struct bytes){message, bytes.len}, &msg) == WIRE_OK &&
        bson_init_static(&document, msg.body.at, msg.body.len)) {
        scram_server_note(&line->scram, &document, !line->greeted);
        line->greeted = true;
    }
    say(side, (struct bytes){message, bytes.len});
    free(message);
}

// --- the conversation
// -----------------------------------------------------------------------------

static void act_of_server(struct side *side, enum act act, uint8_t kind, struct bytes bytes)
{
    bson_t good = BSON_INITIALIZER;
    switch (act) {
    case ACT_ANSWER:
        answer_with(side, bytes);
        break;
    case ACT_ANSWER_MENDED:
        answer_mended(side, bytes);
        break;
    case ACT_LOGIN:
        log_in(side, kind, bytes);
        break;
    case ACT_SAY:
        say(side, bytes);
        break;
    case ACT_GREET:
        greet(side);
        break;
    case ACT_GOOD:
        BSON_APPEND_DOUBLE(&good, "ok", 1);
        answer(side, &good);
        break;
    default:
        side_close(side, kind & 1);
        break;
    }
    bson_destroy(&good);
}

static void do_act(struct input *input)
{
    uint8_t byte = input_byte(input);
    enum act act = (enum act)(byte >> 4);
    uint8_t kind = byte & 15;
    struct bytes bytes = input_piece(input);
    struct side *side = newest();
    if (act == ACT_ASK) {
        ask();
    } else if (act == ACT_PASS) {
        conversation_pass((int64_t)1000 << (2 * (kind & 7)));
    } else if (side && act <= ACT_ANSWER_MENDED) {
        act_of_server(side, act, kind, bytes);
    }
    conversation_pass(100);
    take_requests();
    take_app_replies();
}

// All servers go: whoever waits is told so.
static void end(void)
{
    for (struct side *side = conversation.servers; side; side = side->next) {
        side_close(side, false);
    }
    conversation.refusing = true;
    conversation_pass(15000000);
    take_app_replies();
    MUST(!state.waits);
    if (state.app_is_there) {
        side_close(&state.app, false);
    }
    conversation_pass(1000000);
    free_lines();
    conversation_end();
    buffer_fini(&state.said);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char *const mechanisms[] = {NULL, NULL, "SCRAM-SHA-256", "SCRAM-SHA-1"};
    struct input input = {data, size};
    if (holds_text(data, size, SCRAM_PASSWORD)) {
        return 0;
    }
    uint8_t how = input_byte(&input) & 3;
    struct credential credential = {mechanisms[how], how ? SCRAM_USER : NULL, SCRAM_PASSWORD,
                                    "admin"};
    memset(&state, 0, sizeof(state));
    state.logs_in = how != 0;
    conversation_begin(&credential, accepted);
    ask();
    conversation_pass(100);
    take_requests();
    for (int i = 0; i < ACTS_MOST && input.len > 0; i++) {
        do_act(&input);
    }
    end();
    return 0;
}
