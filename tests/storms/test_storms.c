// SPDX-License-Identifier: Apache-2.0
//
// Whether the bench itself can be believed: by seed the same, nothing lost (world_play asserts
// that), servers that share as they say, opponents that step as their authors wrote. How good
// anybody is, is not tested here.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "limiter.h"
#include "server.h"
#include "world.h"

#define SHORTER 10

// The same storm, in a tenth of the time.
static struct workload shortened(const struct workload *workload)
{
    struct workload quick = *workload;
    quick.ends_us /= SHORTER;
    quick.from_us /= SHORTER;
    quick.until_us /= SHORTER;
    for (int i = 0; i < HAPPENINGS; i++) {
        quick.happenings[i].at_us = (quick.happenings[i].at_us + SHORTER - 1) / SHORTER;
    }
    return quick;
}

static uint64_t play(const struct workload *workload, const struct way *way, uint64_t seed)
{
    static struct tally tally;
    world_play(workload, way, USUAL_CAP, 1, seed, &tally);
    int offered = tally_offered(&tally, -1, 0, workload->ends_us);
    int good = tally_good(&tally, -1, 0, workload->ends_us);
    assert_true(offered > 0 && good <= offered);
    assert_true(tally.served <= offered);
    tally_fini(&tally);
    return tally.digest;
}

static void every_storm_with_every_contestant_ends_and_loses_nothing(void **state)
{
    (void)state;
    for (int i = 0; i < workloads_count; i++) {
        struct workload quick = shortened(workloads[i]);
        for (int w = 0; w < ways_count; w++) {
            play(&quick, ways[w], 1);
        }
    }
}

static void a_seed_decides_everything(void **state)
{
    (void)state;
    struct workload quick = shortened(&spike);
    for (int w = 0; w < ways_count; w++) {
        uint64_t first = play(&quick, ways[w], 7);
        assert_true(first == play(&quick, ways[w], 7));
        assert_true(first != play(&quick, ways[w], 8));
    }
}

static void what_is_asked_does_not_depend_on_who_decides(void **state)
{
    (void)state;
    static struct tally tally;
    struct workload quick = shortened(&noisy);
    int offered = 0;
    for (int w = 0; w < ways_count; w++) {
        world_play(&quick, ways[w], USUAL_CAP, 1, 3, &tally);
        int now = tally_offered(&tally, -1, 0, quick.ends_us);
        assert_true(w == 0 || now == offered);
        offered = now;
        tally_fini(&tally);
    }
}

// When the last of `count` that need 10 ms each is finished.
static int64_t last_of(const struct server_traits *traits, int count, double capacity)
{
    struct request *requests = calloc((size_t)count, sizeof(*requests));
    struct server server;
    server_init(&server, traits);
    server_set_capacity(&server, capacity, 0);
    for (int i = 0; i < count; i++) {
        requests[i].cpu_us = 10000;
        server_add(&server, &requests[i], 0);
    }
    int64_t now_us = 0;
    while (server.count > 0) {
        now_us = server_next_us(&server);
        assert_true(now_us < INT64_MAX);
        assert_non_null(server_take_finished(&server, now_us));
    }
    server_fini(&server);
    free(requests);
    return now_us;
}

static void servers_share_their_cores(void **state)
{
    (void)state;
    struct server_traits fair = {.cores = 4};
    struct server_traits crowding = {.cores = 4, .contention = 0.1};
    assert_int_equal(last_of(&fair, 1, 1), 10000);
    assert_int_equal(last_of(&fair, 4, 1), 10000);
    assert_int_equal(last_of(&fair, 8, 1), 20000);
    assert_int_equal(last_of(&fair, 8, 0.5), 40000);
    assert_int_equal(last_of(&crowding, 8, 1), 20000);
    assert_int_equal(last_of(&crowding, 18, 1), 90000); // ten too many: half as fast
}

static void a_server_that_stands_finishes_nothing(void **state)
{
    (void)state;
    struct request request = {.cpu_us = 1000};
    struct server server;
    server_init(&server, &(struct server_traits){.cores = 1});
    server_add(&server, &request, 0);
    server_set_capacity(&server, 0, 500);
    assert_true(server_next_us(&server) == INT64_MAX);
    server_set_capacity(&server, 1, 10000);
    assert_int_equal(server_next_us(&server), 10500);
    assert_ptr_equal(server_take_any(&server), &request);
    server_fini(&server);
}

// The limit after `windows`. One ends with the first sample after 1 s; the very first one of all is
// a window by itself, of too few.
static int limit_after(const struct limiter *limiter, int windows, int64_t first_us,
                       int64_t later_us)
{
    void *self = calloc(1, limiter->bytes);
    limiter->start(self, 1000, 1);
    struct sample sample = {.in_flight = 1000, .rtt_us = first_us};
    for (int i = 0; i <= windows * 11; i++) {
        sample.now_us = i * (S / 10) + 1;
        sample.rtt_us = i <= 11 ? first_us : later_us;
        limiter->learn(self, &sample);
    }
    int limit = limiter->limit(self);
    free(self);
    return limit;
}

static void gradient2_steps_as_published(void **state)
{
    (void)state;
    // 0.2 x 4 more in each window while latencies stay: 20, and ten times 0.8.
    assert_int_equal(limit_after(&limiter_gradient2, 10, 1000, 1000), 28);
    // Twice as slow: smaller again, but not below 20.
    assert_in_range(limit_after(&limiter_gradient2, 10, 1000, 20000), 20, 21);
}

static void vegas_steps_as_published(void **state)
{
    (void)state;
    // The first window is the unloaded time; after it 6 log10 of the limit more in each.
    assert_int_equal(limit_after(&limiter_vegas, 3, 1000, 1000), 20 + 6 * 2);
}

static void aimd_steps_as_published(void **state)
{
    (void)state;
    int limit[1 + 1];
    limiter_aimd.start(limit, 100, 1);
    assert_int_equal(limiter_aimd.limit(limit), 10);
    limiter_aimd.learn(limit, &(struct sample){.in_flight = 5, .rtt_us = 1});
    assert_int_equal(limiter_aimd.limit(limit), 11);
    limiter_aimd.learn(limit, &(struct sample){.in_flight = 5, .rtt_us = 1});
    assert_int_equal(limiter_aimd.limit(limit), 11);
    limiter_aimd.learn(limit, &(struct sample){.in_flight = 5, .rtt_us = 1, .dropped = true});
    assert_int_equal(limiter_aimd.limit(limit), 9);
}

static void envoy_measures_first(void **state)
{
    (void)state;
    void *self = calloc(1, limiter_envoy.bytes);
    limiter_envoy.start(self, 1000, 1);
    struct sample sample = {.now_us = 1000, .rtt_us = 1000};
    for (int i = 0; i < 50; i++) {
        assert_int_equal(limiter_envoy.limit(self), 3);
        limiter_envoy.learn(self, &sample);
    }
    limiter_envoy.learn(self, &sample);
    limiter_envoy.tick(self, 3, 100 * MS);
    assert_int_equal(limiter_envoy.limit(self), 5); // 3 x 1.25 + sqrt(3.75)
    free(self);
}

static void probing_keeps_what_helped(void **state)
{
    (void)state;
    void *self = calloc(1, limiter_probing.bytes);
    limiter_probing.start(self, 100, 1);
    struct sample sample = {0};
    limiter_probing.learn(self, &sample);
    limiter_probing.tick(self, 16, 0);
    assert_int_equal(limiter_probing.limit(self), 18); // 16 x 1.1, tried
    limiter_probing.learn(self, &sample);
    limiter_probing.learn(self, &sample);
    limiter_probing.tick(self, 18, 0);
    assert_int_equal(limiter_probing.limit(self), 16); // 16.4
    free(self);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_storm_with_every_contestant_ends_and_loses_nothing),
        cmocka_unit_test(a_seed_decides_everything),
        cmocka_unit_test(what_is_asked_does_not_depend_on_who_decides),
        cmocka_unit_test(servers_share_their_cores),
        cmocka_unit_test(a_server_that_stands_finishes_nothing),
        cmocka_unit_test(gradient2_steps_as_published),
        cmocka_unit_test(vegas_steps_as_published),
        cmocka_unit_test(aimd_steps_as_published),
        cmocka_unit_test(envoy_measures_first),
        cmocka_unit_test(probing_keeps_what_helped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
