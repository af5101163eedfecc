/*
 * test_report.c - the report: hand-made runs of every shape, hostile names, and databases written
 * through the public writer, where every figure on the page must be the view's.
 *
 * With MOESCOPE_PAGES=DIR the pages are left in DIR, to be looked at.
 */
#include <math.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include "report_world.h"

#include "base/buf.h"
#include "base/rng.h"
#include "metrics/balance.h"
#include "reports/page.h"
#include "reports/report.h"
#include "reports/show.h"

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
		w[x] = 0.85 + 0.3 * rng_unit(r) + (i == s->n_layer / 2 && x < 2 ? s->skew * s->n_expert :
			0);
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
			c->token_share = 0.3, c->token_rel = c->rel * 0.8, c->token_control = j % 3 ? 1.1 : NAN;
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

/* Elements and attributes that load, run or style anything. */
static int forbidden(const char *s, size_t n)
{
	static const char *const never[] = { "script", "iframe", "object", "embed", "link", "form",
		"img",
		"base", "foreignobject", "src", "srcset", "action", "formaction", "xlink:href",
		"background", "poster", NULL };

	for (size_t i = 0; never[i]; i++)
		if (strlen(never[i]) == n && !strncmp(never[i], s, n))
			return 1;
	return n > 2 && !strncmp(s, "on", 2);
}

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
		if (forbidden(name, n))
			return -1;
		while (*p != '>') {
			n = strspn(p, "abcdefghijklmnopqrstuvwxyz:-ABCDEFGHIJKLMNOPQRSTUVWXYZ");
			if (n && (forbidden(p, n) || !strncmp(p, "style=", 6)))
				return -1;
			if (n) {
				p += n;
				continue;
			}
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

/* ids are unique, links on the page lead somewhere. */
static void assert_self_contained(const char *html)
{
	const char *p, *q;

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
		if (pictures && report_has_load(&d))
			assert_non_null(strstr(b.data, "<svg"));
		buf_free(&b);
		report_data_free(&d);
	}
}

/* ---- numbers ---- */

static void test_numbers(void **state)
{
	static const struct { enum report_unit u; double v; const char *s; } cases[] = {
		{ REPORT_COUNT, 0, "0" }, { REPORT_COUNT, 999, "999" }, { REPORT_COUNT, 1000, "1,000" },
		{ REPORT_COUNT, 1234567890, "1,234,567,890" }, { REPORT_COUNT, NAN, "–" },
		{ REPORT_TIMES, 1.3149, "1.31×" }, { REPORT_TIMES, 9.996, "10.0×" },
		{ REPORT_TIMES, 255.6, "256×" }, { REPORT_PERCENT, 0.125, "12.5\u00a0%" },
		{ REPORT_PERCENT, 0, "0\u00a0%" }, { REPORT_PERCENT, 1, "100\u00a0%" },
		{ REPORT_PERCENT, 0.0001, "&lt; 0.1\u00a0%" }, { REPORT_SHARE, 0.99349, "0.993" },
		{ REPORT_BITS, 0.0001, "&lt; 0.001" }, { REPORT_BITS, -0.0001, "0.000" },
		{ REPORT_SPEED, 12.34, "12.3" }, { REPORT_SPEED, 8412.3, "8,412" },
		{ REPORT_SIZE, 1300000000, "1.3 GB" }, { REPORT_AMOUNT, 6.9e9, "6.9 billion" },
		{ REPORT_DURATION, 151, "2 min 31 s" }, { REPORT_SHARE, INFINITY, "∞" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		assert_string_equal(report_num(cases[i].u, cases[i].v).s, cases[i].s);
	assert_string_equal(report_interval(REPORT_TIMES, 3.8, 12.4).s, "3.80–12.4×");
	assert_string_equal(report_date(INT64_C(951827696123456789)).s, "2000-02-29 12:34:56 UTC");
	assert_string_equal(report_date(0).s, "–");
}

/* ---- databases, written as an engine would ---- */

static void page_of_db(const char *path, int pictures, struct report_data *d, struct buf *b)
{
	struct report_opt o = { .db = path, .out = "report.html", .made_by = "moescope test" };
	struct moe_err e = { 0 };
	struct reader *r = reader_open(path, &e);

	if (!r || report_collect(r, &o, d, &e))
		fail_msg("%s", e.msg);
	reader_close(r);
	page_of(d, pictures, b);
	check_page(b);
}

/* The number that the page gives to programs at an id. */
static double figure(const struct buf *b, const char *id)
{
	char key[80];
	const char *p;

	snprintf(key, sizeof key, "<data id=\"%s\" value=\"", id);
	p = strstr(b->data, key);
	if (!p)
		fail_msg("no figure %s", id);
	p += strlen(key);
	return *p == '"' ? NAN : strtod(p, NULL);
}

/* `row` of the table in figure `fig`: the text of its cells, joined with "|". */
static void cells(const struct buf *b, const char *fig, const char *head, char *out, size_t size)
{
	char key[128];
	const char *p, *end;
	size_t n = 0;

	snprintf(key, sizeof key, "<figure id=\"fig-%s\">", fig);
	p = strstr(b->data, key);
	assert_non_null(p);
	snprintf(key, sizeof key, "<tr><th scope=\"row\">%s</th>", head);
	p = strstr(p, key);
	assert_non_null(p);
	p += strlen("<tr>");
	end = strstr(p, "</tr>");
	for (int in = 0; p < end && n + 1 < size; p++) {
		if (*p == '<')
			in = 1;
		else if (*p == '>')
			in = 0;
		else if (!in)
			out[n++] = *p;
		if (*p == '>' && p[-1] != 'h' && p[-1] != 'd')
			continue;
		if (*p == '>' && (!strncmp(p - 4, "</td>", 5) || !strncmp(p - 4, "</th>", 5)))
			out[n++] = '|';
	}
	out[n] = 0;
}

/* Every figure of the first page and every cell of the balance table is the view's, asked here
 * again and printed as page.h promises. */
static void test_figures_are_the_views(void **state)
{
	static const char *const names[] = { "c code", "law", "medical" };
	const struct world w = { 3, 8, 2, 30, 40, MOE_DETAIL_FULL, names, 3, "model" };
	struct load_filter f = { .run = 1, .domain = -1, .phase = -1 };
	struct moe_err e = { 0 };
	struct view_summary sum;
	struct view_layers l;
	struct view_spec sp;
	struct report_data d;
	struct reader *r;
	struct buf b;
	char row[512], want[512], head[16];
	size_t worst = 0, proven = 0;
	double n_eff = INFINITY;
	unsigned dead = 0;

	(void)state;
	write_db(db_path, &w);
	page_of_db(db_path, have_gnuplot(), &d, &b);
	keep("db", &b);
	r = reader_open(db_path, &e);
	assert_non_null(r);
	assert_int_equal(view_summary(r, &f, &sum, &e), 0);
	assert_int_equal(view_layers(r, &f, &l, &e), 0);
	assert_int_equal(view_specialisation(r, &f, 0, 0, REPORT_SEED, &sp, &e), 0);
	assert_int_equal(sum.tokens, 1200);
	for (size_t i = 0; i < l.n; i++) {
		const struct view_layer *v = &l.layer[i];

		worst = v->max_mean > l.layer[worst].max_mean ? i : worst;
		n_eff = v->n_eff < n_eff ? v->n_eff : n_eff;
		dead += v->n_dead;
		for (unsigned j = 0; j < 3; j++)
			proven += sp.layer[i].cell[j].proven != 0;
		snprintf(head, sizeof head, "%u", v->layer);
		cells(&b, "balance", head, row, sizeof row);
		snprintf(want, sizeof want, "%u|%u|%.2f×|%.3f|%.3f|%.1f|%u|%u|%u|%u|400|", v->layer,
			v->top_expert, v->max_mean, v->gini, v->entropy_norm, v->n_eff, v->n_expert, v->n_dead,
			v->n_cold, v->coverage90);
		memcpy(strstr(want, "|400|"), "|1,2", 4); /* 1,200 tokens */
		strcpy(strstr(want, "|1,2") + 4, "00|");
		assert_string_equal(row, want);
	}
	assert_true(figure(&b, "fig-max-mean") == l.layer[worst].max_mean);
	assert_true(figure(&b, "fig-dead") == dead);
	assert_true(figure(&b, "fig-effective") == n_eff);
	assert_true(figure(&b, "fig-dropped") == sum.dropped_at_cf125);
	assert_true(figure(&b, "fig-proven") == (double)proven);
	assert_true(proven > 0);
	snprintf(want, sizeof want, "The model needs %.3f bits per byte", sum.bpb);
	assert_non_null(strstr(b.data, want));
	assert_non_null(strstr(b.data, "1,200 (1,200 read, 0 generated) in 30 sequences"));
	view_spec_free(&sp);
	view_layers_free(&l);
	reader_close(r);
	buf_free(&b);
	report_data_free(&d);
	remove_db(db_path);
}

/* Every sequence of the i-th domain is made to take i + 1 ms per token; the page says so, in words,
 * in the table and, where there is gnuplot, in a picture. */
static void test_latency_by_domain(void **state)
{
	static const char *const names[] = { "c code", "law", "medical" };
	const struct world w = { 2, 8, 2, 12, 40, MOE_DETAIL_ROUTES, names, 3, "model" };
	const int pictures = have_gnuplot();
	struct report_data d;
	const char *fig, *end, *row;
	struct buf b;
	sqlite3 *db;

	(void)state;
	write_db(db_path, &w);
	assert_int_equal(sqlite3_open(db_path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "UPDATE sequence SET ended = started + 1000000 * (domain + "
		"1) * (n_prompt + n_generated)", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	page_of_db(db_path, pictures, &d, &b);
	keep("latency", &b);
	fig = strstr(b.data, "<figure id=\"fig-latency\">");
	assert_non_null(fig);
	end = strstr(fig, "</figure>");
	assert_non_null(strstr(fig, "The slowest domain is medical with 4 ms per token of its median "
		"sequence, the fastest c code with 2 ms"));
	row = strstr(fig, "<td class=\"l\">law</td><td>4</td><td>160</td><td>3.000</td><td>3.000</td>"
		"<td>3.000</td><td>3.000</td>");
	assert_true(row && row < end);
	assert_int_equal(pictures, strstr(fig, "<svg") && strstr(fig, "<svg") < end);
	buf_free(&b);
	report_data_free(&d);
	remove_db(db_path);
}

static void test_hostile_names(void **state)
{
	static const char *const names[] = { "<script>alert(1)</script>", "\"><img src=x "
		"onerror=alert(1)>",
		"\x1b]0;x\x07`reboot`", "';system('touch /tmp/moescope-owned')#", "</style></svg>&lt;",
		"\xff\xfe broken \xe2\x80", "@LABEL000 $0 {/*=99 x}", "LABEL001" };
	const struct world w = { 2, 8, 2, 16, 40, MOE_DETAIL_ROUTES, names, 8,
		"<svg onload=alert(2)>`id`\x1b[2J\n\"'" };
	struct report_data d;
	struct buf b;

	(void)state;
	write_db(db_path, &w);
	page_of_db(db_path, have_gnuplot(), &d, &b);
	keep("hostile", &b);
	assert_null(strstr(b.data, "<script"));
	assert_null(strstr(b.data, "<img"));
	assert_null(strstr(b.data, "<svg onload"));
	assert_null(strchr(b.data, '\x1b'));
	assert_null(strchr(b.data, '\x07'));
	assert_null(strchr(b.data, '\xff'));
	assert_non_null(strstr(b.data, "&#60;script&#62;alert(1)&#60;/script&#62;"));
	assert_non_null(strstr(b.data, "\\x1b]0;x\\x07`reboot`"));
	assert_true(access("/tmp/moescope-owned", F_OK) != 0);
	if (have_gnuplot()) /* names inside the pictures as well, cut */
		assert_non_null(strstr(b.data, ">&#60;script&#62;alert(1)…</text>"));
	buf_free(&b);
	report_data_free(&d);
	remove_db(db_path);
}

static void test_databases(void **state)
{
	static const char *const names[] = { "a", "b" };
	static const struct { const char *name; struct world w; const char *says; } cases[] = {
		{ "db-empty", { 2, 8, 2, 0, 0, MOE_DETAIL_ROUTES, names, 2, "m" }, "No decisions were "
			"logged" },
		{ "db-counts", { 2, 8, 2, 8, 40, MOE_DETAIL_COUNTS, names, 2, "m" }, "counts only" },
		{ "db-one-domain", { 2, 8, 2, 8, 40, MOE_DETAIL_ROUTES, names, 1, "m" }, "about domains" },
		{ "db-no-domain", { 2, 8, 2, 8, 40, MOE_DETAIL_ROUTES, names, 0, "m" }, "about domains" },
		{ "db-one-layer", { 1, 4, 1, 8, 40, MOE_DETAIL_FULL, names, 2, "m" }, "layer 1" },
		{ "db-one-expert", { 1, 1, 1, 8, 40, MOE_DETAIL_FULL, names, 2, "m" }, "layer 1" },
		{ "db-large", { 61, 256, 8, 8, 40, MOE_DETAIL_ROUTES, names, 2, "m" }, "15,616 experts" },
	};
	struct report_data d;
	struct buf b;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		write_db(db_path, &cases[i].w);
		page_of_db(db_path, have_gnuplot(), &d, &b);
		keep(cases[i].name, &b);
		if (!strstr(b.data, cases[i].says))
			fail_msg("%s does not say '%s'", cases[i].name, cases[i].says);
		assert_null(strstr(b.data, "nan"));
		buf_free(&b);
		report_data_free(&d);
		remove_db(db_path);
	}
}

/* The same database gives the same bytes. */
static void test_same_bytes(void **state)
{
	static const char *const names[] = { "a", "b" };
	const struct world w = { 2, 8, 2, 8, 40, MOE_DETAIL_FULL, names, 2, "m" };
	struct report_data d;
	struct buf b[2];

	(void)state;
	write_db(db_path, &w);
	for (int i = 0; i < 2; i++) {
		page_of_db(db_path, have_gnuplot(), &d, &b[i]);
		report_data_free(&d);
	}
	assert_true(b[0].len == b[1].len);
	assert_memory_equal(b[0].data, b[1].data, b[0].len);
	buf_free(&b[0]);
	buf_free(&b[1]);
	remove_db(db_path);
}

/* ---- Markdown ---- */

static void test_markdown(void **state)
{
	static const struct { const char *html, *md; } cases[] = {
		{ "<h1>a</h1>\n<p>b  c</p>", "# a\n\nb c\n" },
		{ "<p>&#60;script&#62; *x* [l](u) `c` a_b | &#38;amp; 1 &lt; 2</p>",
			"&lt;script\\> \\*x\\* \\[l\\](u) \\`c\\` a\\_b \\| &amp;amp; 1 &lt; 2\n" },
		{ "<p># no head</p><p>- no list</p><p>3. no list</p>",
			"\\# no head\n\n\\- no list\n\n3\\. no list\n" },
		{ "<p><code>a`b</code></p>", "``a`b``\n" },
		{ "<table><thead><tr><th class=\"l\">a</th><th>b</th></tr></thead><tbody><tr><td "
			"class=\"l\">x|y</td><td>2</td></tr></tbody></table>", "| a | b |\n|:--|--:|\n| x\\|y "
			"| 2 |\n" },
		{ "<svg viewBox=\"0\"><text>t</text></svg><p>p</p>", "p\n" },
		{ "<p><a download=\"x\" href=\"data:,\">s</a></p><p>q</p>", "q\n" },
		{ "<pre>a\n```\nb</pre>", "````\na\n```\nb\n````\n" },
	};
	struct moe_err e = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct buf page, out;
		const char *got;

		buf_init(&page, 1 << 16);
		buf_init(&out, 1 << 16);
		buf_printf(&page, "<html><body><main>%s</main></body>", cases[i].html);
		assert_int_equal(report_markdown(&page, NULL, &out, &e), 0);
		got = out.data ? out.data + strspn(out.data, "\n") : "";
		while (out.len > 1 && out.data[out.len - 1] == '\n' && out.data[out.len - 2] == '\n')
			out.data[--out.len] = 0;
		assert_string_equal(got, cases[i].md);
		buf_free(&page);
		buf_free(&out);
	}
}

/* ---- pictures that fail ---- */

/* Put a program named gnuplot first on the path; "" = none at all. */
static void fake_gnuplot(const char *dir, const char *script)
{
	char path[128];
	FILE *f;

	mkdir(dir, 0700);
	snprintf(path, sizeof path, "%s/gnuplot", dir);
	unlink(path);
	if (*script) {
		f = fopen(path, "w");
		assert_non_null(f);
		fputs(script, f);
		fclose(f);
		chmod(path, 0700);
	}
}

static void test_bad_gnuplot(void **state)
{
	static const struct { const char *script, *says; } cases[] = {
		{ "", "gnuplot is not installed" },
		{ "#!/bin/sh\necho first; echo 'line 3: no such thing' >&2; exit 1\n", "line 3: no such "
		"thing" },
		{ "#!/bin/sh\nexit 0\n", "reading " },
		{ "#!/bin/sh\nkill -9 $$\n", "ended by signal 9" },
		{ "#!/bin/sh\nwhile :; do /bin/sleep 1; done\n", "longer than 300 ms" },
		{ "#!/bin/sh\necho '<svg viewBox=\"0 0 1 1\"><script>x</script></svg>' >${2%.gp}.svg\n",
			"unexpected element &#39;script&#39;" },
	};
	const struct shape s = { 2, 8, 2, 3, 5000, 0, 1, 1, 1 };
	char dir[] = "/tmp/test_report.bin.XXXXXX", cmd[160], *path = strdup(getenv("PATH"));
	struct report_plotter plotter;
	struct report_data d;
	struct moe_err e = { 0 };
	struct buf b;

	(void)state;
	assert_non_null(mkdtemp(dir));
	make_data(&d, &s);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		fake_gnuplot(dir, cases[i].script);
		setenv("PATH", dir, 1);
		assert_int_equal(report_plotter_open(&plotter, NULL, &e), 0);
		if (strstr(cases[i].says, "300 ms")) /* only there: a busy machine may be slow */
			plotter.limit_ms = 300;
		buf_init(&b, REPORT_MAX_PAGE);
		assert_int_equal(report_html(&d, &plotter, &b, &e), 0);
		report_plotter_close(&plotter);
		setenv("PATH", path, 1);
		check_page(&b);
		assert_null(strstr(b.data, "<svg"));
		assert_non_null(strstr(b.data, "<details open>"));
		if (!strstr(b.data, cases[i].says))
			fail_msg("case %zu does not say '%s' but: %s", i, cases[i].says, plotter.why.msg);
		buf_free(&b);
	}
	report_data_free(&d);
	snprintf(cmd, sizeof cmd, "rm -r %s", dir);
	assert_int_equal(system(cmd), 0);
	free(path);
}

/* ---- putting it in place ---- */

static void test_save(void **state)
{
	static const char sqlite[] = "SQLite format 3\0rest";
	char dir[] = "/tmp/test_report.out.XXXXXX", path[128], cmd[160];
	struct moe_err e = { 0 };
	struct stat st;
	struct buf b;
	FILE *f;

	(void)state;
	assert_non_null(mkdtemp(dir));
	buf_init(&b, 1 << 16);
	buf_str(&b, "page");
	snprintf(path, sizeof path, "%s/r.html", dir);
	assert_int_equal(report_save(path, &b, &e), 0);
	assert_int_equal(report_save(path, &b, &e), 0); /* again, over its own */
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 4);
	f = fopen(path, "w");
	fwrite(sqlite, 1, sizeof sqlite, f);
	fclose(f);
	assert_int_equal(report_save(path, &b, &e), -1);
	assert_non_null(strstr(e.msg, "is a database"));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, sizeof sqlite);
	assert_int_equal(report_save(dir, &b, &e), -1);
	assert_non_null(strstr(e.msg, "is a directory"));
	assert_int_equal(report_save("/dev/null", &b, &e), -1);
	assert_non_null(strstr(e.msg, "not a regular file"));
	assert_int_equal(report_save("", &b, &e), -1);
	snprintf(path, sizeof path, "%s/missing/r.html", dir);
	assert_int_equal(report_save(path, &b, &e), -1);
	snprintf(cmd, sizeof cmd, "test \"$(ls -A %s)\" = r.html && rm -r %s", dir, dir); /* alone */
	assert_int_equal(system(cmd), 0);
	buf_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_shapes),
		cmocka_unit_test(test_figures_are_the_views),
		cmocka_unit_test(test_latency_by_domain),
		cmocka_unit_test(test_hostile_names),
		cmocka_unit_test(test_databases),
		cmocka_unit_test(test_markdown),
		cmocka_unit_test(test_same_bytes),
		cmocka_unit_test(test_bad_gnuplot),
		cmocka_unit_test(test_save),
	};

	return cmocka_run_group_tests(tests, world_set_up, NULL);
}
