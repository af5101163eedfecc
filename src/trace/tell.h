/*
 * tell.h - what the writer's thread tells a sink (trace/sink.h) of a transaction, and how it takes
 * the answer. Every function may be called without a sink: then it says nothing.
 *
 * They return 0 or a code of SQLite, so that a refusal ends the transaction as a failed statement
 * does: the database's own where it was full or busy, else SQLITE_ABORT. What the sink said is in
 * err.
 */
#ifndef TRACE_TELL_H
#define TRACE_TELL_H

#include "trace/block.h"
#include "trace/sink.h"

struct tell {
	const struct moe_trace_sink *sink; /* NULL = none */
	sqlite3 *db;
	const struct block_shape *shape;
	enum moe_detail detail;
	enum moe_weights weights;
	unsigned char *rows;     /* a chunk as it is read back: see as_read() */
	struct moe_err err;      /* msg[0]: why the sink refused */
};
int tell_init(struct tell *t, const struct moe_trace_sink *sink, sqlite3 *db,
	const struct block_shape *shape, enum moe_detail detail, enum moe_weights weights,
	struct moe_err *e);
void tell_free(struct tell *t);

/* A transaction has begun: what was said in an earlier one is void; the caller has emptied err. */
int tell_begin(struct tell *t);
/* The blobs of the chunk that was written last; NULL, 0 = not written. */
struct tell_packed { const unsigned char *weights, *margins; size_t n_weights, n_margins; };
int tell_chunk(struct tell *t, struct block_head *h, const struct tell_packed *p);
int tell_seq_begin(struct tell *t, const struct sink_seq *q);
int tell_seq_end(struct tell *t, const struct sink_seq *q);
/* kind "gap": `value` tokens from position pos of sequence seq on. */
int tell_note(struct tell *t, const char *kind, const char *text, int layer, double value,
	uint64_t seq, uint32_t pos);
int tell_tick(struct tell *t);
int tell_finish(struct tell *t, const char *state);
void tell_settled(struct tell *t);

#endif
