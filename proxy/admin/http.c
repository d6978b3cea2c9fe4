// SPDX-License-Identifier: Apache-2.0
//
//      visitor -> on_request -> suspended, its question at the observer
//                                  |
//                               answered: a response, resumed -> on_request -> response
//
//      each second, on the observer's thread, if somebody follows: a question of our own -> an
//      event for all who follow
//
// The texts are counted references; one that was made of a picture is for all who asked for it.

#include "proxy/admin/http.h"

#include <errno.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy/admin/feed.h"
#include "proxy/admin/history.h"
#include "proxy/admin/host.h"
#include "proxy/admin/metrics.h"
#include "proxy/admin/page_files.h"
#include "proxy/admin/query.h"
#include "proxy/log.h"
#include "proxy/mem.h"
#include "proxy/net/address.h"
#include "proxy/net/errno_words.h"
#include "wire/bson_view.h"

// The first PAGES_MADE of them are made of what the observer says.
enum page_id {
    PAGE_METRICS,
    PAGE_STATE,
    PAGE_READY,
    PAGE_HISTORY,
    PAGE_RECORD,
    PAGE_HEALTH,
    PAGE_EVENTS,
    PAGE_NONE,
    PAGES_MADE = PAGE_HEALTH,
};

// A page as it was made last, and of which picture. The observer's thread alone has it.
struct made {
    uint64_t serial;
    struct text *text;
    unsigned status;
};

struct http {
    struct MHD_Daemon *daemon;
    struct observer *observer;
    struct worker **workers;
    int worker_count;
    struct made made[PAGES_MADE];
    struct feed *feed;
    struct question tick; // for the next event; the observer's thread alone has it, and
    bool ticking;         // whether it is asked
    pthread_mutex_t lock; // guards the rest
    pthread_cond_t fewer;
    int suspended;
    bool ending;
    const struct config *config;
};

// One request over HTTP.
struct visit {
    struct question question;
    struct http *http;
    struct MHD_Connection *connection;
    enum page_id page;
    const struct page_file *file; // in place of a page
    char id[64];                  // of a record
    bool asked;
    struct text *text; // NULL: weir is ending
    unsigned status;
};

static const struct {
    const char *path;
    const char *type;
    unsigned collections;
} pages[] = {
    [PAGE_METRICS] = {"/metrics", "text/plain; version=0.0.4; charset=utf-8", METRICS_COLLECTIONS},
    [PAGE_STATE] = {"/state", "application/json", STATE_UNNAMED},
    [PAGE_READY] = {"/readyz", "text/plain; charset=utf-8", STATE_BIT(STATE_servers)},
    [PAGE_HISTORY] = {"/history", "application/json", 0},
    [PAGE_RECORD] = {"/exhaustions/", "application/json",
                     STATE_BIT(STATE_exhaustions)}, // and an id
    [PAGE_HEALTH] = {"/healthz", "text/plain; charset=utf-8", 0},
    [PAGE_EVENTS] = {"/events", "text/event-stream", 0},
};

// --- pages --------------------------------------------------------------------------------------

static void print(struct buffer *out, const char *text)
{
    buffer_append(out, text, strlen(text));
}

// Whether some server can be sent requests.
static bool is_ready(const struct picture *picture)
{
    struct bytes rows = picture_rows(picture, STATE_servers);
    struct bytes document;
    while (bson_take(&rows, &document) == WIRE_OK) {
        struct bson_element usable;
        if (bson_find(document, "usable", &usable) && bson_element_truth(&usable)) {
            return true;
        }
    }
    return false;
}

static unsigned print_ready(const struct http *http, const struct picture *picture,
                            struct buffer *out)
{
    bool draining = atomic_load(&http->workers[0]->shared->draining);
    bool ready = !draining && is_ready(picture);
    print(out, ready ? "ready\n" : draining ? "draining\n" : "no server can be used\n");
    return ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
}

static unsigned print_record(const struct picture *picture, const char *id, struct buffer *out)
{
    bson_t *filter = BCON_NEW("_id", BCON_UTF8(id));
    struct buffer found = {0};
    const struct query query = {.filter = {bson_get_data(filter), filter->len}};
    bool there = query_run(&query, picture_rows(picture, STATE_exhaustions), &found) > 0;
    if (there) {
        row_print_json((struct bytes){buffer_at(&found), buffer_held(&found)}, out);
    } else {
        print(out, "{\"error\": \"there is no such exhaustion, or no more\"}");
    }
    buffer_fini(&found);
    bson_destroy(filter);
    return there ? MHD_HTTP_OK : MHD_HTTP_NOT_FOUND;
}

static void make_page(const struct visit *visit, const struct picture *picture, struct made *made)
{
    struct buffer bytes = {0};
    made->status = MHD_HTTP_OK;
    made->serial = picture->serial;
    switch (visit->page) {
    case PAGE_READY:
        made->status = print_ready(visit->http, picture, &bytes);
        break;
    case PAGE_METRICS:
        metrics_print(picture, &bytes);
        break;
    case PAGE_HISTORY:
        history_print(observer_chronicle(visit->http->observer), false, &bytes);
        break;
    case PAGE_RECORD:
        made->status = print_record(picture, visit->id, &bytes);
        break;
    default:
        picture_print_json(picture, &bytes);
        break;
    }
    made->text = text_new(&bytes);
}

// --- a visit ------------------------------------------------------------------------------------

// On the observer's thread. The connection goes on, and may end the visit, as soon as it is
// resumed.
static void answered(struct question *question, const struct picture *picture)
{
    struct visit *visit = (struct visit *)question;
    struct http *http = visit->http;
    struct made *made = &http->made[visit->page];
    if (picture) {
        bool is_made = made->text && made->serial == picture->serial;
        if (!is_made || visit->page == PAGE_RECORD) { // of which there are several
            text_drop(made->text);
            make_page(visit, picture, made);
        }
        visit->text = text_keep(made->text);
        visit->status = made->status;
    }
    MHD_resume_connection(visit->connection);
    pthread_mutex_lock(&http->lock);
    http->suspended--;
    pthread_cond_signal(&http->fewer);
    pthread_mutex_unlock(&http->lock);
}

// A browser loads for the page what weir serves, and nothing else; nobody may frame it.
static const char content_policy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

// Takes the response over; NULL: there was no memory for it.
static enum MHD_Result queue(struct MHD_Connection *connection, unsigned status,
                             struct MHD_Response *response, const char *type)
{
    if (!response) {
        return MHD_NO;
    }
    MHD_add_response_header(response, "Content-Type", type);
    MHD_add_response_header(response, "Content-Security-Policy", content_policy);
    MHD_add_response_header(response, "Cross-Origin-Resource-Policy", "same-origin");
    MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
    MHD_add_response_header(response, "Cache-Control", "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED) {
        MHD_add_response_header(response, "Allow", "GET, HEAD");
    }
    enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

// Takes the text over.
static enum MHD_Result respond(struct MHD_Connection *connection, unsigned status,
                               struct text *text, const char *type)
{
    struct bytes bytes = text_bytes(text);
    struct MHD_Response *response = MHD_create_response_from_buffer_with_free_callback_cls(
        bytes.len, (void *)bytes.at, text_drop, text);
    if (!response) {
        text_drop(text);
    }
    return queue(connection, status, response, type);
}

static enum MHD_Result respond_in_words(struct MHD_Connection *connection, unsigned status,
                                        const char *line)
{
    return respond(connection, status, text_of(line), pages[PAGE_HEALTH].type);
}

static enum MHD_Result respond_with_health(const struct http *http,
                                           struct MHD_Connection *connection)
{
    int64_t now_us = loop_now_us(http->workers[0]->loop);
    if (!workers_turn(http->workers, http->worker_count, now_us)) {
        return respond_in_words(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "a worker is stuck\n");
    }
    return respond_in_words(connection, MHD_HTTP_OK, "alive\n");
}

static enum MHD_Result respond_with_file(struct MHD_Connection *connection,
                                         const struct page_file *file)
{
    size_t len = (size_t)(file->end - file->begin);
    struct MHD_Response *response =
        MHD_create_response_from_buffer(len, (void *)file->begin, MHD_RESPMEM_PERSISTENT);
    return queue(connection, MHD_HTTP_OK, response, file->type);
}

static enum MHD_Result respond_with_events(const struct http *http,
                                           struct MHD_Connection *connection)
{
    struct MHD_Response *response = feed_follow(http->feed, connection);
    if (!response) {
        return respond_in_words(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "too many follow\n");
    }
    return queue(connection, MHD_HTTP_OK, response, pages[PAGE_EVENTS].type);
}

// Whether the visit may wait for an answer: not when nobody will give one any more.
static bool may_suspend(struct http *http)
{
    pthread_mutex_lock(&http->lock);
    bool may = !http->ending;
    http->suspended += may;
    pthread_mutex_unlock(&http->lock);
    return may;
}

static enum MHD_Result ask(struct visit *visit)
{
    visit->asked = true;
    if (!may_suspend(visit->http)) {
        return respond_in_words(visit->connection, MHD_HTTP_SERVICE_UNAVAILABLE, "ending\n");
    }
    visit->question.collections = pages[visit->page].collections;
    visit->question.answer = answered;
    MHD_suspend_connection(visit->connection);
    observer_ask(visit->http->observer, &visit->question);
    return MHD_YES;
}

static enum MHD_Result go_on(struct visit *visit)
{
    struct text *text = visit->text;
    if (!visit->asked) {
        return ask(visit);
    }
    if (!text) {
        return respond_in_words(visit->connection, MHD_HTTP_SERVICE_UNAVAILABLE, "ending\n");
    }
    visit->text = NULL;
    return respond(visit->connection, visit->status, text, pages[visit->page].type);
}

static enum MHD_Result respond_to(struct visit *visit)
{
    if (visit->file) {
        return respond_with_file(visit->connection, visit->file);
    }
    switch (visit->page) {
    case PAGE_HEALTH:
        return respond_with_health(visit->http, visit->connection);
    case PAGE_EVENTS:
        return respond_with_events(visit->http, visit->connection);
    default:
        return go_on(visit);
    }
}

static enum page_id find_page(const char *path)
{
    int page = 0;
    while (page < PAGE_NONE && strcmp(path, pages[page].path) != 0) {
        page++;
    }
    const char *records = pages[PAGE_RECORD].path;
    return strncmp(path, records, strlen(records)) == 0 ? PAGE_RECORD : (enum page_id)page;
}

static enum MHD_Result begin(struct http *http, struct MHD_Connection *connection, const char *path,
                             void **visit_at)
{
    struct visit *visit = xcalloc(1, sizeof *visit);
    visit->http = http;
    visit->connection = connection;
    visit->page = find_page(path);
    if (visit->page == PAGE_RECORD) {
        snprintf(visit->id, sizeof visit->id, "%s", path + strlen(pages[PAGE_RECORD].path));
    }
    visit->file = page_file_find(path);
    *visit_at = visit;
    return MHD_YES;
}

// Called by MHD: when a request's header is there; then for its body, of which nothing is taken;
// then to be answered, and once more after it was suspended.
static bool may_be(struct http *http, const char *host)
{
    pthread_mutex_lock(&http->lock);
    bool may = host_may_be(host, http->config);
    pthread_mutex_unlock(&http->lock);
    return may;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *body,
                                  size_t *body_len, void **visit_at)
{
    struct visit *visit = *visit_at;
    (void)version;
    (void)body;
    if (!visit) {
        return begin(arg, connection, path, visit_at);
    }
    if (*body_len > 0) {
        *body_len = 0;
        return MHD_YES;
    }
    const char *host = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Host");
    if (!may_be(visit->http, host)) {
        return respond_in_words(connection, MHD_HTTP_MISDIRECTED_REQUEST,
                                "by this name only if http.hosts has it\n");
    }
    if (visit->page == PAGE_NONE && !visit->file) {
        return respond_in_words(
            connection, MHD_HTTP_NOT_FOUND,
            "there are /, /metrics, /state, /exhaustions/ID, /healthz and /readyz\n");
    }
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
        return respond_in_words(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "GET only\n");
    }
    return respond_to(visit);
}

static void on_end(void *arg, struct MHD_Connection *connection, void **visit_at,
                   enum MHD_RequestTerminationCode code)
{
    struct visit *visit = *visit_at;
    (void)arg;
    (void)connection;
    (void)code;
    if (visit) {
        text_drop(visit->text);
        free(visit);
        *visit_at = NULL;
    }
}

// --- events -------------------------------------------------------------------------------------

#define SHOWN_AT_MOST 20

// The first of a collection when sorted by a field, and then by what was held; of `fields`, or all,
// if that is NULL.
static void print_most(const struct picture *picture, enum state_collection collection,
                       const char *field, const bson_t *fields, struct buffer *out)
{
    struct buffer rows = {0};
    bson_t *sort = BCON_NEW(field, BCON_INT32(-1), "held", BCON_INT32(-1));
    struct query query = {.sort = {bson_get_data(sort), sort->len}, .limit = SHOWN_AT_MOST};
    if (fields) {
        query.projection = (struct bytes){bson_get_data(fields), fields->len};
    }
    query_run(&query, picture_rows(picture, collection), &rows);
    print(out, ", \"");
    print(out, state_collections[collection].name);
    print(out, "_by_");
    print(out, field);
    print(out, "\": ");
    rows_print_json((struct bytes){buffer_at(&rows), buffer_held(&rows)}, out);
    buffer_fini(&rows);
    bson_destroy(sort);
}

// Without what only the record has.
static void print_exhaustions(const struct picture *picture, struct buffer *out)
{
    bson_t *fields =
        BCON_NEW("server", BCON_INT32(1), "begin", BCON_INT32(1), "end", BCON_INT32(1), "duration",
                 BCON_INT32(1), "cause", BCON_INT32(1), "verdict", BCON_INT32(1));
    print_most(picture, STATE_exhaustions, "begin", fields, out);
    bson_destroy(fields);
}

static void print_event(const struct http *http, const struct picture *picture, struct buffer *out)
{
    print(out, "data: {\"history\": ");
    history_print(observer_chronicle(http->observer), true, out);
    print(out, ", \"totals\": ");
    rows_print_json(picture_rows(picture, STATE_totals), out);
    print(out, ", \"servers\": ");
    rows_print_json(picture_rows(picture, STATE_servers), out);
    // A new one that is slow is among those under way long before it is among those that held most.
    print_most(picture, STATE_shapes, "heldLately", NULL, out);
    print_most(picture, STATE_shapes, "now", NULL, out);
    print_most(picture, STATE_tenants, "heldLately", NULL, out);
    print_most(picture, STATE_tenants, "waiting", NULL, out);
    print_exhaustions(picture, out);
    print(out, "}");
    uint8_t *at = buffer_at(out);
    for (size_t i = 0; i < buffer_held(out); i++) {
        at[i] = at[i] == '\n' ? ' ' : at[i]; // between values: it would end the event's line
    }
    print(out, "\n\n");
}

static void ticked(struct question *question, const struct picture *picture)
{
    struct http *http = question->context;
    struct buffer bytes = {0};
    http->ticking = false;
    if (picture) {
        print_event(http, picture, &bytes);
        feed_publish(http->feed, text_new(&bytes));
    }
}

// On the observer's thread.
static void on_second(void *arg)
{
    struct http *http = arg;
    if (!http->ticking && feed_is_followed(http->feed)) {
        http->ticking = true;
        http->tick.collections = STATE_BIT(STATE_totals) | STATE_BIT(STATE_servers) |
                                 STATE_BIT(STATE_shapes) | STATE_BIT(STATE_tenants) |
                                 STATE_BIT(STATE_exhaustions);
        observer_ask(http->observer, &http->tick);
    }
}

// --- life ---------------------------------------------------------------------------------------

struct http *http_new(const struct config *config)
{
    struct http *http = xcalloc(1, sizeof *http);
    http->config = config;
    pthread_mutex_init(&http->lock, NULL);
    pthread_cond_init(&http->fewer, NULL);
    return http;
}

void http_configure(struct http *http, const struct config *config)
{
    pthread_mutex_lock(&http->lock);
    http->config = config;
    pthread_mutex_unlock(&http->lock);
}

void http_start(struct http *http, struct observer *observer, struct worker **workers,
                int worker_count)
{
    http->observer = observer;
    http->workers = workers;
    http->worker_count = worker_count;
    http->feed = feed_new();
    http->tick.answer = ticked;
    http->tick.context = http;
    observer_each_second(observer, on_second, http);
    http->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET, 0,
        NULL, NULL, on_request, http, MHD_OPTION_CONNECTION_LIMIT, (unsigned)HTTP_CLIENTS_MAX,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)HTTP_TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)HTTP_CLIENT_BYTES, MHD_OPTION_NOTIFY_COMPLETED, on_end, NULL, MHD_OPTION_END);
    if (!http->daemon) {
        abort(); // out of memory or descriptors, at the start
    }
}

void http_accept(struct http *http, int fd)
{
    struct sockaddr_storage peer = {0};
    socklen_t len = sizeof peer;
    (void)getpeername(fd, (struct sockaddr *)&peer, &len);
    (void)MHD_add_connection(http->daemon, fd, (struct sockaddr *)&peer, len); // closes it if not
}

static void wait_for_suspended(struct http *http)
{
    pthread_mutex_lock(&http->lock);
    http->ending = true;
    while (http->suspended > 0) {
        pthread_cond_wait(&http->fewer, &http->lock);
    }
    pthread_mutex_unlock(&http->lock);
}

void http_free(struct http *http)
{
    if (!http) {
        return;
    }
    wait_for_suspended(http);
    if (http->daemon) {
        feed_end(http->feed);
        MHD_stop_daemon(http->daemon);
        feed_free(http->feed);
    }
    for (int i = 0; i < PAGES_MADE; i++) {
        text_drop(http->made[i].text);
    }
    pthread_cond_destroy(&http->fewer);
    pthread_mutex_destroy(&http->lock);
    free(http);
}
