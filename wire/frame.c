// SPDX-License-Identifier: Apache-2.0

#include "wire/frame.h"

enum frame_status frame_read(const uint8_t *at, size_t len, struct frame *ret_frame)
{
    if (len < FRAME_HEADER_BYTES) {
        return FRAME_MORE;
    }
    int32_t length = load_i32(at);
    if (length < FRAME_HEADER_BYTES || length > FRAME_MAX_BYTES) {
        return FRAME_BAD_LENGTH;
    }
    *ret_frame = (struct frame){
        .length = length,
        .request_id = load_i32(at + 4),
        .response_to = load_i32(at + 8),
        .opcode = load_i32(at + 12),
    };
    return FRAME_OK;
}

void frame_write(uint8_t *at, const struct frame *frame)
{
    store_i32(at, frame->length);
    store_i32(at + 4, frame->request_id);
    store_i32(at + 8, frame->response_to);
    store_i32(at + 12, frame->opcode);
}
