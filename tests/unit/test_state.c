// SPDX-License-Identifier: Apache-2.0
//
// What can be seen, as documents, JSON and metrics; and the page about it.

#include "proxy/admin/state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proxy/admin/metrics.h"
#include "proxy/admin/spread.h"
#include "proxy/failure.h"
#include "proxy/request.h"

// What apps, networks and people put into names.
static const struct {
    const char *bytes;
    const char *as_json;  // of the value, in quotes
    const char *as_label; // likewise
} hostile[] = {
    {"web", "\"web\"", "\"web\""},
    {"", "\"\"", "\"\""},
    {"a\"b", "\"a\\\"b\"", "\"a\\\"b\""},
    {"a\\", "\"a\\\\\"", "\"a\\\\\""},
    {"a\nb 1", "\"a\\nb 1\"", "\"a\\nb 1\""},
    {"\"} 1\nevil_metric 2", "\"\\\"} 1\\nevil_metric 2\"", "\"\\\"} 1\\nevil_metric 2\""},
    {"a\x01\x1b[2J", "\"a\\u0001\\u001b[2J\"", "\"a\x01\x1b[2J\""},
    {"caf\xc3\xa9", "\"caf\xc3\xa9\"", "\"caf\xc3\xa9\""},
    {"\xf0\x9f\xa6\xab", "\"\xf0\x9f\xa6\xab\"", "\"\xf0\x9f\xa6\xab\""},
    {"a\xff", "\"a\xef\xbf\xbd\"", "\"a\xef\xbf\xbd\""},
    {"\xc3", "\"\xef\xbf\xbd\"", "\"\xef\xbf\xbd\""},
    {"\xe2\x82", "\"\xef\xbf\xbd\xef\xbf\xbd\"", "\"\xef\xbf\xbd\xef\xbf\xbd\""},
    {"\xed\xa0\x80x", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdx\"",
     "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdx\""},
    {"</script><img src=x>", "\"</script><img src=x>\"", "\"</script><img src=x>\""},
};

#define HOSTILE (sizeof hostile / sizeof hostile[0])

static void append_spread(struct row *row, enum state_field field, uint64_t first, uint64_t last)
{
    struct spread spread = {.sum_us = 2500000};
    bson_t document;
    spread.buckets[1] = first;
    spread.buckets[TRAFFIC_BUCKETS - 1] = last;
    row_open(row, field, &document);
    spread_append(&spread, &document);
    row_close(row, &document);
}

static void put_times(struct picture *picture, const char *server, const char *class)
{
    struct row row;
    row_begin(&row, picture, STATE_times);
    row_text(&row, STATE_times__id, "id");
    row_text(&row, STATE_times_server, server);
    row_text(&row, STATE_times_class, class);
    row_int(&row, STATE_times_bytes, 1234567890123);
    append_spread(&row, STATE_times_wait, 3, 0);
    append_spread(&row, STATE_times_service, 0, 2);
    append_spread(&row, STATE_times_total, 1, 1);
    row_end(&row);
}

static char *text_of(struct buffer *out)
{
    buffer_append(out, "", 1);
    return (char *)buffer_at(out);
}

static void assert_has(const char *text, const char *part)
{
    if (!strstr(text, part)) {
        fail_msg("no\n%s\nin\n%.3000s", part, text);
    }
}

static void metrics_of_a_histogram(void **state)
{
    (void)state;
    struct picture picture = {.collections = STATE_BIT(STATE_times)};
    struct buffer out = {0};
    put_times(&picture, "a:1", "read");
    metrics_print(&picture, &out);
    const char *text = text_of(&out);
    assert_has(text, "# TYPE weir_request_wait_seconds histogram\n");
    assert_has(
        text, "weir_request_wait_seconds_bucket{server=\"a:1\",class=\"read\",le=\"6.4e-05\"} 0\n");
    assert_has(
        text,
        "weir_request_wait_seconds_bucket{server=\"a:1\",class=\"read\",le=\"0.000128\"} 3\n");
    assert_has(
        text,
        "weir_request_wait_seconds_bucket{server=\"a:1\",class=\"read\",le=\"67.108864\"} 3\n");
    assert_has(text,
               "weir_request_wait_seconds_bucket{server=\"a:1\",class=\"read\",le=\"+Inf\"} 3\n");
    assert_has(text, "weir_request_wait_seconds_sum{server=\"a:1\",class=\"read\"} 2.5\n");
    assert_has(text, "weir_request_wait_seconds_count{server=\"a:1\",class=\"read\"} 3\n");
    assert_has(
        text,
        "weir_request_service_seconds_bucket{server=\"a:1\",class=\"read\",le=\"67.108864\"} 0\n");
    assert_has(
        text, "weir_request_service_seconds_bucket{server=\"a:1\",class=\"read\",le=\"+Inf\"} 2\n");
    assert_has(text, "# TYPE weir_request_bytes_total counter\n");
    assert_has(text, "weir_request_bytes_total{server=\"a:1\",class=\"read\"} 1234567890123\n");
    assert_null(strstr(text, "weir_clients")); // not asked for
    buffer_fini(&out);
    picture_fini(&picture);
}

// Each line of metrics is one of ours, whatever is in a label.
static void hostile_labels(void **state)
{
    (void)state;
    for (size_t i = 0; i < HOSTILE; i++) {
        struct picture picture = {.collections = STATE_BIT(STATE_times)};
        struct buffer out = {0};
        char wanted[256];
        put_times(&picture, hostile[i].bytes, "read");
        metrics_print(&picture, &out);
        char *text = text_of(&out);
        snprintf(wanted, sizeof wanted, "weir_request_bytes_total{server=%s,class=\"read\"} 1",
                 hostile[i].as_label);
        assert_has(text, wanted);
        for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
            assert_true(strncmp(line, "weir_request_", 13) == 0 || strncmp(line, "# ", 2) == 0);
        }
        buffer_fini(&out);
        picture_fini(&picture);
    }
}

static void put_setting(struct picture *picture, const char *name, const char *value)
{
    struct row row;
    row_begin(&row, picture, STATE_config);
    row_text(&row, STATE_config__id, name);
    row_text(&row, STATE_config_value, value);
    row_end(&row);
}

static void hostile_json(void **state)
{
    (void)state;
    for (size_t i = 0; i < HOSTILE; i++) {
        struct picture picture = {.collections = STATE_BIT(STATE_config)};
        struct buffer out = {0};
        char wanted[256];
        bson_error_t error;
        put_setting(&picture, "first", hostile[i].bytes);
        put_setting(&picture, "second", "x");
        picture_print_json(&picture, &out);
        char *text = text_of(&out);
        snprintf(wanted, sizeof wanted,
                 "{\"config\": [{ \"_id\" : \"first\", \"value\" : %s },\n"
                 "{ \"_id\" : \"second\", \"value\" : \"x\" }]}\n",
                 hostile[i].as_json);
        assert_string_equal(text, wanted);
        bson_t *read = bson_new_from_json((uint8_t *)text, -1, &error);
        assert_non_null(read);
        bson_destroy(read);
        buffer_fini(&out);
        picture_fini(&picture);
    }
}

static void a_nul_ends_no_text(void **state)
{
    (void)state;
    struct picture picture = {.collections = STATE_BIT(STATE_config)};
    struct buffer out = {0};
    struct row row;
    row_begin(&row, &picture, STATE_config);
    row_bytes(&row, STATE_config__id, (struct bytes){(const uint8_t *)"a\0b", 3});
    row_text(&row, STATE_config_value, "x");
    row_end(&row);
    picture_print_json(&picture, &out);
    assert_has(text_of(&out), "\"a\xef\xbf\xbd"
                              "b\"");
    buffer_fini(&out);
    picture_fini(&picture);
}

static void nothing_is_an_empty_object(void **state)
{
    (void)state;
    struct picture picture = {.collections = STATE_BIT(STATE_clients) | STATE_BIT(STATE_shapes)};
    struct buffer out = {0};
    picture_print_json(&picture, &out);
    assert_string_equal(text_of(&out), "{\"clients\": [],\n\"shapes\": []}\n");
    buffer_fini(&out);
}

static void quantiles(void **state)
{
    (void)state;
    struct spread spread = {0};
    assert_true(spread_quantile(&spread, 0.99) == 0);
    spread.buckets[0] = 1; // 0 to 64 us
    assert_true(spread_quantile(&spread, 1) == 64e-6);
    assert_true(spread_quantile(&spread, 0.5) == 32e-6);
    spread.buckets[2] = 1; // 128 to 256 us
    assert_true(spread_quantile(&spread, 0.5) == 64e-6);
    assert_true(spread_quantile(&spread, 0.75) == 192e-6);
    assert_true(spread_quantile(&spread, 1) == 256e-6);
    spread.buckets[TRAFFIC_BUCKETS - 1] = 98; // it has no end
    assert_true(spread_quantile(&spread, 0.99) == spread_bound(TRAFFIC_BUCKETS - 2));
}

// Every time falls into the bucket whose bounds it lies between.
static void times_find_their_bucket(void **state)
{
    (void)state;
    for (int64_t us = 0; us < INT64_C(1) << 32; us = us < 300 ? us + 1 : us * 5 / 4) {
        struct traffic traffic = {0};
        struct spread spread = {0};
        const int64_t values[MEASURE_COUNT] = {us, us, us, 1};
        traffic_record(&traffic, TRAFFIC_READ, values);
        spread_add(&spread, &traffic.classes[TRAFFIC_READ].times[MEASURE_SERVED_US]);
        assert_int_equal(spread_count(&spread), 1);
        assert_int_equal(spread.sum_us, us);
        for (int i = 0; i < TRAFFIC_BUCKETS; i++) {
            bool below = (double)us / 1e6 < spread_bound(i);
            bool above = i == 0 || (double)us / 1e6 >= spread_bound(i - 1);
            assert_int_equal(spread.buckets[i], below && above);
        }
    }
}

// What counts by reason has a word for each.
static void reasons_have_words(void **state)
{
    (void)state;
    for (int i = FAILURE_NONE + 1; i < FAILURE_COUNT; i++) {
        assert_non_null(failure_text((enum request_failure)i));
    }
    for (int i = 0; i < CLOSE_REASON_COUNT; i++) {
        assert_non_null(close_reason_text((enum close_reason)i));
    }
    for (int i = 0; i < REFUSAL_COUNT; i++) {
        assert_non_null(refusal_text((enum refusal)i));
    }
}

// If this fails: build/weir --print-state > docs/state.md
static void reference_page(void **state)
{
    (void)state;
    char *made;
    size_t size;
    FILE *out = open_memstream(&made, &size);
    state_print_reference(out);
    assert_int_equal(fclose(out), 0);
    FILE *file = fopen(WEIR_SOURCE_DIR "/docs/state.md", "re");
    assert_non_null(file);
    char *page = calloc(1, 1 << 17);
    assert_true(fread(page, 1, (1 << 17) - 1, file) > 0);
    fclose(file);
    assert_string_equal(page, made);
    free(page);
    free(made);
}

// By https://prometheus.io/docs/practices/naming.
static void names_follow_conventions(void **state)
{
    (void)state;
    for (int i = 0; i < STATE_FIELD_COUNT; i++) {
        const struct state_field_row *field = &state_fields[i];
        if (!field->metric || field->type == STATE_LABEL) {
            continue;
        }
        size_t len = strlen(field->metric);
        bool total = len > 6 && strcmp(field->metric + len - 6, "_total") == 0;
        bool counter = field->type == STATE_COUNT_TYPE || field->type == STATE_SUM ||
                       field->type == STATE_COUNTS;
        assert_int_equal(total, counter);
        assert_null(strpbrk(field->help, "\\\n"));
        if (*field->unit && field->type != STATE_COUNTS) {
            assert_has(field->metric, field->unit);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metrics_of_a_histogram),
        cmocka_unit_test(hostile_labels),
        cmocka_unit_test(hostile_json),
        cmocka_unit_test(a_nul_ends_no_text),
        cmocka_unit_test(nothing_is_an_empty_object),
        cmocka_unit_test(quantiles),
        cmocka_unit_test(times_find_their_bucket),
        cmocka_unit_test(reasons_have_words),
        cmocka_unit_test(reference_page),
        cmocka_unit_test(names_follow_conventions),
    };
    return cmocka_run_group_tests_name("state", tests, NULL, NULL);
}
