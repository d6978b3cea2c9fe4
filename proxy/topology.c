// SPDX-License-Identifier: Apache-2.0
#include "proxy/topology.h"

#include <assert.h>

#include "proxy/mem.h"

const char *server_kind_name(enum server_kind kind)
{
    static const char *const names[] = {
        [SERVER_UNKNOWN] = "unknown",
        [SERVER_STANDALONE] = "standalone",
        [SERVER_MONGOS] = "mongos",
        [SERVER_PRIMARY] = "primary",
        [SERVER_SECONDARY] = "secondary",
        [SERVER_OTHER] = "other",
        [SERVER_LOAD_BALANCER] = "loadBalancer",
    };
    return names[kind];
}

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

bool server_is_usable(const struct server_info *info)
{
    bool serves = info->kind != SERVER_UNKNOWN && (info->kind != SERVER_OTHER || info->is_direct);
    return serves && info->address_count > 0;
}

bool server_is_direct_member(const struct server_info *info)
{
    return info->is_direct && (info->kind == SERVER_PRIMARY || info->kind == SERVER_SECONDARY ||
                               info->kind == SERVER_OTHER);
}

const struct server_info *topology_writable(const struct topology *topology)
{
    for (size_t i = 0; i < topology->server_count; i++) {
        const struct server_info *info = &topology->servers[i];
        if (server_is_usable(info) && (info->kind != SERVER_SECONDARY || info->is_direct)) {
            return info;
        }
    }
    return NULL;
}

const struct server_info *topology_find(const struct topology *topology, uint32_t id)
{
    for (size_t i = 0; i < topology->server_count; i++) {
        if (topology->servers[i].id == id) {
            return &topology->servers[i];
        }
    }
    return NULL;
}

// A limit that is not known limits nothing.
static int lesser(int a, int b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

static void face_add(struct face *face, const struct server_info *info)
{
    face->standalone |= info->kind == SERVER_STANDALONE;
    face->no_writes |= server_is_direct_member(info) && info->kind != SERVER_PRIMARY;
    face->secondary |= info->is_direct && info->kind == SERVER_SECONDARY;
    face->max_wire_version = lesser(face->max_wire_version, info->max_wire_version);
    face->max_bson_bytes = lesser(face->max_bson_bytes, info->max_bson_bytes);
    face->max_message_bytes = lesser(face->max_message_bytes, info->max_message_bytes);
    face->max_write_batch = lesser(face->max_write_batch, info->max_write_batch);
    face->session_timeout_minutes =
        lesser(face->session_timeout_minutes, info->session_timeout_minutes);
}

bool topology_face(const struct topology *topology, struct face *ret_face)
{
    struct face face = {0};
    bool any = false;
    for (size_t i = 0; i < topology->server_count; i++) {
        if (server_is_usable(&topology->servers[i])) {
            face_add(&face, &topology->servers[i]);
            any = true;
        }
    }
    if (any) {
        *ret_face = face;
    }
    return any;
}
