/*
 * test_trace_read.c - readers: windows of buckets and their sums, scans in several threads, a
 * reader beside a writer and over the end of a run.
 */
#include "trace/scan.h"

#include "trace_fake.h"

/* Counts of a window of buckets, straight from the rows of load. */
static uint64_t tokens_between(struct reader *r, int64_t a, int64_t b, int domain, int phase)
{
	char sql[256];

	snprintf(sql, sizeof sql, "SELECT total(tokens) FROM load WHERE layer = 0 AND bucket >= %lld "
		"AND bucket < %lld AND (%d < 0 OR domain = %d) AND (%d < 0 OR phase = %d)", (long long)a,
		(long long)b, domain, domain, phase, phase);
	return (uint64_t)ask(reader_db(r), sql);
}

static void check_windows(struct reader *r, struct rng *rng, int64_t n)
{
	for (int i = 0; i < 300; i++) {
		int64_t a = (int64_t)rng_below(rng, (uint64_t)n + 20),
			b = a + 1 + (int64_t)rng_below(rng, 400);
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

/* A run of many buckets: groups of them are summed up on the way, every window says what the rows
 * of load say, the whole run what was routed; an edit by hand makes the groups void. */
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
	assert_true(ask(reader_db(r), "SELECT count(DISTINCT bucket) FROM load_sum WHERE level = 1") >
		15);
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
			*h = (*h ^ b->next[t * s->k[b->li + 1] + i] ^ (b->next_flags ? b->next_flags[t] : 0) <<
				16) * UINT64_C(1099511628211);
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
	assert_int_equal(sqlite3_exec(reader_db(r), "DELETE FROM run", NULL, NULL, NULL),
		SQLITE_READONLY);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_groups),
		cmocka_unit_test(test_scan),
		cmocka_unit_test(test_live),
		cmocka_unit_test(test_next_run),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
