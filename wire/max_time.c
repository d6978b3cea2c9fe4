// SPDX-License-Identifier: Apache-2.0

#include "wire/max_time.h"

#include <assert.h>

#include "wire/bson_view.h"
#include "wire/frame.h"

// An element: type, key, int32.
#define KEY "maxTimeMS"
#define INSERTED_BYTES (1 + sizeof(KEY) + 4)

static int64_t lesser_bound(int64_t a_ms, int64_t b_ms)
{
    if (a_ms == 0 || b_ms == 0) {
        return a_ms + b_ms;
    }
    return a_ms < b_ms ? a_ms : b_ms;
}

struct max_time_bounds max_time_both(struct max_time_bounds first, struct max_time_bounds second)
{
    return (struct max_time_bounds){
        .limit_ms = lesser_bound(first.limit_ms, second.limit_ms),
        .preset_ms = first.preset_ms ? first.preset_ms : second.preset_ms,
    };
}

void max_time_write(const struct command *command, uint8_t *message, int64_t ms)
{
    uint8_t *at = message + command->max_time_offset;
    double as_double = (double)ms;
    int64_t bits = ms;
    assert(command->has_max_time && ms >= 0 && ms <= MAX_TIME_MOST_MS);
    if (command->max_time_type == BSON_VIEW_DOUBLE) {
        memcpy(&bits, &as_double, sizeof bits);
    }
    store_i32(at, (int32_t)bits);
    if (command->max_time_type != BSON_VIEW_INT32) {
        store_i32(at + 4, (int32_t)(bits >> 32));
    }
}

static void insert(struct buffer *message, struct bytes body, int64_t ms)
{
    uint8_t element[INSERTED_BYTES] = {BSON_VIEW_INT32};
    memcpy(element + 1, KEY, sizeof(KEY));
    store_i32(element + 1 + sizeof(KEY), (int32_t)ms);
    struct bytes end = {body.at + body.len - 1, 0}; // at the NUL that closes the body
    op_msg_splice(message, body, end, (struct bytes){element, sizeof element});
}

bool max_time_clamp(struct buffer *message, const struct command *command,
                    struct max_time_bounds bounds)
{
    int64_t limit_ms = lesser_bound(bounds.limit_ms, MAX_TIME_MOST_MS);
    bool bound = (command->info->traits & COMMAND_TIMED) && !command->streams;
    if (!bound) {
        return false;
    }
    if (command->has_max_time) {
        int64_t ms = command->max_time_ms;
        bool over = ms == 0 || ms > limit_ms;
        if (bounds.limit_ms == 0 || ms < 0 || !over) {
            return false;
        }
        max_time_write(command, buffer_at(message), limit_ms);
        return true;
    }
    int64_t ms = lesser_bound(bounds.preset_ms, bounds.limit_ms);
    if (command->max_time_type != 0 || ms == 0 ||
        buffer_held(message) + INSERTED_BYTES > FRAME_MAX_BYTES) {
        return false;
    }
    insert(message, command->body, lesser_bound(ms, MAX_TIME_MOST_MS));
    return true;
}

int64_t max_time_of(const struct command *command)
{
    bool is_limit = command->has_max_time && command->max_time_ms > 0 &&
                    command->max_time_ms <= MAX_TIME_MOST_MS &&
                    !bytes_equal(command->name, "getMore");
    return is_limit ? command->max_time_ms : 0;
}
