// SPDX-License-Identifier: Apache-2.0
//
// What clients hold open in the deployment, and on which server: cursors and transactions. A driver
// goes on with them from any of its connections, so a pin belongs to the client that used it last;
// when that client goes away its pins are orphans, and an orphan that nobody resumes within the
// grace time is to be killed, so that it does not linger in the deployment.
//
// Bounded: when the table is full, the pin that was used least recently is forgotten (the server's
// own timeout ends it then), and so is what was not used for longer than any server keeps it.

#ifndef POLICY_PINS_H
#define POLICY_PINS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum pin_kind { PIN_CURSOR, PIN_TRANSACTION };

#define PIN_KINDS 2
#define PIN_NAMESPACE_BYTES 256 // database '.' collection, a server allows 255

// Ids of cursors are unique only on their server; who goes on with one sends the lsid that it was
// opened with (the server insists on it).
struct pin_key {
    enum pin_kind kind;
    uint32_t user;          // whose it is; 0: nobody logs in
    int64_t cursor_id;      // PIN_CURSOR
    uint8_t session_id[16]; // lsid.id; zeros: a cursor without a session
};

// Who opened it, and by what: the caller's, for its log.
struct pin_story {
    uint64_t client;
    char app_name[48];
    char peer[64];
    char shape[192];
};

// A connection that pins are tied to, where only that one of the server's will do. It lives as long
// as that connection, or a pin.
struct pin_tie {
    uint64_t connection; // the caller's number for it
    size_t pins;
    bool is_cut; // the connection is gone
};

struct pin {
    struct pin *bucket_next;
    struct pin *owner_next; // of its owner, or among the orphans, oldest first
    struct pin *owner_prev;
    struct pin *newer; // by use
    struct pin *older;
    struct pin_owner *owner; // NULL: an orphan
    struct pin_key key;
    uint32_t server;     // the caller's number for it
    int identity;        // likewise, for as whom the deployment knows its user
    uint64_t connection; // likewise, if only this one of the server's will do; or 0
    struct pin_tie *tie; // to it
    int64_t txn_number;  // PIN_TRANSACTION
    bool streams;        // PIN_CURSOR: its getMores wait for what may come
    bool was_tried;      // to be killed; the caller's
    bool in_use;         // false: the place is free
    bool is_busy;        // resumed, and not opened again or at rest since
    int64_t opened_us;
    int64_t used_us;                     // when it was last
    int64_t orphaned_us;                 // of an orphan
    char namespace[PIN_NAMESPACE_BYTES]; // PIN_CURSOR
    struct pin_story story;
};

// Embedded in whoever owns pins. All-zero is a valid empty one; it must be empty when it dies.
struct pin_owner {
    struct pin *first;
    bool is_elsewhere; // the caller's: in another process
};

struct pins;

// Takes the memory for `capacity` pins, 1 or more, at once; what was never used stays untouched.
struct pins *pins_new(size_t capacity);
void pins_free(struct pins *pins); // no owner may have pins any more

// Opens a pin, or takes one that exists over to `owner`, and counts as a use. `namespace` is copied
// ("" for a transaction), cut at PIN_NAMESPACE_BYTES - 1. Borrowed until the next call that changes
// something; a new one has `streams` and `was_tried` not set, `connection` and `identity` 0, no
// tie and an empty story.
struct pin *pins_open(struct pins *pins, const struct pin_key *key, uint32_t server,
                      int64_t txn_number, const char *namespace, struct pin_owner *owner,
                      int64_t now_us);

struct pin_tie *pin_tie_new(uint64_t connection);

// The connection is gone. NULL: no effect.
void pin_tie_cut(struct pin_tie *tie);

// Ties a pin to a connection, and to no other.
void pin_tie_to(struct pin *pin, struct pin_tie *tie);

// One pin less is tied to it. NULL: no effect.
void pin_untie(struct pin_tie *tie);

// The pin of a key, borrowed until the next call that changes something. Of a cursor that has none
// with this session, one of another session of the same user, if there is one: the server will say
// what it thinks of that. NULL if there is none.
const struct pin *pins_find(struct pins *pins, const struct pin_key *key);

// Whether there is such a cursor, and all that there are are other users'.
bool pins_is_foreign(struct pins *pins, const struct pin_key *key);

// Whether there is a pin of just this key.
bool pins_has(struct pins *pins, const struct pin_key *key);
bool pins_belongs(struct pins *pins, const struct pin_key *key, const struct pin_owner *owner);

// Says that `owner` goes on with a pin, which counts as a use: it is the owner now. No pin of just
// this key, no effect.
void pins_resume(struct pins *pins, const struct pin_key *key, struct pin_owner *owner,
                 int64_t now_us);

// Says that what a pin was resumed for has come to its end, and the pin may not have. No effect if
// it was opened again, or closed.
void pins_rest(struct pins *pins, const struct pin_key *key, int64_t now_us);

// The next pin of a kind that has an owner and was used by nobody for idle_us, each once until it
// is used again; NULL if there is none. Borrowed until the next call that changes something.
const struct pin *pins_next_idle(struct pins *pins, enum pin_kind kind, int64_t idle_us,
                                 int64_t now_us);

// When pins_next_idle is worth calling again, INT64_MAX if never.
int64_t pins_next_idle_at(const struct pins *pins, enum pin_kind kind, int64_t idle_us);

// Forgets a pin: the cursor is exhausted or killed, the transaction over. False: there is no pin of
// just this key.
bool pins_close(struct pins *pins, const struct pin_key *key);

// Forgets what was not used for idle_us.
void pins_expire(struct pins *pins, int64_t idle_us, int64_t now_us);

// Makes all pins of an owner orphans.
void pins_orphan(struct pins *pins, struct pin_owner *owner, int64_t now_us);

// Makes one an orphan that is due at once, whatever the grace time. No pin of just this key, no
// effect.
void pins_give_up(struct pins *pins, const struct pin_key *key);

// The oldest orphan if it is one for grace_us or longer, else NULL.
const struct pin *pins_due(const struct pins *pins, int64_t grace_us, int64_t now_us);

// Takes out what pins_due says: true and a copy in *ret_pin, its links cut, or false. The copy's
// tie counts as before, until pin_untie.
bool pins_reap(struct pins *pins, int64_t grace_us, int64_t now_us, struct pin *ret_pin);

// When pins_due has something again, INT64_MAX if there are no orphans.
int64_t pins_next_reap(const struct pins *pins, int64_t grace_us);

size_t pins_count(const struct pins *pins);
size_t pins_transactions(const struct pins *pins); // of these

// The pin in a place from 0 to pins_places-1, NULL if none is there just now. A pin keeps its
// place, so what looks at all of them may do so piece by piece.
size_t pins_places(const struct pins *pins);
const struct pin *pins_at(const struct pins *pins, size_t place);

#endif
