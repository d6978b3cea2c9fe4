// SPDX-License-Identifier: Apache-2.0
//
// A rule as people write it, in the file or by `weir ctl rule add`: fields and their texts. What is
// wrong is refused with what would be right:
//
//     namespce: unknown field, did you mean namespace?
//     deny: contradicts atOnce
//     it matches every operation; if that is meant, say all: true

#ifndef PROXY_RULE_TEXT_H
#define PROXY_RULE_TEXT_H

#include "policy/rules.h"
#include "proxy/config_option.h"
#include "proxy/rule_table.h"

#define RULE_ID(field, ...) RULE_OPTION_##field,
enum rule_option { RULE_OPTIONS(RULE_ID) RULE_OPTION_COUNT };
#undef RULE_ID

// All-zero has no field given; then the others are of no meaning.
#define RULE_FIELD(field, name, flag, type, ...) CONFIG_C_##type field;
struct rule_spec {
    RULE_OPTIONS(RULE_FIELD)
    bool given[RULE_OPTION_COUNT];
};
#undef RULE_FIELD

extern const struct option_row rule_rows[RULE_OPTION_COUNT];

enum { RULE_WORDS_BYTES = 1280, RULE_END_BYTES = 48 };

// Where a rule comes from: in the file it lasts, live it has a time.
enum rule_source { RULE_OF_FILE, RULE_LIVE };

#define RULE_LASTS_US INT64_C(900000000) // a live one that does not say how long

// Gives a field, by its name in the file, the value that text says. False, with what would be
// right, which begins with the name.
bool rule_spec_set(struct rule_spec *spec, const char *name, const char *text,
                   char ret_reason[OPTION_REASON_BYTES]);

// Whether the fields make a rule together; if not, why.
bool rule_spec_check(const struct rule_spec *spec, enum rule_source source,
                     char ret_reason[OPTION_REASON_BYTES]);

// Reads and checks one of the file's. False, with the line and the reason. The spec is the caller's
// to clear in either case.
bool rule_spec_read(struct rule_spec *spec, const struct config_entry *entry, int *ret_line,
                    char ret_reason[OPTION_REASON_BYTES]);

void rule_spec_clear(struct rule_spec *spec);

// The rule of a spec that was checked. ends_us: 0 if it has no end.
struct rule *rule_spec_build(const struct rule_spec *spec, int64_t id, const char *by,
                             int64_t ends_us);

// Writes what it matches and does: "namespace shop.orders, command find: atOnce 20".
void rule_spec_words(const struct rule_spec *spec, char ret_words[RULE_WORDS_BYTES]);

// Writes when it ends, as seen now: "ends in 12m", "without end".
void rule_end_words(const struct rule *rule, int64_t now_us, char ret_words[RULE_END_BYTES]);

#endif
