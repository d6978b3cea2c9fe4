// SPDX-License-Identifier: Apache-2.0

#include "proxy/top/figures.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/admin/fields.h"
#include "proxy/admin/spread.h"
#include "proxy/mem.h"

// clang-format off
const struct pane panes[PANE_COUNT] = {
    [PANE_SERVERS] = {"servers", "SERVER", 9, {
        {"inFlight", "FLIGHT", CELL_COUNT, 6, false},
        {"limit", "LIMIT", CELL_COUNT, 5, false},
        {"open", "OPEN", CELL_COUNT, 5, false},
        {"cap", "CAP", CELL_COUNT, 5, false},
        {"waiting", "WAIT", CELL_COUNT, 5, false},
        {"grantedPerSecond", "GRANT/S", CELL_RATE, 7, false},
        {"shedPerSecond", "SHED/S", CELL_RATE, 6, false},
        {"kind", "KIND", CELL_TEXT, 10, false},
        {"server", "SERVER", CELL_TEXT, 0, false},
    }},
    [PANE_SHAPES] = {"shapes", "SHAPE", 8, {
        {"connections", "CONNS", CELL_RATE, 6, false},
        {"share", "SHARE", CELL_RATIO, 5, false},
        {"requestsPerSecond", "REQ/S", CELL_RATE, 6, false},
        {"meanHeld", "HELD", CELL_SECONDS, 7, false},
        {"meanWait", "WAIT", CELL_SECONDS, 7, false},
        {"now", "NOW", CELL_COUNT, 5, false},
        {"server", "SERVER", CELL_TEXT, 24, true},
        {"shape", "SHAPE", CELL_TEXT, 0, false},
    }},
    [PANE_APPS] = {"apps", "APP", 5, {
        {"inFlight", "FLIGHT", CELL_COUNT, 6, false},
        {"waiting", "WAIT", CELL_COUNT, 5, false},
        {"held", "HELD", CELL_SECONDS, 7, false},
        {"oldest", "OLDEST", CELL_SECONDS, 7, false},
        {"app", "APP", CELL_TEXT, 0, false},
    }},
    [PANE_TENANTS] = {"tenants", "TENANT", 6, {
        {"inFlight", "FLIGHT", CELL_COUNT, 6, false},
        {"waiting", "WAIT", CELL_COUNT, 5, false},
        {"servedPerSecond", "SERVE/S", CELL_RATE, 7, false},
        {"shedPerSecond", "SHED/S", CELL_RATE, 6, false},
        {"server", "SERVER", CELL_TEXT, 24, true},
        {"tenant", "TENANT", CELL_TEXT, 0, false},
    }},
    [PANE_HOLDERS] = {"requests", "REQUEST", 8, {
        {"held", "HELD", CELL_SECONDS, 7, false},
        {"age", "AGE", CELL_SECONDS, 7, false},
        {"client", "CLIENT", CELL_COUNT, 6, false},
        {"state", "STATE", CELL_TEXT, 8, false},
        {"lane", "LANE", CELL_TEXT, 6, false},
        {"app", "APP", CELL_TEXT, 12, false},
        {"server", "SERVER", CELL_TEXT, 24, true},
        {"shape", "REQUEST", CELL_TEXT, 0, false},
    }},
};
// clang-format on

// --- documents ----------------------------------------------------------------------------------

static double number_of(const bson_t *document, const char *key)
{
    bson_iter_t iter;
    return bson_iter_init_find(&iter, document, key) ? bson_iter_as_double(&iter) : 0;
}

// What a document of counts comes to.
static double sum_of(const bson_t *document, const char *key)
{
    bson_t counts;
    bson_iter_t iter;
    double sum = 0;
    if (field_find(document, key, &counts)) {
        for (bson_iter_init(&iter, &counts); bson_iter_next(&iter);) {
            sum += bson_iter_as_double(&iter);
        }
    }
    return sum;
}

// The documents of a collection, one after the other.
struct walk {
    bson_t list;
    bson_iter_t iter;
    bool there;
};

static void walk_begin(struct walk *walk, const bson_t *state, const char *collection)
{
    walk->there = state && field_find(state, collection, &walk->list) &&
                  bson_iter_init(&walk->iter, &walk->list);
}

static bool walk_next(struct walk *walk, bson_t *ret_document)
{
    while (walk->there && bson_iter_next(&walk->iter)) {
        if (field_open(&walk->iter, ret_document)) {
            return true;
        }
    }
    return false;
}

static size_t count_of(const bson_t *state, const char *collection)
{
    struct walk walk;
    bson_t document;
    size_t count = 0;
    for (walk_begin(&walk, state, collection); walk_next(&walk, &document);) {
        count++;
    }
    return count;
}

static double since(double now, double before)
{
    return now > before ? now - before : 0; // what was forgotten is begun anew
}

static double rate(const struct figures *figures, double now, double before)
{
    return figures->window_s > 0 ? since(now, before) / figures->window_s : 0;
}

static struct record *add(struct figures *figures, enum pane_id pane, size_t room)
{
    struct records *records = &figures->records[pane];
    if (!records->at) {
        records->at = xcalloc(room + 1, sizeof *records->at);
    }
    return &records->at[records->count++];
}

// --- servers ------------------------------------------------------------------------------------

static bool find_before(const bson_t *before, const char *collection, const char *id,
                        bson_t *ret_document)
{
    struct walk walk;
    for (walk_begin(&walk, before, collection); walk_next(&walk, ret_document);) {
        if (strcmp(field_text(ret_document, "_id"), id) == 0) {
            return true;
        }
    }
    return false;
}

static void count_server(struct figures *figures, const bson_t *server)
{
    figures->cap += number_of(server, "cap");
    figures->open += number_of(server, "open");
    figures->idle += number_of(server, "idle");
    figures->limit += number_of(server, "limit");
    figures->in_flight += number_of(server, "inFlight");
    figures->slow += number_of(server, "inFlightSlow");
    figures->streams += number_of(server, "inFlightStreams");
    figures->exhausted += number_of(server, "exhausted") > 0;
    if (number_of(server, "usable") == 0 && field_text(server, "trouble")[0]) {
        figures->trouble = field_text(server, "trouble");
        figures->trouble_at = field_text(server, "_id");
    }
}

static void take_servers(struct figures *figures, const bson_t *before, const bson_t *now)
{
    struct walk walk;
    bson_t server;
    size_t room = count_of(now, "servers");
    for (walk_begin(&walk, now, "servers"); walk_next(&walk, &server);) {
        bson_t old = BSON_INITIALIZER;
        const char *id = field_text(&server, "_id");
        bool known = find_before(before, "servers", id, &old);
        double granted = known ? number_of(&old, "granted") : 0;
        double shed = known ? sum_of(&old, "refused") : 0;
        double shed_rate = rate(figures, sum_of(&server, "refused"), shed);
        double longest = number_of(&server, "longestWait");
        figures->longest_wait_s =
            longest > figures->longest_wait_s ? longest : figures->longest_wait_s;
        figures->waiting += number_of(&server, "waiting");
        figures->shed_rate += shed_rate;
        if (strcmp(id, "(none)") == 0) {
            continue; // the lobby: who waits there counts, it has nothing else
        }
        count_server(figures, &server);
        *add(figures, PANE_SERVERS, room) = (struct record){
            .id = id,
            .cells = {{.number = number_of(&server, "inFlight")},
                      {.number = number_of(&server, "limit")},
                      {.number = number_of(&server, "open")},
                      {.number = number_of(&server, "cap")},
                      {.number = number_of(&server, "waiting")},
                      {.number = rate(figures, number_of(&server, "granted"), granted)},
                      {.number = shed_rate},
                      {.text = field_text(&server, "kind")},
                      {.text = id}},
        };
    }
}

// --- tenants ------------------------------------------------------------------------------------

static void take_tenants(struct figures *figures, const bson_t *before, const bson_t *now)
{
    struct walk walk;
    bson_t tenant;
    size_t room = count_of(now, "tenants");
    for (walk_begin(&walk, now, "tenants"); walk_next(&walk, &tenant);) {
        bson_t old = BSON_INITIALIZER;
        const char *id = field_text(&tenant, "_id");
        bool known = find_before(before, "tenants", id, &old);
        double served = known ? number_of(&old, "served") : 0;
        double shed = known ? number_of(&old, "shed") : 0;
        *add(figures, PANE_TENANTS, room) = (struct record){
            .id = id,
            .cells = {{.number = number_of(&tenant, "inFlight")},
                      {.number = number_of(&tenant, "waiting")},
                      {.number = rate(figures, number_of(&tenant, "served"), served)},
                      {.number = rate(figures, number_of(&tenant, "shed"), shed)},
                      {.text = field_text(&tenant, "server")},
                      {.text = field_text(&tenant, "tenant")}},
        };
    }
}

// --- the fleet ----------------------------------------------------------------------------------

static void take_fleet(struct fleet_figures *fleet, const bson_t *now)
{
    struct walk walk, members;
    bson_t own, member;
    walk_begin(&walk, now, "fleet");
    if (!walk_next(&walk, &own)) {
        return;
    }
    fleet->state = field_text(&own, "state");
    fleet->store_up = number_of(&own, "up") > 0;
    fleet->allowed = number_of(&own, "allowed");
    fleet->cap = number_of(&own, "cap");
    fleet->held = number_of(&own, "held");
    fleet->need = number_of(&own, "need");
    fleet->last_answer_s = number_of(&own, "lastAnswer");
    for (walk_begin(&members, &own, "members"); walk_next(&members, &member);) {
        fleet->members++;
        fleet->held_by_all += number_of(&member, "held");
    }
}

// --- exhaustions --------------------------------------------------------------------------------

static void take_exhaustions(struct figures *figures, const bson_t *now, double time_s)
{
    struct exhaustion_seen *latest = &figures->exhaustion;
    struct walk walk;
    bson_t record;
    for (walk_begin(&walk, now, "exhaustions"); walk_next(&walk, &record);) {
        double end = number_of(&record, "end");
        if (latest->going_on && end > 0) {
            continue; // of another server
        }
        *latest = (struct exhaustion_seen){
            .id = field_text(&record, "_id"),
            .server = field_text(&record, "server"),
            .cause = field_text(&record, "cause"),
            .verdict = field_text(&record, "verdict"),
            .lasted_s = number_of(&record, "duration"),
            .ended_s = end > 0 ? since(time_s, end) : 0,
            .going_on = end == 0,
        };
    }
}

bool figures_find_exhaustion(const bson_t *state, const char *id, int after, bson_t *ret_record)
{
    struct walk walk;
    bson_t record;
    int place = 0;
    int found = -1;
    int last = (int)count_of(state, "exhaustions") - 1;
    for (walk_begin(&walk, state, "exhaustions"); walk_next(&walk, &record); place++) {
        found = strcmp(field_text(&record, "_id"), id) == 0 ? place : found;
    }
    if (found < 0) {
        return false;
    }
    int wanted = found + after;
    wanted = wanted < 0 ? 0 : wanted > last ? last : wanted;
    walk_begin(&walk, state, "exhaustions");
    for (place = 0; place <= wanted; place++) {
        (void)walk_next(&walk, ret_record);
    }
    return true;
}

// --- times --------------------------------------------------------------------------------------

static void sum_times(const bson_t *state, const char *measure, struct spread *ret_spread)
{
    struct walk walk;
    bson_t times, spread, buckets;
    bson_iter_t iter;
    *ret_spread = (struct spread){0};
    for (walk_begin(&walk, state, "times"); walk_next(&walk, &times);) {
        if (!field_find(&times, measure, &spread) || !field_find(&spread, "buckets", &buckets)) {
            continue;
        }
        bson_iter_init(&iter, &buckets);
        for (int i = 0; i < TRAFFIC_BUCKETS && bson_iter_next(&iter); i++) {
            ret_spread->buckets[i] += (uint64_t)bson_iter_as_int64(&iter);
        }
    }
}

static double take_times(struct quantiles *ret_quantiles, const bson_t *before, const bson_t *now,
                         const char *measure)
{
    struct spread spread, old;
    sum_times(now, measure, &spread);
    sum_times(before, measure, &old);
    for (int i = 0; i < TRAFFIC_BUCKETS; i++) {
        old.buckets[i] = old.buckets[i] < spread.buckets[i] ? old.buckets[i] : spread.buckets[i];
    }
    spread_subtract(&spread, &old);
    ret_quantiles->p50 = spread_quantile(&spread, 0.5);
    ret_quantiles->p99 = spread_quantile(&spread, 0.99);
    return (double)spread_count(&spread);
}

// --- shapes -------------------------------------------------------------------------------------

struct shape_seen {
    const char *server;
    const char *label;
    const char *id;
    double requests, held, waited, now;
};

struct shapes_seen {
    struct shape_seen *at;
    size_t count;
};

static int compare_label(const struct shape_seen *a, const struct shape_seen *b)
{
    int order = strcmp(a->server, b->server);
    return order ? order : strcmp(a->label, b->label);
}

static int compare_shapes(const void *a, const void *b)
{
    const struct shape_seen *left = a, *right = b;
    int order = compare_label(left, right);
    return order ? order : strcmp(left->id, right->id);
}

// The first of those that have the server and the label, in order; NULL: there is none.
static struct shape_seen *find_label(const struct shapes_seen *shapes, const char *server,
                                     const char *label)
{
    const struct shape_seen wanted = {.server = server, .label = label};
    size_t low = 0, high = shapes->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_label(&shapes->at[middle], &wanted) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < shapes->count && compare_label(&shapes->at[low], &wanted) == 0 ? &shapes->at[low]
                                                                                : NULL;
}

// `held` with what those in flight have held until now, which a shape is charged when they end.
static void see_shapes(struct shapes_seen *shapes, const bson_t *state)
{
    struct walk walk;
    bson_t document;
    size_t room = count_of(state, "shapes");
    *shapes = (struct shapes_seen){xcalloc(room + 1, sizeof *shapes->at), 0};
    for (walk_begin(&walk, state, "shapes"); walk_next(&walk, &document);) {
        shapes->at[shapes->count++] = (struct shape_seen){
            .server = field_text(&document, "server"),
            .label = field_text(&document, "shape"),
            .id = field_text(&document, "_id"),
            .requests = number_of(&document, "requests"),
            .held = number_of(&document, "held"),
            .waited = number_of(&document, "waited"),
            .now = number_of(&document, "now"),
        };
    }
    qsort(shapes->at, shapes->count, sizeof *shapes->at, compare_shapes);
    for (walk_begin(&walk, state, "requests"); walk_next(&walk, &document);) {
        struct shape_seen *shape =
            find_label(shapes, field_text(&document, "server"), field_text(&document, "shape"));
        if (shape) {
            shape->held += number_of(&document, "held");
        }
    }
}

static void put_shape(struct figures *figures, const struct shape_seen *shape,
                      const struct shape_seen *old, size_t room)
{
    static const struct shape_seen nothing = {0};
    old = old ? old : &nothing;
    double requests = since(shape->requests, old->requests);
    double held = since(shape->held, old->held);
    double waited = since(shape->waited, old->waited);
    *add(figures, PANE_SHAPES, room) = (struct record){
        .id = shape->id,
        .shape = shape->id,
        .cells = {{.number = rate(figures, held, 0)},
                  {.number = 0},
                  {.number = rate(figures, requests, 0)},
                  {.number = shape->requests > 0 ? shape->held / shape->requests : shape->held},
                  {.number = requests > 0 ? waited / requests : 0},
                  {.number = shape->now},
                  {.text = shape->server},
                  {.text = shape->label}},
    };
}

static void take_shares(struct records *shapes)
{
    double all = 0;
    for (size_t i = 0; i < shapes->count; i++) {
        all += shapes->at[i].cells[0].number;
    }
    for (size_t i = 0; i < shapes->count && all > 0; i++) {
        shapes->at[i].cells[1].number = shapes->at[i].cells[0].number / all;
    }
}

static void take_shapes(struct figures *figures, const bson_t *before,
                        const struct shapes_seen *shapes)
{
    struct shapes_seen old;
    see_shapes(&old, before);
    for (size_t i = 0; i < shapes->count; i++) {
        const struct shape_seen *at =
            bsearch(&shapes->at[i], old.at, old.count, sizeof *old.at, compare_shapes);
        put_shape(figures, &shapes->at[i], at, shapes->count);
    }
    take_shares(&figures->records[PANE_SHAPES]);
    free(old.at);
}

// --- requests and apps --------------------------------------------------------------------------

static void put_request(struct figures *figures, const bson_t *request,
                        const struct shapes_seen *shapes, size_t room)
{
    char *id = figures->request_ids[figures->records[PANE_HOLDERS].count];
    struct record *record = add(figures, PANE_HOLDERS, room);
    const char *server = field_text(request, "server");
    const char *label = field_text(request, "shape");
    const struct shape_seen *shape = find_label(shapes, server, label);
    snprintf(id, FIGURES_ID_BYTES, "%.0f", number_of(request, "_id"));
    *record = (struct record){
        .id = id,
        .shape = shape ? shape->id : NULL,
        .cells = {{.number = number_of(request, "held")},
                  {.number = number_of(request, "age")},
                  {.number = number_of(request, "client")},
                  {.text = field_text(request, "state")},
                  {.text = field_text(request, "lane")},
                  {.text = field_text(request, "app")},
                  {.text = server},
                  {.text = *label ? label : field_text(request, "command")}},
    };
}

static int compare_app(const void *a, const void *b)
{
    return strcmp(((const struct record *)a)->cells[5].text,
                  ((const struct record *)b)->cells[5].text);
}

static void count_in_app(struct record *app, const struct record *request)
{
    double held = request->cells[0].number;
    double age = request->cells[1].number;
    app->cells[0].number += held > 0;
    app->cells[1].number += held == 0;
    app->cells[2].number += held;
    app->cells[3].number = age > app->cells[3].number ? age : app->cells[3].number;
}

static void take_requests(struct figures *figures, const bson_t *now,
                          const struct shapes_seen *shapes)
{
    struct walk walk;
    bson_t request;
    struct records *requests = &figures->records[PANE_HOLDERS];
    struct records *apps = &figures->records[PANE_APPS];
    size_t room = count_of(now, "requests");
    figures->request_ids = xcalloc(room + 1, sizeof *figures->request_ids);
    for (walk_begin(&walk, now, "requests"); walk_next(&walk, &request);) {
        if (strcmp(field_text(&request, "state"), "local") != 0) {
            put_request(figures, &request, shapes, room);
        }
    }
    if (requests->count > 0) {
        qsort(requests->at, requests->count, sizeof *requests->at, compare_app);
    }
    for (size_t i = 0; i < requests->count; i++) {
        const char *name = requests->at[i].cells[5].text;
        struct record *last = apps->count > 0 ? &apps->at[apps->count - 1] : NULL;
        if (!last || strcmp(last->id, name) != 0) {
            last = add(figures, PANE_APPS, room);
            last->id = last->cells[4].text = name;
        }
        count_in_app(last, &requests->at[i]);
    }
}

// ------------------------------------------------------------------------------------------------

static void totals_of(const bson_t *state, bson_t *ret_totals)
{
    struct walk walk;
    bson_init(ret_totals);
    walk_begin(&walk, state, "totals");
    (void)walk_next(&walk, ret_totals);
}

void figures_make(struct figures *figures, const bson_t *before, const bson_t *now, double window_s,
                  double time_s)
{
    bson_t totals, old;
    struct shapes_seen shapes;
    *figures = (struct figures){.window_s = before ? window_s : 0};
    totals_of(now, &totals);
    totals_of(before, &old);
    figures->version = field_text(&totals, "version");
    figures->pid = number_of(&totals, "pid");
    figures->up_s = since(time_s, number_of(&totals, "startTime"));
    figures->clients = number_of(&totals, "clients");
    figures->emergency = number_of(&totals, "emergency") > 0;
    figures->failed_rate = rate(figures, sum_of(&totals, "failed"), sum_of(&old, "failed"));
    take_servers(figures, before, now);
    take_tenants(figures, before, now);
    take_fleet(&figures->fleet, now);
    take_exhaustions(figures, now, time_s);
    take_times(&figures->wait, before, now, "wait");
    double served = take_times(&figures->service, before, now, "service");
    figures->served_rate = rate(figures, served, 0);
    see_shapes(&shapes, now);
    take_shapes(figures, before, &shapes);
    take_requests(figures, now, &shapes);
    free(shapes.at);
    for (int i = 0; i < PANE_COUNT; i++) {
        figures_arrange(figures, (enum pane_id)i, 0, false, "");
    }
}

void figures_fini(struct figures *figures)
{
    free(figures->request_ids);
    for (int i = 0; i < PANE_COUNT; i++) {
        free(figures->records[i].at);
    }
    *figures = (struct figures){0};
}

double figures_epoch(const bson_t *state)
{
    bson_t totals;
    totals_of(state, &totals);
    return number_of(&totals, "startTime") + number_of(&totals, "pid");
}

// --- order --------------------------------------------------------------------------------------

struct order {
    const struct pane *pane;
    int column;
    bool ascending;
};

static int compare_cells(enum cell_kind kind, const struct cell *a, const struct cell *b)
{
    return kind == CELL_TEXT ? strcmp(b->text, a->text)
                             : (a->number > b->number) - (a->number < b->number);
}

// The largest first, texts by the alphabet; what is equal by the columns that follow.
static int compare_records(const void *a, const void *b, void *arg)
{
    const struct order *order = arg;
    const struct record *left = a, *right = b;
    int result = 0;
    for (int i = order->column; i < order->pane->column_count && result == 0; i++) {
        result = -compare_cells(order->pane->columns[i].kind, &left->cells[i], &right->cells[i]);
        result = order->ascending && i == order->column ? -result : result;
    }
    return result ? result : strcmp(left->id, right->id);
}

static bool matches(const struct pane *pane, const struct record *record, const char *filter)
{
    for (int i = 0; i < pane->column_count; i++) {
        const char *text = record->cells[i].text;
        if (text && strcasestr(text, filter)) {
            return true;
        }
    }
    return false;
}

void figures_arrange(struct figures *figures, enum pane_id pane, int column, bool ascending,
                     const char *filter)
{
    struct order order = {&panes[pane], column, ascending};
    struct records *records = &figures->records[pane];
    records->shown = 0;
    for (size_t i = 0; i < records->count; i++) {
        if (matches(order.pane, &records->at[i], filter)) {
            struct record kept = records->at[i];
            records->at[i] = records->at[records->shown];
            records->at[records->shown++] = kept;
        }
    }
    if (records->shown > 0) {
        qsort_r(records->at, records->shown, sizeof *records->at, compare_records, &order);
    }
}

// --- JSON ---------------------------------------------------------------------------------------

static void append_number(bson_t *document, const char *key, enum cell_kind kind, double number)
{
    if (kind == CELL_COUNT) {
        BSON_APPEND_INT64(document, key, (int64_t)number);
    } else {
        BSON_APPEND_DOUBLE(document, key, number);
    }
}

static void append_record(bson_t *list, size_t place, const struct pane *pane,
                          const struct record *record)
{
    char key[24];
    bson_t document;
    snprintf(key, sizeof key, "%zu", place);
    BSON_APPEND_DOCUMENT_BEGIN(list, key, &document);
    BSON_APPEND_UTF8(&document, "_id", record->id);
    for (int i = 0; i < pane->column_count; i++) {
        const struct column *column = &pane->columns[i];
        if (column->kind == CELL_TEXT) {
            BSON_APPEND_UTF8(&document, column->field, record->cells[i].text);
        } else {
            append_number(&document, column->field, column->kind, record->cells[i].number);
        }
    }
    bson_append_document_end(list, &document);
}

static void append_quantiles(bson_t *document, const char *key, const struct quantiles *quantiles)
{
    bson_t inner_document;
    BSON_APPEND_DOCUMENT_BEGIN(document, key, &inner_document);
    BSON_APPEND_DOUBLE(&inner_document, "p50", quantiles->p50);
    BSON_APPEND_DOUBLE(&inner_document, "p99", quantiles->p99);
    bson_append_document_end(document, &inner_document);
}

static void append_fleet(bson_t *document, const struct fleet_figures *fleet)
{
    bson_t own;
    if (!fleet->state) {
        return;
    }
    BSON_APPEND_DOCUMENT_BEGIN(document, "fleet", &own);
    BSON_APPEND_UTF8(&own, "state", fleet->state);
    BSON_APPEND_BOOL(&own, "storeUp", fleet->store_up);
    append_number(&own, "allowed", CELL_COUNT, fleet->allowed);
    append_number(&own, "cap", CELL_COUNT, fleet->cap);
    append_number(&own, "held", CELL_COUNT, fleet->held);
    append_number(&own, "need", CELL_COUNT, fleet->need);
    append_number(&own, "members", CELL_COUNT, fleet->members);
    append_number(&own, "heldByAll", CELL_COUNT, fleet->held_by_all);
    append_number(&own, "lastAnswer", CELL_SECONDS, fleet->last_answer_s);
    bson_append_document_end(document, &own);
}

static void append_exhaustion(const struct exhaustion_seen *seen, bson_t *document)
{
    bson_t inner;
    if (!seen->id) {
        BSON_APPEND_NULL(document, "exhaustion");
        return;
    }
    BSON_APPEND_DOCUMENT_BEGIN(document, "exhaustion", &inner);
    BSON_APPEND_UTF8(&inner, "_id", seen->id);
    BSON_APPEND_UTF8(&inner, "server", seen->server);
    BSON_APPEND_BOOL(&inner, "goingOn", seen->going_on);
    BSON_APPEND_DOUBLE(&inner, "duration", seen->lasted_s);
    BSON_APPEND_DOUBLE(&inner, "endedAgo", seen->ended_s);
    BSON_APPEND_UTF8(&inner, "cause", seen->cause);
    BSON_APPEND_UTF8(&inner, "verdict", seen->verdict);
    bson_append_document_end(document, &inner);
}

void figures_append(const struct figures *figures, bson_t *document)
{
    const struct {
        const char *name;
        enum cell_kind kind;
        double number;
    } numbers[] = {
        {"pid", CELL_COUNT, figures->pid},
        {"up", CELL_SECONDS, figures->up_s},
        {"window", CELL_SECONDS, figures->window_s},
        {"clients", CELL_COUNT, figures->clients},
        {"cap", CELL_COUNT, figures->cap},
        {"open", CELL_COUNT, figures->open},
        {"idle", CELL_COUNT, figures->idle},
        {"limit", CELL_COUNT, figures->limit},
        {"inFlight", CELL_COUNT, figures->in_flight},
        {"inFlightSlow", CELL_COUNT, figures->slow},
        {"inFlightStreams", CELL_COUNT, figures->streams},
        {"waiting", CELL_COUNT, figures->waiting},
        {"longestWait", CELL_SECONDS, figures->longest_wait_s},
        {"exhausted", CELL_COUNT, figures->exhausted},
        {"servedPerSecond", CELL_RATE, figures->served_rate},
        {"shedPerSecond", CELL_RATE, figures->shed_rate},
        {"failedPerSecond", CELL_RATE, figures->failed_rate},
    };
    BSON_APPEND_UTF8(document, "version", figures->version);
    BSON_APPEND_BOOL(document, "emergency", figures->emergency);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        append_number(document, numbers[i].name, numbers[i].kind, numbers[i].number);
    }
    append_exhaustion(&figures->exhaustion, document);
    append_quantiles(document, "wait", &figures->wait);
    append_quantiles(document, "service", &figures->service);
    append_fleet(document, &figures->fleet);
    for (int i = 0; i < PANE_COUNT; i++) {
        bson_t list;
        BSON_APPEND_ARRAY_BEGIN(document, panes[i].name, &list);
        for (size_t k = 0; k < figures->records[i].count; k++) {
            append_record(&list, k, &panes[i], &figures->records[i].at[k]);
        }
        bson_append_array_end(document, &list);
    }
}
