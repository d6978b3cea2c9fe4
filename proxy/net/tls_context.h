// SPDX-License-Identifier: Apache-2.0
//
// The OpenSSL contexts behind tls.h. For net/ only.

#ifndef PROXY_NET_TLS_CONTEXT_H
#define PROXY_NET_TLS_CONTEXT_H

#include <stdbool.h>

struct ssl_ctx_st;
struct tls_server;
struct tls_client;

// Gives one more reference, for SSL_CTX_free or tls_context_drop.
struct ssl_ctx_st *tls_server_context(struct tls_server *tls);
void tls_context_drop(struct ssl_ctx_st *context);

// Borrows.
struct ssl_ctx_st *tls_client_context(struct tls_client *tls);

// Whether the server's certificate must be for the host that was asked for.
bool tls_client_checks_host(const struct tls_client *tls);

#endif
