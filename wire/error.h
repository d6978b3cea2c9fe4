// SPDX-License-Identifier: Apache-2.0
//
// What can be wrong with a message, and the error code a mongod answers it with.
// Codes: src/mongo/base/error_codes.yml and src/mongo/rpc/op_msg.cpp of the server.

#ifndef WIRE_ERROR_H
#define WIRE_ERROR_H

#include <stdbool.h>

//      name                   code   closes  text
// `closes`: after this, the connection cannot be trusted to be in step, so the answer ends it.
#define WIRE_ERRORS(X)                                                                             \
    X(WIRE_OK, 0, false, "ok")                                                                     \
    X(WIRE_BAD_FLAGS, 223, true, "OP_MSG has a required flag bit that is not known")               \
    X(WIRE_TOO_MANY_SEQUENCES, 233, true, "OP_MSG has more than two document sequences")           \
    X(WIRE_BAD_CHECKSUM, 288, true, "OP_MSG checksum does not match")                              \
    X(WIRE_TWO_BODIES, 40430, false, "OP_MSG has more than one body section")                      \
    X(WIRE_DUPLICATE_SEQUENCE, 40431, false, "OP_MSG has two sequences of one name")               \
    X(WIRE_UNKNOWN_SECTION, 40432, true, "OP_MSG has a section of unknown kind")                   \
    X(WIRE_FIELD_TWICE, 40433, false, "OP_MSG has a field both in the body and as a sequence")     \
    X(WIRE_NO_SEQUENCE, 40415, false, "OP_MSG has as a sequence what is a field of the body")      \
    X(WIRE_NO_BODY, 40587, false, "OP_MSG has no body section")                                    \
    X(WIRE_NO_DB, 40571, false, "OP_MSG requests need a $db argument of type string")              \
    X(WIRE_DB_IN_QUERY, 40621, false, "$db is not allowed in OP_QUERY requests")                   \
    X(WIRE_EMPTY_COMMAND, 59, false, "no command: the body is empty")                              \
    X(WIRE_BAD_BSON, 22, false, "malformed BSON")                                                  \
    X(WIRE_TOO_DEEP, 22, false, "BSON is nested deeper than 200 levels")                           \
    X(WIRE_TRUNCATED, 22, true, "message is shorter than what it holds")                           \
    X(WIRE_MUST_BE_PLAIN, 17, true, "this command must never be compressed")                       \
    X(WIRE_BAD_QUERY, 352, true, "unsupported OP_QUERY: only hello is taken over OP_QUERY")

enum wire_error {
#define X(name, code, closes, text) name,
    WIRE_ERRORS(X)
#undef X
};

// The server's error code, 0 for WIRE_OK.
int wire_error_code(enum wire_error error);

// One sentence without trailing period, for the reply's errmsg and the log.
const char *wire_error_text(enum wire_error error);

// Whether the connection must be closed after the answer.
bool wire_error_closes(enum wire_error error);

#endif
