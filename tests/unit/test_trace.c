/*
 * test_trace.c - the writer, from the hook to SQL: every level of detail, a lock, a second writer,
 * a full disk, an engine that breaks off or breaks the contract.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "trace_fake.h"

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

/* Settings of a run, and its cache's figures summed over batches, by phase. */
static void test_settings_and_cache(void **state)
{
	static const struct moe_setting set[] = { { "kv type", "f16" },
		{ "adapter 1", "0.5 ab x.gguf" } };
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_routes),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_mixed),
		cmocka_unit_test(test_wait),
		cmocka_unit_test(test_drop),
		cmocka_unit_test(test_second_writer),
		cmocka_unit_test(test_settings_and_cache),
		cmocka_unit_test(test_broken_batch),
		cmocka_unit_test(test_contract),
		cmocka_unit_test(test_disk_full),
		cmocka_unit_test(test_precision),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
