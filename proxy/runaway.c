// SPDX-License-Identifier: Apache-2.0

#include "proxy/runaway.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/config.h"
#include "proxy/kill.h"
#include "proxy/log.h"
#include "proxy/mem.h"
#include "proxy/request.h"
#include "wire/shape.h"

bool runaway_may_be(const struct request *request)
{
    const struct command *command = &request->command;
    bool waits_for_data = request->bond.streams && command->cursor_id != 0;
    return ((command->info->traits & COMMAND_TIMED) || command->cursor_id != 0) && !waits_for_data;
}

// Not what has been executed and is only still coming.
static bool may_be_killed(const struct request *request)
{
    return request->client_id != 0 && request->step == STEP_RECEIVE && request->reply_bytes == 0 &&
           (request->kill_why || runaway_may_be(request));
}

// Says why, if it has run for as long as somebody allows; else NULL. An emergency also ends what
// was under way when it began.
static const char *why_overdue(const struct request *request, int64_t now_us)
{
    const struct rules *rules = request->worker->rules;
    if (request->kill_why) {
        return request->kill_why;
    }
    const struct {
        int64_t after_us; // 0: never
        const char *why;
    } bounds[] = {
        {request->kill_after_us, "admission.killAfter"},
        {request->verdict.kill_after_us, "killAfter of a rule"},
        {rules ? rules_bounds(rules)->kill_after_us : 0, "emergency.killAfter"},
    };
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        if (bounds[i].after_us > 0 && now_us - request->sent_us >= bounds[i].after_us) {
            return bounds[i].why;
        }
    }
    return NULL;
}

static bool is_overdue(const struct request *request, int64_t now_us)
{
    return why_overdue(request, now_us) != NULL;
}

// A server itself ends the reads of a client that goes away; it cannot see weir's go. What writes
// is let finish: its app may count on it.
static bool is_forsaken(const struct request *request, int64_t now_us)
{
    const struct command *command = &request->command;
    int64_t after_us = request->worker->shared->config->kill_abandoned_after_us;
    bool reads = (command->info->traits & COMMAND_READ) && !command->writes_out;
    return request->abandoned && reads && after_us > 0 &&
           now_us - request->abandoned_us >= after_us;
}

static struct kill *describe(const struct request *request, int64_t now_us)
{
    const struct command *command = &request->command;
    struct kill *kill = xcalloc(1, sizeof *kill);
    snprintf(kill->server, sizeof kill->server, "%s", request->server->name);
    kill->connection = request->upstream->connection;
    kill->has_session = command->lsid_id.len == sizeof kill->session_id;
    if (kill->has_session) {
        memcpy(kill->session_id, command->lsid_id.at, sizeof kill->session_id);
    }
    kill->asked_us = now_us;
    const char *why = why_overdue(request, now_us);
    bool forsaken = request->abandoned && !request->kill_why;
    kill->why = forsaken || !why ? "its client has gone" : why;
    kill->client = (int64_t)request->client_id;
    snprintf(kill->app_name, sizeof kill->app_name, "%s", request->app_name);
    snprintf(kill->namespace, sizeof kill->namespace, "%.*s.%.*s", (int)command->database.len,
             (const char *)command->database.at, (int)command->collection.len,
             (const char *)command->collection.at);
    shape_text(&request->msg, command, kill->shape, sizeof kill->shape);
    kill->age_us = now_us - request->sent_us;
    return kill;
}

// The server did not end it: its connection goes, which mongod takes for a reason to end it, and
// the client need not wait any longer.
static void cut_off(struct request *request, int64_t now_us)
{
    struct kill *kill = describe(request, now_us);
    kill_log(kill, "close", NULL, now_us);
    free(kill);
    request_kill(request);
}

void runaway_check(struct request *request, int64_t now_us)
{
    bool overdue = is_overdue(request, now_us);
    if (!may_be_killed(request) || !(overdue || is_forsaken(request, now_us))) {
        return;
    }
    if (request->kill_asked_us == 0) {
        request->kill_asked_us = now_us;
        control_kill(request->worker->shared->control, describe(request, now_us));
    } else if (overdue && now_us - request->kill_asked_us >= RUNAWAY_PATIENCE_US) {
        cut_off(request, now_us);
    }
}
