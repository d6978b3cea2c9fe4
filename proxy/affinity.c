// SPDX-License-Identifier: Apache-2.0

#include "proxy/affinity.h"

#include <bson/bson.h>
#include <stdio.h>
#include <string.h>

#include "proxy/config.h"
#include "proxy/log.h"
#include "proxy/request.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"
#include "wire/bson_view.h"
#include "wire/request_build.h"
#include "wire/shape.h"

#define CURSOR_NOT_FOUND 43
#define PINS_MAX 100000
#define AT_ONCE 1000            // cursors, under one lock or by one command
#define KILLING_REQUESTS_MOST 4 // of a worker under way, so that apps' own requests go on

static void set_session(struct pin_key *key, const struct command *command)
{
    if (command->lsid_id.len == sizeof key->session_id) {
        memcpy(key->session_id, command->lsid_id.at, sizeof key->session_id);
    }
}

static uint32_t user_of(const struct request *request)
{
    return request->user ? request->user->id : request->bond.user;
}

static struct pin_key cursor_key(const struct request *request, int64_t cursor_id)
{
    struct pin_key key = {
        .kind = PIN_CURSOR,
        .user = user_of(request),
        .cursor_id = cursor_id,
    };
    set_session(&key, &request->command);
    return key;
}

static bool transaction_key(const struct request *request, struct pin_key *ret_key)
{
    const struct command *command = &request->command;
    if (!command->in_transaction || command->lsid_id.len != sizeof ret_key->session_id) {
        return false;
    }
    *ret_key = (struct pin_key){.kind = PIN_TRANSACTION, .user = user_of(request)};
    set_session(ret_key, command);
    return true;
}

// Ids of a killCursors, which has any number of them, so that the table is not locked for all.
struct cursor_ids {
    int64_t at[AT_ONCE];
    size_t count;
};

// The next ones. False: there are no more.
static bool next_ids(struct bson_walk *walk, struct cursor_ids *ids)
{
    struct bson_element element;
    ids->count = 0;
    while (ids->count < AT_ONCE && bson_walk_next(walk, &element) == BSON_WALK_ELEMENT) {
        ids->count += bson_element_i64(&element, &ids->at[ids->count]);
    }
    return ids->count > 0;
}

// The first id of a killCursors, 0 if it has none.
static int64_t first_cursor(struct bytes cursors)
{
    struct bson_walk walk;
    struct bson_element element;
    int64_t id = 0;
    if (cursors.len > 0 && bson_walk_begin(&walk, cursors) &&
        bson_walk_next(&walk, &element) == BSON_WALK_ELEMENT) {
        bson_element_i64(&element, &id);
    }
    return id;
}

void affinity_init(struct affinity *affinity)
{
    pthread_mutex_init(&affinity->lock, NULL);
    affinity->pins = pins_new(PINS_MAX);
    affinity->others = (struct pin_owner){.is_elsewhere = true};
    atomic_init(&affinity->relay, NULL);
}

void affinity_fini(struct affinity *affinity)
{
    pins_orphan(affinity->pins, &affinity->others, 0);
    pins_free(affinity->pins);
    pthread_mutex_destroy(&affinity->lock);
}

static void resume(struct pins *pins, const struct request *request, const struct pin_key *key,
                   struct bond *ret_bond)
{
    const struct pin *pin = pins_find(pins, key);
    if (pin) {
        ret_bond->server = pin->server;
        ret_bond->upstream = pin->connection;
        ret_bond->streams = pin->streams;
    }
    pins_resume(pins, key, &request->client->pins, request->now_us);
}

static void resume_all(struct affinity *affinity, const struct request *request,
                       struct bond *ret_bond)
{
    const struct command *command = &request->command;
    int64_t cursor = command->cursor_id ? command->cursor_id : first_cursor(command->cursors);
    struct pin_key cursors = cursor_key(request, cursor);
    struct pin_key transactions;
    bool in_transaction = !command->start_transaction && transaction_key(request, &transactions);
    *ret_bond = (struct bond){0};
    if (!cursor && !in_transaction) {
        return;
    }
    pthread_mutex_lock(&affinity->lock);
    if (cursor) {
        resume(affinity->pins, request, &cursors, ret_bond);
    }
    if (in_transaction) {
        resume(affinity->pins, request, &transactions, ret_bond);
    }
    pthread_mutex_unlock(&affinity->lock);
}

void affinity_resume(struct affinity *affinity, const struct request *request,
                     struct bond *ret_bond)
{
    const struct affinity_relay *relay = atomic_load(&affinity->relay);
    const struct command *command = &request->command;
    resume_all(affinity, request, ret_bond);
    bool goes_on = command->cursor_id || command->cursors.len > 0 ||
                   (command->in_transaction && !command->start_transaction);
    if (relay && goes_on && ret_bond->server == 0) {
        relay->missed(relay->arg);
        resume_all(affinity, request, ret_bond);
    }
}

uint32_t affinity_of_cursor(struct affinity *affinity, const struct request *request, int64_t id)
{
    struct pin_key key = cursor_key(request, id);
    pthread_mutex_lock(&affinity->lock);
    const struct pin *pin = pins_find(affinity->pins, &key);
    uint32_t server = pin ? pin->server : 0;
    pthread_mutex_unlock(&affinity->lock);
    return server;
}

// One that is not known may be another user's: without a session, the server would not see that.
static bool may_go_on(struct pins *pins, const struct request *request, int64_t cursor_id)
{
    struct pin_key key = cursor_key(request, cursor_id);
    bool goes_on = request->command.cursor_id != 0;
    bool in_session = request->command.lsid_id.len > 0;
    return !pins_is_foreign(pins, &key) &&
           (!goes_on || in_session || pins_find(pins, &key) != NULL);
}

static bool all_may_go_on(struct affinity *affinity, const struct request *request,
                          const struct cursor_ids *ids)
{
    bool may = true;
    pthread_mutex_lock(&affinity->lock);
    for (size_t i = 0; may && i < ids->count; i++) {
        may = may_go_on(affinity->pins, request, ids->at[i]);
    }
    pthread_mutex_unlock(&affinity->lock);
    return may;
}

bool affinity_may_go_on(struct affinity *affinity, const struct request *request)
{
    const struct command *command = &request->command;
    struct cursor_ids ids = {{command->cursor_id}, 1};
    struct bson_walk walk;
    bool may = true;
    if (!request->user) {
        return true;
    }
    if (command->cursor_id != 0) {
        return all_may_go_on(affinity, request, &ids);
    }
    if (command->cursors.len > 0 && bson_walk_begin(&walk, command->cursors)) {
        while (may && next_ids(&walk, &ids)) {
            may = all_may_go_on(affinity, request, &ids);
        }
    }
    return may;
}

static void tell_story(struct pin_story *story, const struct request *request)
{
    story->client = request->client_id;
    snprintf(story->app_name, sizeof story->app_name, "%s", request->app_name);
    memcpy(story->peer, request->peer, sizeof story->peer);
    shape_text(&request->msg, &request->command, story->shape, sizeof story->shape);
}

// To the upstream that it is on now: a session's next transaction may be on another than the last.
static void tie(struct pin *pin, struct upstream *upstream)
{
    if (upstream->keeps_pins && !upstream->tie) {
        upstream->tie = pin_tie_new(upstream->id);
    }
    if (upstream->keeps_pins) {
        pin_tie_to(pin, upstream->tie);
    }
}

// The request's client has it now. If that went away meanwhile, nobody has, unless another client
// has gone on with it: then it stays that one's.
static void open_pin(struct pins *pins, const struct request *request, const struct pin_key *key,
                     const char *namespace, struct pin_owner *owner)
{
    const struct command *command = &request->command;
    bool is_new = !pins_has(pins, key);
    if (request->client || is_new) {
        struct pin *pin = pins_open(pins, key, request->server->id, command->txn_number, namespace,
                                    owner, request->now_us);
        pin->streams |= command->streams;
        if (is_new) {
            tell_story(&pin->story, request);
        }
        pin->identity = request->identity;
        tie(pin, request->upstream);
    }
}

// An error says that it is over only for the client that had it: a statement that overtakes the
// first, which its app has given up, fails although the transaction is about to begin.
static void note_transaction(struct pins *pins, const struct request *request,
                             const struct reply_view *reply, struct pin_owner *owner)
{
    const struct command *command = &request->command;
    struct pin_key key;
    if (!transaction_key(request, &key)) {
        return;
    }
    bool ends = command_ends_transaction(command);
    bool over = ends && reply->ok;
    bool lost = ends || (reply->labels & LABEL_TRANSIENT_TRANSACTION);
    if (over || (lost && pins_belongs(pins, &key, owner))) {
        pins_close(pins, &key);
    } else if (!lost) {
        open_pin(pins, request, &key, "", owner);
    }
}

// The namespace of a command's cursor: without a collection it is "<database>.$cmd.<command>".
static void format_namespace(const struct command *command, char ret[PIN_NAMESPACE_BYTES])
{
    bool named = command->collection.len > 0;
    struct bytes last = named ? command->collection : command->name;
    snprintf(ret, PIN_NAMESPACE_BYTES, "%.*s.%s%.*s", (int)command->database.len,
             (const char *)command->database.at, named ? "" : "$cmd.", (int)last.len,
             (const char *)last.at);
}

static void note_cursor(struct pins *pins, const struct request *request,
                        const struct reply_view *reply, struct pin_owner *owner)
{
    const struct command *command = &request->command;
    bool over = reply->ok || reply->code == CURSOR_NOT_FOUND;
    if (command->cursor_id != 0 && reply->cursor_id == 0 && over) {
        struct pin_key key = cursor_key(request, command->cursor_id);
        pins_close(pins, &key);
    }
    if (reply->cursor_id != 0) {
        char namespace[PIN_NAMESPACE_BYTES];
        format_namespace(command, namespace);
        struct pin_key key = cursor_key(request, reply->cursor_id);
        open_pin(pins, request, &key, namespace, owner);
    }
}

// A driver kills what its app has dropped by one killCursors, also of several sessions.
static void note_killed_cursor(struct pins *pins, const struct request *request, int64_t cursor_id)
{
    struct pin_key key = cursor_key(request, cursor_id);
    const struct pin *pin = pins_find(pins, &key);
    if (pin && pin->server == request->server->id &&
        (pin->connection == 0 || pin->connection == request->upstream->id)) {
        key = pin->key;
        pins_close(pins, &key);
    }
}

static void note_killed_cursors(struct affinity *affinity, const struct request *request)
{
    struct bson_walk walk;
    struct cursor_ids ids;
    if (request->command.cursors.len == 0 || !bson_walk_begin(&walk, request->command.cursors)) {
        return;
    }
    while (next_ids(&walk, &ids)) {
        pthread_mutex_lock(&affinity->lock);
        for (size_t i = 0; i < ids.count; i++) {
            note_killed_cursor(affinity->pins, request, ids.at[i]);
        }
        pthread_mutex_unlock(&affinity->lock);
    }
}

// After how long one that nobody goes on with is a leak; 0: never.
static int64_t idle_us(const struct worker *worker, enum pin_kind kind)
{
    const struct config *config = worker->shared->config;
    return kind == PIN_CURSOR ? config->idle_cursor_after_us : config->idle_transaction_after_us;
}

static int64_t earlier(int64_t a_us, int64_t b_us)
{
    return a_us < b_us ? a_us : b_us;
}

// Whether what apps have left open is left to the deployment, or to whoever has taken over.
static bool leaves_it(const struct worker *worker)
{
    return worker->ending || worker->drain.begun_us > 0;
}

static bool may_kill(const struct worker *worker)
{
    return worker->own_requests < KILLING_REQUESTS_MOST;
}

// Ends a section under the lock: what is too old goes, and the next orphan is to be killed in time,
// and the next leak to be found.
static void settle(struct affinity *affinity, struct worker *worker, int64_t now_us)
{
    pins_expire(affinity->pins, AFFINITY_FORGET_US, now_us);
    atomic_store(&worker->shared->servers->in_transactions, pins_transactions(affinity->pins) > 0);
    int64_t at_us = may_kill(worker) ? pins_next_reap(affinity->pins, ORPHAN_GRACE_US) : INT64_MAX;
    for (enum pin_kind kind = 0; kind < PIN_KINDS; kind++) {
        int64_t limit_us = idle_us(worker, kind);
        if (limit_us > 0) {
            at_us = earlier(at_us, pins_next_idle_at(affinity->pins, kind, limit_us));
        }
    }
    pthread_mutex_unlock(&affinity->lock);

    if (at_us != INT64_MAX && !leaves_it(worker)) { // then it is left to the deployment
        worker_tick_by(worker, at_us);
    }
}

// --- another weir's -----------------------------------------------------------------------------

void affinity_set_relay(struct affinity *affinity, const struct affinity_relay *relay,
                        int64_t now_us)
{
    pthread_mutex_lock(&affinity->lock);
    atomic_store(&affinity->relay, relay);
    if (!relay) {
        pins_orphan(affinity->pins, &affinity->others, now_us);
    }
    pthread_mutex_unlock(&affinity->lock);
}

void affinity_adopt(struct affinity *affinity, const struct pin *pin, int64_t now_us)
{
    pthread_mutex_lock(&affinity->lock);
    const struct pin *known =
        pins_has(affinity->pins, &pin->key) ? pins_find(affinity->pins, &pin->key) : NULL;
    if (!known || known->txn_number < pin->txn_number) {
        struct pin *own = pins_open(affinity->pins, &pin->key, pin->server, pin->txn_number,
                                    pin->namespace, &affinity->others, now_us);
        own->streams = pin->streams;
        own->identity = pin->identity;
    }
    pthread_mutex_unlock(&affinity->lock);
}

static void relay_pin(struct affinity *affinity, const struct affinity_relay *relay,
                      const struct pin_key *key)
{
    struct pin copy;
    pthread_mutex_lock(&affinity->lock);
    bool has = pins_has(affinity->pins, key);
    if (has) {
        copy = *pins_find(affinity->pins, key);
    }
    pthread_mutex_unlock(&affinity->lock);
    if (has) {
        relay->opened(relay->arg, &copy);
    }
}

static void relay_opened(struct affinity *affinity, const struct request *request,
                         const struct reply_view *reply)
{
    const struct affinity_relay *relay = atomic_load(&affinity->relay);
    struct pin_key key;
    if (relay && reply->cursor_id != 0 && reply->cursor_id != request->command.cursor_id) {
        key = cursor_key(request, reply->cursor_id);
        relay_pin(affinity, relay, &key);
    }
    if (relay && request->command.start_transaction && transaction_key(request, &key)) {
        relay_pin(affinity, relay, &key);
    }
}

void affinity_note(struct affinity *affinity, const struct request *request,
                   const struct reply_view *reply)
{
    const struct command *command = &request->command;
    bool cursor = reply->cursor_id != 0 || command->cursor_id != 0;
    if (!cursor && !command->in_transaction && command->cursors.len == 0) {
        return;
    }
    // Without a client (it went away meanwhile), what it opened is an orphan from the start.
    struct pin_owner nobody = {0};
    struct pin_owner *owner = request->client ? &request->client->pins : &nobody;

    if (reply->ok) {
        note_killed_cursors(affinity, request);
    }
    pthread_mutex_lock(&affinity->lock);
    if (cursor) {
        note_cursor(affinity->pins, request, reply, owner);
    }
    if (command->in_transaction) {
        note_transaction(affinity->pins, request, reply, owner);
    }
    pins_orphan(affinity->pins, &nobody, request->now_us);
    settle(affinity, request->worker, request->now_us);
    relay_opened(affinity, request, reply);
}

void affinity_rest(struct affinity *affinity, const struct request *request, int64_t now_us)
{
    const struct command *command = &request->command;
    struct pin_key key = cursor_key(request, command->cursor_id);
    pthread_mutex_lock(&affinity->lock);
    if (command->cursor_id) {
        pins_rest(affinity->pins, &key, now_us);
    }
    if (transaction_key(request, &key)) {
        pins_rest(affinity->pins, &key, now_us);
    }
    settle(affinity, request->worker, now_us);
}

void affinity_untie(struct affinity *affinity, struct request *request)
{
    if (request->bond.tie) {
        pthread_mutex_lock(&affinity->lock);
        pin_untie(request->bond.tie);
        pthread_mutex_unlock(&affinity->lock);
        request->bond.tie = NULL;
    }
}

int affinity_count_tied(struct affinity *affinity, const struct upstream *upstream)
{
    if (!upstream->tie) {
        return 0;
    }
    pthread_mutex_lock(&affinity->lock);
    int count = (int)upstream->tie->pins;
    pthread_mutex_unlock(&affinity->lock);
    return count;
}

void affinity_cut_tie(struct affinity *affinity, struct upstream *upstream)
{
    if (upstream->tie) {
        pthread_mutex_lock(&affinity->lock);
        pin_tie_cut(upstream->tie);
        pthread_mutex_unlock(&affinity->lock);
        upstream->tie = NULL;
    }
}

static void open_again(struct pins *pins, const struct request *request, const struct pin_key *key)
{
    struct pin_owner nobody = {0};
    char namespace[PIN_NAMESPACE_BYTES];
    if (!pins_has(pins, key)) {
        format_namespace(&request->command, namespace);
        struct pin *pin = pins_open(pins, key, request->bond.server, request->command.txn_number,
                                    namespace, &nobody, request->now_us);
        pin->identity = request->identity;
        pin->was_tried = true;
        pins_orphan(pins, &nobody, request->now_us);
    }
}

void affinity_kill_failed(struct affinity *affinity, const struct request *request)
{
    struct bson_walk walk;
    struct cursor_ids ids = {.count = 0};
    struct bytes cursors = request->command.cursors;
    struct pin_key key;
    bool gone = request->failure == FAILURE_AFFINITY_LOST || request->bond.upstream != 0;
    if (gone || request->bond.is_last_try) {
        return;
    }
    if (cursors.len > 0 && bson_walk_begin(&walk, cursors)) {
        next_ids(&walk, &ids);
    }
    pthread_mutex_lock(&affinity->lock);
    for (size_t i = 0; i < ids.count; i++) {
        key = cursor_key(request, ids.at[i]);
        open_again(affinity->pins, request, &key);
    }
    if (transaction_key(request, &key)) {
        open_again(affinity->pins, request, &key);
    }
    settle(affinity, request->worker, request->now_us);
}

bool affinity_owns_some(struct affinity *affinity, const struct pin_owner *owner)
{
    pthread_mutex_lock(&affinity->lock);
    bool some = owner->first != NULL;
    pthread_mutex_unlock(&affinity->lock);
    return some;
}

void affinity_orphan(struct affinity *affinity, struct worker *worker, struct pin_owner *owner,
                     int64_t now_us)
{
    pthread_mutex_lock(&affinity->lock);
    pins_orphan(affinity->pins, owner, now_us);
    settle(affinity, worker, now_us);
}

static void build_kill_cursors(const struct pin *pin, const struct cursor_ids *ids, bson_t *command)
{
    const char *dot = strchr(pin->namespace, '.');
    const char *collection = dot ? dot + 1 : "";
    int database_len = dot ? (int)(dot - pin->namespace) : 0;
    char database[PIN_NAMESPACE_BYTES];
    snprintf(database, sizeof database, "%.*s", database_len, pin->namespace);
    bson_t cursors;
    BSON_APPEND_UTF8(command, "killCursors", collection);
    BSON_APPEND_ARRAY_BEGIN(command, "cursors", &cursors);
    for (uint32_t i = 0; i < ids->count; i++) {
        char space[16];
        const char *key;
        size_t len = bson_uint32_to_string(i, &key, space, sizeof space);
        bson_append_int64(&cursors, key, (int)len, ids->at[i]);
    }
    bson_append_array_end(command, &cursors);
    BSON_APPEND_UTF8(command, "$db", database);
}

static void build_abort_transaction(const struct pin *pin, bson_t *command)
{
    bson_t lsid;
    BSON_APPEND_INT32(command, "abortTransaction", 1);
    BSON_APPEND_DOCUMENT_BEGIN(command, "lsid", &lsid);
    BSON_APPEND_BINARY(&lsid, "id", BSON_SUBTYPE_UUID, pin->key.session_id,
                       sizeof pin->key.session_id);
    bson_append_document_end(command, &lsid);
    BSON_APPEND_INT64(command, "txnNumber", pin->txn_number);
    BSON_APPEND_BOOL(command, "autocommit", false);
    BSON_APPEND_UTF8(command, "$db", "admin");
}

// A transaction, or cursors of which `pin` was the first.
static void kill_pinned(struct worker *worker, const struct pin *pin, const struct cursor_ids *ids)
{
    bson_t command = BSON_INITIALIZER;
    struct buffer message = {0};
    if (pin->key.kind == PIN_CURSOR) {
        build_kill_cursors(pin, ids, &command);
    } else {
        build_abort_transaction(pin, &command);
    }
    request_append(&message, 0, &command);
    bson_destroy(&command);
    struct bond bond = {
        .server = pin->server,
        .upstream = pin->connection,
        .tie = pin->tie,
        .identity = pin->identity,
        .user = pin->key.user,
        .is_last_try = pin->was_tried,
    };
    request_run_own(worker, &bond, &message);
}

static void log_leak(const struct pin *pin, bool killed, int64_t now_us)
{
    static struct log_limit limit = {.per_second = 5};
    struct log_line line;
    if (!log_begin_limited(&line, LOG_WARN, "leak", &limit, now_us)) {
        return;
    }
    log_str(&line, "kind", pin->key.kind == PIN_CURSOR ? "cursor" : "transaction");
    log_str(&line, "killed", killed ? "true" : "false");
    log_int(&line, "idle_us", now_us - pin->used_us);
    log_int(&line, "client", (int64_t)pin->story.client);
    log_str(&line, "peer", pin->story.peer);
    log_str(&line, "app", pin->story.app_name);
    log_str(&line, "ns", pin->namespace[0] ? pin->namespace : NULL);
    log_str(&line, "shape", pin->story.shape);
    log_end(&line);
}

static bool find_leak(struct affinity *affinity, struct worker *worker, enum pin_kind kind,
                      bool kills, int64_t now_us, struct pin *ret_pin)
{
    int64_t limit_us = idle_us(worker, kind);
    if (limit_us == 0) {
        return false;
    }
    pthread_mutex_lock(&affinity->lock);
    const struct pin *pin;
    do { // what another weir's client has is looked after there
        pin = pins_next_idle(affinity->pins, kind, limit_us, now_us);
    } while (pin && pin->owner->is_elsewhere);
    if (pin) {
        *ret_pin = *pin;
        if (kills) { // with the orphans
            pins_give_up(affinity->pins, &ret_pin->key);
        }
    }
    settle(affinity, worker, now_us);
    return pin != NULL;
}

static void look_for_leaks(struct affinity *affinity, struct worker *worker, enum pin_kind kind,
                           int64_t now_us)
{
    bool kills = worker->shared->config->kill_idle;
    struct pin pin;
    while (!leaves_it(worker) && find_leak(affinity, worker, kind, kills, now_us, &pin)) {
        log_leak(&pin, kills, now_us);
    }
}

// Whether one command kills them both.
static bool go_together(const struct pin *a, const struct pin *b)
{
    return a->key.kind == PIN_CURSOR && b->key.kind == PIN_CURSOR && a->key.user == b->key.user &&
           a->server == b->server && a->connection == b->connection && a->identity == b->identity &&
           a->was_tried == b->was_tried && strcmp(a->namespace, b->namespace) == 0;
}

// What is to be killed by the next command: a transaction, or cursors of which *ret_pin is the
// first. False: nothing is.
static bool take_due(struct affinity *affinity, struct worker *worker, int64_t now_us,
                     struct pin *ret_pin, struct cursor_ids *ret_ids)
{
    struct pins *pins = affinity->pins;
    const struct pin *next;
    struct pin other;
    pthread_mutex_lock(&affinity->lock);
    bool due = pins_reap(pins, ORPHAN_GRACE_US, now_us, ret_pin);
    ret_ids->count = 0;
    if (due) {
        ret_ids->at[ret_ids->count++] = ret_pin->key.cursor_id;
    }
    while (due && ret_ids->count < AT_ONCE && (next = pins_due(pins, ORPHAN_GRACE_US, now_us)) &&
           go_together(ret_pin, next) && pins_reap(pins, ORPHAN_GRACE_US, now_us, &other)) {
        pin_untie(other.tie); // the first one's holds
        ret_ids->at[ret_ids->count++] = other.key.cursor_id;
    }
    settle(affinity, worker, now_us);
    return due;
}

void affinity_tick(struct affinity *affinity, struct worker *worker, int64_t now_us)
{
    struct pin pin;
    struct cursor_ids ids;
    look_for_leaks(affinity, worker, PIN_CURSOR, now_us);
    look_for_leaks(affinity, worker, PIN_TRANSACTION, now_us);
    while (!leaves_it(worker) && may_kill(worker) &&
           take_due(affinity, worker, now_us, &pin, &ids)) {
        kill_pinned(worker, &pin, &ids);
    }
}

size_t affinity_count(struct affinity *affinity)
{
    pthread_mutex_lock(&affinity->lock);
    size_t count = pins_count(affinity->pins);
    pthread_mutex_unlock(&affinity->lock);
    return count;
}

// Who owns it cannot die: it would have to give its pins up first, under the lock. 0: no client of
// ours.
static uint64_t owner_id(const struct pin *pin)
{
    const struct pin_owner *owner = pin->owner;
    return owner && !owner->is_elsewhere
               ? ((const struct client *)((const char *)owner - offsetof(struct client, pins)))->id
               : 0;
}

size_t affinity_copy(struct affinity *affinity, size_t *place, size_t places, struct pin *ret_pins,
                     uint64_t *ret_clients)
{
    size_t copied = 0;
    pthread_mutex_lock(&affinity->lock);
    size_t all = pins_places(affinity->pins);
    size_t end = *place + places < all ? *place + places : all;
    for (size_t at = *place; at < end; at++) {
        const struct pin *pin = pins_at(affinity->pins, at);
        if (pin) {
            ret_pins[copied] = *pin;
            ret_clients[copied++] = owner_id(pin);
        }
    }
    *place = end < all ? end : SIZE_MAX;
    pthread_mutex_unlock(&affinity->lock);
    return copied;
}
