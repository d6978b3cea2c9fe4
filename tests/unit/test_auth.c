// SPDX-License-Identifier: Apache-2.0
//
// Authentication, against a server played here: its arithmetic is written from RFC 5802 with
// OpenSSL's HMAC alone, and is held against the vectors of the RFCs before it judges anybody.

#include "proxy/auth.h"

#include <gsasl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <cmocka.h>

#define NONCE "fyko+d2lbbFgONRv9qkxdawL"

enum { TEXT = 1024, HASH = 32 };

// Stands in for libgsasl's: the client's nonce is NONCE where a test wants a vector.
static bool nonce_is_fixed;

int gsasl_nonce(char *data, size_t bytes)
{
    unsigned char decoded[TEXT];
    if (!nonce_is_fixed) {
        return getrandom(data, bytes, 0) == (ssize_t)bytes ? GSASL_OK : GSASL_CRYPTO_ERROR;
    }
    assert_int_equal(EVP_DecodeBlock(decoded, (const unsigned char *)NONCE, strlen(NONCE)), bytes);
    memcpy(data, decoded, bytes);
    return GSASL_OK;
}

// Text of TEXT bytes at most.
static void __attribute__((format(printf, 2, 3))) format(char *ret_text, const char *form, ...)
{
    va_list list;
    va_start(list, form);
    int bytes = vsnprintf(ret_text, TEXT, form, list);
    va_end(list);
    assert_true(bytes >= 0 && bytes < TEXT);
}

// ---- the server's side of SCRAM ----

struct party {
    const EVP_MD *digest;
    char password[TEXT]; // as it is salted
    char salt[TEXT];     // in base64
    int iterations;
    char snonce[TEXT]; // what the server adds to the client's nonce
    char auth_message[3 * TEXT];
};

static size_t digest_bytes(const struct party *party)
{
    return (size_t)EVP_MD_get_size(party->digest);
}

static void hmac(const struct party *party, const void *key, size_t key_bytes, const void *text,
                 size_t bytes, unsigned char ret_mac[HASH])
{
    unsigned mac_bytes;
    assert_non_null(HMAC(party->digest, key, (int)key_bytes, text, bytes, ret_mac, &mac_bytes));
    assert_int_equal(mac_bytes, digest_bytes(party));
}

static void to_base64(const unsigned char *bytes, size_t count, char *ret_text)
{
    EVP_EncodeBlock((unsigned char *)ret_text, bytes, (int)count);
}

static size_t from_base64(const char *text, unsigned char *ret_bytes)
{
    int bytes = EVP_DecodeBlock(ret_bytes, (const unsigned char *)text, (int)strlen(text));
    assert_true(bytes >= 0);
    const char *padding = strchr(text, '=');
    return (size_t)bytes - (padding == NULL ? 0 : strlen(padding));
}

// Hi() of RFC 5802, section 2.2.
static void salt_password(const struct party *party, unsigned char ret_salted[HASH])
{
    unsigned char salt[TEXT] = {0}, u[HASH];
    size_t bytes = from_base64(party->salt, salt);
    salt[bytes + 3] = 1; // INT(1), big end first
    hmac(party, party->password, strlen(party->password), salt, bytes + 4, u);
    memcpy(ret_salted, u, HASH);
    for (int i = 1; i < party->iterations; i++) {
        hmac(party, party->password, strlen(party->password), u, digest_bytes(party), u);
        for (size_t b = 0; b < digest_bytes(party); b++) {
            ret_salted[b] ^= u[b];
        }
    }
}

static bool salts_alike(const struct party *a, const struct party *b)
{
    return a->digest == b->digest && a->iterations == b->iterations &&
           strcmp(a->password, b->password) == 0 && strcmp(a->salt, b->salt) == 0;
}

// The same few parties log in again and again: each is salted once.
static void salted_password(const struct party *party, unsigned char ret_salted[HASH])
{
    static struct {
        struct party party;
        unsigned char salted[HASH];
    } known[16];
    static size_t next;
    size_t i = 0;
    while (i < 16 && !salts_alike(&known[i].party, party)) {
        i++;
    }
    if (i == 16) {
        i = next++ % 16;
        known[i].party = *party;
        salt_password(party, known[i].salted);
    }
    memcpy(ret_salted, known[i].salted, HASH);
}

static void client_proof(const struct party *party, const char *auth_message, char *ret_text)
{
    unsigned char salted[HASH], client_key[HASH], stored_key[HASH], signature[HASH];
    size_t n = digest_bytes(party);
    salted_password(party, salted);
    hmac(party, salted, n, "Client Key", 10, client_key);
    assert_true(EVP_Digest(client_key, n, stored_key, NULL, party->digest, NULL));
    hmac(party, stored_key, n, auth_message, strlen(auth_message), signature);
    for (size_t i = 0; i < n; i++) {
        client_key[i] ^= signature[i];
    }
    to_base64(client_key, n, ret_text);
}

static void server_signature(const struct party *party, const char *auth_message, char *ret_text)
{
    unsigned char salted[HASH], server_key[HASH], signature[HASH];
    size_t n = digest_bytes(party);
    salted_password(party, salted);
    hmac(party, salted, n, "Server Key", 10, server_key);
    hmac(party, server_key, n, auth_message, strlen(auth_message), signature);
    to_base64(signature, n, ret_text);
}

static void check_vector(const struct party *party, const char *auth_message, const char *proof,
                         const char *signature)
{
    char text[TEXT];
    client_proof(party, auth_message, text);
    assert_string_equal(text, proof);
    server_signature(party, auth_message, text);
    assert_string_equal(text, signature);
}

static void test_arithmetic_is_the_rfcs(void **state)
{
    (void)state;
    struct party sha1 = {EVP_sha1(), "pencil", "QSXCR+Q6sek8bf92", 4096, "", ""};
    check_vector(&sha1,
                 "n=user,r=fyko+d2lbbFgONRv9qkxdawL,"
                 "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096,"
                 "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j",
                 "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=", "rmF9pqV8S7suAoZWja4dJRkFsKQ=");
    struct party sha256 = {EVP_sha256(), "pencil", "W22ZaJ0SNY7soEsUEjb6gQ==", 4096, "", ""};
    check_vector(&sha256,
                 "n=user,r=rOprNGfwEbeRWgbNEkqO,"
                 "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
                 "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
                 "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
                 "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
                 "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

static struct party party_sha256(const char *password)
{
    struct party party = {
        EVP_sha256(), "", "W22ZaJ0SNY7soEsUEjb6gQ==", 4096, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", ""};
    format(party.password, "%s", password);
    return party;
}

// MongoDB salts a digest of name and password with SCRAM-SHA-1.
static struct party party_sha1(const char *username, const char *password)
{
    struct party party = {
        EVP_sha1(), "", "rQ9ZY3MntBeuP3E1TDVC4w==", 10000, "Ho+Vgk7qvUOKUwuWLIWg4l/9SraGMHEE", ""};
    char text[TEXT];
    unsigned char digest[EVP_MAX_MD_SIZE];
    format(text, "%s:mongo:%s", username, password);
    assert_true(EVP_Digest(text, strlen(text), digest, NULL, EVP_md5(), NULL));
    for (size_t i = 0; i < 16; i++) {
        sprintf(party.password + 2 * i, "%02x", digest[i]);
    }
    return party;
}

// ---- documents ----

static struct credential credential(const char *mechanism, const char *username,
                                    const char *password, const char *source)
{
    return (struct credential){(char *)mechanism, (char *)username, (char *)password,
                               (char *)source};
}

static void find(const bson_t *document, const char *path, bson_iter_t *ret_iter)
{
    bson_iter_t iter;
    assert_true(bson_iter_init(&iter, document));
    if (!bson_iter_find_descendant(&iter, path, ret_iter)) {
        fail_msg("no %s", path);
    }
}

static bool has(const bson_t *document, const char *path)
{
    bson_iter_t iter, found;
    return bson_iter_init(&iter, document) && bson_iter_find_descendant(&iter, path, &found);
}

static void assert_text(const bson_t *document, const char *path, const char *text)
{
    bson_iter_t iter;
    find(document, path, &iter);
    assert_true(BSON_ITER_HOLDS_UTF8(&iter));
    assert_string_equal(bson_iter_utf8(&iter, NULL), text);
}

static int64_t number(const bson_t *document, const char *path)
{
    bson_iter_t iter;
    find(document, path, &iter);
    return bson_iter_as_int64(&iter);
}

static void payload_text(const bson_t *document, const char *path, char *ret_text)
{
    bson_iter_t iter;
    bson_subtype_t subtype;
    const uint8_t *bytes;
    uint32_t count;
    find(document, path, &iter);
    assert_true(BSON_ITER_HOLDS_BINARY(&iter));
    bson_iter_binary(&iter, &subtype, &count, &bytes);
    assert_int_equal(subtype, BSON_SUBTYPE_BINARY);
    assert_true(count < TEXT);
    memcpy(ret_text, bytes, count);
    ret_text[count] = '\0';
}

static void append_reply(bson_t *reply, int conversation, bool done, const char *payload)
{
    BSON_APPEND_INT32(reply, "conversationId", conversation);
    BSON_APPEND_BOOL(reply, "done", done);
    BSON_APPEND_BINARY(reply, "payload", BSON_SUBTYPE_BINARY, (const uint8_t *)payload,
                       (uint32_t)strlen(payload));
}

static bson_t *sasl_reply(int conversation, bool done, const char *payload)
{
    bson_t *reply = bson_new();
    append_reply(reply, conversation, done, payload);
    BSON_APPEND_DOUBLE(reply, "ok", 1);
    return reply;
}

static bson_t *hello_reply(const char *speculative_payload, const char *const *mechanisms)
{
    bson_t *reply = BCON_NEW("ok", BCON_DOUBLE(1));
    bson_t child;
    if (mechanisms != NULL) {
        BSON_APPEND_ARRAY_BEGIN(reply, "saslSupportedMechs", &child);
        for (int i = 0; mechanisms[i] != NULL; i++) {
            BSON_APPEND_UTF8(&child, i == 0 ? "0" : "1", mechanisms[i]);
        }
        bson_append_array_end(reply, &child);
    }
    if (speculative_payload != NULL) {
        BSON_APPEND_DOCUMENT_BEGIN(reply, "speculativeAuthenticate", &child);
        append_reply(&child, 1, false, speculative_payload);
        bson_append_document_end(reply, &child);
    }
    return reply;
}

// The client's first message without its header "n,,", and the server's answer to it.
static void server_first(struct party *party, const char *client_first, char *ret_text)
{
    assert_memory_equal(client_first, "n,,n=", 5);
    const char *nonce = strstr(client_first, ",r=");
    assert_non_null(nonce);
    format(ret_text, "r=%s%s,s=%s,i=%d", nonce + 3, party->snonce, party->salt, party->iterations);
    snprintf(party->auth_message, sizeof party->auth_message, "%s,%s", client_first + 3, ret_text);
}

// Checks the client's proof; the server's last message.
static void server_final(struct party *party, const char *client_final, char *ret_text)
{
    char expected[TEXT], signature[TEXT];
    const char *proof = strstr(client_final, ",p=");
    assert_non_null(proof);
    strcat(party->auth_message, ",");
    strncat(party->auth_message, client_final, (size_t)(proof - client_final));
    client_proof(party, party->auth_message, expected);
    assert_string_equal(proof + 3, expected);
    server_signature(party, party->auth_message, signature);
    format(ret_text, "v=%s", signature);
}

// ---- conversations ----

static enum auth_status give(struct auth *auth, bson_t *reply, bson_t *ret_command)
{
    enum auth_status status = auth_continue(auth, reply, ret_command);
    bson_destroy(reply);
    return status;
}

static enum auth_status begin(struct auth *auth, bson_t *reply, bson_t *ret_command)
{
    enum auth_status status = auth_begin(auth, reply, ret_command);
    bson_destroy(reply);
    return status;
}

// After the client's first message: all that follows goes well.
static void finish_well(struct auth *auth, struct party *party, enum auth_status status,
                        bson_t *command, bool derives, bool skips_empty)
{
    char text[TEXT], answer[TEXT];
    if (derives) {
        assert_int_equal(status, AUTH_DERIVE);
        auth_derive(auth);
        status = auth_continue(auth, NULL, command);
    }
    assert_int_equal(status, AUTH_SEND);
    assert_int_equal(number(command, "saslContinue"), 1);
    assert_int_equal(number(command, "conversationId"), 1);
    assert_text(command, "$db", "admin");
    payload_text(command, "payload", text);
    bson_destroy(command);
    server_final(party, text, answer);
    status = give(auth, sasl_reply(1, skips_empty, answer), command);
    if (!skips_empty) {
        assert_int_equal(status, AUTH_SEND);
        payload_text(command, "payload", text);
        assert_string_equal(text, "");
        bson_destroy(command);
        status = give(auth, sasl_reply(1, true, ""), command);
    }
    assert_int_equal(status, AUTH_DONE);
    assert_string_equal(auth_error(auth), "");
}

// Without speculation: the saslStart, and what the server answers it.
static enum auth_status start(struct auth *auth, struct party *party, bson_t *ret_command)
{
    char text[TEXT], answer[TEXT];
    static const char *const both[] = {"SCRAM-SHA-1", "SCRAM-SHA-256", NULL};
    assert_int_equal(begin(auth, hello_reply(NULL, both), ret_command), AUTH_SEND);
    payload_text(ret_command, "payload", text);
    bson_destroy(ret_command);
    server_first(party, text, answer);
    return give(auth, sasl_reply(1, false, answer), ret_command);
}

// One of them from beginning to end, with a cache of its own.
struct login {
    struct credential who;
    struct key_cache *cache;
    struct auth *auth;
};

static struct auth *login_begin(struct login *login, const char *mechanism, const char *username,
                                const char *password, const char *source)
{
    login->who = credential(mechanism, username, password, source);
    login->cache = key_cache_new();
    login->auth = auth_new(&login->who, login->cache);
    return login->auth;
}

static void login_end(struct login *login)
{
    auth_free(login->auth);
    key_cache_free(login->cache);
}

// The client's first message, to a server that says nothing of mechanisms.
static void greet(struct auth *auth, char ret_text[TEXT])
{
    bson_t command;
    assert_int_equal(begin(auth, hello_reply(NULL, NULL), &command), AUTH_SEND);
    payload_text(&command, "payload", ret_text);
    bson_destroy(&command);
}

// All up to the server's last message, which is the right one and still to be given.
static void prove(struct auth *auth, struct party *party, char ret_answer[TEXT])
{
    bson_t command;
    char text[TEXT];
    enum auth_status status = start(auth, party, &command);
    if (status == AUTH_DERIVE) {
        auth_derive(auth);
        status = auth_continue(auth, NULL, &command);
    }
    assert_int_equal(status, AUTH_SEND);
    payload_text(&command, "payload", text);
    bson_destroy(&command);
    server_final(party, text, ret_answer);
}

static void log_in(const struct credential *who, struct key_cache *cache, struct party party,
                   bool derives, bool skips_empty)
{
    bson_t command;
    struct auth *auth = auth_new(who, cache);
    enum auth_status status = start(auth, &party, &command);
    finish_well(auth, &party, status, &command, derives, skips_empty);
    auth_free(auth);
}

static void test_nobody_needs_nothing(void **state)
{
    (void)state;
    struct login login;
    struct auth *auth = login_begin(&login, NULL, NULL, NULL, NULL);
    bson_t hello = BSON_INITIALIZER, command;
    auth_speculate(auth, &hello);
    assert_true(bson_empty(&hello));
    assert_int_equal(begin(auth, hello_reply(NULL, NULL), &command), AUTH_DONE);
    login_end(&login);
}

static void test_logs_in_by_sha256(void **state)
{
    (void)state;
    struct credential user = credential("SCRAM-SHA-256", "user", "pencil", "admin");
    struct key_cache *cache = key_cache_new();
    log_in(&user, cache, party_sha256("pencil"), true, true);
    log_in(&user, cache, party_sha256("pencil"), false, true);
    log_in(&user, cache, party_sha256("pencil"), false, false);
    key_cache_free(cache);
}

static void test_logs_in_by_sha1(void **state)
{
    (void)state;
    struct credential user = credential("SCRAM-SHA-1", "user", "pencil", "admin");
    struct key_cache *cache = key_cache_new();
    log_in(&user, cache, party_sha1("user", "pencil"), true, true);
    log_in(&user, cache, party_sha1("user", "pencil"), false, false);
    key_cache_free(cache);
}

// The example of source/auth/auth.md, byte by byte.
static void test_sha1_is_the_specifications_example(void **state)
{
    (void)state;
    struct login login;
    struct auth *auth = login_begin(&login, "SCRAM-SHA-1", "user", "pencil", "admin");
    struct party party = party_sha1("user", "pencil");
    bson_t command;
    char text[TEXT];
    nonce_is_fixed = true;
    assert_int_equal(start(auth, &party, &command), AUTH_DERIVE);
    nonce_is_fixed = false;
    auth_derive(auth);
    assert_int_equal(auth_continue(auth, NULL, &command), AUTH_SEND);
    payload_text(&command, "payload", text);
    bson_destroy(&command);
    assert_string_equal(text, "c=biws,r=" NONCE "Ho+Vgk7qvUOKUwuWLIWg4l/9SraGMHEE,"
                              "p=MC2T8BvbmWRckDw8oWl5IVghwCY=");
    bson_t *last = sasl_reply(1, true, "v=UMWeI25JD1yNYZRMpZ4VHvhZ9e0=");
    assert_int_equal(give(auth, last, &command), AUTH_DONE);
    login_end(&login);
}

static void test_sasl_start_has_all_it_needs(void **state)
{
    (void)state;
    struct login login;
    struct auth *auth = login_begin(&login, "SCRAM-SHA-256", "user", "pencil", "shop");
    bson_t command;
    bson_iter_t iter;
    assert_int_equal(begin(auth, hello_reply(NULL, NULL), &command), AUTH_SEND);
    assert_int_equal(number(&command, "saslStart"), 1);
    assert_text(&command, "mechanism", "SCRAM-SHA-256");
    assert_text(&command, "$db", "shop");
    find(&command, "options.skipEmptyExchange", &iter);
    assert_true(bson_iter_as_bool(&iter));
    bson_destroy(&command);
    login_end(&login);
}

static void test_speculates_and_negotiates(void **state)
{
    (void)state;
    struct login login;
    struct auth *auth = login_begin(&login, NULL, "user", "pencil", "admin");
    struct party party = party_sha256("pencil");
    bson_t hello = BSON_INITIALIZER, command;
    char text[TEXT], answer[TEXT];
    auth_speculate(auth, &hello);
    assert_text(&hello, "saslSupportedMechs", "admin.user");
    assert_text(&hello, "speculativeAuthenticate.mechanism", "SCRAM-SHA-256");
    assert_text(&hello, "speculativeAuthenticate.db", "admin");
    payload_text(&hello, "speculativeAuthenticate.payload", text);
    server_first(&party, text, answer);
    static const char *const mechanisms[] = {"SCRAM-SHA-256", NULL};
    enum auth_status status = begin(auth, hello_reply(answer, mechanisms), &command);
    finish_well(auth, &party, status, &command, true, true);
    bson_destroy(&hello);
    login_end(&login);
}

// Speculation that the server passes over is begun anew, by a mechanism that it has.
static void test_failed_speculation_starts_anew(void **state)
{
    (void)state;
    static const char *const sha1[] = {"SCRAM-SHA-1", NULL};
    static const char *const sha256[] = {"SCRAM-SHA-1", "SCRAM-SHA-256", NULL};
    static const struct {
        const char *const *mechanisms;
        const char *chosen;
    } cases[] = {{sha1, "SCRAM-SHA-1"}, {sha256, "SCRAM-SHA-256"}, {NULL, "SCRAM-SHA-1"}};
    struct credential user = credential(NULL, "user", "pencil", "admin");
    struct key_cache *cache = key_cache_new();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct auth *auth = auth_new(&user, cache);
        bson_t hello = BSON_INITIALIZER, command;
        char first[TEXT], second[TEXT];
        auth_speculate(auth, &hello);
        payload_text(&hello, "speculativeAuthenticate.payload", first);
        assert_int_equal(begin(auth, hello_reply(NULL, cases[i].mechanisms), &command), AUTH_SEND);
        assert_text(&command, "mechanism", cases[i].chosen);
        payload_text(&command, "payload", second);
        assert_string_not_equal(first, second);
        bson_destroy(&command);
        bson_destroy(&hello);
        auth_free(auth);
    }
    key_cache_free(cache);
}

static void test_explicit_mechanism_is_not_negotiated(void **state)
{
    (void)state;
    struct login login;
    struct auth *auth = login_begin(&login, "SCRAM-SHA-1", "user", "pencil", "admin");
    bson_t hello = BSON_INITIALIZER;
    auth_speculate(auth, &hello);
    assert_false(has(&hello, "saslSupportedMechs"));
    assert_text(&hello, "speculativeAuthenticate.mechanism", "SCRAM-SHA-1");
    bson_destroy(&hello);
    login_end(&login);
}

static void test_names_and_passwords_with_odd_characters(void **state)
{
    (void)state;
    struct login login;
    struct auth *auth =
        login_begin(&login, "SCRAM-SHA-256", "a=b,c", "p@ss:w/rd%=,\xc3\xa9", "admin");
    struct party party = party_sha256("p@ss:w/rd%=,\xc3\xa9");
    bson_t command;
    char text[TEXT], answer[TEXT];
    greet(auth, text);
    assert_memory_equal(text, "n,,n=a=3Db=2Cc,r=", 17);
    server_first(&party, text, answer);
    enum auth_status status = give(auth, sasl_reply(1, false, answer), &command);
    finish_well(auth, &party, status, &command, true, true);
    login_end(&login);
}

// RFC 4013, section 3: a soft hyphen goes, U+2168 is IX, a no-break space is a space.
static void test_password_is_prepared_for_sha256_only(void **state)
{
    (void)state;
    struct credential user =
        credential("SCRAM-SHA-256", "user", "I\xc2\xadX\xe2\x85\xa8\xc2\xa0z", "admin");
    struct key_cache *cache = key_cache_new();
    log_in(&user, cache, party_sha256("IXIX z"), true, true);
    struct credential other = credential("SCRAM-SHA-1", "user", "I\xc2\xadX", "admin");
    log_in(&other, cache, party_sha1("user", "I\xc2\xadX"), true, true);
    key_cache_free(cache);
}

static void test_password_that_cannot_be_prepared(void **state)
{
    (void)state;
    struct login login;
    struct auth *auth = login_begin(&login, "SCRAM-SHA-256", "user", "bell\x07", "admin");
    struct party party = party_sha256("bell\x07");
    bson_t command;
    assert_int_equal(start(auth, &party, &command), AUTH_DERIVE);
    auth_derive(auth);
    assert_int_equal(auth_continue(auth, NULL, &command), AUTH_FAILED);
    assert_non_null(strstr(auth_error(auth), "password"));
    assert_null(strstr(auth_error(auth), "bell"));
    login_end(&login);
}

// Rather than log in as somebody else.
static void test_name_that_would_be_changed_is_refused(void **state)
{
    (void)state;
    struct login login;
    struct auth *auth = login_begin(&login, NULL, "\xe2\x85\xa8", "pencil", "admin");
    bson_t hello = BSON_INITIALIZER, command;
    auth_speculate(auth, &hello);
    assert_false(has(&hello, "speculativeAuthenticate"));
    assert_int_equal(begin(auth, hello_reply(NULL, NULL), &command), AUTH_FAILED);
    assert_non_null(strstr(auth_error(auth), "name"));
    bson_destroy(&hello);
    login_end(&login);
}

// ---- a server that is none, or no honest one ----

// `form` with `text` in place of its %s, if it has one.
static void put_in(char *ret_text, const char *form, const char *text)
{
    const char *place = strstr(form, "%s");
    if (place == NULL) {
        format(ret_text, "%s", form);
    } else {
        format(ret_text, "%.*s%s%s", (int)(place - form), form, text, place + 2);
    }
}

// What comes of a first message by a server; %s in it is the client's nonce.
static void first_message(const char *form, enum auth_status expected, const char *why)
{
    struct login login;
    struct auth *auth = login_begin(&login, "SCRAM-SHA-256", "user", "pencil", "admin");
    bson_t command;
    char text[TEXT], answer[TEXT];
    greet(auth, text);
    put_in(answer, form, strstr(text, ",r=") + 3);
    assert_int_equal(give(auth, sasl_reply(1, false, answer), &command), expected);
    if (why == NULL) {
        assert_string_equal(auth_error(auth), "");
    } else if (strstr(auth_error(auth), why) == NULL) {
        fail_msg("%s: %s", answer, auth_error(auth));
    }
    login_end(&login);
}

static void test_first_messages(void **state)
{
    (void)state;
    first_message("r=%sX,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", AUTH_DERIVE, NULL);
    first_message("r=%sX,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1000000", AUTH_DERIVE, NULL);
    first_message("r=%sX,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4095", AUTH_FAILED, "4095");
    first_message("r=%sX,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1", AUTH_FAILED, "iterations");
    first_message("r=%sX,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=0", AUTH_FAILED, "malformed");
    first_message("r=%sX,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1000001", AUTH_FAILED, "1000001");
    first_message("r=%sX,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4294971392", AUTH_FAILED, "iterations");
    first_message("r=%sX,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=18446744073709555712", AUTH_FAILED, "");
    first_message("r=%sX,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=-4096", AUTH_FAILED, "malformed");
    first_message("r=%sX,s=W22ZaJ0SNY7soEsUEjb6gQ==", AUTH_FAILED, "malformed");
    first_message("r=%sX,s=,i=4096", AUTH_FAILED, "malformed");
    first_message("r=%sX,i=4096", AUTH_FAILED, "malformed");
    first_message("r=X%sX,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", AUTH_FAILED, "nonce");
    first_message("r=X,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", AUTH_FAILED, "nonce");
    first_message("m=x,r=%sX,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", AUTH_FAILED, "malformed");
    first_message("", AUTH_FAILED, "malformed");
    first_message(",,,,,,,,,,,,,,,,,,,,", AUTH_FAILED, "malformed");
    char salt[256], message[TEXT];
    memset(salt, 'A', 255);
    salt[255] = '\0';
    format(message, "r=%%sX,s=%s,i=4096", salt);
    first_message(message, AUTH_DERIVE, NULL);
    format(message, "r=%%sX,s=%sA,i=4096", salt);
    first_message(message, AUTH_FAILED, "salt");
}

static void test_salt_that_is_no_base64(void **state)
{
    (void)state;
    struct login login;
    struct auth *auth = login_begin(&login, "SCRAM-SHA-256", "user", "pencil", "admin");
    bson_t command;
    char text[TEXT], answer[TEXT];
    greet(auth, text);
    format(answer, "r=%sX,s=****,i=4096", strstr(text, ",r=") + 3);
    enum auth_status status = give(auth, sasl_reply(1, false, answer), &command);
    if (status == AUTH_DERIVE) {
        auth_derive(auth);
        status = auth_continue(auth, NULL, &command);
    }
    assert_int_equal(status, AUTH_FAILED);
    login_end(&login);
}

// What comes of a last message; "%s" in it is the right signature.
static void last_message(const char *form, bool done, enum auth_status expected, const char *why)
{
    struct login login;
    struct auth *auth = login_begin(&login, "SCRAM-SHA-256", "user", "pencil", "admin");
    struct party party = party_sha256("pencil");
    bson_t command;
    char signature[TEXT], answer[TEXT];
    prove(auth, &party, signature);
    put_in(answer, form, signature);
    assert_int_equal(give(auth, sasl_reply(1, done, answer), &command), expected);
    if (why != NULL && strstr(auth_error(auth), why) == NULL) {
        fail_msg("%s: %s", answer, auth_error(auth));
    }
    login_end(&login);
}

static void test_last_messages(void **state)
{
    (void)state;
    last_message("%s", true, AUTH_DONE, NULL);
    last_message("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", true, AUTH_FAILED, "prove");
    last_message("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", false, AUTH_FAILED, "prove");
    last_message("v=", true, AUTH_FAILED, "server");
    last_message("v=A", true, AUTH_FAILED, "server");
    last_message("", true, AUTH_FAILED, "malformed");
    last_message("", false, AUTH_FAILED, "malformed");
    last_message("e=other-error", true, AUTH_FAILED, "malformed");
    last_message("%s,x", true, AUTH_FAILED, "server");
}

static void test_any_change_of_the_signature_is_noticed(void **state)
{
    (void)state;
    struct credential user = credential("SCRAM-SHA-256", "user", "pencil", "admin");
    struct key_cache *cache = key_cache_new();
    for (size_t i = 0; i < 46; i++) {
        struct party party = party_sha256("pencil");
        struct auth *auth = auth_new(&user, cache);
        bson_t command;
        char answer[TEXT];
        prove(auth, &party, answer);
        assert_int_equal(strlen(answer), 46);
        answer[i] = (char)(answer[i] == 'A' ? 'B' : 'A');
        assert_int_equal(give(auth, sasl_reply(1, true, answer), &command), AUTH_FAILED);
        auth_free(auth);
    }
    key_cache_free(cache);
}

static void test_done_before_the_proof(void **state)
{
    (void)state;
    struct login login;
    struct auth *auth = login_begin(&login, "SCRAM-SHA-256", "user", "pencil", "admin");
    struct party party = party_sha256("pencil");
    bson_t command;
    char text[TEXT], answer[TEXT];
    greet(auth, text);
    server_first(&party, text, answer);
    assert_int_equal(give(auth, sasl_reply(1, true, answer), &command), AUTH_FAILED);
    assert_non_null(strstr(auth_error(auth), "proved"));
    login_end(&login);
}

static void test_never_done(void **state)
{
    (void)state;
    struct login login;
    struct auth *auth = login_begin(&login, "SCRAM-SHA-256", "user", "pencil", "admin");
    struct party party = party_sha256("pencil");
    bson_t command;
    char answer[TEXT];
    prove(auth, &party, answer);
    assert_int_equal(give(auth, sasl_reply(1, false, answer), &command), AUTH_SEND);
    bson_destroy(&command);
    assert_int_equal(give(auth, sasl_reply(1, false, ""), &command), AUTH_FAILED);
    assert_non_null(strstr(auth_error(auth), "end"));
    login_end(&login);
}

// Replies that are no answer to saslStart. Each is taken over.
static void odd_reply(bson_t *reply)
{
    struct login login;
    struct auth *auth = login_begin(&login, "SCRAM-SHA-256", "user", "pencil", "admin");
    bson_t command;
    assert_int_equal(begin(auth, hello_reply(NULL, NULL), &command), AUTH_SEND);
    bson_destroy(&command);
    assert_int_equal(give(auth, reply, &command), AUTH_FAILED);
    assert_string_not_equal(auth_error(auth), "");
    // It stays failed.
    assert_int_equal(give(auth, sasl_reply(1, true, ""), &command), AUTH_FAILED);
    login_end(&login);
}

static void test_odd_replies(void **state)
{
    (void)state;
    char long_text[4096];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    odd_reply(bson_new());
    odd_reply(BCON_NEW("ok", BCON_DOUBLE(1)));
    odd_reply(BCON_NEW("ok", BCON_UTF8("1")));
    odd_reply(BCON_NEW("ok", BCON_INT32(1), "conversationId", BCON_INT32(1), "done",
                       BCON_BOOL(false), "payload", BCON_UTF8("r=x")));
    odd_reply(BCON_NEW("ok", BCON_INT32(1), "conversationId", BCON_UTF8("1"), "done",
                       BCON_BOOL(false), "payload", BCON_BIN(0, (const uint8_t *)"", 0)));
    odd_reply(BCON_NEW("ok", BCON_INT32(1), "conversationId", BCON_INT32(1), "payload",
                       BCON_BIN(0, (const uint8_t *)"", 0)));
    odd_reply(sasl_reply(1, false, long_text));
}

static void test_refusal_says_who_and_why(void **state)
{
    (void)state;
    struct login login;
    struct auth *auth = login_begin(&login, "SCRAM-SHA-256", "anna", "pencil", "shop");
    bson_t command;
    assert_int_equal(begin(auth, hello_reply(NULL, NULL), &command), AUTH_SEND);
    bson_destroy(&command);
    bson_t *refusal = BCON_NEW("ok", BCON_DOUBLE(0), "code", BCON_INT32(18), "errmsg",
                               BCON_UTF8("Authentication failed."));
    assert_int_equal(give(auth, refusal, &command), AUTH_FAILED);
    assert_string_equal(auth_error(auth), "the server refused user anna by SCRAM-SHA-256 on shop: "
                                          "Authentication failed. (code 18)");
    login_end(&login);
}

static void test_refusal_of_any_length_is_cut(void **state)
{
    (void)state;
    char long_text[60000];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    odd_reply(BCON_NEW("ok", BCON_DOUBLE(0), "errmsg", BCON_UTF8(long_text)));
    odd_reply(BCON_NEW("ok", BCON_DOUBLE(0), "errmsg", BCON_INT32(3), "code", BCON_UTF8("x")));
}

// Every beginning of a reply, and every one with a byte turned round: a failure or not, but no
// crash.
static void test_damaged_replies(void **state)
{
    (void)state;
    struct credential user = credential(NULL, "user", "pencil", "admin");
    struct key_cache *cache = key_cache_new();
    static const char *const mechanisms[] = {"SCRAM-SHA-256", NULL};
    bson_t *reply = hello_reply("r=x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", mechanisms);
    for (uint32_t i = 0; i < 2 * reply->len; i++) {
        bson_t damaged, hello = BSON_INITIALIZER, command;
        uint32_t bytes = i < reply->len ? i : reply->len;
        uint8_t *copy = malloc(bytes);
        memcpy(copy, bson_get_data(reply), bytes);
        if (bytes == reply->len) {
            copy[i - bytes] ^= 0xff;
        }
        if (bson_init_static(&damaged, copy, bytes)) {
            struct auth *auth = auth_new(&user, cache);
            auth_speculate(auth, &hello);
            if (auth_begin(auth, &damaged, &command) == AUTH_SEND) {
                bson_destroy(&command);
            }
            bson_destroy(&hello);
            auth_free(auth);
        }
        free(copy);
    }
    bson_destroy(reply);
    key_cache_free(cache);
}

// ---- the others ----

static void test_x509(void **state)
{
    (void)state;
    struct login login;
    struct auth *auth = login_begin(&login, "MONGODB-X509", NULL, NULL, "$external");
    bson_t hello = BSON_INITIALIZER, command;
    auth_speculate(auth, &hello);
    assert_int_equal(number(&hello, "speculativeAuthenticate.authenticate"), 1);
    assert_text(&hello, "speculativeAuthenticate.mechanism", "MONGODB-X509");
    assert_text(&hello, "speculativeAuthenticate.db", "$external");
    assert_false(has(&hello, "speculativeAuthenticate.user"));
    assert_int_equal(begin(auth,
                           BCON_NEW("ok", BCON_INT32(1), "speculativeAuthenticate", "{", "user",
                                    BCON_UTF8("CN=x"), "}"),
                           &command),
                     AUTH_DONE);
    bson_destroy(&hello);
    login_end(&login);
}

static void test_x509_without_speculation(void **state)
{
    (void)state;
    struct login login;
    struct auth *auth = login_begin(&login, "MONGODB-X509", "CN=x", NULL, "$external");
    bson_t command;
    // What was not asked for proves nothing.
    assert_int_equal(
        begin(auth, BCON_NEW("ok", BCON_INT32(1), "speculativeAuthenticate", "{", "}"), &command),
        AUTH_SEND);
    assert_int_equal(number(&command, "authenticate"), 1);
    assert_text(&command, "user", "CN=x");
    assert_text(&command, "$db", "$external");
    bson_destroy(&command);
    assert_int_equal(give(auth, BCON_NEW("ok", BCON_DOUBLE(1)), &command), AUTH_DONE);
    login_end(&login);
}

static void test_plain(void **state)
{
    (void)state;
    struct login login;
    struct auth *auth = login_begin(&login, "PLAIN", "anna", "pencil", "$external");
    bson_t hello = BSON_INITIALIZER, command;
    char text[TEXT];
    auth_speculate(auth, &hello);
    assert_true(bson_empty(&hello));
    assert_int_equal(begin(auth, hello_reply(NULL, NULL), &command), AUTH_SEND);
    assert_text(&command, "mechanism", "PLAIN");
    assert_text(&command, "$db", "$external");
    payload_text(&command, "payload", text);
    assert_memory_equal(text, "\0anna\0pencil", 13);
    bson_destroy(&command);
    assert_int_equal(give(auth, sasl_reply(1, true, ""), &command), AUTH_DONE);
    login_end(&login);
}

static void test_plain_that_is_too_long(void **state)
{
    (void)state;
    char name[TEXT + 1];
    memset(name, 'x', TEXT);
    name[TEXT] = '\0';
    struct login login;
    struct auth *auth = login_begin(&login, "PLAIN", name, "pencil", "$external");
    bson_t command;
    assert_int_equal(begin(auth, hello_reply(NULL, NULL), &command), AUTH_FAILED);
    assert_null(strstr(auth_error(auth), "pencil"));
    login_end(&login);
}

// ---- the cache ----

// Which keys are there; more salts than it holds push out the oldest.
static void test_cache_holds_some_keys(void **state)
{
    (void)state;
    struct credential user = credential("SCRAM-SHA-256", "user", "pencil", "admin");
    struct key_cache *cache = key_cache_new();
    struct party party = party_sha256("pencil");
    for (int i = 0; i < 8; i++) {
        party.iterations = 4096 + i;
        log_in(&user, cache, party, true, true);
    }
    for (int i = 0; i < 8; i++) {
        party.iterations = 4096 + i;
        log_in(&user, cache, party, false, true);
    }
    party.iterations = 5000;
    log_in(&user, cache, party, true, true);
    party.iterations = 4097;
    log_in(&user, cache, party, false, true);
    party.iterations = 4096;
    log_in(&user, cache, party, true, true);
    format(party.salt, "QSXCR+Q6sek8bf92");
    log_in(&user, cache, party, true, true);
    key_cache_free(cache);
}

struct crowd {
    struct credential user;
    struct key_cache *cache;
};

// Logs in a few times and counts what went wrong.
static void *one_of_the_crowd(void *arg)
{
    struct crowd *crowd = arg;
    intptr_t wrong = 0;
    for (int i = 0; i < 5; i++) {
        bson_t command;
        char text[TEXT] = "", answer[TEXT];
        struct auth *auth = auth_new(&crowd->user, crowd->cache);
        bson_t *reply = hello_reply(NULL, NULL);
        wrong += auth_begin(auth, reply, &command) != AUTH_SEND;
        bson_destroy(reply);
        payload_text(&command, "payload", text);
        bson_destroy(&command);
        format(answer, "r=%sX,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=%d", strstr(text, ",r=") + 3, 4096 + i);
        reply = sasl_reply(1, false, answer);
        enum auth_status status = auth_continue(auth, reply, &command);
        bson_destroy(reply);
        if (status == AUTH_DERIVE) {
            auth_derive(auth);
            status = auth_continue(auth, NULL, &command);
        }
        wrong += status != AUTH_SEND;
        if (status == AUTH_SEND) {
            bson_destroy(&command);
        }
        auth_free(auth);
    }
    return (void *)wrong;
}

static void test_cache_is_shared_by_threads(void **state)
{
    (void)state;
    struct crowd crowd = {credential("SCRAM-SHA-256", "user", "pencil", "admin"), key_cache_new()};
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, one_of_the_crowd, &crowd), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        void *wrong;
        assert_int_equal(pthread_join(threads[i], &wrong), 0);
        assert_null(wrong);
    }
    key_cache_free(crowd.cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arithmetic_is_the_rfcs),
        cmocka_unit_test(test_nobody_needs_nothing),
        cmocka_unit_test(test_logs_in_by_sha256),
        cmocka_unit_test(test_logs_in_by_sha1),
        cmocka_unit_test(test_sha1_is_the_specifications_example),
        cmocka_unit_test(test_sasl_start_has_all_it_needs),
        cmocka_unit_test(test_speculates_and_negotiates),
        cmocka_unit_test(test_failed_speculation_starts_anew),
        cmocka_unit_test(test_explicit_mechanism_is_not_negotiated),
        cmocka_unit_test(test_names_and_passwords_with_odd_characters),
        cmocka_unit_test(test_password_is_prepared_for_sha256_only),
        cmocka_unit_test(test_password_that_cannot_be_prepared),
        cmocka_unit_test(test_name_that_would_be_changed_is_refused),
        cmocka_unit_test(test_first_messages),
        cmocka_unit_test(test_salt_that_is_no_base64),
        cmocka_unit_test(test_last_messages),
        cmocka_unit_test(test_any_change_of_the_signature_is_noticed),
        cmocka_unit_test(test_done_before_the_proof),
        cmocka_unit_test(test_never_done),
        cmocka_unit_test(test_odd_replies),
        cmocka_unit_test(test_refusal_says_who_and_why),
        cmocka_unit_test(test_refusal_of_any_length_is_cut),
        cmocka_unit_test(test_damaged_replies),
        cmocka_unit_test(test_x509),
        cmocka_unit_test(test_x509_without_speculation),
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_plain_that_is_too_long),
        cmocka_unit_test(test_cache_holds_some_keys),
        cmocka_unit_test(test_cache_is_shared_by_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
