/*
 * scan.h - every decision of a run, a layer of a chunk at a time, with several threads.
 *
 * A cursor hands out whole tokens; a scan hands out one layer's choices of up to 128 tokens, which is
 * what counting needs, and reads neither weights nor margins nor logits. Blocks of one layer come in
 * order of sequence and position and never two at once, whatever the number of threads; blocks of
 * different layers come at the same time. So what a caller sums up per layer has the same bits for
 * any number of threads.
 */
#ifndef TRACE_SCAN_H
#define TRACE_SCAN_H

#include "trace/reader.h"

struct scan_chunk {
	int64_t id, sequence, domain, document; /* as in struct cursor_chunk */
	uint64_t seq;
	uint32_t pos, n;
	uint8_t phase;
	const int32_t *tokens;  /* [n] */
	size_t tag;             /* the caller's, for the blocks of this chunk */
};

struct scan_block {
	const struct scan_chunk *chunk;
	size_t li;              /* MoE layer: index into the run's layers */
	struct moe_layer_desc layer;
	const uint16_t *experts; /* [n][k], rank order, each below n_expert */
	const uint8_t *flags;   /* [n], NULL = all zero */
};

struct scan_calls {
	void *ctx;
	/* Once per chunk, in order, in the caller's thread, before its blocks: 1 = hand out its blocks,
	 * 0 = leave them out. NULL = all. May set tag. */
	int (*chunk)(void *ctx, struct scan_chunk *c);
	/* In any thread. May be NULL: then only chunks are handed out. */
	void (*block)(void *ctx, const struct scan_block *b);
};

/* Scan what the filter's run, domain and phase select (buckets are ignored), with n_threads threads;
 * 0 = as many as there are processors, at most 8. -1 on error; calls may have been made by then. */
int scan_run(struct reader *r, const struct load_filter *f, int n_threads,
	const struct scan_calls *calls, struct moe_err *e);

#endif
