// SPDX-License-Identifier: Apache-2.0
//
// Routing: which server a request goes to.
//
//      bound to one (a cursor, a statement of a transaction, weir's own) -> that one, or lost
//      everything else                                                   -> selection.h
//
// In a replica set commit and abort go to whoever is primary: it knows how the transaction ended.

#ifndef PROXY_ROUTE_H
#define PROXY_ROUTE_H

#include <stdbool.h>

struct request;
struct server;

enum route {
    ROUTE_FOUND,
    ROUTE_NOBODY,    // no server suits now: the lobby
    ROUTE_LOST,      // what it goes on with was on a server that has gone, or has forgotten it
    ROUTE_STALENESS, // its maxStalenessSeconds is too small
};

// For ROUTE_FOUND and ROUTE_NOBODY, ret_server is where the request asks for its permit.
enum route route_request(const struct request *request, struct server **ret_server);

// Whether writes could go somewhere, but no server has what the request's read preference wants:
// not one that cannot be connected to or is doubted either.
bool route_is_too_choosy(const struct request *request);

#endif
