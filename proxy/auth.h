// SPDX-License-Identifier: Apache-2.0
//
// weir's authentication towards a server, as a conversation of documents: SCRAM-SHA-256 and -1 (RFC
// 5802, RFC 7677; source/auth/auth.md of mongodb/specifications) by libgsasl, MONGODB-X509 and
// PLAIN. Pure of sockets: the upstream carries the documents.
//
//      auth_begin -> (AUTH_SEND: command out, reply in -> auth_continue)* -> AUTH_DONE
//
// The salted password takes many ms to derive, so it is cached by salt and iterations: AUTH_DERIVE
// says that it is missing; have auth_derive run where blocking is allowed, then call auth_continue
// again.

#ifndef PROXY_AUTH_H
#define PROXY_AUTH_H

#include <bson/bson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct credential {
    char *mechanism; // SCRAM-SHA-256, SCRAM-SHA-1, MONGODB-X509, PLAIN; NULL: negotiated as a
                     // driver does
    char *username;  // NULL: none, or with MONGODB-X509 the certificate's subject
    char *password;
    char *source; // never NULL if there is a username: "admin" by default, "$external" for X509,
                  // PLAIN
};

// Salted passwords of one credential by mechanism, salt and iterations; thread-safe; wiped when
// freed.
struct key_cache;
struct key_cache *key_cache_new(void);
void key_cache_free(struct key_cache *cache);

enum auth_status {
    AUTH_SEND,   // *ret_command is to be sent, its reply goes to auth_continue
    AUTH_DERIVE, // the key is not cached: run auth_derive, then auth_continue
    AUTH_DONE,   // the server has proven itself, too
    AUTH_FAILED, // auth_error tells
};

struct auth;

// Borrows both until auth_free. NULL credential->username and mechanism: AUTH_DONE at once.
struct auth *auth_new(const struct credential *credential, struct key_cache *cache);
void auth_free(struct auth *auth);

// Appends saslSupportedMechs and speculativeAuthenticate to a hello, where the mechanism has them.
// Once, before auth_begin. May be left out; then nothing is known of the user, and a mechanism that
// is to be negotiated is SCRAM-SHA-1.
void auth_speculate(struct auth *auth, bson_t *hello);

// Begins with the reply to that hello (`hello_reply` may hold speculativeAuthenticate). Sets
// *ret_command (initialised by this function; owned by the caller, and whole: it has its $db) on
// AUTH_SEND only.
enum auth_status auth_begin(struct auth *auth, const bson_t *hello_reply, bson_t *ret_command)
    __attribute__((warn_unused_result));

// Goes on with a server's reply. After AUTH_DERIVE it goes on with the one it had: `reply` is not
// looked at then, the same one or NULL will do.
enum auth_status auth_continue(struct auth *auth, const bson_t *reply, bson_t *ret_command)
    __attribute__((warn_unused_result));

// Derives the key that AUTH_DERIVE missed, into the cache. Blocks for the time of the iterations
// (which are bounded: 4096 to 1,000,000; others are AUTH_FAILED). May be called from another thread
// while nobody else uses `auth`.
void auth_derive(struct auth *auth);

// Why it failed, for people, without secrets; holds what the server said, so it may hold any bytes
// but NUL. Borrowed; "" if it did not fail.
const char *auth_error(const struct auth *auth);

// Whether it failed because the server does not take this user and password (AuthenticationFailed),
// and not for what may pass by itself.
bool auth_is_rejected(const struct auth *auth);

#endif
