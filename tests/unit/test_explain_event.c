// SPDX-License-Identifier: Apache-2.0
//
// The record of an exhaustion as people read it: whole, within 80 columns, and harmless to a
// terminal whatever it holds.

#include "proxy/admin/explain_event.h"
#include "wire_samples.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SHAPE "count shop.orders {owner}"

// What it prints of JSON with ' for ". NULL: it is no record. To be freed.
static char *print(const char *text)
{
    char *printed = NULL;
    size_t len = 0;
    bson_t *record = sample_document(text);
    FILE *out = open_memstream(&printed, &len);
    bool good = explain_event_print(record, out);
    fclose(out);
    bson_destroy(record);
    if (!good) {
        assert_int_equal(len, 0);
        free(printed);
        return NULL;
    }
    return printed;
}

static const char whole[] =
    "{'_id': '20261124T091500Z-1', 'server': 'db.example.net:27017', 'begin': 1795511700.5,"
    " 'end': 1795511726.5, 'duration': 26.04, 'cap': 40, 'limit': 39, 'cause': 'slow_shape',"
    " 'verdict': 'a slow shape: " SHAPE "', 'causes': ["
    "  {'cause': 'slow_shape', 'score': 0.9, 'says': 'a slow shape: " SHAPE "'},"
    "  {'cause': 'leak', 'score': 0.2, 'says': 'a leak: 3 transactions'}],"
    " 'remedies': [{'what': 'refuse it', 'type': 'weir ctl rule add --deny --shape aa'}],"
    " 'longestWait': 0.079, 'shed': {'max_wait': 12, 'queue_full': 0},"
    " 'holders': [{'shape': '" SHAPE "', 'app': 'b\\u001b[2J', 'tenant': '', 'client': 7,"
    "   'user': 'ann', 'peer': '10.0.0.7:4711',"
    "   'held': 2.5}],"
    " 'worst': {'at': 1795511703.0, 'inFlight': 40, 'waiting': 123, 'holders': []},"
    " 'waiters': [{'tenant': 'web', 'arrived': 50, 'waited': 20, 'shed': 12, 'p50': 0.003,"
    "   'p99': 1.2}],"
    " 'shapes': [{'shape': '" SHAPE "', 'id': 'aa', 'before': 0.1, 'during': 1.25,"
    "   'meanBefore': 0.02, 'meanDuring': 2.0}],"
    " 'upstreams': {'opened': 4, 'openFailures': 5, 'lost': 6, 'away': 0.0,"
    "   'meanOpening': 0.03, 'meanLogin': 0.02, 'meanLoginBefore': 0.01},"
    " 'left': {'cursorsIdle': 8, 'transactionsIdle': 9, 'owners': ["
    "   {'app': 'web', 'cursors': 8, 'cursorsIdle': 7, 'transactions': 6, 'transactionsIdle': 5,"
    "    'longestIdle': 60.0, 'peer': 'unix', 'client': 9, 'shape': 'find a.b'}]},"
    " 'deployment': {'state': 'answered', 'at': 1795511702.0,"
    "   'connections': {'current': 90, 'available': 10},"
    "   'operations': {'ownOnly': false, 'threshold': 0.1, 'active': 41, 'long': 40,"
    "     'longScans': 39, 'longest': [{'running': 2.5, 'shape': '" SHAPE "',"
    "       'plan': 'COLLSCAN', 'waitsForLock': true}]},"
    "   'members': [{'name': 'b:1', 'state': 'SECONDARY', 'healthy': false, 'lag': 3.0}],"
    "   'plan': {'shape': '" SHAPE "', 'stages': 'COLLSCAN', 'scans': true},"
    "   'index': {'wanted': '{owner: 1}', 'there': ''},"
    "   'unanswered': [{'what': 'profile', 'why': 'forbidden', 'says': 'not authorized'}]}}";

static void test_all_of_it_is_told(void **state)
{
    static const char expected[] =
        "Exhaustion 20261124T091500Z-1 of db.example.net:27017\n"
        "  2026-11-24 09:15:00 UTC, 26.0 s; cap 40, limit 39; longest wait 79 ms\n"
        "\nVerdict\n  a slow shape: " SHAPE "\n"
        "\nWhat to do\n  - refuse it\n    weir ctl rule add --deny --shape aa\n"
        "\nLess likely\n  0.20 leak\n    a leak: 3 transactions\n"
        "\nHeld at the begin, longest first\n  2.5 s  " SHAPE
        "\n    client 7 from 10.0.0.7:4711, app b\\x1b[2J, user ann\n"
        "\nAt worst\n  2026-11-24 09:15:03 UTC: 40 in flight, 123 waiting\n"
        "\nWaited, by tenant\n  web\n"
        "    50 asked, 20 waited (p50 3 ms, p99 1.2 s), 12 shed\n"
        "\nRequests that were refused, by reason\n  max_wait 12\n"
        "\nShapes that held most\n  " SHAPE "\n"
        "    held 1.25 connections, 0.10 before; 2.0 s each, 20 ms before; id aa\n"
        "\nConnections to the server\n  4 opened, 5 could not be, 6 lost; away for 0 ms\n"
        "  30 ms to open one, of that 20 ms to log in (10 ms before)\n"
        "\nLeft open and idle, at most\n  8 cursors, 9 transactions\n"
        "\nLeft open, by app\n  web: 8 cursors (7 idle), 6 transactions (5 idle)\n"
        "    idle for 60.0 s: client 9 from unix, find a.b\n"
        "\nWhat the server said of itself\n  answered, 2026-11-24 09:15:02 UTC\n"
        "  90 connections, 10 more possible\n"
        "  The plan of " SHAPE ": COLLSCAN, it scans the collection\n"
        "  The index for it: {owner: 1}; there is none\n"
        "  41 operations, 40 of them for more than 100 ms, 39 by a scan\n"
        "\nUnder way there, longest first\n"
        "  2.5 s  " SHAPE "\n    COLLSCAN, waits for a lock\n"
        "\nMembers, as it sees them\n  b:1: SECONDARY (not healthy), 3.0 s behind\n"
        "\nWhat it did not answer\n  profile: forbidden\n    not authorized\n";
    char *printed = print(whole);
    (void)state;
    assert_string_equal(printed, expected);
    free(printed);
}

// Long, of control characters and other alphabets, in all places that hold text; wrong types.
static void test_a_terminal_is_safe(void **state)
{
    char bad[700] = "";
    char json[16384];
    (void)state;
    for (int i = 0; i < 12; i++) {
        strcat(bad, "\\u001b]0;x\\u0007\\u009b2J\\u202e\\u00e9\\r\\n%s%n");
    }
    snprintf(json, sizeof json,
             "{'_id': '%s', 'server': '%s', 'begin': 1e300, 'duration': 1e300, 'cap': -1e300,"
             " 'verdict': '%s', 'cause': 7, 'shed': {'%s': 1e300}, 'causes': [1, {'says': '%s'},"
             "  {'says': '%s', 'score': 'x'}], 'holders': {'a': {'app': '%s'}}, 'worst': [],"
             " 'shapes': 'x', 'remedies': [{'type': '%s'}], 'waiters': [[], {'tenant': '%s'}],"
             " 'deployment': {'state': '%s', 'operations': {'longest': [{'plan': '%s'}]},"
             "  'plan': {'shape': '%s'}, 'index': 1, 'members': [{'name': '%s'}]}}",
             bad, bad, bad, bad, bad, bad, bad, bad, bad, bad, bad, bad, bad);
    char *printed = print(json);
    assert_non_null(printed);
    size_t column = 0;
    for (const char *at = printed; *at; at++) {
        assert_true(*at == '\n' || (*at >= ' ' && *at < 0x7f));
        column = *at == '\n' ? 0 : column + 1;
        assert_true(column <= 80);
    }
    assert_non_null(strstr(printed, "(no date)"));
    free(printed);
}

static void test_one_that_goes_on(void **state)
{
    char *printed = print("{'_id': 'x', 'server': 'a:1', 'begin': 1.0, 'end': 0.0, 'duration': 2.0,"
                          " 'verdict': 'unclear: nothing', 'cause': 'unclear',"
                          " 'causes': [{'cause': 'leak', 'score': 0.3, 'says': 'a leak'}]}");
    (void)state;
    assert_non_null(strstr(printed, "2.0 s so far"));
    assert_non_null(strstr(printed, "Not enough for a verdict\n  0.30 leak\n    a leak\n"));
    free(printed);
}

static void test_one_that_was_cut_off_and_of_a_newer_weir(void **state)
{
    char *printed = print("{'_id': 'x', 'server': 'a:1', 'begin': 1.0, 'end': 3.0, 'duration': 2.0,"
                          " 'ended': 'weir stopped', 'verdict': 'a leak', 'cause': 'leak',"
                          " 'moon': {'phase': 'full', 'tide\\u001b[2J': [1, 2]}, 'sun': 2}");
    (void)state;
    assert_non_null(strstr(printed, "2.0 s, then: weir stopped; cap"));
    assert_non_null(strstr(printed, "\nBesides, which this weir does not know\n"
                                    "  { \"moon\" : { \"phase\" : \"full\", "
                                    "\"tide\\u001b[2J\" : [ 1, 2 ] }, \"sun\" : 2"));
    free(printed);
}

static void test_what_is_no_record(void **state)
{
    (void)state;
    assert_null(print("{}"));
    assert_null(print("{'_id': 1, 'server': 'a:1', 'begin': 1.0, 'verdict': 'x'}"));
    assert_null(print("{'_id': 'x', 'server': 'a:1', 'begin': 'x', 'verdict': 'x'}"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_of_it_is_told),
        cmocka_unit_test(test_a_terminal_is_safe),
        cmocka_unit_test(test_one_that_goes_on),
        cmocka_unit_test(test_one_that_was_cut_off_and_of_a_newer_weir),
        cmocka_unit_test(test_what_is_no_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
