/*
 * walk.c - see walk.h. Blocks of a scan are appended to their layer's batch until it is full.
 */
#include "view/walk.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#define BATCH_BYTES ((size_t)1 << 30)

struct lane {                 /* one layer */
	struct walk_layer l;
	float *logits;            /* memory of l.logits */
	int lacks;                /* some token of the batch has no logits */
	int failed;
	struct moe_err bad;       /* what fn said then */
};

struct walk {
	struct walk_opt o;
	struct lane *lane;
	size_t n;
	walk_fn *fn;
	void *ctx;
};

static int lanes_init(struct walk *w, const struct run_info *u, struct moe_err *e)
{
	size_t n = w->o.batch, each = 0;

	for (uint32_t i = 0; i < u->n_moe_layer; i++)
		each += 4 + u->layers[i].k * (2 + (w->o.want & SCAN_WEIGHTS ? 4 : 0)) +
			(w->o.want & SCAN_MARGINS ? 4 : 0) +
			(w->o.want & SCAN_LOGITS ? u->layers[i].n_expert * 4u : 0);
	if (n > BATCH_BYTES / each)
		return err_set(e, MOE_ERR_USAGE, "a batch of %u tokens takes %zu bytes of decisions; "
			"a batch of at most %zu fits", w->o.batch, n * each, BATCH_BYTES / each);
	w->lane = calloc(u->n_moe_layer + 1u, sizeof *w->lane);
	if (!w->lane)
		return err_nomem(e, u->n_moe_layer * sizeof *w->lane, "layers");
	for (; w->n < u->n_moe_layer; w->n++) {
		struct lane *y = &w->lane[w->n];
		struct walk_layer *l = &y->l;

		l->k = u->layers[w->n].k, l->n_expert = u->layers[w->n].n_expert;
		l->token = malloc(n * sizeof *l->token);
		l->experts = malloc(n * l->k * sizeof *l->experts);
		l->weights = w->o.want & SCAN_WEIGHTS ? malloc(n * l->k * sizeof *l->weights) : NULL;
		l->margins = w->o.want & SCAN_MARGINS ? malloc(n * sizeof *l->margins) : NULL;
		y->logits = w->o.want & SCAN_LOGITS ? malloc(n * l->n_expert * sizeof *y->logits) : NULL;
		if (!l->token || !l->experts || (w->o.want & SCAN_WEIGHTS && !l->weights) ||
		    (w->o.want & SCAN_MARGINS && !l->margins) || (w->o.want & SCAN_LOGITS && !y->logits)) {
			w->n++;
			return err_nomem(e, n * each, "a batch of decisions");
		}
	}
	return 0;
}

static void lanes_free(struct walk *w)
{
	for (size_t i = 0; i < w->n; i++) {
		struct lane *y = &w->lane[i];

		free(y->l.token);
		free(y->l.experts);
		free(y->l.weights);
		free(y->l.margins);
		free(y->logits);
	}
	free(w->lane);
}

static void fill_nan(float *to, size_t n)
{
	for (size_t i = 0; i < n; i++)
		to[i] = NAN;
}

/* Tokens from..from+n-1 of the block, none of which held a NaN, go to the end of the batch. */
static void append(struct lane *y, const struct scan_block *b, uint32_t from, uint32_t n)
{
	struct walk_layer *l = &y->l;
	size_t k = l->k, at = l->n;

	memcpy(l->token + at, b->chunk->tokens + from, n * sizeof *l->token);
	memcpy(l->experts + at * k, b->experts + from * k, n * k * sizeof *l->experts);
	if (l->weights && b->weights)
		memcpy(l->weights + at * k, b->weights + from * k, n * k * sizeof *l->weights);
	else if (l->weights)
		fill_nan(l->weights + at * k, n * k);
	if (l->margins && b->margins)
		memcpy(l->margins + at, b->margins + from, n * sizeof *l->margins);
	else if (l->margins)
		fill_nan(l->margins + at, n);
	if (y->logits && b->logits)
		memcpy(y->logits + at * l->n_expert, b->logits + (size_t)from * l->n_expert,
			(size_t)n * l->n_expert * sizeof *y->logits);
	y->lacks |= !b->logits;
	l->n += n;
}

static void hand_out(struct walk *w, size_t li, int worker)
{
	struct lane *y = &w->lane[li];

	y->l.logits = y->lacks ? NULL : y->logits;
	if (y->l.of && !y->failed)
		y->failed = w->fn(w->ctx, li, worker, &y->l, &y->bad) != 0;
	y->l.of = y->l.n = 0;
	y->lacks = 0;
}

static void block(void *ctx, const struct scan_block *b)
{
	struct walk *w = ctx;
	struct lane *y = &w->lane[b->li];
	uint32_t t = 0, n = b->chunk->n;

	while (t < n) {
		uint32_t end = w->o.batch - y->l.of < n - t ? t + w->o.batch - y->l.of : n, from = t;

		y->l.of += end - t;
		for (; b->flags && t < end; t++)
			if (b->flags[t] & MOE_EV_NAN) {
				append(y, b, from, t - from);
				from = t + 1;
			}
		t = end;
		append(y, b, from, end - from);
		if (y->l.of == w->o.batch)
			hand_out(w, b->li, b->worker);
	}
}

static void end(void *ctx, size_t li, int worker)
{
	hand_out(ctx, li, worker);
}

int walk_each(struct reader *r, const struct load_filter *f, const struct run_info *u,
	const struct walk_opt *o, walk_fn *fn, void *ctx, struct moe_err *e)
{
	struct walk w = { .o = *o, .fn = fn, .ctx = ctx };
	struct scan_calls calls = { .ctx = &w, .block = block, .end = end, .want = o->want };
	int status = -1;

	if (lanes_init(&w, u, e) || scan_run(r, f, o->threads, &calls, e))
		goto out;
	for (size_t i = 0; i < w.n; i++)
		if (w.lane[i].failed) {
			if (e)
				*e = w.lane[i].bad;
			goto out;
		}
	status = 0;
out:
	lanes_free(&w);
	return status;
}
