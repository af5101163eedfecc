/*
 * test_model.c - the engine against the independent NumPy forward (model_run.h) for a model of each
 * architecture row and of each quantisation; then the same bits for any thread count, batch size
 * and kernel row; adapters, rounded caches, what is said of a model.
 */
#include "model_run.h"

static void agrees(void **state)
{
	const struct of *of = *state;
	struct session_opt opt = { .n_threads = 2, .kv_type = SESSION_KV_F32,
		.activations = SESSION_ACT_F32 };
	struct model *m;
	struct gguf *f = open_model(of->name, &m);
	struct vec v;
	struct got g;

	vec_load(of->name, &v);
	assert_int_equal(model_info(m)->n_vocab, v.n_vocab);
	assert_int_equal(model_info(m)->n_layer, v.n_layer);
	assert_int_equal(model_info(m)->n_moe_layer, v.n_moe);
	for (uint32_t i = 0; i < v.n_moe; i++)
		assert_int_equal(model_info(m)->layers[i].layer, v.layer[i].layer);
	run(m, &v, &g, opt, 0);
	compare(&v, &g, of->name, of->within);
	got_free(&g);
	vec_free(&v);
	model_close(m);
	gguf_close(f);
}

/* Threads, batch sizes, decode against prefill, kernel rows, logits of the last token alone (the
 * only one that the last layer's experts then see, though all choose): equal bits everywhere. */
static void same_bits_kv(const char *name, int kv_type)
{
	static const struct { uint32_t threads, batch, decode; const char *isa; int last; } how[] = {
		{ 1, 512, 0, NULL, 0 }, { 2, 512, 0, NULL, 0 }, { 3, 512, 0, NULL, 0 },
		{ 1, 1, 0, NULL, 0 },
		{ 2, 7, 0, NULL, 0 }, { 3, 1, 0, NULL, 0 }, { 2, 512, 9, NULL, 0 }, { 8, 7, 23, NULL, 0 },
		{ 2, 512, 3, "plain", 0 }, { 1, 7, 0, "avx2", 0 }, { 3, 7, 0, "avx512", 0 },
		{ 2, 512, 3, "amx", 0 }, { 2, 7, 0, "amx", 0 },
		{ 1, 7, 0, "neon", 0 }, { 3, 7, 0, "dotprod", 0 },
		{ 2, 512, 0, NULL, 1 }, { 1, 7, 5, NULL, 1 },
	};
	struct model *m;
	struct gguf *f = open_model(name, &m);
	struct got first, g;
	struct vec v;

	vec_load(name, &v);
	for (size_t i = 0; i < sizeof how / sizeof how[0]; i++) {
		struct session_opt opt = { .n_batch = how[i].batch, .n_threads = how[i].threads,
			.isa = how[i].isa, .kv_type = kv_type };
		size_t cells = (size_t)v.n_layer * v.n_tok, from;

		if (how[i].isa && !kern_pick(how[i].isa, NULL))
			continue;
		run_for(m, &v, i ? &g : &first, opt, how[i].decode, !how[i].last);
		if (!i)
			continue;
		from = how[i].last ? (v.n_tok - how[i].decode - 1) * v.n_vocab : 0;
		if (memcmp(first.logits + from, g.logits + from, 4ul * (v.n_tok * v.n_vocab - from)))
			fail_msg("%s: %u threads, batch %u, %u decoded, %s: other bits", name, how[i].threads,
				how[i].batch, how[i].decode, how[i].isa ? how[i].isa : "best");
		assert_memory_equal(first.experts, g.experts, cells * v.k * 2);
		assert_memory_equal(first.weights, g.weights, cells * v.k * 4);
		assert_memory_equal(first.rlogits, g.rlogits, cells * v.n_expert * 4);
		got_free(&g);
	}
	got_free(&first);
	vec_free(&v);
	model_close(m);
	gguf_close(f);
}

static void same_bits(void **state)
{
	same_bits_kv(((const struct of *)*state)->name, SESSION_KV_F16);
}

static void same_bits_of_every_cache(void **state)
{
	(void)state;
	same_bits_kv("qwen3moe", SESSION_KV_Q8_0);
	same_bits_kv("balanced", SESSION_KV_Q8_0);
	same_bits_kv("balanced", SESSION_KV_F32);
	same_bits_kv("gemma3", SESSION_KV_F32);
}

/* ---- adapters ---- */

struct adapter { const char *name; double scale; };

/* The model with adapters, against the reference with their deltas merged into the weights. */
static void adapted(const char *vec, const struct adapter *a, size_t n)
{
	struct session_opt opt = { .n_threads = 2, .kv_type = SESSION_KV_F32,
		.activations = SESSION_ACT_F32 };
	struct model *m;
	struct gguf *f = open_model("qwen2moe", &m), *g[4];
	struct moe_err e = { 0 };
	struct vec v, plain;
	struct got got, again;

	for (size_t i = 0; i < n; i++) {
		char path[256];

		snprintf(path, sizeof path, "tests/data/lora/%s.gguf", a[i].name);
		g[i] = gguf_open(path, &e);
		ok_or_fail(g[i] != NULL, &e);
		ok_or_fail(!model_add_adapter(m, g[i], a[i].scale, &e), &e);
	}
	vec_load(vec, &v);
	vec_load("qwen2moe", &plain);
	run(m, &v, &got, opt, 0);
	compare(&v, &got, vec, 1e-4);
	assert_true(apart(plain.logits, v.logits, (size_t)v.n_tok * v.n_vocab) > 0.5);
	opt.n_batch = 5; /* and the same bits however run */
	opt.n_threads = 3;
	opt.isa = "plain";
	run(m, &v, &again, opt, 7);
	assert_memory_equal(got.logits, again.logits, 4ul * v.n_tok * v.n_vocab);
	got_free(&got);
	got_free(&again);
	vec_free(&v);
	vec_free(&plain);
	model_close(m);
	gguf_close(f);
	for (size_t i = 0; i < n; i++)
		gguf_close(g[i]);
}

static void adapters_are_added(void **state)
{
	(void)state;
	adapted("lora/plain", (struct adapter[]){ { "plain", 1 } }, 1);
	adapted("lora/both", (struct adapter[]){ { "plain", 0.5 }, { "types", -1.25 } }, 2);
}

/* ---- caches of keys and values ---- */

/* Rounded keys and values: the reference rounds its own, in double precision, so a value that lies
 * at a tie may go the other way; but it must be far nearer than a cache without rounding. */
static void rounded_keys_and_values(void **state)
{
	static const struct { const char *vec; int type; } how[] = {
		{ "qwen3moe-f16kv", SESSION_KV_F16 }, { "qwen3moe-q8_0kv", SESSION_KV_Q8_0 },
	};
	struct model *m;
	struct gguf *f = open_model("qwen3moe", &m);
	struct vec exact;
	size_t n;

	(void)state;
	vec_load("qwen3moe", &exact);
	n = (size_t)exact.n_tok * exact.n_vocab;
	for (size_t i = 0; i < sizeof how / sizeof how[0]; i++) {
		struct session_opt opt = { .n_threads = 1, .kv_type = how[i].type };
		struct vec v;
		struct got g;
		double own, other;

		vec_load(how[i].vec, &v);
		run(m, &v, &g, opt, 5);
		own = apart(g.logits, v.logits, n);
		other = apart(exact.logits, v.logits, n);
		printf("             %s: logits within %.1e; F32 is %.1e away\n", how[i].vec, own, other);
		assert_true(other > 1e-3 && own < other / 3);
		got_free(&g);
		vec_free(&v);
	}
	vec_free(&exact);
	model_close(m);
	gguf_close(f);
}

/* ---- what is said of a model ---- */

/* What inspect says of the weights, by the names of the tensors: an expert's count k times of
 * n_expert, a prediction layer's not at all, and the embedding's bytes only for a row. */
struct counts { uint64_t all, active, bytes; };

static void counts_are(const struct gguf *f, const struct model_info *in)
{
	struct counts c = { 0, 0, 0 };
	int tied = gguf_tensor_find(f, "output.weight") == NULL;

	for (size_t i = 0; i < gguf_n_tensors(f); i++) {
		const struct gguf_tensor *t = gguf_tensor_at(f, i);
		uint64_t n = t->ne[0] * t->ne[1] * t->ne[2], read = t->n_bytes, active = n;
		unsigned layer;

		if (sscanf(t->name, "blk.%u.", &layer) == 1 && layer >= in->n_layer)
			continue;
		if (strstr(t->name, "_exps.") && !strstr(t->name, "norm_exps.")) {
			active = n * in->route.k / in->route.n_expert;
			read = t->n_bytes * in->route.k / in->route.n_expert;
		}
		if (!strcmp(t->name, "token_embd.weight") && !tied)
			read = t->n_bytes / t->ne[1];
		c.all += n;
		c.active += active;
		c.bytes += read;
	}
	if (in->n_params != c.all || in->n_params_active != c.active || in->bytes_per_token != c.bytes)
		fail_msg("%s: %lu parameters, %lu active, %lu bytes; expected %lu, %lu, %lu", gguf_path(f),
			(unsigned long)in->n_params, (unsigned long)in->n_params_active,
			(unsigned long)in->bytes_per_token, (unsigned long)c.all, (unsigned long)c.active,
			(unsigned long)c.bytes);
}

static void parameters_are_counted(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
		struct model *m;
		struct gguf *f = open_model(vectors[i].name, &m);

		counts_are(f, model_info(m));
		model_close(m);
		gguf_close(f);
	}
}

static void layers_are_described(void **state)
{
	struct model *m;
	struct gguf *f = open_model("glm4moe", &m);
	const struct model_info *in = model_info(m);

	(void)state;
	assert_int_equal(in->n_layer, 3); /* of 4: the last one predicts */
	assert_int_equal(in->n_nextn, 1);
	assert_int_equal(in->n_unused, 23);
	assert_int_equal(in->n_dense_layer, 1);
	assert_int_equal(in->n_ff, 48);
	assert_int_equal(in->n_moe_layer, 2);
	assert_int_equal(in->layers[0].layer, 1);
	assert_int_equal(in->layers[1].layer, 2);
	assert_int_equal(in->n_ff_shared, 8);
	assert_false(in->shared_gated);
	model_close(m);
	gguf_close(f);
	f = open_model("llama4", &m);
	in = model_info(m);
	assert_int_equal(in->n_moe_layer, 2);
	assert_int_equal(in->layers[0].layer, 1);
	assert_int_equal(in->layers[1].layer, 3);
	assert_int_equal(in->n_window_layer, 3);
	assert_int_equal(in->window, 8192);
	assert_int_equal(in->route.weight, MOE_WEIGHT_SIGMOID);
	model_close(m);
	gguf_close(f);
	f = open_model("deepseek2", &m);
	in = model_info(m);
	assert_int_equal(in->kv_rank, 16);
	assert_int_equal(in->route.n_group, 4);
	assert_int_equal(in->route.n_group_used, 2);
	assert_int_equal(in->route.score, MOE_SCORE_SIGMOID);
	assert_true(in->route.scale == 2.5f);
	model_close(m);
	gguf_close(f);
}

int main(void)
{
	enum { N = sizeof vectors / sizeof vectors[0] };
	static const struct CMUnitTest others[] = {
		cmocka_unit_test(same_bits_of_every_cache),
		cmocka_unit_test(adapters_are_added),
		cmocka_unit_test(rounded_keys_and_values),
		cmocka_unit_test(parameters_are_counted),
		cmocka_unit_test(layers_are_described),
	};
	struct CMUnitTest tests[2 * N + sizeof others / sizeof others[0]];

	for (int i = 0; i < N; i++) {
		tests[i] = (struct CMUnitTest){ vectors[i].name, agrees, NULL, NULL, (void *)&vectors[i] };
		tests[N + i] = (struct CMUnitTest){ "same bits", same_bits, NULL, NULL,
			(void *)&vectors[i] };
	}
	memcpy(tests + 2 * N, others, sizeof others);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
