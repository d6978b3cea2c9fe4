// SPDX-License-Identifier: Apache-2.0
//
// The log: one line per event, logfmt or JSON, each by one write(2).
//
//     struct log_line line;
//     log_begin(&line, LOG_INFO, "slow_operation");
//     log_str(&line, "ns", ns);
//     log_int(&line, "served_us", served_us);
//     log_end(&line);
//
//     ts=2026-11-24T09:15:00.123Z level=info event=slow_operation ns=shop.orders served_us=5012345
//     {"ts":"2026-11-24T09:15:00.123Z","level":"info","event":"slow_operation","ns":"shop.orders"}
//
// Whatever bytes a value has, a line stays one line that its format's readers parse. What is left
// out is said: a value that is cut ends in "...", a line that had no room has truncated=true, lines
// that could not be written are counted in the next one as lost=K. The log never waits for its
// reader and never fails its caller.

#ifndef PROXY_LOG_H
#define PROXY_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_format { LOG_LOGFMT, LOG_JSON };
enum log_level { LOG_INFO, LOG_WARN, LOG_ERROR };

// A line is no longer than PIPE_BUF, so that lines of several processes on one pipe do not mix.
enum { LOG_LINE_BYTES = 4096, LOG_VALUE_BYTES = 256 };

struct log_line {
    size_t used;
    size_t limit;
    enum log_format format;
    bool overflow;
    bool truncated;
    char bytes[LOG_LINE_BYTES];
};

// Says how and where lines are written from now on; before it, logfmt to standard error. To be
// called while there is one thread. Borrows fd. SIGPIPE must be ignored by the process.
void log_init(enum log_format format, int fd);

// How lines are written that begin from now on. From any thread.
void log_set_format(enum log_format format);

// Begins a line with the time (UTC, ms), the level and the event. event and all keys are names of
// ours, [A-Za-z0-9_.#]+. Each log_begin is followed by one log_end; lines of different threads, and
// several of one, may be under way at once.
void log_begin(struct log_line *line, enum log_level level, const char *event);

struct log_limit;

// The same for a place that may log too often. False: not now, and there is nothing to end; what
// was left out is told by the next line, as suppressed=K. now_us is monotonic.
bool log_begin_limited(struct log_line *line, enum log_level level, const char *event,
                       struct log_limit *limit, int64_t now_us) __attribute__((warn_unused_result));

// Adds a value of any bytes, of which at most LOG_VALUE_BYTES, as escaped, are shown. NULL adds
// nothing.
void log_str(struct log_line *line, const char *key, const char *value);
// The same for a value that is not terminated. Borrows it for the call.
void log_text(struct log_line *line, const char *key, const char *value, size_t length);
void log_int(struct log_line *line, const char *key, int64_t value);
// Six significant digits; what is not finite is null.
void log_double(struct log_line *line, const char *key, double value);

// Writes the line, or counts it as lost if that would block or fails.
void log_end(struct log_line *line);

// The last lines, whole, also those that could not be written: oldest first, each ended by '\n'.
// Returns their bytes; the number of the first line is set, from 1 on. Any thread.
enum { LOG_KEPT_BYTES = 256 * 1024 };
size_t log_kept(char ret_lines[LOG_KEPT_BYTES], int64_t *ret_first);

// How many lines a second one place in the code may log. For a static at that place:
//     static struct log_limit limit = {.per_second = 5};
// per_second is 1 to 65535. Any thread.
struct log_limit {
    int per_second;
    _Atomic uint64_t window;
    _Atomic int64_t suppressed;
};

// True if a line may be logged at now_us (monotonic): at most per_second in each second of that
// clock. Then ret_suppressed is how many were refused since the last that was not; the line should
// say so (suppressed=K) if it is not 0.
bool log_allowed(struct log_limit *limit, int64_t now_us, int64_t *ret_suppressed);

#endif
