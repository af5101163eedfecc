/*
 * test_view.c - the views on databases made through the public writer, against a second count of
 * the same decisions (view_made.h), and on hostile, empty and damaged ones.
 */
#include "view_made.h"

/* ---- figures against a second count ---- */

static void test_layers_recounted(void **state)
{
	struct view_layers v;
	struct view_table t;
	struct reader *r;

	(void)state;
	begin(MOE_DETAIL_FULL, 1);
	doc("b", 100, 5, even);
	doc("a", 200, 0, collapsed);
	doc(NULL, 70, 3, dead7);
	end();
	r = open_db();
	OK(view_layers(r, &all, &v, &err));
	assert_int_equal(v.n, L);
	OK(view_stat(r, &all, &t, &err));
	assert_int_equal(t.n_row, L);
	assert_string_equal(t.why, "");
	for (int l = 0; l < L; l++) {
		uint64_t c[E] = { 0 }, most = 0;
		double p[E] = { 0 }, conf = 0, lse2 = 0, ent = 0, aux = 0, h = 0;

		for (size_t i = 0; i < made.n; i++) {
			double z = 0, q;

			for (int e = 0; e < E; e++)
				z += exp(made.tok[i].logit[l][e]);
			for (int e = 0; e < E; e++) {
				q = exp(made.tok[i].logit[l][e]) / z;
				p[e] += q / (double)made.n;
				ent -= q * log(q) / (double)made.n;
				conf += (e == made.tok[i].pick[l][0] || e == made.tok[i].pick[l][1]) * q;
			}
			lse2 += log(z) * log(z);
			for (int k = 0; k < K; k++)
				c[made.tok[i].pick[l][k]]++;
		}
		for (int e = 0; e < E; e++) {
			assert_int_equal(v.layer[l].counts[e], c[e]);
			near(v.layer[l].rel[e], (double)c[e] * E / (double)(made.n * K), 1e-12);
			aux += E * p[e] * (double)c[e] / (double)(made.n * K);
			h -= p[e] * log(p[e]);
			most = c[e] > most ? c[e] : most;
		}
		assert_int_equal(v.layer[l].layer, shape[l].layer);
		assert_int_equal(v.layer[l].tokens, made.n);
		near(v.layer[l].max_mean, (double)most * E / (double)(made.n * K), 1e-12);
		near(v.layer[l].top_rate, (double)most / (double)made.n, 1e-12);
		near(v.layer[l].p_dead_chance, pow(.75, (double)made.n), 1e-12);
		near(v.layer[l].aux_loss, aux, 1e-4);
		near(v.layer[l].z_loss, lse2 / (double)made.n, 1e-3);
		near(v.layer[l].token_entropy, ent / log(E), 1e-4);
		near(v.layer[l].mi_token, (h - ent) / log(2), 1e-4);
		near(v.layer[l].confidence, conf / (double)made.n, 1e-4);
		near(v.layer[l].margin, .5, 1e-6);
		near(cell(&t, (size_t)l, "max_mean")->r, v.layer[l].max_mean, 0);
		near(cell(&t, (size_t)l, "z_loss")->r, v.layer[l].z_loss, 0);
		assert_int_equal(cell(&t, (size_t)l, "top_expert")->i, v.layer[l].top_expert);
		assert_false(cell(&t, (size_t)l, "domain")->set);
	}
	view_layers_free(&v);
	view_table_free(&t);
	reader_close(r);
}

static void test_tables_by_expert_and_domain(void **state)
{
	struct load_filter f = all;
	struct view_table t;
	struct domain_info *d;
	struct reader *r;
	size_t n, rows = 0;

	(void)state;
	r = open_db();
	OK(view_stat_expert(r, &all, &t, &err));
	assert_int_equal(t.n_row, L * E);
	for (size_t i = 0; i < t.n_row; i++) {
		int l = (int)(i / E), e = (int)(i % E);
		double w = 0;
		int64_t c = 0;

		for (size_t x = 0; x < made.n; x++)
			for (int k = 0; k < K; k++)
				if (made.tok[x].pick[l][k] == e)
					c++, w += k ? .25 : .75;
		assert_int_equal(cell(&t, i, "layer")->i, shape[l].layer);
		assert_int_equal(cell(&t, i, "expert")->i, e);
		assert_int_equal(cell(&t, i, "count")->i, c);
		near(cell(&t, i, "rate")->r, (double)c / (double)made.n, 1e-12);
		near(cell(&t, i, "weight_sum")->r, w, 1e-3);
	}
	view_table_free(&t);
	OK(view_stat_domain(r, &all, &t, &err));
	assert_int_equal(t.n_row, 3 * L);
	for (size_t i = 0; i < t.n_row; i++) {
		const char *name = cell(&t, i, "domain")->s;

		assert_int_equal(cell(&t, i, "tokens")->i, !strcmp(name, "a") ? 200 :
			!strcmp(name, "b") ? 105 : 73);
		rows += !strcmp(name, "(none)");
	}
	assert_int_equal(rows, L);
	view_table_free(&t);
	OK(reader_domains(r, 1, &d, &n, &err));
	f.phase = MOE_DECODE;
	for (size_t i = 0; i < n; i++) {
		f.domain = d[i].id;
		OK(view_stat(r, &f, &t, &err));
		assert_int_equal(cell(&t, 0, "tokens")->i, !strcmp(d[i].name, "a") ? 0 :
			!strcmp(d[i].name, "b") ? 5 : 3);
		assert_string_equal(cell(&t, 0, "phase")->s, "decode");
		if (!strcmp(d[i].name, "a")) { /* nothing there: no figures, and it says so */
			assert_string_equal(t.why, "no tokens in this selection");
			assert_false(cell(&t, 0, "max_mean")->set);
			assert_false(cell(&t, 0, "dead")->set);
			assert_false(cell(&t, 0, "top_expert")->set);
		}
		view_table_free(&t);
	}
	free(d);
	reader_close(r);
}

/* Pairs and sets, written out the long way. */
static void test_locality_and_coactivation_recounted(void **state)
{
	struct view_table t;
	struct reader *r;

	(void)state;
	begin(MOE_DETAIL_ROUTES, 2);
	made.nan_layer = 1;
	doc("a", 130, 9, even);
	doc("b", 90, 0, collapsed);
	end();
	r = open_db();
	OK(view_stat_locality(r, &all, &t, &err));
	for (int l = 0; l < L; l++) {
		double pairs = 0, first = 0, any = 0, overlap = 0, jaccard = 0;

		for (size_t i = 1; i < made.n; i++) {
			const uint16_t *a = made.tok[i - 1].pick[l], *b = made.tok[i].pick[l];
			int m = (a[0] == b[0]) + (a[0] == b[1]) + (a[1] == b[0]) + (a[1] == b[1]);

			if (made.tok[i - 1].seq != made.tok[i].seq || made.tok[i - 1].nan[l] ||
			    made.tok[i].nan[l])
				continue;
			pairs++, first += a[0] == b[0], any += m > 0, overlap += m / 2.0;
			jaccard += m / (4.0 - m);
		}
		assert_int_equal(cell(&t, (size_t)l, "pairs")->i, pairs);
		near(cell(&t, (size_t)l, "first")->r, first / pairs, 1e-12);
		near(cell(&t, (size_t)l, "any")->r, any / pairs, 1e-12);
		near(cell(&t, (size_t)l, "overlap")->r, overlap / pairs, 1e-12);
		near(cell(&t, (size_t)l, "jaccard")->r, jaccard / pairs, 1e-12);
		near(cell(&t, (size_t)l, "any_uniform")->r, .464286, 1e-6);
	}
	assert_true(cell(&t, 1, "pairs")->i < cell(&t, 0, "pairs")->i);
	view_table_free(&t);
	OK(view_stat_coactivation(r, &all, &t, &err));
	for (size_t row = 0; row < t.n_row; row++) {
		int l = cell(&t, row, "layer")->i == shape[1].layer;
		int64_t i = cell(&t, row, "i")->i, j = cell(&t, row, "j")->i, both = 0, one = 0;

		for (size_t x = 0; x < made.n; x++) {
			const uint16_t *p = made.tok[x].pick[l];

			if (made.tok[x].nan[l])
				continue;
			one += p[0] == i || p[1] == i;
			both += (p[0] == i && p[1] == j) || (p[0] == j && p[1] == i);
		}
		assert_int_equal(cell(&t, row, "count")->i, both);
		near(cell(&t, row, "p_j_given_i")->r, (double)both / (double)one, 1e-12);
		near(cell(&t, row, "p_adjacent")->r, (double)both / (double)one, 1e-12); /* k = 2 */
		if (row && cell(&t, row, "layer")->i == cell(&t, row - 1, "layer")->i)
			assert_true(cell(&t, row, "count")->i <= cell(&t, row - 1, "count")->i);
	}
	view_table_free(&t);
	reader_close(r);
}

static void test_summary(void **state)
{
	struct view_summary s;
	struct reader *r;

	(void)state;
	r = open_db();
	OK(view_summary(r, &all, &s, &err));
	assert_int_equal(s.tokens, made.n);
	assert_int_equal(s.decisions, made.n * L);
	assert_int_equal(s.n_domain, 2);
	near(s.prefill_tps, 1000, 1e-6); /* 1 ms a token */
	near(s.decode_tps, 1000, 1e-6);
	near(s.bpb, 2 / (4 * log(2)), 1e-9);
	assert_true(s.elapsed_s >= 0 && s.elapsed_s < 60);
	assert_true(s.dropped_at_cf125 > 0);
	assert_string_equal(s.run.model_name, "toy");
	reader_close(r);
}

/* ---- nothing to say ---- */

static void test_empty_run(void **state)
{
	int (*const tables[])(struct reader *, const struct load_filter *, struct view_table *,
		struct moe_err *) = { view_stat, view_stat_expert, view_stat_domain,
		view_stat_specialisation, view_stat_locality, view_stat_coactivation };
	struct view_summary s;
	struct view_layers l;
	struct view_alarms a;
	struct view_spec sp;
	struct view_table t;
	struct reader *r;
	char words[500];

	(void)state;
	begin(MOE_DETAIL_ROUTES, 3);
	end();
	r = open_db();
	for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
		char *text;

		OK(tables[i](r, &all, &t, &err));
		if (!*t.why)
			fail_msg("table %zu of an empty run gives no reason", i);
		text = print(&t, VIEW_JSON);
		assert_null(strstr(text, "nan"));
		assert_null(strstr(text, "inf"));
		free(text);
		view_table_free(&t);
	}
	OK(view_layers(r, &all, &l, &err));
	OK(view_alarms(r, &all, &a, &err));
	OK(view_summary(r, &all, &s, &err));
	OK(view_specialisation(r, &all, 0, 0, 1, &sp, &err));
	assert_int_equal(l.n, L);
	assert_true(isnan(l.layer[0].max_mean) && isnan(l.layer[0].top_rate));
	assert_int_equal(a.n, 0);
	assert_int_equal(sp.n_layer, 0);
	assert_true(isnan(s.prefill_tps) && isnan(s.bpb) && isnan(s.dropped_at_cf125));
	OK(view_verdict(&s, &l, &a, &sp, words, sizeof words));
	assert_non_null(strstr(words, "Nothing can be said yet"));
	view_layers_free(&l);
	view_alarms_free(&a);
	view_spec_free(&sp);
	OK(view_runs(r, &t, &err));
	assert_int_equal(t.n_row, 1);
	assert_string_equal(cell(&t, 0, "state")->s, "done");
	view_table_free(&t);
	reader_close(r);
}

static void test_counts_only(void **state)
{
	struct view_spec sp;
	struct view_table t;
	struct reader *r;

	(void)state;
	begin(MOE_DETAIL_COUNTS, 4);
	doc("a", 50, 0, even);
	doc("b", 50, 0, even);
	end();
	r = open_db();
	OK(view_stat(r, &all, &t, &err));
	assert_int_equal(cell(&t, 0, "tokens")->i, 100);
	view_table_free(&t);
	OK(view_stat_locality(r, &all, &t, &err));
	assert_int_equal(t.n_row, 0);
	assert_non_null(strstr(t.why, "detail"));
	view_table_free(&t);
	OK(view_stat_coactivation(r, &all, &t, &err));
	assert_non_null(strstr(t.why, "detail"));
	view_table_free(&t);
	OK(view_specialisation(r, &all, 0, 0, 1, &sp, &err));
	assert_int_equal(sp.n_layer, 0);
	assert_non_null(strstr(sp.why, "detail"));
	view_spec_free(&sp);
	reader_close(r);
}

static void test_live_run(void **state)
{
	struct view_layers v = { 0 };
	struct view_alarms a;
	struct reader *r;

	(void)state;
	begin(MOE_DETAIL_ROUTES, 5);
	doc("a", 640, 0, even);
	r = open_db();
	for (int i = 0; i < 500; i++) { /* until the writer has committed all of it */
		OK(view_layers(r, &all, &v, &err));
		if (v.layer[0].tokens == 640)
			break;
		view_layers_free(&v);
		usleep(10000);
	}
	assert_int_equal(v.n, L);
	assert_int_equal(v.layer[0].tokens, 640);
	view_layers_free(&v);
	OK(view_alarms(r, &all, &a, &err));
	assert_int_equal(a.n, 0);
	view_alarms_free(&a);
	reader_close(r);
	end();
}

static void test_unknown_run(void **state)
{
	struct load_filter f = all;
	struct view_summary s;
	struct view_layers l;
	struct view_alarms a;
	struct view_spec sp;
	struct view_table t;
	struct reader *r = open_db();

	(void)state;
	f.run = 77;
	assert_int_equal(view_layers(r, &f, &l, &err), -1);
	assert_int_equal(view_alarms(r, &f, &a, &err), -1);
	assert_int_equal(view_summary(r, &f, &s, &err), -1);
	assert_int_equal(view_specialisation(r, &f, 0, 0, 1, &sp, &err), -1);
	assert_int_equal(view_stat_locality(r, &f, &t, &err), -1);
	assert_int_equal(view_stat_coactivation(r, &f, &t, &err), -1);
	assert_non_null(strstr(err.msg, "77"));
	reader_close(r);
}

/* Every view on a database that somebody tampered with: an error or a figure, never a crash. */
static void ask_everything(int fails)
{
	int (*const tables[])(struct reader *, const struct load_filter *, struct view_table *,
		struct moe_err *) = { view_stat, view_stat_expert, view_stat_domain,
		view_stat_specialisation, view_stat_locality, view_stat_coactivation };
	struct load_filter f = all;
	struct view_summary s;
	struct view_alarms a;
	struct view_table t;
	struct reader *r = open_db();
	int failed = 0;

	for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
		int bad = tables[i](r, &f, &t, &err);

		failed += bad != 0;
		if (!bad) {
			free(print(&t, VIEW_JSON));
			free(print(&t, VIEW_PRETTY));
			view_table_free(&t);
		}
	}
	for (f.bucket1 = 0; f.bucket1 < 3; f.bucket1++) {
		failed += view_alarms(r, &f, &a, &err) != 0;
		view_alarms_free(&a);
	}
	failed += view_summary(r, &all, &s, &err) != 0;
	if (!fails != !failed)
		fail_msg("%d views failed, %s", failed, err.msg);
	reader_close(r);
}

static void test_damaged(void **state)
{
	static const char *const harmless[] = {
		"UPDATE run SET started = -9223372036854775807, bucket_ns = 9223372036854775807",
		"UPDATE run SET started = 9223372036854775807, heartbeat = -9223372036854775807",
		"UPDATE run SET lag_ns = -9223372036854775807, state = 'live', ended = NULL",
		"UPDATE run SET bucket_ns = -1, state = 'nonsense', detail = 'what'",
		"UPDATE load SET tokens = 9223372036854775807, lse2 = 9e999, margin = -9e999",
		"UPDATE load SET probs = zeroblob(64), n_nan = -1, n_margin = -5",
		"UPDATE load SET counts = randomblob(64), weights = randomblob(64), probs = randomblob(64)",
		"UPDATE load SET bucket = bucket + 9223372036854775000",
		"UPDATE chunk SET tokens = randomblob(length(tokens)), flags = NULL",
		"UPDATE sequence SET nll = 9e999, n_bytes = -1, n_prompt = 9223372036854775807",
		"UPDATE chunk SET experts = randomblob(length(experts))", /* 3 bits each: all are ids of
		                                                             8 */
		"UPDATE model SET n_vocab = -1, name = CAST(randomblob(500) AS TEXT)",
		"INSERT INTO event(run, time, kind, value) VALUES (1, -9223372036854775807, 'gap', -9e999)",
	}, *const fatal[] = {
		"UPDATE load SET counts = zeroblob(63)", "UPDATE load SET layer = layer + 400",
		"UPDATE chunk SET experts = substr(experts, 2)",
		"UPDATE chunk SET experts = NULL", "DELETE FROM moe_layer", "DELETE FROM model",
	};

	(void)state;
	for (size_t i = 0; i < sizeof harmless / sizeof *harmless +
	    sizeof fatal / sizeof *fatal; i++) {
		int fails = i >= sizeof harmless / sizeof *harmless;

		begin(MOE_DETAIL_FULL, 70 + i);
		for (int d = 0; d < 4; d++)
			doc(d % 2 ? "a" : "b", 80, 2, collapsed);
		end();
		edit("%s", fails ? fatal[i - sizeof harmless / sizeof *harmless] : harmless[i]);
		ask_everything(fails);
	}
}

/* ---- printing ---- */

static void test_hostile_names(void **state)
{
	static const char *const bad[] = { "\x1b[31mred\x07", "=cmd|' /C calc'!A0", "@sum", "+1", "-1",
		"<script>alert(1)</script>", "a\"b,c", "two\nlines", "\ttab", "\xe2\x80\xaegnp.exe" };
	static const size_t n = sizeof bad / sizeof *bad;
	char *pretty, *json, *csv;
	struct view_table t;
	struct reader *r;

	(void)state;
	begin(MOE_DETAIL_ROUTES, 6);
	for (size_t i = 0; i < n; i++) {
		doc(bad[i], 20, 0, even);
		doc(bad[i], 20, 0, even);
	}
	end();
	r = open_db();
	OK(view_stat_domain(r, &all, &t, &err));
	assert_int_equal(t.n_row, n * L);
	pretty = print(&t, VIEW_PRETTY);
	json = print(&t, VIEW_JSON);
	csv = print(&t, VIEW_CSV);
	assert_null(strchr(pretty, '\x1b'));
	assert_null(strchr(json, '\x1b'));
	assert_null(strchr(csv, '\x1b'));
	assert_null(strstr(pretty, "\xe2\x80\xae"));
	assert_null(strstr(csv, "\xe2\x80\xae"));
	assert_non_null(strstr(pretty, "\\x1b[31mred\\x07"));
	assert_non_null(strstr(pretty, "two\\x0alines"));
	assert_non_null(strstr(json, "\\u001b[31mred"));
	assert_non_null(strstr(json, "a\\\"b,c"));
	assert_non_null(strstr(json, "two\\nlines"));
	assert_non_null(strstr(csv, ",'=cmd|' /C calc'!A0,"));
	assert_non_null(strstr(csv, ",'@sum,"));
	assert_non_null(strstr(csv, ",'+1,"));
	assert_non_null(strstr(csv, ",'-1,"));
	assert_non_null(strstr(csv, ",'\\x09tab,"));
	assert_non_null(strstr(csv, ",\"a\"\"b,c\","));
	assert_non_null(strstr(csv, "\r\n"));
	assert_null(strstr(csv, ",=cmd"));
	free(pretty);
	free(json);
	free(csv);
	view_table_free(&t);
	/* names inside keys: jsd[a/b] */
	OK(view_stat_specialisation(r, &all, &t, &err));
	json = print(&t, VIEW_JSON);
	csv = print(&t, VIEW_CSV);
	assert_non_null(strstr(json, "\"jsd["));
	assert_null(strchr(json, '\x1b'));
	assert_null(strchr(csv, '\x1b'));
	free(json);
	free(csv);
	view_table_free(&t);
	reader_close(r);
}

static void test_print_numbers(void **state)
{
	static const struct view_col cols[] = { { "n", "number", VIEW_INT, 0 },
		{ "hidden", NULL, VIEW_INT, 0 }, { "x", "x", VIEW_REAL, 2 },
		{ "s", "text", VIEW_TEXT, 0 } };
	struct view_cell cells[8] = { { 1, -5, 0, NULL }, { 1, 7, 0, NULL }, { 1, 0, 1.0 / 3, NULL },
		{ 1, 0, 0, (char[]){ "\xc3\xa9t\xc3\xa9" } }, { 0 }, { 1, 8, 0, NULL }, { 0 },
		{ 1, 0, 0, (char[]){ "b" } } };
	struct view_table t = { .cols = cols, .n_col = 4, .n_row = 2, .cells = cells };
	struct view_table none = { .cols = cols, .n_col = 4 };
	char *s;

	(void)state;
	s = print(&t, VIEW_PRETTY);
	assert_string_equal(s, "number     x  text\n    -5  0.33  \xc3\xa9t\xc3\xa9\n              "
		"b\n");
	free(s);
	s = print(&t, VIEW_JSON);
	assert_string_equal(s, "[\n {\"n\": -5, \"hidden\": 7, \"x\": 0.3333333333, "
		"\"s\": \"\xc3\xa9t\xc3\xa9\"},"
		"\n {\"n\": null, \"hidden\": 8, \"x\": null, \"s\": \"b\"}\n]\n");
	free(s);
	s = print(&t, VIEW_CSV);
	assert_string_equal(s, "n,hidden,x,s\r\n-5,7,0.3333333333,\xc3\xa9t\xc3\xa9\r\n,8,,b\r\n");
	free(s);
	s = print(&none, VIEW_JSON);
	assert_string_equal(s, "[]\n");
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layers_recounted),
		cmocka_unit_test(test_tables_by_expert_and_domain),
		cmocka_unit_test(test_locality_and_coactivation_recounted),
		cmocka_unit_test(test_summary),
		cmocka_unit_test(test_empty_run),
		cmocka_unit_test(test_counts_only),
		cmocka_unit_test(test_live_run),
		cmocka_unit_test(test_unknown_run),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_hostile_names),
		cmocka_unit_test(test_print_numbers),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
