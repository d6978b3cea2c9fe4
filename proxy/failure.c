// SPDX-License-Identifier: Apache-2.0

#include "proxy/failure.h"

#include <stdio.h>

#include "policy/defect.h"
#include "proxy/route.h"
#include "proxy/rule_text.h"
#include "proxy/users.h"
#include "wire/error_code.h"

#define CODE_OVERLOADED CODE_INGRESS_REQUEST_RATE_LIMIT_EXCEEDED
#define LABELS_OVERLOADED (LABEL_SYSTEM_OVERLOADED | LABEL_RETRYABLE)

// How soon somebody's connection ends, or takes what it has asked for, nobody can tell.
#define UNKNOWABLE_BACKOFF_MS 1000

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
        error->code = CODE_FAILED_TO_SATISFY_READ_PREFERENCE;
        error->message = "weir: no server matches the read preference; nothing was sent";
        return;
    }
    error->code = request->command.cursor_id ? CODE_CURSOR_NOT_FOUND : CODE_HOST_UNREACHABLE;
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
        error->code = CODE_NO_SUCH_TRANSACTION;
        error->message = "weir: the transaction's server is not the primary any more, or its "
                         "connection is gone: it was aborted; nothing was sent";
        error->labels =
            command_ends_transaction(&request->command) ? 0 : LABEL_TRANSIENT_TRANSACTION;
        return;
    }
    error->code = CODE_CURSOR_NOT_FOUND;
    error->message = "weir: the cursor's server is gone, or its connection is; nothing was sent";
}

static void describe_lost(const struct request *request, struct reply_error *error)
{
    bool read = (request->command.info->traits & COMMAND_READ) && !request->command.writes_out;
    error->code = request->command.cursor_id ? CODE_CURSOR_NOT_FOUND : CODE_HOST_UNREACHABLE;
    error->message = read ? "weir: the connection to the server was lost before its reply came"
                          : "weir: the connection to the server was lost before its reply came; "
                            "outcome unknown";
    error->labels = labels_when_lost(request);
}

// As a server's own killOp would, and with no label: what ran away once is not tried again.
static void describe_killed(const struct request *request, struct reply_error *error)
{
    bool sent = (request->send_begun || request->in_doubt) && !DEFECT(KILLED_AS_NOT_SENT);
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
    if (request->verdict.answer == RULE_THROTTLES) {
        error->labels |= LABEL_RETRYABLE;
        error->base_backoff_ms = rule_backoff_ms(request);
    } else if (rule_ends_us(request->verdict.rule) == 0) {
        error->code = CODE_QUERY_REJECTED_BY_SETTINGS;
        error->labels = 0;
    }
}

// What each is answered with; where that depends, failure_describe says on what.
static const struct {
    const char *word; // for metrics
    int32_t code;
    unsigned labels;
    int64_t backoff_ms;
    const char *message;
} failures[FAILURE_COUNT] = {
    [FAILURE_BAD_MESSAGE] = {.word = "bad_message"},
    [FAILURE_LOGIN] = {.word = "not_logged_in", .code = CODE_UNAUTHORIZED},
    [FAILURE_ACCESS] = {.word = "not_authorized", .code = CODE_UNAUTHORIZED},
    [FAILURE_FOREIGN] = {.word = "foreign_cursor"},
    [FAILURE_USER_BUSY] =
        {.word = "user_busy",
         .code = CODE_OVERLOADED,
         .labels = LABELS_OVERLOADED,
         .message = "weir: overloaded, this user has as many operations under way as it may "
                    "(maxInFlight); nothing was executed"},
    [FAILURE_RULE] = {.word = "rule", .code = CODE_OVERLOADED, .labels = LABEL_SYSTEM_OVERLOADED},
    [FAILURE_NO_PLACE] = {.word = "no_place",
                          .code = CODE_OVERLOADED,
                          .labels = LABELS_OVERLOADED,
                          .backoff_ms = UNKNOWABLE_BACKOFF_MS,
                          .message =
                              "weir: overloaded, more connections than net.maxIncomingConnections; "
                              "nothing was executed"},
    [FAILURE_NO_MEMORY] = {.word = "no_memory",
                           .code = CODE_OVERLOADED,
                           .labels = LABELS_OVERLOADED,
                           .backoff_ms = UNKNOWABLE_BACKOFF_MS,
                           .message =
                               "weir: overloaded, no memory came free for the message in time "
                               "(net.maxBufferedBytes); nothing was executed"},
    [FAILURE_SHED] = {.word = "shed", .code = CODE_OVERLOADED, .labels = LABELS_OVERLOADED},
    [FAILURE_DEADLINE] = {.word = "deadline",
                          .code = CODE_MAX_TIME_MS_EXPIRED,
                          .message =
                              "weir: maxTimeMS passed while the operation waited for a connection; "
                              "nothing was executed"},
    [FAILURE_NO_SERVER] = {.word = "no_server"},
    [FAILURE_AFFINITY_LOST] = {.word = "affinity_lost"},
    [FAILURE_STALENESS] = {.word = "staleness",
                           .code = CODE_MAX_STALENESS_OUT_OF_RANGE,
                           .message =
                               "weir: maxStalenessSeconds must be at least 90; nothing was sent"},
    [FAILURE_UPSTREAM_LOST] = {.word = "connection_lost"},
    [FAILURE_BAD_REPLY] = {.word = "bad_reply"},
    [FAILURE_KILLED] = {.word = "killed", .code = CODE_INTERRUPTED},
};

void failure_describe(const struct request *request, struct reply_error *error, char *words)
{
    error->code = failures[request->failure].code;
    error->labels = failures[request->failure].labels;
    error->base_backoff_ms = failures[request->failure].backoff_ms;
    error->message = failures[request->failure].message;
    switch (request->failure) {
    case FAILURE_LOGIN:
    case FAILURE_ACCESS:
        error->message = request->problem;
        break;
    case FAILURE_FOREIGN:
        error->code = request->command.cursor_id ? CODE_CURSOR_NOT_FOUND : CODE_UNAUTHORIZED;
        error->message = request->problem;
        break;
    case FAILURE_BAD_MESSAGE:
        error->code = wire_error_code(request->wire_error);
        error->message = wire_error_text(request->wire_error);
        break;
    case FAILURE_RULE:
        describe_rule(request, error, words);
        break;
    case FAILURE_SHED:
        describe_shed(request, error);
        break;
    case FAILURE_NO_SERVER:
        describe_no_server(request, error);
        break;
    case FAILURE_AFFINITY_LOST:
        describe_affinity_lost(request, error);
        break;
    case FAILURE_UPSTREAM_LOST:
    case FAILURE_BAD_REPLY:
        describe_lost(request, error);
        break;
    case FAILURE_KILLED:
        describe_killed(request, error);
        break;
    default:
        break;
    }
}

const char *failure_text(enum request_failure failure)
{
    return failures[failure].word;
}
