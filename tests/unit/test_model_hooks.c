/*
 * test_model_hooks.c - hooks that edit and hooks that fail; routing that prefers cached experts.
 */
#include "model_run.h"

#include "model/aware.h"

/* ---- hooks ---- */

static int mask_expert(void *ctx, int layer, uint64_t seq, uint32_t pos, int32_t token,
float *logits,
	int n, struct moe_err *e)
{
	(void)layer, (void)seq, (void)pos, (void)token, (void)e;
	assert_in_range(*(int *)ctx, 0, n - 1);
	logits[*(int *)ctx] = -INFINITY;
	return 1;
}

static int only_layer_1(void *ctx, int layer)
{
	(void)ctx;
	return layer == 1;
}

struct seen { int masked, edited, changed, calls; };

static int check_edit(void *ctx, const struct moe_route_view *v, struct moe_err *e)
{
	struct seen *s = ctx;
	struct moe_event ev;

	(void)e;
	assert_string_equal(v->editor, "mask");
	for (uint32_t i = 0; i < v->n_tok; i++) {
		moe_event_at(v, i, &ev);
		s->calls++;
		s->edited += !!(ev.flags & MOE_EV_EDITED);
		assert_int_equal(!!(ev.flags & MOE_EV_EDITED), v->layer == 1);
		if (!ev.before) {
			assert_int_not_equal(v->layer, 1);
			continue;
		}
		s->changed += memcmp(ev.before, ev.experts, ev.k * sizeof *ev.experts) != 0;
		if (v->layer == 1)
			for (int r = 0; r < ev.k; r++)
				assert_int_not_equal(ev.experts[r], s->masked);
	}
	return 0;
}

static void an_editing_hook_is_declared_and_seen(void **state)
{
	struct model *m;
	struct gguf *f = open_model("qwen3moe", &m);
	struct seen seen = { .masked = 3 };
	struct moe_hook mask = { .name = "mask", .ctx = &seen.masked, .wants = only_layer_1,
		.edit = mask_expert };
	struct moe_hook watch = { .name = "watch", .ctx = &seen, .route = check_edit };
	struct session_opt opt = { .n_threads = 1 };
	struct moe_seq_info info = { 0 };
	struct moe_err e = { 0 };
	struct session *s = session_new(m, &opt, &e);
	struct vec v;

	(void)state;
	vec_load("qwen3moe", &v);
	ok_or_fail(s && !session_add_hook(s, &mask, &e) && !session_add_hook(s, &watch, &e), &e);
	ok_or_fail(!session_begin(s, &info, &e), &e);
	ok_or_fail(!session_eval(s, v.tokens, v.n_tok, MOE_PREFILL, NULL, &e), &e);
	assert_int_equal(seen.calls, v.n_tok * v.n_moe);
	assert_int_equal(seen.edited, v.n_tok);
	assert_true(seen.changed > 0 && seen.changed <= (int)v.n_tok);
	session_free(s);
	vec_free(&v);
	model_close(m);
	gguf_close(f);
}

static int fail_at_3(void *ctx, const struct moe_route_view *v, struct moe_err *e)
{
	(void)ctx;
	if (v->pos[0] >= 3) {
		snprintf(e->msg, sizeof e->msg, "disk full");
		e->code = MOE_ERR_SYS;
		return -1;
	}
	return 0;
}

static void a_failing_hook_stops_the_engine(void **state)
{
	struct model *m;
	struct gguf *f = open_model("mixtral", &m);
	struct moe_hook h = { .name = "writer", .route = fail_at_3 };
	struct session_opt opt = { .n_threads = 1, .n_batch = 1 };
	struct moe_seq_info info = { 0 };
	struct moe_err e = { 0 };
	struct session *s = session_new(m, &opt, &e);
	struct vec v;

	(void)state;
	vec_load("mixtral", &v);
	ok_or_fail(s && !session_add_hook(s, &h, &e) && !session_begin(s, &info, &e), &e);
	assert_int_equal(session_eval(s, v.tokens, v.n_tok, MOE_PREFILL, NULL, &e), -1);
	assert_string_equal(e.msg, "hook writer: disk full");
	assert_int_equal(e.code, MOE_ERR_SYS);
	assert_int_equal(session_pos(s), 3);
	assert_int_equal(session_eval(s, v.tokens, 1, MOE_PREFILL, NULL, &e), -1);
	session_free(s);
	vec_free(&v);
	model_close(m);
	gguf_close(f);
}

/* ---- one session for several observers ---- */

static int count_route(void *ctx, const struct moe_route_view *v, struct moe_err *e)
{
	(void)e;
	assert_int_equal(v->seq[0], 7);
	*(uint32_t *)ctx += v->n_tok;
	return 0;
}

struct rows { float *row; size_t n_vocab; };

static int keep_row(void *ctx, uint32_t pos, const float *row, struct moe_err *e)
{
	struct rows *r = ctx;

	(void)e;
	memcpy(r->row + pos * r->n_vocab, row, r->n_vocab * sizeof *row);
	return 0;
}

/* Tokens decoded again give the reference's logits, and only who is hooked hears of them. */
static void a_sequence_is_gone_back_in(void **state)
{
	struct model *m;
	struct gguf *f = open_model("mixtral", &m);
	uint32_t told = 0;
	struct moe_hook watch = { .name = "watch", .ctx = &told, .route = count_route };
	struct session_opt opt = { .n_threads = 1, .kv_type = SESSION_KV_F32,
		.activations = SESSION_ACT_F32 };
	struct moe_seq_info info = { 0 };
	struct moe_err e = { 0 };
	struct session *s = session_new(m, &opt, &e);
	struct rows rows;
	struct session_want want = { 1, keep_row, &rows };
	struct vec v;

	(void)state;
	vec_load("mixtral", &v);
	rows.n_vocab = v.n_vocab;
	rows.row = calloc((size_t)v.n_tok * v.n_vocab, sizeof *rows.row);
	ok_or_fail(s && !session_begin(s, &info, &e), &e);
	assert_int_equal(session_seek(s, 0, 1, &e), -1); /* nothing was evaluated */
	ok_or_fail(!session_eval(s, v.tokens, v.n_tok, MOE_PREFILL, NULL, &e), &e);
	ok_or_fail(!session_add_hook(s, &watch, &e) && !session_seek(s, 7, 2, &e), &e);
	ok_or_fail(!session_eval(s, v.tokens + 2, 2, MOE_DECODE, &want, &e), &e);
	session_remove_hook(s, &watch);
	assert_int_equal(told, 2 * v.n_moe);
	ok_or_fail(!session_eval(s, v.tokens + 4, v.n_tok - 4, MOE_DECODE, &want, &e), &e);
	assert_int_equal(told, 2 * v.n_moe);
	for (size_t i = 2 * (size_t)v.n_vocab; i < (size_t)v.n_tok * v.n_vocab; i++)
		assert_true(fabs(rows.row[i] - v.logits[i]) < 1e-4);
	assert_int_equal(session_seek(s, 7, v.n_tok + 1, &e), -1);
	ok_or_fail(!session_begin(s, &info, &e), &e);
	ok_or_fail(!session_eval(s, v.tokens, 2, MOE_PREFILL, NULL, &e), &e);
	assert_int_equal(session_seek(s, 7, 3, &e), -1); /* of the sequence before */
	free(rows.row);
	session_free(s);
	vec_free(&v);
	model_close(m);
	gguf_close(f);
}

/* ---- cache-aware routing ---- */

struct watch { const struct session *s; uint32_t keep, within; int seen, edited; };

/* The rule of aware.h, told over sets: of the logits' ranking (softmax keeps it) the best `keep`,
 * then held ones up to `within`, then the best of the others. Nothing was read yet for this
 * layer. */
static int check_aware(void *ctx, const struct moe_route_view *v, struct moe_err *e)
{
	struct watch *w = ctx;

	(void)e;
	for (uint32_t t = 0; t < v->n_tok; t++) {
		const float *z = v->logits + (size_t)t * v->n_expert;
		uint8_t in[MOE_MAX_EXPERT] = { 0 };
		uint32_t n = 0, differs = 0;
		double sum = 0;

		for (int pass = 0; pass < 3; pass++)
			for (uint32_t r = 0; r < v->n_expert && n < v->k; r++)
				for (uint32_t x = 0; x < v->n_expert && n < v->k; x++) {
					uint32_t rank = 0;

					for (uint32_t y = 0; y < v->n_expert; y++)
						rank += z[y] > z[x] || (z[y] == z[x] && y < x);
					if (rank != r || in[x] || (pass == 0 && rank >= w->keep) || (pass == 1 &&
						(rank >= w->within || !session_holds(w->s, v->layer, (int)x))))
						continue;
					in[x] = 1;
					n++;
					differs |= rank >= v->k;
				}
		for (uint32_t r = 0; r < v->k; r++) {
			if (!in[v->experts[t * v->k + r]])
				fail_msg("layer %u token %u: expert %u was not to be chosen", v->layer, t,
					v->experts[t * v->k + r]);
			sum += exp((double)z[v->experts[t * v->k + r]]);
		}
		for (uint32_t r = 0; r < v->k; r++) /* weights: what the logits say of those chosen */
			assert_true(fabs((double)v->weights[t * v->k + r] -
				exp((double)z[v->experts[t * v->k + r]]) / sum) < 1e-5);
		assert_int_equal((v->flags[t] & MOE_EV_EDITED) != 0, differs);
		w->edited += differs != 0;
		w->seen++;
	}
	return 0;
}

static void aware_routing_follows_its_rule(void **state)
{
	static const uint32_t how[][2] = { { 0, 8 }, { 1, 4 }, { 1, 2 }, { 0, 5 } };
	struct model *m;
	struct gguf *f = open_model("qwen3moe", &m);
	struct session_cache c = { .percent = 60 };
	struct session_opt opt = { .n_threads = 1, .n_batch = 1, .cache = &c };
	struct moe_err e = { 0 };
	struct vec v;

	(void)state;
	vec_load("qwen3moe", &v);
	for (size_t i = 0; i < sizeof how / sizeof how[0]; i++) {
		struct session *s = session_new(m, &opt, &e);
		struct aware *a = aware_new(s, m, how[i][0], how[i][1], &e);
		struct watch w = { s, how[i][0], how[i][1], 0, 0 };
		struct moe_hook watch = { .name = "watch", .ctx = &w, .route = check_aware };
		struct moe_seq_info info = { 0 };
		uint64_t seen, changed;

		ok_or_fail(a && !session_add_hook(s, aware_hook(a), &e) && !session_add_hook(s, &watch, &e),
			&e);
		ok_or_fail(!session_begin(s, &info, &e), &e);
		ok_or_fail(!session_eval(s, v.tokens, v.n_tok, MOE_PREFILL, NULL, &e), &e);
		aware_counts(a, &seen, &changed);
		assert_int_equal(seen, v.n_tok * v.n_moe);
		assert_int_equal(w.seen, seen);
		assert_int_equal(w.edited, changed);
		printf("             keep %u, rank %u: %llu of %llu changed\n", w.keep, w.within,
			(unsigned long long)changed, (unsigned long long)seen);
		assert_true(i == 2 ? !changed : changed > 5);
		session_free(s);
		aware_free(a);
	}
	opt.cache = NULL;
	{
		struct session *s = session_new(m, &opt, &e);

		assert_null(aware_new(s, m, 1, 4, &e));
		assert_string_equal(e.msg, "cache-aware routing needs an expert cache");
		session_free(s);
		opt.cache = &c;
		s = session_new(m, &opt, &e);
		assert_null(aware_new(s, m, 2, 4, &e));
		assert_non_null(strstr(e.msg,
			"of top-2 of 8 experts, keep may be 0 to 1, the rank 2 to 8"));
		assert_null(aware_new(s, m, 0, 9, &e));
		session_free(s);
	}
	vec_free(&v);
	model_close(m);
	gguf_close(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(aware_routing_follows_its_rule),
		cmocka_unit_test(an_editing_hook_is_declared_and_seen),
		cmocka_unit_test(a_failing_hook_stops_the_engine),
		cmocka_unit_test(a_sequence_is_gone_back_in),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
