/*
 * layout.h - where things go: rectangles from sizes, nothing else. Pure; tested without a terminal.
 *
 * Rectangles of one layout never overlap and never leave the screen. One whose w or h is 0 is left
 * out, and the screen says so.
 */
#ifndef TUI_LAYOUT_H
#define TUI_LAYOUT_H

#include "tui/grid.h"

/* The frame of every screen. */
struct tui_layout {
	struct tui_rect head; /* model and run, then figures: 0 to 2 lines */
	struct tui_rect tabs; /* 0 or 1 line */
	struct tui_rect body;
	struct tui_rect time; /* the timeline: 0 or 2 lines */
	struct tui_rect foot; /* keys, or what went wrong: 0 or 1 line */
};
/* timeline: 1 = with the timeline, where there is room. */
struct tui_layout tui_layout(int w, int h, int timeline);

/* The panes of the overview. */
struct tui_overview {
	struct tui_rect verdict, balance, alarms, heat, domains;
};
/* verdict, n_alarm: lines that the verdict would like, and alarms. */
struct tui_overview tui_layout_overview(struct tui_rect body, int n_layer, int n_expert,
	int verdict, int n_alarm);

/* How a layer x expert map fits: columns of `cell` characters, each for `group` experts. */
struct tui_mapfit {
	int label;   /* columns for layer names */
	int cell;    /* width of a column, 1..6 */
	int group;   /* experts per column */
	int n_col;   /* columns that show everything */
	int visible; /* columns that fit */
};
/* zoom 0 shows all experts if that is possible at all; +1, +2 .. widen cells, negative narrows and
 * then groups. */
struct tui_mapfit tui_layout_map(int w, int n_expert, int label, int zoom);

/* The panes of the expert card; what does not fit is left out, the last first. */
struct tui_card {
	struct tui_rect head, domains, tokens, history, peers, next;
};
struct tui_card tui_layout_card(struct tui_rect body);

/* First of `visible` items so that `cursor` can be seen, moving as little as possible. */
int tui_scroll(int first, int cursor, int visible, int n);

#endif
