/*
 * audit_explain_run.c - the model's part of `moescope audit explain`: the prefix is run again for
 * the scores; the same run, with a chosen expert masked at this one position and layer, tells what
 * it would have changed. With --layer every chosen expert is masked in turn, else the first.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "cmd/audit.h"
#include "cmd/audit_explain.h"
#include "cmd/engine.h"
#include "cmd/record.h"

/* While the model runs. */
struct rerun {
	struct explain *x;
	struct session *s;
	struct moe_hook hook;
	int32_t *prefix;              /* [pos + 1] */
	int mask_layer, mask_expert;  /* mask_layer -1: nothing, and scores are filled in */
	uint16_t chosen[MOE_MAX_EXPERT]; /* by the masked layer, at the position */
	float *plain, *masked, *row;  /* [n_vocab] */
};

static int on_edit(void *ctx, int layer, uint64_t seq, uint32_t pos, int32_t token, float *logits,
	int n_expert, struct moe_err *e)
{
	struct rerun *u = ctx;

	(void)seq, (void)token, (void)e;
	if (layer != u->mask_layer || pos != u->x->pos || u->mask_expert >= n_expert)
		return 0;
	logits[u->mask_expert] = -INFINITY;
	return 1;
}

static int on_route(void *ctx, const struct moe_route_view *v, struct moe_err *e)
{
	struct rerun *u = ctx;
	struct explain *x = u->x;

	(void)e;
	for (uint32_t t = 0; t < v->n_tok; t++) {
		if (v->pos[t] != x->pos)
			continue;
		if (v->layer == u->mask_layer)
			memcpy(u->chosen, v->experts + (size_t)t * v->k, v->k * sizeof *u->chosen);
		for (size_t i = 0; u->mask_layer < 0 && i < x->info.n_moe_layer; i++)
			if (x->f[i].layer == v->layer) {
				x->rerun_differs += memcmp(x->f[i].experts, v->experts + (size_t)t * v->k,
					v->k * sizeof *v->experts) != 0;
				explain_take_logits(x, &x->f[i], v->logits + (size_t)t * v->n_expert);
			}
	}
	return 0;
}

static int on_row(void *ctx, uint32_t pos, const float *row, struct moe_err *e)
{
	struct rerun *u = ctx;

	(void)e;
	if (pos == u->x->pos)
		memcpy(u->row, row, model_info(u->x->l.model)->n_vocab * sizeof *row);
	return 0;
}

static int run_prefix(struct rerun *u, float *row, struct moe_err *e)
{
	struct session_want want = { 0, on_row, u };
	struct moe_seq_info info = { .seq = u->x->seq };

	u->row = row;
	return session_begin(u->s, &info, e) ||
		session_eval(u->s, u->prefix, u->x->pos + 1, MOE_PREFILL, &want, e);
}

/* log of the sum of exponentials. */
static double lse(const float *x, size_t n)
{
	double max = (double)x[0], sum = 0;

	for (size_t i = 1; i < n; i++)
		max = (double)x[i] > max ? (double)x[i] : max;
	for (size_t i = 0; i < n; i++)
		sum += exp((double)x[i] - max);
	return max + log(sum);
}

static int32_t best(const float *x, size_t n)
{
	size_t b = 0;

	for (size_t i = 1; i < n; i++)
		b = x[i] > x[b] ? i : b;
	return (int32_t)b;
}

/* What masking did to the next token's distribution. */
static void difference(const struct rerun *u, struct explain_mask *m)
{
	size_t n = model_info(u->x->l.model)->n_vocab;
	double a = lse(u->plain, n), b = lse(u->masked, n);

	m->kl = 0;
	m->top_before = best(u->plain, n);
	m->top_after = best(u->masked, n);
	m->p_before = exp((double)u->plain[m->top_before] - a);
	m->p_after = exp((double)u->masked[m->top_before] - b);
	for (size_t i = 0; i < n; i++) {
		double p = (double)u->plain[i] - a, q = (double)u->masked[i] - b;

		m->kl += exp(p) * (p - q);
	}
	if (m->kl < 0) /* rounding */
		m->kl = 0;
}

/* Who is chosen now and was not before; -1 if it is not just one for the masked one. */
static int newcomer(const struct explain_layer *f, const uint16_t *chosen, int masked)
{
	int who = -1, stayed = 0;

	for (size_t k = 0; k < f->k; k++) {
		if (explain_is_one_of(f->experts, f->k, chosen[k]))
			stayed += chosen[k] != masked;
		else
			who = chosen[k];
	}
	return stayed + 1 == f->k ? who : -1;
}

static int mask_layer(struct rerun *u, struct explain_layer *f, struct moe_err *e)
{
	size_t n = u->x->only_layer >= 0 ? f->k : 1;

	if (f->n_expert == f->k) /* nobody could take its place */
		return 0;
	f->mask = calloc(n, sizeof *f->mask);
	if (!f->mask)
		return err_nomem(e, n * sizeof *f->mask, "masked runs");
	for (; f->n_mask < n && !load_interrupted(); f->n_mask++) {
		struct explain_mask *m = &f->mask[f->n_mask];

		m->expert = f->experts[f->n_mask];
		u->mask_layer = f->layer;
		u->mask_expert = m->expert;
		if (run_prefix(u, u->masked, e))
			return -1;
		difference(u, m);
		m->in_place = newcomer(f, u->chosen, m->expert);
		/* The weakest chosen one makes room for the next without moving anything else. */
		if (f->next < 0 && !f->edited && m->expert == f->experts[f->k - 1])
			f->next = m->in_place;
	}
	return 0;
}

/* The recorded model's hash and the given one's. */
static void hashes(struct explain *x)
{
	unsigned char sha[SHA_BYTES], root[SHA_BYTES];

	snprintf(x->then, sizeof x->then, "%s", x->info.hash);
	record_model_hashes(x->l.gguf, sha, root);
	sodium_bin2hex(x->now, sizeof x->now, sha, sizeof sha);
}

int explain_with_model(struct explain *x, int32_t *prefix, uint64_t n_prefix, struct moe_err *e)
{
	struct rerun u = { .x = x, .prefix = prefix, .mask_layer = -1 };
	size_t n;
	int bad;

	if (*x->info.source)
		return err_set(e, MOE_ERR_USAGE,
			"run %" PRId64 " was imported, nobody knows from which model: "
			"explain without --model",
			x->info.id);
	if (n_prefix != x->pos + 1)
		return err_set(e, MOE_ERR_INPUT,
			"of the %" PRIu64 " tokens up to the position %" PRIu64 " are in the "
			"log: the rest was redacted, pruned or dropped, so nothing can be run again",
			x->pos + 1, n_prefix);
	if (load_model(audit_o.model, &audit_o.load, &x->l, e))
		return -1;
	if (model_info(x->l.model)->n_moe_layer != x->info.n_moe_layer ||
		memcmp(model_info(x->l.model)->layers, x->info.layers,
			x->info.n_moe_layer * sizeof x->info.layers[0]))
		return err_set(e, MOE_ERR_INPUT, "%s: its routers are not those of run %" PRId64,
			audit_o.model, x->info.id);
	hashes(x);
	n = model_info(x->l.model)->n_vocab;
	u.plain = malloc(n * sizeof *u.plain);
	u.masked = malloc(n * sizeof *u.masked);
	u.hook = (struct moe_hook){ .name = "mask", .ctx = &u, .edit = on_edit, .route = on_route };
	bad = !u.plain || !u.masked ? err_nomem(e, 2 * n * sizeof *u.plain, "logits") : 0;
	bad = bad || !(u.s = engine_session(&x->l, &audit_o.load, e)) ||
		session_add_hook(u.s, &u.hook, e);
	if (!bad && x->pos >= session_ctx(u.s))
		bad = err_set(e, MOE_ERR_USAGE,
			"position %" PRIu64 " does not fit in a context of %u (--ctx)", x->pos,
			session_ctx(u.s));
	bad = bad || run_prefix(&u, u.plain, e);
	x->rerun = !bad;
	for (size_t i = 0; !bad && i < x->info.n_moe_layer && !load_interrupted(); i++)
		if (x->only_layer < 0 || x->f[i].layer == x->only_layer)
			bad = mask_layer(&u, &x->f[i], e);
	session_free(u.s);
	free(u.plain);
	free(u.masked);
	return bad ? -1 : 0;
}
