// SPDX-License-Identifier: Apache-2.0
//
// A URI with a password in it: parsed, masked, refused. No line that comes of it holds the
// password, and each is one line.
//
//      input: which form of the secret 1 | what stands before it: length 2, bytes
//             | what stands after it in the password: length 2, bytes | the rest
//
//      mongodb:// before SECRET after @ rest
//
// `before` is also the user; with a form of the secret that is 0 the rest is the whole URI.

#include "proxy/config.h"
#include "proxy/control/control.h"
#include "proxy/log.h"
#include "tests/fuzz/fuzz.h"

#define SECRET "Zk9qW7pX2vL4"

enum { URI_BYTES = 16384, ERROR_BYTES = 1024, FORM_SRV = 128, FORM_OPTION = 64 };

// What stands in the URI for the secret.
static const char *const forms[] = {"", SECRET, "Zk9%71W7pX%32vL4", "%5Ak9qW7pX2vL4"};

// Six characters are too many to be there by accident.
static bool reveals(const char *text)
{
    for (size_t i = 0; i + 6 <= strlen(SECRET); i++) {
        if (memmem(text, strlen(text), &SECRET[i], 6)) {
            return true;
        }
    }
    return false;
}

static void check_line(const char *text)
{
    MUST(!reveals(text));
    for (const char *c = text; *c != '\0'; c++) {
        MUST((unsigned char)*c >= ' ' && *c != 0x7f);
    }
}

// --- the log, which deployment_parse complains to ------------------------------------------------

void log_begin(struct log_line *line, enum log_level level, const char *event)
{
    (void)line, (void)level, (void)event;
}

void log_str(struct log_line *line, const char *key, const char *value)
{
    (void)line, (void)key;
    MUST(!reveals(value));
}

void log_end(struct log_line *line)
{
    (void)line;
}

// ------------------------------------------------------------------------------------------------

static void put(struct buffer *out, const void *at, size_t len)
{
    buffer_append(out, at, len);
}

static void put_text(struct buffer *out, const char *text)
{
    put(out, text, strlen(text));
}

// The caller frees it. Bytes that are 0 are left out.
static char *make_uri(struct input input)
{
    struct buffer out = {0};
    uint8_t how = input_byte(&input);
    const char *secret = forms[how % 4];
    put_text(&out, how & FORM_SRV ? "mongodb+srv://" : "mongodb://");
    if (secret[0] != '\0' && (how & FORM_OPTION)) {
        struct bytes before = input_piece(&input);
        put_text(&out, "h/?");
        put(&out, before.at, before.len);
        put_text(&out, "tlsCertificateKeyFilePassword=");
        put_text(&out, secret);
        put_text(&out, "&");
    } else if (secret[0] != '\0') {
        struct bytes before = input_piece(&input);
        put(&out, before.at, before.len);
        put_text(&out, memchr(before.at, ':', before.len) ? "" : "u:");
        put_text(&out, secret);
        struct bytes after = input_piece(&input);
        put(&out, after.at, after.len);
        put_text(&out, "@");
    }
    put(&out, input.at, input.len < URI_BYTES ? input.len : URI_BYTES);
    char *uri = malloc(buffer_held(&out) + 1);
    size_t len = 0;
    for (size_t i = 0; i < buffer_held(&out); i++) {
        uri[len] = (char)buffer_at(&out)[i];
        len += uri[len] != 0;
    }
    uri[len] = '\0';
    buffer_fini(&out);
    char *exact = strdup(uri);
    free(uri);
    return exact;
}

static void check_deployment(const struct deployment *deployment, const char *uri)
{
    const struct credential *credential = &deployment->credential;
    MUST(strcmp(deployment->uri, uri) == 0);
    MUST(!credential->username || credential->source);
    MUST(!credential->mechanism || strcmp(credential->mechanism, "SCRAM-SHA-256") == 0 ||
         strcmp(credential->mechanism, "SCRAM-SHA-1") == 0 ||
         strcmp(credential->mechanism, "MONGODB-X509") == 0 ||
         strcmp(credential->mechanism, "PLAIN") == 0);
    bool x509 = credential->mechanism && strcmp(credential->mechanism, "MONGODB-X509") == 0;
    MUST(!x509 || (deployment->tls && deployment->tls_certificate_key_file));
    MUST(x509 || !credential->username || credential->password);
}

static void parse(const char *uri, size_t capacity)
{
    char *error = malloc(capacity);
    memset(error, 1, capacity);
    struct deployment *deployment = deployment_parse(uri, error, capacity);
    if (deployment) {
        check_deployment(deployment, uri);
    } else {
        MUST(memchr(error, 0, capacity) && (capacity == 1 || error[0] != '\0'));
        check_line(error);
    }
    deployment_free(deployment);
    free(error);
}

static void mask(const char *uri, size_t size)
{
    char *masked = malloc(size);
    memset(masked, 1, size);
    config_mask_uri(uri, masked, size);
    MUST(memchr(masked, 0, size) && !reveals(masked));
    free(masked);
}

static bool knows_secret(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i + 3 <= strlen(SECRET); i++) {
        if (size > 0 && memmem(data, size, &SECRET[i], 3)) {
            return true;
        }
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (knows_secret(data, size)) {
        return 0;
    }
    char *uri = make_uri((struct input){data, size});
    parse(uri, ERROR_BYTES);
    parse(uri, 1 + size % 64);
    mask(uri, CONFIG_VALUE_BYTES);
    mask(uri, 1 + size % 64);
    free(uri);
    return 0;
}
