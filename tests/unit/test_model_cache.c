/*
 * test_model_cache.c - the expert cache: the same bits as without it, hits as a plain LRU counts
 * them, a file that is cut under it, sizes that cannot be.
 */
#include "model_run.h"

/* However small the cache and whatever its policy: the bits of a session without one, and counts
 * that the choices explain. */
static void cached(const char *name, struct session_cache c, uint32_t batch,
const struct got *plain,
	const struct vec *v, const struct model *m)
{
	struct session_opt opt = { .n_threads = 2, .n_batch = batch, .cache = &c };
	struct got g;
	size_t cells = (size_t)v->n_layer * v->n_tok;

	run(m, v, &g, opt, 6);
	if (memcmp(plain->logits, g.logits, 4ul * v->n_tok * v->n_vocab))
		fail_msg("%s: another result with a cache of %g %%, policy %d, batch %u", name, c.percent,
			c.policy, batch);
	assert_memory_equal(plain->experts, g.experts, cells * v->k * 2);
	assert_memory_equal(plain->weights, g.weights, cells * v->k * 4);
	got_free(&g);
}

static void a_cache_gives_the_same_bits(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
		struct session_opt opt = { .n_threads = 2 };
		struct model *m;
		struct gguf *f = open_model(vectors[i].name, &m);
		double n = (double)model_info(m)->n_moe_layer * model_info(m)->route.n_expert;
		const double percent[] = { 100.1 / n, 100.1 * (model_info(m)->route.k + 1) / n, 50, 100 };
		uint64_t *heat = calloc((size_t)MOE_MAX_LAYER * MOE_MAX_EXPERT, sizeof *heat);
		struct vec v;
		struct got plain;

		vec_load(vectors[i].name, &v);
		for (size_t j = 0; j < (size_t)v.n_layer * v.n_expert; j++)
			heat[j] = j * 7 % 11;
		run(m, &v, &plain, opt, 6);
		for (size_t j = 0; n > 0 && j < 4; j++)
			for (int p = SESSION_LRU; p <= SESSION_STATIC; p++) {
				struct session_cache c = { .percent = percent[j], .policy = (enum session_policy)p,
					.heat = heat };

				cached(vectors[i].name, c, p == SESSION_LFU ? 0 : 3, &plain, &v, m);
			}
		free(heat);
		got_free(&plain);
		vec_free(&v);
		model_close(m);
		gguf_close(f);
	}
}

/* Experts of 3 x 8 held: what a least-recently-used cache of `slots` does with a token's experts at
 * a layer, told in sets. used[id]: when, 0 = not held; experts of one moment go by their id. */
static uint32_t lru_hits(uint32_t used[24], uint32_t slots, uint32_t layer, const int32_t *experts,
	uint32_t k, uint32_t now)
{
	uint32_t hits = 0, held, old;

	for (uint32_t r = 0; r < k; r++)
		hits += used[layer * 8 + (uint32_t)experts[r]] != 0;
	for (uint32_t r = 0; r < k; r++)
		used[layer * 8 + (uint32_t)experts[r]] = now * 8 + (uint32_t)experts[r];
	for (;;) {
		held = 0;
		old = 24;
		for (uint32_t id = 0; id < 24; id++) {
			held += used[id] != 0;
			if (used[id] && (old == 24 || used[id] < used[old]))
				old = id;
		}
		if (held <= slots)
			return hits;
		used[old] = 0;
	}
}

static int no_logits(void *ctx, uint32_t pos, const float *row, struct moe_err *e)
{
	(void)ctx, (void)pos, (void)row, (void)e;
	return 0;
}

static void hits_are_counted(void **state)
{
	enum { SLOTS = 9 };
	struct model *m;
	struct gguf *f = open_model("qwen2moe", &m);
	struct session_cache c = { .percent = 100.1 * SLOTS / 24 };
	struct session_opt opt = { .n_threads = 1, .n_batch = 1, .cache = &c };
	struct moe_err e = { 0 };
	struct session *s = session_new(m, &opt, &e);
	struct session_cache_stat st;
	struct moe_seq_info info = { 0 };
	struct vec v;
	uint32_t hits = 0, used[24] = { 0 };
	struct session_want want = { 1, no_logits, NULL }; /* or the last layer's experts rest */

	(void)state;
	ok_or_fail(s != NULL, &e);
	vec_load("qwen2moe", &v);
	ok_or_fail(!session_begin(s, &info, &e) &&
		!session_eval(s, v.tokens, v.n_tok, MOE_PREFILL, &want, &e), &e);
	for (uint32_t t = 0; t < v.n_tok; t++)
		for (uint32_t l = 0; l < 3; l++)
			hits += lru_hits(used, SLOTS, l, v.layer[l].experts + t * v.k, v.k, t * 3 + l + 1);
	assert_int_equal(session_cache_stat(s, &st), 1);
	assert_int_equal(st.slots, SLOTS);
	assert_int_equal(st.experts, 24);
	assert_int_equal(st.hits, hits);
	assert_int_equal(st.hits + st.misses, v.n_tok * 3 * v.k);
	assert_int_equal(st.read_bytes, st.misses * st.slot_bytes);
	for (int l = 0; l < 3; l++)
		for (int x = 0; x < 8; x++)
			assert_int_equal(session_holds(s, l, x), used[l * 8 + x] != 0);
	session_free(s);
	vec_free(&v);
	model_close(m);
	gguf_close(f);
}

/* A file that is cut behind the session's back: an error that says so, whenever it is met,
 * and no hang. */
static void a_cut_file_is_an_error(void **state)
{
	static const char path[] = "/tmp/moescope-test-cut.gguf";
	size_t len;
	unsigned char *data = read_file("tests/data/models/qwen3moe.gguf", &len);
	struct session_cache c = { .percent = 30 };
	struct session_opt opt = { .n_threads = 2, .cache = &c };
	struct session_want want = { 1, no_logits, NULL };
	struct moe_seq_info info = { 0 };
	struct moe_err e = { 0 };
	struct model *m;
	struct session *s;
	struct gguf *f;
	struct vec v;
	FILE *out = fopen(path, "wb");

	(void)state;
	assert_int_equal(fwrite(data, 1, len, out), len);
	fclose(out);
	free(data);
	f = open_file(path, &m);
	s = session_new(m, &opt, &e);
	ok_or_fail(s != NULL, &e);
	vec_load("qwen3moe", &v);
	assert_int_equal(truncate(path,
		(off_t)(gguf_tensor_find(f, "blk.2.ffn_down_exps.weight")->offset + 100)), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(session_begin(s, &info, &e), 0);
		assert_int_equal(session_eval(s, v.tokens, v.n_tok, MOE_PREFILL, &want, &e), -1);
		if (!strstr(e.msg, "layer 2, expert ") || !strstr(e.msg, "the file was cut"))
			fail_msg("'%s'", e.msg);
	}
	session_free(s);
	vec_free(&v);
	model_close(m);
	gguf_close(f);
	unlink(path);
}

static void impossible_caches_are_refused(void **state)
{
	struct model *m, *dense;
	struct gguf *f = open_model("qwen2moe", &m), *g = open_model("llama", &dense);
	struct session_cache c = { .bytes = 100 };
	struct session_opt opt = { .n_threads = 1, .cache = &c };
	struct moe_err e = { 0 };

	(void)state;
	assert_null(session_new(m, &opt, &e));
	assert_string_equal(e.msg, "an expert cache of 100 bytes: one expert takes 12288, all 24 of "
		"them 294912");
	assert_null(session_new(dense, &opt, &e));
	assert_string_equal(e.msg, "an expert cache for a model without experts");
	model_close(m);
	model_close(dense);
	gguf_close(f);
	gguf_close(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_cache_gives_the_same_bits),
		cmocka_unit_test(hits_are_counted),
		cmocka_unit_test(a_cut_file_is_an_error),
		cmocka_unit_test(impossible_caches_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
