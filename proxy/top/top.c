// SPDX-License-Identifier: Apache-2.0
//
//      keys, SIGWINCH --> |     | -- order "state" --> weir
//                         | top | <-- state ---------- (again each interval)
//      screen <---------- |     | -- order "kill", "rule add": asked first
//
// It waits for keys and for the answer in one place, so it can be quit also when weir stands still.

#include "proxy/top/top.h"

#include <curses.h>
#include <errno.h>
#include <locale.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "proxy/admin/control_client.h"
#include "proxy/admin/explain_event.h"
#include "proxy/admin/fields.h"
#include "proxy/admin/flags.h"
#include "proxy/top/screen.h"

enum {
    STATES_MAX = 6, // figures are of what happened since the oldest of them
    WINDOW_US = 5000000,
    ONCE_COLUMNS = 120,
    ONCE_LINES = 60,
    KEY_ESCAPE = 27,
    PROMPT_BYTES = 512,
    PATIENCE_US = 3000000, // with a weir that has been asked
};

static const char usage[] =
    "Usage: weir top [--socket PATH | --port N] [--interval SECONDS]\n"
    "                [--once [--json]]\n"
    "\n"
    "Shows live what a weir that runs on this machine does: cap, limit, in flight,\n"
    "waiting, and who holds the connections. It is found as weir ctl finds it. `?` in\n"
    "it lists the keys.\n"
    "\n"
    "  --socket PATH         its control socket\n"
    "  --port N              the port that it listens on\n"
    "  --interval SECONDS    how often it looks, 0.1 to 60; 1 unless said\n"
    "  --once                prints it once, of one interval, and ends\n"
    "  --json                with --once: as JSON\n"
    "  --help                this\n";

struct state {
    bson_t *document;
    int64_t at_us;
};

struct top {
    struct control_choice weir;
    char path[CONTROL_PATH_BYTES];
    double interval_s;
    bool once;
    bool json;
    bool help;
    struct state states[STATES_MAX]; // the newest first
    int state_count;
    struct figures figures;
    struct view view;
    int asked; // the connection that an answer comes on; -1: none
    struct buffer answer;
    int64_t asked_us;
    int64_t next_us; // when it looks again
    char alarm[CONTROL_CLIENT_ERROR_BYTES];
    char notice[CONTROL_CLIENT_ERROR_BYTES];
    char prompt[PROMPT_BYTES];
    bson_t *order; // done when the prompt is answered with y
    bool types_filter;
    char event[64]; // whose record is shown
    char *page;     // that record, as text; NULL: it is not shown
    bool quit;
};

__attribute__((format(printf, 2, 3))) static int complain(int status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("weir top: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return status;
}

static int64_t clock_us(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

// --- the command line ---------------------------------------------------------------------------

static int take_interval(struct top *top, const char *text)
{
    char *end;
    top->interval_s = strtod(text, &end);
    return end > text && *end == '\0' && top->interval_s >= 0.1 && top->interval_s <= 60
               ? EXIT_SUCCESS
               : complain(EXIT_USAGE, "--interval %.60s: must be 0.1 to 60 seconds", text);
}

static int read_command_line(struct top *top, int argc, char *const argv[])
{
    const char *interval = NULL;
    char error[FLAGS_ERROR_BYTES];
    const struct flag flags[] = {
        {"socket", &top->weir.socket, NULL}, {"port", &top->weir.port, NULL},
        {"interval", &interval, NULL},       {"once", NULL, &top->once},
        {"json", NULL, &top->json},          {"help", NULL, &top->help},
    };
    if (!flags_read(flags, sizeof flags / sizeof flags[0], argc, argv, NULL, error)) {
        return complain(EXIT_USAGE, "%s", error);
    }
    if (top->json && !top->once) {
        return complain(EXIT_USAGE, "--json: only with --once");
    }
    return interval ? take_interval(top, interval) : EXIT_SUCCESS;
}

// --- states -------------------------------------------------------------------------------------

static void forget_states(struct top *top, int kept)
{
    while (top->state_count > kept) {
        bson_destroy(top->states[--top->state_count].document);
    }
}

static void make_figures(struct top *top)
{
    int oldest = top->state_count - 1;
    const struct state *now = &top->states[0];
    const struct state *before = oldest > 0 ? &top->states[oldest] : NULL;
    double window_s = before ? (double)(now->at_us - before->at_us) / 1e6 : 0;
    figures_fini(&top->figures);
    figures_make(&top->figures, before ? before->document : NULL, now->document, window_s,
                 (double)clock_us(CLOCK_REALTIME) / 1e6);
}

// A copy, to be destroyed; NULL: there is none.
static bson_t *state_of(const bson_t *answer)
{
    bson_iter_t iter;
    const uint8_t *data;
    uint32_t len;
    if (!bson_iter_init_find(&iter, answer, "state") || !BSON_ITER_HOLDS_DOCUMENT(&iter)) {
        return NULL;
    }
    bson_iter_document(&iter, &len, &data);
    return bson_new_from_data(data, len);
}

// Shows the record of the exhaustion that is so many after the one shown. If that is gone, what was
// shown of it stays.
static void turn_page(struct top *top, int after)
{
    bson_t record;
    char *text = NULL;
    size_t size = 0;
    top->notice[0] = '\0';
    if (!figures_find_exhaustion(top->states[0].document, top->event, after, &record)) {
        snprintf(top->notice, sizeof top->notice, "this weir has no record of it (any more)");
        return;
    }
    FILE *out = open_memstream(&text, &size);
    if (!out) {
        return;
    }
    (void)explain_event_print(&record, out);
    (void)fclose(out);
    snprintf(top->event, sizeof top->event, "%s", field_text(&record, "_id"));
    top->view.page_first = after ? 0 : top->view.page_first;
    free(top->page);
    top->page = text;
}

// Of a weir that was started anew nothing that was before counts. Takes the document over.
static void keep_state(struct top *top, bson_t *document)
{
    int64_t now_us = clock_us(CLOCK_MONOTONIC);
    bool same =
        top->state_count > 0 && figures_epoch(top->states[0].document) == figures_epoch(document);
    int kept = same ? top->state_count : 0;
    kept = kept == STATES_MAX ? STATES_MAX - 1 : kept;
    while (kept > 1 && now_us - top->states[kept - 1].at_us > WINDOW_US) {
        kept--;
    }
    figures_fini(&top->figures); // its texts are the states'
    forget_states(top, kept);
    memmove(&top->states[1], &top->states[0], (size_t)kept * sizeof top->states[0]);
    top->states[0] = (struct state){document, now_us};
    top->state_count = kept + 1;
    make_figures(top);
    if (top->page) {
        turn_page(top, 0);
    }
}

static bool take_answer(struct top *top, char *error)
{
    bson_t *answer = control_client_read(&top->answer, error);
    bson_t *document = answer ? state_of(answer) : NULL;
    if (document) {
        keep_state(top, document);
    } else if (answer) {
        snprintf(error, CONTROL_CLIENT_ERROR_BYTES, "%s: weir told no state", top->path);
    }
    if (answer) {
        bson_destroy(answer);
    }
    return document != NULL;
}

static bson_t *state_order(void)
{
    static const char *const names[] = {"totals", "servers", "times",       "requests",
                                        "shapes", "tenants", "exhaustions", "fleet"};
    bson_t *order = bson_new();
    bson_t list;
    BSON_APPEND_UTF8(order, "order", "state");
    BSON_APPEND_ARRAY_BEGIN(order, "collections", &list);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char key[16];
        snprintf(key, sizeof key, "%zu", i);
        BSON_APPEND_UTF8(&list, key, names[i]);
    }
    bson_append_array_end(order, &list);
    return order;
}

static bool look_once(struct top *top, char *error)
{
    bson_t *order = state_order();
    buffer_fini(&top->answer);
    bool done =
        control_client_ask(top->path, order, &top->answer, error) && take_answer(top, error);
    bson_destroy(order);
    return done;
}

// --- once ---------------------------------------------------------------------------------------

static void print_json(const struct top *top)
{
    bson_t document = BSON_INITIALIZER;
    figures_append(&top->figures, &document);
    char *json = bson_as_relaxed_extended_json(&document, NULL);
    puts(json);
    bson_free(json);
    bson_destroy(&document);
}

static void print_screen(struct top *top)
{
    struct winsize window = {0};
    struct screen screen;
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0;
    top->view.width = known ? window.ws_col : ONCE_COLUMNS;
    top->view.height = ONCE_LINES;
    screen_draw(&screen, &top->figures, &top->view);
    for (int i = 0; i < screen.count - 1; i++) { // the last has the keys
        const char *text = screen.lines[i].text;
        int length = (int)strlen(text);
        while (length > 0 && text[length - 1] == ' ') {
            length--;
        }
        if (length > 0) {
            printf("%.*s\n", length, text);
        }
    }
    screen_fini(&screen);
}

static int run_once(struct top *top)
{
    char error[CONTROL_CLIENT_ERROR_BYTES];
    int64_t ns = (int64_t)(top->interval_s * 1e9);
    const struct timespec pause = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
    if (!look_once(top, error) || (nanosleep(&pause, NULL), !look_once(top, error))) {
        return complain(EXIT_FAILURE, "%s", error);
    }
    if (top->json) {
        print_json(top);
    } else {
        print_screen(top);
    }
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

// --- live: the terminal -------------------------------------------------------------------------

static attr_t attributes_of(enum look look)
{
    static const attr_t attributes[] = {
        [LOOK_PLAIN] = A_NORMAL,           [LOOK_TITLE] = A_BOLD,
        [LOOK_HEAD] = A_REVERSE,           [LOOK_CHOSEN] = A_REVERSE | A_BOLD,
        [LOOK_ALARM] = A_BOLD | A_REVERSE, [LOOK_KEYS] = A_NORMAL,
    };
    return attributes[look];
}

static void draw(struct top *top)
{
    struct screen screen;
    struct view *view = &top->view;
    getmaxyx(stdscr, view->height, view->width);
    view->socket = top->path;
    view->page = top->page;
    view->alarm = top->alarm[0] ? top->alarm : NULL;
    view->notice = top->notice[0] ? top->notice : NULL;
    view->prompt = top->prompt[0] ? top->prompt : NULL;
    screen_draw(&screen, &top->figures, view);
    erase();
    for (int i = 0; i < screen.count; i++) {
        (void)attr_set(attributes_of(screen.lines[i].look), 0, NULL);
        mvaddstr(i, 0, screen.lines[i].text);
    }
    (void)attr_set(A_NORMAL, 0, NULL);
    move(view->height - 1, 0);
    refresh();
    screen_fini(&screen);
}

// --- live: asking -------------------------------------------------------------------------------

static void stop_asking(struct top *top)
{
    if (top->asked >= 0) {
        close(top->asked);
    }
    top->asked = -1;
    buffer_fini(&top->answer);
}

static void fail_to_look(struct top *top, const char *error)
{
    snprintf(top->alarm, sizeof top->alarm, "weir is away, trying again: %.600s", error);
    stop_asking(top);
}

static void begin_to_look(struct top *top)
{
    char error[CONTROL_CLIENT_ERROR_BYTES];
    int64_t now_us = clock_us(CLOCK_MONOTONIC);
    top->next_us = now_us + (int64_t)(top->interval_s * 1e6);
    if (top->asked >= 0 && now_us - top->asked_us < PATIENCE_US) {
        return; // the answer may take longer than an interval
    }
    if (top->asked >= 0) {
        fail_to_look(top, "it gives no answer");
    }
    bson_t *order = state_order();
    top->asked_us = now_us;
    top->asked = control_client_send(top->path, order, error);
    if (top->asked < 0) {
        fail_to_look(top, error);
    }
    bson_destroy(order);
}

static void hear(struct top *top)
{
    char error[CONTROL_CLIENT_ERROR_BYTES];
    bool over = false;
    if (control_client_receive(top->asked, &top->answer, &over)) {
        if (take_answer(top, error)) {
            top->alarm[0] = '\0';
            stop_asking(top);
        } else {
            fail_to_look(top, error);
        }
    } else if (over) {
        fail_to_look(top, "it gave no answer; its log may say why");
    }
}

// --- live: acting -------------------------------------------------------------------------------

static void drop_order(struct top *top)
{
    if (top->order) {
        bson_destroy(top->order);
    }
    top->order = NULL;
    top->prompt[0] = '\0';
}

static void obey(struct top *top)
{
    struct buffer answer = {0};
    bson_t *done = NULL;
    if (control_client_ask(top->path, top->order, &answer, top->notice)) {
        done = control_client_read(&answer, top->notice);
    }
    if (done) {
        snprintf(top->notice, sizeof top->notice, "done: %s", top->prompt);
        bson_destroy(done);
    }
    buffer_fini(&answer);
    drop_order(top);
    stop_asking(top); // of how it was before
    top->next_us = 0;
}

// An order with fields: name, value, ... NULL.
static void prepare_order(struct top *top, const char *name, const char *const *fields)
{
    const char *sudo = getenv("SUDO_USER");
    bson_t document;
    drop_order(top);
    top->order = bson_new();
    BSON_APPEND_UTF8(top->order, "order", name);
    BSON_APPEND_DOCUMENT_BEGIN(top->order, "fields", &document);
    for (int i = 0; fields[i]; i += 2) {
        BSON_APPEND_UTF8(&document, fields[i], fields[i + 1]);
    }
    BSON_APPEND_UTF8(&document, "why", "by weir top");
    if (strcmp(name, "rule add") == 0 && sudo && geteuid() == 0 &&
        bson_utf8_validate(sudo, strlen(sudo), false)) {
        BSON_APPEND_UTF8(&document, "by", sudo);
    }
    bson_append_document_end(top->order, &document);
}

static const char *say(struct top *top, const char *notice)
{
    snprintf(top->notice, sizeof top->notice, "%s", notice);
    return NULL;
}

// The hexadecimal id of a shape, with which the id of its record begins.
static bool read_shape(const struct record *record, char ret_shape[17])
{
    snprintf(ret_shape, 17, "%s", record->shape ? record->shape : "");
    return strlen(ret_shape) == 16;
}

static const char *last_text(const struct top *top, const struct record *record)
{
    return record->cells[panes[top->view.focus].column_count - 1].text;
}

static void prepare_kill(struct top *top, const struct record *record)
{
    char shape[17];
    bool request = top->view.focus == PANE_HOLDERS;
    if (!request && (top->view.focus != PANE_SHAPES || !read_shape(record, shape))) {
        say(top, "a request or a shape can be killed: choose one");
        return;
    }
    const char *const fields[] = {request ? "request" : "shape", request ? record->id : shape,
                                  NULL};
    prepare_order(top, "kill", fields);
    snprintf(top->prompt, sizeof top->prompt, "kill %s (y/N)? %.300s",
             request ? "this request" : "all requests of this shape", last_text(top, record));
}

static void prepare_deny(struct top *top, const struct record *record)
{
    char shape[17];
    bool app = top->view.focus == PANE_APPS;
    size_t length = app ? strlen(record->id) : 0;
    if (app && (length == 0 || record->id[length - 1] == '*')) {
        say(top, "no rule can name this app alone");
        return;
    }
    if (!app && !read_shape(record, shape)) {
        say(top, "a shape or an app can be denied, and this one's shape is not known");
        return;
    }
    const char *const fields[] = {
        app ? "app" : "shape", app ? record->id : shape, "deny", "true", "for", "15m", NULL};
    prepare_order(top, "rule add", fields);
    snprintf(top->prompt, sizeof top->prompt, "deny this %s for 15 minutes (y/N)? %.300s",
             app ? "app" : "shape", last_text(top, record));
}

static void act(struct top *top, void (*prepare)(struct top *top, const struct record *record))
{
    const struct record *record = view_chosen(&top->view, &top->figures);
    if (record) {
        prepare(top, record);
    } else {
        say(top, "choose a row first: Up, Down, Tab");
    }
}

static void open_page(struct top *top)
{
    const char *id = top->figures.exhaustion.id;
    if (!id) {
        say(top, "there has been no exhaustion");
        return;
    }
    snprintf(top->event, sizeof top->event, "%s", id);
    top->view.page_first = 0;
    turn_page(top, 0);
}

static void close_page(struct top *top)
{
    free(top->page);
    top->page = NULL;
    top->notice[0] = '\0';
}

// --- live: keys ---------------------------------------------------------------------------------

static void type_filter(struct top *top, int key)
{
    char *filter = top->view.filter;
    size_t length = strlen(filter);
    if (key == '\n' || key == '\r' || key == KEY_ENTER || key == KEY_ESCAPE) {
        top->types_filter = false;
        top->prompt[0] = '\0';
        filter[key == KEY_ESCAPE ? 0 : length] = '\0';
        return;
    }
    if ((key == KEY_BACKSPACE || key == 127 || key == 8) && length > 0) {
        filter[length - 1] = '\0';
    } else if (key >= ' ' && key < 127 && length + 1 < VIEW_TEXT_BYTES) {
        filter[length] = (char)key;
        filter[length + 1] = '\0';
    }
    snprintf(top->prompt, sizeof top->prompt, "filter: %s_", filter);
}

static void change_focus(struct view *view)
{
    view->focus = (view->focus + 1) % PANE_COUNT;
}

static void clear_choice(struct view *view)
{
    view->filter[0] = '\0';
    for (int i = 0; i < PANE_COUNT; i++) {
        view->chosen[i][0] = '\0';
    }
}

static void change_view(struct view *view, int key)
{
    enum pane_id focus = view->focus;
    switch (key) {
    case '\t':
        change_focus(view);
        break;
    case '\n':
    case '\r':
    case KEY_ENTER:
        view->zoomed = !view->zoomed;
        break;
    case 's':
        view->column[focus] = (view->column[focus] + 1) % panes[focus].column_count;
        break;
    case 'r':
        view->ascending[focus] = !view->ascending[focus];
        break;
    case ' ':
        view->paused = !view->paused;
        break;
    case '?':
        view->help = true;
        break;
    case KEY_ESCAPE:
        clear_choice(view);
        break;
    default:
        break;
    }
}

static void read_page(struct top *top, int key)
{
    int *first = &top->view.page_first;
    int room = top->view.height - 3;
    switch (key) {
    case KEY_UP:
    case KEY_DOWN:
        *first += key == KEY_DOWN ? 1 : -1;
        break;
    case KEY_PPAGE:
    case KEY_NPAGE:
        *first += key == KEY_NPAGE ? room : -room;
        break;
    case KEY_LEFT:
    case KEY_RIGHT:
        turn_page(top, key == KEY_RIGHT ? 1 : -1);
        break;
    case 'e':
    case 'q':
    case KEY_ESCAPE:
        close_page(top);
        break;
    default:
        break;
    }
}

static void take_key(struct top *top, int key)
{
    if (top->page) {
        read_page(top, key);
    } else if (top->types_filter) {
        type_filter(top, key);
    } else if (top->order) {
        if (key == 'y' || key == 'Y') {
            obey(top);
        } else if (key != KEY_RESIZE) {
            drop_order(top);
            say(top, "nothing was done");
        }
    } else if (top->view.help && key != KEY_RESIZE) {
        top->view.help = false;
    } else if (key == 'q') {
        top->quit = true;
    } else if (key == KEY_DOWN || key == KEY_UP) {
        view_move(&top->view, &top->figures, key == KEY_DOWN ? 1 : -1);
    } else if (key == KEY_NPAGE || key == KEY_PPAGE) {
        view_move(&top->view, &top->figures, key == KEY_NPAGE ? 10 : -10);
    } else if (key == 'k' || key == 'd') {
        act(top, key == 'k' ? prepare_kill : prepare_deny);
    } else if (key == 'e') {
        open_page(top);
    } else if (key == '/') {
        top->types_filter = true;
        type_filter(top, 0);
    } else {
        change_view(&top->view, key);
    }
}

static void take_keys(struct top *top)
{
    int key;
    while ((key = getch()) != ERR && !top->quit) {
        take_key(top, key);
    }
}

static void wait_for_news(struct top *top)
{
    int64_t left_us = top->next_us - clock_us(CLOCK_MONOTONIC);
    struct pollfd news[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
                             {.fd = top->asked, .events = POLLIN}};
    int ms = left_us > 0 ? (int)(left_us / 1000) + 1 : 0;
    int ready = poll(news, 2, ms); // EINTR: the window has another size
    if (ready > 0 && (news[0].revents & (POLLHUP | POLLERR | POLLNVAL))) {
        top->quit = true; // nobody is there any more
    }
    take_keys(top);
    if (ready > 0 && top->asked >= 0 && news[1].revents) {
        hear(top);
    }
}

static int run_live(struct top *top)
{
    char error[CONTROL_CLIENT_ERROR_BYTES];
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
        return complain(EXIT_USAGE, "this is no terminal: --once prints it once");
    }
    if (!look_once(top, error)) {
        return complain(EXIT_FAILURE, "%s", error);
    }
    SCREEN *terminal = newterm(NULL, stdout, stdin);
    if (terminal && !tigetstr("cup")) { // the cursor cannot be moved
        endwin();
        delscreen(terminal);
        terminal = NULL;
    }
    if (!terminal) {
        const char *name = getenv("TERM");
        return complain(EXIT_FAILURE, "TERM=%.60s: cannot be drawn on; --once prints it once",
                        name ? name : "");
    }
    set_escdelay(50);
    cbreak();
    noecho();
    keypad(stdscr, TRUE);
    nodelay(stdscr, TRUE);
    buffer_fini(&top->answer);
    top->view.focus = PANE_HOLDERS;
    while (!top->quit) {
        if (!top->view.paused && clock_us(CLOCK_MONOTONIC) >= top->next_us) {
            begin_to_look(top);
        } else if (top->view.paused) {
            top->next_us = clock_us(CLOCK_MONOTONIC) + 1000000;
        }
        draw(top);
        wait_for_news(top);
    }
    endwin();
    delscreen(terminal);
    return EXIT_SUCCESS;
}

// ------------------------------------------------------------------------------------------------

static int run(struct top *top)
{
    char error[CONTROL_CLIENT_ERROR_BYTES];
    int status = control_client_choose(&top->weir, top->path, error);
    if (status != EXIT_SUCCESS) {
        return complain(status, "%s", error);
    }
    top->view.socket = top->path;
    return top->once ? run_once(top) : run_live(top);
}

int top_main(int argc, char **argv)
{
    struct top top = {.interval_s = 1, .asked = -1};
    setlocale(LC_CTYPE, "");
    int status = read_command_line(&top, argc, argv);
    if (status == EXIT_SUCCESS && top.help) {
        fputs(usage, stdout);
    } else if (status == EXIT_SUCCESS) {
        status = run(&top);
    }
    drop_order(&top);
    stop_asking(&top);
    free(top.page);
    figures_fini(&top.figures);
    forget_states(&top, 0);
    return status;
}
