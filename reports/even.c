/* even.c - how even the load is: Lorenz curves with Gini, and balance over the run's time. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "reports/show.h"

enum { CURVE_POINTS = 64 };

static int rising(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x > y ? 1 : x < y ? -1 : 0;
}

/* ---- Lorenz curves ---- */

static size_t most_unequal(const struct view_layers *l)
{
	size_t worst = l->n;

	for (size_t i = 0; i < l->n; i++)
		if (l->layer[i].tokens && (worst == l->n || l->layer[i].gini > l->layer[worst].gini))
			worst = i;
	return worst;
}

/* Counts from idlest to busiest; malloced, NULL without memory. */
static uint64_t *ascending(const struct view_layer *l)
{
	uint64_t *c = malloc((l->n_expert ? l->n_expert : 1) * sizeof *c);

	if (!c)
		return NULL;
	memcpy(c, l->counts, l->n_expert * sizeof *c);
	qsort(c, l->n_expert, sizeof *c, rising);
	return c;
}

static void curve(struct report_lines *x, const struct view_layer *l)
{
	uint64_t *c = ascending(l), all = 0, sum = 0;
	unsigned step = l->n_expert / CURVE_POINTS + 1;

	if (!c) {
		x->plot->data.failed = 1;
		return;
	}
	for (unsigned i = 0; i < l->n_expert; i++)
		all += c[i];
	report_point(x, 0, 0);
	for (unsigned i = 0; i < l->n_expert; i++) {
		sum += c[i];
		if ((i + 1) % step == 0 || i + 1 == l->n_expert)
			report_point(x, 100.0 * (i + 1) / l->n_expert, 100 * (double)sum / (double)all);
	}
	free(c);
}

static void lorenz_draw(const struct report_data *d, size_t arg, int narrow,
	struct report_plot *plot)
{
	static const struct report_axes axes = { "share of the experts, idlest first, %",
		"share of the picks, %", NULL, 1, 100, 0, 0 };
	size_t worst = most_unequal(&d->layers);
	struct report_lines x;

	(void)arg;
	plot->height = narrow ? 300 : 380;
	report_lines_open(&x, plot);
	for (size_t i = 0; i < d->layers.n; i++)
		if (i != worst && d->layers.layer[i].tokens) {
			report_line(&x, NULL, "PALE", 1, REPORT_SOLID, 0);
			curve(&x, &d->layers.layer[i]);
		}
	report_line(&x, NULL, "FAIR", 1.5, REPORT_DASHED, 0);
	report_point(&x, 0, 0);
	report_point(&x, 100, 100);
	if (worst < d->layers.n) {
		report_line(&x, NULL, "MAIN", 2.5, REPORT_SOLID, 0);
		curve(&x, &d->layers.layer[worst]);
	}
	report_lines_close(&x, &axes);
}

/* Share of the picks that go to the idlest half. */
static double idle_half(const struct view_layer *l)
{
	uint64_t *c = ascending(l), all = 0, half = 0;

	if (!c || l->n_expert < 2) {
		free(c);
		return NAN;
	}
	for (unsigned i = 0; i < l->n_expert; i++) {
		all += c[i];
		half += i < l->n_expert / 2 ? c[i] : 0;
	}
	free(c);
	return all ? (double)half / (double)all : NAN;
}

static void lorenz_table(struct report_page *p, size_t arg)
{
	static const struct report_col cols[] = {
		{ "Layer", NULL, 1 }, { "Gini", "gini", 1 }, { "CV", NULL, 1 },
		{ "Idlest half takes", NULL, 1 }, { "For 90 %", "coverage", 1 }, { "Experts", NULL, 1 },
	};
	const struct view_layers *l = &p->d->layers;

	(void)arg;
	report_table_open(p, cols, sizeof cols / sizeof *cols, NULL);
	for (size_t i = 0; i < l->n; i++) {
		const struct view_layer *v = &l->layer[i];
		double none = v->tokens ? 0 : NAN;

		report_row_open(p, !v->tokens);
		report_cell_head(p, v->layer);
		report_cell(p, REPORT_SHARE, v->gini + none);
		report_cell(p, REPORT_SHARE, v->cv + none);
		report_cell(p, REPORT_PERCENT, idle_half(v) + none);
		report_cell(p, REPORT_COUNT, v->coverage90 + none);
		report_cell(p, REPORT_COUNT, v->n_expert);
		report_row_close(p);
	}
	report_table_close(p);
}

void report_lorenz(struct report_page *p)
{
	static const struct report_figure f = { "lorenz", "Lorenz curves: share of the picks that the "
		"idlest experts take, a line per layer, with the diagonal of equal shares",
		REPORT_PLOT_LINES, lorenz_draw, lorenz_table, 0 };
	const struct view_layers *l = &p->d->layers;
	size_t worst = most_unequal(l);
	struct buf finding, caption;

	buf_init(&finding, 4096);
	buf_init(&caption, 4096);
	buf_printf(&finding, "Layer %u is the most unequal: Gini %s", l->layer[worst].layer,
		report_num(REPORT_SHARE, l->layer[worst].gini).s);
	if (isfinite(idle_half(&l->layer[worst])))
		buf_printf(&finding, ", its idlest half of the experts takes %s of the picks",
			report_num(REPORT_PERCENT, idle_half(&l->layer[worst])).s);
	buf_printf(&caption, "<span class=\"key main\"></span> layer %u. <span class=\"key "
		"pale\"></span> every other layer. <span class=\"key fair\"></span> equal shares; <a "
		"class=\"term\" href=\"#def-gini\">Gini</a> is twice the area between a curve and this "
		"line. n = %s tokens.", l->layer[worst].layer,
		report_num(REPORT_COUNT, (double)l->layer[worst].tokens).s);
	report_figure(p, &f, &finding, &caption);
	buf_free(&finding);
	buf_free(&caption);
}

/* ---- over time ---- */

static void course_line(struct report_lines *x, const struct view_table *t, unsigned layer)
{
	for (size_t r = 0; r < t->n_row; r++)
		if (report_at(t, r, "layer") == layer)
			report_point(x, report_at(t, r, "start_s") + report_at(t, r, "seconds") / 2,
				report_at(t, r, "max_mean"));
}

static void course_draw(const struct report_data *d, size_t arg, int narrow,
	struct report_plot *plot)
{
	static const struct report_axes axes = { "seconds since the run began", "max/mean of a window",
		NULL, 0, 1.5, 0, 0 };
	const struct view_table *t = &d->table[REPORT_COURSE];
	size_t worst = report_worst_layer(&d->layers);
	struct report_lines x;

	(void)arg;
	(void)narrow;
	report_lines_open(&x, plot);
	for (size_t i = 0; i < d->layers.n; i++)
		if (i != worst) {
			report_line(&x, NULL, "PALE", 1, REPORT_SOLID, 0);
			course_line(&x, t, d->layers.layer[i].layer);
		}
	if (worst < d->layers.n) {
		report_line(&x, NULL, "MAIN", 2, REPORT_SOLID, 1);
		course_line(&x, t, d->layers.layer[worst].layer);
	}
	report_lines_close(&x, &axes);
}

static void course_table(struct report_page *p, size_t arg)
{
	(void)arg;
	report_csv_link(p, "over_time.csv", &p->d->table[REPORT_COURSE]);
	report_view_table(p, &p->d->table[REPORT_COURSE], NULL, 200);
}

void report_course(struct report_page *p)
{
	static const struct report_figure f = { "over-time", "Lines: load of the busiest expert of "
		"each layer in windows of time", REPORT_PLOT_LINES, course_draw, course_table, 0 };
	const struct view_table *t = &p->d->table[REPORT_COURSE];
	size_t worst = report_worst_layer(&p->d->layers);
	double lo = INFINITY, hi = -INFINITY;
	struct buf finding, caption;
	unsigned layer, n = 0;

	if (!t->n_row || worst == p->d->layers.n) {
		report_why(p, t);
		return;
	}
	layer = p->d->layers.layer[worst].layer;
	for (size_t r = 0; r < t->n_row; r++)
		if (report_at(t, r, "layer") == layer && isfinite(report_at(t, r, "max_mean"))) {
			lo = fmin(lo, report_at(t, r, "max_mean")), hi = fmax(hi, report_at(t, r, "max_mean"));
			n++;
		}
	if (n < 3) {
		buf_str(p->b, "<p>The run is too short to show a course: fewer than three windows of time "
			"have 20 picks per expert.</p>\n");
		return;
	}
	buf_init(&finding, 4096);
	buf_init(&caption, 4096);
	buf_printf(&finding, "Over the run the busiest expert of layer %u took between %s and %s its "
		"fair share", layer, report_num(REPORT_TIMES, lo).s, report_num(REPORT_TIMES, hi).s);
	buf_printf(&caption, "<span class=\"key main\"></span> layer %u, the most uneven of the whole "
		"run. <span class=\"key pale\"></span> every other layer. %u windows of %s each; a window "
		"is less even than the whole, because it has fewer tokens and often one domain. Windows "
		"with fewer than 20 picks per expert are left out.", layer, n,
		report_num(REPORT_DURATION, report_at(t, 0, "seconds")).s);
	report_figure(p, &f, &finding, &caption);
	buf_free(&finding);
	buf_free(&caption);
}
