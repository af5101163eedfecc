/*
 * product.c - products of weights and activations, cut into units of rows for the pool.
 *
 * A unit is some rows of one matrix against all the tokens of its job; a sum is never cut, so the
 * number of threads cannot change a bit. Nothing here allocates.
 */
#include "model/forward.h"

#define UNIT_MIN 16384      /* multiply-adds of a pool unit: between these, about four units a thread */
#define UNIT_MAX (1 << 18)

struct job_run { struct session *s; struct job *jobs; size_t n; };

static void job_rows(struct session *s, const struct job *j, size_t r0, size_t r1, int worker)
{
	const struct weight *w = j->w;

	s->kern->gemm(w->type, j->data, w->row_bytes, w->n_in, r0, r1,
		j->x, j->xs, j->n_tok, j->y, j->ys, s->scratch + (size_t)worker * s->scratch_n);
}

static void job_unit(void *ctx, size_t unit, int worker)
{
	struct job_run *run = ctx;
	size_t lo = 0, hi = run->n;
	struct job *j;

	while (hi - lo > 1) { /* last job whose unit0 <= unit */
		size_t mid = (lo + hi) / 2;

		if (run->jobs[mid].unit0 <= unit)
			lo = mid;
		else
			hi = mid;
	}
	j = &run->jobs[lo];
	unit = (unit - j->unit0) * j->rows;
	job_rows(run->s, j, unit, min_size(unit + j->rows, j->w->n_out), worker);
}

/* Rows of a unit: about `unit` multiply-adds, whole register tiles; in prefill enough rows to use a
 * block of activations while it is in the cache. */
static size_t unit_rows(const struct job *j, size_t unit)
{
	size_t row = j->n_tok * j->w->n_in, rows = unit / (row ? row : 1);

	rows = rows < 4 ? 4 : (rows + 3) & ~(size_t)3;
	return j->n_tok > 8 && rows < 32 ? 32 : rows;
}

void product_run(struct session *s, struct job *jobs, size_t n)
{
	struct job_run run = { s, jobs, n };
	size_t units = 0, cost = 0, unit;

	for (size_t i = 0; i < n; i++)
		cost += jobs[i].n_tok * jobs[i].w->n_in * jobs[i].w->n_out;
	if (cost < INLINE_COST) {
		for (size_t i = 0; i < n; i++)
			job_rows(s, &jobs[i], 0, jobs[i].w->n_out, 0);
		return;
	}
	unit = cost / (4 * (size_t)pool_threads(s->pool));
	unit = unit < UNIT_MIN ? UNIT_MIN : unit > UNIT_MAX ? UNIT_MAX : unit;
	for (size_t i = 0; i < n; i++) {
		jobs[i].rows = unit_rows(&jobs[i], unit);
		jobs[i].unit0 = units;
		units += (jobs[i].w->n_out + jobs[i].rows - 1) / jobs[i].rows;
	}
	pool_run(s->pool, job_unit, &run, units);
}

struct job product_job(const struct weight *w, const float *x, size_t n_tok, float *y, size_t ys)
{
	return (struct job){ .w = w, .data = w->data, .x = x, .xs = w->n_in, .n_tok = n_tok, .y = y, .ys = ys };
}

void product(struct session *s, const struct weight *w, const float *x, size_t n_tok, float *y)
{
	struct job j = product_job(w, x, n_tok, y, w->n_out);

	product_run(s, &j, 1);
}
