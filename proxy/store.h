// SPDX-License-Identifier: Apache-2.0
//
// The store of a fleet, Redis or Valkey, as one thread talks to it: one question at a time, each
// with the time that it may take. Finds it, by its name or by asking Sentinels, connects (TLS),
// logs in, and has it learn a script.
//
// Nothing here blocks: who waits runs the loop meanwhile, so that timers on it go on. hiredis does
// the protocol, the sockets are net's. A name is looked up by a thread of its own, which is left
// behind if it takes too long.

#ifndef PROXY_STORE_H
#define PROXY_STORE_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proxy/net/loop.h"
#include "proxy/net/tls.h"
#include "proxy/store_address.h"

struct store;

struct store_options {
    struct store_address address;
    const char *user;              // NULL: the default one
    const char *password_file;     // NULL: no login. Read at each login
    struct tls_client_options tls; // if the address says so
    const char *script;            // borrowed for ever
};

// Whether the files are good; else a line in ret_error.
bool store_check(const struct store_options *options, char *ret_error, size_t capacity);

// The options' strings are borrowed.
struct store *store_new(const struct store_options *options, struct loop *loop);
void store_free(struct store *store);

// Connects if it is not. False: store_error tells.
bool store_reach(struct store *store);
bool store_is_there(const struct store *store); // as far as is known

// Runs the script. NULL: no answer came, or an error, and the connection is closed (store_error).
// Else it is the caller's, for freeReplyObject.
redisReply *store_run(struct store *store, int count, const char **arguments);

// What came was no answer: closes the connection.
void store_reject(struct store *store, const char *why);

// Where it is connected to, "" before the first time. Borrowed until the next call.
const char *store_peer(const struct store *store);

// Of the last failure. Borrowed likewise.
const char *store_error(const struct store *store);

#endif
