// SPDX-License-Identifier: Apache-2.0
//
// Rules: what an operator says of requests. A rule has a match, an act, and a time; of a request's
// facts the first rule that matches makes the verdict, and no other is looked at.
//
//      facts --> [ 1: dry run, only counts ] --> [ 2: no match ] --> [ 3: match ] --> verdict
//                                                                      4, 5, ... are not asked
//
// Example: "finds on shop.orders by app web.*: at most 20 at once, until 9:30".
//
// A set of rules is immutable and reference-counted: a change makes a new one, of the same rules
// and what is new. What counts (hits, those at once, the pace) lives in the rule, so that it goes
// on when the set changes. Any thread may judge; the counters are atomic.
//
// What finishes things is not refused for load, so a rule that refuses passes it over, unless it
// names the command.

#ifndef POLICY_RULES_H
#define POLICY_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/priority.h"

// A set has no more, so that going through all of them costs a request 2 us at worst (bench_rules),
// less than the rest of its way through weir.
#define RULES_MAX 256

// Borrowed text; not terminated.
struct rule_text {
    const char *at;
    size_t len;
};

enum rule_kind { RULE_ANY_KIND, RULE_READS, RULE_WRITES };

// All that is given must be so; all-zero matches everything.
struct rule_match {
    const char *database;   // NULL: any
    const char *collection; // of that database; NULL: any, and what is about no collection
    const char *command;    // NULL: any. Letters of either case
    const char *app;        // NULL: any. One that ends in * is the beginning of a name
    const char *user;       // likewise
    const char *comment;    // likewise, of the request's field `comment`
    const uint8_t *address; // 16 bytes, IPv4 mapped; NULL: any
    int address_bits;       // how many of them must be so
    bool has_shape;
    uint64_t shape;
    enum rule_kind kind;
};

// All-zero does nothing. A rule that denies does nothing else.
struct rule_act {
    bool deny;
    int per_second;          // 0: any number
    int at_once;             // 0: any number
    int64_t max_time_ms;     // an upper bound for maxTimeMS, also for who has none; 0: none
    int64_t default_time_ms; // for who has none; 0: none
    bool slow;               // belongs to the slow lane
    enum priority priority;
    int64_t kill_after_us; // 0: never
};

struct rule;

// The texts are copied. A rule with ends_us 0 has no end. One reference.
struct rule *rule_new(int64_t id, const struct rule_match *match, const struct rule_act *act,
                      int64_t ends_us, bool dry_run);
struct rule *rule_keep(struct rule *rule);
void rule_drop(struct rule *rule); // NULL is allowed

// Text that is the rule's, for people: who says so, why, what it is in words. Never NULL.
void rule_set_note(struct rule *rule, const char *by, const char *why, const char *words);
const char *rule_by(const struct rule *rule);
const char *rule_why(const struct rule *rule);
const char *rule_words(const struct rule *rule);

int64_t rule_id(const struct rule *rule);
int64_t rule_ends_us(const struct rule *rule);
bool rule_is_dry_run(const struct rule *rule);

struct rule_counts {
    uint64_t hits;    // requests that it was the first to match
    uint64_t refused; // of these
    int at_once;      // under way, if it bounds them
};
void rule_count(const struct rule *rule, struct rule_counts *ret_counts);

// --- a set --------------------------------------------------------------------------------------

// What holds of every request beside what its rule says; the smaller counts. 0: nothing.
struct rule_bounds {
    int64_t max_time_ms;
    int64_t kill_after_us; // also of those under way
};

struct rules;

// Keeps each rule; there are RULES_MAX at most. One reference.
struct rules *rules_new(struct rule *const *items, size_t count, const struct rule_bounds *bounds);
struct rules *rules_keep(struct rules *rules);
void rules_drop(struct rules *rules); // NULL is allowed

// The rule at a place from 0 on, in the order in which they are asked; NULL after the last.
// Borrows.
const struct rule *rules_at(const struct rules *rules, size_t place);

// Whether it does nothing to anybody.
bool rules_are_empty(const struct rules *rules);

// The caller sees to kill_after_us, which no verdict has.
const struct rule_bounds *rules_bounds(const struct rules *rules);

// What must be known of a request only if a rule asks for it, because it costs something.
bool rules_want_shape(const struct rules *rules);
bool rules_want_address(const struct rules *rules);

struct rule_facts {
    struct rule_text database;
    struct rule_text collection; // empty: none
    struct rule_text command;
    struct rule_text app;
    struct rule_text user;    // empty: nobody has logged in
    struct rule_text comment; // empty: none, or no text
    const uint8_t *address;   // 16 bytes; NULL: none
    uint64_t shape;
    bool writes;
    bool finishes;
};

enum rule_answer {
    RULE_PASSES,
    RULE_DENIES,
    RULE_THROTTLES, // not now
};

// All-zero: passes, and nothing is said of it.
struct rule_verdict {
    enum rule_answer answer;
    struct rule *rule;       // that matched, kept until rule_verdict_end; NULL: none
    bool counted;            // among those at once
    int64_t retry_us;        // throttled: when there is room at that pace; 0: not known
    int64_t max_time_ms;     // 0: none
    int64_t default_time_ms; // likewise; not more than max_time_ms
    int64_t kill_after_us;   // likewise
    bool slow;
    enum priority priority;
};

void rules_judge(struct rules *rules, const struct rule_facts *facts, int64_t now_us,
                 struct rule_verdict *ret_verdict);

// The request has ended. All-zero afterwards.
void rule_verdict_end(struct rule_verdict *verdict);

#endif
