// SPDX-License-Identifier: Apache-2.0
//
// sim: runs seeds in child processes, so that one that breaks does not end the others, and says how
// many passed and failed.
//
//      parent -- fork --> child: next seed, next seed, ... broken (exits 1) -> parent forks another

#include <bson/bson.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "policy/defect.h"
#include "tests/sim/sim_world.h"

#define JOBS_MAX 64
#define SEEDS_IN_FILE_MAX 1000
#define SEED_SECONDS 120 // of the processor's time; what takes longer hangs

struct options {
    uint64_t from;
    uint64_t seeds;
    int64_t seconds; // 0: no bound
    int jobs;
    uint64_t failures;               // after which it stops
    const struct scenario *scenario; // NULL: by the seed
    const char *seeds_file;
    bool verbose;
    bool single;
};

// What the children tell the parent.
static struct {
    atomic_uint_fast64_t next;
    atomic_uint_fast64_t passed;
    atomic_uint_fast64_t steps;
    atomic_uint_fast64_t requests;
    atomic_uint_fast64_t answered;
    atomic_uint_fast64_t shed;
    atomic_uint_fast64_t simulated_ms;
} * told;

static double wall_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

// --- one seed -----------------------------------------------------------------------------------

static void print_where(void)
{
    fprintf(stderr, "BROKEN in step %" PRIu64 ": sim --scenario %s --seed %" PRIu64 " --verbose\n",
            sim_steps(), world.scenario->name, world.seed);
}

void sim_broken(const char *format, ...)
{
    va_list args;
    trace_print_last();
    print_where();
    fputs("BROKEN: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    fflush(stderr);
    _exit(1);
}

static void on_signal(int signal)
{
    trace_print_last();
    print_where();
    fprintf(stderr, "BROKEN: %s\n",
            signal == SIGABRT     ? "an assertion failed (above)"
            : signal == SIGVTALRM ? "a handler does not return"
                                  : "invalid memory was touched");
    fflush(stderr);
    _exit(1);
}

static const struct scenario *scenario_of(const struct options *options, uint64_t seed)
{
    if (options->scenario) {
        return options->scenario;
    }
    size_t count = 0;
    while (scenarios[count].name) {
        count++;
    }
    return &scenarios[seed % count];
}

static void bound_time(int seconds)
{
    const struct itimerval timer = {.it_value = {.tv_sec = seconds}};
    setitimer(ITIMER_VIRTUAL, &timer, NULL);
}

static void run_seed(const struct scenario *scenario, uint64_t seed)
{
    bound_time(SEED_SECONDS);
    int64_t begin_us = INT64_C(3600000000);
    world_run(scenario, seed);
    atomic_fetch_add(&told->passed, 1);
    atomic_fetch_add(&told->steps, sim_steps());
    atomic_fetch_add(&told->requests, world.op_count);
    atomic_fetch_add(&told->answered, world.answered);
    atomic_fetch_add(&told->shed, world.shed);
    atomic_fetch_add(&told->simulated_ms, (uint64_t)(sim_now_us() - begin_us) / 1000);
    bound_time(0);
}

// --- many ---------------------------------------------------------------------------------------

static void run_child(const struct options *options, double end_s)
{
    for (;;) {
        uint64_t seed = atomic_fetch_add(&told->next, 1);
        if (seed >= options->from + options->seeds || (end_s > 0 && wall_s() >= end_s)) {
            exit(0); // not _exit: sanitizers look for leaks
        }
        run_seed(scenario_of(options, seed), seed);
    }
}

static void begin_child(const struct options *options, double end_s)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) {
        perror("fork");
        exit(2);
    }
    if (pid == 0) {
        run_child(options, end_s);
    }
}

static void begin_no_more(const struct options *options)
{
    atomic_store(&told->next, options->from + options->seeds);
}

// Returns how many failed.
static uint64_t run_children(const struct options *options, double end_s)
{
    uint64_t failed = 0;
    int running = 0;
    for (; running < options->jobs; running++) {
        begin_child(options, end_s);
    }
    while (running > 0) {
        int status;
        if (wait(&status) < 0) {
            break;
        }
        if (status == 0) {
            running--;
            continue;
        }
        if (++failed >= options->failures) {
            begin_no_more(options);
        }
        begin_child(options, end_s);
    }
    return failed;
}

// "scenario seed what it found", one a line; # begins a comment. Returns how many there are.
static size_t read_seeds_file(const char *path, struct options seeds[SEEDS_IN_FILE_MAX])
{
    FILE *file = fopen(path, "r");
    if (!file) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        exit(2);
    }
    size_t count = 0;
    char line[512];
    char name[64];
    uint64_t seed;
    while (fgets(line, sizeof line, file) && count < SEEDS_IN_FILE_MAX) {
        if (line[0] == '#' || sscanf(line, "%63s %" SCNu64, name, &seed) != 2) {
            continue;
        }
        const struct scenario *scenario = scenario_find(name);
        if (!scenario) {
            fprintf(stderr, "%s: there is no scenario %s\n", path, name);
            exit(2);
        }
        seeds[count++] = (struct options){
            .from = seed, .seeds = 1, .jobs = 1, .failures = 1, .scenario = scenario};
    }
    fclose(file);
    return count;
}

static uint64_t run_seeds_file(const struct options *options)
{
    static struct options seeds[SEEDS_IN_FILE_MAX];
    size_t count = read_seeds_file(options->seeds_file, seeds);
    uint64_t failed = 0;
    for (size_t i = 0; i < count; i++) {
        atomic_store(&told->next, seeds[i].from);
        failed += run_children(&seeds[i], 0);
    }
    return failed;
}

static void print_summary(double took_s)
{
    double minutes = took_s / 60;
    double hours = (double)told->simulated_ms / 3600000;
    printf("steps %" PRIu64 ", requests %" PRIu64 " (answered %" PRIu64 ", shed %" PRIu64
           "), simulated %.2f hours, wall %.1f s\n",
           (uint64_t)told->steps, (uint64_t)told->requests, (uint64_t)told->answered,
           (uint64_t)told->shed, hours, took_s);
    printf("a minute buys %.0f seeds, %.1f million steps, %.0f requests, %.1f simulated hours\n",
           (double)told->passed / minutes, (double)told->steps / minutes / 1e6,
           (double)told->requests / minutes, hours / minutes);
}

// --- options ------------------------------------------------------------------------------------

static _Noreturn void usage(void)
{
    fprintf(stderr, "usage: sim [--seeds N] [--from S] [--seconds T] [--scenario NAME] [--jobs J]\n"
                    "           [--failures N]         after which it stops (20)\n"
                    "           [--seeds-file FILE]    seeds that failed once, run first\n"
                    "           [--defect NAME]        with that deliberate mistake\n"
                    "       sim --seed S [--scenario NAME] [--verbose]\n"
                    "scenarios:");
    for (const struct scenario *scenario = scenarios; scenario->name; scenario++) {
        fprintf(stderr, " %s", scenario->name);
    }
    fputc('\n', stderr);
    exit(2);
}

enum defect made_defect;

static void make_defect(const char *name)
{
    static const char *const names[] = {
#define X(name) #name,
        DEFECTS(X)
#undef X
    };
    size_t count = sizeof names / sizeof names[0];
    size_t at = 0;
    while (at < count && strcmp(names[at], name) != 0) {
        at++;
    }
    made_defect = (enum defect)at;
    if (at == count || made_defect != WEIR_DEFECT) {
        fprintf(stderr, "there is no defect %s, or this build makes none\n", name);
        exit(2);
    }
}

static struct options read_options(int argc, char *argv[])
{
    static const struct option known[] = {
        {"seeds", required_argument, NULL, 'n'},
        {"from", required_argument, NULL, 'f'},
        {"seconds", required_argument, NULL, 't'},
        {"scenario", required_argument, NULL, 'c'},
        {"jobs", required_argument, NULL, 'j'},
        {"failures", required_argument, NULL, 'm'},
        {"seeds-file", required_argument, NULL, 'l'},
        {"defect", required_argument, NULL, 'd'},
        {"seed", required_argument, NULL, 's'},
        {"verbose", no_argument, NULL, 'v'},
        {NULL, 0, NULL, 0},
    };
    struct options options = {.from = 1, .seeds = 100, .jobs = 1, .failures = 20};
    int option;
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (option) {
        case 'n':
            options.seeds = strtoull(optarg, NULL, 10);
            break;
        case 's':
            options.single = true;
            options.seeds = 1;
            // fall through
        case 'f':
            options.from = strtoull(optarg, NULL, 10);
            break;
        case 't':
            options.seconds = strtoll(optarg, NULL, 10);
            break;
        case 'j':
            options.jobs = atoi(optarg);
            break;
        case 'm':
            options.failures = strtoull(optarg, NULL, 10);
            break;
        case 'l':
            options.seeds_file = optarg;
            break;
        case 'd':
            make_defect(optarg);
            break;
        case 'v':
            options.verbose = true;
            break;
        case 'c':
            options.scenario = scenario_find(optarg);
            if (options.scenario) {
                break;
            }
            // fall through
        default:
            usage();
        }
    }
    if (optind < argc || options.jobs < 1 || options.jobs > JOBS_MAX) {
        usage();
    }
    if (options.seconds > 0 && options.seeds == 100) {
        options.seeds = UINT64_MAX / 2;
    }
    return options;
}

// Sanitizers end the process without a signal.
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void on_death(void)
{
    trace_print_last();
    print_where();
    fprintf(stderr, "BROKEN: a sanitizer has found something (above or below)\n");
}

static void catch_signals(void)
{
    if (__sanitizer_set_death_callback) {
        __sanitizer_set_death_callback(on_death);
    }
    static const int signals[] = {SIGABRT, SIGVTALRM, SIGSEGV, SIGBUS};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        signal(signals[i], on_signal);
    }
}

int main(int argc, char *argv[])
{
    struct options options = read_options(argc, argv);
    bson_mem_set_vtable(&(const bson_mem_vtable_t){
        .malloc = malloc, .calloc = calloc, .realloc = realloc, .free = free});
    told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (told == MAP_FAILED) {
        perror("mmap");
        return 2;
    }
    catch_signals();
    trace_verbose(options.verbose);
    if (options.single) {
        run_seed(scenario_of(&options, options.from), options.from);
        printf("seed %" PRIu64 " passes: %" PRIu64 " steps\n", options.from, sim_steps());
        return 0;
    }
    double begin_s = wall_s();
    double end_s = options.seconds > 0 ? begin_s + (double)options.seconds : 0;
    uint64_t failed = options.seeds_file ? run_seeds_file(&options) : 0;
    atomic_store(&told->next, options.from);
    failed += run_children(&options, end_s);
    print_summary(wall_s() - begin_s);
    printf("%" PRIu64 " passed, %" PRIu64 " failed\n", (uint64_t)told->passed, failed);
    return failed > 0;
}
