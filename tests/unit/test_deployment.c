// SPDX-License-Identifier: Apache-2.0
//
// What a URI means to weir, and which are refused, in words that show no secret.

#include "proxy/control/control.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "proxy/log.h"

enum { ERROR_BYTES = 256 };

static struct deployment *parse(const char *uri)
{
    char error[ERROR_BYTES] = "";
    struct deployment *deployment = deployment_parse(uri, error, sizeof error);
    if (deployment == NULL) {
        fail_msg("%s: %s", uri, error);
    }
    assert_string_equal(deployment->uri, uri);
    return deployment;
}

static void assert_text(const char *uri, const char *text, const char *expected)
{
    if (expected == NULL ? text != NULL : text == NULL || strcmp(text, expected) != 0) {
        fail_msg("%s: %s, not %s", uri, text == NULL ? "nothing" : text,
                 expected == NULL ? "nothing" : expected);
    }
}

static void test_credentials(void **state)
{
    (void)state;
    static const struct {
        const char *uri, *mechanism, *username, *password, *source;
    } cases[] = {
        {"mongodb://h", NULL, NULL, NULL, NULL},
        {"mongodb://h/shop", NULL, NULL, NULL, NULL},
        {"mongodb://h/?authSource=shop", NULL, NULL, NULL, NULL},
        {"mongodb://u:p@h", NULL, "u", "p", "admin"},
        {"mongodb://u:p@h/", NULL, "u", "p", "admin"},
        {"mongodb://u:p@h/shop", NULL, "u", "p", "shop"},
        {"mongodb://u:p@h/shop?authSource=users", NULL, "u", "p", "users"},
        {"mongodb://u:p@h/?AUTHSOURCE=users", NULL, "u", "p", "users"},
        {"mongodb://u:@h/", NULL, "u", "", "admin"},
        {"mongodb://u:p%40ss%3Aw%2Frd%25@h/", NULL, "u", "p@ss:w/rd%", "admin"},
        {"mongodb://%C3%A9%40x:p@h/", NULL, "\xc3\xa9@x", "p", "admin"},
        {"mongodb://u:p@h/?authMechanism=SCRAM-SHA-1", "SCRAM-SHA-1", "u", "p", "admin"},
        {"mongodb://u:p@h/a?authMechanism=scram-sha-256", "SCRAM-SHA-256", "u", "p", "a"},
        {"mongodb://u:p@h/?authMechanism=PLAIN", "PLAIN", "u", "p", "$external"},
        {"mongodb://u:p@h/db?authMechanism=PLAIN", "PLAIN", "u", "p", "db"},
        {"mongodb://u:p@h/db?authMechanism=PLAIN&authSource=$external", "PLAIN", "u", "p",
         "$external"},
        {"mongodb://h/?authMechanism=MONGODB-X509&tls=true&tlsCertificateKeyFile=/c",
         "MONGODB-X509", NULL, NULL, "$external"},
        {"mongodb://CN%3Dx@h/db?authMechanism=MONGODB-X509&tls=true&tlsCertificateKeyFile=/c",
         "MONGODB-X509", "CN=x", NULL, "$external"},
        {"mongodb+srv://u:p@cluster.example.com/shop", NULL, "u", "p", "shop"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct deployment *deployment = parse(cases[i].uri);
        assert_text(cases[i].uri, deployment->credential.mechanism, cases[i].mechanism);
        assert_text(cases[i].uri, deployment->credential.username, cases[i].username);
        assert_text(cases[i].uri, deployment->credential.password, cases[i].password);
        assert_text(cases[i].uri, deployment->credential.source, cases[i].source);
        deployment_free(deployment);
    }
}

static void test_tls(void **state)
{
    (void)state;
    static const struct {
        const char *uri;
        bool tls, any_certificate, any_hostname;
    } cases[] = {
        {"mongodb://h/", false, false, false},
        {"mongodb://h/?tls=false", false, false, false},
        {"mongodb://h/?tls=true", true, false, false},
        {"mongodb://h/?ssl=true", true, false, false},
        {"mongodb+srv://cluster.example.com/", true, false, false},
        {"mongodb+srv://cluster.example.com/?tls=false", false, false, false},
        {"mongodb://h/?tls=true&tlsInsecure=true", true, true, true},
        {"mongodb://h/?tls=true&tlsInsecure=false", true, false, false},
        {"mongodb://h/?tls=true&tlsAllowInvalidCertificates=true", true, true, false},
        {"mongodb://h/?tls=true&tlsAllowInvalidHostnames=true", true, false, true},
        {"mongodb://h/?tlsCAFile=/ca", true, false, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct deployment *deployment = parse(cases[i].uri);
        if (deployment->tls != cases[i].tls ||
            deployment->tls_options.allow_invalid_certificates != cases[i].any_certificate ||
            deployment->tls_options.allow_invalid_hostnames != cases[i].any_hostname) {
            fail_msg("%s", cases[i].uri);
        }
        deployment_free(deployment);
    }
}

// libmongoc leaves out what it does not have.
static void test_compressors(void **state)
{
    (void)state;
    static const struct {
        const char *uri;
        struct compressor_list list;
        int zlib_level;
    } cases[] = {
        {"mongodb://h/", {0}, -1},
        {"mongodb://h/?compressors=", {0}, -1},
        {"mongodb://h/?compressors=lz4", {0}, -1},
        {"mongodb://h/?compressors=zstd", {1, {COMPRESSOR_ZSTD}}, -1},
        {"mongodb://h/?compressors=zlib&zlibCompressionLevel=9", {1, {COMPRESSOR_ZLIB}}, 9},
        {"mongodb://h/?compressors=zstd,lz4,snappy,zlib",
         {3, {COMPRESSOR_ZSTD, COMPRESSOR_SNAPPY, COMPRESSOR_ZLIB}},
         -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct deployment *deployment = parse(cases[i].uri);
        if (memcmp(&deployment->compressors, &cases[i].list, sizeof cases[i].list) != 0 ||
            deployment->zlib_level != cases[i].zlib_level) {
            fail_msg("%s", cases[i].uri);
        }
        deployment_free(deployment);
    }
}

static void test_tls_files(void **state)
{
    (void)state;
    const char *uri = "mongodb://h/?tls=true&tlsCAFile=%2Fetc%2Fca.pem&tlsCertificateKeyFile=/c.pem"
                      "&tlsCertificateKeyFilePassword=s%26cret";
    struct deployment *deployment = parse(uri);
    assert_text(uri, deployment->tls_options.ca_file, "/etc/ca.pem");
    assert_text(uri, deployment->tls_options.certificate_key_file, "/c.pem");
    assert_text(uri, deployment->tls_options.certificate_key_password, "s&cret");
    deployment_free(deployment);
    deployment = parse("mongodb://h/?tls=true");
    assert_null(deployment->tls_options.ca_file);
    assert_null(deployment->tls_options.certificate_key_file);
    assert_null(deployment->tls_options.certificate_key_password);
    deployment_free(deployment);
}

static void test_other_options(void **state)
{
    (void)state;
    struct deployment *deployment = parse("mongodb://a,b:1/?appName=shop%20front&replicaSet=rs");
    assert_string_equal(deployment->app_name, "shop front");
    assert_false(deployment->load_balanced);
    deployment_free(deployment);
    deployment = parse("mongodb://h/?loadBalanced=true");
    assert_null(deployment->app_name);
    assert_true(deployment->load_balanced);
    deployment_free(deployment);
    deployment_free(parse("mongodb://h/?compressors=zstd,zlib&directConnection=true"));
    deployment_free(parse("mongodb://%2Ftmp%2Fmongodb-27017.sock/"));
    deployment_free(parse("mongodb://[::1]:27018,h:27019/"));
    deployment_free(NULL);
}

// Words that are libmongoc's differ between its versions: of those only what comes from the URI is
// asked for.
static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *uri, *words;
    } cases[] = {
        {"", "begins with mongodb://"},
        {"localhost:27017", "begins with mongodb://"},
        {"http://h/", "begins with mongodb://"},
        {"Mongodb://h/", "begins with mongodb://"},
        {"mongodb:/h/", "begins with mongodb://"},
        {"mongodb://", ""},
        {"mongodb:///", ""},
        {"mongodb://h:port/", ""},
        {"mongodb://h:99999/", ""},
        {"mongodb://h:0/", ""},
        {"mongodb://a,,b/", ""},
        {"mongodb://[::1/", ""},
        {"mongodb://h%zz/", ""},
        {"mongodb://h/a b", ""},
        {"mongodb://h/?tls=perhaps", "perhaps"},
        {"mongodb://h/?connectTimeoutMS=soon", "connecttimeoutms"},
        {"mongodb://h/?tls=true&tlsInsecure=true&tlsAllowInvalidHostnames=true", "tlsinsecure"},
        {"mongodb://h/?nonsense", "nonsense"},
        {"mongodb://h/?authMechanism=GSSAPI&authSource=$external", "GSSAPI"},
        {"mongodb://u@h/?authMechanism=GSSAPI", "authMechanism=GSSAPI is none that weir has"},
        {"mongodb://u:p@h/?authMechanism=MONGODB-AWS", "authMechanism=MONGODB-AWS is none"},
        {"mongodb://h/?authMechanism=MONGODB-OIDC", "OIDC"},
        {"mongodb://u:p@h/?authMechanism=MONGODB-CR", "authMechanism=MONGODB-CR is none"},
        {"mongodb://u:p@h/?authMechanism=x%0Ay", "authMechanism=x?y"},
        {"mongodb://u@h/", "no password"},
        {"mongodb://u@h/?authMechanism=SCRAM-SHA-256", "no password"},
        {"mongodb://h/?authMechanism=SCRAM-SHA-256", "SCRAM-SHA-256"},
        {"mongodb://:p@h/", ""},
        {"mongodb://h/?authMechanism=MONGODB-X509", "tlsCertificateKeyFile"},
        {"mongodb://h/?authMechanism=MONGODB-X509&tls=true", "tlsCertificateKeyFile"},
        {"mongodb+srv://h/", ""},
        {"mongodb+srv://a.example.com:27017/", ""},
        {"mongodb+srv://a.example.com,b.example.com/", ""},
        {"mongodb+srv://a.example.com/?directConnection=true", "directConnection"},
        {"mongodb://a,b/?directConnection=true", "directConnection"},
        {"mongodb://a,b/?loadBalanced=true", "loadbalanced"},
        {"mongodb://h/\xff", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char error[ERROR_BYTES] = "";
        struct deployment *deployment = deployment_parse(cases[i].uri, error, sizeof error);
        if (deployment != NULL) {
            fail_msg("%s was taken", cases[i].uri);
        }
        if (strstr(error, cases[i].words) == NULL || strchr(error, '\n') != NULL ||
            error[0] == '\0') {
            fail_msg("%s: %s", cases[i].uri, error);
        }
    }
}

// What was logged while a URI was parsed.
static void parse_and_read_log(const char *uri, char *ret_error, char *ret_log, size_t capacity)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    log_init(LOG_LOGFMT, ends[1]);
    ret_error[0] = '\0';
    deployment_free(deployment_parse(uri, ret_error, ERROR_BYTES));
    log_init(LOG_LOGFMT, STDERR_FILENO);
    close(ends[1]);
    ssize_t bytes = read(ends[0], ret_log, capacity - 1);
    assert_true(bytes >= 0);
    ret_log[bytes] = '\0';
    close(ends[0]);
}

// Each has "s3cr" in a secret that was not escaped, or beside a mistake.
static void test_secrets_are_not_shown(void **state)
{
    (void)state;
    static const char *const uris[] = {
        "mongodb://u:x@s3cret@h/",
        "mongodb://u:s3cr@x@h/",
        "mongodb://u:@s3cret@h/",
        "mongodb://u:12/s3cret@h/",
        "mongodb://u:x/s3cret@h/",
        "mongodb://u:x/db?s3cret@h/",
        "mongodb://u:x/db?s3cret&y@h/",
        "mongodb://u:1/db?s3cret=y@h/",
        "mongodb://u:x?s3cret@h/",
        "mongodb://u:s3cr:et@h/",
        "mongodb://u:s3cr%zzet@h/",
        "mongodb://u:s3cr%FFet@h/",
        "mongodb://u:s3cret@/",
        "mongodb://u:s3cret@h:port/",
        "mongodb://u:s3cret@h/?authMechanism=s3cret",
        "mongodb://u:s3cret@h/?tls=s3cret",
        "mongodb://h/?tls=true&tlsCertificateKeyFilePassword=s3cret"
        "&sslClientCertificateKeyPassword=s3cret2",
        "mongodb://h/?tls=true&sslClientCertificateKeyPassword=s3cret2"
        "&tlsCertificateKeyFilePassword=s3cret",
        "mongodb+srv://u:s3cret@h/",
    };
    for (size_t i = 0; i < sizeof uris / sizeof uris[0]; i++) {
        char error[ERROR_BYTES], log[4096];
        parse_and_read_log(uris[i], error, log, sizeof log);
        if (strstr(error, "s3cr") != NULL || strstr(log, "s3cr") != NULL) {
            fail_msg("%s: %s %s", uris[i], error, log);
        }
        if (strchr(error, '\n') != NULL || error[0] == '\0') {
            fail_msg("%s: %s", uris[i], error);
        }
    }
}

// A message that is cut must not end in a secret.
static void test_long_secrets_are_not_shown(void **state)
{
    (void)state;
    char uri[2048], error[ERROR_BYTES], log[4096];
    for (size_t bytes = 1; bytes < 1000; bytes += 13) {
        char password[1001];
        memset(password, 'q', bytes);
        password[bytes] = '\0';
        snprintf(uri, sizeof uri, "mongodb://u:%s:@h/", password);
        parse_and_read_log(uri, error, log, sizeof log);
        assert_null(strstr(error, "qq"));
        assert_null(strstr(log, "qq"));
        assert_non_null(strstr(error, "%40"));
    }
}

static void test_unknown_options_are_said(void **state)
{
    (void)state;
    char error[ERROR_BYTES], log[4096];
    parse_and_read_log("mongodb://h/?maxPolSize=5&tsl=true", error, log, sizeof log);
    assert_string_equal(error, "");
    assert_non_null(strstr(log, "level=warn"));
    assert_non_null(strstr(log, "maxpolsize"));
    assert_non_null(strstr(log, "tsl"));
    parse_and_read_log("mongodb://h/?maxPoolSize=5&tls=true", error, log, sizeof log);
    assert_string_equal(log, "");
}

static void test_error_is_cut_to_capacity(void **state)
{
    (void)state;
    char error[8];
    memset(error, 'x', sizeof error);
    assert_null(deployment_parse("http://h/", error, 4));
    assert_string_equal(error, "a U");
    assert_int_equal(error[4], 'x');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_credentials),
        cmocka_unit_test(test_tls),
        cmocka_unit_test(test_compressors),
        cmocka_unit_test(test_tls_files),
        cmocka_unit_test(test_other_options),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_secrets_are_not_shown),
        cmocka_unit_test(test_long_secrets_are_not_shown),
        cmocka_unit_test(test_unknown_options_are_said),
        cmocka_unit_test(test_error_is_cut_to_capacity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
