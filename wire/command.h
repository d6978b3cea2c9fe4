// SPDX-License-Identifier: Apache-2.0
//
// A command as a view: what weir must know of a request to route, admit and account for it, read in
// one pass over the top level of its body.

#ifndef WIRE_COMMAND_H
#define WIRE_COMMAND_H

#include "wire/bytes.h"
#include "wire/command_table.h"
#include "wire/error.h"
#include "wire/op_msg.h"
#include "wire/op_query.h"

enum read_mode {
    READ_PRIMARY, // also when $readPreference is absent
    READ_PRIMARY_PREFERRED,
    READ_SECONDARY,
    READ_SECONDARY_PREFERRED,
    READ_NEAREST,
};

// Everything borrows from the message. Absent fields, and those of a wrong type, are zero, empty or
// false: to complain of them is the server's task. Of a field that comes twice the first counts.
struct command {
    const struct command_info *info; // never NULL: unknown names have the entry "other"
    struct bytes name;               // the body's first key, as it came
    struct bytes body;
    struct bytes database;
    struct bytes collection; // the first element's string (getMore: field "collection"; "" if none)
    struct bytes lsid;       // the document `lsid`
    struct bytes lsid_id;    // the 16 bytes of lsid.id; empty unless it is a UUID
    struct bytes comment;    // the raw value; its type in comment_type
    uint8_t comment_type;
    struct bytes read_preference; // the document $readPreference
    enum read_mode read_mode;
    int64_t txn_number;
    bool has_txn_number;
    bool in_transaction;    // autocommit: false
    bool start_transaction; // startTransaction: true
    bool has_max_time;
    int64_t max_time_ms;
    size_t max_time_offset; // where in the message its value stands, if has_max_time
    uint8_t max_time_type;  // of the field maxTimeMS, whatever it is; 0: there is none
    bool unacknowledged;    // OP_MSG with moreToCome: no reply is expected
    bool streams;           // opens a change stream or a tailable cursor that awaits data
    bool writes_out;        // an aggregate that ends in $out or $merge, although its trait is READ
    int64_t cursor_id;      // of a getMore; 0 otherwise
    struct bytes cursors;   // the array of a killCursors
    struct bytes write_concern;
    size_t w_offset; // where in the message the value of writeConcern.w stands if it is the number
                     // 0 (int32, int64 or double), else 0
    uint8_t w_type;
};

// Reads the command of a message. `message` is what *msg was read from. WIRE_NO_DB,
// WIRE_EMPTY_COMMAND, WIRE_FIELD_TWICE (a sequence's name is also a field), WIRE_NO_SEQUENCE (it is
// that of a field that is read here), WIRE_BAD_BSON.
enum wire_error command_read(struct bytes message, const struct op_msg *msg,
                             struct command *ret_command) __attribute__((warn_unused_result));

// The same for an OP_QUERY; the database comes from the query's namespace.
enum wire_error command_read_query(struct bytes message, const struct op_query *query,
                                   struct command *ret_command) __attribute__((warn_unused_result));

// The 16 bytes of the id in an lsid; empty unless it is a UUID. Borrows.
struct bytes command_session_id(struct bytes lsid);

// Turns writeConcern {w: 0} into {w: 1} in the message, in place, so that the server replies.
// Does nothing when w_offset is 0.
void command_acknowledge(const struct command *command, uint8_t *message);

// Whether the request is a retryable write: a txnNumber outside a transaction.
bool command_is_retryable_write(const struct command *command);

// Whether the request does no harm when it is sent once more, perhaps to another server: a read, or
// a retryable write. What it goes on with may have moved on, which a driver can tell; what it kills
// is known to one server only (another one's operation may have the same number).
bool command_may_repeat(const struct command *command);

// Whether the command is commitTransaction or abortTransaction.
bool command_ends_transaction(const struct command *command);

// Whether the command finishes or goes on with what holds resources in the deployment: getMore,
// killCursors, endSessions, commit, abort, the commands that kill operations or sessions, and every
// statement of a transaction but the first.
// These go first and are never shed.
bool command_finishes(const struct command *command);

#endif
