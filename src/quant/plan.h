/*
 * plan.h - which element type each tensor of a model gets: the mixes that llama-quantize makes, by
 * the same rules, as tables. Pure: names and shapes in, types out.
 *
 * Left as they are, in any mix: tensors of one dimension (norms, biases), routers, and the few
 * others that plan.c lists; tensors of integers.
 */
#ifndef QUANT_PLAN_H
#define QUANT_PLAN_H

#include "gguf/gguf.h"

struct quant_mix {
	const char *name;   /* "Q4_K_M" */
	uint32_t file_type; /* value of general.file_type */
	uint32_t base;      /* enum qtype: what most tensors get */
};

const struct quant_mix *quant_mix_at(size_t i); /* the table; NULL after the last */

/* The type of each tensor, [gguf_n_tensors]. -1 + e if the metadata are not usable. */
int quant_plan(const struct gguf *g, const struct quant_mix *mix, uint32_t *type,
	struct moe_err *e);

#endif
