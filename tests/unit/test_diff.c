/*
 * test_diff.c - two runs written through the public writer, compared; expected values are counted
 * by hand from what was written.
 */
#include "test_util.h"

#include <math.h>
#include <unistd.h>

#include <moescope/trace.h>

#include "base/rng.h"
#include "metrics/sets.h"
#include "view/diff.h"

enum { E = 8, K = 2, L = 2, DOCS = 12, TOKENS = 20 };
static struct moe_layer_desc shape[L] = { { 1, E, K }, { 3, E, K } };
static char path[2][64];
static struct moe_err err;

#define OK(call) ok_or_fail((call) == 0, &err)

static void near(double got, double want)
{
	if (!(fabs(got - want) <= 1e-9))
		fail_msg("got %.12g, want %.12g", got, want);
}

/* Token t of document d picks (base, base + 1) at both layers. flip says who departs in the other
 * run: token 0 of every document at layer index 1 takes base + 2 instead of base + 1; documents
 * below `moved` send everything of layer index 0 to experts 6 and 7. Margin .001 for tokens that
 * flip, .5 otherwise; the odd tokens of the last document have another id. */
static void write_run(const char *to, enum moe_detail detail, int flip, int moved, int other_ids,
	int docs)
{
	struct moe_run_desc d = { .command = "test", .model_name = "toy", .arch = "toy",
		.layers = shape, .n_moe_layer = L, .n_layer = 4, .n_vocab = 100, .score = "softmax" };
	struct moe_trace_opt o = { .detail = detail, .commit_ms = 10 };
	struct moe_trace *t = moe_trace_open(to, &o, &d, &err);
	struct moe_hook *h;

	ok_or_fail(t != NULL, &err);
	h = moe_trace_hook(t);
	for (int doc = 0; doc < docs; doc++) {
		struct moe_seq_info s = { (uint64_t)doc + 1, doc % 2 ? "odd" : "even", NULL, TOKENS };
		struct moe_seq_result r = { (uint64_t)doc + 1, TOKENS, 0, 0, 0, 0 };
		struct moe_batch_info b = { .seq = (uint64_t)doc + 1, .n_tok = TOKENS, .busy_ns = 1000 };
		uint64_t seq[TOKENS];
		uint32_t pos[TOKENS];
		int32_t token[TOKENS];
		uint16_t pick[TOKENS][K];
		float weight[TOKENS][K], margin[TOKENS], logit[TOKENS][E];
		uint8_t flags[TOKENS] = { 0 };

		OK(h->seq_begin(h->ctx, &s, &err));
		for (int l = 0; l < L; l++) {
			struct moe_route_view v = { .layer = shape[l].layer, .n_expert = E, .k = K,
				.n_tok = TOKENS, .seq = seq, .pos = pos, .token = token, .experts = pick[0],
				.weights = weight[0], .margin = margin, .logits = logit[0], .flags = flags };

			for (int i = 0; i < TOKENS; i++) {
				unsigned base = (unsigned)(doc + i) % 4;

				seq[i] = (uint64_t)doc + 1, pos[i] = (uint32_t)i;
				token[i] = i + (other_ids && doc == docs - 1 && i % 2 ? 50 : 0);
				pick[i][0] = (uint16_t)base;
				pick[i][1] = (uint16_t)(base + 1 + (flip && l == 1 && i == 0));
				if (l == 0 && doc < moved)
					pick[i][0] = 6, pick[i][1] = 7;
				weight[i][0] = .7f, weight[i][1] = .3f;
				margin[i] = i == 0 ? .001f : .5f;
				for (int x = 0; x < E; x++)
					logit[i][x] = x == pick[i][0] ? 2 : x == pick[i][1] ? 1 : 0;
			}
			OK(h->route(h->ctx, &v, &err));
		}
		OK(h->batch_end(h->ctx, &b, &err));
		OK(h->seq_end(h->ctx, &r, &err));
	}
	OK(moe_trace_close(t, MOE_RUN_DONE, &err));
}

static void wipe(void)
{
	for (int i = 0; i < 2; i++)
		for (int s = 0; s < 3; s++) {
			char name[160];

			snprintf(name, sizeof name, "%s%s", path[i], s == 0 ? "" : s == 1 ? "-wal" : "-shm");
			unlink(name);
		}
}

static int compare(struct diff *d)
{
	struct load_filter f = { .run = 0, .domain = -1, .phase = -1 };
	struct reader *a = reader_open(path[0], &err), *b = a ? reader_open(path[1], &err) : NULL;
	int status;

	ok_or_fail(b != NULL, &err);
	f.run = 1;
	status = view_diff(a, &f, b, &f, .01, d, &err);
	reader_close(a);
	reader_close(b);
	return status;
}

static void same_runs(void **state)
{
	struct diff d;

	(void)state;
	wipe();
	write_run(path[0], MOE_DETAIL_ROUTES, 0, 0, 0, DOCS);
	write_run(path[1], MOE_DETAIL_ROUTES, 0, 0, 0, DOCS);
	OK(compare(&d));
	assert_int_equal(d.matched, DOCS * TOKENS);
	assert_int_equal(d.touched, 0);
	assert_int_equal(d.first, -1);
	assert_true(isnan(d.first_mean));
	near(d.layer[L].mismatch, 0);
	near(d.layer[L].saturation, 1);
	near(d.layer[0].jsd, 0);
	near(d.layer[0].p_value, 1);
	assert_true(isnan(d.layer[L].explained)); /* no flips: nothing to explain */
	view_diff_free(&d);
}

static void flips(void **state)
{
	struct diff d;
	struct view_table t;

	(void)state;
	wipe();
	write_run(path[0], MOE_DETAIL_ROUTES, 0, 0, 0, DOCS);
	write_run(path[1], MOE_DETAIL_ROUTES, 1, 0, 1, DOCS);
	OK(compare(&d));
	/* ten tokens of the last document have another id; token 0 of every document flips */
	assert_int_equal(d.matched, DOCS * TOKENS - 10);
	assert_int_equal(d.touched, DOCS);
	assert_int_equal(d.first, 3);
	near(d.first_mean, 3);
	near(d.layer[0].mismatch, 0);
	near(d.layer[1].mismatch, (double)DOCS / (DOCS * TOKENS - 10));
	near(d.layer[L].mismatch, (double)DOCS / (2 * (DOCS * TOKENS - 10)));
	near(d.layer[1].saturation, 1 - .5 * DOCS / (DOCS * TOKENS - 10));
	near(d.layer[1].explained, 1);
	assert_true(fabs(d.layer[1].margin_flips - .001) < 1e-6);
	assert_true(d.layer[1].lo <= d.layer[1].mismatch && d.layer[1].hi >= d.layer[1].mismatch);
	assert_true(d.paired);
	OK(view_diff_table(&d, &t, &err));
	assert_int_equal(t.n_row, L + 1);
	view_table_free(&t);
	OK(view_diff_experts(&d, &t, &err));
	assert_int_equal(t.n_row, L * E);
	view_table_free(&t);
	view_diff_free(&d);
}

/* Every document's layer 1 goes to other experts: more than swapping documents explains. One
 * document of twelve only: not. */
static void load_shift(void **state)
{
	struct diff d;

	(void)state;
	wipe();
	write_run(path[0], MOE_DETAIL_ROUTES, 0, 0, 0, DOCS);
	write_run(path[1], MOE_DETAIL_ROUTES, 0, DOCS, 0, DOCS);
	OK(compare(&d));
	near(d.layer[0].jsd, 1); /* no expert in common */
	near(d.layer[0].l1, 2);
	assert_true(d.layer[0].null_p95 < 1 && d.layer[0].p_value < .05);
	near(d.layer[0].expert[6].shift, 1);
	near(d.layer[0].expert[6].lo, 1);
	near(d.layer[1].jsd, 0);
	view_diff_free(&d);

	wipe();
	write_run(path[0], MOE_DETAIL_ROUTES, 0, 0, 0, DOCS);
	write_run(path[1], MOE_DETAIL_ROUTES, 0, 1, 0, DOCS);
	OK(compare(&d));
	near(d.layer[0].mismatch, 1.0 / DOCS);
	near(d.layer[0].p_value, 1); /* the one document is always on one side */
	near(d.layer[0].expert[6].lo, 0);
	view_diff_free(&d);
}

static void what_cannot_be_said(void **state)
{
	struct diff d;

	(void)state;
	wipe();
	write_run(path[0], MOE_DETAIL_COUNTS, 0, 0, 0, DOCS);
	write_run(path[1], MOE_DETAIL_ROUTES, 0, 1, 0, DOCS);
	OK(compare(&d));
	assert_non_null(strstr(d.why, "only the loads are compared"));
	assert_true(isnan(d.layer[L].mismatch) && d.layer[0].jsd > 0);
	view_diff_free(&d);

	wipe(); /* other texts, one of them a single document */
	write_run(path[0], MOE_DETAIL_ROUTES, 0, 0, 0, 3);
	write_run(path[1], MOE_DETAIL_ROUTES, 0, 0, 0, 1);
	OK(compare(&d));
	assert_non_null(strstr(d.why, "one document"));
	assert_true(isnan(d.layer[0].null_p95));
	view_diff_free(&d);

	wipe(); /* an empty run */
	write_run(path[0], MOE_DETAIL_ROUTES, 0, 0, 0, 3);
	write_run(path[1], MOE_DETAIL_ROUTES, 0, 0, 0, 0);
	OK(compare(&d));
	assert_non_null(strstr(d.why, "no token of the two runs is the same"));
	assert_true(isnan(d.layer[0].jsd));
	view_diff_free(&d);

	wipe();
	write_run(path[0], MOE_DETAIL_ROUTES, 0, 0, 0, 2);
	shape[1].k = 1;
	shape[1].n_expert = 8;
	{
		struct moe_run_desc desc = { .model_name = "other", .layers = shape, .n_moe_layer = L,
			.n_layer = 4 };
		struct moe_trace_opt o = { .detail = MOE_DETAIL_ROUTES };
		struct moe_trace *t = moe_trace_open(path[1], &o, &desc, &err);

		ok_or_fail(t != NULL, &err);
		OK(moe_trace_close(t, MOE_RUN_DONE, &err));
	}
	shape[1].k = K;
	assert_int_equal(compare(&d), -1);
	assert_non_null(strstr(err.msg, "layer 3 is top-2 of 8 in one run, top-1 of 8 in the other"));
}

/* The accumulator against sets counted by hand. */
static void accumulator(void **state)
{
	static const uint16_t a[4] = { 1, 2, 3, 4 }, b[4] = { 4, 3, 9, 8 };
	struct metrics_diff s = { 0, 0, 0 };

	(void)state;
	assert_int_equal(metrics_diff_add(&s, a, b, 4), 1);
	assert_int_equal(metrics_diff_add(&s, a, a, 4), 0);
	assert_int_equal(s.n, 2);
	assert_int_equal(s.differ, 1);
	near(s.overlap, 1.5);
}

int main(void)
{
	static char dir[] = "/tmp/moescope-diff-XXXXXX";
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accumulator),
		cmocka_unit_test(same_runs),
		cmocka_unit_test(flips),
		cmocka_unit_test(load_shift),
		cmocka_unit_test(what_cannot_be_said),
	};
	int failed;

	if (!mkdtemp(dir))
		return 1;
	snprintf(path[0], sizeof path[0], "%s/a.db", dir);
	snprintf(path[1], sizeof path[1], "%s/b.db", dir);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	wipe();
	rmdir(dir);
	return failed;
}
