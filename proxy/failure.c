// SPDX-License-Identifier: Apache-2.0

#include "proxy/failure.h"

#include <stdio.h>

#include "policy/defect.h"
#include "proxy/route.h"
#include "proxy/rule_text.h"
#include "proxy/users.h"

// Labels for a request whose server could not be reached or was lost.
static unsigned labels_when_lost(const struct request *request)
{
    if (command_ends_transaction(&request->command) ||
        command_is_retryable_write(&request->command)) {
        return LABEL_RETRYABLE_WRITE;
    }
    return request->command.in_transaction ? LABEL_TRANSIENT_TRANSACTION : 0;
}

static void describe_no_server(const struct request *request, struct reply_error *error)
{
    if (route_is_too_choosy(request)) {
        error->code = 133;
        error->message = "weir: no server matches the read preference; nothing was sent";
        return;
    }
    error->code = request->command.cursor_id ? 43 : 6;
    error->message =
        request->identity == 0 && atomic_load(&request->server->locked_out)
            ? "weir: cannot log in to the server (weir's log says why); nothing was sent"
            : "weir: the server cannot be reached; nothing was sent";
    error->labels = labels_when_lost(request);
    if (error->labels & LABEL_RETRYABLE_WRITE) {
        error->labels |= LABEL_NO_WRITES_PERFORMED;
    }
}

static void describe_affinity_lost(const struct request *request, struct reply_error *error)
{
    if (request->command.in_transaction) {
        error->code = 251;
        error->message = "weir: the transaction's server is not the primary any more, or its "
                         "connection is gone: it was aborted; nothing was sent";
        error->labels =
            command_ends_transaction(&request->command) ? 0 : LABEL_TRANSIENT_TRANSACTION;
        return;
    }
    error->code = 43;
    error->message = "weir: the cursor's server is gone, or its connection is; nothing was sent";
}

static void describe_lost(const struct request *request, struct reply_error *error)
{
    bool read = (request->command.info->traits & COMMAND_READ) && !request->command.writes_out;
    error->code = request->command.cursor_id ? 43 : 6;
    error->message = read ? "weir: the connection to the server was lost before its reply came"
                          : "weir: the connection to the server was lost before its reply came; "
                            "outcome unknown";
    error->labels = labels_when_lost(request);
}

// As a server's own killOp would, and with no label: what ran away once is not tried again.
static void describe_killed(const struct request *request, struct reply_error *error)
{
    bool sent = (request->send_begun || request->in_doubt) && !DEFECT(KILLED_AS_NOT_SENT);
    error->code = 11601;
    if (!request->kill_why) {
        error->message = "weir: operation was interrupted: it ran for longer than it may "
                         "(admission.killAfter); outcome unknown";
    } else if (sent) {
        error->message = "weir: operation was interrupted: it was killed; outcome unknown";
    } else {
        error->message = "weir: operation was interrupted: it was killed; nothing was executed";
    }
}

static const char *why_shed(enum refusal refusal)
{
    switch (refusal) {
    case REFUSED_QUEUE_FULL:
        return "weir: overloaded, too many operations wait for a connection; nothing was executed";
    case REFUSED_HOPELESS:
        return "weir: overloaded, the operation would not begin within its maxTimeMS; nothing was "
               "executed";
    case REFUSED_PINNED:
        return "weir: overloaded, too many cursors and transactions keep a connection; nothing was "
               "executed";
    default:
        return "weir: overloaded, no connection came free in time; nothing was executed";
    }
}

static void describe_shed(const struct request *request, struct reply_error *error)
{
    error->code = 462;
    error->labels = LABEL_SYSTEM_OVERLOADED | LABEL_RETRYABLE;
    error->base_backoff_ms = server_backoff_ms(request->server, request, request->now_us);
    error->message = why_shed(request->ticket.refusal);
}

static const char *explain_rule(const struct request *request, char *words)
{
    const struct rule *rule = request->verdict.rule;
    const char *why = rule_why(rule);
    char ends[RULE_END_BYTES];
    rule_end_words(rule, request->now_us, ends);
    snprintf(words, FAILURE_WORDS_BYTES, "weir: %s by rule %lld (%s%s%s); nothing was executed",
             request->verdict.answer == RULE_DENIES ? "denied" : "throttled",
             (long long)rule_id(rule), why, why[0] ? "; " : "", ends);
    return words;
}

// When a throttled one may come again; 0: no saying.
static int64_t rule_backoff_ms(const struct request *request)
{
    int64_t wait_us = request->verdict.retry_us - request->now_us;
    return request->verdict.retry_us == 0 ? 0 : wait_us > 100000 ? wait_us / 1000 : 100;
}

// What is denied for a time only is overload, but nothing to retry; what is throttled is both.
static void describe_rule(const struct request *request, struct reply_error *error, char *words)
{
    error->message = explain_rule(request, words);
    error->code = 462;
    error->labels = LABEL_SYSTEM_OVERLOADED;
    if (request->verdict.answer == RULE_THROTTLES) {
        error->labels |= LABEL_RETRYABLE;
        error->base_backoff_ms = rule_backoff_ms(request);
    } else if (rule_ends_us(request->verdict.rule) == 0) {
        error->code = 411;
        error->labels = 0;
    }
}

// How soon somebody's connection ends, or takes what it has asked for, nobody can tell.
#define NO_PLACE_BACKOFF_MS 1000
#define NO_MEMORY_BACKOFF_MS 1000

void failure_describe(const struct request *request, struct reply_error *error, char *words)
{
    switch (request->failure) {
    case FAILURE_LOGIN:
    case FAILURE_ACCESS:
        error->code = 13;
        error->message = request->problem;
        break;
    case FAILURE_FOREIGN:
        error->code = request->command.cursor_id ? 43 : 13;
        error->message = request->problem;
        break;
    case FAILURE_USER_BUSY:
        error->code = 462;
        error->labels = LABEL_SYSTEM_OVERLOADED | LABEL_RETRYABLE;
        error->message = "weir: overloaded, this user has as many operations under way as it may "
                         "(maxInFlight); nothing was executed";
        break;
    case FAILURE_BAD_MESSAGE:
        error->code = wire_error_code(request->wire_error);
        error->message = wire_error_text(request->wire_error);
        break;
    case FAILURE_RULE:
        describe_rule(request, error, words);
        break;
    case FAILURE_NO_PLACE:
        error->code = 462;
        error->labels = LABEL_SYSTEM_OVERLOADED | LABEL_RETRYABLE;
        error->base_backoff_ms = NO_PLACE_BACKOFF_MS;
        error->message = "weir: overloaded, more connections than net.maxIncomingConnections; "
                         "nothing was executed";
        break;
    case FAILURE_NO_MEMORY:
        error->code = 462;
        error->labels = LABEL_SYSTEM_OVERLOADED | LABEL_RETRYABLE;
        error->base_backoff_ms = NO_MEMORY_BACKOFF_MS;
        error->message = "weir: overloaded, no memory came free for the message in time "
                         "(net.maxBufferedBytes); nothing was executed";
        break;
    case FAILURE_SHED:
        describe_shed(request, error);
        break;
    case FAILURE_DEADLINE:
        error->code = 50;
        error->message = "weir: maxTimeMS passed while the operation waited for a connection; "
                         "nothing was executed";
        break;
    case FAILURE_NO_SERVER:
        describe_no_server(request, error);
        break;
    case FAILURE_AFFINITY_LOST:
        describe_affinity_lost(request, error);
        break;
    case FAILURE_STALENESS:
        error->code = 160;
        error->message = "weir: maxStalenessSeconds must be at least 90; nothing was sent";
        break;
    case FAILURE_UPSTREAM_LOST:
    case FAILURE_BAD_REPLY:
        describe_lost(request, error);
        break;
    case FAILURE_KILLED:
        describe_killed(request, error);
        break;
    case FAILURE_NONE:
    case FAILURE_COUNT:
        break;
    }
}

const char *failure_text(enum request_failure failure)
{
    static const char *const texts[FAILURE_COUNT] = {
        [FAILURE_BAD_MESSAGE] = "bad_message",
        [FAILURE_LOGIN] = "not_logged_in",
        [FAILURE_ACCESS] = "not_authorized",
        [FAILURE_FOREIGN] = "foreign_cursor",
        [FAILURE_USER_BUSY] = "user_busy",
        [FAILURE_RULE] = "rule",
        [FAILURE_NO_PLACE] = "no_place",
        [FAILURE_SHED] = "shed",
        [FAILURE_NO_MEMORY] = "no_memory", // of net.maxBufferedBytes, for the whole message
        [FAILURE_DEADLINE] = "deadline",
        [FAILURE_NO_SERVER] = "no_server",
        [FAILURE_AFFINITY_LOST] = "affinity_lost",
        [FAILURE_STALENESS] = "staleness",
        [FAILURE_UPSTREAM_LOST] = "connection_lost",
        [FAILURE_BAD_REPLY] = "bad_reply",
        [FAILURE_KILLED] = "killed",
    };
    return texts[failure];
}
