/*
 * forward.c - one forward pass for every architecture: blocks chosen by a layer's features.
 *
 * Determinism: every value of a token is computed from that token's row alone by kernels whose sum
 * order is fixed (kern.h); experts' outputs are added in rank order. So batch size and thread
 * count cannot change a bit. Nothing here allocates.
 */
#include "model/forward.h"
#include "model/lora.h"

#include <math.h>
#include <string.h>

#include "base/num.h"

struct rows_run { rows_fn *fn; void *ctx; size_t n, per_unit; };

static void rows_unit(void *ctx, size_t unit, int worker)
{
	const struct rows_run *r = ctx;

	(void)worker;
	r->fn(r->ctx, unit * r->per_unit, min_size((unit + 1) * r->per_unit, r->n));
}

void over_rows(const struct session *s, rows_fn *fn, void *ctx, size_t n, size_t cost)
{
	size_t units = 4 * (size_t)pool_threads(s->pool);
	struct rows_run r = { fn, ctx, n, (n + units - 1) / units };

	if (n * cost < INLINE_COST)
		fn(ctx, 0, n);
	else
		pool_run(s->pool, rows_unit, &r, (n + r.per_unit - 1) / r.per_unit);
}

/* RMS: y = x / sqrt(mean(x^2) + eps) * w; layer norm the same of x - mean(x). Then + b. */
static void norm_row(const struct session *s, const float *x, struct norm_weight w, float *y, size_t n)
{
	float mean = 0, sq, r;

	if (s->m->arch->norm == NORM_LAYER) {
		mean = s->kern->sum(x, n) / (float)n;
		for (size_t i = 0; i < n; i++)
			y[i] = x[i] - mean;
		x = y;
	}
	sq = s->kern->dot(x, x, n) / (float)n;
	r = 1.0f / sqrtf(sq + (float)s->m->hp.eps);
	for (size_t i = 0; i < n; i++)
		y[i] = w.w ? x[i] * r * w.w[i] : x[i] * r;
	if (w.b)
		add_rows(y, w.b, n);
}

void norm_rows(const struct session *s, const float *x, struct norm_weight w, float *y, size_t n,
	size_t rows)
{
	for (size_t t = 0; t < rows; t++)
		norm_row(s, x + t * n, w, y + t * n, n);
}

void add_rows(float *x, const float *y, size_t n)
{
	for (size_t i = 0; i < n; i++)
		x[i] += y[i];
}

void scale_rows(float *x, float by, size_t n)
{
	for (size_t i = 0; i < n; i++)
		x[i] *= by;
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
	size_t at = unit * r->per_unit, n = min_size(r->per_unit, r->n - at);
	float *g = r->g + at;
	const float *u = r->u + at;

	(void)worker;
	switch (r->s->m->arch->act) {
	case ACT_SILU:
		r->s->kern->silu_mul(g, u, n);
		break;
	case ACT_GELU:
		for (size_t i = 0; i < n; i++)
			g[i] = num_gelu(g[i]) * u[i];
		break;
	case ACT_OAI:
		for (size_t i = 0; i < n; i++)
			g[i] = num_oai_gate(g[i]) * num_oai_up(u[i]);
		break;
	}
}

void activate(struct session *s, float *g, const float *u, size_t n)
{
	struct act_run r = { s, g, u, n, 8192 };

	pool_run(s->pool, act_unit, &r, (n + r.per_unit - 1) / r.per_unit);
}

void gated_ffn(struct session *s, const struct weight *gate, const struct weight *up,
	const struct weight *down, const float *const bias[3], size_t n, float *out)
{
	struct job j[2] = { product_job(gate, s->h, n, s->g, gate->n_out),
		product_job(up, s->h, n, s->u, up->n_out) }, next = product_job(down, s->g, n, out, down->n_out);

	product_ahead(s, &next, 1);
	product_run(s, j, 2);
	product_ahead(s, NULL, 0);
	add_bias(s->g, bias[0], gate->n_out, n);
	add_bias(s->u, bias[1], up->n_out, n);
	activate(s, s->g, s->u, n * gate->n_out);
	product(s, down, s->g, n, out);
	add_bias(out, bias[2], down->n_out, n);
}

static void embed(struct session *s, const int32_t *ids, size_t n)
{
	const struct weight *w = &s->m->tok_embd;

	for (size_t t = 0; t < n; t++) {
		s->kern->to_float(w->type, w->data + (size_t)ids[t] * w->row_bytes, s->x + t * w->n_in, w->n_in);
		if (w->lora)
			lora_embed(s, ids[t], s->x + t * w->n_in, s->h);
		s->vseq[t] = s->seq;
		s->vpos[t] = s->pos + (uint32_t)t;
		s->vtok[t] = ids[t];
	}
	if (s->m->hp.embd_scale != 0)
		scale_rows(s->x, (float)s->m->hp.embd_scale, n * w->n_in);
}

static void dense_ffn(struct session *s, const struct layer *l, size_t n, float *out)
{
	const float *const bias[3] = { l->gate_b, l->up_b, l->down_b };

	gated_ffn(s, &l->gate, &l->up, &l->down, bias, n, out);
}

/* Add a branch's output to the residual stream, through its norm and factor where it has them; then the
 * next block's input, if there is one. */
struct add_run { struct session *s; struct norm_weight post; const struct norm_weight *next; };

static void add_rows_unit(void *ctx, size_t t0, size_t t1)
{
	const struct add_run *r = ctx;
	struct session *s = r->s;
	size_t d = s->m->hp.n_embd, n = t1 - t0;
	float *x = s->x + t0 * d, *out = s->out + t0 * d;

	if (r->post.w)
		norm_rows(s, out, r->post, out, d, n);
	if (s->m->hp.branch_scale != 0)
		scale_rows(out, (float)s->m->hp.branch_scale, n * d);
	add_rows(x, out, n * d);
	if (r->next)
		norm_rows(s, x, *r->next, s->h + t0 * d, d, n);
}

static void add_branch(struct session *s, struct norm_weight post, const struct norm_weight *next, size_t n)
{
	struct add_run r = { s, post, next };

	over_rows(s, add_rows_unit, &r, n, 4 * s->m->hp.n_embd);
}

/* From here on nobody reads more than the last `kept` of n rows: they become the first. */
static void keep_last(struct session *s, const struct layer *l, size_t n, size_t kept)
{
	size_t d = s->m->hp.n_embd, at = (n - kept) * d, size = kept * d * sizeof *s->x;

	if (kept == n)
		return;
	memmove(s->x, s->x + at, size);
	memmove(s->h, s->h + at, size);
	if (l->features & F_BESIDE)
		memmove(s->h2, s->h2 + at, size);
	if (l->features & F_MOE)
		moe_keep_last(s, n, kept);
}

/* s->h -> s->out: a dense FFN, experts, or both. Experts beside a dense FFN read s->h2. Of the last
 * `kept` rows, but hooks are told what all n chose. */
static int ffn(struct session *s, size_t il, size_t n, size_t kept, enum moe_phase phase,
	struct moe_err *e)
{
	const struct layer *l = &s->m->layer[il];
	size_t d = s->m->hp.n_embd;
	const float *read = l->features & F_BESIDE ? s->h2 : s->h; /* by the router */

	if ((l->features & F_MOE) && moe_choose(s, il, read, n, phase, e))
		return -1;
	keep_last(s, l, n, kept);
	if (!(n = kept))
		return 0;
	if (!(l->features & F_MOE)) {
		dense_ffn(s, l, n, s->out);
		part_ends(s, SESSION_DENSE);
		return 0;
	}
	if (l->features & F_BESIDE) {
		float *h = s->h;

		dense_ffn(s, l, n, s->out);
		add_rows(s->x, s->out, n * d);
		s->h = s->h2;
		s->h2 = h;
		part_ends(s, SESSION_DENSE);
	}
	if (moe_run(s, il, n, e))
		return -1;
	if ((l->features & F_DENSE) && !(l->features & F_BESIDE)) {
		dense_ffn(s, l, n, s->yg); /* free again after the experts */
		add_rows(s->out, s->yg, n * d);
		scale_rows(s->out, 0.70710678f, n * d);
		part_ends(s, SESSION_DENSE);
	}
	return 0;
}

/* The rotation of positions up to n - 1, some at a time: a table of the whole context would be most of
 * the time to the first token. */
static void reach(struct session *s, uint32_t n)
{
	uint32_t to = n + 63 < s->n_ctx ? n + 63 : s->n_ctx;

	if (n <= s->n_turned)
		return;
	for (int i = 0; i < 2; i++)
		if (s->rope[i])
			rope_table(&s->m->rope[i], s->n_ctx, s->n_turned, to, s->rope[i]);
	s->n_turned = to;
}

void layer_ahead(struct session *s, size_t il, size_t n)
{
	struct job head = product_job(&s->m->output, s->h, n, s->logits, s->m->n_vocab);

	if (il == s->m->hp.n_layer)
		product_ahead(s, &head, 1);
	else if (s->m->layer[il].features & F_MLA)
		latent_ahead(s, il, n);
	else
		attention_ahead(s, il, n);
}

int forward_batch(struct session *s, const int32_t *ids, size_t n, size_t kept,
	enum moe_phase phase, struct moe_err *e)
{
	size_t d = s->m->hp.n_embd;

	reach(s, s->pos + (uint32_t)n);
	embed(s, ids, n);
	norm_rows(s, s->x, s->m->layer[0].attn_norm, s->h, d, n);
	for (size_t il = 0; il < s->m->hp.n_layer; il++) {
		const struct layer *l = &s->m->layer[il];
		int last = il + 1 == s->m->hp.n_layer;

		if (l->features & F_BESIDE)
			norm_rows(s, s->x, l->exps_norm, s->h2, d, n);
		if (l->features & F_MLA)
			latent_attention(s, il, n);
		else
			attention(s, il, n);
		add_branch(s, l->post_attn, &l->ffn_norm, n);
		part_ends(s, SESSION_ATTENTION);
		if (ffn(s, il, n, last ? kept : n, phase, e))
			return -1;
		add_branch(s, l->post_ffn, last ? NULL : &l[1].attn_norm, last ? kept : n);
	}
	return 0;
}

void forward_head(struct session *s, size_t t0, size_t n)
{
	const struct hparams *hp = &s->m->hp;
	size_t d = hp->n_embd, v = s->m->n_vocab;

	norm_rows(s, s->x + t0 * d, s->m->output_norm, s->h, d, n);
	layer_ahead(s, 0, n);
	product(s, &s->m->output, s->h, n, s->logits);
	add_bias(s->logits, s->m->output_b, v, n);
	if (hp->logit_scale != 0)
		scale_rows(s->logits, (float)hp->logit_scale, n * v);
	if (hp->logit_div != 0)
		scale_rows(s->logits, 1.0f / (float)hp->logit_div, n * v);
	if (hp->logit_cap != 0)
		for (size_t i = 0; i < n * v; i++)
			s->logits[i] = (float)hp->logit_cap * num_tanh(s->logits[i] / (float)hp->logit_cap);
}
