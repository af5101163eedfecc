/*
 * test_trace.c - the store, from the hook to SQL.
 *
 * A fake engine makes random decisions and remembers every one of them (struct engine). What the
 * database says - load, cursor, `routing` - is compared with a recount of that memory, which shares
 * no code with the store.
 */
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/ring.h"
#include "base/rng.h"
#include "trace/scan.h"
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

static const struct moe_layer_desc model_a[] = { { 0, 16, 2 }, { 1, 16, 2 }, { 2, 16, 2 } };
static const struct moe_layer_desc model_b[] = { { 1, 8, 2 }, { 3, 64, 8 }, { 7, 1024, 5 },
	{ 511, 1, 1 } };

static void engine_open(struct engine *g, const char *path, const struct moe_layer_desc *layer,
	size_t n_layer, const struct moe_trace_opt *o, uint64_t seed)
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

static void engine_free(struct engine *g)
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

static void engine_close(struct engine *g)
{
	if (moe_trace_close(g->trace, MOE_RUN_DONE, &g->err))
		fail_msg("%s", g->err.msg);
}

static struct token *make_token(struct engine *g, uint64_t seq, uint32_t pos, int phase, int domain)
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
static int play(struct engine *g, size_t first, size_t n_layer)
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

static int batch(struct engine *g, uint64_t seq, uint32_t pos, size_t n, int phase, int domain)
{
	size_t first = g->n;

	for (size_t i = 0; i < n; i++)
		make_token(g, seq, pos + (uint32_t)i, phase, domain);
	return play(g, first, g->n_layer);
}

static void begin(struct engine *g, uint64_t seq, int domain)
{
	struct moe_seq_info s = { seq, domain_name[domain], "name", 10 };

	assert_int_equal(g->hook->seq_begin(g->hook->ctx, &s, &g->err), 0);
}

static void end(struct engine *g, uint64_t seq, uint32_t n_prompt, uint32_t n_generated)
{
	struct moe_seq_result r = { seq, n_prompt, n_generated, 2.5, n_prompt, 40 };

	assert_int_equal(g->hook->seq_end(g->hook->ctx, &r, &g->err), 0);
}

/* Sequences of every domain; prefill in batches of 1, 7, 128 and 300, then decode. */
static void drive(struct engine *g, uint64_t first_seq, int n_seq, uint32_t n_decode)
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

static void check_close(double a, double b)
{
	if (!(fabs(a - b) <= 1e-5 * (fabs(a) + fabs(b)) + 1e-9))
		fail_msg("%.17g is not %.17g", a, b);
}

/* What load must say of one layer for the tokens that domain (-1 all) and phase (-1 all) select. */
static void check_layer(const struct engine *g, size_t l, int domain, int phase,
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

static int64_t domain_id(struct reader *r, int64_t run, int domain)
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

static void check_load(const struct engine *g, struct reader *r, int64_t run)
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
static void check_cursor(const struct engine *g, struct reader *r, int64_t run, int full)
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

static sqlite3_int64 ask(sqlite3 *db, const char *sql)
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
static void check_routing(const struct engine *g, struct reader *r, int64_t run)
{
	sqlite3 *db = reader_db(r);
	sqlite3_stmt *st = NULL;
	size_t n = 0;
	char sql[256];
	int rc;

	snprintf(sql, sizeof sql, "SELECT seq, pos, token, phase, layer, rank, expert, weight, margin, run "
		"FROM routing WHERE run = %lld", (long long)run);
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
			snprintf(sql, sizeof sql, "SELECT count(*) FROM routing WHERE run = %lld AND layer = %d "
				"AND expert = %u", (long long)run, g->layer[l].layer, x);
			assert_int_equal(ask(db, sql), want);
		}
}

/* ---- tests ---- */

static void recount(const struct moe_layer_desc *layer, size_t n_layer, enum moe_detail detail,
	int n_seq, int edits, int no_logits)
{
	struct moe_trace_opt o = { .detail = detail, .commit_ms = 20 };
	const char *path = path_of("recount.db");
	struct run_info *info = calloc(1, sizeof *info);
	struct engine g;
	struct reader *r;
	struct moe_err e;
	int64_t run;

	unlink(path);
	engine_open(&g, path, layer, n_layer, &o, 42 + (uint64_t)detail);
	g.edits = g.nans = edits;
	g.no_logits = no_logits;
	run = moe_trace_run(g.trace);
	drive(&g, 100, n_seq, 150);
	engine_close(&g);
	r = reader_open(path, &e);
	if (!r)
		fail_msg("%s", e.msg);
	check_load(&g, r, run);
	if (detail == MOE_DETAIL_COUNTS) {
		assert_int_equal(ask(reader_db(r), "SELECT count(*) FROM chunk"), 0);
	} else {
		check_cursor(&g, r, run, detail == MOE_DETAIL_FULL && !no_logits);
		check_routing(&g, r, run);
	}
	assert_int_equal(reader_run(r, 0, info, &e), 0);
	assert_int_equal(info->n_prompt + info->n_generated, g.n);
	assert_int_equal(info->n_seq, n_seq);
	assert_int_equal(info->n_seq_open, 0);
	assert_string_equal(info->state, "done");
	assert_false(info->alive);
	check_close(info->nll, 2.5 * n_seq);
	assert_int_equal(ask(reader_db(r), "SELECT sum(tokens) FROM pace"), g.n);
	assert_int_equal(ask(reader_db(r), "SELECT sum(busy_ns) FROM pace"), g.n * 1000);
	reader_close(r);
	engine_free(&g);
	free(info);
}

static void test_counts(void **state)
{
	(void)state;
	recount(model_a, 3, MOE_DETAIL_COUNTS, 5, 0, 0);
}

static void test_routes(void **state)
{
	(void)state;
	recount(model_a, 3, MOE_DETAIL_ROUTES, 5, 1, 0);
	recount(model_a, 3, MOE_DETAIL_ROUTES, 2, 0, 1);
}

static void test_full(void **state)
{
	(void)state;
	recount(model_b, 4, MOE_DETAIL_FULL, 4, 1, 0);
}

/* 512 layers, and the widest layer there can be. */
static void test_bounds(void **state)
{
	struct moe_layer_desc deep[MOE_MAX_LAYER];
	static const struct moe_layer_desc wide[] = { { 0, 1024, 1024 } };
	struct moe_trace_opt o = { .detail = MOE_DETAIL_FULL };
	struct moe_run_desc d = { .layers = deep, .n_moe_layer = 1 };
	struct moe_err e;

	(void)state;
	for (int i = 0; i < MOE_MAX_LAYER; i++)
		deep[i] = (struct moe_layer_desc){ (uint16_t)i, (uint16_t)(1 + i % 5), 1 };
	recount(deep, MOE_MAX_LAYER, MOE_DETAIL_FULL, 1, 0, 0);
	recount(wide, 1, MOE_DETAIL_ROUTES, 1, 0, 0);
	deep[0].k = 2;
	assert_null(moe_trace_open(path_of("none.db"), &o, &d, &e));
	deep[0] = (struct moe_layer_desc){ 0, 1025, 1 };
	assert_null(moe_trace_open(path_of("none.db"), &o, &d, &e));
	d.n_moe_layer = 0;
	assert_null(moe_trace_open(path_of("none.db"), &o, &d, &e));
	assert_int_equal(access(path_of("none.db"), F_OK), -1);
}

/* One batch that holds single tokens of several sequences, and sequences that take turns. */
static void test_mixed(void **state)
{
	struct moe_trace_opt o = { .detail = MOE_DETAIL_ROUTES };
	const char *path = path_of("mixed.db");
	struct engine g;
	struct reader *r;
	struct moe_err e;

	(void)state;
	engine_open(&g, path, model_a, 3, &o, 5);
	for (uint64_t s = 1; s <= 4; s++)
		begin(&g, s, (int)(s % 3));
	for (uint32_t pos = 0; pos < 200; pos++) {
		size_t first = g.n;

		for (uint64_t s = 1; s <= 4; s++)
			make_token(&g, s, pos, MOE_DECODE, (int)(s % 3));
		assert_int_equal(play(&g, first, 3), 0);
	}
	for (uint64_t s = 1; s <= 4; s++)
		end(&g, s, 0, 200);
	assert_int_equal(batch(&g, 9, 0, 3, MOE_PREFILL, 0), 0); /* never announced */
	engine_close(&g);
	r = reader_open(path, &e);
	assert_non_null(r);
	check_load(&g, r, 1);
	check_cursor(&g, r, 1, 0);
	check_routing(&g, r, 1);
	assert_int_equal(ask(reader_db(r), "SELECT count(*) FROM chunk"), 4 * 2 + 1);
	reader_close(r);
	engine_free(&g);
}

struct locker { const char *path; int ms; };

static void *hold_lock(void *arg)
{
	struct locker *l = arg;
	sqlite3 *db;

	sqlite3_open(l->path, &db);
	sqlite3_busy_timeout(db, 5000);
	sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
	sqlite3_sleep(l->ms);
	sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
	sqlite3_close(db);
	return NULL;
}

/* Somebody locks the database while a small ring fills up: nothing is lost, or, with drop, what
 * is lost is on record: tokens in load + tokens in gaps = tokens routed. */
static void locked_out(int drop)
{
	struct moe_trace_opt o = { .detail = MOE_DETAIL_ROUTES, .ring_bytes = 1, .drop = drop,
		.commit_ms = 10 };
	const char *path = path_of(drop ? "drop.db" : "wait.db");
	struct locker l = { path, 1500 };
	struct engine g;
	struct reader *r;
	struct moe_err e;
	pthread_t th;
	sqlite3_int64 kept, lost;

	engine_open(&g, path, model_a, 3, &o, 6);
	begin(&g, 1, 1);
	assert_int_equal(batch(&g, 1, 0, 5, MOE_PREFILL, 1), 0);
	pthread_create(&th, NULL, hold_lock, &l);
	sqlite3_sleep(300);
	for (uint32_t i = 0; i < 60; i++)
		assert_int_equal(batch(&g, 1, 5 + i * 50, 50, MOE_PREFILL, 1), 0);
	pthread_join(th, NULL);
	sqlite3_sleep(1200);
	assert_int_equal(batch(&g, 1, 3005, 50, MOE_PREFILL, 1), 0);
	end(&g, 1, 3055, 0);
	engine_close(&g);
	r = reader_open(path, &e);
	assert_non_null(r);
	kept = ask(reader_db(r), "SELECT sum(tokens) FROM load WHERE layer = 0");
	lost = ask(reader_db(r), "SELECT coalesce(sum(value), 0) FROM event WHERE kind = 'gap'");
	assert_int_equal(kept + lost, g.n);
	assert_int_equal(ask(reader_db(r), "SELECT sum(n) FROM chunk"), kept);
	assert_int_equal(ask(reader_db(r), "SELECT max(pos + n) FROM chunk"), 3055);
	assert_int_equal(ask(reader_db(r), "SELECT n_prompt FROM sequence"), 3055);
	if (drop) {
		assert_true(lost > 0);
		assert_int_equal(ask(reader_db(r), "SELECT count(*) FROM event WHERE kind = 'gap'"), 1);
	} else {
		assert_int_equal(lost, 0);
		check_load(&g, r, 1);
		check_cursor(&g, r, 1, 0);
	}
	reader_close(r);
	engine_free(&g);
}

static void test_wait(void **state)
{
	(void)state;
	locked_out(0);
}

static void test_drop(void **state)
{
	(void)state;
	locked_out(1);
}

static void test_second_writer(void **state)
{
	struct moe_trace_opt o = { .detail = MOE_DETAIL_COUNTS };
	struct moe_run_desc d = { .layers = model_a, .n_moe_layer = 3 };
	char path[256], link_path[256];
	struct engine g;
	struct moe_err e = { 0 };

	(void)state;
	snprintf(path, sizeof path, "%s", path_of("two.db"));
	snprintf(link_path, sizeof link_path, "%s", path_of("two-link.db"));
	engine_open(&g, path, model_a, 3, &o, 1);
	assert_int_equal(symlink(path, link_path), 0);
	assert_null(moe_trace_open(path, &o, &d, &e));
	assert_non_null(strstr(e.msg, "another writer"));
	assert_null(moe_trace_open(link_path, &o, &d, &e)); /* the same file by another name */
	assert_non_null(strstr(e.msg, "another writer"));
	begin(&g, 1, 0);
	assert_int_equal(batch(&g, 1, 0, 10, MOE_PREFILL, 0), 0);
	end(&g, 1, 10, 0);
	engine_close(&g);
	engine_free(&g);
	assert_int_equal(access(path_of("two.db-lock"), F_OK), -1);
	engine_open(&g, path, model_a, 3, &o, 1);
	assert_int_equal(moe_trace_run(g.trace), 2);
	engine_close(&g);
	engine_free(&g);
}

static unsigned char *slurp(const char *path, size_t *n)
{
	FILE *f = fopen(path, "rb");
	unsigned char *p = malloc(1 << 20);

	assert_non_null(f);
	*n = fread(p, 1, 1 << 20, f);
	fclose(f);
	return p;
}

static void sql_on(const char *path, const char *sql)
{
	sqlite3 *db;
	char *msg = NULL;

	assert_int_equal(sqlite3_open(path, &db), 0);
	if (sqlite3_exec(db, sql, NULL, NULL, &msg))
		fail_msg("%s: %s", sql, msg);
	sqlite3_close(db);
}

/* Neither the writer nor the reader takes it, both say why, and not a byte changes. */
static void refuse(const char *path, const char *why_writer, const char *why_reader)
{
	struct moe_trace_opt o = { .detail = MOE_DETAIL_ROUTES };
	struct moe_run_desc d = { .layers = model_a, .n_moe_layer = 3 };
	struct moe_err e = { 0 };
	unsigned char *a, *b;
	size_t na = 0, nb = 0;
	struct stat st;
	int file = !stat(path, &st) && S_ISREG(st.st_mode);

	a = file ? slurp(path, &na) : NULL;
	assert_null(moe_trace_open(path, &o, &d, &e));
	if (!strstr(e.msg, why_writer))
		fail_msg("%s", e.msg);
	assert_null(reader_open(path, &e));
	if (!strstr(e.msg, why_reader))
		fail_msg("%s", e.msg);
	if (!file)
		return;
	b = slurp(path, &nb);
	assert_int_equal(na, nb);
	assert_memory_equal(a, b, na);
	free(a);
	free(b);
}

static void test_foreign(void **state)
{
	struct moe_trace_opt o = { .detail = MOE_DETAIL_ROUTES };
	struct engine g;
	FILE *f;

	(void)state;
	sql_on(path_of("foreign.db"), "CREATE TABLE t(x); INSERT INTO t VALUES(1)");
	refuse(path_of("foreign.db"), "not of moescope", "not of moescope");
	sql_on(path_of("wal.db"), "PRAGMA journal_mode = WAL; CREATE TABLE t(x)");
	refuse(path_of("wal.db"), "not of moescope", "not of moescope");
	f = fopen(path_of("text.db"), "w");
	fputs("notes of a person, not a database", f);
	fclose(f);
	refuse(path_of("text.db"), "not a SQLite database", "not a SQLite database");
	engine_open(&g, path_of("newer.db"), model_a, 3, &o, 1);
	engine_close(&g);
	engine_free(&g);
	sql_on(path_of("newer.db"), "PRAGMA user_version = 99");
	refuse(path_of("newer.db"), "schema version 99", "schema version 99");
	refuse(dir, "a directory", "a directory");
	refuse(path_of("missing/x.db"), "unable to open", "no such file");
	refuse("/dev/null", "not a regular file", "not a regular file");
	mkfifo(path_of("fifo"), 0600);
	refuse(path_of("fifo"), "not a regular file", "not a regular file");
	refuse("", "empty", "empty");
	f = fopen(path_of("cut.db"), "w"); /* our head, and nothing behind it */
	fwrite("SQLite format 3", 1, 16, f);
	fseek(f, 68, SEEK_SET);
	fwrite("MOES", 1, 4, f);
	fclose(f);
	refuse(path_of("cut.db"), "cut.db", "cut.db");
}

/* What the run in v1_rows says, read as version 1 or after migration. */
static void check_v1(const char *path)
{
	static const int experts[] = { 2, 0, 1, 2 };
	static const float weights[] = { .75f, .25f, .5f, .5f };
	struct load_filter f = { .run = 1, .domain = -1, .phase = -1 };
	struct run_info *info = malloc(sizeof *info);
	struct moe_err e;
	struct reader *r = reader_open(path, &e);
	struct cursor *cur;
	struct cursor_chunk c;
	struct load_set s;

	if (!r || reader_run(r, 1, info, &e) || !(cur = cursor_open(r, &f, &e)))
		fail_msg("%s", e.msg);
	assert_string_equal(info->weights, "exact");
	assert_string_equal(info->source, "");
	if (cursor_next(cur, &c, &e) != 1)
		fail_msg("%s", e.msg);
	assert_int_equal(c.n, 2);
	assert_int_equal(c.tokens[1], 6);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(c.experts[i], experts[i]);
		assert_float_equal(c.weights[i], weights[i], 0);
	}
	assert_float_equal(c.margins[0], 1.5f, 0);
	assert_float_equal(c.margins[1], 0.125f, 0);
	assert_int_equal(cursor_next(cur, &c, &e), 0);
	cursor_close(cur);
	assert_int_equal(ask(reader_db(r), "SELECT sum(expert * (rank + 1)) FROM routing WHERE run = 1"), 7);
	assert_int_equal(reader_load(r, &f, &s, &e), 0);
	assert_int_equal(s.layer[0].tokens, 2);
	assert_int_equal(s.layer[0].counts[2], 2);
	load_set_free(&s);
	reader_close(r);
	free(info);
}

/* A version 1 database made from the schema's text by itself, with a run of that version, is read
 * as it is and takes a new run; after that it reads the same. */
static void test_migration(void **state)
{
	static const char v1[] =
#include "schema_sql.h"
		;
	struct moe_trace_opt o = { .detail = MOE_DETAIL_COUNTS };
	/* One layer, 2 of 3 experts, two tokens: {2, 0} and {1, 2}. */
	static const char v1_rows[] = "INSERT INTO model(id, name, router) VALUES(1, 'old', 'top-2');"
		"INSERT INTO moe_layer VALUES(1, 0, 3, 2);"
		"INSERT INTO run(id, model, state, detail, started, ended, heartbeat, bucket_ns) "
		"  VALUES(1, 1, 'done', 'routes', 5, 6, 6, 1000);"
		"INSERT INTO sequence(id, run, seq, started, n_prompt) VALUES(1, 1, 9, 5, 2);"
		"INSERT INTO chunk VALUES(1, 1, 1, 0, 2, 0, 5, 1, x'0500000006000000', x'0200000001000200',"
		"  x'0000403f0000803e0000003f0000003f', x'0000c03f0000003e', NULL, NULL, NULL);"
		"INSERT INTO load VALUES(1, 0, 0, 0, 0, 2, x'010000000000000001000000000000000200000000000000',"
		"  zeroblob(24), zeroblob(24), 0, 0, 0, 1.625, 2, 0, 0)";
	const char *path = path_of("v1.db");
	struct engine g;
	sqlite3 *db;

	(void)state;
	assert_int_equal(SCHEMA_VERSION, 3); /* a new version needs a test from each one before */
	sql_on(path, v1);
	sql_on(path, "PRAGMA application_id = 1297040723; PRAGMA user_version = 1;"
		"INSERT INTO domain VALUES(7, 'medical')");
	sql_on(path, v1_rows);
	check_v1(path);
	engine_open(&g, path, model_a, 3, &o, 1);
	drive(&g, 1, 2, 3);
	engine_close(&g);
	sqlite3_open(path, &db);
	assert_int_equal(ask(db, "PRAGMA user_version"), SCHEMA_VERSION);
	assert_int_equal(ask(db, "PRAGMA application_id"), SCHEMA_APPLICATION_ID);
	assert_int_equal(ask(db, "SELECT domain FROM sequence WHERE seq = 2"), 7);
	sqlite3_close(db);
	check_v1(path);
	engine_free(&g);
}

/* A database of version 2 gains the tables of version 3, and reading it before that finds them empty. */
static void test_migration_2(void **state)
{
	static const char v2[] =
#include "schema_sql.h"
#include "schema_2_sql.h"
		;
	struct moe_trace_opt o = { .detail = MOE_DETAIL_COUNTS };
	struct load_filter f = { .run = 1, .domain = -1, .phase = -1 };
	const char *path = path_of("v2.db");
	struct moe_cache_use use;
	struct setting *set;
	struct reader *r;
	struct engine g;
	struct moe_err e = { 0 };
	sqlite3 *db;
	size_t n;

	(void)state;
	sql_on(path, v2);
	sql_on(path, "PRAGMA application_id = 1297040723; PRAGMA user_version = 2;"
		"INSERT INTO domain VALUES(7, 'medical')");
	r = reader_open(path, &e);
	assert_non_null(r);
	assert_int_equal(reader_cache(r, &f, &use, &e), 0);
	assert_int_equal(use.hits + use.misses + use.bytes + use.stall_ns, 0);
	assert_int_equal(reader_settings(r, 1, &set, &n, &e), 0);
	assert_int_equal(n, 0);
	reader_close(r);
	engine_open(&g, path, model_a, 3, &o, 1);
	drive(&g, 1, 2, 3);
	engine_close(&g);
	sqlite3_open(path, &db);
	assert_int_equal(ask(db, "PRAGMA user_version"), SCHEMA_VERSION);
	assert_int_equal(ask(db, "SELECT count(*) FROM sqlite_schema WHERE name IN ('setting', 'cache')"), 2);
	assert_int_equal(ask(db, "SELECT count(*) FROM cache"), 0);
	sqlite3_close(db);
	engine_free(&g);
}

/* Settings of a run, and its cache's figures summed over batches, by phase. */
static void test_settings_and_cache(void **state)
{
	static const struct moe_setting set[] = { { "kv type", "f16" }, { "adapter 1", "0.5 ab x.gguf" } };
	const struct moe_layer_desc layer = { 0, 3, 2 };
	struct moe_run_desc d = { .layers = &layer, .n_moe_layer = 1, .settings = set, .n_setting = 2 };
	struct moe_trace_opt o = { .detail = MOE_DETAIL_COUNTS, .commit_ms = 5 };
	struct load_filter f = { .run = 1, .domain = -1, .phase = -1 };
	const char *path = path_of("cache.db");
	struct moe_err e = { 0 };
	struct moe_trace *t = moe_trace_open(path, &o, &d, &e);
	struct moe_hook *h = moe_trace_hook(t);
	struct moe_cache_use use;
	struct setting *got;
	struct reader *r;
	size_t n;

	(void)state;
	for (uint64_t i = 0; i < 40; i++) {
		struct moe_batch_info b = { .seq = 1, .n_tok = 1, .phase = i % 4 ? MOE_DECODE : MOE_PREFILL,
			.busy_ns = 10, .cache = { i, 2 * i, 100 * i, 7 } };

		assert_int_equal(h->batch_end(h->ctx, &b, &e), 0);
		if (i % 10 == 9)
			usleep(8000); /* into another commit */
	}
	assert_int_equal(moe_trace_close(t, MOE_RUN_DONE, &e), 0);
	r = reader_open(path, &e);
	assert_int_equal(reader_cache(r, &f, &use, &e), 0);
	assert_int_equal(use.hits, 780); /* 0 + 1 + ... + 39 */
	assert_int_equal(use.misses, 1560);
	assert_int_equal(use.bytes, 78000);
	assert_int_equal(use.stall_ns, 280);
	f.phase = MOE_PREFILL;
	assert_int_equal(reader_cache(r, &f, &use, &e), 0);
	assert_int_equal(use.hits, 180); /* 0 + 4 + ... + 36 */
	assert_int_equal(reader_settings(r, 1, &got, &n, &e), 0);
	assert_int_equal(n, 2);
	assert_string_equal(got[0].key, "adapter 1");
	assert_string_equal(got[0].value, "0.5 ab x.gguf");
	assert_string_equal(got[1].value, "f16");
	free(got);
	reader_close(r);
}

/* Chunks and load rows that say something else than they should: a clear error each. */
static void test_corrupt(void **state)
{
	static const struct { const char *sql, *why; int load; } cases[] = {
		{ "UPDATE chunk SET experts = x'0001' WHERE id = 1", "chunk 1: experts has 2 bytes", 0 },
		{ "UPDATE chunk SET experts = NULL WHERE id = 1", "chunk 1: experts has 0 bytes", 0 },
		{ "UPDATE chunk SET weights = zeroblob(1e6) WHERE id = 1", "weights has 1000000", 0 },
		{ "UPDATE chunk SET n = 100000 WHERE id = 1", "chunk 1: 100000 tokens", 0 },
		{ "UPDATE chunk SET n = -1 WHERE id = 1", "chunk 1: -1 tokens", 0 },
		{ "UPDATE chunk SET codec = 9 WHERE id = 1", "chunk 1: codec 9", 0 },
		{ "UPDATE chunk SET experts = CAST(replace(hex(zeroblob(length(experts)/2)), '0', char(255)) "
			"AS BLOB) WHERE id = 1", "expert", 0 },
		{ "UPDATE moe_layer SET n_expert = 70000 WHERE layer = 1", "70000 experts", 2 },
		{ "UPDATE moe_layer SET k = 0 WHERE layer = 1", "0 picks", 2 },
		{ "DELETE FROM moe_layer", "0 MoE layers", 2 },
		{ "UPDATE load SET counts = x'00' WHERE layer = 1", "have 1, 128, 128 bytes", 1 },
		{ "UPDATE load SET layer = 99 WHERE layer = 1", "layer 99", 1 },
	};
	struct moe_trace_opt o = { .detail = MOE_DETAIL_ROUTES };
	char path[256], copy[256], cmd[600];
	struct engine g;

	(void)state;
	snprintf(path, sizeof path, "%s", path_of("good.db"));
	snprintf(copy, sizeof copy, "%s", path_of("bad.db"));
	engine_open(&g, path, model_a, 3, &o, 1);
	drive(&g, 1, 2, 3);
	engine_close(&g);
	engine_free(&g);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct load_filter f = { .run = 1, .domain = -1, .phase = -1 };
		struct moe_err e = { 0 };
		struct cursor_chunk c;
		struct load_set s;
		struct reader *r;
		sqlite3_stmt *st = NULL;
		int rc;

		snprintf(cmd, sizeof cmd, "cp %s %s", path, copy);
		assert_int_equal(system(cmd), 0);
		sql_on(copy, cases[i].sql);
		r = reader_open(copy, &e);
		assert_non_null(r);
		if (cases[i].load) {
			assert_int_equal(reader_load(r, &f, &s, &e), -1);
			if (!strstr(e.msg, cases[i].why))
				fail_msg("case %zu: %s", i, e.msg);
		}
		if (cases[i].load != 1) {
			struct cursor *cur = cursor_open(r, &f, &e);

			rc = cur ? 1 : -1;
			while (rc == 1)
				rc = cursor_next(cur, &c, &e);
			assert_int_equal(rc, -1);
			cursor_close(cur);
			if (!strstr(e.msg, cases[i].why))
				fail_msg("case %zu: %s", i, e.msg);
			for (int way = 0; way < 2; way++) {
				assert_int_equal(sqlite3_prepare_v2(reader_db(r), way ?
					"SELECT layer, expert, count(*) FROM routing GROUP BY 1, 2" :
					"SELECT sum(weight), max(expert), max(pos) FROM routing", -1, &st, NULL), 0);
				while ((rc = sqlite3_step(st)) == SQLITE_ROW)
					;
				if (rc == SQLITE_DONE && !strstr(cases[i].sql, "weights"))
					fail_msg("case %zu: routing saw nothing", i);
				sqlite3_finalize(st);
			}
		}
		reader_close(r);
	}
}

static void spill(const char *path, const unsigned char *p, size_t n)
{
	FILE *f = fopen(path, "wb");

	assert_non_null(f);
	assert_int_equal(fwrite(p, 1, n, f), n);
	fclose(f);
}

/* Read all there is, whatever it says. */
static void read_all(const char *path)
{
	struct load_filter f = { .run = 1, .domain = -1, .phase = -1 };
	struct run_info *info = malloc(sizeof *info);
	struct domain_info *d;
	struct cursor_chunk c;
	struct cursor *cur;
	struct load_set s;
	struct moe_err e;
	struct note *note;
	size_t n;
	struct reader *r = reader_open(path, &e);

	if (r) {
		reader_run(r, 0, info, &e);
		if (!reader_domains(r, 1, &d, &n, &e))
			free(d);
		if (!reader_notes(r, 1, 0, &note, &n, &e))
			free(note);
		if (!reader_load(r, &f, &s, &e))
			load_set_free(&s);
		cur = cursor_open(r, &f, &e);
		while (cur && cursor_next(cur, &c, &e) == 1)
			;
		cursor_close(cur);
		sqlite3_exec(reader_db(r), "SELECT layer, expert, count(*) FROM routing GROUP BY 1, 2; "
			"SELECT sum(weight), sum(margin), sum(domain) FROM routing", NULL, NULL, NULL);
	}
	reader_close(r);
	free(info);
}

/* Random damage to the file, and cuts: errors are fine, crashes and sanitizer reports are not. */
static void test_damage(void **state)
{
	struct moe_trace_opt o = { .detail = MOE_DETAIL_FULL };
	char good[256], bad[256];
	unsigned char *p, *q;
	struct engine g;
	struct rng r;
	size_t n;

	(void)state;
	snprintf(good, sizeof good, "%s", path_of("whole.db"));
	snprintf(bad, sizeof bad, "%s", path_of("damaged.db"));
	engine_open(&g, good, model_a, 3, &o, 1);
	drive(&g, 1, 2, 3);
	engine_close(&g);
	engine_free(&g);
	p = slurp(good, &n);
	q = malloc(n);
	rng_seed(&r, 99);
	for (int i = 0; i < 300; i++) {
		size_t len = i % 5 ? n : rng_below(&r, n);

		memcpy(q, p, n);
		for (uint64_t k = 1 + rng_below(&r, 40); k > 0; k--) /* mostly where structure is */
			q[rng_below(&r, k & 1 ? 4096 : n)] = (unsigned char)rng_u64(&r);
		memcpy(q, p, i & 1 ? 100 : 0); /* half of them keep the file's head */
		spill(bad, q, len);
		read_all(bad);
	}
	free(p);
	free(q);
}

/* The engine stops between two layers and never ends its sequence: whole batches stay. */
static void test_broken_batch(void **state)
{
	struct moe_trace_opt o = { .detail = MOE_DETAIL_ROUTES };
	const char *path = path_of("broken.db");
	struct run_info *info = calloc(1, sizeof *info);
	struct engine g;
	struct reader *r;
	struct moe_err e;

	(void)state;
	engine_open(&g, path, model_a, 3, &o, 8);
	begin(&g, 1, 0);
	assert_int_equal(batch(&g, 1, 0, 30, MOE_PREFILL, 0), 0);
	for (uint32_t i = 0; i < 5; i++)
		assert_int_equal(batch(&g, 1, 30 + i, 1, MOE_DECODE, 0), 0);
	make_token(&g, 1, 35, MOE_DECODE, 0);
	assert_int_equal(play(&g, g.n - 1, 2), 0);
	g.n--; /* it does not count */
	free(g.tok[g.n].experts), free(g.tok[g.n].before), free(g.tok[g.n].weights);
	free(g.tok[g.n].margins), free(g.tok[g.n].logits), free(g.tok[g.n].flags);
	assert_int_equal(moe_trace_close(g.trace, MOE_RUN_FAILED, &e), 0);
	r = reader_open(path, &e);
	assert_non_null(r);
	check_load(&g, r, 1);
	check_cursor(&g, r, 1, 0);
	assert_int_equal(reader_run(r, 1, info, &e), 0);
	assert_string_equal(info->state, "failed");
	assert_int_equal(info->n_seq_open, 1);
	assert_int_equal(info->n_prompt, 30);
	assert_int_equal(info->n_generated, 5);
	reader_close(r);
	engine_free(&g);
	free(info);
}

/* An engine that breaks the contract hears of it. */
static void test_contract(void **state)
{
	struct moe_trace_opt o = { .detail = MOE_DETAIL_ROUTES };
	static const struct moe_layer_desc other = { 0, 16, 1 };
	struct moe_batch_info b = { 1, 0, 1, 0, 0, { 0 } };
	struct engine g;

	(void)state;
	engine_open(&g, path_of("contract.db"), model_a, 3, &o, 8);
	begin(&g, 1, 0);
	make_token(&g, 1, 0, MOE_PREFILL, 0);
	assert_int_equal(play(&g, 0, 2), 0);
	assert_int_equal(g.hook->batch_end(g.hook->ctx, &b, &g.err), -1);
	assert_non_null(strstr(g.err.msg, "2 of 3"));
	g.layer = model_a + 1; /* starts with the second layer */
	assert_int_equal(play(&g, 0, 1), -1);
	g.layer = &other;
	assert_int_equal(play(&g, 0, 1), -1);
	g.layer = model_a;
	assert_int_equal(play(&g, 0, 3), 0);
	g.tok[0].experts[0] = 16;
	assert_int_equal(play(&g, 0, 3), 0);
	assert_int_equal(moe_trace_close(g.trace, MOE_RUN_DONE, &g.err), -1); /* found by the writer */
	assert_non_null(strstr(g.err.msg, "expert 16 of 16"));
	engine_free(&g);
}

/* The disk is full: the hook says so, and what was committed is still there. */
static void test_disk_full(void **state)
{
	struct moe_trace_opt o = { .detail = MOE_DETAIL_FULL, .commit_ms = 5 };
	const char *path = path_of("fullfs.db");
	struct reader *r;
	struct moe_err e;
	sqlite3_int64 n;
	pid_t child = fork();
	int status;

	(void)state;
	if (!child) {
		struct rlimit lim = { 400000, 400000 };
		struct engine g;
		int bad = 0;

		signal(SIGXFSZ, SIG_IGN);
		engine_open(&g, path, model_a, 3, &o, 3);
		setrlimit(RLIMIT_FSIZE, &lim);
		begin(&g, 1, 0);
		for (uint32_t i = 0; i < 100000 && !bad; i++) {
			bad = batch(&g, 1, i * 20, 20, MOE_PREFILL, 0);
			sqlite3_sleep(2); /* several small commits before the limit */
		}
		if (!bad || g.err.code != MOE_ERR_SYS || !*g.err.msg)
			_exit(1);
		_exit(moe_trace_close(g.trace, MOE_RUN_DONE, &g.err) ? 0 : 2);
	}
	waitpid(child, &status, 0);
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_true(WIFEXITED(status));
	r = reader_open(path, &e);
	if (!r)
		fail_msg("%s", e.msg);
	n = ask(reader_db(r), "SELECT sum(n) FROM chunk");
	assert_true(n > 0);
	assert_int_equal(ask(reader_db(r), "SELECT sum(tokens) FROM load WHERE layer = 0"), n);
	reader_close(r);
}

/* Counts of a window of buckets, straight from the rows of load. */
static uint64_t tokens_between(struct reader *r, int64_t a, int64_t b, int domain, int phase)
{
	char sql[256];

	snprintf(sql, sizeof sql, "SELECT total(tokens) FROM load WHERE layer = 0 AND bucket >= %lld AND "
		"bucket < %lld AND (%d < 0 OR domain = %d) AND (%d < 0 OR phase = %d)", (long long)a,
		(long long)b, domain, domain, phase, phase);
	return (uint64_t)ask(reader_db(r), sql);
}

static void check_windows(struct reader *r, struct rng *rng, int64_t n)
{
	for (int i = 0; i < 300; i++) {
		int64_t a = (int64_t)rng_below(rng, (uint64_t)n + 20), b = a + 1 + (int64_t)rng_below(rng, 400);
		struct load_filter f = { .run = 1, .domain = (int64_t)rng_below(rng, 3) - 1,
			.phase = (int)rng_below(rng, 3) - 1, .bucket0 = a, .bucket1 = b };
		uint64_t want = tokens_between(r, a, b, (int)f.domain, f.phase), picks = 0;
		struct load_set s;
		struct moe_err e;

		if (i % 3 ? reader_load(r, &f, &s, &e) : reader_load_counts(r, &f, &s, &e))
			fail_msg("%s", e.msg);
		assert_int_equal(s.layer[0].tokens, want);
		for (size_t x = 0; x < s.layer[0].n_expert; x++)
			picks += s.layer[0].counts[x];
		assert_int_equal(picks, want * s.layer[0].k);
		load_set_free(&s);
	}
}

/* A run of many buckets: groups of them are summed up on the way, every window says what the rows of
 * load say, the whole run what was routed; an edit by hand makes the groups void. */
static void test_groups(void **state)
{
	struct moe_trace_opt o = { .detail = MOE_DETAIL_COUNTS, .commit_ms = 1, .bucket_ms = 1 };
	const char *path = path_of("groups.db");
	int64_t n, summed = 0, before;
	struct engine g;
	struct reader *r;
	struct moe_err e;
	struct rng rng;

	(void)state;
	rng_seed(&rng, 3);
	engine_open(&g, path, model_a, 3, &o, 21);
	begin(&g, 1, 1);
	r = reader_open(path, &e);
	assert_non_null(r);
	for (uint32_t i = 0; i < 330; i++) {
		assert_int_equal(batch(&g, 1, i * 2, 2, i % 2 ? MOE_DECODE : MOE_PREFILL, 1), 0);
		sqlite3_sleep(i % 100 == 50 ? 40 : 1); /* some buckets stay empty */
		if (i % 110 == 100) { /* while it lives, groups only grow */
			before = summed;
			summed = ask(reader_db(r), "SELECT summed FROM run");
			assert_true(summed >= before);
		}
	}
	end(&g, 1, 330, 330);
	engine_close(&g);
	assert_int_equal(reader_n_buckets(r, 1, &n, &e), 0);
	assert_int_equal(n, ask(reader_db(r), "SELECT max(bucket) + 1 FROM load"));
	assert_true(n > 300);
	assert_true(ask(reader_db(r), "SELECT summed FROM run") > 256);
	assert_true(ask(reader_db(r), "SELECT count(DISTINCT bucket) FROM load_sum WHERE level = 1") > 15);
	assert_true(ask(reader_db(r), "SELECT count(*) FROM load_sum WHERE level = 2") > 0);
	check_load(&g, r, 1);
	check_windows(r, &rng, n);
	/* Groups are what is read: one that lies shows. */
	sql_on(path, "UPDATE load_sum SET tokens = tokens + 1000000");
	assert_true(tokens_between(r, 0, n, -1, -1) < 1000000);
	{
		struct load_filter f = { .run = 1, .domain = -1, .phase = -1 };
		struct load_set s;

		assert_int_equal(reader_load(r, &f, &s, &e), 0);
		assert_true(s.layer[0].tokens > 1000000);
		load_set_free(&s);
	}
	sql_on(path, "UPDATE load SET tokens = tokens");
	check_load(&g, r, 1);
	check_windows(r, &rng, n);
	reader_close(r);
	engine_free(&g);
}

/* What a scan hands out is what a cursor does, for any number of threads. */
struct seen { uint64_t *hash; size_t k[4]; uint64_t chunks; };

static uint64_t see_float(uint64_t h, float x)
{
	uint32_t u;

	memcpy(&u, &x, sizeof u);
	return (h ^ u) * UINT64_C(1099511628211);
}

static void see_block(void *ctx, const struct scan_block *b)
{
	struct seen *s = ctx;
	uint64_t *h = &s->hash[b->li];

	for (uint32_t t = 0; t < b->chunk->n; t++) {
		*h = (*h ^ b->chunk->seq ^ (b->chunk->pos + t) << 8 ^ (uint64_t)b->chunk->tokens[t] << 32 ^
			b->chunk->tag << 50) * UINT64_C(1099511628211);
		*h += b->flags ? b->flags[t] : 0;
		for (size_t i = 0; i < b->layer.k; i++) {
			*h = (*h ^ b->experts[t * b->layer.k + i]) * UINT64_C(1099511628211);
			*h = see_float(*h, b->weights[t * b->layer.k + i]);
		}
		*h = see_float(*h, b->margins[t]);
		for (size_t i = 0; b->logits && i < b->layer.n_expert; i++)
			*h = see_float(*h, b->logits[t * b->layer.n_expert + i]);
		for (size_t i = 0; b->next && i < s->k[b->li + 1]; i++)
			*h = (*h ^ b->next[t * s->k[b->li + 1] + i] ^ (b->next_flags ? b->next_flags[t] : 0) << 16) *
				UINT64_C(1099511628211);
	}
}

static int see_chunk(void *ctx, struct scan_chunk *c)
{
	((struct seen *)ctx)->chunks++;
	c->tag = (size_t)c->domain;
	return c->seq % 5 != 4; /* some are left out */
}

static void see_cursor(struct reader *r, const struct load_filter *f, struct seen *s)
{
	struct moe_err e;
	struct cursor *cur = cursor_open(r, f, &e);
	struct cursor_chunk c;
	static uint16_t set[2][128 * MOE_MAX_EXPERT / 8];
	static float weights[128 * MOE_MAX_EXPERT / 8], margins[128], logits[128 * MOE_MAX_EXPERT];
	uint8_t flags[2][128];

	assert_non_null(cur);
	while (cursor_next(cur, &c, &e) == 1) {
		struct scan_chunk x = { .seq = c.seq, .pos = c.pos, .n = c.n, .tokens = c.tokens,
			.tag = (size_t)c.domain };

		s->chunks++;
		for (size_t l = 0; l < c.n_layer && c.seq % 5 != 4; l++) {
			struct scan_block b = { .chunk = &x, .li = l, .layer = c.layers[l], .experts = set[0],
				.flags = flags[0], .weights = weights, .margins = margins,
				.logits = c.logits ? logits : NULL, .next = l + 1 < c.n_layer ? set[1] : NULL,
				.next_flags = flags[1] };

			for (uint32_t t = 0; t < c.n; t++) {
				for (size_t y = l; y < l + 2 && y < c.n_layer; y++) {
					size_t k = c.layers[y].k;

					memcpy(set[y - l] + t * k, c.experts + t * c.k_row + c.k_at[y], k * 2);
					flags[y - l][t] = c.flags ? c.flags[t * c.n_layer + y] : 0;
				}
				memcpy(weights + t * b.layer.k, c.weights + t * c.k_row + c.k_at[l], b.layer.k * 4);
				margins[t] = c.margins[t * c.n_layer + l];
				if (c.logits)
					memcpy(logits + t * b.layer.n_expert, c.logits + t * c.e_row + c.e_at[l],
						b.layer.n_expert * 4);
			}
			see_block(s, &b);
		}
	}
	cursor_close(cur);
}

static void check_scan(enum moe_detail detail, enum moe_weights weights)
{
	struct moe_trace_opt o = { .detail = detail, .weights = weights };
	const char *path = path_of("scan.db");
	struct engine g;
	struct reader *r;
	struct moe_err e;

	unlink(path);
	engine_open(&g, path, model_a, 3, &o, 4);
	drive(&g, 1, 23, 5);
	engine_close(&g);
	engine_free(&g);
	r = reader_open(path, &e);
	assert_non_null(r);
	for (int phase = -1; phase < 2; phase++) {
		struct load_filter f = { .run = 1, .domain = phase == 0 ? 2 : -1, .phase = phase };
		uint64_t want[3] = { 0 }, got[3];
		struct seen a = { .hash = want }, b = { .hash = got };

		for (int l = 0; l < 3; l++)
			a.k[l] = b.k[l] = model_a[l].k;
		see_cursor(r, &f, &a);
		assert_true(a.chunks > 5);
		for (int threads = 0; threads < 5; threads++) {
			struct scan_calls calls = { .ctx = &b, .chunk = see_chunk, .block = see_block,
				.want = SCAN_WEIGHTS | SCAN_MARGINS | SCAN_LOGITS | SCAN_NEXT };

			memset(got, 0, sizeof got);
			b.chunks = 0;
			assert_int_equal(scan_run(r, &f, threads, &calls, &e), 0);
			assert_memory_equal(got, want, sizeof got);
			assert_int_equal(b.chunks, a.chunks);
		}
	}
	reader_close(r);
}

static void test_scan(void **state)
{
	(void)state;
	check_scan(MOE_DETAIL_ROUTES, MOE_WEIGHTS_EXACT);
	check_scan(MOE_DETAIL_ROUTES, MOE_WEIGHTS_16BIT);
	check_scan(MOE_DETAIL_FULL, MOE_WEIGHTS_8BIT);
}

/* Every precision: the same experts and sums; weights within what trace.h promises. */
static void test_precision(void **state)
{
	const char *const name[] = { "exact", "16bit", "8bit", "none" };

	(void)state;
	for (int w = MOE_WEIGHTS_EXACT; w <= MOE_WEIGHTS_NONE; w++) {
		struct moe_trace_opt o = { .detail = MOE_DETAIL_ROUTES, .weights = (enum moe_weights)w };
		struct load_filter f = { .run = 1, .domain = -1, .phase = -1 };
		struct run_info *info = malloc(sizeof *info);
		struct cursor_chunk c;
		struct cursor *cur;
		struct engine g;
		struct reader *r;
		struct moe_err e;
		char file[32];
		size_t n = 0;

		snprintf(file, sizeof file, "%s.db", name[w]);
		engine_open(&g, path_of(file), model_a, 3, &o, 8);
		drive(&g, 1, 4, 5);
		engine_close(&g);
		r = reader_open(path_of(file), &e);
		assert_non_null(r);
		assert_int_equal(reader_run(r, 0, info, &e), 0);
		assert_string_equal(info->weights, name[w]);
		check_load(&g, r, 1);
		cur = cursor_open(r, &f, &e);
		while (cursor_next(cur, &c, &e) == 1)
			for (uint32_t i = 0; i < c.n; i++, n++) {
				const struct token *t = find(&g, c.seq, c.pos + i);

				assert_memory_equal(c.experts + i * c.k_row, t->experts, c.k_row * 2);
				for (size_t k = 0; k < c.k_row; k++) {
					float was = t->weights[k], is = c.weights[i * c.k_row + k];

					if (w == MOE_WEIGHTS_NONE)
						assert_true(isnan(is));
					else if (!(fabsf(is - was) <= (w == MOE_WEIGHTS_EXACT ? 0 :
						w == MOE_WEIGHTS_16BIT ? fmaxf(was * 0x1p-11f, 0x1p-25f) : 1 / 509.f)))
						fail_msg("%s: %g became %g", name[w], was, is);
				}
			}
		assert_int_equal(n, g.n);
		cursor_close(cur);
		reader_close(r);
		engine_free(&g);
		free(info);
	}
}

/* A reader follows a live run, without ever holding it up. */
static void test_live(void **state)
{
	struct moe_trace_opt o = { .detail = MOE_DETAIL_ROUTES, .commit_ms = 10, .bucket_ms = 50 };
	const char *path = path_of("live.db");
	struct run_info *info = calloc(1, sizeof *info);
	struct engine g;
	struct reader *r = NULL;
	struct moe_err e;
	uint64_t last = 0;
	struct note *note;
	size_t n_note;
	char text[16];
	int len;

	(void)state;
	engine_open(&g, path, model_a, 3, &o, 11);
	assert_int_equal(moe_trace_note(g.trace, "operator", "hello", &e), 0);
	assert_int_equal(moe_trace_token_text(g.trace, 5, " five", 5, &e), 0);
	begin(&g, 1, 1);
	r = reader_open(path, &e);
	assert_non_null(r);
	for (uint32_t i = 0; i < 8; i++) {
		assert_int_equal(batch(&g, 1, i * 10, 10, MOE_PREFILL, 1), 0);
		sqlite3_sleep(60);
		assert_int_equal(reader_run(r, 0, info, &e), 0);
		assert_true(info->alive);
		assert_true(info->n_prompt > last);
		last = info->n_prompt;
	}
	end(&g, 1, 80, 0);
	assert_int_equal(reader_notes(r, 1, 0, &note, &n_note, &e), 0);
	assert_int_equal(n_note, 1);
	assert_string_equal(note[0].kind, "operator");
	assert_string_equal(note[0].text, "hello");
	assert_int_equal(note[0].layer, -1);
	free(note);
	engine_close(&g); /* while the reader has it open */
	check_load(&g, r, 1); /* several buckets */
	assert_int_equal(reader_token(r, info->model, 5, text, sizeof text, &len, &e), 0);
	assert_int_equal(len, 5);
	assert_memory_equal(text, " five", 5);
	assert_int_equal(reader_token(r, info->model, 6, text, sizeof text, &len, &e), 0);
	assert_int_equal(len, -1);
	assert_true(ask(reader_db(r), "SELECT count(DISTINCT bucket) FROM load") > 3);
	assert_int_equal(sqlite3_exec(reader_db(r), "DELETE FROM run", NULL, NULL, NULL), SQLITE_READONLY);
	reader_close(r);
	engine_free(&g);
	free(info);
}

/* A reader that sits on a finished database sees the next run begin, live and end. */
static void test_next_run(void **state)
{
	struct moe_trace_opt o = { .detail = MOE_DETAIL_ROUTES, .commit_ms = 10 };
	struct run_info *info = calloc(1, sizeof *info);
	struct engine g;
	struct reader *r;
	struct moe_err e;
	int64_t *ids;
	char path[256];
	size_t n;

	(void)state;
	snprintf(path, sizeof path, "%s", path_of("next.db"));
	engine_open(&g, path, model_a, 3, &o, 1);
	drive(&g, 1, 1, 3);
	engine_close(&g);
	engine_free(&g);
	assert_int_equal(access(path_of("next.db-wal"), F_OK), -1);
	r = reader_open(path, &e);
	assert_non_null(r);
	assert_int_equal(reader_run(r, 0, info, &e), 0);
	assert_int_equal(info->id, 1);
	engine_open(&g, path, model_b, 4, &o, 2); /* another model */
	drive(&g, 1, 2, 3);
	assert_int_equal(reader_run(r, 0, info, &e), 0);
	assert_int_equal(info->id, 2);
	assert_int_equal(info->model, 2);
	assert_string_equal(info->state, "live");
	engine_close(&g);
	assert_int_equal(reader_run(r, 0, info, &e), 0);
	assert_string_equal(info->state, "done");
	assert_int_equal(info->n_moe_layer, 4);
	check_load(&g, r, 2);
	check_cursor(&g, r, 2, 0);
	check_routing(&g, r, 2);
	assert_int_equal(reader_runs(r, &ids, &n, &e), 0);
	assert_int_equal(n, 2);
	free(ids);
	reader_close(r);
	engine_free(&g);
	free(info);
}

/* ---- the ring alone ---- */

static void *consume(void *arg)
{
	struct ring *r = arg;
	uint64_t next = 0;

	for (;;) {
		int closed = ring_closed(r);
		size_t n = ring_wait(r, 3, 1000000);

		for (size_t i = 0; i < n; i++)
			if (*(uint64_t *)ring_at(r, i) != next++)
				return "out of order";
		ring_release(r, n);
		if (closed && !n)
			return next == 100000 ? NULL : "some are missing";
	}
}

static void test_ring(void **state)
{
	struct moe_err e;
	struct ring *r = ring_new(64, 7, &e);
	pthread_t th;
	void *why;

	(void)state;
	for (size_t i = 0; i < 5; i++) { /* the reserve: two stay free */
		assert_non_null(ring_reserve(r, 2, 0));
		ring_publish(r);
	}
	assert_null(ring_reserve(r, 2, 0));
	assert_non_null(ring_reserve(r, 1, 0));
	assert_int_equal(ring_wait(r, 1, 0), 5);
	ring_release(r, 5);
	pthread_create(&th, NULL, consume, r);
	for (uint64_t i = 0; i < 100000; i++) {
		*(uint64_t *)ring_reserve(r, i & 1, 1) = i;
		ring_publish(r);
	}
	ring_close(r);
	pthread_join(th, &why);
	if (why)
		fail_msg("%s", (char *)why);
	ring_stop(r);
	assert_null(ring_reserve(r, 0, 1));
	ring_free(r);
}

static int set_up(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
	char cmd[300];

	(void)state;
	snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
	return system(cmd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ring), cmocka_unit_test(test_counts), cmocka_unit_test(test_routes),
		cmocka_unit_test(test_full), cmocka_unit_test(test_bounds), cmocka_unit_test(test_mixed),
		cmocka_unit_test(test_wait), cmocka_unit_test(test_drop),
		cmocka_unit_test(test_second_writer), cmocka_unit_test(test_foreign),
		cmocka_unit_test(test_migration),
		cmocka_unit_test(test_migration_2), cmocka_unit_test(test_settings_and_cache), cmocka_unit_test(test_corrupt), cmocka_unit_test(test_damage),
		cmocka_unit_test(test_broken_batch), cmocka_unit_test(test_contract),
		cmocka_unit_test(test_disk_full), cmocka_unit_test(test_groups), cmocka_unit_test(test_scan),
		cmocka_unit_test(test_precision), cmocka_unit_test(test_live),
		cmocka_unit_test(test_next_run),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
