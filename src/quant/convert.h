/*
 * convert.h - the tensors of an open model, converted and written: streaming, with many threads.
 *
 * Memory is bounded whatever the tensors' sizes: a slab of 4 million elements at a time. The result
 * has the same bytes for any number of threads.
 */
#ifndef QUANT_CONVERT_H
#define QUANT_CONVERT_H

#include "base/pool.h"
#include "gguf/gguf.h"
#include "gguf/write.h"
#include "kern/kern.h"
#include "quant/plan.h"

/* Refuses types that cannot be read or written. */
int quant_check(const struct gguf *g, const uint32_t *type, struct moe_err *e);

/* The first tensor that is quantised already and would be quantised anew, which loses more than to
 * do so from the original; NULL if there is none. To F32 it would only be decoded. */
const struct gguf_tensor *quant_again(const struct gguf *g, const uint32_t *type);

/* The header: all metadata but split.*, with general.file_type and general.quantization_version
 * set. */
int quant_header(const struct gguf *g, const struct quant_mix *mix, const uint32_t *type,
	struct gguf_out *o, struct moe_err *e);

/* Tensor i of g as `type` into o. on_bytes is told of the source's bytes done and ends the work
 * with MOE_ERR_USAGE "interrupted" when it returns non-zero; may be NULL. */
struct quant_job {
	const struct gguf *g;
	const struct kern *kern;
	struct pool *pool;
	struct gguf_out *out;
	int (*on_bytes)(void *ctx, uint64_t n);
	void *ctx;
};
int quant_tensor(const struct quant_job *j, size_t i, uint32_t type, struct moe_err *e);

#endif
