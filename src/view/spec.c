/*
 * spec.c - does the model send different domains to different experts, and is it real?
 *
 * One pass over the decisions counts picks per document, [document][layer][expert], the parts of a
 * long document together; everything else is computed from those counts. Evidence is counted in
 * documents, because tokens of one document are alike: intervals draw whole documents with
 * replacement inside their domain, the null permutes the domain labels of whole documents. A cell
 * (layer, domain) is `proven` only if the lower end of its interval lies above the 95th percentile
 * of what the strongest expert reaches under the null.
 *
 * Memory is bounded: where a run has more documents than DOC_CELLS allows, documents of the same
 * domain are put together in groups that then count as documents, which only makes the test weaker;
 * `why` says so. Sequences without a domain and decisions with NaN logits are left out.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/pool.h"
#include "base/rng.h"
#include "base/text.h"
#include "metrics/domain.h"
#include "trace/scan.h"
#include "view/control.h"
#include "view/decisions.h"
#include "view/table.h"

#define DOC_MOST 4096                  /* documents */
#define DOC_CELLS ((size_t)8 << 20)    /* documents x (sum of experts over layers) */
#define DOMAIN_MOST 64                 /* the largest domains; control.c has a bit for each */
#define RESAMPLES 200                  /* default for n_boot and n_shuffle */
#define RESAMPLES_MOST 2000
#define THREADS_MOST 8

struct docs {
	size_t n_domain, n_layer, width; /* width: experts summed over the layers */
	size_t *at;          /* [n_layer] where a layer's experts begin in a row */
	size_t *first;       /* [n_domain + 1] first document of a domain; fixed room */
	size_t *seen;        /* [n_domain] documents met so far */
	uint32_t *count;     /* [n_doc][width] */
	uint32_t *label;     /* [n_doc] */
	size_t n_doc;        /* set by docs_pack */
	struct view_control control;
};

static void docs_free(struct docs *d)
{
	free(d->at);
	free(d->first);
	free(d->seen);
	free(d->count);
	free(d->label);
	view_control_free(&d->control);
}

/* ---- counting ---- */

static int by_tokens(const void *a, const void *b)
{
	const struct domain_info *x = a, *y = b;

	return (x->n_tokens < y->n_tokens) - (x->n_tokens > y->n_tokens);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct domain_info *)a)->name, ((const struct domain_info *)b)->name);
}

/* Drop what cannot be tested: no name, fewer than two documents, too many domains. */
static size_t choose_domains(struct domain_info *d, size_t n, char *why, size_t size)
{
	size_t keep = 0, few = 0;

	for (size_t i = 0; i < n; i++)
		if (d[i].id && d[i].n_seq >= 2)
			d[keep++] = d[i];
		else
			few += d[i].id != 0;
	if (keep < 2)
		snprintf(why, size, "specialisation needs at least two domains with two documents each; "
			"this run has %zu such domain%s", keep, keep == 1 ? "" : "s");
	else if (few)
		text_remark(why, size, "%zu domain%s with a single document left out", few,
			few == 1 ? "" : "s");
	if (keep > DOMAIN_MOST) {
		text_remark(why, size, "of %zu domains the %d largest are compared", keep, DOMAIN_MOST);
		qsort(d, keep, sizeof *d, by_tokens);
		keep = DOMAIN_MOST;
		qsort(d, keep, sizeof *d, by_name);
	}
	return keep;
}

/* Room for the documents: one each, or groups where there are too many. */
static int docs_init(struct docs *s, const struct run_info *u, const struct domain_info *d,
	size_t n_domain, char *why, size_t size, struct moe_err *e)
{
	uint64_t total = 0;
	size_t most, room;

	memset(s, 0, sizeof *s);
	s->n_domain = n_domain;
	s->n_layer = u->n_moe_layer;
	s->at = calloc(s->n_layer + 1, sizeof *s->at);
	s->first = calloc(n_domain + 1, sizeof *s->first);
	s->seen = calloc(n_domain, sizeof *s->seen);
	if (!s->at || !s->first || !s->seen)
		return err_nomem(e, s->n_layer * sizeof *s->at, "documents");
	for (size_t l = 0; l < s->n_layer; l++) {
		s->at[l] = s->width;
		s->width += u->layers[l].n_expert;
	}
	for (size_t i = 0; i < n_domain; i++)
		total += d[i].n_seq;
	most = s->width ? DOC_CELLS / s->width : 0;
	most = most > DOC_MOST ? DOC_MOST : most < 4 * n_domain ? 4 * n_domain : most;
	for (size_t i = 0; i < n_domain; i++) {
		room = d[i].n_seq;
		if (total > most) { /* an even share, but no more than there are */
			room = most / n_domain;
			room = d[i].n_seq < room ? d[i].n_seq : room;
		}
		s->first[i + 1] = s->first[i] + room;
	}
	if (total > most)
		text_remark(why, size, "%llu documents were put together in %zu groups",
			(unsigned long long)total, s->first[n_domain]);
	s->count = calloc(s->first[n_domain] * s->width + 1, sizeof *s->count);
	s->label = calloc(s->first[n_domain] + 1, sizeof *s->label);
	if (!s->count || !s->label)
		return err_nomem(e, s->first[n_domain] * s->width * sizeof *s->count,
			"picks per document");
	return view_control_init(&s->control, u, n_domain, e);
}

/* A scan that counts picks per document; a chunk's tag is its document. */
struct counting {
	struct docs *s;
	const struct domain_info *d;
	int64_t document;
	size_t doc;
};

static int count_chunk(void *ctx, struct scan_chunk *c)
{
	struct counting *x = ctx;
	struct docs *s = x->s;
	size_t dom = view_decisions_domain(x->d, s->n_domain, c->domain);

	if (dom == s->n_domain)
		return 0;
	if (c->document != x->document) {
		x->document = c->document;
		x->doc = s->first[dom] + s->seen[dom]++ % (s->first[dom + 1] - s->first[dom]);
	}
	c->tag = x->doc;
	view_control_add(&s->control, c, dom);
	return 1;
}

static void count_block(void *ctx, const struct scan_block *b)
{
	const struct docs *s = ((struct counting *)ctx)->s;
	uint32_t *row = s->count + b->chunk->tag * s->width + s->at[b->li];
	const uint16_t *set = b->experts;
	size_t k = b->layer.k;

	for (uint32_t t = 0; t < b->chunk->n; t++, set += k) {
		if (b->flags && b->flags[t] & MOE_EV_NAN)
			continue;
		for (size_t i = 0; i < k; i++)
			row[set[i]]++;
	}
}

static int docs_scan(struct docs *s, struct reader *r, const struct load_filter *f,
	const struct domain_info *d, struct moe_err *e)
{
	struct counting x = { .s = s, .d = d, .document = -1 };
	struct scan_calls calls = { .ctx = &x, .chunk = count_chunk, .block = count_block };

	return scan_run(r, f, 0, &calls, e);
}

/* Close the gaps that unused room leaves, drop domains that turned out to have fewer than two
 * documents, and label the documents. Returns how many domains are left. */
static size_t docs_pack(struct docs *s, struct domain_info *d)
{
	size_t keep = 0, kept[DOMAIN_MOST];

	for (size_t i = 0; i < s->n_domain; i++) {
		size_t room = s->first[i + 1] - s->first[i], n = s->seen[i] < room ? s->seen[i] : room;

		if (n < 2)
			continue;
		memmove(s->count + s->n_doc * s->width, s->count + s->first[i] * s->width,
			n * s->width * sizeof *s->count);
		for (size_t x = 0; x < n; x++)
			s->label[s->n_doc++] = (uint32_t)keep;
		kept[keep] = i;
		d[keep++] = d[i];
	}
	view_control_keep(&s->control, kept, keep);
	return s->n_domain = keep;
}

/* ---- statistics ---- */

/* Samples of the resampled statistics, so that quantiles can be read off. */
struct samples {
	size_t n_boot, n_shuffle;
	double *boot_mi, *boot_rel;   /* [n_layer][n_boot], [n_layer][n_domain][n_boot] */
	double *null_mi, *null_rel;   /* the same with n_shuffle */
	double *table;                /* [n_domain][width] */
	double **sub;                 /* [threads]: one layer, [n_domain][n_expert] */
	uint64_t **room;              /* [threads]: the same */
	size_t *start, *order;        /* documents by domain */
	uint32_t *weight;             /* [n_boot][n_doc] how often a round draws each document */
	uint32_t *label;              /* [n_shuffle][n_doc] the round's labels */
	struct pool *pool;
};

static void samples_free(struct samples *m)
{
	free(m->boot_mi);
	free(m->boot_rel);
	free(m->null_mi);
	free(m->null_rel);
	free(m->table);
	for (int i = 0; m->sub && m->room && i < pool_threads(m->pool); i++) {
		free(m->sub[i]);
		free(m->room[i]);
	}
	free(m->sub);
	free(m->room);
	pool_free(m->pool);
	free(m->start);
	free(m->order);
	free(m->weight);
	free(m->label);
}

static int samples_init(struct samples *m, const struct docs *s, struct moe_err *e)
{
	size_t cells = s->n_layer * s->n_domain;
	int threads = pool_default_threads();

	threads = threads > THREADS_MOST ? THREADS_MOST : threads;
	m->boot_mi = calloc(s->n_layer * m->n_boot + 1, sizeof *m->boot_mi);
	m->boot_rel = calloc(cells * m->n_boot + 1, sizeof *m->boot_rel);
	m->null_mi = calloc(s->n_layer * m->n_shuffle + 1, sizeof *m->null_mi);
	m->null_rel = calloc(cells * m->n_shuffle + 1, sizeof *m->null_rel);
	m->table = calloc(s->n_domain * s->width + 1, sizeof *m->table);
	m->pool = pool_new(threads, e);
	if (!m->pool)
		return -1;
	m->sub = calloc((size_t)threads, sizeof *m->sub);
	m->room = calloc((size_t)threads, sizeof *m->room);
	m->start = calloc(s->n_domain + 1, sizeof *m->start);
	m->order = calloc(s->n_doc + 1, sizeof *m->order);
	m->weight = calloc(s->n_doc * m->n_boot + 1, sizeof *m->weight);
	m->label = calloc(s->n_doc * m->n_shuffle + 1, sizeof *m->label);
	if (!m->boot_mi || !m->boot_rel || !m->null_mi || !m->null_rel || !m->table || !m->sub ||
	    !m->room || !m->start || !m->order || !m->weight || !m->label)
		return err_nomem(e, cells * (m->n_boot + m->n_shuffle) * sizeof(double),
			"resampled statistics");
	for (int i = 0; i < threads; i++) {
		m->sub[i] = calloc(s->n_domain * MOE_MAX_EXPERT, sizeof **m->sub);
		m->room[i] = calloc(s->n_domain * MOE_MAX_EXPERT, sizeof **m->room);
		if (!m->sub[i] || !m->room[i])
			return err_nomem(e, s->n_domain * MOE_MAX_EXPERT * sizeof **m->sub, "a layer's table");
	}
	return 0;
}

/* One layer's columns of the table, packed: sub [n_domain][n_expert]. */
static void pick_layer(const struct docs *s, const double *table, size_t l, size_t n_expert,
	double *sub)
{
	for (size_t d = 0; d < s->n_domain; d++)
		memcpy(sub + d * n_expert, table + d * s->width + s->at[l], n_expert * sizeof *sub);
}

/* Relative load of expert x in a row of picks; NAN if the row is empty. */
static double rel_load(const double *row, size_t n_expert, size_t x)
{
	double sum = 0;

	for (size_t i = 0; i < n_expert; i++)
		sum += row[i];
	return sum > 0 ? row[x] * (double)n_expert / sum : NAN;
}

static size_t strongest(const double *row, size_t n_expert)
{
	size_t best = 0;

	for (size_t i = 1; i < n_expert; i++)
		if (row[i] > row[best])
			best = i;
	return best;
}

static int layer_init(struct view_spec_layer *v, const struct moe_layer_desc *d, size_t n_domain,
	struct moe_err *e)
{
	v->layer = d->layer;
	v->n_expert = d->n_expert;
	v->k = d->k;
	v->jsd = calloc(n_domain * n_domain, sizeof *v->jsd);
	v->rel = calloc(n_domain * d->n_expert, sizeof *v->rel);
	v->cell = calloc(n_domain, sizeof *v->cell);
	if (!v->jsd || !v->rel || !v->cell)
		return err_nomem(e, n_domain * d->n_expert * sizeof *v->rel, "a layer's domains");
	return 0;
}

/* What was observed: sub is the layer's table. */
static void observe(struct view_spec_layer *v, const double *sub, size_t n_domain)
{
	double picks = 0, h;

	for (size_t d = 0; d < n_domain; d++) {
		const double *row = sub + d * v->n_expert;

		for (size_t x = 0; x < v->n_expert; x++) {
			v->rel[d * v->n_expert + x] = rel_load(row, v->n_expert, x);
			picks += row[x];
		}
		for (size_t o = 0; o < n_domain; o++)
			v->jsd[d * n_domain + o] = metrics_jsd(row, sub + o * v->n_expert, v->n_expert);
		v->cell[d].expert = (unsigned)strongest(row, v->n_expert);
		v->cell[d].rel = v->rel[d * v->n_expert + v->cell[d].expert];
	}
	v->mi = metrics_mi(sub, n_domain, v->n_expert);
	h = metrics_domain_entropy(sub, n_domain, v->n_expert);
	v->nmi = h > 0 ? v->mi / h : NAN;
	v->bias = metrics_mi_bias(n_domain, v->n_expert, picks);
}

/* Put one layer of round b where its quantiles will be read: with the expert that was observed
 * (bootstrap) or with the strongest of the resample (null). sub is the round's table of the
 * layer. */
static void keep(const struct docs *s, const struct view_spec *v, struct samples *m, size_t b,
	int null, size_t l, const double *sub)
{
	size_t n = null ? m->n_shuffle : m->n_boot, n_expert = v->layer[l].n_expert;
	double *mi = null ? m->null_mi : m->boot_mi, *rel = null ? m->null_rel : m->boot_rel;

	mi[l * n + b] = metrics_mi(sub, s->n_domain, n_expert);
	for (size_t d = 0; d < s->n_domain; d++) {
		const double *row = sub + d * n_expert;
		size_t x = null ? strongest(row, n_expert) : v->layer[l].cell[d].expert;

		rel[(l * s->n_domain + d) * n + b] = rel_load(row, n_expert, x);
	}
}

/* In steps of a fixed length, which compilers turn into vector additions. */
static void add_row(uint64_t *restrict row, const uint32_t *restrict doc, size_t n)
{
	size_t x = 0;

	for (; x + 16 <= n; x += 16)
		for (size_t i = 0; i < 16; i++)
			row[x + i] += doc[x + i];
	for (; x < n; x++)
		row[x] += doc[x];
}

/* The table of one layer, [n_domain][n_expert]: metrics_tabulate() of the layer's columns. Its sums
 * are of whole numbers, so neither their order nor their type matters. room
 * [n_domain][n_expert]. */
static void tabulate_layer(const struct docs *s, size_t l, size_t n_expert, const uint32_t *label,
	const uint32_t *weight, uint64_t *room, double *sub)
{
	size_t cells = s->n_domain * n_expert;

	memset(room, 0, cells * sizeof *room);
	for (size_t i = 0; i < s->n_doc; i++) {
		const uint32_t *doc = s->count + i * s->width + s->at[l];
		uint64_t *row = room + label[i] * n_expert;

		for (uint32_t w = weight ? weight[i] : 1; w; w--) /* seldom more than two */
			add_row(row, doc, n_expert);
	}
	for (size_t i = 0; i < cells; i++)
		sub[i] = (double)room[i];
}

struct resampling { const struct docs *s; const struct view_spec *v; struct samples *m; };

/* Unit of work: all rounds of one layer, whose counts stay in the processor's cache. */
static void resample_layer(void *ctx, size_t l, int worker)
{
	const struct resampling *x = ctx;
	const struct docs *s = x->s;
	struct samples *m = x->m;
	size_t n_expert = x->v->layer[l].n_expert;
	double *sub = m->sub[worker];

	for (size_t b = 0; b < m->n_boot + m->n_shuffle; b++) {
		int null = b >= m->n_boot;
		size_t round = null ? b - m->n_boot : b;
		const uint32_t *label = null ? m->label + round * s->n_doc : s->label;
		const uint32_t *weight = null ? NULL : m->weight + round * s->n_doc;

		tabulate_layer(s, l, n_expert, label, weight, m->room[worker], sub);
		keep(s, x->v, m, round, null, l, sub);
	}
}

static void resample(const struct docs *s, const struct view_spec *v, struct samples *m,
	uint64_t seed)
{
	struct resampling x = { s, v, m };
	struct rng r;

	metrics_group(s->label, s->n_doc, s->n_domain, m->start, m->order);
	rng_seed(&r, seed);
	for (size_t b = 0; b < m->n_boot; b++)
		metrics_draw(&r, m->start, m->order, s->n_domain, m->weight + b * s->n_doc, s->n_doc);
	rng_seed(&r, seed ^ UINT64_C(0x5eed0f0e11)); /* the null does not depend on n_boot */
	for (size_t b = 0; b < m->n_shuffle; b++) {
		memcpy(m->label + b * s->n_doc, b ? m->label + (b - 1) * s->n_doc : s->label,
			s->n_doc * sizeof *m->label);
		metrics_shuffle(&r, m->label + b * s->n_doc, s->n_doc);
	}
	pool_run(m->pool, resample_layer, &x, s->n_layer);
}

/* NaN (a resample without picks) sorts last; returns how many are numbers. */
static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	if (isnan(x) || isnan(y))
		return isnan(x) - isnan(y);
	return (x > y) - (x < y);
}

static size_t sort_numbers(double *x, size_t n)
{
	qsort(x, n, sizeof *x, by_value);
	while (n && isnan(x[n - 1]))
		n--;
	return n;
}

static double mean(const double *x, size_t n)
{
	double s = 0;

	for (size_t i = 0; i < n; i++)
		s += x[i];
	return n ? s / (double)n : NAN;
}

/* MI of a resample is biased upwards (it draws documents twice), so its interval is moved back by
 * the difference of the resamples' mean and the observed value. Loads are ratios and stay. */
static void conclude(const struct docs *s, struct samples *m, size_t l, struct view_spec_layer *v)
{
	double *mi = m->boot_mi + l * m->n_boot, *null = m->null_mi + l * m->n_shuffle, shift;
	size_t n = sort_numbers(mi, m->n_boot), z = sort_numbers(null, m->n_shuffle);

	shift = mean(mi, n) - v->mi;
	v->mi_lo = fmax(0, metrics_quantile(mi, n, .025) - shift);
	v->mi_hi = metrics_quantile(mi, n, .975) - shift;
	v->null_mean = mean(null, z);
	v->null_p95 = metrics_quantile(null, z, .95);
	for (size_t d = 0; d < s->n_domain; d++) {
		struct view_spec_cell *c = v->cell + d;
		double *rel = m->boot_rel + (l * s->n_domain + d) * m->n_boot;

		n = sort_numbers(rel, m->n_boot);
		c->lo = metrics_quantile(rel, n, .025);
		c->hi = metrics_quantile(rel, n, .975);
		rel = m->null_rel + (l * s->n_domain + d) * m->n_shuffle;
		c->null_p95 = metrics_quantile(rel, sort_numbers(rel, m->n_shuffle), .95);
		c->proven = c->lo > c->null_p95; /* false if either is NaN */
	}
}

static int analyse(const struct docs *s, const struct run_info *u, uint64_t seed,
	struct view_spec *v, struct moe_err *e)
{
	struct samples m = { .n_boot = v->n_boot, .n_shuffle = v->n_shuffle };
	int status = -1;

	v->layer = calloc(s->n_layer + 1, sizeof *v->layer);
	if (!v->layer) {
		err_nomem(e, s->n_layer * sizeof *v->layer, "layers");
		goto out;
	}
	v->n_layer = s->n_layer;
	if (samples_init(&m, s, e))
		goto out;
	metrics_tabulate(s->count, s->n_doc, s->width, s->label, NULL, s->n_domain, m.table);
	for (size_t l = 0; l < s->n_layer; l++) {
		if (layer_init(v->layer + l, u->layers + l, s->n_domain, e))
			goto out;
		pick_layer(s, m.table, l, u->layers[l].n_expert, m.sub[0]);
		observe(v->layer + l, m.sub[0], s->n_domain);
	}
	resample(s, v, &m, seed);
	for (size_t l = 0; l < s->n_layer; l++)
		conclude(s, &m, l, v->layer + l);
	status = 0;
out:
	samples_free(&m);
	return status;
}

/* Can it be asked at all? Fills v->domain; v->n_domain = 0 and v->why if not. */
static int prepare(struct reader *r, const struct load_filter *f, const struct run_info *u,
	struct view_spec *v, struct moe_err *e)
{
	size_t n = 0;

	if (view_decisions_missing(u, v->why, sizeof v->why))
		return 0;
	if (f->domain >= 0) {
		snprintf(v->why, sizeof v->why, "one domain is selected; specialisation compares domains");
		return 0;
	}
	if (reader_domains(r, f->run, &v->domain, &n, e))
		return -1;
	n = choose_domains(v->domain, n, v->why, sizeof v->why);
	v->n_domain = n >= 2 && u->n_moe_layer ? n : 0;
	if (!u->n_moe_layer)
		snprintf(v->why, sizeof v->why, "the run's model has no MoE layer");
	return 0;
}

static unsigned rounds(unsigned asked)
{
	return !asked ? RESAMPLES : asked > RESAMPLES_MOST ? RESAMPLES_MOST : asked;
}

int view_specialisation(struct reader *r, const struct load_filter *f, unsigned n_boot,
	unsigned n_shuffle, uint64_t seed, struct view_spec *out, struct moe_err *e)
{
	struct run_info *u = malloc(sizeof *u);
	struct docs s = { 0 };
	int status = -1;

	memset(out, 0, sizeof *out);
	out->n_boot = rounds(n_boot);
	out->n_shuffle = rounds(n_shuffle);
	if (!u) {
		err_nomem(e, sizeof *u, "a run");
		goto out;
	}
	if (reader_run(r, f->run, u, e) || prepare(r, f, u, out, e))
		goto out;
	status = 0;
	if (!out->n_domain)
		goto out;
	status = -1;
	if (docs_init(&s, u, out->domain, out->n_domain, out->why, sizeof out->why, e) ||
	    docs_scan(&s, r, f, out->domain, e))
		goto out;
	out->n_domain = docs_pack(&s, out->domain);
	if (out->n_domain < 2) {
		snprintf(out->why, sizeof out->why, "specialisation needs at least two domains with two "
			"documents each; this selection has %zu", out->n_domain);
		out->n_domain = 0;
		status = 0;
		goto out;
	}
	if (f->bucket0 < f->bucket1)
		text_remark(out->why, sizeof out->why, DECISIONS_NO_TIME);
	status = analyse(&s, u, seed, out, e) || view_control_scan(&s.control, r, f, out, e) ? -1 : 0;
out:
	docs_free(&s);
	free(u);
	if (status)
		view_spec_free(out);
	return status;
}

double view_spec_lead(const struct view_spec_cell *c)
{
	return c->null_p95 > 0 && c->rel > 0 ? c->rel / c->null_p95 : 0;
}

int view_spec_clearest(const struct view_spec *v, size_t domain)
{
	int best = -1;

	for (size_t i = 0; i < v->n_layer; i++) {
		const struct view_spec_cell *c = &v->layer[i].cell[domain], *b;

		if (!(view_spec_lead(c) > 0))
			continue;
		b = best < 0 ? NULL : &v->layer[best].cell[domain];
		if (!b || c->proven > b->proven ||
		    (c->proven == b->proven && view_spec_lead(c) > view_spec_lead(b)))
			best = (int)i;
	}
	return best;
}

void view_spec_free(struct view_spec *v)
{
	for (size_t l = 0; l < v->n_layer; l++) {
		free(v->layer[l].jsd);
		free(v->layer[l].rel);
		free(v->layer[l].cell);
	}
	free(v->layer);
	free(v->domain);
	memset(v, 0, sizeof *v);
}

/* ---- the table of `stat --specialisation` ---- */

/* Columns after VIEW_HEAD; jsd[a/b] for every pair of domains follows, for programs only. */
static const struct view_col spec_cols[] = {
	VIEW_HEAD,
	{ "layer", "layer", VIEW_INT, 0 },
	{ "mi_domain", "MI bits", VIEW_REAL, 4 }, { "mi_lo", "from", VIEW_REAL, 4 },
	{ "mi_hi", "to", VIEW_REAL, 4 }, { "nmi_domain", "NMI", VIEW_REAL, 4 },
	{ "null_mean", "null mean", VIEW_REAL, 4 }, { "null_p95", "null p95", VIEW_REAL, 4 },
	{ "bias", "bias", VIEW_REAL, 5 },
	{ "jsd_max", "max JSD", VIEW_REAL, 4 }, { "jsd_max_pair", "between", VIEW_TEXT, 0 },
	{ "n_proven", "proven", VIEW_INT, 0 }, { "strongest_domain", "strongest", VIEW_TEXT, 0 },
	{ "strongest_expert", "expert", VIEW_INT, 0 }, { "rel_load", "x fair", VIEW_REAL, 2 },
	{ "rel_lo", "from", VIEW_REAL, 2 }, { "rel_hi", "to", VIEW_REAL, 2 },
	{ "rel_null_p95", "null p95", VIEW_REAL, 2 },
	{ "token_share", NULL, VIEW_REAL, 3 }, { "token_rel", "same tokens", VIEW_REAL, 2 },
	{ "token_control", "elsewhere", VIEW_REAL, 2 },
};
enum { SPEC_COLS = sizeof spec_cols / sizeof *spec_cols, SPEC_KEY = 160 };

/* The static columns and one per pair of domains, in one block that the table owns. */
static int spec_columns(const struct view_spec *v, struct view_table *t, struct moe_err *e)
{
	size_t pairs = v->n_domain * (v->n_domain ? v->n_domain - 1 : 0) / 2, n = SPEC_COLS + pairs;
	struct view_col *cols = malloc(n * sizeof *cols + pairs * SPEC_KEY);
	char *key;

	if (!cols)
		return err_nomem(e, n * sizeof *cols, "columns");
	key = (char *)(cols + n);
	memcpy(cols, spec_cols, sizeof spec_cols);
	n = SPEC_COLS;
	for (size_t a = 0; a < v->n_domain; a++)
		for (size_t b = a + 1; b < v->n_domain; b++, key += SPEC_KEY) {
			snprintf(key, SPEC_KEY, "jsd[%s/%s]", v->domain[a].name, v->domain[b].name);
			cols[n++] = (struct view_col){ key, NULL, VIEW_REAL, 4 };
		}
	view_table_init(t, cols, n);
	t->own = cols;
	return 0;
}

/* The cell that stands out most over its own null; n_domain if none has figures. */
static size_t best_cell(const struct view_spec_layer *l, size_t n_domain)
{
	size_t best = n_domain;

	for (size_t d = 0; d < n_domain; d++)
		if (!isnan(l->cell[d].rel / l->cell[d].null_p95) && (best == n_domain ||
		    l->cell[d].rel / l->cell[d].null_p95 >
		    l->cell[best].rel / l->cell[best].null_p95))
			best = d;
	return best;
}

static int spec_row(const struct load_filter *f, const struct view_spec *v,
	const struct view_spec_layer *l, struct view_table *out, struct moe_err *e)
{
	struct view_cell *c = view_table_row(out, e);
	size_t most = 0, at = SPEC_COLS, best = best_cell(l, v->n_domain), n = v->n_domain;
	const double real[] = { l->mi, l->mi_lo, l->mi_hi, l->nmi, l->null_mean, l->null_p95,
		l->bias };
	char pair[SPEC_KEY];
	int64_t proven = 0;

	if (!c || view_table_head(c, f->run, NULL, f->phase, e))
		return -1;
	view_set_int(c + 3, l->layer);
	for (size_t i = 0; i < sizeof real / sizeof *real; i++)
		view_set_real(c + 4 + i, real[i]);
	for (size_t a = 0; a < n; a++) {
		proven += l->cell[a].proven;
		for (size_t b = a + 1; b < n; b++) {
			view_set_real(c + at++, l->jsd[a * n + b]);
			if (!most || l->jsd[a * n + b] > l->jsd[most])
				most = a * n + b;
		}
	}
	view_set_real(c + 11, l->jsd[most]);
	snprintf(pair, sizeof pair, "%s/%s", v->domain[most / n].name, v->domain[most % n].name);
	if (view_set_text(c + 12, pair, e))
		return -1;
	view_set_int(c + 13, proven);
	if (best == n)
		return 0;
	view_set_int(c + 15, l->cell[best].expert);
	view_set_real(c + 16, l->cell[best].rel);
	view_set_real(c + 17, l->cell[best].lo);
	view_set_real(c + 18, l->cell[best].hi);
	view_set_real(c + 19, l->cell[best].null_p95);
	view_set_real(c + 20, l->cell[best].token_share);
	view_set_real(c + 21, l->cell[best].token_rel);
	view_set_real(c + 22, l->cell[best].token_control);
	return view_set_text(c + 14, v->domain[best].name, e);
}

static int spec_table(const struct view_spec *v, const struct load_filter *f,
	struct view_table *out, struct moe_err *e)
{
	memset(out, 0, sizeof *out);
	if (spec_columns(v, out, e))
		return -1;
	snprintf(out->why, sizeof out->why, "%s", v->why);
	for (size_t l = 0; l < v->n_layer; l++)
		if (spec_row(f, v, v->layer + l, out, e)) {
			view_table_free(out);
			return -1;
		}
	return 0;
}

int view_stat_specialisation(struct reader *r, const struct load_filter *f,
	struct view_table *out, struct moe_err *e)
{
	struct view_spec v;
	int status;

	memset(out, 0, sizeof *out);
	if (view_specialisation(r, f, 0, 0, 1, &v, e))
		return -1;
	status = spec_table(&v, f, out, e);
	view_spec_free(&v);
	return status;
}
