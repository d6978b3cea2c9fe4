// SPDX-License-Identifier: Apache-2.0
//
// proxy/log.h: lines go into the trace.

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "proxy/log.h"
#include "tests/sim/sim.h"

static void add(struct log_line *line, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void add(struct log_line *line, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int len = vsnprintf(line->bytes + line->used, line->limit - line->used, format, args);
    va_end(args);
    line->used += (size_t)len;
    line->used = line->used < line->limit ? line->used : line->limit - 1;
}

void log_begin(struct log_line *line, enum log_level level, const char *event)
{
    (void)level;
    line->used = 0;
    line->limit = 240;
    add(line, "weir: %s", event);
}

void log_str(struct log_line *line, const char *key, const char *value)
{
    if (value) {
        add(line, " %s=%s", key, value);
    }
}

void log_text(struct log_line *line, const char *key, const char *value, size_t length)
{
    add(line, " %s=%.*s", key, (int)length, value);
}

void log_int(struct log_line *line, const char *key, int64_t value)
{
    add(line, " %s=%lld", key, (long long)value);
}

void log_double(struct log_line *line, const char *key, double value)
{
    add(line, " %s=%g", key, value);
}

void log_end(struct log_line *line)
{
    trace_text(line->bytes);
}

bool log_begin_limited(struct log_line *line, enum log_level level, const char *event,
                       struct log_limit *limit, int64_t now_us)
{
    (void)limit;
    (void)now_us;
    log_begin(line, level, event);
    return true;
}
