// SPDX-License-Identifier: Apache-2.0

#include "tests/net/help_certificates.h"

#include <assert.h>
#include <dirent.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char directory[64];

struct issued {
    EVP_PKEY *key;
    X509 *certificate;
};

struct wanted {
    const char *name;
    const char *names; // subjectAltName, NULL: none
    bool is_ca;
    int days; // from now; it began a day before its end if that is past
};

const char *certificates_path(const char *name)
{
    static char paths[8][128];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%.60s", directory, name);
    return path;
}

static void extension_add(X509 *certificate, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    assert(extension != NULL);
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
}

static struct issued issue(const struct issued *by, struct wanted wanted)
{
    static long serial;
    struct issued issued = {EVP_EC_gen("P-256"), X509_new()};
    X509 *x = issued.certificate;
    long day = 24 * 3600;
    long end = wanted.days * day;
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(x), (end < 0 ? end : 0) - day);
    X509_gmtime_adj(X509_getm_notAfter(x), end);
    X509_set_pubkey(x, issued.key);
    X509_NAME *subject = X509_get_subject_name(x);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)wanted.name, -1,
                               -1, 0);
    if (by == NULL) {
        by = &issued;
    }
    X509_set_issuer_name(x, X509_get_subject_name(by->certificate));
    extension_add(x, NID_basic_constraints, wanted.is_ca ? "critical,CA:TRUE" : "CA:FALSE");
    if (wanted.names != NULL) {
        extension_add(x, NID_subject_alt_name, wanted.names);
    }
    assert(X509_sign(x, by->key, EVP_sha256()) > 0);
    return issued;
}

static void issued_free(struct issued issued)
{
    EVP_PKEY_free(issued.key);
    X509_free(issued.certificate);
}

// Any of them may be NULL.
static void pem_write(const char *name, EVP_PKEY *key, const char *password, X509 *certificate,
                      X509 *more)
{
    FILE *file = fopen(certificates_path(name), "w");
    assert(file != NULL);
    if (key != NULL) {
        PEM_write_PKCS8PrivateKey(file, key, password != NULL ? EVP_aes_256_cbc() : NULL, password,
                                  password != NULL ? (int)strlen(password) : 0, NULL, NULL);
    }
    if (certificate != NULL) {
        PEM_write_X509(file, certificate);
    }
    if (more != NULL) {
        PEM_write_X509(file, more);
    }
    fclose(file);
}

static void issue_to(const char *file, const struct issued *by, struct wanted wanted)
{
    struct issued issued = issue(by, wanted);
    pem_write(file, issued.key, NULL, issued.certificate, NULL);
    issued_free(issued);
}

static void chain_make(const struct issued *ca)
{
    struct issued middle = issue(ca, (struct wanted){"Middle CA", NULL, true, 2});
    struct issued server = issue(&middle, (struct wanted){"server", "DNS:localhost", false, 1});
    pem_write("chained.pem", server.key, NULL, server.certificate, middle.certificate);
    issued_free(server);
    issued_free(middle);
}

int certificates_make(void **state)
{
    (void)state;
    static const char here[] = "DNS:localhost,IP:127.0.0.1";
    strcpy(directory, "/tmp/net-test-XXXXXX");
    assert(mkdtemp(directory) != NULL);
    struct issued ca = issue(NULL, (struct wanted){"Test CA", NULL, true, 2});
    struct issued other_ca = issue(NULL, (struct wanted){"Other CA", NULL, true, 2});
    struct issued server = issue(&ca, (struct wanted){"server", here, false, 1});
    struct issued client = issue(&ca, (struct wanted){"client", NULL, false, 1});
    pem_write("ca.pem", NULL, NULL, ca.certificate, NULL);
    pem_write("other_ca.pem", NULL, NULL, other_ca.certificate, NULL);
    pem_write("server.pem", server.key, NULL, server.certificate, NULL);
    pem_write("mismatch.pem", client.key, NULL, server.certificate, NULL);
    pem_write("client.pem", client.key, NULL, client.certificate, NULL);
    pem_write("encrypted.pem", client.key, "secret", client.certificate, NULL);
    pem_write("certificate.pem", NULL, NULL, client.certificate, NULL);
    pem_write("key.pem", client.key, NULL, NULL, NULL);
    issue_to("expired.pem", &ca, (struct wanted){"expired", here, false, -1});
    issue_to("elsewhere.pem", &ca, (struct wanted){"else", "DNS:elsewhere.test", false, 1});
    issue_to("stranger.pem", &other_ca, (struct wanted){"stranger", NULL, false, 1});
    chain_make(&ca);
    issued_free(ca);
    issued_free(other_ca);
    issued_free(server);
    issued_free(client);
    return 0;
}

int certificates_remove(void **state)
{
    (void)state;
    DIR *entries = opendir(directory);
    assert(entries != NULL);
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        if (entry->d_name[0] != '.') {
            unlink(certificates_path(entry->d_name));
        }
    }
    closedir(entries);
    rmdir(directory);
    return 0;
}
