// SPDX-License-Identifier: Apache-2.0
//
// A simulated server: n requests share its cores, each at the speed
//
//      min(1, cores / n) / (1 + contention x max(0, n - 2 x cores))
//
// so that with contention, what all of them get together falls when more than two a core are at
// work. One that waits for a disk is not at work, but has a connection.

#ifndef STORMS_SERVER_H
#define STORMS_SERVER_H

#include "request.h"

struct server_traits {
    double cores;
    double contention;   // 0: none
    int max_connections; // 0: as many as come
};

struct server {
    struct server_traits traits;
    double capacity; // 1: all of its cores; 0: it stalls
    double work;     // so much each one at work has been given since the start
    int64_t now_us;
    struct request **at; // those at work, a heap by finish_work
    size_t count;
    size_t room;
};

void server_init(struct server *server, const struct server_traits *traits);
void server_fini(struct server *server);

// Halves or doubles its cores.
void server_set_capacity(struct server *server, double capacity, int64_t now_us);

void server_add(struct server *server, struct request *request, int64_t now_us);

// When the next one will be finished, INT64_MAX if none, as things are now.
int64_t server_next_us(const struct server *server);

// One that is finished by now, NULL if none.
struct request *server_take_finished(struct server *server, int64_t now_us);

// Any one, unfinished; NULL if none: it dies.
struct request *server_take_any(struct server *server);

#endif
