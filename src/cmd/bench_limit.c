/*
 * bench_limit.c - see bench_limit.h. All threads work at once, as the engine's do: what they share, memory
 * and clock, counts as it is then. The best of a few short runs is the limit of that moment.
 */
#include "cmd/bench_limit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/pool.h"
#include "kern/int8.h"

#define READ_BYTES ((size_t)512 << 20) /* beyond any cache */
#define LARGE_PAGE ((size_t)2 << 20)
#define TRIES 3
#define MAX_PARTS 1024

struct limiter {
	struct pool *pool;
	size_t parts;             /* units of a run: some for each thread */
	char *mem;                /* READ_BYTES in large pages where there are any, as weights are */
	enum peak kind;           /* of the run */
	uint64_t rounds;
	size_t far;               /* of a run that reads: see peak_read */
	uint64_t done[MAX_PARTS]; /* of units: multiply-adds, or nothing that counts */
	int int8;
	const struct model_info *model;
	double n_prefill;
	struct limits limits;     /* need; rates as they were last measured */
};

static void peak_unit(void *ctx, size_t unit, int worker)
{
	struct limiter *l = ctx;

	(void)worker;
	l->done[unit] = peak_run(l->kind, l->rounds);
}

static void read_unit(void *ctx, size_t unit, int worker)
{
	struct limiter *l = ctx;
	size_t n = READ_BYTES / l->parts / 64 * 64;

	(void)worker;
	l->done[unit] = peak_read(l->mem + unit * n, n, l->far);
}

static double sum_done(const struct limiter *l)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < l->parts; i++)
		sum += l->done[i];
	return (double)sum;
}

/* The best of some runs: multiply-adds a second. */
static double peak_rate(struct limiter *l, enum peak kind)
{
	double best = 0;

	l->kind = kind;
	l->rounds = 200; /* one to four milliseconds */
	for (int i = 0; i < TRIES; i++) {
		int64_t t0 = clock_mono();
		double rate;

		pool_run(l->pool, peak_unit, l, l->parts);
		rate = sum_done(l) / ((double)(clock_mono() - t0) * 1e-9);
		best = rate > best ? rate : best;
	}
	return best;
}

static double read_rate(struct limiter *l)
{
	static volatile double keep; /* or nothing would have to be read */
	double best = 0;

	for (int i = 0; i < 2 * TRIES; i++) { /* in both ways */
		int64_t t0 = clock_mono();
		double rate;

		l->far = i % 2 ? PEAK_FAR : 0;
		pool_run(l->pool, read_unit, l, l->parts);
		rate = (double)(READ_BYTES / l->parts / 64 * 64 * l->parts) / ((double)(clock_mono() - t0) * 1e-9);
		keep = sum_done(l);
		best = rate > best ? rate : best;
	}
	(void)keep;
	return best;
}

/* A token's share of a tensor: rows that nobody reads are left out (model/forward.h). */
static double share_of(const struct limiter *l, enum model_class c, const struct gguf_tensor *t)
{
	unsigned layer = 0;
	int last = sscanf(t->name, "blk.%u.", &layer) == 1 && layer + 1 == l->model->n_layer;
	int ffn = c == MODEL_EXPERTS || c == MODEL_SHARED || c == MODEL_DENSE_FFN;
	const struct moe_route_spec *route = &l->model->route;
	double share = c == MODEL_EXPERTS ? (double)route->k / route->n_expert : 1;

	if (c == MODEL_OUTPUT || (last && ffn))
		share /= l->n_prefill;
	return share;
}

static void count_tensor(void *ctx, enum model_class c, const struct gguf_tensor *t)
{
	struct limiter *l = ctx;
	double macs = (double)t->ne[0] * (double)t->ne[1] * (double)t->ne[2];

	if (t->n_dims < 2 || c == MODEL_EMBED)
		return;
	l->limits.need[!l->int8 ? PEAK_FLOAT : t->type == QT_BF16 ? PEAK_BF16 :
		int8_type_ok(t->type, t->ne[0]) ? PEAK_INT8 : PEAK_FLOAT] += macs * share_of(l, c, t);
}

struct limiter *limiter_new(const struct model *m, const struct session *s, size_t n_prefill,
	struct moe_err *e)
{
	struct limiter *l = calloc(1, sizeof *l);
	size_t threads = (size_t)session_threads(s);

	if (!l || !(l->mem = aligned_alloc(LARGE_PAGE, READ_BYTES))) {
		free(l);
		err_nomem(e, READ_BYTES, "measuring how fast memory is read");
		return NULL;
	}
	(void)madvise(l->mem, READ_BYTES, MADV_HUGEPAGE);
	memset(l->mem, 1, READ_BYTES);
	l->parts = threads * 4 > MAX_PARTS ? MAX_PARTS : threads * 4;
	l->int8 = !strcmp(session_act_name(s), "int8");
	l->model = model_info(m);
	l->n_prefill = (double)n_prefill;
	model_each_tensor(m, count_tensor, l);
	if (!(l->pool = pool_new(session_threads(s), e))) {
		limiter_free(l);
		return NULL;
	}
	return l;
}

void limiter_free(struct limiter *l)
{
	if (!l)
		return;
	pool_free(l->pool);
	free(l->mem);
	free(l);
}

struct limits limiter_take(struct limiter *l, enum moe_phase phase)
{
	if (phase == MOE_DECODE)
		l->limits.read = read_rate(l);
	for (int i = 0; i < PEAK_N && phase == MOE_PREFILL; i++)
		if (l->limits.need[i] > 0 || !(l->limits.macs[i] > 0))
			l->limits.macs[i] = peak_rate(l, (enum peak)i);
	return l->limits;
}

double limit_prefill(const struct limits *l)
{
	double sum = 0;

	for (int i = 0; i < PEAK_N; i++)
		sum += l->need[i] / l->macs[i];
	return sum;
}

double limit_decode(const struct limits *l, const struct model *m, const struct session *s, uint32_t n)
{
	return (double)(model_info(m)->bytes_per_token + session_kv_bytes(s, n)) / l->read;
}
