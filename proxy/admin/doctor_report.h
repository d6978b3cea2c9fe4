// SPDX-License-Identifier: Apache-2.0
//
// What weir doctor found, and how it is printed. The table of checks is also docs/doctor.md.

#ifndef PROXY_ADMIN_DOCTOR_REPORT_H
#define PROXY_ADMIN_DOCTOR_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

// clang-format off
//   CHECK  name, what is looked at, what it takes to see it, when it warns and when it is critical
#define DOCTOR_CHECKS(CHECK)                                                                       \
    CHECK(servers, "Which servers there are, and whether there is a primary.", "hello",            \
        "Warning: a server does not answer. Critical: none takes writes, or "       \
        "the URI's user is not let in.")                         \
    CHECK(connections, "Connections open against what a server takes, the tier, how often new "    \
        "ones are made, how many were refused. (The peak is nothing that a server tells: only "    \
        "now.)", "serverStatus (clusterMonitor)",                                                  \
        "Warning: from 80 % on, more than 5 new ones a second, any refused. Critical: from 95 % "  \
        "on.")                                                                                     \
    CHECK(operations, "Operations that have run for 5 s or longer, with their plans.",             \
        "$currentOp (inprog; without it one's own only)",                                          \
        "Warning: there is one. Critical: one scans a collection.")                                \
    CHECK(plans, "Whether an index serves each kind of query: those that a running weir has "      \
        "seen (--weir), that the profiler has recorded, or that run for too long now. By "         \
        "equality, sort, range.", "listIndexes, explain (read); system.profile",                   \
        "Warning: none does. Critical: none does, and it scans the collection.")                   \
    CHECK(indexes, "Indexes that nobody uses on any server that was asked, or that another one "   \
        "makes superfluous.", "listIndexes, $indexStats (clusterMonitor)",                         \
        "Note: unused for at least a week of the servers' memory, superfluous.")                   \
    CHECK(cursors, "Cursors that are open, without a timeout, or idle for long.",                  \
        "serverStatus, $currentOp",                                                                \
        "Warning: one without a timeout, one idle for 5 minutes, more than 1000 open.")            \
    CHECK(transactions, "Transactions that are open and idle.", "serverStatus, $currentOp",        \
        "Warning: idle for 5 s.")                                                                  \
    CHECK(replication, "How far each secondary is behind the primary.", "replSetGetStatus "        \
        "(clusterMonitor)", "Warning: more than 1 s, or a member is down. Critical: more than "    \
        "10 s, or there is no primary.")                                                           \
    CHECK(profiler, "Whether slow queries are recorded, from which time on, and whether "          \
        "recording costs too much.", "profile (dbAdmin)",                                          \
        "Warning: everything is recorded (level 2). Note: off, or a threshold above 1 s.")         \
    CHECK(tls, "Whether the way there is encrypted, and when the server's certificate expires.",   \
        "serverStatus", "Warning: not encrypted, not verified, expires within 30 days. "           \
        "Critical: within 7 days.")                                                                \
    CHECK(drivers, "Drivers whose version is known for a defect, or that do not back off.",        \
        "$currentOp (inprog)", "Warning: a defect. Note: does not back off.")                      \
    CHECK(pools, "Whether the apps' pools fit (--dynos, --pool, --processes), and who has how "    \
        "many connections.", "serverStatus, $currentOp",                                           \
        "Critical: they do not fit.")
// clang-format on

#define DOCTOR_CHECK_ID(name, ...) CHECK_##name,
enum doctor_check { DOCTOR_CHECKS(DOCTOR_CHECK_ID) CHECK_COUNT };
#undef DOCTOR_CHECK_ID

enum severity {
    SEVERITY_FINE,
    SEVERITY_NOTE,
    SEVERITY_UNSEEN, // what may be wrong could not be looked at
    SEVERITY_WARNING,
    SEVERITY_CRITICAL,
    SEVERITY_COUNT,
};

// Texts may hold any bytes that a server sent: they are escaped where they are printed.
struct finding {
    enum doctor_check check;
    enum severity severity;
    char subject[160]; // a server or a namespace; "": the deployment
    char found[512];
    char evidence[768];
    char remedy[1024];
};

struct doctor_report {
    struct finding *findings;
    size_t count;
};

// A new one, borrowed until the next: its texts are to be written by say().
struct finding *doctor_find(struct doctor_report *report, enum doctor_check check,
                            enum severity severity, const char *subject);
#define say(text, ...) ((void)snprintf(text, sizeof(text), __VA_ARGS__))

void doctor_report_fini(struct doctor_report *report);

// As monitors take it: 0 nothing worth a warning, 1 warnings, 2 something critical.
int doctor_status(const struct doctor_report *report);

void doctor_print_text(struct doctor_report *report, FILE *out); // sorts it; 80 columns
void doctor_print_json(const struct doctor_report *report, FILE *out);
void doctor_print_reference(FILE *out); // docs/doctor.md

#endif
