// SPDX-License-Identifier: Apache-2.0

#include "proxy/admin/history.h"

#include <bson/bson.h>

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

static int64_t figure_of(const struct recorder_second *second, enum figure figure)
{
    const struct gate_counts *gate = &second->totals.gate;
    const int64_t figures[] = {
        [FIGURE_CAP] = second->totals.cap,
        [FIGURE_LIMIT] = gate->limit,
        [FIGURE_IN_FLIGHT] = gate->in_flight,
        [FIGURE_IN_FLIGHT_SLOW] = gate->in_flight_slow,
        [FIGURE_IN_FLIGHT_STREAMS] = gate->in_flight_streams,
        [FIGURE_WAITING] = (int64_t)gate->queued,
        [FIGURE_GRANTED] = (int64_t)gate->granted,
        [FIGURE_SHED] = (int64_t)gate_counts_refused(gate),
        [FIGURE_EXHAUSTED] = second->totals.exhausted,
    };
    return figures[figure];
}

// What is printed, from which second on until which.
struct printing {
    const struct chronicle *chronicle;
    uint64_t first;
    uint64_t second;
    bson_t *list;
};

static void append_number(bson_t *list, uint32_t place, int64_t number)
{
    const char *key;
    char room[16];
    size_t len = bson_uint32_to_string(place, &key, room, sizeof room);
    bson_append_int64(list, key, (int)len, number);
}

static void append_times(const struct printing *printing, bson_t *document)
{
    bson_t times;
    bson_append_array_begin(document, "times", -1, &times);
    for (uint64_t at = printing->first; at <= printing->second; at++) {
        append_number(&times, (uint32_t)(at - printing->first),
                      chronicle_time(printing->chronicle, at));
    }
    bson_append_array_end(document, &times);
}

static void append_figures(const struct printing *printing, const struct recorder *recorder,
                           uint64_t last, enum figure figure, bson_t *server)
{
    bson_t list;
    bson_append_array_begin(server, figure_names[figure], -1, &list);
    for (uint64_t at = printing->first; at <= printing->second; at++) {
        bool known = at <= last && last - at < (uint64_t)recorder_count(recorder);
        append_number(&list, (uint32_t)(at - printing->first),
                      known ? figure_of(recorder_ago(recorder, (int)(last - at)), figure) : 0);
    }
    bson_append_array_end(server, &list);
}

static void append_server(const char *name, const struct recorder *recorder, uint64_t last,
                          void *arg)
{
    const struct printing *printing = arg;
    bson_t server;
    if (last < printing->first || recorder_count(recorder) == 0) {
        return;
    }
    bson_append_document_begin(printing->list, "0", -1, &server); // JSON has no such keys
    bson_append_utf8(&server, "_id", -1, name, -1);
    for (int figure = 0; figure < FIGURE_COUNT; figure++) {
        append_figures(printing, recorder, last, (enum figure)figure, &server);
    }
    bson_append_document_end(printing->list, &server);
}

void history_print(const struct chronicle *chronicle, bool last_only, struct buffer *out)
{
    uint64_t second = chronicle_second(chronicle);
    uint64_t count = last_only ? 1 : RECORDER_SECONDS;
    bson_t document = BSON_INITIALIZER;
    bson_t list;
    size_t len;
    struct printing printing = {chronicle, second > count ? second - count + 1 : 1, second, &list};
    bson_append_int64(&document, "second", -1, (int64_t)second);
    append_times(&printing, &document);
    bson_append_array_begin(&document, "servers", -1, &list);
    chronicle_visit(chronicle, append_server, &printing);
    bson_append_array_end(&document, &list);
    char *json = bson_as_relaxed_extended_json(&document, &len);
    buffer_append(out, json, len);
    bson_free(json);
    bson_destroy(&document);
}
