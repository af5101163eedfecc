/*
 * page.c - the frame of the HTML page, its sections, and what they share; see page.h.
 *
 * The page loads nothing and runs nothing: its policy allows one style, by hash, and pictures that
 * are part of the page. A test checks every one of these words.
 */
#include "reports/page.h"

#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/text.h"

static const char style[] =
#include "style_css.h"
	;

/* To add a section: write report_NAME(page) in a file of this folder, declare it in page.h, and add
 * a row. Order is that of the page; `shown` NULL means always. The title is also its link at the
 * top. Every number comes from report_data: what it lacks is asked of a view in collect.c. */
static const struct section {
	const char *id, *title;
	int (*shown)(const struct report_data *);
	void (*write)(struct report_page *);
} sections[] = {
	{ "baseline", "Compared with the baseline", report_has_base, report_compare },
	{ "load", "Where the load is", NULL, report_load_map },
	{ "balance", "Balance of each layer", report_has_load, report_balance },
	{ "ranks", "Load by rank", report_has_load, report_sorted },
	{ "lorenz", "Inequality", report_has_load, report_lorenz },
	{ "course", "Balance over time", report_has_load, report_course },
	{ "limits-of-load", "Capacity", report_has_load, report_capacity },
	{ "domains", "Domains and experts", NULL, report_domains },
	{ "vocabulary", "Tokens and experts", report_has_load, report_words },
	{ "router", "How sure the router is", report_has_scores, report_router },
	{ "spread", "Margins and entropies", report_has_load, report_margins },
	{ "neighbours", "Locality", report_has_load, report_locality },
	{ "pairs", "Experts that work together", report_has_load, report_coactivation },
	{ "flow", "From layer to layer", report_has_load, report_cross },
	{ "cuts", "Experts to prune or replicate", report_has_load, report_prune },
	{ "offloading", "Expert caches", report_has_load, report_caches },
	{ "aware", "Cache-aware routing", report_has_load, report_aware },
	{ "ranks-of-experts", "Expert parallelism", report_has_load, report_places },
	{ "quality", "How well the model predicts the text", report_has_text, report_quality },
	{ "speed", "Prefill and decode", NULL, report_speed },
	{ "pace", "Latency by domain", report_has_load, report_pace },
	{ "energy", "Energy per token", report_has_load, report_energy },
	{ "run", "How the run was made", NULL, report_run },
	{ "audit", "Audit", report_has_audit, report_audit_pages },
	{ "limits", "What this report cannot tell", NULL, report_limits },
	{ "definitions", "How the numbers are defined", NULL, report_definitions },
	{ "origin", "Where this report comes from", NULL, report_origin },
};
#define N_SECTION (sizeof sections / sizeof *sections)

/* ---- texts ---- */

void report_text(struct buf *b, const char *s)
{
	text_escape(b, s, strlen(s), TEXT_HTML);
}

void report_text_or(struct buf *b, const char *s, const char *if_empty)
{
	if (*s)
		report_text(b, s);
	else
		buf_str(b, if_empty);
}

void report_domain(struct buf *b, const struct domain_info *d)
{
	report_text_or(b, d->id ? d->name : "", "no domain");
}

void report_term(struct buf *b, const char *key, const char *words)
{
	buf_printf(b, "<a class=\"term\" href=\"#def-%s\">%s</a>", key, words);
}

const char *report_plural(size_t n)
{
	return n == 1 ? "" : "s";
}

/* ---- tables ---- */

void report_table_open(struct report_page *p, const struct report_col *cols, size_t n,
	const char *caption)
{
	buf_str(p->b, "<div class=\"scroll\" tabindex=\"0\"><table>\n");
	if (caption)
		buf_printf(p->b, "<caption>%s</caption>\n", caption);
	buf_str(p->b, "<thead><tr>");
	for (size_t i = 0; i < n; i++) {
		buf_printf(p->b, "<th scope=\"col\"%s>", cols[i].number ? "" : " class=\"l\"");
		if (cols[i].term)
			report_term(p->b, cols[i].term, cols[i].title);
		else
			buf_str(p->b, cols[i].title);
		buf_str(p->b, "</th>");
	}
	buf_str(p->b, "</tr></thead>\n<tbody>\n");
}

void report_table_close(struct report_page *p)
{
	buf_str(p->b, "</tbody></table></div>\n");
}

void report_row_open(struct report_page *p, int pale)
{
	buf_str(p->b, pale ? "<tr class=\"pale\">" : "<tr>");
}

void report_row_close(struct report_page *p)
{
	buf_str(p->b, "</tr>\n");
}

void report_cell(struct report_page *p, enum report_unit u, double v)
{
	buf_printf(p->b, "<td>%s</td>", report_num(u, v).s);
}

void report_cell_text(struct report_page *p, const char *s)
{
	buf_str(p->b, "<td class=\"l\">");
	report_text(p->b, s);
	buf_str(p->b, "</td>");
}

void report_cell_head(struct report_page *p, unsigned id)
{
	buf_printf(p->b, "<th scope=\"row\">%u</th>", id);
}

/* ---- figures ---- */

static void base64(struct buf *b, const void *data, size_t n)
{
	size_t size = sodium_base64_encoded_len(n, sodium_base64_VARIANT_ORIGINAL);
	char *s = malloc(size);

	if (!s) {
		b->failed = 1;
		return;
	}
	sodium_bin2base64(s, size, data, n, sodium_base64_VARIANT_ORIGINAL);
	buf_str(b, s);
	free(s);
}

void report_csv_link(struct report_page *p, const char *file, const struct view_table *t)
{
	char *text = NULL;
	size_t n = 0;
	FILE *f;

	if (!t->cols || !(f = open_memstream(&text, &n)))
		return;
	if (!view_table_print(t, VIEW_CSV, f, NULL) && !fclose(f)) {
		buf_printf(p->b, "<p><a download=\"%s\" href=\"data:text/csv;base64,", file);
		base64(p->b, text, n);
		buf_printf(p->b, "\">Save as %s</a></p>\n", file);
	}
	free(text);
}

static void draw_begin(struct report_page *p, const struct report_figure *f, int narrow,
	char *name, size_t size, struct report_plot *plot)
{
	snprintf(name, size, "%s%s", f->id, narrow ? "-narrow" : "");
	report_plot_init(plot, name, f->script);
	plot->alt = f->alt;
	plot->width = narrow ? 360 : 800;
	plot->height = narrow ? 240 : 300;
	f->draw(p->d, f->arg, narrow, plot);
	report_plot_begin(p->plotter, plot);
}

/* Both widths at the same time. They have the same names, which may lie in the same place. */
static int draw(struct report_page *p, const struct report_figure *f)
{
	struct report_plot plot[2];
	struct buf svg[2];
	char name[2][40];
	int rc = 0;

	for (int i = 0; i < 2; i++) {
		buf_init(&svg[i], REPORT_MAX_PAGE);
		draw_begin(p, f, i, name[i], sizeof name[i], &plot[i]);
	}
	for (int i = 0; i < 2; i++)
		rc |= report_plot_end(p->plotter, &plot[i], &svg[i]);
	for (int i = 0; i < 2; i++) {
		if (!rc)
			buf_printf(p->b, "<div class=\"plot %s\">%s</div>\n", i ? "narrow" : "wide",
				svg[i].data);
		buf_free(&svg[i]);
		report_plot_free(&plot[i]);
	}
	return rc;
}

static void no_picture(struct report_page *p)
{
	buf_str(p->b, "<p class=\"note\">The picture is left out");
	if (!p->said_why) {
		buf_str(p->b, ": ");
		report_text(p->b, p->plotter->why.msg);
	}
	buf_str(p->b, ". The table has its data.</p>\n");
	p->said_why = 1;
}

void report_figure(struct report_page *p, const struct report_figure *f, const struct buf *finding,
	const struct buf *caption)
{
	int drawn;

	p->n_figure++;
	buf_printf(p->b, "<figure id=\"fig-%s\">\n<h3>%s</h3>\n", f->id, finding->data);
	drawn = p->plotter->off || !draw(p, f);
	if (!drawn)
		no_picture(p);
	buf_printf(p->b, "<figcaption>%s</figcaption>\n", caption->data ? caption->data : "");
	buf_printf(p->b, "<details%s><summary>The data as a table</summary>\n", drawn ? "" : " open");
	f->table(p, f->arg);
	buf_str(p->b, "</details>\n</figure>\n");
}

void report_layer_tics(struct report_plot *plot, const char *axis, const struct view_layers *l,
	size_t most)
{
	size_t step = 1;

	while (l->n > most * step)
		step *= step == 2 ? 2.5 : 2; /* 1, 2, 5, 10, ... */
	buf_printf(&plot->tics, "set %s (", axis);
	for (size_t i = 0; i < l->n; i += step)
		buf_printf(&plot->tics, "%s'%u' %zu", i ? ", " : "", l->layer[i].layer, i);
	buf_str(&plot->tics, ")\n");
}

unsigned report_column_step(unsigned columns, int narrow)
{
	unsigned most = narrow ? (columns > 99 ? 8 : 10) : columns > 99 ? 20 : 32, step = 1;

	while (columns > most * step)
		step *= 2;
	return step;
}

/* ---- findings ---- */

int report_has_load(const struct report_data *d)
{
	return report_worst_layer(&d->layers) < d->layers.n;
}

size_t report_worst_layer(const struct view_layers *l)
{
	size_t worst = l->n;

	for (size_t i = 0; i < l->n; i++)
		if (l->layer[i].tokens && !isnan(l->layer[i].max_mean) &&
		    (worst == l->n || l->layer[i].max_mean > l->layer[worst].max_mean))
			worst = i;
	return worst;
}

unsigned report_max_experts(const struct view_layers *l)
{
	unsigned n = 0;

	for (size_t i = 0; i < l->n; i++)
		if (l->layer[i].n_expert > n)
			n = l->layer[i].n_expert;
	return n;
}

double report_overall(const struct report_data *d, unsigned layer, unsigned expert)
{
	for (size_t i = 0; i < d->layers.n; i++) {
		const struct view_layer *l = &d->layers.layer[i];

		if (l->layer == layer && l->tokens && expert < l->n_expert)
			return l->rel[expert];
	}
	return NAN;
}

size_t report_best_spec(const struct view_spec *s)
{
	size_t best = s->n_layer;
	double top = -INFINITY;

	for (size_t i = 0; i < s->n_layer; i++)
		if (s->layer[i].mi - s->layer[i].null_p95 > top) {
			top = s->layer[i].mi - s->layer[i].null_p95;
			best = i;
		}
	return best;
}

/* ---- the frame ---- */

static void put_head(struct report_page *p)
{
	unsigned char hash[crypto_hash_sha256_BYTES];

	crypto_hash_sha256(hash, (const unsigned char *)style, strlen(style));
	buf_str(p->b, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
		"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
		"style-src 'sha256-");
	base64(p->b, hash, sizeof hash);
	buf_str(p->b, "'; img-src data:; base-uri 'none'; form-action 'none'\">\n"
		"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
		"<meta name=\"referrer\" content=\"no-referrer\">\n"
		"<meta name=\"color-scheme\" content=\"light dark\">\n<title>Routing report: ");
	report_text_or(p->b, p->d->sum.run.model_name, "model without a name");
	buf_printf(p->b, ", run %lld</title>\n<style>%s</style>\n</head>\n",
		(long long)p->d->sum.run.id, style);
}

static int shown(const struct report_page *p, size_t i)
{
	return !sections[i].shown || sections[i].shown(p->d);
}

static void put_contents(struct report_page *p)
{
	buf_str(p->b, "<nav aria-label=\"Sections\"><ul>\n");
	for (size_t i = 0; i < N_SECTION; i++)
		if (shown(p, i))
			buf_printf(p->b, "<li><a href=\"#%s\">%s</a></li>\n", sections[i].id,
				sections[i].title);
	buf_str(p->b, "</ul></nav>\n");
}

int report_html(const struct report_data *d, struct report_plotter *plotter, struct buf *out,
	struct moe_err *e)
{
	struct report_page p = { .b = out, .d = d, .plotter = plotter };

	put_head(&p);
	buf_str(out, "<body>\n<main>\n");
	report_first_page(&p);
	put_contents(&p);
	for (size_t i = 0; i < N_SECTION; i++) {
		if (!shown(&p, i))
			continue;
		if (d->opt.step)
			d->opt.step(d->opt.ctx, sections[i].id);
		buf_printf(out, "<section id=\"%s\">\n<h2>%s</h2>\n", sections[i].id, sections[i].title);
		sections[i].write(&p);
		report_beside(&p, sections[i].id);
		buf_str(out, "</section>\n");
	}
	buf_str(out, "</main>\n</body>\n</html>\n");
	return !out->failed ? 0 :
		err_set(e, MOE_ERR_SYS, "the report is larger than %zu bytes", out->max);
}
