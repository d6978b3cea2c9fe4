// SPDX-License-Identifier: Apache-2.0
//
// The few messages that the load generator sends, and what it wants to know of their replies.
// Pure: bytes in, values out.

#ifndef LOADGEN_WIRE_H
#define LOADGEN_WIRE_H

#include <stddef.h>
#include <stdint.h>

enum { LOADGEN_REQUEST_MAX_BYTES = 512, LSID_BYTES = 16 };

struct loadgen_message {
    uint8_t bytes[LOADGEN_REQUEST_MAX_BYTES];
    size_t length;
    size_t lsid_at; // where the 16 bytes of the session's id are; 0 if it has none
};

// The first message of most drivers: OP_QUERY isMaster with helloOk and who they are.
void loadgen_make_hello(struct loadgen_message *ret_message);

// OP_MSG {ping: 1, lsid: {id: ...}, $db: "admin"}.
void loadgen_make_ping(struct loadgen_message *ret_message);

// OP_MSG {find: "things", filter: {_id: 1}, lsid: {id: ...}, $db: "test"}, and unless the mode is
// "primary" {$readPreference: {mode: ...}}, as drivers send it.
void loadgen_make_find(struct loadgen_message *ret_message, const char *mode);

enum reply_kind { REPLY_OK, REPLY_SHED, REPLY_NOT_OK, REPLY_MALFORMED };

struct reply {
    int32_t response_to;
    enum reply_kind kind;    // REPLY_SHED is code 462
    int64_t base_backoff_ms; // of a reply that is not ok; 100, the drivers' default, if it has none
};

// Reads a whole message (`length` >= 16, as in its header): an OP_MSG, or the OP_REPLY to a hello.
struct reply loadgen_read_reply(const uint8_t *message, size_t length);

#endif
