/* picture.c - see picture.h. */
#include "tui/picture.h"

#include "base/err.h"

#ifndef MOE_CAIRO

int tui_picture_can(struct moe_err *e)
{
	err_set(e, MOE_ERR_SYS, "this program was built without cairo: install libcairo2-dev and make "
		"again");
	return 0;
}

int tui_picture(const struct tui_grid *g, enum tui_palette palette, int light, void *file,
	struct moe_err *e)
{
	(void)g, (void)palette, (void)light, (void)file;
	tui_picture_can(e);
	return -1;
}

#else

#include <cairo.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

#define W TUI_PIXELS_X
#define H TUI_PIXELS_Y
#define FONT_SIZE 16.0
#define BASELINE 15

static void set_colour(cairo_t *c, uint32_t rgb)
{
	cairo_set_source_rgb(c, (rgb >> 16) / 255.0, (rgb >> 8 & 255) / 255.0, (rgb & 255) / 255.0);
}

static void box(cairo_t *c, double x, double y, double w, double h)
{
	cairo_rectangle(c, x, y, w, h);
	cairo_fill(c);
}

/* Lines to the neighbours: 1 = left, 2 = right, 4 = up, 8 = down; 0 = no such character. */
static unsigned lines_of(uint32_t cp)
{
	switch (cp) {
	case 0x2500: return 1 | 2;
	case 0x2502: case 0x2506: case 0x250a: return 4 | 8;
	case 0x250c: return 2 | 8;
	case 0x2510: return 1 | 8;
	case 0x2514: return 2 | 4;
	case 0x2518: return 1 | 4;
	default: return 0;
	}
}

/* Characters that must fill their cell or meet their neighbours: 1 if it was one. */
static int draw_shape(cairo_t *c, double x, double y, uint32_t cp)
{
	unsigned to = lines_of(cp);
	double part;

	if (cp == 0x2506 || cp == 0x250a) { /* dashed */
		for (int i = 0; i < 4; i++)
			box(c, x + W / 2, y + i * (H / 4) + 1, 1, H / 4 - 2);
	} else if (to) {
		if (to & 3)
			box(c, to & 1 ? x : x + W / 2, y + H / 2, (to & 3) == 3 ? W : W / 2 + (to & 1), 1);
		if (to & 12)
			box(c, x + W / 2, to & 4 ? y : y + H / 2, 1, (to & 12) == 12 ? H : H / 2 + 1);
	} else if (cp >= 0x2581 && cp <= 0x2588) { /* from below, in eighths */
		part = (cp - 0x2580) / 8.0 * H;
		box(c, x, y + H - part, W, part);
	} else if (cp >= 0x2589 && cp <= 0x258f) { /* from the left */
		box(c, x, y, (0x2590 - cp) / 8.0 * W, H);
	} else if (cp >= 0x2591 && cp <= 0x2593) { /* shades: dots, as many as it is dark */
		for (int i = 0; i < W * H / 4; i++) {
			int px = i % (W / 2) * 2, py = i / (W / 2) * 2;

			box(c, x + px, y + py, cp == 0x2591 ? 1 : cp == 0x2592 ? 1.4 : 1.75,
				cp == 0x2591 ? 1 : cp == 0x2592 ? 1.4 : 1.75);
		}
	} else {
		return 0;
	}
	return 1;
}

struct look {
	uint32_t fg, bg;
	unsigned attr;
};

static struct look look_of(const struct tui_grid *g, enum tui_palette palette, int light, int style)
{
	struct tui_paint p = tui_paint(palette, light, g->look.colours, style);
	uint32_t text = light ? 0x202020 : 0xd8d8d8, paper = light ? 0xffffff : 0x16181d;
	struct look l = { p.fg < 0 ? text : tui_rgb(p.fg), p.bg < 0 ? paper : tui_rgb(p.bg), p.attr };

	if (p.attr & TUI_REVERSE)
		l = (struct look){ l.bg, l.fg, p.attr };
	return l;
}

/* The first face that has the character; fontconfig puts another in the place of one that is
 * missing. */
static void choose_face(cairo_t *c, const char *s, int ascii, unsigned attr)
{
	static const char *const face[] = { "DejaVu Sans Mono", "monospace", "Noto Sans Mono CJK JP",
		"sans-serif" };
	cairo_glyph_t *glyph;
	int n, there = 0;

	for (size_t i = 0; i < sizeof face / sizeof *face && !there; i++) {
		cairo_select_font_face(c, face[i], CAIRO_FONT_SLANT_NORMAL, attr & TUI_BOLD ?
			CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
		glyph = NULL;
		there = ascii || (!cairo_scaled_font_text_to_glyphs(cairo_get_scaled_font(c), 0, 0, s, -1,
			&glyph, &n, NULL, NULL, NULL) && n && glyph[0].index);
		cairo_glyph_free(glyph);
	}
}

static void draw_cell(cairo_t *c, const struct tui_cell *cell, double x, double y, int wide,
	const struct look *l)
{
	int columns = 1 + wide;
	size_t n = 0;
	char s[12];

	set_colour(c, l->bg);
	box(c, x, y, W * columns, H);
	set_colour(c, l->fg);
	if (l->attr & TUI_UNDERLINE)
		box(c, x, y + H - 2, W * columns, 1);
	if (cell->cp == ' ' || draw_shape(c, x, y, cell->cp))
		return;
	n = text_encode(cell->cp, s);
	if (cell->mark)
		n += text_encode(cell->mark, s + n);
	s[n] = 0;
	choose_face(c, s, cell->cp < 0x80, l->attr);
	cairo_move_to(c, x, y + BASELINE);
	cairo_show_text(c, s);
}

static cairo_status_t put(void *file, const unsigned char *data, unsigned n)
{
	return fwrite(data, 1, n, file) == n ? CAIRO_STATUS_SUCCESS : CAIRO_STATUS_WRITE_ERROR;
}

int tui_picture_can(struct moe_err *e)
{
	(void)e;
	return 1;
}

int tui_picture(const struct tui_grid *g, enum tui_palette palette, int light, void *file,
	struct moe_err *e)
{
	cairo_surface_t *s = cairo_image_surface_create(CAIRO_FORMAT_RGB24, g->w * W, g->h * H);
	cairo_t *c = cairo_create(s);
	cairo_status_t status;

	cairo_set_antialias(c, CAIRO_ANTIALIAS_GRAY);
	cairo_set_font_size(c, FONT_SIZE);
	for (int y = 0; y < g->h; y++)
		for (int x = 0; x < g->w; x++) {
			const struct tui_cell *cell = g->cell + (size_t)y * (size_t)g->w + x;
			struct look l = look_of(g, palette, light, cell->style);

			if (cell->cp)
				draw_cell(c, cell, x * W, y * H, x + 1 < g->w && !cell[1].cp, &l);
		}
	status = cairo_status(c);
	if (!status)
		status = cairo_surface_write_to_png_stream(s, put, file);
	cairo_destroy(c);
	cairo_surface_destroy(s);
	return status ? err_set(e, MOE_ERR_SYS, "drawing %d by %d characters: %s", g->w, g->h,
		cairo_status_to_string(status)) : 0;
}

#endif
