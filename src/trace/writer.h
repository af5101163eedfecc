/*
 * writer.h - how a run begins in a database, for writer.c and for runs that are written in one go;
 * and a writer that is told to rest.
 */
#ifndef TRACE_WRITER_H
#define TRACE_WRITER_H

#include <moescope/trace.h>

#include "trace/commit.h"

/* on: the thread behind t commits what is due now, and nothing more until writer_hold(t, 0) or the
 * end; returns when it is at rest. For who measures something else meanwhile: nothing may be logged
 * then. */
void writer_hold(struct moe_trace *t, int on);

/* In one transaction, the caller's if there is one: recovers what a dead writer left, finds or adds
 * the model and adds a live run. Uses o->detail, weights, started and bucket_ns; fills in o->model
 * and o->run. */
int writer_begin_run(sqlite3 *db, const struct moe_run_desc *d, const struct layout *l,
	struct commit_opt *o, struct moe_err *e);

/* A run of which only counts are known: level `counts`, one sequence, state `imported`. tokens
 * [n_moe_layer]; counts: [n_moe_layer] arrays of n_expert picks; sink may be NULL. All of it or
 * nothing is written. Returns the run's id, -1 on error. */
int64_t writer_add_counts(const char *path, const struct moe_run_desc *d, const char *domain,
	const uint64_t *tokens, const uint64_t *const *counts, const struct moe_trace_sink *sink,
	struct moe_err *e);

#endif
