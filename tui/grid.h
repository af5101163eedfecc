/*
 * grid.h - the screen as an array of cells, drawn without a terminal.
 *
 * Panels draw here; draw.c puts the grid on a terminal, tests and `top --once --text` print it.
 * Nothing outside the grid is ever written, whatever the coordinates. All text passes
 * text_escape(), and no cell can hold a control character: names in a database are hostile.
 * Without UTF-8, box and block characters become their nearest ASCII and other characters '?'.
 */
#ifndef TUI_GRID_H
#define TUI_GRID_H

#include "base/buf.h"
#include "tui/style.h"

#define TUI_MAX_W 1000 /* a larger terminal is used up to here: nobody reads further */
#define TUI_MAX_H 500

struct tui_cell {
	uint32_t cp;   /* 0 = right half of the wide character to its left */
	uint32_t mark; /* one combining mark, or 0 */
	uint8_t style; /* enum tui_style */
};
struct tui_grid {
	int w, h;
	struct tui_look look;
	struct tui_cell *cell; /* [h][w] */
};
struct tui_rect { int x, y, w, h; }; /* w or h <= 0: left out */

/* -1 without memory. Sizes are cut to 1..TUI_MAX_*; the grid is blank. */
int tui_grid_init(struct tui_grid *g, int w, int h, struct tui_look look);
void tui_grid_free(struct tui_grid *g);
void tui_grid_clear(struct tui_grid *g);

void tui_put(struct tui_grid *g, int x, int y, enum tui_style style, uint32_t cp);
void tui_fill(struct tui_grid *g, struct tui_rect r, enum tui_style style, uint32_t cp);
/* Change the style of what stands there. */
void tui_restyle(struct tui_grid *g, struct tui_rect r, enum tui_style style);

/* Text in at most max columns, cut with an ellipsis; returns the columns used. */
int tui_text(struct tui_grid *g, int x, int y, int max, enum tui_style style, const char *s);
int tui_textf(struct tui_grid *g, int x, int y, int max, enum tui_style style, const char *fmt,
	...) __attribute__((format(printf, 6, 7)));
/* The same, ending before column x + max. */
int tui_right(struct tui_grid *g, int x, int y, int max, enum tui_style style, const char *s);
/* Broken at spaces over the lines of r; returns the lines used. */
int tui_wrap(struct tui_grid *g, struct tui_rect r, enum tui_style style, const char *s);
/* Lines that tui_wrap would use at that width without a limit. */
int tui_wrap_lines(const struct tui_grid *g, int w, const char *s);
/* Columns that tui_text would use without a limit. */
int tui_columns(const struct tui_grid *g, const char *s);

/* A frame with a title at the left and a note at the right of its top line (either may be NULL);
 * returns the inside. */
struct tui_rect tui_frame(struct tui_grid *g, struct tui_rect r, const char *title,
	const char *note);

/* A horizontal bar of value on the scale 0..full over w columns, in eighths of a column: TUI_BAR
 * up to 1 (fair share), TUI_BAR_OVER beyond it, TUI_BAR_DROP beyond `capacity` (0 = none). Marks
 * fair share and capacity where the bar does not reach. */
void tui_bar(struct tui_grid *g, int x, int y, int w, double value, double full, double capacity);

/* The grid as lines of text without trailing blanks. */
void tui_grid_dump(const struct tui_grid *g, struct buf *out);

#endif
