/*
 * moe.c - a Mixture-of-Experts layer: router, hooks, the experts' products, their weighted sum.
 *
 * Experts' outputs are added in rank order, so that neither the batch nor the order in which experts
 * ran changes a bit.
 */
#include "model/forward.h"

#include <string.h>

#include "base/err.h"
#include "base/num.h"

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

/* As product_job, with the matrix of expert x. */
static struct job expert_job(const struct weight *w, uint32_t x, const float *in, size_t n_tok,
	float *y, size_t ys)
{
	struct job j = product_job(w, in, n_tok, y, ys);

	j.data += (size_t)x * w->n_out * w->row_bytes;
	return j;
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
		s->jobs[n_job++] = expert_job(&l->gate_exps, x, s->xg + r * d, rows, s->gg + r * ff, ff);
		s->jobs[n_job++] = expert_job(&l->up_exps, x, s->xg + r * d, rows, s->ug + r * ff, ff);
	}
	product_run(s, s->jobs, n_job);
	activate(s, s->gg, s->ug, n * k * ff);
	n_job = 0;
	for (uint32_t x = 0; x < hp->n_expert; x++) {
		size_t r = s->first[x], rows = s->first[x + 1] - r;

		if (!rows)
			continue;
		s->jobs[n_job++] = expert_job(&l->down_exps, x, s->gg + r * ff, rows, s->yg + r * d, d);
	}
	product_run(s, s->jobs, n_job);
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

int moe(struct session *s, size_t il, size_t n, enum moe_phase phase, struct moe_err *e)
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
