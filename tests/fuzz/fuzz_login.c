// SPDX-License-Identifier: Apache-2.0
//
// A client that says anything to weir's side of a login.
//
//      input: message: kind 1, length 2, bytes | the next | …
//
// A message is a command's document as it stands, or (odd kind) a payload, in which 1 stands for
// the nonce that the server gave, 2 for the right proof of what was said so far. LOGIN_DONE must
// come of a right proof only, or of the certificate, and be of the one user whose it is.

#include "proxy/login.h"

#include <gsasl.h>
#include <openssl/hmac.h>

#include "tests/fuzz/fuzz.h"

enum { MESSAGES_MOST = 6, HASH = 32, TEXT = 4096 };
enum { KIND_PAYLOAD = 1, KIND_CONTINUES = 2, KIND_CERTIFICATE = 4 };

#define SUBJECT "CN=app"

static unsigned char client_key[HASH];
static unsigned char stored_key[HASH];
static struct users *users;
static struct logins *logins;

// In the place of libgsasl's own: inputs can be run again.
int gsasl_nonce(char *data, size_t bytes)
{
    memset(data, 7, bytes);
    return GSASL_OK;
}

static void encode(const unsigned char *bytes, int count, char *ret_text)
{
    EVP_EncodeBlock((unsigned char *)ret_text, bytes, count);
}

static void set_up(void)
{
    unsigned char server_key[HASH];
    char stored[64], server[64];
    static char keys[256];
    static const uint8_t secret[LOGIN_SECRET_BYTES];
    memset(client_key, 1, HASH);
    memset(server_key, 2, HASH);
    MUST(EVP_Digest(client_key, HASH, stored_key, NULL, EVP_sha256(), NULL));
    encode(stored_key, HASH, stored);
    encode(server_key, HASH, server);
    snprintf(keys, sizeof keys, "4096:c2FsdHNhbHQ=:%s:%s", stored, server);
    struct config_field user[] = {{"name", "user", 1}, {"scramSha256", keys, 1}};
    struct config_field certified[] = {{"name", SUBJECT, 2}, {"db", "$external", 2}};
    struct config_entry entries[] = {{user, 2, 1}, {certified, 2, 2}};
    const struct config config = {.users = {entries, 2}, .file = "fuzz"};
    char error[256];
    users = users_new(&config, NULL, error, sizeof error);
    MUST(users);
    logins = logins_new(users, secret);
}

// What was said in one conversation.
struct talk {
    char bare[TEXT];  // the client's first message, from "n=" on
    char first[TEXT]; // the server's
    bool is_proven;   // the last message had the right proof
};

static void right_proof(const struct talk *talk, const char *without, char ret_text[64])
{
    static char text[3 * TEXT];
    unsigned char signature[HASH];
    int len = snprintf(text, sizeof text, "%s,%s,%s", talk->bare, talk->first, without);
    MUST(HMAC(EVP_sha256(), stored_key, HASH, (unsigned char *)text, (size_t)len, signature, NULL));
    for (int i = 0; i < HASH; i++) {
        signature[i] ^= client_key[i];
    }
    encode(signature, HASH, ret_text);
}

static void nonce_of(const struct talk *talk, char ret_text[TEXT])
{
    const char *at = strstr(talk->first, "r=");
    snprintf(ret_text, TEXT, "%.*s", at ? (int)strcspn(at + 2, ",") : 0, at ? at + 2 : "");
}

// Fills the form in; what ends in ",p=" and the right proof is proven.
static size_t fill(struct talk *talk, struct bytes form, char ret_text[TEXT])
{
    static char put[TEXT];
    size_t used = 0;
    for (size_t i = 0; i < form.len && used < TEXT / 2; i++) {
        put[0] = (char)form.at[i];
        put[1] = '\0';
        if (form.at[i] == 1) {
            nonce_of(talk, put);
        }
        if (form.at[i] == 2 && used > 3) {
            char without[TEXT];
            snprintf(without, sizeof without, "%.*s", (int)used - 3, ret_text);
            right_proof(talk, without, put);
        }
        used += put[0] == '\0' ? (ret_text[used] = '\0', 1)
                               : (size_t)snprintf(ret_text + used, TEXT - used, "%s", put);
    }
    char right[64];
    char without[TEXT];
    const size_t proof = strlen(",p=") + 44;
    talk->is_proven = false;
    if (used > proof && memcmp(ret_text + used - proof, ",p=", 3) == 0) {
        snprintf(without, sizeof without, "%.*s", (int)(used - proof), ret_text);
        right_proof(talk, without, right);
        talk->is_proven = memcmp(ret_text + used - 44, right, 44) == 0;
    }
    return used;
}

static void note_first(struct talk *talk, const char *said, size_t len, const bson_t *reply)
{
    bson_iter_t iter;
    uint32_t bytes;
    const uint8_t *at;
    MUST(bson_iter_init_find(&iter, reply, "payload"));
    bson_iter_binary(&iter, NULL, &bytes, &at);
    snprintf(talk->first, TEXT, "%.*s", (int)bytes, (const char *)at);
    const char *bare = memmem(said, len, ",n=", 3);
    snprintf(talk->bare, TEXT, "%.*s", bare ? (int)(len - (size_t)(bare + 1 - said)) : 0,
             bare ? bare + 1 : "");
}

static void build(bson_t *command, uint8_t kind, const char *payload, size_t len)
{
    bson_t options;
    BSON_APPEND_INT32(command, "any", 1);
    BSON_APPEND_UTF8(command, "mechanism", "SCRAM-SHA-256");
    BSON_APPEND_INT32(command, "conversationId", 1);
    BSON_APPEND_BINARY(command, "payload", BSON_SUBTYPE_BINARY, (const uint8_t *)payload,
                       (uint32_t)len);
    BSON_APPEND_DOCUMENT_BEGIN(command, "options", &options);
    BSON_APPEND_BOOL(&options, "skipEmptyExchange", !(kind & 8));
    bson_append_document_end(command, &options);
}

static void check_done(const struct login *login, bool by_certificate, bool proven)
{
    const struct user *user = login_user(login);
    MUST(user && (by_certificate || proven));
    MUST(strcmp(user->spec.name, by_certificate ? SUBJECT : "user") == 0);
    MUST(strcmp(user->spec.name, login_name(login)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct bytes admin = {(const uint8_t *)"admin", 5};
    static char payload[TEXT + 64];
    struct input input = {data, size};
    struct login *login = NULL;
    struct talk talk = {.is_proven = false};
    bool proven = false;
    if (!logins) {
        set_up();
    }
    for (int i = 0; i < MESSAGES_MOST && input.len > 0; i++) {
        uint8_t kind = input_byte(&input);
        struct bytes piece = input_piece(&input);
        bson_t made = BSON_INITIALIZER;
        bson_t reply = BSON_INITIALIZER;
        size_t len = 0;
        talk.is_proven = false;
        if (kind & KIND_PAYLOAD) {
            len = fill(&talk, piece, payload);
            build(&made, kind, payload, len);
            piece = (struct bytes){bson_get_data(&made), made.len};
        }
        uint8_t *block = exact_copy(piece.at, piece.len);
        struct bytes command = {block, piece.len};
        bool by_certificate = kind & KIND_CERTIFICATE;
        enum login_status status = LOGIN_OUT_OF_PLACE;
        if (bson_check(command) != WIRE_OK) {
            status = LOGIN_OUT_OF_PLACE;
        } else if (kind & KIND_CONTINUES) {
            by_certificate = false;
            status = login_continue(login, command, &reply);
        } else {
            login_free(login);
            proven = false;
            status = by_certificate ? login_by_certificate(logins, command, SUBJECT, &login, &reply)
                                    : login_start(logins, command, admin, &login, &reply);
            if (status == LOGIN_GOES_ON && kind & KIND_PAYLOAD) {
                note_first(&talk, payload, len, &reply);
            }
        }
        proven |= talk.is_proven;
        // A document as it stands may hold a proof, too, but none that is right: the nonce is not
        // known to who made it.
        if (status == LOGIN_DONE) {
            check_done(login, by_certificate, proven);
        }
        MUST((status == LOGIN_GOES_ON || status == LOGIN_DONE) == !bson_empty(&reply));
        free(block);
        bson_destroy(&made);
        bson_destroy(&reply);
        if (status != LOGIN_GOES_ON) {
            login_free(login);
            login = NULL;
        }
    }
    login_free(login);
    return 0;
}
