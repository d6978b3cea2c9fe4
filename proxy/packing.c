// SPDX-License-Identifier: Apache-2.0

#include "proxy/packing.h"

#include <assert.h>

#include "proxy/worker.h"

// --- requests -----------------------------------------------------------------------------------

static void release_compressed(struct request *request)
{
    size_t inflated = buffer_held(&request->message);
    size_t still = inflated > REQUEST_KEEP_BYTES ? inflated : 0;
    assert(request->claimed_bytes >= still);
    budget_release(&request->worker->shared->budget, request->claimed_bytes - still);
    request->claimed_bytes = still;
}

enum compressed_status packing_inflate_request(struct request *request)
{
    struct buffer message = {0};
    struct compressed compressed;
    const uint8_t *at = buffer_at(&request->message);
    enum compressed_status status =
        compressed_read(at, request->length, &request->client->compressors, &compressed);
    if (status != COMPRESSED_OK) {
        return status;
    }
    size_t length = (size_t)compressed.frame.length;
    status = compressed_inflate(request->worker->apps_codec, &compressed, at,
                                buffer_reserve(&message, length));
    if (status != COMPRESSED_OK) {
        buffer_fini(&message);
        return status;
    }
    buffer_commit(&message, length);
    buffer_fini(&request->message);
    request->message = message;
    request->length = length;
    request->frame = compressed.frame;
    request->compressor = compressed.compressor;
    release_compressed(request);
    return COMPRESSED_OK;
}

void packing_pack_request(struct request *request)
{
    struct bytes message = {buffer_at(&request->message), request->length};
    enum compressor compressor = request->upstream->compressor;
    bool must_be_plain = request->command.info->traits & COMMAND_PLAIN;
    packing_drop(request);
    if (compressor == COMPRESSOR_NONE || must_be_plain || message.len > PACKING_MAX_BYTES) {
        return;
    }
    compressed_write(request->worker->servers_codec, compressor, message, &request->packed);
    request->packing_bytes = request->packed.capacity;
    budget_add(&request->worker->shared->budget, request->packing_bytes);
}

struct bytes packing_outgoing(const struct request *request)
{
    const struct buffer *packed = &request->packed;
    if (buffer_held(packed) > 0) {
        return (struct bytes){buffer_at(packed), buffer_held(packed)};
    }
    return (struct bytes){buffer_at(&request->message), request->length};
}

// --- replies ------------------------------------------------------------------------------------

// Once, before the rest of the reply is read.
static bool claim_reply(struct request *request, size_t bytes)
{
    struct budget *budget = &request->worker->shared->budget;
    if (request->packing_bytes == 0 && bytes > WORKER_SCRATCH_BYTES) {
        if (!budget_claim_reply(budget, bytes, request->claimed_bytes)) {
            return false;
        }
        request->packing_bytes = bytes;
    }
    return true;
}

enum packing_status packing_inflate_reply(struct request *request, bool *ret_surplus)
{
    struct buffer *packed = &request->packed;
    const uint8_t *at = buffer_at(packed);
    size_t held = buffer_held(packed);
    struct frame frame;
    struct compressed compressed;
    if (frame_read(at, held, &frame) == FRAME_OK && frame.opcode != OPCODE_COMPRESSED) {
        return PACKING_PLAIN;
    }
    const struct compressor_list agreed = {1, {request->upstream->compressor}};
    enum compressed_status status = compressed_read(at, held, &agreed, &compressed);
    if (status != COMPRESSED_OK) {
        return status == COMPRESSED_MORE ? PACKING_MORE : PACKING_BAD;
    }
    if (compressed.frame.response_to != request->frame.request_id) {
        return PACKING_OTHER_REPLY;
    }
    size_t length = (size_t)compressed.frame.length;
    if (!claim_reply(request, compressed.length + length)) {
        return PACKING_STARVES;
    }
    if (held < compressed.length) {
        buffer_reserve(packed, compressed.length - held); // what was claimed, not twice as much
        return PACKING_MORE;
    }
    status = compressed_inflate(request->worker->servers_codec, &compressed, at,
                                buffer_reserve(&request->held, length));
    if (status != COMPRESSED_OK) {
        return PACKING_BAD;
    }
    buffer_commit(&request->held, length);
    *ret_surplus = held > compressed.length;
    return PACKING_WHOLE;
}

bool packing_holds(struct request *request)
{
    size_t length = (size_t)request->scan.view.frame.length;
    if (request->compressor == COMPRESSOR_NONE || request->reply_begun ||
        length > PACKING_MAX_BYTES) {
        return false;
    }
    return claim_reply(request, length);
}

bool packing_pack_reply(struct request *request, struct bytes reply, struct buffer *out)
{
    if (request->compressor == COMPRESSOR_NONE || reply.len > PACKING_MAX_BYTES) {
        return false;
    }
    compressed_write(request->worker->apps_codec, request->compressor, reply, out);
    return buffer_held(out) < reply.len;
}

void packing_free(struct request *request)
{
    buffer_fini(&request->packed);
    if (request->packing_bytes > 0) {
        buffer_fini(&request->held);
        budget_release(&request->worker->shared->budget, request->packing_bytes);
        request->packing_bytes = 0;
    }
}
