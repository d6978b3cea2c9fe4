// SPDX-License-Identifier: Apache-2.0
//
// What connects to one server of the deployment, which is what a tier limits:
//
//      straight        dynos x processes x (pool + monitoring)
//      sidecars        dynos x (cap + weir's own)
//      a shared pool   weirs x (cap + weir's own)
//
// The limits are those of https://www.mongodb.com/docs/atlas/reference/atlas-limits/, as of 2026.

#include "proxy/admin/plan.h"

#include <bson/bson.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proxy/admin/flags.h"

enum { FITS = 0, FITS_NOT = 1, BAD_USAGE = 2 };

#define KEPT_BY_ATLAS 10 // of each server's connections, for its own agents
#define MONITORING 2 // connections of each driver to each server: its monitor and the round trips
#define WEIRS_OWN 4  // likewise, one to ask why connections ran out and one to kill by
#define DEFAULT_POOL 100 // of all drivers
#define DEFAULT_CAP 100  // upstream.maxConnections
#define SENSIBLE 0.8     // of a limit: the rest is for shells, backups, tools, a deploy's overlap
#define MOST 1000000     // of anything

static const struct tier {
    const char *name;
    long connections; // a server
} tiers[] = {
    {"M0", 500},      {"M2", 500},      {"M5", 500},      {"Flex", 500},
    {"M10", 1500},    {"M20", 3000},    {"M30", 3000},    {"M40", 6000},
    {"M50", 16000},   {"M60", 32000},   {"M80", 96000},   {"M140", 96000},
    {"M200", 128000}, {"M300", 128000}, {"M400", 128000}, {"M700", 128000},
};

enum { TIERS = sizeof tiers / sizeof tiers[0] };

struct plan {
    const struct tier *tier; // NULL: `limit` was said
    long limit;              // of connections to a server
    long usable;             // of these, by apps
    long dynos;
    long processes; // with a pool of their own, in each dyno
    long pool;
    long weirs; // that share the pool
    bool json;
};

static const char usage[] =
    "Usage: weir plan --tier TIER | --limit N [--dynos N | --heroku app.json]\n"
    "                 [--processes N] [--pool N] [--weirs N] [--json]\n"
    "\n"
    "Whether the connection pools of an app fit its deployment, from how many dynos\n"
    "on they do not, and what would. Nothing is asked of a server: weir doctor would.\n"
    "\n"
    "  --tier TIER        Atlas tier: M0, M10, M20, M30, M40, M50, M60, M80, ...\n"
    "  --limit N          instead: how many connections one server takes\n"
    "                     (serverStatus().connections: current + available)\n"
    "  --dynos N          dynos, pods, machines; default 1\n"
    "  --heroku app.json  instead: the sum of the quantities in its formation\n"
    "  --processes N      in each, with a MongoClient of their own (workers of Puma,\n"
    "                     gunicorn, Node's cluster); default 1\n"
    "  --pool N           maxPoolSize of each; default 100, as in every driver\n"
    "  --weirs N          how many weirs share the cap, if not one in each dyno;\n"
    "                     default 2\n"
    "  --json             the answer as JSON\n"
    "\n"
    "Exit status: 0 if the pools fit, 1 if they do not, 2 if the question is wrong.\n"
    "\n"
    "Example: weir plan --tier M10 --dynos 2 --pool 150\n";

// --- the question -------------------------------------------------------------------------------

static int refuse(const char *option, const char *value, const char *right)
{
    fprintf(stderr, "weir plan: %s %s: %s\n", option, value, right);
    return BAD_USAGE;
}

static int complain(const char *what)
{
    fprintf(stderr, "weir plan: %s\n", what);
    return BAD_USAGE;
}

static const struct tier *find_tier(const char *name)
{
    for (size_t i = 0; i < TIERS; i++) {
        if (strcasecmp(tiers[i].name, name) == 0) {
            return &tiers[i];
        }
    }
    return NULL;
}

long plan_limit_of_tier(const char *name)
{
    const struct tier *tier = find_tier(name);
    return tier ? tier->connections : 0;
}

const char *plan_tier_of_limit(long limit)
{
    for (size_t i = 0; i < TIERS; i++) {
        if (tiers[i].connections == limit) {
            return tiers[i].name;
        }
    }
    return NULL;
}

// A whole number of 1 to MOST, 0 if it is none.
static long read_number(const char *text)
{
    char *end;
    errno = 0;
    long number = strtol(text, &end, 10);
    bool whole = errno == 0 && end != text && *end == '\0';
    return whole && number >= 1 && number <= MOST ? number : 0;
}

// The sum over all process types of an app.json's formation; what has no quantity is one. 0: there
// is no such file, or none in it.
static long read_formation(const char *path, bson_error_t *error)
{
    bson_json_reader_t *reader = bson_json_reader_new_from_file(path, error);
    bson_t app = BSON_INITIALIZER;
    bson_iter_t iter;
    bson_iter_t types;
    long dynos = 0;
    if (reader && bson_json_reader_read(reader, &app, error) == 1 &&
        bson_iter_init_find(&iter, &app, "formation") && BSON_ITER_HOLDS_DOCUMENT(&iter) &&
        bson_iter_recurse(&iter, &types)) {
        while (bson_iter_next(&types)) {
            bson_iter_t quantity;
            bool said = bson_iter_recurse(&types, &quantity) &&
                        bson_iter_find(&quantity, "quantity") && BSON_ITER_HOLDS_NUMBER(&quantity);
            int64_t count = said ? bson_iter_as_int64(&quantity) : 1;
            dynos += count > 0 && count <= MOST ? (long)count : 0;
        }
    }
    if (reader) {
        bson_json_reader_destroy(reader);
    }
    bson_destroy(&app);
    return dynos <= MOST ? dynos : 0;
}

static int take_heroku(const char *path, struct plan *plan)
{
    bson_error_t error = {0};
    plan->dynos = read_formation(path, &error);
    const char *reason = error.domain == BSON_ERROR_READER ? error.message
                         : error.message[0]                ? "is not JSON"
                                                           : "has no formation with a quantity";
    return plan->dynos > 0 ? FITS : refuse("--heroku", path, reason);
}

static int take_tier(const char *name, struct plan *plan)
{
    plan->tier = find_tier(name);
    if (!plan->tier) {
        return refuse("--tier", name,
                      "is none of M0, Flex, M10, M20, M30, M40, M50, M60, M80, "
                      "M140, M200, M300, M400, M700; --limit N takes any");
    }
    plan->limit = plan->tier->connections;
    return FITS;
}

static int take_number(const char *option, const char *value, long *ret_number)
{
    *ret_number = read_number(value);
    return *ret_number > 0 ? FITS : refuse(option, value, "must be 1 to 1000000");
}

// What the command line says; NULL: nothing.
struct said {
    const char *tier, *limit, *dynos, *processes, *pool, *weirs, *heroku;
    bool help;
};

static int take_said(const struct said *said, struct plan *plan)
{
    const struct {
        const char *option, *text;
        long *number;
    } numbers[] = {
        {"--limit", said->limit, &plan->limit}, {"--dynos", said->dynos, &plan->dynos},
        {"--pool", said->pool, &plan->pool},    {"--processes", said->processes, &plan->processes},
        {"--weirs", said->weirs, &plan->weirs},
    };
    int status = said->tier ? take_tier(said->tier, plan) : FITS;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0] && status == FITS; i++) {
        if (numbers[i].text) {
            status = take_number(numbers[i].option, numbers[i].text, numbers[i].number);
        }
    }
    return status == FITS && said->heroku ? take_heroku(said->heroku, plan) : status;
}

static int check_said(const struct said *said)
{
    if (!said->tier && !said->limit) {
        return complain("needs --tier or --limit, as in: weir plan --tier M10");
    }
    if (said->tier && said->limit) {
        return complain("--tier and --limit say the same: one of them");
    }
    return said->dynos && said->heroku ? complain("--dynos and --heroku say the same: one of them")
                                       : FITS;
}

static int read_plan(int argc, char **argv, struct plan *plan, bool *ret_help)
{
    struct said said = {0};
    char error[FLAGS_ERROR_BYTES];
    const struct flag flags[] = {
        {"tier", &said.tier, NULL},
        {"limit", &said.limit, NULL},
        {"dynos", &said.dynos, NULL},
        {"pool", &said.pool, NULL},
        {"processes", &said.processes, NULL},
        {"weirs", &said.weirs, NULL},
        {"heroku", &said.heroku, NULL},
        {"json", NULL, &plan->json},
        {"help", NULL, ret_help},
    };
    if (!flags_read(flags, sizeof flags / sizeof flags[0], argc, argv, NULL, error)) {
        return complain(error);
    }
    if (*ret_help) {
        return FITS;
    }
    int status = check_said(&said);
    return status == FITS ? take_said(&said, plan) : status;
}

// --- the answer ---------------------------------------------------------------------------------

static long at_least(long least, long number)
{
    return number > least ? number : least;
}

static long at_most(long most, long number)
{
    return number < most ? number : most;
}

static long of_drivers(const struct plan *plan, long dynos)
{
    return dynos * plan->processes * (plan->pool + MONITORING);
}

static long dynos_that_fit(const struct plan *plan)
{
    return plan->usable / of_drivers(plan, 1);
}

// The largest pool with which all processes fit, 0 if none does.
static long pool_that_fits(const struct plan *plan)
{
    return at_least(0, plan->usable / (plan->dynos * plan->processes) - MONITORING);
}

// The largest sensible cap for so many weirs, 0 if none is.
static long cap_for(const struct plan *plan, long weirs)
{
    return at_least(0, (long)((double)plan->usable * SENSIBLE) / weirs - WEIRS_OWN);
}

static const struct tier *tier_that_fits(const struct plan *plan)
{
    for (size_t i = 0; i < TIERS; i++) {
        if (of_drivers(plan, plan->dynos) <= tiers[i].connections - KEPT_BY_ATLAS) {
            return &tiers[i];
        }
    }
    return NULL;
}

static void print_straight(const struct plan *plan)
{
    long wanted = of_drivers(plan, plan->dynos);
    bool fits = wanted <= plan->usable;
    printf("Without weir: %ld %s x %ld %s x (a pool of %ld + %d that monitor)\n", plan->dynos,
           plan->dynos == 1 ? "dyno" : "dynos", plan->processes,
           plan->processes == 1 ? "process" : "processes", plan->pool, MONITORING);
    printf("  = %ld connections to each server, %.0f %% of what it takes: %s.\n", wanted,
           100.0 * (double)wanted / (double)plan->usable, fits ? "fits" : "DOES NOT FIT");
    printf("  At this pool size %ld dynos fit, %ld do not. A deploy may run old and new dynos\n"
           "  side by side, which then count twice.\n",
           dynos_that_fit(plan), dynos_that_fit(plan) + 1);
    if (!fits) {
        const struct tier *tier = tier_that_fits(plan);
        long pool = pool_that_fits(plan);
        if (pool > 0) {
            printf("  A pool of at most %ld would fit.\n", pool);
        }
        if (tier) {
            printf("  With this pool the smallest tier that fits is %s.\n", tier->name);
        }
    }
}

static void print_cap(const char *what, long cap, long in_all)
{
    if (cap == 0) {
        printf("  %s: too many for this limit, even with a cap of 1.\n", what);
        return;
    }
    long most = at_most(DEFAULT_CAP, cap);
    printf("  %s: --max-connections %ld each, %ld to each server in all.\n", what, most,
           in_all * (most + WEIRS_OWN));
    if (cap > most) {
        printf("    Each may have up to %ld.\n", cap);
    }
}

static void print_with_weir(const struct plan *plan)
{
    printf("\nWith weir the pools may stay as they are: what counts is its cap.\n");
    print_cap("One in each dyno", cap_for(plan, plan->dynos), plan->dynos);
    long side_by_side = cap_for(plan, 2 * plan->dynos);
    if (side_by_side < DEFAULT_CAP) {
        printf("    %ld if old and new dynos run side by side (preboot, rolling deploys).\n",
               side_by_side);
    }
    char shared[64];
    snprintf(shared, sizeof shared, "%ld that all dynos share", plan->weirs);
    print_cap(shared, cap_for(plan, plan->weirs), plan->weirs);
    printf("  A cap need not be large: it is how many operations run at once. 100 operations\n"
           "  of 5 ms at a time are 20,000 a second.\n");
}

static void print_options(const struct plan *plan)
{
    long pool = at_most(plan->pool, pool_that_fits(plan));
    if (pool == 0) {
        return;
    }
    printf("\nTo set a pool of %ld: in the URI, any driver, maxPoolSize=%ld\n", pool, pool);
    printf("  Go      options.Client().SetMaxPoolSize(%ld)\n", pool);
    printf("  Node    new MongoClient(uri, {maxPoolSize: %ld})\n", pool);
    printf("  Python  MongoClient(uri, maxPoolSize=%ld)\n", pool);
    printf("  Java    applyToConnectionPoolSettings(b -> b.maxSize(%ld))\n", pool);
}

static void print_text(const struct plan *plan)
{
    if (plan->tier) {
        printf("%s: %ld connections to a server, of which Atlas keeps about %d.\n\n",
               plan->tier->name, plan->limit, KEPT_BY_ATLAS);
    } else {
        printf("%ld connections to a server.\n\n", plan->limit);
    }
    print_straight(plan);
    print_with_weir(plan);
    print_options(plan);
}

static void print_json(const struct plan *plan)
{
    const struct tier *tier = tier_that_fits(plan);
    long wanted = of_drivers(plan, plan->dynos);
    bson_t *answer = BCON_NEW(
        "limit", BCON_INT64(plan->limit), "usable", BCON_INT64(plan->usable), "dynos",
        BCON_INT64(plan->dynos), "processes", BCON_INT64(plan->processes), "pool",
        BCON_INT64(plan->pool), "connections", BCON_INT64(wanted), "fits",
        BCON_BOOL(wanted <= plan->usable), "dynosThatFit", BCON_INT64(dynos_that_fit(plan)),
        "poolThatFits", BCON_INT64(pool_that_fits(plan)), "tierThatFits",
        BCON_UTF8(tier ? tier->name : ""), "capOfSidecars", BCON_INT64(cap_for(plan, plan->dynos)),
        "capOfSidecarsSideBySide", BCON_INT64(cap_for(plan, 2 * plan->dynos)), "weirs",
        BCON_INT64(plan->weirs), "capOfShared", BCON_INT64(cap_for(plan, plan->weirs)));
    char *text = bson_as_relaxed_extended_json(answer, NULL);
    puts(text);
    bson_free(text);
    bson_destroy(answer);
}

int plan_main(int argc, char **argv)
{
    struct plan plan = {.dynos = 1, .processes = 1, .pool = DEFAULT_POOL, .weirs = 2};
    bool help = false;
    int status = read_plan(argc, argv, &plan, &help);
    if (help) {
        fputs(usage, stdout);
    }
    if (help || status != FITS) {
        return status;
    }
    plan.usable = at_least(1, plan.limit - (plan.tier ? KEPT_BY_ATLAS : 0));
    if (plan.json) {
        print_json(&plan);
    } else {
        print_text(&plan);
    }
    bool fits = of_drivers(&plan, plan.dynos) <= plan.usable;
    return fflush(stdout) != 0 ? BAD_USAGE : fits ? FITS : FITS_NOT;
}
