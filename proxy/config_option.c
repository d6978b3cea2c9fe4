// SPDX-License-Identifier: Apache-2.0
//
// The table as rows, and for each type how text becomes a value and a value text. Whatever
// option_show writes, option_set reads back as the same value (but a URI, which is masked).

#include "proxy/config_option.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "proxy/mem.h"

#define ROW(field, name, flag, type, ...)                                                          \
    {name, flag, OPTION_##type, offsetof(struct config, field), __VA_ARGS__},
const struct option_row option_rows[CONFIG_OPTION_COUNT] = {CONFIG_OPTIONS(ROW)};
#undef ROW

struct unit {
    const char *name;
    int64_t factor;
};

// The largest first, so that the first that divides a value shows it shortest.
static const struct unit time_units[] = {
    {"h", 3600000000}, {"m", 60000000}, {"s", 1000000}, {"ms", 1000}, {NULL, 0},
};
static const struct unit byte_units[] = {
    {"GB", 1 << 30}, {"MB", 1 << 20}, {"KB", 1 << 10}, {"B", 1}, {NULL, 0},
};
static const struct unit no_units[] = {{"", 1}, {NULL, 0}};

static const struct unit *units_of(const struct option_row *row)
{
    return row->type == OPTION_DURATION ? time_units
           : row->type == OPTION_BYTES  ? byte_units
                                        : no_units;
}

static void *field_of(const struct option_row *row, void *values)
{
    return (char *)values + row->offset;
}

static const void *field_in(const struct option_row *row, const void *values)
{
    return (const char *)values + row->offset;
}

bool option_refuse(char ret_reason[OPTION_REASON_BYTES], const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(ret_reason, OPTION_REASON_BYTES, format, arguments);
    va_end(arguments);
    return false;
}

static bool refuse_range(const struct option_row *row, char *ret_reason)
{
    return option_refuse(ret_reason, "must be %s to %s", row->least, row->most);
}

static bool check_length(const struct option_row *row, const char *text, char *ret_reason)
{
    if (text[0] == '\0') {
        return option_refuse(ret_reason, "must not be empty");
    }
    if (strlen(text) > strtoul(row->most, NULL, 10)) {
        return option_refuse(ret_reason, "must be at most %s bytes long", row->most);
    }
    return true;
}

static bool set_string(const struct option_row *row, const char *text, void *field, char *reason)
{
    if (!check_length(row, text, reason)) {
        return false;
    }
    char **string = (char **)field;
    free(*string);
    *string = xstrdup(text);
    return true;
}

static bool set_uri(const struct option_row *row, const char *text, void *field, char *reason)
{
    if (strncmp(text, "mongodb://", 10) != 0 && strncmp(text, "mongodb+srv://", 14) != 0) {
        return option_refuse(reason, "must begin with mongodb:// or mongodb+srv://");
    }
    return set_string(row, text, field, reason);
}

static void list_clear(struct config_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i]);
    }
    free(list->items);
    *list = (struct config_list){0};
}

static void list_add(struct config_list *list, const char *item, size_t length)
{
    char *copy = (char *)xcalloc(length + 1, 1);
    memcpy(copy, item, length);
    list->items = (char **)xrealloc(list->items, (list->count + 1) * sizeof *list->items);
    list->items[list->count++] = copy;
}

static bool set_list(const struct option_row *row, const char *text, void *field, char *reason)
{
    if (!check_length(row, text, reason)) {
        return false;
    }
    struct config_list list = {0};
    for (const char *item = text; item != NULL;) {
        item += strspn(item, " ");
        size_t length = strcspn(item, " ,");
        const char *rest = item + length + strspn(item + length, " ");
        if (length == 0 || (*rest != ',' && *rest != '\0')) {
            list_clear(&list);
            return option_refuse(reason, "must be a list such as a,b");
        }
        list_add(&list, item, length);
        item = *rest == ',' ? rest + 1 : NULL;
    }
    list_clear((struct config_list *)field);
    *(struct config_list *)field = list;
    return true;
}

// Reads digits and one of the units; only 0 needs none. What does not fit is INT64_MAX, which no
// setting allows.
static bool read_number(const struct unit *units, const char *text, int64_t *ret_number)
{
    if (!isdigit((unsigned char)text[0])) {
        return false;
    }
    char *end;
    errno = 0;
    int64_t number = strtoll(text, &end, 10);
    for (const struct unit *unit = units; unit->name != NULL; unit++) {
        bool bare_zero = number == 0 && *end == '\0';
        if (strcmp(end, unit->name) != 0 && !bare_zero) {
            continue;
        }
        bool fits = errno == 0 && number <= INT64_MAX / unit->factor;
        *ret_number = fits ? number * unit->factor : INT64_MAX;
        return true;
    }
    return false;
}

static void show_number(const struct unit *units, int64_t number, char *ret_text, size_t size)
{
    const struct unit *unit = units;
    while (number % unit->factor != 0) {
        unit++;
    }
    snprintf(ret_text, size, "%" PRId64 "%s", number / unit->factor, number == 0 ? "" : unit->name);
}

static bool number_in_range(const struct option_row *row, const char *text, int64_t *ret_number,
                            char *reason)
{
    const struct unit *units = units_of(row);
    int64_t number, least = 0, most = 0;
    bool read = read_number(units, text, &number);
    if (!read && row->type == OPTION_DURATION) {
        return option_refuse(reason, "must be a time such as 100ms, 10s, 5m or 1h");
    }
    if (!read && row->type == OPTION_BYTES) {
        return option_refuse(reason, "must be a size such as 64MB or 1GB");
    }
    read_number(units, row->least, &least);
    read_number(units, row->most, &most);
    if (!read || number < least || number > most) {
        return refuse_range(row, reason);
    }
    *ret_number = number;
    return true;
}

static bool set_int(const struct option_row *row, const char *text, void *field, char *reason)
{
    int64_t number = 0;
    if (!number_in_range(row, text, &number, reason)) {
        return false;
    }
    *(int *)field = (int)number;
    return true;
}

static bool set_int64(const struct option_row *row, const char *text, void *field, char *reason)
{
    return number_in_range(row, text, (int64_t *)field, reason);
}

static bool set_bool(const struct option_row *row, const char *text, void *field, char *reason)
{
    (void)row;
    bool yes = strcmp(text, "true") == 0;
    if (!yes && strcmp(text, "false") != 0) {
        return option_refuse(reason, "must be true or false");
    }
    *(bool *)field = yes;
    return true;
}

static bool set_fraction(const struct option_row *row, const char *text, void *field, char *reason)
{
    char *end;
    double fraction = strtod(text, &end);
    bool decimal = text[0] != '\0' && text[strspn(text, "0123456789.")] == '\0' && *end == '\0';
    if (!decimal || fraction < strtod(row->least, NULL) || fraction > strtod(row->most, NULL)) {
        return refuse_range(row, reason);
    }
    *(double *)field = fraction;
    return true;
}

static bool set_enum(const struct option_row *row, const char *text, void *field, char *reason)
{
    const char *choice = row->value;
    for (int place = 0; *choice != '\0'; place++) {
        size_t length = strcspn(choice, "|");
        if (strlen(text) == length && strncmp(text, choice, length) == 0) {
            *(int *)field = place;
            return true;
        }
        choice += length + (choice[length] == '|');
    }
    return option_refuse(reason, "must be %s", row->value);
}

static const char *choice_at(const char *choices, int place)
{
    for (; place > 0; place--) {
        choices += strcspn(choices, "|") + 1;
    }
    return choices;
}

bool option_set(const struct option_row *row, void *values, const char *text,
                char ret_reason[OPTION_REASON_BYTES])
{
    static bool (*const set[])(const struct option_row *, const char *, void *, char *) = {
        [OPTION_STRING] = set_string,  [OPTION_URI] = set_uri,     [OPTION_URL] = set_string,
        [OPTION_LIST] = set_list,      [OPTION_INT] = set_int,     [OPTION_BOOL] = set_bool,
        [OPTION_DURATION] = set_int64, [OPTION_BYTES] = set_int64, [OPTION_FRACTION] = set_fraction,
        [OPTION_ENUM] = set_enum,
    };
    return set[row->type](row, text, field_of(row, values), ret_reason);
}

static bool is_text(const struct option_row *row)
{
    return row->type == OPTION_STRING || row->type == OPTION_URI || row->type == OPTION_URL;
}

void option_clear(const struct option_row *row, void *values)
{
    if (row->type == OPTION_LIST) {
        list_clear((struct config_list *)field_of(row, values));
    }
    if (is_text(row)) {
        free(*(char **)field_of(row, values));
    }
}

static size_t bytes_of(const struct option_row *row)
{
    static const size_t bytes[] = {
        [OPTION_STRING] = sizeof(char *),
        [OPTION_URI] = sizeof(char *),
        [OPTION_LIST] = sizeof(struct config_list),
        [OPTION_INT] = sizeof(int),
        [OPTION_BOOL] = sizeof(bool),
        [OPTION_DURATION] = sizeof(int64_t),
        [OPTION_BYTES] = sizeof(int64_t),
        [OPTION_FRACTION] = sizeof(double),
        [OPTION_ENUM] = sizeof(int),
    };
    return bytes[row->type];
}

static bool texts_are_same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool lists_are_same(const struct config_list *a, const struct config_list *b)
{
    for (size_t i = 0; i < a->count && a->count == b->count; i++) {
        if (strcmp(a->items[i], b->items[i]) != 0) {
            return false;
        }
    }
    return a->count == b->count;
}

bool option_is_same(const struct option_row *row, const void *a, const void *b)
{
    const void *one = field_in(row, a);
    const void *other = field_in(row, b);
    if (row->type == OPTION_LIST) {
        return lists_are_same(one, other);
    }
    return is_text(row) ? texts_are_same(*(char *const *)one, *(char *const *)other)
                        : memcmp(one, other, bytes_of(row)) == 0;
}

static void list_copy(struct config_list *list, const struct config_list *other)
{
    list->count = other->count;
    list->items = xcalloc(other->count + 1, sizeof *list->items);
    for (size_t i = 0; i < other->count; i++) {
        list->items[i] = xstrdup(other->items[i]);
    }
}

void option_copy(const struct option_row *row, void *values, const void *others)
{
    void *field = field_of(row, values);
    const void *other = field_in(row, others);
    option_clear(row, values);
    if (row->type == OPTION_LIST) {
        list_copy(field, other);
    } else if (is_text(row)) {
        const char *text = *(char *const *)other;
        *(char **)field = text ? xstrdup(text) : NULL;
    } else {
        memcpy(field, other, bytes_of(row));
    }
}

bool option_has_value(const struct option_row *row, const void *values)
{
    const void *field = field_in(row, values);
    if (row->type == OPTION_LIST) {
        return ((const struct config_list *)field)->count > 0;
    }
    return !is_text(row) || *(char *const *)field != NULL;
}

static void show_list(const struct config_list *list, char *ret_text, size_t size)
{
    size_t used = 0;
    ret_text[0] = '\0';
    for (size_t i = 0; i < list->count && used < size; i++) {
        used += (size_t)snprintf(ret_text + used, size - used, "%s%s", i > 0 ? "," : "",
                                 list->items[i]);
    }
}

void option_show(const struct option_row *row, const void *values, char *ret_text, size_t size)
{
    const void *field = field_in(row, values);
    switch (row->type) {
    case OPTION_STRING:
        snprintf(ret_text, size, "%s", *(char *const *)field);
        break;
    case OPTION_URI:
        config_mask_uri(*(char *const *)field, ret_text, size);
        break;
    case OPTION_URL:
        config_mask_url(*(char *const *)field, ret_text, size);
        break;
    case OPTION_LIST:
        show_list((const struct config_list *)field, ret_text, size);
        break;
    case OPTION_INT:
        show_number(no_units, *(const int *)field, ret_text, size);
        break;
    case OPTION_BOOL:
        snprintf(ret_text, size, "%s", *(const bool *)field ? "true" : "false");
        break;
    case OPTION_DURATION:
    case OPTION_BYTES:
        show_number(units_of(row), *(const int64_t *)field, ret_text, size);
        break;
    case OPTION_FRACTION:
        snprintf(ret_text, size, "%.15g", *(const double *)field);
        break;
    case OPTION_ENUM: {
        const char *choice = choice_at(row->value, *(const int *)field);
        snprintf(ret_text, size, "%.*s", (int)strcspn(choice, "|"), choice);
        break;
    }
    }
}

void option_variable(const char *flag, char ret_name[OPTION_NAME_BYTES])
{
    snprintf(ret_name, OPTION_NAME_BYTES, "WEIR_%s", flag);
    for (char *c = ret_name; *c != '\0'; c++) {
        *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
    }
}
