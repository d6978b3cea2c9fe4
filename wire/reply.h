// SPDX-License-Identifier: Apache-2.0
//
// Replies: reading a server's as it arrives, changing the few that must be, and building our own.

#ifndef WIRE_REPLY_H
#define WIRE_REPLY_H

#include <bson/bson.h>

#include "wire/buffer.h"
#include "wire/bytes.h"
#include "wire/frame.h"

#define ERROR_LABELS(X)                                                                            \
    X(LABEL_RETRYABLE_WRITE, 0, "RetryableWriteError")                                             \
    X(LABEL_TRANSIENT_TRANSACTION, 1, "TransientTransactionError")                                 \
    X(LABEL_NO_WRITES_PERFORMED, 2, "NoWritesPerformed")                                           \
    X(LABEL_SYSTEM_OVERLOADED, 3, "SystemOverloadedError")                                         \
    X(LABEL_RETRYABLE, 4, "RetryableError")                                                        \
    X(LABEL_RESUMABLE_CHANGE_STREAM, 5, "ResumableChangeStreamError")                              \
    X(LABEL_UNKNOWN_TRANSACTION_COMMIT, 6, "UnknownTransactionCommitResult")

enum error_label {
#define X(name, bit, text) name = 1 << bit,
    ERROR_LABELS(X)
#undef X
};

// The enum error_label of a label's text, 0 if it is none of them.
unsigned reply_label(struct bytes text);

// What weir must know of a reply.
struct reply_view {
    struct frame frame;
    bool ok;
    int32_t code; // of an error reply; 0 if it has none
    int32_t write_concern_code;
    unsigned labels; // enum error_label; others are not told
    bool has_cursor;
    int64_t cursor_id; // cursor.id; 0 when exhausted or absent
};

// Reads one reply from pieces of any size, without keeping the bytes: the relay need not wait for
// the end of 48 MB to pass on the beginning. Goes over the top level and into `cursor`,
// `errorLabels` and `writeConcernError`; leaps over everything else, by its length. What it finds
// does not depend on how the bytes were cut. Of a field that comes twice the last counts.
//
//      reply_scan_begin -> (reply_scan_feed -> REPLY_MORE)* -> reply_scan_feed -> REPLY_DONE
struct reply_scan {
    struct reply_view view;
    size_t remaining; // bytes of the message that have not come yet, once the header has

    // Private.
    uint8_t step;      // what the next byte belongs to
    uint8_t context;   // the document that the next element stands in
    uint8_t field;     // the element being read, if it is one we know,
    uint8_t type;      // and its type
    uint8_t want;      // bytes of its value to gather in one piece
    uint8_t strings;   // of a regular expression that have not come
    uint8_t held;      // bytes in `hold`
    uint8_t hold[64];  // what must be seen in one piece and comes in several
    size_t skip;       // bytes to leap over
    size_t reply_left; // bytes left of the reply's document, beyond what is open below it
    size_t inner_left; // bytes left of the document that is open below it
};

enum reply_status {
    REPLY_MORE, // all bytes were taken, the reply goes on
    REPLY_DONE, // the reply's last byte was among them; bytes after it were not taken
    REPLY_BAD,  // this is not a reply that can be followed: close the upstream
};

void reply_scan_begin(struct reply_scan *scan);

// Takes up to `len` bytes (`at` is not NULL); *ret_taken says how many belong to this reply.
// REPLY_BAD, then and ever after: impossible length, an opcode other than OP_MSG, unknown required
// flags, moreToCome (never asked for), anything but one body section that fills the message (a
// checksum apart), BSON that lies.
enum reply_status reply_scan_feed(struct reply_scan *scan, const uint8_t *at, size_t len,
                                  size_t *ret_taken) __attribute__((warn_unused_result));

// Whether a code says that a server changed state (not primary, recovering, shutting down). A
// driver that sees one marks the proxy's address unknown and stalls; for the list see "error
// handling" in source/server-discovery-and-monitoring of mongodb/specifications.
bool reply_is_state_change(int32_t code);

// Appends to `out` the reply `message` (whole, REPLY_DONE by a scan) as a mongos would pass it on:
// a state-change code, on top or in writeConcernError, becomes 6 HostUnreachable; topologyVersion
// and a checksum are left out; labels in `drop_labels` are left out; everything else as it was. It
// goes over the levels that the scan went over, and copies what lies deeper unread.
// With keep_code the code stays as well.
void reply_rewrite(struct bytes message, unsigned drop_labels, bool keep_code, struct buffer *out);

// An error of ours.
struct reply_error {
    int32_t code;
    const char *message;     // UTF-8, for people: says what to do
    unsigned labels;         // enum error_label
    int64_t base_backoff_ms; // sent if positive
};

// The server's name for a code we send ("HostUnreachable"), "Error" if we do not know it.
const char *reply_code_name(int32_t code);

// Appends to `document` ok: 0, errmsg, code, codeName, errorLabels, baseBackoffMS.
void reply_error_document(const struct reply_error *error, bson_t *document);

// Appends a whole message with the body `document`: an OP_MSG without checksum, or an OP_REPLY
// where the request was an OP_QUERY. `request_id` is our own, any number.
void reply_append(struct buffer *out, int32_t request_id, int32_t response_to, bool as_op_reply,
                  const bson_t *document);

#endif
