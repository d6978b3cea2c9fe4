// SPDX-License-Identifier: Apache-2.0
//
// Who may log in at weir, and what each may do then. Made from the configuration, and made anew by
// a reload; immutable but for the counts. The set and each user are reference-counted: whoever has
// logged in, and what they ask for, keep their user.
//
// What is not said is not allowed: a user without `databases` or `may` may do nothing but log in.

#ifndef PROXY_USERS_H
#define PROXY_USERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "policy/priority.h"
#include "proxy/config.h"
#include "proxy/config_entry.h"
#include "proxy/user_table.h"
#include "wire/bytes.h"

#define USER_FIELD(field, name, flag, type, ...) CONFIG_C_##type field;
struct user_spec {
    USER_OPTIONS(USER_FIELD)
};
struct identity_spec {
    IDENTITY_OPTIONS(USER_FIELD)
};
#undef USER_FIELD

extern const struct entry_table user_table;
extern const struct entry_table identity_table;

// Whether what a user may do makes sense, and if not, why.
bool user_spec_check(const struct user_spec *spec, char ret_reason[OPTION_REASON_BYTES]);

enum scram { SCRAM_256, SCRAM_1, SCRAM_COUNT };

extern const char *const scram_names[SCRAM_COUNT]; // "SCRAM-SHA-256", ...
extern const int scram_key_bytes[SCRAM_COUNT];

// What a server keeps of a password, in base64 but for the iterations (RFC 5802).
enum { SCRAM_TEXT_BYTES = 128 };
struct scram_keys {
    int iterations; // 0: none, the user does not have the mechanism
    char salt[SCRAM_TEXT_BYTES];
    char stored_key[SCRAM_TEXT_BYTES];
    char server_key[SCRAM_TEXT_BYTES];
};

enum { USER_MAY_READ = 1, USER_MAY_WRITE = 2, USER_MAY_ADMIN = 4 };

enum weir_right { WEIR_NO, WEIR_READ, WEIR_ACT };

struct user {
    struct user_spec spec;
    atomic_int references;
    uint32_t id;  // 1 and up; for good that of this name and db
    int identity; // 0: that of upstream.uri; else the place in identities, from 1 on
    unsigned may;
    struct scram_keys scram[SCRAM_COUNT];
    struct user *first;   // of the same name before all reloads, or itself: it counts for all
    atomic_int in_flight; // of `first`
};

struct users;

// Reads iterations:salt:storedKey:serverKey. False, with what would be right.
bool scram_keys_read(enum scram scram, const char *text, struct scram_keys *ret_keys,
                     char ret_reason[OPTION_REASON_BYTES]);

// NULL, with one line that says where and what, if any entry is wrong. Whoever is in `former`
// (NULL: none) goes on as the same. One reference.
struct users *users_new(const struct config *config, const struct users *former, char *ret_error,
                        size_t error_capacity);
struct users *users_keep(struct users *users);
void users_drop(struct users *users); // NULL is allowed

struct user *user_keep(struct user *user); // likewise
void user_drop(struct user *user);

// NULL: there is none.
struct user *users_find(const struct users *users, struct bytes db, struct bytes name);

size_t users_count(const struct users *users);
struct user *users_at(const struct users *users, size_t place);

bool user_may_use(const struct user *user, struct bytes database);

// The session that an app's session is in the deployment: its id and the user's name, digested. As
// a server keeps sessions of different users apart, although all of weir's come from one.
void user_session_id(const struct user *user, uint8_t id[16]);

#endif
