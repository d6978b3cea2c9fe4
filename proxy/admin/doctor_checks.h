// SPDX-License-Identifier: Apache-2.0
//
// From what a deployment said to what is to be said about it. Pure; each check says what it found,
// or that it could not look.

#ifndef PROXY_ADMIN_DOCTOR_CHECKS_H
#define PROXY_ADMIN_DOCTOR_CHECKS_H

#include "proxy/admin/doctor_report.h"
#include "proxy/control/answers.h"

// What the command line says of the apps and the tier.
struct expectation {
    const char *tier; // NULL: not said
    long tier_limit;  // of the tier; 0: not said
    long dynos;       // 0: not said
    long processes;
    long pool;
};

void check_unseen(struct doctor_report *report, enum doctor_check check, const char *subject,
                  const struct answer *answer);
void check_connections(struct doctor_report *report, const char *server,
                       const struct server_status *status, const char *tier_by_limit,
                       const struct expectation *expectation);
void check_cursors(struct doctor_report *report, const char *server,
                   const struct server_status *status, const struct operations *operations);
void check_transactions(struct doctor_report *report, const char *server,
                        const struct server_status *status, const struct operations *operations);
void check_certificate(struct doctor_report *report, const char *server, int64_t expiry_s,
                       int64_t now_s);
void check_operations(struct doctor_report *report, const char *server,
                      const struct operations *operations, bool own_only);
void check_drivers(struct doctor_report *report, const char *server,
                   const struct operations *operations);
void check_holders(struct doctor_report *report, const char *server,
                   const struct operations *operations);
void check_replication(struct doctor_report *report, const struct replication *replication);
void check_profiler(struct doctor_report *report, const char *database,
                    const struct profiler_status *profiler);
// all_asked: every server that has the data told of its use.
void check_indexes(struct doctor_report *report, const char *ns, const struct indexes *indexes,
                   bool all_asked, int64_t now_s);

// A kind of query. `why` says how it came to be looked at; explanation NULL: not known.
void check_query(struct doctor_report *report, const char *shape, const char *ns,
                 const struct query_needs *needs, const struct indexes *indexes,
                 const struct explanation *explanation, const char *why);

#endif
