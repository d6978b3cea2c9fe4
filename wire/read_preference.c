// SPDX-License-Identifier: Apache-2.0

#include "wire/read_preference.h"

#include "wire/bson_view.h"
#include "wire/frame.h"
#include "wire/op_msg.h"

#define KEY "$readPreference"

// Documents, and an element, as they stand in a message; the NUL that ends each of these literals
// closes the document.
static const uint8_t primary[] = "\x17\0\0\0"
                                 "\x02mode\0\x08\0\0\0primary\0";
static const uint8_t loose[] = "\x03" KEY "\0"
                               "\x20\0\0\0"
                               "\x02mode\0\x11\0\0\0primaryPreferred\0";

// Of what weir does not know nobody can say that it writes.
static bool may_read(const struct command *command)
{
    bool unknown = command->info == command_at(0);
    bool goes_on = command->cursor_id != 0 || (command->info->traits & COMMAND_FINISHES);
    return (unknown || !(command->info->traits & COMMAND_WRITE)) && !command->in_transaction &&
           !goes_on;
}

bool read_preference_loosen(struct buffer *message, const struct command *command)
{
    struct bytes part = {command->body.at + command->body.len - 1, 0}; // at the body's last NUL
    struct bson_element field;
    if (!may_read(command) || buffer_held(message) + sizeof loose > FRAME_MAX_BYTES) {
        return false;
    }
    if (bson_find(command->body, KEY, &field)) {
        if (!bytes_same(field.value, (struct bytes){primary, sizeof primary})) {
            return false;
        }
        part.at = field.key.at - 1; // the type
        part.len = (size_t)(field.value.at + field.value.len - part.at);
    }
    op_msg_splice(message, command->body, part, (struct bytes){loose, sizeof loose});
    return true;
}
