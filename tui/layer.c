/* layer.c - screen 3: how uneven is this layer, and would it drop tokens? */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tui/fmt.h"
#include "tui/layout.h"
#include "tui/panel.h"

#define CAPACITY 1.25 /* the factor that Switch and GShard train with */

enum { FIRST, PAGE, SORT }; /* in mem */
/* SORT: to add one, a row in both. */
static const char *const sort_name[] = { "busiest first", "by number", "largest weight first",
	"most changed first" };
enum { BY_LOAD, BY_NUMBER, BY_WEIGHT, BY_CHANGE, N_SORT };

struct ranked { double key; size_t expert; };

/* Largest first; ties by number, as the router breaks them. */
static int by_load(const void *pa, const void *pb)
{
	const struct ranked *a = pa, *b = pb;

	if (a->key != b->key)
		return a->key < b->key ? 1 : -1;
	return a->expert < b->expert ? -1 : a->expert > b->expert;
}

static double sort_key(const struct tui_ctx *c, const struct view_layer *l, size_t i, int sort)
{
	double ratio = tui_base_ratio(c->d, c->s->layer, i);
	double x = sort == BY_NUMBER ? 0 : sort == BY_WEIGHT ? l->counts[i] ? l->weights[i] /
		(double)l->counts[i] : -1 : sort == BY_CHANGE ? fabs(log(ratio)) : l->rel[i];

	return isnan(x) ? -1 : x;
}

static struct ranked *rank_experts(const struct tui_ctx *c, const struct view_layer *l, int sort)
{
	struct ranked *o = malloc((l->n_expert ? l->n_expert : 1) * sizeof *o);

	for (size_t i = 0; o && i < l->n_expert; i++)
		o[i] = (struct ranked){ sort_key(c, l, i, sort), i };
	if (o)
		qsort(o, l->n_expert, sizeof *o, by_load);
	return o;
}

struct figure { const char *name; char value[48]; };

static void figure_line(struct tui_grid *g, struct tui_rect r, const struct figure *f, size_t n)
{
	int x = r.x;

	for (size_t i = 0; i < n; i++) {
		int need = tui_columns(g, f[i].name) + 1 + tui_columns(g, f[i].value);

		if (x + need > r.x + r.w)
			return;
		x += tui_text(g, x, r.y, r.x + r.w - x, TUI_DIM, f[i].name) + 1;
		x += tui_text(g, x, r.y, r.x + r.w - x, TUI_STRONG, f[i].value) + 3;
	}
}

static void draw_figures(struct tui_ctx *c, struct tui_rect r, const struct view_layer *l)
{
	struct figure a[7] = { { "max/mean", "" }, { "H_n", "" }, { "dead", "" },
		{ "effective experts", "" }, { "busiest gets", "" }, { "Gini", "" }, { "CV", "" } };
	struct figure b[4] = { { "over capacity 1.25", "" }, { "90 % of picks by", "" },
		{ "margin", "" }, { "token entropy", "" } };
	char t[TUI_FMT];

	snprintf(a[0].value, sizeof a[0].value, "%s\xc3\x97", tui_fmt_rel(t, sizeof t, l->max_mean));
	tui_fmt_unit(a[1].value, sizeof a[1].value, l->entropy_norm);
	snprintf(a[2].value, sizeof a[2].value, "%u of %u", l->n_dead, l->n_expert);
	snprintf(a[3].value, sizeof a[3].value, "%.1f", l->n_eff);
	snprintf(a[4].value, sizeof a[4].value, "%s of tokens", tui_fmt_percent(t, sizeof t,
		l->top_rate));
	tui_fmt_unit(a[5].value, sizeof a[5].value, l->gini);
	tui_fmt_unit(a[6].value, sizeof a[6].value, l->cv);
	snprintf(b[0].value, sizeof b[0].value, "at least %s of picks", tui_fmt_percent(t, sizeof t,
		tui_over_capacity(l, CAPACITY)));
	snprintf(b[1].value, sizeof b[1].value, "%u experts", l->coverage90);
	snprintf(b[2].value, sizeof b[2].value, "%.3f", l->margin);
	tui_fmt_unit(b[3].value, sizeof b[3].value, l->token_entropy);
	figure_line(c->g, r, a, 7);
	r.y++;
	figure_line(c->g, r, b, isnan(l->margin) ? 2 : isnan(l->token_entropy) ? 3 : 4);
}

/* Where the columns of a row start. */
struct columns { int name, bar, bar_w, rel, base, share, sum, picks; }; /* base 0 = none */

static struct columns place(struct tui_rect r, int wide, int base)
{
	int right = r.x + r.w;
	struct columns c = { .name = r.x, .bar = r.x + 7 };

	c.picks = wide ? right - 13 : right;
	c.sum = c.picks - 9;
	c.share = c.sum - 9;
	c.base = base ? c.share - 9 : 0;
	c.rel = (base ? c.base : c.share) - 8;
	c.bar_w = c.rel - c.bar - 1;
	return c;
}

static void draw_titles(struct tui_grid *g, int y, const struct columns *k, double full)
{
	int fair = k->bar + (int)(k->bar_w / full);
	int cap = k->bar + (int)(CAPACITY / full * k->bar_w);

	tui_text(g, k->name, y, 6, TUI_DIM, "expert");
	if (fair - 9 > k->bar)
		tui_right(g, k->bar, y, fair - k->bar + 1, TUI_MARK, "fair share \xe2\x94\x82");
	if (CAPACITY < full && cap > fair + 1 && cap + 15 <= k->rel)
		tui_text(g, cap, y, 15, TUI_MARK, "\xe2\x94\x8a capacity 1.25");
	else if (CAPACITY < full && cap > fair + 1 && cap + 11 <= k->rel)
		tui_text(g, cap, y, 11, TUI_MARK, "\xe2\x94\x8a cap. 1.25");
	else if (CAPACITY < full && cap > fair + 1 && cap + 6 <= k->rel)
		tui_text(g, cap, y, 6, TUI_MARK, "\xe2\x94\x8a 1.25");
	if (k->base)
		tui_right(g, k->base, y, 8, TUI_DIM, "baseline");
	tui_right(g, k->rel, y, 7, TUI_DIM, "\xc3\x97 fair");
	tui_right(g, k->share, y, 8, TUI_DIM, "picks");
	tui_right(g, k->sum, y, 8, TUI_DIM, "so far");
	tui_right(g, k->picks, y, 12, TUI_DIM, "count");
}

static void draw_expert(struct tui_ctx *c, int y, const struct columns *k,
	const struct view_layer *l, size_t e, double sum, double full)
{
	double picks = (double)l->tokens * l->k;
	int here = e == c->s->expert, level = tui_heat_level(l->rel[e]);
	enum tui_style st = level > TUI_HEAT_FAIR ? TUI_ABOVE : level < TUI_HEAT_FAIR ? TUI_BELOW :
		TUI_TEXT;
	char t[TUI_FMT];

	tui_textf(c->g, k->name, y, 6, here ? TUI_CURSOR : TUI_TEXT, "%sE%zu ", here ? ">" : " ", e);
	tui_bar(c->g, k->bar, y, k->bar_w, l->rel[e], full, CAPACITY);
	tui_right(c->g, k->rel, y, 7, st, l->counts[e] ? tui_fmt_rel(t, sizeof t, l->rel[e]) : "never");
	if (k->base)
		tui_right(c->g, k->base, y, 8, TUI_DIM, tui_fmt_rel(t, sizeof t,
			c->d->base.layer[c->s->layer].rel[e]));
	tui_hit(c, &(struct tui_hit){ { k->name, y, k->share - k->name, 1 }, TUI_HIT_CELL, c->s->layer,
		e, 0, 0 });
	tui_right(c->g, k->share, y, 8, TUI_TEXT, tui_fmt_percent(t, sizeof t,
		(double)l->counts[e] / picks));
	tui_right(c->g, k->sum, y, 8, TUI_DIM, tui_fmt_percent(t, sizeof t, sum / picks));
	tui_right(c->g, k->picks, y, 12, TUI_DIM, tui_fmt_count(t, sizeof t, l->counts[e]));
}

static void draw(struct tui_ctx *c, struct tui_rect r, int *mem)
{
	const struct view_layer *l;
	struct tui_rect in = { r.x + 1, r.y, r.w - 2, r.h };
	int rows = r.h - 4, at = 0;
	struct columns k = place(in, in.w >= 90, c->d->base.n > 0 && in.w >= 66);
	struct ranked *order;
	double sum = 0, full;

	if (!c->d->layers.n || rows < 1)
		return;
	l = &c->d->layers.layer[c->s->layer];
	tui_textf(c->g, in.x, in.y, in.w, TUI_STRONG, "Layer %u", l->layer);
	tui_textf(c->g, in.x + 10, in.y, in.w - 10, TUI_DIM,
		"%zu of %zu MoE layers, %u experts, top-%u, %s", c->s->layer + 1, c->d->layers.n,
		l->n_expert, l->k, sort_name[mem[SORT]]);
	if (!l->tokens) {
		tui_say(c->g, r, TUI_NODATA, "no data for this layer in this selection");
		return;
	}
	draw_figures(c, (struct tui_rect){ in.x, in.y + 1, in.w, 2 }, l);
	order = rank_experts(c, l, mem[SORT]);
	if (!order)
		return;
	full = l->max_mean > 1.5 && isfinite(l->max_mean) ? l->max_mean : 1.5;
	draw_titles(c->g, in.y + 3, &k, full);
	for (size_t i = 0; i < l->n_expert; i++)
		if (order[i].expert == c->s->expert)
			at = (int)i;
	mem[PAGE] = rows;
	mem[FIRST] = tui_scroll(mem[FIRST], at, rows, l->n_expert);
	for (int i = 0; i < l->n_expert && i < mem[FIRST] + rows; i++) {
		sum += (double)l->counts[order[i].expert];
		if (i >= mem[FIRST])
			draw_expert(c, in.y + 4 + i - mem[FIRST], &k, l, order[i].expert, sum, full);
	}
	free(order);
}

static int key(struct tui_ctx *c, int k, int *mem)
{
	const struct view_layers *l = &c->d->layers;
	struct ranked *order;
	size_t at = 0, n;
	int done;

	if (!l->n)
		return 0;
	if (k == TUI_KEY_ENTER || k == 'o') {
		if (k == 'o')
			mem[SORT] = (mem[SORT] + 1) % (c->d->base.n ? N_SORT : BY_CHANGE);
		else
			c->s->screen = TUI_SCREEN_EXPERT;
		return 1;
	}
	if (tui_move(k, &c->s->layer, l->n, NULL, 0, 0) && k != TUI_KEY_HOME && k != TUI_KEY_END)
		return 1;
	order = rank_experts(c, &l->layer[c->s->layer], mem[SORT]);
	if (!order)
		return 0;
	n = l->layer[c->s->layer].n_expert;
	while (at + 1 < n && order[at].expert != c->s->expert)
		at++;
	done = tui_move(k, NULL, 0, &at, n, (size_t)mem[PAGE]);
	if (done && n)
		c->s->expert = order[at].expert;
	free(order);
	return done;
}

const struct tui_panel tui_panel_layer = {
	.name = "Layer",
	.question = "How uneven is this layer, and would it drop tokens?",
	.min_w = 56, .min_h = 10,
	.applies = TUI_BY_ALL,
	.hints = { { "\xe2\x86\x90\xe2\x86\x92", "layer" }, { "\xe2\x86\x91\xe2\x86\x93", "expert" },
		{ "Enter", "expert's card" }, { "o", "sort" }, { 0 } },
	.draw = draw,
	.key = key,
	.table = tui_table_experts,
};
