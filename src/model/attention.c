/*
 * attention.c - queries, keys and values of a batch, their rotation, and attention over the cache.
 *
 * A unit of the pool is some queries that share a key/value head, so that a cached row is unpacked once
 * for all of them. A query's sums over the positions it sees are never cut: scores of a query are all
 * there before its softmax, which takes memory linear in the context.
 */
#include "model/forward.h"

#include <math.h>
#include <string.h>

#include "base/num.h"

/* Rotate n_head heads, `stride` floats apart, of n rows of x, `row` floats apart, by the table; -1
 * leaves them alone. */
void turn(const struct session *s, int table, float *x, size_t n, size_t row, size_t n_head,
	size_t stride)
{
	size_t n_rot = s->m->hp.n_rot;

	for (size_t t = 0; table >= 0 && t < n; t++)
		rope_apply(s->m->arch->rope, s->rope[table] + (s->pos + t) * n_rot, n_rot, x + t * row, n_head,
			stride);
}

/* Multiply the queries of n tokens by the temperature of their positions. */
void warm_queries(const struct session *s, float *q, size_t n, size_t row)
{
	const struct hparams *hp = &s->m->hp;

	for (size_t t = 0; t < n; t++) {
		double turns = floor((double)((float)(s->pos + t) + (float)hp->temp_offset) / hp->temp_floor);

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

struct att_run { struct session *s; size_t layer, n; struct attend a; size_t group, units_per_head; };

/* p[n] becomes e^(p - max), p scaled and capped before; returns the divisor of the softmax. */
static float soften(const struct session *s, const struct layer *l, size_t head, float *p, size_t n)
{
	float scale = s->m->attn_scale, cap = (float)s->m->hp.attn_cap, max = -INFINITY, sum;

	for (size_t i = 0; i < n; i++) {
		p[i] *= scale;
		if (cap != 0)
			p[i] = cap * num_tanh(p[i] / cap);
		max = p[i] > max ? p[i] : max;
	}
	if (l->sinks && l->sinks[head] > max)
		max = l->sinks[head];
	s->kern->exp_shift(p, max, n);
	sum = s->kern->sum(p, n);
	return l->sinks ? sum + num_exp(l->sinks[head] - max) : sum;
}

/* Query i of a key/value head: token i / group, head i % group of those that share it. */
static void attend(const struct att_run *r, size_t kv_head, size_t first, size_t n_q, int worker)
{
	struct session *s = r->s;
	const struct layer *l = &s->m->layer[r->layer];
	const struct attend *a = &r->a;
	float *p = s->score + (size_t)worker * ATT_QUERIES * s->n_ctx, *q = s->att_buf + (size_t)worker * s->att_n;
	float *out = q + ATT_QUERIES * a->k_dim, *scratch = out + ATT_QUERIES * a->v_dim;
	size_t t0 = first / r->group, t1 = (first + n_q - 1) / r->group;
	uint32_t from = first_seen(s, l, s->pos + (uint32_t)t0);
	struct kv_query see[ATT_QUERIES];
	float inv[ATT_QUERIES];

	memset(out, 0, n_q * a->v_dim * sizeof *out);
	for (size_t i = 0; i < n_q; i++) {
		size_t t = (first + i) / r->group, head = kv_head * r->group + (first + i) % r->group;
		uint32_t pos = s->pos + (uint32_t)t;

		memcpy(q + i * a->k_dim, a->q + (t * a->n_head + head) * a->k_dim, a->k_dim * sizeof *q);
		see[i] = (struct kv_query){ first_seen(s, l, pos) - from, pos + 1 - from, out + i * a->v_dim };
	}
	kv_dot(s->kv, r->layer, kv_head, from, s->pos + t1 + 1 - from, q, n_q, p, s->n_ctx, scratch);
	for (size_t i = 0; i < n_q; i++)
		inv[i] = 1.0f / soften(s, l, kv_head * r->group + (first + i) % r->group,
			p + i * s->n_ctx + see[i].lo, see[i].hi - see[i].lo);
	kv_mix(s->kv, r->layer, kv_head, from, see, n_q, a->v_dim, p, s->n_ctx, scratch);
	for (size_t i = 0; i < n_q; i++) {
		size_t row = (first + i) / r->group * a->n_head + kv_head * r->group + (first + i) % r->group;

		memcpy(a->o + row * a->v_dim, out + i * a->v_dim, a->v_dim * sizeof *out);
		scale_rows(a->o + row * a->v_dim, inv[i], a->v_dim);
	}
}

static void att_unit(void *ctx, size_t unit, int worker)
{
	struct att_run *r = ctx;
	size_t first = unit % r->units_per_head * ATT_QUERIES, n_q = r->n * r->group;

	attend(r, unit / r->units_per_head, first, min_size(ATT_QUERIES, n_q - first), worker);
}

size_t attend_scratch(const struct model *m)
{
	const struct hparams *hp = &m->hp;
	size_t k = hp->head_dim, v = hp->head_dim_v, keys, values;

	if (m->arch->features & F_MLA) {
		k = (size_t)hp->kv_rank + hp->n_rot;
		v = hp->kv_rank;
	}
	v = v > k ? v : k; /* without latent attention they are as wide */
	keys = kern_scratch(k);
	values = KV_VALUES * v;
	return ATT_QUERIES * (k + v) + (keys > values ? keys : values);
}

void attend_all(struct session *s, size_t il, size_t n, struct attend a)
{
	size_t group = a.n_head / a.n_head_kv, units = (n * group + ATT_QUERIES - 1) / ATT_QUERIES;
	struct att_run run = { s, il, n, a, group, units };

	units *= a.n_head_kv;
	if (n * a.n_head * (s->pos + n) * a.k_dim < INLINE_COST)
		for (size_t i = 0; i < units; i++)
			att_unit(&run, i, 0);
	else
		pool_run(s->pool, att_unit, &run, units);
}

static void clamp_rows(float *x, float to, size_t n)
{
	for (size_t i = 0; i < n; i++)
		x[i] = x[i] > to ? to : x[i] < -to ? -to : x[i];
}

/* s->q, s->k, s->v of n tokens: product, bias, clamp. */
static void project(struct session *s, const struct layer *l, size_t n, size_t qw, size_t kw)
{
	float clamp = (float)s->m->hp.clamp;
	struct job j[3] = { product_job(&l->wq, s->h, n, s->q, qw), product_job(&l->wk, s->h, n, s->k, kw),
		product_job(&l->wv, s->h, n, s->v, kw) };

	product_run(s, j, 3);
	add_bias(s->q, l->bq, qw, n);
	add_bias(s->k, l->bk, kw, n);
	add_bias(s->v, l->bv, kw, n);
	if (clamp > 0) {
		clamp_rows(s->q, clamp, n * qw);
		clamp_rows(s->k, clamp, n * kw);
		clamp_rows(s->v, clamp, n * kw);
	}
}

static void norm_heads(struct session *s, const struct layer *l, size_t n)
{
	size_t hd = s->m->hp.head_dim;

	norm_rows(s, s->q, l->q_norm, s->q, hd, n * l->n_head);
	norm_rows(s, s->k, l->k_norm, s->k, hd, n * l->n_head_kv);
}

void attention(struct session *s, size_t il, size_t n)
{
	const struct layer *l = &s->m->layer[il];
	size_t hd = s->m->hp.head_dim, qw = l->n_head * hd, kw = l->n_head_kv * hd;
	uint64_t f = l->features;

	project(s, l, n, qw, kw);
	if (f & F_QK_NORM_FULL) {
		norm_rows(s, s->q, l->q_norm, s->q, qw, n);
		norm_rows(s, s->k, l->k_norm, s->k, kw, n);
	}
	if ((f & F_QK_NORM_HEAD) && !(f & F_QK_NORM_LATE))
		norm_heads(s, l, n);
	turn(s, l->rope, s->q, n, qw, l->n_head, hd);
	turn(s, l->rope, s->k, n, kw, l->n_head_kv, hd);
	if (f & F_QK_NORM_LATE || (f & F_QK_NORM_PLAIN && l->rope >= 0 && s->m->hp.n_expert != 128))
		norm_heads(s, l, n);
	if (s->m->hp.temp_scale != 0 && (s->m->arch->window != WINDOW_CHUNK || l->rope < 0))
		warm_queries(s, s->q, n, qw);
	kv_write(s->kv, il, s->pos, n, s->k, s->v);
	attend_all(s, il, n, (struct attend){ s->q, s->att, l->n_head, l->n_head_kv, hd, hd });
	product(s, &l->wo, s->att, n, s->out);
	add_bias(s->out, l->bo, s->m->hp.n_embd, n);
}
