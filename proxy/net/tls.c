// SPDX-License-Identifier: Apache-2.0
//
// TLS settings on OpenSSL's contexts, and why a PEM file will not do, in one line.

#include "proxy/net/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include "proxy/mem.h"
#include "proxy/net/errno_words.h"
#include "proxy/net/tls_context.h"

// Key sizes and digests of at least 112 bits.
enum { SECURITY_LEVEL = 2 };

// Where a failure is written.
struct complaint {
    char *text;
    size_t capacity;
};

static bool complain(struct complaint complaint, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

// Always false.
static bool complain(struct complaint complaint, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(complaint.text, complaint.capacity, format, args);
    va_end(args);
    ERR_clear_error();
    return false;
}

// The reason of OpenSSL's first error, the cause of the others; `otherwise` where it is that
// nothing of the kind was found.
static const char *ssl_words(const char *otherwise)
{
    unsigned long error = ERR_peek_error();
    int lib = ERR_GET_LIB(error);
    int reason = ERR_GET_REASON(error);
    if ((lib == ERR_LIB_PEM && reason == PEM_R_NO_START_LINE) ||
        (lib == ERR_LIB_X509 && reason == X509_R_NO_CERTIFICATE_OR_CRL_FOUND)) {
        return otherwise;
    }
    if (lib == ERR_LIB_SSL && reason == SSL_R_EE_KEY_TOO_SMALL) {
        return "its key is too small: RSA of 2048 bits, or EC";
    }
    if (lib == ERR_LIB_SSL && reason == SSL_R_CA_MD_TOO_WEAK) {
        return "it is signed by a digest that is too weak: SHA-256";
    }
    const char *words = ERR_reason_error_string(error);
    return words != NULL ? words : otherwise;
}

static bool file_open(const char *path, FILE **ret_file, struct complaint complaint)
{
    FILE *file = fopen(path, "re");
    int error = errno;
    if (file != NULL && fgetc(file) == EOF && ferror(file)) {
        // A directory opens and cannot be read.
        error = errno;
        fclose(file);
        file = NULL;
    }
    if (file == NULL) {
        char words[ERRNO_WORDS_BYTES];
        return complain(complaint, "%s: cannot be read: %s", path, errno_words(error, words));
    }
    rewind(file);
    *ret_file = file;
    return true;
}

static bool file_is_readable(const char *path, struct complaint complaint)
{
    FILE *file = NULL;
    if (!file_open(path, &file, complaint)) {
        return false;
    }
    fclose(file);
    return true;
}

struct key_password {
    const char *password; // NULL: none
    bool asked;
};

// OpenSSL's own would ask at the terminal.
static int key_password_give(char *ret_password, int capacity, int for_writing, void *arg)
{
    (void)for_writing;
    struct key_password *key = arg;
    key->asked = true;
    size_t len = key->password != NULL ? strlen(key->password) : 0;
    if (len == 0 || capacity < 0 || len > (size_t)capacity) {
        return -1;
    }
    memcpy(ret_password, key->password, len);
    return (int)len;
}

static bool key_read(const char *path, const char *password, EVP_PKEY **ret_key,
                     struct complaint complaint)
{
    FILE *file = NULL;
    if (!file_open(path, &file, complaint)) {
        return false;
    }
    struct key_password give = {.password = password};
    EVP_PKEY *key = PEM_read_PrivateKey(file, NULL, key_password_give, &give);
    fclose(file);
    if (key != NULL) {
        *ret_key = key;
        return true;
    }
    if (give.asked && password == NULL) {
        return complain(complaint, "%s: its private key is encrypted, and no password is given",
                        path);
    }
    if (give.asked) {
        return complain(complaint, "%s: the password does not open its private key", path);
    }
    return complain(complaint, "%s: no private key in it", path);
}

static bool context_use_key(SSL_CTX *context, const char *path, const char *password,
                            struct complaint complaint)
{
    EVP_PKEY *key = NULL;
    if (!key_read(path, password, &key, complaint)) {
        return false;
    }
    int used = SSL_CTX_use_PrivateKey(context, key);
    EVP_PKEY_free(key);
    if (used != 1 || SSL_CTX_check_private_key(context) != 1) {
        return complain(complaint, "%s: its private key does not belong to its certificate", path);
    }
    return true;
}

static bool context_use_certificate(SSL_CTX *context, const char *path, const char *password,
                                    struct complaint complaint)
{
    if (!file_is_readable(path, complaint)) {
        return false;
    }
    if (SSL_CTX_use_certificate_chain_file(context, path) != 1) {
        return complain(complaint, "%s: %s", path, ssl_words("no certificate in it"));
    }
    return context_use_key(context, path, password, complaint);
}

static bool context_trust(SSL_CTX *context, const char *path, struct complaint complaint)
{
    if (path == NULL) {
        if (SSL_CTX_set_default_verify_paths(context) != 1) {
            return complain(complaint, "the system's certificate authorities cannot be read");
        }
        return true;
    }
    if (!file_is_readable(path, complaint)) {
        return false;
    }
    if (SSL_CTX_load_verify_file(context, path) != 1) {
        return complain(complaint, "%s: %s", path, ssl_words("no certificate in it"));
    }
    return true;
}

static SSL_CTX *context_new(const SSL_METHOD *method)
{
    SSL_CTX *context = mem_or_abort(SSL_CTX_new(method), 1);
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_security_level(context, SECURITY_LEVEL);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_read_ahead(context, 1);
    return context;
}

struct tls_server {
    pthread_mutex_t lock; // guards the pointer
    SSL_CTX *context;
};

static bool server_verify_clients(SSL_CTX *context, const char *ca_file,
                                  enum tls_client_certificates certificates,
                                  struct complaint complaint)
{
    if (certificates == TLS_CLIENTS_NONE) {
        return true;
    }
    if (ca_file == NULL) {
        return complain(complaint, "client certificates cannot be verified without a CA file");
    }
    if (!context_trust(context, ca_file, complaint)) {
        return false;
    }
    // Tells the clients which of their certificates will do.
    SSL_CTX_set_client_CA_list(context, SSL_load_client_CA_file(ca_file));
    bool required = certificates == TLS_CLIENTS_REQUIRED;
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | (required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                       NULL);
    return true;
}

struct tls_server *tls_server_new(const char *certificate_key_file, const char *ca_file,
                                  enum tls_client_certificates client_certificates, char *ret_error,
                                  size_t error_capacity)
{
    static const unsigned char session_context[] = "weir";
    struct complaint complaint = {ret_error, error_capacity};
    SSL_CTX *context = context_new(TLS_server_method());
    // Without it a session whose client had a certificate cannot be resumed.
    SSL_CTX_set_session_id_context(context, session_context, sizeof session_context - 1);
    SSL_CTX_set_num_tickets(context, 1);
    if (!context_use_certificate(context, certificate_key_file, NULL, complaint) ||
        !server_verify_clients(context, ca_file, client_certificates, complaint)) {
        SSL_CTX_free(context);
        return NULL;
    }
    struct tls_server *tls = xcalloc(1, sizeof *tls);
    pthread_mutex_init(&tls->lock, NULL);
    tls->context = context;
    return tls;
}

bool tls_server_revoke(struct tls_server *tls, const char *crl_file, char *ret_error,
                       size_t error_capacity)
{
    struct complaint complaint = {ret_error, error_capacity};
    X509_STORE *store = SSL_CTX_get_cert_store(tls->context);
    X509_LOOKUP *lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());
    if (!file_is_readable(crl_file, complaint)) {
        return false;
    }
    if (lookup == NULL || X509_load_crl_file(lookup, crl_file, X509_FILETYPE_PEM) < 1) {
        return complain(complaint, "%s: %s", crl_file, ssl_words("no revocation list in it"));
    }
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    return true;
}

void tls_server_free(struct tls_server *tls)
{
    if (tls == NULL) {
        return;
    }
    pthread_mutex_destroy(&tls->lock);
    SSL_CTX_free(tls->context);
    free(tls);
}

// `fresh` is nobody else's, so its lock is not needed.
void tls_server_exchange(struct tls_server *tls, struct tls_server *fresh)
{
    pthread_mutex_lock(&tls->lock);
    SSL_CTX *former = tls->context;
    tls->context = fresh->context;
    pthread_mutex_unlock(&tls->lock);
    fresh->context = former;
}

static int64_t seconds_of(const ASN1_TIME *time)
{
    struct tm utc = {0};
    ASN1_TIME_to_tm(time, &utc);
    return timegm(&utc);
}

int64_t tls_server_expiry(struct tls_server *tls)
{
    SSL_CTX *context = tls_server_context(tls);
    int64_t expiry = seconds_of(X509_get0_notAfter(SSL_CTX_get0_certificate(context)));
    SSL_CTX_free(context);
    return expiry;
}

int64_t tls_server_revocation_expiry(struct tls_server *tls)
{
    int64_t first = INT64_MAX;
    SSL_CTX *context = tls_server_context(tls);
    STACK_OF(X509_OBJECT) *objects = X509_STORE_get0_objects(SSL_CTX_get_cert_store(context));
    for (int i = 0; i < sk_X509_OBJECT_num(objects); i++) {
        const X509_CRL *list = X509_OBJECT_get0_X509_CRL(sk_X509_OBJECT_value(objects, i));
        const ASN1_TIME *next = list ? X509_CRL_get0_nextUpdate(list) : NULL;
        int64_t expiry = next ? seconds_of(next) : INT64_MAX;
        first = expiry < first ? expiry : first;
    }
    SSL_CTX_free(context);
    return first;
}

SSL_CTX *tls_server_context(struct tls_server *tls)
{
    pthread_mutex_lock(&tls->lock);
    SSL_CTX *context = tls->context;
    SSL_CTX_up_ref(context);
    pthread_mutex_unlock(&tls->lock);
    return context;
}

void tls_context_drop(SSL_CTX *context)
{
    SSL_CTX_free(context);
}

struct tls_client {
    SSL_CTX *context;
    bool checks_host;
};

struct tls_client *tls_client_new(const struct tls_client_options *options, char *ret_error,
                                  size_t error_capacity)
{
    struct complaint complaint = {ret_error, error_capacity};
    SSL_CTX *context = context_new(TLS_client_method());
    bool verifies = !options->allow_invalid_certificates;
    SSL_CTX_set_verify(context, verifies ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    if (!context_trust(context, options->ca_file, complaint) ||
        (options->certificate_key_file != NULL &&
         !context_use_certificate(context, options->certificate_key_file,
                                  options->certificate_key_password, complaint))) {
        SSL_CTX_free(context);
        return NULL;
    }
    struct tls_client *tls = xcalloc(1, sizeof *tls);
    tls->context = context;
    tls->checks_host = verifies && !options->allow_invalid_hostnames;
    return tls;
}

void tls_client_free(struct tls_client *tls)
{
    if (tls == NULL) {
        return;
    }
    SSL_CTX_free(tls->context);
    free(tls);
}

SSL_CTX *tls_client_context(struct tls_client *tls)
{
    return tls->context;
}

bool tls_client_checks_host(const struct tls_client *tls)
{
    return tls->checks_host;
}
