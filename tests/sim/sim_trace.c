// SPDX-License-Identifier: Apache-2.0
//
// The last hundred events, kept as formats and numbers so that keeping them costs next to nothing.

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/sim.h"

#define LAST 100
#define TEXT_BYTES 240

static struct {
    uint64_t step;
    int64_t now_us;
    const char *format; // NULL: `text`
    int64_t args[5];
    char text[TEXT_BYTES];
} ring[LAST];

static uint64_t noted;
static bool verbose;

static void print_entry(uint64_t i)
{
    fprintf(stderr, "%8" PRIu64 " %10.3f ms  ", ring[i].step,
            (double)(ring[i].now_us - INT64_C(3600000000)) / 1000);
    if (ring[i].format) {
        const int64_t *args = ring[i].args;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        fprintf(stderr, ring[i].format, args[0], args[1], args[2], args[3], args[4]);
#pragma GCC diagnostic pop
    } else {
        fprintf(stderr, "%s", ring[i].text);
    }
    fputc('\n', stderr);
}

static uint64_t next_entry(void)
{
    uint64_t i = noted++ % LAST;
    ring[i].step = sim_steps();
    ring[i].now_us = sim_now_us();
    return i;
}

void trace_note(const char *format, const int64_t args[5])
{
    uint64_t i = next_entry();
    ring[i].format = format;
    memcpy(ring[i].args, args, sizeof ring[i].args);
    if (verbose) {
        print_entry(i);
    }
}

void trace_text(const char *text)
{
    uint64_t i = next_entry();
    ring[i].format = NULL;
    snprintf(ring[i].text, TEXT_BYTES, "%s", text);
    if (verbose) {
        print_entry(i);
    }
}

void trace_verbose(bool on)
{
    verbose = on;
    noted = 0;
}

void trace_print_last(void)
{
    if (verbose) {
        return; // all were printed
    }
    uint64_t from = noted > LAST ? noted - LAST : 0;
    for (uint64_t i = from; i < noted; i++) {
        print_entry(i % LAST);
    }
}
