// SPDX-License-Identifier: Apache-2.0
//
// What it costs to tell the shape of a command, in nanoseconds, beside what reading its message and
// its command costs: bench_shape prints a line for each of some messages as drivers send them.

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "tests/unit/wire_samples.h"
#include "wire/shape.h"

#define ROUNDS 21
#define TIMES 20000 // in a round

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static uint64_t result; // so that nothing is optimised away

static void read_it(struct bytes message, struct op_msg *msg, struct command *command)
{
    if (op_msg_read(message, msg) != WIRE_OK || command_read(message, msg, command) != WIRE_OK) {
        fprintf(stderr, "bench_shape: a sample cannot be read\n");
        exit(1);
    }
}

static void only_read(struct bytes message)
{
    struct op_msg msg;
    struct command command;
    read_it(message, &msg, &command);
    result += command.body.len;
}

static struct op_msg shared_msg;
static struct command shared_command;

static void only_id(struct bytes message)
{
    (void)message;
    result += shape_id(&shared_msg, &shared_command);
}

static void only_text(struct bytes message)
{
    (void)message;
    char text[256];
    result += shape_text(&shared_msg, &shared_command, text, sizeof text);
}

// Of the fastest round: the machine has other things to do.
static double best_ns(void (*what)(struct bytes message), struct bytes message)
{
    int64_t best = INT64_MAX;
    for (int round = 0; round < ROUNDS; round++) {
        int64_t begun = now_ns();
        for (int i = 0; i < TIMES; i++) {
            what(message);
        }
        int64_t took = now_ns() - begun;
        best = took < best ? took : best;
    }
    return (double)best / TIMES;
}

int main(void)
{
    static const char *const names[] = {"ping",   "simple find",     "find",
                                        "update", "find and modify", "aggregate"};
    printf("%-18s %10s %10s %10s\n", "ns", "read", "shape_id", "shape_text");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct bytes message = sample_named(names[i]);
        read_it(message, &shared_msg, &shared_command);
        printf("%-18s %10.0f %10.0f %10.0f\n", names[i], best_ns(only_read, message),
               best_ns(only_id, message), best_ns(only_text, message));
    }
    return result == 0;
}
