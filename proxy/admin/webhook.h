// SPDX-License-Identifier: Apache-2.0
//
// Tells whoever events.webhook names of each exhaustion, when it begins and when it has ended: a
// POST with the record as JSON, over TLS that is verified.
//
//      observer -- webhook_tell --> outbox --> POST -- 2xx --> told
//                                       again, after 1, 2, 4, 8, 16 s: no answer, 408, 429, 5xx

#ifndef PROXY_ADMIN_WEBHOOK_H
#define PROXY_ADMIN_WEBHOOK_H

#include <stdbool.h>
#include <stddef.h>

struct webhook;

// Whether it is one: https, or http on this machine. False: the reason, without the URL.
bool webhook_check(const char *url, char *ret_error, size_t capacity);

struct webhook *webhook_new(void);

// Has a record sent there. ca_file: whom the receiver's certificate is to be by; NULL: the system
// knows. What cannot be sent is logged.
void webhook_tell(struct webhook *webhook, const char *url, const char *ca_file, const char *id,
                  const char *json);

// Tries once more to send what waits, for two seconds at most.
void webhook_free(struct webhook *webhook);

#endif
