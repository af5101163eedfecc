/*
 * audit_explain_show.c - an explanation as text, JSON and page; see audit_explain.h.
 *
 * All three say the same: who was chosen with which weight and score, how near another was, how
 * usual that is in the run and in the domain, what masking changes. None of them says why. The page
 * has no script, its one style is allowed by its hash, and every name goes through text_escape().
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audit/note.h"
#include "base/text.h"
#include "cmd/audit_explain.h"
#include "cmd/show.h"

#define SCORES_MOST 16 /* that text lists; JSON and the page have all */

static const char disclaimer[] =
	"This is traceability: what the routers computed for this token, as "
	"recorded. It is not a cause of the text.";

/* ---- words that text and page share ---- */

/* "17 'the'": from the model, or from the database where it keeps the tokens' text. */
static void token_text(const struct explain *x, int32_t id, enum text_for where, struct buf *b)
{
	char kept[256];
	const char *p = NULL;
	struct moe_err e;
	size_t n = 0;
	int len;

	buf_printf(b, "%d", id);
	if (x->l.tok) {
		p = tok_bytes(x->l.tok, id, &n);
	} else if (!reader_token(x->r, x->info.model, id, kept, sizeof kept, &len, &e) && len >= 0) {
		p = kept;
		n = (size_t)len < sizeof kept ? (size_t)len : sizeof kept;
	}
	if (!p)
		return;
	buf_str(b, " '");
	text_escape(b, p, n, where);
	buf_char(b, '\'');
}

static int is_shown(const struct explain *x, const struct explain_layer *f)
{
	return x->only_layer < 0 || f->layer == x->only_layer;
}

/* The chosen expert that is chosen least often otherwise. */
static size_t rarest(const struct explain_layer *f)
{
	size_t r = 0;

	for (size_t k = 1; k < f->k; k++)
		if (f->share[k].run < f->share[r].run)
			r = k;
	return r;
}

static void percent(struct buf *b, const char *before, double share, const char *after)
{
	buf_printf(b, "%s%.1f %%%s", before, 100 * share, after);
}

static void add_margin(const struct explain *x, const struct explain_layer *f, struct buf *b)
{
	if (isnan(f->margin)) {
		buf_str(b, "not known");
		return;
	}
	buf_printf(b, "%.4g, smaller in ", (double)f->margin);
	percent(b, "", f->below.run, x->sealed ?
		" of the sequence's decisions here" : " of the run's decisions here");
	if (f->below.domain >= 0)
		percent(b, ", in ", f->below.domain, " of the domain's");
	if (f->below.run < 0.05)
		buf_str(b, ": a close one");
}

static void add_next(const struct explain_layer *f, const char *before, struct buf *b)
{
	buf_printf(b, "%sE%d would have come", before, f->next);
	if (f->have_scores)
		buf_printf(b, ", with the score %.4f", (double)f->scores[f->next]);
}

static void add_usual(const struct explain_layer *f, struct buf *b)
{
	size_t r = rarest(f);

	buf_printf(b, "E%d is the least common of them: chosen for ", f->experts[r]);
	percent(b, "", f->share[r].run, " of the run's tokens");
	if (f->share[r].domain >= 0)
		percent(b, ", ", f->share[r].domain, " in this domain");
	percent(b, "; even would be ", (double)f->k / f->n_expert, "");
}

static void add_mask(const struct explain *x, const struct explain_mask *m, enum text_for where,
	struct buf *b)
{
	buf_printf(b, "without E%d ", m->expert);
	if (m->in_place >= 0)
		buf_printf(b, "comes E%d; ", m->in_place);
	else
		buf_str(b, "several choices change; ");
	buf_printf(b, "the next token's distribution moves by %.4f nats; the likeliest %s ", m->kl,
		m->top_before == m->top_after ? "stays" : "was");
	token_text(x, m->top_before, where, b);
	buf_printf(b, ", its probability goes from %.3f to %.3f", m->p_before, m->p_after);
	if (m->top_before != m->top_after) {
		buf_str(b, "; it becomes ");
		token_text(x, m->top_after, where, b);
	}
}

/* Are there chosen experts whose masking was not tried? */
static int some_not_masked(const struct explain *x)
{
	for (size_t i = 0; i < x->info.n_moe_layer; i++)
		if (x->f[i].n_mask && x->f[i].n_mask < x->f[i].k)
			return 1;
	return 0;
}

/* What a reader must know about the run again before believing it; 0 = nothing was run. */
static int add_rerun(const struct explain *x, struct buf *b)
{
	if (!x->rerun)
		return 0;
	if (strcmp(x->then, x->now))
		buf_printf(b,
			"the prefix was run again with ANOTHER MODEL (SHA-256 %.16s..., recorded %.16s...); ",
			x->now, *x->then ? x->then : "none");
	else
		buf_str(b, "the prefix was run again with the recorded model; ");
	if (x->rerun_differs)
		buf_printf(b,
			"at this position %" PRIu64 " layers CHOOSE OTHER EXPERTS than recorded: what follows "
			"from the model is not about this decision",
			x->rerun_differs);
	else
		buf_str(b, "at this position every layer chooses the recorded experts");
	if (some_not_masked(x))
		buf_str(b, "; of a layer's chosen experts only the first is masked (--layer L masks each "
			"one of layer L)");
	return 1;
}

/* ---- text ---- */

struct ranked { float score; uint16_t expert; };

static int by_score(const void *a, const void *b)
{
	const struct ranked *x = a, *y = b;

	if (x->score != y->score)
		return x->score < y->score ? 1 : -1;
	return x->expert < y->expert ? -1 : 1;
}

static int is_chosen(const struct explain_layer *f, int expert)
{
	for (size_t k = 0; k < f->k; k++)
		if (f->experts[k] == expert)
			return 1;
	return 0;
}

/* "E3* 0.4100, E1* 0.2300, E7 0.2000, ..." */
static void add_scores(const struct explain_layer *f, struct buf *b)
{
	struct ranked r[MOE_MAX_EXPERT];
	int most = f->n_expert < SCORES_MOST ? f->n_expert : SCORES_MOST;

	for (int i = 0; i < f->n_expert; i++) /* a NaN sorts last */
		r[i] = (struct ranked){ isnan(f->scores[i]) ? -INFINITY : f->scores[i], (uint16_t)i };
	qsort(r, f->n_expert, sizeof *r, by_score);
	for (int i = 0; i < most; i++)
		buf_printf(b, "%sE%d%s %.4f", i ? ", " : "", r[i].expert,
			is_chosen(f, r[i].expert) ? "*" : "", (double)f->scores[r[i].expert]);
	if (most < f->n_expert)
		buf_printf(b, " and %d more", f->n_expert - most);
}

static void add_layer(const struct explain *x, const struct explain_layer *f, struct buf *b)
{
	buf_printf(b, "\nlayer %d\n  chosen    ", f->layer);
	for (size_t k = 0; k < f->k; k++)
		buf_printf(b, "%sE%d weight %.3f", k ? ", " : "", f->experts[k], (double)f->weights[k]);
	if (f->edited) {
		buf_str(b, "\n  edited    a hook changed this; the router itself chose");
		for (size_t k = 0; k < f->k; k++)
			buf_printf(b, " E%d", f->before[k]);
	}
	if (f->have_scores) {
		buf_str(b, "\n  scores    ");
		add_scores(f, b);
	}
	if (f->next >= 0)
		add_next(f, "\n  next      ", b);
	buf_str(b, "\n  margin    ");
	add_margin(x, f, b);
	buf_str(b, "\n  common?   ");
	add_usual(f, b);
	for (size_t i = 0; i < f->n_mask; i++) {
		buf_str(b, "\n  masked    ");
		add_mask(x, &f->mask[i], TEXT_TERMINAL, b);
	}
	if (!f->have_scores)
		buf_str(b,
			"\n  scores and the next expert: not in the log; --model FILE runs the prefix again");
	buf_char(b, '\n');
}

void explain_text(const struct explain *x, struct buf *b)
{
	buf_printf(b, "run %" PRId64 ", sequence %" PRIu64 ", position %" PRIu64 ": token ", x->info.id,
		x->seq, x->pos);
	token_text(x, x->token, TEXT_TERMINAL, b);
	buf_printf(b, ", %s%s%s\n", x->phase ? "generated" : "read in",
		*x->domain_name ? ", domain " : "", show(x->domain_name).s);
	if (*x->info.source)
		buf_printf(b, "imported from a file of another program, not recorded here: %s\n",
			show(x->info.source).s);
	buf_printf(b, "recorded in leaf %" PRIu64 " of the log; %s %s what the leaf commits to\n",
		x->leaf, x->sealed ? "encrypted, and opened here; what was encrypted" : "the rows",
		x->sealed ? x->opens ? "is" : "IS NOT" : x->opens ? "are" : "ARE NOT");
	if (add_rerun(x, b))
		buf_char(b, '\n');
	for (size_t i = 0; i < x->info.n_moe_layer; i++)
		if (is_shown(x, &x->f[i]))
			add_layer(x, &x->f[i], b);
	buf_printf(b, "\n%s\n", disclaimer);
}

/* ---- JSON ---- */

/* A number, or null where JSON has none. */
static void number(struct buf *b, const char *key, double v)
{
	if (isfinite(v))
		buf_printf(b, ", \"%s\": %.9g", key, v);
	else
		buf_printf(b, ", \"%s\": null", key);
}

/* A string, or null where it is empty. */
static void string(struct buf *b, const char *key, const char *s)
{
	buf_printf(b, ", \"%s\": ", key);
	if (!*s) {
		buf_str(b, "null");
		return;
	}
	buf_char(b, '"');
	text_escape(b, s, strlen(s), TEXT_JSON);
	buf_char(b, '"');
}

static void share(struct buf *b, const char *run, const char *domain, struct explain_share s)
{
	number(b, run, s.run);
	number(b, domain, s.domain >= 0 ? s.domain : NAN);
}

static void json_masks(const struct explain_layer *f, struct buf *b)
{
	buf_str(b, ", \"masked\": [");
	for (size_t i = 0; i < f->n_mask; i++) {
		const struct explain_mask *m = &f->mask[i];

		buf_printf(b, "%s{\"expert\": %d, \"in_place\": ", i ? ", " : "", m->expert);
		if (m->in_place >= 0)
			buf_printf(b, "%d", m->in_place);
		else
			buf_str(b, "null");
		buf_printf(b, ", \"top_before\": %d, \"top_after\": %d", m->top_before, m->top_after);
		number(b, "kl_nats", m->kl);
		number(b, "p_before", m->p_before);
		number(b, "p_after", m->p_after);
		buf_char(b, '}');
	}
	buf_char(b, ']');
}

static void json_layer(const struct explain *x, const struct explain_layer *f, struct buf *b)
{
	buf_printf(b, "{\"layer\": %d, \"chosen\": [", f->layer);
	for (size_t k = 0; k < f->k; k++) {
		buf_printf(b, "%s{\"expert\": %d", k ? ", " : "", f->experts[k]);
		number(b, "weight", (double)f->weights[k]);
		if (f->have_scores)
			number(b, "score", (double)f->scores[f->experts[k]]);
		share(b, "share_run", "share_domain", f->share[k]);
		buf_char(b, '}');
	}
	buf_str(b, "], \"before_edit\": ");
	if (!f->edited)
		buf_str(b, "null");
	for (size_t k = 0; f->edited && k < f->k; k++)
		buf_printf(b, "%s%d%s", k ? ", " : "[", f->before[k], k + 1 == f->k ? "]" : "");
	number(b, "margin", (double)f->margin);
	share(b, "margin_below", "margin_below_domain", x->sealed ?
		(struct explain_share){ NAN, -1 } : f->below);
	number(b, "margin_below_sequence", x->sealed ? f->below.run : NAN);
	number(b, "share_even", (double)f->k / f->n_expert);
	if (f->next >= 0) {
		buf_printf(b, ", \"next\": %d", f->next);
		if (f->have_scores)
			number(b, "next_score", (double)f->scores[f->next]);
	}
	if (f->have_scores) {
		buf_str(b, ", \"scores\": [");
		for (int s = 0; s < f->n_expert; s++)
			buf_printf(b, isfinite(f->scores[s]) ? "%s%.9g" : "%snull", s ? ", " : "",
				(double)f->scores[s]);
		buf_char(b, ']');
	}
	json_masks(f, b);
	buf_char(b, '}');
}

void explain_json(const struct explain *x, struct buf *b)
{
	int n = 0;

	buf_printf(b,
		"{\"run\": %" PRId64 ", \"sequence\": %" PRIu64 ", \"position\": %" PRIu64
		", \"token\": %d, \"phase\": \"%s\", \"leaf\": %" PRIu64
		", \"rows_match_leaf\": %s, \"sealed\": %s",
		x->info.id, x->seq, x->pos, x->token, x->phase ? "decode" : "prefill", x->leaf,
		x->opens ? "true" : "false", x->sealed ? "true" : "false");
	string(b, "domain", x->domain_name);
	string(b, "imported", x->info.source);
	if (x->rerun) {
		buf_printf(b, ", \"rerun\": {\"recorded_model\": %s, \"layers_that_differ\": %" PRIu64,
			strcmp(x->then, x->now) ? "false" : "true", x->rerun_differs);
		string(b, "model_sha256", x->now);
		string(b, "recorded_sha256", x->then);
		buf_char(b, '}');
	}
	buf_str(b, ", \"layers\": [");
	for (size_t i = 0; i < x->info.n_moe_layer; i++)
		if (is_shown(x, &x->f[i])) {
			buf_str(b, n++ ? ",\n " : "\n ");
			json_layer(x, &x->f[i], b);
		}
	buf_printf(b, "\n], \"note\": \"%s\"}\n", disclaimer);
}

/* ---- the page ---- */

static const char style[] =
	":root{color-scheme:light dark;--ink:#1c2430;--dim:#5b6675;--paper:#fff;--line:#d8dee6;"
	"--bar:#2f6fb0;"
	"--bar2:#b9c6d6;--warn:#a33b00}"
	"@media(prefers-color-scheme:dark){:root{--ink:#e4e9f0;--dim:#9aa7b8;--paper:#12161c;"
	"--line:#2c3440;"
	"--bar:#6aa5e0;--bar2:#3c4958;--warn:#ffab7a}}"
	"*{box-sizing:border-box}"
	"body{margin:0 auto;max-width:56rem;padding:1.25rem 1rem 3rem;background:var(--paper);"
	"color:var(--ink);"
	"font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}"
	"h1{font-size:1.5rem;line-height:1.25;margin:0 0 .5rem}h2{font-size:1.15rem;margin:2rem 0 "
	".5rem;"
	"border-top:1px solid var(--line);padding-top:1rem}"
	"p{margin:.35rem 0}.dim{color:var(--dim)}.warn{color:var(--warn);font-weight:600}"
	"table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}"
	"th,td{text-align:right;padding:.25rem .5rem;border-bottom:1px solid var(--line);"
	"white-space:nowrap}"
	"th{font-weight:600;color:var(--dim);font-size:.85rem;white-space:normal;overflow-wrap:normal}"
	"th:first-child,td:first-child{text-align:left;padding-left:0}"
	".wide{width:40%;text-align:left}details .wide{width:65%}"
	"svg{display:block;width:100%;height:.7rem}"
	"rect{fill:var(--bar2)}.c rect{fill:var(--bar)}.c td:first-child{font-weight:600}"
	"summary{cursor:pointer;margin:.6rem 0 .3rem}"
	"dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem;margin:.75rem 0}"
	"dt{color:var(--dim)}dd{margin:0}"
	"@media(max-width:32rem){dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.4rem}"
	"table{font-size:.9rem}th,td{padding:.25rem .2rem}.wide{width:20%;"
	"padding-right:0}details .wide{width:50%}}";

/* The policy names the one style by its hash: nothing else can be added to the page. */
static void page_head(const struct explain *x, struct buf *b)
{
	unsigned char sum[SHA_BYTES];

	sha_of(style, sizeof style - 1, sum);
	buf_str(b,
		"<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n"
		"<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
		"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
		"'sha256-");
	base64_add(b, sum, sizeof sum);
	buf_printf(b,
		"'\">\n<title>Routing of one token: run %" PRId64 ", sequence %" PRIu64
		", position %" PRIu64 "</title>\n<style>%s</style>\n<h1>Routing of one token</h1>\n",
		x->info.id, x->seq, x->pos, style);
}

static void html(struct buf *b, const char *s)
{
	text_escape(b, s, strlen(s), TEXT_HTML);
}

static void page_facts(const struct explain *x, struct buf *b)
{
	struct buf words;

	buf_printf(b, "<p class=\"dim\">%s</p>\n<dl>\n<dt>Where<dd>run %" PRId64 ", sequence %" PRIu64
		", position %" PRIu64 "\n<dt>Token<dd>", disclaimer, x->info.id, x->seq, x->pos);
	token_text(x, x->token, TEXT_HTML, b);
	buf_printf(b, ", %s\n", x->phase ? "generated" : "read in");
	if (*x->domain_name) {
		buf_str(b, "<dt>Domain<dd>");
		html(b, x->domain_name);
		buf_char(b, '\n');
	}
	buf_str(b, "<dt>Model<dd>");
	html(b, x->info.model_name);
	buf_str(b, ", ");
	html(b, x->info.router);
	buf_char(b, '\n');
	if (*x->info.source) {
		buf_str(b,
			"<dt>Imported<dd class=\"warn\">from a file of another program, not recorded here: ");
		html(b, x->info.source);
		buf_char(b, '\n');
	}
	buf_printf(b, "<dt>Record<dd>leaf %" PRIu64 " of the log%s; ", x->leaf,
		x->sealed ? ", encrypted, opened for this page" : "");
	buf_printf(b, x->opens ? "%s what it commits to\n" :
		"<b class=\"warn\">%s what it commits to</b>\n", x->sealed ?
		x->opens ? "what was encrypted is" : "what was encrypted IS NOT" :
		x->opens ? "the rows are" : "the rows ARE NOT");
	buf_init(&words, 4096);
	if (add_rerun(x, &words)) {
		buf_str(b,
			strcmp(x->then, x->now) || x->rerun_differs ? "<dt>Run again<dd class=\"warn\">"
														: "<dt>Run again<dd>");
		html(b, words.data ? words.data : "");
		buf_char(b, '\n');
	}
	buf_free(&words);
	buf_str(b, "</dl>\n<p class=\"dim\">A share says for how many tokens this layer chose the "
		"expert, of all of the run or of the domain.</p>\n");
}

/* A bar of value v on a scale that ends at `full`. */
static void bar(struct buf *b, double v, double full)
{
	double w = full > 0 && isfinite(v) && v > 0 ? 100 * v / full : 0;

	buf_printf(b,
		"<svg viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><rect "
		"width=\"%.2f\" height=\"10\"/></svg>",
		w > 100 ? 100 : w);
}

static void page_chosen(const struct explain_layer *f, struct buf *b)
{
	int domain = f->share[0].domain >= 0;

	buf_printf(b,
		"<table>\n<tr><th>chosen<th class=\"wide\" colspan=\"2\">gate weight%s<th>share of run%s\n",
		f->have_scores ? "<th>score" : "", domain ? "<th>share of domain" : "");
	for (size_t k = 0; k < f->k; k++) {
		buf_printf(b, "<tr class=\"c\"><td>E%d<td>%.3f<td class=\"wide\">", f->experts[k],
			(double)f->weights[k]);
		bar(b, (double)f->weights[k], 1);
		if (f->have_scores)
			buf_printf(b, "<td>%.4f", (double)f->scores[f->experts[k]]);
		percent(b, "<td>", f->share[k].run, "");
		if (domain)
			percent(b, "<td>", f->share[k].domain, "");
		buf_char(b, '\n');
	}
	buf_str(b, "</table>\n");
}

static void page_scores(const struct explain_layer *f, struct buf *b)
{
	double full = 0;

	for (int i = 0; i < f->n_expert; i++)
		full = isfinite(f->scores[i]) && (double)f->scores[i] > full ? (double)f->scores[i] : full;
	buf_printf(b, "<details><summary>Scores of all %d experts</summary>\n<table>\n", f->n_expert);
	for (int i = 0; i < f->n_expert; i++) {
		buf_printf(b, "<tr%s><td>E%d%s<td>%.4f<td class=\"wide\">",
			is_chosen(f, i) ? " class=\"c\"" : "", i,
			is_chosen(f, i)    ? " chosen"
				: i == f->next ? " next"
							: "",
			(double)f->scores[i]);
		bar(b, (double)f->scores[i], full);
		buf_char(b, '\n');
	}
	buf_str(b, "</table></details>\n");
}

static void page_layer(const struct explain *x, const struct explain_layer *f, struct buf *b)
{
	buf_printf(b, "<h2>Layer %d</h2>\n", f->layer);
	page_chosen(f, b);
	if (f->edited) {
		buf_str(b, "<p class=\"warn\">A hook changed this decision; the router itself chose");
		for (size_t k = 0; k < f->k; k++)
			buf_printf(b, " E%d", f->before[k]);
		buf_str(b, ".</p>\n");
	}
	buf_str(b, "<dl>\n<dt>Margin<dd>");
	add_margin(x, f, b);
	if (f->next >= 0)
		add_next(f, "\n<dt>Next<dd>", b);
	buf_str(b, "\n<dt>How common<dd>");
	add_usual(f, b);
	for (size_t i = 0; i < f->n_mask; i++) {
		buf_str(b, "\n<dt>Masked<dd>");
		add_mask(x, &f->mask[i], TEXT_HTML, b);
	}
	buf_str(b, "\n</dl>\n");
	if (f->have_scores)
		page_scores(f, b);
}

void explain_page(const struct explain *x, struct buf *b)
{
	page_head(x, b);
	page_facts(x, b);
	for (size_t i = 0; i < x->info.n_moe_layer; i++)
		if (is_shown(x, &x->f[i]))
			page_layer(x, &x->f[i], b);
	if (x->info.n_moe_layer && !x->f[0].have_scores)
		buf_str(b,
			"<p class=\"dim\">Scores and the next expert are not in the log (detail full keeps "
			"them); "
			"with the model the prefix is run again and masking is tried.</p>\n");
	buf_str(b, "</html>\n");
}
