/* load.c - where the load is: the map of layers and experts, balance per layer, load by rank. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "reports/page.h"

#define CAPACITY 1.25 /* the factor drawn in every plot of load */

static double rel_at(const struct view_layer *l, unsigned expert)
{
	return l->tokens && expert < l->n_expert ? l->rel[expert] : NAN;
}

static void put_real(struct buf *b, double v)
{
	if (isfinite(v))
		buf_printf(b, " %.6g", v);
	else
		buf_str(b, " NaN");
}

static unsigned clamp(double v, unsigned lo, unsigned hi)
{
	return v < lo ? lo : v > hi ? hi : (unsigned)v;
}

/* ---- the map ---- */

static void map_draw(const struct report_data *d, size_t arg, int narrow, struct report_plot *plot)
{
	const struct view_layers *l = &d->layers;
	unsigned columns = report_max_experts(l);
	double cell = (plot->width - 60.0) / columns;

	(void)arg;
	plot->height = 92 + (unsigned)l->n * clamp(l->n > 30 ? 8 : cell, l->n > 30 ? 8 : 16, 30);
	report_plot_var(plot, "NC", columns);
	report_plot_var(plot, "NR", (double)l->n);
	report_plot_var(plot, "LEFT", 40);
	report_plot_var(plot, "STEP", report_column_step(columns, narrow));
	report_plot_var(plot, "NUM", cell >= 26 && l->n <= 40);
	report_plot_var(plot, "NAMES", 1);
	report_layer_tics(plot, "ytics", l, l->n > 30 ? 20 : 30);
	for (size_t i = 0; i < l->n; i++)
		for (unsigned x = 0; x < columns; x++) {
			buf_printf(&plot->data, "%u %zu", x, i);
			put_real(&plot->data, rel_at(&l->layer[i], x));
			buf_char(&plot->data, '\n');
		}
}

static void map_table(struct report_page *p, size_t arg)
{
	const struct view_layers *l = &p->d->layers;
	unsigned columns = report_max_experts(l);

	(void)arg;
	report_csv_link(p, "experts.csv", &p->d->experts);
	buf_str(p->b, "<div class=\"scroll\" tabindex=\"0\"><table class=\"dense\">\n<caption>Load as "
		"a multiple of the fair share; rows are layers, columns experts</caption>\n"
		"<thead><tr><th></th>");
	for (unsigned x = 0; x < columns; x++)
		buf_printf(p->b, "<th scope=\"col\">%u</th>", x);
	buf_str(p->b, "</tr></thead>\n<tbody>\n");
	for (size_t i = 0; i < l->n; i++) {
		report_row_open(p, 0);
		report_cell_head(p, l->layer[i].layer);
		for (unsigned x = 0; x < columns; x++) {
			double r = rel_at(&l->layer[i], x);

			buf_printf(p->b, isnan(r) ? "<td>–</td>" : "<td>%.2f</td>", r);
		}
		report_row_close(p);
	}
	report_table_close(p);
}

void report_load_map(struct report_page *p)
{
	static const struct report_figure f = { "load", "Heat map of load relative to fair share: "
		"layers down, experts across", REPORT_PLOT_HEAT, map_draw, map_table, 0 };
	const struct view_layers *l = &p->d->layers;
	size_t worst = report_worst_layer(l), over = 0, cells = 0;
	struct buf finding, caption;

	buf_init(&finding, 4096);
	buf_init(&caption, 4096);
	for (size_t i = 0; i < l->n; i++)
		for (unsigned x = 0; x < l->layer[i].n_expert; x++, cells++)
			over += rel_at(&l->layer[i], x) > 2;
	if (worst == l->n)
		buf_str(&finding, "No decisions were logged, so there is no load to show");
	else if (!over)
		buf_printf(&finding, "No expert takes twice its fair share: the busiest is expert %u of "
			"layer %u at %s", l->layer[worst].top_expert, l->layer[worst].layer,
			report_num(REPORT_TIMES, l->layer[worst].max_mean).s);
	else
		buf_printf(&finding, "%s of %s experts take more than twice their fair share; expert %u of "
			"layer %u takes %s", report_num(REPORT_COUNT, (double)over).s,
			report_num(REPORT_COUNT, (double)cells).s, l->layer[worst].top_expert,
			l->layer[worst].layer,
			report_num(REPORT_TIMES, l->layer[worst].max_mean).s);
	buf_printf(&caption, "Each cell is one expert of one layer: its picks over the ");
	report_term(&caption, "fair", "fair share");
	buf_printf(&caption, ". The colours are the same in every report: white at the fair share, "
		"blue below, red above, full colour from a quarter down and from four times up; grey is "
		"no data. Columns with the same number in different layers have nothing to do with each "
		"other. n = %s decisions of %s tokens.",
		report_num(REPORT_COUNT, (double)p->d->sum.decisions).s,
		report_num(REPORT_COUNT, (double)p->d->sum.tokens).s);
	if (worst < l->n)
		report_figure(p, &f, &finding, &caption);
	else
		buf_printf(p->b, "<p>%s.</p>\n", finding.data);
	buf_free(&finding);
	buf_free(&caption);
}

/* ---- balance per layer ---- */

static double top_of(const struct view_layers *l)
{
	size_t w = report_worst_layer(l);
	double m = w < l->n ? l->layer[w].max_mean : 1;

	return m * 1.06 > 1.5 ? m * 1.06 : 1.5;
}

static void bars_draw(const struct report_data *d, size_t arg, int narrow, struct report_plot *plot)
{
	const struct view_layers *l = &d->layers;

	(void)arg;
	report_plot_var(plot, "N", (double)l->n);
	report_plot_var(plot, "TOP", top_of(l));
	report_layer_tics(plot, "xtics", l, narrow ? 13 : 32);
	for (size_t i = 0; i < l->n; i++) {
		buf_printf(&plot->data, "%zu", i);
		put_real(&plot->data, l->layer[i].tokens ? l->layer[i].max_mean : NAN);
		buf_char(&plot->data, '\n');
	}
}

static void balance_table(struct report_page *p, size_t arg)
{
	static const struct report_col cols[] = {
		{ "Layer", NULL, 1 }, { "Busiest", NULL, 1 }, { "Max/mean", "maxmean", 1 },
		{ "Gini", "gini", 1 }, { "Entropy", "entropy", 1 }, { "Effective", "effective", 1 },
		{ "Experts", NULL, 1 }, { "Dead", "dead", 1 }, { "Cold", "dead", 1 },
		{ "For 90 %", "coverage", 1 }, { "Tokens", NULL, 1 },
	};
	const struct view_layers *l = &p->d->layers;

	(void)arg;
	report_table_open(p, cols, sizeof cols / sizeof *cols, NULL);
	for (size_t i = 0; i < l->n; i++) {
		const struct view_layer *v = &l->layer[i];
		double none = v->tokens ? 0 : NAN; /* a layer without tokens has no figures */

		report_row_open(p, !v->tokens);
		report_cell_head(p, v->layer);
		report_cell(p, REPORT_COUNT, v->top_expert + none);
		report_cell(p, REPORT_TIMES, v->max_mean + none);
		report_cell(p, REPORT_SHARE, v->gini + none);
		report_cell(p, REPORT_SHARE, v->entropy_norm + none);
		report_cell(p, REPORT_TENTH, v->n_eff + none);
		report_cell(p, REPORT_COUNT, v->n_expert);
		report_cell(p, REPORT_COUNT, v->n_dead + none);
		report_cell(p, REPORT_COUNT, v->n_cold + none);
		report_cell(p, REPORT_COUNT, v->coverage90 + none);
		report_cell(p, REPORT_COUNT, (double)v->tokens);
		report_row_close(p);
	}
	report_table_close(p);
}

void report_balance(struct report_page *p)
{
	static const struct report_figure f = { "balance", "Bars: load of the busiest expert of each "
		"layer as a multiple of the fair share, with lines at 1 and at 1.25", REPORT_PLOT_BARS,
		bars_draw, balance_table, 0 };
	const struct view_layers *l = &p->d->layers;
	size_t worst = report_worst_layer(l), over = 0;
	struct buf finding, caption;

	buf_init(&finding, 4096);
	buf_init(&caption, 4096);
	for (size_t i = 0; i < l->n; i++)
		over += l->layer[i].tokens && l->layer[i].max_mean > CAPACITY;
	if (l->n == 1)
		buf_printf(&finding, "The one layer, %u, %s capacity factor 1.25 at %s", l->layer[0].layer,
			over ? "exceeds" : "stays within", report_num(REPORT_TIMES, l->layer[0].max_mean).s);
	else if (!over)
		buf_printf(&finding, "All %zu layers stay within capacity factor 1.25; the worst, layer "
			"%u, reaches %s", l->n, l->layer[worst].layer,
			report_num(REPORT_TIMES, l->layer[worst].max_mean).s);
	else
		buf_printf(&finding, "%zu of %zu layers exceed capacity factor 1.25; layer %u is the "
			"worst at %s", over, l->n, l->layer[worst].layer,
			report_num(REPORT_TIMES, l->layer[worst].max_mean).s);
	buf_str(&caption, "Load of the busiest expert of each layer (");
	report_term(&caption, "maxmean", "max/mean");
	buf_str(&caption, "). <span class=\"key fair\"></span> fair share, 1. <span class=\"key "
		"limit\"></span> <a class=\"term\" href=\"#def-capacity\">capacity factor</a> 1.25; <span "
		"class=\"key over\"></span> what lies above it.");
	buf_printf(&caption, " n = %s tokens in each layer.",
		report_num(REPORT_COUNT, (double)p->d->sum.tokens).s);
	report_figure(p, &f, &finding, &caption);
	buf_free(&finding);
	buf_free(&caption);
}

/* ---- load by rank ---- */

static int falling(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? 1 : x > y ? -1 : 0;
}

/* The loads of a layer from busiest to idlest; malloced, NULL without memory. */
static double *ranked(const struct view_layer *l)
{
	double *r = malloc((l->n_expert ? l->n_expert : 1) * sizeof *r);

	if (!r)
		return NULL;
	for (unsigned i = 0; i < l->n_expert; i++)
		r[i] = l->tokens ? l->rel[i] : NAN;
	qsort(r, l->n_expert, sizeof *r, falling);
	return r;
}

static void sorted_draw(const struct report_data *d, size_t arg, int narrow,
	struct report_plot *plot)
{
	const struct view_layers *l = &d->layers;
	unsigned experts = report_max_experts(l);
	size_t worst = report_worst_layer(l);

	(void)arg;
	(void)narrow;
	report_plot_var(plot, "N", (double)l->n);
	report_plot_var(plot, "E", experts);
	report_plot_var(plot, "WORST", (double)(worst < l->n ? worst : 0));
	report_plot_var(plot, "TOP", top_of(l));
	for (size_t i = 0; i < l->n; i++) {
		double *r = ranked(&l->layer[i]);

		for (unsigned x = 0; r && x < l->layer[i].n_expert; x++) {
			buf_printf(&plot->data, "%u", x + 1);
			put_real(&plot->data, r[x]);
			buf_char(&plot->data, '\n');
		}
		plot->data.failed |= !r;
		free(r);
		buf_str(&plot->data, "\n\n");
	}
}

/* Picks of the n busiest experts, as a fraction. */
static double share_of(const double *ranks, unsigned experts, unsigned n)
{
	double sum = 0;

	for (unsigned i = 0; i < n && i < experts; i++)
		sum += ranks[i];
	return sum / experts;
}

static void sorted_table(struct report_page *p, size_t arg)
{
	static const struct report_col cols[] = {
		{ "Layer", NULL, 1 }, { "Busiest", NULL, 1 }, { "2nd", NULL, 1 }, { "Median", NULL, 1 },
		{ "Idlest", NULL, 1 }, { "Busiest eighth takes", NULL, 1 }, 
		{ "Busiest half takes", NULL, 1 },
	};
	const struct view_layers *l = &p->d->layers;

	(void)arg;
	report_table_open(p, cols, sizeof cols / sizeof *cols,
		"Load as a multiple of the fair share, and the share of picks that the busiest take");
	for (size_t i = 0; i < l->n; i++) {
		unsigned n = l->layer[i].n_expert;
		double *r = ranked(&l->layer[i]);

		if (!r || !n) {
			free(r);
			continue;
		}
		report_row_open(p, !l->layer[i].tokens);
		report_cell_head(p, l->layer[i].layer);
		report_cell(p, REPORT_TIMES, r[0]);
		report_cell(p, REPORT_TIMES, n > 1 ? r[1] : NAN);
		report_cell(p, REPORT_TIMES, n % 2 ? r[n / 2] : (r[n / 2 - 1] + r[n / 2]) / 2);
		report_cell(p, REPORT_TIMES, r[n - 1]);
		report_cell(p, REPORT_PERCENT, n >= 8 ? share_of(r, n, n / 8) : NAN);
		report_cell(p, REPORT_PERCENT, n >= 2 ? share_of(r, n, n / 2) : NAN);
		report_row_close(p);
		free(r);
	}
	report_table_close(p);
}

/* How many of the busiest experts take half of the picks. */
static unsigned half_of(const double *ranks, unsigned experts)
{
	unsigned n = 1;

	while (n < experts && share_of(ranks, experts, n) < 0.5)
		n++;
	return n;
}

void report_sorted(struct report_page *p)
{
	static const struct report_figure f = { "ranks", "Lines: load of the experts of each layer "
		"from busiest to idlest, as a multiple of the fair share", REPORT_PLOT_SORTED, sorted_draw,
		sorted_table, 0 };
	const struct view_layers *l = &p->d->layers;
	size_t worst = report_worst_layer(l);
	struct buf finding, caption;
	double *r = worst < l->n ? ranked(&l->layer[worst]) : NULL;

	if (!r) { /* shown only with load: no memory */
		p->b->failed = 1;
		return;
	}
	buf_init(&finding, 4096);
	buf_init(&caption, 4096);
	buf_printf(&finding, "In layer %u the busiest %u of %u experts take half of the picks; even "
		"routing would need %u", l->layer[worst].layer, half_of(r, l->layer[worst].n_expert),
		l->layer[worst].n_expert, (l->layer[worst].n_expert + 1u) / 2);
	buf_printf(&caption, "<span class=\"key main\"></span> layer %u, the most uneven. "
		"<span class=\"key pale\"></span> every other layer. <span class=\"key fair\"></span> fair "
		"share. <span class=\"key limit\"></span> capacity factor 1.25: what lies above would be "
		"dropped if all tokens were one batch. A flat line at 1 is perfect balance. n = %s tokens.",
		l->layer[worst].layer, report_num(REPORT_COUNT, (double)l->layer[worst].tokens).s);
	report_figure(p, &f, &finding, &caption);
	buf_free(&finding);
	buf_free(&caption);
	free(r);
}
