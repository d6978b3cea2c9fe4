// SPDX-License-Identifier: Apache-2.0

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "tests/unit/guard.h"
#include "tests/unit/wire_samples.h"
#include "wire/bson_view.h"

// A document of one element with the key "k".
static size_t one_element(uint8_t *out, uint8_t type, const char *value, size_t value_len)
{
    size_t len = 4 + 1 + 2 + value_len + 1;
    store_i32(out, (int32_t)len);
    out[4] = type;
    memcpy(out + 5, "k", 2);
    memcpy(out + 7, value, value_len);
    out[len - 1] = 0;
    return len;
}

struct value_case {
    const char *what;
    uint8_t type;
    size_t len;
    const char *value;
    enum wire_error error;
};

// clang-format off
#define VALUE(what, type, bytes, error) {what, type, sizeof(bytes) - 1, bytes, error}
#define OK WIRE_OK
#define BAD WIRE_BAD_BSON
#define EMPTY "\5\0\0\0\0"
#define TWELVE "abcdefghijkl"

static const struct value_case values[] = {
    VALUE("double", 0x01, "\0\0\0\0\0\0\xf0\x3f", OK),
    VALUE("double, short", 0x01, "\0\0\0\0\0\0\xf0", BAD),
    VALUE("double, long", 0x01, "\0\0\0\0\0\0\xf0\x3f\0", BAD),
    VALUE("string", 0x02, "\3\0\0\0hi\0", OK),
    VALUE("string, empty", 0x02, "\1\0\0\0\0", OK),
    VALUE("string with a NUL in it", 0x02, "\3\0\0\0\0i\0", OK),
    VALUE("string, not UTF-8", 0x02, "\3\0\0\0\xff\xfe\0", OK),
    VALUE("string, length 0", 0x02, "\0\0\0\0", BAD),
    VALUE("string, negative", 0x02, "\xff\xff\xff\xff\0", BAD),
    VALUE("string, least negative", 0x02, "\0\0\0\x80\0", BAD),
    VALUE("string, largest", 0x02, "\xff\xff\xff\x7f\0", BAD),
    VALUE("string without NUL", 0x02, "\3\0\0\0hi!", BAD),
    VALUE("string that takes the document's NUL", 0x02, "\4\0\0\0hi\0", BAD),
    VALUE("string, half a length", 0x02, "\1\0", BAD),
    VALUE("document", 0x03, EMPTY, OK),
    VALUE("document, length 4", 0x03, "\4\0\0\0", BAD),
    VALUE("document, too long", 0x03, "\6\0\0\0\0", BAD),
    VALUE("document that takes the outer NUL", 0x03, "\5\0\0\0", BAD),
    VALUE("document, bad inside", 0x03, "\x0c\0\0\0\x10k\0\1\0\0\0\1", BAD),
    VALUE("document, short element inside", 0x03, "\x0b\0\0\0\x10k\0\1\0\0\0", BAD),
    VALUE("document without NUL", 0x03, "\5\0\0\0\1", BAD),
    VALUE("array", 0x04, "\x0c\0\0\0\x10" "0\0\1\0\0\0\0", OK),
    VALUE("array, negative", 0x04, "\xfb\xff\xff\xff\0", BAD),
    VALUE("binary", 0x05, "\2\0\0\0\x80hi", OK),
    VALUE("binary, empty", 0x05, "\0\0\0\0\0", OK),
    VALUE("binary, too long", 0x05, "\3\0\0\0\x80hi", BAD),
    VALUE("binary, negative", 0x05, "\xff\xff\xff\xff\0", BAD),
    VALUE("binary, largest", 0x05, "\xff\xff\xff\x7f\0", BAD),
    VALUE("binary without subtype", 0x05, "\0\0\0\0", BAD),
    VALUE("old binary", 0x05, "\6\0\0\0\2\2\0\0\0hi", OK),
    VALUE("old binary, empty", 0x05, "\4\0\0\0\2\0\0\0\0", OK),
    VALUE("old binary, inner length lies", 0x05, "\6\0\0\0\2\3\0\0\0hi", BAD),
    VALUE("old binary, nothing", 0x05, "\0\0\0\0\2", BAD),
    VALUE("old binary, no inner length", 0x05, "\3\0\0\0\2\0\0\0", BAD),
    VALUE("undefined", 0x06, "", OK),
    VALUE("object id", 0x07, TWELVE, OK),
    VALUE("object id, short", 0x07, "abcdefghijk", BAD),
    VALUE("false", 0x08, "\0", OK),
    VALUE("true", 0x08, "\1", OK),
    VALUE("bool, neither", 0x08, "\2", BAD),
    VALUE("bool, none", 0x08, "", BAD),
    VALUE("date", 0x09, "12345678", OK),
    VALUE("null", 0x0a, "", OK),
    VALUE("null with a value", 0x0a, "x", BAD),
    VALUE("regex", 0x0b, "a\0i\0", OK),
    VALUE("regex, empty", 0x0b, "\0\0", OK),
    VALUE("regex without options", 0x0b, "a\0", BAD),
    VALUE("regex, options take the document's NUL", 0x0b, "a\0i", BAD),
    VALUE("regex without anything", 0x0b, "", BAD),
    VALUE("pointer", 0x0c, "\2\0\0\0c\0" TWELVE, OK),
    VALUE("pointer, short", 0x0c, "\2\0\0\0c\0abcdefghijk", BAD),
    VALUE("pointer without NUL", 0x0c, "\2\0\0\0cc" TWELVE, BAD),
    VALUE("pointer, length 0", 0x0c, "\0\0\0\0" TWELVE, BAD),
    VALUE("pointer, largest", 0x0c, "\xff\xff\xff\x7f" TWELVE, BAD),
    VALUE("code", 0x0d, "\2\0\0\0f\0", OK),
    VALUE("code without NUL", 0x0d, "\2\0\0\0ff", BAD),
    VALUE("symbol", 0x0e, "\2\0\0\0s\0", OK),
    VALUE("symbol, too long", 0x0e, "\3\0\0\0s\0", BAD),
    VALUE("scope", 0x0f, "\x0f\0\0\0\2\0\0\0f\0" EMPTY, OK),
    VALUE("scope, empty code", 0x0f, "\x0e\0\0\0\1\0\0\0\0" EMPTY, OK),
    VALUE("scope, total too short", 0x0f, "\x0d\0\0\0\1\0\0\0\0" EMPTY, BAD),
    VALUE("scope, total too long", 0x0f, "\x10\0\0\0\2\0\0\0f\0" EMPTY, BAD),
    VALUE("scope, total leaves a byte", 0x0f, "\x10\0\0\0\2\0\0\0f\0" EMPTY "\0", BAD),
    VALUE("scope, code takes the scope", 0x0f, "\x0f\0\0\0\7\0\0\0f\0" EMPTY, BAD),
    VALUE("scope, code of length 0", 0x0f, "\x0f\0\0\0\0\0\0\0f\0" EMPTY, BAD),
    VALUE("scope, code negative", 0x0f, "\x0f\0\0\0\xff\xff\xff\xff" "f\0" EMPTY, BAD),
    VALUE("scope, code without NUL", 0x0f, "\x0f\0\0\0\2\0\0\0ff" EMPTY, BAD),
    VALUE("scope, document bad", 0x0f, "\x0f\0\0\0\2\0\0\0f\0\5\0\0\0\1", BAD),
    VALUE("int32", 0x10, "1234", OK),
    VALUE("int32, short", 0x10, "123", BAD),
    VALUE("timestamp", 0x11, "12345678", OK),
    VALUE("int64", 0x12, "12345678", OK),
    VALUE("int64, short", 0x12, "1234567", BAD),
    VALUE("decimal", 0x13, "0123456789abcdef", OK),
    VALUE("decimal, short", 0x13, "0123456789abcde", BAD),
    VALUE("max", 0x7f, "", OK),
    VALUE("min", 0xff, "", OK),
    VALUE("type 0", 0x00, "", BAD),
    VALUE("type 0x14", 0x14, "", BAD),
    VALUE("type 0x80", 0x80, "", BAD),
    VALUE("type 0xfe", 0xfe, "", BAD),
};
// clang-format on

static void values_of_every_type(void **state)
{
    (void)state;
    struct guard guard = guard_new(256);
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        uint8_t document[256];
        size_t len = one_element(document, values[i].type, values[i].value, values[i].len);
        struct bytes laid = {guard_lay(&guard, document, len), len};
        if (bson_check(laid) != values[i].error) {
            fail_msg("%s", values[i].what);
        }
        // The walk alone sees the element where the check does.
        struct bson_element element;
        if (values[i].error == WIRE_OK) {
            assert_true(bson_find(laid, "k", &element));
            assert_int_equal(element.type, values[i].type);
            assert_int_equal(element.value.len, values[i].len);
        }
    }
    guard_free(&guard);
}

static void documents_as_a_whole(void **state)
{
    (void)state;
    static const struct value_case cases[] = {
        VALUE("empty", 0, EMPTY, OK),
        VALUE("nothing", 0, "", BAD),
        VALUE("four bytes", 0, "\4\0\0\0", BAD),
        VALUE("too short a length", 0, "\4\0\0\0\0", BAD),
        VALUE("too long a length", 0, "\6\0\0\0\0", BAD),
        VALUE("negative", 0, "\5\0\0\x80\0", BAD),
        VALUE("no NUL", 0, "\5\0\0\0\1", BAD),
        VALUE("ends early", 0, "\6\0\0\0\0\0", BAD),
        VALUE("a type alone", 0, "\6\0\0\0\x0a\0", BAD),
        VALUE("a key without NUL of its own", 0, "\7\0\0\0\x0ak\0", BAD),
        VALUE("an empty key", 0, "\7\0\0\0\x0a\0\0", OK),
        VALUE("two elements", 0, "\x0a\0\0\0\x0ak\0\x0a\0\0", OK),
    };
    struct guard guard = guard_new(256);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const uint8_t *at = guard_lay(&guard, cases[i].value, cases[i].len);
        if (bson_check((struct bytes){at, cases[i].len}) != cases[i].error) {
            fail_msg("%s", cases[i].what);
        }
    }
    guard_free(&guard);
}

// `levels` documents in one another, made from the inside out at the end of `room`.
static struct bytes nested(uint8_t *room, size_t room_len, size_t levels, uint8_t type)
{
    uint8_t *at = room + room_len - levels + 1 - 5;
    memset(at, 0, 5 + levels - 1);
    store_i32(at, 5);
    for (size_t level = 1; level < levels; level++) {
        size_t inner = (size_t)load_i32(at);
        at -= 4 + 3;
        store_i32(at, (int32_t)(4 + 3 + inner + 1));
        memcpy(at + 4, (uint8_t[]){type, 'k', 0}, 3);
    }
    return (struct bytes){at, (size_t)load_i32(at)};
}

static void depth_has_a_bound(void **state)
{
    (void)state;
    static uint8_t room[1 << 20];
    static const uint8_t types[] = {BSON_VIEW_DOCUMENT, BSON_VIEW_ARRAY};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(bson_check(nested(room, sizeof(room), 1, types[i])), WIRE_OK);
        assert_int_equal(bson_check(nested(room, sizeof(room), 200, types[i])), WIRE_OK);
        assert_int_equal(bson_check(nested(room, sizeof(room), 201, types[i])), WIRE_TOO_DEEP);
        assert_int_equal(bson_check(nested(room, sizeof(room), 100000, types[i])), WIRE_TOO_DEEP);
    }
}

static void a_scope_is_a_level(void **state)
{
    (void)state;
    static uint8_t room[4096];
    for (size_t levels = 199; levels <= 200; levels++) {
        struct bytes inner = nested(room, sizeof(room), levels, BSON_VIEW_DOCUMENT);
        char value[4096];
        size_t len = 4 + 4 + 2 + inner.len;
        store_i32((uint8_t *)value, (int32_t)len);
        memcpy(value + 4, "\2\0\0\0f", 6);
        memcpy(value + 10, inner.at, inner.len);
        uint8_t document[8192];
        struct bytes whole = {document, one_element(document, 0x0f, value, len)};
        assert_int_equal(bson_check(whole), levels == 199 ? WIRE_OK : WIRE_TOO_DEEP);
    }
}

static void a_walk_gives_each_element_once(void **state)
{
    (void)state;
    bson_t *document = sample_document("{'a': 1, 'b': 'text', 'c': {'d': 1}}");
    struct bytes bytes = {bson_get_data(document), document->len};
    struct bson_walk walk;
    struct bson_element element;
    assert_true(bson_walk_begin(&walk, bytes));
    assert_int_equal(bson_walk_next(&walk, &element), BSON_WALK_ELEMENT);
    assert_true(bytes_equal(element.key, "a"));
    assert_int_equal(element.type, BSON_VIEW_INT32);
    assert_int_equal(bson_walk_next(&walk, &element), BSON_WALK_ELEMENT);
    struct bytes text;
    assert_true(bson_element_text(&element, &text));
    assert_true(bytes_equal(text, "text"));
    assert_int_equal(bson_walk_next(&walk, &element), BSON_WALK_ELEMENT);
    assert_int_equal(bson_check(element.value), WIRE_OK);
    assert_int_equal(bson_walk_next(&walk, &element), BSON_WALK_END);
    assert_int_equal(bson_walk_next(&walk, &element), BSON_WALK_END);
    assert_true(bytes_equal(element.key, "c"));
    bson_destroy(document);
}

static void a_key_is_found_or_not(void **state)
{
    (void)state;
    bson_t *document = sample_document("{'a': 1, 'ab': 2, 'b': 3}");
    struct bytes bytes = {bson_get_data(document), document->len};
    struct bson_element element;
    int64_t value;
    assert_true(bson_find(bytes, "ab", &element));
    assert_true(bson_element_i64(&element, &value));
    assert_int_equal(value, 2);
    assert_false(bson_find(bytes, "abc", &element));
    assert_false(bson_find((struct bytes){bytes.at, bytes.len - 1}, "a", &element));
    assert_false(bson_find((struct bytes){0}, "a", &element));
    bson_destroy(document);
}

static struct bson_element element_of(const bson_t *document, const char *key)
{
    struct bson_element element;
    assert_true(bson_find((struct bytes){bson_get_data(document), document->len}, key, &element));
    return element;
}

static void numbers_and_truths(void **state)
{
    (void)state;
    bson_t document = BSON_INITIALIZER;
    BSON_APPEND_INT32(&document, "int", -7);
    BSON_APPEND_INT64(&document, "long", INT64_C(-9000000000));
    BSON_APPEND_DOUBLE(&document, "double", -1.75);
    BSON_APPEND_DOUBLE(&document, "least", -9223372036854775808.0);
    BSON_APPEND_DOUBLE(&document, "too large", 9223372036854775808.0);
    BSON_APPEND_DOUBLE(&document, "nan", NAN);
    BSON_APPEND_DOUBLE(&document, "infinite", -INFINITY);
    BSON_APPEND_DOUBLE(&document, "minus zero", -0.0);
    BSON_APPEND_INT32(&document, "int 0", 0);
    BSON_APPEND_INT64(&document, "long 0", 0);
    BSON_APPEND_INT64(&document, "high half", INT64_C(1) << 32);
    BSON_APPEND_BOOL(&document, "yes", true);
    BSON_APPEND_BOOL(&document, "no", false);
    BSON_APPEND_UTF8(&document, "text", "1");
    static const struct {
        const char *key;
        bool is_number;
        int64_t value;
        bool truth;
    } cases[] = {
        {"int", true, -7, true},
        {"long", true, INT64_C(-9000000000), true},
        {"double", true, -1, true},
        {"least", true, INT64_MIN, true},
        {"too large", false, 0, true},
        {"nan", false, 0, true},
        {"infinite", false, 0, true},
        {"minus zero", true, 0, false},
        {"int 0", true, 0, false},
        {"long 0", true, 0, false},
        {"high half", true, INT64_C(1) << 32, true},
        {"yes", false, 0, true},
        {"no", false, 0, false},
        {"text", false, 0, false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct bson_element element = element_of(&document, cases[i].key);
        int64_t value = 0;
        assert_int_equal(bson_element_i64(&element, &value), cases[i].is_number);
        assert_int_equal(value, cases[i].value);
        assert_int_equal(bson_element_truth(&element), cases[i].truth);
    }
    bson_destroy(&document);
}

static void text_is_a_string_that_ends(void **state)
{
    (void)state;
    static const uint8_t sound[] = {3, 0, 0, 0, 'h', 'i', 0};
    static const uint8_t open[] = {3, 0, 0, 0, 'h', 'i', '!'};
    struct bson_element element = {.type = BSON_VIEW_STRING, .value = {sound, sizeof(sound)}};
    struct bytes text = {0};
    assert_true(bson_element_text(&element, &text));
    assert_true(bytes_equal(text, "hi"));
    element.value.at = open;
    assert_false(bson_element_text(&element, &text));
    element = (struct bson_element){.type = BSON_VIEW_SYMBOL, .value = {sound, sizeof(sound)}};
    assert_false(bson_element_text(&element, &text));
}

static void one_is_taken_off_the_front(void **state)
{
    (void)state;
    static const uint8_t two[] = {5, 0, 0, 0, 0, 6, 0, 0, 0, 1, 2};
    struct bytes rest = {two, sizeof(two)};
    struct bytes document = {0};
    assert_int_equal(bson_take(&rest, &document), WIRE_OK);
    assert_int_equal(document.len, 5);
    assert_int_equal(bson_take(&rest, &document), WIRE_OK);
    assert_int_equal(document.len, 6);
    assert_int_equal(rest.len, 0);
    assert_int_equal(bson_take(&rest, &document), WIRE_TRUNCATED);
    rest = (struct bytes){two, 4};
    assert_int_equal(bson_take(&rest, &document), WIRE_TRUNCATED);
    rest = (struct bytes){(const uint8_t *)"\4\0\0\0", 4};
    assert_int_equal(bson_take(&rest, &document), WIRE_BAD_BSON);
    rest = (struct bytes){(const uint8_t *)"\5\0\0\x80\0", 5};
    assert_int_equal(bson_take(&rest, &document), WIRE_BAD_BSON);
    assert_int_equal(rest.len, 5);
}

// What follows compares bson_check with libbson.

static void append_leaf(struct dice *dice, bson_t *out, const char *key)
{
    bson_oid_t oid;
    bson_oid_init_from_data(&oid, (const uint8_t *)TWELVE);
    const bson_decimal128_t decimal = {1, 2};
    switch (dice_below(dice, 19)) {
    case 0:
        BSON_APPEND_DOUBLE(out, key, 1.5);
        break;
    case 1:
        BSON_APPEND_UTF8(out, key, "some text");
        break;
    case 2:
        BSON_APPEND_BINARY(out, key, BSON_SUBTYPE_UUID, (const uint8_t *)"0123456789abcdef", 16);
        break;
    case 3:
        BSON_APPEND_BINARY(out, key, BSON_SUBTYPE_BINARY_DEPRECATED, (const uint8_t *)"abc", 3);
        break;
    case 4:
        BSON_APPEND_UNDEFINED(out, key);
        break;
    case 5:
        BSON_APPEND_OID(out, key, &oid);
        break;
    case 6:
        BSON_APPEND_BOOL(out, key, true);
        break;
    case 7:
        BSON_APPEND_DATE_TIME(out, key, 5);
        break;
    case 8:
        BSON_APPEND_NULL(out, key);
        break;
    case 9:
        BSON_APPEND_REGEX(out, key, "^a", "i");
        break;
    case 10:
        BSON_APPEND_DBPOINTER(out, key, "db.c", &oid);
        break;
    case 11:
        BSON_APPEND_CODE(out, key, "f()");
        break;
    case 12:
        BSON_APPEND_SYMBOL(out, key, "sym");
        break;
    case 13:
        BSON_APPEND_INT32(out, key, 9);
        break;
    case 14:
        BSON_APPEND_TIMESTAMP(out, key, 1, 2);
        break;
    case 15:
        BSON_APPEND_INT64(out, key, 9);
        break;
    case 16:
        BSON_APPEND_DECIMAL128(out, key, &decimal);
        break;
    case 17:
        BSON_APPEND_MINKEY(out, key);
        break;
    default:
        BSON_APPEND_MAXKEY(out, key);
        break;
    }
}

static void fill(struct dice *dice, bson_t *out, int depth, bool is_array)
{
    static const char *const keys[] = {"", "k", "key", "a longer key than that"};
    static const char *const indices[] = {"0", "1", "2", "3"};
    uint32_t count = dice_below(dice, 5);
    for (uint32_t i = 0; i < count; i++) {
        const char *key = is_array ? indices[i] : keys[dice_below(dice, 4)];
        uint32_t kind = depth < 5 ? dice_below(dice, 8) : 7;
        bson_t inner = BSON_INITIALIZER;
        if (kind < 3) {
            fill(dice, &inner, depth + 1, kind == 1);
        }
        if (kind == 0) {
            BSON_APPEND_DOCUMENT(out, key, &inner);
        } else if (kind == 1) {
            BSON_APPEND_ARRAY(out, key, &inner);
        } else if (kind == 2) {
            BSON_APPEND_CODE_WITH_SCOPE(out, key, "g()", &inner);
        } else {
            append_leaf(dice, out, key);
        }
        bson_destroy(&inner);
    }
}

// Whether libbson finds its way through to the bottom. Where libbson (1.23) is not strict, this is,
// as the specification says:
// - it lets the last key of a document end at the NUL that ends the document: the elements must end
//   one byte before;
// - it does not look whether the code of a code with scope ends in a NUL;
// - going into a document that is none fails silently: here it fails.
static bool libbson_iterates(const uint8_t *at, size_t len)
{
    bson_t document;
    bson_iter_t iter;
    if (!bson_init_static(&document, at, len) || !bson_iter_init(&iter, &document)) {
        return false;
    }
    uint32_t elements_end = 4;
    while (bson_iter_next(&iter)) {
        elements_end = iter.next_off;
        uint32_t inner_len = 0;
        const uint8_t *inner = NULL;
        if (BSON_ITER_HOLDS_DOCUMENT(&iter)) {
            bson_iter_document(&iter, &inner_len, &inner);
        } else if (BSON_ITER_HOLDS_ARRAY(&iter)) {
            bson_iter_array(&iter, &inner_len, &inner);
        } else if (BSON_ITER_HOLDS_CODEWSCOPE(&iter)) {
            uint32_t code_len;
            const char *code = bson_iter_codewscope(&iter, &code_len, &inner_len, &inner);
            if (code[code_len] != 0) {
                return false;
            }
        } else {
            continue;
        }
        if (!libbson_iterates(inner, inner_len)) {
            return false;
        }
    }
    return iter.err_off == 0 && elements_end == len - 1;
}

// bson_validate wants text to be UTF-8, whatever its flags; a server does not, nor does bson_check.
static bool is_utf8(const char *text, size_t len)
{
    return bson_utf8_validate(text, len, false);
}

static bool value_is_utf8(const bson_iter_t *iter)
{
    uint32_t len = 0;
    const char *text = "";
    const bson_oid_t *oid;
    switch (bson_iter_type(iter)) {
    case BSON_TYPE_UTF8:
        text = bson_iter_utf8(iter, &len);
        break;
    case BSON_TYPE_CODE:
        text = bson_iter_code(iter, &len);
        break;
    case BSON_TYPE_SYMBOL:
        text = bson_iter_symbol(iter, &len);
        break;
    case BSON_TYPE_DBPOINTER:
        bson_iter_dbpointer(iter, &len, &text, &oid);
        break;
    case BSON_TYPE_REGEX: {
        const char *options;
        text = bson_iter_regex(iter, &options);
        len = (uint32_t)strlen(text);
        return is_utf8(text, len) && is_utf8(options, strlen(options));
    }
    default:
        break;
    }
    return is_utf8(text, len);
}

static bool all_text_is_utf8(const uint8_t *at, size_t len)
{
    bson_t document;
    bson_iter_t iter;
    assert_true(bson_init_static(&document, at, len) && bson_iter_init(&iter, &document));
    while (bson_iter_next(&iter)) {
        uint32_t inner_len = 0;
        const uint8_t *inner = NULL;
        const char *key = bson_iter_key(&iter);
        if (!is_utf8(key, strlen(key)) || !value_is_utf8(&iter)) {
            return false;
        }
        if (BSON_ITER_HOLDS_DOCUMENT(&iter)) {
            bson_iter_document(&iter, &inner_len, &inner);
        } else if (BSON_ITER_HOLDS_ARRAY(&iter)) {
            bson_iter_array(&iter, &inner_len, &inner);
        } else if (BSON_ITER_HOLDS_CODEWSCOPE(&iter)) {
            uint32_t code_len;
            const char *code = bson_iter_codewscope(&iter, &code_len, &inner_len, &inner);
            if (!is_utf8(code, code_len)) {
                return false;
            }
        }
        if (inner && !all_text_is_utf8(inner, inner_len)) {
            return false;
        }
    }
    return true;
}

static void compare(const uint8_t *at, size_t len, size_t *sound)
{
    bool ours = bson_check((struct bytes){at, len}) == WIRE_OK;
    uint8_t *copy = exact_copy(at, len);
    assert_int_equal(bson_check((struct bytes){copy, len}) == WIRE_OK, ours);
    free(copy);
    if (ours != libbson_iterates(at, len)) {
        for (size_t i = 0; i < len; i++) {
            print_error("%02x ", at[i]);
        }
        fail_msg("bson_check says %d, libbson does not", ours);
    }
    *sound += ours;
    // bson_validate is asked in this direction only: 1.23 takes documents that are none, because it
    // skips an inner document it cannot read.
    bson_t document;
    if (ours && all_text_is_utf8(at, len)) {
        assert_true(bson_init_static(&document, at, len));
        assert_true(bson_validate(&document, BSON_VALIDATE_NONE, NULL));
    }
}

static void it_agrees_with_libbson(void **state)
{
    (void)state;
    struct guard guard = guard_new(1 << 16);
    struct dice dice = {2025};
    size_t sound = 0;
    size_t rounds = 0;
    for (int i = 0; i < 4000; i++) {
        bson_t document = BSON_INITIALIZER;
        fill(&dice, &document, 0, false);
        const uint8_t *data = bson_get_data(&document);
        assert_int_equal(bson_check((struct bytes){data, document.len}), WIRE_OK);
        for (int k = 0; k < 50 && document.len < 1 << 16; k++) {
            uint8_t *at = guard_lay(&guard, data, document.len);
            dice_damage(&dice, at, document.len);
            compare(at, document.len, &sound);
            rounds++;
        }
        bson_destroy(&document);
    }
    // Both answers must come often for the comparison to mean something.
    assert_true(sound > rounds / 20 && sound < rounds - rounds / 20);
    guard_free(&guard);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_of_every_type),
        cmocka_unit_test(documents_as_a_whole),
        cmocka_unit_test(depth_has_a_bound),
        cmocka_unit_test(a_scope_is_a_level),
        cmocka_unit_test(a_walk_gives_each_element_once),
        cmocka_unit_test(a_key_is_found_or_not),
        cmocka_unit_test(numbers_and_truths),
        cmocka_unit_test(text_is_a_string_that_ends),
        cmocka_unit_test(one_is_taken_off_the_front),
        cmocka_unit_test(it_agrees_with_libbson),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
