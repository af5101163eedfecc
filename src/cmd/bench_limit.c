/*
 * bench_limit.c - see bench_limit.h. All threads work at once, as the engine's do: what they share, memory
 * and clock, counts as it is then. The best of some short runs is the limit.
 */
#include "cmd/bench_limit.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/pool.h"
#include "kern/int8.h"

#define READ_BYTES ((size_t)512 << 20) /* beyond any cache */
#define TRIES 5
#define MAX_PARTS 1024

struct work { enum peak kind; uint64_t rounds; const char *mem; size_t n; uint64_t done[MAX_PARTS]; };

static void peak_unit(void *ctx, size_t unit, int worker)
{
	struct work *w = ctx;

	(void)worker;
	w->done[unit] = peak_run(w->kind, w->rounds);
}

static void read_unit(void *ctx, size_t unit, int worker)
{
	struct work *w = ctx;

	(void)worker;
	w->done[unit] = peak_read(w->mem + unit * w->n, w->n);
}

/* Of all units together: multiply-adds, or nothing that counts. */
static uint64_t sum_of(const struct work *w, size_t parts)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < parts; i++)
		sum += w->done[i];
	return sum;
}

static double peak_rate(struct pool *p, enum peak kind, size_t parts)
{
	static struct work w;
	double best = 0;

	w.kind = kind;
	w.rounds = 200; /* one to four milliseconds */
	for (int i = 0; i < 3 * TRIES; i++) {
		int64_t t0 = clock_mono();
		double rate;

		pool_run(p, peak_unit, &w, parts);
		rate = (double)sum_of(&w, parts) / ((double)(clock_mono() - t0) * 1e-9);
		best = rate > best ? rate : best;
	}
	return best;
}

static double read_rate(struct pool *p, size_t parts)
{
	static struct work w;
	static volatile uint64_t keep; /* or nothing would have to be read */
	char *mem = aligned_alloc(64, READ_BYTES);
	double best = 0;

	if (!mem)
		return 0;
	memset(mem, 1, READ_BYTES);
	w.mem = mem;
	w.n = READ_BYTES / parts / 64 * 64;
	for (int i = 0; i < TRIES; i++) {
		int64_t t0 = clock_mono();
		double rate;

		pool_run(p, read_unit, &w, parts);
		rate = (double)(w.n * parts) / ((double)(clock_mono() - t0) * 1e-9);
		keep = sum_of(&w, parts);
		best = rate > best ? rate : best;
	}
	(void)keep;
	free(mem);
	return best;
}

struct count { const struct moe_route_spec *route; int int8; struct limits *l; };

static void count_tensor(void *ctx, enum model_class c, const struct gguf_tensor *t)
{
	const struct count *n = ctx;
	double macs = (double)t->ne[0] * (double)t->ne[1] * (double)t->ne[2];

	if (t->n_dims < 2 || c == MODEL_EMBED || c == MODEL_OUTPUT)
		return;
	if (c == MODEL_EXPERTS)
		macs *= (double)n->route->k / n->route->n_expert;
	n->l->need[!n->int8 ? PEAK_FLOAT : t->type == QT_BF16 ? PEAK_BF16 :
		int8_type_ok(t->type, t->ne[0]) ? PEAK_INT8 : PEAK_FLOAT] += macs;
}

void bench_limits(const struct model *m, const struct session *s, struct limits *out)
{
	size_t threads = (size_t)session_threads(s), parts = threads * 4 > MAX_PARTS ? MAX_PARTS : threads * 4;
	struct count n = { &model_info(m)->route, !strcmp(session_act_name(s), "int8"), out };
	struct pool *p = pool_new(session_threads(s), NULL);

	*out = (struct limits){ 0 };
	model_each_tensor(m, count_tensor, &n);
	if (!p)
		return;
	for (int i = 0; i < PEAK_N; i++)
		out->macs[i] = peak_rate(p, (enum peak)i, parts);
	out->read = read_rate(p, parts);
	pool_free(p);
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
