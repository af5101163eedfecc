/*
 * map.c - the layer x expert map and its scale, as the overview and the heat map screen show it.
 *
 * With a baseline a cell shows the load over that in the baseline: red = more than it was.
 *
 * A cell that stands for several experts shows the one farthest from its fair share, because that
 * is the one that must not be missed. An expert that was never picked shows as x.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tui/fmt.h"
#include "tui/layout.h"
#include "tui/panel.h"

int tui_map_experts(const struct view_layers *l)
{
	int n = 0;

	for (size_t i = 0; i < l->n; i++)
		n = l->layer[i].n_expert > n ? l->layer[i].n_expert : n;
	return n;
}

/* The expert of [first, first + n) that is farthest from fair share, -1 if there is none. */
static int farthest(const struct view_layer *l, int first, int n)
{
	int best = -1;
	double far = -1;

	for (int i = first; i < first + n && i < l->n_expert; i++) {
		double d = l->rel[i] > 0 ? fabs(log(l->rel[i])) : INFINITY;

		if (isnan(l->rel[i]))
			continue;
		if (best < 0 || d > far)
			best = i, far = d;
	}
	return best;
}

int tui_map_tall(const struct tui_grid *g, int h, size_t n_row)
{
	int tall = n_row ? h / (int)n_row : 1;

	return g->look.colours < 256 || tall < 1 ? 1 : tall > 3 ? 3 : tall;
}

static void draw_cell(struct tui_grid *g, struct tui_rect r, const struct view_layer *l, int expert,
	double ratio, int cursor)
{
	double rel = expert < 0 || !l->tokens ? NAN : !isnan(ratio) ? ratio : l->rel[expert];
	int level = tui_heat_level(rel);
	enum tui_style st = cursor ? TUI_CURSOR : level < 0 ? TUI_NODATA :
		(enum tui_style)(TUI_HEAT + level);
	uint32_t glyph = tui_heat_glyph(level, g->look);
	int x = r.x, y = r.y + (r.h - 1) / 2, w = r.w;
	char t[TUI_FMT];

	if (level >= 0 && l->counts[expert] == 0)
		glyph = 'x';
	tui_fill(g, r, st, ' ');
	if (w >= 4 && level >= 0 && glyph != 'x') {
		if (w == 4)
			snprintf(t, sizeof t, rel < 99.95 ? "%.1f" : "%.0f", rel);
		else
			tui_fmt_rel(t, sizeof t, rel);
		tui_right(g, x, y, w - (w > 5), st, t);
	} else if (g->look.colours >= 256 || glyph == 'x' || level < 0) {
		tui_put(g, x + w / 2, y, st, glyph);
	} else {
		tui_fill(g, (struct tui_rect){ x, y, w > 2 ? w - 1 : w, 1 }, st, glyph);
	}
	if (cursor && g->look.colours < 256 && w >= 3)
		tui_put(g, x, y, st, '>');
}

/* Expert numbers above the columns, as many as fit without touching. */
static void draw_axis(struct tui_grid *g, struct tui_rect r, const struct tui_mapfit *fit,
	const struct tui_map *m, int n_expert)
{
	int free_at = r.x + fit->label;

	for (int i = 0; i < fit->visible; i++) {
		int e = (m->first_col + i) * fit->group, x = r.x + fit->label + i * fit->cell, len;
		char t[16];

		if (e >= n_expert)
			break;
		len = snprintf(t, sizeof t, "%d", e);
		if (fit->cell >= 3)
			x += fit->cell - len - (fit->cell > 5);
		else if (i && e % (fit->group > 1 ? fit->group * 8 : fit->cell > 1 ? 4 : 8))
			continue;
		if (x < free_at || x + len > r.x + r.w)
			continue;
		tui_text(g, x, r.y, len, TUI_DIM, t);
		free_at = x + len + 1;
	}
}

void tui_map_draw(struct tui_ctx *c, struct tui_rect r, const struct tui_mapfit *fit,
	const struct tui_map *m)
{
	const struct view_layers *l = &c->d->layers;
	int cursor_col = (int)c->s->expert / fit->group;

	if (r.h < 2 || fit->visible < 1)
		return;
	draw_axis(c->g, r, fit, m, tui_map_experts(l));
	for (size_t i = 0; i < m->n_row && (int)(i + 1) * m->tall + 1 <= r.h; i++) {
		const struct view_layer *v = &l->layer[m->row[i]];
		int y = r.y + 1 + (int)i * m->tall, here = m->cursor && m->row[i] == c->s->layer;

		tui_textf(c->g, r.x, y + (m->tall - 1) / 2, fit->label - 1,
			here ? TUI_STRONG : TUI_DIM, "L%u", v->layer);
		for (int j = 0; j < fit->visible; j++) {
			int col = m->first_col + j, e = col * fit->group;

			if (e >= v->n_expert)
				break;
			e = farthest(v, e, fit->group);
			draw_cell(c->g, (struct tui_rect){ r.x + fit->label + j * fit->cell, y,
				fit->cell, m->tall }, v, e,
				e < 0 ? NAN : tui_base_ratio(c->d, m->row[i], (size_t)e), here &&
				col == cursor_col);
		}
		tui_hit(c, &(struct tui_hit){ { r.x + fit->label, y, fit->visible * fit->cell, m->tall },
			TUI_HIT_CELL, m->row[i], (size_t)(m->first_col * fit->group), fit->cell, fit->group });
	}
}

int tui_map_scale(struct tui_grid *g, int x, int y, int w, int base)
{
	static const char *const full[] = { "<.25", ".25", ".5", ".71", "fair", "1.15", "1.4", "2",
		"4\xc3\x97" };
	/* signs apart from numbers */
	int x0 = x, names = w >= 54, air = g->look.colours < 256 && w >= 66;

	if (w < 26)
		return 0;
	if (!names)
		x += tui_text(g, x, y, 4, TUI_DIM, "0 ");
	for (int i = 0; i < TUI_HEAT_LEVELS; i++) {
		enum tui_style st = (enum tui_style)(TUI_HEAT + i);
		uint32_t glyph = tui_heat_glyph(i, g->look);

		tui_put(g, x, y, st, g->look.colours >= 256 ? ' ' : glyph);
		tui_put(g, x + 1, y, st, glyph);
		x += 2;
		if (names) {
			x += air;
			x += tui_text(g, x, y, 8, st, base && i == TUI_HEAT_FAIR ? "same" : full[i]);
			tui_put(g, x++, y, st, ' ');
		}
	}
	if (!names)
		x += tui_text(g, x, y, 8, TUI_DIM, base ? " 4\xc3\x97 base" : " 4\xc3\x97 fair");
	if (x0 + w - x >= 15)
		x += tui_text(g, x, y, x0 + w - x, TUI_DIM, "  x never picked");
	return x - x0;
}
