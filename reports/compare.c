/*
 * compare.c - the run beside a baseline: every figure side by side, what changed, and whether it is
 * more than noise. Noise is judged where documents can be shuffled between the runs: by layer, on
 * the load. A figure without such a test says so.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "reports/show.h"

static const struct view_layer *base_layer(const struct report_data *d, unsigned layer)
{
	for (size_t i = 0; i < d->base.layers.n; i++)
		if (d->base.layers.layer[i].layer == layer)
			return &d->base.layers.layer[i];
	return NULL;
}

static const struct diff_layer *diff_of(const struct report_data *d, unsigned layer)
{
	for (size_t i = 0; i < d->base.diff.n; i++)
		if (d->base.diff.layer[i].layer == (int)layer)
			return &d->base.diff.layer[i];
	return NULL;
}

/* Is the load of a layer further from the baseline's than shuffled documents explain? -1
 * unknown. */
static int moved(const struct diff_layer *x)
{
	return !x || isnan(x->jsd) || isnan(x->null_p95) ? -1 : x->jsd > x->null_p95;
}

void report_put_moved(struct report_page *p, int m)
{
	buf_printf(p->b, "<td class=\"l\">%s</td>",
		m < 0 ? "not tested" : m ? "<b>more than noise</b>" : "within noise");
}

int report_moved(const struct report_data *d, unsigned layer)
{
	return moved(diff_of(d, layer));
}

/* ---- who is compared with whom ---- */

static void identity(struct report_page *p, const char *name, const char *a, const char *b)
{
	if (!*a && !*b)
		return;
	buf_printf(p->b, "<tr><th scope=\"row\" class=\"l\">%s</th><td class=\"l wrap\">", name);
	report_text_or(p->b, a, "–");
	buf_str(p->b, "</td><td class=\"l wrap\">");
	report_text_or(p->b, b, "–");
	buf_printf(p->b, "</td><td class=\"l\">%s</td></tr>\n",
		strcmp(a, b) ? "<b>differs</b>" : "same");
}

static void identities(struct report_page *p)
{
	static const struct report_col cols[] = { { "", NULL, 0 }, { "Baseline", NULL, 0 },
		{ "This run", NULL, 0 }, { "", NULL, 0 } };
	const struct run_info *a = &p->d->base.sum.run, *b = &p->d->sum.run;
	const struct view_table *s = &p->d->base.settings, *t = &p->d->table[REPORT_SETTINGS];
	char x[32], y[32];

	report_table_open(p, cols, 4, NULL);
	snprintf(x, sizeof x, "%lld", (long long)a->id);
	snprintf(y, sizeof y, "%lld", (long long)b->id);
	identity(p, "Run", x, y);
	identity(p, "Database", p->d->opt.base_db ? p->d->opt.base_db : "", p->d->opt.db);
	identity(p, "Model", a->model_name, b->model_name);
	identity(p, "SHA-256", a->hash, b->hash);
	identity(p, "Quantisation", a->quant, b->quant);
	identity(p, "Router", a->router, b->router);
	identity(p, "Engine", a->engine, b->engine);
	identity(p, "Kernels", a->isa, b->isa);
	identity(p, "Detail level", a->detail, b->detail);
	for (size_t i = 0; i < s->n_row; i++) { /* settings that differ, or that one run lacks */
		size_t j = 0;

		while (j < t->n_row && strcmp(report_at_text(t, j, "key"), report_at_text(s, i, "key")))
			j++;
		if (strcmp(report_at_text(s, i, "value"), report_at_text(t, j, "value"))) {
			buf_str(p->b, "<tr><th scope=\"row\" class=\"l\">");
			report_text(p->b, report_at_text(s, i, "key"));
			buf_str(p->b, "</th><td class=\"l wrap\">");
			report_text(p->b, report_at_text(s, i, "value"));
			buf_str(p->b, "</td><td class=\"l wrap\">");
			report_text_or(p->b, report_at_text(t, j, "value"), "–");
			buf_str(p->b, "</td><td class=\"l\"><b>differs</b></td></tr>\n");
		}
	}
	report_table_close(p);
}

/* ---- figures of the whole run ---- */

static double hit_rate(const struct view_summary *s)
{
	return view_hit_rate(&s->cache);
}

static double worst_load(const struct view_layers *l)
{
	size_t w = report_worst_layer(l);

	return w < l->n ? l->layer[w].max_mean : NAN;
}

static double narrowest(const struct view_layers *l)
{
	double least = NAN;

	for (size_t i = 0; i < l->n; i++)
		if (l->layer[i].tokens)
			least = fmin(least, l->layer[i].n_eff / l->layer[i].n_expert); /* fmin skips NaN */
	return least;
}

static double unpicked(const struct view_layers *l)
{
	double n = NAN;

	for (size_t i = 0; i < l->n; i++)
		if (l->layer[i].tokens)
			n = (isnan(n) ? 0 : n) + l->layer[i].n_dead;
	return n;
}

static void figure_row(struct report_page *p, const char *name, enum report_unit u, double a,
	double b, int test)
{
	double d = b - a;

	if (isnan(a) && isnan(b))
		return;
	buf_printf(p->b, "<tr><th scope=\"row\" class=\"l\">%s</th>", name);
	report_cell(p, u, a);
	report_cell(p, u, b);
	if (isnan(d))
		buf_str(p->b, "<td>–</td>");
	else
		buf_printf(p->b, "<td>%s%s</td>", d > 0 ? "+" : d < 0 ? "−" : "", report_num(u, fabs(d)).s);
	report_put_moved(p, test);
	report_row_close(p);
}

static void whole_run(struct report_page *p)
{
	static const struct report_col cols[] = { { "", NULL, 0 }, { "Baseline", NULL, 1 },
		{ "This run", NULL, 1 }, { "Change", NULL, 1 }, { "Noise?", "noise", 0 } };
	const struct view_summary *a = &p->d->base.sum, *b = &p->d->sum;
	size_t w = report_worst_layer(&p->d->layers);
	int any = -1, worst = w < p->d->layers.n ? moved(diff_of(p->d, p->d->layers.layer[w].layer)) :
		-1;

	for (size_t i = 0; i < p->d->base.diff.n; i++) {
		int m = moved(&p->d->base.diff.layer[i]);

		any = m > any ? m : any;
	}
	report_table_open(p, cols, 5, "Load figures are judged by the shift of the load itself");
	figure_row(p, "Busiest expert, × fair share", REPORT_TIMES, worst_load(&p->d->base.layers),
		worst_load(&p->d->layers), worst);
	figure_row(p, "Never picked", REPORT_COUNT, unpicked(&p->d->base.layers),
		unpicked(&p->d->layers), any);
	figure_row(p, "At work in the narrowest layer", REPORT_PERCENT, narrowest(&p->d->base.layers),
		narrowest(&p->d->layers), any);
	figure_row(p, "Over capacity 1.25", REPORT_PERCENT, a->dropped_at_cf125, b->dropped_at_cf125,
		any);
	figure_row(p, "Bits per byte", REPORT_SHARE, a->bpb, b->bpb, -1);
	figure_row(p, "Prefill, tokens/s", REPORT_SPEED, a->prefill_tps, b->prefill_tps, -1);
	figure_row(p, "Decode, tokens/s", REPORT_SPEED, a->decode_tps, b->decode_tps, -1);
	figure_row(p, "Expert cache, hits", REPORT_PERCENT, hit_rate(a), hit_rate(b), -1);
	figure_row(p, "Alarms", REPORT_COUNT, (double)p->d->base.n_alarm, (double)p->d->alarms.n, -1);
	figure_row(p, "Tokens", REPORT_COUNT, (double)a->tokens, (double)b->tokens, -1);
	report_table_close(p);
}

/* ---- by layer ---- */

/* "1.31 → 1.44" */
static void pair(struct report_page *p, enum report_unit u, double a, double b)
{
	struct report_str x = report_num(u, a);

	buf_printf(p->b, "<td>%s → %s</td>", x.s, report_num(u, b).s);
}

static void layers_table(struct report_page *p, size_t arg)
{
	static const struct report_col cols[] = { { "Layer", NULL, 1 }, { "Max/mean", "maxmean", 1 },
		{ "Gini", "gini", 1 }, { "Entropy", "entropy", 1 }, { "Effective", "effective", 1 },
		{ "Dead", "dead", 1 }, { "For 90 %", "coverage", 1 }, { "Confidence", "confidence", 1 },
		{ "Margin", "margin", 1 }, { "Shift, bits", "jsd", 1 }, { "Noise, bits", "noise", 1 },
		{ "p", "noise", 1 }, { "", NULL, 0 }, { "Sets that differ", NULL, 1 },
		{ "Of these near ties", NULL, 1 } };
	const struct view_layers *l = &p->d->layers;

	(void)arg;
	report_csv_link(p, "baseline.csv", &p->d->base.table);
	report_table_open(p, cols, sizeof cols / sizeof *cols, "Baseline → this run");
	for (size_t i = 0; i < l->n; i++) {
		const struct view_layer *b = &l->layer[i], *a = base_layer(p->d, b->layer);
		const struct diff_layer *x = diff_of(p->d, b->layer);

		if (!a)
			continue;
		report_row_open(p, 0);
		report_cell_head(p, b->layer);
		pair(p, REPORT_TIMES, a->max_mean, b->max_mean);
		pair(p, REPORT_SHARE, a->gini, b->gini);
		pair(p, REPORT_SHARE, a->entropy_norm, b->entropy_norm);
		pair(p, REPORT_TENTH, a->n_eff, b->n_eff);
		pair(p, REPORT_COUNT, a->n_dead, b->n_dead);
		pair(p, REPORT_COUNT, a->coverage90, b->coverage90);
		pair(p, REPORT_SHARE, a->confidence, b->confidence);
		pair(p, REPORT_SHARE, a->margin, b->margin);
		report_cell(p, REPORT_BITS, x ? x->jsd : NAN);
		report_cell(p, REPORT_BITS, x ? x->null_p95 : NAN);
		report_cell(p, REPORT_CHANCE, x ? x->p_value : NAN);
		report_put_moved(p, moved(x));
		report_cell(p, REPORT_PERCENT, x ? x->mismatch : NAN);
		report_cell(p, REPORT_PERCENT, x ? x->explained : NAN);
		report_row_close(p);
	}
	report_table_close(p);
}

static void shift_draw(const struct report_data *d, size_t arg, int narrow,
	struct report_plot *plot)
{
	static const struct report_axes axes = { "layer", "shift of the load, bits", NULL,
		1, 0.0005, 0, 0 };
	struct report_lines x;

	(void)arg;
	report_layer_tics(plot, "xtics", &d->layers, narrow ? 13 : 32);
	report_lines_open(&x, plot);
	report_line(&x, "shift", "MAIN", 2, REPORT_SOLID, 1);
	for (size_t i = 0; i < d->layers.n; i++) {
		const struct diff_layer *v = diff_of(d, d->layers.layer[i].layer);

		report_point(&x, (double)i, v ? v->jsd : NAN);
	}
	report_line(&x, "documents shuffled, 95 %", "FAIR", 1.5, REPORT_DASHED, 1);
	for (size_t i = 0; i < d->layers.n; i++) {
		const struct diff_layer *v = diff_of(d, d->layers.layer[i].layer);

		report_point(&x, (double)i, v ? v->null_p95 : NAN);
	}
	report_lines_close(&x, &axes);
}

static void experts(struct report_page *p)
{
	static const struct report_col cols[] = { { "Layer", NULL, 1 }, { "Expert", NULL, 1 },
		{ "Baseline, picks per token", NULL, 1 }, { "This run", NULL, 1 },
		{ "Change, 95 % interval", "interval", 1 } };

	report_table_open(p, cols, 5, "The expert of each layer that moved most");
	for (size_t i = 0; i < p->d->base.diff.n; i++) {
		const struct diff_layer *x = &p->d->base.diff.layer[i];
		const struct diff_expert *e;

		if (!x->expert || x->top >= x->n_expert)
			continue;
		e = &x->expert[x->top];
		report_row_open(p, !moved(x));
		report_cell_head(p, (unsigned)x->layer);
		report_cell(p, REPORT_COUNT, x->top);
		report_cell(p, REPORT_PERCENT, e->rate_a);
		report_cell(p, REPORT_PERCENT, e->rate_b);
		if (isfinite(e->lo) && isfinite(e->hi))
			buf_printf(p->b, "<td>%+.2f (%+.2f to %+.2f) points</td>", 100 * e->shift, 100 * e->lo,
				100 * e->hi);
		else
			buf_printf(p->b, "<td>%+.2f points</td>", 100 * e->shift);
		report_row_close(p);
	}
	report_table_close(p);
}

int report_has_base(const struct report_data *d)
{
	return d->base.on;
}

void report_compare(struct report_page *p)
{
	static const struct report_figure f = { "shift", "Lines: how far the load of each layer is "
		"from the baseline's, and what shuffled documents reach", REPORT_PLOT_LINES, shift_draw,
		layers_table, 0 };
	const struct diff *x = &p->d->base.diff;
	size_t n = 0, tested = 0;
	struct buf finding, caption;

	identities(p);
	whole_run(p);
	for (size_t i = 0; i < x->n; i++) {
		tested += moved(&x->layer[i]) >= 0;
		n += moved(&x->layer[i]) == 1;
	}
	buf_init(&finding, 4096);
	buf_init(&caption, 4096);
	if (x->n) {
		if (tested)
			buf_printf(&finding, n ? "The load of %zu of %zu layers moved more than noise" :
				"The load moved no more than noise in any layer", n, tested);
		else
			buf_str(&finding, "How far the load moved; whether it is noise cannot be told");
		buf_printf(&caption, "<a class=\"term\" href=\"#def-jsd\">Jensen–Shannon divergence</a> of "
			"the experts' shares. <a class=\"term\" href=\"#def-noise\">Noise</a>: documents %s, "
			"95th percentile. n = %zu documents.", x->paired ? "swapped between the runs" :
			"dealt to the runs anew", x->documents);
		if (x->matched)
			buf_printf(&caption, " On %s tokens that both runs have, %s of the decisions chose "
				"another set, %s of the tokens at some layer.",
				report_num(REPORT_COUNT, (double)x->matched).s,
				report_num(REPORT_PERCENT, x->layer[x->n].mismatch).s,
				report_num(REPORT_PERCENT, (double)x->touched / (double)x->matched).s);
		report_figure(p, &f, &finding, &caption);
		experts(p);
	}
	if (x->why[0]) {
		buf_str(p->b, "<p class=\"note\">");
		report_text(p->b, x->why);
		buf_str(p->b, ".</p>\n");
	}
	buf_free(&finding);
	buf_free(&caption);
}
