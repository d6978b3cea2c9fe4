// SPDX-License-Identifier: Apache-2.0
#include "proxy/admin/doctor_checks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define USED_WARNING 0.8
#define USED_CRITICAL 0.95
#define NEW_A_SECOND 5.0 // drivers keep their connections: what is above makes and drops them

enum {
    MONITORING = 2, // connections of a driver to each server
    OPEN_CURSORS = 1000,
    IDLE_CURSOR_S = 300,
    IDLE_TRANSACTION_S = 5,
    LAG_WARNING_MS = 1000,
    LAG_CRITICAL_MS = 10000,
    EXPIRY_WARNING_DAYS = 30,
    EXPIRY_CRITICAL_DAYS = 7,
    UNUSED_DAYS = 7,
    SLOW_MS_MAX = 1000,
    DAY_S = 86400,
};

static long long ll(int64_t number)
{
    return number;
}

void check_unseen(struct doctor_report *report, enum doctor_check check, const char *subject,
                  const struct answer *answer)
{
    static const char *const why[] = {
        [ANSWER_GIVEN] = "",
        [ANSWER_NOT_ASKED] = "It was not asked.",
        [ANSWER_FORBIDDEN] = "The URI's user may not see it.",
        [ANSWER_NO_COMMAND] = "The server, or this tier of Atlas, does not tell it.",
        [ANSWER_FAILED] = "The question failed.",
        [ANSWER_UNINTELLIGIBLE] = "The answer does not have what was asked for.",
    };
    struct finding *finding = doctor_find(report, check, SEVERITY_UNSEEN, subject);
    say(finding->found, "%s", why[answer->outcome]);
    say(finding->evidence, "%s", answer->why);
    if (answer->outcome == ANSWER_FORBIDDEN) {
        say(finding->remedy, "As an administrator: "
                             "db.getSiblingDB('admin').grantRolesToUser(USER, ['clusterMonitor'])");
    }
}

// --- connections --------------------------------------------------------------------------------

static void check_pools(struct doctor_report *report, const char *server, int64_t limit,
                        const struct expectation *expectation)
{
    if (expectation->dynos == 0) {
        return;
    }
    if (limit == 0) { // nor did anybody say which tier it is
        struct answer none = {.outcome = ANSWER_UNINTELLIGIBLE};
        check_unseen(report, CHECK_pools, server, &none);
        return;
    }
    int64_t wanted =
        (int64_t)expectation->dynos * expectation->processes * (expectation->pool + MONITORING);
    bool fits = wanted <= limit;
    struct finding *finding =
        doctor_find(report, CHECK_pools, fits ? SEVERITY_FINE : SEVERITY_CRITICAL, server);
    say(finding->found, "%ld dynos may open %lld connections, of %lld that the server takes.",
        expectation->dynos, ll(wanted), ll(limit));
    if (!fits) {
        int64_t pool = limit / (expectation->dynos * expectation->processes) - MONITORING;
        say(finding->evidence, "%ld dynos x %ld processes x (maxPoolSize %ld + %d that monitor)",
            expectation->dynos, expectation->processes, expectation->pool, MONITORING);
        say(finding->remedy,
            "maxPoolSize=%lld in the apps' URI at most, or weir between (weir plan "
            "--limit %lld --dynos %ld --pool %ld says which cap).",
            ll(pool > 0 ? pool : 1), ll(limit), expectation->dynos, expectation->pool);
    }
}

static void check_churn(struct doctor_report *report, const char *server,
                        const struct server_status *status)
{
    double rate =
        status->uptime_s > 60 ? (double)status->connections.created / (double)status->uptime_s : 0;
    if (rate > NEW_A_SECOND) {
        struct finding *finding = doctor_find(report, CHECK_connections, SEVERITY_WARNING, server);
        say(finding->found, "%.0f connections a second are opened, on average.", rate);
        say(finding->evidence, "totalCreated %lld in %lld s", ll(status->connections.created),
            ll(status->uptime_s));
        say(finding->remedy,
            "One MongoClient for each process, made once and kept, not one for each "
            "request; no maxIdleTimeMS of a few seconds.");
    }
}

static void check_refused(struct doctor_report *report, const char *server,
                          const struct server_status *status)
{
    int64_t refused = status->connections.rejected > 0 ? status->connections.rejected : 0;
    int64_t limited = status->connections.rate_limited > 0 ? status->connections.rate_limited : 0;
    if (refused + limited > 0) {
        struct finding *finding = doctor_find(report, CHECK_connections, SEVERITY_WARNING, server);
        say(finding->found, "The server has refused %lld connections since its start.",
            ll(refused + limited));
        say(finding->evidence, "rejected %lld, establishmentRateLimit.rejected %lld", ll(refused),
            ll(limited));
        say(finding->remedy, "Smaller pools, or weir between the apps and the server.");
    }
}

static void check_tier(struct doctor_report *report, const char *server, int64_t limit,
                       const struct expectation *expectation)
{
    if (expectation->tier && expectation->tier_limit != limit) {
        struct finding *finding = doctor_find(report, CHECK_connections, SEVERITY_NOTE, server);
        say(finding->found, "The server takes %lld connections, a server of %s takes %ld.",
            ll(limit), expectation->tier, expectation->tier_limit);
    }
}

void check_connections(struct doctor_report *report, const char *server,
                       const struct server_status *status, const char *tier_by_limit,
                       const struct expectation *expectation)
{
    int64_t current = status->connections.current;
    if (!server_tells_limit(status)) {
        struct answer none = {.outcome = ANSWER_UNINTELLIGIBLE};
        check_unseen(report, CHECK_connections, server, &none);
        check_pools(report, server, expectation->tier_limit, expectation);
        return;
    }
    int64_t limit = current + status->connections.available;
    double used = limit > 0 ? (double)current / (double)limit : 1;
    enum severity severity = used >= USED_CRITICAL  ? SEVERITY_CRITICAL
                             : used >= USED_WARNING ? SEVERITY_WARNING
                                                    : SEVERITY_FINE;
    struct finding *finding = doctor_find(report, CHECK_connections, severity, server);
    say(finding->found, "%lld of %lld connections are open now (%.0f %%)%s%s.", ll(current),
        ll(limit), used * 100, tier_by_limit ? "; so many as of an Atlas " : "",
        tier_by_limit ? tier_by_limit : "");
    if (severity != SEVERITY_FINE) {
        say(finding->evidence,
            "serverStatus.connections: current %lld, available %lld, active %lld", ll(current),
            ll(status->connections.available), ll(status->connections.active));
        say(finding->remedy,
            "Smaller pools (maxPoolSize in the apps' URI), or weir between the apps "
            "and the server, or a larger tier.");
    }
    check_tier(report, server, limit, expectation);
    check_churn(report, server, status);
    check_refused(report, server, status);
    check_pools(report, server, limit, expectation);
}

// --- what is open -------------------------------------------------------------------------------

void check_cursors(struct doctor_report *report, const char *server,
                   const struct server_status *status, const struct operations *operations)
{
    int64_t endless = status->cursors.no_timeout > operations->no_timeout_cursors
                          ? status->cursors.no_timeout
                          : operations->no_timeout_cursors;
    int64_t idle_s = operations->longest_cursor.idle_us / 1000000;
    bool bad = endless > 0 || idle_s >= IDLE_CURSOR_S || status->cursors.open > OPEN_CURSORS;
    if (status->cursors.open == UNKNOWN && !bad) {
        struct answer none = {.outcome = ANSWER_UNINTELLIGIBLE,
                              .why = "serverStatus has no metrics.cursor"};
        check_unseen(report, CHECK_cursors, server, &none);
        return;
    }
    struct finding *finding =
        doctor_find(report, CHECK_cursors, bad ? SEVERITY_WARNING : SEVERITY_FINE, server);
    say(finding->found, "%lld cursors are open, %lld of them without a timeout.",
        ll(status->cursors.open), ll(endless));
    if (bad) {
        say(finding->evidence, "Idle for longest: %lld s, on %s, of %s.",
            ll(idle_s < 0 ? 0 : idle_s),
            operations->longest_cursor.ns[0] ? operations->longest_cursor.ns : "?",
            operations->longest_cursor.app[0] ? operations->longest_cursor.app : "?");
        say(finding->remedy, "Read cursors to their end or close them; leave noCursorTimeout away. "
                             "weir --kill-idle ends what is forgotten.");
    }
}

void check_transactions(struct doctor_report *report, const char *server,
                        const struct server_status *status, const struct operations *operations)
{
    const struct idler *longest = &operations->longest_transaction;
    bool bad = longest->idle_us >= IDLE_TRANSACTION_S * INT64_C(1000000);
    if (status->transactions.open == UNKNOWN && operations->idle_transactions == 0) {
        struct answer none = {.outcome = ANSWER_UNINTELLIGIBLE,
                              .why = "serverStatus has no transactions"};
        check_unseen(report, CHECK_transactions, server, &none);
        return;
    }
    struct finding *finding =
        doctor_find(report, CHECK_transactions, bad ? SEVERITY_WARNING : SEVERITY_FINE, server);
    say(finding->found, "%lld transactions are open, %lld of them idle.",
        ll(status->transactions.open), ll(operations->idle_transactions));
    if (bad) {
        say(finding->evidence, "Idle for longest: %lld s, of %s at %s.",
            ll(longest->idle_us / 1000000), longest->app[0] ? longest->app : "?",
            longest->client[0] ? longest->client : "?");
        say(finding->remedy, "Commit or abort without waiting for anything else in between; "
                             "withTransaction does. weir --kill-idle ends what is forgotten.");
    }
}

void check_certificate(struct doctor_report *report, const char *server, int64_t expiry_s,
                       int64_t now_s)
{
    if (expiry_s == UNKNOWN) {
        struct answer none = {.outcome = ANSWER_UNINTELLIGIBLE,
                              .why = "serverStatus has no SSLServerCertificateExpirationDate"};
        check_unseen(report, CHECK_tls, server, &none);
        return;
    }
    int64_t days = (expiry_s - now_s) / DAY_S;
    enum severity severity = days < EXPIRY_CRITICAL_DAYS  ? SEVERITY_CRITICAL
                             : days < EXPIRY_WARNING_DAYS ? SEVERITY_WARNING
                                                          : SEVERITY_FINE;
    struct finding *finding = doctor_find(report, CHECK_tls, severity, server);
    if (expiry_s <= now_s) {
        say(finding->found, "The server's certificate has expired.");
    } else {
        say(finding->found, "The server's certificate expires in %lld days.", ll(days));
    }
    if (severity != SEVERITY_FINE) {
        say(finding->remedy, "Renew it; mongod takes a new one by rotateCertificates.");
    }
}

// --- operations ---------------------------------------------------------------------------------

static void check_operation(struct doctor_report *report, const char *server,
                            const struct operation *operation)
{
    bool scans = strncmp(operation->plan, "COLLSCAN", 8) == 0;
    struct finding *finding =
        doctor_find(report, CHECK_operations, scans ? SEVERITY_CRITICAL : SEVERITY_WARNING, server);
    say(finding->found, "Runs for %lld s%s%s: %.255s", ll(operation->running_us / 1000000),
        scans ? " and scans the whole collection" : "",
        operation->waits_for_lock ? " (it waits for a lock)" : "",
        operation->shape[0] ? operation->shape : operation->ns);
    say(finding->evidence, "opid %s, plan %s, app %s, client %s", operation->id,
        operation->plan[0] ? operation->plan : "not told", operation->app[0] ? operation->app : "?",
        operation->client[0] ? operation->client : "?");
    say(finding->remedy, "To end it: db.killOp(%s).%s", operation->id,
        scans ? " An index: see plans." : "");
}

void check_operations(struct doctor_report *report, const char *server,
                      const struct operations *operations, bool own_only)
{
    if (own_only) {
        struct answer none = {.outcome = ANSWER_FORBIDDEN,
                              .why = "$currentOp told of one's own operations only"};
        check_unseen(report, CHECK_operations, server, &none);
    }
    for (int i = 0; i < operations->kept; i++) {
        check_operation(report, server, &operations->longest[i]);
    }
    if (operations->long_count == 0) {
        struct finding *finding = doctor_find(report, CHECK_operations, SEVERITY_FINE, server);
        say(finding->found, "None of %lld operations under way has run for %lld s.",
            ll(operations->active), ll(operations->threshold_us / 1000000));
    } else if (operations->long_count > operations->kept) {
        struct finding *finding = doctor_find(report, CHECK_operations, SEVERITY_NOTE, server);
        say(finding->found, "%lld more operations run for that long.",
            ll(operations->long_count - operations->kept));
    }
}

// --- drivers ------------------------------------------------------------------------------------

// Names as drivers send them, up to a | or a space, and the first version without it.
static const struct {
    const char *driver;
    int fixed[3];
    const char *defect; // NULL: none; it does not back off
} versions[] = {
    {"mongo-go-driver",
     {2, 9, 3},
     "may report a refused write as done (an error with NoWritesPerformed)"},
    {"mongo-go-driver", {2, 9, 0}, NULL},
    {"mongoc", {1, 30, 5}, "libbson's bson_validate may succeed too early (CVE-2026-6231)"},
    {"mongoc", {2, 5, 0}, NULL},
    {"mongocxx", {4, 6, 0}, NULL},
    {"mongo-csharp-driver", {3, 11, 0}, NULL},
    {"mongo-java-driver", {5, 12, 0}, NULL},
    {"nodejs", {7, 6, 0}, NULL},
    {"PyMongo", {4, 18, 0}, NULL},
    {"mongo-ruby-driver", {2, 26, 0}, NULL},
    {"mongo-rust-driver", {3, 9, 0}, NULL},
};

// False also for a version that cannot be read.
static bool is_before(const char *version, const int fixed[3])
{
    const char *at = version + (*version == 'v');
    bool before = false;
    bool equal = *at >= '0' && *at <= '9';
    for (int i = 0; i < 3 && equal; i++) {
        char *end;
        long number = strtol(at, &end, 10);
        before = number < fixed[i];
        equal = number == fixed[i];
        at = end + (*end == '.');
    }
    return before;
}

// weir's monitors, and who asks here.
static bool is_ours(const struct client_kind *kind)
{
    return strcmp(kind->app, "weir") == 0 || strcmp(kind->app, "weir doctor") == 0;
}

static void check_driver(struct doctor_report *report, const char *server,
                         const struct client_kind *kind)
{
    size_t length = strcspn(kind->driver, "| ");
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++) {
        if (strlen(versions[i].driver) != length ||
            strncmp(versions[i].driver, kind->driver, length) != 0 ||
            !is_before(kind->version, versions[i].fixed)) {
            continue;
        }
        const char *defect = versions[i].defect;
        struct finding *finding =
            doctor_find(report, CHECK_drivers, defect ? SEVERITY_WARNING : SEVERITY_NOTE, server);
        say(finding->found, "%s %s %s.", kind->driver, kind->version,
            defect ? defect : "does not back off when a server is overloaded");
        say(finding->evidence, "%lld connections, app %s, from %s", ll(kind->connections),
            kind->app[0] ? kind->app : "?", kind->host[0] ? kind->host : "?");
        say(finding->remedy, "%s %d.%d.%d or later.", versions[i].driver, versions[i].fixed[0],
            versions[i].fixed[1], versions[i].fixed[2]);
    }
}

void check_drivers(struct doctor_report *report, const char *server,
                   const struct operations *operations)
{
    size_t before = report->count;
    for (int i = 0; i < operations->kinds; i++) {
        if (!is_ours(&operations->kind[i])) {
            check_driver(report, server, &operations->kind[i]);
        }
    }
    if (report->count == before && operations->kinds > 0) {
        struct finding *finding = doctor_find(report, CHECK_drivers, SEVERITY_FINE, server);
        say(finding->found, "No driver is known for a defect.");
    } else if (operations->kinds == 0) {
        struct answer none = {.outcome = ANSWER_UNINTELLIGIBLE,
                              .why = "$currentOp has no clientMetadata"};
        check_unseen(report, CHECK_drivers, server, &none);
    }
}

void check_holders(struct doctor_report *report, const char *server,
                   const struct operations *operations)
{
    const struct client_kind *most = NULL;
    for (int i = 0; i < operations->kinds; i++) {
        if (!is_ours(&operations->kind[i]) &&
            (!most || operations->kind[i].connections > most->connections)) {
            most = &operations->kind[i];
        }
    }
    if (most) {
        struct finding *finding = doctor_find(report, CHECK_pools, SEVERITY_NOTE, server);
        say(finding->found, "Most connections: %lld of app %s, from %s (%s %s).",
            ll(most->connections), most->app[0] ? most->app : "?", most->host[0] ? most->host : "?",
            most->driver, most->version);
    }
}

// --- replication --------------------------------------------------------------------------------

static void check_member(struct doctor_report *report, const struct member_status *member)
{
    bool late = member->lag_ms > LAG_WARNING_MS;
    if (member->healthy && !late) {
        return;
    }
    bool very = member->lag_ms > LAG_CRITICAL_MS;
    struct finding *finding = doctor_find(
        report, CHECK_replication, very ? SEVERITY_CRITICAL : SEVERITY_WARNING, member->name);
    if (late) {
        say(finding->found, "Is %.1f s behind the primary.", (double)member->lag_ms / 1000);
        say(finding->remedy, "Reads on secondaries see old data, and w: majority waits. Look for a "
                             "burst of writes, a slow disk, an index that is being built.");
    } else {
        say(finding->found, "Is not healthy: %s.", member->state[0] ? member->state : "no state");
    }
}

void check_replication(struct doctor_report *report, const struct replication *replication)
{
    size_t before = report->count;
    if (!replication->has_primary) {
        struct finding *finding =
            doctor_find(report, CHECK_replication, SEVERITY_CRITICAL, replication->set);
        say(finding->found, "There is no primary: nothing can be written.");
    }
    for (int i = 0; i < replication->count; i++) {
        check_member(report, &replication->member[i]);
    }
    if (report->count == before) {
        struct finding *finding =
            doctor_find(report, CHECK_replication, SEVERITY_FINE, replication->set);
        if (replication->count == 1) {
            say(finding->found, "One member, which has nobody to be behind.");
        } else {
            say(finding->found, "%d members, none of them more than a second behind.",
                replication->count);
        }
    }
}

void check_profiler(struct doctor_report *report, const char *database,
                    const struct profiler_status *profiler)
{
    bool all = profiler->level >= 2;
    bool coarse = profiler->slow_ms > SLOW_MS_MAX;
    enum severity severity = all                              ? SEVERITY_WARNING
                             : profiler->level == 0 || coarse ? SEVERITY_NOTE
                                                              : SEVERITY_FINE;
    struct finding *finding = doctor_find(report, CHECK_profiler, severity, database);
    say(finding->found, "The profiler's level is %lld; slow is what takes %lld ms.",
        ll(profiler->level), ll(profiler->slow_ms));
    if (all) {
        say(finding->remedy, "It writes a document for each operation: db.setProfilingLevel(1).");
    } else if (severity == SEVERITY_NOTE) {
        say(finding->remedy, "To have slow queries recorded for a while: "
                             "db.setProfilingLevel(1, {slowms: 100, sampleRate: 0.1})");
    }
}

// --- indexes ------------------------------------------------------------------------------------

static bool may_be_dropped(const struct index_status *index)
{
    return strcmp(index->name, "_id_") != 0 && !index->unique && !index->expires &&
           !index->partial && !index->hidden;
}

static const struct index_status *longer_one(const struct indexes *indexes,
                                             const struct index_status *index)
{
    for (int i = 0; i < indexes->count; i++) {
        const struct index_status *other = &indexes->index[i];
        if (!other->partial && !other->hidden && index_is_prefix(&index->keys, &other->keys)) {
            return other;
        }
    }
    return NULL;
}

static void say_how_to_drop(struct finding *finding, const struct index_status *index)
{
    say(finding->remedy,
        "Hide it first, and drop it when nothing gets slower: "
        "db.COLLECTION.hideIndex(\"%s\")",
        index->name);
}

static void check_index(struct doctor_report *report, const char *ns, const struct indexes *indexes,
                        const struct index_status *index, bool all_asked, int64_t now_s)
{
    const struct index_status *longer = longer_one(indexes, index);
    int64_t days = index->since_s == UNKNOWN ? 0 : (now_s - index->since_s) / DAY_S;
    if (longer) {
        struct finding *finding = doctor_find(report, CHECK_indexes, SEVERITY_NOTE, ns);
        say(finding->found, "The index %s is superfluous: %s begins with the same keys.",
            index->name, longer->name);
        say_how_to_drop(finding, index);
    } else if (index->used == 0 && all_asked && days >= UNUSED_DAYS) {
        struct finding *finding = doctor_find(report, CHECK_indexes, SEVERITY_NOTE, ns);
        say(finding->found, "The index %s was not used for %lld days; each write pays for it.",
            index->name, ll(days));
        say(finding->evidence, "$indexStats of each server: accesses.ops 0");
        say_how_to_drop(finding, index);
    }
}

void check_indexes(struct doctor_report *report, const char *ns, const struct indexes *indexes,
                   bool all_asked, int64_t now_s)
{
    for (int i = 0; i < indexes->count; i++) {
        if (may_be_dropped(&indexes->index[i])) {
            check_index(report, ns, indexes, &indexes->index[i], all_asked, now_s);
        }
    }
}

static const struct index_status *
best_index(const struct indexes *indexes, const struct query_needs *needs, enum index_fit *ret_fit)
{
    const struct index_status *best = NULL;
    *ret_fit = INDEX_FITS_NOT;
    for (int i = 0; i < indexes->count; i++) {
        const struct index_status *index = &indexes->index[i];
        enum index_fit fit = index_fit(&index->keys, needs);
        if (!index->hidden && !index->partial && fit > *ret_fit) {
            *ret_fit = fit;
            best = index;
        }
    }
    return best;
}

static void say_which_index(struct finding *finding, const char *ns,
                            const struct query_needs *needs, const struct index_keys *keys)
{
    char command[INDEX_COMMAND_BYTES];
    bool whole = index_command_print(ns, keys, command, sizeof command);
    say(finding->remedy, "%s%s", whole ? command : "An index on all of its fields",
        needs->sort.count > 1 && !needs->directions_known
            ? "; with the directions of your sort, which a shape does not tell"
            : "");
}

void check_query(struct doctor_report *report, const char *shape, const char *ns,
                 const struct query_needs *needs, const struct indexes *indexes,
                 const struct explanation *explanation, const char *why)
{
    struct index_keys keys;
    enum index_fit fit;
    index_for(needs, &keys);
    if (keys.count == 0) {
        return;
    }
    const struct index_status *best = best_index(indexes, needs, &fit);
    bool scans = explanation && explanation->scans;
    enum severity severity = fit == INDEX_SERVES && !scans ? SEVERITY_FINE
                             : scans                       ? SEVERITY_CRITICAL
                                                           : SEVERITY_WARNING;
    struct finding *finding = doctor_find(report, CHECK_plans, severity, ns);
    say(finding->evidence, "%s; plan: %s", why, explanation ? explanation->plan : "not seen");
    if (fit == INDEX_SERVES) {
        say(finding->found, "%s index %s: %s",
            scans ? "The server scans the collection, and does not use the" : "Served by the",
            best->name, shape);
        if (scans) {
            say(finding->remedy, "Look for a collation or a hint: .hint(\"%s\").explain()",
                best->name);
        }
        return;
    }
    say(finding->found, "No index serves %s%s%s", shape, best ? "; part of it does " : "",
        best ? best->name : "");
    say_which_index(finding, ns, needs, &keys);
}
