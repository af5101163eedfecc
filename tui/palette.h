/*
 * palette.h - meanings (style.h) to colours: for the terminal (draw.c) and for pictures
 * (picture.c).
 *
 * Every palette diverges from blue through a neutral light grey. TUI_BLUE_RED ends in red; the safe
 * one ends in orange and brown and keeps its steps apart for people who see no red or no green,
 * which tests/unit/test_tui_palette.c checks with a model of their eyes. To add one: a name here, a
 * row in the tables of palette.c.
 */
#ifndef TUI_PALETTE_H
#define TUI_PALETTE_H

#include "tui/style.h"

enum tui_palette { TUI_BLUE_RED, TUI_SAFE, TUI_PALETTES };
extern const char *const tui_palette_name[]; /* [TUI_PALETTES], then NULL */

enum { TUI_BOLD = 1, TUI_UNDERLINE = 2, TUI_REVERSE = 4 };

/* -1 = the terminal's own colour. */
struct tui_paint {
	short fg, bg;   /* numbers of the 256-colour palette; with 8 or 16 colours 0..7 */
	unsigned attr;
};

/* How a style looks with that many colours (0, 8, 16, 256), on a light background if `light`. Safe
 * to call with any style below TUI_STYLE_MAX. */
struct tui_paint tui_paint(enum tui_palette p, int light, int colours, int style);

/* Colour 16..255 of the 256-colour palette (xterm's cube and greys) as 0xRRGGBB; 0..15 as xterm has
 * them by default. */
uint32_t tui_rgb(int colour);

#endif
