/*
 * walk.h - decisions in batches of tokens, for the views that ask what a batch would have done.
 * Views only. The one place where these views decode decisions.
 *
 * A batch is up to `batch` consecutive tokens in the log's order (sequence, then position); it goes
 * over the ends of sequences, as a packed prefill does. All of it is copied, so memory is
 * bounded by the batch and the model's shape.
 */
#ifndef VIEW_WALK_H
#define VIEW_WALK_H

#include "trace/reader.h"

enum { WALK_BATCH_MOST = 65536 };

struct walk_batch {           /* borrowed until the next step */
	uint32_t n;
	size_t n_layer;
	const struct moe_layer_desc *layers;
	const size_t *k_at, *e_at; /* [n_layer] */
	size_t k_row, e_row;
	const int32_t *token;     /* [n] */
	const uint32_t *pos;      /* [n] */
	const int64_t *sequence, *document, *domain; /* [n] */
	const uint64_t *seq;      /* [n] the engine's number of the sequence */
	const uint16_t *experts;  /* [n][k_row] */
	const float *weights;     /* [n][k_row] */
	const float *margins;     /* [n][n_layer] */
	const uint8_t *flags;     /* [n][n_layer] */
	const float *logits;      /* [n][e_row], or NULL: not asked for, or not kept */
};

struct walk;
/* logits: 1 = also the router's logits, where the run has them. */
struct walk *walk_open(struct reader *r, const struct load_filter *f, uint32_t batch, int logits,
	struct moe_err *e);
int walk_next(struct walk *w, const struct walk_batch **out, struct moe_err *e); /* 1, 0 = end, -1 */
void walk_close(struct walk *w);

/* One layer of a batch: its decisions without those whose logits held a NaN (no choices), closely
 * packed. `at` [n] is each one's token in the batch. */
struct walk_layer {
	uint32_t n;
	unsigned k, n_expert;
	uint32_t *at;
	uint16_t *experts;        /* [n][k] */
	float *weights;           /* [n][k] */
	float *logits;            /* [n][n_expert] or NULL */
	float *logits_mem;
};
int walk_layer_init(struct walk_layer *l, const struct run_info *u, uint32_t batch, int logits,
	struct moe_err *e);
void walk_layer_free(struct walk_layer *l);
void walk_layer_get(struct walk_layer *l, const struct walk_batch *b, size_t layer);

/* Every batch, and of each batch every layer in turn: fn returns 0 or -1 with e filled in. */
typedef int walk_fn(void *ctx, size_t layer, const struct walk_layer *l, const struct walk_batch *b,
	struct moe_err *e);
int walk_each(struct reader *r, const struct load_filter *f, const struct run_info *u,
	uint32_t batch, int logits, walk_fn *fn, void *ctx, struct moe_err *e);

#endif
