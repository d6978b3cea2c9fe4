// SPDX-License-Identifier: Apache-2.0

#include "proxy/meter.h"

#include <stdio.h>
#include <stdlib.h>

#include "proxy/log.h"
#include "proxy/mem.h"

void meter_init(struct meter *meter)
{
    meter->commands = xcalloc((size_t)COMMAND_COUNT, sizeof *meter->commands);
}

void meter_fini(struct meter *meter)
{
    for (int i = 0; i < COMMAND_COUNT; i++) {
        free(meter->commands[i]);
    }
    free(meter->commands);
}

static struct histogram *histograms_of(struct meter *meter, int index)
{
    if (!meter->commands[index]) {
        meter->commands[index] = xcalloc(MEASURE_COUNT, sizeof(struct histogram));
    }
    return meter->commands[index];
}

void meter_record(struct meter *meter, const struct command_info *command,
                  const int64_t values[MEASURE_COUNT])
{
    struct histogram *histograms = histograms_of(meter, command->index);
    for (int i = 0; i < MEASURE_COUNT; i++) {
        histogram_record(&histograms[i], values[i]);
    }
}

static void merge(struct histogram *into, const struct histogram *from)
{
    for (int i = 0; i < MEASURE_COUNT; i++) {
        histogram_merge(&into[i], &from[i]);
    }
}

void meter_merge(struct meter *into, const struct meter *from)
{
    for (int i = 0; i < COMMAND_COUNT; i++) {
        if (from->commands[i]) {
            merge(histograms_of(into, i), from->commands[i]);
        }
    }
}

static void log_measure(struct log_line *line, const char *name, const struct histogram *histogram)
{
    static const struct {
        const char *suffix;
        double quantile;
    } quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}, {"max", 1.0}};

    char key[32];
    snprintf(key, sizeof key, "%s_mean", name);
    log_int(line, key, (int64_t)(histogram->sum / histogram->count));
    for (size_t i = 0; i < sizeof quantiles / sizeof quantiles[0]; i++) {
        snprintf(key, sizeof key, "%s_%s", name, quantiles[i].suffix);
        log_int(line, key, histogram_quantile(histogram, quantiles[i].quantile));
    }
}

static void log_command(const char *command, const struct histogram *histograms)
{
    static const char *const names[MEASURE_COUNT] = {
        [MEASURE_WAITED_US] = "waited_us",
        [MEASURE_SERVED_US] = "served_us",
        [MEASURE_TOTAL_US] = "total_us",
        [MEASURE_BYTES] = "bytes",
    };

    struct log_line line;
    log_begin(&line, LOG_INFO, "times");
    log_str(&line, "command", command);
    log_int(&line, "count", (int64_t)histograms[0].count);
    for (int i = 0; i < MEASURE_COUNT; i++) {
        log_measure(&line, names[i], &histograms[i]);
    }
    log_end(&line);
}

void meter_log(const struct meter *meter)
{
    struct histogram *all = xcalloc(MEASURE_COUNT, sizeof *all);
    for (int i = 0; i < COMMAND_COUNT; i++) {
        if (meter->commands[i]) {
            log_command(command_at(i)->name, meter->commands[i]);
            merge(all, meter->commands[i]);
        }
    }
    if (all[0].count > 0) {
        log_command("(all)", all);
    }
    free(all);
}
