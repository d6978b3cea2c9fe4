// SPDX-License-Identifier: Apache-2.0
//
// What the parts of the whole share: weir.c starts, runs and stops it, orders.c carries out what an
// operator orders, reload.c takes a new configuration over.

#ifndef PROXY_WEIR_INNER_H
#define PROXY_WEIR_INNER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "proxy/acceptor.h"
#include "proxy/admin/control_socket.h"
#include "proxy/admin/http.h"
#include "proxy/fleet.h"
#include "proxy/weir.h"
#include "proxy/worker.h"

// The file's rules, read anew.
struct reading {
    const struct config *config;
    bool good;
};

// Tells the main thread of an order of weir ctl's. A signal of its own: one that somebody else may
// send too would be theirs, if both came at once.
#define ORDER_SIGNAL SIGRTMIN

// What weir ctl has the main thread do, and waits for.
struct main_order {
    atomic_uint wanted; // how many there have been
    atomic_uint done;
    atomic_bool good;              // the last one was a success
    char said[CONTROL_SAID_BYTES]; // of it; guarded by `posting`
};

struct weir {
    struct shared shared; // what the workers have as well

    // Made at the start, and there until the end; each has a thread or a lock of its own.
    struct weir_source source;
    struct worker **workers;
    int worker_count;
    struct acceptor *acceptor;
    struct control_socket *control_socket;
    struct observer *observer;
    struct http *http; // whether anybody can reach it or not

    // The main thread's alone.
    struct app *app;
    struct drain drain;
    int64_t drain_logged_us;
    bool is_terminated; // SIGTERM has come
    unsigned users_exchanged;
    unsigned reloads_told;   // to the workers and the observer
    atomic_uint observed;    // of them, those that the observer has taken
    struct renewal *renewal; // that is being prepared; NULL: none
    bool reload_again;       // after that
    struct config *latest;   // as it was last read anew; NULL: never
    uint64_t files_seen;     // what the certificates' files were like when they were last read
    uint64_t file_seen;      // likewise the configuration's
    uint64_t file_looked_at; // and when it was last looked at
    int64_t files_looked_us;
    int64_t fed_us; // when the service manager's watchdog was

    // The control socket's thread's alone, while it runs.
    struct rulebook *rulebook;
    uint64_t rules_generation;

    // Any thread's, under `posting`.
    pthread_mutex_t posting;
    pthread_cond_t found_it;
    bool found;          // some snapshot has had a server that can be used
    bool ending;         // no snapshot is posted after the workers were told to end
    struct users *users; // NULL: apps do not log in; only the main thread exchanges them

    // From the control socket's thread to the main one, of weir ctl: within that; 0: as configured;
    // -1: none.
    atomic_int_fast64_t drain_order_us;
    atomic_int_fast64_t upgrade_order_us;
    struct main_order reload;
    struct main_order upgrade;

    // From the main thread to the rulebook's: what it is to do.
    _Atomic(struct reading *) reading; // NULL: nothing
    atomic_int passing;                // enum passing

    // Outside of every other lock. It guards what the following two say; only the main thread
    // makes and ends them. NULL: there is none.
    pthread_mutex_t talking;
    struct successor *successor;
    struct predecessor *predecessor;
    struct try_mail first_try;
    struct affinity_relay relay; // between us and that one
};

// Makes what TLS towards apps needs, to be freed by tls_server_free; NULL in *ret_tls if it is
// disabled.
bool weir_make_tls(const struct config *config, struct tls_server **ret_tls, char *ret_error,
                   size_t capacity);

// Whether the app of weir exec, if there is one, can be given a URI for this configuration.
bool weir_may_run_app(const struct config *config, const struct app *app, char *ret_error,
                      size_t capacity);

// Sends clients away within that time; and takes it back.
void weir_drain(struct weir *weir, enum drain_whom whom, int64_t within_us);
void weir_drain_no_more(struct weir *weir);

// Waits, for a second at most, until all workers have done it: so that who is told that something
// was done, as that a rule was added, can count on it. A worker takes its mail in every turn.
void weir_wait_for_workers(const struct weir *weir,
                           bool (*done)(const struct weir *weir, uint64_t what), uint64_t what);

#endif
