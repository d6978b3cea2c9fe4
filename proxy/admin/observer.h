// SPDX-License-Identifier: Apache-2.0
//
// The observer: one thread that answers what is asked about weir. It makes a picture of what is
// asked for, and answers with it all who asked before it began; who asks meanwhile gets the next.
// So two hundred who ask at once cost two pictures, and the workers as much.
//
//      HTTP    -- question --> |          | -- MAIL_SHOW --> workers
//      worker  -- inquiry  --> | observer | <-- shown ------
//                              |          | -- answers; MAIL_ANSWERED to the worker

#ifndef PROXY_ADMIN_OBSERVER_H
#define PROXY_ADMIN_OBSERVER_H

#include "proxy/admin/rulebook.h"
#include "proxy/inquiry.h"
#include "proxy/worker.h"

struct chronicle;
struct control_socket;
struct observer;

// Before the workers start; shared->observer is there from now on.
struct observer *observer_new(struct shared *shared, struct worker **workers, int worker_count);
void observer_start(struct observer *observer, struct control_socket *desk);

// Has `fn` called each second, on the observer's thread, until it comes to rest. Before it starts.
void observer_each_second(struct observer *observer, void (*fn)(void *arg), void *arg);

// For its own thread.
const struct chronicle *observer_chronicle(const struct observer *observer);

// From any thread.
void observer_ask(struct observer *observer, struct question *question);

// From any thread: the rules in force, of which it takes a reference of its own.
void observer_tell_rules(struct observer *observer, struct rules *rules,
                         const struct emergency *emergency);

// From any thread: there is another configuration. Adds one to *taken when it holds nothing of
// former ones any more.
void observer_tell_reload(struct observer *observer, atomic_uint *taken);

// Before the workers are told to end: from now on nothing is asked of them, and who asks is told
// that weir is ending. Returns when that is so.
void observer_rest(struct observer *observer);

// When nobody can ask any more.
void observer_free(struct observer *observer);

#endif
