// SPDX-License-Identifier: Apache-2.0
//
// weir top: figures of two states, lines of figures.

#include "proxy/top/screen.h"
#include "wire_samples.h"

#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char before_json[] =
    "{'totals': [{'version': '1', 'pid': 7, 'startTime': 100.0, 'clients': 3, 'failed': {'x': 1}}],"
    " 'servers': [{'_id': 'a:1', 'kind': 'primary', 'cap': 40, 'open': 10, 'limit': 20,"
    "   'inFlight': 2, 'granted': 100, 'refused': {'max_wait': 5, 'queue_full': 1}}],"
    " 'times': [{'wait': {'buckets': [5, 0]}, 'service': {'buckets': [5, 0]}}],"
    " 'requests': [{'_id': 1, 'client': 1, 'app': 'web', 'server': 'a:1', 'state': 'served',"
    "   'lane': 'slow', 'shape': 'count x', 'held': 1.0, 'age': 1.0}],"
    " 'tenants': [{'_id': 'web a:1', 'server': 'a:1', 'tenant': 'web', 'inFlight': 1, 'waiting': 0,"
    "   'served': 10, 'shed': 4}],"
    " 'shapes': [{'_id': '00000000000000aa a:1', 'server': 'a:1', 'shape': 'count x',"
    "   'requests': 1, 'held': 3.0, 'waited': 0.0, 'now': 1}]}";

static const char now_json[] =
    "{'totals': [{'version': '1', 'pid': 7, 'startTime': 100.0, 'clients': 4, 'failed': {'x': 3}}],"
    " 'servers': [{'_id': 'a:1', 'kind': 'primary', 'cap': 40, 'open': 30, 'limit': 20,"
    "   'inFlight': 20, 'waiting': 7, 'granted': 300, 'refused': {'max_wait': 25}, "
    "   'longestWait': 0.079, 'exhausted': true},"
    "   {'_id': '(none)', 'cap': 99, 'limit': 99, 'waiting': 2, 'refused': {}}],"
    " 'times': [{'wait': {'buckets': [5, 8]}, 'service': {'buckets': [5, 16]}}],"
    " 'requests': [{'_id': 1, 'client': 1, 'app': 'web', 'server': 'a:1', 'state': 'served',"
    "   'lane': 'slow', 'shape': 'count x', 'held': 3.0, 'age': 3.0},"
    "   {'_id': 2, 'client': 2, 'app': 'b\\u001b[2J', 'server': 'a:1', 'state': 'queued',"
    "   'lane': 'normal', 'shape': 'find y', 'held': 0.0, 'age': 0.5},"
    "   {'_id': 3, 'client': 3, 'app': 'b\\u001b[2J', 'state': 'local', 'age': 0.5}],"
    " 'tenants': [{'_id': 'web a:1', 'server': 'a:1', 'tenant': 'web', 'inFlight': 1, 'waiting': 3,"
    "   'served': 30, 'shed': 5},"
    "  {'_id': 'jobs a:1', 'server': 'a:1', 'tenant': 'jobs', 'inFlight': 19, 'waiting': 4,"
    "   'served': 6, 'shed': 0}],"
    " 'fleet': [{'_id': 'shop', 'state': 'draining', 'up': false, 'allowed': 2, 'cap': 60,"
    "   'held': 8, 'need': 9, 'lastAnswer': 3.5,"
    "   'members': [{'held': 8, 'self': true}, {'held': 4, 'self': false}]}],"
    " 'exhaustions': [{'_id': 'first', 'server': 'a:1', 'begin': 101.0, 'end': 105.0,"
    "   'duration': 4.0, 'cause': 'leak', 'verdict': 'a leak'},"
    "  {'_id': 'second', 'server': 'a:1', 'begin': 150.0, 'end': 0.0, 'duration': 10.0,"
    "   'cause': 'slow_shape', 'verdict': 'a slow shape: \\u001b[2J'},"
    "  {'_id': 'third', 'server': 'b:1', 'begin': 151.0, 'end': 152.0, 'duration': 1.0,"
    "   'cause': 'leak', 'verdict': 'a leak'}],"
    " 'shapes': [{'_id': '00000000000000bb a:1', 'server': 'a:1', 'shape': 'find y',"
    "   'requests': 20, 'held': 2.0, 'waited': 4.0, 'now': 1},"
    "  {'_id': '00000000000000aa a:1', 'server': 'a:1', 'shape': 'count x',"
    "   'requests': 2, 'held': 7.0, 'waited': 0.0, 'now': 1}]}";

struct world {
    bson_t *before;
    bson_t *now;
    struct figures figures;
    struct view view;
};

static int set_up(void **state)
{
    static struct world world;
    world =
        (struct world){.before = sample_document(before_json), .now = sample_document(now_json)};
    figures_make(&world.figures, world.before, world.now, 2, 160);
    world.view =
        (struct view){.width = 80, .height = 24, .socket = "/run/x", .focus = PANE_HOLDERS};
    *state = &world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;
    figures_fini(&world->figures);
    bson_destroy(world->before);
    bson_destroy(world->now);
    return 0;
}

static void numbers(void **state)
{
    const struct figures *figures = &((struct world *)*state)->figures;
    assert_true(figures->up_s == 60 && figures->clients == 4);
    assert_true(figures->cap == 40 && figures->limit == 20 && figures->in_flight == 20);
    assert_true(figures->waiting == 9); // in the lobby, too
    assert_true(figures->shed_rate == 9.5 && figures->failed_rate == 1);
    assert_true(figures->served_rate == 8);
    assert_true(figures->wait.p50 == 96e-6); // of the eight that came since, 64 to 128 us
}

// 3 s and 1 s in flight are 4 s before; 7 s and 3 s are 10 s now: 6 s in 2 s are 3 connections.
static void connections_of_shapes(void **state)
{
    const struct records *shapes = &((struct world *)*state)->figures.records[PANE_SHAPES];
    assert_int_equal(shapes->count, 2);
    assert_string_equal(shapes->at[0].id, "00000000000000aa a:1");
    assert_true(shapes->at[0].cells[0].number == 3 && shapes->at[0].cells[1].number == 0.75);
    assert_true(shapes->at[1].cells[0].number == 1 && shapes->at[1].cells[2].number == 10);
    assert_true(shapes->at[1].cells[4].number == 0.2);
}

static void requests_and_apps(void **state)
{
    const struct figures *figures = &((struct world *)*state)->figures;
    const struct records *requests = &figures->records[PANE_HOLDERS];
    const struct records *apps = &figures->records[PANE_APPS];
    assert_int_equal(requests->count, 2); // weir's own answers hold nothing
    assert_string_equal(requests->at[0].id, "1");
    assert_string_equal(requests->at[0].shape, "00000000000000aa a:1");
    assert_int_equal(apps->count, 2);
    assert_string_equal(apps->at[0].id, "web");
    assert_true(apps->at[1].cells[0].number == 0 && apps->at[1].cells[1].number == 1);
}

static bool shows(const struct screen *screen, const char *text)
{
    for (int i = 0; i < screen->count; i++) {
        if (strstr(screen->lines[i].text, text)) {
            return true;
        }
    }
    return false;
}

static void tenants_by_what_came_since(void **state)
{
    struct world *world = *state;
    const struct records *tenants = &world->figures.records[PANE_TENANTS];
    struct screen screen;
    assert_int_equal(tenants->count, 2);
    assert_string_equal(tenants->at[0].id, "jobs a:1"); // new: all of it came since
    assert_true(tenants->at[0].cells[0].number == 19 && tenants->at[0].cells[2].number == 3);
    assert_true(tenants->at[1].cells[2].number == 10 && tenants->at[1].cells[3].number == 0.5);
    screen_draw(&screen, &world->figures, &world->view);
    assert_false(shows(&screen, "TENANT"));
    screen_fini(&screen);
    world->view.focus = PANE_TENANTS;
    screen_draw(&screen, &world->figures, &world->view);
    assert_true(shows(&screen, "TENANT"));
    assert_true(shows(&screen, "jobs"));
    screen_fini(&screen);
}

static void a_screen(void **state)
{
    struct world *world = *state;
    struct screen screen;
    screen_draw(&screen, &world->figures, &world->view);
    assert_int_equal(screen.count, 24);
    assert_true(shows(&screen, "30 of 40 open"));
    assert_true(shows(&screen, "20 of 20, 0 slow"));
    assert_true(shows(&screen, "9, longest 79ms"));
    assert_true(shows(&screen, "2 of 60 allowed, draining; holds 8 needs 9; all 2 hold 12; AWAY"));
    assert_true(shows(&screen, "EXHAUSTED"));
    assert_true(shows(&screen, "b\\x1b[2J"));
    assert_true(shows(&screen, "count x"));
    screen_fini(&screen);
}

static void the_exhaustion_that_goes_on(void **state)
{
    struct world *world = *state;
    struct figures *figures = &world->figures;
    struct screen screen;
    assert_string_equal(figures->exhaustion.id, "second");
    screen_draw(&screen, figures, &world->view);
    assert_true(shows(&screen, "EXHAUSTED  for 10.0s (e): a slow shape: \\x1b[2J"));
    screen_fini(&screen);
    figures_fini(figures);
    figures_make(figures, NULL, world->before, 0, 160);
    screen_draw(&screen, figures, &world->view);
    assert_true(shows(&screen, "exhausted  never"));
    screen_fini(&screen);
}

static void exhaustions_one_after_the_other(void **state)
{
    static const struct {
        const char *id;
        int after;
        const char *found;
    } cases[] = {
        {"second", 0, "second"}, {"second", 1, "third"}, {"second", -1, "first"},
        {"first", -1, "first"},  {"third", 1, "third"},
    };
    const struct world *world = *state;
    bson_t record;
    bson_iter_t iter;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_true(figures_find_exhaustion(world->now, cases[i].id, cases[i].after, &record));
        assert_true(bson_iter_init_find(&iter, &record, "_id"));
        assert_string_equal(bson_iter_utf8(&iter, NULL), cases[i].found);
    }
    assert_false(figures_find_exhaustion(world->now, "gone", 0, &record));
    assert_false(figures_find_exhaustion(world->before, "first", 0, &record));
}

static void a_page_is_scrolled_to_its_ends(void **state)
{
    struct world *world = *state;
    struct view *view = &world->view;
    struct screen screen;
    view->page = "one\ntwo\nthree\nfour\n";
    view->height = 4; // of which two are the page's
    view->page_first = 1;
    screen_draw(&screen, &world->figures, view);
    assert_int_equal(screen.count, 4);
    assert_string_equal(screen.lines[1].text, "two");
    assert_string_equal(screen.lines[2].text, "three");
    screen_fini(&screen);
    view->page_first = 99;
    screen_draw(&screen, &world->figures, view);
    assert_string_equal(screen.lines[2].text, "four");
    assert_int_equal(view->page_first, 2);
    screen_fini(&screen);
    view->page_first = -1;
    screen_draw(&screen, &world->figures, view);
    assert_string_equal(screen.lines[1].text, "one");
    screen_fini(&screen);
}

// Of every size, with every pane in focus; no line is wider, none has what a terminal obeys.
static void every_size(void **state)
{
    struct world *world = *state;
    for (int width = 1; width < 210; width += width < 90 ? 1 : 17) {
        for (int height = 1; height < 60; height += height < 30 ? 1 : 9) {
            world->view.focus = (enum pane_id)((width + height) % PANE_COUNT);
            world->view.zoomed = height % 2;
            world->view.help = width % 7 == 0;
            world->view.page = width % 5 == 0 ? "one\ntwo\n\nthree is long\n" : NULL;
            world->view.width = width;
            world->view.height = height;
            struct screen screen;
            screen_draw(&screen, &world->figures, &world->view);
            assert_true(screen.count <= height);
            for (int i = 0; i < screen.count; i++) {
                assert_true(mbstowcs(NULL, screen.lines[i].text, 0) <= (size_t)width);
                assert_null(strpbrk(screen.lines[i].text, "\x1b\n\r\t\x7f"));
            }
            screen_fini(&screen);
        }
    }
}

static void the_choice_stays_with_its_row(void **state)
{
    struct world *world = *state;
    struct view *view = &world->view;
    view->focus = PANE_SHAPES;
    struct screen screen;
    assert_null(view_chosen(view, &world->figures));
    view_move(view, &world->figures, 1);
    assert_string_equal(view_chosen(view, &world->figures)->id, "00000000000000aa a:1");
    view->ascending[PANE_SHAPES] = true;
    screen_draw(&screen, &world->figures, view);
    screen_fini(&screen);
    assert_string_equal(world->figures.records[PANE_SHAPES].at[1].id, "00000000000000aa a:1");
    assert_string_equal(view_chosen(view, &world->figures)->id, "00000000000000aa a:1");
    view_move(view, &world->figures, 5);
    assert_string_equal(view_chosen(view, &world->figures)->id, "00000000000000aa a:1");
    strcpy(view->filter, "FIND");
    screen_draw(&screen, &world->figures, view);
    assert_true(shows(&screen, "find y") && !shows(&screen, "count x"));
    screen_fini(&screen);
    assert_null(view_chosen(view, &world->figures));
}

static void escapes(void **state)
{
    static const struct {
        const char *text;
        const char *shown;
    } cases[] = {
        {"web", "web"},
        {"", ""},
        {"a\\b", "a\\\\b"},
        {"\x1b[2J\x07\n", "\\x1b[2J\\x07\\x0a"},
        {"caf\xc3\xa9", "caf\xc3\xa9"},
        {"\xe2\x80\xaex", "\\u202ex"},
        {"\xc2\x9b"
         "1m",
         "\\x9b1m"},
        {"\xff\xc3", "\\xff\\xc3"},
    };
    char out[64];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        screen_escape(out, sizeof out, cases[i].text, 60);
        assert_string_equal(out, cases[i].shown);
    }
    assert_int_equal(screen_escape(out, sizeof out, "ab\x1b", 4), 2); // not half an escape
    assert_int_equal(screen_escape(out, 3, "abcdef", 60), 2);
}

int main(void)
{
    if (!setlocale(LC_CTYPE, "C.UTF-8")) {
        fputs("skipped: no locale C.UTF-8\n", stderr);
        return 77;
    }
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(numbers),
        TEST(connections_of_shapes),
        TEST(requests_and_apps),
        TEST(a_screen),
        TEST(every_size),
        TEST(the_choice_stays_with_its_row),
        TEST(escapes),
        TEST(tenants_by_what_came_since),
        TEST(the_exhaustion_that_goes_on),
        TEST(exhaustions_one_after_the_other),
        TEST(a_page_is_scrolled_to_its_ends),
    };
    return cmocka_run_group_tests_name("top", tests, NULL, NULL);
}
