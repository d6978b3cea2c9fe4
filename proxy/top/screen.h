// SPDX-License-Identifier: Apache-2.0
//
// What `weir top` shows, as lines of text. Pure: figures and a view in, lines out. Where a pane is
// depends on the size of the window alone, so nothing jumps when numbers change.
//
//      title | bars: cap, limit, in flight, waiting | rates | times | exhaustion | news | panes ...
//      | keys

#ifndef PROXY_TOP_SCREEN_H
#define PROXY_TOP_SCREEN_H

#include "proxy/top/figures.h"

enum { SCREEN_LINE_BYTES = 2048, VIEW_ID_BYTES = 400, VIEW_TEXT_BYTES = 64 };

enum look { LOOK_PLAIN, LOOK_TITLE, LOOK_HEAD, LOOK_CHOSEN, LOOK_ALARM, LOOK_KEYS };

struct line {
    enum look look;
    char text[SCREEN_LINE_BYTES];
};

struct screen {
    struct line *lines;
    int count;
};

struct view {
    int width;
    int height;
    enum pane_id focus;
    bool zoomed; // the pane in focus has all the room
    bool help;
    bool paused;
    const char *page;       // lines that have all the room; NULL: none
    int page_first;         // shown: those above are scrolled away
    int column[PANE_COUNT]; // sorted by
    bool ascending[PANE_COUNT];
    size_t first[PANE_COUNT];               // shown: records above are scrolled away
    char chosen[PANE_COUNT][VIEW_ID_BYTES]; // a record's id; empty: none
    char filter[VIEW_TEXT_BYTES];
    const char *socket;
    const char *alarm;  // weir is away; NULL: it is there
    const char *notice; // what came of an order; NULL: nothing
    const char *prompt; // a question, instead of the keys; NULL: none
};

// Arranges the figures as the view says, and draws them. To be freed by screen_fini.
void screen_draw(struct screen *screen, struct figures *figures, struct view *view);
void screen_fini(struct screen *screen);

// Chooses the record that is so many further down in the pane in focus.
void view_move(struct view *view, const struct figures *figures, int by);

// The chosen record of the pane in focus; NULL: none, or it is gone.
const struct record *view_chosen(const struct view *view, const struct figures *figures);

// Writes text so that a terminal shows it and does nothing else: what is no printable character of
// the locale is escaped. Returns its columns, `width` at most; what does not fit is cut.
int screen_escape(char *out, size_t size, const char *text, int width);

#endif
