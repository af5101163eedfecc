/*
 * diff.c - see diff.h. One pass over both logs at once, as a merge of two sorted streams: the
 * caller's thread pairs up the tokens of the chunks at hand (steps), then all threads count, a
 * layer each. Memory is that of the counts by document, which is bounded by putting documents
 * together.
 */
#include "view/diff.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/text.h"
#include "base/pool.h"
#include "base/rng.h"
#include "metrics/domain.h"
#include "metrics/sets.h"
#include "trace/scan.h"
#include "view/decisions.h"
#include "view/table.h"

#define N_COLS(a) (sizeof(a) / sizeof *(a))
#define DOC_MOST 2048
#define DOC_CELLS ((size_t)4 << 20) /* documents x experts of all layers, for each run */
#define RESAMPLES 200
enum { STEPS = 2 * SCAN_GROUP * 128 }; /* a token of every chunk of both groups */
#define NO_LAYER UINT16_MAX

/* One side of the merge. */
struct side {
	struct scan *scan;
	size_t chunk;       /* of the group: where the merge stands */
	uint32_t at;        /* token of it */
	int end;
	int64_t document;   /* the last one seen */
	uint64_t n_doc;     /* documents begun so far */
	uint64_t tokens;
	uint32_t *count;    /* [n_slot][width] picks */
	uint32_t *n_tok;    /* [n_slot][n_layer] tokens */
};

/* One token of either run, or the same one of both. */
struct step {
	int16_t chunk[2];   /* of the side's group; -1 = not there */
	uint8_t at[2];
	uint16_t slot[2];   /* where its document is counted */
	uint8_t same;       /* both there, and the same token id */
	_Atomic uint16_t first; /* lowest layer at which the sets differ, NO_LAYER = none */
};

struct work {
	struct side side[2];
	struct step *step;  /* [STEPS] */
	size_t n_step;
	size_t n_slot, n_layer, width, *at; /* at [n_layer]: where a layer begins in a row */
	uint32_t *cmp, *dif;       /* [n_slot][n_layer] decisions compared, differing */
	struct metrics_diff *sum;  /* [n_layer] */
	double *m_flip, *m_all;    /* [n_layer] sums of finite margins */
	uint64_t *n_flip, *n_all, *close;
	uint64_t first_sum;
	struct resample *room;     /* [workers] */
	struct pool *pool;
	struct diff *out;
};

/* ---- loads ---- */

static int same_shape(const struct run_info *a, const struct run_info *b, struct moe_err *e)
{
	if (a->n_moe_layer != b->n_moe_layer)
		return err_set(e, MOE_ERR_INPUT, "run %lld has %u MoE layers, run %lld has %u: they cannot "
			"be compared", (long long)a->id, a->n_moe_layer, (long long)b->id, b->n_moe_layer);
	for (uint32_t l = 0; l < a->n_moe_layer; l++)
		if (a->layers[l].n_expert != b->layers[l].n_expert || a->layers[l].k != b->layers[l].k)
			return err_set(e, MOE_ERR_INPUT, "layer %u is top-%u of %u in one run, top-%u of %u in "
				"the other: they cannot be compared", a->layers[l].layer, a->layers[l].k,
				a->layers[l].n_expert, b->layers[l].k, b->layers[l].n_expert);
	return 0;
}

/* JSD and L1 of the shares of two rows of picks [n]. */
static void shift(const double *a, const double *b, size_t n, double *jsd, double *l1)
{
	double sa = 0, sb = 0;

	for (size_t i = 0; i < n; i++)
		sa += a[i], sb += b[i];
	*jsd = metrics_jsd(a, b, n);
	*l1 = sa > 0 && sb > 0 ? 0 : NAN;
	for (size_t i = 0; i < n && !isnan(*l1); i++)
		*l1 += fabs(a[i] / sa - b[i] / sb);
}

static int loads(struct reader *ra, const struct load_filter *fa, struct reader *rb,
	const struct load_filter *fb, struct diff *d, struct moe_err *e)
{
	struct load_set a = { 0 }, b = { 0 };
	double p[MOE_MAX_EXPERT], q[MOE_MAX_EXPERT], sum = 0, sum1 = 0;
	int status = -1;

	if (reader_load(ra, fa, &a, e) || reader_load(rb, fb, &b, e))
		goto out;
	for (size_t l = 0; l < d->n; l++) {
		const struct layer_load *x = a.layer + l, *y = b.layer + l;
		struct diff_layer *o = d->layer + l;

		o->expert = calloc(x->n_expert, sizeof *o->expert);
		if (!o->expert) {
			err_nomem(e, x->n_expert * sizeof *o->expert, "load shifts");
			goto out;
		}
		o->layer = x->layer, o->n_expert = x->n_expert, o->k = x->k;
		o->tokens_a = x->tokens, o->tokens_b = y->tokens;
		for (unsigned i = 0; i < x->n_expert; i++) {
			struct diff_expert *s = o->expert + i;

			p[i] = (double)x->counts[i], q[i] = (double)y->counts[i];
			s->rate_a = x->tokens ? p[i] / (double)x->tokens : NAN;
			s->rate_b = y->tokens ? q[i] / (double)y->tokens : NAN;
			s->shift = s->rate_b - s->rate_a;
			s->lo = s->hi = NAN;
			o->top = fabs(s->shift) > fabs(o->expert[o->top].shift) ? i : o->top;
		}
		shift(p, q, x->n_expert, &o->jsd, &o->l1);
		sum += o->jsd / (double)d->n;
		sum1 += o->l1 / (double)d->n;
	}
	d->layer[d->n].jsd = d->n ? sum : NAN; /* mean over the layers */
	d->layer[d->n].l1 = d->n ? sum1 : NAN;
	status = 0;
out:
	load_set_free(&a);
	load_set_free(&b);
	return status;
}

/* ---- the merge ---- */

static const struct scan_chunk *chunk_of(const struct side *s)
{
	return scan_at(s->scan, s->chunk);
}

/* Does the side's group have a token left? */
static int left(const struct side *s)
{
	return !s->end && s->chunk < scan_n(s->scan);
}

/* The token that a side stands on becomes a part of the step; on to the next one. */
static void take(const struct work *w, int which, struct side *s, struct step *p)
{
	const struct scan_chunk *c = chunk_of(s);

	if (!s->n_doc || c->document != s->document) {
		s->document = c->document;
		s->n_doc++;
	}
	p->chunk[which] = (int16_t)s->chunk;
	p->at[which] = (uint8_t)s->at;
	p->slot[which] = (uint16_t)((s->n_doc - 1) % w->n_slot);
	s->tokens++;
	if (++s->at == c->n) {
		s->at = 0;
		s->chunk++;
	}
}

/* Steps as far as both groups reach. */
static void pair_up(struct work *w)
{
	struct side *a = w->side, *b = w->side + 1;

	w->n_step = 0;
	while ((left(a) || a->end) && (left(b) || b->end) && (left(a) || left(b))) {
		struct step *p = &w->step[w->n_step++];
		int order = !left(a) - !left(b); /* -1 = a first, 1 = b first */

		p->chunk[0] = p->chunk[1] = -1;
		p->same = 0;
		atomic_init(&p->first, NO_LAYER);
		if (!order) {
			const struct scan_chunk *x = chunk_of(a), *y = chunk_of(b);
			uint64_t pos = (uint64_t)x->pos + a->at, other = (uint64_t)y->pos + b->at;

			order = (x->seq > y->seq) - (x->seq < y->seq);
			order = order ? order : (pos > other) - (pos < other);
			p->same = !order && x->tokens[a->at] == y->tokens[b->at];
		}
		if (order <= 0)
			take(w, 0, a, p);
		if (order >= 0)
			take(w, 1, b, p);
	}
}

/* Count the picks of one token of one run; 0 = it has no choice. */
static int count(struct work *w, int which, const struct step *p, const struct scan_block *b)
{
	struct side *s = &w->side[which];
	size_t t = p->at[which], slot = p->slot[which];
	uint32_t *c = s->count + slot * w->width + w->at[b->li];
	const uint16_t *set = b->experts + t * b->layer.k;

	if (b->flags && b->flags[t] & MOE_EV_NAN)
		return 0;
	s->n_tok[slot * w->n_layer + b->li]++;
	for (unsigned i = 0; i < b->layer.k; i++)
		c[set[i]]++;
	return 1;
}

static void compare(struct work *w, struct step *p, const struct scan_block *a,
	const struct scan_block *b)
{
	size_t s = p->at[0], t = p->at[1], l = a->li, cell = p->slot[0] * w->n_layer + l;
	float margin = a->margins ? a->margins[s] : NAN;
	int differs = metrics_diff_add(w->sum + l, a->experts + s * a->layer.k,
		b->experts + t * b->layer.k, a->layer.k);

	w->cmp[cell]++;
	w->dif[cell] += (uint32_t)differs;
	if (differs) { /* the lowest of all layers, in whatever order they come */
		uint16_t have = atomic_load_explicit(&p->first, memory_order_relaxed);

		while (a->layer.layer < have &&
		    !atomic_compare_exchange_weak(&p->first, &have, a->layer.layer))
			;
	}
	if (!isfinite(margin))
		return;
	w->m_all[l] += margin;
	w->n_all[l]++;
	if (differs) {
		w->m_flip[l] += margin;
		w->n_flip[l]++;
		w->close[l] += margin < w->out->epsilon;
	}
}

/* Unit of work: one layer of all steps. */
static void step_layer(void *ctx, size_t li, int worker)
{
	struct work *w = ctx;
	struct scan_block b[2];
	int chunk[2] = { -1, -1 };

	for (size_t i = 0; i < w->n_step; i++) {
		struct step *p = &w->step[i];
		int good = p->same;

		for (int s = 0; s < 2; s++) {
			if (p->chunk[s] < 0)
				continue;
			if (p->chunk[s] != chunk[s] &&
			    scan_unpack(w->side[s].scan, (size_t)p->chunk[s], li, worker, &b[s]))
				return; /* the merge says so */
			chunk[s] = p->chunk[s];
			good &= count(w, s, p, &b[s]);
		}
		if (good)
			compare(w, p, &b[0], &b[1]);
	}
}

static void add_up(struct work *w)
{
	struct diff *d = w->out;

	for (size_t i = 0; i < w->n_step; i++) {
		int first = w->step[i].first;

		d->matched += w->step[i].same;
		if (first == NO_LAYER)
			continue;
		d->first = d->first < 0 || first < d->first ? first : d->first;
		d->touched++;
		w->first_sum += (uint64_t)first;
	}
}

static int merge(struct work *w, struct moe_err *e)
{
	while (!w->side[0].end || !w->side[1].end) {
		for (int s = 0; s < 2; s++) {
			struct side *x = &w->side[s];
			int got;

			if (x->end || left(x))
				continue;
			got = scan_fill(x->scan, e);
			if (got < 0)
				return -1;
			x->end = !got;
			x->chunk = x->at = 0;
		}
		pair_up(w);
		pool_run(w->pool, step_layer, w, w->n_layer);
		if (scan_bad(w->side[0].scan, e) || scan_bad(w->side[1].scan, e))
			return -1;
		add_up(w);
	}
	return 0;
}

/* ---- evidence by document ---- */

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* What one worker needs to draw documents anew. */
struct resample {
	double *jsd, *mis, *rate;  /* [RESAMPLES], rate [n_expert][RESAMPLES] */
	double row[2][MOE_MAX_EXPERT];
	uint8_t *swap;             /* [n_slot][2] */
	uint32_t *weight;          /* [n_slot] */
};

/* Share of differing decisions at layer l (n_layer = all) under weights of the documents. */
static double mismatch_of(const struct work *w, const uint32_t *weight, size_t l)
{
	double cmp = 0, dif = 0;

	for (size_t s = 0; s < w->out->documents; s++)
		for (size_t i = l < w->n_layer ? l : 0; i < (l < w->n_layer ? l + 1 : w->n_layer); i++) {
			cmp += (double)weight[s] * w->cmp[s * w->n_layer + i];
			dif += (double)weight[s] * w->dif[s * w->n_layer + i];
		}
	return cmp > 0 ? dif / cmp : NAN;
}

/* JSD of layer l with the documents' runs as swap says (1 = exchanged). */
static double jsd_of(const struct work *w, struct resample *x, size_t l, size_t n)
{
	memset(x->row[0], 0, n * sizeof *x->row[0]);
	memset(x->row[1], 0, n * sizeof *x->row[1]);
	for (size_t s = 0; s < w->out->documents; s++)
		for (int r = 0; r < 2; r++) {
			const uint32_t *c = w->side[r].count + s * w->width + w->at[l];
			double *to = x->row[r ^ x->swap[2 * s + (size_t)r]];

			for (size_t i = 0; i < n; i++)
				to[i] += c[i];
		}
	return metrics_jsd(x->row[0], x->row[1], n);
}

/* Which documents go to the other run. Paired: both sides of a document together. Else every
 * document of either run is dealt anew, as many to each as there were. */
static void deal(const struct work *w, struct rng *r, uint8_t *swap)
{
	uint64_t n[2], left, places; /* documents of each; not dealt yet; places of run 0 */

	if (w->out->paired) {
		for (size_t s = 0; s < w->out->documents; s++)
			swap[2 * s] = swap[2 * s + 1] = (uint8_t)(rng_u64(r) & 1);
		return;
	}
	for (int i = 0; i < 2; i++)
		n[i] = w->side[i].n_doc < w->n_slot ? w->side[i].n_doc : w->n_slot;
	left = n[0] + n[1], places = n[0];
	for (int i = 0; i < 2; i++)
		for (size_t s = 0; s < n[i]; s++, left--) {
			int first = rng_below(r, left) < places;

			places -= (uint64_t)first;
			swap[2 * s + (size_t)i] = (uint8_t)(first ? i : !i);
		}
}

/* Rates of layer l, run B less run A, under the weights: into column i of x->rate. */
static void rates_of(const struct work *w, struct resample *x, size_t l, size_t i)
{
	size_t n_expert = w->out->layer[l].n_expert;
	double t[2] = { 0 };

	memset(x->row[0], 0, n_expert * sizeof *x->row[0]);
	memset(x->row[1], 0, n_expert * sizeof *x->row[1]);
	for (size_t s = 0; s < w->out->documents; s++)
		for (int k = 0; k < 2 && x->weight[s]; k++) {
			const uint32_t *c = w->side[k].count + s * w->width + w->at[l];

			for (size_t e = 0; e < n_expert; e++)
				x->row[k][e] += (double)x->weight[s] * c[e];
			t[k] += (double)x->weight[s] * w->side[k].n_tok[s * w->n_layer + l];
		}
	for (size_t e = 0; e < n_expert; e++)
		x->rate[e * RESAMPLES + i] = x->row[1][e] / t[1] - x->row[0][e] / t[0];
}

/* Unit of work: one layer. */
static void layer_evidence(void *ctx, size_t l, int worker)
{
	struct work *w = ctx;
	struct resample *x = &w->room[worker];
	struct diff_layer *o = w->out->layer + l;
	size_t n = 0, m = 0, above = 0;
	struct rng r;

	rng_seed(&r, 1000 + l);
	for (int i = 0; i < RESAMPLES; i++) {
		deal(w, &r, x->swap);
		x->jsd[n] = jsd_of(w, x, l, o->n_expert);
		above += x->jsd[n] >= o->jsd * (1 - 1e-12);
		n += !isnan(x->jsd[n]);
	}
	qsort(x->jsd, n, sizeof *x->jsd, by_value);
	o->null_p95 = metrics_quantile(x->jsd, n, .95);
	o->p_value = n ? (double)(above + 1) / (double)(n + 1) : NAN;
	for (int i = 0; i < RESAMPLES; i++) {
		memset(x->weight, 0, w->n_slot * sizeof *x->weight);
		for (uint64_t s = 0; s < w->out->documents; s++)
			x->weight[rng_below(&r, w->out->documents)]++;
		x->mis[m] = mismatch_of(w, x->weight, l);
		m += !isnan(x->mis[m]);
		rates_of(w, x, l, (size_t)i);
	}
	qsort(x->mis, m, sizeof *x->mis, by_value);
	o->lo = metrics_quantile(x->mis, m, .025);
	o->hi = metrics_quantile(x->mis, m, .975);
	for (unsigned e = 0; e < o->n_expert; e++) {
		double *v = x->rate + (size_t)e * RESAMPLES;
		size_t k = 0;

		for (size_t i = 0; i < RESAMPLES; i++) {
			v[k] = v[i];
			k += !isnan(v[k]);
		}
		qsort(v, k, sizeof *v, by_value);
		o->expert[e].lo = metrics_quantile(v, k, .025);
		o->expert[e].hi = metrics_quantile(v, k, .975);
	}
}

/* Pooled mismatch with its interval. */
static void pooled_evidence(struct work *w, struct resample *x)
{
	struct diff_layer *o = w->out->layer + w->n_layer;
	struct rng r;
	size_t m = 0;

	rng_seed(&r, 999);
	for (int i = 0; i < RESAMPLES; i++) {
		memset(x->weight, 0, w->n_slot * sizeof *x->weight);
		for (uint64_t s = 0; s < w->out->documents; s++)
			x->weight[rng_below(&r, w->out->documents)]++;
		x->mis[m] = mismatch_of(w, x->weight, w->n_layer);
		m += !isnan(x->mis[m]);
	}
	qsort(x->mis, m, sizeof *x->mis, by_value);
	o->lo = metrics_quantile(x->mis, m, .025);
	o->hi = metrics_quantile(x->mis, m, .975);
}

static int resample_init(struct resample *x, size_t n_slot, struct moe_err *e)
{
	x->jsd = malloc(RESAMPLES * sizeof *x->jsd);
	x->mis = malloc(RESAMPLES * sizeof *x->mis);
	x->rate = malloc(RESAMPLES * MOE_MAX_EXPERT * sizeof *x->rate);
	x->swap = calloc(2 * n_slot, 1);
	x->weight = calloc(n_slot, sizeof *x->weight);
	return x->jsd && x->mis && x->rate && x->swap && x->weight ? 0 : err_nomem(e,
		RESAMPLES * MOE_MAX_EXPERT * sizeof *x->rate, "resamples");
}

static int evidence(struct work *w, struct moe_err *e)
{
	uint64_t a = w->side[0].n_doc, b = w->side[1].n_doc, most = a > b ? a : b;

	w->out->documents = most < w->n_slot ? (size_t)most : w->n_slot;
	if ((a < b ? a : b) < 2) {
		text_remark(w->out->why, sizeof w->out->why, "one document: no intervals and no test "
			"against noise");
		return 0;
	}
	if (most > w->n_slot)
		text_remark(w->out->why, sizeof w->out->why,
			"%llu documents are put together in %zu groups", (unsigned long long)most, w->n_slot);
	for (int i = 0; i < pool_threads(w->pool); i++)
		if (resample_init(&w->room[i], w->n_slot, e))
			return -1;
	pool_run(w->pool, layer_evidence, w, w->n_layer);
	pooled_evidence(w, w->room);
	return 0;
}

/* ---- putting it together ---- */

static int work_init(struct work *w, struct reader *ra, const struct load_filter *fa,
	struct reader *rb, const struct load_filter *fb, struct moe_err *e)
{
	const struct run_info *u = &w->out->a;
	int workers = scan_threads(0);
	size_t n, cells;

	w->n_layer = u->n_moe_layer;
	w->at = calloc(w->n_layer + 1, sizeof *w->at);
	if (!w->at)
		return err_nomem(e, w->n_layer * sizeof *w->at, "layers");
	for (size_t l = 0; l < w->n_layer; l++) {
		w->at[l] = w->width;
		w->width += u->layers[l].n_expert;
	}
	w->n_slot = DOC_CELLS / w->width < DOC_MOST ? DOC_CELLS / w->width : DOC_MOST;
	w->n_slot = w->n_slot > 16 ? w->n_slot : 16;
	n = w->n_layer, cells = w->n_slot * w->n_layer;
	w->cmp = calloc(cells, sizeof *w->cmp);
	w->dif = calloc(cells, sizeof *w->dif);
	w->sum = calloc(n, sizeof *w->sum);
	w->m_flip = calloc(n, sizeof *w->m_flip);
	w->m_all = calloc(n, sizeof *w->m_all);
	w->n_flip = calloc(n, sizeof *w->n_flip);
	w->n_all = calloc(n, sizeof *w->n_all);
	w->close = calloc(n, sizeof *w->close);
	w->step = malloc(STEPS * sizeof *w->step);
	w->room = calloc((size_t)workers, sizeof *w->room);
	for (int i = 0; i < 2; i++) {
		w->side[i].count = calloc(w->n_slot * w->width, sizeof *w->side[i].count);
		w->side[i].n_tok = calloc(cells, sizeof *w->side[i].n_tok);
		if (!w->side[i].count || !w->side[i].n_tok)
			return err_nomem(e, w->n_slot * w->width * 4, "counts by document");
	}
	if (!w->cmp || !w->dif || !w->sum || !w->m_flip || !w->m_all || !w->n_flip || !w->n_all ||
	    !w->close || !w->step || !w->room)
		return err_nomem(e, cells * 4, "differences by document");
	w->pool = pool_new(workers, e);
	w->side[0].scan = w->pool ? scan_open(ra, fa, SCAN_MARGINS, workers, e) : NULL;
	w->side[1].scan = w->side[0].scan ? scan_open(rb, fb, 0, workers, e) : NULL;
	return w->side[1].scan ? 0 : -1;
}

static void work_free(struct work *w)
{
	for (int i = 0; i < 2; i++) {
		scan_close(w->side[i].scan);
		free(w->side[i].count);
		free(w->side[i].n_tok);
	}
	for (int i = 0; w->room && w->pool && i < pool_threads(w->pool); i++) {
		free(w->room[i].jsd);
		free(w->room[i].mis);
		free(w->room[i].rate);
		free(w->room[i].swap);
		free(w->room[i].weight);
	}
	pool_free(w->pool);
	free(w->room);
	free(w->step);
	free(w->at);
	free(w->cmp);
	free(w->dif);
	free(w->sum);
	free(w->m_flip);
	free(w->m_all);
	free(w->n_flip);
	free(w->n_all);
	free(w->close);
}

static void conclude(struct work *w)
{
	struct diff *d = w->out;
	struct diff_layer *all = d->layer + d->n;
	struct metrics_diff sum = { 0, 0, 0 };
	double flip = 0, total = 0;
	uint64_t n_flip = 0, n_all = 0, close = 0;

	d->tokens_a = w->side[0].tokens, d->tokens_b = w->side[1].tokens;
	d->first_mean = d->touched ? (double)w->first_sum / (double)d->touched : NAN;
	for (size_t l = 0; l <= d->n; l++) {
		struct diff_layer *o = d->layer + l;
		const struct metrics_diff *s = l < d->n ? w->sum + l : &sum;
		double m = l < d->n ? w->m_flip[l] : flip, t = l < d->n ? w->m_all[l] : total;
		uint64_t nf = l < d->n ? w->n_flip[l] : n_flip, na = l < d->n ? w->n_all[l] : n_all;
		uint64_t c = l < d->n ? w->close[l] : close;

		o->compared = s->n, o->differ = s->differ;
		o->mismatch = s->n ? (double)s->differ / (double)s->n : NAN;
		o->saturation = s->n ? s->overlap / (double)s->n : NAN;
		o->explained = nf ? (double)c / (double)nf : NAN;
		o->margin_flips = nf ? m / (double)nf : NAN;
		o->margin_all = na ? t / (double)na : NAN;
		if (l < d->n) {
			sum.n += s->n, sum.differ += s->differ, sum.overlap += s->overlap;
			flip += m, total += t, n_flip += nf, n_all += na, close += c;
		}
	}
	all->tokens_a = d->tokens_a, all->tokens_b = d->tokens_b;
	if (!d->matched)
		text_remark(d->why, sizeof d->why, "no token of the two runs is the same (sequence number, "
			"position, token id): only the loads are compared");
	else if (d->matched < d->tokens_a || d->matched < d->tokens_b)
		text_remark(d->why, sizeof d->why, "%llu of %llu and %llu tokens are the same in both",
			(unsigned long long)d->matched, (unsigned long long)d->tokens_a,
			(unsigned long long)d->tokens_b);
}

static int singles(struct diff *d, struct reader *ra, const struct load_filter *fa,
	struct reader *rb, const struct load_filter *fb, struct moe_err *e)
{
	struct work w = { .out = d };
	int status = -1;

	if (work_init(&w, ra, fa, rb, fb, e) || merge(&w, e))
		goto out;
	d->paired = w.side[0].n_doc == w.side[1].n_doc && d->matched > 0;
	conclude(&w);
	if (d->tokens_a && d->tokens_b && evidence(&w, e))
		goto out;
	status = 0;
out:
	work_free(&w);
	return status;
}

int view_diff(struct reader *ra, const struct load_filter *fa, struct reader *rb,
	const struct load_filter *fb, double epsilon, struct diff *d, struct moe_err *e)
{
	char why[256] = "";

	memset(d, 0, sizeof *d);
	d->first = -1;
	d->epsilon = epsilon;
	d->first_mean = NAN;
	if (reader_run(ra, fa->run, &d->a, e) || reader_run(rb, fb->run, &d->b, e) ||
	    same_shape(&d->a, &d->b, e))
		return -1;
	d->n = d->a.n_moe_layer;
	d->layer = calloc(d->n + 1, sizeof *d->layer);
	if (!d->layer)
		return err_nomem(e, d->n * sizeof *d->layer, "layers");
	for (size_t l = 0; l <= d->n; l++) {
		struct diff_layer *o = d->layer + l;

		o->layer = -1;
		o->null_p95 = o->p_value = o->mismatch = o->lo = o->hi = o->saturation = NAN;
		o->explained = o->margin_flips = o->margin_all = o->jsd = o->l1 = NAN;
	}
	if (loads(ra, fa, rb, fb, d, e))
		goto fail;
	if (view_decisions_missing(&d->a, why, sizeof why) ||
	    view_decisions_missing(&d->b, why, sizeof why))
		text_remark(d->why, sizeof d->why, "%s; only the loads are compared", why);
	else if (singles(d, ra, fa, rb, fb, e))
		goto fail;
	return 0;
fail:
	view_diff_free(d);
	return -1;
}

void view_diff_free(struct diff *d)
{
	for (size_t l = 0; d->layer && l < d->n; l++)
		free(d->layer[l].expert);
	free(d->layer);
	d->layer = NULL;
	d->n = 0;
}

/* ---- tables ---- */

static const struct view_col cols[] = {
	{ "run_a", NULL, VIEW_INT, 0 }, { "run_b", NULL, VIEW_INT, 0 },
	{ "layer", "layer", VIEW_INT, 0 },
	{ "tokens_a", "tokens A", VIEW_INT, 0 }, { "tokens_b", "tokens B", VIEW_INT, 0 },
	{ "jsd", "JSD bits", VIEW_REAL, 5 }, { "jsd_null_p95", "null p95", VIEW_REAL, 5 },
	{ "p_value", "p", VIEW_REAL, 3 }, { "l1", "L1", VIEW_REAL, 4 },
	{ "top_expert", "most moved", VIEW_INT, 0 }, { "top_shift", "by", VIEW_REAL, 4 },
	{ "compared", "compared", VIEW_INT, 0 }, { "mismatch", "mismatch", VIEW_REAL, 4 },
	{ "mismatch_lo", "from", VIEW_REAL, 4 }, { "mismatch_hi", "to", VIEW_REAL, 4 },
	{ "saturation", "saturation", VIEW_REAL, 4 }, { "explained", "by margin", VIEW_REAL, 3 },
	{ "margin_flips", "margin flips", VIEW_REAL, 4 }, { "margin_all", "all", VIEW_REAL, 4 },
	{ "matched", NULL, VIEW_INT, 0 }, { "token_mismatch", "tokens touched", VIEW_REAL, 4 },
	{ "first_layer", "first layer", VIEW_INT, 0 }, { "first_mean", NULL, VIEW_REAL, 3 },
};

int view_diff_table(const struct diff *d, struct view_table *out, struct moe_err *e)
{
	view_table_init(out, cols, N_COLS(cols));
	snprintf(out->why, sizeof out->why, "%.255s", d->why);
	for (size_t l = 0; l <= d->n; l++) {
		const struct diff_layer *o = d->layer + l;
		const double real[] = { o->mismatch, o->lo, o->hi, o->saturation, o->explained,
			o->margin_flips, o->margin_all };
		struct view_cell *c = view_table_row(out, e);

		if (!c) {
			view_table_free(out);
			return -1;
		}
		view_set_int(c, d->a.id);
		view_set_int(c + 1, d->b.id);
		if (l < d->n)
			view_set_int(c + 2, o->layer);
		view_set_int(c + 3, (int64_t)o->tokens_a);
		view_set_int(c + 4, (int64_t)o->tokens_b);
		view_set_real(c + 5, o->jsd);
		view_set_real(c + 6, o->null_p95);
		view_set_real(c + 7, o->p_value);
		view_set_real(c + 8, o->l1);
		if (l < d->n && isfinite(o->expert[o->top].shift)) {
			view_set_int(c + 9, o->top);
			view_set_real(c + 10, o->expert[o->top].shift);
		}
		view_set_int(c + 11, (int64_t)o->compared);
		for (size_t i = 0; i < N_COLS(real); i++)
			view_set_real(c + 12 + i, real[i]);
		if (l < d->n)
			continue;
		view_set_int(c + 19, (int64_t)d->matched);
		if (d->matched)
			view_set_real(c + 20, (double)d->touched / (double)d->matched);
		if (d->first >= 0)
			view_set_int(c + 21, d->first);
		view_set_real(c + 22, d->first_mean);
	}
	return 0;
}

static const struct view_col expert_cols[] = {
	{ "run_a", NULL, VIEW_INT, 0 }, { "run_b", NULL, VIEW_INT, 0 },
	{ "layer", "layer", VIEW_INT, 0 },
	{ "expert", "expert", VIEW_INT, 0 }, { "rate_a", "rate A", VIEW_REAL, 4 },
	{ "rate_b", "rate B", VIEW_REAL, 4 }, { "shift", "shift", VIEW_REAL, 4 },
	{ "shift_lo", "from", VIEW_REAL, 4 }, { "shift_hi", "to", VIEW_REAL, 4 },
};

int view_diff_experts(const struct diff *d, struct view_table *out, struct moe_err *e)
{
	view_table_init(out, expert_cols, N_COLS(expert_cols));
	snprintf(out->why, sizeof out->why, "%.255s", d->why);
	for (size_t l = 0; l < d->n; l++)
		for (unsigned i = 0; i < d->layer[l].n_expert; i++) {
			const struct diff_expert *x = d->layer[l].expert + i;
			struct view_cell *c = view_table_row(out, e);

			if (!c) {
				view_table_free(out);
				return -1;
			}
			view_set_int(c, d->a.id);
			view_set_int(c + 1, d->b.id);
			view_set_int(c + 2, d->layer[l].layer);
			view_set_int(c + 3, i);
			view_set_real(c + 4, x->rate_a);
			view_set_real(c + 5, x->rate_b);
			view_set_real(c + 6, x->shift);
			view_set_real(c + 7, x->lo);
			view_set_real(c + 8, x->hi);
		}
	return 0;
}
