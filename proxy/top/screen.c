// SPDX-License-Identifier: Apache-2.0

#include "proxy/top/screen.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "proxy/mem.h"

enum {
    HEADER_LINES = 9,
    WIDE_COLUMNS = 120,
    LABEL_COLUMNS = 10,
    SERVER_LINES_MAX = 4,
    TENANT_LINES = 4
};

// --- text ---------------------------------------------------------------------------------------

// The character that text begins with, as a terminal may be shown it. Returns its bytes in the
// text.
static size_t escape_one(char ret_shown[16], int *ret_columns, const char *text)
{
    wchar_t letter = 0;
    mbstate_t state = {0};
    size_t bytes = mbrtowc(&letter, text, strlen(text), &state);
    if (bytes == 0 || bytes > strlen(text)) {
        bytes = 1;
        *ret_columns = snprintf(ret_shown, 16, "\\x%02x", (unsigned)(unsigned char)*text);
    } else if (letter == L'\\') {
        *ret_columns = snprintf(ret_shown, 16, "\\\\");
    } else if (wcwidth(letter) > 0) {
        snprintf(ret_shown, 16, "%.*s", (int)bytes, text);
        *ret_columns = wcwidth(letter);
    } else {
        *ret_columns =
            snprintf(ret_shown, 16, letter < 256 ? "\\x%02x" : "\\u%04x", (unsigned)letter);
    }
    return bytes;
}

int screen_escape(char *out, size_t size, const char *text, int width)
{
    int columns = 0;
    size_t used = 0;
    while (*text) {
        char shown[16];
        int more;
        size_t bytes = escape_one(shown, &more, text);
        if (columns + more > width || used + strlen(shown) >= size) {
            break;
        }
        memcpy(out + used, shown, strlen(shown));
        used += strlen(shown);
        columns += more;
        text += bytes;
    }
    out[used] = '\0';
    return columns;
}

__attribute__((format(printf, 3, 4))) static void put(struct line *line, int *column,
                                                      const char *format, ...)
{
    size_t used = strlen(line->text);
    va_list arguments;
    va_start(arguments, format);
    *column += vsnprintf(line->text + used, sizeof line->text - used, format, arguments);
    va_end(arguments);
}

static void put_text(struct line *line, int *column, const char *text, int width, bool pad)
{
    size_t used = strlen(line->text);
    int columns = screen_escape(line->text + used, sizeof line->text - used, text, width);
    *column += columns;
    if (pad && columns < width) {
        put(line, column, "%*s", width - columns, "");
    }
}

static void write_count(char ret_text[16], double number)
{
    if (number < 100000) {
        snprintf(ret_text, 16, "%.0f", number);
    } else if (number < 1e7) {
        snprintf(ret_text, 16, "%.0fk", number / 1e3);
    } else {
        snprintf(ret_text, 16, "%.0fM", number / 1e6);
    }
}

static void write_seconds(char ret_text[16], double seconds)
{
    if (seconds <= 0) {
        snprintf(ret_text, 16, "0");
    } else if (seconds < 0.01) {
        snprintf(ret_text, 16, "%.2fms", seconds * 1e3);
    } else if (seconds < 1) {
        snprintf(ret_text, 16, "%.0fms", seconds * 1e3);
    } else if (seconds < 100) {
        snprintf(ret_text, 16, "%.1fs", seconds);
    } else if (seconds < 6000) {
        snprintf(ret_text, 16, "%dm%02ds", (int)seconds / 60, (int)seconds % 60);
    } else if (seconds < 360000) {
        snprintf(ret_text, 16, "%dh%02dm", (int)seconds / 3600, (int)seconds / 60 % 60);
    } else {
        snprintf(ret_text, 16, "%.0fd", seconds / 86400);
    }
}

static void write_cell(char ret_text[16], enum cell_kind kind, double number)
{
    if (kind == CELL_SECONDS) {
        write_seconds(ret_text, number);
    } else if (kind == CELL_RATIO) {
        snprintf(ret_text, 16, "%.0f%%", number * 100);
    } else if (kind == CELL_RATE && number < 10) {
        snprintf(ret_text, 16, "%.1f", number);
    } else {
        write_count(ret_text, number);
    }
}

// --- the header ---------------------------------------------------------------------------------

static struct line *next_line(struct screen *screen, const struct view *view, enum look look)
{
    static struct line beyond; // the window has no more
    struct line *line = screen->count < view->height ? &screen->lines[screen->count++] : &beyond;
    *line = (struct line){.look = look};
    return line;
}

static void draw_title(struct screen *screen, const struct figures *figures,
                       const struct view *view)
{
    struct line *line = next_line(screen, view, LOOK_TITLE);
    int column = 0;
    char up[16];
    write_seconds(up, figures->up_s);
    put(line, &column, "weir %s  pid %.0f  up %s  clients %.0f  last %.0fs  ", figures->version,
        figures->pid, up, figures->clients, figures->window_s);
    put_text(line, &column, view->socket, view->width - column, true);
}

static void draw_bar(struct screen *screen, const struct view *view, const char *label, double part,
                     double whole, const char *words)
{
    struct line *line = next_line(screen, view, LOOK_PLAIN);
    int column = 0;
    int width = view->width / 2 - LABEL_COLUMNS - 2;
    double share = whole > 0 ? part / whole : 0;
    int filled = (int)((share < 1 ? share : 1) * width + 0.5);
    put(line, &column, "%-*s[", LABEL_COLUMNS, label);
    for (int i = 0; i < width; i++) {
        put(line, &column, "%c", i < filled ? '|' : ' ');
    }
    put(line, &column, "] %s", words);
}

static void draw_bars(struct screen *screen, const struct figures *figures, const struct view *view)
{
    char words[128];
    char longest[16];
    snprintf(words, sizeof words, "%.0f of %.0f open, %.0f idle", figures->open, figures->cap,
             figures->idle);
    draw_bar(screen, view, "cap", figures->open, figures->cap, words);
    snprintf(words, sizeof words, "%.0f of %.0f", figures->limit, figures->cap);
    draw_bar(screen, view, "limit", figures->limit, figures->cap, words);
    snprintf(words, sizeof words, "%.0f of %.0f, %.0f slow, %.0f streams", figures->in_flight,
             figures->limit, figures->slow, figures->streams);
    draw_bar(screen, view, "in flight", figures->in_flight, figures->limit, words);
    write_seconds(longest, figures->longest_wait_s);
    snprintf(words, sizeof words, "%.0f, longest %s", figures->waiting, longest);
    draw_bar(screen, view, "waiting", figures->waiting, figures->waiting + figures->limit, words);
}

static void draw_fleet(struct screen *screen, const struct figures *figures,
                       const struct view *view)
{
    const struct fleet_figures *fleet = &figures->fleet;
    char silent[16];
    int column = 0;
    if (!fleet->state) {
        return;
    }
    struct line *line = next_line(screen, view, fleet->store_up ? LOOK_PLAIN : LOOK_ALARM);
    write_seconds(silent, fleet->last_answer_s);
    put(line, &column, "%-*s %.0f of %.0f allowed, %s; holds %.0f needs %.0f; all %.0f hold %.0f",
        LABEL_COLUMNS, "fleet", fleet->allowed, fleet->cap, fleet->state, fleet->held, fleet->need,
        fleet->members, fleet->held_by_all);
    if (!fleet->store_up) {
        put(line, &column, "; AWAY %s", fleet->last_answer_s < 0 ? "" : silent);
    }
}

static void draw_rates(struct screen *screen, const struct figures *figures,
                       const struct view *view)
{
    char texts[7][16];
    int column = 0;
    struct line *line = next_line(screen, view, LOOK_PLAIN);
    write_cell(texts[0], CELL_RATE, figures->served_rate);
    write_cell(texts[1], CELL_RATE, figures->shed_rate);
    write_cell(texts[2], CELL_RATE, figures->failed_rate);
    put(line, &column, "%-*s served %6s/s   shed %6s/s   failed %6s/s", LABEL_COLUMNS, "requests",
        texts[0], texts[1], texts[2]);
    write_seconds(texts[3], figures->wait.p50);
    write_seconds(texts[4], figures->wait.p99);
    write_seconds(texts[5], figures->service.p50);
    write_seconds(texts[6], figures->service.p99);
    line = next_line(screen, view, LOOK_PLAIN);
    put(line, &column, "%-*s wait p50 %7s p99 %7s   service p50 %7s p99 %7s", LABEL_COLUMNS,
        "times", texts[3], texts[4], texts[5], texts[6]);
}

static void draw_exhaustion(struct screen *screen, const struct figures *figures,
                            const struct view *view)
{
    const struct exhaustion_seen *seen = &figures->exhaustion;
    bool going_on = figures->exhausted > 0 || seen->going_on;
    bool away = !going_on && figures->trouble;
    struct line *line = next_line(screen, view, going_on || away ? LOOK_ALARM : LOOK_PLAIN);
    int column = 0;
    if (away) {
        put(line, &column, "%-*s ", LABEL_COLUMNS, "TROUBLE");
        put_text(line, &column, figures->trouble_at, view->width - column, false);
        put(line, &column, ": ");
        put_text(line, &column, figures->trouble, view->width - column, false);
        return;
    }
    char lasted[16];
    char ago[16];
    write_seconds(lasted, seen->lasted_s);
    write_seconds(ago, seen->ended_s);
    put(line, &column, "%-*s ", LABEL_COLUMNS, going_on ? "EXHAUSTED" : "exhausted");
    if (going_on && !seen->going_on) { // its record comes in a moment
        put(line, &column, "requests wait or are refused");
    } else if (!seen->id) {
        put(line, &column, "never");
    } else if (going_on) {
        put(line, &column, "for %s (e): ", lasted);
        put_text(line, &column, seen->verdict, view->width - column, false);
    } else {
        put(line, &column, "%s, %s ago (e): ", lasted, ago);
        put_text(line, &column, seen->verdict, view->width - column, false);
    }
}

static void draw_news(struct screen *screen, const struct figures *figures, const struct view *view)
{
    bool alarm = view->alarm || figures->emergency;
    struct line *line = next_line(screen, view, alarm ? LOOK_ALARM : LOOK_PLAIN);
    int column = 0;
    if (view->alarm) {
        put_text(line, &column, view->alarm, view->width, false);
        return;
    }
    put(line, &column, "%s%s", figures->emergency ? "EMERGENCY  " : "",
        view->paused ? "PAUSED (space goes on)  " : "");
    if (view->filter[0]) {
        put(line, &column, "filter ");
        put_text(line, &column, view->filter, view->width - column - 2, false);
        put(line, &column, "  ");
    }
    if (view->notice && column < view->width) {
        put_text(line, &column, view->notice, view->width - column, false);
    }
}

// --- panes --------------------------------------------------------------------------------------

static bool is_shown(const struct column *column, const struct view *view)
{
    return !column->wide || view->width >= WIDE_COLUMNS;
}

static void draw_head(struct screen *screen, const struct view *view, enum pane_id pane)
{
    struct line *line = next_line(screen, view, LOOK_HEAD);
    int at = 0;
    for (int i = 0; i < panes[pane].column_count; i++) {
        const struct column *column = &panes[pane].columns[i];
        char title[32];
        if (!is_shown(column, view)) {
            continue;
        }
        snprintf(title, sizeof title, "%s%s", column->title,
                 i != view->column[pane] ? ""
                 : view->ascending[pane] ? "^"
                                         : "*");
        put(line, &at, column->kind == CELL_TEXT ? "%-*s " : "%*s ", column->width, title);
    }
    if (view->focus == pane) {
        put(line, &at, "<");
    }
    if (at < view->width) {
        put(line, &at, "%*s", view->width - at, "");
    }
}

static void draw_record(struct line *line, const struct view *view, const struct pane *pane,
                        const struct record *record)
{
    int at = 0;
    for (int i = 0; i < pane->column_count; i++) {
        const struct column *column = &pane->columns[i];
        char text[16];
        if (!is_shown(column, view)) {
            continue;
        }
        if (column->kind == CELL_TEXT) {
            int room = column->width ? column->width : view->width - at;
            put_text(line, &at, record->cells[i].text, room > 0 ? room : 0, true);
            put(line, &at, column->width ? " " : "");
        } else {
            write_cell(text, column->kind, record->cells[i].number);
            put(line, &at, "%*s ", column->width, text);
        }
    }
}

// Where the chosen record is among those shown; their number if it is not.
static size_t chosen_place(const struct view *view, const struct records *records,
                           enum pane_id pane)
{
    size_t place = 0;
    while (place < records->shown && strcmp(records->at[place].id, view->chosen[pane]) != 0) {
        place++;
    }
    return view->chosen[pane][0] ? place : records->shown;
}

static void scroll(struct view *view, const struct records *records, enum pane_id pane, int room)
{
    size_t rows = room > 0 ? (size_t)room : 1;
    size_t place = chosen_place(view, records, pane);
    size_t *first = &view->first[pane];
    if (place < records->shown) {
        *first = place < *first ? place : *first;
        *first = place >= *first + rows ? place - rows + 1 : *first;
    } else if (view->chosen[pane][0] == '\0') {
        *first = 0;
    }
    if (*first + rows > records->shown) {
        *first = records->shown > rows ? records->shown - rows : 0;
    }
}

static void draw_pane(struct screen *screen, struct figures *figures, struct view *view,
                      enum pane_id pane, int rows)
{
    struct records *records = &figures->records[pane];
    scroll(view, records, pane, rows);
    size_t place = chosen_place(view, records, pane);
    draw_head(screen, view, pane);
    for (int i = 0; i < rows; i++) {
        size_t at = view->first[pane] + (size_t)i;
        bool chosen = at == place && at < records->shown && pane == view->focus;
        struct line *line = next_line(screen, view, chosen ? LOOK_CHOSEN : LOOK_PLAIN);
        if (at < records->shown) {
            draw_record(line, view, &panes[pane], &records->at[at]);
        }
    }
}

// How many records each pane has room for; -1: the pane is not shown.
static void lay_out(const struct figures *figures, const struct view *view,
                    int ret_rows[PANE_COUNT])
{
    static const int parts[PANE_COUNT] = {0, 4, 3, 0, 5};
    int room = view->height - HEADER_LINES - (figures->fleet.state ? 1 : 0) - 1;
    size_t servers = figures->records[PANE_SERVERS].count;
    bool crowded = room < 3 + 6;
    for (int i = 0; i < PANE_COUNT; i++) {
        ret_rows[i] = -1;
    }
    if (view->zoomed || crowded) {
        ret_rows[view->focus] = room - 1;
        return;
    }
    if (servers > 1 || view->focus == PANE_SERVERS) {
        ret_rows[PANE_SERVERS] = servers < SERVER_LINES_MAX ? (int)servers : SERVER_LINES_MAX;
        room -= ret_rows[PANE_SERVERS] + 1;
    }
    if (view->focus == PANE_TENANTS) {
        ret_rows[PANE_TENANTS] = TENANT_LINES;
        room -= TENANT_LINES + 1;
    }
    room -= 3;
    for (int i = PANE_SHAPES; i <= PANE_APPS; i++) {
        ret_rows[i] = room > 0 ? room * parts[i] / 12 : 0;
    }
    ret_rows[PANE_HOLDERS] = room - ret_rows[PANE_SHAPES] - ret_rows[PANE_APPS];
}

static const char *const help[] = {
    "weir top: who holds the connections of a weir, and who waits for them.",
    "",
    "  cap, limit, in flight   connections open, of those allowed; requests that may",
    "                          be in flight; those that are",
    "  CONNS SHARE             connections that a shape held of late, on average, and",
    "                          its part of all that were held",
    "  HELD WAIT               of a shape: a request's mean",
    "  FLIGHT WAIT             of an app or a tenant: requests in flight and waiting, now",
    "",
    "  Tab          the next pane        Enter   all the room for it, and back",
    "  Up Down PgUp PgDn                 choose a row; it stays chosen where it goes",
    "  s  r         sort by the next column; turn the order around",
    "  /            show rows that have a text; Esc: all again, none chosen",
    "  k            kill: the request, or all of the shape (asks first)",
    "  d            deny: the shape, or the app, for 15 minutes (asks first)",
    "  e            the record of the last exhaustion: why, and what to do",
    "  space        pause                q       quit",
    "",
    "Any key goes back.",
};

static void draw_help(struct screen *screen, const struct view *view)
{
    for (size_t i = 0; i < sizeof help / sizeof help[0]; i++) {
        int column = 0;
        struct line *line = next_line(screen, view, LOOK_PLAIN);
        put_text(line, &column, help[i], view->width, false);
    }
}

static void draw_keys(struct screen *screen, const struct view *view)
{
    struct line *line = next_line(screen, view, view->prompt ? LOOK_ALARM : LOOK_KEYS);
    int column = 0;
    put_text(
        line, &column,
        view->prompt
            ? view->prompt
            : "q quit  ? help  Tab pane  Enter zoom  s sort  / filter  k kill  d deny  e event",
        view->width, true);
}

static int count_lines(const char *text)
{
    int count = 0;
    for (; *text; text++) {
        count += *text == '\n';
    }
    return count;
}

// A part of the page, between a line that says what is wrong and the keys.
static void draw_page(struct screen *screen, struct view *view)
{
    const char *at = view->page;
    int last = count_lines(at) - (view->height - 2);
    int column = 0;
    view->page_first = view->page_first > last ? last : view->page_first;
    view->page_first = view->page_first < 0 ? 0 : view->page_first;
    struct line *line = next_line(screen, view, view->alarm ? LOOK_ALARM : LOOK_PLAIN);
    put_text(line, &column, view->alarm ? view->alarm : "", view->width, false);
    for (int i = 0; *at && screen->count < view->height - 1; i++) {
        size_t length = strcspn(at, "\n");
        if (i >= view->page_first) {
            line = next_line(screen, view, LOOK_PLAIN);
            snprintf(line->text, sizeof line->text, "%.*s", (int)length, at);
        }
        at += length + (at[length] == '\n');
    }
    while (screen->count < view->height - 1) {
        next_line(screen, view, LOOK_PLAIN);
    }
    line = next_line(screen, view, view->notice ? LOOK_ALARM : LOOK_KEYS);
    column = 0;
    put_text(line, &column,
             view->notice ? view->notice
                          : "e back  Up Down PgUp PgDn scroll  Left the one before  Right after",
             view->width, true);
}

// What is shown of a line that is longer than the window is wide.
static void cut_to_window(struct screen *screen, const struct view *view)
{
    for (int i = 0; i < screen->count; i++) {
        char *text = screen->lines[i].text;
        mbstate_t state = {0};
        wchar_t letter;
        for (int columns = 0; *text;) {
            size_t bytes = mbrtowc(&letter, text, strlen(text), &state);
            columns += bytes <= strlen(text) ? wcwidth(letter) : view->width + 1;
            if (columns > view->width) {
                *text = '\0';
                break;
            }
            text += bytes;
        }
    }
}

void screen_draw(struct screen *screen, struct figures *figures, struct view *view)
{
    int rows[PANE_COUNT];
    *screen = (struct screen){.lines = xcalloc((size_t)view->height, sizeof *screen->lines)};
    for (int i = 0; i < PANE_COUNT; i++) {
        figures_arrange(figures, (enum pane_id)i, view->column[i], view->ascending[i],
                        view->filter);
    }
    if (view->page) {
        draw_page(screen, view);
        cut_to_window(screen, view);
        return;
    }
    draw_title(screen, figures, view);
    if (view->help) {
        draw_help(screen, view);
        cut_to_window(screen, view);
        return;
    }
    draw_bars(screen, figures, view);
    draw_fleet(screen, figures, view);
    draw_rates(screen, figures, view);
    draw_exhaustion(screen, figures, view);
    draw_news(screen, figures, view);
    lay_out(figures, view, rows);
    for (int i = 0; i < PANE_COUNT; i++) {
        if (rows[i] >= 0) {
            draw_pane(screen, figures, view, (enum pane_id)i, rows[i]);
        }
    }
    draw_keys(screen, view);
    cut_to_window(screen, view);
}

void screen_fini(struct screen *screen)
{
    free(screen->lines);
    *screen = (struct screen){0};
}

// --- choosing -----------------------------------------------------------------------------------

void view_move(struct view *view, const struct figures *figures, int by)
{
    const struct records *records = &figures->records[view->focus];
    if (records->shown == 0) {
        return;
    }
    size_t place = chosen_place(view, records, view->focus);
    bool none = place == records->shown;
    long wanted = none ? (long)view->first[view->focus] : (long)place + by;
    long last = (long)records->shown - 1;
    wanted = wanted < 0 ? 0 : wanted > last ? last : wanted;
    snprintf(view->chosen[view->focus], VIEW_ID_BYTES, "%s", records->at[wanted].id);
}

const struct record *view_chosen(const struct view *view, const struct figures *figures)
{
    const struct records *records = &figures->records[view->focus];
    size_t place = chosen_place(view, records, view->focus);
    return place < records->shown ? &records->at[place] : NULL;
}
