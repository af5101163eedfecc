/* palette.c - see palette.h. */
#include "tui/palette.h"

const char *const tui_palette_name[] = { "default", "safe", NULL };

enum { BLACK, RED, GREEN, YELLOW, BLUE, MAGENTA, CYAN, WHITE };

/* To add a meaning: a name in style.h and a row here. -1 = the terminal's own colour. */
struct row {
	short fg, bg;        /* with 256 colours */
	short fg8, bg8;      /* with 8 or 16 */
	unsigned attr, mono; /* with colours, without */
};
#define B TUI_BOLD
#define U TUI_UNDERLINE
#define R TUI_REVERSE
static const struct row rows[TUI_STYLE_MAX] = {
	[TUI_TEXT] = { -1, -1, -1, -1, 0, 0 },
	[TUI_DIM] = { 245, -1, -1, -1, 0, 0 },
	[TUI_STRONG] = { -1, -1, -1, -1, B, B },
	[TUI_FRAME] = { 240, -1, -1, -1, 0, 0 },
	[TUI_TITLE] = { -1, -1, -1, -1, B, B },
	[TUI_TAB] = { 245, -1, -1, -1, 0, 0 },
	[TUI_TAB_ON] = { -1, -1, -1, -1, R | B, R },
	[TUI_KEY] = { 37, -1, CYAN, -1, 0, B },
	[TUI_GOOD] = { 71, -1, GREEN, -1, B, B },
	[TUI_WARN] = { 178, -1, YELLOW, -1, B, B },
	[TUI_ALARM] = { 203, -1, RED, -1, B, B | U },
	[TUI_NODATA] = { 242, -1, -1, -1, 0, 0 },
	[TUI_CURSOR] = { 16, 226, BLACK, YELLOW, 0, R },
	[TUI_BAR] = { 248, -1, WHITE, -1, 0, 0 },
	[TUI_BAR_OVER] = { 209, -1, RED, -1, 0, 0 },
	[TUI_BAR_DROP] = { 160, -1, MAGENTA, -1, 0, 0 },
	[TUI_MARK] = { 245, -1, -1, -1, 0, 0 },
	[TUI_ABOVE] = { 209, -1, RED, -1, B, B },
	[TUI_BELOW] = { 74, -1, BLUE, -1, B, 0 },
	[TUI_HEAT + 0] = { 231, 25, BLUE, -1, 0, 0 },
	[TUI_HEAT + 1] = { 16, 68, BLUE, -1, 0, 0 },
	[TUI_HEAT + 2] = { 16, 110, BLUE, -1, 0, 0 },
	[TUI_HEAT + 3] = { 16, 153, CYAN, -1, 0, 0 },
	[TUI_HEAT + 4] = { 16, 254, -1, -1, 0, 0 },
	[TUI_HEAT + 5] = { 16, 223, YELLOW, -1, 0, 0 },
	[TUI_HEAT + 6] = { 16, 216, RED, -1, 0, 0 },
	[TUI_HEAT + 7] = { 16, 209, RED, -1, 0, 0 },
	[TUI_HEAT + 8] = { 231, 124, RED, -1, B, B },
	[TUI_EXPERT_COLOUR + 0] = { 75, -1, BLUE, -1, 0, 0 },
	[TUI_EXPERT_COLOUR + 1] = { 214, -1, YELLOW, -1, 0, U },
	[TUI_EXPERT_COLOUR + 2] = { 79, -1, GREEN, -1, 0, B },
	[TUI_EXPERT_COLOUR + 3] = { 211, -1, RED, -1, 0, R },
	[TUI_EXPERT_COLOUR + 4] = { 141, -1, MAGENTA, -1, 0, B | U },
	[TUI_EXPERT_COLOUR + 5] = { 117, -1, CYAN, -1, 0, R | U },
	[TUI_EXPERT_COLOUR + 6] = { 180, -1, WHITE, -1, 0, R | B },
	[TUI_EXPERT_COLOUR + 7] = { 251, -1, -1, -1, U, R | B | U },
};

/* What the safe palette changes: orange for red, bluish for green.
 * With 8 colours yellow is above. */
static const struct { short style; struct row row; } safe[] = {
	{ TUI_GOOD, { 80, -1, CYAN, -1, B, B } },
	{ TUI_WARN, { 229, -1, WHITE, -1, B, B } },
	{ TUI_ALARM, { 214, -1, YELLOW, -1, B | U, B | U } },
	{ TUI_BAR_OVER, { 214, -1, YELLOW, -1, 0, 0 } },
	{ TUI_BAR_DROP, { 130, -1, MAGENTA, -1, 0, 0 } },
	{ TUI_ABOVE, { 214, -1, YELLOW, -1, B, B } },
	{ TUI_BELOW, { 75, -1, BLUE, -1, B, 0 } },
	{ TUI_HEAT + 0, { 231, 18, BLUE, -1, 0, 0 } },
	{ TUI_HEAT + 1, { 231, 26, BLUE, -1, 0, 0 } },
	{ TUI_HEAT + 2, { 16, 75, BLUE, -1, 0, 0 } },
	{ TUI_HEAT + 3, { 16, 153, CYAN, -1, 0, 0 } },
	{ TUI_HEAT + 4, { 16, 255, -1, -1, 0, 0 } },
	{ TUI_HEAT + 5, { 16, 223, WHITE, -1, 0, 0 } },
	{ TUI_HEAT + 6, { 16, 214, YELLOW, -1, 0, 0 } },
	{ TUI_HEAT + 7, { 16, 172, YELLOW, -1, 0, 0 } },
	{ TUI_HEAT + 8, { 231, 94, YELLOW, -1, B, B } },
	{ TUI_EXPERT_COLOUR + 0, { 33, -1, BLUE, -1, 0, 0 } },
	{ TUI_EXPERT_COLOUR + 1, { 190, -1, YELLOW, -1, 0, U } },
	{ TUI_EXPERT_COLOUR + 2, { 65, -1, CYAN, -1, 0, B } },
	{ TUI_EXPERT_COLOUR + 3, { 189, -1, WHITE, -1, U, R } },
	{ TUI_EXPERT_COLOUR + 4, { 100, -1, MAGENTA, -1, 0, B | U } },
	{ TUI_EXPERT_COLOUR + 5, { 194, -1, CYAN, -1, U, R | U } },
	{ TUI_EXPERT_COLOUR + 6, { 31, -1, BLUE, -1, U, R | B } },
	{ TUI_EXPERT_COLOUR + 7, { 192, -1, YELLOW, -1, U, R | B | U } },
};

/* On a light background, with 256 colours: what would be too pale there. Heat cells and the cursor
 * bring their own background. */
static const struct { short style, fg[TUI_PALETTES]; } on_light[] = {
	{ TUI_DIM, { 241, 241 } }, { TUI_FRAME, { 250, 250 } }, { TUI_TAB, { 241, 241 } },
	{ TUI_KEY, { 24, 24 } }, { TUI_GOOD, { 28, 24 } }, { TUI_WARN, { 130, 94 } },
	{ TUI_ALARM, { 160, 166 } }, { TUI_NODATA, { 245, 245 } }, { TUI_BAR, { 243, 243 } },
	{ TUI_BAR_OVER, { 166, 166 } }, { TUI_BAR_DROP, { 124, 94 } }, { TUI_MARK, { 243, 243 } },
	{ TUI_ABOVE, { 166, 166 } }, { TUI_BELOW, { 25, 25 } },
	{ TUI_EXPERT_COLOUR + 0, { 26, 33 } }, { TUI_EXPERT_COLOUR + 1, { 130, 202 } },
	{ TUI_EXPERT_COLOUR + 2, { 29, 67 } }, { TUI_EXPERT_COLOUR + 3, { 161, 124 } },
	{ TUI_EXPERT_COLOUR + 4, { 91, 54 } }, { TUI_EXPERT_COLOUR + 5, { 31, 21 } },
	{ TUI_EXPERT_COLOUR + 6, { 94, 131 } }, { TUI_EXPERT_COLOUR + 7, { 239, 235 } },
};

struct tui_paint tui_paint(enum tui_palette p, int light, int colours, int style)
{
	const struct row *r = &rows[style];
	struct tui_paint out;

	for (size_t i = 0; p == TUI_SAFE && i < sizeof safe / sizeof *safe; i++)
		if (safe[i].style == style)
			r = &safe[i].row;
	out = colours >= 256 ? (struct tui_paint){ r->fg, r->bg, r->attr } :
		colours ? (struct tui_paint){ r->fg8, r->bg8, r->attr } : (struct tui_paint){ -1, -1,
			r->mono };
	for (size_t i = 0; light && colours >= 256 && i < sizeof on_light / sizeof *on_light; i++)
		if (on_light[i].style == style)
			out.fg = on_light[i].fg[p];
	if (light && colours && colours < 256 && (out.fg == WHITE || out.fg == YELLOW) && out.bg < 0)
		out.fg = out.fg == WHITE ? -1 : MAGENTA; /* neither can be read on white */
	return out;
}

uint32_t tui_rgb(int colour)
{
	static const uint32_t first[16] = { 0x000000, 0xcd0000, 0x00cd00, 0xcdcd00, 0x0000ee, 0xcd00cd,
		0x00cdcd, 0xe5e5e5, 0x7f7f7f, 0xff0000, 0x00ff00, 0xffff00, 0x5c5cff, 0xff00ff, 0x00ffff,
		0xffffff };
	static const uint8_t step[6] = { 0, 95, 135, 175, 215, 255 };
	uint32_t grey;

	if (colour < 0 || colour > 255)
		return 0;
	if (colour < 16)
		return first[colour];
	if (colour > 231) {
		grey = 8 + 10 * (uint32_t)(colour - 232);
		return grey << 16 | grey << 8 | grey;
	}
	colour -= 16;
	return (uint32_t)step[colour / 36] << 16 | (uint32_t)step[colour / 6 % 6] << 8 |
		step[colour % 6];
}
