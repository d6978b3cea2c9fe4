// SPDX-License-Identifier: Apache-2.0
//
// The messages of the load generator. See loadgen_wire.h.

#include "loadgen_wire.h"

#include "bench.h"

#include <bson/bson.h>

enum { OP_MSG_BODY = WIRE_HEADER_BYTES + 5, OP_REPLY_BODY = WIRE_HEADER_BYTES + 20 };
enum { CODE_SHED = 462, DEFAULT_BASE_BACKOFF_MS = 100 };

static void message_finish(struct loadgen_message *m, size_t head_bytes, int32_t opcode,
                           const bson_t *body)
{
    m->length = head_bytes + body->len;
    if (m->length > sizeof m->bytes)
        bench_die("a request of %zu bytes", m->length);
    memcpy(m->bytes + head_bytes, bson_get_data(body), body->len);
    bench_put_i32(m->bytes, (int32_t)m->length);
    bench_put_i32(m->bytes + 12, opcode);
}

void loadgen_make_hello(struct loadgen_message *ret_message)
{
    static const char flags_name_skip_return[] = "\0\0\0\0admin.$cmd\0\0\0\0\0\xff\xff\xff\xff";
    size_t head_bytes = sizeof flags_name_skip_return - 1;
    bson_t *body = BCON_NEW("isMaster", BCON_INT32(1), "helloOk", BCON_BOOL(true), "client", "{",
                            "application", "{", "name", BCON_UTF8("bench"), "}", "driver", "{",
                            "name", BCON_UTF8("bench_loadgen"), "version", BCON_UTF8("1"), "}",
                            "os", "{", "type", BCON_UTF8("Linux"), "}", "}");

    *ret_message = (struct loadgen_message){0};
    memcpy(ret_message->bytes + WIRE_HEADER_BYTES, flags_name_skip_return, head_bytes);
    message_finish(ret_message, WIRE_HEADER_BYTES + head_bytes, OP_QUERY, body);
    bson_destroy(body);
}

static const uint8_t session_mark[LSID_BYTES] = "session-goes-her";

static void append_session(bson_t *body)
{
    bson_t lsid;

    BSON_APPEND_DOCUMENT_BEGIN(body, "lsid", &lsid);
    BSON_APPEND_BINARY(&lsid, "id", BSON_SUBTYPE_UUID, session_mark, sizeof session_mark);
    bson_append_document_end(body, &lsid);
}

static void make_operation(struct loadgen_message *ret_message, const bson_t *body)
{
    *ret_message = (struct loadgen_message){0};
    message_finish(ret_message, OP_MSG_BODY, OP_MSG, body);
    const uint8_t *at =
        memmem(ret_message->bytes, ret_message->length, session_mark, sizeof session_mark);
    ret_message->lsid_at = (size_t)(at - ret_message->bytes);
}

void loadgen_make_ping(struct loadgen_message *ret_message)
{
    bson_t *body = BCON_NEW("ping", BCON_INT32(1));

    append_session(body);
    BSON_APPEND_UTF8(body, "$db", "admin");
    make_operation(ret_message, body);
    bson_destroy(body);
}

void loadgen_make_find(struct loadgen_message *ret_message, const char *mode)
{
    bson_t *body = BCON_NEW("find", BCON_UTF8("things"), "filter", "{", "_id", BCON_INT32(1), "}");

    append_session(body);
    BSON_APPEND_UTF8(body, "$db", "test");
    if (strcmp(mode, "primary") != 0)
        BCON_APPEND(body, "$readPreference", "{", "mode", BCON_UTF8(mode), "}");
    make_operation(ret_message, body);
    bson_destroy(body);
}

static enum reply_kind failure_kind(const bson_t *body, int64_t *ret_base_backoff_ms)
{
    bson_iter_t it;

    if (bson_iter_init_find(&it, body, "baseBackoffMS") && bson_iter_as_int64(&it) > 0)
        *ret_base_backoff_ms = bson_iter_as_int64(&it);
    if (bson_iter_init_find(&it, body, "code") && bson_iter_as_int64(&it) == CODE_SHED)
        return REPLY_SHED;
    return REPLY_NOT_OK;
}

struct reply loadgen_read_reply(const uint8_t *message, size_t length)
{
    struct reply reply = {.response_to = bench_get_i32(message + 8),
                          .kind = REPLY_MALFORMED,
                          .base_backoff_ms = DEFAULT_BASE_BACKOFF_MS};
    size_t body_at = bench_get_i32(message + 12) == OP_REPLY ? OP_REPLY_BODY : OP_MSG_BODY;
    bson_t body;
    bson_iter_t it;

    if (length <= body_at || !bson_init_static(&body, message + body_at, length - body_at))
        return reply;
    if (!bson_iter_init_find(&it, &body, "ok"))
        return reply;
    reply.kind =
        bson_iter_as_double(&it) == 1 ? REPLY_OK : failure_kind(&body, &reply.base_backoff_ms);
    return reply;
}
