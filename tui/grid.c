/* grid.c - see grid.h. */
#include "tui/grid.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

#define TEXT_MAX 4096 /* bytes of one piece of text after escaping; more is cut */

int tui_grid_init(struct tui_grid *g, int w, int h, struct tui_look look)
{
	memset(g, 0, sizeof *g);
	g->w = w < 1 ? 1 : w > TUI_MAX_W ? TUI_MAX_W : w;
	g->h = h < 1 ? 1 : h > TUI_MAX_H ? TUI_MAX_H : h;
	g->look = look;
	g->cell = malloc((size_t)g->w * (size_t)g->h * sizeof *g->cell);
	if (!g->cell)
		return -1;
	tui_grid_clear(g);
	return 0;
}

void tui_grid_free(struct tui_grid *g)
{
	free(g->cell);
	memset(g, 0, sizeof *g);
}

void tui_grid_clear(struct tui_grid *g)
{
	size_t n = (size_t)g->w * (size_t)g->h;

	memset(g->cell, 0, n * sizeof *g->cell); /* padding too: rows are compared as bytes */
	for (size_t i = 0; i < n; i++)
		g->cell[i].cp = ' ';
}

/* Nearest ASCII of the characters that the panels draw with; '?' for those of other texts. */
static uint32_t ascii_of(uint32_t cp)
{
	static const struct { uint32_t cp; char c; } map[] = {
		{ 0x2500, '-' }, { 0x2502, '|' }, { 0x250c, '+' }, { 0x2510, '+' }, { 0x2514, '+' },
		{ 0x2518, '+' }, { 0x2506, ':' }, { 0x250a, ':' }, { 0x2588, '#' }, { 0x2593, '%' },
		{ 0x2592, '=' }, { 0x2591, '-' }, { 0x258f, ' ' }, { 0x258e, ' ' }, { 0x258d, ' ' },
		{ 0x258c, '#' }, { 0x258b, '#' }, { 0x258a, '#' }, { 0x2589, '#' }, { 0x25cf, '*' },
		{ 0x25cb, 'o' }, { 0x25b2, '!' }, { 0x25b6, '>' }, { 0x25c0, '<' }, { 0x2190, '<' },
		{ 0x2192, '>' }, { 0x2191, '^' }, { 0x2193, 'v' }, { 0x2713, '*' }, { 0xd7, 'x' },
		{ 0xb7, '.' }, { 0x2026, '~' }, { 0x2013, '-' }, { 0x2014, '-' }, { 0xb1, '~' },
		{ 0x2264, '<' }, { 0x2265, '>' }, { 0x2016, '"' }, { 0x21b5, '/' },
	};

	for (size_t i = 0; i < sizeof map / sizeof map[0]; i++)
		if (map[i].cp == cp)
			return (uint32_t)map[i].c;
	return '?';
}

static int cp_width(uint32_t cp)
{
	char s[5] = { 0 };

	if (cp < 0x7f)
		return 1;
	text_encode(cp, s);
	return (int)text_width(s);
}

/* Blank the other half when one half of a wide character is overwritten. */
static void split_wide(struct tui_grid *g, struct tui_cell *c, int x)
{
	if (c->cp == 0 && x > 0)
		c[-1].cp = ' ';
	if (x + 1 < g->w && c->cp && c[1].cp == 0)
		c[1].cp = ' ';
}

void tui_put(struct tui_grid *g, int x, int y, enum tui_style style, uint32_t cp)
{
	struct tui_cell *c;
	int w;

	if (x < 0 || y < 0 || x >= g->w || y >= g->h)
		return;
	if (cp < 0x20 || (cp >= 0x7f && cp < 0xa0) || cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000))
		cp = '?';
	if (cp >= 0x80 && !g->look.utf8)
		cp = ascii_of(cp);
	w = cp_width(cp);
	if (w == 0 || (w == 2 && x + 1 >= g->w))
		cp = '?', w = 1;
	c = &g->cell[(size_t)y * (size_t)g->w + (size_t)x];
	split_wide(g, c, x);
	c->cp = cp;
	c->mark = 0;
	c->style = (uint8_t)style;
	if (w == 2) {
		split_wide(g, c + 1, x + 1);
		c[0].cp = cp;
		c[1].cp = 0;
		c[1].mark = 0;
		c[1].style = (uint8_t)style;
	}
}

void tui_fill(struct tui_grid *g, struct tui_rect r, enum tui_style style, uint32_t cp)
{
	for (int y = r.y < 0 ? 0 : r.y; y < r.y + r.h && y < g->h; y++)
		for (int x = r.x < 0 ? 0 : r.x; x < r.x + r.w && x < g->w; x++)
			tui_put(g, x, y, style, cp);
}

void tui_restyle(struct tui_grid *g, struct tui_rect r, enum tui_style style)
{
	for (int y = r.y < 0 ? 0 : r.y; y < r.y + r.h && y < g->h; y++)
		for (int x = r.x < 0 ? 0 : r.x; x < r.x + r.w && x < g->w; x++)
			g->cell[(size_t)y * (size_t)g->w + (size_t)x].style = (uint8_t)style;
}

/* Make text safe; the result is never NULL. */
static const char *safe(struct buf *b, const char *s)
{
	size_t n = strlen(s), i;

	for (i = 0; i < n && s[i] >= 0x20 && s[i] < 0x7f; i++)
		;
	if (i == n)
		return s;
	buf_init(b, TEXT_MAX);
	text_escape(b, s, n > TEXT_MAX / 4 ? TEXT_MAX / 4 : n, TEXT_TERMINAL);
	return b->data ? b->data : "";
}

/* Columns of a code point on this grid: without UTF-8 each is one '?' or its ASCII likeness. */
static int look_width(const struct tui_grid *g, uint32_t cp)
{
	int w = cp_width(cp);

	return g->look.utf8 || w == 0 ? w : 1;
}

static int columns(const struct tui_grid *g, const char *s, size_t n)
{
	uint32_t cp;
	size_t i, len;
	int w = 0;

	for (i = 0; i < n; i += len) {
		len = text_decode(s + i, n - i, &cp);
		if (!len)
			break;
		w += look_width(g, cp);
	}
	return w;
}

/* Put safe text s[0..n-1], cut at max columns. */
static int put_text(struct tui_grid *g, int x, int y, int max, enum tui_style style,
	const char *s, size_t n)
{
	int cut = columns(g, s, n) > max, used = 0, w;
	uint32_t cp;
	size_t len;

	if (max <= 0)
		return 0;
	for (size_t i = 0; i < n; i += len) {
		len = text_decode(s + i, n - i, &cp);
		if (!len)
			break;
		w = look_width(g, cp);
		if (w == 0) { /* a combining mark joins the cell before it */
			int at = x + used - 1;

			if (g->look.utf8 && used && at >= 0 && at < g->w && y >= 0 && y < g->h)
				g->cell[(size_t)y * (size_t)g->w + (size_t)at].mark = cp;
			continue;
		}
		if (used + w > max - cut)
			break;
		tui_put(g, x + used, y, style, cp);
		used += w;
	}
	if (cut)
		tui_put(g, x + used++, y, style, 0x2026);
	return used;
}

int tui_text(struct tui_grid *g, int x, int y, int max, enum tui_style style, const char *s)
{
	struct buf b = { 0 };
	const char *t = safe(&b, s);
	int n = put_text(g, x, y, max, style, t, strlen(t));

	buf_free(&b);
	return n;
}

int tui_textf(struct tui_grid *g, int x, int y, int max, enum tui_style style, const char *fmt,
	...)
{
	char s[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(s, sizeof s, fmt, ap);
	va_end(ap);
	return tui_text(g, x, y, max, style, s);
}

int tui_columns(const struct tui_grid *g, const char *s)
{
	struct buf b = { 0 };
	const char *t = safe(&b, s);
	int n = columns(g, t, strlen(t));

	buf_free(&b);
	return n;
}

int tui_right(struct tui_grid *g, int x, int y, int max, enum tui_style style, const char *s)
{
	int w = tui_columns(g, s);

	return tui_text(g, w < max ? x + max - w : x, y, max, style, s);
}

/* Bytes of s[0..n-1] that go on a line of `max` columns; *next = where the following begins. */
static size_t line_break(const struct tui_grid *g, const char *s, size_t n, int max, size_t *next)
{
	size_t i = 0, space = 0, len;
	int used = 0, w;
	uint32_t cp;

	for (; i < n; i += len) {
		len = text_decode(s + i, n - i, &cp);
		if (!len) {
			n = i;
			break;
		}
		w = look_width(g, cp);
		if (cp == ' ' && s[i + 1] != '%') /* "48 %" stays together */
			space = i;
		if (used + w > max) {
			if (cp == ' ') {
				*next = i + 1;
				return i;
			}
			*next = space ? space + 1 : i ? i : len;
			return space ? space : i;
		}
		used += w;
	}
	*next = n;
	return n;
}

int tui_wrap(struct tui_grid *g, struct tui_rect r, enum tui_style style, const char *s)
{
	struct buf b = { 0 };
	const char *t = safe(&b, s);
	size_t n = strlen(t), i = 0, next, len;
	int y = 0;

	while (i < n && y < r.h && r.w > 0) {
		len = y + 1 == r.h ? n - i : line_break(g, t + i, n - i, r.w, &next);
		put_text(g, r.x, r.y + y, r.w, style, t + i, len);
		y++;
		if (y == r.h || next == 0)
			break;
		i += next;
	}
	buf_free(&b);
	return y;
}

int tui_wrap_lines(const struct tui_grid *g, int w, const char *s)
{
	struct buf b = { 0 };
	const char *t = safe(&b, s);
	size_t n = strlen(t), i = 0, next;
	int lines = 0;

	while (i < n && w > 0) {
		line_break(g, t + i, n - i, w, &next);
		i += next ? next : n;
		lines++;
	}
	buf_free(&b);
	return lines;
}

struct tui_rect tui_frame(struct tui_grid *g, struct tui_rect r, const char *title,
	const char *note)
{
	struct tui_rect in = { r.x + 1, r.y + 1, r.w - 2, r.h - 2 };
	int used = 0;

	if (r.w < 2 || r.h < 2)
		return (struct tui_rect){ r.x, r.y, 0, 0 };
	for (int x = r.x + 1; x < r.x + r.w - 1; x++) {
		tui_put(g, x, r.y, TUI_FRAME, 0x2500);
		tui_put(g, x, r.y + r.h - 1, TUI_FRAME, 0x2500);
	}
	for (int y = r.y + 1; y < r.y + r.h - 1; y++) {
		tui_put(g, r.x, y, TUI_FRAME, 0x2502);
		tui_put(g, r.x + r.w - 1, y, TUI_FRAME, 0x2502);
	}
	tui_put(g, r.x, r.y, TUI_FRAME, 0x250c);
	tui_put(g, r.x + r.w - 1, r.y, TUI_FRAME, 0x2510);
	tui_put(g, r.x, r.y + r.h - 1, TUI_FRAME, 0x2514);
	tui_put(g, r.x + r.w - 1, r.y + r.h - 1, TUI_FRAME, 0x2518);
	if (title && r.w > 6) {
		tui_put(g, r.x + 1, r.y, TUI_TITLE, ' ');
		used = tui_text(g, r.x + 2, r.y, r.w - 4, TUI_TITLE, title);
		tui_put(g, r.x + 2 + used, r.y, TUI_TITLE, ' ');
	}
	if (note && used + tui_columns(g, note) + 7 < r.w) {
		int n = tui_columns(g, note);

		tui_put(g, r.x + r.w - 3 - n, r.y, TUI_DIM, ' ');
		tui_text(g, r.x + r.w - 2 - n, r.y, n, TUI_DIM, note);
		tui_put(g, r.x + r.w - 2, r.y, TUI_DIM, ' ');
	}
	return in;
}

void tui_bar(struct tui_grid *g, int x, int y, int w, double value, double full, double capacity)
{
	int fair = full > 1 ? (int)(w / full) : -1;
	int cap = capacity > 0 && capacity < full ? (int)(capacity / full * w) : -1;
	double v = isnan(value) || value < 0 ? 0 : value > full ? full : value;
	int eighths = full > 0 ? (int)lround(v / full * w * 8) : 0;

	for (int i = 0; i < w; i++) {
		int part = eighths - i * 8;
		enum tui_style st = cap >= 0 && i >= cap ? TUI_BAR_DROP : i >= fair && fair >= 0 ?
			TUI_BAR_OVER : TUI_BAR;
		uint32_t solid = g->look.colours ? 0x2588 : st == TUI_BAR ? 0x2588 :
			st == TUI_BAR_OVER ? 0x2593 : 0x2592;

		if (part >= 8)
			tui_put(g, x + i, y, st, solid);
		else if (i == fair && part <= 0)
			tui_put(g, x + i, y, TUI_MARK, 0x2502);
		else if (i == cap && part <= 0)
			tui_put(g, x + i, y, TUI_MARK, 0x250a);
		else if (part > 0)
			tui_put(g, x + i, y, st, 0x2590 - (uint32_t)part);
	}
}

void tui_grid_dump(const struct tui_grid *g, struct buf *out)
{
	char s[4];

	for (int y = 0; y < g->h; y++) {
		const struct tui_cell *c = g->cell + (size_t)y * (size_t)g->w;
		int end = g->w;

		while (end > 0 && c[end - 1].cp == ' ')
			end--;
		for (int x = 0; x < end; x++) {
			if (c[x].cp)
				buf_add(out, s, text_encode(c[x].cp, s));
			if (c[x].cp && c[x].mark)
				buf_add(out, s, text_encode(c[x].mark, s));
		}
		buf_char(out, '\n');
	}
}
