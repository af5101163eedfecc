/*
 * picture.h - a grid as a PNG file, drawn as a terminal would show it.
 *
 * Lines, blocks and shades are drawn as rectangles so that they join; other characters come from
 * the monospace font that fontconfig names, DejaVu before others. Cairo is optional when building:
 * without it nothing is drawn and the message says what is missing. Only picture.c knows cairo.
 */
#ifndef TUI_PICTURE_H
#define TUI_PICTURE_H

#include <moescope/err.h>

#include "tui/grid.h"
#include "tui/palette.h"

enum { TUI_PIXELS_X = 10, TUI_PIXELS_Y = 20 }; /* pixels of a cell */

/* To a FILE that is open for writing. */
int tui_picture(const struct tui_grid *g, enum tui_palette palette, int light, void *file,
	struct moe_err *e);
/* 0 and why, if this program cannot draw. */
int tui_picture_can(struct moe_err *e);

#endif
