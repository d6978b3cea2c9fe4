// SPDX-License-Identifier: Apache-2.0
//
// Server selection against the rules of source/server-selection and source/max-staleness of
// mongodb/specifications: who may be chosen, for all that chance may say.

#include "proxy/selection.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <bson/bson.h>

#include "tests/unit/wire_samples.h"

#define MS INT64_C(1000)
#define SECOND INT64_C(1000000)
#define MANY 300 // more than selection looks at

struct member {
    char name;
    enum server_kind kind;
    int rtt_ms;
    int stale_s;
    const char *tags; // NULL: none
    int in_flight;
    bool failing;
    int doubted_s; // until then
    bool no_address;
};

#define UNKNOWN(...)                                                                               \
    {                                                                                              \
        .kind = SERVER_UNKNOWN, .name = __VA_ARGS__                                                \
    }
#define PRIMARY(...)                                                                               \
    {                                                                                              \
        .kind = SERVER_PRIMARY, .name = __VA_ARGS__                                                \
    }
#define SECONDARY(...)                                                                             \
    {                                                                                              \
        .kind = SERVER_SECONDARY, .name = __VA_ARGS__                                              \
    }
#define MONGOS(...)                                                                                \
    {                                                                                              \
        .kind = SERVER_MONGOS, .name = __VA_ARGS__                                                 \
    }

static struct topology *topology;
static struct server_pulse pulses[MANY];

static void write_tags(const char *json, uint8_t *at)
{
    bson_error_t error;
    bson_t *tags = bson_new_from_json((const uint8_t *)json, -1, &error);
    assert_non_null(tags);
    assert_true(tags->len <= SERVER_TAGS_BYTES);
    memcpy(at, bson_get_data(tags), tags->len);
    bson_destroy(tags);
}

static void add(const struct member *member, size_t index)
{
    struct server_info *info = &topology->servers[index];
    struct server_pulse *pulse = &pulses[index];
    info->name[0] = member->name;
    info->id = (uint32_t)index + 1;
    info->kind = member->kind;
    info->address_count = member->no_address ? 0 : 1;
    info->pulse = pulse;
    if (member->tags) {
        write_tags(member->tags, info->tags);
    }
    atomic_store(&pulse->rtt_us, member->rtt_ms * MS);
    atomic_store(&pulse->staleness_ms, member->stale_s * MS);
    atomic_store(&pulse->in_flight, member->in_flight);
    atomic_store(&pulse->failing, member->failing);
    atomic_store(&pulse->doubted_until_us, member->doubted_s * SECOND);
}

// Those up to the first without a name.
static void deploy(const struct member *members)
{
    size_t count = 0;
    while (members[count].name) {
        count++;
    }
    topology_drop(topology);
    topology = topology_new(1, count);
    for (size_t i = 0; i < count; i++) {
        add(&members[i], i);
    }
}

static struct selection wish(enum read_mode mode)
{
    return (struct selection){.mode = mode, .max_staleness_s = -1, .window_us = 15 * MS};
}

// The names of all that may be chosen, in the topology's order. Borrowed until the next call.
static const char *choosable(struct selection selection)
{
    enum { STEPS = 32 };
    static char names[MANY + 1];
    bool chosen[MANY] = {false};
    for (int i = 0; i < STEPS * STEPS; i++) {
        selection.random[0] = (double)(i / STEPS) / STEPS;
        selection.random[1] = (double)(i % STEPS) / STEPS;
        const struct server_info *info = selection_choose(topology, &selection);
        if (info) {
            chosen[info - topology->servers] = true;
        }
    }
    size_t count = 0;
    for (size_t i = 0; i < topology->server_count; i++) {
        if (chosen[i]) {
            names[count++] = topology->servers[i].name[0];
        }
    }
    names[count] = '\0';
    return names;
}

static const char *choosable_by_mode(enum read_mode mode)
{
    return choosable(wish(mode));
}

// With tag sets, as a JSON array.
static const char *choosable_by_tags(struct selection selection, const char *json)
{
    char document[256];
    bson_error_t error;
    bson_iter_t iter;
    uint32_t len;
    snprintf(document, sizeof document, "{\"tags\": %s}", json);
    bson_t *bson = bson_new_from_json((const uint8_t *)document, -1, &error);
    assert_non_null(bson);
    assert_true(bson_iter_init_find(&iter, bson, "tags"));
    bson_iter_array(&iter, &len, &selection.tag_sets.at);
    selection.tag_sets.len = len;
    const char *names = choosable(selection);
    bson_destroy(bson);
    return names;
}

// --- modes --------------------------------------------------------------------------------------

static void modes_of_a_replica_set(void **state)
{
    (void)state;
    deploy((struct member[]){PRIMARY('p'), SECONDARY('a'), SECONDARY('b'), {0}});
    assert_string_equal(choosable_by_mode(READ_PRIMARY), "p");
    assert_string_equal(choosable_by_mode(READ_PRIMARY_PREFERRED), "p");
    assert_string_equal(choosable_by_mode(READ_SECONDARY), "ab");
    assert_string_equal(choosable_by_mode(READ_SECONDARY_PREFERRED), "ab");
    assert_string_equal(choosable_by_mode(READ_NEAREST), "pab");
}

static void modes_without_a_primary(void **state)
{
    (void)state;
    deploy((struct member[]){UNKNOWN('u'), SECONDARY('a'), SECONDARY('b'), {0}});
    assert_string_equal(choosable_by_mode(READ_PRIMARY), "");
    assert_string_equal(choosable_by_mode(READ_PRIMARY_PREFERRED), "ab");
    assert_string_equal(choosable_by_mode(READ_SECONDARY), "ab");
    assert_string_equal(choosable_by_mode(READ_SECONDARY_PREFERRED), "ab");
    assert_string_equal(choosable_by_mode(READ_NEAREST), "ab");
}

static void modes_without_a_secondary(void **state)
{
    (void)state;
    deploy((struct member[]){PRIMARY('p'), UNKNOWN('u'), {0}});
    assert_string_equal(choosable_by_mode(READ_PRIMARY), "p");
    assert_string_equal(choosable_by_mode(READ_PRIMARY_PREFERRED), "p");
    assert_string_equal(choosable_by_mode(READ_SECONDARY), "");
    assert_string_equal(choosable_by_mode(READ_SECONDARY_PREFERRED), "p");
    assert_string_equal(choosable_by_mode(READ_NEAREST), "p");
}

static void who_holds_no_data_is_never_chosen(void **state)
{
    (void)state;
    deploy((struct member[]){UNKNOWN('u'),
                             {.name = 'o', .kind = SERVER_OTHER},
                             SECONDARY('x', .no_address = true),
                             {0}});
    for (enum read_mode mode = READ_PRIMARY; mode <= READ_NEAREST; mode++) {
        assert_string_equal(choosable_by_mode(mode), "");
    }
    deploy((struct member[]){{0}});
    assert_string_equal(choosable_by_mode(READ_NEAREST), "");
}

// They are asked with the preference as it is.
static void who_leads_to_all_data_suits_every_wish(void **state)
{
    (void)state;
    static const enum server_kind kinds[] = {SERVER_STANDALONE, SERVER_MONGOS,
                                             SERVER_LOAD_BALANCER};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        deploy(
            (struct member[]){{.name = 'm', .kind = kinds[i], .stale_s = 1000}, UNKNOWN('u'), {0}});
        for (enum read_mode mode = READ_PRIMARY; mode <= READ_NEAREST; mode++) {
            struct selection selection = wish(mode);
            selection.max_staleness_s = 90;
            assert_string_equal(choosable_by_tags(selection, "[{\"dc\": \"east\"}]"), "m");
        }
    }
    deploy((struct member[]){
        MONGOS('m', .rtt_ms = 1), MONGOS('n', .rtt_ms = 16), MONGOS('o', .rtt_ms = 17), {0}});
    assert_string_equal(choosable_by_mode(READ_PRIMARY), "mn"); // the window holds for them, too
}

// --- tags ---------------------------------------------------------------------------------------

static void deploy_tagged(void)
{
    deploy((struct member[]){PRIMARY('p', .tags = "{\"dc\": \"east\", \"use\": \"app\"}"),
                             SECONDARY('a', .tags = "{\"dc\": \"east\", \"use\": \"report\"}"),
                             SECONDARY('b', .tags = "{\"dc\": \"west\", \"rack\": \"1\"}"),
                             SECONDARY('c'),
                             {0}});
}

// Whatever it is, and whoever asks: there is no other.
static void who_is_direct_suits_every_wish(void **state)
{
    (void)state;
    static const enum server_kind kinds[] = {SERVER_PRIMARY, SERVER_SECONDARY, SERVER_OTHER};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        deploy((struct member[]){{.name = 'm', .kind = kinds[i], .stale_s = 1000}, {0}});
        topology->servers[0].is_direct = true;
        for (enum read_mode mode = READ_PRIMARY; mode <= READ_NEAREST; mode++) {
            struct selection selection = wish(mode);
            selection.max_staleness_s = 90;
            assert_string_equal(choosable_by_tags(selection, "[{\"dc\": \"east\"}]"), "m");
        }
    }
}

static void tags_of_secondaries(void **state)
{
    (void)state;
    static const struct {
        const char *sets;
        const char *suit;
    } cases[] = {
        {"[]", "abc"},
        {"[{}]", "abc"},
        {"[{\"dc\": \"east\"}]", "a"},
        {"[{\"dc\": \"west\"}]", "b"},
        {"[{\"dc\": \"west\", \"rack\": \"1\"}]", "b"},
        {"[{\"rack\": \"1\", \"dc\": \"west\"}]", "b"},
        {"[{\"dc\": \"west\", \"rack\": \"2\"}]", ""},
        {"[{\"dc\": \"west\", \"use\": \"report\"}]", ""},
        {"[{\"DC\": \"west\"}]", ""},
        {"[{\"dc\": \"wes\"}]", ""},
        // The first that suits anybody counts, and only that.
        {"[{\"dc\": \"north\"}, {\"dc\": \"west\"}, {\"dc\": \"east\"}]", "b"},
        {"[{\"dc\": \"west\"}, {}]", "b"},
        {"[{\"dc\": \"north\"}, {}]", "abc"},
        {"[{\"dc\": \"north\"}, {\"dc\": \"south\"}]", ""},
        // What is no tag set suits nobody.
        {"[{\"dc\": 1}]", ""},
        {"[\"west\"]", ""},
        {"[7, {\"dc\": \"west\"}]", "b"},
    };
    deploy_tagged();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *suit = choosable_by_tags(wish(READ_SECONDARY), cases[i].sets);
        if (strcmp(suit, cases[i].suit) != 0) {
            fail_msg("%s: %s, not %s", cases[i].sets, suit, cases[i].suit);
        }
    }
}

static void tags_are_for_others_than_the_primary(void **state)
{
    (void)state;
    static const char west[] = "[{\"dc\": \"west\"}]";
    static const char east[] = "[{\"dc\": \"east\"}]";
    static const char north[] = "[{\"dc\": \"north\"}]";
    deploy_tagged();
    assert_string_equal(choosable_by_tags(wish(READ_PRIMARY_PREFERRED), west), "p");
    assert_string_equal(choosable_by_tags(wish(READ_SECONDARY_PREFERRED), west), "b");
    assert_string_equal(choosable_by_tags(wish(READ_SECONDARY_PREFERRED), north), "p");
    // Nearest takes the primary for one of many.
    assert_string_equal(choosable_by_tags(wish(READ_NEAREST), east), "pa");
    assert_string_equal(choosable_by_tags(wish(READ_NEAREST), west), "b");
    assert_string_equal(choosable_by_tags(wish(READ_NEAREST), north), "");
    topology->servers[0].kind = SERVER_UNKNOWN;
    assert_string_equal(choosable_by_tags(wish(READ_PRIMARY_PREFERRED), west), "b");
    assert_string_equal(choosable_by_tags(wish(READ_PRIMARY_PREFERRED), north), "");
}

// --- staleness ----------------------------------------------------------------------------------

static const char *choosable_if_fresh(enum read_mode mode, int64_t max_staleness_s)
{
    struct selection selection = wish(mode);
    selection.max_staleness_s = max_staleness_s;
    return choosable(selection);
}

static void stale_secondaries_are_left_out(void **state)
{
    (void)state;
    deploy((struct member[]){PRIMARY('p', .stale_s = 500),
                             SECONDARY('a', .stale_s = 120),
                             SECONDARY('b', .stale_s = 121),
                             {0}});
    assert_string_equal(choosable_if_fresh(READ_SECONDARY, -1), "ab");
    assert_string_equal(choosable_if_fresh(READ_SECONDARY, 121), "ab");
    assert_string_equal(choosable_if_fresh(READ_SECONDARY, 120), "a");
    assert_string_equal(choosable_if_fresh(READ_SECONDARY, 119), "");
    assert_string_equal(choosable_if_fresh(READ_SECONDARY_PREFERRED, 119), "p");
    assert_string_equal(choosable_if_fresh(READ_PRIMARY_PREFERRED, 119), "p");
    assert_string_equal(choosable_if_fresh(READ_NEAREST, 120), "pa"); // the primary is never stale
    topology->servers[0].kind = SERVER_UNKNOWN;
    assert_string_equal(choosable_if_fresh(READ_PRIMARY_PREFERRED, 120), "a");
    assert_string_equal(choosable_if_fresh(READ_NEAREST, 119), "");
}

static void staleness_comes_before_tags_and_distance(void **state)
{
    (void)state;
    deploy(
        (struct member[]){SECONDARY('a', .rtt_ms = 1, .stale_s = 200, .tags = "{\"dc\": \"east\"}"),
                          SECONDARY('b', .rtt_ms = 30, .tags = "{\"dc\": \"west\"}"),
                          {0}});
    struct selection selection = wish(READ_SECONDARY);
    static const char sets[] = "[{\"dc\": \"east\"}, {\"dc\": \"west\"}]";
    assert_string_equal(choosable_by_tags(selection, sets), "a");
    selection.max_staleness_s = 100;
    assert_string_equal(choosable_by_tags(selection, sets), "b");
    assert_string_equal(choosable(selection), "b");
}

// --- one of them --------------------------------------------------------------------------------

static void the_window_begins_at_the_nearest(void **state)
{
    (void)state;
    deploy((struct member[]){PRIMARY('p', .rtt_ms = 40),
                             SECONDARY('a', .rtt_ms = 20),
                             SECONDARY('b', .rtt_ms = 5),
                             SECONDARY('c', .rtt_ms = 21),
                             {0}});
    struct selection selection = wish(READ_NEAREST);
    assert_string_equal(choosable(selection), "ab");
    selection.window_us = 0;
    assert_string_equal(choosable(selection), "b");
    selection.window_us = 16 * MS;
    assert_string_equal(choosable(selection), "abc");
    selection.window_us = SECOND;
    assert_string_equal(choosable(selection), "pabc");
}

// At the nearest of those that suit.
static void who_does_not_suit_is_not_the_nearest(void **state)
{
    (void)state;
    deploy((struct member[]){PRIMARY('p', .rtt_ms = 1),
                             SECONDARY('a', .rtt_ms = 2, .tags = "{\"dc\": \"east\"}"),
                             SECONDARY('b', .rtt_ms = 50, .tags = "{\"dc\": \"west\"}"),
                             SECONDARY('c', .rtt_ms = 60, .tags = "{\"dc\": \"west\"}"),
                             {0}});
    assert_string_equal(choosable_by_mode(READ_SECONDARY), "a");
    assert_string_equal(choosable_by_tags(wish(READ_SECONDARY), "[{\"dc\": \"west\"}]"), "bc");
    topology->servers[1].address_count = 0;
    assert_string_equal(choosable_by_mode(READ_SECONDARY), "bc");
}

static void of_two_the_less_busy(void **state)
{
    (void)state;
    deploy((struct member[]){SECONDARY('a', .in_flight = 8), SECONDARY('b', .in_flight = 7), {0}});
    assert_string_equal(choosable_by_mode(READ_SECONDARY), "b");
    atomic_store(&pulses[0].in_flight, 7);
    assert_string_equal(choosable_by_mode(READ_SECONDARY), "ab");
    // Each pair of three is looked at, so one that is not the least busy gets some, the busiest
    // none.
    deploy((struct member[]){SECONDARY('a', .in_flight = 9),
                             SECONDARY('b', .in_flight = 0),
                             SECONDARY('c', .in_flight = 5),
                             {0}});
    assert_string_equal(choosable_by_mode(READ_SECONDARY), "bc");
}

static void chance_near_its_ends_stays_within(void **state)
{
    (void)state;
    deploy((struct member[]){SECONDARY('a'), SECONDARY('b'), SECONDARY('c'), {0}});
    static const double ends[] = {0, 0x1.fffffffffffffp-1};
    for (int i = 0; i < 4; i++) {
        struct selection selection = wish(READ_SECONDARY);
        selection.random[0] = ends[i / 2];
        selection.random[1] = ends[i % 2];
        assert_non_null(selection_choose(topology, &selection));
    }
}

// --- who cannot be reached, who is not what it was ----------------------------------------------

static void who_fails_is_the_last_resort(void **state)
{
    (void)state;
    deploy((struct member[]){PRIMARY('p'), SECONDARY('a', .failing = true), SECONDARY('b'), {0}});
    assert_string_equal(choosable_by_mode(READ_SECONDARY), "b");
    atomic_store(&pulses[2].failing, true);
    assert_string_equal(choosable_by_mode(READ_SECONDARY), "ab");
    assert_string_equal(choosable_by_mode(READ_SECONDARY_PREFERRED), "p");
    assert_string_equal(choosable_by_mode(READ_NEAREST), "p");
    atomic_store(&pulses[0].failing, true);
    assert_string_equal(choosable_by_mode(READ_PRIMARY), "p");
    assert_string_equal(choosable_by_mode(READ_PRIMARY_PREFERRED), "p");
    assert_string_equal(choosable_by_mode(READ_SECONDARY_PREFERRED), "ab");
    atomic_store(&pulses[1].failing, false);
    assert_string_equal(choosable_by_mode(READ_PRIMARY_PREFERRED), "a");
}

static void who_is_doubted_is_not_chosen_for_a_while(void **state)
{
    (void)state;
    deploy((struct member[]){PRIMARY('p', .doubted_s = 10), SECONDARY('a'), {0}});
    struct selection selection = wish(READ_PRIMARY);
    assert_string_equal(choosable(selection), "");
    selection.mode = READ_PRIMARY_PREFERRED;
    assert_string_equal(choosable(selection), "a");
    selection.now_us = 10 * SECOND - 1;
    assert_string_equal(choosable(selection), "a");
    selection.now_us = 10 * SECOND;
    assert_string_equal(choosable(selection), "p");
}

static void who_was_asked_in_vain_is_asked_again_if_there_is_no_other(void **state)
{
    (void)state;
    deploy((struct member[]){MONGOS('a'), MONGOS('b'), MONGOS('c'), {0}});
    struct selection selection = wish(READ_PRIMARY);
    selection.avoid = 2;
    assert_string_equal(choosable(selection), "ac");
    atomic_store(&pulses[0].rtt_us, SECOND);
    atomic_store(&pulses[2].rtt_us, SECOND); // the window begins at the nearest that is left
    assert_string_equal(choosable(selection), "ac");
    deploy((struct member[]){MONGOS('a'), MONGOS('b', .failing = true), {0}});
    selection.avoid = 1;
    assert_string_equal(choosable(selection), "a");
}

static void more_than_it_looks_at(void **state)
{
    (void)state;
    static struct member members[MANY + 1];
    for (int i = 0; i < MANY; i++) {
        members[i] = (struct member)MONGOS('m');
    }
    deploy(members);
    struct selection selection = wish(READ_NEAREST);
    selection.random[0] = selection.random[1] = 0x1.fffffffffffffp-1;
    assert_non_null(selection_choose(topology, &selection));
}

// --- what a command wants -----------------------------------------------------------------------

static void what_commands_want(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        enum read_mode mode;
        int64_t max_staleness_s;
        bool tags;
    } cases[] = {
        {"{'find': 'c', '$db': 'a'}", READ_PRIMARY, -1, false},
        {"{'find': 'c', '$readPreference': {'mode': 'nearest'}, '$db': 'a'}", READ_NEAREST, -1,
         false},
        {"{'find': 'c', '$readPreference': {'mode': 'secondary', 'maxStalenessSeconds': 120,"
         " 'tags': [{'dc': 'east'}]}, '$db': 'a'}",
         READ_SECONDARY, 120, true},
        {"{'find': 'c', '$readPreference': {'mode': 'secondary', 'maxStalenessSeconds': 'x',"
         " 'tags': 'east'}, '$db': 'a'}",
         READ_SECONDARY, -1, false},
        // The primary's, whatever is said beside.
        {"{'find': 'c', '$readPreference': {'mode': 'primary', 'maxStalenessSeconds': 120,"
         " 'tags': [{'dc': 'east'}]}, '$db': 'a'}",
         READ_PRIMARY, -1, false},
        {"{'insert': 'c', '$readPreference': {'mode': 'nearest'}, '$db': 'a'}", READ_PRIMARY, -1,
         false},
        {"{'notKnown': 'c', '$readPreference': {'mode': 'nearest'}, '$db': 'a'}", READ_PRIMARY, -1,
         false},
        {"{'listCollections': 1, '$readPreference': {'mode': 'nearest'}, '$db': 'a'}", READ_PRIMARY,
         -1, false},
        {"{'aggregate': 'c', 'pipeline': [{'$merge': 'd'}],"
         " '$readPreference': {'mode': 'nearest'}, '$db': 'a'}",
         READ_PRIMARY, -1, false},
        {"{'aggregate': 'c', 'pipeline': [{'$match': {}}],"
         " '$readPreference': {'mode': 'nearest'}, '$db': 'a'}",
         READ_NEAREST, -1, false},
        {"{'find': 'c', '$readPreference': {'mode': 'nearest'}, 'autocommit': false, '$db': 'a'}",
         READ_PRIMARY, -1, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buffer message = {0};
        struct op_msg msg;
        struct command command;
        struct selection selection;
        sample_begin(&message, 1, 0, 0);
        sample_body(&message, cases[i].json);
        sample_end(&message);
        assert_int_equal(op_msg_read(buffer_bytes(&message), &msg), WIRE_OK);
        assert_int_equal(command_read(buffer_bytes(&message), &msg, &command), WIRE_OK);
        selection_read(&command, &selection);
        assert_int_equal(selection.mode, cases[i].mode);
        assert_int_equal(selection.max_staleness_s, cases[i].max_staleness_s);
        assert_int_equal(selection.tag_sets.len > 0, cases[i].tags);
        buffer_fini(&message);
    }
}

static int drop_topology(void **state)
{
    (void)state;
    topology_drop(topology);
    topology = NULL;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(modes_of_a_replica_set),
        cmocka_unit_test(modes_without_a_primary),
        cmocka_unit_test(modes_without_a_secondary),
        cmocka_unit_test(who_holds_no_data_is_never_chosen),
        cmocka_unit_test(who_leads_to_all_data_suits_every_wish),
        cmocka_unit_test(who_is_direct_suits_every_wish),
        cmocka_unit_test(tags_of_secondaries),
        cmocka_unit_test(tags_are_for_others_than_the_primary),
        cmocka_unit_test(stale_secondaries_are_left_out),
        cmocka_unit_test(staleness_comes_before_tags_and_distance),
        cmocka_unit_test(the_window_begins_at_the_nearest),
        cmocka_unit_test(who_does_not_suit_is_not_the_nearest),
        cmocka_unit_test(of_two_the_less_busy),
        cmocka_unit_test(chance_near_its_ends_stays_within),
        cmocka_unit_test(who_fails_is_the_last_resort),
        cmocka_unit_test(who_is_doubted_is_not_chosen_for_a_while),
        cmocka_unit_test(who_was_asked_in_vain_is_asked_again_if_there_is_no_other),
        cmocka_unit_test(more_than_it_looks_at),
        cmocka_unit_test(what_commands_want),
    };
    return cmocka_run_group_tests(tests, NULL, drop_topology);
}
