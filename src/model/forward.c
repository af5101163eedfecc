/*
 * forward.c - one forward pass for every architecture: blocks chosen by a layer's features.
 *
 * Determinism: every value of a token is computed from that token's row alone by kernels whose sum
 * order is fixed (kern.h); experts' outputs are added in rank order. So batch size and thread
 * count cannot change a bit. Nothing here allocates.
 */
#include "model/forward.h"

#include <math.h>

/* y = x / sqrt(mean(x^2) + eps) * w */
static void rms_norm(const struct session *s, const float *x, const float *w, float *y, size_t n)
{
	float mean = s->kern->dot(x, x, n) / (float)n, r = 1.0f / sqrtf(mean + (float)s->m->hp.eps);

	for (size_t i = 0; i < n; i++)
		y[i] = x[i] * r * w[i];
}

void norm_rows(const struct session *s, const float *x, const float *w, float *y, size_t n,
	size_t rows)
{
	for (size_t t = 0; t < rows; t++)
		rms_norm(s, x + t * n, w, y + t * n, n);
}

void add_rows(float *x, const float *y, size_t n)
{
	for (size_t i = 0; i < n; i++)
		x[i] += y[i];
}

void add_bias(float *x, const float *b, size_t n, size_t rows)
{
	if (b)
		for (size_t t = 0; t < rows; t++)
			add_rows(x + t * n, b, n);
}

struct act_run { struct session *s; float *g; const float *u; size_t n, per_unit; };

static void act_unit(void *ctx, size_t unit, int worker)
{
	struct act_run *r = ctx;
	size_t at = unit * r->per_unit;

	(void)worker;
	r->s->kern->silu_mul(r->g + at, r->u + at, min_size(r->per_unit, r->n - at));
}

void activate(struct session *s, float *g, const float *u, size_t n)
{
	struct act_run r = { s, g, u, n, 8192 };

	pool_run(s->pool, act_unit, &r, (n + r.per_unit - 1) / r.per_unit);
}

void swiglu(struct session *s, const struct weight *gate, const struct weight *up,
	const struct weight *down, size_t n, float *out)
{
	struct job j[2] = { product_job(gate, s->h, n, s->g, gate->n_out),
		product_job(up, s->h, n, s->u, up->n_out) };

	product_run(s, j, 2);
	activate(s, s->g, s->u, n * gate->n_out);
	product(s, down, s->g, n, out);
}

static void embed(struct session *s, const int32_t *ids, size_t n)
{
	const struct weight *w = &s->m->tok_embd;

	for (size_t t = 0; t < n; t++) {
		s->kern->to_float(w->type, w->data + (size_t)ids[t] * w->row_bytes, s->x + t * w->n_in, w->n_in);
		s->vseq[t] = s->seq;
		s->vpos[t] = s->pos + (uint32_t)t;
		s->vtok[t] = ids[t];
	}
}

int forward_batch(struct session *s, const int32_t *ids, size_t n, enum moe_phase phase,
	struct moe_err *e)
{
	size_t d = s->m->hp.n_embd;

	embed(s, ids, n);
	for (size_t il = 0; il < s->m->hp.n_layer; il++) {
		const struct layer *l = &s->m->layer[il];

		norm_rows(s, s->x, l->attn_norm, s->h, d, n);
		attention(s, il, n);
		add_rows(s->x, s->out, n * d);
		norm_rows(s, s->x, l->ffn_norm, s->h, d, n);
		if (l->features & F_MOE) {
			if (moe(s, il, n, phase, e))
				return -1;
		} else {
			swiglu(s, &l->gate, &l->up, &l->down, n, s->out);
		}
		add_rows(s->x, s->out, n * d);
	}
	return 0;
}

void forward_head(struct session *s, size_t t0, size_t n)
{
	size_t d = s->m->hp.n_embd;

	norm_rows(s, s->x + t0 * d, s->m->output_norm, s->h, d, n);
	product(s, &s->m->output, s->h, n, s->logits);
}
