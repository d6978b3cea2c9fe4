// SPDX-License-Identifier: Apache-2.0
//
// A growable byte queue: bytes enter at the end and leave at the beginning.
//
//      data         begin            end             capacity
//      |  consumed  |  held          |  room         |
//
// Invariant: begin <= end <= capacity; data is NULL exactly when capacity is 0.

#ifndef WIRE_BUFFER_H
#define WIRE_BUFFER_H

#include "wire/bytes.h"

struct buffer {
    uint8_t *data;
    size_t begin;
    size_t end;
    size_t capacity;
};

// An all-zero struct buffer is a valid empty one. buffer_fini frees the memory and leaves it so.
void buffer_fini(struct buffer *buffer);

// Makes room for at least `room` more bytes at the end, moving what is held to the front or growing
// (aborts when memory is out: budgets stop us earlier). Returns where to write.
uint8_t *buffer_reserve(struct buffer *buffer, size_t room);

// Says that `len` bytes were written to the room that buffer_reserve gave.
void buffer_commit(struct buffer *buffer, size_t len);

// Copies bytes in. `at` must not point into the buffer itself.
void buffer_append(struct buffer *buffer, const void *at, size_t len);

// Drops `len` of the held bytes from the front; when none are left, begins anew at the front.
void buffer_consume(struct buffer *buffer, size_t len);

static inline uint8_t *buffer_at(const struct buffer *buffer)
{
    return buffer->data ? buffer->data + buffer->begin : NULL;
}

static inline size_t buffer_held(const struct buffer *buffer)
{
    return buffer->end - buffer->begin;
}

static inline size_t buffer_room(const struct buffer *buffer)
{
    return buffer->capacity - buffer->end;
}

#endif
