/*
 * draw.h - the terminal: the only part of the dashboard that knows ncurses.
 *
 * One terminal per process, used by one thread. From a successful tui_draw_open() on, every way
 * out restores the terminal: tui_draw_close(), and a fatal signal (SIGSEGV, SIGBUS, SIGFPE,
 * SIGILL, SIGABRT), which restores it with async-signal-safe calls and is raised again.
 */
#ifndef TUI_DRAW_H
#define TUI_DRAW_H

#include <moescope/err.h>

#include "tui/grid.h"
#include "tui/palette.h"

/* -1 with one clear line if there is no terminal that could show the dashboard. */
/* mouse: 1 = take clicks and the wheel. */
int tui_draw_open(int mouse, struct moe_err *e);
/* Colours from now on; light = for a light background. */
void tui_draw_palette(enum tui_palette palette, int light);
void tui_draw_close(void);

struct tui_look tui_draw_look(void);
/* Ask the terminal for its size and follow it. */
void tui_draw_size(int *w, int *h);
/* Put the grid on the terminal; only what changed is sent. */
void tui_draw_put(const struct tui_grid *g);
/* Send everything again (after something else wrote on the terminal). */
void tui_draw_again(void);
/* The next key that was pressed, enum tui_key; TUI_KEY_NONE if none is waiting. */
int tui_draw_key(void);
/* Where the mouse was at the last TUI_KEY_CLICK or wheel. */
void tui_draw_mouse(int *x, int *y);

#endif
