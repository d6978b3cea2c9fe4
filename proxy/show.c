// SPDX-License-Identifier: Apache-2.0

#include "proxy/show.h"

#include <stdio.h>

#include "proxy/request.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"
#include "wire/shape.h"

static void copy_bytes(char *to, size_t capacity, struct bytes from)
{
    size_t len = from.len < capacity - 1 ? from.len : capacity - 1;
    if (len > 0) {
        memcpy(to, from.at, len);
    }
    to[len] = '\0';
}

static const char *request_state(const struct request *request)
{
    switch (request->step) {
    case STEP_READ:
    case STEP_CLASSIFY:
    case STEP_ACCESS:
        return "reading";
    case STEP_LOCAL:
        return "local";
    case STEP_RULES:
    case STEP_ROUTE:
    case STEP_ADMIT:
        return "queued";
    case STEP_CHECKOUT:
        return "waitingForUpstream";
    case STEP_SEND:
        return "sending";
    case STEP_RECEIVE:
        return "served";
    case STEP_FAIL:
    case STEP_REPLY:
    case STEP_WAIT:
    case STEP_END:
        break;
    }
    return "replying";
}

static const char *client_state(const struct client *client)
{
    return client->request ? request_state(client->request) : client->greeted ? "idle" : "greeting";
}

static void show_client(struct show *show, const struct client *client, int64_t now_us)
{
    struct seen_client seen = {
        .id = client->id,
        .state = client_state(client),
        .age_us = now_us - client->accepted_us,
        .unsent_bytes = (int64_t)client->claimed_bytes,
        .worker = client->worker->index,
        .tls = client->shaken && stream_is_tls(client->stream),
    };
    snprintf(seen.peer, sizeof seen.peer, "%s", stream_peer(client->stream));
    memcpy(seen.app_name, client->app_name, sizeof seen.app_name);
    buffer_append(&show->seen_clients, &seen, sizeof seen);
}

static void show_request(struct show *show, const struct request *request, int64_t now_us)
{
    static const char *const lanes[] = {"normal", "slow", "stream", "pinning"};
    _Static_assert(LANE_COUNT == sizeof lanes / sizeof lanes[0], "a text for each");
    if (request->step <= STEP_CLASSIFY) {
        return; // not known yet what it is
    }
    struct seen_request seen = {
        .id = (int64_t)request->number,
        .client_id = request->client_id,
        .upstream_id = request->upstream ? request->upstream->id : 0,
        .state = request_state(request),
        .lane = "",
        .age_us = now_us - request->arrived_us,
        .held_us = request->has_permit ? now_us - request->granted_us : 0,
        .bytes = (int64_t)request->length,
    };
    if (request->user) {
        seen.user_id = request->user->id;
        snprintf(seen.user, sizeof seen.user, "%.127s", request->user->spec.name);
    }
    snprintf(seen.peer, sizeof seen.peer, "%s", request->peer);
    memcpy(seen.app_name, request->app_name, sizeof seen.app_name);
    copy_bytes(seen.command, sizeof seen.command, request->command.name);
    request_namespace(request, seen.namespace, sizeof seen.namespace);
    if (request->step != STEP_LOCAL) {
        shape_text(&request->msg, &request->command, seen.shape, sizeof seen.shape);
    }
    if (request->server) {
        snprintf(seen.server, sizeof seen.server, "%.127s", request->server->name);
        seen.lane = lanes[server_lane(request->server, request)];
    }
    buffer_append(&show->seen_requests, &seen, sizeof seen);
}

static void show_upstream(struct show *show, const struct upstream *upstream, int64_t now_us)
{
    const struct request *request = upstream->request;
    struct seen_upstream seen = {
        .id = upstream->id,
        .client_id = request ? request->client_id : 0,
        .state = upstream->opening ? "opening"
                 : request         ? "inUse"
                                   : "idle",
        .age_us = now_us - upstream->opened_us,
        .pins = upstream->pins,
        .worker = upstream->worker->index,
    };
    snprintf(seen.server, sizeof seen.server, "%.127s", upstream->server->name);
    buffer_append(&show->seen_upstreams, &seen, sizeof seen);
}

// Returns how many it has looked at; worker->shown_client is where it stopped.
static int go_over_clients(struct show *show, int most, int64_t now_us)
{
    int count = 0;
    struct client *client = show->worker->shown_client;
    for (; client && count < most; client = client->next) {
        if (show->clients) {
            show_client(show, client, now_us);
        }
        if (show->requests && client->request) {
            show_request(show, client->request, now_us);
        }
        count++;
    }
    show->worker->shown_client = client;
    return count;
}

// Requests of clients are seen with these.
static void go_over_upstreams(struct show *show, int most, int64_t now_us)
{
    struct upstream *upstream = show->worker->shown_upstream;
    for (int i = 0; upstream && i < most; upstream = upstream->next, i++) {
        const struct request *request = upstream->request;
        if (show->upstreams) {
            show_upstream(show, upstream, now_us);
        }
        if (show->requests && request && !request->client) {
            show_request(show, request, now_us);
        }
    }
    show->worker->shown_upstream = upstream;
}

void show_go_on(struct show *show)
{
    struct worker *worker = show->worker;
    int64_t now_us = loop_now_us(worker->loop);
    if (!show->begun) {
        show->begun = true;
        worker->shown_client = show->clients || show->requests ? worker->clients : NULL;
        worker->shown_upstream = show->upstreams || show->requests ? worker->upstreams : NULL;
    }
    int count = go_over_clients(show, SHOW_PER_TURN, now_us);
    go_over_upstreams(show, SHOW_PER_TURN - count, now_us);
    if (worker->shown_client || worker->shown_upstream) {
        worker_post(worker, &show->mail, MAIL_SHOW);
    } else {
        show->mail.kind = show->back_kind;
        mailbox_post(show->back, &show->mail);
    }
}
