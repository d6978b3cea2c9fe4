// SPDX-License-Identifier: Apache-2.0
//
// A stream of messages, cut by their headers: a header is read from 16 bytes and not from fewer,
// its length has bounds, and what is written is what was read.

#include "tests/fuzz/fuzz.h"

static void read_one(const uint8_t *at, size_t len, struct frame *ret_frame,
                     enum frame_status *ret_status)
{
    uint8_t *copy = exact_copy(at, len);
    *ret_status = frame_read(copy, len, ret_frame);
    free(copy);
}

static void write_again(const uint8_t *at, const struct frame *frame)
{
    uint8_t *out = malloc(FRAME_HEADER_BYTES);
    frame_write(out, frame);
    MUST(memcmp(out, at, FRAME_HEADER_BYTES) == 0);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    while (true) {
        const struct frame untouched = {-1, -2, -3, -4};
        struct frame frame = untouched;
        enum frame_status status;
        read_one(data, size, &frame, &status);
        MUST((status == FRAME_MORE) == (size < FRAME_HEADER_BYTES));
        if (status != FRAME_OK) {
            MUST(memcmp(&frame, &untouched, sizeof(frame)) == 0);
            break;
        }
        MUST(frame.length >= FRAME_HEADER_BYTES && frame.length <= FRAME_MAX_BYTES);
        write_again(data, &frame);
        if ((size_t)frame.length > size) {
            break;
        }
        data += frame.length;
        size -= (size_t)frame.length;
    }
    return 0;
}
