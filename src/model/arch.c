/*
 * arch.c - the architecture table: what distinguishes one model family from another, as data.
 *
 * To add a model whose blocks exist: a row. A new idea is one new feature, key or enum value in
 * arch.h, its tensors in load.c or its numbers in hparams.c, its block in attention.c, mla.c, moe.c
 * or forward.c. Router presets are in src/route/route.c. Where a file can be read in several ways,
 * a row means what llama.cpp makes of it.
 */
#include "model/arch.h"

#include <string.h>

#define NEOX .rope = ROPE_NEOX
#define MIXTURE .experts = EXPERTS_ALWAYS
#define K_ROUTER (K_WEIGHTS_SCALE | K_WEIGHTS_NORM | K_GATING)

static const struct arch table[] = {
	/* Llama 2/3 and Mistral when expert_count is absent or 0, Mixtral when it is not */
	{ "llama", F_FFN_NORM | F_O_BIAS_MAYBE | F_FFN_BIAS_MAYBE | F_ROPE_FACTORS, 0,
		.experts = EXPERTS_IF_COUNTED, .router = "mixtral" },
	{ "olmoe", F_FFN_NORM | F_QK_NORM_FULL, 0, NEOX, MIXTURE, .router = "olmoe" },
	{ "qwen2moe", F_FFN_NORM | F_SHARED_GATED, K_SHARED_FF, NEOX, MIXTURE, .expert_ff = FF_OWN,
		.shared_ff = SHARED_KEY_OR_FF, .router = "qwen2moe" },
	{ "qwen3moe", F_FFN_NORM | F_QK_NORM_HEAD, 0, NEOX, MIXTURE, .expert_ff = FF_OWN,
		.router = "qwen3moe" },
	{ "qwen3vlmoe", F_FFN_NORM | F_QK_NORM_HEAD, K_SECTIONS_MIXED, NEOX, MIXTURE,
		.expert_ff = FF_OWN, .router = "qwen3moe" },
	/* DeepSeek-V2, V3, R1, Kimi K2 */
	{ "deepseek2", F_FFN_NORM | F_MLA | F_SHARED | F_SEL_BIAS_MAYBE | F_GATE_UP_MAYBE,
		K_ROUTER | K_LEAD | K_SHARED_COUNT | K_MLA | K_YARN_LOG | K_YARN_EVEN | K_TEMP | K_TEMP_LENGTH,
		MIXTURE, .expert_ff = FF_KEY, .shared_ff = SHARED_COUNT, .router = "deepseek-v2" },
	{ "mistral4", F_FFN_NORM | F_MLA | F_SHARED | F_SEL_BIAS_MAYBE | F_GATE_UP_MAYBE,
		K_ROUTER | K_LEAD | K_SHARED_COUNT | K_MLA | K_YARN_LOG | K_TEMP | K_TEMP_LENGTH, MIXTURE,
		.expert_ff = FF_KEY, .shared_ff = SHARED_COUNT, .router = "deepseek-v2" },
	{ "deepseek", F_FFN_NORM | F_SHARED, K_WEIGHTS_SCALE | K_LEAD | K_SHARED_COUNT, MIXTURE,
		.expert_ff = FF_KEY, .shared_ff = SHARED_COUNT, .router = "deepseek" },
	{ "gpt-oss", F_FFN_NORM_POST | F_O_BIAS | F_SINKS | F_ROUTER_BIAS | F_EXPERT_BIAS, K_WINDOW, NEOX,
		MIXTURE, .act = ACT_OAI, .expert_ff = FF_KEY, .window = WINDOW_SLIDING, .period = 2,
		.router = "gpt-oss" },
	{ "granitemoe", F_FFN_NORM | F_SHARED | F_O_BIAS_MAYBE | F_FFN_BIAS_MAYBE | F_ROPE_FACTORS,
		K_GRANITE | K_SHARED_FF, .experts = EXPERTS_IF_COUNTED, .shared_ff = SHARED_KEY,
		.router = "mixtral" },
	{ "phimoe", F_FFN_NORM | F_NORM_BIAS | F_O_BIAS | F_OUT_BIAS | F_LONGROPE, 0, NEOX, MIXTURE,
		.router = "mixtral" },
	{ "dbrx", F_FFN_NORM_OUT, K_CLAMP, NEOX, MIXTURE, .norm = NORM_LAYER, .router = "mixtral" },
	{ "glm4moe", F_FFN_NORM_POST | F_QK_NORM_MAYBE | F_SEL_BIAS | F_SHARED,
		K_ROUTER | K_LEAD | K_SHARED_COUNT | K_SECTIONS, NEOX, MIXTURE, .expert_ff = FF_OWN,
		.shared_ff = SHARED_COUNT, .router = "glm4moe" },
	{ "ernie4_5-moe", F_FFN_NORM | F_SEL_BIAS_MAYBE | F_SHARED, K_LEAD | K_STEP | K_SHARED_FF, MIXTURE,
		.expert_ff = FF_KEY, .shared_ff = SHARED_KEY, .router = "mixtral" },
	{ "llama4", F_FFN_NORM | F_QK_NORM_PLAIN | F_SHARED | F_WEIGHT_FIRST | F_ROPE_FACTORS,
		K_STEP | K_WINDOW, MIXTURE, .expert_ff = FF_KEY, .shared_ff = SHARED_ONE,
		.window = WINDOW_CHUNK, .period = 4, .router = "llama4" },
	{ "arctic", F_FFN_NORM | F_BESIDE, 0, MIXTURE, .router = "mixtral" },
	{ "grok", F_FFN_NORM | F_POST_NORMS_OUT | F_DENSE_MAYBE, K_GROK | K_YARN_BETA | K_FINAL_CAP, NEOX,
		MIXTURE, .act = ACT_GELU, .expert_ff = FF_OWN_OR_COMMON, .router = "mixtral" },
	{ "bailingmoe", F_FFN_NORM | F_SHARED, K_WEIGHTS_SCALE | K_WEIGHTS_NORM | K_SHARED_COUNT, MIXTURE,
		.expert_ff = FF_KEY, .shared_ff = SHARED_COUNT, .router = "deepseek" },
	{ "bailingmoe2", F_FFN_NORM | F_QK_NORM_HEAD | F_SEL_BIAS_MAYBE | F_SHARED,
		K_ROUTER | K_LEAD | K_SHARED_COUNT | K_SHARED_FF, NEOX, MIXTURE, .expert_ff = FF_KEY,
		.shared_ff = SHARED_KEY_COUNT, .router = "deepseek-v3" },
	{ "hunyuan-moe", F_FFN_NORM | F_QK_NORM_HEAD | F_QK_NORM_LATE | F_SHARED, K_SHARED_FF, NEOX,
		MIXTURE, .shared_ff = SHARED_KEY_OR_FF, .router = "mixtral" },
	{ "dots1", F_FFN_NORM | F_QK_NORM_HEAD | F_SEL_BIAS_MAYBE | F_SHARED,
		K_ROUTER | K_LEAD | K_SHARED_COUNT, NEOX, MIXTURE, .expert_ff = FF_KEY,
		.shared_ff = SHARED_COUNT, .router = "deepseek-v3" },
	{ "minimax-m2", F_FFN_NORM | F_QK_NORM_FULL | F_SEL_BIAS, K_GATING, NEOX, MIXTURE,
		.router = "minimax-m2" },
	/* dense, to compare with */
	{ "mistral3", F_FFN_NORM | F_O_BIAS_MAYBE | F_FFN_BIAS_MAYBE | F_ROPE_FACTORS,
		K_YARN_BETA | K_YARN_LOG | K_TEMP, .experts = EXPERTS_IF_COUNTED, .router = "mixtral" },
	{ "qwen2", F_FFN_NORM | F_OUT_BIAS_MAYBE, 0, NEOX },
	{ "qwen3", F_FFN_NORM | F_QK_NORM_HEAD, 0, NEOX },
	{ "gemma", F_FFN_NORM, 0, NEOX, .act = ACT_GELU, .root_embd = 1 },
	{ "gemma2", F_FFN_NORM | F_POST_NORMS, K_CAPS | K_WINDOW, NEOX, .act = ACT_GELU, .root_embd = 1,
		.window = WINDOW_SLIDING, .period = 2, .wide_layers = 46 },
	{ "gemma3", F_FFN_NORM | F_POST_NORMS | F_QK_NORM_HEAD, K_FINAL_CAP | K_WINDOW, NEOX,
		.act = ACT_GELU, .root_embd = 1, .window = WINDOW_SLIDING, .period = 6, .local_rope = 1,
		.wide_layers = 62 },
	{ "phi3", F_FFN_NORM | F_UP_FUSED | F_LONGROPE, 0, NEOX },
	{ "granite", F_FFN_NORM | F_SHARED | F_O_BIAS_MAYBE | F_FFN_BIAS_MAYBE | F_ROPE_FACTORS,
		K_GRANITE | K_SHARED_FF | K_FINETUNED, .experts = EXPERTS_IF_COUNTED,
		.shared_ff = SHARED_KEY, .router = "mixtral" },
};

const struct arch *arch_find(struct gguf_str name)
{
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
		if (strlen(table[i].name) == name.n && !memcmp(table[i].name, name.s, name.n))
			return &table[i];
	return NULL;
}

const struct arch *arch_at(size_t i)
{
	return i < sizeof table / sizeof table[0] ? &table[i] : NULL;
}
