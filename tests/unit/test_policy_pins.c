// SPDX-License-Identifier: Apache-2.0

#include "test_policy.h"

#include <string.h>

#include "policy/pins.h"

static struct pin_key cursor(int64_t id)
{
    return (struct pin_key){.kind = PIN_CURSOR, .cursor_id = id};
}

static struct pin_key transaction(uint8_t first, uint8_t last)
{
    struct pin_key key = {.kind = PIN_TRANSACTION};
    key.session_id[0] = first;
    key.session_id[15] = last;
    return key;
}

static size_t owned(const struct pin_owner *owner)
{
    size_t count = 0;
    for (const struct pin *pin = owner->first; pin; pin = pin->owner_next) {
        count++;
    }
    return count;
}

static void open_pin(struct pins *pins, const struct pin_key *key, int64_t txn_number,
                     const char *namespace, struct pin_owner *owner)
{
    pins_open(pins, key, 7, txn_number, namespace, owner, 0);
}

static void open_cursor(struct pins *pins, int64_t id, struct pin_owner *owner)
{
    struct pin_key key = cursor(id);
    open_pin(pins, &key, 0, "shop.orders", owner);
}

static bool resume(struct pins *pins, const struct pin_key *key, struct pin_owner *owner)
{
    pins_resume(pins, key, owner, 0);
    return pins_has(pins, key);
}

static void a_pin_belongs_to_who_used_it_last(void **state)
{
    (void)state;
    struct pins *pins = pins_new(8);
    struct pin_owner first = {0};
    struct pin_owner second = {0};
    struct pin_key key = cursor(5);
    open_cursor(pins, 5, &first);
    assert_int_equal(owned(&first), 1);
    assert_true(resume(pins, &key, &second));
    assert_int_equal(owned(&first), 0);
    assert_int_equal(owned(&second), 1);
    assert_true(pins_belongs(pins, &key, &second));
    assert_false(pins_belongs(pins, &key, &first));
    open_cursor(pins, 5, &first); // the same id again
    assert_int_equal(owned(&first), 1);
    assert_int_equal(owned(&second), 0);
    assert_int_equal(pins_count(pins), 1);
    pins_close(pins, &key);
    assert_int_equal(owned(&first), 0);
    assert_int_equal(pins_count(pins), 0);
    assert_false(resume(pins, &key, &first));
    assert_false(pins_belongs(pins, &key, &first));
    pins_close(pins, &key); // no pin, no effect
    pins_free(pins);
    pins_free(NULL);
}

static void cursors_and_transactions_are_told_apart(void **state)
{
    (void)state;
    struct pins *pins = pins_new(8);
    struct pin_owner owner = {0};
    struct pin_key keys[] = {cursor(0),         cursor(-1),        cursor(INT64_MIN),
                             transaction(0, 0), transaction(0, 1), transaction(1, 0)};
    for (size_t i = 0; i < 6; i++) {
        open_pin(pins, &keys[i], (int64_t)i, "", &owner);
        assert_int_equal(pins_count(pins), i + 1);
    }
    // What does not belong to a kind of key does not tell keys apart.
    struct pin_key key = transaction(0, 1);
    key.cursor_id = 77;
    open_pin(pins, &key, 9, "", &owner);
    assert_int_equal(pins_count(pins), 6);
    assert_int_equal(owner.first->txn_number, 9);
    pins_free(pins);
}

// Two servers may have given two clients the same id.
static void cursors_of_one_id_are_told_apart_by_session(void **state)
{
    (void)state;
    struct pins *pins = pins_new(8);
    struct pin_owner owner = {0};
    struct pin_key keys[3] = {cursor(5), cursor(5), cursor(5)};
    keys[1].session_id[2] = 1;
    keys[2].session_id[2] = 2;
    for (uint32_t i = 0; i < 3; i++) {
        pins_open(pins, &keys[i], 10 + i, 0, "a.b", &owner, 0);
    }
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(pins_find(pins, &keys[i])->server, 10 + i);
    }
    struct pin_key other = cursor(5);
    other.session_id[2] = 3;
    assert_non_null(pins_find(pins, &other)); // any of them: their server is the one to complain
    pins_close(pins, &keys[1]);
    pins_close(pins, &keys[2]);
    assert_int_equal(pins_find(pins, &other)->server, 10);
    pins_resume(pins, &other, &owner, 0);
    pins_close(pins, &other); // neither is about a pin of another session
    assert_int_equal(pins_count(pins), 1);
    pins_close(pins, &keys[0]);
    assert_null(pins_find(pins, &other));
    other = cursor(6);
    assert_null(pins_find(pins, &other));
    pins_free(pins);
}

static void what_is_not_used_is_forgotten(void **state)
{
    (void)state;
    struct pins *pins = pins_new(8);
    struct pin_owner owner = {0};
    struct pin_key keys[2] = {cursor(1), transaction(2, 2)};
    pins_open(pins, &keys[0], 1, 0, "", &owner, 10);
    pins_open(pins, &keys[1], 1, 0, "", &owner, 20);
    pins_resume(pins, &keys[0], &owner, 30);
    pins_expire(pins, 100, 119);
    assert_int_equal(pins_count(pins), 2);
    pins_expire(pins, 100, 120);
    assert_null(pins_find(pins, &keys[1]));
    assert_int_equal(owned(&owner), 1);
    pins_expire(pins, 100, 130);
    assert_int_equal(pins_count(pins), 0);
    assert_null(owner.first);
    pins_free(pins);
}

static void namespaces_are_copied_and_cut(void **state)
{
    (void)state;
    struct pins *pins = pins_new(2);
    struct pin_owner owner = {0};
    struct pin_key key = cursor(1);
    char name[2 * PIN_NAMESPACE_BYTES];
    for (size_t len = sizeof(name); len-- > 0;) {
        memset(name, 'x', len);
        name[len] = '\0';
        open_pin(pins, &key, 0, name, &owner);
        size_t kept = len < PIN_NAMESPACE_BYTES ? len : PIN_NAMESPACE_BYTES - 1;
        assert_int_equal(strlen(owner.first->namespace), kept);
        assert_memory_equal(owner.first->namespace, name, kept);
    }
    pins_free(pins);
}

static void forgets_the_one_used_least_recently(void **state)
{
    (void)state;
    struct pins *pins = pins_new(3);
    struct pin_owner owner = {0};
    struct pin_key keys[5];
    for (int64_t i = 0; i < 5; i++) {
        keys[i] = cursor(i);
    }
    for (int64_t i = 0; i < 3; i++) {
        open_cursor(pins, i, &owner);
    }
    assert_true(resume(pins, &keys[0], &owner));
    open_cursor(pins, 3, &owner);
    assert_false(resume(pins, &keys[1], &owner));
    pins_orphan(pins, &owner, 10);
    open_cursor(pins, 4, &owner); // orphans are forgotten alike
    assert_false(resume(pins, &keys[2], &owner));
    assert_true(resume(pins, &keys[0], &owner));
    assert_true(resume(pins, &keys[3], &owner));
    assert_int_equal(pins_count(pins), 3);
    assert_int_equal(owned(&owner), 3);
    assert_int_equal(pins_next_reap(pins, 1), INT64_MAX);
    pins_free(pins);
}

static void orphans_are_reaped_to_the_microsecond(void **state)
{
    (void)state;
    struct pins *pins = pins_new(4);
    struct pin_owner owner = {0};
    struct pin pin = {.txn_number = -1};
    struct pin_key key = transaction(1, 2);
    assert_int_equal(pins_next_reap(pins, 10), INT64_MAX);
    open_pin(pins, &key, 33, "", &owner);
    assert_false(pins_reap(pins, 0, 1000, &pin)); // has an owner
    pins_orphan(pins, &owner, 100);
    assert_null(owner.first);
    assert_int_equal(pins_next_reap(pins, 10), 110);
    for (int64_t now = 100; now < 110; now++) {
        assert_false(pins_reap(pins, 10, now, &pin));
        assert_int_equal(pin.txn_number, -1);
    }
    open_cursor(pins, 5, &owner);
    pins_orphan(pins, &owner, 105);
    assert_true(pins_reap(pins, 10, 110, &pin));
    assert_int_equal(pin.key.kind, PIN_TRANSACTION);
    assert_memory_equal(pin.key.session_id, key.session_id, sizeof(key.session_id));
    assert_int_equal(pin.txn_number, 33);
    assert_int_equal(pin.orphaned_us, 100);
    assert_null(pin.owner);
    assert_null(pin.owner_next);
    assert_null(pin.newer);
    assert_int_equal(pins_next_reap(pins, 10), 115);
    assert_true(pins_reap(pins, 10, 1000, &pin));
    assert_int_equal(pin.key.cursor_id, 5);
    assert_null(pin.bucket_next);
    assert_int_equal(pins_count(pins), 0);
    assert_false(pins_reap(pins, 10, 1000, &pin));
    pins_free(pins);
}

static void a_resumed_orphan_is_not_reaped(void **state)
{
    (void)state;
    struct pins *pins = pins_new(4);
    struct pin_owner first = {0};
    struct pin_owner second = {0};
    struct pin pin;
    for (int64_t i = 0; i < 3; i++) {
        open_cursor(pins, i, &first);
        pins_orphan(pins, &first, 10 * i);
    }
    struct pin_key key = cursor(1);
    assert_true(resume(pins, &key, &second));
    assert_true(pins_reap(pins, 0, 100, &pin));
    assert_int_equal(pin.key.cursor_id, 0);
    assert_true(pins_reap(pins, 0, 100, &pin));
    assert_int_equal(pin.key.cursor_id, 2);
    assert_false(pins_reap(pins, 0, 100, &pin));
    assert_int_equal(owned(&second), 1);
    assert_string_equal(second.first->namespace, "shop.orders");
    pins_free(pins);
}

#define KEYS 30
#define OWNERS 4
#define RUNS 200
#define STEPS 2000
#define ORPHAN (-1)
#define NOT_THERE (-2)

struct naive_pin {
    int owner;
    int used;
    int64_t orphaned_us;
    int orphaned; // which orphaning; of one time, any order
};

struct pair {
    struct chance chance;
    size_t capacity;
    int64_t grace_us;
    int64_t now_us;
    struct pins *pins;
    struct pin_owner owners[OWNERS];
    struct naive_pin naive[KEYS];
};

// Half of them cursors, half transactions.
static struct pin_key key_of(int i)
{
    return i % 2 ? cursor(i * INT64_C(0x100000001)) : transaction((uint8_t)i, (uint8_t)(3 * i));
}

static int index_of(const struct pin *pin)
{
    return pin->key.kind == PIN_CURSOR ? (int)(pin->key.cursor_id & 0xff) : pin->key.session_id[0];
}

static size_t naive_count(const struct pair *pair, int owner)
{
    size_t count = 0;
    for (int i = 0; i < KEYS; i++) {
        int of = pair->naive[i].owner;
        count += owner == NOT_THERE ? of != NOT_THERE : of == owner;
    }
    return count;
}

static void naive_make_room(struct pair *pair)
{
    int oldest = -1;
    for (int i = 0; i < KEYS; i++) {
        if (pair->naive[i].owner != NOT_THERE &&
            (oldest < 0 || pair->naive[i].used < pair->naive[oldest].used)) {
            oldest = i;
        }
    }
    pair->naive[oldest].owner = NOT_THERE;
}

static void step_use(struct pair *pair, int i, int owner, int step)
{
    struct pin_key key = key_of(i);
    bool there = pair->naive[i].owner != NOT_THERE;
    if (chance_percent(&pair->chance, 50)) {
        assert_int_equal(resume(pair->pins, &key, &pair->owners[owner]), there);
        if (!there) {
            return;
        }
    } else {
        if (!there && naive_count(pair, NOT_THERE) == pair->capacity) {
            naive_make_room(pair);
        }
        open_pin(pair->pins, &key, i, "a.b", &pair->owners[owner]);
    }
    pair->naive[i].owner = owner;
    pair->naive[i].used = step;
}

static void step_orphan(struct pair *pair, int owner, int step)
{
    pins_orphan(pair->pins, &pair->owners[owner], pair->now_us);
    for (int i = 0; i < KEYS; i++) {
        if (pair->naive[i].owner == owner) {
            pair->naive[i].owner = ORPHAN;
            pair->naive[i].orphaned_us = pair->now_us;
            pair->naive[i].orphaned = step;
        }
    }
}

static const struct naive_pin *naive_first_orphan(const struct pair *pair)
{
    const struct naive_pin *first = NULL;
    for (int i = 0; i < KEYS; i++) {
        const struct naive_pin *pin = &pair->naive[i];
        if (pin->owner == ORPHAN && (!first || pin->orphaned < first->orphaned)) {
            first = pin;
        }
    }
    return first;
}

static void step_reap(struct pair *pair)
{
    const struct naive_pin *first = naive_first_orphan(pair);
    bool due = first && pair->now_us >= first->orphaned_us + pair->grace_us;
    struct pin pin;
    assert_int_equal(pins_reap(pair->pins, pair->grace_us, pair->now_us, &pin), due);
    if (due) {
        struct naive_pin *naive = &pair->naive[index_of(&pin)];
        assert_int_equal(naive->owner, ORPHAN);
        assert_int_equal(naive->orphaned, first->orphaned);
        assert_int_equal(pin.txn_number, index_of(&pin));
        naive->owner = NOT_THERE;
    }
}

static size_t naive_transactions(const struct pair *pair)
{
    size_t count = 0;
    for (int i = 0; i < KEYS; i++) {
        count += pair->naive[i].owner != NOT_THERE && key_of(i).kind == PIN_TRANSACTION;
    }
    return count;
}

static void check(const struct pair *pair)
{
    assert_int_equal(pins_transactions(pair->pins), naive_transactions(pair));
    assert_int_equal(pins_count(pair->pins), naive_count(pair, NOT_THERE));
    const struct naive_pin *first = naive_first_orphan(pair);
    assert_int_equal(pins_next_reap(pair->pins, pair->grace_us),
                     first ? first->orphaned_us + pair->grace_us : INT64_MAX);
    for (int owner = 0; owner < OWNERS; owner++) {
        for (const struct pin *pin = pair->owners[owner].first; pin; pin = pin->owner_next) {
            assert_ptr_equal(pin->owner, &pair->owners[owner]);
            assert_int_equal(pair->naive[index_of(pin)].owner, owner);
            assert_true(!pin->owner_next || pin->owner_next->owner_prev == pin);
        }
        assert_int_equal(owned(&pair->owners[owner]), naive_count(pair, owner));
    }
}

static void step(struct pair *pair, int number)
{
    int what = chance_below(&pair->chance, 100);
    int i = chance_below(&pair->chance, KEYS);
    if (what < 50) {
        step_use(pair, i, chance_below(&pair->chance, OWNERS), number);
    } else if (what < 60) {
        struct pin_key key = key_of(i);
        pins_close(pair->pins, &key);
        pair->naive[i].owner = NOT_THERE;
    } else if (what < 70) {
        step_orphan(pair, chance_below(&pair->chance, OWNERS), number);
    } else if (what < 85) {
        step_reap(pair);
    } else {
        pair->now_us += chance_below(&pair->chance, 5);
    }
    check(pair);
}

static uint64_t seed;

static void agrees_with_a_naive_table(void **state)
{
    (void)state;
    for (seed = 0; seed < RUNS; seed++) {
        struct pair pair = {.chance.state = seed};
        pair.capacity = 1 + (size_t)chance_below(&pair.chance, KEYS);
        pair.grace_us = chance_below(&pair.chance, 20);
        pair.pins = pins_new(pair.capacity);
        for (int i = 0; i < KEYS; i++) {
            pair.naive[i].owner = NOT_THERE;
        }
        for (int i = 0; i < STEPS; i++) {
            step(&pair, i);
        }
        pins_free(pair.pins);
    }
}

static int tell_seed(void **state)
{
    (void)state;
    if (seed < RUNS) {
        print_message("failed with seed %llu\n", (unsigned long long)seed);
    }
    return 0;
}

static void pins_are_found_by_place(void **state)
{
    (void)state;
    struct pins *pins = pins_new(4);
    struct pin_owner owner = {0};
    struct pin_key first = cursor(1);
    assert_int_equal(pins_places(pins), 0);
    open_cursor(pins, 1, &owner);
    open_cursor(pins, 2, &owner);
    assert_int_equal(pins_places(pins), 2);
    assert_int_equal(pins_at(pins, 0)->key.cursor_id, 1);
    assert_int_equal(pins_at(pins, 1)->key.cursor_id, 2);
    pins_close(pins, &first);
    assert_int_equal(pins_places(pins), 2);
    assert_null(pins_at(pins, 0));
    assert_int_equal(pins_at(pins, 1)->key.cursor_id, 2);
    open_cursor(pins, 3, &owner);
    assert_int_equal(pins_at(pins, 0)->key.cursor_id, 3);
    pins_orphan(pins, &owner, 0);
    pins_free(pins);
}

// What is returned: the cursor's number; 0 for nothing.
static int64_t next_idle(struct pins *pins, enum pin_kind kind, int64_t now_us)
{
    const struct pin *pin = pins_next_idle(pins, kind, 100, now_us);
    return pin ? pin->key.cursor_id : 0;
}

static void idle_ones_are_told_once_until_they_are_used(void **state)
{
    (void)state;
    struct pins *pins = pins_new(8);
    struct pin_owner owner = {0};
    struct pin_key keys[] = {cursor(1), cursor(2), cursor(3)};
    assert_int_equal(pins_next_idle_at(pins, PIN_CURSOR, 100), INT64_MAX);
    for (int i = 0; i < 3; i++) {
        pins_open(pins, &keys[i], 7, 0, "a.b", &owner, 10 * i);
    }
    assert_int_equal(pins_next_idle_at(pins, PIN_CURSOR, 100), 100);
    assert_int_equal(next_idle(pins, PIN_CURSOR, 99), 0);
    assert_int_equal(next_idle(pins, PIN_CURSOR, 110), 1);
    assert_int_equal(next_idle(pins, PIN_CURSOR, 110), 2);
    assert_int_equal(next_idle(pins, PIN_CURSOR, 110), 0);
    pins_open(pins, &keys[0], 7, 0, "a.b", &owner, 200);
    assert_int_equal(next_idle(pins, PIN_CURSOR, 1000), 3);
    assert_int_equal(next_idle(pins, PIN_CURSOR, 1000), 1);
    assert_int_equal(next_idle(pins, PIN_CURSOR, 1000), 0);
    pins_orphan(pins, &owner, 0);
    pins_free(pins);
}

static void each_kind_has_its_own_patience(void **state)
{
    (void)state;
    struct pins *pins = pins_new(8);
    struct pin_owner owner = {0};
    struct pin_key begun = transaction(1, 1);
    struct pin_key opened = cursor(5);
    pins_open(pins, &begun, 7, 1, "", &owner, 0);
    pins_open(pins, &opened, 7, 0, "a.b", &owner, 0);
    assert_int_equal(next_idle(pins, PIN_CURSOR, 100), 5);
    const struct pin *idle = pins_next_idle(pins, PIN_TRANSACTION, 300, 299);
    assert_null(idle);
    idle = pins_next_idle(pins, PIN_TRANSACTION, 300, 300);
    assert_int_equal(idle->key.kind, PIN_TRANSACTION);
    pins_orphan(pins, &owner, 0);
    pins_free(pins);
}

static void what_is_busy_or_an_orphan_is_not_idle(void **state)
{
    (void)state;
    struct pins *pins = pins_new(8);
    struct pin_owner owner = {0};
    struct pin_owner gone = {0};
    struct pin_key used = cursor(1);
    struct pin_key left = cursor(2);
    pins_open(pins, &used, 7, 0, "a.b", &owner, 0);
    pins_open(pins, &left, 7, 0, "a.b", &gone, 0);
    pins_resume(pins, &used, &owner, 10);
    pins_orphan(pins, &gone, 10);
    assert_int_equal(next_idle(pins, PIN_CURSOR, 1000), 0);
    pins_rest(pins, &used, 1000);
    assert_int_equal(next_idle(pins, PIN_CURSOR, 1099), 0);
    assert_int_equal(next_idle(pins, PIN_CURSOR, 1100), 1);
    pins_rest(pins, &used, 2000); // it was not busy: nothing new
    assert_int_equal(next_idle(pins, PIN_CURSOR, 9000), 0);
    pins_orphan(pins, &owner, 0);
    pins_free(pins);
}

// The mark moves on with what goes.
static void forgotten_ones_are_not_told(void **state)
{
    (void)state;
    struct pins *pins = pins_new(2);
    struct pin_owner owner = {0};
    for (int64_t id = 1; id <= 20; id++) {
        struct pin_key key = cursor(id);
        pins_open(pins, &key, 7, 0, "a.b", &owner, id);
        if (id % 3 == 0) {
            pins_close(pins, &key);
        }
    }
    assert_int_equal(next_idle(pins, PIN_CURSOR, 1000), 19);
    assert_int_equal(next_idle(pins, PIN_CURSOR, 1000), 20);
    assert_int_equal(next_idle(pins, PIN_CURSOR, 1000), 0);
    pins_orphan(pins, &owner, 0);
    pins_free(pins);
}

static void whatever_forgets_a_pin_unties_it(void **state)
{
    (void)state;
    struct pins *pins = pins_new(2);
    struct pin_owner owner = {0};
    struct pin_tie *first = pin_tie_new(1);
    struct pin_tie *second = pin_tie_new(2);
    struct pin reaped;
    for (int64_t id = 1; id <= 3; id++) { // there is no room for all
        struct pin_key key = cursor(id);
        struct pin *pin = pins_open(pins, &key, 7, 0, "a.b", &owner, id);
        pin_tie_to(pin, first);
        pin_tie_to(pin, first);
        assert_int_equal(pin->connection, 1);
    }
    assert_int_equal(first->pins, 2);
    struct pin_key key = cursor(2);
    pin_tie_to(pins_open(pins, &key, 7, 0, "a.b", &owner, 4), second);
    assert_int_equal(first->pins, 1);
    assert_int_equal(second->pins, 1);
    pins_expire(pins, 10, 13); // the third
    assert_int_equal(first->pins, 0);
    pin_tie_cut(first);

    pins_give_up(pins, &key);
    assert_null(owner.first);
    assert_non_null(pins_due(pins, 1000, 5));
    assert_true(pins_reap(pins, 1000, 5, &reaped));
    assert_int_equal(second->pins, 1); // the copy's
    pin_untie(reaped.tie);
    assert_int_equal(second->pins, 0);
    pin_tie_to(pins_open(pins, &key, 7, 0, "a.b", &owner, 6), second);
    pin_tie_cut(second);
    pins_orphan(pins, &owner, 7);
    pins_free(pins); // and with it the tie
}

static void what_is_given_up_is_due_before_other_orphans(void **state)
{
    (void)state;
    struct pins *pins = pins_new(4);
    struct pin_owner owner = {0};
    struct pin reaped;
    open_cursor(pins, 1, &owner);
    pins_orphan(pins, &owner, 100);
    open_cursor(pins, 2, &owner);
    open_cursor(pins, 3, &owner);
    struct pin_key key = cursor(2);
    pins_give_up(pins, &key);
    assert_true(pins_reap(pins, 50, 100, &reaped));
    assert_int_equal(reaped.key.cursor_id, 2);
    assert_null(pins_due(pins, 50, 100));
    pins_orphan(pins, &owner, 110);
    assert_int_equal(pins_due(pins, 50, 150)->key.cursor_id, 1);
    assert_true(pins_reap(pins, 50, 160, &reaped) && pins_reap(pins, 50, 160, &reaped));
    assert_int_equal(reaped.key.cursor_id, 3);
    assert_int_equal(pins_count(pins), 0);
    pins_free(pins);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pins_are_found_by_place),
        cmocka_unit_test(a_pin_belongs_to_who_used_it_last),
        cmocka_unit_test(cursors_and_transactions_are_told_apart),
        cmocka_unit_test(cursors_of_one_id_are_told_apart_by_session),
        cmocka_unit_test(what_is_not_used_is_forgotten),
        cmocka_unit_test(namespaces_are_copied_and_cut),
        cmocka_unit_test(forgets_the_one_used_least_recently),
        cmocka_unit_test(orphans_are_reaped_to_the_microsecond),
        cmocka_unit_test(a_resumed_orphan_is_not_reaped),
        cmocka_unit_test_teardown(agrees_with_a_naive_table, tell_seed),
        cmocka_unit_test(idle_ones_are_told_once_until_they_are_used),
        cmocka_unit_test(each_kind_has_its_own_patience),
        cmocka_unit_test(what_is_busy_or_an_orphan_is_not_idle),
        cmocka_unit_test(forgotten_ones_are_not_told),
        cmocka_unit_test(whatever_forgets_a_pin_unties_it),
        cmocka_unit_test(what_is_given_up_is_due_before_other_orphans),
    };
    return cmocka_run_group_tests_name("pins", tests, NULL, NULL);
}
