// SPDX-License-Identifier: Apache-2.0
//
// A line is built on its caller's stack and written under one lock.
//
//     bytes: | \n | ts level event  key=value ... |  room for the tail  |
//              |                                     truncated lost \n
//              written only if the line before was torn
//
// A field goes in whole or not at all, and fields never reach into the tail's room; so whatever is
// added, a line can be ended and is well formed.

#include "proxy/log.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TAIL_BYTES = 64, ESCAPED_BYTES = 8 };

static _Atomic enum log_format log_format = LOG_LOGFMT;
static int log_fd = STDERR_FILENO;

static pthread_mutex_t write_lock = PTHREAD_MUTEX_INITIALIZER;
static int64_t lost;
static bool torn;
static char kept[LOG_KEPT_BYTES]; // a ring of lines
static uint64_t kept_bytes;       // that have gone into it
static int64_t kept_lines;

void log_init(enum log_format format, int fd)
{
    log_format = format;
    log_fd = fd;
}

void log_set_format(enum log_format format)
{
    log_format = format;
}

static void put(struct log_line *line, const char *bytes, size_t length)
{
    if (line->overflow || length > line->limit - line->used) {
        line->overflow = true;
        return;
    }
    memcpy(line->bytes + line->used, bytes, length);
    line->used += length;
}

static void put_text(struct log_line *line, const char *text)
{
    put(line, text, strlen(text));
}

static void put_key(struct log_line *line, const char *key)
{
    put_text(line, line->format == LOG_JSON ? ",\"" : " ");
    put_text(line, key);
    put_text(line, line->format == LOG_JSON ? "\":" : "=");
}

static void end_field(struct log_line *line, size_t start)
{
    if (!line->overflow) {
        return;
    }
    line->used = start;
    line->overflow = false;
    line->truncated = true;
}

// The bytes of the UTF-8 character that text begins with, 0 if it begins with none (RFC 3629: no
// overlong forms, no surrogates, nothing above U+10FFFF).
static size_t utf8_decode(const unsigned char *text, size_t length, uint32_t *ret_character)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char first = text[0];
    size_t bytes = first < 0x80 ? 1 : first < 0xc0 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (bytes == 0 || first > 0xf4 || bytes > length) {
        return 0;
    }
    uint32_t character = bytes == 1 ? first : first & (0x7fU >> bytes);
    for (size_t i = 1; i < bytes; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            return 0;
        }
        character = character << 6 | (text[i] & 0x3f);
    }
    bool surrogate = character >= 0xd800 && character < 0xe000;
    if (character < least[bytes] || surrogate || character > 0x10ffff) {
        return 0;
    }
    *ret_character = character;
    return bytes;
}

// What a terminal would obey or a reader would take for a new line: C0 and C1 controls, separators,
// and the marks that turn the direction of writing.
static bool is_control(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x61c || (c >= 0x200e && c <= 0x200f) ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

// Escapes the first character of text as inside a JSON string, which is also what logfmt's readers
// undo in a quoted value; returns how many bytes of text it was.
static size_t escape(const char *text, size_t length, char ret_escaped[ESCAPED_BYTES])
{
    uint32_t c = 0xfffd;
    size_t bytes = utf8_decode((const unsigned char *)text, length, &c);
    if (bytes == 0 || is_control(c)) {
        snprintf(ret_escaped, ESCAPED_BYTES, "\\u%04x", (unsigned)c);
    } else if (c == '"' || c == '\\') {
        snprintf(ret_escaped, ESCAPED_BYTES, "\\%c", (int)c);
    } else {
        snprintf(ret_escaped, ESCAPED_BYTES, "%.*s", (int)bytes, text);
    }
    return bytes > 0 ? bytes : 1;
}

static bool is_bare(const char *text, size_t length)
{
    for (size_t i = 0; i < length && i < LOG_VALUE_BYTES; i++) {
        if (text[i] <= ' ' || text[i] > '~' || strchr("\"=\\", text[i]) != NULL) {
            return false;
        }
    }
    return length > 0;
}

static void put_escaped(struct log_line *line, const char *text, size_t length)
{
    size_t shown = 0;
    for (size_t i = 0; i < length;) {
        char escaped[ESCAPED_BYTES];
        i += escape(text + i, length - i, escaped);
        shown += strlen(escaped);
        if (shown > LOG_VALUE_BYTES) {
            put_text(line, "...");
            return;
        }
        put_text(line, escaped);
    }
}

void log_text(struct log_line *line, const char *key, const char *value, size_t length)
{
    size_t start = line->used;
    const char *quote = line->format == LOG_JSON || !is_bare(value, length) ? "\"" : "";
    put_key(line, key);
    put_text(line, quote);
    put_escaped(line, value, length);
    put_text(line, quote);
    end_field(line, start);
}

void log_str(struct log_line *line, const char *key, const char *value)
{
    if (value != NULL) {
        log_text(line, key, value, strlen(value));
    }
}

static void log_bare(struct log_line *line, const char *key, const char *value)
{
    size_t start = line->used;
    put_key(line, key);
    put_text(line, value);
    end_field(line, start);
}

void log_int(struct log_line *line, const char *key, int64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, value);
    log_bare(line, key, text);
}

void log_double(struct log_line *line, const char *key, double value)
{
    char text[32];
    snprintf(text, sizeof text, "%.6g", value);
    log_bare(line, key, isfinite(value) ? text : "null");
}

void log_begin(struct log_line *line, enum log_level level, const char *event)
{
    static const char *const levels[] = {"info", "warn", "error"};
    struct timespec now;
    struct tm utc;
    char seconds[24], time_text[48];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(seconds, sizeof seconds, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(time_text, sizeof time_text, "%s.%03ldZ", seconds, now.tv_nsec / 1000000);

    line->format = log_format;
    line->bytes[0] = '\n';
    line->used = 1;
    line->limit = LOG_LINE_BYTES - TAIL_BYTES;
    line->overflow = false;
    line->truncated = false;
    put_text(line, line->format == LOG_JSON ? "{\"ts\":\"" : "ts=");
    put_text(line, time_text);
    put_text(line, line->format == LOG_JSON ? "\"" : "");
    log_str(line, "level", levels[level]);
    log_str(line, "event", event);
}

static void put_tail(struct log_line *line)
{
    line->limit = LOG_LINE_BYTES;
    if (line->truncated) {
        log_bare(line, "truncated", "true");
    }
    if (lost > 0) {
        log_int(line, "lost", lost);
    }
    put_text(line, line->format == LOG_JSON ? "}\n" : "\n");
    assert(!line->overflow);
}

static void keep_line(const char *bytes, size_t length)
{
    size_t at = kept_bytes % LOG_KEPT_BYTES;
    size_t fits = length < LOG_KEPT_BYTES - at ? length : LOG_KEPT_BYTES - at;
    memcpy(kept + at, bytes, fits);
    memcpy(kept, bytes + fits, length - fits);
    kept_bytes += length;
    kept_lines++;
}

// Asks before it writes: standard error is shared, so it is not ours to make non-blocking, and a
// reader that stopped must not stop a worker. One line fits where poll says there is room.
static ssize_t write_now(const char *bytes, size_t length)
{
    struct pollfd room = {.fd = log_fd, .events = POLLOUT};
    ssize_t n;
    if (poll(&room, 1, 0) <= 0) {
        return 0;
    }
    do {
        n = write(log_fd, bytes, length);
    } while (n < 0 && errno == EINTR);
    return n;
}

void log_end(struct log_line *line)
{
    pthread_mutex_lock(&write_lock);
    put_tail(line);
    size_t skip = torn ? 0 : 1;
    ssize_t n = write_now(line->bytes + skip, line->used - skip);
    bool whole = n == (ssize_t)(line->used - skip);
    if (n > 0) {
        torn = !whole;
    }
    lost = whole ? 0 : lost + 1;
    keep_line(line->bytes + 1, line->used - 1);
    pthread_mutex_unlock(&write_lock);
}

// What the ring still has of a line that is older than all its whole ones.
static size_t torn_bytes(const char *lines, size_t length)
{
    const char *end = kept_bytes > length ? memchr(lines, '\n', length) : NULL;
    return end ? (size_t)(end + 1 - lines) : 0;
}

size_t log_kept(char ret_lines[LOG_KEPT_BYTES], int64_t *ret_first)
{
    pthread_mutex_lock(&write_lock);
    size_t length = kept_bytes < LOG_KEPT_BYTES ? (size_t)kept_bytes : LOG_KEPT_BYTES;
    size_t oldest = (kept_bytes - length) % LOG_KEPT_BYTES;
    memcpy(ret_lines, kept + oldest, length - oldest);
    memcpy(ret_lines + length - oldest, kept, oldest);
    size_t skipped = torn_bytes(ret_lines, length);
    *ret_first = kept_lines + 1;
    pthread_mutex_unlock(&write_lock);
    length -= skipped;
    memmove(ret_lines, ret_lines + skipped, length);
    for (size_t i = 0; i < length; i++) {
        *ret_first -= ret_lines[i] == '\n';
    }
    return length;
}

// window is the second it counts in, and above 16 bits of how many were allowed in it; one word, so
// that a new second and its first line are one step. Threads read the clock at different times: an
// older second counts into the newer.
bool log_allowed(struct log_limit *limit, int64_t now_us, int64_t *ret_suppressed)
{
    uint64_t second = (uint64_t)(now_us / 1000000);
    uint64_t seen = atomic_load(&limit->window);
    uint64_t next;
    do {
        bool newer = second > seen >> 16;
        uint64_t count = newer ? 0 : seen & 0xffff;
        if (count >= (uint64_t)limit->per_second) {
            atomic_fetch_add(&limit->suppressed, 1);
            return false;
        }
        next = (newer ? second : seen >> 16) << 16 | (count + 1);
    } while (!atomic_compare_exchange_weak(&limit->window, &seen, next));
    *ret_suppressed = atomic_exchange(&limit->suppressed, 0);
    return true;
}

bool log_begin_limited(struct log_line *line, enum log_level level, const char *event,
                       struct log_limit *limit, int64_t now_us)
{
    int64_t suppressed;
    if (!log_allowed(limit, now_us, &suppressed)) {
        return false;
    }
    log_begin(line, level, event);
    if (suppressed > 0) {
        log_int(line, "suppressed", suppressed);
    }
    return true;
}
