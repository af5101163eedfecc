/* net.c - see net.h. Forward and hand-written backward pass.
 *
 * Work is cut into tasks that OpenMP hands out: one window (attention and everything per token),
 * one run of rows of an expert, one block of a weight gradient. Every output belongs to one task
 * and sums over tasks are taken in task order, so the numbers do not depend on the threads.
 *
 * Shapes below: N tokens of the batch, D dim, Q heads*head_dim, KV kv_heads*head_dim, E experts,
 * F expert_dim, K picks, V vocab. Slots are the N*K (token, pick) pairs sorted by expert.
 */
#include "net.h"

#include <stdio.h>
#include <stdlib.h>

#include "gemm.h"
#include "rng.h"

enum {
	ROWS = 128,		/* rows a task of the head */
	HEAD_ROWS = 1024,	/* rows whose logits are held at once */
	QBLOCK = 64,		/* query rows of one attention product */
	EXPERT_ROWS = 768,	/* most rows of one expert task */
};

struct layer_offsets {
	size_t attn_norm, qkv, q_norm, k_norm, out, ffn_norm, router, w1, w2;
};

/* Activations of one layer, kept for the backward pass. */
struct layer_act {
	real *x;		/* [N][D] input */
	real *r1, *r2;		/* [N] 1/rms of the two norms */
	real *xn1, *xn2;	/* [N][D] after the norms */
	real *qkv;		/* [N][Q+2KV] as projected */
	real *qk;		/* [N][Q+KV] normed and rotated */
	real *rqk;		/* [N][heads+kv_heads] 1/rms per head */
	real *p;		/* [seqs][heads][len][len] attention weights */
	real *o;		/* [N][Q] attention output */
	real *x2;		/* [N][D] after attention */
	real *prob;		/* [N][E] router softmax */
	real *lse;		/* [N] logsumexp of the router logits */
	uint8_t *pick;		/* [N][K] */
	real *weight;		/* [N][K] */
	uint32_t *slot;		/* [N][K] slot of the pair */
	uint32_t *token;	/* [N*K] pair (token*K + pick) of the slot */
	size_t first[NET_MAX_EXPERTS + 1];	/* first slot of each expert */
	real *gu;		/* [N*K][2F] gate and up before the activation */
	real *y;		/* [N*K][D] expert outputs */
};

struct net {
	struct net_config cfg;
	size_t max_tokens, max_seqs, max_len;
	size_t nt, size;
	struct net_tensor tensor[16 * NET_MAX_LAYERS];
	size_t embd, final_norm;
	struct layer_offsets off[NET_MAX_LAYERS];
	struct layer_act act[NET_MAX_LAYERS];
	real *w, *g;
	int borrowed;		/* w belongs to another net */
	real *cosine, *sine;	/* [max_len][head_dim/2] */
	void *pack_qkv[NET_MAX_LAYERS][2], *pack_out[NET_MAX_LAYERS][2], *pack_embd[2];
	real *xl;		/* [N][D] output of the last layer */
	real *rf, *xf;		/* [N], [N][D] final norm */
	real *logits;		/* [HEAD_ROWS][V] */
	real *dx;		/* [N][D] running gradient of the residual */
	real *dqkv;		/* [N][Q+2KV] */
	real *doo;		/* [N][Q] gradient of the attention output */
	real *dlog;		/* [N][E] gradient of the router logits */
	real *xe, *dye, *h, *dgu, *dxe;	/* [N*K][..] expert scratch: D, D, F, 2F, D */
	real *part;		/* [max(seqs, chunks)][part_size] partial sums of small gradients */
	size_t part_size;
	real *loss;		/* [N] */
};

static size_t add_tensor(struct net *n, const char *name, int layer, size_t count, size_t rows,
			 size_t cols, int decay, double std)
{
	struct net_tensor *t = &n->tensor[n->nt++];
	if (layer < 0)
		snprintf(t->name, sizeof t->name, "%s", name);
	else
		snprintf(t->name, sizeof t->name, "blk.%d.%s", layer, name);
	t->off = n->size;
	t->count = count;
	t->rows = rows;
	t->cols = cols;
	t->decay = decay;
	t->std = (float)std;
	n->size += (count * rows * cols + 15) / 16 * 16;
	return t->off;
}

static void layout(struct net *n)
{
	const struct net_config *c = &n->cfg;
	size_t d = (size_t)c->dim, hd = (size_t)c->head_dim, f = (size_t)c->expert_dim;
	size_t q = (size_t)c->heads * hd, kv = (size_t)c->kv_heads * hd, e = (size_t)c->experts;
	double in = 1 / sqrt((double)d), res = 1 / sqrt(2.0 * c->layers);

	n->embd = add_tensor(n, "token_embd", -1, 1, (size_t)c->vocab, d, 1, 0.02);
	n->final_norm = add_tensor(n, "output_norm", -1, 1, 1, d, 0, 0);
	for (int l = 0; l < c->layers; l++) {
		struct layer_offsets *o = &n->off[l];
		o->attn_norm = add_tensor(n, "attn_norm", l, 1, 1, d, 0, 0);
		o->qkv = add_tensor(n, "attn_qkv", l, 1, q + 2 * kv, d, 1, in);
		o->q_norm = add_tensor(n, "attn_q_norm", l, 1, 1, hd, 0, 0);
		o->k_norm = add_tensor(n, "attn_k_norm", l, 1, 1, hd, 0, 0);
		o->out = add_tensor(n, "attn_output", l, 1, d, q, 1, res / sqrt((double)q));
		o->ffn_norm = add_tensor(n, "ffn_norm", l, 1, 1, d, 0, 0);
		o->router = add_tensor(n, "ffn_gate_inp", l, 1, e, d, 1, 0.02);
		o->w1 = add_tensor(n, "ffn_gate_up_exps", l, e, 2 * f, d, 1, in);
		o->w2 = add_tensor(n, "ffn_down_exps", l, e, d, f, 1, res / sqrt((double)f));
	}
}

static real *reals(size_t count)
{
	return gemm_alloc(count * sizeof(real));
}

static struct net *open_net(const struct net_config *cfg, real *w, size_t max_seqs, size_t max_len)
{
	struct net *n = gemm_alloc(sizeof *n);
	n->cfg = *cfg;
	layout(n);
	size_t N = max_seqs * max_len, d = (size_t)cfg->dim, e = (size_t)cfg->experts;
	size_t hd = (size_t)cfg->head_dim, f = (size_t)cfg->expert_dim, k = (size_t)cfg->picks;
	size_t q = (size_t)cfg->heads * hd, kv = (size_t)cfg->kv_heads * hd;
	size_t v = (size_t)cfg->vocab;
	n->max_tokens = N;
	n->max_seqs = max_seqs;
	n->max_len = max_len;
	n->w = w ? w : reals(n->size);
	n->borrowed = w != NULL;
	n->g = reals(n->size);
	n->cosine = reals(max_len * hd / 2);
	n->sine = reals(max_len * hd / 2);
	for (size_t t = 0; t < max_len; t++)
		for (size_t i = 0; i < hd / 2; i++) {
			double a = (double)t * pow(cfg->rope_base, -2.0 * (double)i / (double)hd);
			n->cosine[t * hd / 2 + i] = (real)cos(a);
			n->sine[t * hd / 2 + i] = (real)sin(a);
		}
	for (int l = 0; l < cfg->layers; l++) {
		struct layer_act *a = &n->act[l];
		a->x = reals(N * d);
		a->r1 = reals(N);
		a->r2 = reals(N);
		a->xn1 = reals(N * d);
		a->xn2 = reals(N * d);
		a->qkv = reals(N * (q + 2 * kv));
		a->qk = reals(N * (q + kv));
		a->rqk = reals(N * (size_t)(cfg->heads + cfg->kv_heads));
		a->p = reals(N * (size_t)cfg->heads * max_len);
		a->o = reals(N * q);
		a->x2 = reals(N * d);
		a->prob = reals(N * e);
		a->lse = reals(N);
		a->pick = gemm_alloc(N * k);
		a->weight = reals(N * k);
		a->slot = gemm_alloc(N * k * sizeof *a->slot);
		a->token = gemm_alloc(N * k * sizeof *a->token);
		a->gu = reals(N * k * 2 * f);
		a->y = reals(N * k * d);
		for (int i = 0; i < 2; i++) {
			n->pack_qkv[l][i] = gemm_alloc(gemm_packed_size(d, q + 2 * kv) +
						       gemm_packed_size(q + 2 * kv, d));
			n->pack_out[l][i] = gemm_alloc(gemm_packed_size(d, q) +
						       gemm_packed_size(q, d));
		}
	}
	for (int i = 0; i < 2; i++)
		n->pack_embd[i] = gemm_alloc(gemm_packed_size(d, v) + gemm_packed_size(v, d));
	n->xl = reals(N * d);
	n->rf = reals(N);
	n->xf = reals(N * d);
	n->logits = reals(HEAD_ROWS * v);
	n->dx = reals(N * d);
	n->dqkv = reals(N * (q + 2 * kv));
	n->doo = reals(N * q);
	n->dlog = reals(N * e);
	n->xe = reals(N * k * d);
	n->dye = reals(N * k * d);
	n->h = reals(N * k * f);
	n->dgu = reals(N * k * 2 * f);
	n->dxe = reals(N * k * d);
	n->part_size = 2 * d + 2 * hd + e * d;
	n->part = reals((max_seqs + N / ROWS + 2) * n->part_size);
	n->loss = reals(N);
	return n;
}

struct net *net_open(const struct net_config *cfg, size_t max_seqs, size_t max_len)
{
	return open_net(cfg, NULL, max_seqs, max_len);
}

struct net *net_open_replica(struct net *owner, size_t max_seqs, size_t max_len)
{
	return open_net(&owner->cfg, owner->w, max_seqs, max_len);
}

void net_close(struct net *n)
{
	if (!n)
		return;
	for (int l = 0; l < n->cfg.layers; l++) {
		struct layer_act *a = &n->act[l];
		void *own[] = { a->x, a->r1, a->r2, a->xn1, a->xn2, a->qkv, a->qk, a->rqk, a->p,
				a->o, a->x2, a->prob, a->lse, a->pick, a->weight, a->slot,
				a->token, a->gu, a->y, n->pack_qkv[l][0], n->pack_qkv[l][1],
				n->pack_out[l][0], n->pack_out[l][1] };
		for (size_t i = 0; i < sizeof own / sizeof *own; i++)
			free(own[i]);
	}
	void *own[] = { n->borrowed ? NULL : n->w, n->g, n->cosine, n->sine, n->pack_embd[0], n->pack_embd[1], n->xl,
			n->rf, n->xf, n->logits, n->dx, n->dqkv, n->doo, n->dlog, n->xe, n->dye,
			n->h, n->dgu, n->dxe, n->part, n->loss };
	for (size_t i = 0; i < sizeof own / sizeof *own; i++)
		free(own[i]);
	free(n);
}

const struct net_config *net_cfg(const struct net *n)
{
	return &n->cfg;
}

size_t net_size(const struct net *n)
{
	return n->size;
}

real *net_weights(struct net *n)
{
	return n->w;
}

real *net_grads(struct net *n)
{
	return n->g;
}

const struct net_tensor *net_tensors(const struct net *n, size_t *count)
{
	*count = n->nt;
	return n->tensor;
}

const uint8_t *net_picks(const struct net *n, size_t layer)
{
	return n->act[layer].pick;
}

const real *net_probs(const struct net *n, size_t layer)
{
	return n->act[layer].prob;
}

void net_init(struct net *n, uint64_t seed)
{
	for (size_t i = 0; i < n->nt; i++) {
		const struct net_tensor *t = &n->tensor[i];
		for (size_t j = 0; j < t->count * t->rows * t->cols; j++)
			n->w[t->off + j] = t->std > 0 ? (real)(t->std * rng_normal(&seed)) : 1;
	}
}

/* ---- small blocks over rows ---- */

/* y = x / rms(x) * w; returns 1/rms. */
static real rms_forward(size_t d, real eps, const real *x, const real *w, real *y)
{
	real s = 0;
#pragma omp simd reduction(+ : s)
	for (size_t i = 0; i < d; i++)
		s += x[i] * x[i];
	real r = 1 / real_sqrt(s / (real)d + eps);
	for (size_t i = 0; i < d; i++)
		y[i] = x[i] * r * w[i];
	return r;
}

/* Adds the gradient of rms_forward to dx (or sets it) and to dw. */
static void rms_backward(size_t d, const real *x, const real *w, real r, const real *dy, real *dx,
			 real *dw, int add)
{
	real s = 0;
#pragma omp simd reduction(+ : s)
	for (size_t i = 0; i < d; i++)
		s += x[i] * w[i] * dy[i];
	real c = s * r * r * r / (real)d;
	if (!add)
		memset(dx, 0, d * sizeof *dx);
#pragma omp simd
	for (size_t i = 0; i < d; i++) {
		dw[i] += dy[i] * x[i] * r;
		dx[i] += dy[i] * w[i] * r - x[i] * c;
	}
}

/* Rotates pairs (i, i + half) by the angles of one position; sign -1 undoes it. */
static void rotate(size_t half, const real *cosine, const real *sine, real sign, real *x)
{
#pragma omp simd
	for (size_t i = 0; i < half; i++) {
		real a = x[i], b = x[i + half];
		x[i] = a * cosine[i] - sign * b * sine[i];
		x[i + half] = b * cosine[i] + sign * a * sine[i];
	}
}

/* x[0..n) becomes its softmax; returns logsumexp. */
static real softmax(size_t n, real *x)
{
	real m = x[0], s = 0;
#pragma omp simd reduction(max : m)
	for (size_t i = 0; i < n; i++)
		m = x[i] > m ? x[i] : m;
#pragma omp simd reduction(+ : s)
	for (size_t i = 0; i < n; i++) {
		x[i] = real_exp(x[i] - m);
		s += x[i];
	}
	real inv = 1 / s;
	for (size_t i = 0; i < n; i++)
		x[i] *= inv;
	return m + real_log(s);
}

/* ---- shapes shared by the passes ---- */

struct dims {
	size_t N, len, d, hd, q, kv, qkv, e, f, k, v;
};

static struct dims dims_of(const struct net *n, size_t seqs, size_t len)
{
	const struct net_config *c = &n->cfg;
	struct dims s = {
		.N = seqs * len, .len = len, .d = (size_t)c->dim, .hd = (size_t)c->head_dim,
		.q = (size_t)(c->heads * c->head_dim), .kv = (size_t)(c->kv_heads * c->head_dim),
		.e = (size_t)c->experts, .f = (size_t)c->expert_dim, .k = (size_t)c->picks,
		.v = (size_t)c->vocab,
	};
	s.qkv = s.q + 2 * s.kv;
	return s;
}

/* Packs the shared matrices for y = x W^T ([0]) and dx = dy W ([1]). */
static void pack_weights(struct net *n, const struct dims *s, int grad)
{
	int tasks = 2 * (2 * n->cfg.layers + 1);
#pragma omp parallel for schedule(dynamic, 1)
	for (int i = tasks - 1; i >= 0; i--) {
		int back = i & 1, m = i / 2, l = m / 2;
		if (back && !grad)
			continue;
		const real *w;
		size_t rows, cols;
		void *to;
		if (m == 2 * n->cfg.layers) {
			w = n->w + n->embd, rows = s->v, cols = s->d, to = n->pack_embd[back];
		} else if (m & 1) {
			w = n->w + n->off[l].out, rows = s->d, cols = s->q;
			to = n->pack_out[l][back];
		} else {
			w = n->w + n->off[l].qkv, rows = s->qkv, cols = s->d;
			to = n->pack_qkv[l][back];
		}
		if (back)
			gemm_pack(0, rows, cols, w, cols, to);
		else
			gemm_pack(1, cols, rows, w, cols, to);
	}
}

/* ---- forward ---- */

static void attention_forward(struct net *n, const struct dims *s, int l, size_t b,
			      const uint16_t *seg)
{
	struct layer_act *a = &n->act[l];
	size_t group = (size_t)(n->cfg.heads / n->cfg.kv_heads), t0 = b * s->len;
	size_t ldqk = s->q + s->kv;
	real scale = 1 / real_sqrt((real)s->hd);
	for (size_t h = 0; h < (size_t)n->cfg.heads; h++) {
		const real *q = a->qk + t0 * ldqk + h * s->hd;
		const real *k = a->qk + t0 * ldqk + s->q + h / group * s->hd;
		const real *v = a->qkv + t0 * s->qkv + s->q + s->kv + h / group * s->hd;
		real *p = a->p + (b * (size_t)n->cfg.heads + h) * s->len * s->len;
		for (size_t i0 = 0; i0 < s->len; i0 += QBLOCK) {
			size_t m = s->len - i0 < QBLOCK ? s->len - i0 : QBLOCK, keys = i0 + m;
			gemm(0, 1, m, keys, s->hd, q + i0 * ldqk, ldqk, k, ldqk,
			     p + i0 * s->len, s->len, 0);
			for (size_t i = i0; i < i0 + m; i++) {
				real *row = p + i * s->len;
				size_t lo = seg[t0 + i];
				for (size_t j = 0; j < lo; j++)
					row[j] = 0;
				for (size_t j = lo; j <= i; j++)
					row[j] *= scale;
				softmax(i + 1 - lo, row + lo);
				for (size_t j = i + 1; j < keys; j++)
					row[j] = 0;
			}
			gemm(0, 0, m, s->hd, keys, p + i0 * s->len, s->len, v, s->qkv,
			     a->o + (t0 + i0) * s->q + h * s->hd, s->q, 0);
		}
	}
}

/* Router of one token: softmax over all experts, the best k (ties to the lower id), weights. */
static void route(const struct dims *s, const real *x, const real *w, real *prob, real *lse,
		  uint8_t *pick, real *weight)
{
	for (size_t e = 0; e < s->e; e++) {
		real z = 0;
#pragma omp simd reduction(+ : z)
		for (size_t i = 0; i < s->d; i++)
			z += x[i] * w[e * s->d + i];
		prob[e] = z;
	}
	*lse = softmax(s->e, prob);
	real sum = 0;
	for (size_t j = 0; j < s->k; j++) {
		size_t best = s->e;
		for (size_t e = 0; e < s->e; e++) {
			int used = 0;
			for (size_t i = 0; i < j; i++)
				used |= pick[i] == e;
			if (!used && (best == s->e || prob[e] > prob[best]))
				best = e;
		}
		pick[j] = (uint8_t)best;
		weight[j] = prob[best];
		sum += prob[best];
	}
	for (size_t j = 0; j < s->k; j++)
		weight[j] /= sum;
}

/* x3 = x2 + sum of the weighted expert outputs, for the rows of one window. */
static void combine(const struct dims *s, const struct layer_act *a, size_t t0, real *out)
{
	for (size_t t = t0; t < t0 + s->len; t++) {
		memcpy(out + t * s->d, a->x2 + t * s->d, s->d * sizeof *out);
		for (size_t j = 0; j < s->k; j++) {
			const real *y = a->y + a->slot[t * s->k + j] * s->d;
			real w = a->weight[t * s->k + j];
			for (size_t i = 0; i < s->d; i++)
				out[t * s->d + i] += w * y[i];
		}
	}
}

/* Everything of a layer before its experts, for window b. */
static void window_forward(struct net *n, const struct dims *s, int l, size_t b,
			   const uint16_t *in, const uint16_t *seg)
{
	struct layer_act *a = &n->act[l];
	const struct layer_offsets *o = &n->off[l];
	const real *w = n->w;
	real eps = n->cfg.eps;
	size_t t0 = b * s->len, half = s->hd / 2, heads = (size_t)n->cfg.heads;
	size_t both = heads + (size_t)n->cfg.kv_heads, ldqk = s->q + s->kv;

	if (l == 0)
		for (size_t t = t0; t < t0 + s->len; t++)
			memcpy(a->x + t * s->d, w + n->embd + in[t] * s->d, s->d * sizeof *w);
	else
		combine(s, &n->act[l - 1], t0, a->x);
	for (size_t t = t0; t < t0 + s->len; t++)
		a->r1[t] = rms_forward(s->d, eps, a->x + t * s->d, w + o->attn_norm,
				       a->xn1 + t * s->d);
	gemm_packed(0, s->len, s->qkv, s->d, a->xn1 + t0 * s->d, s->d, n->pack_qkv[l][0],
		    a->qkv + t0 * s->qkv, s->qkv, 0);
	for (size_t t = t0; t < t0 + s->len; t++)
		for (size_t h = 0; h < both; h++) {
			real *to = a->qk + t * ldqk + h * s->hd;
			a->rqk[t * both + h] =
				rms_forward(s->hd, eps, a->qkv + t * s->qkv + h * s->hd,
					    w + (h < heads ? o->q_norm : o->k_norm), to);
			rotate(half, n->cosine + (t - t0) * half, n->sine + (t - t0) * half, 1,
			       to);
		}
	attention_forward(n, s, l, b, seg);
	memcpy(a->x2 + t0 * s->d, a->x + t0 * s->d, s->len * s->d * sizeof *w);
	gemm_packed(0, s->len, s->d, s->q, a->o + t0 * s->q, s->q, n->pack_out[l][0],
		    a->x2 + t0 * s->d, s->d, 1);
	for (size_t t = t0; t < t0 + s->len; t++) {
		a->r2[t] = rms_forward(s->d, eps, a->x2 + t * s->d, w + o->ffn_norm,
				       a->xn2 + t * s->d);
		route(s, a->xn2 + t * s->d, w + o->router, a->prob + t * s->e, a->lse + t,
		      a->pick + t * s->k, a->weight + t * s->k);
	}
}

/* Sorts the picks by expert and takes the router's statistics. */
static void dispatch(struct net *n, const struct dims *s, int l, struct net_stats *st)
{
	struct layer_act *a = &n->act[l];
	size_t fill[NET_MAX_EXPERTS] = { 0 };
	double mean[NET_MAX_EXPERTS] = { 0 }, z = 0, bal = 0, top = 0;
	for (size_t i = 0; i < s->N * s->k; i++)
		fill[a->pick[i]]++;
	a->first[0] = 0;
	for (size_t e = 0; e < s->e; e++) {
		a->first[e + 1] = a->first[e] + fill[e];
		fill[e] = a->first[e];
	}
	for (size_t i = 0; i < s->N * s->k; i++) {
		size_t slot = fill[a->pick[i]]++;
		a->slot[i] = (uint32_t)slot;
		a->token[slot] = (uint32_t)i;
	}
	for (size_t t = 0; t < s->N; t++) {
		for (size_t e = 0; e < s->e; e++)
			mean[e] += (double)a->prob[t * s->e + e];
		z += (double)a->lse[t] * (double)a->lse[t];
	}
	for (size_t e = 0; e < s->e; e++) {
		double f = (double)(a->first[e + 1] - a->first[e]) / (double)(s->N * s->k);
		st->load[l][e] = f;
		bal += f * mean[e] / (double)s->N;
		top = f > top ? f : top;
	}
	st->balance += (double)s->e * bal;
	st->z += z / (double)s->N;
	st->max_mean[l] = top * (double)s->e;
}

/* Runs of rows of one expert that one task takes. */
struct run {
	uint16_t expert;
	uint32_t row, rows;
};

static size_t expert_runs(const struct dims *s, const struct layer_act *a, struct run *run)
{
	size_t count = 0;
	for (size_t e = 0; e < s->e; e++) {
		size_t rows = a->first[e + 1] - a->first[e];
		size_t parts = (rows + EXPERT_ROWS - 1) / EXPERT_ROWS;
		for (size_t i = 0; i < parts; i++) {
			size_t lo = rows * i / parts, hi = rows * (i + 1) / parts;
			run[count++] = (struct run){ (uint16_t)e, (uint32_t)(a->first[e] + lo),
						     (uint32_t)(hi - lo) };
		}
	}
	return count;
}

static real silu_gate(real g)
{
	return 1 / (1 + real_exp(-g));
}

static void gather(const struct dims *s, const struct layer_act *a, const struct run *r,
		   const real *x, real *out)
{
	for (size_t i = r->row; i < r->row + r->rows; i++)
		memcpy(out + i * s->d, x + a->token[i] / s->k * s->d, s->d * sizeof *out);
}

static void hidden(const struct dims *s, const struct run *r, const real *gu, real *h)
{
	for (size_t i = r->row; i < r->row + r->rows; i++) {
		const real *g = gu + i * 2 * s->f, *u = g + s->f;
#pragma omp simd
		for (size_t j = 0; j < s->f; j++)
			h[i * s->f + j] = g[j] * silu_gate(g[j]) * u[j];
	}
}

static void experts_forward(struct net *n, const struct dims *s, int l)
{
	struct layer_act *a = &n->act[l];
	struct run *run = malloc((s->e + s->N * s->k / EXPERT_ROWS + 1) * sizeof *run);
	if (!run)
		abort();
	size_t count = expert_runs(s, a, run);
#pragma omp parallel for schedule(dynamic, 1)
	for (size_t i = 0; i < count; i++) {
		const struct run *r = &run[i];
		const real *w1 = n->w + n->off[l].w1 + r->expert * 2 * s->f * s->d;
		const real *w2 = n->w + n->off[l].w2 + r->expert * s->f * s->d;
		gather(s, a, r, a->xn2, n->xe);
		gemm(0, 1, r->rows, 2 * s->f, s->d, n->xe + r->row * s->d, s->d, w1, s->d,
		     a->gu + r->row * 2 * s->f, 2 * s->f, 0);
		hidden(s, r, a->gu, n->h);
		gemm(0, 1, r->rows, s->d, s->f, n->h + r->row * s->f, s->f, w2, s->f,
		     a->y + r->row * s->d, s->d, 0);
	}
	free(run);
}

static void forward(struct net *n, const struct dims *s, size_t seqs, const uint16_t *in,
		    const uint16_t *seg, struct net_stats *st)
{
	for (int l = 0; l < n->cfg.layers; l++) {
#pragma omp parallel for schedule(dynamic, 1)
		for (size_t b = 0; b < seqs; b++)
			window_forward(n, s, l, b, in, seg);
		dispatch(n, s, l, st);
		experts_forward(n, s, l);
	}
#pragma omp parallel for schedule(dynamic, 1)
	for (size_t b = 0; b < seqs; b++) {
		combine(s, &n->act[n->cfg.layers - 1], b * s->len, n->xl);
		for (size_t t = b * s->len; t < (b + 1) * s->len; t++)
			n->rf[t] = rms_forward(s->d, n->cfg.eps, n->xl + t * s->d,
					       n->w + n->final_norm, n->xf + t * s->d);
	}
}

/* ---- output matrix and cross entropy, with their gradients ---- */

/* Sums parts [count][part_size], columns off..off+len, into dst, in order. */
static void reduce_parts(const struct net *n, size_t count, size_t off, size_t len, real *dst)
{
	memset(dst, 0, len * sizeof *dst);
	for (size_t c = 0; c < count; c++)
		for (size_t i = 0; i < len; i++)
			dst[i] += n->part[c * n->part_size + off + i];
}

static void head(struct net *n, const struct dims *s, const uint16_t *target, int grad)
{
	size_t chunks = (s->N + ROWS - 1) / ROWS;
	real inv = 1 / (real)s->N;
	memset(n->part, 0, chunks * n->part_size * sizeof *n->part);
	for (size_t h0 = 0; h0 < s->N; h0 += HEAD_ROWS) {
		size_t rows = s->N - h0 < HEAD_ROWS ? s->N - h0 : HEAD_ROWS;
#pragma omp parallel for schedule(dynamic, 1)
		for (size_t c = 0; c < (rows + ROWS - 1) / ROWS; c++) {
			size_t r0 = c * ROWS, m = rows - r0 < ROWS ? rows - r0 : ROWS;
			size_t t0 = h0 + r0;
			real *z = n->logits + r0 * s->v;
			gemm_packed(0, m, s->v, s->d, n->xf + t0 * s->d, s->d, n->pack_embd[0],
				    z, s->v, 0);
			for (size_t i = 0; i < m; i++) {
				real *row = z + i * s->v, at = row[target[t0 + i]];
				n->loss[t0 + i] = softmax(s->v, row) - at;
				row[target[t0 + i]] -= 1;
				for (size_t j = 0; grad && j < s->v; j++)
					row[j] *= inv;
			}
			if (!grad)
				continue;
			/* dlog of the head goes through the final norm at once */
			real *dxf = n->xe + t0 * s->d;
			gemm_packed(0, m, s->d, s->v, z, s->v, n->pack_embd[1], dxf, s->d, 0);
			for (size_t i = 0; i < m; i++)
				rms_backward(s->d, n->xl + (t0 + i) * s->d, n->w + n->final_norm,
					     n->rf[t0 + i], dxf + i * s->d,
					     n->dx + (t0 + i) * s->d,
					     n->part + t0 / ROWS * n->part_size, 0);
		}
		if (!grad)
			continue;
		size_t step = s->v >= 2048 ? 512 : s->v;
#pragma omp parallel for schedule(dynamic, 1)
		for (size_t v0 = 0; v0 < s->v; v0 += step) {
			size_t m = s->v - v0 < step ? s->v - v0 : step;
			gemm(1, 0, m, s->d, rows, n->logits + v0, s->v, n->xf + h0 * s->d, s->d,
			     n->g + n->embd + v0 * s->d, s->d, h0 > 0);
		}
	}
	if (grad)
		reduce_parts(n, chunks, 0, s->d, n->g + n->final_norm);
}

/* ---- backward ---- */

/* Gradient of the router logits of one token, from that of its expert weights and of the two
 * router losses. With renormalised weights dp = (dw - sum(dw w)) / sum of the picked p. */
static void route_backward(const struct net *n, const struct dims *s, const struct layer_act *a,
			   size_t t, const real *f, real *dlog)
{
	const real *p = a->prob + t * s->e;
	real dw[NET_MAX_PICKS], mix = 0, sum = 0, all = 0;
	for (size_t j = 0; j < s->k; j++) {
		const real *y = a->y + a->slot[t * s->k + j] * s->d, *dx = n->dx + t * s->d;
		real v = 0;
#pragma omp simd reduction(+ : v)
		for (size_t i = 0; i < s->d; i++)
			v += dx[i] * y[i];
		dw[j] = v;
		mix += v * a->weight[t * s->k + j];
		sum += p[a->pick[t * s->k + j]];
	}
	real bal = (real)n->cfg.balance * (real)s->e / (real)s->N;
	for (size_t e = 0; e < s->e; e++)
		dlog[e] = bal * f[e];
	for (size_t j = 0; j < s->k; j++)
		dlog[a->pick[t * s->k + j]] += (dw[j] - mix) / sum;
	for (size_t e = 0; e < s->e; e++)
		all += dlog[e] * p[e];
	real z = 2 * (real)n->cfg.zloss * a->lse[t] / (real)s->N;
	for (size_t e = 0; e < s->e; e++)
		dlog[e] = p[e] * (dlog[e] - all) + z * p[e];
}

/* From dx to the gradients at the experts' inputs; leaves xe, dye, h, dgu, dxe for the weights. */
static void experts_backward(struct net *n, const struct dims *s, int l)
{
	struct layer_act *a = &n->act[l];
	struct run *run = malloc((s->e + s->N * s->k / EXPERT_ROWS + 1) * sizeof *run);
	if (!run)
		abort();
	size_t count = expert_runs(s, a, run);
#pragma omp parallel for schedule(dynamic, 1)
	for (size_t i = 0; i < count; i++) {
		const struct run *r = &run[i];
		const real *w1 = n->w + n->off[l].w1 + r->expert * 2 * s->f * s->d;
		const real *w2 = n->w + n->off[l].w2 + r->expert * s->f * s->d;
		gather(s, a, r, a->xn2, n->xe);
		for (size_t j = r->row; j < r->row + r->rows; j++) {
			real w = a->weight[a->token[j]];
			const real *dx = n->dx + a->token[j] / s->k * s->d;
			for (size_t c = 0; c < s->d; c++)
				n->dye[j * s->d + c] = w * dx[c];
		}
		hidden(s, r, a->gu, n->h);
		/* dh goes to the upper half of dgu's rows and is replaced there by du */
		real *dgu = n->dgu + r->row * 2 * s->f;
		gemm(0, 0, r->rows, s->f, s->d, n->dye + r->row * s->d, s->d, w2, s->f,
		     dgu + s->f, 2 * s->f, 0);
		for (size_t j = 0; j < r->rows; j++) {
			const real *g = a->gu + (r->row + j) * 2 * s->f, *u = g + s->f;
			real *dg = dgu + j * 2 * s->f, *du = dg + s->f;
#pragma omp simd
			for (size_t c = 0; c < s->f; c++) {
				real sig = silu_gate(g[c]), dh = du[c];
				du[c] = dh * g[c] * sig;
				dg[c] = dh * u[c] * sig * (1 + g[c] * (1 - sig));
			}
		}
		gemm(0, 0, r->rows, s->d, 2 * s->f, dgu, 2 * s->f, w1, s->d,
		     n->dxe + r->row * s->d, s->d, 0);
	}
	free(run);
}

static void attention_backward(struct net *n, const struct dims *s, int l, size_t b)
{
	static _Thread_local real *dp, *dqk;
	static _Thread_local size_t dp_size;
	struct layer_act *a = &n->act[l];
	const struct layer_offsets *o = &n->off[l];
	size_t heads = (size_t)n->cfg.heads, both = heads + (size_t)n->cfg.kv_heads;
	size_t group = heads / (size_t)n->cfg.kv_heads, t0 = b * s->len, half = s->hd / 2;
	size_t ldqk = s->q + s->kv;
	real scale = 1 / real_sqrt((real)s->hd);
	real *part = n->part + b * n->part_size + 2 * s->d;
	size_t need = QBLOCK * s->len + s->len * ldqk;
	if (need > dp_size) {
		free(dp);
		dp = reals(need);
		dp_size = need;
	}
	dqk = dp + QBLOCK * s->len;	/* [len][Q+KV] gradient of the rotated q and k */
	memset(dqk, 0, s->len * ldqk * sizeof *dqk);
	for (size_t t = t0; t < t0 + s->len; t++)
		memset(n->dqkv + t * s->qkv + s->q + s->kv, 0, s->kv * sizeof *dqk);
	for (size_t h = 0; h < heads; h++) {
		size_t kvo = h / group * s->hd;
		const real *q = a->qk + t0 * ldqk + h * s->hd;
		const real *k = a->qk + t0 * ldqk + s->q + kvo;
		const real *v = a->qkv + t0 * s->qkv + s->q + s->kv + kvo;
		const real *p = a->p + (b * heads + h) * s->len * s->len;
		const real *go = n->doo + t0 * s->q + h * s->hd;
		real *dv = n->dqkv + t0 * s->qkv + s->q + s->kv + kvo;
		for (size_t i0 = 0; i0 < s->len; i0 += QBLOCK) {
			size_t m = s->len - i0 < QBLOCK ? s->len - i0 : QBLOCK, keys = i0 + m;
			const real *pb = p + i0 * s->len;
			gemm(1, 0, keys, s->hd, m, pb, s->len, go + i0 * s->q, s->q, dv, s->qkv,
			     1);
			gemm(0, 1, m, keys, s->hd, go + i0 * s->q, s->q, v, s->qkv, dp, s->len,
			     0);
			for (size_t i = 0; i < m; i++) {
				const real *pr = pb + i * s->len;
				real *dr = dp + i * s->len, dot = 0;
#pragma omp simd reduction(+ : dot)
				for (size_t j = 0; j < keys; j++)
					dot += pr[j] * dr[j];
				for (size_t j = 0; j < keys; j++)
					dr[j] = pr[j] * (dr[j] - dot) * scale;
			}
			gemm(0, 0, m, s->hd, keys, dp, s->len, k, ldqk,
			     dqk + i0 * ldqk + h * s->hd, ldqk, 0);
			gemm(1, 0, keys, s->hd, m, dp, s->len, q + i0 * ldqk, ldqk,
			     dqk + s->q + kvo, ldqk, 1);
		}
	}
	for (size_t t = 0; t < s->len; t++)
		for (size_t h = 0; h < both; h++) {
			real *dy = dqk + t * ldqk + h * s->hd;
			size_t at = (t0 + t) * s->qkv + h * s->hd;
			int is_q = h < heads;
			rotate(half, n->cosine + t * half, n->sine + t * half, -1, dy);
			rms_backward(s->hd, a->qkv + at, n->w + (is_q ? o->q_norm : o->k_norm),
				     a->rqk[(t0 + t) * both + h], dy, n->dqkv + at,
				     part + (is_q ? 0 : s->hd), 0);
		}
}

/* Everything of a layer but the experts and the weight gradients, for window b. On return dx is
 * the gradient of the layer's input; dye's first rows hold dx2, the gradient after attention,
 * which the output matrix needs. */
static void window_backward(struct net *n, const struct dims *s, int l, size_t b, real *dx2)
{
	struct layer_act *a = &n->act[l];
	const struct layer_offsets *o = &n->off[l];
	size_t t0 = b * s->len;
	real *part = n->part + b * n->part_size;	/* attn_norm, ffn_norm, q/k norm, router */
	real *dwr = part + 2 * s->d + 2 * s->hd;
	const real *wr = n->w + o->router;
	static _Thread_local real *tmp;
	static _Thread_local size_t tmp_size;
	if (s->len * s->d > tmp_size) {
		free(tmp);
		tmp_size = s->len * s->d;
		tmp = reals(tmp_size);
	}
	memset(part, 0, n->part_size * sizeof *part);
	for (size_t t = t0; t < t0 + s->len; t++) {
		const real *x = a->xn2 + t * s->d, *dl = n->dlog + t * s->e;
		real *dn = tmp;
		memset(dn, 0, s->d * sizeof *dn);
		for (size_t j = 0; j < s->k; j++) {
			const real *from = n->dxe + a->slot[t * s->k + j] * s->d;
			for (size_t i = 0; i < s->d; i++)
				dn[i] += from[i];
		}
		for (size_t e = 0; e < s->e; e++) {
			real c = dl[e];
			const real *w = wr + e * s->d;
			real *g = dwr + e * s->d;
#pragma omp simd
			for (size_t i = 0; i < s->d; i++) {
				dn[i] += c * w[i];
				g[i] += c * x[i];
			}
		}
		rms_backward(s->d, a->x2 + t * s->d, n->w + o->ffn_norm, a->r2[t], dn,
			     n->dx + t * s->d, part + s->d, 1);
	}
	memcpy(dx2 + t0 * s->d, n->dx + t0 * s->d, s->len * s->d * sizeof *dx2);
	gemm_packed(0, s->len, s->q, s->d, n->dx + t0 * s->d, s->d, n->pack_out[l][1],
		    n->doo + t0 * s->q, s->q, 0);
	attention_backward(n, s, l, b);
	gemm_packed(0, s->len, s->d, s->qkv, n->dqkv + t0 * s->qkv, s->qkv, n->pack_qkv[l][1],
		    tmp, s->d, 0);
	for (size_t t = 0; t < s->len; t++)
		rms_backward(s->d, a->x + (t0 + t) * s->d, n->w + o->attn_norm, a->r1[t0 + t],
			     tmp + t * s->d, n->dx + (t0 + t) * s->d, part, 1);
}

/* Weight gradients of one layer: three products an expert, then blocks of the shared matrices. */
static void weight_grads(struct net *n, const struct dims *s, int l, const real *dx2)
{
	struct layer_act *a = &n->act[l];
	const struct layer_offsets *o = &n->off[l];
	enum { BLOCK = 256 };
	size_t bq = (s->qkv + BLOCK - 1) / BLOCK, bo = (s->d + BLOCK - 1) / BLOCK;
#pragma omp parallel for schedule(dynamic, 1)
	for (size_t i = 0; i < bq + bo + 3 * s->e; i++) {
		if (i < bq) {
			size_t r = i * BLOCK, m = s->qkv - r < BLOCK ? s->qkv - r : BLOCK;
			gemm(1, 0, m, s->d, s->N, n->dqkv + r, s->qkv, a->xn1, s->d,
			     n->g + o->qkv + r * s->d, s->d, 0);
			continue;
		}
		if (i < bq + bo) {
			size_t r = (i - bq) * BLOCK, m = s->d - r < BLOCK ? s->d - r : BLOCK;
			gemm(1, 0, m, s->q, s->N, dx2 + r, s->d, a->o, s->q,
			     n->g + o->out + r * s->q, s->q, 0);
			continue;
		}
		size_t e = (i - bq - bo) / 3, part = (i - bq - bo) % 3, row = a->first[e];
		size_t rows = a->first[e + 1] - row;
		if (part < 2)
			gemm(1, 0, s->f, s->d, rows, n->dgu + row * 2 * s->f + part * s->f,
			     2 * s->f, n->xe + row * s->d, s->d,
			     n->g + o->w1 + (e * 2 + part) * s->f * s->d, s->d, 0);
		else
			gemm(1, 0, s->d, s->f, rows, n->dye + row * s->d, s->d,
			     n->h + row * s->f, s->f, n->g + o->w2 + e * s->d * s->f, s->f, 0);
	}
}

static void backward(struct net *n, const struct dims *s, size_t seqs, const uint16_t *in,
		     const struct net_stats *st)
{
	real *dx2 = n->xl;	/* free once the head is done */
	for (int l = n->cfg.layers - 1; l >= 0; l--) {
		real f[NET_MAX_EXPERTS];
		for (size_t e = 0; e < s->e; e++)
			f[e] = (real)st->load[l][e];
#pragma omp parallel for schedule(dynamic, 1)
		for (size_t b = 0; b < seqs; b++)
			for (size_t t = b * s->len; t < (b + 1) * s->len; t++)
				route_backward(n, s, &n->act[l], t, f, n->dlog + t * s->e);
		experts_backward(n, s, l);
#pragma omp parallel for schedule(dynamic, 1)
		for (size_t b = 0; b < seqs; b++)
			window_backward(n, s, l, b, dx2);
		weight_grads(n, s, l, dx2);
		const struct layer_offsets *o = &n->off[l];
		reduce_parts(n, seqs, 0, s->d, n->g + o->attn_norm);
		reduce_parts(n, seqs, s->d, s->d, n->g + o->ffn_norm);
		reduce_parts(n, seqs, 2 * s->d, s->hd, n->g + o->q_norm);
		reduce_parts(n, seqs, 2 * s->d + s->hd, s->hd, n->g + o->k_norm);
		reduce_parts(n, seqs, 2 * s->d + 2 * s->hd, s->e * s->d, n->g + o->router);
	}
	for (size_t t = 0; t < s->N; t++) {
		real *to = n->g + n->embd + in[t] * s->d;
		for (size_t i = 0; i < s->d; i++)
			to[i] += n->dx[t * s->d + i];
	}
}

void net_step(struct net *n, size_t seqs, size_t len, const uint16_t *in, const uint16_t *target,
	      const uint16_t *seg, int grad, real *loss, struct net_stats *stats)
{
	if (seqs > n->max_seqs || len > n->max_len)
		abort();
	struct dims s = dims_of(n, seqs, len);
	memset(stats, 0, sizeof *stats);
	pack_weights(n, &s, grad);
	forward(n, &s, seqs, in, seg, stats);
	head(n, &s, target, grad);
	for (size_t t = 0; t < s.N; t++)
		stats->ce += (double)n->loss[t];
	stats->ce /= (double)s.N;
	if (loss)
		memcpy(loss, n->loss, s.N * sizeof *loss);
	if (grad)
		backward(n, &s, seqs, in, stats);
}

void net_logits(struct net *n, size_t len, const uint16_t *in, const uint16_t *seg, real *logits)
{
	struct dims s = dims_of(n, 1, len);
	struct net_stats st = { 0 };
	pack_weights(n, &s, 0);
	forward(n, &s, 1, in, seg, &st);
	gemm_packed(0, 1, s.v, s.d, n->xf + (len - 1) * s.d, s.d, n->pack_embd[0], logits, s.v, 0);
}
