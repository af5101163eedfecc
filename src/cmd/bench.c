/*
 * bench.c - `moescope bench`: speed of the engine on this machine beside its physical limits, and
 * the cost of logging as a paired ratio.
 *
 * Two sessions of one model, one with the trace hook and one without, take turns over the same
 * random tokens; which goes first alternates. Each pair gives one ratio; medians are printed with
 * the quartiles, since single runs on a shared machine say little. With --audit both sides log, and one
 * of them keeps an audit log as well.
 */
#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audit/admin.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/pool.h"
#include "base/rng.h"
#include "cmd/engine.h"
#include "cmd/record.h"
#include "cmd/show.h"

void openblas_set_num_threads(int n); /* cblas.h of OpenBLAS declares it under some settings only */

#define MAX_PAIRS 1001

static struct load_opts lo;
static long long pairs = 15, n_prefill = 512, n_decode = 128;
static int detail = MOE_DETAIL_ROUTES, json, no_log, audit;

struct side { /* one of the two sessions */
	struct session *s;
	struct moe_trace *t;
	struct record rec;   /* of the audit log, if it has one */
	size_t n_vocab;
	uint64_t seq;
};

struct bench {
	struct loaded l;
	struct side plain, logged;
	int32_t *ids;
	size_t n_pre, n_dec;
	double t[2][2][MAX_PAIRS]; /* [prefill, decode][plain, logged] seconds */
	char dir[64];                /* of the databases; nothing is left of it */
};

/* ---- limits ---- */

struct read_run { const float *p; size_t n; const struct kern *k; float sum[64]; };

static void read_unit(void *ctx, size_t unit, int worker)
{
	struct read_run *r = ctx;

	(void)worker;
	r->sum[unit] = r->k->sum(r->p + unit * r->n, r->n);
}

/* Bytes per second that all threads together read from memory, best of five over 512 MiB. */
static double read_bandwidth(struct session *s, int threads)
{
	size_t n = (size_t)512 << 20, parts = (size_t)threads * 4 > 64 ? 64 : (size_t)threads * 4;
	struct read_run r = { .n = n / 4 / parts, .k = session_kern(s) };
	struct pool *p = pool_new(threads, NULL);
	float *mem = malloc(n);
	double best = 0;

	if (mem && p) {
		for (size_t i = 0; i < n / 4; i++)
			mem[i] = (float)(i & 255);
		r.p = mem;
		for (int i = 0; i < 5; i++) {
			int64_t t0 = clock_mono();
			double rate;

			pool_run(p, read_unit, &r, parts);
			rate = (double)n / ((double)(clock_mono() - t0) * 1e-9);
			best = rate > best ? rate : best;
		}
	}
	free(mem);
	pool_free(p);
	return best;
}

/* Multiply-adds per second of OpenBLAS's single-precision product, best of five at 1024^3. */
static double sgemm_rate(int threads)
{
	enum { N = 1024 };
	float *a = malloc(3ul * N * N * sizeof *a);
	double best = 0;

	if (!a)
		return 0;
	for (size_t i = 0; i < 3ul * N * N; i++)
		a[i] = (float)(i % 17) * 0.01f;
	openblas_set_num_threads(threads);
	for (int i = 0; i < 5; i++) {
		int64_t t0 = clock_mono();
		double rate;

		cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, N, N, N, 1, a, N, a + N * N, N, 0,
			a + 2 * N * N, N);
		rate = (double)N * N * N / ((double)(clock_mono() - t0) * 1e-9);
		best = rate > best ? rate : best;
	}
	free(a);
	return best;
}

/* ---- runs ---- */

static int on_logits(void *ctx, uint32_t pos, const float *row, struct moe_err *e)
{
	struct side *side = ctx;

	return record_logits(&side->rec, side->seq, pos, row, side->n_vocab, e);
}

static int one_run(const struct bench *b, struct side *side, uint64_t seq, double *prefill,
	double *decode, struct moe_err *e)
{
	struct moe_seq_info info = { .seq = seq, .domain = "bench" };
	struct moe_seq_result res = { .seq = seq, .n_prompt = (uint32_t)b->n_pre,
		.n_generated = (uint32_t)b->n_dec };
	struct session_want asked = { 0, on_logits, side }, *want = audit ? &asked : NULL;
	struct session *s = side->s;
	int64_t t0, t1;

	t0 = clock_mono();
	side->seq = seq;
	if (session_begin(s, &info, e) || session_eval(s, b->ids, b->n_pre, MOE_PREFILL, want, e))
		return -1;
	t1 = clock_mono();
	*prefill = (double)(t1 - t0) * 1e-9;
	if (session_end(s, &res, e))
		return -1;
	info.seq = res.seq = side->seq = seq + 1;
	if (session_begin(s, &info, e) || session_eval(s, b->ids, 1, MOE_PREFILL, NULL, e))
		return -1;
	t0 = clock_mono();
	for (size_t i = 0; i < b->n_dec; i++)
		if (session_eval(s, b->ids + i, 1, MOE_DECODE, want, e))
			return -1;
	*decode = (double)(clock_mono() - t0) * 1e-9;
	return session_end(s, &res, e);
}

static int run_pairs(struct bench *b, struct moe_err *e)
{
	double warm[2];

	if (one_run(b, &b->plain, 1, &warm[0], &warm[1], e))
		return -1;
	for (long long i = 0; i < pairs && !load_interrupted(); i++)
		for (int j = 0; j < (no_log ? 1 : 2); j++) {
			int logged = no_log ? 0 : (int)((i + j) & 1);

			if (one_run(b, logged ? &b->logged : &b->plain, 2 * (uint64_t)i + 3, &b->t[0][logged][i],
				    &b->t[1][logged][i], e))
				return -1;
		}
	return load_interrupted() ? err_set(e, MOE_ERR_USAGE, "interrupted") : 0;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

struct stat3 { double q1, med, q3; };

static struct stat3 quartiles(const double *x, const double *divide_by, long long n)
{
	double *v = malloc((size_t)n * sizeof *v);
	struct stat3 s = { NAN, NAN, NAN };

	if (!v)
		return s;
	for (long long i = 0; i < n; i++)
		v[i] = divide_by ? x[i] / divide_by[i] : x[i];
	qsort(v, (size_t)n, sizeof *v, by_value);
	s = (struct stat3){ v[n / 4], v[n / 2], v[n - 1 - n / 4] };
	free(v);
	return s;
}

/* A log of its own, its key beside it in a folder that goes away with it. */
static int start_log(const char *dir, const char *db, struct moe_err *e)
{
	struct log_policy p = { .origin = "bench", .detail = detail == MOE_DETAIL_FULL ? LOG_FULL : LOG_ROUTES,
		.loss = LOG_STRICT, .retain_days = 183, .heartbeat_s = 10, .checkpoint_s = 60 };
	struct note_secret key;
	struct admin a;
	char keys[80];
	int bad;

	snprintf(keys, sizeof keys, "%s/keys", dir);
	if (mkdir(keys, 0700))
		return err_errno(e, "%s", keys);
	snprintf(p.key_path, sizeof p.key_path, "%s/key", keys);
	if (admin_open_bare(&a, db, e))
		return -1;
	bad = note_secret_create(&key, p.origin, p.key_path, e) || log_create(a.db, &p, &key, NULL, "bench", e);
	return admin_close(&a, bad, e) || bad ? -1 : 0;
}

static int open_side(struct bench *b, struct side *side, const char *name, int with_log, struct moe_err *e)
{
	struct moe_trace_opt to = { .detail = (enum moe_detail)detail };
	struct record_about about = { .l = &b->l, .s = side->s, .logits = "last" };
	struct moe_run_desc d;
	char db[100];

	snprintf(db, sizeof db, "%s/%s", b->dir, name);
	engine_describe(&b->l, side->s, &lo, "bench", &d);
	side->n_vocab = model_info(b->l.model)->n_vocab;
	if (with_log && (start_log(b->dir, db, e) || record_start(&side->rec, db, &about, &to, &d, e)))
		return -1;
	side->t = moe_trace_open(db, &to, &d, e);
	return side->t ? session_add_hook(side->s, moe_trace_hook(side->t), e) : -1;
}

static int open_all(struct bench *b, const char *model, struct moe_err *e)
{
	struct rng r;

	if (load_model(model, &lo, &b->l, e))
		return -1;
	b->plain.s = engine_session(&b->l, &lo, e);
	b->logged.s = b->plain.s ? engine_session(&b->l, &lo, e) : NULL;
	if (!b->logged.s)
		return -1;
	b->n_pre = (size_t)n_prefill < session_ctx(b->plain.s) ? (size_t)n_prefill : session_ctx(b->plain.s);
	b->n_dec = (size_t)n_decode < session_ctx(b->plain.s) ? (size_t)n_decode : session_ctx(b->plain.s) - 1;
	b->ids = malloc((b->n_pre + b->n_dec) * sizeof *b->ids);
	if (!b->ids)
		return err_nomem(e, b->n_pre * 4, "tokens");
	rng_seed(&r, 1);
	for (size_t i = 0; i < b->n_pre + b->n_dec; i++)
		b->ids[i] = (int32_t)rng_below(&r, model_info(b->l.model)->n_vocab);
	if (no_log || !model_info(b->l.model)->n_moe_layer) {
		no_log = 1;
		return 0;
	}
	snprintf(b->dir, sizeof b->dir, "/tmp/moescope-bench-XXXXXX");
	if (!mkdtemp(b->dir)) {
		b->dir[0] = 0;
		return err_errno(e, "creating a directory in /tmp");
	}
	return open_side(b, &b->logged, "logged.db", audit, e) ||
		(audit && open_side(b, &b->plain, "plain.db", 0, e)) ? -1 : 0;
}

static void close_all(struct bench *b)
{
	static const char *const name[] = { "logged.db", "plain.db", "logged.db-wal", "plain.db-wal",
		"logged.db-shm", "plain.db-shm", "logged.db-lock", "plain.db-lock", "keys/key", "keys" };
	struct side *side[] = { &b->logged, &b->plain };

	for (int i = 0; i < 2; i++) {
		if (side[i]->t)
			moe_trace_close(side[i]->t, MOE_RUN_DONE, NULL);
		record_free(&side[i]->rec);
	}
	for (size_t i = 0; b->dir[0] && i < sizeof name / sizeof name[0]; i++) {
		char path[100];

		snprintf(path, sizeof path, "%s/%s", b->dir, name[i]);
		remove(path);
	}
	if (b->dir[0])
		rmdir(b->dir);
	session_free(b->plain.s);
	session_free(b->logged.s);
	free(b->ids);
	load_free(&b->l);
}

static void report(const struct bench *b)
{
	static const char *const phase[] = { "prefill", "decode" };
	static const char *const level[] = { "counts", "routes", "full" };
	const struct model_info *in = model_info(b->l.model);
	int threads = session_threads(b->plain.s);
	double bw = read_bandwidth(b->plain.s, threads), fma = sgemm_rate(threads);
	double limit[2] = { fma / (double)in->n_params_active, bw / (double)in->bytes_per_token };
	size_t n[2] = { b->n_pre, b->n_dec };

	if (!json)
		printf("%s, %s, %d threads, %s kernels, %lld pairs\n\n%-8s %7s %10s %18s %12s %8s\n",
			show(in->name).s, in->quant, threads, session_kern(b->plain.s)->name, pairs, "", "tokens", "tokens/s",
			"(quartiles)", "limit", "of limit");
	for (int p = 0; p < 2; p++) {
		struct stat3 t = quartiles(b->t[p][0], NULL, pairs);
		struct stat3 c = no_log ? (struct stat3){ 0, 0, 0 } : quartiles(b->t[p][1], b->t[p][0], pairs);
		double tps = (double)n[p] / t.med;

		if (json) {
			printf("%s{\"phase\": \"%s\", \"tokens\": %zu, \"tokens_per_s\": %.3f, \"q1\": %.3f, "
			       "\"q3\": %.3f, \"limit\": %.3f, \"detail\": \"%s\"", p ? ", " : "[", phase[p], n[p],
				tps, (double)n[p] / t.q3, (double)n[p] / t.q1, limit[p], no_log ? "none" : level[detail]);
			if (!no_log)
				printf(", \"log_ratio\": %.5f, \"log_ratio_q1\": %.5f, \"log_ratio_q3\": %.5f", c.med,
					c.q1, c.q3);
			printf(", \"read_bytes_per_s\": %.4g, \"fma_per_s\": %.4g}%s", bw, fma, p ? "]\n" : "");
			continue;
		}
		printf("%-8s %7zu %10.1f  (%7.1f - %7.1f) %12.1f %7.0f %%\n", phase[p], n[p], tps,
			(double)n[p] / t.q3, (double)n[p] / t.q1, limit[p], 100 * tps / limit[p]);
	}
	if (json)
		return;
	printf("\nlimits: prefill %.1f GFLOP/s (OpenBLAS sgemm) / %.1f M active parameters x 2;\n"
	       "        decode %.1f GB/s read / %.1f MB per token%s\n", 2e-9 * fma,
		1e-6 * (double)in->n_params_active, 1e-9 * bw, 1e-6 * (double)in->bytes_per_token,
		in->weight_bytes < 32u << 20 ? " (but these weights fit in the cache)" : "");
	if (no_log)
		return;
	printf("\ncost of %s at `%s`, time with / time without, pair by pair:\n",
		audit ? "an audit log beside logging" : "logging", level[detail]);
	for (int p = 0; p < 2; p++) {
		struct stat3 c = quartiles(b->t[p][1], b->t[p][0], pairs);

		printf("  %-8s median %.4f  (quartiles %.4f - %.4f)\n", phase[p], c.med, c.q1, c.q3);
	}
}

static int run(int argc, char **argv, struct moe_err *e)
{
	struct bench *b;
	int failed;

	if (argc > 1)
		return err_set(e, MOE_ERR_USAGE, "one model at a time, %d were given", argc);
	b = calloc(1, sizeof *b);
	if (!b)
		return err_nomem(e, sizeof *b, "bench");
	load_catch_interrupt();
	failed = open_all(b, argc ? argv[0] : "sample:balanced", e) || run_pairs(b, e);
	if (!failed)
		report(b);
	close_all(b);
	free(b);
	return failed ? -1 : 0;
}

static const struct opt opts[] = {
	{ "pairs", 'n', OPT_INT, &pairs, "N", "interleaved pairs of runs (default 15)", 1, MAX_PAIRS },
	{ "prefill", 0, OPT_INT, &n_prefill, "N", "tokens of a prefill (default 512, at most the context)", 1,
	  1 << 20 },
	{ "decode", 0, OPT_INT, &n_decode, "N", "tokens decoded (default 128)", 1, 1 << 20 },
	{ "detail", 0, OPT_ENUM, &detail, "counts|routes|full", "what is logged (default routes)", 0, 0 },
	{ "no-log", 0, OPT_FLAG, &no_log, NULL, "speed only", 0, 0 },
	{ "audit", 0, OPT_FLAG, &audit, NULL, "what an audit log costs beside logging", 0, 0 },
	{ "json", 0, OPT_FLAG, &json, NULL, "print JSON", 0, 0 },
	LOAD_OPTS(lo),
	{ 0 },
};

const struct cmd cmd_bench = {
	"bench", "[MODEL]", "Measure this engine on this machine, with and without logging",
	"MODEL is a GGUF file or sample:balanced, sample:collapsed (default: sample:balanced).\n", opts,
	run,
};
