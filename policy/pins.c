// SPDX-License-Identifier: Apache-2.0
//
// A pin is in three places at once: a bucket of the hash table, the list by use, and the list of
// its owner, or, when it has none, the list of orphans:
//
//      buckets -> pin -> pin
//      oldest  -> pin -> ... newer ... -> newest         next_idle -> the first not yet looked at
//      owner   -> pin -> pin                             orphans -> pin -> pin -> orphans_last
//
// Invariant: a pin that is not free is in all three; pin->owner == NULL says it is an orphan.

#include "policy/pins.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "policy/hash.h"
#include "policy/memory.h"

struct pins {
    size_t capacity;
    size_t count;
    size_t transactions; // of these
    size_t touched;      // entries from here on were never used
    int bits;
    struct pin **buckets;
    struct pin *entries;
    struct pin *free; // linked by bucket_next
    struct pin *oldest;
    struct pin *newest;
    struct pin *next_idle[PIN_KINDS]; // of any kind
    struct pin_owner orphans;
    struct pin *orphans_last;
};

struct pins *pins_new(size_t capacity)
{
    assert(capacity > 0);
    struct pins *pins = memory_new(1, sizeof(*pins));
    pins->capacity = capacity;
    pins->bits = hash_bits(capacity);
    pins->buckets = memory_new((size_t)1 << pins->bits, sizeof(*pins->buckets));
    pins->entries = memory_new(capacity, sizeof(*pins->entries));
    return pins;
}

// By the cursor's id alone, so that one chain has all cursors of that id.
static struct pin **bucket_of(struct pins *pins, const struct pin_key *key)
{
    uint64_t hashed = (uint64_t)key->cursor_id;
    if (key->kind == PIN_TRANSACTION) {
        uint64_t halves[2];
        memcpy(halves, key->session_id, sizeof(halves));
        hashed = halves[0] ^ (halves[1] << 1 | halves[1] >> 63);
    }
    return &pins->buckets[hash_slot(hashed, pins->bits)];
}

static bool same_key(const struct pin_key *a, const struct pin_key *b)
{
    return a->kind == b->kind && a->user == b->user &&
           (a->kind != PIN_CURSOR || a->cursor_id == b->cursor_id) &&
           memcmp(a->session_id, b->session_id, sizeof(a->session_id)) == 0;
}

static struct pin *find(struct pins *pins, const struct pin_key *key)
{
    struct pin *pin = *bucket_of(pins, key);
    while (pin && !same_key(&pin->key, key)) {
        pin = pin->bucket_next;
    }
    return pin;
}

// A cursor of that id of this user or of others, whatever its session.
static struct pin *find_like(struct pins *pins, const struct pin_key *key, bool of_user)
{
    struct pin *pin = *bucket_of(pins, key);
    while (pin && (pin->key.kind != PIN_CURSOR || pin->key.cursor_id != key->cursor_id ||
                   (pin->key.user == key->user) != of_user)) {
        pin = pin->bucket_next;
    }
    return pin;
}

static void bucket_remove(struct pins *pins, struct pin *pin)
{
    struct pin **link = bucket_of(pins, &pin->key);
    while (*link != pin) {
        link = &(*link)->bucket_next;
    }
    *link = pin->bucket_next;
}

static void use_append(struct pins *pins, struct pin *pin)
{
    pin->newer = NULL;
    pin->older = pins->newest;
    if (pin->older) {
        pin->older->newer = pin;
    } else {
        pins->oldest = pin;
    }
    pins->newest = pin;
    for (int i = 0; i < PIN_KINDS; i++) {
        pins->next_idle[i] = pins->next_idle[i] ? pins->next_idle[i] : pin;
    }
}

static void use_remove(struct pins *pins, struct pin *pin)
{
    for (int i = 0; i < PIN_KINDS; i++) {
        pins->next_idle[i] = pins->next_idle[i] == pin ? pin->newer : pins->next_idle[i];
    }
    if (pin->older) {
        pin->older->newer = pin->newer;
    } else {
        pins->oldest = pin->newer;
    }
    if (pin->newer) {
        pin->newer->older = pin->older;
    } else {
        pins->newest = pin->older;
    }
}

static void give_to(struct pin *pin, struct pin_owner *owner)
{
    pin->owner = owner;
    pin->owner_prev = NULL;
    pin->owner_next = owner->first;
    if (owner->first) {
        owner->first->owner_prev = pin;
    }
    owner->first = pin;
}

static void orphan_append(struct pins *pins, struct pin *pin)
{
    pin->owner = NULL;
    pin->owner_next = NULL;
    pin->owner_prev = pins->orphans_last;
    if (pin->owner_prev) {
        pin->owner_prev->owner_next = pin;
    } else {
        pins->orphans.first = pin;
    }
    pins->orphans_last = pin;
}

static void orphan_prepend(struct pins *pins, struct pin *pin)
{
    give_to(pin, &pins->orphans);
    pin->owner = NULL;
    if (!pin->owner_next) {
        pins->orphans_last = pin;
    }
}

// Out of the list of its owner or of the orphans.
static void take_away(struct pins *pins, struct pin *pin)
{
    struct pin_owner *owner = pin->owner ? pin->owner : &pins->orphans;
    if (pin->owner_prev) {
        pin->owner_prev->owner_next = pin->owner_next;
    } else {
        owner->first = pin->owner_next;
    }
    if (pin->owner_next) {
        pin->owner_next->owner_prev = pin->owner_prev;
    } else if (!pin->owner) {
        pins->orphans_last = pin->owner_prev;
    }
}

struct pin_tie *pin_tie_new(uint64_t connection)
{
    struct pin_tie *tie = memory_new(1, sizeof(*tie));
    tie->connection = connection;
    return tie;
}

static void tie_free_if_unused(struct pin_tie *tie)
{
    if (tie->pins == 0 && tie->is_cut) {
        free(tie);
    }
}

void pin_tie_cut(struct pin_tie *tie)
{
    if (tie) {
        tie->is_cut = true;
        tie_free_if_unused(tie);
    }
}

void pin_untie(struct pin_tie *tie)
{
    if (tie) {
        tie->pins--;
        tie_free_if_unused(tie);
    }
}

void pin_tie_to(struct pin *pin, struct pin_tie *tie)
{
    tie->pins++;
    pin_untie(pin->tie);
    pin->tie = tie;
    pin->connection = tie->connection;
}

static void forget(struct pins *pins, struct pin *pin)
{
    pin_untie(pin->tie);
    pin->tie = NULL;
    bucket_remove(pins, pin);
    use_remove(pins, pin);
    take_away(pins, pin);
    pin->bucket_next = pins->free;
    pins->free = pin;
    pins->count--;
    pin->in_use = false;
    pins->transactions -= pin->key.kind == PIN_TRANSACTION;
}

void pins_free(struct pins *pins)
{
    if (!pins) {
        return;
    }
    while (pins->oldest) {
        forget(pins, pins->oldest);
    }
    free(pins->entries);
    free(pins->buckets);
    free(pins);
}

static struct pin *take_entry(struct pins *pins)
{
    if (pins->count == pins->capacity) {
        forget(pins, pins->oldest);
    }
    pins->count++;
    if (!pins->free) {
        return &pins->entries[pins->touched++];
    }
    struct pin *pin = pins->free;
    pins->free = pin->bucket_next;
    return pin;
}

static struct pin *add(struct pins *pins, const struct pin_key *key, struct pin_owner *owner)
{
    struct pin *pin = take_entry(pins);
    struct pin **bucket = bucket_of(pins, key);
    pin->key = *key;
    pins->transactions += key->kind == PIN_TRANSACTION;
    pin->streams = false;
    pin->was_tried = false;
    pin->connection = 0;
    pin->tie = NULL;
    pin->in_use = true;
    pin->story = (struct pin_story){0};
    pin->identity = 0;
    pin->bucket_next = *bucket;
    *bucket = pin;
    use_append(pins, pin);
    give_to(pin, owner);
    return pin;
}

static void use(struct pins *pins, struct pin *pin, struct pin_owner *owner, int64_t now_us)
{
    pin->used_us = now_us;
    pin->is_busy = false;
    use_remove(pins, pin);
    use_append(pins, pin);
    take_away(pins, pin);
    give_to(pin, owner);
}

struct pin *pins_open(struct pins *pins, const struct pin_key *key, uint32_t server,
                      int64_t txn_number, const char *namespace, struct pin_owner *owner,
                      int64_t now_us)
{
    struct pin *pin = find(pins, key);
    if (!pin) {
        pin = add(pins, key, owner);
        pin->opened_us = now_us;
    }
    use(pins, pin, owner, now_us);
    pin->server = server;
    pin->txn_number = txn_number;
    size_t len = strnlen(namespace, PIN_NAMESPACE_BYTES - 1);
    memcpy(pin->namespace, namespace, len);
    pin->namespace[len] = '\0';
    return pin;
}

const struct pin *pins_find(struct pins *pins, const struct pin_key *key)
{
    const struct pin *pin = find(pins, key);
    return pin || key->kind != PIN_CURSOR ? pin : find_like(pins, key, true);
}

bool pins_is_foreign(struct pins *pins, const struct pin_key *key)
{
    return !find_like(pins, key, true) && find_like(pins, key, false);
}

bool pins_has(struct pins *pins, const struct pin_key *key)
{
    return find(pins, key) != NULL;
}

void pins_resume(struct pins *pins, const struct pin_key *key, struct pin_owner *owner,
                 int64_t now_us)
{
    struct pin *pin = find(pins, key);
    if (pin) {
        use(pins, pin, owner, now_us);
        pin->is_busy = true;
    }
}

void pins_rest(struct pins *pins, const struct pin_key *key, int64_t now_us)
{
    struct pin *pin = find(pins, key);
    if (pin && pin->is_busy) {
        pin->is_busy = false;
        pin->used_us = now_us;
        use_remove(pins, pin);
        use_append(pins, pin);
    }
}

const struct pin *pins_next_idle(struct pins *pins, enum pin_kind kind, int64_t idle_us,
                                 int64_t now_us)
{
    struct pin *pin;
    while ((pin = pins->next_idle[kind]) && now_us - pin->used_us >= idle_us) {
        pins->next_idle[kind] = pin->newer;
        if (pin->key.kind == kind && pin->owner && !pin->is_busy) {
            return pin;
        }
    }
    return NULL;
}

int64_t pins_next_idle_at(const struct pins *pins, enum pin_kind kind, int64_t idle_us)
{
    const struct pin *pin = pins->next_idle[kind];
    return pin ? pin->used_us + idle_us : INT64_MAX;
}

bool pins_belongs(struct pins *pins, const struct pin_key *key, const struct pin_owner *owner)
{
    const struct pin *pin = find(pins, key);
    return pin && pin->owner == owner;
}

bool pins_close(struct pins *pins, const struct pin_key *key)
{
    struct pin *pin = find(pins, key);
    if (pin) {
        forget(pins, pin);
    }
    return pin != NULL;
}

void pins_expire(struct pins *pins, int64_t idle_us, int64_t now_us)
{
    while (pins->oldest && now_us - pins->oldest->used_us >= idle_us) {
        forget(pins, pins->oldest);
    }
}

void pins_orphan(struct pins *pins, struct pin_owner *owner, int64_t now_us)
{
    while (owner->first) {
        struct pin *pin = owner->first;
        take_away(pins, pin);
        orphan_append(pins, pin);
        pin->orphaned_us = now_us;
    }
}

void pins_give_up(struct pins *pins, const struct pin_key *key)
{
    struct pin *pin = find(pins, key);
    if (pin) {
        take_away(pins, pin);
        orphan_prepend(pins, pin);
        pin->orphaned_us = INT64_MIN / 2;
    }
}

const struct pin *pins_due(const struct pins *pins, int64_t grace_us, int64_t now_us)
{
    const struct pin *pin = pins->orphans.first;
    return pin && now_us - pin->orphaned_us >= grace_us ? pin : NULL;
}

bool pins_reap(struct pins *pins, int64_t grace_us, int64_t now_us, struct pin *ret_pin)
{
    struct pin *pin = pins->orphans.first;
    if (!pins_due(pins, grace_us, now_us)) {
        return false;
    }
    *ret_pin = *pin;
    pin->tie = NULL; // the copy's now
    forget(pins, pin);
    ret_pin->bucket_next = ret_pin->owner_next = ret_pin->owner_prev = NULL;
    ret_pin->newer = ret_pin->older = NULL;
    return true;
}

int64_t pins_next_reap(const struct pins *pins, int64_t grace_us)
{
    const struct pin *first = pins->orphans.first;
    return first ? first->orphaned_us + grace_us : INT64_MAX;
}

size_t pins_count(const struct pins *pins)
{
    return pins->count;
}

size_t pins_places(const struct pins *pins)
{
    return pins->touched;
}

const struct pin *pins_at(const struct pins *pins, size_t place)
{
    assert(place < pins->touched);
    const struct pin *pin = &pins->entries[place];
    return pin->in_use ? pin : NULL;
}

size_t pins_transactions(const struct pins *pins)
{
    return pins->transactions;
}
