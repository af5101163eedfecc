/*
 * test_model_refuse.c - adapters, models and input that cannot be: each is refused with a message
 * that names what is wrong and the numbers. Keys one by one: test_model_keys.c.
 */
#include "model_run.h"

/* ---- adapters ---- */

/* plain.gguf with n_put bytes written `skip` behind the first `find` is refused by the model, with
 * `want`. */
static void bad_adapter(const char *model, const char *find, size_t skip, const void *put,
size_t n_put,
	const char *want)
{
	size_t len, n = strlen(find), at;
	char *data = read_file("tests/data/lora/plain.gguf", &len);
	struct model *m;
	struct gguf *f = open_model(model, &m), *g;
	struct moe_err e = { 0 };

	for (at = 0; at + n + skip + n_put <= len && memcmp(data + at, find, n); at++)
		;
	assert_true(at + n + skip + n_put <= len);
	memcpy(data + at + skip, put, n_put);
	g = gguf_open_memory(data, len, "bad.gguf", &e);
	ok_or_fail(g != NULL, &e);
	assert_int_equal(model_add_adapter(m, g, 1, &e), -1);
	if (!strstr(e.msg, want))
		fail_msg("'%s' does not contain '%s'", e.msg, want);
	gguf_close(g);
	model_close(m);
	gguf_close(f);
	free(data);
}

static void bad_renamed(const char *model, const char *find, const char *put, const char *want)
{
	assert_int_equal(strlen(find), strlen(put));
	bad_adapter(model, find, 0, put, strlen(put), want);
}

static void bad_adapters_are_refused(void **state)
{
	(void)state;
	bad_renamed("qwen2moe", "general.type", "general.tYpe", "key general.type is missing: not an "
		"adapter");
	bad_renamed("qwen2moe", "lora", "xora", "adapter.type");
	bad_renamed("qwen3moe", "lora", "lora", "general.architecture is 'qwen2moe', expected "
		"'qwen3moe'");
	bad_renamed("qwen2moe", "blk.0.attn_q.weight.lora_a", "blk.9.attn_q.weight.lora_a",
		"blk.9.attn_q.weight.lora_a has no lora_b");
	bad_renamed("qwen2moe", "blk.0.attn_q.weight.lora_b", "blk.9.attn_q.weight.lora_b",
		"blk.0.attn_q.weight.lora_a has no lora_b");
	bad_renamed("qwen2moe", "blk.0.attn_q.weight.lora_b", "blk.0.attn_q.weight.lora_c", "lora_b");
	bad_renamed("qwen2moe", "output.weight.lora_b", "output.weight.merged",
		"output.weight.lora_a has no lora_b");
	/* behind a name: u32 n_dims, u64 dimensions */
	bad_adapter("qwen2moe", "blk.0.attn_q.weight.lora_b", 26 + 4, "\2", 1,
		"blk.0.attn_q.weight.lora_a: dimension 1 is 4, lora_b says rank 2");
	bad_adapter("qwen2moe", "blk.0.attn_q.weight.lora_b", 26 + 12, "\40", 1,
		"blk.0.attn_q.weight.lora_b: dimension 1 is 32, the model's tensor has 64");
	bad_adapter("qwen2moe", "blk.0.ffn_up_exps.weight.lora_a", 31 + 20, "\1", 1,
		"lora_a: dimension 2 is 1, the model's tensor has 8");
	bad_adapter("qwen2moe", "adapter.lora.alpha", 18 + 4, "\0\0\200\177", 4,
		"adapter.lora.alpha = inf");
}

/* ---- input and models ---- */

static void bad_input_is_refused(void **state)
{
	struct model *m;
	struct gguf *f = open_model("mixtral", &m);
	struct session_opt opt = { .n_ctx = 8, .n_threads = 1 };
	struct moe_seq_info info = { 0 };
	struct moe_err e = { 0 };
	struct session *s = session_new(m, &opt, &e);
	int32_t ids[9] = { 1, 2, 3, 4, 5, 6, 7, 8, 9 };

	(void)state;
	ok_or_fail(s != NULL, &e);
	assert_int_equal(session_eval(s, ids, 1, MOE_PREFILL, NULL, &e), -1);
	assert_int_equal(session_begin(s, &info, &e), 0);
	assert_int_equal(session_eval(s, ids, 9, MOE_PREFILL, NULL, &e), -1);
	assert_string_equal(e.msg, "9 tokens at position 0 do not fit in a context of 8");
	ids[2] = 1 << 20;
	assert_int_equal(session_eval(s, ids, 4, MOE_PREFILL, NULL, &e), -1);
	assert_non_null(strstr(e.msg, "1048576"));
	ids[2] = -1;
	assert_int_equal(session_eval(s, ids, 4, MOE_PREFILL, NULL, &e), -1);
	session_free(s);
	opt.isa = "riscv";
	assert_null(session_new(m, &opt, &e));
	opt.isa = NULL;
	opt.n_threads = 1000;
	assert_null(session_new(m, &opt, &e));
	model_close(m);
	gguf_close(f);
}

/* The model file with `put` written `skip` bytes after the first `find` must be refused, with
 * `want` in the message. */
static void patched_model(const char *model, const char *find, size_t skip, const void *put,
	size_t n_put, const char *want)
{
	size_t len, n = strlen(find), at;
	char path[256], *data;
	struct moe_err e = { 0 };
	struct gguf *g;

	snprintf(path, sizeof path, "tests/data/models/%s.gguf", model);
	data = read_file(path, &len);

	for (at = 0; at + n + skip + n_put <= len && memcmp(data + at, find, n); at++)
		;
	assert_true(at + n + skip + n_put <= len);
	memcpy(data + at + skip, put, n_put);
	g = gguf_open_memory(data, len, "patched.gguf", &e);
	ok_or_fail(g != NULL, &e);
	if (model_open(g, &e))
		fail_msg("%s: was not refused with '%s'", model, want);
	if (!strstr(e.msg, want))
		fail_msg("'%s' does not contain '%s'", e.msg, want);
	gguf_close(g);
	free(data);
}

static void patched(const char *find, size_t skip, const void *put, size_t n_put, const char *want)
{
	patched_model("qwen3moe", find, skip, put, n_put, want);
}

/* A u32 value follows its key and the four bytes of its type. */
static void patched_u32(const char *key, uint32_t value, const char *want)
{
	patched(key, strlen(key) + 4, &value, 4, want);
}

static void impossible_models_are_refused(void **state)
{
	(void)state;
	patched("qwen3moe", 0, "qwen9moe", 8,
		"'qwen9moe' is not supported; supported are llama, olmoe");
	patched_u32("qwen3moe.block_count", 0, "block_count = 0");
	patched_u32("qwen3moe.block_count", 513, "block_count = 513");
	patched_u32("qwen3moe.block_count", 0xffffffff, "block_count = 4294967295");
	patched_u32("qwen3moe.block_count", 4, "blk.3.attn_norm.weight is missing");
	patched_u32("qwen3moe.block_count", 2, "tensor blk.2.");
	patched_u32("qwen3moe.block_count", 2,
		"is not part of architecture qwen3moe (12 of 38 tensors");
	patched_u32("qwen3moe.expert_count", 0, "expert_count is missing or 0");
	patched_u32("qwen3moe.expert_count", 9, "the hyperparameters say 9");
	patched_u32("qwen3moe.expert_used_count", 0, "expert_used_count 0");
	patched_u32("qwen3moe.expert_used_count", 9, "expert_used_count 9 of expert_count 8");
	patched_u32("qwen3moe.attention.head_count", 0, "head_count = 0");
	patched_u32("qwen3moe.attention.head_count", 5, "5 heads cannot share");
	patched_u32("qwen3moe.attention.key_length", 64, "key length 64 and value length 32");
	patched_u32("qwen3moe.embedding_length", 128, "the hyperparameters say 128");
}

static void refused(const char *model, const char *key, uint32_t value, const char *want)
{
	patched_model(model, key, strlen(key) + 4, &value, 4, want);
}

static void refused_f32(const char *model, const char *key, float value, const char *want)
{
	patched_model(model, key, strlen(key) + 4, &value, 4, want);
}

static void impossible_blocks_are_refused(void **state)
{
	(void)state;
	refused("deepseek2", "attention.kv_lora_rank", 0, "kv_lora_rank = 0");
	refused("deepseek2", "attention.kv_lora_rank", 17, "attn_kv_a_mqa.weight: dimension 1 is 24, "
		"the hyperparameters say 25");
	refused("deepseek2", "attention.key_length_mla", 0, "key_length_mla (0) and value_length_mla "
		"(12)");
	refused("deepseek2", "attention.key_length_mla", 8, "rope.dimension_count 8: must be below");
	refused("deepseek2", "attention.value_length_mla", 13, "attn_v_b.weight: dimension 1 is 12");
	refused("deepseek2", "attention.q_lora_rank", 25, "attn_q_a.weight: dimension 1 is 24");
	refused("deepseek2", "expert_group_count", 3, "16 experts do not divide into 3 groups");
	refused("deepseek2", "expert_group_used_count", 0, "0 of 4 groups used is not possible");
	refused("deepseek2", "expert_gating_func", 3, "expert_gating_func = 3 is not supported");
	refused("deepseek2", "expert_gating_func", 5, "expert_gating_func = 5: allowed are 0 to 4");
	refused("deepseek2", "expert_shared_count", 3, "ffn_gate_shexp.weight: dimension 1 is 16");
	refused("deepseek2", "leading_dense_block_count", 2, "blk.1.ffn_gate.weight is missing");
	refused("deepseek2", "leading_dense_block_count", 3, "none of 3 layers has experts");
	refused_f32("deepseek2", "expert_weights_scale", -1, "expert_weights_scale = -1");
	refused_f32("deepseek2", "expert_weights_scale", NAN, "expert_weights_scale = ");
	refused("llama4", "interleave_moe_layer_step", 0, "interleave_moe_layer_step = 0");
	refused("llama4", "interleave_moe_layer_step", 1, "blk.0.ffn_gate_inp.weight is missing");
	refused("glm4moe", "nextn_predict_layers", 4, "4 of 4 layers predict further tokens");
	refused("glm4moe", "nextn_predict_layers", 0, "blk.3.nextn.");
	refused("glm4moe", "nextn_predict_layers", 0, "is not part of architecture glm4moe (4 of 78");
	refused("gpt-oss", "attention.sliding_window", 0, "attention.sliding_window is missing or 0");
	patched_model("gpt-oss", "blk.1.attn_sinks", 0, "blk.1.attn_stink", 16,
		"attn_sinks.weight is missing");
	patched_model("gpt-oss", "blk.2.ffn_down_exps.bias", 20, "boss", 4, "ffn_down_exps.bias is "
		"missing");
	patched_model("gpt-oss-yarn", "rope.scaling.type", 17 + 12, "warn", 4,
		"rope.scaling.type = 'warn' is not supported; supported are none, linear, yarn, longrope");
	refused_f32("gpt-oss-yarn", "rope.scaling.factor", INFINITY, "rope.scaling.factor = inf");
	patched_model("minimax-m2", "blk.1.exp_probs_b", 0, "blk.1.exp_probs_c", 17,
		"exp_probs_b.bias is missing");
	refused_f32("granitemoe", "logit_scale", 0, "logit_scale = 0");
	refused_f32("grok", "attn_logit_softcapping", 0, "attn_logit_softcapping = 0");
	refused("qwen2", "feed_forward_length", 0, "feed_forward_length is missing or 0");
	/* one number for each layer: u32 kind, u64 count, then the values */
	refused("granite-layers", "block_count", 2, "head_count has 3 values for 2 layers");
	patched_model("granite-layers", "attention.head_count", 20 + 16, "\0", 1,
		"head_count = 0 in layer 0");
	patched_model("granite-layers", "feed_forward_length", 19 + 16, "\120\0\0\0\121", 5,
		"blk.1.ffn_gate.weight: dimension 1 is 80, the hyperparameters say 81");
	patched_model("qwen3vlmoe", "rope.dimension_sections", 23 + 16, "\5", 1, "9 pairs of 8");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_adapters_are_refused),
		cmocka_unit_test(bad_input_is_refused),
		cmocka_unit_test(impossible_models_are_refused),
		cmocka_unit_test(impossible_blocks_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
