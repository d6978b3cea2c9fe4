// SPDX-License-Identifier: Apache-2.0
//
// libmongoc's events come on its monitors' threads, under its locks: a handler copies what it is
// shown and returns.
#include "proxy/control/discovery.h"

#include <assert.h>
#include <limits.h>
#include <mongoc/mongoc.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "proxy/control/clock.h"
#include "proxy/control/direct.h"
#include "proxy/mem.h"

// How often libmongoc asks a server that does not push (before 4.4, and some that are no mongod),
// and how long past connectTimeoutMS it takes to notice that one fell silent. Drivers take 10 s,
// but there are thousands of them.
enum { HEARTBEAT_MS = 2000 };

// The longest a selection waits that cannot succeed.
enum { SELECTION_MS = 1 };

enum {
    TRY_PAUSE_NS = 20000000,
    OTHERS_US = 2000000, // one that is dead is not waited for
};

struct discovery {
    mongoc_client_pool_t *pool;
    mongoc_client_t *client; // being popped is what started the monitors
    mongoc_read_prefs_t *nobody;
    pthread_mutex_t lock; // guards the rest
    void (*changed)(void *arg);
    void *arg;
    bool fresh; // `newest` has not been taken
    struct discovered *newest;
};

static struct discovered *discovered_resize(struct discovered *discovered, size_t count)
{
    return xrealloc(discovered, sizeof *discovered + count * sizeof discovered->servers[0]);
}

static struct discovered_server *discovered_find(struct discovered *discovered, const char *name)
{
    for (size_t i = 0; i < discovered->count; i++) {
        if (strcmp(discovered->servers[i].info.name, name) == 0) {
            return &discovered->servers[i];
        }
    }
    return NULL;
}

static enum server_kind kind_of(const mongoc_server_description_t *description)
{
    static const struct {
        const char *type;
        enum server_kind kind;
    } kinds[] = {
        {"Standalone", SERVER_STANDALONE}, {"Mongos", SERVER_MONGOS},
        {"RSPrimary", SERVER_PRIMARY},     {"RSSecondary", SERVER_SECONDARY},
        {"RSArbiter", SERVER_OTHER},       {"RSOther", SERVER_OTHER},
        {"RSGhost", SERVER_OTHER},         {"LoadBalancer", SERVER_LOAD_BALANCER},
    };
    const char *type = mongoc_server_description_type(description);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(type, kinds[i].type) == 0) {
            return kinds[i].kind;
        }
    }
    return SERVER_UNKNOWN;
}

static int hello_int(const bson_t *hello, const char *field, int fallback)
{
    bson_iter_t iter;
    if (!bson_iter_init_find(&iter, hello, field) || !BSON_ITER_HOLDS_NUMBER(&iter)) {
        return fallback;
    }
    int64_t value = bson_iter_as_int64(&iter);
    return value < 0 || value > INT_MAX ? fallback : (int)value;
}

// What a server leaves out is what the specifications assume of it.
static void read_limits(const bson_t *hello, struct server_info *ret_info)
{
    ret_info->min_wire_version = hello_int(hello, "minWireVersion", 0);
    ret_info->max_wire_version = hello_int(hello, "maxWireVersion", 0);
    ret_info->max_bson_bytes = hello_int(hello, "maxBsonObjectSize", 16777216);
    ret_info->max_message_bytes = hello_int(hello, "maxMessageSizeBytes", 48000000);
    ret_info->max_write_batch = hello_int(hello, "maxWriteBatchSize", 1000);
    ret_info->session_timeout_minutes = hello_int(hello, "logicalSessionTimeoutMinutes", -1);
}

// Tags that are too long for us are none.
static void read_tags(const bson_t *hello, struct server_info *ret_info)
{
    bson_iter_t iter;
    const uint8_t *tags;
    uint32_t len;
    memset(ret_info->tags, 0, sizeof ret_info->tags);
    if (bson_iter_init_find(&iter, hello, "tags") && BSON_ITER_HOLDS_DOCUMENT(&iter)) {
        bson_iter_document(&iter, &len, &tags);
        memcpy(ret_info->tags, tags, len <= sizeof ret_info->tags ? len : 0);
    }
}

static void read_description(const mongoc_server_description_t *description,
                             struct server_info *ret_info)
{
    ret_info->kind = kind_of(description);
    if (ret_info->kind != SERVER_UNKNOWN && ret_info->kind != SERVER_LOAD_BALANCER) {
        const bson_t *hello = mongoc_server_description_hello_response(description);
        read_limits(hello, ret_info);
        read_tags(hello, ret_info);
    }
}

// Ends what a handler does to the picture.
static void handled(struct discovery *discovery, bool news)
{
    discovery->fresh |= news;
    if (news && discovery->changed) {
        discovery->changed(discovery->arg);
    }
    pthread_mutex_unlock(&discovery->lock);
}

static struct discovered *discovered_add(struct discovered *picture, const mongoc_host_list_t *host)
{
    picture = discovered_resize(picture, picture->count + 1);
    struct discovered_server *server = &picture->servers[picture->count++];
    *server = (struct discovered_server){.port = host->port};
    snprintf(server->info.name, sizeof server->info.name, "%s", host->host_and_port);
    snprintf(server->info.host, sizeof server->info.host, "%s", host->host);
    return picture;
}

static void on_server_opening(const mongoc_apm_server_opening_t *event)
{
    struct discovery *discovery = mongoc_apm_server_opening_get_context(event);
    pthread_mutex_lock(&discovery->lock);
    discovery->newest =
        discovered_add(discovery->newest, mongoc_apm_server_opening_get_host(event));
    handled(discovery, true);
}

static void on_server_closed(const mongoc_apm_server_closed_t *event)
{
    struct discovery *discovery = mongoc_apm_server_closed_get_context(event);
    const mongoc_host_list_t *host = mongoc_apm_server_closed_get_host(event);
    pthread_mutex_lock(&discovery->lock);
    struct discovered *newest = discovery->newest;
    struct discovered_server *server = discovered_find(newest, host->host_and_port);
    if (server != NULL) {
        size_t behind = (size_t)(&newest->servers[newest->count] - (server + 1));
        memmove(server, server + 1, behind * sizeof *server);
        newest->count--;
    }
    handled(discovery, server != NULL);
}

// libmongoc lists the servers that it knows something of: the others are unknown. It has events for
// each server's change, too, but none for a primary that another one has replaced.
static void on_topology_changed(const mongoc_apm_topology_changed_t *event)
{
    struct discovery *discovery = mongoc_apm_topology_changed_get_context(event);
    size_t count;
    mongoc_server_description_t **known = mongoc_topology_description_get_servers(
        mongoc_apm_topology_changed_get_new_description(event), &count);
    pthread_mutex_lock(&discovery->lock);
    for (size_t i = 0; i < discovery->newest->count; i++) {
        discovery->newest->servers[i].info.kind = SERVER_UNKNOWN;
    }
    for (size_t i = 0; i < count; i++) {
        const mongoc_host_list_t *host = mongoc_server_description_host(known[i]);
        struct discovered_server *server = discovered_find(discovery->newest, host->host_and_port);
        if (server != NULL) {
            read_description(known[i], &server->info);
            server->reason[0] = '\0';
        }
    }
    handled(discovery, true);
    mongoc_server_descriptions_destroy_all(known, count);
}

// Comes before the change of the topology that it may cause. A check that was cancelled has no
// message.
static void on_heartbeat_failed(const mongoc_apm_server_heartbeat_failed_t *event)
{
    struct discovery *discovery = mongoc_apm_server_heartbeat_failed_get_context(event);
    const mongoc_host_list_t *host = mongoc_apm_server_heartbeat_failed_get_host(event);
    char reason[DISCOVERY_REASON_BYTES];
    bson_error_t error;
    mongoc_apm_server_heartbeat_failed_get_error(event, &error);
    snprintf(reason, sizeof reason, "%.*s", DISCOVERY_REASON_BYTES - 1, error.message);
    pthread_mutex_lock(&discovery->lock);
    struct discovered_server *server = discovered_find(discovery->newest, host->host_and_port);
    bool news = server != NULL && reason[0] != '\0' && strcmp(server->reason, reason) != 0;
    if (news) {
        memcpy(server->reason, reason, sizeof reason);
    }
    handled(discovery, news);
}

static void on_heartbeat_succeeded(const mongoc_apm_server_heartbeat_succeeded_t *event)
{
    struct discovery *discovery = mongoc_apm_server_heartbeat_succeeded_get_context(event);
    pthread_mutex_lock(&discovery->lock);
    if (discovery->changed) {
        discovery->changed(discovery->arg);
    }
    pthread_mutex_unlock(&discovery->lock);
}

// The URI, with what is weir's to say. Without directConnection libmongoc takes one seed for a
// server that stands alone; drivers that are younger follow it to its replica set.
static mongoc_uri_t *monitoring_uri(const char *text)
{
    bson_error_t error;
    mongoc_uri_t *uri = mongoc_uri_new_with_error(text, &error);
    assert(uri != NULL);
    mongoc_uri_set_appname(uri, "weir");
    mongoc_uri_set_option_as_int32(uri, MONGOC_URI_SERVERSELECTIONTIMEOUTMS, SELECTION_MS);
    mongoc_uri_set_option_as_int32(uri, MONGOC_URI_SOCKETTIMEOUTMS, DISCOVERY_COMMAND_MS);
    if (!mongoc_uri_has_option(uri, MONGOC_URI_HEARTBEATFREQUENCYMS)) {
        mongoc_uri_set_option_as_int32(uri, MONGOC_URI_HEARTBEATFREQUENCYMS, HEARTBEAT_MS);
    }
    if (!mongoc_uri_has_option(uri, MONGOC_URI_DIRECTCONNECTION)) {
        mongoc_uri_set_option_as_bool(uri, MONGOC_URI_DIRECTCONNECTION, false);
    }
    return uri;
}

static void listen_to(struct discovery *discovery)
{
    mongoc_apm_callbacks_t *callbacks = mongoc_apm_callbacks_new();
    mongoc_apm_set_server_opening_cb(callbacks, on_server_opening);
    mongoc_apm_set_server_closed_cb(callbacks, on_server_closed);
    mongoc_apm_set_topology_changed_cb(callbacks, on_topology_changed);
    mongoc_apm_set_server_heartbeat_failed_cb(callbacks, on_heartbeat_failed);
    mongoc_apm_set_server_heartbeat_succeeded_cb(callbacks, on_heartbeat_succeeded);
    mongoc_client_pool_set_apm_callbacks(discovery->pool, callbacks, discovery);
    mongoc_apm_callbacks_destroy(callbacks);
}

// Nobody has this tag.
static mongoc_read_prefs_t *prefer_nobody(void)
{
    mongoc_read_prefs_t *preference = mongoc_read_prefs_new(MONGOC_READ_SECONDARY);
    bson_t *tag = BCON_NEW("weir", BCON_UTF8("nobody"));
    mongoc_read_prefs_add_tag(preference, tag);
    bson_destroy(tag);
    return preference;
}

struct discovery *discovery_open(const char *uri_text, void (*changed)(void *arg), void *arg,
                                 char *ret_error, size_t error_capacity)
{
    bson_error_t error;
    mongoc_uri_t *uri = monitoring_uri(uri_text);
    mongoc_client_pool_t *pool = mongoc_client_pool_new_with_error(uri, &error);
    mongoc_uri_destroy(uri);
    if (pool == NULL) {
        snprintf(ret_error, error_capacity, "%s", error.message);
        return NULL;
    }
    struct discovery *discovery = xcalloc(1, sizeof *discovery);
    discovery->pool = pool;
    discovery->changed = changed;
    discovery->arg = arg;
    discovery->nobody = prefer_nobody();
    discovery->newest = xcalloc(1, sizeof *discovery->newest);
    int failed = pthread_mutex_init(&discovery->lock, NULL);
    assert(failed == 0);
    listen_to(discovery);
    discovery->client = mongoc_client_pool_pop(pool);
    return discovery;
}

void discovery_tell(struct discovery *discovery, void (*changed)(void *arg), void *arg)
{
    pthread_mutex_lock(&discovery->lock);
    discovery->changed = changed;
    discovery->arg = arg;
    discovery->fresh = true; // to this one
    pthread_mutex_unlock(&discovery->lock);
}

static void *close_it(void *arg)
{
    discovery_close(arg);
    return NULL;
}

void discovery_part_with(struct discovery *discovery)
{
    pthread_t thread;
    discovery_tell(discovery, NULL, NULL);
    if (pthread_create(&thread, NULL, close_it, discovery) == 0) {
        pthread_detach(thread);
    } else {
        discovery_close(discovery);
    }
}

void discovery_close(struct discovery *discovery)
{
    if (discovery == NULL) {
        return;
    }
    mongoc_client_pool_push(discovery->pool, discovery->client);
    mongoc_client_pool_destroy(discovery->pool);
    mongoc_read_prefs_destroy(discovery->nobody);
    pthread_mutex_destroy(&discovery->lock);
    free(discovery->newest);
    free(discovery);
}

struct discovered *discovery_seeds(const char *uri_text)
{
    mongoc_uri_t *uri = mongoc_uri_new(uri_text);
    struct discovered *seeds = xcalloc(1, sizeof *seeds);
    for (const mongoc_host_list_t *host = mongoc_uri_get_hosts(uri); host; host = host->next) {
        seeds = discovered_add(seeds, host);
    }
    mongoc_uri_destroy(uri);
    return seeds;
}

struct discovered *discovery_take(struct discovery *discovery)
{
    struct discovered *taken = NULL;
    pthread_mutex_lock(&discovery->lock);
    if (discovery->fresh) {
        size_t bytes = discovery->newest->count * sizeof taken->servers[0];
        taken = discovered_resize(NULL, discovery->newest->count);
        taken->count = discovery->newest->count;
        memcpy(taken->servers, discovery->newest->servers, bytes);
        discovery->fresh = false;
    }
    pthread_mutex_unlock(&discovery->lock);
    return taken;
}

static int64_t last_write_ms(const bson_t *hello)
{
    bson_iter_t iter;
    bson_iter_t date;
    bool found = hello && bson_iter_init(&iter, hello) &&
                 bson_iter_find_descendant(&iter, "lastWrite.lastWriteDate", &date) &&
                 BSON_ITER_HOLDS_DATE_TIME(&date);
    return found ? bson_iter_date_time(&date) : 0;
}

static void read_beat(const mongoc_server_description_t *description, struct server_beat *ret_beat)
{
    const mongoc_host_list_t *host = mongoc_server_description_host(description);
    int64_t rtt_ms = mongoc_server_description_round_trip_time(description);
    snprintf(ret_beat->name, sizeof ret_beat->name, "%s", host->host_and_port);
    ret_beat->kind = kind_of(description);
    ret_beat->rtt_us = rtt_ms > 0 ? rtt_ms * 1000 : 0;
    ret_beat->last_write_ms = last_write_ms(mongoc_server_description_hello_response(description));
    ret_beat->heard_ms = mongoc_server_description_last_update_time(description) / 1000;
}

size_t discovery_listen(struct discovery *discovery, struct server_beat *ret_beats, size_t most)
{
    size_t count;
    mongoc_server_description_t **known =
        mongoc_client_get_server_descriptions(discovery->client, &count);
    size_t kept = count < most ? count : most;
    for (size_t i = 0; i < kept; i++) {
        read_beat(known[i], &ret_beats[i]);
    }
    mongoc_server_descriptions_destroy_all(known, count);
    return kept;
}

int64_t discovery_heartbeat_ms(const struct discovery *discovery)
{
    return mongoc_uri_get_option_as_int32(mongoc_client_get_uri(discovery->client),
                                          MONGOC_URI_HEARTBEATFREQUENCYMS, HEARTBEAT_MS);
}

// A selection that finds nobody is the one thing that makes libmongoc look at once. Its error is
// "No suitable servers found ...: [error of a server] [error of another]".
void discovery_check(struct discovery *discovery, char ret_reason[DISCOVERY_REASON_BYTES])
{
    bson_error_t error = {0};
    mongoc_server_description_t *server =
        mongoc_client_select_server(discovery->client, false, discovery->nobody, &error);
    if (server != NULL) {
        mongoc_server_description_destroy(server);
    }
    const char *list = strchr(error.message, '[');
    snprintf(ret_reason, DISCOVERY_REASON_BYTES, "%.*s", DISCOVERY_REASON_BYTES - 1,
             list == NULL ? "" : list);
}

const mongoc_uri_t *discovery_uri(const struct discovery *discovery)
{
    return mongoc_client_get_uri(discovery->client);
}

const char *discovery_auth_source(const struct discovery *discovery)
{
    return mongoc_uri_get_auth_source(mongoc_client_get_uri(discovery->client));
}

bool discovery_load_balanced(const struct discovery *discovery)
{
    return mongoc_uri_get_option_as_bool(mongoc_client_get_uri(discovery->client),
                                         MONGOC_URI_LOADBALANCED, false);
}

// --- trying -------------------------------------------------------------------------------------

static bool ping(struct discovery *discovery, bson_error_t *ret_error)
{
    bson_t *command = BCON_NEW("ping", BCON_INT32(1));
    mongoc_read_prefs_t *any = mongoc_read_prefs_new(MONGOC_READ_NEAREST);
    bool done =
        mongoc_client_command_simple(discovery->client, "admin", command, any, NULL, ret_error);
    mongoc_read_prefs_destroy(any);
    bson_destroy(command);
    return done;
}

// The others have no need to be there.
static bool all_are_known(struct discovery *discovery)
{
    pthread_mutex_lock(&discovery->lock);
    const struct discovered *newest = discovery->newest;
    size_t i = 0;
    while (i < newest->count && newest->servers[i].info.kind != SERVER_UNKNOWN) {
        i++;
    }
    bool known = i == newest->count;
    pthread_mutex_unlock(&discovery->lock);
    return known;
}

static bool is_over(int64_t until_us, const atomic_bool *given_up)
{
    static const struct timespec pause = {.tv_nsec = TRY_PAUSE_NS};
    bool over = now_us() >= until_us || atomic_load(given_up);
    if (!over) {
        nanosleep(&pause, NULL);
    }
    return over;
}

// One that was refused is refused for good; whatever else is wrong may pass.
static bool log_in(struct discovery *discovery, int64_t until_us, const atomic_bool *given_up,
                   bson_error_t *ret_error)
{
    bool done = false;
    bool refused = false;
    do {
        done = ping(discovery, ret_error);
        refused = direct_is_rejected(ret_error);
    } while (!done && !refused && !is_over(until_us, given_up));
    return done;
}

bool discovery_try(struct discovery *discovery, int64_t within_us, const atomic_bool *given_up,
                   char *ret_error, size_t error_capacity)
{
    bson_error_t error = {0};
    int64_t until_us = now_us() + within_us;
    if (!log_in(discovery, until_us, given_up, &error)) {
        snprintf(ret_error, error_capacity, "%s", error.message);
        return false;
    }
    int64_t others_us = now_us() + OTHERS_US;
    until_us = others_us < until_us ? others_us : until_us;
    while (!all_are_known(discovery) && !is_over(until_us, given_up)) {
    }
    return true;
}
