// SPDX-License-Identifier: Apache-2.0
//
// Errands to servers, which block: one thread with a client of libmongoc's runs them, one after the
// other. Control, which follows the deployment, waits for none of them.
//
//      errands_add -> queue -> run(errand, client) -> done(errand)

#ifndef PROXY_CONTROL_ERRANDS_H
#define PROXY_CONTROL_ERRANDS_H

#include <stdatomic.h>
#include <stdbool.h>

struct _mongoc_client_t; // NOLINT(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)
struct discovery;
struct errands;

// From malloc, at the beginning of what it is about: it is freed if it is dropped.
struct errand {
    struct errand *next;
    // On the thread. What blocks more than once looks at *dismissed meanwhile.
    void (*run)(struct errand *errand, struct _mongoc_client_t *client,
                const atomic_bool *dismissed);
    // Likewise: the errand is the callee's again, which does not block. Once they are dismissed it
    // is not called any more.
    void (*done)(struct errand *errand);
};

// For at most so many that wait.
struct errands *errands_new(const char *thread_name, int most);

// Takes it; drops it when too many wait. Any thread.
void errands_add(struct errands *errands, struct errand *errand);

// Starts the thread, which uses a client of the discovery's until errands_stop.
void errands_start(struct errands *errands, struct discovery *discovery);

// The same of another discovery, whose clients are used from the next errand on; the former one's
// are all back once this is no longer so.
void errands_move(struct errands *errands, struct discovery *discovery);
bool errands_use(struct errands *errands, struct discovery *discovery);

// From when it returns nothing more is begun, and nobody told. Any thread.
void errands_dismiss(struct errands *errands);

// The same, and ends the thread, if there is one: blocks for as long as the errand that it is at.
void errands_stop(struct errands *errands);
void errands_free(struct errands *errands); // stopped, or never started

#endif
