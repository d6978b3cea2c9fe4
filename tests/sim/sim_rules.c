// SPDX-License-Identifier: Apache-2.0
//
// An operator who changes the rules all the time, and now and then has an emergency.

#include "tests/sim/sim_world.h"

#include <limits.h>
#include <stdlib.h>

#include "proxy/mem.h"

#define AT_ONCE_MOST 4

static struct event change;
static struct rule **made; // all that there ever were
static size_t made_count;
static uint64_t generation;

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
    free(made);
    made = NULL;
    made_count = 0;
}
