/*
 * mla.c - DeepSeek's latent attention (arXiv 2405.04434), in its absorbed form.
 *
 * The cache holds for each position one vector for all heads: kv_rank elements, from which every
 * head's key and value could be made, and n_rot rotated ones. Instead of making them, the key
 * matrix of a head is applied to its query, and the value matrix to what the head has summed up:
 *
 *	q . (K c) = (K^T q) . c        sum p_i (V c_i) = V (sum p_i c_i)
 *
 * Prefill and decode are the same arithmetic, so they have the same bits.
 */
#include "model/forward.h"

#include <string.h>

/* One product of a matrix for each head: x [n][n_head][xs], from offset 0 -> y [n][n_head][ys]. */
static void each_head(struct session *s, const struct weight *w, const float *x, size_t xs, size_t n,
	float *y, size_t ys)
{
	for (uint32_t h = 0; h < w->n_mat; h++) {
		struct job j = product_job(w, x + h * xs, n, y + h * ys, w->n_mat * ys);

		j.data += h * w->mat_bytes;
		j.xs = w->n_mat * xs;
		s->jobs[h] = j;
	}
	product_run(s, s->jobs, w->n_mat);
}

struct turned { struct session *s; const struct weight *w; const float *x; size_t xs, n; float *y;
	size_t ys; };

/* y = W^T x for one head: rows of W, times the elements of x, are added up in ascending order. */
static void turned_head(void *ctx, size_t h, int worker)
{
	struct turned *r = ctx;
	const struct weight *w = r->w;
	float *row = r->s->scratch + (size_t)worker * r->s->scratch_n;

	for (size_t t = 0; t < r->n; t++)
		memset(r->y + (t * w->n_mat + h) * r->ys, 0, w->n_in * sizeof *r->y);
	for (size_t i = 0; i < w->n_out; i++) {
		r->s->kern->to_float(w->type, w->data + h * w->mat_bytes + i * w->row_bytes, row, w->n_in);
		for (size_t t = 0; t < r->n; t++) {
			size_t at = t * w->n_mat + h;

			r->s->kern->axpy(r->x[at * r->xs + i], row, r->y + at * r->ys, w->n_in);
		}
	}
}

/* s->q -> s->ql: every head's query as a query of the cached vectors. */
static void absorb(struct session *s, const struct layer *l, size_t n)
{
	const struct hparams *hp = &s->m->hp;
	size_t hd = hp->head_dim, nope = hd - hp->n_rot, rank = hp->kv_rank, kd = rank + hp->n_rot;
	struct turned run = { s, &l->wkv_b, s->q, hd, n, s->ql, kd };

	if (l->features & F_KV_B_WHOLE)
		pool_run(s->pool, turned_head, &run, l->n_head);
	else
		each_head(s, &l->wk_b, s->q, hd, n, s->ql, kd);
	for (size_t i = 0; i < n * l->n_head; i++)
		memcpy(s->ql + i * kd + rank, s->q + i * hd + nope, hp->n_rot * sizeof *s->ql);
}

static void project(struct session *s, const struct layer *l, size_t n)
{
	const struct hparams *hp = &s->m->hp;
	size_t kd = (size_t)hp->kv_rank + hp->n_rot;

	if (l->features & F_Q_RANK) {
		product(s, &l->wq_a, s->h, n, s->qa);
		norm_rows(s, s->qa, l->q_a_norm, s->qa, hp->q_rank, n);
		product(s, &l->wq_b, s->qa, n, s->q);
	} else {
		product(s, &l->wq, s->h, n, s->q);
	}
	product(s, &l->wkv_a, s->h, n, s->k);
	for (size_t t = 0; t < n; t++) /* the norm is not of the rotated part */
		norm_rows(s, s->k + t * kd, l->kv_a_norm, s->k + t * kd, hp->kv_rank, 1);
}

void latent_ahead(struct session *s, size_t il, size_t n)
{
	const struct layer *l = &s->m->layer[il];
	struct job j = l->features & F_Q_RANK ? product_job(&l->wq_a, s->h, n, s->qa, l->wq_a.n_out) :
		product_job(&l->wq, s->h, n, s->q, l->wq.n_out);

	product_ahead(s, &j, 1);
}

void latent_attention(struct session *s, size_t il, size_t n)
{
	const struct layer *l = &s->m->layer[il];
	const struct hparams *hp = &s->m->hp;
	size_t hd = hp->head_dim, nope = hd - hp->n_rot, rank = hp->kv_rank, kd = rank + hp->n_rot;

	product_ahead(s, NULL, 0);
	project(s, l, n);
	turn(s, l->rope, s->q + nope, s->pos, n, l->n_head * hd, l->n_head, hd);
	turn(s, l->rope, s->k + rank, s->pos, n, kd, 1, kd);
	absorb(s, l, n);
	if (hp->temp_scale != 0)
		warm_queries(s, s->ql, s->pos, n, l->n_head * kd);
	kv_write(s->kv, il, s->pos, n, s->k, NULL);
	attend_all(s, il, n, (struct attend){ s->ql, s->lat, l->n_head, 1, kd, rank });
	each_head(s, &l->wv_b, s->lat, rank, n, s->att, hp->head_dim_v);
	product(s, &l->wo, s->att, n, s->out);
}
