// SPDX-License-Identifier: Apache-2.0
//
// TLS settings, shared by all streams that use them: 1.2 and 1.3, no renegotiation, no compression,
// session tickets on the server's side.

#ifndef PROXY_NET_TLS_H
#define PROXY_NET_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tls_client_certificates { TLS_CLIENTS_NONE, TLS_CLIENTS_OPTIONAL, TLS_CLIENTS_REQUIRED };

struct tls_server;

// `certificate_key_file`: one PEM with key, certificate and chain, as mongod takes it. `ca_file`:
// what client certificates are verified against, NULL with TLS_CLIENTS_NONE. NULL on failure with
// one line in ret_error that names the file and what is wrong (unreadable, no certificate in it, no
// key in it, key encrypted, key does not match, CA unreadable).
struct tls_server *tls_server_new(const char *certificate_key_file, const char *ca_file,
                                  enum tls_client_certificates client_certificates, char *ret_error,
                                  size_t error_capacity);
void tls_server_free(struct tls_server *tls);

// Refuses the client certificates that are on the revocation lists of a PEM file, which must have a
// list of each CA. Before the first stream. False as tls_server_new's NULL.
bool tls_server_revoke(struct tls_server *tls, const char *crl_file, char *ret_error,
                       size_t error_capacity);

// New streams use what `fresh` has from now on, and `fresh` what they used; from any thread. Those
// that are there go on as they are.
void tls_server_exchange(struct tls_server *tls, struct tls_server *fresh);

// When its certificate expires, in seconds since 1970.
int64_t tls_server_expiry(struct tls_server *tls);

// And when the first of its revocation lists does, from when on all certificates of that CA are
// refused; INT64_MAX: never, or there are none.
int64_t tls_server_revocation_expiry(struct tls_server *tls);

struct tls_client_options {
    const char *ca_file;              // NULL: the system's
    const char *certificate_key_file; // NULL: none
    const char *certificate_key_password;
    bool allow_invalid_certificates;
    bool allow_invalid_hostnames;
};

struct tls_client;

struct tls_client *tls_client_new(const struct tls_client_options *options, char *ret_error,
                                  size_t error_capacity);
void tls_client_free(struct tls_client *tls);

#endif
