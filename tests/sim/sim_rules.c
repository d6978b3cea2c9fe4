// SPDX-License-Identifier: Apache-2.0
//
// An operator who changes the rules all the time, and now and then has an emergency or another
// configuration.

#include "tests/sim/sim_world.h"

#include <limits.h>
#include <stdlib.h>

#include "proxy/mem.h"

#define AT_ONCE_MOST 4

static struct event change;
static struct rule **made; // all that there ever were
static size_t made_count;
static uint64_t generation;
static struct config *newest; // as in weir, the former ones stay

// Without a command's name, so that what finishes things goes on.
static struct rule_match draw_match(void)
{
    struct rule_match match = {0};
    match.kind = dice_chance(0.5) ? RULE_ANY_KIND : dice_chance(0.5) ? RULE_READS : RULE_WRITES;
    match.database = dice_chance(0.3) ? "elsewhere" : NULL;
    match.has_shape = dice_chance(0.1);
    return match;
}

static struct rule_act draw_act(void)
{
    struct rule_act act = {0};
    switch (dice_between(0, 3)) {
    case 0:
        act.deny = true;
        return act;
    case 1:
        act.at_once = (int)dice_between(1, AT_ONCE_MOST);
        break;
    case 2:
        act.per_second = (int)dice_scale(1, 1000);
        break;
    }
    act.slow = dice_chance(0.3);
    act.priority = (enum priority)dice_between(0, PRIORITY_COUNT - 1);
    return act;
}

static struct rule *draw_rule(void)
{
    struct rule_match match = draw_match();
    struct rule_act act = draw_act();
    int64_t ends_us = dice_chance(0.3) ? 0 : sim_now_us() + dice_scale(1000, 10000000);
    made = xrealloc(made, (made_count + 1) * sizeof *made);
    made[made_count] = rule_new((int64_t)made_count + 1, &match, &act, ends_us, dice_chance(0.1));
    return made[made_count++];
}

static void publish(struct rules *rules)
{
    generation++;
    for (int i = 0; i < world.knobs.workers; i++) {
        struct rules_mail *mail = xcalloc(1, sizeof *mail);
        mail->rules = rules_keep(rules);
        mail->generation = generation;
        worker_post(world.workers[i], &mail->mail, MAIL_RULES);
    }
    rules_drop(rules);
}

static void check_bounded(struct server *server, void *arg)
{
    HOLDS(server->id == 0 || server->ledger.cap <= *(int *)arg,
          "%s may have %d upstreams, all were to have %d", server->name, server->ledger.cap,
          *(int *)arg);
}

// As another weir's need changes, or the store is away: then what is busy is closed, too.
static void change_fleet_cap(void)
{
    int cap = dice_chance(0.3) ? INT_MAX : (int)dice_between(1, world.knobs.cap);
    bool cuts = !world.calm && dice_chance(0.3);
    TRACE("the fleet leaves %lld, and cuts: %lld", cap, cuts);
    servers_set_fleet_cap(world.shared.servers, cap, cuts);
    servers_visit(world.shared.servers, check_bounded, &cap);
}

static int64_t draw_time_us(int64_t most_us)
{
    return dice_between(0, most_us);
}

// Nothing that the app or the judge goes by becomes stricter than the knobs say.
static void draw_config(struct config *config)
{
    static char *weights[] = {"simulated-1=7", "simulated-2=1"};
    const struct knobs *knobs = &world.knobs;
    config->max_connections = (int)dice_between(1, knobs->cap);
    config->max_total_connections =
        knobs->total_cap > 0 ? (int)dice_between(1, knobs->total_cap) : 0;
    config->pinned_share = dice_chance(0.5) ? 0.5 : 0.9;
    config->server_wait_us = draw_time_us(knobs->server_wait_us);
    config->upstream_max_idle_time_us = draw_time_us(knobs->max_idle_us);
    config->upstream_max_age_us = draw_time_us(knobs->max_age_us);
    config->max_buffered_bytes = (int64_t)knobs->max_buffered * dice_between(1, 2);
    config->max_wait_us = draw_time_us(2 * knobs->max_wait_us);
    config->max_queue = (int)dice_between(1, knobs->max_queue);
    config->limit = dice_chance(0.5) ? CONFIG_LIMIT_ADAPTIVE : CONFIG_LIMIT_FIXED;
    config->min_limit = (int)dice_between(1, knobs->cap);
    config->slow_share = knobs->slow_share < 1 ? 0.1 * (double)dice_between(1, 10) : 1;
    config->stream_share = 0.1 * (double)dice_between(0, 10);
    config->emergency_share = 0.1 * (double)dice_between(1, 10);
    config->slow_op_threshold_us = 1 + draw_time_us(2 * knobs->slow_us);
    config->tenant_weights = (struct config_list){weights, (size_t)dice_between(0, 2)};
}

// As control's thread has it done.
static void renew_approach(void)
{
    struct approach *former = world.shared.approach;
    struct approach *fresh = xcalloc(1, sizeof *fresh);
    fresh->references = 1;
    fresh->number = former->number + 1;
    fresh->deployment = &world.deployment;
    world.shared.approach = fresh;
    for (int i = 0; i < world.knobs.workers; i++) {
        struct approach_mail *mail = xcalloc(1, sizeof *mail);
        mail->approach = approach_keep(fresh);
        worker_post(world.workers[i], &mail->mail, MAIL_APPROACH);
    }
    approach_drop(former);
}

// As reload.c does it.
static void reload_config(void)
{
    struct config *config = xcalloc(1, sizeof *config);
    *config = world.config;
    draw_config(config);
    config->former = newest;
    newest = config;
    TRACE("another configuration: a cap of %lld, waits of %lld us", config->max_connections,
          config->max_wait_us);
    world.shared.config = config;
    world.shared.budget.limit = (size_t)config->max_buffered_bytes;
    servers_configure(world.shared.servers, config);
    for (int i = 0; i < world.knobs.workers; i++) {
        struct reloaded_mail *mail = xcalloc(1, sizeof *mail);
        worker_post(world.workers[i], &mail->mail, MAIL_RELOADED);
    }
    renew_approach();
}

// Some rules stay, with what they have counted.
static void change_rules(void *arg)
{
    struct rule *items[4];
    struct rule_bounds none = {0};
    size_t count = (size_t)dice_between(0, 4);
    (void)arg;
    if (world.resting || world.ending) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        bool anew = made_count == 0 || dice_chance(0.5);
        items[i] = anew ? draw_rule() : made[dice_between(0, (int64_t)made_count - 1)];
    }
    TRACE("there are %lld rules now", count);
    servers_restrain(world.shared.servers, dice_chance(0.3));
    if (dice_chance(0.3)) {
        int cap = dice_chance(0.3) ? -1 : (int)dice_between(1, world.knobs.cap);
        TRACE("the cap is %lld now", cap);
        HOLDS(servers_set_cap(world.shared.servers, NULL, cap), "not every server has a cap");
    }
    if (dice_chance(0.3)) {
        change_fleet_cap();
    }
    if (dice_chance(0.3)) {
        reload_config();
    }
    publish(rules_new(items, count, &none));
    event_set(&change, sim_now_us() + dice_between(1, 2 * world.knobs.rules_every_us));
}

void rules_begin(void)
{
    event_init(&change, change_rules, NULL);
    if (world.knobs.rules_every_us > 0) {
        change_rules(NULL);
    }
}

uint64_t rules_refused(void)
{
    uint64_t refused = 0;
    for (size_t i = 0; i < made_count; i++) {
        struct rule_counts counts;
        rule_count(made[i], &counts);
        refused += counts.refused;
    }
    return refused;
}

static void check_cut(struct server *server, void *arg)
{
    (void)arg;
    HOLDS(server->cutting == 0, "at rest, %d are yet to be cut", server->cutting);
}

void rules_check_rest(void)
{
    servers_visit(world.shared.servers, check_cut, NULL);
    for (size_t i = 0; i < made_count; i++) {
        struct rule_counts counts;
        rule_count(made[i], &counts);
        HOLDS(counts.at_once == 0, "at rest, rule %zu counts %d at once", i + 1, counts.at_once);
    }
}

void rules_finish(void)
{
    event_cancel(&change);
    for (size_t i = 0; i < made_count; i++) {
        rule_drop(made[i]);
    }
    while (newest) {
        struct config *former = newest->former;
        free(newest);
        newest = former;
    }
    free(made);
    made = NULL;
    made_count = 0;
}
