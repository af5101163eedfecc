/*
 * live.h - the figures of a selection that follow a running writer: what changed is read, not all.
 *
 * The writer commits a chunk and its share of `load` in one transaction, and a chunk's domain,
 * phase and time say which rows of `load` it went into. So whoever knows the sums as they were at
 * chunk N reads the chunks behind N (their head, not their blobs), and then only the rows that
 * those touch. Sums over buckets that chunks no longer go into are kept as they are; a chunk that
 * is late after all makes everything be read again. A finished run, or one that keeps no chunks
 * (detail counts), is always read whole.
 *
 * One thread uses a memory, always with a reader of the same file. Counts are those of
 * reader_load() exactly; sums of real numbers agree to rounding.
 */
#ifndef VIEW_LIVE_H
#define VIEW_LIVE_H

#include "view/view.h"

struct view_live;

struct view_live *view_live_new(struct moe_err *e);
void view_live_free(struct view_live *v);
/* Another file, or one that was replaced: nothing is known any more. */
void view_live_forget(struct view_live *v);

/* As reader_run() and reader_domains(), which look at every sequence of the run: state, heartbeat
 * and lag are as of now, the rest is read again when that has cost less than `share` of the time
 * since. Both are borrowed until the next call. run 0 = the newest. */
int view_live_run(struct view_live *v, struct reader *r, int64_t run, double share,
	const struct run_info **out, const struct domain_info **domain, size_t *n_domain,
	struct moe_err *e);

/* As reader_load(); the caller frees. After view_live_run() of the same run. */
int view_live_load(struct view_live *v, struct reader *r, const struct load_filter *f,
	struct load_set *out, struct moe_err *e);

/* As view_summary(), from the load of the same selection. */
int view_live_summary(struct view_live *v, struct reader *r, const struct load_filter *f,
	const struct load_set *load, struct view_summary *out, struct moe_err *e);

/* Rows of `load` that the last view_live_load() read, in keys of domain, phase and bucket; -1 =
 * all. For tests. */
int view_live_read(const struct view_live *v);

#endif
