// SPDX-License-Identifier: Apache-2.0
//
// A pin is told as "pin " and a document: k(ind), i(d of the cursor), s(ession), t(ransaction),
// g (it streams), n(amespace), m (the server's name), and of whoever has logged in d(atabase) and
// u(ser). Those that are bound to a connection of ours are of no use to another.

#include "proxy/succession_pins.h"

#include <bson/bson.h>
#include <string.h>

#include "proxy/admin/fields.h"
#include "proxy/control/clock.h"
#include "proxy/users.h"
#include "proxy/weir_inner.h"

#define PIECE 64 // of pins, copied at one time
#define PIECES 4 // at one go: whoever waits to tell of one waits no longer

// The user of an id, kept; NULL: there is none.
static struct user *find_user(struct weir *weir, uint32_t id)
{
    struct user *found = NULL;
    pthread_mutex_lock(&weir->posting);
    for (size_t i = 0; weir->users && i < users_count(weir->users) && !found; i++) {
        struct user *user = users_at(weir->users, i);
        found = user->id == id ? user_keep(user) : NULL;
    }
    pthread_mutex_unlock(&weir->posting);
    return found;
}

// False: it cannot be told.
static bool describe_pin(struct weir *weir, const struct pin *pin, bson_t *document)
{
    char name[sizeof((struct server *)NULL)->name];
    struct user *user = pin->key.user > 0 ? find_user(weir, pin->key.user) : NULL;
    if ((pin->key.user > 0 && !user) || pin->connection != 0 ||
        !servers_name(weir->shared.servers, pin->server, name, sizeof name)) {
        user_drop(user);
        return false;
    }
    BSON_APPEND_INT32(document, "k", (int32_t)pin->key.kind);
    BSON_APPEND_INT64(document, "i", pin->key.cursor_id);
    BSON_APPEND_BINARY(document, "s", BSON_SUBTYPE_BINARY, pin->key.session_id,
                       sizeof pin->key.session_id);
    BSON_APPEND_INT64(document, "t", pin->txn_number);
    BSON_APPEND_BOOL(document, "g", pin->streams);
    BSON_APPEND_UTF8(document, "m", name);
    bson_append_binary(document, "n", -1, BSON_SUBTYPE_BINARY, (const uint8_t *)pin->namespace,
                       (uint32_t)strlen(pin->namespace));
    if (user) {
        BSON_APPEND_UTF8(document, "d", user->spec.db);
        BSON_APPEND_UTF8(document, "u", user->spec.name);
    }
    user_drop(user);
    return true;
}

void succession_tell_pin(struct weir *weir, struct telling *telling, const struct pin *pin)
{
    static const char word[] = SUCCESSION_PIN;
    bson_t document = BSON_INITIALIZER;
    if (describe_pin(weir, pin, &document)) {
        char text[TALK_MESSAGE_BYTES];
        size_t bytes = strlen(word) + document.len;
        memcpy(text, word, strlen(word));
        if (bytes < sizeof text) {
            memcpy(text + strlen(word), bson_get_data(&document), document.len);
            telling->place = talk_say(&telling->talk, text, bytes) ? telling->place : 0;
        }
    }
    bson_destroy(&document);
}

static void read_user(struct weir *weir, const char *db, const char *name, struct pin *pin)
{
    struct bytes database = {(const uint8_t *)db, strlen(db)};
    struct bytes called = {(const uint8_t *)name, strlen(name)};
    pthread_mutex_lock(&weir->posting);
    const struct user *user = weir->users ? users_find(weir->users, database, called) : NULL;
    pin->key.user = user ? user->id : 0;
    pin->identity = user ? user->identity : 0;
    pthread_mutex_unlock(&weir->posting);
}

static int64_t read_number(const bson_t *document, const char *key)
{
    bson_iter_t iter;
    return bson_iter_init_find(&iter, document, key) ? bson_iter_as_int64(&iter) : 0;
}

static void read_binary(const bson_t *document, const char *key, void *ret, size_t capacity)
{
    bson_iter_t iter;
    bson_subtype_t subtype;
    uint32_t length = 0;
    const uint8_t *data = NULL;
    if (bson_iter_init_find(&iter, document, key) && BSON_ITER_HOLDS_BINARY(&iter)) {
        bson_iter_binary(&iter, &subtype, &length, &data);
        memcpy(ret, data, length < capacity ? length : capacity);
    }
}

void succession_adopt_pin(struct weir *weir, const char *bytes, size_t length)
{
    bson_t document;
    struct pin pin = {0};
    if (!bson_init_static(&document, (const uint8_t *)bytes, length)) {
        return;
    }
    const char *name = field_text(&document, "u");
    pin.key.kind = read_number(&document, "k") == PIN_CURSOR ? PIN_CURSOR : PIN_TRANSACTION;
    pin.key.cursor_id = read_number(&document, "i");
    read_binary(&document, "s", pin.key.session_id, sizeof pin.key.session_id);
    pin.txn_number = read_number(&document, "t");
    pin.streams = read_number(&document, "g") != 0;
    read_binary(&document, "n", pin.namespace, sizeof pin.namespace - 1);
    pin.server = servers_id(weir->shared.servers, field_text(&document, "m"));
    if (name[0] != '\0') {
        read_user(weir, field_text(&document, "d"), name, &pin);
    }
    if (pin.server != 0 && (name[0] == '\0' || pin.key.user != 0)) {
        affinity_adopt(&weir->shared.affinity, &pin, now_us());
    }
}

bool succession_has_told(const struct telling *telling)
{
    return telling->place == SIZE_MAX && buffer_held(&telling->talk.unsaid) == 0;
}

bool succession_tell_pins(struct weir *weir, struct telling *telling)
{
    struct pin pins[PIECE];
    uint64_t clients[PIECE];
    for (int i = 0; talk_go_on(&telling->talk) && telling->place != SIZE_MAX && i < PIECES; i++) {
        size_t count = affinity_copy(&weir->shared.affinity, &telling->place, PIECE, pins, clients);
        for (size_t at = 0; at < count; at++) {
            succession_tell_pin(weir, telling, &pins[at]);
        }
    }
    return succession_has_told(telling);
}
