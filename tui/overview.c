/* overview.c - screen 1: is this model's routing healthy right now? */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tui/fmt.h"
#include "tui/layout.h"
#include "tui/panel.h"
#include "view/table.h"

enum { SORT }; /* in mem */
static const char *const sort_title[] = { "Balance, worst layer first", "Balance, lowest entropy "
	"first", "Balance, most dead first", "Balance by layer" };
enum { BY_WORST, BY_ENTROPY, BY_DEAD, BY_LAYER, N_SORT };

static double sort_key(const struct view_layer *l, int sort)
{
	return sort == BY_ENTROPY ? -l->entropy_norm : sort == BY_DEAD ? (double)l->n_dead :
		sort == BY_LAYER ? -(double)l->layer : l->max_mean;
}

/* Layers by a figure, worst first; those without data last. */
static size_t *worst_first(const struct view_layers *l, int sort)
{
	size_t *row = malloc((l->n ? l->n : 1) * sizeof *row);

	for (size_t i = 0; row && i < l->n; i++) {
		double x = sort_key(&l->layer[i], sort);
		size_t j = i;

		while (j && !isnan(x) && !(sort_key(&l->layer[row[j - 1]], sort) >= x))
			row[j] = row[j - 1], j--;
		row[j] = i;
	}
	return row;
}

static void balance_row(struct tui_grid *g, struct tui_rect r, const struct view_layer *l,
	const struct view_layer *base, double full)
{
	char t[TUI_FMT];
	int x = r.x + r.w - 22, bar = r.w - 5 - 23 - (base ? 9 : 0);
	enum tui_style st = l->max_mean >= 2 ? TUI_ABOVE : TUI_STRONG;

	tui_textf(g, r.x, r.y, 4, TUI_TEXT, "L%u", l->layer);
	if (!l->tokens) {
		tui_text(g, r.x + 5, r.y, r.w - 5, TUI_NODATA, "no data");
		return;
	}
	tui_bar(g, r.x + 5, r.y, bar, l->max_mean, full, 0);
	tui_fmt_rel(t, sizeof t - 2, l->max_mean);
	strcat(t, "\xc3\x97");
	tui_right(g, x, r.y, 8, st, t);
	if (base && base->tokens) {
		tui_fmt_rel(t, sizeof t - 2, base->max_mean);
		strcat(t, "\xc3\x97");
		tui_right(g, x - 9, r.y, 8, TUI_DIM, t);
	}
	tui_right(g, x + 8, r.y, 6, TUI_TEXT, tui_fmt_unit(t, sizeof t, l->entropy_norm));
	snprintf(t, sizeof t, "%u/%u", l->n_dead, l->n_expert);
	tui_right(g, x + 14, r.y, 7, l->n_dead ? TUI_BELOW : TUI_TEXT, t);
}

static void draw_balance(struct tui_ctx *c, struct tui_rect r, int sort)
{
	const struct view_layers *l = &c->d->layers;
	int base = c->d->base.n > 0 && r.w >= 48;
	struct tui_rect in = tui_frame(c->g, r, r.w >= 56 + base * 10 ? sort_title[sort] : "Balance",
		base ? "baseline max/mean   H_n   dead" : "max/mean   H_n   dead");
	size_t *row = worst_first(l, sort), n;
	double full = 2;

	if (!row || in.h < 1 || in.w < 34)
		goto out;
	n = l->n <= (size_t)in.h ? l->n : (size_t)in.h - 1;
	for (size_t i = 0; i < l->n; i++)
		if (l->layer[i].max_mean > full)
			full = l->layer[i].max_mean;
	for (size_t i = 0; i < n; i++) {
		struct tui_rect one = { in.x, in.y + (int)i, in.w, 1 };

		balance_row(c->g, one, &l->layer[row[i]], base ? &c->d->base.layer[row[i]] : NULL, full);
		tui_hit(c, &(struct tui_hit){ one, TUI_HIT_CELL, row[i], l->layer[row[i]].top_expert, 0,
			0 });
	}
	if (n < l->n) {
		char t[TUI_FMT];

		tui_textf(c->g, in.x, in.y + in.h - 1, in.w, TUI_DIM,
			sort == BY_WORST ? "and %zu layers more, none above %s\xc3\x97" :
			"and %zu layers more; the next has %s\xc3\x97", l->n - n,
			tui_fmt_rel(t, sizeof t, l->layer[row[n]].max_mean));
	}
out:
	free(row);
}

static void draw_alarms(struct tui_ctx *c, struct tui_rect r)
{
	const struct view_alarms *a = c->alarms;
	struct tui_rect in;
	size_t i = 0;
	char t[64];

	in = tui_frame(c->g, r, "Alarms", c->d->want.sequence ? "of all requests" : NULL);
	if (in.h < 1 || in.w < 8)
		return;
	if (!a) {
		tui_text(c->g, in.x + 1, in.y, in.w - 2, TUI_DIM, "looking \xe2\x80\xa6");
		return;
	}
	if (!a->n) {
		tui_put(c->g, in.x, in.y, TUI_GOOD, 0x2713);
		tui_text(c->g, in.x + 2, in.y, in.w - 2, TUI_TEXT, "none: no rule fires");
		return;
	}
	for (int y = 0; i < a->n && y < in.h; i++) {
		int left = in.h - y, more = i + 1 < a->n;

		if (left <= 3 && more && i) { /* the rest does not fit: say how many */
			snprintf(t, sizeof t, "and %zu more: key 8", a->n - i);
			tui_text(c->g, in.x, in.y + y, in.w, TUI_DIM, t);
			break;
		}
		y += tui_alarm(c, (struct tui_rect){ in.x, in.y + y, in.w, left - (left > 2 && more) },
			&a->alarm[i]);
	}
}

static void draw_heat(struct tui_ctx *c, struct tui_rect r)
{
	const struct view_layers *l = &c->d->layers;
	struct tui_rect in = tui_frame(c->g, r, r.w >= 56 ?
		c->d->base.n ?
		"Load, layer \xc3\x97 expert, over the baseline's" :
		"Load, layer \xc3\x97 expert, relative to fair share" :
		c->d->base.n ? "Load over the baseline's" : "Load relative to fair share", NULL);
	struct tui_mapfit fit = tui_layout_map(in.w, tui_map_experts(l), 5, 0);
	struct tui_map m = { 0 };
	size_t *row, room = in.h > 2 ? (size_t)in.h - 2 : 0;
	char t[64];

	if (!room || !l->n)
		return;
	row = worst_first(l, BY_WORST);
	if (!row)
		return;
	m.n_row = l->n < room ? l->n : room;
	if (l->n <= room) {
		for (size_t i = 0; i < l->n; i++)
			row[i] = i;
	}
	m.row = row;
	fit.cell = fit.cell > 4 ? 4 : fit.cell;
	m.tall = tui_map_tall(c->g, (int)room, m.n_row);
	tui_map_draw(c, in, &fit, &m);
	tui_map_scale(c->g, in.x, in.y + in.h - 1, in.w, c->d->base.n > 0);
	t[0] = 0;
	if (l->n > room)
		snprintf(t, sizeof t, " %zu worst of %zu layers ", m.n_row, l->n);
	if (fit.group > 1) {
		size_t len = strlen(t);

		snprintf(t + len, sizeof t - len, r.w < 56 ? "%s%d a cell " : "%sworst of %d experts a "
			"cell ", len ? "" : " ", fit.group);
	}
	tui_right(c->g, r.x + 2, r.y + r.h - 1, r.w - 4, TUI_DIM, t);
	free(row);
}

static void domain_row(struct tui_grid *g, struct tui_rect r, const struct view_spec *sp,
	size_t d, int layer)
{
	const struct view_spec_cell *k = &sp->layer[layer].cell[d];
	int wide = r.w >= 46, x = r.x + r.w - (wide ? 33 : 27), name = x - r.x - 3;
	enum tui_style st = k->proven ? TUI_TEXT : TUI_DIM;
	char t[TUI_FMT], lo[TUI_FMT], hi[TUI_FMT];

	tui_put(g, r.x, r.y, k->proven ? TUI_GOOD : TUI_DIM, k->proven ? 0x2713 : '?');
	tui_text(g, r.x + 2, r.y, name, st, sp->domain[d].name[0] ? sp->domain[d].name : "(none)");
	snprintf(t, sizeof t, wide ? "L%u E%u" : "L%uE%u", sp->layer[layer].layer, k->expert);
	tui_text(g, x, r.y, 8, st, t);
	snprintf(t, sizeof t, "%.1f\xc3\x97", k->rel);
	tui_right(g, x + (wide ? 9 : 6), r.y, 6, k->proven ? TUI_ABOVE : TUI_DIM, t);
	snprintf(lo, sizeof lo, "%.1f", k->lo);
	snprintf(hi, sizeof hi, "%.1f", k->hi);
	snprintf(t, sizeof t, "%.10s\xe2\x80\x93%.10s", lo, hi);
	tui_right(g, x + (wide ? 16 : 12), r.y, 9, st, t);
	snprintf(t, sizeof t, "%.1f\xc3\x97", k->null_p95);
	tui_right(g, x + (wide ? 26 : 21), r.y, wide ? 6 : 5, TUI_DIM, t);
}

static void draw_domains(struct tui_ctx *c, struct tui_rect r)
{
	const struct view_spec *sp = c->spec ? &c->spec->spec : NULL;
	int all = c->d->want.sequence || c->d->want.phase || c->d->window_ns || c->d->want.until ||
		c->d->want.domain >= 0; /* this is always of everything */
	struct tui_rect in = tui_frame(c->g, r, all ? "Domains of the whole run" : r.w >= 58 ?
		"Domains: strongest expert" : "Domains",
		sp && sp->n_layer ? r.w >= 48 ? "strongest   95 %    null" : "strongest  95 %  null" :
		NULL);
	size_t shown, *row;

	if (in.h < 1)
		return;
	if (!sp || !sp->n_layer || !sp->n_domain) {
		tui_wrap(c->g, (struct tui_rect){ in.x + 1, in.y, in.w - 2, in.h }, TUI_DIM,
			!sp ? "computing: bootstrap and shuffled labels take a moment \xe2\x80\xa6" :
			sp->why[0] ? sp->why : "no domains in this run");
		return;
	}
	shown = sp->n_domain <= (size_t)in.h ? sp->n_domain : (size_t)in.h - 1;
	row = tui_domain_order(sp, TUI_CLEAREST, 0);
	for (size_t i = 0; row && i < shown; i++) {
		int best = view_spec_clearest(sp, row[i]);

		if (best >= 0)
			domain_row(c->g, (struct tui_rect){ in.x, in.y + (int)i, in.w, 1 }, sp, row[i],
				best);
		else
			tui_text(c->g, in.x + 2, in.y + (int)i, in.w - 2, TUI_NODATA,
				sp->domain[row[i]].name);
	}
	if (shown < sp->n_domain)
		tui_textf(c->g, in.x, in.y + in.h - 1, in.w, TUI_DIM, "and %zu more: key 5",
			sp->n_domain - shown);
	free(row);
}

/* As many whole clauses of the verdict as fit on the lines; better short than cut. */
static void draw_verdict(struct tui_ctx *c, struct tui_rect r)
{
	char text[sizeof c->s->verdict];
	size_t fits = 0;
	int depth = 0;

	for (size_t i = 0; c->s->verdict[i]; i++) {
		char ch = c->s->verdict[i], next = c->s->verdict[i + 1];

		depth += (ch == '(') - (ch == ')');
		if (depth || (next && (next != ' ' || (ch != '.' && ch != ';'))))
			continue;
		memcpy(text, c->s->verdict, i + 1);
		text[i + 1] = 0;
		if (fits && tui_wrap_lines(c->g, r.w, text) > r.h)
			break;
		fits = i + 1;
	}
	memcpy(text, c->s->verdict, fits);
	text[fits] = 0;
	if (fits && text[fits - 1] == ';')
		text[fits - 1] = '.';
	tui_wrap(c->g, r, TUI_STRONG, text);
}

static void draw(struct tui_ctx *c, struct tui_rect r, int *mem)
{
	int n_expert = tui_map_experts(&c->d->layers);
	int want = tui_wrap_lines(c->g, r.w - 2, c->s->verdict);
	struct tui_overview o = tui_layout_overview(r, (int)c->d->layers.n, n_expert, want,
		c->alarms ? (int)(c->alarms->n < 8 ? c->alarms->n : 8) : 0);

	if (o.verdict.h > 0)
		draw_verdict(c, (struct tui_rect){ r.x + 1, o.verdict.y, r.w - 2, o.verdict.h });
	if (o.balance.h > 0)
		draw_balance(c, o.balance, mem[SORT]);
	else
		tui_say(c->g, r, TUI_WARN, "needs 36\xc3\x97" "6 for the overview");
	if (o.alarms.h > 0)
		draw_alarms(c, o.alarms);
	if (o.heat.h > 0)
		draw_heat(c, o.heat);
	if (o.domains.h > 0)
		draw_domains(c, o.domains);
}

static int key(struct tui_ctx *c, int k, int *mem)
{
	if (k == 'o')
		mem[SORT] = (mem[SORT] + 1) % N_SORT;
	else if (k == TUI_KEY_ENTER)
		c->s->screen = TUI_SCREEN_LAYER;
	else
		return tui_move(k, NULL, 0, &c->s->layer, c->d->layers.n, 8);
	return 1;
}

static int table(struct tui_ctx *c, const int *mem, struct view_table *t, struct moe_err *e)
{
	static const struct view_col cols[] = { { "layer", "", VIEW_INT, 0 },
		{ "experts", "", VIEW_INT, 0 },
		{ "k", "", VIEW_INT, 0 }, { "tokens", "", VIEW_INT, 0 }, { "max_mean", "", VIEW_REAL, 6 },
		{ "entropy_norm", "", VIEW_REAL, 6 }, { "gini", "", VIEW_REAL, 6 },
		{ "dead", "", VIEW_INT, 0 },
		{ "margin", "", VIEW_REAL, 6 }, { "baseline_max_mean", "", VIEW_REAL, 6 } };

	(void)mem;
	view_table_init(t, cols, sizeof cols / sizeof *cols);
	for (size_t i = 0; i < c->d->layers.n; i++) {
		const struct view_layer *l = &c->d->layers.layer[i];
		struct view_cell *row = view_table_row(t, e);

		if (!row)
			return -1;
		view_set_int(row, l->layer);
		view_set_int(row + 1, l->n_expert);
		view_set_int(row + 2, l->k);
		view_set_int(row + 3, (int64_t)l->tokens);
		view_set_real(row + 4, l->max_mean);
		view_set_real(row + 5, l->entropy_norm);
		view_set_real(row + 6, l->gini);
		view_set_int(row + 7, l->n_dead);
		view_set_real(row + 8, l->margin);
		view_set_real(row + 9, c->d->base.n ? c->d->base.layer[i].max_mean : NAN);
	}
	return 0;
}

const struct tui_panel tui_panel_overview = {
	.name = "Overview",
	.question = "Is this model's routing healthy right now?",
	.min_w = 36, .min_h = 6,
	.applies = TUI_BY_ALL,
	.hints = { { "o", "sort" }, { "Enter", "layer" }, { 0 } },
	.draw = draw,
	.key = key,
	.table = table,
};
