// SPDX-License-Identifier: Apache-2.0
#include "proxy/topology.h"

#include <assert.h>

#include "proxy/mem.h"

struct topology *topology_new(uint64_t generation, size_t server_count)
{
    struct topology *topology =
        xcalloc(1, sizeof *topology + server_count * sizeof topology->servers[0]);
    atomic_init(&topology->references, 1);
    topology->generation = generation;
    topology->server_count = server_count;
    return topology;
}

struct topology *topology_keep(struct topology *topology)
{
    int before = atomic_fetch_add(&topology->references, 1);
    assert(before > 0);
    return topology;
}

void topology_drop(struct topology *topology)
{
    if (topology == NULL) {
        return;
    }
    int before = atomic_fetch_sub(&topology->references, 1);
    assert(before > 0);
    if (before == 1) {
        free(topology);
    }
}

static bool is_writable(const struct server_info *server)
{
    return server->address_count > 0 &&
           (server->kind == SERVER_PRIMARY || server->kind == SERVER_STANDALONE ||
            server->kind == SERVER_MONGOS || server->kind == SERVER_LOAD_BALANCER);
}

const struct server_info *topology_writable(const struct topology *topology)
{
    for (size_t i = 0; i < topology->server_count; i++) {
        if (is_writable(&topology->servers[i])) {
            return &topology->servers[i];
        }
    }
    return NULL;
}
