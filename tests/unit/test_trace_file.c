/*
 * test_trace_file.c - files that are not what they should be: other people's, of older versions,
 * with rows that lie, damaged or cut. Errors are clear, nothing is changed that is not ours,
 * nothing crashes.
 */
#include <sys/stat.h>

#include "trace_fake.h"

static unsigned char *slurp(const char *path, size_t *n)
{
	FILE *f = fopen(path, "rb");
	unsigned char *p = malloc(1 << 20);

	assert_non_null(f);
	*n = fread(p, 1, 1 << 20, f);
	fclose(f);
	return p;
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
	assert_int_equal(ask(reader_db(r),
		"SELECT sum(expert * (rank + 1)) FROM routing WHERE run = 1"), 7);
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
		"INSERT INTO load VALUES(1, 0, 0, 0, 0, 2, "
		"x'010000000000000001000000000000000200000000000000',  zeroblob(24), zeroblob(24), 0, 0, "
		"0, 1.625, 2, 0, 0)";
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

/* A database of version 2 gains the tables of version 3,
 * and reading it before that finds them empty. */
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
	assert_int_equal(ask(db, "SELECT count(*) FROM sqlite_schema WHERE name IN ('setting', "
		"'cache')"), 2);
	assert_int_equal(ask(db, "SELECT count(*) FROM cache"), 0);
	sqlite3_close(db);
	engine_free(&g);
}

/* load: 1 = only the sums, 2 = both, 0 = only chunks */
struct lie { const char *sql, *why; int load; };

static void says(const struct lie *c, const struct moe_err *e)
{
	if (!strstr(e->msg, c->why))
		fail_msg("%s: %s", c->sql, e->msg);
}

/* `routing` on a chunk that lies: an error, for single rows and for groups. */
static void check_routing_refuses(const struct lie *c, struct reader *r)
{
	static const char *const ways[] = { "SELECT sum(weight), max(expert), max(pos) FROM routing",
		"SELECT layer, expert, count(*) FROM routing GROUP BY 1, 2" };
	sqlite3_stmt *st = NULL;
	int rc;

	for (int way = 0; way < 2; way++) {
		assert_int_equal(sqlite3_prepare_v2(reader_db(r), ways[way], -1, &st, NULL), 0);
		while ((rc = sqlite3_step(st)) == SQLITE_ROW)
			;
		if (rc == SQLITE_DONE && !strstr(c->sql, "weights"))
			fail_msg("%s: routing saw nothing", c->sql);
		sqlite3_finalize(st);
	}
}

static void check_lie(const struct lie *c, const char *path)
{
	struct load_filter f = { .run = 1, .domain = -1, .phase = -1 };
	struct moe_err e = { 0 };
	struct cursor_chunk chunk;
	struct cursor *cur;
	struct load_set s;
	struct reader *r;
	int rc;

	sql_on(path, c->sql);
	r = reader_open(path, &e);
	assert_non_null(r);
	if (c->load) {
		assert_int_equal(reader_load(r, &f, &s, &e), -1);
		says(c, &e);
	}
	if (c->load != 1) {
		cur = cursor_open(r, &f, &e);
		rc = cur ? 1 : -1;
		while (rc == 1)
			rc = cursor_next(cur, &chunk, &e);
		assert_int_equal(rc, -1);
		cursor_close(cur);
		says(c, &e);
		check_routing_refuses(c, r);
	}
	reader_close(r);
}

/* Chunks and load rows that say something else than they should: a clear error each. */
static void test_corrupt(void **state)
{
	static const struct lie lies[] = {
		{ "UPDATE chunk SET experts = x'0001' WHERE id = 1", "chunk 1: experts has 2 bytes", 0 },
		{ "UPDATE chunk SET experts = NULL WHERE id = 1", "chunk 1: experts has 0 bytes", 0 },
		{ "UPDATE chunk SET weights = zeroblob(1e6) WHERE id = 1", "weights has 1000000", 0 },
		{ "UPDATE chunk SET n = 100000 WHERE id = 1", "chunk 1: 100000 tokens", 0 },
		{ "UPDATE chunk SET n = -1 WHERE id = 1", "chunk 1: -1 tokens", 0 },
		{ "UPDATE chunk SET codec = 9 WHERE id = 1", "chunk 1: codec 9", 0 },
		{ "UPDATE chunk SET experts = CAST(replace(hex(zeroblob(length(experts)/2)), '0', "
			"char(255)) AS BLOB) WHERE id = 1", "expert", 0 },
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
	for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
		snprintf(cmd, sizeof cmd, "cp %s %s", path, copy);
		assert_int_equal(system(cmd), 0);
		check_lie(&lies[i], copy);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_foreign),
		cmocka_unit_test(test_migration),
		cmocka_unit_test(test_migration_2),
		cmocka_unit_test(test_corrupt),
		cmocka_unit_test(test_damage),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
