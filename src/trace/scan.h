/*
 * scan.h - every decision of a run, a layer of a chunk at a time, with several threads.
 *
 * A cursor hands out whole tokens; a scan hands out one layer's choices of up to 128 tokens, which
 * is what counting needs, and reads of the rest only what is asked for. Blocks of one layer come in
 * order of sequence and position and never two at once, whatever the number of threads; blocks of
 * different layers come at the same time. So what a caller sums up per layer has the same bits for
 * any number of threads.
 *
 * scan_run() calls back. Who must go through two runs side by side steps through groups of chunks
 * with scan_open() and its neighbours: the owner's thread fills a group, then any thread unpacks
 * layers of it.
 */
#ifndef TRACE_SCAN_H
#define TRACE_SCAN_H

#include "trace/reader.h"

/* What else a block has beside experts and flags. */
enum scan_want { SCAN_WEIGHTS = 1, SCAN_MARGINS = 2, SCAN_LOGITS = 4, SCAN_NEXT = 8 };
enum { SCAN_THREADS_MOST = 8, SCAN_GROUP = 16 };

struct scan_chunk {
	int64_t id, sequence, domain, document; /* as in struct cursor_chunk */
	uint64_t seq;
	uint32_t pos, n;
	uint8_t phase;
	const int32_t *tokens;  /* [n] */
	size_t tag;             /* the caller's, for the blocks of this chunk */
};

struct scan_block {          /* borrowed until the worker's next block */
	const struct scan_chunk *chunk;
	size_t li;              /* MoE layer: index into the run's layers */
	struct moe_layer_desc layer;
	const uint16_t *experts; /* [n][k], rank order, each below n_expert */
	const uint8_t *flags;   /* [n], NULL = all zero */
	const float *weights;   /* [n][k]; NULL: not asked for, or the run keeps none */
	const float *margins;   /* [n]; NULL likewise */
	const float *logits;    /* [n][n_expert]; NULL likewise */
	const uint16_t *next;   /* [n][k of layer li + 1]; NULL: not asked for, or the last layer */
	const uint8_t *next_flags; /* [n], NULL = all zero */
	int worker;             /* 0..threads-1: the thread that calls */
};

struct scan_calls {
	void *ctx;
	/* Once per chunk, in order, in the caller's thread, before its blocks: 1 = hand out its blocks,
	 * 0 = leave them out. NULL = all. May set tag. */
	int (*chunk)(void *ctx, struct scan_chunk *c);
	/* In any thread. May be NULL: then only chunks are handed out. */
	void (*block)(void *ctx, const struct scan_block *b);
	/* Once per layer after its last block, in any thread; not after an error. May be NULL. */
	void (*end)(void *ctx, size_t li, int worker);
	unsigned want;          /* enum scan_want, or-ed */
};

/* Threads that a scan asked for n_threads uses: 0 = as many as there are processors, at most 8. */
int scan_threads(int n_threads);

/* Scan what the filter's run, domain and phase select (buckets are ignored), with
 * scan_threads(n_threads) threads. -1 on error; calls may have been made by then. */
int scan_run(struct reader *r, const struct load_filter *f, int n_threads,
	const struct scan_calls *calls, struct moe_err *e);

/* ---- by hand ---- */

struct scan;
/* workers: how many threads will unpack at the same time. */
struct scan *scan_open(struct reader *r, const struct load_filter *f, unsigned want, int workers,
	struct moe_err *e);
void scan_close(struct scan *s);
/* The next group of at most SCAN_GROUP chunks in place of the present one: 1, 0 = end, -1. */
int scan_fill(struct scan *s, struct moe_err *e);
size_t scan_n(const struct scan *s); /* chunks of the group */
const struct scan_chunk *scan_at(const struct scan *s, size_t i);
/* Layer li of chunk i of the group, unpacked into the worker's own memory. -1 = damaged: the same
 * layer says so from then on, and scan_bad() what it is. */
int scan_unpack(struct scan *s, size_t i, size_t li, int worker, struct scan_block *out);
/* -1 with the first damage of the group by layer, else 0. Owner's thread. */
int scan_bad(const struct scan *s, struct moe_err *e);

#endif
