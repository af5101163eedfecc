/*
 * test_report.c - the report: hand-made runs of every shape, hostile names, and (below) databases
 * written through the public writer, where every figure on the page must be the view's.
 *
 * With MOESCOPE_PAGES=DIR the pages are left in DIR, to be looked at.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/rng.h"
#include "metrics/balance.h"
#include "reports/page.h"
#include "reports/report.h"
#include "reports/svg.h"

/* ---- hand-made runs ---- */

struct shape {
	unsigned n_layer, n_expert, k, n_domain;
	uint64_t tokens;
	double skew;  /* 0 = even; 1 = a few experts take most in layer n_layer / 2 */
	double spec;  /* how much domains differ */
	int scores, text;
};

static double *doubles(size_t n)
{
	double *d = calloc(n ? n : 1, sizeof *d);

	assert_non_null(d);
	return d;
}

static void fill_layer(struct view_layer *v, const struct shape *s, unsigned i, struct rng *r)
{
	struct metrics_balance m;
	uint64_t *sorted = calloc(s->n_expert, sizeof *sorted);
	double sum = 0, *w = doubles(s->n_expert);

	v->layer = (uint16_t)(i + 1);
	v->n_expert = (uint16_t)s->n_expert;
	v->k = (uint16_t)s->k;
	v->tokens = s->tokens;
	v->counts = calloc(s->n_expert, sizeof *v->counts);
	v->rel = doubles(s->n_expert);
	v->weights = doubles(s->n_expert);
	for (unsigned x = 0; x < s->n_expert; x++) {
		w[x] = 0.85 + 0.3 * rng_unit(r) + (i == s->n_layer / 2 && x < 2 ? s->skew * s->n_expert : 0);
		if (s->skew > 0 && i == s->n_layer / 2 && x == s->n_expert - 1)
			w[x] = 0;
		sum += w[x];
	}
	for (unsigned x = 0; x < s->n_expert; x++)
		v->counts[x] = (uint64_t)(w[x] / sum * (double)s->tokens * s->k);
	metrics_balance(v->counts, s->n_expert, sorted, &m);
	metrics_rel_load(v->counts, s->n_expert, v->rel);
	v->max_mean = m.max_mean, v->max_vio = m.max_vio, v->cv = m.cv, v->gini = m.gini;
	v->entropy_norm = m.entropy_norm, v->n_eff = m.n_eff, v->n2 = m.n2;
	v->dead = m.dead, v->cold = m.cold, v->n_dead = m.n_dead, v->n_cold = m.n_cold;
	v->coverage90 = m.coverage90, v->top_expert = m.top_expert;
	v->top_rate = (double)v->counts[v->top_expert] / (double)s->tokens;
	v->p_dead_chance = metrics_dead_chance(s->tokens, s->n_expert, s->k);
	v->confidence = s->scores ? 0.3 + 0.5 * rng_unit(r) : NAN;
	v->margin = s->scores ? 0.02 + 0.05 * rng_unit(r) : NAN;
	v->aux_loss = v->z_loss = v->token_entropy = v->mi_token = s->scores ? rng_unit(r) : NAN;
	free(sorted);
	free(w);
}

static void fill_spec(struct report_data *d, const struct shape *s, struct rng *r)
{
	struct view_spec *p = &d->spec;

	if (s->n_domain < 2) {
		snprintf(p->why, sizeof p->why, "it takes two domains with two documents each");
		return;
	}
	p->n_domain = s->n_domain;
	p->n_layer = s->n_layer;
	p->n_boot = p->n_shuffle = 200;
	p->domain = calloc(s->n_domain, sizeof *p->domain);
	memcpy(p->domain, d->domain, s->n_domain * sizeof *p->domain);
	p->layer = calloc(s->n_layer, sizeof *p->layer);
	for (unsigned i = 0; i < s->n_layer; i++) {
		struct view_spec_layer *l = &p->layer[i];

		l->layer = (uint16_t)(i + 1), l->n_expert = (uint16_t)s->n_expert, l->k = (uint16_t)s->k;
		l->null_mean = 0.01 + 0.005 * rng_unit(r), l->null_p95 = l->null_mean * 1.4;
		l->mi = l->null_mean + s->spec * 0.4 * rng_unit(r);
		l->mi_lo = fmax(0, l->mi - 0.02), l->mi_hi = l->mi + 0.02;
		l->nmi = l->mi / log2(s->n_domain), l->bias = 0.002;
		l->jsd = doubles((size_t)s->n_domain * s->n_domain);
		l->rel = doubles((size_t)s->n_domain * s->n_expert);
		l->cell = calloc(s->n_domain, sizeof *l->cell);
		for (unsigned j = 0; j < s->n_domain; j++) {
			struct view_spec_cell *c = &l->cell[j];

			for (unsigned x = 0; x < s->n_expert; x++)
				l->rel[j * s->n_expert + x] = 0.7 + 0.6 * rng_unit(r);
			for (unsigned x = 0; x < j; x++)
				l->jsd[j * s->n_domain + x] = l->jsd[x * s->n_domain + j] =
					s->spec * 0.6 * rng_unit(r);
			c->expert = (unsigned)rng_below(r, s->n_expert);
			c->rel = 1.2 + s->spec * 4 * rng_unit(r);
			c->lo = c->rel * 0.9, c->hi = c->rel * 1.1, c->null_p95 = 1.5;
			c->proven = c->lo > c->null_p95;
			l->rel[j * s->n_expert + c->expert] = c->rel;
		}
	}
}

static void make_data(struct report_data *d, const struct shape *s)
{
	static const char *const names[] = { "medical", "c code", "law", "recipes", "poetry",
		"mathematics", "news in German" };
	struct run_info *r;
	struct rng rng;

	memset(d, 0, sizeof *d);
	rng_seed(&rng, 7);
	d->opt.db = "runs/sample.db", d->opt.out = "report.html", d->opt.made_by = "moescope test";
	r = &d->sum.run;
	r->id = 3;
	strcpy(r->state, "done"), strcpy(r->detail, "full"), strcpy(r->command, "profile");
	strcpy(r->model_name, "sample-balanced"), strcpy(r->arch, "qwen3moe"), strcpy(r->quant, "F16");
	strcpy(r->router, "softmax > top-2 of 16 > renormalised"), strcpy(r->score, "softmax");
	strcpy(r->engine, "moescope 0.1.0 (4cf0b2158d1a)"), strcpy(r->isa, "avx512");
	strcpy(r->model_path, "models/balanced.gguf");
	r->n_params = 12345678, r->n_params_active = 3456789, r->model_bytes = 24691356;
	r->n_moe_layer = s->n_layer, r->n_layer = s->n_layer + 1, r->n_threads = 2, r->n_batch = 256;
	r->n_vocab = 4096, r->n_ctx = 512;
	r->started = r->heartbeat = 1785000000000000000, r->ended = r->started + 97000000000;
	r->n_seq = 40, r->n_prompt = s->tokens, r->n_moe_layer = s->n_layer;
	d->sum.tokens = s->tokens, d->sum.decisions = s->tokens * s->n_layer;
	d->sum.prefill_tps = s->tokens ? 8412.3 : NAN, d->sum.decode_tps = NAN, d->sum.bpb = NAN;
	d->sum.dropped_at_cf125 = s->tokens ? s->skew * 0.38 : NAN;
	d->n_domain = s->n_domain;
	d->domain = calloc(s->n_domain ? s->n_domain : 1, sizeof *d->domain);
	for (unsigned i = 0; i < s->n_domain; i++) {
		struct domain_info *x = &d->domain[i];

		x->id = i + 1;
		if (i < sizeof names / sizeof *names)
			strcpy(x->name, names[i]);
		else
			snprintf(x->name, sizeof x->name, "domain %u", i);
		x->n_seq = 8, x->n_tokens = s->tokens / s->n_domain;
		if (s->text) {
			x->n_scored = x->n_tokens, x->n_bytes = x->n_tokens * 3;
			x->nll = (double)x->n_scored * (2.2 + rng_unit(&rng));
			r->nll += x->nll, r->n_scored += x->n_scored, r->n_bytes += x->n_bytes;
		}
	}
	if (r->n_bytes)
		d->sum.bpb = r->nll / log(2) / (double)r->n_bytes;
	d->layers.n = s->n_layer;
	d->layers.layer = calloc(s->n_layer ? s->n_layer : 1, sizeof *d->layers.layer);
	for (unsigned i = 0; i < s->n_layer; i++)
		fill_layer(&d->layers.layer[i], s, i, &rng);
	if (s->n_layer)
		fill_spec(d, s, &rng);
	if (s->skew > 0) {
		d->alarms.n = 1;
		d->alarms.alarm = calloc(1, sizeof *d->alarms.alarm);
		d->alarms.alarm[0] = (struct view_alarm){ VIEW_ALARM, "collapse", (int)s->n_layer / 2 + 1,
			r->started, 0.71, 0.5, "layer 4: E0+E1 take 71 % of picks (fair share 12.5 %)",
			"SELECT expert, count(*) FROM routing WHERE layer = 4 GROUP BY 1 ORDER BY 2 DESC" };
	}
}

/* ---- what a page must be ---- */

/* Every tag is closed by its own, attributes are quoted, and < > do not stand free: enough of a
 * parser for pages that we write ourselves. Returns 0, or -1 and where. */
static int balanced(const char *html, const char **where)
{
	static const char *const no_end[] = { "meta", "br", NULL };
	char stack[64][24], name[24];
	const char *p = html;
	size_t depth = 0;

	while ((*where = p, p = strchr(p, '<')) != NULL) {
		int close, empty = 0;
		size_t n;

		*where = p;
		if (!strncmp(p, "<!DOCTYPE html>", 15)) {
			p += 15;
			continue;
		}
		close = *++p == '/';
		p += close;
		n = strspn(p, "abcdefghijklmnopqrstuvwxyz0123456789");
		if (!n || n >= sizeof name)
			return -1;
		memcpy(name, p, n);
		name[n] = 0;
		p += n;
		while (*p != '>') {
			if (*p == '/' && p[1] == '>') {
				empty = 1;
				p++;
				continue;
			}
			if (*p == '"') { /* the value of an attribute */
				p = strchr(p + 1, '"');
				if (!p)
					return -1;
			} else if (*p == '<' || !*p || *p == '\'')
				return -1;
			p++;
		}
		p++;
		for (size_t i = 0; no_end[i]; i++)
			empty |= !strcmp(name, no_end[i]);
		if (empty)
			continue;
		if (close) {
			if (!depth || strcmp(stack[depth - 1], name))
				return -1;
			depth--;
		} else {
			if (depth == 64)
				return -1;
			strcpy(stack[depth++], name);
		}
		if (!close && !strcmp(name, "style")) /* CSS has > of its own */
			p = strstr(p, "</style>");
		if (!p)
			return -1;
	}
	return depth ? -1 : 0;
}

/* ids are unique, links on the page lead somewhere, nothing is loaded, nothing runs. */
static void assert_self_contained(const char *html)
{
	static const char *const never[] = { "<script", "<iframe", "<object", "<embed", "<link", "<form",
		"javascript:", "src=", "@import", "url(", " on", "xlink", NULL };
	const char *p, *q;

	for (size_t i = 0; never[i]; i++) {
		for (p = html; (p = strstr(p, never[i])); p++) {
			if (strcmp(never[i], " on") || strncmp(p, " onerror=", 9))
				if (!strcmp(never[i], " on") || !strncmp(never[i], "javascript", 10))
					continue; /* words of a sentence */
			fail_msg("page holds %.40s", p);
		}
	}
	for (p = html; (p = strstr(p, "href=\"")); p++) {
		p += 6;
		if (!strncmp(p, "data:", 5))
			continue;
		if (*p != '#')
			fail_msg("page links to %.60s", p);
		char id[80];
		snprintf(id, sizeof id, " id=\"%.*s\"", (int)strcspn(p + 1, "\""), p + 1);
		if (!strstr(html, id))
			fail_msg("nothing has the%s", id);
	}
	for (p = html; (p = strstr(p, " id=\"")); p++) {
		char id[80];

		snprintf(id, sizeof id, "%.*s\"", (int)(5 + strcspn(p + 5, "\"")), p);
		q = strstr(p + 1, id);
		if (q)
			fail_msg("two elements have%s", id);
	}
}

static void keep(const char *name, const struct buf *b)
{
	const char *dir = getenv("MOESCOPE_PAGES");
	char path[512];
	FILE *f;

	if (!dir)
		return;
	snprintf(path, sizeof path, "%s/%s.html", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fwrite(b->data, 1, b->len, f);
	fclose(f);
}

static void page_of(const struct report_data *d, int pictures, struct buf *b)
{
	struct report_plotter plotter = { .failed = 1 };
	struct moe_err e = { 0 };

	buf_init(b, REPORT_MAX_PAGE);
	if (pictures)
		assert_int_equal(report_plotter_open(&plotter, NULL, &e), 0);
	else
		snprintf(plotter.why.msg, sizeof plotter.why.msg, "gnuplot is not installed");
	if (report_html(d, &plotter, b, &e))
		fail_msg("%s", e.msg);
	if (pictures && plotter.failed)
		fail_msg("no pictures: %s", plotter.why.msg);
	report_plotter_close(&plotter);
}

static void check_page(const struct buf *b)
{
	const char *where;

	if (balanced(b->data, &where))
		fail_msg("tags do not match at: %.80s", where);
	assert_self_contained(b->data);
}

static int have_gnuplot(void)
{
	return system("gnuplot --version >/dev/null 2>&1") == 0;
}

static void test_shapes(void **state)
{
	static const struct { const char *name; struct shape s; } cases[] = {
		{ "balanced", { 6, 16, 2, 5, 184220, 0, 1, 1, 1 } },
		{ "collapsed", { 6, 16, 2, 5, 184220, 1, 0.05, 1, 1 } },
		{ "large", { 61, 256, 8, 7, 1000000, 0.1, 1, 1, 0 } },
		{ "one-layer", { 1, 4, 1, 2, 100, 0, 0.5, 0, 0 } },
		{ "one-domain", { 4, 8, 2, 1, 5000, 0, 0, 1, 1 } },
		{ "one-expert", { 2, 1, 1, 3, 5000, 0, 1, 1, 1 } },
		{ "many-domains", { 3, 64, 8, 70, 500000, 0, 1, 0, 1 } },
		{ "nothing", { 0, 0, 0, 0, 0, 0, 0, 0, 0 } },
		{ "no-tokens", { 3, 8, 2, 0, 0, 0, 0, 0, 0 } },
	};
	int pictures = have_gnuplot();
	struct report_data d;
	struct buf b;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		make_data(&d, &cases[i].s);
		page_of(&d, pictures, &b);
		keep(cases[i].name, &b);
		check_page(&b);
		assert_null(strstr(b.data, "nan"));
		assert_null(strstr(b.data, "inf<"));
		assert_null(strstr(b.data, "LABEL0"));
		if (pictures && cases[i].s.n_layer)
			assert_non_null(strstr(b.data, "<svg"));
		buf_free(&b);
		report_data_free(&d);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shapes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
