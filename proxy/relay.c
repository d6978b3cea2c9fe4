// SPDX-License-Identifier: Apache-2.0
#include "proxy/relay.h"

#include "proxy/cursor_split.h"
#include "proxy/packing.h"
#include "proxy/request.h"
#include "proxy/selection.h"
#include "proxy/servers.h"
#include "proxy/worker.h"
#include "wire/error_code.h"

static void pass_on(struct request *request, const uint8_t *at, size_t len)
{
    if (request->client && !request->no_reply && len > 0) {
        request->reply_begun = true;
        client_send(request->client, at, len);
    }
}

// To be compressed, a reply must be in one piece.
static void pass_on_message(struct request *request, struct bytes message)
{
    struct buffer packed = {0};
    bool wanted = request->compressor && request->client && !request->no_reply;
    if (wanted && packing_pack_reply(request, message, &packed)) {
        message = (struct bytes){buffer_at(&packed), buffer_held(&packed)};
    }
    pass_on(request, message.at, message.len);
    if (wanted) {
        buffer_fini(&packed);
    }
}

// Labels that must not reach the driver. NoWritesPerformed on an error that the driver does not
// retry makes some Go drivers report success; only retryable writes, commit and abort may carry it.
static unsigned labels_to_drop(const struct request *request)
{
    const struct reply_view *reply = &request->scan.view;
    bool retried = !request->in_doubt && (reply->labels & LABEL_RETRYABLE_WRITE) &&
                   (command_is_retryable_write(&request->command) ||
                    command_ends_transaction(&request->command));
    return retried ? 0 : reply->labels & LABEL_NO_WRITES_PERFORMED;
}

// Of nearly every reply it is clear at once that it does not.
static bool says_state_changed(const struct reply_view *reply)
{
    if (reply->code == 0 && reply->write_concern_code == 0) {
        return false;
    }
    return reply_is_state_change(reply->code) || reply_is_state_change(reply->write_concern_code);
}

static bool is_not_primary(int32_t code)
{
    return code == CODE_NOT_WRITABLE_PRIMARY || code == CODE_NOT_PRIMARY_NO_SECONDARY_OK ||
           code == CODE_LEGACY_NOT_PRIMARY;
}

static const struct server_info *info_of_server(const struct request *request)
{
    const struct topology *topology = request->worker->topology;
    return topology ? topology_find(topology, request->server->id) : NULL;
}

// The one member that the URI names, which is no primary and has never been taken for one: who
// writes there is told what the member says, as if there were no weir.
static bool is_known_for_it(const struct server_info *info)
{
    return server_is_direct_member(info) && info->kind != SERVER_PRIMARY;
}

void relay_whole(struct request *request, struct bytes reply)
{
    const struct reply_view *view = &request->scan.view;
    if (request->split && cursor_split_take(request->split, reply)) {
        return;
    }
    bool fine = view->ok && view->write_concern_code == 0;
    bool changed = !fine && says_state_changed(view);
    unsigned drop_labels = fine ? 0 : labels_to_drop(request);
    if (!changed && drop_labels == 0) {
        pass_on_message(request, reply);
        return;
    }
    const struct server_info *info = changed ? info_of_server(request) : NULL;
    bool is_no_news = info && is_known_for_it(info) && is_not_primary(view->code);
    struct buffer out = {0};
    reply_rewrite(reply, drop_labels, is_no_news, &out);
    pass_on_message(request, (struct bytes){buffer_at(&out), buffer_held(&out)});
    buffer_fini(&out);
}

void relay_part(struct request *request, const uint8_t *at, size_t len, bool done)
{
    struct buffer *held = &request->held;
    bool header = request->reply_bytes >= FRAME_HEADER_BYTES;
    bool large =
        header && request->scan.view.frame.length > WORKER_SCRATCH_BYTES && !packing_holds(request);
    bool first = buffer_held(held) == 0;
    if (large) {
        pass_on(request, buffer_at(held), buffer_held(held));
        buffer_consume(held, buffer_held(held));
        pass_on(request, at, len);
    } else if (done && first) {
        relay_whole(request, (struct bytes){at, len});
    } else {
        buffer_append(held, at, len);
        if (done) {
            relay_whole(request, (struct bytes){buffer_at(held), buffer_held(held)});
        }
    }
}

bool relay_denies_role(const struct request *request)
{
    const struct reply_view *reply = &request->scan.view;
    const struct server_info *info = says_state_changed(reply) ? info_of_server(request) : NULL;
    if (!info || info->kind == SERVER_STANDALONE || is_known_for_it(info)) {
        return false;
    }
    struct selection selection;
    selection_read(&request->command, &selection);
    bool by_choice = info->kind == SERVER_SECONDARY && selection.mode != READ_PRIMARY;
    return !by_choice || !is_not_primary(reply->code);
}
