/*
 * test_whatif.c - the what-if views on small runs whose answers can be worked out by hand, and on
 * runs that lack what a question needs. Larger runs are recounted in SQL by tests/cli/whatif.sh.
 */
#include "test_util.h"

#include <math.h>
#include <unistd.h>

#include <moescope/trace.h>

#include "view/view.h"
#include "view/whatif.h"

enum { E = 4, K = 2, TOKENS = 40 };
static const struct moe_layer_desc shape[1] = { { 0, E, K } };
static const struct load_filter all = { .run = 1, .domain = -1, .phase = -1 };
static char path[64];
static struct moe_err err;
static struct reader *db;

#define OK(call) ok_or_fail((call) == 0, &err)

/* Forty tokens in four sequences of ten. Even tokens pick experts 0 (weight .75) and 1 (.25), odd
 * ones 0 and 2; every tenth token has a NaN instead. Logits 3, 2 for the picks, 1 and 0 for the
 * rest in order of id. */
static void make(enum moe_detail detail, enum moe_weights weights, int n_tok)
{
	struct moe_run_desc d = { .command = "test", .model_name = "toy", .layers = shape,
		.n_moe_layer = 1, .n_layer = 1, .n_vocab = 10, .score = "softmax" };
	struct moe_trace_opt o = { .detail = detail, .weights = weights, .commit_ms = 10 };
	struct moe_trace *t;
	struct moe_hook *h;

	reader_close(db);
	db = NULL;
	unlink(path);
	t = moe_trace_open(path, &o, &d, &err);
	ok_or_fail(t != NULL, &err);
	h = moe_trace_hook(t);
	for (uint64_t seq = 1; (int)seq <= n_tok / 10; seq++) {
		struct moe_seq_info s = { .seq = seq, .n_prompt = 10 };
		struct moe_seq_result r = { .seq = seq, .n_prompt = 10 };
		struct moe_batch_info b = { .seq = seq, .n_tok = 10, .busy_ns = 1 };
		uint64_t seqs[10];
		uint32_t pos[10];
		int32_t token[10];
		uint16_t pick[10][K];
		float weight[10][K], margin[10], logit[10][E];
		uint8_t flags[10];
		struct moe_route_view v = { .n_expert = E, .k = K, .n_tok = 10, .seq = seqs, .pos = pos,
			.token = token, .experts = pick[0], .weights = weight[0], .margin = margin,
			.logits = logit[0], .flags = flags };

		for (uint32_t i = 0; i < 10; i++) {
			int nan = i == 9, next = 1;

			seqs[i] = seq, pos[i] = i, token[i] = (int32_t)i;
			pick[i][0] = 0, pick[i][1] = (uint16_t)(nan ? 1 : 1 + i % 2);
			weight[i][0] = nan ? 0 : .75f, weight[i][1] = nan ? 0 : .25f;
			margin[i] = 1, flags[i] = nan ? MOE_EV_NAN : 0;
			for (int e = 0; e < E; e++)
				logit[i][e] = nan ? NAN : e == 0 ? 3 : e == pick[i][1] ? 2 : (float)next--;
		}
		OK(h->seq_begin(h->ctx, &s, &err));
		OK(h->route(h->ctx, &v, &err));
		OK(h->batch_end(h->ctx, &b, &err));
		OK(h->seq_end(h->ctx, &r, &err));
	}
	OK(moe_trace_close(t, MOE_RUN_DONE, &err));
	db = reader_open(path, &err);
	ok_or_fail(db != NULL, &err);
}

static void near(double got, double want)
{
	if (!(fabs(got - want) <= 1e-7))
		fail_msg("got %.12g, want %.12g", got, want);
}

/* Nothing that is not a number may reach a reader. */
static void no_nan(const struct whatif_opt *o)
{
	for (int s = 0; s < WHATIF_N; s++) {
		struct view_table t = { 0 };
		char *text = NULL;
		size_t size;
		FILE *f;

		if (whatif_table(db, &all, o, (enum whatif_section)s, &t, &err)) {
			assert_int_equal(err.code, MOE_ERR_USAGE); /* a shape that a question does not suit */
			continue;
		}
		assert_true(t.n_row > 0 || *t.why);
		f = open_memstream(&text, &size);
		assert_non_null(f);
		OK(view_table_print(&t, VIEW_JSON, f, &err));
		fclose(f);
		assert_null(strstr(text, "nan"));
		assert_null(strstr(text, "inf"));
		free(text);
		view_table_free(&t);
	}
}

/* One batch of 36 choices, 20 at even places and 16 at odd ones: C = ceil(36 * 2 / 4) = 18. Expert
 * 0 has 36 picks and drops 18 of weight .75; expert 1 has 20 and drops the last two, of weight .25.
 * The last tenth are the tokens 33 to 35: three picks of expert 0 and those two, of six. */
static void capacity_and_k(void **state)
{
	struct whatif_opt o;
	struct whatif_drops d;
	struct whatif_ks k;
	struct whatif_cuts c;
	double e3 = exp(3), e2 = exp(2), z = e3 + e2 + exp(1) + 1;

	(void)state;
	make(MOE_DETAIL_FULL, MOE_WEIGHTS_EXACT, TOKENS);
	whatif_opt_init(&o);
	o.layers = 1;
	o.factor[0] = 1, o.n_factor = 1;
	OK(whatif_capacity(db, &all, &o, &d, &err));
	assert_int_equal(d.n, 6); /* three policies: the layer, and pooled */
	assert_int_equal(d.row[0].tokens, 36);
	assert_int_equal(d.row[0].dropped, 20);
	near(d.row[0].lost_weight, (18 * .75 + 2 * .25) / 36);
	near(d.row[0].decile[0], 0);
	near(d.row[0].decile[9], 5.0 / 6);
	assert_int_equal(d.row[1].worst, 0);
	near(d.row[1].worst_share, 20.0 / 72);
	assert_int_equal(d.row[2].dropped, 20); /* by weight: the same number */
	/* re-routed: expert 2 has room for two, 3 for the rest, but the two tokens that lost both picks
	 * can take 3 only once and find 2 full */
	assert_int_equal(d.row[4].dropped, 2);
	assert_int_equal(d.row[4].moved, 18);
	whatif_drops_free(&d);

	OK(whatif_topk(db, &all, &o, &k, &err));
	assert_int_equal(k.row[0].k_new, 1);
	near(k.row[0].lost_weight, .25);
	near(k.row[0].mass, e3 / z);
	near(k.row[2].lost_weight, 0);
	near(k.row[2].mass, (e3 + e2) / z);
	near(k.row[4].mass, 1); /* twice k is all of them */
	whatif_ks_free(&k);

	o.prune[0] = 2, o.n_prune = 1;
	OK(whatif_prune(db, &all, &o, &c, &err));
	assert_string_equal(c.row[0].experts, "3 2"); /* nobody; odd tokens, the tenths gone */
	near(c.row[0].touched, 16.0 / 36);
	near(c.row[0].lost_tokens, 0);
	/* an odd token takes 1 instead of 2: the third best of its ranking */
	near(c.row[0].mass, (20 + 16 * (e3 + exp(1)) / (e3 + e2)) / 36);
	whatif_cuts_free(&c);
	no_nan(&o);
}

/* Slots for three of three experts used: each loads once. Max-rank with M = k is the recording. */
static void caches(void **state)
{
	struct whatif_opt o;
	struct whatif_hits h;
	struct whatif_awares a;

	(void)state;
	make(MOE_DETAIL_FULL, MOE_WEIGHTS_EXACT, TOKENS);
	whatif_opt_init(&o);
	o.slots[0] = 3, o.n_slots = 1;
	o.expert_bytes = 100;
	OK(whatif_cache(db, &all, &o, &h, &err));
	assert_int_equal(h.n, 2 * SIM_N_CACHE);
	assert_int_equal(h.row[SIM_LRU].accesses, 72);
	assert_int_equal(h.row[SIM_LRU].hits, 72 - 3);
	assert_int_equal(h.row[SIM_STATIC].hits, 72);
	near(h.row[SIM_LRU].bytes_per_token, 300.0 / TOKENS);
	near(h.row[SIM_LRU].budget_bytes, 300);
	whatif_hits_free(&h);
	/* two slots, always 0 and another: 0 stays, 1 and 2 take turns, so only repeats of the second
	 * hit. Within rank 3 the other is there: after the first token nothing is loaded any more */
	o.slots[0] = 2;
	o.rank[0] = 2, o.rank[1] = 3, o.n_rank = 2;
	o.keep = 1;
	OK(whatif_cache_routing(db, &all, &o, &a, &err));
	near(a.row[0].agreement, 1);
	near(a.row[0].kl, a.row[0].kl_recorded);
	near(a.row[2].agreement, (20 + 16 * .5) / 36);
	assert_int_equal(a.row[2].hits, 70);
	assert_true(a.row[2].kl > a.row[2].kl_recorded);
	whatif_awares_free(&a);
}

static void what_is_missing(void **state)
{
	struct whatif_opt o;
	struct whatif_drops d;
	struct whatif_ks k;
	struct whatif_routes r;

	(void)state;
	whatif_opt_init(&o);
	o.layers = 1;
	o.ranks = 2;
	make(MOE_DETAIL_ROUTES, MOE_WEIGHTS_NONE, TOKENS);
	OK(whatif_capacity(db, &all, &o, &d, &err));
	assert_non_null(strstr(d.why, "no gate weights"));
	assert_true(isnan(d.row[0].lost_weight) && d.row[0].dropped > 0);
	assert_int_equal(d.row[2].picks, 0); /* by weight: not without weights */
	whatif_drops_free(&d);
	OK(whatif_topk(db, &all, &o, &k, &err));
	assert_true(isnan(k.row[0].lost_weight) && k.row[0].tokens == 36);
	whatif_ks_free(&k);
	OK(whatif_reroute(db, &all, &o, &r, &err));
	assert_int_equal(r.n, 0);
	assert_non_null(strstr(r.why, "keeps no router scores"));
	no_nan(&o);
	make(MOE_DETAIL_COUNTS, MOE_WEIGHTS_EXACT, TOKENS);
	no_nan(&o);
	make(MOE_DETAIL_FULL, MOE_WEIGHTS_EXACT, 0); /* an empty run */
	no_nan(&o);
	OK(whatif_capacity(db, &all, &o, &d, &err));
	assert_string_equal(d.why, "no decisions in this selection");
	assert_int_equal(d.n, 0);
	o.batch = 65536;
	make(MOE_DETAIL_FULL, MOE_WEIGHTS_8BIT, TOKENS);
	no_nan(&o);
}

int main(void)
{
	static char dir[] = "/tmp/moescope-whatif-XXXXXX";
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(capacity_and_k),
		cmocka_unit_test(caches),
		cmocka_unit_test(what_is_missing),
	};
	int failed;

	if (!mkdtemp(dir))
		return 1;
	snprintf(path, sizeof path, "%s/a.db", dir);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	reader_close(db);
	unlink(path);
	rmdir(dir);
	return failed;
}
