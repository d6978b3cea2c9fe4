// SPDX-License-Identifier: Apache-2.0

#include "proxy/admin/fields.h"

const char *field_text(const bson_t *document, const char *name)
{
    bson_iter_t iter;
    return bson_iter_init_find(&iter, document, name) && BSON_ITER_HOLDS_UTF8(&iter)
               ? bson_iter_utf8(&iter, NULL)
               : "";
}

bool field_open(const bson_iter_t *field, bson_t *ret_inner)
{
    const uint8_t *data = NULL;
    uint32_t len = 0;
    if (BSON_ITER_HOLDS_DOCUMENT(field)) {
        bson_iter_document(field, &len, &data);
    } else if (BSON_ITER_HOLDS_ARRAY(field)) {
        bson_iter_array(field, &len, &data);
    }
    return data && bson_init_static(ret_inner, data, len);
}

bool field_find(const bson_t *document, const char *name, bson_t *ret_inner)
{
    bson_iter_t iter;
    return bson_iter_init_find(&iter, document, name) && field_open(&iter, ret_inner);
}
