/*
 * trace_fake.h - a fake engine that makes random decisions and remembers every one of them (struct
 * engine), and a recount of that memory against what a database says - load, cursor, `routing` -
 * which shares no code with the store.
 */
#ifndef TRACE_FAKE_H
#define TRACE_FAKE_H

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

#include "base/rng.h"
#include "trace/reader.h"
#include "trace/schema.h"

static char dir[] = "/tmp/moescope-test-XXXXXX";

/* Valid until the next call. */
static const char *path_of(const char *name)
{
	static char p[256];

	snprintf(p, sizeof p, "%s/%s", dir, name);
	return p;
}

static inline int set_up(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static inline int tear_down(void **state)
{
	char cmd[300];

	(void)state;
	snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
	return system(cmd);
}

/* ---- the fake engine ---- */

struct token { /* all that was decided for one token */
	uint64_t seq;
	uint32_t pos;
	int32_t id;
	uint8_t phase;
	int domain;        /* index into domain_name */
	uint16_t *experts; /* all layers one after the other; so are the next ones */
	uint16_t *before;
	float *weights, *margins, *logits;
	uint8_t *flags;
};

struct engine {
	const struct moe_layer_desc *layer;
	size_t n_layer, k_row, e_row;
	struct rng rng;
	struct moe_trace *trace;
	struct moe_hook *hook;
	struct token *tok;
	size_t n;
	int edits, nans, no_logits;
	struct moe_err err;
};

static const char *const domain_name[] = { NULL, "medical", "code" };

static const struct moe_layer_desc model_a[] __attribute__((unused)) = { { 0, 16, 2 }, { 1, 16, 2 },
	{ 2, 16, 2 } };
static const struct moe_layer_desc model_b[] __attribute__((unused)) = { { 1, 8, 2 }, { 3, 64, 8 },
	{ 7, 1024, 5 },
	{ 511, 1, 1 } };

static inline void engine_open(struct engine *g, const char *path,
	const struct moe_layer_desc *layer, size_t n_layer, const struct moe_trace_opt *o,
	uint64_t seed)
{
	struct moe_run_desc d = { .command = "test", .model_name = "fake", .layers = layer,
		.n_moe_layer = (uint32_t)n_layer, .n_layer = 512, .router = "random", .score = "softmax" };

	memset(g, 0, sizeof *g);
	g->layer = layer;
	g->n_layer = n_layer;
	for (size_t i = 0; i < n_layer; i++) {
		g->k_row += layer[i].k;
		g->e_row += layer[i].n_expert;
	}
	rng_seed(&g->rng, seed);
	g->trace = moe_trace_open(path, o, &d, &g->err);
	if (!g->trace)
		fail_msg("%s", g->err.msg);
	g->hook = moe_trace_hook(g->trace);
}

static inline void engine_free(struct engine *g)
{
	for (size_t i = 0; i < g->n; i++) {
		free(g->tok[i].experts);
		free(g->tok[i].before);
		free(g->tok[i].weights);
		free(g->tok[i].margins);
		free(g->tok[i].logits);
		free(g->tok[i].flags);
	}
	free(g->tok);
}

static inline void engine_close(struct engine *g)
{
	if (moe_trace_close(g->trace, MOE_RUN_DONE, &g->err))
		fail_msg("%s", g->err.msg);
}

static inline struct token *make_token(struct engine *g, uint64_t seq, uint32_t pos, int phase,
	int domain)
{
	struct token *t;
	size_t k = 0, e = 0;

	if (!(g->n & (g->n - 1)))
		g->tok = realloc(g->tok, (g->n ? g->n * 2 : 1) * sizeof *t);
	t = &g->tok[g->n++];
	*t = (struct token){ seq, pos, (int32_t)rng_below(&g->rng, 50000), (uint8_t)phase, domain,
		malloc(g->k_row * 2), malloc(g->k_row * 2), malloc(g->k_row * 4), malloc(g->n_layer * 4),
		malloc(g->e_row * 4), calloc(g->n_layer, 1) };
	for (size_t l = 0; l < g->n_layer; l++) {
		size_t n = g->layer[l].n_expert, kk = g->layer[l].k;

		for (size_t i = 0; i < n; i++)
			t->logits[e + i] = (float)(rng_unit(&g->rng) * 8 - 4);
		for (size_t i = 0; i < kk; i++) { /* distinct, any order */
			size_t j;

			do {
				t->experts[k + i] = (uint16_t)rng_below(&g->rng, n);
				for (j = 0; j < i && t->experts[k + j] != t->experts[k + i]; j++)
					;
			} while (j < i);
			t->weights[k + i] = (float)rng_unit(&g->rng);
		}
		t->margins[l] = kk == n ? INFINITY : (float)rng_unit(&g->rng);
		memcpy(t->before + k, t->experts + k, kk * 2);
		if (g->edits && rng_below(&g->rng, 4) == 0) {
			t->flags[l] |= MOE_EV_EDITED;
			t->before[k] = (uint16_t)rng_below(&g->rng, n);
		}
		if (g->nans && rng_below(&g->rng, 5) == 0) {
			t->flags[l] |= MOE_EV_NAN;
			t->logits[e] = NAN;
		}
		k += kk;
		e += n;
	}
	return t;
}

/* Route tokens first..g->n-1, layers 0..n_layer-1 as one batch; layers < all: broken off. */
static inline int play(struct engine *g, size_t first, size_t n_layer)
{
	size_t n = g->n - first, k = 0, e = 0;
	uint64_t *seq = malloc(n * 8);
	uint32_t *pos = malloc(n * 4);
	int32_t *id = malloc(n * 4);
	float *margin = malloc(n * 4);
	uint8_t *flags = malloc(n);
	int bad = 0;

	for (size_t i = 0; i < n; i++) {
		seq[i] = g->tok[first + i].seq;
		pos[i] = g->tok[first + i].pos;
		id[i] = g->tok[first + i].id;
	}
	for (size_t l = 0; l < n_layer && !bad; l++) {
		size_t kk = g->layer[l].k, ne = g->layer[l].n_expert;
		uint16_t *experts = malloc(n * kk * 2), *before = malloc(n * kk * 2);
		float *w = malloc(n * kk * 4), *x = malloc(n * ne * 4);
		struct moe_route_view v = { .layer = g->layer[l].layer, .n_expert = (uint16_t)ne,
			.k = (uint16_t)kk, .phase = g->tok[first].phase, .n_tok = (uint32_t)n, .seq = seq,
			.pos = pos, .token = id, .experts = experts, .weights = w, .margin = margin,
			.logits = g->no_logits ? NULL : x, .flags = flags, .before = g->edits ? before : NULL,
			.editor = g->edits ? "test-editor" : NULL };

		for (size_t i = 0; i < n; i++) {
			const struct token *t = &g->tok[first + i];

			memcpy(experts + i * kk, t->experts + k, kk * 2);
			memcpy(before + i * kk, t->before + k, kk * 2);
			memcpy(w + i * kk, t->weights + k, kk * 4);
			memcpy(x + i * ne, t->logits + e, ne * 4);
			margin[i] = t->margins[l];
			flags[i] = t->flags[l];
		}
		bad = g->hook->route(g->hook->ctx, &v, &g->err);
		free(experts);
		free(before);
		free(w);
		free(x);
		k += kk;
		e += ne;
	}
	if (!bad && n_layer == g->n_layer) {
		struct moe_batch_info b = { g->tok[first].seq, g->tok[first].pos, (uint32_t)n,
			g->tok[first].phase, 1000 * n, { 0 } };

		bad = g->hook->batch_end(g->hook->ctx, &b, &g->err);
	}
	free(seq);
	free(pos);
	free(id);
	free(margin);
	free(flags);
	return bad;
}

static inline int batch(struct engine *g, uint64_t seq, uint32_t pos, size_t n, int phase,
	int domain)
{
	size_t first = g->n;

	for (size_t i = 0; i < n; i++)
		make_token(g, seq, pos + (uint32_t)i, phase, domain);
	return play(g, first, g->n_layer);
}

static inline void begin(struct engine *g, uint64_t seq, int domain)
{
	struct moe_seq_info s = { seq, domain_name[domain], "name", 10 };

	assert_int_equal(g->hook->seq_begin(g->hook->ctx, &s, &g->err), 0);
}

static inline void end(struct engine *g, uint64_t seq, uint32_t n_prompt, uint32_t n_generated)
{
	struct moe_seq_result r = { seq, n_prompt, n_generated, 2.5, n_prompt, 40 };

	assert_int_equal(g->hook->seq_end(g->hook->ctx, &r, &g->err), 0);
}

/* Sequences of every domain; prefill in batches of 1, 7, 128 and 300, then decode. */
static inline void drive(struct engine *g, uint64_t first_seq, int n_seq, uint32_t n_decode)
{
	static const uint32_t prefill[] = { 1, 7, 128, 300 };

	for (int s = 0; s < n_seq; s++) {
		uint64_t seq = first_seq + (uint64_t)s;
		uint32_t pos = 0;

		begin(g, seq, s % 3);
		for (int p = 0; p <= s % 4; p++) {
			assert_int_equal(batch(g, seq, pos, prefill[p], MOE_PREFILL, s % 3), 0);
			pos += prefill[p];
		}
		for (uint32_t i = 0; i < n_decode; i++)
			assert_int_equal(batch(g, seq, pos + i, 1, MOE_DECODE, s % 3), 0);
		end(g, seq, pos, n_decode);
	}
}

/* ---- the recount ---- */

static inline void check_close(double a, double b)
{
	if (!(fabs(a - b) <= 1e-5 * (fabs(a) + fabs(b)) + 1e-9))
		fail_msg("%.17g is not %.17g", a, b);
}

/* What load must say of one layer for the tokens that domain (-1 all) and phase (-1 all) select. */
static inline void check_layer(const struct engine *g, size_t l, int domain, int phase,
	const struct layer_load *got)
{
	size_t ne = g->layer[l].n_expert, kk = g->layer[l].k, k_at = 0, e_at = 0;
	uint64_t *counts = calloc(ne, 8), tokens = 0, n_margin = 0, n_nan = 0, n_edited = 0;
	double *weights = calloc(ne, 8), *probs = calloc(ne, 8), lse2 = 0, ent = 0, conf = 0, mar = 0;

	for (size_t i = 0; i < l; i++) {
		k_at += g->layer[i].k;
		e_at += g->layer[i].n_expert;
	}
	for (size_t i = 0; i < g->n; i++) {
		const struct token *t = &g->tok[i];
		const float *x = t->logits + e_at;
		double sum = 0;

		if ((domain >= 0 && t->domain != domain) || (phase >= 0 && t->phase != phase))
			continue;
		tokens++;
		for (size_t j = 0; j < kk; j++) {
			counts[t->experts[k_at + j]]++;
			weights[t->experts[k_at + j]] += t->weights[k_at + j];
		}
		n_edited += (t->flags[l] & MOE_EV_EDITED) != 0;
		if (t->flags[l] & MOE_EV_NAN) {
			n_nan++;
			continue;
		}
		if (kk < ne) {
			mar += t->margins[l];
			n_margin++;
		}
		for (size_t j = 0; j < ne && !g->no_logits; j++)
			sum += exp(x[j]);
		for (size_t j = 0; j < ne && !g->no_logits; j++) {
			probs[j] += exp(x[j]) / sum;
			ent -= exp(x[j]) / sum * log(exp(x[j]) / sum);
		}
		for (size_t j = 0; j < kk && !g->no_logits; j++)
			conf += exp(x[t->experts[k_at + j]]) / sum;
		lse2 += g->no_logits ? 0 : log(sum) * log(sum);
	}
	assert_int_equal(got->layer, g->layer[l].layer);
	assert_int_equal(got->tokens, tokens);
	assert_int_equal(got->n_margin, n_margin);
	assert_int_equal(got->n_nan, n_nan);
	assert_int_equal(got->n_edited, n_edited);
	assert_memory_equal(got->counts, counts, ne * 8);
	for (size_t j = 0; j < ne; j++) {
		check_close(got->weights[j], weights[j]);
		check_close(got->probs[j], probs[j]);
	}
	check_close(got->lse2, lse2);
	check_close(got->entropy, ent);
	check_close(got->confidence, conf);
	check_close(got->margin, mar);
	free(counts);
	free(weights);
	free(probs);
}

static inline int64_t domain_id(struct reader *r, int64_t run, int domain)
{
	struct domain_info *d;
	struct moe_err e;
	int64_t id = INT64_C(1) << 40; /* none */
	size_t n;

	assert_int_equal(reader_domains(r, run, &d, &n, &e), 0);
	for (size_t i = 0; i < n; i++)
		if (!strcmp(d[i].name, domain_name[domain] ? domain_name[domain] : ""))
			id = d[i].id;
	free(d);
	return id;
}

static inline void check_load(const struct engine *g, struct reader *r, int64_t run)
{
	struct moe_err e;

	for (int domain = -1; domain < 3; domain++)
		for (int phase = -1; phase < 2; phase++) {
			struct load_filter f = { .run = run, .phase = phase,
				.domain = domain < 0 ? -1 : domain_id(r, run, domain) };
			struct load_set s;

			if (reader_load(r, &f, &s, &e))
				fail_msg("%s", e.msg);
			assert_int_equal(s.n, g->n_layer);
			for (size_t l = 0; l < s.n; l++)
				check_layer(g, l, domain, phase, &s.layer[l]);
			load_set_free(&s);
		}
}

static const struct token *find(const struct engine *g, uint64_t seq, uint32_t pos)
{
	for (size_t i = 0; i < g->n; i++)
		if (g->tok[i].seq == seq && g->tok[i].pos == pos)
			return &g->tok[i];
	fail_msg("token %llu:%u was never routed", (unsigned long long)seq, pos);
	return NULL;
}

/* Every decision comes out of the cursor once, in order, bit for bit. */
static inline void check_cursor(const struct engine *g, struct reader *r, int64_t run, int full)
{
	struct load_filter f = { .run = run, .domain = -1, .phase = -1 };
	struct cursor_chunk c;
	struct moe_err e;
	struct cursor *cur = cursor_open(r, &f, &e);
	uint64_t last_seq = 0;
	uint32_t next = 0;
	size_t n = 0;
	int rc;

	assert_non_null(cur);
	while ((rc = cursor_next(cur, &c, &e)) == 1) {
		assert_true(c.n >= 1 && c.n <= 128);
		assert_int_equal(c.k_row, g->k_row);
		assert_int_equal(c.e_row, g->e_row);
		assert_true(n == 0 || c.seq >= last_seq);
		if (c.seq != last_seq)
			next = 0;
		assert_int_equal(c.pos, next);
		next = c.pos + c.n;
		last_seq = c.seq;
		for (uint32_t i = 0; i < c.n; i++, n++) {
			const struct token *t = find(g, c.seq, c.pos + i);

			assert_int_equal(c.tokens[i], t->id);
			assert_int_equal(c.phase, t->phase);
			assert_memory_equal(c.experts + i * c.k_row, t->experts, c.k_row * 2);
			assert_memory_equal(c.weights + i * c.k_row, t->weights, c.k_row * 4);
			assert_memory_equal(c.margins + i * c.n_layer, t->margins, c.n_layer * 4);
			for (size_t l = 0; l < c.n_layer; l++)
				assert_int_equal(c.flags ? c.flags[i * c.n_layer + l] : 0, t->flags[l]);
			if (c.before)
				assert_memory_equal(c.before + i * c.k_row, t->before, c.k_row * 2);
			else
				assert_memory_equal(t->before, t->experts, c.k_row * 2);
			if (full)
				assert_memory_equal(c.logits + i * c.e_row, t->logits, c.e_row * 4);
			else
				assert_null(c.logits);
		}
	}
	if (rc)
		fail_msg("%s", e.msg);
	assert_int_equal(n, g->n);
	cursor_close(cur);
}

static inline sqlite3_int64 ask(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *st = NULL;
	sqlite3_int64 x;

	if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) || sqlite3_step(st) != SQLITE_ROW)
		fail_msg("%s: %s", sql, sqlite3_errmsg(db));
	x = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	return x;
}

/* `routing` row by row, and its histogram way, against the memory. */
static inline void check_routing(const struct engine *g, struct reader *r, int64_t run)
{
	sqlite3 *db = reader_db(r);
	sqlite3_stmt *st = NULL;
	size_t n = 0;
	char sql[256];
	int rc;

	snprintf(sql, sizeof sql, "SELECT seq, pos, token, phase, layer, rank, expert, weight, margin, "
		"run FROM routing WHERE run = %lld", (long long)run);
	assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), 0);
	for (; (rc = sqlite3_step(st)) == SQLITE_ROW; n++) {
		const struct token *t = find(g, (uint64_t)sqlite3_column_int64(st, 0),
			(uint32_t)sqlite3_column_int64(st, 1));
		size_t k = 0, l = 0, rank = (size_t)sqlite3_column_int(st, 5);

		while (g->layer[l].layer != sqlite3_column_int(st, 4))
			k += g->layer[l++].k;
		assert_true(rank < g->layer[l].k);
		assert_int_equal(sqlite3_column_int(st, 2), t->id);
		assert_int_equal(sqlite3_column_int(st, 3), t->phase);
		assert_int_equal(sqlite3_column_int(st, 6), t->experts[k + rank]);
		assert_true(sqlite3_column_double(st, 7) == t->weights[k + rank]);
		assert_true(sqlite3_column_double(st, 8) == t->margins[l]);
		assert_int_equal(sqlite3_column_int64(st, 9), run);
	}
	assert_int_equal(rc, SQLITE_DONE);
	sqlite3_finalize(st);
	assert_int_equal(n, g->n * g->k_row);
	for (size_t l = 0, k = 0; l < g->n_layer; k += g->layer[l++].k)
		for (unsigned x = 0; x < g->layer[l].n_expert; x += 1 + x / 8) {
			sqlite3_int64 want = 0;

			for (size_t i = 0; i < g->n; i++)
				for (size_t j = 0; j < g->layer[l].k; j++)
					want += g->tok[i].experts[k + j] == x;
			snprintf(sql, sizeof sql, "SELECT count(*) FROM routing WHERE run = %lld AND layer = "
				"%d AND expert = %u", (long long)run, g->layer[l].layer, x);
			assert_int_equal(ask(db, sql), want);
		}
}

static inline void sql_on(const char *path, const char *sql)
{
	sqlite3 *db;
	char *msg = NULL;

	assert_int_equal(sqlite3_open(path, &db), 0);
	if (sqlite3_exec(db, sql, NULL, NULL, &msg))
		fail_msg("%s: %s", sql, msg);
	sqlite3_close(db);
}

#endif
