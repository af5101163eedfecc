/*
 * style.h - what a cell of the screen means; draw.c alone decides what that looks like.
 *
 * Colours are named by meaning, so that a number has the same colour on every screen: blue = below
 * fair share, neutral = fair, red = above, grey = no data, yellow = warning, red mark = alarm.
 * Where a terminal has few colours or none, characters carry the value: see heat.c.
 */
#ifndef TUI_STYLE_H
#define TUI_STYLE_H

#include <stddef.h>
#include <stdint.h>

/* To add one: a name here and a row in the table of draw.c. */
enum tui_style {
	TUI_TEXT,
	TUI_DIM,     /* labels, hints, what is not proven */
	TUI_STRONG,  /* the figure that matters */
	TUI_FRAME,
	TUI_TITLE,
	TUI_TAB,
	TUI_TAB_ON,
	TUI_KEY,     /* a key that can be pressed */
	TUI_GOOD,
	TUI_WARN,
	TUI_ALARM,
	TUI_NODATA,
	TUI_CURSOR,
	TUI_BAR,      /* a bar up to fair share */
	TUI_BAR_OVER, /* the part above it */
	TUI_BAR_DROP, /* the part above capacity */
	TUI_MARK,     /* the fair-share line */
	TUI_ABOVE,    /* text about something above fair share */
	TUI_BELOW,
	TUI_HEAT,     /* TUI_HEAT + 0 .. TUI_HEAT_LEVELS - 1, from far below to far above */
	TUI_EXPERT_COLOUR = TUI_HEAT + 9, /* + 0..7: tells experts apart in a text; no order, no
	                                     value */
	TUI_STYLE_MAX = TUI_EXPERT_COLOUR + 8
};
#define TUI_EXPERT_COLOURS 8
#define TUI_HEAT_LEVELS 9
#define TUI_HEAT_FAIR 4

/* What the terminal can show. */
struct tui_look {
	int utf8;    /* 0: ASCII only */
	int colours; /* 0, 8, 16 or 256 */
};

/* Relative load (1 = fair share) to a level 0..8; 4 is fair: 0.87 to 1.15. NAN gives -1. */
int tui_heat_level(double rel);
/* Lower bound of level 1..8, for the scale that every heat map shows. */
double tui_heat_bound(int level);
/* The character that carries a level where colour does not, or that stands beside the colour. */
uint32_t tui_heat_glyph(int level, struct tui_look look);

#endif
