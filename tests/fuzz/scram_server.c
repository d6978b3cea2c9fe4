// SPDX-License-Identifier: Apache-2.0

#include "tests/fuzz/scram_server.h"

#include <gsasl.h>
#include <openssl/hmac.h>

#include "tests/fuzz/fuzz.h"

#define NONCE "rOprNGfwEbeRWgbNEkqOAAAA" // base64 of 18 bytes

enum { HASH = 32 };

// --- in the places of OpenSSL's and libgsasl's own ----------------------------------------------

int gsasl_nonce(char *data, size_t bytes)
{
    unsigned char decoded[64];
    MUST(bytes == 18 && EVP_DecodeBlock(decoded, (const unsigned char *)NONCE, 24) == 18);
    memcpy(data, decoded, bytes);
    return GSASL_OK;
}

// One round instead of thousands.
int PKCS5_PBKDF2_HMAC(const char *password, int password_bytes, const unsigned char *salt,
                      int salt_bytes, int iterations, const EVP_MD *digest, int key_bytes,
                      unsigned char *ret_key)
{
    unsigned char key[EVP_MAX_MD_SIZE];
    unsigned bytes;
    MUST(iterations >= 4096 && iterations <= 1000000 && salt_bytes >= 0);
    MUST(HMAC(digest, password, password_bytes, salt, (size_t)salt_bytes, key, &bytes));
    MUST((unsigned)key_bytes == bytes);
    memcpy(ret_key, key, bytes);
    return 1;
}

// --- the server's side of SCRAM -----------------------------------------------------------------

static void hmac(const EVP_MD *digest, const void *key, const void *text, size_t len,
                 unsigned char ret_mac[HASH])
{
    MUST(HMAC(digest, key, EVP_MD_get_size(digest), text, len, ret_mac, NULL));
}

// Empty if the salt is none.
static void right_signature(const struct scram_server *server, char ret_text[64])
{
    const char *from = strstr(server->first, ",s=");
    size_t len = from ? strcspn(from + 3, ",") : 0;
    char *salt = NULL;
    size_t salt_bytes = 0;
    unsigned char salted[HASH], key[HASH], signature[HASH];
    ret_text[0] = '\0';
    if (!from || gsasl_base64_from(from + 3, len, &salt, &salt_bytes) != GSASL_OK) {
        return;
    }
    PKCS5_PBKDF2_HMAC(server->password, (int)strlen(server->password), (unsigned char *)salt,
                      (int)salt_bytes, 4096, server->digest, EVP_MD_get_size(server->digest),
                      salted);
    hmac(server->digest, salted, "Server Key", 10, key);
    hmac(server->digest, key, server->auth_message, strlen(server->auth_message), signature);
    EVP_EncodeBlock((unsigned char *)ret_text, signature, EVP_MD_get_size(server->digest));
    gsasl_free(salt);
}

static void take_client_message(struct scram_server *server, const char *text)
{
    const char *proof = strstr(text, ",p=");
    if (strncmp(text, "n,,", 3) == 0) {
        MUST(strcmp(text, "n,,n=" SCRAM_USER ",r=" NONCE) == 0);
        snprintf(server->first_bare, SCRAM_TEXT, "%s", text + 3);
    } else if (proof) {
        snprintf(server->first, SCRAM_TEXT, "%s", server->said);
        snprintf(server->auth_message, sizeof(server->auth_message), "%s,%s,%.*s",
                 server->first_bare, server->first, (int)(proof - text), text);
    }
}

static size_t fill_form(const struct scram_server *server, struct bytes form,
                        char ret_text[SCRAM_TEXT])
{
    char signature[64] = "";
    size_t used = 0;
    if (server->auth_message[0] != '\0') {
        right_signature(server, signature);
    }
    for (size_t i = 0; i < form.len && used < SCRAM_TEXT - 64; i++) {
        char one[2] = {(char)form.at[i], 0};
        const char *put = one[0] == 1 ? NONCE : one[0] == 2 ? signature : one;
        used += (size_t)snprintf(ret_text + used, SCRAM_TEXT - used, "%s", put);
    }
    return used;
}

// --- what is said -------------------------------------------------------------------------------

void scram_server_reply(const struct scram_server *server, uint8_t kind, struct bytes form,
                        bool in_hello, bson_t *ret_document)
{
    bson_t inner = BSON_INITIALIZER;
    char text[SCRAM_TEXT];
    size_t len = fill_form(server, form, text);
    BSON_APPEND_INT32(&inner, "conversationId", kind & SCRAM_OTHER_ID ? 7 : 1);
    BSON_APPEND_BOOL(&inner, "done", kind & SCRAM_DONE);
    BSON_APPEND_BINARY(&inner, "payload", BSON_SUBTYPE_BINARY, (uint8_t *)text, (uint32_t)len);
    BSON_APPEND_DOUBLE(&inner, "ok", kind & SCRAM_REFUSED ? 0 : 1);
    bson_init(ret_document);
    if (in_hello) {
        BSON_APPEND_DOCUMENT(ret_document, "speculativeAuthenticate", &inner);
        BSON_APPEND_BOOL(ret_document, "ok", true);
    } else {
        bson_concat(ret_document, &inner);
    }
    bson_destroy(&inner);
}

// The payload in a document, as a text; false if there is none.
static bool read_payload(const bson_t *document, char ret_text[SCRAM_TEXT])
{
    bson_iter_t iter;
    uint32_t len;
    const uint8_t *at;
    if (!bson_iter_init_find(&iter, document, "payload") || !BSON_ITER_HOLDS_BINARY(&iter)) {
        return false;
    }
    bson_iter_binary(&iter, NULL, &len, &at);
    snprintf(ret_text, SCRAM_TEXT, "%.*s", (int)len, (const char *)at);
    return true;
}

void scram_server_note(struct scram_server *server, const bson_t *reply, bool in_hello)
{
    bson_iter_t iter;
    bson_t inner;
    if (in_hello && bson_iter_init_find(&iter, reply, "speculativeAuthenticate") &&
        BSON_ITER_HOLDS_DOCUMENT(&iter)) {
        uint32_t len;
        const uint8_t *at;
        bson_iter_document(&iter, &len, &at);
        MUST(bson_init_static(&inner, at, len));
        reply = &inner;
    }
    if (read_payload(reply, server->said) && server->auth_message[0] != '\0' &&
        server->final[0] == '\0') {
        snprintf(server->final, SCRAM_TEXT, "%s", server->said);
    }
}

static void take_mechanism(struct scram_server *server, const char *name)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    server->digest = strcmp(name, "SCRAM-SHA-256") == 0 ? EVP_sha256()
                     : strcmp(name, "SCRAM-SHA-1") == 0 ? EVP_sha1()
                                                        : NULL;
    snprintf(server->password, SCRAM_TEXT, "%s", SCRAM_PASSWORD);
    if (server->digest == EVP_sha1()) {
        static const char text[] = SCRAM_USER ":mongo:" SCRAM_PASSWORD;
        EVP_Digest(text, strlen(text), digest, NULL, EVP_md5(), NULL);
        for (int i = 0; i < 16; i++) {
            snprintf(server->password + 2 * i, 3, "%02x", digest[i]);
        }
    }
}

// What weir says, in a command or in the hello.
static void take_document(struct scram_server *server, const bson_t *document)
{
    bson_iter_t iter;
    char text[SCRAM_TEXT];
    if (bson_iter_init_find(&iter, document, "mechanism")) {
        take_mechanism(server, bson_iter_utf8(&iter, NULL));
    }
    if (bson_iter_init_find(&iter, document, "mechanism") &&
        strcmp(bson_iter_utf8(&iter, NULL), "PLAIN") == 0) {
        return;
    }
    MUST(!holds_text(bson_get_data(document), document->len, SCRAM_PASSWORD));
    if (read_payload(document, text)) {
        take_client_message(server, text);
    }
}

void scram_server_take_command(struct scram_server *server, const bson_t *command)
{
    bson_iter_t iter;
    MUST(bson_check((struct bytes){bson_get_data(command), command->len}) == WIRE_OK);
    MUST(bson_iter_init_find(&iter, command, "$db") && BSON_ITER_HOLDS_UTF8(&iter));
    take_document(server, command);
}

void scram_server_take_hello(struct scram_server *server, const bson_t *hello)
{
    bson_iter_t iter;
    uint32_t len;
    const uint8_t *at;
    bson_t inner;
    MUST(bson_check((struct bytes){bson_get_data(hello), hello->len}) == WIRE_OK);
    if (bson_iter_init_find(&iter, hello, "speculativeAuthenticate")) {
        bson_iter_document(&iter, &len, &at);
        MUST(bson_init_static(&inner, at, len));
        take_document(server, &inner);
    }
}

void scram_server_check_proven(const struct scram_server *server)
{
    char signature[64];
    MUST(server->auth_message[0] != '\0');
    right_signature(server, signature);
    MUST(signature[0] != '\0' && strncmp(server->final, "v=", 2) == 0);
    MUST(strncmp(server->final + 2, signature, strlen(signature)) == 0);
    MUST(strncmp(server->first, "r=" NONCE, 2 + strlen(NONCE)) == 0);
}
