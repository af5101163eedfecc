/*
 * test_report_view.c - the views behind the report, counted again from the rule that routing
 * follows in report_world.h; figures beside a baseline's, and their noise worked out by hand.
 */
#include <math.h>

#include "report_world.h"

#include "base/buf.h"
#include "reports/page.h"
#include "reports/report.h"
#include "reports/show.h"

enum { W_DOC = 30, W_TOK = 48, W_E = 8, W_K = 2, W_D = 3 };

/* Picks of an expert for a token id (= position), from what write_document does. */
static unsigned picks_of(unsigned token, unsigned expert)
{
	unsigned n = 0;

	for (unsigned doc = 0; doc < W_DOC; doc++) {
		unsigned first = token % 3 ? doc % W_D : (token + doc) % W_E;

		for (unsigned i = 0; i < W_K; i++)
			n += (first + i) % W_E == expert;
	}
	return n;
}

static struct reader *small_world(struct load_filter *f)
{
	static const char *const names[] = { "c code", "law", "medical" };
	const struct world w = { 2, W_E, W_K, W_DOC, W_TOK, MOE_DETAIL_FULL, names, W_D, "model" };
	struct moe_err e = { 0 };
	struct reader *r;

	write_db(db_path, &w);
	r = reader_open(db_path, &e);
	assert_non_null(r);
	*f = (struct load_filter){ .run = 1, .domain = -1, .phase = -1 };
	return r;
}

static void test_words(void **state)
{
	struct moe_err e = { 0 };
	struct load_filter f;
	struct reader *r = small_world(&f);
	struct view_table t;
	unsigned all[W_E] = { 0 }, rows = 0;

	(void)state;
	if (view_words(r, &f, 3, 0, &t, &e))
		fail_msg("%s", e.msg);
	for (unsigned x = 0; x < W_TOK; x++)
		for (unsigned k = 0; k < W_E; k++)
			all[k] += picks_of(x, k);
	for (size_t i = 0; i < t.n_row; i++) {
		unsigned token = (unsigned)report_at(&t, i, "token"),
			x = (unsigned)report_at(&t, i, "expert");
		double p = (double)all[x] / (W_DOC * W_TOK), n = picks_of(token, x);
		double gain = n * log(n / W_DOC / p), best = 0;

		assert_true(report_at(&t, i, "seen") == W_DOC);
		assert_true(report_at(&t, i, "count") == n);
		assert_true(fabs(report_at(&t, i, "p_expert") - p) < 1e-12);
		assert_true(gain > 0);
		for (unsigned y = 0; y < W_TOK; y++) {
			double m = picks_of(y, x);

			best = fmax(best, m ? m * log(m / W_DOC / p) : 0);
		}
		if (report_at(&t, i, "rank") == 1) {
			assert_true(fabs(gain - best) < 1e-9);
			rows++;
		}
	}
	assert_int_equal(rows, 2 * W_E);
	view_table_free(&t);
	reader_close(r);
	remove_db(db_path);
}

/* All margins are 0.25 and all tokens have the same scores: 2, 1.99 and six zeros. */
static void test_spread(void **state)
{
	double z = exp(2.0f) + exp(2.0f - 0.01f) + 6, h = 0, p[3] = { exp(2.0f) / z,
		exp(2.0f - 0.01f) / z, 1 / z };
	struct moe_err e = { 0 };
	struct load_filter f;
	struct reader *r = small_world(&f);
	struct view_table t;

	(void)state;
	h = -(p[0] * log(p[0]) + p[1] * log(p[1]) + 6 * p[2] * log(p[2])) / log(W_E);
	assert_int_equal(view_spread(r, &f, &t, &e), 0);
	assert_int_equal(t.n_row, 2);
	assert_true(report_at(&t, 1, "tokens") == W_DOC * W_TOK);
	assert_true(fabs(report_at(&t, 0, "margin_p5") / 0.25 - 1) < 0.01);
	assert_true(fabs(report_at(&t, 0, "margin_p95") / 0.25 - 1) < 0.01);
	assert_true(report_at(&t, 0, "margin_below_001") == 0);
	assert_true(fabs(report_at(&t, 0, "entropy_p50") - h) <= 0.0005 + 1e-9);
	view_table_free(&t);
	f.every = 4; /* documents 1, 5, 9, ...: 8 of 30 */
	assert_int_equal(view_spread(r, &f, &t, &e), 0);
	assert_true(report_at(&t, 0, "tokens") == 8 * W_TOK);
	view_table_free(&t);
	f.every = 0, f.half = 1; /* documents 1, 3, ...: half of 30 */
	assert_int_equal(view_spread(r, &f, &t, &e), 0);
	assert_true(report_at(&t, 0, "tokens") == 15 * W_TOK);
	view_table_free(&t);
	f.every = 4, f.half = 2; /* of 1, 5, 9, ... every second: 5, 13, 21, 29 */
	assert_int_equal(view_spread(r, &f, &t, &e), 0);
	assert_true(report_at(&t, 0, "tokens") == 4 * W_TOK);
	view_table_free(&t);
	/* a document's chunk has at most 48 tokens: three of them */
	f.every = 0, f.half = 0, f.most = 100;
	assert_int_equal(view_spread(r, &f, &t, &e), 0);
	assert_in_range((unsigned)report_at(&t, 0, "tokens"), 100, 100 + 128);
	view_table_free(&t);
	reader_close(r);
	remove_db(db_path);
}

/* Rows "layer first overlap" of a locality table. */
static void locality_rows(struct view_table *t, const double (*v)[2], size_t n)
{
	static const struct view_col cols[] = { { "layer", "layer", VIEW_INT, 0 },
		{ "first", "first", VIEW_REAL, 4 }, { "overlap", "overlap", VIEW_REAL, 4 } };

	*t = (struct view_table){ .cols = cols, .n_col = 3, .n_row = n, .cap = n,
		.cells = calloc(n * 3, sizeof *t->cells) };
	assert_non_null(t->cells);
	for (size_t i = 0; i < n; i++) {
		t->cells[i * 3] = (struct view_cell){ .set = 1, .i = (int64_t)i };
		for (int k = 0; k < 2; k++)
			t->cells[i * 3 + 1 + (size_t)k] = (struct view_cell){ .set = !isnan(v[i][k]),
				.r = v[i][k] };
	}
}

/* Noise from halves, worked out by hand. `first`: squared differences of the halves over four are
 * (.04^2 + .02^2)/4 = .0005 and (.02^2 + 0)/4 = .0001, their mean .0003, its root .017321; four
 * degrees of freedom, t = 2.776: 4.8 %. The changes are +10 % and 0. `overlap` has halves that
 * never differ: not tested. */
static void test_beside(void **state)
{
	static const double a[2][2] = { { .50, .2 }, { .40, .2 } },
		b[2][2] = { { .60, .3 }, { .40, .3 } };
	static const double a1[2][2] = { { .48, .2 }, { .39, .2 } },
		a2[2][2] = { { .52, .2 }, { .41, .2 } };
	static const double b1[2][2] = { { .59, .3 }, { .40, .3 } },
		b2[2][2] = { { .61, .3 }, { .40, .3 } };
	static struct report_data d;
	struct report_page p = { .d = &d };
	struct buf out;

	(void)state;
	memset(&d, 0, sizeof d);
	buf_init(&out, 1 << 20);
	p.b = &out;
	report_beside(&p, "neighbours");
	assert_int_equal(out.len, 0); /* no baseline, nothing beside it */
	d.base.on = d.base.tested = 1;
	locality_rows(&d.table[REPORT_LOCALITY], b, 2);
	locality_rows(&d.base.table_of[REPORT_LOCALITY], a, 2);
	locality_rows(&d.base.half[0][0][REPORT_LOCALITY], a1, 2);
	locality_rows(&d.base.half[0][1][REPORT_LOCALITY], a2, 2);
	locality_rows(&d.base.half[1][0][REPORT_LOCALITY], b1, 2);
	locality_rows(&d.base.half[1][1][REPORT_LOCALITY], b2, 2);
	report_beside(&p, "neighbours");
	assert_non_null(strstr(out.data, "1 of 2 moved more than noise, which stays within ±4.8"));
	assert_non_null(strstr(out.data, "2 figures beside the baseline; whether they moved more than "
		"noise was not"));
	assert_non_null(strstr(out.data, "<b>more than noise</b>"));
	assert_non_null(strstr(out.data, "within noise"));
	buf_clear(&out);
	d.base.tested = 0; /* too few documents */
	report_beside(&p, "neighbours");
	assert_null(strstr(out.data, "within ±"));
	buf_clear(&out);
	report_beside(&p, "flow"); /* neither run has any */
	assert_non_null(strstr(out.data, "no figure here that both runs have"));
	buf_free(&out);
	report_data_free(&d);
}

static void test_pace_and_course(void **state)
{
	struct moe_err e = { 0 };
	struct load_filter f;
	struct reader *r = small_world(&f);
	struct view_table t;
	sqlite3 *db;

	(void)state;
	reader_close(r);
	/* document i of a domain (0..9) takes (i + 1) * 48 ms: 1 .. 10 ms a token */
	assert_int_equal(sqlite3_open(db_path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "UPDATE sequence SET started = 0, ended = ((seq - 1) / 3 + "
		"1) * 48000000", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	r = reader_open(db_path, &e);
	assert_non_null(r);
	assert_int_equal(view_pace(r, &f, &t, &e), 0);
	assert_int_equal(t.n_row, W_D);
	for (size_t i = 0; i < W_D; i++) {
		assert_true(report_at(&t, i, "sequences") == 10);
		assert_true(report_at(&t, i, "tokens") == 10 * W_TOK);
		assert_true(fabs(report_at(&t, i, "ms_per_token_p10") - 1) < 1e-9);
		assert_true(fabs(report_at(&t, i, "ms_per_token_p50") - 5) < 1e-9);
		assert_true(fabs(report_at(&t, i, "ms_per_token_p90") - 9) < 1e-9);
		assert_true(fabs(report_at(&t, i, "ms_per_token_max") - 10) < 1e-9);
		assert_true(fabs(report_at(&t, i, "seconds_p50") - 0.24) < 1e-9);
	}
	view_table_free(&t);
	reader_close(r);
	/* the same load again in bucket 3: two windows, each the whole's figures */
	assert_int_equal(sqlite3_open(db_path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "UPDATE load SET bucket = 0; INSERT INTO load SELECT run, "
		"domain, phase, 3, layer, tokens, counts, weights, probs, lse2, entropy, confidence, "
		"margin, n_margin, n_nan, n_edited FROM load", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	r = reader_open(db_path, &e);
	assert_non_null(r);
	assert_int_equal(view_course(r, &f, 2, &t, &e), 0);
	assert_int_equal(t.n_row, 4);
	for (size_t i = 0; i < 4; i++) {
		double all[W_E] = { 0 }, max = 0;

		for (unsigned x = 0; x < W_E; x++) {
			for (unsigned y = 0; y < W_TOK; y++)
				all[x] += picks_of(y, x);
			max = fmax(max, all[x]);
		}
		assert_true(report_at(&t, i, "tokens") == W_DOC * W_TOK);
		assert_true(fabs(report_at(&t, i, "max_mean") - max * W_E / (W_DOC * W_TOK * W_K)) < 1e-12);
	}
	assert_true(report_at(&t, 0, "start_s") == 0 && report_at(&t, 2, "start_s") > 0);
	view_table_free(&t);
	reader_close(r);
	remove_db(db_path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_spread),
		cmocka_unit_test(test_beside),
		cmocka_unit_test(test_pace_and_course),
	};

	return cmocka_run_group_tests(tests, world_set_up, NULL);
}
