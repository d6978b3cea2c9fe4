// SPDX-License-Identifier: Apache-2.0

#include "proxy/exhaustion_log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proxy/inquiry.h"
#include "proxy/log.h"
#include "proxy/mem.h"
#include "proxy/request.h"
#include "wire/shape.h"

static void describe_holder(struct holder *holder, const struct request *request, int64_t now_us)
{
    shape_text(&request->msg, &request->command, holder->shape, sizeof holder->shape);
    holder->shape_id = shape_id(&request->msg, &request->command);
    memcpy(holder->app_name, request->app_name, sizeof holder->app_name);
    memcpy(holder->tenant, request->tenant.name, sizeof holder->tenant);
    memcpy(holder->peer, request->peer, sizeof holder->peer);
    request_namespace(request, holder->namespace, sizeof holder->namespace);
    holder->user[0] = '\0';
    if (request->user) {
        snprintf(holder->user, sizeof holder->user, "%.63s", request->user->spec.name);
    }
    holder->client_id = request->client_id;
    holder->age_us = now_us - request->ticket.granted_us;
}

static void describe_holders(struct exhaustion_report *report, const struct server *server,
                             int64_t now_us)
{
    const struct ticket *ticket = gate_oldest(server->gate);
    gate_find_majority(server->gate, now_us, &report->majority);
    report->holder_count = 0;
    for (; ticket && report->holder_count < EXHAUSTION_HOLDERS; ticket = ticket->next) {
        describe_holder(&report->holders[report->holder_count++], request_of_ticket(ticket),
                        now_us);
    }
}

void exhaustion_peek(struct server *server, struct exhaustion_report *report, int64_t now_us)
{
    gate_count(server->gate, now_us, &report->counts);
    report->exhaustion = server->exhaustion;
    report->shed_for_good = server->shed_for_good;
    describe_holders(report, server, now_us);
}

void exhaustion_look(struct server *server, struct exhaustion_report *report, int64_t now_us)
{
    gate_count(server->gate, now_us, &report->counts);
    bool gone = atomic_load(&server->is_gone);
    report->notice = gone ? exhaustion_stop(&server->exhaustion)
                          : exhaustion_update(&server->exhaustion, &report->counts, now_us);
    report->ended = report->notice != EXHAUSTION_END ? NULL : gone ? "server left" : "calm";
    report->exhaustion = server->exhaustion;
    report->holder_count = 0;
    if (report->notice == EXHAUSTION_NOTHING) {
        return;
    }
    memcpy(report->server, server->name, sizeof report->server);
    report->server_id = server->id;
    report->shed_for_good = server->shed_for_good;
    if (report->notice == EXHAUSTION_END) {
        server->shed_for_good = 0;
    }
    describe_holders(report, server, now_us);
}

static void log_holders(struct log_line *line, const struct exhaustion_report *report)
{
    for (int i = 0; i < report->holder_count; i++) {
        const struct holder *holder = &report->holders[i];
        char key[16];
        char text[384];
        snprintf(key, sizeof key, "holder%c", '1' + i);
        snprintf(text, sizeof text,
                 "%.160s shape_id=%016" PRIx64 " app=%.48s client=%llu held_ms=%lld tenant=%.48s",
                 holder->shape, holder->shape_id, holder->app_name,
                 (unsigned long long)holder->client_id, (long long)(holder->age_us / 1000),
                 holder->tenant);
        log_str(line, key, text);
    }
}

void exhaustion_tell(const struct exhaustion_report *report, struct worker *worker, int64_t now_us)
{
    if (report->notice == EXHAUSTION_NOTHING) {
        return;
    }
    if (!worker->shared->observer) {
        exhaustion_log(report, NULL, NULL,
                       report->notice == EXHAUSTION_END ? report->exhaustion.last_seen_us : now_us);
        return;
    }
    struct exhaustion_report *copy = xcalloc(1, sizeof *copy);
    *copy = *report;
    copy->mail.kind = OBSERVER_EXHAUSTION;
    mailbox_post(worker->shared->observer, &copy->mail);
}

void exhaustion_log(const struct exhaustion_report *report, const char *id, const char *verdict,
                    int64_t until_us)
{
    static const char *const events[] = {
        [EXHAUSTION_BEGIN] = "exhaustion_begin",
        [EXHAUSTION_STILL] = "exhaustion_still",
        [EXHAUSTION_END] = "exhaustion_end",
    };
    const struct gate_counts *counts = &report->counts;
    struct log_line line;
    log_begin(&line, report->notice == EXHAUSTION_END ? LOG_INFO : LOG_WARN,
              events[report->notice]);
    log_str(&line, "server", report->server);
    log_str(&line, "id", id);
    log_str(&line, "verdict", verdict);
    log_str(&line, "ended", report->ended);
    log_int(&line, "cap", counts->cap);
    log_int(&line, "limit", counts->limit);
    log_int(&line, "in_flight", counts->in_flight);
    log_int(&line, "in_flight_slow", counts->in_flight_slow);
    log_int(&line, "slow_limit", counts->slow_limit);
    log_int(&line, "in_flight_streams", counts->in_flight_streams);
    log_int(&line, "waiting", (int64_t)counts->queued);
    log_int(&line, "longest_wait_ms", report->exhaustion.longest_wait_us / 1000);
    log_int(&line, "lasted_ms", (until_us - report->exhaustion.begun_us) / 1000);
    for (int i = 0; i < REFUSAL_COUNT; i++) {
        char key[32];
        snprintf(key, sizeof key, "shed_%s", refusal_text((enum refusal)i));
        log_int(&line, key, (int64_t)exhaustion_refused(&report->exhaustion, (enum refusal)i));
    }
    log_int(&line, "shed_without_backoff", (int64_t)report->shed_for_good);
    log_holders(&line, report);
    log_end(&line);
}
