// SPDX-License-Identifier: Apache-2.0
//
// All at work go at one speed, so one sum of work says how far each has come, and they finish in
// the order of "the sum when it came + its own work".

#include "server.h"

#include <math.h>

#include "policy/memory.h"

#define KNEE_PER_CORE 2
#define HAIR 1e-6 // of work, that rounding may take

void server_init(struct server *server, const struct server_traits *traits)
{
    *server = (struct server){.traits = *traits, .capacity = 1};
}

void server_fini(struct server *server)
{
    free(server->at);
}

static double speed(const struct server *server)
{
    double n = (double)server->count;
    double cores = server->traits.cores * server->capacity;
    double crowd = fmax(0, n - KNEE_PER_CORE * cores);
    return n > 0 ? fmin(1, cores / n) / (1 + server->traits.contention * crowd) : 0;
}

static void advance(struct server *server, int64_t now_us)
{
    server->work += (double)(now_us - server->now_us) * speed(server);
    server->now_us = now_us;
}

void server_set_capacity(struct server *server, double capacity, int64_t now_us)
{
    advance(server, now_us);
    server->capacity = capacity;
}

void server_add(struct server *server, struct request *request, int64_t now_us)
{
    advance(server, now_us);
    if (server->count == server->room) {
        server->room = server->room ? server->room * 2 : 64;
        server->at = memory_resize(server->at, server->room, sizeof(struct request *));
    }
    request->finish_work = server->work + request->cpu_us;
    size_t i = server->count++;
    for (; i > 0 && request->finish_work < server->at[(i - 1) / 2]->finish_work; i = (i - 1) / 2) {
        server->at[i] = server->at[(i - 1) / 2];
    }
    server->at[i] = request;
}

int64_t server_next_us(const struct server *server)
{
    double rate = speed(server);
    if (rate <= 0) {
        return INT64_MAX;
    }
    double left = fmax(0, server->at[0]->finish_work - server->work);
    return server->now_us + (int64_t)ceil(left / rate);
}

struct request *server_take_any(struct server *server)
{
    if (server->count == 0) {
        return NULL;
    }
    struct request *first = server->at[0];
    struct request *last = server->at[--server->count];
    size_t i = 0;
    for (size_t child = 1; child < server->count; child = 2 * i + 1) {
        if (child + 1 < server->count &&
            server->at[child + 1]->finish_work < server->at[child]->finish_work) {
            child++;
        }
        if (server->at[child]->finish_work >= last->finish_work) {
            break;
        }
        server->at[i] = server->at[child];
        i = child;
    }
    server->at[i] = last;
    return first;
}

struct request *server_take_finished(struct server *server, int64_t now_us)
{
    advance(server, now_us);
    if (server->count == 0 || server->at[0]->finish_work > server->work + HAIR) {
        return NULL;
    }
    return server_take_any(server);
}
