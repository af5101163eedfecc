/*
 * paths.c - how decisions hang together: with the token before, within a token, with the next
 * layer, with the token's id; and how close they are.
 */
#include <math.h>
#include <string.h>

#include "reports/show.h"

/* Layers of a table as x positions: their index among the run's MoE layers. */
static double layer_x(const struct report_data *d, const struct view_table *t, size_t row)
{
	for (size_t i = 0; i < d->layers.n; i++)
		if (d->layers.layer[i].layer == report_at(t, row, "layer"))
			return (double)i;
	return NAN;
}

static void by_layer(struct report_lines *x, const struct report_data *d,
	const struct view_table *t, const char *key, double scale)
{
	for (size_t r = 0; r < t->n_row; r++)
		report_point(x, layer_x(d, t, r), scale * report_at(t, r, key));
}

/* Row with the largest value of a key less another (NULL = 0), n_row if none has one. */
static size_t most(const struct view_table *t, const char *key, const char *less)
{
	size_t best = t->n_row;
	double top = -INFINITY;

	for (size_t r = 0; r < t->n_row; r++) {
		double v = report_at(t, r, key) - (less ? report_at(t, r, less) : 0);

		if (v > top)
			top = v, best = r;
	}
	return best;
}

/* ---- locality ---- */

static void locality_draw(const struct report_data *d, size_t arg, int narrow,
	struct report_plot *plot)
{
	static const struct report_axes axes = { "layer", "of neighbouring tokens, %",
		NULL, 1, 1, 0, 0 };
	const struct view_table *t = &d->table[REPORT_LOCALITY];
	struct report_lines x;

	(void)arg;
	report_layer_tics(plot, "xtics", &d->layers, narrow ? 13 : 32);
	report_lines_open(&x, plot);
	report_line(&x, "same first choice", "MAIN", 2, REPORT_SOLID, 1);
	by_layer(&x, d, t, "first", 100);
	report_line(&x, "even routing", "MAIN", 1.5, REPORT_DASHED, 0);
	by_layer(&x, d, t, "first_uniform", 100);
	report_line(&x, "choices in common", "LIMIT", 2, REPORT_SOLID, 1);
	by_layer(&x, d, t, "overlap", 100);
	report_line(&x, "even routing", "LIMIT", 1.5, REPORT_DASHED, 0);
	by_layer(&x, d, t, "overlap_uniform", 100);
	report_lines_close(&x, &axes);
}

static void locality_table(struct report_page *p, size_t arg)
{
	(void)arg;
	report_csv_link(p, "locality.csv", &p->d->table[REPORT_LOCALITY]);
	report_view_table(p, &p->d->table[REPORT_LOCALITY], NULL, 1000);
}

void report_locality(struct report_page *p)
{
	static const struct report_figure f = { "locality", "Lines: how often neighbouring tokens "
		"choose the same experts at each layer, with the values of even routing", REPORT_PLOT_LINES,
		locality_draw, locality_table, 0 };
	const struct view_table *t = &p->d->table[REPORT_LOCALITY];
	size_t at = most(t, "overlap", "overlap_uniform");
	struct buf finding, caption;

	if (at == t->n_row) {
		report_why(p, t);
		return;
	}
	buf_init(&finding, 4096);
	buf_init(&caption, 4096);
	buf_printf(&finding, "Neighbouring tokens share %s of their experts at layer %.0f; even "
		"routing would give %s", report_num(REPORT_PERCENT, report_at(t, at, "overlap")).s,
		report_at(t, at, "layer"), report_num(REPORT_PERCENT,
		report_at(t, at, "overlap_uniform")).s);
	buf_printf(&caption, "Consecutive tokens of one sequence: the same first choice, and the share "
		"of the k choices in common. An expert that is always busy raises both without any memory "
		"of the token before. n = %s pairs of tokens at each layer.",
		report_num(REPORT_COUNT, report_at(t, at, "pairs")).s);
	report_figure(p, &f, &finding, &caption);
	buf_free(&finding);
	buf_free(&caption);
}

/* ---- co-activation ---- */

void report_coactivation(struct report_page *p)
{
	const struct view_table *t = &p->d->table[REPORT_COACTIVATION];

	if (!t->n_row) {
		if (t->why[0])
			report_why(p, t);
		else
			buf_str(p->b, "<p>No pair of experts was picked together 20 times and more often than "
				"their own loads give.</p>\n");
		return;
	}
	buf_str(p->b, "<p>The pairs of each layer that stand out most: picked together more often than "
		"the second expert's own load would give. P(j|i): of the tokens that pick i, the share "
		"that also pick j; over all pairs of the selected set, not only neighbouring ranks.");
	report_sampled(p->b, p->d);
	buf_str(p->b, "</p>\n");
	buf_printf(p->b, "<details%s><summary>The pairs</summary>\n", t->n_row > 20 ? "" : " open");
	report_csv_link(p, "coactivation.csv", t);
	report_view_table(p, t, NULL, 60);
	buf_str(p->b, "</details>\n");
}

/* ---- from layer to layer ---- */

static void cross_draw(const struct report_data *d, size_t arg, int narrow,
	struct report_plot *plot)
{
	static const struct report_axes axes = { "layer", "MI with the next layer, bits", NULL, 1, 0.01,
		0, 0 };
	const struct view_table *t = &d->table[REPORT_CROSS];
	struct report_lines x;

	(void)arg;
	report_layer_tics(plot, "xtics", &d->layers, narrow ? 13 : 32);
	report_lines_open(&x, plot);
	report_line(&x, "mutual information", "MAIN", 2, REPORT_SOLID, 1);
	by_layer(&x, d, t, "mi", 1);
	report_line(&x, "of independent choices", "FAIR", 1.5, REPORT_DASHED, 0);
	by_layer(&x, d, t, "mi_bias", 1);
	report_lines_close(&x, &axes);
}

static void cross_table(struct report_page *p, size_t arg)
{
	(void)arg;
	report_csv_link(p, "cross_layer.csv", &p->d->table[REPORT_CROSS]);
	report_view_table(p, &p->d->table[REPORT_CROSS], NULL, 1000);
}

void report_cross(struct report_page *p)
{
	static const struct report_figure f = { "cross", "Lines: mutual information between the "
		"choices of a layer and of the next, with what independent choices would show",
		REPORT_PLOT_LINES, cross_draw, cross_table, 0 };
	const struct view_table *t = &p->d->table[REPORT_CROSS];
	size_t at = most(t, "mi", "mi_bias"), pair = t->n_row;
	struct buf finding, caption;
	double top = 0;

	if (at == t->n_row) {
		report_why(p, t);
		return;
	}
	for (size_t r = 0; r < t->n_row; r++)
		if (report_at(t, r, "p_j_given_i") / report_at(t, r, "p_j") > top)
			top = report_at(t, r, "p_j_given_i") / report_at(t, r, "p_j"), pair = r;
	buf_init(&finding, 4096);
	buf_init(&caption, 4096);
	buf_printf(&finding, "The choice at layer %.0f tells most about that of the next: %s bits",
		report_at(t, at, "layer"), report_num(REPORT_BITS, report_at(t, at, "mi")).s);
	if (pair < t->n_row)
		buf_printf(&caption, "The route that stands out most: of the tokens of expert %.0f at "
			"layer %.0f, %s go on to expert %.0f at layer %.0f, which takes %s of all tokens. ",
			report_at(t, pair, "i"), report_at(t, pair, "layer"),
			report_num(REPORT_PERCENT, report_at(t, pair, "p_j_given_i")).s,
			report_at(t, pair, "j"), report_at(t, pair, "next_layer"),
			report_num(REPORT_PERCENT, report_at(t, pair, "p_j")).s);
	buf_printf(&caption, "<a class=\"term\" href=\"#def-mi\">Mutual information</a> over all pairs "
		"of picks of a token at one layer and the next. The dashed line is the bias of independent "
		"choices. n = %s tokens.", report_num(REPORT_COUNT, report_at(t, at, "tokens")).s);
	report_sampled(&caption, p->d);
	report_figure(p, &f, &finding, &caption);
	buf_free(&finding);
	buf_free(&caption);
}

/* ---- vocabulary ---- */

/* "token (0.93), token (0.71)": the row's expert's tokens; returns the row behind them. */
static size_t put_words(struct report_page *p, const struct view_table *t, size_t r)
{
	double layer = report_at(t, r, "layer"), expert = report_at(t, r, "expert");
	int first = 1;

	buf_str(p->b, "<td class=\"l wrap\">");
	for (; r < t->n_row && report_at(t, r, "layer") == layer && report_at(t, r, "expert") == expert;
	    r++) {
		const char *text = report_at_text(t, r, "text");

		buf_str(p->b, first ? "<code>" : ", <code>");
		if (*text)
			report_text(p->b, text);
		else
			buf_printf(p->b, "#%.0f", report_at(t, r, "token"));
		buf_printf(p->b, "</code>&#160;%s",
			report_num(REPORT_PERCENT, report_at(t, r, "p_expert_given_token")).s);
		first = 0;
	}
	buf_str(p->b, "</td>");
	return r;
}

static void put_experts(struct report_page *p, const struct view_table *t, double layer)
{
	static const struct report_col cols[] = {
		{ "Layer", NULL, 1 }, { "Expert", NULL, 1 }, { "Of all tokens", NULL, 1 },
		{ "Its tokens, and how often they pick it", NULL, 0 },
	};
	size_t r = 0, n = 0;

	report_table_open(p, cols, sizeof cols / sizeof *cols, NULL);
	while (r < t->n_row && n < 64) {
		if (report_at(t, r, "layer") != layer) {
			r++;
			continue;
		}
		report_row_open(p, 0);
		report_cell_head(p, (unsigned)layer);
		report_cell(p, REPORT_COUNT, report_at(t, r, "expert"));
		report_cell(p, REPORT_PERCENT, report_at(t, r, "p_expert"));
		r = put_words(p, t, r);
		report_row_close(p);
		n++;
	}
	report_table_close(p);
	if (n == 64)
		buf_str(p->b, "<p class=\"small\">The first 64 experts; the file has them all.</p>\n");
}

void report_words(struct report_page *p)
{
	const struct view_table *v = &p->d->table[REPORT_VOCABULARY], *t = &p->d->table[REPORT_WORDS];
	size_t at = v->n_row;
	double gain = 0;

	for (size_t r = 0; r < v->n_row; r++) {
		double x = report_at(v, r, "first") - report_at(v, r, "first_all");

		if (x > gain)
			gain = x, at = r;
	}
	if (!v->n_row) {
		report_why(p, v);
		return;
	}
	if (at < v->n_row) {
		buf_printf(p->b, "<p>Routing follows the token most at layer %.0f: a token id goes to its "
			"favourite expert %s of the time, where one expert for all ids would get %s. n = %s "
			"ids that occur at least 8 times.", report_at(v, at, "layer"),
			report_num(REPORT_PERCENT, report_at(v, at, "first")).s,
			report_num(REPORT_PERCENT, report_at(v, at, "first_all")).s,
			report_num(REPORT_COUNT, report_at(v, at, "ids")).s);
		report_sampled(p->b, p->d);
		buf_str(p->b, "</p>\n");
	}
	buf_printf(p->b, "<details%s><summary>Every layer</summary>\n", v->n_row > 12 ? "" : " open");
	report_csv_link(p, "vocabulary.csv", v);
	report_view_table(p, v, NULL, 200);
	buf_str(p->b, "</details>\n");
	if (!t->n_row)
		return;
	buf_str(p->b, "<h3>The tokens of each expert</h3>\n<p>Ids that raise an expert's share most: "
		"picks times the logarithm of P(expert | token) over P(expert).");
	if (!*report_at_text(t, 0, "text"))
		buf_str(p->b, " Shown by id: the run kept no text of its vocabulary.");
	buf_str(p->b, "</p>\n");
	report_csv_link(p, "words.csv", t);
	buf_printf(p->b, "<details%s><summary>The experts of one layer</summary>\n",
		report_max_experts(&p->d->layers) > 16 ? "" : " open");
	put_experts(p, t, at < v->n_row &&
		report_at(v, at, "layer") <= report_at(t, t->n_row - 1, "layer") ? report_at(v, at,
		"layer") : report_at(t, 0, "layer"));
	buf_str(p->b, "</details>\n");
}

/* ---- margins and entropies ---- */

static void spread_lines(const struct report_data *d, struct report_plot *plot,
	const char *const *key, int narrow, const struct report_axes *axes)
{
	static const struct { const char *name, *colour; double width; enum report_dash dash;
		} line[] = {
		{ "5 %", "PALE", 1.5, REPORT_SOLID }, { "25 %", "AXIS", 1.5, REPORT_DASHED },
		{ "median", "MAIN", 2.5, REPORT_SOLID }, { "75 %", "AXIS", 1.5, REPORT_DASHED },
		{ "95 %", "PALE", 1.5, REPORT_SOLID },
	};
	struct report_lines x;

	report_layer_tics(plot, "xtics", &d->layers, narrow ? 13 : 32);
	report_lines_open(&x, plot);
	for (int i = 0; i < 5; i++) {
		report_line(&x, line[i].name, line[i].colour, line[i].width, line[i].dash, 1);
		by_layer(&x, d, &d->table[REPORT_SPREAD], key[i], 1);
	}
	report_lines_close(&x, axes);
}

static void margins_draw(const struct report_data *d, size_t arg, int narrow,
	struct report_plot *plot)
{
	static const char *const key[] = { "margin_p5", "margin_p25", "margin_p50", "margin_p75",
		"margin_p95" };
	static const struct report_axes axes = { "layer", "margin, units of the score",
		NULL, 0, 0, 0, 1 };

	(void)arg;
	spread_lines(d, plot, key, narrow, &axes);
}

static void entropies_draw(const struct report_data *d, size_t arg, int narrow,
	struct report_plot *plot)
{
	static const char *const key[] = { "entropy_p5", "entropy_p25", "entropy_p50", "entropy_p75",
		"entropy_p95" };
	static const struct report_axes axes = { "layer", "token entropy, of ln E", NULL, 1, 1, 0, 0 };

	(void)arg;
	spread_lines(d, plot, key, narrow, &axes);
}

static void spread_table(struct report_page *p, size_t arg)
{
	(void)arg;
	report_csv_link(p, "margins.csv", &p->d->table[REPORT_SPREAD]);
	report_view_table(p, &p->d->table[REPORT_SPREAD], NULL, 1000);
}

void report_margins(struct report_page *p)
{
	static const struct report_figure m = { "margins", "Lines: quantiles of the margin over tokens "
		"at each layer", REPORT_PLOT_LINES, margins_draw, spread_table, 0 };
	static const struct report_figure h = { "entropies", "Lines: quantiles of the entropy of a "
		"token's router probabilities at each layer", REPORT_PLOT_LINES, entropies_draw,
		spread_table, 0 };
	const struct view_table *t = &p->d->table[REPORT_SPREAD];
	size_t close = most(t, "margin_below_001", NULL), sure = t->n_row;
	struct buf finding, caption;

	if (close == t->n_row && !t->n_row) {
		report_why(p, t);
		return;
	}
	buf_init(&finding, 4096);
	buf_init(&caption, 4096);
	if (close < t->n_row) {
		if (report_at(t, close, "margin_below_001") > 0)
			buf_printf(&finding, "At layer %.0f, %s of the choices have a margin below 0.01",
				report_at(t, close, "layer"),
				report_num(REPORT_PERCENT, report_at(t, close, "margin_below_001")).s);
		else
			buf_str(&finding, "No choice of any layer has a margin below 0.01");
		buf_printf(&caption, "<a class=\"term\" href=\"#def-margin\">Margin</a> between the last "
			"selected and the first rejected expert: 5, 25, 50, 75 and 95 %% of the tokens lie at "
			"or below the lines (to within 1 %%). n = %s tokens.",
			report_num(REPORT_COUNT, report_at(t, close, "tokens")).s);
		report_sampled(&caption, p->d);
		report_figure(p, &m, &finding, &caption);
	}
	for (size_t r = 0; r < t->n_row; r++)
		if (isfinite(report_at(t, r, "entropy_p50")) && (sure == t->n_row ||
		    report_at(t, r, "entropy_p50") < report_at(t, sure, "entropy_p50")))
			sure = r;
	buf_clear(&finding);
	buf_clear(&caption);
	if (sure < t->n_row) {
		buf_printf(&finding, "The router is surest at layer %.0f: a median token has %s of the "
			"entropy of even scores", report_at(t, sure, "layer"),
			report_num(REPORT_PERCENT, report_at(t, sure, "entropy_p50")).s);
		buf_str(&caption, "<a class=\"term\" href=\"#def-entropy\">Normalised entropy</a> of the "
			"router's probabilities of one token: 1 is undecided, 0 is one expert.");
		report_sampled(&caption, p->d);
		report_figure(p, &h, &finding, &caption);
	} else
		report_why(p, t);
	buf_free(&finding);
	buf_free(&caption);
}
