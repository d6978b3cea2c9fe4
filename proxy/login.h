// SPDX-License-Identifier: Apache-2.0
//
// Apps' authentication at weir, the server's side: SCRAM-SHA-256 and -1 (RFC 5802, RFC 7677) by
// libgsasl, from stored keys, so that nothing here takes long; and MONGODB-X509. weir's own towards
// a server is auth.h. Pure of sockets and of time.
//
//      login_start -> LOGIN_GOES_ON -> login_continue -> (LOGIN_GOES_ON -> login_continue)
//                                                     -> LOGIN_DONE
//
// Who does not exist is told nothing else than who has a wrong password: the same messages, with a
// salt that is always the same, and the refusal at the end.

#ifndef PROXY_LOGIN_H
#define PROXY_LOGIN_H

#include <bson/bson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "policy/penalties.h"
#include "proxy/users.h"
#include "wire/bytes.h"

enum { LOGIN_SECRET_BYTES = 32 };

// What all logins share.
struct logins;

// Keeps the users. From the secret come the salts of users who do not exist.
struct logins *logins_new(struct users *users, const uint8_t secret[LOGIN_SECRET_BYTES]);
void logins_free(struct logins *logins);

// Logins that begin from now on are by these, which it keeps.
void logins_exchange(struct logins *logins, struct users *users);

// As penalties.h has it; any thread. `address` NULL: of a Unix socket.
int64_t logins_wait(struct logins *logins, const uint8_t *address, int64_t now_us);
void logins_failed(struct logins *logins, const uint8_t *address, int64_t now_us);

enum login_status {
    LOGIN_GOES_ON,
    LOGIN_DONE,
    LOGIN_REFUSED,      // login_why tells, for the log alone
    LOGIN_NO_MECHANISM, // weir does not have it
    LOGIN_OUT_OF_PLACE, // no such conversation
};

// A conversation under way.
struct login;

// Takes a saslStart, or what a hello has under speculativeAuthenticate, for a user of `database`.
// Appends the answer on LOGIN_GOES_ON. *ret_login is the caller's to free in any case.
enum login_status login_start(struct logins *logins, struct bytes command, struct bytes database,
                              struct login **ret_login, bson_t *reply)
    __attribute__((warn_unused_result));

// Takes a saslContinue. Appends the answer on LOGIN_GOES_ON and LOGIN_DONE. NULL login: none is
// under way.
enum login_status login_continue(struct login *login, struct bytes command, bson_t *reply)
    __attribute__((warn_unused_result));

// Takes an `authenticate` of whoever showed a certificate with this subject (NULL: none).
enum login_status login_by_certificate(struct logins *logins, struct bytes command,
                                       const char *subject, struct login **ret_login, bson_t *reply)
    __attribute__((warn_unused_result));

// Goes on as that user of these, if he is there: with the keys that it began with.
void login_follow(struct login *login, struct users *users);

// NULL is nothing.
void login_free(struct login *login);

// Whether the next saslContinue holds the proof.
bool login_wants_proof(const struct login *login);

// Whose it is, after LOGIN_DONE. The login keeps it.
struct user *login_user(const struct login *login);

// Who it would be, and in how far not: for the log. Borrowed.
const char *login_name(const struct login *login);
const char *login_db(const struct login *login);
const char *login_mechanism(const struct login *login);
const char *login_why(const struct login *login);

// Whether both are for the same user by the same name.
bool login_same_user(const struct login *a, const struct login *b);

// Appends saslSupportedMechs for "database.user".
void logins_append_mechanisms(struct logins *logins, struct bytes user, bson_t *hello);

// Whether that user may have begun with the mechanism that `command` names, as far as anybody can
// tell: only then a hello's speculation is answered.
bool login_is_likely(const struct login *login);

#endif
