// SPDX-License-Identifier: Apache-2.0
//
// HTTP, for machines that look: /metrics, /state, /healthz, /readyz; and for people: /, a dashboard
// that draws /history and what comes by /events. By libmicrohttpd, on a thread of its own; what a
// page is made of comes from the observer, one page for all who asked at once. Read only.
//
// Bounded: HTTP_CLIENTS_MAX connections, each closed when nothing moves for HTTP_TIMEOUT_S.

#ifndef PROXY_ADMIN_HTTP_H
#define PROXY_ADMIN_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#include "proxy/admin/observer.h"

#define HTTP_CLIENTS_MAX 512
#define HTTP_TIMEOUT_S 10
#define HTTP_CLIENT_BYTES 8192 // for a request's header

struct http;

// Borrows the configuration until it is given another one, from any thread.
struct http *http_new(const struct config *config);
void http_configure(struct http *http, const struct config *config);

// Answers from now on. Before the observer starts.
void http_start(struct http *http, struct observer *observer, struct worker **workers,
                int worker_count);

// Takes a connection over. From any thread, between the start and the end.
void http_accept(struct http *http, int fd);

// After observer_rest, which answers what was under way. NULL is nothing.
void http_free(struct http *http);

#endif
