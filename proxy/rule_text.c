// SPDX-License-Identifier: Apache-2.0

#include "proxy/rule_text.h"

#include <ctype.h>
#include <stddef.h>
#include <string.h>

#include "proxy/config_loader.h"
#include "proxy/ip.h"
#include "proxy/mem.h"
#include "wire/command_table.h"

#define ROW(field, name, flag, type, ...)                                                          \
    {name, flag, OPTION_##type, offsetof(struct rule_spec, field), __VA_ARGS__},
const struct option_row rule_rows[RULE_OPTION_COUNT] = {RULE_OPTIONS(ROW)};
#undef ROW

enum { NAMESPACE_BYTES = 256 };

// --- single fields ------------------------------------------------------------------------------

// It goes into lines of the log and error replies. Whether it is UTF-8 is known of what comes as
// YAML or JSON.
static bool check_printable(const char *text, char *reason)
{
    for (const char *c = text; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ' || *c == '\x7f') {
            return option_refuse(reason, "must not have control characters");
        }
    }
    return true;
}

static bool check_namespace(const char *text, char *reason)
{
    const char *dot = strchr(text, '.');
    const char *star = strchr(text, '*');
    if (!dot || dot == text || dot[1] == '\0') {
        return option_refuse(reason, "must be database.collection or database.*");
    }
    return !star || (star > dot && star[1] == '\0') ||
           option_refuse(reason, "a * may only be the end of a collection's name");
}

static void guess_command(struct guess *guess, const char *typed)
{
    guess_init(guess, typed);
    for (int i = 1; i < COMMAND_COUNT; i++) {
        guess_try(guess, command_at(i)->name);
    }
}

static bool check_command(const char *text, char *reason)
{
    struct bytes name = {(const uint8_t *)text, strlen(text)};
    const struct command_info *info = command_lookup(name);
    if (info->index == 0) {
        struct guess guess;
        guess_command(&guess, text);
        return guess.match[0] != '\0'
                   ? option_refuse(reason, "unknown, did you mean %s?", guess.match)
                   : option_refuse(reason, "unknown command");
    }
    return !(info->traits & COMMAND_LOCAL) ||
           option_refuse(reason, "weir answers that itself: no rule is asked");
}

static bool check_shape(const char *text, char *reason)
{
    size_t digits = strspn(text, "0123456789abcdefABCDEF");
    return (digits == 16 && text[16] == '\0') ||
           option_refuse(reason, "must be 16 hexadecimal digits, a shape_id of the log");
}

static bool check_beginning(const char *text, char *reason)
{
    const char *star = strchr(text, '*');
    return !star || (star > text && star[1] == '\0') ||
           option_refuse(reason, "must be all of it, or its beginning and a *");
}

static bool check_client(const char *text, char *reason)
{
    uint8_t address[IP_BYTES];
    int bits;
    return ip_read_net(text, address, &bits) ||
           option_refuse(reason,
                         "must be an address or a net such as 10.1.0.0/16, whose host bits are 0");
}

static bool check_field(enum rule_option option, const char *text, char *reason)
{
    switch (option) {
    case RULE_OPTION_namespace:
        return check_namespace(text, reason);
    case RULE_OPTION_command:
        return check_command(text, reason);
    case RULE_OPTION_shape:
        return check_shape(text, reason);
    case RULE_OPTION_app:
    case RULE_OPTION_user:
    case RULE_OPTION_comment:
        return check_beginning(text, reason);
    case RULE_OPTION_client:
        return check_client(text, reason);
    default:
        return true;
    }
}

static bool refuse_unknown(const char *name, char *reason)
{
    struct guess guess;
    guess_init(&guess, name);
    for (int i = 0; i < RULE_OPTION_COUNT; i++) {
        guess_try(&guess, rule_rows[i].name);
    }
    if (guess.match[0] == '\0') {
        return option_refuse(reason, "%.60s: unknown field of a rule", name);
    }
    return option_refuse(reason, "%.60s: unknown field, did you mean %s?", name, guess.match);
}

bool rule_spec_set(struct rule_spec *spec, const char *name, const char *text,
                   char ret_reason[OPTION_REASON_BYTES])
{
    char reason[OPTION_REASON_BYTES];
    int option = 0;
    while (option < RULE_OPTION_COUNT && strcmp(rule_rows[option].name, name) != 0) {
        option++;
    }
    if (option == RULE_OPTION_COUNT) {
        return refuse_unknown(name, ret_reason);
    }
    if (spec->given[option]) {
        return option_refuse(ret_reason, "%s: given twice", name);
    }
    if (!check_printable(text, reason) || !option_set(&rule_rows[option], spec, text, reason) ||
        !check_field((enum rule_option)option, text, reason)) {
        return option_refuse(ret_reason, "%s: %.100s", name, reason);
    }
    // What is said not to be so is not said.
    bool off = rule_rows[option].type == OPTION_BOOL && strcmp(text, "false") == 0;
    spec->given[option] = !off;
    return true;
}

// --- all together -------------------------------------------------------------------------------

enum {
    FIRST_ACT = RULE_OPTION_deny,
    FIRST_NOTE = RULE_OPTION_dry_run,
};

// The first field given from `begin` on before `end`; `end` if there is none.
static int first_given(const struct rule_spec *spec, int begin, int end)
{
    while (begin < end && !spec->given[begin]) {
        begin++;
    }
    return begin;
}

static bool check_match(const struct rule_spec *spec, char *reason)
{
    int match = first_given(spec, 0, RULE_OPTION_all);
    bool all = spec->given[RULE_OPTION_all];
    if (all && match < RULE_OPTION_all) {
        return option_refuse(reason, "all: contradicts %s", rule_rows[match].name);
    }
    return all || match < RULE_OPTION_all ||
           option_refuse(reason, "it matches every operation; if that is meant, say all: true");
}

static bool check_act(const struct rule_spec *spec, char *reason)
{
    int act = first_given(spec, FIRST_ACT, FIRST_NOTE);
    if (act == FIRST_NOTE) {
        return option_refuse(reason,
                             "it has no effect: needs one of deny, perSecond, atOnce, maxTime, "
                             "defaultTime, priority, lane, killAfter");
    }
    int other = first_given(spec, FIRST_ACT + 1, FIRST_NOTE);
    if (spec->given[RULE_OPTION_deny] && other < FIRST_NOTE) {
        return option_refuse(reason, "deny: contradicts %s", rule_rows[other].name);
    }
    return !spec->given[RULE_OPTION_default_time_us] || !spec->given[RULE_OPTION_max_time_us] ||
           spec->default_time_us <= spec->max_time_us ||
           option_refuse(reason, "defaultTime: contradicts maxTime, which is less");
}

bool rule_spec_check(const struct rule_spec *spec, enum rule_source source,
                     char ret_reason[OPTION_REASON_BYTES])
{
    if (source == RULE_OF_FILE && spec->given[RULE_OPTION_for_us]) {
        return option_refuse(ret_reason,
                             "for: a rule of the file lasts until it is taken out of it; "
                             "weir ctl rule add makes one that ends");
    }
    if (source == RULE_OF_FILE && spec->given[RULE_OPTION_last]) {
        return option_refuse(ret_reason, "last: the order in the file is as written");
    }
    return check_match(spec, ret_reason) && check_act(spec, ret_reason);
}

bool rule_spec_read(struct rule_spec *spec, const struct config_entry *entry, int *ret_line,
                    char ret_reason[OPTION_REASON_BYTES])
{
    for (size_t i = 0; i < entry->count; i++) {
        const struct config_field *field = &entry->fields[i];
        *ret_line = field->line;
        if (!rule_spec_set(spec, field->name, field->value, ret_reason)) {
            return false;
        }
    }
    *ret_line = entry->line;
    return rule_spec_check(spec, RULE_OF_FILE, ret_reason);
}

void rule_spec_clear(struct rule_spec *spec)
{
    for (int i = 0; i < RULE_OPTION_COUNT; i++) {
        option_clear(&rule_rows[i], spec);
    }
    *spec = (struct rule_spec){0};
}

// --- a rule -------------------------------------------------------------------------------------

// Times of maxTimeMS are in whole milliseconds; what is not 0 stays so, by the table's least value.
static int64_t ms_of(int64_t us)
{
    return us / 1000;
}

struct rule *rule_spec_build(const struct rule_spec *spec, int64_t id, const char *by,
                             int64_t ends_us)
{
    struct rule_match match = {
        .command = spec->command,
        .app = spec->app,
        .user = spec->user,
        .comment = spec->comment,
    };
    char database[NAMESPACE_BYTES] = "";
    uint8_t address[IP_BYTES];
    if (spec->namespace) {
        size_t length = strcspn(spec->namespace, ".");
        const char *collection = spec->namespace + length + 1;
        memcpy(database, spec->namespace, length);
        match.database = database;
        match.collection = strcmp(collection, "*") == 0 ? NULL : collection;
    }
    if (spec->client && ip_read_net(spec->client, address, &match.address_bits)) {
        match.address = address;
    }
    if (spec->shape) {
        match.has_shape = true;
        match.shape = strtoull(spec->shape, NULL, 16);
    }
    if (spec->given[RULE_OPTION_kind]) {
        match.kind = spec->kind == 0 ? RULE_READS : RULE_WRITES;
    }
    struct rule_act act = {
        .deny = spec->deny,
        .per_second = spec->per_second,
        .at_once = spec->at_once,
        .max_time_ms = ms_of(spec->max_time_us),
        .default_time_ms = ms_of(spec->default_time_us),
        .priority = (enum priority)spec->priority,
        .slow = spec->given[RULE_OPTION_lane],
        .kill_after_us = spec->kill_after_us,
    };
    char words[RULE_WORDS_BYTES];
    struct rule *rule = rule_new(id, &match, &act, ends_us, spec->dry_run);
    rule_spec_words(spec, words);
    rule_set_note(rule, spec->by ? spec->by : by, spec->why ? spec->why : "", words);
    return rule;
}

static void append_words(const struct rule_spec *spec, int begin, int end, char *words,
                         size_t *used)
{
    const char *comma = "";
    for (int i = first_given(spec, begin, end); i < end; i = first_given(spec, i + 1, end)) {
        char value[NAMESPACE_BYTES] = "";
        bool is_switch = rule_rows[i].type == OPTION_BOOL;
        if (!is_switch) {
            option_show(&rule_rows[i], spec, value, sizeof value);
        }
        *used += (size_t)snprintf(words + *used, RULE_WORDS_BYTES - *used, "%s%s%s%s", comma,
                                  rule_rows[i].name, is_switch ? "" : " ", value);
        comma = ", ";
    }
}

// There is room for all fields at their longest.
void rule_spec_words(const struct rule_spec *spec, char ret_words[RULE_WORDS_BYTES])
{
    size_t used = 0;
    append_words(spec, 0, FIRST_ACT, ret_words, &used);
    used += (size_t)snprintf(ret_words + used, RULE_WORDS_BYTES - used, ": ");
    append_words(spec, FIRST_ACT, FIRST_NOTE, ret_words, &used);
}

void rule_end_words(const struct rule *rule, int64_t now_us, char ret_words[RULE_END_BYTES])
{
    int64_t seconds = (rule_ends_us(rule) - now_us + 999999) / 1000000;
    if (rule_ends_us(rule) == 0) {
        snprintf(ret_words, RULE_END_BYTES, "without end");
    } else if (seconds < 120) {
        snprintf(ret_words, RULE_END_BYTES, "ends in %llds",
                 (long long)(seconds > 0 ? seconds : 0));
    } else if (seconds < 7200) {
        snprintf(ret_words, RULE_END_BYTES, "ends in %lldm", (long long)(seconds + 59) / 60);
    } else {
        snprintf(ret_words, RULE_END_BYTES, "ends in %lldh", (long long)seconds / 3600);
    }
}
