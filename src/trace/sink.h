/*
 * sink.h - somebody who must know what is committed, in the transaction that commits it.
 *
 * A sink is called on the thread that owns the writing connection, in this order:
 *
 *	start                  in the transaction that adds the run
 *	begin                  a transaction has begun; what an earlier one that failed said is void
 *	seq_begin  chunk  gap  note  seq_end      what that transaction stores
 *	counts                 instead of chunks: a run of which only sums are known
 *	tick                   before its COMMIT, also when there was nothing else (once a second)
 *	settled                it is committed
 *	finish                 in the transaction that ends the run; settled follows
 *
 * Any callback but settled may return -1 with e filled in: the transaction is rolled back, and the
 * writer gives up (or tries again where the database was full or busy and it would do so anyway).
 * Callbacks may be NULL. They may write to the database, but neither begin nor end transactions.
 */
#ifndef TRACE_SINK_H
#define TRACE_SINK_H

#include <sqlite3.h>

#include "trace/reader.h"

struct sink_seq {
	uint64_t seq;
	const char *domain, *name; /* NULL = none; seq_begin only */
	uint64_t n_prompt;         /* seq_end only, like the rest */
	uint32_t n_generated, n_scored;
	uint64_t n_bytes;
	double nll;
};

struct moe_trace_sink {
	void *ctx;
	int want_logits; /* in chunks, even where the database does not keep them */
	int (*start)(void *ctx, sqlite3 *db, int64_t run, struct moe_err *e);
	int (*begin)(void *ctx, struct moe_err *e);
	int (*seq_begin)(void *ctx, const struct sink_seq *q, struct moe_err *e);
	/* The decisions as a reader of the database will get them; id 0 where they are not stored. Of
	 * the chunk's fields domain, document and sequence are not set. */
	int (*chunk)(void *ctx, int64_t id, const struct cursor_chunk *c, struct moe_err *e);
	/* counts: [n] arrays of layers[i].n_expert picks; tokens: the most that a layer had. */
	int (*counts)(void *ctx, uint64_t seq, uint64_t tokens, const struct moe_layer_desc *layers,
		size_t n, const uint64_t *const *counts, struct moe_err *e);
	int (*gap)(void *ctx, uint64_t seq, uint32_t pos, uint64_t tokens, struct moe_err *e);
	int (*note)(void *ctx, const char *kind, const char *text, int layer, double value,
		struct moe_err *e);
	int (*seq_end)(void *ctx, const struct sink_seq *q, struct moe_err *e);
	int (*tick)(void *ctx, struct moe_err *e);
	int (*finish)(void *ctx, const char *state, struct moe_err *e);
	void (*settled)(void *ctx);
};

#endif
