/*
 * arch.c - the architecture table: what distinguishes one model family from another, as data.
 *
 * To add a model whose blocks exist: a row. A new idea is one new feature or enum value here, its
 * tensors in load.c, its block in forward.c. Router presets are in src/route/route.c.
 */
#include "model/arch.h"

#include <string.h>

static const struct arch table[] = {
	/* Llama 2/3 and Mistral when expert_count is absent or 0, Mixtral when it is not */
	{ "llama", ROPE_NORM, 0, EXPERTS_IF_COUNTED, FF_COMMON, "mixtral" },
	{ "olmoe", ROPE_NEOX, F_QK_NORM_FULL, EXPERTS_ALWAYS, FF_COMMON, "olmoe" },
	{ "qwen2moe", ROPE_NEOX, F_QKV_BIAS | F_SHARED_GATED, EXPERTS_ALWAYS, FF_OWN, "qwen2moe" },
	{ "qwen3moe", ROPE_NEOX, F_QK_NORM_HEAD, EXPERTS_ALWAYS, FF_OWN, "qwen3moe" },
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
