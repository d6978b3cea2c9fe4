// SPDX-License-Identifier: Apache-2.0

#include "proxy/route.h"

#include "proxy/control/control.h"
#include "proxy/request.h"
#include "proxy/selection.h"
#include "proxy/servers.h"
#include "proxy/worker.h"

static bool is_replica_set(const struct server_info *info)
{
    return !info->is_direct && (info->kind == SERVER_PRIMARY || info->kind == SERVER_SECONDARY);
}

static bool has_replica_set(const struct topology *topology)
{
    for (size_t i = 0; i < topology->server_count; i++) {
        if (is_replica_set(&topology->servers[i])) {
            return true;
        }
    }
    return false;
}

// A primary that is none any more has aborted its transactions; so will one that fell silent when
// another has taken over.
static bool has_aborted(const struct server_info *info, const struct topology *topology)
{
    const struct server_info *writable = topology_writable(topology);
    if (info->is_direct) {
        return false; // it knows itself
    }
    bool replaced = writable && writable->kind == SERVER_PRIMARY && writable != info;
    return replaced || info->kind == SERVER_SECONDARY || info->kind == SERVER_OTHER;
}

static enum route route_bound(const struct request *request, const struct topology *topology,
                              struct server **ret_server)
{
    const struct server_info *info = topology_find(topology, request->bond.server);
    const struct command *command = &request->command;
    if (!info || (command->in_transaction && has_aborted(info, topology)) ||
        (command->cursor_id && server_is_doomed(info->server, request->now_us))) {
        return ROUTE_LOST;
    }
    *ret_server = info->server; // where it waits if the server is not there now
    return ROUTE_FOUND;
}

// Whether any server will do that knows how transactions ended: the primary, whoever it is now (the
// kind of the one that this is bound to does not tell: it may just be silent); and a mongos that
// has the recoveryToken, if the transaction's own is not there.
static bool is_free_to_end(const struct request *request, const struct topology *topology)
{
    const struct server_info *info = topology_find(topology, request->bond.server);
    return command_ends_transaction(&request->command) &&
           (!info || !server_is_usable(info) || has_replica_set(topology));
}

static enum route route_free(const struct request *request, const struct topology *topology,
                             struct server **ret_server)
{
    struct worker *worker = request->worker;
    struct selection selection;
    selection_read(&request->command, &selection);
    if (selection.max_staleness_s >= 0 && selection.max_staleness_s < SELECTION_MIN_STALENESS_S &&
        has_replica_set(topology)) {
        return ROUTE_STALENESS; // as a mongos refuses it; others are asked themselves
    }
    selection.window_us = worker->approach->deployment->local_threshold_us;
    selection.random[0] = worker_random(worker);
    selection.random[1] = worker_random(worker);
    selection.now_us = request->now_us;
    selection.avoid = request->avoid;
    const struct server_info *info = selection_choose(topology, &selection);
    if (!info) {
        return ROUTE_NOBODY;
    }
    *ret_server = info->server;
    return ROUTE_FOUND;
}

enum route route_request(const struct request *request, struct server **ret_server)
{
    const struct topology *topology = request->worker->topology;
    *ret_server = request->worker->shared->servers->lobby;
    if (!topology) {
        return ROUTE_NOBODY;
    }
    if (request->bond.server && !is_free_to_end(request, topology)) {
        return route_bound(request, topology, ret_server);
    }
    return route_free(request, topology, ret_server);
}

bool route_is_too_choosy(const struct request *request)
{
    const struct topology *topology = request->worker->topology;
    struct selection selection;
    selection_read(&request->command, &selection);
    selection.now_us = INT64_MAX; // doubts pass
    return request->bond.server == 0 && topology && topology_writable(topology) &&
           !selection_choose(topology, &selection);
}
