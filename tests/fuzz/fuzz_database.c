// SPDX-License-Identifier: Apache-2.0
//
// The database weir: any sequence of commands, sound as BSON, gets one sound reply each, and says
// whether it succeeded. What a first batch promised, getMore brings. To one that is about a user's
// operations, nothing of another's is in the reply.

#include "tests/fuzz/fuzz.h"

#include "proxy/admin/database.h"
#include "proxy/admin/gather.h"
#include "proxy/admin/own_operations.h"
#include "proxy/cull.h"
#include "proxy/users.h"
#include "proxy/worker.h"

static struct picture picture;

static void put_setting(const char *name, const char *value)
{
    struct row row;
    row_begin(&row, &picture, STATE_config);
    row_text(&row, STATE_config__id, name);
    row_text(&row, STATE_config_value, value);
    row_end(&row);
}

static struct user user = {.spec = {.name = "alice", .db = "admin"}, .id = 2};

// One request of each of three users.
static void put_requests(void)
{
    struct show show = {0};
    struct seen_request seen = {.state = "served", .lane = "slow", .shape = "find x {a}"};
    for (seen.user_id = 1; seen.user_id <= 3; seen.user_id++) {
        seen.id = 1000 + seen.user_id;
        buffer_append(&show.seen_requests, &seen, sizeof seen);
    }
    gather_shown(&show, &picture);
    buffer_fini(&show.seen_requests);
}

static void make_picture(void)
{
    if (picture.collections) {
        return;
    }
    picture.collections = STATE_ALL;
    put_setting("net.port", "27017");
    put_setting("upstream.uri", "mongodb://\xff");
    put_setting("log", "x");
    put_requests();
}

static void check_reply(const struct inquiry *inquiry)
{
    bson_iter_t iter;
    const bson_t *reply = inquiry->reply;
    MUST(bson_validate(reply, BSON_VALIDATE_UTF8, NULL));
    MUST(bson_iter_init_find(&iter, reply, "ok") && BSON_ITER_HOLDS_DOUBLE(&iter));
    bool failed = bson_iter_double(&iter) == 0;
    MUST(bson_iter_init_find(&iter, reply, "code") == failed);
    MUST(!failed || !inquiry->opens_view);
}

// The id of the cursor that the reply leaves open, 0 if it leaves none.
static int64_t open_cursor(const struct inquiry *inquiry)
{
    bson_iter_t iter;
    bson_iter_t id;
    bool there =
        bson_iter_init(&iter, inquiry->reply) && bson_iter_find_descendant(&iter, "cursor.id", &id);
    int64_t found = there ? bson_iter_as_int64(&id) : 0;
    MUST((found != 0) == inquiry->opens_view);
    return found;
}

// Its own operation may be there, and no other.
static void check_ownership(const struct inquiry *inquiry)
{
    bson_iter_t iter;
    bson_iter_t list;
    bson_iter_t opid;
    bool there = bson_iter_init(&iter, inquiry->reply) &&
                 (bson_iter_find_descendant(&iter, "cursor.firstBatch", &list) ||
                  (bson_iter_init_find(&list, inquiry->reply, "inprog")));
    if (!there || !bson_iter_recurse(&list, &iter)) {
        return;
    }
    int count = 0;
    while (bson_iter_next(&iter)) {
        bson_iter_t field;
        bool told =
            bson_iter_recurse(&iter, &field) && bson_iter_find_descendant(&field, "opid", &opid);
        MUST(++count == 1 && (!told || bson_iter_as_int64(&opid) == 1002));
    }
}

// --- no workers: as many as are asked end something ----------------------------------------------

void __wrap_cull_ask(struct worker *const *workers, int count, const struct cull_wish *wish,
                     void (*done)(void *arg, const struct cull_counts *counts), void *arg);
void __wrap_cull_log(const struct cull_wish *wish, const struct cull_counts *counts, const char *by,
                     const char *why);
void __wrap_worker_post(struct worker *worker, struct mail *mail, enum worker_mail kind);

void __wrap_cull_ask(struct worker *const *workers, int count, const struct cull_wish *wish,
                     void (*done)(void *arg, const struct cull_counts *counts), void *arg)
{
    (void)workers;
    MUST(wish->request != 0 && wish->user_id == user.id);
    done(arg, &(struct cull_counts){.ended = count});
}

void __wrap_cull_log(const struct cull_wish *wish, const struct cull_counts *counts, const char *by,
                     const char *why)
{
    (void)by, (void)why;
    MUST(wish->request != 0 && counts->ended > 0);
}

void __wrap_worker_post(struct worker *worker, struct mail *mail, enum worker_mail kind)
{
    (void)worker;
    MUST(mail && kind == MAIL_ANSWERED);
}

// ------------------------------------------------------------------------------------------------

static int64_t ask(struct database *database, struct bytes command, int64_t now_us)
{
    struct inquiry inquiry = {.client_id = (uint64_t)(now_us % 3), .may_look = true};
    inquiry.user = now_us % 4 == 3 ? &user : NULL;
    buffer_append(&inquiry.command, command.at, command.len);
    if (database_take(database, &inquiry, now_us)) {
        MUST(inquiry.kills == 0);
    } else if (inquiry.kills != 0) {
        own_operations_kill(&inquiry, NULL, (int)(now_us % 2));
    } else {
        database_answer(database, &inquiry, now_us % 7 == 6 ? NULL : &picture);
    }
    check_reply(&inquiry);
    if (inquiry.user) {
        check_ownership(&inquiry);
    }
    int64_t id = open_cursor(&inquiry);
    bson_destroy(inquiry.reply);
    buffer_fini(&inquiry.command);
    return id;
}

static void get_more(struct database *database, int64_t id, int64_t now_us)
{
    bson_t *command = BCON_NEW("getMore", BCON_INT64(id), "collection", "config");
    struct bytes bytes = {bson_get_data(command), command->len};
    MUST(ask(database, bytes, now_us) == 0); // the rest, all of it
    bson_destroy(command);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct database *database = database_new();
    make_picture();
    for (int64_t now_us = 0; input.len > 2; now_us++) {
        struct bytes piece = input_piece(&input);
        uint8_t *copy = exact_copy(piece.at, piece.len);
        struct bytes command = {copy, piece.len};
        if (piece.len >= BSON_VIEW_MIN_BYTES && bson_check(command) == WIRE_OK) {
            int64_t id = ask(database, command, now_us);
            if (id != 0 && now_us % 2) {
                get_more(database, id, now_us);
            } else if (id != 0 && now_us % 5 == 0) {
                database_forget_client(database, (uint64_t)(now_us % 3));
            }
        }
        free(copy);
    }
    database_free(database);
    return 0;
}
