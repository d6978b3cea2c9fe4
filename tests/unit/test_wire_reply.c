// SPDX-License-Identifier: Apache-2.0

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/guard.h"
#include "tests/unit/wire_samples.h"
#include "wire/bson_view.h"
#include "wire/command.h"
#include "wire/op_msg.h"
#include "wire/reply.h"
#include "wire/request_build.h"

static struct bytes body_of(struct bytes message)
{
    struct op_msg msg;
    assert_int_equal(op_msg_read(message, &msg), WIRE_OK);
    assert_int_equal(msg.sequence_count, 0);
    return msg.body;
}

static void assert_body(struct bytes message, const char *json)
{
    struct bytes body = body_of(message);
    bson_t *expected = sample_document(json);
    if (body.len != expected->len || memcmp(body.at, bson_get_data(expected), body.len) != 0) {
        bson_t got;
        assert_true(bson_init_static(&got, body.at, body.len));
        char *text = bson_as_canonical_extended_json(&got, NULL);
        print_error("%s\n", text);
        bson_free(text);
        fail_msg("not %s", json);
    }
    bson_destroy(expected);
}

static void rewrite_json(const char *json, unsigned drop_labels, struct buffer *out)
{
    struct buffer message = {0};
    sample_begin(&message, 7, 8, 0);
    sample_body(&message, json);
    sample_end(&message);
    reply_rewrite(buffer_bytes(&message), drop_labels, false, out);
    buffer_fini(&message);
}

static void state_changes_become_host_unreachable(void **state)
{
    (void)state;
    static const struct {
        const char *before;
        const char *after;
    } cases[] = {
        {"{'topologyVersion': {'counter': 6}, 'ok': 0.0, 'errmsg': 'not primary', 'code': 10107, "
         "'codeName': 'NotWritablePrimary', 'errorLabels': ['RetryableWriteError'], 'x': 1}",
         "{'ok': 0.0, 'errmsg': 'not primary', 'code': 6, 'codeName': 'HostUnreachable', "
         "'errorLabels': ['RetryableWriteError'], 'x': 1}"},
        {"{'codeName': 'ShutdownInProgress', 'code': {'$numberLong': '91'}, 'ok': 0}",
         "{'codeName': 'HostUnreachable', 'code': 6, 'ok': 0}"},
        {"{'code': 13436.0}", "{'code': 6}"},
        {"{'code': {'$numberLong': '4294977403'}}", "{'code': {'$numberLong': '4294977403'}}"},
        {"{'n': 1, 'writeConcernError': {'code': 189, 'codeName': 'PrimarySteppedDown', 'errmsg': "
         "'e', 'errInfo': {'code': 189}}, 'ok': 1}",
         "{'n': 1, 'writeConcernError': {'code': 6, 'codeName': 'HostUnreachable', 'errmsg': 'e', "
         "'errInfo': {'code': 189}}, 'ok': 1}"},
        {"{'writeConcernError': {'code': 64, 'codeName': 'WriteConcernTimeout'}, 'ok': 1}",
         "{'writeConcernError': {'code': 64, 'codeName': 'WriteConcernTimeout'}, 'ok': 1}"},
        {"{'ok': 0, 'code': 11000, 'codeName': 'DuplicateKey', 'topologyVersion': 1}",
         "{'ok': 0, 'code': 11000, 'codeName': 'DuplicateKey'}"},
        {"{'code': '10107', 'codeName': 'x', 'writeErrors': [{'code': 10107}]}",
         "{'code': '10107', 'codeName': 'x', 'writeErrors': [{'code': 10107}]}"},
        {"{'writeConcernError': [91], 'errorLabels': 'RetryableWriteError'}",
         "{'writeConcernError': [91], 'errorLabels': 'RetryableWriteError'}"},
        {"{}", "{}"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buffer out = {0};
        rewrite_json(cases[i].before, 0, &out);
        assert_body(buffer_bytes(&out), cases[i].after);
        buffer_fini(&out);
    }
}

static void labels_are_dropped(void **state)
{
    (void)state;
    static const struct {
        const char *before;
        unsigned drop;
        const char *after;
    } cases[] = {
        {"{'errorLabels': ['RetryableWriteError', 'NoWritesPerformed', 'New'], 'ok': 0}",
         LABEL_NO_WRITES_PERFORMED, "{'errorLabels': ['RetryableWriteError', 'New'], 'ok': 0}"},
        {"{'errorLabels': ['RetryableWriteError', 'NoWritesPerformed', 'New'], 'ok': 0}",
         LABEL_RETRYABLE_WRITE, "{'errorLabels': ['NoWritesPerformed', 'New'], 'ok': 0}"},
        {"{'errorLabels': ['NoWritesPerformed'], 'ok': 0}",
         LABEL_NO_WRITES_PERFORMED | LABEL_RETRYABLE_WRITE, "{'ok': 0}"},
        {"{'errorLabels': ['NoWritesPerformed', 5], 'ok': 0}", LABEL_NO_WRITES_PERFORMED,
         "{'errorLabels': [5], 'ok': 0}"},
        {"{'a': {'errorLabels': ['NoWritesPerformed']}}", LABEL_NO_WRITES_PERFORMED,
         "{'a': {'errorLabels': ['NoWritesPerformed']}}"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buffer out = {0};
        rewrite_json(cases[i].before, cases[i].drop, &out);
        assert_body(buffer_bytes(&out), cases[i].after);
        buffer_fini(&out);
    }
}

static void many_labels_are_numbered_anew(void **state)
{
    (void)state;
    bson_t document = BSON_INITIALIZER;
    bson_t array;
    BSON_APPEND_ARRAY_BEGIN(&document, "errorLabels", &array);
    for (uint32_t i = 0; i < 25; i++) {
        char room[16];
        const char *index;
        bson_uint32_to_string(i, &index, room, sizeof(room));
        BSON_APPEND_UTF8(&array, index, i % 2 ? "RetryableError" : "RetryableWriteError");
    }
    bson_append_array_end(&document, &array);
    struct buffer message = {0};
    struct buffer out = {0};
    reply_append(&message, 1, 2, false, &document);
    reply_rewrite(buffer_bytes(&message), LABEL_RETRYABLE, false, &out);
    struct bson_element labels;
    struct bson_element last;
    assert_true(bson_find(body_of(buffer_bytes(&out)), "errorLabels", &labels));
    assert_true(bson_find(labels.value, "12", &last));
    assert_false(bson_find(labels.value, "13", &last));
    buffer_fini(&message);
    buffer_fini(&out);
    bson_destroy(&document);
}

static void a_rewrite_keeps_ids_and_follows_what_is_there(void **state)
{
    (void)state;
    struct buffer out = {0};
    buffer_append(&out, "before", 6);
    buffer_consume(&out, 1);
    reply_rewrite(sample_named("reply overloaded"), LABEL_NO_WRITES_PERFORMED, false, &out);
    assert_memory_equal(buffer_at(&out), "efore", 5);
    buffer_consume(&out, 5);
    struct frame before;
    struct frame after;
    assert_int_equal(frame_read(sample_named("reply overloaded").at, 16, &before), FRAME_OK);
    assert_int_equal(frame_read(buffer_at(&out), buffer_held(&out), &after), FRAME_OK);
    assert_int_equal(after.length, buffer_held(&out));
    assert_int_equal(after.request_id, before.request_id);
    assert_int_equal(after.response_to, before.response_to);
    assert_int_equal(after.opcode, OPCODE_MSG);
    assert_body(buffer_bytes(&out),
                "{'ok': 0.0, 'errmsg': 'rate limit', 'code': 462, 'codeName': "
                "'IngressRequestRateLimitExceeded', 'errorLabels': ['SystemOverloadedError', "
                "'RetryableError', 'SomethingNew'], 'baseBackoffMS': {'$numberLong': '100'}}");
    buffer_fini(&out);
}

static struct reply_view scan(struct bytes message, enum reply_status *ret_status)
{
    struct reply_scan scan;
    size_t taken;
    reply_scan_begin(&scan);
    *ret_status = reply_scan_feed(&scan, message.at, message.len, &taken);
    return scan.view;
}

// Whatever a scan takes can be rewritten, deeper lies and all, and is a reply again afterwards.
static void what_was_scanned_can_be_rewritten(void **state)
{
    (void)state;
    size_t count;
    const struct sample *all = samples(&count);
    struct guard guard = guard_new(4096);
    struct dice dice = {13};
    size_t rewritten = 0;
    for (int i = 0; i < 200000; i++) {
        const struct sample *sample = &all[dice_below(&dice, (uint32_t)count)];
        if (sample->kind != SAMPLE_REPLY) {
            continue;
        }
        struct bytes message = sample->message;
        uint8_t *at = guard_lay(&guard, message.at, message.len);
        dice_damage(&dice, at + 16, message.len - 16);
        message.at = at;
        enum reply_status status;
        struct reply_view before = scan(message, &status);
        if (status != REPLY_DONE) {
            continue;
        }
        struct buffer out = {0};
        reply_rewrite(message, LABEL_NO_WRITES_PERFORMED, false, &out);
        struct reply_view after = scan(buffer_bytes(&out), &status);
        assert_int_equal(status, REPLY_DONE);
        assert_int_equal(after.ok, before.ok);
        assert_int_equal(after.code, reply_is_state_change(before.code) ? 6 : before.code);
        assert_false(reply_is_state_change(after.write_concern_code));
        assert_int_equal(after.labels, before.labels & ~(unsigned)LABEL_NO_WRITES_PERFORMED);
        assert_true(after.cursor_id == before.cursor_id);
        struct bson_element element;
        assert_false(bson_find((struct bytes){buffer_at(&out) + 21, buffer_held(&out) - 21},
                               "topologyVersion", &element));
        buffer_fini(&out);
        rewritten++;
    }
    assert_true(rewritten > 10000);
    guard_free(&guard);
}

static void the_codes_that_make_drivers_stall(void **state)
{
    (void)state;
    static const int32_t codes[] = {91, 189, 10058, 10107, 11600, 11602, 13435, 13436};
    size_t found = 0;
    for (int32_t code = -1; code < 20000; code++) {
        found += reply_is_state_change(code);
    }
    assert_int_equal(found, 8);
    for (size_t i = 0; i < 8; i++) {
        assert_true(reply_is_state_change(codes[i]));
    }
}

static void codes_have_the_servers_names(void **state)
{
    (void)state;
    assert_string_equal(reply_code_name(6), "HostUnreachable");
    assert_string_equal(reply_code_name(251), "NoSuchTransaction");
    assert_string_equal(reply_code_name(462), "IngressRequestRateLimitExceeded");
    assert_string_equal(reply_code_name(10334), "BSONObjectTooLarge");
    assert_string_equal(reply_code_name(40571), "Location40571");
    assert_string_equal(reply_code_name(0), "Error");
    assert_string_equal(reply_code_name(-5), "Error");
    // Each error that reading a message can end in has a name.
#define X(error, code, closes, text)                                                               \
    assert_true(error == WIRE_OK || strcmp(reply_code_name(wire_error_code(error)), "Error") != 0);
    WIRE_ERRORS(X)
#undef X
}

static void an_error_of_ours(void **state)
{
    (void)state;
    const struct reply_error error = {
        .code = 462,
        .message = "no place in the queue",
        .labels = LABEL_SYSTEM_OVERLOADED | LABEL_RETRYABLE,
        .base_backoff_ms = 250,
    };
    bson_t document = BSON_INITIALIZER;
    struct buffer out = {0};
    reply_error_document(&error, &document);
    reply_append(&out, 5, 6, false, &document);
    assert_body(buffer_bytes(&out),
                "{'ok': 0.0, 'errmsg': 'no place in the queue', 'code': 462, 'codeName': "
                "'IngressRequestRateLimitExceeded', 'errorLabels': ['SystemOverloadedError', "
                "'RetryableError'], 'baseBackoffMS': {'$numberLong': '250'}}");
    enum reply_status status;
    struct reply_view view = scan(buffer_bytes(&out), &status);
    assert_int_equal(status, REPLY_DONE);
    assert_int_equal(view.labels, error.labels);
    assert_int_equal(view.frame.request_id, 5);
    assert_int_equal(view.frame.response_to, 6);
    bson_destroy(&document);
    buffer_fini(&out);
}

static void an_error_without_labels_has_no_field_for_them(void **state)
{
    (void)state;
    const struct reply_error error = {.code = 50, .message = "too late"};
    bson_t document = BSON_INITIALIZER;
    struct buffer out = {0};
    reply_error_document(&error, &document);
    reply_append(&out, 5, 6, false, &document);
    assert_body(buffer_bytes(&out), "{'ok': 0.0, 'errmsg': 'too late', 'code': 50, 'codeName': "
                                    "'MaxTimeMSExpired'}");
    bson_destroy(&document);
    buffer_fini(&out);
}

static void an_op_reply_byte_for_byte(void **state)
{
    (void)state;
    static const uint8_t expected[] = {
        49, 0, 0, 0, 5,  0,   0,   0, 6, 0, 0, 0, 1, 0, 0, 0,             // header
        8,  0, 0, 0, 0,  0,   0,   0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, // one document
        13, 0, 0, 0, 16, 'o', 'k', 0, 1, 0, 0, 0, 0,                      // {ok: 1}
    };
    bson_t *document = sample_document("{'ok': 1}");
    struct buffer out = {0};
    reply_append(&out, 5, 6, true, document);
    assert_int_equal(buffer_held(&out), sizeof(expected));
    assert_memory_equal(buffer_at(&out), expected, sizeof(expected));
    bson_destroy(document);
    buffer_fini(&out);
}

static void a_request_of_ours_is_read_as_one(void **state)
{
    (void)state;
    bson_t *body = sample_document("{'killCursors': 'c', 'cursors': [1], '$db': 'shop'}");
    struct buffer out = {0};
    request_append(&out, 77, body);
    struct op_msg msg;
    struct command command;
    struct frame frame;
    assert_int_equal(frame_read(buffer_at(&out), buffer_held(&out), &frame), FRAME_OK);
    assert_int_equal(frame.length, buffer_held(&out));
    assert_int_equal(frame.request_id, 77);
    assert_int_equal(frame.response_to, 0);
    assert_int_equal(op_msg_read(buffer_bytes(&out), &msg), WIRE_OK);
    assert_int_equal(msg.flags, 0);
    assert_int_equal(command_read(buffer_bytes(&out), &msg, &command), WIRE_OK);
    assert_true(bytes_equal(command.collection, "c"));
    bson_destroy(body);
    buffer_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(state_changes_become_host_unreachable),
        cmocka_unit_test(labels_are_dropped),
        cmocka_unit_test(many_labels_are_numbered_anew),
        cmocka_unit_test(a_rewrite_keeps_ids_and_follows_what_is_there),
        cmocka_unit_test(what_was_scanned_can_be_rewritten),
        cmocka_unit_test(the_codes_that_make_drivers_stall),
        cmocka_unit_test(codes_have_the_servers_names),
        cmocka_unit_test(an_error_of_ours),
        cmocka_unit_test(an_error_without_labels_has_no_field_for_them),
        cmocka_unit_test(an_op_reply_byte_for_byte),
        cmocka_unit_test(a_request_of_ours_is_read_as_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
