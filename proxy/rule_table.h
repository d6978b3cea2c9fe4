// SPDX-License-Identifier: Apache-2.0
//
// Every field of a rule, once. From this table come struct rule_spec, the mappings under `rules:`
// in the YAML file, the flags of `weir ctl rule add` and their help, and the reference page. The
// columns are those of config_table.h; a field has no default but "not given".

#ifndef PROXY_RULE_TABLE_H
#define PROXY_RULE_TABLE_H

// clang-format off
// What a rule matches: all that is given must be so.
#define RULE_MATCH_OPTIONS(OPTION)                                                                 \
    OPTION(namespace, "namespace", "namespace", STRING, NULL, "1", "255", "DB.COLLECTION", true,   \
        "Operations on that collection; db.* are all of a database, db.ord* those whose name "     \
        "begins so.")                                                                              \
    OPTION(command, "command", "command", STRING, NULL, "1", "64", "NAME", true,                   \
        "That command: find, aggregate, update, getMore, ...")                                     \
    OPTION(shape, "shape", "shape", STRING, NULL, "16", "16", "ID", true,                          \
        "Operations of that shape, by its shape_id in the log's lines.")                           \
    OPTION(app, "app", "app", STRING, NULL, "1", "47", "NAME", true,                               \
        "Of the app of that name, as its URI's appName says; web.* are those that begin so.")      \
    OPTION(user, "user", "user", STRING, NULL, "1", "128", "NAME", true,                           \
        "Of the user of that name, as whom the app has logged in at weir; team_* are those that "  \
        "begin so.")                                                                               \
    OPTION(comment, "comment", "comment", STRING, NULL, "1", "128", "TEXT", true,                  \
        "With that text as their field comment, which drivers let an app say of each operation; "  \
        "report:* are those that begin so.")                                                       \
    OPTION(client, "client", "client", STRING, NULL, "1", "64", "ADDRESS[/BITS]", true,            \
        "From that address or net: 10.1.2.3, 10.1.0.0/16, fd00::/8.")                              \
    OPTION(kind, "kind", "kind", ENUM, NULL, "", "", "read|write", true,                           \
        "What reads, or what may write.")                                                          \
    OPTION(all, "all", "all", BOOL, NULL, "", "", "true|false", true,                              \
        "Every operation. For a rule that names nothing else, so that none matches everything by " \
        "accident.")

// What it does to them.
#define RULE_ACT_OPTIONS(OPTION)                                                                   \
    OPTION(deny, "deny", "deny", BOOL, NULL, "", "", "true|false", true,                           \
        "They are refused: by a rule that ends, as overload that is not retried (462); by one of " \
        "the file, for good (411).")                                                               \
    OPTION(per_second, "perSecond", "per-second", INT, NULL, "1", "1000000", "N", true,            \
        "At most so many a second pass; the others are refused as overload (462), which drivers "  \
        "retry later.")                                                                            \
    OPTION(at_once, "atOnce", "at-once", INT, NULL, "1", "1000000", "N", true,                     \
        "At most so many are under way at one time; the others are refused likewise.")             \
    OPTION(max_time_us, "maxTime", "max-time", DURATION, NULL, "1ms", "24h", "TIME", true,         \
        "The most that their maxTimeMS may be; those without one get this.")                       \
    OPTION(default_time_us, "defaultTime", "default-time", DURATION, NULL, "1ms", "24h", "TIME",   \
        true, "The maxTimeMS of those that have none.")                                            \
    OPTION(priority, "priority", "priority", ENUM, NULL, "", "", "normal|high|low", true,          \
        "Which of those that wait go first. normal spares them what later rules say.")             \
    OPTION(lane, "lane", "lane", ENUM, NULL, "", "", "slow", true,                                 \
        "They share admission.slowShare with what is known to be slow.")                           \
    OPTION(kill_after_us, "killAfter", "kill-after", DURATION, NULL, "10ms", "24h", "TIME", true,  \
        "What has run for so long is killed.")

// What else is said of it.
#define RULE_NOTE_OPTIONS(OPTION)                                                                  \
    OPTION(dry_run, "dryRun", "dry-run", BOOL, NULL, "", "", "true|false", true,                   \
        "Only counts what it matches; the next rules are asked as if it were not there.")          \
    OPTION(why, "why", "why", STRING, NULL, "1", "120", "TEXT", true,                              \
        "Why, for colleagues, and for the apps: error messages have it.")                          \
    OPTION(by, "by", "by", STRING, NULL, "1", "60", "NAME", true,                                  \
        "Who says so.")                                                                            \
    OPTION(for_us, "for", "for", DURATION, NULL, "1s", "720h", "TIME", true,                       \
        "How long. Not in the file, whose rules last until they are taken out of it.")             \
    OPTION(last, "last", "last", BOOL, NULL, "", "", "true|false", true,                           \
        "After all others. Not in the file, where the order is as written.")

#define RULE_OPTIONS(OPTION)                                                                       \
    RULE_MATCH_OPTIONS(OPTION) RULE_ACT_OPTIONS(OPTION) RULE_NOTE_OPTIONS(OPTION)
// clang-format on

#endif
