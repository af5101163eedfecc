/*
 * walk.h - decisions in batches of tokens, a layer at a time, for the views that ask what a batch
 * would have done. Views only; on top of trace/scan.h, so in several threads.
 *
 * A batch is up to `batch` consecutive tokens in the log's order (sequence, then position); it goes
 * over the ends of sequences, as a packed prefill does. Batches of one layer come in order and
 * never two at once; layers come at the same time. So sums kept per layer have the same bits for
 * any number of threads. Memory is bounded by the batch and the model's shape.
 */
#ifndef VIEW_WALK_H
#define VIEW_WALK_H

#include "trace/scan.h"

enum { WALK_BATCH_MOST = 65536 };

/* One layer of a batch: its decisions without those whose logits held a NaN (no choices), closely
 * packed. */
struct walk_layer {           /* borrowed */
	uint32_t of;              /* tokens of the batch; the last one of a run may be short */
	uint32_t n;               /* of these: with a choice */
	unsigned k, n_expert;
	int32_t *token;           /* [n] */
	uint16_t *experts;        /* [n][k] */
	float *weights;           /* [n][k]; NAN where the run keeps none; NULL: not asked for */
	float *margins;           /* [n]; likewise */
	float *logits;            /* [n][n_expert]; NULL: not asked for, or not kept */
};

struct walk_opt {
	uint32_t batch;
	unsigned want;            /* enum scan_want */
	int threads;              /* as for scan_run */
};

/* fn returns 0, or -1 with e filled in: then that layer is not called again, and the lowest such
 * layer's error is the walk's. worker: 0..scan_threads(o->threads)-1. */
typedef int walk_fn(void *ctx, size_t layer, int worker, const struct walk_layer *l,
	struct moe_err *e);
int walk_each(struct reader *r, const struct load_filter *f, const struct run_info *u,
	const struct walk_opt *o, walk_fn *fn, void *ctx, struct moe_err *e);

#endif
