/*
 * commit.h - the writer's thread: takes blocks out of the ring and commits them.
 *
 * One wake-up is one transaction: chunk rows, load and pace rows, sequences, notes, heartbeat. A
 * transaction is first prepared in memory and can be written again as it is when the database is
 * busy, or full while the user chose to drop: nothing is added twice. Blocks go back to the engine
 * only after the commit.
 *
 * The run's clock is the wall clock at its start plus the monotonic time since: it never steps.
 */
#ifndef TRACE_COMMIT_H
#define TRACE_COMMIT_H

#include <sqlite3.h>

#include "base/ring.h"
#include "trace/block.h"

struct commit;

struct commit_opt {
	sqlite3 *db;                     /* owned by the thread from start to finish */
	struct ring *ring;
	const struct block_shape *shape;
	int64_t run, model, started;     /* started: wall clock, ns */
	int64_t started_mono;
	int64_t bucket_ns, commit_ns;
	enum moe_detail detail;
	enum moe_weights weights;
	int drop;                        /* keep trying on a full disk or a busy database */
	const struct moe_trace_sink *sink; /* NULL = none */
};

/* Reads what it needs of the database and starts the thread. NULL on error. */
struct commit *commit_start(const struct commit_opt *o, struct moe_err *e);

/* Tokens whose chunks are committed. Any thread may ask, at any time. */
uint64_t commit_tokens(const struct commit *c);

/* Has the thread given up? Then e has why. Any thread may ask, at any time. */
int commit_failed(struct commit *c, struct moe_err *e);

/* After ring_close(): waits for the last commit and the run's final state. Frees c; the database
 * stays open. -1 if the thread had given up. */
int commit_finish(struct commit *c, enum moe_run_state state, struct moe_err *e);

#endif
