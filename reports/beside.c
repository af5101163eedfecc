/*
 * beside.c - the figures of a section next to the baseline's: what changed, and is it more than
 * noise?
 *
 * Noise is estimated from half samples (random groups; K. Wolter, Introduction to Variance
 * Estimation, chapter 2): every figure is computed again on every second sequence of a run and on
 * the others. If a1 and a2 are the baseline's two values and b1 and b2 this run's, ((a1 - a2)^2 +
 * (b1 - b2)^2) / 4 estimates the variance of the difference of the two whole runs; it is averaged
 * over the rows of the table, and a row moved more than noise if its change is beyond Student's
 * 97.5 % quantile times its root. By chance one row in twenty is. That both runs may have read the
 * same documents is not used, which makes the test weaker, never bolder. Not tested is what halves
 * do not vary as whole runs do: what is chosen from the sums of the whole run (pruned experts,
 * placements), and times.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "reports/show.h"

enum { KEYS = 3, FIGURES = 3, SHOWN = 400 };

/* Sections that compare rows of a table. To add one: a row here; `halves` where the table replays
 * decisions, so that a half sample changes it. */
static const struct beside {
	const char *section;
	enum report_table t;
	const char *key[KEYS];      /* columns that name a row */
	struct { const char *col, *title; enum report_unit unit; } fig[FIGURES];
	report_want *want;          /* NULL = all rows */
	int largest;                /* rows of one key: the largest value stands for them */
	int halves;
} list[] = {
	{ "course", REPORT_COURSE, { "layer" }, { { "max_mean", "Busiest expert of the worst window",
		REPORT_TIMES } }, NULL, 1, 0 },
	{ "limits-of-load", REPORT_CAPACITY, { "factor", "policy" }, { { "dropped", "Picks dropped",
		REPORT_PERCENT }, { "tokens_lost", "Tokens that lose all", REPORT_PERCENT } },
		report_want_pooled, 0, 1 },
	{ "vocabulary", REPORT_VOCABULARY, { "layer" }, { { "first", "An id's favourite expert, first "
		"choice", REPORT_PERCENT }, { "any", "An id's favourite expert, any choice",
		REPORT_PERCENT } }, NULL, 0, 1 },
	{ "spread", REPORT_SPREAD, { "layer" }, { { "margin_p50", "Median margin", REPORT_SHARE },
		{ "margin_below_001", "Margin below 0.01", REPORT_PERCENT },
		{ "entropy_p50", "Median entropy", REPORT_SHARE } }, NULL, 0, 1 },
	{ "neighbours", REPORT_LOCALITY, { "layer" },
		{ { "first", "Same first choice", REPORT_PERCENT },
		{ "overlap", "Choices in common", REPORT_PERCENT } }, NULL, 0, 1 },
	{ "pairs", REPORT_COACTIVATION, { "layer", "i", "j" },
		{ { "p_j_given_i", "P(j|i)", REPORT_PERCENT } }, NULL, 0, 1 },
	{ "flow", REPORT_CROSS, { "layer" }, { { "mi", "MI with the next layer, bits", REPORT_BITS } },
		NULL, 1, 1 },
	{ "cuts", REPORT_PRUNE, { "pruned" }, { { "lost_picks", "Picks lost", REPORT_PERCENT },
		{ "lost_weight", "Gate weight lost", REPORT_PERCENT },
		{ "tokens_touched", "Tokens touched", REPORT_PERCENT } }, report_want_pooled, 0, 0 },
	{ "offloading", REPORT_CACHES, { "policy", "slots" },
		{ { "hit_rate", "Hits", REPORT_PERCENT } }, report_want_pooled, 0, 1 },
	{ "aware", REPORT_AWARE, { "slots", "keep", "rank" }, { { "hit_rate", "Hits", REPORT_PERCENT },
		{ "agreement", "Choices kept", REPORT_PERCENT }, { "kl", "KL, nats", REPORT_SHARE } },
		report_want_pooled, 0, 1 },
	{ "ranks-of-experts", REPORT_PLACES, { "ranks", "policy" }, { { "max_mean", "Busiest rank / "
		"mean", REPORT_TIMES }, { "ranks_per_token", "Ranks per token and layer", REPORT_SHARE } },
		report_want_pooled, 0, 0 },
	{ "pace", REPORT_PACE, { "domain" }, { { "ms_per_token_p50", "ms/token, median", REPORT_SHARE },
		{ "ms_per_token_p90", "90 %", REPORT_SHARE } }, NULL, 0, 0 },
	{ "energy", REPORT_ENERGY, { "phase" }, { { "joule_per_token", "J per token", REPORT_SHARE } },
		NULL, 0, 0 },
	{ "run", REPORT_CACHE_USE, { "phase" }, { { "hit_rate", "Expert cache, hits", REPORT_PERCENT },
		{ "bytes_per_token", "Bytes per token", REPORT_SIZE } }, NULL, 0, 0 },
};
enum { N_LIST = sizeof list / sizeof *list };

int report_beside_halves(enum report_table t)
{
	for (size_t i = 0; i < N_LIST; i++)
		if (list[i].t == t)
			return list[i].halves;
	return 0;
}

/* ---- rows ---- */

static int same_key(const struct beside *b, const struct view_table *x, size_t i,
	const struct view_table *y, size_t j)
{
	for (int k = 0; k < KEYS && b->key[k]; k++) {
		double v = report_at(x, i, b->key[k]), w = report_at(y, j, b->key[k]);

		if (isnan(v) != isnan(w) || (!isnan(v) && v != w) ||
		    strcmp(report_at_text(x, i, b->key[k]), report_at_text(y, j, b->key[k])))
			return 0;
	}
	return 1;
}

/* The value of a figure in the rows of t that have the key of row i of x; NAN without one. */
static double value(const struct beside *b, const struct view_table *x, size_t i,
	const struct view_table *t, int fig)
{
	double most = NAN;

	for (size_t r = 0; r < t->n_row; r++) {
		if ((b->want && !b->want(t, r)) || !same_key(b, x, i, t, r))
			continue;
		most = fmax(most, report_at(t, r, b->fig[fig].col)); /* fmax skips NaN */
		if (!b->largest)
			break;
	}
	return most;
}

static int first_of_key(const struct beside *b, const struct view_table *t, size_t i)
{
	for (size_t r = 0; r < i; r++)
		if ((!b->want || b->want(t, r)) && same_key(b, t, i, t, r))
			return 0;
	return 1;
}

/* Student's t, 97.5 %, by degrees of freedom (R. A. Fisher, Statistical Methods, table IV). */
static double student(size_t df)
{
	static const double t[] = { 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262,
		2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086 };

	return df < 1 ? INFINITY : df <= 20 ? t[df - 1] : df <= 30 ? 2.086 : df <= 60 ? 2.042 : 2.0;
}

/* The change that noise alone stays below 19 times in 20; NAN where it cannot be told. */
static double noise(const struct report_data *d, const struct beside *b, int fig)
{
	const struct view_table *now = &d->table[b->t];
	double sum = 0;
	size_t n = 0;

	if (!b->halves || !d->base.tested)
		return NAN;
	for (size_t i = 0; i < now->n_row; i++) {
		double v[2][2], q = 0;

		if ((b->want && !b->want(now, i)) || !first_of_key(b, now, i))
			continue;
		for (int run = 0; run < 2; run++) {
			for (int h = 0; h < 2; h++)
				v[run][h] = value(b, now, i, &d->base.half[run][h][b->t], fig);
			q += (v[run][0] - v[run][1]) * (v[run][0] - v[run][1]) / 4;
		}
		if (isfinite(q))
			sum += q, n++;
	}
	return n && sum > 0 ? student(2 * n) * sqrt(sum / (double)n) : NAN;
}

/* ---- cells ---- */

static void put_change(struct report_page *p, enum report_unit u, double a, double b, double most)
{
	double change = b - a;

	report_cell(p, u, a);
	report_cell(p, u, b);
	if (isnan(change))
		buf_str(p->b, "<td>–</td>");
	else
		buf_printf(p->b, "<td>%s%s</td>", change > 0 ? "+" : change < 0 ? "−" : "",
			report_num(u, fabs(change)).s);
	report_put_moved(p, isnan(change) || isnan(most) ? -1 : fabs(change) > most);
}

/* On paper nothing can be opened. */
static void open_details(struct report_page *p)
{
	buf_printf(p->b, "<details%s><summary>Side by side</summary>\n",
		p->d->opt.format == REPORT_PDF ? " open" : "");
}

static int moved_more(double a, double b, double most)
{
	return isfinite(b - a) && fabs(b - a) > most;
}

static const char *title_of(const struct view_table *t, const char *key)
{
	for (size_t i = 0; t->cols && i < t->n_col; i++)
		if (!strcmp(t->cols[i].key, key))
			return t->cols[i].title ? t->cols[i].title : t->cols[i].key;
	return key;
}

static void put_key(struct report_page *p, const struct view_table *t, size_t row, const char *key)
{
	double v = report_at(t, row, key);

	if (isfinite(v))
		buf_printf(p->b, "<th scope=\"row\">%.6g</th>", v);
	else
		report_cell_text(p, report_at_text(t, row, key));
}

static void put_heads(struct report_page *p, const struct beside *b, const struct view_table *t)
{
	struct report_col cols[KEYS + 1 + 4];
	size_t n = 0;

	for (int k = 0; k < KEYS && b->key[k]; k++)
		cols[n++] = (struct report_col){ title_of(t, b->key[k]), NULL,
			!*report_at_text(t, 0, b->key[k]) };
	cols[n++] = (struct report_col){ "Baseline", NULL, 1 };
	cols[n++] = (struct report_col){ "This run", NULL, 1 };
	cols[n++] = (struct report_col){ "Change", NULL, 1 };
	cols[n++] = (struct report_col){ "Noise?", "halves", 0 };
	report_table_open(p, cols, n, NULL);
}

/* ---- a figure of a table ---- */

static void one_figure(struct report_page *p, const struct beside *b, int fig)
{
	const struct view_table *now = &p->d->table[b->t], *was = &p->d->base.table_of[b->t];
	double most = noise(p->d, b, fig);
	size_t both = 0, more = 0, shown = 0;

	for (size_t i = 0; i < now->n_row; i++) {
		double x, y;

		if ((b->want && !b->want(now, i)) || !first_of_key(b, now, i))
			continue;
		x = value(b, now, i, was, fig), y = value(b, now, i, now, fig);
		both += isfinite(y - x);
		more += moved_more(x, y, most);
	}
	if (!both)
		return;
	buf_printf(p->b, "<h4>%s</h4>\n<p>", b->fig[fig].title);
	if (isnan(most))
		buf_printf(p->b, "%zu figure%s beside the baseline; whether they moved more than noise was "
			"not tested.</p>\n", both, report_plural(both));
	else
		buf_printf(p->b, "%zu of %zu moved more than noise, which stays within ±%s.</p>\n", more,
			both, report_num(b->fig[fig].unit, most).s);
	open_details(p);
	put_heads(p, b, now);
	for (size_t i = 0; i < now->n_row && shown < SHOWN; i++) {
		if ((b->want && !b->want(now, i)) || !first_of_key(b, now, i))
			continue;
		shown++;
		report_row_open(p, 0);
		for (int k = 0; k < KEYS && b->key[k]; k++)
			put_key(p, now, i, b->key[k]);
		put_change(p, b->fig[fig].unit, value(b, now, i, was, fig), value(b, now, i, now, fig),
			most);
		report_row_close(p);
	}
	report_table_close(p);
	buf_str(p->b, "</details>\n");
}

/* ---- sections whose figures are no table ---- */

static const struct view_layer *layer_of(const struct view_layers *l, unsigned layer)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->layer[i].layer == layer)
			return &l->layer[i];
	return NULL;
}

static double get_max_mean(const struct view_layer *l) { return l->tokens ? l->max_mean : NAN; }
static double get_gini(const struct view_layer *l) { return l->tokens ? l->gini : NAN; }
static double get_coverage(const struct view_layer *l) { return l->tokens ? l->coverage90 : NAN; }
static double get_entropy(const struct view_layer *l) { return l->tokens ? l->entropy_norm : NAN; }
static double get_confidence(const struct view_layer *l) { return l->confidence; }
static double get_margin(const struct view_layer *l) { return l->margin; }

/* Figures of the load of a layer: judged by the shift of the load, as in compare.c. */
static const struct {
	const char *section, *title;
	double (*get)(const struct view_layer *);
	enum report_unit unit;
	int of_load;
} by_layer[] = {
	{ "load", "Evenness (normalised entropy)", get_entropy, REPORT_SHARE, 1 },
	{ "balance", "Busiest expert", get_max_mean, REPORT_TIMES, 1 },
	{ "ranks", "Experts for 90 % of the picks", get_coverage, REPORT_COUNT, 1 },
	{ "lorenz", "Gini", get_gini, REPORT_SHARE, 1 },
	{ "router", "Confidence", get_confidence, REPORT_SHARE, 0 },
	{ "router", "Margin", get_margin, REPORT_SHARE, 0 },
};

static void layers_beside(struct report_page *p, size_t at)
{
	static const struct report_col cols[] = { { "Layer", NULL, 1 }, { "Baseline", NULL, 1 },
		{ "This run", NULL, 1 }, { "Change", NULL, 1 }, { "Noise?", "noise", 0 } };
	const struct view_layers *l = &p->d->layers;
	int any = 0;

	for (size_t i = 0; i < l->n; i++) {
		const struct view_layer *a = layer_of(&p->d->base.layers, l->layer[i].layer);

		any |= a && isfinite(by_layer[at].get(&l->layer[i]) - by_layer[at].get(a));
	}
	if (!any)
		return;
	buf_printf(p->b, "<h4>%s</h4>\n", by_layer[at].title);
	open_details(p);
	report_table_open(p, cols, 5, NULL);
	for (size_t i = 0; i < l->n; i++) {
		const struct view_layer *a = layer_of(&p->d->base.layers, l->layer[i].layer);
		int moved = by_layer[at].of_load ? report_moved(p->d, l->layer[i].layer) : -1;

		if (!a)
			continue;
		report_row_open(p, 0);
		report_cell_head(p, l->layer[i].layer);
		put_change(p, by_layer[at].unit, by_layer[at].get(a), by_layer[at].get(&l->layer[i]),
			moved < 0 ? NAN : moved ? -1 : INFINITY);
		report_row_close(p);
	}
	report_table_close(p);
	buf_str(p->b, "</details>\n");
}

/* Mutual information of domain and expert: more than noise where the bootstrap intervals are
 * apart. */
static void domains_beside(struct report_page *p)
{
	static const struct report_col cols[] = { { "Layer", NULL, 1 }, { "Baseline", NULL, 1 },
		{ "This run", NULL, 1 }, { "Change", NULL, 1 }, { "Noise?", "interval", 0 } };
	const struct view_spec *now = &p->d->spec, *was = &p->d->base.spec;

	if (!now->n_layer || !was->n_layer) {
		buf_printf(p->b, "<p class=\"note\">Specialisation is not known of %s.</p>\n",
			now->n_layer ? "the baseline" : "this run");
		return;
	}
	buf_str(p->b, "<h4>Mutual information of domain and expert, bits</h4>\n<p>A change is more "
		"than noise where the two runs' 95 % intervals over documents do not touch.</p>\n");
	open_details(p);
	report_table_open(p, cols, 5, NULL);
	for (size_t i = 0; i < now->n_layer; i++)
		for (size_t j = 0; j < was->n_layer; j++) {
			const struct view_spec_layer *b = &now->layer[i], *a = &was->layer[j];

			if (a->layer != b->layer)
				continue;
			report_row_open(p, 0);
			report_cell_head(p, b->layer);
			put_change(p, REPORT_BITS, a->mi, b->mi, isnan(a->mi_lo + b->mi_lo) ? NAN :
				a->mi_hi < b->mi_lo || b->mi_hi < a->mi_lo ? -1 : INFINITY);
			report_row_close(p);
		}
	report_table_close(p);
	buf_str(p->b, "</details>\n");
}

static double bits_per_byte(const struct domain_info *d)
{
	return d->n_scored && d->n_bytes ? d->nll / log(2) / (double)d->n_bytes : NAN;
}

static void quality_beside(struct report_page *p)
{
	static const struct report_col cols[] = { { "Domain", NULL, 0 }, { "Baseline", NULL, 1 },
		{ "This run", NULL, 1 }, { "Change", NULL, 1 }, { "Noise?", NULL, 0 } };
	const struct report_data *d = p->d;

	report_table_open(p, cols, 5, "Bits per byte");
	for (size_t i = 0; i < d->n_domain; i++)
		for (size_t j = 0; j < d->base.n_domain; j++) {
			const struct domain_info *b = &d->domain[i], *a = &d->base.domain[j];

			if (!a->id != !b->id || (a->id && strcmp(a->name, b->name)))
				continue;
			report_row_open(p, 0);
			buf_str(p->b, "<td class=\"l\">");
			report_domain(p->b, b);
			buf_str(p->b, "</td>");
			put_change(p, REPORT_SHARE, bits_per_byte(a), bits_per_byte(b), NAN);
			report_row_close(p);
		}
	report_table_close(p);
}

static void speed_beside(struct report_page *p)
{
	static const struct report_col cols[] = { { "", NULL, 0 }, { "Baseline", NULL, 1 },
		{ "This run", NULL, 1 }, { "Change", NULL, 1 }, { "Noise?", NULL, 0 } };
	static const char *const phase[] = { "prefill", "decode" };
	const struct report_data *d = p->d;
	const double was[] = { d->base.sum.prefill_tps, d->base.sum.decode_tps };
	const double now[] = { d->sum.prefill_tps, d->sum.decode_tps };

	report_table_open(p, cols, 5, "One timing each: not tested");
	for (int i = 0; i < 2; i++) {
		size_t w = report_worst_layer(&d->phase[i]), v = report_worst_layer(&d->base.phase[i]);

		report_row_open(p, 0);
		buf_printf(p->b, "<td class=\"l\">%s, tokens/s</td>", phase[i]);
		put_change(p, REPORT_SPEED, was[i], now[i], NAN);
		report_row_close(p);
		report_row_open(p, 0);
		buf_printf(p->b, "<td class=\"l\">%s, worst max/mean</td>", phase[i]);
		put_change(p, REPORT_TIMES, v < d->base.phase[i].n ? d->base.phase[i].layer[v].max_mean :
			NAN, w < d->phase[i].n ? d->phase[i].layer[w].max_mean : NAN, NAN);
		report_row_close(p);
	}
	report_table_close(p);
}

/* ---- all of a section ---- */

static int has_any(const char *section)
{
	static const char *const own[] = { "domains", "quality", "speed" };

	for (size_t i = 0; i < N_LIST; i++)
		if (!strcmp(list[i].section, section))
			return 1;
	for (size_t i = 0; i < sizeof by_layer / sizeof *by_layer; i++)
		if (!strcmp(by_layer[i].section, section))
			return 1;
	for (size_t i = 0; i < sizeof own / sizeof *own; i++)
		if (!strcmp(own[i], section))
			return 1;
	return 0;
}

void report_beside(struct report_page *p, const char *section)
{
	size_t start;

	if (!p->d->base.on || !has_any(section))
		return;
	buf_str(p->b, "<div class=\"beside\"><h3>Beside the baseline</h3>\n");
	start = p->b->len;
	for (size_t i = 0; i < N_LIST; i++)
		for (int f = 0; f < FIGURES && !strcmp(list[i].section, section) && list[i].fig[f].col; f++)
			one_figure(p, &list[i], f);
	for (size_t i = 0; i < sizeof by_layer / sizeof *by_layer; i++)
		if (!strcmp(by_layer[i].section, section))
			layers_beside(p, i);
	if (!strcmp(section, "domains"))
		domains_beside(p);
	else if (!strcmp(section, "quality"))
		quality_beside(p);
	else if (!strcmp(section, "speed"))
		speed_beside(p);
	if (p->b->len == start)
		buf_str(p->b, "<p class=\"note\">There is no figure here that both runs have.</p>\n");
	buf_str(p->b, "</div>\n");
}
