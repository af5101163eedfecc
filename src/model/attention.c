/*
 * attention.c - queries, keys and values of a batch, their rotation, and attention over the cache.
 *
 * A unit of the pool is one head of one token: its sum over the positions is never cut.
 */
#include "model/forward.h"

#include <math.h>
#include <string.h>

/* Rotate the pairs of every head of one token's row. */
static void rope(const struct session *s, float *x, size_t n_head, uint32_t pos)
{
	const struct hparams *hp = &s->m->hp;
	const float *cs = s->rope + (size_t)pos * hp->n_rot;
	size_t half = hp->n_rot / 2, a, b;

	for (size_t h = 0; h < n_head; h++, x += hp->head_dim)
		for (size_t i = 0; i < half; i++) {
			float c = cs[2 * i], sn = cs[2 * i + 1], x0, x1;

			a = s->m->arch->rope == ROPE_NEOX ? i : 2 * i;
			b = s->m->arch->rope == ROPE_NEOX ? i + half : 2 * i + 1;
			x0 = x[a];
			x1 = x[b];
			x[a] = x0 * c - x1 * sn;
			x[b] = x0 * sn + x1 * c;
		}
}

struct att_run { struct session *s; size_t layer; uint32_t pos0; size_t per_unit, n; };

/* One query head of one token over the cache up to its own position. */
static void attend(struct session *s, size_t layer, uint32_t pos, size_t t, size_t head, float *p)
{
	const struct hparams *hp = &s->m->hp;
	size_t hd = hp->head_dim, kv = hp->n_head_kv * hd, n = (size_t)pos + 1;
	size_t base = layer * s->n_ctx * kv + head / (hp->n_head / hp->n_head_kv) * hd;
	const float *q = s->q + (t * hp->n_head + head) * hd, *k = s->kcache + base, *v = s->vcache + base;
	float *o = s->att + (t * hp->n_head + head) * hd, max = -INFINITY, inv;
	float scale = 1.0f / sqrtf((float)hd);

	for (size_t i = 0; i < n; i++) {
		p[i] = s->kern->dot(q, k + i * kv, hd) * scale;
		max = p[i] > max ? p[i] : max;
	}
	s->kern->exp_shift(p, max, n);
	inv = 1.0f / s->kern->sum(p, n);
	memset(o, 0, hd * sizeof *o);
	for (size_t i = 0; i < n; i++)
		s->kern->axpy(p[i], v + i * kv, o, hd);
	for (size_t i = 0; i < hd; i++)
		o[i] *= inv;
}

static void att_unit(void *ctx, size_t unit, int worker)
{
	struct att_run *r = ctx;
	size_t n_head = r->s->m->hp.n_head, end = min_size((unit + 1) * r->per_unit, r->n);

	for (size_t i = unit * r->per_unit; i < end; i++)
		attend(r->s, r->layer, r->pos0 + (uint32_t)(i / n_head), i / n_head, i % n_head,
			r->s->score + (size_t)worker * r->s->n_ctx);
}

void attention(struct session *s, size_t il, size_t n)
{
	const struct hparams *hp = &s->m->hp;
	const struct layer *l = &s->m->layer[il];
	size_t qw = (size_t)hp->n_head * hp->head_dim, kw = (size_t)hp->n_head_kv * hp->head_dim;
	float *k = s->kcache + (il * s->n_ctx + s->pos) * kw, *v = s->vcache + (il * s->n_ctx + s->pos) * kw;
	struct job j[3] = { product_job(&l->wq, s->h, n, s->q, qw), product_job(&l->wk, s->h, n, k, kw),
		product_job(&l->wv, s->h, n, v, kw) };
	struct att_run run = { s, il, s->pos, 1, n * hp->n_head };
	size_t cost = run.n * (s->pos + n) * hp->head_dim;

	product_run(s, j, 3);
	add_bias(s->q, l->bq, qw, n);
	add_bias(k, l->bk, kw, n);
	add_bias(v, l->bv, kw, n);
	if (l->features & F_QK_NORM_FULL) {
		norm_rows(s, s->q, l->q_norm, s->q, qw, n);
		norm_rows(s, k, l->k_norm, k, kw, n);
	}
	if (l->features & F_QK_NORM_HEAD) {
		norm_rows(s, s->q, l->q_norm, s->q, hp->head_dim, n * hp->n_head);
		norm_rows(s, k, l->k_norm, k, hp->head_dim, n * hp->n_head_kv);
	}
	for (size_t t = 0; t < n; t++) {
		rope(s, s->q + t * qw, hp->n_head, s->pos + (uint32_t)t);
		rope(s, k + t * kw, hp->n_head_kv, s->pos + (uint32_t)t);
	}
	if (cost < INLINE_COST)
		run.per_unit = run.n; /* one unit runs inline */
	pool_run(s->pool, att_unit, &run, (run.n + run.per_unit - 1) / run.per_unit);
	product(s, &l->wo, s->att, n, s->out);
}
