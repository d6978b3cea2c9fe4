// SPDX-License-Identifier: Apache-2.0

#include "proxy/admin/chronicle.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proxy/admin/archive.h"
#include "proxy/admin/event.h"
#include "proxy/admin/webhook.h"
#include "proxy/inquiry.h"
#include "proxy/mem.h"

#define EVENTS 64
#define IDLE_US INT64_C(10000000)   // what was left alone for so long may be a leak
#define LATELY_US INT64_C(10000000) // what a verdict of now is about at most
#define COPIED_AT_ONCE 128
#define TRACKS_KEPT 16                 // with those of servers that are gone
#define ASK_AGAIN_US INT64_C(10000000) // the same server
#define ANSWER_US INT64_C(30000000)    // the longest that an answer is waited for

// What is recorded of one server.
struct track {
    struct track *next;
    uint32_t server_id;
    char server[280];
    uint64_t seen; // in which second last
    struct recorder *recorder;
    struct demand asked;         // at the last look
    struct demand asked_earlier; // at the one before: an event's report comes after its first
                                 // refusal, perhaps with a look between them
    struct event *event;         // that goes on; NULL: none
    int64_t asked_us;            // when the server was asked about itself; 0: never
};

struct chronicle {
    struct servers *servers;
    struct archive *archive;
    struct webhook *webhook;
    struct track *tracks;
    int track_count;
    uint64_t second;  // the number of the last one
    int64_t begun_us; // when the first was
    int64_t times[RECORDER_SECONDS];
    struct event *events[EVENTS]; // a ring
    size_t count;                 // that there have been
    bool is_closed;
};

struct chronicle *chronicle_new(struct servers *servers, struct archive *archive,
                                struct webhook *webhook)
{
    struct chronicle *chronicle = xcalloc(1, sizeof *chronicle);
    chronicle->servers = servers;
    chronicle->archive = archive;
    chronicle->webhook = webhook;
    return chronicle;
}

static void free_track(struct track *track)
{
    recorder_free(track->recorder);
    free(track);
}

static struct track *known_track(const struct chronicle *chronicle, uint32_t server_id)
{
    struct track *track = chronicle->tracks;
    while (track && track->server_id != server_id) {
        track = track->next;
    }
    return track;
}

static struct track *find_track(struct chronicle *chronicle, uint32_t server_id)
{
    struct track *track = known_track(chronicle, server_id);
    if (!track) {
        track = xcalloc(1, sizeof *track);
        track->server_id = server_id;
        track->recorder = recorder_new(SERVER_SHAPES_MAX, DEMAND_PLACES);
        track->next = chronicle->tracks;
        chronicle->tracks = track;
        chronicle->track_count++;
    }
    return track;
}

// --- events -------------------------------------------------------------------------------------

static double time_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

// When it began, and one number that tells those of one second apart.
static void name_event(struct event *event, size_t number)
{
    time_t seconds = (time_t)event->begun_time;
    struct tm utc;
    char when[24];
    gmtime_r(&seconds, &utc);
    strftime(when, sizeof when, "%Y%m%dT%H%M%SZ", &utc);
    snprintf(event->id, sizeof event->id, "%s-%zu", when, number);
}

static struct event *begin(struct chronicle *chronicle, struct track *track,
                           const struct exhaustion_report *report, int64_t now_us)
{
    struct event *event = xcalloc(1, sizeof *event);
    struct event **place = &chronicle->events[chronicle->count % EVENTS];
    for (struct track *at = chronicle->tracks; at; at = at->next) {
        at->event = at->event == *place ? NULL : at->event;
    }
    event_free(*place);
    *place = event;
    event->number = ++chronicle->count;
    track->event = event;
    event->server_id = report->server_id;
    event->begun_us = report->exhaustion.begun_us;
    event->begun_time = time_now() - (double)(now_us - event->begun_us) / 1e6;
    event->asked_before = track->asked_earlier;
    event->first = *report;
    event->worst = *report;
    event->worst_time = time_now();
    name_event(event, event->number);
    return event;
}

static void copy_labels(struct server *server, struct event *event)
{
    const struct verdict *verdict = &event->verdict;
    for (int i = 0; i < EVENT_SHAPES && i < verdict->during.shape_count; i++) {
        event->shapes[i][0] = '\0';
        (void)server_copy_label(server, verdict->during.shapes[i].id, event->shapes[i]);
    }
    event->shape[0] = '\0';
    (void)server_copy_label(server, verdict->shape, event->shape);
    int place = demand_find(&event->asked, verdict->tenant);
    if (place >= 0) {
        memcpy(event->tenant, event->asked.tenants[place].name, sizeof event->tenant);
    }
}

static void judge(struct server *server, struct track *track, int64_t now_us)
{
    struct event *event = track->event;
    // Of one that goes on as well: what only waits for its quiet time to pass has lasted no longer.
    int64_t until_us = event->is_calm        ? now_us
                       : event->ended_us > 0 ? event->ended_us
                                             : event->last.exhaustion.last_seen_us;
    server_copy_demand(server, &event->asked);
    verdict_find(track->recorder, &event->first.majority, event->begun_us, until_us,
                 &event->verdict);
    copy_labels(server, event);
}

static void look_closer(struct server *server, struct track *track, struct affinity *affinity,
                        int64_t now_us)
{
    struct event *event = track->event;
    struct exhaustion_report report = event->first;
    bool goes_on = server_peek(server, &report, now_us);
    if (goes_on && report.exhaustion.begun_us == event->begun_us) {
        event->last.exhaustion = report.exhaustion;
        event->last.counts = report.counts;
        event->last.shed_for_good = report.shed_for_good;
    }
    if (goes_on && report.counts.queued > event->worst.counts.queued) {
        event->worst = report;
        event->worst_time = time_now();
    }
    judge(server, track, now_us);
    struct owners owners;
    owners_count(affinity, server->id, IDLE_US, now_us, &owners);
    if (event->owners.count == 0 || owners_idle(&owners) > owners_idle(&event->owners)) {
        event->owners = owners;
    }
}

// --- whom it is told ----------------------------------------------------------------------------

static void publish(const struct chronicle *chronicle, const struct event *event, int64_t now_us)
{
    const struct config *config = chronicle->servers->config;
    const char *path = config->events_path;
    const char *webhook = config->events_webhook;
    if (!path && !webhook) {
        return;
    }
    struct buffer row = {0};
    bson_t record;
    event_put(event, &row, now_us);
    bool sound = bson_init_static(&record, buffer_at(&row), buffer_held(&row));
    assert(sound);
    (void)sound;
    char *json = bson_as_relaxed_extended_json(&record, NULL);
    assert(json);
    if (path && event->ended_us > 0) {
        archive_keep(chronicle->archive, path, event->id, json);
    }
    if (webhook) {
        webhook_tell(chronicle->webhook, webhook, config->events_webhook_ca_file, event->id, json);
    }
    bson_free(json);
    buffer_fini(&row);
}

static void publish_end(const struct chronicle *chronicle, struct event *event, int64_t now_us)
{
    event->is_unpublished = false;
    publish(chronicle, event, now_us);
}

// Those that have ended, and waited for evidence in vain.
static void publish_late(struct chronicle *chronicle, int64_t now_us)
{
    for (size_t i = 0; i < EVENTS; i++) {
        struct event *event = chronicle->events[i];
        if (event && event->is_unpublished && now_us - event->ended_us >= ANSWER_US) {
            publish_end(chronicle, event, now_us);
        }
    }
}

// --- what the server says -----------------------------------------------------------------------

// On control's thread.
static void send_back(struct errand *errand)
{
    struct inquest *inquest = (struct inquest *)errand;
    mailbox_post(inquest->back, &inquest->mail);
}

// What held most as far as is known; the oldest holder's at first.
static void name_shape(const struct event *event, struct inquest *inquest)
{
    const struct holder *oldest = &event->first.holders[0];
    bool known = event->shape[0] != '\0';
    snprintf(inquest->consult.shape, sizeof inquest->consult.shape, "%s",
             known ? event->shape : oldest->shape);
    inquest->shape = known ? event->verdict.shape : oldest->shape_id;
}

static void ask(const struct shared *shared, struct track *track, int64_t now_us)
{
    struct event *event = track->event;
    struct inquest *inquest = xcalloc(1, sizeof *inquest);
    struct consult *consult = &inquest->consult;
    consult->errand.run = consult_run;
    consult->errand.done = send_back;
    memcpy(consult->server, event->first.server, sizeof consult->server);
    name_shape(event, inquest);
    consult->threshold_us = shared->config->slow_op_threshold_us;
    inquest->mail.kind = OBSERVER_EVIDENCE;
    inquest->back = shared->observer;
    inquest->event = event->number;
    event->evidence.asked = true;
    event->is_asking = true;
    track->asked_us = now_us;
    control_ask(shared->control, &consult->errand);
}

// Whoever asks a server that is slow to answer again and again makes nothing better.
static bool may_ask(const struct track *track, int64_t now_us)
{
    int64_t pause_us = track->event->is_asking ? ANSWER_US : ASK_AGAIN_US;
    return track->asked_us == 0 || now_us - track->asked_us >= pause_us;
}

static struct event *find_event(struct chronicle *chronicle, size_t number)
{
    struct event *event = chronicle->events[(number - 1) % EVENTS];
    return event && event->number == number ? event : NULL;
}

// --- once a second ------------------------------------------------------------------------------

struct look {
    struct chronicle *chronicle;
    struct shared *shared;
    struct recorder_totals totals;
    int64_t now_us;
};

static void look_at(struct server *server, void *arg)
{
    struct look *look = arg;
    if (atomic_load(&server->is_gone)) {
        return;
    }
    struct track *track = find_track(look->chronicle, server->id);
    struct recorder_totals totals = look->totals;
    track->seen = look->chronicle->second;
    memcpy(track->server, server->name, sizeof track->server);
    server_record(server, track->recorder, &totals, look->now_us);
    if (track->event) {
        look_closer(server, track, &look->shared->affinity, look->now_us);
        if (may_ask(track, look->now_us)) {
            ask(look->shared, track, look->now_us);
        }
    }
    track->asked_earlier = track->asked;
    server_copy_demand(server, &track->asked);
}

static void count_pins(struct affinity *affinity, struct recorder_totals *totals, int64_t now_us)
{
    struct pin *pins = xcalloc(COPIED_AT_ONCE, sizeof *pins);
    uint64_t clients[COPIED_AT_ONCE];
    for (size_t place = 0; place != SIZE_MAX;) {
        size_t count = affinity_copy(affinity, &place, COPIED_AT_ONCE, pins, clients);
        for (size_t i = 0; i < count; i++) {
            bool cursor = pins[i].key.kind == PIN_CURSOR;
            bool idle = !pins[i].is_busy && now_us - pins[i].used_us >= IDLE_US;
            totals->cursors += cursor;
            totals->cursors_idle += cursor && idle;
            totals->transactions += !cursor;
            totals->transactions_idle += !cursor && idle;
        }
    }
    free(pins);
}

// Whether the server has left the deployment, and nobody needs to know any more how it was.
static bool is_past(const struct chronicle *chronicle, const struct track *track)
{
    uint64_t gone = chronicle->second - track->seen;
    return gone >= RECORDER_SECONDS || (gone > 0 && chronicle->track_count > TRACKS_KEPT);
}

static void forget_gone(struct chronicle *chronicle)
{
    struct track **at = &chronicle->tracks;
    while (*at) {
        struct track *track = *at;
        if (is_past(chronicle, track)) {
            *at = track->next;
            free_track(track);
            chronicle->track_count--;
        } else {
            at = &track->next;
        }
    }
}

static void tell(struct chronicle *chronicle, struct event *event, int64_t now_us)
{
    char says[EVENT_SAYS_BYTES];
    event_verdict(event, says);
    exhaustion_log(&event->last, event->id, says, event->ended_us > 0 ? event->ended_us : now_us);
    enum exhaustion_notice notice = event->last.notice;
    if (notice == EXHAUSTION_END && event->is_asking) {
        event->is_unpublished = true;
    } else if (notice == EXHAUSTION_END || notice == EXHAUSTION_BEGIN) {
        publish(chronicle, event, now_us);
    }
}

static void begin_second(struct chronicle *chronicle, int64_t now_us)
{
    if (chronicle->second == 0) {
        chronicle->begun_us = now_us;
    }
    int64_t last_s = chronicle_time(chronicle, chronicle->second);
    int64_t now_s = (int64_t)time_now();
    chronicle->second++;
    chronicle->times[chronicle->second % RECORDER_SECONDS] =
        now_s > last_s ? now_s : last_s + 1; // a clock may be set back
}

void chronicle_look(struct chronicle *chronicle, const struct gathering *gathering, int64_t now_us)
{
    struct shared *shared = gathering->shared;
    struct look look = {.chronicle = chronicle, .shared = shared, .now_us = now_us};
    look.totals.clients = workers_count_clients(gathering->workers, gathering->worker_count);
    look.totals.accepted = atomic_load(&shared->next_client_id);
    count_pins(&shared->affinity, &look.totals, now_us);
    begin_second(chronicle, now_us);
    servers_visit(chronicle->servers, look_at, &look);
    forget_gone(chronicle);
    publish_late(chronicle, now_us);
}

uint64_t chronicle_second(const struct chronicle *chronicle)
{
    return chronicle->second;
}

int64_t chronicle_time(const struct chronicle *chronicle, uint64_t second)
{
    return chronicle->times[second % RECORDER_SECONDS];
}

void chronicle_sum(const struct chronicle *chronicle, const struct server *server, int64_t from_us,
                   struct recorder_span *ret_span)
{
    const struct track *track = known_track(chronicle, server->id);
    *ret_span = (struct recorder_span){0};
    if (track) {
        recorder_sum(track->recorder, from_us, INT64_MAX, ret_span);
    }
}

void chronicle_visit(const struct chronicle *chronicle,
                     void (*fn)(const char *server, const struct recorder *recorder, uint64_t last,
                                void *arg),
                     void *arg)
{
    for (const struct track *at = chronicle->tracks; at; at = at->next) {
        fn(at->server[0] ? at->server : "(none)", at->recorder, at->seen, arg);
    }
}

// --- reports ------------------------------------------------------------------------------------

static void judge_if(struct server *server, void *arg)
{
    struct look *look = arg;
    struct track *track = find_track(look->chronicle, server->id);
    if (track->event) {
        judge(server, track, look->now_us);
    }
}

void chronicle_note(struct chronicle *chronicle, const struct exhaustion_report *report,
                    int64_t now_us)
{
    if (chronicle->is_closed) {
        return;
    }
    struct track *track = find_track(chronicle, report->server_id);
    struct event *event = track->event;
    if (report->notice != EXHAUSTION_BEGIN && !event) { // it has ended, or made room for others
        exhaustion_log(report, NULL, NULL,
                       report->notice == EXHAUSTION_END ? report->exhaustion.last_seen_us : now_us);
        return;
    }
    if (report->notice == EXHAUSTION_BEGIN) {
        event = begin(chronicle, track, report, now_us);
    }
    event->last = *report;
    if (report->counts.queued > event->worst.counts.queued) {
        event->worst = *report;
        event->worst_time = time_now();
    }
    if (report->notice == EXHAUSTION_END) {
        event->ended_us = report->exhaustion.last_seen_us;
    }
    struct look look = {.chronicle = chronicle, .now_us = now_us};
    servers_visit(chronicle->servers, judge_if, &look);
    if (report->notice == EXHAUSTION_END) {
        track->event = NULL;
    }
    tell(chronicle, event, now_us);
}

void chronicle_hear(struct chronicle *chronicle, struct inquest *inquest, int64_t now_us)
{
    struct event *event = find_event(chronicle, inquest->event);
    if (event) {
        evidence_take(&event->evidence, &inquest->consult, inquest->shape, time_now());
        event->is_asking = false;
        if (event->is_unpublished) {
            publish_end(chronicle, event, now_us);
        }
    }
    free(inquest);
}

static void look_last(struct server *server, void *arg)
{
    const struct look *look = arg;
    struct track *track = find_track(look->chronicle, server->id);
    if (track->event) {
        look_closer(server, track, &look->shared->affinity, look->now_us);
    }
}

static void cut_off(struct chronicle *chronicle, struct event *event, int64_t now_us)
{
    event->ended_us = now_us;
    event->last.notice = EXHAUSTION_END;
    event->last.ended = "weir stopped";
    tell(chronicle, event, now_us);
}

void chronicle_close(const struct gathering *gathering, int64_t now_us)
{
    struct chronicle *chronicle = gathering->chronicle;
    struct look look = {.chronicle = chronicle, .shared = gathering->shared, .now_us = now_us};
    servers_visit(chronicle->servers, look_last, &look);
    for (struct track *track = chronicle->tracks; track; track = track->next) {
        if (track->event) {
            cut_off(chronicle, track->event, now_us);
            track->event = NULL;
        }
    }
    publish_late(chronicle, INT64_MAX);
    chronicle->is_closed = true;
}

void chronicle_put(struct chronicle *chronicle, struct picture *picture, int64_t now_us)
{
    size_t first = chronicle->count > EVENTS ? chronicle->count - EVENTS : 0;
    for (size_t i = first; i < chronicle->count; i++) {
        event_put(chronicle->events[i % EVENTS], &picture->rows[STATE_exhaustions], now_us);
    }
}

// --- of now -------------------------------------------------------------------------------------

struct judgement {
    struct look look;
    struct buffer *out;
};

// What a verdict of now is about, if nothing has run out: no more than there was.
static int64_t lately_us(const struct chronicle *chronicle, int64_t now_us)
{
    int64_t known_us = chronicle->second > 0 ? now_us - chronicle->begun_us : 0;
    return known_us < LATELY_US ? known_us : LATELY_US;
}

// Judged as if it had begun then.
static void put_calm(struct server *server, const struct judgement *judgement)
{
    const struct look *look = &judgement->look;
    struct track *track = find_track(look->chronicle, server->id);
    struct event *event = xcalloc(1, sizeof *event);
    int64_t lately = lately_us(look->chronicle, look->now_us);
    track->event = event;
    snprintf(event->id, sizeof event->id, "now");
    event->is_calm = true;
    event->begun_us = look->now_us - lately;
    event->begun_time = time_now() - (double)lately / 1e6;
    event->worst_time = time_now();
    memcpy(event->first.server, server->name, sizeof event->first.server);
    (void)server_peek(server, &event->first, look->now_us);
    struct server_counts counts;
    server_count(server, look->now_us, &counts);
    trouble_say(&counts, event->trouble);
    event->first.exhaustion = (struct exhaustion){0};
    event->worst = event->first;
    event->last = event->first;
    look_closer(server, track, &look->shared->affinity, look->now_us);
    event->asked_before = event->asked;
    event_put(event, judgement->out, look->now_us);
    track->event = NULL;
    event_free(event);
}

static void put_verdict(struct server *server, void *arg)
{
    const struct judgement *judgement = arg;
    const struct look *look = &judgement->look;
    struct track *track = find_track(look->chronicle, server->id);
    if (server == look->shared->servers->lobby) {
        return; // no server, and nothing to run out of
    }
    if (track->event) {
        look_closer(server, track, &look->shared->affinity, look->now_us);
        event_put(track->event, judgement->out, look->now_us);
    } else {
        put_calm(server, judgement);
    }
}

void chronicle_put_verdicts(const struct gathering *gathering, struct buffer *out)
{
    struct judgement judgement = {
        .look = {gathering->chronicle, gathering->shared, .now_us = gathering->now_us},
        .out = out,
    };
    servers_visit(gathering->shared->servers, put_verdict, &judgement);
}

void chronicle_free(struct chronicle *chronicle)
{
    for (struct track *next, *track = chronicle->tracks; track; track = next) {
        next = track->next;
        free_track(track);
    }
    for (size_t i = 0; i < EVENTS; i++) {
        event_free(chronicle->events[i]);
    }
    free(chronicle);
}
