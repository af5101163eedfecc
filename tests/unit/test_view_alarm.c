/* test_view_alarm.c - every rule fires where it should and nowhere else, and its SQL runs. */
#include "view_made.h"

/* ---- alarms ---- */

/* Run the SQL of every alarm: it must prepare, and show something. */
static void run_sql(struct reader *r, const struct view_alarms *a)
{
	for (size_t i = 0; i < a->n; i++) {
		sqlite3_stmt *st = NULL;
		int rows = 0, rc;

		assert_true(strlen(a->alarm[i].sql) + 1 < sizeof a->alarm[i].sql);
		assert_true(strlen(a->alarm[i].text) + 1 < sizeof a->alarm[i].text);
		if (sqlite3_prepare_v2(reader_db(r), a->alarm[i].sql, -1, &st, NULL))
			fail_msg("%s: %s", a->alarm[i].sql, sqlite3_errmsg(reader_db(r)));
		while ((rc = sqlite3_step(st)) == SQLITE_ROW)
			rows++;
		if (rc != SQLITE_DONE || !rows)
			fail_msg("%s: %d rows, %s", a->alarm[i].sql, rows, sqlite3_errmsg(reader_db(r)));
		sqlite3_finalize(st);
	}
}

static struct view_alarms found; /* of the last alarm_of */

/* The alarm of a kind on a layer, NULL if there is none; runs all SQL. */
static const struct view_alarm *alarm_of(const struct load_filter *f, const char *kind, int layer)
{
	struct reader *r = open_db();

	view_alarms_free(&found);
	OK(view_alarms(r, f, &found, &err));
	run_sql(r, &found);
	reader_close(r);
	for (size_t i = 0; i < found.n; i++)
		if (!strcmp(found.alarm[i].kind, kind) && found.alarm[i].layer == layer)
			return found.alarm + i;
	return NULL;
}

static void test_balanced_is_silent(void **state)
{

	(void)state;
	begin(MOE_DETAIL_ROUTES, 7);
	for (int i = 0; i < 8; i++)
		doc("a", 200, 10, even);
	end();
	assert_null(alarm_of(&all, "collapse", 1));
	assert_int_equal(found.n, 0);
}

static void test_few_tokens_are_no_evidence(void **state)
{

	(void)state;
	begin(MOE_DETAIL_ROUTES, 8);
	doc("a", 3, 0, even); /* six picks of eight experts: some are dead, one is far above the mean */
	end();
	assert_null(alarm_of(&all, "dead", 1));
	assert_int_equal(found.n, 0);
}

static void collapse_fires(enum moe_detail detail)
{
	const struct view_alarm *x;
	struct load_filter f = all;

	begin(detail, 9);
	for (int i = 0; i < 4; i++)
		doc("a", 200, 10, collapsed);
	end();
	x = alarm_of(&all, "collapse", 3);
	assert_non_null(x);
	assert_int_equal(x->severity, VIEW_ALARM);
	near(x->value, 4, 1e-9); /* two of eight take all */
	near(x->threshold, 3, 0);
	assert_non_null(strstr(x->text, "layer 3: E0+E1 take 100 % of picks (fair share 25.0 %)"));
	x = alarm_of(&all, "dead", 3);
	assert_non_null(x);
	near(x->value, 6 / 8.0, 1e-12);
	assert_non_null(strstr(x->text, "6 of 8"));
	assert_null(alarm_of(&all, "dead", 1));
	assert_null(alarm_of(&all, "collapse", 1));
	/* within a domain the same figures may be specialisation */
	f.domain = 1;
	f.phase = MOE_PREFILL;
	x = alarm_of(&f, "collapse", 3);
	assert_non_null(x);
	assert_int_equal(x->severity, VIEW_WARNING);
	x = alarm_of(&f, "dead", 3);
	assert_int_equal(x->severity, VIEW_NOTE);
}

/* The SQL must also give the right figures: picks by expert from either source. */
static void sql_counts(void)
{
	const struct view_alarm *x = alarm_of(&all, "collapse", 3);
	struct reader *r = open_db();
	sqlite3_stmt *st;
	int64_t n[E] = { 0 };

	assert_int_equal(sqlite3_prepare_v2(reader_db(r), x->sql, -1, &st, NULL), SQLITE_OK);
	while (sqlite3_step(st) == SQLITE_ROW)
		n[sqlite3_column_int(st, 0)] = sqlite3_column_int64(st, 1);
	sqlite3_finalize(st);
	assert_int_equal(n[0], 840);
	assert_int_equal(n[1], 840);
	assert_int_equal(n[2], 0);
	reader_close(r);
}

static void test_collapse(void **state)
{
	(void)state;
	collapse_fires(MOE_DETAIL_ROUTES);
	sql_counts();
	collapse_fires(MOE_DETAIL_COUNTS);
	sql_counts();
}

/* 400 tokens, 800 picks, as counts of layer 3: the eight are written as the store keeps them. */
static void load_of(const unsigned n[E])
{
	char sql[256];
	int len = snprintf(sql, sizeof sql, "UPDATE load SET counts = x'");

	for (int e = 0; e < E; e++)
		len += snprintf(sql + len, sizeof sql - (size_t)len, "%02x%02x000000000000", n[e] & 255,
			n[e] >> 8);
	snprintf(sql + len, sizeof sql - (size_t)len, "' WHERE layer = 3");
	begin(MOE_DETAIL_COUNTS, 14);
	doc("a", 400, 0, even);
	end();
	edit(sql);
}

/* One expert at 3.2 times its fair share: a collapse only where few
 * (two of these eight) take half. */
static void test_uneven_is_no_collapse(void **state)
{
	static const unsigned uneven[E] = { 69, 69, 320, 69, 69, 68, 68, 68 }; /* 389 of 800 */
	static const unsigned half[E] = { 67, 67, 320, 67, 67, 66, 66, 80 };   /* 400 of 800 */
	const struct view_alarm *x;

	(void)state;
	load_of(uneven);
	x = alarm_of(&all, "collapse", 3);
	assert_non_null(x);
	near(x->value, 3.2, 1e-12);
	near(x->threshold, 2, 0);
	assert_int_equal(x->severity, VIEW_WARNING);
	assert_non_null(strstr(x->text, "E2 takes 40 % of picks (fair share 12.5 %), the busiest 2 of "
		"8 experts 49 %"));
	load_of(half);
	x = alarm_of(&all, "collapse", 3);
	assert_non_null(x);
	near(x->value, 3.2, 1e-12);
	assert_int_equal(x->severity, VIEW_ALARM);
}

static void test_cold_and_nan(void **state)
{
	static float chilly[L][E] = { { 0, 0, 0, 0, 0, 0, 0, -1.8f } };
	const struct view_alarm *x;

	(void)state;
	begin(MOE_DETAIL_ROUTES, 10);
	made.nan_layer = 1;
	for (int i = 0; i < 8; i++)
		doc("a", 200, 0, chilly);
	end();
	x = alarm_of(&all, "nan", 3);
	assert_non_null(x);
	assert_int_equal(x->severity, VIEW_ALARM);
	near(x->value, 8 * (3 * 7 + 1), 0); /* tokens 3, 13, ... of batches of 64, 64, 64, 8 */
	x = alarm_of(&all, "cold", 1);
	assert_non_null(x);
	assert_int_equal(x->severity, VIEW_NOTE);
	near(x->value, 1, 0);
}

static void test_since(void **state)
{
	const struct view_alarm *x;
	int64_t started, width;
	struct run_info u;
	struct reader *r;
	struct load_filter f = all;

	(void)state;
	begin(MOE_DETAIL_ROUTES, 11);
	doc("good", 500, 0, even);
	doc("bad", 500, 0, collapsed);
	end();
	/* 40 buckets: good up to 16, then bad, with a pause in 20..24. */
	edit("INSERT OR IGNORE INTO load WITH n(b) AS (VALUES(1) UNION ALL SELECT b+1 FROM n WHERE "
		"b<39) SELECT run, domain, phase, b, layer, tokens, counts, weights, probs, lse2, entropy, "
		"confidence, margin, n_margin, n_nan, n_edited FROM load, n WHERE bucket = 0 AND "
		"domain = (SELECT id FROM domain WHERE name = iif(b <= 16, 'good', 'bad')) "
		"AND b NOT BETWEEN 20 AND 24;"
		"DELETE FROM load WHERE bucket = 0 AND domain = (SELECT id FROM domain WHERE name = "
		"'bad')");
	r = open_db();
	OK(reader_run(r, 1, &u, &err));
	reader_close(r);
	started = u.started, width = u.bucket_ns;
	x = alarm_of(&all, "collapse", 3);
	assert_non_null(x);
	assert_int_equal((x->since - started) / width, 17);
	f.bucket0 = 19, f.bucket1 = 33; /* only what is selected */
	x = alarm_of(&f, "collapse", 3);
	assert_non_null(x);
	assert_int_equal((x->since - started) / width, 19);
	f.domain = 2, f.phase = MOE_PREFILL;
	assert_non_null(alarm_of(&f, "dead", 3)); /* runs the longest SQL there is */
	/* recovered in the last bucket: there is no present spell, the figure is of the whole */
	edit("INSERT INTO load SELECT run, domain, phase, 40, layer, tokens, counts, weights, probs, "
		"lse2,entropy, confidence, margin, n_margin, n_nan, n_edited FROM load WHERE bucket = 0");
	x = alarm_of(&all, "collapse", 3);
	assert_non_null(x);
	assert_int_equal(x->since, started);
}

static void test_run_alarms(void **state)
{
	const struct view_alarm *x;
	struct load_filter f = all;
	int64_t now = clock_wall();

	(void)state;
	begin(MOE_DETAIL_ROUTES, 12);
	for (int i = 0; i < 8; i++)
		doc("a", 200, 0, even);
	end();
	edit("UPDATE run SET state = 'live', ended = NULL, heartbeat = %" PRId64
		", lag_ns = 3000000000", now);
	x = alarm_of(&all, "lag", -1);
	assert_non_null(x);
	assert_int_equal(x->severity, VIEW_WARNING);
	assert_null(alarm_of(&all, "stopped", -1));
	edit("UPDATE run SET heartbeat = %" PRId64, now - INT64_C(60000000000));
	x = alarm_of(&all, "stopped", -1);
	assert_non_null(x);
	assert_int_equal(x->severity, VIEW_ALARM);
	assert_int_equal(x->since, now - INT64_C(60000000000));
	assert_null(alarm_of(&all, "lag", -1));
	edit("UPDATE run SET state = 'failed', ended = %" PRId64, now);
	x = alarm_of(&all, "failed", -1);
	assert_non_null(x);
	assert_int_equal(x->since, now);
	edit("UPDATE run SET state = 'done'; INSERT INTO event(run, time, kind, value, text) VALUES"
		"(1, %" PRId64 ", 'gap', 100, 'x'), (1, 5, 'other', 1, NULL),"
		"(1, %" PRId64 ", 'recovery', NULL, NULL)", now - 7, now);
	x = alarm_of(&all, "gap", -1);
	assert_non_null(x);
	assert_int_equal(x->severity, VIEW_ALARM); /* 100 of 1700 */
	near(x->value, 100 / 1700.0, 1e-12);
	assert_int_equal(x->since, now - 7);
	x = alarm_of(&all, "recovery", -1);
	assert_non_null(x);
	assert_int_equal(found.n, 2);
	assert_int_equal(found.alarm[0].severity, VIEW_ALARM); /* worst first */
	f.bucket0 = 1000, f.bucket1 = 1001; /* a time in which nothing was lost */
	assert_null(alarm_of(&f, "gap", -1));
}

static void test_alarms_table(void **state)
{
	struct view_table t;
	char *s;

	(void)state;
	begin(MOE_DETAIL_ROUTES, 13);
	for (int i = 0; i < 4; i++)
		doc("a", 200, 0, collapsed);
	end();
	alarm_of(&all, "collapse", 3);
	OK(view_alarms_table(&found, &t, &err));
	assert_int_equal(t.n_row, 3); /* collapsed, most experts dead, a batch's end without room */
	assert_string_equal(cell(&t, 0, "severity")->s, "alarm");
	assert_int_equal(cell(&t, find_row(&t, "layer", 3), "layer")->i, 3);
	s = print(&t, VIEW_PRETTY);
	assert_null(strstr(s, "SELECT")); /* for programs */
	free(s);
	s = print(&t, VIEW_JSON);
	assert_non_null(strstr(s, "\"sql\": \"SELECT expert"));
	free(s);
	view_table_free(&t);
}


static int free_found(void **state)
{
	view_alarms_free(&found);
	return tear_down(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_balanced_is_silent),
		cmocka_unit_test(test_few_tokens_are_no_evidence),
		cmocka_unit_test(test_collapse),
		cmocka_unit_test(test_uneven_is_no_collapse),
		cmocka_unit_test(test_cold_and_nan),
		cmocka_unit_test(test_since),
		cmocka_unit_test(test_run_alarms),
		cmocka_unit_test(test_alarms_table),
	};

	return cmocka_run_group_tests(tests, set_up, free_found);
}
