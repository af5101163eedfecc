/*
 * walk.c - see walk.h. Chunks of the cursor are appended until the batch is full; what is left of a
 * chunk starts the next one.
 */
#include "view/walk.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "view/decisions.h"

#define BATCH_BYTES ((size_t)1 << 30)

struct walk {
	struct cursor *cur;
	struct cursor_chunk c;
	uint32_t done;            /* tokens of c that were handed out */
	int have, end;            /* is there a chunk; was it the last */
	uint32_t batch;
	size_t room;              /* tokens that the arrays have room for */
	int want_logits, lacks;   /* lacks: some token of the batch has no logits */
	struct walk_batch b;
	int32_t *token;
	uint32_t *pos;
	int64_t *sequence, *document, *domain;
	uint64_t *seq;
	uint16_t *experts;
	float *weights, *margins, *logits;
	uint8_t *flags;
};

struct walk *walk_open(struct reader *r, const struct load_filter *f, uint32_t batch, int logits,
	struct moe_err *e)
{
	struct walk *w = calloc(1, sizeof *w);

	if (!w) {
		err_nomem(e, sizeof *w, "a walk over decisions");
		return NULL;
	}
	w->batch = batch;
	w->want_logits = logits;
	w->cur = cursor_open(r, f, e);
	if (!w->cur) {
		walk_close(w);
		return NULL;
	}
	return w;
}

static void arrays_free(struct walk *w)
{
	free(w->token);
	free(w->pos);
	free(w->sequence);
	free(w->document);
	free(w->domain);
	free(w->seq);
	free(w->experts);
	free(w->weights);
	free(w->margins);
	free(w->flags);
	free(w->logits);
}

void walk_close(struct walk *w)
{
	if (!w)
		return;
	cursor_close(w->cur);
	arrays_free(w);
	free(w);
}

/* The shape is known with the first chunk. */
static int arrays_init(struct walk *w, struct moe_err *e)
{
	const struct cursor_chunk *c = &w->c;
	size_t n = w->batch;
	size_t each = 40 + c->k_row * 6 + c->n_layer * 5 + (w->want_logits ? c->e_row * 4 : 0);

	if (n > BATCH_BYTES / each)
		return err_set(e, MOE_ERR_USAGE, "a batch of %u tokens takes %zu bytes of decisions; "
			"a batch of at most %zu fits", w->batch, n * each, BATCH_BYTES / each);
	w->token = malloc(n * sizeof *w->token);
	w->pos = malloc(n * sizeof *w->pos);
	w->sequence = malloc(n * sizeof *w->sequence);
	w->document = malloc(n * sizeof *w->document);
	w->domain = malloc(n * sizeof *w->domain);
	w->seq = malloc(n * sizeof *w->seq);
	w->experts = malloc(n * c->k_row * sizeof *w->experts);
	w->weights = malloc(n * c->k_row * sizeof *w->weights);
	w->margins = malloc(n * c->n_layer * sizeof *w->margins);
	w->flags = malloc(n * c->n_layer);
	w->logits = w->want_logits ? malloc(n * c->e_row * sizeof *w->logits) : NULL;
	if (!w->token || !w->pos || !w->sequence || !w->document || !w->domain || !w->seq || !w->experts ||
	    !w->weights || !w->margins || !w->flags || (w->want_logits && !w->logits))
		return err_nomem(e, n * each, "a batch of decisions");
	w->room = n;
	w->b = (struct walk_batch){ .n_layer = c->n_layer, .layers = c->layers, .k_at = c->k_at,
		.e_at = c->e_at, .k_row = c->k_row, .e_row = c->e_row, .token = w->token, .pos = w->pos,
		.sequence = w->sequence, .document = w->document, .domain = w->domain, .seq = w->seq,
		.experts = w->experts, .weights = w->weights, .margins = w->margins, .flags = w->flags };
	return 0;
}

/* Decoding: n tokens of the chunk, from its token `from` on, become tokens at, at + 1 .. of the
 * batch. */
static void take(struct walk *w, uint32_t from, uint32_t at, uint32_t n)
{
	const struct cursor_chunk *c = &w->c;

	memcpy(w->token + at, c->tokens + from, n * sizeof *w->token);
	memcpy(w->experts + at * c->k_row, c->experts + from * c->k_row, n * c->k_row * sizeof *w->experts);
	memcpy(w->weights + at * c->k_row, c->weights + from * c->k_row, n * c->k_row * sizeof *w->weights);
	memcpy(w->margins + at * c->n_layer, c->margins + from * c->n_layer,
		n * c->n_layer * sizeof *w->margins);
	if (c->flags)
		memcpy(w->flags + at * c->n_layer, c->flags + from * c->n_layer, n * c->n_layer);
	else
		memset(w->flags + at * c->n_layer, 0, n * c->n_layer);
	for (uint32_t i = 0; i < n; i++) {
		w->pos[at + i] = c->pos + from + i;
		w->sequence[at + i] = c->sequence;
		w->document[at + i] = c->document;
		w->domain[at + i] = c->domain;
		w->seq[at + i] = c->seq;
	}
	if (w->want_logits && c->logits)
		memcpy(w->logits + at * c->e_row, c->logits + from * c->e_row,
			n * c->e_row * sizeof *w->logits);
	w->lacks |= !c->logits;
}

int walk_next(struct walk *w, const struct walk_batch **out, struct moe_err *e)
{
	uint32_t n = 0;
	int got;

	w->lacks = 0;
	while (n < w->batch && !w->end) {
		uint32_t more;

		if (!w->have) {
			got = cursor_next(w->cur, &w->c, e);
			if (got < 0)
				return -1;
			w->end = !got;
			w->have = got;
			w->done = 0;
			if (got && !w->room && arrays_init(w, e))
				return -1;
			continue;
		}
		more = w->c.n - w->done < w->batch - n ? w->c.n - w->done : w->batch - n;
		take(w, w->done, n, more);
		n += more;
		w->done += more;
		w->have = w->done < w->c.n;
	}
	w->b.n = n;
	w->b.logits = w->lacks ? NULL : w->logits;
	*out = &w->b;
	return n > 0;
}

/* ---- one layer ---- */

int walk_layer_init(struct walk_layer *l, const struct run_info *u, uint32_t batch, int logits,
	struct moe_err *e)
{
	size_t k = 1, n_expert = 1;

	memset(l, 0, sizeof *l);
	for (uint32_t i = 0; i < u->n_moe_layer; i++) {
		k = u->layers[i].k > k ? u->layers[i].k : k;
		n_expert = u->layers[i].n_expert > n_expert ? u->layers[i].n_expert : n_expert;
	}
	l->at = malloc(batch * sizeof *l->at);
	l->experts = malloc(batch * k * sizeof *l->experts);
	l->weights = malloc(batch * k * sizeof *l->weights);
	l->logits_mem = logits ? malloc(batch * n_expert * sizeof *l->logits_mem) : NULL;
	if (l->at && l->experts && l->weights && (!logits || l->logits_mem))
		return 0;
	walk_layer_free(l);
	return err_nomem(e, (unsigned long long)batch * (k * 6 + (logits ? n_expert * 4 : 0)),
		"a layer's decisions");
}

void walk_layer_free(struct walk_layer *l)
{
	free(l->at);
	free(l->experts);
	free(l->weights);
	free(l->logits_mem);
	memset(l, 0, sizeof *l);
}

void walk_layer_get(struct walk_layer *l, const struct walk_batch *b, size_t layer)
{
	uint32_t n = 0;

	l->k = b->layers[layer].k;
	l->n_expert = b->layers[layer].n_expert;
	l->logits = b->logits ? l->logits_mem : NULL;
	for (uint32_t t = 0; t < b->n; t++) {
		if (b->flags[t * b->n_layer + layer] & MOE_EV_NAN)
			continue;
		l->at[n] = t;
		memcpy(l->experts + (size_t)n * l->k, b->experts + t * b->k_row + b->k_at[layer],
			l->k * sizeof *l->experts);
		memcpy(l->weights + (size_t)n * l->k, b->weights + t * b->k_row + b->k_at[layer],
			l->k * sizeof *l->weights);
		if (l->logits)
			memcpy(l->logits + (size_t)n * l->n_expert, b->logits + t * b->e_row + b->e_at[layer],
				l->n_expert * sizeof *l->logits);
		n++;
	}
	l->n = n;
}

int walk_each(struct reader *r, const struct load_filter *f, const struct run_info *u,
	uint32_t batch, int logits, walk_fn *fn, void *ctx, struct moe_err *e)
{
	struct walk *w = walk_open(r, f, batch, logits, e);
	const struct walk_batch *b;
	struct walk_layer l = { 0 };
	int got = -1, bad = 0;

	if (!w)
		return -1;
	while (!bad && (got = walk_next(w, &b, e)) > 0) {
		if (!l.at) /* after the walk's own check of what a batch takes */
			bad = walk_layer_init(&l, u, batch, logits, e);
		for (size_t i = 0; !bad && i < b->n_layer; i++) {
			walk_layer_get(&l, b, i);
			bad = fn(ctx, i, &l, b, e);
		}
	}
	walk_layer_free(&l);
	walk_close(w);
	return bad || got < 0 ? -1 : 0;
}
