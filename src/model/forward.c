/*
 * forward.c - one forward pass for every architecture: blocks chosen by a layer's features.
 *
 * Determinism: every value of a token is computed from that token's row alone by kernels whose sum
 * order is fixed (kern.h); experts' outputs are added in rank order. So batch size and thread
 * count cannot change a bit. Nothing here allocates.
 */
#include "model/forward.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"

#define INLINE_COST 32768   /* multiply-adds below which waking the pool costs more than it gains */
#define UNIT_MIN 16384      /* multiply-adds of a pool unit: between these, about four units a thread */
#define UNIT_MAX (1 << 18)

static size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* ---- products over the pool ---- */

struct job_run { struct session *s; struct job *jobs; size_t n; };

static void job_rows(struct session *s, const struct job *j, size_t r0, size_t r1, int worker)
{
	const struct weight *w = j->w;

	s->kern->gemm(w->type, w->data + j->mat * w->n_out * w->row_bytes, w->row_bytes, w->n_in, r0, r1,
		j->x, j->xs, j->n_tok, j->y, j->ys, s->scratch + (size_t)worker * s->scratch_n);
}

static void job_unit(void *ctx, size_t unit, int worker)
{
	struct job_run *run = ctx;
	size_t lo = 0, hi = run->n;
	struct job *j;

	while (hi - lo > 1) { /* last job whose unit0 <= unit */
		size_t mid = (lo + hi) / 2;

		if (run->jobs[mid].unit0 <= unit)
			lo = mid;
		else
			hi = mid;
	}
	j = &run->jobs[lo];
	unit = (unit - j->unit0) * j->rows;
	job_rows(run->s, j, unit, min_size(unit + j->rows, j->w->n_out), worker);
}

/* Rows of a unit: about `unit` multiply-adds, whole register tiles; in prefill enough rows to use a
 * block of activations while it is in the cache. */
static size_t unit_rows(const struct job *j, size_t unit)
{
	size_t row = j->n_tok * j->w->n_in, rows = unit / (row ? row : 1);

	rows = rows < 4 ? 4 : (rows + 3) & ~(size_t)3;
	return j->n_tok > 8 && rows < 32 ? 32 : rows;
}

/* All jobs, split into units of rows, in one run of the pool. */
static void run_jobs(struct session *s, struct job *jobs, size_t n)
{
	struct job_run run = { s, jobs, n };
	size_t units = 0, cost = 0, unit;

	for (size_t i = 0; i < n; i++)
		cost += jobs[i].n_tok * jobs[i].w->n_in * jobs[i].w->n_out;
	if (cost < INLINE_COST) {
		for (size_t i = 0; i < n; i++)
			job_rows(s, &jobs[i], 0, jobs[i].w->n_out, 0);
		return;
	}
	unit = cost / (4 * (size_t)pool_threads(s->pool));
	unit = unit < UNIT_MIN ? UNIT_MIN : unit > UNIT_MAX ? UNIT_MAX : unit;
	for (size_t i = 0; i < n; i++) {
		jobs[i].rows = unit_rows(&jobs[i], unit);
		jobs[i].unit0 = units;
		units += (jobs[i].w->n_out + jobs[i].rows - 1) / jobs[i].rows;
	}
	pool_run(s->pool, job_unit, &run, units);
}

static struct job make_job(const struct weight *w, const float *x, size_t n_tok, float *y, size_t ys)
{
	return (struct job){ .w = w, .x = x, .xs = w->n_in, .n_tok = n_tok, .y = y, .ys = ys };
}

static void product(struct session *s, const struct weight *w, const float *x, size_t n_tok, float *y)
{
	struct job j = make_job(w, x, n_tok, y, w->n_out);

	run_jobs(s, &j, 1);
}

/* ---- small blocks ---- */

/* y = x / sqrt(mean(x^2) + eps) * w */
static void rms_norm(const struct session *s, const float *x, const float *w, float *y, size_t n)
{
	float mean = s->kern->dot(x, x, n) / (float)n, r = 1.0f / sqrtf(mean + (float)s->m->hp.eps);

	for (size_t i = 0; i < n; i++)
		y[i] = x[i] * r * w[i];
}

static void norm_rows(const struct session *s, const float *x, const float *w, float *y, size_t n,
	size_t rows)
{
	for (size_t t = 0; t < rows; t++)
		rms_norm(s, x + t * n, w, y + t * n, n);
}

static void add(float *x, const float *y, size_t n)
{
	for (size_t i = 0; i < n; i++)
		x[i] += y[i];
}

static void add_bias(float *x, const float *b, size_t n, size_t rows)
{
	if (b)
		for (size_t t = 0; t < rows; t++)
			add(x + t * n, b, n);
}

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

/* ---- attention ---- */

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

static void attention(struct session *s, size_t il, size_t n)
{
	const struct hparams *hp = &s->m->hp;
	const struct layer *l = &s->m->layer[il];
	size_t qw = (size_t)hp->n_head * hp->head_dim, kw = (size_t)hp->n_head_kv * hp->head_dim;
	float *k = s->kcache + (il * s->n_ctx + s->pos) * kw, *v = s->vcache + (il * s->n_ctx + s->pos) * kw;
	struct job j[3] = { make_job(&l->wq, s->h, n, s->q, qw), make_job(&l->wk, s->h, n, k, kw),
		make_job(&l->wv, s->h, n, v, kw) };
	struct att_run run = { s, il, s->pos, 1, n * hp->n_head };
	size_t cost = run.n * (s->pos + n) * hp->head_dim;

	run_jobs(s, j, 3);
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

/* ---- feed-forward ---- */

struct act_run { struct session *s; float *g; const float *u; size_t n, per_unit; };

static void act_unit(void *ctx, size_t unit, int worker)
{
	struct act_run *r = ctx;
	size_t at = unit * r->per_unit;

	(void)worker;
	r->s->kern->silu_mul(r->g + at, r->u + at, min_size(r->per_unit, r->n - at));
}

static void activate(struct session *s, float *g, const float *u, size_t n)
{
	struct act_run r = { s, g, u, n, 8192 };

	pool_run(s->pool, act_unit, &r, (n + r.per_unit - 1) / r.per_unit);
}

static void swiglu(struct session *s, const struct weight *gate, const struct weight *up,
	const struct weight *down, size_t n, float *out)
{
	struct job j[2] = { make_job(gate, s->h, n, s->g, gate->n_out),
		make_job(up, s->h, n, s->u, up->n_out) };

	run_jobs(s, j, 2);
	activate(s, s->g, s->u, n * gate->n_out);
	product(s, down, s->g, n, out);
}

/* ---- routing ---- */

static int edit_token(struct session *s, size_t il, size_t t, struct moe_choice *c, struct moe_err *e)
{
	const struct moe_route_spec *spec = &s->m->info.route;
	float *edited = s->rscratch + 2 * spec->n_expert;
	int changed = 0, got;

	memcpy(edited, s->rlogits + t * spec->n_expert, spec->n_expert * sizeof *edited);
	for (size_t i = 0; i < s->n_hook; i++) {
		struct moe_hook *h = s->hook[i].h;

		if (!h->edit || !s->hook[i].wants[il])
			continue;
		got = h->edit(h->ctx, (int)il, s->seq, s->vpos[t], s->vtok[t], edited, spec->n_expert, e);
		if (got < 0)
			return err_wrap(e, "hook %s", h->name);
		changed |= got;
	}
	memcpy(s->before + t * spec->k, c->experts, spec->k * sizeof *s->before);
	if (changed) {
		moe_route(spec, edited, NULL, s->rscratch, c);
		c->flags |= MOE_EV_EDITED;
	}
	return 0;
}

static int route_tokens(struct session *s, size_t il, size_t n, struct moe_err *e)
{
	const struct moe_route_spec *spec = &s->m->info.route;

	for (size_t t = 0; t < n; t++) {
		struct moe_choice c = { s->experts + t * spec->k, s->weights + t * spec->k, 0, 0 };

		moe_route(spec, s->rlogits + t * spec->n_expert, NULL, s->rscratch, &c);
		if (s->editing && edit_token(s, il, t, &c, e))
			return -1;
		s->margin[t] = c.margin;
		s->flags[t] = c.flags;
	}
	return 0;
}

static const char *editor_name(const struct session *s)
{
	for (size_t i = 0; i < s->n_hook; i++)
		if (s->hook[i].h->edit)
			return s->hook[i].h->name;
	return NULL;
}

static int tell_hooks(struct session *s, size_t il, size_t n, enum moe_phase phase, struct moe_err *e)
{
	const struct moe_route_spec *spec = &s->m->info.route;
	const struct moe_route_view v = { (uint16_t)il, spec->n_expert, spec->k, (uint8_t)phase,
		(uint32_t)n, s->vseq, s->vpos, s->vtok, s->experts, s->weights, s->margin, s->rlogits,
		s->flags, s->editing ? s->before : NULL, editor_name(s) };

	for (size_t i = 0; i < s->n_hook; i++) {
		struct moe_hook *h = s->hook[i].h;

		if (h->route && s->hook[i].wants[il] && h->route(h->ctx, &v, e))
			return err_wrap(e, "hook %s", h->name);
	}
	return 0;
}

/* Order (token, rank) pairs by expert, tokens ascending within one: slot and first. */
static void group_by_expert(struct session *s, size_t n)
{
	size_t k = s->m->info.route.k, n_expert = s->m->info.route.n_expert;
	uint32_t at = 0;

	memset(s->first, 0, (n_expert + 1) * sizeof *s->first);
	for (size_t i = 0; i < n * k; i++)
		s->first[s->experts[i]]++;
	for (size_t x = 0; x <= n_expert; x++) { /* counts to starts */
		uint32_t c = s->first[x];

		s->first[x] = at;
		at += c;
	}
	for (size_t i = 0; i < n * k; i++)
		s->slot[i] = s->first[s->experts[i]]++;
	memmove(s->first + 1, s->first, n_expert * sizeof *s->first);
	s->first[0] = 0;
}

/* The experts' SwiGLU, one product per expert over the tokens that chose it. */
static void run_experts(struct session *s, const struct layer *l, size_t n)
{
	const struct hparams *hp = &s->m->hp;
	size_t k = hp->k, d = hp->n_embd, ff = hp->n_ff_expert, n_job = 0;

	for (size_t i = 0; i < n * k; i++)
		memcpy(s->xg + s->slot[i] * d, s->h + i / k * d, d * sizeof *s->xg);
	for (uint32_t x = 0; x < hp->n_expert; x++) {
		size_t r = s->first[x], rows = s->first[x + 1] - r;

		if (!rows)
			continue;
		s->jobs[n_job] = make_job(&l->gate_exps, s->xg + r * d, rows, s->gg + r * ff, ff);
		s->jobs[n_job++].mat = x;
		s->jobs[n_job] = make_job(&l->up_exps, s->xg + r * d, rows, s->ug + r * ff, ff);
		s->jobs[n_job++].mat = x;
	}
	run_jobs(s, s->jobs, n_job);
	activate(s, s->gg, s->ug, n * k * ff);
	n_job = 0;
	for (uint32_t x = 0; x < hp->n_expert; x++) {
		size_t r = s->first[x], rows = s->first[x + 1] - r;

		if (!rows)
			continue;
		s->jobs[n_job] = make_job(&l->down_exps, s->gg + r * ff, rows, s->yg + r * d, d);
		s->jobs[n_job++].mat = x;
	}
	run_jobs(s, s->jobs, n_job);
}

/* out[t] = sum over ranks, in rank order, of weight * expert output. */
static void combine(struct session *s, size_t n)
{
	size_t k = s->m->hp.k, d = s->m->hp.n_embd;

	memset(s->out, 0, n * d * sizeof *s->out);
	for (size_t i = 0; i < n * k; i++)
		s->kern->axpy(s->weights[i], s->yg + s->slot[i] * d, s->out + i / k * d, d);
}

static void shared_expert(struct session *s, const struct layer *l, size_t n)
{
	size_t d = s->m->hp.n_embd;
	float *y = s->yg; /* free again after combine */

	product(s, &l->router_sh, s->h, n, s->shgate);
	swiglu(s, &l->gate_sh, &l->up_sh, &l->down_sh, n, y);
	for (size_t t = 0; t < n; t++)
		s->kern->axpy(num_sigmoid(s->shgate[t]), y + t * d, s->out + t * d, d);
}

static int moe(struct session *s, size_t il, size_t n, enum moe_phase phase, struct moe_err *e)
{
	const struct layer *l = &s->m->layer[il];

	product(s, &l->router, s->h, n, s->rlogits);
	if (route_tokens(s, il, n, e) || tell_hooks(s, il, n, phase, e))
		return -1;
	group_by_expert(s, n);
	run_experts(s, l, n);
	combine(s, n);
	if (l->features & F_SHARED_GATED)
		shared_expert(s, l, n);
	return 0;
}

/* ---- the whole ---- */

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
		add(s->x, s->out, n * d);
		norm_rows(s, s->x, l->ffn_norm, s->h, d, n);
		if (l->features & F_MOE) {
			if (moe(s, il, n, phase, e))
				return -1;
		} else {
			swiglu(s, &l->gate, &l->up, &l->down, n, s->out);
		}
		add(s->x, s->out, n * d);
	}
	return 0;
}

void forward_head(struct session *s, size_t t0, size_t n)
{
	size_t d = s->m->hp.n_embd;

	norm_rows(s, s->x + t0 * d, s->m->output_norm, s->h, d, n);
	product(s, &s->m->output, s->h, n, s->logits);
}
