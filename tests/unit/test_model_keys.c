/*
 * test_model_keys.c - model files whose metadata cannot be: every key that sizes or divides
 * something, in a family that reads it, with values that no model has. Each is refused with a
 * message that names what is wrong and the number. Then every tensor of every test model: without
 * it (under another name), and with its dimensions swapped, the file is refused as well.
 */
#include "test_util.h"

#include <glob.h>
#include <math.h>

#include "model/model.h"

struct bad {
	const char *model, *key; /* tests/data/models/MODEL.gguf; the key without its prefix */
	double value;            /* put where the file's value is, in its kind */
	const char *want;        /* parts of the message, separated by '|' */
};

static const struct bad bads[] = {
	/* experts and groups */
	{ "deepseek2", "expert_count", 1025, "expert_count|1025" },
	{ "deepseek2", "expert_used_count", 17, "expert_used_count|17" },
	{ "deepseek2", "expert_group_count", 3, "3 groups" },
	{ "deepseek2", "expert_group_count", 17, "17 groups" },
	{ "deepseek2", "expert_group_count", 4294967295.0, "expert_group_count|4294967295" },
	{ "deepseek2", "expert_group_used_count", 0, "0 of 4 groups" },
	{ "deepseek2", "expert_group_used_count", 5, "5 of 4 groups" },
	{ "deepseek2", "expert_gating_func", 3, "expert_gating_func|3" },
	{ "deepseek2", "expert_gating_func", 7, "expert_gating_func|7" },
	{ "deepseek2", "expert_weights_scale", NAN, "expert_weights_scale|nan" },
	{ "deepseek2", "expert_weights_scale", INFINITY, "expert_weights_scale|inf" },
	{ "deepseek2", "expert_weights_scale", -1, "expert_weights_scale|-1" },
	{ "deepseek2", "expert_shared_count", 3, "_shexp|24" },
	{ "deepseek2", "expert_shared_count", 4294967295.0, "expert_shared_count|4294967295" },
	{ "deepseek2", "expert_feed_forward_length", 0, "feed-forward length|0" },
	{ "deepseek2", "expert_feed_forward_length", 4294967295.0, "feed_forward_length|4294967295" },
	/* layers */
	{ "deepseek2", "leading_dense_block_count", 4294967295.0, "dense_block_count|4294967295" },
	{ "deepseek2", "leading_dense_block_count", 2, "blk.1." },
	{ "glm4moe", "nextn_predict_layers", 4, "4 of 4 layers" },
	{ "glm4moe", "nextn_predict_layers", 4294967295.0, "nextn_predict_layers|4294967295" },
	{ "llama4", "interleave_moe_layer_step", 0, "interleave_moe_layer_step|0" },
	{ "llama4", "interleave_moe_layer_step", 3, "blk." },
	/* latent attention */
	{ "deepseek2", "attention.kv_lora_rank", 0, "kv_lora_rank|0" },
	{ "deepseek2", "attention.kv_lora_rank", 17, "attn_kv_a_mqa|25" },
	{ "deepseek2", "attention.kv_lora_rank", 4294967295.0, "kv_lora_rank|4294967295" },
	{ "deepseek2", "attention.q_lora_rank", 4294967295.0, "q_lora_rank|4294967295" },
	{ "deepseek2", "attention.q_lora_rank", 25, "attn_q_a|25" },
	{ "deepseek2", "attention.key_length_mla", 0, "key_length_mla" },
	{ "deepseek2", "attention.key_length_mla", 8, "rope.dimension_count|8" },
	{ "deepseek2", "attention.value_length_mla", 0, "value_length_mla" },
	{ "deepseek2", "attention.value_length_mla", 13, "attn_v_b|13" },
	{ "deepseek2", "rope.dimension_count", 25, "rope.dimension_count|25" },
	{ "deepseek2", "rope.dimension_count", 7, "rope.dimension_count|7" },
	/* positions */
	{ "gpt-oss-yarn", "rope.scaling.factor", NAN, "rope.scaling.factor|nan" },
	{ "gpt-oss-yarn", "rope.scaling.factor", -4, "rope.scaling.factor|-4" },
	{ "gpt-oss-yarn", "rope.scaling.factor", INFINITY, "rope.scaling.factor|inf" },
	{ "gpt-oss-yarn", "rope.scaling.original_context_length", 4294967295.0,
		"original_context_length|4294967295" },
	{ "gpt-oss-yarn", "rope.freq_base", NAN, "rope.freq_base|nan" },
	{ "gpt-oss-yarn", "rope.freq_base", 0, "rope.freq_base|0" },
	{ "mistral3", "rope.scaling.yarn_beta_fast", 0, "yarn_beta_fast|0" },
	{ "mistral3", "rope.scaling.yarn_log_multiplier", NAN, "yarn_log_multiplier|nan" },
	{ "mistral3", "attention.temperature_scale", NAN, "temperature_scale|nan" },
	{ "deepseek2-temperature", "attention.temperature_length", 0, "temperature_length|0" },
	{ "phimoe", "rope.scaling.attn_factor", NAN, "attn_factor|nan" },
	/* windows, caps and factors */
	{ "gpt-oss", "attention.sliding_window", 4294967295.0, "sliding_window|4294967295" },
	{ "gemma2", "attn_logit_softcapping", 0, "attn_logit_softcapping|0" },
	{ "gemma2", "attn_logit_softcapping", NAN, "attn_logit_softcapping|nan" },
	{ "gemma2", "final_logit_softcapping", -1, "final_logit_softcapping|-1" },
	{ "dbrx", "attention.clamp_kqv", NAN, "clamp_kqv|nan" },
	{ "dbrx", "attention.layer_norm_epsilon", NAN, "layer_norm_epsilon|nan" },
	{ "grok", "embedding_scale", INFINITY, "embedding_scale|inf" },
	{ "grok", "attention.output_scale", NAN, "output_scale|nan" },
	{ "granitemoe", "logit_scale", 0, "logit_scale|0" },
	{ "granitemoe", "residual_scale", NAN, "residual_scale|nan" },
	{ "granitemoe", "attention.scale", NAN, "attention.scale|nan" },
};

/* Where the value of ARCH.KEY starts: behind the key, whose length stands before it, and a kind. */
static char *value_of(char *data, size_t len, const char *arch, const char *key, uint32_t *kind)
{
	char whole[160];
	size_t n = (size_t)snprintf(whole + 8, sizeof whole - 8, "%s.%s", arch, key);
	uint64_t n64 = n;

	memcpy(whole, &n64, 8);
	for (size_t at = 0; at + n + 20 <= len; at++)
		if (!memcmp(data + at, whole, n + 8)) {
			memcpy(kind, data + at + n + 8, 4);
			return data + at + n + 12;
		}
	fail_msg("no key %s", whole + 8);
	return NULL;
}

static void is_refused(const struct bad *b)
{
	char path[128], want[128], *data, *arch, *at, *part, *rest;
	size_t len;
	uint32_t kind = 0, u;
	float f = (float)b->value;
	struct moe_err e = { 0 };
	struct gguf *g;
	struct gguf_str name;

	snprintf(path, sizeof path, "tests/data/models/%s.gguf", b->model);
	data = read_file(path, &len);
	g = gguf_open(path, &e);
	ok_or_fail(g != NULL, &e);
	assert_int_equal(gguf_get_str(g, "general.architecture", &name, &e), 1);
	arch = strndup(name.s, name.n);
	gguf_close(g);
	at = value_of(data, len, arch, b->key, &kind);
	assert_true(kind == GGUF_U32 || kind == GGUF_F32);
	u = kind == GGUF_U32 ? (uint32_t)b->value : 0;
	memcpy(at, kind == GGUF_U32 ? (void *)&u : (void *)&f, 4);
	g = gguf_open_memory(data, len, "bad.gguf", &e);
	ok_or_fail(g != NULL, &e);
	if (model_open(g, &e))
		fail_msg("%s: %s = %g is not refused", b->model, b->key, b->value);
	assert_int_equal(e.code, MOE_ERR_INPUT);
	snprintf(want, sizeof want, "%s", b->want);
	for (part = strtok_r(want, "|", &rest); part; part = strtok_r(NULL, "|", &rest))
		if (!strstr(e.msg, part))
			fail_msg("%s: %s = %g: '%s' lacks '%s'", b->model, b->key, b->value, e.msg, part);
	gguf_close(g);
	free(arch);
	free(data);
}

static void impossible_values_are_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof bads / sizeof bads[0]; i++)
		is_refused(&bads[i]);
}

/* Where the record of a tensor starts behind its name: number of dimensions, dimensions, type. */
static char *record_of(char *data, size_t len, const char *name, size_t n)
{
	uint64_t n64 = n;

	for (size_t at = 0; at + n + 40 <= len; at++)
		if (!memcmp(data + at, &n64, 8) && !memcmp(data + at + 8, name, n))
			return data + at + 8 + n;
	fail_msg("no tensor record");
	return NULL;
}

static void refused_without(char *data, size_t len, const char *path, const char *name,
	const char *how)
{
	struct moe_err e = { 0 };
	struct gguf *g = gguf_open_memory(data, len, "bad.gguf", &e);

	ok_or_fail(g != NULL, &e);
	if (model_open(g, &e))
		fail_msg("%s: %s %s is not refused", path, name, how);
	assert_int_equal(e.code, MOE_ERR_INPUT);
	if (!strstr(e.msg, "blk.") && !strstr(e.msg, "norm") && !strstr(e.msg, "output") &&
		!strstr(e.msg, "token_embd") && !strstr(e.msg, "rope_f"))
		fail_msg("%s: %s %s: '%s' names no tensor", path, name, how, e.msg);
	gguf_close(g);
}

static void every_tensor_counts(void **state)
{
	struct moe_err e = { 0 };
	unsigned n_renamed = 0, n_swapped = 0;
	glob_t found;

	(void)state;
	assert_int_equal(glob("tests/data/models/*.gguf", 0, NULL, &found), 0);
	for (size_t i = 0; i < found.gl_pathc; i++) {
		const char *path = found.gl_pathv[i];
		struct gguf *g = gguf_open(path, &e);
		size_t len;
		char *data = read_file(path, &len);

		ok_or_fail(g != NULL, &e);
		for (size_t t = 0; t < gguf_n_tensors(g); t++) {
			const struct gguf_tensor *x = gguf_tensor_at(g, t);
			char *at = record_of(data, len, x->name, strlen(x->name));
			uint64_t dim[2];

			if (strstr(path, "glm4moe.gguf") && !strncmp(x->name, "blk.3.", 6))
				continue; /* a prediction layer, not part of the model */
			at[-1] ^= 1;
			refused_without(data, len, path, x->name, "renamed");
			at[-1] ^= 1;
			n_renamed++;
			memcpy(dim, at + 4, 16);
			/* blocks of a quantised type lie along the first dimension */
			if (x->n_dims < 2 || dim[0] == dim[1] || (x->type > 1 && dim[1] % 256))
				continue;
			memcpy(at + 4, &dim[1], 8);
			memcpy(at + 12, &dim[0], 8);
			refused_without(data, len, path, x->name, "with its dimensions swapped");
			memcpy(at + 4, dim, 16);
			n_swapped++;
		}
		free(data);
		gguf_close(g);
	}
	globfree(&found);
	printf("             %u tensors renamed, %u with dimensions swapped\n", n_renamed, n_swapped);
	assert_true(n_renamed > 1000 && n_swapped > 700);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(impossible_values_are_refused),
		cmocka_unit_test(every_tensor_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
