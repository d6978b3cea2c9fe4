// SPDX-License-Identifier: Apache-2.0

#include "tests/fuzz/model.h"

#include "tests/fuzz/fuzz.h"

// The document that the element holds. False if it holds none.
static bool inner_of(const bson_iter_t *iter, struct bytes *ret_inner)
{
    uint32_t len = 0;
    const uint8_t *inner = NULL;
    if (BSON_ITER_HOLDS_DOCUMENT(iter)) {
        bson_iter_document(iter, &len, &inner);
    } else if (BSON_ITER_HOLDS_ARRAY(iter)) {
        bson_iter_array(iter, &len, &inner);
    } else if (BSON_ITER_HOLDS_CODEWSCOPE(iter)) {
        uint32_t code_len;
        const char *code = bson_iter_codewscope(iter, &code_len, &len, &inner);
        if (code[code_len] != 0) {
            len = 0;
        }
    } else {
        return false;
    }
    *ret_inner = (struct bytes){inner, len};
    return true;
}

static int levels_below(struct bytes document, int above)
{
    bson_t bson;
    bson_iter_t iter;
    int deepest = 0;
    if (above > BSON_VIEW_MAX_DEPTH) {
        return MODEL_TOO_DEEP;
    }
    if (!bson_init_static(&bson, document.at, document.len) || !bson_iter_init(&iter, &bson)) {
        return 0;
    }
    uint32_t elements_end = 4;
    while (bson_iter_next(&iter)) {
        struct bytes inner;
        elements_end = iter.next_off;
        if (inner_of(&iter, &inner)) {
            int levels = levels_below(inner, above + 1);
            if (levels <= 0) {
                return levels;
            }
            deepest = levels > deepest ? levels : deepest;
        }
    }
    return iter.err_off == 0 && elements_end == document.len - 1 ? deepest + 1 : 0;
}

int model_levels(struct bytes document)
{
    return levels_below(document, 1);
}

bson_t model_document(struct bytes document)
{
    bson_t bson;
    bool begun = bson_init_static(&bson, document.at, document.len);
    MUST(begun);
    return bson;
}

struct bytes model_value(const bson_iter_t *iter, struct bytes document)
{
    const uint8_t *key = (const uint8_t *)bson_iter_key(iter);
    const uint8_t *at = key + bson_iter_key_len(iter) + 1;
    return (struct bytes){at, (size_t)(document.at + iter->next_off - at)};
}

static void compare_number(const bson_iter_t *iter, const struct bson_element *element)
{
    int64_t number = 0;
    bool is_number = bson_element_i64(element, &number);
    switch (bson_iter_type(iter)) {
    case BSON_TYPE_INT32:
        MUST(is_number && number == bson_iter_int32(iter));
        MUST(bson_element_truth(element) == (bson_iter_int32(iter) != 0));
        break;
    case BSON_TYPE_INT64:
        MUST(is_number && number == bson_iter_int64(iter));
        MUST(bson_element_truth(element) == (bson_iter_int64(iter) != 0));
        break;
    case BSON_TYPE_DOUBLE: {
        double value = bson_iter_double(iter);
        MUST(bson_element_truth(element) == (value != 0));
        MUST(is_number == (value >= -0x1p63 && value < 0x1p63));
        MUST(!is_number || number == (int64_t)value);
        break;
    }
    default:
        MUST(!is_number);
        MUST(bson_element_truth(element) == (BSON_ITER_HOLDS_BOOL(iter) && bson_iter_bool(iter)));
        break;
    }
}

static void compare_text(const bson_iter_t *iter, const struct bson_element *element)
{
    struct bytes text = {0};
    MUST(bson_element_text(element, &text) == BSON_ITER_HOLDS_UTF8(iter));
    if (BSON_ITER_HOLDS_UTF8(iter)) {
        uint32_t len;
        const char *theirs = bson_iter_utf8(iter, &len);
        MUST(text.len == len && (const char *)text.at == theirs);
    }
}

// The first element of a key is the one that is found.
static void compare_found(const bson_t *bson, struct bytes document, const bson_iter_t *iter)
{
    bson_iter_t first;
    struct bson_element element;
    MUST(bson_iter_init_find(&first, bson, bson_iter_key(iter)));
    MUST(bson_find(document, bson_iter_key(iter), &element));
    MUST(element.key.at == (const uint8_t *)bson_iter_key(&first));
}

void model_compare(struct bytes document)
{
    bson_t bson = model_document(document);
    bson_iter_t iter;
    struct bson_walk walk;
    struct bson_element element;
    MUST(bson_iter_init(&iter, &bson) && bson_walk_begin(&walk, document));
    for (int count = 0; bson_iter_next(&iter); count++) {
        struct bytes inner;
        MUST(bson_walk_next(&walk, &element) == BSON_WALK_ELEMENT);
        MUST(element.type == (uint8_t)bson_iter_type(&iter));
        MUST(element.key.at == (const uint8_t *)bson_iter_key(&iter));
        MUST(element.key.len == bson_iter_key_len(&iter));
        struct bytes value = model_value(&iter, document);
        MUST(element.value.at == value.at && element.value.len == value.len);
        compare_number(&iter, &element);
        compare_text(&iter, &element);
        if (count < 16) { // for a look through all keys, at every key, takes too long
            compare_found(&bson, document, &iter);
        }
        if (inner_of(&iter, &inner)) {
            model_compare(inner);
        }
    }
    MUST(bson_walk_next(&walk, &element) == BSON_WALK_END);
}
