// SPDX-License-Identifier: Apache-2.0
//
// From what a deployment said to what is said about it; tests/commands/test_doctor.py has the rest.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/admin/doctor_checks.h"

static const struct expectation nothing = {0};

static enum severity severity_of(int64_t current, int64_t available)
{
    struct doctor_report report = {0};
    struct server_status status = {.connections = {.current = current, .available = available}};
    check_connections(&report, "h:1", &status, NULL, &nothing);
    assert_int_equal(report.count, 1);
    enum severity severity = report.findings[0].severity;
    doctor_report_fini(&report);
    return severity;
}

static void connections_by_share(void **state)
{
    (void)state;
    assert_int_equal(severity_of(1199, 301), SEVERITY_FINE);
    assert_int_equal(severity_of(1200, 300), SEVERITY_WARNING);
    assert_int_equal(severity_of(1424, 76), SEVERITY_WARNING);
    assert_int_equal(severity_of(1425, 75), SEVERITY_CRITICAL);
    assert_int_equal(severity_of(500, 0), SEVERITY_CRITICAL);
    assert_int_equal(severity_of(0, 0), SEVERITY_UNSEEN);
    assert_int_equal(severity_of(3, 0), SEVERITY_UNSEEN);
    assert_int_equal(severity_of(UNKNOWN, 5), SEVERITY_UNSEEN);
    assert_int_equal(severity_of(INT64_MAX, INT64_MAX), SEVERITY_UNSEEN);
}

static void certificates_by_days(void **state)
{
    (void)state;
    static const struct {
        int64_t days;
        enum severity severity;
    } cases[] = {
        {31, SEVERITY_FINE},    {29, SEVERITY_WARNING},  {8, SEVERITY_WARNING},
        {6, SEVERITY_CRITICAL}, {-3, SEVERITY_CRITICAL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct doctor_report report = {0};
        check_certificate(&report, "h:1", 1000000 + cases[i].days * 86400 + 1, 1000000);
        assert_int_equal(report.findings[0].severity, cases[i].severity);
        doctor_report_fini(&report);
    }
}

static size_t defects_of(const char *app, const char *driver, const char *version)
{
    struct doctor_report report = {0};
    struct operations *operations = calloc(1, sizeof *operations);
    operations->kinds = 1;
    snprintf(operations->kind[0].app, sizeof operations->kind[0].app, "%s", app);
    snprintf(operations->kind[0].driver, sizeof operations->kind[0].driver, "%s", driver);
    snprintf(operations->kind[0].version, sizeof operations->kind[0].version, "%s", version);
    check_drivers(&report, "h:1", operations);
    size_t warnings = 0;
    for (size_t i = 0; i < report.count; i++) {
        warnings += report.findings[i].severity == SEVERITY_WARNING;
    }
    doctor_report_fini(&report);
    free(operations);
    return warnings;
}

static void drivers_by_version(void **state)
{
    (void)state;
    static const struct {
        const char *driver;
        const char *version;
        size_t defects;
    } cases[] = {
        {"mongo-go-driver", "2.9.2", 1},
        {"mongo-go-driver", "v1.17.10", 1},
        {"mongo-go-driver", "2.9.3", 0},
        {"mongo-go-driver", "2.10.0", 0},
        {"mongo-go-driver", "3.0", 0},
        {"mongo-go-driver", "", 0},
        {"mongo-go-driver", "-1.2", 0},
        {"mongo-go-driver", "2.9", 1},
        {"mongo-go", "1.0.0", 0},
        {"mongo-go-driver|x", "2.8.0|y", 1},
        {"mongoc / ext-mongodb:PHP", "1.30.4 / 1.2", 1},
        {"mongo-go-driver", "99999999999999999999.1", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (defects_of("web", cases[i].driver, cases[i].version) != cases[i].defects) {
            fail_msg("%s %s", cases[i].driver, cases[i].version);
        }
    }
    assert_int_equal(defects_of("weir", "mongo-go-driver", "2.0.0"), 0);
}

static struct index_status index_of(const char *name, const char *a, const char *b)
{
    struct index_status index = {.used = 0, .since_s = 0};
    snprintf(index.name, sizeof index.name, "%s", name);
    snprintf(index.keys.key[0].name, sizeof index.keys.key[0].name, "%s", a);
    snprintf(index.keys.key[1].name, sizeof index.keys.key[1].name, "%s", b ? b : "");
    index.keys.key[0].direction = index.keys.key[1].direction = 1;
    index.keys.count = b ? 2 : 1;
    return index;
}

// What guarantees something, or was not asked about everywhere, is not said to be superfluous.
static void indexes_that_are_needed_are_left_alone(void **state)
{
    (void)state;
    const int64_t month_s = INT64_C(30) * 86400;
    struct indexes *indexes = calloc(1, sizeof *indexes);
    indexes->index[indexes->count++] = index_of("_id_", "_id", NULL);
    indexes->index[indexes->count++] = index_of("a", "a", NULL);
    struct doctor_report report = {0};
    check_indexes(&report, "d.c", indexes, false, month_s);
    check_indexes(&report, "d.c", indexes, true, 86400);
    indexes->index[1].unique = true;
    check_indexes(&report, "d.c", indexes, true, month_s);
    indexes->index[1].unique = false;
    indexes->index[1].used = 1;
    check_indexes(&report, "d.c", indexes, true, month_s);
    assert_int_equal(report.count, 0);
    indexes->index[1].used = 0;
    check_indexes(&report, "d.c", indexes, true, month_s);
    assert_int_equal(report.count, 1);
    indexes->index[1].used = 9;
    indexes->index[indexes->count++] = index_of("ab", "a", "b");
    indexes->index[2].used = 9;
    check_indexes(&report, "d.c", indexes, true, month_s);
    assert_int_equal(report.count, 2);
    assert_non_null(strstr(report.findings[1].found, "a is superfluous: ab"));
    doctor_report_fini(&report);
    free(indexes);
}

static void queries_by_index_and_plan(void **state)
{
    (void)state;
    struct indexes *indexes = calloc(1, sizeof *indexes);
    struct query_needs needs;
    struct explanation scan = {.plan = "COLLSCAN", .scans = true};
    struct doctor_report report = {0};
    assert_true(query_needs_of_shape("find d.c {a, b:{$gt}}", &needs, NULL, 0));
    check_query(&report, "find", "d.c", &needs, indexes, &scan, "why");
    check_query(&report, "find", "d.c", &needs, indexes, NULL, "why");
    indexes->index[indexes->count++] = index_of("ab", "a", "b");
    check_query(&report, "find", "d.c", &needs, indexes, NULL, "why");
    check_query(&report, "find", "d.c", &needs, indexes, &scan, "why");
    indexes->index[0].hidden = true;
    check_query(&report, "find", "d.c", &needs, indexes, NULL, "why");
    static const enum severity expected[] = {SEVERITY_CRITICAL, SEVERITY_WARNING, SEVERITY_FINE,
                                             SEVERITY_CRITICAL, SEVERITY_WARNING};
    assert_int_equal(report.count, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(report.findings[i].severity, expected[i]);
    }
    assert_non_null(strstr(report.findings[0].remedy, "createIndex({a: 1, b: 1})"));
    doctor_report_fini(&report);
    free(indexes);
}

// Whatever bytes there are: 80 columns of ASCII, and JSON that can be read.
static void printing_bears_any_text(void **state)
{
    (void)state;
    struct doctor_report report = {0};
    struct finding *finding = doctor_find(&report, CHECK_operations, SEVERITY_WARNING, "\x1b[2J");
    for (size_t i = 0; i + 1 < sizeof finding->found; i++) {
        finding->found[i] = (char)(i % 255 + 1);
    }
    memset(finding->remedy, 'x', sizeof finding->remedy - 1);
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    doctor_print_text(&report, out);
    fclose(out);
    size_t column = 0;
    for (size_t i = 0; i < length; i++) {
        column = text[i] == '\n' ? 0 : column + 1;
        assert_true(text[i] == '\n' || (text[i] >= ' ' && text[i] < 0x7f));
        assert_true(column <= 80);
    }
    free(text);
    out = open_memstream(&text, &length);
    doctor_print_json(&report, out);
    fclose(out);
    bson_error_t error;
    bson_t *json = bson_new_from_json((const uint8_t *)text, -1, &error);
    assert_non_null(json);
    bson_destroy(json);
    free(text);
    doctor_report_fini(&report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connections_by_share),
        cmocka_unit_test(certificates_by_days),
        cmocka_unit_test(drivers_by_version),
        cmocka_unit_test(indexes_that_are_needed_are_left_alone),
        cmocka_unit_test(queries_by_index_and_plan),
        cmocka_unit_test(printing_bears_any_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
