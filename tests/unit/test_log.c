// SPDX-License-Identifier: Apache-2.0
//
// The log: lines are written to a pipe and read back; what is JSON is read by libbson, logfmt by
// the reader below, written to its definition.

#include "proxy/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <bson/bson.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

static int ends[2];

static void open_log(enum log_format format)
{
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    log_init(format, ends[1]);
}

static void close_log(void)
{
    close(ends[0]);
    close(ends[1]);
}

// Reads what is there, at most one write's worth.
static size_t read_log(char text[LOG_LINE_BYTES + 1])
{
    ssize_t n = read(ends[0], text, LOG_LINE_BYTES);
    text[n > 0 ? n : 0] = '\0';
    return n > 0 ? (size_t)n : 0;
}

// One line, with its end cut off.
static void read_line(char text[LOG_LINE_BYTES + 1])
{
    size_t n = read_log(text);
    assert_true(n > 0);
    assert_ptr_equal(strchr(text, '\n'), text + n - 1);
    text[n - 1] = '\0';
}

static bson_t *read_json(char text[LOG_LINE_BYTES + 1])
{
    bson_error_t error;
    read_line(text);
    bson_t *document = bson_new_from_json((const uint8_t *)text, -1, &error);
    if (document == NULL) {
        fail_msg("%s: %s", error.message, text);
    }
    return document;
}

static const char *json_text(const bson_t *document, const char *key, uint32_t *ret_length)
{
    bson_iter_t iter;
    assert_true(bson_iter_init_find(&iter, document, key));
    assert_true(BSON_ITER_HOLDS_UTF8(&iter));
    return bson_iter_utf8(&iter, ret_length);
}

static void test_logfmt(void **state)
{
    (void)state;
    char text[LOG_LINE_BYTES + 1];
    struct log_line line;
    open_log(LOG_LOGFMT);
    log_begin(&line, LOG_WARN, "slow_operation");
    log_str(&line, "ns", "shop.orders");
    log_str(&line, "none", NULL);
    log_str(&line, "empty", "");
    log_str(&line, "said", "a \"b\" \\ c");
    log_text(&line, "part", "abcdef", 3);
    log_int(&line, "least", INT64_MIN);
    log_double(&line, "share", 0.715);
    log_double(&line, "nothing", 0.0 / 0.0);
    log_end(&line);
    read_line(text);
    assert_string_equal(strchr(text, ' '),
                        " level=warn event=slow_operation ns=shop.orders empty=\"\""
                        " said=\"a \\\"b\\\" \\\\ c\" part=abc least=-9223372036854775808"
                        " share=0.715 nothing=null");
    close_log();
}

static void test_time(void **state)
{
    (void)state;
    char text[LOG_LINE_BYTES + 1];
    struct log_line line;
    open_log(LOG_LOGFMT);
    time_t before = time(NULL);
    log_begin(&line, LOG_INFO, "ready");
    log_end(&line);
    read_line(text);
    struct tm utc = {0};
    int ms, used = 0;
    assert_int_equal(sscanf(text, "ts=%4d-%2d-%2dT%2d:%2d:%2d.%3dZ level=info event=ready%n",
                            &utc.tm_year, &utc.tm_mon, &utc.tm_mday, &utc.tm_hour, &utc.tm_min,
                            &utc.tm_sec, &ms, &used),
                     7);
    assert_int_equal(used, strlen(text));
    utc.tm_year -= 1900;
    utc.tm_mon -= 1;
    time_t logged = timegm(&utc);
    assert_true(logged >= before && logged <= time(NULL));
    close_log();
}

static void test_json(void **state)
{
    (void)state;
    char text[LOG_LINE_BYTES + 1];
    struct log_line line;
    open_log(LOG_JSON);
    log_begin(&line, LOG_ERROR, "bad_input");
    log_str(&line, "said", "a \"b\" \\ c / \xc3\xa4\xf0\x9f\x98\x80");
    log_int(&line, "n", 42);
    log_double(&line, "x", 1e300);
    log_double(&line, "inf", 1 / 0.0);
    log_end(&line);
    bson_t *document = read_json(text);
    assert_string_equal(json_text(document, "level", NULL), "error");
    assert_string_equal(json_text(document, "event", NULL), "bad_input");
    assert_string_equal(json_text(document, "said", NULL),
                        "a \"b\" \\ c / \xc3\xa4\xf0\x9f\x98\x80");
    bson_iter_t iter;
    assert_true(bson_iter_init_find(&iter, document, "n"));
    assert_int_equal(bson_iter_as_int64(&iter), 42);
    assert_true(bson_iter_init_find(&iter, document, "inf"));
    assert_true(BSON_ITER_HOLDS_NULL(&iter));
    bson_destroy(document);
    close_log();
}

// What readers of the log get back for a value: the same, but U+FFFD for each byte that is no
// UTF-8.
struct sample {
    const char *value;
    size_t length;
    const char *read;
    size_t read_length;
};

#define SAMPLE(value, read)                                                                        \
    {                                                                                              \
        value, sizeof(value) - 1, read, sizeof(read) - 1                                           \
    }
#define SAME(value) SAMPLE(value, value)
#define BAD "\xef\xbf\xbd"

static const struct sample samples[] = {
    SAME(""),
    SAME("plain"),
    SAME("a=b"),
    SAME("\n level=info event=forged"),
    SAME("\r\n\t\b\f\v\x1b[31m\x7f"),
    SAME("a\0b"),
    SAME("\"},{\""),
    SAME("\\u0041\\"),
    SAME("\xc2\x80\xc2\x9b"),                     // C1 controls
    SAME("\xe2\x80\xa8\xe2\x80\xae\xef\xbb\xbf"), // line separator, right-to-left override, BOM
    SAME("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf\xed\x9f\xbf\xee\x80\x80"),
    SAMPLE("\xff\xfe", BAD BAD),
    SAMPLE("\x80", BAD),
    SAMPLE("\xc3", BAD),
    SAMPLE("\xe2\x82", BAD BAD),
    SAMPLE("\xf0\x9f\x98", BAD BAD BAD),
    SAMPLE("\xc0\x80", BAD BAD),                 // overlong
    SAMPLE("\xe0\x80\x80", BAD BAD BAD),         // overlong
    SAMPLE("\xed\xa0\x80", BAD BAD BAD),         // surrogate
    SAMPLE("\xf4\x90\x80\x80", BAD BAD BAD BAD), // above U+10FFFF
    SAMPLE("\xf8\x88\x80\x80\x80", BAD BAD BAD BAD BAD),
    SAMPLE("\xc3\"", BAD "\""),
    SAMPLE("\xe2\x82\n", BAD BAD "\n"),
};

static void log_sample(const struct sample *sample)
{
    struct log_line line;
    log_begin(&line, LOG_INFO, "sample");
    log_text(&line, "value", sample->value, sample->length);
    log_int(&line, "after", 1);
    log_end(&line);
}

static void test_hostile_json(void **state)
{
    (void)state;
    open_log(LOG_JSON);
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        char text[LOG_LINE_BYTES + 1];
        uint32_t length;
        log_sample(&samples[i]);
        bson_t *document = read_json(text);
        assert_int_equal(bson_count_keys(document), 5);
        const char *value = json_text(document, "value", &length);
        assert_int_equal(length, samples[i].read_length);
        assert_memory_equal(value, samples[i].read, length);
        bson_destroy(document);
    }
    close_log();
}

// The value of key in a logfmt line: bare up to the next space, or quoted as JSON, which libbson
// reads.
static bson_t *logfmt_value(const char *text, const char *key)
{
    char json[LOG_LINE_BYTES + 32];
    const char *value = strstr(text, key) + strlen(key);
    size_t length = strcspn(value, " ");
    const char *quote = "\"";
    if (value[0] == '"') {
        for (length = 1; value[length] != '"'; length++) {
            length += value[length] == '\\';
        }
        length++;
        quote = "";
    }
    snprintf(json, sizeof json, "{\"value\":%s%.*s%s}", quote, (int)length, value, quote);
    assert_true(value[length] == ' ');
    return bson_new_from_json((const uint8_t *)json, -1, NULL);
}

static void test_hostile_logfmt(void **state)
{
    (void)state;
    open_log(LOG_LOGFMT);
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        char text[LOG_LINE_BYTES + 1];
        uint32_t length;
        log_sample(&samples[i]);
        read_line(text);
        bson_t *document = logfmt_value(text, " event=sample value=");
        assert_non_null(document);
        const char *value = json_text(document, "value", &length);
        assert_int_equal(length, samples[i].read_length);
        assert_memory_equal(value, samples[i].read, length);
        assert_string_equal(text + strlen(text) - strlen(" after=1"), " after=1");
        bson_destroy(document);
    }
    close_log();
}

// No byte of a line is a control character, whichever bytes the value has.
static void test_every_pair_of_bytes(void **state)
{
    (void)state;
    open_log(LOG_LOGFMT);
    for (int pair = 0; pair < 65536; pair++) {
        char text[LOG_LINE_BYTES + 1];
        const char value[] = {(char)(pair >> 8), (char)pair};
        struct sample sample = {value, sizeof value, NULL, 0};
        log_sample(&sample);
        read_line(text);
        for (const char *c = text; *c != '\0'; c++) {
            assert_true((unsigned char)*c >= ' ' && *c != '\x7f');
        }
        assert_true(bson_utf8_validate(text, strlen(text), false));
    }
    close_log();
}

static void test_long_values(void **state)
{
    (void)state;
    static const char *const units[] = {
        "a", " ", "\n", "\xc3\xa4", "\xff", "\"", "\xf0\x9f\x98\x80"};
    static char value[100000];
    open_log(LOG_JSON);
    for (size_t u = 0; u < sizeof units / sizeof units[0]; u++) {
        char text[LOG_LINE_BYTES + 1];
        size_t unit = strlen(units[u]), length = sizeof value / unit * unit;
        for (size_t at = 0; at < length; at += unit) {
            memcpy(value + at, units[u], unit);
        }
        struct sample sample = {value, length, NULL, 0};
        log_sample(&sample);
        bson_t *document = read_json(text);
        const char *read = json_text(document, "value", NULL);
        assert_string_equal(read + strlen(read) - 3, "...");
        assert_true(strlen(text) < LOG_VALUE_BYTES + 128);
        bson_destroy(document);
    }
    close_log();
}

static void test_value_that_just_fits(void **state)
{
    (void)state;
    char text[LOG_LINE_BYTES + 1], value[LOG_VALUE_BYTES + 2];
    memset(value, 'a', sizeof value);
    open_log(LOG_LOGFMT);
    struct sample sample = {value, LOG_VALUE_BYTES, NULL, 0};
    log_sample(&sample);
    read_line(text);
    assert_null(strstr(text, "..."));
    sample.length++;
    log_sample(&sample);
    read_line(text);
    assert_non_null(strstr(text, "a... after=1"));
    close_log();
}

// A line with too much in it keeps what fits, whole, and says so.
static void test_truncated(void **state)
{
    (void)state;
    char text[LOG_LINE_BYTES + 1], value[LOG_VALUE_BYTES];
    memset(value, '\n', sizeof value);
    for (size_t length = 0; length < 60; length++) {
        struct log_line line;
        char key[16];
        open_log(LOG_JSON);
        log_begin(&line, LOG_INFO, "full");
        for (int i = 0; i < 100; i++) {
            snprintf(key, sizeof key, "k%d", i);
            log_text(&line, key, value, length);
        }
        log_end(&line);
        bson_t *document = read_json(text);
        bool all = bson_has_field(document, "k99");
        assert_int_equal(bson_has_field(document, "truncated"), !all);
        assert_int_equal(all, length < 6);
        bson_destroy(document);
        close_log();
    }
}

static void log_small(const char *event)
{
    struct log_line line;
    log_begin(&line, LOG_INFO, event);
    log_end(&line);
}

static size_t drain(void)
{
    char text[LOG_LINE_BYTES + 1];
    size_t lines = 0, n;
    while ((n = read_log(text)) > 0) {
        for (size_t i = 0; i < n; i++) {
            lines += text[i] == '\n';
        }
    }
    return lines;
}

// A reader that stopped: the pipe is a blocking one, as a real standard error, and still nobody
// waits.
static void test_stuck_reader(void **state)
{
    (void)state;
    enum { LINES = 5000 };
    char text[LOG_LINE_BYTES + 1], expected[32];
    open_log(LOG_LOGFMT);
    assert_int_equal(fcntl(ends[1], F_SETPIPE_SZ, 65536), 65536);
    for (int i = 0; i < LINES; i++) {
        log_small("x");
    }
    size_t lines = drain();
    assert_true(lines > 0 && lines < LINES);
    log_small("again");
    read_line(text);
    snprintf(expected, sizeof expected, " event=again lost=%zu", LINES - lines);
    assert_string_equal(text + strlen(text) - strlen(expected), expected);
    log_small("more");
    read_line(text);
    assert_null(strstr(text, "lost"));
    close_log();
}

static void test_nobody_reads(void **state)
{
    (void)state;
    open_log(LOG_LOGFMT);
    close(ends[0]);
    log_small("epipe");
    close(ends[1]);
    log_small("ebadf");
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_true(full >= 0);
    log_init(LOG_LOGFMT, full);
    log_small("enospc");
    close(full);

    char text[LOG_LINE_BYTES + 1];
    open_log(LOG_LOGFMT);
    log_small("back");
    read_line(text);
    assert_non_null(strstr(text, "event=back lost=3"));
    close_log();
}

// A disk that was full for half a line: the next begins a line of its own.
static void test_torn_line(void **state)
{
    (void)state;
    char torn[] = "/tmp/weir-test-log-XXXXXX", text[LOG_LINE_BYTES] = "";
    int fd = mkstemp(torn);
    assert_true(fd >= 0);
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 20;
    log_init(LOG_LOGFMT, fd);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    log_small("torn");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    log_small("whole");
    assert_true(pread(fd, text, sizeof text - 1, 0) > 0);
    assert_int_equal(strchr(text, '\n') - text, 20);
    assert_int_equal(strncmp(text + 21, "ts=", 3), 0);
    assert_non_null(strstr(text, "event=whole lost=1\n"));
    close(fd);
    unlink(torn);
}

static void test_limit(void **state)
{
    (void)state;
    struct log_limit limit = {.per_second = 3};
    int64_t suppressed = -1, now_us = INT64_C(5000000);
    for (int i = 0; i < 3; i++) {
        assert_true(log_allowed(&limit, now_us + i, &suppressed));
        assert_int_equal(suppressed, 0);
    }
    suppressed = -1;
    for (int i = 0; i < 7; i++) {
        assert_false(log_allowed(&limit, now_us + 999999, &suppressed));
    }
    assert_int_equal(suppressed, -1);
    assert_true(log_allowed(&limit, now_us + 1000000, &suppressed));
    assert_int_equal(suppressed, 7);
    // a thread whose clock was read before counts into the same second
    assert_true(log_allowed(&limit, now_us + 999999, &suppressed));
    assert_int_equal(suppressed, 0);
    assert_true(log_allowed(&limit, now_us + 1999999, &suppressed));
    assert_false(log_allowed(&limit, now_us + 1999999, &suppressed));
    assert_true(log_allowed(&limit, now_us + INT64_C(86400000000), &suppressed));
    assert_int_equal(suppressed, 1);
}

static void test_limit_at_zero(void **state)
{
    (void)state;
    struct log_limit limit = {.per_second = 1};
    int64_t suppressed;
    assert_true(log_allowed(&limit, 0, &suppressed));
    assert_false(log_allowed(&limit, 999999, &suppressed));
}

enum { THREADS = 4, TRIES = 20000, PER_SECOND = 100, SECONDS = 5 };

static struct log_limit shared = {.per_second = PER_SECOND};
static _Atomic int64_t allowed, reported;

static void *hammer(void *context)
{
    (void)context;
    for (int i = 0; i < TRIES; i++) {
        int64_t suppressed, now_us = (int64_t)i * SECONDS * 1000000 / TRIES;
        if (log_allowed(&shared, now_us, &suppressed)) {
            allowed++;
            reported += suppressed;
            log_small("hammer");
        }
    }
    return NULL;
}

// Several threads: never too many, and each refusal is reported once.
static void test_threads(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    open_log(LOG_JSON);
    assert_true(fcntl(ends[1], F_SETPIPE_SZ, 1 << 20) > 0);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, NULL), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_true(allowed >= PER_SECOND && allowed <= PER_SECOND * SECONDS);
    int64_t last;
    assert_true(log_allowed(&shared, INT64_C(100000000), &last));
    assert_int_equal(allowed + reported + last, THREADS * TRIES);
    assert_int_equal(drain(), allowed);
    close_log();
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logfmt),         cmocka_unit_test(test_time),
        cmocka_unit_test(test_json),           cmocka_unit_test(test_hostile_json),
        cmocka_unit_test(test_hostile_logfmt), cmocka_unit_test(test_every_pair_of_bytes),
        cmocka_unit_test(test_long_values),    cmocka_unit_test(test_value_that_just_fits),
        cmocka_unit_test(test_truncated),      cmocka_unit_test(test_stuck_reader),
        cmocka_unit_test(test_nobody_reads),   cmocka_unit_test(test_torn_line),
        cmocka_unit_test(test_limit),          cmocka_unit_test(test_limit_at_zero),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
