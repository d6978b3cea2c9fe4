// SPDX-License-Identifier: Apache-2.0
//
// A URI is libmongoc's to understand; here it is refused where libmongoc would be too lenient for
// something that has to run unattended, and so that no line that is printed holds a secret:
//
//      scheme :// user : password @ hosts / database ? option=value & option=value
//                                 ^ the only one there may be
//
// So the password is known before libmongoc sees it, and what that says can be held against it.
#include <ctype.h>
#include <mongoc/mongoc.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "proxy/control/control.h"
#include "proxy/control/library.h"
#include "proxy/log.h"
#include "proxy/mem.h"

#define ESCAPES                                                                                    \
    "In a user name, a password or an option @ : / ? # % are written %40 %3A %2F %3F %23 %25"

enum { COMPLAINT_BYTES = 512, WHY_BYTES = 1100, SECRET_TELLTALE_BYTES = 8 };

static const char *const mechanisms[] = {"SCRAM-SHA-256", "SCRAM-SHA-1", "MONGODB-X509", "PLAIN"};

static const char *after_scheme(const char *uri)
{
    if (strncmp(uri, "mongodb://", 10) == 0) {
        return uri + 10;
    }
    return strncmp(uri, "mongodb+srv://", 14) == 0 ? uri + 14 : NULL;
}

// An @ anywhere else comes from a password that was not escaped: then hosts are looked for in it.
static bool only_at_is_in_place(const char *rest)
{
    const char *at = strchr(rest, '@');
    return at == NULL || (at < rest + strcspn(rest, "/?") && strchr(at + 1, '@') == NULL);
}

// Undoes the escapes at the beginning of a text, for as many bytes as there is room.
static size_t unescape(const char *text, size_t length, char ret_bytes[SECRET_TELLTALE_BYTES])
{
    size_t used = 0;
    for (size_t i = 0; i < length && used < SECRET_TELLTALE_BYTES; i++) {
        bool escaped = text[i] == '%' && i + 2 < length && isxdigit((unsigned char)text[i + 1]) &&
                       isxdigit((unsigned char)text[i + 2]);
        char digits[] = {escaped ? text[i + 1] : '0', escaped ? text[i + 2] : '0', '\0'};
        ret_bytes[used++] = escaped ? (char)strtoul(digits, NULL, 16) : text[i];
        i += escaped ? 2 : 0;
    }
    return used;
}

// What would be in plain sight if text were printed. Its beginning is enough, so that a text that
// was cut is recognised, too.
static bool reveals(const char *text, const char *secret, size_t length)
{
    char plain[SECRET_TELLTALE_BYTES];
    size_t bytes = length < SECRET_TELLTALE_BYTES ? length : SECRET_TELLTALE_BYTES;
    size_t plain_bytes = unescape(secret, length, plain);
    return bytes > 0 && (memmem(text, strlen(text), secret, bytes) != NULL ||
                         memmem(text, strlen(text), plain, plain_bytes) != NULL);
}

static bool reveals_password(const char *text, const char *rest)
{
    const char *at = strchr(rest, '@');
    const char *colon = strchr(rest, ':');
    return at != NULL && colon != NULL && colon < at &&
           reveals(text, colon + 1, (size_t)(at - colon - 1));
}

// The value of a password, also where another option's value runs into it for want of an &.
static const char *password_in(const char *option, size_t length)
{
    for (size_t i = 0; i + 8 <= length; i++) {
        if (strncasecmp(option + i, "password", 8) == 0) {
            const char *equals = memchr(option + i, '=', length - i);
            return equals != NULL ? equals + 1 : NULL;
        }
    }
    return NULL;
}

static bool reveals_option(const char *text, const char *rest)
{
    const char *option = strchr(rest, '?');
    while (option != NULL) {
        size_t length = strcspn(++option, "&");
        const char *secret = password_in(option, length);
        if (secret != NULL && reveals(text, secret, (size_t)(option + length - secret))) {
            return true;
        }
        option = strchr(option, '&');
    }
    return false;
}

// Says why on one line, unless that would show a secret.
static void refuse(const char *rest, const char *why, char *ret_error, size_t capacity)
{
    if (reveals_password(why, rest) || reveals_option(why, rest)) {
        why = "the URI is wrong, and to show where would show a secret. " ESCAPES;
    }
    snprintf(ret_error, capacity, "%s", why);
    for (char *c = ret_error; *c != '\0'; c++) {
        if (iscntrl((unsigned char)*c)) {
            *c = '?';
        }
    }
}

static void log_complaint(const char *rest, const char *complaint)
{
    struct log_line line;
    if (complaint[0] == '\0' || reveals_password(complaint, rest) ||
        reveals_option(complaint, rest)) {
        return;
    }
    log_begin(&line, LOG_WARN, "uri");
    log_str(&line, "message", complaint);
    log_end(&line);
}

// NULL with the reason. The caller destroys it.
static mongoc_uri_t *parse(const char *text, const char *rest, char ret_why[WHY_BYTES])
{
    bson_error_t error = {.message = "the URI cannot be parsed"};
    char complaint[COMPLAINT_BYTES];
    library_init();
    library_overhear(complaint, sizeof complaint);
    mongoc_uri_t *uri = mongoc_uri_new_with_error(text, &error);
    library_overhear(NULL, 0);
    if (uri != NULL) {
        log_complaint(rest, complaint);
    } else if (complaint[0] != '\0') {
        snprintf(ret_why, WHY_BYTES, "%s (%s)", error.message, complaint);
    } else {
        snprintf(ret_why, WHY_BYTES, "%s", error.message);
    }
    return uri;
}

static char *copy(const char *text)
{
    return text == NULL ? NULL : xstrdup(text);
}

static char *copy_option(const mongoc_uri_t *uri, const char *option)
{
    return copy(mongoc_uri_get_option_as_utf8(uri, option, NULL));
}

static void read_tls(const mongoc_uri_t *uri, struct deployment *deployment)
{
    bool insecure = mongoc_uri_get_option_as_bool(uri, MONGOC_URI_TLSINSECURE, false);
    deployment->tls = mongoc_uri_get_tls(uri);
    deployment->tls_ca_file = copy_option(uri, MONGOC_URI_TLSCAFILE);
    deployment->tls_certificate_key_file = copy_option(uri, MONGOC_URI_TLSCERTIFICATEKEYFILE);
    deployment->tls_certificate_key_password =
        copy_option(uri, MONGOC_URI_TLSCERTIFICATEKEYFILEPASSWORD);
    deployment->tls_options = (struct tls_client_options){
        .ca_file = deployment->tls_ca_file,
        .certificate_key_file = deployment->tls_certificate_key_file,
        .certificate_key_password = deployment->tls_certificate_key_password,
        .allow_invalid_certificates =
            insecure ||
            mongoc_uri_get_option_as_bool(uri, MONGOC_URI_TLSALLOWINVALIDCERTIFICATES, false),
        .allow_invalid_hostnames = insecure || mongoc_uri_get_option_as_bool(
                                                   uri, MONGOC_URI_TLSALLOWINVALIDHOSTNAMES, false),
    };
}

// libmongoc has left out, with a word in the log, what it does not have.
static void read_compressors(const mongoc_uri_t *uri, struct deployment *deployment)
{
    bson_iter_t name;
    if (bson_iter_init(&name, mongoc_uri_get_compressors(uri))) {
        while (bson_iter_next(&name)) {
            struct bytes text = {(const uint8_t *)bson_iter_key(&name), bson_iter_key_len(&name)};
            compressor_list_add(&deployment->compressors, compressor_find(text));
        }
    }
    deployment->zlib_level =
        mongoc_uri_get_option_as_int32(uri, MONGOC_URI_ZLIBCOMPRESSIONLEVEL, -1);
}

// The name as weir writes it, NULL if it does not have it.
static const char *mechanism_find(const char *name)
{
    for (size_t i = 0; i < sizeof mechanisms / sizeof mechanisms[0]; i++) {
        if (strcasecmp(mechanisms[i], name) == 0) {
            return mechanisms[i];
        }
    }
    return NULL;
}

static void read_credential(const mongoc_uri_t *uri, const char *mechanism,
                            struct credential *ret_credential)
{
    ret_credential->mechanism = copy(mechanism);
    ret_credential->username = copy(mongoc_uri_get_username(uri));
    ret_credential->password = copy(mongoc_uri_get_password(uri));
    if (mechanism != NULL || ret_credential->username != NULL) {
        ret_credential->source = copy(mongoc_uri_get_auth_source(uri));
    }
}

static bool check_credential(const struct deployment *deployment, char ret_why[WHY_BYTES])
{
    const struct credential *credential = &deployment->credential;
    bool x509 = credential->mechanism != NULL && strcmp(credential->mechanism, "MONGODB-X509") == 0;
    const char *why = NULL;
    if (x509 && (!deployment->tls || deployment->tls_certificate_key_file == NULL)) {
        why = "authMechanism=MONGODB-X509 needs tls=true and tlsCertificateKeyFile, the "
              "certificate to log in with";
    } else if (!x509 && credential->username != NULL && credential->password == NULL) {
        why = "the URI has a user name and no password";
    }
    if (why != NULL) {
        snprintf(ret_why, WHY_BYTES, "%s", why);
    }
    return why == NULL;
}

static bool deployment_read(struct deployment *deployment, const mongoc_uri_t *uri,
                            char ret_why[WHY_BYTES])
{
    const char *named = mongoc_uri_get_auth_mechanism(uri);
    const char *mechanism = named == NULL ? NULL : mechanism_find(named);
    if (named != NULL && mechanism == NULL) {
        snprintf(ret_why, WHY_BYTES, "authMechanism=%.32s is none that weir has: %s, %s, %s, %s",
                 named, mechanisms[0], mechanisms[1], mechanisms[2], mechanisms[3]);
        return false;
    }
    deployment->app_name = copy(mongoc_uri_get_appname(uri));
    deployment->load_balanced = mongoc_uri_get_option_as_bool(uri, MONGOC_URI_LOADBALANCED, false);
    deployment->direct = mongoc_uri_get_option_as_bool(uri, MONGOC_URI_DIRECTCONNECTION, false);
    deployment->local_threshold_us =
        INT64_C(1000) * mongoc_uri_get_option_as_int32(uri, MONGOC_URI_LOCALTHRESHOLDMS, 15);
    read_tls(uri, deployment);
    read_compressors(uri, deployment);
    read_credential(uri, mechanism, &deployment->credential);
    return check_credential(deployment, ret_why);
}

// NULL with the reason.
static struct deployment *deployment_new(const char *text, const char *rest,
                                         char ret_why[WHY_BYTES])
{
    mongoc_uri_t *uri = parse(text, rest, ret_why);
    if (uri == NULL) {
        return NULL;
    }
    struct deployment *deployment = xcalloc(1, sizeof *deployment);
    deployment->uri = xstrdup(text);
    bool good = deployment_read(deployment, uri, ret_why);
    mongoc_uri_destroy(uri);
    if (good) {
        return deployment;
    }
    deployment_free(deployment);
    return NULL;
}

struct deployment *deployment_parse(const char *uri, char *ret_error, size_t error_capacity)
{
    const char *rest = after_scheme(uri);
    if (rest == NULL) {
        snprintf(ret_error, error_capacity, "a URI begins with mongodb:// or mongodb+srv://");
        return NULL;
    }
    if (!only_at_is_in_place(rest)) {
        snprintf(ret_error, error_capacity, "%s",
                 "the URI has an @ that is not the one before the hosts. " ESCAPES);
        return NULL;
    }
    char why[WHY_BYTES];
    struct deployment *deployment = deployment_new(uri, rest, why);
    if (deployment == NULL) {
        refuse(rest, why, ret_error, error_capacity);
    }
    return deployment;
}

void deployment_free(struct deployment *deployment)
{
    if (deployment == NULL) {
        return;
    }
    char *owned[] = {
        deployment->uri,
        deployment->app_name,
        deployment->tls_ca_file,
        deployment->tls_certificate_key_file,
        deployment->tls_certificate_key_password,
        deployment->credential.mechanism,
        deployment->credential.username,
        deployment->credential.password,
        deployment->credential.source,
    };
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) {
        if (owned[i] != NULL) {
            explicit_bzero(owned[i], strlen(owned[i]));
        }
        free(owned[i]);
    }
    free(deployment);
}
