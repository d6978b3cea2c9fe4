// SPDX-License-Identifier: Apache-2.0

#include "proxy/admin/history.h"

#include <bson/bson.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/mem.h"

enum figure {
    FIGURE_CAP,
    FIGURE_LIMIT,
    FIGURE_IN_FLIGHT,
    FIGURE_IN_FLIGHT_SLOW,
    FIGURE_IN_FLIGHT_STREAMS,
    FIGURE_WAITING,
    FIGURE_GRANTED, // in this second, like
    FIGURE_SHED,
    FIGURE_EXHAUSTED,
    FIGURE_COUNT,
};

// As in state_table.h, where the table has them.
static const char *const figure_names[] = {
    [FIGURE_CAP] = "cap",
    [FIGURE_LIMIT] = "limit",
    [FIGURE_IN_FLIGHT] = "inFlight",
    [FIGURE_IN_FLIGHT_SLOW] = "inFlightSlow",
    [FIGURE_IN_FLIGHT_STREAMS] = "inFlightStreams",
    [FIGURE_WAITING] = "waiting",
    [FIGURE_GRANTED] = "granted",
    [FIGURE_SHED] = "shed",
    [FIGURE_EXHAUSTED] = "exhausted",
};

struct past {
    uint32_t id;   // of the server
    uint64_t seen; // in which second last; 0: this place is free
    char name[280];
    uint64_t granted; // up to then
    uint64_t shed;
    int32_t figures[HISTORY_SECONDS][FIGURE_COUNT];
};

struct history {
    uint64_t second;
    int64_t times[HISTORY_SECONDS];
    struct past *pasts[HISTORY_SERVERS]; // made when needed
};

struct history *history_new(void)
{
    return xcalloc(1, sizeof(struct history));
}

void history_free(struct history *history)
{
    for (int i = 0; history && i < HISTORY_SERVERS; i++) {
        free(history->pasts[i]);
    }
    free(history);
}

uint64_t history_second(const struct history *history)
{
    return history->second;
}

static bool is_past(const struct history *history, const struct past *past)
{
    return !past || past->seen + HISTORY_SECONDS <= history->second;
}

// A place for a server that has none: NULL if all are taken.
static struct past *past_new(struct history *history, const struct server *server)
{
    for (int i = 0; i < HISTORY_SERVERS; i++) {
        if (is_past(history, history->pasts[i])) {
            free(history->pasts[i]);
            struct past *past = xcalloc(1, sizeof *past);
            past->id = server->id;
            memcpy(past->name, server->name, sizeof past->name);
            history->pasts[i] = past;
            return past;
        }
    }
    return NULL;
}

static struct past *past_of(struct history *history, const struct server *server)
{
    for (int i = 0; i < HISTORY_SERVERS; i++) {
        struct past *past = history->pasts[i];
        if (past && past->id == server->id) {
            return past;
        }
    }
    return past_new(history, server);
}

struct sampling {
    struct history *history;
    int64_t now_us;
};

static void sample_server(struct server *server, void *arg)
{
    const struct sampling *sampling = arg;
    struct history *history = sampling->history;
    struct server_counts counts;
    struct past *past = past_of(history, server);
    if (!past) {
        return;
    }
    server_count(server, sampling->now_us, &counts);
    const struct gate_counts *gate = &counts.gate;
    uint64_t shed = gate_counts_refused(gate);
    bool known = past->seen > 0; // what was before it was seen was not in this second
    int32_t *figures = past->figures[history->second % HISTORY_SECONDS];
    figures[FIGURE_CAP] = counts.cap;
    figures[FIGURE_LIMIT] = gate->limit;
    figures[FIGURE_IN_FLIGHT] = gate->in_flight;
    figures[FIGURE_IN_FLIGHT_SLOW] = gate->in_flight_slow;
    figures[FIGURE_IN_FLIGHT_STREAMS] = gate->in_flight_streams;
    figures[FIGURE_WAITING] = (int32_t)gate->queued;
    figures[FIGURE_GRANTED] = known ? (int32_t)(gate->granted - past->granted) : 0;
    figures[FIGURE_SHED] = known ? (int32_t)(shed - past->shed) : 0;
    figures[FIGURE_EXHAUSTED] = counts.exhausted;
    past->granted = gate->granted;
    past->shed = shed;
    past->seen = history->second;
}

void history_sample(struct history *history, struct servers *servers, int64_t now_us,
                    int64_t time_s)
{
    struct sampling sampling = {history, now_us};
    int64_t last_s = history->times[history->second % HISTORY_SECONDS];
    history->second++;
    size_t place = history->second % HISTORY_SECONDS;
    history->times[place] = time_s > last_s ? time_s : last_s + 1; // a clock may be set back
    for (int i = 0; i < HISTORY_SERVERS; i++) {
        if (history->pasts[i]) {
            memset(history->pasts[i]->figures[place], 0, sizeof history->pasts[i]->figures[place]);
        }
    }
    servers_visit(servers, sample_server, &sampling);
}

// --- JSON ---------------------------------------------------------------------------------------

// A list by `value` of each second from `first` on.
#define APPEND_LIST(document, name, type, value)                                                   \
    do {                                                                                           \
        bson_t list;                                                                               \
        uint32_t index = 0;                                                                        \
        bson_append_array_begin(document, name, -1, &list);                                        \
        for (uint64_t at = first; at <= history->second; at++, index++) {                          \
            const char *key;                                                                       \
            char room[16];                                                                         \
            size_t key_len = bson_uint32_to_string(index, &key, room, sizeof room);                \
            bson_append_##type(&list, key, (int)key_len, value);                                   \
        }                                                                                          \
        bson_append_array_end(document, &list);                                                    \
    } while (0)

static void append_past(const struct history *history, const struct past *past, uint64_t first,
                        bson_t *document)
{
    bson_append_utf8(document, "_id", -1, past->name[0] ? past->name : "(none)", -1);
    for (int figure = 0; figure < FIGURE_COUNT; figure++) {
        APPEND_LIST(document, figure_names[figure], int32,
                    past->figures[at % HISTORY_SECONDS][figure]);
    }
}

static void append_pasts(const struct history *history, uint64_t first, bson_t *document)
{
    bson_t servers;
    bson_append_array_begin(document, "servers", -1, &servers);
    for (int i = 0; i < HISTORY_SERVERS; i++) {
        const struct past *past = history->pasts[i];
        if (!is_past(history, past) && past->seen >= first) {
            bson_t server;
            bson_append_document_begin(&servers, "0", -1, &server); // JSON has no such keys
            append_past(history, past, first, &server);
            bson_append_document_end(&servers, &server);
        }
    }
    bson_append_array_end(document, &servers);
}

void history_print(const struct history *history, bool last_only, struct buffer *out)
{
    uint64_t count = last_only ? 1 : HISTORY_SECONDS;
    uint64_t first = history->second > count ? history->second - count + 1 : 1;
    bson_t document;
    size_t len;
    bson_init(&document);
    bson_append_int64(&document, "second", -1, (int64_t)history->second);
    APPEND_LIST(&document, "times", int64, history->times[at % HISTORY_SECONDS]);
    append_pasts(history, first, &document);
    char *json = bson_as_relaxed_extended_json(&document, &len);
    buffer_append(out, json, len);
    bson_free(json);
    bson_destroy(&document);
}
