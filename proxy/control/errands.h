// SPDX-License-Identifier: Apache-2.0
//
// Errands to servers, which block: one thread runs them, one after the other. Control, which
// follows the deployment, waits for none of them. They have one connection at a time, which is kept
// while the next errand is to the same server, and is none of the upstreams.
//
//      errands_add -> queue -> run(errand) -> done(errand)

#ifndef PROXY_CONTROL_ERRANDS_H
#define PROXY_CONTROL_ERRANDS_H

#include <stdatomic.h>
#include <stdbool.h>

struct _bson_error_t;    // NOLINT(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)
struct _mongoc_client_t; // NOLINT(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)
struct _mongoc_uri_t;    // NOLINT(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)
struct errands;

// From malloc, at the beginning of what it is about: it is freed if it is dropped.
struct errand {
    struct errand *next;
    // On the thread. What blocks more than once looks at *dismissed meanwhile.
    void (*run)(struct errand *errand, struct errands *errands, const atomic_bool *dismissed);
    // Likewise: the errand is the callee's again, which does not block. Once they are dismissed it
    // is not called any more.
    void (*done)(struct errand *errand);
};

// For at most so many that wait.
struct errands *errands_new(const char *thread_name, int most);

// Takes it; drops it when too many wait. Any thread.
void errands_add(struct errands *errands, struct errand *errand);

// Says which deployment they are to, from the next one on; the first time starts the thread. Copies
// the URI.
void errands_follow(struct errands *errands, const struct _mongoc_uri_t *uri);

// For what runs: a client for that server, as long as it runs. NULL: the server cannot be reached.
struct _mongoc_client_t *errands_client(struct errands *errands, const char *server,
                                        struct _bson_error_t *ret_error);

// From when it returns nothing more is begun, and nobody told. Any thread.
void errands_dismiss(struct errands *errands);

// The same, and ends the thread, if there is one: blocks for as long as the errand that it is at.
void errands_stop(struct errands *errands);
void errands_free(struct errands *errands); // stopped, or never started

#endif
