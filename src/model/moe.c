/*
 * moe.c - a Mixture-of-Experts layer: router and hooks; experts' products and their weighted sum.
 *
 * Experts' outputs are added in rank order, so that neither the batch nor the order in which experts
 * ran changes a bit.
 */
#include "model/forward.h"

#include <string.h>

#include "base/err.h"
#include "base/num.h"

/* ---- routing ---- */

/* What the editing hooks make of a token: 1 if anything was changed. logits, bias: [n_expert]. */
static int ask_editors(struct session *s, size_t il, size_t t, float *logits, float *bias, struct moe_err *e)
{
	int n = s->m->info.route.n_expert, changed = 0, got;

	for (int pass = 0; pass < 2; pass++) /* all edits, then all preferences */
		for (size_t i = 0; i < s->n_hook; i++) {
			struct moe_hook *h = s->hook[i].h;

			if (!(pass ? h->prefer != NULL : h->edit != NULL) || !s->hook[i].wants[il])
				continue;
			got = pass ? h->prefer(h->ctx, (int)il, s->seq, s->vpos[t], s->vtok[t], logits, bias, n, e)
				: h->edit(h->ctx, (int)il, s->seq, s->vpos[t], s->vtok[t], logits, n, e);
			if (got < 0)
				return err_wrap(e, "hook %s", h->name);
			changed |= got;
		}
	return changed != 0;
}

static int edit_token(struct session *s, size_t il, size_t t, struct moe_choice *c, struct moe_err *e)
{
	const struct moe_route_spec *spec = &s->m->info.route;
	float *edited = s->rscratch + 2 * spec->n_expert, *bias = edited + spec->n_expert;
	const float *own = s->m->layer[il].sel_b;
	int changed;

	memcpy(edited, s->rlogits + t * spec->n_expert, spec->n_expert * sizeof *edited);
	memset(bias, 0, spec->n_expert * sizeof *bias);
	changed = ask_editors(s, il, t, edited, bias, e);
	if (changed < 0)
		return -1;
	memcpy(s->before + t * spec->k, c->experts, spec->k * sizeof *s->before);
	if (changed) {
		for (size_t i = 0; own && i < spec->n_expert; i++)
			bias[i] += own[i];
		moe_route(spec, edited, bias, s->rscratch, c);
		c->flags |= MOE_EV_EDITED;
	}
	return 0;
}

static int route_tokens(struct session *s, size_t il, size_t n, struct moe_err *e)
{
	const struct moe_route_spec *spec = &s->m->info.route;

	for (size_t t = 0; t < n; t++) {
		struct moe_choice c = { s->experts + t * spec->k, s->weights + t * spec->k, 0, 0 };

		moe_route(spec, s->rlogits + t * spec->n_expert, s->m->layer[il].sel_b, s->rscratch, &c);
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
		if (s->hook[i].h->edit || s->hook[i].h->prefer)
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
	for (size_t i = 0; i < n * k; i++)
		s->taken[s->slot[i]] = (uint32_t)(i / k);
	memmove(s->first + 1, s->first, n_expert * sizeof *s->first);
	s->first[0] = 0;
}

/* As product_job, with the matrix of expert x, from the cache if there is one. */
static struct job expert_job(struct session *s, const struct weight *w, enum xcache_part part, uint32_t x,
	const float *in, size_t n_tok, float *y, size_t ys)
{
	struct job j = product_job(w, in, n_tok, y, ys);

	j.mat = x;
	j.data = s->xcache ? xcache_at(s->xcache, x, part) : w->data + x * w->mat_bytes;
	return j;
}

/* Bias row x of b [n_expert][n] on the gathered rows of expert x, which are `rows` of n floats. */
static void expert_bias(float *y, const float *b, uint32_t x, size_t n, size_t rows)
{
	add_bias(y, b ? b + (size_t)x * n : NULL, n, rows);
}

struct moe_rows { struct session *s; const struct layer *l; };

/* Inputs of tokens t0..t1-1 in the gathered order, times their gate weights where those come first. */
static void gather_rows(void *ctx, size_t t0, size_t t1)
{
	const struct moe_rows *r = ctx;
	struct session *s = r->s;
	size_t k = s->m->hp.k, d = s->m->hp.n_embd;

	for (size_t i = t0 * k; i < t1 * k; i++) {
		memcpy(s->xg + s->slot[i] * d, s->h + i / k * d, d * sizeof *s->xg);
		if (r->l->features & F_WEIGHT_FIRST)
			scale_rows(s->xg + s->slot[i] * d, s->weights[i], d);
	}
}

/* Inputs that are rounded anyway are taken from where they are. */
static int gathers(const struct session *s, const struct layer *l)
{
	return (l->features & F_WEIGHT_FIRST) || s->m->lora_rank || !product_rounds(s, &l->gate_exps) ||
		!product_rounds(s, &l->up_exps);
}

/* The last products of the n experts in s->group. */
static void down_jobs(struct session *s, const struct layer *l, size_t n, struct job *down)
{
	size_t d = s->m->hp.n_embd, ff = s->m->hp.n_ff_expert;

	for (size_t i = 0; i < n; i++) {
		uint32_t x = s->group[i];
		size_t r = s->first[x], rows = s->first[x + 1] - r;

		down[i] = expert_job(s, &l->down_exps, XCACHE_DOWN, x, s->gg + r * ff, rows, s->yg + r * d, d);
	}
}

/* The gated FFN of the n experts in s->group, ascending: one product per expert over the tokens that
 * chose it. */
static void run_group(struct session *s, const struct layer *l, size_t n, size_t n_tok)
{
	const struct hparams *hp = &s->m->hp;
	const uint32_t *from = gathers(s, l) ? NULL : s->taken;
	size_t d = hp->n_embd, ff = hp->n_ff_expert, n_job = 0;
	struct job *down = s->jobs + 2 * n; /* behind the first; hints have jobs of their own */

	down_jobs(s, l, n, down);
	if (n_tok == 1)
		product_ahead(s, down, n);
	for (size_t i = 0; i < n; i++) {
		uint32_t x = s->group[i];
		size_t r = s->first[x], rows = s->first[x + 1] - r;

		s->jobs[n_job++] = expert_job(s, &l->gate_exps, XCACHE_GATE, x, from ? s->h : s->xg + r * d, rows,
			s->gg + r * ff, ff);
		s->jobs[n_job++] = expert_job(s, &l->up_exps, XCACHE_UP, x, from ? s->h : s->xg + r * d, rows,
			s->ug + r * ff, ff);
		s->jobs[n_job - 2].from = s->jobs[n_job - 1].from = from ? from + r : NULL;
	}
	product_run(s, s->jobs, n_job);
	for (size_t i = 0, j; i < n; i = j) { /* rows of neighbours lie one behind the other */
		size_t r = s->first[s->group[i]], end = r;

		for (j = i; j < n && s->first[s->group[j]] == end; j++) {
			size_t rows = s->first[s->group[j] + 1] - end;

			expert_bias(s->gg + end * ff, l->gate_exps_b, s->group[j], ff, rows);
			expert_bias(s->ug + end * ff, l->up_exps_b, s->group[j], ff, rows);
			end += rows;
		}
		activate(s, s->gg + r * ff, s->ug + r * ff, (end - r) * ff);
	}
	layer_ahead(s, (size_t)(l - s->m->layer) + 1, n_tok);
	product_run(s, down, n);
	for (size_t i = 0; i < n; i++) {
		size_t r = s->first[s->group[i]];

		expert_bias(s->yg + r * d, l->down_exps_b, s->group[i], d, s->first[s->group[i] + 1] - r);
	}
}

/* All experts that the n tokens chose, in one group or as the cache has them. */
static int run_experts(struct session *s, size_t il, size_t n, struct moe_err *e)
{
	const struct layer *l = &s->m->layer[il];
	struct moe_rows r = { s, l };
	size_t n_group = 0;
	int more;

	if (gathers(s, l))
		over_rows(s, gather_rows, &r, n, s->m->hp.k * s->m->hp.n_embd);
	if (!s->xcache) {
		for (uint32_t x = 0; x < s->m->hp.n_expert; x++)
			if (s->first[x + 1] > s->first[x])
				s->group[n_group++] = x;
		run_group(s, l, n_group, n);
		return 0;
	}
	for (uint32_t x = 0; x < s->m->hp.n_expert; x++)
		s->group[x] = s->first[x + 1] - s->first[x];
	xcache_begin(s->xcache, il, s->group);
	while ((more = xcache_next(s->xcache, s->group, &n_group, e)) == 1)
		run_group(s, l, n_group, n);
	return more;
}

/* out[t] = sum over ranks, in rank order, of weight * expert output. */
static void combine_rows(void *ctx, size_t t0, size_t t1)
{
	const struct moe_rows *r = ctx;
	struct session *s = r->s;
	size_t k = s->m->hp.k, d = s->m->hp.n_embd;

	memset(s->out + t0 * d, 0, (t1 - t0) * d * sizeof *s->out);
	for (size_t i = t0 * k; i < t1 * k; i++)
		s->kern->axpy(r->l->features & F_WEIGHT_FIRST ? 1.0f : s->weights[i], s->yg + s->slot[i] * d,
			s->out + i / k * d, d);
}

static void shared_expert(struct session *s, const struct layer *l, size_t n)
{
	static const float *const no_bias[3];
	size_t d = s->m->hp.n_embd;
	float *y = s->yg; /* free again after combine */

	gated_ffn(s, &l->gate_sh, &l->up_sh, &l->down_sh, no_bias, n, y);
	if (!(l->features & F_SHARED_GATED)) {
		add_rows(s->out, y, n * d);
		return;
	}
	product(s, &l->router_sh, s->h, n, s->shgate);
	for (size_t t = 0; t < n; t++)
		s->kern->axpy(num_sigmoid(s->shgate[t]), y + t * d, s->out + t * d, d);
}

int moe_choose(struct session *s, size_t il, const float *h, size_t n, enum moe_phase phase,
	struct moe_err *e)
{
	const struct layer *l = &s->m->layer[il];

	product(s, &l->router, h, n, s->rlogits);
	add_bias(s->rlogits, l->router_b, s->m->hp.n_expert, n);
	if (route_tokens(s, il, n, e))
		return -1;
	part_ends(s, SESSION_ROUTER);
	if (tell_hooks(s, il, n, phase, e))
		return -1;
	part_ends(s, SESSION_HOOKS);
	return 0;
}

void moe_keep_last(struct session *s, size_t n, size_t kept)
{
	size_t k = s->m->hp.k, at = (n - kept) * k;

	memmove(s->experts, s->experts + at, kept * k * sizeof *s->experts);
	memmove(s->weights, s->weights + at, kept * k * sizeof *s->weights);
}

int moe_run(struct session *s, size_t il, size_t n, struct moe_err *e)
{
	const struct layer *l = &s->m->layer[il];
	struct moe_rows r = { s, l };

	group_by_expert(s, n);
	if (run_experts(s, il, n, e))
		return -1;
	over_rows(s, combine_rows, &r, n, s->m->hp.k * s->m->hp.n_embd);
	part_ends(s, SESSION_EXPERTS);
	if (l->features & F_SHARED) {
		shared_expert(s, l, n);
		part_ends(s, SESSION_DENSE);
	}
	return 0;
}
