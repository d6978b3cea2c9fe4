// SPDX-License-Identifier: Apache-2.0
//
// The server's side of SCRAM, for a fuzzer that plays the server: it says anything, but in what it
// says some bytes stand for what nobody can guess. The client's nonce is always the same, and
// deriving a key takes one round: scram_server.c stands in for these two of libgsasl and OpenSSL.

#ifndef TESTS_FUZZ_SCRAM_SERVER_H
#define TESTS_FUZZ_SCRAM_SERVER_H

#include <bson/bson.h>
#include <openssl/evp.h>

#include "wire/bytes.h"

#define SCRAM_USER "app"
#define SCRAM_PASSWORD "Zk9qW7pX2vL4"

enum { SCRAM_TEXT = 2048 };

enum scram_kind { SCRAM_DONE = 2, SCRAM_REFUSED = 4, SCRAM_OTHER_ID = 8 };

struct scram_server {
    const EVP_MD *digest;      // of the mechanism that was asked for last; NULL: none of SCRAM
    char password[SCRAM_TEXT]; // as it is salted
    char first_bare[SCRAM_TEXT];
    char said[SCRAM_TEXT]; // the payload that was said last
    char first[SCRAM_TEXT];
    char auth_message[3 * SCRAM_TEXT]; // once the client's last message has come
    char final[SCRAM_TEXT];            // what was said to it
};

// Makes a reply (the caller destroys it) with the payload `form`, in which 1 stands for the
// client's nonce and 2 for the right signature. `kind` is of enum scram_kind. In a reply to hello
// it is the speculative one.
void scram_server_reply(const struct scram_server *server, uint8_t kind, struct bytes form,
                        bool in_hello, bson_t *ret_document);

// Takes down what is said to weir, and what weir says: a hello, a command.
void scram_server_note(struct scram_server *server, const bson_t *reply, bool in_hello);
void scram_server_take_hello(struct scram_server *server, const bson_t *hello);
void scram_server_take_command(struct scram_server *server, const bson_t *command);

// Ends the process unless what was said to weir last proves that the server knows the password.
void scram_server_check_proven(const struct scram_server *server);

#endif
