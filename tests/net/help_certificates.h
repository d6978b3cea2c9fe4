// SPDX-License-Identifier: Apache-2.0
//
// Certificates for the tests, made anew for each run in a directory of its own.

#ifndef TESTS_NET_HELP_CERTIFICATES_H
#define TESTS_NET_HELP_CERTIFICATES_H

//      ca.pem           the CA                    other_ca.pem     another one
//      server.pem       key, certificate for localhost and 127.0.0.1, by the CA
//      expired.pem      the same, expired yesterday
//      elsewhere.pem    the same, for elsewhere.test
//      client.pem       a client's, by the CA     stranger.pem     a client's, by the other CA
//      encrypted.pem    client.pem, its key under the password "secret"
//      mismatch.pem     server.pem's certificate with another key
//      certificate.pem  a certificate and no key  key.pem          a key and no certificate
//      chained.pem      server.pem's like, by an intermediate CA whose certificate follows
//
// For cmocka_run_group_tests.
int certificates_make(void **state);
int certificates_remove(void **state);

// Path of one of them, or of one that is not there. Static text, eight at a time.
const char *certificates_path(const char *name);

#endif
