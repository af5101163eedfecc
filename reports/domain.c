/*
 * domain.c - does the model specialise, and is it real?
 *
 * A claim is one domain at one layer: its strongest expert. It stands only where the low end of
 * its interval is above what shuffled labels reach; what does not is greyed and said to be
 * unproven. The page shows the layer that tells most about the domain and the strongest claims of
 * all layers; every claim is in the table behind its figure.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "reports/page.h"

#define MAX_ROWS 60   /* domains that a picture shows */
#define N_CLAIM 12    /* claims in the table of the strongest */
#define NAME_COLUMNS 18

struct claim {
	const struct view_spec_layer *layer;
	const struct view_spec_cell *cell;
	size_t domain; /* index */
};

static size_t n_rows(const struct view_spec *s)
{
	return s->n_domain < MAX_ROWS ? s->n_domain : MAX_ROWS;
}

/* Row names: gnuplot gets LABELnnn. `axis` is "xtics" or "ytics". */
static void domain_tics(const struct view_spec *s, const char *axis, struct report_plot *plot)
{
	buf_printf(&plot->tics, "set %s (", axis);
	for (size_t i = 0; i < n_rows(s); i++)
		buf_printf(&plot->tics, "%s'LABEL%03zu' %zu", i ? ", " : "", i, i);
	buf_str(&plot->tics, ")\n");
}

/* The names themselves, with their numbers or without; they live until the next call that asks for
 * others (one thread writes a page). */
static void domain_labels(const struct view_spec *s, int narrow, int numbers,
	struct report_plot *plot)
{
	static char text[MAX_ROWS][sizeof s->domain->name + 32];
	static const char *names[MAX_ROWS];

	for (size_t i = 0; i < n_rows(s); i++) {
		const char *name = s->domain[i].id ? s->domain[i].name : "no domain";

		if (numbers)
			snprintf(text[i], sizeof text[i], "%zu · %s", i + 1, name);
		else
			snprintf(text[i], sizeof text[i], "%s", name);
		names[i] = text[i];
	}
	plot->label = names;
	plot->n_label = n_rows(s);
	plot->label_columns = narrow ? 11 : NAME_COLUMNS;
	report_plot_var(plot, "LEFT", narrow ? 92 : 142);
}

static void put_row(struct buf *b, const double *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (isfinite(v[i]))
			buf_printf(b, "%s%.6g", i ? " " : "", v[i]);
		else
			buf_printf(b, "%sNaN", i ? " " : "");
	}
	buf_char(b, '\n');
}

/* ---- domain x expert at one layer ---- */

static void map_draw(const struct report_data *d, size_t at, int narrow, struct report_plot *plot)
{
	const struct view_spec *s = &d->spec;
	const struct view_spec_layer *l = &s->layer[at];
	double cell;

	domain_tics(s, "ytics", plot);
	domain_labels(s, narrow, 0, plot);
	cell = (plot->width - (narrow ? 102.0 : 152.0)) / l->n_expert;
	plot->height = 92 + (unsigned)n_rows(s) * (narrow ? 18 : 24);
	report_plot_var(plot, "NC", l->n_expert);
	report_plot_var(plot, "NR", (double)n_rows(s));
	report_plot_var(plot, "STEP", report_column_step(l->n_expert, narrow));
	report_plot_var(plot, "NUM", cell >= 26);
	report_plot_var(plot, "NAMES", 0);
	for (size_t i = 0; i < n_rows(s); i++)
		for (unsigned x = 0; x < l->n_expert; x++)
			put_row(&plot->data, (double[]){ x, (double)i, l->rel[i * l->n_expert + x] }, 3);
}

static void map_table(struct report_page *p, size_t at)
{
	const struct view_spec *s = &p->d->spec;
	const struct view_spec_layer *l = &s->layer[at];

	buf_printf(p->b, "<div class=\"scroll\" tabindex=\"0\"><table class=\"dense\">\n<caption>Load "
		"at layer %u as a multiple of the fair share; rows are domains, columns experts</caption>\n"
		"<thead><tr><th></th>", l->layer);
	for (unsigned x = 0; x < l->n_expert; x++)
		buf_printf(p->b, "<th scope=\"col\">%u</th>", x);
	buf_str(p->b, "</tr></thead>\n<tbody>\n");
	for (size_t i = 0; i < s->n_domain; i++) {
		buf_str(p->b, "<tr><th scope=\"row\" class=\"l\">");
		report_domain(p->b, &s->domain[i]);
		buf_str(p->b, "</th>");
		for (unsigned x = 0; x < l->n_expert; x++) {
			double r = l->rel[i * l->n_expert + x];

			buf_printf(p->b, isnan(r) ? "<td>–</td>" : "<td>%.2f</td>", r);
		}
		report_row_close(p);
	}
	report_table_close(p);
}

static void show_map(struct report_page *p, size_t at)
{
	static const char alt[] = "Heat map of load relative to fair share: domains down, "
		"experts across";
	const struct report_figure f = { "domain-expert", alt, REPORT_PLOT_HEAT, map_draw, map_table,
		at };
	const struct view_spec *s = &p->d->spec;
	const struct view_spec_layer *l = &s->layer[at];
	size_t n = 0, best = s->n_domain;
	struct buf finding, caption;

	buf_init(&finding, 4096);
	buf_init(&caption, 4096);
	for (size_t i = 0; i < s->n_domain; i++) {
		n += l->cell[i].proven != 0;
		if (l->cell[i].proven && (best == s->n_domain ||
		    view_spec_lead(&l->cell[i]) > view_spec_lead(&l->cell[best])))
			best = i;
	}
	if (best < s->n_domain) {
		buf_printf(&finding, "At layer %u, %zu of %zu domains have an expert that beats shuffled "
			"labels; clearest is expert %u: %s its fair share on ", l->layer, n, s->n_domain,
			l->cell[best].expert, report_num(REPORT_TIMES, l->cell[best].rel).s);
		report_domain(&finding, &s->domain[best]);
		buf_printf(&finding, ", %s on all text",
			report_num(REPORT_TIMES, report_overall(p->d, l->layer, l->cell[best].expert)).s);
	} else
		buf_printf(&finding, "Even at layer %u, which differs most, no domain has an expert that "
			"shuffled labels do not match", l->layer);
	buf_printf(&caption, "Each row is a domain: how its picks at layer %u spread over the "
		"experts, as multiples of the fair share. Same colours as above. A column that is red in "
		"every row is merely a busy expert. n = %s tokens in %zu domains.", l->layer,
		report_num(REPORT_COUNT, (double)p->d->sum.tokens).s, s->n_domain);
	if (s->n_domain > MAX_ROWS)
		buf_printf(&caption, " The picture shows the first %d domains, the table all.", MAX_ROWS);
	report_figure(p, &f, &finding, &caption);
	buf_free(&finding);
	buf_free(&caption);
}

/* ---- the strongest expert of each domain, beside its null ---- */

static void dots_draw(const struct report_data *d, size_t at, int narrow, struct report_plot *plot)
{
	const struct view_spec *s = &d->spec;
	double top = 2;

	domain_tics(s, "ytics", plot);
	domain_labels(s, narrow, 0, plot);
	plot->height = 62 + (unsigned)n_rows(s) * 24;
	for (size_t i = 0; i < n_rows(s); i++) {
		const struct view_spec_cell *c = &s->layer[at].cell[i];

		put_row(&plot->data, (double[]){ (double)i, c->rel, c->lo, c->hi, c->null_p95,
			c->proven != 0 }, 6);
		top = fmax(top, fmax(c->rel, c->hi) * 1.05);
		top = fmax(top, c->null_p95 * 1.05);
	}
	report_plot_var(plot, "N", (double)n_rows(s));
	report_plot_var(plot, "TOP", top);
}

static int stronger(const void *a, const void *b)
{
	const struct claim *x = a, *y = b;

	if (!x->cell->proven != !y->cell->proven)
		return x->cell->proven ? -1 : 1;
	if (view_spec_lead(x->cell) != view_spec_lead(y->cell))
		return view_spec_lead(x->cell) > view_spec_lead(y->cell) ? -1 : 1;
	if (x->layer != y->layer)
		return x->layer < y->layer ? -1 : 1;
	return x->domain < y->domain ? -1 : x->domain > y->domain;
}

/* Every claim, proven ones first, each group by how far it leads its null; malloced. */
static struct claim *all_claims(const struct view_spec *s)
{
	struct claim *c = calloc(s->n_layer * s->n_domain + 1, sizeof *c);
	size_t n = 0;

	if (!c)
		return NULL;
	for (size_t i = 0; i < s->n_layer; i++)
		for (size_t j = 0; j < s->n_domain; j++)
			c[n++] = (struct claim){ &s->layer[i], &s->layer[i].cell[j], j };
	qsort(c, n, sizeof *c, stronger);
	return c;
}

static void claims_table(struct report_page *p, size_t most)
{
	static const struct report_col cols[] = {
		{ "Domain", NULL, 0 }, { "Layer", NULL, 1 }, { "Expert", NULL, 1 }, { "Load", "fair", 1 },
		{ "95 % interval", "interval", 1 }, { "Shuffled reach", "null", 1 },
		{ "All text", "fair", 1 }, { "Shared tokens", "control", 1 },
		{ "elsewhere", "control", 1 }, { "", NULL, 0 },
	};
	const struct view_spec *s = &p->d->spec;
	size_t n = s->n_layer * s->n_domain;
	struct claim *c = all_claims(s);

	if (!c) {
		p->b->failed = 1;
		return;
	}
	report_table_open(p, cols, sizeof cols / sizeof *cols, NULL);
	for (size_t i = 0; i < n && i < most; i++) {
		const struct view_spec_cell *v = c[i].cell;

		report_row_open(p, !v->proven);
		buf_str(p->b, "<td class=\"l\">");
		report_domain(p->b, &s->domain[c[i].domain]);
		buf_str(p->b, "</td>");
		report_cell(p, REPORT_COUNT, c[i].layer->layer);
		report_cell(p, REPORT_COUNT, v->expert);
		report_cell(p, REPORT_TIMES, v->rel);
		buf_printf(p->b, "<td>%s</td>", report_interval(REPORT_TIMES, v->lo, v->hi).s);
		report_cell(p, REPORT_TIMES, v->null_p95);
		report_cell(p, REPORT_TIMES, report_overall(p->d, c[i].layer->layer, v->expert));
		report_cell(p, REPORT_TIMES, v->token_rel);
		report_cell(p, REPORT_TIMES, v->token_control);
		buf_printf(p->b, "<td class=\"l\">%s</td>", v->proven ? "" : "unproven");
		report_row_close(p);
	}
	report_table_close(p);
	free(c);
}

static void every_claim(struct report_page *p, size_t at)
{
	(void)at;
	claims_table(p, (size_t)-1);
}

static void show_claims(struct report_page *p, size_t at)
{
	static const char alt[] = "Dots with intervals: load of the strongest expert of each domain, "
		"beside what shuffled labels reach";
	const struct report_figure f = { "strongest", alt, REPORT_PLOT_DOTS, dots_draw, every_claim,
		at };
	const struct view_spec *s = &p->d->spec;
	size_t n = 0, total = s->n_layer * s->n_domain;
	struct buf finding, caption;

	buf_init(&finding, 4096);
	buf_init(&caption, 4096);
	for (size_t i = 0; i < s->n_layer; i++)
		for (size_t j = 0; j < s->n_domain; j++)
			n += s->layer[i].cell[j].proven != 0;
	buf_printf(&finding, "%zu of %zu pairs of layer and domain have an expert that beats shuffled "
		"labels%s", n, total, n ? "" : ": no specialisation is shown");
	buf_printf(&caption, "Layer %u. <span class=\"key main\"></span> strongest expert of the "
		"domain with its <a class=\"term\" href=\"#def-interval\">95 %% interval</a>; small and "
		"grey where unproven. <span class=\"key pale\"></span> what <a class=\"term\" "
		"href=\"#def-null\">shuffled labels</a> reach (95th percentile). <span class=\"key "
		"fair\"></span> fair share. A dot whose interval touches the grey proves nothing. n = %s "
		"sequences; %u resamplings of documents, %u shuffles.", s->layer[at].layer,
		report_num(REPORT_COUNT, (double)p->d->sum.run.n_seq).s, s->n_boot, s->n_shuffle);
	report_figure(p, &f, &finding, &caption);
	buf_printf(p->b, "<h3>The %zu clearest claims of all layers</h3>\n",
		total < N_CLAIM ? total : (size_t)N_CLAIM);
	claims_table(p, N_CLAIM);
	if (total > N_CLAIM)
		buf_printf(p->b, "<p class=\"small\">All %zu are in the table of the figure above. Greyed "
			"claims are unproven: they may be chance. Where shared tokens take as much elsewhere "
			"as here, it is the words, not the domain.</p>\n", total);
	buf_free(&finding);
	buf_free(&caption);
}

/* ---- mutual information per layer ---- */

static void mi_draw(const struct report_data *d, size_t arg, int narrow, struct report_plot *plot)
{
	const struct view_spec *s = &d->spec;
	double top = 0;
	size_t step = 1;

	(void)arg;
	while (s->n_layer > step * (narrow ? 13 : 32))
		step *= 2;
	buf_str(&plot->tics, "set xtics (");
	for (size_t i = 0; i < s->n_layer; i++) {
		const struct view_spec_layer *l = &s->layer[i];

		if (i % step == 0)
			buf_printf(&plot->tics, "%s'%u' %zu", i ? ", " : "", l->layer, i);
		put_row(&plot->data, (double[]){ (double)i, l->mi, l->mi_lo, l->mi_hi, l->null_mean,
			l->null_p95 }, 6);
		top = fmax(top, fmax(fmax(l->mi, l->mi_hi), l->null_p95));
	}
	buf_str(&plot->tics, ")\n");
	report_plot_var(plot, "N", (double)s->n_layer);
	report_plot_var(plot, "TOP", top > 0 ? top * 1.08 : 1);
}

static void mi_table(struct report_page *p, size_t arg)
{
	static const struct report_col cols[] = {
		{ "Layer", NULL, 1 }, { "MI, bits", "mi", 1 }, { "95 % interval", "interval", 1 },
		{ "Shuffled, mean", "null", 1 }, { "Shuffled, 95 %", "null", 1 }, { "Bias", "mi", 1 },
		{ "Of the domain", "mi", 1 }, { "", NULL, 0 },
	};
	const struct view_spec *s = &p->d->spec;

	(void)arg;
	report_table_open(p, cols, sizeof cols / sizeof *cols, NULL);
	for (size_t i = 0; i < s->n_layer; i++) {
		const struct view_spec_layer *l = &s->layer[i];
		int proven = l->mi_lo > l->null_p95;

		report_row_open(p, !proven);
		report_cell_head(p, l->layer);
		report_cell(p, REPORT_BITS, l->mi);
		buf_printf(p->b, "<td>%s</td>", report_interval(REPORT_BITS, l->mi_lo, l->mi_hi).s);
		report_cell(p, REPORT_BITS, l->null_mean);
		report_cell(p, REPORT_BITS, l->null_p95);
		report_cell(p, REPORT_BITS, l->bias);
		report_cell(p, REPORT_PERCENT, l->nmi);
		buf_printf(p->b, "<td class=\"l\">%s</td>", proven ? "" : "unproven");
		report_row_close(p);
	}
	report_table_close(p);
}

static void show_mi(struct report_page *p, size_t at)
{
	static const struct report_figure f = { "mi", "Dots with intervals: mutual information between "
		"domain and expert of each layer, beside what shuffled labels reach", REPORT_PLOT_RANGE,
		mi_draw, mi_table, 0 };
	const struct view_spec *s = &p->d->spec;
	const struct view_spec_layer *l = &s->layer[at];
	struct buf finding, caption;
	size_t n = 0;

	buf_init(&finding, 4096);
	buf_init(&caption, 4096);
	for (size_t i = 0; i < s->n_layer; i++)
		n += s->layer[i].mi_lo > s->layer[i].null_p95;
	if (n)
		buf_printf(&finding, "Experts tell domains apart in %zu of %zu layer%s, most in layer %u: "
			"%s bits, where shuffled labels give %s", n, s->n_layer, report_plural(s->n_layer),
			l->layer, report_num(REPORT_BITS, l->mi).s, report_num(REPORT_BITS, l->null_mean).s);
	else
		buf_str(&finding, "In no layer do experts tell domains apart better than shuffled labels");
	buf_printf(&caption, "<span class=\"key main\"></span> <a class=\"term\" "
		"href=\"#def-mi\">mutual information</a> of domain and expert, with its 95 %% interval "
		"over documents. <span class=\"key pale\"></span> what <a class=\"term\" "
		"href=\"#def-null\">shuffled labels</a> reach, up to their 95th percentile. Layers are to "
		"be judged each against its own grey. n = %s sequences; %u resamplings, %u shuffles.",
		report_num(REPORT_COUNT, (double)p->d->sum.run.n_seq).s, s->n_boot, s->n_shuffle);
	report_figure(p, &f, &finding, &caption);
	buf_free(&finding);
	buf_free(&caption);
}

/* ---- domain x domain ---- */

static void jsd_draw(const struct report_data *d, size_t at, int narrow, struct report_plot *plot)
{
	const struct view_spec *s = &d->spec;
	size_t n = n_rows(s);
	double top = 0, cell;

	domain_tics(s, "ytics", plot);
	domain_labels(s, narrow, 1, plot);
	buf_printf(&plot->tics, "set xtics (");
	for (size_t i = 0; i < n; i++)
		buf_printf(&plot->tics, "%s'%zu' %zu", i ? ", " : "", i + 1, i);
	buf_str(&plot->tics, ")\n");
	cell = (plot->width - (narrow ? 104.0 : 154.0)) / (double)n;
	if (!narrow && cell > 60)
		cell = 60;
	plot->height = 78 + (unsigned)n * (cell < 12 ? 12 : cell > 26 ? 26 : (unsigned)cell);
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < n; j++) {
			double v = s->layer[at].jsd[i * s->n_domain + j];

			put_row(&plot->data, (double[]){ (double)j, (double)i, v }, 3);
			top = fmax(top, v);
		}
	report_plot_var(plot, "N", (double)n);
	report_plot_var(plot, "MAX", top > 0 ? top : 1);
	report_plot_var(plot, "NUM", cell >= 32);
}

static void jsd_table(struct report_page *p, size_t at)
{
	const struct view_spec *s = &p->d->spec;

	buf_str(p->b, "<div class=\"scroll\" tabindex=\"0\"><table class=\"dense\">\n<caption>"
		"Jensen–Shannon divergence, bits</caption>\n<thead><tr><th></th>");
	for (size_t i = 0; i < s->n_domain; i++) {
		buf_str(p->b, "<th scope=\"col\">");
		report_domain(p->b, &s->domain[i]);
		buf_str(p->b, "</th>");
	}
	buf_str(p->b, "</tr></thead>\n<tbody>\n");
	for (size_t i = 0; i < s->n_domain; i++) {
		buf_str(p->b, "<tr><th scope=\"row\" class=\"l\">");
		report_domain(p->b, &s->domain[i]);
		buf_str(p->b, "</th>");
		for (size_t j = 0; j < s->n_domain; j++)
			report_cell(p, REPORT_BITS, s->layer[at].jsd[i * s->n_domain + j]);
		report_row_close(p);
	}
	report_table_close(p);
}

static void show_jsd(struct report_page *p, size_t at)
{
	static const char alt[] = "Matrix of Jensen–Shannon divergences between domains";
	const struct report_figure f = { "jsd", alt, REPORT_PLOT_JSD, jsd_draw, jsd_table, at };
	const struct view_spec *s = &p->d->spec;
	const double *v = s->layer[at].jsd;
	size_t n = s->n_domain, far_i = 0, far_j = 1, near_i = 0, near_j = 1;
	struct buf finding, caption;

	buf_init(&finding, 4096);
	buf_init(&caption, 4096);
	for (size_t i = 0; i < n; i++)
		for (size_t j = i + 1; j < n; j++) {
			if (v[i * n + j] > v[far_i * n + far_j])
				far_i = i, far_j = j;
			if (v[i * n + j] < v[near_i * n + near_j])
				near_i = i, near_j = j;
		}
	buf_printf(&finding, "At layer %u ", s->layer[at].layer);
	report_domain(&finding, &s->domain[far_i]);
	buf_str(&finding, " and ");
	report_domain(&finding, &s->domain[far_j]);
	buf_printf(&finding, " use the experts most differently: %s bits",
		report_num(REPORT_BITS, v[far_i * n + far_j]).s);
	if (n > 2) {
		buf_str(&finding, "; ");
		report_domain(&finding, &s->domain[near_i]);
		buf_str(&finding, " and ");
		report_domain(&finding, &s->domain[near_j]);
		buf_printf(&finding, " are the most alike: %s", report_num(REPORT_BITS,
			v[near_i * n + near_j]).s);
	}
	buf_printf(&caption, "<a class=\"term\" href=\"#def-jsd\">Jensen–Shannon divergence</a> of "
		"the loads of two domains at layer %u; 0 is the same, 1 bit is no expert in common. "
		"Columns are in the order of the rows. Two halves of one domain would not give exactly 0 "
		"either. n = %s tokens.", s->layer[at].layer,
		report_num(REPORT_COUNT, (double)p->d->sum.tokens).s);
	report_figure(p, &f, &finding, &caption);
	buf_free(&finding);
	buf_free(&caption);
}

void report_domains(struct report_page *p)
{
	const struct view_spec *s = &p->d->spec;
	size_t at = report_best_spec(s);

	if (at == s->n_layer || !s->n_domain) {
		buf_str(p->b, "<p>Nothing can be said about domains: ");
		report_text_or(p->b, s->why, "there are no decisions to compare");
		buf_str(p->b, ". What it takes: a run at detail level <code>routes</code> or more, with at "
			"least two domains of at least two documents each.</p>\n");
		return;
	}
	show_map(p, at);
	show_claims(p, at);
	show_mi(p, at);
	if (s->n_domain >= 2)
		show_jsd(p, at);
}
