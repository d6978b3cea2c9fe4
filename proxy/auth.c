// SPDX-License-Identifier: Apache-2.0
//
// The conversation, by what the server's next reply has to be:
//
//                    speculative, or saslStart
//      BEGIN ------------------------------------> FIRST --> FINAL --> DONE
//        |                                          |  ^       |        ^
//        |                           no key cached  |  |       | done:false
//        |                                          v  |       v        |
//        |                                         KEY        EMPTY ----+
//        +------ authenticate (X509), PLAIN ----> ONLY -----------------+
//
// Invariant: DONE is reached only after the server's signature has been checked, with a mechanism
// that has one. What a server says is bounded before it is used: its payloads, the iterations.
#include "proxy/auth.h"

#include <assert.h>
#include <gsasl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "proxy/mem.h"

enum {
    ITERATIONS_MIN = 4096,
    ITERATIONS_MAX = 1000000,
    PAYLOAD_MAX_BYTES = 1024,
    SALT_MAX_CHARS = 256,
    KEY_MAX_BYTES = 32,
    CACHE_ENTRIES = 8,
    SAID_MAX_BYTES = 160,
};

enum { AUTHENTICATION_FAILED = 18 };

enum mechanism { MECHANISM_NONE, SCRAM_SHA_1, SCRAM_SHA_256, MONGODB_X509, PLAIN, MECHANISM_COUNT };

static const char *const mechanism_names[MECHANISM_COUNT] = {
    [MECHANISM_NONE] = "",
    [SCRAM_SHA_1] = "SCRAM-SHA-1",
    [SCRAM_SHA_256] = "SCRAM-SHA-256",
    [MONGODB_X509] = "MONGODB-X509",
    [PLAIN] = "PLAIN",
};

// What a salted password belongs to. The salt is as the server wrote it, in base64.
struct key_name {
    enum mechanism mechanism;
    int iterations;
    char salt[SALT_MAX_CHARS];
};

struct key {
    struct key_name name;
    unsigned char bytes[KEY_MAX_BYTES];
};

struct key_cache {
    Gsasl *gsasl; // made once, for it looks for all that the system has; only read after that
    pthread_mutex_t lock;
    unsigned next;
    struct key keys[CACHE_ENTRIES]; // a ring; those not used yet have MECHANISM_NONE
};

enum phase { PHASE_BEGIN, PHASE_FIRST, PHASE_KEY, PHASE_FINAL, PHASE_EMPTY, PHASE_ONLY };

struct auth {
    const struct credential *credential;
    struct key_cache *cache;
    enum phase phase;
    enum mechanism mechanism; // the one in use: chosen, or guessed by auth_speculate
    bool speculated;
    Gsasl_session *session;
    bson_value_t conversation; // a number: owns nothing
    struct key_name wanted;    // what the server's first message asked for
    bool key_missing;
    size_t first_bytes; // that message, kept while its key is derived
    char first[PAYLOAD_MAX_BYTES];
    char error[512];
    bool is_rejected;
};

static bool key_name_equal(const struct key_name *a, const struct key_name *b)
{
    return a->mechanism == b->mechanism && a->iterations == b->iterations &&
           strcmp(a->salt, b->salt) == 0;
}

static bool key_cache_get(struct key_cache *cache, const struct key_name *name,
                          unsigned char ret_bytes[KEY_MAX_BYTES])
{
    bool found = false;
    pthread_mutex_lock(&cache->lock);
    for (size_t i = 0; i < CACHE_ENTRIES && !found; i++) {
        found = key_name_equal(&cache->keys[i].name, name);
        if (found) {
            memcpy(ret_bytes, cache->keys[i].bytes, KEY_MAX_BYTES);
        }
    }
    pthread_mutex_unlock(&cache->lock);
    return found;
}

static void key_cache_put(struct key_cache *cache, const struct key *key)
{
    pthread_mutex_lock(&cache->lock);
    cache->keys[cache->next++ % CACHE_ENTRIES] = *key;
    pthread_mutex_unlock(&cache->lock);
}

static const EVP_MD *mechanism_digest(enum mechanism mechanism)
{
    return mechanism == SCRAM_SHA_1 ? EVP_sha1() : EVP_sha256();
}

static size_t mechanism_key_bytes(enum mechanism mechanism)
{
    return (size_t)EVP_MD_get_size(mechanism_digest(mechanism));
}

static bool mechanism_is_scram(enum mechanism mechanism)
{
    return mechanism == SCRAM_SHA_1 || mechanism == SCRAM_SHA_256;
}

static enum mechanism mechanism_find(const char *name)
{
    for (enum mechanism m = MECHANISM_NONE + 1; m < MECHANISM_COUNT; m++) {
        if (strcmp(mechanism_names[m], name) == 0) {
            return m;
        }
    }
    return MECHANISM_NONE;
}

static enum auth_status fail(struct auth *auth, const char *why)
{
    snprintf(auth->error, sizeof auth->error, "%s", why);
    return AUTH_FAILED;
}

// Called by libgsasl when it has read the server's first message and needs the key for it. Leaves
// the property unset, which ends that step, if there is none.
static int provide_key(struct auth *auth, Gsasl_session *session)
{
    const char *salt = gsasl_property_fast(session, GSASL_SCRAM_SALT);
    const char *iterations = gsasl_property_fast(session, GSASL_SCRAM_ITER);
    unsigned long count = iterations == NULL ? 0 : strtoul(iterations, NULL, 10);
    if (count < ITERATIONS_MIN || count > ITERATIONS_MAX) {
        snprintf(auth->error, sizeof auth->error,
                 "the server asks for %lu SCRAM iterations, not %d to %d", count, ITERATIONS_MIN,
                 ITERATIONS_MAX);
        return GSASL_NO_CALLBACK;
    }
    if (salt == NULL || strlen(salt) >= SALT_MAX_CHARS) {
        fail(auth, "the server's SCRAM salt is too long");
        return GSASL_NO_CALLBACK;
    }
    auth->wanted.mechanism = auth->mechanism;
    auth->wanted.iterations = (int)count;
    snprintf(auth->wanted.salt, sizeof auth->wanted.salt, "%s", salt);

    unsigned char key[KEY_MAX_BYTES];
    char hex[2 * KEY_MAX_BYTES + 1];
    auth->key_missing = !key_cache_get(auth->cache, &auth->wanted, key);
    if (auth->key_missing) {
        return GSASL_NO_CALLBACK;
    }
    for (size_t i = 0; i < mechanism_key_bytes(auth->mechanism); i++) {
        snprintf(hex + 2 * i, 3, "%02x", key[i]);
    }
    int result = gsasl_property_set(session, GSASL_SCRAM_SALTED_PASSWORD, hex);
    OPENSSL_cleanse(key, sizeof key);
    OPENSSL_cleanse(hex, sizeof hex);
    return result;
}

static int provide(Gsasl *gsasl, Gsasl_session *session, Gsasl_property property)
{
    (void)gsasl;
    struct auth *auth = gsasl_session_hook_get(session);
    if (property == GSASL_AUTHID) {
        return gsasl_property_set(session, property, auth->credential->username);
    }
    if (property == GSASL_SCRAM_SALTED_PASSWORD) {
        return provide_key(auth, session);
    }
    return GSASL_NO_CALLBACK;
}

struct key_cache *key_cache_new(void)
{
    struct key_cache *cache = xcalloc(1, sizeof *cache);
    int error = pthread_mutex_init(&cache->lock, NULL);
    assert(error == 0);
    if (gsasl_init(&cache->gsasl) != GSASL_OK) {
        abort();
    }
    gsasl_callback_set(cache->gsasl, provide);
    return cache;
}

void key_cache_free(struct key_cache *cache)
{
    if (cache == NULL) {
        return;
    }
    gsasl_done(cache->gsasl);
    pthread_mutex_destroy(&cache->lock);
    OPENSSL_cleanse(cache, sizeof *cache);
    free(cache);
}

struct auth *auth_new(const struct credential *credential, struct key_cache *cache)
{
    struct auth *auth = xcalloc(1, sizeof *auth);
    auth->credential = credential;
    auth->cache = cache;
    if (credential->mechanism != NULL) {
        auth->mechanism = mechanism_find(credential->mechanism);
        assert(auth->mechanism != MECHANISM_NONE);
    }
    return auth;
}

void auth_free(struct auth *auth)
{
    if (auth == NULL) {
        return;
    }
    gsasl_finish(auth->session);
    free(auth);
}

bool auth_is_rejected(const struct auth *auth)
{
    return auth->is_rejected;
}

const char *auth_error(const struct auth *auth)
{
    return auth->error;
}

static void append_payload(bson_t *document, const char *payload, size_t bytes)
{
    BSON_APPEND_BINARY(document, "payload", BSON_SUBTYPE_BINARY, (const uint8_t *)payload,
                       (uint32_t)bytes);
}

static void append_sasl_start(const struct auth *auth, bson_t *document, const char *payload,
                              size_t bytes)
{
    BSON_APPEND_INT32(document, "saslStart", 1);
    BSON_APPEND_UTF8(document, "mechanism", mechanism_names[auth->mechanism]);
    append_payload(document, payload, bytes);
}

// libgsasl prepares the user's name (SASLprep), a server takes it as it is: only names that are the
// same either way can be used.
static bool username_is_plain(struct auth *auth)
{
    char *prepared = NULL;
    const char *username = auth->credential->username;
    bool same = gsasl_saslprep(username, GSASL_ALLOW_UNASSIGNED, &prepared, NULL) == GSASL_OK &&
                strcmp(prepared, username) == 0;
    gsasl_free(prepared);
    if (!same) {
        fail(auth, "the user's name has characters that SCRAM would change (SASLprep, RFC 4013)");
    }
    return same;
}

// A new exchange, with a new nonce: the saslStart with the client's first message.
static bool append_scram_start(struct auth *auth, bson_t *document)
{
    char *payload = NULL;
    size_t bytes = 0;
    if (!username_is_plain(auth)) {
        return false;
    }
    gsasl_finish(auth->session);
    auth->session = NULL;
    const char *name = mechanism_names[auth->mechanism];
    int result = gsasl_client_start(auth->cache->gsasl, name, &auth->session);
    if (result == GSASL_OK) {
        gsasl_session_hook_set(auth->session, auth);
        result = gsasl_step(auth->session, NULL, 0, &payload, &bytes);
    }
    if (result != GSASL_NEEDS_MORE) {
        fail(auth, gsasl_strerror(result));
        return false;
    }
    bson_t options;
    append_sasl_start(auth, document, payload, bytes);
    BSON_APPEND_DOCUMENT_BEGIN(document, "options", &options);
    BSON_APPEND_BOOL(&options, "skipEmptyExchange", true);
    bson_append_document_end(document, &options);
    gsasl_free(payload);
    return true;
}

static void append_x509(const struct auth *auth, bson_t *document)
{
    BSON_APPEND_INT32(document, "authenticate", 1);
    BSON_APPEND_UTF8(document, "mechanism", mechanism_names[MONGODB_X509]);
    if (auth->credential->username != NULL) {
        BSON_APPEND_UTF8(document, "user", auth->credential->username);
    }
}

static bool append_plain(struct auth *auth, bson_t *document)
{
    char payload[PAYLOAD_MAX_BYTES];
    int bytes = snprintf(payload, sizeof payload, "%c%s%c%s", 0, auth->credential->username, 0,
                         auth->credential->password);
    bool fits = bytes < (int)sizeof payload;
    if (fits) {
        append_sasl_start(auth, document, payload, (size_t)bytes);
    } else {
        fail(auth, "the user's name and password are too long for PLAIN");
    }
    OPENSSL_cleanse(payload, sizeof payload);
    return fits;
}

static bool credential_is_empty(const struct credential *credential)
{
    return credential->username == NULL && credential->mechanism == NULL;
}

void auth_speculate(struct auth *auth, bson_t *hello)
{
    const struct credential *credential = auth->credential;
    bson_t speculative = BSON_INITIALIZER;
    assert(auth->phase == PHASE_BEGIN && !auth->speculated);
    if (credential_is_empty(credential)) {
        return;
    }
    if (credential->mechanism == NULL) {
        auth->mechanism = SCRAM_SHA_256;
        char *user = bson_strdup_printf("%s.%s", credential->source, credential->username);
        BSON_APPEND_UTF8(hello, "saslSupportedMechs", user);
        bson_free(user);
    }
    if (auth->mechanism == MONGODB_X509) {
        append_x509(auth, &speculative);
    }
    auth->speculated = auth->mechanism == MONGODB_X509 || (mechanism_is_scram(auth->mechanism) &&
                                                           append_scram_start(auth, &speculative));
    if (auth->speculated) {
        BSON_APPEND_UTF8(&speculative, "db", credential->source);
        BSON_APPEND_DOCUMENT(hello, "speculativeAuthenticate", &speculative);
    }
    bson_destroy(&speculative);
}

// The command with which authentication starts if the hello did not start it.
static enum auth_status start(struct auth *auth, bson_t *ret_command)
{
    bool begun = true;
    bson_t command = BSON_INITIALIZER;
    auth->phase = PHASE_ONLY;
    if (mechanism_is_scram(auth->mechanism)) {
        auth->phase = PHASE_FIRST;
        begun = append_scram_start(auth, &command);
    } else if (auth->mechanism == PLAIN) {
        begun = append_plain(auth, &command);
    } else {
        append_x509(auth, &command);
    }
    if (!begun) {
        bson_destroy(&command);
        return AUTH_FAILED;
    }
    BSON_APPEND_UTF8(&command, "$db", auth->credential->source);
    bool moved = bson_steal(ret_command, &command);
    assert(moved);
    return AUTH_SEND;
}

static enum auth_status send_continue(struct auth *auth, const char *payload, size_t bytes,
                                      bson_t *ret_command)
{
    bson_init(ret_command);
    BSON_APPEND_INT32(ret_command, "saslContinue", 1);
    BSON_APPEND_VALUE(ret_command, "conversationId", &auth->conversation);
    append_payload(ret_command, payload, bytes);
    BSON_APPEND_UTF8(ret_command, "$db", auth->credential->source);
    return AUTH_SEND;
}

// Answers the server's first message, which is in auth->first. A step that lacked the key leaves
// libgsasl where it was, so it can be taken again.
static enum auth_status answer_first(struct auth *auth, bson_t *ret_command)
{
    char *answer = NULL;
    size_t bytes = 0;
    auth->key_missing = false;
    int result = gsasl_step(auth->session, auth->first, auth->first_bytes, &answer, &bytes);
    if (result == GSASL_NEEDS_MORE) {
        auth->phase = PHASE_FINAL;
        enum auth_status status = send_continue(auth, answer, bytes, ret_command);
        gsasl_free(answer);
        return status;
    }
    if (auth->error[0] != '\0') {
        return AUTH_FAILED;
    }
    if (auth->key_missing) {
        auth->phase = PHASE_KEY;
        return AUTH_DERIVE;
    }
    return fail(auth, result == GSASL_AUTHENTICATION_ERROR
                          ? "the server's SCRAM nonce does not begin with ours"
                          : "the server's first SCRAM message is malformed");
}

struct sasl_reply {
    bool done;
    const char *payload;
    size_t bytes;
};

// False if it is not what a server answers to saslStart and saslContinue. Borrows from the reply.
static bool sasl_reply_read(struct auth *auth, const bson_t *reply, struct sasl_reply *ret_reply)
{
    bson_iter_t iter;
    uint32_t bytes;
    const uint8_t *payload;
    if (!bson_iter_init_find(&iter, reply, "payload") || !BSON_ITER_HOLDS_BINARY(&iter)) {
        return false;
    }
    bson_iter_binary(&iter, NULL, &bytes, &payload);
    if (bytes > PAYLOAD_MAX_BYTES) {
        return false;
    }
    ret_reply->payload = (const char *)payload;
    ret_reply->bytes = bytes;
    if (!bson_iter_init_find(&iter, reply, "done") || !BSON_ITER_HOLDS_BOOL(&iter)) {
        return false;
    }
    ret_reply->done = bson_iter_bool(&iter);
    if (!bson_iter_init_find(&iter, reply, "conversationId") || !BSON_ITER_HOLDS_INT(&iter)) {
        return false;
    }
    bson_value_copy(bson_iter_value(&iter), &auth->conversation);
    return true;
}

// The server's last message: proves that it knows the password, too.
static enum auth_status check_final(struct auth *auth, const struct sasl_reply *reply,
                                    bson_t *ret_command)
{
    char *rest = NULL;
    size_t bytes = 0;
    int result = gsasl_step(auth->session, reply->payload, reply->bytes, &rest, &bytes);
    gsasl_free(rest);
    if (result == GSASL_AUTHENTICATION_ERROR) {
        return fail(auth, "the server could not prove that it knows the password");
    }
    if (result != GSASL_OK) {
        return fail(auth, "the server's final SCRAM message is malformed");
    }
    if (reply->done) {
        return AUTH_DONE;
    }
    auth->phase = PHASE_EMPTY;
    return send_continue(auth, "", 0, ret_command);
}

static enum auth_status scram_continue(struct auth *auth, const bson_t *reply, bson_t *ret_command)
{
    struct sasl_reply said;
    if (!sasl_reply_read(auth, reply, &said)) {
        return fail(auth, "the server's answer is none to SCRAM");
    }
    if (auth->phase == PHASE_FINAL) {
        return check_final(auth, &said, ret_command);
    }
    if (auth->phase == PHASE_EMPTY) {
        return said.done ? AUTH_DONE : fail(auth, "the server does not end SCRAM");
    }
    if (said.done) {
        return fail(auth, "the server ended SCRAM before it proved itself");
    }
    memcpy(auth->first, said.payload, said.bytes);
    auth->first_bytes = said.bytes;
    return answer_first(auth, ret_command);
}

// Keeps what the server said when it refused: the text is its own, so it is cut.
static enum auth_status refused(struct auth *auth, const bson_t *reply)
{
    bson_iter_t iter;
    uint32_t bytes = 0;
    const char *said = "";
    int64_t code = 0;
    if (bson_iter_init_find(&iter, reply, "errmsg") && BSON_ITER_HOLDS_UTF8(&iter)) {
        said = bson_iter_utf8(&iter, &bytes);
    }
    if (bson_iter_init_find(&iter, reply, "code") && BSON_ITER_HOLDS_NUMBER(&iter)) {
        code = bson_iter_as_int64(&iter);
    }
    auth->is_rejected = code == AUTHENTICATION_FAILED;
    const char *user = auth->credential->username;
    snprintf(auth->error, sizeof auth->error,
             "the server refused %s%s by %s on %s: %.*s (code %lld)",
             user != NULL ? "user " : "the certificate", user != NULL ? user : "",
             mechanism_names[auth->mechanism], auth->credential->source,
             bytes < SAID_MAX_BYTES ? (int)bytes : SAID_MAX_BYTES, said, (long long)code);
    return AUTH_FAILED;
}

static bool reply_is_ok(const bson_t *reply)
{
    bson_iter_t iter;
    return bson_iter_init_find(&iter, reply, "ok") && bson_iter_as_bool(&iter);
}

static bool speculation_reply(const bson_t *hello_reply, bson_t *ret_reply)
{
    bson_iter_t iter;
    uint32_t bytes;
    const uint8_t *data;
    if (!bson_iter_init_find(&iter, hello_reply, "speculativeAuthenticate") ||
        !BSON_ITER_HOLDS_DOCUMENT(&iter)) {
        return false;
    }
    bson_iter_document(&iter, &bytes, &data);
    return bson_init_static(ret_reply, data, bytes);
}

// SCRAM-SHA-256 if the server says that the user has it, else SCRAM-SHA-1.
static enum mechanism negotiate(const bson_t *hello_reply)
{
    bson_iter_t iter, item;
    if (bson_iter_init_find(&iter, hello_reply, "saslSupportedMechs") &&
        BSON_ITER_HOLDS_ARRAY(&iter) && bson_iter_recurse(&iter, &item)) {
        while (bson_iter_next(&item)) {
            if (BSON_ITER_HOLDS_UTF8(&item) &&
                strcmp(bson_iter_utf8(&item, NULL), mechanism_names[SCRAM_SHA_256]) == 0) {
                return SCRAM_SHA_256;
            }
        }
    }
    return SCRAM_SHA_1;
}

enum auth_status auth_begin(struct auth *auth, const bson_t *hello_reply, bson_t *ret_command)
{
    bson_t speculated;
    assert(auth->phase == PHASE_BEGIN);
    if (credential_is_empty(auth->credential)) {
        return AUTH_DONE;
    }
    if (auth->error[0] != '\0') {
        return AUTH_FAILED;
    }
    if (auth->speculated && speculation_reply(hello_reply, &speculated)) {
        auth->phase = PHASE_FIRST;
        return auth->mechanism == MONGODB_X509 ? AUTH_DONE
                                               : scram_continue(auth, &speculated, ret_command);
    }
    if (auth->credential->mechanism == NULL) {
        auth->mechanism = negotiate(hello_reply);
    }
    return start(auth, ret_command);
}

enum auth_status auth_continue(struct auth *auth, const bson_t *reply, bson_t *ret_command)
{
    assert(auth->phase != PHASE_BEGIN);
    if (auth->error[0] != '\0') {
        return AUTH_FAILED;
    }
    if (auth->phase == PHASE_KEY) {
        return answer_first(auth, ret_command);
    }
    if (!reply_is_ok(reply)) {
        return refused(auth, reply);
    }
    if (auth->phase == PHASE_ONLY) {
        return AUTH_DONE;
    }
    return scram_continue(auth, reply, ret_command);
}

// What MongoDB salts with SCRAM-SHA-1 instead of the password: a digest of it, in hexadecimal.
static char *mongo_digest(const struct credential *credential)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    char *text = bson_strdup_printf("%s:mongo:%s", credential->username, credential->password);
    char *hex = xmalloc(2 * 16 + 1);
    unsigned bytes = 0;
    int done = EVP_Digest(text, strlen(text), digest, &bytes, EVP_md5(), NULL);
    assert(done == 1 && bytes == 16);
    for (size_t i = 0; i < bytes; i++) {
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    }
    OPENSSL_cleanse(text, strlen(text));
    OPENSSL_cleanse(digest, sizeof digest);
    bson_free(text);
    return hex;
}

// NULL if the password cannot be one. The caller frees it.
static char *prepare_password(const struct auth *auth)
{
    char *prepared = NULL;
    if (auth->mechanism == SCRAM_SHA_1) {
        return mongo_digest(auth->credential);
    }
    return gsasl_saslprep(auth->credential->password, 0, &prepared, NULL) == GSASL_OK ? prepared
                                                                                      : NULL;
}

void auth_derive(struct auth *auth)
{
    struct key key = {.name = auth->wanted};
    char *salt = NULL;
    size_t salt_bytes = 0;
    assert(auth->phase == PHASE_KEY);
    if (key_cache_get(auth->cache, &key.name, key.bytes)) {
        return;
    }
    char *password = prepare_password(auth);
    if (password == NULL) {
        fail(auth, "the password has characters that SCRAM does not allow (SASLprep, RFC 4013)");
    } else if (gsasl_base64_from(key.name.salt, strlen(key.name.salt), &salt, &salt_bytes) !=
               GSASL_OK) {
        fail(auth, "the server's SCRAM salt is not base64");
    } else if (PKCS5_PBKDF2_HMAC(password, (int)strlen(password), (const unsigned char *)salt,
                                 (int)salt_bytes, key.name.iterations,
                                 mechanism_digest(key.name.mechanism),
                                 (int)mechanism_key_bytes(key.name.mechanism), key.bytes) != 1) {
        fail(auth, "OpenSSL cannot derive the SCRAM key");
    } else {
        key_cache_put(auth->cache, &key);
    }
    if (password != NULL) {
        OPENSSL_cleanse(password, strlen(password));
    }
    OPENSSL_cleanse(&key, sizeof key);
    free(password);
    gsasl_free(salt);
}
