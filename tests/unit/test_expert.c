/*
 * test_expert.c - the views behind the dashboard's expert card, stream and timeline, on a run small
 * enough to be counted by hand.
 *
 * Four documents of ten tokens, token ids 0 1 0 1 ..; layer 2 has four experts, top-2. Layer 5
 * picks {3, 2} where layer 2 picked expert 1 and {0, 1} elsewhere.
 *	A1 (domain a)  even tokens {0, 1}, odd tokens {0, 2}
 *	A2 (domain a)  all {1, 3}
 *	B1, B2 (b)     all {0, 2}
 */
#include "test_util.h"

#include <math.h>
#include <unistd.h>

#include <moescope/trace.h>

#include "view/expert.h"
#include "view/stream.h"
#include "view/timeline.h"

enum { E = 4, K = 2, N = 10 };
static const struct moe_layer_desc shape[2] = { { 2, E, K }, { 5, E, K } };
static const struct load_filter all = { .run = 1, .domain = -1, .phase = -1 };
static char path[64];
static struct moe_err err;
static struct reader *db;

#define OK(call) ok_or_fail((call) == 0, &err)

static void put(struct moe_hook *h, uint64_t seq)
{
	static const uint16_t sets[3][K] = { { 0, 1 }, { 0, 2 }, { 1, 3 } };
	struct moe_seq_info info = { .seq = seq, .domain = seq < 2 ? "a" : "b",
		.name = seq ? "x" : "A1", .n_prompt = N };
	struct moe_seq_result res = { .seq = seq, .n_prompt = N };
	struct moe_batch_info batch = { .seq = seq, .n_tok = N, .busy_ns = 1000000 };
	uint64_t seqs[N];
	uint32_t pos[N];
	int32_t token[N];
	uint16_t experts[N * K];
	float weights[N * K], margin[N], logits[N * E] = { 0 };
	uint8_t flags[N] = { 0 };

	OK(h->seq_begin(h->ctx, &info, &err));
	for (int l = 0; l < 2; l++) {
		struct moe_route_view v = { .layer = shape[l].layer, .n_expert = E, .k = K, .n_tok = N,
			.seq = seqs, .pos = pos, .token = token, .experts = experts, .weights = weights,
			.margin = margin, .logits = logits, .flags = flags };

		for (int i = 0; i < N; i++) {
			int which = seq == 0 ? i % 2 : seq == 1 ? 2 : 1;

			seqs[i] = seq;
			pos[i] = (uint32_t)i;
			token[i] = i % 2;
			for (int j = 0; j < K; j++)
				experts[i * K + j] = l == 0 ? sets[which][j] : (uint16_t)(which == 1 ? j : 3 - j);
			weights[i * K] = .75f;
			weights[i * K + 1] = .25f;
			margin[i] = .5f;
		}
		OK(h->route(h->ctx, &v, &err));
	}
	OK(h->batch_end(h->ctx, &batch, &err));
	OK(h->seq_end(h->ctx, &res, &err));
}

static void make(enum moe_detail detail)
{
	struct moe_run_desc d = { .command = "test", .model_name = "toy", .layers = shape,
		.n_moe_layer = 2, .n_layer = 6, .n_vocab = 10, .score = "softmax" };
	struct moe_trace_opt o = { .detail = detail, .commit_ms = 10 };
	struct moe_trace *t;

	reader_close(db);
	unlink(path);
	t = moe_trace_open(path, &o, &d, &err);
	ok_or_fail(t != NULL, &err);
	OK(moe_trace_token_text(t, 0, "\033[2J", 4, &err));
	for (uint64_t i = 0; i < 4; i++)
		put(moe_trace_hook(t), i);
	OK(moe_trace_close(t, MOE_RUN_DONE, &err));
	db = reader_open(path, &err);
	ok_or_fail(db != NULL, &err);
}

static void near(double got, double want)
{
	if (!(fabs(got - want) < 1e-6))
		fail_msg("got %.9g, want %.9g", got, want);
}

static void test_card(void **state)
{
	struct view_expert v;

	(void)state;
	make(MOE_DETAIL_ROUTES);
	OK(view_expert(db, &all, 0, 1, 0, &v, &err));
	assert_int_equal(v.layer, 2);
	assert_int_equal(v.tokens, 40);
	assert_int_equal(v.picks, 15);
	assert_int_equal(v.rank[0], 10);
	assert_int_equal(v.rank[1], 5);
	near(v.mean_weight, 8.75 / 15);
	near(v.mean_margin, .5);
	/* token 0: 10 of 20, where 15 of 40 would give 7.5; token 1 stays below */
	assert_int_equal(v.n_token, 1);
	assert_int_equal(v.token[0].id, 0);
	assert_int_equal(v.token[0].picks, 10);
	near(v.token[0].excess, 2.5);
	assert_int_equal(v.token[0].len, 4);
	/* of the 36 that follow another, 14 follow a pick: token 1 does 10 of 20 times,
	 * token 0 4 of 16 */
	assert_int_equal(v.n_next, 1);
	assert_int_equal(v.next[0].id, 1);
	assert_int_equal(v.next[0].seen, 20);
	near(v.next[0].excess, 10 - 20 * 14. / 36);
	assert_int_equal(v.next[0].len, -1);
	assert_int_equal(v.n_partner, 2);
	assert_int_equal(v.partner[0].expert, 3);
	near(v.partner[0].given, 10. / 15);
	near(v.partner[0].alone, .25);
	assert_int_equal(v.partner[1].expert, 0);
	near(v.partner[1].given, 5. / 15);
	near(v.partner[1].alone, .75);
	assert_int_equal(v.up_layer, -1);
	assert_int_equal(v.n_up, 0);
	assert_int_equal(v.down_layer, 5);
	assert_int_equal(v.n_down, 2);
	near(v.down[0].given, 1);
	near(v.down[0].alone, 15. / 40);
	/* 5 and 10 picks of 10 tokens: sum (x - .75 n)^2 = 12.5, times 2, root, over 20 = .25 */
	assert_int_equal(v.n_domain, 2);
	assert_string_equal(v.domain[0].info.name, "a");
	assert_int_equal(v.domain[0].docs, 2);
	near(v.domain[0].rel, 1.5);
	near(v.domain[0].lo, 1.5 - 2 * .25 * 1.959964);
	near(v.domain[0].hi, 1.5 + 2 * .25 * 1.959964);
	near(v.domain[1].rel, 0);
	view_expert_free(&v);
}

static void test_card_of_another_layer_and_limits(void **state)
{
	struct load_filter f = all;
	struct view_expert v;

	(void)state;
	make(MOE_DETAIL_ROUTES);
	OK(view_expert(db, &all, 1, 3, 0, &v, &err));
	assert_int_equal(v.up_layer, 2);
	assert_int_equal(v.down_layer, -1);
	assert_int_equal(v.up[0].expert, 1);
	near(v.up[0].given, 1);
	view_expert_free(&v);
	OK(view_expert(db, &all, 0, 1, 20, &v, &err)); /* the first document of each domain */
	assert_int_equal(v.tokens, 20);
	assert_int_equal(v.picks, 5);
	assert_non_null(strstr(v.why, "first 20 of 40 tokens"));
	assert_true(isnan(v.domain[0].lo)); /* one document has no interval */
	view_expert_free(&v);
	f.domain = 2;
	OK(view_expert(db, &f, 0, 0, 0, &v, &err));
	assert_int_equal(v.tokens, 20);
	assert_int_equal(v.picks, 20);
	view_expert_free(&v);
	assert_int_equal(view_expert(db, &all, 0, 4, 0, &v, &err), -1);
	assert_int_equal(view_expert(db, &all, 2, 0, 0, &v, &err), -1);
	make(MOE_DETAIL_COUNTS);
	OK(view_expert(db, &all, 0, 1, 0, &v, &err));
	assert_non_null(strstr(v.why, "counts"));
	assert_int_equal(v.tokens, 0);
	view_expert_free(&v);
}

static void test_timeline(void **state)
{
	struct view_timeline t;

	(void)state;
	make(MOE_DETAIL_COUNTS);
	OK(view_timeline(db, &all, 60, &t, &err));
	assert_int_equal(t.n, 1);
	assert_int_equal(t.slot[0].tokens, 40);
	near(t.slot[0].worst, 1.5); /* layer 2: 30 15 25 10 of 80 picks */
	assert_int_equal(t.slot[0].layer, 0);
	near(t.rel[1], .75);
	near(t.rel[t.e_at[1] + 3], .75); /* layer 5: 25 25 15 15 */
	view_timeline_free(&t);
}

static void test_stream(void **state)
{
	struct view_stream s;
	int64_t newest;

	(void)state;
	make(MOE_DETAIL_ROUTES);
	OK(view_stream(db, &all, 0, -1, 0, 100, &s, &err));
	assert_int_equal(s.seq, 3);
	assert_string_equal(s.domain, "b");
	assert_int_equal(s.n_seq, 4);
	assert_int_equal(s.n, 10);
	assert_int_equal(s.n_all, 10);
	assert_int_equal(s.token[9].pos, 9);
	assert_int_equal(s.token[9].expert, 0);
	assert_int_equal(s.token[0].len, 4);
	assert_memory_equal(s.token[0].bytes, "\033[2J", 4);
	assert_int_equal(s.token[1].len, -1);
	near(s.token[4].margin, .5);
	assert_true(s.before && !s.after && !s.open && s.with_text);
	newest = s.sequence;
	view_stream_free(&s);
	OK(view_stream(db, &all, 2, 3, 1, 2, &s, &err)); /* A2 at layer 5, up to position 3 */
	assert_int_equal(s.n, 2);
	assert_int_equal(s.token[0].pos, 2);
	assert_int_equal(s.token[0].expert, 3);
	assert_true(s.before && s.after && s.sequence != newest);
	view_stream_free(&s);
	assert_int_equal(view_stream(db, &all, 0, -1, 7, 2, &s, &err), -1);
	OK(view_stream(db, &all, 99, -1, 0, 2, &s, &err));
	assert_true(s.n == 0 && s.why[0]);
	view_stream_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_card),
		cmocka_unit_test(test_card_of_another_layer_and_limits),
		cmocka_unit_test(test_timeline),
		cmocka_unit_test(test_stream),
	};
	int failed;

	snprintf(path, sizeof path, "/tmp/moescope-expert-%d.db", (int)getpid());
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	reader_close(db);
	unlink(path);
	return failed;
}
