/*
 * test_check.c - the alarm rules about trends and single decisions, thresholds as text. Runs are
 * written through the public writer; each alarm's SQL is run.
 */
#include "test_util.h"

#include <math.h>
#include <unistd.h>

#include <moescope/trace.h>

#include "base/rng.h"
#include "view/view.h"

enum { E = 8, K = 2, BATCH = 128 };
static const struct moe_layer_desc shape[1] = { { 2, E, K } };
static char path[64];
static struct moe_err err;
static struct view_alarms found;

#define OK(call) ok_or_fail((call) == 0, &err)

static struct moe_trace *trace;
static struct rng rng;
static uint64_t seq;

static void begin(void)
{
	struct moe_run_desc d = { .command = "test", .model_name = "toy", .layers = shape,
		.n_moe_layer = 1, .n_layer = 3, .n_vocab = 100, .score = "softmax" };
	struct moe_trace_opt o = { .detail = MOE_DETAIL_ROUTES, .commit_ms = 10,
		.bucket_ms = 100000000 };

	unlink(path);
	trace = moe_trace_open(path, &o, &d, &err);
	ok_or_fail(trace != NULL, &err);
	rng_seed(&rng, 5);
	seq = 0;
}

/* A document of n tokens: sharp = how far the logits of a token are apart, hot = added to expert 3,
 * pad = that many rows at its start that are all the same. */
static void doc(const char *domain, int n, double sharp, double hot, int pad)
{
	struct moe_hook *h = moe_trace_hook(trace);
	struct moe_seq_info s = { ++seq, domain, NULL, (uint32_t)n };
	struct moe_seq_result r = { seq, (uint32_t)n, 0, 0, 0, 0 };

	OK(h->seq_begin(h->ctx, &s, &err));
	for (int at = 0; at < n; at += BATCH) {
		int m = n - at < BATCH ? n - at : BATCH;
		uint64_t seqs[BATCH];
		uint32_t pos[BATCH];
		int32_t token[BATCH];
		uint16_t pick[BATCH][K];
		float weight[BATCH][K], margin[BATCH], logit[BATCH][E];
		uint8_t flags[BATCH] = { 0 };
		struct moe_route_view v = { .layer = 2, .n_expert = E, .k = K, .n_tok = (uint32_t)m,
			.seq = seqs, .pos = pos, .token = token, .experts = pick[0], .weights = weight[0],
			.margin = margin, .logits = logit[0], .flags = flags };
		struct moe_batch_info b = { .seq = seq, .pos0 = (uint32_t)at, .n_tok = (uint32_t)m,
			.busy_ns = 1000 };

		for (int t = 0; t < m; t++) {
			int a = 0, c = -1, same = at + t < pad;

			seqs[t] = seq, pos[t] = (uint32_t)(at + t);
			token[t] = same ? 0 : 1 + (int32_t)rng_below(&rng, 90);
			for (int e = 0; e < E; e++) {
				logit[t][e] = same ? (float)(e == 5 || e == 6) :
					(float)(sharp * rng_unit(&rng) + (e == 3 ? hot : 0));
				a = logit[t][e] > logit[t][a] ? e : a;
			}
			for (int e = 0; e < E; e++)
				if (e != a && (c < 0 || logit[t][e] > logit[t][c]))
					c = e;
			pick[t][0] = (uint16_t)a, pick[t][1] = (uint16_t)c;
			weight[t][0] = .6f, weight[t][1] = .4f, margin[t] = .1f;
		}
		OK(h->route(h->ctx, &v, &err));
		OK(h->batch_end(h->ctx, &b, &err));
	}
	OK(h->seq_end(h->ctx, &r, &err));
}

static void end(void)
{
	OK(moe_trace_close(trace, MOE_RUN_DONE, &err));
}

static void edit(const char *q)
{
	char *why = NULL;
	sqlite3 *db;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	if (sqlite3_exec(db, q, NULL, NULL, &why))
		fail_msg("%s: %s", q, why);
	sqlite3_close(db);
}

static int row_seen(void *ctx, int n, char **value, char **name)
{
	(void)n, (void)value, (void)name;
	++*(int *)ctx;
	return 0;
}

/* The alarm of a kind, NULL if it is silent; its SQL must give rows. */
static const struct view_alarm *alarm_of(const char *kind, const struct view_limits *l,
	uint64_t scan)
{
	struct load_filter f = { .run = 1, .domain = -1, .phase = -1 };
	struct reader *r = reader_open(path, &err);
	const struct view_alarm *out = NULL;
	char *why = NULL;

	ok_or_fail(r != NULL, &err);
	view_alarms_free(&found);
	OK(view_alarms_with(r, &f, l, scan, &found, &err));
	for (size_t i = 0; i < found.n; i++)
		if (!strcmp(found.alarm[i].kind, kind)) {
			int rows = 0;

			out = found.alarm + i;
			if (sqlite3_exec(reader_db(r), out->sql, row_seen, &rows, &why))
				fail_msg("%s: %s", out->sql, why);
			assert_true(rows > 0);
			assert_true(strlen(out->text) < sizeof out->text - 1);
		}
	reader_close(r);
	return out;
}

/* Three domains, moved to three time buckets afterwards. */
static void in_time(double sharp0, double hot0, double sharp2, double hot2)
{
	begin();
	for (int i = 0; i < 4; i++) {
		doc("first", 500, sharp0, hot0, 0);
		doc("middle", 500, sharp0, hot0, 0);
		doc("then", 500, sharp2, hot2, 0);
	}
	end();
	edit("UPDATE load SET bucket = domain - 1");
}

static void rising_and_falling(void **state)
{
	const struct view_alarm *x;

	(void)state;
	in_time(4, 0, 4, 3);
	x = alarm_of("rising", NULL, 0);
	assert_non_null(x);
	assert_int_equal(x->severity, VIEW_WARNING);
	assert_int_equal(x->layer, 2);
	assert_true(x->value > 1 && x->value < 3.1); /* at most E/k - 1 above even */
	assert_non_null(strstr(x->text, "then E3"));
	in_time(4, 3, 4, 0); /* the other way round: it got better */
	assert_null(alarm_of("rising", NULL, 0));
	in_time(4, 0, 4, 0); /* level */
	assert_null(alarm_of("rising", NULL, 0));
	assert_null(alarm_of("information", NULL, 0));
	in_time(6, 0, 2, 0); /* the router becomes indifferent, the load stays even */
	x = alarm_of("information", NULL, 0);
	assert_non_null(x);
	assert_int_equal(x->severity, VIEW_ALARM);
	assert_true(x->value > .5 && x->value < 1);
	assert_null(alarm_of("rising", NULL, 0));
	in_time(2, 0, 6, 0);
	assert_null(alarm_of("information", NULL, 0));
	edit("UPDATE load SET bucket = 0 WHERE 0; DELETE FROM load WHERE bucket = 2");
	assert_null(alarm_of("information", NULL, 0)); /* two buckets: no trend */
}

static void warm_up(void **state)
{
	const struct view_alarm *x;

	(void)state;
	begin();
	doc("a", 300, 4, 0, 10);
	end();
	x = alarm_of("warmup", NULL, 0);
	assert_non_null(x);
	assert_int_equal(x->severity, VIEW_WARNING);
	assert_int_equal(x->value, 10);
	begin();
	doc("a", 300, 4, 0, 100);
	end();
	assert_int_equal(alarm_of("warmup", NULL, 0)->severity, VIEW_ALARM);
	begin();
	doc("a", 300, 4, 0, 0);
	doc("a", 300, 4, 0, 50); /* later on it is a text, not a warm-up */
	end();
	assert_null(alarm_of("warmup", NULL, 0));
	begin();
	doc("a", 1, 4, 0, 0); /* one token */
	end();
	assert_null(alarm_of("warmup", NULL, 0));
	assert_null(alarm_of("tail", NULL, 0));
}

/* Drops by position: everything to two experts drops all of a batch's end and nothing of its
 * start. */
static void tail(void **state)
{
	const struct view_alarm *x;
	struct view_limits l = { 0, NULL };

	(void)state;
	begin();
	for (int i = 0; i < 6; i++)
		doc("a", 512, 1, i < 3 ? 0 : 9, 0);
	end();
	/* half of the batches have one expert everywhere: 512 picks against 160 places */
	x = alarm_of("tail", NULL, 0);
	assert_null(x); /* a quarter is not a half */
	OK(view_limits_parse("tail warning 0.2 # mine\n\n# a comment\ntail note off\n", "test", &l,
		&err));
	assert_int_equal(l.n, 2);
	x = alarm_of("tail", &l, 0);
	assert_non_null(x);
	assert_int_equal(x->severity, VIEW_WARNING);
	assert_true(fabs(x->value - .25) < .03);
	assert_null(alarm_of("tail", &l, 1024)); /* the first two batches are even */
	view_limits_free(&l);
	begin();
	for (int i = 0; i < 6; i++)
		doc("a", 512, 1, 0, 0);
	end();
	OK(view_limits_parse("tail note 0.0001", "test", &l, &err));
	assert_null(alarm_of("tail", &l, 0)); /* even routing: chance does as much */
	view_limits_free(&l);
}

static void thresholds(void **state)
{
	static const struct { const char *text, *words; } bad[] = {
		{ "collapse alarm", "x, line 1: wanted are a rule, a severity and a value" },
		{ "\n\ncollapse alarm 3 4", "x, line 3: wanted are" },
		{ "nothing alarm 3", "no rule 'nothing'" },
		{ "dead death 3", "'death' is not note, warning or alarm" },
		{ "dead alarm much", "'much' is neither a number nor off" },
		{ "dead alarm nan", "'nan' is neither" },
		{ "dead alarm 3x", "'3x' is neither" },
	};
	struct view_limits l = { 0, NULL };
	struct view_table t;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(view_limits_parse(bad[i].text, "x", &l, &err), -1);
		if (!strstr(err.msg, bad[i].words))
			fail_msg("'%s' lacks '%s'", err.msg, bad[i].words);
	}
	assert_int_equal(l.n, 0);
	OK(view_limits_parse("collapse alarm 9", "x", &l, &err));
	OK(view_rules_table(&l, &t, &err));
	assert_true(t.n_row >= 13);
	assert_string_equal(t.cells[0].s, "collapse");
	assert_true(t.cells[4].r == 9);
	view_table_free(&t);
	view_limits_free(&l);
	begin(); /* collapsed: an alarm, unless the threshold says otherwise */
	doc("a", 3000, 1, 9, 0);
	end();
	assert_non_null(alarm_of("collapse", NULL, 0));
	OK(view_limits_parse("collapse warning off\ncollapse alarm off", "x", &l, &err));
	assert_null(alarm_of("collapse", &l, 0));
	view_limits_free(&l);
}

int main(void)
{
	static char dir[] = "/tmp/moescope-check-XXXXXX";
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rising_and_falling),
		cmocka_unit_test(warm_up),
		cmocka_unit_test(tail),
		cmocka_unit_test(thresholds),
	};
	int failed;

	if (!mkdtemp(dir))
		return 1;
	snprintf(path, sizeof path, "%s/a.db", dir);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	view_alarms_free(&found);
	unlink(path);
	rmdir(dir);
	return failed;
}
