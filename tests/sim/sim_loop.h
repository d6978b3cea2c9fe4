// SPDX-License-Identifier: Apache-2.0
//
// What the simulated loop, streams and the rest of the simulation tell one another, beyond what
// proxy/net promises to weir.

#ifndef SIM_LOOP_H
#define SIM_LOOP_H

#include "proxy/net/loop.h"
#include "proxy/net/stream.h"
#include "tests/sim/sim_net.h"

// How threads are scheduled. Drawn from the seed.
struct loop_profile {
    int64_t pace_us; // the longest usual pause between two handlers
    double hiccup;   // chance of a pause of up to hiccup_us
    int64_t hiccup_us;
    double interrupt; // chance that a thread is stopped where it lets go of a lock
    double mail_lag;  // chance that mail is seen a turn late
    double spurious;  // chance that a stream is told to be ready that is not
};

void loops_use(const struct loop_profile *profile);

// Starts the worker's thread, as it were.
void loop_start(struct loop *loop);
bool loop_has_ended(const struct loop *loop);

// Whether no handler of any loop is under way, so that what handlers keep consistent must be.
bool loops_are_between_handlers(void);

bool loop_has_mail(const struct loop *loop, const struct mail *mail);
bool loop_mailbox_is_empty(const struct loop *loop);

// Whether this is the first handshake of a client in this turn: each may take a millisecond.
bool loop_first_handshake(struct loop *loop);

// For streams: they are asked when the loop looks for what is ready.
struct loop_watch {
    struct loop_watch *next;
    struct loop_watch *prev;
    struct loop *loop;
    unsigned (*ready)(struct loop_watch *watch);                 // which directions, 0: none
    void (*call)(struct loop_watch *watch, unsigned directions); // may remove or free it
};
void loop_add_watch(struct loop *loop, struct loop_watch *watch);
void loop_remove_watch(struct loop_watch *watch);
void loop_wake(struct loop *loop); // something may have become ready

// --- streams ------------------------------------------------------------------------------------

// What stream_accept is given as a descriptor.
int stream_fd_of(struct net_end *end);

// What a connect comes to.
enum connect_outcome { CONNECT_ACCEPTED, CONNECT_REFUSED, CONNECT_SILENCE };
struct connect_answer {
    enum connect_outcome outcome;
    int64_t after_us;
    const struct net_profile *profile;
    void (*accepted)(void *arg, struct net_end *end); // the server's end
    void *arg;
};
void streams_use(void (*connect)(const struct address *address, struct connect_answer *ret_answer));

// Sockets that weir has towards servers now, connecting ones included.
int streams_upstream_count(int server);
int streams_count(void);

#endif
