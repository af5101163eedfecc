/*
 * attention.c - queries, keys and values of a batch, their rotation, and attention over the cache.
 *
 * The positions of the cache are cut into tiles of ATT_TILE, at multiples of it. A query's softmax is
 * taken over each tile by itself, its result put together with those of the tiles before it, always in
 * ascending order (an online softmax, arXiv 1805.02867). So memory does not grow with the context but
 * for results of tiles that are kept, a bounded number, and a result does not depend on who
 * computed which tile: a batch gives every thread some queries and all their tiles, decoding, which
 * has few queries, some queries and a few tiles.
 *
 * Queries that share a key/value head go together, so that a cached row is read once for all of them.
 */
#include "model/forward.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/num.h"

/* Rotate n_head heads, `stride` floats apart, of n rows of x, `row` floats apart, by the table; -1
 * leaves them alone. */
void turn(const struct session *s, int table, float *x, uint32_t pos, size_t n, size_t row, size_t n_head,
	size_t stride)
{
	size_t n_rot = s->m->hp.n_rot;

	for (size_t t = 0; table >= 0 && t < n; t++)
		rope_apply(s->m->arch->rope, s->rope[table] + (pos + t) * n_rot, n_rot, x + t * row, n_head,
			stride);
}

/* Multiply the queries of n tokens by the temperature of their positions. */
void warm_queries(const struct session *s, float *q, uint32_t pos, size_t n, size_t row)
{
	const struct hparams *hp = &s->m->hp;

	for (size_t t = 0; t < n; t++) {
		double turns = floor((double)((float)(pos + t) + (float)hp->temp_offset) / hp->temp_floor);

		scale_rows(q + t * row, (float)(log(turns + 1) * hp->temp_scale + 1), row);
	}
}

/* The first position that a token of this layer sees. */
static uint32_t first_seen(const struct session *s, const struct layer *l, uint32_t pos)
{
	if (!l->window)
		return 0;
	if (s->m->arch->window == WINDOW_CHUNK)
		return pos / l->window * l->window;
	return pos + 1 > l->window ? pos + 1 - l->window : 0;
}

struct att_run {
	struct session *s;
	size_t layer, n;
	struct attend a;
	size_t group;         /* queries of a token that share a key/value head */
	size_t blocks;        /* of s->att_q queries, of a key/value head */
	size_t tile0, n_tile; /* to do now: all, or those that results are kept of */
	size_t span, n_span;  /* tiles of a unit, units of a block */
};

/* What a query has of one tile, or of all tiles so far: the largest score, the sum of e^(score - max),
 * and from ENTRY on the sum of those times the values. */
enum { E_MAX, E_SUM, ENTRY = 16 };

static size_t entry_size(size_t v_dim)
{
	return ENTRY + (v_dim + 15) / 16 * 16;
}

static void clear_entry(float *to, size_t v_dim)
{
	to[E_MAX] = -FLT_MAX; /* finite: e^(max - max) is 1 where nothing was seen */
	to[E_SUM] = 0;
	memset(to + ENTRY, 0, v_dim * sizeof *to);
}

static void add_entry(const struct session *s, float *to, const float *tile, size_t v_dim)
{
	float max = tile[E_MAX] > to[E_MAX] ? tile[E_MAX] : to[E_MAX];
	float old = num_exp(to[E_MAX] - max), new = num_exp(tile[E_MAX] - max);

	if (old != 1)
		scale_rows(to + ENTRY, old, v_dim);
	s->kern->axpy(new, tile + ENTRY, to + ENTRY, v_dim);
	to[E_SUM] = to[E_SUM] * old + tile[E_SUM] * new;
	to[E_MAX] = max;
}

/* p[n] becomes e^(p - max), p scaled and capped before; max and sum go to the entry. */
static void soften(const struct session *s, float *p, size_t n, float *entry)
{
	float scale = s->m->attn_scale, cap = (float)s->m->hp.attn_cap;

	scale_rows(p, scale, n);
	for (size_t i = 0; cap != 0 && i < n; i++)
		p[i] = cap * num_tanh(p[i] / cap);
	entry[E_MAX] = s->kern->max(p, n, -FLT_MAX);
	s->kern->exp_shift(p, entry[E_MAX], n);
	entry[E_SUM] = s->kern->sum(p, n);
}

/* The entry of all tiles becomes the output: a sink is one more score, without a value. */
static void finish(const struct att_run *r, float *entry, size_t token, size_t head)
{
	const struct layer *l = &r->s->m->layer[r->layer];
	size_t v_dim = r->a.v_dim;
	float *o = r->a.o + (token * r->a.n_head + head) * v_dim;

	if (l->sinks) {
		float max = l->sinks[head] > entry[E_MAX] ? l->sinks[head] : entry[E_MAX];
		float old = num_exp(entry[E_MAX] - max);

		scale_rows(entry + ENTRY, old, v_dim);
		entry[E_SUM] = entry[E_SUM] * old + num_exp(l->sinks[head] - max);
	}
	memcpy(o, entry + ENTRY, v_dim * sizeof *o);
	scale_rows(o, 1.0f / entry[E_SUM], v_dim);
}

/* The part of a tile that a token sees: 1 unless it is empty. */
static int sees(const struct att_run *r, size_t token, size_t tile, uint32_t *lo, uint32_t *hi)
{
	uint32_t pos = r->s->pos + (uint32_t)token, start = (uint32_t)(tile * ATT_TILE);
	uint32_t from = first_seen(r->s, &r->s->m->layer[r->layer], pos);

	*lo = from > start ? from : start;
	*hi = pos + 1 < start + ATT_TILE ? pos + 1 : start + ATT_TILE;
	return *lo < *hi;
}

/* Queries first .. of a key/value head: query i is head i % group of token i / group. */
struct att_block { size_t kv_head, first, n_q; const float *q; float *p; };

static struct att_block get_block(const struct att_run *r, size_t block, int worker)
{
	const struct session *s = r->s;
	const struct attend *a = &r->a;
	float *q = s->att_buf + (size_t)worker * s->att_n;
	struct att_block b = { block / r->blocks, block % r->blocks * s->att_q, 0, q, q + s->att_q * a->k_dim };

	b.n_q = min_size(s->att_q, r->n * r->group - b.first);
	for (size_t i = 0; i < b.n_q; i++) {
		size_t row = (b.first + i) / r->group * a->n_head + b.kv_head * r->group + (b.first + i) % r->group;

		memcpy(q + i * a->k_dim, a->q + row * a->k_dim, a->k_dim * sizeof *q);
	}
	return b;
}

/* A block's queries over one tile: entries out, `size` floats apart, of those that see any of it. */
static void attend_tile(const struct att_run *r, const struct att_block *b, size_t tile, float *out,
	size_t size)
{
	const struct session *s = r->s;
	struct kv_query see[ATT_QUERIES];
	uint32_t from = UINT32_MAX, to = 0, lo, hi;

	for (size_t i = 0; i < b->n_q; i++) {
		int any = sees(r, (b->first + i) / r->group, tile, &lo, &hi);

		see[i] = (struct kv_query){ any ? lo : 0, any ? hi : 0, out + i * size + ENTRY };
		if (!any)
			continue;
		from = lo < from ? lo : from;
		to = hi > to ? hi : to;
	}
	if (from >= to)
		return;
	kv_dot(s->kv, r->layer, b->kv_head, from, to - from, b->q, b->n_q, b->p, ATT_TILE);
	for (size_t i = 0; i < b->n_q; i++) {
		if (!see[i].hi) {
			see[i].lo = see[i].hi = to - from;
			continue;
		}
		see[i].lo -= from;
		see[i].hi -= from;
		clear_entry(out + i * size, r->a.v_dim);
		soften(s, b->p + i * ATT_TILE + see[i].lo, see[i].hi - see[i].lo, out + i * size);
	}
	kv_mix(s->kv, r->layer, b->kv_head, from, see, b->n_q, size, b->p, ATT_TILE);
}

/* A unit: a block and all its tiles. */
static void att_unit(void *ctx, size_t unit, int worker)
{
	const struct att_run *r = ctx;
	size_t v_dim = r->a.v_dim, size = entry_size(v_dim);
	struct att_block b = get_block(r, unit, worker);
	float *one = b.p + r->s->att_q * ATT_TILE, *all = one + r->s->att_q * size;
	uint32_t lo, hi;

	for (size_t i = 0; i < b.n_q; i++)
		clear_entry(all + i * size, v_dim);
	for (size_t tile = r->tile0; tile < r->tile0 + r->n_tile; tile++) {
		attend_tile(r, &b, tile, one, size);
		for (size_t i = 0; i < b.n_q; i++)
			if (sees(r, (b.first + i) / r->group, tile, &lo, &hi))
				add_entry(r->s, all + i * size, one + i * size, v_dim);
	}
	for (size_t i = 0; i < b.n_q; i++)
		finish(r, all + i * size, (b.first + i) / r->group, b.kv_head * r->group + (b.first + i) % r->group);
}

/* ---- few queries: entries are kept, [tile][key/value head][query] after the totals' ---- */

static float *kept(const struct att_run *r, size_t tile, size_t kv_head, size_t query)
{
	size_t at = (tile - r->tile0 + 1) * r->n * r->a.n_head + kv_head * r->n * r->group + query;

	return r->s->att_parts + at * entry_size(r->a.v_dim);
}

/* A unit: a block and some tiles. */
static void span_unit(void *ctx, size_t unit, int worker)
{
	const struct att_run *r = ctx;
	struct att_block b = get_block(r, unit / r->n_span, worker);
	size_t t = unit % r->n_span * r->span, end = min_size(t + r->span, r->n_tile);

	for (; t < end; t++)
		attend_tile(r, &b, r->tile0 + t, kept(r, r->tile0 + t, b.kv_head, b.first),
			entry_size(r->a.v_dim));
}

/* A unit: a query's entries put together. */
static void join_unit(void *ctx, size_t unit, int worker)
{
	const struct att_run *r = ctx;
	size_t of_head = r->n * r->group, kv_head = unit / of_head, query = unit % of_head;
	float *all = r->s->att_parts + unit * entry_size(r->a.v_dim);
	uint32_t lo, hi;

	(void)worker;
	for (size_t t = r->tile0; t < r->tile0 + r->n_tile; t++)
		if (sees(r, query / r->group, t, &lo, &hi))
			add_entry(r->s, all, kept(r, t, kv_head, query), r->a.v_dim);
}

static void run_units(const struct att_run *r, pool_fn *fn, size_t units, size_t cost)
{
	if (cost < INLINE_COST)
		for (size_t i = 0; i < units; i++)
			fn((void *)r, i, 0);
	else
		pool_run(r->s->pool, fn, (void *)r, units);
}

/* `at_once` tiles after another: their entries, then the totals. */
static void attend_spans(struct att_run r, size_t at_once)
{
	size_t end = r.tile0 + r.n_tile, units = r.blocks * r.a.n_head_kv, queries = r.n * r.a.n_head;
	size_t size = entry_size(r.a.v_dim);

	for (size_t i = 0; i < queries; i++)
		clear_entry(r.s->att_parts + i * size, r.a.v_dim);
	for (; r.tile0 < end; r.tile0 += at_once) {
		size_t want = (8 * (size_t)pool_threads(r.s->pool) + units - 1) / units;

		r.n_tile = min_size(at_once, end - r.tile0);
		r.span = (r.n_tile + want - 1) / want;
		r.n_span = (r.n_tile + r.span - 1) / r.span;
		pool_run(r.s->pool, span_unit, &r, units * r.n_span);
		run_units(&r, join_unit, queries, queries * r.n_tile * r.a.v_dim);
	}
	for (size_t i = 0; i < queries; i++)
		finish(&r, r.s->att_parts + i * size, i % (r.n * r.group) / r.group,
			i / (r.n * r.group) * r.group + i % r.group);
}

void attend_all(struct session *s, size_t il, size_t n, struct attend a)
{
	const struct layer *l = &s->m->layer[il];
	size_t group = a.n_head / a.n_head_kv, threads = (size_t)pool_threads(s->pool), at_once;
	struct att_run r = { s, il, n, a, group, (n * group + s->att_q - 1) / s->att_q, 0, 0, 0, 0 };
	size_t units = r.blocks * a.n_head_kv;

	r.tile0 = first_seen(s, l, s->pos) / ATT_TILE;
	r.n_tile = (s->pos + n - 1) / ATT_TILE + 1 - r.tile0;
	at_once = s->att_parts_n / (n * a.n_head);
	if (threads > 1 && units < 4 * threads && r.n_tile > 1 && at_once > 2)
		attend_spans(r, at_once - 1);
	else
		run_units(&r, att_unit, units, n * a.n_head * (s->pos + n) * a.k_dim);
}

/* ---- buffers ---- */

static void widths(const struct model *m, size_t *k, size_t *v)
{
	int latent = (m->arch->features & F_MLA) != 0;

	*k = latent ? (size_t)m->hp.kv_rank + m->hp.n_rot : m->hp.head_dim;
	*v = latent ? m->hp.kv_rank : m->hp.head_dim;
}

/* Heads that share a latent vector are many: all that fit, so that it is read once. */
static size_t queries_together(const struct model *m)
{
	return m->arch->features & F_MLA ? ATT_QUERIES : ATT_QUERIES / 4;
}

void attend_sizes(struct session *s)
{
	const struct model *m = s->m;
	size_t k, v, tiles = (s->n_ctx + ATT_TILE - 1) / ATT_TILE;

	widths(m, &k, &v);
	s->att_q = queries_together(m);
	s->att_n = s->att_q * (k + ATT_TILE + 2 * entry_size(v));
	s->att_parts_n = pool_threads(s->pool) > 1 && tiles > 1 ?
		m->hp.n_head * (1 + min_size(tiles, ATT_KEPT)) : 0;
	s->att_parts_size = s->att_parts_n * entry_size(v);
}

static void clamp_rows(float *x, float to, size_t n)
{
	for (size_t i = 0; i < n; i++)
		x[i] = x[i] > to ? to : x[i] < -to ? -to : x[i];
}

/* s->q, s->k, s->v of n tokens. */
static void projections(struct session *s, const struct layer *l, size_t n, struct job j[3])
{
	size_t hd = s->m->hp.head_dim, qw = l->n_head * hd, kw = l->n_head_kv * hd;

	j[0] = product_job(&l->wq, s->h, n, s->q, qw);
	j[1] = product_job(&l->wk, s->h, n, s->k, kw);
	j[2] = product_job(&l->wv, s->h, n, s->v, kw);
}

void attention_ahead(struct session *s, size_t il, size_t n)
{
	struct job j[3];

	projections(s, &s->m->layer[il], n, j);
	product_ahead(s, j, 3);
}

struct ready_run { struct session *s; size_t il; };

/* What happens to the queries, keys and values of tokens t0 .. t1 - 1 before they meet: bias, clamp,
 * norms, rotation, into the cache. */
static void make_ready(void *ctx, size_t t0, size_t t1)
{
	const struct ready_run *r = ctx;
	struct session *s = r->s;
	const struct hparams *hp = &s->m->hp;
	const struct layer *l = &s->m->layer[r->il];
	size_t hd = hp->head_dim, qw = l->n_head * hd, kw = l->n_head_kv * hd, n = t1 - t0;
	float *q = s->q + t0 * qw, *k = s->k + t0 * kw, *v = s->v + t0 * kw;
	uint32_t pos = s->pos + (uint32_t)t0;
	uint64_t f = l->features;
	int late = f & F_QK_NORM_LATE || (f & F_QK_NORM_PLAIN && l->rope >= 0 && hp->n_expert != 128);

	add_bias(q, l->bq, qw, n);
	add_bias(k, l->bk, kw, n);
	add_bias(v, l->bv, kw, n);
	if (hp->clamp > 0) {
		clamp_rows(q, (float)hp->clamp, n * qw);
		clamp_rows(k, (float)hp->clamp, n * kw);
		clamp_rows(v, (float)hp->clamp, n * kw);
	}
	if (f & F_QK_NORM_FULL) {
		norm_rows(s, q, l->q_norm, q, qw, n);
		norm_rows(s, k, l->k_norm, k, kw, n);
	}
	if ((f & F_QK_NORM_HEAD) && !(f & F_QK_NORM_LATE)) {
		norm_rows(s, q, l->q_norm, q, hd, n * l->n_head);
		norm_rows(s, k, l->k_norm, k, hd, n * l->n_head_kv);
	}
	turn(s, l->rope, q, pos, n, qw, l->n_head, hd);
	turn(s, l->rope, k, pos, n, kw, l->n_head_kv, hd);
	if (late) {
		norm_rows(s, q, l->q_norm, q, hd, n * l->n_head);
		norm_rows(s, k, l->k_norm, k, hd, n * l->n_head_kv);
	}
	if (hp->temp_scale != 0 && (s->m->arch->window != WINDOW_CHUNK || l->rope < 0))
		warm_queries(s, q, pos, n, qw);
	kv_write(s->kv, r->il, pos, n, k, v);
}

void attention(struct session *s, size_t il, size_t n)
{
	const struct layer *l = &s->m->layer[il];
	size_t hd = s->m->hp.head_dim, qw = l->n_head * hd, kw = l->n_head_kv * hd;
	struct job qkv[3], out = product_job(&l->wo, s->att, n, s->out, s->m->hp.n_embd);
	struct ready_run ready = { s, il };

	projections(s, l, n, qkv);
	product_ahead(s, &out, 1);
	product_run(s, qkv, 3);
	over_rows(s, make_ready, &ready, n, 4 * (qw + 2 * kw));
	attend_all(s, il, n, (struct attend){ s->q, s->att, l->n_head, l->n_head_kv, hd, hd });
	product_ahead(s, NULL, 0);
	product_run(s, &out, 1);
	add_bias(s->out, l->bo, s->m->hp.n_embd, n);
}
