// SPDX-License-Identifier: Apache-2.0
//
// What is measured of each storm.

#include "table.h"

#define TARGET(how, what, name) .sense = (how), .target = (what), .target_name = (name)

static double goodput(struct tally *tally, const struct column *column)
{
    const struct workload *workload = column->workload;
    return tally_goodput(tally, workload->server.cores, workload->from_us, workload->until_us);
}

// Of the cores there are after the capacity has changed by the parameter.
static double goodput_of_changed(struct tally *tally, const struct column *column)
{
    return goodput(tally, column) / column->parameter;
}

static double served(struct tally *tally, const struct column *column)
{
    const struct workload *workload = column->workload;
    return (double)tally_good(tally, -1, workload->from_us, workload->until_us) /
           tally_offered(tally, -1, workload->from_us, workload->until_us);
}

// Of the kind that the parameter says.
static double served_of_kind(struct tally *tally, const struct column *column)
{
    const struct workload *workload = column->workload;
    int kind = (int)column->parameter;
    return (double)tally_good(tally, kind, workload->from_us, workload->until_us) /
           tally_offered(tally, kind, workload->from_us, workload->until_us);
}

static double wait_p99_ms(struct tally *tally, const struct column *column)
{
    (void)column;
    return tally_wait_ms(tally, 0.99);
}

// From the second that the parameter says.
static double recovery_s(struct tally *tally, const struct column *column)
{
    return tally_recovery_s(tally, (int64_t)(column->parameter * S), column->workload->ends_us);
}

static double polite_share(struct tally *tally, const struct column *column)
{
    return tally_share(tally, 1, (int)column->parameter);
}

static double noisy_share(struct tally *tally, const struct column *column)
{
    (void)column;
    return tally_share(tally, 0, 1);
}

static double extra_work(struct tally *tally, const struct column *column)
{
    (void)column;
    return (double)tally->executed / tally->served;
}

// Of those kinds that have not changed.
static double served_of_others(struct tally *tally, const struct column *column)
{
    const struct workload *workload = column->workload;
    double good = 0;
    double offered = 0;
    for (int kind = 0; kind < (int)column->parameter; kind++) {
        good += tally_good(tally, kind, workload->from_us, workload->until_us);
        offered += tally_offered(tally, kind, workload->from_us, workload->until_us);
    }
    return good / offered;
}

// Against the best fixed one, with the cores there are after the change by the parameter.
static double limit_against(struct tally *tally, const struct column *column)
{
    const struct workload *workload = column->workload;
    return tally_limit(tally, workload->from_us, workload->until_us) /
           best_fixed(workload, column->load).limit;
}

#define COLUMN(what, storm, how, in, ...)                                                          \
    {                                                                                              \
        .title = what, .workload = &(storm), .load = 1, .measure = how, .form = in, __VA_ARGS__    \
    }

#define GOODPUT(storm, times, what, note, least)                                                   \
    {                                                                                              \
        .title = what, .workload = &(storm), .load = (times), .measure = goodput,                  \
        .form = SHARE_OF, .sense = (least) > 0 ? AT_LEAST : NO_TARGET, .target = (least),          \
        .target_name = "goodput at " what " overload, against peak" note                           \
    }

#define OVERLOAD(storm, note)                                                                      \
    {                                                                                              \
        GOODPUT(storm, 1, "1x", note, 0), GOODPUT(storm, 2, "2x", note, 0.97),                     \
            GOODPUT(storm, 5, "5x", note, 0.95), GOODPUT(storm, 10, "10x", note, 0.93),            \
    }

struct table tables[] = {
    {"Overload, a server that shares its cores",
     "The part of the cores that went into answers in time, at 1, 2, 5 and 10 times the capacity.",
     OVERLOAD(even, "")},
    {"Overload, a server that suffers from crowding",
     "The same; from 16 at once on, each one more costs it 2 %.", OVERLOAD(crowded, "; crowded")},
    {"Overload of other kinds",
     "As before: heavy-tailed times (2x), and a server that takes 200 connections (2x, drivers "
     "back off).",
     {GOODPUT(heavy, 1, "heavy tail", "", 0), GOODPUT(connections, 1, "connections", "", 0)}},
    {"The story",
     "300 fast ones a second, and for 30 s 200 a second that hold a connection for 5 s each. "
     "Served in time while they come; the wait is of fast ones that were let through.",
     {COLUMN("fast, no slow shape", story_calm, served_of_kind, SHARE_OF),
      COLUMN("fast", story, served_of_kind, SHARE_OF,
             TARGET(AT_LEAST, 0.95, "fast operations in the story, against no slow shape")),
      COLUMN("slow", story, served_of_kind, SHARE_OF, .parameter = 1),
      COLUMN("p99 of the fast ones' wait, ms", story, wait_p99_ms, MILLISECONDS,
             TARGET(AT_MOST, 100, "p99 of the fast ones' wait, ms"))}},
    {"A slow shape appears that eats processor time",
     "Half of the capacity in use; then 40 scans a second come, 2.5 times all cores. Served in "
     "time after that.",
     {COLUMN("fast (5 ms)", slow_shape, served_of_kind, SHARE_OF),
      COLUMN("middle (20 ms)", slow_shape, served_of_kind, SHARE_OF, .parameter = 1),
      COLUMN("scans", slow_shape, served_of_kind, SHARE_OF, .parameter = 2),
      COLUMN("goodput", slow_shape, goodput, SHARE_OF)}},
    {"Bursts",
     "A spike of 10x for 30 s, a failover of 5 s in a spike of 5x, standing still three times for "
     "1 s: goodput in it (of the convoy: served in time), and seconds until 0.95 are served again "
     "after it.",
     {COLUMN("spike", spike, goodput, SHARE_OF),
      COLUMN("then, s", spike, recovery_s, SECONDS, .parameter = 50,
             TARGET(AT_MOST, 2, "seconds to recover after the spike")),
      COLUMN("failover", failover, goodput, SHARE_OF),
      COLUMN("then, s", failover, recovery_s, SECONDS, .parameter = 40,
             TARGET(AT_MOST, 2, "seconds to recover after the spike with a failover")),
      COLUMN("convoy", convoy, served, SHARE_OF),
      COLUMN("then, s", convoy, recovery_s, SECONDS, .parameter = 31,
             TARGET(AT_MOST, 2, "seconds to recover after the convoy"))}},
    {"Retries",
     "0.9 of the capacity, twice that for 10 s; refused requests are retried twice by drivers and "
     "all are asked again three times by users. Work: requests that the server took on for each "
     "one that was served in time.",
     {COLUMN("back-off: work", retry_back_off, extra_work, FACTOR,
             TARGET(AT_MOST, 1.1, "work for each request served, drivers back off")),
      COLUMN("then, s", retry_back_off, recovery_s, SECONDS, .parameter = 30),
      COLUMN("at once: work", retry_at_once, extra_work, FACTOR,
             TARGET(AT_MOST, 1.1, "work for each request served, drivers do not back off")),
      COLUMN("then, s", retry_at_once, recovery_s, SECONDS, .parameter = 30)}},
    {"Tenants",
     "One tenant wants 5 times the capacity; the others together 0.6 of it, each less than its "
     "fair share. Served in time of what each wants.",
     {COLUMN("4 polite", noisy, polite_share, SHARE_OF, .parameter = 4,
             TARGET(AT_LEAST, 0.95, "polite tenants beside a noisy one, of their fair share")),
      COLUMN("the noisy one", noisy, noisy_share, SHARE_OF),
      COLUMN("1,000 polite", thousand, polite_share, SHARE_OF, .parameter = 1000,
             TARGET(AT_LEAST, 0.95, "1,000 polite tenants beside a noisy one")),
      COLUMN("the noisy one", thousand, noisy_share, SHARE_OF)}},
    {"Capacity",
     "The crowded server, more than twice its capacity wanted: 10 s after its cores have halved "
     "or doubled, the limit against the best fixed one, and goodput of the cores there are.",
     {COLUMN("halves: limit", halving, limit_against, FACTOR, .parameter = 0.5,
             TARGET(NEAR, 0.2, "limit after the capacity halved, against the best fixed one")),
      COLUMN("goodput", halving, goodput_of_changed, SHARE_OF, .parameter = 0.5),
      COLUMN("doubles: limit", doubling, limit_against, FACTOR, .parameter = 2,
             TARGET(NEAR, 0.2, "limit after the capacity doubled, against the best fixed one")),
      COLUMN("goodput", doubling, goodput_of_changed, SHARE_OF, .parameter = 2)}},
    {"Other work",
     "The crowded server. Twice its capacity, then all of it becomes twice as dear: goodput from "
     "5 s after that. Half of it, then one of three shapes becomes 20 times as dear and alone "
     "wants 1.25 times the cores: of the others, served in time. Twice the capacity, of fast ones "
     "first, then of dear ones: goodput after that.",
     {COLUMN("twice as dear", dearer, goodput, SHARE_OF),
      COLUMN("index lost: the others", index_lost, served_of_others, SHARE_OF, .parameter = 2),
      COLUMN("another mix", other_mix, goodput, SHARE_OF)}},
};

const int tables_count = sizeof tables / sizeof tables[0];
