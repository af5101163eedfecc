/* heatmap.c - screen 2: where is the load? Layer x expert, with a cursor that names the cell. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tui/fmt.h"
#include "tui/layout.h"
#include "tui/panel.h"
#include "view/table.h"

enum { FIRST_ROW, FIRST_COL, ZOOM, PAGE }; /* in mem */

/* "layer 3, expert 7: 4.10x its fair share - 25.6 % of picks (fair 6.25 %), 94,311 of 368,440" */
static void draw_cursor(struct tui_ctx *c, struct tui_rect r)
{
	const struct view_layer *l = &c->d->layers.layer[c->s->layer];
	size_t e = c->s->expert;
	double picks = (double)l->tokens * l->k, mean;
	char share[TUI_FMT], fair[TUI_FMT], n[TUI_FMT], all[TUI_FMT], rel[TUI_FMT];
	int level = tui_heat_level(l->tokens ? l->rel[e] : NAN), x = r.x;

	x += tui_textf(c->g, x, r.y, r.w, TUI_STRONG, "layer %u, expert %zu: ", l->layer, e);
	if (!l->tokens) {
		tui_text(c->g, x, r.y, r.x + r.w - x, TUI_NODATA, "no data");
		return;
	}
	tui_fmt_rel(rel, sizeof rel, l->rel[e]);
	x += tui_textf(c->g, x, r.y, r.x + r.w - x, level > TUI_HEAT_FAIR ? TUI_ABOVE :
		level < TUI_HEAT_FAIR ? TUI_BELOW : TUI_STRONG, "%s\xc3\x97 its fair share", rel);
	if (!isnan(tui_base_ratio(c->d, c->s->layer, e)))
		x += tui_textf(c->g, x, r.y, r.x + r.w - x, TUI_STRONG, ", %s\xc3\x97 the baseline",
			tui_fmt_rel(rel, sizeof rel, tui_base_ratio(c->d, c->s->layer, e)));
	mean = l->counts[e] ? l->weights[e] / (double)l->counts[e] : NAN;
	tui_fmt_percent(share, sizeof share, (double)l->counts[e] / picks);
	tui_fmt_percent(fair, sizeof fair, 1.0 / l->n_expert);
	tui_fmt_count(n, sizeof n, l->counts[e]);
	tui_fmt_count(all, sizeof all, l->tokens * l->k);
	x += tui_textf(c->g, x, r.y, r.x + r.w - x, TUI_TEXT, ", %s of picks (fair %s)", share, fair);
	if (r.x + r.w - x > 26)
		x += tui_textf(c->g, x, r.y, r.x + r.w - x, TUI_DIM, ", %s of %s", n, all);
	if (r.x + r.w - x > 26 && !isnan(mean))
		tui_textf(c->g, x, r.y, r.x + r.w - x, TUI_DIM, ", mean gate weight %.3f", mean);
}

/* The zooms that change something lie between these. */
static void clamp_zoom(int w, int n_expert, int *zoom)
{
	struct tui_mapfit a, b;

	while (*zoom) {
		int toward = *zoom > 0 ? -1 : 1;

		a = tui_layout_map(w, n_expert, 5, *zoom);
		b = tui_layout_map(w, n_expert, 5, *zoom + toward);
		if (a.cell != b.cell || a.group != b.group)
			return;
		*zoom += toward;
	}
}

/* The colour scale and, if it is not all, what part of the map is shown and how many experts a cell
 * stands for: in as many words as fit beside the scale, which gives way to the fewest. */
static void draw_legend(struct tui_ctx *c, struct tui_rect r, const struct tui_mapfit *fit,
	const struct tui_map *m)
{
	const struct view_layers *l = &c->d->layers;
	unsigned l0 = l->layer[m->row[0]].layer, l1 = l->layer[m->row[m->n_row - 1]].layer;
	int n = tui_map_experts(l), e0 = m->first_col * fit->group, e1 = e0 + fit->visible * fit->group;
	int base = c->d->base.n > 0, used = tui_map_scale(c->g, r.x, r.y, r.w, base);
	char cell[48] = "", few[24] = "", t[3][160];

	if (fit->visible >= fit->n_col && m->n_row >= l->n && fit->group <= 1)
		return;
	e1 = (e1 < n ? e1 : n) - 1;
	if (fit->group > 1) {
		snprintf(cell, sizeof cell, "farthest of %d experts a cell; ", fit->group);
		snprintf(few, sizeof few, "%d a cell, ", fit->group);
	}
	snprintf(t[0], sizeof t[0], "%sexperts %d\xe2\x80\x93%d of %d, layers L%u\xe2\x80\x93L%u of "
		"%zu", cell, e0, e1, n, l0, l1, l->n);
	snprintf(t[1], sizeof t[1], "%sE%d\xe2\x80\x93%d of %d, L%u\xe2\x80\x93%u of %zu",
		few, e0, e1, n, l0, l1, l->n);
	snprintf(t[2], sizeof t[2], "%sL%u\xe2\x80\x93%u of %zu", few, l0, l1, l->n);
	for (int i = 0; i < 4; i++) {
		const char *s = t[i < 3 ? i : 2];

		if (i == 3) {
			tui_fill(c->g, r, TUI_TEXT, ' ');
			used = tui_map_scale(c->g, r.x, r.y, r.w - tui_columns(c->g, s) - 2, base);
		}
		if (tui_columns(c->g, s) + 2 <= r.w - used) {
			tui_right(c->g, r.x + used, r.y, r.w - used, TUI_DIM, s);
			return;
		}
	}
}

static void draw(struct tui_ctx *c, struct tui_rect r, int *mem)
{
	const struct view_layers *l = &c->d->layers;
	int n_expert = tui_map_experts(l), rows = r.h - 3, w = r.w - 2;
	size_t row[MOE_MAX_LAYER];
	struct tui_map m = { .row = row, .cursor = 1 };
	struct tui_mapfit fit;

	if (rows < 1 || !l->n)
		return;
	clamp_zoom(w, n_expert, &mem[ZOOM]);
	fit = tui_layout_map(w, n_expert, 5, mem[ZOOM]);
	if (fit.visible < 1)
		return;
	m.tall = tui_map_tall(c->g, rows, l->n);
	mem[PAGE] = rows;
	mem[FIRST_ROW] = tui_scroll(mem[FIRST_ROW], (int)c->s->layer, rows, (int)l->n);
	mem[FIRST_COL] = tui_scroll(mem[FIRST_COL], (int)c->s->expert / fit.group, fit.visible,
		fit.n_col);
	for (; m.n_row < l->n - (size_t)mem[FIRST_ROW] && m.n_row < (size_t)rows &&
	       m.n_row < MOE_MAX_LAYER; m.n_row++)
		row[m.n_row] = (size_t)mem[FIRST_ROW] + m.n_row;
	m.first_col = mem[FIRST_COL];
	draw_cursor(c, (struct tui_rect){ r.x + 1, r.y, w, 1 });
	tui_map_draw(c, (struct tui_rect){ r.x + 1, r.y + 1, w, rows + 1 }, &fit, &m);
	draw_legend(c, (struct tui_rect){ r.x + 1, r.y + r.h - 1, w, 1 }, &fit, &m);
}

static int key(struct tui_ctx *c, int k, int *mem)
{
	const struct view_layers *l = &c->d->layers;
	size_t n = l->n ? l->layer[c->s->layer].n_expert : 0;

	if (k == '+' || k == '=')
		mem[ZOOM]++;
	else if (k == '-')
		mem[ZOOM]--;
	else if (k == '0')
		mem[ZOOM] = 0;
	else if (k == TUI_KEY_ENTER)
		c->s->screen = TUI_SCREEN_EXPERT;
	else
		return tui_move(k, &c->s->expert, n, &c->s->layer, l->n, (size_t)mem[PAGE]);
	return 1;
}

int tui_table_experts(struct tui_ctx *c, const int *mem, struct view_table *t, struct moe_err *e)
{
	static const struct view_col cols[] = { { "layer", "", VIEW_INT, 0 },
		{ "expert", "", VIEW_INT, 0 },
		{ "picks", "", VIEW_INT, 0 }, { "tokens", "", VIEW_INT, 0 }, { "rel", "", VIEW_REAL, 6 },
		{ "mean_weight", "", VIEW_REAL, 6 }, { "over_baseline", "", VIEW_REAL, 6 } };
	const struct view_layers *l = &c->d->layers;
	size_t first = c->s->screen == TUI_SCREEN_LAYER ? c->s->layer : 0;
	size_t end = c->s->screen == TUI_SCREEN_LAYER ? first + 1 : l->n;

	(void)mem;
	view_table_init(t, cols, sizeof cols / sizeof *cols);
	for (size_t i = first; i < end && i < l->n; i++)
		for (size_t k = 0; k < l->layer[i].n_expert; k++) {
			const struct view_layer *v = &l->layer[i];
			struct view_cell *row = view_table_row(t, e);

			if (!row)
				return -1;
			view_set_int(row, v->layer);
			view_set_int(row + 1, (int64_t)k);
			view_set_int(row + 2, (int64_t)v->counts[k]);
			view_set_int(row + 3, (int64_t)v->tokens);
			view_set_real(row + 4, v->rel[k]);
			view_set_real(row + 5, v->counts[k] ? v->weights[k] / (double)v->counts[k] : NAN);
			view_set_real(row + 6, tui_base_ratio(c->d, i, k));
		}
	return 0;
}

const struct tui_panel tui_panel_heatmap = {
	.name = "Heatmap",
	.question = "Where is the load?",
	.min_w = 40, .min_h = 10,
	.applies = TUI_BY_ALL,
	.hints = { { "\xe2\x86\x90\xe2\x86\x91\xe2\x86\x93\xe2\x86\x92", "move" }, { "+ -", "zoom" },
		{ "Enter", "expert" }, { 0 } },
	.draw = draw,
	.key = key,
	.table = tui_table_experts,
};
