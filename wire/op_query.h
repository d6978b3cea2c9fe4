// SPDX-License-Identifier: Apache-2.0
//
// OP_QUERY, as far as drivers still use it: the first hello of a connection, to "<database>.$cmd".
// Its answer is an OP_REPLY. (source/mongodb-handshake/handshake.md of mongodb/specifications.)

#ifndef WIRE_OP_QUERY_H
#define WIRE_OP_QUERY_H

#include "wire/bytes.h"
#include "wire/error.h"

struct op_query {
    uint32_t flags;
    struct bytes database; // what stands before ".$cmd"
    struct bytes body;     // the command, taken out of a $query wrapper; proven by bson_check
};

// Reads a whole message of opcode OP_QUERY. A collection other than $cmd is WIRE_BAD_QUERY, a body
// with $db WIRE_DB_IN_QUERY. Whether the command may come over OP_QUERY is the caller's question.
enum wire_error op_query_read(struct bytes message, struct op_query *ret_query)
    __attribute__((warn_unused_result));

#endif
