/*
 * pace.c - how long the sequences of each domain took: wall time from a sequence's begin to its
 * end, over its tokens. Where sequences share batches their times overlap, so this is the latency
 * that somebody waiting would have seen, not work.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "view/table.h"

#define N_COLS(a) (sizeof(a) / sizeof *(a))

static const struct view_col cols[] = {
	VIEW_HEAD, { "sequences", "sequences", VIEW_INT, 0 }, { "tokens", "tokens", VIEW_INT, 0 },
	{ "ms_per_token_p10", "ms/token 10 %", VIEW_REAL, 3 },
	{ "ms_per_token_p50", "median", VIEW_REAL, 3 }, { "ms_per_token_p90", "90 %", VIEW_REAL, 3 },
	{ "ms_per_token_max", "slowest", VIEW_REAL, 3 }, { "seconds_p50", "sequence, s", VIEW_REAL, 2 },
};

struct took { double ms, seconds; uint64_t tokens; };

static int by_ms(const void *a, const void *b)
{
	const struct took *x = a, *y = b;

	return (x->ms > y->ms) - (x->ms < y->ms);
}

static int by_seconds(const void *a, const void *b)
{
	const struct took *x = a, *y = b;

	return (x->seconds > y->seconds) - (x->seconds < y->seconds);
}

/* The smallest element with at least the share q at or below it. */
static size_t nearest(size_t n, double q)
{
	size_t i = (size_t)ceil(q * (double)n);

	return i ? i - 1 : 0;
}

static int row(int64_t run, const struct domain_info *d, struct took *t, size_t n,
	struct view_table *out, struct moe_err *e)
{
	struct view_cell *c = view_table_row(out, e);
	uint64_t tokens = 0;

	if (!c || view_table_head(c, run, d->id ? d->name : "(none)", -1, e))
		return -1;
	for (size_t i = 0; i < n; i++)
		tokens += t[i].tokens;
	c += VIEW_N_HEAD;
	view_set_int(c, (int64_t)n);
	view_set_int(c + 1, (int64_t)tokens);
	qsort(t, n, sizeof *t, by_ms);
	view_set_real(c + 2, t[nearest(n, .1)].ms);
	view_set_real(c + 3, t[nearest(n, .5)].ms);
	view_set_real(c + 4, t[nearest(n, .9)].ms);
	view_set_real(c + 5, t[n - 1].ms);
	qsort(t, n, sizeof *t, by_seconds);
	view_set_real(c + 6, t[nearest(n, .5)].seconds);
	return 0;
}

static int read_domain(struct reader *r, int64_t run, const struct domain_info *d,
	struct view_table *out, struct moe_err *e)
{
	static const char sql[] = "SELECT ended - started, n_prompt + n_generated FROM sequence WHERE "
		"run = ?1 AND coalesce(domain, 0) = ?2 AND ended > started AND n_prompt + n_generated > 0";
	struct took *t = NULL, *more;
	size_t n = 0, cap = 0;
	sqlite3_stmt *st = reader_prepare(r, "the times of sequences", sql, e);
	int rc, status = -1;

	if (!st)
		return -1;
	sqlite3_bind_int64(st, 1, run);
	sqlite3_bind_int64(st, 2, d->id);
	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		double ns = (double)sqlite3_column_int64(st, 0),
			tokens = (double)sqlite3_column_int64(st, 1);

		if (n == cap) {
			cap = cap ? cap * 2 : 64;
			more = realloc(t, cap * sizeof *t);
			if (!more) {
				err_nomem(e, cap * sizeof *t, "the times of sequences");
				goto out;
			}
			t = more;
		}
		t[n++] = (struct took){ ns * 1e-6 / tokens, ns * 1e-9, (uint64_t)tokens };
	}
	if (rc != SQLITE_DONE)
		reader_fail(r, "the times of sequences", e);
	else
		status = n ? row(run, d, t, n, out, e) : 0;
out:
	sqlite3_finalize(st);
	free(t);
	return status;
}

int view_pace(struct reader *r, const struct load_filter *f, struct view_table *out,
	struct moe_err *e)
{
	struct domain_info *d = NULL;
	size_t n = 0;
	int bad;

	view_table_init(out, cols, N_COLS(cols));
	bad = reader_domains(r, f->run, &d, &n, e);
	for (size_t i = 0; i < n && !bad; i++)
		bad = read_domain(r, f->run, &d[i], out, e);
	free(d);
	if (bad) {
		view_table_free(out);
		return -1;
	}
	if (!out->n_row)
		snprintf(out->why, sizeof out->why, "no finished sequence has a begin, an end and tokens");
	return 0;
}
