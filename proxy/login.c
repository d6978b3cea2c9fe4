// SPDX-License-Identifier: Apache-2.0

#include "proxy/login.h"

#include <assert.h>
#include <gsasl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/mem.h"
#include "wire/bson_view.h"

enum { PAYLOAD_MAX_BYTES = 4096, NAME_BYTES = 256, USUAL_ITERATIONS = 15000, MAC_BYTES = 64 };

static const uint8_t nowhere[PENALTY_ADDRESS_BYTES];
static const char x509[] = "MONGODB-X509";

struct logins {
    Gsasl *gsasl;         // only read once it is made
    pthread_mutex_t lock; // guards the following
    struct users *users;
    struct penalties *penalties;
    uint8_t secret[LOGIN_SECRET_BYTES];
};

enum phase { PHASE_FIRST, PHASE_PROOF, PHASE_EMPTY, PHASE_OVER };

struct login {
    struct logins *logins;
    struct users *users;
    Gsasl_session *session;
    enum phase phase;
    enum scram scram;
    struct user *user; // NULL: there is none
    struct scram_keys keys;
    bool likely;
    bool skips_empty;
    const char *mechanism;
    const char *why;
    char db[NAME_BYTES];
    char name[1024];
};

// --- users who do not exist ---------------------------------------------------------------------

// What a text about a user comes to by the secret: nobody else can tell it from chance.
static void digest_of(const struct logins *logins, const char *what, const struct login *login,
                      unsigned char ret_mac[MAC_BYTES])
{
    char text[NAME_BYTES + 1024 + 64];
    unsigned bytes = MAC_BYTES;
    int len = snprintf(text, sizeof text, "%s:%s:%s", what, login->db, login->name);
    assert(len > 0 && (size_t)len < sizeof text);
    if (!HMAC(EVP_sha512(), logins->secret, sizeof logins->secret, (unsigned char *)text,
              (size_t)len, ret_mac, &bytes)) {
        abort();
    }
}

static void encode(const unsigned char *bytes, int count, char ret_text[SCRAM_TEXT_BYTES])
{
    EVP_EncodeBlock((unsigned char *)ret_text, bytes, count);
}

// One that exists, whom somebody who does not exist resembles in mechanisms and iterations: the
// same one always. NULL: nobody has keys.
static const struct user *model_for(const struct login *login)
{
    unsigned char mac[MAC_BYTES];
    size_t count = users_count(login->users);
    size_t at;
    digest_of(login->logins, "model", login, mac);
    memcpy(&at, mac, sizeof at);
    for (size_t i = 0; i < count; i++) {
        const struct user *user = users_at(login->users, (at + i) % count);
        if (user->scram[SCRAM_256].iterations || user->scram[SCRAM_1].iterations) {
            return user;
        }
    }
    return NULL;
}

static bool model_has(const struct user *model, enum scram scram)
{
    return model ? model->scram[scram].iterations > 0 : scram == SCRAM_256;
}

static int salt_bytes(const struct scram_keys *keys)
{
    size_t length = strlen(keys->salt);
    int padding = (keys->salt[length - 1] == '=') + (keys->salt[length - 2] == '=');
    return (int)length / 4 * 3 - padding;
}

// Keys that fit no password.
static void make_up_keys(struct login *login, const struct user *model)
{
    unsigned char mac[MAC_BYTES];
    const struct scram_keys *like = model ? &model->scram[login->scram] : NULL;
    bool has = like && like->iterations > 0;
    login->keys.iterations = has ? like->iterations : USUAL_ITERATIONS;
    digest_of(login->logins, scram_names[login->scram], login, mac);
    encode(mac, has ? salt_bytes(like) : 28, login->keys.salt);
    digest_of(login->logins, "storedKey", login, mac);
    encode(mac, scram_key_bytes[login->scram], login->keys.stored_key);
    digest_of(login->logins, "serverKey", login, mac);
    encode(mac, scram_key_bytes[login->scram], login->keys.server_key);
}

static struct user *find_user(const struct login *login)
{
    return users_find(login->users, (struct bytes){(uint8_t *)login->db, strlen(login->db)},
                      (struct bytes){(uint8_t *)login->name, strlen(login->name)});
}

// The same work is done for all, so that how long it takes tells nothing.
static void find_keys(struct login *login)
{
    const struct user *model = model_for(login);
    struct user *user = find_user(login);
    make_up_keys(login, model);
    bool has = user && user->scram[login->scram].iterations > 0;
    login->user = has ? user : NULL;
    login->likely = user ? has : model_has(model, login->scram);
    if (has) {
        login->keys = user->scram[login->scram];
    }
}

// --- libgsasl -----------------------------------------------------------------------------------

static int provide(Gsasl *gsasl, Gsasl_session *session, Gsasl_property property)
{
    (void)gsasl;
    struct login *login = gsasl_session_hook_get(session);
    char iterations[16];
    switch ((int)property) {
    case GSASL_SCRAM_ITER: { // the first that it asks for, when it has read the name
        const char *name = gsasl_property_fast(session, GSASL_AUTHID);
        snprintf(login->name, sizeof login->name, "%s", name ? name : "");
        find_keys(login);
        snprintf(iterations, sizeof iterations, "%d", login->keys.iterations);
        return gsasl_property_set(session, property, iterations);
    }
    case GSASL_SCRAM_SALT:
        return gsasl_property_set(session, property, login->keys.salt);
    case GSASL_SCRAM_STOREDKEY:
        return gsasl_property_set(session, property, login->keys.stored_key);
    case GSASL_SCRAM_SERVERKEY:
        return gsasl_property_set(session, property, login->keys.server_key);
    default:
        return GSASL_NO_CALLBACK;
    }
}

struct logins *logins_new(struct users *users, const uint8_t secret[LOGIN_SECRET_BYTES])
{
    struct logins *logins = xcalloc(1, sizeof *logins);
    logins->users = users_keep(users);
    memcpy(logins->secret, secret, LOGIN_SECRET_BYTES);
    logins->penalties = penalties_new();
    pthread_mutex_init(&logins->lock, NULL);
    if (gsasl_init(&logins->gsasl) != GSASL_OK) {
        abort();
    }
    gsasl_callback_set(logins->gsasl, provide);
    return logins;
}

void logins_exchange(struct logins *logins, struct users *users)
{
    pthread_mutex_lock(&logins->lock);
    struct users *former = logins->users;
    logins->users = users_keep(users);
    pthread_mutex_unlock(&logins->lock);
    users_drop(former);
}

void logins_free(struct logins *logins)
{
    if (!logins) {
        return;
    }
    gsasl_done(logins->gsasl);
    users_drop(logins->users);
    penalties_free(logins->penalties);
    pthread_mutex_destroy(&logins->lock);
    OPENSSL_cleanse(logins->secret, sizeof logins->secret);
    free(logins);
}

int64_t logins_wait(struct logins *logins, const uint8_t *address, int64_t now_us)
{
    pthread_mutex_lock(&logins->lock);
    int64_t wait_us = penalties_wait(logins->penalties, address ? address : nowhere, now_us);
    pthread_mutex_unlock(&logins->lock);
    return wait_us;
}

void logins_failed(struct logins *logins, const uint8_t *address, int64_t now_us)
{
    pthread_mutex_lock(&logins->lock);
    penalties_failed(logins->penalties, address ? address : nowhere, now_us);
    pthread_mutex_unlock(&logins->lock);
}

// --- a conversation -----------------------------------------------------------------------------

static enum login_status refuse(struct login *login, const char *why)
{
    login->phase = PHASE_OVER;
    login->why = why;
    return LOGIN_REFUSED;
}

static struct login *login_new(struct logins *logins, struct bytes database)
{
    struct login *login = xcalloc(1, sizeof *login);
    login->logins = logins;
    pthread_mutex_lock(&logins->lock);
    login->users = users_keep(logins->users);
    pthread_mutex_unlock(&logins->lock);
    login->mechanism = "";
    login->why = "";
    size_t len = database.len < NAME_BYTES - 1 ? database.len : NAME_BYTES - 1;
    memcpy(login->db, database.at, len);
    return login;
}

void login_follow(struct login *login, struct users *users)
{
    struct users *former = login->users;
    login->users = users_keep(users);
    login->user = login->user ? find_user(login) : NULL;
    users_drop(former);
}

void login_free(struct login *login)
{
    if (!login) {
        return;
    }
    gsasl_finish(login->session);
    users_drop(login->users);
    OPENSSL_cleanse(&login->keys, sizeof login->keys);
    free(login);
}

static bool read_text(struct bytes document, const char *key, struct bytes *ret_text)
{
    struct bson_element element;
    return bson_find(document, key, &element) && bson_element_text(&element, ret_text);
}

// The text of the client's message. False: there is none, or it cannot be of SCRAM.
static bool read_payload(struct bytes command, struct bytes *ret_payload)
{
    struct bson_element element;
    const size_t header = 5; // length and subtype
    if (!bson_find(command, "payload", &element) || element.type != BSON_VIEW_BINARY ||
        element.value.len < header || element.value.len - header > PAYLOAD_MAX_BYTES) {
        return false;
    }
    *ret_payload = (struct bytes){element.value.at + header, element.value.len - header};
    return ret_payload->len == 0 || !memchr(ret_payload->at, 0, ret_payload->len);
}

static bool find_mechanism(struct bytes command, enum scram *ret_scram)
{
    struct bytes name;
    if (!read_text(command, "mechanism", &name)) {
        return false;
    }
    for (int i = 0; i < SCRAM_COUNT; i++) {
        if (bytes_equal(name, scram_names[i])) {
            *ret_scram = (enum scram)i;
            return true;
        }
    }
    return false;
}

static bool asks_to_skip_empty(struct bytes command)
{
    struct bson_element options;
    struct bson_element skip;
    return bson_find(command, "options", &options) && options.type == BSON_VIEW_DOCUMENT &&
           bson_find(options.value, "skipEmptyExchange", &skip) && bson_element_truth(&skip);
}

static void append_answer(bson_t *reply, bool done, const char *payload, size_t len)
{
    BSON_APPEND_INT32(reply, "conversationId", 1);
    BSON_APPEND_BOOL(reply, "done", done);
    BSON_APPEND_BINARY(reply, "payload", BSON_SUBTYPE_BINARY, (const uint8_t *)payload,
                       (uint32_t)len);
    BSON_APPEND_DOUBLE(reply, "ok", 1.0);
}

// Whether it asks to act as somebody else than who proves who it is.
static bool acts_as_other(const struct login *login)
{
    const char *other = gsasl_property_fast(login->session, GSASL_AUTHZID);
    return other && other[0] != '\0' && strcmp(other, login->name) != 0;
}

static enum login_status take_first(struct login *login, struct bytes payload, bson_t *reply)
{
    char *answer = NULL;
    size_t len = 0;
    int result = gsasl_step(login->session, (const char *)payload.at, payload.len, &answer, &len);
    if (result != GSASL_NEEDS_MORE || login->name[0] == '\0') {
        gsasl_free(answer);
        return refuse(login, "malformed first message");
    }
    if (acts_as_other(login)) {
        gsasl_free(answer);
        return refuse(login, "asks to act as another user");
    }
    login->phase = PHASE_PROOF;
    append_answer(reply, false, answer, len);
    gsasl_free(answer);
    return LOGIN_GOES_ON;
}

enum login_status login_start(struct logins *logins, struct bytes command, struct bytes database,
                              struct login **ret_login, bson_t *reply)
{
    struct login *login = login_new(logins, database);
    struct bytes payload;
    *ret_login = login;
    if (!find_mechanism(command, &login->scram)) {
        refuse(login, "mechanism that weir does not have");
        return LOGIN_NO_MECHANISM;
    }
    login->mechanism = scram_names[login->scram];
    if (!read_payload(command, &payload) || payload.len == 0) {
        return refuse(login, "no payload");
    }
    if (payload.at[0] == 'p') { // which libgsasl would take for now
        return refuse(login, "asks for channel binding, which these mechanisms do not have");
    }
    login->skips_empty = asks_to_skip_empty(command);
    if (gsasl_server_start(logins->gsasl, login->mechanism, &login->session) != GSASL_OK) {
        abort(); // it is out of memory, or has not the mechanism
    }
    gsasl_session_hook_set(login->session, login);
    return take_first(login, payload, reply);
}

static const char *why_not(const struct login *login, int result)
{
    if (result != GSASL_AUTHENTICATION_ERROR) {
        return "malformed proof";
    }
    return login->user ? "wrong password, or replayed proof"
                       : "no such user, or not by this mechanism";
}

static enum login_status take_proof(struct login *login, struct bytes payload, bson_t *reply)
{
    char *answer = NULL;
    size_t len = 0;
    int result = gsasl_step(login->session, (const char *)payload.at, payload.len, &answer, &len);
    if (result != GSASL_OK || !login->user) {
        gsasl_free(answer);
        return refuse(login, why_not(login, result));
    }
    append_answer(reply, login->skips_empty, answer, len);
    gsasl_free(answer);
    login->phase = login->skips_empty ? PHASE_OVER : PHASE_EMPTY;
    return login->skips_empty ? LOGIN_DONE : LOGIN_GOES_ON;
}

static enum login_status take_empty(struct login *login, struct bytes payload, bson_t *reply)
{
    if (payload.len > 0) {
        return refuse(login, "malformed last message");
    }
    if (!login->user) {
        return refuse(login, "its user was removed meanwhile");
    }
    login->phase = PHASE_OVER;
    append_answer(reply, true, "", 0);
    return LOGIN_DONE;
}

enum login_status login_continue(struct login *login, struct bytes command, bson_t *reply)
{
    struct bson_element id;
    struct bytes payload;
    int64_t number;
    if (!login || !bson_find(command, "conversationId", &id) || !bson_element_i64(&id, &number) ||
        number != 1) {
        return LOGIN_OUT_OF_PLACE;
    }
    if (!read_payload(command, &payload)) {
        return refuse(login, "no payload");
    }
    switch (login->phase) {
    case PHASE_PROOF:
        return take_proof(login, payload, reply);
    case PHASE_EMPTY:
        return take_empty(login, payload, reply);
    case PHASE_FIRST:
    case PHASE_OVER:
        break;
    }
    return refuse(login, "goes on with what is over");
}

enum login_status login_by_certificate(struct logins *logins, struct bytes command,
                                       const char *subject, struct login **ret_login, bson_t *reply)
{
    static const struct bytes external = {(const uint8_t *)"$external", 9};
    struct login *login = login_new(logins, external);
    struct bytes mechanism;
    struct bytes user;
    *ret_login = login;
    login->phase = PHASE_OVER;
    if (!read_text(command, "mechanism", &mechanism) || !bytes_equal(mechanism, x509)) {
        refuse(login, "mechanism that weir does not have");
        return LOGIN_NO_MECHANISM;
    }
    login->mechanism = x509;
    if (!subject || strlen(subject) >= sizeof login->name) {
        return refuse(login, "shows no certificate");
    }
    snprintf(login->name, sizeof login->name, "%s", subject);
    if (read_text(command, "user", &user) && !bytes_equal(user, subject)) {
        return refuse(login, "another name than its certificate's");
    }
    struct bytes name = {(const uint8_t *)subject, strlen(subject)};
    login->user = users_find(login->users, external, name);
    if (!login->user) {
        return refuse(login, "no user of that certificate");
    }
    BSON_APPEND_UTF8(reply, "dbname", "$external");
    BSON_APPEND_UTF8(reply, "user", subject);
    BSON_APPEND_DOUBLE(reply, "ok", 1.0);
    return LOGIN_DONE;
}

bool login_wants_proof(const struct login *login)
{
    return login && login->phase == PHASE_PROOF;
}

bool login_is_likely(const struct login *login)
{
    return login->likely;
}

struct user *login_user(const struct login *login)
{
    return login->user;
}

const char *login_name(const struct login *login)
{
    return login->name;
}

const char *login_db(const struct login *login)
{
    return login->db;
}

const char *login_mechanism(const struct login *login)
{
    return login->mechanism;
}

const char *login_why(const struct login *login)
{
    return login->why;
}

bool login_same_user(const struct login *a, const struct login *b)
{
    return strcmp(a->name, b->name) == 0 && strcmp(a->db, b->db) == 0;
}

// --- before it ----------------------------------------------------------------------------------

// Of a user who does not exist, those of the model.
static void append_mechanisms(const struct user *user, bson_t *hello)
{
    bson_t list;
    int count = 0;
    BSON_APPEND_ARRAY_BEGIN(hello, "saslSupportedMechs", &list);
    for (int i = SCRAM_COUNT - 1; i >= 0; i--) {
        if (model_has(user, (enum scram)i)) {
            char key[12];
            snprintf(key, sizeof key, "%d", count++);
            BSON_APPEND_UTF8(&list, key, scram_names[i]);
        }
    }
    bson_append_array_end(hello, &list);
}

void logins_append_mechanisms(struct logins *logins, struct bytes user, bson_t *hello)
{
    const uint8_t *dot = user.len > 0 ? memchr(user.at, '.', user.len) : NULL;
    if (!dot) {
        return;
    }
    size_t db_len = (size_t)(dot - user.at);
    struct bytes name = {dot + 1, user.len - db_len - 1};
    struct login *login = login_new(logins, (struct bytes){user.at, db_len});
    snprintf(login->name, sizeof login->name, "%.*s", (int)name.len, (const char *)name.at);
    const struct user *model = model_for(login);
    const struct user *found = users_find(login->users, (struct bytes){user.at, db_len}, name);
    append_mechanisms(found && found->spec.scram_sha_256 ? found
                      : found && found->spec.scram_sha_1 ? found
                                                         : model,
                      hello);
    login_free(login);
}
