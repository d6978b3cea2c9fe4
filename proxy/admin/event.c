// SPDX-License-Identifier: Apache-2.0

#include "proxy/admin/event.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/control/index_advice.h"

#define LEAST_SCORE 0.1 // for a cause to be named at all

void event_free(struct event *event)
{
    if (event) {
        evidence_fini(&event->evidence);
        free(event);
    }
}

const char *event_cause(const struct event *event)
{
    const struct verdict *verdict = &event->verdict;
    return event->is_calm              ? "none"
           : verdict_is_clear(verdict) ? cause_text(verdict->order[0])
                                       : "unclear";
}

// --- words --------------------------------------------------------------------------------------

static double a_second(uint64_t count, const struct recorder_span *span)
{
    return span->seconds > 0 ? (double)count / span->seconds : 0;
}

// Whether what the server said of a shape is about the one that held so much.
static bool is_about_shape(const struct event *event)
{
    return event->evidence.shape != 0 && event->evidence.shape == event->verdict.shape;
}

// Seconds as people say them.
static const char *duration(double seconds, char ret_text[24])
{
    snprintf(ret_text, 24,
             seconds < 0.01 ? "%.1f ms"
             : seconds < 1  ? "%.0f ms"
                            : "%.1f s",
             seconds < 1 ? seconds * 1e3 : seconds);
    return ret_text;
}

static void say_plan(const struct event *event, char ret_says[ANSWER_NAME_BYTES + 32])
{
    const struct evidence *evidence = &event->evidence;
    ret_says[0] = '\0';
    if (is_about_shape(event) && evidence->scans) {
        snprintf(ret_says, ANSWER_NAME_BYTES + 32, "; it scans the collection");
    } else if (is_about_shape(event) && evidence->index_used[0]) {
        snprintf(ret_says, ANSWER_NAME_BYTES + 32, "; it uses the index %s", evidence->index_used);
    }
}

// In its first second the holders say what it was, later the time that each held.
static void say_slow_shape(const struct event *event, char ret_says[EVENT_SAYS_BYTES])
{
    const struct verdict *verdict = &event->verdict;
    char before[2][48] = {"", ""};
    char mean[24];
    char usual[24];
    char plan[ANSWER_NAME_BYTES + 32];
    say_plan(event, plan);
    if (verdict->usual_known) {
        snprintf(before[0], sizeof before[0], " (%.0f %% before)", verdict->part_before * 100);
    }
    if (verdict->usual_known && verdict->mean_before > 0) {
        snprintf(before[1], sizeof before[1], " (%s before)",
                 duration(verdict->mean_before, usual));
    }
    snprintf(ret_says, EVENT_SAYS_BYTES, "a slow shape: %s held %.0f %% of the %s%s, %s each%s%s%s",
             event->shape[0] ? event->shape : "(forgotten)", verdict->part_during * 100,
             verdict->is_early ? "permits at its begin" : "connection time", before[0],
             duration(verdict->mean_during, mean), verdict->mean_so_far ? " so far" : "", before[1],
             plan);
}

void event_say(const struct event *event, enum cause cause, char ret_says[EVENT_SAYS_BYTES])
{
    const struct verdict *verdict = &event->verdict;
    const struct recorder_span *during = &verdict->during;
    const struct recorder_span *onset = &verdict->onset;
    switch (cause) {
    case CAUSE_SLOW_SHAPE:
        say_slow_shape(event, ret_says);
        break;
    case CAUSE_SPIKE:
        snprintf(ret_says, EVENT_SAYS_BYTES,
                 "a traffic spike: %s asked %.0f times a second (usually %.0f), all together %.0f "
                 "(usually %.0f)",
                 event->tenant[0] ? event->tenant : "(no name)", verdict->rate_onset,
                 verdict->rate_before, a_second(onset->arrived, onset),
                 a_second(verdict->before.arrived, &verdict->before));
        break;
    case CAUSE_LEAK:
        snprintf(ret_says, EVENT_SAYS_BYTES,
                 "a leak: %d transactions and %d cursors were open and left alone; %" PRIu64
                 " requests were refused for want of a connection that could keep one",
                 during->most_transactions_idle, during->most_cursors_idle, during->refused_pins);
        break;
    case CAUSE_POOLS:
        snprintf(ret_says, EVENT_SAYS_BYTES,
                 "the apps' pools are larger than the cap can serve: %.0f connections of apps "
                 "(%.0f before) for a cap of %.0f",
                 onset->clients, verdict->before.clients, onset->cap);
        break;
    case CAUSE_SLOW_SERVER:
        snprintf(ret_says, EVENT_SAYS_BYTES,
                 "the deployment slowed as a whole: most shapes took %.1f times as long as before, "
                 "at %.0f requests a second (usually %.0f)",
                 verdict->slowdown, a_second(onset->arrived, onset),
                 a_second(verdict->before.arrived, &verdict->before));
        break;
    case CAUSE_MEMBER_LOST:
        snprintf(ret_says, EVENT_SAYS_BYTES,
                 "the server was away for %.0f s (an election, a restart, or the network); %" PRIu64
                 " connections were lost under requests",
                 verdict->away, onset->lost + during->lost);
        break;
    case CAUSE_SERVER_FULL:
        snprintf(ret_says, EVENT_SAYS_BYTES,
                 "the server takes no more connections: %" PRIu64
                 " could not be opened although the cap of %.0f allows them",
                 during->open_failures, during->cap);
        break;
    case CAUSE_STORM:
        snprintf(ret_says, EVENT_SAYS_BYTES,
                 "a connection storm: %.0f new connections of apps a second (usually %.0f), for "
                 "%.0f requests a second",
                 a_second(onset->accepted, onset),
                 a_second(verdict->before.accepted, &verdict->before),
                 a_second(onset->arrived, onset));
        break;
    case CAUSE_COUNT:
        break;
    }
}

void event_verdict(const struct event *event, char ret_says[EVENT_SAYS_BYTES])
{
    if (event->is_calm && event->trouble[0]) {
        snprintf(ret_says, EVENT_SAYS_BYTES, "%s: %s", event->first.server, event->trouble);
    } else if (event->is_calm) {
        snprintf(ret_says, EVENT_SAYS_BYTES,
                 "nothing has run out: %d of %d permits are in use, %zu requests wait",
                 event->first.counts.in_flight, event->first.counts.limit,
                 event->first.counts.queued);
    } else if (verdict_is_clear(&event->verdict)) {
        event_say(event, event->verdict.order[0], ret_says);
    } else if (!event->verdict.is_early) {
        snprintf(ret_says, EVENT_SAYS_BYTES, "unclear: nothing that is known explains it (yet)");
    } else if (event->ended_us == 0) {
        snprintf(ret_says, EVENT_SAYS_BYTES, "unclear: it has just begun");
    } else {
        char lasted[24];
        int64_t lasted_us = event->ended_us - event->begun_us;
        snprintf(ret_says, EVENT_SAYS_BYTES, "unclear: too short to tell, over %s%s",
                 lasted_us < 1000 ? "at once" : "within ",
                 lasted_us < 1000 ? "" : duration((double)lasted_us / 1e6, lasted));
    }
}

struct remedy {
    enum cause cause;
    const char *what;
    const char *type;
};

static const struct remedy remedies[] = {
    {CAUSE_SPIKE, "throttle the tenant", "weir ctl rule add --help"},
    {CAUSE_SPIKE, "fail fast until it is over", "weir ctl emergency on"},
    {CAUSE_LEAK, "see whose they are",
     "db.getSiblingDB('weir').transactions.find().sort({idle: -1})"},
    {CAUSE_LEAK, "have weir end what is left alone", "admission.killIdle: true"},
    {CAUSE_POOLS, "see what pool and cap would fit", "weir plan --help"},
    {CAUSE_POOLS, "make the driver's pool smaller", "maxPoolSize=N in the app's URI"},
    {CAUSE_SLOW_SERVER, "see what it is busy with",
     "db.currentOp({active: true, secs_running: {$gte: 1}})"},
    {CAUSE_SLOW_SERVER, "let less in until it recovers", "weir ctl emergency on"},
    {CAUSE_MEMBER_LOST, "see which members are there", "rs.status()"},
    {CAUSE_SERVER_FULL, "see who has the connections", "db.serverStatus().connections"},
    {CAUSE_SERVER_FULL, "lower the cap below what is left", "upstream.maxConnections: N"},
    {CAUSE_STORM, "let the apps keep their connections: one client for a process",
     "minPoolSize=N and no maxIdleTimeMS in the app's URI"},
};

// --- the record ---------------------------------------------------------------------------------

// An element of an array.
struct element {
    bson_t document;
    char key[12];
};

static void open_element(struct element *element, bson_t *list, unsigned place)
{
    snprintf(element->key, sizeof element->key, "%u", place);
    bson_append_document_begin(list, element->key, -1, &element->document);
}

static void close_element(struct element *element, bson_t *list)
{
    bson_append_document_end(list, &element->document);
}

static void append_seconds(bson_t *document, const char *key, int64_t us)
{
    bson_append_double(document, key, -1, (double)us / 1e6);
}

static void put_causes(const struct event *event, struct row *row)
{
    bson_t list;
    row_open_list(row, STATE_exhaustions_causes, &list);
    for (unsigned i = 0; i < CAUSE_COUNT; i++) {
        enum cause cause = event->verdict.order[i];
        struct element element;
        char says[EVENT_SAYS_BYTES];
        if (event->verdict.scores[cause] < LEAST_SCORE) {
            break;
        }
        event_say(event, cause, says);
        open_element(&element, &list, i);
        state_append_text(&element.document, "cause", cause_text(cause));
        bson_append_double(&element.document, "score", -1, event->verdict.scores[cause]);
        state_append_text(&element.document, "says", says);
        close_element(&element, &list);
    }
    row_close_list(row, &list);
}

static void append_remedy(bson_t *list, unsigned *count, const char *what, const char *type)
{
    struct element element;
    open_element(&element, list, (*count)++);
    state_append_text(&element.document, "what", what);
    state_append_text(&element.document, "type", type);
    close_element(&element, list);
}

// What to do about a shape's plan, by what the server has said of it. A server that is slow at what
// an index finds has another trouble.
static void append_plan_remedy(const struct event *event, bson_t *list, unsigned *count)
{
    const struct evidence *evidence = &event->evidence;
    bool known = is_about_shape(event);
    char look[INDEX_COMMAND_BYTES];
    char what[2 * ANSWER_NAME_BYTES + 160] =
        "see how it is executed, then give it an index: equality, sort, range";
    if (!explain_command_print(event->shape, look, sizeof look)) {
        snprintf(look, sizeof look, "db.COLLECTION.explain(\"executionStats\").find(FILTER)");
    }
    if (known && evidence->index_to_make[0]) {
        snprintf(what, sizeof what, "%s%s%sgive it an index%s",
                 evidence->index_used[0] ? "it uses the index " : "", evidence->index_used,
                 evidence->index_used[0] ? ", which finds only part of it: " : "",
                 evidence->sort_is_free
                     ? ", with the directions of your sort, which a shape does not tell"
                     : "");
        append_remedy(list, count, what, evidence->index_to_make);
        return;
    }
    if (known && evidence->index_used[0]) {
        snprintf(what, sizeof what,
                 "it uses the index %s: see what the server is slow at (locks, the disk, how many "
                 "documents it examines)",
                 evidence->index_used);
    } else if (known && evidence->scans && evidence->index_there[0]) {
        snprintf(what, sizeof what,
                 "the index %s would serve it, and is not used: look for a collation or a hint",
                 evidence->index_there);
    }
    append_remedy(list, count, what, look);
}

// What an index finds may be what the app lives on: it is let through, a few at a time.
static void append_rule_remedy(const struct event *event, bson_t *list, unsigned *count)
{
    bool indexed = is_about_shape(event) && event->evidence.index_used[0];
    char type[96];
    snprintf(type, sizeof type, "weir ctl rule add %s --shape %016" PRIx64,
             indexed ? "--at-once 2" : "--deny", event->verdict.shape);
    append_remedy(list, count,
                  indexed ? "until then, let two of it at once, for 15 minutes"
                          : "until then, refuse it, for 15 minutes",
                  type);
}

static void put_remedies(const struct event *event, struct row *row)
{
    bool clear = !event->is_calm && verdict_is_clear(&event->verdict);
    enum cause cause = event->verdict.order[0];
    bson_t list;
    unsigned count = 0;
    row_open_list(row, STATE_exhaustions_remedies, &list);
    if (clear && cause == CAUSE_SLOW_SHAPE) {
        append_plan_remedy(event, &list, &count);
        append_rule_remedy(event, &list, &count);
    }
    for (size_t i = 0; i < sizeof remedies / sizeof remedies[0]; i++) {
        if (clear && remedies[i].cause == cause) {
            append_remedy(&list, &count, remedies[i].what, remedies[i].type);
        }
    }
    row_close_list(row, &list);
}

static void append_holders(const struct exhaustion_report *report, bson_t *list)
{
    for (int i = 0; i < report->holder_count; i++) {
        const struct holder *holder = &report->holders[i];
        struct element element;
        open_element(&element, list, (unsigned)i);
        state_append_text(&element.document, "shape", holder->shape);
        state_append_text(&element.document, "app", holder->app_name);
        state_append_text(&element.document, "tenant", holder->tenant);
        state_append_text(&element.document, "namespace", holder->namespace);
        state_append_text(&element.document, "user", holder->user);
        state_append_text(&element.document, "peer", holder->peer);
        state_append_int(&element.document, "client", (int64_t)holder->client_id);
        append_seconds(&element.document, "held", holder->age_us);
        close_element(&element, list);
    }
}

static void put_shed(const struct event *event, struct row *row)
{
    bson_t document;
    row_open(row, STATE_exhaustions_shed, &document);
    for (int i = 0; i < REFUSAL_COUNT; i++) {
        enum refusal refusal = (enum refusal)i;
        state_append_int(&document, refusal_text(refusal),
                         (int64_t)exhaustion_refused(&event->last.exhaustion, refusal));
    }
    row_close(row, &document);
}

static void put_worst(const struct event *event, struct row *row)
{
    bson_t document;
    bson_t list;
    row_open(row, STATE_exhaustions_worst, &document);
    bson_append_double(&document, "at", -1, event->worst_time);
    state_append_int(&document, "inFlight", event->worst.counts.in_flight);
    state_append_int(&document, "waiting", (int64_t)event->worst.counts.queued);
    bson_append_array_begin(&document, "holders", -1, &list);
    append_holders(&event->worst, &list);
    bson_append_array_end(&document, &list);
    row_close(row, &document);
}

// What a tenant has had since the begin. One that came into the table later began at nothing.
static struct demand_tenant since_begin(const struct event *event, int place)
{
    struct demand_tenant since = event->asked.tenants[place];
    int before_place = demand_find(&event->asked_before, event->asked.ids[place]);
    const struct demand_tenant *before =
        before_place < 0 ? NULL : &event->asked_before.tenants[before_place];
    if (before && before->arrived <= since.arrived) {
        since.arrived -= before->arrived;
        since.refused -= before->refused;
        since.waited -= before->waited;
        for (int i = 0; i < DEMAND_WAITS; i++) {
            since.waits[i] -= before->waits[i];
        }
    }
    // Its own is the longest since it took its place, which may have been before the begin.
    int64_t longest_us = event->last.exhaustion.longest_wait_us;
    since.longest_us = since.longest_us < longest_us ? since.longest_us : longest_us;
    return since;
}

static void append_waiter(const struct demand_tenant *tenant, bson_t *document)
{
    state_append_text(document, "tenant", tenant->name);
    state_append_int(document, "arrived", (int64_t)tenant->arrived);
    state_append_int(document, "waited", (int64_t)tenant->waited);
    state_append_int(document, "shed", (int64_t)tenant->refused);
    append_seconds(document, "p50", demand_quantile(tenant->waits, tenant->longest_us, 0.5));
    append_seconds(document, "p99", demand_quantile(tenant->waits, tenant->longest_us, 0.99));
}

// Those that waited or were refused most, most first; returns how many.
static int find_waiters(const struct event *event, struct demand_tenant ret_tenants[EVENT_TENANTS])
{
    int count = 0;
    for (int place = 0; place < DEMAND_PLACES; place++) {
        struct demand_tenant since = since_begin(event, place);
        uint64_t weight = since.waited + since.refused;
        int at = count;
        while (at > 0 && ret_tenants[at - 1].waited + ret_tenants[at - 1].refused < weight) {
            if (at < EVENT_TENANTS) {
                ret_tenants[at] = ret_tenants[at - 1];
            }
            at--;
        }
        if (weight > 0 && at < EVENT_TENANTS) {
            ret_tenants[at] = since;
            count += count < EVENT_TENANTS;
        }
    }
    return count;
}

static void put_waiters(const struct event *event, struct row *row)
{
    struct demand_tenant tenants[EVENT_TENANTS];
    int count = find_waiters(event, tenants);
    bson_t list;
    row_open_list(row, STATE_exhaustions_waiters, &list);
    for (int i = 0; i < count; i++) {
        struct element element;
        open_element(&element, &list, (unsigned)i);
        append_waiter(&tenants[i], &element.document);
        close_element(&element, &list);
    }
    row_close_list(row, &list);
}

static double held_a_second(const struct recorder_sum_share *share,
                            const struct recorder_span *span)
{
    return share ? a_second(share->held_ms, span) / 1e3 : 0;
}

static void append_shape(const struct event *event, int place, bson_t *document)
{
    const struct recorder_span *before = &event->verdict.before;
    const struct recorder_span *during = &event->verdict.during;
    const struct recorder_sum_share *now = &during->shapes[place];
    const struct recorder_sum_share *then =
        recorder_find(before->shapes, before->shape_count, now->id);
    double held_before = held_a_second(then, before);
    double held_during = held_a_second(now, during);
    char id[20];
    snprintf(id, sizeof id, "%016" PRIx64, now->id);
    state_append_text(document, "shape", event->shapes[place]);
    state_append_text(document, "id", id);
    bson_append_double(document, "before", -1, held_before);
    bson_append_double(document, "during", -1, held_during);
    bson_append_double(document, "change", -1, held_during - held_before);
    bson_append_double(document, "meanBefore", -1, recorder_mean(then, before));
    bson_append_double(document, "meanDuring", -1, recorder_mean(now, during));
}

static void put_shapes(const struct event *event, struct row *row)
{
    bson_t list;
    row_open_list(row, STATE_exhaustions_shapes, &list);
    for (int i = 0; i < event->verdict.during.shape_count && i < EVENT_SHAPES; i++) {
        struct element element;
        open_element(&element, &list, (unsigned)i);
        append_shape(event, i, &element.document);
        close_element(&element, &list);
    }
    row_close_list(row, &list);
}

// Of one connection that was opened, in seconds.
static double mean_time(int64_t us, const struct recorder_span *span)
{
    return span->opened > 0 ? (double)us / 1e6 / (double)span->opened : 0;
}

static void append_owner(const struct owner *owner, bson_t *document)
{
    state_append_text(document, "app", owner->longest.app_name);
    state_append_int(document, "userId", owner->user);
    state_append_int(document, "cursors", owner->cursors);
    state_append_int(document, "cursorsIdle", owner->cursors_idle);
    state_append_int(document, "transactions", owner->transactions);
    state_append_int(document, "transactionsIdle", owner->transactions_idle);
    append_seconds(document, "longestIdle", owner->longest_idle_us);
    state_append_text(document, "peer", owner->longest.peer);
    state_append_int(document, "client", (int64_t)owner->longest.client);
    state_append_text(document, "shape", owner->longest.shape);
}

static void put_connections(const struct event *event, struct row *row)
{
    const struct recorder_span *during = &event->verdict.during;
    const struct recorder_span *before = &event->verdict.before;
    bson_t document;
    bson_t list;
    row_open(row, STATE_exhaustions_upstreams, &document);
    state_append_int(&document, "opened", (int64_t)during->opened);
    state_append_int(&document, "openFailures", (int64_t)during->open_failures);
    state_append_int(&document, "lost", (int64_t)during->lost);
    bson_append_double(&document, "away", -1, event->verdict.away);
    bson_append_double(&document, "meanOpening", -1, mean_time(during->opening_us, during));
    bson_append_double(&document, "meanLogin", -1, mean_time(during->login_us, during));
    bson_append_double(&document, "meanLoginBefore", -1, mean_time(before->login_us, before));
    row_close(row, &document);
    row_open(row, STATE_exhaustions_left, &document);
    state_append_int(&document, "cursorsIdle", during->most_cursors_idle);
    state_append_int(&document, "transactionsIdle", during->most_transactions_idle);
    bson_append_array_begin(&document, "owners", -1, &list);
    for (int i = 0; i < event->owners.count && i < EVENT_OWNERS; i++) {
        struct element element;
        open_element(&element, &list, (unsigned)i);
        append_owner(&event->owners.owner[i], &element.document);
        close_element(&element, &list);
    }
    bson_append_array_end(&document, &list);
    row_close(row, &document);
}

static void put_holders(const struct event *event, struct row *row)
{
    bson_t list;
    row_open_list(row, STATE_exhaustions_holders, &list);
    append_holders(&event->first, &list);
    row_close_list(row, &list);
}

static void put_deployment(const struct event *event, struct row *row)
{
    bson_t document;
    row_open(row, STATE_exhaustions_deployment, &document);
    evidence_put(&event->evidence, &document);
    row_close(row, &document);
}

static void put_times(const struct event *event, struct row *row, int64_t now_us)
{
    int64_t until_us = event->ended_us > 0 ? event->ended_us : now_us;
    double lasted = (double)(until_us - event->begun_us) / 1e6;
    row_real(row, STATE_exhaustions_begin, event->begun_time);
    row_real(row, STATE_exhaustions_end, event->ended_us > 0 ? event->begun_time + lasted : 0);
    row_text(row, STATE_exhaustions_ended, event->last.ended ? event->last.ended : "");
    row_real(row, STATE_exhaustions_duration, lasted);
}

void event_put(const struct event *event, struct buffer *out, int64_t now_us)
{
    char says[EVENT_SAYS_BYTES];
    struct row row;
    event_verdict(event, says);
    row_begin_in(&row, out, STATE_exhaustions);
    row_text(&row, STATE_exhaustions__id, event->id);
    row_text(&row, STATE_exhaustions_server, event->first.server);
    put_times(event, &row, now_us);
    row_int(&row, STATE_exhaustions_cap, event->first.counts.cap);
    row_int(&row, STATE_exhaustions_limit, event->first.counts.limit);
    row_text(&row, STATE_exhaustions_cause, event_cause(event));
    row_text(&row, STATE_exhaustions_verdict, says);
    put_causes(event, &row);
    put_remedies(event, &row);
    row_seconds(&row, STATE_exhaustions_longestWait, event->last.exhaustion.longest_wait_us);
    put_shed(event, &row);
    put_holders(event, &row);
    put_worst(event, &row);
    put_waiters(event, &row);
    put_shapes(event, &row);
    put_connections(event, &row);
    put_deployment(event, &row);
    row_end(&row);
}
