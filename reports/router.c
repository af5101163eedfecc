/* router.c - how sure the router is, how well the model predicts the text, and the two phases. */
#include <math.h>
#include <string.h>

#include "reports/show.h"

#define MAX_ROWS 60

static void put_values(struct buf *b, size_t row, double v, double reference)
{
	buf_printf(b, "%zu", row);
	if (isfinite(v))
		buf_printf(b, " %.6g", v);
	else
		buf_str(b, " NaN");
	if (isfinite(reference))
		buf_printf(b, " %.6g\n", reference);
	else
		buf_str(b, " NaN\n");
}

/* ---- confidence and margin ---- */

int report_has_scores(const struct report_data *d)
{
	for (size_t i = 0; i < d->layers.n; i++)
		if (!isnan(d->layers.layer[i].confidence) || !isnan(d->layers.layer[i].margin))
			return 1;
	return 0;
}

static double even(const struct view_layer *l)
{
	return (double)l->k / l->n_expert;
}

static void confidence_draw(const struct report_data *d, size_t arg, int narrow,
	struct report_plot *plot)
{
	const struct view_layers *l = &d->layers;
	double top = 0;

	(void)arg;
	report_layer_tics(plot, "xtics", l, narrow ? 13 : 32);
	for (size_t i = 0; i < l->n; i++) {
		put_values(&plot->data, i, l->layer[i].confidence, even(&l->layer[i]));
		top = fmax(top, fmax(l->layer[i].confidence, even(&l->layer[i])));
	}
	report_plot_var(plot, "N", (double)l->n);
	report_plot_var(plot, "WHAT", 1);
	report_plot_var(plot, "TOP", top > 0.5 ? 1 : top * 1.15);
}

static void margin_draw(const struct report_data *d, size_t arg, int narrow,
	struct report_plot *plot)
{
	const struct view_layers *l = &d->layers;
	double top = 0;

	(void)arg;
	report_layer_tics(plot, "xtics", l, narrow ? 13 : 32);
	for (size_t i = 0; i < l->n; i++) {
		put_values(&plot->data, i, l->layer[i].margin, NAN);
		top = fmax(top, l->layer[i].margin);
	}
	report_plot_var(plot, "N", (double)l->n);
	report_plot_var(plot, "WHAT", 2);
	report_plot_var(plot, "TOP", top > 0 ? top * 1.1 : 1);
}

static void router_table(struct report_page *p, size_t arg)
{
	static const struct report_col cols[] = {
		{ "Layer", NULL, 1 }, { "Confidence", "confidence", 1 }, { "Even scores", "confidence", 1 },
		{ "Margin", "margin", 1 }, { "Token entropy", "entropy", 1 }, { "Aux loss", "aux", 1 },
		{ "z-loss", "aux", 1 }, { "MI token", "mi", 1 },
	};
	const struct view_layers *l = &p->d->layers;

	(void)arg;
	report_table_open(p, cols, sizeof cols / sizeof *cols, NULL);
	for (size_t i = 0; i < l->n; i++) {
		const struct view_layer *v = &l->layer[i];

		report_row_open(p, !v->tokens);
		report_cell_head(p, v->layer);
		report_cell(p, REPORT_SHARE, v->confidence);
		report_cell(p, REPORT_SHARE, even(v));
		report_cell(p, REPORT_SHARE, v->margin);
		report_cell(p, REPORT_SHARE, v->token_entropy);
		report_cell(p, REPORT_SHARE, v->aux_loss);
		report_cell(p, REPORT_SHARE, v->z_loss);
		report_cell(p, REPORT_SHARE, v->mi_token);
		report_row_close(p);
	}
	report_table_close(p);
}

/* Index of the layer with the least and the most of a figure; n where nothing has one. */
static void extremes(const struct view_layers *l, double (*get)(const struct view_layer *),
	size_t *least, size_t *most)
{
	*least = *most = l->n;
	for (size_t i = 0; i < l->n; i++) {
		double v = get(&l->layer[i]);

		if (isnan(v))
			continue;
		if (*least == l->n || v < get(&l->layer[*least]))
			*least = i;
		if (*most == l->n || v > get(&l->layer[*most]))
			*most = i;
	}
}

static double get_confidence(const struct view_layer *l)
{
	return l->confidence;
}

static double get_margin(const struct view_layer *l)
{
	return l->margin;
}

static void show_confidence(struct report_page *p)
{
	static const struct report_figure f = { "confidence", "Bars: mean probability of the selected "
		"experts at each layer, with the value of even scores", REPORT_PLOT_LEVEL, confidence_draw,
		router_table, 0 };
	const struct view_layers *l = &p->d->layers;
	struct buf finding, caption;
	size_t a, b;

	extremes(l, get_confidence, &a, &b);
	if (a == l->n)
		return;
	buf_init(&finding, 4096);
	buf_init(&caption, 4096);
	buf_printf(&finding, "The selected experts hold %s of the router's probability at layer %u, "
		"the least sure", report_num(REPORT_PERCENT, l->layer[a].confidence).s, l->layer[a].layer);
	if (a != b)
		buf_printf(&finding, ", and %s at layer %u, the surest",
			report_num(REPORT_PERCENT, l->layer[b].confidence).s, l->layer[b].layer);
	buf_printf(&caption, "Mean over tokens of the <a class=\"term\" "
		"href=\"#def-confidence\">softmax probability of the selected experts</a>. <span "
		"class=\"key fair\"></span> what even scores would give (%u of %u experts: %s). n = %s "
		"tokens.", l->layer[a].k, l->layer[a].n_expert,
		report_num(REPORT_PERCENT, even(&l->layer[a])).s,
		report_num(REPORT_COUNT, (double)p->d->sum.tokens).s);
	report_figure(p, &f, &finding, &caption);
	buf_free(&finding);
	buf_free(&caption);
}

void report_router(struct report_page *p)
{
	static const struct report_figure f = { "margin", "Bars: mean margin between the last "
		"selected and the first rejected expert at each layer", REPORT_PLOT_LEVEL, margin_draw,
		router_table, 0 };
	const struct view_layers *l = &p->d->layers;
	struct buf finding, caption;
	size_t a, b;

	show_confidence(p);
	extremes(l, get_margin, &a, &b);
	if (a == l->n)
		return;
	buf_init(&finding, 4096);
	buf_init(&caption, 4096);
	buf_printf(&finding, "Choices are closest at layer %u: the last selected expert leads the "
		"next by %s on average", l->layer[a].layer, report_num(REPORT_SHARE, l->layer[a].margin).s);
	buf_printf(&caption, "<a class=\"term\" href=\"#def-margin\">Margin</a> on the scores that the "
		"selection used (");
	report_text_or(&caption, p->d->sum.run.score, "score function unknown");
	buf_printf(&caption, "). Where it is near 0, rounding or quantisation can flip a choice. "
		"Margins of different score functions cannot be compared. n = %s tokens.",
		report_num(REPORT_COUNT, (double)p->d->sum.tokens).s);
	report_figure(p, &f, &finding, &caption);
	buf_free(&finding);
	buf_free(&caption);
}

/* ---- bits per byte ---- */

static double bits_per_byte(double nll, uint64_t bytes)
{
	return bytes ? nll / log(2) / (double)bytes : NAN;
}

int report_has_text(const struct report_data *d)
{
	return d->sum.run.n_scored > 0 && d->sum.run.n_bytes > 0 && isfinite(d->sum.bpb);
}

static double domain_bpb(const struct domain_info *d)
{
	return d->n_scored ? bits_per_byte(d->nll, d->n_bytes) : NAN;
}

static void text_draw(const struct report_data *d, size_t arg, int narrow, struct report_plot *plot)
{
	static const char *names[MAX_ROWS];
	size_t n = d->n_domain < MAX_ROWS ? d->n_domain : MAX_ROWS;
	double top = d->sum.bpb;

	(void)arg;
	buf_str(&plot->tics, "set ytics (");
	for (size_t i = 0; i < n; i++) {
		buf_printf(&plot->tics, "%s'LABEL%03zu' %zu", i ? ", " : "", i, i);
		names[i] = d->domain[i].id ? d->domain[i].name : "no domain";
		put_values(&plot->data, i, domain_bpb(&d->domain[i]), NAN);
		top = fmax(top, domain_bpb(&d->domain[i]));
	}
	buf_str(&plot->tics, ")\n");
	plot->label = names;
	plot->n_label = n;
	plot->label_columns = narrow ? 11 : 18;
	plot->height = 62 + (unsigned)n * 24;
	report_plot_var(plot, "LEFT", narrow ? 92 : 142);
	report_plot_var(plot, "N", (double)n);
	report_plot_var(plot, "ALL", d->sum.bpb);
	report_plot_var(plot, "TOP", top > 0 ? top * 1.06 : 1);
}

static void text_table(struct report_page *p, size_t arg)
{
	static const struct report_col cols[] = {
		{ "Domain", NULL, 0 }, { "Bits per byte", "bpb", 1 }, { "Perplexity per token", "bpb", 1 },
		{ "Scored tokens", NULL, 1 }, { "Bytes", NULL, 1 }, { "Sequences", NULL, 1 },
	};
	const struct report_data *d = p->d;

	(void)arg;
	report_table_open(p, cols, sizeof cols / sizeof *cols, NULL);
	for (size_t i = 0; i <= d->n_domain; i++) {
		const struct domain_info *v = i < d->n_domain ? &d->domain[i] : NULL;
		double nll = v ? v->nll : d->sum.run.nll;
		uint64_t scored = v ? v->n_scored : d->sum.run.n_scored;

		report_row_open(p, !scored);
		buf_str(p->b, "<td class=\"l\">");
		if (v)
			report_domain(p->b, v);
		else
			buf_str(p->b, "<b>all text</b>");
		buf_str(p->b, "</td>");
		report_cell(p, REPORT_SHARE, v ? domain_bpb(v) : d->sum.bpb);
		report_cell(p, REPORT_TENTH, scored ? exp(nll / (double)scored) : NAN);
		report_cell(p, REPORT_COUNT, (double)scored);
		report_cell(p, REPORT_COUNT, (double)(v ? v->n_bytes : d->sum.run.n_bytes));
		report_cell(p, REPORT_COUNT, (double)(v ? v->n_seq : d->sum.run.n_seq));
		report_row_close(p);
	}
	report_table_close(p);
}

void report_quality(struct report_page *p)
{
	static const struct report_figure f = { "text", "Bars: bits per byte of text of each domain, "
		"with the figure of all text", REPORT_PLOT_TEXT, text_draw, text_table, 0 };
	const struct report_data *d = p->d;
	size_t hard = d->n_domain, n = 0;
	struct buf finding, caption;

	buf_init(&finding, 4096);
	buf_init(&caption, 4096);
	for (size_t i = 0; i < d->n_domain; i++) {
		double v = domain_bpb(&d->domain[i]);

		n += !isnan(v);
		if (!isnan(v) && (hard == d->n_domain || v > domain_bpb(&d->domain[hard])))
			hard = i;
	}
	buf_printf(&finding, "The model needs %s bits per byte of text",
		report_num(REPORT_SHARE, d->sum.bpb).s);
	if (n > 1) {
		buf_str(&finding, "; ");
		report_domain(&finding, &d->domain[hard]);
		buf_printf(&finding, " is the hardest at %s",
			report_num(REPORT_SHARE, domain_bpb(&d->domain[hard])).s);
	}
	buf_printf(&caption, "<a class=\"term\" href=\"#def-bpb\">Bits per byte</a>: lower is better, "
		"and it can be compared between tokenizers. <span class=\"key fair\"></span> all text. "
		"n = %s scored tokens, %s bytes.", report_num(REPORT_COUNT, (double)d->sum.run.n_scored).s,
		report_num(REPORT_COUNT, (double)d->sum.run.n_bytes).s);
	if (hard < d->n_domain)
		report_figure(p, &f, &finding, &caption);
	else
		buf_printf(p->b, "<p>%s.</p>\n", finding.data);
	buf_free(&finding);
	buf_free(&caption);
}

/* ---- prefill and decode ---- */

static uint64_t phase_tokens(const struct view_layers *l)
{
	uint64_t n = 0;

	for (size_t i = 0; i < l->n; i++)
		if (l->layer[i].tokens > n)
			n = l->layer[i].tokens;
	return n;
}

/* A figure of the row of a phase, NAN without one. */
static double of_phase(const struct view_table *t, const char *phase, const char *key)
{
	for (size_t r = 0; r < t->n_row; r++)
		if (!strcmp(report_at_text(t, r, "phase"), phase))
			return report_at(t, r, key);
	return NAN;
}

void report_speed(struct report_page *p)
{
	static const struct report_col cols[] = {
		{ "Phase", "phase", 0 }, { "Tokens", NULL, 1 }, { "Tokens per second", "speed", 1 },
		{ "Worst max/mean", "maxmean", 1 }, { "at layer", NULL, 1 },
		{ "Expert cache, hits", NULL, 1 },
		{ "J per token", NULL, 1 },
	};
	static const char *const name[] = { "prefill", "decode" };
	const struct report_data *d = p->d;
	const double tps[] = { d->sum.prefill_tps, d->sum.decode_tps };

	if (isnan(tps[0]) && isnan(tps[1]))
		buf_str(p->b, "<p>No speeds were logged.</p>\n");
	else if (isnan(tps[0]) || isnan(tps[1]))
		buf_printf(p->b, "<p>The engine did %s tokens per second of %s; the run has no %s.</p>\n",
			report_num(REPORT_SPEED, isnan(tps[0]) ? tps[1] : tps[0]).s, name[isnan(tps[0])],
			name[!isnan(tps[0])]);
	else
		buf_printf(p->b, "<p>Reading text (prefill) ran at %s tokens per second, writing it "
			"(decode) at %s.</p>\n", report_num(REPORT_SPEED, tps[0]).s,
			report_num(REPORT_SPEED, tps[1]).s);
	if (d->sum.cache.hits + d->sum.cache.misses)
		buf_printf(p->b, "<p>Experts stayed in the file: %s of those that a batch needed were in "
			"the expert cache, %s were read, and the engine waited %s for them.</p>\n",
			report_num(REPORT_PERCENT, view_hit_rate(&d->sum.cache)).s,
			report_num(REPORT_SIZE, (double)d->sum.cache.bytes).s,
			report_num(REPORT_DURATION, (double)d->sum.cache.stall_ns * 1e-9).s);
	if (d->sum.edited)
		buf_printf(p->b, "<p>A hook changed %s of %s decisions: these figures are not those of the "
			"model alone.</p>\n", report_num(REPORT_COUNT, (double)d->sum.edited).s,
			report_num(REPORT_COUNT, (double)d->sum.decisions).s);
	report_table_open(p, cols, sizeof cols / sizeof *cols, NULL);
	for (int i = 0; i < 2; i++) {
		size_t w = report_worst_layer(&d->phase[i]);
		int any = w < d->phase[i].n;

		report_row_open(p, !any);
		buf_printf(p->b, "<td class=\"l\">%s</td>", name[i]);
		report_cell(p, REPORT_COUNT, (double)phase_tokens(&d->phase[i]));
		report_cell(p, REPORT_SPEED, tps[i]);
		report_cell(p, REPORT_TIMES, any ? d->phase[i].layer[w].max_mean : NAN);
		report_cell(p, REPORT_COUNT, any ? d->phase[i].layer[w].layer : NAN);
		report_cell(p, REPORT_PERCENT, of_phase(&d->table[REPORT_CACHE_USE], name[i], "hit_rate"));
		report_cell(p, REPORT_SHARE,
			of_phase(&d->table[REPORT_ENERGY], name[i], "joule_per_token"));
		report_row_close(p);
	}
	report_table_close(p);
	if (isnan(tps[0]) && isnan(tps[1]))
		return;
	buf_str(p->b, "<p class=\"small\">Speeds count the time of the forward passes only, on ");
	buf_printf(p->b, "%u thread%s", d->sum.run.n_threads, report_plural(d->sum.run.n_threads));
	if (d->sum.run.isa[0]) {
		buf_str(p->b, " with ");
		report_text(p->b, d->sum.run.isa);
		buf_str(p->b, " kernels");
	}
	buf_str(p->b, ".</p>\n");
}
