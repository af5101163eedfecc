/*
 * product.c - products of weights and activations, cut into units of rows for the pool.
 *
 * A unit is some rows of one matrix against all the tokens of its job; a sum is never cut, so the
 * number of threads cannot change a bit. Quantised weights meet activations rounded to 8 bits
 * (kern/int8.h), weights of BF16 such rounded to BF16 (kern/kern.h), unless the session was told not to;
 * these are rounded once, before the units. Whether a job is of such a kind depends on its matrix alone.
 * Nothing here allocates.
 */
#include <assert.h>

#include "model/forward.h"
#include "model/lora.h"

#define UNIT_MIN 16384      /* multiply-adds of a pool unit: between these, about four units a thread */
#define UNIT_MAX (1 << 25)  /* so that tiles follow each other: the next is asked for in time */
#define UNIT_STREAM (1 << 19) /* and for one token, eight: neighbours are one stream from memory */
#define STREAM_ROWS 16        /* there, rows of a unit are a multiple */

#define SHORT_ROW 256 /* activations of rows below it, as of a head, stay single precision */

struct job_run { struct session *s; struct job *jobs; size_t n; };

/* next: see struct int8_kern. */
static void job_rows(struct session *s, const struct job *j, size_t r0, size_t r1, const void *next,
	int worker)
{
	const struct weight *w = j->w;

	if (j->inputs == INPUT_INT8)
		s->int8->gemm(w->type, j->data, w->row_bytes, w->n_in, r0, r1, j->a8, j->n_tok, j->y, j->ys,
			next, s->scratch8 + (size_t)worker * INT8_SCRATCH);
	else if (j->inputs == INPUT_BF16)
		s->bf16->gemm(j->data, w->row_bytes, w->n_in, r0, r1, j->laid, j->n_tok, j->y, j->ys);
	else
		s->kern->gemm(w->type, j->data, w->row_bytes, w->n_in, r0, r1, j->x, j->xs, j->n_tok,
			j->y, j->ys, s->scratch + (size_t)worker * s->scratch_n);
}

/* The job of a unit and its rows *r0 .. *r1 - 1. */
static const struct job *unit_job(const struct job *jobs, size_t n, size_t unit, size_t *r0, size_t *r1)
{
	size_t lo = 0, hi = n;
	const struct job *j;

	while (hi - lo > 1) { /* last job whose unit0 <= unit */
		size_t mid = (lo + hi) / 2;

		if (jobs[mid].unit0 <= unit)
			lo = mid;
		else
			hi = mid;
	}
	j = &jobs[lo];
	*r0 = (unit - j->unit0) * j->rows;
	*r1 = min_size(*r0 + j->rows, j->w->n_out);
	return j;
}

static void job_unit(void *ctx, size_t unit, int worker)
{
	const struct job_run *run = ctx;
	size_t r0, r1, n0, n1, then = pool_then(run->s->pool, worker);
	const struct job *j = unit_job(run->jobs, run->n, unit, &r0, &r1);
	const struct job *next = then != SIZE_MAX ? unit_job(run->jobs, run->n, then, &n0, &n1) : NULL;

	job_rows(run->s, j, r0, r1, next ? next->data + n0 * next->w->row_bytes : NULL, worker);
}

/* Rows of a unit: about `unit` multiply-adds, whole register tiles; in prefill enough rows to use a
 * block of activations while it is in the cache. */
static size_t unit_rows(const struct job *j, size_t unit)
{
	size_t row = j->n_tok * j->w->n_in, rows = unit / (row ? row : 1);

	if (j->inputs == INPUT_INT8)
		return rows < INT8_ROWS ? INT8_ROWS : rows - rows % INT8_ROWS;
	rows = rows < 4 ? 4 : (rows + 3) & ~(size_t)3;
	return j->n_tok > 8 && rows < 32 ? 32 : rows;
}

/* ---- rounded activations ---- */

/* Bytes of rows of n activations, rounded as `in` says. */
static size_t room(const struct session *s, enum input_kind in, size_t n, size_t rows)
{
	return in == INPUT_BF16 ? s->bf16->bytes(n) * rows : (act8_bytes(n, rows) + 63) & ~(size_t)63;
}

/* Enough for one job of each of these shapes, and for all experts of a batch at once. */
uint64_t product_rounded_bytes(const struct session *s, uint32_t n_batch)
{
	const struct model *m = s->m;
	const struct hparams *hp = &m->hp;
	uint64_t t = n_batch, tk = t * (hp->k ? hp->k : 1);
	const struct { uint64_t n, rows; } shape[] = { { hp->n_embd, tk }, { hp->n_ff_expert, tk },
		{ hp->n_ff, t }, { hp->n_ff_shared, t }, { (uint64_t)hp->n_head * hp->head_dim_v, t },
		{ hp->q_rank, t }, { hp->kv_rank, t * hp->n_head }, { hp->n_embd, HEAD_ROWS } };
	uint64_t most = 0;

	for (size_t i = 0; i < sizeof shape / sizeof shape[0]; i++) {
		for (int in = INPUT_INT8; in <= (m->has_bf16 ? INPUT_BF16 : INPUT_INT8); in++) {
			uint64_t b = room(s, (enum input_kind)in, (size_t)shape[i].n, (size_t)shape[i].rows);

			most = b > most ? b : most;
		}
	}
	return most + 64 * ((uint64_t)hp->n_expert + hp->n_head);
}

static void round_rows(const struct session *s, const struct job *j, size_t lo, size_t hi)
{
	size_t n = j->w->n_in;

	if (j->inputs == INPUT_INT8 && !j->from) {
		s->int8->round(j->x, j->xs, n, lo, hi, j->a8);
		return;
	}
	for (; lo < hi; lo++) {
		const float *x = j->x + (j->from ? j->from[lo] : lo) * j->xs;

		if (j->inputs == INPUT_INT8)
			s->int8->round(x, j->xs, n, 0, 1, act8_at(j->a8, n, lo));
		else
			s->bf16->lay(x, n, j->laid + lo * s->bf16->bytes(n));
	}
}

struct round_run { struct session *s; struct job *jobs; size_t n, rows; };

/* Rows unit * rows ... of the inputs, counted over all jobs that have one of their own. */
static void round_unit(void *ctx, size_t unit, int worker)
{
	const struct round_run *run = ctx;
	size_t at = unit * run->rows, end = at + run->rows, first = 0;

	(void)worker;
	for (size_t i = 0; i < run->n && first < end; i++) {
		const struct job *j = &run->jobs[i];
		size_t lo, hi;

		if (j->inputs == INPUT_EXACT || (i && j->laid == run->jobs[i - 1].laid))
			continue;
		lo = at > first ? at - first : 0;
		hi = min_size(end - first, j->n_tok);
		if (lo < hi)
			round_rows(run->s, j, lo, hi);
		first += j->n_tok;
	}
}

static enum input_kind inputs_of(const struct session *s, const struct weight *w)
{
	if (!s->int8 || w->n_in < SHORT_ROW)
		return INPUT_EXACT;
	return w->type == QT_BF16 ? INPUT_BF16 : int8_type_ok(w->type, w->n_in) ? INPUT_INT8 : INPUT_EXACT;
}

int product_rounds(const struct session *s, const struct weight *w)
{
	return inputs_of(s, w) != INPUT_EXACT;
}

static size_t first_row(const struct job *j)
{
	return j->from ? j->from[0] : 0;
}

/* The same rows of the same x; gate and up share one list, the experts of one token one row. */
static int same_input(const struct job *a, const struct job *b)
{
	return a->x == b->x && a->n_tok == b->n_tok && a->w->n_in == b->w->n_in &&
		(a->from == b->from || (a->n_tok == 1 && first_row(a) == first_row(b)));
}

/* Decides which jobs take rounded activations and makes them; neighbours with one input share it.
 * Returns how many of the jobs found room, at least 1. */
static size_t round_inputs(struct session *s, struct job *jobs, size_t n)
{
	struct round_run run = { s, jobs, n, 0 };
	size_t used = 0, rows = 0, cost = 0;

	for (size_t i = 0; i < n; i++) {
		struct job *j = &jobs[i];
		const struct job *last = i ? j - 1 : NULL;

		j->inputs = inputs_of(s, j->w);
		j->laid = NULL;
		if (j->inputs == INPUT_EXACT)
			continue;
		if (last && last->inputs == j->inputs && same_input(last, j)) {
			j->laid = last->laid;
			j->a8 = last->a8;
			continue;
		}
		if (i && used + room(s, j->inputs, j->w->n_in, j->n_tok) > s->rounded_n) {
			run.n = n = i;
			break;
		}
		j->laid = s->rounded + used;
		if (j->inputs == INPUT_INT8)
			j->a8 = act8_lay(j->laid, j->w->n_in, j->n_tok);
		used += room(s, j->inputs, j->w->n_in, j->n_tok);
		rows += j->n_tok;
		cost += j->n_tok * j->w->n_in;
	}
	assert(used <= s->rounded_n);
	if (!rows)
		return n;
	run.rows = cost < INLINE_COST ? rows : (rows + 4 * (size_t)pool_threads(s->pool) - 1) /
		(4 * (size_t)pool_threads(s->pool));
	pool_run(s->pool, round_unit, &run, (rows + run.rows - 1) / run.rows);
	return n;
}

/* ---- all together ---- */

static size_t all_cost(const struct job *jobs, size_t n)
{
	size_t cost = 0;

	for (size_t i = 0; i < n; i++)
		cost += jobs[i].n_tok * jobs[i].w->n_in * jobs[i].w->n_out;
	return cost;
}

static size_t up_to(size_t n, size_t step)
{
	return (n + step - 1) / step * step;
}

/* Cuts jobs of `cost` multiply-adds into units; returns how many. */
static size_t lay_units(const struct session *s, struct job *jobs, size_t n, size_t cost)
{
	const int one = jobs[0].n_tok == 1;
	size_t unit = cost / ((one ? 8 : 4) * (size_t)pool_threads(s->pool));
	size_t most = one ? UNIT_STREAM : UNIT_MAX, units = 0;

	unit = unit < UNIT_MIN ? UNIT_MIN : unit > most ? most : unit;
	for (size_t i = 0; i < n; i++) {
		struct job *j = &jobs[i];

		j->rows = one ? up_to(unit / j->w->n_in + 1, STREAM_ROWS) : unit_rows(j, unit);
		j->unit0 = units;
		units += (j->w->n_out + j->rows - 1) / j->rows;
	}
	return units;
}

/* As many of the jobs as have room for their activations; returns their number. */
static size_t run_some(struct session *s, struct job *jobs, size_t n)
{
	struct job_run run = { s, jobs, n };
	size_t cost;

	run.n = n = round_inputs(s, jobs, n);
	cost = all_cost(jobs, n);
	if (cost >= INLINE_COST) {
		pool_run(s->pool, job_unit, &run, lay_units(s, jobs, n, cost));
		return n;
	}
	for (size_t i = 0; i < n; i++)
		job_rows(s, &jobs[i], 0, jobs[i].w->n_out, NULL, 0);
	return n;
}

void product_ahead(struct session *s, struct job *jobs, size_t n)
{
	int threads = pool_threads(s->pool);
	size_t cost = n ? all_cost(jobs, n) : 0, units = cost < INLINE_COST ? 0 : lay_units(s, jobs, n, cost);

	for (int i = 0; i < threads && i < POOL_HINTS; i++) {
		const struct job *j;
		size_t r0, r1;

		if ((size_t)i >= units || jobs[0].n_tok > 1) {
			pool_ahead(s->pool, i, NULL);
			continue;
		}
		j = unit_job(jobs, n, pool_first(s->pool, i, units), &r0, &r1);
		pool_ahead(s->pool, i, j->data + r0 * j->w->row_bytes);
	}
}

void product_run(struct session *s, struct job *jobs, size_t n)
{
	for (size_t i = 0; i < n;)
		i += run_some(s, jobs + i, n - i);
	if (s->m->lora_rank)
		lora_run(s, jobs, n);
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
