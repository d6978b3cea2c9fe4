// SPDX-License-Identifier: Apache-2.0

#include "wire/buffer.h"

#include <assert.h>
#include <stdlib.h>

#define SMALLEST_BYTES 256

void buffer_fini(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct buffer){0};
}

static void move_to_front(struct buffer *buffer, uint8_t *front)
{
    size_t held = buffer_held(buffer);
    if (held > 0) {
        memmove(front, buffer_at(buffer), held);
    }
    buffer->begin = 0;
    buffer->end = held;
}

// At least doubles what is held, so that appending piece by piece stays linear; but takes no more
// than it was asked for when that is the larger, as when a message's whole length is known.
static void grow(struct buffer *buffer, size_t room)
{
    size_t held = buffer_held(buffer);
    size_t capacity = held + room;
    if (capacity < room) {
        abort();
    }
    if (capacity < 2 * held) {
        capacity = 2 * held;
    }
    if (capacity < SMALLEST_BYTES) {
        capacity = SMALLEST_BYTES;
    }
    uint8_t *data = malloc(capacity);
    if (!data) {
        abort();
    }
    move_to_front(buffer, data);
    free(buffer->data);
    buffer->data = data;
    buffer->capacity = capacity;
}

uint8_t *buffer_reserve(struct buffer *buffer, size_t room)
{
    if (buffer_room(buffer) < room) {
        size_t held = buffer_held(buffer);
        // Moving more than half of the capacity for a little room would be paid again and again.
        if (held <= buffer->capacity / 2 && room <= buffer->capacity - held) {
            move_to_front(buffer, buffer->data);
        } else {
            grow(buffer, room);
        }
    }
    return buffer->data ? buffer->data + buffer->end : NULL;
}

void buffer_commit(struct buffer *buffer, size_t len)
{
    assert(len <= buffer_room(buffer));
    buffer->end += len;
}

void buffer_append(struct buffer *buffer, const void *at, size_t len)
{
    if (len > 0) {
        memcpy(buffer_reserve(buffer, len), at, len);
        buffer_commit(buffer, len);
    }
}

void buffer_consume(struct buffer *buffer, size_t len)
{
    assert(len <= buffer_held(buffer));
    buffer->begin += len;
    if (buffer->begin == buffer->end) {
        buffer->begin = 0;
        buffer->end = 0;
    }
}
