// SPDX-License-Identifier: Apache-2.0

#include "proxy/store.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/mem.h"
#include "proxy/net/lookup.h"
#include "proxy/net/stream.h"

#define REACH_US 1500000   // the longest it may take to reach it
#define STEP_US 400000     // and one connection, or one answer
#define LOOKUPS_MAX 4      // that hang
#define LOOK_US 5000       // how often it is looked whether a name has been found
#define REPLY_BYTES 262144 // the most
#define ELEMENTS_MAX 4096  // of an array

enum { PASSWORD_BYTES = 512 };

#if HIREDIS_MAJOR >= 1
typedef size_t element_count;
#else
typedef int element_count;
#endif

struct store {
    struct store_options options;
    struct loop *loop;
    struct timer *timer;   // ends a wait
    struct stream *stream; // NULL: not connected
    redisReader *reader;
    size_t received;                     // of this answer: the reader forgets what it has read
    redisReplyObjectFunctions functions; // of the reader: hiredis's own, but
    void *(*make_array)(const redisReadTask *task, element_count elements);
    int sentinel; // to be asked first
    char digest[64];
    char peer[160];
    char error[256];
};

// --- waiting ------------------------------------------------------------------------------------

static void stop_waiting(void *arg)
{
    struct store *store = arg;
    loop_stop(store->loop);
}

static void on_ready(void *arg, unsigned directions)
{
    (void)directions;
    stop_waiting(arg);
}

static int64_t soon(const struct store *store, int64_t us, int64_t until_us)
{
    int64_t at_us = loop_now_us(store->loop) + us;
    return at_us < until_us ? at_us : until_us;
}

static void hang_up(struct store *store, const char *why)
{
    snprintf(store->error, sizeof store->error, "%s", why);
    if (store->stream) {
        stream_free(store->stream);
        redisReaderFree(store->reader);
        store->stream = NULL;
    }
}

// Until something has happened. False: it is too late.
static bool wait(struct store *store, int64_t until_us)
{
    if (loop_now_us(store->loop) >= until_us) {
        hang_up(store, "did not answer in time");
        return false;
    }
    timer_set(store->timer, until_us);
    loop_run(store->loop);
    return true;
}

// False, and hung up, unless it is OK or WAIT.
static bool goes_on(struct store *store, enum stream_status status)
{
    if (status == STREAM_CLOSED) {
        hang_up(store, "closed the connection");
    } else if (status == STREAM_FAILED) {
        char why[sizeof store->error];
        snprintf(why, sizeof why, "%s", stream_error(store->stream));
        hang_up(store, why);
    }
    return status == STREAM_OK || status == STREAM_WAIT;
}

// --- names --------------------------------------------------------------------------------------

static struct lookups lookups = {.most = LOOKUPS_MAX};

// Returns how many addresses it has.
static size_t find_addresses(struct store *store, const struct store_host *host, int64_t until_us,
                             struct address *ret_addresses)
{
    struct lookup *lookup = lookup_start(&lookups, host->name, host->port, NULL, NULL);
    const char *error = NULL;
    size_t count = 0;
    bool in_time = true;
    while (in_time && !lookup_is_done(lookup)) {
        in_time =
            loop_now_us(store->loop) < until_us && wait(store, soon(store, LOOK_US, until_us));
    }
    if (!in_time) {
        hang_up(store, "its name could not be looked up in time");
    } else {
        count = lookup_found(lookup, ret_addresses, &error);
    }
    if (in_time && count == 0) {
        hang_up(store, error);
    }
    lookup_leave(lookup);
    return count;
}

// --- calls --------------------------------------------------------------------------------------

static bool send_all(struct store *store, const char *text, size_t len, int64_t until_us)
{
    bool good = true;
    for (size_t sent = 0; good && sent < len;) {
        size_t more = 0;
        enum stream_status status =
            stream_write(store->stream, (const uint8_t *)text + sent, len - sent, &more);
        sent += status == STREAM_OK ? more : 0;
        good = goes_on(store, status);
        if (status == STREAM_WAIT) {
            stream_watch(store->stream, STREAM_WRITE);
            good = wait(store, until_us);
        }
    }
    if (good) {
        stream_watch(store->stream, STREAM_READ);
    }
    return good;
}

static bool read_some(struct store *store, int64_t until_us)
{
    uint8_t bytes[4096];
    size_t len = 0;
    enum stream_status status = stream_read(store->stream, bytes, sizeof bytes, &len);
    if (!goes_on(store, status)) {
        return false;
    }
    if (status == STREAM_WAIT) {
        return wait(store, until_us);
    }
    store->received += len;
    if (store->received > REPLY_BYTES) {
        hang_up(store, "nonsense: too long an answer");
        return false;
    }
    redisReaderFeed(store->reader, (const char *)bytes, len);
    return true;
}

static redisReply *receive(struct store *store, int64_t until_us)
{
    void *reply = NULL;
    bool good = true;
    while (good && !reply) {
        if (redisReaderGetReply(store->reader, &reply) != REDIS_OK) {
            hang_up(store, "nonsense: not what Redis speaks");
            return NULL;
        }
        good = reply || read_some(store, until_us);
    }
    if (reply) { // nobody reads before the next question: what comes would wake the loop for ever
        stream_watch(store->stream, 0);
    }
    if (reply && store->reader->pos != store->reader->len) {
        hang_up(store, "nonsense: more than was asked");
        freeReplyObject(reply);
        return NULL;
    }
    return reply;
}

static redisReply *call(struct store *store, int count, const char **arguments, int64_t until_us)
{
    char *text = NULL;
    if (!stream_is_quiet(store->stream)) { // what came late would be taken for the next answer
        hang_up(store, "closed the connection, or sent something unasked");
        return NULL;
    }
    int len = redisFormatCommandArgv(&text, count, arguments, NULL);
    if (len < 0) {
        abort(); // no memory
    }
    store->received = 0;
    until_us = soon(store, STEP_US, until_us);
    bool sent = send_all(store, text, (size_t)len, until_us);
    OPENSSL_cleanse(text, (size_t)len); // it may have been the login
    redisFreeCommand(text);
    return sent ? receive(store, until_us) : NULL;
}

static const char *words_of(const redisReply *error)
{
    return error->str[0] ? error->str : "nonsense: an error without a word";
}

// As call; an error is none either.
static redisReply *call_well(struct store *store, int count, const char **arguments,
                             int64_t until_us)
{
    redisReply *reply = call(store, count, arguments, until_us);
    if (reply && reply->type == REDIS_REPLY_ERROR) {
        hang_up(store, words_of(reply));
        freeReplyObject(reply);
        return NULL;
    }
    return reply;
}

// --- reaching it --------------------------------------------------------------------------------

// What it says is from outside: no more memory than it sends bytes, nearly.
static void *make_array(const redisReadTask *task, element_count elements)
{
    const struct store *store = task->privdata;
    return elements <= ELEMENTS_MAX ? store->make_array(task, elements) : NULL;
}

static void start_reader(struct store *store)
{
    store->reader = redisReaderCreate();
    if (!store->reader) {
        abort(); // no memory
    }
    store->functions = *store->reader->fn;
    store->make_array = store->functions.createArray;
    store->functions.createArray = make_array;
    store->reader->fn = &store->functions;
    store->reader->privdata = store;
}

static bool shake_hands(struct store *store, int64_t until_us)
{
    enum stream_status status;
    do {
        status = stream_handshake(store->stream);
    } while (goes_on(store, status) && status == STREAM_WAIT && wait(store, until_us));
    return status == STREAM_OK;
}

// Certificates are read each time: they may have been renewed.
static bool connect_to(struct store *store, const struct store_host *host,
                       const struct address *address, int64_t until_us)
{
    struct stream_handler handler = {on_ready, store};
    struct tls_client *tls = NULL;
    char why[sizeof store->error];
    if (store->options.address.tls &&
        !(tls = tls_client_new(&store->options.tls, why, sizeof why))) {
        hang_up(store, why);
        return false;
    }
    store->stream = stream_connect(store->loop, address, tls, host->name, handler);
    start_reader(store);
    tls_client_free(tls);
    if (!shake_hands(store, soon(store, STEP_US, until_us))) {
        return false;
    }
    snprintf(store->peer, sizeof store->peer, "%s", stream_peer(store->stream));
    return true;
}

static bool connect_host(struct store *store, const struct store_host *host, int64_t until_us)
{
    struct address addresses[ADDRESS_MAX];
    size_t count = find_addresses(store, host, until_us, addresses);
    for (size_t i = 0; i < count; i++) {
        if (connect_to(store, host, &addresses[i], until_us)) {
            return true;
        }
    }
    return false;
}

static bool read_password(const char *path, char ret_password[PASSWORD_BYTES])
{
    FILE *file = fopen(path, "re");
    bool good = file && fgets(ret_password, PASSWORD_BYTES, file);
    if (file) {
        fclose(file);
    }
    if (good) {
        ret_password[strcspn(ret_password, "\r\n")] = '\0';
    }
    return good && ret_password[0];
}

static bool log_in(struct store *store, int64_t until_us)
{
    char password[PASSWORD_BYTES];
    const char *user = store->options.user;
    if (!store->options.password_file) {
        return true;
    }
    if (!read_password(store->options.password_file, password)) {
        hang_up(store, "fleet.passwordFile cannot be read, or is empty");
        return false;
    }
    const char *arguments[] = {"AUTH", user ? user : password, password};
    redisReply *reply = call(store, user ? 3 : 2, arguments, until_us);
    OPENSSL_cleanse(password, sizeof password);
    bool good = reply && reply->type != REDIS_REPLY_ERROR;
    if (reply && !good) { // its first word: who does not know AUTH repeats what it was sent
        char why[sizeof store->error];
        snprintf(why, sizeof why, "%.*s: it refuses the login", (int)strcspn(reply->str, " "),
                 reply->str);
        hang_up(store, why);
    }
    if (reply) {
        freeReplyObject(reply);
    }
    return good;
}

// Whether it is an array of `count` texts, or more.
static bool has_texts(const redisReply *reply, size_t count)
{
    bool good = reply->type == REDIS_REPLY_ARRAY && reply->elements >= count;
    for (size_t i = 0; good && i < count; i++) {
        good = reply->element[i] && reply->element[i]->type == REDIS_REPLY_STRING;
    }
    return good;
}

// Sentinels that want a login get the store's.
static redisReply *ask_sentinel(struct store *store, int64_t until_us)
{
    const char *arguments[] = {"SENTINEL", "get-master-addr-by-name",
                               store->options.address.master};
    redisReply *reply = call(store, 3, arguments, until_us);
    if (reply && reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, "NOAUTH", 6) == 0 &&
        store->options.password_file) {
        freeReplyObject(reply);
        return log_in(store, until_us) ? call_well(store, 3, arguments, until_us) : NULL;
    }
    return reply;
}

static bool ask_for_master(struct store *store, const struct store_host *sentinel, int64_t until_us,
                           struct store_host *ret_master)
{
    redisReply *reply =
        connect_host(store, sentinel, until_us) ? ask_sentinel(store, until_us) : NULL;
    if (!reply) {
        return false;
    }
    bool good = has_texts(reply, 2) && reply->element[0]->len < sizeof ret_master->name;
    if (good) {
        snprintf(ret_master->name, sizeof ret_master->name, "%s", reply->element[0]->str);
        ret_master->port = (uint16_t)strtoul(reply->element[1]->str, NULL, 10);
        hang_up(store, "");
    } else {
        hang_up(store, reply->type == REDIS_REPLY_ERROR ? words_of(reply)
                                                        : "the Sentinel knows no such master");
    }
    freeReplyObject(reply);
    return good;
}

static bool find_master(struct store *store, int64_t until_us, struct store_host *ret_master)
{
    const struct store_address *address = &store->options.address;
    for (int i = 0; i < address->host_count; i++) {
        int which = (store->sentinel + i) % address->host_count;
        if (ask_for_master(store, &address->hosts[which], until_us, ret_master)) {
            store->sentinel = which;
            return true;
        }
    }
    store->sentinel = (store->sentinel + 1) % address->host_count;
    return false;
}

// A Sentinel may not have heard of the latest failover.
static bool is_master(struct store *store, int64_t until_us)
{
    const char *arguments[] = {"ROLE"};
    redisReply *reply = call_well(store, 1, arguments, until_us);
    if (!reply) {
        return false;
    }
    bool good = has_texts(reply, 1) && strcmp(reply->element[0]->str, "master") == 0;
    freeReplyObject(reply);
    if (!good) {
        hang_up(store, "is no master");
    }
    return good;
}

static bool load_script(struct store *store, int64_t until_us)
{
    const char *arguments[] = {"SCRIPT", "LOAD", store->options.script};
    redisReply *reply = call_well(store, 3, arguments, until_us);
    if (!reply) {
        return false;
    }
    bool good = reply->type == REDIS_REPLY_STRING && reply->len < sizeof store->digest;
    if (good) {
        memcpy(store->digest, reply->str, reply->len + 1);
    } else {
        hang_up(store, "nonsense: no script's digest");
    }
    freeReplyObject(reply);
    return good;
}

bool store_is_there(const struct store *store)
{
    return store->stream != NULL;
}

bool store_reach(struct store *store)
{
    const struct store_address *address = &store->options.address;
    struct store_host host = address->hosts[0];
    int64_t until_us = loop_now_us(store->loop) + REACH_US;
    if (store->stream) {
        return true;
    }
    return (!address->master[0] || find_master(store, until_us, &host)) &&
           connect_host(store, &host, until_us) && log_in(store, until_us) &&
           (!address->master[0] || is_master(store, until_us)) && load_script(store, until_us);
}

redisReply *store_run(struct store *store, int count, const char **arguments)
{
    const char **command = xcalloc((size_t)count + 2, sizeof *command);
    command[0] = "EVALSHA";
    command[1] = store->digest;
    memcpy(&command[2], arguments, (size_t)count * sizeof *arguments);
    redisReply *reply = call_well(store, count + 2, command, INT64_MAX);
    free(command);
    return reply;
}

void store_reject(struct store *store, const char *why)
{
    hang_up(store, why);
}

const char *store_peer(const struct store *store)
{
    return store->peer;
}

const char *store_error(const struct store *store)
{
    return store->error;
}

// --- life ---------------------------------------------------------------------------------------

bool store_check(const struct store_options *options, char *ret_error, size_t capacity)
{
    char password[PASSWORD_BYTES];
    if (options->password_file && !read_password(options->password_file, password)) {
        snprintf(ret_error, capacity, "fleet.passwordFile %s: cannot be read, or is empty",
                 options->password_file);
        return false;
    }
    OPENSSL_cleanse(password, sizeof password);
    if (!options->address.tls) {
        return true;
    }
    struct tls_client *tls = tls_client_new(&options->tls, ret_error, capacity);
    tls_client_free(tls);
    return tls != NULL;
}

struct store *store_new(const struct store_options *options, struct loop *loop)
{
    struct store *store = xcalloc(1, sizeof *store);
    store->options = *options;
    store->loop = loop;
    store->timer = timer_new(loop, stop_waiting, store);
    return store;
}

void store_free(struct store *store)
{
    hang_up(store, "");
    timer_free(store->timer);
    free(store);
}
