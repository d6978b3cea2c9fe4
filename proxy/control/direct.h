// SPDX-License-Identifier: Apache-2.0
//
// A client of libmongoc's for one server alone, to ask and to kill by: one connection there, none
// elsewhere, and a picture of the deployment of its own. In that of discovery's pool a connection
// that a full server refuses would make the server unknown: to all of weir.

#ifndef PROXY_CONTROL_DIRECT_H
#define PROXY_CONTROL_DIRECT_H

#include <bson/bson.h>

struct _mongoc_client_t; // NOLINT(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)
struct _mongoc_uri_t;    // NOLINT(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)

// As the URI of its deployment says; connects. NULL: it cannot be reached.
struct _mongoc_client_t *direct_open(const struct _mongoc_uri_t *deployment, const char *server,
                                     bson_error_t *ret_error);

// Whether that is what the server said to the URI's user and password: it will say so again.
bool direct_is_rejected(const bson_error_t *error);

#endif
