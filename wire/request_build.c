// SPDX-License-Identifier: Apache-2.0

#include "wire/request_build.h"

#include "wire/op_msg.h"

void request_append(struct buffer *out, int32_t request_id, const bson_t *body)
{
    size_t start = op_msg_begin(out, request_id, 0);
    buffer_append(out, bson_get_data(body), body->len);
    op_msg_end(out, start);
}
