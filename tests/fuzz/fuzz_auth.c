// SPDX-License-Identifier: Apache-2.0
//
// A whole login to a server that says anything.
//
//      input: how 1 | the reply to hello: kind 1, length 2, bytes | the next reply | …
//
// A reply is a document as it stands, or (odd kind) a SASL payload as scram_server.h has it.
// AUTH_DONE by SCRAM must come only of a right signature.

#include "proxy/auth.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/scram_server.h"

enum { ROUNDS_MOST = 8 };
enum { HOW_MECHANISM = 7, HOW_SPECULATE = 8, HOW_NO_USER = 16 };
enum { KIND_PAYLOAD = 1 };

// A reply in a block of its own. False: it is no document, and would not come to auth.
static bool make_reply(const struct scram_server *server, uint8_t kind, struct bytes form,
                       bool in_hello, uint8_t **ret_block, bson_t *ret_reply)
{
    bson_t made = BSON_INITIALIZER;
    if (kind & KIND_PAYLOAD) {
        bson_destroy(&made);
        scram_server_reply(server, kind, form, in_hello, &made);
        form = (struct bytes){bson_get_data(&made), made.len};
    }
    *ret_block = exact_copy(form.at, form.len);
    bson_destroy(&made);
    return bson_check((struct bytes){*ret_block, form.len}) == WIRE_OK &&
           bson_init_static(ret_reply, *ret_block, form.len);
}

static enum auth_status take_reply(struct auth *auth, const bson_t *reply, bool in_hello,
                                   struct scram_server *server)
{
    bson_t command = {.flags = 0xdead};
    enum auth_status status =
        in_hello ? auth_begin(auth, reply, &command) : auth_continue(auth, reply, &command);
    if (status == AUTH_DERIVE) {
        MUST(command.flags == 0xdead);
        auth_derive(auth);
        status = auth_continue(auth, NULL, &command);
        MUST(status != AUTH_DERIVE);
    }
    if (status == AUTH_SEND) {
        scram_server_take_command(server, &command);
        bson_destroy(&command);
    } else {
        MUST(command.flags == 0xdead);
    }
    return status;
}

static enum auth_status converse(struct auth *auth, struct scram_server *server,
                                 struct input *input)
{
    enum auth_status status = AUTH_SEND;
    for (int round = 0; round < ROUNDS_MOST && status == AUTH_SEND && input->len > 0; round++) {
        uint8_t *block = NULL;
        bson_t reply;
        uint8_t kind = input_byte(input);
        struct bytes form = input_piece(input);
        bool in_hello = round == 0;
        bool valid = make_reply(server, kind, form, in_hello, &block, &reply);
        if (valid) {
            scram_server_note(server, &reply, in_hello);
            status = take_reply(auth, &reply, in_hello, server);
        }
        free(block);
        if (!valid) {
            break;
        }
    }
    return status;
}

static void log_in(const struct credential *credential, bool speculates, struct input *input)
{
    static struct key_cache *cache;
    cache = cache ? cache : key_cache_new();
    struct scram_server server = {0};
    struct auth *auth = auth_new(credential, cache);
    bson_t hello = BSON_INITIALIZER;
    if (speculates) {
        auth_speculate(auth, &hello);
        scram_server_take_hello(&server, &hello);
    }
    enum auth_status status = converse(auth, &server, input);
    if (status == AUTH_DONE && server.digest) {
        scram_server_check_proven(&server);
    }
    MUST((status == AUTH_FAILED) == (auth_error(auth)[0] != '\0'));
    MUST(!holds_text(auth_error(auth), strlen(auth_error(auth)), SCRAM_PASSWORD));
    auth_free(auth);
    bson_destroy(&hello);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char *const mechanisms[] = {NULL, "SCRAM-SHA-256", "SCRAM-SHA-1", "MONGODB-X509",
                                       "PLAIN"};
    struct input input = {data, size};
    if (holds_text(data, size, SCRAM_PASSWORD)) {
        return 0;
    }
    uint8_t how = input_byte(&input);
    char *mechanism = mechanisms[(how & HOW_MECHANISM) % 5];
    struct credential credential = {mechanism, SCRAM_USER, SCRAM_PASSWORD, "admin"};
    if (how & HOW_NO_USER && (!mechanism || strcmp(mechanism, "MONGODB-X509") == 0)) {
        credential.username = NULL;
    }
    log_in(&credential, how & HOW_SPECULATE, &input);
    return 0;
}
