/*
 * lora.h - low-rank adapters: y += scale * alpha / rank * B (A x) beside a weight's product. Private to
 * src/model.
 *
 * A file is what llama.cpp's convert_lora_to_gguf writes: general.type = adapter, adapter.type = lora,
 * adapter.lora.alpha, and for a tensor NAME of the model a pair
 *
 *	NAME.lora_a [rank][n_in]    NAME.lora_b [n_out][rank]     (experts: one pair for each, stacked)
 *
 * token_embd.weight is read by rows, so its pair is turned: lora_a [n_vocab][rank], lora_b
 * [n_embd][rank]. Adapters are added in the order in which they were given, after the whole product
 * of the weight: the same bits for any batch and number of threads.
 */
#ifndef MODEL_LORA_H
#define MODEL_LORA_H

#include "model/arch.h"

struct session;
struct job;

/* What one adapter adds to one weight; a list in the order of the adapters. */
struct lora {
	const struct lora *next;
	const uint8_t *a, *b;      /* first row of the first pair */
	uint32_t a_type, b_type, rank;
	size_t a_row, b_row;       /* bytes of a row */
	size_t a_mat, b_mat;       /* bytes from an expert's pair to the next */
	float scale;               /* scale * alpha / rank */
};

/* Floats of a worker's scratch that lora_run needs. */
size_t lora_scratch(const struct model *m);

/* For jobs that product_run has done: y += what the adapters of their weights say. */
void lora_run(struct session *s, struct job *jobs, size_t n);

/* x [n_embd] of one token += its row; tmp [n_embd]. */
void lora_embed(struct session *s, int32_t id, float *x, float *tmp);

/* Frees all adapters of a model. */
void lora_free(struct model *m);

#endif
