/*
 * view_made.h - databases made through the public writer, with a second count of the same
 * decisions, for the tests of the views: `made` remembers what went in.
 */
#ifndef VIEW_MADE_H
#define VIEW_MADE_H

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <moescope/trace.h>

#include "base/clock.h"
#include "base/rng.h"
#include "view/view.h"

enum { E = 8, K = 2, L = 2, BATCH = 64, TOKENS_MAX = 20000 };
static const struct moe_layer_desc shape[L] = { { 1, E, K }, { 3, E, K } };

/* ---- making a database, and remembering what went in ---- */

struct made {
	struct moe_trace *t;
	struct moe_hook *h;
	struct rng r;
	uint64_t seq;
	int nan_layer;         /* index of a layer whose every 10th token is NaN; -1 = none */
	int by_token;          /* 1: domains differ in their token ids only, and ids decide the
	                          expert */
	/* what was written, in order */
	size_t n;
	struct {
		uint64_t seq;
		uint32_t pos;
		int32_t token;
		int phase, nan[L];
		uint16_t pick[L][K];
		float logit[L][E];
		char domain[16];
	} tok[TOKENS_MAX];
};
static struct made made;
static char dir[] = "/tmp/moescope-view-XXXXXX", path[64];
static struct moe_err err;
static uint32_t made_bucket_ms __attribute__((unused)); /* 0 = the writer's default */

#define OK(call) do { if ((call) != 0) fail_msg("%s: %s", #call, err.msg); } while (0)

static inline void near(double got, double want, double tol)
{
	if (!(fabs(got - want) <= tol))
		fail_msg("got %.12g, want %.12g +- %g", got, want, tol);
}

static inline void wipe(void)
{
	char name[80];

	unlink(path);
	snprintf(name, sizeof name, "%s-wal", path);
	unlink(name);
	snprintf(name, sizeof name, "%s-shm", path);
	unlink(name);
}

static inline void begin_in(enum moe_detail detail, uint64_t seed)
{
	struct moe_run_desc d = { .command = "test", .model_name = "toy", .arch = "toy",
		.layers = shape, .n_moe_layer = L, .n_layer = 4, .n_vocab = 100, .score = "softmax" };
	struct moe_trace_opt o = { .detail = detail, .commit_ms = 10,
		.bucket_ms = made_bucket_ms };

	made.t = moe_trace_open(path, &o, &d, &err);
	if (!made.t)
		fail_msg("%s", err.msg);
	made.h = moe_trace_hook(made.t);
	rng_seed(&made.r, seed);
	made.seq = made.n = 0;
	made.nan_layer = -1;
	made.by_token = 0;
}

static inline void begin(enum moe_detail detail, uint64_t seed)
{
	wipe();
	begin_in(detail, seed);
}

static inline void end(void)
{
	OK(moe_trace_close(made.t, MOE_RUN_DONE, &err));
	made.t = NULL;
}

/* Any id of 100, or of a part of them that belongs to the domain and overlaps with the others'. */
static inline int32_t draw_token(const char *domain)
{
	if (!made.by_token)
		return (int32_t)rng_below(&made.r, 100);
	return (int32_t)((rng_below(&made.r, 30) + 20 * (uint64_t)(domain[0] - 'a')) % 100);
}

/* One batch of n tokens; lean [L][E] is added to random logits in 0..4. */
static inline void batch(const char *domain, uint32_t pos, uint32_t n, int phase, float lean[L][E])
{
	static uint64_t seq[BATCH];
	static uint32_t at[BATCH];
	static int32_t token[BATCH];
	static uint16_t pick[BATCH][K];
	static float weight[BATCH][K], margin[BATCH], logit[BATCH][E];
	static uint8_t flags[BATCH];
	struct moe_route_view v = { .n_expert = E, .k = K, .phase = (uint8_t)phase, .n_tok = n,
		.seq = seq, .pos = at, .token = token, .experts = pick[0], .weights = weight[0],
		.margin = margin, .logits = logit[0], .flags = flags };
	struct moe_batch_info b = { made.seq, pos, n, (uint8_t)phase, 1000000 * n, { 0 } };

	for (uint32_t t = 0; t < n; t++)
		seq[t] = made.seq, at[t] = pos + t, token[t] = draw_token(domain);
	for (int l = 0; l < L; l++) {
		v.layer = shape[l].layer;
		for (uint32_t t = 0; t < n; t++) {
			int a = 0, c = -1, nan = made.nan_layer == l && t % 10 == 3;

			for (int e = 0; e < E; e++) {
				logit[t][e] = nan ? NAN : (float)(4 * rng_unit(&made.r)) + lean[l][e] +
					(made.by_token && token[t] / 13 == e ? 3 : 0);
				a = logit[t][e] > logit[t][a] ? e : a;
			}
			for (int e = 0; e < E; e++)
				if (e != a && (c < 0 || logit[t][e] > logit[t][c]))
					c = e;
			a = nan ? 0 : a, c = nan ? 1 : c;
			pick[t][0] = (uint16_t)a, pick[t][1] = (uint16_t)c;
			weight[t][0] = nan ? 0 : .75f, weight[t][1] = nan ? 0 : .25f;
			margin[t] = nan ? 0 : .5f;
			flags[t] = nan ? MOE_EV_NAN : 0;
			assert_true(made.n + t < TOKENS_MAX);
			memcpy(made.tok[made.n + t].pick[l], pick[t], sizeof pick[t]);
			memcpy(made.tok[made.n + t].logit[l], logit[t], sizeof logit[t]);
			made.tok[made.n + t].nan[l] = nan;
			made.tok[made.n + t].seq = made.seq;
			made.tok[made.n + t].pos = pos + t;
			made.tok[made.n + t].token = token[t];
			made.tok[made.n + t].phase = phase;
			snprintf(made.tok[made.n + t].domain, 16, "%s", domain ? domain : "");
		}
		OK(made.h->route(made.h->ctx, &v, &err));
	}
	made.n += n;
	OK(made.h->batch_end(made.h->ctx, &b, &err));
}

/* One document: a prompt and some generated tokens. */
static const char *doc_name __attribute__((unused)); /* NULL: each its own */

static inline void doc(const char *domain, uint32_t n_prompt, uint32_t n_gen, float lean[L][E])
{
	char own[32];
	struct moe_seq_info s = { ++made.seq, domain, doc_name ? doc_name : own, n_prompt };
	struct moe_seq_result r = { made.seq, n_prompt, n_gen, n_prompt * 2.0, n_prompt, n_prompt * 4 };

	snprintf(own, sizeof own, "document %llu", (unsigned long long)made.seq);
	OK(made.h->seq_begin(made.h->ctx, &s, &err));
	for (uint32_t p = 0, n; p < n_prompt; p += n) {
		n = n_prompt - p < BATCH ? n_prompt - p : BATCH;
		batch(domain, p, n, MOE_PREFILL, lean);
	}
	for (uint32_t p = 0; p < n_gen; p++)
		batch(domain, n_prompt + p, 1, MOE_DECODE, lean);
	OK(made.h->seq_end(made.h->ctx, &r, &err));
}

static float even[L][E] __attribute__((unused));
static float collapsed[L][E] __attribute__((unused)) = { { 0 }, { 20, 20 } };
static float dead7[L][E] __attribute__((unused)) = { { 0, 0, 0, 0, 0, 0, 0, -20 } };

static inline struct reader *open_db(void)
{
	struct reader *r = reader_open(path, &err);

	if (!r)
		fail_msg("%s", err.msg);
	return r;
}

static const struct load_filter all __attribute__((unused)) = { .run = 1, .domain = -1,
	.phase = -1 };

/* Change the closed database behind the program's back. */
static inline void edit(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static inline void edit(const char *fmt, ...)
{
	char *why = NULL, q[1024];
	sqlite3 *db;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(q, sizeof q, fmt, ap);
	va_end(ap);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	if (sqlite3_exec(db, q, NULL, NULL, &why))
		fail_msg("%s: %s", q, why);
	sqlite3_close(db);
}

static inline const struct view_cell *cell(const struct view_table *t, size_t row, const char *key)
{
	for (size_t j = 0; j < t->n_col; j++)
		if (!strcmp(t->cols[j].key, key))
			return t->cells + row * t->n_col + j;
	fail_msg("no column %s", key);
	return NULL;
}

static inline size_t find_row(const struct view_table *t, const char *key, int64_t v)
{
	for (size_t i = 0; i < t->n_row; i++)
		if (cell(t, i, key)->i == v)
			return i;
	fail_msg("no row with %s %" PRId64, key, v);
	return 0;
}

/* The table as text; the caller frees. */
static inline char *print(const struct view_table *t, enum view_format f)
{
	char *text = NULL;
	size_t n;
	FILE *m = open_memstream(&text, &n);

	OK(view_table_print(t, f, m, &err));
	fclose(m);
	return text;
}

static inline int set_up(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof path, "%s/t.db", dir);
	return 0;
}

static inline int tear_down(void **state)
{
	(void)state;
	wipe();
	return rmdir(dir);
}

#endif
