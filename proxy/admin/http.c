// SPDX-License-Identifier: Apache-2.0
//
//      visitor -> on_request -> suspended, its question at the observer
//                                  |
//                               answered: a response, resumed -> on_request -> response
//
// The texts are counted references; one that was made of a picture is for all who asked for it.

#include "proxy/admin/http.h"

#include <errno.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy/admin/metrics.h"
#include "proxy/log.h"
#include "proxy/mem.h"
#include "proxy/net/address.h"
#include "proxy/net/errno_words.h"
#include "wire/bson_view.h"

#define STUCK_US 5000000 // a worker whose loop has not turned for so long is stuck

enum page_id { PAGE_METRICS, PAGE_STATE, PAGE_READY, PAGE_HEALTH, PAGE_NONE };

struct text {
    atomic_int references;
    struct buffer bytes;
};

// A page as it was made last, and of which picture. The observer's thread alone has it.
struct made {
    uint64_t serial;
    struct text *text;
    unsigned status;
};

struct http {
    struct MHD_Daemon *daemon;
    int listener;
    struct observer *observer;
    struct worker **workers;
    int worker_count;
    struct made made[PAGE_HEALTH];
    pthread_mutex_t lock; // guards the rest
    pthread_cond_t fewer;
    int suspended;
    bool ending;
};

// One request over HTTP.
struct visit {
    struct question question;
    struct http *http;
    struct MHD_Connection *connection;
    enum page_id page;
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
    [PAGE_STATE] = {"/state", "application/json", STATE_ALL},
    [PAGE_READY] = {"/readyz", "text/plain; charset=utf-8", STATE_BIT(STATE_servers)},
    [PAGE_HEALTH] = {"/healthz", "text/plain; charset=utf-8", 0},
};

// --- pages --------------------------------------------------------------------------------------

// Takes the bytes over.
static struct text *text_new(struct buffer *bytes)
{
    struct text *text = xcalloc(1, sizeof *text);
    atomic_init(&text->references, 1);
    text->bytes = *bytes;
    *bytes = (struct buffer){0};
    return text;
}

static void text_drop(void *arg)
{
    struct text *text = arg;
    if (text && atomic_fetch_sub(&text->references, 1) == 1) {
        buffer_fini(&text->bytes);
        free(text);
    }
}

static struct text *text_of(const char *line)
{
    struct buffer bytes = {0};
    buffer_append(&bytes, line, strlen(line));
    return text_new(&bytes);
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

static void make_page(const struct picture *picture, enum page_id page, bool draining,
                      struct made *made)
{
    struct buffer bytes = {0};
    made->status = MHD_HTTP_OK;
    made->serial = picture->serial;
    if (page == PAGE_READY) {
        bool ready = !draining && is_ready(picture);
        made->status = ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
        made->text = text_of(ready      ? "ready\n"
                             : draining ? "draining\n"
                                        : "no server can be used\n");
        return;
    }
    if (page == PAGE_METRICS) {
        metrics_print(picture, &bytes);
    } else {
        picture_print_json(picture, &bytes);
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
        if (!made->text || made->serial != picture->serial) {
            text_drop(made->text);
            make_page(picture, visit->page, atomic_load(&http->workers[0]->shared->draining), made);
        }
        atomic_fetch_add(&made->text->references, 1);
        visit->text = made->text;
        visit->status = made->status;
    }
    MHD_resume_connection(visit->connection);
    pthread_mutex_lock(&http->lock);
    http->suspended--;
    pthread_cond_signal(&http->fewer);
    pthread_mutex_unlock(&http->lock);
}

// Takes the text over.
static enum MHD_Result respond(struct MHD_Connection *connection, unsigned status,
                               struct text *text, const char *type)
{
    struct MHD_Response *response = MHD_create_response_from_buffer_with_free_callback_cls(
        buffer_held(&text->bytes), buffer_at(&text->bytes), text_drop, text);
    if (!response) {
        text_drop(text);
        return MHD_NO;
    }
    MHD_add_response_header(response, "Content-Type", type);
    MHD_add_response_header(response, "Cache-Control", "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED) {
        MHD_add_response_header(response, "Allow", "GET, HEAD");
    }
    enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
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
    for (int i = 0; i < http->worker_count; i++) {
        if (now_us - atomic_load(&http->workers[i]->swept_us) > STUCK_US) {
            return respond_in_words(connection, MHD_HTTP_SERVICE_UNAVAILABLE,
                                    "a worker is stuck\n");
        }
    }
    return respond_in_words(connection, MHD_HTTP_OK, "alive\n");
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

static enum page_id find_page(const char *path)
{
    int page = 0;
    while (page < PAGE_NONE && strcmp(path, pages[page].path) != 0) {
        page++;
    }
    return (enum page_id)page;
}

static enum MHD_Result begin(struct http *http, struct MHD_Connection *connection, const char *path,
                             void **visit_at)
{
    struct visit *visit = xcalloc(1, sizeof *visit);
    visit->http = http;
    visit->connection = connection;
    visit->page = find_page(path);
    *visit_at = visit;
    return MHD_YES;
}

// Called by MHD: when a request's header is there; then for its body, of which nothing is taken;
// then to be answered, and once more after it was suspended.
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
    if (visit->page == PAGE_NONE) {
        return respond_in_words(connection, MHD_HTTP_NOT_FOUND,
                                "there are /metrics, /state, /healthz and /readyz\n");
    }
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
        return respond_in_words(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "GET only\n");
    }
    return visit->page == PAGE_HEALTH ? respond_with_health(arg, connection) : go_on(visit);
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

// --- life ---------------------------------------------------------------------------------------

static void log_listening(int listener)
{
    struct address address = {.len = sizeof address.storage};
    char text[160];
    struct log_line line;
    if (getsockname(listener, (struct sockaddr *)&address.storage, &address.len) == 0) {
        address_format(&address, text, sizeof text);
        log_begin(&line, LOG_INFO, "http_listening");
        log_str(&line, "address", text);
        log_end(&line);
    }
}

static int listen_at(const struct address *address)
{
    int on = 1;
    int fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
                    bind(fd, (const struct sockaddr *)&address->storage, address->len) != 0 ||
                    listen(fd, HTTP_CLIENTS_MAX) != 0)) {
        int error = errno;
        close(fd);
        errno = error;
        fd = -1;
    }
    return fd;
}

struct http *http_open(const struct config *config, char *ret_error, size_t error_capacity)
{
    struct address address;
    const char *error = NULL;
    if (address_resolve(config->http_bind_ip, (uint16_t)config->http_port, &address, 1, &error) ==
        0) {
        snprintf(ret_error, error_capacity, "%s", error);
        return NULL;
    }
    int listener = listen_at(&address);
    if (listener < 0) {
        char words[ERRNO_WORDS_BYTES];
        snprintf(ret_error, error_capacity, "%s", errno_words(errno, words));
        return NULL;
    }
    struct http *http = xcalloc(1, sizeof *http);
    http->listener = listener;
    pthread_mutex_init(&http->lock, NULL);
    pthread_cond_init(&http->fewer, NULL);
    log_listening(listener);
    return http;
}

void http_start(struct http *http, struct observer *observer, struct worker **workers,
                int worker_count)
{
    http->observer = observer;
    http->workers = workers;
    http->worker_count = worker_count;
    http->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request, http,
        MHD_OPTION_LISTEN_SOCKET, http->listener, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)HTTP_CLIENTS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)HTTP_TIMEOUT_S,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_CLIENT_BYTES, MHD_OPTION_NOTIFY_COMPLETED,
        on_end, NULL, MHD_OPTION_END);
    if (!http->daemon) {
        abort(); // out of memory or descriptors, at the start
    }
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
        MHD_stop_daemon(http->daemon); // closes the listener, too
    } else {
        close(http->listener);
    }
    for (int i = 0; i < PAGE_HEALTH; i++) {
        text_drop(http->made[i].text);
    }
    pthread_cond_destroy(&http->fewer);
    pthread_mutex_destroy(&http->lock);
    free(http);
}
