// SPDX-License-Identifier: Apache-2.0
//
// The questions, asked of the real server that $WEIR_TEST_URI names: shop.orders has an index on a.
// tests/commands/test_doctor.py starts one and runs this.

#include <mongoc/mongoc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/control/library.h"
#include "proxy/control/questions.h"

static mongoc_client_t *client;
static char server[280];

static int meet(void **state)
{
    (void)state;
    bson_error_t error;
    const char *uri = getenv("WEIR_TEST_URI");
    if (!uri) {
        return 0;
    }
    library_init();
    client = mongoc_client_new(uri);
    mongoc_client_set_error_api(client, MONGOC_ERROR_API_VERSION_2);
    mongoc_server_description_t *known = mongoc_client_select_server(client, true, NULL, &error);
    assert_non_null(known);
    snprintf(server, sizeof server, "%s", mongoc_server_description_host(known)->host_and_port);
    mongoc_server_description_destroy(known);
    return 0;
}

static int part(void **state)
{
    (void)state;
    if (client) {
        mongoc_client_destroy(client);
    }
    return 0;
}

static struct consultation *consultation_about(const char *shape)
{
    struct interview interview;
    if (!client) {
        print_message("skipped: WEIR_TEST_URI names no server to ask\n");
        skip();
    }
    struct consultation *consultation = malloc(sizeof *consultation);
    assert_true(interview_begin(&interview, client, server, 2000));
    consult(&interview, shape, 5000000, consultation);
    interview_end(&interview);
    return consultation;
}

static void what_scans_wants_an_index(void **state)
{
    (void)state;
    struct consultation *it = consultation_about("find shop.orders {state, day:{$gt}} sort{at}");
    assert_int_equal(it->status_answer.outcome, ANSWER_GIVEN);
    assert_true(it->status.connections.current > 0);
    assert_string_equal(it->ns, "shop.orders");
    assert_int_equal(it->explanation_answer.outcome, ANSWER_GIVEN);
    assert_true(it->explanation.scans);
    assert_string_equal(it->index_wanted, "{state: 1, at: 1, day: 1}");
    assert_string_equal(it->index_there, "");
    free(it);
}

static void what_has_an_index_is_told_which(void **state)
{
    (void)state;
    struct consultation *it = consultation_about("update shop.orders {a} u{$set:{n}}");
    assert_int_equal(it->explanation_answer.outcome, ANSWER_GIVEN);
    assert_false(it->explanation.scans);
    assert_string_equal(it->explanation.index, "a_1");
    assert_string_equal(it->index_there, "a_1");
    free(it);
}

static void what_needs_none_is_not_asked_about(void **state)
{
    (void)state;
    static const char *const shapes[] = {NULL, "insert shop.orders", "ping admin", ""};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct consultation *it = consultation_about(shapes[i]);
        assert_int_equal(it->explanation_answer.outcome, ANSWER_NOT_ASKED);
        assert_int_equal(it->indexes_answer.outcome, ANSWER_NOT_ASKED);
        free(it);
    }
}

static void a_server_that_is_not_there_is_not_asked(void **state)
{
    (void)state;
    struct interview interview;
    free(consultation_about(NULL)); // or skipped
    assert_false(interview_begin(&interview, client, "nowhere.example:27017", 2000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_scans_wants_an_index),
        cmocka_unit_test(what_has_an_index_is_told_which),
        cmocka_unit_test(what_needs_none_is_not_asked_about),
        cmocka_unit_test(a_server_that_is_not_there_is_not_asked),
    };
    return cmocka_run_group_tests(tests, meet, part);
}
